// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

type resumeOptions struct {
	output      *format
	name        string
	yes, revoke bool
}

func (s *session) resumeCommand() *cobra.Command {
	var o resumeOptions
	cmd := s.command("resume ENVIRONMENT [--yes | --revoke]", "resume")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	cmd.Flags().BoolVar(&o.revoke, "revoke", false, s.T("flag.resume-revoke"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		e, err := s.environment(cmd.Context(), o.name)
		if err != nil {
			return err
		}
		if o.revoke {
			return s.holdAgain(cmd.Context(), o, e)
		}
		return s.resume(cmd.Context(), o, e)
	}
	return cmd
}

func (s *session) environment(ctx context.Context, name string) (*v1alpha1.Environment, error) {
	e := &v1alpha1.Environment{}
	return e, s.readMine(ctx, e, "kind.environment", name)
}

// resume lifts exactly the hold that was shown.
func (s *session) resume(ctx context.Context, o resumeOptions, e *v1alpha1.Environment) error {
	hold := e.Status.Hold
	if hold == nil {
		s.say("resume.not-held", e.Name)
		return s.environmentOutcome(o, e)
	}
	if !o.output.structured() {
		if err := s.print(view.Hold(e, s.screen())); err != nil {
			return err
		}
	}
	if err := s.confirm(o.yes, "resume.question", e.Name); err != nil {
		return err
	}
	_, err := annotateObject(ctx, s, client.ObjectKeyFromObject(e), newEnvironment, v1alpha1.AnnotationResume,
		func(e *v1alpha1.Environment) (string, error) {
			if now := e.Status.Hold; now != nil && now.ID != hold.ID {
				return "", s.fail("error.hold-changed", e.Name).with(s.T("hint.look-again"))
			}
			return hold.ID, nil
		})
	if err != nil {
		return err
	}
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(e), &v1alpha1.EnvironmentList{}, func(e *v1alpha1.Environment) bool {
		return e.Status.Hold == nil || e.Status.Hold.ID != hold.ID
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("action.not-noticed", s.Patience)
		return nil
	case err != nil:
		return err
	case noticed.Status.Hold != nil:
		s.say("resume.new-hold", e.Name)
	default:
		s.say("resume.done", e.Name)
	}
	return s.environmentOutcome(o, noticed)
}

// holdAgain takes a resumption back. The hold returns unless another release was let in since.
func (s *session) holdAgain(ctx context.Context, o resumeOptions, e *v1alpha1.Environment) error {
	lifted := e.Annotations[v1alpha1.AnnotationResume]
	if lifted == "" {
		s.say("resume.nothing", e.Name)
		return s.environmentOutcome(o, e)
	}
	_, err := annotateObject(ctx, s, client.ObjectKeyFromObject(e), newEnvironment, v1alpha1.AnnotationResume,
		func(*v1alpha1.Environment) (string, error) { return "", nil })
	if err != nil {
		return err
	}
	s.say("resume.revoked", e.Name)
	if e.Status.Hold != nil { // the annotation was for an older hold
		return s.environmentOutcome(o, e)
	}
	again, err := await(ctx, s, client.ObjectKeyFromObject(e), &v1alpha1.EnvironmentList{}, func(e *v1alpha1.Environment) bool {
		return e.Status.Hold != nil
	})
	switch {
	case errors.Is(err, errImpatient): // something else was let in since: there is nothing to hold
		return s.environmentOutcome(o, e)
	case err != nil:
		return err
	}
	s.say("resume.held-again", e.Name)
	return s.environmentOutcome(o, again)
}

func newEnvironment() *v1alpha1.Environment { return &v1alpha1.Environment{} }

func (s *session) environmentOutcome(o resumeOptions, e *v1alpha1.Environment) error {
	if o.output.structured() {
		return s.emit(*o.output, e)
	}
	return nil
}
