// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// supplier is the party that delivers, as printed in PVs.
const supplier = "DYNORS"

// pvOpener opens a PV when the client's acceptance of a release begins: when it is healthy in the environment before a
// gate that asks for a PV.
type pvOpener struct {
	client.Client
	events events.EventRecorder
	now    func() time.Time
}

// Reconcile looks at one Release.
func (r *pvOpener) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var rel v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &rel); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var p v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: rel.Namespace}, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !p.DeletionTimestamp.IsZero() || !rel.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	var gates v1alpha1.QualityGateList
	if err := r.List(ctx, &gates, client.InNamespace(rel.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list gates: %w", err)
	}
	for _, g := range gates.Items {
		if !slices.ContainsFunc(g.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.PV != nil }) {
			continue
		}
		var guarded v1alpha1.Environment
		if err := r.Get(ctx, client.ObjectKey{Namespace: rel.Namespace, Name: g.Spec.Environment}, &guarded); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return ctrl.Result{}, fmt.Errorf("read environment: %w", err)
		}
		if err := r.open(ctx, &p, &rel, guarded.Spec.After); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

func (r *pvOpener) open(ctx context.Context, p *v1alpha1.Project, rel *v1alpha1.Release, environment string) error {
	entry := findEntry(rel.Status.Environments, environment)
	if entry == nil || entry.Phase != v1alpha1.PhaseHealthy {
		return nil
	}
	var pvs v1alpha1.PVList
	if err := r.List(ctx, &pvs, client.InNamespace(rel.Namespace), client.MatchingFields{indexRelease: string(rel.UID)}); err != nil {
		return fmt.Errorf("list pvs: %w", err)
	}
	for _, have := range pvs.Items {
		if have.Spec.Environment == environment && have.Spec.Release.AuthorizedAt.Equal(&entry.AuthorizedAt) {
			return nil
		}
	}
	var env v1alpha1.Environment
	if err := r.Get(ctx, client.ObjectKey{Namespace: rel.Namespace, Name: environment}, &env); err != nil {
		return fmt.Errorf("read environment: %w", err)
	}
	var sameName v1alpha1.PVList // of an earlier release of the same name too: PVs outlive their releases
	if err := r.List(ctx, &sameName, client.InNamespace(rel.Namespace), client.MatchingLabels{v1alpha1.LabelRelease: rel.Name}); err != nil {
		return fmt.Errorf("list pvs: %w", err)
	}
	obj, err := newPV(p, rel, &env, *entry, len(sameName.Items), r.now())
	if err != nil {
		return err
	}
	if err := r.Create(ctx, obj); err != nil {
		return fmt.Errorf("open PV %s: %w", obj.Name, err) // a stale cache counts one too few: the next look counts right
	}
	r.events.Eventf(rel, obj, corev1.EventTypeNormal, "PVOpened", "OpenPV", "PV %s waits for the client's signature", obj.Name)
	return nil
}

func newPV(p *v1alpha1.Project, rel *v1alpha1.Release, env *v1alpha1.Environment, entry v1alpha1.ReleaseEnvironment, before int, now time.Time) (*v1alpha1.PV, error) {
	doc := pv.Document{
		Title: "Procès-verbal de recette", Language: p.Spec.Client.Language,
		Project: p.Name, ProjectName: p.Spec.DisplayName, Supplier: supplier, Client: p.Spec.Client.Name,
		Release: rel.Name, ReleaseUID: string(rel.UID), Version: rel.Spec.Version, Commit: rel.Spec.Commit, Branch: rel.Spec.Branch,
		BundleHash: entry.BundleHash, Environment: env.Name, URL: env.Spec.URL, Changes: []pv.Change{{Release: rel.Name, Version: rel.Spec.Version, Commit: rel.Spec.Commit, Changelog: rel.Spec.Changelog}},
		Karma: rel.Status.Karma, Opened: now.UTC().Truncate(time.Second),
		Signatories: []string{}, Images: []string{}, Gates: []pv.Gate{},
	}
	for _, s := range p.Spec.Client.Signatories {
		doc.Signatories = append(doc.Signatories, s.Name)
	}
	if rel.Status.Bundle != nil {
		for _, img := range rel.Status.Bundle.Images {
			doc.Images = append(doc.Images, img.Name+": "+img.Repository+"@"+img.Digest)
		}
	}
	for _, g := range rel.Status.Gates {
		if g.Verdict == v1alpha1.VerdictPassed {
			gate := pv.Gate{Name: g.Name, Number: g.Number, Environment: g.Environment}
			for _, c := range g.Criteria {
				gate.Criteria = append(gate.Criteria, c.Name+": "+c.Message)
			}
			doc.Gates = append(doc.Gates, gate)
		}
	}
	text, hash, err := doc.Canonical()
	if err != nil {
		return nil, err
	}
	name := rel.Name
	if before > 0 {
		name += "-" + strconv.Itoa(before+1)
	}
	return &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: rel.Namespace, Labels: map[string]string{
			v1alpha1.LabelProject: p.Name, v1alpha1.LabelRelease: rel.Name, v1alpha1.LabelEnvironment: env.Name,
		}},
		Spec: v1alpha1.PVSpec{
			Release: v1alpha1.PVRelease{
				Name: rel.Name, UID: string(rel.UID), Commit: rel.Spec.Commit, Version: rel.Spec.Version,
				BundleHash: entry.BundleHash, AuthorizedAt: entry.AuthorizedAt,
			},
			Environment: env.Name, Client: p.Spec.Client.Name, Document: text, DocumentHash: hash,
		},
	}, nil
}

// pvReconciler verifies signatures. Once a decision is verified, it stands.
type pvReconciler struct {
	client.Client
	installation []envelope.PublicKey
	events       events.EventRecorder
	now          func() time.Time
}

// Reconcile verifies one PV.
func (r *pvReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.PV
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if p.Status.Decision != "" {
		return ctrl.Result{}, nil
	}
	base := p.DeepCopy()
	if p.Spec.Signature == "" {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonAwaitingSignature, "waits for the client: kubectl sirrat pv sign "+p.Name)
	} else {
		var project v1alpha1.Project
		if err := r.Get(ctx, client.ObjectKey{Name: p.Namespace}, &project); err != nil {
			return ctrl.Result{}, fmt.Errorf("read project: %w", err)
		}
		r.verify(ctx, &p, &project)
	}
	if sameStatus(base.Status, p.Status) {
		return ctrl.Result{}, nil
	}
	if err := writeStatus(ctx, r.Client, &p, base, false); err != nil {
		return ctrl.Result{}, err
	}
	if c := findCondition(p.Status.Conditions, v1alpha1.ConditionReady); p.Spec.Signature != "" {
		typ := corev1.EventTypeNormal
		if c.Status != metav1.ConditionTrue {
			typ = corev1.EventTypeWarning
		}
		r.events.Eventf(&p, nil, typ, c.Reason, "Verify", "%s", c.Message)
	}
	return ctrl.Result{}, nil
}

func (r *pvReconciler) verify(ctx context.Context, p *v1alpha1.PV, project *v1alpha1.Project) {
	var keys []envelope.PublicKey
	for _, text := range project.Spec.Client.PublicKeys {
		if key, err := envelope.ParsePublicKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	d, keyID, err := pv.Verify(ctx, p, pv.Keys{Client: keys, Installation: r.installation})
	if err != nil {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonBadSignature, err.Error())
		return
	}
	now := metav1.NewTime(r.now().Truncate(time.Second))
	p.Status.Decision, p.Status.Reason, p.Status.Reservations = d.Decision, d.Reason, d.Reservations
	p.Status.SignedBy, p.Status.KeyID, p.Status.SignedAt, p.Status.Method = d.SignedBy, keyID, &now, d.Method
	p.Status.SignatureHash = envelope.Hash([]byte(p.Spec.Signature))
	switch d.Decision {
	case v1alpha1.PVAccepted:
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonAccepted, "accepted by "+d.SignedBy)
	case v1alpha1.PVAcceptedWithReservations:
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonAcceptedReserved,
			fmt.Sprintf("accepted by %s with %d reservation(s)", d.SignedBy, len(d.Reservations)))
	default:
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonPVRefused, "refused by "+d.SignedBy+": "+d.Reason)
	}
}
