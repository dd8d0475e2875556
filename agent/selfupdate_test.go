// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/update"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// build builds a program as a version.
func build(t *testing.T, dir, pkg, version string) string {
	t.Helper()
	binary := filepath.Join(dir, version)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X gitlab.com/dynors/sirrat/internal/version.Version="+version,
		"-o", binary, "gitlab.com/dynors/sirrat/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// publisher offers updates to a server's agent as the control plane does.
type publisher struct {
	*server
	files *agentfiles.Files
	http  *httptest.Server
	// spoil flips a byte of what is served; gets counts the requests.
	spoil atomic.Bool
	gets  atomic.Int64
	// installed is the agent's program, and process the one that runs.
	installed string
	process   *exec.Cmd
}

func newPublisher(t *testing.T) *publisher {
	p := &publisher{server: newServer(t), files: agentfiles.Open(t.TempDir())}
	handler := p.files.Handler()
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.gets.Add(1)
		if p.spoil.Load() {
			w = &spoiler{ResponseWriter: w}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.http.Close)
	return p
}

type spoiler struct {
	http.ResponseWriter
	spoilt bool
}

func (s *spoiler) Write(b []byte) (int, error) {
	if len(b) > 0 && !s.spoilt {
		b = append([]byte{b[0] ^ 1}, b[1:]...)
		s.spoilt = true
	}
	return s.ResponseWriter.Write(b)
}

// order publishes a statement over a version, as the controllers do, and names it on the Lease.
func (p *publisher) order(version, program string, key crypto.Signer) {
	p.Helper()
	if _, err := p.files.Publish(version, program); err != nil {
		p.Fatal(err)
	}
	binaries, err := p.files.Describe(version)
	if err != nil {
		p.Fatal(err)
	}
	text, err := agentupdate.Sign(p.Context(), agentupdate.Statement{Version: version, Binaries: binaries}, time.Now(), key)
	if err != nil {
		p.Fatal(err)
	}
	maps := p.env.Client.CoreV1().ConfigMaps(v1alpha1.HostNamespace(p.name))
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentUpdateConfigMap},
		Data:       map[string]string{v1alpha1.AgentUpdateStatement: text, v1alpha1.AgentUpdateURL: p.http.URL},
	}
	if _, err = maps.Create(p.Context(), m, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(p.Context(), m, metav1.UpdateOptions{})
	}
	if err != nil {
		p.Fatal(err)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationAgentUpdate, version+"@"+time.Now().String())
	enginetest.Wait(p, "the Lease", func() error {
		_, err := p.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(p.name)).
			Patch(p.Context(), v1alpha1.AgentLease, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// start runs the installed program as systemd would.
func (p *publisher) start() {
	p.Helper()
	p.process = exec.Command(p.installed, "run", "--data-dir", p.dir, "--heartbeat", "1s", "--trial-time", "20s", "--log-level", "debug")
	p.process.Stderr = p.log
	if err := p.process.Start(); err != nil {
		p.Fatal(err)
	}
	process := p.process
	p.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
}

func (p *publisher) info() v1alpha1.AgentInfo {
	var info v1alpha1.AgentInfo
	lease, err := p.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(p.name)).Get(p.Context(), v1alpha1.AgentLease, metav1.GetOptions{})
	if err == nil {
		_ = json.Unmarshal([]byte(lease.Annotations[v1alpha1.AnnotationAgentInfo]), &info)
	}
	return info
}

// comes waits for what an order comes to, as the heartbeat says, and for the version that runs then in the first process.
func (p *publisher) comes(version, state, message, running string) {
	p.Helper()
	enginetest.Wait(p, version+" to be "+state, func() error {
		info := p.info()
		if info.AgentVersion != running || info.Update == nil || info.Update.Wanted != version || info.Update.State != state || !strings.Contains(info.Update.Message, message) {
			return fmt.Errorf("%s says %+v", info.AgentVersion, info.Update)
		}
		vitals, err := agent.ReadVitals(p.Context(), p.dir)
		if err != nil || vitals == nil || vitals.PID != p.process.Process.Pid || vitals.Version != running {
			return fmt.Errorf("process %d runs: %+v, %w", p.process.Process.Pid, vitals, err)
		}
		return nil
	})
}

// An agent becomes a new version that works, and stays what it is with one that does not, whatever is wrong with it. What
// it has deployed is not touched.
func TestSelfUpdate(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	programs := t.TempDir()
	first, second := build(t, programs, "cmd/sirrat-agent", "v1.0.0"), build(t, programs, "cmd/sirrat-agent", "v1.1.0")
	crashes, hangs := build(t, programs, "agent/internal/badagent", "v1.2.0-crashes"), build(t, programs, "agent/internal/badagent", "v1.2.0-hangs")
	p.installed = filepath.Join(t.TempDir(), "sirrat-agent")
	if err := os.Link(first, p.installed); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.await(p.send(p.webOrder(1, p.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	before := p.container("web")
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	untouched := func() {
		t.Helper()
		if c := p.container("web"); c.ID != before.ID || !c.StartedAt.Equal(before.StartedAt) {
			t.Errorf("the container was touched: %+v", c)
		}
	}

	p.order("v1.1.0-stranger", second, stranger)
	p.comes("", update.Refused, "not signed by a known key", "v1.0.0")
	if n := p.gets.Load(); n != 0 {
		t.Errorf("what is not signed was fetched: %d requests", n)
	}
	p.spoil.Store(true)
	p.order("v1.1.0-spoilt", second, p.key)
	p.comes("v1.1.0-spoilt", update.Failed, "not the one that was signed", "v1.0.0")
	p.spoil.Store(false)
	p.order("v1.2.0-crashes", crashes, p.key)
	p.comes("v1.2.0-crashes", update.Failed, "ended by itself", "v1.0.0")
	p.order("v1.2.0-hangs", hangs, p.key)
	p.comes("v1.2.0-hangs", update.Failed, "did not report healthy within 20s", "v1.0.0")
	p.order("v1.3.0", second, p.key) // calls itself otherwise
	p.comes("v1.3.0", update.Failed, "calls itself v1.1.0", "v1.0.0")
	p.order("v0.9.0", second, p.key)
	p.comes("v0.9.0", update.Refused, "older", "v1.0.0")
	untouched()

	// Killed while the trial is under way, it starts again as the old one, and tries again.
	trials := strings.Count(p.log.String(), "agent update is being tried")
	p.order("v1.1.0", second, p.key)
	enginetest.Wait(t, "the trial", func() error {
		if n := strings.Count(p.log.String(), "agent update is being tried"); n == trials {
			return errors.New("not yet")
		}
		return nil
	})
	_ = p.process.Process.Signal(syscall.SIGKILL)
	_ = p.process.Wait()
	p.start()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	untouched()
	for path, want := range map[string]string{p.installed: second, p.installed + update.Previous: first} {
		got, err1 := os.ReadFile(path)
		expected, err2 := os.ReadFile(want)
		if err1 != nil || err2 != nil || string(got) != string(expected) {
			t.Errorf("%s is not %s: %v", path, want, errors.Join(err1, err2))
		}
	}
	// The new version works, and a restart finds it done.
	p.await(p.send(p.webOrder(2, p.registry.Image(t, "app", "VERSION=2"))), v1alpha1.RolloutHealthy)
	p.serves("2")
	_ = p.process.Process.Signal(syscall.SIGTERM)
	if err := p.process.Wait(); err != nil {
		t.Errorf("the agent does not end cleanly: %v", err)
	}
	p.start()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	t.Run("read-only program", func(t *testing.T) { selfUpdateReadOnly(t, first, second) })
}

// selfUpdateReadOnly is an update where the installed program cannot be written: the new one goes into the data folder, and
// the installed one hands over to it, unless somebody changed it.
func selfUpdateReadOnly(t *testing.T, first, second string) {
	p := newPublisher(t)
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=200m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	p.installed = filepath.Join(dir, "sirrat-agent")
	program, err := os.ReadFile(first)
	if err == nil {
		err = os.WriteFile(p.installed, program, 0o755) //nolint:gosec // a program
	}
	if err == nil {
		err = syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	p.order("v1.1.0", second, p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	again := func() {
		t.Helper()
		_ = p.process.Process.Signal(syscall.SIGKILL)
		_ = p.process.Wait()
		p.start()
	}
	again()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	_ = p.process.Process.Kill() // a program that runs cannot be written
	_ = p.process.Wait()
	f, err := os.OpenFile(filepath.Join(p.dir, "bin", "sirrat-agent"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	enginetest.Wait(t, "the installed program", func() error {
		if !strings.Contains(p.log.String(), "is not what was signed; this one runs") {
			return errors.New("it does not say so")
		}
		return nil
	})
	p.comes("v1.1.0", update.Done, "", "v1.1.0") // fetched and tried anew
}
