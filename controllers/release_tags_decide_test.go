// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// A tag that moves goes to what was authorised last and stands, of all releases or of those of the commit that it names.
func TestNewestIn(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	entry := func(env, phase string, minute int) v1alpha1.ReleaseEnvironment {
		return v1alpha1.ReleaseEnvironment{Name: env, Phase: phase, AuthorizedAt: metav1.NewMicroTime(noon.Add(time.Duration(minute) * time.Minute))}
	}
	ours := entry("dev", v1alpha1.PhaseHealthy, 0)
	const commit = "1111111"
	for _, c := range []struct {
		name    string
		other   v1alpha1.ReleaseEnvironment
		commits string
		want    bool
	}{
		{"earlier", entry("dev", v1alpha1.PhaseHealthy, -1), "", true},
		{"at the same moment", entry("dev", v1alpha1.PhaseHealthy, 0), "", true},
		{"later", entry("dev", v1alpha1.PhaseHealthy, 1), "", false},
		{"later, and only authorised yet", entry("dev", v1alpha1.PhaseAuthorized, 1), "", false},
		{"later, and replaced by another one", entry("dev", v1alpha1.PhaseSuperseded, 1), "", false},
		{"later, and failed", entry("dev", v1alpha1.PhaseFailed, 1), "", true},
		{"later, and rolled back", entry("dev", v1alpha1.PhaseRolledBack, 1), "", true},
		{"later, and taken back", entry("dev", v1alpha1.PhaseReturned, 1), "", true},
		{"later elsewhere", entry("prod", v1alpha1.PhaseHealthy, 1), "", true},
		{"later, of the commit that the tag names", entry("dev", v1alpha1.PhaseHealthy, 1), commit, false},
		{"later, of another commit than the tag names", entry("dev", v1alpha1.PhaseHealthy, 1), "2222222", true},
	} {
		other := v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: commit + "222222222222222222222222222222222"}}
		other.Status.Environments = []v1alpha1.ReleaseEnvironment{c.other}
		if got := newestIn([]v1alpha1.Release{{}, other}, ours, c.commits); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if !newestIn(nil, ours, "") {
		t.Error("alone")
	}
	release := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: commit + "222222222222222222222222222222222"}}
	if own, moving := rivals(release, wantedTag{own: true}), rivals(release, wantedTag{moves: true}); own != commit || moving != "" {
		t.Errorf("rivals %q and %q", own, moving)
	}
}

// The digest of what runs, or may be gone back to, keeps its tags.
func TestInUse(t *testing.T) {
	release := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{UID: types.UID("1")}}
	at := func(uid string) *v1alpha1.EnvironmentRelease { return &v1alpha1.EnvironmentRelease{UID: uid} }
	for _, c := range []struct {
		current, lastGood *v1alpha1.EnvironmentRelease
		want              bool
	}{{nil, nil, false}, {at("1"), nil, true}, {nil, at("1"), true}, {at("2"), at("1"), true}, {at("1"), at("2"), true}, {at("2"), at("3"), false}} {
		env := v1alpha1.Environment{Status: v1alpha1.EnvironmentStatus{Current: c.current, LastGood: c.lastGood}}
		if got := inUse(env, release); got != c.want {
			t.Errorf("current %v, last good %v: %t", c.current, c.lastGood, got)
		}
	}
	for phase, want := range map[string]bool{
		v1alpha1.RolloutHealthy: true, v1alpha1.RolloutUnhealthy: true, v1alpha1.RolloutHeld: true,
		"": false, v1alpha1.RolloutPending: false, v1alpha1.RolloutFailed: false, v1alpha1.RolloutRolledBack: false, v1alpha1.RolloutRemoved: false,
	} {
		order := v1alpha1.Rollout{Spec: v1alpha1.RolloutSpec{Environment: "dev"}, Status: v1alpha1.RolloutStatus{Phase: phase}}
		if got := runs([]v1alpha1.Rollout{{}, order}, "dev"); got != want {
			t.Errorf("%q: %t", phase, got)
		}
		order.Spec.Remove = &v1alpha1.Removal{}
		if runs([]v1alpha1.Rollout{order}, "dev") {
			t.Errorf("%q: it is taken down", phase)
		}
		order.Spec.Remove = nil
		if runs([]v1alpha1.Rollout{order}, "prod") {
			t.Errorf("%q: it runs elsewhere", phase)
		}
	}
}

// One tag of its own is what keeps a digest: given now or before, and not one that may go to another release.
func TestOwnsOne(t *testing.T) {
	own, moving, second := wantedTag{name: "dev-1111111", own: true}, wantedTag{name: "latest", moves: true}, wantedTag{name: "v1.3.0", own: true}
	for _, c := range []struct {
		name    string
		missing []wantedTag
		done    []string
		want    bool
	}{
		{"nothing was missing", nil, nil, true},
		{"all were missing and none was given", []wantedTag{own, moving, second}, nil, false},
		{"all were missing and that which moves was given", []wantedTag{own, moving, second}, []string{"latest"}, false},
		{"all were missing and one of its own was given", []wantedTag{own, moving, second}, []string{"v1.3.0"}, true},
		{"one of its own was there before", []wantedTag{own, moving}, nil, true},
	} {
		if got := ownsOne([]wantedTag{own, moving, second}, c.missing, c.done); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if ownsOne([]wantedTag{moving}, nil, []string{"latest"}) {
		t.Error("a tag that moves keeps nothing")
	}
}

// What a registry has against a tag is told by its own reason, and looked at again when the registry says.
func TestRegistryReasons(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for kind, want := range map[registry.Kind]string{
		registry.KindNotFound: v1alpha1.ReasonImageNotFound, registry.KindTaken: v1alpha1.ReasonTagTaken, registry.KindImmutable: v1alpha1.ReasonTagImmutable,
		registry.KindDenied: v1alpha1.ReasonRegistryDenied, registry.KindBusy: v1alpha1.ReasonRegistryBusy, registry.KindFull: v1alpha1.ReasonRegistryFull,
		registry.KindMismatch: v1alpha1.ReasonDigestMismatch, registry.KindFailed: v1alpha1.ReasonRegistryError, registry.KindUnusable: v1alpha1.ReasonRegistryError,
	} {
		err := fmt.Errorf("tag: %w", &registry.Problem{Kind: kind, Until: now.Add(time.Minute)})
		if got, at := registryReason(err), tryAgain(err, now); got != want || !at.Equal(now.Add(time.Minute)) {
			t.Errorf("%s: %s at %s", kind, got, at)
		}
	}
	for _, err := range []error{errors.New("no network"), &registry.Problem{Kind: registry.KindBusy}, &registry.Problem{Kind: registry.KindBusy, Until: now}} {
		if at := tryAgain(err, now); !at.Equal(now.Add(registryRetry)) {
			t.Errorf("%v: tried again at %s", err, at)
		}
	}
	if at := (registries{retry: time.Hour}).again(errors.New("no network"), now); !at.Equal(now.Add(time.Hour)) {
		t.Errorf("tried again at %s", at)
	}
}
