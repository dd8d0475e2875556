// SPDX-License-Identifier: Apache-2.0

package pv

import (
	"encoding/json"
	"fmt"
	"slices"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Authorised is all that decides what runs in one environment, but for the contents of its Secrets, which stay secret: the
// client signs which variables may come from them.
type Authorised struct {
	Environment    string `json:"environment"`
	ComposeProject string `json:"composeProject"`
	// ComposeHash is the hash of the compose file's text.
	ComposeHash string `json:"composeHash"`
	// Images of all services, by digest, in the order of the services' names.
	Images []v1alpha1.ServiceImage `json:"images"`
	// ValuesHash is the hash of the values that are not secret.
	ValuesHash string `json:"valuesHash"`
	// ChecksHash is the hash of the health checks, which may run commands in containers.
	ChecksHash string `json:"checksHash"`
	// SecretNames are the variables that Secrets provide, in order.
	SecretNames []string `json:"secretNames"`
}

// Authorise puts together what an environment's rollout would be.
func Authorise(environment, composeProject, compose string, images []v1alpha1.ServiceImage, values map[string]string, checks []v1alpha1.HealthCheck, secrets []string) (Authorised, error) {
	if values == nil {
		values = map[string]string{}
	}
	if checks == nil {
		checks = []v1alpha1.HealthCheck{}
	}
	a := Authorised{
		Environment: environment, ComposeProject: composeProject, ComposeHash: envelope.Hash([]byte(compose)),
		Images: slices.Clone(images), SecretNames: append([]string{}, secrets...),
	}
	slices.Sort(a.SecretNames)
	a.SecretNames = slices.Compact(a.SecretNames)
	for _, h := range []struct {
		of   any
		into *string
	}{{values, &a.ValuesHash}, {checks, &a.ChecksHash}} {
		text, err := json.Marshal(h.of) // maps are sorted, struct order is fixed: deterministic
		if err != nil {
			return Authorised{}, fmt.Errorf("encode %T: %w", h.of, err)
		}
		*h.into = envelope.Hash(text)
	}
	return a, nil
}

// Differs names the first thing in which a rollout differs from what the client authorised, "" when there is none.
func (a Authorised) Differs(from Authorised) string {
	for _, c := range []struct {
		name string
		same bool
	}{
		{"the environment", a.Environment == from.Environment},
		{"the compose project", a.ComposeProject == from.ComposeProject},
		{"the compose file", a.ComposeHash == from.ComposeHash},
		{"the images", slices.Equal(a.Images, from.Images)},
		{"the values", a.ValuesHash == from.ValuesHash},
		{"the health checks", a.ChecksHash == from.ChecksHash},
	} {
		if !c.same {
			return c.name
		}
	}
	return ""
}
