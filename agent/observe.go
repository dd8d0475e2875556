// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// observe judges what must run; nil when nothing must or the engine does not answer.
func (w *worker) observe(ctx context.Context) (*health.Verdict, error) {
	current := w.disk.Current
	if current == nil || w.disk.Attempt != nil {
		return nil, nil
	}
	if w.want == nil || w.want.uid != current.UID {
		want, err := w.agent.files.resolve(ctx, current)
		if err != nil {
			return nil, fmt.Errorf("what runs cannot be judged: %w", err)
		}
		if err := w.identify(ctx, want); err != nil {
			return nil, err
		}
		w.want, w.base = want, nil
	}
	seen := &convergence{worker: w, calm: ctx, target: w.want, spec: current.Spec}
	if err := seen.look(); err != nil {
		return nil, err
	}
	containers := seen.view.Health()
	now := time.Now()
	if w.base == nil {
		w.base = health.BaselineOf(containers)
	}
	w.base = w.base.Settled(containers, now)
	verdict := health.Judge(w.want.services, containers, w.base, current.Completed, now).Excuse(excused(current))
	current.Excused = verdict.Excused() // saved with the next change: at worst one is excused a little longer after a crash
	w.drift = seen.drift(&verdict)
	w.live = live{uid: current.UID, verdict: &verdict, message: redact(verdict.Message(), current.Secrets)}
	w.noteHealth(verdict, now)
	return &verdict, nil
}

// excused are the services that do not count against a deployment as long as they run, however badly.
func excused(d *state.Deployment) map[string]health.Status {
	sick := map[string]health.Status{}
	for _, name := range d.Excused {
		sick[name] = health.Unhealthy
	}
	return sick
}

// noteHealth keeps track of since when it is healthy without a break, and of what healing achieved.
func (w *worker) noteHealth(verdict health.Verdict, now time.Time) {
	current := w.disk.Current
	since := current.HealthySince
	settled := w.noteFall(verdict.Status, now)
	switch {
	case verdict.Status != health.Healthy:
		since = time.Time{}
	case now.Before(settled):
		since = time.Time{}
		w.trouble = earliest(w.trouble, settled)
	case since.IsZero(), verdict.LastStart.After(since):
		since = now // something was started in the meantime, perhaps unseen
	}
	if now.Before(settled) && verdict.Status <= health.Unhealthy { // in words that do not change with every change
		w.live.message = fmt.Sprintf("its health comes and goes (%s): it counts as healthy once it has been well for %s",
			strings.Join(w.unsteady, ", "), plan.FlapCalm)
		w.live.verdict = nil
	}
	if verdict.Status != health.Down {
		w.healing.DownSince = time.Time{}
	} else if w.healing.DownSince.IsZero() {
		w.healing.DownSince = now
	}
	if w.healing.Count > 0 && verdict.Status == health.Healthy && now.Sub(w.healing.Last) > plan.Calm {
		w.healing = plan.Healing{}
	}
	if since.Equal(current.HealthySince) {
		return
	}
	if since.IsZero() {
		w.log.Info("not healthy", "release", current.Spec.Release.Name, "message", w.live.message)
	} else {
		w.log.Info("healthy", "release", current.Spec.Release.Name)
		w.concludeGoingBack(current)
	}
	current.HealthySince = since
	if w.save() != nil {
		w.trouble = now.Add(retryAfter) // a streak that is not on disk is not reported
	}
}

// noteFall notes that what was well is not any more, and returns until when it is not called healthy because of how often that
// happened of late. Healing what is down has waits of its own.
func (w *worker) noteFall(status health.Status, now time.Time) (settled time.Time) {
	switch status {
	case health.Healthy:
		w.fallen = false
	case health.Unhealthy:
		if !w.fallen {
			w.falls = w.falls.Add(now)
			w.unsteady = w.live.verdict.Worst()
		}
		w.fallen = true
	}
	return w.falls.Settled()
}

// concludeGoingBack notes that a last good set whose way back had failed was healed later. The rollout stays Failed: going
// back has failed, and whoever reads of it must know; but what serves now is no secret.
func (w *worker) concludeGoingBack(current *state.Deployment) {
	for i := range w.disk.Failed {
		f := &w.disk.Failed[i]
		if f.Reason == v1alpha1.ReasonRollbackFailed && f.Sequence == w.disk.Highest && f.Serving == 0 {
			f.Serving = current.Spec.Sequence
			f.Message = shorten(f.Message + "; healed since: " + current.Spec.Release.Name + " serves")
		}
	}
}

// heal brings back what is down, and nothing else.
func (w *worker) heal(ctx context.Context, verdict health.Verdict) time.Time {
	current := w.disk.Current
	services := verdict.Worst()
	w.log.Info("healing", "release", current.Spec.Release.Name, "services", services, "why", w.live.message)
	w.publish() // that it is down
	target, err := w.agent.files.resolve(ctx, current)
	if err == nil {
		err = w.converge(ctx, ctx, target, current.Spec, services)
	}
	if ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) {
		return time.Time{}
	}
	if errors.Is(err, errInterrupted) {
		return time.Now()
	}
	w.healing.Count++
	w.agent.monitor.healed()
	w.healing.Last = time.Now()
	if err != nil {
		w.log.Info("healing failed", "error", redact(err.Error(), current.Secrets), "next", w.healing.Backoff().String())
		w.live.message = shorten(redact(fmt.Sprintf("%s; healing failed: %s", w.live.message, err), current.Secrets))
		return w.healing.Last.Add(w.healing.Backoff())
	}
	return time.Now()
}

// await waits until a deployment is healthy, judging anew at each event of its containers. A newer Rollout ends the wait,
// since nothing is half done here. sick are services that are excused when they are no worse than that; nil means those that
// were so in base and were not touched since. attempt says that the progress is that of the Rollout under way.
func (w *worker) await(ctx context.Context, target *resolved, d state.Deployment, base health.Baseline, sick map[string]health.Status,
	attempt bool) (health.Verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	checks := startChecks(ctx, target.checks, w.execIn(target.project.Name))
	deadline := time.Now().Add(timeoutOf(d.Spec))
	wasHealthy, before := false, base
	for {
		containers, err := w.agent.engine.Containers(ctx, target.project.Name)
		if err != nil {
			return health.Verdict{}, err
		}
		now := time.Now()
		containers = w.withStarved(containers)
		base = base.Next(containers)
		excuse := sick
		if excuse == nil {
			excuse = before.Untouched(containers)
		}
		verdict := health.Judge(target.services, containers, base, nil, now).Excuse(excuse).Strict(containers, base, now)
		w.live.verdict = &verdict
		healthy := verdict.Status == health.Healthy
		if healthy && !wasHealthy {
			checks.begin(now)
		}
		wasHealthy = wasHealthy || healthy
		message, pending, err := checks.result(now)
		switch {
		case healthy && err == nil && !pending:
			return verdict, nil
		case verdict.Hopeless():
			return verdict, &failed{v1alpha1.ReasonUnhealthy, errors.New(verdict.Message()), false}
		case err != nil:
			return verdict, &failed{v1alpha1.ReasonUnhealthy, err, false}
		case !healthy && now.After(deadline):
			return verdict, &failed{v1alpha1.ReasonUnhealthy, fmt.Errorf("not healthy within %s: %s", timeoutOf(d.Spec), verdict.Message()), false}
		}
		if !healthy {
			message = verdict.Message()
		}
		if attempt {
			w.say(d.UID, redact(message, d.Secrets))
		}
		if err := w.pause(ctx, earliest(verdict.NextLook, deadline.Add(time.Millisecond), checks.deadline()), checks.changed); err != nil {
			return verdict, err
		}
	}
}

// pause waits for an event of the containers, a check's news or a time. A newer Rollout ends it with errInterrupted.
func (w *worker) pause(ctx context.Context, until time.Time, news <-chan struct{}) error {
	timer := time.NewTimer(max(time.Millisecond, time.Until(until)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.stirred:
			return nil
		case <-news:
			return nil
		case <-timer.C:
			return nil
		case <-w.offered:
			if w.newer(ctx) {
				return errInterrupted
			}
		}
	}
}
