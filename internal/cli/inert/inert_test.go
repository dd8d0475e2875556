// SPDX-License-Identifier: Apache-2.0

package inert

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "release/1.3 corrige l'été", "release/1.3 corrige l'été"},
		{"other scripts", "الصراط 日本 русский", "الصراط 日本 русский"},
		{"ansi colour", "\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"clear screen", "\x1b[2J\x1b[H", `\x1b[2J\x1b[H`},
		{"title by OSC", "\x1b]0;owned\x07", `\x1b]0;owned\x07`},
		{"C1 control sequence introducer", "\u009b31m", `\u009b31m`},
		{"raw C1 byte", "\x9b31m", `\x9b31m`},
		{"carriage return overwrites", "refused\rpassed", `refused\x0dpassed`},
		{"backspace", "no\b\byes", `no\x08\x08yes`},
		{"newline", "a\nb", `a\nb`},
		{"CRLF", "a\r\nb", `a\nb`},
		{"tab and wide spaces", "a\tb\u00a0c\u3000d", "a b c d"},
		{"right-to-left override", "user\u202etxt.exe", `user\u202etxt.exe`},
		{"isolates and marks", "\u2066a\u2069\u200f\u061c", `\u2066a\u2069\u200f\u061c`},
		{"zero width", "ad\u200bmin\ufeff\u2060", `ad\u200bmin\ufeff\u2060`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"private use", "\ue000", `\ue000`},
		{"not UTF-8", "a\xffb", `a\xffb`},
		{"accents as marks", "e\u0301", "e\u0301"},
		{"stacked marks", "e" + strings.Repeat("\u0301", 6), "e" + strings.Repeat("\u0301", 4) + `\u0301\u0301`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Line(c.in); got != c.want {
				t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestTextKeepsNewlines(t *testing.T) {
	if got, want := Text("one\r\ntwo\n\x1b[0m"), "one\ntwo\n\\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNothingActiveSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		out := Line(in)
		if !utf8.ValidString(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		for _, r := range out {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q keeps %U", out, r)
			}
		}
		if Line(out) != out {
			t.Fatalf("not idempotent: %q", out)
		}
	})
}
