// SPDX-License-Identifier: Apache-2.0

// Package inert makes text that somebody else wrote safe to print in a terminal: branch names, changelogs, messages and
// whatever else came from a pipeline. What a terminal or the bidirectional algorithm would act on becomes visible and
// without effect; readable text, in any script, stays as it is.
//
// It imports the standard library only.
package inert

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks in a row are printed as such: enough for every living script, too few to paint
// over the neighbouring lines.
const maxMarks = 4

// Text returns s with every control character, escape sequence, bidirectional or invisible mark and every byte that is
// not UTF-8 replaced by its visible escape (\x1b, \u202e, \xff). Newlines stay; tabs and other spaces become a space.
func Text(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	marks := 0
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n':
			b.WriteByte('\n')
		case r == '\r' && strings.HasPrefix(s[size:], "\n"):
			// CRLF is a newline
		case r == '\t' || unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case r < utf8.RuneSelf && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case marks > maxMarks || !unicode.IsPrint(r):
			writeEscape(&b, r)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// Line is Text on one line: a newline is shown as \n.
func Line(s string) string {
	return strings.ReplaceAll(Text(s), "\n", `\n`)
}

func writeEscape(b *strings.Builder, r rune) {
	if r > 0xffff {
		fmt.Fprintf(b, `\U%08x`, r)
		return
	}
	fmt.Fprintf(b, `\u%04x`, r)
}
