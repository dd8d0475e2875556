// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

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
	if services, err = pulledFrom(*s.env, bundle, services); err != nil {
		return nil, material{}, err
	}
	return &v1alpha1.RolloutSpec{
		Project: s.project.Name, ProjectUID: string(s.project.UID), Environment: s.env.Name,
		Release:  v1alpha1.RolloutRelease{Name: rel.Name, UID: string(rel.UID), Commit: rel.Spec.Commit, Version: rel.Spec.Version},
		Sequence: current.Sequence, BundleHash: hash,
		ComposeProject: composeProject(*s.env), Compose: m.compose, ComposeHash: composefile.Hash(m.compose),
		Images: services, Values: s.env.Spec.Values, HealthChecks: s.env.Spec.HealthChecks, Strategy: s.env.Spec.Rollout,
		Irreversible: rel.Spec.Reversible != nil && !*rel.Spec.Reversible,
	}, m, nil
}

// unresolvable answers no look-up: everything that is sent was pinned when it was judged.
type unresolvable struct{}

func (unresolvable) Resolve(_ context.Context, ref string) (string, error) {
	return "", fmt.Errorf("image %s was not pinned: %w", ref, registry.ErrNotFound)
}

func (u unresolvable) Pin(ctx context.Context, ref string) (string, error) {
	return u.Resolve(ctx, ref)
}

// send delivers the secrets and then the signed Rollout to one host. Doing so again changes nothing.
func (r *environmentReconciler) send(ctx context.Context, s *environmentState, rel *v1alpha1.Release, spec v1alpha1.RolloutSpec, m material, host rollout.Host) error {
	owned := ownedMeta(s, spec, host.Name)
	name := owned.Name
	for _, secret := range s.env.Spec.SecretRefs {
		spec.SecretRefs = append(spec.SecretRefs, v1alpha1.DeliveredSecret(name, secret))
		if err := r.deliver(ctx, owned, secret, corev1.SecretTypeOpaque, m.secrets[secret]); err != nil {
			return err
		}
	}
	ref, err := r.pullAccess(ctx, s, owned, host)
	if err != nil {
		return err
	}
	spec.RegistrySecretRef = ref
	gates, pvHash, err := r.grounds(ctx, rel, s.env.Name)
	if err != nil {
		return err
	}
	if spec.Acceptance, err = acceptance(ctx, r.Client, rel, s.env.Name); err != nil {
		return err
	}
	owned.Annotations = map[string]string{v1alpha1.AnnotationAuthorizedAt: formatMicro(s.env.Status.Current.AuthorizedAt)}
	return r.order(ctx, s, owned, spec, authorization.Host{Name: host.Name, UID: host.UID}, gates, pvHash)
}

// pullAccess is the Secret with which the host pulls: its own credential where one is issued, else a copy of the environment's
// or the project's Secret; "" for none.
func (r *environmentReconciler) pullAccess(ctx context.Context, s *environmentState, owned metav1.ObjectMeta, host rollout.Host) (string, error) {
	if issuesPulls(s.project, s.env) {
		ref, _, err := r.pullRef(ctx, s, host)
		return ref, err
	}
	secret, credentials, err := pullSecret(ctx, r.Client, s.project, *s.env)
	if err != nil || len(credentials) == 0 {
		return "", err
	}
	data := map[string][]byte{corev1.DockerConfigJsonKey: credentials}
	return v1alpha1.DeliveredSecret(owned.Name, secret), r.deliver(ctx, owned, secret, corev1.SecretTypeDockerConfigJson, data)
}

// ownedMeta is the metadata of a Rollout. It is owned by the Project, so that whatever is sent while that is being deleted
// goes with it all the same.
func ownedMeta(s *environmentState, spec v1alpha1.RolloutSpec, host string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: v1alpha1.RolloutName(spec.Project, spec.Environment, spec.Sequence), Namespace: v1alpha1.HostNamespace(host),
		Labels: map[string]string{
			v1alpha1.LabelProject: spec.Project, v1alpha1.LabelEnvironment: spec.Environment,
			v1alpha1.LabelRelease: spec.Release.Name, v1alpha1.LabelSequence: strconv.FormatInt(spec.Sequence, 10),
		},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Project", Name: s.project.Name, UID: s.project.UID}},
	}
}

// order signs a Rollout, records it and creates it, in this order. Doing so again changes nothing.
func (r *environmentReconciler) order(ctx context.Context, s *environmentState, meta metav1.ObjectMeta, spec v1alpha1.RolloutSpec,
	receiver authorization.Host, grounds []string, pvHash string,
) (err error) {
	if err := r.keys.told(ctx, r.Client, meta.Namespace); err != nil {
		return err
	}
	spec.Authorization, err = authorization.Sign(ctx, spec, receiver, r.now(), grounds, pvHash, r.key)
	if err != nil {
		return err
	}
	if err := r.journal.Append(ctx, authorizationFact(s.project, spec, receiver, "authorization/"+receiver.UID+"/"+meta.Name)); err != nil {
		return err
	}
	return ignoreExists(r.Create(ctx, &v1alpha1.Rollout{ObjectMeta: meta, Spec: spec}))
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
	if e := findEntry(rel.Status.Environments, environment); e != nil && e.Rollback != "" {
		gates = append(gates, "rollback: "+e.Rollback)
	}
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
		err := deleteSecrets(ctx, r.Client, r.fresh, ns, client.MatchingLabels{
			v1alpha1.LabelProject: s.project.Name, v1alpha1.LabelEnvironment: s.env.Name, v1alpha1.LabelSequence: strconv.FormatInt(o.Sequence, 10),
		})
		if err != nil {
			return fmt.Errorf("rollout %s/%s: %w", ns, o.Name, err)
		}
		ro := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: ns}}
		if err := client.IgnoreNotFound(r.Delete(ctx, ro)); err != nil {
			return fmt.Errorf("delete rollout %s/%s: %w", ns, o.Name, err)
		}
	}
	return nil
}
