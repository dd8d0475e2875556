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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
	"gitlab.com/dynors/sirrat/internal/maven"
	"gitlab.com/dynors/sirrat/internal/maven/repository"
)

const (
	// What is missing is looked up again after artifactRetry, then after twice as long each time, up to artifactRetryMost; at
	// once when a result, a decision or a setting arrives, since package registries send no events.
	artifactRetry     = 2 * time.Second
	artifactRetryMost = 5 * time.Minute
	// artifactsLook is the time after which artifacts that were read are looked at again, publishedLook once they are published.
	artifactsLook = 10 * time.Minute
	publishedLook = 6 * time.Hour
	// artifactBudget is how long one release may keep a worker, beyond the artifact that it has begun.
	artifactBudget = 2 * time.Minute
)

// artifactReconciler reads the artifacts of modules' releases in the package registry, checks them and notes what it found in
// status.artifacts. It decides nothing.
type artifactReconciler struct {
	client.Client
	fresh   client.Reader
	pool    *repository.Pool
	journal journalWriter
	backoff *flowcontrol.Backoff
	now     func() time.Time
	// looked is when the artifacts of a release are to be looked at again, by its uid.
	looked *lru.Cache
}

// artifactLook is what was known when the artifacts were looked at, and when the next look is due.
type artifactLook struct {
	seen string
	next time.Time
}

func newArtifactReconciler(c client.Client, fresh client.Reader, pool *repository.Pool, j journalWriter, now func() time.Time) *artifactReconciler {
	return &artifactReconciler{
		Client: c, fresh: fresh, pool: pool, journal: j, now: now, backoff: flowcontrol.NewBackOff(artifactRetry, artifactRetryMost),
		looked: lru.New(lookedAt),
	}
}

// Reconcile looks at the artifacts of one release if it is time to.
func (r *artifactReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	texts, _, problem := coordinatesOf(&project, &release)
	if !project.IsModule() || project.Spec.PackageRegistry == nil || problem != "" || !release.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the release's conditions say what is missing
	}
	config, unusable, err := r.config(ctx, &project)
	if err != nil {
		return ctrl.Result{}, err
	}
	seen := envelope.Hash(fmt.Appendf(nil, "%q %s %q %q %q", texts, decisions(&release), release.Status.Evidence, config, unusable))
	if known, ok := r.looked.Get(release.UID); ok && known.(artifactLook).seen == seen {
		if wait := known.(artifactLook).next.Sub(r.now()); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	found, trouble := r.look(ctx, &release, texts, r.pool.Client(config), unusable)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if err := r.write(ctx, &project, &release, found, trouble); err != nil {
		if errors.Is(err, errLookedBefore) {
			return ctrl.Result{RequeueAfter: conflictPause}, nil
		}
		return ctrl.Result{}, err
	}
	after := r.after(&release, trouble)
	r.looked.Add(release.UID, artifactLook{seen, r.now().Add(after)})
	if trouble != nil {
		log.FromContext(ctx).Info("artifacts will be looked at again", "after", after.String(), "cause", trouble.Text)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// after is how long it is until the next look.
func (r *artifactReconciler) after(release *v1alpha1.Release, trouble *repository.Problem) time.Duration {
	key := string(release.UID)
	switch {
	case trouble != nil:
		r.backoff.Next(key, r.now())
		return max(r.backoff.Get(key), trouble.After)
	case release.Status.Publication != nil:
		r.backoff.Reset(key)
		return publishedLook
	}
	r.backoff.Reset(key)
	return artifactsLook
}

// config is how the project's package registry is asked; unusable is why it cannot be.
func (r *artifactReconciler) config(ctx context.Context, p *v1alpha1.Project) (c repository.Config, unusable string, err error) {
	c.URL = p.Spec.PackageRegistry.URL
	ref := p.Spec.PackageRegistry.SecretRef
	if ref == nil {
		return c, "", nil
	}
	var s corev1.Secret
	if err := r.Get(ctx, client.ObjectKey{Namespace: p.Name, Name: ref.Name}, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return c, fmt.Sprintf("Secret %s (spec.packageRegistry.secretRef of the Project) does not exist", ref.Name), nil
		}
		return c, "", fmt.Errorf("read secret %s: %w", ref.Name, err)
	}
	c.CA = s.Data[caKey]
	if ref.Header == v1alpha1.PackageHeaderNone {
		return c, "", nil
	}
	c.Header = cmp.Or(ref.Header, v1alpha1.PackageHeaderDeploy)
	for key, into := range map[string]*string{
		cmp.Or(ref.Key, v1alpha1.DefaultPackageTokenKey): &c.Token, cmp.Or(ref.UsernameKey, v1alpha1.DefaultPackageUsernameKey): &c.Username,
	} {
		if into == &c.Username && c.Header != v1alpha1.PackageHeaderBasic {
			continue
		}
		value := strings.TrimSpace(string(s.Data[key]))
		if value == "" {
			return c, fmt.Sprintf("Secret %s (spec.packageRegistry.secretRef of the Project) has nothing under %s", ref.Name, key), nil
		}
		*into = value
	}
	return c, "", nil
}

// look reads what was not read yet and looks at what was. trouble is the first problem that another look may mend.
func (r *artifactReconciler) look(ctx context.Context, release *v1alpha1.Release, texts []string, from *repository.Client, unusable string) (found []v1alpha1.ReleaseArtifact, trouble *repository.Problem) {
	end := r.now().Add(artifactBudget)
	for _, text := range texts {
		entry := v1alpha1.ReleaseArtifact{Coordinates: text}
		if old := findArtifact(release.Status.Artifacts, text); old != nil {
			entry = *old.DeepCopy()
		}
		var problem *repository.Problem
		switch {
		case unusable != "":
			problem = &repository.Problem{Kind: repository.KindUnusable, Text: unusable}
		case r.now().After(end):
			problem = &repository.Problem{Kind: repository.KindAway, Text: "it is read when its turn comes: there is much to be read, or the package registry is slow"}
		default:
			problem = lookAt(ctx, from, &entry)
		}
		if problem != nil {
			trouble = cmp.Or(trouble, problem)
			note(&entry, problem, release.Status.Publication != nil)
		}
		found = append(found, entry)
	}
	return found, trouble
}

// lookAt reads an artifact, or looks at one that was read, and notes it when it is as it should be.
func lookAt(ctx context.Context, from *repository.Client, entry *v1alpha1.ReleaseArtifact) *repository.Problem {
	c, err := maven.Parse(entry.Coordinates)
	if err == nil && len(entry.Files) > 0 {
		err = from.Look(ctx, knownArtifact(c, *entry))
	} else if err == nil {
		var a repository.Artifact
		if a, err = from.Verify(ctx, c); err == nil {
			entry.Packaging = a.Packaging
			for _, f := range a.Files {
				entry.Files = append(entry.Files, v1alpha1.ArtifactFile(f))
			}
		}
	}
	var p *repository.Problem
	switch {
	case err == nil:
		entry.Reason, entry.Problem = "", ""
		return nil
	case errors.As(err, &p):
		return p
	}
	return &repository.Problem{Kind: repository.KindAway, Text: err.Error()}
}

// note writes a problem down. What is published stays so while the registry only fails to answer: nothing is known then.
func note(entry *v1alpha1.ReleaseArtifact, p *repository.Problem, isPublished bool) {
	reason := artifactReason(p.Kind)
	silent := reason == v1alpha1.ReasonRegistryError || reason == v1alpha1.ReasonRegistryDenied || reason == v1alpha1.ReasonNoRegistry
	if isPublished && silent {
		return
	}
	if entry.Reason == v1alpha1.ReasonArtifactChanged && silent {
		return // still the last that is known
	}
	entry.Reason, entry.Problem = reason, p.Text
}

func artifactReason(kind repository.Kind) string {
	switch kind {
	case repository.KindMissing:
		return v1alpha1.ReasonArtifactMissing
	case repository.KindInvalid:
		return v1alpha1.ReasonArtifactInvalid
	case repository.KindChanged:
		return v1alpha1.ReasonArtifactChanged
	case repository.KindDenied:
		return v1alpha1.ReasonRegistryDenied
	case repository.KindUnusable:
		return v1alpha1.ReasonNoRegistry
	}
	return v1alpha1.ReasonRegistryError
}

func knownArtifact(c maven.Coordinates, entry v1alpha1.ReleaseArtifact) repository.Artifact {
	a := repository.Artifact{Coordinates: c, Packaging: entry.Packaging}
	for _, f := range entry.Files {
		a.Files = append(a.Files, repository.File(f))
	}
	return a
}

// errLookedBefore: an earlier look is not in the cache yet. What it found is what the version means, so that nothing is written
// over it.
var errLookedBefore = errors.New("the artifacts were looked at before")

// write stores what was found, over whatever else was written to the release meanwhile. It is recorded first.
func (r *artifactReconciler) write(ctx context.Context, p *v1alpha1.Project, release *v1alpha1.Release, found []v1alpha1.ReleaseArtifact, trouble *repository.Problem) error {
	checked := release.Status.ArtifactsChecked
	if trouble == nil {
		checked = decisions(release)
	}
	if sameStatus(release.Status.Artifacts, found) && release.Status.ArtifactsChecked == checked {
		return nil
	}
	var current v1alpha1.Release
	if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(release), &current); err != nil {
		return client.IgnoreNotFound(err)
	}
	if current.UID != release.UID || !sameStatus(current.Status.Artifacts, release.Status.Artifacts) {
		return errLookedBefore
	}
	if !sameStatus(release.Status.Artifacts, found) {
		fact := factOf(p, journal.KindRelease, "artifacts/"+string(release.UID), actorController, map[string]any{
			"release": release.Name, "uid": string(release.UID), "artifacts": found,
		})
		if err := r.journal.Append(ctx, fact); err != nil {
			return err
		}
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(release), &current); err != nil {
			return client.IgnoreNotFound(err)
		}
		if current.UID != release.UID || !sameStatus(current.Status.Artifacts, release.Status.Artifacts) {
			return errLookedBefore
		}
		base := current.DeepCopy()
		current.Status.Artifacts, current.Status.ArtifactsChecked = found, checked
		return r.Status().Patch(ctx, &current, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	})
}

func setupArtifacts(mgr manager.Manager, fresh client.Reader, o Options) error {
	c := mgr.GetClient()
	r := newArtifactReconciler(c, fresh, repository.NewPool(o.Egress), o.Journal, o.Now)
	all := func(ctx context.Context, o client.Object) []reconcile.Request {
		return releasesIn(ctx, c, cmp.Or(o.GetNamespace(), o.GetName()))
	}
	asked := whenReleaseChanges(func(rel *v1alpha1.Release) any {
		return []any{rel.Generation, decisions(rel), rel.Status.Evidence, rel.Status.Publication}
	})
	ofModule := func(ctx context.Context, o client.Object) []reconcile.Request {
		var p v1alpha1.Project
		if err := c.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, &p); err != nil || !p.IsModule() {
			return nil
		}
		return all(ctx, o)
	}
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(asked)).Named("artifacts").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			if !o.(*v1alpha1.Project).IsModule() {
				return nil
			}
			return all(ctx, o)
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(ofModule), builder.WithPredicates(inProject())).
		Complete(inTurns(1, patient{r})) // those of one project one after the other
}

// modulesChanged lets an update of a Release through when what others may know of it as a module's version changed.
func modulesChanged() predicate.Predicate {
	matters := func(o client.Object) []any {
		r, ok := o.(*v1alpha1.Release)
		if !ok || len(r.Status.Artifacts) == 0 {
			return nil
		}
		return []any{r.Status.Artifacts, r.Status.Publication, waitsFor(r)}
	}
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, // whoever asks about it is judged after it was read, or it is new
		UpdateFunc: func(e event.UpdateEvent) bool { return !sameStatus(matters(e.ObjectOld), matters(e.ObjectNew)) },
		DeleteFunc: func(e event.DeleteEvent) bool { return matters(e.Object) != nil },
	}
}

// mavenChanged lets a Project through when the modules that it declares changed.
func mavenChanged() predicate.Predicate {
	declares := func(o client.Object) []string {
		if p, ok := o.(*v1alpha1.Project); ok {
			return p.Spec.Maven
		}
		return nil
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return len(declares(e.Object)) > 0 },
		UpdateFunc: func(e event.UpdateEvent) bool { return !slices.Equal(declares(e.ObjectOld), declares(e.ObjectNew)) },
		DeleteFunc: func(e event.DeleteEvent) bool { return len(declares(e.Object)) > 0 },
	}
}
