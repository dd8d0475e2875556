// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxDepth is how deep objects and lists may stand within each other; the products need less than ten.
	maxDepth = 32
	// maxTokens bounds the names and values of a body: a pipeline of a thousand jobs has some forty thousand.
	maxTokens = 200_000
	// maxText is the longest text that is kept, in bytes: the bound of a CIResult's job and branch.
	maxText = 255
	maxURL  = 2048
	// maxKept bounds what is kept of a list.
	maxKept = 64
)

// Error says what is wrong with a body, in words fit for the sender.
type Error struct{ Field, Detail string }

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

func refuse(field, format string, args ...any) error {
	return &Error{field, fmt.Sprintf(format, args...)}
}

var (
	commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// check makes sure that a body is one bounded JSON object before anything of it is decoded.
func check(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if dec.PeekKind() != '{' {
		return refuse("", "the body must be a JSON object")
	}
	for tokens := 0; ; tokens++ {
		_, err := dec.ReadToken()
		var syntactic *jsontext.SyntacticError
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return refuse("", "the body ends before its JSON does")
		case errors.Is(err, jsontext.ErrDuplicateName):
			return refuse("", "a member is given twice in one object, at byte %d", dec.InputOffset())
		case errors.As(err, &syntactic):
			return refuse("", "the body is not JSON, at byte %d", syntactic.ByteOffset)
		case err != nil:
			return refuse("", "the body is not JSON")
		case dec.StackDepth() > maxDepth:
			return refuse("", "objects and lists stand more than %d deep in each other", maxDepth)
		case tokens > maxTokens:
			return refuse("", "the body has more than %d names and values", maxTokens)
		case dec.StackDepth() == 0:
			return atEnd(dec)
		}
	}
}

// atEnd refuses what follows the object.
func atEnd(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return refuse("", "something follows the JSON object, at byte %d", dec.InputOffset())
	}
	return nil
}

// decode reads a body that check has accepted. Members that into does not have are passed over.
func decode(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	var semantic *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &semantic):
		field := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
		return refuse(shown(field), "is not of the kind that it is documented to be")
	}
	return refuse("", "the body cannot be decoded")
}

// commit accepts a full commit.
func commit(field, s string) (string, error) {
	s = strings.ToLower(s)
	if !commitPattern.MatchString(s) {
		return "", refuse(field, "must be a full commit: 40 or 64 hex digits")
	}
	return s, nil
}

// positive accepts the id of something.
func positive(field string, id int64) error {
	if id <= 0 {
		return refuse(field, "must be a whole number greater than 0")
	}
	return nil
}

// shown is text of a body as it is safe to keep and print: without what ends lines, moves cursors or turns the direction of
// text, and not too long.
func shown(s string) string { return clip(printable(s), maxText) }

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// clip cuts text off at a character's end.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// link is an address as it is kept: "" for what nobody should follow.
func link(s string) string {
	lower := strings.ToLower(s)
	if len(s) > maxURL || printable(s) != s || strings.ContainsAny(s, " \"'<>\\`") ||
		!strings.HasPrefix(lower, "https://") && !strings.HasPrefix(lower, "http://") {
		return ""
	}
	authority, _, _ := strings.Cut(s[strings.Index(s, "//")+2:], "/")
	if authority == "" || strings.Contains(authority, "@") {
		return ""
	}
	return s
}
