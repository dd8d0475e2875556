// SPDX-License-Identifier: Apache-2.0

// Command badagent is a new version of the agent that does not work, for tests of updates: it crashes or hangs, as the
// version that the build sets says.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/internal/version"
)

func main() {
	fmt.Fprintln(os.Stderr, "bad agent", version.Version)
	if strings.HasSuffix(version.Version, "-hangs") {
		<-time.After(time.Hour)
	}
	os.Exit(7)
}
