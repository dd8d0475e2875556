// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is what a process gets to end by itself before it is killed.
const stopTimeout = 10 * time.Second

// process is a program that the demo runs in the background.
type process struct {
	name string
	argv []string
	env  []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// startProcess runs a program in a process group of its own, so that Ctrl-C reaches it through the demo only. What it
// prints goes to a log that a restart continues.
func startProcess(p *process) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.argv[0], p.argv[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}(p.cmd, p.done)
	return nil
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and waits for that.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.done
}

// stop asks the process to end, and kills it when it does not.
func (p *process) stop() error {
	if !p.running() {
		return nil
	}
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %s of being asked and was killed", p.name, stopTimeout)
	}
}

// residentMB is the memory that the process occupies, in MB (10⁶ bytes), as the kernel counts it.
func (p *process) residentMB() (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in the status of %s", p.name)
}

// output runs a program to its end and returns what it printed on standard output. The error holds what it printed on
// standard error.
func output(ctx context.Context, env []string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), &commandError{argv: argv, code: exit.ExitCode(), stderr: strings.TrimSpace(string(exit.Stderr))}
	}
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w", argv[0], err)
	}
	return string(out), nil
}

// commandError is a program that ended with an exit code other than 0.
type commandError struct {
	argv   []string
	code   int
	stderr string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", strings.Join(e.argv, " "), e.code, e.stderr)
}

// tail returns the last lines of a file, or why there are none.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 64 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, err = f.Seek(max(0, end-most), io.SeekStart)
		if err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = shorten(line, lineLength)
	}
	return strings.Join(all, "\n")
}

// lineLength is what of a log line is worth reading on a terminal.
const lineLength = 400

// shorten cuts a text to a number of characters.
func shorten(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// freePort finds a TCP port of the loopback interface that nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
