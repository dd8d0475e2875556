// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
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
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/update"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
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

// programs are agents to become, built once.
type programs struct {
	first, second, third, crashes, hangs string
}

func buildPrograms(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	good := func(version string) string { return build(t, dir, "cmd/sirrat-agent", version) }
	bad := func(version string) string { return build(t, dir, "agent/internal/badagent", version) }
	return programs{good("v1.0.0"), good("v1.1.0"), good("v1.2.0"), bad("v1.3.0-crashes"), bad("v1.3.0-hangs")}
}

// publisher offers updates to a server's agent as the control plane does.
type publisher struct {
	*server
	files *agentfiles.Files
	http  *httptest.Server
	// fault, if any, answers in the place of the next handler; gets counts the requests.
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
	gets  atomic.Int64
	// installed is the agent's program, and process the one that runs. trial is how long a new one may take.
	installed string
	process   *exec.Cmd
	trial     time.Duration
	// served is the container that no update may touch.
	served health.Container
}

// newPublisher is a server on which program is installed.
func newPublisher(t *testing.T, program string) *publisher {
	t.Helper()
	p := newPublisherFor(t, newServer(t))
	p.installed = filepath.Join(t.TempDir(), "sirrat-agent")
	p.install(program)
	return p
}

func newPublisherFor(t *testing.T, s *server) *publisher {
	t.Helper()
	p := &publisher{server: s, files: agentfiles.Open(t.TempDir()), trial: 20 * time.Second}
	handler := p.files.Handler()
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.gets.Add(1)
		if fault := p.fault.Load(); fault != nil {
			(*fault)(w, r, handler)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.http.Close)
	return p
}

// install puts a program where the service starts it from.
func (p *publisher) install(program string) {
	p.Helper()
	// Another process writes it: a file that this one writes may be held open by a process that it just starts.
	if out, err := exec.Command("cp", program, p.installed+".copy").CombinedOutput(); err != nil {
		p.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(p.installed+".copy", p.installed); err != nil {
		p.Fatal(err)
	}
}

// deploy has the agent run something that is not to be touched.
func (p *publisher) deploy() {
	p.Helper()
	p.await(p.send(p.webOrder(1, p.registry.Image(p, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	p.served = p.container("web")
}

func (p *publisher) untouched() {
	p.Helper()
	if c := p.container("web"); c.ID != p.served.ID || !c.StartedAt.Equal(p.served.StartedAt) {
		p.Errorf("the container was touched: %+v", c)
	}
}

// misbehave makes the server of programs answer otherwise; nil ends that.
func (p *publisher) misbehave(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	if fault == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&fault)
}

// spoilt flips the first byte.
func spoilt(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(&spoiler{ResponseWriter: w}, r)
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

// halfway calls a function once when half of a program of some size was sent.
func halfway(of string, then func(r *http.Request)) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		info, err := os.Stat(of)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(&halter{ResponseWriter: w, left: info.Size() / 2, then: func() { then(r) }}, r)
	}
}

type halter struct {
	http.ResponseWriter
	left int64
	then func()
}

func (h *halter) Write(b []byte) (int, error) {
	before := h.left
	h.left -= int64(len(b))
	if before > 0 && h.left <= 0 {
		h.then()
	}
	return h.ResponseWriter.Write(b)
}

// order publishes a statement over a version, as the controllers do, and names it on the Lease.
func (p *publisher) order(version, program string, key crypto.Signer) {
	p.Helper()
	p.state(version, p.publish(version, program), key)
}

// publish returns what is to be stated of a program.
func (p *publisher) publish(version, program string) map[string]agentupdate.Binary {
	p.Helper()
	if _, err := p.files.Publish(version, program); err != nil {
		p.Fatal(err)
	}
	binaries, err := p.files.Describe(version)
	if err != nil {
		p.Fatal(err)
	}
	return binaries
}

// state signs and publishes a statement, and gives the order.
func (p *publisher) state(version string, binaries map[string]agentupdate.Binary, key crypto.Signer) {
	p.Helper()
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
	p.annotate(v1alpha1.AnnotationAgentUpdate, version+"@"+time.Now().String())
}

// annotate sets an annotation of the agent's Lease.
func (p *publisher) annotate(name, value string) {
	p.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, name, value)
	enginetest.Wait(p, "the Lease", func() error {
		_, err := p.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(p.name)).
			Patch(p.Context(), v1alpha1.AgentLease, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

func (p *publisher) arguments() []string {
	return []string{"run", "--data-dir", p.dir, "--heartbeat", "1s", "--trial-time", p.trial.String(), "--policy", p.policyFile(), "--log-level", "debug"}
}

// pid of the agent, as it sees itself: in a container it is the first process.
func (p *publisher) pid() int {
	if p.process == nil {
		return 1
	}
	return p.process.Process.Pid
}

// start runs the installed program as systemd would.
func (p *publisher) start() {
	p.Helper()
	p.process = exec.Command(p.installed, p.arguments()...)
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

// kill ends the agent without a warning, and all that it has started.
func (p *publisher) kill() {
	p.Helper()
	_ = p.process.Process.Kill() // it may have ended
	_ = p.process.Wait()
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
		if err != nil || vitals == nil || vitals.PID != p.pid() || vitals.Version != running {
			return fmt.Errorf("process %d runs: %+v, %w", p.pid(), vitals, err)
		}
		return nil
	})
}

// An agent becomes a new version that works, and stays what it is with one that does not, whatever is wrong with it, and at
// whatever moment it is killed. What it has deployed is not touched.
func TestSelfUpdate(t *testing.T) {
	t.Parallel()
	built := buildPrograms(t)
	for name, test := range map[string]func(*testing.T, programs){
		"well":                           updateWell,
		"refused":                        updateRefused,
		"bad versions":                   updateFails,
		"unheard of":                     updateUnheard,
		"no room":                        updateWithoutRoom,
		"read-only program":              updateReadOnly,
		"killed while it is fetched":     updateKilledFetching,
		"killed at each step":            updateKilled,
		"killed at each step, read-only": updateKilledReadOnly,
		"killed on the way back":         updateKilledGoingBack,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, built)
		})
	}
}

// updateWell is killed while the trial is under way, starts again as the old one, and tries again.
func updateWell(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.start()
	p.deploy()
	p.order("v1.1.0", built.second, p.key)
	p.tried(1)
	p.kill()
	p.start()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.untouched()
	sameProgram(t, p.installed, built.second)
	sameProgram(t, p.installed+update.Previous, built.first)
	// The new version works, and a restart finds it done.
	p.await(p.send(p.webOrder(2, p.registry.Image(t, "app", "VERSION=2"))), v1alpha1.RolloutHealthy)
	p.serves("2")
	_ = p.process.Process.Signal(syscall.SIGTERM)
	if err := p.process.Wait(); err != nil {
		t.Errorf("the agent does not end cleanly: %v", err)
	}
	p.start()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
}

// tried waits until so many trials were begun in all.
func (p *publisher) tried(want int) {
	p.Helper()
	enginetest.Wait(p, "the trial", func() error {
		if n := p.trials(); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

func (p *publisher) trials() int { return strings.Count(p.log.String(), "agent update is being tried") }

// sameProgram says whether a program is another one, in full.
func sameProgram(t testing.TB, path, want string) {
	t.Helper()
	got, err1 := os.ReadFile(path)
	expected, err2 := os.ReadFile(want)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(got, expected) {
		t.Errorf("%s is not %s: %v", path, want, err)
	}
}

// updateReadOnly is an update where the installed program cannot be written: the new one goes into the data folder, and
// the installed one hands over to it, unless somebody changed it. So does the one after that.
func updateReadOnly(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.readOnly()
	p.start()
	p.deploy()
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	again := func() {
		t.Helper()
		p.kill()
		p.start()
	}
	again()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.order("v1.2.0", built.third, p.key)
	p.comes("v1.2.0", update.Done, "", "v1.2.0")
	trials := p.trials()
	again()
	p.comes("v1.2.0", update.Done, "", "v1.2.0")
	if n := p.trials(); n != trials || strings.Contains(p.log.String(), "is not what was signed") {
		t.Errorf("the installed program does not hand over to the second update: %d trials, before %d", n, trials)
	}
	p.kill() // a program that runs cannot be written
	f, err := os.OpenFile(filepath.Join(p.dir, "bin", "sirrat-agent"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Remove(filepath.Join(p.dir, "bin", "sirrat-agent"+update.Previous))
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
	p.comes("v1.2.0", update.Done, "", "v1.2.0") // fetched and tried anew
	p.untouched()
}

// readOnly puts the installed program on a file system that cannot be written.
func (p *publisher) readOnly() {
	p.Helper()
	dir := filepath.Dir(p.installed)
	program := filepath.Join(p.TempDir(), "copy")
	if err := os.Rename(p.installed, program); err != nil {
		p.Fatal(err)
	}
	mount(p, dir, "size=200m")
	p.install(program)
	remount(p, dir, syscall.MS_RDONLY, "")
}

// mount makes a folder a file system of its own, in memory.
func mount(t testing.TB, dir, options string) {
	t.Helper()
	if err := syscall.Mount("sirrat-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("a file system cannot be mounted on this machine: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func remount(t testing.TB, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("sirrat-test", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}
