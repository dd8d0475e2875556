// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"codeberg.org/go-pdf/fpdf"
	"github.com/go-fonts/liberation/liberationmonoregular"
	"github.com/go-fonts/liberation/liberationsansbold"
	"github.com/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

type fontID int

const (
	regular fontID = iota
	bold
	mono
	fontCount
)

// families are the names of the fonts within the PDF. The library puts "utf8" before them; conform makes that, with the
// "xx+", the tag of a subset.
var families = [fontCount]string{"xx+liberationsans", "xx+liberationsansbold", "xx+liberationmono"}

const (
	unitsPerEm = 1000
	// pt is a typographic point in millimetres.
	pt     = 25.4 / 72
	bullet = "• "
)

// fontSet measures text. One per rendering: its caches are not for concurrent use.
type fontSet struct {
	fonts  [fontCount]*sfnt.Font
	widths [fontCount]map[rune]int // 1/1000 of the size; -1 if the font does not have the character
	buffer sfnt.Buffer
}

// loadFonts parses the fonts and adds them to the PDF. The library gets copies, since it writes into what it reads.
func loadFonts(f *fpdf.Fpdf) (*fontSet, error) {
	var set fontSet
	for id, ttf := range [fontCount][]byte{liberationsansregular.TTF, liberationsansbold.TTF, liberationmonoregular.TTF} {
		parsed, err := sfnt.Parse(ttf)
		if err != nil {
			return nil, fmt.Errorf("parse font %s: %w", families[id], err)
		}
		set.fonts[id], set.widths[id] = parsed, map[rune]int{}
		f.AddUTF8FontFromBytes(families[id], "", bytes.Clone(ttf))
	}
	return &set, f.Error()
}

// have says that every font can draw r. The library handles the Basic Multilingual Plane only.
func (set *fontSet) have(r rune) bool {
	if r > 0xffff {
		return false
	}
	for id := range fontCount {
		if set.advance(id, r) < 0 {
			return false
		}
	}
	return true
}

func (set *fontSet) advance(id fontID, r rune) int {
	if w, ok := set.widths[id][r]; ok {
		return w
	}
	w := -1
	if glyph, err := set.fonts[id].GlyphIndex(&set.buffer, r); err == nil && glyph != 0 {
		if a, err := set.fonts[id].GlyphAdvance(&set.buffer, glyph, fixed.I(unitsPerEm), font.HintingNone); err == nil {
			w = a.Round()
		}
	}
	set.widths[id][r] = w
	return w
}

// width of a text in millimetres.
func (set *fontSet) width(t string, f face) float64 {
	sum := 0
	for _, r := range t {
		sum += max(0, set.advance(f.font, r))
	}
	return float64(sum) * f.size * pt / unitsPerEm
}

// wrap breaks a text into lines not wider than width. Words too long for a line break, at a separator if there is one.
// Lines that follow a bullet are indented under it.
func (set *fontSet) wrap(t safe, f face, width float64) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(string(t), "\n") {
		indent := ""
		if strings.HasPrefix(paragraph, bullet) {
			indent = "   "
		}
		line := ""
		for i, word := range strings.Split(paragraph, " ") {
			if i > 0 && set.width(line+" "+word, f) <= width {
				line += " " + word
				continue
			}
			if i > 0 {
				lines, line = append(lines, line), indent
			}
			line += word
			for set.width(line, f) > width {
				n := set.fit(line, f, width)
				lines, line = append(lines, line[:n]), indent+line[n:]
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// fit returns how many bytes of a line too long for width go on it: at least one character, so that wrap always ends.
func (set *fontSet) fit(line string, f face, width float64) int {
	sum, last, limit := 0, 0, int(width/(f.size*pt)*unitsPerEm)
	for i, r := range line {
		sum += max(0, set.advance(f.font, r))
		if sum > limit && i > 0 && strings.TrimSpace(line[:i]) != "" {
			// A separator in the second half of the line reads better than a break anywhere.
			if last > i/2 {
				return last
			}
			return i
		}
		if strings.ContainsRune("/@:-_.,;=&?", r) {
			last = i + utf8.RuneLen(r)
		}
	}
	return len(line)
}
