// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/version"
)

func (s *session) versionCommand() *cobra.Command {
	cmd := s.command("version", "version")
	cmd.Args = s.args(0, 0)
	output := s.outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if output.structured() {
			return s.emit(*output, map[string]string{"version": version.Version, "go": runtime.Version(), "platform": platform})
		}
		return s.print(fmt.Sprintf("kubectl-sirrat %s (%s, %s)\n", version.Version, runtime.Version(), platform))
	}
	return cmd
}
