// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// newRegistryBench is a bench whose images are in Debian's docker-registry, whose account is in a Secret of the project.
func newRegistryBench(t *testing.T, o registrytest.Options) (*bench, *registrytest.Registry) {
	t.Helper()
	b, r := newBench(t), registrytest.Start(t, o)
	b.repo = r.Host + "/backend"
	b.setUp(b.compose())
	data := map[string][]byte{corev1.DockerConfigJsonKey: r.DockerConfig()}
	if o.TLS {
		data["ca.crt"] = r.CA()
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: b.project}, Type: corev1.SecretTypeDockerConfigJson, Data: data})
	for text, o := range map[string]client.Object{
		`{"spec":{"registrySecretRef":"registry"}}`:     &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}},
		`{"spec":{"tags":["{{ .Version }}","latest"]}}`: &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}},
	} {
		if err := b.patch(o, text); err != nil {
			t.Fatal(err)
		}
	}
	return b, r
}

// version makes a release of commit A as v1.3.0.
func (b *bench) version() *v1alpha1.Release {
	b.t.Helper()
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: commitA[:7], Namespace: b.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commitA, Version: "v1.3.0"},
	}
	b.create(r)
	return r
}

// cross takes a release into production.
func (b *bench) cross(rel *v1alpha1.Release) {
	b.t.Helper()
	b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
}

// told waits for a condition with a reason and texts.
func (b *bench) told(rel *v1alpha1.Release, typ, reason string, texts ...string) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("%s to be for the reason %s", typ, reason), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		c := meta.FindStatusCondition(rel.Status.Conditions, typ)
		if c == nil || c.Reason != reason {
			return fmt.Errorf("conditions %+v", rel.Status.Conditions)
		}
		for _, text := range texts {
			if !strings.Contains(c.Message, text) {
				return fmt.Errorf("%q does not say %q", c.Message, text)
			}
		}
		return nil
	})
	c := meta.FindStatusCondition(rel.Status.Conditions, typ)
	if strings.Contains(c.Message, registrytest.Password) {
		b.t.Errorf("the password is in %q", c.Message)
	}
	b.t.Logf("%s=%s %s: %s", typ, c.Status, c.Reason, c.Message)
}

// TestBridgeOnDockerRegistry crosses the bridge with the image in a registry that knows who asks: every tag names the index.
func TestBridgeOnDockerRegistry(t *testing.T) {
	for _, o := range []registrytest.Options{{Auth: registrytest.Htpasswd}, {Auth: registrytest.Token, TLS: true}} {
		t.Run(o.Auth, func(t *testing.T) {
			b, r := newRegistryBench(t, o)
			digest := r.Push("backend", "dev-aaaaaaa")
			rel := b.version()
			b.cross(rel)
			b.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagged)
			cptest.Wait(t, "the tags of production", func(ctx context.Context) error {
				if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
					return err
				}
				if len(rel.Status.Environments) < 2 || len(rel.Status.Environments[1].Tags) < 2 {
					return fmt.Errorf("environments %+v", rel.Status.Environments)
				}
				return nil
			})
			if diff := cmp.Diff([]string{"v1.3.0", "latest"}, rel.Status.Environments[1].Tags); diff != "" {
				t.Error(diff)
			}
			for _, tag := range []string{"dev-aaaaaaa", "v1.3.0", "latest"} {
				if got := r.Digest("backend", tag); got != digest {
					t.Errorf("%s names %s, want %s", tag, got, digest)
				}
			}
			puts := 0
			for _, s := range r.Take() {
				if s.Blob() {
					t.Errorf("a blob moved: %+v", s)
				}
				if s.Method == http.MethodPut {
					puts++
				}
			}
			if puts != 2 {
				t.Errorf("%d manifests were written, want 2", puts)
			}
		})
	}
}

// TestVersionTagIsNeverOverwritten: the release says what is in its way, deploys all the same, and has its other tags.
func TestVersionTagIsNeverOverwritten(t *testing.T) {
	b, r := newRegistryBench(t, registrytest.Options{Auth: registrytest.Htpasswd})
	other := r.Push("backend", "v1.3.0")
	digest := r.Push("backend", "dev-aaaaaaa")
	rel := b.version()
	b.cross(rel)
	b.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagTaken, "v1.3.0", other, digest, "another version", "tried again by itself at")
	if got := r.Digest("backend", "v1.3.0"); got != other {
		t.Errorf("v1.3.0 names %s, want %s", got, other)
	}
	if got := r.Digest("backend", "latest"); got != digest {
		t.Errorf("latest names %s, want %s", got, digest)
	}
}

// refusing answers what is chosen with a status and headers.
func refusing(method, path string, status int, headers ...string) registrytest.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if method != "" && r.Method != method || !strings.Contains(r.URL.Path, path) {
			return false
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		return true
	}
}

// TestRegistryFaultsWhileFreezing: the release says what is wrong, is authorised for nothing, and goes on by itself.
func TestRegistryFaultsWhileFreezing(t *testing.T) {
	for name, c := range map[string]struct {
		fault  registrytest.Fault
		reason string
		says   []string
	}{
		"429":              {refusing("", "/manifests/", 429, "Retry-After: 2"), v1alpha1.ReasonRegistryBusy, []string{"too many requests", "tried again by itself at"}},
		"503":              {refusing("", "/manifests/", 503), v1alpha1.ReasonRegistryBusy, []string{"503", "tried again by itself at"}},
		"500 of the login": {refusing("", "/token", 500), v1alpha1.ReasonRegistryError, []string{"500"}},
		"404":              {refusing("", "/manifests/", 404), v1alpha1.ReasonImageNotFound, []string{"not in the registry"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := newRegistryBench(t, registrytest.Options{Auth: registrytest.Token})
			digest := r.Push("backend", "dev-aaaaaaa")
			r.Misbehave(c.fault)
			rel := b.version()
			b.told(rel, v1alpha1.ConditionFrozen, c.reason, c.says...)
			if len(rel.Status.Environments) != 0 {
				t.Errorf("authorised: %+v", rel.Status.Environments)
			}
			r.Misbehave(nil)
			b.told(rel, v1alpha1.ConditionFrozen, v1alpha1.ReasonResolved)
			ro := b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
			if got := ro.Spec.Images[0].Image; got != b.repo+"@"+digest {
				t.Errorf("%s is deployed, want %s", got, digest)
			}
		})
	}
}

// TestRegistryFaultsWhileTagging: the release says what is wrong and is deployed all the same, since that goes by digest; the
// tags come by themselves once the registry is well.
func TestRegistryFaultsWhileTagging(t *testing.T) {
	for name, c := range map[string]struct {
		fault  registrytest.Fault
		reason string
		says   []string
		heals  bool // within the time that a test takes
	}{
		"429":           {refusing(http.MethodPut, "/manifests/", 429, "Retry-After: 2"), v1alpha1.ReasonRegistryBusy, []string{"429"}, true},
		"507":           {refusing(http.MethodPut, "/manifests/", 507), v1alpha1.ReasonRegistryFull, []string{"out of room"}, true},
		"500":           {refusing(http.MethodPut, "/manifests/", 500), v1alpha1.ReasonRegistryError, []string{"full disk"}, true},
		"immutable tag": {refusing(http.MethodPut, "/manifests/latest", 412), v1alpha1.ReasonTagImmutable, []string{"latest", "immutable"}, false},
		"protected tag": {refusing(http.MethodPut, "/manifests/v1.3.0", 403), v1alpha1.ReasonRegistryDenied, []string{"v1.3.0", "protected"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := newRegistryBench(t, registrytest.Options{Auth: registrytest.Htpasswd})
			digest := r.Push("backend", "dev-aaaaaaa")
			r.Misbehave(c.fault)
			rel := b.version()
			b.cross(rel)
			b.told(rel, v1alpha1.ConditionTagged, c.reason, append(c.says, "tried again by itself at")...)
			r.Misbehave(nil)
			if !c.heals {
				return
			}
			b.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagged)
			for _, tag := range []string{"v1.3.0", "latest"} {
				if got := r.Digest("backend", tag); got != digest {
					t.Errorf("%s names %q, want %s", tag, got, digest)
				}
			}
		})
	}
}
