// SPDX-License-Identifier: Apache-2.0

// Package envelope signs and verifies small JSON documents: DSSE v1 envelopes (github.com/secure-systems-lab/dsse,
// protocol.md) with ed25519 or ECDSA P-256 keys, decoded strictly.
//
// It knows nothing of what is signed. It may import the standard library and the DSSE library only.
package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// MaxSize is the largest envelope, in bytes, that Verify looks at.
const MaxSize = 128 << 10

// Errors that Verify wraps, so that callers can name the reason of a refusal.
var (
	ErrMalformed   = errors.New("malformed envelope")
	ErrUnknownKey  = errors.New("signed by no known key")
	ErrPayloadType = errors.New("wrong payload type")
)

// PublicKey is a parsed public key with its id.
type PublicKey struct {
	// ID is "sha256:" and the hex digest of the key's PKIX form.
	ID  string
	Key crypto.PublicKey
}

// ParsePublicKey reads one PEM block "PUBLIC KEY" (PKIX) with an ed25519 or ECDSA P-256 key.
func ParsePublicKey(text string) (PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return PublicKey{}, errors.New(`not a PEM block "PUBLIC KEY"`)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return PublicKey{}, errors.New("more than one PEM block: give one key each")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parse public key: %w", err)
	}
	return newPublicKey(key)
}

func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("an ECDSA key must be on P-256, not %s", k.Curve.Params().Name)
		}
	default:
		return PublicKey{}, fmt.Errorf("a key must be ed25519 or ECDSA P-256, not %T", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return PublicKey{ID: "sha256:" + hex.EncodeToString(sum[:]), Key: key}, nil
}

// ParsePrivateKey reads one PEM block with an ed25519 or ECDSA P-256 private key (PKCS #8, or SEC 1 for ECDSA). Errors
// never quote the key.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not a PEM file")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q is not an unencrypted private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key must be ed25519 or ECDSA P-256, not %T", key)
	}
	if _, err := newPublicKey(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

// GenerateKey makes an ed25519 key and returns it with its PEM forms (PKCS #8 and PKIX).
func GenerateKey() (key crypto.Signer, private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("generate ed25519 key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("encode private key: %w", err)
	}
	public, err = EncodePublicKey(pub)
	if err != nil {
		return nil, nil, nil, err
	}
	return priv, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), public, nil
}

// EncodePublicKey is the PEM form (PKIX) of a public key.
func EncodePublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Sign wraps payload in an envelope with a signature of each key.
func Sign(ctx context.Context, payloadType string, payload []byte, keys ...crypto.Signer) (string, error) {
	var signers []dsse.Signer
	for _, key := range keys {
		if changing, ok := key.(*Changing); ok {
			key = changing.Present()
		}
		pub, err := newPublicKey(key.Public())
		if err != nil {
			return "", err
		}
		signers = append(signers, &signerVerifier{public: pub, private: key})
	}
	signer, err := dsse.NewEnvelopeSigner(signers...)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	env, err := signer.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	text, err := json.Marshal(env)
	if err != nil {
		return "", fmt.Errorf("encode envelope: %w", err)
	}
	return string(text), nil
}

// Verify returns the payload and the key that signed it. The signature must be by one of keys, over exactly payloadType.
func Verify(ctx context.Context, text, payloadType string, keys []PublicKey) ([]byte, PublicKey, error) {
	if len(text) > MaxSize {
		return nil, PublicKey{}, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, MaxSize)
	}
	var env dsse.Envelope
	if err := DecodeStrict([]byte(text), &env); err != nil {
		return nil, PublicKey{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if env.PayloadType != payloadType {
		return nil, PublicKey{}, fmt.Errorf("%w: %q instead of %q", ErrPayloadType, env.PayloadType, payloadType)
	}
	if len(keys) == 0 {
		return nil, PublicKey{}, fmt.Errorf("%w: no key is trusted here", ErrUnknownKey)
	}
	verifiers := make([]dsse.Verifier, len(keys))
	for i, k := range keys {
		verifiers[i] = &signerVerifier{public: k}
	}
	verifier, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return nil, PublicKey{}, fmt.Errorf("prepare verification: %w", err)
	}
	accepted, err := verifier.Verify(ctx, &env)
	if err != nil {
		return nil, PublicKey{}, fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	payload, err := base64.StdEncoding.DecodeString(env.Payload)
	if err != nil {
		return nil, PublicKey{}, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	for _, k := range keys {
		if k.ID == accepted[0].KeyID {
			return payload, k, nil
		}
	}
	return nil, PublicKey{}, ErrUnknownKey
}

// Hash is "sha256:" and the hex digest of text.
func Hash(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// signerVerifier adapts the two kinds of keys to the DSSE library.
type signerVerifier struct {
	public  PublicKey
	private crypto.Signer
}

func (s *signerVerifier) KeyID() (string, error)   { return s.public.ID, nil }
func (s *signerVerifier) Public() crypto.PublicKey { return s.public.Key }

func (s *signerVerifier) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, ok := s.public.Key.(ed25519.PublicKey); ok {
		return s.private.Sign(rand.Reader, data, crypto.Hash(0))
	}
	digest := sha256.Sum256(data)
	return s.private.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func (s *signerVerifier) Verify(_ context.Context, data, sig []byte) error {
	switch key := s.public.Key.(type) {
	case ed25519.PublicKey:
		if ed25519.Verify(key, data, sig) {
			return nil
		}
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(data)
		if ecdsa.VerifyASN1(key, digest[:], sig) {
			return nil
		}
	}
	return errors.New("signature does not match")
}
