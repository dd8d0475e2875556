// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/registry"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// What the registry itself answered counts more than the engine's words; denied ones may become right, missing ones do not.
func TestRefusal(t *testing.T) {
	answer := func(code int, wait time.Duration) *registry.StatusError {
		return &registry.StatusError{Code: code, RetryAfter: wait}
	}
	for name, c := range map[string]struct {
		err    error
		status *registry.StatusError
		reason string
		final  bool
		denied bool
		wait   time.Duration
	}{
		"401":                  {compose.ErrDenied, answer(401, 0), v1alpha1.ReasonPullUnauthorized, false, true, 0},
		"403":                  {compose.ErrDenied, answer(403, 0), v1alpha1.ReasonPullForbidden, false, true, 0},
		"404":                  {compose.ErrDenied, answer(404, 0), v1alpha1.ReasonImageNotFound, true, false, 0},
		"429":                  {compose.ErrRegistry, answer(429, time.Minute), v1alpha1.ReasonPullRateLimited, false, false, time.Minute},
		"503":                  {compose.ErrTimeout, answer(503, time.Second), v1alpha1.ReasonRegistryError, false, false, time.Second},
		"teapot":               {compose.ErrRegistry, answer(418, 0), v1alpha1.ReasonRegistryError, false, false, 0},
		"engine alone: denied": {compose.ErrDenied, nil, v1alpha1.ReasonPullUnauthorized, false, true, 0},
		"engine alone: none":   {compose.ErrNotFound, nil, v1alpha1.ReasonImageNotFound, true, false, 0},
		"full":                 {compose.ErrNoSpace, nil, v1alpha1.ReasonDiskFull, true, false, 0},
		"stalled":              {compose.ErrStalled, nil, v1alpha1.ReasonPullStalled, false, false, 0},
		"wrong bytes":          {compose.ErrDigestMismatch, nil, v1alpha1.ReasonDigestMismatch, false, false, 0},
		"slow":                 {compose.ErrTimeout, nil, v1alpha1.ReasonPullTimeout, false, false, 0},
		"something else":       {errors.New("?"), nil, v1alpha1.ReasonPullFailed, false, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cause := fmt.Errorf("pull: %w", c.err)
			r := refusalOf(cause, c.status)
			if r.reason != c.reason || r.final != c.final || r.denied != c.denied || r.wait != c.wait || !errors.Is(r.err, c.err) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Layers that are there, or that two images share, need no room.
func TestRoomFor(t *testing.T) {
	layer := func(digest string) registry.Layer { return registry.Layer{Digest: digest, Size: 100 << 20} }
	one := surveyed{remote: &registry.Image{Layers: []registry.Layer{layer("a"), layer("b"), {Digest: "config", Size: 0}}, DiffIDs: []string{"A", "B"}}}
	two := surveyed{remote: &registry.Image{Layers: []registry.Layer{layer("a"), layer("c")}, DiffIDs: []string{"A", "C"}}}
	unknown := surveyed{}
	if got, want := roomFor([]surveyed{one, two, unknown}, nil), int64(3*350<<20)+keepFree; got != want {
		t.Errorf("%d, want %d", got, want)
	}
	if got, want := roomFor([]surveyed{one, two}, map[string]bool{"A": true}), int64(2*350<<20)+keepFree; got != want {
		t.Errorf("%d, want %d", got, want)
	}
	if got := roomFor([]surveyed{one, two}, map[string]bool{"A": true, "B": true, "C": true}); got != 0 {
		t.Errorf("%d for nothing", got)
	}
}

func TestPortMeets(t *testing.T) {
	local, all := netip.MustParseAddr("127.0.0.1"), netip.Addr{}
	for name, c := range map[string]struct {
		want     port
		address  string
		number   uint16
		protocol string
		meets    bool
	}{
		"same":           {port{address: local, number: 80, protocol: "tcp"}, "127.0.0.1", 80, "tcp", true},
		"all and one":    {port{address: all, number: 80, protocol: "tcp"}, "127.0.0.1", 80, "tcp", true},
		"one and all":    {port{address: local, number: 80, protocol: "tcp"}, "", 80, "tcp", true},
		"one and any":    {port{address: local, number: 80, protocol: "tcp"}, "0.0.0.0", 80, "tcp", true},
		"other address":  {port{address: local, number: 80, protocol: "tcp"}, "10.0.0.1", 80, "tcp", false},
		"other port":     {port{address: all, number: 80, protocol: "tcp"}, "", 81, "tcp", false},
		"other protocol": {port{address: all, number: 80, protocol: "tcp"}, "", 80, "udp", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.want.meets(c.address, c.number, c.protocol); got != c.meets {
				t.Error(got)
			}
		})
	}
}

// Over any history of commits, what is current, last good, under way or kept beyond is never among what is removed.
func TestUnused(t *testing.T) {
	deployment := func(keep *int32, images ...string) state.Deployment {
		d := state.Deployment{Spec: v1alpha1.RolloutSpec{Strategy: v1alpha1.RolloutStrategy{Keep: keep}}}
		for _, image := range images {
			d.Spec.Images = append(d.Spec.Images, v1alpha1.ServiceImage{Service: "s", Image: image})
		}
		return d
	}
	e := &state.Environment{Pulled: []string{"a", "b", "c", "d", "e", "shared", "failed"}}
	commit := func(d state.Deployment) {
		leaveBehind(e, d)
		e.Current, e.LastGood = &d, &d
	}
	for _, image := range []string{"a", "b", "c", "d"} {
		commit(deployment(nil, image, "shared"))
	}
	if got := unused(e); !slices.Equal(got, []string{"a", "b", "e", "failed"}) {
		t.Errorf("by default one set is kept beyond: %v", got)
	}
	e.Attempt = &state.Attempt{Deployment: deployment(nil, "e")}
	if got := unused(e); !slices.Equal(got, []string{"a", "b", "failed"}) {
		t.Errorf("what is under way: %v", got)
	}
	commit(deployment(ptr.To[int32](2), "b", "shared")) // an old one comes back
	e.Attempt = nil
	if got := unused(e); !slices.Equal(got, []string{"a", "e", "failed"}) {
		t.Errorf("two are kept: %v, sets %v", got, e.Sets)
	}
	commit(deployment(ptr.To[int32](0), "d", "shared"))
	if got := unused(e); !slices.Equal(got, []string{"a", "b", "c", "e", "failed"}) {
		t.Errorf("none is kept: %v, sets %v", got, e.Sets)
	}
	e.Current = nil // held: the last good one is still needed
	if got := unused(e); slices.Contains(got, "d") {
		t.Errorf("the last good one would be removed: %v", got)
	}
}
