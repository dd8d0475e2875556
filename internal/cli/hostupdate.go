// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func (s *session) hostUpdateCommand() *cobra.Command {
	var wanted string
	var all bool
	cmd := s.command("update NAME|--all --version VERSION", "host.update")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.host")
	cmd.Flags().StringVar(&wanted, "version", "", s.T("flag.agent-version"))
	cmd.Flags().BoolVar(&all, "all", false, s.T("flag.all-hosts"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if wanted == "" || all == (len(args) == 1) {
			return s.usage(cmd, s.T("error.host-update"))
		}
		return s.updateHosts(cmd.Context(), args, wanted)
	}
	return cmd
}

// updateHosts names the version on one host, or on all. Naming it again asks again for what failed.
func (s *session) updateHosts(ctx context.Context, names []string, wanted string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var hosts v1alpha1.HostList
	if len(names) == 0 {
		if err := c.List(ctx, &hosts); err != nil {
			return err
		}
	}
	for _, name := range names {
		var host v1alpha1.Host
		if _, err := s.read(ctx, &host, "kind.host", "", name); err != nil {
			return err
		}
		hosts.Items = append(hosts.Items, host)
	}
	for i := range hosts.Items {
		host := &hosts.Items[i]
		base := host.DeepCopy()
		host.Spec.AgentVersion = wanted
		metav1.SetMetaDataAnnotation(&host.ObjectMeta, v1alpha1.AnnotationAgentUpdate, s.Now().UTC().Format(time.RFC3339Nano))
		if err := c.Patch(ctx, host, client.MergeFrom(base)); err != nil {
			return err
		}
		s.say("host.update-ordered", host.Name, wanted, host.Name)
	}
	return nil
}
