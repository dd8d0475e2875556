// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab.com/dynors/sirrat/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubectl-sirrat": func() { os.Exit(cli.Main(context.Background(), cli.Process(), os.Args[1:])) },
	})
}

// TestScripts runs the program where there is no cluster: help, wrong invocations, and what works offline.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "", "KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": "",
				"HOME": env.WorkDir, "TZ": "UTC",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and compares its exit code: `exits 2 kubectl-sirrat …`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command [argument...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = "?"
		if exit, ok := err.(interface{ ExitCode() int }); ok {
			code = string(rune('0' + exit.ExitCode()))
		}
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s (%v)", code, args[0], err)
	}
}
