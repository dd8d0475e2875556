// SPDX-License-Identifier: Apache-2.0

package karma

import (
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

func policy() v1alpha1.KarmaPolicy {
	return v1alpha1.KarmaPolicy{
		Tests: 20, Coverage: 15, CoverageTarget: 80, Scan: 15, PerHigh: 3, PerMedium: 1,
		Crossing: 50, RolledBack: 10, PVRefused: 10, BreakGlass: 20,
	}
}

func set(results ...evidence.Result) evidence.Set {
	s := evidence.Set{Results: map[string]evidence.Result{}}
	for _, r := range results {
		s.Results[r.Type] = r
	}
	return s
}

func percent(f float64) *float64 { return &f }

func TestCompute(t *testing.T) {
	passed := evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed, Coverage: percent(85)}
	clean := evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed}
	for _, c := range []struct {
		name         string
		in           Input
		karma, works int32
		level        string
	}{
		{"nothing reported is nothing earned", Input{}, 0, 0, "Damné"},
		{"the seed's call alone: tests and coverage", Input{Evidence: set(passed)}, 35, 35, "Pécheur"},
		{"perfect works", Input{Evidence: set(passed, clean)}, 50, 50, "Repenti"},
		{"perfect and crossed", Input{Evidence: set(passed, clean), Crossed: true}, 100, 50, "Code Divin"},
		{"coverage below target counts in proportion", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeCoverage, Coverage: percent(40)})}, 7, 7, "Damné"},
		{"a share of the tests", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusFailed,
			Tests: &v1alpha1.TestCounts{Total: 12, Passed: 9, Failed: 1, Skipped: 2}})}, 18, 18, "Damné"},
		{"all skipped is not a pass", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed,
			Tests: &v1alpha1.TestCounts{Total: 5, Skipped: 5}})}, 0, 0, "Damné"},
		{"a critical finding takes the whole scan", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 1}})}, 0, 0, "Damné"},
		{"highs and mediums", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 2, Medium: 4}})}, 5, 5, "Damné"},
		{"rolled back in production", Input{Evidence: set(passed, clean), Crossed: true, RolledBack: true}, 40, 50, "Repenti"},
		{"refused twice", Input{Evidence: set(passed, clean), Crossed: true, PVsRefused: 2}, 80, 50, "Saint"},
		{"break-glass", Input{Evidence: set(passed, clean), Crossed: true, GlassBroken: 1}, 80, 50, "Saint"},
		{"never below zero", Input{GlassBroken: 3}, 0, 0, "Damné"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Policy = policy()
			got := Compute(c.in)
			if got.Karma != c.karma || got.Works != c.works || got.Level != c.level {
				t.Errorf("got karma %d, works %d, %s; want %d, %d, %s\n%+v", got.Karma, got.Works, got.Level, c.karma, c.works, c.level, got.Breakdown)
			}
		})
	}
}

func drawInput(t *rapid.T) Input {
	in := Input{Policy: policy(), Crossed: rapid.Bool().Draw(t, "crossed"), RolledBack: rapid.Bool().Draw(t, "rolledBack"),
		PVsRefused: rapid.Int32Range(0, 4).Draw(t, "refused"), GlassBroken: rapid.Int32Range(0, 2).Draw(t, "glass")}
	in.Evidence = evidence.Set{Results: map[string]evidence.Result{}}
	if rapid.Bool().Draw(t, "hasTests") {
		total := rapid.Int32Range(0, 1000).Draw(t, "total")
		skipped := rapid.Int32Range(0, total).Draw(t, "skipped")
		passed := rapid.Int32Range(0, total-skipped).Draw(t, "passed")
		counts := v1alpha1.TestCounts{Total: total, Skipped: skipped, Passed: passed, Failed: total - skipped - passed}
		status := v1alpha1.StatusPassed
		if counts.Failed > 0 {
			status = v1alpha1.StatusFailed
		}
		in.Evidence.Results[v1alpha1.TypeTests] = evidence.Result{Type: v1alpha1.TypeTests, Status: status, Tests: &counts,
			Coverage: percent(rapid.Float64Range(0, 100).Draw(t, "coverage"))}
	}
	if rapid.Bool().Draw(t, "hasScan") {
		in.Evidence.Results[v1alpha1.TypeScan] = evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: rapid.Int32Range(0, 2).Draw(t, "critical"),
				High: rapid.Int32Range(0, 8).Draw(t, "high"), Medium: rapid.Int32Range(0, 20).Draw(t, "medium")}}
	}
	return in
}

func TestBreakdownAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := Compute(drawInput(t))
		if s := sum(got.Breakdown); s != got.Karma || got.Karma < 0 || got.Karma > Max || got.Works < 0 || got.Works > WorksMax {
			t.Fatalf("karma %d, works %d, lines add up to %d: %+v", got.Karma, got.Works, s, got.Breakdown)
		}
	})
}

// Better evidence never lowers karma.
func TestMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		better := in
		better.Evidence = evidence.Set{Results: map[string]evidence.Result{}}
		for k, v := range in.Evidence.Results {
			better.Evidence.Results[k] = v
		}
		switch rapid.IntRange(0, 5).Draw(t, "improvement") {
		case 0:
			better.RolledBack = false
		case 1:
			better.PVsRefused = max(0, in.PVsRefused-1)
		case 2:
			better.Crossed = true
		case 3:
			if r, ok := better.Evidence.Results[v1alpha1.TypeScan]; ok {
				v := *r.Vulnerabilities
				v.High, v.Critical = max(0, v.High-1), max(0, v.Critical-1)
				r.Vulnerabilities = &v
				better.Evidence.Results[v1alpha1.TypeScan] = r
			}
		case 4:
			if r, ok := better.Evidence.Results[v1alpha1.TypeTests]; ok && r.Tests.Failed > 0 {
				c := *r.Tests
				c.Failed, c.Passed = c.Failed-1, c.Passed+1
				r.Tests = &c
				if c.Failed == 0 {
					r.Status = v1alpha1.StatusPassed
				}
				better.Evidence.Results[v1alpha1.TypeTests] = r
			}
		case 5:
			if r, ok := better.Evidence.Results[v1alpha1.TypeTests]; ok {
				r.Coverage = percent(min(100, *r.Coverage+rapid.Float64Range(0, 50).Draw(t, "more")))
				better.Evidence.Results[v1alpha1.TypeTests] = r
			}
		}
		if a, b := Compute(in), Compute(better); b.Karma < a.Karma {
			t.Fatalf("karma fell from %d to %d\n%+v\n%+v", a.Karma, b.Karma, a.Breakdown, b.Breakdown)
		}
	})
}

func TestProject(t *testing.T) {
	for _, c := range []struct {
		in   []int32
		want int32
	}{{nil, 0}, {[]int32{100}, 100}, {[]int32{100, 0}, 52}, {[]int32{50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 0, 0}, 50}} {
		if got := Project(c.in); got != c.want {
			t.Errorf("Project(%v) = %d, want %d", c.in, got, c.want)
		}
	}
}
