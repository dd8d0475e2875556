// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// readGoCover reads a profile of `go test -coverprofile` (the format of golang.org/x/tools/cover, Go 1.26), of any mode. What
// counts is statements, as `go tool cover -func` counts them: a block that several test binaries name is one block.
func readGoCover(l *lines) (Report, error) {
	rep := Report{Format: GoCover, Producer: "go test"}
	line, err := l.next()
	if err != nil {
		return rep, err
	}
	switch mode := string(bytes.TrimPrefix(line, []byte("mode: "))); mode {
	case "set", "count", "atomic":
	default:
		return rep, l.refuse("the mode is %q, not set, count or atomic", quoted(mode))
	}
	seen := newBlocks()
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return rep, err
		}
		if err := addGoBlock(l, seen, line); err != nil {
			return rep, err
		}
	}
	covered, total := seen.sum()
	err = rep.covered(covered, total, "statements")
	return rep, err
}

func addGoBlock(l *lines, seen *blocks, line []byte) error {
	if bytes.HasPrefix(line, []byte("mode: ")) {
		return l.refuse("a second profile begins: merge them, or send one profile a file")
	}
	file, place, numbers, ok := cutBlock(line)
	size, text, ok2 := bytes.Cut(numbers, []byte(" "))
	if !ok || !ok2 {
		return l.refuse("is not of the form file.go:12.34,56.78 2 1")
	}
	statements, err := parseCount("the number of statements", size)
	if err != nil {
		return l.refuse("%v", err)
	}
	count, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return l.refuse("the count is %q, not a whole number in range", quoted(text))
	}
	switch same, full := seen.add(file, place, uint32(statements), count > 0); {
	case full:
		return refuse("more than %d blocks", maxBlocks)
	case !same:
		return l.refuse("contradicts an earlier line about the same block")
	}
	return nil
}

// cutBlock takes a line of a profile apart: the file, which may have colons and blanks in its name, the place, which is a line
// and a column from where and another to where, and the two numbers.
func cutBlock(line []byte) (file, place, numbers []byte, ok bool) {
	colon := bytes.LastIndexByte(line, ':')
	if colon <= 0 {
		return nil, nil, nil, false
	}
	place, numbers, ok = bytes.Cut(line[colon+1:], []byte(" "))
	const between = ".,."
	parts, digits := 0, 0
	for _, c := range place {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case digits > 0 && parts < len(between) && c == between[parts]:
			parts, digits = parts+1, 0
		default:
			return nil, nil, nil, false
		}
	}
	return line[:colon], place, numbers, ok && parts == len(between) && digits > 0
}
