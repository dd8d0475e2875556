// SPDX-License-Identifier: Apache-2.0

// Package reenrol is how an agent whose certificate has expired proves who it is: with the key of that certificate it signs
// its request for the next one. The HTTP API takes the proof, the controllers judge it; both and the agent use this package.
//
// It reads no clock and talks to nobody. It may import the standard library only.
package reenrol

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds.
const (
	// MaxAge is how long after its end a certificate still proves something. A server that was away for longer joins again.
	MaxAge = 365 * 24 * time.Hour
	// ClockSkew is how far the clock of the agent may be off, either way.
	ClockSkew = 25 * time.Hour
	// MaxSize bounds a proof, in bytes.
	MaxSize = 32 << 10
)

// label separates what is signed here from everything else that the key might sign.
const label = "sirrat re-enrolment v1"

// ErrRefused is wrapped by every refusal.
var ErrRefused = errors.New("the proof does not hold")

// Proof is the body of the request.
type Proof struct {
	// Certificate that has expired (PEM), of the agent of this host.
	Certificate string `json:"certificate"`
	// Request for a certificate (PEM), for a new key.
	Request string `json:"request"`
	// Time at which it was signed, by the agent's clock.
	Time time.Time `json:"time"`
	// Signature by the certificate's key over both and the time.
	Signature []byte `json:"signature"`
}

// Answer to a proof that holds.
type Answer struct {
	// Certificate (PEM) for the key of the request.
	Certificate string `json:"certificate"`
}

// Identity is what a proof proves.
type Identity struct {
	// User is the certificate's name; its only organisation is Group.
	User, Group string
	// Key is the hash of the certificate's key.
	Key string
}

// New signs a request for a certificate with the key of the last one.
func New(certificate, request string, key crypto.Signer, now time.Time) (Proof, error) {
	p := Proof{Certificate: certificate, Request: request, Time: now.UTC().Truncate(time.Second)}
	digest, err := p.digest()
	if err != nil {
		return Proof{}, err
	}
	if p.Signature, err = key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
		return Proof{}, fmt.Errorf("sign with the last key: %w", err)
	}
	return p, nil
}

// digest is what is signed.
func (p Proof) digest() ([]byte, error) {
	certificate, err := one(p.Certificate, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	request, err := one(p.Request, "CERTIFICATE REQUEST")
	if err != nil {
		return nil, err
	}
	c, r := sha256.Sum256(certificate), sha256.Sum256(request)
	sum := sha256.Sum256([]byte(strings.Join([]string{
		label, hex.EncodeToString(c[:]), hex.EncodeToString(r[:]), p.Time.UTC().Format(time.RFC3339),
	}, "\n")))
	return sum[:], nil
}

// Check says who made a proof: the certificate must have been issued by one of roots for a client, and its key must have
// signed the request. Whether that agent may come back is for the caller to say.
func (p Proof) Check(roots *x509.CertPool, now time.Time) (Identity, error) {
	digest, err := p.digest()
	if err != nil {
		return Identity{}, err
	}
	if off := p.Time.Sub(now); off > ClockSkew || off < -ClockSkew {
		return Identity{}, refusal("it was signed on %s and it is %s: check the clock", p.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	der, err := one(p.Certificate, "CERTIFICATE")
	if err != nil {
		return Identity{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Identity{}, refusal("the certificate cannot be read")
	}
	if now.After(certificate.NotAfter.Add(MaxAge)) {
		return Identity{}, refusal("the certificate ended on %s, more than %d days ago", certificate.NotAfter.UTC().Format(time.DateOnly), int(MaxAge.Hours()/24))
	}
	_, err = certificate.Verify(x509.VerifyOptions{
		Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime: certificate.NotAfter.Add(-time.Second), // that it has expired is why we are here
	})
	if err != nil || certificate.IsCA {
		return Identity{}, refusal("the certificate is not one of this installation's agents")
	}
	if err := check(certificate.PublicKey, digest, p.Signature); err != nil {
		return Identity{}, err
	}
	s := certificate.Subject
	if len(s.Organization) != 1 || len(s.Names) != 2 {
		return Identity{}, refusal("the certificate is not an agent's")
	}
	return Identity{User: s.CommonName, Group: s.Organization[0], Key: Hash(certificate.RawSubjectPublicKeyInfo)}, nil
}

// RequestedKey is the hash of the key that a certificate is asked for (PEM).
func RequestedKey(request string) (string, error) {
	der, err := one(request, "CERTIFICATE REQUEST")
	if err != nil {
		return "", err
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil || parsed.CheckSignature() != nil {
		return "", refusal("the request cannot be verified")
	}
	return Hash(parsed.RawSubjectPublicKeyInfo), nil
}

// Hash is "sha256:" and the hex digest of a key's SubjectPublicKeyInfo.
func Hash(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// one is the content of a text that is exactly one PEM block of a type.
func one(text, kind string) ([]byte, error) {
	if len(text) > MaxSize {
		return nil, refusal("more than %d bytes", MaxSize)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != kind || len(strings.TrimSpace(string(rest))) > 0 || len(block.Headers) > 0 {
		return nil, refusal("not one PEM block %q", kind)
	}
	return block.Bytes, nil
}

func refusal(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}
