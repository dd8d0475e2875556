// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

var labels = map[string]string{"sirrat.dynors.com/project": "agenttest"}

type fixture struct {
	*testing.T
	raw      *client.Client
	engine   *Engine
	registry *enginetest.Registry
	project  string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	raw := enginetest.Engine(t)
	engine, err := Connect("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return &fixture{t, raw, engine, enginetest.NewRegistry(t, raw), enginetest.Project(t, raw)}
}

func (f *fixture) up(text string, values map[string]string, services ...string) error {
	f.Helper()
	project, err := composefile.Load(f.Context(), text, f.project, values)
	if err != nil {
		f.Fatal(err)
	}
	return f.engine.Up(f.Context(), project, labels, services...)
}

func (f *fixture) mustUp(text string, values map[string]string) map[string]health.Container {
	f.Helper()
	if err := f.up(text, values); err != nil {
		f.Fatal(err)
	}
	return f.containers()
}

func (f *fixture) containers() map[string]health.Container {
	f.Helper()
	list, err := f.engine.Containers(f.Context(), f.project)
	if err != nil {
		f.Fatal(err)
	}
	byService := map[string]health.Container{}
	for _, c := range list {
		byService[c.Service] = c
	}
	if len(byService) != len(list) {
		f.Fatalf("more than one container of a service: %v", list)
	}
	return byService
}

func (f *fixture) pull(ref string) {
	f.Helper()
	if err := f.engine.Pull(f.Context(), ref, nil, 0, func(Progress) {}); err != nil {
		f.Fatal(err)
	}
}

func TestPull(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app", "VERSION=1")
	if present, err := f.engine.Present(t.Context(), image); err != nil || present {
		t.Fatalf("present before the pull: %v, %v", present, err)
	}
	f.pull(image)
	before := f.registry.Requests.Load()
	f.pull(image)
	if n := f.registry.Requests.Load() - before; n != 0 {
		t.Errorf("an image that is there was asked for %d times", n)
	}
	repository, _, _ := strings.Cut(image, "@")
	missing := repository + "@sha256:" + strings.Repeat("0", 64)
	if err := f.engine.Pull(t.Context(), missing, nil, 0, func(Progress) {}); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	if err := f.engine.Pull(t.Context(), repository+":latest", nil, 0, nil); err == nil || !strings.Contains(err.Error(), "has no digest") {
		t.Errorf("image without digest: %v", err)
	}
	f.registry.Broken.Store(true)
	if err := f.engine.Pull(t.Context(), missing, nil, 0, func(Progress) {}); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("broken registry: %v", err)
	}
}

func TestInfo(t *testing.T) {
	f := newFixture(t)
	info, err := f.engine.Info(t.Context())
	if err != nil || info.Version == "" || info.APIVersion == "" || !strings.HasPrefix(info.Platform, "linux/") || info.CPUs < 1 || info.MemoryBytes < 1 {
		t.Errorf("%+v, %v", info, err)
	}
	nobody, err := Connect("unix:///nonexistent/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Info(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no engine: %v", err)
	}
	if _, err := Connect("nonsense"); err == nil {
		t.Error("a host that is no address is accepted")
	}
}

// Containers are replaced when, and only when, something about them changed: the image, or what a config or secret holds.
func TestUp(t *testing.T) {
	f := newFixture(t)
	one, two := f.registry.Image(t, "app", "VERSION=1"), f.registry.Image(t, "app", "VERSION=2")
	f.pull(one)
	f.pull(two)
	text := func(web string) string {
		return `
services:
  web:
    image: ` + web + `
    configs: [settings]
    secrets: [password]
    volumes: ["data:/data"]
  db: {image: ` + one + `}
volumes: {data: {}}
configs: {settings: {content: "level=${LEVEL}"}}
secrets: {password: {environment: PASSWORD}}
`
	}
	values := map[string]string{"LEVEL": "1", "PASSWORD": "s3cret"}
	first := f.mustUp(text(one), values)
	if c := first["web"]; c.State != health.StateRunning || c.Image != one || c.StartedAt.IsZero() || c.Check != health.CheckNone {
		t.Fatalf("%+v", c)
	}
	same := f.mustUp(text(one), values)
	if same["web"].ID != first["web"].ID || same["db"].ID != first["db"].ID {
		t.Error("containers were replaced although nothing changed")
	}
	other := f.mustUp(text(two), values)
	if other["web"].ID == first["web"].ID || other["web"].Image != two || other["db"].ID != first["db"].ID {
		t.Error("not exactly the service with another image was replaced")
	}
	for _, changed := range []map[string]string{{"LEVEL": "2", "PASSWORD": "s3cret"}, {"LEVEL": "2", "PASSWORD": "other"}} {
		next := f.mustUp(text(two), changed)
		if next["web"].ID == other["web"].ID || next["db"].ID != first["db"].ID {
			t.Errorf("%v: not exactly the service with another content was replaced", changed)
		}
		other = next
	}
	removed := f.mustUp("services: {web: {image: "+one+"}}", nil)
	if len(removed) != 1 {
		t.Errorf("a service that is gone from the file still runs: %v", removed)
	}
}

func TestUpLeavesTheProcessEnvironmentOut(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("CANARY", "canary")
	f := newFixture(t)
	image := f.registry.Image(t, "app")
	f.pull(image)
	web := f.mustUp("services: {web: {image: "+image+", environment: [CANARY]}}", nil)["web"]
	inspected, err := f.raw.ContainerInspect(t.Context(), web.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(inspected.Container.Config.Env, func(s string) bool { return strings.Contains(s, "canary") }) {
		t.Error("the agent's own environment is in the container")
	}
}

// A volume with other options would have to be recreated, which loses its data: nothing is touched.
func TestUpRefusesDivergedVolume(t *testing.T) {
	f := newFixture(t)
	image, next := f.registry.Image(t, "app"), f.registry.Image(t, "app")
	f.pull(image)
	f.pull(next)
	text := func(image, size string) string {
		return fmt.Sprintf("services: {web: {image: %s, volumes: [\"data:/data\"]}}\n"+
			"volumes: {data: {driver_opts: {type: tmpfs, device: tmpfs, o: size=%s}}}", image, size)
	}
	before := f.mustUp(text(image, "1m"), nil)
	err := f.up(text(next, "2m"), nil)
	if !errors.Is(err, ErrVolumeDiverged) {
		t.Errorf("error: %v", err)
	}
	if after := f.containers(); after["web"].ID != before["web"].ID || after["web"].State != health.StateRunning {
		t.Errorf("touched: %+v", after)
	}
}

func TestUpSaysCancelled(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app")
	f.pull(image)
	project, err := composefile.Load(t.Context(), "services: {web: {image: "+image+"}}", f.project, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.engine.Up(ctx, project, labels); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled up: %v", err)
	}
}

func TestUpWithoutImage(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app")
	if err := f.up("services: {web: {image: "+image+", pull_policy: always}}", nil); err == nil {
		t.Error("an image that is not on disk was run")
	}
	if present, err := f.engine.Present(t.Context(), image); err != nil || present {
		t.Errorf("up has pulled: %v, %v", present, err)
	}
}

// A part of the services is brought up without those that they depend on, and without removing anything.
func TestUpOfSomeServices(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app")
	f.pull(image)
	text := `
services:
  job: {image: ` + image + `, environment: {EXIT: "0"}, restart: "no"}
  web: {image: ` + image + `, depends_on: {job: {condition: service_completed_successfully}}}
`
	before := f.mustUp(text, nil)
	if _, err := f.raw.ContainerRemove(t.Context(), before["web"].ID, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.up(text, nil, "web"); err != nil {
		t.Fatal(err)
	}
	after := f.containers()
	if after["web"].State != health.StateRunning || after["web"].ID == before["web"].ID {
		t.Errorf("web: %+v", after["web"])
	}
	if !after["job"].StartedAt.Equal(before["job"].StartedAt) {
		t.Error("the job ran again")
	}
}

// A kill in the middle of a recreation leaves the new container beside the old one, or under its temporary name.
func TestUpAdoptsInterrupted(t *testing.T) {
	f := newFixture(t)
	one, two := f.registry.Image(t, "app"), f.registry.Image(t, "app")
	f.pull(one)
	f.pull(two)
	text := func(image string) string { return "services: {web: {image: " + image + "}}" }
	f.mustUp(text(one), nil)
	replaced := f.mustUp(text(two), nil)["web"]
	name := replaced.Name
	if _, err := f.raw.ContainerRename(t.Context(), replaced.ID, client.ContainerRenameOptions{NewName: "0123456789ab_" + name}); err != nil {
		t.Fatal(err)
	}
	after := f.mustUp(text(two), nil)["web"]
	if after.ID != replaced.ID || after.Name != name {
		t.Errorf("old one gone: %s under %s, want %s under %s", after.ID, after.Name, replaced.ID, name)
	}
	config, err := f.raw.ContainerInspect(t.Context(), after.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.raw.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: config.Container.Config, Name: after.ID[:12] + "_" + name,
	})
	if err != nil {
		t.Fatal(err)
	}
	if last := f.mustUp(text(two), nil)["web"]; last.ID != after.ID || last.State != health.StateRunning {
		t.Errorf("old one there: %+v", last)
	}
}

func TestLogs(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app", "EXIT=3")
	f.pull(image)
	web := f.mustUp("services: {web: {image: "+image+"}}", nil)["web"]
	enginetest.Wait(t, "the end", func() error {
		if c := f.containers()["web"]; c.State != health.StateExited || c.ExitCode != 3 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	lines, err := f.engine.Logs(t.Context(), web.ID, 1, 1000)
	if err != nil || len(lines) != 1 {
		t.Fatalf("%q, %v", lines, err)
	}
	if lines, err = f.engine.Logs(t.Context(), web.ID, 10, 1000); err != nil || !slices.Contains(lines, "boom: the database is on fire") {
		t.Errorf("%q, %v", lines, err)
	}
	if lines, err = f.engine.Logs(t.Context(), web.ID, 10, 5); err != nil || len(strings.Join(lines, "\n")) > 5 {
		t.Errorf("%q, %v", lines, err)
	}
}

func TestEvents(t *testing.T) {
	f := newFixture(t)
	image := f.registry.Image(t, "app")
	f.pull(image)
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan Event, 100), make(chan struct{})
	go func() {
		defer close(done)
		f.engine.Events(ctx, "sirrat.dynors.com/project", 0, func(e Event) {
			if e.Project == "" || e.Project == f.project {
				events <- e
			}
		}, func(err error) { t.Log(err) })
	}()
	next := func(want string) {
		t.Helper()
		timeout, cancel := context.WithTimeout(t.Context(), enginetest.Deadline)
		defer cancel()
		for {
			select {
			case e := <-events:
				if e.Action == want {
					return
				}
			case <-timeout.Done():
				t.Fatalf("no event %q", want)
			}
		}
	}
	next("")
	web := f.mustUp(`
services:
  web: {image: `+image+`, healthcheck: {test: [CMD, /app, health], interval: 1s, start_period: 30s}}
`, nil)["web"]
	next("start")
	next("health_status: healthy")
	if _, err := f.raw.ContainerStop(t.Context(), web.ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	next("die")
	next("stop")
	if err := f.engine.Remove(t.Context(), f.project); err != nil {
		t.Fatal(err)
	}
	next("destroy")
	cancel()
	<-done
}
