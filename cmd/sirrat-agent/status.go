// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/agent"
)

func statusCommand(s *settings) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Print what runs here, as the agent's disk knows it",
		Example: "  sirrat-agent status\n  sirrat-agent status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := agent.ReadStatus(s.dataDir)
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), output, status)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml (default a table)")
	return cmd
}

func printStatus(out io.Writer, output string, status *agent.Status) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(status)
	case "yaml":
		text, err := yaml.Marshal(status)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	case "":
		return printTable(out, status)
	}
	return fmt.Errorf("-o %s: use json or yaml", output)
}

func printTable(out io.Writer, status *agent.Status) error {
	if status.Host == "" {
		fmt.Fprintln(out, "This server has not joined a control plane.")
	} else {
		fmt.Fprintf(out, "Host %s of %s\n", status.Host, status.Server)
	}
	if len(status.Environments) == 0 {
		fmt.Fprintln(out, "Nothing was deployed here.")
		return nil
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tENVIRONMENT\tRELEASE\tSEQUENCE\tPHASE\tSINCE\tSERVING\tMESSAGE")
	for _, e := range status.Environments {
		since := "-"
		if e.Since != nil {
			since = duration.HumanDuration(time.Since(*e.Since))
		}
		if e.Suspended != "" {
			e.Message = strings.TrimSuffix("suspended "+e.Suspended+"; "+e.Message, "; ")
		}
		release := orDash(e.Release)
		if e.Version != "" {
			release += " (" + e.Version + ")"
		}
		fmt.Fprintln(table, e.Project+"\t"+e.Environment+"\t"+release+"\t"+strconv.FormatInt(e.Sequence, 10)+"\t"+
			e.Phase+"\t"+since+"\t"+orDash(e.Serving)+"\t"+orDash(e.Message))
	}
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
