// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// environmentReconciler writes the status of Environments, and the Rollouts and delivered Secrets on their hosts.
type environmentReconciler struct {
	client.Client
	// fresh reads past the cache: a Rollout is signed only for what the API server says now.
	fresh   client.Reader
	events  events.EventRecorder
	freezer *freezer
	key     crypto.Signer
	keys    *Keys
	journal journalWriter
	now     func() time.Time
	// arrivals of replicated releases: somebody else looks for them.
	arrivals arrivals
}

// environmentState is what one reconciliation gathered.
type environmentState struct {
	env      *v1alpha1.Environment
	project  *v1alpha1.Project
	releases []v1alpha1.Release
	// hosts match; servers are all there are, by name.
	hosts    []rollout.Host
	servers  map[string]v1alpha1.Host
	rollouts []v1alpha1.Rollout
	now      time.Time
	// next is when to look again without an event; zero for never.
	next time.Time
}

// lookAt notes a moment at which time alone may change something.
func (s *environmentState) lookAt(t time.Time) {
	if t.After(s.now) && (s.next.IsZero() || t.Before(s.next)) {
		s.next = t
	}
}

// Reconcile picks the release to run, assigns it to hosts or takes the environment down, and sums up.
func (r *environmentReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.gather(ctx, req)
	if s == nil || err != nil {
		return ctrl.Result{}, err
	}
	old := s.env.DeepCopy()
	problem := r.act(ctx, s)
	if problem == nil {
		problem = r.validate(ctx, s)
	}
	refused := r.admission(ctx, s.env)
	var user userError
	for _, err := range []error{problem, refused} {
		if err != nil && !errors.As(err, &user) {
			return ctrl.Result{}, err
		}
	}
	if problem == nil {
		problem = refused
	}
	r.summarise(s, problem)
	if !sameStatus(old.Status, s.env.Status) {
		if err := writeStatus(ctx, r.Client, s.env, old, false); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: nextLook(s.now, s.next)}, nil
}

// act tells the hosts what they are to do: whether they may touch anything, what to take down, what to run.
func (r *environmentReconciler) act(ctx context.Context, s *environmentState) error {
	s.env.Status.Waiting = ""
	if err := r.suspend(ctx, s); err != nil {
		return err
	}
	if err := r.takeDown(ctx, s); err != nil {
		return err
	}
	if s.env.Spec.Decommission != nil {
		return r.prune(ctx, s)
	}
	return r.assign(ctx, s, rollout.Target(candidates(s)))
}

// validate tells what is wrong with the declaration before any release needs it. Images are not looked up.
func (r *environmentReconciler) validate(ctx context.Context, s *environmentState) error {
	if err := checkRegistry(*s.env, s.project); err != nil {
		return err
	}
	m, err := readMaterial(ctx, r.Client, *s.env, &v1alpha1.Release{})
	if err != nil || m.compose == "" {
		return err
	}
	if _, err := r.freezer.references(ctx, *s.env, m); err != nil {
		return err
	}
	return checkTags(*s.env, &v1alpha1.Release{})
}

func (r *environmentReconciler) gather(ctx context.Context, req ctrl.Request) (*environmentState, error) {
	s := &environmentState{env: &v1alpha1.Environment{}, project: &v1alpha1.Project{}, servers: map[string]v1alpha1.Host{}, now: r.now()}
	if err := r.Get(ctx, req.NamespacedName, s.env); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !s.env.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	if err := r.Get(ctx, client.ObjectKey{Name: req.Namespace}, s.project); err != nil {
		return nil, client.IgnoreNotFound(err) // without its Project nothing is deployed
	}
	if !s.project.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	var releases v1alpha1.ReleaseList
	if err := r.List(ctx, &releases, client.InNamespace(req.Namespace)); err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	s.releases = releases.Items
	var hosts v1alpha1.HostList
	if err := r.List(ctx, &hosts); err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	for _, h := range hosts.Items {
		s.servers[h.Name] = h
	}
	s.hosts = matchHosts(*s.env, hosts.Items, s.now)
	var rollouts v1alpha1.RolloutList
	if err := r.List(ctx, &rollouts, client.MatchingFields{indexEnvironment: req.Namespace + "/" + req.Name}); err != nil {
		return nil, fmt.Errorf("list rollouts: %w", err)
	}
	s.rollouts = rollouts.Items
	markSuspended(s)
	return s, nil
}
