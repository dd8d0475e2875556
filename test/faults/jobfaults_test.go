// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/test/faults/oracle"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// testIrreversible kills the agent while the job of a release that cannot be taken back runs. One that ends well goes on, one
// that fails or whose end nobody knows is held: the old one is not touched, nothing goes back, and no job runs twice.
func testIrreversible(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.migrating(w.hub.image("app", 0, "VERSION=0"), good...)), v1alpha1.RolloutHealthy)
	for _, c := range []struct {
		name string
		env  []string
		// lose removes the job's container while the agent is dead.
		lose bool
		want string
	}{
		{"arrives", nil, false, v1alpha1.RolloutHealthy},
		{"fails", []string{"JOB_EXIT=3"}, false, v1alpha1.RolloutHeld},
		{"is lost", nil, true, v1alpha1.RolloutHeld},
	} {
		before, since := w.only(), len(w.log.Entries())
		o := w.migrating(w.hub.image("app", 0, append(c.env, "JOB_TIME=2s", "VERSION="+c.name)...), c.want, v1alpha1.RolloutSuperseded)
		o.irreversible = true
		name := w.send(o)
		var job string
		wait(t, "the job to run", func() error {
			for _, e := range w.log.Entries()[since:] {
				if e.Kind == oracle.Container && e.Action == oracle.Start && e.Service == "migrate" {
					job = e.ID
					return nil
				}
			}
			return fmt.Errorf("%s", w.status(name).Phase)
		})
		w.kill()
		if phase := w.phaseOnDisk(); phase != v1alpha1.RolloutMigrating {
			t.Errorf("killed in %s", phase)
		}
		if c.lose {
			w.disturb("removed by hand", job)
			w.removeContainer(job)
		}
		w.run()
		status := w.await(name, v1alpha1.RolloutHealthy, v1alpha1.RolloutHeld, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack)
		if status.Phase != c.want {
			t.Errorf("%s: %s %q", c.name, status.Phase, status.Message)
		}
		if c.want != v1alpha1.RolloutHeld {
			w.serves(c.name)
			continue
		}
		if after := w.only(); after.ID != before.ID || after.State != "running" {
			t.Errorf("%s: the old container was touched: %+v", c.name, after)
		}
		if !strings.Contains(status.Message, "cannot be taken back") {
			t.Errorf("%s: message %q", c.name, status.Message)
		}
		// A kill does not make it forget that there is no way back.
		w.kill()
		w.run()
		w.await(name, v1alpha1.RolloutHeld)
	}
	w.await(w.send(w.migrating(w.hub.image("app", 0, "VERSION=mended"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("mended")
	r := w.judge()
	jobs := r.Count(func(e oracle.Entry) bool {
		return e.Kind == oracle.Container && e.Action == oracle.Start && e.Service == "migrate"
	})
	note(t, "held, never twice", "%d jobs started; %s", jobs, counts(r))
}

// testRemovalKilled kills the agent while an environment is being taken down, at each thing that it does. Nothing is left but
// the named volume, and nothing comes back until a new release is let in.
func testRemovalKilled(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	var killed []string
	for i, moment := range []string{"begun", oracle.Kill, oracle.Die, oracle.Destroy, "done"} {
		o := w.migrating(w.hub.image("app", 0, fmt.Sprintf("VERSION=%d", i)), good...)
		first := w.send(o)
		w.await(first, v1alpha1.RolloutHealthy)
		since := len(w.log.Entries())
		tombstone := order{timeout: time.Minute, remove: &v1alpha1.Removal{}, ends: []string{v1alpha1.RolloutRemoved, v1alpha1.RolloutSuperseded}}
		name := w.send(tombstone)
		wait(t, moment, func() error {
			switch attempt := w.stored().Attempt; {
			case moment == "begun" && attempt == nil, moment == "done" && w.status(name).Phase != v1alpha1.RolloutRemoved:
			case moment == "begun", moment == "done":
				return nil
			case slices.ContainsFunc(w.log.Entries()[since:], func(e oracle.Entry) bool { return e.Kind == oracle.Container && e.Action == moment }):
				return nil
			}
			return fmt.Errorf("%s", w.status(name).Phase)
		})
		w.kill()
		killed = append(killed, moment+": "+w.phaseOnDisk())
		w.run()
		w.await(name, v1alpha1.RolloutRemoved)
		w.await(first, v1alpha1.RolloutSuperseded)
		if left := w.containers(); len(left) > 0 {
			t.Errorf("killed at %s: left %+v", moment, left)
		}
		if n := w.volumes(); n != 1 {
			t.Errorf("killed at %s: %d volumes", moment, n)
		}
	}
	last := order{timeout: time.Minute, remove: &v1alpha1.Removal{Volumes: true}, ends: []string{v1alpha1.RolloutRemoved}}
	w.await(w.send(last), v1alpha1.RolloutRemoved)
	if n := w.volumes(); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
	r := w.judge()
	note(t, "removed each time", "killed at %s; %s", strings.Join(killed, ", "), counts(r))
}
