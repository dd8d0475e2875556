// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
)

const (
	// registryRetry is the time after which an image that was missing is looked up again; registries send no events.
	registryRetry = 5 * time.Second
	// tagsLook is the time after which the tags of what is in use are looked at again: a clean-up may have taken one.
	tagsLook = 24 * time.Hour
	// lookedAt is how many looks are remembered: releases in use times environments.
	lookedAt = 4096
)

// caKey is the key of a project's registry Secret with the certificates of private authorities.
const caKey = "ca.crt"

// registries are those of all projects, each with its project's account.
type registries struct {
	reader client.Reader
	pool   *registry.Pool
	// retry is the pause before a registry in trouble is asked again. 0: registryRetry.
	retry time.Duration
}

// of is the client of a project.
func (r registries) of(ctx context.Context, p *v1alpha1.Project) (*registry.Client, error) {
	secret, err := registrySecret(ctx, r.reader, p)
	if err != nil {
		return nil, err
	}
	return r.pool.ClientOf(accountOf(p, secret), secret[corev1.DockerConfigJsonKey], secret[caKey]), nil
}

// accountOf is what messages about the project's account in registries call it, with what is amiss with its Secret: access is
// anonymous then, and a registry's refusal does not tell why.
func accountOf(p *v1alpha1.Project, secret map[string][]byte) string {
	account, name := registry.ProjectAccount, p.Spec.RegistrySecretRef
	switch _, ok := secret[corev1.DockerConfigJsonKey]; {
	case name != "" && secret == nil:
		return fmt.Sprintf("%s (there is no Secret %s in namespace %s)", account, name, p.Name)
	case name != "" && !ok:
		return fmt.Sprintf("%s (Secret %s has no key %s: kubectl create secret docker-registry makes one)", account, name, corev1.DockerConfigJsonKey)
	}
	return account
}

// registrySecret is the content of the project's registry Secret; nil when it declares none, or when that is missing: then
// access is anonymous, and accountOf says so beside the registry's refusal.
func registrySecret(ctx context.Context, reader client.Reader, p *v1alpha1.Project) (map[string][]byte, error) {
	if p.Spec.RegistrySecretRef == "" {
		return nil, nil
	}
	var s corev1.Secret
	if err := reader.Get(ctx, client.ObjectKey{Namespace: p.Name, Name: p.Spec.RegistrySecretRef}, &s); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if s.Data == nil {
		return map[string][]byte{}, nil
	}
	return s.Data, nil
}

// tryAgain is when to ask a registry again after an error.
func tryAgain(err error, now time.Time) time.Time { return registries{}.again(err, now) }

// again is tryAgain with the pause of these registries.
func (r registries) again(err error, now time.Time) time.Time {
	var p *registry.Problem
	if errors.As(err, &p) && p.Until.After(now) {
		return p.Until
	}
	return now.Add(cmp.Or(r.retry, registryRetry))
}

// registryReason is the reason of a condition for an error of a registry.
func registryReason(err error) string {
	var p *registry.Problem
	if !errors.As(err, &p) {
		return v1alpha1.ReasonRegistryError
	}
	switch p.Kind {
	case registry.KindNotFound:
		return v1alpha1.ReasonImageNotFound
	case registry.KindTaken:
		return v1alpha1.ReasonTagTaken
	case registry.KindImmutable:
		return v1alpha1.ReasonTagImmutable
	case registry.KindDenied:
		return v1alpha1.ReasonRegistryDenied
	case registry.KindBusy:
		return v1alpha1.ReasonRegistryBusy
	case registry.KindFull:
		return v1alpha1.ReasonRegistryFull
	case registry.KindMismatch:
		return v1alpha1.ReasonDigestMismatch
	}
	return v1alpha1.ReasonRegistryError
}

// tag gives the images the tags of every environment that the release was authorised for, and puts back what a clean-up took
// from a release that is in use. It runs after the authorisation is stored; what could not be tagged is tried again and does
// not hold the deployment up, since that goes by digest. The moment is the next look.
func (r *releaseReconciler) tag(ctx context.Context, s *snapshot, release *v1alpha1.Release, images *registry.Client) (time.Time, error) {
	if release.Status.Bundle == nil || len(release.Status.Bundle.Images) == 0 || len(release.Status.Environments) == 0 {
		return time.Time{}, nil
	}
	var problems []error
	var next time.Time
	base := release.DeepCopy()
	for i := range release.Status.Environments {
		e := &release.Status.Environments[i]
		for _, see := range []func() (time.Time, error){
			func() (time.Time, error) { return r.tagEntry(ctx, s, release, e, images) },
			func() (time.Time, error) { return r.tagMirror(ctx, s, release, e) },
		} {
			look, err := see()
			next = earlier(next, look)
			if err != nil {
				problems = append(problems, err)
			}
		}
	}
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	setTagged(release, problems)
	if sameStatus(base.Status, release.Status) {
		return next, nil
	}
	if err := r.Status().Patch(ctx, release, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return time.Time{}, fmt.Errorf("write tags: %w", err)
	}
	r.tellTags(base, release)
	return next, nil
}

// tagged is where tags are seen to: a registry, the images there, and which tags they were given.
type tagged struct {
	key    string
	client *registry.Client
	images []v1alpha1.FrozenImage
	tags   *[]string
}

// tagEntry sees to the tags of one environment and returns when to look at them again.
func (r *releaseReconciler) tagEntry(ctx context.Context, s *snapshot, release *v1alpha1.Release, e *v1alpha1.ReleaseEnvironment, images *registry.Client) (time.Time, error) {
	return r.tagIn(ctx, s, release, e, tagged{key: string(release.UID) + "/" + e.Name, client: images, images: release.Status.Bundle.Images, tags: &e.Tags})
}

// tagMirror does the same in the environment's own registry, once that has the images.
func (r *releaseReconciler) tagMirror(ctx context.Context, s *snapshot, release *v1alpha1.Release, e *v1alpha1.ReleaseEnvironment) (time.Time, error) {
	env := s.bridge[slices.IndexFunc(s.bridge, func(v v1alpha1.Environment) bool { return v.Name == e.Name })]
	if env.Spec.Registry == nil {
		return time.Time{}, nil
	}
	m := completeMirror(release, env)
	if m == nil {
		return time.Time{}, nil
	}
	images, err := r.registries.mirror(ctx, env)
	if err != nil {
		return r.registries.again(err, s.now), err
	}
	key := string(release.UID) + "/" + e.Name + "/" + registryName(env) + "/" + formatMicro(e.AuthorizedAt)
	return r.tagIn(ctx, s, release, e, tagged{key: key, client: images, images: m.Images, tags: &m.Tags})
}

// tagIn sees to the tags that an environment wants in one registry.
func (r *releaseReconciler) tagIn(ctx context.Context, s *snapshot, release *v1alpha1.Release, e *v1alpha1.ReleaseEnvironment, at tagged) (time.Time, error) {
	i := slices.IndexFunc(s.bridge, func(v v1alpha1.Environment) bool { return v.Name == e.Name })
	wanted, err := environmentTaggings(s.bridge[i], release)
	if err != nil {
		return time.Time{}, nil // told as the bundle's problem
	}
	wanted = slices.DeleteFunc(wanted, func(t wantedTag) bool { return t.moves && !newestIn(s.siblings, *e, rivals(release, t)) })
	used := inUse(s.bridge[i], release) || runs(s.rollouts, e.Name)
	due := time.Time{}
	if last, ok := r.looked.Get(at.key); ok {
		due = last.(time.Time).Add(tagsLook)
	}
	missing := slices.DeleteFunc(slices.Clone(wanted), func(t wantedTag) bool { return slices.Contains(*at.tags, t.name) })
	switch {
	case used && !due.After(s.now): // what was given is looked at as well
		missing = wanted
	case e.Phase == v1alpha1.PhaseSuperseded && !used:
		return time.Time{}, nil
	}
	if len(missing) > 0 {
		anew := slices.ContainsFunc(missing, func(t wantedTag) bool { return !slices.Contains(*at.tags, t.name) })
		if anew {
			if err := r.room(ctx, s.project, at.images, s.now); err != nil {
				return r.registries.again(err, s.now), err
			}
		}
		overtaken := func(t wantedTag) bool { return r.overtaken(ctx, release, *e, rivals(release, t)) }
		done, err := tagAll(ctx, at.client, at.images, missing, overtaken)
		if err != nil && !ownsOne(wanted, missing, done) { // one that nobody refuses spares the digest all the same
			if spare, bad := environmentTaggings(v1alpha1.Environment{ObjectMeta: s.bridge[i].ObjectMeta}, release); bad == nil {
				kept, _ := tagAll(ctx, at.client, at.images, spare, overtaken) // what is wrong is told already
				done = append(done, kept...)
			}
		}
		for _, t := range done {
			if !slices.Contains(*at.tags, t) {
				*at.tags = append(slices.Clone(*at.tags), t)
			}
		}
		if err != nil {
			return r.registries.again(err, s.now), err
		}
		due = s.now.Add(tagsLook)
		r.looked.Add(at.key, s.now)
	}
	if !used {
		return time.Time{}, nil
	}
	return due, nil
}

// inUse says that the release runs in the environment or is what it would go back to.
func inUse(env v1alpha1.Environment, release *v1alpha1.Release) bool {
	for _, at := range []*v1alpha1.EnvironmentRelease{env.Status.Current, env.Status.LastGood} {
		if at != nil && at.UID == string(release.UID) {
			return true
		}
	}
	return false
}

// runs says that some host's last word is that it runs the release that the orders are of: one that is silent may run what
// the environment has left behind.
func runs(orders []v1alpha1.Rollout, environment string) bool {
	return slices.ContainsFunc(orders, func(o v1alpha1.Rollout) bool {
		switch o.Status.Phase {
		case v1alpha1.RolloutHealthy, v1alpha1.RolloutUnhealthy, v1alpha1.RolloutHeld:
			return o.Spec.Environment == environment && o.Spec.Remove == nil
		}
		return false
	})
}

// ownsOne says that the images have a tag of the release's own: it was given now, or was not missing.
func ownsOne(wanted, missing []wantedTag, done []string) bool {
	return slices.ContainsFunc(wanted, func(t wantedTag) bool {
		return t.own && (slices.Contains(done, t.name) || !slices.Contains(missing, t))
	})
}

// rivals begin the commits of the releases that may take a tag away: one that names the release goes to others of its commit only.
func rivals(release *v1alpha1.Release, t wantedTag) string {
	if t.own {
		return v1alpha1.ShortSHA(release.Spec.Commit)
	}
	return ""
}

// newestIn says that nothing whose commit begins so was authorised for the environment after the entry and stands: tags that
// move go with it.
func newestIn(siblings []v1alpha1.Release, e v1alpha1.ReleaseEnvironment, commits string) bool {
	return !slices.ContainsFunc(siblings, func(o v1alpha1.Release) bool {
		other := findEntry(o.Status.Environments, e.Name)
		return other != nil && strings.HasPrefix(o.Spec.Commit, commits) && other.AuthorizedAt.After(e.AuthorizedAt.Time) &&
			other.Phase != v1alpha1.PhaseFailed && other.Phase != v1alpha1.PhaseRolledBack && other.Phase != v1alpha1.PhaseReturned
	})
}

// overtaken says that a tag that moves goes to another release by now: since the snapshot was taken registries and Harbor were asked,
// which may take their time.
func (r *releaseReconciler) overtaken(ctx context.Context, release *v1alpha1.Release, e v1alpha1.ReleaseEnvironment, commits string) bool {
	var list v1alpha1.ReleaseList
	if err := r.List(ctx, &list, client.InNamespace(release.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return false // then the snapshot counts
	}
	others := slices.DeleteFunc(list.Items, func(o v1alpha1.Release) bool { return o.UID == release.UID })
	return !newestIn(others, e, commits)
}

// tagAll gives every image every tag as far as it goes. done are the tags that all images have. What moves and is overtaken is
// left where it is.
func tagAll(ctx context.Context, images *registry.Client, frozen []v1alpha1.FrozenImage, tags []wantedTag, overtaken func(wantedTag) bool) (done []string, err error) {
	var problems []error
	for _, tag := range tags {
		missed, left := len(problems), false
		for _, img := range frozen {
			t := registry.Tagging{Repository: img.Repository, Digest: img.Digest, Tag: tag.name, Moves: tag.moves}
			if tag.moves {
				t.Overtaken = func() bool { return overtaken(tag) }
			}
			switch err := images.Tag(ctx, t); {
			case errors.Is(err, registry.ErrOvertaken):
				left = true
			case err != nil:
				problems = append(problems, err)
			}
		}
		if len(problems) == missed && !left {
			done = append(done, tag.name)
		}
	}
	return done, errors.Join(problems...)
}

// setTagged tells how far tagging came; each problem once.
func setTagged(release *v1alpha1.Release, problems []error) {
	if len(problems) == 0 {
		setCondition(&release.Status.Conditions, release.Generation, v1alpha1.ConditionTagged, true, v1alpha1.ReasonTagged, "the registry has every tag")
		return
	}
	var lines []string
	for line := range strings.Lines(errors.Join(problems...).Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	setCondition(&release.Status.Conditions, release.Generation, v1alpha1.ConditionTagged, false, registryReason(problems[0]), strings.Join(lines, "\n"))
}

// tellTags tells of tags that cannot be given as an event, once for each reason.
func (r *releaseReconciler) tellTags(old, now *v1alpha1.Release) {
	before, after := findCondition(old.Status.Conditions, v1alpha1.ConditionTagged), findCondition(now.Status.Conditions, v1alpha1.ConditionTagged)
	if after.Status == metav1.ConditionTrue || before != nil && before.Reason == after.Reason {
		return
	}
	r.events.Eventf(now, nil, corev1.EventTypeWarning, "TagFailed", "Tag", "%s", after.Message)
}
