// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

func openDirectory(t testing.TB, dir string) (*Directory, *[]Torn) {
	t.Helper()
	torn := &[]Torn{}
	d, err := OpenDirectory(dir, func(x Torn) { *torn = append(*torn, x) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, torn
}

func TestDirectory(t *testing.T) {
	d, torn := openDirectory(t, t.TempDir())
	testStore(t, d, nil) // an empty object: the S3 server of the tests does not take one
	if len(*torn) != 0 {
		t.Errorf("torn: %v", *torn)
	}
}

func TestDirectoryHistory(t *testing.T) {
	dir := t.TempDir()
	var current *Directory
	open := func() Store {
		if current == nil {
			current, _ = openDirectory(t, dir)
			current.rotate = 200 // several segments
		}
		return current
	}
	testHistory(t, open, func(Store) Store {
		_ = current.Close()
		current = nil
		return open()
	})
}

func TestDirectoryModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	d, _ := openDirectory(t, dir)
	if _, err := d.Put(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), "log", 1, lines("1")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDirectory(t, dir)
	if _, err := OpenDirectory(dir, func(Torn) {}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openDirectory(t, dir)
}

// TestTornTail cuts the last append, of two lines, at every byte, as a crash may.
func TestTornTail(t *testing.T) {
	kept := `{"seq":1}` + "\n" + `{"seq":2}` + "\n"
	batch := `{"seq":3,"text":"é"}` + "\n" + `{"seq":4}` + "\n"
	for length := range len(batch) + 1 {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "journal/log/0000000000000001.jsonl", kept+batch[:length])
			d, torn := openDirectory(t, dir)
			whole := strings.LastIndexByte(batch[:length], '\n') + 1
			want := strings.Split(strings.TrimSuffix(kept+batch[:whole], "\n"), "\n")
			got, err := readAll(t.Context(), d, "log", 1)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("got %q, %v; want %q", got, err, want)
			}
			if (length > whole) != (len(*torn) == 1) {
				t.Fatalf("reported: %v", *torn)
			}
			if length > whole {
				report := (*torn)[0]
				bytes, err := os.ReadFile(filepath.Join(dir, report.Kept))
				if err != nil || string(bytes) != batch[whole:length] || report.Bytes != len(bytes) || report.Seq != int64(len(want))+1 {
					t.Errorf("%v: kept %q, %v", report, bytes, err)
				}
			}
			if err := d.Append(t.Context(), "log", int64(len(want))+1, lines("5")); err != nil {
				t.Fatal(err)
			}
			if got, err := readAll(t.Context(), d, "log", 1); err != nil || !slices.Equal(got, append(want, "5")) {
				t.Errorf("after an append: %q, %v", got, err)
			}
		})
	}
}

func TestDamagedLog(t *testing.T) {
	const one, three = "journal/log/0000000000000001.jsonl", "journal/log/0000000000000003.jsonl"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // the lines, or part of the error
		torn  int
	}{
		{"empty segment", map[string]string{one: ""}, "", 0},
		{"empty last segment", map[string]string{one: "1\n2\n", three: ""}, "1 2", 0},
		{"last page lost", map[string]string{one: "1\n\x00\x00\n"}, "1", 1},
		{"half JSON", map[string]string{one: "1\n{\"a\":\n"}, "1", 1},
		{"empty line", map[string]string{one: "1\n\n"}, "1", 1},
		{"damage before the last line stays", map[string]string{one: "1\n{\n3\n"}, "1 { 3", 0},
		{"torn segment in the middle", map[string]string{one: "1\n2", three: "3\n"}, "line 2 has no end", 0},
		{"segment missing", map[string]string{three: "3\n"}, "begins at 3", 0},
		{"lines missing", map[string]string{one: "1\n", three: "3\n"}, "after line 1", 0},
		{"lines too many", map[string]string{one: "1\n2\n3\n", three: "3\n"}, "after line 3", 0},
		{"long line", map[string]string{one: "1\n" + strings.Repeat("1", MaxLine+2) + "\n3\n"}, "line 2 is longer", 0},
		{"strange names", map[string]string{one: "1\n", "journal/log/1.jsonl": "x", "journal/log/0000000000000002.jsonl.bak": "x"}, "1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				write(t, dir, name, text)
			}
			d, torn := openDirectory(t, dir)
			got, err := readAll(t.Context(), d, "log", 1)
			if err != nil && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err == nil && strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if len(*torn) != c.torn {
				t.Errorf("reported: %v", *torn)
			}
		})
	}
}

func TestLeftoverTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "tmp/half", "half of an object")
	openDirectory(t, dir)
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestDamagedObject(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDirectory(t, dir)
	hash, err := d.Put(t.Context(), []byte("report"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := ObjectPath(hash)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Report", "repor", "reports", ""} {
		write(t, dir, name, text)
		if _, err := d.Get(t.Context(), hash); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := d.Put(t.Context(), []byte("report")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(t.Context(), hash); err != nil || string(got) != "report" {
		t.Errorf("stored again: %q, %v", got, err)
	}
}

// TestLinks puts links to the outside into the folder.
func TestLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, "secret", "secret")
	hash := envelope.Hash([]byte("secret"))
	name, err := ObjectPath(hash)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := openDirectory(t, dir)
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), hash); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Get through a link: %v", err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "journal", "log")); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), "log", 1, lines("1")); err == nil {
		t.Error("appended through a link")
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside: %v", left)
	}
	if names, err := d.Logs(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("logs: %v, %v", names, err)
	}
}

func TestDirectoryConcurrently(t *testing.T) {
	d, _ := openDirectory(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			log := fmt.Sprintf("log-%d", i%4)
			for n := range 25 {
				if hash, err := d.Put(t.Context(), fmt.Appendf(nil, "object %d", n)); err != nil {
					t.Errorf("Put: %v", err)
				} else if _, err := d.Get(t.Context(), hash); err != nil {
					t.Errorf("Get: %v", err)
				}
				// Two writers to each log: one of them loses, the reader never sees half a line.
				if err := d.Append(t.Context(), log, int64(n+1), lines("1")); err != nil && !errors.Is(err, ErrConflict) {
					t.Errorf("Append: %v", err)
				}
				if _, err := readAll(t.Context(), d, log, 1); err != nil {
					t.Errorf("Read: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCancelled(t *testing.T) {
	d, _ := openDirectory(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Put(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if err := d.Append(ctx, "log", 1, lines("1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v", err)
	}
}

// FuzzSegment opens a log with any content: it never panics, reads the same twice, and goes on.
func FuzzSegment(f *testing.F) {
	for _, seed := range []string{"", "\n", "1\n2", "{}\n{", "\x00\n", "1\n\n2\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		write(t, dir, "journal/log/0000000000000001.jsonl", string(text))
		d, _ := openDirectory(t, dir)
		before, err := readAll(t.Context(), d, "log", 1)
		if err != nil {
			return
		}
		if err := d.Append(t.Context(), "log", int64(len(before))+1, lines("1")); err != nil {
			t.Fatal(err)
		}
		after, err := readAll(t.Context(), d, "log", 1)
		if err != nil || !slices.Equal(after, append(before, "1")) {
			t.Fatalf("%q then %q, %v", before, after, err)
		}
	})
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
