// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"k8s.io/apimachinery/pkg/api/meta"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// handMade is a stack that somebody started with `docker compose up -d`, its images named by tags.
const handMade = `
services:
  web:
    image: ${REGISTRY}/web:latest
    restart: unless-stopped
    environment: {GREETING: "${GREETING:-hello}"}
    ports: ["127.0.0.1:${PORT}:8080"]
    volumes: ["data:/data"]
  cache:
    image: ${REGISTRY}/cache:latest
    restart: unless-stopped
volumes: {data: {}}
`

// byHand starts it as Compose's own command does, under this test's project.
func (s *server) byHand(values map[string]string, repositories ...string) {
	s.Helper()
	bare := newBare(s)
	for _, repository := range repositories {
		stream, err := s.raw.ImagePull(s.Context(), s.registry.Host+"/"+repository+":latest", client.ImagePullOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if err := stream.Wait(s.Context()); err != nil {
			s.Fatal(err)
		}
	}
	s.Cleanup(func() {
		for _, repository := range repositories {
			_, _ = s.raw.ImageRemove(context.Background(), s.registry.Host+"/"+repository+":latest", client.ImageRemoveOptions{Force: true})
		}
	})
	project, err := composefile.Load(s.Context(), handMade, s.project, values)
	if err != nil {
		s.Fatal(err)
	}
	bare.up(s, project, nil)
}

// A stack that was started by hand is taken over as it runs, is kept running, and only what a release changes is replaced.
func TestAdoption(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	web, cache := s.registry.Image(t, "web", "VERSION=1"), s.registry.Image(t, "cache")
	values := map[string]string{"PORT": fmt.Sprint(s.port), "REGISTRY": s.registry.Host}
	s.byHand(values, "web", "cache")
	s.serves("1")
	before := []health.Container{s.container("web"), s.container("cache")}
	s.run()
	o := s.order(s.project)
	o.compose, o.values, o.images = handMade, values, map[string]string{"web": web, "cache": cache}
	first := s.send(o)
	status := s.await(first, v1alpha1.RolloutHealthy)
	for _, c := range before {
		if now := s.container(c.Service); !same(c, now) {
			t.Errorf("%s was touched: %+v, before %+v", c.Service, now, c)
		}
	}
	if status.Message != "unchanged: cache, web" {
		t.Errorf("message %q", status.Message)
	}

	// It is kept running like any other, though it carries none of our labels.
	if _, err := s.raw.ContainerStop(t.Context(), before[0].ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	enginetest.Wait(t, "the adopted container to be started again", func() error {
		if c := s.container("web"); c.ID != before[0].ID || c.State != health.StateRunning {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})

	// Another value for one service: that one is replaced, the other one stays adopted.
	o.sequence, o.values = 2, map[string]string{"PORT": values["PORT"], "REGISTRY": values["REGISTRY"], "GREETING": "bonjour"}
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	if s.container("web").ID == before[0].ID || !same(s.container("cache"), before[1]) {
		t.Errorf("not exactly the changed service was replaced: %+v, %+v", s.container("web"), s.container("cache"))
	}
}

// Somebody's containers under the project's name, and somebody's changes: healed or reported as the environment says.
func TestDrift(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"", v1alpha1.DriftHeal, v1alpha1.DriftReport} {
		t.Run("policy "+policy, func(t *testing.T) {
			s := newServer(t)
			s.run()
			image := s.registry.Image(t, "app", "VERSION=1")
			o := s.webOrder(1, image)
			o.strategy = func(r *v1alpha1.RolloutStrategy) { r.Drift = policy }
			name := s.send(o)
			s.await(name, v1alpha1.RolloutHealthy)
			web := s.container("web")

			// Labels of Compose make a container one of the project's, whoever wrote them.
			stranger := s.create("stranger", "other", "", image)
			double := s.create("double", "web", "somebody-else's", image)
			oneOff := s.create("oneoff", "web", "x", image, "com.docker.compose.oneoff=True")
			enginetest.Wait(t, "the drift to be dealt with", func() error {
				status := s.status(name)
				drifted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDrifted)
				if drifted == nil {
					return errors.New("no condition")
				}
				for id, healed := range map[string]bool{stranger: policy == v1alpha1.DriftHeal, double: policy != v1alpha1.DriftReport} {
					_, err := s.raw.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
					if gone := err != nil; gone != healed {
						return fmt.Errorf("%s: removed %v, want %v", id[:12], gone, healed)
					}
				}
				if reports := drifted.Status == "True"; reports != (policy != v1alpha1.DriftHeal) {
					return fmt.Errorf("reported: %v %s", drifted.Status, drifted.Message)
				}
				if policy == v1alpha1.DriftReport && !strings.Contains(drifted.Message, "double") {
					return fmt.Errorf("the second container is not reported: %s", drifted.Message)
				}
				return nil
			})
			if _, err := s.raw.ContainerInspect(t.Context(), oneOff, client.ContainerInspectOptions{}); err != nil {
				t.Errorf("a one-off container was removed: %v", err)
			}
			if now := s.container("web"); policy != v1alpha1.DriftReport && !same(now, web) {
				t.Errorf("the right container was touched: %+v", now)
			}
		})
	}
}

// create runs a container with the labels of the project.
func (s *server) create(name, service, hash, image string, labels ...string) string {
	s.Helper()
	config := &container.Config{Image: image, Labels: map[string]string{
		"com.docker.compose.project": s.project, "com.docker.compose.service": service, "com.docker.compose.oneoff": "False",
		"com.docker.compose.config-hash": hash, "com.docker.compose.container-number": "7",
	}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		config.Labels[key] = value
	}
	created, err := s.raw.ContainerCreate(s.Context(), client.ContainerCreateOptions{Name: s.project + "-" + name, Config: config})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.raw.ContainerStart(s.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
		s.Fatal(err)
	}
	return created.ID
}

// A service that left the file goes with the next release; its volume stays. A network that somebody removed comes back.
func TestOrphansAndNetworks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	o := s.order(s.project)
	o.compose = "services:\n  web: {image: a}\n  old: {image: a, volumes: [\"data:/data\"]}\nvolumes: {data: {}}\n"
	o.images = map[string]string{"web": image, "old": image}
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	web := s.container("web")
	o.sequence, o.compose, o.images = 2, "services:\n  web: {image: a}\n", map[string]string{"web": image}
	second := s.send(o)
	s.await(second, v1alpha1.RolloutHealthy)
	if len(s.all("old")) > 0 || !same(s.container("web"), web) {
		t.Errorf("left: %+v, web %+v", s.all("old"), s.container("web"))
	}
	volumes, err := s.raw.VolumeList(t.Context(), client.VolumeListOptions{Filters: client.Filters{}.Add("label", "com.docker.compose.project="+s.project)})
	if err != nil || len(volumes.Items) != 1 {
		t.Errorf("volumes %v, %v", volumes.Items, err)
	}
	network := s.project + "_default"
	if _, err := s.raw.NetworkDisconnect(t.Context(), network, client.NetworkDisconnectOptions{Container: web.ID, Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.raw.NetworkRemove(t.Context(), network, client.NetworkRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	enginetest.Wait(t, "the network to come back", func() error {
		inspected, err := s.raw.NetworkInspect(t.Context(), network, client.NetworkInspectOptions{})
		if err != nil {
			return err
		}
		if len(inspected.Network.Containers) != 1 {
			return fmt.Errorf("%d containers in it", len(inspected.Network.Containers))
		}
		return nil
	})
	s.await(second, v1alpha1.RolloutHealthy)
}

// What stands in the way is named, with the way out.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	subnet := fmt.Sprintf("10.99.%d.0/24", s.port%250)
	other := s.anotherProject()
	occupant := s.order(other)
	occupant.compose = "services: {a: {image: a, ports: [\"127.0.0.1:" + fmt.Sprint(s.port) + ":8080\"]}}\nnetworks: {default: {ipam: {config: [{subnet: " + subnet + "}]}}}\n"
	occupant.images = map[string]string{"a": image}
	s.await(s.send(occupant), v1alpha1.RolloutHealthy)
	taken := s.create("taken", "nobody", "", image)
	for i, c := range []struct{ text, want string }{
		{"services: {web: {image: a, container_name: " + s.project + "-taken}}", "has the name " + s.project + "-taken: remove or rename it"},
		{"services: {web: {image: a, ports: [\"127.0.0.1:" + fmt.Sprint(s.port) + ":8080\"]}}", "publishes port 127.0.0.1:"},
		{"services: {web: {image: a, networks: [n]}}\nnetworks: {n: {ipam: {config: [{subnet: " + subnet + "}]}}}", "overlaps that of another network"},
	} {
		o := s.order(s.project)
		o.sequence, o.compose, o.images = int64(i+1), c.text, map[string]string{"web": image}
		status := s.await(s.send(o), v1alpha1.RolloutFailed)
		if !strings.Contains(status.Message, c.want) {
			t.Errorf("message %q does not say %q", status.Message, c.want)
		}
	}
	list, err := s.raw.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil || !slices.ContainsFunc(list.Items, func(c container.Summary) bool { return c.ID == taken }) {
		t.Errorf("somebody else's container is gone: %v", err)
	}
}
