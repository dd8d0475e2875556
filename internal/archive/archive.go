// SPDX-License-Identifier: Apache-2.0

// Package archive keeps evidence outside etcd: objects named by the hash of their content, and append-only logs of lines.
// What a Store says it stored survives a power cut; what it gives back has the hash it was asked for.
//
// There are two: Directory on the server's own disk, and S3 in a bucket of an S3-compatible server. A Store knows nothing
// of what it keeps. It may import the standard library, internal/envelope (for Hash) and the S3 client only.
package archive

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Bounds of what a Store takes.
const (
	// MaxObject is the largest object, in bytes.
	MaxObject = 64 << 20
	// MaxLine is the longest line of a log, in bytes, without its newline.
	MaxLine = 1 << 20
)

// Errors that a Store wraps, so that callers can tell them apart.
var (
	ErrNotFound = errors.New("not in the archive")
	// ErrCorrupt: what is stored is not what was stored. It does not heal by itself.
	ErrCorrupt = errors.New("the archive is damaged")
	// ErrConflict: the log does not continue at that sequence; somebody else wrote it, or an append failed half-way.
	ErrConflict = errors.New("the log continues elsewhere")
	// ErrName: a hash or a log's name that is not one, which might otherwise reach another file.
	ErrName = errors.New("not a valid name")
	// ErrTooLarge: larger than MaxObject or MaxLine.
	ErrTooLarge = errors.New("too large for the archive")
)

// Line is one line of a log.
type Line struct {
	// Seq is the line's place in its log, from 1.
	Seq int64
	// Data is the line without its newline. It is valid until the next line is read.
	Data []byte
}

// Store keeps objects and logs. It is safe for concurrent use.
type Store interface {
	// Put stores data and returns its hash, "sha256:<hex>". It is durable when Put returns; storing it again changes
	// nothing.
	Put(ctx context.Context, data []byte) (hash string, err error)
	// Get returns the object of that hash, after verifying it. Errors: ErrName, ErrNotFound, ErrCorrupt.
	Get(ctx context.Context, hash string) ([]byte, error)
	// Has says whether there is an object of that hash; it does not verify it.
	Has(ctx context.Context, hash string) (bool, error)

	// Append adds lines to a log, the first of them at sequence first, all or none, and durable when it returns: one
	// synchronisation for all lines, so callers gather what waits. A log begins at 1 by its first Append. ErrConflict if
	// it does not end just before first. After any other error it is unknown whether the lines were added: read the log.
	// A line is one JSON value without newlines, at most MaxLine long.
	Append(ctx context.Context, log string, first int64, lines [][]byte) error
	// Read yields the lines from sequence from on that the log had when reading began. It ends at the first error. A log
	// that does not exist has no lines.
	Read(ctx context.Context, log string, from int64) iter.Seq2[Line, error]
	// Logs are the names of all logs, sorted.
	Logs(ctx context.Context) ([]string, error)
}

// segmentDigits makes names of segments sort by their first sequence.
const segmentDigits = 16

// CheckLog says whether name can name a log: 1 to 63 lower-case letters, digits and hyphens, as the uids of objects are.
func CheckLog(name string) error {
	ok := len(name) >= 1 && len(name) <= 63
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return fmt.Errorf("%w: log %q", ErrName, shorten(name))
	}
	return nil
}

// ObjectPath is where the object of that hash lies in a Store and in an export: objects/sha256/ab/abcdef….
func ObjectPath(hash string) (string, error) {
	digest, found := strings.CutPrefix(hash, "sha256:")
	if _, err := hex.DecodeString(digest); !found || err != nil || len(digest) != 64 || strings.ToLower(digest) != digest {
		return "", fmt.Errorf("%w: hash %q", ErrName, shorten(hash))
	}
	return path.Join("objects", "sha256", digest[:2], digest), nil
}

func segmentName(first int64) string { return fmt.Sprintf("%0*d.jsonl", segmentDigits, first) }

// parseSegment is the first sequence of a segment's name; false for every other name.
func parseSegment(name string) (int64, bool) {
	digits, found := strings.CutSuffix(name, ".jsonl")
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, found && err == nil && first > 0 && segmentName(first) == name
}

// joinLines is the text to be appended.
func joinLines(log string, first int64, lines [][]byte) ([]byte, error) {
	if err := CheckLog(log); err != nil {
		return nil, err
	}
	if first < 1 || len(lines) == 0 {
		return nil, fmt.Errorf("append to log %s: no lines, or a sequence below 1", log)
	}
	var text []byte
	for i, line := range lines {
		if len(line) > MaxLine {
			return nil, fmt.Errorf("append to log %s: line %d: %w: %d bytes", log, first+int64(i), ErrTooLarge, len(line))
		}
		if !json.Valid(line) || bytes.IndexByte(line, '\n') >= 0 {
			return nil, fmt.Errorf("append to log %s: line %d is not JSON on one line", log, first+int64(i))
		}
		text = append(append(text, line...), '\n')
	}
	return text, nil
}

func checkObject(hash string, data []byte) error {
	if got := envelope.Hash(data); got != hash {
		return fmt.Errorf("%w: object %s has the hash %s", ErrCorrupt, hash, got)
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
