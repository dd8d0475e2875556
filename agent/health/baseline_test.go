// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
	"time"
)

func probes(results string) []Probe {
	var list []Probe
	for i, r := range results {
		list = append(list, Probe{At: now.Add(time.Duration(i-len(results)) * time.Second), OK: r == '+'})
	}
	return list
}

// A healthcheck that turned from well to not well must stay well for longer with each turn; first failures are no turn.
func TestStrict(t *testing.T) {
	plain := []Service{{Name: "web", Image: image, Replicas: 1}}
	for name, c := range map[string]struct {
		change   func(*Container)
		turns    int
		status   Status
		hopeless bool
		message  string
		next     time.Duration
	}{
		"well":              {func(c *Container) { c.Probes = probes("+++") }, 0, Healthy, false, "", 0},
		"late start":        {func(c *Container) { c.Probes = probes("--+") }, 0, Healthy, false, "", 0},
		"failed last":       {func(c *Container) { c.Probes = probes("++-") }, 1, Waiting, false, "failed the last time", probeLook},
		"turned":            {func(c *Container) { c.Probes = probes("+-+") }, 1, Waiting, false, "turned 1 times", 3 * time.Second},
		"turned, stayed":    {func(c *Container) { c.Probes = probes("+-++++") }, 1, Healthy, false, "", 0},
		"flaps":             {func(c *Container) { c.Probes = probes("+-+-+") }, 6, Unhealthy, true, "flaps", 0},
		"child out of mem.": {func(c *Container) { c.OOMKilled = true }, 0, Unhealthy, true, "ran out of memory", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := running(func(con *Container) { con.Check = CheckHealthy; c.change(con) })
			base := Baseline{"1": {Turns: c.turns}}
			v := Judge(plain, got, base, nil, now).Strict(got, base, now)
			if v.Status != c.status || v.Hopeless() != c.hopeless || !strings.Contains(v.Message(), c.message) {
				t.Errorf("%s, hopeless %t, %q", v.Status, v.Hopeless(), v.Message())
			}
			if want := now.Add(c.next); c.next > 0 && !v.NextLook.Equal(want) {
				t.Errorf("next look at %s, want %s", v.NextLook, want)
			}
		})
	}
	old := running(func(c *Container) { c.OOMKilled = true })
	base := BaselineOf(old)
	if v := Judge(plain, old, base, nil, now).Strict(old, base, now); v.Status != Healthy {
		t.Errorf("a process that ran out of memory before counts: %q", v.Message())
	}
}

// Turns are counted once each, however often one looks.
func TestTurns(t *testing.T) {
	all := probes("+-+-")
	look := func(n int) []Container {
		return running(func(c *Container) { c.Check, c.Probes = CheckHealthy, all[:n] })
	}
	base := BaselineOf(look(1))
	for _, n := range []int{2, 2, 3, 4, 4} {
		base = base.Next(look(n))
	}
	if got := base["1"].Turns; got != 2 {
		t.Errorf("%d turns, want 2", got)
	}
}

// A service is excused as long as it is no worse than it was, and its containers are those that were there.
func TestExcuse(t *testing.T) {
	plain := []Service{{Name: "web", Image: image, Replicas: 1}}
	sick := running(func(c *Container) { c.Check = CheckUnhealthy })
	base := BaselineOf(sick)
	v := Judge(plain, sick, base, nil, now).Excuse(base.Untouched(sick))
	if v.Status != Healthy || v.Hopeless() || len(v.Excused()) != 1 || !strings.Contains(v.Message(), "not well before this release") {
		t.Errorf("%+v", v)
	}
	replaced := running(func(c *Container) { c.ID, c.Check = "2", CheckUnhealthy })
	if v := Judge(plain, replaced, base, nil, now).Excuse(base.Untouched(replaced)); v.Status != Unhealthy {
		t.Errorf("a container that was replaced is excused: %+v", v)
	}
	if v := Judge(plain, replaced, base, nil, now).Excuse(base.Sick()); v.Status != Healthy {
		t.Errorf("going back to what was sick: %+v", v)
	}
	worse := running(func(c *Container) { c.State, c.ExitCode = StateExited, 1 })
	if v := Judge(plain, worse, base, nil, now).Excuse(base.Untouched(worse)); v.Status != Down {
		t.Errorf("what became worse is excused: %+v", v)
	}
	if v := Judge(plain, nil, base, nil, now).Excuse(map[string]Status{"web": Down}); v.Status != Down {
		t.Errorf("what is missing is excused: %+v", v)
	}
	well := running(nil)
	if v := Judge(plain, well, base, nil, now).Excuse(base.Untouched(well)); v.Status != Healthy || len(v.Excused()) != 0 {
		t.Errorf("%+v", v)
	}
}
