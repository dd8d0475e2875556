// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/suspend"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// tombstone is an order to take an environment down.
func tombstone(o order, sequence int64, volumes bool) order {
	o.sequence, o.compose, o.images, o.checks, o.values = sequence, "", nil, nil, nil
	o.remove = &v1alpha1.Removal{Volumes: volumes}
	return o
}

func (s *server) count(filters client.Filters) (containers, networks, volumes int) {
	s.Helper()
	c, err1 := s.raw.ContainerList(s.Context(), client.ContainerListOptions{All: true, Filters: filters})
	n, err2 := s.raw.NetworkList(s.Context(), client.NetworkListOptions{Filters: filters})
	v, err3 := s.raw.VolumeList(s.Context(), client.VolumeListOptions{Filters: filters})
	if err := errors.Join(err1, err2, err3); err != nil {
		s.Fatal(err)
	}
	return len(c.Items), len(n.Items), len(v.Items)
}

func ofProject(project string) client.Filters {
	return client.Filters{}.Add("label", "com.docker.compose.project="+project)
}

// stateful has two services in an order, a network of its own, a named and an anonymous volume.
const stateful = `
services:
  db:
    image: app
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
    volumes: [data:/data, /cache]
    networks: [inner]
  web:
    image: app
    restart: unless-stopped
    depends_on: {db: {condition: service_healthy}}
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
    networks: [inner]
networks: {inner: {}}
volumes: {data: {}}
`

// An environment is taken down: everything but the named volume goes, nothing comes back, and it can be deployed again.
func TestRemoval(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	o := s.order(s.project)
	o.compose, o.images = stateful, map[string]string{"db": image, "web": image}
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	if c, n, v := s.count(ofProject(s.project)); c != 2 || n != 1 || v < 1 {
		t.Fatalf("%d containers, %d networks, %d volumes", c, n, v)
	}
	down := s.send(tombstone(o, 2, false))
	status := s.await(down, v1alpha1.RolloutRemoved)
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) || !strings.Contains(status.Message, "volumes were kept") {
		t.Errorf("%+v", status)
	}
	if c, n, v := s.count(ofProject(s.project)); c != 0 || n != 0 || v != 1 {
		t.Errorf("%d containers, %d networks, %d volumes are left", c, n, v)
	}
	enginetest.Wait(t, "the image to go, which nobody needs", func() error {
		if _, err := s.raw.ImageInspect(t.Context(), image); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	stop()
	s.run() // remembers that nothing must run
	s.await(down, v1alpha1.RolloutRemoved)
	if c, _, _ := s.count(ofProject(s.project)); c != 0 {
		t.Errorf("%d containers after a restart", c)
	}
	o.sequence = 3 // with the same image, which the engine may only just be deleting
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	s.await(s.send(tombstone(o, 4, true)), v1alpha1.RolloutRemoved)
	if c, n, v := s.count(ofProject(s.project)); c+n+v != 0 {
		t.Errorf("%d containers, %d networks, %d volumes are left", c, n, v)
	}
	forged := tombstone(o, 5, true)
	forged.tamper = func(spec *v1alpha1.RolloutSpec) { spec.Sequence = 6 }
	s.await(s.send(forged), v1alpha1.RolloutRejected)
}

// Something else holds the network: what is left is told, tried again, and goes once it can; killed in between or not.
func TestRemovalLeavesNothingUnsaid(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	agent := s.spawn()
	image := s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.webOrder(1, image))
	s.await(first, v1alpha1.RolloutHealthy)
	other, err := s.raw.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: image}, Name: s.project + "-guest"})
	if err != nil {
		t.Fatal(err)
	}
	defer removeContainer(t, s.raw, other.ID)
	if _, err := s.raw.NetworkConnect(t.Context(), s.project+"_default", client.NetworkConnectOptions{Container: other.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.raw.ContainerStart(t.Context(), other.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	down := s.send(tombstone(s.webOrder(1, image), 2, false))
	enginetest.Wait(t, "the network to be named", func() error {
		status := s.status(down)
		if status.Phase != v1alpha1.RolloutRemoving || !strings.Contains(status.Message, "network "+s.project+"_default") {
			return fmt.Errorf("%s: %s", status.Phase, status.Message)
		}
		return nil
	})
	_ = agent.Process.Kill()
	_ = agent.Wait()
	s.spawn()
	if _, err := s.raw.NetworkDisconnect(t.Context(), s.project+"_default", client.NetworkDisconnectOptions{Container: other.ID, Force: true}); err != nil {
		t.Fatal(err)
	}
	s.await(down, v1alpha1.RolloutRemoved)
	if c, n, _ := s.count(ofProject(s.project)); c+n != 0 {
		t.Errorf("%d containers, %d networks are left", c, n)
	}
}

// suspend sets the control plane's suspension on a Rollout.
func (h *host) suspend(name, value string) {
	h.Helper()
	text := "null"
	if value != "" {
		text = fmt.Sprintf("%q", value)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationSuspend, text)
	if _, err := h.objects().Patch(h.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		h.Fatal(err)
	}
}

func (h *host) awaitSuspended(name, contains string) {
	h.Helper()
	enginetest.Wait(h, name+" to be suspended: "+contains, func() error {
		status := h.status(name)
		c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionSuspended)
		if contains == "" && c == nil || contains != "" && c != nil && c.Status == metav1.ConditionTrue && strings.Contains(c.Message, contains) {
			return nil
		}
		return fmt.Errorf("%s: %s %+v", status.Phase, status.Message, status.Conditions)
	})
}

// Suspended from either side: what is stopped stays stopped, what is new waits, restarts change nothing; then all is made up.
func TestSuspended(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	one, two := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2")
	first := s.send(s.webOrder(1, one))
	s.await(first, v1alpha1.RolloutHealthy)

	s.suspend(first, "by cto@dynors.com: new disks")
	s.awaitSuspended(first, "new disks")
	if _, err := s.raw.ContainerStop(t.Context(), s.container("web").ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	s.await(first, v1alpha1.RolloutUnhealthy) // it is told, and left alone
	stop()
	stop = s.run()
	s.awaitSuspended(first, "new disks")
	if c := s.container("web"); c.State == "running" {
		t.Error("healed although suspended")
	}

	// The host's own people take over before the control plane lets go.
	local := suspend.Suspension{Project: s.project, Environment: "dev", By: "root", Reason: "RAID", Since: time.Now()}
	if err := suspend.Set(s.dir, local); err != nil {
		t.Fatal(err)
	}
	s.suspend(first, "")
	s.awaitSuspended(first, "by root on this host: RAID")
	second := s.send(s.webOrder(2, two))
	s.awaitSuspended(second, "RAID")
	if status := s.status(second); status.Phase != v1alpha1.RolloutPending {
		t.Errorf("%s: %s", status.Phase, status.Message)
	}
	stop()
	s.run()
	s.awaitSuspended(second, "RAID")
	if c := s.container("web"); c.State == "running" {
		t.Error("touched although suspended")
	}
	if was, err := suspend.Clear(s.dir, s.project, "dev"); !was || err != nil {
		t.Fatal(was, err)
	}
	enginetest.Wait(t, "the agent to be woken", func() error {
		if running, err := suspend.Wake(s.dir); err != nil || !running {
			return fmt.Errorf("running %v: %w", running, err)
		}
		return nil
	})
	s.await(second, v1alpha1.RolloutHealthy)
	s.awaitSuspended(second, "")
	s.serves("2")
}

// Three environments of two projects on one engine: one fails and goes back, one is removed, one notices nothing.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	good, bad := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2", "SICK=1")
	steady, failing, leaving := s.webOrder(1, good), s.order(s.anotherProject()), s.order(s.anotherProject())
	leaving.project, leaving.environment = s.project, "staging" // of the same project as the steady one
	for _, o := range []*order{&failing, &leaving} {
		o.compose, o.images = stateful, map[string]string{"db": good, "web": good}
	}
	names := []string{s.send(steady), s.send(failing), s.send(leaving)}
	for _, name := range names {
		s.await(name, v1alpha1.RolloutHealthy)
	}
	before := s.container("web")
	failing.sequence, failing.images, failing.timeout = 2, map[string]string{"db": good, "web": bad}, 5*time.Second
	failed, removed := s.send(failing), s.send(tombstone(leaving, 2, true))
	s.await(removed, v1alpha1.RolloutRemoved)
	enginetest.Wait(t, "the bad release to fail", func() error {
		if phase := s.status(failed).Phase; phase != v1alpha1.RolloutRolledBack {
			return errors.New(phase)
		}
		return nil
	})
	if after := s.container("web"); after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) || after.Restarts != before.Restarts {
		t.Errorf("the steady one was %+v, is %+v", before, after)
	}
	if status := s.status(names[0]); status.Phase != v1alpha1.RolloutHealthy {
		t.Errorf("%s: %s", status.Phase, status.Message)
	}
	if c, n, v := s.count(ofProject(leaving.composeProject)); c+n+v != 0 {
		t.Errorf("%d containers, %d networks, %d volumes are left of the removed one", c, n, v)
	}
	if c, _, _ := s.count(ofProject(failing.composeProject)); c != 2 {
		t.Errorf("%d containers of the one that went back", c)
	}
}
