// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/reports"
)

const junit = `<testsuite><testcase name="a"/></testsuite>`

// zipped is a text that gzip compressed.
func zipped(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// put writes files below a folder.
func put(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// dryRun is `report --dry-run` of arguments, and what it says.
func dryRun(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	w := testWorld()
	w.Out, w.Err = &o, &e
	code = Main(t.Context(), w, append([]string{"report", "--dry-run"}, args...))
	return o.String(), e.String(), code
}

// Of a folder, what is a report by its content is taken, whatever its name; what is none is named; what is a broken one refuses all.
func TestReportFolder(t *testing.T) {
	for what, c := range map[string]struct {
		files       map[string]string
		taken, left string
		code        int
		says        string
	}{
		"reports among others": {map[string]string{
			"a/TEST-a.xml": junit, "a/TEST-a.txt": "Tests run: 1", "b/odd name.report": junit, "b/cover.out": "mode: set\nx.go:1.1,2.2 1 1\n",
			"junit.xml.gz": zipped(t, junit), "other.gz": zipped(t, "text"), "bad.gz": "\x1f\x8bno",
			"pom.xml": "<project/>", "page.html": "<!DOCTYPE html><html></html>", "package.json": `{"name":"x"}`, "tsconfig.json": "{ // words\n}",
			"cucumber.json": `[{"description":"","elements":[],"id":"a"}]`, "lib.so": "\x7fELF\x00", "icon.ico": "\x00\x00\x01\x00", ".gitkeep": "", "_SUCCESS": "",
		}, "a/TEST-a.xml b/cover.out b/odd name.report junit.xml.gz",
			".gitkeep _SUCCESS a/TEST-a.txt bad.gz cucumber.json icon.ico lib.so other.gz package.json page.html pom.xml tsconfig.json", 0, ""},
		"other people's": {map[string]string{
			"TEST-a.xml": junit, ".git/TEST-b.xml": junit, "x/node_modules/y/TEST-c.xml": junit,
		}, "TEST-a.xml", ".git x/node_modules", 0, ""},
		"no report":           {map[string]string{"pom.xml": "<project/>"}, "", "pom.xml", 1, "there is no report in the folder"},
		"nothing":             {map[string]string{}, "", "", 1, "there is no report in the folder"},
		"a broken one":        {map[string]string{"a.xml": junit, "b.xml": "<testsuite><testcase/>"}, "a.xml b.xml", "", 1, "1 of 2 files prove nothing"},
		"one cut off early":   {map[string]string{"a.xml": junit, "b.json": `{"a":`}, "a.xml b.json", "", 1, "1 of 2 files prove nothing"},
		"an empty one":        {map[string]string{"a.xml": junit, "b.xml": ""}, "a.xml b.xml", "", 1, "1 of 2 files prove nothing"},
		"a broken quality":    {map[string]string{"a.xml": junit, "b.json": `[{"description":"x","fingerprint":"1","severity":"none"}]`}, "a.xml b.json", "", 1, "prove nothing"},
		"UTF-16 without mark": {map[string]string{"a.xml": junit, "b.xml": "<\x00t\x00"}, "a.xml b.xml", "", 1, "prove nothing"},
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, c.files)
			t.Chdir(root)
			out, errOut, code := dryRun(t, ".", "-o", "json")
			var got reportOutput
			if out != "" {
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Fatalf("%v in %s", err, out)
				}
			}
			var taken, left []string
			for _, f := range got.Files {
				taken = append(taken, filepath.ToSlash(f.File))
			}
			for _, l := range got.LeftOut {
				left = append(left, filepath.ToSlash(l.File))
			}
			if len(got.Files) == 0 { // an error, and what was left out beside it
				for _, line := range strings.Split(errOut, "\n") {
					if name, _, ok := strings.Cut(strings.TrimPrefix(line, "  "), ": of none"); ok {
						left = append(left, name)
					}
				}
			}
			if code != c.code || !strings.Contains(errOut, c.says) || strings.Join(taken, " ") != c.taken || strings.Join(left, " ") != c.left {
				t.Errorf("exit code %d, taken %q, left out %q, want %d, %q, %q\n%s%s", code, taken, left, c.code, c.taken, c.left, out, errOut)
			}
		})
	}
}

// A file that is found and named counts once; a link to a folder is one, links in it are not followed; for people too it is said
// what is left out.
func TestReportFolderAndFiles(t *testing.T) {
	root := t.TempDir()
	put(t, root, map[string]string{"target/a.xml": junit, "target/b.xml": junit, "other/c.xml": junit, "target/\x1b[31m.txt": "x"})
	t.Chdir(root)
	for link, to := range map[string]string{"link": "target", "target/d.xml": "../other/c.xml", "target/e": "../other"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	out, errOut, code := dryRun(t, "target/a.xml", "target", "./target/b.xml", "other/c.xml")
	if n := strings.Count(out, "junit "); code != 0 || n != 3 || !strings.Contains(out, "as no reports: 3") || !strings.Contains(out, "d.xml: not a file") ||
		strings.Contains(out, "\x1b") {
		t.Errorf("%d, %d reports:\n%s%s", code, n, out, errOut)
	}
	if out, errOut, code := dryRun(t, "link"); code != 0 || strings.Count(out, "junit ") != 2 {
		t.Errorf("of a link: %d\n%s%s", code, out, errOut)
	}
	if out, errOut, code := dryRun(t, "target", "none"); code != 1 || !strings.Contains(errOut, "no such file") {
		t.Errorf("of a missing one: %d\n%s%s", code, out, errOut)
	}
	many := map[string]string{"a.xml": junit}
	for i := range maxToldLeftOut + 5 {
		many[fmt.Sprintf("%02d.txt", i)] = "x"
	}
	put(t, filepath.Join(root, "many"), many)
	if out, _, _ := dryRun(t, "many"); !strings.Contains(out, "and 5 more") || strings.Contains(out, "24.txt") {
		t.Errorf("of many:\n%s", out)
	}
	if out, _, _ := dryRun(t, "many", "--lang", "fr"); !strings.Contains(out, "et 5 autres") {
		t.Errorf("in French:\n%s", out)
	}
}

// What is looked through is bounded, and one that holds more is not sent in part.
func TestReportFolderIsBounded(t *testing.T) {
	root := t.TempDir()
	put(t, root, map[string]string{"1/a.xml": junit, "2/b.xml": junit, "3/c.xml": junit})
	w := testWorld()
	_, s := build(w, nil)
	f := &folders{s: s, entries: maxFolderEntries - 3}
	if err := f.walk(t.Context(), root); err == nil || !strings.Contains(err.Error(), "more than 50000") {
		t.Errorf("%v, found %q", err, f.found)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&folders{s: s}).walk(ended, root); err == nil {
		t.Error("it goes on after an interrupt")
	}
	for i := range maxFolderReports {
		put(t, root, map[string]string{fmt.Sprintf("4/%d.xml", i): junit})
	}
	if _, _, err := s.reportPaths(t.Context(), []string{root}, reportOptions{}); err == nil || !strings.Contains(err.Error(), "more than 4096 reports") {
		t.Error(err)
	}
}

// An answer that is none of SIRRAT's passes no gate: nothing in it would refuse the commit.
func TestReportToSomethingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.xml")
	put(t, filepath.Dir(file), map[string]string{"a.xml": junit})
	for _, answer := range []string{"<html>Welcome</html>", "", `{}`, `{"commit":"a"}`, `{"verdict":"Passed"}`, `{"commit":"a","verdict":"passed"}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, answer)
		}))
		var errOut bytes.Buffer
		w := testWorld()
		w.Err, w.Getenv = &errOut, func(name string) string {
			return map[string]string{"SIRRAT_API_URL": server.URL, "SIRRAT_API_TOKEN": "t", "SIRRAT_PROJECT_ID": "p", "CI_COMMIT_SHA": strings.Repeat("a", 40)}[name]
		}
		if code := Main(t.Context(), w, []string{"report", file}); code != 1 || !strings.Contains(errOut.String(), "not an answer of SIRRAT") {
			t.Errorf("%s: exit code %d, %s", answer, code, errOut.String())
		}
		server.Close()
	}
}

// What speaks against the commit is sent with the first request, so that no gate opens between two of them.
func TestFailuresAreSentFirst(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{"z/red.xml": `<testsuite><testcase name="a"><failure/></testcase></testsuite>`}
	for i := range maxReportFiles + 10 {
		files[fmt.Sprintf("a/%d.xml", i)] = junit
	}
	put(t, root, files)
	var requests [][]string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1 << 20); err != nil {
			t.Error(err)
			return
		}
		var names []string
		for _, f := range r.MultipartForm.File["file"] {
			names = append(names, f.Filename)
		}
		requests = append(requests, names)
		_, _ = io.WriteString(w, `{"commit":"a1b2c3d","verdict":"Refused","judged":true,"gates":[]}`)
	}))
	t.Cleanup(server.Close)
	var out bytes.Buffer
	w := testWorld()
	w.Out, w.Getenv = &out, func(name string) string {
		return map[string]string{"SIRRAT_API_URL": server.URL, "SIRRAT_API_TOKEN": "t", "SIRRAT_PROJECT_ID": "p", "CI_COMMIT_SHA": "a1b2c3d"}[name]
	}
	code := Main(t.Context(), w, []string{"report", root, "-o", "json"})
	if code != exitCheck || len(requests) != 2 || !slices.Contains(requests[0], "red.xml") || len(requests[0])+len(requests[1]) != len(files) {
		t.Errorf("exit code %d, requests %q", code, requests)
	}
	var got reportOutput
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Files) != len(files) || filepath.Base(got.Files[len(files)-1].File) != "red.xml" {
		t.Errorf("%v: files are told in another order than they were given", err)
	}
}

// An answer that is cut off is asked for again, as one that never came. What the address holds besides is told to nobody.
func TestReportAnswerCutOff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.xml")
	put(t, filepath.Dir(file), map[string]string{"a.xml": junit})
	const answer = `{"commit":"a1b2c3d","verdict":"Passed","judged":true,"gates":[]}`
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		if asked++; asked == 1 {
			_, _ = io.WriteString(w, answer[:20])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	address := server.URL
	var errOut bytes.Buffer
	w := testWorld()
	w.Err, w.Getenv = &errOut, func(name string) string {
		return map[string]string{"SIRRAT_API_URL": address, "SIRRAT_API_TOKEN": "t", "SIRRAT_PROJECT_ID": "p", "CI_COMMIT_SHA": "a1b2c3d"}[name]
	}
	if code := Main(t.Context(), w, []string{"report", file}); code != 0 || asked != 2 {
		t.Errorf("exit code %d after %d requests: %s", code, asked, errOut.String())
	}
	for _, address = range []string{"https://ci:canary@sirrat.example/api", "https://ci:canary@sirrat.example:x/api"} {
		errOut.Reset()
		if code := Main(t.Context(), w, []string{"report", file}); code != 1 || strings.Contains(errOut.String(), "canary") {
			t.Errorf("%d: %s", code, errOut.String())
		}
	}
}

// An answer that does not take the report into account yet is no pass, whatever was judged before.
func TestReportNotJudged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "junit.xml")
	put(t, filepath.Dir(file), map[string]string{"junit.xml": junit})
	for _, c := range []struct {
		judged bool
		failOn string
		want   int
	}{{true, failOnWaiting, 0}, {false, failOnWaiting, exitCheck}, {false, failOnRefused, 0}, {false, failOnNever, 0}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"commit":"a1b2c3d","verdict":"Passed","judged":%t,"gates":[]}`, c.judged)
		}))
		var out bytes.Buffer
		w := testWorld()
		w.Out, w.Err, w.Getenv = &out, &out, func(name string) string {
			return map[string]string{"SIRRAT_API_URL": server.URL, "SIRRAT_API_TOKEN": "t", "SIRRAT_PROJECT_ID": "shop"}[name]
		}
		if code := Main(t.Context(), w, []string{"report", file, "--commit", "a1b2c3d", "--fail-on", c.failOn}); code != c.want {
			t.Errorf("judged %t, --fail-on %s: exit code %d, want %d:\n%s", c.judged, c.failOn, code, c.want, out.String())
		}
		server.Close()
	}
}

// Who waits for the gate waits for these files to be judged first, as long: else the verdict may be the one of before.
func TestReportWaitsForItsJudgement(t *testing.T) {
	file := filepath.Join(t.TempDir(), "junit.xml")
	put(t, filepath.Dir(file), map[string]string{"junit.xml": junit})
	for wait, want := range map[string]string{"0s": "", "10s": "10s", "5m": "1m0s"} {
		var posted []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				posted = append(posted, r.URL.Query().Get("wait"))
			}
			fmt.Fprint(w, `{"commit":"a1b2c3d","verdict":"Passed","judged":true,"gates":[]}`)
		}))
		var out bytes.Buffer
		w := testWorld()
		w.Out, w.Err, w.Getenv = &out, &out, func(name string) string {
			return map[string]string{"SIRRAT_API_URL": server.URL, "SIRRAT_API_TOKEN": "t", "SIRRAT_PROJECT_ID": "shop"}[name]
		}
		if code := Main(t.Context(), w, []string{"report", file, "--commit", "a1b2c3d", "--wait", wait}); code != 0 || !slices.Equal(posted, []string{want}) {
			t.Errorf("--wait %s: exit code %d, posted with wait %q, want %q:\n%s", wait, code, posted, want, out.String())
		}
		server.Close()
	}
}

// What a report says that its figures do not count is told, and who is refused is called so.
func TestReportFigures(t *testing.T) {
	_, s := build(testWorld(), nil)
	r := &reports.Report{Status: v1alpha1.StatusPassed, Vulnerabilities: &v1alpha1.VulnerabilityCounts{Medium: 2}, Unrated: 1, Suppressed: 3}
	if got := s.figures(r); got != "0 critical, 0 high, 2 medium, 0 low; 1 of them of no known severity, counted as medium; 3 suppressed in the report, not counted" {
		t.Error(got)
	}
	if got := s.reportTable([]*reportFile{{File: "a.xml", Refused: "junit: it is cut off"}}); !strings.Contains(got, "refused: junit: it is cut off") {
		t.Error(got)
	}
}

// uploadsAt sends 25 MB in two files and a third small one, as fast as bytes per second says, and returns what was told.
func uploadsAt(t *testing.T, live bool, rate int) string {
	t.Helper()
	const block = 100_000
	var said strings.Builder
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := testWorld()
	w.Err, w.Now = &said, func() time.Time { return now }
	w.IsTerminal = func(any) bool { return live }
	_, s := build(w, nil)
	u := s.uploading([]uploadMark{{"first.xml", 1000, 20_001_000}, {"second\x1b[2J.json", 20_002_000, 25_002_000}, {"third.xml", 25_003_000, 25_003_100}})
	for sent := 0; sent < 25_004_000; sent += block {
		if _, err := u.Write(make([]byte, block)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Duration(block) * time.Second / time.Duration(rate))
	}
	u.end()
	if _, err := u.Write(make([]byte, block)); err != nil {
		t.Fatal(err)
	}
	return said.String()
}

// A long upload is told of, a short one is not: where lines are kept in whole lines, on a terminal in one that is drawn again.
func TestUploadIsToldOf(t *testing.T) {
	if said := uploadsAt(t, false, 100_000_000); said != "" {
		t.Errorf("of a short one: %q", said)
	}
	plain := uploadsAt(t, false, 1_000_000)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(plain), "\n"), []string{
		"sending first.xml: 1.1 MB of 20.0 MB, 1.1 MB/s",
		"sending first.xml: 11.1 MB of 20.0 MB, 1.0 MB/s",
		"sending first.xml: 20.0 MB of 20.0 MB, 1.0 MB/s",
		`sending second\x1b[2J.json: 1.1 MB of 5.0 MB, 1.0 MB/s`,
		`sending second\x1b[2J.json: 5.0 MB of 5.0 MB, 1.0 MB/s`,
	}); diff != "" {
		t.Errorf("in lines (-got +want):\n%s", diff)
	}
	if strings.ContainsAny(plain, "\r\x1b") {
		t.Errorf("control characters: %q", plain)
	}
	live := uploadsAt(t, true, 1_000_000)
	lines := strings.Split(live, "\n")
	if len(lines) < 3 || lines[len(lines)-1] != "" || strings.Contains(live, "\x1b") || strings.Count(live, "\r") < 50 {
		t.Errorf("on a terminal: %q", live)
	}
	for i, last := range []string{"first.xml: 20.0 MB of 20.0 MB", "json: 5.0 MB of 5.0 MB"} {
		drawn := strings.Split(lines[i], "\r")
		if !strings.Contains(drawn[len(drawn)-1], last) {
			t.Errorf("line %d ends as %q", i, drawn[len(drawn)-1])
		}
	}
}
