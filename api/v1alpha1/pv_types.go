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
// +kubebuilder:validation:XValidation:rule="self.document == oldSelf.document && self.documentHash == oldSelf.documentHash && (has(self.pdfHash) ? self.pdfHash : \"\") == (has(oldSelf.pdfHash) ? oldSelf.pdfHash : \"\") && self.release == oldSelf.release && self.client == oldSelf.client && self.environment == oldSelf.environment",message="only the signature or the paper of a PV may be set"
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
	// sha256 of the PDF of the document, which anybody can make again from the document: `kubectl sirrat pv pdf`.
	// +optional
	// +kubebuilder:validation:Pattern=`^(sha256:[0-9a-f]{64})?$`
	PDFHash string `json:"pdfHash,omitempty"`
	// A PV that was signed on paper, in place of a signature. `kubectl sirrat pv upload` sets it.
	// +optional
	Paper *PaperPV `json:"paper,omitempty"`
	// The client's signature: a DSSE envelope (JSON) of type application/vnd.sirrat.pv.decision+json over the decision, the
	// reservations and the hash of the document. `kubectl sirrat pv sign` makes it.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	Signature string `json:"signature,omitempty"`
}

// PaperPV is a decision that the client signed on paper, as a member who may (verb upload on pvs) states it.
//
// +kubebuilder:validation:XValidation:rule="self.decision != 'Refused' || (has(self.reason) && size(self.reason) > 0)",message="a refusal needs a reason"
// +kubebuilder:validation:XValidation:rule="(self.decision == 'AcceptedWithReservations') == (has(self.reservations) && size(self.reservations) > 0)",message="reservations belong to the decision AcceptedWithReservations, which needs at least one"
type PaperPV struct {
	// Decision on the paper.
	// +kubebuilder:validation:Enum=Accepted;AcceptedWithReservations;Refused
	Decision PVDecision `json:"decision"`
	// Reason of a refusal.
	// +optional
	// +kubebuilder:validation:MaxLength=4000
	Reason string `json:"reason,omitempty"`
	// Reservations.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	Reservations []Reservation `json:"reservations,omitempty"`
	// Who signed the paper.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	SignedBy string `json:"signedBy"`
	// Date on the paper. Example: 2026-11-22.
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	SignedOn string `json:"signedOn"`
	// sha256 of the scan, which has to arrive in the archive before the decision counts.
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	ScanHash string `json:"scanHash"`
	// User who uploads it: the caller's own name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	UploadedBy string `json:"uploadedBy"`
}

// Ways in which a PV is signed.
const (
	MethodKey   = "key"   // with the client's own key
	MethodPage  = "page"  // on the signing page: link and code by e-mail, attested by the installation's key
	MethodPaper = "paper" // on paper, uploaded by a member
)

// What the archive holds of a PV.
const (
	ArchivedOpened  = "Opened"
	ArchivedDecided = "Decided"
)

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
	// How it was settled, and by whom; empty while it is open. Set by the controllers from the annotation
	// lifted.sirrat.dynors.com/<number>.
	// +optional
	// +kubebuilder:validation:MaxLength=2000
	Lifted string `json:"lifted,omitempty"`
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
	// How it was signed: key, page or paper.
	// +optional
	Method string `json:"method,omitempty"`
	// Address to which the signing page sent its code.
	// +optional
	Email string `json:"email,omitempty"`
	// What the archive outside the cluster holds of it: Opened or Decided.
	// +optional
	// +kubebuilder:validation:Enum=Opened;Decided
	Archived string `json:"archived,omitempty"`
	// The admission policy and binding, by uid and generation, under which papers and settled reservations were last read.
	// What appears while it changes is not believed.
	// +optional
	Guard string `json:"guard,omitempty"`
	// Numbers of the reservations that were said to be settled while admission did not protect that: they stay open.
	// +optional
	// +listType=set
	RefusedLifts []string `json:"refusedLifts,omitempty"`
	// Why the paper does not count, by the hash of what it states.
	// +optional
	RefusedPaper string `json:"refusedPaper,omitempty"`
	// sha256 of the PDF with the decision, which anybody can make again from this object: `kubectl sirrat pv pdf`.
	// +optional
	PDFHash string `json:"pdfHash,omitempty"`
	// Id of the key that signed: sha256 of its PKIX form.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// When the signature was verified.
	// +optional
	SignedAt *metav1.Time `json:"signedAt,omitempty"`
	// sha256 of the envelope; of the scan for a paper.
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
