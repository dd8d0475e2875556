// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// completionLimit bounds what a press of Tab may take.
const completionLimit = 2 * time.Second

// completion proposes names for each argument in turn, one kind after the other.
func (s *session) completion(kinds ...lang.ID) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.completeKind(cmd, kinds[len(args)])
	}
}

func (s *session) completeProjects(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.completeKind(cmd, "kind.project")
}

func (s *session) completeGates(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.completeKind(cmd, "kind.gate")
}

func (s *session) completeKind(cmd *cobra.Command, kind lang.ID) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	project := ""
	if kind != "kind.project" && kind != "kind.host" {
		var err error
		if project, err = s.project(ctx); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return s.names(ctx, kind, project), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
