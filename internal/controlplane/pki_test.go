// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func newDataDir(t *testing.T) dataDir {
	t.Helper()
	d := dataDir(t.TempDir())
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	return d
}

func mustAuthority(t *testing.T, d dataDir, name string, now time.Time) *authority {
	t.Helper()
	ca, err := ensureAuthority(d, name, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestAuthorityKeepsItsKey(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	pin := SPKIHash(mustAuthority(t, d, servingCA, now).cert)

	if again := SPKIHash(mustAuthority(t, d, servingCA, now).cert); again != pin {
		t.Errorf("the pin changed from %s to %s on a second start", pin, again)
	}
	if err := os.Remove(d.key("ca.crt")); err != nil {
		t.Fatal(err)
	}
	if again := SPKIHash(mustAuthority(t, d, servingCA, now).cert); again != pin {
		t.Errorf("the pin changed from %s to %s when only the certificate was lost", pin, again)
	}
	if err := os.Remove(d.key("ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureAuthority(d, servingCA, now); err == nil {
		t.Error("a CA certificate without its key was replaced; agents would reject the new one")
	}
}

func TestAuthorityOutsideItsValidity(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	mustAuthority(t, d, servingCA, now)
	for name, at := range map[string]time.Time{
		"clock two days back": now.Add(-48 * time.Hour),
		"expired":             now.Add(caLifetime + time.Hour),
	} {
		if _, err := ensureAuthority(d, servingCA, at); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("%s: got %v, want an error that speaks of the clock", name, err)
		}
	}
	if _, err := ensureAuthority(d, servingCA, now.Add(-24*time.Hour)); err != nil {
		t.Errorf("a clock that is a day late: %v", err)
	}
}

func TestSPKIHash(t *testing.T) {
	d := newDataDir(t)
	cert := mustAuthority(t, d, servingCA, time.Now()).cert
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if want := "sha256:" + hex.EncodeToString(sum[:]); SPKIHash(cert) != want {
		t.Errorf("got %s, want %s", SPKIHash(cert), want)
	}
}

func TestLeafIsReissuedWhenItMust(t *testing.T) {
	now := time.Now()
	server := identity{user: "sirrat", names: []string{"localhost", "127.0.0.1"}}
	for _, tt := range []struct {
		name   string
		id     identity
		at     time.Time
		damage func(t *testing.T, d dataDir)
		want   bool
	}{
		{name: "unchanged", id: server, at: now, want: false},
		{name: "half a year later", id: server, at: now.Add(leafLifetime / 2), want: false},
		{name: "near its end", id: server, at: now.Add(leafLifetime - renewBefore + time.Hour), want: true},
		{name: "issued in the future", id: server, at: now.Add(-backdate - time.Hour), want: true},
		{name: "another name", id: identity{user: "sirrat", names: []string{"localhost", "example.org"}}, at: now, want: true},
		{name: "one name less", id: identity{user: "sirrat", names: []string{"localhost"}}, at: now, want: true},
		{name: "another user", id: identity{user: "other", names: server.names}, at: now, want: true},
		{name: "truncated", id: server, at: now, want: true, damage: func(t *testing.T, d dataDir) {
			if err := os.Truncate(d.key(servingLeaf), 100); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "another CA", id: server, at: now, want: true, damage: func(t *testing.T, d dataDir) {
			other, err := mustAuthority(t, d, clientsCA, now).issue(server, leafLifetime, now)
			if err != nil {
				t.Fatal(err)
			}
			if err := writeFile(d.key(servingLeaf), other); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDataDir(t)
			ca := mustAuthority(t, d, servingCA, now)
			if wrote, err := ca.ensureLeaf(d.key(servingLeaf), server, now); err != nil || !wrote {
				t.Fatalf("first issue: wrote %t, %v", wrote, err)
			}
			if tt.damage != nil {
				tt.damage(t, d)
			}
			wrote, err := ca.ensureLeaf(d.key(servingLeaf), tt.id, tt.at)
			if err != nil || wrote != tt.want {
				t.Errorf("reissued %t (%v), want %t", wrote, err, tt.want)
			}
		})
	}
}

func TestServingChainHoldsTheCA(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	ca := mustAuthority(t, d, servingCA, now)
	data, err := ca.issue(identity{user: "sirrat", names: []string{"localhost"}}, leafLifetime, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(pair.Certificate) != 2 || !bytes.Equal(pair.Certificate[1], ca.cert.Raw) {
		t.Fatalf("the chain has %d certificates, want the leaf and the CA", len(pair.Certificate))
	}
	if pair.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(pair.Leaf.ExtKeyUsage) != 1 {
		t.Errorf("a serving certificate has the usages %v", pair.Leaf.ExtKeyUsage)
	}
}

func TestLeafDoesNotOutliveTheCA(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	ca := mustAuthority(t, d, clientsCA, now)
	late := now.Add(caLifetime - 24*time.Hour)
	wrote, err := ca.ensureLeaf(d.key(adminLeaf), identity{user: AdminUser}, late)
	if err != nil || !wrote {
		t.Fatal(wrote, err)
	}
	if wrote, err := ca.ensureLeaf(d.key(adminLeaf), identity{user: AdminUser}, late); err != nil || wrote {
		t.Errorf("a certificate that ends with its CA was reissued in vain: %t, %v", wrote, err)
	}
}

func TestIssueKubeconfigRefuses(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	mustAuthority(t, d, servingCA, now)
	mustAuthority(t, d, clientsCA, now)
	const server = "https://sirrat.example.org:6443"
	for _, tt := range []struct {
		name, user string
		groups     []string
		server     string
		ttl        time.Duration
	}{
		{"system user", "system:admin", nil, server, time.Hour},
		{"the server's own user", ServerUser, nil, server, time.Hour},
		{"the admin", AdminUser, nil, server, time.Hour},
		{"no user", "", nil, server, time.Hour},
		{"separator in the name", "a,b", nil, server, time.Hour},
		{"line break in the name", "a\nb", nil, server, time.Hour},
		{"leading dash", "-rf", nil, server, time.Hour},
		{"name too long for X.509", strings.Repeat("a", 65), nil, server, time.Hour},
		{"masters", "jane", []string{"system:masters"}, server, time.Hour},
		{"masters in capitals", "jane", []string{"System:Masters"}, server, time.Hour},
		{"a bad group among good ones", "jane", []string{"qa", "system:nodes"}, server, time.Hour},
		{"no lifetime", "jane", nil, server, 0},
		{"lifetime too long", "jane", nil, server, MaxClientLifetime + time.Second},
		{"plain http", "jane", nil, "http://sirrat.example.org", time.Hour},
		{"no server and none recorded", "jane", nil, "", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out, err := IssueKubeconfig(string(d), tt.user, tt.groups, tt.server, tt.ttl); err == nil {
				t.Errorf("issued %d bytes", len(out))
			}
		})
	}
	if _, err := IssueKubeconfig(t.TempDir(), "jane", nil, server, time.Hour); err == nil {
		t.Error("issued from a directory without a CA")
	}
}

func TestIssueKubeconfig(t *testing.T) {
	d, now := newDataDir(t), time.Now()
	mustAuthority(t, d, servingCA, now)
	clientCA := mustAuthority(t, d, clientsCA, now)
	const server = "https://sirrat.example.org:6443"
	data, err := IssueKubeconfig(string(d), "jane@dynors.com", []string{"sirrat:qa", "cto"}, server, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(config.CertData)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(clientCA.cert); err != nil {
		t.Error(err)
	}
	if config.Host != server || cert.Subject.CommonName != "jane@dynors.com" || !sameSet(cert.Subject.Organization, []string{"sirrat:qa", "cto"}) {
		t.Errorf("got %s, %s", config.Host, cert.Subject)
	}
	if left := time.Until(cert.NotAfter); left > time.Hour || left < 59*time.Minute {
		t.Errorf("valid for %s, want an hour", left)
	}

	admin, err := IssueAdminKubeconfig(string(d), "joe", server, time.Hour)
	if err != nil || !bytes.Contains(admin, []byte("client-key-data")) {
		t.Errorf("second administrator: %v", err)
	}
}
