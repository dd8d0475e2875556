// SPDX-License-Identifier: Apache-2.0

// Package karma judges code by its works: a figure from 0 to 100 and the breakdown that adds up to it.
//
// Karma is a pure function of stored evidence, recomputed whenever anything changes and never accumulated. The package
// may import api/v1alpha1 and internal/evidence only.
package karma

import (
	"fmt"
	"math"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// WorksMax is the most that works can give by the standard scale; soaks are scaled by works/WorksMax.
const WorksMax = 50

// Max is the highest karma.
const Max = 100

// Input is all that karma depends on.
type Input struct {
	Policy   v1alpha1.KarmaPolicy
	Evidence evidence.Set
	// Baseline is what the last release on the branch reported; nil if there is none.
	Baseline *v1alpha1.Baseline
	// Crossed: the release is or was confirmed healthy in the last environment of the bridge; of a module, it is published.
	Crossed bool
	// Module: the release is of a module, which has no production. To be published is its crossing.
	Module bool
	// RolledBack: it was rolled back there. The crossing is lost even if it was healthy before.
	RolledBack bool
	// PVsRefused counts the PVs that the client refused.
	PVsRefused int32
	// GlassBroken counts the gates opened by break-glass.
	GlassBroken int32
}

// Score is the result.
type Score struct {
	Karma int32
	// Works is the part that the code earned by itself, 0–50.
	Works     int32
	Level     string
	Breakdown []v1alpha1.KarmaLine
}

// Compute is the scale. The lines of the breakdown add up to the karma.
func Compute(in Input) Score {
	works := withLosses(tests(in), fewerTests(in), moreSkips(in))
	works = append(works, withLosses(coverage(in), smallerBase(in))...)
	works = append(works, scan(in))
	lines := append([]v1alpha1.KarmaLine(nil), works...)
	lines = append(lines, crossing(in))
	if in.RolledBack {
		lines = append(lines, v1alpha1.KarmaLine{Name: "rolled-back", Points: -in.Policy.RolledBack, Message: "rolled back in production"})
	}
	if in.PVsRefused > 0 {
		lines = append(lines, v1alpha1.KarmaLine{Name: "pv-refused", Points: -in.Policy.PVRefused * in.PVsRefused,
			Message: fmt.Sprintf("%d PV refused by the client", in.PVsRefused)})
	}
	if in.GlassBroken > 0 {
		lines = append(lines, v1alpha1.KarmaLine{Name: "break-glass", Points: -in.Policy.BreakGlass * in.GlassBroken,
			Message: fmt.Sprintf("%d gate(s) opened by break-glass", in.GlassBroken)})
	}
	score := Score{Works: min(sum(works), WorksMax)}
	total := sum(lines)
	score.Karma = min(max(total, 0), Max)
	if score.Karma != total {
		lines = append(lines, v1alpha1.KarmaLine{Name: "clamp", Points: score.Karma - total, Message: "karma stays within 0 and 100"})
	}
	score.Breakdown = lines
	score.Level = Level(score.Karma)
	return score
}

// Level names a karma.
func Level(karma int32) string {
	switch {
	case karma >= 100:
		return "Code Divin"
	case karma >= 80:
		return "Saint"
	case karma >= 60:
		return "Pieux"
	case karma >= 40:
		return "Repenti"
	case karma >= 20:
		return "Pécheur"
	}
	return "Damné"
}

// projectWindow is the number of releases that a project's karma looks at.
const projectWindow = 10

// Project is the weighted mean of the karma of a project's releases, newest first: the newest weighs ten, the tenth one.
func Project(newestFirst []int32) int32 {
	var weighted, weights int64
	for i, k := range newestFirst[:min(len(newestFirst), projectWindow)] {
		w := int64(projectWindow - i)
		weighted += w * int64(k)
		weights += w
	}
	if weights == 0 {
		return 0
	}
	return int32(weighted / weights)
}

func tests(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "tests", Max: in.Policy.Tests}
	r, ok := in.Evidence.Results[v1alpha1.TypeTests]
	switch {
	case !ok:
		line.Message = "no report of tests"
	case r.Status == v1alpha1.StatusSkipped:
		line.Message = "tests were skipped"
	case r.Tests == nil && r.Status == v1alpha1.StatusPassed:
		line.Points, line.Message = line.Max, "all passed"
	case r.Tests == nil:
		line.Message = "tests failed"
	case evidence.TestsRun(*r.Tests) == 0:
		line.Message = "no test was run"
	case r.Status != v1alpha1.StatusPassed && r.Tests.Failed == 0:
		line.Message = "the run failed although no test did"
	default:
		run := evidence.TestsRun(*r.Tests)
		line.Points = int32(int64(line.Max) * int64(min(r.Tests.Passed, run)) / int64(run))
		line.Message = fmt.Sprintf("%d of %d passed", r.Tests.Passed, run)
		if r.Tests.Skipped > 0 {
			line.Message += fmt.Sprintf(", %d skipped", r.Tests.Skipped)
		}
	}
	return line
}

// withLosses adds what is lost against the last release on the branch; no more is lost than was earned.
func withLosses(earned v1alpha1.KarmaLine, losses ...v1alpha1.KarmaLine) []v1alpha1.KarmaLine {
	lines := []v1alpha1.KarmaLine{earned}
	left := earned.Points
	for _, l := range losses {
		if l.Points = max(l.Points, -left); l.Points < 0 {
			left += l.Points
			lines = append(lines, l)
		}
	}
	return lines
}

// share is the part of points that lost is of whole, rounded up: whoever loses a little loses something.
func share(points, lost, whole int32) int32 {
	if lost <= 0 || whole <= 0 {
		return 0
	}
	return int32((int64(points)*int64(min(lost, whole)) + int64(whole) - 1) / int64(whole))
}

func fewerTests(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "tests-fewer"}
	r, ok := in.Evidence.Results[v1alpha1.TypeTests]
	if b := in.Baseline; ok && b != nil && b.Tests != nil {
		if r.Tests == nil {
			line.Points, line.Message = -in.Policy.Tests, fmt.Sprintf("no counts, although %s reported %d tests", b.Release, *b.Tests)
		} else if r.Tests.Total < *b.Tests {
			line.Points = -share(in.Policy.Tests, *b.Tests-r.Tests.Total, *b.Tests)
			line.Message = fmt.Sprintf("%d tests, %s had %d", r.Tests.Total, b.Release, *b.Tests)
		}
	}
	return line
}

func moreSkips(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "tests-skipped"}
	r, ok := in.Evidence.Results[v1alpha1.TypeTests]
	if b := in.Baseline; ok && b != nil && b.Skipped != nil && r.Tests != nil && r.Tests.Skipped > *b.Skipped {
		line.Points = -share(in.Policy.Tests, r.Tests.Skipped-*b.Skipped, r.Tests.Total)
		line.Message = fmt.Sprintf("%d tests skipped, %s skipped %d", r.Tests.Skipped, b.Release, *b.Skipped)
	}
	return line
}

func smallerBase(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "coverage-base"}
	b := in.Baseline
	if c, _ := in.Evidence.Coverage(); c == nil || b == nil || b.CoverageBase == nil {
		return line
	}
	base := in.Evidence.CoverageBase()
	switch {
	case base == nil:
		line.Points = -in.Policy.Coverage
		line.Message = fmt.Sprintf("no number of lines, although %s measured %d", b.Release, *b.CoverageBase)
	case *base < *b.CoverageBase:
		line.Points = -share(in.Policy.Coverage, *b.CoverageBase-*base, *b.CoverageBase)
		line.Message = fmt.Sprintf("measured over %d lines, %s over %d", *base, b.Release, *b.CoverageBase)
	}
	return line
}

func coverage(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "coverage", Max: in.Policy.Coverage}
	c, _ := in.Evidence.Coverage()
	if c == nil {
		line.Message = "no report of coverage"
		return line
	}
	// Whole hundredths of a percent, rounded down, so that the figure does not depend on the order of float operations.
	hundredths := int64(math.Floor(*c*100 + 1e-6))
	target := int64(in.Policy.CoverageTarget) * 100
	line.Points = int32(int64(line.Max) * min(hundredths, target) / target)
	line.Message = fmt.Sprintf("%.4g %% of a target of %d %%", *c, in.Policy.CoverageTarget)
	return line
}

func scan(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "scan", Max: in.Policy.Scan}
	r, ok := in.Evidence.Results[v1alpha1.TypeScan]
	switch {
	case !ok:
		line.Message = "no report of a scan"
	case r.Status == v1alpha1.StatusSkipped:
		line.Message = "the scan was skipped"
	case r.Vulnerabilities == nil && r.Status == v1alpha1.StatusPassed:
		line.Points, line.Message = line.Max, "no findings"
	case r.Vulnerabilities == nil:
		line.Message = "the scan failed"
	case r.Status != v1alpha1.StatusPassed && *r.Vulnerabilities == v1alpha1.VulnerabilityCounts{}:
		line.Message = "the scan failed although it found nothing"
	case r.Vulnerabilities.Critical > 0:
		line.Message = fmt.Sprintf("%d critical", r.Vulnerabilities.Critical)
	default:
		v := r.Vulnerabilities
		lost := int64(in.Policy.PerHigh)*int64(v.High) + int64(in.Policy.PerMedium)*int64(v.Medium)
		line.Points = int32(max(0, int64(line.Max)-lost))
		line.Message = fmt.Sprintf("%d high, %d medium", v.High, v.Medium)
	}
	return line
}

func crossing(in Input) v1alpha1.KarmaLine {
	line := v1alpha1.KarmaLine{Name: "crossing", Max: in.Policy.Crossing}
	switch {
	case in.RolledBack:
		line.Message = "lost: rolled back in production"
	case in.Module && in.Crossed:
		line.Points, line.Message = line.Max, "published"
	case in.Module:
		line.Message = "not published yet"
	case in.Crossed:
		line.Points, line.Message = line.Max, "healthy in production"
	default:
		line.Message = "not in production yet"
	}
	return line
}

func sum(lines []v1alpha1.KarmaLine) (total int32) {
	for _, l := range lines {
		total += l.Points
	}
	return total
}
