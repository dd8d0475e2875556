// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// After a restart nothing is done again: neither what runs, nor what failed. Nothing is written either.
func TestRestartDoesNothingAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	first := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(first, v1alpha1.RolloutHealthy)
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "SICK=1")))
	rolledBack := s.await(second, v1alpha1.RolloutRolledBack)
	healthy := s.await(first, v1alpha1.RolloutHealthy)
	container, asked := s.container("web"), s.registry.Requests.Load()
	stop()
	if c := s.container("web"); c.State != health.StateRunning {
		t.Errorf("the agent's end stopped the container: %+v", c)
	}
	versions := func() string {
		list, err := s.objects().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, item := range list.Items {
			all = append(all, item.GetName()+"@"+item.GetResourceVersion())
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	before := versions()
	s.run()
	third := s.send(s.webOrder(1, container.Image)) // older: answered once the agent has looked at everything
	s.await(third, v1alpha1.RolloutSuperseded)
	if c := s.container("web"); c.ID != container.ID || !c.StartedAt.Equal(container.StartedAt) {
		t.Errorf("the container was touched: %+v", c)
	}
	if n := s.registry.Requests.Load() - asked; n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
	if err := s.objects().Delete(t.Context(), third, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if after := versions(); after != before {
		t.Errorf("something was written: %s, before %s", after, before)
	}
	if now := s.status(first); !equality.Semantic.DeepEqual(now, healthy) {
		t.Errorf("status of the first: %+v, before %+v", now, healthy)
	}
	if now := s.status(second); !equality.Semantic.DeepEqual(now, rolledBack) {
		t.Errorf("status of the second: %+v, before %+v", now, rolledBack)
	}
}

// Killed at any moment of a rollout and started again, the agent arrives where it would have arrived.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	good, bad := s.registry.Image(t, "app", "VERSION=good"), s.registry.Image(t, "app", "VERSION=bad", "SICK=1")
	next := s.registry.Image(t, "app", "VERSION=next")
	killUntil := func(name, phase string) {
		t.Helper()
		for round := 0; ; round++ {
			running := strings.Count(s.log.String(), "agent started")
			cmd := s.spawn()
			if round >= 6 { // enough kills: let it arrive
				enginetest.Wait(t, "the agent to run", func() error {
					if n := strings.Count(s.log.String(), "agent started"); n <= running {
						return fmt.Errorf("%d starts", n)
					}
					return nil
				})
				s.await(name, phase)
				_ = cmd.Process.Signal(syscall.SIGTERM)
				if err := cmd.Wait(); err != nil {
					t.Errorf("the agent does not end cleanly: %v", err)
				}
				return
			}
			// The moment of the kill is what is being varied, not a wait for something to happen.
			timer := time.NewTimer(time.Duration(200+rand.IntN(2000)) * time.Millisecond)
			<-timer.C
			_ = cmd.Process.Signal(syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	killUntil(s.send(s.webOrder(1, good)), v1alpha1.RolloutHealthy)
	s.serves("good")
	killUntil(s.send(s.webOrder(2, bad)), v1alpha1.RolloutRolledBack)
	s.serves("good")
	killUntil(s.send(s.webOrder(3, next)), v1alpha1.RolloutHealthy)
	s.serves("next")
	list, err := s.engine.Containers(t.Context(), s.project)
	if err != nil || len(list) != 1 || list[0].Name != s.project+"-web-1" {
		t.Errorf("containers %+v, %v", list, err)
	}
}

// Without the control plane, also right after a start, what ran is healed from what is on disk.
func TestHealsWithoutControlPlane(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	stop()
	identity, err := enrol.LoadIdentity(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	identity.Server = fmt.Sprintf("https://127.0.0.1:%d", enginetest.FreePort(t))
	if err := identity.Save(s.dir); err != nil {
		t.Fatal(err)
	}
	removeContainer(t, s.raw, s.container("web").ID)
	s.run()
	s.serves("1")
	if _, err := s.raw.ContainerKill(t.Context(), s.container("web").ID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.raw.ContainerStop(t.Context(), s.container("web").ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	s.serves("1")
}

// A Rollout that disappears is no order to remove what runs.
func TestAbsenceIsNoOrder(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	name := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(name, v1alpha1.RolloutHealthy)
	if err := s.objects().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before := s.container("web")
	removeContainer(t, s.raw, before.ID) // it is even healed
	enginetest.Wait(t, "the container to be healed", func() error {
		if c := s.container("web"); c.ID == "" || c.ID == before.ID {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.serves("1")
}

// A state file that cannot be trusted stops deployments, not containers, and says so.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	first := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(first, v1alpha1.RolloutHealthy)
	stop()
	file := filepath.Join(s.dir, "state", s.project+".dev.json")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content[:len(content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.container("web")
	stop = s.run()
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2")))
	status := s.await(second, v1alpha1.RolloutPending)
	if !strings.Contains(status.Message, "the state file is damaged") {
		t.Errorf("message %q", status.Message)
	}
	if c := s.container("web"); c.ID != before.ID || !c.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the container was touched: %+v", c)
	}
	stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.await(second, v1alpha1.RolloutHealthy)
	s.serves("2")
}
