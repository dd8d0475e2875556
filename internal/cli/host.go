// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

func (s *session) hostCommand() *cobra.Command {
	return s.group("host", "host", s.hostAddCommand(), s.hostExportCommand(), s.hostListCommand(), s.hostUpdateCommand(), s.hostRevokeCommand(), s.hostRemoveCommand())
}

func (s *session) hostListCommand() *cobra.Command {
	cmd := s.command("list", "host.list")
	cmd.Args = s.args(0, 0)
	output := s.outputFlag(cmd, wide)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return s.listHosts(cmd.Context(), *output) }
	return cmd
}

func (s *session) listHosts(ctx context.Context, f format) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var hosts v1alpha1.HostList
	if err := c.List(ctx, &hosts); err != nil {
		return err
	}
	slices.SortFunc(hosts.Items, func(a, b v1alpha1.Host) int { return cmp.Compare(a.Name, b.Name) })
	if f.structured() {
		return s.emitList(f, &hosts)
	}
	if len(hosts.Items) == 0 {
		s.say("host.none")
		return nil
	}
	heartbeats, err := s.heartbeats(ctx)
	if err != nil {
		return err
	}
	var rows []view.HostRow
	for _, h := range hosts.Items {
		rows = append(rows, view.HostRow{Host: h, Heartbeat: heartbeats[v1alpha1.HostNamespace(h.Name)]})
	}
	return s.print(view.Hosts(rows, f == wide, s.screen()))
}

// heartbeats are the times of the agents' leases by namespace; none for somebody who may not read leases.
func (s *session) heartbeats(ctx context.Context) (map[string]time.Time, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var leases coordinationv1.LeaseList
	err = c.List(ctx, &leases, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", v1alpha1.AgentLease)})
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	times := map[string]time.Time{}
	for _, l := range leases.Items {
		if l.Spec.RenewTime != nil {
			times[l.Namespace] = l.Spec.RenewTime.Time
		}
	}
	return times, err
}

func (s *session) hostRemoveCommand() *cobra.Command {
	var yes bool
	cmd := s.command("remove NAME [--yes]", "host.remove")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.host")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, s.T("flag.yes"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.removeHost(cmd.Context(), args[0], yes) }
	return cmd
}

func (s *session) removeHost(ctx context.Context, name string, yes bool) error {
	var host v1alpha1.Host
	c, err := s.read(ctx, &host, "kind.host", "", name)
	if err != nil {
		return err
	}
	s.say("host.remove-warning", name, v1alpha1.HostNamespace(name), cmp.Or(host.Status.RolloutsSummary, "0/0"))
	if err := s.confirm(yes, "host.remove-question", name); err != nil {
		return err
	}
	if err := c.Delete(ctx, &host, client.Preconditions{UID: &host.UID}); err != nil {
		return err
	}
	// A join command that was printed and never used must not outlive the host.
	err = c.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(bootstrapNamespace), client.MatchingLabels{v1alpha1.LabelHost: name})
	if err != nil && !apierrors.IsForbidden(err) {
		return wrap("delete the join tokens of "+name, err)
	}
	s.say("host.removed", name)
	return nil
}
