// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/text/unicode/norm"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// DefaultWidth is the width of a picture when nothing says how wide the terminal is, in columns.
const DefaultWidth = 100

// maxWidth keeps a picture together on very wide terminals.
const maxWidth = 132

// Screen is what to draw for.
type Screen struct {
	// Width in columns; 0 means DefaultWidth.
	Width int
	// Color allows ANSI colours.
	Color bool
	// ASCII asks for characters that every terminal has.
	ASCII bool
	Lang  lang.Language
	// Now is the time that ages are counted to.
	Now time.Time
	// Zone is where times of day are shown; nil means UTC.
	Zone *time.Location
}

func (s Screen) width() int {
	switch {
	case s.Width <= 0:
		return DefaultWidth
	case s.Width > maxWidth:
		return maxWidth
	}
	return s.Width
}

// at is a moment as a date and time of day.
func (s Screen) at(t time.Time) string {
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04 MST")
}

// age is how long ago a moment was.
func (s Screen) age(t time.Time) string { return s.Lang.Duration(s.Now.Sub(t)) }

// until is a moment to come: when, and in how long.
func (s Screen) until(t time.Time) string {
	if !t.After(s.Now) {
		return s.Lang.T("time.any-moment", s.at(t))
	}
	return s.Lang.T("time.until", s.at(t), s.Lang.Duration(t.Sub(s.Now)))
}

// colour is an ANSI SGR parameter.
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	dim    colour = "2"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
	divine colour = "1;36"
)

// cells measures and cuts by terminal columns, with ambiguous characters narrow whatever the locale.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

func width(s string) int { return cells.StringWidth(s) }

// line is one line of a page.
type line struct {
	color bool
	b     strings.Builder
	w     int
}

// put appends text, made inert, in a colour.
func (l *line) put(c colour, text string) *line {
	text = inert.Line(text)
	if text == "" {
		return l
	}
	l.w += width(text)
	if !l.color || c == plain || strings.TrimSpace(text) == "" {
		l.b.WriteString(text)
		return l
	}
	l.b.WriteString("\x1b[" + string(c) + "m" + text + "\x1b[0m")
	return l
}

// fit appends text, cut to a number of columns.
func (l *line) fit(c colour, text string, columns int) *line {
	return l.put(c, cut(inert.Line(text), columns))
}

// to moves to a column.
func (l *line) to(column int) *line {
	if n := column - l.w; n > 0 {
		l.b.WriteString(strings.Repeat(" ", n))
		l.w = column
	}
	return l
}

// fill repeats a character up to a column.
func (l *line) fill(c colour, r string, column int) *line {
	if n := column - l.w; n > 0 {
		l.put(c, strings.Repeat(r, n))
	}
	return l
}

func cut(text string, columns int) string {
	if columns <= 0 {
		return ""
	}
	return cells.Truncate(text, columns, "…")
}

// page collects lines.
type page struct {
	Screen
	lines []*line
}

func (s Screen) page() *page { return &page{Screen: s} }

// line starts a new line at a column.
func (p *page) line(column int) *line {
	l := &line{color: p.Color}
	p.lines = append(p.lines, l)
	return l.to(column)
}

// blank adds an empty line, unless the page is empty or already ends with one.
func (p *page) blank() {
	if n := len(p.lines); n > 0 && p.lines[n-1].w > 0 {
		p.line(0)
	}
}

// heading starts a section; what follows the title on its line is not in capitals.
func (p *page) heading(title string, details ...string) {
	p.blank()
	l := p.line(0).put(bold, strings.ToUpper(title))
	for _, detail := range details {
		l.put(plain, " "+detail)
	}
}

// wrapped adds text from a column on, over as many lines as it takes; the first follows what is already on l.
func (p *page) wrapped(l *line, c colour, text string) {
	column := l.w
	room := max(p.width()-column, 20)
	for i, part := range wrap(inert.Line(text), room) {
		if i > 0 {
			l = p.line(column)
		}
		l.put(c, part)
	}
}

// paragraphs adds text that has lines of its own.
func (p *page) paragraphs(column int, text string) {
	for part := range strings.SplitSeq(inert.Text(text), "\n") {
		p.wrapped(p.line(column), plain, part)
	}
}

// String is the page, without trailing spaces, each line ended by a newline.
func (p *page) String() string {
	var b strings.Builder
	for _, l := range p.lines {
		b.WriteString(strings.TrimRight(l.b.String(), " "))
		b.WriteByte('\n')
	}
	if p.ASCII {
		return ascii(b.String())
	}
	return b.String()
}

// wrap breaks text at spaces into lines of at most room columns; what is longer without a space is broken anyway.
func wrap(text string, room int) []string {
	var lines []string
	current := ""
	for _, word := range strings.Fields(text) {
		for width(word) > room {
			if current != "" {
				lines, current = append(lines, current), ""
			}
			head := cells.Truncate(word, room, "")
			lines, word = append(lines, head), word[len(head):]
		}
		switch {
		case current == "":
			current = word
		case width(current)+1+width(word) <= room:
			current += " " + word
		default:
			lines, current = append(lines, current), word
		}
	}
	if current != "" || len(lines) == 0 {
		lines = append(lines, current)
	}
	return lines
}

// Wrap breaks text that has lines of its own into lines of at most room columns.
func Wrap(text string, room int) string {
	var lines []string
	for part := range strings.SplitSeq(text, "\n") {
		lines = append(lines, wrap(part, room)...)
	}
	return strings.Join(lines, "\n")
}

// asciiForms are one-column replacements of what the views draw with.
var asciiForms = map[rune]rune{
	'═': '=', '━': '=', '╍': ':', '─': '-', '║': '|', '╬': '#', '▶': '>', '▼': 'v', '●': 'O', '·': '.', '→': '>',
	'✓': 'v', '✗': 'x', '…': '~', '█': '#', '░': '.', '—': '-', '–': '-', '’': '\'', '≥': '>', '«': '"', '»': '"', '°': 'o', '←': '<', '−': '-',
}

// ascii replaces what is not ASCII: drawing characters by their likes, letters by their base letter, the rest by "?".
func ascii(text string) string {
	return strings.Map(func(r rune) rune {
		if form, ok := asciiForms[r]; ok {
			return form
		}
		switch {
		case r < 128:
			return r
		case unicode.Is(unicode.Mn, r):
			return -1
		}
		return '?'
	}, norm.NFD.String(text))
}
