// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Environment is one place where releases run: its servers, its compose file, its values. The environments of a project,
// ordered by spec.after, are the bridge.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=environments,scope=Namespaced,shortName=env,categories=sirrat
// +kubebuilder:printcolumn:name="After",type=string,JSONPath=`.spec.after`
// +kubebuilder:printcolumn:name="Current",type=string,JSONPath=`.status.current.release`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.current.version`
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.status.hostsSummary`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Waiting",type=string,JSONPath=`.status.waiting`
// +kubebuilder:printcolumn:name="Phases",type=string,priority=1,JSONPath=`.status.hosts[*].phase`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",message="an environment's name is at most 40 characters of a-z, 0-9 and '-'"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.after) || self.spec.after != self.metadata.name",message="an environment cannot come after itself"
type Environment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Where and how releases run here.
	Spec EnvironmentSpec `json:"spec"`
	// What the controllers observed. Written by the controllers alone.
	Status EnvironmentStatus `json:"status,omitempty"`
}

// Values of Environment.spec.supersede.
const (
	SupersedeAutomatic = "Automatic"
	SupersedeAlways    = "Always"
	SupersedeNever     = "Never"
)

// EnvironmentSpec declares an environment.
type EnvironmentSpec struct {
	// Previous environment on the bridge; none (the default) for the first.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	After string `json:"after,omitempty"`

	// Tags that a release's images receive in the registry once it is authorised here, all on the same digest. Go templates
	// over .SHA7, .Commit, .Version, .Branch and .Environment. Default: "<environment>-{{ .SHA7 }}", which is added as well
	// where no template names a commit or version, so that no digest in use is without a tag of its own. A tag that names a
	// version (.Version, or a text like v1.3.0) is never taken from another digest; any other goes with the release that was
	// authorised last.
	// Example: ["{{ .Version }}", "latest"].
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Tags []string `json:"tags,omitempty"`

	// Another registry that the hosts pull the project's images from: a client's own, for instance. What is approved stays the
	// same, since that goes by digest. Absent (the default): the repositories of Project.spec.images.
	// +optional
	Registry *EnvironmentRegistry `json:"registry,omitempty"`

	// Labels of the Hosts that serve this environment. Absent: no agent; a pipeline deploys here by itself and reports it
	// with POST …/deployments.
	// +optional
	Hosts *metav1.LabelSelector `json:"hosts,omitempty"`

	// The compose file.
	// +optional
	Compose ComposeSource `json:"compose,omitzero"`

	// Values for interpolation of the compose file, also given to it as environment. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=256
	Values map[string]string `json:"values,omitempty"`

	// Secrets of the project's namespace, whose keys are values too; delivered to the hosts of this environment only.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	SecretRefs []string `json:"secretRefs,omitempty"`

	// Checks beyond the containers' own healthchecks; all must succeed before a release counts as healthy.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	HealthChecks []HealthCheck `json:"healthChecks,omitempty"`

	// How a release is rolled out.
	// +optional
	// +kubebuilder:default={}
	Rollout RolloutStrategy `json:"rollout,omitzero"`

	// When releases may be let in here, whatever gate guards it. Default: always.
	// +optional
	Window *Window `json:"window,omitempty"`

	// Who must have signed the images of a release before it is let in here, whatever gate guards it and whatever its
	// criteria; break-glass does not make up for it. Default: nobody, and the registry is not asked.
	// +optional
	Signatures *SignaturePolicy `json:"signatures,omitempty"`

	// Whether a newer release that was let in here makes older ones that still wait for it give up: Automatic (the default:
	// where the gate opens by itself), Always or Never.
	// +optional
	// +kubebuilder:default=Automatic
	// +kubebuilder:validation:Enum=Automatic;Always;Never
	Supersede string `json:"supersede,omitempty"`

	// After a release failed here or was rolled back, nothing opens by itself until somebody resumes it
	// (`kubectl sirrat resume <environment>`). Default true.
	// +optional
	// +kubebuilder:default=true
	HoldAfterRollback *bool `json:"holdAfterRollback,omitempty"`

	// For maintenance: hosts touch nothing of this environment, neither deploying nor healing, until this is false again.
	// Default false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Takes the environment down on its hosts: a signed order to remove containers and networks. Named volumes stay unless
	// told. Absent (the default): nothing is ever removed from a host by itself.
	// +optional
	Decommission *Removal `json:"decommission,omitempty"`

	// Address at which people reach this environment, as printed in the PV. Example: https://recette.client.example.
	// +optional
	// +kubebuilder:validation:MaxLength=500
	URL string `json:"url,omitempty"`
}

// ComposeSource is where the compose file comes from: inline, or a key of a ConfigMap of the project's namespace.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.inline) && size(self.inline) > 0 && has(self.configMapKeyRef))",message="give inline or configMapKeyRef, not both"
type ComposeSource struct {
	// The compose file itself, at most 256 KiB.
	// +optional
	// +kubebuilder:validation:MaxLength=262144
	Inline string `json:"inline,omitempty"`
	// The compose file in a ConfigMap of the project's namespace.
	// +optional
	ConfigMapKeyRef *ConfigMapKey `json:"configMapKeyRef,omitempty"`
	// Name of the compose project on the server. Default: <project>-<environment>. Set it to adopt a stack that already
	// runs under another name.
	// +optional
	// +kubebuilder:validation:Pattern=`^([a-z0-9][a-z0-9_\-]*)?$`
	// +kubebuilder:validation:MaxLength=100
	ProjectName string `json:"projectName,omitempty"`
}

// ConfigMapKey names one key of a ConfigMap.
type ConfigMapKey struct {
	// ConfigMap's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in its data.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// HealthCheck is one check made from the server itself.
//
// +kubebuilder:validation:XValidation:rule="(has(self.http) ? 1 : 0) + (has(self.tcp) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1",message="give exactly one of http, tcp and exec"
type HealthCheck struct {
	// GET must answer 200; when the body is JSON with a member "status", that must be "UP" (Spring Boot Actuator).
	// +optional
	HTTP *HTTPCheck `json:"http,omitempty"`
	// A TCP connection must be accepted.
	// +optional
	TCP *TCPCheck `json:"tcp,omitempty"`
	// A command inside every container of a service must end with exit code 0.
	// +optional
	Exec *ExecCheck `json:"exec,omitempty"`
	// Time within which the check must have succeeded `successes` times in a row. Default 2m.
	// +optional
	// +kubebuilder:default="2m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="a duration from 1s to 24h"
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// Time between two tries. Default 1s.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1h')",message="a duration from 100ms to 1h"
	Interval metav1.Duration `json:"interval,omitzero"`
	// Successes in a row that are needed. Default 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Successes int32 `json:"successes,omitempty"`
}

// HTTPCheck is a GET from the server.
type HTTPCheck struct {
	// Address, as seen from the server. Values are interpolated as in the compose file.
	// Example: http://127.0.0.1:8080/actuator/health.
	// +kubebuilder:validation:Pattern=`^https?://`
	// +kubebuilder:validation:MaxLength=1000
	URL string `json:"url"`
}

// TCPCheck is a TCP connection from the server.
type TCPCheck struct {
	// host:port, as seen from the server. Example: 127.0.0.1:5432.
	// +kubebuilder:validation:Pattern=`^.+:.+$`
	// +kubebuilder:validation:MaxLength=255
	Address string `json:"address"`
}

// ExecCheck is a command inside containers, run without a shell.
type ExecCheck struct {
	// Service of the compose file.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Service string `json:"service"`
	// Program and arguments. Values are interpolated as in the compose file. Example: ["pg_isready", "-U", "app"].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=1000
	// +listType=atomic
	Command []string `json:"command"`
}

// Values of RolloutStrategy.strategy.
const (
	StrategyRecreate   = "Recreate"
	StrategyStartFirst = "StartFirst"
)

// Values of RolloutStrategy.drift.
const (
	DriftHeal   = "Heal"
	DriftReport = "Report"
)

// RolloutStrategy says how a release replaces the previous one.
type RolloutStrategy struct {
	// Recreate (default): containers are replaced in place. StartFirst: new replicas start beside the old ones, which stop
	// once the new ones are healthy; services that cannot have two generations at a time (a fixed host port, a volume with a
	// single writer, a container_name) are replaced in place all the same, and the Rollout says why.
	// A service's own deploy.update_config.order comes before this.
	// +optional
	// +kubebuilder:default=Recreate
	// +kubebuilder:validation:Enum=Recreate;StartFirst
	Strategy string `json:"strategy,omitempty"`
	// Hosts that may be busy with a rollout at the same time. Default 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// Go back to the last good set when the new one does not become healthy. Default true.
	// +optional
	// +kubebuilder:default=true
	AutoRollback *bool `json:"autoRollback,omitempty"`
	// Time within which all containers must be healthy. Default 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="a duration from 1s to 24h"
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// StartFirst only: time that an old replica keeps serving after the new ones are healthy, so that proxies learn of them,
	// before it is told to stop. Default 2s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="a duration from 0s to 1h"
	Drain metav1.Duration `json:"drain,omitzero"`
	// What hosts do about containers that somebody else stopped, removed, changed or added: Heal, or only Report. Default:
	// heal what is of the compose file's services, report containers of other services that carry the project's name.
	// +optional
	// +kubebuilder:validation:Enum=Heal;Report
	Drift string `json:"drift,omitempty"`
	// Sets of images that a host keeps on disk beyond the current and the last good one. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=20
	Keep *int32 `json:"keep,omitempty"`
	// Time between the moment that a batch of hosts is healthy and the next batch. Default none.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="a duration from 0s to 168h"
	Pause metav1.Duration `json:"pause,omitzero"`
	// Percent of the hosts on which a release must become healthy. As soon as it cannot be reached any more, no further host
	// gets the release. Default 100: the first failure stops.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold *int32 `json:"successThreshold,omitempty"`
}

// EnvironmentStatus is what the controllers know of an environment.
type EnvironmentStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Release that the hosts are told to run.
	// +optional
	Current *EnvironmentRelease `json:"current,omitempty"`
	// Newest release that was healthy on every host.
	// +optional
	LastGood *EnvironmentRelease `json:"lastGood,omitempty"`
	// Sequence number of the newest authorisation for this environment. Only grows.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// Set while gates that open by themselves are kept shut because a release failed here.
	// +optional
	Hold *Hold `json:"hold,omitempty"`
	// Host by host, in the order of their names: those that match, and those that still run something of it.
	// +optional
	// +listType=map
	// +listMapKey=name
	Hosts []EnvironmentHost `json:"hosts,omitempty"`
	// Why hosts do not get the current release yet: windows, batches, pauses, hosts that do not answer.
	// +optional
	Waiting string `json:"waiting,omitempty"`
	// The last batch of hosts that became healthy, while a pause follows it.
	// +optional
	Batch *Batch `json:"batch,omitempty"`
	// Orders to take it down, by host, as they were numbered.
	// +optional
	// +listType=map
	// +listMapKey=host
	Removals []HostRemoval `json:"removals,omitempty"`
	// When it was last decommissioned: what was let in before that does not run here any more.
	// +optional
	DecommissionedAt *metav1.MicroTime `json:"decommissionedAt,omitempty"`
	// The last deliberate way back to an earlier release.
	// +optional
	Rollback *RollbackState `json:"rollback,omitempty"`
	// Hosts that match and may run the project.
	// +optional
	HostsMatched int32 `json:"hostsMatched,omitempty"`
	// Hosts on which the current release is healthy.
	// +optional
	HostsReady int32 `json:"hostsReady,omitempty"`
	// "ready/matched", or "external" for environments that a pipeline deploys.
	// +optional
	HostsSummary string `json:"hostsSummary,omitempty"`
	// Ready, with the reason when not.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EnvironmentHost is one host of an environment.
type EnvironmentHost struct {
	// Host's name.
	Name string `json:"name"`
	// Phase of its newest Rollout; empty when none was sent.
	// +optional
	Phase string `json:"phase,omitempty"`
	// Release of its newest Rollout.
	// +optional
	Release string `json:"release,omitempty"`
	// Sequence of its newest Rollout.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// What keeps it, or what went wrong. Progress in percent is in its Rollout.
	// +optional
	Message string `json:"message,omitempty"`
}

// Batch is a batch of hosts that is healthy.
type Batch struct {
	// Sequence that they run.
	Sequence int64 `json:"sequence"`
	// Hosts that had it by then.
	Hosts int32 `json:"hosts"`
	// Since when all of them are healthy.
	Since metav1.MicroTime `json:"since"`
}

// HostRemoval is an order to take an environment down on a host.
type HostRemoval struct {
	// Host's name.
	Host string `json:"host"`
	// Sequence of the order.
	Sequence int64 `json:"sequence"`
	// Whether named volumes go too.
	// +optional
	Volumes bool `json:"volumes,omitempty"`
}

// RollbackState is what became of the annotation sirrat.dynors.com/rollback.
type RollbackState struct {
	// Value of the annotation.
	ID string `json:"id"`
	// Release to go back to, as far as it is known.
	// +optional
	Release string `json:"release,omitempty"`
	// Whether the release was let in again.
	Accepted bool `json:"accepted"`
	// Why not.
	// +optional
	Message string `json:"message,omitempty"`
}

// Hold says why nothing is let in by itself. It is lifted by the annotation sirrat.dynors.com/resume with its id.
type Hold struct {
	// Id: the release's uid and the time of its authorisation.
	ID string `json:"id"`
	// Release that failed.
	Release string `json:"release"`
	// What happened.
	// +optional
	Message string `json:"message,omitempty"`
}

// EnvironmentRelease is a release in an environment.
type EnvironmentRelease struct {
	// Release's name.
	Release string `json:"release"`
	// Release's uid.
	UID string `json:"uid"`
	// Version, if it has one.
	// +optional
	Version string `json:"version,omitempty"`
	// Hash of the bundle that was authorised.
	BundleHash string `json:"bundleHash"`
	// Sequence number of the authorisation; 0 where a pipeline deployed.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// When the gate opened for it.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
}

// EnvironmentList is a list of Environments.
//
// +kubebuilder:object:root=true
type EnvironmentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Environment `json:"items"`
}
