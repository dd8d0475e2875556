// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

func (s *session) regulariseCommand() *cobra.Command {
	var reason string
	cmd := s.command("regularise RELEASE GATE --reason TEXT", "regularise")
	cmd.Aliases = []string{"regularize"}
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.release", "kind.gate")
	output := s.outputFlag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", s.T("flag.done-reason"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if reason = strings.TrimSpace(reason); reason == "" {
			return s.usage(cmd, s.T("error.regularise-reason"))
		}
		return s.regularise(cmd.Context(), args[0], args[1], reason, *output)
	}
	return cmd
}

func (s *session) regularise(ctx context.Context, name, gate, reason string, f format) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	r, err := s.release(ctx, project, name)
	if err != nil {
		return err
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	if done, err := s.nothingToRegularise(ctx, r, gate, user); done || err != nil {
		if err != nil {
			return err
		}
		return s.releaseOutcome(f, r)
	}
	_, err = s.annotate(ctx, project, name, v1alpha1.RegularisationPrefix+gate, func(*v1alpha1.Release) (string, error) {
		return user + ": " + reason, nil
	})
	if err != nil {
		return err
	}
	// The condition Debt may stay true for another gate; it is written together with the record.
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(r), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		return recordWith(r, gate, user, v1alpha1.DecisionRegularised, reason) != nil
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("action.not-noticed", s.Patience)
		return nil
	case err != nil:
		return err
	}
	if a := recordWith(noticed, gate, user, v1alpha1.DecisionRegularised, reason); a.Stale != "" && !view.Regularised(noticed, gate) {
		return s.fail("error.regularise-stale", a.Stale)
	}
	if f.structured() {
		return s.emit(f, noticed)
	}
	s.say("regularise.done", view.Label(noticed), gate)
	for _, d := range view.Debts([]v1alpha1.Release{*noticed}) {
		s.say("debt.needs", d.User, d.Release, d.Gate)
	}
	return nil
}

// nothingToRegularise spares a refusal, and a record that could not count.
func (s *session) nothingToRegularise(ctx context.Context, r *v1alpha1.Release, gate, user string) (done bool, err error) {
	broke := slices.ContainsFunc(r.Status.Approvals, func(a v1alpha1.ApprovalRecord) bool {
		return a.Gate == gate && a.Decision == v1alpha1.DecisionBrokeGlass
	})
	if !broke {
		if _, err := s.gate(ctx, r.Namespace, gate); err != nil {
			return false, err
		}
		s.say("regularise.nothing", view.Label(r), gate)
		return true, nil
	}
	for _, a := range r.Status.Approvals {
		if a.Gate == gate && a.Decision == v1alpha1.DecisionRegularised && a.Stale == "" {
			s.say("regularise.already", view.Label(r), gate, a.User, a.Reason)
			return true, nil
		}
	}
	if record(r, gate, user, v1alpha1.DecisionBrokeGlass) != nil {
		return false, s.fail("error.own-debt", gate).with(s.T("hint.own-debt", gate))
	}
	return false, nil
}
