// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// keySecret holds the key that signs authorizations and the salt of value hashes, in the system namespace.
const (
	keySecret  = "authorization-key"
	keyPrivate = "private.pem"
	keySalt    = "salt"
	saltBytes  = 32
)

// Keys are the installation's, made once, at the first start.
type Keys struct {
	// Signer signs authorizations, exports, and what the signing page saw.
	Signer crypto.Signer
	// Public is the public key by its id: id → PEM (PKIX).
	Public map[string]string
	// Verifiers are the public keys parsed.
	Verifiers []envelope.PublicKey
	salt      []byte
}

// EnsureKeys reads the installation's keys, making them if there are none. Two first starts at once agree on one.
func EnsureKeys(ctx context.Context, c client.Client) (*Keys, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SystemNamespace}}
	if err := ignoreExists(c.Create(ctx, ns)); err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", ns.Name, err)
	}
	var s corev1.Secret
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: keySecret}
	err := c.Get(ctx, key, &s)
	if apierrors.IsNotFound(err) {
		if err := createKeys(ctx, c); err != nil {
			return nil, err
		}
		err = c.Get(ctx, key, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	signer, err := envelope.ParsePrivateKey(s.Data[keyPrivate])
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s, key %s: %w", key.Namespace, key.Name, keyPrivate, err)
	}
	if len(s.Data[keySalt]) < saltBytes {
		return nil, fmt.Errorf("secret %s/%s, key %s: %w", key.Namespace, key.Name, keySalt, errors.New("missing or too short"))
	}
	pemText, err := envelope.EncodePublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	public, err := envelope.ParsePublicKey(string(pemText))
	if err != nil {
		return nil, err
	}
	// A ConfigMap's keys may not contain ":", so the id goes without its algorithm.
	return &Keys{Signer: signer, Public: map[string]string{public.ID[len("sha256:"):]: string(pemText)}, salt: s.Data[keySalt],
		Verifiers: []envelope.PublicKey{public}}, nil
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
