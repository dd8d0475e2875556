// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// decode parses one YAML document into maps with string keys, after it was measured with its aliases followed.
func decode(text string) (map[string]any, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(text), MaxSize)
	}
	if err := checkNesting(text); err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	if err := (&measure{}).visit(&document, 0); err != nil {
		return nil, err
	}
	var value any
	if err := document.Decode(&value); err != nil {
		return nil, err
	}
	value, err := stringKeys(value, "")
	if err != nil {
		return nil, err
	}
	tree, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("it must be a mapping with services:")
	}
	return tree, nil
}

// checkNesting is a cheap look at the text that spares the parser thousands of levels: flow collections by brackets,
// block collections by the indicators of one line and by indentation.
func checkNesting(text string) error {
	depth, indents := 0, []int{-1}
	for number, line := range strings.Split(text, "\n") {
		content := strings.TrimLeft(line, " ")
		if content == "" || content[0] == '#' {
			continue
		}
		indent := len(line) - len(content)
		for indents[len(indents)-1] >= indent {
			indents = indents[:len(indents)-1]
		}
		indents = append(indents, indent)
		inLine := 0
		for rest := content; len(rest) > 1 && strings.ContainsRune("-?:", rune(rest[0])) && rest[1] == ' '; rest = strings.TrimLeft(rest[1:], " ") {
			inLine++
		}
		if len(indents)+inLine > maxIndents {
			return fmt.Errorf("line %d: nested too deeply", number+1)
		}
		for _, c := range content {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > maxBrackets {
				return fmt.Errorf("line %d: nested too deeply", number+1)
			}
		}
	}
	return nil
}

// maxIndents and maxBrackets are looser than maxDepth, because texts inside scalars count here too.
const (
	maxIndents  = 512
	maxBrackets = 512
)

// measure walks a tree as the decoder will, aliases included, and stops when it is too much.
type measure struct {
	nodes, size int
}

func (m *measure) visit(node *yaml.Node, depth int) error {
	m.nodes++
	m.size += len(node.Value)
	switch {
	case depth > maxDepth:
		return fmt.Errorf("line %d: nested deeper than %d levels", node.Line, maxDepth)
	case m.nodes > maxNodes:
		return fmt.Errorf("line %d: more than %d values once its aliases are followed", node.Line, maxNodes)
	case m.size > maxExpanded:
		return fmt.Errorf("line %d: larger than %d bytes once its aliases are followed", node.Line, maxExpanded)
	}
	if node.Kind == yaml.AliasNode {
		return m.visit(node.Alias, depth+1)
	}
	for _, child := range node.Content {
		if err := m.visit(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// stringKeys turns every mapping into one with string keys, as JSON has.
func stringKeys(value any, path string) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		for key, entry := range v {
			converted, err := stringKeys(entry, path+"."+key)
			if err != nil {
				return nil, err
			}
			v[key] = converted
		}
		return v, nil
	case map[any]any:
		m := make(map[string]any, len(v))
		for key, entry := range v {
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("%s: the key %v is not a text, put it in quotes", strings.TrimPrefix(path, "."), key)
			}
			converted, err := stringKeys(entry, path+"."+name)
			if err != nil {
				return nil, err
			}
			m[name] = converted
		}
		return m, nil
	case []any:
		for i, entry := range v {
			converted, err := stringKeys(entry, path+"["+strconv.Itoa(i)+"]")
			if err != nil {
				return nil, err
			}
			v[i] = converted
		}
	}
	return value, nil
}

// countPorts says how many ports a list of ports stands for: "8000-8010:8000-8010/tcp" is eleven.
func countPorts(list any) int {
	entries, _ := list.([]any)
	total := 0
	for _, entry := range entries {
		text, ok := entry.(string)
		if long, isMap := entry.(map[string]any); isMap {
			text, ok = long["published"].(string)
		}
		largest := 1
		if ok {
			for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ':' || r == '/' }) {
				from, to, isRange := strings.Cut(part, "-")
				first, err1 := strconv.Atoi(from)
				last, err2 := strconv.Atoi(to)
				if isRange && err1 == nil && err2 == nil && last > first {
					largest = max(largest, last-first+1)
				}
			}
		}
		if total += largest; total > maxPorts {
			return total
		}
	}
	return total
}
