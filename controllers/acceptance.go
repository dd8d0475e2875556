// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// acceptance is what the client itself signed, with its own key, for a release in an environment: the newest PV that
// authorises it; nil when there is none. Hosts whose owner demands the client's signature verify it.
func acceptance(ctx context.Context, reader client.Reader, rel *v1alpha1.Release, environment string) (*v1alpha1.Acceptance, error) {
	var pvs v1alpha1.PVList
	if err := reader.List(ctx, &pvs, client.InNamespace(rel.Namespace), client.MatchingFields{indexRelease: string(rel.UID)}); err != nil {
		return nil, fmt.Errorf("list pvs: %w", err)
	}
	var newest *v1alpha1.PV
	for i := range pvs.Items {
		p := &pvs.Items[i]
		accepted := p.Status.Decision == v1alpha1.PVAccepted || p.Status.Decision == v1alpha1.PVAcceptedWithReservations
		if !accepted || p.Status.Method != v1alpha1.MethodKey || p.Status.SignedAt == nil || !authorises(p, environment) {
			continue
		}
		if newest == nil || newest.Status.SignedAt.Before(p.Status.SignedAt) {
			newest = p
		}
	}
	if newest == nil {
		return nil, nil
	}
	return &v1alpha1.Acceptance{Document: newest.Spec.Document, Signature: newest.Spec.Signature}, nil
}

func authorises(p *v1alpha1.PV, environment string) bool {
	var doc pv.Document
	if json.Unmarshal([]byte(p.Spec.Document), &doc) != nil {
		return false
	}
	return slices.ContainsFunc(doc.Authorises, func(a pv.Authorised) bool { return a.Environment == environment })
}

// authorised is what the client would let run in each environment that comes after one. An environment whose files are
// not in order at the moment is left out: its hosts will ask for another PV if their owners demand one.
func (f *freezer) authorised(ctx context.Context, rel *v1alpha1.Release, after string) ([]pv.Authorised, error) {
	var list v1alpha1.EnvironmentList
	if err := f.reader.List(ctx, &list, client.InNamespace(rel.Namespace)); err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	following := map[string]bool{after: true}
	ordered, _ := orderBridge(list.Items)
	var out []pv.Authorised
	for _, env := range ordered {
		if env.Name == after || !following[env.Spec.After] {
			continue
		}
		following[env.Name] = true
		if env.Spec.Hosts == nil || rel.Status.Bundle == nil {
			continue
		}
		a, err := f.authorisedIn(ctx, rel, env)
		var user userError
		if errors.As(err, &user) || errors.Is(err, errRegistry) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (f *freezer) authorisedIn(ctx context.Context, rel *v1alpha1.Release, env v1alpha1.Environment) (pv.Authorised, error) {
	m, err := readMaterial(ctx, f.reader, env, rel)
	if err != nil {
		return pv.Authorised{}, err
	}
	services, err := f.pinServices(ctx, env, m, rel.Status.Bundle.DeepCopy(), unresolvable{})
	if err != nil {
		return pv.Authorised{}, err
	}
	if services, err = pulledFrom(env, rel.Status.Bundle, services); err != nil {
		return pv.Authorised{}, err
	}
	var secrets []string
	for _, data := range m.secrets {
		secrets = slices.AppendSeq(secrets, maps.Keys(data))
	}
	return pv.Authorise(env.Name, composeProject(env), m.compose, services, env.Spec.Values, env.Spec.HealthChecks, secrets)
}
