// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/internal/version"
)

// errNotApplied makes the program end with 1 after everything was said.
var errNotApplied = errors.New("the bundle was not applied")

func applyCommand(s *settings) *cobra.Command {
	var load agent.Load
	var output, report string
	cmd := &cobra.Command{
		Use:   "apply BUNDLE",
		Short: "Deploy a release that came in a file, with the same checks; exit code 1 unless it becomes healthy",
		Long: `apply deploys what ` + "`kubectl sirrat bundle export`" + ` wrote, on a server that reaches neither the control plane nor a
registry. The release is judged as if the control plane had sent it: signature, host, sequence, host policy, client's
signature, digests. The agent that runs here does the work, or else this command until the outcome is known; what runs then
keeps running. Secrets that the bundle does not hold are read from an env file, one KEY=VALUE a line.`,
		Example: `  sirrat-agent apply shop.tar
  sirrat-agent apply shop.tar --fingerprint sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  sirrat-agent apply shop.tar --secrets /root/shop.env --report report.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o %q: use json", output)
			}
			log, err := logger("error")
			if err != nil {
				return err
			}
			said, o := "", agent.Options{DataDir: s.dataDir, DockerHost: s.dockerHost, Policy: s.policy, Version: version.Version, Log: log}
			load.File = args[0]
			applied, err := agent.Apply(cmd.Context(), o, load, func(now agent.Applied) {
				if line := progress(now); line != said && line != "" {
					fmt.Fprintln(cmd.ErrOrStderr(), agent.Printable(line))
					said = line
				}
			})
			if err != nil {
				return err
			}
			if err := tellApplied(cmd.OutOrStdout(), output, report, applied); err != nil {
				return err
			}
			if !applied.Well() {
				return errNotApplied
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&load.Fingerprint, "fingerprint", "", "SHA-256 of the bundle, as the export printed it: nothing is done with another file")
	cmd.Flags().StringVar(&load.Secrets, "secrets", "", "env `FILE` with the values of the release's Secrets, which only its owner may read")
	cmd.Flags().StringVar(&report, "report", "", "write the outcome to `FILE`, for `kubectl sirrat bundle report`")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json: print the outcome as JSON")
	return cmd
}

// progress in one line, which changes with every tenth of a bundle that is read.
func progress(now agent.Applied) string {
	switch {
	case now.Status.Phase != "":
		return now.Status.Phase + " " + now.Status.Message
	case now.Size > 0:
		return fmt.Sprintf("Unpacking %d%% of %.1f MB", 10*(10*now.Unpacked/now.Size), float64(now.Size)/1e6)
	}
	return ""
}

// tellApplied prints the outcome, and writes it to the file of the report if there is one.
func tellApplied(out io.Writer, output, report string, a agent.Applied) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the outcome: %w", err)
	}
	text = append(text, '\n')
	if report != "" {
		if err := os.WriteFile(report, text, 0o600); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	switch {
	case output == "json":
		_, err = out.Write(text)
		return err
	case a.Refused != "":
		fmt.Fprintf(out, "Refused, nothing was touched: %s\n", agent.Printable(a.Refused))
		tellAdvice(out, a)
		return nil
	}
	fmt.Fprintf(out, "%s of %s/%s, sequence %d: %s. %s\n", agent.Printable(a.Release), a.Project, a.Environment, a.Sequence, a.Status.Phase, agent.Printable(a.Status.Message))
	for _, service := range a.Status.Services {
		fmt.Fprintf(out, "  %s: %s running, %s %s\n", agent.Printable(service.Name), service.Running, service.Health, agent.Printable(service.Message))
	}
	for _, line := range a.Status.LastLogs {
		fmt.Fprintln(out, "  | "+agent.Printable(line))
	}
	tellAdvice(out, a)
	return nil
}

// tellAdvice says what to do, where there is something to do.
func tellAdvice(out io.Writer, a agent.Applied) {
	if a.Advice != "" {
		fmt.Fprintln(out, "What to do: "+agent.Printable(a.Advice))
	}
}
