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
	"gitlab.com/dynors/sirrat/test/faults/oracle"
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

// maxAgain is how often the boundaries that the next one follows closely are tried again, where on a busy machine the kill came
// too late.
const maxAgain = 4

// killAtEach kills at every boundary, and then until it did so, by what was on disk, in each of the wanted phases.
func killAtEach(t *testing.T, e *testbed.Engine, mask uint32, bad bool, wanted ...string) {
	t.Helper()
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.migrating(w.hub.image("app", 0, "VERSION=0"), good...)), v1alpha1.RolloutHealthy)
	d := w.diary(mask)
	killed := map[string]int{}
	missing := func(phase string) bool { return killed[phase] == 0 }
	end := 1
	for w.killAt(d, end, bad, killed) {
		end++
	}
	for range maxAgain {
		for _, n := range []int{1, 2, end - 4, end - 3, end - 2, end - 1} {
			if n > 0 && slices.ContainsFunc(wanted, missing) {
				w.killAt(d, n, bad, killed)
			}
		}
	}
	r := w.judge()
	note(t, "arrived each time", "killed in %v; %s", killed, counts(r))
	for _, phase := range wanted {
		if missing(phase) {
			t.Errorf("never killed in %s: %v", phase, killed)
		}
	}
}

// killAt kills the agent at the nth boundary of a rollout, counts where it stood, and lets the rollout arrive. false: it ended
// before.
func (w *world) killAt(d *diary.Diary, n int, bad bool, killed map[string]int) bool {
	w.Helper()
	env, ends := []string{fmt.Sprint("VERSION=", w.sequence)}, good
	if bad {
		env, ends = append(env, "SICK=1"), []string{v1alpha1.RolloutRolledBack}
	}
	d.Forget()
	name := w.send(w.migrating(w.hub.image("app", 0, env...), ends...))
	if bad && !long {
		w.await(name, v1alpha1.RolloutChecking)
		d.Forget()
	}
	ended := func() bool {
		phase := w.status(name).Phase
		return phase == v1alpha1.RolloutHealthy || phase == v1alpha1.RolloutRolledBack || phase == v1alpha1.RolloutFailed
	}
	struck := d.Moments(n, ended) >= n
	if struck {
		w.kill()
		killed[w.phaseOnDisk()]++
		w.run()
	}
	w.await(name, ends[0])
	return struck
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
			// Failed, when a newer one takes over before the old one is seen to serve again.
			last = w.send(make(w, w.hub.image("app", 0, fmt.Sprintf("VERSION=%d", n), "SICK=1"), append([]string{v1alpha1.RolloutFailed}, bad...)...))
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
	for _, name := range failedUnasked(r) {
		t.Errorf("%s ended as failed, and no newer release had taken over", name)
	}
	for _, c := range r.Final {
		if c.Image != end {
			t.Errorf("at the end there is %+v", c)
		}
	}
	note(t, "arrived", "%d kills, %d good and %d bad rollouts, seed %d; %s", times, sent["good"], sent["bad"], seed, counts(r))
}

// failedUnasked are the releases that were to go back, failed instead, and had no newer one to take over from them.
func failedUnasked(r oracle.Record) (names []string) {
	newest, orders := int64(0), map[string]*oracle.Order{}
	for _, e := range r.Entries {
		if e.Order != nil {
			newest, orders[e.Order.Rollout] = max(newest, e.Order.Sequence), e.Order
		}
		if o := orders[e.Rollout]; e.Phase == v1alpha1.RolloutFailed && o != nil && !o.StartFirst && o.Sequence == newest {
			names = append(names, o.Rollout)
		}
	}
	return names
}
