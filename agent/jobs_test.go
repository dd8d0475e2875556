// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// migrating is a release with two jobs, of which one needs a service, and an application that shows what has run.
const migrating = `
services:
  web:
    image: app
    ports: ["127.0.0.1:${PORT}:8080"]
    volumes: ["data:/data"]
    depends_on: {migrate: {condition: service_completed_successfully}}
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
  db:
    image: app
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
  migrate:
    image: app
    command: [job, migrate, "${TAKES:-0s}", "${CODE:-0}"]
    volumes: ["data:/data"]
    secrets: [password]
    depends_on: [db, prepare]
    restart: always
    x-sirrat: {job: pre-deploy, timeout: "${TIMEOUT:-1m}"}
  prepare:
    image: app
    command: [job, prepare, 0s, "0"]
    volumes: ["data:/data"]
    x-sirrat: {job: pre-deploy}
volumes: {data: {}}
secrets: {password: {environment: PASSWORD}}
`

func (s *server) migratingOrder(sequence int64, image, db string, values ...string) order {
	s.Helper()
	o := s.webOrder(sequence, image)
	o.compose, o.secrets, o.checks = migrating, []string{"job"}, nil
	o.images = map[string]string{"web": image, "migrate": image, "prepare": image, "db": db}
	for _, value := range values {
		name, text, _ := strings.Cut(value, "=")
		o.values[name] = text
	}
	_, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Get(s.Context(), "job", metav1.GetOptions{})
	if err != nil {
		_, err = s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(s.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "job"}, StringData: map[string]string{"PASSWORD": "canary-s3cret"},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		s.Fatal(err)
	}
	return o
}

// ran fails unless exactly these jobs have run, in this order.
func (s *server) ran(want ...string) {
	s.Helper()
	got, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/runs", s.port))
	if err != nil || strings.TrimSpace(got) != strings.Join(want, "\n") {
		s.Errorf("jobs that have run: %q, want %q, %v", got, want, err)
	}
}

func (s *server) jobs() []string {
	s.Helper()
	list, err := s.raw.ContainerList(s.Context(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", "com.docker.compose.project="+s.project, "sirrat.dynors.com/job"),
	})
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, c := range list.Items {
		names = append(names, strings.TrimPrefix(c.Names[0], "/"))
	}
	return names
}

// Jobs run once for each release, in the order of what they depend on, before anything is replaced; one that fails leads
// back, with its last words; what they need and runs already is left alone.
func TestJobs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	db, one := s.registry.Image(t, "db"), s.registry.Image(t, "app", "VERSION=1")
	first := s.send(s.migratingOrder(1, one, db))
	status := s.await(first, v1alpha1.RolloutHealthy)
	s.ran("prepare 1", "migrate 1")
	if len(status.Services) != 2 {
		t.Errorf("jobs count as services: %+v", status.Services)
	}
	var phases []string
	for _, timing := range status.Timings {
		phases = append(phases, timing.Phase)
	}
	if got := strings.Join(phases, " "); got != "Verifying Preflight Pulling Migrating Starting Checking Healthy" {
		t.Errorf("phases %s", got)
	}
	web, database := s.container("web"), s.container("db")

	failing := s.send(s.migratingOrder(2, s.registry.Image(t, "app", "VERSION=2"), db, "CODE=3"))
	status = s.await(failing, v1alpha1.RolloutRolledBack)
	if names := s.jobs(); !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "-migrate-r2") }) {
		t.Errorf("the container of the failed job is gone, nobody can look at it: %q", names)
	}
	if !strings.Contains(status.Message, "job migrate exited 3") || !strings.Contains(strings.Join(status.LastLogs, "\n"), "migrate: job migrate of version 2 runs") ||
		!strings.Contains(strings.Join(status.LastLogs, "\n"), "migrate: the secret is [redacted]") {
		t.Errorf("%q %q", status.Message, status.LastLogs)
	}
	s.ran("prepare 1", "migrate 1", "prepare 2", "migrate 2")
	if c := s.container("web"); c.ID != web.ID || !c.StartedAt.Equal(web.StartedAt) {
		t.Errorf("what served was touched: %+v", c)
	}
	if c := s.container("db"); c.ID != database.ID || !c.StartedAt.Equal(database.StartedAt) {
		t.Errorf("what a job needs was touched although it ran: %+v", c)
	}

	slow := s.send(s.migratingOrder(3, s.registry.Image(t, "app", "VERSION=3"), db, "TAKES=1h", "TIMEOUT=2s"))
	status = s.await(slow, v1alpha1.RolloutRolledBack)
	if !strings.Contains(status.Message, "job migrate was stopped, because it took longer than 2s") {
		t.Errorf("message %q", status.Message)
	}

	s.await(s.send(s.migratingOrder(4, s.registry.Image(t, "app", "VERSION=4"), db)), v1alpha1.RolloutHealthy)
	s.serves("4")
	enginetest.Wait(t, "the containers of jobs to be removed", func() error {
		if names := s.jobs(); len(names) > 0 {
			return fmt.Errorf("%q", names)
		}
		return nil
	})
}

// An agent that is killed while a job runs follows it to its end, and never starts it again.
func TestJobSurvivesTheAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	agent := s.spawn()
	image := s.registry.Image(t, "app", "VERSION=1")
	name := s.send(s.migratingOrder(1, image, image, "TAKES=3s"))
	running := func() error {
		for _, job := range s.jobs() {
			c, err := s.raw.ContainerInspect(t.Context(), job, client.ContainerInspectOptions{})
			if err == nil && strings.Contains(job, "migrate") && c.Container.State.Running {
				return nil
			}
		}
		return fmt.Errorf("jobs %q", s.jobs())
	}
	enginetest.Wait(t, "the job to run", running)
	for range 3 {
		_ = agent.Process.Signal(syscall.SIGKILL)
		_ = agent.Wait()
		agent = s.spawn()
	}
	s.await(name, v1alpha1.RolloutHealthy)
	s.ran("prepare 1", "migrate 1")
}

// An irreversible release that fails once its jobs have begun is held: nothing goes back, not after a restart either, and not
// for the next release that fails. A release that becomes healthy ends it.
func TestIrreversible(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	db := s.registry.Image(t, "db")
	first := s.send(s.migratingOrder(1, s.registry.Image(t, "app", "VERSION=1"), db))
	s.await(first, v1alpha1.RolloutHealthy)

	repository, _, _ := strings.Cut(db, "@")
	early := s.migratingOrder(2, repository+"@sha256:"+strings.Repeat("1", 64), db)
	early.irreversible = true
	status := s.await(s.send(early), v1alpha1.RolloutFailed)
	if status.ServingSequence != 1 {
		t.Errorf("before its jobs: %+v", status)
	}

	o := s.migratingOrder(3, s.registry.Image(t, "app", "VERSION=3", "SICK=1"), db)
	o.irreversible = true
	third := s.send(o)
	status = s.await(third, v1alpha1.RolloutHeld)
	if !strings.Contains(status.Message, "release r3 cannot be taken back") || status.ServingSequence != 0 {
		t.Errorf("%+v", status)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonHeld {
		t.Errorf("conditions %+v", status.Conditions)
	}
	before := s.container("web")
	if before.State != health.StateRunning {
		t.Errorf("what runs was not left as it is: %+v", before)
	}
	stop()
	s.run()
	fourth := s.send(s.migratingOrder(4, s.registry.Image(t, "app", "VERSION=4", "SICK=1"), db))
	status = s.await(fourth, v1alpha1.RolloutHeld)
	if !strings.Contains(status.Message, "release r3 cannot be taken back") {
		t.Errorf("message %q", status.Message)
	}
	s.await(third, v1alpha1.RolloutHeld)
	s.await(s.send(s.migratingOrder(5, s.registry.Image(t, "app", "VERSION=5"), db)), v1alpha1.RolloutHealthy)
	s.await(s.send(s.migratingOrder(6, s.registry.Image(t, "app", "VERSION=6", "SICK=1"), db)), v1alpha1.RolloutRolledBack)
	s.serves("5")
}
