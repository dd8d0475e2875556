// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// process is an agent that runs.
type process struct {
	testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// spawn starts the agent in a network namespace.
func spawn(t testing.TB, n *namespace, log *syncBuffer, args ...string) *process {
	t.Helper()
	p := &process{TB: t, cmd: exec.Command(built.agent, args...), done: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the agent at once, without a chance to say goodbye.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the agent to end, and fails the test when it does not do so cleanly.
func (p *process) stop() {
	p.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(deadline):
		p.Fatal("the agent does not stop")
	}
	if p.err != nil {
		p.Error("the agent does not end cleanly: ", p.err)
	}
}

// alive fails the test when the agent ended by itself.
func (p *process) alive() error {
	select {
	case <-p.done:
		return errors.Join(errors.New("the agent ended by itself"), p.err)
	default:
		return nil
	}
}

// memory is the most memory (RSS) that the agent has held, and holds, in MiB.
func (p *process) memory() (peak, now float64) {
	p.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		var kib float64
		if _, err := fmt.Sscanf(string(line), "VmHWM: %f kB", &kib); err == nil {
			peak = kib / 1024
		}
		if _, err := fmt.Sscanf(string(line), "VmRSS: %f kB", &kib); err == nil {
			now = kib / 1024
		}
	}
	return peak, now
}
