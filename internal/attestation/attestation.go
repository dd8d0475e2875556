// SPDX-License-Identifier: Apache-2.0

// Package attestation makes and examines what SIRRAT attaches to images in the registry: that a release went through a gate,
// and what the client decided of it. Whoever has the image and the installation's public key can prove both, with no server.
//
// The formats are in-toto Statement v1 (in-toto/attestation, spec/v1/statement.md), the SLSA Verification Summary v1
// (slsa.dev/spec/v1.0/verification_summary) and DSSE v1.0.2. How statements are stored is internal/registry's matter.
//
// It is pure but for signing. It may import api/v1alpha1, internal/envelope and internal/pv.
package attestation

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gowebpki/jcs"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// The fixed strings of statements.
const (
	// PayloadType of an envelope that holds a statement (in-toto/attestation, spec/v1/envelope.md).
	PayloadType = "application/vnd.in-toto+json"
	// StatementType is that of in-toto Statement v1.
	StatementType = "https://in-toto.io/Statement/v1"
	// VerdictType says that the predicate is a SLSA Verification Summary v1.
	VerdictType = "https://slsa.dev/verification_summary/v1"
	// DecisionType says that the predicate is what the client decided of a PV.
	DecisionType = "https://sirrat.dynors.com/pv/v1"

	slsaVersion = "1.0"
)

// Types of the artifacts, and of their layers, in a registry (OCI image-spec v1.1.0, artifactType).
const (
	VerdictArtifact  = "application/vnd.sirrat.verdict.v1"
	DecisionArtifact = "application/vnd.sirrat.pv.v1"

	// VerdictLayer is the type that in-toto gives a stored VSA.
	VerdictLayer = "application/vnd.in-toto.vsa+dsse"
	// DecisionLayer is the envelope about a PV, DocumentLayer the PV's canonical document, SignatureLayer what the client signed.
	DecisionLayer  = "application/vnd.in-toto.sirrat-pv+dsse"
	DocumentLayer  = "application/vnd.sirrat.pv.document.v1+json"
	SignatureLayer = "application/vnd.sirrat.pv.decision.v1+dsse"
)

// Results of a verification, as the VSA has them.
const (
	// ResultPassed: every criterion of the gate held.
	ResultPassed = "PASSED"
	// ResultFailed: the gate was opened by break-glass, although criteria did not hold.
	ResultFailed = "FAILED"
)

// MaxStatement is the largest statement, in bytes: with its signature it fits into envelope.MaxSize.
const MaxStatement = 64 << 10

// Statement is an in-toto Statement v1; Predicate is one of this package's.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Descriptor    `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Descriptor is in-toto's ResourceDescriptor v1, as far as it is used here.
type Descriptor struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

// Verifier names who verified.
type Verifier struct {
	ID string `json:"id"`
}

// Verdict is the predicate of a gate: a SLSA Verification Summary v1 with one extension field, whose name is a URI as that
// format demands.
type Verdict struct {
	Verifier     Verifier  `json:"verifier"`
	TimeVerified time.Time `json:"timeVerified"`
	ResourceURI  string    `json:"resourceUri"`
	// Policy is the gate, with the hash of its spec's canonical JSON.
	Policy Descriptor `json:"policy"`
	// InputAttestations are the CI results that counted and the PV.
	InputAttestations  []Descriptor `json:"inputAttestations,omitempty"`
	VerificationResult string       `json:"verificationResult"`
	VerifiedLevels     []string     `json:"verifiedLevels"`
	SLSAVersion        string       `json:"slsaVersion"`
	Gate               Gate         `json:"https://sirrat.dynors.com/gate/v1"`
}

// Gate is what SIRRAT says beyond the VSA.
type Gate struct {
	Project     string `json:"project"`
	ProjectUID  string `json:"projectUID"`
	Release     string `json:"release"`
	ReleaseUID  string `json:"releaseUID"`
	Version     string `json:"version,omitempty"`
	Commit      string `json:"commit"`
	Name        string `json:"name"`
	Number      int32  `json:"number"`
	Environment string `json:"environment"`
	BundleHash  string `json:"bundleHash"`
	Karma       int32  `json:"karma"`
	// Criteria that the gate had, in its order.
	Criteria []Criterion `json:"criteria,omitempty"`
	// Approvals that counted; BrokenGlass is the emergency by which it was opened.
	Approvals   []Approval `json:"approvals,omitempty"`
	BrokenGlass *Approval  `json:"brokenGlass,omitempty"`
	// PV on which the gate relied.
	PV *PVReference `json:"pv,omitempty"`
}

// Criterion is one criterion's verdict, without words that change with time.
type Criterion struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

// Approval is what somebody decided, and when the controllers first saw it.
type Approval struct {
	User   string    `json:"user"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}

// PVReference names a PV for good.
type PVReference struct {
	Name          string `json:"name"`
	UID           string `json:"uid"`
	DocumentHash  string `json:"documentHash"`
	SignatureHash string `json:"signatureHash"`
}

// Decision is the predicate about a PV. The client's own word is the signature that is attached beside it, where it signed
// with its key; the installation attests the rest.
type Decision struct {
	PVReference  `json:",inline"`
	Verifier     Verifier  `json:"verifier"`
	Project      string    `json:"project"`
	Release      string    `json:"release"`
	ReleaseUID   string    `json:"releaseUID"`
	Commit       string    `json:"commit"`
	Environment  string    `json:"environment"`
	BundleHash   string    `json:"bundleHash"`
	PDFHash      string    `json:"pdfHash,omitempty"`
	Decision     string    `json:"decision"`
	Reservations int       `json:"reservations,omitempty"`
	Method       string    `json:"method"`
	SignedBy     string    `json:"signedBy"`
	SignedAt     time.Time `json:"signedAt"`
	KeyID        string    `json:"keyID,omitempty"`
}

// URIs in statements name things of an installation; nothing is served there.
const uriBase = "https://sirrat.dynors.com/"

// VerifierID names an installation by the first key that it ever had, which stays when keys are rotated.
func VerifierID(firstKeyID string) string { return uriBase + "installation/" + firstKeyID }

// Policy describes a gate, with the hash of its spec.
func Policy(projectUID string, g v1alpha1.QualityGate) (Descriptor, error) {
	digest, err := canonicalDigest(g.Spec)
	return Descriptor{Name: g.Name, URI: uriBase + "gate/" + projectUID + "/" + g.Name, Digest: digest}, err
}

// Result describes a CI result: the report's hash is part of what is hashed, the report itself is not.
func Result(r v1alpha1.CIResult) (Descriptor, error) {
	r.Spec.Report = nil
	digest, err := canonicalDigest(r.Spec)
	return Descriptor{Name: r.Name, URI: uriBase + "result/" + string(r.UID), Digest: digest}, err
}

// Input describes a PV among the inputs of a verdict.
func (p PVReference) Input() Descriptor {
	return Descriptor{Name: p.Name, URI: uriBase + "pv/" + p.UID, Digest: digestSet(p.DocumentHash)}
}

// VerdictStatement is the canonical JSON (RFC 8785) of a verdict on images: the same verdict has the same bytes. What the VSA
// derives from the gate is filled in.
func VerdictStatement(images []v1alpha1.FrozenImage, v Verdict) (string, error) {
	v.TimeVerified = v.TimeVerified.UTC()
	v.ResourceURI = uriBase + "release/" + v.Gate.ReleaseUID
	v.VerificationResult, v.VerifiedLevels, v.SLSAVersion = ResultPassed, []string{level(v.Gate.Name)}, slsaVersion
	if v.Gate.BrokenGlass != nil {
		v.VerificationResult, v.VerifiedLevels = ResultFailed, []string{ResultFailed}
	}
	return statement(images, VerdictType, v)
}

// level is a gate as a VSA's level: a custom value, which may not begin with SLSA_.
func level(gate string) string {
	return "SIRRAT_GATE_" + strings.ToUpper(strings.ReplaceAll(gate, "-", "_"))
}

// DecisionStatement is the canonical JSON of what the client decided of images.
func DecisionStatement(images []v1alpha1.FrozenImage, d Decision) (string, error) {
	d.SignedAt = d.SignedAt.UTC()
	return statement(images, DecisionType, d)
}

func statement(images []v1alpha1.FrozenImage, predicateType string, predicate any) (string, error) {
	if len(images) == 0 {
		return "", errors.New("a statement needs an image")
	}
	raw, err := json.Marshal(predicate)
	if err != nil {
		return "", fmt.Errorf("encode predicate: %w", err)
	}
	st := Statement{Type: StatementType, PredicateType: predicateType, Predicate: raw}
	for _, img := range images {
		st.Subject = append(st.Subject, Descriptor{Name: img.Repository, Digest: digestSet(img.Digest)})
	}
	text, err := canonical(st)
	if err != nil {
		return "", err
	}
	if len(text) > MaxStatement {
		return "", fmt.Errorf("the statement has %d bytes, more than %d", len(text), MaxStatement)
	}
	return string(text), nil
}

// Sign wraps a statement in an envelope.
func Sign(ctx context.Context, statement string, key crypto.Signer) (string, error) {
	return envelope.Sign(ctx, PayloadType, []byte(statement), key)
}

func canonical(value any) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	text, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonicalise: %w", err)
	}
	return text, nil
}

func canonicalDigest(value any) (map[string]string, error) {
	text, err := canonical(value)
	if err != nil {
		return nil, err
	}
	return digestSet(envelope.Hash(text)), nil
}

// digestSet is "sha256:…" as in-toto writes it.
func digestSet(hash string) map[string]string {
	algorithm, hex, _ := strings.Cut(hash, ":")
	return map[string]string{algorithm: hex}
}

// names tells whether descriptors name a digest.
func names(list []Descriptor, digest string) bool {
	want := digestSet(digest)
	return slices.ContainsFunc(list, func(d Descriptor) bool { return maps.Equal(d.Digest, want) })
}
