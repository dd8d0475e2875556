// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/test/faults/oracle"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// testStateFile damages the state file while the agent is down. What runs goes on; nothing is deployed on top of a state that
// cannot be trusted until a person has looked, and a file that is gone loses nothing that the control plane knows.
func testStateFile(t *testing.T, e *testbed.Engine) {
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		gone   bool
	}{
		{"truncated", func(b []byte) []byte { return b[:len(b)/2] }, false},
		{"empty", func([]byte) []byte { return nil }, false},
		{"garbage", func(b []byte) []byte { return bytes.Repeat([]byte{0xff, 0}, len(b)/2) }, false},
		{"one bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, false},
		{"gone", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e)
			w.run()
			first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
			w.await(first, v1alpha1.RolloutHealthy)
			before := w.only()
			w.agent.Stop()
			file := filepath.Join(w.data, "state", w.project+".dev.json")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if c.gone {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, c.damage(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Forgot, What: "state " + c.name})
			w.run()
			said := "deploys the same again, touching nothing"
			if c.gone {
				wait(w, "the state to be written anew", func() error {
					if e := w.stored(); e.Current == nil {
						return fmt.Errorf("%+v", e)
					}
					return w.agent.Alive()
				})
				w.await(first, v1alpha1.RolloutHealthy)
			} else {
				second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy))
				status := w.await(second, v1alpha1.RolloutPending)
				if said = status.Message; !strings.Contains(said, "the state file is damaged") {
					t.Errorf("message %q", said)
				}
				w.agent.Stop()
				if err := os.Remove(file); err != nil { // a person has looked
					t.Fatal(err)
				}
				w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Forgot, What: "state removed"})
			}
			if after := w.only(); after.ID != before.ID || after.State != "running" {
				t.Errorf("the container was touched: %+v, before %+v", after, before)
			}
			if !c.gone {
				w.run()
				w.serves("2")
				w.await(first, v1alpha1.RolloutSuperseded)
			}
			w.judge()
			note(t, "nothing touched", "%q", said)
		})
	}
	t.Run("disk full", func(t *testing.T) {
		t.Parallel()
		testStateDiskFull(t, e)
	})
}

// testStateDiskFull fills the disk of the agent's state: nothing goes on that could not be written down, and everything does
// once there is room.
func testStateDiskFull(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	small := filepath.Join(t.TempDir(), "small")
	testbed.SmallDisk(t, small, 32<<20) // the agent does not begin with less than 16 MiB
	w.data = filepath.Join(small, "agent")
	w.enrolled(w.data, w.server, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	before := w.only()
	ballast := filepath.Join(small, "ballast")
	fillDisk(t, ballast)
	w.disturb("disk filled", "")
	second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy))
	wait(w, "the agent to say that its disk is full, and again when it has tried once more", func() error {
		if strings.Count(w.said.String(), "no space left on device") < 2 {
			return fmt.Errorf("%s", w.said.Tail(3))
		}
		return w.agent.Alive()
	})
	if after := w.only(); after.ID != before.ID {
		t.Errorf("the container was replaced although it could not be written down: %+v", after)
	}
	told := w.status(second)
	if told.Phase == v1alpha1.RolloutHealthy {
		t.Errorf("%+v", told)
	}
	// Killed now, it knows what it knew.
	w.kill()
	w.run()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.await(second, v1alpha1.RolloutHealthy)
	w.serves("2")
	w.judge()
	note(t, "held, then healthy", "meanwhile it said %s %q", told.Phase, told.Message)
}

// fillDisk writes a file until nothing more fits.
func fillDisk(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
}

// testImagesDiskFull gives the engine a disk that a second image does not fit on, which is seen before anything is fetched;
// then one that is filled while the second image is on its way.
func testImagesDiskFull(t *testing.T, _ *testbed.Engine) {
	e := testbed.PrepareEngine(t)
	data := filepath.Join(e.Dir, "data")
	testbed.SmallDisk(t, data, 400<<20)
	e.Start()
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	before := w.only()
	failed := func(name string) v1alpha1.RolloutStatus {
		t.Helper()
		status := w.await(name, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHealthy)
		if status.Phase != v1alpha1.RolloutFailed || !strings.Contains(status.Message, "nothing was touched, r1 keeps serving") {
			t.Errorf("%s: %q, serving %d", status.Phase, status.Message, status.ServingSequence)
		}
		if after := w.only(); after.ID != before.ID {
			t.Errorf("the container was touched: %+v", after)
		}
		w.serves("1")
		return status
	}
	seen := failed(w.send(w.web(w.hub.image("big", 60<<20, "VERSION=2"), v1alpha1.RolloutFailed)))

	// There is room when it begins, and none any more when the layers come.
	image := w.hub.image("late", 8<<20, "VERSION=3")
	asked, release := make(chan struct{}, 64), make(chan struct{})
	w.hub.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if isLayer(r) {
			asked <- struct{}{}
			<-release
		}
		return false
	})
	name := w.send(w.web(image, v1alpha1.RolloutFailed))
	<-asked
	ballast := filepath.Join(data, "ballast")
	fillDisk(t, ballast)
	w.disturb("disk filled", "")
	close(release)
	w.hub.misbehave(nil)
	late := failed(name)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	// What fits still arrives.
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=4"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("4")
	w.judge()
	note(t, "nothing touched", "before it was fetched: %q; while it was fetched: %q", seen.Message, late.Message)
}
