// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/ingest"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// newHost makes a Host, without an agent, and waits until its namespace is ready for one.
func (b *bench) newHost(name string) *v1alpha1.Host {
	b.t.Helper()
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.HostSpec{Projects: []string{b.project}}}
	b.create(h)
	b.condition(h, v1alpha1.ConditionReady, metav1.ConditionFalse, "host add")
	return h
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate of the CA for clients, as the signer does, valid until then.
func (b *bench) issue(t *testing.T, user string, key *ecdsa.PrivateKey, until time.Time) string {
	t.Helper()
	pki := filepath.Join(b.env.DataDir, "pki") // as the control plane lays it out
	ca, err := tls.LoadX509KeyPair(filepath.Join(pki, "client-ca.crt"), filepath.Join(pki, "client-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user, Organization: []string{v1alpha1.AgentGroup}},
		NotBefore: until.Add(-2 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Revoking takes everything from the certificates there are: requests, watches under way, renewal, join commands.
func TestRevocationBitesAtOnce(t *testing.T) {
	b := newBench(t)
	h := b.newHost("revoked-host")
	b.host = h
	ns := v1alpha1.HostNamespace(h.Name)
	b.token("revok1")
	if csr := b.request(t, "revok1", v1alpha1.AgentUser(h.Name, string(h.UID)), []string{v1alpha1.AgentGroup}, nil); len(csr.Status.Certificate) == 0 {
		t.Fatal(csr.Status.Conditions)
	}
	b.condition(h, v1alpha1.ConditionEnrolled, metav1.ConditionTrue, "")
	b.token("revok2") // printed, and never used
	unused := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-revok2", Namespace: metav1.NamespaceSystem}}
	if err := b.patch(unused, `{"metadata":{"labels":{"`+v1alpha1.LabelHost+`":"`+h.Name+`"}}}`); err != nil {
		t.Fatal(err)
	}
	agent := func(revocations int64) *kubernetes.Clientset {
		key := newKey(t)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		user := v1alpha1.AgentUserAfter(h.Name, string(h.UID), revocations)
		c, err := kubernetes.NewForConfig(&rest.Config{Host: b.env.Config.Host, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
			CAData: b.env.Config.CAData, CertData: []byte(b.issue(t, user, key, time.Now().Add(time.Hour))),
			KeyData: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := agent(0)
	cptest.Wait(t, "the agent's rights", func(ctx context.Context) error {
		_, err := old.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{})
		return err
	})
	watch, err := old.CoreV1().Secrets(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	begun := time.Now()
	h.Spec.Revocations++
	if err := b.c.Update(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	ended := false
	for timeout := time.After(cptest.Deadline); !ended; {
		select {
		case _, open := <-watch.ResultChan():
			ended = !open
		case <-timeout:
			t.Fatal("the watch goes on")
		}
	}
	t.Logf("the open watch ended %s after the revocation", time.Since(begun).Round(time.Millisecond))
	if _, err := old.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a revoked agent lists secrets: %v", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = old.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: certificatesv1.KubeAPIServerClientSignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("a revoked agent asks for a certificate: %v", err)
	}
	b.condition(h, v1alpha1.ConditionEnrolled, metav1.ConditionFalse, "revoked")
	b.condition(h, v1alpha1.ConditionReady, metav1.ConditionFalse, "host add")
	err = b.c.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-revok2"}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the join command that nobody used: %v", err)
	}
	h.Spec.Revocations--
	if err := b.c.Update(t.Context(), h); !apierrors.IsInvalid(err) {
		t.Errorf("taken back: %v", err)
	}
	// A token from before, and the old name with a new one.
	b.token("revok3")
	if csr := b.request(t, "revok3", v1alpha1.AgentUser(h.Name, string(h.UID)), []string{v1alpha1.AgentGroup}, nil); !strings.Contains(csr.Status.Conditions[0].Message, "revoked") {
		t.Errorf("by a token from before: %+v", csr.Status.Conditions)
	}
	renewed := agent(1)
	cptest.Wait(t, "the rights of the next agent", func(ctx context.Context) error {
		_, err := renewed.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{})
		return err
	})
	// Deleted: at once too, long before the namespace is gone.
	if err := b.c.Delete(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the rights to end with the host", func(ctx context.Context) error {
		if _, err := renewed.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
}

// reenrolmentAPI is the HTTP API through which agents come back.
func reenrolmentAPI(t *testing.T) *httptest.Server {
	t.Helper()
	judge := controllers.Reenrolments(running.Manager.GetAPIReader(), time.Now)
	handler, err := ingest.New(ingest.Options{
		Client: running.Manager.GetClient(), APIReader: running.Manager.GetAPIReader(), Cache: running.Manager.GetCache(),
		Reenrol: func(ctx context.Context, host string, proof reenrol.Proof) error {
			err := judge(ctx, host, proof)
			if errors.Is(err, reenrol.ErrRefused) || errors.Is(err, controllers.ErrNoReenrolment) {
				return ingest.Refusal{Err: err}
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// expired is the identity of an agent that was away until long after its certificate's end, and the hash of its key.
func (b *bench) expired(t *testing.T, h *v1alpha1.Host, user, api string) (enrol.Identity, string) {
	t.Helper()
	key := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return enrol.Identity{
		Server: b.env.ControlPlane.LocalURL(), Host: h.Name, HostUID: string(h.UID), API: api, Certificate: b.issue(t, user, key, time.Now().Add(-24*time.Hour)),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}, reenrol.Hash(spki)
}

// An agent whose certificate has expired comes back by itself, and nobody else does in its name.
func TestExpiredAgentComesBack(t *testing.T) {
	b := newBench(t)
	h := b.newHost("expired-host")
	user := v1alpha1.AgentUser(h.Name, string(h.UID))
	server := reenrolmentAPI(t)
	mine, hash := b.expired(t, h, user, server.URL)
	newest := func(keys ...string) {
		cptest.Wait(t, "the host's keys", func(ctx context.Context) error {
			if err := b.c.Get(ctx, client.ObjectKeyFromObject(h), h); err != nil {
				return err
			}
			base := h.DeepCopy()
			h.Status.EnrolledBy, h.Status.CertificateKeys = "csr-0", keys
			return b.c.Status().Patch(ctx, h, client.MergeFrom(base))
		})
	}
	refused := func(what string, i enrol.Identity, want string) {
		t.Helper()
		if _, err := enrol.Again(t.Context(), i, "test", time.Now()); !errors.Is(err, enrol.ErrNoWayBack) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	newest("sha256:" + strings.Repeat("0", 64))
	refused("an older key", mine, "a newer certificate was issued")
	newest(hash)
	other, otherHash := b.expired(t, h, user+"0", server.URL)
	newest(hash, otherHash)
	refused("a name with the same prefix", other, "another host")
	next, err := enrol.Again(t.Context(), mine, "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if next.Certificate == mine.Certificate || next.Key == mine.Key {
		t.Error("not a new certificate for a new key")
	}
	if err := b.c.Get(t.Context(), client.ObjectKeyFromObject(h), h); err != nil || h.Status.CertificateKeys[0] != next.KeyHash() {
		t.Errorf("the newest key is %v, %v", h.Status.CertificateKeys, err)
	}
	var csrs certificatesv1.CertificateSigningRequestList
	if err := b.c.List(t.Context(), &csrs, client.MatchingLabels{v1alpha1.LabelReenrolment: h.Name}); err != nil || len(csrs.Items) != 1 ||
		csrs.Items[0].Status.Conditions[0].Reason != "SirratReenrolment" {
		t.Errorf("%d requests, %v", len(csrs.Items), err)
	}
	// A request with a proof that does not hold, made past the HTTP API.
	forged := csrs.Items[0].DeepCopy()
	forged.ObjectMeta = metav1.ObjectMeta{Name: "forged", Labels: forged.Labels, Annotations: forged.Annotations}
	forged.Status = certificatesv1.CertificateSigningRequestStatus{}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: []string{v1alpha1.AgentGroup}}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	forged.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	b.create(forged)
	cptest.Wait(t, "the forged request to be denied", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(forged), forged); err != nil {
			return err
		}
		if len(forged.Status.Conditions) == 0 || !strings.Contains(forged.Status.Conditions[0].Message, "for another request") {
			return fmt.Errorf("%+v", forged.Status.Conditions)
		}
		return nil
	})
	h.Spec.Revocations++
	if err := b.c.Update(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	refused("a revoked host", mine, "revoked")
	if err := b.c.Delete(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the host to be gone", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(h), h); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	refused("a deleted host", mine, "no such host")
}

// Whoever has no good proof learns nothing of which hosts there are, leaves nothing behind, and cannot keep the server busy.
func TestReenrolmentIsBounded(t *testing.T) {
	b := newBench(t)
	there := b.newHost("bounded-host")
	server := reenrolmentAPI(t)
	const absent = "bounded-nowhere"
	post := func(host string, body []byte) (int, string, http.Header) {
		answer, err := http.Post(server.URL+"/api/hosts/"+host+"/certificate", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text), answer.Header
	}
	another, _ := b.expired(t, there, v1alpha1.AgentUser("bounded-other", "0"), server.URL)
	strange, _ := b.expired(t, there, v1alpha1.AgentUser(there.Name, string(there.UID)), server.URL)
	strange.Certificate = selfSigned(t, strange.Key, v1alpha1.AgentUser(there.Name, string(there.UID)))
	huge := bytes.Repeat([]byte("x"), 4<<20)
	for name, c := range map[string]struct {
		body []byte
		code int
		want string
	}{
		"another host's agent": {proofOf(t, another), http.StatusForbidden, "another host"},
		"nobody's certificate": {proofOf(t, strange), http.StatusForbidden, "not one of this installation's agents"},
		"nothing":              {[]byte("{}"), http.StatusForbidden, "not one PEM block"},
		"no proof":             {[]byte("hello"), http.StatusBadRequest, "not a proof"},
		"more than is read":    {huge, http.StatusRequestEntityTooLarge, ""},
		"a large certificate":  {fmt.Appendf(nil, `{"certificate":%q}`, huge[:40<<10]), http.StatusForbidden, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			code, text, _ := post(there.Name, c.body)
			otherCode, otherText, _ := post(absent, c.body)
			if code != c.code || !strings.Contains(text, c.want) {
				t.Errorf("%d %s, want %d %q", code, text, c.code, c.want)
			}
			if otherCode != code || otherText != text {
				t.Errorf("a host that is there: %d %s\none that is not: %d %s", code, text, otherCode, otherText)
			}
		})
	}
	var csrs certificatesv1.CertificateSigningRequestList
	for _, host := range []string{there.Name, absent} {
		if err := b.c.List(t.Context(), &csrs, client.MatchingLabels{v1alpha1.LabelReenrolment: host}); err != nil || len(csrs.Items) != 0 {
			t.Errorf("%d requests for %s, %v", len(csrs.Items), host, err)
		}
	}
	const flood, burst, rate = 400, 100, 20 // as internal/ingest bounds them
	begun, looked := time.Now(), 0
	for range flood {
		code, _, header := post(there.Name, []byte("hello"))
		switch {
		case code == http.StatusBadRequest:
			looked++
		case code != http.StatusServiceUnavailable || header.Get("Retry-After") == "":
			t.Fatalf("%d, Retry-After %q", code, header.Get("Retry-After"))
		}
	}
	if most := burst + int(rate*time.Since(begun).Seconds()) + 1; looked > most || looked == flood {
		t.Errorf("%d of %d were looked at in %s, at most %d may be", looked, flood, time.Since(begun), most)
	}
}

// proofOf is what an agent sends.
func proofOf(t *testing.T, i enrol.Identity) []byte {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(i.Certificate), []byte(i.Key))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pair.Leaf.Subject}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	request := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	proof, err := reenrol.New(i.Certificate, request, pair.PrivateKey.(*ecdsa.PrivateKey), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(proof)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// selfSigned is a certificate that nobody issued, for a key (PEM).
func selfSigned(t *testing.T, key, user string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(key))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user, Organization: []string{v1alpha1.AgentGroup}},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.(*ecdsa.PrivateKey).Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Rotation and revocation of keys reach every host as statements that follow from what it pinned, and orders are signed by
// the new key only once the host was told.
func TestKeysRotate(t *testing.T) {
	b := newBench(t)
	h := b.newHost("rotation-host")
	ns := v1alpha1.HostNamespace(h.Name)
	read := func(name string) map[string]string {
		var cm corev1.ConfigMap
		if err := b.c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &cm); err != nil {
			t.Fatal(err)
		}
		return cm.Data
	}
	pinned := keyset.Set{Keys: map[string]string{}}
	for id, text := range read(v1alpha1.AuthorizationKeys) {
		pinned.Keys["sha256:"+id] = text
	}
	advance := func(what string, holds func(keyset.Set) error) {
		t.Helper()
		cptest.Wait(t, what, func(ctx context.Context) error {
			statements := map[int64]string{}
			for name, text := range read(v1alpha1.KeySets) {
				serial, err := strconv.ParseInt(name, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				statements[serial] = text
			}
			set, err := keyset.Advance(ctx, pinned, statements)
			if err != nil {
				return err
			}
			return holds(set)
		})
	}
	first := running.Keys.Verifiers()
	infos, err := controllers.RotateKeys(t.Context(), b.c, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	newer := infos[len(infos)-1].ID
	advance("the new key beside the old one", func(s keyset.Set) error {
		if s.Keys[newer] == "" || len(s.Keys) != 2 {
			return fmt.Errorf("%d keys", len(s.Keys))
		}
		return nil
	})
	if infos, err = controllers.RevokeKey(t.Context(), b.c, time.Now(), newer[len("sha256:"):][:12], "stolen"); err != nil {
		t.Fatal(err)
	}
	newest := infos[len(infos)-1].ID
	advance("the revocation of the key that signed", func(s keyset.Set) error {
		if s.Revoked[newer] == "" || s.Keys[newest] == "" || s.Keys[newer] != "" {
			return fmt.Errorf("%v", s)
		}
		return nil
	})
	cptest.Wait(t, "the running controllers to sign with the newest", func(context.Context) error {
		parsed := running.Keys.Verifiers()
		if len(parsed) != len(first)+2 {
			return fmt.Errorf("%d keys verify", len(parsed))
		}
		text, err := envelope.EncodePublicKey(running.Keys.Signer.Public())
		if err != nil {
			return err
		}
		if key, err := envelope.ParsePublicKey(string(text)); err != nil || key.ID != newest {
			return fmt.Errorf("it signs with %s, %w", key.ID, err)
		}
		return nil
	})
	if _, err := controllers.RotateKeys(t.Context(), b.c, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	advance("one key alone", func(s keyset.Set) error {
		if len(s.Keys) != 1 || len(s.Retired) != 2 || len(s.Revoked) != 1 {
			return fmt.Errorf("%d keys, %d retired, %d revoked", len(s.Keys), len(s.Retired), len(s.Revoked))
		}
		return nil
	})
	if _, err := controllers.RevokeKey(t.Context(), b.c, time.Now(), newer, "again"); err == nil {
		t.Error("revoked twice")
	}
}

// What an agent refuses is an event on its host and on the environment, with the agent's reason.
func TestRefusalsAreTold(t *testing.T) {
	b := newBench(t)
	b.setUp(b.compose())
	b.push("dev-" + commitA[:7])
	b.release(commitA)
	ro := b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	base := ro.DeepCopy()
	ro.Status.Phase, ro.Status.Message = v1alpha1.RolloutRejected, "signed by a key that was revoked: "+strings.Repeat("é", 600)
	ro.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRevokedKey, LastTransitionTime: metav1.Now(),
	}}
	if err := b.c.Status().Patch(t.Context(), ro, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	for kind, regarding := range map[string]struct{ namespace, name, note string }{
		"Host":        {"", b.host.Name, "refused " + ro.Name + " of " + b.project + "/dev"},
		"Environment": {b.project, "dev", "host " + b.host.Name + " refused release " + commitA[:7]},
	} {
		cptest.Wait(t, "the event on the "+kind, func(ctx context.Context) error {
			list, err := b.env.Client.EventsV1().Events("").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, e := range list.Items {
				about := e.Regarding.Kind == kind && e.Regarding.Namespace == regarding.namespace && e.Regarding.Name == regarding.name
				if about && e.Type == corev1.EventTypeWarning && e.Reason == v1alpha1.ReasonRevokedKey && strings.HasPrefix(e.Note, regarding.note) &&
					strings.Contains(e.Note, "revoked") && !strings.Contains(e.Note, "\ufffd") {
					return nil
				}
			}
			return fmt.Errorf("none among %d", len(list.Items))
		})
	}
}
