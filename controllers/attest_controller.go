// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// A registry that does not take an attestation is asked again after attestRetry, then after twice as long each time, up to
// attestRetryMost.
const (
	attestRetry     = 2 * time.Second
	attestRetryMost = 5 * time.Minute
)

// attestReconciler attaches to the images, in the registry, what the release's status says is to be attached. It decides
// nothing and holds nothing up. One worker, in the one replica that leads: lists that a registry keeps in a tag are written
// by one at a time.
type attestReconciler struct {
	client.Client
	events  events.EventRecorder
	key     *envelope.Changing
	backoff *flowcontrol.Backoff
	now     func() time.Time

	registries registries
}

// Reconcile attaches what waits for it.
func (r *attestReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	waits := slices.ContainsFunc(release.Status.Attestations, func(a v1alpha1.AttestationRecord) bool { return a.Statement != "" })
	if !waits || !attests(&project) || !release.DeletionTimestamp.IsZero() || release.Status.Bundle == nil {
		return ctrl.Result{}, nil
	}
	images, err := r.registries.of(ctx, &project)
	if err != nil {
		return ctrl.Result{}, err
	}
	base := release.DeepCopy()
	problem, err := r.attach(ctx, &release, images)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.write(ctx, &release, base, problem); err != nil {
		return ctrl.Result{}, err
	}
	if problem == nil {
		r.backoff.Reset(req.String())
		return ctrl.Result{}, nil
	}
	r.backoff.Next(req.String(), r.now())
	after := r.backoff.Get(req.String())
	log.FromContext(ctx).Info("attaching will be tried again", "after", after.String(), "cause", problem.Error())
	return ctrl.Result{RequeueAfter: after}, nil
}

// attach attaches what waits, one after the other; problem is what the registry had against one, and the rest waits on: a
// registry that does not answer keeps the worker no longer than one call.
func (r *attestReconciler) attach(ctx context.Context, release *v1alpha1.Release, images *registry.Client) (problem, err error) {
	key := r.key.Present()
	var kept []v1alpha1.AttestationRecord
	for _, record := range release.Status.Attestations {
		if record.Statement == "" || problem != nil {
			kept = append(kept, record)
			continue
		}
		artifact, err := r.artifact(ctx, release.Namespace, record, key)
		if apierrors.IsNotFound(err) {
			continue // the PV is gone: there is nothing to attach any more
		}
		if err != nil {
			return nil, err
		}
		if err := attachAll(ctx, images, release.Status.Bundle.Images, artifact); err != nil {
			problem = fmt.Errorf("%s: %w", attested(record), err)
		} else {
			record.Statement = ""
		}
		kept = append(kept, record)
	}
	release.Status.Attestations = kept
	return problem, nil
}

func attachAll(ctx context.Context, images *registry.Client, frozen []v1alpha1.FrozenImage, artifact registry.Artifact) error {
	for _, img := range frozen {
		if _, _, err := images.Attach(ctx, img.Repository, img.Digest, artifact); err != nil {
			return err
		}
	}
	return nil
}

// artifact signs a statement and puts it together with what it is about.
func (r *attestReconciler) artifact(ctx context.Context, namespace string, record v1alpha1.AttestationRecord, key crypto.Signer) (registry.Artifact, error) {
	signed, err := attestation.Sign(ctx, record.Statement, key)
	if err != nil {
		return registry.Artifact{}, fmt.Errorf("sign %s: %w", attested(record), err)
	}
	if record.PV == "" {
		return registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: []byte(signed)}}}, nil
	}
	var p v1alpha1.PV
	if err := r.Get(ctx, client.ObjectKey{Namespace: namespace, Name: record.PV}, &p); err != nil {
		return registry.Artifact{}, fmt.Errorf("read PV: %w", err)
	}
	a := registry.Artifact{Type: attestation.DecisionArtifact, Layers: []registry.ArtifactLayer{
		{MediaType: attestation.DecisionLayer, Data: []byte(signed)},
		{MediaType: attestation.DocumentLayer, Data: []byte(p.Spec.Document)},
	}}
	if p.Status.Method != v1alpha1.MethodPaper && p.Spec.Signature != "" {
		a.Layers = append(a.Layers, registry.ArtifactLayer{MediaType: attestation.SignatureLayer, Data: []byte(p.Spec.Signature)})
	}
	return a, nil
}

// write says how far it is, if that changed, and tells a problem once.
func (r *attestReconciler) write(ctx context.Context, release, base *v1alpha1.Release, problem error) error {
	conditions := &release.Status.Conditions
	if problem == nil {
		setCondition(conditions, release.Generation, v1alpha1.ConditionAttested, true, v1alpha1.ReasonAttached, "every proof is attached to the images")
	} else {
		setCondition(conditions, release.Generation, v1alpha1.ConditionAttested, false, v1alpha1.ReasonRegistryError, problem.Error()+"; it is tried again")
	}
	if sameStatus(base.Status, release.Status) {
		return nil
	}
	if err := writeStatus(ctx, r.Client, release, base, false); err != nil {
		return err
	}
	if problem != nil {
		r.events.Eventf(release, nil, corev1.EventTypeWarning, "AttestFailed", "Attest", "%s", problem)
	}
	return nil
}
