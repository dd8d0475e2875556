// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// host is the control plane's side of a server: what the Host controller and enrolment would have made.
type host struct {
	testing.TB
	env       *cptest.Env
	name, uid string
	key       crypto.Signer
	public    map[string]string
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{TB: t, env: cptest.Start(t), name: fmt.Sprintf("f%08x", rand.Uint32()), uid: string(uuid.NewUUID())}
	var public []byte
	var err error
	if h.key, _, public, err = envelope.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	key, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	h.public = map[string]string{strings.TrimPrefix(key.ID, "sha256:"): string(public)}
	namespace := v1alpha1.HostNamespace(h.name)
	core := h.env.Client.CoreV1()
	_, err1 := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	_, err2 := core.ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuthorizationKeys}, Data: h.public,
	}, metav1.CreateOptions{})
	_, err3 := h.env.Client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sirrat-agent"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.AgentUser(h.name, h.uid)}},
	}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = core.Namespaces().Delete(context.Background(), namespace, metav1.DeleteOptions{}) })
	return h
}

var rollouts = schema.GroupVersionResource{Group: v1alpha1.Group, Version: "v1alpha1", Resource: "rollouts"}

func (h *host) objects() dynamic.ResourceInterface {
	h.Helper()
	c, err := dynamic.NewForConfig(h.env.Config)
	if err != nil {
		h.Fatal(err)
	}
	return c.Resource(rollouts).Namespace(v1alpha1.HostNamespace(h.name))
}

// apiAddress is the control plane's, as host:port.
func (h *host) apiAddress() string {
	h.Helper()
	u, err := url.Parse(h.env.ControlPlane.LocalURL())
	if err != nil {
		h.Fatal(err)
	}
	return u.Host
}

// enrolled writes an identity into a data folder, with a certificate that is valid between two times.
func (h *host) enrolled(dir, server string, from, until time.Time) {
	h.Helper()
	pki := filepath.Join(h.env.DataDir, "pki")
	pair, err1 := tls.LoadX509KeyPair(filepath.Join(pki, "client-ca.crt"), filepath.Join(pki, "client-ca.key"))
	ca, err2 := os.ReadFile(filepath.Join(pki, "ca.crt"))
	key, err3 := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		h.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(rand.Int64()),
		Subject:      pkix.Name{CommonName: v1alpha1.AgentUser(h.name, h.uid), Organization: []string{v1alpha1.AgentGroup}},
		NotBefore:    from, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	certificate, err1 := x509.CreateCertificate(cryptorand.Reader, template, pair.Leaf, key.Public(), pair.PrivateKey)
	private, err2 := x509.MarshalECPrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		h.Fatal(err)
	}
	identity := &enrol.Identity{
		Server: server, Host: h.name, HostUID: h.uid, CA: string(ca), AuthorizationKeys: h.public,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})),
	}
	if err := identity.Save(dir); err != nil {
		h.Fatal(err)
	}
}

// gateway makes the control plane reachable from a network namespace, through a relay that can be cut and frozen.
func (h *host) gateway(n *testbed.Namespace) (*relay, string) {
	h.Helper()
	listener, address := n.Listen(h), h.apiAddress()
	r := newRelay(h, listener, func() (net.Conn, error) { return net.Dial("tcp", address) })
	return r, "https://" + listener.Addr().String()
}
