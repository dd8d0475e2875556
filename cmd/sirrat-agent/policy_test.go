// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

func TestPolicy(t *testing.T) {
	dir := t.TempDir()
	policy, compose, values := filepath.Join(dir, "policy", "host-policy.yaml"), filepath.Join(dir, "compose.yaml"), filepath.Join(dir, "values.env")
	for name, text := range map[string]string{
		compose: "services:\n  web: {image: \"a:${TAG}\", privileged: true, volumes: [\"${FOLDER}:/x\", \"/proc:/p\"]}\n",
		values:  "TAG=1\nFOLDER=/srv/x\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(want string, args ...string) string {
		t.Helper()
		out, err := run(append(args, "--policy", policy)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v: %q, %v; want %q", args, out, err, want)
		}
		return out
	}
	must("by default: there is no "+policy, "policy", "show")
	must("Wrote "+policy, "policy", "init")
	must("# The policy of "+policy, "policy", "show")
	if _, err := run("policy", "init", "--policy", policy); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("init where there is one: %v", err)
	}
	out, err := run("policy", "check", compose, "--env-file", values, "--policy", policy)
	if !errors.Is(err, errRefused) {
		t.Errorf("check: %v", err)
	}
	for _, want := range []string{"services.web.privileged", "allow     privileged: true", "allow     bindPaths: [/srv/x]", "no policy allows this"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, err = run("policy", "check", compose, "--env-file", values, "--policy", policy, "-o", "json")
	var findings []hostpolicy.Finding
	if !errors.Is(err, errRefused) || json.Unmarshal([]byte(out), &findings) != nil || len(findings) != 3 {
		t.Errorf("as JSON: %s, %v", out, err)
	}
	if err := os.WriteFile(compose, []byte("services: {web: {image: \"a:${TAG}\"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	must("Nothing is refused.", "policy", "check", compose, "--env-file", values)
	must("[]", "policy", "check", compose, "--env-file", values, "-o", "json")
	if _, err := run("policy", "check", compose, "--policy", policy); err == nil || !strings.Contains(err.Error(), "variable TAG has no value") {
		t.Errorf("without values: %v", err)
	}
	if err := os.WriteFile(policy, []byte("privilege: true"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"show"}, {"check", compose, "--env-file", values}} {
		if _, err := run(append(append([]string{"policy"}, args...), "--policy", policy)...); !errors.Is(err, hostpolicy.ErrUnusable) {
			t.Errorf("%v with a broken policy: %v", args, err)
		}
	}
}
