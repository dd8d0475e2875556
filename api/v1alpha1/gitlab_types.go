// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GitLab says where and with what the project's GitLab is told. Telling it holds nothing up and decides nothing.
//
// +kubebuilder:validation:XValidation:rule="(has(self.commitStatus) && self.commitStatus) || (has(self.deployments) && self.deployments) ? has(self.project) && has(self.tokenSecretRef) : true",message="commitStatus and deployments need project and tokenSecretRef"
type GitLab struct {
	// Address of the GitLab, without /api. It must be on the public internet, unless the server runs with
	// --allow-private-addresses; http is for loopback and private addresses that are allowed. Default https://gitlab.com.
	// Example: https://gitlab.dynors.com.
	// +optional
	// +kubebuilder:default="https://gitlab.com"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^https?://([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/\-]*)?$`
	URL string `json:"url,omitempty"`
	// Full path or numeric id of the GitLab project. Example: dynors/clients/supergest.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]*|[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)+)$`
	Project string `json:"project,omitempty"`
	// Key of a Secret of the project's namespace that holds a project access token with the scope api and the role Developer
	// (Maintainer where branches or environments are protected so). Example: {name: gitlab, key: token}.
	// +optional
	TokenSecretRef *SecretKey `json:"tokenSecretRef,omitempty"`
	// Show each gate as a commit status sirrat/<gate> at the release's commit: success once it has passed, failed when it
	// refuses, pending with what it waits for, canceled when another release took the place. It leads to the release's page, where
	// the server has a --public-url. Default false.
	// +optional
	CommitStatus bool `json:"commitStatus,omitempty"`
	// Record each deployment in GitLab's environment of the same name, which is created there if need be. Default false.
	// +optional
	Deployments bool `json:"deployments,omitempty"`
}

// GitLabTold is what GitLab was told of a release, so that it is told once.
type GitLabTold struct {
	// Address and project that were told; another one is told everything anew.
	To string `json:"to"`
	// Gates' statuses.
	// +optional
	// +listType=map
	// +listMapKey=gate
	Statuses []GitLabStatus `json:"statuses,omitempty"`
	// Deployments.
	// +optional
	// +listType=map
	// +listMapKey=environment
	Deployments []GitLabDeployment `json:"deployments,omitempty"`
}

// GitLabStatus is the last commit status of a gate.
type GitLabStatus struct {
	// Gate.
	Gate string `json:"gate"`
	// State: pending, success, failed or canceled.
	State string `json:"state"`
	// sha256 of all that was said, cut to 16 hex digits.
	Hash string `json:"hash"`
}

// GitLabDeployment is the last deployment of an environment.
type GitLabDeployment struct {
	// Environment.
	Environment string `json:"environment"`
	// When the release was let into it.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
	// Id in GitLab.
	ID int64 `json:"id"`
	// State: running, success, failed or canceled.
	State string `json:"state"`
}

// ConditionGitLabTold is True on a Release once GitLab was told how it stands, False with a reason while it could not be. It
// holds nothing up. Absent where Project.spec.gitlab asks for nothing, and before there is anything to tell.
const ConditionGitLabTold = "GitLabTold"

// Reasons of ConditionGitLabTold.
const (
	ReasonTold                = "Told"                // GitLab knows
	ReasonTokenMissing        = "TokenMissing"        // there is no such Secret, or no such key in it
	ReasonAddressBlocked      = "AddressBlocked"      // the server may not connect to the address
	ReasonGitLabDenied        = "GitLabDenied"        // the token opens nothing, or too little
	ReasonGitLabNoProject     = "GitLabNoProject"     // no such project, or the token does not see it
	ReasonGitLabNoCommit      = "GitLabNoCommit"      // the commit was not pushed there
	ReasonGitLabRefused       = "GitLabRefused"       // it does not take what is said
	ReasonGitLabBusy          = "GitLabBusy"          // it asks to come back later
	ReasonGitLabNotResponding = "GitLabNotResponding" // it is away, or fails
	ReasonPipelineAwaited     = "PipelineAwaited"     // a gate waits for the pipeline that would wait for the gate's status
)
