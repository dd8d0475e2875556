// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PVDecision is what the client decided.
type PVDecision string

// Decisions of a client.
const (
	PVAccepted                 PVDecision = "Accepted"
	PVAcceptedWithReservations PVDecision = "AcceptedWithReservations"
	PVRefused                  PVDecision = "Refused"
)

// PV is a procès-verbal de recette: the certificate by which the client accepts or refuses a release. The controllers
// create it when the client's acceptance opens; the client signs it. Immutable once its signature is verified.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=pvs,scope=Namespaced,singular=pvs,shortName=recette,categories=sirrat
// +kubebuilder:printcolumn:name="Release",type=string,JSONPath=`.spec.release.name`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.release.version`
// +kubebuilder:printcolumn:name="Client",type=string,JSONPath=`.spec.client`
// +kubebuilder:printcolumn:name="Decision",type=string,JSONPath=`.status.decision`
// +kubebuilder:printcolumn:name="Signed by",type=string,JSONPath=`.status.signedBy`
// +kubebuilder:printcolumn:name="Signed",type=date,JSONPath=`.status.signedAt`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.decision) || self.spec == oldSelf.spec",message="a signed PV cannot be changed"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.decision) || (has(self.status) && has(self.status.decision) && self.status.decision == oldSelf.status.decision && self.status.signatureHash == oldSelf.status.signatureHash)",message="a client's decision cannot be changed"
type PV struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is accepted, and the client's signature.
	Spec PVSpec `json:"spec"`
	// What was verified. Written by the controllers alone.
	Status PVStatus `json:"status,omitempty"`
}

// PVSpec is the document and its signature.
//
// +kubebuilder:validation:XValidation:rule="self.document == oldSelf.document && self.documentHash == oldSelf.documentHash && self.release == oldSelf.release && self.client == oldSelf.client && self.environment == oldSelf.environment",message="only the signature of a PV may be set"
type PVSpec struct {
	// The release to accept.
	Release PVRelease `json:"release"`
	// Environment in which the client tests.
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment"`
	// Client's name.
	// +kubebuilder:validation:MaxLength=200
	Client string `json:"client"`
	// What is accepted, as canonical JSON (RFC 8785): parties, release, commit, version, digests, address, verdicts.
	// +kubebuilder:validation:MaxLength=262144
	Document string `json:"document"`
	// sha256 of the document.
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	DocumentHash string `json:"documentHash"`
	// The client's signature: a DSSE envelope (JSON) of type application/vnd.sirrat.pv.decision+json over the decision, the
	// reservations and the hash of the document. `kubectl sirrat pv sign` makes it.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	Signature string `json:"signature,omitempty"`
}

// PVRelease identifies a release for good.
type PVRelease struct {
	// Name.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Uid of the object: another release of the same name is another release.
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid"`
	// Commit.
	// +kubebuilder:validation:MaxLength=64
	Commit string `json:"commit"`
	// Version at the time, if any.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// Hash of the bundle that the client tested.
	// +kubebuilder:validation:MaxLength=80
	BundleHash string `json:"bundleHash"`
	// When the gate let the release into the client's environment: the acceptance that this PV closes.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
}

// Reservation is a defect that the client accepts for a time.
type Reservation struct {
	// What is wrong.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2000
	Text string `json:"text"`
	// Who mends it.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	Owner string `json:"owner,omitempty"`
	// Until when, as a date. Example: 2026-12-31.
	// +optional
	// +kubebuilder:validation:Pattern=`^([0-9]{4}-[0-9]{2}-[0-9]{2})?$`
	Deadline string `json:"deadline,omitempty"`
}

// PVStatus is the verified decision.
type PVStatus struct {
	// The client's decision, once the signature is verified. Never changes.
	// +optional
	// +kubebuilder:validation:Enum=Accepted;AcceptedWithReservations;Refused
	Decision PVDecision `json:"decision,omitempty"`
	// Reason of a refusal.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Reservations.
	// +optional
	// +listType=atomic
	Reservations []Reservation `json:"reservations,omitempty"`
	// Who signed, as the signature says.
	// +optional
	SignedBy string `json:"signedBy,omitempty"`
	// Id of the key that signed: sha256 of its PKIX form.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// When the signature was verified.
	// +optional
	SignedAt *metav1.Time `json:"signedAt,omitempty"`
	// sha256 of the envelope.
	// +optional
	SignatureHash string `json:"signatureHash,omitempty"`
	// Ready is True once accepted; the reason says more.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PVList is a list of PVs.
//
// +kubebuilder:object:root=true
type PVList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PV `json:"items"`
}
