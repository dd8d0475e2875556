// SPDX-License-Identifier: Apache-2.0

// Package install applies the built-in CRDs, roles and admission policies to a cluster, so that `sirrat server` starts
// with exactly what it was built with. It may import config and Kubernetes clients.
package install

import (
	"context"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/config"
)

// fieldManager owns what is applied.
const fieldManager = "sirrat"

// establishTimeout bounds the wait for CRDs to be served.
const establishTimeout = 30 * time.Second

// Apply applies everything by server-side apply, taking back what others changed, and returns when the CRDs are served.
func Apply(ctx context.Context, cfg *rest.Config) error {
	objects, err := config.Objects()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register CRDs: %w", err)
	}
	// A fixed mapping: asking a server that has just started for its whole discovery would cost more than all of this.
	c, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: staticMapper(objects)})
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	var crds []string
	for _, o := range objects {
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if o.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, o.GetName())
		}
	}
	return waitEstablished(ctx, c, crds)
}

func staticMapper(objects []*unstructured.Unstructured) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, o := range objects {
		scope := meta.RESTScopeRoot
		if o.GetNamespace() != "" {
			scope = meta.RESTScopeNamespace
		}
		mapper.Add(o.GroupVersionKind(), scope)
	}
	return mapper
}

func waitEstablished(ctx context.Context, c client.Client, names []string) error {
	for _, name := range names {
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
			var crd apiextensionsv1.CustomResourceDefinition
			if err := c.Get(ctx, client.ObjectKey{Name: name}, &crd); err != nil {
				return false, client.IgnoreNotFound(err)
			}
			for _, cond := range crd.Status.Conditions {
				if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
					return true, nil
				}
			}
			return false, nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s to be served: %w", name, err)
		}
	}
	return nil
}
