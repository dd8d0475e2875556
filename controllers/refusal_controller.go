// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// refusalMemory is how old a refusal may be to be told of when the controllers start: what happened while they were away.
const refusalMemory = 10 * time.Minute

// maxNote bounds the words of an agent in an event, in bytes; the API's bound is 1024.
const maxNote = 900

// refusalReconciler makes events of what agents refuse, on the host and on the environment: it may be an attack.
type refusalReconciler struct {
	client.Client
	events events.EventRecorder
}

// Reconcile tells of one refused Rollout.
func (r *refusalReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var ro v1alpha1.Rollout
	if err := r.Get(ctx, req.NamespacedName, &ro); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if ro.Status.Phase != v1alpha1.RolloutRejected {
		return ctrl.Result{}, nil
	}
	reason := refusalReason(&ro)
	note := ro.Status.Message
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	var host v1alpha1.Host
	name := ro.Namespace[min(len(ro.Namespace), len(v1alpha1.HostNamespacePrefix)):]
	if err := r.Get(ctx, client.ObjectKey{Name: name}, &host); err == nil {
		r.events.Eventf(&host, &ro, corev1.EventTypeWarning, reason, "Refuse", "refused %s of %s/%s: %s", ro.Name, ro.Spec.Project, ro.Spec.Environment, note)
	} else if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read host: %w", err)
	}
	var env v1alpha1.Environment
	if err := r.Get(ctx, client.ObjectKey{Namespace: ro.Spec.Project, Name: ro.Spec.Environment}, &env); err == nil {
		r.events.Eventf(&env, &ro, corev1.EventTypeWarning, reason, "Refuse", "host %s refused release %s, sequence %d: %s", name, ro.Spec.Release.Name, ro.Spec.Sequence, note)
	} else if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read environment: %w", err)
	}
	return ctrl.Result{}, nil
}

// refusalReason is the agent's, if it is one that an event can have.
func refusalReason(ro *v1alpha1.Rollout) string {
	if c := findCondition(ro.Status.Conditions, v1alpha1.ConditionStalled); c != nil && c.Reason != "" && len(c.Reason) <= 128 {
		return c.Reason
	}
	return v1alpha1.ReasonRejected
}

// refused lets a Rollout through when it is refused, or refused for another reason than before.
func refused(now func() time.Time) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			ro, ok := e.Object.(*v1alpha1.Rollout)
			if !ok || ro.Status.Phase != v1alpha1.RolloutRejected {
				return false
			}
			c := findCondition(ro.Status.Conditions, v1alpha1.ConditionStalled)
			return c != nil && now().Sub(c.LastTransitionTime.Time) < refusalMemory
		},
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*v1alpha1.Rollout)
			after, ok2 := e.ObjectNew.(*v1alpha1.Rollout)
			return ok1 && ok2 && after.Status.Phase == v1alpha1.RolloutRejected &&
				(before.Status.Phase != after.Status.Phase || refusalReason(before) != refusalReason(after))
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
