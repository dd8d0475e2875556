// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrustedRootKey is the customary name of a trusted root, as `cosign trusted-root create` writes it.
const TrustedRootKey = "trusted_root.json"

// SignaturePolicy says who must have signed the images of a release, with cosign or another tool of sigstore, before any gate
// lets it into the environment. Read are signatures in the tag sha256-<digest>.sig and sigstore bundles attached to the image.
//
// +kubebuilder:validation:XValidation:rule="(has(self.keys) && size(self.keys) > 0) || has(self.keyless)",message="give keys or keyless: a policy that trusts nobody lets nothing in"
// +kubebuilder:validation:XValidation:rule="(has(self.minimum) ? self.minimum : 1) <= (has(self.keys) ? size(self.keys) : 0) + (has(self.keyless) ? size(self.keyless.identities) : 0)",message="minimum exceeds the number of keys and identities"
type SignaturePolicy struct {
	// Public keys whose signatures count.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Keys []SignatureKey `json:"keys,omitempty"`
	// Certificates whose signatures count: those that a certificate authority gave to who proved an identity.
	// +optional
	Keyless *KeylessSignatures `json:"keyless,omitempty"`
	// Images that must be signed, by their names in Project.spec.images. Default: every image of the release.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	Images []string `json:"images,omitempty"`
	// Different keys and identities of this policy that must have signed each image. Default 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Minimum int32 `json:"minimum,omitempty"`
}

// SignatureKey is a public key, as `cosign generate-key-pair` writes it into cosign.pub.
type SignatureKey struct {
	// Name under which verdicts speak of it, unique in the policy. Example: ci.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// The key: PEM (PUBLIC KEY, RFC 5280), of ECDSA on P-256, P-384 or P-521, Ed25519, or RSA from 2048 bits.
	// +kubebuilder:validation:Pattern=`-----BEGIN PUBLIC KEY-----`
	// +kubebuilder:validation:MaxLength=4096
	PublicKey string `json:"publicKey"`
}

// KeylessSignatures trusts certificates. What is trusted is written down here: nothing is fetched from sigstore's servers.
type KeylessSignatures struct {
	// The certificate authorities and logs that are trusted: sigstore's TrustedRoot (sigstore/protobuf-specs,
	// sigstore_trustroot.proto) in JSON, at most 512 KiB, as `cosign trusted-root create` writes it. It must name a transparency
	// log; where it names certificate transparency logs too, certificates must be in one of them.
	TrustedRoot TrustedRootSource `json:"trustedRoot"`
	// Who may sign.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Identities []SignatureIdentity `json:"identities"`
}

// TrustedRootSource is a key of a ConfigMap or of a Secret of the project's namespace.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapKeyRef) != has(self.secretKeyRef)",message="give exactly one of configMapKeyRef and secretKeyRef"
type TrustedRootSource struct {
	// In a ConfigMap. Example: {name: sigstore, key: trusted_root.json}.
	// +optional
	ConfigMapKeyRef *TrustedRootRef `json:"configMapKeyRef,omitempty"`
	// In a Secret. Example: {name: sigstore, key: trusted_root.json}.
	// +optional
	SecretKeyRef *TrustedRootRef `json:"secretKeyRef,omitempty"`
}

// TrustedRootRef names one key of a ConfigMap or Secret.
type TrustedRootRef struct {
	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in its data. Default trusted_root.json.
	// +optional
	// +kubebuilder:default=trusted_root.json
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// SignatureIdentity is who a certificate must have been given to. Expressions (RE2) must match the whole text.
//
// +kubebuilder:validation:XValidation:rule="has(self.issuer) != has(self.issuerRegExp)",message="give exactly one of issuer and issuerRegExp"
// +kubebuilder:validation:XValidation:rule="has(self.subject) != has(self.subjectRegExp)",message="give exactly one of subject and subjectRegExp"
type SignatureIdentity struct {
	// Name under which verdicts speak of it, unique in the policy. Example: release-pipeline.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Who vouched for the identity (the certificate's OIDC issuer). Example: https://gitlab.com.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=500
	Issuer string `json:"issuer,omitempty"`
	// Expression for the same.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=500
	IssuerRegExp string `json:"issuerRegExp,omitempty"`
	// The identity (the certificate's subject alternative name: an address or a mailbox).
	// Example: https://gitlab.com/dynors/supergest//.gitlab-ci.yml@refs/heads/main.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1000
	Subject string `json:"subject,omitempty"`
	// Expression for the same. Example: https://gitlab\.com/dynors/supergest//\.gitlab-ci\.yml@refs/tags/v.*.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1000
	SubjectRegExp string `json:"subjectRegExp,omitempty"`
}

// Values of SBOMCriterion.source.
const (
	// SBOMAnywhere: reported or attached.
	SBOMAnywhere = "Any"
	// SBOMReported: CI sent the file to POST …/reports.
	SBOMReported = "Reported"
	// SBOMAttached: the registry has it, attached to the image.
	SBOMAttached = "Attached"
)

// SBOMCriterion asks for a software bill of materials of every image, with at least one component. It says that there is
// one, not who made it: for that there is the Environment's spec.signatures.
type SBOMCriterion struct {
	// Reported: CI sent CycloneDX to POST …/reports as type sbom; one that names no image is about the commit and stands for
	// all its images. Attached: an artifact attached to the image in the registry (OCI referrers) of type
	// application/vnd.cyclonedx+json, application/vnd.cyclonedx+xml or application/spdx+json, or a sigstore bundle whose
	// statement is one. Any (the default): either.
	// +optional
	// +kubebuilder:default=Any
	// +kubebuilder:validation:Enum=Any;Reported;Attached
	Source string `json:"source,omitempty"`
	// Images that need one, by their names in Project.spec.images. Default: every image of the release.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	Images []string `json:"images,omitempty"`
}

// SignatureRecord is what the registry had of one image's signatures. What was verified stays, whatever is removed from the
// registry later.
type SignatureRecord struct {
	// Image's name.
	Image string `json:"image"`
	// Its digest.
	Digest string `json:"digest"`
	// sha256 over the keys, identities and trusted root by which it was judged: it counts where the policy has these still.
	Policy string `json:"policy"`
	// Whose signatures were verified, each once.
	// +optional
	// +listType=map
	// +listMapKey=name
	Signers []ImageSigner `json:"signers,omitempty"`
	// What the registry has that does not count, or why it could not be read.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// ImageSigner is who signed an image.
type ImageSigner struct {
	// Name of the key or identity in the policy.
	Name string `json:"name"`
	// sha256 of the public key (DER), of a key.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// Subject of the certificate, of an identity.
	// +optional
	Subject string `json:"subject,omitempty"`
	// Issuer that the certificate names, of an identity.
	// +optional
	Issuer string `json:"issuer,omitempty"`
	// Digest of the manifest in the registry that holds the signature.
	Manifest string `json:"manifest"`
	// When it was verified.
	VerifiedAt metav1.Time `json:"verifiedAt"`
}

// SBOMRecord is what the registry had of one image's bill of materials.
type SBOMRecord struct {
	// Image's name.
	Image string `json:"image"`
	// Its digest.
	Digest string `json:"digest"`
	// Digest of the manifest that holds the bill; absent while none was found.
	// +optional
	Manifest string `json:"manifest,omitempty"`
	// Format of the bill: cyclonedx-json, cyclonedx-xml or spdx-json.
	// +optional
	Format string `json:"format,omitempty"`
	// Components or packages that it lists.
	// +optional
	Components int32 `json:"components,omitempty"`
	// What the registry has that does not count, or why it could not be read.
	// +optional
	Problem string `json:"problem,omitempty"`
}
