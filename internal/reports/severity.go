// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"regexp"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// severity is how bad a finding is; a larger one is worse.
type severity int

const (
	none severity = iota // not counted: a remark
	low
	medium
	high
	critical
	unknown // counted as medium
)

// Scores of CVSS from which a severity begins (CVSS v3.1 and v4.0, qualitative severity rating scale; SARIF's
// security-severity is read alike).
const (
	scoreCritical = 9.0
	scoreHigh     = 7.0
	scoreMedium   = 4.0
	maxScore      = 10.0
)

// ofScore is the severity of a score of CVSS.
func ofScore(score float64) (severity, error) {
	switch {
	case !(score >= 0 && score <= maxScore):
		return none, refuse("a score is %v, not from 0 to %v", score, maxScore)
	case score >= scoreCritical:
		return critical, nil
	case score >= scoreHigh:
		return high, nil
	case score >= scoreMedium:
		return medium, nil
	case score > 0:
		return low, nil
	}
	return none, nil
}

// findings counts by severity.
type findings struct {
	by         [unknown + 1]int64
	suppressed int64
}

func (f *findings) add(s severity, n int64) { f.by[s] += n }

// into puts the counts into a report.
func (f *findings) into(rep *Report) error {
	f.by[medium] += f.by[unknown]
	for _, n := range append(f.by[:], f.suppressed) {
		if n > maxCount {
			return refuse(tooMany, maxCount)
		}
	}
	rep.Vulnerabilities = &v1alpha1.VulnerabilityCounts{
		Critical: int32(f.by[critical]), High: int32(f.by[high]), Medium: int32(f.by[medium]), Low: int32(f.by[low]),
	}
	rep.Unrated, rep.Suppressed = int32(f.by[unknown]), int32(f.suppressed)
	return nil
}

// named finds a severity by its name in a format's own words; a name that the format does not have is refused.
func named(names map[string]severity, name string) (severity, error) {
	s, ok := names[name]
	if !ok {
		return none, refuse("the severity %q is none of the format", quoted(name))
	}
	return s, nil
}

var (
	digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	commitPattern = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
)

// addDigest keeps the digest in a reference to an image, if it has one.
func (r *Report) addDigest(reference string) {
	reference = strings.ReplaceAll(strings.ReplaceAll(reference, "%3A", ":"), "%3a", ":")
	if d := digestPattern.FindString(reference); d != "" && !slices.Contains(r.Digests, d) && len(r.Digests) < maxReferences {
		r.Digests = append(r.Digests, d)
	}
}

// addCommit keeps a commit, if it is one.
func (r *Report) addCommit(commit string) {
	commit = strings.ToLower(commit)
	if commitPattern.MatchString(commit) && !slices.Contains(r.Commits, commit) && len(r.Commits) < maxReferences {
		r.Commits = append(r.Commits, commit)
	}
}
