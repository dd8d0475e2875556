// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// logsReconciler makes an event of the Host of every request for log lines that its agent has answered: who asked, for what,
// and whether it was refused.
type logsReconciler struct {
	client.Client
	events events.EventRecorder
}

// Reconcile tells what the answer in a Rollout's status is about.
func (r *logsReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var rollout v1alpha1.Rollout
	if err := r.Get(ctx, req.NamespacedName, &rollout); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	logs := rollout.Status.Logs
	name, isHost := strings.CutPrefix(rollout.Namespace, v1alpha1.HostNamespacePrefix)
	if logs == nil || logs.Expired || !isHost {
		return ctrl.Result{}, nil
	}
	var host v1alpha1.Host
	if err := r.Get(ctx, client.ObjectKey{Name: name}, &host); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	what := rollout.Spec.Project + "/" + rollout.Spec.Environment
	if logs.Service != "" {
		what += " " + logs.Service
	}
	if logs.Refused != "" {
		r.events.Eventf(&host, &rollout, corev1.EventTypeWarning, v1alpha1.ReasonLogsRefused, "ReadLogs",
			"%s asked for log lines of %s and was refused: %s", logs.User, what, logs.Refused)
		return ctrl.Result{}, nil
	}
	r.events.Eventf(&host, &rollout, corev1.EventTypeNormal, v1alpha1.ReasonLogsShown, "ReadLogs", "%s was shown log lines of %s", logs.User, what)
	return ctrl.Result{}, nil
}

// logsAnswered lets the first answer to a request through, and not the ones that follow while somebody watches. What was
// there before a start was told then.
func logsAnswered() predicate.Predicate {
	asked := func(o client.Object) string {
		rollout, ok := o.(*v1alpha1.Rollout)
		if !ok || rollout.Status.Logs == nil {
			return ""
		}
		id, _, _ := strings.Cut(rollout.Status.Logs.ID, ".")
		return rollout.Status.Logs.User + " " + id
	}
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			now := asked(e.ObjectNew)
			return now != "" && now != asked(e.ObjectOld)
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

func setupLogs(mgr manager.Manager, r *logsReconciler) error {
	return ctrl.NewControllerManagedBy(mgr).Named("logs").For(&v1alpha1.Rollout{}, builder.WithPredicates(logsAnswered())).Complete(patient{r})
}
