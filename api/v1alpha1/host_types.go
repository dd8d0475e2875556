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
//
// +kubebuilder:validation:XValidation:rule="(has(self.revocations) ? self.revocations : 0) >= (has(oldSelf.revocations) ? oldSelf.revocations : 0)",message="revocations never fall: certificates that were revoked would be worth something again"
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
	// Version that the agent is to become, as published to the control plane with `sirrat agent publish`. The agent tries it
	// and goes back by itself if it does not report healthy. Default none: it stays as it is. Example: v1.4.0.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._+-]*$`
	AgentVersion string `json:"agentVersion,omitempty"`
	// Offline says that its agent may never be heard of: releases are authorised for it all the same, and are carried there in
	// bundles (`kubectl sirrat bundle export`). Default: false.
	// +optional
	Offline bool `json:"offline,omitempty"`
	// Maintenance window: when anything new may be sent to it, whatever environment it is for. What runs is kept running and
	// healed at any time. Default: always.
	// +optional
	Window *Window `json:"window,omitempty"`
	// How often the agent's access was revoked; each time makes every certificate and join command from before void. Raised by
	// `kubectl sirrat host revoke`; it never falls. Default 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Revocations int64 `json:"revocations,omitempty"`
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
	// Revocations that have taken effect.
	// +optional
	Revocations int64 `json:"revocations,omitempty"`
	// Hashes ("sha256:…") of the keys that certificates were issued for, newest first, as far back as the one that the agent
	// is known to use. With one of them an agent whose certificate has expired proves who it is.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	CertificateKeys []string `json:"certificateKeys,omitempty"`
	// "healthy/assigned" rollouts.
	// +optional
	RolloutsSummary string `json:"rolloutsSummary,omitempty"`
	// Ready, Enrolled and InStep.
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
	// Hash ("sha256:…") of the key that the agent authenticates with.
	// +optional
	CertificateKey string `json:"certificateKey,omitempty"`
	// Serial number of the set of authorization keys that the agent trusts.
	// +optional
	KeySet int64 `json:"keySet,omitempty"`
	// What the agent knows better than the control plane, which may have been restored from an older backup.
	// +optional
	Ahead string `json:"ahead,omitempty"`
	// What came of the last order to update itself.
	// +optional
	Update *AgentUpdate `json:"update,omitempty"`
	// What the server's owner allows there, defaults filled in. Absent: not reported, the defaults are assumed.
	// +optional
	Policy *HostPolicy `json:"policy,omitempty"`
	// Why the owner's policy cannot be used: until it is mended, nothing new is deployed there.
	// +optional
	PolicyProblem string `json:"policyProblem,omitempty"`
}

// AgentUpdate is what came of an order to an agent to update itself.
type AgentUpdate struct {
	// Version that is wanted.
	// +optional
	Wanted string `json:"wanted,omitempty"`
	// Refused, Downloading, Waiting, Trying, Failed or Done.
	// +optional
	State string `json:"state,omitempty"`
	// Why it is refused, failed or cannot go on.
	// +optional
	Message string `json:"message,omitempty"`
}

// HostList is a list of Hosts.
//
// +kubebuilder:object:root=true
type HostList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Host `json:"items"`
}
