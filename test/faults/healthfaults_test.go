// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// testUnhealthy sends releases that misbehave once they run, after a good one: each goes back, and says why.
func testUnhealthy(t *testing.T, e *testbed.Engine) {
	for _, c := range []struct {
		name    string
		env     []string
		compose func(string) string
		says    string
	}{
		{"check flaps", []string{"FLAP=400ms"}, nil, "check not passed within 6s|its healthcheck flaps|its healthcheck fails"}, // whichever comes first
		{"crash loop", []string{"EXIT_AFTER=50ms"}, nil, "restarted"},
		{"crash loop between two looks", []string{"EXIT_AFTER=1500ms"}, func(s string) string {
			return strings.Replace(s, "healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}", "", 1)
		}, "restarted"},
		{"out of memory", []string{"HOG=200000000"}, func(s string) string {
			return strings.Replace(s, "restart: unless-stopped", "restart: \"no\"\n    mem_limit: 40m\n    memswap_limit: 40m", 1)
		}, "out of memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e)
			w.run()
			first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), v1alpha1.RolloutHealthy))
			w.await(first, v1alpha1.RolloutHealthy)
			o := w.web(w.hub.image("app", 0, append(c.env, "VERSION=2")...), v1alpha1.RolloutRolledBack)
			o.timeout = 40 * time.Second
			if c.compose != nil {
				o.compose = c.compose(o.compose)
			}
			if o.checks = nil; c.name == "check flaps" {
				o.checks = []v1alpha1.HealthCheck{{
					HTTP: &v1alpha1.HTTPCheck{URL: "http://127.0.0.1:${PORT}/health"}, Timeout: metav1.Duration{Duration: 6 * time.Second},
					Interval: metav1.Duration{Duration: 100 * time.Millisecond}, Successes: 10,
				}}
			}
			begin := time.Now()
			status := w.await(w.send(o), v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed, v1alpha1.RolloutHealthy)
			if status.Phase != v1alpha1.RolloutRolledBack || !saysOneOf(status.Message, c.says) || status.ServingSequence != 1 {
				t.Errorf("%s: %q does not say %q", status.Phase, status.Message, c.says)
			}
			took := time.Since(begin)
			w.serves("1")
			w.await(first, v1alpha1.RolloutHealthy)
			w.judge()
			note(t, status.Phase, "after %s: %q", took.Round(100*time.Millisecond), status.Message)
		})
	}
	t.Run("healthcheck flaps", func(t *testing.T) {
		t.Parallel()
		testHealthcheckFlaps(t, e)
	})
}

// saysOneOf says whether a message holds one of several texts, which "|" separates.
func saysOneOf(message, texts string) bool {
	return slices.ContainsFunc(strings.Split(texts, "|"), func(text string) bool { return strings.Contains(message, text) })
}

// testHealthcheckFlaps has a container's own healthcheck say yes and no in turn. One yes is enough to be healthy, as it is to
// Compose, but every no is reported and ends the streak of health that soaks are counted by.
func testHealthcheckFlaps(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	o := w.web(w.hub.image("app", 0, "VERSION=1", "FLAP=3s"), v1alpha1.RolloutSuperseded)
	o.compose, o.checks = strings.Replace(web, "retries: 4, start_period: 500ms", "retries: 1, start_period: 1h", 1), nil // the first yes may be late
	name := w.send(o)
	since := w.await(name, v1alpha1.RolloutHealthy).HealthySince
	for range 2 {
		if s := w.await(name, v1alpha1.RolloutUnhealthy); s.HealthySince != nil {
			t.Errorf("unhealthy, and healthy since %s", s.HealthySince)
		}
		again := w.await(name, v1alpha1.RolloutHealthy).HealthySince
		if since.After(again.Time) {
			t.Errorf("the streak of health began at %s, then at %s", since, again)
		}
		since = again
	}
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.await(name, v1alpha1.RolloutSuperseded)
	r := w.judge()
	note(t, "told each time", "%s", counts(r))
}

// testConflicts puts something foreign in the way of a release: it fails without touching the foreign thing, the old one
// serves, and once the way is free a new release arrives.
func testConflicts(t *testing.T, e *testbed.Engine) {
	for _, c := range []struct {
		name    string
		compose string
		// block puts the thing there and returns how to take it away.
		block func(w *world) func()
	}{
		{"container name", strings.Replace(web, "restart:", "container_name: ${NAME}\n    restart:", 1), func(w *world) func() {
			image := w.hub.image("foreign", 0, "VERSION=foreign")
			w.pullImage(image)
			created, err := e.Client.ContainerCreate(w.Context(), client.ContainerCreateOptions{
				Name: w.project + "-taken", Config: &container.Config{Image: image},
			})
			if err != nil {
				w.Fatal(err)
			}
			return func() { w.removeContainer(created.ID) }
		}},
		{"network", web + "    networks: [back]\nnetworks: {back: {ipam: {config: [{subnet: 10.99.0.0/24}]}}}\n", func(w *world) func() {
			created, err := e.Client.NetworkCreate(w.Context(), w.project+"-foreign", client.NetworkCreateOptions{
				Driver: "bridge", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.99.0.0/24")}}},
			})
			if err != nil {
				w.Fatal(err)
			}
			return func() {
				if _, err := e.Client.NetworkRemove(context.Background(), created.ID, client.NetworkRemoveOptions{}); err != nil {
					w.Error(err)
				}
			}
		}},
		{"port", strings.Replace(web, `ports: [`, `ports: ["127.0.0.1:${OTHER}:9090", `, 1), func(w *world) func() {
			var listener net.Listener
			err := e.Net.Do(func() (err error) {
				listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.port+1))
				return err
			})
			if err != nil {
				w.Fatal(err)
			}
			return func() { listener.Close() }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e)
			w.run()
			first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
			w.await(first, v1alpha1.RolloutHealthy)
			free := c.block(w)
			conflicting := func(version string, ends ...string) order {
				o := w.web(w.hub.image("app", 0, "VERSION="+version), ends...)
				o.compose, o.values["OTHER"], o.values["NAME"] = c.compose, fmt.Sprint(w.port+1), w.project+"-taken"
				return o
			}
			status := w.await(w.send(conflicting("2", v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed)),
				v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed, v1alpha1.RolloutHealthy)
			if status.ServingSequence != 1 {
				t.Errorf("%s: %q, serving %d", status.Phase, status.Message, status.ServingSequence)
			}
			w.serves("1")
			w.await(first, v1alpha1.RolloutHealthy)
			free()
			w.await(w.send(conflicting("3", v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
			w.serves("3")
			w.judge()
			note(t, status.Phase, "%q", status.Message)
		})
	}
}

// testNewerInEachPhase sends a new release while the one before is in each of its phases.
func testNewerInEachPhase(t *testing.T, e *testbed.Engine) {
	for _, c := range []struct {
		phase string
		// delay makes a release stay in the phase.
		delay func(w *world, o *order)
		image []string
	}{
		{v1alpha1.RolloutPending, func(_ *world, o *order) { o.secrets = []string{"never-delivered"} }, nil},
		{v1alpha1.RolloutPulling, func(w *world, _ *order) {
			w.hub.misbehave(hold(w.Context(), func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/slow/blobs/") }))
		}, nil},
		{v1alpha1.RolloutPreflight, func(w *world, _ *order) {
			w.hub.misbehave(hold(w.Context(), func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/slow/manifests/") }))
		}, nil},
		{v1alpha1.RolloutMigrating, func(_ *world, o *order) { // the newer one waits for the end of what changes data
			o.compose, o.images["migrate"], o.jobs = migrating, o.images["web"], []string{"migrate"}
		}, []string{"JOB_TIME=4s"}},
		{v1alpha1.RolloutStarting, func(_ *world, o *order) {
			o.compose += "  other:\n    image: app\n    depends_on: {web: {condition: service_healthy}}\n"
			o.images["other"] = o.images["web"]
			o.timeout = 5 * time.Second
		}, []string{"SICK=1"}},
		{v1alpha1.RolloutChecking, func(_ *world, o *order) {
			o.compose = strings.Replace(web, "start_period: 500ms", "start_period: 1h", 1)
			o.timeout = time.Hour
		}, []string{"SICK=1"}},
		{"going back", nil, []string{"SICK=1"}},
		{v1alpha1.RolloutRolledBack, nil, []string{"SICK=1"}},
		{v1alpha1.RolloutUnhealthy, nil, nil},
	} {
		t.Run(c.phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e)
			w.run()
			w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)
			o := w.web(w.hub.image("slow", 1<<20, append(c.image, "VERSION=2")...))
			o.ends = []string{v1alpha1.RolloutSuperseded, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack}
			if c.delay != nil {
				c.delay(w, &o)
			}
			next := w.hub.image("app", 0, "VERSION=3")
			second := w.send(o)
			switch c.phase {
			case "going back":
				wait(w, "the way back to begin", func() error {
					if a := w.stored().Attempt; a == nil || a.Failure == nil {
						return fmt.Errorf("%s", w.status(second).Phase)
					}
					return nil
				})
			case v1alpha1.RolloutUnhealthy:
				w.await(second, v1alpha1.RolloutHealthy)
				id := w.only().ID
				w.disturb("stopped by hand", id)
				if _, err := e.Client.ContainerStop(t.Context(), id, client.ContainerStopOptions{}); err != nil {
					t.Fatal(err)
				}
			default:
				w.await(second, c.phase)
			}
			begin := time.Now()
			w.await(w.send(w.web(next, v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
			took := time.Since(begin)
			w.hub.misbehave(nil)
			w.serves("3")
			ended := w.await(second, o.ends...)
			w.judge()
			note(t, "newer one "+v1alpha1.RolloutHealthy, "after %s, the other one ends %s", took.Round(100*time.Millisecond), ended.Phase)
		})
	}
}
