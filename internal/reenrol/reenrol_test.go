// SPDX-License-Identifier: Apache-2.0

package reenrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// authority is a CA of the tests.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: now.Add(-time.Hour * 24 * 3650), NotAfter: now.Add(time.Hour * 24 * 3650),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a authority) issue(t *testing.T, key *ecdsa.PrivateKey, change func(*x509.Certificate)) string {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "sirrat:host:a:1", Organization: []string{"sirrat:hosts"}},
		NotBefore: now.Add(-60 * 24 * time.Hour), NotAfter: now.Add(-30 * 24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func request(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestCheck(t *testing.T) {
	ca, other, key, next, thief := newAuthority(t), newAuthority(t), newKey(t), newKey(t), newKey(t)
	certificate, csr := ca.issue(t, key, nil), request(t, next)
	good, err := New(certificate, csr, key, now)
	if err != nil {
		t.Fatal(err)
	}
	who, err := good.Check(ca.pool(), now.Add(24*time.Hour))
	if err != nil || who.User != "sirrat:host:a:1" || who.Group != "sirrat:hosts" || !strings.HasPrefix(who.Key, "sha256:") {
		t.Fatalf("%+v, %v", who, err)
	}
	if requested, err := RequestedKey(csr); err != nil || requested == who.Key {
		t.Errorf("%s, %v", requested, err)
	}
	by := func(certificate, csr string, key *ecdsa.PrivateKey) Proof {
		p, err := New(certificate, csr, key, now)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	altered := func(change func(*Proof)) Proof {
		p := good
		p.Signature = append([]byte{}, good.Signature...)
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		proof Proof
		roots *x509.CertPool
		now   time.Time
		want  string
	}{
		"another key":          {proof: by(certificate, csr, thief), want: "not signed"},
		"another request":      {proof: altered(func(p *Proof) { p.Request = request(t, thief) }), want: "not signed"},
		"another time":         {proof: altered(func(p *Proof) { p.Time = p.Time.Add(time.Second) }), want: "not signed"},
		"another certificate":  {proof: altered(func(p *Proof) { p.Certificate = ca.issue(t, key, nil) }), want: "not signed"},
		"an altered signature": {proof: altered(func(p *Proof) { p.Signature[8] ^= 1 }), want: "not signed"},
		"no signature":         {proof: altered(func(p *Proof) { p.Signature = nil }), want: "not signed"},
		"another CA":           {proof: good, roots: other.pool(), want: "not one of this installation's"},
		"a self-made one":      {proof: by(other.issue(t, key, nil), csr, key), want: "not one of this installation's"},
		"a server's": {proof: by(ca.issue(t, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), csr, key),
			want: "not one of this installation's"},
		"two organisations": {proof: by(ca.issue(t, key, func(c *x509.Certificate) { c.Subject.Organization = []string{"sirrat:hosts", "x"} }), csr, key),
			want: "not an agent's"},
		"ended long ago":   {proof: by(ca.issue(t, key, func(c *x509.Certificate) { c.NotAfter = now.Add(-MaxAge - time.Hour) }), csr, key), want: "more than 365 days"},
		"replayed later":   {proof: good, now: now.Add(ClockSkew + time.Minute), want: "check the clock"},
		"from the future":  {proof: good, now: now.Add(-ClockSkew - time.Minute), want: "check the clock"},
		"no certificate":   {proof: altered(func(p *Proof) { p.Certificate = "" }), want: "not one PEM block"},
		"two certificates": {proof: altered(func(p *Proof) { p.Certificate += p.Certificate }), want: "not one PEM block"},
		"a huge request":   {proof: altered(func(p *Proof) { p.Request = strings.Repeat("x", MaxSize+1) }), want: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			roots, at := c.roots, c.now
			if roots == nil {
				roots = ca.pool()
			}
			if at.IsZero() {
				at = now
			}
			if _, err := c.proof.Check(roots, at); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
