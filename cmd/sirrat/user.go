// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/controlplane"
)

func newUserCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "People who use the embedded control plane"}
	var dataDir, server string
	var groups []string
	var ttl time.Duration
	kubeconfig := &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Print a kubeconfig for a person, with a new certificate inside",
		Long: `Prints a kubeconfig with a new client certificate for a person, signed by the CA in the data directory. What the person
may do is decided by the Projects that name them in spec.members.`,
		Example: "  sirrat user kubeconfig qa@dynors.com --server https://sirrat.dynors.com:6443 > qa.kubeconfig",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := controlplane.IssueKubeconfig(dataDir, args[0], groups, server, ttl)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	fl := kubeconfig.Flags()
	fl.StringVar(&dataDir, "data-dir", dataDirFromEnvironment(), "the server's data directory ($SIRRAT_DATA_DIR)")
	fl.StringVar(&server, "server", "", "address of the Kubernetes API for that person; default: as in admin.kubeconfig")
	fl.StringSliceVar(&groups, "group", nil, "groups of the person")
	fl.DurationVar(&ttl, "ttl", 90*24*time.Hour, "lifetime of the certificate")
	cmd.AddCommand(kubeconfig)
	return cmd
}
