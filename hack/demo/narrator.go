// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// narrator tells people what happens: one line per step with the time since the start, colour on a terminal only.
type narrator struct {
	out   io.Writer
	start time.Time
	color bool
}

func newNarrator(out *os.File, start time.Time) *narrator {
	return &narrator{out: out, start: start, color: term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == ""}
}

// Colours, as numbers of the SGR control sequence.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

func (n *narrator) paint(color, text string) string {
	if !n.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// chapter begins a part of the story.
func (n *narrator) chapter(title string) {
	fmt.Fprintf(n.out, "\n%s\n", n.paint(bold, title))
}

func (n *narrator) line(mark, markColor, text string) {
	elapsed := n.paint(faint, fmt.Sprintf("%6.1f s", time.Since(n.start).Seconds()))
	fmt.Fprintf(n.out, "%s  %s %s\n", elapsed, n.paint(markColor, mark), text)
}

// done tells of a step that happened.
func (n *narrator) done(format string, args ...any) {
	n.line("ok", green, fmt.Sprintf(format, args...))
}

// note tells of something beside the story.
func (n *narrator) note(format string, args ...any) {
	n.line("--", faint, fmt.Sprintf(format, args...))
}

// failed tells of the step that did not happen.
func (n *narrator) failed(format string, args ...any) {
	n.line("FAILED", red, fmt.Sprintf(format, args...))
}

// block prints text of another program, indented.
func (n *narrator) block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprint(n.out, "            ", line)
	}
}
