// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
)

const (
	// keepTimeout bounds one copy of what is attached: the images of others wait for the worker.
	keepTimeout = 5 * time.Minute
	// keepRetry is the time after which it is tried again, if the registry names none.
	keepRetry = 5 * time.Minute
)

// keep copies what is attached to images that an environment's own registry has, so that it proves there what it proves here,
// and puts back what was deleted there of the images since. It is done once they are there, whenever a proof was attached,
// and once a day: others attach what they like without telling. Nothing waits for it. The moment is the next look.
func (r *mirrorReconciler) keep(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release, env v1alpha1.Environment) (time.Time, error) {
	m := completeMirror(release, env)
	if m == nil {
		return time.Time{}, nil
	}
	key := strings.Join([]string{string(release.UID), env.Name, registryName(env), formatMicro(m.AuthorizedAt)}, "/")
	for _, a := range release.Status.Attestations {
		if a.Statement == "" {
			key += "/" + a.Hash
		}
	}
	if due, ok := r.kept.Get(key); ok && due.(time.Time).After(r.now()) {
		return due.(time.Time), nil
	}
	found, err := r.copyAttached(ctx, project, release, env)
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	due := r.now().Add(tagsLook)
	if err == nil {
		r.kept.Add(key, due)
	} else if due = r.now().Add(keepRetry); tryAgain(err, r.now()).After(due) { // or with the next event: a Secret is mended
		due = tryAgain(err, r.now())
	}
	proof, text := *m, attachedInWords(found, err)
	if (err != nil || found.Left > 0) && proof.Attached != text {
		r.events.Eventf(release, nil, corev1.EventTypeWarning, "ProofsNotCopied", "Copy", "%s: %s", env.Name, text)
	}
	return due, r.record(ctx, release, func(now *v1alpha1.Release) {
		if m := findMirror(now.Status.Mirrors, env.Name); m != nil && m.AuthorizedAt.Equal(&proof.AuthorizedAt) {
			m.Attached = text
		}
	})
}

func (r *mirrorReconciler) copyAttached(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release, env v1alpha1.Environment) (registry.Attachments, error) {
	from, to, images, err := r.errand(ctx, project, release, env)
	if err != nil {
		return registry.Attachments{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	if _, err := registry.Copy(ctx, from, to, images, nil); err != nil {
		return registry.Attachments{}, err
	}
	return registry.CopyAttached(ctx, from, to, images)
}

// attachedInWords is what came of it, for people. It holds no time, so that it changes only with its meaning.
func attachedInWords(found registry.Attachments, err error) string {
	var parts []string
	if found.There > 0 {
		parts = append(parts, fmt.Sprintf("proofs that are attached to the images there: %d", found.There))
	}
	if found.Left > 0 {
		parts = append(parts, fmt.Sprintf("%d were not copied (%s)", found.Left, strings.Join(found.Reasons, "; ")))
	}
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "; it is tried again")
		parts = append(parts, "what is attached to the images cannot be copied: "+text+"; it is tried again every few minutes")
	}
	return strings.Join(parts, "; ")
}
