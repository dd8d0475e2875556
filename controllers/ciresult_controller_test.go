// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// What was just stored is not said to be replaced before the release was judged with it: the HTTP API takes that for judged, and
// told pipelines of the verdict before their failure.
func TestResultIsReplacedOnlyByWhatIsJudged(t *testing.T) {
	const commit = "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
	ours, theirs := "sha256:"+commit, "sha256:"+commit+"00"
	result := func(name, typ, run, digest string) v1alpha1.CIResult {
		r := v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: name}}
		r.Spec = v1alpha1.CIResultSpec{Commit: commit, Type: typ, Status: v1alpha1.StatusPassed, Pipeline: "7", Job: "unit", Run: run, Digest: digest}
		return r
	}
	older, judged, beside, newer := result("older", "tests", "1", ""), result("judged", "tests", "2", ""), result("beside", "tests", "2", ""), result("newer", "tests", "3", "")
	foreign, scan := result("foreign", "tests", "3", theirs), result("scan", "scan", "1", "")
	for _, c := range []struct {
		name     string
		of       v1alpha1.CIResult
		results  []v1alpha1.CIResult
		evidence []string
		reason   string
	}{
		{"counted", judged, []v1alpha1.CIResult{judged}, []string{"judged"}, v1alpha1.ReasonCounted},
		{"another of the same run, not judged yet", beside, []v1alpha1.CIResult{judged, beside}, []string{"judged"}, v1alpha1.ReasonAwaiting},
		{"a newer run, not judged yet", newer, []v1alpha1.CIResult{judged, newer}, []string{"judged"}, v1alpha1.ReasonAwaiting},
		{"an older run that came late", older, []v1alpha1.CIResult{judged, older}, []string{"judged"}, v1alpha1.ReasonReplaced},
		{"replaced by one that is not judged yet", judged, []v1alpha1.CIResult{older, judged, newer}, []string{"older"}, v1alpha1.ReasonAwaiting},
		{"replaced by one that is judged", judged, []v1alpha1.CIResult{judged, newer}, []string{"newer"}, v1alpha1.ReasonReplaced},
		{"others are of another type", judged, []v1alpha1.CIResult{judged, scan}, []string{"scan"}, v1alpha1.ReasonAwaiting},
		{"about another image", foreign, []v1alpha1.CIResult{judged, foreign}, []string{"judged"}, v1alpha1.ReasonReplaced},
	} {
		t.Run(c.name, func(t *testing.T) {
			rel := v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "a1b2c3d"}, Spec: v1alpha1.ReleaseSpec{Commit: commit}}
			rel.Status.Evidence = c.evidence
			rel.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "backend", Digest: ours}}}
			setCondition(&rel.Status.Conditions, 1, v1alpha1.ConditionFrozen, true, v1alpha1.ReasonResolved, "")
			if !describeResult(&c.of, []v1alpha1.Release{rel}, c.results) {
				t.Error("the result has no release")
			}
			if got := findCondition(c.of.Status.Conditions, v1alpha1.ConditionReady); got == nil || got.Reason != c.reason {
				t.Errorf("got %+v, want %s", got, c.reason)
			}
		})
	}
}
