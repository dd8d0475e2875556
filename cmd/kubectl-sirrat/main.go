// SPDX-License-Identifier: Apache-2.0

// Command kubectl-sirrat is the kubectl plugin with which people look at the bridge and act on it: `kubectl sirrat …`, or
// by its own name.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"gitlab.com/dynors/sirrat/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Process(), os.Args[1:])
	stop()
	os.Exit(code)
}
