// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/update"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
)

// TrialVariable in the environment tells a new version that it runs as a trial: it does all that an agent does, but does
// not update itself.
const TrialVariable = "SIRRAT_AGENT_TRIAL"

// Times and bounds of an update.
const (
	// updateFolder within the data folder; programFile is where an update is installed when the installed program is on a
	// file system that cannot be written, as in a hardened service or a container.
	updateFolder = "update"
	programFile  = "bin/sirrat-agent"
	// trialTime within which a new version must report healthy.
	trialTime = 2 * time.Minute
	// trialLook is how often it is asked.
	trialLook = 500 * time.Millisecond
	// trialStop is how long it may take to end.
	trialStop = 45 * time.Second
	// maxTrials of one order, where the trial itself was interrupted.
	maxTrials = 3
	// updateRetry is the wait after something that may pass: the network, the disk.
	updateRetry    = 10 * time.Second
	maxUpdateRetry = 10 * time.Minute
	// quietLook is how often, and quietTime for how long, the end of a rollout under way is waited for.
	quietLook = time.Second
	quietTime = 30 * time.Minute
)

// errNotAllowed is the host's owner's word.
var errNotAllowed = errors.New("the owner of this host does not allow the agent to be updated from elsewhere")

// updateOrder is an update that is fetched and checked: the agent's run ends for its trial. It is an error only in form.
type updateOrder struct {
	order   string
	version string
	path    string
	binary  agentupdate.Binary
}

func (o *updateOrder) Error() string { return "makes room for " + o.version }

// updater carries out orders to update, beside everything else.
type updater struct {
	agent *Agent
	dir   string
	wake  chan struct{}

	mu     sync.Mutex
	order  string
	record update.Record
}

func newUpdater(a *Agent) *updater {
	dir := filepath.Join(a.options.DataDir, updateFolder)
	u := &updater{agent: a, dir: dir, wake: make(chan struct{}, 1), record: update.Load(dir)}
	switch {
	case a.options.Trial:
	case u.record.State == update.Trying:
		u.conclude()
	case u.record.State == update.Done && u.record.Version != a.options.Version: // somebody put another program there
		u.record = update.Record{Installed: u.record.Installed}
	}
	return u
}

// conclude says what became of a trial that was under way when the process ended, and tidies up after it.
func (u *updater) conclude() {
	update.RemoveLeftovers(u.agent.options.Binary, ownProgram(u.agent.options))
	if u.record.Version == u.agent.options.Version {
		u.record.State, u.record.Message = update.Done, ""
	} else if u.record.Trials >= maxTrials {
		u.record.State, u.record.Message = update.Failed, fmt.Sprintf("its trial was interrupted %d times", u.record.Trials)
	}
	_ = u.record.Save(u.dir) // or else it is concluded again at the next start
}

// info is what the heartbeat says of it.
func (u *updater) info() *v1alpha1.AgentUpdate {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.State == "" {
		return nil
	}
	return &v1alpha1.AgentUpdate{Wanted: u.record.Version, State: u.record.State, Message: u.record.Message}
}

// offer notes which order the control plane names.
func (u *updater) offer(order string) {
	u.mu.Lock()
	changed := u.order != order
	u.order = order
	u.mu.Unlock()
	if changed {
		poke(u.wake)
	}
}

// settled says whether an order needs nothing more.
func (u *updater) settled() (order string, settled bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.record
	return u.order, u.order == "" || r.Order == u.order && (r.State == update.Done || r.State == update.Failed || r.State == update.Refused)
}

// note records a state, and has it reported when it is another one.
func (u *updater) note(r update.Record) {
	u.mu.Lock()
	same := u.record == r
	u.record = r
	u.mu.Unlock()
	if same {
		return
	}
	if err := r.Save(u.dir); err != nil {
		u.agent.log.Error(err, "the state of the update cannot be saved")
	}
	u.agent.log.Info("agent update", "version", r.Version, "state", r.State, "message", r.Message)
	u.agent.beatNow()
}

// run carries out orders until ctx ends. leave ends the agent's run for a trial.
func (u *updater) run(ctx context.Context, leave func(*updateOrder)) {
	wait := updateRetry
	for ctx.Err() == nil {
		order, settled := u.settled()
		if settled {
			select {
			case <-ctx.Done():
			case <-u.wake:
				wait = updateRetry
			}
			continue
		}
		ready, err := u.prepare(ctx, order)
		if err == nil && ready != nil {
			leave(ready)
			return
		}
		if err != nil && ctx.Err() == nil {
			u.agent.log.Info("the update cannot go on; trying again", "error", err.Error(), "wait", wait.String())
			wait = u.pause(ctx, wait)
		}
	}
}

// pause waits before the next try and returns how long to wait before the one after that. An order given meanwhile is tried
// at once.
func (u *updater) pause(ctx context.Context, wait time.Duration) time.Duration {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-u.wake:
		return updateRetry
	case <-timer.C:
	}
	return min(2*wait, maxUpdateRetry)
}

// prepare reads, checks and fetches an update. Without order and error it is settled. Errors may pass.
func (u *updater) prepare(ctx context.Context, order string) (*updateOrder, error) {
	a := u.agent
	text, url, err := a.client.AgentUpdate(ctx, a.identity.Host)
	if err != nil {
		return nil, err
	}
	r := update.Record{Order: order, State: update.Refused}
	u.mu.Lock()
	r.Installed = u.record.Installed
	if u.record.Order == order {
		r.Trials = u.record.Trials
	}
	u.mu.Unlock()
	statement, err := agentupdate.Verify(ctx, text, time.Now(), a.trust().Keys)
	if err != nil {
		r.Message = err.Error()
		u.note(r)
		return nil, nil
	}
	r.Version = statement.Version
	binary, err := agentupdate.Choose(statement, a.options.Version, runtime.GOOS+"/"+runtime.GOARCH)
	switch {
	case errors.Is(err, agentupdate.ErrSame):
		r.State = update.Done
		u.note(r)
		return nil, nil
	case err == nil:
		err = a.updatesAllowed()
	}
	if err != nil {
		r.Message = err.Error()
		u.note(r)
		return nil, nil
	}
	r.State = update.Downloading
	u.note(r)
	address := strings.TrimSuffix(url, "/") + "/api/agent/" + statement.Version + "/" + runtime.GOOS + "-" + runtime.GOARCH
	path, err := update.Fetch(ctx, updateClient, address, u.dir, binary)
	if errors.Is(err, update.ErrWrongBytes) {
		r.State, r.Message = update.Failed, err.Error()
		u.note(r)
		return nil, nil
	}
	if err != nil {
		r.Message = err.Error()
		u.note(r)
		return nil, err
	}
	r.State = update.Waiting
	u.note(r)
	if !u.quiet(ctx) {
		return nil, ctx.Err()
	}
	if err := a.updatesAllowed(); err != nil { // its owner changed his mind while a rollout was waited for
		r.State, r.Message = update.Refused, err.Error()
		u.note(r)
		return nil, nil
	}
	r.State, r.Trials = update.Trying, r.Trials+1
	u.note(r)
	return &updateOrder{order: order, version: statement.Version, path: path, binary: binary}, nil
}

// updateClient fetches binaries, through a proxy where the environment names one.
var updateClient = &http.Client{Transport: &http.Transport{
	Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute, DisableKeepAlives: true,
}}

// updatesAllowed says why the host's owner does not let the agent update itself, if he does not. A policy that cannot be used
// allows nothing.
func (a *Agent) updatesAllowed() error {
	policy, err := a.files.policy.Current()
	if err == nil && (policy.Update == nil || !*policy.Update) {
		return errNotAllowed
	}
	return err
}

// quiet waits until no rollout is under way; after a long while it goes on all the same, since rollouts survive a restart.
func (u *updater) quiet(ctx context.Context) bool {
	for until := time.Now().Add(quietTime); time.Now().Before(until) && ctx.Err() == nil; {
		busy := false
		keys, err := u.agent.store.Keys()
		for _, key := range keys {
			e, loadErr := u.agent.store.Load(key)
			busy = busy || loadErr == nil && e.Attempt != nil
		}
		if err == nil && !busy {
			return true
		}
		sleep(ctx, quietLook)
	}
	return ctx.Err() == nil
}

// try runs a new version in the place of this one, which has ended but for this, and installs it when it reports healthy.
// When it returns, this process is to go on as before: the trial failed, ctx ended, or the program could not be replaced.
func try(ctx context.Context, o Options, order *updateOrder) {
	dir := filepath.Join(o.DataDir, updateFolder)
	record := update.Load(dir)
	err := trial(ctx, o, order)
	if err == nil {
		err = install(o, order, record)
	}
	if ctx.Err() != nil {
		return // told to stop: the trial is repeated after the next start
	}
	record.Order, record.Version, record.State, record.Message = order.order, order.version, update.Failed, err.Error()
	if err := record.Save(dir); err != nil {
		o.Log.Error(err, "the state of the update cannot be saved")
	}
	o.Log.Info("agent update failed; the old version goes on", "version", order.version, "error", record.Message)
}

// install puts the new version where it is started from now on, and becomes it.
func install(o Options, order *updateOrder, record update.Record) error {
	path, own := o.Binary, ownProgram(o)
	if sameFile(path, own) || update.Writable(path) != nil {
		path = own
		if err := disk.MkdirPrivate(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := update.Replace(path, order.path, order.binary); err != nil {
		return err
	}
	if path == own { // or else the installed program would not hand over to it at the next start
		record.Installed = update.Program{Path: path, Version: order.version, Binary: order.binary}
		if err := record.Save(filepath.Join(o.DataDir, updateFolder)); err != nil {
			return err
		}
	}
	o.Log.Info("agent update is installed; this process becomes the new version", "version", order.version, "program", path)
	return syscall.Exec(path, os.Args, os.Environ()) //nolint:gosec // the program whose hash was signed
}

// ownProgram is where an update goes that cannot take the installed program's place.
func ownProgram(o Options) string { return filepath.Join(o.DataDir, programFile) }

// sameFile says whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, errA := os.Stat(a)
	other, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(one, other)
}

// Redirect makes this process the newer version that an update installed in the data folder, if there is one. Otherwise, and
// when that one is not what was signed any more, it returns.
func Redirect(o Options) {
	installed := update.Load(filepath.Join(o.DataDir, updateFolder)).Installed
	if o.Trial || installed.Path != ownProgram(o) || !agentupdate.Older(o.Version, installed.Version) {
		return
	}
	if !installed.Intact() && !installed.PutBack() {
		o.Log.Info("the program that an update installed is not what was signed; this one runs", "program", installed.Path)
		return
	}
	err := syscall.Exec(installed.Path, os.Args, os.Environ()) //nolint:gosec // the program whose hash was signed
	o.Log.Error(err, "the program that an update installed cannot be run; this one runs", "program", installed.Path)
}

// trial runs the new version as a child until it reports healthy or its time is over. The child ends in any case, before
// this process goes on, and with it if it is killed.
func trial(ctx context.Context, o Options, order *updateOrder) error {
	runtime.LockOSThread() // the child's life is tied to the thread that started it
	defer runtime.UnlockOSThread()
	child := exec.Command(order.path, os.Args[1:]...) //nolint:gosec // the program whose hash was signed
	child.Env = append(os.Environ(), TrialVariable+"=1")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return fmt.Errorf("it cannot be started: %w", err)
	}
	o.Log.Info("agent update is being tried", "version", order.version, "process", child.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	verdict := judgeTrial(ctx, o, order.version, child.Process.Pid, ended)
	_ = child.Process.Signal(syscall.SIGTERM) // it may have ended
	var end error
	select {
	case end = <-ended:
	case <-time.After(trialStop):
		_ = child.Process.Kill()
		end = <-ended
		if verdict == nil {
			verdict = errors.New("it does not end when it is told to")
		}
	}
	o.Log.Info("the trial of the agent update is over", "version", order.version, "ended", fmt.Sprint(end))
	return verdict
}

// judgeTrial waits until the child reports healthy. When the child ends it puts that back into ended.
func judgeTrial(ctx context.Context, o Options, version string, pid int, ended chan error) error {
	limit := o.TrialTime
	if limit <= 0 {
		limit = trialTime
	}
	deadline := time.After(limit)
	last := errors.New("it said nothing")
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended by itself: %w", errors.Join(err, last))
		case <-deadline:
			return fmt.Errorf("it did not report healthy within %s: %w", limit, last)
		case <-time.After(trialLook):
		}
		asked, cancel := context.WithTimeout(ctx, trialLook*4)
		vitals, err := ReadVitals(asked, o.DataDir)
		cancel()
		switch {
		case err != nil:
			last = err
		case vitals == nil:
			last = errors.New("it does not answer")
		default:
			if last = vitals.wellAs(version, pid); last == nil {
				return nil
			}
		}
	}
}

// wellAs says what a new version lacks.
func (v *Vitals) wellAs(version string, pid int) error {
	switch {
	case v.PID != pid:
		return fmt.Errorf("process %d answers instead of %d", v.PID, pid)
	case v.Version != version:
		return fmt.Errorf("it calls itself %s, not %s", v.Version, version)
	case !v.Engine.Up:
		return fmt.Errorf("the Docker engine does not answer it: %s", v.Engine.Error)
	case !v.ControlPlane.Up:
		return fmt.Errorf("the control plane does not answer it: %s", v.ControlPlane.Error)
	}
	return nil
}
