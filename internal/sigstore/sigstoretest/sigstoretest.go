// SPDX-License-Identifier: Apache-2.0

// Package sigstoretest signs images in tests as cosign does: with keys and with certificates of an authority of its own,
// under the tag sha256-<digest>.sig and as bundles attached to the image. Only tests import it.
package sigstoretest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// What the formats call themselves.
const (
	// SignPredicate is that of a statement that signs an image (cosign 3).
	SignPredicate = "https://sigstore.dev/cosign/sign/v1"
	// BundleType is the type of a bundle, 0.3.
	BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

	simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	inToto        = "application/vnd.in-toto+json"
)

// Layer is a signature under the tag sha256-<digest>.sig.
type Layer struct {
	Content     []byte
	Annotations map[string]string
}

// Key signs.
type Key struct {
	testing.TB
	private crypto.Signer
	signer  signature.Signer
}

// NewKey is one as `cosign generate-key-pair` makes it: ECDSA on P-256.
func NewKey(t testing.TB) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return KeyOf(t, private, crypto.SHA256)
}

// KeyOf signs with a key of any kind and a hash.
func KeyOf(t testing.TB, private crypto.Signer, hash crypto.Hash) Key {
	t.Helper()
	signer, err := signature.LoadSigner(private, hash)
	if err != nil {
		t.Fatal(err)
	}
	return Key{t, private, signer}
}

// PEM is the public half, as in cosign.pub.
func (k Key) PEM() string {
	k.Helper()
	text, err := cryptoutils.MarshalPublicKeyToPEM(k.private.Public())
	if err != nil {
		k.Fatal(err)
	}
	return string(text)
}

// Policy trusts keys, which it calls k0, k1 and so on.
func Policy(keys ...Key) *v1alpha1.SignaturePolicy {
	p := &v1alpha1.SignaturePolicy{}
	for i, k := range keys {
		p.Keys = append(p.Keys, v1alpha1.SignatureKey{Name: fmt.Sprintf("k%d", i), PublicKey: k.PEM()})
	}
	return p
}

// Payload says of an image that it is signed (simple signing).
func Payload(digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, digest)
}

// Layer is the signature of an image with the key.
func (k Key) Layer(digest string) Layer { return k.LayerOf(Payload(digest)) }

// LayerOf signs any payload.
func (k Key) LayerOf(payload []byte) Layer {
	k.Helper()
	return Layer{payload, map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(k.sign(payload))}}
}

func (k Key) sign(text []byte) []byte {
	k.Helper()
	raw, err := k.signer.SignMessage(bytes.NewReader(text))
	if err != nil {
		k.Fatal(err)
	}
	return raw
}

// Statement is an in-toto statement of an image.
func Statement(digest, predicateType, predicate string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":%s}`,
		strings.TrimPrefix(digest, "sha256:"), predicateType, predicate)
}

// Bundle is the signature of an image with the key.
func (k Key) Bundle(digest string) []byte { return k.BundleOf(Statement(digest, SignPredicate, "{}")) }

// BundleOf signs any statement.
func (k Key) BundleOf(statement []byte) []byte {
	k.Helper()
	raw := k.sign(dsse.PAE(inToto, statement))
	return encode(k, &protobundle.Bundle{
		MediaType: BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "any"}},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: inToto, Signatures: []*protodsse.Signature{{Sig: raw}},
		}},
	})
}

// Attestation is a statement as cosign 2 signs it.
func (k Key) Attestation(statement []byte) []byte {
	k.Helper()
	text, err := json.Marshal(dsse.Envelope{
		PayloadType: inToto, Payload: base64.StdEncoding.EncodeToString(statement),
		Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(k.sign(dsse.PAE(inToto, statement)))}},
	})
	if err != nil {
		k.Fatal(err)
	}
	return text
}

// MessageBundle signs the bytes of a manifest.
func (k Key) MessageBundle(manifest []byte, digest string) []byte {
	k.Helper()
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		k.Fatal(err)
	}
	return encode(k, &protobundle.Bundle{
		MediaType: BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "any"}},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum}, Signature: k.sign(manifest),
		}},
	})
}

func encode(t testing.TB, b *protobundle.Bundle) []byte {
	t.Helper()
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Authority is a certificate authority with its logs.
type Authority struct {
	testing.TB
	virtual *ca.VirtualSigstore
}

// NewAuthority makes one of which nobody has heard.
func NewAuthority(t testing.TB) Authority {
	t.Helper()
	virtual, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return Authority{t, virtual}
}

// Root is its trusted_root.json. transparent names its log of certificates too, in which its certificates are not.
func (a Authority) Root(transparent bool) []byte {
	a.Helper()
	ct := map[string]*root.TransparencyLog{}
	if transparent {
		ct = a.logs(a.virtual.CTLogs())
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, a.virtual.FulcioCertificateAuthorities(), ct,
		a.virtual.TimestampingAuthorities(), a.logs(a.virtual.RekorLogs()))
	if err != nil {
		a.Fatal(err)
	}
	text, err := trusted.MarshalJSON()
	if err != nil {
		a.Fatal(err)
	}
	return text
}

// logs are known by their raw id.
func (a Authority) logs(from map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
	a.Helper()
	out := map[string]*root.TransparencyLog{}
	for id, l := range from {
		raw, err := hex.DecodeString(id)
		if err != nil {
			a.Fatal(err)
		}
		l.ID, l.SignatureHashFunc = raw, crypto.SHA256
		out[id] = l
	}
	return out
}

// Bundle is the signature of an image by who has an identity, logged at a time; its certificate is valid for ten minutes from
// now on.
func (a Authority) Bundle(subject, issuer, digest string, logged time.Time) []byte {
	a.Helper()
	entity, err := a.virtual.AttestAtTime(subject, issuer, Statement(digest, SignPredicate, "{}"), logged, true)
	if err != nil {
		a.Fatal(err)
	}
	content, err := entity.SignatureContent()
	if err != nil {
		a.Fatal(err)
	}
	envelope := content.EnvelopeContent().RawEnvelope()
	payload, err := envelope.DecodeB64Payload()
	if err != nil {
		a.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	if err != nil {
		a.Fatal(err)
	}
	material := a.material(entity)
	material.TimestampVerificationData = nil // the log tells the time
	return encode(a, &protobundle.Bundle{
		MediaType: BundleType, VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: envelope.PayloadType, Signatures: []*protodsse.Signature{{Sig: raw}},
		}},
	})
}

func (a Authority) material(entity *ca.TestEntity) *protobundle.VerificationMaterial {
	a.Helper()
	content, err := entity.VerificationContent()
	if err != nil {
		a.Fatal(err)
	}
	entries, err := entity.TlogEntries()
	if err != nil {
		a.Fatal(err)
	}
	m := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}},
	}
	for _, e := range entries {
		m.TlogEntries = append(m.TlogEntries, a.promised(e.TransparencyLogEntry()))
	}
	return m
}

// promised adds what the log says of an entry beside its place: of which kind it is, and its promise to include it.
func (a Authority) promised(e *protorekor.TransparencyLogEntry) *protorekor.TransparencyLogEntry {
	a.Helper()
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal(e.CanonicalizedBody, &kind); err != nil {
		a.Fatal(err)
	}
	promise, err := a.virtual.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(e.CanonicalizedBody), IntegratedTime: e.IntegratedTime, LogIndex: e.LogIndex,
		LogID: hex.EncodeToString(e.GetLogId().GetKeyId()),
	})
	if err != nil {
		a.Fatal(err)
	}
	e.KindVersion = &protorekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion}
	e.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: promise}
	return e
}

// Layer is the signature of an image by who has an identity, as cosign 2 stores it.
func (a Authority) Layer(subject, issuer, digest string, logged time.Time) Layer {
	a.Helper()
	payload := Payload(digest)
	entity, err := a.virtual.SignAtTime(subject, issuer, payload, logged)
	if err != nil {
		a.Fatal(err)
	}
	content, err := entity.SignatureContent()
	if err != nil {
		a.Fatal(err)
	}
	m := a.material(entity)
	return Layer{payload, map[string]string{
		"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(content.Signature()),
		"dev.sigstore.cosign/certificate":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.GetCertificate().RawBytes})),
		"dev.sigstore.cosign/bundle":         a.rekorBundle(m.TlogEntries[0]),
	}}
}

// rekorBundle is the entry of a log as cosign 2 annotates it.
func (a Authority) rekorBundle(e *protorekor.TransparencyLogEntry) string {
	a.Helper()
	text, err := json.Marshal(map[string]any{
		"SignedEntryTimestamp": e.GetInclusionPromise().GetSignedEntryTimestamp(),
		"Payload": map[string]any{
			"body": e.CanonicalizedBody, "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": hex.EncodeToString(e.GetLogId().GetKeyId()),
		},
	})
	if err != nil {
		a.Fatal(err)
	}
	return string(text)
}

// PushLayers puts signatures under the tag sha256-<digest>.sig of a repository, in place of what was there, as cosign does.
func PushLayers(t testing.TB, repository, digest string, layers ...Layer) {
	t.Helper()
	pushTag(t, repository, registry.CosignTag(digest, registry.SignatureTag), simpleSigning, layers...)
}

// PushAttestations puts attestations under the tag sha256-<digest>.att of a repository, in place of what was there, as cosign 2 does.
func PushAttestations(t testing.TB, repository, digest string, layers ...Layer) {
	t.Helper()
	pushTag(t, repository, registry.CosignTag(digest, registry.AttestationTag), "application/vnd.dsse.envelope.v1+json", layers...)
}

// PushSBOM puts a document under the tag sha256-<digest>.sbom, as `cosign attach sbom` does.
func PushSBOM(t testing.TB, repository, digest, mediaType string, content []byte) {
	t.Helper()
	pushTag(t, repository, registry.CosignTag(digest, registry.SBOMTag), mediaType, Layer{Content: content})
}

func pushTag(t testing.TB, repository, tag, mediaType string, layers ...Layer) {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(l.Content, types.MediaType(mediaType)), Annotations: l.Annotations})
		if err != nil {
			t.Fatal(err)
		}
	}
	push(t, repository+":"+tag, img)
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
}

// PushBundle attaches a bundle to an image.
func PushBundle(t testing.TB, repository, digest string, bundle []byte) {
	t.Helper()
	PushArtifact(t, repository, digest, BundleType, bundle)
}

// PushArtifact attaches something of one layer to an image, both of a type.
func PushArtifact(t testing.TB, repository, digest, typ string, content []byte) {
	t.Helper()
	c, err := registry.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := registry.Artifact{Type: typ, Layers: []registry.ArtifactLayer{{MediaType: typ, Data: content}}}
	if _, _, err := c.Attach(context.WithoutCancel(t.Context()), repository, digest, a); err != nil {
		t.Fatal(err)
	}
}
