// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/journal"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// progressEvery is how often a copy on its way writes how far it is, and looks whether it is still wanted.
const progressEvery = 3 * time.Second

// mirrorReconciler copies the images of releases into the registries of environments that have one of their own, once they
// are let in there, and writes down what it saw those registries serve. It keeps nothing: after a restart a copy goes on with
// what is missing.
type mirrorReconciler struct {
	client.Client
	// fresh reads past the cache, since a proof is written for what is authorised now.
	fresh      client.Reader
	events     events.EventRecorder
	registries registries
	journal    journalWriter
	now        func() time.Time
	// kept are the moments of the next looks at what is attached.
	kept *lru.Cache
}

// errUnwanted ends a copy for which there is no use any more.
var errUnwanted = errors.New("the copy is not wanted any more")

// Reconcile copies what one release needs, one environment after the other.
func (r *mirrorReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: req.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	wanted, err := r.wanted(ctx, &release)
	if err != nil {
		return ctrl.Result{}, err
	}
	told := map[string]error{}
	var next time.Time
	for _, env := range wanted {
		if completeMirror(&release, env) != nil {
			continue
		}
		told[env.Name] = r.mirror(ctx, &project, &release, env, told)
		if ctx.Err() != nil {
			return ctrl.Result{}, ctx.Err()
		}
		var user userError
		switch err := told[env.Name]; {
		case err == nil:
			delete(told, env.Name)
		case errors.Is(err, errUnwanted):
			return ctrl.Result{RequeueAfter: time.Millisecond}, nil
		case !errors.As(err, &user): // what a user must mend brings an event
			next = earlier(next, r.registries.again(err, r.now()))
		}
	}
	seen := release.DeepCopy()
	if setMirrored(seen, wanted, told); !sameStatus(seen.Status, release.Status) {
		if err := r.record(ctx, &release, func(now *v1alpha1.Release) { setMirrored(now, wanted, told) }); err != nil {
			return ctrl.Result{}, err
		}
	}
	for _, env := range wanted { // after every image is where hosts wait for it
		look, err := r.keep(ctx, &project, &release, env)
		if err != nil {
			return ctrl.Result{}, err
		}
		next = earlier(next, look)
	}
	return ctrl.Result{RequeueAfter: nextLook(r.now(), next)}, nil
}

// wanted are the environments with a registry of their own in which the release is on its way, runs, or is what they would
// go back to.
func (r *mirrorReconciler) wanted(ctx context.Context, release *v1alpha1.Release) ([]v1alpha1.Environment, error) {
	if !release.DeletionTimestamp.IsZero() || release.Status.Bundle == nil || len(release.Status.Bundle.Images) == 0 {
		return nil, nil
	}
	var list v1alpha1.EnvironmentList
	if err := r.List(ctx, &list, client.InNamespace(release.Namespace)); err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	bridge, _ := orderBridge(list.Items)
	return slices.DeleteFunc(bridge, func(env v1alpha1.Environment) bool { return !wantsMirror(release, env) }), nil
}

func wantsMirror(release *v1alpha1.Release, env v1alpha1.Environment) bool {
	e := findEntry(release.Status.Environments, env.Name)
	if e == nil || env.Spec.Registry == nil || !env.DeletionTimestamp.IsZero() {
		return false
	}
	switch e.Phase {
	case v1alpha1.PhaseAuthorized, v1alpha1.PhaseDeploying, v1alpha1.PhaseHealthy, v1alpha1.PhaseUnhealthy:
		return true
	}
	return inUse(env, release)
}

// mirror copies the images for one environment and writes down that they are there. told is what came of the environments
// before.
func (r *mirrorReconciler) mirror(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release, env v1alpha1.Environment, told map[string]error) error {
	from, to, images, err := r.errand(ctx, project, release, env)
	if err != nil {
		return err
	}
	there, err := destinations(env, release.Status.Bundle.Images)
	if err != nil {
		return err
	}
	authorized := findEntry(release.Status.Environments, env.Name).AuthorizedAt
	done, err := r.copy(ctx, release, env, from, to, images, told)
	if err != nil {
		return err
	}
	proof := v1alpha1.ReleaseMirror{
		Environment: env.Name, AuthorizedAt: authorized, Images: there, Moved: done.Moved,
		Progress: fmt.Sprintf("%d layers, %s, of which %s were sent", done.Layers, bytesInWords(done.Bytes), bytesInWords(done.Moved)),
	}
	return r.record(ctx, release, func(now *v1alpha1.Release) { prove(now, proof) }, mirrorFact(project, release, proof))
}

// errand is from where to where the images of a release are copied for an environment.
func (r *mirrorReconciler) errand(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release, env v1alpha1.Environment) (from, to *registry.Client, images []registry.Copying, err error) {
	there, err := destinations(env, release.Status.Bundle.Images)
	if err != nil {
		return nil, nil, nil, err
	}
	if from, err = r.registries.of(ctx, project); err != nil {
		return nil, nil, nil, err
	}
	if to, err = r.registries.mirror(ctx, env); err != nil {
		return nil, nil, nil, err
	}
	for i, img := range release.Status.Bundle.Images {
		images = append(images, registry.Copying{Source: img.Repository, Destination: there[i].Repository, Digest: img.Digest})
	}
	return from, to, images, nil
}

// copy copies, and tells every few seconds how far it is. It ends when the copy is not wanted any more.
func (r *mirrorReconciler) copy(ctx context.Context, release *v1alpha1.Release, env v1alpha1.Environment, from, to *registry.Client, images []registry.Copying, told map[string]error) (registry.Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var far atomic.Pointer[registry.Progress]
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := r.progress(ctx, release, env, far.Load(), told); errors.Is(err, errUnwanted) {
				cancel(err)
				return
			} // any other failure to write is made good by the next
		}
	}()
	done, err := registry.Copy(ctx, from, to, images, func(p registry.Progress) { far.Store(&p) })
	unwanted := errors.Is(context.Cause(ctx), errUnwanted)
	cancel(nil)
	<-watched
	if unwanted && err != nil {
		return done, errUnwanted
	}
	return done, err
}

// progress writes how far a copy is, if it is still wanted.
func (r *mirrorReconciler) progress(ctx context.Context, release *v1alpha1.Release, env v1alpha1.Environment, far *registry.Progress, told map[string]error) error {
	var now v1alpha1.Environment
	if err := r.Get(ctx, client.ObjectKeyFromObject(&env), &now); client.IgnoreNotFound(err) != nil {
		return err
	}
	var rel v1alpha1.Release
	if err := r.Get(ctx, client.ObjectKeyFromObject(release), &rel); client.IgnoreNotFound(err) != nil {
		return err
	}
	if rel.UID != release.UID || !wantsMirror(&rel, now) || !sameStatus(now.Spec.Registry, env.Spec.Registry) {
		return errUnwanted
	}
	if far == nil || far.Layers == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d layers, %s of %s", far.LayersDone, far.Layers, bytesInWords(far.BytesDone), bytesInWords(far.Bytes))
	all := map[string]error{env.Name: underWay(text)}
	for name, problem := range told {
		if name != env.Name {
			all[name] = problem
		}
	}
	return r.record(ctx, release, func(rel *v1alpha1.Release) { setMirrored(rel, []v1alpha1.Environment{now}, all) })
}

// underWay is how far a copy is: no problem.
type underWay string

func (u underWay) Error() string { return string(u) }

// bytesInWords is a number of bytes as people read it.
func bytesInWords(n int64) string {
	switch {
	case n >= 1e10:
		return fmt.Sprintf("%d GB", n/1e9)
	case n >= 1e7:
		return fmt.Sprintf("%d MB", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%d kB", n/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}

// record writes a change of what is said of a release's images, if it changes anything, after the facts that it rests upon: a
// proof is in the journal before hosts are sent orders on it.
func (r *mirrorReconciler) record(ctx context.Context, release *v1alpha1.Release, change func(now *v1alpha1.Release), facts ...journal.Fact) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var now v1alpha1.Release
		if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(release), &now); err != nil {
			return client.IgnoreNotFound(err)
		}
		if now.UID != release.UID {
			return nil
		}
		base := now.DeepCopy()
		if change(&now); sameStatus(base.Status, now.Status) {
			return nil
		}
		if err := r.journal.Append(ctx, facts...); err != nil {
			return err
		}
		if err := writeStatus(ctx, r.Client, &now, base, false); err != nil {
			return err
		}
		r.tell(base, &now)
		now.DeepCopyInto(release)
		return nil
	})
}

// prove notes a proof, unless the release was let in anew, or not at all any more.
func prove(release *v1alpha1.Release, proof v1alpha1.ReleaseMirror) {
	e := findEntry(release.Status.Environments, proof.Environment)
	if e == nil || !e.AuthorizedAt.Equal(&proof.AuthorizedAt) {
		return
	}
	if old := findMirror(release.Status.Mirrors, proof.Environment); old != nil {
		*old = proof
		return
	}
	release.Status.Mirrors = append(release.Status.Mirrors, proof)
}

// setMirrored tells how far the copies of a release are.
func setMirrored(release *v1alpha1.Release, wanted []v1alpha1.Environment, told map[string]error) {
	conditions := &release.Status.Conditions
	if len(wanted) == 0 {
		if len(release.Status.Mirrors) == 0 {
			meta.RemoveStatusCondition(conditions, v1alpha1.ConditionMirrored)
		}
		return
	}
	var there, open []string
	reason := ""
	for _, env := range wanted {
		switch err := told[env.Name]; {
		case err != nil:
			var far underWay
			if !errors.As(err, &far) && reason == "" {
				reason = mirrorReason(err)
			}
			open = append(open, env.Name+": "+err.Error())
		case completeMirror(release, env) != nil:
			there = append(there, env.Name+": "+registryName(env)+" serves every image as its digest says")
		default: // let in, or declared anew, in the meantime: the next look
			open = append(open, env.Name+": copied to "+registryName(env))
		}
	}
	if len(open) == 0 {
		setCondition(conditions, release.Generation, v1alpha1.ConditionMirrored, true, v1alpha1.ReasonMirrored, strings.Join(there, "\n"))
		return
	}
	if reason == "" {
		reason = v1alpha1.ReasonMirroring
	}
	setCondition(conditions, release.Generation, v1alpha1.ConditionMirrored, false, reason, strings.Join(open, "\n"))
}

func mirrorReason(err error) string {
	var user userError
	if errors.As(err, &user) {
		return v1alpha1.ReasonInvalid
	}
	return registryReason(err)
}

// tell tells as events that images arrived, and of what keeps them from it, once for each reason.
func (r *mirrorReconciler) tell(old, now *v1alpha1.Release) {
	for _, m := range now.Status.Mirrors {
		if before := findMirror(old.Status.Mirrors, m.Environment); before == nil || !before.AuthorizedAt.Equal(&m.AuthorizedAt) {
			r.events.Eventf(now, nil, corev1.EventTypeNormal, "Mirrored", "Copy", "%s: %s", m.Environment, m.Progress)
		}
	}
	before, after := findCondition(old.Status.Conditions, v1alpha1.ConditionMirrored), findCondition(now.Status.Conditions, v1alpha1.ConditionMirrored)
	if after == nil || after.Reason == v1alpha1.ReasonMirrored || after.Reason == v1alpha1.ReasonMirroring || before != nil && before.Reason == after.Reason {
		return
	}
	r.events.Eventf(now, nil, corev1.EventTypeWarning, "MirrorFailed", "Copy", "%s", after.Message)
}

func setupMirror(mgr ctrl.Manager, r *mirrorReconciler) error {
	c := mgr.GetClient()
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return releasesIn(ctx, c, o.GetNamespace())
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(mirrorsChanged())).Named("mirror").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(placesChanged())).
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return releasesIn(ctx, c, o.GetName())
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, all, builder.WithPredicates(inProject())).
		Complete(inTurns(outsideShare, patient{r}))
}

// mirrorsChanged is about what is to be copied; what its own progress changes brings nothing.
func mirrorsChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any {
		out := []any{}
		for _, e := range r.Status.Environments {
			out = append(out, e.Name, e.Phase, e.AuthorizedAt)
		}
		if r.Status.Bundle != nil {
			out = append(out, r.Status.Bundle.Images)
		}
		for _, a := range r.Status.Attestations {
			if a.Statement == "" { // it is attached by now
				out = append(out, a.Hash)
			}
		}
		return out
	})
}
