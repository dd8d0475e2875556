// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var (
	mirroredDigest = "sha256:" + strings.Repeat("1", 64)
	otherDigest    = "sha256:" + strings.Repeat("2", 64)
)

// Nothing is sent to hosts before their own registry proved, since the release was let in, that it serves these very digests. A way back
// alone is not held up by a registry that cannot be asked, and only where it had proved the same before.
func TestUnmirrored(t *testing.T) {
	let := metav1.NewMicroTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	before := metav1.NewMicroTime(let.Add(-time.Hour))
	frozen := func(repository, digest string) []v1alpha1.FrozenImage {
		return []v1alpha1.FrozenImage{{Name: "backend", Repository: repository, Digest: digest}}
	}
	const there = "client.example/shop/backend"
	type change func(*v1alpha1.Release, *v1alpha1.Environment)
	mirror := func(environment string, images []v1alpha1.FrozenImage, at metav1.MicroTime) change {
		return func(r *v1alpha1.Release, _ *v1alpha1.Environment) {
			r.Status.Mirrors = []v1alpha1.ReleaseMirror{{Environment: environment, Images: images, AuthorizedAt: at}}
		}
	}
	says := func(reason, message string) change {
		return func(r *v1alpha1.Release, _ *v1alpha1.Environment) {
			setCondition(&r.Status.Conditions, 1, v1alpha1.ConditionMirrored, false, reason, message)
		}
	}
	back := change(func(r *v1alpha1.Release, _ *v1alpha1.Environment) { r.Status.Environments[0].Rollback = "uid" })
	proved, earlier := mirror("prod", frozen(there, mirroredDigest), let), mirror("prod", frozen(there, mirroredDigest), before)
	away := says(v1alpha1.ReasonRegistryBusy, "prod: it is away")
	const copied = "its images are copied to client.example/shop"
	for _, c := range []struct {
		name    string
		changes []change
		want    string
	}{
		{"no registry of its own", []change{func(_ *v1alpha1.Release, e *v1alpha1.Environment) { e.Spec.Registry = nil }}, ""},
		{"no images", []change{func(r *v1alpha1.Release, _ *v1alpha1.Environment) { r.Status.Bundle.Images = nil }}, ""},
		{"not frozen", []change{proved, func(r *v1alpha1.Release, _ *v1alpha1.Environment) { r.Status.Bundle = nil }}, copied},
		{"proved", []change{proved}, ""},
		{"nothing proved", nil, copied},
		{"and it is said why", []change{away}, copied + ": it is away"},
		{"said of another environment", []change{says(v1alpha1.ReasonRegistryBusy, "test: it is away")}, copied},
		{"proved when it was let in before", []change{earlier}, copied},
		{"proved for another environment", []change{mirror("test", frozen(there, mirroredDigest), let)}, copied},
		{"proved of another digest", []change{mirror("prod", frozen(there, otherDigest), let)}, copied},
		{"proved of another repository", []change{mirror("prod", frozen("client.example/old/backend", mirroredDigest), let)}, copied},
		{"proved of nothing", []change{mirror("prod", nil, let)}, copied},
		{"proved, and not let in", []change{proved, func(r *v1alpha1.Release, _ *v1alpha1.Environment) { r.Status.Environments = nil }}, copied},
		{"a way back, and the registry is away", []change{earlier, away, back}, ""},
		{"no way back, and the registry is away", []change{earlier, away}, copied + ": it is away"},
		{"a way back to what was never there", []change{away, back}, copied + ": it is away"},
		{"a way back to another digest", []change{mirror("prod", frozen(there, otherDigest), before), away, back}, copied + ": it is away"},
		{"a way back, and the registry has other bytes", []change{earlier, says(v1alpha1.ReasonDigestMismatch, "prod: other bytes"), back}, copied + ": other bytes"},
		{"a way back, and nothing was asked yet", []change{earlier, back}, copied},
		{"a way back, and it is another environment's registry that is away", []change{earlier, says(v1alpha1.ReasonRegistryBusy, "test: it is away"), back}, copied},
	} {
		rel := &v1alpha1.Release{Status: v1alpha1.ReleaseStatus{
			Bundle:       &v1alpha1.Bundle{Images: frozen("r.example/shop/backend", mirroredDigest)},
			Environments: []v1alpha1.ReleaseEnvironment{{Name: "prod", AuthorizedAt: let}},
		}}
		env := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{Registry: &v1alpha1.EnvironmentRegistry{Prefix: "client.example/shop"}}}
		for _, f := range c.changes {
			f(rel, env)
		}
		if got := unmirrored(rel, *env); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Hosts pull what was approved, from where their environment says, and nothing else from there.
func TestPulledFrom(t *testing.T) {
	images := []v1alpha1.FrozenImage{
		{Name: "backend", Repository: "r.example/shop/backend", Digest: mirroredDigest}, {Name: "web", Repository: "r.example/shop/web", Digest: otherDigest},
	}
	services := []v1alpha1.ServiceImage{
		{Service: "api", Image: "r.example/shop/backend@" + mirroredDigest}, {Service: "old", Image: "r.example/shop/backend@" + otherDigest},
		{Service: "web", Image: "r.example/shop/web@" + otherDigest}, {Service: "db", Image: "docker.io/library/postgres@" + mirroredDigest},
	}
	for _, c := range []struct {
		name string
		own  *v1alpha1.EnvironmentRegistry
		want string // of the services in order; "" is refused
	}{
		{"from where they are", nil, "r.example/shop/backend r.example/shop/backend r.example/shop/web docker.io/library/postgres"},
		{"below a prefix", &v1alpha1.EnvironmentRegistry{Prefix: "client.example/x"}, "client.example/x/backend r.example/shop/backend client.example/x/web docker.io/library/postgres"},
		{"one of them elsewhere", &v1alpha1.EnvironmentRegistry{Prefix: "client.example/x", Repositories: []v1alpha1.MirrorRepository{{Image: "web", Repository: "client.example/y/front"}}},
			"client.example/x/backend r.example/shop/backend client.example/y/front docker.io/library/postgres"},
		{"one of them nowhere", &v1alpha1.EnvironmentRegistry{Repositories: []v1alpha1.MirrorRepository{{Image: "web", Repository: "client.example/y/front"}}}, ""},
		{"two in one place", &v1alpha1.EnvironmentRegistry{Prefix: "client.example/x", Repositories: []v1alpha1.MirrorRepository{{Image: "web", Repository: "client.example/x/backend"}}}, ""},
		{"a place that is none", &v1alpha1.EnvironmentRegistry{Prefix: "client.example/X Y"}, ""},
	} {
		env := v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{Registry: c.own}}
		got, err := pulledFrom(env, &v1alpha1.Bundle{Images: images}, services)
		var from []string
		for i, s := range got {
			repository, digest, _ := strings.Cut(s.Image, "@")
			if _, want, _ := strings.Cut(services[i].Image, "@"); digest != want || s.Service != services[i].Service {
				t.Errorf("%s: %s became %s", c.name, services[i].Image, s.Image)
			}
			from = append(from, repository)
		}
		if diff := cmp.Diff(c.want, strings.Join(from, " ")); diff != "" || (err == nil) != (c.want != "") {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
}
