// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// quotaLook is the time after which a quota that left too little room, or could not be read, is looked at again.
const quotaLook = 30 * time.Second

// room is nil when the quota of every Harbor project that holds one of the images leaves as much as the project asks for; a
// registry.Problem otherwise, since to people both are the registry.
func (r *releaseReconciler) room(ctx context.Context, p *v1alpha1.Project, images []v1alpha1.FrozenImage, now time.Time) error {
	if p.Spec.Harbor == nil || p.Spec.Harbor.Quota == nil {
		return nil
	}
	const doing = "look at the quota in Harbor"
	c, place, err := r.harbors.of(ctx, p)
	var user userError
	if errors.As(err, &user) {
		return &registry.Problem{Kind: registry.KindUnusable, Doing: doing, Text: err.Error(), Until: now.Add(quotaLook)}
	}
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, img := range heldImages(place, images) {
		name := img.repository.Project
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		free, err := c.Room(ctx, name)
		var theirs *harbor.Problem
		switch {
		case errors.As(err, &theirs):
			return quotaProblem(doing, theirs, now)
		case err != nil:
			return err
		}
		if least := max(p.Spec.Harbor.Quota.MinFreeMiB<<20, 1); free < least {
			return &registry.Problem{Kind: registry.KindFull, Doing: doing, Until: now.Add(quotaLook), Text: fmt.Sprintf(
				"the project %s has %d MiB left, and spec.harbor.quota of the Project wants %d MiB: no tag is put. Raise its quota in Harbor, or delete what is not needed and run the garbage collection",
				name, free>>20, p.Spec.Harbor.Quota.MinFreeMiB)}
		}
	}
	return nil
}

// quotaProblem is a problem of Harbor's as one of the registry's.
func quotaProblem(doing string, theirs *harbor.Problem, now time.Time) error {
	p := &registry.Problem{Kind: registry.KindFailed, Doing: doing, Text: theirs.Error() + hint(theirs), Until: now.Add(quotaLook)}
	switch theirs.Kind {
	case harbor.KindDenied:
		p.Kind = registry.KindDenied
	case harbor.KindBusy:
		p.Kind = registry.KindBusy
	}
	if theirs.Until.After(p.Until) {
		p.Until = theirs.Until
	}
	return p
}
