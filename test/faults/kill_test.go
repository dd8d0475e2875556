// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/diary"
	"gitlab.com/dynors/sirrat/test/testbed"
)

func testKills(t *testing.T, e *testbed.Engine) {
	t.Run("boundaries", func(t *testing.T) { testKillAtBoundaries(t, e) })
	t.Run("random", func(t *testing.T) {
		t.Parallel()
		testKillAtRandom(t, e, kills, (*world).web)
	})
	t.Run("random, start first", func(t *testing.T) {
		t.Parallel()
		testKillAtRandom(t, e, kills/2, (*world).twins)
	})
}

// diary follows the state folder: every save is a boundary between two phases.
func (w *world) diary(mask uint32) *diary.Diary {
	w.Helper()
	w.stored() // makes the folder
	return diary.Open(w, mask, filepath.Join(w.data, "state"))
}

// testKillAtBoundaries kills the agent at the first save of a rollout, then at the second one of the next rollout, and so on
// until a rollout ends before: good ones that replace each other, and bad ones that go back. All have a job that runs first.
// Unless there is time, the saves of bad ones count from Checking on only.
func testKillAtBoundaries(t *testing.T, e *testbed.Engine) {
	moments := map[string]uint32{"saved": diary.HasSaved}
	if long {
		moments["begins to save"], moments["has written"] = diary.BeginsToSave, diary.HasWritten
	}
	for moment, mask := range moments {
		t.Run(moment+", good", func(t *testing.T) {
			t.Parallel()
			var wanted []string // to miss one that was saved would mean that the boundaries are not seen
			if mask == diary.HasSaved {
				wanted = []string{
					v1alpha1.RolloutPreflight, v1alpha1.RolloutPulling, v1alpha1.RolloutMigrating, v1alpha1.RolloutStarting, v1alpha1.RolloutChecking,
				}
			}
			killAtEach(t, e, mask, false, wanted...)
		})
		t.Run(moment+", bad", func(t *testing.T) {
			t.Parallel()
			killAtEach(t, e, mask, true, goingBack)
		})
	}
}

// lastSaves are the boundaries that follow each other so closely that on a busy machine the kill may come after the next one:
// they are tried again, so often at most.
const lastSaves, maxAgain = 4, 4

// killAtEach kills until it did so, by what was on disk then, in each of the wanted phases.
func killAtEach(t *testing.T, e *testbed.Engine, mask uint32, bad bool, wanted ...string) {
	t.Helper()
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.migrating(w.hub.image("app", 0, "VERSION=0"), good...)), v1alpha1.RolloutHealthy)
	d := w.diary(mask)
	killed := map[string]int{}
	env, ends := []string{}, good
	if bad {
		env, ends = []string{"SICK=1"}, []string{v1alpha1.RolloutRolledBack}
	}
	for n, sent, again := 1, 0, 0; ; n++ {
		d.Forget()
		sent++
		name := w.send(w.migrating(w.hub.image("app", 0, append(env, fmt.Sprint("VERSION=", sent))...), ends...))
		if bad && !long {
			w.await(name, v1alpha1.RolloutChecking)
			d.Forget()
		}
		ended := func() bool {
			phase := w.status(name).Phase
			return phase == v1alpha1.RolloutHealthy || phase == v1alpha1.RolloutRolledBack || phase == v1alpha1.RolloutFailed
		}
		if d.Moments(n, ended) < n {
			w.await(name, ends[0])
			if again++; again > maxAgain || !slices.ContainsFunc(wanted, func(phase string) bool { return killed[phase] == 0 }) {
				break
			}
			n = max(0, n-1-lastSaves)
			continue
		}
		w.kill()
		killed[w.phaseOnDisk()]++
		w.run()
		w.await(name, ends[0])
	}
	r := w.judge()
	note(t, "arrived each time", "killed in %v; %s", killed, counts(r))
	for _, phase := range wanted {
		if killed[phase] == 0 {
			t.Errorf("never killed in %s: %v", phase, killed)
		}
	}
}

// What phaseOnDisk says beside phases.
const (
	goingBack       = "going back"
	betweenRollouts = "none"
)

// phaseOnDisk is where the agent stood when it was killed.
func (w *world) phaseOnDisk() string {
	w.Helper()
	switch attempt := w.stored().Attempt; {
	case attempt == nil:
		return betweenRollouts
	case attempt.Failure != nil:
		return goingBack
	default:
		return attempt.Phase
	}
}

// testKillAtRandom kills the agent again and again, while good, bad and newer rollouts come at random moments too. make is what
// a rollout is.
func testKillAtRandom(t *testing.T, e *testbed.Engine, times int, make func(w *world, image string, ends ...string) order) {
	dice := random(t.Name())
	w := newWorld(t, e)
	w.run()
	w.await(w.send(make(w, w.hub.image("app", 0, "VERSION=0"), good...)), v1alpha1.RolloutHealthy)
	last := ""
	sent := map[string]int{}
	send := func() {
		n := w.sequence + 1
		if dice.IntN(3) == 0 {
			sent["bad"]++
			last = w.send(make(w, w.hub.image("app", 0, fmt.Sprintf("VERSION=%d", n), "SICK=1"), bad...))
			return
		}
		sent["good"]++
		last = w.send(make(w, w.hub.image("app", 0, fmt.Sprintf("VERSION=%d", n)), good...))
	}
	ended := func(name string) bool {
		phase := w.status(name).Phase
		return phase == v1alpha1.RolloutHealthy || phase == v1alpha1.RolloutRolledBack || phase == v1alpha1.RolloutFailed
	}
	send()
	for range times {
		if ended(last) || dice.IntN(6) == 0 {
			send()
		}
		// The moment of the kill is what is being varied, not a wait for something to happen.
		time.Sleep(time.Duration(dice.IntN(2000)) * time.Millisecond)
		w.kill()
		if dice.IntN(8) == 0 {
			send() // while nobody looks
		}
		w.run()
	}
	w.await(last, v1alpha1.RolloutHealthy, v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed) // which of them is right the oracle knows
	end := w.hub.image("app", 0, "VERSION=last")
	w.await(w.send(make(w, end, v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	r := w.judge()
	for _, c := range r.Final {
		if c.Image != end {
			t.Errorf("at the end there is %+v", c)
		}
	}
	note(t, "arrived", "%d kills, %d good and %d bad rollouts, seed %d; %s", times, sent["good"], sent["bad"], seed, counts(r))
}
