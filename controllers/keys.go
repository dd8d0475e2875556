// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// keySecret holds the keys that sign authorizations and the salt of value hashes, in the system namespace.
const (
	keySecret  = "authorization-key"
	keyPrivate = "private.pem" // the key that signs at present
	keySalt    = "salt"
	keyRing    = "keyring.json"
	saltBytes  = 32
)

// Keys are the installation's, made once, at the first start, and followed through every rotation since. They are safe for
// concurrent use.
type Keys struct {
	// Signer signs authorizations, exports, and what the signing page saw; always with the key of the moment.
	Signer *envelope.Changing
	salt   []byte

	mu   sync.RWMutex
	ring *keyring
	// changed is told after each change.
	changed []func()
}

// Public are all keys by which this installation ever signed, those of today and those of old, for whoever verifies what
// was signed: id ("sha256:…") → PEM (PKIX).
func (k *Keys) Public() map[string]string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]string{}
	for _, key := range k.ring.Keys {
		out[key.ID] = key.Public
	}
	return out
}

// Verifiers are the keys of Public, parsed, in a stable order.
func (k *Keys) Verifiers() []envelope.PublicKey {
	return k.parsed(stateSigning, stateRetired, stateRevoked)
}

// attesters are the keys whose word on what the signing page saw is taken today: not those that were revoked.
func (k *Keys) attesters() []envelope.PublicKey { return k.parsed(stateSigning, stateRetired) }

func (k *Keys) parsed(states ...string) []envelope.PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []envelope.PublicKey
	for _, key := range k.ring.Keys {
		if parsed, err := envelope.ParsePublicKey(key.Public); err == nil && slices.Contains(states, key.State) { // checked when it was read
			out = append(out, parsed)
		}
	}
	return out
}

// verifier names the installation where it says what it verified.
func (k *Keys) verifier() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return attestation.VerifierID(k.ring.Keys[0].ID)
}

// trusted are the keys that agents are to accept: id without its algorithm, since a ConfigMap's keys may not contain ":", →
// PEM. With them go the signed statements of all sets, by serial number.
func (k *Keys) trusted() (keys, statements map[string]string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	keys = map[string]string{}
	for _, key := range k.ring.Keys {
		if key.State == stateSigning {
			keys[strings.TrimPrefix(key.ID, "sha256:")] = key.Public
		}
	}
	return keys, maps.Clone(k.ring.Statements)
}

// told says whether a host was told of the newest set of keys: before that it might refuse an order that is signed by a new
// one.
func (k *Keys) told(ctx context.Context, reader client.Reader, namespace string) error {
	k.mu.RLock()
	serial := strconv.FormatInt(k.ring.Serial, 10)
	statement := k.ring.Statements[serial]
	k.mu.RUnlock()
	var cm corev1.ConfigMap
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.KeySets}, &cm); err != nil {
		return fmt.Errorf("read the keys that %s was told of: %w", namespace, err)
	}
	if cm.Data[serial] != statement {
		return fmt.Errorf("%s was not told of the newest keys (set %s) yet", namespace, serial)
	}
	return nil
}

// EnsureKeys reads the installation's keys, making them if there are none. Two first starts at once agree on one.
func EnsureKeys(ctx context.Context, c client.Client) (*Keys, error) {
	s, err := ensureKeySecret(ctx, c)
	if err != nil {
		return nil, err
	}
	k := &Keys{}
	if len(s.Data[keySalt]) < saltBytes {
		return nil, fmt.Errorf("secret %s/%s, key %s: %w", s.Namespace, s.Name, keySalt, errors.New("missing or too short"))
	}
	k.salt = s.Data[keySalt]
	return k, k.load(s)
}

// ensureKeySecret reads the Secret, and makes it, with its keyring, where there is none yet.
func ensureKeySecret(ctx context.Context, c client.Client) (*corev1.Secret, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SystemNamespace}}
	if err := ignoreExists(c.Create(ctx, ns)); err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", ns.Name, err)
	}
	s := &corev1.Secret{}
	err := c.Get(ctx, keySecretKey, s)
	if apierrors.IsNotFound(err) {
		if err := createKeys(ctx, c); err != nil {
			return nil, err
		}
		err = c.Get(ctx, keySecretKey, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	if len(s.Data[keyRing]) > 0 {
		return s, nil
	}
	// From before keys could be rotated: its one key is the first of the ring.
	ring, err := newKeyring(ctx, s.Data[keyPrivate], s.CreationTimestamp.Time)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	if err := ring.store(s); err != nil {
		return nil, err
	}
	if err := c.Update(ctx, s); apierrors.IsConflict(err) { // another replica did the same
		return s, c.Get(ctx, keySecretKey, s)
	} else if err != nil {
		return nil, fmt.Errorf("store keyring: %w", err)
	}
	return s, nil
}

var keySecretKey = client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: keySecret}

// load takes over what the Secret says.
func (k *Keys) load(s *corev1.Secret) error {
	ring, err := readKeyring(s)
	if err != nil {
		return err
	}
	signer, err := ring.signer()
	if err != nil {
		return err
	}
	k.mu.Lock()
	if k.Signer == nil {
		k.Signer = envelope.NewChanging(signer)
	}
	k.Signer.Exchange(signer)
	k.ring = ring
	told := slices.Clone(k.changed)
	k.mu.Unlock()
	for _, f := range told {
		f()
	}
	return nil
}

// onChange has f called after each change; it must not block.
func (k *Keys) onChange(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = append(k.changed, f)
}

func createKeys(ctx context.Context, c client.Client) error {
	_, private, _, err := envelope.GenerateKey()
	if err != nil {
		return err
	}
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return fmt.Errorf("generate salt: %w", err)
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: keySecret},
		Data:       map[string][]byte{keyPrivate: private, keySalt: salt},
	}
	if err := ignoreExists(c.Create(ctx, s)); err != nil {
		return fmt.Errorf("store signing key: %w", err)
	}
	return nil
}

// keysReconciler takes over a rotation or revocation that `sirrat keys` wrote, in every replica, without a restart.
type keysReconciler struct {
	client.Reader
	keys *Keys
}

// Reconcile reads the keys again.
func (r *keysReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	s := &corev1.Secret{}
	if err := r.Get(ctx, keySecretKey, s); err != nil {
		if apierrors.IsNotFound(err) {
			log.FromContext(ctx).Info("the secret of the signing keys is gone: put it back from a backup; until a restart it is kept in memory",
				"secret", keySecretKey.String())
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("read signing keys: %w", err)
	}
	if err := r.keys.load(s); err != nil { // the keys in use stay; a person must mend the Secret
		return ctrl.Result{}, fmt.Errorf("the signing keys changed and cannot be read, those in use stay: %w", err)
	}
	return ctrl.Result{}, nil
}

// hostsOnChange is a source of events for every host, raised when the keys change.
func hostsOnChange(ctx context.Context, c client.Reader, keys *Keys) <-chan event.GenericEvent {
	wake := make(chan struct{}, 1)
	keys.onChange(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	out := make(chan event.GenericEvent)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
			var hosts v1alpha1.HostList
			if err := c.List(ctx, &hosts); err != nil {
				continue // a cache that cannot be read is a cache that stops; its restart looks at every host
			}
			for i := range hosts.Items {
				select {
				case <-ctx.Done():
					return
				case out <- event.GenericEvent{Object: &hosts.Items[i]}:
				}
			}
		}
	}()
	return out
}

// signerOf parses a private key.
func signerOf(text string) (crypto.Signer, error) { return envelope.ParsePrivateKey([]byte(text)) }

// stamp is a time as it is written into a keyring: whole seconds.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
