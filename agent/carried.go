// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/layout"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// errBundleGone says that what a rollout under way lacks was in a bundle that is not being applied any more.
var errBundleGone = errors.New("its images come from a bundle that is not there any more: apply the bundle again")

// carried is what a bundle brings.
type carried struct {
	rollout  *v1alpha1.Rollout
	registry *layout.Registry
	// secrets take the place of what the control plane would deliver.
	secrets map[string]string
	// before is what the control plane offered of the same uid; nil for nothing.
	before *v1alpha1.Rollout
}

// takeUp forgets what was judged of a bundle's Rollout before, so that it is judged anew once it is offered.
func (w *worker) takeUp(c *carried) {
	uid := c.rollout.UID
	w.mu.Lock()
	defer w.mu.Unlock()
	c.before = w.rollouts[uid]
	w.carried[uid] = c
	delete(w.rejected, uid)
	delete(w.deferred, uid)
	delete(w.rollouts, uid)
}

// putDown ends what takeUp began. What was begun is on disk; what was not must not begin by itself later, when what it needs
// has gone with the bundle. What the control plane offers stays offered.
func (w *worker) putDown(c *carried) {
	uid := c.rollout.UID
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.carried, uid)
	switch {
	case w.rollouts[uid] != c.rollout: // the control plane has offered it since
	case c.before != nil:
		w.rollouts[uid] = c.before
	default:
		delete(w.rollouts, uid)
		delete(w.rejected, uid)
		delete(w.deferred, uid)
		delete(w.arrived, uid)
	}
}

// heldBack says why a Rollout may not begin now by the word of this server's owner; "" when it may.
func (w *worker) heldBack(uid types.UID, status v1alpha1.RolloutStatus) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, put := w.deferred[uid]; put {
		return d.message
	}
	begun := status.Phase != v1alpha1.RolloutPending && status.Phase != v1alpha1.RolloutVerifying
	if !begun && meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionSuspended) {
		return status.Message
	}
	return ""
}

func (w *worker) carriedBy(uid string) *carried {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.carried[types.UID(uid)]
}

// localImages are the names under which the engine has, or is to get, those images of a deployment that it does not have under
// the authorised one: what came in an earlier bundle keeps its name, so that services whose image stays the same are left alone.
func (w *worker) localImages(ctx context.Context, d state.Deployment) (map[string]string, error) {
	bundle, known := w.carriedBy(d.UID), map[string]string{}
	for _, before := range []*state.Deployment{w.disk.LastGood, w.disk.Current} {
		if before != nil {
			maps.Copy(known, before.Local)
		}
	}
	local := map[string]string{}
	for _, pinned := range setOf(d) {
		candidates := []string{known[pinned]}
		if bundle != nil {
			candidates = append(candidates, pinned, layout.Default(pinned))
		}
		found := false
		for _, name := range candidates {
			if name == "" || found {
				continue
			}
			var err error
			if found, err = w.agent.engine.Present(ctx, name); err != nil {
				return nil, err
			}
			if found && name != pinned {
				local[pinned] = name
			}
		}
		if !found && bundle != nil {
			local[pinned] = layout.Local(bundle.registry.Host(), pinned)
		}
	}
	return local, nil
}

// relocate has an attempt that a restart interrupted before anything was touched take its images from where its bundle is now.
func (w *worker) relocate(ctx context.Context) error {
	attempt := w.disk.Attempt
	if w.carriedBy(attempt.UID) == nil || !untouched(attempt.Phase) {
		return nil
	}
	d := attempt.Deployment
	d.Local = nil
	local, err := w.localImages(ctx, d)
	if err != nil || maps.Equal(local, attempt.Local) {
		return err
	}
	attempt.Local = local
	return w.save()
}

// bundleNeeded says whether images are missing that only a bundle can bring.
func (w *worker) bundleNeeded(missing []string) error {
	if w.carriedBy(w.disk.Attempt.UID) != nil {
		return nil
	}
	for _, local := range w.disk.Attempt.Local {
		if slices.Contains(missing, local) {
			return errBundleGone
		}
	}
	return nil
}

// localise has the model name images as the engine does. It comes after the host's policy has judged the authorised names.
func (r *resolved) localise(local map[string]string) {
	for name, service := range r.project.Services {
		if image, found := local[service.Image]; found {
			service.Image = image
			r.project.Services[name] = service
		}
	}
	for i, service := range r.services {
		if image, found := local[service.Image]; found {
			r.services[i].Image = image
		}
	}
}
