// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/layout"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// errBundleGone says that what a rollout under way lacks was in a bundle that is not being applied any more.
var errBundleGone = errors.New("its images come from a bundle that is not there any more: apply the bundle again")

// carried is what a bundle brings beside its Rollout.
type carried struct {
	registry *layout.Registry
	// secrets take the place of what the control plane would deliver.
	secrets map[string]string
}

// carry offers the Rollout of a bundle, to be judged anew even if it was refused before.
func (w *worker) carry(rollout *v1alpha1.Rollout, c *carried) {
	w.mu.Lock()
	w.carried[rollout.UID] = c
	delete(w.rejected, rollout.UID)
	delete(w.rollouts, rollout.UID)
	w.mu.Unlock()
	w.offer(rollout)
}

// putDown ends what carry began; the Rollout stays offered.
func (w *worker) putDown(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.carried, uid)
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
