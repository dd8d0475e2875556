// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/ingest"
)

const (
	// A release that is not scanned is looked at again after scanLook, then after twice as long each time, up to scanLookMost.
	scanLook     = 2 * time.Second
	scanLookMost = 5 * time.Minute
	// A scan is asked for again after scanAskAgain at the earliest, then after twice as long each time, up to scanAskMost.
	scanAskAgain = time.Minute
	scanAskMost  = time.Hour
	// scansKept are the scans of an image that are kept beside the newest: the journal has all.
	scansKept = 10
	// refusalsKept is how many refusals of Harbor's to scan an image are remembered.
	refusalsKept = 1024
)

// harborReconciler turns Harbor's scans of a release's images into evidence, asking for them where there are none. It judges
// nothing: it stores results, and says in the condition Scanned how far it is.
type harborReconciler struct {
	client.Client
	events  events.EventRecorder
	harbors harbors
	results *ingest.Fetched
	// looks are the releases that are not scanned, asks the images that Harbor was asked to scan. What they remember is about
	// manners alone: after a restart Harbor says itself what it is at.
	looks, asks *flowcontrol.Backoff
	// refused is what Harbor said when it was last asked to scan an image, if it would not: that stands until it is asked again.
	refused *lru.Cache
	now     func() time.Time
}

func newHarborReconciler(c client.Client, rec events.EventRecorder, hs harbors, results *ingest.Fetched, now func() time.Time) *harborReconciler {
	return &harborReconciler{
		Client: c, events: rec, harbors: hs, results: results, now: now,
		looks: flowcontrol.NewBackOff(scanLook, scanLookMost), asks: flowcontrol.NewBackOff(scanAskAgain, scanAskMost), refused: lru.New(refusalsKept),
	}
}

// Reconcile looks at the scans of one release.
func (r *harborReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	base := release.DeepCopy()
	switch {
	case !release.DeletionTimestamp.IsZero() || !project.DeletionTimestamp.IsZero():
		return ctrl.Result{}, nil
	case !scansInHarbor(&project):
		meta.RemoveStatusCondition(&release.Status.Conditions, v1alpha1.ConditionScanned)
		return ctrl.Result{}, r.write(ctx, &release, base)
	case !scannable(&release):
		return ctrl.Result{}, nil
	}
	states, until, err := r.look(ctx, &project, &release)
	if err != nil {
		return ctrl.Result{}, err
	}
	setScanned(&release, states)
	if err := r.write(ctx, &release, base); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: r.next(&project, req.String(), states, until)}, nil
}

// next is the time until the next look: an interval once all is evidence, sooner and then less and less often before.
func (r *harborReconciler) next(p *v1alpha1.Project, key string, states []scanState, until time.Time) time.Duration {
	now, resting := r.now(), true
	for _, s := range states {
		resting = resting && s.action == scanRest && s.reason == v1alpha1.ReasonScanned
	}
	if resting {
		r.looks.DeleteEntry(key)
		return intervalOf(p)
	}
	r.looks.Next(key, now)
	return max(r.looks.Get(key), until.Sub(now))
}

// look sees to every image that Harbor holds. What Harbor, or the project's declaration, has against one is its state; an error is
// one of our own.
func (r *harborReconciler) look(ctx context.Context, p *v1alpha1.Project, release *v1alpha1.Release) (states []scanState, until time.Time, err error) {
	c, place, err := r.harbors.of(ctx, p)
	if err == nil && len(heldImages(place, release.Status.Bundle.Images)) == 0 {
		err = userErrorf("no image of the project is on %s: mend spec.harbor of the Project", place.registry)
	}
	var user userError
	if errors.As(err, &user) {
		return []scanState{{reason: harborReason(err), message: err.Error()}}, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	var results v1alpha1.CIResultList
	if err := r.List(ctx, &results, client.InNamespace(release.Namespace), client.MatchingFields{indexCommit: v1alpha1.ShortSHA(release.Spec.Commit)}); err != nil {
		return nil, time.Time{}, fmt.Errorf("list results: %w", err)
	}
	for _, img := range heldImages(place, release.Status.Bundle.Images) {
		state, err := r.image(ctx, c, release, img, results.Items)
		var theirs *harbor.Problem
		switch {
		case errors.As(err, &theirs) || errors.As(err, &user):
			log.FromContext(ctx).Info("Harbor was asked in vain", "image", img.Name, "cause", err.Error())
			state = scanState{reason: harborReason(err), message: "image " + img.Name + ": " + err.Error() + hint(err)}
			if u := harborUntil(err); u.After(until) {
				until = u
			}
		case err != nil:
			return nil, time.Time{}, err
		}
		states = append(states, state)
	}
	return states, until, nil
}

// hint is what to do about a problem that Harbor's answer does not tell, to be put behind it.
func hint(err error) string {
	if harbor.IsKind(err, harbor.KindDenied) {
		return ". Check the account of spec.harbor.secretRef of the Project, or of spec.registrySecretRef where that is not set"
	}
	return ""
}

// image sees to one image: it asks for a scan, or stores what was found.
func (r *harborReconciler) image(ctx context.Context, c *harbor.Client, release *v1alpha1.Release, img heldImage, results []v1alpha1.CIResult) (scanState, error) {
	if img.repository.Name == "" {
		return scanState{}, userErrorf("its repository %s names no project of Harbor: <host>/<project>/<repository>", img.Repository)
	}
	o, err := c.Overview(ctx, img.repository, img.Digest)
	if err != nil {
		return scanState{}, err
	}
	state := decideScan(img.FrozenImage, o, results, r.now(), waitsForScans(release))
	switch state.action {
	case scanAsk:
		return state, r.ask(ctx, c, string(release.UID)+"/"+img.Digest, img)
	case scanFetch:
		r.asks.DeleteEntry(string(release.UID) + "/" + img.Digest)
		report, err := c.Report(ctx, img.repository, o)
		if err != nil {
			return scanState{}, err
		}
		name, err := r.results.Put(ctx, release.Namespace, scanResult(release, img.FrozenImage, o, report), report.Raw)
		if err != nil {
			return scanState{}, fmt.Errorf("store the scan of image %s: %w", img.Name, err)
		}
		log.FromContext(ctx).Info("a scan of Harbor's is evidence", "image", img.Name, "result", name)
		return scanState{scanRest, v1alpha1.ReasonScanned, ""}, r.prune(ctx, results, img.FrozenImage)
	}
	return state, nil
}

// ask asks for a scan, unless that was done a short time ago: then its outcome stands.
func (r *harborReconciler) ask(ctx context.Context, c *harbor.Client, key string, img heldImage) error {
	if r.asks.IsInBackOffSinceUpdate(key, r.now()) {
		if err, ok := r.refused.Get(key); ok {
			return err.(error)
		}
		return nil
	}
	r.asks.Next(key, r.now())
	r.refused.Remove(key)
	err := c.Scan(ctx, img.repository, img.Digest)
	if err != nil && ctx.Err() == nil {
		r.refused.Add(key, err)
	}
	return err
}

// prune deletes what newer scans of the image have replaced long ago: a release may run for years, and Harbor scan every night.
func (r *harborReconciler) prune(ctx context.Context, results []v1alpha1.CIResult, img v1alpha1.FrozenImage) error {
	for _, old := range outdatedScans(results, img, scansKept) {
		if err := client.IgnoreNotFound(r.Delete(ctx, &old)); err != nil {
			return fmt.Errorf("delete result %s: %w", old.Name, err)
		}
	}
	return nil
}

// write says how far it is, if that changed, and tells each kind of trouble once.
func (r *harborReconciler) write(ctx context.Context, release, base *v1alpha1.Release) error {
	if sameStatus(base.Status, release.Status) {
		return nil
	}
	if err := writeStatus(ctx, r.Client, release, base, false); err != nil {
		return err
	}
	before, after := findCondition(base.Status.Conditions, v1alpha1.ConditionScanned), findCondition(release.Status.Conditions, v1alpha1.ConditionScanned)
	if after == nil || after.Status == metav1.ConditionTrue || after.Reason == v1alpha1.ReasonScanning || before != nil && before.Reason == after.Reason {
		return nil
	}
	r.events.Eventf(release, nil, corev1.EventTypeWarning, "ScanMissing", "Scan", "%s", after.Message)
	return nil
}

func setupHarbor(mgr manager.Manager, r *harborReconciler) error {
	c := mgr.GetClient()
	ofProject := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return releasesIn(ctx, c, o.GetName())
	})
	ofSecret := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		var p v1alpha1.Project
		if err := c.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, &p); err != nil || !scansInHarbor(&p) ||
			o.GetName() != p.Spec.Harbor.SecretRef && o.GetName() != p.Spec.RegistrySecretRef {
			return nil
		}
		return releasesIn(ctx, c, p.Name)
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(scannableChanged())).Named("harbor").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Watches(&v1alpha1.Project{}, ofProject, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, ofSecret, builder.WithPredicates(inProject())).
		Complete(inTurns(outsideShare, patient{r}))
}

func scannableChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return []any{scannable(r), bundleImages(r.Status.Bundle)} })
}
