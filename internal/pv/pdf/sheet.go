// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"fmt"

	"codeberg.org/go-pdf/fpdf"

	"gitlab.com/dynors/sirrat/internal/pv"
)

// A4, in millimetres.
const (
	pageWidth  = 210.0
	pageHeight = 297.0
	left       = 20.0
	width      = pageWidth - 2*left
	top        = 27.0
	bottom     = pageHeight - 25
	padding    = 1.6 // within a cell
	gap        = 3.0 // between blocks
)

type colour struct{ r, g, b int }

var (
	ink   = colour{27, 38, 59}
	black = colour{25, 25, 25}
	grey  = colour{95, 100, 110}
	rule  = colour{190, 195, 203}
	shade = colour{240, 242, 246}
	green = colour{22, 101, 52}
	amber = colour{146, 84, 8}
	red   = colour{153, 27, 27}
)

// face is how a text looks; the size is in points.
type face struct {
	font   fontID
	size   float64
	colour colour
}

var (
	titleFace   = face{bold, 20, ink}
	headingFace = face{bold, 11.5, ink}
	bodyFace    = face{regular, 9.5, black}
	strongFace  = face{bold, 9.5, black}
	cellFace    = face{regular, 8.5, black}
	labelFace   = face{bold, 8.5, ink}
	codeFace    = face{mono, 7.5, black}
	smallFace   = face{regular, 7.5, grey}
	tinyCode    = face{mono, 6.5, grey}
)

// height of a line in millimetres.
func (f face) height() float64 { return f.size * pt * 1.32 }

// sheet draws from top to bottom and begins a new page where the last is full.
type sheet struct {
	f        *fpdf.Fpdf
	fonts    *fontSet
	w        *words
	y        float64
	sections int
	// left of maxSection. Each section has its own, so that no changelog can leave the reservations unprinted.
	left int
	// cut says that a text was not printed in full.
	cut bool
}

func newSheet(w *words) (*sheet, error) {
	f := fpdf.New("P", "mm", "A4", "")
	f.SetCatalogSort(true)
	f.SetCompression(true)
	f.SetAutoPageBreak(false, 0)
	f.SetDisplayMode("default", "default")
	fonts, err := loadFonts(f)
	if err != nil {
		return nil, fmt.Errorf("load the fonts of the PDF: %w", err)
	}
	s := &sheet{f: f, fonts: fonts, w: w, left: maxSection}
	s.newPage()
	return s, nil
}

func (s *sheet) newPage() {
	s.f.AddPage()
	s.y = top
}

// need begins a new page unless h millimetres are free on this one.
func (s *sheet) need(h float64) {
	if s.y+h > bottom && s.y > top {
		s.newPage()
	}
}

// put draws one line whose top is at y. Only wrap's lines of safe text and cut-to-fit ones get here.
func (s *sheet) put(x, y float64, t string, f face) {
	s.f.SetFont(families[f.font], "", f.size)
	s.f.SetTextColor(f.colour.r, f.colour.g, f.colour.b)
	s.f.Text(x, y+f.size*pt*1.02, t)
}

// putRight draws one line that ends at x.
func (s *sheet) putRight(x, y float64, t safe, f face) {
	s.put(x-s.fonts.width(string(t), f), y, string(t), f)
}

// putFitted draws a text on one line not wider than w; what does not fit ends in "…".
func (s *sheet) putFitted(x, y, w float64, t safe, f face) {
	line := string(t)
	if s.fonts.width(line, f) > w {
		line = line[:s.fonts.fit(line, f, w-s.fonts.width("…", f))] + "…"
	}
	s.put(x, y, line, f)
}

func (s *sheet) fill(x, y, w, h float64, c colour) {
	s.f.SetFillColor(c.r, c.g, c.b)
	s.f.Rect(x, y, w, h, "F")
}

func (s *sheet) box(x, y, w, h float64, c colour) {
	s.f.SetDrawColor(c.r, c.g, c.b)
	s.f.SetLineWidth(0.2)
	s.f.Rect(x, y, w, h, "D")
}

func (s *sheet) stroke(x1, y1, x2, y2, w float64, c colour) {
	s.f.SetDrawColor(c.r, c.g, c.b)
	s.f.SetLineWidth(w)
	s.f.Line(x1, y1, x2, y2)
}

// paragraph draws a text over the whole width.
func (s *sheet) paragraph(t safe, f face) {
	for _, l := range s.fonts.wrap(t, f, width) {
		s.need(f.height())
		s.put(left, s.y, l, f)
		s.y += f.height()
	}
	s.y += gap / 2
}

// quote draws a foreign text of many lines beside a bar, so that none of its lines can pass for one of the document's own.
func (s *sheet) quote(t safe, f face) {
	const indent = 4
	for _, l := range s.fonts.wrap(t, f, width-indent) {
		s.need(f.height())
		s.fill(left, s.y, 0.8, f.height(), rule)
		s.put(left+indent, s.y, l, f)
		s.y += f.height()
	}
	s.y += gap
}

// heading begins a numbered section; after is what has to stand on the same page.
func (s *sheet) heading(t safe, after float64) {
	s.sections++
	s.left = maxSection
	s.y += gap
	s.need(headingFace.height() + gap + after)
	s.put(left, s.y, fmt.Sprintf("%d.", s.sections), headingFace)
	s.put(left+8, s.y, string(t), headingFace)
	s.y += headingFace.height() + 0.8
	s.stroke(left, s.y, left+width, s.y, 0.35, ink)
	s.y += gap - 0.6
}

// subheading stands above a quote or a table.
func (s *sheet) subheading(t safe) {
	lines := s.fonts.wrap(t, strongFace, width)
	s.need(float64(len(lines))*strongFace.height() + 12)
	for _, l := range lines {
		s.need(strongFace.height())
		s.put(left, s.y, l, strongFace)
		s.y += strongFace.height()
	}
	s.y += 1
}

// banner is the top of the first page: what this is and where it stands.
func (s *sheet) banner(state, detail safe, c colour) {
	s.put(left, s.y, string(s.w.title), titleFace)
	s.y += titleFace.height() + 2
	lines := s.fonts.wrap(detail, cellFace, width-12)
	h := headingFace.height() + float64(len(lines))*cellFace.height() + 5
	s.fill(left, s.y, width, h, shade)
	s.fill(left, s.y, 1.6, h, c)
	y := s.y + 2.2
	s.put(left+6, y, string(state), face{bold, headingFace.size, c})
	y += headingFace.height() + 0.4
	for _, l := range lines {
		s.put(left+6, y, l, cellFace)
		y += cellFace.height()
	}
	s.y += h + gap
}

// frames draws header and footer of every page, once their number is known; initials asks for those of who signs by hand.
func (s *sheet) frames(d pv.Document, documentHash string, initials bool) {
	s.left = maxSection
	pages := s.f.PageCount()
	title := s.line(d.ProjectName) + " — " + s.w.version + " " + s.version(d)
	value := s.line(documentHash)
	for n := 1; n <= pages; n++ {
		s.f.SetPage(n)
		if n > 1 {
			// The first page says so in large letters.
			s.putRight(left+width, 14, s.w.title, smallFace)
		}
		s.putFitted(left, 14, width-50, title, face{bold, smallFace.size, grey})
		s.stroke(left, 19, left+width, 19, 0.2, rule)

		y := pageHeight - 20
		s.stroke(left, y, left+width, y, 0.2, rule)
		s.put(left, y+2, string(s.w.documentHash+s.w.colon), smallFace)
		s.putFitted(left, y+5.6, width-70, value, tinyCode)
		if initials {
			s.put(left+width-62, y+3.8, string(s.w.initials), smallFace)
			s.box(left+width-50, y+1.6, 26, 8, rule)
		}
		s.putRight(left+width, y+3.8, s.w.page+" "+number(n)+"/"+number(pages), face{bold, 8.5, ink})
	}
}
