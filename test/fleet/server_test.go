// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/test/testbed"
)

// projectLabel is how Compose marks everything of one project.
const projectLabel = "com.docker.compose.project"

// server is a machine with an engine and an agent.
type server struct {
	testing.TB
	name   string
	engine *testbed.Engine
	// data is the agent's folder, said what it says.
	data  string
	said  *testbed.Buffer
	agent *testbed.Process

	mu       sync.Mutex
	happened []moment
}

// moment is something that happened to a container.
type moment struct {
	at time.Time
	// what is an action of the engine: create, start, health_status: healthy, die, destroy.
	what, stack, image string
}

// run starts the agent.
func (s *server) run(programs testbed.Programs) {
	s.Helper()
	s.agent = testbed.Spawn(s, s.engine.Net, programs.Agent, s.said, "run", "--data-dir", s.data, "--docker-host", s.engine.Address(),
		"--policy", s.data+"/host-policy.yaml", "--heartbeat", "2s", "--log-level", "debug")
	agent := s.agent
	s.Cleanup(func() {
		if err := agent.Alive(); err != nil && agent == s.agent {
			s.Errorf("%s: %v", s.name, err)
		}
		if s.Failed() {
			s.Logf("the agent of %s said last:\n%s", s.name, s.said.Tail(15))
		}
	})
}

// record notes what happens to containers until the test is over.
func (s *server) record() {
	ctx, cancel := context.WithCancel(context.Background())
	filters := client.Filters{}.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionCreate, events.ActionStart, events.ActionHealthStatus, events.ActionDie, events.ActionDestroy} {
		filters = filters.Add("event", string(action))
	}
	stream := s.engine.Client.Events(ctx, client.EventsListOptions{Filters: filters})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case err := <-stream.Err:
				if ctx.Err() == nil {
					s.Errorf("the events of %s: %v", s.name, err)
				}
				return
			case m := <-stream.Messages:
				s.mu.Lock()
				s.happened = append(s.happened, moment{
					at: time.Unix(0, m.TimeNano), what: string(m.Action), stack: m.Actor.Attributes[projectLabel], image: m.Actor.Attributes["image"],
				})
				s.mu.Unlock()
			}
		}
	})
	s.Cleanup(func() { cancel(); wg.Wait() })
}

// moments are those of an image's containers at which something happened, the oldest first.
func (s *server) moments(image, what string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []time.Time
	for _, m := range s.happened {
		if m.image == image && m.what == what {
			out = append(out, m.at)
		}
	}
	return out
}

// runs is a container, as the engine has it.
type runs struct {
	id, image, state string
	started          time.Time
	restarts         int
}

// containers of a stack, in the order of their ids.
func (s *server) containers(t testing.TB, stack string) []runs {
	t.Helper()
	list, err := s.engine.Client.ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", projectLabel+"="+stack),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []runs
	for _, c := range list.Items {
		i, err := s.engine.Client.ContainerInspect(t.Context(), c.ID, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		started, err := time.Parse(time.RFC3339Nano, i.Container.State.StartedAt)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, runs{c.ID, i.Container.Config.Image, string(i.Container.State.Status), started, i.Container.RestartCount})
	}
	slices.SortFunc(out, func(a, b runs) int { return cmp.Compare(a.id, b.id) })
	return out
}

// only is the one container of a stack, which runs.
func (s *server) only(t testing.TB, stack string) runs {
	t.Helper()
	all := s.containers(t, stack)
	if len(all) != 1 || all[0].state != "running" {
		t.Fatalf("%s runs %+v of %s, not one container", s.name, all, stack)
	}
	return all[0]
}

// put writes an empty file into a folder of a container.
func (s *server) put(t testing.TB, container, folder, file string) {
	t.Helper()
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := w.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.Client.CopyToContainer(t.Context(), container, client.CopyToContainerOptions{DestinationPath: folder, Content: &content}); err != nil {
		t.Fatal(err)
	}
}

// serves waits until a version answers at a port of the server.
func (s *server) serves(t testing.TB, port int, version string) {
	t.Helper()
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.engine.Net.Dial}}
	testbed.Wait(t, fmt.Sprintf("version %s on %s", version, s.name), func() error {
		answer, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/version", port))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err == nil && strings.TrimSpace(string(body)) != version {
			err = fmt.Errorf("version %q serves", body)
		}
		return err
	})
}
