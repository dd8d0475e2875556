// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How SIRRAT says at a package registry who it is. The names are those of GitLab's Maven repository.
const (
	// PackageHeaderPrivate is for a personal, project or group access token.
	PackageHeaderPrivate = "Private-Token"
	// PackageHeaderDeploy is for a deploy token.
	PackageHeaderDeploy = "Deploy-Token"
	// PackageHeaderJob is for the token of a CI job.
	PackageHeaderJob = "Job-Token"
	// PackageHeaderBasic is user name and password (RFC 7617).
	PackageHeaderBasic = "Basic"
	// PackageHeaderNone is nobody: the Secret has certificates alone.
	PackageHeaderNone = "None"
)

// Keys of a package registry's Secret.
const (
	DefaultPackageTokenKey    = "token"
	DefaultPackageUsernameKey = "username"
)

// PackageRegistry is a Maven repository from which the artifacts of releases are read. Nothing is ever written to it.
type PackageRegistry struct {
	// Address of the repository: what a build has as <url> or url. It must be on the public internet, unless the server runs
	// with --allow-private-addresses. Example: https://gitlab.com/api/v4/projects/75907047/packages/maven.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^https://[A-Za-z0-9.\-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/%\-]*)?$`
	URL string `json:"url"`
	// Secret with the credentials. Default: none, anonymous access.
	// +optional
	SecretRef *PackageRegistrySecret `json:"secretRef,omitempty"`
}

// PackageRegistrySecret says what a Secret of the project's namespace holds for a package registry. A key ca.crt in it holds
// the certificates (PEM) of private authorities that the registry and its object storage are signed by; what the system
// trusts is trusted besides.
type PackageRegistrySecret struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// How the token is sent: the header Private-Token, Deploy-Token or Job-Token, as GitLab's Maven repository has them; Basic
	// for user name and password; None for no credentials. The right to read packages is enough. Default Deploy-Token.
	// +optional
	// +kubebuilder:default="Deploy-Token"
	// +kubebuilder:validation:Enum=Private-Token;Deploy-Token;Job-Token;Basic;None
	Header string `json:"header,omitempty"`
	// Key of the token or password in the Secret. Default token.
	// +optional
	// +kubebuilder:default=token
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
	// Key of the user name in the Secret, with Basic. Default username.
	// +optional
	// +kubebuilder:default=username
	// +kubebuilder:validation:MaxLength=253
	UsernameKey string `json:"usernameKey,omitempty"`
}

// ArtifactsCriterion asks that every Maven artifact of the release is in the package registry, with a semantic version, and
// was read and checked there.
type ArtifactsCriterion struct{}

// ModulesCriterion asks that every module of the organisation that the bill of materials or the lock file of the release
// lists is a version that a project of this installation has released, through all of its own gates.
type ModulesCriterion struct {
	// Groups of the organisation. com.dynors is that group alone, com.dynors.* also every group below it.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*(\.\*)?$`
	// +listType=set
	Groups []string `json:"groups"`
	// Groups or coordinates among them that are the application's own parts and not released by themselves. Default: none.
	// Example: com.dynors.supergest.*, or com.dynors:supergest-domain.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=200
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*(\.\*|:[A-Za-z0-9_.\-]+)?$`
	// +listType=set
	Except []string `json:"except,omitempty"`
}

// MavenComponents are the Maven components that a bill of materials or a lock file lists.
type MavenComponents struct {
	// Coordinates group:artifact:version, sorted; followed by @sha256:… where the file says which bytes it means. The version is
	// ? where it cannot be read.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +kubebuilder:validation:items:MaxLength=384
	// +listType=atomic
	Components []string `json:"components,omitempty"`
	// The file lists more than are kept here: nothing can be proven with it.
	// +optional
	Incomplete bool `json:"incomplete,omitempty"`
}

// ReleaseArtifact is a Maven artifact of a release.
type ReleaseArtifact struct {
	// Coordinates group:artifact:version.
	Coordinates string `json:"coordinates"`
	// Packaging, as the POM has it. Example: jar.
	// +optional
	Packaging string `json:"packaging,omitempty"`
	// What was read and checked: the POM and, unless the packaging is pom, the artifact. From then on it is what the version
	// means. None until then.
	// +optional
	// +listType=atomic
	Files []ArtifactFile `json:"files,omitempty"`
	// Why it is not read yet, or what is wrong with it since, in one word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same in words, and how to mend it.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// ArtifactFile is a file of an artifact as it was read.
type ArtifactFile struct {
	// Name. Example: core-2.1.0.jar.
	Name string `json:"name"`
	// Size in bytes.
	Size int64 `json:"size"`
	// sha256 of the bytes: sha256:… (64 hex digits).
	SHA256 string `json:"sha256"`
	// Checksums that the registry has beside the file, all of which match. Example: sha1:… (40 hex digits).
	// +optional
	// +listType=atomic
	Checksums []string `json:"checksums,omitempty"`
}

// Publication says that a module's release went through all of its gates.
type Publication struct {
	// Hash over the artifacts: what was approved and published.
	BundleHash string `json:"bundleHash"`
	// When the last gate opened.
	At metav1.MicroTime `json:"at"`
}

// IsModule says whether the project is a module: Maven coordinates, no images. Nothing of it is ever deployed.
func (p *Project) IsModule() bool { return len(p.Spec.Maven) > 0 && len(p.Spec.Images) == 0 }
