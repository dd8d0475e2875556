// SPDX-License-Identifier: Apache-2.0

// Package pv makes the document of a procès-verbal de recette and signs and verifies the client's decision on it.
//
// The document is canonical JSON (RFC 8785), so that its hash can be recomputed from the PV object alone. The decision is
// a DSSE envelope that names the PV (uid), the hash of the document, the decision and the reservations: a signature fits
// one PV and nothing else. It may import api/v1alpha1 and internal/envelope.
package pv

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// PayloadType of a signed decision.
const PayloadType = "application/vnd.sirrat.pv.decision+json"

// Errors that Verify wraps.
var (
	ErrSignature = errors.New("not signed by a key of the client")
	ErrOtherPV   = errors.New("the signature is for another PV")
	ErrInvalid   = errors.New("the signed decision is not valid")
)

// Document is what the client accepts. Its canonical JSON is PV.spec.document. All texts are plain text as people and CI
// wrote them: whoever shows them makes them inert.
type Document struct {
	Title       string   `json:"title"`
	Language    string   `json:"language"` // fr or en
	Project     string   `json:"project"`
	ProjectName string   `json:"projectName"`
	Supplier    string   `json:"supplier"`
	Client      string   `json:"client"`
	Signatories []string `json:"signatories"`

	Release    string `json:"release"`
	ReleaseUID string `json:"releaseUID"`
	Version    string `json:"version"`
	Commit     string `json:"commit"`
	Branch     string `json:"branch"`
	BundleHash string `json:"bundleHash"`
	// Images are "name: repository@digest".
	Images []string `json:"images"`
	// Artifacts are Maven coordinates.
	Artifacts []string `json:"artifacts"`

	Environment string `json:"environment"`
	URL         string `json:"url"`

	// Previous is the client's last accepted release; nil if there is none.
	Previous *Accepted `json:"previous,omitempty"`
	// Changes since the last accepted release, oldest first; the release itself is the last.
	Changes []Change `json:"changes"`

	Karma int32  `json:"karma"`
	Works int32  `json:"works"`
	Level string `json:"level"`
	// Gates that the release passed, by number.
	Gates []Gate `json:"gates"`
	// Figures of tests, coverage and scans, as they counted.
	Figures Figures `json:"figures"`
	// KnownDefects are delivered as they are.
	KnownDefects []string `json:"knownDefects"`
	// OpenReservations of earlier PVs.
	OpenReservations []OpenReservation `json:"openReservations"`

	// Authorises is what the client lets run in each following environment, so that a server whose owner demands the
	// client's signature can compare. PVs from before this member existed do not have it.
	Authorises []Authorised `json:"authorises,omitempty"`

	Opened time.Time `json:"opened"`
}

// Accepted is an earlier release that the client accepted.
type Accepted struct {
	Release  string    `json:"release"`
	Version  string    `json:"version"`
	Commit   string    `json:"commit"`
	PV       string    `json:"pv"`
	SignedAt time.Time `json:"signedAt"`
}

// Change is what one release changed.
type Change struct {
	Release   string `json:"release"`
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	Changelog string `json:"changelog"`
}

// Gate is a gate that the release passed.
type Gate struct {
	Name        string    `json:"name"`
	Number      int32     `json:"number"`
	Environment string    `json:"environment"`
	Opened      time.Time `json:"opened"`
	// Criteria are "name: message".
	Criteria []string `json:"criteria"`
	// Approvals are "user, time (RFC 3339)".
	Approvals []string `json:"approvals"`
}

// Figures are what CI reported; nil where it reported nothing.
type Figures struct {
	Tests           *v1alpha1.TestCounts          `json:"tests,omitempty"`
	Coverage        *float64                      `json:"coverage,omitempty"` // percent
	Vulnerabilities *v1alpha1.VulnerabilityCounts `json:"vulnerabilities,omitempty"`
}

// OpenReservation is a reservation of an earlier PV that nobody settled yet.
type OpenReservation struct {
	PV       string `json:"pv"`
	Number   int    `json:"number"` // from 1
	Text     string `json:"text"`
	Owner    string `json:"owner"`
	Deadline string `json:"deadline"`
}

// Canonical is the document's canonical JSON and its hash.
func (d Document) Canonical() (text, hash string, err error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return "", "", fmt.Errorf("encode PV: %w", err)
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return "", "", fmt.Errorf("canonicalise PV: %w", err)
	}
	return string(canonical), envelope.Hash(canonical), nil
}

// Decision is what the client signs.
type Decision struct {
	Namespace    string                 `json:"namespace"`
	Name         string                 `json:"name"`
	UID          string                 `json:"uid"`
	DocumentHash string                 `json:"documentHash"`
	Decision     v1alpha1.PVDecision    `json:"decision"`
	Reason       string                 `json:"reason,omitempty"`
	Reservations []v1alpha1.Reservation `json:"reservations,omitempty"`
	SignedBy     string                 `json:"signedBy"`
	SignedAt     time.Time              `json:"signedAt"`
	// PDFHash is the hash of the PDF that the signer could read.
	PDFHash string `json:"pdfHash,omitempty"`
	// Method is how the signer was recognised; "" means v1alpha1.MethodKey.
	Method string `json:"method,omitempty"`
	// Email is where the signing page sent its code; only with v1alpha1.MethodPage.
	Email string `json:"email,omitempty"`
}

// NewDecision fills in what identifies the PV.
func NewDecision(p *v1alpha1.PV, decision v1alpha1.PVDecision, signedBy string, at time.Time) Decision {
	return Decision{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), DocumentHash: p.Spec.DocumentHash, PDFHash: p.Spec.PDFHash,
		Decision: decision, SignedBy: signedBy, SignedAt: at.UTC().Truncate(time.Second),
	}
}

// Sign validates and signs a decision; the result belongs into PV.spec.signature.
func Sign(ctx context.Context, d Decision, key crypto.Signer) (string, error) {
	if err := d.validate(); err != nil {
		return "", err
	}
	payload, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("encode decision: %w", err)
	}
	return envelope.Sign(ctx, PayloadType, payload, key)
}

// Keys are the public keys that may sign a decision.
type Keys struct {
	// Client are the client's own: they sign by the method key.
	Client []envelope.PublicKey
	// Installation are those of the installation, which attests what its signing page saw: the method page.
	Installation []envelope.PublicKey
}

// Verify checks PV.spec.signature and returns the decision and the id of the key. A key signs by its own method only: the
// installation cannot sign as if it held the client's key.
func Verify(ctx context.Context, p *v1alpha1.PV, keys Keys) (*Decision, string, error) {
	if envelope.Hash([]byte(p.Spec.Document)) != p.Spec.DocumentHash {
		return nil, "", fmt.Errorf("%w: the document does not have the hash that the PV states", ErrInvalid)
	}
	method := v1alpha1.MethodKey
	payload, key, err := envelope.Verify(ctx, p.Spec.Signature, PayloadType, keys.Client)
	if err != nil {
		method = v1alpha1.MethodPage
		var pageErr error
		if payload, key, pageErr = envelope.Verify(ctx, p.Spec.Signature, PayloadType, keys.Installation); pageErr != nil {
			return nil, "", fmt.Errorf("%w: %w", ErrSignature, err)
		}
	}
	var d Decision
	if err := envelope.DecodeStrict(payload, &d); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.UID != string(p.UID) || d.Namespace != p.Namespace || d.Name != p.Name || d.DocumentHash != p.Spec.DocumentHash {
		return nil, "", fmt.Errorf("%w: it names %s/%s (%s)", ErrOtherPV, d.Namespace, d.Name, d.UID)
	}
	if d.Method == "" {
		d.Method = v1alpha1.MethodKey
	}
	if d.Method != method || d.PDFHash != p.Spec.PDFHash {
		return nil, "", fmt.Errorf("%w: a decision by %s about the PDF %q does not fit this key and this PV", ErrInvalid, d.Method, d.PDFHash)
	}
	if err := d.validate(); err != nil {
		return nil, "", err
	}
	return &d, key.ID, nil
}

func (d Decision) validate() error {
	switch d.Decision {
	case v1alpha1.PVAccepted:
		if len(d.Reservations) > 0 {
			return fmt.Errorf("%w: reservations need the decision %s", ErrInvalid, v1alpha1.PVAcceptedWithReservations)
		}
	case v1alpha1.PVAcceptedWithReservations:
		if len(d.Reservations) == 0 {
			return fmt.Errorf("%w: name at least one reservation", ErrInvalid)
		}
	case v1alpha1.PVRefused:
		if d.Reason == "" {
			return fmt.Errorf("%w: a refusal needs a reason", ErrInvalid)
		}
	default:
		return fmt.Errorf("%w: decision %q is not %s, %s or %s", ErrInvalid, d.Decision,
			v1alpha1.PVAccepted, v1alpha1.PVAcceptedWithReservations, v1alpha1.PVRefused)
	}
	for i, r := range d.Reservations {
		if _, err := time.Parse(time.DateOnly, r.Deadline); err != nil || r.Text == "" || r.Owner == "" || r.Lifted != "" {
			return fmt.Errorf("%w: reservation %d needs a text, an owner and a deadline (YYYY-MM-DD)", ErrInvalid, i+1)
		}
	}
	if d.Decision != v1alpha1.PVRefused && d.Reason != "" {
		return fmt.Errorf("%w: a reason belongs to a refusal; say it as a reservation", ErrInvalid)
	}
	if (d.Method == v1alpha1.MethodPage) != (d.Email != "") {
		return fmt.Errorf("%w: the signing page names the address of its code, and nobody else does", ErrInvalid)
	}
	if d.SignedBy == "" {
		return fmt.Errorf("%w: it does not say who signs", ErrInvalid)
	}
	return nil
}
