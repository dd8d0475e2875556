// SPDX-License-Identifier: Apache-2.0

// Package sigstore verifies signatures of images by the tools of sigstore: those that cosign keeps under the tag
// sha256-<digest>.sig (sigstore/cosign, specs/SIGNATURE_SPEC.md) and bundles attached to the image (sigstore/cosign,
// specs/BUNDLE_SPEC.md; sigstore/protobuf-specs, sigstore_bundle.proto, 0.1 to 0.3).
//
// Whom to trust is an Environment's spec.signatures and nothing else: no server of sigstore is asked, and no time but those
// in the signatures counts, so that the same bytes always have the same verdict. It is pure; it may import api/v1alpha1,
// internal/envelope and the libraries of sigstore.
package sigstore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// MaxTrustedRoot is the largest trusted root, in bytes.
const MaxTrustedRoot = 512 << 10

// minRSA is the least size of an RSA key, in bits.
const minRSA = 2048

// Policy is a SignaturePolicy ready for use. Safe for concurrent use.
type Policy struct {
	hash       string
	keys       []trustedKey
	identities []trustedIdentity
	// certificates verifies what was signed with a certificate; nil when none is trusted.
	certificates *verify.Verifier
}

// trustedKey is a public key and the ways in which tools sign with such a key.
type trustedKey struct {
	name, id  string
	verifiers []signature.Verifier
}

type trustedIdentity struct {
	name  string
	match verify.CertificateIdentity
}

// Parse makes a policy. trustedRoot is what spec.keyless.trustedRoot names. An error is for whoever wrote the policy.
func Parse(spec v1alpha1.SignaturePolicy, trustedRoot []byte) (*Policy, error) {
	p := &Policy{}
	names := map[string]bool{}
	unique := func(name string) error {
		if names[name] {
			return fmt.Errorf("the name %s is given twice", name)
		}
		names[name] = true
		return nil
	}
	ids := map[string]string{}
	for _, k := range spec.Keys {
		key, err := parseKey(k)
		if err != nil {
			return nil, fmt.Errorf("keys: %s: %w", k.Name, err)
		}
		if other, ok := ids[key.id]; ok { // one signature would count for two
			return nil, fmt.Errorf("keys: %s is the same key as %s", k.Name, other)
		}
		if err := unique(k.Name); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		ids[key.id] = k.Name
		p.keys = append(p.keys, key)
	}
	if spec.Keyless != nil {
		if err := p.trust(spec.Keyless.Identities, trustedRoot, unique); err != nil {
			return nil, fmt.Errorf("keyless: %w", err)
		}
	}
	if len(p.keys)+len(p.identities) == 0 {
		return nil, errors.New("it trusts nobody: give keys or keyless")
	}
	var err error
	p.hash, err = hashOf(spec, trustedRoot)
	return p, err
}

// Hash is one over everything that a verdict on a signature depends on.
func (p *Policy) Hash() string { return p.hash }

// hashOf leaves out which images must be signed and how often: that is for gates to judge.
func hashOf(spec v1alpha1.SignaturePolicy, trustedRoot []byte) (string, error) {
	text, err := json.Marshal(map[string]any{
		"keys": spec.Keys, "keyless": spec.Keyless, "trustedRoot": envelope.Hash(trustedRoot), "reads": readsVersion,
	})
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	if text, err = jcs.Transform(text); err != nil {
		return "", fmt.Errorf("canonicalise: %w", err)
	}
	return envelope.Hash(text), nil
}

// readsVersion is to be raised when what was verified by an earlier version must be verified anew.
const readsVersion = 1

func parseKey(k v1alpha1.SignatureKey) (trustedKey, error) {
	block, rest := pem.Decode([]byte(k.PublicKey))
	switch {
	case block == nil || block.Type != "PUBLIC KEY":
		return trustedKey{}, errors.New("it is not a public key (PEM, PUBLIC KEY): give the text of cosign.pub")
	case len(bytes.TrimSpace(rest)) > 0:
		return trustedKey{}, errors.New("something follows the key: give each key a name of its own")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return trustedKey{}, errors.New("it is not a public key that can be read (PKIX)")
	}
	hashes := []crypto.Hash{crypto.SHA256}
	var verifiers []signature.Verifier
	switch key := public.(type) {
	case ed25519.PublicKey: // cosign signs the SHA-512 of a text (Ed25519ph, RFC 8032), other tools the text itself
		prehashed, err := signature.LoadED25519phVerifier(key)
		if err != nil {
			return trustedKey{}, errors.New("it is not an Ed25519 key that can be used")
		}
		verifiers = append(verifiers, prehashed)
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return trustedKey{}, fmt.Errorf("an RSA key of %d bits is too short: at least %d", key.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey: // tools of before 2025 hash with SHA-256 whatever the curve
		switch bits := key.Curve.Params().BitSize; bits {
		case 256:
		case 384:
			hashes = append(hashes, crypto.SHA384)
		case 521:
			hashes = append(hashes, crypto.SHA512)
		default:
			return trustedKey{}, fmt.Errorf("ECDSA on a curve of %d bits is not supported: use P-256, P-384 or P-521", bits)
		}
	}
	t := trustedKey{name: k.Name, id: envelope.Hash(block.Bytes), verifiers: verifiers}
	for _, hash := range hashes {
		verifier, err := signature.LoadVerifier(public, hash)
		if err != nil {
			return trustedKey{}, errors.New("keys of this kind are not supported: use ECDSA, Ed25519 or RSA")
		}
		t.verifiers = append(t.verifiers, verifier)
	}
	return t, nil
}

// trust reads the trusted root and who may sign with its certificates.
func (p *Policy) trust(identities []v1alpha1.SignatureIdentity, trustedRoot []byte, unique func(string) error) error {
	if len(trustedRoot) > MaxTrustedRoot {
		return fmt.Errorf("the trusted root is larger than %d KiB", MaxTrustedRoot>>10)
	}
	material, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return fmt.Errorf("the trusted root cannot be read: %s", clean(err.Error()))
	}
	if len(material.FulcioCertificateAuthorities()) == 0 || len(material.RekorLogs()) == 0 {
		return errors.New("the trusted root names no certificate authority or no transparency log")
	}
	// The log proves that the signature was made while the certificate was valid, which is minutes.
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	if len(material.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	if p.certificates, err = verify.NewVerifier(material, options...); err != nil {
		return fmt.Errorf("the trusted root cannot be used: %s", clean(err.Error()))
	}
	for _, i := range identities {
		if err := unique(i.Name); err != nil {
			return err
		}
		for _, expression := range []string{i.IssuerRegExp, i.SubjectRegExp} {
			if _, err := regexp.Compile(expression); err != nil { // whole could make one of what is none by itself
				return fmt.Errorf("identity %s: %w", i.Name, err)
			}
		}
		match, err := verify.NewShortCertificateIdentity(i.Issuer, whole(i.IssuerRegExp), i.Subject, whole(i.SubjectRegExp))
		if err != nil {
			return fmt.Errorf("identity %s: %w", i.Name, err)
		}
		p.identities = append(p.identities, trustedIdentity{i.Name, match})
	}
	if len(p.identities) == 0 {
		return errors.New("identities are needed: whoever has a certificate would count")
	}
	return nil
}

// whole has an expression match the whole text: one for a part would match an address that merely contains it.
func whole(expression string) string {
	if expression == "" {
		return ""
	}
	return `\A(?:` + expression + `)\z`
}

// material has one key count, whatever hint a bundle gives of its key, and at any time.
func (k trustedKey) material(v signature.Verifier) root.TrustedMaterial {
	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
}
