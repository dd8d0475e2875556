// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mutation makes a hostile report of a sample; nil where it does not apply to its format.
type mutation struct {
	name string
	of   func(data []byte) [][]byte
}

var (
	rootTag    = regexp.MustCompile(`<[A-Za-z][^>]*>`)
	anyNumber  = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)
	jsonOpens  = regexp.MustCompile(`^\s*[{\[]`)
	numberless = []string{"-1", "NaN", "-0.0000001", "1e999", "-1e999", "Infinity", "99999999999999999999", "0x7f", "١"}
)

// insert puts text into data at a place.
func insert(data []byte, at int, text string) []byte {
	return slices.Concat(data[:at], []byte(text), data[at:])
}

// sevenths puts text at every seventh of data.
func sevenths(text string) func([]byte) [][]byte {
	return func(data []byte) (out [][]byte) {
		for i := range 8 {
			at := len(bytes.TrimRight(data, "\n")) * i / 7
			for at > 0 && at < len(data) && data[at]&0xc0 == 0x80 { // not inside a character
				at--
			}
			out = append(out, insert(data, at, text))
		}
		return out
	}
}

// inRoot puts text into the root element of XML, before its end or behind it, or first into the object or list of JSON.
func inRoot(inTag, inXML, inJSON string) func([]byte) [][]byte {
	return func(data []byte) [][]byte {
		if tag := rootTag.FindIndex(data); data[0] == '<' && tag != nil {
			return [][]byte{insert(insert(data, tag[1], inXML), tag[1]-1, inTag)}
		}
		if opened := jsonOpens.FindIndex(data); opened != nil && inJSON != "" {
			return [][]byte{insert(data, opened[1], inJSON)}
		}
		return nil
	}
}

// doctype puts a document type with an internal subset before the root element, and a reference to what it declares into it.
func doctype(subset string) func([]byte) [][]byte {
	return func(data []byte) [][]byte {
		tag := rootTag.FindIndex(data)
		if data[0] != '<' || tag == nil {
			return nil
		}
		return [][]byte{insert(insert(data, tag[1], "&x;"), tag[0], "<!DOCTYPE r ["+subset+"]>")}
	}
}

// What no report of any format may have.
var hostile = []mutation{
	{"NUL", sevenths("\x00")},
	{"an escape", sevenths("\x1b[2J")},
	{"latin-1 that is not declared", sevenths("\xe9")},
	{"overlong UTF-8", sevenths("\xc0\x80")},
	{"half a surrogate", sevenths("\xed\xa0\x80")},
	{"a name twice", inRoot(` q="1" q="1"`, "", `"q":1,"q":1,`)},
	{"10,000 deep", inRoot("", strings.Repeat("<a>", 10_000), `"q":`+strings.Repeat("[", 10_000))},
	{"10,000 deep and closed", inRoot("", strings.Repeat("<a>", 10_000)+strings.Repeat("</a>", 10_000), `"q":`+strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat("}", 10_000)+",")},
	{"an entity bomb", doctype(`<!ENTITY a "aaaaaaaa"><!ENTITY x "&a;&a;&a;&a;">`)},
	{"an external entity", doctype(`<!ENTITY x SYSTEM "file:///etc/passwd">`)},
	{"an external parameter entity", doctype(`<!ENTITY % p SYSTEM "http://192.0.2.1/x"> %p;`)},
	{"an entity that nobody declared", inRoot("", "&x;", `&x;`)},
	{"UTF-16 without a mark", func(data []byte) [][]byte { return [][]byte{bytes.ReplaceAll(data, []byte(""), []byte("\x00"))[1:]} }},
	{"UTF-7", func(data []byte) [][]byte { return [][]byte{insert(data, 0, "+AAA-")} }},
}

// TestHostileSamples: every hostile case on a sample of every producer of every format is refused.
func TestHostileSamples(t *testing.T) {
	count := map[string]map[string]int{}
	for _, tc := range samples {
		data := sample(t, tc.file)
		for _, m := range hostile {
			for i, bad := range m.of(data) {
				if rep, err := Read(bytes.NewReader(bad), Options{}); err == nil {
					t.Errorf("%s with %s (%d): %s", tc.file, m.name, i, describe(rep))
				}
				format := strings.SplitN(tc.want, ";", 2)[0]
				if count[m.name] == nil {
					count[m.name] = map[string]int{}
				}
				count[m.name][format]++
			}
		}
	}
	for _, m := range hostile {
		t.Logf("%s: %v", m.name, count[m.name])
	}
}

// TestNumbersOfSamples: whatever stands where a number stood, nothing impossible is read, and no figure that is out of range.
func TestNumbersOfSamples(t *testing.T) {
	for _, tc := range samples {
		data := sample(t, tc.file)
		for _, at := range anyNumber.FindAllIndex(data, -1) {
			for _, text := range numberless {
				rep, err := Read(bytes.NewReader(slices.Concat(data[:at[0]], []byte(text), data[at[1]:])), Options{})
				if err == nil {
					possible(t, rep)
				}
			}
		}
	}
}

// TestEncodingsOfSamples: a byte order mark changes nothing, UTF-16 is read unless the document says that it is something else,
// and latin-1 where it says so.
func TestEncodingsOfSamples(t *testing.T) {
	for _, tc := range samples {
		data := string(sample(t, tc.file))
		declared := strings.Contains(data[:min(len(data), maxDeclaration)], "encoding=")
		for name, text := range map[string]string{"a mark": "\xef\xbb\xbf" + data, "UTF-16": utf16(t, data)} {
			rep, err := Read(strings.NewReader(text), Options{})
			switch {
			case name == "UTF-16" && declared:
				if err == nil {
					t.Errorf("%s in UTF-16, though it says UTF-8: %s", tc.file, describe(rep))
				}
			case err != nil || describe(rep) != tc.want:
				t.Errorf("%s with %s: %s, %v", tc.file, name, describe(rep), err)
			}
		}
		if tag := rootTag.FindStringIndex(data); filepath.Ext(tc.file) == ".xml" && !strings.Contains(data, "é") && tag != nil {
			latin := fmt.Sprintf("<?xml version='1.0' encoding='ISO-8859-1'?><!-- \xe9 -->%s", data[tag[0]:])
			if rep, err := Read(strings.NewReader(latin), Options{}); err != nil || describe(rep) != tc.want {
				t.Errorf("%s in latin-1: %s, %v", tc.file, describe(rep), err)
			}
		}
	}
}
