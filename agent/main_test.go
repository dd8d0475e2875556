// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/config"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// runVariable makes the test binary an agent of its own process, so that it can be killed.
const runVariable = "SIRRAT_AGENTTEST_RUN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(runVariable); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		log, err := zap.NewDevelopment()
		if err == nil {
			err = agent.Run(ctx, agent.Options{DataDir: dir, Version: "test", Log: zapr.NewLogger(log)})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told { // they mostly wait for containers
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	cptest.Main(m, cptest.Install(config.FS))
}
