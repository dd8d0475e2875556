// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// ciResultReconciler tells, on each CIResult, whether it counts. It decides nothing: the Release's status does.
type ciResultReconciler struct {
	client.Client
	// fresh reads past the cache, which leaves the reports out.
	fresh   client.Reader
	journal journalWriter
	now     func() time.Time
}

// Reconcile looks at one result.
func (r *ciResultReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var res v1alpha1.CIResult
	if err := r.Get(ctx, req.NamespacedName, &res); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var releases v1alpha1.ReleaseList
	if err := r.List(ctx, &releases, client.InNamespace(req.Namespace), client.MatchingFields{indexCommit: v1alpha1.ShortSHA(res.Spec.Commit)}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list releases: %w", err)
	}
	var results v1alpha1.CIResultList
	if err := r.List(ctx, &results, client.InNamespace(req.Namespace), client.UnsafeDisableDeepCopy, // read only
		client.MatchingFields{indexCommit: v1alpha1.ShortSHA(res.Spec.Commit)}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list results: %w", err)
	}
	base := res.DeepCopy()
	claimed := describeResult(&res, releases.Items, results.Items)
	if !res.Status.Archived {
		if err := r.archive(ctx, &res); err != nil {
			return ctrl.Result{}, err
		}
	}
	if !sameStatus(base.Status, res.Status) {
		if err := r.Status().Patch(ctx, &res, client.MergeFrom(base)); err != nil {
			return ctrl.Result{}, fmt.Errorf("write status: %w", err)
		}
	}
	return r.expire(ctx, &res, claimed)
}

// archive records the result with the report as it was received.
func (r *ciResultReconciler) archive(ctx context.Context, res *v1alpha1.CIResult) error {
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: res.Namespace}, &project); err != nil {
		return fmt.Errorf("read project: %w", err)
	}
	var whole v1alpha1.CIResult
	if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(res), &whole); err != nil {
		return client.IgnoreNotFound(err)
	}
	if err := r.journal.Append(ctx, resultFact(&project, &whole)); err != nil {
		return err
	}
	res.Status.Archived = true
	return nil
}

// describeResult says what the result counts for, and whether there is a Release of its commit. results are all that share the
// first digits of it, this one among them.
func describeResult(res *v1alpha1.CIResult, releases []v1alpha1.Release, results []v1alpha1.CIResult) (claimed bool) {
	set := func(ok bool, reason, message string) {
		setCondition(&res.Status.Conditions, res.Generation, v1alpha1.ConditionReady, ok, reason, message)
	}
	for _, rel := range releases {
		if !strings.HasPrefix(rel.Spec.Commit, res.Spec.Commit) {
			continue
		}
		res.Status.Release = rel.Name
		switch {
		case res.Spec.Type == v1alpha1.TypeDeployment:
			set(true, v1alpha1.ReasonCounted, "recorded for "+res.Spec.Environment)
		case slices.Contains(rel.Status.Evidence, res.Name):
			set(true, v1alpha1.ReasonCounted, "part of the evidence on release "+rel.Name)
		case isReplaced(res, &rel, results):
			set(true, v1alpha1.ReasonReplaced, "a newer run of type "+res.Spec.Type+" counts instead")
		default:
			set(false, v1alpha1.ReasonAwaiting, "waits to be judged")
		}
		return true
	}
	set(false, v1alpha1.ReasonAwaiting, "no Release has this commit")
	return false
}

// isReplaced tells a result that counts for nothing, since others of its type do, which the release was judged by. One that the
// release was not judged with yet is none: who sent it waits for that.
func isReplaced(res *v1alpha1.CIResult, rel *v1alpha1.Release, results []v1alpha1.CIResult) bool {
	same := slices.DeleteFunc(slices.Clone(results), func(other v1alpha1.CIResult) bool { return other.Spec.Type != res.Spec.Type })
	counted := evidence.On(rel, same)
	unjudged := func(name string) bool { return !slices.Contains(rel.Status.Evidence, name) }
	return len(counted) > 0 && !slices.ContainsFunc(counted, unjudged)
}
