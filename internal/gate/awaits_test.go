// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// What is awaited of a type keeps it from passing and says whose turn it is; what failed is refused all the same.
func TestAwaitedResults(t *testing.T) {
	const needs = "Harbor scans the image backend"
	scan := v1alpha1.Criterion{Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeScan}}
	with := func(status string) func(*Input) {
		return func(in *Input) {
			in.Evidence = evidence.Set{Results: map[string]evidence.Result{}}
			if status != "" {
				in.Evidence.Results[v1alpha1.TypeScan] = evidence.Result{Type: v1alpha1.TypeScan, Status: status}
			}
			in.Evidence.Await(v1alpha1.TypeScan, needs)
		}
	}
	cel := v1alpha1.Criterion{CEL: &v1alpha1.CELCriterion{Expression: `results["scan"].status == "passed"`}}
	fresh := v1alpha1.Criterion{Freshness: &v1alpha1.FreshnessCriterion{Types: []string{v1alpha1.TypeScan}}}
	fresh.Freshness.MaxAge.Duration = time.Hour
	for _, c := range []struct {
		name      string
		criterion v1alpha1.Criterion
		status    string
		verdict   v1alpha1.Verdict
		needs     string
	}{
		{"nothing yet", scan, "", isWaiting, needs},
		{"a pipeline's passed", scan, v1alpha1.StatusPassed, isWaiting, needs},
		{"a pipeline's failed", scan, v1alpha1.StatusFailed, isRefused, again},
		{"as an expression sees it", cel, v1alpha1.StatusPassed, isWaiting, ""},
		{"fresh", fresh, v1alpha1.StatusPassed, isWaiting, ""},
	} {
		got := Judge(one(c.criterion, with(c.status)))
		last := got.Criteria[len(got.Criteria)-1]
		if got.Verdict != c.verdict || c.needs != "" && last.Needs != c.needs {
			t.Errorf("%s: %s, %+v", c.name, got.Verdict, last)
		}
	}
}
