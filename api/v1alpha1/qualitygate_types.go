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
// +kubebuilder:validation:XValidation:rule="(has(self.environment) && size(self.environment) > 0) || !self.criteria.exists(c, has(c.soak) || has(c.healthy) || has(c.pv) || has(c.images))",message="without an environment nothing is deployed: soak, healthy, pv and images need one"
// +kubebuilder:validation:XValidation:rule="!has(self.environment) || size(self.environment) == 0 || !self.criteria.exists(c, has(c.artifacts))",message="artifacts is a criterion of a module's gates, which have no environment"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Manual' || self.criteria.exists(c, has(c.approval))",message="a Manual gate needs an approval among its criteria"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Automatic' || !self.criteria.exists(c, has(c.approval))",message="an Automatic gate cannot ask for an approval: use mode Manual"
type QualityGateSpec struct {
	// Place on the bridge, from 0. Gates are judged and shown in this order.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=99
	Number int32 `json:"number"`
	// The environment it guards. None for a gate of a module: it guards that a version counts as published, and nothing is
	// deployed. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment,omitempty"`
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
// +kubebuilder:validation:XValidation:rule="[has(self.result), has(self.coverage), has(self.images), has(self.artifact), has(self.soak), has(self.healthy), has(self.approval), has(self.pv), has(self.karma), has(self.freshness), has(self.window), has(self.cel), has(self.sbom), has(self.artifacts), has(self.modules)].filter(x, x).size() == 1",message="give exactly one of result, coverage, images, artifact, soak, healthy, approval, pv, karma, freshness, window, cel, sbom, artifacts, modules"
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
	// An image or a Maven artifact is part of the release.
	// +optional
	Artifact *ArtifactCriterion `json:"artifact,omitempty"`
	// Evidence is not older than some time.
	// +optional
	Freshness *FreshnessCriterion `json:"freshness,omitempty"`
	// The calendar allows it now.
	// +optional
	Window *Window `json:"window,omitempty"`
	// An expression over release, results and environments is true.
	// +optional
	CEL *CELCriterion `json:"cel,omitempty"`
	// Every image has a software bill of materials.
	// +optional
	SBOM *SBOMCriterion `json:"sbom,omitempty"`
	// Every Maven artifact of a module's release was read and checked in the package registry.
	// +optional
	Artifacts *ArtifactsCriterion `json:"artifacts,omitempty"`
	// Every module of the organisation that is built in is a version that was released here.
	// +optional
	Modules *ModulesCriterion `json:"modules,omitempty"`
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
	// Most low findings allowed. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxLow *int32 `json:"maxLow,omitempty"`
	// Fewest tests that must have passed. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinPassed *int32 `json:"minPassed,omitempty"`
	// Most tests that may have been skipped. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxSkipped *int32 `json:"maxSkipped,omitempty"`
	// Lowest coverage in percent that the result itself must report. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinCoverage *int32 `json:"minCoverage,omitempty"`
	// Lowest score, 0–100, that a result of a quality tool must report. Default: no bound.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinScore *int32 `json:"minScore,omitempty"`
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
	// Roles of Project.spec.members whose approvals count here; a person counts who is listed there by user name (a
	// membership through "group:" cannot be seen by the controllers). Default: everybody with the verb.
	// +optional
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:Enum=developer;qa;cto;viewer
	// +listType=set
	Roles []string `json:"roles,omitempty"`
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

// ArtifactCriterion asks for one part of the release.
//
// +kubebuilder:validation:XValidation:rule="has(self.image) != has(self.maven)",message="give exactly one of image and maven"
type ArtifactCriterion struct {
	// Name of an image in Project.spec.images, which must be pinned to a digest.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Image string `json:"image,omitempty"`
	// Maven coordinates group:artifact, which Release.spec.artifacts must list with a version that is not a SNAPSHOT.
	// +optional
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.\-]+:[A-Za-z0-9_.\-]+$`
	// +kubebuilder:validation:MaxLength=200
	Maven string `json:"maven,omitempty"`
}

// FreshnessCriterion asks for results that are not too old: one that expired must be reported anew.
type FreshnessCriterion struct {
	// Greatest age of a result, from its reception. Example: 720h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('87600h')",message="a duration like 720h, from 1s to ten years"
	MaxAge metav1.Duration `json:"maxAge"`
	// Types of results that must be fresh. Default: every result that counts.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=40
	// +listType=set
	Types []string `json:"types,omitempty"`
}

// Window says when a gate may open: inside at least one allow period (any time if there is none), outside every deny
// period, and not on a holiday.
type Window struct {
	// Time zone of all periods and dates (IANA). Default Europe/Paris. Example: Africa/Dakar.
	// +optional
	// +kubebuilder:default="Europe/Paris"
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
	// Periods in which it may open. Default: always.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Allow []Period `json:"allow,omitempty"`
	// Periods in which it may not, whatever allow says.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Deny []Period `json:"deny,omitempty"`
	// Dates on which it may not open, 00:00 to 24:00. Example: 2026-12-24.
	// +optional
	// +kubebuilder:validation:MaxItems=366
	// +kubebuilder:validation:items:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	// +listType=set
	Holidays []string `json:"holidays,omitempty"`
	// Countries whose public holidays are holidays too (ISO 3166, lower case). Default: none. Example: fr.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:Enum=at;be;ca;ch;de;es;fr;gb;ie;it;lu;nl;pt;us
	// +listType=set
	Countries []string `json:"countries,omitempty"`
}

// Period is a time span that may repeat.
type Period struct {
	// When it repeats: a recurrence rule of RFC 5545 section 3.3.10, without DTSTART. Default: once, from `start`.
	// Example: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH.
	// +optional
	// +kubebuilder:validation:MaxLength=500
	RRule string `json:"rrule,omitempty"`
	// First occurrence: local date and time in the window's zone, or only a time of day for a rule that repeats.
	// Example: 09:00, or 2026-12-20T18:00.
	// +kubebuilder:validation:Pattern=`^([0-9]{4}-[0-9]{2}-[0-9]{2}T)?([01][0-9]|2[0-3]):[0-5][0-9]$`
	Start string `json:"start"`
	// How long each occurrence lasts. Example: 8h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('8784h')",message="a duration from 1m to 366 days"
	Duration metav1.Duration `json:"duration"`
	// What it is, for people. Example: freeze of the year's end.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	Reason string `json:"reason,omitempty"`
}

// CELCriterion is an expression of the Common Expression Language (cel.dev) that must be true. An expression that does not
// compile, or fails, never passes.
type CELCriterion struct {
	// Over `release` {name, commit, branch, version, changelog, artifacts, reversible, createdBy, karma, works},
	// `results` (by type: {status, pipeline, coverage, score, tests{total,passed,failed,skipped},
	// vulnerabilities{critical,high,medium,low}, received}) and `environments` (by name: {phase, authorizedAt,
	// healthySince}); what was not reported is absent: ask has(). Example:
	// release.branch.startsWith('release/') && results.quality.score >= 70.0. Its work is bounded: at most two
	// comprehensions inside each other, no replace or join, and a regular expression for matches must be written out.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`
	// What people read when it is not true, and what to do about it.
	// +optional
	// +kubebuilder:validation:MaxLength=500
	Message string `json:"message,omitempty"`
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
