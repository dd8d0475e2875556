// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// wayBack is the annotation sirrat.dynors.com/rollback: which release to go back to, which one to leave (by the moment at
// which it was let in, so that the order is good once), and who says so.
type wayBack struct {
	uid    string
	leaves time.Time
	note   string
}

// parseWayBack reads "<uid>@<time>: <who>: <why>". What cannot be read is no order.
func parseWayBack(value string) (wayBack, bool) {
	head, note, noted := strings.Cut(value, ": ")
	uid, text, found := strings.Cut(head, "@")
	at, err := time.Parse(metav1.RFC3339Micro, text)
	return wayBack{uid, at, note}, found && noted && err == nil && uid != "" && note != ""
}

// leaving is what an order to go back must name: when the present release was let in, or when the environment was taken down.
func leaving(env v1alpha1.Environment) (time.Time, bool) {
	switch {
	case env.Status.Current != nil:
		return env.Status.Current.AuthorizedAt.Time, true
	case env.Status.DecommissionedAt != nil:
		return env.Status.DecommissionedAt.Time, true
	}
	return time.Time{}, false
}

// mayReturn says why a release may not be let into an environment again although its gates had let it in once; "" when it may:
// it was healthy there until another took its place, nothing of what was approved has changed, and nobody objected since.
func mayReturn(env v1alpha1.Environment, back wayBack, entry *v1alpha1.ReleaseEnvironment, hash string) string {
	at, known := leaving(env)
	switch {
	case env.Spec.Hosts == nil:
		return "a pipeline deploys to " + env.Name + ": let it deploy the earlier release and report it"
	case env.Spec.Decommission != nil:
		return "environment " + env.Name + " is decommissioned"
	case !known || !at.Equal(back.leaves):
		return "the order is for leaving another release than the present one: give it again"
	case entry == nil || entry.HealthySince == nil:
		return "it was never healthy in " + env.Name
	case entry.Phase != v1alpha1.PhaseSuperseded:
		return "it is " + gate.Words(entry.Phase) + " in " + env.Name
	case hash == "" || hash != entry.BundleHash:
		return "compose file, values or secrets of " + env.Name + " are not those with which it was approved: put them back, or release anew"
	}
	return ""
}

// honourRollbacks lets the release into environments again, where somebody orders the way back to it.
func honourRollbacks(s snapshot, st *v1alpha1.ReleaseStatus) {
	for _, env := range s.bridge {
		value := env.Annotations[v1alpha1.AnnotationRollback]
		back, ok := parseWayBack(value)
		entry := findEntry(st.Environments, env.Name)
		if !ok || back.uid != string(s.release.UID) || !s.guard.ok || entry == nil {
			continue
		}
		hash := bundleHash(st.Bundle, env.Name)
		if mayReturn(env, back, entry, hash) != "" || rejection(s.gates, st.Approvals, env.Name) != nil || refusal(s.pvs, *entry) != nil {
			continue
		}
		st.Environments = putEntry(s.bridge, st.Environments, v1alpha1.ReleaseEnvironment{
			Name: env.Name, Phase: v1alpha1.PhaseAuthorized, BundleHash: hash, Retry: entry.Retry, Rollback: value,
			AuthorizedAt: authorizedAt(s, env.Name, entry), Message: "rolled back to it by " + back.note,
		})
	}
}

// returning says that the entry was let in by an order to go back and not sent yet: the verdict of its gates is the one they
// gave before.
func returning(e v1alpha1.ReleaseEnvironment, hash string) bool {
	return e.Rollback != "" && e.Phase == v1alpha1.PhaseAuthorized && e.BundleHash == hash
}

// leftFor says to which release, and why, the entry's release was left on purpose; "" if it was not.
func leftFor(siblings []v1alpha1.Release, e v1alpha1.ReleaseEnvironment) string {
	for _, other := range siblings {
		o := findEntry(other.Status.Environments, e.Name)
		if o == nil || o.Rollback == "" {
			continue
		}
		if back, ok := parseWayBack(o.Rollback); ok && back.leaves.Equal(e.AuthorizedAt.Time) {
			return fmt.Sprintf("taken back to %s by %s", other.Name, back.note)
		}
	}
	return ""
}

// rollback tells what became of the order to go back.
func (r *environmentReconciler) rollback(s *environmentState) {
	st := &s.env.Status
	value := s.env.Annotations[v1alpha1.AnnotationRollback]
	if value == "" {
		return // what was told last stays
	}
	state := &v1alpha1.RollbackState{ID: value, Message: "the order cannot be read"}
	if back, ok := parseWayBack(value); ok {
		state.Message = "there is no such release"
		for _, rel := range s.releases {
			if string(rel.UID) != back.uid {
				continue
			}
			state.Release = rel.Name
			entry := findEntry(rel.Status.Environments, s.env.Name)
			if entry != nil && entry.Rollback == value || st.Rollback != nil && st.Rollback.ID == value && st.Rollback.Accepted {
				state.Accepted, state.Message = true, ""
			} else {
				state.Message = mayReturn(*s.env, back, entry, bundleHash(rel.Status.Bundle, s.env.Name))
			}
		}
	}
	if state.Accepted && (st.Rollback == nil || st.Rollback.ID != value || !st.Rollback.Accepted) {
		back, _ := parseWayBack(value)
		r.events.Eventf(s.env, nil, corev1.EventTypeWarning, "RollingBack", "Rollback", "back to release %s: %s", state.Release, back.note)
	}
	st.Rollback = state
}
