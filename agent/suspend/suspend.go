// SPDX-License-Identifier: Apache-2.0

// Package suspend keeps, in the agent's data folder, by whose word an environment is left alone on this host: a file for each,
// written by the command line and read by the agent before it acts, so that it outlives restarts. A file that cannot be read
// suspends. A named pipe wakes a running agent.
//
// It may import agent/disk only.
package suspend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/agent/disk"
)

const (
	folder = "suspended"
	suffix = ".json"
	pipe   = "wake"
	// maxFile bounds what is read, in bytes.
	maxFile = 8 << 10
	// maxText bounds who and why, in bytes.
	maxText = 500
)

// Suspension says by whose word nothing is touched.
type Suspension struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	// By is who said so, Reason why; both are shown to people.
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	// Since when, and until when; a zero Until means until it is resumed.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

func (s Suspension) String() string {
	text := "by " + s.By + " on this host"
	if !s.Until.IsZero() {
		text += " until " + s.Until.UTC().Format(time.RFC3339)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func path(dataDir, project, environment string) (string, error) {
	if !validName.MatchString(project) || !validName.MatchString(environment) {
		return "", fmt.Errorf("%q: not the name of a project and an environment, like supergest/production", project+"/"+environment)
	}
	return filepath.Join(dataDir, folder, project+"."+environment+suffix), nil
}

// Set suspends an environment. When it returns nil, no decision that the agent takes from now on touches it.
func Set(dataDir string, s Suspension) error {
	name, err := path(dataDir, s.Project, s.Environment)
	if err != nil {
		return err
	}
	if len(s.By) > maxText || len(s.Reason) > maxText {
		return fmt.Errorf("a reason has at most %d bytes", maxText)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode suspension: %w", err)
	}
	if err := disk.MkdirPrivate(filepath.Dir(name)); err != nil {
		return err
	}
	return disk.WriteFile(name, text)
}

// Clear takes a suspension back; was is false when there was none.
func Clear(dataDir, project, environment string) (was bool, err error) {
	name, err := path(dataDir, project, environment)
	if err != nil {
		return false, err
	}
	err = os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("resume: %w", err)
	}
	return true, nil
}

// Get is the suspension that holds now; nil when none does. It is cheap: one look for a file.
func Get(dataDir, project, environment string, now time.Time) *Suspension {
	name, err := path(dataDir, project, environment)
	if err != nil {
		return nil // it has no file, and never will
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unreadable := func(err error) *Suspension {
		return &Suspension{Project: project, Environment: environment, By: "a file that cannot be read", Reason: err.Error()}
	}
	if err != nil {
		return unreadable(err)
	}
	if info.Size() > maxFile {
		return unreadable(fmt.Errorf("%s is too long", name))
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) { // resumed in between
		return nil
	}
	if err != nil {
		return unreadable(err)
	}
	var s Suspension
	if err := json.Unmarshal(text, &s); err != nil {
		return unreadable(fmt.Errorf("%s: %w", name, err))
	}
	if !s.Until.IsZero() && !now.Before(s.Until) {
		return nil
	}
	s.Project, s.Environment = project, environment
	return &s
}

// List is every suspension that holds now, in the order of their names.
func List(dataDir string, now time.Time) ([]Suspension, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list suspensions: %w", err)
	}
	var out []Suspension
	for _, entry := range entries {
		name, isFile := strings.CutSuffix(entry.Name(), suffix)
		project, environment, split := strings.Cut(name, ".")
		if !isFile || !split {
			continue
		}
		if s := Get(dataDir, project, environment, now); s != nil {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b Suspension) int {
		return strings.Compare(a.Project+"/"+a.Environment, b.Project+"/"+b.Environment)
	})
	return out, nil
}

// Wake tells a running agent to look again; running is false when none listens.
func Wake(dataDir string) (running bool, err error) {
	f, err := os.OpenFile(filepath.Join(dataDir, pipe), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENXIO):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("wake the agent: %w", err)
	}
	defer f.Close()
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return false, fmt.Errorf("wake the agent: %w", err)
	}
	return true, nil
}

// Listen calls woken whenever somebody wakes the agent of a data folder, until ctx ends.
func Listen(ctx context.Context, dataDir string, woken func()) error {
	name := filepath.Join(dataDir, pipe)
	if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeNamedPipe == 0 {
		return fmt.Errorf("%s is not a named pipe", name)
	} else if errors.Is(err, fs.ErrNotExist) {
		if err := syscall.Mkfifo(name, 0o600); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	// For writing too: else the end of the last writer would be the end of the file.
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	buffer := make([]byte, 256)
	for {
		if _, err := f.Read(buffer); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read %s: %w", name, err)
		}
		woken()
	}
}
