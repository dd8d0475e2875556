// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/keyset"
)

// What a key of the installation may do.
const (
	// stateSigning: agents accept what it signs. The last of these in the ring is the one that signs.
	stateSigning = "signing"
	// stateRetired: rotated out; it proves what it signed, and nothing new.
	stateRetired = "retired"
	// stateRevoked: in the wrong hands, or may be.
	stateRevoked = "revoked"
)

// maxStatements bounds the signed key sets that are kept for agents that were away: an agent that misses more rotations
// than that must join again.
const maxStatements = 200

// keyring is all keys that the installation ever had, oldest first, and the statements that led from each set to the next.
// It is kept in one value of one Secret, so that its parts always belong together.
type keyring struct {
	Serial int64     `json:"serial"`
	Keys   []ringKey `json:"keys"`
	// Statements are signed key sets by their serial number.
	Statements map[string]string `json:"statements"`
}

// ringKey is one key. The private half goes when it is no longer needed.
type ringKey struct {
	KeyInfo
	Private string `json:"private,omitempty"`
}

// newKeyring is a ring of one key.
func newKeyring(ctx context.Context, private []byte, made time.Time) (*keyring, error) {
	r := &keyring{Statements: map[string]string{}}
	if err := r.add(private, made); err != nil {
		return nil, err
	}
	return r, r.publish(ctx, made, nil)
}

// add puts a key at the end: the one that signs from now on.
func (r *keyring) add(private []byte, made time.Time) error {
	signer, err := envelope.ParsePrivateKey(private)
	if err != nil {
		return fmt.Errorf("key %s: %w", keyPrivate, err)
	}
	text, err := envelope.EncodePublicKey(signer.Public())
	if err != nil {
		return err
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		return err
	}
	r.Keys = append(r.Keys, ringKey{KeyInfo{ID: public.ID, State: stateSigning, Made: stamp(made), Public: string(text)}, string(private)})
	return nil
}

// signer is the key that signs.
func (r *keyring) signer() (crypto.Signer, error) {
	for _, key := range slices.Backward(r.Keys) {
		if key.State == stateSigning {
			return signerOf(key.Private)
		}
	}
	return nil, errors.New("no key is left that may sign")
}

// publish makes the statement of the present set: signed by every key that may sign now, and by those that might before,
// so that an agent that knows but one of them can follow.
func (r *keyring) publish(ctx context.Context, at time.Time, before []ringKey) error {
	r.Serial++
	set := keyset.Set{Serial: r.Serial, Issued: stamp(at), Keys: map[string]string{}, Retired: map[string]string{}, Revoked: map[string]string{}}
	var signers []crypto.Signer
	signed := map[string]bool{}
	for _, key := range r.Keys {
		map[string]map[string]string{stateSigning: set.Keys, stateRetired: set.Retired, stateRevoked: set.Revoked}[key.State][key.ID] = key.Public
	}
	for _, key := range append(slices.Clone(r.Keys), before...) {
		if _, revoked := set.Revoked[key.ID]; revoked || key.State != stateSigning || signed[key.ID] {
			continue
		}
		signer, err := signerOf(key.Private)
		if err != nil {
			return fmt.Errorf("key %s: %w", key.ID, err)
		}
		signers, signed[key.ID] = append(signers, signer), true
	}
	statement, err := keyset.Sign(ctx, set, signers...)
	if err != nil {
		return err
	}
	r.Statements[strconv.FormatInt(r.Serial, 10)] = statement
	delete(r.Statements, strconv.FormatInt(r.Serial-maxStatements, 10))
	return nil
}

// rotate makes a new key that signs from now on. The key that signed until now stays accepted, for what it signed and is
// still on its way; those before it are retired, and all of them with now.
func (r *keyring) rotate(ctx context.Context, at time.Time, now bool) error {
	_, private, _, err := envelope.GenerateKey()
	if err != nil {
		return err
	}
	before := slices.Clone(r.Keys)
	newest := ""
	for _, key := range r.Keys {
		if key.State == stateSigning {
			newest = key.ID
		}
	}
	if now { // first a set with both, so that an agent that trusts the old one only learns of the new one from it
		if err := r.add(private, at); err != nil {
			return err
		}
		if err := r.publish(ctx, at, before); err != nil {
			return err
		}
		newest, before = r.Keys[len(r.Keys)-1].ID, slices.Clone(r.Keys)
	}
	for i := range r.Keys {
		if key := &r.Keys[i]; key.State == stateSigning && key.ID != newest {
			key.State, key.Changed, key.Private = stateRetired, stamp(at), ""
		}
	}
	if !now {
		if err := r.add(private, at); err != nil {
			return err
		}
	}
	return r.publish(ctx, at, before)
}

// revoke withdraws all trust in a key at once. When it is the one that signs, a new one is made first.
func (r *keyring) revoke(ctx context.Context, id, reason string, at time.Time) error {
	i, err := r.find(id)
	if err != nil {
		return err
	}
	if r.Keys[i].State == stateRevoked {
		return fmt.Errorf("key %s is revoked already, since %s", r.Keys[i].ID, r.Keys[i].Changed.Format(time.RFC3339))
	}
	newer := slices.ContainsFunc(r.Keys[i+1:], func(k ringKey) bool { return k.State == stateSigning })
	if r.Keys[i].State == stateSigning && !newer {
		_, private, _, err := envelope.GenerateKey()
		if err != nil {
			return err
		}
		before := slices.Clone(r.Keys)
		if err := r.add(private, at); err != nil {
			return err
		}
		if err := r.publish(ctx, at, before); err != nil { // the last word of the old key: whom to trust next
			return err
		}
	}
	key := &r.Keys[i]
	key.State, key.Changed, key.Reason, key.Private = stateRevoked, stamp(at), reason, ""
	return r.publish(ctx, at, nil)
}

// find a key by its id or the beginning of it, with or without "sha256:".
func (r *keyring) find(id string) (int, error) {
	id = strings.TrimPrefix(id, "sha256:")
	found := -1
	for i, key := range r.Keys {
		if len(id) >= minKeyPrefix && strings.HasPrefix(strings.TrimPrefix(key.ID, "sha256:"), id) {
			if found >= 0 {
				return -1, fmt.Errorf("several keys begin with %s: give more of it", id)
			}
			found = i
		}
	}
	if found < 0 {
		return -1, fmt.Errorf("there is no key %s: give its id or at least %d digits of it, see `sirrat keys list`", id, minKeyPrefix)
	}
	return found, nil
}

// minKeyPrefix is the least of a key's id, in digits, that names it.
const minKeyPrefix = 8

func readKeyring(s *corev1.Secret) (*keyring, error) {
	r := &keyring{}
	if err := envelope.DecodeStrict(s.Data[keyRing], r); err != nil {
		return nil, fmt.Errorf("secret %s/%s, key %s: it cannot be read", s.Namespace, s.Name, keyRing) // without quoting it
	}
	for _, key := range r.Keys {
		if parsed, err := envelope.ParsePublicKey(key.Public); err != nil || parsed.ID != key.ID {
			return nil, fmt.Errorf("secret %s/%s, key %s: the key called %s is another one", s.Namespace, s.Name, keyRing, key.ID)
		}
	}
	if r.Statements == nil {
		r.Statements = map[string]string{}
	}
	return r, nil
}

// store writes the ring into the Secret, and the key that signs where earlier versions look for it.
func (r *keyring) store(s *corev1.Secret) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode keyring: %w", err)
	}
	for _, key := range slices.Backward(r.Keys) {
		if key.State == stateSigning {
			s.Data[keyPrivate] = []byte(key.Private)
			break
		}
	}
	s.Data[keyRing] = text
	return nil
}

// KeyInfo is what may be told of a key of the installation.
type KeyInfo struct {
	ID string `json:"id"`
	// State is signing, retired or revoked; accepted for those that may still sign when it is told.
	State   string    `json:"state"`
	Made    time.Time `json:"made"`
	Changed time.Time `json:"changed,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	Public  string    `json:"public"`
}

// ListKeys tells of all keys that the installation ever had, oldest first, and the serial number of the present set.
func ListKeys(ctx context.Context, c client.Client) ([]KeyInfo, int64, error) {
	s, err := ensureKeySecret(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	r, err := readKeyring(s)
	if err != nil {
		return nil, 0, err
	}
	return r.infos(), r.Serial, nil
}

func (r *keyring) infos() []KeyInfo {
	var out []KeyInfo
	signing := -1
	for i, k := range r.Keys {
		if k.State == stateSigning {
			if signing >= 0 {
				out[signing].State = "accepted"
			}
			signing = i
		}
		out = append(out, k.KeyInfo)
	}
	return out
}

// RotateKeys makes a new key that signs from now on. dropOld retires at once all others, whose orders that no agent has
// begun are then refused; without it the key that signed last stays accepted until the next rotation.
func RotateKeys(ctx context.Context, c client.Client, at time.Time, dropOld bool) ([]KeyInfo, error) {
	return changeKeys(ctx, c, func(r *keyring) error { return r.rotate(ctx, at, dropOld) })
}

// RevokeKey withdraws all trust in a key, named by its id or the beginning of it.
func RevokeKey(ctx context.Context, c client.Client, at time.Time, id, reason string) ([]KeyInfo, error) {
	return changeKeys(ctx, c, func(r *keyring) error { return r.revoke(ctx, id, reason, at) })
}

func changeKeys(ctx context.Context, c client.Client, change func(*keyring) error) ([]KeyInfo, error) {
	var out []KeyInfo
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := ensureKeySecret(ctx, c)
		if err != nil {
			return err
		}
		r, err := readKeyring(s)
		if err != nil {
			return err
		}
		if err := change(r); err != nil {
			return err
		}
		if err := r.store(s); err != nil {
			return err
		}
		out = r.infos()
		return c.Update(ctx, s)
	})
	if err != nil {
		return nil, fmt.Errorf("change the signing keys: %w", err)
	}
	return out, nil
}
