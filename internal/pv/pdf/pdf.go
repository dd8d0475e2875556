// SPDX-License-Identifier: Apache-2.0

// Package pdf makes the PDF of a procès-verbal de recette: what the client reads before signing, can print and sign on
// paper, and keeps afterwards with the decision filled in. The text that binds is the canonical JSON of the document; the
// PDF states its hash on every page.
//
// The same input gives the same bytes, whenever and wherever: anybody can make the PDF again and compare its hash. So
// nothing here looks at the clock, at the machine or at the order of a map, and nothing is printed that changes after the
// signature (whether a reservation was lifted). A change of this package or of its libraries changes the hashes of later
// renderings; the archive keeps the bytes that were shown.
//
// All texts of a document are somebody else's: they become inert (text.go) and bounded before they are drawn. What was
// cut is said where it was cut.
//
// The file is meant to be PDF/A-2b: fonts embedded as subsets, an sRGB output intent, XMP metadata that agree with the
// information dictionary, a document ID, nothing transparent, encrypted, active or attached. Tests check that structure;
// no validator has certified it. ToUnicode is the library's identity map, which readers understand, but which is broader
// than conformance level U allows.
//
// It may import api/v1alpha1, internal/pv, the PDF library and its fonts. The library is codeberg.org/go-pdf/fpdf (MIT):
// the living successor of gofpdf, without dependencies of its own, which subsets TrueType fonts and writes XMP and output
// intents. Licences of what is embedded: see NOTICE.
package pdf

import (
	"bytes"
	"fmt"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// Signed is a verified decision of the client, as it is printed.
type Signed struct {
	Decision v1alpha1.PVDecision
	// Reason of a refusal; may accompany any decision.
	Reason string
	// Reservations in the order in which they were signed; Lifted is not printed.
	Reservations []v1alpha1.Reservation
	// SignedBy is who signed, as the signature or the paper says.
	SignedBy string
	// SignedAt is printed in UTC, to the second; of a paper only the date counts.
	SignedAt time.Time
	// Method is v1alpha1.MethodKey, MethodPage or MethodPaper; "" means MethodKey.
	Method string
	// KeyID of the key that signed or attested; "" if none did.
	KeyID string
	// Email is where the signing page sent its code; only with v1alpha1.MethodPage.
	Email string
	// SignatureHash is the hash of the envelope; of the scan for a paper.
	SignatureHash string
	// PDFHash is the hash of the PDF without the decision, which the signer could read: of what Render returned.
	PDFHash string
}

// Render makes the PDF that the client reads before deciding, with empty fields for a signature on paper. documentHash
// is the hash of the document's canonical JSON. An error means that the PDF library failed, never that a text is bad.
func Render(d pv.Document, documentHash string) ([]byte, error) {
	s, err := newSheet(wordsOf(d.Language))
	if err != nil {
		return nil, err
	}
	s.banner(s.w.awaiting, s.w.openedOn+" "+s.w.moment(d.Opened), ink)
	s.document(d, documentHash)
	s.emptyDecision(d)
	s.frames(d, documentHash, true)
	return s.finish(d, d.Opened)
}

// RenderSigned makes the same PDF with the decision filled in. It refuses a decision that is none.
func RenderSigned(d pv.Document, documentHash string, signed Signed) ([]byte, error) {
	s, err := newSheet(wordsOf(d.Language))
	if err != nil {
		return nil, err
	}
	verdict, colour, ok := s.w.verdict(signed.Decision)
	if !ok {
		return nil, fmt.Errorf("render the PDF of a PV: %q is not a decision", signed.Decision)
	}
	s.banner(verdict, s.w.signedBy+" "+s.line(signed.SignedBy)+", "+s.when(signed), colour)
	s.document(d, documentHash)
	s.filledDecision(d, signed)
	s.frames(d, documentHash, false)
	return s.finish(d, signed.SignedAt)
}

// finish makes the file.
func (s *sheet) finish(d pv.Document, at time.Time) ([]byte, error) {
	s.describe(d, at)
	var b bytes.Buffer
	if err := s.f.Output(&b); err != nil {
		return nil, fmt.Errorf("make the PDF of a PV: %w", err)
	}
	return conform(b.Bytes())
}
