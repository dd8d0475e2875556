// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
)

// scans is what the controllers need of the archive: whether a scan has arrived.
type scans interface {
	Has(ctx context.Context, hash string) (bool, error)
}

// scanRetry is the time after which an announced scan is looked for again; archives send no events.
const scanRetry = 2 * time.Second

// pvReconciler verifies what the client decided, by key, page or paper. Once a decision is verified, it stands; only its
// reservations may be settled.
type pvReconciler struct {
	client.Client
	installation func() []envelope.PublicKey
	events       events.EventRecorder
	guard        *guard
	archive      scans
	journal      journalWriter
	now          func() time.Time
}

// Reconcile verifies one PV.
func (r *pvReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.PV
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: p.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // it goes with its project, and is in the archive
	}
	guard, err := r.guard.check(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	base := p.DeepCopy()
	trusted := guard.trusts(p.Status.Guard, p.CreationTimestamp)
	p.Status.Guard = guard.recorded()
	retry := time.Duration(0)
	if p.Status.Decision == "" {
		if retry, err = r.decide(ctx, &p, &project, guard, trusted); err != nil {
			return ctrl.Result{}, err
		}
	}
	liftReservations(&p, trusted)
	if err := r.record(ctx, &project, &p); err != nil {
		return ctrl.Result{}, err
	}
	if !sameStatus(base.Status, p.Status) {
		if err := writeStatus(ctx, r.Client, &p, base, false); err != nil {
			return ctrl.Result{}, err
		}
		r.tell(&p, base)
	}
	return ctrl.Result{RequeueAfter: retry}, nil
}

// decide looks for a decision and sets the conditions; it returns when to look again.
func (r *pvReconciler) decide(ctx context.Context, p *v1alpha1.PV, project *v1alpha1.Project, guard guardState, trusted bool) (time.Duration, error) {
	notYet := func(reason, format string, args ...any) {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, reason, fmt.Sprintf(format, args...))
	}
	switch paper := p.Spec.Paper; {
	case p.Spec.Signature != "":
		return 0, r.verify(ctx, p, project)
	case paper == nil:
		p.Status.RefusedPaper = ""
		notYet(v1alpha1.ReasonAwaitingSignature, "waits for the client: the link in the mail, kubectl sirrat pv sign %s, or a signed paper with kubectl sirrat pv upload %s", p.Name, p.Name)
	case p.Status.RefusedPaper == paperHash(paper) || !trusted:
		p.Status.RefusedPaper = paperHash(paper)
		notYet(v1alpha1.ReasonBadPaper, "the paper was announced while admission did not protect PVs (%s): withdraw it and upload it again", guard.message)
	default:
		there, err := r.archive.Has(ctx, paper.ScanHash)
		if err != nil {
			return 0, fmt.Errorf("look for the scan of PV %s: %w", p.Name, err)
		}
		if !there {
			notYet(v1alpha1.ReasonAwaitingScan, "the scan %s has not arrived: kubectl sirrat pv upload %s", paper.ScanHash, p.Name)
			return scanRetry, nil
		}
		return 0, r.settle(p, pv.Decision{
			Decision: paper.Decision, Reason: paper.Reason, Reservations: paper.Reservations, SignedBy: paper.SignedBy, Method: v1alpha1.MethodPaper,
		}, "", paper.ScanHash)
	}
	return 0, nil
}

func paperHash(paper *v1alpha1.PaperPV) string {
	text, err := json.Marshal(paper)
	if err != nil { // a struct of strings
		panic(err)
	}
	return envelope.Hash(text)
}

func (r *pvReconciler) verify(ctx context.Context, p *v1alpha1.PV, project *v1alpha1.Project) error {
	var keys []envelope.PublicKey
	for _, text := range project.Spec.Client.PublicKeys {
		if key, err := envelope.ParsePublicKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	d, keyID, err := pv.Verify(ctx, p, pv.Keys{Client: keys, Installation: r.installation()})
	if err != nil {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonBadSignature, err.Error())
		return nil
	}
	return r.settle(p, *d, keyID, envelope.Hash([]byte(p.Spec.Signature)))
}

// settle writes a verified decision and the hash of its PDF.
func (r *pvReconciler) settle(p *v1alpha1.PV, d pv.Decision, keyID, signatureHash string) error {
	now := metav1.NewTime(r.now().Truncate(time.Second))
	st := &p.Status
	st.Decision, st.Reason, st.Reservations = d.Decision, d.Reason, d.Reservations
	st.SignedBy, st.KeyID, st.SignedAt, st.Method, st.Email, st.SignatureHash = d.SignedBy, keyID, &now, d.Method, d.Email, signatureHash
	page, err := pdf.Of(p)
	if err != nil {
		return fmt.Errorf("render PV %s: %w", p.Name, err)
	}
	st.PDFHash = envelope.Hash(page)
	switch d.Decision {
	case v1alpha1.PVAccepted:
		setCondition(&st.Conditions, p.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonAccepted, "accepted by "+d.SignedBy)
	case v1alpha1.PVAcceptedWithReservations:
		setCondition(&st.Conditions, p.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonAcceptedReserved,
			fmt.Sprintf("accepted by %s with %d reservation(s)", d.SignedBy, len(d.Reservations)))
	default:
		setCondition(&st.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonPVRefused, "refused by "+d.SignedBy+": "+d.Reason)
	}
	return nil
}

// liftReservations marks those as settled that somebody who may says are. What was settled stays so; what was said while
// admission did not protect it never counts, also not once it is protected again.
func liftReservations(p *v1alpha1.PV, trusted bool) {
	for i := range p.Status.Reservations {
		r, number := &p.Status.Reservations[i], strconv.Itoa(i+1)
		how := p.Annotations[v1alpha1.LiftedPrefix+number]
		switch {
		case how == "" || r.Lifted != "" || slices.Contains(p.Status.RefusedLifts, number):
		case trusted:
			r.Lifted = how
		default:
			p.Status.RefusedLifts = append(p.Status.RefusedLifts, number)
		}
	}
}

// tell makes an event of what changed.
func (r *pvReconciler) tell(p, before *v1alpha1.PV) {
	now, old := findCondition(p.Status.Conditions, v1alpha1.ConditionReady), findCondition(before.Status.Conditions, v1alpha1.ConditionReady)
	if now == nil || now.Reason == v1alpha1.ReasonAwaitingSignature || old != nil && old.Reason == now.Reason && old.Message == now.Message {
		return
	}
	typ := corev1.EventTypeNormal
	if now.Status != metav1.ConditionTrue && now.Reason != v1alpha1.ReasonAwaitingScan {
		typ = corev1.EventTypeWarning
	}
	r.events.Eventf(p, nil, typ, now.Reason, "Verify", "%s", now.Message)
}
