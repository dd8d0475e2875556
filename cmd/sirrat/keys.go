// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/controllers"
)

// keyFlags say which installation is meant.
type keyFlags struct{ dataDir, kubeconfig string }

func newKeysCommand() *cobra.Command {
	f := keyFlags{}
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "The keys that sign what servers may deploy",
		Long: `The keys that sign what servers may deploy. A change is signed by a key that the servers trust already, and reaches them by
themselves; the running server takes it over without a restart.

It needs the rights of an administrator: with sirrat server run it where the data directory is.`,
	}
	cmd.PersistentFlags().StringVar(&f.dataDir, "data-dir", dataDirFromEnvironment(), "the server's data directory ($SIRRAT_DATA_DIR)")
	cmd.PersistentFlags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of an administrator; default: <data-dir>/admin.kubeconfig, or else $KUBECONFIG")
	cmd.AddCommand(f.list(), f.rotate(), f.revoke())
	return cmd
}

func (f *keyFlags) client() (client.Client, error) {
	path := f.kubeconfig
	if admin := filepath.Join(f.dataDir, "admin.kubeconfig"); path == "" {
		path = os.Getenv("KUBECONFIG")
		if _, err := os.Stat(admin); err == nil {
			path = admin
		}
	}
	config, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

func (f *keyFlags) list() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List all keys that there ever were, oldest first", Args: cobra.NoArgs,
		Long:    "Lists all keys that there ever were, oldest first: signing, accepted (signed until the last rotation), retired, revoked.",
		Example: "  sirrat keys list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("--output %q: it can be json, which has the public keys as PEM, or left out for a table", output)
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			keys, serial, err := controllers.ListKeys(cmd.Context(), c)
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"serial": serial, "keys": keys})
			}
			return printKeys(cmd, keys)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for programs")
	return cmd
}

func (f *keyFlags) rotate() *cobra.Command {
	var drop bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new key that signs from now on", Args: cobra.NoArgs,
		Long: `Makes a new key that signs from now on. The key that signed until now stays accepted until the next rotation, so that what
it signed and is on its way arrives; those before it are retired.`,
		Example: "  sirrat keys rotate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			keys, err := controllers.RotateKeys(cmd.Context(), c, time.Now(), drop)
			if err != nil {
				return err
			}
			return printKeys(cmd, keys)
		},
	}
	cmd.Flags().BoolVar(&drop, "drop-old", false, "retire all other keys at once: servers refuse orders of theirs that they have not begun")
	return cmd
}

func (f *keyFlags) revoke() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke KEY --reason TEXT", Short: "Withdraw all trust in a key that is, or may be, in the wrong hands", Args: cobra.ExactArgs(1),
		Long: `Withdraws all trust in a key: servers refuse what it signed and has not touched a container yet, for good. What runs keeps running. When
it is the key that signs, a new one is made first.`,
		Example: "  sirrat keys revoke 9f86d081 --reason \"the backup of 3 May was stolen\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			keys, err := controllers.RevokeKey(cmd.Context(), c, time.Now(), args[0], reason)
			if err != nil {
				return err
			}
			return printKeys(cmd, keys)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever reads the list later")
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	return cmd
}

func printKeys(cmd *cobra.Command, keys []controllers.KeyInfo) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSTATE\tMADE\tCHANGED\tREASON")
	for _, k := range keys {
		changed := "-"
		if !k.Changed.IsZero() {
			changed = k.Changed.Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", strings.TrimPrefix(k.ID, "sha256:"), k.State, k.Made.Format(time.DateTime), changed, cmp.Or(k.Reason, "-"))
	}
	return w.Flush()
}
