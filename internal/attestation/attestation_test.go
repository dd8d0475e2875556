// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

const (
	repository = "registry.example/shop/backend"
	pdfHash    = "sha256:02" // of the PDF that the client read
)

var (
	digest = "sha256:" + strings.Repeat("a", 64)
	other  = "sha256:" + strings.Repeat("b", 64)
	opened = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

// pair is a key of the tests.
type pair struct {
	signer crypto.Signer
	public envelope.PublicKey
}

func newPair(t *testing.T) pair {
	t.Helper()
	key, _, text, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, public}
}

func images(digests ...string) []v1alpha1.FrozenImage {
	var out []v1alpha1.FrozenImage
	for _, d := range digests {
		out = append(out, v1alpha1.FrozenImage{Name: "backend", Repository: repository, Digest: d})
	}
	return out
}

func verdict(gate string, number int32, edits ...func(*Verdict)) Verdict {
	v := Verdict{
		Verifier: Verifier{ID: VerifierID("sha256:k")}, TimeVerified: opened.Add(time.Duration(number) * time.Hour),
		Policy: Descriptor{Name: gate, URI: uriBase + "gate/u/" + gate, Digest: digestSet("sha256:00")},
		Gate: Gate{Project: "shop", ProjectUID: "u", Release: "a1b2c3d", ReleaseUID: "r", Commit: "a1b2c3d", Name: gate, Number: number,
			Environment: "env-" + gate, BundleHash: "sha256:01", Approvals: []Approval{{User: "qa@dynors.com", Time: opened}}},
	}
	for _, edit := range edits {
		edit(&v)
	}
	return v
}

func statementOf(t *testing.T, v Verdict, digests ...string) string {
	t.Helper()
	text, err := VerdictStatement(images(digests...), v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// attach makes the artifact of a statement as the controllers do.
func attach(t *testing.T, statement string, by pair) Artifact {
	t.Helper()
	text, err := Sign(t.Context(), statement, by.signer)
	if err != nil {
		t.Fatal(err)
	}
	return Artifact{Digest: envelope.Hash([]byte(text)), Type: VerdictArtifact, Layers: []Layer{{VerdictLayer, []byte(text)}}}
}

// certificate is a PV on images that the client signed, and its artifact.
func certificate(t *testing.T, installation, client pair, about string, edits ...func(*Decision)) (PVReference, Artifact) {
	t.Helper()
	return decided(t, installation, client, v1alpha1.PVAccepted, about, edits...)
}

func decided(t *testing.T, installation, client pair, decision v1alpha1.PVDecision, about string, edits ...func(*Decision)) (PVReference, Artifact) {
	t.Helper()
	document, hash, err := pv.Document{Release: "a1b2c3d", Images: []string{"backend: " + repository + "@" + about}}.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.PV{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a1b2c3d", UID: "pv-uid"}, Spec: v1alpha1.PVSpec{Document: document, DocumentHash: hash, PDFHash: pdfHash}}
	said := pv.NewDecision(p, decision, "Camille Client", opened)
	switch decision {
	case v1alpha1.PVRefused:
		said.Reason = "the basket is empty"
	case v1alpha1.PVAcceptedWithReservations:
		said.Reservations = []v1alpha1.Reservation{{Text: "a typo", Owner: "shop", Deadline: "2026-12-01"}}
	}
	signature, err := pv.Sign(t.Context(), said, client.signer)
	if err != nil {
		t.Fatal(err)
	}
	d := Decision{
		PVReference: PVReference{Name: p.Name, UID: string(p.UID), DocumentHash: hash, SignatureHash: envelope.Hash([]byte(signature))},
		Project:     "shop", Release: "a1b2c3d", PDFHash: pdfHash, Decision: string(decision), Method: v1alpha1.MethodKey, SignedBy: "Camille Client", SignedAt: opened,
	}
	for _, edit := range edits {
		edit(&d)
	}
	text, err := DecisionStatement(images(digest), d)
	if err != nil {
		t.Fatal(err)
	}
	a := attach(t, text, installation)
	a.Type, a.Layers[0].MediaType = DecisionArtifact, DecisionLayer
	a.Layers = append(a.Layers, Layer{DocumentLayer, []byte(document)}, Layer{SignatureLayer, []byte(signature)})
	return d.PVReference, a
}

// altered is an artifact whose signed statement says something else than was signed.
func altered(t *testing.T, a Artifact, from, to string) Artifact {
	t.Helper()
	var env map[string]any
	if err := json.Unmarshal(a.Layers[0].Data, &env); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(env["payload"].(string))
	if err != nil || !strings.Contains(string(payload), from) {
		t.Fatal(err, string(payload))
	}
	env["payload"] = base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(payload), from, to, 1)))
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	a.Layers = append([]Layer{{a.Layers[0].MediaType, text}}, a.Layers[1:]...)
	return a
}

func TestExamine(t *testing.T) {
	installation, stranger, client := newPair(t), newPair(t), newPair(t)
	trust := Trust{Keys: []envelope.PublicKey{installation.public}}
	withClient := Trust{Keys: trust.Keys, Client: []envelope.PublicKey{client.public}}
	qa := attach(t, statementOf(t, verdict("qa", 1), digest), installation)
	ref, signed := certificate(t, installation, client, digest)
	relies := func(v *Verdict) { v.Gate.PV = &ref }
	production := attach(t, statementOf(t, verdict("production", 2, relies), other, digest), installation)
	_, otherPV := certificate(t, installation, client, other)
	_, byStranger := certificate(t, installation, stranger, digest)
	_, onPage := certificate(t, installation, client, digest, func(d *Decision) { d.Method = v1alpha1.MethodPage })
	refusedRef, refused := decided(t, installation, client, v1alpha1.PVRefused, digest)
	onRefused := attach(t, statementOf(t, verdict("production", 2, func(v *Verdict) { v.Gate.PV = &refusedRef }), digest), installation)
	reservedRef, reserved := decided(t, installation, client, v1alpha1.PVAcceptedWithReservations, digest)
	onReserved := attach(t, statementOf(t, verdict("production", 2, func(v *Verdict) { v.Gate.PV = &reservedRef }), digest), installation)
	elsewhere := attach(t, statementOf(t, verdict("qa", 1, func(v *Verdict) { v.Gate.Project = "sandbox" }), digest), installation)
	shop, sandbox := Trust{Keys: trust.Keys, Project: "shop"}, Trust{Keys: trust.Keys, Project: "sandbox"}
	wrongDocument := signed
	wrongDocument.Layers = append([]Layer{signed.Layers[0], {DocumentLayer, []byte(`{}`)}}, signed.Layers[2])
	glass := attach(t, statementOf(t, verdict("qa", 1, func(v *Verdict) {
		v.Gate.BrokenGlass = &Approval{User: "cto@dynors.com", Time: opened, Reason: "the shop is down"}
	}), digest), installation)
	// relying is a production verdict that relied on a PV, or on none.
	relying := func(ref *PVReference, edits ...func(*Verdict)) Artifact {
		return attach(t, statementOf(t, verdict("production", 2, append(edits, func(v *Verdict) { v.Gate.PV = ref })...), digest), installation)
	}
	inEmergency := func(v *Verdict) { v.Gate.BrokenGlass = &Approval{User: "cto@dynors.com", Time: opened} }
	// resigned is a verdict on qa whose statement, which the installation signed, differs from one that it makes.
	resigned := func(from, to string, edits ...func(*Verdict)) Artifact {
		text := statementOf(t, verdict("qa", 1, edits...), digest)
		if !strings.Contains(text, from) {
			t.Fatal(text)
		}
		return attach(t, strings.ReplaceAll(text, from, to), installation)
	}
	saysAccepted := func(d *Decision) { d.Decision = string(v1alpha1.PVAccepted) }
	lyingRef, lying := decided(t, installation, client, v1alpha1.PVRefused, digest, saysAccepted)
	onPageRef, byPage := certificate(t, installation, client, digest, func(d *Decision) { d.Name, d.Method = "by-page", v1alpha1.MethodPage })
	lateRef, late := certificate(t, installation, client, digest, func(d *Decision) { d.Name, d.Method = "late", v1alpha1.MethodPage })
	elsewhereRef, inSandbox := certificate(t, installation, client, digest, func(d *Decision) { d.Project = "sandbox" })
	_, otherSignature := certificate(t, installation, client, digest)
	otherSignature.Layers = append(append([]Layer{}, otherSignature.Layers[:2]...), refused.Layers[2])
	_, otherPDF := certificate(t, installation, client, digest, func(d *Decision) { d.PDFHash = "sha256:03" })
	_, otherUID := certificate(t, installation, client, digest, func(d *Decision) { d.UID = "another" })
	_, noDocument := certificate(t, installation, client, digest, func(d *Decision) { d.DocumentHash = envelope.Hash([]byte(`{"images":`)) })
	noDocument.Layers = []Layer{noDocument.Layers[0], {DocumentLayer, []byte(`{"images":`)}, noDocument.Layers[2]}
	without := func(a Artifact, layer int) Artifact {
		a.Layers = append(append([]Layer{}, a.Layers[:layer]...), a.Layers[layer+1:]...)
		return a
	}
	verdictAsPV := signed
	verdictAsPV.Layers = append([]Layer{{DecisionLayer, qa.Layers[0].Data}}, signed.Layers[1:]...)
	otherSubject, err := DecisionStatement(images(other), Decision{PVReference: ref, Project: "shop", Decision: string(v1alpha1.PVAccepted)})
	if err != nil {
		t.Fatal(err)
	}
	aboutOther := signed
	aboutOther.Layers = append([]Layer{{DecisionLayer, attach(t, otherSubject, installation).Layers[0].Data}}, signed.Layers[1:]...)
	padded := func(size int) Artifact {
		text := statementOf(t, verdict("qa", 1), digest)
		return attach(t, text+strings.Repeat(" ", size-len(text)), installation)
	}
	withRevoked := Trust{Keys: trust.Keys, Revoked: []envelope.PublicKey{client.public}}
	foreign := qa
	foreign.Type = "application/vnd.dev.cosign.artifact.sig.v1+json"
	long := qa
	long.Layers = []Layer{{VerdictLayer, []byte(strings.Repeat(" ", envelope.MaxSize+1))}}

	for _, c := range []struct {
		name     string
		attached []Artifact
		demanded []string
		trust    Trust
		ok       bool
		gates    int
		want     error // of the first problem, or of what is missing
	}{
		{"a valid chain", []Artifact{production, signed, qa}, []string{"qa", "production"}, withClient, true, 2, nil},
		{"a valid chain, nothing demanded", []Artifact{production, signed, qa}, nil, withClient, true, 2, nil},
		{"without the client's key the installation is believed", []Artifact{production, signed, qa}, nil, trust, true, 2, nil},
		{"nothing is attached", nil, nil, trust, false, 0, ErrNothing},
		{"only a PV is attached", []Artifact{signed}, nil, trust, false, 0, ErrNothing},
		{"something else is attached too", []Artifact{foreign, qa}, nil, trust, true, 1, nil},
		{"a gate is missing", []Artifact{qa}, []string{"qa", "production"}, trust, false, 1, ErrGate},
		{"an altered statement", []Artifact{altered(t, qa, "env-qa", "env-xx")}, nil, trust, false, 0, ErrAltered},
		{"an altered statement beside good ones", []Artifact{qa, altered(t, production, "env-p", "env-x")}, nil, trust, false, 1, ErrAltered},
		{"an altered statement, and what is demanded is proven", []Artifact{qa, altered(t, production, "env-p", "env-x")}, []string{"qa"}, trust, true, 1, ErrAltered},
		{"signed by another key", []Artifact{attach(t, statementOf(t, verdict("qa", 1), digest), stranger)}, nil, trust, false, 0, ErrUnknownKey},
		{"signed by a revoked key", []Artifact{qa}, nil, Trust{Keys: []envelope.PublicKey{stranger.public}, Revoked: trust.Keys}, false, 0, ErrRevokedKey},
		{"no key is trusted", []Artifact{qa}, nil, Trust{}, false, 0, ErrUnknownKey},
		{"about another image", []Artifact{attach(t, statementOf(t, verdict("qa", 1), other), installation)}, nil, trust, false, 0, ErrSubject},
		{"a PV of another image", []Artifact{qa, otherPV}, nil, trust, false, 1, ErrPVOther},
		{"a PV with another document", []Artifact{qa, wrongDocument}, nil, trust, false, 1, ErrPVAltered},
		{"a PV signed by another than the client", []Artifact{qa, byStranger}, nil, withClient, false, 1, ErrPVUnsigned},
		{"a PV that the client did not sign itself", []Artifact{production, onPage}, []string{"production"}, withClient, false, 1, ErrPVUnsigned},
		{"the PV is missing", []Artifact{production}, []string{"production"}, withClient, false, 1, ErrPVMissing},
		{"the client refused the PV on which the gate relied", []Artifact{onRefused, refused}, []string{"production"}, withClient, false, 1, ErrPVRefused},
		{"the client refused, nothing demanded", []Artifact{onRefused, refused}, nil, withClient, false, 1, ErrPVRefused},
		{"the client refused, and the installation's word counts", []Artifact{onRefused, refused}, []string{"production"}, trust, false, 1, ErrPVRefused},
		{"the client's key is given, and the gate relied on no PV", []Artifact{qa}, []string{"qa"}, withClient, false, 1, ErrNoClient},
		{"the client's key is given, and no gate relied on the PV", []Artifact{qa, signed}, nil, withClient, false, 1, ErrNoClient},
		{"the client's key is given, and another gate than the demanded relied on it", []Artifact{qa, production, signed}, []string{"qa"}, withClient, false, 2, ErrNoClient},
		{"accepted with reservations", []Artifact{onReserved, reserved}, []string{"production"}, withClient, true, 1, nil},
		{"a gate of that name in another project", []Artifact{elsewhere}, []string{"qa"}, shop, false, 0, ErrGate},
		{"a gate of another project only", []Artifact{elsewhere}, nil, shop, false, 0, ErrNothing},
		{"a PV of another project", []Artifact{production, signed}, []string{"production"}, Trust{Keys: trust.Keys, Client: withClient.Client, Project: "sandbox"}, false, 0, ErrGate},
		{"gates of two projects", []Artifact{elsewhere, qa}, []string{"qa"}, trust, false, 2, ErrProjects},
		{"gates of two projects, nothing demanded", []Artifact{elsewhere, qa}, nil, trust, false, 2, ErrProjects},
		{"gates of two projects, one named", []Artifact{elsewhere, qa}, []string{"qa"}, shop, true, 1, nil},
		{"gates of two projects, the other named", []Artifact{elsewhere, qa}, nil, sandbox, true, 1, nil},
		{"a gate opened in an emergency", []Artifact{glass}, []string{"qa"}, trust, false, 1, ErrGlass},
		{"opened in an emergency, by another word", []Artifact{resigned(`"PASSED"`, `"FAILED"`)}, []string{"qa"}, trust, false, 1, ErrGlass},
		{"an emergency that is called passed", []Artifact{resigned(`"FAILED"`, `"PASSED"`, inEmergency)}, []string{"qa"}, trust, false, 1, ErrGlass},
		{"neither passed nor failed", []Artifact{resigned(`"PASSED"`, `"passed"`)}, []string{"qa"}, trust, false, 0, ErrMalformed},

		{"the PV is missing, nothing demanded", []Artifact{production}, nil, withClient, false, 1, ErrPVMissing},
		{"the PV is missing, another is attached", []Artifact{production, byPage, late}, []string{"production"}, withClient, false, 1, ErrPVMissing},
		{"the PV is refused, another is accepted", []Artifact{onRefused, refused, signed}, []string{"production"}, trust, false, 1, ErrPVRefused},
		{"the PV is accepted, another is refused", []Artifact{production, refused, signed}, []string{"production"}, withClient, true, 1, nil},
		{"the gate relied on a PV another time, which is missing", []Artifact{relying(nil), relying(&lateRef)}, []string{"production"}, withClient, false, 2, ErrNoClient},
		{"the gate relied on a PV another time, which is refused", []Artifact{relying(nil), onRefused, refused}, []string{"production"}, withClient, false, 2, ErrNoClient},
		{"the gate relied on a PV another time, which the client did not sign itself", []Artifact{relying(nil), relying(&onPageRef), byPage}, []string{"production"}, withClient,
			false, 2, ErrNoClient},
		{"the gate relied on a PV another time, in an emergency", []Artifact{relying(nil), relying(&ref, inEmergency), signed}, []string{"production"}, withClient, false, 2, ErrNoClient},
		{"the gate relied on a PV another time, which holds", []Artifact{relying(nil), production, signed}, []string{"production"}, withClient, true, 2, nil},

		{"a refusal that the installation calls accepted", []Artifact{relying(&lyingRef), lying}, []string{"production"}, withClient, false, 1, ErrPVAltered},
		{"another signature of the client's", []Artifact{production, otherSignature}, []string{"production"}, withClient, false, 1, ErrPVAltered},
		{"no signature of the client's", []Artifact{production, without(signed, 2)}, []string{"production"}, withClient, false, 1, ErrPVAltered},
		{"a signature on another PDF", []Artifact{qa, otherPDF}, nil, withClient, false, 1, ErrPVAltered},
		{"a signature on another PV", []Artifact{qa, otherUID}, nil, withClient, false, 1, ErrPVAltered},
		{"a PV whose document is none", []Artifact{qa, noDocument}, nil, trust, false, 1, ErrMalformed},
		{"a PV without its statement", []Artifact{qa, without(signed, 0)}, nil, trust, false, 1, ErrMalformed},
		{"a PV without its document", []Artifact{qa, without(signed, 1)}, nil, trust, false, 1, ErrMalformed},
		{"a PV's statement, altered", []Artifact{qa, altered(t, signed, "Camille", "Charles")}, nil, trust, false, 1, ErrAltered},
		{"a PV's statement by another key", []Artifact{qa, signed}, nil, Trust{Keys: []envelope.PublicKey{stranger.public}}, false, 0, ErrUnknownKey},
		{"a PV's statement about another image", []Artifact{qa, aboutOther}, nil, trust, false, 1, ErrSubject},
		{"a verdict in the place of a PV's statement", []Artifact{qa, verdictAsPV}, nil, trust, false, 1, ErrMalformed},
		{"the PV is another project's", []Artifact{relying(&elsewhereRef), inSandbox}, []string{"production"}, Trust{Keys: trust.Keys, Client: withClient.Client, Project: "shop"},
			false, 1, ErrPVMissing},
		{"the PV is of the project that is named", []Artifact{production, signed}, []string{"production"}, Trust{Keys: trust.Keys, Client: withClient.Client, Project: "shop"}, true, 1, nil},

		{"a statement as large as may be", []Artifact{padded(MaxStatement)}, nil, trust, true, 1, nil},
		{"a statement larger than may be", []Artifact{padded(MaxStatement + 1)}, nil, trust, false, 0, ErrMalformed},
		{"a statement of another version", []Artifact{resigned(StatementType, "https://in-toto.io/Statement/v0.1")}, nil, trust, false, 0, ErrMalformed},
		{"a predicate of another form", []Artifact{resigned(`"project":"shop"`, `"project":7`)}, nil, trust, false, 0, ErrMalformed},
		{"a member of a predicate twice", []Artifact{resigned(`"project":"shop"`, `"project":"shop","Project":"sandbox"`)}, nil, trust, false, 0, ErrMalformed},
		{"a statement that is none", []Artifact{attach(t, `[]`, installation)}, nil, trust, false, 0, ErrMalformed},
		{"signed by another key than the revoked one", []Artifact{attach(t, statementOf(t, verdict("qa", 1), digest), stranger)}, nil, withRevoked, false, 0, ErrUnknownKey},
		{"a gate opened in an emergency and passed later", []Artifact{glass, qa}, []string{"qa"}, trust, true, 2, nil},
		{"a verdict without its layer", []Artifact{{Type: VerdictArtifact}}, nil, trust, false, 0, ErrMalformed},
		{"a verdict with two of them", []Artifact{{Type: VerdictArtifact, Layers: append(qa.Layers, qa.Layers...)}}, nil, trust, false, 0, ErrMalformed},
		{"larger than may be", []Artifact{long}, nil, trust, false, 0, ErrMalformed},
		{"members twice", []Artifact{attach(t, strings.Replace(statementOf(t, verdict("qa", 1), digest), `"_type"`, `"predicatetype":"x","_type"`, 1), installation)}, nil, trust, false, 0, ErrMalformed},
		{"of another predicate", []Artifact{attach(t, strings.Replace(statementOf(t, verdict("qa", 1), digest), VerdictType, "https://slsa.dev/provenance/v1", 1), installation)}, nil, trust, false, 0, ErrMalformed},
		{"a member that is not known", []Artifact{attach(t, strings.Replace(statementOf(t, verdict("qa", 1), digest), `"resourceUri"`, `"https://x.example/y":1,"resourceUri"`, 1), installation)}, nil, trust, true, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Examine(t.Context(), digest, c.attached, c.demanded, c.trust)
			if r.OK(c.demanded) != c.ok || len(r.Gates) != c.gates {
				t.Errorf("ok %t with %d gates; problems %v, missing %v", r.OK(c.demanded), len(r.Gates), r.Problems, r.Missing)
			}
			found := append(append([]Problem{}, r.Problems...), r.Missing...)
			if c.want == nil && len(found) > 0 || c.want != nil && (len(found) == 0 || !errors.Is(found[0].Err, c.want)) {
				t.Errorf("found %v, want %v", found, c.want)
			}
		})
	}
}

// The same statement counts once, whatever surrounds it, and what anybody wrote into an envelope is repeated in part.
func TestRepeated(t *testing.T) {
	installation, client, stranger := newPair(t), newPair(t), newPair(t)
	qa := attach(t, statementOf(t, verdict("qa", 1), digest), installation)
	_, signed := certificate(t, installation, client, digest)
	twin, signedTwin := qa, signed
	twin.Digest, signedTwin.Digest = other, other
	var env map[string]any
	if err := json.Unmarshal(attach(t, statementOf(t, verdict("qa", 1), digest), stranger).Layers[0].Data, &env); err != nil {
		t.Fatal(err)
	}
	one := env["signatures"].([]any)[0].(map[string]any)
	one["keyid"] = strings.Repeat("k", 5000)
	env["signatures"] = []any{one, one, one, one, one}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	named := Artifact{Type: VerdictArtifact, Layers: []Layer{{VerdictLayer, text}}}
	odd := Artifact{Type: VerdictArtifact, Layers: []Layer{{VerdictLayer, []byte(`{"` + strings.Repeat("x", 5000) + `":1}`)}}}
	r := Examine(t.Context(), digest, []Artifact{qa, signed, twin, signedTwin, named, odd}, nil, Trust{Keys: []envelope.PublicKey{installation.public}})
	if len(r.Gates) != 1 || len(r.PVs) != 1 {
		t.Errorf("%d gates, %d PVs", len(r.Gates), len(r.PVs))
	}
	if len(r.Problems) != 2 || !errors.Is(r.Problems[0].Err, ErrUnknownKey) || !errors.Is(r.Problems[1].Err, ErrMalformed) {
		t.Errorf("%v", r.Problems)
	}
	for _, p := range r.Problems {
		if n := len(p.Err.Error()); n > 1000 {
			t.Errorf("%d bytes are repeated", n)
		}
	}
}

// Gates stand in the order of the bridge, PVs in that of time, and each says where it is attached and who signed it.
func TestOrder(t *testing.T) {
	installation, client := newPair(t), newPair(t)
	at := func(d time.Duration) func(*Verdict) { return func(v *Verdict) { v.TimeVerified = opened.Add(d) } }
	gate := func(name string, number int32, d time.Duration) Artifact {
		return attach(t, statementOf(t, verdict(name, number, at(d)), digest), installation)
	}
	ci, qa, again := gate("ci", 0, 9*time.Hour), gate("qa", 1, time.Hour), gate("qa", 1, 2*time.Hour)
	later := func(d time.Duration) func(*Decision) { return func(x *Decision) { x.SignedAt = opened.Add(d) } }
	_, first := certificate(t, installation, client, digest, later(time.Hour))
	_, second := certificate(t, installation, client, digest, later(2*time.Hour))
	r := Examine(t.Context(), digest, []Artifact{second, again, qa, first, ci}, nil, Trust{Keys: []envelope.PublicKey{installation.public}})
	var got, want []string
	for _, g := range r.Gates {
		got = append(got, g.Artifact+" "+g.KeyID)
	}
	for _, p := range r.PVs {
		got = append(got, p.Artifact+" "+p.KeyID)
	}
	for _, a := range []Artifact{ci, qa, again, first, second} {
		want = append(want, a.Digest+" "+installation.public.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	r = Examine(t.Context(), digest, []Artifact{qa, altered(t, ci, "env-ci", "env-qa")}, []string{"ci"}, Trust{Keys: []envelope.PublicKey{installation.public}})
	relying := attach(t, statementOf(t, verdict("production", 3, func(v *Verdict) { v.Gate.PV = &PVReference{Name: "gone"} }), digest), installation)
	if r := Examine(t.Context(), digest, []Artifact{relying}, nil, Trust{Keys: []envelope.PublicKey{installation.public}, Client: []envelope.PublicKey{client.public}}); len(r.Problems) != 1 ||
		r.Problems[0].Artifact != relying.Digest || r.Problems[0].Gate != "production" {
		t.Errorf("%+v", r.Problems)
	}
	if len(r.Problems) != 1 || r.Problems[0].Artifact != ci.Digest || len(r.Missing) != 1 || r.Missing[0].Gate != "ci" {
		t.Errorf("%+v, %+v", r.Problems, r.Missing)
	}
}

// What the client signed decides, not what the installation says that it signed.
func TestClientKeyDecides(t *testing.T) {
	installation, client := newPair(t), newPair(t)
	_, a := certificate(t, installation, client, digest, func(d *Decision) { d.SignedBy = "Somebody Else" })
	trust := Trust{Keys: []envelope.PublicKey{installation.public}, Client: []envelope.PublicKey{client.public}}
	if r := Examine(t.Context(), digest, []Artifact{a}, nil, trust); len(r.PVs) > 0 || len(r.Problems) != 1 || !errors.Is(r.Problems[0].Err, ErrPVAltered) {
		t.Errorf("%+v", r)
	}
	_, good := certificate(t, installation, client, digest)
	if r := Examine(t.Context(), digest, []Artifact{good}, nil, trust); len(r.PVs) != 1 || r.PVs[0].ClientKey != client.public.ID {
		t.Errorf("%+v", r)
	}
}

// The same verdict has the same bytes, and is what the SLSA Verification Summary v1 asks for.
func TestStatement(t *testing.T) {
	text := statementOf(t, verdict("pre-production", 3), digest)
	if again := statementOf(t, verdict("pre-production", 3, func(v *Verdict) { v.TimeVerified = v.TimeVerified.In(time.FixedZone("x", 3600)) }), digest); again != text {
		t.Errorf("the same verdict differs:\n%s\n%s", text, again)
	}
	var st struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct{ Digest map[string]string }
		Predicate     struct {
			Verifier           struct{ ID string }
			TimeVerified       string
			ResourceURI        string `json:"resourceUri"`
			Policy             struct{ URI string }
			VerificationResult string
			VerifiedLevels     []string
			SLSAVersion        string `json:"slsaVersion"`
		}
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		t.Fatal(err)
	}
	p := st.Predicate
	for name, ok := range map[string]bool{
		"_type":              st.Type == "https://in-toto.io/Statement/v1",
		"predicateType":      st.PredicateType == "https://slsa.dev/verification_summary/v1",
		"subject":            len(st.Subject) == 1 && st.Subject[0].Digest["sha256"] == strings.Repeat("a", 64),
		"verifier":           strings.HasPrefix(p.Verifier.ID, "https://"),
		"timeVerified":       p.TimeVerified == "2026-11-22T13:00:00Z",
		"resourceUri":        strings.HasPrefix(p.ResourceURI, "https://"),
		"policy":             p.Policy.URI != "",
		"verificationResult": p.VerificationResult == "PASSED",
		"verifiedLevels":     len(p.VerifiedLevels) == 1 && p.VerifiedLevels[0] == "SIRRAT_GATE_PRE_PRODUCTION",
		"slsaVersion":        p.SLSAVersion == "1.0",
	} {
		if !ok {
			t.Errorf("%s is wrong: %s", name, text)
		}
	}
	glass := statementOf(t, verdict("qa", 1, func(v *Verdict) { v.Gate.BrokenGlass = &Approval{User: "cto@dynors.com", Time: opened} }), digest)
	if !strings.Contains(glass, `"verificationResult":"FAILED"`) || !strings.Contains(glass, `"verifiedLevels":["FAILED"]`) || strings.Contains(glass, ResultPassed) {
		t.Errorf("an emergency is no pass: %s", glass)
	}
	if _, err := VerdictStatement(nil, verdict("qa", 1)); err == nil {
		t.Error("a statement about nothing")
	}
	huge := verdict("qa", 1, func(v *Verdict) { v.Gate.Version = strings.Repeat("x", MaxStatement) })
	if _, err := VerdictStatement(images(digest), huge); err == nil {
		t.Error("a statement larger than may be")
	}
}

// The hash of a gate is that of its spec, whatever else its object holds; that of a result leaves the report to its own hash.
func TestDescriptors(t *testing.T) {
	gate := v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "qa"}, Spec: v1alpha1.QualityGateSpec{Number: 1, Environment: "recette"}}
	one, err := Policy("u", gate)
	if err != nil {
		t.Fatal(err)
	}
	if one.Name != "qa" || one.URI != "https://sirrat.dynors.com/gate/u/qa" {
		t.Errorf("%+v", one)
	}
	gate.Status.Release = "a1b2c3d"
	same, err := Policy("u", gate)
	if err != nil || same.Digest["sha256"] != one.Digest["sha256"] {
		t.Errorf("%v: %v", same, err)
	}
	gate.Spec.Number = 2
	if changed, err := Policy("u", gate); err != nil || changed.Digest["sha256"] == one.Digest["sha256"] {
		t.Errorf("%v: %v", changed, err)
	}
	result := v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "x"}, Spec: v1alpha1.CIResultSpec{Type: "tests", ReportHash: "sha256:1"}}
	bare, err := Result(result)
	if err != nil || bare.Name != "r" || bare.URI != "https://sirrat.dynors.com/result/x" || len(bare.Digest["sha256"]) != 64 {
		t.Fatalf("%+v, %v", bare, err)
	}
	result.Spec.ReportHash = "sha256:2"
	if changed, err := Result(result); err != nil || changed.Digest["sha256"] == bare.Digest["sha256"] {
		t.Errorf("%v: %v", changed, err)
	}
	result.Spec.ReportHash = "sha256:1"
	if in := (PVReference{Name: "p", UID: "y", DocumentHash: "sha256:ab"}).Input(); in.Name != "p" || in.URI != "https://sirrat.dynors.com/pv/y" || in.Digest["sha256"] != "ab" {
		t.Errorf("%+v", in)
	}
	result.Spec.Report = []byte("x")
	if whole, err := Result(result); err != nil || whole.Digest["sha256"] != bare.Digest["sha256"] {
		t.Errorf("%v: %v", whole, err)
	}
}

// fixed is a key that is the same in each process of a fuzzer.
func fixed(t testing.TB, seed byte) pair {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	text, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, public}
}

// FuzzExamine: whatever is attached, nothing but the installation's own signature proves anything; and whatever the installation
// signed, nothing that does not name the image.
func FuzzExamine(f *testing.F) {
	ours, stranger := fixed(f, 1), fixed(f, 2)
	text, err := VerdictStatement(images(digest), verdict("qa", 1, func(v *Verdict) { v.Gate.PV = &PVReference{Name: "a1b2c3d"} }))
	if err != nil {
		f.Fatal(err)
	}
	document, hash, err := pv.Document{Release: "a1b2c3d", Images: []string{"backend: " + repository + "@" + digest}}.Canonical()
	if err != nil {
		f.Fatal(err)
	}
	decision, err := DecisionStatement(images(digest), Decision{PVReference: PVReference{Name: "a1b2c3d", DocumentHash: hash}, Decision: string(v1alpha1.PVAccepted)})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign(context.Background(), text, stranger.signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text), []byte(document))
	f.Add([]byte(decision), []byte(document))
	f.Add([]byte(signed), []byte(`{}`))
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"x","sig":"e30="}]}`), []byte(`[`))
	trust := Trust{Keys: []envelope.PublicKey{ours.public}, Client: []envelope.PublicKey{ours.public}}
	attached := func(one string, two []byte) []Artifact {
		return []Artifact{
			{Type: VerdictArtifact, Layers: []Layer{{VerdictLayer, []byte(one)}}},
			{Type: DecisionArtifact, Layers: []Layer{{DecisionLayer, []byte(one)}, {DocumentLayer, two}, {SignatureLayer, two}}},
		}
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if r := Examine(t.Context(), digest, attached(string(one), two), nil, trust); r.OK(nil) || len(r.Gates)+len(r.PVs) > 0 {
			t.Errorf("proven by %q: %+v", one, r)
		}
		by, err := Sign(t.Context(), string(one), ours.signer)
		if err != nil {
			t.Fatal(err)
		}
		r := Examine(t.Context(), digest, attached(by, two), []string{"qa"}, trust)
		named := bytes.Contains(one, []byte(digest[7:])) || bytes.Contains(one, []byte(`\u`))
		if len(r.Gates)+len(r.PVs) > 0 && !named || len(r.PVs) > 0 && !bytes.Contains(two, []byte(digest)) && !bytes.Contains(two, []byte(`\u`)) {
			t.Errorf("proven by %q and %q: %+v", one, two, r)
		}
	})
}
