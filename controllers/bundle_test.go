// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// known answers look-ups by the digest that was asked for.
type known struct{}

func (known) Resolve(_ context.Context, ref string) (string, error) {
	_, digest, _ := strings.Cut(ref, "@")
	return digest, nil
}

func (k known) Pin(ctx context.Context, ref string) (string, error) { return k.Resolve(ctx, ref) }

// TestImagesOfOneRepository: services name images by their repositories. Where two images of the project have one, and are not the same
// bytes, nobody could say which of them a service is, and each would take the other's tags.
func TestImagesOfOneRepository(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for name, c := range map[string]struct {
		second  v1alpha1.ProjectImage
		digest  string
		problem string
	}{
		"another repository": {v1alpha1.ProjectImage{Name: "worker", Repository: "r.example/worker"}, b, ""},
		"the same bytes":     {v1alpha1.ProjectImage{Name: "worker", Repository: "r.example/app"}, a, ""},
		"other bytes":        {v1alpha1.ProjectImage{Name: "worker", Repository: "r.example/app"}, b, "images backend and worker of spec.images of the Project are both in r.example/app"},
	} {
		p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: "r.example/app"}, c.second}}}
		r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Images: []v1alpha1.ReleaseImage{{Name: "backend", Digest: a}, {Name: "worker", Digest: c.digest}}}}
		got, err := newFreezer(nil, nil).freeze(t.Context(), p, r, nil, known{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if (got.message == "") != (c.problem == "") || !strings.Contains(got.message, c.problem) {
			t.Errorf("%s: %q", name, got.message)
		}
	}
}

// TestImagesThatMeetElsewhere: the same in an environment's own registry.
func TestImagesThatMeetElsewhere(t *testing.T) {
	images := []v1alpha1.FrozenImage{{Name: "backend", Repository: "r.example/backend", Digest: "sha256:a"}, {Name: "worker", Repository: "r.example/worker", Digest: "sha256:b"}}
	env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Registry: &v1alpha1.EnvironmentRegistry{Prefix: "h.example/erp"}}}
	env.Name = "production"
	if _, err := destinations(env, images); err != nil {
		t.Error(err)
	}
	env.Spec.Registry.Repositories = []v1alpha1.MirrorRepository{{Image: "worker", Repository: "h.example/erp/backend"}}
	const want = "spec.registry of Environment production puts images backend and worker into one repository, h.example/erp/backend"
	if _, err := destinations(env, images); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: "r.example/backend"}, {Name: "worker", Repository: "r.example/worker"}}}}
	if err := checkRegistry(env, p); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the environment says %v", err)
	}
	env.Spec.Registry.Repositories = []v1alpha1.MirrorRepository{{Image: "wroker", Repository: "h.example/erp/worker"}}
	if err := checkRegistry(env, p); err == nil || !strings.Contains(err.Error(), "spec.registry.repositories[0] of Environment production names image wroker, which is none") {
		t.Errorf("of a mistyped image the environment says %v", err)
	}
}
