// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"gitlab.com/dynors/sirrat/agent"
)

// watchEvery is how often status --watch looks; it prints when something changed.
const watchEvery = time.Second

func statusCommand(s *settings) *cobra.Command {
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Print what runs here, from the agent's disk and, if it runs, from the agent",
		Example: "  sirrat-agent status\n  sirrat-agent status -o json\n  sirrat-agent status -o wide --watch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var before string
			for {
				status, err := agent.ReadLiveStatus(cmd.Context(), s.dataDir, s.policy)
				if err != nil {
					return untilInterrupted(cmd.Context(), err)
				}
				var text bytes.Buffer
				if err := printStatus(&text, output, status, time.Now()); err != nil {
					return err
				}
				if text.String() != before {
					before = text.String()
					if watch && isTerminal(cmd.OutOrStdout()) {
						fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[2J") // from the top of an empty screen
					}
					fmt.Fprint(cmd.OutOrStdout(), before)
				}
				if !watch {
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(watchEvery):
				}
			}
		},
	}
	addOutput(cmd, &output, "wide")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and print again when something changes, until interrupted")
	return cmd
}

func printStatus(out io.Writer, output string, status *agent.Status, now time.Time) error {
	if structured(output) {
		return printStructured(out, output, status)
	}
	printHead(out, status, now)
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
			since = duration.HumanDuration(now.Sub(*e.Since))
		}
		message := e.Message
		if e.Doing != "" {
			message = e.Doing
		}
		if e.Suspended != "" {
			message = strings.TrimSuffix("suspended "+e.Suspended+"; "+message, "; ")
		}
		fmt.Fprintln(table, e.Project+"\t"+e.Environment+"\t"+releaseOf(e.Release, e.Version)+"\t"+strconv.FormatInt(e.Sequence, 10)+"\t"+
			e.Phase+"\t"+since+"\t"+orDash(e.Serving)+"\t"+orDash(agent.Printable(message)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if output == "wide" {
		return printImages(out, status)
	}
	return nil
}

// printHead says what this server is, and how the agent is.
func printHead(out io.Writer, status *agent.Status, now time.Time) {
	if status.Host == "" {
		fmt.Fprintln(out, "This server has not joined a control plane.")
	} else {
		fmt.Fprintf(out, "Host %s of %s\n", status.Host, status.Server)
	}
	if until := status.CertificateUntil; until != nil {
		if left := until.Sub(now); left > 0 {
			fmt.Fprintf(out, "Certificate: %s left\n", duration.HumanDuration(left))
		} else {
			fmt.Fprintf(out, "Certificate: expired %s ago\n", duration.HumanDuration(-left))
		}
	}
	switch {
	case status.PolicyProblem != "":
		fmt.Fprintf(out, "Policy: %s\n", agent.Printable(status.PolicyProblem))
	case status.PolicyDeclared:
		fmt.Fprintf(out, "Policy: %s\n", status.Policy)
	default:
		fmt.Fprintf(out, "Policy: the default, since there is no %s\n", status.Policy)
	}
	live := status.Live
	if live == nil {
		if status.Host != "" {
			fmt.Fprintln(out, "Agent: does not run; this is what its disk says")
		}
		return
	}
	fmt.Fprintf(out, "Agent: %s, running for %s\n", live.Version, duration.HumanDuration(now.Sub(live.Started)))
	engine := "Docker engine"
	if live.EngineVersion != "" {
		engine += " " + live.EngineVersion
	}
	fmt.Fprintln(out, linkText(engine, live.Engine, now))
	fmt.Fprintln(out, linkText("Control plane", live.ControlPlane, now))
}

func linkText(name string, l agent.Link, now time.Time) string {
	since := duration.HumanDuration(now.Sub(l.Since))
	switch {
	case l.Since.IsZero():
		return name + ": not tried yet"
	case l.Up:
		return name + ": answers, for " + since
	}
	return name + ": does not answer, for " + since + ": " + agent.Printable(l.Error)
}

func printImages(out io.Writer, status *agent.Status) error {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tENVIRONMENT\tSERVICE\tIMAGE")
	for _, e := range status.Environments {
		for _, service := range slices.Sorted(maps.Keys(e.Images)) {
			fmt.Fprintln(table, e.Project+"\t"+e.Environment+"\t"+service+"\t"+e.Images[service])
		}
	}
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
