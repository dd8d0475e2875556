// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

const policyHash = "sha256:p1"

var (
	backend  = v1alpha1.FrozenImage{Name: "backend", Repository: "r.example/backend", Digest: "sha256:b"}
	frontend = v1alpha1.FrozenImage{Name: "frontend", Repository: "r.example/frontend", Digest: "sha256:f"}
)

// demanding has an environment that trusts two keys and one identity, and two images.
func demanding(change ...func(*Input)) Input {
	in := base(v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}})
	in.Pinned = []v1alpha1.FrozenImage{backend, frontend}
	in.Signatures = &Signatures{Hash: policyHash, Spec: v1alpha1.SignaturePolicy{
		Keys: []v1alpha1.SignatureKey{{Name: "ci"}, {Name: "release"}},
	}}
	for _, f := range change {
		f(&in)
	}
	return in
}

// signed adds what was verified of an image.
func signed(img v1alpha1.FrozenImage, hash string, names ...string) func(*Input) {
	return func(in *Input) {
		r := v1alpha1.SignatureRecord{Image: img.Name, Digest: img.Digest, Policy: hash}
		for _, name := range names {
			r.Signers = append(r.Signers, v1alpha1.ImageSigner{Name: name})
		}
		in.SignatureRecords = append(in.SignatureRecords, r)
	}
}

func TestSignatures(t *testing.T) {
	minimum := func(n int32) func(*Input) { return func(in *Input) { in.Signatures.Spec.Minimum = n } }
	only := func(names ...string) func(*Input) { return func(in *Input) { in.Signatures.Spec.Images = names } }
	both := func(in *Input) { signed(backend, policyHash, "ci")(in); signed(frontend, policyHash, "release")(in) }
	identities := func(in *Input) {
		in.Signatures.Spec.Keys, in.Signatures.Spec.Keyless = nil, &v1alpha1.KeylessSignatures{Identities: []v1alpha1.SignatureIdentity{{Name: "pipeline"}, {Name: "operator"}}}
	}
	moved := backend
	moved.Digest = "sha256:other"
	renamed := backend
	renamed.Name = "else"
	broken := func(in *Input) {
		in.Guarded, in.BundleHash = true, hash
		in.Approvals = []v1alpha1.ApprovalRecord{{Gate: in.Name, User: "cto", Decision: v1alpha1.DecisionBrokeGlass, Reason: "fire", BundleHash: hash}}
	}
	run(t, []judged{
		{"signed", demanding(both), isPassed, "Signed", "", time.Time{}},
		{"not looked at", demanding(), isWaiting, ReasonNotSigned, "cosign sign --key <private key> r.example/backend@sha256:b r.example/frontend@sha256:f", time.Time{}},
		{"one of two images", demanding(signed(backend, policyHash, "ci")), isWaiting, ReasonNotSigned, "frontend@sha256:f", time.Time{}},
		{"only that image is needed", demanding(only("backend"), signed(backend, policyHash, "ci")), isPassed, "Signed", "", time.Time{}},
		{"an image that does not exist", demanding(only("backend", "nobody"), both), isWaiting, "SignaturePolicyInvalid", "mends spec.signatures", time.Time{}},
		{"nothing but images that do not exist", demanding(only("nobody")), isWaiting, "SignaturePolicyInvalid", "mends spec.signatures", time.Time{}},
		{"another policy", demanding(signed(backend, "sha256:p0", "ci"), signed(frontend, "sha256:p0", "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"another digest", demanding(only("backend"), signed(moved, policyHash, "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"another image of the same digest", demanding(only("backend"), signed(renamed, policyHash, "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"somebody whom the policy does not name", demanding(only("backend"), signed(backend, policyHash, "eve")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"two are needed, one signed", demanding(minimum(2), only("backend"), signed(backend, policyHash, "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"two are needed, one signed twice", demanding(minimum(2), only("backend"), signed(backend, policyHash, "ci", "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"two are needed and signed", demanding(minimum(2), only("backend"), signed(backend, policyHash, "ci", "release")), isPassed, "Signed", "", time.Time{}},
		{"a policy that cannot be used", demanding(both, func(in *Input) { in.Signatures.Problem = "ConfigMap sigstore does not exist" }), isWaiting, "SignaturePolicyInvalid", "mends", time.Time{}},
		{"a policy without a hash", demanding(signed(backend, "", "ci"), signed(frontend, "", "ci"), func(in *Input) { in.Signatures.Hash = "" }), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"signed by an identity", demanding(identities, only("backend"), signed(backend, policyHash, "pipeline")), isPassed, "Signed", "", time.Time{}},
		{"signed by an identity that the policy does not name", demanding(identities, only("backend"), signed(backend, policyHash, "fork")), isWaiting, ReasonNotSigned, "cosign sign r.example/backend@sha256:b", time.Time{}},
		{"signed by a key that is not trusted any more", demanding(identities, only("backend"), signed(backend, policyHash, "ci")), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"signed, and not all pinned yet", demanding(both, func(in *Input) {
			in.Spec.Criteria, in.Frozen, in.FrozenNeeds = nil, false, "CI pushes it"
		}), isWaiting, "NotFrozen", "CI pushes it", time.Time{}},
		{"break-glass does not make up for it", demanding(broken), isWaiting, ReasonNotSigned, "cosign sign", time.Time{}},
		{"no images", demanding(func(in *Input) { in.Pinned = nil }), isPassed, "NothingToSign", "", time.Time{}},
		{"no policy", demanding(func(in *Input) { in.Signatures = nil }), isPassed, "Frozen", "", time.Time{}},
	})
	in := demanding(only("backend"), func(in *Input) {
		in.SignatureRecords = []v1alpha1.SignatureRecord{{Image: "backend", Digest: "sha256:b", Policy: policyHash, Problem: "1 signature does not count: why"}}
	})
	if got := Judge(in); got.Message != "signature: backend is not signed by any of 2 keys (1 signature does not count: why)" {
		t.Errorf("message %q", got.Message)
	}
	unfrozen := demanding(both, func(in *Input) {
		in.Frozen, in.FrozenMessage, in.FrozenNeeds = false, "image backend: not there", "CI pushes it"
	})
	if got := Judge(unfrozen); got.Verdict != isWaiting {
		t.Errorf("%+v", got)
	}
}

// No record opens a gate unless every image that is demanded has as many different signers of the very policy as it wants.
func TestSignaturesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := demanding()
		in.Signatures.Spec.Minimum = rapid.Int32Range(0, 3).Draw(t, "minimum")
		in.Signatures.Spec.Images = rapid.SampledFrom([][]string{nil, {"backend"}, {"frontend"}, {"backend", "frontend"}, {"nobody"}}).Draw(t, "images")
		for range rapid.IntRange(0, 6).Draw(t, "records") {
			img := rapid.SampledFrom([]v1alpha1.FrozenImage{backend, frontend, {Name: "backend", Digest: "sha256:f"}}).Draw(t, "image")
			names := rapid.SliceOfN(rapid.SampledFrom([]string{"ci", "release", "eve"}), 0, 3).Draw(t, "names")
			signed(img, rapid.SampledFrom([]string{policyHash, "sha256:p0", ""}).Draw(t, "policy"), names...)(&in)
		}
		got := Judge(in)
		if got.Verdict != isPassed {
			return
		}
		wanted := in.Signatures.Spec.Images
		if wanted == nil {
			wanted = []string{"backend", "frontend"}
		}
		for _, name := range wanted {
			best := 0
			for _, r := range in.SignatureRecords {
				i := slices.IndexFunc(in.Pinned, func(f v1alpha1.FrozenImage) bool { return f.Name == name && f.Digest == r.Digest && r.Image == name })
				if i < 0 || r.Policy != policyHash {
					continue
				}
				different := map[string]bool{}
				for _, by := range r.Signers {
					different[by.Name] = by.Name != "eve"
				}
				n := 0
				for _, counts := range different {
					if counts {
						n++
					}
				}
				best = max(best, n)
			}
			if int32(best) < max(in.Signatures.Spec.Minimum, 1) {
				t.Fatalf("%s passed with %d signers: %+v", name, best, in.SignatureRecords)
			}
		}
	})
}

func TestSBOM(t *testing.T) {
	with := func(c v1alpha1.SBOMCriterion, change ...func(*Input)) Input {
		in := one(v1alpha1.Criterion{SBOM: &c}, change...)
		in.Pinned = []v1alpha1.FrozenImage{backend}
		for _, f := range change {
			f(&in)
		}
		return in
	}
	either, filed, attachedOnly := v1alpha1.SBOMCriterion{}, v1alpha1.SBOMCriterion{Source: v1alpha1.SBOMReported}, v1alpha1.SBOMCriterion{Source: v1alpha1.SBOMAttached}
	file := func(digests ...string) func(*Input) {
		return reported(evidence.Result{Type: v1alpha1.TypeSBOM, Files: digests})
	}
	attached := func(r v1alpha1.SBOMRecord) func(*Input) {
		return func(in *Input) { in.SBOMRecords = []v1alpha1.SBOMRecord{r} }
	}
	good := attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Manifest: "sha256:m", Components: 3})
	modules := func(in *Input) { in.Pinned = nil }
	run(t, []judged{
		{"nothing", with(either), isWaiting, ReasonNoSBOM, "or attaches one: oras attach --artifact-type application/vnd.cyclonedx+json r.example/backend@sha256:b", time.Time{}},
		{"nothing of two images", with(attachedOnly, func(in *Input) {
			in.Pinned = []v1alpha1.FrozenImage{backend, {Name: "front", Repository: "r.example/front", Digest: "sha256:f"}}
		}),
			isWaiting, ReasonNoSBOM, "r.example/backend@sha256:b bom.json, oras attach --artifact-type application/vnd.cyclonedx+json r.example/front@sha256:f bom.json", time.Time{}},
		{"reported for the commit", with(either, file("")), isPassed, "SBOMPresent", "", time.Time{}},
		{"reported for the image", with(either, file("sha256:b")), isPassed, "SBOMPresent", "", time.Time{}},
		{"reported for another image", with(either, file("sha256:x")), isWaiting, ReasonNoSBOM, "CI sends one", time.Time{}},
		{"a status without a file", with(either, file()), isWaiting, ReasonNoSBOM, "CI sends one", time.Time{}},
		{"a file that failed", with(either, reported(evidence.Result{Type: v1alpha1.TypeSBOM, Status: v1alpha1.StatusFailed, Files: []string{""}})), isWaiting, ReasonNoSBOM, "CI sends one", time.Time{}},
		{"attached", with(either, good), isPassed, "SBOMPresent", "", time.Time{}},
		{"attached and lists one component", with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Manifest: "sha256:m", Components: 1})), isPassed, "SBOMPresent", "", time.Time{}},
		{"attached to another digest", with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:x", Manifest: "sha256:m", Components: 3})), isWaiting, ReasonNoSBOM, "oras attach", time.Time{}},
		{"attached to another image of the same digest", with(either, attached(v1alpha1.SBOMRecord{Image: "else", Digest: "sha256:b", Manifest: "sha256:m", Components: 3})), isWaiting, ReasonNoSBOM, "oras attach", time.Time{}},
		{"attached and lists nothing", with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Manifest: "sha256:m"})), isWaiting, ReasonNoSBOM, "oras attach", time.Time{}},
		{"a list of nobody knows what", with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Components: 3})), isWaiting, ReasonNoSBOM, "oras attach", time.Time{}},
		{"attached and empty", with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Problem: "1 SBOM does not count: no component"})), isWaiting, ReasonNoSBOM, "oras attach", time.Time{}},
		{"attached, where a report is demanded", with(filed, good), isWaiting, ReasonNoSBOM, "CI sends one", time.Time{}},
		{"reported, where an attachment is demanded", with(attachedOnly, file("", "sha256:b")), isWaiting, ReasonNoSBOM, "CI attaches one", time.Time{}},
		{"an image that does not exist", with(v1alpha1.SBOMCriterion{Images: []string{"nobody"}}, file("")), isWaiting, "ImageMissing", "mends the gate", time.Time{}},
		{"not frozen", with(either, file(""), func(in *Input) {
			in.Frozen, in.FrozenMessage, in.FrozenNeeds = false, "image backend: not there", "CI pushes it"
		}), isWaiting, "NotFrozen", "CI pushes", time.Time{}},
		{"modules without a report", with(either, modules), isWaiting, ReasonNoSBOM, "CI sends one", time.Time{}},
		{"modules with one", with(either, modules, file("")), isPassed, "SBOMPresent", "", time.Time{}},
	})
	got := Judge(with(either, attached(v1alpha1.SBOMRecord{Image: "backend", Digest: "sha256:b", Problem: "1 SBOM does not count: why"})))
	if !strings.Contains(got.Message, "no SBOM of backend (1 SBOM does not count: why)") {
		t.Errorf("message %q", got.Message)
	}
}
