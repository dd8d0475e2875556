// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
)

// interpolator puts values into texts by the rules of the Compose specification, with two differences from compose-go: a
// variable without value and without default is an error instead of an empty text, and the work is bounded.
type interpolator struct {
	values  map[string]string
	written int
}

// Interpolate puts values into one text, such as the URL of a health check.
func Interpolate(text string, values map[string]string) (string, error) {
	in := interpolator{values: values}
	out, err := in.substitute(text, nil)
	if err != nil {
		return "", withoutValues(err, values)
	}
	return out, nil
}

func (in *interpolator) lookup(name string) (string, bool) {
	value, found := in.values[name]
	return value, found
}

func (in *interpolator) substitute(text string, _ template.Mapping) (string, error) {
	return in.expand(text, 0)
}

func (in *interpolator) expand(text string, depth int) (string, error) {
	if depth > maxDepth {
		return "", fmt.Errorf("variables nested deeper than %d levels", maxDepth)
	}
	var out strings.Builder
	for {
		plain, rest, found := strings.Cut(text, "$")
		out.WriteString(plain)
		if !found {
			break
		}
		value, remaining, err := in.variable(rest, depth)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		if out.Len()+in.written > maxExpanded {
			return "", fmt.Errorf("larger than %d bytes once its variables are put in", maxExpanded)
		}
		text = remaining
	}
	in.written += out.Len()
	return out.String(), nil
}

// variable reads one variable, of which text is what follows the "$", and returns its value and what comes behind it.
func (in *interpolator) variable(text string, depth int) (value, rest string, err error) {
	if strings.HasPrefix(text, "$") {
		return "$", text[1:], nil
	}
	if !strings.HasPrefix(text, "{") {
		name := text[:nameLength(text)]
		if name == "" {
			return "", "", errLoneDollar
		}
		value, found := in.values[name]
		if !found {
			return "", "", missing(name, "")
		}
		return value, text[len(name):], nil
	}
	end := closingBrace(text)
	if end < 0 {
		return "", "", fmt.Errorf("%.40q: the brace is not closed", "$"+text)
	}
	body, rest := text[1:end], text[end+1:]
	name := body[:nameLength(body)]
	if name == "" {
		return "", "", errLoneDollar
	}
	value, err = in.operator(name, body[len(name):], depth)
	return value, rest, err
}

var errLoneDollar = fmt.Errorf("a $ begins a variable; write $$ for a plain one")

// operator applies what follows the name inside the braces: nothing, or one of - :- + :+ ? :?.
func (in *interpolator) operator(name, text string, depth int) (string, error) {
	value, set := in.values[name]
	filled := set
	after, colon := strings.CutPrefix(text, ":")
	if colon {
		filled = set && value != ""
	}
	if text == "" {
		if !set {
			return "", missing(name, "")
		}
		return value, nil
	}
	if after == "" {
		return "", fmt.Errorf("${%.40s}: unknown operator", name+text)
	}
	word := after[1:]
	switch after[0] {
	case '-':
		if filled {
			return value, nil
		}
		return in.expand(word, depth+1)
	case '+':
		if !filled {
			return "", nil
		}
		return in.expand(word, depth+1)
	case '?':
		if filled {
			return value, nil
		}
		return "", missing(name, word)
	}
	return "", fmt.Errorf("${%.40s}: unknown operator", name+text)
}

func missing(name, why string) error {
	if why != "" {
		return fmt.Errorf("variable %s has no value: %.200s", name, why)
	}
	return fmt.Errorf("variable %s has no value; declare it, or write ${%s:-} if it may be empty", name, name)
}

// nameLength is the length of the variable name at the beginning of text.
func nameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

// closingBrace is the index of the brace that closes the one at text[0], -1 if none does.
func closingBrace(text string) int {
	open := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}
