// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var key = state.Key{Project: "shop", Environment: "dev"}

func words(t *testing.T, j *Journal) string {
	t.Helper()
	entries, err := j.Read(key)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Release+" "+e.Phase)
	}
	return strings.Join(all, ", ")
}

func TestNote(t *testing.T) {
	j := Open(t.TempDir() + "/history")
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	recorder, err := j.Recorder(key)
	if err != nil {
		t.Fatal(err)
	}
	note := func(e *state.Environment) {
		t.Helper()
		if _, err := recorder.Note(e, begun.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	deployment := func(name string, phases ...string) state.Deployment {
		d := state.Deployment{Name: "rollout-" + name, UID: "uid-" + name}
		d.Spec.Release.Name = name
		for i, phase := range phases {
			d.Timings = append(d.Timings, v1alpha1.PhaseTiming{Phase: phase, Started: metav1.NewMicroTime(begun.Add(time.Duration(i) * time.Second))})
		}
		return d
	}
	note(&state.Environment{})
	attempt := func(phase string) *state.Environment {
		return &state.Environment{Attempt: &state.Attempt{Deployment: deployment("a", v1alpha1.RolloutPulling, phase), Phase: phase}}
	}
	note(attempt(v1alpha1.RolloutPulling))
	note(attempt(v1alpha1.RolloutPulling))
	note(attempt(v1alpha1.RolloutStarting))
	healthy := deployment("a", v1alpha1.RolloutPulling, v1alpha1.RolloutStarting, v1alpha1.RolloutHealthy)
	healthy.HealthySince = begun.Add(2 * time.Second)
	note(&state.Environment{Current: &healthy})
	if recorder, err = j.Recorder(key); err != nil { // the agent starts anew
		t.Fatal(err)
	}
	note(&state.Environment{Current: &healthy})
	sick := healthy
	sick.HealthySince = time.Time{}
	note(&state.Environment{Current: &sick})
	note(&state.Environment{Current: &healthy, Failed: []state.Failure{{
		UID: "uid-b", Release: "b", Phase: v1alpha1.RolloutRolledBack, Reason: "Unhealthy", Message: "web: exited 1", At: begun.Add(time.Hour),
		Timings: deployment("b", v1alpha1.RolloutPulling, v1alpha1.RolloutStarting).Timings,
	}}})
	want := "a Pulling, a Starting, a Healthy, a Unhealthy, b RolledBack, a Healthy"
	if got := words(t, j); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	entries, err := j.Read(key)
	if err != nil {
		t.Fatal(err)
	}
	if e := entries[2]; e.Took != 2000 || e.Project != "shop" || e.Rollout != "rollout-a" {
		t.Errorf("healthy: %+v", e)
	}
	if e := entries[4]; e.Reason != "Unhealthy" || e.Message != "web: exited 1" || e.Took != time.Hour.Milliseconds() {
		t.Errorf("rolled back: %+v", e)
	}
	if keys, err := j.Keys(); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// Whatever a crash or a disk does to a line, the others are read and the next ones are written.
func TestSpoiledLines(t *testing.T) {
	j := Open(t.TempDir())
	add := func(release string) {
		t.Helper()
		if err := j.Append(key, Entry{Release: release, Phase: "Healthy"}); err != nil {
			t.Fatal(err)
		}
	}
	add("a")
	add("b")
	path := j.path(key, suffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, c := range map[string]struct{ content, want string }{
		"torn":          {string(whole[:len(whole)-5]), "a Healthy, c Healthy"},
		"torn to a bit": {lines[0] + "1", "a Healthy, c Healthy"},
		"flipped":       {strings.Replace(lines[0], `"a"`, `"x"`, 1) + lines[1], "b Healthy, c Healthy"},
		"zeros":         {lines[0] + strings.Repeat("\x00", 5000) + "\n" + lines[1], "a Healthy, b Healthy, c Healthy"},
		"long":          {lines[0] + strings.Repeat("x", 3*maxLine) + "\n" + lines[1], "a Healthy, b Healthy, c Healthy"},
		"long and torn": {lines[0] + strings.Repeat("x", 3*maxLine), "a Healthy, c Healthy"},
		"empty":         {"", "c Healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			add("c")
			if got := words(t, j); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestBounded(t *testing.T) {
	j := Open(t.TempDir())
	var batch []Entry
	for i := range 100 {
		batch = append(batch, Entry{Release: fmt.Sprint(i), Phase: "Healthy", Message: strings.Repeat("m", 1000)})
	}
	for range 30 {
		if err := j.Append(key, batch...); err != nil {
			t.Fatal(err)
		}
	}
	var size int64
	for _, end := range []string{suffix, oldSuffix} {
		info, err := os.Stat(j.path(key, end))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 3*maxFile {
		t.Errorf("%d bytes", size)
	}
	entries, err := j.Read(key)
	if err != nil || len(entries) < 100 || entries[len(entries)-1].Release != "99" {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}
