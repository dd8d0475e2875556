// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 declares the objects of SIRRAT: Project, Environment, QualityGate, CIResult, Release, PV, Host and
// Rollout in the group sirrat.dynors.com. The Go comments on fields are what `kubectl explain` prints: they state unit,
// default, bounds and meaning.
//
// It imports apimachinery only, so that any program can depend on it.
//
// +kubebuilder:object:generate=true
// +groupName=sirrat.dynors.com
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind of this package.
const Group = "sirrat.dynors.com"

// GroupVersion is the group and version of every kind of this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the kinds of this package in a scheme.
var AddToScheme = (&runtime.SchemeBuilder{addKnownTypes}).AddToScheme

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Project{}, &ProjectList{},
		&Environment{}, &EnvironmentList{},
		&QualityGate{}, &QualityGateList{},
		&CIResult{}, &CIResultList{},
		&Release{}, &ReleaseList{},
		&PV{}, &PVList{},
		&Host{}, &HostList{},
		&Rollout{}, &RolloutList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
