// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
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
	"k8s.io/client-go/tools/events"
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
	"gitlab.com/dynors/sirrat/internal/ingest"
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
	// Link is the address of a release's page, which GitLab's commit statuses lead to. Nil: they lead nowhere.
	Link func(*v1alpha1.Release) string
	// Agents are the published programs of agents. Nil: agents are not updated.
	Agents *agentfiles.Files
	// Egress says which of the addresses that projects name may be connected to: of registries, package registries, Harbors and
	// GitLabs.
	Egress egress.Guard
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Retry is the pause after which what is outside, and not there yet or not well, is asked for the first time again; the next are
	// longer. 0: that of each controller, 2 to 15 s. Tests wait less.
	Retry time.Duration
	// ReplicationTimeout bounds all that a Harbor is asked in one look at a replication. 0: 10 s.
	ReplicationTimeout time.Duration
}

// retry is the first pause of a controller.
func (o Options) retry(own time.Duration) time.Duration { return cmp.Or(o.Retry, own) }

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
	if err := errors.Join(addIndexes(ctx, mgr), addModuleIndexes(ctx, mgr)); err != nil {
		return err
	}
	c := mgr.GetClient()
	p := parts{
		Options: o, mgr: mgr, c: c, direct: direct, events: mgr.GetEventRecorder("sirrat"), freezer: newFreezer(c, o.Keys.salt),
		images: registries{c, registry.NewPoolRetrying(o.Egress, o.retry(registryRetry)), o.retry(registryRetry)}, harbors: harbors{c, o.Egress}, policies: newSignaturePolicies(c),
	}
	if err := errors.Join(p.judgement(), p.artifacts(), p.delivery(ctx), p.acceptance()); err != nil {
		return fmt.Errorf("set up controllers: %w", err)
	}
	return nil
}

// parts is what controllers share.
type parts struct {
	Options
	mgr       manager.Manager
	c, direct client.Client // direct reads what the cache of c may not show yet
	events    events.EventRecorder
	freezer   *freezer
	images    registries
	harbors   harbors
	policies  *signaturePolicies
}

// judgement sets up what weighs evidence and opens gates.
func (p parts) judgement() error {
	approvals, err := newGuard(p.c, approvalsPolicy)
	if err != nil {
		return err
	}
	return errors.Join(
		setupProject(p.mgr, &projectReconciler{Client: p.c, events: p.events, journal: p.Journal}),
		setupRelease(p.mgr, &releaseReconciler{
			Client: p.c, events: p.events, guard: approvals, freezer: p.freezer, journal: p.Journal, verifier: p.Keys.verifier(), now: p.Now,
			registries: p.images, harbors: p.harbors, policies: p.policies, looked: lru.New(lookedAt),
		}),
		setupGate(p.mgr, &qualityGateReconciler{Client: p.c, journal: p.Journal}),
		setupCIResult(p.mgr, &ciResultReconciler{Client: p.c, fresh: p.direct, journal: p.Journal, now: p.Now}),
		setupKeys(p.mgr, &keysReconciler{Reader: p.direct, keys: p.Keys}),
	)
}

// artifacts sets up what looks at registries, and at what else keeps or shows what was built.
func (p parts) artifacts() error {
	return errors.Join(
		setupSignatures(p.mgr, newSignatureReconciler(p.c, p.images, p.policies, p.Options)),
		setupArtifacts(p.mgr, p.direct, p.Options),
		setupAttest(p.mgr, &attestReconciler{
			Client: p.c, events: p.events, key: p.Keys.Signer, backoff: flowcontrol.NewBackOff(attestRetry, attestRetryMost), now: p.Now,
			registries: p.images,
		}),
		setupMirror(p.mgr, &mirrorReconciler{
			Client: p.c, fresh: p.direct, events: p.events, registries: p.images, journal: p.Journal, now: p.Now, kept: lru.New(lookedAt),
		}),
		setupHarbor(p.mgr, newHarborReconciler(p.c, p.events, p.harbors, ingest.NewFetched(p.c, p.direct, p.Archive, p.Now), p.Now)),
		setupGitLab(p.mgr, p.gitlab()),
	)
}

// delivery sets up what hosts and their agents need.
func (p parts) delivery(ctx context.Context) error {
	clientset, err := kubernetes.NewForConfig(p.mgr.GetConfig())
	if err != nil {
		return fmt.Errorf("clientset: %w", err)
	}
	arrivals := newArrivals()
	errs := []error{
		setupEnvironment(p.mgr, &environmentReconciler{
			Client: p.c, fresh: p.direct, events: p.events, freezer: p.freezer, key: p.Keys.Signer, keys: p.Keys, journal: p.Journal, now: p.Now,
			arrivals: arrivals,
		}),
		setupReplication(p.mgr, newReplicationReconciler(p.c, p.direct, p.harbors, arrivals, p.Options)),
		setupHost(ctx, p.mgr, &hostReconciler{Client: p.c, fresh: p.direct, events: p.events, keys: p.Keys, url: p.URL, now: p.Now}),
		ctrl.NewControllerManagedBy(p.mgr).For(&certificatesv1.CertificateSigningRequest{}).Named("enrolment").
			Complete(patient{&enrolmentReconciler{Client: p.c, fresh: p.direct, clientset: clientset, events: p.events, now: p.Now}}),
		ctrl.NewControllerManagedBy(p.mgr).For(&v1alpha1.Rollout{}, builder.WithPredicates(refused(p.Now))).Named("refusal").
			Complete(patient{&refusalReconciler{Client: p.c, events: p.events}}),
		setupPullCredentials(p.mgr, newPullReconciler(p.c, p.direct, p.events, p.Options)),
		setupLogs(p.mgr, &logsReconciler{Client: p.c, events: p.events}),
	}
	if p.Agents != nil {
		errs = append(errs, setupAgentUpdate(p.mgr, &agentUpdateReconciler{
			Client: p.c, events: p.events, key: p.Keys.Signer, verifiers: p.Keys.Verifiers, files: p.Agents, url: p.URL, now: p.Now,
		}))
	}
	return errors.Join(errs...)
}

// acceptance sets up what has PVs signed.
func (p parts) acceptance() error {
	pvs, err := newGuard(p.c, pvPolicy)
	if err != nil {
		return err
	}
	errs := []error{
		setupPVOpener(p.mgr, &pvOpener{Client: p.c, events: p.events, freezer: p.freezer, now: p.Now}),
		setupPV(p.mgr, &pvReconciler{
			Client: p.c, installation: p.Keys.attesters, events: p.events, guard: pvs, archive: p.Archive, journal: p.Journal, now: p.Now,
		}),
	}
	if p.Signing != nil {
		errs = append(errs, ctrl.NewControllerManagedBy(p.mgr).For(&v1alpha1.PV{}).Named("pv-inviter").
			Complete(patient{&inviteReconciler{Client: p.c, page: p.Signing, events: p.events}}))
	}
	return errors.Join(errs...)
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
	ofHooks, named := hookSecrets(mgr.GetClient())
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Project{}).Named("project").
		Watches(&corev1.Secret{}, ofHooks, named).
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
	asked := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request { return askers(ctx, c) })
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
		Watches(&v1alpha1.Release{}, asked, builder.WithPredicates(modulesChanged())).
		Watches(&v1alpha1.Project{}, asked, builder.WithPredicates(mavenChanged())).
		Complete(patient{r})
}

func setupAttest(mgr manager.Manager, r *attestReconciler) error {
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(attestationsChanged())).Named("attest").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Complete(inTurns(1, patient{r})) // a list of what is attached is read and written
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
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			l := o.GetLabels()
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: l[v1alpha1.LabelProject], Name: l[v1alpha1.LabelEnvironment]}}}
		}), builder.WithPredicates(pullSecrets())).
		Watches(&corev1.ConfigMap{}, all, builder.WithPredicates(inProject())).
		WatchesRawSource(source.Channel(r.arrivals.found, &handler.EnqueueRequestForObject{})).
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
