// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/update"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
	"gitlab.com/dynors/sirrat/internal/diary"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// folder of updates, where records and fetched programs are.
func (p *publisher) folder() string { return filepath.Join(p.dir, "update") }

// own is the program in the data folder.
func (p *publisher) own() string { return filepath.Join(p.dir, "bin", "sirrat-agent") }

// left lists files that nobody will finish or use.
func (p *publisher) left() []string {
	p.Helper()
	var all []string
	for _, pattern := range []string{
		filepath.Join(p.folder(), ".new-*"), filepath.Join(p.folder(), "*.part"),
		filepath.Join(filepath.Dir(p.installed), ".sirrat-agent-*"), filepath.Join(filepath.Dir(p.own()), ".sirrat-agent-*"),
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			p.Fatal(err)
		}
		all = append(all, names...)
	}
	return all
}

// updateRefused has updates that must not be begun, or not go on: each has a reason of its own, and nothing runs but what ran.
func updateRefused(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.start()
	p.deploy()
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	put(t, p.policyFile(), "update: false")
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Refused, "the owner of this host does not allow", "v1.0.0")
	put(t, p.policyFile(), "update: maybe")
	p.order("v1.1.1", built.second, p.key)
	p.comes("v1.1.1", update.Refused, "host policy cannot be used", "v1.0.0")
	put(t, p.policyFile(), "update: true")

	p.order("v1.1.0-stranger", built.second, stranger)
	p.comes("", update.Refused, "not signed by a known key", "v1.0.0")
	p.order("v0.9.0", built.second, p.key)
	p.comes("v0.9.0", update.Refused, "older than what runs", "v1.0.0")
	foreign := filepath.Join(t.TempDir(), "foreign")
	forAnother(t, foreign, built.crashes)
	p.order("v1.1.5", foreign, p.key)
	p.comes("v1.1.5", update.Refused, "no binary for this platform", "v1.0.0")
	if n := p.gets.Load(); n != 0 {
		t.Errorf("what is refused was fetched: %d requests", n)
	}
	if p.trials() != 0 {
		t.Error("what is refused was tried")
	}

	p.misbehave(spoilt)
	p.order("v1.1.2", built.second, p.key)
	p.comes("v1.1.2", update.Failed, "not the one that was signed: sha256", "v1.0.0")
	p.misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = w.Write(make([]byte, 1000)) })
	p.order("v1.1.3", built.second, p.key)
	p.comes("v1.1.3", update.Failed, "ends after 1000 of ", "v1.0.0")
	if p.trials() != 0 {
		t.Error("what is not what was signed was tried")
	}
	// Cut short for as long as the network is bad: the reason is told, what is there is kept, and the order is carried out.
	p.misbehave(halfway(built.second, func(*http.Request) { panic(http.ErrAbortHandler) }))
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Downloading, "unexpected EOF", "v1.0.0")
	p.misbehave(nil)
	// For this platform by its name only.
	p.state("v1.1.4", p.publishAs("v1.1.4", foreign), p.key)
	p.comes("v1.1.4", update.Failed, "it cannot be started: fork/exec", "v1.0.0")
	if left := p.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	p.untouched()
}

// forAnother makes a program one for another machine, by its header.
func forAnother(t *testing.T, path, program string) {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	const machine, riscv = 18, 243 // e_machine of ELF, little-endian
	content[machine], content[machine+1] = riscv, 0
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// publishAs publishes a program for another machine under the name of this one.
func (p *publisher) publishAs(version, program string) map[string]agentupdate.Binary {
	p.Helper()
	from := p.publish(version, program)
	if len(from) != 1 || from["linux/riscv64"].Size == 0 {
		p.Fatalf("%v", from)
	}
	p.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.URL.Path = agentfiles.Prefix + version + "/linux-riscv64"
		next.ServeHTTP(w, r)
	})
	return map[string]agentupdate.Binary{runtime.GOOS + "/" + runtime.GOARCH: from["linux/riscv64"]}
}

// updateFails has versions that crash, hang, or are not what they are called: the old one goes on, remembers it, and does not
// try again until it is told.
func updateFails(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.trial = 6 * time.Second
	p.start()
	p.deploy()
	for version, bad := range map[string]struct{ program, message string }{
		"v1.3.0-crashes": {built.crashes, "ended by itself: exit status 7"},
		"v1.3.0-hangs":   {built.hangs, "did not report healthy within 6s"},
		"v1.3.1":         {built.second, "calls itself v1.1.0, not v1.3.1"},
	} {
		trials := p.trials()
		p.order(version, bad.program, p.key)
		p.comes(version, update.Failed, bad.message, "v1.0.0")
		p.kill()
		p.start()
		p.comes(version, update.Failed, bad.message, "v1.0.0")
		p.beats(3) // each brings the order again
		p.comes(version, update.Failed, bad.message, "v1.0.0")
		if n := p.trials() - trials; n != 1 {
			t.Errorf("%s was tried %d times", version, n)
		}
	}
	trials := p.trials()
	p.order("v1.3.0-crashes", built.crashes, p.key)
	p.tried(trials + 1)
	p.comes("v1.3.0-crashes", update.Failed, "ended by itself", "v1.0.0")
	sameProgram(t, p.installed, built.first)
	p.untouched()
}

// beats waits for so many heartbeats.
func (p *publisher) beats(n int) {
	p.Helper()
	last := time.Time{}
	for range n + 1 {
		enginetest.Wait(p, "a heartbeat", func() error {
			lease, err := p.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(p.name)).Get(p.Context(), v1alpha1.AgentLease, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if lease.Spec.RenewTime == nil || !lease.Spec.RenewTime.After(last) {
				return fmt.Errorf("the last one was at %s", lease.Spec.RenewTime)
			}
			last = lease.Spec.RenewTime.Time
			return nil
		})
	}
}

// updateUnheard has a version that works, but does not get through to the control plane: the old one goes on with that which it had.
func updateUnheard(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.trial = 6 * time.Second
	way := newProxy(t, strings.TrimPrefix(p.env.ControlPlane.LocalURL(), "https://"))
	identity, err := enrol.LoadIdentity(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	identity.Server = "https://" + unresolved(t)
	identity.Proxy = strings.Replace(way.URL, "http://", "http://agent:"+way.password+"@", 1)
	if err := identity.Save(p.dir); err != nil {
		t.Fatal(err)
	}
	admit := func(password string) {
		way.mu.Lock()
		defer way.mu.Unlock()
		way.password = password
	}
	password := way.password
	p.start()
	p.deploy()
	p.misbehave(halfway(built.second, func(*http.Request) { admit("another one") }))
	p.order("v1.1.0", built.second, p.key)
	enginetest.Wait(t, "the end of the trial", func() error {
		if !strings.Contains(p.log.String(), "agent update failed; the old version goes on") {
			return errors.New("it goes on")
		}
		return nil
	})
	admit(password)
	p.comes("v1.1.0", update.Failed, "the control plane does not answer it", "v1.0.0")
	p.untouched()
	p.misbehave(nil)
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.untouched()
}

// updateWithoutRoom fills the disk, before the download and in its middle: nothing of it stays there, the reason is told, and
// an order that is given again once there is room is carried out at once.
func updateWithoutRoom(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	if err := os.MkdirAll(p.folder(), 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, p.folder(), "size=1m,mode=700")
	p.start()
	p.deploy()
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Downloading, "no room on the disk", "v1.0.0")
	if n := p.gets.Load(); n != 0 {
		t.Errorf("it was fetched although there is no room: %d requests", n)
	}
	info, err := os.Stat(built.second)
	if err != nil {
		t.Fatal(err)
	}
	remount(t, p.folder(), 0, fmt.Sprintf("size=%d", info.Size()+1<<20))
	filler := filepath.Join(p.folder(), "somebody else's")
	p.misbehave(halfway(built.second, func(*http.Request) {
		if err := os.WriteFile(filler, make([]byte, info.Size()/2), 0o600); err != nil && !errors.Is(err, os.ErrExist) {
			t.Log("the disk is full: ", err)
		}
	}))
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Downloading, "no space left on device", "v1.0.0")
	if left := p.left(); len(left) > 0 || p.gets.Load() == 0 {
		t.Errorf("left: %v", left)
	}
	p.untouched()
	p.misbehave(nil)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.untouched()
}

// updateKilledFetching is killed when half of the program was fetched: the other half is fetched after the start.
func updateKilledFetching(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.start()
	p.deploy()
	half := make(chan struct{})
	p.misbehave(halfway(built.second, func(r *http.Request) {
		close(half)
		<-r.Context().Done()
	}))
	p.order("v1.1.0", built.second, p.key)
	select {
	case <-half:
	case <-time.After(enginetest.Deadline):
		t.Fatal("it is not fetched")
	}
	p.kill()
	sameProgram(t, p.installed, built.first)
	ranges := make(chan string, 8)
	p.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		ranges <- r.Header.Get("Range")
		next.ServeHTTP(w, r)
	})
	p.start()
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	if asked := <-ranges; !strings.HasPrefix(asked, "bytes=") || strings.HasPrefix(asked, "bytes=0-") {
		t.Errorf("the rest was asked for with %q", asked)
	}
	sameProgram(t, p.installed, built.second)
	p.untouched()
}

// killedAtEach kills the agent at the first thing that an update to version writes, then at the second one of the next update,
// and so on until an update ends before. Each time a whole program is there, begun again it ends in a state, and nothing is
// left half-written. from is the first moment that counts, and begins counts the beginnings of records too. reset makes all as before. It returns how often it killed.
func (p *publisher) killedAtEach(version, program, state, running string, from int, begins uint32, reset func(), whole func()) (kills int) {
	p.Helper()
	if err := os.MkdirAll(filepath.Dir(p.own()), 0o700); err != nil {
		p.Fatal(err)
	}
	for n := from; ; n++ {
		p.kill()
		reset()
		p.order(version, program, p.key)
		moments := diary.Open(p, diary.HasSaved|begins, p.folder())
		moments.Follow(p, diary.HasSaved|diary.BeginsToSave, filepath.Dir(p.installed), filepath.Dir(p.own()))
		p.start()
		over := func() bool {
			i := p.info()
			return i.AgentVersion == running && i.Update != nil && i.Update.Wanted == version && i.Update.State == state
		}
		killed := moments.Moments(n, over) >= n
		if killed {
			p.kill()
			kills++
			whole()
			p.start()
		}
		p.comes(version, state, "", running)
		p.untouched()
		if left := p.left(); len(left) > 0 {
			p.Errorf("killed at moment %d, left: %v", n, left)
		}
		if !killed {
			return kills
		}
	}
}

// forget removes all that is known of updates, and the word of it on the Lease.
func (p *publisher) forget(record []byte) {
	p.Helper()
	err := os.RemoveAll(p.folder())
	if err == nil {
		err = os.Mkdir(p.folder(), 0o700)
	}
	if err == nil && record != nil {
		err = os.WriteFile(filepath.Join(p.folder(), "record.json"), record, 0o600)
	}
	if err != nil {
		p.Fatal(err)
	}
	p.annotate(v1alpha1.AnnotationAgentInfo, "{}")
}

// oneOf says whether a program is one of several, in full.
func oneOf(t testing.TB, path string, want ...string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	for _, program := range want {
		if content, err := os.ReadFile(program); err == nil && string(content) == string(got) {
			return
		}
	}
	t.Errorf("%s is none of %v", path, want)
}

// tryingSaved is the moment at which the agent has noted that it tries a version: before, it noted that it fetches it, renamed
// what it fetched, and noted that it waits.
const tryingSaved = 4

// updateKilled is an update in the installed program's place.
func updateKilled(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.start()
	p.deploy()
	kills := p.killedAtEach("v1.1.0", built.second, update.Done, "v1.1.0", 1, 0, func() {
		p.install(built.first)
		p.forget(nil)
	}, func() { oneOf(t, p.installed, built.first, built.second) })
	sameProgram(t, p.installed, built.second)
	t.Logf("killed %d times", kills)
	if kills < 8 {
		t.Errorf("killed %d times only: the steps are not seen", kills)
	}
}

// updateKilledReadOnly is the second update in the data folder, where the installed program hands over to the first one.
func updateKilledReadOnly(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.readOnly()
	p.start()
	p.deploy()
	p.order("v1.1.0", built.second, p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.kill()
	record, err := os.ReadFile(filepath.Join(p.folder(), "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	writable := p.installed
	kills := p.killedAtEach("v1.2.0", built.third, update.Done, "v1.2.0", tryingSaved, 0, func() {
		p.installed = p.own()
		p.install(built.second)
		p.installed = writable
		p.forget(record)
	}, func() { oneOf(t, p.own(), built.second, built.third) })
	sameProgram(t, p.own(), built.third)
	t.Logf("killed %d times", kills)
	if kills < 5 {
		t.Errorf("killed %d times only: the steps are not seen", kills)
	}
	if strings.Contains(p.log.String(), "is not what was signed; this one runs") {
		t.Error("a kill led back to the installed program, past the one before")
	}
}

// updateKilledGoingBack is killed at each step of an update that fails.
func updateKilledGoingBack(t *testing.T, built programs) {
	p := newPublisher(t, built.first)
	p.start()
	p.deploy()
	kills := p.killedAtEach("v1.3.0-crashes", built.crashes, update.Failed, "v1.0.0", 2*tryingSaved, diary.BeginsToSave,
		func() { p.forget(nil) }, func() { sameProgram(t, p.installed, built.first) })
	sameProgram(t, p.installed, built.first)
	t.Logf("killed %d times", kills)
	if kills < 2 {
		t.Errorf("killed %d times only: the steps are not seen", kills)
	}
}
