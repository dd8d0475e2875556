// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

func TestCreatorIsFilledIn(t *testing.T) {
	ns := newProject(t)
	plain := release(ns, "plain", "", "")
	wantAccepted(t, as(t, dev).Create(t.Context(), plain))
	beside := release(ns, "beside", "team.example.com/ticket", "42")
	wantAccepted(t, as(t, dev).Create(t.Context(), beside))
	own := release(ns, "own", v1alpha1.AnnotationCreatedBy, dev)
	wantAccepted(t, as(t, dev).Create(t.Context(), own))
	for _, r := range []*v1alpha1.Release{plain, beside, own} {
		if got := annotationsOf(t, r)[v1alpha1.AnnotationCreatedBy]; got != dev {
			t.Errorf("%s was created by %q, want %q", r.Name, got, dev)
		}
	}
	if got := annotationsOf(t, beside)["team.example.com/ticket"]; got != "42" {
		t.Errorf("the user's own annotation became %q", got)
	}
}

func TestCreatorCannotBeForged(t *testing.T) {
	ns := newProject(t)
	for _, name := range []string{qa, "", dev + " ", "*"} {
		wantRefused(t, as(t, dev).Create(t.Context(), release(ns, "forged", v1alpha1.AnnotationCreatedBy, name)), "sirrat-created-by", "write "+dev)
	}
	wantRefused(t, controller(t).Create(t.Context(), release(ns, "forged", v1alpha1.AnnotationCreatedBy, dev)), "sirrat-created-by")
	wantRefused(t, serverSideApply(t.Context(), as(t, dev), release(ns, "forged", "", ""), v1alpha1.AnnotationCreatedBy, qa), "sirrat-created-by")
}

func TestCreatorNeverChanges(t *testing.T) {
	ns := newProject(t)
	r := releaseAfter(t, ns, "kept")
	for _, user := range []string{dev, qa, cto} {
		err := annotate(t.Context(), as(t, user), r, map[string]any{v1alpha1.AnnotationCreatedBy: user + "2"})
		wantRefused(t, err, "sirrat-created-by", "never changes")
	}
	wantRefused(t, annotate(t.Context(), controller(t), r, map[string]any{v1alpha1.AnnotationCreatedBy: qa}), "never changes")

	kept := func(how string) {
		t.Helper()
		if got := annotationsOf(t, r)[v1alpha1.AnnotationCreatedBy]; got != dev {
			t.Errorf("after %s it was created by %q, want %q", how, got, dev)
		}
	}
	wantAccepted(t, annotate(t.Context(), as(t, dev), r, map[string]any{v1alpha1.AnnotationCreatedBy: nil}))
	kept("removal of the annotation")
	wantAccepted(t, as(t, qa).Patch(t.Context(), r.DeepCopy(), merge(`{"metadata":{"annotations":null}}`)))
	kept("removal of all annotations")
	bare := &v1alpha1.Release{}
	if err := as(t, dev).Get(t.Context(), client.ObjectKeyFromObject(r), bare); err != nil {
		t.Fatal(err)
	}
	bare.Annotations = nil
	wantAccepted(t, as(t, dev).Update(t.Context(), bare))
	kept("a replace without annotations")
}

// The same file applied twice is accepted twice, although the server added an annotation to what the file says.
func TestApplyTwice(t *testing.T) {
	ns := newProject(t)
	r := release(ns, "twice", "", "")
	for range 3 {
		wantAccepted(t, serverSideApply(t.Context(), as(t, dev), r, "", ""))
	}
	if got := annotationsOf(t, r)[v1alpha1.AnnotationCreatedBy]; got != dev {
		t.Errorf("it was created by %q, want %q", got, dev)
	}
}

// Where the mutating policy is absent (Kubernetes before 1.36), a release may be without a creator; then nobody can be
// named afterwards.
func TestCreatorIsNotAddedLater(t *testing.T) {
	ns := newProject(t)
	bindings := cptest.Start(t).Client.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	binding, err := bindings.Get(t.Context(), "sirrat-created-by", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{}))
	probe := func(ctx context.Context, filled bool) error {
		r := release(ns, "probe", "", "")
		if err := as(t, dev).Create(ctx, r, client.DryRunAll); err != nil {
			return err
		}
		if _, ok := r.Annotations[v1alpha1.AnnotationCreatedBy]; ok != filled {
			return errors.New("the API server has not noticed yet")
		}
		return nil
	}
	defer func() {
		again := &admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: binding.Name}, Spec: binding.Spec}
		if _, err := bindings.Create(t.Context(), again, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		cptest.Wait(t, "the binding to be back", func(ctx context.Context) error { return probe(ctx, true) })
	}()
	cptest.Wait(t, "the binding to be gone", func(ctx context.Context) error { return probe(ctx, false) })

	r := release(ns, "nobody", "", "")
	wantAccepted(t, as(t, dev).Create(t.Context(), r))
	for _, user := range []string{dev, qa} {
		err := annotate(t.Context(), as(t, user), r, map[string]any{v1alpha1.AnnotationCreatedBy: user})
		wantRefused(t, err, "sirrat-created-by", "never changes")
	}
	known := release(ns, "known", v1alpha1.AnnotationCreatedBy, dev)
	wantAccepted(t, as(t, dev).Create(t.Context(), known))
	wantRefused(t, annotate(t.Context(), as(t, dev), known, map[string]any{v1alpha1.AnnotationCreatedBy: nil}), "never changes")
}
