// SPDX-License-Identifier: Apache-2.0

// Command sirrat is the control side of SIRRAT: `sirrat server` runs everything in one process, `sirrat controller` the
// same without the embedded control plane, against any Kubernetes cluster. It only wires packages together.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/version"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "kubectl" { // kubectl parses its own flags
		runKubectl(os.Args[2:])
		return
	}
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "sirrat:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sirrat",
		Short: "The gatekeeper between CI and plain Docker Compose servers",
		Long: `SIRRAT stands between CI and plain Docker Compose servers: it judges releases by their works, keeps the client's
signed PV, and lets an agent on each server deploy exactly what was approved.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version.Version,
	}
	kubectl := &cobra.Command{
		Use:                "kubectl [flags and arguments of kubectl]",
		Short:              "kubectl, pointed at the server's data directory",
		Long:               "kubectl, built in. Without --kubeconfig and $KUBECONFIG it uses <data-dir>/admin.kubeconfig; the data directory is\n$SIRRAT_DATA_DIR, or ./sirrat-data.",
		Example:            "  sirrat kubectl get gates,releases,pvs,hosts -A",
		DisableFlagParsing: true,
		Run:                func(_ *cobra.Command, args []string) { runKubectl(args) },
	}
	cmd.AddCommand(newServerCommand(), newControllerCommand(), newUserCommand(), newKeysCommand(), newInstallCommand(), kubectl)
	return cmd
}
