// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

// Lifetimes of certificates. Serving and client certificates are reissued by
// the process itself, at start and once per renewInterval.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// MaxClientLifetime is the longest that a client certificate may live,
	// whether from IssueKubeconfig or from a CertificateSigningRequest.
	MaxClientLifetime = 365 * 24 * time.Hour
	renewBefore       = 90 * 24 * time.Hour
	renewInterval     = 12 * time.Hour
	// backdate lets a client whose clock is a day late trust a new certificate.
	backdate = 25 * time.Hour
)

// Users and the group of the certificates that the control plane issues for itself.
const (
	// AdminUser is the user of admin.kubeconfig.
	AdminUser = "admin"
	// ServerUser is the user of RESTConfig. It differs from AdminUser so that
	// managedFields and policies can tell the process from the person, and it
	// holds a colon so that IssueKubeconfig never hands it out.
	ServerUser = "sirrat:server"

	mastersGroup = "system:masters"
)

// SPKIHash returns the pin of a certificate's key as "sha256:" and 64 hex
// digits: the hash of its SubjectPublicKeyInfo, as RFC 7469 takes it. It stays
// the same when a certificate is issued again for the same key.
func SPKIHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// authority is a CA read from, or created in, the data directory.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte // the certificate
}

// loadAuthority reads name.crt and name.key of the data directory and refuses
// them when they are outside their validity.
func loadAuthority(d dataDir, name string, now time.Time) (*authority, error) {
	certPEM, err := os.ReadFile(d.key(name + ".crt"))
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	keyPEM, err := os.ReadFile(d.key(name + ".key"))
	if err != nil {
		return nil, fmt.Errorf("read the CA key: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s.crt and %s.key in %s do not belong together: %w", name, name, d.pki(), err)
	}
	if now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return nil, fmt.Errorf("the CA %s is valid from %s to %s and it is %s: check the clock of this machine",
			d.key(name+".crt"), pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s.key in %s cannot sign", name, d.pki())
	}
	return &authority{cert: pair.Leaf, key: signer, pem: certPEM}, nil
}

// ensureAuthority is loadAuthority that creates a CA in an empty directory. The
// key is written first and is what agents pin: with a key and no certificate
// (a crash in between) the certificate is made again, while a certificate
// without its key is refused rather than replaced.
func ensureAuthority(d dataDir, name string, now time.Time) (*authority, error) {
	if _, err := os.Stat(d.key(name + ".crt")); err == nil {
		return loadAuthority(d, name, now)
	}
	key, err := ensureKey(d.key(name + ".key"))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "sirrat-" + name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create the CA %s: %w", name, err)
	}
	if err := writeFile(d.key(name+".crt"), encodeCert(der)); err != nil {
		return nil, err
	}
	return loadAuthority(d, name, now)
}

// ensureKey reads the P-256 private key at path or creates it.
func ensureKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("create a key: %w", err)
		}
		data, err := encodeKey(key)
		if err != nil {
			return nil, err
		}
		return key, writeFile(path, data)
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM key", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", path, err)
	}
	return key, nil
}

// identity is what a leaf certificate says.
type identity struct {
	user   string
	groups []string
	names  []string // DNS names and IP addresses; set for a server, empty for a client
}

// issue signs a new key for id and returns one PEM text: the certificate, its
// key, and for a server the CA, so that it is part of the chain that clients
// see and can pin. The certificate never outlives the CA.
func (a *authority) issue(id identity, lifetime time.Duration, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create a key: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: id.user, Organization: id.groups},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if len(id.names) > 0 {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		tmpl.DNSNames, tmpl.IPAddresses = splitNames(id.names)
	}
	if tmpl.NotAfter.After(a.cert.NotAfter) {
		tmpl.NotAfter = a.cert.NotAfter
	}
	if tmpl.NotBefore.Before(a.cert.NotBefore) {
		tmpl.NotBefore = a.cert.NotBefore
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", id.user, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	out := append(encodeCert(der), keyPEM...)
	if len(id.names) > 0 {
		out = append(out, a.pem...)
	}
	return out, nil
}

// ensureLeaf keeps at path a certificate for id that is signed by a and stays
// valid for renewBefore or longer. Certificate and key share a file, so that a
// reader never sees the one without the other. It says whether it wrote.
func (a *authority) ensureLeaf(path string, id identity, now time.Time) (bool, error) {
	current, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read a certificate: %w", err)
	}
	if err == nil && a.stillGood(current, id, now) {
		return false, nil
	}
	data, err := a.issue(id, leafLifetime, now)
	if err != nil {
		return false, err
	}
	return true, writeFile(path, data)
}

func (a *authority) stillGood(data []byte, id identity, now time.Time) bool {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return false
	}
	leaf := pair.Leaf
	if leaf.CheckSignatureFrom(a.cert) != nil || !bytes.Equal(leaf.RawIssuer, a.cert.RawSubject) {
		return false
	}
	if len(id.names) > 0 && !bytes.HasSuffix(data, a.pem) {
		return false
	}
	dns, ips := splitNames(id.names)
	sameIPs := slices.EqualFunc(ips, leaf.IPAddresses, net.IP.Equal)
	return leaf.Subject.CommonName == id.user &&
		sameSet(leaf.Subject.Organization, id.groups) &&
		slices.Equal(leaf.DNSNames, dns) && sameIPs &&
		!now.Before(leaf.NotBefore) &&
		(now.Add(renewBefore).Before(leaf.NotAfter) || leaf.NotAfter.Equal(a.cert.NotAfter))
}

// sameSet compares without regard to order: DER sorts the organizations.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// splitNames parts IP addresses from DNS names, keeping the order.
func splitNames(names []string) (dns []string, ips []net.IP) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, name)
		}
	}
	return dns, ips
}

// newSerial is 128 random bits, as the CA/Browser forum asks for at least 64.
func newSerial() *big.Int {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		panic(err) // crypto/rand does not fail since Go 1.24
	}
	return serial
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// splitPair parts what issue returned for a client into certificate and key.
func splitPair(pair []byte) (certPEM, keyPEM []byte, ok bool) {
	cert, rest := pem.Decode(pair)
	key, _ := pem.Decode(rest)
	if cert == nil || key == nil {
		return nil, nil, false
	}
	return pem.EncodeToMemory(cert), pem.EncodeToMemory(key), true
}
