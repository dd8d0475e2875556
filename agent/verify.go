// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// verify checks the authorization of a Rollout, and the client's signature where the host's owner demands it. started says
// that carrying it out has begun, so that its expiry no longer matters.
func (w *worker) verify(ctx context.Context, spec v1alpha1.RolloutSpec, started bool) error {
	minimum := w.disk.Highest
	if w.disk.ProjectUID != spec.ProjectUID {
		minimum = 0 // a project of the same name that was created anew counts from one
	}
	if slices.Contains(w.disk.Retired, spec.ProjectUID) {
		return fmt.Errorf("%w: the project of uid %s was replaced by a newer one", authorization.ErrOldSequence, spec.ProjectUID)
	}
	if w.disk.Contradicts(spec) {
		return fmt.Errorf("%w: sequence %d, with another bundle", authorization.ErrOldSequence, spec.Sequence)
	}
	host := authorization.Host{Name: w.agent.identity.Host, UID: w.agent.identity.HostUID}
	if _, err := authorization.Verify(ctx, spec, host, time.Now(), minimum, started, w.agent.trust()); err != nil {
		return err
	}
	if started {
		return nil
	}
	_, err := w.accepted(ctx, spec)
	return err
}

// accepted is what the client authorised, nil where the host's owner does not ask for the client's signature.
func (w *worker) accepted(ctx context.Context, spec v1alpha1.RolloutSpec) (*pv.Authorised, error) {
	policy, err := w.agent.files.policy.Current()
	if err != nil {
		return nil, err
	}
	if !policy.SecondSignature.Needed(spec.Environment) {
		return nil, nil
	}
	keys, err := policy.SecondSignature.PublicKeys()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hostpolicy.ErrUnusable, err)
	}
	return authorization.VerifyAcceptance(ctx, spec, keys)
}

// acceptedSecrets says whether Secrets provide nothing that the client did not sign for.
func (w *worker) acceptedSecrets(ctx context.Context, spec v1alpha1.RolloutSpec, secrets map[string]string) error {
	accepted, err := w.accepted(ctx, spec)
	if err != nil || accepted == nil {
		return err
	}
	return authorization.CheckSecrets(*accepted, slices.Collect(maps.Keys(secrets)))
}

// refusals are the reasons by what is wrong, the more special ones first.
var refusals = []struct {
	err    error
	reason string
}{
	{authorization.ErrRevokedKey, v1alpha1.ReasonRevokedKey},
	{authorization.ErrRetiredKey, v1alpha1.ReasonRetiredKey},
	{authorization.ErrSignature, v1alpha1.ReasonUnknownKey},
	{authorization.ErrMalformed, v1alpha1.ReasonAuthorizationMalformed},
	{authorization.ErrOtherHost, v1alpha1.ReasonOtherHost},
	{authorization.ErrOldSequence, v1alpha1.ReasonOlderSequence},
	{authorization.ErrExpired, v1alpha1.ReasonAuthorizationExpired},
	{authorization.ErrImages, v1alpha1.ReasonImagesAltered},
	{authorization.ErrCompose, v1alpha1.ReasonComposeAltered},
	{authorization.ErrMismatch, v1alpha1.ReasonRolloutAltered},
	{authorization.ErrAcceptanceMissing, v1alpha1.ReasonAcceptanceMissing},
	{authorization.ErrAcceptanceKey, v1alpha1.ReasonAcceptanceUntrusted},
	{authorization.ErrAcceptanceRefused, v1alpha1.ReasonAcceptanceRefused},
	{authorization.ErrAcceptanceOther, v1alpha1.ReasonAcceptanceOther},
	{authorization.ErrAcceptanceInvalid, v1alpha1.ReasonAcceptanceUntrusted},
	{hostpolicy.ErrUnusable, v1alpha1.ReasonPolicyRefused},
}

// unauthorised is the rejection of a Rollout that verify refused.
func unauthorised(err error) rejection {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			byOwner := errors.Is(err, hostpolicy.ErrUnusable) || strings.HasPrefix(r.reason, "Acceptance")
			return rejection{reason: r.reason, message: err.Error(), byHost: byOwner}
		}
	}
	return rejection{reason: v1alpha1.ReasonAuthorizationInvalid, message: err.Error()}
}

// overtaken says that a newer order was carried out here, another one of the same number, or one of a newer project.
func (w *worker) overtaken(spec v1alpha1.RolloutSpec) bool {
	d := w.disk
	older := spec.ProjectUID == d.ProjectUID && (spec.Sequence < d.Highest || d.Contradicts(spec))
	return older || slices.Contains(d.Retired, spec.ProjectUID)
}

// behind says that a Rollout is of no use because a newer one was carried out here that the control plane does not know:
// it was restored from an older backup. "" when it knows.
func (w *worker) behind(spec v1alpha1.RolloutSpec) string {
	if !w.agent.synced.Load() || spec.ProjectUID != w.disk.ProjectUID {
		return ""
	}
	newest := int64(0)
	w.mu.Lock()
	for _, rollout := range w.rollouts {
		if rollout.Spec.ProjectUID == w.disk.ProjectUID && !w.disk.Contradicts(rollout.Spec) {
			newest = max(newest, rollout.Spec.Sequence)
		}
	}
	w.mu.Unlock()
	if newest >= w.disk.Highest {
		return ""
	}
	if w.disk.Contradicts(spec) {
		return fmt.Sprintf("sequence %d of %s was carried out here with another bundle than the control plane knows of", w.disk.Highest, w.key)
	}
	return fmt.Sprintf("sequence %d of %s was carried out here, and the newest that the control plane knows is %d", w.disk.Highest, w.key, newest)
}

// tellBehind collects for the heartbeat what this host knows better than the control plane.
func (a *Agent) tellBehind(key state.Key, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sequencesBehind[key] == text {
		return
	}
	delete(a.sequencesBehind, key)
	if text != "" {
		a.sequencesBehind[key] = text
	}
	a.beatNow()
}

// ahead is all that this host knows better than the control plane.
func (a *Agent) ahead() (text string, serial int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	if a.keysBehind != "" {
		all = append(all, a.keysBehind)
	}
	for _, key := range slices.SortedFunc(maps.Keys(a.sequencesBehind), func(x, y state.Key) int { return strings.Compare(x.String(), y.String()) }) {
		all = append(all, a.sequencesBehind[key])
	}
	return shorten(strings.Join(all, "; ")), a.keySerial
}

// secrets fetches the values from the Secrets that a spec names, or takes them from the bundle that its Rollout came in.
func (w *worker) secrets(ctx context.Context, uid string, spec v1alpha1.RolloutSpec) (state.Secrets, error) {
	values := state.Secrets{}
	if carried := w.carriedBy(uid); carried != nil {
		maps.Copy(values, carried.secrets)
		return values, nil
	}
	for _, name := range spec.SecretRefs {
		data, err := w.agent.client.Secret(ctx, w.agent.identity.Host, name)
		if err != nil {
			return nil, err
		}
		for key, value := range data {
			values[key] = string(value)
		}
	}
	return values, nil
}

// credentials fetches the dockerconfigjson to pull with; nil when the spec names none. What a bundle brought has its own.
func (w *worker) credentials(ctx context.Context, uid string, spec v1alpha1.RolloutSpec) ([]byte, error) {
	if carried := w.carriedBy(uid); carried != nil {
		return carried.registry.Credentials()
	}
	if spec.RegistrySecretRef == "" {
		return nil, nil
	}
	data, err := w.agent.client.Secret(ctx, w.agent.identity.Host, spec.RegistrySecretRef)
	if err != nil {
		return nil, err
	}
	config, found := data[corev1.DockerConfigJsonKey]
	if !found {
		return nil, fmt.Errorf("secret %s has no key %s", spec.RegistrySecretRef, corev1.DockerConfigJsonKey)
	}
	return config, nil
}
