// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

type placeOptions struct {
	output       *format
	name, reason string
	yes          bool
}

func (s *session) suspendCommand() *cobra.Command {
	var o placeOptions
	cmd := s.command("suspend ENVIRONMENT [--reason TEXT]", "suspend")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.Flags().StringVar(&o.reason, "reason", "", s.T("flag.why"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.reason = args[0], strings.TrimSpace(o.reason)
		user, err := s.whoami(cmd.Context())
		if err != nil {
			return err
		}
		by := "by " + user
		if o.reason != "" {
			by += ": " + o.reason
		}
		e, err := s.setSuspended(cmd.Context(), o.name, true, by)
		if err != nil {
			return err
		}
		s.say("suspend.done", e.Name, e.Name)
		return s.placeOutcome(o, e)
	}
	return cmd
}

func (s *session) unsuspendCommand() *cobra.Command {
	var o placeOptions
	cmd := s.command("unsuspend ENVIRONMENT", "unsuspend")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := s.setSuspended(cmd.Context(), args[0], false, "")
		if err != nil {
			return err
		}
		s.say("unsuspend.done", e.Name)
		return s.placeOutcome(o, e)
	}
	return cmd
}

// setSuspended writes spec.suspend and by whose word, and waits for the controllers to have told it.
func (s *session) setSuspended(ctx context.Context, name string, on bool, by string) (*v1alpha1.Environment, error) {
	e, err := s.editEnvironment(ctx, name, func(e *v1alpha1.Environment) {
		e.Spec.Suspend = on
		setAnnotation(e, v1alpha1.AnnotationSuspend, by)
	})
	if err != nil {
		return nil, err
	}
	generation := e.Generation
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(e), &v1alpha1.EnvironmentList{}, func(e *v1alpha1.Environment) bool {
		return e.Status.ObservedGeneration >= generation
	})
	if errors.Is(err, errImpatient) {
		s.say("action.not-noticed", s.Patience)
		return e, nil
	}
	return noticed, err
}

// editEnvironment changes an environment as it is now, anew when somebody else was faster.
func (s *session) editEnvironment(ctx context.Context, name string, change func(*v1alpha1.Environment)) (*v1alpha1.Environment, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var e *v1alpha1.Environment
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var err error
		if e, err = s.environment(ctx, name); err != nil {
			return err
		}
		before := e.DeepCopy()
		change(e)
		return c.Patch(ctx, e, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	})
	return e, err
}

func setAnnotation(o client.Object, key, value string) {
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	if annotations[key] = value; value == "" {
		delete(annotations, key)
	}
	o.SetAnnotations(annotations)
}

func (s *session) placeOutcome(o placeOptions, e *v1alpha1.Environment) error {
	if o.output.structured() {
		return s.emit(*o.output, e)
	}
	return nil
}
