// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/attestation"
)

func attestingWorld() *world {
	w := newWorld()
	w.s.project.Spec.Attestations = &v1alpha1.Attestations{Enabled: true}
	w.s.verifier = attestation.VerifierID("sha256:k")
	return w
}

// record is what waits for, or was, of a gate.
func (w *world) record(t *testing.T, gate string) v1alpha1.AttestationRecord {
	t.Helper()
	for _, r := range w.s.release.Status.Attestations {
		if r.Gate == gate {
			return r
		}
	}
	t.Fatalf("nothing is attested of gate %s: %+v", gate, w.s.release.Status.Attestations)
	return v1alpha1.AttestationRecord{}
}

func verdictIn(t *testing.T, r v1alpha1.AttestationRecord) attestation.Verdict {
	t.Helper()
	var st attestation.Statement
	var v attestation.Verdict
	if err := json.Unmarshal([]byte(r.Statement), &st); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(st.Predicate, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// What is attested is what held when the gate opened, whatever becomes of gates, results and approvals.
func TestSealedAtTheMoment(t *testing.T) {
	w := attestingWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVAccepted)
	w.pass(7 * day)
	w.approve("production", "cto@dynors.com")
	before := w.record(t, "production")
	v := verdictIn(t, before)
	policy, err := attestation.Policy("project-uid", w.s.gates[3])
	if err != nil {
		t.Fatal(err)
	}
	g := v.Gate
	if v.VerificationResult != attestation.ResultPassed || v.Policy.Digest["sha256"] != policy.Digest["sha256"] || g.Environment != "production" || g.PV == nil ||
		g.PV.Name != "pv0" || len(g.Approvals) != 1 || g.Approvals[0].User != "cto@dynors.com" || len(v.InputAttestations) != 3 || !v.TimeVerified.Equal(before.AuthorizedAt.Time) {
		t.Errorf("%+v", v)
	}
	w.s.gates[3].Spec.Criteria = w.s.gates[3].Spec.Criteria[:1]
	w.result("quality", v1alpha1.StatusPassed, 0)
	delete(w.s.release.Annotations, v1alpha1.ApprovalPrefix+"production")
	w.deploy(t, "production", v1alpha1.RolloutHealthy)
	if after := w.record(t, "production"); after != before {
		t.Errorf("it changed afterwards:\n%+v\n%+v", before, after)
	}
	names := []string{}
	for _, r := range w.s.release.Status.Attestations {
		names = append(names, r.Gate+r.PV)
	}
	if got := strings.Join(names, " "); got != "ci qa client pv0 production" {
		t.Errorf("attested are %s", got)
	}
}

func TestSealedOnceEach(t *testing.T) {
	t.Run("a retry is attested in place of the first try", func(t *testing.T) {
		w := attestingWorld().pushed()
		w.judge()
		first := w.record(t, "ci")
		w.deploy(t, "dev", v1alpha1.RolloutRolledBack)
		w.pass(time.Hour)
		if w.record(t, "ci") != first {
			t.Error("attested again without a new verdict")
		}
		w.s.release.Annotations[v1alpha1.AnnotationRetry] = "dev@1"
		w.judge()
		if again := w.record(t, "ci"); again.AuthorizedAt.Equal(&first.AuthorizedAt) || len(w.s.release.Status.Attestations) != 1 {
			t.Errorf("%+v", w.s.release.Status.Attestations)
		}
	})
	t.Run("what was withdrawn before it was attached is not", func(t *testing.T) {
		w := attestingWorld().pushed()
		w.judge()
		w.record(t, "ci")
		w.result(v1alpha1.TypeTests, v1alpha1.StatusFailed, 85)
		if st := w.judge(); len(st.Attestations) > 0 {
			t.Errorf("%+v", st.Attestations)
		}
	})
	t.Run("what is attached stays on record", func(t *testing.T) {
		w := attestingWorld().pushed()
		w.judge()
		w.s.release.Status.Attestations[0].Statement = ""
		w.s.project.Spec.Attestations = nil
		if st := w.judge(); len(st.Attestations) != 1 || findCondition(st.Conditions, v1alpha1.ConditionAttested) != nil {
			t.Errorf("%+v", st.Attestations)
		}
	})
	t.Run("switched on later, from then on", func(t *testing.T) {
		w := newWorld().pushed()
		w.judge()
		w.deploy(t, "dev", v1alpha1.RolloutHealthy)
		w.s.project.Spec.Attestations = &v1alpha1.Attestations{Enabled: true}
		if st := w.judge(); len(st.Attestations) > 0 {
			t.Errorf("attested with what was not judged then: %+v", st.Attestations)
		}
		w.pass(3 * day)
		w.approve("qa", "qa@dynors.com")
		w.record(t, "qa")
	})
	t.Run("without images there is nothing to attach to", func(t *testing.T) {
		w := attestingWorld().pushed()
		w.bundle.Images = nil
		if st := w.judge(); len(st.Attestations) > 0 {
			t.Errorf("%+v", st.Attestations)
		}
	})
}

// A gate that break-glass opened is not stated to have been passed.
func TestSealedBreakGlass(t *testing.T) {
	w := attestingWorld()
	w.toClient(t)
	w.annotate(v1alpha1.BreakGlassPrefix, "production", "cto@dynors.com: the site is down")
	v := verdictIn(t, w.record(t, "production"))
	if v.VerificationResult != attestation.ResultFailed || v.Gate.BrokenGlass == nil || v.Gate.BrokenGlass.Reason != "the site is down" || v.VerifiedLevels[0] != "FAILED" {
		t.Errorf("%+v", v)
	}
}

// What does not fit into a statement is told and holds nothing up.
func TestSealedTooLarge(t *testing.T) {
	w := attestingWorld().pushed()
	w.s.release.Name = strings.Repeat("x", attestation.MaxStatement)
	st := w.judge()
	c := findCondition(st.Conditions, v1alpha1.ConditionAttested)
	if w.entry("dev") == nil || len(st.Attestations) > 0 || c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "gate ci cannot be attested") {
		t.Errorf("dev %+v, %+v", w.entry("dev"), c)
	}
}
