// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/history"
	"gitlab.com/dynors/sirrat/agent/state"
)

// errDiffers makes the program end with 1 and nothing more to say.
var errDiffers = errors.New("what runs is not what must run")

func logsCommand(s *settings) *cobra.Command {
	var q agent.LogQuery
	var since string
	cmd := &cobra.Command{
		Use:   "logs PROJECT/ENVIRONMENT [SERVICE]",
		Short: "Print what the containers of an environment wrote; the agent need not run",
		Example: `  sirrat-agent logs shop/production
  sirrat-agent logs shop/production web -f --tail 20
  sirrat-agent logs shop/production web --since 1h > web.log`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if q.Environment, err = agent.ParseKey(args[0]); err != nil {
				return err
			}
			if len(args) > 1 {
				q.Service = args[1]
			}
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			out, safe := cmd.OutOrStdout(), func(line string) string { return line }
			if isTerminal(out) { // what a container wrote must not do anything there
				safe = agent.Printable
			}
			err = agent.ReadLogs(cmd.Context(), s.dataDir, s.dockerHost, q, func(container, line string) {
				fmt.Fprintf(out, "%s | %s\n", container, safe(line))
			})
			return untilInterrupted(cmd.Context(), err)
		},
	}
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what is written from now on, until interrupted")
	cmd.Flags().IntVar(&q.Tail, "tail", 100, "how many of the last lines of each container; -1 for all")
	cmd.Flags().StringVar(&since, "since", "", "leave out what is older: a duration (10m) or a time (2026-01-31T12:00:00Z)")
	return cmd
}

// parseSince reads a duration before now, or a time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q: give a duration like 10m or a time like 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// untilInterrupted is no error when somebody pressed Ctrl-C.
func untilInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// only is the environment that the arguments name, if any.
func only(args []string) (*state.Key, error) {
	if len(args) == 0 {
		return nil, nil
	}
	key, err := agent.ParseKey(args[0])
	return &key, err
}

func diffCommand(s *settings) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "diff [PROJECT/ENVIRONMENT]",
		Short: "Compare what runs with what must run; exit code 1 when they differ",
		Long: `diff compares what must run, as the agent's disk knows it, with what the engine says runs: missing, stopped and extra
containers, other images and other configurations. The agent need not run.`,
		Example: "  sirrat-agent diff\n  sirrat-agent diff shop/production -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := only(args)
			if err != nil {
				return err
			}
			list, err := agent.ReadDiff(cmd.Context(), s.dataDir, s.dockerHost, s.policy, key)
			if err != nil {
				return err
			}
			if err := printDiff(cmd.OutOrStdout(), output, list); err != nil {
				return err
			}
			if len(list) > 0 {
				return errDiffers
			}
			return nil
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func printDiff(out io.Writer, output string, list []agent.Difference) error {
	if structured(output) {
		return printStructured(out, output, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "What runs is what must run.")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tENVIRONMENT\tSERVICE\tCONTAINER\tDIFFERENCE\tDETAILS")
	for _, d := range list {
		fmt.Fprintln(table, d.Project+"\t"+d.Environment+"\t"+orDash(d.Service)+"\t"+orDash(d.Container)+"\t"+d.Kind+"\t"+agent.Printable(d.Details))
	}
	return table.Flush()
}

func historyCommand(s *settings) *cobra.Command {
	var output string
	var limit int
	cmd := &cobra.Command{
		Use:     "history [PROJECT/ENVIRONMENT]",
		Short:   "Print what happened to the rollouts here, newest last",
		Example: "  sirrat-agent history shop/production\n  sirrat-agent history --limit 10 -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := only(args)
			if err != nil {
				return err
			}
			list, err := agent.ReadHistory(s.dataDir, key)
			if err != nil {
				return err
			}
			slices.SortStableFunc(list, func(a, b history.Entry) int { return a.At.Compare(b.At) })
			if limit > 0 {
				list = list[max(0, len(list)-limit):]
			}
			return printHistory(cmd.OutOrStdout(), output, list)
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().IntVar(&limit, "limit", 0, "the newest so many only; 0 for all")
	return cmd
}

func printHistory(out io.Writer, output string, list []history.Entry) error {
	if structured(output) {
		return printStructured(out, output, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "Nothing is recorded.")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "TIME\tPROJECT\tENVIRONMENT\tRELEASE\tSEQUENCE\tPHASE\tTOOK\tREASON\tMESSAGE")
	for _, e := range list {
		took := "-"
		if e.Took > 0 {
			took = (time.Duration(e.Took) * time.Millisecond).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintln(table, e.At.UTC().Format(time.RFC3339)+"\t"+e.Project+"\t"+e.Environment+"\t"+releaseOf(e.Release, e.Version)+"\t"+
			strconv.FormatInt(e.Sequence, 10)+"\t"+e.Phase+"\t"+took+"\t"+orDash(e.Reason)+"\t"+orDash(agent.Printable(e.Message)))
	}
	return table.Flush()
}

func releaseOf(name, version string) string {
	if version != "" {
		return name + " (" + version + ")"
	}
	return orDash(name)
}

// Output formats.
func addOutput(cmd *cobra.Command, output *string, more ...string) {
	formats := slices.Concat([]string{"table"}, more, []string{"json", "yaml"})
	usage := formats[0]
	for _, f := range formats[1:] {
		usage += ", " + f
	}
	cmd.Flags().StringVarP(output, "output", "o", "table", usage)
	check := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(formats, *output) {
			return fmt.Errorf("-o %s: use %s", *output, usage)
		}
		return check(cmd, args)
	}
}

func structured(output string) bool { return output == "json" || output == "yaml" }

func printStructured(out io.Writer, output string, value any) error {
	if output == "yaml" {
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
