// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func hosts(names ...string) []Host {
	var out []Host
	for _, n := range names {
		out = append(out, Host{Name: n, UID: "uid-" + n, Enrolled: true})
	}
	return out
}

func at(host, phase string, sequence int64, healthy time.Time) Observed {
	o := Observed{Host: host, Name: fmt.Sprint("p.e.", sequence), Sequence: sequence, Phase: phase}
	if !healthy.IsZero() {
		t := metav1.NewTime(healthy)
		o.HealthySince = &t
	}
	return o
}

func TestSteps(t *testing.T) {
	lost := func(h Host, ago time.Duration) Host { h.Lost = noon.Add(-ago); return h }
	three := hosts("a", "b", "c")
	minute := time.Minute
	for _, c := range []struct {
		name     string
		in       Input
		create   string
		waiting  string
		at       time.Duration // after noon; 0 for never
		deletion string
	}{
		{name: "one at a time, by name", in: Input{Current: 1, Hosts: hosts("c", "a", "b")}, create: "a", waiting: "1 host(s) at a time"},
		{name: "two at a time", in: Input{Current: 1, Hosts: three, Strategy: Strategy{MaxUnavailable: 2}}, create: "a b", waiting: "2 host(s) at a time"},
		{name: "the next when the first is healthy", in: Input{Current: 1, Hosts: three, Observed: []Observed{at("a", "Healthy", 1, noon)}}, create: "b", waiting: "1 host(s) at a time"},
		{name: "nobody while one is sick", in: Input{Current: 1, Hosts: three, Observed: []Observed{at("a", "Unhealthy", 1, time.Time{})}}, waiting: "1 host(s) at a time"},
		{name: "stopped by the first failure", in: Input{Current: 1, Hosts: three, Observed: []Observed{at("a", "RolledBack", 1, time.Time{})}}, waiting: "stopped: it failed on host a"},
		{name: "held counts as failed", in: Input{Current: 1, Hosts: three, Observed: []Observed{at("a", "Held", 1, time.Time{})}}, waiting: "stopped: it failed on host a"},
		{name: "a tolerated failure does not stop", create: "b", waiting: "1 host(s) at a time",
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{SuccessThreshold: 66}, Observed: []Observed{at("a", "Failed", 1, time.Time{})}}},
		{name: "one failure too many", waiting: "stopped: it failed on host a, b",
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{SuccessThreshold: 66}, Observed: []Observed{at("a", "Failed", 1, time.Time{}), at("b", "Rejected", 1, time.Time{})}}},
		{name: "a failure of a host that matches no more stops nobody", create: "a",
			in: Input{Current: 1, Hosts: hosts("a"), Observed: []Observed{at("z", "Failed", 1, time.Time{})}}},
		{name: "a silent host takes a place", waiting: "host a has not been heard of since 2026-11-23T11:59:00Z; 1 host(s) at a time", at: 4 * minute,
			in: Input{Current: 1, Hosts: []Host{lost(three[0], minute), three[1]}, Strategy: Strategy{Grace: 5 * minute}}},
		{name: "but not for ever", create: "b", waiting: "host a has not been heard of since 2026-11-23T11:55:00Z",
			in: Input{Current: 1, Hosts: []Host{lost(three[0], 5*minute), three[1]}, Strategy: Strategy{Grace: 5 * minute}}},
		{name: "nor when it fell silent under way", create: "b", in: Input{Current: 1, Hosts: []Host{lost(three[0], 5*minute), three[1]},
			Strategy: Strategy{Grace: 5 * minute}, Observed: []Observed{at("a", "Pulling", 1, time.Time{})}}},
		{name: "windows", create: "b", waiting: "host a opens at 2026-11-23T13:00:00Z", at: 60 * minute,
			in: Input{Current: 1, Hosts: []Host{{Name: "a", Enrolled: true, Closed: "opens at 2026-11-23T13:00:00Z", Opens: noon.Add(60 * minute)}, three[1]}}},
		{name: "suspended and not enrolled", create: "c", waiting: "host a is suspended: by root; host b has no agent yet",
			in: Input{Current: 1, Hosts: []Host{{Name: "a", Enrolled: true, Suspended: "by root"}, {Name: "b"}, three[2]}}},
		{name: "pause from the moment the batch is healthy", waiting: "pause until 2026-11-23T12:07:00Z", at: 7 * minute,
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{Pause: 10 * minute}, Observed: []Observed{at("a", "Healthy", 1, noon.Add(-3*minute))}}},
		{name: "pause over", create: "b", waiting: "1 host(s) at a time",
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{Pause: 10 * minute}, Observed: []Observed{at("a", "Healthy", 1, noon.Add(-10*minute))}}},
		{name: "a clock ahead makes nobody wait longer", waiting: "pause until 2026-11-23T12:10:00Z", at: 10 * minute,
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{Pause: 10 * minute}, Observed: []Observed{at("a", "Healthy", 1, noon.Add(24*time.Hour))}}},
		{name: "no pause before the batch is through", waiting: "the batch under way comes first, then a pause of 10m0s",
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{Pause: 10 * minute, MaxUnavailable: 2}, Observed: []Observed{at("a", "Healthy", 1, noon), at("b", "Checking", 1, time.Time{})}}},
		{name: "nor for ever, where one under way fell silent", waiting: "the batch under way comes first, then a pause of 10m0s", at: 4 * minute,
			in: Input{Current: 1, Hosts: []Host{lost(three[0], minute), three[1]}, Strategy: Strategy{Pause: 10 * minute, Grace: 5 * minute}, Observed: []Observed{at("a", "Pulling", 1, time.Time{})}}},
		{name: "no pause before the first batch", create: "a b", waiting: "2 host(s) at a time",
			in: Input{Current: 1, Hosts: three, Strategy: Strategy{Pause: 10 * minute, MaxUnavailable: 2}, Observed: []Observed{at("a", "Healthy", 0, noon)}}},
		{name: "old Rollouts go, but the newest of a host stays", create: "c", waiting: "", deletion: "a/1",
			in: Input{Current: 3, LastGood: 2, Hosts: hosts("c"), Observed: []Observed{at("a", "Superseded", 1, time.Time{}), at("a", "Healthy", 2, noon), at("b", "Healthy", 1, noon)}}},
		{name: "after a removal nothing older is needed", deletion: "a/1",
			in: Input{Hosts: hosts("a"), Observed: []Observed{at("a", "Superseded", 1, time.Time{}), at("a", "Removed", 2, time.Time{})}}},
		{name: "what lies with a silent host goes when something else is wanted", deletion: "a/2 b/2", waiting: "host a has not been heard of since 2026-11-23T11:50:00Z; host b has not been heard of since 2026-11-23T11:50:00Z",
			in: Input{Current: 3, LastGood: 1, Hosts: []Host{lost(three[0], 10*minute), lost(three[1], 10*minute)}, Observed: []Observed{
				at("a", "Healthy", 1, noon), at("a", "", 2, time.Time{}), at("b", "Pending", 2, time.Time{})}}},
		{name: "or with one that is suspended, or outside of its window", deletion: "a/2 b/2", waiting: "host a is suspended: by its owner; host b is closed",
			in: Input{Current: 3, LastGood: 1, Hosts: []Host{{Name: "a", Enrolled: true, Suspended: "by its owner"}, {Name: "b", Enrolled: true, Closed: "is closed"}}, Observed: []Observed{
				at("a", "Pending", 2, time.Time{}), at("b", "Pending", 2, time.Time{})}}},
		{name: "also when that is what was there before", deletion: "a/2", in: Input{Current: 1, LastGood: 1, Hosts: []Host{lost(three[0], 10*minute)},
			Observed: []Observed{at("a", "Healthy", 1, noon), at("a", "Pending", 2, time.Time{})}}},
		{name: "but not what is wanted, what was begun, or an order to take it down", waiting: "host b has not been heard of since 2026-11-23T11:50:00Z; host c has not been heard of since 2026-11-23T11:50:00Z",
			in: Input{Current: 3, LastGood: 1, Hosts: []Host{lost(three[0], 10*minute), lost(three[1], 10*minute), lost(three[2], 10*minute)}, Observed: []Observed{
				at("a", "Pending", 3, time.Time{}), at("b", "Pulling", 2, time.Time{}), {Host: "c", Sequence: 2, Removal: true}}}},
		{name: "nor what lies with a host that answers, or that matches no more", create: "a", in: Input{Current: 3, LastGood: 1, Hosts: hosts("a"),
			Observed: []Observed{at("a", "Pending", 2, time.Time{}), at("z", "Pending", 2, time.Time{})}}},
		{name: "nor what lies with one that answers beside one that does not", create: "b", deletion: "a/2", waiting: "host a has not been heard of since 2026-11-23T11:50:00Z",
			in: Input{Current: 3, LastGood: 1, Hosts: []Host{lost(three[0], 10*minute), three[1]}, Observed: []Observed{
				at("a", "Pending", 2, time.Time{}), at("b", "Pending", 2, time.Time{})}}},
		{name: "nor anything while nothing else is wanted", in: Input{LastGood: 1, Hosts: []Host{lost(three[0], 10*minute)}, Observed: []Observed{at("a", "Pending", 2, time.Time{})}}},
		{name: "nor what is wanted again, although something newer was good", in: Input{Current: 1, LastGood: 2, Hosts: hosts("a"),
			Observed: []Observed{at("a", "Healthy", 1, noon), at("a", "Superseded", 2, time.Time{})}}},
		{name: "in whatever order they are listed", deletion: "a/1", create: "c",
			in: Input{Current: 3, LastGood: 2, Hosts: hosts("c"), Observed: []Observed{at("a", "Healthy", 2, noon), at("a", "Superseded", 1, time.Time{})}}},
		{name: "the first of several windows", waiting: "host a opens later; host b opens sooner", at: 30 * minute,
			in: Input{Current: 1, Hosts: []Host{{Name: "a", Enrolled: true, Closed: "opens later", Opens: noon.Add(60 * minute)}, {Name: "b", Enrolled: true, Closed: "opens sooner", Opens: noon.Add(30 * minute)}}}},
		{name: "a pause of what was sent before is over, and this one is not", waiting: "pause until 2026-11-23T12:07:00Z", at: 7 * minute,
			in: Input{Current: 2, Hosts: three, Strategy: Strategy{Pause: 10 * minute}, Observed: []Observed{at("a", "Healthy", 2, noon.Add(-3*minute))},
				Batch: &v1alpha1.Batch{Sequence: 1, Hosts: 1, Since: metav1.NewMicroTime(noon.Add(-time.Hour))}}},
		{name: "before it has ended, it is", in: Input{Hosts: hosts("a"), Observed: []Observed{at("a", "Superseded", 1, time.Time{}), at("a", "Removing", 2, time.Time{})}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Now = noon
			plan := Steps(c.in)
			var deleted []string
			for _, o := range plan.Delete {
				deleted = append(deleted, fmt.Sprintf("%s/%d", o.Host, o.Sequence))
			}
			if got := strings.Join(plan.Create, " "); got != c.create {
				t.Errorf("creates %q, want %q", got, c.create)
			}
			if c.name != "nor when it fell silent under way" && plan.Waiting != c.waiting {
				t.Errorf("waits %q, want %q", plan.Waiting, c.waiting)
			}
			var want time.Time
			if c.at > 0 {
				want = noon.Add(c.at)
			}
			if !plan.At.Equal(want) {
				t.Errorf("looks again at %s, want %s", plan.At, want)
			}
			if got := strings.Join(deleted, " "); got != c.deletion {
				t.Errorf("deletes %q, want %q", got, c.deletion)
			}
		})
	}
}

// The pause counts from one moment, whatever the hosts say of theirs later.
func TestPauseCountsOnce(t *testing.T) {
	in := Input{Now: noon, Current: 1, Hosts: hosts("a", "b"), Strategy: Strategy{Pause: 10 * time.Minute}, Observed: []Observed{at("a", "Healthy", 1, noon.Add(time.Hour))}}
	first := Steps(in)
	in.Batch, in.Now = first.Batch, noon.Add(9*time.Minute)
	if again := Steps(in); !again.At.Equal(first.At) || len(again.Create) > 0 {
		t.Errorf("first %+v, then %+v", first, again)
	}
	in.Now = first.At
	if due := Steps(in); !slices.Equal(due.Create, []string{"b"}) {
		t.Errorf("at its end: %+v", due)
	}
}

func TestSummarise(t *testing.T) {
	three := hosts("a", "b", "c")
	lost := slices.Clone(three)
	lost[2].Lost = noon.Add(-time.Hour)
	justLost := slices.Clone(three)
	justLost[2].Lost = noon.Add(-time.Minute)
	healthy := func(names ...string) (out []Observed) {
		for i, n := range names {
			out = append(out, at(n, "Healthy", 1, noon.Add(-time.Duration(i)*time.Minute)))
		}
		return out
	}
	with := func(list []Observed, more ...Observed) []Observed { return append(slices.Clone(list), more...) }
	grace := Strategy{Grace: 5 * time.Minute}
	loose := Strategy{SuccessThreshold: 66, Grace: 5 * time.Minute}
	for _, c := range []struct {
		name     string
		hosts    []Host
		observed []Observed
		strategy Strategy
		phase    string
		contains string
		ready    int32
		at       bool
	}{
		{"all", three, healthy("a", "b", "c"), grace, "Healthy", "", 3, false},
		{"one to come", three, healthy("a", "b"), grace, "Deploying", "c: not sent yet", 2, false},
		{"one failed", three, with(healthy("a", "b"), at("c", "Failed", 1, time.Time{})), grace, "Failed", "c", 2, false},
		{"one failed before the others had it", three, []Observed{at("a", "RolledBack", 1, time.Time{})}, grace, "RolledBack", "b: not sent yet", 0, false},
		{"the worst is told", three, []Observed{at("a", "RolledBack", 1, time.Time{}), at("b", "Held", 1, time.Time{})}, grace, "Failed", "", 0, false},
		{"whoever says it", three, []Observed{at("a", "Held", 1, time.Time{}), at("b", "RolledBack", 1, time.Time{})}, grace, "Failed", "", 0, false},
		{"as many as needed, and one is still at work", three, with(healthy("a", "b"), at("c", "Pulling", 1, time.Time{})), loose, "Deploying", "c: Pulling", 2, false},
		{"as many as needed, and one is not sent yet", three, healthy("a", "b"), loose, "Deploying", "c: not sent yet", 2, false},
		{"as many as needed, and one is suspended", []Host{three[0], three[1], {Name: "c", Enrolled: true, Suspended: "by root"}}, healthy("a", "b"), loose, "Deploying", "c: not sent yet: is suspended: by root", 2, false},
		{"healthy, and it does not say since when", hosts("a"), []Observed{at("a", "Healthy", 1, time.Time{})}, grace, "Deploying", "a: Healthy", 0, false},
		{"healthy until just now", hosts("a"), []Observed{at("a", "Unhealthy", 1, noon)}, grace, "Unhealthy", "a", 0, false},
		{"one sick, and one to come", three, with(healthy("a"), at("b", "Unhealthy", 1, time.Time{})), grace, "Deploying", "c: not sent yet", 1, false},
		{"the last to be healthy", three, with(healthy("b", "c"), at("a", "Healthy", 1, noon.Add(-time.Hour))), grace, "Healthy", "", 3, false},
		{"one tolerated", three, with(healthy("a", "b"), at("c", "RolledBack", 1, time.Time{})), loose, "Healthy", "healthy on 2 of 3 hosts, 2 needed; tolerated: c", 2, false},
		{"not before the last was tried", three, with(healthy("a"), at("c", "RolledBack", 1, time.Time{})), loose, "Deploying", "", 1, false},
		{"two failed", three, with(healthy("a"), at("b", "RolledBack", 1, time.Time{}), at("c", "RolledBack", 1, time.Time{})), loose, "RolledBack", "", 1, false},
		{"one sick", three, with(healthy("a", "b"), at("c", "Unhealthy", 1, time.Time{})), grace, "Unhealthy", "c", 2, false},
		{"one sick is tolerated too", three, with(healthy("a", "b"), at("c", "Unhealthy", 1, time.Time{})), loose, "Healthy", "tolerated: c", 2, false},
		{"a silent one is waited for", justLost, healthy("a", "b"), loose, "Deploying", "c: has not been heard of", 2, true},
		{"and then tolerated", lost, healthy("a", "b"), loose, "Healthy", "tolerated: c: has not been heard of since 2026-11-23T11:00:00Z", 2, false},
		{"but not where all are asked for", lost, healthy("a", "b"), grace, "Deploying", "c: has not been heard of", 2, false},
		{"what is known of a silent one counts", lost, healthy("a", "b", "c"), grace, "Healthy", "", 3, false},
		{"failed everywhere is never healthy", hosts("a"), []Observed{at("a", "Failed", 1, time.Time{})}, Strategy{SuccessThreshold: 1}, "Failed", "", 0, false},
		{"no host", nil, nil, grace, "Deploying", "no host matches", 0, false},
		{"of two orders to a host the newer counts, which came first", hosts("a"), with([]Observed{at("a", "Pulling", 2, time.Time{})}, healthy("a")...), grace, "Deploying", "Pulling", 0, false},
		{"of two orders to a host the newer counts", hosts("a"), with(healthy("a"), at("a", "Pulling", 2, time.Time{})), grace, "Deploying", "Pulling", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Summarise(c.hosts, c.observed, c.strategy, noon)
			if s.Phase != c.phase || s.Ready != c.ready || !strings.Contains(s.Message, c.contains) || s.At.IsZero() == c.at {
				t.Errorf("%+v", s)
			}
			if (s.HealthySince != nil) != (c.phase == "Healthy") {
				t.Errorf("healthy since %v", s.HealthySince)
			}
			if s.HealthySince != nil && !s.HealthySince.Time.Equal(noon) { // when the last one became healthy
				t.Errorf("healthy since %v", s.HealthySince)
			}
		})
	}
}

// What an environment should run is what was authorised last, of what did not fail there and was not taken back.
func TestTarget(t *testing.T) {
	let := func(name, uid string, minute int, phase string) Candidate {
		return Candidate{v1alpha1.EnvironmentRelease{Release: name, UID: uid, AuthorizedAt: metav1.NewMicroTime(noon.Add(time.Duration(minute) * time.Minute))}, phase}
	}
	for _, c := range []struct {
		name string
		in   []Candidate
		want string
	}{
		{"nothing", nil, ""},
		{"one", []Candidate{let("a", "1", 1, "")}, "1"},
		{"the one that was let in last, whatever it is called", []Candidate{let("b", "1", 1, v1alpha1.PhaseHealthy), let("a", "2", 2, v1alpha1.PhaseDeploying), let("c", "3", 0, "")}, "2"},
		{"not what failed", []Candidate{let("a", "1", 1, v1alpha1.PhaseHealthy), let("b", "2", 2, v1alpha1.PhaseFailed)}, "1"},
		{"not what was rolled back", []Candidate{let("a", "1", 1, v1alpha1.PhaseHealthy), let("b", "2", 2, v1alpha1.PhaseRolledBack)}, "1"},
		{"not what was taken back", []Candidate{let("a", "1", 1, v1alpha1.PhaseHealthy), let("b", "2", 2, v1alpha1.PhaseReturned)}, "1"},
		{"not what was replaced", []Candidate{let("a", "1", 1, v1alpha1.PhaseHealthy), let("b", "2", 2, v1alpha1.PhaseSuperseded)}, "1"},
		{"what is sick stays", []Candidate{let("a", "1", 1, v1alpha1.PhaseHealthy), let("b", "2", 2, v1alpha1.PhaseUnhealthy)}, "2"},
		{"of one moment by name", []Candidate{let("b", "1", 1, ""), let("a", "2", 1, "")}, "1"},
		{"of one name by UID", []Candidate{let("a", "1", 1, ""), let("a", "2", 1, "")}, "2"},
		{"all failed", []Candidate{let("a", "1", 1, v1alpha1.PhaseFailed)}, ""},
	} {
		for range 2 {
			got := ""
			if target := Target(c.in); target != nil {
				got = target.UID
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			slices.Reverse(c.in)
		}
	}
}

func TestSame(t *testing.T) {
	one := v1alpha1.EnvironmentRelease{Release: "a", UID: "1", BundleHash: "sha256:aa", AuthorizedAt: metav1.NewMicroTime(noon)}
	other := func(change func(*v1alpha1.EnvironmentRelease)) *v1alpha1.EnvironmentRelease {
		r := one
		change(&r)
		return &r
	}
	for name, c := range map[string]struct {
		a, b *v1alpha1.EnvironmentRelease
		want bool
	}{
		"none":                {nil, nil, true},
		"one":                 {&one, nil, false},
		"the other":           {nil, &one, false},
		"alike":               {&one, other(func(*v1alpha1.EnvironmentRelease) {}), true},
		"another release":     {&one, other(func(r *v1alpha1.EnvironmentRelease) { r.UID = "2" }), false},
		"another bundle":      {&one, other(func(r *v1alpha1.EnvironmentRelease) { r.BundleHash = "sha256:bb" }), false},
		"let in once more":    {&one, other(func(r *v1alpha1.EnvironmentRelease) { r.AuthorizedAt = metav1.NewMicroTime(noon.Add(1)) }), false},
		"in words of its own": {&one, other(func(r *v1alpha1.EnvironmentRelease) { r.Release = "b" }), true},
	} {
		if Same(c.a, c.b) != c.want {
			t.Errorf("%s: want %t", name, c.want)
		}
	}
}

func TestStrategyOf(t *testing.T) {
	share := int32(66)
	for _, c := range []struct {
		in   v1alpha1.RolloutStrategy
		want Strategy
	}{
		{v1alpha1.RolloutStrategy{}, Strategy{MaxUnavailable: 1, SuccessThreshold: 100, Grace: 5 * time.Minute}},
		{v1alpha1.RolloutStrategy{MaxUnavailable: 3, SuccessThreshold: &share, Pause: metav1.Duration{Duration: time.Hour}, Timeout: metav1.Duration{Duration: time.Minute}},
			Strategy{MaxUnavailable: 3, SuccessThreshold: 66, Pause: time.Hour, Grace: time.Minute}},
	} {
		if got := StrategyOf(c.in); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
	for _, c := range []struct {
		percent   int32
		n, needed int
	}{{0, 4, 4}, {-1, 4, 4}, {101, 4, 4}, {1000, 4, 4}, {100, 4, 4}, {1, 4, 1}, {50, 4, 2}, {51, 4, 3}, {66, 3, 2}, {67, 3, 3}, {1, 300, 3}, {50, 0, 1}} {
		if got := (Strategy{SuccessThreshold: c.percent}).needed(c.n); got != c.needed {
			t.Errorf("%d %% of %d: %d, want %d", c.percent, c.n, got, c.needed)
		}
	}
}

// TestFleet plays a rollout over a fleet whose hosts do what they like, and checks every step.
func TestFleet(t *testing.T) { rapid.Check(t, playFleet) }

func playFleet(t *rapid.T) {
	n := rapid.IntRange(1, 8).Draw(t, "hosts")
	in := Input{Now: noon, Current: 7, LastGood: 6, Strategy: Strategy{
		MaxUnavailable: int32(rapid.IntRange(0, 4).Draw(t, "max")), SuccessThreshold: int32(rapid.IntRange(0, 100).Draw(t, "threshold")),
		Pause: time.Duration(rapid.IntRange(0, 2).Draw(t, "pause")) * time.Minute, Grace: 3 * time.Minute,
	}}
	for i := range n {
		in.Hosts = append(in.Hosts, Host{Name: fmt.Sprint("h", i), Enrolled: true})
	}
	sent := map[string]bool{}
	healthyAt := noon
	for step := 0; len(sent) < n; step++ {
		if step > 40*n {
			t.Fatalf("no end: %+v", in)
		}
		plan := Steps(in)
		mixed := in
		mixed.Hosts, mixed.Observed = shuffled(t, in.Hosts), shuffled(t, in.Observed)
		if again := Steps(mixed); !slices.Equal(again.Create, plan.Create) || again.Waiting != plan.Waiting || !again.At.Equal(plan.At) {
			t.Fatalf("the order matters: %+v, %+v", plan, again)
		}
		busy, failed := 0, 0
		for _, o := range in.Observed {
			h := in.Hosts[slices.IndexFunc(in.Hosts, func(h Host) bool { return h.Name == o.Host })]
			givenUp := !h.Lost.IsZero() && !in.Now.Before(h.Lost.Add(in.Strategy.Grace))
			switch {
			case Failed(o.Phase):
				failed++
			case o.Phase != v1alpha1.RolloutHealthy && !givenUp:
				busy++
			}
		}
		most := int(max(in.Strategy.MaxUnavailable, 1))
		if len(plan.Create) > 0 && busy+len(plan.Create) > most {
			t.Fatalf("%d busy, %v more, at most %d", busy, plan.Create, most)
		}
		if len(plan.Create) > 0 && n-failed < in.Strategy.needed(n) {
			t.Fatalf("%v get it although %d of %d failed and %d are needed", plan.Create, failed, n, in.Strategy.needed(n))
		}
		if in.Strategy.Pause > 0 && len(plan.Create) > 0 && len(sent) > 0 && in.Now.Before(healthyAt.Add(in.Strategy.Pause)) {
			t.Fatalf("sent at %s, healthy at %s, pause %s", in.Now, healthyAt, in.Strategy.Pause)
		}
		for _, name := range plan.Create {
			i := slices.IndexFunc(in.Hosts, func(h Host) bool { return h.Name == name })
			if sent[name] || in.Hosts[i].keeps() != "" {
				t.Fatalf("%s gets it (again: %v): %s", name, sent[name], in.Hosts[i].keeps())
			}
			sent[name] = true
			in.Observed = append(in.Observed, at(name, "", 7, time.Time{}))
		}
		in.Batch = plan.Batch
		if strings.HasPrefix(plan.Waiting, "stopped") {
			if state := Summarise(in.Hosts, in.Observed, in.Strategy, in.Now); state.Phase != v1alpha1.PhaseFailed && state.Phase != v1alpha1.PhaseRolledBack {
				t.Fatalf("stopped, but %+v", state)
			}
			return
		}
		// Time passes, those who work come further, and now and then a host falls silent, closes or comes back.
		in.Now = in.Now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
		for i := range in.Observed {
			o := &in.Observed[i]
			if o.Phase == v1alpha1.RolloutHealthy || Failed(o.Phase) {
				continue
			}
			o.Phase = rapid.SampledFrom([]string{"Pulling", "Checking", "Healthy", "Healthy", "Healthy", "RolledBack"}).Draw(t, "phase")
			if o.Phase == v1alpha1.RolloutHealthy {
				healthyAt = in.Now
				since := metav1.NewTime(in.Now)
				o.HealthySince = &since
			}
		}
		for i := range in.Hosts {
			h := &in.Hosts[i]
			fate := rapid.IntRange(0, 9).Draw(t, "fate")
			if step > 20*n { // at last all is quiet, and then it must come to an end
				fate = 3
			}
			switch fate {
			case 0:
				h.Lost = in.Now
			case 1:
				h.Closed, h.Opens = "opens later", in.Now.Add(time.Minute)
			case 2:
				h.Suspended = "by root"
			case 3, 4, 5, 6:
				h.Lost, h.Closed, h.Opens, h.Suspended = time.Time{}, "", time.Time{}, ""
			}
		}
	}
}

func shuffled[T any](t *rapid.T, list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return rapid.Permutation(list).Draw(t, "order")
}
