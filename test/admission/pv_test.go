// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// decided creates a PV with a verified signature, as the controllers leave it.
func decided(t *testing.T, ns, name string) *v1alpha1.PV {
	t.Helper()
	pv := mustCreate(t, newPV(ns, name))
	if err := as(t, signer).Patch(t.Context(), pv, merge(`{"spec":{"signature":"{}"}}`)); err != nil {
		t.Fatal(err)
	}
	now := metav1.Now()
	pv.Status.Decision, pv.Status.SignedBy, pv.Status.SignedAt, pv.Status.SignatureHash = v1alpha1.PVAccepted, "Client signatory", &now, digest('b')
	if err := controller(t).Status().Update(t.Context(), pv); err != nil {
		t.Fatal(err)
	}
	return pv
}

func TestWhoMaySubmitASignature(t *testing.T) {
	ns := newProject(t)
	pv := mustCreate(t, newPV(ns, "open"))
	for _, user := range []string{signer, qa, cto} {
		wantAccepted(t, as(t, user).Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"signature":%q}}`, `{"by":"`+user+`"}`)))
	}
	for _, user := range []string{viewer, dev} {
		wantRefused(t, as(t, user).Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"signature":"{}"}}`)), "cannot patch")
	}
	for _, user := range []string{viewer, dev, qa, cto, signer} {
		wantRefused(t, as(t, user).Status().Patch(t.Context(), pv.DeepCopy(), merge(`{"status":{"decision":"Accepted"}}`)), "pvs/status")
		wantRefused(t, as(t, user).Create(t.Context(), newPV(ns, "own")), "cannot create")
		wantRefused(t, as(t, user).Delete(t.Context(), pv.DeepCopy()), "cannot delete")
	}
}

func TestOnlyTheSignatureOfAPVChanges(t *testing.T) {
	ns := newProject(t)
	pv := mustCreate(t, newPV(ns, "open"))
	for patch, want := range map[string]string{
		`{"spec":{"document":"{}"}}`:                                                                     "only the signature",
		`{"spec":{"documentHash":"` + digest('c') + `"}}`:                                                "only the signature",
		`{"spec":{"client":"Somebody else"}}`:                                                            "only the signature",
		`{"spec":{"environment":"production"}}`:                                                          "only the signature",
		`{"spec":{"release":{"uid":"other"}}}`:                                                           "only the signature",
		`{"metadata":{"labels":{"sirrat.dynors.com/release":"other"}}}`:                                  "labels and finalizers",
		`{"metadata":{"labels":null}}`:                                                                   "labels and finalizers",
		`{"metadata":{"finalizers":["example.com/forever"]}}`:                                            "labels and finalizers",
		`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`: "",
	} {
		for _, user := range []string{signer, qa, cto} {
			wantRefused(t, as(t, user).Patch(t.Context(), pv.DeepCopy(), merge("%s", patch)), want)
		}
	}
	// Annotations mean nothing on a PV, and kubectl keeps its own there.
	wantAccepted(t, as(t, signer).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"annotations":{"team.example.com/note":"x"}}}`)))
	wantAccepted(t, controller(t).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"labels":{"x":"y"},"finalizers":["example.com/f"]}}`)))
	// Taking a finalizer away is how a deletion ends.
	wantAccepted(t, as(t, cto).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"finalizers":[]}}`)))
	owned := newPV(ns, "owned")
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}}
	wantRefused(t, controller(t).Create(t.Context(), owned), "a PV has no owner")
}

func TestDecidedPVIsImmutable(t *testing.T) {
	ns := newProject(t)
	pv := decided(t, ns, "signed")
	for _, user := range []client.Client{as(t, signer), as(t, qa), as(t, cto), controller(t)} {
		wantRefused(t, user.Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"signature":"{\"other\":1}"}}`)), "signed PV cannot be changed")
		wantRefused(t, user.Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"signature":null}}`)), "signed PV cannot be changed")
	}
	for _, patch := range []string{
		`{"status":{"decision":"Refused"}}`, `{"status":{"decision":null}}`, `{"status":null}`,
		`{"status":{"signatureHash":"` + digest('d') + `"}}`, `{"status":{"signatureHash":null}}`,
	} {
		wantRefused(t, controller(t).Status().Patch(t.Context(), pv.DeepCopy(), merge("%s", patch)))
	}
	// What the controllers make of it may still be written.
	wantAccepted(t, controller(t).Status().Patch(t.Context(), pv.DeepCopy(), merge(`{"status":{"signedBy":"Client signatory, Client SARL"}}`)))
}

func TestDecidedPVIsKept(t *testing.T) {
	ns := newProject(t)
	pv := decided(t, ns, "signed")
	open := mustCreate(t, newPV(ns, "open"))
	wantRefused(t, controller(t).Delete(t.Context(), pv.DeepCopy()), "sirrat-pv", "goes only with its whole project")
	wantRefused(t, controller(t).Delete(t.Context(), pv.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationForeground)), "sirrat-pv")
	wantRefused(t, controller(t).DeleteAllOf(t.Context(), &v1alpha1.PV{}, client.InNamespace(ns)), "sirrat-pv")
	left := &v1alpha1.PV{}
	if err := controller(t).Get(t.Context(), client.ObjectKeyFromObject(pv), left); err != nil || left.DeletionTimestamp != nil {
		t.Errorf("the signed PV is (being) deleted: %v", err)
	}
	if err := controller(t).Delete(t.Context(), open); client.IgnoreNotFound(err) != nil {
		t.Errorf("an undecided PV cannot be deleted: %v", err)
	}
}

// `kubectl delete project` leaves nothing behind, signed PVs included.
func TestDecidedPVGoesWithItsNamespace(t *testing.T) {
	ns := newProject(t)
	pv := decided(t, ns, "signed")
	wantAccepted(t, controller(t).Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
	cptest.Wait(t, "the namespace to be gone", func(ctx context.Context) error {
		left := &corev1.Namespace{}
		err := controller(t).Get(ctx, client.ObjectKey{Name: ns}, left)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s is %s: %v (%w)", ns, left.Status.Phase, left.Status.Conditions, err)
	})
	if err := controller(t).Get(t.Context(), client.ObjectKeyFromObject(pv), pv); !apierrors.IsNotFound(err) {
		t.Errorf("the PV outlived its namespace: %v", err)
	}
}
