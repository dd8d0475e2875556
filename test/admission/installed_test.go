// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/config"
)

const samples = "../../config/samples"

func embedded(t *testing.T, pattern string) []*unstructured.Unstructured {
	t.Helper()
	files, err := fs.Glob(config.FS, pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		data, err := fs.ReadFile(config.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, decode(t, data)...)
	}
	return objects
}

func crds(t *testing.T) []*unstructured.Unstructured { return embedded(t, "crd/*.yaml") }

// The files of the policies write every default out, so that what is stored can be compared with them: an altered policy
// counts as a missing one.
func TestStoredPoliciesEqualTheirFiles(t *testing.T) {
	for _, want := range embedded(t, "policies/*.yaml") {
		t.Run(want.GetKind()+"/"+want.GetName(), func(t *testing.T) {
			got := &unstructured.Unstructured{}
			got.SetGroupVersionKind(want.GroupVersionKind())
			if err := controller(t).Get(t.Context(), client.ObjectKeyFromObject(want), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
				t.Errorf("the stored spec differs (-file +stored):\n%s", diff)
			}
		})
	}
}

// A policy without a binding refuses nothing.
func TestEveryPolicyIsBoundAndFailsClosed(t *testing.T) {
	bound := map[string]bool{}
	for _, object := range embedded(t, "policies/*.yaml") {
		policy, _, _ := unstructured.NestedString(object.Object, "spec", "policyName")
		actions, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "validationActions")
		switch object.GetKind() {
		case "ValidatingAdmissionPolicyBinding":
			bound["Validating"+policy] = cmp.Equal(actions, []string{"Deny"})
		case "MutatingAdmissionPolicyBinding":
			bound["Mutating"+policy] = true
		}
	}
	for _, object := range embedded(t, "policies/*.yaml") {
		kind, isPolicy := map[string]string{"ValidatingAdmissionPolicy": "Validating", "MutatingAdmissionPolicy": "Mutating"}[object.GetKind()]
		if !isPolicy {
			continue
		}
		if !bound[kind+object.GetName()] {
			t.Errorf("%s %s is not bound with Deny", object.GetKind(), object.GetName())
		}
		if policy, _, _ := unstructured.NestedString(object.Object, "spec", "failurePolicy"); policy != "Fail" {
			t.Errorf("%s %s has failurePolicy %q", object.GetKind(), object.GetName(), policy)
		}
	}
}

// Each sample applies as it is, as `kubectl apply --server-side -f` sends it: project.yaml first, then the others in any
// order, twice.
func TestSamplesApply(t *testing.T) {
	files, err := filepath.Glob(samples + "/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	files = append([]string{samples + "/project.yaml"}, files...)
	admin := client.WithFieldValidation(controller(t), "Strict")
	for _, file := range append(files, files...) {
		for _, object := range manifests(t, file) {
			t.Cleanup(func() {
				if err := admin.Delete(context.Background(), object); err != nil && !apierrors.IsNotFound(err) {
					t.Errorf("delete %s %s: %v", object.GetKind(), object.GetName(), err)
				}
			})
			sent := object.DeepCopy()
			err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(sent), client.FieldOwner("kubectl"), client.ForceOwnership)
			if err != nil {
				t.Errorf("%s: %s %s: %v", filepath.Base(file), object.GetKind(), object.GetName(), err)
			}
		}
	}
}
