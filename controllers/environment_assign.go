// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// candidates are the releases that were let in, but for those of before the environment was taken down.
func candidates(s *environmentState) []rollout.Candidate {
	var out []rollout.Candidate
	for _, rel := range s.releases {
		if e := findEntry(rel.Status.Environments, s.env.Name); e != nil && rel.DeletionTimestamp.IsZero() && !beforeDecommission(*s.env, e.AuthorizedAt) {
			out = append(out, rollout.Candidate{Phase: e.Phase, Release: v1alpha1.EnvironmentRelease{
				Release: rel.Name, UID: string(rel.UID), Version: rel.Spec.Version, BundleHash: e.BundleHash, AuthorizedAt: e.AuthorizedAt,
			}})
		}
	}
	return out
}

// assign moves the hosts one step towards the target. A userError is for people to mend and is told as a condition.
func (r *environmentReconciler) assign(ctx context.Context, s *environmentState, target *v1alpha1.EnvironmentRelease) error {
	st := &s.env.Status
	switch {
	case target == nil:
		return r.prune(ctx, s)
	case s.env.Spec.Hosts == nil:
		st.Current = target
		return nil
	case rollout.Same(st.Current, target) && !overtaken(s, st.Current.Sequence):
	case rollout.Same(st.LastGood, target) && !ahead(s): // the last try failed and the hosts went back by themselves
		st.Current = st.LastGood
	default:
		if err := r.begin(ctx, s, target); err != nil {
			return err
		}
	}
	st.Current.Version = target.Version
	if err := r.create(ctx, s); err != nil {
		return err
	}
	return r.prune(ctx, s)
}

// begin takes the next sequence number and stores it before anything is sent, so that a number is never used twice,
// whatever happens in between.
func (r *environmentReconciler) begin(ctx context.Context, s *environmentState, target *v1alpha1.EnvironmentRelease) error {
	st := &s.env.Status
	base := s.env.DeepCopy()
	st.Sequence = nextSequence(s)
	t := *target
	t.Sequence = st.Sequence
	st.Current = &t
	if err := r.Status().Patch(ctx, s.env, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("take sequence number: %w", err)
	}
	r.events.Eventf(s.env, nil, corev1.EventTypeNormal, "Deploying", "Deploy", "release %s, sequence %d", t.Release, t.Sequence)
	return nil
}

// nextSequence is above everything that was ever sent: an older backup may have been restored, so what is out there counts,
// and what hosts say they have carried out since it was made.
func nextSequence(s *environmentState) int64 {
	next := s.env.Status.Sequence
	for _, ro := range s.rollouts {
		next = max(next, ro.Spec.Sequence, carriedOut(ro))
	}
	return next + 1
}

// maxAhead is how much newer than an order a host may claim to be: the numbers must not be used up by one that lies.
const maxAhead = 1_000_000

// carriedOut is the sequence that a host names when it refuses an order because it is older; 0 when it does not.
func carriedOut(ro v1alpha1.Rollout) int64 {
	ready := findCondition(ro.Status.Conditions, v1alpha1.ConditionReady)
	if ro.Status.Phase != v1alpha1.RolloutRejected || ready == nil || ready.Reason != v1alpha1.ReasonOlderSequence {
		return 0
	}
	return min(ro.Status.ServingSequence, ro.Spec.Sequence+maxAhead)
}

// overtaken says that a host was told to take the environment down after the current release had been numbered, and is to
// run it all the same by now: agents never go back, so that a new number is needed.
func overtaken(s *environmentState, sequence int64) bool {
	newest := newestRollouts(s.rollouts)
	return slices.ContainsFunc(s.hosts, func(h rollout.Host) bool {
		ro, ok := newest[h.Name]
		return ok && ro.Spec.Remove != nil && ro.Spec.Sequence > sequence
	})
}

// ahead says that a release that failed elsewhere runs on some host, which is to go back too. Only a new order can say so.
func ahead(s *environmentState) bool {
	if keep := s.env.Spec.Rollout.AutoRollback; keep != nil && !*keep {
		return false
	}
	newest := newestRollouts(s.rollouts)
	return slices.ContainsFunc(s.hosts, func(h rollout.Host) bool {
		ro, ok := newest[h.Name]
		return ok && ro.Spec.Sequence > s.env.Status.LastGood.Sequence && !rollout.Failed(ro.Status.Phase)
	})
}

func (r *environmentReconciler) plan(s *environmentState) rollout.Plan {
	in := rollout.Input{Now: s.now, Hosts: s.hosts, Strategy: rollout.StrategyOf(s.env.Spec.Rollout), Batch: s.env.Status.Batch}
	for _, ro := range s.rollouts {
		in.Observed = append(in.Observed, observedRollout(ro))
	}
	if s.env.Status.Current != nil {
		in.Current = s.env.Status.Current.Sequence
	}
	if s.env.Status.LastGood != nil {
		in.LastGood = s.env.Status.LastGood.Sequence
	}
	return rollout.Steps(in)
}

// create sends the current release to the hosts whose turn it is.
func (r *environmentReconciler) create(ctx context.Context, s *environmentState) error {
	plan := r.plan(s)
	s.env.Status.Waiting, s.env.Status.Batch = plan.Waiting, plan.Batch
	s.lookAt(plan.At)
	if s.env.Spec.Suspend {
		s.env.Status.Waiting = "suspended: kubectl sirrat unsuspend " + s.env.Name
		return nil
	}
	if len(plan.Create) == 0 {
		return nil
	}
	if ok, err := r.stillWanted(ctx, s); !ok || err != nil {
		return err
	}
	rel, e, err := authorised(ctx, r.fresh, s.env)
	if rel == nil || err != nil { // withdrawn or judged anew in the meantime: the next event brings us back
		return err
	}
	if ok, err := r.arrived(ctx, s, rel, *e); !ok || err != nil {
		return err
	}
	if waits := unmirrored(rel, *s.env); waits != "" { // its end brings us back
		s.env.Status.Waiting = "release " + rel.Name + ": " + waits
		return nil
	}
	spec, m, err := r.rolloutSpec(ctx, s, rel)
	if err != nil {
		return err
	}
	hosts, err := r.armed(ctx, s, rel, plan.Create)
	if err != nil {
		return err
	}
	for _, name := range hosts {
		host := s.hosts[slices.IndexFunc(s.hosts, func(h rollout.Host) bool { return h.Name == name })]
		if err := r.send(ctx, s, rel, *spec, m, host); err != nil {
			return fmt.Errorf("send to host %s: %w", name, err)
		}
	}
	return nil
}

// authorised is the release that an environment runs, as the API server has it, and what lets it in; nil if it is not let in, or no
// more as it was.
func authorised(ctx context.Context, fresh client.Reader, env *v1alpha1.Environment) (*v1alpha1.Release, *v1alpha1.ReleaseEnvironment, error) {
	var rel v1alpha1.Release
	current := env.Status.Current
	if err := fresh.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: current.Release}, &rel); err != nil {
		return nil, nil, fmt.Errorf("read release: %w", err)
	}
	e := findEntry(rel.Status.Environments, env.Name)
	if string(rel.UID) != current.UID || e == nil || e.BundleHash != current.BundleHash || !e.AuthorizedAt.Equal(&current.AuthorizedAt) {
		return nil, nil, nil
	}
	return &rel, e, nil
}

// stillWanted looks past the cache whether the environment may be deployed to at all.
func (r *environmentReconciler) stillWanted(ctx context.Context, s *environmentState) (bool, error) {
	var env v1alpha1.Environment
	if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(s.env), &env); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return env.UID == s.env.UID && env.DeletionTimestamp.IsZero() && !env.Spec.Suspend && env.Spec.Decommission == nil &&
		sameStatus(env.Spec.Registry, s.env.Spec.Registry), nil
}
