// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// The answer repeats the status word for word, and says nothing where the status says nothing.
func TestAnswerRepeatsTheStatus(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 24, 14, 3, 0, 0, time.UTC))
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: "a1b2c3d"}}
	r.Name = "a1b2c3d"
	r.Status = v1alpha1.ReleaseStatus{
		Next: "gate qa: soak", Earliest: "production on 2026-11-24T14:03:00Z, if everybody acts at once",
		Returned: &v1alpha1.Returned{To: "development", Gate: "ci", By: "CI", Reason: "3 tests failed"},
		Gates: []v1alpha1.GateVerdict{
			{Name: "qa", Number: 1, Verdict: v1alpha1.VerdictWaiting, WaitingFor: []string{"time"}, Earliest: &at},
			{Name: "production", Number: 2, Verdict: v1alpha1.VerdictWaiting, EarliestAfter: &metav1.Duration{Duration: 168 * time.Hour}},
			{Name: "ci", Verdict: v1alpha1.VerdictPassed},
		},
	}
	a := answerFor("p", "a1b2c3d", r)
	if a.Earliest != r.Status.Earliest || a.Returned != r.Status.Returned {
		t.Errorf("earliest %q, returned %+v", a.Earliest, a.Returned)
	}
	raw, err := json.Marshal(a.Gates)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"ci","number":0,"environment":"","verdict":"Passed","message":"","waitingFor":[]},` +
		`{"name":"qa","number":1,"environment":"","verdict":"Waiting","message":"","waitingFor":["time"],"earliest":"2026-11-24T14:03:00Z"},` +
		`{"name":"production","number":2,"environment":"","verdict":"Waiting","message":"","waitingFor":[],"earliestAfter":"168h0m0s"}]`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Error(diff)
	}
	if a := answerFor("p", "a1b2c3d", &v1alpha1.Release{}); a.Earliest != "" || a.Returned != nil {
		t.Errorf("of a release without a status: %+v", a)
	}
}
