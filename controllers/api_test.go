// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/install"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) },
		func(_ context.Context, e *cptest.Env) (err error) {
			if pageLinks, err = startLinks(ctx, e); err != nil {
				return err
			}
			running, err = controllertest.Start(ctx, e, controllertest.Options{Link: pageLinks.Of, Retry: 500 * time.Millisecond, ReplicationTimeout: cptest.Deadline})
			return err
		})
}

// running are the controllers that all tests share.
var running *controllertest.Running

// benches numbers projects: a benchmark runs several times in one process.
var benches atomic.Int32

// bench is one test's project, host and registry.
type bench struct {
	t       testing.TB
	env     *cptest.Env
	c       client.Client
	project string
	host    *v1alpha1.Host
	repo    string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, env: cptest.Start(t), project: fmt.Sprintf("p%d-%.20s", benches.Add(1), strings.ToLower(t.Name()))}
	b.c = b.clientFor(b.env.Config)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.repo = u.Host + "/backend"
	return b
}

func (b *bench) clientFor(cfg *rest.Config) client.Client {
	b.t.Helper()
	scheme, err := controllers.NewScheme()
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) create(o client.Object) {
	b.t.Helper()
	if err := b.c.Create(b.t.Context(), o); err != nil {
		b.t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

// setUp makes a project with one environment behind an automatic and one behind a manual gate, and an enrolled host.
func (b *bench) setUp(compose string) {
	b.t.Helper()
	b.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: b.repo}},
	}})
	b.ready(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}})
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: b.project}, Data: map[string][]byte{"PASSWORD": []byte("canary-5f1c")}})
	b.host = &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: b.project, Labels: map[string]string{"bench": b.project}}, Spec: v1alpha1.HostSpec{Projects: []string{b.project}}}
	b.create(b.host)
	b.enrol()
	hosts := &metav1.LabelSelector{MatchLabels: map[string]string{"bench": b.project}}
	for _, e := range []struct{ name, after string }{{"dev", ""}, {"production", "dev"}} {
		b.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: e.name, Namespace: b.project}, Spec: v1alpha1.EnvironmentSpec{
			After: e.after, Hosts: hosts, Compose: v1alpha1.ComposeSource{Inline: compose}, SecretRefs: []string{"app"},
		}})
	}
	b.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: b.project}, Spec: v1alpha1.QualityGateSpec{
		Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "images", Images: &v1alpha1.ImagesCriterion{}}},
	}})
	b.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}, Spec: v1alpha1.QualityGateSpec{
		Number: 1, Environment: "production", Mode: v1alpha1.ModeManual, Criteria: []v1alpha1.Criterion{
			{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: "dev"}},
			{Name: "cto", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1, AllowCreator: true}}},
	}})
}

// enrol says, as the enrolment controller does, that an agent holds a certificate.
func (b *bench) enrol() {
	b.t.Helper()
	cptest.Wait(b.t, "host to be enrolled", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(b.host), b.host); err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(b.host.Status.Conditions, v1alpha1.ConditionEnrolled) {
			return nil
		}
		b.host.Status.EnrolledBy = "test"
		if err := b.c.Status().Update(ctx, b.host); err != nil {
			return err
		}
		return fmt.Errorf("conditions %+v", b.host.Status.Conditions)
	})
}

func (b *bench) push(tag string) v1.Hash {
	b.t.Helper()
	img, err := random.Image(512, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	ref, err := name.NewTag(b.repo + ":" + tag)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		b.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	return digest
}

func (b *bench) release(commit string) *v1alpha1.Release {
	b.t.Helper()
	meta := metav1.ObjectMeta{Name: commit[:7], Namespace: b.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}}
	r := &v1alpha1.Release{ObjectMeta: meta, Spec: v1alpha1.ReleaseSpec{Commit: commit}}
	b.create(r)
	return r
}

// rollout waits for the newest Rollout of an environment to satisfy the check.
func (b *bench) rollout(environment string, check func(*v1alpha1.Rollout) error) *v1alpha1.Rollout {
	b.t.Helper()
	var newest v1alpha1.Rollout
	cptest.Wait(b.t, "rollout for "+environment, func(ctx context.Context) error {
		var list v1alpha1.RolloutList
		if err := b.c.List(ctx, &list, client.InNamespace(v1alpha1.HostNamespace(b.host.Name)), client.MatchingLabels{v1alpha1.LabelEnvironment: environment}); err != nil {
			return err
		}
		if len(list.Items) == 0 {
			var r v1alpha1.ReleaseList
			_ = b.c.List(ctx, &r, client.InNamespace(b.project))
			return fmt.Errorf("none; releases: %+v", r.Items)
		}
		newest = slices.MaxFunc(list.Items, func(x, y v1alpha1.Rollout) int { return int(x.Spec.Sequence - y.Spec.Sequence) })
		return check(&newest)
	})
	return &newest
}

// report writes a Rollout's phase as the agent of the host, with no more rights than it has.
func (b *bench) report(ro *v1alpha1.Rollout, phase string) {
	b.t.Helper()
	cfg := rest.CopyConfig(b.env.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: v1alpha1.AgentUser(b.host.Name, string(b.host.UID)), Groups: []string{v1alpha1.AgentGroup}}
	agent := b.clientFor(cfg)
	cptest.Wait(b.t, "report to be written", func(ctx context.Context) error {
		var current v1alpha1.Rollout
		if err := agent.Get(ctx, client.ObjectKeyFromObject(ro), &current); err != nil {
			return err
		}
		current.Status.Phase = phase
		current.Status.HealthySince = nil
		if phase == v1alpha1.RolloutHealthy {
			now := metav1.Now()
			current.Status.HealthySince = &now
		}
		return agent.Status().Update(ctx, &current)
	})
}

func (b *bench) ready(o client.Object) {
	b.t.Helper()
	b.condition(o, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
}

// condition waits for a condition of any kind, read as `kubectl wait` does.
func (b *bench) condition(o client.Object, typ string, status metav1.ConditionStatus, contains string) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("%T %s to be %s=%s", o, o.GetName(), typ, status), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		conditions := conditionsOf(o)
		c := meta.FindStatusCondition(conditions, typ)
		if c == nil || c.Status != status || !strings.Contains(c.Message, contains) {
			return fmt.Errorf("conditions %+v", conditions)
		}
		return nil
	})
}

func conditionsOf(o client.Object) []metav1.Condition {
	switch o := o.(type) {
	case *v1alpha1.Project:
		return o.Status.Conditions
	case *v1alpha1.Environment:
		return o.Status.Conditions
	case *v1alpha1.QualityGate:
		return o.Status.Conditions
	case *v1alpha1.Release:
		return o.Status.Conditions
	case *v1alpha1.Host:
		return o.Status.Conditions
	}
	return nil
}

const webCompose = `services:
  web:
    image: %s
    environment: {PASSWORD: "${PASSWORD}"}
`

func (b *bench) compose() string { return fmt.Sprintf(webCompose, b.repo) }

const commitA = "aaaaaaa4e5f60718293a4b5c6d7e8f9001122334"

func TestTagMovedAfterFreezing(t *testing.T) {
	b := newBench(t)
	first := b.push("dev-aaaaaaa")
	b.setUp(b.compose())
	b.release(commitA)
	want := b.repo + "@" + first.String()
	ro := b.rollout("dev", func(ro *v1alpha1.Rollout) error {
		if got := ro.Spec.Images[0].Image; got != want {
			return fmt.Errorf("image %s, want %s", got, want)
		}
		return nil
	})
	second := b.push("dev-aaaaaaa") // somebody moves the tag
	b.report(ro, v1alpha1.RolloutHealthy)
	rel := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "aaaaaaa", Namespace: b.project}}
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	production := b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
	if got := production.Spec.Images[0].Image; got != want {
		t.Errorf("production runs %s, want %s (the moved tag is %s)", got, want, second)
	}
	cptest.Wait(t, "the tag of production to name the frozen digest", func(context.Context) error {
		ref, err := name.NewTag(b.repo + ":production-aaaaaaa")
		if err != nil {
			return err
		}
		desc, err := remote.Head(ref)
		if err != nil {
			return err
		}
		if desc.Digest != first {
			return fmt.Errorf("%s", desc.Digest)
		}
		return nil
	})
	b.checkAuthorization(production)
	b.checkNoCanary()
}

func (b *bench) annotate(o client.Object, key, value string) {
	b.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value))
	if err := b.c.Patch(b.t.Context(), o, patch); err != nil {
		b.t.Fatal(err)
	}
}

// checkAuthorization verifies a Rollout as checkSigned does, and that its secret was delivered.
func (b *bench) checkAuthorization(ro *v1alpha1.Rollout) {
	b.t.Helper()
	b.checkSigned(ro)
	var secret corev1.Secret
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: ro.Namespace, Name: ro.Spec.SecretRefs[0]}, &secret); err != nil || string(secret.Data["PASSWORD"]) != "canary-5f1c" {
		b.t.Errorf("secret not delivered: %v", err)
	}
}

// checkSigned verifies a Rollout with what an agent would have: the published keys and its own name.
func (b *bench) checkSigned(ro *v1alpha1.Rollout) {
	b.t.Helper()
	var cm corev1.ConfigMap
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: ro.Namespace, Name: v1alpha1.AuthorizationKeys}, &cm); err != nil {
		b.t.Fatal(err)
	}
	var keys []envelope.PublicKey
	for _, text := range cm.Data {
		key, err := envelope.ParsePublicKey(text)
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, key)
	}
	host := authorization.Host{Name: b.host.Name, UID: string(b.host.UID)}
	if _, err := authorization.Verify(b.t.Context(), ro.Spec, host, time.Now(), 0, false, authorization.Trust{Keys: keys}); err != nil {
		b.t.Errorf("an agent would refuse it: %v", err)
	}
}

// checkNoCanary looks for the secret's value in everything that people and programs read.
func (b *bench) checkNoCanary() {
	b.t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.ReleaseList{}, &v1alpha1.EnvironmentList{}, &v1alpha1.RolloutList{}, &v1alpha1.ProjectList{}, &corev1.EventList{}} {
		if err := b.c.List(b.t.Context(), list); err != nil {
			b.t.Fatal(err)
		}
		if strings.Contains(fmt.Sprintf("%+v", list), "canary-5f1c") {
			b.t.Errorf("the secret's value is in %T", list)
		}
	}
}

func TestInvalidComposeFileIsNamed(t *testing.T) {
	b := newBench(t)
	b.push("dev-aaaaaaa")
	b.setUp("services:\n  web:\n    image: x\n    privileged: true\n")
	b.condition(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}, v1alpha1.ConditionReady, metav1.ConditionFalse, "privileged")
	rel := b.release(commitA)
	b.condition(rel, v1alpha1.ConditionStalled, metav1.ConditionTrue, "mends the Environment dev")
	if len(rel.Status.Environments) != 0 {
		t.Errorf("authorised: %+v", rel.Status.Environments)
	}
}

func TestRemovedPolicyWithholdsApprovals(t *testing.T) {
	b := newBench(t)
	b.push("dev-aaaaaaa")
	b.setUp(b.compose())
	rel := b.release(commitA)
	b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "sirrat-approvals"}}
	if err := b.c.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := install.Apply(context.Background(), b.env.Config); err != nil {
			t.Error(err)
		}
	})
	b.condition(rel, v1alpha1.ConditionApprovalsGuarded, metav1.ConditionFalse, "missing")
	forged := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"anybody"}}}`, v1alpha1.ApprovalPrefix+"production"))
	cptest.Wait(t, "the API server to notice that nothing protects approvals", func(ctx context.Context) error {
		return b.c.Patch(ctx, rel.DeepCopy(), forged)
	})
	b.condition(rel, v1alpha1.ConditionStalled, metav1.ConditionTrue, "restores the admission policy")
	if err := install.Apply(t.Context(), b.env.Config); err != nil {
		t.Fatal(err)
	}
	b.condition(rel, v1alpha1.ConditionApprovalsGuarded, metav1.ConditionTrue, "")
	b.condition(rel, v1alpha1.ConditionStalled, metav1.ConditionTrue, "approv")
	if len(rel.Status.Approvals) != 1 || rel.Status.Approvals[0].Stale == "" {
		t.Errorf("the forged approval counts: %+v", rel.Status.Approvals)
	}
}

func TestDeletedProjectLeavesNothingBehind(t *testing.T) {
	b := newBench(t)
	b.push("dev-aaaaaaa")
	b.setUp(b.compose())
	b.release(commitA)
	b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}
	if err := b.c.Delete(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var left error
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("last seen: ", left)
		}
	})
	cptest.Wait(t, "everything to be gone", func(ctx context.Context) (err error) {
		defer func() {
			if ctx.Err() == nil {
				left = err
			}
		}()
		if err := b.c.Get(ctx, client.ObjectKey{Name: b.project}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace: %w", err)
		}
		if err := b.c.Get(ctx, client.ObjectKey{Name: b.project}, p); !apierrors.IsNotFound(err) {
			return fmt.Errorf("project: %w", err)
		}
		for _, list := range []client.ObjectList{&v1alpha1.RolloutList{}, &corev1.SecretList{}} {
			if err := b.c.List(ctx, list, client.MatchingLabels{v1alpha1.LabelProject: b.project}); err != nil {
				return err
			}
			if n := meta.LenList(list); n > 0 {
				return fmt.Errorf("%d left of %T", n, list)
			}
		}
		return nil
	})
}

func TestForeignNamespaceIsNotTaken(t *testing.T) {
	b := newBench(t)
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.project}})
	p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{Maven: []string{"com.dynors:core"}}}
	b.create(p)
	b.condition(p, v1alpha1.ConditionReady, metav1.ConditionFalse, "is not ours")
}

func TestTemplateIsCompleteAndKeptAsEdited(t *testing.T) {
	b := newBench(t)
	p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		Template: v1alpha1.TemplateDynors, Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: b.repo}},
	}}
	b.create(p)
	b.ready(p)
	for _, g := range []string{"ci", "qa", "client", "production"} {
		b.ready(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: g, Namespace: b.project}})
	}
	dev := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}
	b.condition(dev, v1alpha1.ConditionReady, metav1.ConditionFalse, "no Host carries the labels")
	edit := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"url":"https://dev.example"}}`))
	if err := b.c.Patch(t.Context(), dev, edit); err != nil {
		t.Fatal(err)
	}
	b.annotate(p, "touched", "again")
	b.condition(dev, v1alpha1.ConditionReady, metav1.ConditionFalse, "")
	if dev.Spec.URL != "https://dev.example" {
		t.Error("the template took an edit back")
	}
}

// TestEnrolment plays THREATS case 13 against the real signer.
func TestEnrolment(t *testing.T) {
	b := newBench(t)
	b.host = &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "vps-1"}, Spec: v1alpha1.HostSpec{Projects: []string{"p"}}}
	b.create(b.host)
	b.condition(b.host, v1alpha1.ConditionReady, metav1.ConditionFalse, "host add")
	mine := v1alpha1.AgentUser("vps-1", string(b.host.UID))
	for _, c := range []struct {
		name, token, cn string
		orgs            []string
		change          func(*x509.CertificateRequest)
		want            string // "" for approved, else part of the denial
	}{
		{name: "another host's name", token: "aaaaa1", cn: v1alpha1.AgentUser("vps-2", string(b.host.UID)), want: "the name must be exactly"},
		{name: "a name with the same prefix", token: "aaaaa1", cn: mine + "0", want: "the name must be exactly"},
		{name: "an extra organisation", token: "aaaaa1", cn: mine, orgs: []string{v1alpha1.AgentGroup, "sirrat-operators"}, want: "only organisation"},
		{name: "no organisation", token: "aaaaa1", cn: mine, orgs: []string{}, want: "only organisation"},
		{name: "alternative names", token: "aaaaa1", cn: mine, change: func(r *x509.CertificateRequest) { r.DNSNames = []string{"kubernetes"} }, want: "no alternative names"},
		{name: "as it should be", token: "aaaaa1", cn: mine},
		{name: "the token again", token: "aaaaa1", cn: mine, want: "already used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "the token again" {
				b.token(c.token)
			}
			if c.orgs == nil {
				c.orgs = []string{v1alpha1.AgentGroup}
			}
			csr := b.request(t, c.token, c.cn, c.orgs, c.change)
			switch {
			case c.want == "" && len(csr.Status.Certificate) == 0:
				t.Errorf("denied: %+v", csr.Status.Conditions)
			case c.want != "" && !strings.Contains(csr.Status.Conditions[0].Message, c.want):
				t.Errorf("got %+v, want %q", csr.Status.Conditions, c.want)
			}
		})
	}
	b.condition(b.host, v1alpha1.ConditionEnrolled, metav1.ConditionTrue, "")
}

func (b *bench) token(id string) {
	b.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id, Namespace: metav1.NamespaceSystem}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
			"auth-extra-groups": "system:bootstrappers:sirrat," + v1alpha1.EnrolGroupPrefix + b.host.Name + ":" + string(b.host.UID)}}
	if err := b.c.Create(b.t.Context(), s); err != nil && !apierrors.IsAlreadyExists(err) {
		b.t.Fatal(err)
	}
}

// request asks for a certificate with a bootstrap token's identity and waits for the answer.
func (b *bench) request(t *testing.T, token, cn string, orgs []string, change func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: orgs}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.CopyConfig(b.env.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:bootstrap:" + token,
		Groups: []string{"system:bootstrappers", "system:bootstrappers:sirrat", v1alpha1.EnrolGroupPrefix + b.host.Name + ":" + string(b.host.UID)}}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "enrol-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificatesv1.KubeAPIServerClientSignerName,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature},
		},
	}
	if err := b.clientFor(cfg).Create(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "an answer", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(csr), csr); err != nil {
			return err
		}
		if len(csr.Status.Conditions) == 0 || csr.Status.Conditions[0].Type == certificatesv1.CertificateApproved && len(csr.Status.Certificate) == 0 {
			return fmt.Errorf("status %+v", csr.Status.Conditions)
		}
		return nil
	})
	return csr
}
