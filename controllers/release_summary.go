// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// reached is the farthest environment where the release is or was healthy and was not taken back.
func reached(bridge []v1alpha1.Environment, entries []v1alpha1.ReleaseEnvironment) string {
	for _, env := range slices.Backward(bridge) {
		if e := findEntry(entries, env.Name); e != nil && (e.HealthySince != nil || e.Phase == v1alpha1.PhaseUnhealthy) {
			return env.Name
		}
	}
	return ""
}

// setReleaseConditions sums up. Frozen, ApprovalsGuarded, Debt, Ready, Reconciling and Stalled are always set.
func setReleaseConditions(s snapshot, st *v1alpha1.ReleaseStatus) {
	gen := s.release.Generation
	if s.frozenMessage == "" {
		message := "every image is pinned to a digest"
		if s.project.IsModule() {
			message = "every artifact is in the package registry, POM and checksums verified"
		}
		setCondition(&st.Conditions, gen, v1alpha1.ConditionFrozen, true, v1alpha1.ReasonResolved, message)
	} else {
		setCondition(&st.Conditions, gen, v1alpha1.ConditionFrozen, false, s.frozenReason, s.frozenMessage)
	}
	setCondition(&st.Conditions, gen, v1alpha1.ConditionApprovalsGuarded, s.guard.ok, s.guard.reason(), s.guard.message)
	own := v1alpha1.Release{Status: *st}
	own.Name = s.release.Name
	if d := debts([]v1alpha1.Release{own}, s.gates); len(d) > 0 {
		setCondition(&st.Conditions, gen, v1alpha1.ConditionDebt, true, v1alpha1.ReasonGlassBroken,
			fmt.Sprintf("gate %s was opened in an emergency by %s: %s. It blocks other releases in %s until somebody else regularises it: kubectl sirrat regularise %s %s",
				d[0].Gate, d[0].User, d[0].Reason, gate.Place(d[0].Environment), s.release.Name, d[0].Gate))
	} else {
		setCondition(&st.Conditions, gen, v1alpha1.ConditionDebt, false, v1alpha1.ReasonNoDebt, "")
	}

	state := summariseRelease(s, *st)
	st.Next, st.Returned = state.next, state.returned
	setCondition(&st.Conditions, gen, v1alpha1.ConditionReady, state.reason == v1alpha1.ReasonCrossed || state.reason == v1alpha1.ReasonPublished, state.reason, state.next)
	setCondition(&st.Conditions, gen, v1alpha1.ConditionReconciling, state.reconciling, state.reason, state.next)
	setCondition(&st.Conditions, gen, v1alpha1.ConditionStalled, state.stalled, state.reason, state.next)
}

type releaseState struct {
	reason, next         string
	reconciling, stalled bool
	returned             *v1alpha1.Returned
}

// summariseRelease says in one line where the release stands: the first thing, in the order of the bridge, that is not
// done yet.
func summariseRelease(s snapshot, st v1alpha1.ReleaseStatus) releaseState {
	if len(s.gates) == 0 {
		return releaseState{reason: v1alpha1.ReasonWaiting, next: "the project has no gates: declare QualityGates, or set spec.template of the Project", stalled: true}
	}
	if e := findEntry(st.Environments, lastName(s.bridge)); e != nil {
		switch e.Phase {
		case v1alpha1.PhaseHealthy:
			return releaseState{reason: v1alpha1.ReasonCrossed, next: fmt.Sprintf("healthy in %s", e.Name)}
		case v1alpha1.PhaseSuperseded:
			return releaseState{reason: v1alpha1.ReasonSuperseded, next: e.Message}
		}
	}
	for _, v := range st.Gates {
		e := findEntry(st.Environments, v.Environment)
		switch {
		case e != nil && e.Phase == v1alpha1.PhaseReturned && takenBack(s, st, *e):
			return returnedState(s, st, v, *e)
		case e != nil && (e.Phase == v1alpha1.PhaseRolledBack || e.Phase == v1alpha1.PhaseFailed) && v.Verdict == v1alpha1.VerdictRefused:
			return releaseState{reason: v1alpha1.ReasonRolledBack, next: v.Message, stalled: true,
				returned: &v1alpha1.Returned{To: cmp.Or(st.Reached, development), Gate: v.Name, By: "server", Reason: v.Message}}
		case v.Verdict == v1alpha1.VerdictRefused:
			return refusedState(st, v)
		case v.Verdict == v1alpha1.VerdictWaiting:
			return releaseState{reason: v1alpha1.ReasonWaiting, next: "gate " + v.Name + ": " + gate.WaitingFor(v), reconciling: v.Until != nil, stalled: v.Until == nil}
		case e != nil && e.Phase != v1alpha1.PhaseHealthy && e.Phase != v1alpha1.PhaseSuperseded:
			return releaseState{reason: v1alpha1.ReasonCrossing, next: strings.TrimSuffix(fmt.Sprintf("%s in %s: %s", gate.Words(e.Phase), e.Name, e.Message), ": "), reconciling: true}
		}
	}
	if s.project.IsModule() {
		return summariseModule(s, st)
	}
	return releaseState{reason: v1alpha1.ReasonCrossing, next: "every gate passed", reconciling: true}
}

// takenBack says that what took a release back still stands. A rejection that was lifted leaves it waiting at the gate.
func takenBack(s snapshot, st v1alpha1.ReleaseStatus, e v1alpha1.ReleaseEnvironment) bool {
	return rejection(s.gates, st.Approvals, e.Name) != nil || refusal(s.pvs, e) != nil
}

// development is where a release is back when it takes a new commit.
const development = "development"

// returnedState is of a release that was taken back from an environment: the client's refusal leads to the environment
// before, a rejection to development.
func returnedState(s snapshot, st v1alpha1.ReleaseStatus, v v1alpha1.GateVerdict, e v1alpha1.ReleaseEnvironment) releaseState {
	if r := rejection(s.gates, st.Approvals, e.Name); r != nil {
		return releaseState{reason: v1alpha1.ReasonRejected, next: "back to development: " + e.Message, stalled: true,
			returned: &v1alpha1.Returned{To: development, Gate: r.Gate, By: r.User, Reason: r.Reason}}
	}
	to := cmp.Or(st.Reached, development)
	back := &v1alpha1.Returned{To: to, Gate: v.Name, By: "client", Reason: e.Message}
	if p := refusal(s.pvs, e); p != nil {
		back.By, back.Reason = p.Status.SignedBy, p.Status.Reason
	}
	return releaseState{reason: v1alpha1.ReasonPVRefused, next: fmt.Sprintf("back to %s: %s", to, e.Message), stalled: true, returned: back}
}

func refusedState(st v1alpha1.ReleaseStatus, v v1alpha1.GateVerdict) releaseState {
	reason, by, why := v1alpha1.ReasonRefused, "CI", v.Message
	for _, c := range v.Criteria {
		switch {
		case c.Reason == "Superseded":
			return releaseState{reason: v1alpha1.ReasonSuperseded, next: v.Message}
		case c.Reason == "Rejected":
			reason = v1alpha1.ReasonRejected
			for _, a := range st.Approvals {
				if a.Gate == v.Name && a.Decision == v1alpha1.DecisionRejected {
					by, why = a.User, a.Reason
				}
			}
		}
	}
	return releaseState{reason: reason, next: "back to development: gate " + v.Name + ": " + v.Message, stalled: true,
		returned: &v1alpha1.Returned{To: development, Gate: v.Name, By: by, Reason: why}}
}
