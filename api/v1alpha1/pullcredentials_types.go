// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Providers of pull credentials.
const (
	PullProviderHarbor  = "Harbor"
	PullProviderGitLab  = "GitLab"
	PullProviderProject = "ProjectSecret"
)

// PullCredentials says with what agents pull the project's images.
//
// +kubebuilder:validation:XValidation:rule="self.provider == 'Harbor' ? has(self.harbor) && !has(self.gitlab) : true",message="provider Harbor needs harbor, and no gitlab"
// +kubebuilder:validation:XValidation:rule="self.provider == 'GitLab' ? has(self.gitlab) && !has(self.harbor) : true",message="provider GitLab needs gitlab, and no harbor"
// +kubebuilder:validation:XValidation:rule="self.provider == 'ProjectSecret' ? !has(self.gitlab) && !has(self.harbor) : true",message="provider ProjectSecret takes neither harbor nor gitlab: name the provider"
// +kubebuilder:validation:XValidation:rule="!has(self.renewBefore) || duration(self.renewBefore) < duration(self.lifetime)",message="renewBefore must be shorter than lifetime"
type PullCredentials struct {
	// Who issues the credentials: Harbor (a robot account for each), GitLab (a deploy token for each), or ProjectSecret (the
	// default): every host is given a copy of registrySecretRef, which may be able to push.
	// +optional
	// +kubebuilder:default=ProjectSecret
	// +kubebuilder:validation:Enum=Harbor;GitLab;ProjectSecret
	Provider string `json:"provider,omitempty"`
	// The Harbor that the images are in. Required for provider Harbor.
	// +optional
	Harbor *HarborPullCredentials `json:"harbor,omitempty"`
	// The GitLab in whose container registry the images are. Required for provider GitLab.
	// +optional
	GitLab *GitLabPullCredentials `json:"gitlab,omitempty"`
	// How long a credential is in use at most, as long as a newer one can be issued: from 1h to 720h (30 days). Default 24h.
	// Harbor counts whole days, so that it is rounded up there; a credential that was replaced is deleted earlier, see
	// renewBefore.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('720h')",message="a duration from 1h to 720h (30 days)"
	Lifetime metav1.Duration `json:"lifetime,omitzero"`
	// How long before the end of lifetime the next credential is issued and delivered: from 10m. The one before is deleted an
	// hour after that, or when lifetime ends if that is earlier, so that pulls which have begun come to their end. Default: a
	// third of lifetime. Example: 8h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10m')",message="a duration of at least 10m"
	RenewBefore *metav1.Duration `json:"renewBefore,omitempty"`
	// ProjectSecret lets hosts have a copy of registrySecretRef while no credential can be issued and the last has expired; it
	// may be able to push. Default: none, and what has to be pulled waits until the provider issues again.
	// +optional
	// +kubebuilder:validation:Enum=ProjectSecret
	Fallback string `json:"fallback,omitempty"`
}

// HarborPullCredentials says who makes robot accounts, and for what. Each is a project's own robot account that may pull from
// one Harbor project; where several are needed, it is a system robot account that may pull from those.
type HarborPullCredentials struct {
	// Address of Harbor, which is also the registry's. Example: https://harbor.example.com.
	// +kubebuilder:validation:Pattern=`^https://[^/?#@\s]+/?$`
	// +kubebuilder:validation:MaxLength=253
	URL string `json:"url"`
	// Secret in the project's namespace with the keys username and password of an account that may list, create and delete
	// robot accounts of the Harbor project (a project admin; for several Harbor projects a system administrator); ca.crt, if
	// any, holds the certificate (PEM) of a private authority. It is given to no host.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	SecretRef string `json:"secretRef"`
	// Harbor projects to pull from besides those of spec.images, a proxy cache for example. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`
	// +kubebuilder:validation:items:MaxLength=255
	// +listType=set
	Projects []string `json:"projects,omitempty"`
}

// GitLabPullCredentials says who makes deploy tokens, and of which project.
type GitLabPullCredentials struct {
	// Address of GitLab. Example: https://gitlab.com.
	// +kubebuilder:validation:Pattern=`^https://[^?#@\s]+$`
	// +kubebuilder:validation:MaxLength=253
	URL string `json:"url"`
	// The GitLab project in whose container registry the images are: its path or its number. Examples: dynors/supergest, 4711.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*$`
	// +kubebuilder:validation:MaxLength=255
	Project string `json:"project"`
	// Secret in the project's namespace with the key token: an access token with scope api and at least the role Maintainer of
	// that project; ca.crt, if any, holds the certificate (PEM) of a private authority. It is given to no host.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	TokenSecretRef string `json:"tokenSecretRef"`
	// Host of the container registry, with its port if it has one. Default: that of spec.images, when they are all in one
	// registry. Example: registry.gitlab.com.
	// +optional
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9.\-]+(:[0-9]+)?$`
	// +kubebuilder:validation:MaxLength=253
	Registry string `json:"registry,omitempty"`
}

// Of pull credentials on objects.
const (
	// LabelPullCredential marks the Secrets, in the namespaces of hosts, of pull credentials; its value is the provider.
	LabelPullCredential = Group + "/pull-credential"
	// AnnotationPullCredential on such a Secret is which credential it is, as JSON, without the credential.
	AnnotationPullCredential = Group + "/pull-credential"
)

// PullSecret is the name, in a host's namespace, of the Secret with the pull credential of an environment. Its content
// changes whenever the credential does. No Secret made for one Rollout has such a name: a sequence number stands there.
func PullSecret(project, environment string) string { return project + "." + environment + ".pull" }
