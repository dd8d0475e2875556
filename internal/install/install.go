// SPDX-License-Identifier: Apache-2.0

// Package install applies the built-in CRDs, roles and admission policies to a cluster, so that `sirrat server` starts
// with exactly what it was built with. It may import config and Kubernetes clients.
package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
)

// fieldManager owns what is applied.
const fieldManager = "sirrat"

// establishTimeout bounds the wait for CRDs to be served.
const establishTimeout = 30 * time.Second

// Apply applies everything by server-side apply, taking back what others changed, and returns when the CRDs are served.
// See WaitEnforced for the policies. What needs a newer Kubernetes than the cluster's (MutatingAdmissionPolicy: 1.36) is left out.
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
	var crds, others []*unstructured.Unstructured
	for _, o := range objects {
		if o.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, o)
		} else {
			others = append(others, o)
		}
	}
	for _, group := range [][]*unstructured.Unstructured{crds, others} {
		if err := applyAll(ctx, c, group); err != nil {
			return err
		}
	}
	return waitEstablished(ctx, c, crds)
}

// applyAll applies objects that do not need each other, several at a time.
func applyAll(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, o := range objects {
		group.Go(func() error {
			err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership)
			if apierrors.IsNotFound(err) && strings.HasPrefix(o.GetKind(), "MutatingAdmissionPolicy") {
				return nil
			}
			if err != nil {
				return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// WaitEnforced returns when the API server enforces the policies: it compiles them a moment after they are stored, and
// nobody should be let in before. It asks, without effect, for what the policies must refuse to anybody: an approval and a creation in another's
// name.
func WaitEnforced(ctx context.Context, cfg *rest.Config) error {
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	me, err := clients.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask who we are: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.GroupVersion.WithKind("Release"), meta.RESTScopeNamespace)
	c, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for policy, annotations := range map[string]map[string]string{
		"sirrat-approvals":  {v1alpha1.AnnotationCreatedBy: me.Status.UserInfo.Username, v1alpha1.ApprovalPrefix + "probe": "nobody"},
		"sirrat-created-by": {v1alpha1.AnnotationCreatedBy: "nobody"},
	} {
		var answer error
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
			probe := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: strings.Repeat("0", 40)}}
			probe.Namespace, probe.Name, probe.Annotations = metav1.NamespaceDefault, "sirrat-probe", annotations
			answer = c.Create(ctx, probe, client.DryRunAll)
			return answer != nil && strings.Contains(answer.Error(), "'"+policy+"'"), nil
		})
		if err != nil {
			return fmt.Errorf("policy %s is not enforced: %w", policy, errors.Join(err, answer))
		}
	}
	return nil
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

func waitEstablished(ctx context.Context, c client.Client, crds []*unstructured.Unstructured) error {
	for _, o := range crds {
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
			var crd apiextensionsv1.CustomResourceDefinition
			if err := c.Get(ctx, client.ObjectKey{Name: o.GetName()}, &crd); err != nil {
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
			return fmt.Errorf("wait for %s to be served: %w", o.GetName(), err)
		}
	}
	return nil
}
