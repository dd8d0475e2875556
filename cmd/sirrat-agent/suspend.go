// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/agent/suspend"
)

// maxSuspension bounds --for: whoever means longer leaves it out and resumes.
const maxSuspension = 366 * 24 * time.Hour

func suspendCommand(s *settings) *cobra.Command {
	var reason string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "suspend PROJECT/ENVIRONMENT [--for DURATION] [--reason TEXT]",
		Short: "Leave an environment alone on this server: neither deploy nor heal, until it is resumed",
		Long: `suspend makes the agent touch nothing of an environment on this server, for maintenance by hand. What runs keeps running;
what is stopped stays stopped. It holds across restarts, ends by itself with --for, and is told to the control plane.`,
		Example: "  sirrat-agent suspend supergest/production --for 2h --reason \"disk is replaced\"\n  sirrat-agent resume supergest/production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			project, environment, err := environmentArg(args[0])
			if err != nil {
				return err
			}
			if lasts < 0 || lasts > maxSuspension {
				return fmt.Errorf("--for %s: from 1s to %s, or none", lasts, maxSuspension)
			}
			now := time.Now().Truncate(time.Second)
			held := suspend.Suspension{Project: project, Environment: environment, By: whoever(), Reason: strings.TrimSpace(reason), Since: now}
			if lasts > 0 {
				held.Until = now.Add(lasts)
			}
			if err := suspend.Set(s.dataDir, held); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is suspended %s.\n", args[0], held)
			return wake(cmd, s)
		},
	}
	cmd.Flags().DurationVar(&lasts, "for", 0, "how long, like 2h (default until it is resumed)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who wonder")
	return cmd
}

func resumeCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:     "resume PROJECT/ENVIRONMENT",
		Short:   "Take a suspension of this server back: what must run is brought back",
		Example: "  sirrat-agent resume supergest/production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			project, environment, err := environmentArg(args[0])
			if err != nil {
				return err
			}
			was, err := suspend.Clear(s.dataDir, project, environment)
			if err != nil {
				return err
			}
			if !was {
				fmt.Fprintf(cmd.OutOrStdout(), "%s was not suspended on this server.\n", args[0])
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is resumed.\n", args[0])
			return wake(cmd, s)
		},
	}
}

func wake(cmd *cobra.Command, s *settings) error {
	running, err := suspend.Wake(s.dataDir)
	if err != nil {
		return fmt.Errorf("it holds from the agent's next decision on: %w", err)
	}
	if !running {
		fmt.Fprintln(cmd.OutOrStdout(), "No agent runs with this data folder: it holds once one does.")
	}
	return nil
}

func environmentArg(arg string) (project, environment string, err error) {
	project, environment, found := strings.Cut(arg, "/")
	if !found || project == "" || environment == "" {
		return "", "", errors.New("name the environment as PROJECT/ENVIRONMENT, like supergest/production")
	}
	return project, environment, nil
}

// whoever names the person at the keyboard, as far as this system knows: shown to people, trusted by nobody.
func whoever() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return cmp.Or(os.Getenv("USER"), "somebody")
}
