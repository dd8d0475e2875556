// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
)

// verify checks the authorization of a Rollout. started says that carrying it out has begun, so that its expiry no longer
// matters.
func (w *worker) verify(ctx context.Context, spec v1alpha1.RolloutSpec, started bool) error {
	minimum := w.disk.Highest
	if w.disk.ProjectUID != spec.ProjectUID {
		minimum = 0 // a project of the same name that was created anew counts from one
	}
	if slices.Contains(w.disk.Retired, spec.ProjectUID) {
		return fmt.Errorf("%w: the project of uid %s was replaced by a newer one", authorization.ErrOldSequence, spec.ProjectUID)
	}
	host := authorization.Host{Name: w.agent.identity.Host, UID: w.agent.identity.HostUID}
	_, err := authorization.Verify(ctx, spec, host, time.Now(), minimum, started, w.agent.pinnedKeys())
	return err
}

// secrets fetches the values from the Secrets that a spec names.
func (w *worker) secrets(ctx context.Context, spec v1alpha1.RolloutSpec) (state.Secrets, error) {
	values := state.Secrets{}
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

// credentials fetches the dockerconfigjson to pull with; nil when the spec names none.
func (w *worker) credentials(ctx context.Context, spec v1alpha1.RolloutSpec) ([]byte, error) {
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

// retire makes the authorizations of an earlier project of the same name void.
func retire(e *state.Environment, uid string) {
	if e.ProjectUID == uid {
		return
	}
	if e.ProjectUID != "" {
		e.Retired = append(e.Retired, e.ProjectUID)
		e.Highest = 0
	}
	e.ProjectUID = uid
}
