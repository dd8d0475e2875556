// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var (
	approve  = v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1}}
	workdays = &v1alpha1.Window{TimeZone: "UTC", Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", Start: "09:00", Duration: hours(8)}}}
	mondays  = &v1alpha1.Window{TimeZone: "UTC", Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=MO", Start: "12:00", Duration: hours(2)}}}
)

func soaks(env string, h int) v1alpha1.Criterion {
	return v1alpha1.Criterion{Name: "soak-" + env, Soak: &v1alpha1.SoakCriterion{Environment: env, Min: hours(h), Max: hours(h)}}
}

func within(w *v1alpha1.Window) v1alpha1.Criterion {
	return v1alpha1.Criterion{Name: "window", Window: w}
}

// bridge is a release's way over the environments a, b, c …, each behind the gate of the same name.
type bridge struct {
	gates []Input
	envs  map[string]v1alpha1.ReleaseEnvironment
}

func newBridge(criteria ...[]v1alpha1.Criterion) *bridge {
	b := &bridge{envs: map[string]v1alpha1.ReleaseEnvironment{}}
	for i, cs := range criteria {
		in := base(cs...)
		in.Name = string(rune('a' + i))
		in.Spec.Environment = in.Name
		if i > 0 {
			in.After = string(rune('a' + i - 1))
		}
		b.gates = append(b.gates, in)
	}
	return b
}

// in lets the release into an environment, where it is healthy since so long before now.
func (b *bridge) in(env string, since time.Duration) *bridge {
	e := healthy(since)
	e.Name, e.BundleHash = env, hash
	b.envs[env] = e
	return b
}

// judge is the way as the controllers see it, and the first recheck of any gate.
func (b *bridge) judge(at time.Time) ([]Crossing, time.Time) {
	var way []Crossing
	var recheck time.Time
	for _, in := range b.gates {
		in.Now, in.Environments = at, maps.Clone(b.envs)
		if _, ok := b.envs[in.Name]; ok {
			way = append(way, Crossing{Input: in, Verdict: &v1alpha1.GateVerdict{Name: in.Name, Environment: in.Name, Verdict: isPassed}, Open: true})
			continue
		}
		j := Judge(in)
		recheck = sooner(recheck, j.Recheck)
		way = append(way, Crossing{Input: in, Verdict: &j.GateVerdict})
	}
	return way, recheck
}

// told is a forecast in one line for each gate.
func told(way []Crossing, at time.Time) (lines []string, look time.Time) {
	text, look := Forecast(way, at)
	for _, c := range way {
		line := c.Verdict.Name + ":"
		if c.Verdict.Earliest != nil {
			line += " at " + c.Verdict.Earliest.UTC().Format("Mon 2 15:04:05")
		}
		if c.Verdict.EarliestAfter != nil {
			line += " after " + c.Verdict.EarliestAfter.Duration.String()
		}
		lines = append(lines, line)
	}
	return append(lines, text), look
}

// Now is Sunday 22 November 2026, 14:03 UTC.
func TestForecast(t *testing.T) {
	type cs = []v1alpha1.Criterion
	for _, c := range []struct {
		name   string
		bridge *bridge
		want   []string
		look   time.Time
	}{
		{"everything is open", newBridge(cs{passing}, cs{approve}).in("a", 0).in("b", 0), []string{"a:", "b:", ""}, time.Time{}},
		{"soaking, and nobody needs to act", newBridge(cs{passing}, cs{soaks("a", 24)}).in("a", 2*time.Hour),
			[]string{"a:", "b: at Mon 23 12:03:00", "b on 2026-11-23T12:03:00Z, if everybody acts at once"}, now.Add(22 * time.Hour)},
		{"soaking, then somebody, who has time until then", newBridge(cs{passing}, cs{soaks("a", 24), approve}).in("a", 2*time.Hour),
			[]string{"a:", "b: at Mon 23 12:03:00", "b on 2026-11-23T12:03:00Z, if everybody acts at once"}, now.Add(22 * time.Hour)},
		{"waiting for somebody", newBridge(cs{approve}), []string{"a: after 0s", "a as soon as gate a has what it waits for: 1 approval(s)"}, time.Time{}},
		{"the first of two gates into an environment has passed", func() *bridge {
			b := newBridge(cs{passing})
			second := base(approve)
			second.Name, second.Spec.Environment = "second", "a"
			b.gates = append(b.gates, second)
			return b
		}(), []string{"a: after 0s", "second: after 0s", "a as soon as gate second has what it waits for: 1 approval(s)"}, time.Time{}},
		{"waiting for somebody, then two soaks in a row", newBridge(cs{approve}, cs{soaks("a", 24)}, cs{soaks("b", 48)}),
			[]string{"a: after 0s", "b: after 24h0m0s", "c: after 72h0m0s", "c 72h0m0s after gate a has what it waits for: 1 approval(s)"}, time.Time{}},
		{"two soaks in a row, the first has begun", newBridge(cs{passing}, cs{soaks("a", 24)}, cs{soaks("b", 48)}).in("a", 2*time.Hour),
			[]string{"a:", "b: at Mon 23 12:03:00", "c: at Wed 25 12:03:00", "c on 2026-11-25T12:03:00Z, if everybody acts at once"}, now.Add(22 * time.Hour)},
		{"two soaks of one gate run at the same time", newBridge(cs{approve}, cs{approve}, cs{soaks("a", 72), soaks("b", 48)}),
			[]string{"a: after 0s", "b: after 0s", "c: after 72h0m0s", "c 72h0m0s after gate a has what it waits for: 1 approval(s)"}, time.Time{}},
		{"a soak that goes on while somebody is awaited, until a later one overtakes it", newBridge(cs{passing}, cs{approve}, cs{soaks("a", 24), soaks("b", 10)}).in("a", 2*time.Hour),
			[]string{"a:", "b: after 0s", "c: at Mon 23 12:03:00", "c on 2026-11-23T12:03:00Z, if everybody acts at once"}, now.Add(12 * time.Hour)},
		{"overtaken", newBridge(cs{passing}, cs{approve}, cs{soaks("a", 24), soaks("b", 10)}).in("a", 14*time.Hour),
			[]string{"a:", "b: after 0s", "c: after 10h0m0s", "c 10h0m0s after gate b has what it waits for: 1 approval(s)"}, now.Add(10 * time.Hour)},
		{"a soak that another release broke off begins anew", func() *bridge {
			b := newBridge(cs{passing}, cs{soaks("a", 24)}).in("a", 48*time.Hour)
			e := b.envs["a"]
			e.Phase, e.HealthyUntil = v1alpha1.PhaseSuperseded, &metav1.Time{Time: now.Add(-30 * time.Hour)}
			b.envs["a"] = e
			return b
		}(), []string{"a:", "b: after 24h0m0s", "b 24h0m0s after gate b has what it waits for: the release is deployed to a again"}, time.Time{}},
		{"deployed, but not healthy yet", func() *bridge {
			b := newBridge(cs{passing}, cs{soaks("a", 24)})
			b.envs["a"] = v1alpha1.ReleaseEnvironment{Name: "a", Phase: v1alpha1.PhaseDeploying}
			return b
		}(), []string{"a:", "b: after 24h0m0s", "b 24h0m0s after gate b has what it waits for: the release becomes healthy in a"}, time.Time{}},
		{"on a weekend", newBridge(cs{within(workdays)}), []string{"a: at Mon 23 09:00:00", "a on 2026-11-23T09:00:00Z, if everybody acts at once"}, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)},
		{"on a weekend, for somebody who has time until then", newBridge(cs{within(workdays), approve}), []string{"a: at Mon 23 09:00:00", "a on 2026-11-23T09:00:00Z, if everybody acts at once"}, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)},
		{"two calendars open together", newBridge(cs{within(workdays), within(mondays)}), []string{"a: at Mon 23 12:00:00", "a on 2026-11-23T12:00:00Z, if everybody acts at once"}, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)},
		{"a soak ends outside the calendar", newBridge(cs{passing}, cs{soaks("a", 32), within(workdays)}).in("a", 2*time.Hour),
			[]string{"a:", "b: at Tue 24 09:00:00", "b on 2026-11-24T09:00:00Z, if everybody acts at once"}, now.Add(30 * time.Hour)},
		{"a calendar behind a soak that has not begun", newBridge(cs{approve}, cs{soaks("a", 24), within(workdays)}),
			[]string{"a: after 0s", "b: after 24h0m0s", "b 24h0m0s after gate a has what it waits for: 1 approval(s)"}, time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)},
		{"a calendar that never opens again when it is needed", newBridge(cs{approve}, cs{soaks("a", 48), within(&v1alpha1.Window{TimeZone: "UTC", Allow: []v1alpha1.Period{{Start: "2026-11-23T00:00", Duration: hours(24)}}})}),
			[]string{"a: after 0s", "b:", "never: the calendar of a gate does not open again"}, time.Time{}},
		{"refused", newBridge(cs{approve}, cs{soaks("a", 24)}, cs{{Name: "new"}}),
			[]string{"a:", "b:", "c:", "never, unless gate c changes its mind: criterion new is of a kind"}, time.Time{}},
		{"break-glass makes up for soaks and calendars", func() *bridge {
			b := newBridge(cs{approve}, cs{soaks("a", 24), within(workdays)})
			glass(&b.gates[1])
			return b
		}(), []string{"a: after 0s", "b: after 0s", "b as soon as gate a has what it waits for: 1 approval(s)"}, time.Time{}},
		{"a gate that shut again", func() *bridge {
			b := newBridge(cs{approve}, cs{soaks("a", 24)}).in("a", 99*time.Hour)
			return b
		}(), []string{"a:", "b: after 0s", "b as soon as gate b has what it waits for: "}, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			way, _ := c.bridge.judge(now)
			got, look := told(way, now)
			for i, want := range c.want {
				if i >= len(got) || got[i] != want && (i < len(c.want)-1 || want == "" || !strings.HasPrefix(got[i], want)) {
					t.Fatalf("%s", cmp.Diff(c.want, got))
				}
			}
			if !look.Equal(c.look) {
				t.Errorf("look again at %s, want %s", look, c.look)
			}
		})
	}
}

func drawBridge(t *rapid.T) *bridge {
	var all [][]v1alpha1.Criterion
	n := rapid.IntRange(1, 4).Draw(t, "gates")
	for i := range n {
		cs := []v1alpha1.Criterion{passing}
		if rapid.Bool().Draw(t, "approval") {
			cs = append(cs, approve)
		}
		for j := range i {
			if rapid.IntRange(0, 2).Draw(t, "soak") == 0 {
				cs = append(cs, soaks(string(rune('a'+j)), rapid.IntRange(0, 100).Draw(t, "hours")))
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "windowed") == 0 {
			cs = append(cs, within(rapid.SampledFrom([]*v1alpha1.Window{workdays, mondays}).Draw(t, "window")))
		}
		all = append(all, cs)
	}
	b := newBridge(all...)
	for i := range rapid.IntRange(0, n-1).Draw(t, "crossed") {
		b.in(b.gates[i].Name, time.Duration(rapid.IntRange(0, 100*3600).Draw(t, "since"))*time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "windowed environment") == 0 {
		b.gates[n-1].Window = workdays
	}
	return b
}

// cross walks over the bridge with everybody acting at once: when Judge lets the release through each gate.
func (b *bridge) cross(t *rapid.T, at time.Time) map[string]time.Time {
	opened := map[string]time.Time{}
	for i := range b.gates {
		b.gates[i].Approvals = []v1alpha1.ApprovalRecord{approval("qa")}
	}
	for range 1000 {
		var recheck time.Time
		for _, in := range b.gates {
			if _, ok := b.envs[in.Name]; ok {
				continue
			}
			in.Now, in.Environments = at, b.envs
			j := Judge(in)
			if j.Verdict == isPassed {
				e := v1alpha1.ReleaseEnvironment{Name: in.Name, Phase: v1alpha1.PhaseHealthy, HealthySince: &metav1.Time{Time: at}}
				opened[in.Name], b.envs[in.Name], recheck = at, e, at
				break
			}
			recheck = sooner(recheck, j.Recheck)
		}
		switch {
		case len(b.envs) == len(b.gates):
			return opened
		case recheck.IsZero():
			t.Fatalf("stuck at %s", at)
		}
		at = recheck
	}
	t.Fatalf("still on the way at %s", at)
	return nil
}

// A date that is told is the moment at which the judge lets the release through if everybody acts at once; a time from
// somebody's act is never longer than that takes.
func TestForecastComesTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBridge(t)
		way, _ := b.judge(now)
		lines, _ := told(way, now)
		opened := b.cross(t, now)
		for _, c := range way {
			at, ok := opened[c.Verdict.Name]
			switch {
			case !ok && (c.Verdict.Earliest != nil || c.Verdict.EarliestAfter != nil):
				t.Fatalf("%s is open: %v", c.Verdict.Name, lines)
			case ok && c.Verdict.Earliest != nil && !c.Verdict.Earliest.Time.Equal(at):
				t.Fatalf("%s opened at %s: %v", c.Verdict.Name, at, lines)
			case ok && c.Verdict.EarliestAfter != nil && now.Add(c.Verdict.EarliestAfter.Duration).After(at):
				t.Fatalf("%s opened at %s already: %v", c.Verdict.Name, at, lines)
			case ok && (c.Verdict.Earliest == nil) == (c.Verdict.EarliestAfter == nil):
				t.Fatalf("%s is not foretold: %v", c.Verdict.Name, lines)
			}
		}
	})
}

// A forecast stays word for word the same until the next look: a steady release keeps its status.
func TestForecastIsSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBridge(t)
		at := now.Add(time.Duration(rapid.Int64Range(0, int64(200*time.Hour)).Draw(t, "at")))
		way, recheck := b.judge(at)
		want, look := told(way, at)
		next := sooner(recheck, look)
		if !next.IsZero() && !next.After(at) {
			t.Fatalf("look again at %s, now is %s: %v", next, at, want)
		}
		span := 1000 * time.Hour
		if !next.IsZero() {
			span = next.Sub(at) - 1
		}
		later := at.Add(time.Duration(rapid.Int64Range(0, int64(span)).Draw(t, "later")))
		if rapid.Bool().Draw(t, "a second later") {
			later = at.Add(min(time.Second, span))
		}
		way, _ = b.judge(later)
		got, _ := told(way, later)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("at %s and %s, next look at %s: %s", at, later, next, diff)
		}
	})
}

// A gate that is asked for the umpteenth time answers what it answered first: what it remembers changes nothing.
func TestJudgingRemembersNothingThatMatters(t *testing.T) {
	in := described("release.karma > 80")
	in.Window = workdays
	want := Judge(in)
	for i := range 1100 { // more than are remembered
		Judge(described(fmt.Sprintf("release.karma > %d", i)))
	}
	if diff := cmp.Diff(want, Judge(in)); diff != "" {
		t.Error(diff)
	}
}
