// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
	"gitlab.com/dynors/sirrat/internal/sigstore/sigstoretest"
)

// signedBench is a bench on a registry, with an image of commit A that is pushed and whose digest is returned.
func signedBench(t *testing.T, r *registrytest.Registry) (b *bench, digest string) {
	t.Helper()
	b = newBench(t)
	b.repo = r.Host + "/backend"
	b.setUp(b.compose())
	return b, r.Push("backend", "dev-aaaaaaa")
}

// demands sets spec.signatures of an environment.
func (b *bench) demands(environment string, p *v1alpha1.SignaturePolicy) {
	b.t.Helper()
	text, err := json.Marshal(map[string]any{"spec": map[string]any{"signatures": p}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: environment, Namespace: b.project}}, string(text)); err != nil {
		b.t.Fatal(err)
	}
	cptest.Wait(b.t, "the controllers to see what is demanded", func(ctx context.Context) error {
		var env v1alpha1.Environment
		if err := running.Manager.GetCache().Get(ctx, client.ObjectKey{Namespace: b.project, Name: environment}, &env); err != nil {
			return err
		}
		if env.Spec.Signatures == nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// waits waits until a gate waits with all the words.
func (b *bench) waits(rel *v1alpha1.Release, gate string, words ...string) {
	b.t.Helper()
	b.judged(rel, gate, v1alpha1.VerdictWaiting, words...)
}

// judged waits for a gate to say all the words of a release.
func (b *bench) judged(rel *v1alpha1.Release, gate string, verdict v1alpha1.Verdict, words ...string) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("gate %s to be %s and to say %q", gate, verdict, words), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		for _, g := range rel.Status.Gates {
			if g.Name != gate {
				continue
			}
			text := g.Message
			for _, c := range g.Criteria {
				text += "\n" + c.Message + "\n" + c.Needs
			}
			if g.Verdict != verdict {
				return fmt.Errorf("%s: %s", g.Verdict, text)
			}
			for _, word := range words {
				if !strings.Contains(text, word) {
					return fmt.Errorf("it says: %s", text)
				}
			}
			b.t.Logf("gate %s is %s: %s", gate, g.Verdict, g.Message)
			return nil
		}
		return fmt.Errorf("gates %+v", rel.Status.Gates)
	})
}

func anyRollout(*v1alpha1.Rollout) error { return nil }

// The gate stays shut on whatever is attached that is no signature by the key, says so, and opens by itself on the one that is:
// in the tag or as a bundle, with and without the registry's help. What was verified stays so, until the policy is another.
func TestImagesMustBeSigned(t *testing.T) {
	for what, start := range map[string]func(testing.TB) *registrytest.Registry{"referrers": registrytest.InProcess, "debian": registrytest.Debian} {
		for _, how := range []string{"tag", "bundle"} {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				r := start(t)
				b, digest := signedBench(t, r)
				ours, stranger := sigstoretest.NewKey(t), sigstoretest.NewKey(t)
				other := r.Push("backend", "other")
				b.demands("dev", sigstoretest.Policy(ours, sigstoretest.NewKey(t)))
				altered := ours.Layer(digest)
				altered.Content = append(altered.Content, ' ')
				sigstoretest.PushLayers(t, b.repo, digest, stranger.Layer(digest), ours.Layer(other), altered, sigstoretest.Layer{Content: []byte("garbage")})
				sigstoretest.PushBundle(t, b.repo, digest, stranger.Bundle(digest))
				sigstoretest.PushBundle(t, b.repo, digest, ours.Bundle(other))
				sigstoretest.PushBundle(t, b.repo, digest, []byte("{garbage"))
				sigstoretest.PushBundle(t, b.repo, digest, ours.BundleOf(sigstoretest.Statement(digest, "https://cyclonedx.org/bom", "{}")))
				sigstoretest.PushArtifact(t, b.repo, digest, sigstoretest.BundleType, make([]byte, 513<<10))
				rel := b.release(commitA)
				b.waits(rel, "ci", "signature: backend is not signed by any of 2 keys (8 signatures do not count: ", "cosign sign --key <private key> "+b.repo+"@"+digest)
				if len(rel.Status.Environments) > 0 {
					t.Fatalf("let in: %+v", rel.Status.Environments)
				}

				if how == "tag" {
					sigstoretest.PushLayers(t, b.repo, digest, stranger.Layer(digest), ours.Layer(digest))
				} else {
					sigstoretest.PushBundle(t, b.repo, digest, ours.Bundle(digest))
				}
				ro := b.rollout("dev", anyRollout)
				b.judged(rel, "ci", v1alpha1.VerdictPassed, "signature: backend is signed by k0")
				if s := rel.Status.Signatures; len(s) != 1 || len(s[0].Signers) != 1 || s[0].Digest != digest || s[0].Signers[0].KeyID == "" || s[0].Problem != "" {
					t.Errorf("recorded: %+v", s)
				}
				r.Misbehave(refusing("", "sha256-", http.StatusNotFound)) // somebody removes it
				b.report(ro, v1alpha1.RolloutHealthy)
				b.demands("production", sigstoretest.Policy(sigstoretest.NewKey(t), sigstoretest.NewKey(t)))
				b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
				b.waits(rel, "production", "backend is not signed by any of 2 keys")
			})
		}
	}
}

// Who signed with a certificate of the trusted root is known by identity; without the root nothing passes.
func TestKeylessSignatures(t *testing.T) {
	r := registrytest.InProcess(t)
	b, digest := signedBench(t, r)
	a, stranger := sigstoretest.NewAuthority(t), sigstoretest.NewAuthority(t)
	soon := time.Now().Add(5 * time.Minute)
	const subject, issuer = "ci@dynors.com", "https://gitlab.example"
	sigstoretest.PushBundle(t, b.repo, digest, stranger.Bundle(subject, issuer, digest, soon))
	sigstoretest.PushBundle(t, b.repo, digest, a.Bundle("eve@dynors.com", issuer, digest, soon))
	sigstoretest.PushBundle(t, b.repo, digest, a.Bundle(subject, "https://gitlab.evil", digest, soon))
	sigstoretest.PushBundle(t, b.repo, digest, a.Bundle(subject, issuer, digest, time.Now().Add(30*time.Minute)))
	b.demands("dev", &v1alpha1.SignaturePolicy{Keyless: &v1alpha1.KeylessSignatures{
		TrustedRoot: v1alpha1.TrustedRootSource{ConfigMapKeyRef: &v1alpha1.TrustedRootRef{Name: "sigstore"}},
		Identities:  []v1alpha1.SignatureIdentity{{Name: "pipeline", Issuer: issuer, Subject: subject}},
	}})
	rel := b.release(commitA)
	b.waits(rel, "ci", "ConfigMap sigstore (keyless.trustedRoot) does not exist", "mends spec.signatures")
	b.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "sigstore", Namespace: b.project}, Data: map[string]string{
		v1alpha1.TrustedRootKey: string(a.Root(false)),
	}})
	b.waits(rel, "ci", "backend is not signed by the one identity", "4 signatures do not count")
	sigstoretest.PushLayers(t, b.repo, digest, a.Layer(subject, issuer, digest, soon))
	b.rollout("dev", anyRollout)
	b.judged(rel, "ci", v1alpha1.VerdictPassed, "backend is signed by pipeline")
	if by := rel.Status.Signatures[0].Signers[0]; by.Subject != subject || by.Issuer != issuer {
		t.Errorf("recorded: %+v", by)
	}
}

// However much somebody attaches, a look is bounded, and what counts is found in the end.
func TestSignatureAmongMany(t *testing.T) {
	r := registrytest.InProcess(t)
	b, digest := signedBench(t, r)
	ours := sigstoretest.NewKey(t)
	for i := range 100 {
		sigstoretest.PushBundle(t, b.repo, digest, fmt.Appendf(nil, `{"garbage":%d}`, i))
	}
	b.demands("dev", sigstoretest.Policy(ours))
	r.Take()
	rel := b.release(commitA)
	b.waits(rel, "ci", "100 signatures do not count")
	reads := 0
	for _, s := range r.Take() {
		if s.Blob() {
			reads++
		}
	}
	if reads != 100 {
		t.Errorf("%d blobs were read for 100 bundles", reads)
	}
	sigstoretest.PushBundle(t, b.repo, digest, ours.Bundle(digest))
	b.rollout("dev", anyRollout)
}

// However many signatures lie under a tag, a look is bounded, begins with the last, and the next goes on.
func TestSignatureAmongManyUnderATag(t *testing.T) {
	r := registrytest.InProcess(t)
	b, digest := signedBench(t, r)
	ours := sigstoretest.NewKey(t)
	layers := []sigstoretest.Layer{ours.Layer(digest)} // the first of all, and read in the last look
	for i := range 150 {
		layers = append(layers, sigstoretest.Layer{Content: fmt.Appendf(nil, `{"garbage":%d}`, i)})
	}
	sigstoretest.PushLayers(t, b.repo, digest, layers...)
	b.demands("dev", sigstoretest.Policy(ours))
	r.Take()
	rel := b.release(commitA)
	b.waits(rel, "ci", "64 signatures do not count", "the next goes on, up to 1000", "cosign clean")
	b.rollout("dev", anyRollout)
	reads := 0
	for _, s := range r.Take() {
		if s.Blob() {
			reads++
		}
	}
	if reads != len(layers) {
		t.Errorf("%d blobs were read for %d signatures", reads, len(layers))
	}
}

// A registry in trouble says nothing about signatures: the gate waits, says what is wrong, and opens once it is well.
func TestSignaturesOfARegistryInTrouble(t *testing.T) {
	r := registrytest.InProcess(t)
	b, digest := signedBench(t, r)
	ours := sigstoretest.NewKey(t)
	sigstoretest.PushBundle(t, b.repo, digest, ours.Bundle(digest))
	b.demands("dev", sigstoretest.Policy(ours))
	r.Misbehave(refusing("", "/referrers/", http.StatusForbidden))
	rel := b.release(commitA)
	b.waits(rel, "ci", "the registry refuses access (403)", "spec.registrySecretRef")
	r.Misbehave(nil)
	b.rollout("dev", anyRollout)
}

// Where nobody demands signatures or bills of materials, the registry is not asked for them.
func TestRegistryIsNotAskedUnasked(t *testing.T) {
	r := registrytest.Debian(t)
	b, digest := signedBench(t, r)
	sigstoretest.PushBundle(t, b.repo, digest, sigstoretest.NewKey(t).Bundle(digest))
	r.Take()
	if err := b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}, `{"spec":{"signatures":{}}}`); err == nil {
		t.Error("a policy that trusts nobody was taken")
	}
	rel := b.release(commitA)
	b.cross(rel)
	asked := r.Take()
	for _, s := range asked {
		if strings.Contains(s.Path, "referrers") || strings.Contains(s.Path, "sha256-") {
			t.Errorf("asked for %s", s.Path)
		}
	}
	if len(asked) == 0 || len(rel.Status.Signatures) > 0 || len(rel.Status.SBOMs) > 0 {
		t.Errorf("%d requests; %+v, %+v", len(asked), rel.Status.Signatures, rel.Status.SBOMs)
	}
}

const bom = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[%s]}`

// The gate waits for a bill of materials and opens by itself once CI sent one or attached one that lists something.
func TestSBOMOfEveryImageIsRequired(t *testing.T) {
	const cyclone = "application/vnd.cyclonedx+json"
	component := fmt.Sprintf(bom, `{"type":"library","name":"x","version":"1"}`)
	for what, bring := range map[string]func(b *bench, digest string){
		"attached": func(b *bench, digest string) {
			sigstoretest.PushArtifact(b.t, b.repo, digest, cyclone, []byte(component))
		},
		"stated": func(b *bench, digest string) {
			statement := sigstoretest.Statement(digest, "https://cyclonedx.org/bom", component)
			sigstoretest.PushBundle(b.t, b.repo, digest, sigstoretest.NewKey(b.t).BundleOf(statement))
		},
		"attested": func(b *bench, digest string) { // cosign 2, beside something else
			statement := sigstoretest.Statement(digest, "https://cyclonedx.org/bom", component)
			sigstoretest.PushAttestations(b.t, b.repo, digest,
				sigstoretest.Layer{Content: sigstoretest.NewKey(b.t).Attestation(statement), Annotations: map[string]string{"predicateType": "https://cyclonedx.org/bom"}},
				sigstoretest.Layer{Content: []byte("garbage")})
		},
		"attached by cosign 2": func(b *bench, digest string) {
			sigstoretest.PushSBOM(b.t, b.repo, digest, cyclone, []byte(component))
		},
		"reported": func(b *bench, digest string) { b.billed(digest) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b, digest := signedBench(t, registrytest.InProcess(t))
			gate := &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: b.project}}
			if err := b.patch(gate, `{"spec":{"criteria":[{"name":"bill","sbom":{}}]}}`); err != nil {
				t.Fatal(err)
			}
			cptest.Wait(t, "the controllers to see the criterion", func(ctx context.Context) error {
				if err := running.Manager.GetCache().Get(ctx, client.ObjectKeyFromObject(gate), gate); err != nil {
					return err
				}
				if gate.Spec.Criteria[0].SBOM == nil {
					return fmt.Errorf("not yet")
				}
				return nil
			})
			sigstoretest.PushArtifact(t, b.repo, digest, cyclone, fmt.Appendf(nil, bom, ""))
			rel := b.release(commitA)
			b.billed("sha256:" + strings.Repeat("9", 64)) // of another image
			b.waits(rel, "ci", "no SBOM of backend (1 SBOM does not count", "no component", "oras attach", "kubectl sirrat report --type sbom")
			if len(rel.Status.Environments) > 0 {
				t.Fatalf("let in: %+v", rel.Status.Environments)
			}
			bring(b, digest)
			b.rollout("dev", anyRollout)
			b.judged(rel, "ci", v1alpha1.VerdictPassed, "every image has an SBOM")
		})
	}
}

// billed stores, as the HTTP API does, that CI sent a bill of materials of an image.
func (b *bench) billed(digest string) {
	b.t.Helper()
	b.create(&v1alpha1.CIResult{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "sbom-", Namespace: b.project, Labels: map[string]string{v1alpha1.LabelCommit: commitA[:7]}},
		Spec: v1alpha1.CIResultSpec{
			Commit: commitA, Type: v1alpha1.TypeSBOM, Status: v1alpha1.StatusPassed, Digest: digest, Format: "cyclonedx-json", Job: digest[7:10],
			Received: metav1.Now(), ReportHash: "sha256:" + strings.Repeat("0", 64),
		},
	})
}
