// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"io"
	"slices"
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
func BenchmarkDeploy(b *testing.B) {
	s := newServer(b)
	s.run()
	bare := newBare(b)
	barePort := enginetest.FreePort(b)
	var agentTook, bareTook []time.Duration
	for i := range b.N {
		o := s.webOrder(int64(i+1), s.registry.Image(b, "app", fmt.Sprint("VERSION=", i)))
		o.compose, o.checks = seconds1, nil
		agentTook = append(agentTook, s.timed(o))
		bareTook = append(bareTook, bare.timed(b, s.registry.Image(b, "app", fmt.Sprint("VERSION=", i)), barePort))
	}
	a, c := median(agentTook[1:]), median(bareTook[1:]) // the first ones replace nothing
	b.ReportMetric(a.Seconds(), "s-agent")
	b.ReportMetric(c.Seconds(), "s-bare")
	b.ReportMetric(a.Seconds()/c.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
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
