// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// demanding is a world whose dev trusts one key, and the record of a signature by it.
func demanding(w *world, hash string) {
	w.s.signatures = map[string]*gate.Signatures{"dev": {Hash: hash, Spec: v1alpha1.SignaturePolicy{Keys: []v1alpha1.SignatureKey{{Name: "ci"}}}}}
}

func (w *world) signed(hash string) {
	w.s.release.Status.Signatures = append(w.s.release.Status.Signatures, v1alpha1.SignatureRecord{
		Image: "backend", Digest: "sha256:1", Policy: hash, Signers: []v1alpha1.ImageSigner{{Name: "ci", Manifest: "sha256:m"}},
	})
}

// A policy that changes takes back what was let in and not sent; what was sent stays, and so does the record of who signed.
func TestChangedSignaturePolicy(t *testing.T) {
	for _, sent := range []bool{false, true} {
		w := newWorld().pushed()
		demanding(w, "sha256:p1")
		if st := w.judge(); w.entry("dev") != nil || len(missing(st)) != 1 || !missing(st)[0].signature {
			t.Fatalf("let in unsigned: %+v, missing %+v", st.Environments, missing(st))
		}
		w.signed("sha256:p1")
		if st := w.judge(); w.entry("dev") == nil || len(missing(st)) != 0 {
			t.Fatalf("signed and not let in: %s", st.Next)
		}
		if sent {
			w.deploy(t, "dev", v1alpha1.RolloutPending)
			w.judge()
		}
		demanding(w, "sha256:p2")
		st := w.judge()
		if (w.entry("dev") != nil) != sent || len(st.Signatures) != 1 {
			t.Errorf("sent %t: entry %+v, record %+v", sent, w.entry("dev"), st.Signatures)
		}
		if sent {
			continue
		}
		w.signed("sha256:p2")
		if w.judge(); w.entry("dev") == nil {
			t.Errorf("signed anew and not let in: %s", w.s.release.Status.Next)
		}
	}
}

// Where a gate refuses for another reason, the registry is not asked: a signature would not help.
func TestNothingIsLookedForInVain(t *testing.T) {
	w := newWorld()
	w.result(v1alpha1.TypeTests, v1alpha1.StatusFailed, 0)
	demanding(w, "sha256:p1")
	st := w.judge()
	i := slices.IndexFunc(st.Gates, func(g v1alpha1.GateVerdict) bool { return g.Environment == "dev" })
	if st.Gates[i].Verdict != v1alpha1.VerdictRefused || len(missing(st)) != 0 {
		t.Errorf("%s, missing %+v", st.Gates[i].Verdict, missing(st))
	}
}
