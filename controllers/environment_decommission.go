// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// beforeDecommission says that something was let in before the environment was last taken down.
func beforeDecommission(env v1alpha1.Environment, authorized metav1.MicroTime) bool {
	at := env.Status.DecommissionedAt
	return at != nil && !authorized.After(at.Time)
}

// volumesWord is the value of a removal's annotation that takes named volumes too.
const volumesWord = "volumes"

// removals are the hosts on which the environment is to be taken down, with whether their volumes go too: all that ever got
// a Rollout when it is decommissioned, else those that somebody named and that it does not match any more.
func removals(env v1alpha1.Environment, matched []rollout.Host, rollouts []v1alpha1.Rollout) map[string]bool {
	out := map[string]bool{}
	for host := range newestRollouts(rollouts) {
		word, named := env.Annotations[v1alpha1.RemovePrefix+host]
		stays := slices.ContainsFunc(matched, func(h rollout.Host) bool { return h.Name == host })
		switch {
		case env.Spec.Decommission != nil:
			out[host] = env.Spec.Decommission.Volumes
		case named && !stays:
			out[host] = word == volumesWord
		}
	}
	return out
}

// takeDown sends the orders to take the environment down: a Rollout of its own for each host, numbered and signed like every
// other. Only what is written in the Environment is such an order; its absence never is.
func (r *environmentReconciler) takeDown(ctx context.Context, s *environmentState) error {
	forgetRemovals(s)
	wanted := removals(*s.env, s.hosts, s.rollouts)
	if err := r.numberRemovals(ctx, s, wanted); err != nil {
		return err
	}
	newest := newestRollouts(s.rollouts)
	var waits []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		server, exists := s.servers[name]
		removal := findRemoval(s.env.Status.Removals, name)
		if !exists || removal == nil || newest[name].Spec.Sequence >= removal.Sequence {
			continue
		}
		host := hostNow(server, s.now)
		if host.Closed != "" {
			waits = append(waits, "host "+name+" "+host.Closed)
			s.lookAt(host.Opens)
			continue
		}
		if s.env.Spec.Suspend {
			waits = append(waits, "suspended: kubectl sirrat unsuspend "+s.env.Name)
			break
		}
		if err := r.sendRemoval(ctx, s, *removal, host, newest[name]); err != nil {
			return fmt.Errorf("send removal to host %s: %w", name, err)
		}
	}
	s.env.Status.Waiting = strings.Join(waits, "; ")
	return nil
}

// numberRemovals takes a sequence number for the hosts that have no order yet, and stores it before anything is sent.
func (r *environmentReconciler) numberRemovals(ctx context.Context, s *environmentState, wanted map[string]bool) error {
	st := &s.env.Status
	base := s.env.DeepCopy()
	next := nextSequence(s)
	deployed := deployedSequences(s.rollouts)
	changed := false
	for _, host := range slices.Sorted(maps.Keys(wanted)) {
		if _, exists := s.servers[host]; !exists {
			continue
		}
		old := findRemoval(st.Removals, host)
		if old != nil && old.Sequence > deployed[host] && (old.Volumes || !wanted[host]) {
			continue
		}
		changed = true
		st.Removals = slices.DeleteFunc(slices.Clone(st.Removals), func(o v1alpha1.HostRemoval) bool { return o.Host == host })
		st.Removals = append(st.Removals, v1alpha1.HostRemoval{Host: host, Sequence: next, Volumes: wanted[host]})
		st.Sequence = next
	}
	if s.env.Spec.Decommission != nil && (st.Current != nil || st.DecommissionedAt == nil) {
		changed = true
		at := metav1.NewMicroTime(s.now.Truncate(time.Microsecond))
		if st.Current != nil && !at.After(st.Current.AuthorizedAt.Time) { // whatever the clock says
			at = metav1.NewMicroTime(st.Current.AuthorizedAt.Add(time.Microsecond))
		}
		st.DecommissionedAt, st.Current, st.LastGood, st.Batch = &at, nil, nil, nil
	}
	if !changed {
		return nil
	}
	slices.SortFunc(st.Removals, func(a, b v1alpha1.HostRemoval) int { return strings.Compare(a.Host, b.Host) })
	if err := r.Status().Patch(ctx, s.env, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("number the removal: %w", err)
	}
	r.events.Eventf(s.env, nil, corev1.EventTypeWarning, "Removing", "Remove", "taken down on %s", strings.Join(slices.Sorted(maps.Keys(wanted)), ", "))
	return nil
}

// deployedSequences are the highest sequences of deployments, by host.
func deployedSequences(rollouts []v1alpha1.Rollout) map[string]int64 {
	out := map[string]int64{}
	for _, ro := range rollouts {
		if host := labelOf(ro.Namespace); ro.Spec.Remove == nil {
			out[host] = max(out[host], ro.Spec.Sequence)
		}
	}
	return out
}

// forgetRemovals drops orders that a later deployment has overtaken, and those to hosts that are gone.
func forgetRemovals(s *environmentState) {
	deployed := deployedSequences(s.rollouts)
	st := &s.env.Status
	st.Removals = slices.DeleteFunc(slices.Clone(st.Removals), func(o v1alpha1.HostRemoval) bool {
		_, exists := s.servers[o.Host]
		return !exists || deployed[o.Host] > o.Sequence
	})
	if len(st.Removals) == 0 {
		st.Removals = nil
	}
}

func findRemoval(list []v1alpha1.HostRemoval, host string) *v1alpha1.HostRemoval {
	for i := range list {
		if list[i].Host == host {
			return &list[i]
		}
	}
	return nil
}

// sendRemoval sends one order, if the Environment still says so when the cache is left aside.
func (r *environmentReconciler) sendRemoval(ctx context.Context, s *environmentState, removal v1alpha1.HostRemoval, host rollout.Host, last v1alpha1.Rollout) error {
	var env v1alpha1.Environment
	if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(s.env), &env); err != nil {
		return client.IgnoreNotFound(err)
	}
	volumes, wanted := removals(env, s.hosts, s.rollouts)[host.Name]
	if !wanted || env.UID != s.env.UID || !env.DeletionTimestamp.IsZero() || env.Spec.Suspend || removal.Volumes && !volumes {
		return nil // taken back in the meantime: the next event brings us back
	}
	spec := v1alpha1.RolloutSpec{
		Project: s.project.Name, ProjectUID: string(s.project.UID), Environment: s.env.Name, Release: last.Spec.Release,
		Sequence: removal.Sequence, BundleHash: last.Spec.BundleHash, ComposeProject: last.Spec.ComposeProject,
		ComposeHash: composefile.Hash(""), Images: []v1alpha1.ServiceImage{}, Remove: &v1alpha1.Removal{Volumes: removal.Volumes},
	}
	why := "removal: environment " + s.env.Name + " is decommissioned"
	if s.env.Spec.Decommission == nil {
		why = "removal: host " + host.Name + " does not match environment " + s.env.Name + " any more, and somebody asked for it"
	}
	return r.order(ctx, s, ownedMeta(s, spec, host.Name), spec, authorization.Host{Name: host.Name, UID: host.UID}, []string{why}, "")
}

// summariseDecommission says how far the removal is.
func (r *environmentReconciler) summariseDecommission(s *environmentState) {
	st := &s.env.Status
	st.Hold = nil
	var left []string
	done := 0
	newest := newestRollouts(s.rollouts)
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		ro := newest[name]
		if _, exists := s.servers[name]; !exists {
			continue
		}
		switch {
		case ro.Spec.Remove == nil:
			left = append(left, name+": not told yet")
		case ro.Status.Phase == v1alpha1.RolloutRemoved:
			done++
		default:
			left = append(left, strings.TrimRight(name+": "+phaseOr(ro.Status.Phase)+" "+ro.Status.Message, " "))
		}
	}
	if len(left) == 0 {
		message := fmt.Sprintf("taken down on %d host(s); take spec.decommission out to deploy again", done)
		was := findCondition(st.Conditions, v1alpha1.ConditionDecommissioned)
		if was == nil || was.Status != metav1.ConditionTrue {
			r.events.Eventf(s.env, nil, corev1.EventTypeNormal, v1alpha1.ReasonDecommissioned, "Remove", "%s", message)
		}
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionDecommissioned, true, v1alpha1.ReasonDecommissioned, message)
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonDecommissioned, message)
		return
	}
	message := strings.Join(left, "; ")
	setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionDecommissioned, false, v1alpha1.ReasonRemoving, message)
	setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonRemoving, message)
}

func phaseOr(phase string) string {
	if phase == "" {
		return v1alpha1.RolloutPending
	}
	return phase
}
