// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// Accepted encodings are UTF-8 with or without a byte order mark, UTF-16 with one (as PowerShell redirects), and for XML what
// its declaration may name besides: US-ASCII, ISO-8859-1, ISO-8859-15 and Windows-1252.
var declared = map[string]encoding.Encoding{
	"utf-8": nil, "utf8": nil, "us-ascii": nil, "ascii": nil,
	"iso-8859-1": charmap.ISO8859_1, "latin1": charmap.ISO8859_1, "iso-8859-15": charmap.ISO8859_15,
	"windows-1252": charmap.Windows1252, "cp1252": charmap.Windows1252,
}

// declaration finds the encoding that an XML declaration names.
var declaration = regexp.MustCompile(`^<\?xml[ \t\r\n][^>]*?encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z0-9._-]{1,40})["']`)

// input is a report's text in UTF-8, not yet validated, without a byte order mark.
type input struct {
	r *bufio.Reader
	// foreign: decoded from another encoding, so that a replacement character stands for what could not be.
	foreign bool
}

const (
	maxDeclaration = 512 // bytes at the beginning in which an XML declaration is looked for
	maxBlank       = 4096
)

// open tells the encoding and returns the text with its beginning, after blanks.
func open(r io.Reader) (*input, []byte, error) {
	br := bufio.NewReaderSize(r, bufferSize)
	head, err := peek(br, maxDeclaration)
	if err != nil {
		return nil, nil, err
	}
	marked, in := "", &input{r: br}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		marked = "utf-8"
		_, err = br.Discard(3)
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		marked = "utf-16"
		in.decode(unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM))
	case len(head) >= 2 && (head[0] == 0 || head[1] == 0):
		return nil, nil, &Error{
			Why:     "the encoding is not accepted: send UTF-8, or UTF-16 with a byte order mark",
			Foreign: !bytes.ContainsAny(head[:2], "<{["), // otherwise it may be a report in UTF-16
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if head, err = peek(in.r, maxDeclaration); err != nil {
		return nil, nil, err
	}
	if m := declaration.FindSubmatch(head); m != nil {
		if err := in.declare(strings.ToLower(string(m[1])), marked); err != nil {
			return nil, nil, err
		}
	}
	return in.begin()
}

// declare takes the encoding that an XML declaration names; marked is what the byte order mark said.
func (in *input) declare(name, marked string) error {
	if marked == "utf-16" && (name == "utf-16" || name == "utf-16le" || name == "utf-16be") {
		return nil
	}
	enc, ok := declared[name]
	switch {
	case !ok:
		return refuse("the encoding %s is not accepted: send UTF-8", quoted(name))
	case marked != "" && (marked != "utf-8" || enc != nil):
		return refuse("the byte order mark says %s, the XML declaration %s", marked, quoted(name))
	case enc != nil:
		in.decode(enc)
	}
	return nil
}

func (in *input) decode(e encoding.Encoding) {
	in.r, in.foreign = bufio.NewReaderSize(e.NewDecoder().Reader(in.r), bufferSize), true
}

// begin passes over blanks and shows what comes then.
func (in *input) begin() (*input, []byte, error) {
	head, err := peek(in.r, maxBlank)
	if err != nil {
		return nil, nil, err
	}
	text := bytes.TrimLeft(head, " \t\r\n")
	if len(text) == 0 && len(head) == maxBlank {
		return nil, nil, refuse("begins with more than %d blanks", maxBlank)
	}
	if _, err := in.r.Discard(len(head) - len(text)); err != nil {
		return nil, nil, err
	}
	return in, text, nil
}

// peek shows up to n bytes.
func peek(r *bufio.Reader, n int) ([]byte, error) {
	head, err := r.Peek(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, err
}

// invalidAt is where text has something that no report may have: a control character, or utf8.RuneSelf for what is not UTF-8
// or, in foreign text, could not be decoded.
func invalidAt(text []byte, foreign bool) (at int, char byte, found bool) {
	for i, c := range text {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return i, c, true
		}
	}
	if foreign {
		if i := bytes.Index(text, []byte("�")); i >= 0 {
			return i, utf8.RuneSelf, true
		}
	}
	if utf8.Valid(text) {
		return 0, 0, false
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i, utf8.RuneSelf, true
		}
		i += size
	}
	return 0, 0, false
}

// check refuses what no text may have.
func (l *lines) check(line []byte) error {
	at, char, found := invalidAt(line, l.foreign)
	switch {
	case !found:
		return nil
	case char == utf8.RuneSelf:
		return l.refuse("is not valid UTF-8")
	}
	return l.refuse("the control character %#02x at %d is not allowed", char, at)
}
