// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Modes of a gate.
const (
	// ModeAutomatic: the gate opens by itself when every criterion holds.
	ModeAutomatic = "Automatic"
	// ModeManual: the gate has an approval among its criteria.
	ModeManual = "Manual"
)

// QualityGate guards one environment: a Release may be deployed there when every criterion holds.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=qualitygates,scope=Namespaced,shortName=gate;gates,categories=sirrat
// +kubebuilder:printcolumn:name="Number",type=integer,JSONPath=`.spec.number`
// +kubebuilder:printcolumn:name="Guards",type=string,JSONPath=`.spec.environment`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Release",type=string,JSONPath=`.status.release`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.verdict`
// +kubebuilder:printcolumn:name="Waiting for",type=string,JSONPath=`.status.waitingFor`
// +kubebuilder:printcolumn:name="Ready",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",message="a gate's name is at most 40 characters of a-z, 0-9 and '-'"
type QualityGate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What must hold before a release passes.
	Spec QualityGateSpec `json:"spec"`
	// What the controllers observed. Written by the controllers alone.
	Status QualityGateStatus `json:"status,omitempty"`
}

// QualityGateSpec declares a gate.
//
// +kubebuilder:validation:XValidation:rule="self.mode != 'Manual' || self.criteria.exists(c, has(c.approval))",message="a Manual gate needs an approval among its criteria"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Automatic' || !self.criteria.exists(c, has(c.approval))",message="an Automatic gate cannot ask for an approval: use mode Manual"
type QualityGateSpec struct {
	// Place on the bridge, from 0. Gates are judged and shown in this order.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=99
	Number int32 `json:"number"`
	// The environment it guards.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment"`
	// Automatic opens by itself; Manual needs an approval among the criteria. Default Manual.
	// +optional
	// +kubebuilder:default=Manual
	// +kubebuilder:validation:Enum=Automatic;Manual
	Mode string `json:"mode,omitempty"`
	// All of them must hold. An unknown or failing criterion never passes.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	Criteria []Criterion `json:"criteria"`
}

// Criterion is one thing that must hold. Exactly one of its kinds is given.
//
// +kubebuilder:validation:XValidation:rule="[has(self.result), has(self.coverage), has(self.images), has(self.soak), has(self.healthy), has(self.approval), has(self.pv), has(self.karma)].filter(x, x).size() == 1",message="give exactly one of result, coverage, images, soak, healthy, approval, pv, karma"
type Criterion struct {
	// Name, unique in the gate. Shown in verdicts.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// A CI result of a type has passed, within bounds.
	// +optional
	Result *ResultCriterion `json:"result,omitempty"`
	// Test coverage reaches a minimum.
	// +optional
	Coverage *CoverageCriterion `json:"coverage,omitempty"`
	// Every image of the release is pinned to a digest.
	// +optional
	Images *ImagesCriterion `json:"images,omitempty"`
	// The release has run healthily in an environment for some time.
	// +optional
	Soak *SoakCriterion `json:"soak,omitempty"`
	// The release is healthy in an environment.
	// +optional
	Healthy *HealthyCriterion `json:"healthy,omitempty"`
	// People with the verb approve on this gate have approved.
	// +optional
	Approval *ApprovalCriterion `json:"approval,omitempty"`
	// The client has signed the PV of this release.
	// +optional
	PV *PVCriterion `json:"pv,omitempty"`
	// Karma reaches a minimum.
	// +optional
	Karma *KarmaCriterion `json:"karma,omitempty"`
}

// ResultCriterion asks for a passed CI result.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.maxCritical) || has(self.maxHigh) || has(self.maxMedium)) || self.type != 'tests'",message="bounds on findings belong to a scan, not to tests"
type ResultCriterion struct {
	// Type of result. Example: tests, scan.
	// +kubebuilder:validation:Pattern=`^[a-z][-a-z0-9]*$`
	// +kubebuilder:validation:MaxLength=40
	Type string `json:"type"`
	// Most critical findings allowed. Default: no bound beyond the result's own status.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxCritical *int32 `json:"maxCritical,omitempty"`
	// Most high findings allowed. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxHigh *int32 `json:"maxHigh,omitempty"`
	// Most medium findings allowed. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxMedium *int32 `json:"maxMedium,omitempty"`
	// Fewest tests that must have passed. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinPassed *int32 `json:"minPassed,omitempty"`
}

// CoverageCriterion asks for test coverage, from a result of type coverage or the coverage figure of another result.
type CoverageCriterion struct {
	// Lowest coverage in percent that passes. Default 80.
	// +optional
	// +kubebuilder:default=80
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Minimum int32 `json:"minimum"`
}

// ImagesCriterion asks for a frozen bundle.
type ImagesCriterion struct{}

// SoakCriterion asks for time of continuous health. What is required shrinks with the works of the code:
// max − (max − min) × works/50. A release that becomes unhealthy starts anew.
//
// +kubebuilder:validation:XValidation:rule="duration(self.min) <= duration(self.max)",message="min must not exceed max"
type SoakCriterion struct {
	// Where the time counts.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment"`
	// Time for perfect works (50 of 50). Example: 72h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="a duration like 72h or 90s, not negative"
	Min metav1.Duration `json:"min"`
	// Time for works of 0. Example: 120h.
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('87600h')",message="a duration like 120h or 90s, at most ten years"
	Max metav1.Duration `json:"max"`
}

// HealthyCriterion asks for health.
type HealthyCriterion struct {
	// Where.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment"`
}

// ApprovalCriterion asks for people. Who may approve is decided by the verb approve on qualitygates/<this gate>.
type ApprovalCriterion struct {
	// Different people needed. Default 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Minimum int32 `json:"minimum,omitempty"`
	// Whether the user who created the release may be among them. Default false.
	// +optional
	AllowCreator bool `json:"allowCreator,omitempty"`
}

// PVCriterion asks for the client's signature.
type PVCriterion struct {
	// Whether an acceptance with reservations is enough. Default false.
	// +optional
	AllowReservations bool `json:"allowReservations,omitempty"`
}

// KarmaCriterion asks for karma.
type KarmaCriterion struct {
	// Lowest karma that passes, 0–100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Minimum int32 `json:"minimum"`
}

// QualityGateStatus is what the gate says at a glance.
type QualityGateStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Newest release judged here.
	// +optional
	Release string `json:"release,omitempty"`
	// Verdict on that release.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`
	// What that release waits for, in one line.
	// +optional
	WaitingFor string `json:"waitingFor,omitempty"`
	// Releases that wait at this gate.
	// +optional
	Waiting int32 `json:"waiting,omitempty"`
	// Releases that passed this gate.
	// +optional
	Passed int32 `json:"passed,omitempty"`
	// Releases refused at this gate.
	// +optional
	Refused int32 `json:"refused,omitempty"`
	// Ready, with the reason when not.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// QualityGateList is a list of QualityGates.
//
// +kubebuilder:object:root=true
type QualityGateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []QualityGate `json:"items"`
}
