// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// errRefused ends the program with exit code 1 after everything was said.
var errRefused = errors.New("this server's policy refuses the compose file")

func policyCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "What this server's owner lets releases do here",
		Long: `The owner's policy says what releases may ask of this server: folders, devices, ports, the engine's socket, when. It is a
file of this server, and nothing in the control plane overrides it. Without one, plain containers, named volumes, bridge
networks and ordinary ports are allowed.`,
	}
	cmd.AddCommand(policyCheckCommand(s), policyShowCommand(s), policyInitCommand(s))
	return cmd
}

func policyCheckCommand(s *settings) *cobra.Command {
	var output string
	o := agent.CheckOptions{}
	cmd := &cobra.Command{
		Use:   "check COMPOSE-FILE",
		Short: "Say everything that the policy refuses in a compose file, and what would allow it; exit code 1 if anything",
		Example: `  sirrat-agent policy check compose.yaml
  sirrat-agent policy check compose.yaml --env-file values.env --policy ./host-policy.yaml -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readBounded(args[0], composefile.MaxSize)
			if err != nil {
				return err
			}
			o.Compose, o.Policy, o.DataDir, o.DockerHost = text, s.policy, s.dataDir, s.dockerHost
			findings, err := agent.CheckPolicy(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := printFindings(cmd.OutOrStdout(), output, findings); err != nil {
				return err
			}
			if len(findings) > 0 {
				return errRefused
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json (default text)")
	cmd.Flags().StringVar(&o.ComposeProject, "compose-project", "check", "name of the compose project, to which its volumes and networks belong")
	cmd.Flags().StringVar(&o.Project, "project", "", "project that the policy must let run here (default: not judged)")
	cmd.Flags().StringVar(&o.Environment, "environment", "", "environment that the policy must let run here (default: not judged)")
	cmd.Flags().Func("env-file", "file of NAME=value with the values of the compose file's variables; may be given again", func(name string) error {
		text, err := readBounded(name, composefile.MaxSize)
		if err != nil {
			return err
		}
		values, err := dotenv.Parse(strings.NewReader(text))
		if err != nil {
			return fmt.Errorf("%s cannot be read: lines of NAME=value are expected", name)
		}
		if o.Values == nil {
			o.Values = map[string]string{}
		}
		for key, value := range values {
			o.Values[key] = value
		}
		return nil
	})
	return cmd
}

func readBounded(name string, limit int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return string(text), err
}

func printFindings(out io.Writer, output string, findings []hostpolicy.Finding) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if findings == nil {
			findings = []hostpolicy.Finding{}
		}
		return encoder.Encode(findings)
	case "":
	default:
		return fmt.Errorf("-o %s: use json", output)
	}
	if len(findings) == 0 {
		fmt.Fprintln(out, "Nothing is refused.")
		return nil
	}
	for _, f := range findings {
		where := f.Object
		if f.Field != "" {
			where += "." + f.Field
		}
		fmt.Fprintf(out, "%s\n  asks for  %s\n  refused   %s\n", where, f.Asks, f.Rule)
		allow := "no policy allows this"
		if f.Allow != "" {
			allow = strings.ReplaceAll(f.Allow, "\n", "\n            ")
		}
		fmt.Fprintf(out, "  allow     %s\n\n", allow)
	}
	return nil
}

func policyShowCommand(s *settings) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the policy that holds now, defaults filled in",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, found, err := hostpolicy.Read(s.policy)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(policy)
			}
			if output != "" && output != "yaml" {
				return fmt.Errorf("-o %s: use json or yaml", output)
			}
			text, err := yaml.Marshal(policy)
			if err != nil {
				return err
			}
			from := "of " + s.policy
			if !found {
				from = "by default: there is no " + s.policy
			}
			fmt.Fprintf(cmd.OutOrStdout(), "# The policy %s\n%s", from, text)
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml (default yaml)")
	return cmd
}

func policyInitCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a policy that says what holds by default, with a comment on every field; an existing file stays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(filepath.Dir(s.policy), 0o755); err != nil {
				return err
			}
			f, err := os.OpenFile(s.policy, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s is there already and stays as it is", s.policy)
			}
			if err != nil {
				return err
			}
			_, err = io.WriteString(f, hostpolicy.Template)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s. The agent reads it by itself; check a compose file with: sirrat-agent policy check compose.yaml\n", s.policy)
			return nil
		},
	}
}
