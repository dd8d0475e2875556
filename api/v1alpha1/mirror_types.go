// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EnvironmentRegistry is another registry from which the hosts of an environment pull the project's images, a client's own
// for instance. Once a release is let in, its images are copied there, and nothing is sent to a host before the registry
// serves each of them as its digest says.
//
// +kubebuilder:validation:XValidation:rule="has(self.prefix) || has(self.repositories) && size(self.repositories) > 0",message="give prefix, repositories or both"
type EnvironmentRegistry struct {
	// Registry and path: an image of the project is copied to <prefix>/<its name in Project.spec.images>.
	// Example: harbor.client.example/supergest.
	// +optional
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9.-]+\.[a-zA-Z0-9-]+|localhost|[a-zA-Z0-9.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`
	Prefix string `json:"prefix,omitempty"`
	// Repositories of single images, by their names in Project.spec.images, instead of <prefix>/<name>. Default: none.
	// +optional
	// +listType=map
	// +listMapKey=image
	// +kubebuilder:validation:MaxItems=32
	Repositories []MirrorRepository `json:"repositories,omitempty"`
	// Secret of the project's namespace, of type kubernetes.io/dockerconfigjson, with the account that pushes there, and under
	// ca.crt the certificate (PEM) of a private authority. Default: none, anonymous.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SecretRef string `json:"secretRef,omitempty"`
	// Secret of the same type that the hosts of this environment receive to pull with, instead of the project's: it names the
	// accounts of every registry that they pull from. Default: secretRef.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	PullSecretRef string `json:"pullSecretRef,omitempty"`
}

// MirrorRepository says where one image of the project is copied to.
type MirrorRepository struct {
	// Name, as in Project.spec.images. Example: backend.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Image string `json:"image"`
	// Repository, without tag and digest. Example: harbor.client.example/erp/supergest-backend.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9.-]+\.[a-zA-Z0-9-]+|localhost|[a-zA-Z0-9.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`
	Repository string `json:"repository"`
}

// ReleaseMirror is how far a release's images are in the registry of an environment (Environment.spec.registry).
type ReleaseMirror struct {
	// Environment.
	Environment string `json:"environment"`
	// When the release was let into it: each time it is, the registry is asked anew.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
	// How far it is, in words. Example: 3 of 7 layers, 120 of 300 MB.
	// +optional
	Progress string `json:"progress,omitempty"`
	// Images that the registry was seen to serve as their digests say. Nothing is sent to a host before all are here.
	// +optional
	// +listType=map
	// +listMapKey=name
	Images []FrozenImage `json:"images,omitempty"`
	// Bytes of layers that were sent in the last copy; the registry had the rest.
	// +optional
	Moved int64 `json:"moved,omitempty"`
	// Tags that the images received there.
	// +optional
	// +listType=atomic
	Tags []string `json:"tags,omitempty"`
	// What came of copying what is attached to the images (signatures, attestations, SBOMs), in words. No host waits for it.
	// Example: proofs that are attached to the images there: 5.
	// +optional
	Attached string `json:"attached,omitempty"`
}
