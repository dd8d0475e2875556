// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

func maybe[T any](t *rapid.T, name string, g *rapid.Generator[T]) *T {
	if !rapid.Bool().Draw(t, "has "+name) {
		return nil
	}
	v := g.Draw(t, name)
	return &v
}

func drawEvidence(t *rapid.T) evidence.Set {
	set := evidence.Set{Results: map[string]evidence.Result{}}
	n := rapid.Int32Range(0, 3)
	for _, typ := range []string{"tests", "scan", "quality"} {
		if rapid.IntRange(0, 3).Draw(t, typ) == 0 {
			continue
		}
		r := evidence.Result{Type: typ, Status: rapid.SampledFrom([]string{"passed", "passed", "passed", "failed", "skipped", "odd"}).Draw(t, "status"),
			Received: now.Add(-time.Duration(rapid.IntRange(0, 4).Draw(t, "age")) * time.Hour),
			Coverage: maybe(t, "coverage", rapid.Float64Range(0, 4)), Score: maybe(t, "score", rapid.Float64Range(0, 4))}
		if rapid.Bool().Draw(t, "counts") {
			r.Tests = &v1alpha1.TestCounts{Passed: n.Draw(t, "passed"), Skipped: n.Draw(t, "skipped"), Total: 6}
		}
		if rapid.Bool().Draw(t, "findings") {
			r.Vulnerabilities = &v1alpha1.VulnerabilityCounts{Critical: n.Draw(t, "critical"), High: n.Draw(t, "high"), Medium: n.Draw(t, "medium"), Low: n.Draw(t, "low")}
		}
		set.Results[typ] = r
	}
	return set
}

func atMost(bound *int32, n int32) bool { return bound == nil || n <= *bound }

func atLeast(bound *int32, f *float64) bool { return bound == nil || f != nil && *f >= float64(*bound) }

// hurdle is a criterion with what must hold for it, said in another way than by the judge.
type hurdle struct {
	criterion v1alpha1.Criterion
	holds     func(in Input) bool
}

var windows = []struct {
	window *v1alpha1.Window
	open   bool // now
}{
	{&v1alpha1.Window{}, true},
	{&v1alpha1.Window{Deny: []v1alpha1.Period{{Start: "2026-11-22T15:00", Duration: hours(1)}}}, false},
	{&v1alpha1.Window{Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=SU", Start: "15:00", Duration: hours(1)}}}, true},
	{&v1alpha1.Window{Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=MO", Start: "09:00", Duration: hours(1)}}}, false},
	{&v1alpha1.Window{TimeZone: "nowhere"}, false},
}

// hurdles draw one criterion of each kind.
var hurdles = []func(t *rapid.T) hurdle{
	func(t *rapid.T) hurdle {
		n := rapid.Int32Range(0, 3)
		c := v1alpha1.ResultCriterion{Type: rapid.SampledFrom([]string{"tests", "scan", "quality", "licences"}).Draw(t, "type"),
			MaxCritical: maybe(t, "maxCritical", n), MaxHigh: maybe(t, "maxHigh", n), MaxMedium: maybe(t, "maxMedium", n), MaxLow: maybe(t, "maxLow", n),
			MinPassed: maybe(t, "minPassed", n), MaxSkipped: maybe(t, "maxSkipped", n), MinCoverage: maybe(t, "minCoverage", n), MinScore: maybe(t, "minScore", n)}
		return hurdle{v1alpha1.Criterion{Result: &c}, func(in Input) bool {
			r, ok := in.Evidence.Results[c.Type]
			v := r.Vulnerabilities
			if v == nil {
				v = &v1alpha1.VulnerabilityCounts{}
			}
			return ok && r.Status == "passed" && atMost(c.MaxCritical, v.Critical) && atMost(c.MaxHigh, v.High) && atMost(c.MaxMedium, v.Medium) && atMost(c.MaxLow, v.Low) &&
				(c.MinPassed == nil || r.Tests != nil && r.Tests.Passed >= *c.MinPassed) && (c.MaxSkipped == nil || r.Tests != nil && r.Tests.Skipped <= *c.MaxSkipped) &&
				atLeast(c.MinCoverage, r.Coverage) && atLeast(c.MinScore, r.Score)
		}}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.CoverageCriterion{Minimum: rapid.Int32Range(0, 4).Draw(t, "minimum")}
		return hurdle{v1alpha1.Criterion{Coverage: &c}, func(in Input) bool {
			reports := false
			for _, r := range in.Evidence.Results {
				if r.Coverage != nil && *r.Coverage < float64(c.Minimum) {
					return false
				}
				reports = reports || r.Coverage != nil
			}
			return reports
		}}
	},
	func(*rapid.T) hurdle { return hurdle{passing, func(in Input) bool { return in.Frozen }} },
	func(t *rapid.T) hurdle {
		c := v1alpha1.SoakCriterion{Environment: rapid.SampledFrom([]string{"dev", "test"}).Draw(t, "environment"), Min: hours(1), Max: hours(1 + rapid.IntRange(0, 2).Draw(t, "max"))}
		return hurdle{v1alpha1.Criterion{Soak: &c}, func(in Input) bool {
			e := in.Environments[c.Environment]
			if e.HealthySince == nil {
				return false
			}
			until := in.Now
			if e.HealthyUntil != nil {
				until = e.HealthyUntil.Time
			}
			needed := float64(c.Max.Duration) - float64(c.Max.Duration-c.Min.Duration)*float64(in.Works)/50
			return float64(until.Sub(e.HealthySince.Time)) >= needed
		}}
	},
	func(t *rapid.T) hurdle {
		env := rapid.SampledFrom([]string{"dev", "test"}).Draw(t, "environment")
		return hurdle{v1alpha1.Criterion{Healthy: &v1alpha1.HealthyCriterion{Environment: env}}, func(in Input) bool { return wasHealthy(in, env) }}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.ApprovalCriterion{Minimum: rapid.Int32Range(0, 2).Draw(t, "minimum"), AllowCreator: rapid.Bool().Draw(t, "creator"),
			Roles: rapid.SampledFrom([][]string{nil, {"qa"}, {"qa", "cto"}}).Draw(t, "roles")}
		return hurdle{v1alpha1.Criterion{Approval: &c}, func(in Input) bool {
			users := map[string]bool{}
			for _, a := range in.Approvals {
				role := len(c.Roles) == 0
				for _, r := range in.Roles[a.User] {
					role = role || slices.Contains(c.Roles, r)
				}
				if a.Decision == "Approved" && a.Stale == "" && a.BundleHash == in.BundleHash && a.BundleHash != "" && role && (c.AllowCreator || in.CreatedBy != "" && in.CreatedBy != a.User) {
					users[a.User] = true
				}
			}
			return in.Guarded && len(users) >= max(1, int(c.Minimum))
		}}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.PVCriterion{AllowReservations: rapid.Bool().Draw(t, "allowed")}
		return hurdle{v1alpha1.Criterion{PV: &c}, func(in Input) bool {
			return in.PV != nil && in.PV.BundleHash == in.PV.TestedHash &&
				(in.PV.Decision == v1alpha1.PVAccepted || in.PV.Decision == v1alpha1.PVAcceptedWithReservations && c.AllowReservations)
		}}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.KarmaCriterion{Minimum: rapid.Int32Range(0, 100).Draw(t, "minimum")}
		return hurdle{v1alpha1.Criterion{Karma: &c}, func(in Input) bool { return in.Karma >= c.Minimum }}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.ArtifactCriterion{Image: rapid.SampledFrom([]string{"", "backend"}).Draw(t, "image")}
		if c.Image == "" {
			c.Maven = "a:b"
		}
		return hurdle{v1alpha1.Criterion{Artifact: &c}, func(in Input) bool {
			if c.Image != "" {
				return slices.Contains(in.Images, c.Image)
			}
			return slices.Contains(in.Artifacts, "a:b:1")
		}}
	},
	func(t *rapid.T) hurdle {
		c := v1alpha1.FreshnessCriterion{MaxAge: hours(2), Types: rapid.SampledFrom([][]string{nil, {"tests"}, {"tests", "scan"}}).Draw(t, "types")}
		return hurdle{v1alpha1.Criterion{Freshness: &c}, func(in Input) bool {
			for _, typ := range c.Types {
				if _, ok := in.Evidence.Results[typ]; !ok {
					return false
				}
			}
			for typ, r := range in.Evidence.Results {
				if (len(c.Types) == 0 || slices.Contains(c.Types, typ)) && in.Now.Sub(r.Received) >= 2*time.Hour {
					return false
				}
			}
			return len(in.Evidence.Results) > 0
		}}
	},
	func(t *rapid.T) hurdle {
		w := rapid.SampledFrom(windows).Draw(t, "window")
		return hurdle{v1alpha1.Criterion{Window: w.window}, func(Input) bool { return w.open }}
	},
	func(t *rapid.T) hurdle {
		expression := rapid.SampledFrom([]string{"release.karma >= 50", "results.tests.status == 'passed'", "release.", "release.karma"}).Draw(t, "expression")
		return hurdle{v1alpha1.Criterion{CEL: &v1alpha1.CELCriterion{Expression: expression}}, func(in Input) bool {
			return expression == "release.karma >= 50" && in.Karma >= 50 || strings.HasPrefix(expression, "results") && in.Evidence.Results["tests"].Status == "passed"
		}}
	},
	func(*rapid.T) hurdle { return hurdle{v1alpha1.Criterion{}, func(Input) bool { return false }} }, // of a later version
}

func wasHealthy(in Input, env string) bool {
	e := in.Environments[env]
	return e.HealthySince != nil && (e.Phase == v1alpha1.PhaseHealthy || e.Phase == v1alpha1.PhaseSuperseded)
}

func drawGate(t *rapid.T) (Input, []hurdle) {
	rare := func(name string) bool { return rapid.IntRange(0, 9).Draw(t, name) == 0 }
	in := base()
	in.Spec.Mode = rapid.SampledFrom([]string{v1alpha1.ModeAutomatic, v1alpha1.ModeManual}).Draw(t, "mode")
	in.Evidence, in.Works, in.Karma = drawEvidence(t), rapid.Int32Range(0, 50).Draw(t, "works"), rapid.Int32Range(0, 100).Draw(t, "karma")
	in.Images = rapid.SampledFrom([][]string{nil, {"backend"}}).Draw(t, "images")
	in.Artifacts = rapid.SampledFrom([][]string{nil, {"a:b:1"}, {"a:b:1-SNAPSHOT"}, {"a:bb:1"}}).Draw(t, "artifacts")
	in.Roles = map[string][]string{"qa": {"qa"}, "cto": {"developer", "cto"}, "dev": {"cto"}}
	in.Guarded, in.GuardedExists, in.Frozen, in.NeedsVersion = !rare("unguarded"), !rare("no environment"), !rare("thawed"), rare("needs version")
	if !in.Frozen || rare("no bundle") {
		in.BundleHash = ""
	}
	if rare("creator unknown") {
		in.CreatedBy = ""
	}
	if !in.Frozen {
		in.FrozenMessage = "no such tag"
	}
	if rapid.Bool().Draw(t, "after") {
		in.After = "dev"
	}
	for i, name := range []string{"hold", "superseded", "failed"} {
		if rare(name) {
			*[]*string{&in.Hold, &in.SupersededBy, &in.Failed}[i] = "r0"
		}
	}
	if rare("debt") {
		in.Debts = []v1alpha1.Debt{{Release: "r0", Gate: "g0", User: "cto"}}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "reservations") {
		in.Reservations = append(in.Reservations, Reservation{PV: "p0", Number: i + 1, Deadline: rapid.SampledFrom([]string{"", "2026-11-21", "2026-11-22", "2027-01-01"}).Draw(t, "deadline")})
	}
	if rare("windowed") {
		in.Window = rapid.SampledFrom(windows).Draw(t, "window").window
	}
	for _, env := range []string{"dev", "test"} {
		if rare("not in " + env) {
			continue
		}
		e := healthy(time.Duration(rapid.IntRange(0, 4).Draw(t, "since")) * time.Hour)
		e.Phase = rapid.SampledFrom([]string{v1alpha1.PhaseHealthy, v1alpha1.PhaseHealthy, v1alpha1.PhaseHealthy, v1alpha1.PhaseSuperseded, v1alpha1.PhaseUnhealthy, v1alpha1.PhaseRolledBack}).Draw(t, "phase")
		switch e.Phase {
		case v1alpha1.PhaseSuperseded:
			e.HealthyUntil = &metav1.Time{Time: e.HealthySince.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "for")) * time.Hour)}
		case v1alpha1.PhaseUnhealthy, v1alpha1.PhaseRolledBack:
			e.HealthySince = nil
		}
		in.Environments[env] = e
	}
	for range rapid.IntRange(0, 4).Draw(t, "approvals") {
		in.Approvals = append(in.Approvals, v1alpha1.ApprovalRecord{Gate: "g", User: rapid.SampledFrom([]string{"dev", "qa", "cto", "x"}).Draw(t, "user"),
			Decision:   rapid.SampledFrom([]string{"Approved", "Approved", "Approved", "Approved", "Approved", "BrokeGlass", "Rejected", "Regularised"}).Draw(t, "decision"),
			BundleHash: rapid.SampledFrom([]string{hash, hash, hash, "", "sha256:bb"}).Draw(t, "hash"), Stale: rapid.SampledFrom([]string{"", "", "", "stale"}).Draw(t, "stale")})
	}
	if rapid.Bool().Draw(t, "pv") {
		in.PV = &PV{Name: "p", BundleHash: hash, TestedHash: rapid.SampledFrom([]string{hash, hash, "sha256:bb"}).Draw(t, "tested"),
			Decision: rapid.SampledFrom([]v1alpha1.PVDecision{"", v1alpha1.PVAccepted, v1alpha1.PVAcceptedWithReservations, v1alpha1.PVRefused}).Draw(t, "decision")}
	}
	var all []hurdle
	for i := range rapid.IntRange(1, 3).Draw(t, "criteria") {
		h := rapid.SampledFrom(hurdles).Draw(t, "kind")(t)
		h.criterion.Name = fmt.Sprint("c", i)
		in.Spec.Criteria = append(in.Spec.Criteria, h.criterion)
		all = append(all, h)
	}
	return in, all
}

// opens is the oracle: everything that must be true of a gate that opens.
func opens(in Input, all []hurdle) bool {
	broke := false
	for _, a := range in.Approvals {
		if a.Decision == "Rejected" {
			return false
		}
		broke = broke || a.Decision == "BrokeGlass" && a.Stale == "" && a.BundleHash == hash && in.BundleHash == hash && in.Guarded
	}
	if !in.GuardedExists || in.BundleHash == "" || in.NeedsVersion || in.SupersededBy != "" || in.Failed != "" || in.After != "" && !wasHealthy(in, in.After) {
		return false
	}
	if broke {
		return true
	}
	for _, w := range windows {
		if w.window == in.Window && !w.open {
			return false
		}
	}
	if in.Hold != "" && in.Spec.Mode == v1alpha1.ModeAutomatic || len(in.Debts) > 0 {
		return false
	}
	for _, h := range all {
		if !h.holds(in) || h.criterion.PV != nil && slices.ContainsFunc(in.Reservations, func(r Reservation) bool { return r.Deadline == "2026-11-21" }) {
			return false
		}
	}
	return true
}

// A gate opens if everything holds that must, and never otherwise; a verdict that is not Passed says why.
func TestAGateOpensOnlyIfEverythingHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, all := drawGate(t)
		got := Judge(in)
		if want := opens(in, all); (got.Verdict == isPassed) != want {
			t.Fatalf("%s, but opens: %v: %+v", got.Verdict, want, got.Criteria)
		}
		if got.Verdict != isPassed && got.Message == "" {
			t.Fatalf("%s without a word: %+v", got.Verdict, got)
		}
		names := map[string]bool{}
		for _, c := range got.Criteria {
			if names[c.Name] || c.Reason == "" {
				t.Fatalf("criterion %q is told twice, or without reason: %+v", c.Name, got.Criteria)
			}
			names[c.Name] = true
			if c.Verdict == isRefused && got.Verdict != isRefused || c.Verdict == isWaiting && got.Verdict == isPassed {
				t.Fatalf("%s although %s is %s", got.Verdict, c.Name, c.Verdict)
			}
		}
	})
}

// Time changes nothing before the recheck, and the recheck is never in the past.
func TestNothingChangesBeforeTheRecheck(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawGate(t)
		got := Judge(in)
		if !got.Recheck.IsZero() && !got.Recheck.After(in.Now) {
			t.Fatalf("recheck at %s, now is %s", got.Recheck, in.Now)
		}
		span := 100 * 24 * time.Hour
		if !got.Recheck.IsZero() {
			span = got.Recheck.Sub(in.Now) - 1
		}
		later := in
		later.Now = in.Now.Add(time.Duration(rapid.Int64Range(0, int64(span)).Draw(t, "later")))
		if again := Judge(later); again.Verdict != got.Verdict || again.Message != got.Message || strings.Join(again.WaitingFor, ",") != strings.Join(got.WaitingFor, ",") || !again.Recheck.Equal(got.Recheck) {
			t.Fatalf("at %s %s: %s\nat %s %s: %s\nrechecks %s and %s", in.Now, got.Verdict, got.Message, later.Now, again.Verdict, again.Message, got.Recheck, again.Recheck)
		}
	})
}
