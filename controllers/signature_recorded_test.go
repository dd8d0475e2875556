// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
	"gitlab.com/dynors/sirrat/internal/sigstore"
	"gitlab.com/dynors/sirrat/internal/sigstore/sigstoretest"
)

// bothRegistries runs a test with a registry that lists referrers and with one that does not.
func bothRegistries(t *testing.T, run func(t *testing.T, r *registrytest.Registry, c *registry.Client)) {
	for what, start := range map[string]func(testing.TB) *registrytest.Registry{"referrers": registrytest.InProcess, "fallback tag": registrytest.Debian} {
		t.Run(what, func(t *testing.T) {
			c, err := registry.New(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			run(t, start(t), c)
		})
	}
}

func newLooking() *signatureReconciler {
	return newSignatureReconciler(nil, registries{}, nil, Options{Now: time.Now})
}

// signersOf are the names of who signed an image, and why the rest does not count.
func signersOf(t *testing.T, c *registry.Client, spec v1alpha1.SignaturePolicy, repository, digest string) ([]string, string) {
	t.Helper()
	policy, err := sigstore.Parse(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	img := v1alpha1.FrozenImage{Name: "backend", Repository: repository, Digest: digest}
	var names []string
	problem, err := newLooking().collect(t.Context(), c, policy, img, func(by v1alpha1.ImageSigner) bool {
		names = append(names, by.Name)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names, problem
}

// What cosign itself wrote, by each way that it has of storing a signature, counts for the image that it signed, by the key that
// signed it, and for nothing else.
func TestSignaturesOfCosign(t *testing.T) {
	rec := sigstoretest.Record(t)
	const unknown, other = "none of the keys and identities", "it signs something else"
	bothRegistries(t, func(t *testing.T, r *registrytest.Registry, c *registry.Client) {
		pushed := map[string]bool{}
		for _, at := range []struct {
			repository, digest, signers, says string
		}{
			{"v3/signed", rec.Index, "ci", ""},
			{"v3/signed", rec.Platform, "", ""},
			{"v3/signed", rec.Other, "", ""},
			{"v3/stranger", rec.Index, "", unknown},
			{"v3/both", rec.Index, "ci", unknown},
			{"v3/recursive", rec.Index, "ci", ""},
			{"v3/recursive", rec.Platform, "ci", ""},
			{"v3/platform", rec.Index, "", ""},
			{"v3/platform", rec.Platform, "ci", ""},
			{"v3/annotated", rec.Index, "ci", ""},
			{"v3/other", rec.Index, "", ""},
			{"v3/other", rec.Other, "ci", ""},
			{"v3/tag", rec.Index, "ci", ""},
			{"v3/cyclonedx", rec.Index, "", ""},
			{"v3/vuln", rec.Index, "", ""},
			{"v2/signed", rec.Index, "ci", ""},
			{"v2/signed", rec.Other, "", ""},
			{"v2/stranger", rec.Index, "", unknown},
			{"v2/both", rec.Index, "ci", unknown},
			{"v2/recursive", rec.Index, "ci", ""},
			{"v2/recursive", rec.Platform, "ci", ""},
			{"v2/annotated", rec.Index, "ci", ""},
			{"v2/other", rec.Index, "", ""},
			{"v2/referrer", rec.Index, "ci", ""},
			{"v2/bundle", rec.Index, "ci", ""},
			{"v2/att", rec.Index, "", ""},
			{"v2/attseveral", rec.Index, "", ""},
			{"v2/sbom", rec.Index, "", ""},
			{"v2/many", rec.Index, "", unknown},
			{"oras/cyclonedx", rec.Index, "", ""},
		} {
			repository := r.Host + "/" + at.repository
			if !pushed[at.repository] {
				rec.Push(t, at.repository, repository)
				pushed[at.repository] = true
			}
			names, problem := signersOf(t, c, rec.Policy(), repository, at.digest)
			if got := strings.Join(names, " "); got != at.signers || (problem == "") != (at.says == "") || !strings.Contains(problem, at.says) {
				t.Errorf("%s@%.12s is signed by %q (%s), want %q (%s)", at.repository, at.digest, got, problem, at.signers, at.says)
			}
		}
		for _, repository := range []string{"v3/both", "v2/both"} {
			stranger := v1alpha1.SignatureKey{Name: "stranger", PublicKey: rec.Stranger}
			if names, problem := signersOf(t, c, rec.Policy(stranger), r.Host+"/"+repository, rec.Index); !slices.Equal(names, []string{"ci", "stranger"}) || problem != "" {
				t.Errorf("%s by both: %q, %s", repository, names, problem)
			}
		}
		moved := r.Host + "/moved" // the signature of one image, put at another
		rec.Push(t, "oras/bare", moved)
		sigstoretest.PushBundle(t, moved, rec.Other, rec.Layers(t, "v3/signed", sigstoretest.BundleType)[0].Content)
		sigstoretest.PushLayers(t, moved, rec.Other, rec.Layers(t, "v2/signed", sigstore.SimpleSigningLayer)...)
		if names, problem := signersOf(t, c, rec.Policy(), moved, rec.Other); len(names) > 0 || !strings.Contains(problem, "2 signatures do not count") || !strings.Contains(problem, other) {
			t.Errorf("moved: %q, %s", names, problem)
		}
	})
}

// The bills of materials that cosign and oras attach count, for the image that they are about.
func TestBillsOfTools(t *testing.T) {
	rec := sigstoretest.Record(t)
	bothRegistries(t, func(t *testing.T, r *registrytest.Registry, c *registry.Client) {
		for _, at := range []struct{ repository, digest, format, says string }{
			{"v3/cyclonedx", rec.Index, "cyclonedx-json", ""},
			{"v3/cyclonedx", rec.Other, "", ""},
			{"v3/spdxjson", rec.Index, "spdx-json", ""},
			{"v3/vuln", rec.Index, "", ""},
			{"v3/signed", rec.Index, "", ""},
			{"v2/cyclonedx", rec.Index, "cyclonedx-json", ""},
			{"v2/bundle", rec.Index, "", ""},
			{"v2/att", rec.Index, "cyclonedx-json", ""},
			{"v2/att", rec.Other, "", ""},
			{"v2/attspdx", rec.Index, "spdx-json", ""},
			{"v2/attseveral", rec.Index, "cyclonedx-json", ""},
			{"v2/attother", rec.Index, "", ""},
			{"v2/attother", rec.Other, "cyclonedx-json", ""},
			{"v2/attspdxtext", rec.Index, "", "neither CycloneDX nor SPDX in JSON"},
			{"v2/sbom", rec.Index, "cyclonedx-json", ""},
			{"v2/sbom", rec.Other, "", ""},
			{"v2/sbomspdx", rec.Index, "spdx-json", ""},
			{"v2/sbomtext", rec.Index, "", "neither CycloneDX nor SPDX in JSON"},
			{"v2/sbomreferrer", rec.Index, "cyclonedx-json", ""},
			{"oras/cyclonedx", rec.Index, "cyclonedx-json", ""},
			{"oras/bare", rec.Index, "cyclonedx-json", ""},
			{"oras/spdx", rec.Index, "spdx-json", ""},
		} {
			repository := r.Host + "/" + at.repository
			rec.Push(t, at.repository, repository)
			var record v1alpha1.SBOMRecord
			problem, err := newLooking().bill(t.Context(), c, v1alpha1.FrozenImage{Name: "backend", Repository: repository, Digest: at.digest}, &record)
			if err != nil || (problem == "") != (at.says == "") || !strings.Contains(problem, at.says) ||
				record.Format != at.format || (record.Components == 1) != (at.format != "") || (record.Manifest == "") != (at.format == "") {
				t.Errorf("%s@%.12s: %+v, %s, %v; want %q (%s)", at.repository, at.digest, record, problem, err, at.format, at.says)
			}
		}
		moved := r.Host + "/moved"
		rec.Push(t, "v3/signed", moved)
		sigstoretest.PushBundle(t, moved, rec.Other, rec.Layers(t, "v3/cyclonedx", sigstoretest.BundleType)[0].Content)
		var record v1alpha1.SBOMRecord
		problem, err := newLooking().bill(t.Context(), c, v1alpha1.FrozenImage{Name: "backend", Repository: moved, Digest: rec.Other}, &record)
		if err != nil || record.Manifest != "" || !strings.Contains(problem, "its statement is about another image") {
			t.Errorf("moved: %+v, %s, %v", record, problem, err)
		}
		const att = "v2/att" // the tag of one image's attestations, put at another's
		rec.Push(t, att, moved)
		tag := rec.Repositories[att].Tags[registry.CosignTag(rec.Index, registry.AttestationTag)]
		again := registry.Tagging{Repository: moved, Digest: tag, Tag: registry.CosignTag(rec.Other, registry.AttestationTag)}
		if err := c.Tag(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		problem, err = newLooking().bill(t.Context(), c, v1alpha1.FrozenImage{Name: "backend", Repository: moved, Digest: rec.Other}, &record)
		if err != nil || record.Manifest != "" || !strings.Contains(problem, "2 SBOMs do not count: its statement is about another image") {
			t.Errorf("the moved tag: %+v, %s, %v", record, problem, err)
		}
	})
}

// The signatures of forty pipelines under one tag are all read, the last first: each counts for who made it.
func TestManySignaturesOfCosign(t *testing.T) {
	rec := sigstoretest.Record(t)
	layers := rec.Layers(t, "v2/many", sigstore.SimpleSigningLayer)
	if last := layers[len(layers)-1]; len(layers) != 40 || !strings.Contains(string(last.Content), `{"run":"40"}`) {
		t.Fatalf("%d layers, the last %s", len(layers), last.Content)
	}
	bothRegistries(t, func(t *testing.T, r *registrytest.Registry, c *registry.Client) {
		repository := r.Host + "/many"
		rec.Push(t, "v2/many", repository)
		late := v1alpha1.SignatureKey{Name: "late", PublicKey: rec.Late}
		if names, problem := signersOf(t, c, rec.Policy(late), repository, rec.Index); len(names) != 40 || names[39] != "late" || problem != "" {
			t.Errorf("signed by %q, %s", names, problem)
		}
	})
}

// A verdict that is pushed out of the cache between the question and the answer is not taken for that of an artifact of nothing.
func TestCacheThatForgets(t *testing.T) {
	r := newLooking()
	l := &looking{cache: r, prefix: "p/", judge: func(a registry.Artifact) finding {
		if len(a.Layers) == 0 {
			return finding{}
		}
		return finding{signers: []v1alpha1.ImageSigner{{Name: "ci"}}}
	}}
	if l.known("sha256:a") {
		t.Fatal("known at once")
	}
	l.see(registry.Artifact{Digest: "sha256:a", Layers: make([]registry.ArtifactLayer, 1)})
	if !l.known("sha256:a") {
		t.Fatal("not known")
	}
	r.judged.Clear()
	if f := l.see(registry.Artifact{Digest: "sha256:a"}); len(f.signers) != 1 {
		t.Errorf("%+v", f)
	}
	if l.known("sha256:a") {
		t.Error("what was not read is remembered")
	}
}
