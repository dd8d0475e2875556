// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/version"
)

// agentsFolder is where a server keeps the agents' programs.
func agentsFolder(dataDir string) string { return filepath.Join(dataDir, "agents") }

func newAgentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Publish programs of agents"}
	var dataDir, to, of string
	publish := &cobra.Command{
		Use:   "publish --version VERSION FILE...",
		Short: "Offer programs of the agent to the hosts, one file for each platform",
		Long: `Copies programs of the agent into the folder that the server serves. Nothing happens before a Host asks for the version:
kubectl sirrat host update. The running server signs a statement over version and hashes with the key that agents have pinned.

The server publishes by itself, at its start and under its own version, the sirrat-agent that lies beside it.`,
		Example: "  sirrat agent publish --version v1.4.0 sirrat-agent-amd64 sirrat-agent-arm64",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				to = agentsFolder(dataDir)
			}
			files := agentfiles.Open(to)
			for _, file := range args {
				platform, err := files.Publish(of, file)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s for %s is published.\n", of, platform)
			}
			return nil
		},
	}
	publish.Flags().StringVar(&of, "version", "", "version of the programs, as `sirrat-agent version` prints it")
	publish.Flags().StringVar(&dataDir, "data-dir", dataDirFromEnvironment(), "the server's folder ($SIRRAT_DATA_DIR)")
	publish.Flags().StringVar(&to, "to", "", "another folder, for sirrat controller --agents")
	cobra.CheckErr(publish.MarkFlagRequired("version"))
	cmd.AddCommand(publish)
	return cmd
}

// offerOwnAgent publishes the sirrat-agent beside this program under this program's version, since they are released
// together.
func offerOwnAgent(files *agentfiles.Files, log logr.Logger) {
	self, err := os.Executable()
	if err != nil || version.Version == "dev" { // which is many programs
		return
	}
	program := filepath.Join(filepath.Dir(self), "sirrat-agent")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		return
	}
	platform, err := files.Publish(version.Version, program)
	if err != nil {
		log.Info("the agent beside this program is not published", "cause", err.Error())
		return
	}
	log.V(1).Info("the agent beside this program is published", "version", version.Version, "platform", platform)
}

// withAgents puts the agents' programs beside the API.
func withAgents(api http.Handler, files *agentfiles.Files) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(agentfiles.Prefix, files.Handler())
	mux.Handle("/", api)
	return mux
}
