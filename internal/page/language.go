// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// Languages of pages; the first is the default.
var Languages = []string{"fr", "en"}

var matcher = language.NewMatcher([]language.Tag{language.French, language.English})

// maxAccept bounds the Accept-Language that is looked at.
const maxAccept = 256

// Other is the language that a page offers beside the one that it is in.
func Other(of string) string {
	if of == "fr" {
		return "en"
	}
	return "fr"
}

// Chosen is what ?lang= asks for; "" for nothing that there is.
func Chosen(r *http.Request) string {
	if l := r.URL.Query().Get("lang"); slices.Contains(Languages, l) {
		return l
	}
	return ""
}

// Accepted is what the browser would like best; "" when it does not say.
func Accepted(r *http.Request) string {
	header := r.Header.Get("Accept-Language")
	if header == "" || len(header) > maxAccept {
		return ""
	}
	tags, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return ""
	}
	_, i, confidence := matcher.Match(tags...)
	if confidence == language.No {
		return ""
	}
	return Languages[i]
}

// First is the first of the candidates that there is, else the default.
func First(candidates ...string) string {
	for _, l := range candidates {
		if slices.Contains(Languages, l) {
			return l
		}
	}
	return Languages[0]
}

// Texts are those of a page by their keys: French and English, in the order of Languages.
type Texts map[string][2]string

// In returns the texts of a language. A key that does not exist is a fault that a test of the page finds.
func (t Texts) In(language string) func(key string, args ...any) string {
	return func(key string, args ...any) string {
		entry, ok := t[key]
		if !ok {
			return key
		}
		s := entry[0]
		if language == "en" {
			s = entry[1]
		}
		if len(args) == 0 {
			return s
		}
		return fmt.Sprintf(s, args...)
	}
}

var monthNames = strings.Fields("janvier février mars avril mai juin juillet août septembre octobre novembre décembre")

// Date is a date YYYY-MM-DD in words; what is none stays as it is.
func Date(language, s string) string {
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return s
	}
	return Day(language, at)
}

// Day is the day of a time in words.
func Day(language string, at time.Time) string {
	if language == "en" {
		return at.Format("2 January 2006")
	}
	day := strconv.Itoa(at.Day())
	if at.Day() == 1 {
		day = "1er"
	}
	return day + " " + monthNames[at.Month()-1] + " " + strconv.Itoa(at.Year())
}

// Stamp is a time in words, in UTC: what is read or signed must not depend on where the reader is.
func Stamp(language string, at time.Time) string {
	at = at.UTC()
	if language == "en" {
		return Day(language, at) + " at " + at.Format("15:04") + " UTC"
	}
	return Day(language, at) + " à " + at.Format("15:04") + " UTC"
}

// Decimal is a figure as the language writes it.
func Decimal(language string, f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if language == "fr" {
		s = strings.ReplaceAll(s, ".", ",")
	}
	return s
}
