// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// soon lies between a look at what a moment has not opened yet and that moment: more than the look takes on a busy machine, since
// the clock goes on meanwhile. The moment itself is the business of the tests of package rollout.
const soon = 2 * time.Minute

// row is what an environment says of a server.
func row(e *v1alpha1.Environment, server *server) v1alpha1.EnvironmentHost {
	for _, h := range e.Status.Hosts {
		if h.Name == server.name {
			return h
		}
	}
	return v1alpha1.EnvironmentHost{}
}

// Three hosts are served one after the other, by name: the next one begins when the one before is healthy.
func testOneAtATime(t *testing.T, w *world) {
	s := w.story(t, "orderly", v1alpha1.RolloutStrategy{MaxUnavailable: 1}, "    healthcheck: {test: [CMD, /app, health], interval: 1s}")
	for _, version := range []string{"1", "2"} {
		r := s.release(version)
		s.everywhere(r, dev)
		if order, most := s.course(r, dev); most != 1 || !slices.Equal(order, []string{"vps-a", "vps-b", "vps-c"}) {
			t.Errorf("release %s: %v got it, %d at the same time", version, order, most)
		}
		healthy := time.Time{}
		for _, server := range w.servers {
			made, well := server.moments(r.image, "create"), server.moments(r.image, "health_status: healthy")
			if len(made) != 1 || len(well) == 0 {
				t.Fatalf("%s made containers at %v, which were healthy at %v", server.name, made, well)
			}
			if made[0].Before(healthy) {
				t.Errorf("%s began at %s, and the one before was healthy at %s", server.name, made[0], healthy)
			}
			healthy = well[0]
			server.serves(t, s.port(dev), version)
		}
	}
}

// A bad release ends at the first host, which goes back by itself. Nobody else notices, until a good one comes.
func testStopOnFailure(t *testing.T, w *world) {
	s := w.story(t, "fragile", v1alpha1.RolloutStrategy{MaxUnavailable: 1})
	first, others := w.servers[0], w.servers[1:]
	good := s.release("1")
	s.everywhere(good, dev)
	before := s.snapshot(dev)

	bad := s.release("2", "SICK=1")
	s.phase(bad, dev, v1alpha1.PhaseRolledBack, first.name, "503")
	e := s.awaits(dev, "the hold", func(e *v1alpha1.Environment) error {
		if h := row(e, first); h.Phase != v1alpha1.RolloutRolledBack || h.Release != bad.name || h.Message == "" {
			return fmt.Errorf("%+v", h)
		}
		if e.Status.Current == nil || e.Status.Current.Release != good.name {
			return fmt.Errorf("current is %+v", e.Status.Current)
		}
		return holds(e.Status.Conditions, v1alpha1.ConditionHeld, bad.name)
	})
	if held := e.Status.Hold; held == nil || !strings.Contains(held.Message, first.name) {
		t.Errorf("held: %+v", held)
	}
	s.tells(first.name, "RolledBack", bad.name, "kubectl sirrat resume dev")
	s.runsOn(first, dev, good)
	s.untouched(before, dev, others...)
	s.never(bad, others...)
	if order, _ := s.course(bad, dev); !slices.Equal(order, []string{first.name}) {
		t.Errorf("the bad release was sent to %v", order)
	}

	w.sirrat(t, "resume", dev, "--yes", "-n", s.project)
	s.everywhere(s.release("3"), dev)
	s.never(bad, others...)
}

// Two of three hosts are enough: the one that fails keeps what it had, and the others go on.
func testSuccessThreshold(t *testing.T, w *world) {
	s := w.story(t, "tolerant", v1alpha1.RolloutStrategy{MaxUnavailable: 1, SuccessThreshold: ptr.To[int32](60)})
	one := s.release("1")
	s.everywhere(one, dev)
	failing := w.servers[1]
	failing.put(t, failing.only(t, s.stack(dev)).id, "/data", "broken")

	two := s.release("2", "SICK_FILE=/data/broken")
	s.phase(two, dev, v1alpha1.PhaseHealthy, "healthy on 2 of 3 hosts, 2 needed", "tolerated: "+failing.name)
	s.awaits(dev, "the outcome", func(e *v1alpha1.Environment) error {
		if h := row(e, failing); h.Phase != v1alpha1.RolloutRolledBack || h.Release != two.name || h.Message == "" {
			return fmt.Errorf("%+v", h)
		}
		if st := e.Status; st.HostsSummary != "2/3" || st.LastGood == nil || st.LastGood.Release != two.name || st.Hold != nil || st.Waiting != "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	s.tells(failing.name + " RolledBack " + two.name)
	s.runsOn(w.servers[0], dev, two)
	s.runsOn(failing, dev, one)
	s.runsOn(w.servers[2], dev, two)
	if order, most := s.course(two, dev); len(order) != 3 || most != 1 {
		t.Errorf("%v got it, %d at the same time", order, most)
	}
}

// Two hosts, a pause, then the third: at its end to the moment, and not before.
func testPause(t *testing.T, w *world) {
	const pause = 10 * time.Minute
	s := w.story(t, "paced", v1alpha1.RolloutStrategy{MaxUnavailable: 2, Pause: metav1.Duration{Duration: pause}})
	last := w.servers[2]
	r := s.release("1")
	e := s.awaits(dev, "the pause", func(e *v1alpha1.Environment) error {
		if e.Status.Batch == nil || !strings.HasPrefix(e.Status.Waiting, "pause until ") {
			return errors.New("no pause")
		}
		return nil
	})
	until := e.Status.Batch.Since.Add(pause)
	if said := "pause until " + until.UTC().Format(time.RFC3339); e.Status.Waiting != said || e.Status.Batch.Hosts != 2 {
		t.Errorf("%q after %+v, want %q", e.Status.Waiting, e.Status.Batch, said)
	}
	s.tells(e.Status.Waiting)
	s.runsOn(w.servers[0], dev, r)
	s.runsOn(w.servers[1], dev, r)

	s.at(until.Add(-soon), dev)
	s.tells(e.Status.Waiting)
	s.never(r, last)
	if order, most := s.course(r, dev); slices.Contains(order, last.name) || most > 2 {
		t.Errorf("before the end of the pause: %v, %d at the same time", order, most)
	}
	s.at(until, dev)
	s.everywhere(r, dev)
}

// A server outside of its maintenance window keeps what it has, and says until when; the others go on without it.
func testWindow(t *testing.T, w *world) {
	s := w.story(t, "closed", v1alpha1.RolloutStrategy{MaxUnavailable: 3})
	s.everywhere(s.release("1"), dev)
	before := s.snapshot(dev)
	closed := w.servers[1]
	from := theirs.now().UTC().Add(-time.Hour).Truncate(time.Minute)
	opens := from.Add(3 * time.Hour)
	w.setHost(closed, fmt.Sprintf(`{"spec":{"window":{"timeZone":"UTC","deny":[{"start":%q,"duration":"3h","reason":"inventory"}]}}}`, from.Format("2006-01-02T15:04")))
	t.Cleanup(func() { w.setHost(closed, `{"spec":{"window":null}}`) })

	r := s.release("2")
	said := "opens at " + opens.Format(time.RFC3339)
	s.awaits(dev, "the others to have it", func(e *v1alpha1.Environment) error {
		if e.Status.HostsSummary != "2/3" || e.Status.Waiting != "host "+closed.name+" "+said || row(e, closed).Message != said {
			return fmt.Errorf("%s", e.Status.HostsSummary)
		}
		return nil
	})
	s.phase(r, dev, v1alpha1.PhaseDeploying, closed.name+": not sent yet: "+said)
	s.tells("host " + closed.name + " " + said)
	s.runsOn(w.servers[0], dev, r)
	s.runsOn(w.servers[2], dev, r)
	s.at(opens.Add(-soon), dev)
	s.untouched(before, dev, closed)
	s.never(r, closed)

	s.at(opens, dev)
	s.everywhere(r, dev)
}

// Two projects and two environments of one of them on each server: one release goes through, another one fails on every server
// at the same time, and the third environment notices nothing.
func testNeighbours(t *testing.T, w *world) {
	calm := w.story(t, "neighbour", v1alpha1.RolloutStrategy{MaxUnavailable: 3})
	calm.staged()
	rowdy := w.story(t, "rowdy", v1alpha1.RolloutStrategy{MaxUnavailable: 3})
	one, first := calm.release("1"), rowdy.release("1")
	calm.everywhere(one, dev)
	calm.approve(one)
	calm.everywhere(one, stage)
	rowdy.everywhere(first, dev)
	before := calm.snapshot(stage)

	two, bad := calm.release("2"), rowdy.release("2", "SICK=1")
	calm.everywhere(two, dev)
	after := calm.snapshot(dev)
	rowdy.phase(bad, dev, v1alpha1.PhaseRolledBack)
	rowdy.goesBack(bad, first)
	if _, most := rowdy.course(bad, dev); most != 3 {
		t.Errorf("the bad release was under way on %d hosts at the same time", most)
	}
	calm.untouched(before, stage, w.servers...)
	calm.untouched(after, dev, w.servers...)
}

// goesBack waits until every server runs a good release again after a bad one: by itself, or because it was told to when another
// server had failed before it.
func (s *story) goesBack(bad, good release) {
	s.Helper()
	s.awaits(dev, good.name+" to be back", func(e *v1alpha1.Environment) error {
		for _, server := range s.w.servers {
			h := row(e, server)
			told := h.Phase == v1alpha1.RolloutHealthy && h.Release == good.name
			byItself := h.Phase == v1alpha1.RolloutRolledBack && h.Release == bad.name && strings.Contains(h.Message, good.name+" serves again")
			if !told && !byItself {
				return fmt.Errorf("%+v", h)
			}
		}
		return nil
	})
	for _, server := range s.w.servers {
		s.runsOn(server, dev, good)
	}
}

// A server that is off holds nobody up for ever, and runs the newest release when it is back: none that came and went meanwhile.
func testOff(t *testing.T, w *world) {
	s := w.story(t, "absent", v1alpha1.RolloutStrategy{MaxUnavailable: 2})
	off, others := w.servers[0], w.servers[1:]
	s.everywhere(s.release("1"), dev)
	before := s.snapshot(dev)
	off.agent.Stop()

	// Nobody has noticed yet: it has its order, which lies there, and takes one of two places.
	two := s.release("2")
	s.reaches(two, others)
	s.awaits(dev, "the one that is off", func(e *v1alpha1.Environment) error {
		if h := row(e, off); h.Phase != v1alpha1.RolloutPending || h.Release != two.name {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	if order, most := s.course(two, dev); len(order) != 3 || most != 2 {
		t.Errorf("%v got it, %d at the same time", order, most)
	}

	// Now somebody has: it gets nothing new, and is nobody's delay.
	w.setHost(off, fmt.Sprintf(`{"spec":{"heartbeatTimeout":"%s"}}`, time.Duration(theirs.ahead.Load())+5*time.Second))
	three := s.release("3")
	s.reaches(three, others)
	e := s.awaits(dev, "the one that is off to be missed", func(e *v1alpha1.Environment) error {
		if !strings.Contains(e.Status.Waiting, "host "+off.name+" has not been heard of since ") {
			return errors.New("not missed")
		}
		return nil
	})
	s.phase(three, dev, v1alpha1.PhaseDeploying, off.name+": has not been heard of since")
	s.tells(e.Status.Waiting)
	s.untouched(before, dev, off)
	if order, _ := s.course(three, dev); slices.Contains(order, off.name) {
		t.Errorf("%s was sent what it does not hear", off.name)
	}

	off.run(w.programs)
	s.everywhere(three, dev)
	s.never(two, off)
	w.setHost(off, `{"spec":{"heartbeatTimeout":"`+neverLost+`"}}`)
}

// reaches waits until servers run a release.
func (s *story) reaches(r release, servers []*server) {
	s.Helper()
	s.awaits(dev, r.name+" to arrive", func(e *v1alpha1.Environment) error {
		for _, server := range servers {
			if h := row(e, server); h.Phase != v1alpha1.RolloutHealthy || h.Release != r.name {
				return fmt.Errorf("%+v", h)
			}
		}
		return nil
	})
	for _, server := range servers {
		s.runsOn(server, dev, r)
	}
}
