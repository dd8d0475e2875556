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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
)

// Names of the ValidatingAdmissionPolicies, and of their bindings, without which an annotation, a paper or a settled
// reservation proves nothing about who wrote it.
const (
	approvalsPolicy = "sirrat-approvals"
	pvPolicy        = "sirrat-pv"
)

// guardState says whether admission protects approvals at the moment.
type guardState struct {
	ok      bool
	message string
	// id names policy and binding as they are now, and since says when the younger of them was made.
	id    string
	since time.Time
}

// trusts says whether what is read now was written under this guard: recorded is what the object says of the last look, made
// of its creation.
func (g guardState) trusts(recorded string, made metav1.Time) bool {
	return g.ok && (recorded == g.id || recorded == "" && !made.Time.Before(g.since))
}

// recorded is what an object remembers of this look.
func (g guardState) recorded() string {
	if !g.ok {
		return unguarded
	}
	return g.id
}

func (g guardState) reason() string {
	if g.ok {
		return v1alpha1.ReasonPolicyPresent
	}
	return v1alpha1.ReasonPolicyMissing
}

// guard checks a policy as it is in the cluster against the one built in.
type guard struct {
	reader client.Reader
	name   string
	want   admissionv1.ValidatingAdmissionPolicy
}

func newGuard(reader client.Reader, name string) (*guard, error) {
	g := &guard{reader: reader, name: name}
	builtin, err := config.Find("ValidatingAdmissionPolicy", name)
	if err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(builtin.Object, &g.want, true); err != nil {
		return nil, fmt.Errorf("read built-in policy %s: %w", name, err)
	}
	return g, nil
}

// check fails closed: anything that cannot be read or differs from what is built in counts as unprotected.
func (g *guard) check(ctx context.Context) (guardState, error) {
	var policy admissionv1.ValidatingAdmissionPolicy
	if err := g.reader.Get(ctx, client.ObjectKey{Name: g.name}, &policy); err != nil {
		return g.missing("ValidatingAdmissionPolicy", err)
	}
	if !equality.Semantic.DeepEqual(policy.Spec, g.want.Spec) { // the file writes out every default
		return guardState{message: fmt.Sprintf("the ValidatingAdmissionPolicy %s was altered: no approval counts until the operator applies it again", g.name)}, nil
	}
	var binding admissionv1.ValidatingAdmissionPolicyBinding
	if err := g.reader.Get(ctx, client.ObjectKey{Name: g.name}, &binding); err != nil {
		return g.missing("ValidatingAdmissionPolicyBinding", err)
	}
	s := binding.Spec
	if s.PolicyName != g.name || !slices.Contains(s.ValidationActions, admissionv1.Deny) || s.ParamRef != nil || narrows(s.MatchResources) {
		return guardState{message: fmt.Sprintf("the ValidatingAdmissionPolicyBinding %s does not deny everywhere: no approval counts until the operator applies it again", g.name)}, nil
	}
	state := guardState{ok: true, message: "admission lets people approve in their own name only, with the verb approve"}
	state.id = fmt.Sprintf("%s/%d,%s/%d", policy.UID, policy.Generation, binding.UID, binding.Generation)
	state.since = policy.CreationTimestamp.Time
	if binding.CreationTimestamp.After(state.since) {
		state.since = binding.CreationTimestamp.Time
	}
	return state, nil
}

func (g *guard) missing(kind string, err error) (guardState, error) {
	if apierrors.IsNotFound(err) {
		return guardState{message: fmt.Sprintf("the %s %s is missing: no approval counts until the operator applies it again (restart sirrat server, or helm upgrade)", kind, g.name)}, nil
	}
	return guardState{}, fmt.Errorf("read %s %s: %w", kind, g.name, err)
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
