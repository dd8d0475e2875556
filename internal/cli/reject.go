// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

type rejectOptions struct {
	output             *format
	name, gate, reason string
	lift               bool
}

func (s *session) rejectCommand() *cobra.Command {
	var o rejectOptions
	cmd := s.command("reject RELEASE GATE (--reason TEXT | --lift)", "reject")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.release", "kind.gate")
	o.output = s.outputFlag(cmd)
	cmd.Flags().StringVar(&o.reason, "reason", "", s.T("flag.reason"))
	cmd.Flags().BoolVar(&o.lift, "lift", false, s.T("flag.lift"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.gate = args[0], args[1]
		o.reason = strings.TrimSpace(o.reason)
		switch {
		case o.lift && o.reason != "":
			return s.usage(cmd, s.T("error.lift-or-reason"))
		case !o.lift && o.reason == "":
			return s.usage(cmd, s.T("error.reason-needed"))
		}
		return s.reject(cmd.Context(), o)
	}
	return cmd
}

func (s *session) reject(ctx context.Context, o rejectOptions) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	r, err := s.release(ctx, project, o.name)
	if err != nil {
		return err
	}
	if _, err := s.gate(ctx, project, o.gate); err != nil {
		return err
	}
	user, value := "", ""
	if !o.lift {
		if user, err = s.whoami(ctx); err != nil {
			return err
		}
		value = user + ": " + o.reason
	}
	changed, err := s.annotate(ctx, project, o.name, v1alpha1.RejectionPrefix+o.gate, func(*v1alpha1.Release) (string, error) {
		return value, nil
	})
	if err != nil {
		return err
	}
	if o.lift && !changed {
		s.say("reject.not-rejected", view.Label(r), o.gate)
		return nil
	}
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(r), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		if o.lift {
			return !rejected(r, o.gate)
		}
		a := record(r, o.gate, user, v1alpha1.DecisionRejected)
		return a != nil && a.Reason == o.reason
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("reject.not-noticed", s.Patience, o.name)
		return nil
	case err != nil:
		return err
	case o.output.structured():
		return s.emit(*o.output, noticed)
	case o.lift:
		return s.print(s.T("reject.lifted", o.gate, view.Label(r)) + "\n")
	}
	s.say("reject.done", view.Label(r), o.gate)
	return s.print(view.Why(view.Bridge{Namespace: project}, noticed, o.gate, s.screen()))
}

func rejected(r *v1alpha1.Release, gate string) bool {
	for _, a := range r.Status.Approvals {
		if a.Gate == gate && a.Decision == v1alpha1.DecisionRejected {
			return true
		}
	}
	return false
}
