// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/history"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// retryAfter is the wait after something that is not the fault of a rollout: the disk, or the engine's API.
const retryAfter = 5 * time.Second

// worker carries out the Rollouts of one environment of one project, one at a time.
type worker struct {
	agent *Agent
	key   state.Key
	log   logr.Logger
	// offered and stirred hold at most one wake-up each: from the control plane, and from the engine.
	offered chan struct{}
	stirred chan struct{}

	mu sync.Mutex
	// rollouts that the control plane offers, by uid, and those among them that were refused.
	rollouts map[types.UID]*v1alpha1.Rollout
	rejected map[types.UID]rejection
	// deferred are those that the host's owner lets begin later.
	deferred map[types.UID]deferral
	// arrived is when each was first offered.
	arrived map[types.UID]time.Time
	// carried are the bundles that Rollouts came in, by uid, while they are being applied.
	carried map[types.UID]*carried
	// project is the name of the compose project whose events concern this worker.
	project map[string]bool
	// starved are the containers, by id, in which a process ran out of memory while a rollout was judged: the engine says so
	// in an event and forgets it when the container lives on.
	starved map[string]bool

	// The rest belongs to the worker's goroutine.
	disk    *state.Environment
	damaged error
	// unsaved is why the disk has not taken the last change of the state; nil when it has.
	unsaved error
	live    live
	// want is what must run, resolved once per deployment.
	want    *resolved
	base    health.Baseline
	healing plan.Healing
	// falls from health of what serves, of late; unsteady are the services of the last one. fallen says that it is not well.
	falls    plan.Falls
	unsteady []string
	fallen   bool
	trouble  time.Time
	// drift says in words in what the containers differ from what was deployed and will stay so; empty when in nothing.
	drift string
	// removalRetry is the wait after a removal that left something behind.
	removalRetry time.Duration
	// recorder writes the history.
	recorder *history.Recorder
	// pruneAt is when removing old images is tried again.
	pruneAt time.Time
}

// live is what is known of the present moment and not worth keeping.
type live struct {
	// uid of the Rollout that message is about.
	uid     string
	message string
	verdict *health.Verdict
	// words are the last ones of a job that failed.
	words []string
}

// rejection is why a Rollout was refused.
type rejection struct {
	reason, message string
	// byHost says that the cause is on this server, where it may be mended; again, that it is to be judged once more.
	byHost, again bool
}

func newWorker(a *Agent, key state.Key) *worker {
	return &worker{
		agent: a, key: key, log: a.log.WithValues("project", key.Project, "environment", key.Environment),
		offered: make(chan struct{}, 1), stirred: make(chan struct{}, 1),
		rollouts: map[types.UID]*v1alpha1.Rollout{}, rejected: map[types.UID]rejection{}, deferred: map[types.UID]deferral{},
		arrived: map[types.UID]time.Time{}, carried: map[types.UID]*carried{}, project: map[string]bool{}, starved: map[string]bool{},
	}
}

func (w *worker) offer(rollout *v1alpha1.Rollout) {
	w.mu.Lock()
	known := w.rollouts[rollout.UID]
	w.rollouts[rollout.UID] = rollout
	if known == nil {
		w.arrived[rollout.UID] = time.Now()
	}
	w.mu.Unlock()
	// A spec never changes; a change of status is our own.
	if known == nil || known.Annotations[v1alpha1.AnnotationSuspend] != rollout.Annotations[v1alpha1.AnnotationSuspend] {
		poke(w.offered)
	}
}

func (w *worker) withdraw(rollout *v1alpha1.Rollout) {
	w.mu.Lock()
	delete(w.rollouts, rollout.UID)
	delete(w.rejected, rollout.UID)
	delete(w.deferred, rollout.UID)
	delete(w.arrived, rollout.UID)
	w.mu.Unlock()
	poke(w.offered)
}

// reconsider forgets refusals, because other keys are trusted now.
func (w *worker) reconsider() {
	w.mu.Lock()
	clear(w.rejected)
	w.mu.Unlock()
	poke(w.offered)
}

// since is when a Rollout was first offered.
func (w *worker) since(uid types.UID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.arrived[uid]
}

func (w *worker) stir() { poke(w.stirred) }

// note remembers what only an event tells.
func (w *worker) note(event compose.Event) {
	if event.Action != compose.OOM {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starved[event.Container] = true
}

// withStarved puts what only events told into what the engine reports, and forgets containers that are gone.
func (w *worker) withStarved(containers []health.Container) []health.Container {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := map[string]bool{}
	for i, c := range containers {
		if w.starved[c.ID] {
			containers[i].OOMKilled, known[c.ID] = true, true
		}
	}
	w.starved = known
	return containers
}

// concerns says whether events of a compose project concern this worker.
func (w *worker) concerns(project string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.project[project]
}

func (w *worker) follow(project string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.project[project] = true
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run decides and acts until ctx ends.
func (w *worker) run(ctx context.Context) {
	w.load()
	for ctx.Err() == nil {
		at := w.step(ctx)
		at = earliest(at, w.deferredUntil(time.Now()))
		w.publish()
		var timer <-chan time.Time
		if !at.IsZero() {
			timer = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-w.offered:
		case <-w.stirred:
		case <-timer:
		}
	}
}

func (w *worker) load() {
	w.disk, w.damaged = w.agent.store.Load(w.key)
	if w.damaged != nil {
		w.log.Error(w.damaged, "nothing of this environment is touched until a person has looked; remove the file to begin anew")
		w.disk = &state.Environment{Project: w.key.Project, Environment: w.key.Environment}
		return
	}
	for _, d := range []*state.Deployment{w.disk.Current, w.disk.LastGood} {
		if d != nil {
			w.follow(d.Spec.ComposeProject)
		}
	}
	if w.disk.Attempt != nil {
		w.follow(w.disk.Attempt.Spec.ComposeProject)
	}
	w.record() // what a crash came before
}

// step decides and acts once, and returns when to do so again without an event; zero for never.
func (w *worker) step(ctx context.Context) time.Time {
	if w.unsaved != nil && w.save() != nil {
		w.trouble = time.Now().Add(retryAfter)
	}
	rollout, offer := w.best(ctx)
	verdict, err := w.observe(ctx)
	if err != nil && ctx.Err() == nil {
		w.log.Info("containers cannot be observed", "error", err.Error())
		if !errors.Is(err, compose.ErrUnreachable) {
			w.trouble = time.Now().Add(retryAfter)
		}
	}
	w.keepOrder()
	suspended, until := w.suspension(time.Now())
	in := plan.Input{
		Now: time.Now(), Suspended: suspended, SuspendedUntil: until, Damaged: w.damaged != nil, Unsaved: w.unsaved != nil, Offer: offer,
		Serving: w.disk.Current != nil, Removed: w.disk.Removed != nil, Observed: verdict, Healing: w.healing, PruneDue: w.pruneDue(time.Now()),
	}
	if attempt := w.disk.Attempt; attempt != nil {
		in.Attempt = plan.UnderWay
		if attempt.Failure != nil {
			in.Attempt = plan.Failed
		}
	}
	decision := plan.Next(in)
	if decision.Action == plan.Heal && w.disk.Current.Spec.Strategy.Drift == v1alpha1.DriftReport {
		decision = plan.Decision{Action: plan.Rest, Reason: "down, and drift is only reported"}
	}
	w.log.V(1).Info("next", "action", decision.Action.String(), "reason", decision.Reason)
	var again time.Time
	switch decision.Action {
	case plan.Rest:
		again = earliest(decision.At, w.trouble)
	case plan.Deploy:
		again = w.deploy(ctx, rollout)
	case plan.Resume:
		again = w.resume(ctx)
	case plan.GoBack:
		again = w.goBack(ctx)
	case plan.Heal:
		again = w.heal(ctx, *verdict)
	case plan.Prune:
		again = w.prune(ctx)
	}
	if decision.Action != plan.Rest {
		w.agent.calm.Reset(restAfter)
	}
	if w.unsaved != nil {
		again = earliest(again, w.trouble, time.Now().Add(retryAfter))
	}
	w.trouble = time.Time{}
	return again
}

// best is the newest authorised Rollout that is offered, and how it relates to what is on disk.
func (w *worker) best(ctx context.Context) (*v1alpha1.Rollout, plan.Offer) {
	if w.damaged != nil {
		return nil, plan.NoOffer
	}
	older, behind := plan.NoOffer, ""
	defer func() { w.agent.tellBehind(w.key, behind) }()
	for _, rollout := range w.candidates() {
		uid := string(rollout.UID)
		spec := rollout.Spec
		d := w.disk
		switch {
		case w.failureOf(rollout) != nil, d.Attempt != nil && d.Attempt.UID == uid, d.Current != nil && d.Current.UID == uid,
			d.Removed != nil && d.Removed.UID == uid:
			return rollout, plan.Known
		case w.overtaken(spec):
			older = plan.Older
			behind = cmp.Or(behind, w.behind(spec))
		case w.isRejected(rollout.UID):
		default:
			if err := w.agent.lookAtKeys(ctx, w.since(rollout.UID)); err != nil && ctx.Err() == nil { // it is judged by those that are known
				w.log.Info("authorization keys cannot be looked at", "error", err.Error())
			}
			if err := w.verify(ctx, spec, false); err != nil {
				// The owner's policy may ask for a signature, which nobody knows while it cannot be read: that waits.
				if !errors.Is(err, hostpolicy.ErrUnusable) || !w.putOff(rollout, time.Now()) {
					w.reject(rollout, unauthorised(err))
				}
				continue
			}
			if w.putOff(rollout, time.Now()) {
				continue
			}
			return rollout, plan.New
		}
	}
	return nil, older
}

// failureOf is how a Rollout failed, nil if it did not. One that was made anew with the same sequence and bundle, for example
// by a control plane that came back from a backup, is the same order: what failed is tried again only when a new one says so.
func (w *worker) failureOf(rollout *v1alpha1.Rollout) *state.Failure {
	if f := w.disk.FailureOf(string(rollout.UID)); f != nil {
		return f
	}
	if rollout.Spec.ProjectUID != w.disk.ProjectUID {
		return nil
	}
	return w.disk.FailureFor(rollout.Spec.Sequence, rollout.Spec.BundleHash)
}

// candidates are the offered Rollouts, those of another project of the same name first, then by falling sequence.
func (w *worker) candidates() []*v1alpha1.Rollout {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*v1alpha1.Rollout
	for _, rollout := range w.rollouts {
		if rollout.DeletionTimestamp == nil {
			list = append(list, rollout)
		}
	}
	known := func(r *v1alpha1.Rollout) int {
		if r.Spec.ProjectUID == w.disk.ProjectUID {
			return 1
		}
		return 0
	}
	slices.SortFunc(list, func(a, b *v1alpha1.Rollout) int {
		return cmp.Or(cmp.Compare(known(a), known(b)), cmp.Compare(b.Spec.Sequence, a.Spec.Sequence), cmp.Compare(a.UID, b.UID))
	})
	return list
}

func (w *worker) isRejected(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, found := w.rejected[uid]
	return found && !r.again
}

func (w *worker) reject(rollout *v1alpha1.Rollout, r rejection) {
	w.mu.Lock()
	known := w.rejected[rollout.UID]
	w.rejected[rollout.UID] = r
	w.mu.Unlock()
	if known.reason == r.reason && known.message == r.message {
		return // it was judged once more
	}
	w.log.Info("rollout refused", "rollout", rollout.Name, "reason", r.reason, "message", r.message)
}

// save writes the state. When the disk refuses, nothing may go on as if it had been written: the worker tries again before
// anything else, and says what holds it up instead of what it would have reported.
func (w *worker) save() error {
	err := w.agent.store.Save(w.disk)
	if err != nil {
		w.log.Error(err, "state cannot be saved")
	} else if w.unsaved != nil {
		w.log.Info("state can be saved again")
	}
	w.unsaved = err
	if err == nil {
		w.record()
	}
	return err
}

func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
