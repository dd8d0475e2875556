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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
)

// fieldManager owns what is applied.
const fieldManager = "sirrat"

// serveTimeout bounds each wait for what was applied to take effect.
const serveTimeout = 30 * time.Second

var namespaceKind = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}

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
	// The API server looks for new policies once a second: they go first, so that it has them when the rest is ready. So
	// do the namespaces that objects name.
	policies := namespaces(objects)
	var crds, others []*unstructured.Unstructured
	for _, o := range objects {
		switch o.GroupVersionKind().Group {
		case "admissionregistration.k8s.io":
			policies = append(policies, o)
		case apiextensionsv1.GroupName:
			crds = append(crds, o)
		default:
			others = append(others, o)
		}
	}
	for _, group := range [][]*unstructured.Unstructured{policies, crds, others} {
		if err := applyAll(ctx, c, group); err != nil {
			return err
		}
	}
	return waitServed(ctx, c, crds)
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
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.GroupVersion.WithKind("Release"), meta.RESTScopeNamespace)
	c, err := client.New(cfg, client.Options{Scheme: runtime.NewScheme(), Mapper: mapper})
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for policy, annotations := range map[string]map[string]string{
		"sirrat-approvals":  {v1alpha1.AnnotationCreatedBy: me.Status.UserInfo.Username, v1alpha1.ApprovalPrefix + "probe": "nobody"},
		"sirrat-created-by": {v1alpha1.AnnotationCreatedBy: "nobody"},
	} {
		var answer error
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, serveTimeout, true, func(ctx context.Context) (bool, error) {
			// By apply, not by create: the API server holds every create back for two seconds after a CRD is established.
			probe := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"commit": strings.Repeat("0", 40)}}}
			probe.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Release"))
			probe.SetNamespace(metav1.NamespaceDefault)
			probe.SetName("sirrat-probe")
			probe.SetAnnotations(annotations)
			answer = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(probe), client.FieldOwner(fieldManager), client.DryRunAll)
			return answer != nil && strings.Contains(answer.Error(), "'"+policy+"'"), nil
		})
		if err != nil {
			return fmt.Errorf("policy %s is not enforced: %w", policy, errors.Join(err, answer))
		}
	}
	return nil
}

// namespaces are those that the objects name.
func namespaces(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	seen := map[string]bool{"": true}
	for _, o := range objects {
		if name := o.GetNamespace(); !seen[name] {
			seen[name] = true
			ns := &unstructured.Unstructured{}
			ns.SetGroupVersionKind(namespaceKind)
			ns.SetName(name)
			out = append(out, ns)
		}
	}
	return out
}

func staticMapper(objects []*unstructured.Unstructured) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(namespaceKind, meta.RESTScopeRoot)
	for _, o := range objects {
		scope := meta.RESTScopeRoot
		if o.GetNamespace() != "" {
			scope = meta.RESTScopeNamespace
		}
		mapper.Add(o.GroupVersionKind(), scope)
		if o.GetKind() == "CustomResourceDefinition" {
			group, plural, _ := defined(o)
			mapper.AddSpecific(group, plural, plural, meta.RESTScopeRoot) // read across namespaces only
		}
	}
	return mapper
}

// defined is what a CRD of ours defines: its kind, resource and list.
func defined(crd *unstructured.Unstructured) (schema.GroupVersionKind, schema.GroupVersionResource, *unstructured.UnstructuredList) {
	text := func(fields ...string) string {
		value, _, _ := unstructured.NestedString(crd.Object, fields...)
		return value
	}
	gv := schema.GroupVersion{Group: text("spec", "group"), Version: v1alpha1.GroupVersion.Version}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(gv.WithKind(text("spec", "names", "listKind")))
	return gv.WithKind(text("spec", "names", "kind")), gv.WithResource(text("spec", "names", "plural")), list
}

// waitServed waits until the kinds can be read. An informer that starts earlier would pause for seconds.
func waitServed(ctx context.Context, c client.Client, crds []*unstructured.Unstructured) error {
	for _, o := range crds {
		var answer error
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, serveTimeout, true, func(ctx context.Context) (bool, error) {
			_, _, list := defined(o)
			answer = c.List(ctx, list, client.Limit(1))
			return answer == nil, nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s to be served: %w", o.GetName(), errors.Join(err, answer))
		}
	}
	return nil
}
