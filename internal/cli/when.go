// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

func (s *session) whenCommand() *cobra.Command {
	var asExitCode bool
	cmd := s.command("when [RELEASE]", "when")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.release")
	output := s.outputFlag(cmd)
	cmd.Flags().BoolVar(&asExitCode, "exit-code", false, s.T("flag.when-exit-code"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.when(cmd.Context(), strings.Join(args, ""), *output, asExitCode)
	}
	return cmd
}

// whenAnswer is `when` for programs: a copy of the release's status.
type whenAnswer struct {
	Project  string             `json:"project"`
	Release  string             `json:"release"`
	Version  string             `json:"version,omitempty"`
	Earliest string             `json:"earliest,omitempty"`
	Never    bool               `json:"never"`
	Returned *v1alpha1.Returned `json:"returned,omitempty"`
	Gates    []whenGate         `json:"gates"`
}

type whenGate struct {
	Name          string           `json:"name"`
	Number        int32            `json:"number"`
	Environment   string           `json:"environment"`
	Verdict       v1alpha1.Verdict `json:"verdict"`
	Message       string           `json:"message,omitempty"`
	WaitingFor    []string         `json:"waitingFor,omitempty"`
	Earliest      *metav1.Time     `json:"earliest,omitempty"`
	EarliestAfter *metav1.Duration `json:"earliestAfter,omitempty"`
}

func (s *session) when(ctx context.Context, name string, f format, asExitCode bool) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	r, err := s.release(ctx, project, name)
	if err != nil {
		return err
	}
	if f.structured() {
		err = s.emit(f, answerWhen(project, r))
	} else {
		err = s.print(view.When(project, r, s.screen()))
	}
	if err == nil && asExitCode && view.Never(r) {
		return &failure{code: exitCheck}
	}
	return err
}

func answerWhen(project string, r *v1alpha1.Release) whenAnswer {
	a := whenAnswer{
		Project: project, Release: r.Name, Version: r.Spec.Version, Earliest: r.Status.Earliest, Never: view.Never(r),
		Returned: r.Status.Returned, Gates: []whenGate{},
	}
	for _, g := range r.Status.Gates {
		a.Gates = append(a.Gates, whenGate{
			g.Name, g.Number, g.Environment, g.Verdict, g.Message, g.WaitingFor, g.Earliest, g.EarliestAfter,
		})
	}
	return a
}
