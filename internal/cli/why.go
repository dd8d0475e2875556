// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

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
	Project string                 `json:"project"`
	Release string                 `json:"release"`
	Version string                 `json:"version,omitempty"`
	Karma   int32                  `json:"karma"`
	Next    string                 `json:"next,omitempty"`
	Gates   []v1alpha1.GateVerdict `json:"gates"`
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
	verdicts := view.Verdicts(r, gate)
	if gate != "" && len(verdicts) == 0 {
		return s.gateUnknown(r, gate)
	}
	if f.structured() {
		err = s.emit(f, whyAnswer{project, r.Name, r.Spec.Version, r.Status.Karma, r.Status.Next, verdicts})
	} else {
		err = s.print(view.Why(project, r, gate, s.screen()))
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
