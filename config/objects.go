// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Objects returns everything that an installation needs, in the order in which it is applied: CRDs, roles, policies.
func Objects() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, dir := range []string{"crd", "rbac", "policies"} {
		err := fs.WalkDir(FS, dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			objects, err := decode(path)
			out = append(out, objects...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read built-in manifests: %w", err)
		}
	}
	return out, nil
}

// Find returns one built-in object.
func Find(kind, name string) (*unstructured.Unstructured, error) {
	objects, err := Objects()
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.GetKind() == kind && o.GetName() == name {
			return o, nil
		}
	}
	return nil, fmt.Errorf("no built-in %s %s", kind, name)
}

func decode(path string) ([]*unstructured.Unstructured, error) {
	text, err := fs.ReadFile(FS, path)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := dec.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}
