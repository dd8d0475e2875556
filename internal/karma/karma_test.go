// SPDX-License-Identifier: Apache-2.0

package karma

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		{"what failed and counts nothing earned nothing", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusFailed},
			evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusFailed})}, 0, 0, "Damné"},
		{"nor what failed although everything that it counts is good", Input{Evidence: set(
			evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusFailed, Tests: &v1alpha1.TestCounts{Total: 10, Passed: 10}},
			evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusFailed, Vulnerabilities: &v1alpha1.VulnerabilityCounts{}})}, 0, 0, "Damné"},
		{"nor what was skipped, whatever it counts", Input{Evidence: set(
			evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusSkipped, Tests: &v1alpha1.TestCounts{Total: 10, Passed: 9, Failed: 1}},
			evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusSkipped, Vulnerabilities: &v1alpha1.VulnerabilityCounts{}})}, 0, 0, "Damné"},
		{"nor a scan that was skipped and found little", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusSkipped,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Low: 1}})}, 0, 0, "Damné"},
		{"a scan that found nothing earned all", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{}})}, 15, 15, "Damné"},
		{"a scan that failed for what it found is judged by that", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusFailed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 2}})}, 9, 9, "Damné"},
		{"no findings take more than the scan gives", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 5, Medium: 1}})}, 0, 0, "Damné"},
		{"coverage is not rounded up to its target", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeCoverage, Coverage: percent(79.99)})}, 14, 14, "Damné"},
		{"counts that contradict themselves lose nothing", Input{Baseline: baseline(0, 0, 0), Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed,
			Tests: &v1alpha1.TestCounts{Skipped: 5}})}, 0, 0, "Damné"},
		{"a module that is published has crossed", Input{Evidence: set(passed), Module: true, Crossed: true}, 85, 35, "Saint"},
		{"a module that is not has not", Input{Evidence: set(passed), Module: true}, 35, 35, "Pécheur"},
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

// Weights of its own make no more of works than 50 and of karma than 100, and what is cut off is a line of the breakdown.
func TestBreakdown(t *testing.T) {
	good := set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed, Coverage: percent(85)}, evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed})
	generous := policy()
	generous.Tests = 60
	for _, c := range []struct {
		in           Input
		karma, works int32
		want         []string
	}{
		{Input{Policy: policy(), Evidence: good, Crossed: true}, 100, 50, []string{"tests 20/20", "coverage 15/15", "scan 15/15", "crossing 50/50"}},
		{Input{Policy: generous, Evidence: good, Crossed: true}, 100, 50, []string{"tests 60/60", "coverage 15/15", "scan 15/15", "crossing 50/50", "clamp -40/0"}},
		{Input{Policy: policy(), Evidence: good, Crossed: true, RolledBack: true, PVsRefused: 1, GlassBroken: 2}, 0, 50,
			[]string{"tests 20/20", "coverage 15/15", "scan 15/15", "crossing 0/50", "rolled-back -10/0", "pv-refused -10/0", "break-glass -40/0", "clamp 10/0"}},
	} {
		got := Compute(c.in)
		var lines []string
		for _, l := range got.Breakdown {
			lines = append(lines, fmt.Sprintf("%s %d/%d", l.Name, l.Points, l.Max))
		}
		if diff := cmp.Diff(c.want, lines); diff != "" || got.Karma != c.karma || got.Works != c.works {
			t.Errorf("karma %d, works %d: %s", got.Karma, got.Works, diff)
		}
	}
}

func TestLevel(t *testing.T) {
	for karma, want := range map[int32]string{
		0: "Damné", 19: "Damné", 20: "Pécheur", 39: "Pécheur", 40: "Repenti", 59: "Repenti", 60: "Pieux", 79: "Pieux", 80: "Saint", 99: "Saint", 100: "Code Divin",
	} {
		if got := Level(karma); got != want {
			t.Errorf("%d: %s, want %s", karma, got, want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// baseline is what the last release reported.
func baseline(tests, skipped, lines int32) *v1alpha1.Baseline {
	return &v1alpha1.Baseline{Release: "aaaaaaa", Tests: &tests, Skipped: &skipped, CoverageBase: &lines}
}

func TestLossesAgainstTheLastRelease(t *testing.T) {
	tests := func(total, passed, skipped int32) evidence.Result {
		r := evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed, Tests: &v1alpha1.TestCounts{
			Total: total, Passed: passed, Skipped: skipped, Failed: total - passed - skipped}}
		if r.Tests.Failed > 0 {
			r.Status = v1alpha1.StatusFailed
		}
		return r
	}
	covers := func(percent float64, lines *int32) evidence.Result {
		return evidence.Result{Type: v1alpha1.TypeCoverage, Status: v1alpha1.StatusPassed, Coverage: &percent, CoverageBase: lines}
	}
	type points map[string]int32 // by line; those of 0 are left out
	for _, c := range []struct {
		name string
		in   Input
		want points
	}{
		{"no baseline, no loss", Input{Evidence: set(tests(1, 1, 0))}, points{"tests": 20}},
		{"as many tests as before", Input{Evidence: set(tests(100, 100, 0)), Baseline: baseline(100, 0, 0)}, points{"tests": 20}},
		{"more tests than before", Input{Evidence: set(tests(101, 101, 0)), Baseline: baseline(100, 0, 0)}, points{"tests": 20}},
		{"half the tests cost half the points", Input{Evidence: set(tests(50, 50, 0)), Baseline: baseline(100, 0, 0)}, points{"tests": 20, "tests-fewer": -10}},
		{"one test less costs one point", Input{Evidence: set(tests(999, 999, 0)), Baseline: baseline(1000, 0, 0)}, points{"tests": 20, "tests-fewer": -1}},
		{"no test left: nothing is earned, nothing is lost", Input{Evidence: set(tests(0, 0, 0)), Baseline: baseline(100, 0, 0)}, points{}},
		{"no counts although there were some", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed}), Baseline: baseline(100, 0, 0)},
			points{"tests": 20, "tests-fewer": -20}},
		{"no counts although there were some, even if these were none", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed}), Baseline: baseline(0, 0, 0)},
			points{"tests": 20, "tests-fewer": -20}},
		{"no counts, and none before", Input{Evidence: set(evidence.Result{Type: v1alpha1.TypeTests, Status: v1alpha1.StatusPassed}),
			Baseline: &v1alpha1.Baseline{Release: "aaaaaaa", CoverageBase: ptr(int32(1))}}, points{"tests": 20}},
		{"no tests at all: nothing can be lost twice", Input{Baseline: baseline(100, 0, 100)}, points{}},
		{"as many skipped as before", Input{Evidence: set(tests(100, 90, 10)), Baseline: baseline(100, 10, 0)}, points{"tests": 20}},
		{"more skipped than before", Input{Evidence: set(tests(100, 80, 20)), Baseline: baseline(100, 10, 0)}, points{"tests": 20, "tests-skipped": -2}},
		{"one more skipped costs one point", Input{Evidence: set(tests(1000, 999, 1)), Baseline: baseline(1000, 0, 0)}, points{"tests": 20, "tests-skipped": -1}},
		{"fewer and more skipped: both are lost", Input{Evidence: set(tests(50, 25, 25)), Baseline: baseline(100, 0, 0)},
			points{"tests": 20, "tests-fewer": -10, "tests-skipped": -10}},
		{"no more is lost than was earned", Input{Evidence: set(tests(10, 1, 0)), Baseline: baseline(100, 0, 0)}, points{"tests": 2, "tests-fewer": -2}},
		{"what is left after the first loss bounds the second", Input{Evidence: set(tests(40, 10, 20)), Baseline: baseline(100, 0, 0)},
			points{"tests": 10, "tests-fewer": -10}},
		{"as many lines as before", Input{Evidence: set(covers(80, ptr(int32(1000)))), Baseline: baseline(0, 0, 1000)}, points{"coverage": 15}},
		{"measured over half the lines", Input{Evidence: set(covers(80, ptr(int32(500)))), Baseline: baseline(0, 0, 1000)}, points{"coverage": 15, "coverage-base": -8}},
		{"measured over nobody knows how many lines", Input{Evidence: set(covers(80, nil)), Baseline: baseline(0, 0, 1000)}, points{"coverage": 15, "coverage-base": -15}},
		{"lower coverage over fewer lines: no more than was earned", Input{Evidence: set(covers(16, ptr(int32(1)))), Baseline: baseline(0, 0, 1000)},
			points{"coverage": 3, "coverage-base": -3}},
		{"no coverage: nothing can be lost twice", Input{Evidence: set(tests(1, 1, 0)), Baseline: baseline(1, 0, 1000)}, points{"tests": 20}},
		{"the base is gone together with the coverage of lines before", Input{Evidence: set(covers(80, nil)), Baseline: &v1alpha1.Baseline{Release: "aaaaaaa"}}, points{"coverage": 15}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Policy = policy()
			got, total := points{}, int32(0)
			score := Compute(c.in)
			for _, l := range score.Breakdown {
				total += l.Points
				if l.Points != 0 {
					got[l.Name] = l.Points
				}
				if l.Points < 0 && l.Message == "" {
					t.Errorf("%s does not say why", l.Name)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" || score.Karma != total || score.Works != total {
				t.Errorf("karma %d, works %d, sum %d %s", score.Karma, score.Works, total, diff)
			}
		})
	}
}

func drawInput(t *rapid.T) Input {
	in := Input{Policy: policy(), Crossed: rapid.Bool().Draw(t, "crossed"), RolledBack: rapid.Bool().Draw(t, "rolledBack"),
		PVsRefused: rapid.Int32Range(0, 4).Draw(t, "refused"), GlassBroken: rapid.Int32Range(0, 2).Draw(t, "glass")}
	count := rapid.OneOf(rapid.Int32Range(0, 30), rapid.Int32Range(0, 1000))
	some := func(name string, g *rapid.Generator[int32]) *int32 {
		if !rapid.Bool().Draw(t, "has "+name) {
			return nil
		}
		return ptr(g.Draw(t, name))
	}
	in.Evidence = evidence.Set{Results: map[string]evidence.Result{}}
	if rapid.Bool().Draw(t, "hasTests") {
		total := count.Draw(t, "total")
		skipped := rapid.Int32Range(0, total).Draw(t, "skipped")
		passed := rapid.Int32Range(0, total-skipped).Draw(t, "passed")
		counts := v1alpha1.TestCounts{Total: total, Skipped: skipped, Passed: passed, Failed: total - skipped - passed}
		status := v1alpha1.StatusPassed
		if counts.Failed > 0 {
			status = v1alpha1.StatusFailed
		}
		in.Evidence.Results[v1alpha1.TypeTests] = evidence.Result{Type: v1alpha1.TypeTests, Status: status, Tests: &counts,
			Coverage: percent(rapid.Float64Range(0, 100).Draw(t, "coverage")), CoverageBase: some("lines", count)}
	}
	if rapid.Bool().Draw(t, "hasScan") {
		in.Evidence.Results[v1alpha1.TypeScan] = evidence.Result{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: rapid.Int32Range(0, 2).Draw(t, "critical"),
				High: rapid.Int32Range(0, 8).Draw(t, "high"), Medium: rapid.Int32Range(0, 20).Draw(t, "medium"), Low: rapid.Int32Range(0, 20).Draw(t, "low")}}
	}
	for _, typ := range []string{v1alpha1.TypeCoverage, v1alpha1.TypeQuality} {
		if rapid.Bool().Draw(t, "has "+typ) {
			in.Evidence.Results[typ] = evidence.Result{Type: typ, Status: v1alpha1.StatusPassed,
				Coverage: percent(rapid.Float64Range(0, 100).Draw(t, typ)), CoverageBase: some("lines of "+typ, count)}
		}
	}
	if rapid.Bool().Draw(t, "hasBaseline") {
		in.Baseline = &v1alpha1.Baseline{Release: "aaaaaaa", Tests: some("tests before", count), Skipped: some("skipped before", count), CoverageBase: some("lines before", count)}
	}
	return in
}

func TestBreakdownAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := Compute(drawInput(t))
		if s := sum(got.Breakdown); s != got.Karma || got.Karma < 0 || got.Karma > Max || got.Works < 0 || got.Works > WorksMax {
			t.Fatalf("karma %d, works %d, lines add up to %d: %+v", got.Karma, got.Works, s, got.Breakdown)
		}
		left := map[string]int32{}
		for _, l := range got.Breakdown {
			if l.Max > 0 {
				left[l.Name] += l.Points
			}
			switch l.Name {
			case "tests-fewer", "tests-skipped":
				left["tests"] += l.Points
			case "coverage-base":
				left["coverage"] += l.Points
			}
			if l.Points > l.Max && l.Name != "clamp" {
				t.Fatalf("%s gives %d of %d", l.Name, l.Points, l.Max)
			}
			if l.Message == "" {
				t.Fatalf("%s does not say why", l.Name)
			}
		}
		for name, points := range left {
			if points < 0 {
				t.Fatalf("more was lost than %s earned: %+v", name, got.Breakdown)
			}
		}
	})
}

// improvements are what better evidence is; false where there is nothing to improve.
var improvements = map[string]func(t *rapid.T, in *Input) bool{
	"not rolled back": func(_ *rapid.T, in *Input) bool { in.RolledBack = false; return true },
	"crossed":         func(_ *rapid.T, in *Input) bool { in.Crossed = true; return true },
	"one refusal less": func(_ *rapid.T, in *Input) bool {
		in.PVsRefused = max(0, in.PVsRefused-1)
		return true
	},
	"one break-glass less": func(_ *rapid.T, in *Input) bool {
		in.GlassBroken = max(0, in.GlassBroken-1)
		return true
	},
	"fewer findings": func(t *rapid.T, in *Input) bool {
		return onResult(in, v1alpha1.TypeScan, func(r *evidence.Result) bool {
			v := *r.Vulnerabilities
			for _, n := range []*int32{&v.Critical, &v.High, &v.Medium, &v.Low} {
				*n = max(0, *n-rapid.Int32Range(0, 3).Draw(t, "fewer"))
			}
			r.Vulnerabilities = &v
			return true
		})
	},
	"passed instead of failed": func(_ *rapid.T, in *Input) bool {
		return onTests(in, func(c *v1alpha1.TestCounts) *int32 { return &c.Failed })
	},
	"passed instead of skipped": func(_ *rapid.T, in *Input) bool {
		return onTests(in, func(c *v1alpha1.TestCounts) *int32 { return &c.Skipped })
	},
	"one more test that passes": func(_ *rapid.T, in *Input) bool {
		return onTests(in, func(c *v1alpha1.TestCounts) *int32 { c.Total++; return ptr(int32(1)) })
	},
	"higher coverage": func(t *rapid.T, in *Input) bool {
		return onResult(in, drawCovering(t), func(r *evidence.Result) bool {
			r.Coverage = percent(min(100, *r.Coverage+rapid.Float64Range(0, 50).Draw(t, "more")))
			return true
		})
	},
	"more lines": func(t *rapid.T, in *Input) bool {
		return onResult(in, drawCovering(t), func(r *evidence.Result) bool {
			more := rapid.Int32Range(0, 2000).Draw(t, "more")
			if r.CoverageBase != nil {
				more += *r.CoverageBase
			}
			r.CoverageBase = &more
			return true
		})
	},
}

func drawCovering(t *rapid.T) string {
	return rapid.SampledFrom([]string{v1alpha1.TypeTests, v1alpha1.TypeCoverage, v1alpha1.TypeQuality}).Draw(t, "type")
}

// onResult changes a copy of a result, if there is one.
func onResult(in *Input, typ string, change func(*evidence.Result) bool) bool {
	r, ok := in.Evidence.Results[typ]
	if !ok || !change(&r) {
		return false
	}
	in.Evidence = evidence.Set{Results: maps.Clone(in.Evidence.Results)}
	in.Evidence.Results[typ] = r
	return true
}

// onTests makes one of some tests pass.
func onTests(in *Input, of func(*v1alpha1.TestCounts) *int32) bool {
	return onResult(in, v1alpha1.TypeTests, func(r *evidence.Result) bool {
		c := *r.Tests
		n := of(&c)
		if *n == 0 {
			return false
		}
		*n--
		c.Passed++
		r.Tests = &c
		if c.Failed == 0 {
			r.Status = v1alpha1.StatusPassed
		}
		return true
	})
}

// Better evidence never lowers karma or works.
func TestMonotonic(t *testing.T) {
	for name, improve := range improvements {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				in := drawInput(t)
				better := in
				if !improve(t, &better) {
					return
				}
				if a, b := Compute(in), Compute(better); b.Karma < a.Karma || b.Works < a.Works {
					t.Fatalf("karma fell from %d to %d, works from %d to %d\n%+v\n%+v", a.Karma, b.Karma, a.Works, b.Works, a.Breakdown, b.Breakdown)
				}
			})
		})
	}
}

func TestProject(t *testing.T) {
	for _, c := range []struct {
		in   []int32
		want int32
	}{{nil, 0}, {[]int32{100}, 100}, {[]int32{100, 0}, 52}, {[]int32{100, 0, 0}, 37}, {[]int32{50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 0, 0}, 50}} {
		if got := Project(c.in); got != c.want {
			t.Errorf("Project(%v) = %d, want %d", c.in, got, c.want)
		}
	}
}
