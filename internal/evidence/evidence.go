// SPDX-License-Identifier: Apache-2.0

// Package evidence reduces the stored CI results of a commit to what counts: of each type the newest run, and of that run
// the worst. A later pass never hides an earlier failure unless it comes from a newer pipeline.
//
// It is pure: values in, values out. It may import api/v1alpha1 only.
package evidence

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Result is what counts of one type.
type Result struct {
	Type   string
	Status string
	// Coverage in percent: the lowest that the run reported, nil if it reported none.
	Coverage *float64
	// Tests of the worst report of the run.
	Tests *v1alpha1.TestCounts
	// Vulnerabilities: the highest count of each severity in the run, nil if it reported none.
	Vulnerabilities *v1alpha1.VulnerabilityCounts
	Pipeline        string
}

// Set is the evidence on one commit.
type Set struct {
	// Results by type.
	Results map[string]Result
	// Counted names the CIResults that the results were made of, sorted.
	Counted []string
}

// Reduce makes a Set of the CIResults of one commit. Deployments reported by pipelines are not evidence of quality and
// are left out; see Deployments.
func Reduce(results []v1alpha1.CIResult) Set {
	byType := map[string][]v1alpha1.CIResult{}
	for _, r := range results {
		if r.Spec.Type != v1alpha1.TypeDeployment {
			byType[r.Spec.Type] = append(byType[r.Spec.Type], r)
		}
	}
	set := Set{Results: map[string]Result{}}
	for typ, all := range byType {
		run := newestRun(all)
		set.Results[typ] = worst(typ, run)
		for _, r := range run {
			set.Counted = append(set.Counted, r.Name)
		}
	}
	slices.Sort(set.Counted)
	return set
}

// Coverage is the figure that counts, in percent, and the type that reported it: that of a result of type coverage, or
// else the lowest that any other type reported; nil if none did.
func (s Set) Coverage() (*float64, string) {
	if r, ok := s.Results[v1alpha1.TypeCoverage]; ok && r.Coverage != nil {
		return r.Coverage, r.Type
	}
	var lowest *float64
	var from string
	for typ, r := range s.Results {
		if r.Coverage != nil && (lowest == nil || *r.Coverage < *lowest || *r.Coverage == *lowest && typ < from) {
			lowest, from = r.Coverage, typ
		}
	}
	return lowest, from
}

// Deployments is the newest deployment that a pipeline reported for each environment.
func Deployments(results []v1alpha1.CIResult) map[string]v1alpha1.CIResult {
	newest := map[string]v1alpha1.CIResult{}
	for _, r := range results {
		if r.Spec.Type != v1alpha1.TypeDeployment {
			continue
		}
		if old, ok := newest[r.Spec.Environment]; !ok || later(r, old) {
			newest[r.Spec.Environment] = r
		}
	}
	return newest
}

func newestRun(results []v1alpha1.CIResult) []v1alpha1.CIResult {
	newest := slices.MaxFunc(results, func(a, b v1alpha1.CIResult) int {
		switch {
		case a.Spec.Pipeline == b.Spec.Pipeline:
			return 0
		case newerRun(a, b):
			return 1
		default:
			return -1
		}
	})
	var run []v1alpha1.CIResult
	for _, r := range results {
		if r.Spec.Pipeline == newest.Spec.Pipeline {
			run = append(run, r)
		}
	}
	slices.SortFunc(run, func(a, b v1alpha1.CIResult) int { return strings.Compare(a.Name, b.Name) })
	return run
}

// newerRun is a total order of pipelines that does not depend on arrival. Numeric ids, as every CI server gives them, are
// compared as numbers and are newer than any other id; others have no order of their own, so that they are compared as
// text, longer first. A result without a pipeline is older than any with one.
func newerRun(a, b v1alpha1.CIResult) bool {
	x, xok := new(big.Int).SetString(a.Spec.Pipeline, 10)
	y, yok := new(big.Int).SetString(b.Spec.Pipeline, 10)
	if xok != yok {
		return xok
	}
	if xok {
		if c := x.Cmp(y); c != 0 {
			return c > 0
		}
	}
	if c := cmp.Compare(len(a.Spec.Pipeline), len(b.Spec.Pipeline)); c != 0 {
		return c > 0
	}
	return a.Spec.Pipeline > b.Spec.Pipeline
}

func later(a, b v1alpha1.CIResult) bool {
	if !a.Spec.Received.Equal(&b.Spec.Received) {
		return b.Spec.Received.Before(&a.Spec.Received)
	}
	return a.Name > b.Name
}

// badness orders statuses; an unknown status is the worst.
func badness(status string) int {
	switch status {
	case v1alpha1.StatusPassed:
		return 0
	case v1alpha1.StatusSkipped:
		return 1
	case v1alpha1.StatusFailed:
		return 2
	}
	return 3
}

func worst(typ string, run []v1alpha1.CIResult) Result {
	w := Result{Type: typ, Status: run[0].Spec.Status, Pipeline: run[0].Spec.Pipeline}
	for _, r := range run {
		if badness(r.Spec.Status) > badness(w.Status) {
			w.Status = r.Spec.Status
		}
		if c := r.Spec.Coverage; c != nil && (w.Coverage == nil || *c < *w.Coverage) {
			w.Coverage = c
		}
		if t := r.Spec.Tests; t != nil && (w.Tests == nil || worseTests(*t, *w.Tests)) {
			w.Tests = t
		}
		if v := r.Spec.Vulnerabilities; v != nil {
			w.Vulnerabilities = maxCounts(w.Vulnerabilities, v)
		}
	}
	return w
}

// worseTests compares the shares of passed among run; on a tie fewer tests run are worse.
func worseTests(a, b v1alpha1.TestCounts) bool {
	x := int64(a.Passed) * int64(TestsRun(b))
	y := int64(b.Passed) * int64(TestsRun(a))
	if x != y {
		return x < y
	}
	return TestsRun(a) < TestsRun(b)
}

// TestsRun is the number of tests that were not skipped.
func TestsRun(t v1alpha1.TestCounts) int32 { return max(0, t.Total-t.Skipped) }

func maxCounts(a, b *v1alpha1.VulnerabilityCounts) *v1alpha1.VulnerabilityCounts {
	if a == nil {
		c := *b
		return &c
	}
	return &v1alpha1.VulnerabilityCounts{
		Critical: max(a.Critical, b.Critical), High: max(a.High, b.High), Medium: max(a.Medium, b.Medium), Low: max(a.Low, b.Low),
	}
}
