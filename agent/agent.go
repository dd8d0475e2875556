// SPDX-License-Identifier: Apache-2.0

// Package agent runs on a server with a Docker engine. It follows the Rollouts of its host, carries out those that are
// authorised, judges their health, goes back when they fail, keeps what runs running, and reports. It does so for any
// number of projects and environments on one engine, each with a worker of its own, and goes on doing so without the
// control plane.
//
// One direction: Rollouts and engine events wake a worker; the worker observes, asks agent/plan for the next action, acts,
// saves its state and hands its report to the reporter, which writes it when the control plane is there.
//
// It may import the packages below it, internal/authorization, internal/composefile, internal/envelope, internal/hostpolicy,
// internal/keyset, internal/pv and api/v1alpha1.
// Only agent/compose touches the engine, only agent/control the control plane.
package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
)

// DefaultHeartbeat is the time between two renewals of the Lease.
const DefaultHeartbeat = 60 * time.Second

// jitter is the share by which what is done again may come early, so that a fleet does not come at once.
const jitter = 0.2

// early is a random wait, at most d.
func early(d time.Duration) time.Duration { return d - time.Duration(rand.Float64()*jitter*float64(d)) }

// restAfter is how long after its last work an agent gives the memory that it needed back to the system.
const restAfter = 3 * time.Second

// stateFolder within the data folder.
const stateFolder = "state"

// Options of an agent.
type Options struct {
	// DataDir holds the identity and the state. Required.
	DataDir string
	// DockerHost is the engine's address; empty means $DOCKER_HOST, or else the default socket.
	DockerHost string
	// Heartbeat is the time between two renewals of the Lease. 0 means DefaultHeartbeat.
	Heartbeat time.Duration
	// Policy is the file of the host's owner. Empty means hostpolicy.DefaultFile.
	Policy string
	// MetricsBind is a TCP address for GET /metrics. Empty means none.
	MetricsBind string
	// Binary is the installed program, which an update replaces. Empty means that of this process.
	Binary string
	// Trial says that this is a new version on trial, which must not update itself; TrialTime is how long a trial may take.
	// 0 means two minutes.
	Trial     bool
	TrialTime time.Duration
	// PullStall is how long nothing may move in a pull before it is begun anew. 0 means compose.StallAfter.
	PullStall time.Duration
	// Look is how often everything is looked at although the engine reported no event. 0 means compose.RenewAfter.
	Look time.Duration
	// Version of the agent, as reported.
	Version string
	Log     logr.Logger

	// alone says that the control plane is not to be asked for anything.
	alone bool
	// started is called, in a goroutine of its own, once everything runs.
	started func(context.Context, *Agent)
}

// UserAgent of an agent's requests.
func UserAgent(version string) string { return "sirrat-agent/" + version }

// Agent is a running agent.
type Agent struct {
	options    Options
	log        logr.Logger
	identity   enrol.Identity
	connection *enrol.Connection
	client     *control.Client
	engine     *compose.Engine
	store      *state.Store
	reporter   *reporter
	desk       *logsDesk
	updater    *updater
	// offline says that nothing is asked of the control plane: the server was joined offline, or this is the command apply.
	offline bool
	// applying is the bundle that is being applied, or was last.
	applying application
	// files are those of the host's owner: his policy, and what compose files name.
	files   *hostFiles
	monitor *monitor

	// changing is held while the identity is changed; looking while the keys are looked at, at the time looked.
	changing, looking sync.Mutex
	looked, lookedAPI time.Time
	// barred asks for a new certificate before its time, because the present one is not taken.
	barred chan struct{}
	// images is held while an image is removed, and while those of a rollout are looked for.
	images sync.Mutex
	// synced says that every Rollout that the control plane has was offered.
	synced atomic.Bool

	mu   sync.Mutex
	keys authorization.Trust
	// What is wrong with the keys on offer, in all and in so far as the control plane is behind; and the set in use.
	keysSaid, keysBehind string
	keySerial            int64
	// sequencesBehind say where the control plane is behind with orders.
	sequencesBehind map[state.Key]string
	workers         map[state.Key]*worker
	start           func(*worker)
	// calm gives memory back to the system once nothing has happened for restAfter.
	calm *time.Timer
	// info is what the engine said of itself when it was last asked; nil once it may be another one.
	info *compose.Info
	// beat asks for a heartbeat before its time.
	beat chan struct{}
	// policyVersion is the version of the policy that was told last.
	policyVersion int
}

// Run runs an agent until ctx ends. Containers are left as they are. In between it may make room for a new version of itself
// on trial; when that is well, this process becomes it and Run does not return.
func Run(ctx context.Context, o Options) error {
	if o.Heartbeat <= 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Binary == "" {
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
	}
	for {
		err := runOnce(ctx, o)
		var order *updateOrder
		if !errors.As(err, &order) {
			return err
		}
		try(ctx, o, order)
	}
}

// runOnce runs an agent until ctx ends, or until an update is to be tried: then the error is an updateOrder.
func runOnce(ctx context.Context, o Options) error {
	identity, err := enrol.LoadIdentity(o.DataDir)
	if err != nil {
		return err
	}
	lock, err := takeLock(ctx, o.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	a, err := newAgent(o, *identity)
	if err != nil {
		return err
	}
	defer a.engine.Close()
	if o.MetricsBind != "" {
		listener, err := net.Listen("tcp", o.MetricsBind)
		if err != nil {
			return fmt.Errorf("--metrics-bind: %w", err)
		}
		var served sync.WaitGroup
		defer served.Wait()
		metrics, cancel := context.WithCancel(ctx)
		defer cancel()
		served.Go(func() { a.serveMetrics(metrics, listener) })
	}
	return a.run(ctx)
}

// lockPatience is how long the end of another agent is waited for: one that was killed leaves its folder in a moment.
const lockPatience = 5 * time.Second

func takeLock(ctx context.Context, dir string) (*os.File, error) {
	for until := time.Now().Add(lockPatience); ; {
		lock, err := disk.Lock(dir)
		if !errors.Is(err, disk.ErrLocked) || time.Now().After(until) || !sleep(ctx, lockPatience/50) {
			return lock, err
		}
	}
}

func newAgent(o Options, identity enrol.Identity) (*Agent, error) {
	a := &Agent{options: o, log: o.Log, identity: identity, workers: map[state.Key]*worker{},
		beat: make(chan struct{}, 1), barred: make(chan struct{}, 1), sequencesBehind: map[state.Key]string{}}
	a.monitor = newMonitor(o.Version, os.Getpid(), time.Now())
	var err error
	if err = a.setTrust(identity); err != nil {
		return nil, err
	}
	a.keySerial = identity.KeySet
	dir := filepath.Join(o.DataDir, stateFolder)
	if a.store, err = state.Open(dir); err != nil {
		return nil, err
	}
	for _, folder := range []string{o.DataDir, dir, filepath.Join(o.DataDir, updateFolder)} {
		if err := disk.RemoveLeftovers(folder); err != nil {
			return nil, err
		}
	}
	if err := removeUnpacked(o.DataDir); err != nil {
		return nil, err
	}
	a.offline = o.alone || identity.Offline()
	if a.connection, err = enrol.Connect(identity, UserAgent(o.Version)); err != nil {
		return nil, err
	}
	if a.client, err = control.New(a.connection.Config()); err != nil {
		return nil, err
	}
	if a.engine, err = compose.Connect(o.DockerHost); err != nil {
		return nil, err
	}
	a.files = newHostFiles(o.DataDir, o.Policy, a.engine.Host())
	a.reporter = newReporter(identity.Host, a.client, a.log)
	a.desk = newLogsDesk(a)
	a.updater = newUpdater(a)
	return a, nil
}

// run starts a worker for all that is known from disk, then listens to the engine and the control plane.
func (a *Agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	a.calm = time.AfterFunc(restAfter, rest)
	defer a.calm.Stop()
	a.start = func(w *worker) { wg.Go(func() { w.run(ctx) }) }
	var order *updateOrder
	if !a.options.Trial && !a.offline {
		wg.Go(func() { a.updater.run(ctx, func(o *updateOrder) { order = o; cancel() }) })
	}
	a.log.Info("agent started", "host", a.identity.Host, "server", a.identity.Server, "engine", a.engine.Host(), "version", a.options.Version)
	known, err := a.store.Keys()
	if err != nil {
		return err
	}
	for _, key := range known {
		a.worker(key)
	}
	if a.options.started != nil {
		wg.Go(func() { a.options.started(ctx, a) })
	}
	wg.Go(func() { a.answerCommands(ctx) })
	wg.Go(func() { a.followEngine(ctx) })
	wg.Go(func() { a.followSuspensions(ctx) })
	if a.offline {
		a.log.Info("no control plane is asked: what runs is kept running, and releases come in bundles (sirrat-agent apply)")
	} else {
		a.followControlPlane(ctx, &wg)
	}
	<-ctx.Done()
	cancel()
	wg.Wait()
	if order != nil {
		return order
	}
	a.log.Info("agent stops; containers stay as they are")
	return nil
}

// followControlPlane follows the host's Rollouts and tells what becomes of them, until ctx ends.
func (a *Agent) followControlPlane(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() { a.desk.run(ctx) })
	wg.Go(func() { a.reporter.run(ctx) })
	wg.Go(func() { a.heartbeats(ctx) })
	wg.Go(func() { a.renewals(ctx) })
	wg.Go(func() { a.followKeys(ctx) })
	a.client.WatchRollouts(ctx, a.identity.Host, a.offer, a.withdraw, a.allOffered, func(err error) {
		a.unauthenticated(err)
		if !control.IsRoutine(err) {
			a.log.Info("control plane does not answer; what runs is kept running", "error", err.Error())
		}
	})
}

// worker returns the worker of an environment and starts it when it is new.
func (a *Agent) worker(key state.Key) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[key]
	if w == nil {
		w = newWorker(a, key)
		a.workers[key] = w
		a.start(w)
	}
	return w
}

// ownerOf names the environment that has a compose project already, if it is not that of w.
func (a *Agent) ownerOf(project string, w *worker) (owner state.Key, taken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, other := range a.workers {
		if other != w && other.concerns(project) {
			return key, true
		}
	}
	return state.Key{}, false
}

func (a *Agent) offer(rollout *v1alpha1.Rollout) {
	a.worker(state.Key{Project: rollout.Spec.Project, Environment: rollout.Spec.Environment}).offer(rollout)
	a.desk.offer(rollout)
}

func (a *Agent) withdraw(rollout *v1alpha1.Rollout) {
	a.worker(state.Key{Project: rollout.Spec.Project, Environment: rollout.Spec.Environment}).withdraw(rollout)
	a.reporter.forget(rollout.UID)
	a.desk.forget(rollout.UID)
}

// allOffered notes that the control plane has no more Rollouts than were offered.
func (a *Agent) allOffered() {
	a.synced.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		poke(w.offered)
	}
}

// followEngine wakes the workers whose containers changed.
func (a *Agent) followEngine(ctx context.Context) {
	a.engine.Events(ctx, compose.ProjectLabel, a.options.Look, func(event compose.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, w := range a.workers {
			if event.Project == "" || w.concerns(event.Project) {
				w.note(event)
				w.stir()
			}
		}
		if event.Project == "" && event.Action != compose.Renewed {
			a.monitor.engine(nil)
			a.info = nil
			a.beatNow() // the engine is there (again), perhaps in another version
		}
	}, func(err error) {
		a.monitor.engine(err)
		a.log.Info("engine does not answer", "error", err.Error())
	})
}

// engineInfo is what the engine says of itself, asked once for as long as it stays.
func (a *Agent) engineInfo(ctx context.Context) (compose.Info, error) {
	a.mu.Lock()
	known := a.info
	a.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	info, err := a.engine.Info(ctx)
	if err != nil {
		return compose.Info{}, err
	}
	a.mu.Lock()
	a.info = &info
	a.mu.Unlock()
	return info, nil
}

func (a *Agent) beatNow() {
	select {
	case a.beat <- struct{}{}:
	default:
	}
}

// heartbeats renews the Lease: at once, then once per period.
func (a *Agent) heartbeats(ctx context.Context) {
	info := v1alpha1.AgentInfo{AgentVersion: a.options.Version}
	fresh := false
	for ctx.Err() == nil {
		a.lookAtPolicy(&info)
		if !fresh {
			if engine, err := a.engineInfo(ctx); err == nil {
				info.EngineVersion, info.EngineAPI, info.Platform = engine.Version, engine.APIVersion, engine.Platform
				info.CPUs, info.MemoryBytes = int32(engine.CPUs), engine.MemoryBytes
				a.monitor.engineInfo(engine)
				fresh = true
			}
		}
		wait := early(a.options.Heartbeat)
		identity := a.connection.Identity()
		info.CertificateKey = identity.KeyHash()
		info.Ahead, info.KeySet = a.ahead()
		info.Update = a.updater.info()
		order, err := a.client.Heartbeat(ctx, identity.Host, identity.User(), a.options.Heartbeat, info, time.Now())
		if ctx.Err() == nil {
			a.monitor.heartbeat(err)
			if err == nil {
				a.updater.offer(order)
			}
		}
		if err != nil && ctx.Err() == nil {
			a.unauthenticated(err)
			a.log.Info("heartbeat failed", "error", err.Error())
			wait = min(wait, 10*time.Second)
		}
		select {
		case <-ctx.Done():
		case <-a.beat:
			fresh = false
		case <-time.After(wait):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
