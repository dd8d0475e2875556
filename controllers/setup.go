// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/journal"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/signing"
)

// Names of field indexes.
const (
	indexCommit      = "commit7"     // CIResults and Releases by the first seven digits of the commit
	indexRelease     = "releaseUID"  // PVs and Rollouts by the uid of their release
	indexEnvironment = "environment" // Rollouts by "<project>/<environment>"
)

// releaseWorkers judge different releases at the same time; one release is judged by one worker at a time. They mostly wait
// for writes to become durable, which the journal and the API server do for many at once. resultWorkers archive results.
const (
	releaseWorkers = 16
	resultWorkers  = 4
)

// NewScheme knows every kind that the controllers, the HTTP API and the command line read or write.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("build scheme: %w", err)
		}
	}
	return scheme, nil
}

// CacheOptions say what the controllers' cache leaves out: leases and requests for certificates that are not agents', and
// the text of reports, which is read from the API server the one time that it is archived.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&coordinationv1.Lease{}:                     {Field: fields.OneTermEqualSelector("metadata.name", v1alpha1.AgentLease)},
		&certificatesv1.CertificateSigningRequest{}: {Field: fields.OneTermEqualSelector("spec.signerName", certificatesv1.KubeAPIServerClientSignerName)},
		&v1alpha1.CIResult{}: {Transform: func(o any) (any, error) {
			if r, ok := o.(*v1alpha1.CIResult); ok {
				r.Spec.Report, r.ManagedFields = nil, nil
			}
			return o, nil
		}},
	}
}

// Options of Setup.
type Options struct {
	// Keys are the installation's. Required.
	Keys *Keys
	// Journal records every fact before it takes effect; Archive holds the scans of papers. Both are required.
	Journal *journal.Journal
	Archive archive.Store
	// Signing is the page whose links the client's signatories are sent. Nil: there is none, for want of a mail server.
	Signing *signing.Page
	// URL of the HTTP API as hosts reach it, without /api: agents whose certificate has expired come back through it, and
	// fetch their updates.
	URL string
	// Agents are the published programs of agents. Nil: agents are not updated.
	Agents *agentfiles.Files
	// Egress says which addresses of registries may be connected to.
	Egress egress.Guard
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Setup registers every controller with a manager. The API must answer and the CRDs must be served.
func Setup(ctx context.Context, mgr manager.Manager, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keys == nil || o.Journal == nil || o.Archive == nil {
		return errors.New("set up controllers: no keys or no journal: nothing could be proven later")
	}
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	keys, images := o.Keys, registries{mgr.GetClient(), registry.NewPool(o.Egress)}
	approvals, err := newGuard(mgr.GetClient(), approvalsPolicy)
	if err != nil {
		return err
	}
	pvs, err := newGuard(mgr.GetClient(), pvPolicy)
	if err != nil {
		return err
	}
	clientset, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return fmt.Errorf("clientset: %w", err)
	}
	if err := addIndexes(ctx, mgr); err != nil {
		return err
	}
	c, rec := mgr.GetClient(), mgr.GetEventRecorder("sirrat")
	fz := newFreezer(c, keys.salt)
	for _, setup := range []func() error{
		func() error { return setupProject(mgr, &projectReconciler{Client: c, events: rec, journal: o.Journal}) },
		func() error {
			return setupRelease(mgr, &releaseReconciler{
				Client: c, events: rec, guard: approvals, freezer: fz, journal: o.Journal, verifier: keys.verifier(), now: o.Now,
				registries: images, looked: lru.New(lookedAt),
			})
		},
		func() error {
			return setupAttest(mgr, &attestReconciler{
				Client: c, events: rec, key: keys.Signer, backoff: flowcontrol.NewBackOff(attestRetry, attestRetryMost), now: o.Now,
				registries: images,
			})
		},
		func() error {
			return setupEnvironment(mgr, &environmentReconciler{Client: c, fresh: direct, events: rec, freezer: fz, key: keys.Signer, keys: keys, journal: o.Journal, now: o.Now})
		},
		func() error {
			return setupHost(ctx, mgr, &hostReconciler{Client: c, fresh: direct, events: rec, keys: keys, url: o.URL, now: o.Now})
		},
		func() error {
			return ctrl.NewControllerManagedBy(mgr).For(&certificatesv1.CertificateSigningRequest{}).Named("enrolment").
				Complete(patient{&enrolmentReconciler{Client: c, fresh: direct, clientset: clientset, events: rec, now: o.Now}})
		},
		func() error { return setupPVOpener(mgr, &pvOpener{Client: c, events: rec, freezer: fz, now: o.Now}) },
		func() error {
			return setupPV(mgr, &pvReconciler{Client: c, installation: keys.attesters, events: rec, guard: pvs, archive: o.Archive, journal: o.Journal, now: o.Now})
		},
		func() error {
			if o.Signing == nil {
				return nil
			}
			return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.PV{}).Named("pv-inviter").
				Complete(patient{&inviteReconciler{Client: c, page: o.Signing, events: rec}})
		},
		func() error { return setupKeys(mgr, &keysReconciler{Reader: direct, keys: keys}) },
		func() error {
			return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Rollout{}, builder.WithPredicates(refused(o.Now))).Named("refusal").
				Complete(patient{&refusalReconciler{Client: c, events: rec}})
		},
		func() error {
			if o.Agents == nil {
				return nil
			}
			return setupAgentUpdate(mgr, &agentUpdateReconciler{
				Client: c, events: rec, key: keys.Signer, verifiers: keys.Verifiers, files: o.Agents, url: o.URL, now: o.Now,
			})
		},
		func() error { return setupLogs(mgr, &logsReconciler{Client: c, events: rec}) },
		func() error { return setupGate(mgr, &qualityGateReconciler{Client: c, journal: o.Journal}) },
		func() error {
			return setupCIResult(mgr, &ciResultReconciler{Client: c, fresh: direct, journal: o.Journal})
		},
	} {
		if err := setup(); err != nil {
			return fmt.Errorf("set up controllers: %w", err)
		}
	}
	return nil
}

// patient looks again at once when somebody else wrote the object in between: that is how writers take turns, and no error
// to tell an operator of.
type patient struct{ reconcile.Reconciler }

// conflictPause is the pause after a conflict, for the cache to catch up.
const conflictPause = 10 * time.Millisecond

// Reconcile implements reconcile.Reconciler.
func (p patient) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	result, err := p.Reconciler.Reconcile(ctx, req)
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: conflictPause}, nil
	}
	return result, err
}

func addIndexes(ctx context.Context, mgr manager.Manager) error {
	for _, ix := range []struct {
		obj   client.Object
		field string
		value func(client.Object) string
	}{
		{&v1alpha1.CIResult{}, indexCommit, func(o client.Object) string { return v1alpha1.ShortSHA(o.(*v1alpha1.CIResult).Spec.Commit) }},
		{&v1alpha1.Release{}, indexCommit, func(o client.Object) string { return v1alpha1.ShortSHA(o.(*v1alpha1.Release).Spec.Commit) }},
		{&v1alpha1.PV{}, indexRelease, func(o client.Object) string { return o.(*v1alpha1.PV).Spec.Release.UID }},
		{&v1alpha1.Rollout{}, indexRelease, func(o client.Object) string { return o.(*v1alpha1.Rollout).Spec.Release.UID }},
		{&v1alpha1.Rollout{}, indexEnvironment, func(o client.Object) string {
			s := o.(*v1alpha1.Rollout).Spec
			return s.Project + "/" + s.Environment
		}},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, ix.obj, ix.field, func(o client.Object) []string { return []string{ix.value(o)} }); err != nil {
			return fmt.Errorf("index %T by %s: %w", ix.obj, ix.field, err)
		}
	}
	return nil
}

func setupProject(mgr manager.Manager, r *projectReconciler) error {
	toProject := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Project{}).Named("project").
		Owns(&corev1.Namespace{}).Owns(&rbacv1.RoleBinding{}).
		Watches(&v1alpha1.Environment{}, toProject).
		Watches(&v1alpha1.QualityGate{}, toProject, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Release{}, toProject, builder.WithPredicates(countsChanged())).
		Complete(patient{r})
}

func setupRelease(mgr manager.Manager, r *releaseReconciler) error {
	c := mgr.GetClient()
	all := func(ctx context.Context, o client.Object) []reconcile.Request {
		return releasesIn(ctx, c, o.GetNamespace())
	}
	policy := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == approvalsPolicy })
	everywhere := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request { return releasesIn(ctx, c, "") })
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}).Named("release").
		WithOptions(controller.Options{MaxConcurrentReconciles: releaseWorkers}).
		Watches(&v1alpha1.CIResult{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return releasesOn(ctx, c, o.GetNamespace(), o.(*v1alpha1.CIResult).Spec.Commit)
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.PV{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			if len(o.(*v1alpha1.PV).Status.Reservations) > 0 { // which hold up other releases when they are overdue
				return all(ctx, o)
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.(*v1alpha1.PV).Spec.Release.Name}}}
		})).
		Watches(&v1alpha1.Rollout{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			s := o.(*v1alpha1.Rollout).Spec
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: s.Project, Name: s.Release.Name}}}
		})).
		Watches(&v1alpha1.Environment{}, handler.EnqueueRequestsFromMapFunc(all), builder.WithPredicates(placesChanged())).
		Watches(&v1alpha1.QualityGate{}, handler.EnqueueRequestsFromMapFunc(all), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return releasesIn(ctx, c, o.GetName())
		}), builder.WithPredicates(declarationChanged())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(all), builder.WithPredicates(inProject())).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(all), builder.WithPredicates(inProject())).
		Watches(&v1alpha1.Host{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var out []reconcile.Request
			for _, project := range o.(*v1alpha1.Host).Spec.Projects {
				out = append(out, releasesIn(ctx, c, project)...)
			}
			return out
		}), builder.WithPredicates(policyChanged())).
		Watches(&admissionv1.ValidatingAdmissionPolicy{}, everywhere, builder.WithPredicates(policy)).
		Watches(&admissionv1.ValidatingAdmissionPolicyBinding{}, everywhere, builder.WithPredicates(policy)).
		Complete(patient{r})
}

func setupAttest(mgr manager.Manager, r *attestReconciler) error {
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(attestationsChanged())).Named("attest").Complete(patient{r})
}

func setupEnvironment(mgr manager.Manager, r *environmentReconciler) error {
	c := mgr.GetClient()
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return environmentsIn(ctx, c, o.GetNamespace())
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Environment{}).Named("environment").
		Watches(&v1alpha1.Release{}, all, builder.WithPredicates(environmentsChanged())).
		Watches(&v1alpha1.Rollout{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			s := o.(*v1alpha1.Rollout).Spec
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: s.Project, Name: s.Environment}}}
		})).
		Watches(&v1alpha1.Host{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var out []reconcile.Request
			for _, project := range o.(*v1alpha1.Host).Spec.Projects {
				out = append(out, environmentsIn(ctx, c, project)...)
			}
			return out
		})).
		Watches(&corev1.Secret{}, all, builder.WithPredicates(inProject())).
		Watches(&corev1.ConfigMap{}, all, builder.WithPredicates(inProject())).
		Complete(patient{r})
}

// setupKeys has every replica follow the keys, not only the one that leads: all of them show them.
func setupKeys(mgr manager.Manager, r *keysReconciler) error {
	leaderOnly := false
	mine := predicate.NewPredicateFuncs(func(o client.Object) bool { return client.ObjectKeyFromObject(o) == keySecretKey })
	return ctrl.NewControllerManagedBy(mgr).For(&corev1.Secret{}, builder.WithPredicates(mine)).Named("keys").
		WithOptions(controller.Options{NeedLeaderElection: &leaderOnly}).Complete(r)
}

func setupHost(ctx context.Context, mgr manager.Manager, r *hostReconciler) error {
	toHost := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name, ok := strings.CutPrefix(o.GetNamespace(), v1alpha1.HostNamespacePrefix)
		if !ok {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Host{}).Named("host").
		Owns(&corev1.Namespace{}).Owns(&rbacv1.RoleBinding{}).Owns(&corev1.ConfigMap{}).
		Watches(&coordinationv1.Lease{}, toHost, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == v1alpha1.AgentLease }))).
		Watches(&v1alpha1.Rollout{}, toHost).
		WatchesRawSource(source.Channel(hostsOnChange(ctx, mgr.GetClient(), r.keys), &handler.EnqueueRequestForObject{})).
		Complete(patient{r})
}

func setupPVOpener(mgr manager.Manager, r *pvOpener) error {
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(environmentsChanged())).Named("pv-opener").Complete(patient{r})
}

func setupPV(mgr manager.Manager, r *pvReconciler) error {
	c := mgr.GetClient()
	pvsIn := func(ctx context.Context, namespace string) []reconcile.Request {
		var list v1alpha1.PVList
		if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return nil
		}
		return requests(list.Items, func(p *v1alpha1.PV) client.Object { return p })
	}
	everywhere := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request { return pvsIn(ctx, "") })
	policy := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == pvPolicy }))
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.PV{}).Named("pv").
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return pvsIn(ctx, o.GetName())
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&admissionv1.ValidatingAdmissionPolicy{}, everywhere, policy).
		Watches(&admissionv1.ValidatingAdmissionPolicyBinding{}, everywhere, policy).
		Complete(patient{r})
}

func setupGate(mgr manager.Manager, r *qualityGateReconciler) error {
	c := mgr.GetClient()
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		var list v1alpha1.QualityGateList
		if err := c.List(ctx, &list, client.InNamespace(o.GetNamespace())); err != nil {
			return nil
		}
		return requests(list.Items, func(g *v1alpha1.QualityGate) client.Object { return g })
	})
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.QualityGate{}).Named("qualitygate").
		Watches(&v1alpha1.Release{}, all, builder.WithPredicates(verdictsChanged())).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(patient{r})
}

func setupCIResult(mgr manager.Manager, r *ciResultReconciler) error {
	c := mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.CIResult{}).Named("ciresult").
		WithOptions(controller.Options{MaxConcurrentReconciles: resultWorkers}).
		Watches(&v1alpha1.Release{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var list v1alpha1.CIResultList
			commit := v1alpha1.ShortSHA(o.(*v1alpha1.Release).Spec.Commit)
			if err := c.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexCommit: commit}); err != nil {
				return nil
			}
			return requests(list.Items, func(r *v1alpha1.CIResult) client.Object { return r })
		}), builder.WithPredicates(evidenceChanged())).
		Complete(patient{r})
}

func releasesIn(ctx context.Context, c client.Reader, namespace string) []reconcile.Request {
	var list v1alpha1.ReleaseList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil // a cache that cannot be read is a cache that stops; its restart lists everything again
	}
	return requests(list.Items, func(r *v1alpha1.Release) client.Object { return r })
}

// releasesOn are the releases of a commit and those that are compared with them, being the next on their branch.
func releasesOn(ctx context.Context, c client.Reader, namespace, commit string) []reconcile.Request {
	var list v1alpha1.ReleaseList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil { // read only
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		r := &list.Items[i]
		if !strings.HasPrefix(r.Spec.Commit, commit) {
			continue
		}
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(r)})
		if next := nextOnBranch(r, list.Items); next != nil {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(next)})
		}
	}
	return out
}

// nextOnBranch is the oldest release of the same branch that is newer.
func nextOnBranch(r *v1alpha1.Release, releases []v1alpha1.Release) *v1alpha1.Release {
	var next *v1alpha1.Release
	for i := range releases {
		o := &releases[i]
		if r.Spec.Branch != "" && o.Spec.Branch == r.Spec.Branch && o.Spec.Commit != r.Spec.Commit && newerRelease(o, r) && (next == nil || newerRelease(next, o)) {
			next = o
		}
	}
	return next
}

func environmentsIn(ctx context.Context, c client.Reader, namespace string) []reconcile.Request {
	var list v1alpha1.EnvironmentList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil
	}
	return requests(list.Items, func(e *v1alpha1.Environment) client.Object { return e })
}

func requests[T any](items []T, object func(*T) client.Object) []reconcile.Request {
	out := make([]reconcile.Request, 0, len(items))
	for i := range items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object(&items[i]))})
	}
	return out
}

func labelSet(m map[string]string) labels.Set { return labels.Set(m) }
