// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

const uid = "5b0f4b0a-0000-4000-8000-000000000001"

// fixture is a journal in a folder, with a clock that moves by a second for every entry.
type fixture struct {
	*Journal
	t      testing.TB
	dir    string
	store  *archive.Directory
	key    crypto.Signer
	public envelope.PublicKey
	pem    string
}

func newFixture(t testing.TB, anchor Anchor) *fixture {
	t.Helper()
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: t.TempDir(), key: key, pem: string(public)}
	if f.public, err = envelope.ParsePublicKey(f.pem); err != nil {
		t.Fatal(err)
	}
	f.open(anchor)
	t.Cleanup(func() { f.close() })
	return f
}

func (f *fixture) open(anchor Anchor) {
	f.t.Helper()
	store, err := archive.OpenDirectory(f.dir, func(x archive.Torn) { f.t.Logf("torn: %v", x) })
	if err != nil {
		f.t.Fatal(err)
	}
	var seconds atomic.Int64
	now := func() time.Time { return time.Unix(1_800_000_000+seconds.Add(1), 123_456_789) }
	journal, err := Open(store, f.key, now, anchor)
	if err != nil {
		f.t.Fatal(err)
	}
	f.store, f.Journal = store, journal
}

func (f *fixture) close() {
	_ = f.Journal.Close()
	_ = f.store.Close()
}

func (f *fixture) append(facts ...Fact) {
	f.t.Helper()
	for _, fact := range facts {
		if err := f.Append(context.Background(), fact); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) entries(from int64) []Entry {
	f.t.Helper()
	var out []Entry
	for e, err := range f.Entries(context.Background(), uid, from) {
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func fact(subject string, value any, blobs ...Blob) Fact {
	return Fact{Project: "shop", ProjectUID: uid, Kind: KindVerdict, Subject: subject, Actor: "qa@example.org",
		Data: map[string]any{"value": value}, Blobs: blobs}
}

func TestAppend(t *testing.T) {
	f := newFixture(t, nil)
	ctx := t.Context()
	if seq, hash, err := f.Head(ctx, uid); seq != 0 || hash != Genesis(uid) || err != nil {
		t.Errorf("head of nothing: %d, %s, %v", seq, hash, err)
	}
	var told []Entry
	f.Subscribe(func(e Entry) { told = append(told, e) })
	blob := Blob{Name: "report", MediaType: "application/xml", Data: []byte("<testsuite/>")}
	f.append(fact("a", 1), fact("b", "é <script>", blob), fact("a", 2))
	got := f.entries(1)
	if len(got) != 3 || got[0].Prev != Genesis(uid) || got[1].Prev != got[0].Hash || got[2].Prev != got[1].Hash {
		t.Fatalf("chain: %+v", got)
	}
	if e := got[1]; e.Seq != 2 || e.Subject != "b" || string(e.Data) != `{"value":"é <script>"}` || e.Blobs[0].Hash != envelope.Hash(blob.Data) ||
		e.Time.Format(time.RFC3339Nano) != "2027-01-15T08:00:02.123Z" {
		t.Errorf("entry: %+v", e)
	}
	if seq, hash, err := f.Head(ctx, uid); seq != 3 || hash != got[2].Hash || err != nil {
		t.Errorf("head: %d, %s, %v", seq, hash, err)
	}
	for i := range got {
		a, _ := json.Marshal(told[i])
		b, _ := json.Marshal(got[i])
		if !bytes.Equal(a, b) && string(a) != strings.Replace(string(b), `"blobs":[]`, `"blobs":null`, 1) || told[i].Hash != got[i].Hash {
			t.Errorf("subscribers were told %s of %s", a, b)
		}
	}
	if data, err := f.store.Get(ctx, got[1].Blobs[0].Hash); err != nil || !bytes.Equal(data, blob.Data) {
		t.Errorf("blob: %q, %v", data, err)
	}
	if tail := f.entries(2); len(tail) != 2 || tail[0].Hash != got[1].Hash {
		t.Errorf("from 2: %+v", tail)
	}
	if projects, err := f.Projects(ctx); err != nil || !slices.Equal(projects, []string{uid}) {
		t.Errorf("projects: %v, %v", projects, err)
	}
}

// A document that the store has already is named without being brought again.
func TestAppendKept(t *testing.T) {
	f := newFixture(t, nil)
	hash, err := f.store.Put(t.Context(), []byte("<testsuite/>"))
	if err != nil {
		t.Fatal(err)
	}
	f.append(fact("a", 1, Blob{Name: "report", MediaType: "application/octet-stream", Kept: hash}))
	if got := f.entries(1); len(got) != 1 || got[0].Blobs[0] != (BlobRef{Name: "report", MediaType: "application/octet-stream", Hash: hash}) {
		t.Errorf("%+v", got)
	}
}

func TestAppendIsIdempotent(t *testing.T) {
	f := newFixture(t, nil)
	report, other := Blob{Name: "report", Data: []byte("1")}, Blob{Name: "report", Data: []byte("2")}
	for _, c := range []struct {
		name string
		fact Fact
		want int // entries afterwards
	}{
		{"first", fact("a", 1, report), 1},
		{"again", fact("a", 1, report), 1},
		{"same data, spelt otherwise", func() Fact { x := fact("a", 1, report); x.Data = json.RawMessage(`{ "value" : 1.0 }`); return x }(), 1},
		{"by somebody else", func() Fact { x := fact("a", 1, report); x.Actor = "cto"; return x }(), 1},
		{"other data", fact("a", 2, report), 2},
		{"back", fact("a", 1, report), 3},
		{"other blob", fact("a", 1, other), 4},
		{"no blob", fact("a", 1), 5},
		{"other subject", fact("b", 1), 6},
		{"other kind", func() Fact { x := fact("a", 1); x.Kind = KindGate; return x }(), 7},
		{"the subject of before", fact("a", 1), 7},
	} {
		for _, reopened := range []bool{false, true} { // the index is the same after a restart
			if reopened {
				f.close()
				f.open(nil)
			}
			f.append(c.fact)
			if got := len(f.entries(1)); got != c.want {
				t.Errorf("%s (reopened: %v): %d entries, want %d", c.name, reopened, got, c.want)
			}
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	f := newFixture(t, nil)
	change := func(do func(*Fact)) Fact {
		x := fact("a", 1)
		do(&x)
		return x
	}
	for _, c := range []struct {
		want string
		fact Fact
	}{
		{"unknown kind", change(func(x *Fact) { x.Kind = "Other" })},
		{"not a valid name", change(func(x *Fact) { x.ProjectUID = "../escape" })},
		{"not a valid name", change(func(x *Fact) { x.ProjectUID = "" })},
		{"subject is empty", change(func(x *Fact) { x.Subject = "" })},
		{"subject is empty, longer", change(func(x *Fact) { x.Subject = strings.Repeat("x", maxText+1) })},
		{"not UTF-8", change(func(x *Fact) { x.Actor = "\xff" })},
		{"project is empty", change(func(x *Fact) { x.Project = "" })},
		{"not an object", change(func(x *Fact) { x.Data = []int{1} })},
		{"too large to be kept exactly", change(func(x *Fact) { x.Data = map[string]int64{"n": 1<<53 + 1} })},
		{"too large to be kept exactly", change(func(x *Fact) { x.Data = map[string]uint64{"n": 1<<64 - 1} })},
		{"too large", change(func(x *Fact) { x.Data = map[string]string{"n": strings.Repeat("x", archive.MaxLine)} })},
		{"Duplicate", change(func(x *Fact) { x.Data = json.RawMessage(`{"a":1,"a":2}`) })},
		{"two blobs", change(func(x *Fact) { x.Blobs = []Blob{{Name: "a"}, {Name: "a"}} })},
		{"at most", change(func(x *Fact) { x.Blobs = make([]Blob, maxBlobs+1) })},
		{"name is empty", change(func(x *Fact) { x.Blobs = []Blob{{}} })},
		{"the store does not have", change(func(x *Fact) { x.Blobs = []Blob{{Name: "a", Kept: envelope.Hash([]byte("nowhere"))}} })},
	} {
		if err := f.Append(t.Context(), c.fact); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	if err := f.Append(t.Context(), change(func(x *Fact) { x.Data = map[string]int{"a": 1, "A": 2} })); err != nil {
		t.Errorf("members that differ in case: %v", err)
	}
}

// TestConcurrency appends to several projects at once, each fact twice: each is there once, and each chain holds.
func TestConcurrency(t *testing.T) {
	f := newFixture(t, nil)
	var mu sync.Mutex
	told := map[string]int64{}
	f.Subscribe(func(e Entry) {
		mu.Lock()
		defer mu.Unlock()
		if e.Seq != told[e.ProjectUID]+1 {
			t.Errorf("project %s: told of %d after %d", e.ProjectUID, e.Seq, told[e.ProjectUID])
		}
		told[e.ProjectUID] = e.Seq
	})
	const projects, workers, facts = 3, 16, 10
	var wg sync.WaitGroup
	for p := range projects {
		for w := range workers {
			wg.Go(func() {
				for n := range facts {
					x := fact(fmt.Sprintf("%d/%d", w/2, n), n, Blob{Name: "b", Data: fmt.Appendf(nil, "%d", n)})
					x.ProjectUID = fmt.Sprintf("project-%d", p)
					if err := f.Append(t.Context(), x); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	f.close()
	f.open(nil)
	for p := range projects {
		if seq, _, err := f.Head(t.Context(), fmt.Sprintf("project-%d", p)); err != nil || seq != workers/2*facts {
			t.Errorf("project %d: %d entries, %v", p, seq, err)
		}
	}
}

// wrapped changes what a store does.
type wrapped struct {
	archive.Store
	append func(context.Context, string, int64, [][]byte) error
}

func (w wrapped) Append(ctx context.Context, log string, first int64, lines [][]byte) error {
	return w.append(ctx, log, first, lines)
}

// TestUnknownOutcome: an append that fails may have been written or not; appending again is right in both cases.
func TestUnknownOutcome(t *testing.T) {
	f := newFixture(t, nil)
	for _, written := range []bool{false, true} {
		fail := true
		f.Journal.store = wrapped{f.store, func(ctx context.Context, log string, first int64, lines [][]byte) error {
			if !fail {
				return f.store.Append(ctx, log, first, lines)
			}
			fail = false
			if written {
				_ = f.store.Append(ctx, log, first, lines)
			}
			return errors.New("the disk hiccuped")
		}}
		x := fact("outcome", fmt.Sprint(written))
		if err := f.Append(t.Context(), x); err == nil || !strings.Contains(err.Error(), "hiccuped") {
			t.Fatalf("written %v: %v", written, err)
		}
		f.append(x, x)
	}
	if got := f.entries(1); len(got) != 2 {
		t.Errorf("entries: %+v", got)
	}
}

// TestTwoWriters: a second journal on the same store may write too; the first notices and takes up the chain from there.
func TestTwoWriters(t *testing.T) {
	f := newFixture(t, nil)
	other, err := Open(f.store, f.key, f.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.append(fact("a", 1))
	if err := other.Append(t.Context(), fact("b", 1)); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(t.Context(), fact("c", 1)); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("a stale writer: %v", err)
	}
	f.append(fact("c", 1))
	if got := f.entries(1); len(got) != 3 {
		t.Errorf("entries: %+v", got)
	}
}

// TestBrokenChain changes a stored line: nothing is appended any more, and the error says where.
func TestBrokenChain(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(lines []string) []string
	}{
		{"altered", "seq 3: it follows", func(l []string) []string {
			l[1] = strings.Replace(l[1], `"value":2`, `"value":9`, 1)
			return l
		}},
		{"not canonical", "seq 2: not a journal entry: not in canonical form", func(l []string) []string {
			l[1] = strings.Replace(l[1], `"value":2`, `"value":2.0`, 1)
			return l
		}},
		{"unknown member", "seq 2: not a journal entry", func(l []string) []string {
			l[1] = strings.Replace(l[1], `"seq":2`, `"seq":2,"zzz":1`, 1)
			return l
		}},
		{"removed", "seq 3: where 2 was expected", func(l []string) []string { return slices.Delete(l, 1, 2) }},
		{"twice", "seq 2: where 3 was expected", func(l []string) []string { return slices.Insert(l, 1, l[1]) }},
		{"swapped", "seq 3: where 2 was expected", func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }},
		{"of another project", "belongs to the project", func(l []string) []string {
			for i := range l {
				l[i] = strings.ReplaceAll(l[i], uid, strings.ReplaceAll(uid, "1", "2"))
			}
			return l
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.append(fact("a", 1), fact("a", 2), fact("a", 3))
			f.close()
			file := f.dir + "/journal/" + uid + "/0000000000000001.jsonl"
			changeLines(t, file, c.change)
			f.open(nil)
			for range 2 {
				err := f.Append(t.Context(), fact("b", 1))
				if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
			x := fact("b", 1)
			x.ProjectUID = "another"
			f.append(x) // other projects go on
		})
	}
}

// memory is an Anchor.
type memory struct {
	mu     sync.Mutex
	seq    map[string]int64
	hash   map[string]string
	stored int
	fail   error
}

func newMemory() *memory { return &memory{seq: map[string]int64{}, hash: map[string]string{}} }

func (m *memory) Load(_ context.Context, project string) (int64, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq[project], m.hash[project], m.fail
}

func (m *memory) Store(_ context.Context, project string, seq int64, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.seq[project], m.hash[project] = seq, hash
		m.stored++
	}
	return m.fail
}

func TestAnchor(t *testing.T) {
	anchor := newMemory()
	f := newFixture(t, anchor)
	f.append(fact("a", 1), fact("a", 2), fact("a", 3))
	head := f.entries(3)[0]
	f.close()
	if anchor.seq[uid] != 3 || anchor.hash[uid] != head.Hash {
		t.Fatalf("Close stored %d, %s", anchor.seq[uid], anchor.hash[uid])
	}
	for _, c := range []struct {
		name string
		seq  int64
		hash string
		fail error
		want error // nil: accepted
	}{
		{"as stored", 3, head.Hash, nil, nil},
		{"behind", 2, head.Prev, nil, nil},
		{"none", 0, "", nil, nil},
		{"ahead: truncated", 4, head.Hash, nil, ErrTruncated},
		{"other hash: forked", 2, head.Hash, nil, ErrTruncated},
		{"unreachable", 3, head.Hash, errors.New("unreachable"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			anchor.seq[uid], anchor.hash[uid], anchor.fail = c.seq, c.hash, c.fail
			f.open(anchor)
			defer f.close()
			_, _, err := f.Head(t.Context(), uid)
			switch {
			case c.fail != nil:
				if !errors.Is(err, c.fail) {
					t.Errorf("got %v", err)
				}
				anchor.fail = nil
				if _, _, err := f.Head(t.Context(), uid); err != nil {
					t.Errorf("reachable again: %v", err)
				}
			case !errors.Is(err, c.want):
				t.Errorf("got %v, want %v", err, c.want)
			case c.want != nil && !errors.Is(err, ErrBroken):
				t.Errorf("%v is not ErrBroken", err)
			}
		})
	}
}

// TestAnchorIsPaced: a burst is anchored once, a second later; a failure is tried again.
func TestAnchorIsPaced(t *testing.T) {
	anchor := newMemory()
	f := newFixture(t, nil)
	synctest.Test(t, func(t *testing.T) {
		f.Journal.anchor = anchor
		for n := range 20 {
			f.append(fact("a", n))
		}
		synctest.Wait()
		if anchor.stored != 0 {
			t.Errorf("stored %d times at once", anchor.stored)
		}
		anchor.mu.Lock()
		anchor.fail = errors.New("unreachable")
		anchor.mu.Unlock()
		<-time.After(AnchorEvery + time.Millisecond)
		synctest.Wait()
		anchor.mu.Lock()
		anchor.fail = nil
		anchor.mu.Unlock()
		<-time.After(AnchorEvery)
		synctest.Wait()
		if anchor.stored != 1 || anchor.seq[uid] != 20 {
			t.Errorf("stored %d times, at %d", anchor.stored, anchor.seq[uid])
		}
		<-time.After(10 * AnchorEvery) // nothing new, nothing stored
		if err := f.Close(); err != nil || anchor.stored != 1 {
			t.Errorf("stored %d times, %v", anchor.stored, err)
		}
	})
}

func TestClosed(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(t.Context(), fact("a", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v", err)
	}
}

// TestDataSurvives: whatever data a fact has, what is read means the same, and the chain can be loaded.
func TestDataSurvives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(
			rapid.String().AsAny(), rapid.Float64().AsAny(), rapid.Int64Range(-maxSeq, maxSeq).AsAny(), rapid.Bool().AsAny(),
			rapid.MapOf(rapid.String(), rapid.String()).AsAny(), rapid.SliceOf(rapid.Float32()).AsAny(),
		).Draw(rt, "value")
		raw, err := json.Marshal(map[string]any{"value": value})
		if err != nil {
			rt.Skip() // not a number
		}
		e := Entry{Seq: 1, Prev: Genesis(uid), Time: time.Unix(0, 0).UTC(), Project: "p", ProjectUID: uid, Kind: KindResult, Subject: "s"}
		if e.Data, err = canonicalData(json.RawMessage(raw)); err != nil {
			rt.Fatal(err)
		}
		text, err := e.canonical()
		if err != nil {
			rt.Fatal(err)
		}
		back, err := parseEntry(text)
		if err != nil {
			rt.Fatalf("%s: %v", text, err)
		}
		var want, got any
		if json.Unmarshal(raw, &want) != nil || json.Unmarshal(back.Data, &got) != nil {
			rt.Fatal("not JSON")
		}
		if !reflect.DeepEqual(want, got) { // -0 becomes 0, which is equal
			rt.Fatalf("%s became %s", raw, back.Data)
		}
	})
}

// FuzzParseEntry: a line that is accepted is the only text of its entry.
func FuzzParseEntry(f *testing.F) {
	e := Entry{Seq: 1, Prev: Genesis(uid), Time: time.Unix(0, 0).UTC(), Project: "p", ProjectUID: uid, Kind: KindResult, Subject: "s", Data: json.RawMessage("{}")}
	text, err := e.canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"seq":1,"seq":2}`))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err != nil {
			return
		}
		if again, err := e.canonical(); err != nil || !bytes.Equal(again, line) || e.Hash != envelope.Hash(line) {
			t.Fatalf("%q became %q, %v", line, again, err)
		}
	})
}

func changeLines(t testing.TB, file string, change func([]string) []string) {
	t.Helper()
	lines := change(strings.Split(strings.TrimSuffix(readFile(t, file), "\n"), "\n"))
	text := strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	writeFile(t, file, text)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
