// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// unclaimedLife is how long a result that a webhook brought waits for a Release of its commit. GitLab, Harbor and SonarQube send
// webhooks of every branch, most of which nobody releases; and what Harbor said of an image before its commit was known in full stays
// behind when the Release goes.
const unclaimedLife = 30 * 24 * time.Hour

// expire deletes a result of a webhook's that is too old and of no Release's commit, once it is in the archive.
func (r *ciResultReconciler) expire(ctx context.Context, res *v1alpha1.CIResult, claimed bool) (ctrl.Result, error) {
	if claimed || !isOfHook(res) || !res.Status.Archived {
		return ctrl.Result{}, nil
	}
	if left := res.Spec.Received.Add(unclaimedLife).Sub(r.now()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	err := r.Delete(ctx, res, client.Preconditions{UID: &res.UID, ResourceVersion: &res.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete result: %w", err)
	}
	return ctrl.Result{}, nil
}

// isOfHook tells a result that a webhook brought.
func isOfHook(res *v1alpha1.CIResult) bool {
	switch res.Spec.Source {
	case v1alpha1.SourceGitLab, v1alpha1.SourceHarbor, v1alpha1.SourceSonarQube:
		return true
	}
	return false
}
