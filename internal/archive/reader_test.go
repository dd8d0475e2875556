// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A reader looks on while the writer holds the lock; it sees whole lines only and changes nothing.
func TestReaderBesideTheWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	w, err := OpenDirectory(dir, func(torn Torn) { t.Errorf("torn: %s", torn) })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.rotate = 200 // many segments
	hash, err := w.Put(t.Context(), []byte("scan"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := r.Get(t.Context(), hash); err != nil || string(data) != "scan" {
		t.Errorf("object: %q, %v", data, err)
	}

	const lines = 300
	var writing sync.WaitGroup
	writing.Go(func() {
		for seq := int64(1); seq <= lines; seq++ {
			if err := w.Append(t.Context(), "shop", seq, [][]byte{fmt.Appendf(nil, `{"n":%d}`, seq)}); err != nil {
				t.Errorf("append: %v", err)
				return
			}
		}
	})
	for last := int64(0); last < lines; {
		seq := int64(0)
		for line, err := range r.Read(t.Context(), "shop", 1) {
			if err != nil {
				t.Fatalf("read beside the writer: %v", err)
			}
			if seq++; line.Seq != seq || string(line.Data) != fmt.Sprintf(`{"n":%d}`, seq) {
				t.Fatalf("line %d is %d: %s", seq, line.Seq, line.Data)
			}
		}
		if seq < last {
			t.Fatalf("after %d lines there were %d", last, seq)
		}
		if last = seq; t.Failed() {
			break
		}
	}
	writing.Wait()
	if names, err := r.Logs(t.Context()); err != nil || len(names) != 1 || names[0] != "shop" {
		t.Errorf("logs: %v, %v", names, err)
	}
	if _, err := r.Put(t.Context(), nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Put: %v", err)
	}
	if err := r.Append(t.Context(), "shop", lines+1, [][]byte{[]byte("{}")}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Append: %v", err)
	}
}

// A line that the writer did not finish is left to the writer.
func TestReaderLeavesATornLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	w, err := OpenDirectory(dir, func(Torn) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(t.Context(), "shop", 1, [][]byte{[]byte("{}"), []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "journal", "shop", segmentName(1))
	const torn = "{}\n{}\n{\"half"
	if err := os.WriteFile(segment, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for _, err := range r.Read(t.Context(), "shop", 1) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if text, err := os.ReadFile(segment); n != 2 || err != nil || string(text) != torn {
		t.Errorf("%d lines; the segment is %q now (%v)", n, text, err)
	}
}

func TestOpenReaderRefusesOtherFolders(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "nothing")} {
		if _, err := OpenReader(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("something was written: %v", entries)
		}
	}
}
