// SPDX-License-Identifier: Apache-2.0

package sigstore_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/sigstore"
	"gitlab.com/dynors/sirrat/internal/sigstore/sigstoretest"
)

const (
	subject = "ci@dynors.com"
	issuer  = "https://gitlab.example"
)

var (
	manifest = []byte(`{"schemaVersion":2}`)
	digest   = envelope.Hash(manifest)
	other    = "sha256:" + strings.Repeat("b", 64)
)

func parse(t *testing.T, spec *v1alpha1.SignaturePolicy, root []byte) *sigstore.Policy {
	t.Helper()
	p, err := sigstore.Parse(*spec, root)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// keyless trusts identities.
func keyless(identities ...v1alpha1.SignatureIdentity) *v1alpha1.SignaturePolicy {
	return &v1alpha1.SignaturePolicy{Keyless: &v1alpha1.KeylessSignatures{
		TrustedRoot: v1alpha1.TrustedRootSource{ConfigMapKeyRef: &v1alpha1.TrustedRootRef{Name: "sigstore", Key: v1alpha1.TrustedRootKey}},
		Identities:  identities,
	}}
}

func exact() v1alpha1.SignatureIdentity {
	return v1alpha1.SignatureIdentity{Name: "pipeline", Issuer: issuer, Subject: subject}
}

// judged is what became of a signature: whose it is, or why it does not count.
func judged(t *testing.T, what string, by v1alpha1.ImageSigner, err, want error, name string) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
	if by.Name != name {
		t.Errorf("%s: signed by %q, want %q", what, by.Name, name)
	}
	if err != nil {
		t.Logf("%s: %v", what, err)
	}
}

func TestKeyKinds(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	for what, key := range map[string]sigstoretest.Key{
		"P-256":              sigstoretest.NewKey(t),
		"P-384 with SHA-256": sigstoretest.KeyOf(t, curve(elliptic.P384()), crypto.SHA256),
		"P-384 with SHA-384": sigstoretest.KeyOf(t, curve(elliptic.P384()), crypto.SHA384),
		"P-521 with SHA-512": sigstoretest.KeyOf(t, curve(elliptic.P521()), crypto.SHA512),
		"Ed25519":            sigstoretest.KeyOf(t, edwards, crypto.SHA512),
		"RSA with 2048 bits": sigstoretest.KeyOf(t, rsa2048, crypto.SHA256),
	} {
		p := parse(t, sigstoretest.Policy(key), nil)
		layer := key.Layer(digest)
		by, err := p.SimpleSigning(digest, layer.Content, layer.Annotations)
		judged(t, what+", simple signing", by, err, nil, "k0")
		by, err = p.BundleHeld(digest, key.Bundle(digest))
		judged(t, what+", bundle", by, err, nil, "k0")
		if !strings.HasPrefix(by.KeyID, "sha256:") || by.Subject != "" {
			t.Errorf("%s: %+v", what, by)
		}
	}
}

// cosign hashes by the kind of the key, and signs the hash with Ed25519: what it wrote with each kind counts.
func TestKeyKindsOfCosign(t *testing.T) {
	rec := sigstoretest.Record(t)
	for kind, text := range rec.Kinds {
		p := parse(t, &v1alpha1.SignaturePolicy{Keys: []v1alpha1.SignatureKey{{Name: kind, PublicKey: text}}}, nil)
		by, err := p.BundleHeld(rec.Index, rec.Layers(t, "v3/"+kind, sigstoretest.BundleType)[0].Content)
		judged(t, kind+", cosign 3", by, err, nil, kind)
		layer := rec.Layers(t, "v2/"+kind, sigstore.SimpleSigningLayer)[0]
		by, err = p.SimpleSigning(rec.Index, layer.Content, layer.Annotations)
		judged(t, kind+", cosign 2", by, err, nil, kind)
		by, err = p.SimpleSigning(rec.Other, layer.Content, layer.Annotations)
		judged(t, kind+", of another image", by, err, sigstore.ErrOther, "")
	}
	if len(rec.Kinds) != 4 {
		t.Errorf("%d kinds were recorded", len(rec.Kinds))
	}
}

func TestSimpleSigning(t *testing.T) {
	ours, second, stranger := sigstoretest.NewKey(t), sigstoretest.NewKey(t), sigstoretest.NewKey(t)
	p := parse(t, sigstoretest.Policy(ours, second), nil)
	altered := ours.Layer(digest)
	altered.Content = bytes.Replace(altered.Content, []byte(`"optional":null`), []byte(`"optional":{}`), 1)
	moved := ours.Layer(other)
	moved.Content = sigstoretest.Payload(digest)
	for what, c := range map[string]struct {
		layer sigstoretest.Layer
		want  error
		name  string
	}{
		"first key":         {ours.Layer(digest), nil, "k0"},
		"second key":        {second.Layer(digest), nil, "k1"},
		"another key":       {stranger.Layer(digest), sigstore.ErrUnknownSigner, ""},
		"another digest":    {ours.Layer(other), sigstore.ErrOther, ""},
		"payload altered":   {altered, sigstore.ErrUnknownSigner, ""},
		"payload exchanged": {moved, sigstore.ErrUnknownSigner, ""},
		"no signature":      {sigstoretest.Layer{Content: sigstoretest.Payload(digest)}, sigstore.ErrMalformed, ""},
		"something after the signature": {sigstoretest.Layer{Content: ours.Layer(digest).Content, Annotations: map[string]string{
			"dev.cosignproject.cosign/signature": ours.Layer(digest).Annotations["dev.cosignproject.cosign/signature"] + "!"}}, sigstore.ErrMalformed, ""},
		"signature not base64": {sigstoretest.Layer{Content: sigstoretest.Payload(digest), Annotations: map[string]string{"dev.cosignproject.cosign/signature": "%"}},
			sigstore.ErrMalformed, ""},
		"signed garbage":           {ours.LayerOf([]byte(`{"critical":`)), sigstore.ErrOther, ""},
		"signed nothing":           {ours.LayerOf(nil), sigstore.ErrOther, ""},
		"signed text of that name": {ours.LayerOf(bytes.Replace(sigstoretest.Payload(digest), []byte("cosign container image signature"), []byte("a letter"), 1)), sigstore.ErrOther, ""},
	} {
		by, err := p.SimpleSigning(digest, c.layer.Content, c.layer.Annotations)
		judged(t, what, by, err, c.want, c.name)
		if err == nil && !strings.HasPrefix(by.KeyID, "sha256:") {
			t.Errorf("%s: %+v", what, by)
		}
	}
}

// What somebody else wrote is repeated in part, and moves no cursor.
func TestMessagesAreInert(t *testing.T) {
	key := sigstoretest.NewKey(t)
	p := parse(t, sigstoretest.Policy(key), nil)
	hostile := "\x1b[2J\u202e\n" + strings.Repeat("x", 5000)
	payload, err := json.Marshal(map[string]any{"critical": map[string]any{"image": map[string]any{"docker-manifest-digest": hostile}, "type": "cosign container image signature"}})
	if err != nil {
		t.Fatal(err)
	}
	predicate, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	statement := bytes.Replace(sigstoretest.Statement(digest, "TYPE", "{}"), []byte(`"TYPE"`), predicate, 1)
	layer := key.LayerOf(payload)
	_, one := p.SimpleSigning(digest, layer.Content, layer.Annotations)
	_, two := p.BundleHeld(digest, key.BundleOf(statement))
	for err, want := range map[error]error{one: sigstore.ErrOther, two: sigstore.ErrNotASignature} {
		if !errors.Is(err, want) || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x1b\u202e\n") {
			t.Errorf("%q, want %v", err, want)
		}
	}
}

// Of what is attached to an image, that is read which tools sign images with.
func TestWanted(t *testing.T) {
	for typ, want := range map[string]bool{
		"application/vnd.dev.sigstore.bundle.v0.3+json": true, "application/vnd.dev.sigstore.bundle+json;version=0.2": true,
		"application/vnd.dev.cosign.artifact.sig.v1+json": true, "application/vnd.dev.cosign.artifact.sbom.v1+json": false,
		"application/vnd.sirrat.verdict.v1": false, "": false,
	} {
		if sigstore.Wanted(typ) != want {
			t.Errorf("%s: %v", typ, !want)
		}
	}
}

func TestBundle(t *testing.T) {
	ours, stranger := sigstoretest.NewKey(t), sigstoretest.NewKey(t)
	p := parse(t, sigstoretest.Policy(ours), nil)
	altered := func(from, to string) []byte {
		b := bytes.Replace(ours.Bundle(digest), []byte(from), []byte(to), 1)
		if bytes.Equal(b, ours.Bundle(digest)) {
			t.Fatal("nothing was altered")
		}
		return b
	}
	var exchanged, from map[string]any
	if err := errors.Join(json.Unmarshal(ours.Bundle(other), &exchanged), json.Unmarshal(ours.Bundle(digest), &from)); err != nil {
		t.Fatal(err)
	}
	exchanged["dsseEnvelope"].(map[string]any)["payload"] = from["dsseEnvelope"].(map[string]any)["payload"]
	mixed, err := json.Marshal(exchanged)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		text []byte
		want error
		name string
	}{
		"signed":               {ours.Bundle(digest), nil, "k0"},
		"the manifest's bytes": {ours.MessageBundle(manifest, digest), nil, "k0"},
		"other bytes":          {ours.MessageBundle([]byte("x"), envelope.Hash([]byte("x"))), sigstore.ErrUnknownSigner, ""},
		"another key":          {stranger.Bundle(digest), sigstore.ErrUnknownSigner, ""},
		"another image":        {ours.Bundle(other), sigstore.ErrOther, ""},
		"payload exchanged":    {mixed, sigstore.ErrUnknownSigner, ""},
		"a list of its faults": {ours.BundleOf(sigstoretest.Statement(digest, "https://cosign.sigstore.dev/attestation/vuln/v1", `{}`)), sigstore.ErrNotASignature, ""},
		"its SBOM":             {ours.BundleOf(sigstoretest.Statement(digest, "https://cyclonedx.org/bom", `{}`)), sigstore.ErrNotASignature, ""},
		"no statement":         {ours.BundleOf([]byte("hello")), sigstore.ErrUnknownSigner, ""},
		"of a later version":   {altered("bundle.v0.3+json", "bundle.v9.9+json"), sigstore.ErrMalformed, ""},
		"an unknown member":    {altered(`"mediaType"`, `"x":1,"mediaType"`), sigstore.ErrMalformed, ""},
		"empty":                {nil, sigstore.ErrMalformed, ""},
		"garbage":              {[]byte("\x00\xff{"), sigstore.ErrMalformed, ""},
		"another thing":        {[]byte(`{"mediaType":"` + sigstoretest.BundleType + `"}`), sigstore.ErrMalformed, ""},
		"deep":                 {[]byte(strings.Repeat(`{"dsseEnvelope":`, 100_000)), sigstore.ErrMalformed, ""},
	} {
		by, err := p.BundleHeld(digest, c.text)
		judged(t, what, by, err, c.want, c.name)
	}
	for _, about := range []string{"", "sha256:", "sha256:" + digest[7:] + "zz", digest[:20], "sha512:" + digest[7:]} {
		if by, err := p.BundleHeld(about, ours.Bundle(digest)); err == nil || by.Name != "" {
			t.Errorf("about %q: %+v, %v", about, by, err)
		}
	}
}

func TestKeyless(t *testing.T) {
	a, stranger, key := sigstoretest.NewAuthority(t), sigstoretest.NewAuthority(t), sigstoretest.NewKey(t)
	soon := time.Now().Add(5 * time.Minute)
	p := parse(t, keyless(exact()), a.Root(false))
	signed := a.Bundle(subject, issuer, digest, soon)
	layer := a.Layer(subject, issuer, digest, soon)
	moved := sigstoretest.Layer{Content: layer.Content, Annotations: maps.Clone(layer.Annotations)}
	moved.Annotations["dev.sigstore.cosign/bundle"] = a.Layer(subject, issuer, other, soon).Annotations["dev.sigstore.cosign/bundle"]
	unlogged := sigstoretest.Layer{Content: layer.Content, Annotations: maps.Clone(layer.Annotations)}
	delete(unlogged.Annotations, "dev.sigstore.cosign/bundle")
	uncertified := sigstoretest.Layer{Content: layer.Content, Annotations: maps.Clone(layer.Annotations)}
	delete(uncertified.Annotations, "dev.sigstore.cosign/certificate")
	with := func(annotation, value string) sigstoretest.Layer {
		l := sigstoretest.Layer{Content: layer.Content, Annotations: maps.Clone(layer.Annotations)}
		l.Annotations[annotation] = value
		return l
	}
	edited := func(from, to string) sigstoretest.Layer {
		entry := layer.Annotations["dev.sigstore.cosign/bundle"]
		if !strings.Contains(entry, from) {
			t.Fatal(entry)
		}
		return with("dev.sigstore.cosign/bundle", strings.Replace(entry, from, to, 1))
	}

	for what, c := range map[string]struct {
		policy *sigstore.Policy
		text   []byte
		want   error
		name   string
	}{
		"signed":                         {p, signed, nil, "pipeline"},
		"another identity":               {p, a.Bundle("eve@dynors.com", issuer, digest, soon), sigstore.ErrUnknownSigner, ""},
		"another issuer":                 {p, a.Bundle(subject, "https://gitlab.evil", digest, soon), sigstore.ErrUnknownSigner, ""},
		"another image":                  {p, a.Bundle(subject, issuer, other, soon), sigstore.ErrOther, ""},
		"after the certificate expired":  {p, a.Bundle(subject, issuer, digest, time.Now().Add(30*time.Minute)), sigstore.ErrUntrusted, ""},
		"before it was valid":            {p, a.Bundle(subject, issuer, digest, time.Now().Add(-30*time.Minute)), sigstore.ErrUntrusted, ""},
		"another authority":              {p, stranger.Bundle(subject, issuer, digest, soon), sigstore.ErrUntrusted, ""},
		"not in the log of certificates": {parse(t, keyless(exact()), a.Root(true)), signed, sigstore.ErrUntrusted, ""},
		"only keys are trusted":          {parse(t, sigstoretest.Policy(key), nil), signed, sigstore.ErrUnknownSigner, ""},
		"only certificates are trusted":  {p, key.Bundle(digest), sigstore.ErrUnknownSigner, ""},
		"an expression": {parse(t, keyless(v1alpha1.SignatureIdentity{Name: "any", Issuer: issuer, SubjectRegExp: `.+@dynors\.com`}), a.Root(false)),
			signed, nil, "any"},
		"an expression for a part": {parse(t, keyless(v1alpha1.SignatureIdentity{Name: "any", Issuer: issuer, SubjectRegExp: `@dynors\.co`}), a.Root(false)),
			signed, sigstore.ErrUnknownSigner, ""},
		"an alternative for a part": {parse(t, keyless(v1alpha1.SignatureIdentity{Name: "any", IssuerRegExp: `x|https`, Subject: subject}), a.Root(false)),
			signed, sigstore.ErrUnknownSigner, ""},
	} {
		by, err := c.policy.BundleHeld(digest, c.text)
		judged(t, what, by, err, c.want, c.name)
		if err == nil && (by.Subject != subject || by.Issuer != issuer || by.KeyID != "") {
			t.Errorf("%s: %+v", what, by)
		}
	}
	for what, c := range map[string]struct {
		layer sigstoretest.Layer
		want  error
		name  string
	}{
		"signed":                        {layer, nil, "pipeline"},
		"another identity":              {a.Layer("eve@dynors.com", issuer, digest, soon), sigstore.ErrUnknownSigner, ""},
		"another image":                 {a.Layer(subject, issuer, other, soon), sigstore.ErrOther, ""},
		"after the certificate expired": {a.Layer(subject, issuer, digest, time.Now().Add(30*time.Minute)), sigstore.ErrUntrusted, ""},
		"another authority":             {stranger.Layer(subject, issuer, digest, soon), sigstore.ErrUntrusted, ""},
		"the log entry of another":      {moved, sigstore.ErrUntrusted, ""},
		"not logged":                    {unlogged, sigstore.ErrUntrusted, ""},
		"without its certificate":       {uncertified, sigstore.ErrUnknownSigner, ""},
		"a certificate that is none":    {with("dev.sigstore.cosign/certificate", "x"), sigstore.ErrMalformed, ""},
		"another's certificate": {with("dev.sigstore.cosign/certificate", a.Layer("eve@dynors.com", issuer, digest, soon).Annotations["dev.sigstore.cosign/certificate"]),
			sigstore.ErrUntrusted, ""},
		"an entry that is none":     {with("dev.sigstore.cosign/bundle", "x"), sigstore.ErrUntrusted, ""},
		"an entry of no log":        {edited(`"logID":"`, `"logID":"x`), sigstore.ErrMalformed, ""},
		"an entry of another log":   {edited(`"logID":"`, `"logID":"00`), sigstore.ErrUntrusted, ""},
		"an entry about nothing":    {edited(`"body":"`, `"body":"","x":"`), sigstore.ErrMalformed, ""},
		"an entry of another place": {edited(`"logIndex":`, `"logIndex":1`), sigstore.ErrUntrusted, ""},
		"an entry of another time":  {edited(`"integratedTime":`, `"integratedTime":1`), sigstore.ErrUntrusted, ""},
		"an entry not promised":     {edited(`"SignedEntryTimestamp":"`, `"x":"`), sigstore.ErrMalformed, ""},
	} {
		by, err := p.SimpleSigning(digest, c.layer.Content, c.layer.Annotations)
		judged(t, "tag: "+what, by, err, c.want, c.name)
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	a, key := sigstoretest.NewAuthority(t), sigstoretest.NewKey(t)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	one := func(text string) *v1alpha1.SignaturePolicy {
		return &v1alpha1.SignaturePolicy{Keys: []v1alpha1.SignatureKey{{Name: "ci", PublicKey: text}}}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// rootWithout is a trusted root without one of its parts.
	rootWithout := func(part string) []byte {
		members := map[string]json.RawMessage{}
		if err := json.Unmarshal(a.Root(false), &members); err != nil || members[part] == nil {
			t.Fatal(err, members)
		}
		delete(members, part)
		text, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	twice := sigstoretest.Policy(key, key)
	same := sigstoretest.Policy(key, sigstoretest.NewKey(t))
	same.Keys[1].Name = same.Keys[0].Name
	clash := keyless(exact())
	clash.Keys = []v1alpha1.SignatureKey{{Name: "pipeline", PublicKey: key.PEM()}}
	for what, c := range map[string]struct {
		spec *v1alpha1.SignaturePolicy
		root []byte
		says string
	}{
		"nobody":                          {&v1alpha1.SignaturePolicy{}, nil, "trusts nobody"},
		"no key":                          {one("hello"), nil, "not a public key"},
		"half a key":                      {one("-----BEGIN PUBLIC KEY-----\naGVsbG8=\n-----END PUBLIC KEY-----\n"), nil, "not a public key"},
		"a key of another name":           {one(strings.ReplaceAll(key.PEM(), "PUBLIC KEY", "PRIVATE KEY")), nil, "not a public key"},
		"a curve that is not known":       {sigstoretest.Policy(sigstoretest.KeyOf(t, p224, crypto.SHA256)), nil, "curve of 224 bits"},
		"two keys in one":                 {one(key.PEM() + key.PEM()), nil, "something follows"},
		"a short key":                     {sigstoretest.Policy(sigstoretest.KeyOf(t, short, crypto.SHA256)), nil, "too short"},
		"one key under two names":         {twice, nil, "the same key as k0"},
		"one name for two keys":           {same, nil, "given twice"},
		"one name for two kinds":          {clash, a.Root(false), "given twice"},
		"no root":                         {keyless(exact()), nil, "trusted root cannot be read"},
		"garbage":                         {keyless(exact()), []byte(`{"mediaType":1}`), "trusted root cannot be read"},
		"a root without logs":             {keyless(exact()), []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), "no certificate authority"},
		"a root without authorities":      {keyless(exact()), rootWithout("certificateAuthorities"), "no certificate authority"},
		"a root without a log":            {keyless(exact()), rootWithout("tlogs"), "no certificate authority or no transparency log"},
		"a huge root":                     {keyless(exact()), make([]byte, sigstore.MaxTrustedRoot+1), "larger than"},
		"a bad expression":                {keyless(v1alpha1.SignatureIdentity{Name: "x", Issuer: issuer, SubjectRegExp: "("}), a.Root(false), "identity x"},
		"an expression that ends whole's": {keyless(v1alpha1.SignatureIdentity{Name: "x", Issuer: issuer, SubjectRegExp: `ci@dynors\.com)|(?:.*`}), a.Root(false), "identity x"},
		"an issuer that ends whole's":     {keyless(v1alpha1.SignatureIdentity{Name: "x", IssuerRegExp: `https://gitlab)|(?:.*`, Subject: subject}), a.Root(false), "identity x"},
		"an issuer of anybody":            {keyless(v1alpha1.SignatureIdentity{Name: "x", Subject: subject}), a.Root(false), "identity x"},
		"an identity of anybody":          {keyless(v1alpha1.SignatureIdentity{Name: "x", Issuer: issuer}), a.Root(false), "identity x"},
		"no identity":                     {keyless(), a.Root(false), "identities are needed"},
	} {
		p, err := sigstore.Parse(*c.spec, c.root)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %q", what, p, err, c.says)
		}
	}
}

// The hash is of what is trusted, and of nothing else.
func TestHash(t *testing.T) {
	a, key, second := sigstoretest.NewAuthority(t), sigstoretest.NewKey(t), sigstoretest.NewKey(t)
	base := sigstoretest.Policy(key)
	counted := sigstoretest.Policy(key)
	counted.Minimum, counted.Images = 1, []string{"backend"}
	if parse(t, base, nil).Hash() != parse(t, counted, nil).Hash() {
		t.Error("it depends on what gates judge")
	}
	eve := exact()
	eve.Subject = "eve@dynors.com"
	text := a.Root(false)
	hashes := []string{parse(t, keyless(exact()), text).Hash(), parse(t, keyless(eve), text).Hash()}
	if hashes[0] == hashes[1] {
		t.Error("it does not depend on whom is trusted")
	}
	hashes = []string{
		parse(t, base, nil).Hash(), parse(t, sigstoretest.Policy(second), nil).Hash(), parse(t, sigstoretest.Policy(key, second), nil).Hash(),
		parse(t, keyless(exact()), a.Root(false)).Hash(), parse(t, keyless(exact()), a.Root(true)).Hash(),
	}
	slices.Sort(hashes)
	if len(slices.Compact(hashes)) != 5 {
		t.Errorf("%q", hashes)
	}
}

// public trusts who signed the provenance that is recorded.
func public(subject string) *v1alpha1.SignaturePolicy {
	return keyless(v1alpha1.SignatureIdentity{Name: "actions", Issuer: "https://token.actions.githubusercontent.com", SubjectRegExp: subject})
}

// A bundle of the public instance is proven by its trusted root alone: the certificate, the log's proof of inclusion and the log of
// certificates. It is about a package, which is only said of what is proven.
func TestBundleOfThePublicInstance(t *testing.T) {
	parse(t, keyless(exact()), sigstoretest.OwnRoot) // one that cosign made is taken too
	later := bytes.Replace(sigstoretest.Provenance, []byte(`"integratedTime": "1`), []byte(`"integratedTime": "2`), 1)
	if bytes.Equal(later, sigstoretest.Provenance) {
		t.Fatal("nothing was altered")
	}
	for what, c := range map[string]struct {
		root, text []byte
		want       error
	}{
		"as it is":                {sigstoretest.TrustedRoot, sigstoretest.Provenance, sigstore.ErrOther},
		"logged at another time":  {sigstoretest.TrustedRoot, later, sigstore.ErrUntrusted},
		"of another trusted root": {sigstoretest.NewAuthority(t).Root(true), sigstoretest.Provenance, sigstore.ErrUntrusted},
	} {
		by, err := parse(t, public(`.*`), c.root).BundleHeld(digest, c.text)
		judged(t, what, by, err, c.want, "")
	}
}

// recorded is a policy on the keys of the recording and on the public instance, and what they signed: all that may ever count.
// Nobody can make more of it, since the private keys are gone; and it is the same in each process of a fuzzer.
func recorded(t testing.TB) (p *sigstore.Policy, rec sigstoretest.Recorded, genuine map[string]bool) {
	t.Helper()
	rec = sigstoretest.Record(t)
	spec := rec.Policy(v1alpha1.SignatureKey{Name: "stranger", PublicKey: rec.Stranger})
	spec.Keyless = public(`.*`).Keyless
	p, err := sigstore.Parse(spec, sigstoretest.TrustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	genuine = map[string]bool{}
	for _, l := range rec.Layers(t, "v2/both", sigstore.SimpleSigningLayer) {
		genuine[string(l.Content)] = true
	}
	for _, from := range bundled {
		for _, l := range rec.Layers(t, from, sigstoretest.BundleType) {
			payload, _ := opened(t, l.Content)
			genuine[string(payload)] = true
		}
	}
	return p, rec, genuine
}

// bundled are recorded repositories with bundles.
var bundled = []string{"v3/signed", "v3/stranger", "v3/annotated", "v3/recursive", "v2/bundle", "v3/vuln", "v3/other"}

// opened is the payload of a bundle's envelope, and its signature.
func opened(t testing.TB, text []byte) (payload, signature []byte) {
	t.Helper()
	var b bundle.Bundle
	if err := b.UnmarshalJSON(text); err != nil || len(b.GetDsseEnvelope().GetSignatures()) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return b.GetDsseEnvelope().GetPayload(), b.GetDsseEnvelope().GetSignatures()[0].GetSig()
}

// FuzzBundle: whatever the text of a bundle, only what the keys signed of the image counts.
func FuzzBundle(f *testing.F) {
	p, rec, genuine := recorded(f)
	for _, from := range bundled {
		for _, l := range rec.Layers(f, from, sigstoretest.BundleType) {
			f.Add(l.Content)
		}
	}
	f.Add(sigstoretest.Provenance)
	f.Fuzz(func(t *testing.T, text []byte) {
		by, err := p.BundleHeld(rec.Index, text)
		if err != nil {
			if by.Name != "" {
				t.Errorf("%v, and signed by %+v", err, by)
			}
			return
		}
		if payload, _ := opened(t, text); !genuine[string(payload)] || !bytes.Contains(payload, []byte(rec.Index[7:])) {
			t.Errorf("signed by %+v: %s", by, payload)
		}
	})
}

// FuzzSigned puts what a key may have signed, and the signature, into each of the frames in which tools store them.
func FuzzSigned(f *testing.F) {
	p, rec, genuine := recorded(f)
	for _, from := range bundled {
		payload, signature := opened(f, rec.Layers(f, from, sigstoretest.BundleType)[0].Content)
		f.Add(payload, signature, "", "")
	}
	for _, l := range rec.Layers(f, "v2/both", sigstore.SimpleSigningLayer) {
		raw, err := base64.StdEncoding.DecodeString(l.Annotations["dev.cosignproject.cosign/signature"])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(l.Content, raw, "", "")
	}
	var public struct {
		VerificationMaterial struct {
			X509CertificateChain struct{ Certificates []struct{ RawBytes []byte } }
			TlogEntries          []struct {
				CanonicalizedBody []byte
				LogID             struct{ KeyID []byte }
				IntegratedTime    int64 `json:",string"`
				LogIndex          int64 `json:",string"`
				InclusionPromise  struct{ SignedEntryTimestamp []byte }
			}
		}
	}
	if err := json.Unmarshal(sigstoretest.Provenance, &public); err != nil {
		f.Fatal(err)
	}
	payload, signature := opened(f, sigstoretest.Provenance)
	material := public.VerificationMaterial
	entry := material.TlogEntries[0]
	log := fmt.Sprintf(`{"SignedEntryTimestamp":%q,"Payload":{"body":%q,"integratedTime":%d,"logIndex":%d,"logID":%q}}`,
		base64.StdEncoding.EncodeToString(entry.InclusionPromise.SignedEntryTimestamp), base64.StdEncoding.EncodeToString(entry.CanonicalizedBody),
		entry.IntegratedTime, entry.LogIndex, hex.EncodeToString(entry.LogID.KeyID))
	f.Add(payload, signature, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: material.X509CertificateChain.Certificates[0].RawBytes})), log)
	f.Fuzz(func(t *testing.T, payload, signature []byte, certificate, log string) {
		text := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":%q,"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":%q}]}}`,
			sigstoretest.BundleType, base64.StdEncoding.EncodeToString(payload), base64.StdEncoding.EncodeToString(signature))
		annotations := map[string]string{
			"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature), "dev.sigstore.cosign/certificate": certificate, "dev.sigstore.cosign/bundle": log,
		}
		by, err := p.BundleHeld(rec.Index, text)
		if err == nil && (!genuine[string(payload)] || !bytes.Contains(payload, []byte(rec.Index[7:]))) {
			t.Errorf("the bundle is signed by %+v: %s", by, payload)
		}
		by, err = p.SimpleSigning(rec.Index, payload, annotations)
		if err == nil && (!genuine[string(payload)] || !bytes.Contains(payload, []byte(rec.Index))) {
			t.Errorf("the layer is signed by %+v: %s", by, payload)
		}
	})
}

// No bit of what is signed, or of the signature, may be another one.
func TestEveryBitCounts(t *testing.T) {
	key := sigstoretest.NewKey(t)
	p := parse(t, sigstoretest.Policy(key), nil)
	layer := key.Layer(digest)
	raw, err := base64.StdEncoding.DecodeString(layer.Annotations["dev.cosignproject.cosign/signature"])
	if err != nil {
		t.Fatal(err)
	}
	var bundle map[string]any
	if err := json.Unmarshal(key.Bundle(digest), &bundle); err != nil {
		t.Fatal(err)
	}
	envelope := bundle["dsseEnvelope"].(map[string]any)
	payload, err := base64.StdEncoding.DecodeString(envelope["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		flip := func(text []byte) []byte {
			out := bytes.Clone(text)
			bit := rapid.IntRange(0, 8*len(out)-1).Draw(t, "bit")
			out[bit/8] ^= 1 << (bit % 8)
			return out
		}
		if by, err := p.SimpleSigning(digest, flip(layer.Content), layer.Annotations); err == nil {
			t.Fatalf("another payload is signed by %+v", by)
		}
		other := map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(flip(raw))}
		if by, err := p.SimpleSigning(digest, layer.Content, other); err == nil {
			t.Fatalf("another signature is by %+v", by)
		}
		envelope["payload"] = base64.StdEncoding.EncodeToString(flip(payload))
		text, err := json.Marshal(bundle)
		if err != nil {
			t.Fatal(err)
		}
		if by, err := p.BundleHeld(digest, text); err == nil {
			t.Fatalf("another statement is signed by %+v", by)
		}
	})
}
