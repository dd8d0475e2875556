// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// qualityGateReconciler sums up, for people, what the releases' verdicts say of a gate. It decides nothing.
type qualityGateReconciler struct {
	client.Client
	journal journalWriter
}

// Reconcile sums up one gate.
func (r *qualityGateReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var g v1alpha1.QualityGate
	if err := r.Get(ctx, req.NamespacedName, &g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var envs v1alpha1.EnvironmentList
	if err := r.List(ctx, &envs, client.InNamespace(g.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list environments: %w", err)
	}
	var releases v1alpha1.ReleaseList
	if err := r.List(ctx, &releases, client.InNamespace(g.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list releases: %w", err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: g.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if g.Status.ObservedGeneration != g.Generation {
		if err := r.journal.Append(ctx, gateFact(&project, &g)); err != nil {
			return ctrl.Result{}, err
		}
	}
	base := g.DeepCopy()
	sumUpGate(&g, project.IsModule(), envs.Items, releases.Items)
	if sameStatus(base.Status, g.Status) {
		return ctrl.Result{}, nil
	}
	if err := writeStatus(ctx, r.Client, &g, base, false); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, nil
}

// sumUpGate shows the newest release that this gate has something to say about: the newest that reached it, or, while
// none has, the newest of all.
func sumUpGate(g *v1alpha1.QualityGate, module bool, envs []v1alpha1.Environment, releases []v1alpha1.Release) {
	st := v1alpha1.QualityGateStatus{ObservedGeneration: g.Generation, Conditions: g.Status.Conditions}
	bridge, _ := orderBridge(envs)
	after := ""
	exists := false
	for _, e := range bridge {
		if e.Name == g.Spec.Environment {
			after, exists = e.Spec.After, true
		}
	}
	var shown *v1alpha1.Release
	var verdict v1alpha1.GateVerdict
	shownHere := false
	for i := range releases {
		rel := &releases[i]
		for _, v := range rel.Status.Gates {
			if v.Name != g.Name {
				continue
			}
			here := after == "" || findEntry(rel.Status.Environments, after) != nil
			if here {
				switch v.Verdict {
				case v1alpha1.VerdictPassed:
					st.Passed++
				case v1alpha1.VerdictRefused:
					st.Refused++
				default:
					st.Waiting++
				}
			}
			if shown == nil || here && !shownHere || here == shownHere && newerRelease(rel, shown) {
				shown, verdict, shownHere = rel, v, here
			}
		}
	}
	if shown != nil {
		st.Release, st.Verdict, st.WaitingFor = shown.Name, verdict.Verdict, gate.WaitingFor(verdict)
	}
	problem := gate.Problem(g.Spec)
	switch {
	case problem != "":
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, problem)
	case g.Spec.Environment == publication && !module:
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid,
			"spec.environment: a gate without one guards the publication of a module, and the project is none (spec.maven, no images)")
	case g.Spec.Environment == publication:
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonReady, "guards the publication of the module")
	case module:
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid,
			"spec.environment: the project is a module, of which nothing is deployed; its gates guard no environment")
	case !exists:
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid,
			"spec.environment: "+g.Spec.Environment+" is not an Environment of this bridge")
	default:
		setCondition(&st.Conditions, g.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonReady, "guards "+g.Spec.Environment)
	}
	g.Status = st
}

// newerRelease orders by creation; in the same second by name.
func newerRelease(a, b *v1alpha1.Release) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return b.CreationTimestamp.Before(&a.CreationTimestamp)
	}
	return a.Name > b.Name
}
