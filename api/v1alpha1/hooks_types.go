// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// What a CIResult came from when it was no API token and no job: Source of a webhook.
const (
	SourceGitLab    = "gitlab"
	SourceHarbor    = "harbor"
	SourceSonarQube = "sonarqube"
)

// TypePipeline is the type of result that says how a whole pipeline of GitLab's ended. It comes with webhooks.
const TypePipeline = "pipeline"

// ConditionHooksReady is True on a Project when every Secret that spec.hooks names can prove a webhook, False with the one that
// cannot. It holds nothing up. Absent where the project takes no webhooks.
const ConditionHooksReady = "HooksReady"

// Hooks says whose webhooks the project takes, and what they prove themselves with. Where requireOIDC is true they are
// answered and change nothing.
type Hooks struct {
	// GitLab: how pipelines and declared jobs ended, deployments, and tags that name a version, at
	// /api/hooks/gitlab/<project>. Default: not taken.
	// +optional
	GitLab *GitLabHook `json:"gitlab,omitempty"`
	// Harbor: what it found in the images it scanned, at /api/hooks/harbor/<project>. Default: not taken.
	// +optional
	Harbor *HarborHook `json:"harbor,omitempty"`
	// SonarQube: its quality gate's verdicts, at /api/hooks/sonarqube/<project>. Default: not taken.
	// +optional
	SonarQube *SonarQubeHook `json:"sonarqube,omitempty"`
}

// GitLabHook says how GitLab proves itself. What is configured is demanded: with both, both.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) || has(self.signingRef)",message="give secretRef, signingRef or both: a webhook without either could be anybody's"
type GitLabHook struct {
	// Secret token of the webhook, which GitLab sends along in X-Gitlab-Token. Default: not asked for.
	// +optional
	SecretRef *HookSecret `json:"secretRef,omitempty"`
	// Signing token of the webhook (whsec_…), with which GitLab signs each delivery and its time: preferable, since it is
	// never sent and a delivery cannot be sent again later. Default: not asked for.
	// +optional
	SigningRef *HookSecret `json:"signingRef,omitempty"`
	// Full path of the GitLab project whose events count; those of others, which the webhook of a group sends too, are
	// ignored. Default: that of spec.ci.oidc, and without it any. Example: dynors/clients/supergest.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)+$`
	ProjectPath string `json:"projectPath,omitempty"`
}

// HarborHook says how Harbor proves itself.
type HarborHook struct {
	// Auth header of the webhook: the whole value that Harbor sends in Authorization. Example of a value: Bearer 3f9c….
	SecretRef HookSecret `json:"secretRef"`
}

// SonarQubeHook says how SonarQube proves itself.
type SonarQubeHook struct {
	// Secret of the webhook, with which SonarQube signs each delivery.
	SecretRef HookSecret `json:"secretRef"`
	// Keys of the SonarQube projects whose analyses count; those of others, which a global webhook sends too, are ignored.
	// Default: any. Example: ["supergest-backend"].
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=400
	// +listType=set
	Projects []string `json:"projects,omitempty"`
}

// HookSecret names the key of a Secret of the project's namespace whose value a webhook proves itself with: at least 16
// bytes; shorter ones open nothing. A line break at its end does not count.
type HookSecret struct {
	// Secret's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in its data.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
	// Another key in its data whose value is good as well, while the value is being changed. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PreviousKey string `json:"previousKey,omitempty"`
}
