// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// The part to be filled in by hand fits on one page behind the identification.
const (
	blankReservations = 4
	blankRow          = 11.0
	blankReason       = 20.0
)

// emptyDecision is the part to be filled in by hand. It stands on one page: what is signed shall not be torn apart.
func (s *sheet) emptyDecision(d pv.Document) {
	s.heading(s.w.decision, 172)
	s.paragraph(s.w.statement, bodyFace)
	s.boxes("")
	s.paragraph(s.w.chooseOne, smallFace)
	s.y += gap / 2

	s.subheading(s.w.reasonHint)
	s.box(left, s.y, width, blankReason, rule)
	s.y += blankReason + gap

	s.subheading(s.w.reservationsHint)
	s.blankRows(s.reservationColumns(), blankReservations, blankRow)

	s.subheading(s.w.client + s.w.colon + s.line(d.Client))
	s.signatureBox()
}

func (s *sheet) reservationColumns() []column {
	return []column{
		{title: "N°", width: 9, face: cellFace}, {title: s.w.text, width: 93, face: cellFace},
		{title: s.w.owner, width: 38, face: cellFace}, {title: s.w.deadline, width: 30, face: cellFace},
	}
}

// boxes draws the three decisions with a cross on the chosen one, if any.
func (s *sheet) boxes(chosen v1alpha1.PVDecision) {
	const size = 3.8
	s.y += 0.8
	for _, d := range []v1alpha1.PVDecision{v1alpha1.PVAccepted, v1alpha1.PVAcceptedWithReservations, v1alpha1.PVRefused} {
		text, c, _ := s.w.verdict(d)
		f := bodyFace
		s.need(7)
		s.box(left+2, s.y, size, size, black)
		if d == chosen {
			s.stroke(left+2.7, s.y+0.7, left+2+size-0.7, s.y+size-0.7, 0.5, c)
			s.stroke(left+2.7, s.y+size-0.7, left+2+size-0.7, s.y+0.7, 0.5, c)
			f = face{bold, bodyFace.size, c}
		}
		s.put(left+9, s.y-0.1, string(text), f)
		s.y += 6.4
	}
}

// signatureBox has lines for name, position and date, and room for a signature and a stamp.
func (s *sheet) signatureBox() {
	const h, half = 34.5, width / 2
	s.need(h)
	for i, t := range []safe{s.w.fullName, s.w.function, s.w.placeDate} {
		y := s.y + float64(i)*h/3
		s.box(left, y, half, h/3, rule)
		s.put(left+padding, y+padding, string(t), smallFace)
	}
	s.box(left+half, s.y, half, h, rule)
	s.put(left+half+padding, s.y+padding, string(s.w.signatureBox), smallFace)
	s.y += h + gap
}

// filledDecision is what the client decided and how it can be verified.
func (s *sheet) filledDecision(d pv.Document, signed Signed) {
	s.heading(s.w.decision, 60)
	s.paragraph(s.w.statement, bodyFace)
	s.boxes(signed.Decision)
	s.y += gap / 2
	if signed.Reason != "" {
		s.subheading(s.w.reason)
		s.quote(s.text(signed.Reason, maxText), bodyFace)
	}
	if len(signed.Reservations) > 0 {
		s.subheading(s.w.reservations)
		s.table(s.reservationColumns(), s.reservationRows(signed.Reservations))
	}

	s.left = maxSection
	s.need(55)
	s.subheading(s.w.signature)
	method, hash, note := s.w.methodKey, s.w.signatureHash, s.w.signatureNote
	switch signed.Method {
	case "", v1alpha1.MethodKey:
	case v1alpha1.MethodPage:
		method = s.w.methodPage
	case v1alpha1.MethodPaper:
		method, hash, note = s.w.methodPaper, s.w.scanHash, s.w.paperNote
	default:
		method = s.line(signed.Method)
	}
	list := []pair{
		{label: s.w.client, value: s.line(d.Client)},
		{label: s.w.signedBy, value: s.line(signed.SignedBy)},
		{label: s.w.date, value: s.when(signed)},
		{label: s.w.method, value: method},
	}
	if signed.Email != "" {
		list = append(list, pair{label: s.w.email, value: s.line(signed.Email)})
	}
	if signed.KeyID != "" {
		list = append(list, pair{label: s.w.key, value: s.line(signed.KeyID), code: true})
	}
	s.pairs(append(list,
		pair{label: hash, value: s.line(signed.SignatureHash), code: true},
		pair{label: s.w.pdfHash, value: s.line(signed.PDFHash), code: true}))
	s.paragraph(note, smallFace)
}

func (s *sheet) reservationRows(list []v1alpha1.Reservation) [][]safe {
	var rows [][]safe
	for i, r := range list {
		if i == maxRows {
			return append(rows, []safe{"", s.more(len(list) - i), "", ""})
		}
		rows = append(rows, []safe{
			number(i + 1), s.text(r.Text, maxText), or(s.line(r.Owner), s.w.none), s.deadline(r.Deadline),
		})
	}
	return rows
}

// when says when it was signed: a paper bears a date only.
func (s *sheet) when(signed Signed) safe {
	if signed.Method == v1alpha1.MethodPaper && !signed.SignedAt.IsZero() {
		return s.w.day(signed.SignedAt)
	}
	return s.w.moment(signed.SignedAt)
}
