// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Phases of a Rollout, in order. Written by the agent.
const (
	RolloutPending    = "Pending"    // seen by no agent yet
	RolloutVerifying  = "Verifying"  // authorization and compose file are checked
	RolloutPreflight  = "Preflight"  // disk, architecture and ports are looked at
	RolloutPulling    = "Pulling"    // images are fetched by digest
	RolloutMigrating  = "Migrating"  // pre-deploy jobs run; what serves still serves
	RolloutStarting   = "Starting"   // compose up
	RolloutChecking   = "Checking"   // waiting for health
	RolloutHealthy    = "Healthy"    // committed: this is what runs
	RolloutUnhealthy  = "Unhealthy"  // committed, but not healthy at the moment
	RolloutRejected   = "Rejected"   // never started: not authorised, or not admissible
	RolloutFailed     = "Failed"     // did not become healthy, nothing to go back to, or going back failed
	RolloutRolledBack = "RolledBack" // did not become healthy; the last good set serves again
	RolloutHeld       = "Held"       // failed after an irreversible job had run: nothing goes back by itself, a person decides
	RolloutRemoving   = "Removing"   // a tombstone is carried out: compose down
	RolloutRemoved    = "Removed"    // a tombstone was carried out
	RolloutSuperseded = "Superseded" // a higher sequence took its place
)

// Rollout orders one release for one environment on one host. It is self-contained: with it and the Secrets it names, the
// agent needs nothing else. Written by the controllers; the agent writes its status only.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=rollouts,scope=Namespaced,shortName=ro,categories=sirrat
// +kubebuilder:printcolumn:name="Project",type=string,JSONPath=`.spec.project`
// +kubebuilder:printcolumn:name="Environment",type=string,JSONPath=`.spec.environment`
// +kubebuilder:printcolumn:name="Release",type=string,JSONPath=`.spec.release.name`
// +kubebuilder:printcolumn:name="Sequence",type=integer,JSONPath=`.spec.sequence`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.spec == oldSelf.spec",message="a rollout cannot be changed: a new authorisation makes a new one"
type Rollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What to run.
	Spec RolloutSpec `json:"spec"`
	// What the agent reports.
	Status RolloutStatus `json:"status,omitempty"`
}

// RolloutSpec is all that an agent needs.
type RolloutSpec struct {
	// Project's name.
	Project string `json:"project"`
	// Project's uid: another project of the same name is another project.
	ProjectUID string `json:"projectUID"`
	// Environment.
	Environment string `json:"environment"`
	// Release.
	Release RolloutRelease `json:"release"`
	// Grows with every authorisation for this project and environment; agents refuse to go back.
	// +kubebuilder:validation:Minimum=1
	Sequence int64 `json:"sequence"`
	// Hash of the bundle, as approved.
	BundleHash string `json:"bundleHash"`
	// Name of the compose project.
	ComposeProject string `json:"composeProject"`
	// The compose file's text, before interpolation.
	// +kubebuilder:validation:MaxLength=262144
	Compose string `json:"compose"`
	// sha256 of the compose file's text.
	ComposeHash string `json:"composeHash"`
	// The image of every service, by digest.
	// +listType=map
	// +listMapKey=service
	Images []ServiceImage `json:"images"`
	// Values for interpolation and environment.
	// +optional
	Values map[string]string `json:"values,omitempty"`
	// Secrets in this namespace whose keys are values too.
	// +optional
	// +listType=atomic
	SecretRefs []string `json:"secretRefs,omitempty"`
	// Secret in this namespace of type kubernetes.io/dockerconfigjson to pull with.
	// +optional
	RegistrySecretRef string `json:"registrySecretRef,omitempty"`
	// Checks beyond the containers' own.
	// +optional
	// +listType=atomic
	HealthChecks []HealthCheck `json:"healthChecks,omitempty"`
	// How to replace what runs.
	// +optional
	Strategy RolloutStrategy `json:"strategy,omitzero"`
	// The release says that it cannot be taken back (Release.spec.reversible: false): once its pre-deploy jobs have begun, a
	// failure holds for a person to decide, and never goes back by itself. Default false.
	// +optional
	Irreversible bool `json:"irreversible,omitempty"`
	// A tombstone: everything of the environment on this host is to be taken down. Compose file and images are empty then.
	// +optional
	Remove *Removal `json:"remove,omitempty"`
	// The client's own acceptance, where a gate asked for one: hosts whose owner demands a second signature verify it.
	// +optional
	Acceptance *Acceptance `json:"acceptance,omitempty"`
	// The signed authorization: a DSSE envelope (JSON) over an in-toto statement that names all of the above.
	// +kubebuilder:validation:MaxLength=131072
	Authorization string `json:"authorization"`
}

// Removal says what goes beyond containers and networks.
type Removal struct {
	// Named volumes too, with all data in them. Default false.
	// +optional
	Volumes bool `json:"volumes,omitempty"`
}

// Acceptance is a PV as the client signed it.
type Acceptance struct {
	// The document, as in PV.spec.document.
	// +kubebuilder:validation:MaxLength=262144
	Document string `json:"document"`
	// The client's signature, as in PV.spec.signature.
	// +kubebuilder:validation:MaxLength=131072
	Signature string `json:"signature"`
}

// RolloutRelease identifies the release.
type RolloutRelease struct {
	// Name.
	Name string `json:"name"`
	// Uid.
	UID string `json:"uid"`
	// Commit.
	Commit string `json:"commit"`
	// Version, if any.
	// +optional
	Version string `json:"version,omitempty"`
}

// ServiceImage pins a service to a digest.
type ServiceImage struct {
	// Service, as in the compose file.
	Service string `json:"service"`
	// Repository and digest. Example: registry.example/backend@sha256:….
	Image string `json:"image"`
}

// RolloutStatus is the agent's report.
type RolloutStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Pending, Verifying, Preflight, Pulling, Migrating, Starting, Checking, Healthy, Unhealthy, Rejected, Failed, RolledBack,
	// Held, Removing, Removed or Superseded.
	// +optional
	Phase string `json:"phase,omitempty"`
	// Details in words: progress, what failed and why.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`
	// Since when it has been healthy without a break.
	// +optional
	HealthySince *metav1.Time `json:"healthySince,omitempty"`
	// Services and their containers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Services []ServiceState `json:"services,omitempty"`
	// Last log lines of the services that failed, on failure only.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=200
	LastLogs []string `json:"lastLogs,omitempty"`
	// The agent's answer to the annotation sirrat.dynors.com/logs-request; gone two minutes later, or with the annotation.
	// +optional
	Logs *RolloutLogs `json:"logs,omitempty"`
	// Sequence that serves after a rollback.
	// +optional
	ServingSequence int64 `json:"servingSequence,omitempty"`
	// When each phase began.
	// +optional
	// +listType=map
	// +listMapKey=phase
	Timings []PhaseTiming `json:"timings,omitempty"`
	// Ready, Reconciling, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RolloutLogs are log lines that somebody asked for.
type RolloutLogs struct {
	// Id of the request.
	ID string `json:"id"`
	// User who asked.
	User string `json:"user"`
	// Service, if one was named.
	// +optional
	Service string `json:"service,omitempty"`
	// "container: line", oldest first, without secrets; at most 64 KiB. None when it was refused, and once they have expired.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Lines []string `json:"lines,omitempty"`
	// Time of the youngest line, to ask for what comes after it.
	// +optional
	Until *metav1.MicroTime `json:"until,omitempty"`
	// There were more lines than fit: the oldest are left out.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
	// Why there are none: the host's owner does not allow it, or the request cannot be answered.
	// +optional
	Refused string `json:"refused,omitempty"`
	// The lines were there for two minutes and are gone.
	// +optional
	Expired bool `json:"expired,omitempty"`
}

// ServiceState is one service's state.
type ServiceState struct {
	// Service.
	Name string `json:"name"`
	// Running containers over wanted. Example: 1/1.
	Running string `json:"running"`
	// healthy, unhealthy, starting or none.
	Health string `json:"health"`
	// Digest that runs.
	// +optional
	Image string `json:"image,omitempty"`
	// Exit code, out-of-memory kill, restarts: only when something is wrong.
	// +optional
	Message string `json:"message,omitempty"`
}

// PhaseTiming says when a phase began.
type PhaseTiming struct {
	// Phase.
	Phase string `json:"phase"`
	// Its beginning.
	Started metav1.MicroTime `json:"started"`
}

// RolloutList is a list of Rollouts.
//
// +kubebuilder:object:root=true
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Rollout `json:"items"`
}
