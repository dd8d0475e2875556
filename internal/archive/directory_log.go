// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"sync"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// dirLog is what is known of a log's end.
type dirLog struct {
	mu sync.Mutex
	// known is false until the end was read, and again after an append of unknown outcome.
	known bool
	// segment is the first sequence of the last segment, 0 if there is none; size its size in bytes.
	segment, size int64
	// next is the sequence of the next line.
	next int64
}

// Append implements Store.
func (d *Directory) Append(ctx context.Context, log string, first int64, lines [][]byte) error {
	text, err := joinLines(log, first, lines)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to log %s: %w", log, err)
	}
	l := d.log(log)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := d.openLog(log, l); err != nil {
		return err
	}
	if first != l.next {
		return fmt.Errorf("append to log %s: %w: at %d, not at %d", log, ErrConflict, l.next, first)
	}
	if err := d.write(log, l, text); err != nil {
		l.known = false
		return fmt.Errorf("append to log %s: %w", log, err)
	}
	l.size += int64(len(text))
	l.next += int64(len(lines))
	return nil
}

// write adds text at the end, in a new segment if the last one is full. When it fails, it takes back what it wrote as far
// as it can; what remains is found when the end is read again.
func (d *Directory) write(log string, l *dirLog, text []byte) error {
	dir := path.Join("journal", log)
	if l.segment == 0 || l.size >= d.rotate {
		if err := d.newSegment(dir, l); err != nil {
			return err
		}
	}
	f, err := d.root.OpenFile(path.Join(dir, segmentName(l.segment)), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(text, l.size)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(l.size))
	}
	return nil
}

// newSegment makes an empty segment and its name durable before anything is written to it.
func (d *Directory) newSegment(dir string, l *dirLog) error {
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := d.root.OpenFile(path.Join(dir, segmentName(l.next)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := d.sync(dir); err != nil {
		return err
	}
	if err := d.sync("journal"); err != nil {
		return err
	}
	l.segment, l.size = l.next, 0
	return nil
}

func (d *Directory) log(name string) *dirLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.logs[name]
	if l == nil {
		l = &dirLog{}
		d.logs[name] = l
	}
	return l
}

// openLog reads the end of a log, unless it is known, and cuts off a torn line. The caller holds l.mu.
func (d *Directory) openLog(name string, l *dirLog) error {
	if l.known {
		return nil
	}
	firsts, err := d.segments(name)
	if err != nil {
		return fmt.Errorf("open log %s: %w", name, err)
	}
	if len(firsts) == 0 {
		l.known, l.segment, l.size, l.next = !d.looking, 0, 0, 1
		return nil
	}
	first := firsts[len(firsts)-1]
	file := path.Join("journal", name, segmentName(first))
	text, err := d.readFile(file, segmentLimit)
	if err != nil {
		return fmt.Errorf("open log %s: %w", name, err)
	}
	whole := wholeLines(text)
	next := first + int64(bytes.Count(text[:whole], []byte{'\n'}))
	if whole < len(text) && !d.looking {
		if err := d.cut(name, file, text[whole:], int64(whole), next); err != nil {
			return fmt.Errorf("open log %s: cut off a torn line: %w", name, err)
		}
	}
	l.known, l.segment, l.size, l.next = !d.looking, first, int64(whole), next
	return nil
}

// segmentLimit is the largest segment that is read: one that was nearly full and took the largest batch after that.
const segmentLimit = 1 << 30

// wholeLines is the length of text without a torn last line: one that has no newline, or is not JSON since a page of it
// never reached the disk. A damaged line before the last is not touched here; it cannot come from a crash.
func wholeLines(text []byte) int {
	end := bytes.LastIndexByte(text, '\n') + 1
	if end == 0 || end < len(text) {
		return end
	}
	last := bytes.LastIndexByte(text[:end-1], '\n') + 1
	if !json.Valid(text[last : end-1]) {
		return last
	}
	return end
}

// cut shortens a segment and keeps what it cut off beside it: nothing that was once written is thrown away.
func (d *Directory) cut(log, file string, tail []byte, size, seq int64) error {
	dir := path.Dir(file)
	kept := path.Join(dir, fmt.Sprintf("torn-%0*d-%s", segmentDigits, seq, envelope.Hash(tail)[len("sha256:"):][:16]))
	if err := d.replace(kept, tail); err != nil {
		return err
	}
	if err := d.sync(dir); err != nil {
		return err
	}
	f, err := d.root.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	d.torn(Torn{Log: log, Segment: path.Base(file), Seq: seq, Bytes: len(tail), Kept: kept})
	return nil
}

// segments are the first sequences of a log's segments, ascending.
func (d *Directory) segments(log string) ([]int64, error) {
	entries, err := fs.ReadDir(d.root.FS(), path.Join("journal", log))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var firsts []int64
	for _, e := range entries {
		if first, ok := parseSegment(e.Name()); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// Read implements Store.
func (d *Directory) Read(ctx context.Context, log string, from int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		firsts, next, err := d.snapshot(log)
		if err != nil {
			yield(Line{}, err)
			return
		}
		if len(firsts) == 0 {
			return
		}
		r := dirReader{ctx: ctx, d: d, log: log, from: max(from, 1), next: next}
		r.buffer = bufio.NewReaderSize(nil, MaxLine+1)
		seq := firsts[0]
		if seq != 1 {
			yield(Line{}, fmt.Errorf("read log %s: %w: it begins at %d", log, ErrCorrupt, seq))
			return
		}
		for i, first := range firsts {
			if first != seq {
				yield(Line{}, fmt.Errorf("read log %s: %w: after line %d comes segment %s", log, ErrCorrupt, seq-1, segmentName(first)))
				return
			}
			if i+1 < len(firsts) && firsts[i+1] <= r.from { // not asked for
				seq = firsts[i+1]
				continue
			}
			if seq, err = r.segment(first, yield); err != nil {
				yield(Line{}, fmt.Errorf("read log %s: segment %s: %w", log, segmentName(first), err))
				return
			}
			if r.stopped {
				return
			}
		}
		if seq < next {
			yield(Line{}, fmt.Errorf("read log %s: %w: line %d and what follows are missing", log, ErrCorrupt, seq))
		}
	}
}

// snapshot is what a log holds now: later appends are not read, since they may be half written.
func (d *Directory) snapshot(log string) (firsts []int64, next int64, err error) {
	if err := CheckLog(log); err != nil {
		return nil, 0, err
	}
	l := d.log(log)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := d.openLog(log, l); err != nil {
		return nil, 0, err
	}
	firsts, err = d.segments(log)
	if err != nil {
		return nil, 0, fmt.Errorf("read log %s: %w", log, err)
	}
	// Segments that another process began since are not part of what is read.
	firsts = slices.DeleteFunc(firsts, func(first int64) bool { return first > l.segment })
	return firsts, l.next, nil
}

type dirReader struct {
	ctx        context.Context
	d          *Directory
	log        string
	from, next int64
	buffer     *bufio.Reader
	stopped    bool // the consumer wants no more
}

// segment yields the lines of one segment and returns the sequence after its last.
func (r *dirReader) segment(first int64, yield func(Line, error) bool) (int64, error) {
	f, err := r.d.root.Open(path.Join("journal", r.log, segmentName(first)))
	if err != nil {
		return first, err
	}
	defer f.Close()
	r.buffer.Reset(f)
	for seq := first; ; seq++ {
		if seq == r.next {
			return seq, nil
		}
		if err := r.ctx.Err(); err != nil {
			return seq, err
		}
		line, err := r.buffer.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return seq, nil
		case errors.Is(err, io.EOF):
			return seq, fmt.Errorf("%w: line %d has no end", ErrCorrupt, seq)
		case errors.Is(err, bufio.ErrBufferFull):
			return seq, fmt.Errorf("%w: line %d is longer than %d bytes", ErrCorrupt, seq, MaxLine)
		case err != nil:
			return seq, err
		}
		if seq >= r.from && !yield(Line{Seq: seq, Data: line[:len(line)-1]}, nil) {
			r.stopped = true
			return seq, nil
		}
	}
}
