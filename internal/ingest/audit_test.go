// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// proven is a bridge with an archive and a journal.
type proven struct {
	*bridge
	uid     string
	audit   string // a token
	journal *journal.Journal
	store   *counting
	exports string
}

// counting counts what is put into an archive.
type counting struct {
	archive.Store
	puts atomic.Int64
}

func (c *counting) Put(ctx context.Context, data []byte) (string, error) {
	c.puts.Add(1)
	return c.Store.Put(ctx, data)
}

func newProven(t *testing.T, options ...func(*Options)) *proven {
	t.Helper()
	dir, err := archive.OpenDirectory(t.TempDir(), func(archive.Torn) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	signer, _, pemText, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(pemText))
	if err != nil {
		t.Fatal(err)
	}
	p := &proven{store: &counting{Store: dir}, exports: t.TempDir()}
	if p.journal, err = journal.Open(dir, signer, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	p.bridge = newBridge(t, false, append([]func(*Options){func(o *Options) {
		o.Journal, o.Archive, o.Keys, o.ExportDir = p.journal, p.store, func() map[string]string { return map[string]string{public.ID: string(pemText)} }, p.exports
	}}, options...)...)
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: p.project}}
	project.Spec.Images = []v1alpha1.ProjectImage{{Name: "backend", Repository: "harbor.example/shop/backend"}}
	project.Spec.Client.PublicKeys = []string{string(pemText), "not a key"}
	if err := p.direct.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.direct.Delete(context.Background(), project) })
	p.uid = string(project.UID)
	p.audit = p.scoped(apitoken.ScopeAudit)
	return p
}

func (p *proven) scoped(scope apitoken.Scope) string {
	p.t.Helper()
	plaintext, secret, err := apitoken.NewScoped(p.project, scope, "test", time.Time{})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.direct.Create(p.t.Context(), secret); err != nil {
		p.t.Fatal(err)
	}
	return plaintext
}

func (p *proven) record(n int) {
	p.t.Helper()
	for i := range n {
		err := p.journal.Append(p.t.Context(), journal.Fact{
			Project: p.project, ProjectUID: p.uid, Kind: journal.KindVerdict, Subject: fmt.Sprint("verdict/", i), Data: map[string]any{"n": i},
			Blobs: []journal.Blob{{Name: "report", Data: fmt.Append(nil, "report ", i)}},
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *proven) entries(query string) string {
	return p.url + "/projects/" + p.project + "/audit/entries" + query
}
func (p *proven) export() string { return p.url + "/projects/" + p.project + "/audit/export" }

func TestAuditEntries(t *testing.T) {
	p := newProven(t)
	if status, raw := p.do(http.MethodGet, p.entries(""), p.audit, ""); status != 200 || len(raw) > 0 {
		t.Errorf("an empty journal: %d %q", status, raw)
	}
	p.record(5)
	status, header, raw := p.send(http.MethodGet, p.entries(""), p.audit, "", nil)
	if status != 200 || header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", status, header)
	}
	seq, hash := int64(0), journal.Genesis(p.uid)
	for line := range strings.Lines(string(raw)) {
		e, err := journal.ParseLine([]byte(strings.TrimSuffix(line, "\n")))
		if err == nil {
			err = journal.Follow(e, p.uid, seq, hash)
		}
		if err != nil {
			t.Fatal(err)
		}
		seq, hash = e.Seq, e.Hash
	}
	if seq != 5 {
		t.Errorf("%d entries", seq)
	}
	all := strings.SplitAfter(string(raw), "\n")
	for query, want := range map[string]string{
		"?from=4": all[3] + all[4], "?from=2&limit=2": all[1] + all[2], "?from=6": "", "?limit=1": all[0],
	} {
		if status, got := p.do(http.MethodGet, p.entries(query), p.audit, ""); status != 200 || string(got) != want {
			t.Errorf("%s: %d %q, want %q", query, status, got, want)
		}
	}
	for query, field := range map[string]string{"?from=0": "from", "?from=x": "from", "?limit=-1": "limit", "?from=99999999999999999999": "from"} {
		status, raw := p.do(http.MethodGet, p.entries(query), p.audit, "")
		p.wantProblem(status, raw, 400, field)
	}
}

// What opens the journal reports nothing, what reports opens no journal, and neither opens another project's.
func TestAuditScope(t *testing.T) {
	p, other := newProven(t), newProven(t)
	p.record(1)
	type answer struct {
		Status int
		Body   string
	}
	ask := func(method, url, token string) answer {
		status, raw := p.do(method, url, token, map[bool]string{true: result(someCommit, "")}[method == http.MethodPost])
		return answer{status, string(raw)}
	}
	wrong := p.audit[:len(p.audit)-1] + "z"
	for _, path := range []string{p.entries(""), p.export()} {
		if got := ask(http.MethodGet, path, ""); got.Status != 401 {
			t.Errorf("without a token: %+v", got)
		}
		want := ask(http.MethodGet, path, wrong)
		if want.Status != 403 {
			t.Errorf("wrong secret: %+v", want)
		}
		for name, token := range map[string]string{"a pipeline's token": p.token, "another project's": other.audit} {
			if diff := cmp.Diff(want, ask(http.MethodGet, path, token)); diff != "" {
				t.Errorf("%s differs from a wrong secret: %s", name, diff)
			}
		}
	}
	want := ask(http.MethodPost, p.results(), wrong)
	if diff := cmp.Diff(want, ask(http.MethodPost, p.results(), p.audit)); diff != "" || want.Status != 403 {
		t.Errorf("an audit token reports: %s", diff)
	}
	if got := ask(http.MethodGet, p.gates("commit="+someCommit), p.audit); got.Status != 403 {
		t.Errorf("an audit token reads verdicts: %+v", got)
	}
}

func TestAuditExport(t *testing.T) {
	p := newProven(t)
	status, raw := p.do(http.MethodGet, p.export(), p.audit, "")
	p.wantProblem(status, raw, 404, "")
	p.record(3)
	status, header, raw := p.send(http.MethodGet, p.export(), p.audit, "", nil)
	if status != 200 || header.Get("Content-Type") != "application/x-tar" {
		t.Fatalf("%d %v", status, header)
	}
	dir := t.TempDir()
	files := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			t.Fatalf("%+v, %v", h, err)
		}
		data, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, h.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := journal.Verify(dir, journal.Trust{})
	if err != nil || !r.OK() || r.Entries != 3 || r.Documents != 3 || r.ProjectUID != p.uid {
		t.Errorf("%+v, %v", r, err)
	}
	if left, _ := os.ReadDir(p.exports); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A journal that breaks on the way is not sent as if it were whole.
func TestBrokenJournalIsCutOff(t *testing.T) {
	for _, n := range []int{0, 2000} {
		broken := &brokenJournal{after: n}
		p := newProven(t, func(o *Options) { broken.Journal, o.Journal = o.Journal, broken })
		p.record(1)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.entries(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+p.audit)
		resp, err := testClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if n == 0 {
			p.wantProblem(resp.StatusCode, raw, 500, "")
		} else if err == nil {
			t.Errorf("a broken journal of %d bytes ended well, status %d", len(raw), resp.StatusCode)
		}
		if strings.Contains(string(raw), "the cause") {
			t.Error("the cause is told to the client")
		}
	}
}

// brokenJournal repeats its first entry, then fails.
type brokenJournal struct {
	Journal
	after int
}

func (b *brokenJournal) Entries(ctx context.Context, uid string, _ int64) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for e, err := range b.Journal.Entries(ctx, uid, 1) {
			for range b.after {
				if !yield(e, err) {
					return
				}
			}
		}
		yield(journal.Entry{}, errors.New("the cause"))
	}
}

func TestOneExportAtATime(t *testing.T) {
	slow := &slowExport{begun: make(chan struct{}), end: make(chan struct{})}
	p := newProven(t, func(o *Options) { slow.Journal, o.Journal = o.Journal, slow })
	p.record(1)
	done := make(chan int)
	go func() {
		status, _ := p.do(http.MethodGet, p.export(), p.audit, "")
		done <- status
	}()
	<-slow.begun
	status, header, raw := p.send(http.MethodGet, p.export(), p.audit, "", nil)
	p.wantProblem(status, raw, 503, "")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(slow.end)
	if status := <-done; status != 200 {
		t.Errorf("the first: %d", status)
	}
}

type slowExport struct {
	Journal
	begun, end chan struct{}
}

func (s *slowExport) Export(ctx context.Context, uid, dir string, keys map[string]string, clientKeys []string) error {
	close(s.begun)
	<-s.end
	return s.Journal.Export(ctx, uid, dir, keys, clientKeys)
}

func TestWithoutJournalAndArchive(t *testing.T) {
	p := newProven(t, func(o *Options) { o.Journal, o.Archive = nil, nil })
	status, raw := p.do(http.MethodGet, p.entries(""), p.audit, "")
	p.wantProblem(status, raw, 503, "")
	status, raw = p.do(http.MethodPut, p.scan("a1b2c3d"), "", pdf("x"))
	p.wantProblem(status, raw, 503, "")
}

func pdf(text string) string { return "%PDF-1.7\n" + text }

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (p *proven) scan(name string) string {
	return p.url + "/projects/" + p.project + "/pvs/" + name + "/scan"
}

// pv makes a PV whose paper has this scan; none if scan is empty.
func (p *proven) pv(name, scan string) *v1alpha1.PV {
	p.t.Helper()
	pv := &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.PVSpec{
			Release:     v1alpha1.PVRelease{Name: name, UID: "5a4f", Commit: someCommit, BundleHash: hashed("x"), AuthorizedAt: metav1.NowMicro()},
			Environment: "rmoa-client", Client: "Client SARL", Document: "{}", DocumentHash: hashed("{}"),
		},
	}
	if scan != "" {
		pv.Spec.Paper = &v1alpha1.PaperPV{Decision: v1alpha1.PVAccepted, SignedBy: "C", SignedOn: "2026-11-20", ScanHash: hashed(scan), UploadedBy: "qa"}
	}
	p.create(pv)
	return pv
}

func (p *proven) decide(pv *v1alpha1.PV) {
	p.t.Helper()
	now := metav1.Now()
	pv.Status.Decision, pv.Status.SignedAt, pv.Status.SignatureHash = v1alpha1.PVAccepted, &now, hashed("x")
	if err := p.direct.Status().Update(p.t.Context(), pv); err != nil {
		p.t.Fatal(err)
	}
}

func TestScan(t *testing.T) {
	p := newProven(t)
	for name, scan := range map[string]string{"pdf": pdf("scan"), "jpeg": "\xff\xd8\xff\xe0 scan", "png": "\x89PNG\r\n\x1a\n scan"} {
		p.pv(name, scan)
		for range 2 { // sending it again changes nothing
			status, raw := p.do(http.MethodPut, p.scan(name), "", scan)
			if status != 200 || !strings.Contains(string(raw), hashed(scan)) {
				t.Fatalf("%s: %d %s", name, status, raw)
			}
		}
		if data, err := p.store.Get(t.Context(), hashed(scan)); err != nil || string(data) != scan {
			t.Errorf("stored: %q, %v", data, err)
		}
	}
	// In chunks, with whatever Content-Type.
	p.pv("chunks", pdf("chunks"))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, p.scan("chunks"), io.MultiReader(strings.NewReader(pdf("chunks"))))
	req.Header.Set("Content-Type", "text/html")
	if resp, err := testClient.Do(req); err != nil || resp.StatusCode != 200 {
		t.Errorf("in chunks: %v, %v", resp, err)
	}
	if logs, err := p.store.Logs(t.Context()); err != nil || len(logs) > 0 {
		t.Errorf("something else was stored: %v, %v", logs, err)
	}
}

// Whoever does not have the file learns nothing: not from the answer, not from the work done.
func TestScansThatNobodyWaitsFor(t *testing.T) {
	var reads atomic.Int64
	p := newProven(t, func(o *Options) {
		o.APIReader = intercept(t, o.APIReader.(client.Client), interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
				reads.Add(1)
				return c.Get(ctx, key, obj, opts...)
			},
		})
	})
	p.pv("unannounced", "")
	p.pv("announced", pdf("right"))
	p.decide(p.pv("decided", pdf("decided")))
	signed := p.pv("signed", pdf("right"))
	signed.Spec.Signature = "{}"
	if err := p.direct.Update(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Status int
		Header http.Header
		Body   string
		Reads  int64
	}
	ask := func(project, name, body string) answer {
		before := reads.Load()
		status, header, raw := p.send(http.MethodPut, p.url+"/projects/"+project+"/pvs/"+name+"/scan", "", body, nil)
		header.Del("Date")
		return answer{status, header, string(raw), reads.Load() - before}
	}
	want := ask(p.project, "nothing", pdf("wrong"))
	if want.Status != 404 || want.Reads != 2 {
		t.Errorf("no such PV: %+v", want)
	}
	for name, got := range map[string]answer{
		"not announced":   ask(p.project, "unannounced", pdf("wrong")),
		"another scan":    ask(p.project, "announced", pdf("wrong")),
		"decided":         ask(p.project, "decided", pdf("wrong")),
		"signed":          ask(p.project, "signed", pdf("wrong")),
		"another project": ask("no-such-project", "announced", pdf("wrong")),
	} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from no such PV (-want +got):\n%s", name, diff)
		}
	}
	for name, path := range map[string][2]string{"impossible PV": {p.project, "No..Such%2FPV"}, "impossible project": {"..%2f..", "announced"}} {
		got := ask(path[0], path[1], pdf("wrong"))
		got.Reads = want.Reads // such names reach no API server
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", name, diff)
		}
	}
	if got := ask(p.project, "signed", pdf("right")); got.Status != 404 {
		t.Errorf("a PV that is being signed otherwise: %+v", got)
	}
	if got := ask(p.project, "decided", pdf("decided")); got.Status != 409 {
		t.Errorf("the right scan of a decided PV: %+v", got)
	}
	notAScan := ask(p.project, "announced", "MZ not a scan")
	if other := ask(p.project, "nothing", "MZ not a scan"); notAScan.Status != 422 || other.Status != 422 || other.Body != notAScan.Body {
		t.Errorf("not a scan: %+v, %+v", notAScan, other)
	}
	p.pv("program", "MZ a program")
	if got := ask(p.project, "program", "MZ a program"); got.Status != 422 {
		t.Errorf("a program that was announced: %+v", got)
	}
	if n := p.store.puts.Load(); n != 0 {
		t.Errorf("%d files were stored", n)
	}
}

func TestScanIsBounded(t *testing.T) {
	p := newProven(t, func(o *Options) { o.ScanTimeout = 300 * time.Millisecond })
	p.pv("announced", pdf("right"))
	for _, name := range []string{"announced", "nothing"} {
		path := strings.TrimPrefix(p.scan(name), "http://"+strings.Split(p.url, "/")[2])
		conn := p.dial()
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path, MaxScan+1)
		p.wantRaw(conn, http.StatusRequestEntityTooLarge)
		for what, head := range map[string]string{"with a length": "Content-Length: 100\r\n\r\n%PDF", "in chunks": "Transfer-Encoding: chunked\r\n\r\n1\r\n%\r\n"} {
			conn := p.dial()
			start := time.Now()
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\n%s", path, head)
			p.wantRaw(conn, http.StatusRequestTimeout)
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%s: after %s", what, d)
			}
		}
		status, raw := p.do(http.MethodPut, p.scan(name), "", "")
		p.wantProblem(status, raw, 400, "")
		status, _, raw = p.send(http.MethodPut, p.scan(name), "", pdf("right"), http.Header{"Content-Encoding": {"gzip"}})
		p.wantProblem(status, raw, 415, "")
		status, _, raw = p.send(http.MethodPut, p.scan(name), "", pdf("right"), http.Header{"Sec-Fetch-Site": {"cross-site"}})
		p.wantProblem(status, raw, 403, "")
	}
	p = newProven(t)
	p.pv("announced", pdf("right"))
	for _, name := range []string{"announced", "nothing"} {
		body := &endless{}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, p.scan(name), body)
		if resp, err := testClient.Do(req); err == nil { // the server may also have closed the connection while the client was writing
			raw, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			p.wantProblem(resp.StatusCode, raw, http.StatusRequestEntityTooLarge, "")
		}
		if n := body.read.Load(); n > 2*MaxScan {
			t.Errorf("%d bytes were taken", n)
		}
	}
	if n := p.store.puts.Load(); n != 0 {
		t.Errorf("%d files were stored", n)
	}
}

// Requests that need no token leave room for the others.
func TestTrickledScansDoNotBlock(t *testing.T) {
	p := newProven(t)
	path := strings.TrimPrefix(p.scan("nothing"), "http://"+strings.Split(p.url, "/")[2])
	trickle := func() {
		fmt.Fprintf(p.dial(), "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n%%PDF", path)
	}
	for range maxScans {
		trickle()
	}
	cptest.Wait(t, "the room for scans to be taken", func(context.Context) error {
		if status, raw := p.do(http.MethodPut, p.scan("nothing"), "", pdf("x")); status != http.StatusServiceUnavailable || !strings.Contains(string(raw), "too many scans") {
			trickle() // one was turned away: it came while this loop asked, or the store was busy
			return fmt.Errorf("status %d %s", status, raw)
		}
		return nil
	})
	if status, raw := p.do(http.MethodGet, p.gates("commit="+someCommit), p.token, ""); status != 404 {
		t.Errorf("a pipeline is answered with %d %s", status, raw)
	}
}
