// SPDX-License-Identifier: Apache-2.0

package testbed

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

// Process is an agent that runs.
type Process struct {
	testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Spawn starts an agent in a network namespace. It is killed when the test is over.
func Spawn(t testing.TB, n *Namespace, agent string, log *Buffer, args ...string) *Process {
	t.Helper()
	p := &Process{TB: t, cmd: exec.Command(agent, args...), done: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Kill ends the agent at once, without a chance to say goodbye.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the agent to end, and fails the test when it does not do so cleanly.
func (p *Process) Stop() {
	p.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Deadline):
		p.Fatal("the agent does not stop")
	}
	if p.err != nil {
		p.Error("the agent does not end cleanly: ", p.err)
	}
}

// Alive is an error when the agent ended by itself.
func (p *Process) Alive() error {
	select {
	case <-p.done:
		return errors.Join(errors.New("the agent ended by itself"), p.err)
	default:
		return nil
	}
}

// Memory is the most memory (RSS) that the agent has held, and holds, in MiB.
func (p *Process) Memory() (peak, now float64) {
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
