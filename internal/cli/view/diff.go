// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

// maxDiff bounds the lines that a difference takes on the screen; what is left out is counted.
const maxDiff = 60

// composeDiff draws the difference of two compose files in the unified format. Nothing is cut off at the edge of the
// screen: what somebody approves must not hide there.
func (p *page) composeDiff(texts ComposeTexts) {
	if texts.Now == nil || texts.Then == nil {
		return
	}
	text := string(diff.Diff(p.Lang.T("approve.now"), []byte(ended(*texts.Now)), p.Lang.T("approve.then"), []byte(ended(*texts.Then))))
	if text == "" {
		return
	}
	p.heading(p.Lang.T("approve.compose"))
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")[1:] // the first repeats the names
	drawn := 0
	for n, text := range lines {
		c := plain
		switch {
		case n < 2, strings.HasPrefix(text, "@@"):
			c = dim
		case strings.HasPrefix(text, "-"):
			c = red
		case strings.HasPrefix(text, "+"):
			c = green
		}
		for _, part := range chunks(inert.Line(strings.ReplaceAll(text, "\t", "    ")), p.width()-2) {
			if drawn++; drawn > maxDiff {
				p.line(2).put(yellow, p.Lang.T("approve.more-diff", len(lines)-n))
				return
			}
			p.line(2).put(c, part)
		}
	}
}

// ended makes sure that the last line has an end, which compares as the same.
func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// chunks breaks text into parts of at most room columns, spaces and all.
func chunks(text string, room int) []string {
	var parts []string
	for width(text) > room {
		head := cells.Truncate(text, room, "")
		if head == "" {
			break
		}
		parts, text = append(parts, head), text[len(head):]
	}
	return append(parts, text)
}
