// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// publicURLUsage explains --public-url.
const publicURLUsage = "address of the HTTP API as people reach it, told to kubectl-sirrat, and below which GitLab's commit statuses lead to the pages of releases; default: http:// and the address of --http-bind, and no such pages. Example: https://sirrat.dynors.com"

// checkPublicURL refuses what no command line could use.
func checkPublicURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("--public-url: not of the form https://NAME[:PORT]")
	}
	return nil
}

// publishInfo writes, where everybody with an account may read it, where the HTTP API is. It writes nothing if that is there.
func publishInfo(ctx context.Context, c client.Client, address string) error {
	want := map[string]string{v1alpha1.InfoURL: address}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.InfoConfigMap}}
	err := c.Get(ctx, client.ObjectKeyFromObject(cm), cm)
	switch {
	case apierrors.IsNotFound(err):
		cm.Data = want
		err = c.Create(ctx, cm)
	case err == nil && !maps.Equal(cm.Data, want):
		cm.Data = want
		err = c.Update(ctx, cm)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) { // another replica, which says the same
		err = nil
	}
	if err != nil {
		return fmt.Errorf("publish the address of the HTTP API: %w", err)
	}
	return nil
}
