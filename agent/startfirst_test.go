// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// behind is a stack with a proxy that finds its upstream by DNS, an application behind it, and a database that nobody changes.
const behind = `
services:
  proxy:
    image: proxy
    restart: unless-stopped
    environment: {PROXY_TO: "web:8080"}
    ports: ["127.0.0.1:${PORT}:8080"]
    depends_on: {web: {condition: service_healthy}}
  web:
    image: web
    restart: unless-stopped
    deploy: {replicas: 2}
    environment: {NOTE: "${NOTE:-}"}
    depends_on: [db]
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 5, start_period: 300ms}
  db:
    image: db
    restart: unless-stopped
    volumes: ["data:/data"]
volumes: {data: {}}
`

// behindOrder orders web's image, with a proxy and a database that stay the same.
func (s *server) behindOrder(sequence int64, base, web string) order {
	o := s.order(s.project)
	o.sequence, o.compose, o.values = sequence, behind, map[string]string{"PORT": fmt.Sprint(s.port)}
	o.images = map[string]string{"proxy": base, "web": web, "db": base}
	o.strategy = startFirst
	return o
}

func startFirst(s *v1alpha1.RolloutStrategy) {
	s.Strategy, s.Drain = v1alpha1.StrategyStartFirst, metav1.Duration{Duration: 500 * time.Millisecond}
}

// all are the containers of a service.
func (s *server) all(service string) []health.Container {
	s.Helper()
	list, err := s.engine.Containers(s.Context(), s.project)
	if err != nil {
		s.Fatal(err)
	}
	return slices.DeleteFunc(list, func(c health.Container) bool { return c.Service != service })
}

// generation fails unless a service has exactly so many containers, all running and all of one image.
func (s *server) generation(service, image string, replicas int) {
	s.Helper()
	all := s.all(service)
	if len(all) != replicas {
		s.Errorf("%s has %d containers, want %d: %+v", service, len(all), replicas, all)
	}
	for _, c := range all {
		if c.Image != image || c.State != health.StateRunning {
			s.Errorf("%s: %+v", service, c)
		}
	}
}

func same(a, b health.Container) bool { return a.ID == b.ID && a.StartedAt.Equal(b.StartedAt) }

// New replicas come up beside the old ones, which end only when these are healthy; whatever did not change is not touched;
// a release whose replicas do not become healthy goes without having disturbed anything.
func TestStartFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	base, one := s.registry.Image(t, "base"), s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.behindOrder(1, base, one))
	s.await(first, v1alpha1.RolloutHealthy)
	s.serves("1")
	proxy, db, old := s.container("proxy"), s.container("db"), s.all("web")

	two := s.registry.Image(t, "app", "VERSION=2")
	status := s.await(s.send(s.behindOrder(2, base, two)), v1alpha1.RolloutHealthy)
	s.serves("2")
	s.generation("web", two, 2)
	if want := "start first: web; unchanged: db, proxy"; status.Message != want {
		t.Errorf("message %q, want %q", status.Message, want)
	}
	if !same(s.container("proxy"), proxy) || !same(s.container("db"), db) {
		t.Error("a service that did not change was touched")
	}
	now := s.all("web")
	for _, c := range now {
		if slices.ContainsFunc(old, func(o health.Container) bool { return o.ID == c.ID }) {
			t.Error("an old container is still there")
		}
	}

	sick := s.registry.Image(t, "app", "VERSION=3", "SICK=1", "SAY=I feel sick")
	status = s.await(s.send(s.behindOrder(3, base, sick)), v1alpha1.RolloutFailed)
	s.generation("web", two, 2)
	for _, c := range s.all("web") {
		if !slices.ContainsFunc(now, func(o health.Container) bool { return same(o, c) }) {
			t.Error("an old container was touched by a release that failed")
		}
	}
	if !strings.Contains(status.Message, "r2 serves without interruption") || status.ServingSequence != 2 {
		t.Errorf("message %q, serving %d", status.Message, status.ServingSequence)
	}
	if !slices.Contains(status.LastLogs, "web: I feel sick") {
		t.Errorf("logs %q", status.LastLogs)
	}
	s.serves("2")

	// The database changes too: it is replaced in place, and the Rollout says why.
	o := s.behindOrder(4, base, one)
	next := s.registry.Image(t, "base")
	o.images["db"] = next
	status = s.await(s.send(o), v1alpha1.RolloutHealthy)
	s.generation("db", next, 1)
	s.generation("web", one, 2)
	if !strings.Contains(status.Message, "recreated: db (in place, because it writes to data, which may bear one writer only") {
		t.Errorf("message %q", status.Message)
	}
	if !same(s.container("proxy"), proxy) {
		t.Error("the proxy was touched")
	}
}

// What a service wants to be run before it is stopped runs in each old container, and keeps nobody from stopping when it fails.
func TestPreStop(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	base := s.registry.Image(t, "base")
	deploy := func(sequence int64) {
		o := s.order(s.project)
		o.sequence, o.strategy, o.values = sequence, startFirst, map[string]string{"PORT": fmt.Sprint(s.port)}
		o.images = map[string]string{"notes": base, "web": s.registry.Image(t, "app", fmt.Sprint("VERSION=", sequence))}
		o.compose = `
services:
  notes: {image: notes, ports: ["127.0.0.1:${PORT}:8080"], volumes: ["data:/data"]}
  web:
    image: web
    deploy: {replicas: 2}
    volumes: ["data:/data"]
    x-sirrat: {sharedVolumes: true}
    pre_stop:
    - {command: [/app, job, farewell, 0s, "0"], environment: {VERSION: "${PORT}"}}
    - {command: [/app, says, "what it cannot"]}
volumes: {data: {}}
`
		s.await(s.send(o), v1alpha1.RolloutHealthy)
	}
	deploy(1)
	s.ran()
	deploy(2)
	farewell := fmt.Sprint("farewell ", s.port)
	s.ran(farewell, farewell)
	if said := s.log.String(); !strings.Contains(said, "services.web.pre_stop: hook 1 exited 1: SAYS is") {
		t.Errorf("the agent does not say that a hook failed")
	}
}

// An agent that is killed at any moment of a replacement ends with one whole generation.
func TestStartFirstKilled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	base := s.registry.Image(t, "base")
	agent := s.spawn()
	s.await(s.send(s.behindOrder(1, base, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	const kills = 6
	for i := range kills {
		image := s.registry.Image(t, "app", fmt.Sprint("VERSION=", i+2))
		name := s.send(s.behindOrder(int64(i+2), base, image))
		enginetest.Wait(t, "the moment to kill", func() error {
			all := s.all("web")
			fresh := slices.DeleteFunc(slices.Clone(all), func(c health.Container) bool { return c.Image != image })
			reached := []bool{
				len(fresh) > 0, len(fresh) == 2, len(fresh) == 2 && fresh[0].Check == health.CheckHealthy,
				len(fresh) == 2 && fresh[1].Check == health.CheckHealthy,
				len(fresh) == 2 && slices.ContainsFunc(all, func(c health.Container) bool { return c.Image != image && c.State == health.StateExited }),
				len(fresh) == 2 && len(all) < 4,
			}[i]
			if !reached && len(fresh) == len(all) {
				reached = true // too late for that moment on a slow machine: any other one will do
			}
			if !reached {
				return fmt.Errorf("%d new of %d", len(fresh), len(all))
			}
			return nil
		})
		if err := agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait()
		agent = s.spawn()
		s.await(name, v1alpha1.RolloutHealthy)
		s.generation("web", image, 2)
		s.serves(fmt.Sprint(i + 2))
	}
	t.Logf("killed %d times", kills)
}

// A newer release that arrives while new replicas come up leaves nothing of them behind.
func TestStartFirstInterrupted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	base, one := s.registry.Image(t, "base"), s.registry.Image(t, "app", "VERSION=1")
	s.await(s.send(s.behindOrder(1, base, one)), v1alpha1.RolloutHealthy)
	stuck := s.registry.Image(t, "app", "VERSION=2", "READY_AFTER=1h")
	o := s.behindOrder(2, base, stuck)
	o.compose = strings.Replace(behind, "start_period: 300ms", "start_period: 1h", 1)
	second := s.send(o)
	enginetest.Wait(t, "new replicas", func() error {
		if n := len(s.all("web")); n < 4 {
			return fmt.Errorf("%d containers", n)
		}
		return nil
	})
	three := s.registry.Image(t, "app", "VERSION=3")
	s.await(s.send(s.behindOrder(3, base, three)), v1alpha1.RolloutHealthy)
	s.await(second, v1alpha1.RolloutSuperseded)
	s.generation("web", three, 2)
	s.serves("3")
}

// Some replicas at a time, in both orders, with the wait in between that the file asks for.
func TestUpdateConfig(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	base, one := s.registry.Image(t, "base"), s.registry.Image(t, "app", "VERSION=1")
	send := func(sequence int64, image, update string) v1alpha1.RolloutStatus {
		o := s.behindOrder(sequence, base, image)
		o.compose = strings.Replace(behind, "deploy: {replicas: 2}", "deploy: {replicas: 3, update_config: {"+update+"}}", 1)
		o.strategy = nil
		return s.await(s.send(o), v1alpha1.RolloutHealthy)
	}
	send(1, one, "order: start-first")
	for i, c := range []struct {
		update, said string
		// least and most containers that may run at any moment.
		least, most int
	}{
		{"order: start-first, parallelism: 1", "start first: web", 3, 4},
		{"order: start-first, parallelism: 0, monitor: 500ms", "start first: web", 3, 6},
		{"order: stop-first, parallelism: 2, delay: 500ms", "stop first: web", 1, 3},
		{"order: stop-first, parallelism: 1, failure_action: continue, max_failure_ratio: 0.5", "not honoured for web: failure_action continue", 2, 3},
	} {
		t.Run(c.update, func(t *testing.T) {
			done := make(chan struct{})
			counted := make(chan [2]int)
			go func() {
				least, most := 99, 0
				for {
					list, err := s.raw.ContainerList(t.Context(), client.ContainerListOptions{
						Filters: client.Filters{}.Add("label", "com.docker.compose.project="+s.project, "com.docker.compose.service=web"),
					})
					if err == nil {
						least, most = min(least, len(list.Items)), max(most, len(list.Items))
					}
					select {
					case <-done:
						counted <- [2]int{least, most}
						return
					default:
					}
				}
			}()
			image := s.registry.Image(t, "app", fmt.Sprint("VERSION=", i+2))
			status := send(int64(i+2), image, c.update)
			close(done)
			n := <-counted
			t.Logf("%d to %d containers ran", n[0], n[1])
			if n[0] < c.least || n[1] > c.most {
				t.Errorf("%d to %d containers ran, want %d to %d", n[0], n[1], c.least, c.most)
			}
			if !strings.Contains(status.Message, c.said) {
				t.Errorf("message %q does not say %q", status.Message, c.said)
			}
			s.generation("web", image, 3)
		})
	}
}
