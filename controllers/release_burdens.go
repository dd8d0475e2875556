// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// holdOn is the hold of an environment: the release that was let in last, of these, failed there, and nobody has resumed
// since. The release that is judged, if any, is not among them, so that it may be tried again itself.
func holdOn(env v1alpha1.Environment, releases []v1alpha1.Release, own *v1alpha1.Release) *v1alpha1.Hold {
	if keep := env.Spec.HoldAfterRollback; keep != nil && !*keep {
		return nil
	}
	var last *v1alpha1.Release
	var entry *v1alpha1.ReleaseEnvironment
	for i := range releases {
		if e := findEntry(releases[i].Status.Environments, env.Name); e != nil && (entry == nil || entry.AuthorizedAt.Before(&e.AuthorizedAt)) {
			last, entry = &releases[i], e
		}
	}
	if entry == nil || entry.Phase != v1alpha1.PhaseRolledBack && entry.Phase != v1alpha1.PhaseFailed {
		return nil
	}
	if resumed(env, releases, own, entry.AuthorizedAt) {
		return nil
	}
	return &v1alpha1.Hold{ID: fmt.Sprintf("%s@%s", last.UID, formatMicro(entry.AuthorizedAt)), Release: last.Name, Message: gate.Words(entry.Phase) + ": " + entry.Message}
}

// resumed says that somebody lifted the hold by a failure of that time, or that of a release that failed later: who lifted
// the one does not have to lift the other again when the release that failed later is tried anew or goes away.
func resumed(env v1alpha1.Environment, releases []v1alpha1.Release, own *v1alpha1.Release, failed metav1.MicroTime) bool {
	uid, text, _ := strings.Cut(env.Annotations[v1alpha1.AnnotationResume], "@")
	at, err := time.Parse(metav1.RFC3339Micro, text)
	known := own != nil && string(own.UID) == uid || slices.ContainsFunc(releases, func(r v1alpha1.Release) bool { return string(r.UID) == uid })
	return known && err == nil && !at.Before(failed.Time)
}

// debtsAt are the debts of other releases at gates that guard the environment.
func debtsAt(s snapshot, environment string) []v1alpha1.Debt {
	var out []v1alpha1.Debt
	for _, d := range debts(s.siblings, s.gates) {
		if d.Environment == environment {
			out = append(out, d)
		}
	}
	return out
}

// debts are the gates that were opened in an emergency and not regularised since, by release and gate: what was said before
// settles nothing.
func debts(releases []v1alpha1.Release, gates []v1alpha1.QualityGate) []v1alpha1.Debt {
	var out []v1alpha1.Debt
	for _, r := range releases {
		for _, a := range r.Status.Approvals {
			if !brokeGlass(a) || slices.ContainsFunc(r.Status.Approvals, func(b v1alpha1.ApprovalRecord) bool {
				return b.Decision == v1alpha1.DecisionRegularised && b.Gate == a.Gate && b.Stale == "" && !b.Time.Before(&a.Time)
			}) {
				continue
			}
			d := v1alpha1.Debt{Release: r.Name, Gate: a.Gate, User: a.User, Reason: a.Reason}
			for _, g := range gates {
				if g.Name == a.Gate {
					d.Environment = g.Spec.Environment
				}
			}
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.Debt) int {
		return cmp.Or(strings.Compare(a.Release, b.Release), strings.Compare(a.Gate, b.Gate))
	})
	return out
}

// brokeGlass says that a record is of a break-glass that counts: it opened a gate, or could have, whatever became of it.
func brokeGlass(a v1alpha1.ApprovalRecord) bool {
	return a.Decision == v1alpha1.DecisionBrokeGlass && a.Stale != staleUnprotected
}
