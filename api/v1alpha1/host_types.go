// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Host is a server with a Docker engine and an agent. It owns the namespace host-<name>, which is all that its agent can
// reach.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=hosts,scope=Cluster,categories=sirrat
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Projects",type=string,JSONPath=`.spec.projects`
// +kubebuilder:printcolumn:name="Rollouts",type=string,JSONPath=`.status.rolloutsSummary`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.agent.agentVersion`
// +kubebuilder:printcolumn:name="Engine",type=string,JSONPath=`.status.agent.engineVersion`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 50",message="a host's name is at most 50 characters of a-z, 0-9 and '-'"
type Host struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What may run there.
	Spec HostSpec `json:"spec"`
	// What the controllers observed. Written by the controllers alone.
	Status HostStatus `json:"status,omitempty"`
}

// HostSpec declares a server.
type HostSpec struct {
	// Projects that may ever be sent to it. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=40
	// +listType=set
	Projects []string `json:"projects"`
	// Time after which a silent agent counts as lost. Default 3m: three heartbeats.
	// +optional
	// +kubebuilder:default="3m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('720h')",message="a duration from 5s to 720h"
	HeartbeatTimeout metav1.Duration `json:"heartbeatTimeout,omitzero"`
	// Maintenance window: when anything new may be sent to it, whatever environment it is for. What runs is kept running and
	// healed at any time. Default: always.
	// +optional
	Window *Window `json:"window,omitempty"`
}

// HostStatus is what is known of a server.
type HostStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// What the agent says of itself and its engine.
	// +optional
	Agent *AgentInfo `json:"agent,omitempty"`
	// Name of the certificate signing request that enrolled the agent.
	// +optional
	EnrolledBy string `json:"enrolledBy,omitempty"`
	// "healthy/assigned" rollouts.
	// +optional
	RolloutsSummary string `json:"rolloutsSummary,omitempty"`
	// Ready and Enrolled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AgentInfo is what an agent says of itself; it travels as JSON in an annotation of the agent's Lease.
type AgentInfo struct {
	// Version of the agent.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// Version of the Docker engine.
	// +optional
	EngineVersion string `json:"engineVersion,omitempty"`
	// API version of the Docker engine.
	// +optional
	EngineAPI string `json:"engineAPI,omitempty"`
	// Operating system and architecture. Example: linux/amd64.
	// +optional
	Platform string `json:"platform,omitempty"`
	// Processors.
	// +optional
	CPUs int32 `json:"cpus,omitempty"`
	// Memory in bytes.
	// +optional
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// What the server's owner allows there, defaults filled in. Absent: not reported, the defaults are assumed.
	// +optional
	Policy *HostPolicy `json:"policy,omitempty"`
	// Why the owner's policy cannot be used: until it is mended, nothing new is deployed there.
	// +optional
	PolicyProblem string `json:"policyProblem,omitempty"`
}

// HostList is a list of Hosts.
//
// +kubebuilder:object:root=true
type HostList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Host `json:"items"`
}
