// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/rand"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// The key that makes the addresses of releases' pages, in the system namespace. It signs nothing else, so that it can be
// replaced, and with it every address, without touching what was signed.
const (
	pageKeySecret = "release-pages"
	pageKey       = "key"
	pageKeyBytes  = 32
)

// EnsurePageKey reads the key of releases' pages, making it if there is none. Two first starts at once agree on one.
func EnsurePageKey(ctx context.Context, c client.Client) ([]byte, error) {
	s := &corev1.Secret{}
	at := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: pageKeySecret}
	err := c.Get(ctx, at, s)
	if apierrors.IsNotFound(err) {
		key := make([]byte, pageKeyBytes)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("generate the key of releases' pages: %w", err)
		}
		made := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name}, Data: map[string][]byte{pageKey: key}}
		if err := ignoreExists(c.Create(ctx, made)); err != nil {
			return nil, fmt.Errorf("store the key of releases' pages: %w", err)
		}
		err = c.Get(ctx, at, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of releases' pages: %w", err)
	}
	if len(s.Data[pageKey]) != pageKeyBytes {
		return nil, fmt.Errorf("secret %s, key %s: it has %d bytes, want %d: delete the Secret, and a new one is made", at, pageKey, len(s.Data[pageKey]), pageKeyBytes)
	}
	return s.Data[pageKey], nil
}
