// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/signing"
)

// inviteReconciler sends the signatories of a PV their links to the signing page, and forgets the links afterwards. What
// goes wrong with mail holds nothing up: there are other ways to sign.
type inviteReconciler struct {
	client.Client
	page   *signing.Page
	events events.EventRecorder
}

// Reconcile looks at one PV.
func (r *inviteReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.PV
	if err := r.Get(ctx, req.NamespacedName, &p); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read PV: %w", err)
	}
	if p.UID == "" || p.Status.Decision != "" {
		again, err := r.page.Forget(ctx, req.NamespacedName)
		return ctrl.Result{RequeueAfter: again}, err
	}
	invited, err := r.page.Invite(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(invited.Failed) > 0 {
		r.events.Eventf(&p, nil, corev1.EventTypeWarning, "MailFailed", "Invite", "the link could not be mailed, it will be tried again: %s", strings.Join(invited.Failed, "; "))
	}
	if invited.Sent > 0 {
		r.events.Eventf(&p, nil, corev1.EventTypeNormal, "Invited", "Invite", "%d link(s) to sign mailed to the client", invited.Sent)
	}
	return ctrl.Result{RequeueAfter: invited.RetryAfter}, nil
}
