// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// event is what xmlScanner.next came to.
type event int

const (
	startElement event = iota + 1
	endElement
)

// xmlScanner reads the part of XML 1.0 that reports are written in, in bounded memory: text is passed over unless it is asked
// for, so that the log of a test may have any length. encoding/xml keeps every text in memory and every tag on the heap, takes
// a second root element and attributes given twice.
//
// A DOCTYPE is passed over; one with an internal subset is refused, and so is every entity but XML's own five: nothing is
// expanded or fetched. Prefixes of elements are dropped; attributes keep theirs.
type xmlScanner struct {
	r       *bufio.Reader
	foreign bool
	buf     []byte // what was read and is valid text
	pos     int
	rest    []byte // bytes of a character that is not whole yet
	offset  int64  // of buf in the document
	ended   bool   // r has no more

	tag      []byte // the last start tag, without < and >
	attrs    []attribute
	names    map[string]string // names seen, so that each is kept once
	stack    []string
	closing  bool // the last start tag was empty: its end comes next
	ending   bool // the last event ended an element, which is still on the stack
	rooted   bool // the root element has begun
	typed    bool // a DOCTYPE was passed
	elements int

	namespace string // that of the root element
	prefix    []byte // of the last start tag

	keep bool   // text is kept
	text []byte // what was kept since keepText
}

type attribute struct{ name, value []byte }

func newXMLScanner(in *input) *xmlScanner {
	return &xmlScanner{r: in.r, foreign: in.foreign, buf: make([]byte, 0, bufferSize), names: map[string]string{}}
}

// name is that of the element that the last event began or ended, without its prefix.
func (s *xmlScanner) name() string { return s.stack[len(s.stack)-1] }

// depth is the number of elements that are open, the one of the last event included.
func (s *xmlScanner) depth() int { return len(s.stack) }

// parent is the name of the element around that of the last event, "" for the root.
func (s *xmlScanner) parent() string {
	if len(s.stack) < 2 {
		return ""
	}
	return s.stack[len(s.stack)-2]
}

// attr is an attribute of the element that just began.
func (s *xmlScanner) attr(name string) (string, bool) {
	for _, a := range s.attrs {
		if string(a.name) == name {
			return string(unescape(a.value)), true
		}
	}
	return "", false
}

// count is an attribute that counts something; absent is not an error.
func (s *xmlScanner) count(name string) (n int64, ok bool, err error) {
	for _, a := range s.attrs {
		if string(a.name) == name {
			n, err = parseCount("the attribute "+name, a.value)
			return n, err == nil, err
		}
	}
	return 0, false, nil
}

// keepText keeps the text from here on until the next call of takeText, at most maxText of it.
func (s *xmlScanner) keepText() { s.keep, s.text = true, s.text[:0] }

func (s *xmlScanner) takeText() string {
	s.keep = false
	return string(bytes.TrimSpace(s.text))
}

func (s *xmlScanner) refuse(what string) error {
	return refuse("byte %d: %s", s.offset+int64(s.pos), what)
}

// next reads on to the beginning or the end of an element; io.EOF at the end of the document. The element that an end event
// ends is still there until the call after it.
func (s *xmlScanner) next() (event, error) {
	if s.ending {
		s.ending = false
		s.stack = s.stack[:len(s.stack)-1]
	}
	if s.closing {
		s.closing, s.ending = false, true
		return endElement, nil
	}
	for {
		if err := s.passText(); err != nil {
			return 0, err
		}
		if err := s.need(2); err != nil {
			return 0, err
		}
		var err error
		switch s.buf[s.pos+1] {
		case '!':
			err = s.passMarkup()
		case '?':
			err = s.passInstruction()
		case '/':
			return endElement, s.endTag()
		default:
			return startElement, s.startTag()
		}
		if err != nil {
			return 0, err
		}
	}
}

// fill reads more behind what is not passed yet; io.EOF if there is no more.
func (s *xmlScanner) fill() error {
	if s.ended {
		return io.EOF
	}
	s.offset += int64(s.pos)
	kept := copy(s.buf, s.buf[s.pos:])
	s.buf, s.pos = s.buf[:kept], 0
	if kept+len(s.rest) >= cap(s.buf) {
		return s.refuse("the markup does not end")
	}
	s.buf = append(s.buf, s.rest...)
	n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf, s.rest = s.buf[:len(s.buf)+n], s.rest[:0]
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil:
		return err
	default: // the last character may come in parts
		whole := len(s.buf)
		for back := 1; back < utf8.UTFMax && back <= len(s.buf)-kept; back++ {
			if c := s.buf[len(s.buf)-back]; utf8.RuneStart(c) {
				if !utf8.FullRune(s.buf[len(s.buf)-back:]) {
					whole = len(s.buf) - back
				}
				break
			}
		}
		s.rest = append(s.rest, s.buf[whole:]...)
		s.buf = s.buf[:whole]
	}
	if at, char, found := invalidAt(s.buf[kept:], s.foreign); found {
		if char == utf8.RuneSelf {
			return refuse(notUTF8, s.offset+int64(kept+at))
		}
		return refuse(controlled, s.offset+int64(kept+at), char)
	}
	return nil
}

// need sees to it that n bytes are there.
func (s *xmlScanner) need(n int) error {
	for len(s.buf)-s.pos < n {
		if err := s.more(); err != nil {
			return err
		}
	}
	return nil
}

// want sees to it that n bytes are there, or all that are left.
func (s *xmlScanner) want(n int) error {
	for len(s.buf)-s.pos < n {
		if err := s.fill(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// passText passes over text to the next markup.
func (s *xmlScanner) passText() error {
	for {
		text := s.buf[s.pos:]
		end := bytes.IndexByte(text, '<')
		found := end >= 0
		if found {
			text = text[:end]
		}
		if amp := bytes.IndexByte(text, '&'); amp >= 0 {
			if err := s.take(text[:amp]); err != nil {
				return err
			}
			if err := s.passReference(); err != nil {
				return err
			}
			continue
		}
		if err := s.take(text); err != nil {
			return err
		}
		if found {
			return nil
		}
		err := s.fill()
		if errors.Is(err, io.EOF) && (len(s.stack) > 0 || !s.rooted) {
			return refuse(truncated)
		}
		if err != nil {
			return err
		}
	}
}

// take passes over text, keeping it if it is asked for.
func (s *xmlScanner) take(text []byte) error {
	if len(s.stack) == 0 && len(bytes.TrimLeft(text, " \t\r\n")) > 0 {
		if s.rooted {
			return refuse(twoInOne)
		}
		return s.refuse("text outside the root element")
	}
	if s.keep {
		if len(s.text)+len(text) > maxText {
			return s.refuse("the text of <" + quoted(s.name()) + "> is too long")
		}
		s.text = append(s.text, text...)
	}
	s.pos += len(text)
	return nil
}

// maxReference is the longest reference, &#x10FFFF; with some zeros.
const maxReference = 16

// passReference passes over &lt; and the like.
func (s *xmlScanner) passReference() error {
	for range 2 { // a second look, once there is more
		if end := bytes.IndexByte(s.buf[s.pos:min(len(s.buf), s.pos+maxReference)], ';'); end > 0 {
			ref := s.buf[s.pos : s.pos+end+1]
			char, ok := referenced(ref[1:end])
			if !ok {
				return s.refuse("the entity " + quoted(ref) + " is refused: only XML's own five are accepted")
			}
			if s.keep {
				s.text = utf8.AppendRune(s.text, char)
			}
			if len(s.stack) == 0 {
				return s.refuse("text outside the root element")
			}
			s.pos += len(ref)
			return nil
		}
		if len(s.buf)-s.pos >= maxReference {
			break
		}
		if err := s.want(maxReference); err != nil {
			return err
		}
	}
	return s.refuse("an & that begins no reference")
}

// referenced is the character that a reference (without & and ;) stands for.
func referenced(name []byte) (rune, bool) {
	switch string(name) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(string(digits), base, 32)
	char := rune(n)
	valid := err == nil && n <= utf8.MaxRune && utf8.ValidRune(char) && (char >= ' ' || char == '\t' || char == '\n' || char == '\r')
	return char, valid
}

// passMarkup passes over a comment, a CDATA section or a DOCTYPE.
func (s *xmlScanner) passMarkup() error {
	const comment, cdata, doctype = "<!--", "<![CDATA[", "<!DOCTYPE"
	if err := s.want(len(cdata)); err != nil {
		return err
	}
	switch text := s.buf[s.pos:]; {
	case bytes.HasPrefix(text, []byte(comment)):
		s.pos += len(comment)
		return s.passUntil("-->", false)
	case bytes.HasPrefix(text, []byte(cdata)) && len(s.stack) > 0:
		s.pos += len(cdata)
		return s.passUntil("]]>", s.keep)
	case bytes.HasPrefix(text, []byte(doctype)) && !s.rooted && !s.typed:
		s.typed = true
		return s.passDoctype()
	case s.ended && len(text) < len(cdata):
		return refuse(truncated)
	}
	return s.refuse("markup that a report does not have")
}

// passUntil passes over everything to the end of term.
func (s *xmlScanner) passUntil(term string, keep bool) error {
	for {
		text := s.buf[s.pos:]
		end := bytes.Index(text, []byte(term))
		passed := max(0, len(text)-len(term)+1)
		if end >= 0 {
			passed = end
		}
		if keep {
			if len(s.text)+passed > maxText {
				return s.refuse("the text of <" + quoted(s.name()) + "> is too long")
			}
			s.text = append(s.text, text[:passed]...)
		}
		s.pos += passed
		if end >= 0 {
			s.pos += len(term)
			return nil
		}
		if err := s.more(); err != nil {
			return err
		}
	}
}

// more is fill where the document cannot end.
func (s *xmlScanner) more() error {
	err := s.fill()
	if errors.Is(err, io.EOF) {
		return refuse(truncated)
	}
	return err
}

// maxDoctype is the longest DOCTYPE, in bytes.
const maxDoctype = 2048

// passDoctype passes over a DOCTYPE that names a document type and no more: JaCoCo's and Cobertura's reports have one.
func (s *xmlScanner) passDoctype() error {
	quote := byte(0)
	for i := 0; ; i++ {
		if err := s.need(i + 1); err != nil {
			return err
		}
		switch c := s.buf[s.pos+i]; {
		case i > maxDoctype:
			return s.refuse("the DOCTYPE is too long")
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"', c == '\'':
			quote = c
		case c == '[':
			return s.refuse("a DOCTYPE with an internal subset is refused: entities are not accepted")
		case c == '>':
			s.pos += i + 1
			return nil
		}
	}
}

// passInstruction passes over a processing instruction; the XML declaration is one, at the very beginning.
func (s *xmlScanner) passInstruction() error {
	const xml = "<?xml "
	if err := s.want(len(xml)); err != nil {
		return err
	}
	if bytes.HasPrefix(s.buf[s.pos:], []byte(xml)) && s.offset+int64(s.pos) > 0 {
		if s.rooted && len(s.stack) == 0 {
			return refuse(twoInOne)
		}
		return s.refuse("an XML declaration that is not at the beginning")
	}
	s.pos += len("<?")
	return s.passUntil("?>", false)
}

func (s *xmlScanner) endTag() error {
	name, err := s.readTag(2)
	if err != nil {
		return err
	}
	name = local(bytes.TrimRight(name, " \t\r\n"))
	if len(s.stack) == 0 || s.name() != string(name) {
		return s.refuse("</" + quoted(name) + "> ends nothing")
	}
	s.ending = true
	return nil
}

func (s *xmlScanner) startTag() error {
	tag, err := s.readTag(1)
	if err != nil {
		return err
	}
	if s.rooted && len(s.stack) == 0 {
		return refuse(twoInOne)
	}
	if s.elements++; s.elements > maxElements {
		return refuse(tooMany, maxElements)
	}
	if tag, s.closing = bytes.CutSuffix(tag, []byte("/")); len(s.stack) == maxDepth {
		return refuse(tooDeep, maxDepth)
	}
	n := nameLength(tag)
	switch {
	case n == 0:
		return s.refuse("a < that begins no element")
	case n > maxName:
		return s.refuse("the name of an element is longer than " + strconv.Itoa(maxName) + " bytes")
	}
	s.rooted = true
	s.push(local(tag[:n]))
	s.prefix, _, _ = bytes.Cut(tag[:n], []byte(":"))
	return s.parseAttributes(tag[n:])
}

// maxKeptNames is how many names of elements are kept for later; reports have a few dozen.
const maxKeptNames = 1024

func (s *xmlScanner) push(name []byte) {
	known, ok := s.names[string(name)]
	if !ok {
		known = string(name)
		if len(s.names) < maxKeptNames {
			s.names[known] = known
		}
	}
	s.stack = append(s.stack, known)
}

// readTag reads a tag to its end and returns what is in it after skip bytes, valid until the next call.
func (s *xmlScanner) readTag(skip int) ([]byte, error) {
	s.pos += skip
	s.tag = s.tag[:0]
	quote := byte(0)
	for {
		text := s.buf[s.pos:]
		for i, c := range text {
			switch {
			case quote != 0:
				if c == quote {
					quote = 0
				}
			case c == '"', c == '\'':
				quote = c
			case c == '>':
				s.pos += i + 1
				if len(s.tag) == 0 { // the usual case: no copy, and nothing fills the buffer before the next call
					return text[:i], nil
				}
				s.tag = append(s.tag, text[:i]...)
				return s.tag, nil
			case c == '<':
				return nil, s.refuse("a < inside a tag")
			}
		}
		if len(s.tag)+len(text) > maxTag {
			return nil, s.refuse("a tag is longer than " + strconv.Itoa(maxTag) + " bytes")
		}
		s.tag = append(s.tag, text...)
		s.pos = len(s.buf)
		if err := s.more(); err != nil {
			return nil, err
		}
	}
}

// parseAttributes finds the attributes in the rest of a start tag.
func (s *xmlScanner) parseAttributes(rest []byte) error {
	s.attrs = s.attrs[:0]
	for {
		trimmed := bytes.TrimLeft(rest, " \t\r\n")
		if len(trimmed) == 0 {
			return nil
		}
		n := nameLength(trimmed)
		name, value := trimmed[:n], bytes.TrimLeft(trimmed[n:], " \t\r\n")
		if n == 0 || len(trimmed) == len(rest) || len(value) == 0 || value[0] != '=' {
			return s.refuse("an attribute of <" + quoted(s.name()) + "> is not of the form name=\"value\"")
		}
		value = bytes.TrimLeft(value[1:], " \t\r\n")
		if len(value) < 2 || value[0] != '"' && value[0] != '\'' {
			return s.refuse("the value of the attribute " + quoted(name) + " is not quoted")
		}
		end := bytes.IndexByte(value[1:], value[0])
		if end < 0 {
			return s.refuse("the value of the attribute " + quoted(name) + " does not end")
		}
		value, rest = value[1:end+1], value[end+2:]
		if err := s.addAttribute(attribute{name, value}); err != nil {
			return err
		}
	}
}

// addAttribute adds an attribute under its full name, prefix included.
func (s *xmlScanner) addAttribute(a attribute) error {
	if err := s.checkValue(a.value); err != nil {
		return err
	}
	for _, old := range s.attrs {
		if bytes.Equal(old.name, a.name) {
			return s.refuse("the attribute " + quoted(a.name) + " is given twice")
		}
	}
	if len(s.attrs) == maxAttributes {
		return s.refuse("<" + quoted(s.name()) + "> has too many attributes")
	}
	s.attrs = append(s.attrs, a)
	if len(s.stack) == 1 && s.namespace == "" && bytes.HasPrefix(a.name, []byte("xmlns")) {
		if prefix, ok := bytes.CutPrefix(a.name, []byte("xmlns:")); !ok || bytes.Equal(prefix, s.prefix) {
			s.namespace = string(unescape(a.value))
		}
	}
	return nil
}

// checkValue refuses what an attribute may not hold.
func (s *xmlScanner) checkValue(value []byte) error {
	if bytes.IndexByte(value, '<') >= 0 {
		return s.refuse("a < inside a value")
	}
	for {
		amp := bytes.IndexByte(value, '&')
		if amp < 0 {
			return nil
		}
		value = value[amp+1:]
		end := bytes.IndexByte(value, ';')
		if end < 0 {
			return s.refuse("an & that begins no reference")
		}
		if _, ok := referenced(value[:end]); !ok {
			return s.refuse("the entity " + quoted(value[:end]) + " is refused: only XML's own five are accepted")
		}
		value = value[end+1:]
	}
}

// unescape is a checked value with its references replaced.
func unescape(value []byte) []byte {
	amp := bytes.IndexByte(value, '&')
	if amp < 0 {
		return value
	}
	var out []byte
	for ; amp >= 0; amp = bytes.IndexByte(value, '&') {
		out = append(out, value[:amp]...)
		end := amp + bytes.IndexByte(value[amp:], ';')
		char, _ := referenced(value[amp+1 : end])
		out = utf8.AppendRune(out, char)
		value = value[end+1:]
	}
	return append(out, value...)
}

// nameLength is the length of the name that text begins with.
func nameLength(text []byte) int {
	for i, c := range text {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == ':' || c >= utf8.RuneSelf
		if !letter && (i == 0 || c != '-' && c != '.' && (c < '0' || c > '9')) {
			return i
		}
	}
	return len(text)
}

// local is a name without its prefix.
func local(name []byte) []byte {
	if i := bytes.LastIndexByte(name, ':'); i >= 0 && i < len(name)-1 {
		return name[i+1:]
	}
	return name
}
