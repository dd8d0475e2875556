// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.join()
	identity, err := enrol.LoadIdentity(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if identity.Host != h.name || identity.HostUID != h.uid || len(identity.AuthorizationKeys) != 1 {
		t.Errorf("%s, %s, %d keys", identity.Host, identity.HostUID, len(identity.AuthorizationKeys))
	}
	for path, mode := range map[string]os.FileMode{"identity.json": 0o600, ".": 0o700} {
		if info, err := os.Stat(filepath.Join(h.dir, path)); err != nil || info.Mode().Perm()&^mode != 0 && path != "." {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	// What was asked for.
	csrs, err := h.env.Client.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, csr := range csrs.Items {
		if !strings.Contains(csr.Name, h.name) {
			continue
		}
		block, _ := pem.Decode(csr.Spec.Request)
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if cn := request.Subject.CommonName; cn != v1alpha1.AgentUser(h.name, h.uid) || len(request.Subject.Organization) != 1 ||
			request.Subject.Organization[0] != v1alpha1.AgentGroup || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
			t.Errorf("request %+v for %s", request.Subject, csr.Spec.SignerName)
		}
	}
	// Joining again does nothing, even with a token that is long used.
	o := h.joinOptions()
	o.Token = "aaaaaa.bbbbbbbbbbbbbbbb"
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	if err := agent.Join(t.Context(), o, say); err != nil || !strings.Contains(strings.Join(said, "\n"), "has joined") {
		t.Errorf("again: %v, %q", err, said)
	}
	o.Server = "https://other.example:6443"
	if err := agent.Join(t.Context(), o, say); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another server: %v", err)
	}
	checkRenewal(t, h, identity)
}

// checkRenewal renews with the certificate itself: requester and subject are the same.
func checkRenewal(t *testing.T, h *host, identity *enrol.Identity) {
	t.Helper()
	connection, err := enrol.Connect(*identity, "test")
	if err != nil {
		t.Fatal(err)
	}
	client, err := control.New(connection.Config())
	if err != nil {
		t.Fatal(err)
	}
	next, err := enrol.Renew(t.Context(), *identity, client)
	if err != nil {
		t.Fatal(err)
	}
	if next.Certificate == identity.Certificate || next.Key == identity.Key || next.Host != identity.Host {
		t.Error("not a new key and certificate")
	}
	if err := connection.Replace(*next); err != nil {
		t.Fatal(err)
	}
	user, err := client.WhoAmI(t.Context())
	if err != nil || user.Username != v1alpha1.AgentUser(h.name, h.uid) {
		t.Errorf("with the new certificate: %s, %v", user.Username, err)
	}
	if _, err := client.Secret(t.Context(), "other", "secret"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("another host's secret: %v", err)
	}
}

func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	quiet := func(string, ...any) {}
	for name, c := range map[string]struct {
		change func(*agent.JoinOptions)
		want   string
	}{
		"other CA":      {func(o *agent.JoinOptions) { o.CAHash = "sha256:" + strings.Repeat("0", 64) }, "has the key hash " + h.env.ControlPlane.CAHash()},
		"unknown token": {func(o *agent.JoinOptions) { o.Token = "aaaaaa.bbbbbbbbbbbbbbbb" }, "the token is not valid (any more)"},
		"no token":      {func(o *agent.JoinOptions) { o.Token = "secret" }, "--token: not a token"},
		"plain http":    {func(o *agent.JoinOptions) { o.Server = "http://example.com" }, "use https://host:port"},
		"no hash":       {func(o *agent.JoinOptions) { o.CAHash = "" }, "exactly one of --ca-hash and --ca-file"},
		"short hash":    {func(o *agent.JoinOptions) { o.CAHash = "sha256:00" }, "64 hex digits"},
		"no host":       {func(o *agent.JoinOptions) { o.Token = h.newToken("system:bootstrappers:other") }, "the token is for no host"},
		"two hosts": {func(o *agent.JoinOptions) {
			o.Token = h.newToken(v1alpha1.EnrolGroupPrefix+"a:1", v1alpha1.EnrolGroupPrefix+"b:2")
		}, "more than one host"},
		"nobody there": {func(o *agent.JoinOptions) { o.Server = fmt.Sprintf("https://127.0.0.1:%d", enginetest.FreePort(t)) }, "connect to"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Wait(t, "the refusal", func() error {
				o := h.joinOptions()
				o.DataDir = t.TempDir()
				c.change(&o)
				err := agent.Join(t.Context(), o, quiet)
				if err == nil {
					t.Fatal("joined")
				}
				if strings.Contains(err.Error(), strings.Split(o.Token, ".")[len(strings.Split(o.Token, "."))-1]) {
					t.Fatalf("the error quotes the token: %v", err)
				}
				if !strings.Contains(err.Error(), c.want) {
					return fmt.Errorf("%w; want %q", err, c.want)
				}
				return nil
			})
		})
	}
}

func TestJoinDenied(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.answer(false)
	enginetest.Wait(t, "the denial", func() error {
		err := agent.Join(t.Context(), h.joinOptions(), func(string, ...any) {})
		if err == nil {
			t.Fatal("joined")
		}
		if !strings.Contains(err.Error(), "the certificate was refused: the host has an agent already") {
			return err
		}
		return nil
	})
	if _, err := enrol.LoadIdentity(h.dir); err == nil {
		t.Error("an identity was written")
	}
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	until := from.Add(40 * 24 * time.Hour)
	seen := map[time.Time]bool{}
	for range 100 {
		at := enrol.RenewAt(from, until)
		if at.Before(from.Add(30*24*time.Hour)) || at.After(until.Add(-5*24*time.Hour)) {
			t.Fatalf("renewed at %s", at)
		}
		seen[at] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different times", len(seen))
	}
}
