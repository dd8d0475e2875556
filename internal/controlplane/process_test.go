// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/dynors/sirrat/internal/controlplane"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// childEnv holds the options of a control plane when this binary runs as one
// instead of as tests.
const childEnv = "SIRRAT_TEST_CONTROL_PLANE"

// childReady is the first line of a child's output.
type childReady struct {
	Local, Advertise, Pin string
	Took                  time.Duration
	RSS                   int64 // bytes
}

// runChild serves until its standard input ends, then stops in order.
func runChild() {
	var o controlplane.Options
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		fatal(err)
	}
	o.Logger = funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, "log:", prefix, args) }, funcr.Options{})
	begin := time.Now()
	c, err := controlplane.Start(context.Background(), o)
	if err != nil {
		fatal(err)
	}
	ready := childReady{Local: c.LocalURL(), Advertise: c.AdvertiseURL(), Pin: c.CAHash(), Took: time.Since(begin), RSS: residentBytes()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		fatal(err)
	}
	stdinEnds := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(stdinEnds) }()
	select {
	case <-c.Done():
		fatal(c.Err())
	case <-stdinEnds:
	}
	if err := c.Stop(context.Background()); err != nil {
		fatal(err)
	}
	os.Exit(0)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// child is a control plane in a process of its own.
type child struct {
	childReady
	dir    string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
	waited bool
}

// startChild returns when the control plane serves, or its complaint.
func startChild(t testing.TB, o controlplane.Options) (*child, error) {
	t.Helper()
	if o.Bind == "" {
		o.Bind = "127.0.0.1:0"
	}
	config, err := json.Marshal(struct {
		DataDir, Bind string
		Advertise     []string
	}{o.DataDir, o.Bind, o.Advertise})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{dir: o.DataDir, cmd: exec.Command(exe), stderr: new(bytes.Buffer)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	c.cmd.Stderr = c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.childReady)
	}
	if err != nil {
		c.kill()
		return nil, fmt.Errorf("%s", strings.TrimSpace(c.stderr.String()))
	}
	return c, nil
}

func mustStartChild(t testing.TB, o controlplane.Options) *child {
	t.Helper()
	c, err := startChild(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kill is kill -9 and waits for the process to be gone.
func (c *child) kill() {
	if !c.waited {
		c.waited = true
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// stop asks for an orderly end and returns how long it took.
func (c *child) stop(t testing.TB) time.Duration {
	t.Helper()
	c.waited = true
	begin := time.Now()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("stop: %v: %s", err, c.stderr)
	}
	return time.Since(begin)
}

func (c *child) client(t testing.TB) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.dir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = -1, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Killed in the middle of writes, several times, the control plane starts again
// on its data and has every write that it acknowledged.
func TestKillLosesNoAcknowledgedWrite(t *testing.T) {
	dir := t.TempDir()
	const rounds, writers, enough = 3, 8, 150
	var acknowledged sync.Map
	for round := range rounds {
		c := mustStartChild(t, controlplane.Options{DataDir: dir})
		client := c.client(t)
		checkAcknowledged(t, client, &acknowledged)

		var count atomic.Int64
		reached := make(chan struct{})
		var wg sync.WaitGroup
		for writer := range writers {
			wg.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("write-%d-%d-%d", round, writer, i)
					_, err := client.CoreV1().ConfigMaps("default").Create(context.Background(), &corev1.ConfigMap{
						ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"name": name}}, metav1.CreateOptions{})
					if err != nil {
						return
					}
					acknowledged.Store(name, true)
					if count.Add(1) == enough {
						close(reached)
					}
				}
			})
		}
		select {
		case <-reached:
		case <-time.After(cptest.Deadline):
			t.Fatalf("only %d writes were acknowledged", count.Load())
		}
		c.kill()
		wg.Wait()
	}
	c := mustStartChild(t, controlplane.Options{DataDir: dir})
	checkAcknowledged(t, c.client(t), &acknowledged)
	c.stop(t)
}

func checkAcknowledged(t *testing.T, client kubernetes.Interface, acknowledged *sync.Map) {
	t.Helper()
	list, err := client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]bool{}
	for _, item := range list.Items {
		present[item.Name] = item.Data["name"] == item.Name
	}
	acknowledged.Range(func(name, _ any) bool {
		if !present[name.(string)] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
		return true
	})
}

// An orderly stop is quick though a client watches, frees directory and port for
// the next start, keeps data and pin, and says nothing in the log.
func TestStopAndStartAgain(t *testing.T) {
	dir := t.TempDir()
	first := mustStartChild(t, controlplane.Options{DataDir: dir})
	client := first.client(t)
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	watch, err := client.CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	took := first.stop(t)
	t.Logf("stopped in %s", took.Round(time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("stopping with a watch open took %s", took)
	}
	if first.stderr.Len() > 0 {
		t.Errorf("logged in quiet mode:\n%s", first.stderr)
	}

	u, err := url.Parse(first.Local)
	if err != nil {
		t.Fatal(err)
	}
	second := mustStartChild(t, controlplane.Options{DataDir: dir, Bind: u.Host, Advertise: []string{"sirrat.example.org", "192.0.2.7"}})
	t.Logf("restarted in %s", second.Took.Round(time.Millisecond))
	if second.Pin != first.Pin {
		t.Errorf("the pin changed from %s to %s", first.Pin, second.Pin)
	}
	if want := "https://sirrat.example.org:" + u.Port(); second.Advertise != want || second.Local != first.Local {
		t.Errorf("advertised as %s and %s, want %s and %s", second.Advertise, second.Local, want, first.Local)
	}
	if _, err := second.client(t).CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sirrat.example.org", "192.0.2.7", "localhost"} {
		config.ServerName = name
		whoami(t, config) // fails unless the serving certificate has the name
	}
	second.stop(t)
}

func TestDataDirHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	owner := mustStartChild(t, controlplane.Options{DataDir: dir})
	_, err := startChild(t, controlplane.Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by another process (pid %d)", owner.cmd.Process.Pid)) {
		t.Errorf("got %v", err)
	}
	if _, err := owner.client(t).Discovery().ServerVersion(); err != nil {
		t.Errorf("the owner suffered: %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = startChild(t, controlplane.Options{DataDir: t.TempDir(), Bind: listener.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "--kube-bind") || !strings.Contains(err.Error(), "taken") {
		t.Errorf("got %v", err)
	}
}

func TestLongAndOddDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 25), "ma société")
	c := mustStartChild(t, controlplane.Options{DataDir: dir})
	if _, err := c.client(t).CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	c.stop(t)
}

// The secure port is the only way in by TCP, and no file is open to others.
func TestOneTCPListenerAndPrivateFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	dir := t.TempDir()
	c := mustStartChild(t, controlplane.Options{DataDir: dir})
	u, err := url.Parse(c.Local)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	listening := listeningPorts(t, c.cmd.Process.Pid)
	if len(listening) != 1 || listening[0] != port {
		t.Errorf("the process listens on the ports %v, want %d alone", listening, port)
	}
	for _, name := range []string{"", "etcd", "run", "pki"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want mode 0700", name, info.Mode(), err)
		}
	}
	keys, err := filepath.Glob(filepath.Join(dir, "pki", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(keys, filepath.Join(dir, "admin.kubeconfig")) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", file, info.Mode(), err)
		}
	}
	c.stop(t)
}

// listeningPorts reads the TCP sockets in state LISTEN that pid has open.
func listeningPorts(t *testing.T, pid int) []int {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	sockets := map[string]bool{}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []int
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(proc, "net", table))
		if err != nil {
			continue // no IPv6
		}
		for _, line := range strings.Split(string(data), "\n") {
			const local, state, inode, listen = 1, 3, 9, "0A"
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != listen || !sockets[fields[inode]] {
				continue
			}
			_, hex, _ := strings.Cut(fields[local], ":")
			port, err := strconv.ParseInt(hex, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(port))
		}
	}
	return ports
}

// BenchmarkStart measures a cold start on an empty directory (first) and on its
// data (again): time until Start returns, and resident memory then.
func BenchmarkStart(b *testing.B) {
	var first, again time.Duration
	var rss int64
	for b.Loop() {
		dir := b.TempDir()
		c := mustStartChild(b, controlplane.Options{DataDir: dir})
		first += c.Took
		c.stop(b)
		c = mustStartChild(b, controlplane.Options{DataDir: dir})
		again += c.Took
		rss = max(rss, c.RSS)
		c.stop(b)
	}
	b.ReportMetric(float64(first.Milliseconds())/float64(b.N), "ms/first")
	b.ReportMetric(float64(again.Milliseconds())/float64(b.N), "ms/again")
	b.ReportMetric(float64(rss)/(1<<20), "MB")
}

// The goal of the whole server is 350 MB; the control plane must leave room.
func TestMemoryAfterStart(t *testing.T) {
	c := mustStartChild(t, controlplane.Options{DataDir: t.TempDir()})
	t.Logf("first start: ready in %s, %d MB resident", c.Took.Round(time.Millisecond), c.RSS>>20)
	if c.RSS > 300<<20 {
		t.Errorf("%d MB resident", c.RSS>>20)
	}
	c.stop(t)
}
