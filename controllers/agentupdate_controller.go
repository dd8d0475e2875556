// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Times of updates.
const (
	// statementLeft is how long a statement must be valid still; then it is signed anew, under the same order.
	statementLeft = agentupdate.Validity / 2
	// unpublishedRetry is the wait for a version that is not published yet.
	unpublishedRetry = time.Minute
)

// agentUpdateReconciler orders the agents of Hosts that name a version to become it: a signed statement in a ConfigMap of the
// host's namespace, and on the Lease the order's name, which reaches the agent with the answer to its heartbeat.
type agentUpdateReconciler struct {
	client.Client
	events    events.EventRecorder
	key       crypto.Signer
	verifiers func() []envelope.PublicKey
	files     *agentfiles.Files
	url       string
	now       func() time.Time
}

// Reconcile makes the order of one Host.
func (r *agentUpdateReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var host v1alpha1.Host
	if err := r.Get(ctx, req.NamespacedName, &host); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	version := host.Spec.AgentVersion
	if version == "" || !host.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the agent stays as it is
	}
	var lease coordinationv1.Lease
	if err := r.Get(ctx, client.ObjectKey{Namespace: v1alpha1.HostNamespace(host.Name), Name: v1alpha1.AgentLease}, &lease); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // nobody to tell before the first heartbeat
	}
	binaries, err := r.files.Describe(version)
	if errors.Is(err, agentfiles.ErrUnknown) {
		r.events.Eventf(&host, nil, corev1.EventTypeWarning, v1alpha1.ReasonAgentNotPublished, "UpdateAgent",
			"%s is not published: sirrat agent publish --version %s FILE", version, version)
		return ctrl.Result{RequeueAfter: unpublishedRetry}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	order, err := orderName(version, binaries, host.Annotations[v1alpha1.AnnotationAgentUpdate])
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.publish(ctx, &host, agentupdate.Statement{Version: version, Binaries: binaries}); err != nil {
		return ctrl.Result{}, err
	}
	if lease.Annotations[v1alpha1.AnnotationAgentUpdate] != order {
		base := lease.DeepCopy()
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, v1alpha1.AnnotationAgentUpdate, order)
		if err := r.Patch(ctx, &lease, client.MergeFrom(base)); err != nil {
			return ctrl.Result{}, fmt.Errorf("order the agent's update: %w", err)
		}
		r.events.Eventf(&host, nil, corev1.EventTypeNormal, v1alpha1.ReasonAgentUpdateOrdered, "UpdateAgent", "the agent is to become %s", version)
	}
	return ctrl.Result{RequeueAfter: statementLeft}, nil
}

// orderName is the same for the same order, however often its statement is signed anew.
func orderName(version string, binaries map[string]agentupdate.Binary, again string) (string, error) {
	text, err := json.Marshal([]any{version, binaries, again})
	if err != nil {
		return "", fmt.Errorf("encode order: %w", err)
	}
	return envelope.Hash(text), nil
}

// publish puts the signed statement where the agent reads it, unless one that says the same is there and valid for long.
func (r *agentUpdateReconciler) publish(ctx context.Context, host *v1alpha1.Host, s agentupdate.Statement) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentUpdateConfigMap, Namespace: v1alpha1.HostNamespace(host.Name)}}
	_, err := controllerutil.CreateOrPatch(ctx, r.Client, m, func() error {
		there, err := agentupdate.Verify(ctx, m.Data[v1alpha1.AgentUpdateStatement], r.now().Add(statementLeft), r.verifiers())
		if err != nil || there.Version != s.Version || !maps.Equal(there.Binaries, s.Binaries) || m.Data[v1alpha1.AgentUpdateURL] != r.url {
			text, err := agentupdate.Sign(ctx, s, r.now(), r.key)
			if err != nil {
				return err
			}
			m.Data = map[string]string{v1alpha1.AgentUpdateStatement: text, v1alpha1.AgentUpdateURL: r.url}
		}
		return controllerutil.SetControllerReference(host, m, r.Scheme())
	})
	if err != nil {
		return fmt.Errorf("publish the agent's update: %w", err)
	}
	return nil
}

func setupAgentUpdate(mgr manager.Manager, r *agentUpdateReconciler) error {
	wanted := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Host)
		after, ok2 := e.ObjectNew.(*v1alpha1.Host)
		return !ok || !ok2 || before.Spec.AgentVersion != after.Spec.AgentVersion ||
			before.Annotations[v1alpha1.AnnotationAgentUpdate] != after.Annotations[v1alpha1.AnnotationAgentUpdate]
	}}
	// A Lease matters when it comes to be, not at each heartbeat.
	born := predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }, DeleteFunc: func(event.DeleteEvent) bool { return false }}
	return ctrl.NewControllerManagedBy(mgr).Named("agent-update").For(&v1alpha1.Host{}, builder.WithPredicates(wanted)).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			name := o.GetNamespace()
			if len(name) <= len(v1alpha1.HostNamespacePrefix) || o.GetName() != v1alpha1.AgentLease {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name[len(v1alpha1.HostNamespacePrefix):]}}}
		}), builder.WithPredicates(born)).
		Complete(patient{r})
}
