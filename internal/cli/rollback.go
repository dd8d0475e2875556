// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

type rollbackOptions struct {
	placeOptions
	to string
}

func (s *session) rollbackCommand() *cobra.Command {
	var o rollbackOptions
	cmd := s.command("rollback ENVIRONMENT --reason TEXT [--to RELEASE] [--yes]", "rollback")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.Flags().StringVar(&o.to, "to", "", s.T("flag.rollback-to"))
	cmd.Flags().StringVar(&o.reason, "reason", "", s.T("flag.why"))
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.reason = args[0], strings.TrimSpace(o.reason)
		if o.reason == "" {
			return s.usage(cmd, s.T("error.rollback-reason"))
		}
		return s.rollback(cmd.Context(), o)
	}
	return cmd
}

func (s *session) rollback(ctx context.Context, o rollbackOptions) error {
	e, err := s.environment(ctx, o.name)
	if err != nil {
		return err
	}
	target, err := s.rollbackTarget(ctx, e, o.to)
	if err != nil {
		return err
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	leaves, from := e.Status.DecommissionedAt, "—"
	if e.Status.Current != nil {
		leaves, from = &e.Status.Current.AuthorizedAt, e.Status.Current.Release
	}
	if leaves == nil {
		return s.fail("error.nothing-there", e.Name)
	}
	s.say("rollback.what", e.Name, from, target.Name)
	if err := s.confirmTyped(o.yes, "rollback.question", e.Name); err != nil {
		return err
	}
	value := fmt.Sprintf("%s@%s: %s: %s", target.UID, leaves.UTC().Format(metav1.RFC3339Micro), user, o.reason)
	if _, err := annotateObject(ctx, s, client.ObjectKeyFromObject(e), newEnvironment, v1alpha1.AnnotationRollback,
		func(*v1alpha1.Environment) (string, error) { return value, nil }); err != nil {
		return err
	}
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(e), &v1alpha1.EnvironmentList{}, func(e *v1alpha1.Environment) bool {
		r := e.Status.Rollback
		return r != nil && r.ID == value && (r.Accepted || r.Message != "")
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("action.not-noticed", s.Patience)
		return nil
	case err != nil:
		return err
	case !noticed.Status.Rollback.Accepted:
		return s.fail("error.rollback-refused", noticed.Status.Rollback.Message)
	}
	s.say("rollback.done", e.Name, target.Name)
	return s.placeOutcome(o.placeOptions, noticed)
}

// rollbackTarget is the release that was named, or the last that was healthy there before the present one.
func (s *session) rollbackTarget(ctx context.Context, e *v1alpha1.Environment, name string) (*v1alpha1.Release, error) {
	if name != "" {
		return s.release(ctx, e.Namespace, name)
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var list v1alpha1.ReleaseList
	if err := c.List(ctx, &list, client.InNamespace(e.Namespace)); err != nil {
		return nil, err
	}
	var best *v1alpha1.Release
	var since metav1.MicroTime
	for i, r := range list.Items {
		for _, entry := range r.Status.Environments {
			was := entry.Name == e.Name && entry.Phase == v1alpha1.PhaseSuperseded && entry.HealthySince != nil
			if was && (best == nil || since.Before(&entry.AuthorizedAt)) {
				best, since = &list.Items[i], entry.AuthorizedAt
			}
		}
	}
	if best == nil {
		return nil, s.fail("error.no-way-back", e.Name)
	}
	return best, nil
}

func (s *session) retryCommand() *cobra.Command {
	var o placeOptions
	cmd := s.command("retry RELEASE ENVIRONMENT", "retry")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.release", "kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.retry(cmd.Context(), o, args[0], args[1]) }
	return cmd
}

// retry asks for one more try where a release failed: its gates are judged anew.
func (s *session) retry(ctx context.Context, o placeOptions, name, environment string) error {
	e, err := s.environment(ctx, environment)
	if err != nil {
		return err
	}
	failed := false
	_, err = s.annotate(ctx, e.Namespace, name, v1alpha1.AnnotationRetry, func(r *v1alpha1.Release) (string, error) {
		for _, entry := range r.Status.Environments {
			failed = failed || entry.Name == environment && (entry.Phase == v1alpha1.PhaseFailed || entry.Phase == v1alpha1.PhaseRolledBack)
		}
		if !failed {
			return "", s.fail("error.nothing-to-retry", name, environment)
		}
		return environment + "@" + strconv.FormatInt(s.Now().UnixMilli(), 10), nil
	})
	if err != nil {
		return err
	}
	s.say("retry.done", name, environment)
	r, err := s.release(ctx, e.Namespace, name)
	if err != nil {
		return err
	}
	return s.releaseOutcome(*o.output, r)
}
