// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"io"
	"math"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonReader reads JSON token by token. jsontext refuses names given twice, what is not UTF-8, and control characters;
// encoding/json takes the last of two members and mends broken text, so that two readers may see two reports in one file.
type jsonReader struct {
	dec    *jsontext.Decoder
	src    *tokenSource
	tokens int
	names  []int64 // bytes of the names of each object that is open
	alive  int64   // their sum
}

// tokenSource bounds how much is read of one token, which the decoder keeps in memory.
type tokenSource struct {
	in  *input
	dec *jsontext.Decoder
	n   int64
}

func (t *tokenSource) Read(p []byte) (int, error) {
	// The decoder reads when the token that it is at is not whole.
	left := maxToken - (t.n - t.dec.InputOffset())
	if left <= 0 {
		return 0, refuse("byte %d: a text is longer than %d bytes", t.dec.InputOffset(), maxToken)
	}
	n, err := t.in.r.Read(p[:min(int64(len(p)), left)])
	t.n += int64(n)
	return n, err
}

func newJSONReader(in *input) *jsonReader {
	src := &tokenSource{in: in}
	dec := jsontext.NewDecoder(src)
	src.dec = dec
	return &jsonReader{dec: dec, src: src}
}

// token reads one token, within bounds.
func (j *jsonReader) token() (jsontext.Token, error) {
	before := j.dec.InputOffset()
	tok, err := j.dec.ReadToken()
	if err != nil {
		return tok, j.explain(err)
	}
	if j.tokens++; j.tokens > maxElements {
		return tok, refuse(tooMany, maxElements)
	}
	switch tok.Kind() {
	case '{', '[':
		if j.names = append(j.names, 0); len(j.names) > maxDepth {
			return tok, refuse(tooDeep, maxDepth)
		}
	case '}', ']':
		j.alive -= j.names[len(j.names)-1]
		j.names = j.names[:len(j.names)-1]
	case '"':
		if kind, n := j.dec.StackIndex(j.dec.StackDepth()); kind == '{' && n%2 == 1 { // a name was read
			size := j.dec.InputOffset() - before
			j.names[len(j.names)-1] += size
			if j.alive += size; j.alive > maxNames {
				return tok, refuse("the names of members take more than %d bytes", maxNames)
			}
		}
	}
	return tok, nil
}

// explain words an error of the decoder.
func (j *jsonReader) explain(err error) error {
	var refused *Error
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(truncated)
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuse("byte %d: a member is given twice in one object", j.dec.InputOffset())
	case errors.As(err, &syntactic):
		return refuse("byte %d: not JSON", syntactic.ByteOffset)
	}
	return err
}

// end makes sure that nothing follows.
func (j *jsonReader) end() error {
	_, err := j.dec.ReadToken()
	if err = j.explain(err); errors.Is(err, io.EOF) {
		return nil
	}
	var refused *Error
	if err == nil || errors.As(err, &refused) {
		return refuse(twoInOne)
	}
	return err
}

// skip passes over one value.
func (j *jsonReader) skip() error {
	depth := len(j.names)
	for {
		if _, err := j.token(); err != nil {
			return err
		}
		if len(j.names) == depth {
			return nil
		}
	}
}

// object calls member for each member of an object; member must read its value. present is false for null.
func (j *jsonReader) object(what string, member func(name string) error) (present bool, err error) {
	return j.composite('{', what, "an object", func() error {
		name, err := j.token()
		if err != nil {
			return err
		}
		return member(name.String())
	})
}

// list calls element for each element of a list; element must read it. present is false for null.
func (j *jsonReader) list(what string, element func() error) (present bool, err error) {
	return j.composite('[', what, "a list", element)
}

func (j *jsonReader) composite(kind jsontext.Kind, what, called string, each func() error) (present bool, err error) {
	tok, err := j.token()
	switch {
	case err != nil:
		return false, err
	case tok.Kind() == 'n':
		return false, nil
	case tok.Kind() != kind:
		return false, refuse("%s is not %s", what, called)
	}
	for {
		switch j.dec.PeekKind() {
		case '}', ']':
			_, err := j.token()
			return true, err
		}
		if err := each(); err != nil {
			return true, err
		}
	}
}

// text reads a string, at most maxText of it; "" for null.
func (j *jsonReader) text(what string) (string, error) {
	tok, err := j.token()
	switch {
	case err != nil:
		return "", err
	case tok.Kind() == 'n':
		return "", nil
	case tok.Kind() != '"':
		return "", refuse("%s is not a text", what)
	}
	s := tok.String()
	if len(s) > maxText {
		return "", refuse("%s is longer than %d bytes", what, maxText)
	}
	return s, nil
}

// anyText reads a string of any kind of value: what is no string, or too long to matter, is "".
func (j *jsonReader) anyText() (string, error) {
	if j.dec.PeekKind() != '"' {
		return "", j.skip()
	}
	tok, err := j.token()
	if err != nil {
		return "", err
	}
	if s := tok.String(); len(s) <= maxText {
		return s, nil
	}
	return "", nil
}

// number reads a number.
func (j *jsonReader) number(what string) (float64, error) {
	tok, err := j.token()
	if err != nil {
		return 0, err
	}
	if tok.Kind() != '0' {
		return 0, refuse("%s is not a number", what)
	}
	n := tok.Float()
	if math.IsInf(n, 0) || math.Abs(n) >= math.MaxFloat64 {
		return 0, refuse("%s is out of range", what)
	}
	return n, nil
}

// whole reads a whole number from 0 to maxCount.
func (j *jsonReader) whole(what string) (int64, error) {
	n, err := j.number(what)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > maxCount || n != math.Trunc(n) {
		return 0, refuse("%s is not a whole number from 0 to %d", what, maxCount)
	}
	return int64(n), nil
}

// boolean reads true or false.
func (j *jsonReader) boolean(what string) (bool, error) {
	tok, err := j.token()
	if err != nil {
		return false, err
	}
	if k := tok.Kind(); k != 't' && k != 'f' {
		return false, refuse("%s is not true or false", what)
	}
	return tok.Bool(), nil
}

// texts reads a list of strings, the first maxReferences of them.
func (j *jsonReader) texts(what string) (out []string, err error) {
	_, err = j.list(what, func() error {
		s, err := j.text(what)
		if len(out) < maxReferences {
			out = append(out, s)
		}
		return err
	})
	return out, err
}
