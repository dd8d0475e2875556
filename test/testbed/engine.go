// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// Engine is a dockerd of the test's own, in a network namespace of its own.
type Engine struct {
	testing.TB
	// Net is where the engine, its containers and those who use it are at home.
	Net *Namespace
	// Dir holds all that it writes.
	Dir string
	// Client speaks to it.
	Client *client.Client
	flags  []string
	log    *Buffer

	mu      sync.Mutex
	process *exec.Cmd
	// ended is closed when the process has.
	ended chan struct{}
}

// NewEngine starts an engine. It is gone, with all that it ran, when the test is over.
func NewEngine(t testing.TB, flags ...string) *Engine {
	t.Helper()
	e := PrepareEngine(t, flags...)
	e.Start()
	return e
}

// PrepareEngine prepares an engine that does not run yet.
func PrepareEngine(t testing.TB, flags ...string) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "sf-") // short: the paths of sockets are bounded
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{TB: t, Net: NewNamespace(t), Dir: dir, flags: flags, log: &Buffer{}}
	if e.Client, err = client.New(client.WithHost(e.Address())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.remove)
	return e
}

// Socket is the file at which it listens.
func (e *Engine) Socket() string { return filepath.Join(e.Dir, "docker.sock") }

// Address is its DOCKER_HOST.
func (e *Engine) Address() string { return "unix://" + e.Socket() }

// Start runs dockerd and waits until it answers.
func (e *Engine) Start() {
	e.Helper()
	e.Launch()
	e.Await()
}

// Await waits until it answers.
func (e *Engine) Await() {
	e.Helper()
	Wait(e, "the engine to answer", func() error {
		select {
		case <-e.ended:
			e.Fatalf("dockerd ended:\n%s", e.log.Tail(30))
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := e.Client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
		return err
	})
}

// Launch runs dockerd, which takes a moment to answer: several come up at the same time.
func (e *Engine) Launch() {
	e.Helper()
	config := filepath.Join(e.Dir, "daemon.json") // not the machine's own
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		e.Fatal(err)
	}
	_ = os.Remove(filepath.Join(e.Dir, "docker.pid"))
	cmd := exec.Command("dockerd", append([]string{
		"--config-file", config, "--host", e.Address(), "--pidfile", filepath.Join(e.Dir, "docker.pid"),
		"--data-root", filepath.Join(e.Dir, "data"), "--exec-root", filepath.Join(e.Dir, "exec"), "--shutdown-timeout", "5",
		"--default-address-pool", "base=10.96.0.0/16,size=26",
	}, e.flags...)...)
	cmd.Env = append(os.Environ(), "PATH="+e.Tables()+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = e.log, e.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := e.Net.Start(cmd); err != nil {
		e.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ended := make(chan struct{})
	e.process, e.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
}

// Tables is a PATH prefix that lets dockerd find the legacy iptables first where the kernel has no nf_tables.
func (e *Engine) Tables() string {
	works := func(program string) bool {
		return e.Net.Do(exec.Command(program, "-w", "10", "-t", "nat", "-nL").Run) == nil
	}
	if works("iptables") || !works("iptables-legacy") {
		return ""
	}
	bin := filepath.Join(e.Dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		e.Fatal(err)
	}
	for _, program := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		if path, err := exec.LookPath(strings.Replace(program, "tables", "tables-legacy", 1)); err == nil {
			_ = os.Symlink(path, filepath.Join(bin, program)) // there already after a restart
		}
	}
	return bin + ":"
}

// Kill ends dockerd, and with it its containerd, without a chance to say goodbye.
func (e *Engine) Kill() {
	e.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.process.Process.Kill(); err != nil {
		e.Error("kill dockerd: ", err)
	}
	<-e.ended
	e.killLeftovers(func(line string) bool { return !strings.Contains(line, "shim") })
	// Where nobody reaps orphans, dockerd would take the dead containerd for a running one.
	_ = os.Remove(filepath.Join(e.Dir, "exec", "containerd", "containerd.pid"))
}

// killLeftovers kills the processes of this engine that outlived it, known by the folder in their command line.
func (e *Engine) killLeftovers(which func(commandLine string) bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte(e.Dir+"/exec/")) || !which(string(line)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			e.gone(pid)
		}
	}
}

func (e *Engine) gone(pid int) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
	}
}

// remove ends the engine and everything that it left: containers, mounts, files.
func (e *Engine) remove() {
	if e.Failed() {
		e.Logf("dockerd said last:\n%s", e.log.Tail(15))
	}
	if e.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		list, err := e.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
		if err == nil {
			var wg sync.WaitGroup
			for _, c := range list.Items {
				wg.Go(func() {
					_, _ = e.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
				})
			}
			wg.Wait()
		}
		cancel()
		_ = e.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.ended:
		case <-time.After(20 * time.Second):
			_ = e.process.Process.Kill()
			<-e.ended
		}
		e.killLeftovers(func(string) bool { return true })
	}
	_ = e.Client.Close()
	if err := errors.Join(unmountBelow(e.Dir), os.RemoveAll(e.Dir)); err != nil {
		e.Log("clean up: ", err)
	}
}

// unmountBelow unmounts all that is mounted in a folder, the innermost first.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && (fields[1] == dir || strings.HasPrefix(fields[1], dir+"/")) {
			points = append(points, fields[1])
		}
	}
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// SmallDisk mounts a file system of a few bytes at a folder, which it creates.
func SmallDisk(t testing.TB, dir string, bytes int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("sirrat-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Fatalf("a small file system cannot be mounted on this machine: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// Buffer collects what a process says.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Tail is the last lines.
func (b *Buffer) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
