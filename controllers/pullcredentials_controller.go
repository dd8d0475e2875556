// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
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
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
)

// pullFinalizer keeps a Project until its pull credentials are revoked, or it was tried farewells times.
const pullFinalizer = v1alpha1.Group + "/pull-credentials"

const (
	// pullRetry is the pause before a provider is asked again that did not issue or revoke, doubled each time up to
	// pullRetryMost.
	pullRetry     = 5 * time.Second
	pullRetryMost = 5 * time.Minute
	// pullLook is how often a provider is asked whether it still has what it issued.
	pullLook = time.Hour
	// farewells is how often it is tried to revoke what a deleted project leaves; farewellPause lies before the second time, and
	// twice as long before each further one: half a minute in all. Then the credentials end by themselves.
	farewells     = 5
	farewellPause = 2 * time.Second
	// pullBatch is how many credentials are issued before what was done is written down.
	pullBatch = 32
	// maxPullTargets bounds what the record of one project holds: an object of the API has at most a megabyte or so.
	maxPullTargets = 600
)

// pullReconciler issues, delivers, renews and revokes the credentials that the agents of a project pull with. What it does is
// written down before it is done (see savePullRecord), so that nothing is lost at a provider whenever it is killed.
type pullReconciler struct {
	client.Client
	// fresh reads past the cache: what was done a moment ago counts.
	fresh   client.Reader
	events  events.EventRecorder
	egress  egress.Guard
	backoff *flowcontrol.Backoff
	now     func() time.Time

	mu sync.Mutex
	// listed is when each source was last asked for what it has, by project uid and source.
	listed map[string]time.Time
	// quiet is until when each provider asked to be left alone, by its address.
	quiet map[string]time.Time
}

func newPullReconciler(c client.Client, fresh client.Reader, rec events.EventRecorder, o Options) *pullReconciler {
	return &pullReconciler{
		Client: c, fresh: fresh, events: rec, egress: o.Egress, backoff: flowcontrol.NewBackOff(pullRetry, pullRetryMost), now: o.Now,
		listed: map[string]time.Time{}, quiet: map[string]time.Time{},
	}
}

// pullState is what one reconciliation gathered.
type pullState struct {
	project *v1alpha1.Project
	// source issues; nil when the project's own Secret is to be used. invalid is what keeps it from being one.
	source  *pullcreds.Source
	invalid error
	terms   pullcreds.Terms
	envs    []v1alpha1.Environment
	wanted  []pullcreds.Target
	// secrets are those that were delivered, by host and environment.
	secrets map[pullcreds.Target]*corev1.Secret
	record  pullcreds.Record
	stored  *corev1.ConfigMap
	// damaged says that stored cannot be read; invalid tells it.
	damaged bool
	lists   map[string][]pullcreds.Listed
	now     time.Time
	// problems of providers, without secrets; the first is told.
	problems []error
	// urgent asks for another look at once.
	urgent bool
}

func (s *pullState) problem(err error) {
	if err != nil {
		s.problems = append(s.problems, err)
	}
}

// Reconcile brings the credentials of one project where they should be.
func (r *pullReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.gather(ctx, req.Name)
	if s == nil && err == nil {
		pullExpiry.set(req.Name, time.Time{})
	}
	if s == nil || err != nil {
		return ctrl.Result{}, err
	}
	if !s.project.DeletionTimestamp.IsZero() {
		return r.farewell(ctx, s)
	}
	if s.damaged {
		return ctrl.Result{RequeueAfter: pullRetryMost}, r.tell(ctx, s)
	}
	if err := r.act(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	pullExpiry.set(req.Name, s.firstExpiry())
	if err := r.tell(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	return r.next(ctx, s), nil
}

// act issues, delivers and revokes, in this order. While the declaration cannot be used, what is wanted stays as it is; whoever is
// not to pull any more loses it all the same.
func (r *pullReconciler) act(ctx context.Context, s *pullState) error {
	if err := r.adopt(ctx, s); err != nil {
		return err
	}
	if s.source != nil && s.invalid == nil {
		if err := r.hold(ctx, s.project); err != nil {
			return err
		}
	}
	r.look(ctx, s)
	if err := r.issue(ctx, s); err != nil {
		return err
	}
	if s.invalid == nil {
		if err := r.standIn(ctx, s); err != nil {
			return err
		}
	}
	if err := r.withdraw(ctx, s); err != nil {
		return err
	}
	return r.revoke(ctx, s)
}

// gather reads what there is. Nil when pull credentials do not concern the project.
func (r *pullReconciler) gather(ctx context.Context, name string) (*pullState, error) {
	s := &pullState{project: &v1alpha1.Project{}, secrets: map[pullcreds.Target]*corev1.Secret{}, lists: map[string][]pullcreds.Listed{}, now: r.now()}
	if err := r.Get(ctx, client.ObjectKey{Name: name}, s.project); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	s.source, s.invalid = pullSource(s.project)
	if s.source == nil && s.invalid == nil && !slices.Contains(s.project.Finalizers, pullFinalizer) {
		return nil, nil
	}
	if err := r.readPullRecord(ctx, s); err != nil {
		return nil, err
	}
	if p := s.project.Spec.PullCredentials; p != nil {
		s.terms.Lifetime = p.Lifetime.Duration
		if p.RenewBefore != nil {
			s.terms.RenewBefore = p.RenewBefore.Duration
		}
	}
	if err := r.gatherTargets(ctx, s); err != nil {
		return nil, err
	}
	return s, r.gatherSecrets(ctx, s)
}

// gatherTargets finds the hosts that pull for each environment: enrolled ones that are connected to the control plane. An
// environment with a registry of its own has a Secret of its own as well.
func (r *pullReconciler) gatherTargets(ctx context.Context, s *pullState) error {
	var envs v1alpha1.EnvironmentList
	if err := r.List(ctx, &envs, client.InNamespace(s.project.Name)); err != nil {
		return fmt.Errorf("list environments: %w", err)
	}
	var hosts v1alpha1.HostList
	if err := r.List(ctx, &hosts); err != nil {
		return fmt.Errorf("list hosts: %w", err)
	}
	s.envs = envs.Items
	for _, env := range s.envs {
		if !env.DeletionTimestamp.IsZero() || env.Spec.Decommission != nil || env.Spec.Registry != nil {
			continue
		}
		for _, h := range matching(env, hosts.Items) {
			ready, err := r.receives(ctx, *h, s.now)
			if err != nil {
				return err
			}
			if ready {
				s.wanted = append(s.wanted, pullcreds.Target{Host: h.Name, HostUID: string(h.UID), Environment: env.Name})
			}
		}
	}
	if len(s.wanted) > maxPullTargets && s.source != nil && s.invalid == nil {
		s.invalid = userErrorf("spec.pullCredentials: %d hosts and environments need a credential, at most %d can be kept for one project: use provider ProjectSecret with an account that may only read",
			len(s.wanted), maxPullTargets)
	}
	return nil
}

// receives says that a host's agent can be given something and comes for it.
func (r *pullReconciler) receives(ctx context.Context, h v1alpha1.Host, now time.Time) (bool, error) {
	if h.Spec.Offline || !hostNow(h, now).Enrolled {
		return false, nil
	}
	var ns corev1.Namespace
	if err := r.Get(ctx, client.ObjectKey{Name: v1alpha1.HostNamespace(h.Name)}, &ns); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return ns.DeletionTimestamp.IsZero() && ns.Labels[v1alpha1.LabelHost] == h.Name, nil
}

// next is when to look again without an event.
func (r *pullReconciler) next(ctx context.Context, s *pullState) ctrl.Result {
	key := string(s.project.UID)
	if s.urgent {
		return ctrl.Result{RequeueAfter: conflictPause}
	}
	if len(s.problems) > 0 {
		r.backoff.Next(key, r.now())
		after := max(r.backoff.Get(key), notBefore(s.problems, s.now))
		log.FromContext(ctx).Info("pull credentials will be seen to again", "after", after.String(), "cause", errors.Join(s.problems...).Error())
		return ctrl.Result{RequeueAfter: after}
	}
	r.backoff.Reset(key)
	after := time.Duration(0) // until something happens
	if s.source != nil && s.invalid == nil {
		after = pullLook
	}
	if due := r.decide(s).Next; !due.IsZero() && (after == 0 || due.Sub(s.now) < after) {
		after = max(due.Sub(s.now), time.Millisecond)
	}
	return ctrl.Result{RequeueAfter: after}
}

func (r *pullReconciler) decide(s *pullState) pullcreds.Plan {
	delivered := map[pullcreds.Target]string{}
	for target, secret := range s.secrets {
		if is, ok := deliveredCredential(secret); ok {
			delivered[target] = is.Name
		}
	}
	return pullcreds.Decide(pullcreds.Input{
		Now: s.now, Record: s.record, Wanted: s.wanted, Source: s.source, Held: s.invalid != nil, Terms: s.terms, Delivered: delivered, Listed: s.lists,
	})
}

// setupPullCredentials has a project looked at when its declaration, its places or what was delivered change.
func setupPullCredentials(mgr manager.Manager, r *pullReconciler) error {
	project := func(name string) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
	}
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Project{}, builder.WithPredicates(predicate.Or[client.Object](
		predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).Named("pull-credentials").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Watches(&v1alpha1.Environment{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return project(o.GetNamespace())
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Host{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			var out []reconcile.Request
			for _, p := range o.(*v1alpha1.Host).Spec.Projects {
				out = append(out, project(p)...)
			}
			return out
		}), builder.WithPredicates(receptionChanged())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			if o.GetLabels()[v1alpha1.LabelPullCredential] != "" {
				return project(o.GetLabels()[v1alpha1.LabelProject])
			}
			return project(o.GetNamespace())
		}), builder.WithPredicates(predicate.Or(inProject(), pullSecrets()))).
		Complete(patient{r})
}

// pullSecrets lets those Secrets through that were delivered for pulling.
func pullSecrets() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetLabels()[v1alpha1.LabelPullCredential] != "" && strings.HasPrefix(o.GetNamespace(), v1alpha1.HostNamespacePrefix)
	})
}

// receptionChanged lets an update of a Host through when it may have become, or ceased to be, one that is given credentials.
func receptionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Host)
		after, ok2 := e.ObjectNew.(*v1alpha1.Host)
		return !ok || !ok2 || before.Generation != after.Generation || !sameStatus(before.Labels, after.Labels) ||
			hostNow(*before, time.Time{}).Enrolled != hostNow(*after, time.Time{}).Enrolled
	}}
}
