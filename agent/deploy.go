// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
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
	// pullTries of one image, with a wait of pullRetry, doubled each time, in between.
	pullTries = 4
	pullRetry = time.Second
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
	secrets, err := w.secrets(ctx, d.Spec)
	if err != nil {
		w.say(d.UID, "waits for what it needs: "+err.Error())
		return now.Add(secretRetry)
	}
	d.Secrets = secrets
	target, err := w.admit(ctx, &d)
	if err != nil {
		w.reject(rollout, refusal(err, d.Secrets))
		return now // perhaps an older one is to be carried out
	}
	if previous := w.disk.Attempt; previous != nil && previous.Failure != nil {
		f := *previous.Failure
		f.Phase, f.Message = v1alpha1.RolloutFailed, f.Message+"; a newer rollout came before the way back ended"
		w.disk.Fail(f)
	}
	retire(w.disk, d.Spec.ProjectUID)
	w.disk.Highest = max(w.disk.Highest, d.Spec.Sequence)
	d.Begin(v1alpha1.RolloutPulling, time.Now())
	w.disk.Attempt = &state.Attempt{Deployment: d, Phase: v1alpha1.RolloutPulling}
	w.follow(d.Spec.ComposeProject)
	if w.save() != nil {
		return time.Now().Add(retryAfter)
	}
	w.log.Info("rollout begins", "rollout", d.Name, "release", d.Spec.Release.Name, "sequence", d.Spec.Sequence)
	return w.finish(ctx, w.carryOut(ctx, target, false))
}

// resume goes on with the attempt that a restart of the agent interrupted.
func (w *worker) resume(ctx context.Context) time.Time {
	attempt := w.disk.Attempt
	w.log.Info("rollout goes on after a restart", "rollout", attempt.Name, "phase", attempt.Phase)
	if err := w.verify(ctx, attempt.Spec, true); err != nil {
		untouched := attempt.Phase == v1alpha1.RolloutPulling
		return w.finish(ctx, &failed{v1alpha1.ReasonAuthorizationInvalid, err, untouched})
	}
	read := w.resolve
	if attempt.Phase == v1alpha1.RolloutPulling { // nothing was touched: what the owner says now counts
		read = w.admit
	}
	target, err := read(ctx, &attempt.Deployment)
	if errors.Is(err, hostpolicy.ErrUnusable) {
		return w.finish(ctx, err)
	}
	if err != nil {
		return w.finish(ctx, &failed{refusal(err, nil).reason, err, attempt.Phase == v1alpha1.RolloutPulling})
	}
	return w.finish(ctx, w.carryOut(ctx, target, true))
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

// carryOut takes the attempt through its phases. Errors of type failed are the rollout's fault; others hold it up.
func (w *worker) carryOut(ctx context.Context, target *resolved, again bool) error {
	attempt := w.disk.Attempt
	checking := attempt.Phase == v1alpha1.RolloutChecking
	if err := w.pull(ctx, target); err != nil {
		return err
	}
	before, err := w.agent.engine.Containers(ctx, target.project.Name)
	if err != nil {
		return err
	}
	base := health.BaselineOf(before)
	var services []string
	if again && checking { // all was up already: bring up what is down, and leave what has completed alone
		verdict := health.Judge(target.services, before, base, attempt.Completed, time.Now())
		if verdict.Status == health.Down {
			services = verdict.Worst()
		}
	}
	if !checking || len(services) > 0 {
		if err := w.enter(v1alpha1.RolloutStarting); err != nil {
			return err
		}
		if err := w.up(ctx, target, services); err != nil {
			return err
		}
	}
	if err := w.enter(v1alpha1.RolloutChecking); err != nil {
		return err
	}
	verdict, err := w.await(ctx, target, attempt.Deployment, base, true)
	if err != nil {
		return err
	}
	return w.commit(target, verdict)
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

// pull fetches every image that is not on disk. A newer Rollout interrupts it: nothing was touched.
func (w *worker) pull(ctx context.Context, target *resolved) error {
	attempt := w.disk.Attempt
	var missing []string
	for _, image := range target.images() {
		present, err := w.agent.engine.Present(ctx, image)
		if err != nil {
			return err
		}
		if !present {
			missing = append(missing, image)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	credentials, err := w.credentials(ctx, attempt.Spec)
	if err != nil {
		return err
	}
	ctx, stop := w.untilNewer(ctx)
	defer stop()
	for _, image := range missing {
		if err := w.pullOne(ctx, target, image, credentials); err != nil {
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return errInterrupted
			}
			if ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) {
				return err
			}
			return &failed{v1alpha1.ReasonPullFailed, err, attempt.Phase == v1alpha1.RolloutPulling}
		}
	}
	return nil
}

func (w *worker) pullOne(ctx context.Context, target *resolved, image string, credentials []byte) error {
	name, uid := target.servicesOf(image), w.disk.Attempt.UID
	w.say(uid, "pulling "+name)
	wait := pullRetry
	for try := 1; ; try++ {
		err := w.agent.engine.Pull(ctx, image, credentials, func(percent int) {
			w.say(uid, fmt.Sprintf("pulling %s: %d%%", name, percent))
		})
		final := errors.Is(err, compose.ErrNotFound) || errors.Is(err, compose.ErrDenied) || errors.Is(err, compose.ErrUnreachable)
		if err == nil || final || try == pullTries || ctx.Err() != nil {
			return err
		}
		w.log.Info("pull failed, trying again", "image", image, "try", try, "error", err.Error())
		w.say(uid, fmt.Sprintf("pulling %s: try %d failed, trying again", name, try))
		sleep(ctx, wait)
		wait *= 2
	}
}

// untilNewer is a context that ends when a newer Rollout is authorised. While it lasts, nobody may change the state.
func (w *worker) untilNewer(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.offered:
				if w.newer(ctx) {
					cancel(errInterrupted)
					return
				}
			}
		}
	}()
	if w.newer(ctx) {
		cancel(errInterrupted)
	}
	return ctx, func() { cancel(nil); <-ended }
}

func (w *worker) newer(ctx context.Context) bool {
	_, offer := w.best(ctx)
	return offer == plan.New
}

// up converges the containers. It is not interrupted half-way by the end of the agent, unless it takes long.
func (w *worker) up(ctx context.Context, target *resolved, services []string) error {
	calm, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(calm, stopGrace)
		cancel()
	})()
	if err := w.agent.checkFiles(target); err != nil {
		return &failed{v1alpha1.ReasonStartFailed, err, false}
	}
	limited, cancelTimeout := context.WithTimeout(calm, timeoutOf(w.disk.Attempt.Spec))
	defer cancelTimeout()
	err := w.agent.engine.Up(limited, target.project, target.labels, services...)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, compose.ErrUnreachable):
		return err
	case limited.Err() != nil:
		err = fmt.Errorf("not up within %s: a service that others depend on did not become healthy", timeoutOf(w.disk.Attempt.Spec))
	}
	if containers, lookErr := w.agent.engine.Containers(ctx, target.project.Name); lookErr == nil {
		verdict := health.Judge(target.services, containers, nil, nil, time.Now())
		w.live.verdict = &verdict
	}
	return &failed{v1alpha1.ReasonStartFailed, err, false}
}

func timeoutOf(spec v1alpha1.RolloutSpec) time.Duration {
	if t := spec.Strategy.Timeout.Duration; t > 0 {
		return t
	}
	return defaultTimeout
}

// commit makes the attempt what must run from now on.
func (w *worker) commit(target *resolved, verdict health.Verdict) error {
	d := w.disk.Attempt.Deployment
	now := time.Now()
	d.Completed = verdict.Completed()
	d.HealthySince = now
	d.Begin(v1alpha1.RolloutHealthy, now)
	w.disk.Current, w.disk.LastGood, w.disk.Attempt = &d, &d, nil
	if err := w.save(); err != nil {
		return err
	}
	w.want, w.healing = target, plan.Healing{}
	w.live = live{uid: d.UID, verdict: &verdict}
	w.log.Info("rollout is healthy", "rollout", d.Name, "release", d.Spec.Release.Name, "sequence", d.Spec.Sequence)
	return nil
}
