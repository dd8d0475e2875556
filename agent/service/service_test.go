// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInstall(t *testing.T) {
	root := t.TempDir()
	var ran, said []string
	s := Service{Program: "/usr/local/bin/sirrat-agent", DataDir: "/var/lib/sirrat agent/50%", DockerHost: "unix:///run/docker.sock", Root: root,
		Systemctl: func(_ context.Context, args ...string) error { ran = append(ran, strings.Join(args, " ")); return nil }}
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	install := func(mode string) string {
		t.Helper()
		ran, said = nil, nil
		if err := s.Install(t.Context(), mode, say); err != nil {
			t.Fatal(err)
		}
		return strings.Join(said, "\n")
	}
	file := filepath.Join(root, "etc/systemd/system", Unit)
	exists := func() bool { _, err := os.Stat(file); return err == nil }
	if text := install(None); !strings.Contains(text, "sirrat-agent run --data-dir") || exists() {
		t.Errorf("none: %q", text)
	}
	if text := install(Auto); !strings.Contains(text, "systemd does not run here") || exists() || len(ran) > 0 {
		t.Errorf("auto, without systemd: %q", text)
	}
	if text := install(Systemd); !strings.Contains(text, "when it does: systemctl enable --now") || !exists() || len(ran) > 0 {
		t.Errorf("systemd, which does not run: %q", text)
	}
	if err := os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	if install(Auto); !slices.Equal(ran, []string{"daemon-reload", "enable --now " + Unit}) {
		t.Errorf("as it is already: %q", ran)
	}
	s.DataDir = "/srv/agent"
	if install(Auto); !slices.Equal(ran, []string{"daemon-reload", "enable --now " + Unit, "restart " + Unit}) {
		t.Errorf("changed: %q", ran)
	}
	if err := s.Install(t.Context(), "launchd", say); err == nil {
		t.Error("an unknown mode")
	}
	s.Systemctl = func(context.Context, ...string) error { return errors.New("no") }
	if err := s.Install(t.Context(), Auto, say); err == nil || !strings.Contains(err.Error(), "systemctl daemon-reload: no") {
		t.Error(err)
	}
	for _, bad := range []Service{{Program: "sirrat-agent", DataDir: "/x"}, {Program: "/a", DataDir: "/x\nExecStartPre=/bin/evil"}, {Program: "/a", DataDir: "/x", DockerHost: "a\nb"}} {
		if _, err := bad.Text(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// The unit says to systemd what it is meant to.
func TestUnitIsValid(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	s := Service{Program: "/bin/true", DataDir: t.TempDir()}
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), Unit)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), Unit) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--no-pager", file).CombinedOutput()
	t.Logf("%v, last line: %s", err, lastLine(out))
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
