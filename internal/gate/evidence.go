// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// again is what mends a result that failed or misses a bound.
const again = "a new commit, or a newer run that passes"

func judgeResult(in Input, c v1alpha1.ResultCriterion) outcome {
	r, ok := in.Evidence.Results[c.Type]
	if needs := in.Evidence.Awaits[c.Type]; !ok && needs != "" {
		return waiting("NoResult", needs, "%s is not complete", c.Type)
	}
	if !ok {
		return waiting("NoResult", "CI posts a result of type "+c.Type, "no result of type %s", c.Type)
	}
	if r.Status != v1alpha1.StatusPassed {
		if t := r.Tests; t != nil && t.Failed > 0 {
			return refused("ResultFailed", again, "%s %s: %d of %d failed", c.Type, r.Status, t.Failed, t.Total)
		}
		return refused("ResultFailed", again, "%s %s", c.Type, r.Status)
	}
	for _, bound := range []func(evidence.Result, v1alpha1.ResultCriterion) outcome{boundFindings, boundTests, boundFigures} {
		if o := bound(r, c); o.verdict != v1alpha1.VerdictPassed {
			return o
		}
	}
	return passed("ResultPassed", "%s passed", c.Type)
}

func boundFindings(r evidence.Result, c v1alpha1.ResultCriterion) outcome {
	v := r.Vulnerabilities
	if v == nil { // a scan that passed without counts says that it found nothing
		return passed("NoFindings", "")
	}
	for _, b := range []struct {
		name  string
		bound *int32
		count int32
	}{
		{"critical", c.MaxCritical, v.Critical}, {"high", c.MaxHigh, v.High}, {"medium", c.MaxMedium, v.Medium}, {"low", c.MaxLow, v.Low},
	} {
		if b.bound != nil && b.count > *b.bound {
			return refused("TooManyFindings", again, "%s: %d %s findings, at most %d allowed", c.Type, b.count, b.name, *b.bound)
		}
	}
	return passed("FewFindings", "")
}

func boundTests(r evidence.Result, c v1alpha1.ResultCriterion) outcome {
	if c.MinPassed == nil && c.MaxSkipped == nil {
		return passed("Unbounded", "")
	}
	t := r.Tests
	switch {
	case t == nil:
		return waiting("NoCounts", "CI posts the counts of tests", "%s passed without counts, which are bounded", c.Type)
	case c.MinPassed != nil && t.Passed < *c.MinPassed:
		return refused("TooFewTests", again, "%s: %d passed, %d needed", c.Type, t.Passed, *c.MinPassed)
	case c.MaxSkipped != nil && t.Skipped > *c.MaxSkipped:
		return refused("TooManySkipped", again, "%s: %d skipped, at most %d allowed", c.Type, t.Skipped, *c.MaxSkipped)
	}
	return passed("EnoughTests", "")
}

func boundFigures(r evidence.Result, c v1alpha1.ResultCriterion) outcome {
	for _, b := range []struct {
		name  string
		bound *int32
		value *float64
	}{{"coverage", c.MinCoverage, r.Coverage}, {"score", c.MinScore, r.Score}} {
		switch {
		case b.bound == nil:
		case b.value == nil:
			return waiting("NoFigure", "CI posts the "+b.name+" of "+c.Type, "%s passed without %s, which must be at least %d", c.Type, b.name, *b.bound)
		case *b.value < float64(*b.bound):
			return refused("FigureTooLow", again, "%s: %s %.4g is below %d", c.Type, b.name, *b.value, *b.bound)
		}
	}
	return passed("FiguresReached", "")
}

func judgeCoverage(in Input, c v1alpha1.CoverageCriterion) outcome {
	value, from := in.Evidence.Coverage()
	if value == nil {
		return waiting("NoCoverage", "CI posts a coverage figure", "no coverage reported")
	}
	if *value < float64(c.Minimum) {
		return refused("CoverageTooLow", "a new commit, or a newer run, with more coverage", "coverage %.4g %% is below %d %%", *value, c.Minimum)
	}
	return passed("CoverageReached", "coverage %.4g %% (%s) reaches %d %%", *value, from, c.Minimum)
}

func judgeImages(in Input) outcome {
	if !in.Frozen {
		return waiting("NotFrozen", in.FrozenNeeds, "%s", in.FrozenMessage)
	}
	return passed("Frozen", "every image is pinned to a digest")
}

func judgeKarma(in Input, c v1alpha1.KarmaCriterion) outcome {
	if in.Karma < c.Minimum {
		return waiting("KarmaTooLow", "better evidence", "karma %d is below %d", in.Karma, c.Minimum)
	}
	return passed("KarmaReached", "karma %d reaches %d", in.Karma, c.Minimum)
}

func judgeArtifact(in Input, c v1alpha1.ArtifactCriterion) outcome {
	if c.Image != "" {
		if !slices.Contains(in.Images, c.Image) {
			return waiting("ImageMissing", "CI pushes the image "+c.Image, "image %s is not pinned to a digest", c.Image)
		}
		return passed("ImagePinned", "image %s is pinned to a digest", c.Image)
	}
	for _, a := range in.Artifacts {
		version, ok := strings.CutPrefix(a, c.Maven+":")
		switch {
		case !ok:
		case maven.IsSnapshot(version):
			return refused("ArtifactSnapshot", "a release with a version that does not change", "artifact %s is a snapshot", a)
		default:
			return passed("ArtifactDeclared", "artifact %s is part of the release", a)
		}
	}
	return refused("ArtifactMissing", "a release whose spec.artifacts lists "+c.Maven, "artifact %s is not part of the release", c.Maven)
}

// judgeFreshness looks at the reports that count, of every type if none is named. The one that expires first is what is
// told, so that the same is said until something else happens.
func judgeFreshness(in Input, c v1alpha1.FreshnessCriterion) outcome {
	types := c.Types
	if len(types) == 0 {
		types = slices.Sorted(maps.Keys(in.Evidence.Results))
	}
	if len(types) == 0 {
		return waiting("NoResult", "CI posts results", "no result was posted")
	}
	var expires time.Time
	var oldest string
	for _, typ := range types {
		r, ok := in.Evidence.Results[typ]
		if !ok {
			return waiting("NoResult", "CI posts a result of type "+typ, "no result of type %s", typ)
		}
		if end := r.Received.Add(c.MaxAge.Duration); oldest == "" || end.Before(expires) {
			expires, oldest = end, typ
		}
	}
	if !in.Now.Before(expires) {
		return waiting("Expired", "CI posts a newer result of type "+oldest,
			"the result of type %s expired on %s: it is valid for %s", oldest, expires.UTC().Format(time.RFC3339), c.MaxAge.Duration)
	}
	return passed("Fresh", "results are fresh until %s", expires.UTC().Format(time.RFC3339)).changing(expires)
}
