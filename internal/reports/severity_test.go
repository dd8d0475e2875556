// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// A score is as bad as the band that it begins (CVSS v3.1, 5: qualitative severity rating scale).
func TestOfScore(t *testing.T) {
	for score, want := range map[float64]severity{
		0: none, 0.1: low, 3.9: low, 4: medium, 6.9: medium, 7: high, 8.9: high, 9: critical, 10: critical,
	} {
		if got, err := ofScore(score); err != nil || got != want {
			t.Errorf("%v: %d, %v, want %d", score, got, err, want)
		}
	}
	for _, score := range []float64{-0.1, 10.1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got, err := ofScore(score); err == nil {
			t.Errorf("%v: %d", score, got)
		}
	}
}

// Counts are whole or refused: none of them turns over into few.
func TestFindingsAreBounded(t *testing.T) {
	for _, s := range []severity{low, medium, high, critical, unknown} {
		var f findings
		f.add(s, maxCount)
		var rep Report
		if err := f.into(&rep); err != nil || rep.Vulnerabilities.Critical+rep.Vulnerabilities.High+rep.Vulnerabilities.Medium+rep.Vulnerabilities.Low != maxCount {
			t.Errorf("%d: %+v, %v", s, rep.Vulnerabilities, err)
		}
		f.add(s, 1)
		if err := f.into(&Report{}); err == nil {
			t.Errorf("%d: more than %d are taken", s, maxCount)
		}
	}
	var f findings
	f.suppressed = maxCount + 1
	if err := f.into(&Report{}); err == nil {
		t.Error("suppressed without end")
	}
	f = findings{}
	f.add(unknown, 2)
	f.add(medium, 3)
	var rep Report
	if err := f.into(&rep); err != nil || rep.Vulnerabilities.Medium != 5 || rep.Unrated != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// What is sent first is what speaks against the commit.
func TestIsGrave(t *testing.T) {
	for _, c := range []struct {
		status string
		found  *v1alpha1.VulnerabilityCounts
		want   bool
	}{
		{v1alpha1.StatusPassed, nil, false}, {v1alpha1.StatusFailed, nil, true}, {v1alpha1.StatusSkipped, nil, true},
		{v1alpha1.StatusPassed, &v1alpha1.VulnerabilityCounts{Medium: 9, Low: 9}, false},
		{v1alpha1.StatusPassed, &v1alpha1.VulnerabilityCounts{High: 1}, true}, {v1alpha1.StatusPassed, &v1alpha1.VulnerabilityCounts{Critical: 1}, true},
	} {
		if got := (Report{Status: c.status, Vulnerabilities: c.found}).IsGrave(); got != c.want {
			t.Errorf("%s %+v: %t", c.status, c.found, got)
		}
	}
}

// What a report is about is kept as others write it, each once, and so much of it; what is no commit or digest is not.
func TestReferences(t *testing.T) {
	var r Report
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, reference := range []string{"r.example/api@" + a, a, "pkg:oci/api@sha256%3A" + b[7:], "pkg:oci/api@sha256%3a" + b[7:], "sha256:abc", "r.example/api:1", ""} {
		r.addDigest(reference)
	}
	for _, commit := range []string{"8F14E45FCEEA167A5A36DEDD4BEA2543C1A2B3D4", "8f14e45fceea167a5a36dedd4bea2543c1a2b3d4", "8f14e45", "8f14e4", "main", "8f14e45 ", strings.Repeat("a", 65)} {
		r.addCommit(commit)
	}
	if got := strings.Join(append(r.Digests, r.Commits...), " "); got != a+" "+b+" 8f14e45fceea167a5a36dedd4bea2543c1a2b3d4 8f14e45" {
		t.Error(got)
	}
	for i := range 2 * maxReferences {
		r.addCommit(strings.Repeat("0123456789abcdef"[i%16:i%16+1], 7+i/16))
		r.addDigest("sha256:" + strings.Repeat("0123456789abcdef"[i%16:i%16+1], 8+i/16) + strings.Repeat("0", 56-i/16))
	}
	if len(r.Commits) != maxReferences || len(r.Digests) != maxReferences {
		t.Errorf("%d commits, %d digests", len(r.Commits), len(r.Digests))
	}
}

// Counts and shares are taken as they are, or not at all.
func TestCountsAndShares(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, " 7 ": 7, "100000000": maxCount, "": -1, " ": -1, "100000001": -1, "-1": -1, "+1": -1, "1e3": -1, "1.0": -1, "0x1": -1, "99999999999999999999": -1} {
		got, err := parseCount("it", []byte(text))
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	for _, c := range []struct {
		covered, total int64
		want           float64 // -1: refused
	}{{79_999, 100_000, 79.99}, {2, 3, 66.66}, {0, 1, 0}, {1, 1, 100}, {maxCount, maxCount, 100}, {2, 1, -1}, {0, 0, -1}, {1, maxCount + 1, -1}} {
		var r Report
		err := r.covered(c.covered, c.total, "lines")
		switch {
		case c.want < 0:
			if err == nil || r.Coverage != nil || r.Status != "" {
				t.Errorf("%d of %d: %+v", c.covered, c.total, r)
			}
		case err != nil || *r.Coverage != c.want || *r.CoverageBase != int32(c.total) || r.Type != v1alpha1.TypeCoverage || r.Status != v1alpha1.StatusPassed:
			t.Errorf("%d of %d: %+v, %v", c.covered, c.total, r, err)
		}
	}
	for _, c := range []struct {
		claim, covered, total float64
		ok                    bool
	}{{80, 79, 100, true}, {78, 79, 100, true}, {80.1, 79, 100, false}, {77.9, 79, 100, false}, {math.NaN(), 79, 100, false}, {80, 0, 0, true}} {
		if err := agree("it", c.claim, c.covered, c.total); (err == nil) != c.ok {
			t.Errorf("%v of %v of %v: %v", c.claim, c.covered, c.total, err)
		}
	}
}
