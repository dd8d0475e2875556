// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of what is printed. The document behind the PDF holds the whole.
const (
	maxLine      = 400     // characters of a text of one line: names, references, criteria
	maxText      = 4_000   // characters of a defect, a reason or a reservation: what their fields may hold
	maxChangelog = 6_000   // characters of the changelog of one release
	maxRows      = 200     // rows of a table or items of a list
	maxSection   = 150_000 // characters of all texts of a section: about 70 pages
	newlineCost  = 40      // characters that a newline counts as, so that empty lines do not make pages
)

// safe is text that may be drawn: our own words, or somebody's text that went through line or text.
type safe string

// line makes a foreign text inert, on one line: a newline in it is shown as \n.
func (s *sheet) line(text string) safe { return s.inert(text, maxLine, false) }

// text makes a foreign text inert and keeps its lines.
func (s *sheet) text(text string, limit int) safe {
	return s.inert(strings.TrimRight(text, " \t\r\n"), limit, true)
}

// inert replaces everything that could act, hide, reorder or be missing by its visible escape (\x1b, \u202e, \xff), as the
// commands do in a terminal, and cuts what exceeds limit. Letters that the fonts do not have are shown as escapes too: a
// reader must see that something stands there. Marks over letters are composed with them; others are escaped, since
// without shaping they would be drawn over their neighbours.
func (s *sheet) inert(text string, limit int, lines bool) safe {
	limit = max(0, min(limit, s.left))
	// What lies far behind the limit is not looked at; a composed letter has rarely more than three characters.
	head := text[:min(len(text), 4*utf8.UTFMax*limit)]
	head = norm.NFC.String(head)
	var b strings.Builder
	cost := 0
	for len(head) > 0 && cost < limit {
		r, size := utf8.DecodeRuneInString(head)
		before := b.Len()
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, head[0])
		case r == '\r' && strings.HasPrefix(head[size:], "\n"):
			// CRLF is a newline
		case r == '\n' && lines:
			b.WriteByte('\n')
			cost += newlineCost
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t' || unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case unicode.IsPrint(r) && !unicode.Is(unicode.M, r) && s.fonts.have(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		cost += utf8.RuneCountInString(b.String()[before:])
		head = head[size:]
	}
	s.left -= cost
	if len(head) == 0 && len(text) <= 4*utf8.UTFMax*limit {
		return safe(b.String())
	}
	s.cut = true
	note := fmt.Sprintf(string(s.w.cutText), utf8.RuneCountInString(text))
	if lines {
		return safe(b.String() + "\n" + note)
	}
	return safe(b.String() + " " + note)
}

// lines makes each text inert and gives each its own line behind a bullet.
func (s *sheet) lines(texts []string) safe {
	var b strings.Builder
	for i, t := range texts {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxRows {
			b.WriteString(string(s.more(len(texts) - i)))
			break
		}
		b.WriteString(bullet)
		b.WriteString(string(s.line(t)))
	}
	return safe(b.String())
}

// more says that n items are not printed.
func (s *sheet) more(n int) safe {
	s.cut = true
	return safe(fmt.Sprintf(string(s.w.moreItems), n))
}

// or returns text, or a word for there being none.
func or(text, none safe) safe {
	if strings.TrimSpace(string(text)) == "" {
		return none
	}
	return text
}

func number[N ~int | ~int32](n N) safe { return safe(strconv.Itoa(int(n))) }
