// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/state"
)

const (
	// keepSets of images beyond the current and the last good one, when the Rollout does not say.
	keepSets = 1
	// maxSets that are remembered; the API allows no more to be kept.
	maxSets = 20
	// pruneRetry after images could not be removed.
	pruneRetry = 10 * time.Minute
)

// pruneDue says whether images may be left behind, and are to be looked for now.
func (w *worker) pruneDue(now time.Time) bool { return w.disk.PruneDue && !now.Before(w.pruneAt) }

// prune removes what a commit leaves behind: images of sets that nobody goes back to any more, and the containers of jobs.
// It never fails a rollout: what cannot be removed is said, and tried again later.
func (w *worker) prune(ctx context.Context) time.Time {
	w.publish() // first of all that it is healthy
	_, err := w.removeUnused(ctx)
	if err == nil && w.disk.Current != nil {
		err = w.agent.engine.RemoveJobs(ctx, w.disk.Current.Spec.ComposeProject, "")
	}
	if ctx.Err() != nil {
		return time.Time{}
	}
	if err != nil {
		w.log.Info("old images could not all be removed; trying again later", "error", err.Error())
		w.pruneAt = time.Now().Add(pruneRetry)
		return w.pruneAt
	}
	w.disk.PruneDue = false
	if w.save() != nil {
		return time.Now().Add(retryAfter)
	}
	return time.Now()
}

// removeUnused removes the images that unused names and no other environment needs, and forgets them.
func (w *worker) removeUnused(ctx context.Context) (removed int, err error) {
	candidates := unused(w.disk)
	if len(candidates) == 0 {
		return 0, nil
	}
	var problems []error
	for _, image := range candidates {
		if ctx.Err() != nil {
			problems = append(problems, ctx.Err())
			break
		}
		switch err := w.removeImage(ctx, image); {
		case errors.Is(err, errNeeded):
			continue // whoever needs it removes it, if it is the one that fetched it
		case errors.Is(err, compose.ErrInUse):
			w.log.V(1).Info("an old image stays, because it is in use", "image", image, "why", err.Error())
			continue
		case err != nil:
			problems = append(problems, err)
			continue
		}
		w.log.Info("old image removed", "image", image)
		removed++
		w.disk.Pulled = slices.DeleteFunc(w.disk.Pulled, func(pulled string) bool { return pulled == image })
	}
	if removed > 0 {
		problems = append(problems, w.save())
	}
	return removed, errors.Join(problems...)
}

// errNeeded says that another environment needs an image.
var errNeeded = errors.New("another environment needs the image")

// removeImage removes an image unless another environment needs it. A rollout that looks for the image meanwhile waits, so
// that it finds the image gone, or noted as needed. A removal that has begun is waited for even when the agent ends: the engine
// goes on with it, and would take away what the next agent fetches.
func (w *worker) removeImage(ctx context.Context, image string) error {
	w.agent.images.Lock()
	defer w.agent.images.Unlock()
	needed, err := w.agent.neededByOthers(w.key)
	if err != nil {
		return err
	}
	if slices.Contains(needed, image) {
		return errNeeded
	}
	calm, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(calm, stopGrace)
		cancel()
	})()
	return w.agent.engine.RemoveImage(calm, image)
}

// unused are the images that this agent fetched for the environment and that no set needs: not what is under way, not the
// current one, not the last good one, and not those that are kept beyond.
func unused(e *state.Environment) []string {
	needed := imagesOf(e)
	return slices.DeleteFunc(slices.Clone(e.Pulled), func(image string) bool { return slices.Contains(needed, image) })
}

// imagesOf are all images that an environment needs on disk.
func imagesOf(e *state.Environment) []string {
	var needed []string
	keep := keepSets
	for _, d := range []*state.Deployment{e.Current, e.LastGood} {
		if d == nil {
			continue
		}
		needed = append(needed, setOf(*d)...)
		if k := d.Spec.Strategy.Keep; d == e.LastGood && k != nil {
			keep = int(*k)
		}
	}
	if e.Attempt != nil {
		needed = append(needed, setOf(e.Attempt.Deployment)...)
	}
	for _, set := range e.Sets[max(0, len(e.Sets)-keep):] {
		needed = append(needed, set...)
	}
	return needed
}

// setOf are the images of a deployment.
func setOf(d state.Deployment) []string {
	var images []string
	for _, i := range d.Spec.Images {
		images = append(images, d.LocalImage(i.Image))
	}
	return images
}

// leaveBehind remembers the images of the set that a commit replaces. A set that comes back is no longer behind.
func leaveBehind(e *state.Environment, next state.Deployment) {
	same := func(set []string) func([]string) bool {
		return func(other []string) bool {
			return slices.Equal(slices.Sorted(slices.Values(other)), slices.Sorted(slices.Values(set)))
		}
	}
	if e.LastGood != nil {
		old := setOf(*e.LastGood)
		e.Sets = append(slices.DeleteFunc(e.Sets, same(old)), old)
	}
	e.Sets = slices.DeleteFunc(e.Sets, same(setOf(next)))
	e.Sets = e.Sets[max(0, len(e.Sets)-maxSets):]
	e.PruneDue = true
}

// neededByOthers are the images that the other environments on this server need, by what is on disk. One whose state cannot
// be read may need any: nothing is removed then.
func (a *Agent) neededByOthers(own state.Key) ([]string, error) {
	keys, err := a.store.Keys()
	if err != nil {
		return nil, err
	}
	var needed []string
	for _, key := range keys {
		if key == own {
			continue
		}
		e, err := a.store.Load(key)
		if err != nil {
			return nil, fmt.Errorf("no image is removed while the state of %s cannot be read: %w", key, err)
		}
		needed = append(needed, imagesOf(e)...)
	}
	return needed, nil
}
