// SPDX-License-Identifier: Apache-2.0

package pdf

// column of a table; the widths of all columns add up to width.
type column struct {
	title safe
	width float64
	face  face
	shade bool // a label rather than a value
}

// table draws a head, if the columns have titles, and the rows. Rows that do not fit go on over the page, under the head
// again.
func (s *sheet) table(columns []column, rows [][]safe) {
	s.need(20)
	s.head(columns)
	for _, row := range rows {
		s.row(columns, row, 0)
	}
	s.y += gap
}

// blankRows are to be filled in by hand.
func (s *sheet) blankRows(columns []column, n int, h float64) {
	s.head(columns)
	for range n {
		s.row(columns, make([]safe, len(columns)), h)
	}
	s.y += gap
}

func (s *sheet) head(columns []column) {
	titled := false
	for _, c := range columns {
		titled = titled || c.title != ""
	}
	if !titled {
		return
	}
	titles := make([]safe, len(columns))
	heads := make([]column, len(columns))
	for i, c := range columns {
		titles[i], heads[i] = c.title, column{width: c.width, face: labelFace, shade: true}
	}
	s.part(heads, s.wrapped(heads, titles), 0)
}

// wrapped breaks the cells into lines.
func (s *sheet) wrapped(columns []column, row []safe) [][]string {
	cells := make([][]string, len(columns))
	for i, c := range columns {
		cells[i] = s.fonts.wrap(row[i], c.face, c.width-2*padding)
	}
	return cells
}

// row draws a row, on as many pages as it takes.
func (s *sheet) row(columns []column, row []safe, least float64) {
	cells := s.wrapped(columns, row)
	for {
		h := s.rowHeight(columns, cells)
		free := bottom - s.y
		if max(h, least) <= free {
			s.part(columns, cells, least)
			return
		}
		// A row is broken only if it is long; a short one goes over as a whole.
		const short = 40
		if s.y > top && (h < short || free < short/2) {
			s.newPage()
			s.head(columns)
			continue
		}
		fits := make([][]string, len(cells))
		for i, lines := range cells {
			n := min(len(lines), max(1, int((free-2*padding)/columns[i].face.height())))
			fits[i], cells[i] = lines[:n], lines[n:]
		}
		s.part(columns, fits, 0)
		s.newPage()
		s.head(columns)
	}
}

func (s *sheet) rowHeight(columns []column, cells [][]string) float64 {
	h := 0.0
	for i, lines := range cells {
		h = max(h, float64(len(lines))*columns[i].face.height())
	}
	return h + 2*padding
}

// part draws cells that fit on the page.
func (s *sheet) part(columns []column, cells [][]string, least float64) {
	h := max(least, s.rowHeight(columns, cells))
	x := left
	for i, c := range columns {
		if c.shade {
			s.fill(x, s.y, c.width, h, shade)
		}
		s.box(x, s.y, c.width, h, rule)
		y := s.y + padding
		for _, l := range cells[i] {
			s.put(x+padding, y, l, c.face)
			y += c.face.height()
		}
		x += c.width
	}
	s.y += h
}

// pair is a line of a table of labels and values.
type pair struct {
	label, value safe
	code         bool
}

// pairs draws labels and values.
func (s *sheet) pairs(list []pair) {
	s.need(20)
	for _, p := range list {
		f := cellFace
		if p.code {
			f = codeFace
		}
		s.row([]column{{width: 46, face: labelFace, shade: true}, {width: width - 46, face: f}}, []safe{p.label, or(p.value, s.w.none)}, 0)
	}
	s.y += gap
}
