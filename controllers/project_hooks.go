// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hooks"
)

// hookRef is a place in a Project where a webhook's secret is named.
type hookRef struct {
	field   string
	ref     *v1alpha1.HookSecret
	signing bool // a signing token, which has a form
}

// hookRefs are those of a project, in the order of its fields.
func hookRefs(p *v1alpha1.Project) []hookRef {
	h := p.Spec.Hooks
	if h == nil {
		return nil
	}
	var out []hookRef
	if h.GitLab != nil {
		out = append(out, hookRef{"spec.hooks.gitlab.secretRef", h.GitLab.SecretRef, false}, hookRef{"spec.hooks.gitlab.signingRef", h.GitLab.SigningRef, true})
	}
	if h.Harbor != nil {
		out = append(out, hookRef{"spec.hooks.harbor.secretRef", &h.Harbor.SecretRef, false})
	}
	if h.SonarQube != nil {
		out = append(out, hookRef{"spec.hooks.sonarqube.secretRef", &h.SonarQube.SecretRef, false})
	}
	return slices.DeleteFunc(out, func(r hookRef) bool { return r.ref == nil })
}

// checkHooks says whether the webhooks that the project takes can prove themselves at all: who sends them is told nothing but that
// they are not taken.
func (r *projectReconciler) checkHooks(ctx context.Context, p *v1alpha1.Project) error {
	refs := hookRefs(p)
	if len(refs) == 0 {
		meta.RemoveStatusCondition(&p.Status.Conditions, v1alpha1.ConditionHooksReady)
		return nil
	}
	before := findCondition(p.Status.Conditions, v1alpha1.ConditionHooksReady).DeepCopy()
	reason, message := v1alpha1.ReasonReady, "every webhook of spec.hooks can prove itself"
	for _, ref := range refs {
		var s corev1.Secret
		err := r.Get(ctx, client.ObjectKey{Namespace: p.Name, Name: ref.ref.Name}, &s)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read secret %s: %w", ref.ref.Name, err)
		}
		if why, text := hookProblem(ref, s.Data, err == nil); text != "" {
			reason = why
			message = fmt.Sprintf("%s: Secret %s of namespace %s %s; until then its webhooks are answered with 401", ref.field, ref.ref.Name, p.Name, text)
			break
		}
	}
	ok := reason == v1alpha1.ReasonReady
	setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionHooksReady, ok, reason, message)
	if !ok && (before == nil || before.Message != message) {
		r.events.Eventf(p, nil, corev1.EventTypeWarning, "HooksNotReady", "Check", "%s", message)
	}
	return nil
}

// hookProblem is what is wrong with a webhook's secret, in words that hold nothing of it, and what to do; "" for nothing.
func hookProblem(ref hookRef, data map[string][]byte, exists bool) (reason, text string) {
	value, there := data[ref.ref.Key]
	switch {
	case !exists:
		return v1alpha1.ReasonMissing, "does not exist: create it with the key " + ref.ref.Key
	case !there:
		return v1alpha1.ReasonMissing, fmt.Sprintf("has no key %s: add it, or name another in key", ref.ref.Key)
	case hooks.Secret(value) == nil:
		return v1alpha1.ReasonInvalid, fmt.Sprintf("has less than %d bytes under the key %s, which opens nothing: put a longer secret there and into the webhook's settings", hooks.MinSecret, ref.ref.Key)
	case ref.signing && !hooks.IsSigningToken(value):
		return v1alpha1.ReasonInvalid, fmt.Sprintf("has no signing token under the key %s: put the one there that GitLab shows (whsec_ and base64 of at least %d bytes)", ref.ref.Key, hooks.MinSecret)
	}
	return "", ""
}

// hookSecrets has the project looked at of which a Secret changes that spec.hooks names.
func hookSecrets(c client.Reader) (handler.EventHandler, builder.Predicates) {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		var p v1alpha1.Project
		if err := c.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, &p); err != nil {
			return nil // a namespace of no project
		}
		if !slices.ContainsFunc(hookRefs(&p), func(r hookRef) bool { return r.ref.Name == o.GetName() }) {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: p.Name}}}
	}), builder.WithPredicates(inProject())
}
