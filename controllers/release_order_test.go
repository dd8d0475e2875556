// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// A gate that was added later has the highest number, and guards dev all the same: what a release waits for first is there.
func TestGatesAreInTheOrderOfTheBridge(t *testing.T) {
	named := func(name, environment string, number int32) v1alpha1.QualityGate {
		return v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.QualityGateSpec{Environment: environment, Number: number}}
	}
	environments := []v1alpha1.Environment{{ObjectMeta: metav1.ObjectMeta{Name: "dev"}}, {ObjectMeta: metav1.ObjectMeta{Name: "production"}}}
	gates := []v1alpha1.QualityGate{named("nowhere", "gone", 1), named("production", "production", 2), named("modules", "dev", 4), named("ci", "dev", 0)}
	var names []string
	for _, g := range inOrder(gates, environments) {
		names = append(names, g.Name)
	}
	if want := []string{"ci", "nowhere", "modules", "production"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	published := inOrder([]v1alpha1.QualityGate{named("published", "", 1), named("ci", "", 0)}, nil)
	if published[0].Name != "ci" {
		t.Errorf("a module's gates begin with %s", published[0].Name)
	}
}

// What a gate waits for names who has to act: a registry that refuses the account does answer.
func TestWhatFreezingNeeds(t *testing.T) {
	for reason, want := range map[string]string{
		v1alpha1.ReasonImageNotFound:  "CI pushes the image",
		v1alpha1.ReasonDigestMismatch: "CI pushes the image again",
		v1alpha1.ReasonRegistryDenied: "somebody mends the account of the Project, or its rights in the registry",
		v1alpha1.ReasonRegistryBusy:   "the registry answers",
		v1alpha1.ReasonRegistryError:  "the registry can be read",
	} {
		if got := frozenNeeds(reason); got != want {
			t.Errorf("%s: got %q, want %q", reason, got, want)
		}
	}
}

// A Secret that is not there, or of another type, is what a registry's 401 comes of: a mistyped name has to be seen.
func TestAccountNamesAMissingSecret(t *testing.T) {
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: v1alpha1.ProjectSpec{RegistrySecretRef: "registry-pul"}}
	for _, c := range []struct {
		secret map[string][]byte
		want   string
	}{
		{nil, "spec.registrySecretRef of the Project (there is no Secret registry-pul in namespace shop)"},
		{map[string][]byte{"password": {'x'}}, "spec.registrySecretRef of the Project (Secret registry-pul has no key .dockerconfigjson: kubectl create secret docker-registry makes one)"},
		{map[string][]byte{".dockerconfigjson": []byte("{}")}, "spec.registrySecretRef of the Project"},
	} {
		if got := accountOf(project, c.secret); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := accountOf(&v1alpha1.Project{}, nil); got != "spec.registrySecretRef of the Project" {
		t.Errorf("without a Secret: %q", got)
	}
}

func TestReplicationIntoNoEnvironment(t *testing.T) {
	envs := []v1alpha1.Environment{{ObjectMeta: metav1.ObjectMeta{Name: "production"}}}
	for environment, want := range map[string]string{
		"production": "",
		"prodution":  "spec.harbor.replication[0].environment: the project has no Environment prodution",
	} {
		if got := unknownReplication([]v1alpha1.HarborReplication{{Environment: environment}}, envs); got != want {
			t.Errorf("%s: got %q, want %q", environment, got, want)
		}
	}
}
