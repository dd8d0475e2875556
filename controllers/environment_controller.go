// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// environmentReconciler writes the status of Environments, and the Rollouts and delivered Secrets on their hosts.
type environmentReconciler struct {
	client.Client
	// fresh reads past the cache: a Rollout is signed only for what the API server says now.
	fresh   client.Reader
	events  events.EventRecorder
	freezer *freezer
	key     crypto.Signer
	journal journalWriter
	now     func() time.Time
}

// environmentState is what one reconciliation gathered.
type environmentState struct {
	env      *v1alpha1.Environment
	project  *v1alpha1.Project
	releases []v1alpha1.Release
	hosts    []rollout.Host
	rollouts []v1alpha1.Rollout
}

// Reconcile picks the release to run, assigns it to hosts and sums up.
func (r *environmentReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.gather(ctx, req)
	if s == nil || err != nil {
		return ctrl.Result{}, err
	}
	old := s.env.DeepCopy()
	target := rollout.Target(candidates(s))
	problem := r.assign(ctx, s, target)
	if problem == nil {
		problem = r.validate(ctx, s)
	}
	var user userError
	if problem != nil && !errors.As(problem, &user) {
		return ctrl.Result{}, problem
	}
	r.summarise(s, problem)
	if sameStatus(old.Status, s.env.Status) {
		return ctrl.Result{}, nil
	}
	if err := writeStatus(ctx, r.Client, s.env, old, false); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, nil
}

// validate tells what is wrong with the declaration before any release needs it. Images are not looked up.
func (r *environmentReconciler) validate(ctx context.Context, s *environmentState) error {
	m, err := readMaterial(ctx, r.Client, *s.env, &v1alpha1.Release{})
	if err != nil || m.compose == "" {
		return err
	}
	if _, err := r.freezer.references(ctx, *s.env, m); err != nil {
		return err
	}
	return checkTags(*s.env, &v1alpha1.Release{})
}

func (r *environmentReconciler) gather(ctx context.Context, req ctrl.Request) (*environmentState, error) {
	s := &environmentState{env: &v1alpha1.Environment{}, project: &v1alpha1.Project{}}
	if err := r.Get(ctx, req.NamespacedName, s.env); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !s.env.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	if err := r.Get(ctx, client.ObjectKey{Name: req.Namespace}, s.project); err != nil {
		return nil, client.IgnoreNotFound(err) // without its Project nothing is deployed
	}
	if !s.project.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	var releases v1alpha1.ReleaseList
	if err := r.List(ctx, &releases, client.InNamespace(req.Namespace)); err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	s.releases = releases.Items
	var hosts v1alpha1.HostList
	if err := r.List(ctx, &hosts); err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	s.hosts = matchHosts(*s.env, hosts.Items)
	var rollouts v1alpha1.RolloutList
	if err := r.List(ctx, &rollouts, client.MatchingFields{indexEnvironment: req.Namespace + "/" + req.Name}); err != nil {
		return nil, fmt.Errorf("list rollouts: %w", err)
	}
	s.rollouts = rollouts.Items
	return s, nil
}

// matchHosts are the hosts that carry the environment's labels and may run its project.
func matchHosts(env v1alpha1.Environment, hosts []v1alpha1.Host) []rollout.Host {
	if env.Spec.Hosts == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(env.Spec.Hosts)
	if err != nil || selector.Empty() { // an empty selector would mean every host there is: nobody means that
		return nil
	}
	var out []rollout.Host
	for _, h := range hosts {
		if h.DeletionTimestamp.IsZero() && slices.Contains(h.Spec.Projects, env.Namespace) && selector.Matches(labelSet(h.Labels)) {
			enrolled := findCondition(h.Status.Conditions, v1alpha1.ConditionEnrolled)
			out = append(out, rollout.Host{Name: h.Name, UID: string(h.UID), Enrolled: enrolled != nil && enrolled.Status == metav1.ConditionTrue})
		}
	}
	return out
}

func candidates(s *environmentState) []rollout.Candidate {
	var out []rollout.Candidate
	for _, rel := range s.releases {
		if e := findEntry(rel.Status.Environments, s.env.Name); e != nil && rel.DeletionTimestamp.IsZero() {
			out = append(out, rollout.Candidate{Phase: e.Phase, Release: v1alpha1.EnvironmentRelease{
				Release: rel.Name, UID: string(rel.UID), Version: rel.Spec.Version, BundleHash: e.BundleHash, AuthorizedAt: e.AuthorizedAt,
			}})
		}
	}
	return out
}

// assign moves the hosts one step towards the target. A userError is for people to mend and is told as a condition.
func (r *environmentReconciler) assign(ctx context.Context, s *environmentState, target *v1alpha1.EnvironmentRelease) error {
	st := &s.env.Status
	switch {
	case target == nil:
		return r.prune(ctx, s)
	case s.env.Spec.Hosts == nil:
		st.Current = target
		return nil
	case rollout.Same(st.Current, target):
	case rollout.Same(st.LastGood, target): // the last try failed and the hosts went back by themselves
		st.Current = st.LastGood
	default:
		if err := r.begin(ctx, s, target); err != nil {
			return err
		}
	}
	st.Current.Version = target.Version
	if err := r.create(ctx, s); err != nil {
		return err
	}
	return r.prune(ctx, s)
}

// begin takes the next sequence number and stores it before anything is sent, so that a number is never used twice,
// whatever happens in between.
func (r *environmentReconciler) begin(ctx context.Context, s *environmentState, target *v1alpha1.EnvironmentRelease) error {
	st := &s.env.Status
	base := s.env.DeepCopy()
	next := st.Sequence
	for _, ro := range s.rollouts { // an older backup may have been restored: what is out there counts too
		next = max(next, ro.Spec.Sequence)
	}
	st.Sequence = next + 1
	t := *target
	t.Sequence = st.Sequence
	st.Current = &t
	if err := r.Status().Patch(ctx, s.env, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("take sequence number: %w", err)
	}
	r.events.Eventf(s.env, nil, corev1.EventTypeNormal, "Deploying", "Deploy", "release %s, sequence %d", t.Release, t.Sequence)
	return nil
}

func (r *environmentReconciler) plan(s *environmentState) rollout.Plan {
	var observed []rollout.Observed
	for _, ro := range s.rollouts {
		observed = append(observed, observedRollout(ro))
	}
	var current, lastGood int64
	if s.env.Status.Current != nil {
		current = s.env.Status.Current.Sequence
	}
	if s.env.Status.LastGood != nil {
		lastGood = s.env.Status.LastGood.Sequence
	}
	return rollout.Steps(current, lastGood, s.hosts, observed, s.env.Spec.Rollout.MaxUnavailable)
}

// create sends the current release to the hosts whose turn it is.
func (r *environmentReconciler) create(ctx context.Context, s *environmentState) error {
	plan := r.plan(s)
	if len(plan.Create) == 0 {
		return nil
	}
	var rel v1alpha1.Release
	if err := r.fresh.Get(ctx, client.ObjectKey{Namespace: s.env.Namespace, Name: s.env.Status.Current.Release}, &rel); err != nil {
		return fmt.Errorf("read release: %w", err)
	}
	e := findEntry(rel.Status.Environments, s.env.Name)
	if string(rel.UID) != s.env.Status.Current.UID || e == nil || e.BundleHash != s.env.Status.Current.BundleHash || !e.AuthorizedAt.Equal(&s.env.Status.Current.AuthorizedAt) {
		return nil // withdrawn or judged anew in the meantime: the next event brings us back
	}
	spec, m, err := r.rolloutSpec(ctx, s, &rel)
	if err != nil {
		return err
	}
	for _, name := range plan.Create {
		host := s.hosts[slices.IndexFunc(s.hosts, func(h rollout.Host) bool { return h.Name == name })]
		if err := r.send(ctx, s, &rel, *spec, m, host); err != nil {
			return fmt.Errorf("send to host %s: %w", name, err)
		}
	}
	return nil
}

// rolloutSpec is everything but what differs by host. It is built from the objects as they are now and checked against
// the bundle hash that was authorised: what changed in between is not sent.
func (r *environmentReconciler) rolloutSpec(ctx context.Context, s *environmentState, rel *v1alpha1.Release) (*v1alpha1.RolloutSpec, material, error) {
	bundle := rel.Status.Bundle.DeepCopy()
	eb := v1alpha1.EnvironmentBundle{}
	hash, err := r.freezer.freezeEnvironment(ctx, s.project, rel, *s.env, bundle, unresolvable{}, &eb)
	if err != nil {
		return nil, material{}, err
	}
	current := s.env.Status.Current
	if hash != current.BundleHash {
		return nil, material{}, userErrorf("the bundle of release %s changed after it was authorised: it is judged again", rel.Name)
	}
	m, err := readMaterial(ctx, r.Client, *s.env, rel)
	if err != nil {
		return nil, material{}, err
	}
	services, err := r.freezer.pinServices(ctx, *s.env, m, bundle, unresolvable{})
	if err != nil {
		return nil, material{}, err
	}
	return &v1alpha1.RolloutSpec{
		Project: s.project.Name, ProjectUID: string(s.project.UID), Environment: s.env.Name,
		Release:  v1alpha1.RolloutRelease{Name: rel.Name, UID: string(rel.UID), Commit: rel.Spec.Commit, Version: rel.Spec.Version},
		Sequence: current.Sequence, BundleHash: hash,
		ComposeProject: composeProject(*s.env), Compose: m.compose, ComposeHash: composefile.Hash(m.compose),
		Images: services, Values: s.env.Spec.Values, HealthChecks: s.env.Spec.HealthChecks, Strategy: s.env.Spec.Rollout,
		Irreversible: !ptr.Deref(rel.Spec.Reversible, true),
	}, m, nil
}

// unresolvable answers no look-up: everything that is sent was pinned when it was judged.
type unresolvable struct{}

func (unresolvable) Resolve(_ context.Context, ref string) (string, error) {
	return "", fmt.Errorf("image %s was not pinned: %w", ref, registry.ErrNotFound)
}

// send delivers the secrets and then the signed Rollout to one host. Doing so again changes nothing.
func (r *environmentReconciler) send(ctx context.Context, s *environmentState, rel *v1alpha1.Release, spec v1alpha1.RolloutSpec, m material, host rollout.Host) error {
	ns := v1alpha1.HostNamespace(host.Name)
	name := v1alpha1.RolloutName(spec.Project, spec.Environment, spec.Sequence)
	// Owned by the Project, so that whatever is sent while it is being deleted goes with it all the same.
	owned := metav1.ObjectMeta{
		Name: name, Namespace: ns,
		Labels: map[string]string{
			v1alpha1.LabelProject: spec.Project, v1alpha1.LabelEnvironment: spec.Environment,
			v1alpha1.LabelRelease: rel.Name, v1alpha1.LabelSequence: strconv.FormatInt(spec.Sequence, 10),
		},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Project", Name: s.project.Name, UID: s.project.UID}},
	}
	for _, secret := range s.env.Spec.SecretRefs {
		spec.SecretRefs = append(spec.SecretRefs, v1alpha1.DeliveredSecret(name, secret))
		if err := r.deliver(ctx, owned, secret, corev1.SecretTypeOpaque, m.secrets[secret]); err != nil {
			return err
		}
	}
	credentials, err := registryCredentials(ctx, r.Client, s.project)
	if err != nil {
		return err
	}
	if len(credentials) > 0 {
		spec.RegistrySecretRef = v1alpha1.DeliveredSecret(name, s.project.Spec.RegistrySecretRef)
		data := map[string][]byte{corev1.DockerConfigJsonKey: credentials}
		if err := r.deliver(ctx, owned, s.project.Spec.RegistrySecretRef, corev1.SecretTypeDockerConfigJson, data); err != nil {
			return err
		}
	}
	receiver := authorization.Host{Name: host.Name, UID: host.UID}
	gates, pvHash, err := r.grounds(ctx, rel, s.env.Name)
	if err != nil {
		return err
	}
	spec.Authorization, err = authorization.Sign(ctx, spec, receiver, r.now(), gates, pvHash, r.key)
	if err != nil {
		return err
	}
	if err := r.journal.Append(ctx, authorizationFact(s.project, spec, receiver, "authorization/"+host.UID+"/"+name)); err != nil {
		return err
	}
	ro := &v1alpha1.Rollout{ObjectMeta: owned, Spec: spec}
	ro.Annotations = map[string]string{v1alpha1.AnnotationAuthorizedAt: formatMicro(s.env.Status.Current.AuthorizedAt)}
	return ignoreExists(r.Create(ctx, ro))
}

// deliver copies a Secret to where a Rollout will be, as that Rollout's own and never to change.
func (r *environmentReconciler) deliver(ctx context.Context, rollout metav1.ObjectMeta, secret string, typ corev1.SecretType, data map[string][]byte) error {
	immutable := true
	s := &corev1.Secret{ObjectMeta: *rollout.DeepCopy(), Type: typ, Data: data, Immutable: &immutable}
	s.Name = v1alpha1.DeliveredSecret(rollout.Name, secret)
	return ignoreExists(r.Create(ctx, s))
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// grounds are the verdicts on which an environment was authorised, and the hash of the client's signature if a gate
// asked for one.
func (r *environmentReconciler) grounds(ctx context.Context, rel *v1alpha1.Release, environment string) (gates []string, pvSignature string, err error) {
	signed := false
	for _, g := range rel.Status.Gates {
		if g.Environment != environment {
			continue
		}
		for _, c := range g.Criteria {
			gates = append(gates, g.Name+"/"+c.Name+": "+c.Message)
			signed = signed || c.Reason == "PVAccepted" || c.Reason == "PVAcceptedWithReservations"
		}
	}
	if !signed {
		return gates, "", nil
	}
	var pvs v1alpha1.PVList
	if err := r.List(ctx, &pvs, client.InNamespace(rel.Namespace), client.MatchingFields{indexRelease: string(rel.UID)}); err != nil {
		return nil, "", fmt.Errorf("list pvs: %w", err)
	}
	for _, p := range pvs.Items {
		if p.Status.Decision == v1alpha1.PVAccepted || p.Status.Decision == v1alpha1.PVAcceptedWithReservations {
			pvSignature = p.Status.SignatureHash
		}
	}
	return gates, pvSignature, nil
}

// prune deletes the Rollouts that nobody needs, with their Secrets.
func (r *environmentReconciler) prune(ctx context.Context, s *environmentState) error {
	for _, o := range r.plan(s).Delete {
		ns := v1alpha1.HostNamespace(o.Host)
		err := r.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(ns), client.MatchingLabels{
			v1alpha1.LabelProject: s.project.Name, v1alpha1.LabelEnvironment: s.env.Name, v1alpha1.LabelSequence: strconv.FormatInt(o.Sequence, 10),
		})
		if err != nil {
			return fmt.Errorf("delete secrets of %s/%s: %w", ns, o.Name, err)
		}
		ro := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: ns}}
		if err := client.IgnoreNotFound(r.Delete(ctx, ro)); err != nil {
			return fmt.Errorf("delete rollout %s/%s: %w", ns, o.Name, err)
		}
	}
	return nil
}

// summarise sets everything in the status that does not need the API.
func (r *environmentReconciler) summarise(s *environmentState, problem error) {
	st := &s.env.Status
	st.ObservedGeneration = s.env.Generation
	r.hold(s)
	st.HostsMatched = int32(len(s.hosts))
	st.HostsReady = 0
	if s.env.Spec.Hosts == nil {
		st.HostsSummary = "external"
		st.LastGood = externalGood(s, st)
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonExternal, "deployed by a pipeline, which reports to …/deployments")
		return
	}
	if st.Current != nil {
		var observed []rollout.Observed
		for _, ro := range s.rollouts {
			if ro.Spec.Sequence == st.Current.Sequence {
				observed = append(observed, observedRollout(ro))
			}
		}
		state := rollout.Summarise(s.hosts, observed)
		st.HostsReady = state.Ready
		if state.Phase == v1alpha1.PhaseHealthy {
			st.LastGood = st.Current
		}
	}
	st.HostsSummary = fmt.Sprintf("%d/%d", st.HostsReady, st.HostsMatched)
	switch {
	case problem != nil:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, problem.Error())
	case len(s.hosts) == 0:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonNoMatchingHost,
			fmt.Sprintf("no Host carries the labels of spec.hosts and lists %s in spec.projects", s.project.Name))
	default:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonReady,
			fmt.Sprintf("%d host(s) serve this environment", len(s.hosts)))
	}
}

// hold tells whether gates are kept from opening by themselves.
func (r *environmentReconciler) hold(s *environmentState) {
	st := &s.env.Status
	before := st.Hold
	st.Hold = holdOn(*s.env, s.releases, nil)
	if st.Hold == nil {
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionHeld, false, v1alpha1.ReasonNotHeld, "")
		return
	}
	message := fmt.Sprintf("release %s %s. Nothing opens by itself until somebody resumes: kubectl sirrat resume %s", st.Hold.Release, st.Hold.Message, s.env.Name)
	setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionHeld, true, v1alpha1.ReasonRolledBack, message)
	if before == nil || before.ID != st.Hold.ID {
		r.events.Eventf(s.env, nil, corev1.EventTypeWarning, "Held", "Hold", "%s", message)
	}
}

// externalGood is the current release of an environment without agents, once its pipeline reported it.
func externalGood(s *environmentState, st *v1alpha1.EnvironmentStatus) *v1alpha1.EnvironmentRelease {
	if st.Current == nil {
		return st.LastGood
	}
	for _, rel := range s.releases {
		if e := findEntry(rel.Status.Environments, s.env.Name); e != nil && string(rel.UID) == st.Current.UID && e.Phase == v1alpha1.PhaseHealthy {
			return st.Current
		}
	}
	return st.LastGood
}
