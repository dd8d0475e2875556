// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds the nesting of a strictly decoded document.
const maxDepth = 32

// DecodeStrict decodes exactly one JSON value: unknown members, duplicate members (RFC 8259 §4 leaves their meaning open,
// which two readers can use against each other), deep nesting and trailing data are errors.
func DecodeStrict(data []byte, into any) error { return decode(data, into, true) }

// DecodeOpen is DecodeStrict for formats whose readers must leave out the members that they do not know, as those of in-toto
// v1 must. Everything else that DecodeStrict refuses is an error all the same.
func DecodeOpen(data []byte, into any) error { return decode(data, into, false) }

func decode(data []byte, into any, known bool) error {
	if err := checkDuplicates(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if known {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}

func checkDuplicates(dec *json.Decoder) error {
	type frame struct {
		seen      map[string]bool // nil in an array
		expectKey bool
	}
	var stack []frame
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		top := len(stack) - 1
		if key, ok := tok.(string); ok && top >= 0 && stack[top].expectKey {
			folded := strings.ToLower(strings.ToUpper(key)) // encoding/json matches members without regard to case, ſ with s too
			if stack[top].seen[folded] {
				return fmt.Errorf("duplicate member %q", key)
			}
			stack[top].seen[folded] = true
			stack[top].expectKey = false
			continue
		}
		if top >= 0 && stack[top].seen != nil {
			stack[top].expectKey = true // a value was read: a key follows
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, frame{seen: map[string]bool{}, expectKey: true})
		case json.Delim('['):
			stack = append(stack, frame{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) > maxDepth {
			return fmt.Errorf("nested deeper than %d", maxDepth)
		}
	}
}
