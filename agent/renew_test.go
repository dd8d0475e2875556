// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/ingest"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// absentee is a server whose agent is away for longer than its certificate lives.
type absentee struct {
	*server
	client client.Client
	host   *v1alpha1.Host
	api    *httptest.Server

	mu sync.Mutex
	// down says that the HTTP API breaks connections; asked are the moments at which it was asked for a certificate.
	down  bool
	asked []time.Time
}

// newAbsentee is a server that runs a container, with an agent that has ended, of a Host object that is really there, and
// the HTTP API with the controllers' judgement behind it.
func newAbsentee(t *testing.T) *absentee {
	t.Helper()
	s := unjoinedServer(t)
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.env.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	a := &absentee{server: s, client: c, host: &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: v1alpha1.HostSpec{Projects: []string{s.project}}}}
	if err := c.Create(t.Context(), a.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Delete(context.Background(), &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: s.name}})
	})
	s.uid = string(a.host.UID)
	s.admit()
	s.join()
	a.serve()
	stop := s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	stop()
	a.expire()
	return a
}

// serve runs the HTTP API.
func (a *absentee) serve() {
	a.Helper()
	informers, err := cache.New(a.env.Config, cache.Options{Scheme: a.client.Scheme()})
	if err != nil {
		a.Fatal(err)
	}
	go func() { _ = informers.Start(a.Context()) }() // ends with the test
	judge := controllers.Reenrolments(a.client, time.Now)
	handler, err := ingest.New(ingest.Options{
		Client: a.client, APIReader: a.client, Cache: informers,
		Reenrol: func(ctx context.Context, host string, proof reenrol.Proof) error {
			err := judge(ctx, host, proof)
			if errors.Is(err, reenrol.ErrRefused) || errors.Is(err, controllers.ErrNoReenrolment) {
				return ingest.Refusal{Err: err}
			}
			return err
		},
	})
	if err != nil {
		a.Fatal(err)
	}
	a.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		down := a.down
		a.asked = append(a.asked, time.Now())
		a.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	a.Cleanup(a.api.Close)
}

func (a *absentee) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

func (a *absentee) times() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Time(nil), a.asked...)
}

// expire puts an expired certificate for the same key in the place of the agent's, and has the control plane know the key.
func (a *absentee) expire() {
	a.Helper()
	identity := a.identity()
	pair, err1 := tls.X509KeyPair([]byte(identity.Certificate), []byte(identity.Key))
	pki := filepath.Join(a.env.DataDir, "pki") // as the control plane lays it out
	ca, err2 := tls.LoadX509KeyPair(filepath.Join(pki, "client-ca.crt"), filepath.Join(pki, "client-ca.key"))
	if err := errors.Join(err1, err2); err != nil {
		a.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Subject:   pkix.Name{CommonName: v1alpha1.AgentUser(a.name, a.uid), Organization: []string{v1alpha1.AgentGroup}},
		NotBefore: time.Now().Add(-30 * 24 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	}, ca.Leaf, pair.PrivateKey.(crypto.Signer).Public(), ca.PrivateKey)
	if err != nil {
		a.Fatal(err)
	}
	identity.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	identity.API = a.api.URL
	if err := identity.Save(a.dir); err != nil {
		a.Fatal(err)
	}
	base := a.host.DeepCopy()
	a.host.Status.EnrolledBy, a.host.Status.CertificateKeys = "csr-0", []string{identity.KeyHash()}
	if err := a.client.Status().Patch(a.Context(), a.host, client.MergeFrom(base)); err != nil {
		a.Fatal(err)
	}
}

func (a *absentee) identity() *enrol.Identity {
	a.Helper()
	identity, err := enrol.LoadIdentity(a.dir)
	if err != nil {
		a.Fatal(err)
	}
	return identity
}

// heals removes the container and waits for another one.
func (a *absentee) heals() {
	a.Helper()
	before := a.container("web").ID
	removeContainer(a, a.raw, before)
	enginetest.Wait(a, "the container to be healed", func() error {
		if c := a.container("web"); c.ID == "" || c.ID == before {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	a.serves("1")
}

// An agent whose certificate expired while it was away comes back with its key, by itself, as soon as there is somebody to
// ask, and works on. Until then it keeps what runs running, and asks less and less often.
func TestComesBack(t *testing.T) {
	t.Parallel()
	a := newAbsentee(t)
	before := a.identity()
	a.setDown(true)
	a.run()
	next := a.send(a.webOrder(2, a.registry.Image(t, "app", "VERSION=2")))
	a.heals()
	enginetest.Wait(t, "three tries", func() error {
		if n := len(a.times()); n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	asked := a.times()
	for i, atLeast := range []time.Duration{1600 * time.Millisecond, 3200 * time.Millisecond} {
		if gap := asked[i+1].Sub(asked[i]); gap < atLeast {
			t.Errorf("it asked again after %s, not %s or more", gap, atLeast)
		}
	}
	a.heals()
	a.setDown(false)
	a.await(next, v1alpha1.RolloutHealthy)
	a.serves("2")
	after := a.identity()
	if _, notAfter, err := after.Validity(); err != nil || time.Until(notAfter) < 24*time.Hour {
		t.Errorf("the certificate is valid until %s, %v", notAfter, err)
	}
	if after.Key == before.Key || after.KeySet != before.KeySet {
		t.Error("the key is the old one, or the keys that sign orders are others")
	}
}

// The agent of a revoked host does not come back; it keeps what runs running, and does not besiege the control plane.
func TestRevokedStaysAway(t *testing.T) {
	t.Parallel()
	a := newAbsentee(t)
	before := a.identity()
	a.host.Spec.Revocations++
	if err := a.client.Update(t.Context(), a.host); err != nil {
		t.Fatal(err)
	}
	a.run()
	enginetest.Wait(t, "the agent to say so", func() error {
		if said := a.log.String(); !strings.Contains(said, enrol.ErrNoWayBack.Error()) || !strings.Contains(said, "revoked") {
			return errors.New("it does not")
		}
		return nil
	})
	a.heals()
	a.heals()
	if n := len(a.times()); n != 1 {
		t.Errorf("it asked %d times", n)
	}
	if after := a.identity(); after.Certificate != before.Certificate || after.Key != before.Key {
		t.Error("its identity is another one")
	}
}
