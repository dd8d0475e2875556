// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

func (s *session) whyCommand() *cobra.Command {
	var gate string
	var asExitCode bool
	cmd := s.command("why [RELEASE] [--gate GATE]", "why")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.release")
	output := s.outputFlag(cmd)
	cmd.Flags().StringVar(&gate, "gate", "", s.T("flag.gate"))
	must(cmd.RegisterFlagCompletionFunc("gate", s.completeGates))
	cmd.Flags().BoolVar(&asExitCode, "exit-code", false, s.T("flag.exit-code"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.why(cmd.Context(), strings.Join(args, ""), gate, *output, asExitCode)
	}
	return cmd
}

// whyAnswer is `why` for programs.
type whyAnswer struct {
	Project string `json:"project"`
	Release string `json:"release"`
	Version string `json:"version,omitempty"`
	Karma   int32  `json:"karma"`
	Next    string `json:"next,omitempty"`
	// Earliest and Returned as in the release's status.
	Earliest string                 `json:"earliest,omitempty"`
	Returned *v1alpha1.Returned     `json:"returned,omitempty"`
	Gates    []v1alpha1.GateVerdict `json:"gates"`
	// Holds and Debts of the whole project: they keep gates shut, whatever a release did.
	Holds []heldEnvironment `json:"holds,omitempty"`
	Debts []v1alpha1.Debt   `json:"debts,omitempty"`
}

type heldEnvironment struct {
	Environment string `json:"environment"`
	v1alpha1.Hold
}

func (s *session) why(ctx context.Context, name, gate string, f format, asExitCode bool) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	r, err := s.release(ctx, project, name)
	if err != nil {
		return err
	}
	b, err := s.around(ctx, project)
	if err != nil {
		return err
	}
	verdicts := view.Verdicts(r, gate)
	if gate != "" && len(verdicts) == 0 {
		return s.gateUnknown(r, gate)
	}
	if f.structured() {
		err = s.emit(f, answerWhy(b, r, verdicts))
	} else {
		err = s.print(view.Why(b, r, gate, s.screen()))
	}
	if err != nil || !asExitCode {
		return err
	}
	if len(verdicts) == 0 {
		return &failure{code: exitCheck}
	}
	for _, v := range verdicts {
		if v.Verdict != v1alpha1.VerdictPassed {
			return &failure{code: exitCheck}
		}
	}
	return nil
}

// around reads what keeps the gates of a project shut beside a release itself.
func (s *session) around(ctx context.Context, project string) (view.Bridge, error) {
	b := view.Bridge{Namespace: project}
	c, err := s.client()
	if err != nil {
		return b, err
	}
	var environments v1alpha1.EnvironmentList
	if err := c.List(ctx, &environments, client.InNamespace(project)); err != nil {
		return b, err
	}
	var releases v1alpha1.ReleaseList
	if err := c.List(ctx, &releases, client.InNamespace(project)); err != nil {
		return b, err
	}
	b.Environments, b.Releases = environments.Items, releases.Items
	return b, nil
}

func answerWhy(b view.Bridge, r *v1alpha1.Release, verdicts []v1alpha1.GateVerdict) whyAnswer {
	st := r.Status
	a := whyAnswer{
		Project: b.Namespace, Release: r.Name, Version: r.Spec.Version, Karma: st.Karma, Next: st.Next,
		Earliest: st.Earliest, Returned: st.Returned, Gates: verdicts, Debts: view.Debts(b.Releases),
	}
	for _, e := range b.Held() {
		a.Holds = append(a.Holds, heldEnvironment{e.Name, *e.Status.Hold})
	}
	return a
}

// gateUnknown: the release has no verdict of that gate.
func (s *session) gateUnknown(r *v1alpha1.Release, gate string) error {
	f := s.fail("error.gate-not-judged", gate, r.Name)
	var names []string
	for _, g := range r.Status.Gates {
		names = append(names, g.Name)
	}
	if len(names) > 0 {
		f.hint = s.T("hint.there-is", strings.Join(names, ", "))
	}
	return f
}
