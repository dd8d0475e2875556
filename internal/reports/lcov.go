// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// lcovReader reads a tracefile of LCOV (geninfo(1), https://github.com/linux-test-project/lcov 2.3) as LCOV itself, istanbul,
// coverage.py, coverlet, grcov and cargo-llvm-cov write it. What counts is the DA lines, each line of a source file once; of a section
// without any, its LH of LF. Sections where both are must agree.
type lcovReader struct {
	l      *lines
	seen   *blocks
	file   []byte
	inside bool

	da, daHit int64 // of this section
	lf, lh    int64 // of this section; -1 when not given
	// Totals of the sections that have no DA lines.
	covered, total int64
}

// endOfRecord ends each section, the last one too.
const endOfRecord = "end_of_record"

func readLCOV(l *lines) (Report, error) {
	rep := Report{Format: LCOV}
	l.last = endOfRecord // coverlet ends no last line
	r := &lcovReader{l: l, seen: newBlocks()}
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.line(line)
		}
		if err != nil {
			return rep, err
		}
	}
	if r.inside {
		return rep, refuse("%s: the last section has no end_of_record", truncated)
	}
	covered, total := r.seen.sum()
	err := rep.covered(covered+r.covered, total+r.total, "lines")
	return rep, err
}

func (r *lcovReader) line(line []byte) error {
	if len(line) == 0 || line[0] == '#' {
		return nil
	}
	if string(line) == endOfRecord {
		return r.endSection()
	}
	key, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(key) == 0 || len(key) > 8 {
		return r.l.refuse("is not a record of a tracefile")
	}
	switch string(key) {
	case "TN":
		return nil
	case "SF":
		if r.inside {
			return r.l.refuse("a section begins before the last has ended")
		}
		r.inside, r.file = true, append(r.file[:0], value...)
		r.da, r.daHit, r.lf, r.lh = 0, 0, -1, -1
		return nil
	}
	if !r.inside {
		return r.l.refuse("outside of any section")
	}
	var err error
	switch string(key) {
	case "DA":
		return r.data(value)
	case "LF":
		r.lf, err = parseCount("LF", value)
	case "LH":
		r.lh, err = parseCount("LH", value)
	}
	if err != nil {
		return r.l.refuse("%v", err)
	}
	return nil
}

// data counts DA:<line>,<count>[,<checksum>].
func (r *lcovReader) data(value []byte) error {
	number, rest, _ := bytes.Cut(value, []byte(","))
	text, _, _ := bytes.Cut(rest, []byte(","))
	if _, err := parseCount("the number of the line", number); err != nil {
		return r.l.refuse("%v", err)
	}
	count, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return r.l.refuse("the count is %q, not a whole number", quoted(text))
	}
	r.da++
	if count > 0 {
		r.daHit++
	}
	if _, full := r.seen.add(r.file, number, 1, count > 0); full {
		return refuse("more than %d lines of source", maxBlocks)
	}
	return nil
}

func (r *lcovReader) endSection() error {
	if !r.inside {
		return r.l.refuse("outside of any section")
	}
	r.inside = false
	switch {
	case r.lf < 0 || r.lh < 0:
		return nil
	case r.lh > r.lf:
		return r.l.refuse("%d lines covered of %d", r.lh, r.lf)
	case r.da == 0:
		r.covered, r.total = r.covered+r.lh, r.total+r.lf
		return nil
	case r.lf == 0:
		return r.l.refuse("contradicts itself: LF is 0, there are %d DA lines", r.da)
	}
	if err := agree("LH of LF", float64(r.lh)/float64(r.lf)*100, float64(r.daHit), float64(r.da)); err != nil {
		return r.l.refuse("%v", err)
	}
	return nil
}
