// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// deleteSecrets deletes the Secrets of a namespace that have the labels, one by one: the controllers do not hold the right
// to delete whole collections. fresh must read past the cache, so that none made a moment ago stays; contents are not read.
func deleteSecrets(ctx context.Context, c client.Client, fresh client.Reader, namespace string, labels client.MatchingLabels) error {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	if err := fresh.List(ctx, &list, client.InNamespace(namespace), labels); err != nil {
		return fmt.Errorf("list secrets of %s: %w", namespace, err)
	}
	for _, item := range list.Items {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: item.Name}}
		if err := client.IgnoreNotFound(c.Delete(ctx, secret, client.Preconditions{UID: &item.UID})); err != nil {
			return fmt.Errorf("delete secret %s/%s: %w", namespace, item.Name, err)
		}
	}
	return nil
}
