// SPDX-License-Identifier: Apache-2.0

// Package history keeps on disk what happened to the rollouts of each environment: a line for every change of phase, never
// changed, bounded in size by dropping the oldest.
//
// It serves people: nothing that the agent does depends on it. A line that a crash cut short, or that a disk spoiled, is
// left out by readers. It may import agent/disk and agent/state.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/state"
)

// maxFile is the size in bytes from which an environment's file is put aside for a new one. One file is kept aside.
const maxFile = 512 << 10

// maxLine is the longest line that a reader looks at.
const maxLine = 16 << 10

// Endings of the files' names: the one that is written, and the one put aside.
const (
	suffix    = ".jsonl"
	oldSuffix = ".old.jsonl"
)

// Entry is one change.
type Entry struct {
	At          time.Time `json:"at"`
	Project     string    `json:"project"`
	Environment string    `json:"environment"`
	// Rollout's name and uid.
	Rollout string `json:"rollout"`
	UID     string `json:"uid"`
	// Release's name and version.
	Release  string `json:"release"`
	Version  string `json:"version,omitempty"`
	Sequence int64  `json:"sequence"`
	// Phase that begins.
	Phase string `json:"phase"`
	// Reason and Message of a phase that is a failure.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Took is how long it took, in milliseconds, from the beginning of the rollout; on phases that end one.
	Took int64 `json:"tookMs,omitempty"`
}

// Journal is the folder of an agent's history. Its methods may be called from several goroutines.
type Journal struct {
	dir string
	mu  sync.Mutex
}

// Open returns the journal in a folder, which is created with mode 0700 by the first entry.
func Open(dir string) *Journal { return &Journal{dir: dir} }

func (j *Journal) path(k state.Key, end string) string {
	return filepath.Join(j.dir, k.Project+"."+k.Environment+end)
}

// table of the checksums: Castagnoli, as in the file formats of storage.
var table = crc32.MakeTable(crc32.Castagnoli)

// Append adds entries of one environment. When it returns nil they survive a power cut.
func (j *Journal) Append(k state.Key, entries ...Entry) (err error) {
	if len(entries) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := disk.MkdirPrivate(j.dir); err != nil {
		return err
	}
	path := j.path(k, suffix)
	if info, err := os.Stat(path); err == nil && info.Size() >= maxFile {
		if err := os.Rename(path, j.path(k, oldSuffix)); err != nil {
			return fmt.Errorf("put history aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open history: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("write history of %s: %w", k, err)
		}
	}()
	var text []byte
	if torn(f) {
		text = append(text, '\n')
	}
	for _, e := range entries {
		e.Project, e.Environment = k.Project, k.Environment
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text = fmt.Appendf(text, "%08x %s\n", crc32.Checksum(line, table), line)
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// torn says that the last line has no end.
func torn(f *os.File) bool {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// Read returns the entries of an environment, oldest first. Lines that cannot be trusted are left out.
func (j *Journal) Read(k state.Key) ([]Entry, error) {
	var all []Entry
	for _, end := range []string{oldSuffix, suffix} {
		entries, err := read(j.path(k, end))
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

func read(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer f.Close()
	var entries []Entry
	reader := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // no line of ours: skip to its end
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = reader.ReadSlice('\n')
			}
			if err == nil {
				continue
			}
			return entries, nil
		case errors.Is(err, io.EOF):
			return entries, nil // what has no end was cut short
		case err != nil:
			return nil, fmt.Errorf("read history: %w", err)
		}
		if e, ok := parse(strings.TrimSuffix(string(line), "\n")); ok {
			entries = append(entries, e)
		}
	}
}

func parse(line string) (e Entry, ok bool) {
	sum, text, found := strings.Cut(line, " ")
	want, err := strconv.ParseUint(sum, 16, 32)
	if !found || len(sum) != 8 || err != nil || uint64(crc32.Checksum([]byte(text), table)) != want {
		return e, false
	}
	ok = json.Unmarshal([]byte(text), &e) == nil
	return e, ok
}

// Keys lists the environments that have a history, in the order of their names.
func (j *Journal) Keys() ([]state.Key, error) {
	names, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list history: %w", err)
	}
	var keys []state.Key
	for _, entry := range names {
		name, ok := strings.CutSuffix(entry.Name(), suffix)
		name = strings.TrimSuffix(name, ".old")
		project, environment, split := strings.Cut(name, ".")
		if key := (state.Key{Project: project, Environment: environment}); ok && split && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
