// SPDX-License-Identifier: Apache-2.0

package converge

import (
	"fmt"
	"testing"

	"gitlab.com/dynors/sirrat/agent/health"
)

func some(n int, hash string) []Container {
	list := make([]Container, n)
	for i := range list {
		list[i] = Container{Container: health.Container{ID: fmt.Sprint(hash, i), State: health.StateRunning}, Hash: hash, Number: i + 1}
	}
	return list
}

// From whatever there is, rounds end with all new containers and no old one; never do fewer than promised serve, and never
// are more replaced at a time than allowed.
func TestRoundsConverge(t *testing.T) {
	cases := 0
	for _, order := range []Order{StopFirst, StartFirst} {
		for replicas := 1; replicas <= 6; replicas++ {
			for parallelism := 0; parallelism <= replicas+1; parallelism++ {
				for fresh := 0; fresh <= replicas; fresh++ {
					for old := 0; old <= 2*replicas+1; old++ {
						s := Service{Name: "web", Replicas: replicas, Manner: Manner{Order: order, Parallelism: parallelism}}
						checkRounds(t, s, fresh, old)
						cases++
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

func checkRounds(t *testing.T, s Service, fresh, old int) {
	t.Helper()
	name := fmt.Sprintf("%s, %d replicas, parallelism %d, %d new, %d old", s.Manner.Order, s.Replicas, s.Manner.Parallelism, fresh, old)
	atATime := s.Replicas
	if s.Manner.Parallelism > 0 {
		atATime = min(s.Replicas, s.Manner.Parallelism)
	}
	whole := fresh+old >= s.Replicas // else something was missing from the beginning
	for range 4 * (s.Replicas + 2) {
		switch r := NextRound(s, some(fresh, "new"), some(old, "old")); {
		case r.Done:
			if fresh != s.Replicas || old != 0 {
				t.Fatalf("%s: done with %d new and %d old", name, fresh, old)
			}
			return
		case r.Create > 0:
			if r.Create > atATime {
				t.Fatalf("%s: %d at a time", name, r.Create)
			}
			fresh += r.Create
		case len(r.Retire) > 0:
			if s.Manner.Order == StartFirst && fresh == 0 {
				t.Fatalf("%s: an old one goes before anything is new", name)
			}
			old -= len(r.Retire)
			if least := s.Replicas - atATime; whole && s.Manner.Order == StopFirst && fresh+old < least {
				t.Fatalf("%s: only %d serve, promised %d", name, fresh+old, least)
			}
			if whole && s.Manner.Order == StartFirst && fresh+old < s.Replicas {
				t.Fatalf("%s: only %d serve", name, fresh+old)
			}
		default:
			t.Fatalf("%s: nothing to do with %d new and %d old", name, fresh, old)
		}
	}
	t.Fatalf("%s: no end", name)
}

func TestLeftovers(t *testing.T) {
	s := Service{Name: "web", Replicas: 2}
	serving := some(2, "a")
	starting := some(2, "b")
	for i := range starting {
		starting[i].Check = health.CheckStarting
	}
	exited := Container{Container: health.Container{ID: "x", State: health.StateExited}}
	for name, c := range map[string]struct {
		old  []Container
		want int
	}{
		"all serve":                       {serving, 0},
		"two serve, two never got ready":  {append(append([]Container{}, serving...), starting...), 2},
		"one serves, two never got ready": {append(append([]Container{}, serving[:1]...), starting...), 1},
		"none serves":                     {starting, 0},
		"one has ended":                   {append(append([]Container{}, serving...), exited), 1},
	} {
		if got := Leftovers(s, c.old); len(got) != c.want {
			t.Errorf("%s: %d, want %d", name, len(got), c.want)
		}
	}
}
