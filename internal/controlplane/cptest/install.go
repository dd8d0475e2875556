// SPDX-License-Identifier: Apache-2.0

package cptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// fieldManager owns the fields of what Install applies.
const fieldManager = "cptest"

var (
	crdKind     = schema.GroupKind{Group: apiextensionsv1.GroupName, Kind: "CustomResourceDefinition"}
	crdResource = apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")
)

// Install is a Setup that applies every object of the *.yaml and *.yml files of
// the given trees, CRDs first and otherwise in the order of the files, makes the
// namespaces that they name, and returns when each CRD is established and served. kustomization.yaml files are
// skipped.
func Install(trees ...fs.FS) Setup {
	return func(ctx context.Context, e *Env) error {
		for _, tree := range trees {
			if err := e.install(ctx, tree); err != nil {
				return err
			}
		}
		return nil
	}
}

// Install applies a tree for one test, like the function Install. What it
// applies stays after the test.
func (e *Env) Install(t testing.TB, tree fs.FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	defer cancel()
	if err := e.install(ctx, tree); err != nil {
		t.Fatal(err)
	}
}

func (e *Env) install(ctx context.Context, tree fs.FS) error {
	objects, err := readObjects(tree)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(e.Config)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GroupVersionKind().GroupKind() == crdKind {
			if err := installCRD(ctx, client, object); err != nil {
				return err
			}
		}
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(e.Client.Discovery()))
	for _, object := range objects {
		if object.GroupVersionKind().GroupKind() == crdKind {
			continue
		}
		if err := e.ensureNamespace(ctx, object.GetNamespace()); err != nil {
			return err
		}
		if err := apply(ctx, client, mapper, object); err != nil {
			return err
		}
	}
	return nil
}

// ensureNamespace makes the namespace that an object names.
func (e *Env) ensureNamespace(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := e.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

func readObjects(tree fs.FS) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if ext := path.Ext(name); ext != ".yaml" && ext != ".yml" || path.Base(name) == "kustomization.yaml" {
			return nil
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		decoder := yaml.NewYAMLOrJSONDecoder(f, 4096)
		for {
			object := &unstructured.Unstructured{}
			switch err := decoder.Decode(&object.Object); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return fmt.Errorf("read %s: %w", name, err)
			case len(object.Object) > 0:
				objects = append(objects, object)
			}
		}
	})
	return objects, err
}

func installCRD(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	if err := patch(ctx, client.Resource(crdResource), object); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error {
		current, err := client.Resource(crdResource).Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(current.Object, crd); err != nil {
			return err
		}
		return served(ctx, client, crd)
	})
}

// served lists each served version, since an established CRD may still answer 404.
func served(ctx context.Context, client dynamic.Interface, crd *apiextensionsv1.CustomResourceDefinition) error {
	established := slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
	if !established {
		return fmt.Errorf("%s is not established: %v", crd.Name, crd.Status.Conditions)
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		gvr := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version.Name, Resource: crd.Spec.Names.Plural}
		if _, err := client.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return fmt.Errorf("list %s: %w", gvr, err)
		}
	}
	return nil
}

// apply waits for the kind to be discovered, which lags behind a new CRD.
func apply(ctx context.Context, client dynamic.Interface, mapper *restmapper.DeferredDiscoveryRESTMapper, object *unstructured.Unstructured) error {
	gvk := object.GroupVersionKind()
	var mapping *meta.RESTMapping
	err := until(ctx, func(context.Context) (err error) {
		mapper.Reset()
		mapping, err = mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		return err
	})
	if err != nil {
		return fmt.Errorf("find the resource of %s: %w", gvk, err)
	}
	var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := object.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		resource = client.Resource(mapping.Resource).Namespace(namespace)
	}
	return patch(ctx, resource, object)
}

func patch(ctx context.Context, resource dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	_, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}
