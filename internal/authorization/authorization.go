// SPDX-License-Identifier: Apache-2.0

// Package authorization makes and checks the signed permission to deploy: a DSSE envelope over an in-toto v1 statement
// whose subjects are the images and whose predicate names everything else that was approved. The controllers sign, the
// agents verify; nothing is deployed without.
//
// It is pure but for signing. It may import api/v1alpha1 and internal/envelope.
package authorization

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// The fixed strings of a statement: https://in-toto.io/Statement/v1.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://sirrat.dynors.com/authorization/v1"
)

// Validity is how long an authorization may be carried out for the first time. What runs already keeps running.
const Validity = 7 * 24 * time.Hour

// Reasons of a refusal; each is wrapped in the error that Verify returns.
var (
	ErrSignature   = errors.New("the authorization is not signed by a known key")
	ErrMalformed   = errors.New("the authorization cannot be read")
	ErrExpired     = errors.New("the authorization has expired")
	ErrOtherHost   = errors.New("the authorization is for another host")
	ErrMismatch    = errors.New("the rollout differs from what was authorised")
	ErrOldSequence = errors.New("a newer authorization was already carried out")
)

// Statement is the in-toto statement.
type Statement struct {
	Type          string    `json:"_type"`
	PredicateType string    `json:"predicateType"`
	Subject       []Subject `json:"subject"`
	Predicate     Predicate `json:"predicate"`
}

// Subject is one service's image.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Predicate names everything beyond the images.
type Predicate struct {
	Project     string    `json:"project"`
	ProjectUID  string    `json:"projectUID"`
	Release     string    `json:"release"`
	ReleaseUID  string    `json:"releaseUID"`
	Commit      string    `json:"commit"`
	Environment string    `json:"environment"`
	Host        string    `json:"host"`
	HostUID     string    `json:"hostUID"`
	Sequence    int64     `json:"sequence"`
	BundleHash  string    `json:"bundleHash"`
	SpecHash    string    `json:"specHash"`
	NotAfter    time.Time `json:"notAfter"`
	// Gates are the verdicts on which it was given: "<gate>: <message>".
	Gates []string `json:"gates,omitempty"`
	// PVSignature is the hash of the client's signature, where the gate asked for one.
	PVSignature string `json:"pvSignature,omitempty"`
}

// Host names the server that an authorization is for.
type Host struct{ Name, UID string }

// SpecHash covers every field of a Rollout's spec but the authorization itself: compose text, values, checks, strategy.
func SpecHash(spec v1alpha1.RolloutSpec) (string, error) {
	spec.Authorization = ""
	text, err := json.Marshal(spec) // struct order is fixed and maps are sorted: deterministic
	if err != nil {
		return "", fmt.Errorf("encode rollout: %w", err)
	}
	return envelope.Hash(text), nil
}

// Sign authorises a Rollout for one host until now + Validity.
func Sign(ctx context.Context, spec v1alpha1.RolloutSpec, host Host, now time.Time, gates []string, pvSignature string, key crypto.Signer) (string, error) {
	st, err := statementFor(spec, host)
	if err != nil {
		return "", err
	}
	st.Predicate.NotAfter = now.UTC().Truncate(time.Second).Add(Validity)
	st.Predicate.Gates = gates
	st.Predicate.PVSignature = pvSignature
	payload, err := json.Marshal(st)
	if err != nil {
		return "", fmt.Errorf("encode authorization: %w", err)
	}
	return envelope.Sign(ctx, PayloadType, payload, key)
}

// Verify checks that the Rollout is authorised for this host by one of keys, now, and that its sequence is above minimum:
// the highest sequence that this host has carried out for the project and environment (the same sequence again is
// allowed: it is the same order). started says that this very authorization was already carried out here: then its
// expiry no longer matters, since what runs keeps running.
func Verify(ctx context.Context, spec v1alpha1.RolloutSpec, host Host, now time.Time, minimum int64, started bool, keys []envelope.PublicKey) (*Statement, error) {
	payload, _, err := envelope.Verify(ctx, spec.Authorization, PayloadType, keys)
	switch {
	case errors.Is(err, envelope.ErrUnknownKey):
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var st Statement
	if err := envelope.DecodeStrict(payload, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if st.Type != StatementType || st.PredicateType != PredicateType {
		return nil, fmt.Errorf("%w: statement of type %q, %q", ErrMalformed, st.Type, st.PredicateType)
	}
	p := st.Predicate
	if p.Host != host.Name || p.HostUID != host.UID {
		return nil, fmt.Errorf("%w: %s (%s), this is %s (%s)", ErrOtherHost, p.Host, p.HostUID, host.Name, host.UID)
	}
	want, err := statementFor(spec, host)
	if err != nil {
		return nil, err
	}
	if diff := difference(&st, want); diff != "" {
		return nil, fmt.Errorf("%w: %s", ErrMismatch, diff)
	}
	if p.Sequence < minimum {
		return nil, fmt.Errorf("%w: sequence %d, already at %d", ErrOldSequence, p.Sequence, minimum)
	}
	if !started && now.After(p.NotAfter) {
		return nil, fmt.Errorf("%w on %s", ErrExpired, p.NotAfter.Format(time.RFC3339))
	}
	return &st, nil
}

func statementFor(spec v1alpha1.RolloutSpec, host Host) (*Statement, error) {
	hash, err := SpecHash(spec)
	if err != nil {
		return nil, err
	}
	if spec.Remove != nil && (spec.Compose != "" || len(spec.Images) > 0) { // one order says one thing
		return nil, fmt.Errorf("%w: an order to remove names a compose file or images", ErrMismatch)
	}
	st := &Statement{Type: StatementType, PredicateType: PredicateType, Predicate: Predicate{
		Project: spec.Project, ProjectUID: spec.ProjectUID,
		Release: spec.Release.Name, ReleaseUID: spec.Release.UID, Commit: spec.Release.Commit,
		Environment: spec.Environment, Host: host.Name, HostUID: host.UID,
		Sequence: spec.Sequence, BundleHash: spec.BundleHash, SpecHash: hash,
	}}
	for _, image := range spec.Images {
		_, digest, found := strings.Cut(image.Image, "@")
		algorithm, hex, split := strings.Cut(digest, ":")
		if !found || !split {
			return nil, fmt.Errorf("%w: the image of service %s has no digest", ErrMismatch, image.Service)
		}
		st.Subject = append(st.Subject, Subject{Name: image.Service, Digest: map[string]string{algorithm: hex}})
	}
	return st, nil
}

// difference names the first thing in which two statements differ, "" when they agree. What only the signer knows
// (expiry, verdicts) is not compared.
func difference(got, want *Statement) string {
	g, w := got.Predicate, want.Predicate
	for _, c := range []struct {
		name string
		same bool
	}{
		{"project", g.Project == w.Project && g.ProjectUID == w.ProjectUID},
		{"release", g.Release == w.Release && g.ReleaseUID == w.ReleaseUID && g.Commit == w.Commit},
		{"environment", g.Environment == w.Environment},
		{"sequence", g.Sequence == w.Sequence},
		{"bundle hash", g.BundleHash == w.BundleHash},
		{"images", slices.EqualFunc(got.Subject, want.Subject, func(a, b Subject) bool {
			return a.Name == b.Name && maps.Equal(a.Digest, b.Digest)
		})},
		{"compose file, values, checks or strategy", g.SpecHash == w.SpecHash},
	} {
		if !c.same {
			return c.name
		}
	}
	return ""
}
