// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/test/faults/oracle"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// testEngineKilled kills dockerd where it hurts, with and without its live restore.
func testEngineKilled(t *testing.T, _ *testbed.Engine) {
	for name, flags := range map[string][]string{"live restore off": nil, "live restore on": {"--live-restore"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testEngineKilledWith(t, flags...)
		})
	}
}

func testEngineKilledWith(t *testing.T, flags ...string) {
	e := testbed.NewEngine(t, flags...)
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	restart := func() {
		w.disturb("engine killed", "")
		e.Kill()
		e.Start()
	}

	// Half of an image has arrived.
	image := w.hub.image("big", 8<<20, "VERSION=2")
	asked, release := make(chan struct{}, 64), make(chan struct{})
	w.hub.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if isLayer(r) {
			asked <- struct{}{}
			<-release
		}
		return false
	})
	second := w.send(w.web(image, good...))
	<-asked
	restart()
	close(release)
	w.hub.misbehave(nil)
	w.await(second, v1alpha1.RolloutHealthy)
	w.serves("2")

	// The new container was created, and the old one perhaps stopped. An engine that is killed then may lose what it knows of a
	// port or of a healthcheck, so that the release fails: but never without something that serves in the end.
	outcomes := map[string]int{}
	for _, action := range []string{oracle.Create, oracle.Kill, oracle.Destroy, oracle.Start} {
		since := len(w.log.Entries())
		o := w.web(w.hub.image("app", 0, "VERSION=up "+action), append(bad, v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed)...)
		o.timeout = 20 * time.Second
		name := w.send(o)
		wait(w, "the engine to "+action, func() error {
			if !slices.ContainsFunc(w.log.Entries()[since:], func(e oracle.Entry) bool { return e.Kind == oracle.Container && e.Action == action }) {
				return fmt.Errorf("not yet: %v", w.status(name).Phase)
			}
			return nil
		})
		restart()
		ended := w.await(name, v1alpha1.RolloutHealthy, v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed)
		outcomes[ended.Phase]++
		if ended.Phase == v1alpha1.RolloutFailed {
			t.Logf("failed: %s", ended.Message)
			restart() // what its owner would do; the healing goes on by itself
		}
		wait(w, "something to serve", func() error {
			_, err := w.ask("/version")
			return err
		})
	}

	// A bad one is on its way back.
	before := w.sequence
	name := w.send(w.web(w.hub.image("app", 0, "VERSION=bad", "SICK=1"), append(bad, v1alpha1.RolloutFailed)...))
	wait(w, "the way back to begin", func() error {
		if attempt := w.stored().Attempt; attempt == nil || attempt.Failure == nil {
			return fmt.Errorf("%s", w.status(name).Phase)
		}
		return nil
	})
	restart()
	if ended := w.await(name, v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed); ended.Phase == v1alpha1.RolloutRolledBack && ended.ServingSequence > before {
		t.Errorf("%+v", ended)
	}
	wait(w, "something to serve", func() error {
		if version, err := w.ask("/version"); err != nil || version == "bad" {
			return fmt.Errorf("%s: %w", version, err)
		}
		return nil
	})
	last := w.send(w.web(w.hub.image("app", 0, "VERSION=last"), v1alpha1.RolloutHealthy))
	w.await(last, v1alpha1.RolloutHealthy)
	w.serves("last")
	if err := w.agent.Alive(); err != nil {
		t.Error(err)
	}
	r := w.judge()
	note(t, "serves each time", "killed mid-pull, mid-up (%v), on the way back; %s", outcomes, counts(r))
}

// testEngineAbsent starts the agent before the engine, and takes the engine away for a while.
func testEngineAbsent(t *testing.T, _ *testbed.Engine) {
	e := testbed.PrepareEngine(t)
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	wait(w, "the agent to say that no engine answers", func() error {
		if s := w.status(first); s.Phase == "" || s.Message == "" {
			return fmt.Errorf("%s: %q", s.Phase, s.Message)
		}
		return w.agent.Alive()
	})
	said := w.status(first).Message
	e.Start()
	w.await(first, v1alpha1.RolloutHealthy)
	w.serves("1")
	r := w.judge()
	note(t, "healthy once it was there", "it said %q; %s", said, counts(r))
}

// testEngineHangs puts a proxy between the agent and its engine that stops answering, while nothing and while something is
// going on.
func testEngineHangs(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	socket := filepath.Join(e.Dir, "proxy.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newRelay(t, listener, func() (net.Conn, error) { return net.Dial("unix", e.Socket()) })
	w.dockerHost = "unix://" + socket
	w.run()
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)

	// Everything hangs for a while, in the middle of a check.
	o := w.web(w.hub.image("app", 0, "VERSION=2"), good...)
	second := w.send(o)
	w.await(second, v1alpha1.RolloutStarting, v1alpha1.RolloutChecking, v1alpha1.RolloutHealthy)
	proxy.freeze()
	w.disturb("engine frozen", "")
	time.Sleep(3 * time.Second) // how long it hangs is what is being made
	proxy.thaw()
	w.await(second, v1alpha1.RolloutHealthy)
	w.serves("2")

	// The calls under way are never answered, and no event comes any more; new calls are answered. Whether the release arrives
	// or goes back depends on what was lost; it ends, and something serves.
	third := w.web(w.hub.image("app", 0, "VERSION=3"), append(bad, v1alpha1.RolloutHealthy)...)
	third.timeout = 20 * time.Second
	name := w.send(third)
	w.await(name, v1alpha1.RolloutStarting, v1alpha1.RolloutChecking, v1alpha1.RolloutHealthy)
	begin := time.Now()
	proxy.strand()
	w.disturb("engine's answers lost", "")
	ended := w.await(name, v1alpha1.RolloutHealthy, v1alpha1.RolloutRolledBack)
	took := time.Since(begin)
	wait(w, "something to serve", func() error {
		_, err := w.ask("/version")
		return err
	})
	// Connected anew, it sees events again.
	proxy.set(true)
	proxy.set(false)
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=4"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("4")
	r := w.judge()
	note(t, "recovered", "hung for 3 s: healthy; lost answers: %s after %s; %s", ended.Phase, took.Round(100*time.Millisecond), counts(r))
}
