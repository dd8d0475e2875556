// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
)

// approvalsPolicy is the name of the ValidatingAdmissionPolicy, and of its binding, without which an annotation proves
// nothing about who wrote it.
const approvalsPolicy = "sirrat-approvals"

// guardState says whether admission protects approvals at the moment.
type guardState struct {
	ok      bool
	message string
	// id names policy and binding as they are now, and since says when the younger of them was made.
	id    string
	since time.Time
}

func (g guardState) reason() string {
	if g.ok {
		return v1alpha1.ReasonPolicyPresent
	}
	return v1alpha1.ReasonPolicyMissing
}

// guard checks the approvals policy as it is in the cluster against the one built in.
type guard struct {
	reader client.Reader
	want   admissionv1.ValidatingAdmissionPolicy
}

func newGuard(reader client.Reader) (*guard, error) {
	g := &guard{reader: reader}
	builtin, err := config.Find("ValidatingAdmissionPolicy", approvalsPolicy)
	if err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(builtin.Object, &g.want, true); err != nil {
		return nil, fmt.Errorf("read built-in policy %s: %w", approvalsPolicy, err)
	}
	return g, nil
}

// check fails closed: anything that cannot be read or differs from what is built in counts as unprotected.
func (g *guard) check(ctx context.Context) (guardState, error) {
	var policy admissionv1.ValidatingAdmissionPolicy
	if err := g.reader.Get(ctx, client.ObjectKey{Name: approvalsPolicy}, &policy); err != nil {
		return missing("ValidatingAdmissionPolicy", err)
	}
	if !equality.Semantic.DeepEqual(policy.Spec, g.want.Spec) { // the file writes out every default
		return guardState{message: fmt.Sprintf("the ValidatingAdmissionPolicy %s was altered: no approval counts until the operator applies it again", approvalsPolicy)}, nil
	}
	var binding admissionv1.ValidatingAdmissionPolicyBinding
	if err := g.reader.Get(ctx, client.ObjectKey{Name: approvalsPolicy}, &binding); err != nil {
		return missing("ValidatingAdmissionPolicyBinding", err)
	}
	s := binding.Spec
	if s.PolicyName != approvalsPolicy || !slices.Contains(s.ValidationActions, admissionv1.Deny) || s.ParamRef != nil || narrows(s.MatchResources) {
		return guardState{message: fmt.Sprintf("the ValidatingAdmissionPolicyBinding %s does not deny everywhere: no approval counts until the operator applies it again", approvalsPolicy)}, nil
	}
	state := guardState{ok: true, message: "admission lets people approve in their own name only, with the verb approve"}
	state.id = fmt.Sprintf("%s/%d,%s/%d", policy.UID, policy.Generation, binding.UID, binding.Generation)
	state.since = policy.CreationTimestamp.Time
	if binding.CreationTimestamp.After(state.since) {
		state.since = binding.CreationTimestamp.Time
	}
	return state, nil
}

func missing(kind string, err error) (guardState, error) {
	if apierrors.IsNotFound(err) {
		return guardState{message: fmt.Sprintf("the %s %s is missing: no approval counts until the operator applies it again (restart sirrat server, or helm upgrade)", kind, approvalsPolicy)}, nil
	}
	return guardState{}, fmt.Errorf("read %s %s: %w", kind, approvalsPolicy, err)
}

// narrows says that selectors or exclusions leave some object out.
func narrows(m *admissionv1.MatchResources) bool {
	if m == nil {
		return false
	}
	selects := func(labels int, expressions int) bool { return labels+expressions > 0 }
	ns, obj := m.NamespaceSelector, m.ObjectSelector
	return len(m.ExcludeResourceRules) > 0 ||
		ns != nil && selects(len(ns.MatchLabels), len(ns.MatchExpressions)) ||
		obj != nil && selects(len(obj.MatchLabels), len(obj.MatchExpressions))
}
