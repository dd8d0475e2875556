// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return out.String(), err
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
		fail bool
	}{
		"help":               {[]string{"--help"}, "Available Commands:", false},
		"join's help":        {[]string{"join", "--help"}, "sirrat-agent join https://", false},
		"version":            {[]string{"version"}, "\n", false},
		"status before join": {[]string{"status", "--data-dir", dir}, "has not joined", false},
		"status as JSON":     {[]string{"status", "--data-dir", dir, "-o", "json"}, `"environments": []`, false},
		"status as YAML":     {[]string{"status", "--data-dir", dir, "-o", "yaml"}, "environments: []", false},
		"status's policy":    {[]string{"status", "--data-dir", dir, "--policy", dir + "/none"}, "Policy: the default, since there is no " + dir + "/none", false},
		"status as what":     {[]string{"status", "--data-dir", dir, "-o", "xml"}, "use table, wide, json, yaml", true},
		"run before join":    {[]string{"run", "--data-dir", dir}, "has not joined", true},
		"log level":          {[]string{"run", "--data-dir", dir, "--log-level", "loud"}, "use debug, info or error", true},
		"join without token": {[]string{"join", "https://sirrat.example", "--data-dir", dir}, "token", true},
		"join without hash":  {[]string{"join", "https://sirrat.example", "--data-dir", dir, "--token", "abcdef.0123456789abcdef"}, "--ca-hash", true},
		"diff of nothing":    {[]string{"diff", "--data-dir", dir}, "What runs is what must run", false},
		"diff of what":       {[]string{"diff", "shop", "--data-dir", dir}, "give PROJECT/ENVIRONMENT", true},
		"diff of unknown":    {[]string{"diff", "shop/dev", "--data-dir", dir}, "nothing of shop/dev was ever deployed here", true},
		"history of nothing": {[]string{"history", "--data-dir", dir}, "Nothing is recorded", false},
		"history as JSON":    {[]string{"history", "--data-dir", dir, "-o", "json"}, "[]", false},
		"logs of unknown":    {[]string{"logs", "shop/dev", "--data-dir", dir}, "nothing of shop/dev was ever deployed here", true},
		"logs since when":    {[]string{"logs", "shop/dev", "--since", "tea", "--data-dir", dir}, "give a duration", true},
		"unknown":            {[]string{"leave"}, "unknown command", true},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := run(c.args...)
			if (err != nil) != c.fail {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				out += err.Error()
			}
			if !strings.Contains(out, c.want) {
				t.Errorf("%q does not say %q", out, c.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	since := time.Now().Add(-3 * time.Hour)
	var out bytes.Buffer
	err := printStatus(&out, "table", &agent.Status{Server: "https://sirrat.example:6443", Host: "vps-1", Policy: "/etc/p.yaml", PolicyProblem: "the host policy cannot be used", Environments: []agent.EnvironmentStatus{
		{Project: "shop", Environment: "dev", Release: "a1b2c3d", Version: "v1.0.0", Sequence: 7, Phase: "Healthy", Since: &since},
		{Project: "shop", Environment: "test", Release: "b2c3d4e", Sequence: 3, Phase: "RolledBack", Since: &since, Serving: "a1b2c3d", Message: "web: exited 1"},
	}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := `Host vps-1 of https://sirrat.example:6443
Policy: the host policy cannot be used
Agent: does not run; this is what its disk says

PROJECT   ENVIRONMENT   RELEASE            SEQUENCE   PHASE        SINCE   SERVING   MESSAGE
shop      dev           a1b2c3d (v1.0.0)   7          Healthy      3h      -         -
shop      test          b2c3d4e            3          RolledBack   3h      a1b2c3d   web: exited 1
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// What the command says of a bundle on the way: every tenth that was read, then what the Rollout says.
func TestProgressOfApply(t *testing.T) {
	for want, now := range map[string]agent.Applied{
		"":                             {},
		"Unpacking 0% of 250.0 MB":     {Unpacked: 24_999_999, Size: 250_000_000},
		"Unpacking 10% of 250.0 MB":    {Unpacked: 25_000_000, Size: 250_000_000},
		"Unpacking 100% of 250.0 MB":   {Unpacked: 250_000_000, Size: 250_000_000},
		"Pulling web 1.0 MB of 2.0 MB": {Size: 1, Status: v1alpha1.RolloutStatus{Phase: v1alpha1.RolloutPulling, Message: "web 1.0 MB of 2.0 MB"}},
	} {
		if got := progress(now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
