// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

func TestWhichTagsMove(t *testing.T) {
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", Version: "v1.3.0", Branch: "main"}}
	none := r.DeepCopy()
	none.Spec.Version = ""
	stay, move := false, true
	for _, c := range []struct {
		release   *v1alpha1.Release
		templates []string
		want      []wantedTag
	}{
		{r, nil, []wantedTag{{"dev-a1b2c3d", move, true}}},
		{r, []string{"{{ .Version }}", "latest"}, []wantedTag{{"v1.3.0", stay, true}, {"latest", move, false}}},
		{r, []string{"rc-{{ .Version }}"}, []wantedTag{{"rc-v1.3.0", stay, true}}},
		{r, []string{"latest"}, []wantedTag{{"latest", move, false}, {"dev-a1b2c3d", move, true}}},
		{r, []string{"{{ .Branch }}", "{{ .Environment }}"}, []wantedTag{{"main", move, false}, {"dev", move, false}, {"dev-a1b2c3d", move, true}}},
		{r, []string{"2.0.0-rc.1", "{{ .SHA7 }}"}, []wantedTag{{"2.0.0-rc.1", stay, false}, {"a1b2c3d", move, true}}},
		{r, []string{"{{ .SHA7 }}", "{{ .SHA7 }}"}, []wantedTag{{"a1b2c3d", move, true}}},
		{none, []string{"{{ .Version }}", "latest"}, []wantedTag{{"latest", move, false}}},
	} {
		env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Tags: c.templates}}
		env.Name = "dev"
		got, err := environmentTaggings(env, c.release)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(wantedTag{})); diff != "" {
			t.Errorf("%v: %s", c.templates, diff)
		}
	}
}

// TestTagsOfWhatIsInUseAreKept lets a clean-up take a digest that runs in production: it is looked at once a day and put back.
// What is not in use is let go, and a tag that moves stays with the release that was authorised last.
func TestTagsOfWhatIsInUseAreKept(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	digest := r.Push("backend", "dev-a1b2c3d")
	images, err := registry.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Tags: []string{"{{ .Version }}", "latest"}}}
	env.Name = "production"
	env.Status.LastGood = &v1alpha1.EnvironmentRelease{UID: "used"}
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	release := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Version: "v1.3.0"}}
	release.UID = "used"
	release.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "backend", Repository: r.Host + "/backend", Digest: digest}}}
	release.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "production", Phase: v1alpha1.PhaseSuperseded, AuthorizedAt: metav1.NewMicroTime(at)}}
	entry := &release.Status.Environments[0]
	newer := release.DeepCopy()
	newer.UID = "newer"
	newer.Status.Environments[0].Phase, newer.Status.Environments[0].AuthorizedAt = v1alpha1.PhaseHealthy, metav1.NewMicroTime(at.Add(time.Hour))
	s := &snapshot{project: &v1alpha1.Project{}, bridge: []v1alpha1.Environment{env}, now: at, siblings: []v1alpha1.Release{*newer}}
	reconciler := &releaseReconciler{Client: &cached{}, looked: lru.New(lookedAt)}
	look := func(want time.Time, named string) {
		t.Helper()
		next, err := reconciler.tagEntry(t.Context(), s, release, entry, images)
		if err != nil || !next.Equal(want) {
			t.Fatalf("next look at %s, %v, want %s", next, err, want)
		}
		if got := r.Digest("backend", "v1.3.0"); got != named {
			t.Errorf("the version names %q, want %q", got, named)
		}
		if got := r.Digest("backend", "latest"); got != "" {
			t.Errorf("latest was taken from the newer release: %s", got)
		}
	}
	look(at.Add(tagsLook), digest)
	r.Delete("backend", digest)
	r.Take()
	s.now = at.Add(tagsLook - time.Second)
	look(at.Add(tagsLook), "")
	if seen := r.Take(); len(seen) != 0 {
		t.Errorf("asked before the time: %+v", seen)
	}
	s.now = at.Add(tagsLook)
	look(s.now.Add(tagsLook), digest)
	s.bridge[0].Status.LastGood = nil
	r.Delete("backend", digest)
	s.now = s.now.Add(2 * tagsLook)
	look(time.Time{}, "")
	if diff := cmp.Diff([]string{"v1.3.0"}, entry.Tags); diff != "" {
		t.Error(diff)
	}
}

// TestDigestsInUseKeepATagOfTheirOwn: whatever became of the others, a digest that runs somewhere has a tag that goes to no
// other release, and has it again a day after a clean-up took it.
func TestDigestsInUseKeepATagOfTheirOwn(t *testing.T) {
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	const ours, theirs = "aaaaaaa0", "bbbbbbb0"
	for name, c := range map[string]struct {
		tags   []string
		used   string // by the environment
		phase  string // of a host's order
		rival  string // the commit of a newer release
		taken  bool   // the version is another digest's
		spared bool
	}{
		"the last good release, whose tags all went on": {[]string{"latest"}, "used", "", theirs, false, true},
		"a release whose version is taken":              {[]string{"{{ .Version }}", "latest"}, "used", "", theirs, true, true},
		"one that a silent host runs":                   {nil, "other", v1alpha1.RolloutHealthy, theirs, false, true},
		"one that hosts have left":                      {nil, "other", v1alpha1.RolloutSuperseded, theirs, false, false},
		"a newer release of the same commit":            {nil, "used", "", ours, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.Start(t, registrytest.Options{})
			digest := r.Push("backend", "dev")
			if c.taken {
				r.Push("backend", "v1.3.0")
			}
			images, err := registry.New(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Tags: c.tags}}
			env.Name, env.Status.LastGood = "production", &v1alpha1.EnvironmentRelease{UID: c.used}
			release := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: ours, Version: "v1.3.0"}}
			release.UID = "used"
			release.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "backend", Repository: r.Host + "/backend", Digest: digest}}}
			release.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "production", Phase: v1alpha1.PhaseSuperseded, AuthorizedAt: metav1.NewMicroTime(at)}}
			newer := release.DeepCopy()
			newer.UID, newer.Spec.Commit = "newer", c.rival
			newer.Status.Environments[0].Phase, newer.Status.Environments[0].AuthorizedAt = v1alpha1.PhaseHealthy, metav1.NewMicroTime(at.Add(time.Hour))
			s := &snapshot{project: &v1alpha1.Project{}, bridge: []v1alpha1.Environment{env}, now: at, siblings: []v1alpha1.Release{*newer}}
			s.rollouts = []v1alpha1.Rollout{{Spec: v1alpha1.RolloutSpec{Environment: "production"}, Status: v1alpha1.RolloutStatus{Phase: c.phase}}}
			reconciler := &releaseReconciler{Client: &cached{}, looked: lru.New(lookedAt)}
			for range 2 {
				_, err := reconciler.tagEntry(t.Context(), s, release, &release.Status.Environments[0], images)
				if got := r.Digest("backend", "production-aaaaaaa"); (got == digest) != c.spared || (err != nil) != c.taken {
					t.Errorf("its own tag names %q, %v", got, err)
				}
				if c.spared {
					r.Delete("backend", digest)
				}
				s.now = s.now.Add(2 * tagsLook)
			}
		})
	}
}

// cached is a cache that has these releases.
type cached struct {
	client.Client
	releases []v1alpha1.Release
}

// List implements client.Client.
func (c *cached) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.ReleaseList).Items = slices.Clone(c.releases)
	return nil
}

// TestTagsThatWereOvertaken: a release that was authorised while this one's images were looked up has the tags that move, and keeps
// them; a tag of this one's own is given all the same.
func TestTagsThatWereOvertaken(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	ours, theirs := r.Push("backend", "dev-aaaaaaa"), r.Push("backend", "latest")
	images, err := registry.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Tags: []string{"latest", "x-{{ .SHA7 }}"}}}
	env.Name = "dev"
	release := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: "aaaaaaa4e5f60718293a4b5c6d7e8f9001122334"}}
	release.UID = "ours"
	release.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "backend", Repository: r.Host + "/backend", Digest: ours}}}
	release.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "dev", Phase: v1alpha1.PhaseAuthorized, AuthorizedAt: metav1.NewMicroTime(at)}}
	newer := release.DeepCopy()
	newer.UID, newer.Spec.Commit = "newer", "bbbbbbb4e5f60718293a4b5c6d7e8f9001122334"
	newer.Status.Environments[0].AuthorizedAt = metav1.NewMicroTime(at.Add(time.Second))
	s := &snapshot{project: &v1alpha1.Project{}, bridge: []v1alpha1.Environment{env}, now: at} // of before
	reconciler := &releaseReconciler{Client: &cached{releases: []v1alpha1.Release{*release, *newer}}, looked: lru.New(lookedAt)}
	if _, err := reconciler.tagEntry(t.Context(), s, release, &release.Status.Environments[0], images); err != nil {
		t.Fatal(err)
	}
	if got := r.Digest("backend", "latest"); got != theirs {
		t.Errorf("latest names %s, want that of the newer release %s", got, theirs)
	}
	if diff := cmp.Diff([]string{"x-aaaaaaa"}, release.Status.Environments[0].Tags); diff != "" {
		t.Error(diff)
	}
}
