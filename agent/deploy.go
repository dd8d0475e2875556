// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// Times of a deployment.
const (
	// defaultTimeout within which all containers must be healthy.
	defaultTimeout = 5 * time.Minute
	// secretRetry is the wait for a Secret that was not delivered yet.
	secretRetry = 2 * time.Second
	// stopGrace is how long containers that are being replaced may take to come up when the agent itself is told to stop.
	stopGrace = 30 * time.Second
)

// errInterrupted says that a newer Rollout takes the place of the one under way.
var errInterrupted = errors.New("a newer rollout is authorised")

// failed is an error that is the rollout's own fault.
type failed struct {
	reason string
	err    error
	// untouched says that no container was touched, so that there is no way to go back.
	untouched bool
}

func (f *failed) Error() string { return f.err.Error() }
func (f *failed) Unwrap() error { return f.err }

// deploy carries out a Rollout that best has verified. Nothing is recorded before it is admitted.
func (w *worker) deploy(ctx context.Context, rollout *v1alpha1.Rollout) time.Time {
	if rollout.Spec.Remove != nil {
		return w.beginRemoval(ctx, rollout)
	}
	now := time.Now()
	d := state.Deployment{Name: rollout.Name, UID: string(rollout.UID), Spec: *rollout.Spec.DeepCopy()}
	d.Begin(v1alpha1.RolloutVerifying, now)
	if w.live.uid != d.UID {
		w.say(d.UID, "")
	}
	if owner, taken := w.agent.ownerOf(d.Spec.ComposeProject, w); taken {
		w.reject(rollout, rejection{reason: v1alpha1.ReasonComposeInvalid, message: fmt.Sprintf("the compose project %s belongs to %s on this host", d.Spec.ComposeProject, owner)})
		return now
	}
	secrets, err := w.secrets(ctx, d.UID, d.Spec)
	if err != nil {
		w.say(d.UID, "waits for what it needs: "+err.Error())
		return now.Add(secretRetry)
	}
	d.Secrets = secrets
	if err := w.acceptedSecrets(ctx, d.Spec, secrets); err != nil {
		w.reject(rollout, unauthorised(err))
		return now
	}
	if d.Local, err = w.localImages(ctx, d); err != nil {
		w.say(d.UID, "held up: "+err.Error())
		return now.Add(retryAfter)
	}
	target, err := w.agent.files.admit(ctx, &d)
	if err != nil {
		w.reject(rollout, rejectionOf(err, d.Secrets))
		return now // perhaps an older one is to be carried out
	}
	if previous := w.disk.Attempt; previous != nil && previous.Failure != nil {
		f := *previous.Failure
		f.Phase, f.Message = v1alpha1.RolloutFailed, f.Message+"; a newer rollout came before the way back ended"
		w.disk.Fail(f)
	}
	w.disk.Retire(d.Spec.ProjectUID)
	w.disk.Highest = max(w.disk.Highest, d.Spec.Sequence)
	d.Begin(v1alpha1.RolloutPreflight, time.Now())
	touched := w.disk.Attempt != nil && w.disk.Attempt.Touched
	w.disk.Attempt = &state.Attempt{Deployment: d, Phase: v1alpha1.RolloutPreflight, Touched: touched}
	w.follow(d.Spec.ComposeProject)
	if w.save() != nil {
		return time.Now().Add(retryAfter)
	}
	w.log.Info("rollout begins", "rollout", d.Name, "release", d.Spec.Release.Name, "sequence", d.Spec.Sequence)
	return w.finish(ctx, w.carryOut(ctx, target))
}

// resume goes on with the attempt that a restart of the agent, or something that held it up, interrupted.
func (w *worker) resume(ctx context.Context) time.Time {
	attempt := w.disk.Attempt
	if attempt.Spec.Remove != nil {
		return w.resumeRemoval(ctx)
	}
	w.log.Info("rollout goes on", "rollout", attempt.Name, "phase", attempt.Phase)
	if err := w.verify(ctx, attempt.Spec, true); err != nil {
		return w.finish(ctx, &failed{v1alpha1.ReasonAuthorizationInvalid, err, untouched(attempt.Phase)})
	}
	if err := w.relocate(ctx); err != nil {
		return w.finish(ctx, err)
	}
	read := w.agent.files.resolve
	if untouched(attempt.Phase) { // what the owner says now counts
		read = w.agent.files.admit
	}
	target, err := read(ctx, &attempt.Deployment)
	if errors.Is(err, hostpolicy.ErrUnusable) {
		return w.finish(ctx, err)
	}
	if err != nil {
		return w.finish(ctx, &failed{rejectionOf(err, nil).reason, err, untouched(attempt.Phase)})
	}
	if err := w.restored(ctx, target); err != nil {
		return w.finish(ctx, err)
	}
	return w.finish(ctx, w.carryOut(ctx, target))
}

// finish turns the end of an attempt into what comes next.
func (w *worker) finish(ctx context.Context, err error) time.Time {
	var f *failed
	switch {
	case err == nil:
		return time.Now()
	case ctx.Err() != nil:
		return time.Time{}
	case errors.Is(err, errInterrupted):
		w.log.Info("rollout gives way to a newer one", "rollout", w.disk.Attempt.Name)
		return time.Now()
	case !errors.As(err, &f):
		w.log.Info("rollout is held up", "rollout", w.disk.Attempt.Name, "error", redact(err.Error(), w.disk.Attempt.Secrets))
		w.say(w.disk.Attempt.UID, "held up: "+redact(err.Error(), w.disk.Attempt.Secrets))
		return time.Now().Add(retryAfter)
	}
	w.recordFailure(ctx, f)
	return time.Now()
}

// phase is one step of a rollout. Its name is on disk before anything of it is done, so that an agent that was killed goes
// on where it was.
type phase struct {
	name string
	// needed says whether there is anything to do; nil means always.
	needed func(*worker, *resolved) bool
	run    func(*worker, context.Context, *resolved) error
}

// phases of a rollout, after its authorization was verified and its compose file admitted, and before it is committed.
var phases = []phase{
	{name: v1alpha1.RolloutPreflight, run: (*worker).preflight},
	{name: v1alpha1.RolloutPulling, run: (*worker).pull},
	{name: v1alpha1.RolloutMigrating, run: (*worker).migrate, needed: (*worker).hasJobs},
	{name: v1alpha1.RolloutStarting, run: (*worker).start},
	{name: v1alpha1.RolloutChecking, run: (*worker).check},
}

// untouched says that no container was touched before the end of that phase.
func untouched(phase string) bool {
	return phase == v1alpha1.RolloutPreflight || phase == v1alpha1.RolloutPulling
}

// carryOut takes the attempt through its phases, from the one that it is in. Errors of type failed are the rollout's fault;
// others hold it up.
func (w *worker) carryOut(ctx context.Context, target *resolved) error {
	from := slices.IndexFunc(phases, func(p phase) bool { return p.name == w.disk.Attempt.Phase })
	for _, p := range phases[max(0, from):] {
		if p.needed != nil && !p.needed(w, target) {
			continue
		}
		if !untouched(p.name) {
			if err := w.remember(ctx, target); err != nil {
				return err
			}
		}
		if err := w.enter(p.name); err != nil {
			return err
		}
		if err := p.run(w, ctx, target); err != nil {
			return err
		}
	}
	return w.commit(target)
}

// remember notes what there is before anything is touched, to judge growth by. The next phase's entry saves it.
func (w *worker) remember(ctx context.Context, target *resolved) error {
	if w.disk.Attempt.Before != nil {
		return nil
	}
	containers, err := w.agent.engine.Containers(ctx, target.project.Name)
	if err != nil {
		return err
	}
	base := health.BaselineOf(containers)
	w.disk.Attempt.Before = &base
	return nil
}

// enter records the next phase before anything of it is done.
func (w *worker) enter(phase string) error {
	w.disk.Attempt.Phase = phase
	w.disk.Attempt.Begin(phase, time.Now())
	if err := w.save(); err != nil {
		return err
	}
	w.say(w.disk.Attempt.UID, "")
	return nil
}

// restored makes sure, after a restart of the agent, that what earlier phases did still holds: images may have been removed
// and containers have ended in the meantime.
func (w *worker) restored(ctx context.Context, target *resolved) error {
	attempt := w.disk.Attempt
	if untouched(attempt.Phase) {
		return nil
	}
	if err := w.pull(ctx, target); err != nil {
		return err
	}
	if attempt.Phase != v1alpha1.RolloutChecking {
		return nil
	}
	if err := w.identify(ctx, target); err != nil {
		return err
	}
	containers, err := w.agent.engine.Containers(ctx, target.project.Name)
	if err != nil {
		return err
	}
	verdict := health.Judge(target.services, containers, w.before(), attempt.Completed, time.Now())
	if verdict.Status != health.Down {
		return nil
	}
	return w.up(ctx, target, attempt.Spec, verdict.Worst()) // and leave alone what has completed
}

// before is what was observed before anything was touched.
func (w *worker) before() health.Baseline {
	if before := w.disk.Attempt.Before; before != nil {
		return *before
	}
	return nil
}

// start replaces what runs. Where an irreversible release has no jobs, it is the application itself that changes its data
// when it starts.
func (w *worker) start(ctx context.Context, target *resolved) error {
	if err := w.passNoReturn(); err != nil {
		return err
	}
	return w.up(ctx, target, w.disk.Attempt.Spec, nil)
}

// check waits for health.
func (w *worker) check(ctx context.Context, target *resolved) error {
	_, err := w.await(ctx, target, w.disk.Attempt.Deployment, w.before(), nil, true)
	return err
}

// newer says that what is under way is to be left for something else: a newer Rollout, or a suspension. One whose key was
// revoked before it has touched anything is looked at again too, and ends there.
func (w *worker) newer(ctx context.Context) bool {
	if suspended, _ := w.suspension(time.Now()); suspended != "" {
		return true
	}
	attempt := w.disk.Attempt
	if attempt != nil && attempt.Failure == nil && untouched(attempt.Phase) && w.verify(ctx, attempt.Spec, true) != nil {
		return true
	}
	_, offer := w.best(ctx)
	return offer == plan.New
}

// up converges the containers. It is not interrupted half-way by the end of the agent, unless it takes long.
func (w *worker) up(ctx context.Context, target *resolved, spec v1alpha1.RolloutSpec, services []string) error {
	calm, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(calm, stopGrace)
		cancel()
	})()
	err := w.converge(ctx, calm, target, spec, services)
	if w.vanished(ctx, target, err) {
		if err = w.pull(ctx, target); err == nil {
			err = w.converge(ctx, calm, target, spec, services)
		}
	}
	var f *failed
	if err == nil || ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) || errors.Is(err, errInterrupted) || errors.As(err, &f) {
		return err
	}
	if containers, lookErr := w.agent.engine.Containers(ctx, target.project.Name); lookErr == nil {
		verdict := health.Judge(target.services, containers, nil, nil, time.Now())
		w.live.verdict = &verdict
	}
	return &failed{v1alpha1.ReasonStartFailed, err, false}
}

// vanished says that containers could not be made because an image went away after it was pulled: somebody removed it, or the
// engine was still deleting it. It is fetched once more then; but not on the way back, which fetches nothing.
func (w *worker) vanished(ctx context.Context, target *resolved, err error) bool {
	if err == nil || ctx.Err() != nil || w.disk.Attempt.Failure != nil || errors.Is(err, errInterrupted) || errors.Is(err, compose.ErrUnreachable) {
		return false
	}
	missing, lookErr := w.missing(ctx, target)
	if lookErr != nil || len(missing) == 0 {
		return false
	}
	w.log.Info("images have vanished since they were pulled; pulling them again", "images", missing, "error", redact(err.Error(), w.disk.Attempt.Secrets))
	return true
}

func timeoutOf(spec v1alpha1.RolloutSpec) time.Duration {
	if t := spec.Strategy.Timeout.Duration; t > 0 {
		return t
	}
	return defaultTimeout
}

// commit makes the attempt what must run from now on.
func (w *worker) commit(target *resolved) error {
	d := w.disk.Attempt.Deployment
	verdict := *w.live.verdict
	now := time.Now()
	d.Completed, d.Excused = verdict.Completed(), verdict.Excused()
	d.HealthySince = now
	d.Begin(v1alpha1.RolloutHealthy, now)
	leaveBehind(w.disk, d)
	w.disk.Current, w.disk.LastGood, w.disk.Attempt, w.disk.NoWayBack, w.disk.Removed = &d, &d, nil, "", nil
	if err := w.save(); err != nil {
		return err
	}
	w.want, w.healing = target, plan.Healing{}
	w.falls, w.fallen = nil, false
	w.live = live{uid: d.UID, verdict: &verdict}
	w.log.Info("rollout is healthy", "rollout", d.Name, "release", d.Spec.Release.Name, "sequence", d.Spec.Sequence)
	return nil
}
