// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// whenReleaseChanges lets an update of a Release through when what matters to the watcher changed.
func whenReleaseChanges(matters func(*v1alpha1.Release) any) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Release)
		after, ok2 := e.ObjectNew.(*v1alpha1.Release)
		return !ok || !ok2 || !sameStatus(matters(before), matters(after))
	}}
}

func environmentsChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return []any{r.Status.Environments, r.Status.Mirrors, r.Spec.Version} })
}

func verdictsChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return []any{r.Status.Gates, r.Status.Environments} })
}

func evidenceChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return r.Status.Evidence })
}

func attestationsChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return r.Status.Attestations })
}

// countsChanged is about what a Project sums up of a Release.
func countsChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any { return []any{r.Status.Karma, r.Status.Approvals} })
}

// placesChanged lets an update of an Environment through when its declaration, its hosts or the release in it changed: what
// else its status says matters to no release.
func placesChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Environment)
		after, ok2 := e.ObjectNew.(*v1alpha1.Environment)
		if !ok || !ok2 || before.Generation != after.Generation {
			return true
		}
		for _, key := range []string{v1alpha1.AnnotationResume, v1alpha1.AnnotationRollback} {
			if before.Annotations[key] != after.Annotations[key] {
				return true
			}
		}
		return !sameStatus(place(before.Status), place(after.Status))
	}}
}

// place is what releases read of an Environment's status. Of hosts, what keeps them: their progress comes with Rollouts.
func place(s v1alpha1.EnvironmentStatus) []any {
	rollback, messages := "", []string{}
	if s.Rollback != nil && s.Rollback.Accepted {
		rollback = s.Rollback.ID
	}
	for _, h := range s.Hosts {
		messages = append(messages, h.Message)
	}
	return []any{s.LastGood, s.HostsMatched, s.Hold, s.DecommissionedAt, rollback, messages}
}

// declarationChanged lets an update of a Project through when its declaration or its debts changed.
func declarationChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Project)
		after, ok2 := e.ObjectNew.(*v1alpha1.Project)
		return !ok || !ok2 || before.Generation != after.Generation || !sameStatus(before.Status.Debts, after.Status.Debts)
	}}
}

// inProject leaves out what cannot be part of a bundle: objects of hosts and of the system, API tokens.
func inProject() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		ns := o.GetNamespace()
		if strings.HasPrefix(ns, "kube-") || strings.HasPrefix(ns, v1alpha1.HostNamespacePrefix) || ns == v1alpha1.SystemNamespace {
			return false
		}
		if s, ok := o.(*corev1.Secret); ok && s.Labels[v1alpha1.LabelToken] != "" {
			return false
		}
		return o.GetName() != "kube-root-ca.crt"
	})
}
