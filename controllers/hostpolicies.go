// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// maxRefusal bounds what is told of the hosts that refuse a compose file, in bytes.
const maxRefusal = 1500

// refusals tells which hosts of an environment would refuse a release's compose file, and why; "" for none. It is early
// advice: what counts is each host's own judgement, which sees its files too.
func (f *freezer) refusals(ctx context.Context, r *v1alpha1.Release, env v1alpha1.Environment) (string, error) {
	m, err := readMaterial(ctx, f.reader, env, r)
	if err != nil || m.compose == "" {
		return "", err
	}
	var hosts v1alpha1.HostList
	if err := f.reader.List(ctx, &hosts, client.UnsafeDisableDeepCopy); err != nil { // read only
		return "", fmt.Errorf("list hosts: %w", err)
	}
	moved, err := f.relocations(ctx, env)
	if err != nil {
		return "", err
	}
	var told []string
	for _, judged := range policiesOf(env, hosts.Items) {
		text, err := f.refusedBy(ctx, env, m, moved, judged.policy)
		if err != nil {
			return "", err
		}
		if text != "" {
			told = append(told, judged.name+text)
		}
	}
	text := strings.Join(told, "; ")
	if len(text) > maxRefusal {
		text = strings.ToValidUTF8(text[:maxRefusal], "") + "…"
	}
	return text, nil
}

// hostPolicy is a policy and whose it is.
type hostPolicy struct {
	name   string
	policy v1alpha1.HostPolicy
}

// policiesOf are the policies of the hosts that match an environment, by name. A host that has not reported one has the
// default, and so has an environment without hosts. A policy that cannot be used refuses nothing for good: the Environment
// says so, see brokenPolicies.
func policiesOf(env v1alpha1.Environment, hosts []v1alpha1.Host) []hostPolicy {
	var out []hostPolicy
	for _, h := range matching(env, hosts) {
		switch agent := h.Status.Agent; {
		case agent != nil && agent.Policy != nil:
			out = append(out, hostPolicy{"host " + h.Name + ": ", *agent.Policy})
		case agent == nil || agent.PolicyProblem == "":
			out = append(out, hostPolicy{"host " + h.Name + ": ", hostpolicy.Default().HostPolicy})
		}
	}
	if len(out) == 0 {
		out = append(out, hostPolicy{"a host without a policy: ", hostpolicy.Default().HostPolicy})
	}
	return out
}

// admission tells on an Environment whether its hosts would have its compose file, and returns what is wrong.
func (r *environmentReconciler) admission(ctx context.Context, env *v1alpha1.Environment) error {
	if env.Spec.Hosts == nil {
		meta.RemoveStatusCondition(&env.Status.Conditions, v1alpha1.ConditionAdmitted)
		return nil
	}
	refused, err := r.freezer.refusals(ctx, &v1alpha1.Release{}, *env)
	var user userError
	if errors.As(err, &user) { // what is wrong with it is told elsewhere
		refused, err = "", nil
	}
	if err != nil {
		return err
	}
	var hosts v1alpha1.HostList
	if err := r.List(ctx, &hosts, client.UnsafeDisableDeepCopy); err != nil { // read only
		return fmt.Errorf("list hosts: %w", err)
	}
	var broken []string
	for _, h := range matching(*env, hosts.Items) {
		if h.Status.Agent != nil && h.Status.Agent.PolicyProblem != "" {
			broken = append(broken, "host "+h.Name+": "+h.Status.Agent.PolicyProblem)
		}
	}
	problem := strings.Join(append(broken, refused)[:len(broken)+min(1, len(refused))], "; ")
	if problem == "" {
		setCondition(&env.Status.Conditions, env.Generation, v1alpha1.ConditionAdmitted, true, v1alpha1.ReasonAdmitted, "")
		return nil
	}
	setCondition(&env.Status.Conditions, env.Generation, v1alpha1.ConditionAdmitted, false, v1alpha1.ReasonPolicyRefused, problem)
	return userError{problem}
}

// refusedBy judges a compose file, with the images where moved says they are, by one policy; "" when it is admitted. The answer
// is remembered with the file.
func (f *freezer) refusedBy(ctx context.Context, env v1alpha1.Environment, m material, moved map[string]string, p v1alpha1.HostPolicy) (string, error) {
	file, model, err := f.load(ctx, env, m)
	if err != nil || file.problem != nil {
		return "", err
	}
	p.Window, p.Logs, p.Update = nil, nil, nil // no matter here
	text, err := json.Marshal([]any{p, env.Namespace, env.Name, env.Spec.HealthChecks, moved})
	if err != nil {
		return "", fmt.Errorf("encode policy: %w", err)
	}
	key := envelope.Hash(text)
	file.mu.Lock()
	defer file.mu.Unlock()
	if known, found := file.refused[key]; found {
		return known, nil
	}
	if model == nil { // read before: a file is kept without its model, which is much larger
		if model, err = composefile.Load(ctx, m.compose, composeProject(env), m.values); err != nil {
			return "", fmt.Errorf("read compose file again: %w", err)
		}
	}
	relocate(model, moved)
	subject := hostpolicy.Subject{Project: env.Namespace, Environment: env.Name, Model: model, Checks: env.Spec.HealthChecks}
	refused := ""
	if err := (hostpolicy.Policy{HostPolicy: p}).Admit(subject, nil); err != nil {
		refused = err.Error()
	}
	if len(file.refused) >= maxPolicies {
		clear(file.refused)
	}
	file.refused[key] = refused
	return refused, nil
}

// maxPolicies is by how many policies a compose file is remembered to have been judged.
const maxPolicies = 64

// policyChanged lets an update of a Host through when it may change which compose files its environments may have.
func policyChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Host)
		after, ok2 := e.ObjectNew.(*v1alpha1.Host)
		return !ok || !ok2 || before.Generation != after.Generation || !sameStatus(labelsAndPolicy(before), labelsAndPolicy(after))
	}}
}

func labelsAndPolicy(h *v1alpha1.Host) any {
	out := []any{h.Labels, nil, ""}
	if h.Status.Agent != nil {
		out[1], out[2] = h.Status.Agent.Policy, h.Status.Agent.PolicyProblem
	}
	return out
}
