// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Waits between two tries of a removal that leaves something behind.
const (
	firstRemovalRetry = 2 * time.Second
	lastRemovalRetry  = 5 * time.Minute
)

// beginRemoval records an order to take the environment down, before anything of it is done: from then on nothing of it must
// run, and a restart goes on with it.
func (w *worker) beginRemoval(ctx context.Context, rollout *v1alpha1.Rollout) time.Time {
	now := time.Now()
	d := state.Deployment{Name: rollout.Name, UID: string(rollout.UID), Spec: *rollout.Spec.DeepCopy()}
	if owner, taken := w.agent.ownerOf(d.Spec.ComposeProject, w); taken {
		w.reject(rollout, rejection{reason: v1alpha1.ReasonInvalid, message: fmt.Sprintf("the compose project %s belongs to %s on this host", d.Spec.ComposeProject, owner)})
		return now
	}
	d.Begin(v1alpha1.RolloutRemoving, now)
	names := []string{}
	for _, known := range []*state.Deployment{w.disk.Current, w.disk.LastGood, w.disk.Attempted()} {
		if known != nil && !slices.Contains(names, known.Spec.ComposeProject) {
			names = append(names, known.Spec.ComposeProject)
		}
	}
	if previous := w.disk.Attempt; previous != nil && previous.Phase == v1alpha1.RolloutRemoving {
		names = previous.Owned
	}
	w.disk.Retire(d.Spec.ProjectUID)
	w.disk.Highest = max(w.disk.Highest, d.Spec.Sequence)
	w.disk.Current, w.disk.LastGood, w.disk.Removed = nil, nil, nil
	w.disk.NoWayBack, w.disk.Sets, w.disk.PruneDue = "", nil, true // no image is kept for it
	w.disk.Attempt = &state.Attempt{Deployment: d, Phase: v1alpha1.RolloutRemoving, Owned: names}
	w.want, w.healing, w.live = nil, plan.Healing{}, live{uid: d.UID}
	w.follow(d.Spec.ComposeProject)
	if w.save() != nil {
		return time.Now().Add(retryAfter)
	}
	w.log.Info("removal begins", "rollout", d.Name, "sequence", d.Spec.Sequence, "volumes", d.Spec.Remove.Volumes)
	return w.remove(ctx)
}

// resumeRemoval goes on with a removal that a restart interrupted, or that left something behind.
func (w *worker) resumeRemoval(ctx context.Context) time.Time {
	if err := w.verify(ctx, w.disk.Attempt.Spec, true); err != nil {
		w.say(w.disk.Attempt.UID, "held up: "+err.Error())
		return time.Now().Add(lastRemovalRetry)
	}
	return w.remove(ctx)
}

// remove takes down what there is. Doing so again changes nothing.
func (w *worker) remove(ctx context.Context) time.Time {
	attempt := w.disk.Attempt
	w.publish()
	projects := attempt.Owned
	if !slices.Contains(projects, attempt.Spec.ComposeProject) {
		projects = append(slices.Clone(projects), attempt.Spec.ComposeProject)
	}
	labels := map[string]string{v1alpha1.LabelProject: attempt.Spec.Project, v1alpha1.LabelEnvironment: attempt.Spec.Environment}
	var left []string
	for _, project := range projects {
		order := compose.Removal{Volumes: attempt.Spec.Remove.Volumes}
		if !slices.Contains(attempt.Owned, project) { // nothing of ours ever ran under this name: only what says it is ours goes
			order.Labels = labels
		}
		some, err := w.agent.engine.TakeDown(ctx, project, order)
		switch {
		case ctx.Err() != nil:
			return time.Time{}
		case errors.Is(err, compose.ErrUnreachable):
			w.say(attempt.UID, "held up: "+err.Error())
			return time.Now().Add(retryAfter)
		case err != nil:
			some = append(some, err.Error())
		}
		left = append(left, some...)
	}
	if len(left) > 0 {
		w.removalRetry = min(max(2*w.removalRetry, firstRemovalRetry), lastRemovalRetry)
		w.log.Info("removal leaves something behind", "rollout", attempt.Name, "left", left, "next", w.removalRetry.String())
		w.say(attempt.UID, "left: "+strings.Join(left, "; ")+"; tried again")
		return time.Now().Add(w.removalRetry)
	}
	w.removalRetry = 0
	w.mu.Lock()
	clear(w.project) // whoever comes next may use the names
	w.mu.Unlock()
	return w.removed()
}

// removed concludes the removal: nothing must run, and no image is kept for it.
func (w *worker) removed() time.Time {
	d := w.disk.Attempt.Deployment
	d.Begin(v1alpha1.RolloutRemoved, time.Now())
	w.disk.Attempt, w.disk.Removed = nil, &d
	w.live = live{}
	if w.save() != nil { // the attempt is on disk still: it is found done the next time
		w.disk.Attempt, w.disk.Removed = &state.Attempt{Deployment: d, Phase: v1alpha1.RolloutRemoving}, nil
		return time.Now().Add(retryAfter)
	}
	w.log.Info("removed", "rollout", d.Name, "sequence", d.Spec.Sequence)
	return time.Now()
}
