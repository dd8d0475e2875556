// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func (s *session) hostRevokeCommand() *cobra.Command {
	var yes bool
	cmd := s.command("revoke NAME [--yes]", "host.revoke")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.host")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, s.T("flag.yes"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.revokeHost(cmd.Context(), args[0], yes) }
	return cmd
}

// revokeHost makes every certificate and join command of a host void. It returns when the agent's role is bound to nobody
// who holds one.
func (s *session) revokeHost(ctx context.Context, name string, yes bool) error {
	var host v1alpha1.Host
	c, err := s.read(ctx, &host, "kind.host", "", name)
	if err != nil {
		return err
	}
	s.say("host.revoke-warning", name)
	if err := s.confirm(yes, "host.revoke-question", name); err != nil {
		return err
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &host); err != nil {
			return err
		}
		base := host.DeepCopy()
		host.Spec.Revocations++
		return c.Patch(ctx, &host, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	})
	if err != nil {
		return err
	}
	_, err = await(ctx, s, client.ObjectKey{Name: name}, &v1alpha1.HostList{}, func(h *v1alpha1.Host) bool {
		return h.Status.Revocations >= host.Spec.Revocations
	})
	if err != nil && !apierrors.IsForbidden(err) {
		return s.fail("error.host-revoke", name).with(s.T("hint.controllers", name))
	}
	s.say("host.revoked", name)
	return nil
}
