// SPDX-License-Identifier: Apache-2.0

// Package keyset says which keys may sign authorizations. A set is a signed statement with a serial number; each is signed
// by a key of the set before it, so that an agent that pinned keys at its enrolment can follow any number of rotations, and
// nobody who holds the control plane but none of its keys can add one.
//
// It decides and signs; it stores nothing. It may import internal/envelope.
package keyset

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// PayloadType of a signed set.
const PayloadType = "application/vnd.sirrat.keyset.v1+json"

// maxKeys bounds each list of a set, and what an agent remembers.
const maxKeys = 1000

// Errors that Advance and Open wrap.
var (
	// ErrUnsigned: no key that is trusted here signed the set.
	ErrUnsigned = errors.New("the key set is signed by no key that is trusted here")
	// ErrInvalid: a trusted key signed something that is not a usable set.
	ErrInvalid = errors.New("the key set is not valid")
	// ErrRollback: the newest set on offer is older than the one in use.
	ErrRollback = errors.New("the key set is older than the one in use")
)

// Set is which keys may sign authorizations, and which may not any more. Keys are PEM (PKIX) by their id ("sha256:…").
type Set struct {
	// Serial grows by one with each change; 0 is a set that was pinned at enrolment and came with no statement.
	Serial int64 `json:"serial"`
	// Issued is when the set was made, for people; nothing is decided by it.
	Issued time.Time `json:"issued,omitzero"`
	// Keys may sign.
	Keys map[string]string `json:"keys"`
	// Retired keys were rotated out in good order: what they signed and what runs keeps running, nothing new begins.
	Retired map[string]string `json:"retired,omitempty"`
	// Revoked keys are in the wrong hands, or may be.
	Revoked map[string]string `json:"revoked,omitempty"`
}

// Parsed is a set whose keys are parsed, each list in the order of ids.
type Parsed struct{ Keys, Retired, Revoked []envelope.PublicKey }

// Parse checks every key: its id must be its own, and no key may stand in two lists.
func (s Set) Parse() (Parsed, error) {
	var p Parsed
	seen := map[string]bool{}
	for _, list := range []struct {
		from map[string]string
		into *[]envelope.PublicKey
	}{{s.Keys, &p.Keys}, {s.Retired, &p.Retired}, {s.Revoked, &p.Revoked}} {
		if len(list.from) > maxKeys {
			return Parsed{}, fmt.Errorf("%w: more than %d keys", ErrInvalid, maxKeys)
		}
		for _, id := range slices.Sorted(maps.Keys(list.from)) {
			key, err := envelope.ParsePublicKey(list.from[id])
			if err != nil {
				return Parsed{}, fmt.Errorf("%w: key %s: %w", ErrInvalid, id, err)
			}
			if key.ID != id {
				return Parsed{}, fmt.Errorf("%w: the key called %s is %s", ErrInvalid, id, key.ID)
			}
			if seen[id] {
				return Parsed{}, fmt.Errorf("%w: key %s stands in two lists", ErrInvalid, id)
			}
			seen[id] = true
			*list.into = append(*list.into, key)
		}
	}
	return p, nil
}

// Sign makes a statement of a set, with a signature of each key.
func Sign(ctx context.Context, s Set, keys ...crypto.Signer) (string, error) {
	parsed, err := s.Parse()
	if err != nil {
		return "", err
	}
	if len(parsed.Keys) == 0 || s.Serial < 1 {
		return "", fmt.Errorf("%w: it has no key, or no serial number", ErrInvalid)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode key set: %w", err)
	}
	return envelope.Sign(ctx, PayloadType, payload, keys...)
}

// Open checks a statement with the keys that are trusted at present.
func Open(ctx context.Context, statement string, trusted []envelope.PublicKey) (Set, error) {
	payload, _, err := envelope.Verify(ctx, statement, PayloadType, trusted)
	switch {
	case errors.Is(err, envelope.ErrUnknownKey):
		return Set{}, fmt.Errorf("%w: %w", ErrUnsigned, err)
	case err != nil:
		return Set{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var s Set
	if err := envelope.DecodeStrict(payload, &s); err != nil {
		return Set{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	parsed, err := s.Parse()
	if err != nil {
		return Set{}, err
	}
	if len(parsed.Keys) == 0 || s.Serial < 1 {
		return Set{}, fmt.Errorf("%w: it has no key, or no serial number", ErrInvalid)
	}
	return s, nil
}

// Advance takes from statements, by serial number, those that follow from the set in use, and returns the newest. It never
// goes back: a key that was revoked once stays revoked, and statements of the present or a lower serial are left out.
// Statements whose signature is not trusted are left out too; when that leaves the set where it was although a higher one
// is on offer, the error wraps ErrUnsigned or ErrInvalid, and when all that is on offer is older than the set, ErrRollback.
// The returned set is usable in each case.
func Advance(ctx context.Context, current Set, statements map[int64]string) (Set, error) {
	set := current
	var refused error
	highest := int64(0)
	for _, serial := range slices.Sorted(maps.Keys(statements)) {
		highest = max(highest, serial)
		if serial <= set.Serial {
			continue
		}
		parsed, err := set.Parse()
		if err != nil {
			return set, err
		}
		next, err := Open(ctx, statements[serial], parsed.Keys)
		if err == nil && next.Serial != serial {
			err = fmt.Errorf("%w: it is offered as number %d and says %d", ErrInvalid, serial, next.Serial)
		}
		if err == nil {
			next, err = next.after(set)
		}
		if err != nil {
			refused = errors.Join(refused, fmt.Errorf("key set %d: %w", serial, err))
			continue
		}
		set, refused = next, nil
	}
	switch {
	case refused != nil:
		return set, refused
	case highest < set.Serial && len(statements) > 0:
		return set, fmt.Errorf("%w: the control plane's is number %d, number %d is in use here", ErrRollback, highest, set.Serial)
	}
	return set, nil
}

// after is the set with what was revoked before it, which stays revoked.
func (s Set) after(before Set) (Set, error) {
	s.Revoked = maps.Clone(s.Revoked)
	for id, text := range before.Revoked {
		if _, back := s.Keys[id]; back {
			return Set{}, fmt.Errorf("%w: it brings back the revoked key %s", ErrInvalid, id)
		}
		if s.Revoked == nil {
			s.Revoked = map[string]string{}
		}
		s.Revoked[id] = text
		delete(s.Retired, id)
	}
	return s, nil
}
