// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

type removalOptions struct {
	placeOptions
	host            string
	volumes, revoke bool
}

func (s *session) decommissionCommand() *cobra.Command {
	var o removalOptions
	cmd := s.command("decommission ENVIRONMENT ([--volumes] [--yes] | --revoke)", "decommission")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, s.T("flag.volumes"))
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	cmd.Flags().BoolVar(&o.revoke, "revoke", false, s.T("flag.decommission-revoke"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if o.revoke && o.volumes {
			return s.usage(cmd, s.T("error.revoke-or-volumes"))
		}
		return s.decommission(cmd.Context(), o)
	}
	return cmd
}

func (s *session) decommission(ctx context.Context, o removalOptions) error {
	e, err := s.environment(ctx, o.name)
	if err != nil {
		return err
	}
	if o.revoke {
		if e, err = s.editEnvironment(ctx, o.name, func(e *v1alpha1.Environment) { e.Spec.Decommission = nil }); err != nil {
			return err
		}
		s.say("decommission.revoked", e.Name)
		return s.placeOutcome(o.placeOptions, e)
	}
	s.say("decommission.what", e.Name, strings.Join(hostNames(e), ", "))
	s.say(volumesText(o.volumes))
	if err := s.confirmTyped(o.yes, "decommission.question", e.Name); err != nil {
		return err
	}
	e, err = s.editEnvironment(ctx, o.name, func(e *v1alpha1.Environment) { e.Spec.Decommission = &v1alpha1.Removal{Volumes: o.volumes} })
	if err != nil {
		return err
	}
	s.say("decommission.done", e.Name)
	return s.placeOutcome(o.placeOptions, e)
}

func volumesText(volumes bool) lang.ID {
	if volumes {
		return "decommission.volumes-go"
	}
	return "decommission.volumes-stay"
}

func hostNames(e *v1alpha1.Environment) []string {
	var names []string
	for _, h := range e.Status.Hosts {
		names = append(names, h.Name)
	}
	if len(names) == 0 {
		return []string{"—"}
	}
	return names
}

func (s *session) removeCommand() *cobra.Command {
	var o removalOptions
	cmd := s.command("remove ENVIRONMENT HOST [--volumes] [--yes]", "remove")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.environment")
	o.output = s.outputFlag(cmd)
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, s.T("flag.volumes"))
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.host = args[0], args[1]
		return s.remove(cmd.Context(), o)
	}
	return cmd
}

// remove takes the environment down on one host that it does not match any more. Whether it does is the controllers' to say:
// while it does, the annotation has no effect.
func (s *session) remove(ctx context.Context, o removalOptions) error {
	e, err := s.environment(ctx, o.name)
	if err != nil {
		return err
	}
	if !slices.Contains(hostNames(e), o.host) {
		return s.fail("error.not-on-host", e.Name, o.host)
	}
	s.say("remove.what", e.Name, o.host)
	s.say(volumesText(o.volumes))
	if err := s.confirmTyped(o.yes, "remove.question", o.host); err != nil {
		return err
	}
	word := "containers"
	if o.volumes {
		word = "volumes"
	}
	e, err = s.editEnvironment(ctx, o.name, func(e *v1alpha1.Environment) { setAnnotation(e, v1alpha1.RemovePrefix+o.host, word) })
	if err != nil {
		return err
	}
	s.say("remove.done", e.Name, o.host)
	return s.placeOutcome(o.placeOptions, e)
}

// confirmTyped has a name typed, for what cannot be undone.
func (s *session) confirmTyped(yes bool, question lang.ID, name string) error {
	if yes {
		return nil
	}
	if _, ok := s.terminal(s.In); !ok {
		return s.fail("error.needs-yes").with(s.T("hint.needs-yes"))
	}
	answer, err := s.ask(s.T(question, name) + " ")
	if err != nil {
		return err
	}
	if answer != name {
		return s.fail("error.typed-name", answer, name)
	}
	return nil
}
