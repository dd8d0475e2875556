// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// maxIdle is what an agent may need in memory while nothing happens, in MB.
const maxIdle = 35

// The agent as it is shipped: small while idle, and silent.
func TestIdle(t *testing.T) {
	s := newServer(t)
	binary, size := s.build()
	cmd := exec.Command(binary, "run", "--data-dir", s.dir, "--heartbeat", "1h", "--log-level", "debug")
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	name := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(name, v1alpha1.RolloutHealthy)
	s.await(s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2"))), v1alpha1.RolloutHealthy)
	s.await(name, v1alpha1.RolloutSuperseded)
	version := func() string {
		list, err := s.objects().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, item := range list.Items {
			all = append(all, item.GetName()+"@"+item.GetResourceVersion())
		}
		return strings.Join(all, " ")
	}
	enginetest.Wait(t, "the agent to rest", func() error {
		if _, after, _ := strings.Cut(s.log.String(), `"sequence":2}`); !strings.Contains(after, `"action":"rest"`) {
			return errors.New("it still does something")
		}
		return nil
	})
	before, said := version(), len(s.log.String())
	var megabytes int
	settled := time.Now().Add(5 * time.Second) // long enough for anything that polls to be noticed
	enginetest.Wait(t, "little memory", func() error {
		var err error
		if megabytes, err = residentMegabytes(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if time.Now().Before(settled) || megabytes > maxIdle {
			return fmt.Errorf("%d MB", megabytes)
		}
		return nil
	})
	t.Logf("idle agent: %d MB resident; binary: %d MB", megabytes, size>>20)
	if after := version(); after != before {
		t.Errorf("something was written while nothing happened: %s, before %s", after, before)
	}
	if now := s.log.String(); len(now) != said {
		t.Errorf("something was done while nothing happened: %s", now[said:])
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent does not end cleanly: %v", err)
	}
	s.serves("2")
}

// build makes the program as it is shipped.
func (s *server) build() (path string, size int64) {
	s.Helper()
	path = filepath.Join(s.TempDir(), "sirrat-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "gitlab.com/dynors/sirrat/cmd/sirrat-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		s.Fatal(err)
	}
	return path, info.Size()
}

func residentMegabytes(pid int) (int, error) {
	kilobytes, err := statusOf(pid, "VmRSS")
	return kilobytes >> 10, err
}

// statusOf reads what the kernel says of a process, in kB.
func statusOf(pid int, field string) (kilobytes int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, field+":"); found {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("no %s: %s", field, status)
}
