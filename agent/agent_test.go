// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

func toUnstructured(h *host, rollout *v1alpha1.Rollout) *unstructured.Unstructured {
	h.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(rollout)
	if err != nil {
		h.Fatal(err)
	}
	delete(object, "status")
	return &unstructured.Unstructured{Object: object}
}

// server is a host with an engine, a registry and an agent that has joined.
type server struct {
	*host
	raw      *client.Client
	engine   *compose.Engine
	registry *enginetest.Registry
	project  string
	port     int
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := unjoinedServer(t)
	s.join()
	return s
}

func unjoinedServer(t testing.TB) *server {
	t.Helper()
	raw := enginetest.Engine(t)
	engine, err := compose.Connect("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	s := &server{raw: raw, engine: engine, registry: enginetest.NewRegistry(t, raw), project: enginetest.Project(t, raw), port: enginetest.FreePort(t)}
	s.host = newHost(t)
	return s
}

// anotherProject is the name of one more compose project. Agents end before it is removed: they would heal it.
func (s *server) anotherProject() string {
	s.Helper()
	project := enginetest.Project(s, s.raw)
	s.Cleanup(func() {
		for _, stop := range s.stops {
			stop()
		}
	})
	return project
}

// web is a compose file with one service that has a healthcheck and a port.
const web = `
services:
  web:
    image: app
    restart: unless-stopped
    environment: {PASSWORD: "${PASSWORD:-}", SAY: "${SAY:-}"}
    ports: ["127.0.0.1:${PORT}:8080"]
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
`

func (s *server) webOrder(sequence int64, image string) order {
	o := s.order(s.project)
	o.sequence, o.compose = sequence, web
	o.images, o.values = map[string]string{"web": image}, map[string]string{"PORT": fmt.Sprint(s.port)}
	o.checks = []v1alpha1.HealthCheck{{
		HTTP:    &v1alpha1.HTTPCheck{URL: "http://127.0.0.1:${PORT}/health"},
		Timeout: metav1.Duration{Duration: 2 * time.Minute}, Interval: metav1.Duration{Duration: 100 * time.Millisecond}, Successes: 2,
	}}
	return o
}

// serves fails when something other than version answers.
func (s *server) serves(version string) {
	s.Helper()
	enginetest.Wait(s, "version "+version+" to serve", func() error {
		got, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/version", s.port))
		if err == nil && got != version {
			err = fmt.Errorf("version %s serves", got)
		}
		return err
	})
}

func (s *server) container(service string) health.Container {
	s.Helper()
	list, err := s.engine.Containers(s.Context(), s.project)
	if err != nil {
		s.Fatal(err)
	}
	i := slices.IndexFunc(list, func(c health.Container) bool { return c.Service == service })
	if i < 0 {
		return health.Container{}
	}
	return list[i]
}

func TestDeployHealAndGoBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	one := s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.webOrder(1, one))
	status := s.await(first, v1alpha1.RolloutHealthy)
	s.serves("1")
	checkHealthy(t, status, one)
	started := s.container("web")

	// Stopped by hand, then removed by hand: it comes back, and the health is a new one.
	if _, err := s.raw.ContainerStop(t.Context(), started.ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	s.await(first, v1alpha1.RolloutUnhealthy)
	again := s.await(first, v1alpha1.RolloutHealthy)
	s.serves("1")
	if s.container("web").ID != started.ID {
		t.Error("a stopped container was replaced instead of started")
	}
	if again.HealthySince.Before(status.HealthySince) {
		t.Errorf("healthy since %s, before it was stopped", again.HealthySince)
	}
	removeContainer(t, s.raw, started.ID)
	enginetest.Wait(t, "the removed container to come back", func() error {
		if c := s.container("web"); c.ID == "" || c.ID == started.ID || c.Check != health.CheckHealthy {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.await(first, v1alpha1.RolloutHealthy)

	// A release that never becomes healthy: the old one serves again, without a pull.
	bad := s.registry.Image(t, "app", "VERSION=2", "SICK=1")
	o := s.webOrder(2, bad)
	o.secrets = []string{"secret"}
	o.values["SAY"] = "the password is ${PASSWORD}"
	o.compose = strings.Replace(web, "${SAY:-}", "the password is ${PASSWORD}", 1)
	delete(o.values, "SAY")
	_, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "secret"}, StringData: map[string]string{"PASSWORD": "canary-s3cret"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second := s.send(o)
	status = s.await(second, v1alpha1.RolloutRolledBack)
	s.serves("1")
	checkRolledBack(t, status)
	s.await(first, v1alpha1.RolloutHealthy)
	if said := s.log.String(); strings.Contains(said, "canary-s3cret") {
		t.Error("the log has the secret")
	}
	if bytes, err := json.Marshal(status); err != nil || strings.Contains(string(bytes), "canary-s3cret") {
		t.Errorf("the status has the secret: %s, %v", bytes, err)
	}

	// The next good one.
	three := s.registry.Image(t, "app", "VERSION=3")
	third := s.send(s.webOrder(3, three))
	s.await(third, v1alpha1.RolloutHealthy)
	s.serves("3")
	s.await(first, v1alpha1.RolloutSuperseded)
	s.await(second, v1alpha1.RolloutRolledBack)
}

func checkHealthy(t *testing.T, status v1alpha1.RolloutStatus, image string) {
	t.Helper()
	want := []v1alpha1.ServiceState{{Name: "web", Running: "1/1", Health: "healthy", Image: image}}
	if !slices.Equal(status.Services, want) {
		t.Errorf("services %+v, want %+v", status.Services, want)
	}
	if status.HealthySince == nil || !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) ||
		!meta.IsStatusConditionFalse(status.Conditions, v1alpha1.ConditionReconciling) ||
		!meta.IsStatusConditionFalse(status.Conditions, v1alpha1.ConditionStalled) {
		t.Errorf("%+v", status)
	}
	var phases []string
	for i, timing := range status.Timings {
		phases = append(phases, timing.Phase)
		if i > 0 && timing.Started.Before(&status.Timings[i-1].Started) {
			t.Errorf("timings go back: %+v", status.Timings)
		}
	}
	if want := []string{"Verifying", "Preflight", "Pulling", "Starting", "Checking", "Healthy"}; !slices.Equal(phases, want) {
		t.Errorf("phases %v, want %v", phases, want)
	}
}

func checkRolledBack(t *testing.T, status v1alpha1.RolloutStatus) {
	t.Helper()
	if status.ServingSequence != 1 || !strings.Contains(status.Message, "its healthcheck fails") || !strings.Contains(status.Message, "r1 serves again") {
		t.Errorf("sequence %d, message %q", status.ServingSequence, status.Message)
	}
	if !slices.Contains(status.LastLogs, "web: version 2 starts") || !slices.Contains(status.LastLogs, "web: the password is [redacted]") {
		t.Errorf("logs %q", status.LastLogs)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonRolledBack {
		t.Errorf("conditions %+v", status.Conditions)
	}
}

// What is not authorised, or not admissible, is refused before anything is touched, and says why.
func TestRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.webOrder(5, image))
	s.await(first, v1alpha1.RolloutHealthy)
	before := s.container("web")
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	bad := func(text string) func(*order) {
		return func(o *order) { o.compose = strings.Replace(web, "restart: unless-stopped", text, 1) }
	}
	for i, c := range []struct {
		name, want string
		change     func(*order)
	}{
		{"unknown key", "not signed by a known key", func(o *order) { o.key = stranger }},
		{"other host", "for another host", func(o *order) { o.host = &authorization.Host{Name: "other", UID: s.uid} }},
		{"earlier host of the same name", "for another host", func(o *order) { o.host = &authorization.Host{Name: s.name, UID: "old"} }},
		{"changed image", "differs from what was authorised: images", func(o *order) {
			o.tamper = func(spec *v1alpha1.RolloutSpec) {
				spec.Images[0].Image = strings.Replace(image, "@sha256:", "@sha256:0", 1)[:len(image)]
			}
		}},
		{"changed compose", "the compose file does not have its hash", func(o *order) {
			o.tamper = func(spec *v1alpha1.RolloutSpec) { spec.Compose += "#" }
		}},
		{"no authorization", "cannot be read", func(o *order) { o.tamper = func(spec *v1alpha1.RolloutSpec) { spec.Authorization = "{}" } }},
		{"privileged", "services.web.privileged", bad("privileged: true")},
		{"bind", "services.web.volumes", bad("volumes: [\"/:/host\"]")},
		{"not a compose file", "services.web.imagee is not allowed in a compose file", bad("imagee: a")},
		{"service without digest", "services.web: the authorization names no digest", func(o *order) { o.images = map[string]string{"other": image} }},
		{"missing value", "variable PORT has no value", func(o *order) { o.values = nil; o.checks = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := s.webOrder(int64(10+i), image)
			c.change(&o)
			status := s.await(s.send(o), v1alpha1.RolloutRejected)
			if !strings.Contains(status.Message, c.want) {
				t.Errorf("message %q does not say %q", status.Message, c.want)
			}
			if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled) {
				t.Errorf("not stalled: %+v", status.Conditions)
			}
		})
	}
	s.await(s.send(s.webOrder(4, image)), v1alpha1.RolloutSuperseded)
	if after := s.container("web"); after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the container was touched: %+v", after)
	}
	s.await(first, v1alpha1.RolloutHealthy)
}

// A registry that has no such image: nothing is touched.
func TestPullFails(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	image := s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.webOrder(1, image))
	s.await(first, v1alpha1.RolloutHealthy)
	before := s.container("web")
	repository, _, _ := strings.Cut(image, "@")
	status := s.await(s.send(s.webOrder(2, repository+"@sha256:"+strings.Repeat("1", 64))), v1alpha1.RolloutFailed)
	if status.ServingSequence != 1 || !strings.Contains(status.Message, "r1 keeps serving") || len(status.LastLogs) > 0 {
		t.Errorf("%+v", status)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); c == nil || c.Reason != v1alpha1.ReasonImageNotFound {
		t.Errorf("conditions %+v", status.Conditions)
	}
	if after := s.container("web"); after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the container was touched: %+v", after)
	}
	s.await(first, v1alpha1.RolloutHealthy)
}

// Nothing to go back to, or no wish to: it fails and stays as it is.
func TestFailsWithoutWayBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	crash := s.registry.Image(t, "app", "VERSION=1", "EXIT=3")
	o := s.webOrder(1, crash)
	o.compose = strings.Replace(web, "restart: unless-stopped", "restart: \"no\"", 1)
	first := s.send(o)
	status := s.await(first, v1alpha1.RolloutFailed)
	if !strings.Contains(status.Message, "exited 3") || !strings.Contains(status.Message, "nothing to go back to") ||
		!slices.Contains(status.LastLogs, "web: boom: the database is on fire") {
		t.Errorf("%q, %q", status.Message, status.LastLogs)
	}
	good := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2")))
	s.await(good, v1alpha1.RolloutHealthy)
	o.sequence, o.noWayBack = 3, true
	status = s.await(s.send(o), v1alpha1.RolloutFailed)
	if !strings.Contains(status.Message, "going back is switched off") || status.ServingSequence != 0 {
		t.Errorf("%+v", status)
	}
	s.await(good, v1alpha1.RolloutSuperseded)
}

// A newer Rollout does not wait for the end of an older one that is on its way nowhere.
func TestNewerInterrupts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	o := s.webOrder(1, s.registry.Image(t, "app", "VERSION=1", "READY_AFTER=1h"))
	o.compose = strings.Replace(web, "start_period: 500ms", "start_period: 1h", 1)
	o.timeout = time.Hour
	first := s.send(o)
	s.await(first, v1alpha1.RolloutChecking)
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2")))
	s.await(second, v1alpha1.RolloutHealthy)
	s.await(first, v1alpha1.RolloutSuperseded)
	s.serves("2")

	slow := s.registry.Image(t, "slow", "VERSION=3")
	s.registry.Slow.Store(int64(time.Hour))
	third := s.send(s.webOrder(3, slow))
	s.await(third, v1alpha1.RolloutPulling)
	fourth := s.send(s.webOrder(4, s.container("web").Image))
	s.await(fourth, v1alpha1.RolloutHealthy)
	s.await(third, v1alpha1.RolloutSuperseded)
	s.serves("2")
	s.registry.Slow.Store(0)
}

// Projects do not disturb each other: one fails, the other one is healthy.
func TestSeveralProjects(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	other := s.anotherProject()
	image := s.registry.Image(t, "app", "VERSION=1")
	bad := s.order(other)
	bad.compose, bad.images = "services: {job: {image: a}}", map[string]string{"job": s.registry.Image(t, "app", "EXIT=1")}
	failing := s.send(bad)
	good := s.send(s.webOrder(1, image))
	s.await(failing, v1alpha1.RolloutFailed)
	s.await(good, v1alpha1.RolloutHealthy)

	// A one-shot service that ends well is completed, and is not run again when another one is healed.
	mixed := s.order(other)
	mixed.sequence, mixed.images = 2, map[string]string{"job": image, "web": image}
	mixed.compose = `
services:
  job: {image: a, environment: {EXIT: "0"}, restart: on-failure}
  web: {image: a, depends_on: {job: {condition: service_completed_successfully}}}
`
	name := s.send(mixed)
	status := s.await(name, v1alpha1.RolloutHealthy)
	if len(status.Services) != 2 || status.Services[0].Message != "completed" {
		t.Errorf("services %+v", status.Services)
	}
	find := func(service string) health.Container {
		list, err := s.engine.Containers(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(c health.Container) bool { return c.Service == service })
		if i < 0 {
			return health.Container{}
		}
		return list[i]
	}
	job, running := find("job"), find("web")
	removeContainer(t, s.raw, running.ID)
	enginetest.Wait(t, "the service to be healed", func() error {
		if c := find("web"); c.ID == "" || c.ID == running.ID || c.State != health.StateRunning {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.await(name, v1alpha1.RolloutHealthy)
	if after := find("job"); !after.StartedAt.Equal(job.StartedAt) {
		t.Errorf("the job ran again: %+v", after)
	}
}

// A healthcheck that fails later makes it unhealthy, and ends the streak of health.
func TestSicknessAfterwards(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	name := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	first := s.await(name, v1alpha1.RolloutHealthy)
	if _, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/sicken", s.port)); err != nil {
		t.Fatal(err)
	}
	sick := s.await(name, v1alpha1.RolloutUnhealthy)
	if sick.HealthySince != nil || !strings.Contains(sick.Message, "its healthcheck fails") {
		t.Errorf("%+v", sick)
	}
	if _, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/cure", s.port)); err != nil {
		t.Fatal(err)
	}
	if again := s.await(name, v1alpha1.RolloutHealthy); again.HealthySince.Before(first.HealthySince) {
		t.Errorf("healthy since %s", again.HealthySince)
	}
}

// A Secret that comes late is waited for.
func TestWaitsForSecret(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	o := s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))
	o.secrets = []string{"late"}
	name := s.send(o)
	status := s.await(name, v1alpha1.RolloutPending)
	if !strings.Contains(status.Message, "late") {
		t.Errorf("message %q", status.Message)
	}
	_, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "late"}, StringData: map[string]string{"PASSWORD": "late-s3cret"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.await(name, v1alpha1.RolloutHealthy)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	leases := s.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(s.name))
	var first *metav1.MicroTime
	enginetest.Wait(t, "two heartbeats", func() error {
		lease, err := leases.Get(t.Context(), v1alpha1.AgentLease, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var info v1alpha1.AgentInfo
		if err := json.Unmarshal([]byte(lease.Annotations[v1alpha1.AnnotationAgentInfo]), &info); err != nil {
			return err
		}
		if info.AgentVersion != "test" || info.EngineVersion == "" || info.CPUs < 1 || info.MemoryBytes < 1 ||
			*lease.Spec.HolderIdentity != v1alpha1.AgentUser(s.name, s.uid) {
			return fmt.Errorf("%+v by %s", info, *lease.Spec.HolderIdentity)
		}
		if first == nil {
			first = lease.Spec.RenewTime
		}
		if !first.Before(lease.Spec.RenewTime) {
			return errors.New("one heartbeat so far")
		}
		return nil
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	s.await(s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "SICK=1"))), v1alpha1.RolloutRolledBack)
	stop()
	status, err := agent.ReadStatus(s.dir, s.policyFile())
	if err != nil {
		t.Fatal(err)
	}
	if status.Host != s.name || len(status.Environments) != 1 {
		t.Fatalf("%+v", status)
	}
	if e := status.Environments[0]; e.Project != s.project || e.Release != "r2" || e.Phase != v1alpha1.RolloutRolledBack || e.Serving != "r1" || e.Sequence != 2 {
		t.Errorf("%+v", e)
	}
}
