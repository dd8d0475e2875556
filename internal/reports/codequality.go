// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var codeQualitySeverities = map[string]severity{
	"blocker": critical, "critical": high, "major": medium, "minor": low, "info": none,
}

// readCodeQuality reads GitLab's code quality report, a subset of Code Climate's
// (https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format, GitLab 18). An empty list is what a linter
// writes that found nothing; since nothing in it says so, the sender must.
func readCodeQuality(j *jsonReader, o Options) (Report, error) {
	rep := Report{Format: CodeQuality, Type: v1alpha1.TypeQuality, Status: v1alpha1.StatusPassed}
	var f findings
	issues := 0
	_, err := j.list("the report", func() error {
		issues++
		s, err := codeQualityIssue(j)
		var refused *Error
		if errors.As(err, &refused) && issues > 1 { // what came before says what it is
			refused.Foreign = false
		}
		f.add(s, 1)
		return err
	})
	if err == nil {
		err = j.end()
	}
	if err != nil {
		return rep, err
	}
	if issues == 0 && o.Type != v1alpha1.TypeQuality {
		return rep, refuse("an empty list does not say what found nothing: give type=%s if it is a code quality report", v1alpha1.TypeQuality)
	}
	err = f.into(&rep)
	return rep, err
}

func codeQualityIssue(j *jsonReader) (severity, error) {
	var name string
	required := map[string]bool{"description": false, "fingerprint": false, "severity": false, "location": false}
	_, err := j.object("an issue", func(member string) (err error) {
		if _, ok := required[member]; ok {
			required[member] = true
		}
		if member == "severity" {
			name, err = j.text(member)
			return err
		}
		return j.skip()
	})
	if err != nil {
		return none, err
	}
	for _, member := range slices.Sorted(maps.Keys(required)) {
		if !required[member] {
			return none, &Error{
				Why:     fmt.Sprintf("an issue without %s: this is no code quality report", member),
				Foreign: !required["fingerprint"], // other tools write lists of what has a description, too
			}
		}
	}
	return named(codeQualitySeverities, name)
}
