// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// summarise sets everything in the status that does not need the API.
func (r *environmentReconciler) summarise(s *environmentState, problem error) {
	st := &s.env.Status
	st.ObservedGeneration = s.env.Generation
	r.hold(s)
	r.rollback(s)
	summariseSuspension(s)
	st.Hosts = hostStates(s)
	st.HostsMatched = int32(len(s.hosts))
	st.HostsReady = 0
	if s.env.Spec.Decommission != nil {
		st.HostsSummary = fmt.Sprintf("0/%d", st.HostsMatched)
		r.summariseDecommission(s)
		return
	}
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionDecommissioned)
	if s.env.Spec.Hosts == nil {
		st.HostsSummary = "external"
		st.LastGood = externalGood(s, st)
		if problem != nil {
			setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, problem.Error())
			return
		}
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonExternal, "deployed by a pipeline, which reports to …/deployments")
		return
	}
	if st.Current != nil {
		var observed []rollout.Observed
		for _, ro := range s.rollouts {
			if ro.Spec.Sequence == st.Current.Sequence {
				observed = append(observed, observedRollout(ro))
			}
		}
		state := rollout.Summarise(s.hosts, observed, rollout.StrategyOf(s.env.Spec.Rollout), s.now)
		s.lookAt(state.At)
		st.HostsReady = state.Ready
		if state.Phase == v1alpha1.PhaseHealthy {
			st.LastGood = st.Current
		}
	}
	st.HostsSummary = fmt.Sprintf("%d/%d", st.HostsReady, st.HostsMatched)
	switch {
	case problem != nil:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, problem.Error())
	case s.env.Spec.Suspend:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonSuspended, suspender(*s.env))
	case len(s.hosts) == 0:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonNoMatchingHost,
			fmt.Sprintf("no Host carries the labels of spec.hosts and lists %s in spec.projects", s.project.Name))
	default:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonReady,
			fmt.Sprintf("%d host(s) serve this environment", len(s.hosts)))
	}
}

// hold tells whether gates are kept from opening by themselves.
func (r *environmentReconciler) hold(s *environmentState) {
	st := &s.env.Status
	before := st.Hold
	st.Hold = holdOn(*s.env, s.releases, nil)
	if st.Hold == nil {
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionHeld, false, v1alpha1.ReasonNotHeld, "")
		return
	}
	message := fmt.Sprintf("release %s %s. Nothing opens by itself until somebody resumes: kubectl sirrat resume %s", st.Hold.Release, st.Hold.Message, s.env.Name)
	setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionHeld, true, v1alpha1.ReasonRolledBack, message)
	if before == nil || before.ID != st.Hold.ID {
		r.events.Eventf(s.env, nil, corev1.EventTypeWarning, "Held", "Hold", "%s", message)
	}
}

// externalGood is the current release of an environment without agents, once its pipeline reported it.
func externalGood(s *environmentState, st *v1alpha1.EnvironmentStatus) *v1alpha1.EnvironmentRelease {
	if st.Current == nil {
		return st.LastGood
	}
	for _, rel := range s.releases {
		if e := findEntry(rel.Status.Environments, s.env.Name); e != nil && string(rel.UID) == st.Current.UID && e.Phase == v1alpha1.PhaseHealthy {
			return st.Current
		}
	}
	return st.LastGood
}
