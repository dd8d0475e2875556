// SPDX-License-Identifier: Apache-2.0

package cptest_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// The instance comes before its CRD, and the kustomization is no object.
var tree = fstest.MapFS{
	"a/instance.yaml": {Data: []byte(`
apiVersion: test.dynors.com/v1
kind: Thing
metadata: {name: one}
`)},
	"b/crd.yml": {Data: []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.test.dynors.com}
spec:
  group: test.dynors.com
  scope: Cluster
  names: {kind: Thing, listKind: ThingList, plural: things, singular: thing}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
---
# nothing
---
apiVersion: v1
kind: ConfigMap
metadata: {name: no-namespace-given}
`)},
	"kustomization.yaml": {Data: []byte("resources: [a, b]")},
	"README.md":          {Data: []byte("# not an object")},
}

var ranSetup int

func TestMain(m *testing.M) {
	cptest.Main(m, cptest.Install(tree), func(_ context.Context, e *cptest.Env) error {
		ranSetup++
		if e.Client == nil {
			return errors.New("setup without a client")
		}
		return nil
	})
}

func TestSetupRunsOnce(t *testing.T) {
	if first := cptest.Start(t); cptest.Start(t) != first || ranSetup != 1 {
		t.Errorf("the setup ran %d times, want once", ranSetup)
	}
}

func TestInstall(t *testing.T) {
	env := cptest.Start(t)
	env.Install(t, tree) // what is there already is no error
	client, err := dynamic.NewForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	things := schema.GroupVersionResource{Group: "test.dynors.com", Version: "v1", Resource: "things"}
	if _, err := client.Resource(things).Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := env.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "no-namespace-given", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
