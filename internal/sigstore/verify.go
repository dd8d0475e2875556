// SPDX-License-Identifier: Apache-2.0

package sigstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Media types under which signatures are stored.
const (
	// SimpleSigningLayer is a layer under the tag sha256-<digest>.sig.
	SimpleSigningLayer = "application/vnd.dev.cosign.simplesigning.v1+json"
	// BundleType begins the types of bundles: application/vnd.dev.sigstore.bundle.v0.3+json, and …bundle+json;version=0.2
	// before that. It is the artifact's type as well as its layer's.
	BundleType = "application/vnd.dev.sigstore.bundle"
	// signatureArtifact is attached to an image and has layers of SimpleSigningLayer (cosign 2 with
	// --registry-referrers-mode=oci-1-1).
	signatureArtifact = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

// Wanted says whether an artifact of a type that is attached to an image may sign it.
func Wanted(artifactType string) bool {
	return artifactType == signatureArtifact || strings.HasPrefix(artifactType, BundleType)
}

// Annotations of a layer of SimpleSigningLayer.
const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationBundle      = "dev.sigstore.cosign/bundle"
)

// signPredicate says that a statement signs an image. A key that signed another statement about it, a list of its faults for
// instance, did not sign the image.
const signPredicate = "https://sigstore.dev/cosign/sign/v1"

// Why a signature does not count. Each wraps a cause.
var (
	// ErrMalformed: it cannot be read.
	ErrMalformed = errors.New("it cannot be read")
	// ErrUnknownSigner: none of the keys and identities of the policy made it, or it was altered since.
	ErrUnknownSigner = errors.New("it is by none of the keys and identities of spec.signatures, or was altered")
	// ErrUntrusted: the certificate, or the proof that it was valid then, is not of the trusted root.
	ErrUntrusted = errors.New("its certificate or log entry is not proven by the trusted root")
	// ErrOther: it is valid, and signs something else.
	ErrOther = errors.New("it signs something else")
	// ErrNotASignature: it is valid, and states something else of the image.
	ErrNotASignature = errors.New("it states something of the image and does not sign it")
)

// BundleHeld verifies a bundle that is attached to the image with this digest. VerifiedAt and Manifest are the caller's.
func (p *Policy) BundleHeld(digest string, text []byte) (by v1alpha1.ImageSigner, err error) {
	defer survive(&err)
	var b bundle.Bundle
	if err := b.UnmarshalJSON(text); err != nil {
		return by, fmt.Errorf("%w: %s", ErrMalformed, clean(err.Error()))
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return by, fmt.Errorf("digest %s: %w", digest, err)
	}
	about := verify.WithArtifactDigest("sha256", sum)
	by, result, err := p.signer(&b, about)
	if err != nil {
		return v1alpha1.ImageSigner{}, err
	}
	if result.Statement != nil && result.Statement.GetPredicateType() != signPredicate {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: %s", ErrNotASignature, clean(result.Statement.GetPredicateType()))
	}
	return by, nil
}

// SimpleSigning verifies a layer under the tag sha256-<digest>.sig with its annotations.
func (p *Policy) SimpleSigning(digest string, content []byte, annotations map[string]string) (by v1alpha1.ImageSigner, err error) {
	defer survive(&err)
	raw, err := base64.StdEncoding.DecodeString(annotations[annotationSignature])
	if err != nil || len(raw) == 0 {
		return by, fmt.Errorf("%w: the annotation %s holds no signature", ErrMalformed, annotationSignature)
	}
	if annotations[annotationCertificate] != "" {
		by, err = p.certified(content, raw, annotations)
	} else {
		by, err = p.keyed(content, raw)
	}
	if err != nil {
		return v1alpha1.ImageSigner{}, err
	}
	var said payload.SimpleContainerImage // signed, so that it may be believed
	if err := json.Unmarshal(content, &said); err != nil || said.Critical.Type != payload.CosignSignatureType {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: it is no %s", ErrOther, payload.CosignSignatureType)
	}
	if signed := said.Critical.Image.DockerManifestDigest; signed != digest {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: %s", ErrOther, clean(signed))
	}
	return by, nil
}

func (p *Policy) keyed(content, raw []byte) (v1alpha1.ImageSigner, error) {
	for _, key := range p.keys {
		for _, v := range key.verifiers {
			if v.VerifySignature(bytes.NewReader(raw), bytes.NewReader(content)) == nil {
				return v1alpha1.ImageSigner{Name: key.name, KeyID: key.id}, nil
			}
		}
	}
	return v1alpha1.ImageSigner{}, ErrUnknownSigner
}

// logged is the annotation with the entry of the log: cosign's RekorBundle.
type logged struct {
	SignedEntryTimestamp []byte
	Payload              struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogIndex       int64  `json:"logIndex"`
		LogID          string `json:"logID"`
	}
}

// certified verifies a signature with a certificate: what its annotations say is a bundle of version 0.1.
func (p *Policy) certified(content, raw []byte, annotations map[string]string) (v1alpha1.ImageSigner, error) {
	block, _ := pem.Decode([]byte(annotations[annotationCertificate]))
	if block == nil {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: the annotation %s holds no certificate", ErrMalformed, annotationCertificate)
	}
	var log logged
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal([]byte(annotations[annotationBundle]), &log); err != nil {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: the annotation %s holds no entry of a log", ErrUntrusted, annotationBundle)
	}
	logID, err := hex.DecodeString(log.Payload.LogID)
	if err != nil {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: the annotation %s names no log", ErrMalformed, annotationBundle)
	}
	if err := json.Unmarshal(log.Payload.Body, &kind); err != nil {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: the entry of the log", ErrMalformed)
	}
	sum := sha256.Sum256(content)
	b, err := bundle.NewBundle(&protobundle.Bundle{
		MediaType: BundleType + "+json;version=0.1",
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: block.Bytes}},
			TlogEntries: []*protorekor.TransparencyLogEntry{{
				LogIndex: log.Payload.LogIndex, LogId: &protocommon.LogId{KeyId: logID}, IntegratedTime: log.Payload.IntegratedTime,
				KindVersion:       &protorekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
				InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: log.SignedEntryTimestamp},
				CanonicalizedBody: log.Payload.Body,
			}},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]}, Signature: raw,
		}},
	})
	if err != nil {
		return v1alpha1.ImageSigner{}, fmt.Errorf("%w: %s", ErrMalformed, clean(err.Error()))
	}
	by, _, err := p.signer(b, verify.WithArtifact(bytes.NewReader(content)))
	return by, err
}

// signer is who of the policy signed what about names.
func (p *Policy) signer(b *bundle.Bundle, about verify.ArtifactPolicyOption) (v1alpha1.ImageSigner, *verify.VerificationResult, error) {
	made, err := b.VerificationContent()
	if err != nil {
		return v1alpha1.ImageSigner{}, nil, fmt.Errorf("%w: %s", ErrMalformed, clean(err.Error()))
	}
	if made.Certificate() != nil {
		return p.identity(b, about)
	}
	for _, key := range p.keys {
		for _, v := range key.verifiers {
			verifier, err := verify.NewVerifier(key.material(v), verify.WithNoObserverTimestamps())
			if err != nil {
				return v1alpha1.ImageSigner{}, nil, fmt.Errorf("key %s: %w", key.name, err)
			}
			if result, err := verifier.Verify(b, verify.NewPolicy(about, verify.WithKey())); err == nil {
				return v1alpha1.ImageSigner{Name: key.name, KeyID: key.id}, result, nil
			}
			// A valid signature of something else is told apart from one by somebody else.
			if _, err := verifier.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithKey())); err == nil {
				return v1alpha1.ImageSigner{}, nil, fmt.Errorf("%w, and is by %s", ErrOther, key.name)
			}
		}
	}
	return v1alpha1.ImageSigner{}, nil, ErrUnknownSigner
}

func (p *Policy) identity(b *bundle.Bundle, about verify.ArtifactPolicyOption) (v1alpha1.ImageSigner, *verify.VerificationResult, error) {
	if p.certificates == nil {
		return v1alpha1.ImageSigner{}, nil, fmt.Errorf("%w: it is by a certificate, and spec.signatures.keyless trusts none", ErrUnknownSigner)
	}
	result, err := p.certificates.Verify(b, verify.NewPolicy(about, verify.WithoutIdentitiesUnsafe())) // they are looked at below
	if err != nil {
		if _, other := p.certificates.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithoutIdentitiesUnsafe())); other == nil {
			err = fmt.Errorf("%w: %s", ErrOther, clean(err.Error()))
		} else {
			err = fmt.Errorf("%w: %s", ErrUntrusted, clean(err.Error()))
		}
		return v1alpha1.ImageSigner{}, nil, err
	}
	certificate := result.Signature.Certificate
	for _, i := range p.identities {
		if i.match.Verify(*certificate) == nil {
			return v1alpha1.ImageSigner{Name: i.name, Subject: clean(certificate.SubjectAlternativeName), Issuer: clean(certificate.Issuer)}, result, nil
		}
	}
	return v1alpha1.ImageSigner{}, nil, fmt.Errorf("%w: it is by %s of %s", ErrUnknownSigner, clean(certificate.SubjectAlternativeName), clean(certificate.Issuer))
}

// survive makes a refusal of a panic: what is read was written by anybody.
func survive(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %s", ErrMalformed, clean(fmt.Sprint(r)))
	}
}

// maxQuoted is how much is repeated of a text that somebody else wrote, in bytes.
const maxQuoted = 200

// clean makes a text that somebody else wrote fit for a message.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}
