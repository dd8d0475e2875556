// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"crypto"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// exported is an export with documents, an authorization and a signed PV.
func exported(t testing.TB) (f *fixture, dir string, clientKey envelope.PublicKey) {
	t.Helper()
	f = newFixture(t, nil)
	client, _, clientPEM, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if clientKey, err = envelope.ParsePublicKey(string(clientPEM)); err != nil {
		t.Fatal(err)
	}
	f.append(fact("a", 1, Blob{Name: "junit", MediaType: "application/xml", Data: []byte("<testsuite/>")}))
	f.append(fact("=HYPERLINK(\"http://evil\")", "\u202etxt\x1b[31m"))
	f.append(signedFact(t, f.key, uid), pvFact(t, client, "shop"))
	f.append(fact("a", 2, Blob{Name: "junit", Data: []byte("<testsuite/>")}, Blob{Name: "empty"}))
	dir = filepath.Join(t.TempDir(), "export")
	if err := f.Export(context.Background(), uid, dir, map[string]string{f.public.ID: f.pem}, []string{string(clientPEM)}); err != nil {
		t.Fatal(err)
	}
	return f, dir, clientKey
}

func signedFact(t testing.TB, key crypto.Signer, projectUID string) Fact {
	t.Helper()
	payload, err := json.Marshal(authorization.Statement{Predicate: authorization.Predicate{ProjectUID: projectUID}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := envelope.Sign(context.Background(), authorization.PayloadType, payload, key)
	if err != nil {
		t.Fatal(err)
	}
	x := fact("authorization/1", 1, Blob{Name: BlobAuthorization, Data: []byte(text)})
	x.Kind = KindAuthorization
	return x
}

func pvFact(t testing.TB, key crypto.Signer, project string) Fact {
	t.Helper()
	text, err := pv.Sign(context.Background(), pv.Decision{Namespace: project, Decision: v1alpha1.PVAccepted, SignedBy: "client"}, key)
	if err != nil {
		t.Fatal(err)
	}
	x := fact("pv/1", 1, Blob{Name: BlobSignature, Data: []byte(text)})
	x.Kind = KindPV
	return x
}

func verify(t testing.TB, dir string, trusted Trust) Report {
	t.Helper()
	r, err := Verify(dir, trusted)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExportVerifies(t *testing.T) {
	f, dir, clientKey := exported(t)
	for _, trusted := range []Trust{{}, {Keys: []envelope.PublicKey{f.public}}, {Keys: []envelope.PublicKey{f.public}, ClientKeys: []envelope.PublicKey{clientKey}}} {
		r := verify(t, dir, trusted)
		if !r.OK() {
			t.Fatalf("problems: %v", r.Problems)
		}
		if r.Entries != 5 || r.Kinds[KindVerdict] != 3 || r.Kinds[KindPV] != 1 || r.Documents != 4 || r.Signatures != 3 || len(r.KeyIDs) != 2 ||
			r.Project != "shop" || r.ProjectUID != uid || r.OwnKeys != (len(trusted.Keys) == 0) || !r.Last.After(r.First) || r.Exported.IsZero() {
			t.Errorf("report: %+v", r)
		}
		if _, hash, _ := f.Head(t.Context(), uid); r.Head != hash {
			t.Errorf("head %s, not %s", r.Head, hash)
		}
	}
}

// TestForeignKeys: what the export says of its own keys counts for nothing once keys are given.
func TestForeignKeys(t *testing.T) {
	_, dir, _ := exported(t)
	_, _, text, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, dir, Trust{Keys: []envelope.PublicKey{other}})
	if !r.Exported.IsZero() || len(problemsOf(r, fileCheckpoint)) != 1 || len(r.Problems) != 2 { // and the authorization
		t.Errorf("another installation key: %v", r.Problems)
	}
	if r := verify(t, dir, Trust{ClientKeys: []envelope.PublicKey{other}}); len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "bad signature") {
		t.Errorf("another client key: %v", r.Problems)
	}
}

// TestForgedDocuments: the installation recorded documents that are not what their kind says.
func TestForgedDocuments(t *testing.T) {
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		fact       func(*fixture) Fact
	}{
		{"authorization by a stranger", "bad signature", func(*fixture) Fact { return signedFact(t, stranger, uid) }},
		{"authorization for another project", "not one for this project", func(f *fixture) Fact { return signedFact(t, f.key, "other") }},
		{"PV by a stranger", "bad signature", func(*fixture) Fact { return pvFact(t, stranger, "shop") }},
		{"PV of another project", "not for a PV of this project", func(f *fixture) Fact { return pvFact(t, f.key, "other") }},
		{"not an envelope", "bad signature", func(*fixture) Fact {
			x := fact("x", 1, Blob{Name: BlobAuthorization, Data: []byte("{")})
			x.Kind = KindAuthorization
			return x
		}},
		{"PV signed on the installation's page", "", func(f *fixture) Fact { return pvFact(t, f.key, "shop") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.append(c.fact(f))
			dir := filepath.Join(t.TempDir(), "export")
			if err := f.Export(t.Context(), uid, dir, nil, nil); err != nil {
				t.Fatal(err)
			}
			r := verify(t, dir, Trust{})
			if c.want == "" && r.OK() {
				return
			}
			if len(r.Problems) != 1 || r.Problems[0].Seq != 1 || !strings.Contains(r.Problems[0].Message, c.want) {
				t.Errorf("problems: %v, want %q", r.Problems, c.want)
			}
		})
	}
}

func TestExportRefuses(t *testing.T) {
	f := newFixture(t, nil)
	f.append(fact("a", 1, Blob{Name: "b", Data: []byte("document")}))
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	writeFile(t, filepath.Join(full, "x"), "x")
	dir := filepath.Join(parent, "export")
	for _, c := range []struct {
		want, uid, dir string
		keys           map[string]string
		clientKeys     []string
	}{
		{"not empty", uid, full, nil, nil},
		{"not a directory", uid, filepath.Join(full, "x"), nil, nil},
		{"has no journal", "unknown", dir, nil, nil},
		{"not a valid name", "../x", dir, nil, nil},
		{"has the id", uid, dir, map[string]string{"sha256:00": f.pem}, nil},
		{"not a PEM", uid, dir, map[string]string{f.public.ID: "x"}, nil},
		{"client key 1", uid, dir, nil, []string{"x"}},
	} {
		if err := f.Export(t.Context(), c.uid, c.dir, c.keys, c.clientKeys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	name, err := archive.ObjectPath(envelope.Hash([]byte("document")))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(f.dir, name), "Document")
	if err := f.Export(t.Context(), uid, dir, nil, nil); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("a damaged document: %v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	writeFile(t, filepath.Join(f.dir, name), "document")
	if err := os.Mkdir(dir, 0o700); err != nil { // an empty folder will do
		t.Fatal(err)
	}
	if err := f.Export(t.Context(), uid, dir, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestIndexIsInert(t *testing.T) {
	for text, want := range map[string]string{
		"plain é": "plain é", "": "", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'=1", "\r1": "'1", "  =1": "'  =1",
		"＝1": "'＝1", "a\u202eb\u2066c\u200bd": "abcd", "\x1b[31m": "[31m", "a\nb": "ab", "\u202e=1": "'=1", "a=1": "a=1",
		strings.Repeat("é", maxCell+1): strings.Repeat("é", maxCell) + "…",
	} {
		if got := cell(text); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
	_, dir, _ := exported(t)
	text, err := os.ReadFile(filepath.Join(dir, fileIndex))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(rows) != 6 || rows[2][3] != `'=HYPERLINK("http://evil")` || rows[2][5] != `{"value":"txt\u001b[31m"}` {
		t.Errorf("%d rows, %q, %v", len(rows), rows, err)
	}
}

// TestTampering is every kind of change that has a name, and what the report says of it.
func TestTampering(t *testing.T) {
	_, original, _ := exported(t)
	document, err := archive.ObjectPath(envelope.Hash([]byte("<testsuite/>")))
	if err != nil {
		t.Fatal(err)
	}
	journal := func(change func([]string) []string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { changeLines(t, filepath.Join(dir, fileJournal), change) }
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		file   string
		seq    int64
		want   string
	}{
		{"entry altered", journal(func(l []string) []string { l[1] = strings.Replace(l[1], "qa@", "QA@", 1); return l }), fileJournal, 3, "chain is broken"},
		{"last entry altered", journal(func(l []string) []string { l[4] = strings.Replace(l[4], "qa@", "QA@", 1); return l }), fileJournal, 5, "the checkpoint was signed for"},
		{"entry removed", journal(func(l []string) []string { return slices.Delete(l, 2, 3) }), fileJournal, 3, "missing or elsewhere"},
		{"entries removed", journal(func(l []string) []string { return slices.Delete(l, 1, 3) }), fileJournal, 2, "up to 3"},
		{"first removed", journal(func(l []string) []string { return l[1:] }), fileJournal, 1, "missing"},
		{"truncated", journal(func(l []string) []string { return l[:4] }), fileJournal, 5, "signed for 5 entries"},
		{"emptied", journal(func([]string) []string { return nil }), fileJournal, 1, "signed for 5 entries"},
		{"twice", journal(func(l []string) []string { return slices.Insert(l, 2, l[1]) }), fileJournal, 2, "twice or out of order"},
		{"reordered", journal(func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }), fileJournal, 2, "missing or elsewhere"},
		{"line appended", journal(func(l []string) []string { return append(l, l[0]) }), fileJournal, 1, "twice"},
		{"no last newline", func(t *testing.T, dir string) {
			text := readFile(t, filepath.Join(dir, fileJournal))
			writeFile(t, filepath.Join(dir, fileJournal), strings.TrimSuffix(text, "\n"))
		}, fileJournal, 5, "no end"},
		{"document altered", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, document), "<testsuite />") }, document, 1, "altered"},
		{"document missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, document)) }, document, 1, "missing"},
		{"document added", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "objects/sha256/ab/x"), "") }, "objects/sha256/ab/x", 0, "no entry names"},
		{"document is a link", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, document))
			if err := os.Symlink("/etc/hostname", filepath.Join(dir, document)); err != nil {
				t.Fatal(err)
			}
		}, document, 0, "not a plain file"},
		{"strange file", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "run.sh"), "") }, "run.sh", 0, "does not name"},
		{"strange folder", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "more/run.sh"), "") }, "more", 0, "not part of"},
		{"key added", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "keys/x.pem"), "") }, "keys/x.pem", 0, "not a PEM"},
		{"checkpoint missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, fileCheckpoint)) }, fileCheckpoint, 0, "missing"},
		{"checkpoint rewritten", func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, fileCheckpoint), readFile(t, filepath.Join(dir, fileCheckpoint))+"\n")
		}, fileCheckpoint, 0, "rewritten"},
		{"journal missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, fileJournal)) }, fileJournal, 0, "missing"},
		{"readme altered", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, fileReadme), "trust me") }, fileReadme, 0, "altered"},
		{"index missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, fileIndex)) }, fileIndex, 0, "missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
				t.Fatal(err)
			}
			c.change(t, dir)
			r := verify(t, dir, Trust{})
			if !slices.ContainsFunc(r.Problems, func(p Problem) bool {
				return p.File == c.file && p.Seq == c.seq && strings.Contains(p.Message, c.want)
			}) {
				t.Errorf("want %s: %d: %q; problems:\n%v", c.file, c.seq, c.want, r.Problems)
			}
		})
	}
}

// TestAnyChangeIsFound changes bytes, files and lines anywhere: it is always found, and the file is named.
func TestAnyChangeIsFound(t *testing.T) {
	_, original, _ := exported(t)
	var names []string
	err := fs.WalkDir(os.DirFS(original), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(names).Draw(rt, "file")
		path := filepath.Join(dir, name)
		text := readFile(t, path)
		other := path
		otherText := text
		restore := func() { writeFile(t, path, text); writeFile(t, other, otherText) }
		defer restore()
		switch change := rapid.SampledFrom([]string{"flip", "flip", "flip", "flip", "insert", "cut", "remove", "swap"}).Draw(rt, "change"); change {
		case "flip":
			if len(text) == 0 {
				return
			}
			bytes := []byte(text)
			bytes[rapid.IntRange(0, len(bytes)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
			writeFile(t, path, string(bytes))
		case "insert":
			at := rapid.IntRange(0, len(text)).Draw(rt, "at")
			writeFile(t, path, text[:at]+string(rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(rt, "bytes"))+text[at:])
		case "cut":
			if len(text) == 0 {
				return
			}
			writeFile(t, path, text[:rapid.IntRange(0, len(text)-1).Draw(rt, "at")])
		case "remove":
			remove(t, path)
		case "swap":
			other = filepath.Join(dir, rapid.SampledFrom(names).Draw(rt, "with"))
			if otherText = readFile(t, other); otherText == text {
				return
			}
			writeFile(t, path, otherText)
			writeFile(t, other, text)
		}
		r := verify(t, dir, Trust{})
		if len(problemsOf(r, name)) == 0 {
			rt.Fatalf("not named: %v", r.Problems)
		}
		if otherName, _ := filepath.Rel(dir, other); len(problemsOf(r, otherName)) == 0 {
			rt.Fatalf("not named: %s: %v", otherName, r.Problems)
		}
	})
	if r := verify(t, dir, Trust{}); !r.OK() {
		t.Errorf("put back: %v", r.Problems)
	}
}

// FuzzVerify reads any journal and checkpoint without failing.
func FuzzVerify(f *testing.F) {
	_, original, _ := exported(f)
	f.Add([]byte(readFile(f, filepath.Join(original, fileJournal))), []byte(readFile(f, filepath.Join(original, fileCheckpoint))))
	f.Add([]byte("\n\n{}\n"), []byte(`{"payload":"","payloadType":"","signatures":null}`))
	f.Fuzz(func(t *testing.T, journal, checkpoint []byte) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, fileJournal), string(journal))
		writeFile(t, filepath.Join(dir, fileCheckpoint), string(checkpoint))
		if r := verify(t, dir, Trust{}); r.OK() {
			t.Fatal("an export without keys cannot be good")
		}
	})
}

func TestProblemsAreBounded(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, fileJournal), strings.Repeat("\n", 3*maxProblems))
	if r := verify(t, dir, Trust{}); len(r.Problems) != maxProblems+1 {
		t.Errorf("%d problems", len(r.Problems))
	}
	if _, err := Verify(filepath.Join(dir, "missing"), Trust{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

func problemsOf(r Report, file string) []Problem {
	var out []Problem
	for _, p := range r.Problems {
		if p.File == filepath.ToSlash(file) {
			out = append(out, p)
		}
	}
	return out
}
