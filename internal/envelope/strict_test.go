// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"strings"
	"testing"
)

type doc struct {
	A string `json:"a"`
	B struct {
		C []int `json:"c"`
	} `json:"b"`
}

func TestDecodeStrict(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // part of the error; "" for none
	}{
		{`{"a":"x","b":{"c":[1,2]}}`, ""},
		{`{"a":"a"}`, ""},
		{`{"a":"x","a":"y"}`, "duplicate"},
		{`{"a":"x","A":"y"}`, "duplicate"},
		{`{"b":{"c":[1],"c":[2]}}`, "duplicate"},
		{`{"s":"x","\u017f":"y"}`, "duplicate"}, // encoding/json takes the long s for an s
		{`{"k":"x","\u212a":"y"}`, "duplicate"}, // and the sign of Kelvin for a k
		{`{"a":"x","z":1}`, "unknown field"},
		{`{"a":"x"} {"a":"y"}`, "after"},
		{`{"a":1}`, "cannot unmarshal"},
		{`{"a":`, "EOF"},
		{strings.Repeat(`{"a":`, 1000), "nested"},
	} {
		var d doc
		err := DecodeStrict([]byte(c.text), &d)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%.40s: got %v, want %q", c.text, err, c.want)
		}
	}
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add(`{"a":"x","b":{"c":[1,2]}}`)
	f.Add(`[[[{"a":[]}]]]`)
	f.Fuzz(func(_ *testing.T, text string) {
		var d doc
		_ = DecodeStrict([]byte(text), &d) // must not panic
	})
}

// DecodeOpen differs in what it does not know, and in nothing else.
func TestDecodeOpen(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // part of the error; "" for none
	}{
		{`{"a":"x","z":{"y":[1]}}`, ""},
		{`{"a":"x","z":1,"Z":2}`, "duplicate"},
		{`{"a":"x","z":1} {}`, "after"},
		{strings.Repeat(`{"z":`, 1000), "nested"},
	} {
		var d doc
		err := DecodeOpen([]byte(c.text), &d)
		switch {
		case c.want == "" && (err != nil || d.A != "x"):
			t.Errorf("%s: %v, %+v", c.text, err, d)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.text, err, c.want)
		}
	}
}
