// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/internal/controlplane"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runChild()
	}
	cptest.Main(m, cptest.Install(os.DirFS("testdata")))
}

var (
	widgets = schema.GroupVersionResource{Group: "test.dynors.com", Version: "v1", Resource: "widgets"}
	gadgets = schema.GroupVersionResource{Group: "test.dynors.com", Version: "v1", Resource: "gadgets"}
)

func object(kind, name string, owners ...metav1.OwnerReference) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.dynors.com/v1", "kind": kind}}
	o.SetName(name)
	o.SetOwnerReferences(owners)
	return o
}

func ownerRef(o *unstructured.Unstructured) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Name: o.GetName(), UID: o.GetUID()}
}

func dynamicClient(t *testing.T, config *rest.Config) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// gone is a check for cptest.Wait.
func gone(get func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		switch err := get(ctx); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		default:
			return errors.New("still there")
		}
	}
}

func TestAdminKubeconfigWorks(t *testing.T) {
	env := cptest.Start(t)
	config, err := clientcmd.BuildConfigFromFlags("", env.ControlPlane.AdminKubeconfigPath())
	if err != nil {
		t.Fatal(err)
	}
	who := whoami(t, config)
	if who.Username != controlplane.AdminUser || !slices.Contains(who.Groups, "system:masters") {
		t.Errorf("admin.kubeconfig belongs to %s %v", who.Username, who.Groups)
	}
	if config.Host != env.ControlPlane.AdvertiseURL() || config.Host != env.ControlPlane.LocalURL() {
		t.Errorf("admin.kubeconfig says %s, the control plane %s", config.Host, env.ControlPlane.AdvertiseURL())
	}
	if who := whoami(t, env.Config); who.Username != controlplane.ServerUser {
		t.Errorf("RESTConfig belongs to %s", who.Username)
	}
}

func whoami(t *testing.T, config *rest.Config) authenticationv1.UserInfo {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("ask who I am: %v", err)
	}
	return review.Status.UserInfo
}

func TestServedChainCanBePinned(t *testing.T) {
	env := cptest.Start(t)
	u, err := url.Parse(env.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true}) // like an agent that knows the pin alone
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	chain := conn.ConnectionState().PeerCertificates
	i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return controlplane.SPKIHash(c) == env.ControlPlane.CAHash() })
	if i < 1 || !chain[i].IsCA {
		t.Fatalf("the CA is not in the presented chain of %d", len(chain))
	}
	if err := chain[0].CheckSignatureFrom(chain[i]); err != nil {
		t.Error(err)
	}
}

func TestAnonymousReadsHealthAlone(t *testing.T) {
	env := cptest.Start(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(env.ControlPlane.CABundle())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	status := func(method, path string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, env.Config.Host+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		if got := status(http.MethodGet, path); got != http.StatusOK {
			t.Errorf("GET %s: %d, want 200", path, got)
		}
	}
	for _, path := range []string{
		"/", "/version", "/api", "/apis", "/api/v1/namespaces", "/api/v1/secrets", "/openapi/v2", "/openapi/v3", "/metrics",
		"/readyz/etcd", "/livez/../api/v1/secrets", "/.well-known/openid-configuration", "/openid/v1/jwks", "/debug/pprof/",
		"/apis/test.dynors.com/v1/widgets", "/readyz/",
	} {
		if got := status(http.MethodGet, path); got != http.StatusUnauthorized {
			t.Errorf("GET %s: %d, want 401", path, got)
		}
	}
	if got := status(http.MethodPost, "/apis/certificates.k8s.io/v1/certificatesigningrequests"); got != http.StatusUnauthorized {
		t.Errorf("POST of a certificate request: %d, want 401", got)
	}
}

func TestUserWithoutRightsReadsNothing(t *testing.T) {
	env := cptest.Start(t)
	config := env.User(t, "jane@dynors.com", "sirrat:qa")
	if who := whoami(t, config); who.Username != "jane@dynors.com" || !slices.Contains(who.Groups, "sirrat:qa") {
		t.Errorf("I am %s %v", who.Username, who.Groups)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list namespaces: %v, want forbidden", err)
	}
	if _, err := client.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want forbidden", err)
	}
}

func TestNamespaceWithCustomResourceIsDeleted(t *testing.T) {
	env := cptest.Start(t)
	ns := env.Namespace(t)
	client := dynamicClient(t, env.Config)
	if _, err := client.Resource(widgets).Namespace(ns).Create(t.Context(), object("Widget", "inside"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the default service account", func(ctx context.Context) error {
		_, err := env.Client.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err := env.Client.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the end of the namespace", gone(func(ctx context.Context) error {
		_, err := env.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return err
	}))
}

// A chain as SIRRAT builds it: a cluster-scoped custom resource owns a namespace
// and custom resources own each other.
func TestGarbageOfCustomResourcesIsCollected(t *testing.T) {
	env := cptest.Start(t)
	client, ctx := dynamicClient(t, env.Config), t.Context()
	root, err := client.Resource(gadgets).Create(ctx, object("Gadget", "root"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned, err := env.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "owned", OwnerReferences: []metav1.OwnerReference{ownerRef(root)}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns := env.Namespace(t)
	parent, err := client.Resource(widgets).Namespace(ns).Create(ctx, object("Widget", "parent", ownerRef(root)), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resource(widgets).Namespace(ns).Create(ctx, object("Widget", "child", ownerRef(parent)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resource(widgets).Namespace(ns).Create(ctx, object("Widget", "stranger"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Resource(gadgets).Delete(ctx, "root", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"parent", "child"} {
		cptest.Wait(t, "the end of "+name, gone(func(ctx context.Context) error {
			_, err := client.Resource(widgets).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
			return err
		}))
	}
	cptest.Wait(t, "the end of the owned namespace", gone(func(ctx context.Context) error {
		_, err := env.Client.CoreV1().Namespaces().Get(ctx, owned.Name, metav1.GetOptions{})
		return err
	}))
	if _, err := client.Resource(widgets).Namespace(ns).Get(ctx, "stranger", metav1.GetOptions{}); err != nil {
		t.Errorf("an object without owner was deleted: %v", err)
	}
}

// Whoever may patch an object but not delete it must not have it collected by
// giving it a dead owner.
func TestOwnerNeedsTheRightToDelete(t *testing.T) {
	env := cptest.Start(t)
	ns, ctx := env.Namespace(t), t.Context()
	admin := dynamicClient(t, env.Config)
	if _, err := admin.Resource(widgets).Namespace(ns).Create(ctx, object("Widget", "kept"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "editor"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{widgets.Group}, Resources: []string{"widgets"}, Verbs: []string{"get", "patch"}}}}
	if _, err := env.Client.RbacV1().Roles(ns).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "editor"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "editor"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "editor"}}}
	if _, err := env.Client.RbacV1().RoleBindings(ns).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	editor := dynamicClient(t, env.User(t, "editor"))
	patch := func(ctx context.Context, body string) error {
		_, err := editor.Resource(widgets).Namespace(ns).Patch(ctx, "kept", "application/merge-patch+json", []byte(body), metav1.PatchOptions{})
		return err
	}
	cptest.Wait(t, "the role to take effect", func(ctx context.Context) error {
		return patch(ctx, `{"metadata":{"labels":{"edited":"true"}}}`)
	})
	err := patch(ctx, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"none","uid":"00000000-0000-0000-0000-000000000000"}]}}`)
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want forbidden", err)
	}
}

func TestAggregatedRoleIsFilled(t *testing.T) {
	env := cptest.Start(t)
	roles := env.Client.RbacV1().ClusterRoles()
	label := map[string]string{"test.dynors.com/aggregate": "true"}
	rule := rbacv1.PolicyRule{APIGroups: []string{widgets.Group}, Resources: []string{"widgets"}, Verbs: []string{"get"}}
	for _, role := range []*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "test-sum"}, AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: label}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "test-part", Labels: label}, Rules: []rbacv1.PolicyRule{rule}},
	} {
		if _, err := roles.Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cptest.Wait(t, "the aggregated role", func(ctx context.Context) error {
		role, err := roles.Get(ctx, "test-sum", metav1.GetOptions{})
		if err == nil && len(role.Rules) == 0 {
			err = errors.New("no rules yet")
		}
		return err
	})
}

// bootstrapToken stores an enrolment token and returns a client configuration
// that uses it.
func bootstrapToken(t *testing.T, env *cptest.Env, id string, expires time.Time) *rest.Config {
	t.Helper()
	const secret = "0123456789abcdef"
	_, err := env.Client.CoreV1().Secrets("kube-system").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
			"auth-extra-groups": "system:bootstrappers:test", "expiration": expires.UTC().Format(time.RFC3339),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(env.Config)
	config.BearerToken = id + "." + secret
	return config
}

// The way of an agent: enrolment token, certificate request, approval, certificate.
func TestBootstrapTokenToClientCertificate(t *testing.T) {
	env := cptest.Start(t)
	config := bootstrapToken(t, env, "abcdef", time.Now().Add(time.Hour))
	var agent *kubernetes.Clientset
	cptest.Wait(t, "the token to be accepted", func(ctx context.Context) (err error) {
		if agent, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
		_, err = agent.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		return err
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject := pkix.Name{CommonName: "sirrat:host:web-1", Organization: []string{"sirrat:hosts"}}
	request := newRequest(t, key, subject)
	created, err := agent.CertificatesV1().CertificateSigningRequests().Create(t.Context(), request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if created.Spec.Username != "system:bootstrap:abcdef" {
		t.Errorf("the request is from %s", created.Spec.Username)
	}
	created.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test", Message: "approved by the test"}}
	if _, err := agent.CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), created.Name, created, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an agent approves its own request: %v", err)
	}
	if _, err := env.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), created.Name, created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	var issued []byte
	cptest.Wait(t, "the certificate", func(ctx context.Context) error {
		csr, err := agent.CertificatesV1().CertificateSigningRequests().Get(ctx, created.Name, metav1.GetOptions{})
		if err == nil && len(csr.Status.Certificate) == 0 {
			err = fmt.Errorf("not yet: %v", csr.Status.Conditions)
		}
		if err == nil {
			issued = csr.Status.Certificate
		}
		return err
	})
	checkIssued(t, env, issued, key, subject)
}

func newRequest(t *testing.T, key *ecdsa.PrivateKey, subject pkix.Name) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "host-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName:        certificatesv1.KubeAPIServerClientSignerName,
			Usages:            []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature},
			ExpirationSeconds: ptr.To(int32(3600)),
		},
	}
}

// checkIssued uses a certificate and looks at how long it lives.
func checkIssued(t *testing.T, env *cptest.Env, issued []byte, key *ecdsa.PrivateKey, subject pkix.Name) {
	t.Helper()
	block, _ := pem.Decode(issued)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(cert.NotAfter); left > time.Hour {
		t.Errorf("the certificate lives %s, want at most the hour that was asked for", left)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(env.Config)
	config.CertData = issued
	config.KeyData = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if who := whoami(t, config); who.Username != subject.CommonName || !slices.Contains(who.Groups, subject.Organization[0]) {
		t.Errorf("the certificate makes me %s %v", who.Username, who.Groups)
	}
}

func TestNobodyRequestsMasters(t *testing.T) {
	env := cptest.Start(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := newRequest(t, key, pkix.Name{CommonName: "mallory", Organization: []string{"system:masters"}})
	_, err = env.Client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), request, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want forbidden", err)
	}
}

func TestExpiredBootstrapTokenIsDeleted(t *testing.T) {
	env := cptest.Start(t)
	config := bootstrapToken(t, env, "expire", time.Now().Add(-time.Minute))
	cptest.Wait(t, "the end of the token", gone(func(ctx context.Context) error {
		_, err := env.Client.CoreV1().Secrets("kube-system").Get(ctx, "bootstrap-token-expire", metav1.GetOptions{})
		return err
	}))
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Discovery().ServerVersion(); !apierrors.IsUnauthorized(err) {
		t.Errorf("got %v, want unauthorized", err)
	}
}

func TestServiceAccountTokens(t *testing.T) {
	env := cptest.Start(t)
	ns, ctx := env.Namespace(t), t.Context()
	cptest.Wait(t, "the default service account", func(ctx context.Context) error {
		_, err := env.Client.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	request, err := env.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(env.Config)
	config.BearerToken = request.Status.Token
	if who := whoami(t, config); who.Username != "system:serviceaccount:"+ns+":default" {
		t.Errorf("the token makes me %s", who.Username)
	}
	secret, err := env.Client.CoreV1().Secrets(ns).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "long-lived", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
		Type:       corev1.SecretTypeServiceAccountToken}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the long-lived token", func(ctx context.Context) error {
		current, err := env.Client.CoreV1().Secrets(ns).Get(ctx, secret.Name, metav1.GetOptions{})
		if err == nil && len(current.Data[corev1.ServiceAccountTokenKey]) == 0 {
			err = errors.New("empty")
		}
		return err
	})
}

func TestSecondStartInOneProcess(t *testing.T) {
	cptest.Start(t)
	_, err := controlplane.Start(t.Context(), controlplane.Options{DataDir: t.TempDir(), Bind: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "only one") {
		t.Errorf("got %v", err)
	}
}
