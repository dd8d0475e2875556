// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// A command must end well in every replica.
func TestExecCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	image := s.registry.Image(t, "app")
	o := func(sequence int64, says string, patience time.Duration) order {
		o := s.order(s.project)
		o.sequence, o.images, o.values = sequence, map[string]string{"web": image}, map[string]string{"WORD": "hello"}
		o.compose = "services: {web: {image: a, scale: 2, environment: {SAYS: " + says + "}}}"
		o.checks = []v1alpha1.HealthCheck{{
			Exec: &v1alpha1.ExecCheck{Service: "web", Command: []string{"/app", "says", "${WORD}"}}, Successes: 2,
			Timeout: metav1.Duration{Duration: patience}, Interval: metav1.Duration{Duration: 100 * time.Millisecond},
		}}
		return o
	}
	s.await(s.send(o(1, "hello", time.Minute)), v1alpha1.RolloutHealthy)
	status := s.await(s.send(o(2, "goodbye", 5*time.Second)), v1alpha1.RolloutRolledBack)
	if !strings.Contains(status.Message, "/app in web: "+s.project+"-web-") || !strings.Contains(status.Message, "exited 1: SAYS is goodbye") {
		t.Errorf("message %q", status.Message)
	}
	wrong := o(3, "hello", 2*time.Second)
	wrong.checks[0].Exec.Service = "nobody"
	status = s.await(s.send(wrong), v1alpha1.RolloutRolledBack)
	if !strings.Contains(status.Message, "no container of service nobody runs") {
		t.Errorf("message %q", status.Message)
	}
}

// A service that was not well before a release and is not touched by it does not fail it, but is told of; neither does it
// fail the way back.
func TestSickBefore(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	port := enginetest.FreePort(t)
	old := s.registry.Image(t, "old", "VERSION=old")
	o := func(sequence int64, image string) order {
		o := s.webOrder(sequence, image)
		o.compose = web + `
  old:
    image: app
    ports: ["127.0.0.1:${OLD}:8080"]
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 1, start_period: 500ms}
`
		o.images["old"] = old
		o.values["OLD"] = fmt.Sprint(port)
		return o
	}
	first := s.send(o(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(first, v1alpha1.RolloutHealthy)
	if _, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/sicken", port)); err != nil {
		t.Fatal(err)
	}
	s.await(first, v1alpha1.RolloutUnhealthy)
	sick := s.container("old")
	second := s.send(o(2, s.registry.Image(t, "app", "VERSION=2")))
	status := s.await(second, v1alpha1.RolloutHealthy)
	if m := status.Services[0].Message; status.Services[0].Name != "old" || !strings.Contains(m, "was not well before this release either: its healthcheck fails") {
		t.Errorf("services %+v", status.Services)
	}
	s.unharmed(sick)
	status = s.await(s.send(o(3, s.registry.Image(t, "app", "VERSION=3", "SICK=1"))), v1alpha1.RolloutRolledBack)
	if !strings.Contains(status.Message, "web: its healthcheck fails") {
		t.Errorf("message %q", status.Message)
	}
	s.serves("2")
	if _, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/cure", port)); err != nil {
		t.Fatal(err)
	}
	enginetest.Wait(t, "the excuse to end", func() error {
		if status := s.status(second); status.Phase != v1alpha1.RolloutHealthy || status.Services[0].Message != "" {
			return fmt.Errorf("%+v", status)
		}
		return nil
	})
	if _, err := enginetest.Get(fmt.Sprintf("http://127.0.0.1:%d/sicken", port)); err != nil {
		t.Fatal(err)
	}
	s.await(second, v1alpha1.RolloutUnhealthy)
}

// Going back that fails too ends there: the rollout stays failed, and says what serves once healing has brought it back.
func TestGoingBackFails(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	good := s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))
	outside := enginetest.FreePort(t)
	good.checks[0] = v1alpha1.HealthCheck{TCP: &v1alpha1.TCPCheck{Address: fmt.Sprintf("127.0.0.1:%d", outside)}, Successes: 1,
		Timeout: metav1.Duration{Duration: 5 * time.Second}, Interval: metav1.Duration{Duration: 100 * time.Millisecond}}
	listener := listen(t, outside)
	first := s.send(good)
	s.await(first, v1alpha1.RolloutHealthy)
	listener.Close() // what the first release's check needs is gone: going back to it cannot succeed
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "SICK=1")))
	status := s.await(second, v1alpha1.RolloutFailed)
	if !strings.Contains(status.Message, "going back to r1 failed too") {
		t.Errorf("message %q", status.Message)
	}
	reason := ""
	for _, c := range status.Conditions {
		reason += c.Reason
	}
	if !strings.Contains(reason, v1alpha1.ReasonRollbackFailed) {
		t.Errorf("reasons %q", reason)
	}
	s.serves("1")
	before := s.container("web")
	if before.State != health.StateRunning {
		t.Errorf("%+v", before)
	}
	if again := s.status(second); again.Phase != v1alpha1.RolloutFailed {
		t.Errorf("phase %s", again.Phase)
	}
}

// While the disk takes no state, nothing goes on as if it had been written, and the report says what holds it up.
func TestStateCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	folder := filepath.Join(s.dir, "state")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("a small file system of one's own takes root: ", err)
	}
	defer func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	stop := s.run()
	defer stop()
	first := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(first, v1alpha1.RolloutHealthy)
	before := s.container("web")
	filler := filepath.Join(folder, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	f.Close()
	second := s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2")))
	enginetest.Wait(t, "it to say what holds it up", func() error {
		if status := s.status(second); !strings.Contains(status.Message, "the agent cannot write its state") || !strings.Contains(status.Message, "no space left") {
			return fmt.Errorf("%s: %s", status.Phase, status.Message)
		}
		return nil
	})
	s.unharmed(before)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.await(second, v1alpha1.RolloutHealthy)
	s.serves("2")
}

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// What failed is not tried again because its order was made anew, by a control plane that came back from a backup; a new
// sequence tries it again.
func TestFailedIsRemembered(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	bad := s.webOrder(2, s.registry.Image(t, "app", "VERSION=2", "READY_AFTER=1h"))
	name := s.send(bad)
	s.await(name, v1alpha1.RolloutRolledBack)
	before := s.container("web")
	stop()
	if err := s.objects().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.run()
	status := s.await(s.send(bad), v1alpha1.RolloutRolledBack)
	if status.ServingSequence != 1 {
		t.Errorf("%+v", status)
	}
	s.unharmed(before)
	bad.sequence = 3
	s.await(s.send(bad), v1alpha1.RolloutRolledBack)
	if after := s.container("web"); after.ID == before.ID {
		t.Error("a new sequence did not try again")
	}
}
