// SPDX-License-Identifier: Apache-2.0

// Package lang holds every text that kubectl-sirrat shows to people, in English and in French. What the controllers
// wrote into an object's status is not translated: it is shown as it is, so that all views say the same.
//
// It imports the standard library only.
package lang

import (
	"fmt"
	"strings"
	"time"
)

// Language is a language that texts exist in.
type Language string

// Languages.
const (
	English Language = "en"
	French  Language = "fr"
)

// ID names a text of the catalogue.
type ID string

// text is one text in each language. Both take the same arguments, in the same order.
type text struct{ en, fr string }

// Parse reads a language as --lang accepts it.
func Parse(s string) (Language, bool) {
	switch l := Language(s); l {
	case English, French:
		return l, true
	}
	return English, false
}

// FromLocale picks the language by the POSIX order LC_ALL, LC_MESSAGES, LANG; English when none says French.
func FromLocale(getenv func(string) string) Language {
	if strings.HasPrefix(strings.ToLower(locale(getenv, "LC_MESSAGES")), "fr") {
		return French
	}
	return English
}

// UTF8 says whether the locale's characters are UTF-8. No locale at all counts as UTF-8: that is a container or a CI
// job, where the C locale is nobody's wish.
func UTF8(getenv func(string) string) bool {
	l := strings.ToLower(locale(getenv, "LC_CTYPE"))
	return l == "" || strings.Contains(l, "utf-8") || strings.Contains(l, "utf8")
}

func locale(getenv func(string) string, category string) string {
	for _, name := range []string{"LC_ALL", category, "LANG"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// T is the text of that id with its arguments. An id without a text is shown as such: a test makes sure that there is
// none.
func (l Language) T(id ID, args ...any) string {
	t, ok := find(id)
	if !ok {
		return string(id)
	}
	format := t.en
	if l == French {
		format = t.fr
	}
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// Known says whether the catalogue has the id.
func Known(id ID) bool {
	_, ok := find(id)
	return ok
}

// catalogue is every text, by what it is for.
var catalogue = []map[ID]text{texts, failures, help, judgement, audit, operate, fleet, bundles, reporting, attested}

func find(id ID) (text, bool) {
	for _, part := range catalogue {
		if t, ok := part[id]; ok {
			return t, true
		}
	}
	return text{}, false
}

// Duration is d in at most two units, as people say it: "2 d 4 h", "14 min", "45 s".
func (l Language) Duration(d time.Duration) string {
	day := "d"
	if l == French {
		day = "j"
	}
	if d < 0 {
		d = -d
	}
	d = d.Round(time.Second)
	days, hours := int(d/(24*time.Hour)), int(d/time.Hour)%24
	minutes, seconds := int(d/time.Minute)%60, int(d/time.Second)%60
	switch {
	case days >= 10, days > 0 && hours == 0:
		return fmt.Sprintf("%d %s", days, day)
	case days > 0:
		return fmt.Sprintf("%d %s %d h", days, day, hours)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%d h", hours)
	case minutes >= 10, minutes > 0 && seconds == 0:
		return fmt.Sprintf("%d min", minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	}
	return fmt.Sprintf("%d s", seconds)
}
