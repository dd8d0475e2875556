// SPDX-License-Identifier: Apache-2.0

package update

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/agentupdate"
)

func binaryOf(content []byte) agentupdate.Binary {
	sum := sha256.Sum256(content)
	return agentupdate.Binary{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
}

func TestFetch(t *testing.T) {
	content := bytes.Repeat([]byte("program "), 10_000)
	var serve []byte
	var ranges []string
	cut := -1
	plain := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if cut >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(serve)))
			_, _ = w.Write(serve[:cut])
			return // the connection breaks off
		}
		if plain {
			r.Header.Del("Range")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(serve))
	}))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "update")
	fetch := func() (string, error) { return Fetch(t.Context(), server.Client(), server.URL, dir, binaryOf(content)) }
	refused := func(what string) {
		t.Helper()
		if _, err := fetch(); !errors.Is(err, ErrWrongBytes) {
			t.Errorf("%s: %v", what, err)
		}
		if names, err := filepath.Glob(filepath.Join(dir, "*"+binarySuffix)); err != nil || len(names) > 0 {
			t.Errorf("%s: %v is there, %v", what, names, err)
		}
	}
	serve = append(bytes.Clone(content[:len(content)-1]), 'x')
	refused("a wrong byte")
	serve = append(bytes.Clone(content), "and more"...)
	refused("more bytes")
	serve = content[:100]
	refused("fewer bytes")

	serve, cut = content, 30_000
	if _, err := fetch(); err == nil || errors.Is(err, ErrWrongBytes) {
		t.Fatalf("cut short: %v", err)
	}
	cut = -1
	path, err := fetch()
	if err != nil {
		t.Fatal(err)
	}
	if last := ranges[len(ranges)-1]; last != "bytes=30000-" {
		t.Errorf("the rest was asked for with %q", last)
	}
	got, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err := errors.Join(err, statErr); err != nil || !bytes.Equal(got, content) || info.Mode().Perm() != 0o700 {
		t.Errorf("%d bytes, %v, %v", len(got), info, err)
	}
	before := len(ranges)
	if again, err := fetch(); err != nil || again != path || len(ranges) != before {
		t.Errorf("what is there is fetched again: %v", err)
	}
	// What lies on the disk is believed no more than what comes over the network, and a server without ranges is no obstacle.
	if err := os.WriteFile(path, append(bytes.Clone(content[1:]), 'x'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, binaryOf(content).SHA256+partSuffix), content[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	plain = true
	if path, err = fetch(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	installed, next := filepath.Join(dir, "agent"), filepath.Join(t.TempDir(), "next")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	is := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is %q, want %q (%v)", path, got, want, err)
		}
	}
	write(installed, "one")
	for i, step := range []string{"two", "three"} {
		write(next, step)
		if err := Replace(installed, next, binaryOf([]byte(step))); err != nil {
			t.Fatal(err)
		}
		is(installed, step)
		is(installed+Previous, []string{"one", "two"}[i])
	}
	write(next, "four")
	if err := Replace(installed, next, binaryOf([]byte("5"))); !errors.Is(err, ErrWrongBytes) {
		t.Errorf("another program than the one that was signed: %v", err)
	}
	is(installed, "three")
	if names, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	for _, name := range []string{".sirrat-agent-1", ".sirrat-agent-2", "somebody's"} {
		write(filepath.Join(dir, name), "half of a pro")
	}
	RemoveLeftovers(installed, filepath.Join(dir, "nowhere", "agent"))
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v", left, err)
	}
	is(installed, "three")
	// Replaced by what nobody came to record: the recorded one is put back, once.
	two := Program{Path: installed, Binary: binaryOf([]byte("two"))}
	if two.Intact() || !two.PutBack() || !two.Intact() {
		t.Error("what was replaced is not put back")
	}
	is(installed, "two")
	if gone := (Program{Path: installed, Binary: binaryOf([]byte("one"))}); gone.PutBack() {
		t.Error("what is not there is put back")
	}
	is(installed, "two")
	if err := Writable(installed); err != nil {
		t.Error(err)
	}
	if err := Writable(filepath.Join(dir, "nowhere", "agent")); err == nil {
		t.Error("a folder that does not exist is writable")
	}
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "update")
	if r := Load(dir); r != (Record{}) {
		t.Errorf("nothing: %+v", r)
	}
	want := Record{Order: "o", Version: "v1", State: Trying, Trials: 2}
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	if r := Load(dir); r != want {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := Load(dir); r != (Record{}) {
		t.Errorf("damaged: %+v", r)
	}
}
