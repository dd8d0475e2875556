// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// testStore is what every Store promises.
func testStore(t *testing.T, s Store, objects ...[]byte) {
	ctx := t.Context()
	t.Run("objects", func(t *testing.T) {
		for _, data := range append(objects, []byte("x"), bytes.Repeat([]byte("report\n"), 100_000)) {
			for range 2 {
				hash, err := s.Put(ctx, data)
				if err != nil || hash != envelope.Hash(data) {
					t.Fatalf("Put: %s, %v", hash, err)
				}
			}
			got, err := s.Get(ctx, envelope.Hash(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("Get: %d bytes, %v", len(got), err)
			}
			if there, err := s.Has(ctx, envelope.Hash(data)); err != nil || !there {
				t.Fatalf("Has: %v, %v", there, err)
			}
		}
		missing := envelope.Hash([]byte("missing"))
		if _, err := s.Get(ctx, missing); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a missing object: %v", err)
		}
		if there, err := s.Has(ctx, missing); err != nil || there {
			t.Errorf("Has of a missing object: %v, %v", there, err)
		}
		if _, err := s.Put(ctx, make([]byte, MaxObject+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Put of a large object: %v", err)
		}
	})
	t.Run("names", func(t *testing.T) {
		digest := strings.Repeat("ab", 32)
		for _, hash := range []string{"", digest, "sha256:", "sha256:../../etc/passwd", "sha512:" + digest, "sha256:" + digest + "0",
			"sha256:" + strings.ToUpper(digest), "sha256:" + digest[:62] + "/x", "sha256:" + digest[:62] + "\x00x"} {
			if _, err := s.Get(ctx, hash); !errors.Is(err, ErrName) {
				t.Errorf("Get(%q): %v", hash, err)
			}
			if _, err := s.Has(ctx, hash); !errors.Is(err, ErrName) {
				t.Errorf("Has(%q): %v", hash, err)
			}
		}
		for _, log := range []string{"", ".", "..", "../x", "/x", "a/b", "a\\b", "A", "a\x00", "a b", "é", "a.b", strings.Repeat("a", 64)} {
			if err := s.Append(ctx, log, 1, lines("{}")); !errors.Is(err, ErrName) {
				t.Errorf("Append(%q): %v", log, err)
			}
			if _, err := readAll(ctx, s, log, 1); !errors.Is(err, ErrName) {
				t.Errorf("Read(%q): %v", log, err)
			}
		}
	})
	t.Run("logs", func(t *testing.T) {
		if got, err := readAll(ctx, s, "none", 1); err != nil || len(got) != 0 {
			t.Errorf("a log that does not exist: %v, %v", got, err)
		}
		for i, batch := range [][][]byte{lines("1"), lines("2", "3", "4"), lines("5")} {
			first := []int64{1, 2, 5}[i]
			if err := s.Append(ctx, "log-b", first, batch); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(ctx, "log-b", first, lines("9")); !errors.Is(err, ErrConflict) {
				t.Errorf("a second append at %d: %v", first, err)
			}
		}
		if err := s.Append(ctx, "log-a", 1, lines(`{"a":1}`)); err != nil {
			t.Fatal(err)
		}
		for from, want := range map[int64]string{-1: "12345", 0: "12345", 1: "12345", 2: "2345", 3: "345", 5: "5", 6: "", 99: ""} {
			got, err := readAll(ctx, s, "log-b", from)
			if err != nil || strings.Join(got, "") != want {
				t.Errorf("from %d: %v, %v", from, got, err)
			}
		}
		for line, err := range s.Read(ctx, "log-b", 2) { // may be left early
			if err != nil || line.Seq != 2 {
				t.Errorf("first line from 2: %d, %v", line.Seq, err)
			}
			break
		}
		if names, err := s.Logs(ctx); err != nil || !slices.Equal(names, []string{"log-a", "log-b"}) {
			t.Errorf("logs: %v, %v", names, err)
		}
		for _, c := range [][][]byte{nil, lines(""), lines("1\n2"), lines("{"), lines("[1,\n2]"), {bytes.Repeat([]byte("1"), MaxLine+1)}} {
			if err := s.Append(ctx, "log-c", 1, c); err == nil {
				t.Errorf("appended %.20q", c)
			}
		}
		if err := s.Append(ctx, "log-c", 0, lines("1")); err == nil {
			t.Error("appended at 0")
		}
		long := append(append([]byte(`"`), bytes.Repeat([]byte("x"), MaxLine-2)...), '"')
		if err := s.Append(ctx, "log-c", 1, [][]byte{long}); err != nil {
			t.Error(err)
		}
		if got, err := readAll(ctx, s, "log-c", 1); err != nil || len(got) != 1 || len(got[0]) != MaxLine {
			t.Errorf("the longest line: %d, %v", len(got), err)
		}
	})
}

// testHistory appends batches of any size, opening the store anew now and then.
func testHistory(t *testing.T, open func() Store, reopen func(Store) Store) {
	number := 0
	rapid.Check(t, func(t *rapid.T) {
		s := open()
		number++
		log := fmt.Sprintf("history-%d", number)
		var want []string
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			var batch [][]byte
			for range rapid.IntRange(1, 5).Draw(t, "lines") {
				batch = append(batch, fmt.Appendf(nil, `{"line":%d,"text":%q}`, len(want)+len(batch)+1, strings.Repeat("x", rapid.IntRange(0, 60).Draw(t, "width"))))
			}
			if err := s.Append(context.Background(), log, int64(len(want))+1, batch); err != nil {
				t.Fatal(err)
			}
			for _, line := range batch {
				want = append(want, string(line))
			}
			if rapid.Bool().Draw(t, "reopen") {
				s = reopen(s)
			}
			from := rapid.IntRange(1, len(want)+1).Draw(t, "from")
			got, err := readAll(context.Background(), s, log, int64(from))
			if err != nil || !slices.Equal(got, want[from-1:]) {
				t.Fatalf("from %d: got %q, %v; want %q", from, got, err, want[from-1:])
			}
		}
	})
}

func lines(text ...string) [][]byte {
	var out [][]byte
	for _, line := range text {
		out = append(out, []byte(line))
	}
	return out
}

// readAll also checks the sequence.
func readAll(ctx context.Context, s Store, log string, from int64) ([]string, error) {
	var out []string
	seq := max(from, 1)
	for line, err := range s.Read(ctx, log, from) {
		if err != nil {
			return out, err
		}
		if line.Seq != seq {
			return out, fmt.Errorf("line %d where %d was expected", line.Seq, seq)
		}
		out = append(out, string(line.Data))
		seq++
	}
	return out, nil
}
