// SPDX-License-Identifier: Apache-2.0

// Package service installs the agent as a systemd unit. It may import the standard library only.
package service

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// Modes of Install.
const (
	Auto    = "auto"    // systemd where it runs, else only words
	Systemd = "systemd" // the unit file in any case
	None    = "none"    // nothing
)

// Unit is the unit's name.
const Unit = "sirrat-agent.service"

// Service is what is to be installed.
type Service struct {
	// Program and DataDir are absolute paths.
	Program, DataDir string
	// DockerHost is the engine's address; empty for the default.
	DockerHost string
	// Root stands for "/" in tests.
	Root string
	// Systemctl runs systemctl; nil means the one in the path.
	Systemctl func(ctx context.Context, args ...string) error
}

//go:embed sirrat-agent.service
var unitText string

var unit = template.Must(template.New("unit").Funcs(template.FuncMap{"quote": quote}).Parse(unitText))

// quote is a text as one word of a unit file.
func quote(text string) string {
	return strconv.Quote(strings.NewReplacer("%", "%%", "$", "$$").Replace(text))
}

// Text of the unit.
func (s Service) Text() ([]byte, error) {
	for _, path := range []string{s.Program, s.DataDir} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, "\n\r") {
			return nil, fmt.Errorf("%q is no absolute path", path)
		}
	}
	if strings.ContainsAny(s.DockerHost, "\n\r") {
		return nil, errors.New("the engine's address has more than one line")
	}
	var b bytes.Buffer
	if err := unit.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("render the unit: %w", err)
	}
	return b.Bytes(), nil
}

// Install writes the unit and starts it, and changes nothing that is as it should be. Where systemd does not run it says
// what to do instead.
func (s Service) Install(ctx context.Context, mode string, say func(format string, args ...any)) error {
	switch mode {
	case None, "":
		say("Start the agent with: %s run --data-dir %s", s.Program, s.DataDir)
		return nil
	case Auto, Systemd:
	default:
		return fmt.Errorf("--service %q: use auto, systemd or none", mode)
	}
	running := s.systemdRuns()
	if !running && mode == Auto {
		say("systemd does not run here. Have your init system, or a container (docs/agent.md), keep this running: %s run --data-dir %s", s.Program, s.DataDir)
		return nil
	}
	text, err := s.Text()
	if err != nil {
		return err
	}
	changed, err := s.write(text)
	if err != nil {
		return err
	}
	if !running {
		say("Wrote %s, but systemd does not run here; when it does: systemctl enable --now %s", s.path(), Unit)
		return nil
	}
	steps := [][]string{{"daemon-reload"}, {"enable", "--now", Unit}}
	if changed {
		steps = append(steps, []string{"restart", Unit}) // one that ran with the unit before
	}
	for _, args := range steps {
		if err := s.systemctl(ctx, args...); err != nil {
			return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
		}
	}
	say("The agent runs as the service %s: journalctl -u %s shows what it does.", Unit, strings.TrimSuffix(Unit, ".service"))
	return nil
}

func (s Service) path() string { return filepath.Join(s.Root, "/etc/systemd/system", Unit) }

// systemdRuns as sd_booted(3) finds out.
func (s Service) systemdRuns() bool {
	info, err := os.Lstat(filepath.Join(s.Root, "/run/systemd/system"))
	return err == nil && info.IsDir()
}

// write replaces the unit as a whole, if it differs.
func (s Service) write(text []byte) (changed bool, err error) {
	have, err := os.ReadFile(s.path())
	if err == nil && bytes.Equal(have, text) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path()), 0o755); err != nil {
		return false, fmt.Errorf("write the unit: %w", err)
	}
	temporary := s.path() + ".new"
	if err := os.WriteFile(temporary, text, 0o644); err != nil { //nolint:gosec // units are for everybody to read, it holds no secret
		return false, fmt.Errorf("write the unit: %w", err)
	}
	if err := os.Rename(temporary, s.path()); err != nil {
		return false, fmt.Errorf("write the unit: %w", err)
	}
	return true, nil
}

func (s Service) systemctl(ctx context.Context, args ...string) error {
	if s.Systemctl != nil {
		return s.Systemctl(ctx, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
