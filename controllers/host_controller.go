// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// agentRole is the ClusterRole that an agent holds in its own namespace and nowhere else.
const agentRole = "sirrat-agent"

// hostReconciler gives each Host its namespace, its agent's rights and the keys to trust, and watches its heartbeat.
type hostReconciler struct {
	client.Client
	// fresh reads past the cache: no join command may escape a revocation.
	fresh  client.Reader
	events events.EventRecorder
	keys   *Keys
	// url of the HTTP API as hosts reach it; empty if nobody said.
	url string
	now func() time.Time
}

// Reconcile makes what belongs to the host and reads what its agent says.
func (r *hostReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var host v1alpha1.Host
	if err := r.Get(ctx, req.NamespacedName, &host); err != nil {
		if apierrors.IsNotFound(err) {
			return ctrl.Result{}, r.withdraw(ctx, req.Name)
		}
		return ctrl.Result{}, err
	}
	if !host.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.withdraw(ctx, req.Name)
	}
	base := host.DeepCopy()
	after, err := r.refresh(ctx, &host)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !sameStatus(base.Status, host.Status) {
		if err := writeStatus(ctx, r.Client, &host, base, false); err != nil {
			return ctrl.Result{}, err
		}
		r.tell(base, &host)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

func (r *hostReconciler) refresh(ctx context.Context, host *v1alpha1.Host) (time.Duration, error) {
	host.Status.ObservedGeneration = host.Generation
	if err := r.revoke(ctx, host); err != nil {
		return 0, err
	}
	ns := v1alpha1.HostNamespace(host.Name)
	taken, err := ensureNamespace(ctx, r.Client, host, ns, v1alpha1.LabelHost)
	if err != nil {
		return 0, err
	}
	if taken != "" {
		setCondition(&host.Status.Conditions, host.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonNamespaceTaken, taken)
		return 0, nil
	}
	if err := r.ensureAccess(ctx, host, ns); err != nil {
		return 0, err
	}
	if err := r.countRollouts(ctx, host, ns); err != nil {
		return 0, err
	}
	return r.heartbeat(ctx, host, ns)
}

// ensureAccess binds the agent's user, which carries the host's uid, to the agent's role; and publishes the keys that may
// sign authorizations.
func (r *hostReconciler) ensureAccess(ctx context.Context, host *v1alpha1.Host, ns string) error {
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: agentRole, Namespace: ns}}
	wantSubjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: hostUser(host)}}
	if err := ensureBinding(ctx, r.Client, host, binding, agentRole, wantSubjects); err != nil {
		return err
	}
	// What leads from old keys to new ones is there before the new ones: an agent pins the latter at its enrolment only.
	trusted, statements := r.keys.trusted()
	for _, m := range []struct {
		name string
		data map[string]string
	}{{v1alpha1.KeySets, statements}, {v1alpha1.AuthorizationKeys, trusted}, {v1alpha1.HostInfo, map[string]string{v1alpha1.InfoURL: r.url}}} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: m.name, Namespace: ns}}
		_, err := controllerutil.CreateOrPatch(ctx, r.Client, cm, func() error {
			if !maps.Equal(cm.Data, m.data) {
				cm.Data = m.data
			}
			return controllerutil.SetControllerReference(host, cm, r.Scheme())
		})
		if err != nil {
			return fmt.Errorf("publish %s: %w", m.name, err)
		}
	}
	return nil
}

// revoke makes what is known of the agent void when its access was revoked since: certificates by the name that the role is
// bound to, its keys, and join commands that nobody has used yet.
func (r *hostReconciler) revoke(ctx context.Context, host *v1alpha1.Host) error {
	if host.Spec.Revocations == host.Status.Revocations {
		return nil
	}
	err := deleteSecrets(ctx, r.Client, r.fresh, metav1.NamespaceSystem, client.MatchingLabels{v1alpha1.LabelHost: host.Name})
	if err != nil {
		return fmt.Errorf("make join commands void: %w", err)
	}
	host.Status.Revocations, host.Status.EnrolledBy, host.Status.CertificateKeys = host.Spec.Revocations, "", nil
	r.events.Eventf(host, nil, corev1.EventTypeWarning, v1alpha1.ReasonRevoked, "Revoke",
		"every certificate and join command from before is void; nothing is sent there until it joins again: kubectl sirrat host add %s", host.Name)
	return nil
}

// withdraw takes the agent's rights away at once when its Host is deleted; the namespace and all else in it are
// garbage-collected.
func (r *hostReconciler) withdraw(ctx context.Context, host string) error {
	var b rbacv1.RoleBinding
	err := r.Get(ctx, client.ObjectKey{Namespace: v1alpha1.HostNamespace(host), Name: agentRole}, &b)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if owner := metav1.GetControllerOf(&b); owner == nil || owner.Kind != "Host" || owner.Name != host {
		return nil
	}
	if err := r.Delete(ctx, &b, client.Preconditions{UID: &b.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("withdraw the agent's rights: %w", err)
	}
	return nil
}

// ensureBinding makes a RoleBinding what it should be; the role of a binding cannot be changed, so a foreign one is
// replaced.
func ensureBinding(ctx context.Context, c client.Client, owner client.Object, b *rbacv1.RoleBinding, role string, subjects []rbacv1.Subject) error {
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	var existing rbacv1.RoleBinding
	err := c.Get(ctx, client.ObjectKeyFromObject(b), &existing)
	if err == nil && existing.RoleRef != ref {
		if err := client.IgnoreNotFound(c.Delete(ctx, &existing)); err != nil {
			return fmt.Errorf("replace role binding %s: %w", b.Name, err)
		}
	}
	_, err = controllerutil.CreateOrPatch(ctx, c, b, func() error {
		b.RoleRef = ref
		if !equality.Semantic.DeepEqual(b.Subjects, subjects) {
			b.Subjects = subjects
		}
		return controllerutil.SetControllerReference(owner, b, c.Scheme())
	})
	if err != nil {
		return fmt.Errorf("bind %s: %w", role, err)
	}
	return nil
}

// ensureNamespace makes the owner's namespace. A namespace that exists and does not carry the owner's label is not taken
// over: the returned text says so.
func ensureNamespace(ctx context.Context, c client.Client, owner client.Object, name, label string) (taken string, err error) {
	var ns corev1.Namespace
	err = c.Get(ctx, client.ObjectKey{Name: name}, &ns)
	switch {
	case apierrors.IsNotFound(err):
		ns = corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: owner.GetName()}}}
		if err := controllerutil.SetControllerReference(owner, &ns, c.Scheme()); err != nil {
			return "", fmt.Errorf("own namespace %s: %w", name, err)
		}
		if err := c.Create(ctx, &ns); err != nil {
			return "", fmt.Errorf("create namespace %s: %w", name, err)
		}
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read namespace %s: %w", name, err)
	case !ns.DeletionTimestamp.IsZero():
		return "namespace " + name + " is still being deleted", nil
	case ns.Labels[label] != owner.GetName():
		return fmt.Sprintf("namespace %s exists and is not ours: label it %s=%s to hand it over, or choose another name", name, label, owner.GetName()), nil
	}
	if controller := metav1.GetControllerOf(&ns); controller != nil && controller.UID == owner.GetUID() {
		return "", nil
	}
	base := ns.DeepCopy()
	if err := controllerutil.SetControllerReference(owner, &ns, c.Scheme()); err != nil {
		return fmt.Sprintf("namespace %s belongs to somebody else: %s", name, err), nil
	}
	if err := c.Patch(ctx, &ns, client.MergeFrom(base)); err != nil {
		return "", fmt.Errorf("own namespace %s: %w", name, err)
	}
	return "", nil
}

func (r *hostReconciler) countRollouts(ctx context.Context, host *v1alpha1.Host, ns string) error {
	var list v1alpha1.RolloutList
	if err := r.List(ctx, &list, client.InNamespace(ns)); err != nil {
		return fmt.Errorf("list rollouts: %w", err)
	}
	newest := map[string]v1alpha1.Rollout{}
	for _, ro := range list.Items {
		key := ro.Spec.Project + "/" + ro.Spec.Environment
		if ro.Spec.Sequence > newest[key].Spec.Sequence {
			newest[key] = ro
		}
	}
	healthy := 0
	for _, ro := range newest {
		if ro.Status.Phase == v1alpha1.RolloutHealthy {
			healthy++
		}
	}
	host.Status.RolloutsSummary = fmt.Sprintf("%d/%d", healthy, len(newest))
	return nil
}

// heartbeat judges the agent's Lease and says when to look again: at the exact time at which silence becomes loss. The
// times of heartbeats themselves are not copied, so that a steady host causes no writes.
func (r *hostReconciler) heartbeat(ctx context.Context, host *v1alpha1.Host, ns string) (time.Duration, error) {
	st := &host.Status
	var lease coordinationv1.Lease
	err := r.Get(ctx, client.ObjectKey{Namespace: ns, Name: v1alpha1.AgentLease}, &lease)
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("read lease: %w", err)
	}
	if revoked(*host) {
		message := "the agent's access was revoked; what runs there keeps running. kubectl sirrat host add " + host.Name + " lets it in again"
		for _, typ := range []string{v1alpha1.ConditionEnrolled, v1alpha1.ConditionReady} {
			setCondition(&st.Conditions, host.Generation, typ, false, v1alpha1.ReasonRevoked, message)
		}
		return 0, nil
	}
	if st.EnrolledBy != "" {
		setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionEnrolled, true, v1alpha1.ReasonEnrolled, "an agent holds a certificate for this host")
	} else {
		setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionEnrolled, false, v1alpha1.ReasonAwaitingAgent, "no agent has joined: kubectl sirrat host add "+host.Name)
	}
	if err != nil || lease.Spec.RenewTime == nil {
		setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonAwaitingAgent, "no agent has been heard of yet: kubectl sirrat host add "+host.Name)
		return 0, nil
	}
	st.Agent = parseAgentInfo(lease.Annotations[v1alpha1.AnnotationAgentInfo])
	r.compare(host)
	silence := r.now().Sub(lease.Spec.RenewTime.Time)
	if left := host.Spec.HeartbeatTimeout.Duration - silence; left > 0 {
		setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonHeartbeat, "the agent answers")
		return left + time.Millisecond, nil
	}
	setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonHeartbeatLost,
		fmt.Sprintf("not heard of since %s: what runs there keeps running", lease.Spec.RenewTime.UTC().Format(time.RFC3339)))
	return 0, nil
}

// maxAgentInfo is the size of what an agent may say of itself: its owner's policy, and some words.
const maxAgentInfo = hostpolicy.MaxReport + 8<<10

// compare looks at what the agent says it knows.
func (r *hostReconciler) compare(host *v1alpha1.Host) {
	st, agent := &host.Status, host.Status.Agent
	if agent == nil {
		return
	}
	if used := agent.CertificateKey; used != "" && st.EnrolledBy != "" {
		if len(st.CertificateKeys) == 0 { // enrolled before keys were remembered
			st.CertificateKeys = []string{used}
		}
		st.CertificateKeys = usedKeys(st.CertificateKeys, used)
	}
	if agent.Ahead == "" {
		setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionInStep, true, v1alpha1.ReasonInStep, "the agent knows nothing newer than the control plane")
		return
	}
	setCondition(&st.Conditions, host.Generation, v1alpha1.ConditionInStep, false, v1alpha1.ReasonRestored,
		"was the control plane restored from an older backup? "+agent.Ahead+
			"; what runs there keeps running until a release is let in anew, with a higher sequence: kubectl sirrat resume ENVIRONMENT, "+
			"then kubectl sirrat retry RELEASE ENVIRONMENT or the next release")
}

// parseAgentInfo reads what an agent says of itself: bounded, and never a reason to fail.
func parseAgentInfo(text string) *v1alpha1.AgentInfo {
	var info v1alpha1.AgentInfo
	if len(text) > maxAgentInfo || json.Unmarshal([]byte(text), &info) != nil {
		return nil
	}
	for _, s := range []*string{&info.AgentVersion, &info.EngineVersion, &info.EngineAPI, &info.Platform} {
		*s = strings.ToValidUTF8((*s)[:min(len(*s), 64)], "")
	}
	if u := info.Update; u != nil {
		for _, s := range []*string{&u.Wanted, &u.State} {
			*s = strings.ToValidUTF8((*s)[:min(len(*s), 64)], "")
		}
		u.Message = strings.ToValidUTF8(u.Message[:min(len(u.Message), 512)], "")
	}
	info.PolicyProblem = strings.ToValidUTF8(info.PolicyProblem[:min(len(info.PolicyProblem), 1000)], "")
	if info.Policy != nil {
		effective := hostpolicy.Effective(*info.Policy)
		if err := hostpolicy.Validate(effective); err != nil { // the API server would refuse all of the status
			info.Policy, info.PolicyProblem = nil, "what the agent reports of it is not valid: "+err.Error()
		} else {
			info.Policy = &effective
		}
	}
	info.Ahead = strings.ToValidUTF8(info.Ahead[:min(len(info.Ahead), 1024)], "")
	if len(info.CertificateKey) != len("sha256:")+64 || !strings.HasPrefix(info.CertificateKey, "sha256:") {
		info.CertificateKey = ""
	}
	return &info
}

func (r *hostReconciler) tell(old, now *v1alpha1.Host) {
	for condition, action := range map[string]string{v1alpha1.ConditionReady: "Heartbeat", v1alpha1.ConditionInStep: "Compare"} {
		before, after := findCondition(old.Status.Conditions, condition), findCondition(now.Status.Conditions, condition)
		if after == nil || before != nil && before.Reason == after.Reason || before == nil && after.Reason == v1alpha1.ReasonInStep {
			continue
		}
		typ := corev1.EventTypeNormal
		if after.Status != metav1.ConditionTrue {
			typ = corev1.EventTypeWarning
		}
		r.events.Eventf(now, nil, typ, after.Reason, action, "%s", after.Message)
	}
}
