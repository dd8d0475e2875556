// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/history"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

func (s *server) place() *state.Key { return &state.Key{Project: s.project, Environment: "dev"} }

// up starts containers of the server's project behind the agent's back.
func (s *server) up(text string) {
	s.Helper()
	project, err := composefile.Load(s.Context(), text, s.project, nil)
	if err != nil {
		s.Fatal(err)
	}
	labels := map[string]string{v1alpha1.LabelProject: s.project, v1alpha1.LabelEnvironment: "dev"}
	if err := s.engine.Up(s.Context(), project, labels); err != nil {
		s.Fatal(err)
	}
}

func (s *server) diff() string {
	s.Helper()
	list, err := agent.ReadDiff(s.Context(), s.dir, "", s.policyFile(), s.place())
	if err != nil {
		s.Fatal(err)
	}
	var all []string
	for _, d := range list {
		all = append(all, d.Service+": "+d.Kind)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	o := s.webOrder(1, image)
	o.compose += "  side: {image: app}\n"
	o.images["side"] = image
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	stop() // or it would heal what is done here
	if got := s.diff(); got != "" {
		t.Fatalf("right after the rollout: %s", got)
	}
	if _, err := s.raw.ContainerStop(t.Context(), s.container("web").ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	removeContainer(t, s.raw, s.container("side").ID)
	if got := s.diff(); got != "side: missing, web: down" {
		t.Errorf("stopped and removed: %s", got)
	}
	// Other containers of the same project, made from something else.
	other := s.registry.Image(t, "app", "VERSION=2")
	changed := strings.Replace(strings.ReplaceAll(web, "image: app", "image: "+other), "${PORT}", fmt.Sprint(s.port), 1) + "  more: {image: " + other + "}\n"
	if err := s.engine.Pull(t.Context(), other, nil, 0, func(compose.Progress) {}); err != nil {
		t.Fatal(err)
	}
	s.up(changed)
	if got := s.diff(); got != "more: extra, side: missing, web: config, web: image" {
		t.Errorf("another project's containers: %s", got)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "SICK=1")))
	s.await(second, v1alpha1.RolloutRolledBack)
	stop()
	s.run()() // a restart adds nothing
	entries, err := agent.ReadHistory(s.dir, s.place())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Phase != v1alpha1.RolloutUnhealthy && (e.Release != "r1" || e.Phase == v1alpha1.RolloutHealthy) {
			all = append(all, e.Release+" "+e.Phase)
		}
		if e.Rollout == "" || e.UID == "" || e.At.IsZero() || e.Project != s.project {
			t.Errorf("incomplete: %+v", e)
		}
	}
	said := strings.Join(all, ", ")
	if !strings.HasPrefix(said, "r1 Healthy, r2 ") || strings.Count(said, "r2 RolledBack") != 1 || !strings.Contains(said, "r2 Checking") {
		t.Errorf("history: %s", said)
	}
	i := slices.IndexFunc(entries, func(e history.Entry) bool { return e.Phase == v1alpha1.RolloutRolledBack })
	if e := entries[i]; e.Rollout != second || e.Reason != v1alpha1.ReasonUnhealthy || e.Took <= 0 || !strings.Contains(e.Message, "r1 serves again") {
		t.Errorf("rolled back: %+v", e)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	o := s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))
	o.values["SAY"] = "\x1b[31mred\x1b[0m"
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	var lines collected
	read := func(ctx context.Context, q agent.LogQuery) error {
		q.Environment = *s.place()
		return agent.ReadLogs(ctx, s.dir, "", q, lines.add)
	}
	if err := read(t.Context(), agent.LogQuery{Tail: -1}); err != nil {
		t.Fatal(err)
	}
	if got := lines.String(); got != "web-1 version 1 starts\nweb-1 \x1b[31mred\x1b[0m" {
		t.Errorf("logs: %q", got)
	}
	if safe := agent.Printable("\x1b[31mred\x1b[0m\u202e"); safe != "[31mred[0m" {
		t.Errorf("on a terminal: %q", safe)
	}
	lines.clear()
	if err := read(t.Context(), agent.LogQuery{Tail: 1, Service: "web"}); err != nil || !strings.HasPrefix(lines.String(), "web-1 \x1b[31m") {
		t.Errorf("the last line: %q, %v", lines.String(), err)
	}
	if err := read(t.Context(), agent.LogQuery{Service: "nothing"}); err == nil || !strings.Contains(err.Error(), "no container of the service nothing") {
		t.Errorf("no such service: %v", err)
	}

	// Followed through a replacement of the container.
	lines.clear()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- read(ctx, agent.LogQuery{Tail: 5, Follow: true}) }()
	await := func(want string) {
		t.Helper()
		enginetest.Wait(t, want, func() error {
			if got := lines.String(); !strings.Contains(got, want) {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}
	await("version 1 starts")
	s.await(s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2"))), v1alpha1.RolloutHealthy)
	await("version 2 starts")
	if got := lines.String(); strings.Count(got, "version 1 starts") != 1 || strings.Count(got, "version 2 starts") != 1 {
		t.Errorf("followed: %q", got)
	}
	// And through a restart of it.
	lines.clear()
	if _, err := s.raw.ContainerRestart(t.Context(), s.container("web").ID, client.ContainerRestartOptions{}); err != nil {
		t.Fatal(err)
	}
	await("version 2 starts")
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := lines.String(); strings.Count(got, "version 2 starts") != 1 || strings.Contains(got, "version 1") {
		t.Errorf("after the restart: %q", got)
	}
}

// collected are lines of logs.
type collected struct {
	mu   sync.Mutex
	list []string
}

func (c *collected) add(container, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, container+" "+line)
}

func (c *collected) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
}

func (c *collected) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.list, "\n")
}

// A running agent tells of the moment; one that does not run leaves it to the disk.
func TestLiveStatusAndMetrics(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	port := enginetest.FreePort(t)
	options := s.options()
	options.MetricsBind = fmt.Sprintf("127.0.0.1:%d", port)
	stop := s.runWith(options)
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	o := s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "READY_AFTER=1h"))
	o.compose = strings.Replace(web, "start_period: 500ms", "start_period: 1h", 1)
	s.await(s.send(o), v1alpha1.RolloutChecking)
	enginetest.Wait(t, "live status", func() error {
		status, err := agent.ReadLiveStatus(t.Context(), s.dir, s.policyFile())
		if err != nil {
			return err
		}
		live := status.Live
		if live == nil || !live.Engine.Up || !live.ControlPlane.Up || live.ControlPlane.Since.IsZero() || live.EngineVersion == "" || live.Version != "test" {
			return fmt.Errorf("%+v", live)
		}
		if e := status.Environments[0]; e.Doing == "" || e.Serving != "r1" || e.Images["web"] == "" {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	environment := fmt.Sprintf(`{project="%s",environment="dev"}`, s.project)
	enginetest.Wait(t, "metrics", func() error {
		text, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		if err != nil {
			return err
		}
		for _, want := range []string{
			"sirrat_agent_engine_up 1\n", "sirrat_agent_control_plane_up 1\n", "sirrat_agent_heartbeat_age_seconds ",
			"sirrat_agent_certificate_expiry_time_seconds 1", `sirrat_agent_rollout_phases_total{phase="Healthy"} 1` + "\n",
			`sirrat_agent_pulls_total{outcome="ok"} 2` + "\n", "sirrat_agent_environment_healthy" + environment, `sirrat_agent_info{version="test"`,
			"# TYPE sirrat_agent_heals_total counter\n",
		} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %q in\n%s", want, text)
			}
		}
		return nil
	})
	stop()
	status, err := agent.ReadLiveStatus(t.Context(), s.dir, s.policyFile())
	if err != nil || status.Live != nil || len(status.Environments) != 1 {
		t.Errorf("after the end: %+v, %v", status, err)
	}
}
