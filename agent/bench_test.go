// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/flags"
	"github.com/docker/compose/v5/pkg/api"
	sdk "github.com/docker/compose/v5/pkg/compose"
	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// seconds1 is a service with a healthcheck of one second, as the goal of the design has it.
const seconds1 = `
services:
  web:
    image: app
    ports: ["127.0.0.1:${PORT}:8080"]
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 10}
`

// BenchmarkDeploy measures, in turn in one run, a new image replacing the running one: by the agent, from the moment the
// Rollout is created to the moment its status says Healthy; and by the bare Compose SDK: pull, up and wait.
func BenchmarkDeploy(b *testing.B) { benchmarkDeploy(b, 0) }

// BenchmarkDeployLarge does the same with an image of 200 MB that does not compress.
func BenchmarkDeployLarge(b *testing.B) { benchmarkDeploy(b, 200<<20) }

func benchmarkDeploy(b *testing.B, padding int64) {
	s := newServer(b)
	s.run()
	bare := newBare(b)
	barePort := enginetest.FreePort(b)
	image := func(i int) string {
		return s.registry.ImageFor(b, "app", enginetest.Architecture(), padding, fmt.Sprint("VERSION=", i))
	}
	var agentTook, bareTook []time.Duration
	for i := range b.N {
		o := s.webOrder(int64(i+1), image(i))
		o.compose, o.checks = seconds1, nil
		agentTook = append(agentTook, s.timed(o))
		bareTook = append(bareTook, bare.timed(b, image(i), barePort))
	}
	a, c := median(agentTook[1:]), median(bareTook[1:]) // the first ones replace nothing
	b.ReportMetric(a.Seconds(), "s-agent")
	b.ReportMetric(c.Seconds(), "s-bare")
	b.ReportMetric(a.Seconds()/c.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRollback measures how long it takes from the verdict that a release is not healthy until the old set is healthy
// again, and until it answers requests.
func BenchmarkRollback(b *testing.B) {
	s := newServer(b)
	s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(b, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	store, err := state.Open(filepath.Join(s.dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	var healthy, serving []time.Duration
	for i := range b.N {
		answered := make(chan time.Time, 1)
		ctx, stop := context.WithCancel(b.Context())
		go func() { answered <- s.lastReturn(ctx) }()
		o := s.webOrder(int64(i+2), s.registry.Image(b, "app", "VERSION=2", "SICK=1"))
		s.await(s.send(o), v1alpha1.RolloutRolledBack)
		stop()
		e, err := store.Load(state.Key{Project: s.project, Environment: "dev"})
		if err != nil {
			b.Fatal(err)
		}
		failure := e.Failed[len(e.Failed)-1]
		serving = append(serving, (<-answered).Sub(failure.At))
		healthy = append(healthy, failure.Timings[len(failure.Timings)-1].Started.Sub(failure.At))
	}
	b.ReportMetric(median(healthy).Seconds(), "s-healthy")
	b.ReportMetric(median(serving).Seconds(), "s-serving")
	b.ReportMetric(0, "ns/op")
}

// lastReturn is when version 1 last began to answer, until ctx ends.
func (s *server) lastReturn(ctx context.Context) (at time.Time) {
	before := true
	for ctx.Err() == nil {
		version, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/version", s.port))
		now := err == nil && version == "1"
		if now && !before {
			at = time.Now()
		}
		before = now
		time.Sleep(2 * time.Millisecond) // the resolution of the measurement
	}
	return at
}

// BenchmarkFootprint measures the program as it is shipped, once per run: its size, its memory at rest and at its peak
// during rollouts, and the processor time that it takes in a minute at rest.
func BenchmarkFootprint(b *testing.B) {
	s := newServer(b)
	binary, size := s.build()
	cmd := exec.Command(binary, "run", "--data-dir", s.dir)
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for i := range 3 {
		s.await(s.send(s.webOrder(int64(i+1), s.registry.ImageFor(b, "app", enginetest.Architecture(), 20<<20))), v1alpha1.RolloutHealthy)
	}
	time.Sleep(15 * time.Second) // rest, so that what is freed after work has been
	before := processorTime(b, cmd.Process.Pid)
	time.Sleep(time.Minute)
	b.ReportMetric(float64(processorTime(b, cmd.Process.Pid)-before)/float64(time.Millisecond), "ms-CPU/min-at-rest")
	for field, unit := range map[string]string{"VmRSS": "MB-at-rest", "RssAnon": "MB-at-rest-own", "RssFile": "MB-at-rest-of-the-program-file", "VmHWM": "MB-peak"} {
		kilobytes, err := statusOf(cmd.Process.Pid, field)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(kilobytes)/1024, unit)
	}
	b.ReportMetric(float64(size)/(1<<20), "MB-program")
	b.ReportMetric(0, "ns/op")
}

// processorTime that a process has taken, in user and system mode.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	var ticks int64
	for _, text := range fields[11:13] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 1
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// timed sends an order and watches for its success.
func (s *server) timed(o order) time.Duration {
	s.Helper()
	w, err := s.objects().Watch(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	defer w.Stop()
	begin := time.Now()
	name := s.send(o)
	for e := range w.ResultChan() {
		object, ok := e.Object.(*unstructured.Unstructured)
		if !ok || object.GetName() != name {
			continue
		}
		switch phase, _, _ := unstructured.NestedString(object.Object, "status", "phase"); phase {
		case v1alpha1.RolloutHealthy:
			return time.Since(begin)
		case v1alpha1.RolloutFailed, v1alpha1.RolloutRejected, v1alpha1.RolloutRolledBack:
			s.Fatalf("%s: %v", phase, object.Object["status"])
		}
	}
	s.Fatal("the watch ended")
	return 0
}

// bare is the Compose SDK as its own command line uses it.
type bare struct {
	service api.Compose
	project string
}

func newBare(t testing.TB) *bare {
	t.Helper()
	cli, err := command.NewDockerCli(command.WithCombinedStreams(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.Initialize(flags.NewClientOptions()); err != nil {
		t.Fatal(err)
	}
	service, err := sdk.NewComposeService(cli)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	return &bare{service: service, project: enginetest.Project(t, engine)}
}

func (b *bare) timed(t testing.TB, image string, port int) time.Duration {
	t.Helper()
	project, err := composefile.Load(t.Context(), seconds1, b.project, map[string]string{"PORT": fmt.Sprint(port)})
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range project.Services {
		service.Image = image
		service.CustomLabels = types.Labels{
			api.ProjectLabel: project.Name, api.ServiceLabel: name, api.VersionLabel: api.ComposeVersion,
			api.WorkingDirLabel: "/", api.ConfigFilesLabel: "", api.OneoffLabel: "False",
		}
		project.Services[name] = service
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.service.Pull(ctx, project, api.PullOptions{Quiet: true}); err != nil {
		t.Fatal(err)
	}
	up := api.UpOptions{Create: api.CreateOptions{Recreate: api.RecreateDiverged}, Start: api.StartOptions{Project: project, Wait: true, WaitTimeout: time.Minute}}
	if err := b.service.Up(ctx, project, up); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}
