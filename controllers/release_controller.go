// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// releaseReconciler writes the status of Releases: what is frozen, karma, verdicts, where it is.
type releaseReconciler struct {
	client.Client
	events  events.EventRecorder
	guard   *guard
	freezer *freezer
	journal journalWriter
	now     func() time.Time
	// verifier names the installation in what is attested.
	verifier   string
	registries registries
	harbors    harbors
	policies   *signaturePolicies
	// looked is when the tags of a release in an environment were last looked at.
	looked *lru.Cache
}

// Reconcile gathers, freezes, judges, tags and patches.
func (r *releaseReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !release.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	snap, err := r.gather(ctx, &release)
	if err != nil {
		return ctrl.Result{}, err
	}
	if snap == nil { // no Project: nothing can be said, and nothing is deployed
		return ctrl.Result{}, r.withoutProject(ctx, &release)
	}
	images, err := r.registries.of(ctx, snap.project)
	if err != nil {
		return ctrl.Result{}, err
	}
	frozen, err := r.freezer.freeze(ctx, snap.project, &release, snap.bridge, images, snap.now)
	if err != nil {
		return ctrl.Result{}, err
	}
	snap.frozenReason, snap.frozenMessage = frozen.reason, frozen.message
	status, recheck := judgeRelease(*snap, frozen.bundle)
	if err := r.write(ctx, snap.project, &release, status); err != nil {
		return ctrl.Result{}, err
	}
	tagged, err := r.tag(ctx, snap, &release, images)
	return ctrl.Result{RequeueAfter: nextLook(snap.now, recheck, frozen.retry, tagged)}, err
}

// nextLook is the exact time until the first of the moments at which something happens by itself; 0 when nothing does. Zero
// moments do not count.
func nextLook(now time.Time, moments ...time.Time) time.Duration {
	var first time.Time
	for _, m := range moments {
		first = earlier(first, m)
	}
	if first.IsZero() {
		return 0
	}
	return max(first.Sub(now), time.Millisecond)
}

func (r *releaseReconciler) gather(ctx context.Context, release *v1alpha1.Release) (*snapshot, error) {
	s := &snapshot{release: release, now: r.now(), verifier: r.verifier, project: &v1alpha1.Project{}}
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, s.project); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("read project: %w", err)
	}
	in := client.InNamespace(release.Namespace)
	var envs v1alpha1.EnvironmentList
	var gates v1alpha1.QualityGateList
	var results v1alpha1.CIResultList
	var releases v1alpha1.ReleaseList
	var pvs v1alpha1.PVList
	var rollouts v1alpha1.RolloutList
	for _, list := range []struct {
		into client.ObjectList
		opts []client.ListOption
	}{
		{&envs, []client.ListOption{in}},
		{&gates, []client.ListOption{in}},
		{&results, []client.ListOption{in, client.MatchingFields{indexCommit: v1alpha1.ShortSHA(release.Spec.Commit)}}},
		{&releases, []client.ListOption{in, client.UnsafeDisableDeepCopy}}, // read only, and there may be many
		{&pvs, []client.ListOption{in}},
		{&rollouts, []client.ListOption{client.MatchingFields{indexRelease: string(release.UID)}}},
	} {
		if err := r.List(ctx, list.into, list.opts...); err != nil {
			return nil, fmt.Errorf("list %T: %w", list.into, err)
		}
	}
	if !s.project.IsModule() { // of a module nothing is ever deployed
		s.bridge, _ = orderBridge(envs.Items)
	}
	s.gates = inOrder(gates.Items, s.bridge)
	for _, res := range results.Items {
		if strings.HasPrefix(release.Spec.Commit, res.Spec.Commit) {
			s.results = append(s.results, res)
		}
	}
	for _, other := range releases.Items {
		if other.UID != release.UID {
			s.siblings = append(s.siblings, other)
		}
	}
	for _, p := range pvs.Items {
		if p.Spec.Release.UID == string(release.UID) {
			s.pvs = append(s.pvs, p)
		} else {
			s.otherPVs = append(s.otherPVs, p)
		}
	}
	if err := r.gatherPrevious(ctx, s); err != nil {
		return nil, err
	}
	if err := r.gatherModules(ctx, s); err != nil {
		return nil, err
	}
	slices.SortFunc(s.pvs, func(a, b v1alpha1.PV) int {
		return cmp.Or(a.Spec.Release.AuthorizedAt.Compare(b.Spec.Release.AuthorizedAt.Time), strings.Compare(a.Name, b.Name))
	})
	s.rollouts = rollouts.Items
	var err error
	if s.hosts, err = hostsByEnvironment(ctx, r.Client, s.bridge, s.now); err != nil {
		return nil, err
	}
	if s.guard, err = r.guard.check(ctx); err != nil {
		return nil, err
	}
	if s.signatures, err = r.policies.signaturesOf(ctx, s.bridge); err != nil {
		return nil, err
	}
	return s, nil
}

// inOrder sorts gates as a release meets them: by the place of their environments on the bridge, and by number where several guard
// one. One that guards an environment which is not there follows the gate with the number before.
func inOrder(gates []v1alpha1.QualityGate, bridge []v1alpha1.Environment) []v1alpha1.QualityGate {
	slices.SortFunc(gates, func(a, b v1alpha1.QualityGate) int {
		return cmp.Or(cmp.Compare(a.Spec.Number, b.Spec.Number), strings.Compare(a.Name, b.Name))
	})
	place, last := map[string]int{}, 0
	for _, g := range gates {
		if at := slices.IndexFunc(bridge, func(e v1alpha1.Environment) bool { return e.Name == g.Spec.Environment }); at >= 0 {
			last = at
		}
		place[g.Name] = last
	}
	slices.SortStableFunc(gates, func(a, b v1alpha1.QualityGate) int { return cmp.Compare(place[a.Name], place[b.Name]) })
	return gates
}

// gatherPrevious reads what the last release on the same branch reported.
func (r *releaseReconciler) gatherPrevious(ctx context.Context, s *snapshot) error {
	previous := previousOnBranch(s.release, s.siblings)
	if previous == nil {
		return nil
	}
	s.previous = previous.Name
	var results v1alpha1.CIResultList
	err := r.List(ctx, &results, client.InNamespace(previous.Namespace), client.MatchingFields{indexCommit: v1alpha1.ShortSHA(previous.Spec.Commit)})
	if err != nil {
		return fmt.Errorf("list results: %w", err)
	}
	for _, res := range results.Items {
		if strings.HasPrefix(previous.Spec.Commit, res.Spec.Commit) {
			s.before = append(s.before, res)
		}
	}
	return nil
}

// previousOnBranch is the newest release of the same branch that is older; nil without a branch.
func previousOnBranch(r *v1alpha1.Release, siblings []v1alpha1.Release) *v1alpha1.Release {
	var previous *v1alpha1.Release
	for i := range siblings {
		o := &siblings[i]
		if r.Spec.Branch != "" && o.Spec.Branch == r.Spec.Branch && o.Spec.Commit != r.Spec.Commit && newerRelease(r, o) && (previous == nil || newerRelease(o, previous)) {
			previous = o
		}
	}
	return previous
}

// hostsByEnvironment lists the enrolled or expected servers of each environment.
func hostsByEnvironment(ctx context.Context, reader client.Reader, bridge []v1alpha1.Environment, now time.Time) (map[string][]rollout.Host, error) {
	var hosts v1alpha1.HostList
	if err := reader.List(ctx, &hosts); err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	out := map[string][]rollout.Host{}
	for _, env := range bridge {
		out[env.Name] = matchHosts(env, hosts.Items, now)
	}
	return out, nil
}

// write patches the status if it changed and tells what changed as events.
func (r *releaseReconciler) write(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release, status v1alpha1.ReleaseStatus) error {
	if sameStatus(release.Status, status) {
		return nil
	}
	old := release.Status
	if project != nil { // recorded first: what cannot be proven later is not decided
		if err := r.journal.Append(ctx, releaseFacts(project, release, old, status)...); err != nil {
			return err
		}
	}
	base := release.DeepCopy()
	release.Status = status
	if err := writeStatus(ctx, r.Client, release, base, old.ObservedGeneration == 0); err != nil {
		return err
	}
	for _, e := range releaseEvents(old, status) {
		r.events.Eventf(release, nil, e.typ, e.reason, e.action, "%s", e.message)
	}
	return nil
}

func (r *releaseReconciler) withoutProject(ctx context.Context, release *v1alpha1.Release) error {
	status := *release.Status.DeepCopy()
	status.ObservedGeneration = release.Generation
	message := "the Project " + release.Namespace + " does not exist"
	status.Next = message
	setCondition(&status.Conditions, release.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonProjectNotReady, message)
	setCondition(&status.Conditions, release.Generation, v1alpha1.ConditionStalled, true, v1alpha1.ReasonProjectNotReady, message)
	return r.write(ctx, nil, release, status)
}

// releaseEvent is one thing worth telling.
type releaseEvent struct{ typ, reason, action, message string }

// releaseEvents are the differences between two statuses that people wait for.
func releaseEvents(old, now v1alpha1.ReleaseStatus) []releaseEvent {
	var out []releaseEvent
	for _, g := range now.Gates {
		if i := slices.IndexFunc(old.Gates, func(o v1alpha1.GateVerdict) bool { return o.Name == g.Name }); i >= 0 && old.Gates[i].Verdict == g.Verdict {
			continue
		}
		switch g.Verdict {
		case v1alpha1.VerdictPassed:
			message := fmt.Sprintf("gate %s: %s authorised", g.Name, g.Environment)
			if g.Environment == publication {
				message = fmt.Sprintf("gate %s passed", g.Name)
			}
			out = append(out, releaseEvent{corev1.EventTypeNormal, "GatePassed", "Judge", message})
		case v1alpha1.VerdictRefused:
			out = append(out, releaseEvent{corev1.EventTypeWarning, "GateRefused", "Judge", fmt.Sprintf("gate %s: %s", g.Name, g.Message)})
		}
	}
	for _, e := range now.Environments {
		if e.Rollback != "" && e.Phase == v1alpha1.PhaseAuthorized {
			out = append(out, releaseEvent{corev1.EventTypeWarning, "RollingBack", "Rollback", e.Name + ": " + e.Message})
		}
		if o := findEntry(old.Environments, e.Name); o != nil && o.Phase == e.Phase || e.Phase == v1alpha1.PhaseAuthorized {
			continue // that it was authorised is told of its gate
		}
		typ := corev1.EventTypeNormal
		switch e.Phase {
		case v1alpha1.PhaseFailed, v1alpha1.PhaseRolledBack, v1alpha1.PhaseReturned, v1alpha1.PhaseUnhealthy:
			typ = corev1.EventTypeWarning
		}
		out = append(out, releaseEvent{typ, e.Phase, "Deploy", strings.TrimSuffix(fmt.Sprintf("%s: %s", e.Name, e.Message), ": ")})
	}
	for _, e := range old.Environments {
		if findEntry(now.Environments, e.Name) == nil {
			out = append(out, releaseEvent{corev1.EventTypeWarning, "AuthorizationWithdrawn", "Judge", e.Name + ": its gate no longer holds, and nothing had been sent"})
		}
	}
	switch {
	case old.Publication == nil && now.Publication != nil:
		out = append(out, releaseEvent{corev1.EventTypeNormal, "Published", "Judge", now.Next})
	case old.Publication != nil && now.Publication == nil:
		out = append(out, releaseEvent{corev1.EventTypeWarning, "PublicationWithdrawn", "Judge", now.Next})
	}
	if old.Karma != now.Karma && old.ObservedGeneration > 0 {
		out = append(out, releaseEvent{corev1.EventTypeNormal, "Karma", "Judge", fmt.Sprintf("karma %d, %s", now.Karma, now.Level)})
	}
	return out
}
