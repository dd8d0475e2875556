// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/semaphore"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/archive"
)

const (
	// What the samples of package reports name.
	sampleCommit = "8f14e45fceea167a5a36dedd4bea2543c1a2b3d4"
	sampleDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "reports", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newArchived is a bridge with an archive in a folder.
func newArchived(t testing.TB, judged bool, options ...func(*Options)) (*bridge, archive.Store) {
	t.Helper()
	dir, err := archive.OpenDirectory(t.TempDir(), func(archive.Torn) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return newBridge(t, judged, append([]func(*Options){func(o *Options) { o.Archive = dir }}, options...)...), dir
}

func (b *bridge) reportsURL(query string) string {
	return b.url + "/projects/" + b.project + "/reports?" + query
}

// upload is a file of a form.
type upload struct {
	name string
	data []byte
}

// form is a body with files, and its header.
func form(t testing.TB, field string, files ...upload) (string, http.Header) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, f := range files {
		part, err := w.CreateFormFile(field, f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return body.String(), http.Header{"Content-Type": {w.FormDataContentType()}}
}

func (b *bridge) sendFiles(query, body string, header http.Header) (int, ReportsAnswer, []byte) {
	b.t.Helper()
	status, _, raw := b.send(http.MethodPost, b.reportsURL(query), b.token, body, header)
	var answer ReportsAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		b.t.Fatalf("answer %d %q: %v", status, raw, err)
	}
	return status, answer, raw
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReportAsBody(t *testing.T) {
	b, store := newArchived(t, true)
	data := sample(t, "junit/jest-junit.xml")
	query := "commit=" + someCommit + "&pipeline=7&job=unit&run=71&branch=main"
	status, answer, raw := b.sendFiles(query, string(data), nil)
	if status != http.StatusCreated || !answer.Judged || answer.Verdict != v1alpha1.VerdictPassed || len(answer.Reports) != 1 || answer.Release == "" {
		t.Fatalf("%d %s", status, raw)
	}
	var stored v1alpha1.CIResult
	if err := b.direct.Get(t.Context(), client.ObjectKey{Namespace: b.project, Name: answer.Result}, &stored); err != nil {
		t.Fatal(err)
	}
	id, _ := apitoken.ID(b.token)
	want := v1alpha1.CIResultSpec{
		Commit: someCommit, Type: "tests", Status: "passed", Pipeline: "7", Job: "unit", Run: "71", Branch: "main", Source: id,
		Tests: &v1alpha1.TestCounts{Total: 4, Passed: 3, Skipped: 1}, Format: "junit", Producer: "jest-junit", ReportHash: reportHash(data),
	}
	if diff := cmp.Diff(want, stored.Spec, cmpopts.IgnoreFields(v1alpha1.CIResultSpec{}, "Received")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if kept, err := store.Get(t.Context(), stored.Spec.ReportHash); err != nil || !bytes.Equal(kept, data) {
		t.Errorf("the archive has %d bytes, %v", len(kept), err)
	}
	if status, again, raw := b.sendFiles(query, string(data), nil); status != http.StatusOK || again.Result != answer.Result {
		t.Errorf("again: %d %s", status, raw)
	}
	// Compressed it is the same report; the archive has both as they came.
	header := http.Header{"Content-Encoding": {"gzip"}}
	status, again, raw := b.sendFiles(query, string(zipped(t, data)), header)
	if status != http.StatusOK || again.Result != answer.Result || again.Reports[0].ReportHash != reportHash(zipped(t, data)) {
		t.Errorf("compressed: %d %s", status, raw)
	}
	// Another report of the same run contradicts it.
	status, raw = b.do(http.MethodPost, b.reportsURL(query), b.token, string(sample(t, "junit/surefire.xml")))
	b.wantProblem(status, raw, http.StatusConflict, "run")
}

// Without the name of its job a run is nobody's: the passing file of one job replaces no failing one of another.
func TestRunWithoutJobHidesNoFailure(t *testing.T) {
	b, _ := newArchived(t, true)
	body, header := form(t, "file", upload{"junit.xml", sample(t, "junit/surefire.xml")})
	if status, answer, raw := b.sendFiles("commit="+someCommit+"&pipeline=7&run=71", body, header); status != http.StatusCreated || answer.Verdict != v1alpha1.VerdictRefused {
		t.Fatalf("the job that failed: %d %s", status, raw)
	}
	body, header = form(t, "file", upload{"junit.xml", sample(t, "junit/jest-junit.xml")})
	status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit+"&pipeline=7&run=72"), b.token, body, header)
	b.wantProblem(status, raw, http.StatusConflict, "run")
	if status, answer, raw := b.sendFiles("commit="+someCommit+"&pipeline=7&run=72&job=e2e", body, header); status != http.StatusCreated || answer.Verdict != v1alpha1.VerdictRefused {
		t.Errorf("another job that passed: %d %s", status, raw)
	}
	failed := strings.Replace(result(someCommit, `"pipeline":8,"run":81`), "passed", "failed", 1)
	b.mustPost(b.results(), failed, 201)
	status, raw = b.do(http.MethodPost, b.results(), b.token, result(someCommit, `"pipeline":8,"run":82`))
	b.wantProblem(status, raw, http.StatusConflict, "run")
}

func TestReportsAsForm(t *testing.T) {
	b, store := newArchived(t, true)
	body, header := form(t, "file",
		upload{"TEST-a.xml", sample(t, "junit/jest-junit.xml")}, upload{"TEST-b.xml", zipped(t, sample(t, "junit/node-test.xml"))},
		upload{"jacoco.xml", sample(t, "jacoco/maven.xml")}, upload{"jacoco.xml", sample(t, "jacoco/aggregate.xml")},
		upload{"bom.json", sample(t, "cyclonedx/cdxgen.json")})
	query := "commit=" + someCommit + "&pipeline=7&job=build"
	status, answer, raw := b.sendFiles(query, body, header)
	if status != http.StatusCreated || !answer.Judged || answer.Verdict != v1alpha1.VerdictPassed {
		t.Fatalf("%d %s", status, raw)
	}
	got := map[string]string{}
	for _, r := range b.ciResults() {
		got[r.Spec.Job] = r.Spec.Type + " " + r.Spec.Format + " " + r.Spec.Status
		if ok, err := store.Has(t.Context(), r.Spec.ReportHash); !ok || err != nil {
			t.Errorf("%s is not in the archive: %v", r.Spec.Job, err)
		}
	}
	want := map[string]string{
		"build/TEST-a.xml": "tests junit passed", "build/TEST-b.xml": "tests junit passed", "build/jacoco.xml": "coverage jacoco passed",
		"build/jacoco.xml#2": "coverage jacoco passed", "build/bom.json": "sbom cyclonedx-json passed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if status, again, raw := b.sendFiles(query, body, header); status != http.StatusOK || len(again.Reports) != len(want) {
		t.Errorf("again: %d %s", status, raw)
	}
	if n := len(b.ciResults()); n != len(want) {
		t.Errorf("%d results after the same again", n)
	}
	header.Set("Content-Encoding", "gzip")
	if status, _, raw := b.sendFiles(query, string(zipped(t, []byte(body))), header); status != http.StatusOK {
		t.Errorf("the form compressed: %d %s", status, raw)
	}
}

// Of a request with one bad file nothing is kept.
func TestReportsAreTakenTogether(t *testing.T) {
	b, _ := newArchived(t, false)
	body, header := form(t, "file", upload{"good.xml", sample(t, "junit/jest-junit.xml")}, upload{"bad.xml", []byte(`<testsuite tests="0"/>`)})
	status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, body, header)
	if p := b.wantProblem(status, raw, http.StatusUnprocessableEntity, "file"); !strings.Contains(p.Detail, "bad.xml") || !strings.Contains(p.Detail, "no test") {
		t.Errorf("detail %q", p.Detail)
	}
	if n := len(b.ciResults()) + len(b.releases()); n > 0 {
		t.Errorf("%d objects were stored", n)
	}
}

// What speaks against the commit is stored first, wherever it is in the form: where there is a release already, a gate that is
// judged in between must not open on the rest.
func TestFailuresAreStoredFirst(t *testing.T) {
	b, _ := newArchived(t, false)
	body, header := form(t, "file", upload{"a.xml", []byte(greenReport)}, upload{"scan.json", sample(t, "trivy/image.json")}, upload{"z.xml", []byte(redReport)})
	status, answer, raw := b.sendFiles("wait=0&job=build&commit="+someCommit, body, header)
	if status != http.StatusAccepted || len(answer.Reports) != 3 || answer.Reports[0].File != "a.xml" || answer.Reports[2].Status != v1alpha1.StatusFailed {
		t.Fatalf("%d %s", status, raw)
	}
	versions := map[string]uint64{}
	for _, r := range b.ciResults() {
		n, err := strconv.ParseUint(r.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		versions[r.Spec.Job] = n
		if i := slices.IndexFunc(answer.Reports, func(a ReportAnswer) bool { return a.Result == r.Name }); i < 0 || "build/"+answer.Reports[i].File != r.Spec.Job {
			t.Errorf("%s is answered as another file", r.Spec.Job)
		}
	}
	if versions["build/z.xml"] > versions["build/a.xml"] || versions["build/scan.json"] > versions["build/a.xml"] {
		t.Errorf("stored in the order %v", versions)
	}
}

func TestBadReports(t *testing.T) {
	b, _ := newArchived(t, false)
	b.create(&v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "frozen"}, Spec: v1alpha1.ReleaseSpec{Commit: commitOf("feedc0de"),
		Images: []v1alpha1.ReleaseImage{{Name: "backend", Digest: "sha256:" + strings.Repeat("a", 64)}}}})
	good := string(sample(t, "junit/jest-junit.xml"))
	for _, tc := range []struct {
		name, query, body string
		status            int
		field             string
	}{
		{"no commit", "", good, 400, "commit"},
		{"commit that is none", "commit=main", good, 400, "commit"},
		{"unknown parameter", "commit=" + someCommit + "&pipelin=1", good, 400, "pipelin"},
		{"parameter twice", "commit=" + someCommit + "&job=a&job=b", good, 400, "job"},
		{"bad pipeline", "commit=" + someCommit + "&pipeline=%3Bls", good, 400, "pipeline"},
		{"bad branch", "commit=" + someCommit + "&branch=-x", good, 400, "branch"},
		{"bad url", "commit=" + someCommit + "&url=javascript:x", good, 400, "url"},
		{"bad wait", "commit=" + someCommit + "&wait=1h", good, 400, "wait"},
		{"reserved type", "commit=" + someCommit + "&type=deployment", good, 400, "type"},
		{"type that nothing declares", "commit=" + someCommit + "&type=tets", good, 400, "type"},
		{"tests called a scan", "commit=" + someCommit + "&type=scan", good, 422, "type"},
		{"empty body", "commit=" + someCommit, "", 400, ""},
		{"no report", "commit=" + someCommit, "hello", 422, "file"},
		{"cut off", "commit=" + someCommit, good[:len(good)-20], 422, "file"},
		{"another commit", "commit=" + someCommit, string(sample(t, "sarif/codeql.sarif")), 422, "commit"},
		{"another image", "commit=" + commitOf("feedc0de"), string(sample(t, "trivy/image.json")), 422, "file"},
		{"another image, in SARIF", "commit=" + commitOf("feedc0de"), string(sample(t, "sarif/trivy.sarif")), 422, "file"},
		{"cut-off gzip", "commit=" + someCommit, string(zipped(t, []byte(good))[:60]), 422, "file"},
		{"gzip in gzip", "commit=" + someCommit, string(zipped(t, zipped(t, []byte(good)))), 422, "file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, _, raw := b.send(http.MethodPost, b.reportsURL(tc.query), b.token, tc.body, nil)
			b.wantProblem(status, raw, tc.status, tc.field)
		})
	}
	body, header := form(t, "report", upload{"a.xml", []byte(good)})
	status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, body, header)
	b.wantProblem(status, raw, http.StatusBadRequest, "report")
	body, header = form(t, "file")
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, body, header)
	b.wantProblem(status, raw, http.StatusBadRequest, "file")
	body, header = form(t, "file", slices.Repeat([]upload{{"a.xml", []byte(good)}}, maxFiles+1)...)
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, body, header)
	b.wantProblem(status, raw, http.StatusBadRequest, "file")
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, good, http.Header{"Content-Encoding": {"br"}})
	b.wantProblem(status, raw, http.StatusUnsupportedMediaType, "")
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, good, http.Header{"Content-Encoding": {"gzip"}})
	b.wantProblem(status, raw, http.StatusUnprocessableEntity, "file")
	body, header = form(t, "file", upload{"a.xml", []byte(good)})
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit+"&job="+strings.Repeat("j", maxFormJob+1)), b.token, body, header)
	b.wantProblem(status, raw, http.StatusBadRequest, "job")
	if n := len(b.ciResults()); n > 0 {
		t.Errorf("%d results were stored", n)
	}
}

// The longest job with the longest name of a file is a job still.
func TestLongJob(t *testing.T) {
	b, _ := newArchived(t, false)
	name := strings.Repeat("f", 200)
	good := sample(t, "junit/jest-junit.xml")
	body, header := form(t, "file", slices.Repeat([]upload{{name, good}}, 11)...)
	status, answer, raw := b.sendFiles("wait=0&commit="+someCommit+"&job="+strings.Repeat("j", maxFormJob), body, header)
	if status != http.StatusAccepted || len(answer.Reports) != 11 {
		t.Errorf("%d %s", status, raw)
	}
}

// Of reports that are read, and of their bytes in memory, there are so many at a time and no more.
func TestReportsAreBounded(t *testing.T) {
	b, _ := newArchived(t, false, func(o *Options) { o.StoreTimeout = 2 * time.Second })
	good := string(sample(t, "junit/jest-junit.xml"))
	if err := b.api.reportRoom.Acquire(t.Context(), maxReportMemory); err != nil {
		t.Fatal(err)
	}
	status, header, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, good, nil)
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	if header.Get("Retry-After") == "" {
		t.Error("no room: no Retry-After")
	}
	b.api.reportRoom.Release(maxReportMemory)
	for range maxReadings {
		b.api.readings <- struct{}{}
	}
	status, header, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, good, nil)
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	<-b.api.readings
	if status, _, raw := b.sendFiles("wait=0&commit="+someCommit, good, nil); status != http.StatusAccepted {
		t.Errorf("with room again: %d %s", status, raw)
	}
}

// A report counts for its own commit and image, given in any way.
func TestReportNamesWhatItIsAbout(t *testing.T) {
	b, _ := newArchived(t, false)
	if status, _, raw := b.sendFiles("wait=0&commit="+sampleCommit[:8], string(sample(t, "sarif/codeql.sarif")), nil); status != http.StatusAccepted {
		t.Errorf("abbreviated commit: %d %s", status, raw)
	}
	b.create(&v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "frozen"}, Spec: v1alpha1.ReleaseSpec{Commit: commitOf("feedc0de"),
		Images: []v1alpha1.ReleaseImage{{Name: "backend", Digest: sampleDigest}}}})
	status, answer, raw := b.sendFiles("wait=0&commit="+commitOf("feedc0de"), string(sample(t, "trivy/image.json")), nil)
	if status != http.StatusAccepted || answer.Reports[0].Digest != sampleDigest {
		t.Errorf("image of the release: %d %s", status, raw)
	}
	// Figures too: a failure about an image that nobody releases would be left out without a word.
	figures := `{"type":"scan","status":"failed","pipeline":2,"commit":"` + commitOf("feedc0de") + `","digest":"%s"}`
	status, raw = b.do(http.MethodPost, b.results(), b.token, fmt.Sprintf(figures, "sha256:"+strings.Repeat("b", 64)))
	b.wantProblem(status, raw, http.StatusUnprocessableEntity, "digest")
	b.mustPost(b.results()+"?wait=0", fmt.Sprintf(figures, sampleDigest), http.StatusAccepted)
	status, answer, raw = b.sendFiles("wait=0&commit="+someCommit, string(sample(t, "trivy/image.json")), nil)
	if status != http.StatusAccepted || answer.Reports[0].Digest != sampleDigest {
		t.Errorf("image of no release yet: %d %s", status, raw)
	}
}

// A gigabyte of zeros is a megabyte of gzip; so is what a body may be at most. Neither is read to its end.
func TestGzipBomb(t *testing.T) {
	b, _ := newArchived(t, false)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	for _, r := range []io.Reader{strings.NewReader("<testsuite>"), io.LimitReader(&endlessBlanks{}, 1<<30)} {
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	peak := heapGrowth()
	for name, header := range map[string]http.Header{"file": nil, "body": {"Content-Encoding": {"gzip"}}} {
		start := time.Now()
		status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, bomb.String(), header)
		b.wantProblem(status, raw, http.StatusRequestEntityTooLarge, "file")
		t.Logf("%s: %d bytes refused after %s: %s", name, bomb.Len(), time.Since(start), raw)
	}
	if grown := peak(); grown > MaxReports {
		t.Errorf("the heap grew by %d bytes", grown)
	} else {
		t.Logf("the heap grew by %.1f MB at most, client included", float64(grown)/1e6)
	}
	body, header := form(t, "file", upload{"bomb.xml", bytes.Repeat([]byte(" "), MaxReports+1)})
	header.Set("Content-Encoding", "gzip")
	status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, string(zipped(t, []byte(body))), header)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("a form that unpacks to more: %d %s", status, raw)
	}
	// More than a body may be.
	status, _, raw = b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, strings.Repeat(" ", MaxReports+1), nil)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d %s", status, raw)
	}
}

// heapGrowth looks at the heap until the function it returns is called, which says by how many bytes it grew at most.
func heapGrowth() func() int64 {
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	idle, peak := now.HeapAlloc, now.HeapAlloc
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc)
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-stopped
		return int64(peak - idle)
	}
}

type endlessBlanks struct{}

func (*endlessBlanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// brokenArchive takes nothing.
type brokenArchive struct{}

func (brokenArchive) Put(context.Context, []byte) (string, error) { return "", errors.New("disk full") }

// Without an archive, or with one that fails, nothing is acknowledged and nothing stored.
func TestReportsNeedTheArchive(t *testing.T) {
	good := string(sample(t, "junit/jest-junit.xml"))
	for name, put := range map[string]Archive{"none": nil, "broken": brokenArchive{}} {
		b := newBridge(t, false, func(o *Options) { o.Archive = put })
		status, header, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), b.token, good, nil)
		b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
		if header.Get("Retry-After") == "" || len(b.ciResults()) > 0 {
			t.Errorf("%s: Retry-After %q, %d results", name, header.Get("Retry-After"), len(b.ciResults()))
		}
	}
}

// The token of another project, or of another scope, opens nothing.
func TestReportsNeedTheToken(t *testing.T) {
	b, _ := newArchived(t, false)
	other, _ := newArchived(t, false)
	for token, want := range map[string]int{"": 401, other.token: 403} {
		status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit), token, string(sample(t, "junit/jest-junit.xml")), nil)
		if status != want {
			t.Errorf("%d %s, want %d", status, raw, want)
		}
	}
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"TEST-a.xml": "TEST-a.xml", "": "file", "a\x1b[31m\u202e.xml": "a_[31m_.xml", "\xff": "_",
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q is called %q, want %q", name, got, want)
		}
	}
	if got := safeName(strings.Repeat("é", 5<<20) + ".xml"); len(got) > maxFileName || !strings.HasSuffix(got, ".xml") {
		t.Errorf("a long name is %d bytes: %s", len(got), got)
	}
}

// BenchmarkReports posts files over HTTP to an API with an archive on the real control plane, and prints how many were
// acknowledged in a second.
//
//	go test -run '^$' -bench Reports -benchtime 5s ./internal/ingest
func BenchmarkReports(b *testing.B) {
	br, _ := newArchived(b, false, func(o *Options) { o.Log = o.Log.V(10) })
	var next atomic.Int64
	report := sample(b, "junit/surefire.xml")
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := next.Add(1)
			body := strings.Replace(string(report), "placesAnOrder", fmt.Sprint("places", n), 1)
			query := url.Values{"wait": {"0"}, "commit": {fmt.Sprintf("%07x%033d", n/10, 0)}, "pipeline": {fmt.Sprint(n)}}
			if status, raw := br.do(http.MethodPost, br.reportsURL(query.Encode()), br.token, body); status != http.StatusAccepted {
				b.Errorf("%d %s", status, raw)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}

// TestRoomForPacked: a compressed form takes the room of what it may unpack to, however small it is on the way.
func TestRoomForPacked(t *testing.T) {
	a := &api{reportRoom: semaphore.NewWeighted(maxReportMemory)}
	for range maxReportMemory / MaxReports {
		if _, err := a.roomFor(t.Context(), 10, true); err != nil {
			t.Fatal(err)
		}
	}
	if a.reportRoom.TryAcquire(1) {
		t.Error("there is room for more than the bound")
	}
}

// TestContradictionHidesNothing: a file that its run may not take back does not keep the others of its request from being stored.
func TestContradictionHidesNothing(t *testing.T) {
	b, _ := newArchived(t, true)
	send := func(want int, uploads ...upload) {
		t.Helper()
		body, header := form(t, "file", uploads...)
		status, _, raw := b.send(http.MethodPost, b.reportsURL("commit="+someCommit+"&pipeline=1&job=unit&run=1"), b.token, body, header)
		if status != want {
			t.Errorf("%d, want %d: %s", status, want, raw)
		}
	}
	send(http.StatusCreated, upload{"a.xml", []byte(greenReport)})
	other := strings.NewReplacer(`tests="1"`, `tests="2"`, "<testcase", "<testcase/><testcase").Replace(greenReport)
	send(http.StatusConflict, upload{"a.xml", []byte(other)}, upload{"b.xml", []byte(redReport)})
	got := map[string]string{}
	for _, r := range b.ciResults() {
		got[r.Spec.Job] = r.Spec.Status
	}
	if diff := cmp.Diff(map[string]string{"unit/a.xml": "passed", "unit/b.xml": "failed"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
