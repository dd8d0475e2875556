// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/reports"
)

const (
	// MaxReports bounds the files of one request together, in bytes as they are sent. They may be compressed.
	MaxReports = 32 << 20
	// maxUnpacked bounds what a compressed file may unpack to, in bytes, and maxRatio how many times its own size that may be
	// once it is more than ratioFrom. The log of a test shrinks to a fiftieth; a thousandth is what gzip can do at most.
	maxUnpacked = 512 << 20
	maxRatio    = 200
	ratioFrom   = 1 << 20
	// maxFiles bounds the files of one request: each is a CIResult.
	maxFiles = 256
	// maxFileName is the longest name of a file that is kept, in bytes: its end. The job before it may have the rest.
	maxFileName = 120
	maxFormJob  = maxBranch - maxFileName - len("/#256")
	// maxReadings bounds the requests whose files are read at a time: what tells apart the lines of a coverage report takes
	// up to 50 MB.
	maxReadings = 4
	// maxReportMemory bounds the files that are in memory at a time, of all requests, in bytes.
	maxReportMemory = 4 * MaxReports
)

// fileField is the field of a form in which files come.
const fileField = "file"

// ReportsAnswer is the body of a 2xx answer to files. Its result is that of the first.
type ReportsAnswer struct {
	Answer
	// What was read of each file, in their order.
	Reports []ReportAnswer `json:"reports"`
}

// ReportAnswer is what was read of a file.
type ReportAnswer struct {
	// Name of the file in the form; absent when the file was the body.
	File string `json:"file,omitempty"`
	// Name of the CIResult.
	Result string `json:"result"`
	// sha256 of the file as received, by which the archive has it.
	ReportHash string `json:"reportHash"`
	// Format and producer, as found in the file.
	Format   string `json:"format"`
	Producer string `json:"producer,omitempty"`
	// Type under which it counts, and status.
	Type   string `json:"type"`
	Status string `json:"status"`
	// The figures.
	Tests           *v1alpha1.TestCounts          `json:"tests,omitempty"`
	Coverage        *float64                      `json:"coverage,omitempty"`
	CoverageBase    *int32                        `json:"coverageBase,omitempty"`
	Vulnerabilities *v1alpha1.VulnerabilityCounts `json:"vulnerabilities,omitempty"`
	Digest          string                        `json:"digest,omitempty"`
}

// file is one report of a request.
type file struct {
	name string // "" for a body that is the file
	data []byte
	rep  reports.Report
	spec v1alpha1.CIResultSpec
}

// refused is the problem of a file that is not taken.
func (f *file) refused(kind, title, field, detail string) *Problem {
	if f.name != "" {
		detail = clip(f.name) + ": " + detail
	}
	return fields(http.StatusUnprocessableEntity, kind, title, []FieldError{{field, detail}})
}

// postReports stores what the files of a pipeline's tools say about a commit: all of them, or none.
func (a *api) postReports(w http.ResponseWriter, r *http.Request, c caller) error {
	if a.o.Archive == nil {
		return unavailable("this server has no archive", time.Minute, nil)
	}
	wait, err := waitParameter(r, a.o.Wait)
	if err != nil {
		return err
	}
	about, errs := decodeReportQuery(r.URL.Query())
	if len(errs) > 0 {
		return invalid(errs)
	}
	if err := c.vouch(&about, "commit"); err != nil {
		return err
	}
	release, err := a.roomFor(r.Context(), r.ContentLength, isGzip(r.Header))
	if err != nil {
		return err
	}
	defer release()
	files, err := a.readFiles(w, r, wait)
	if err != nil {
		return err
	}
	if err := a.readAll(r.Context(), files, about); err != nil {
		return err
	}
	stored, err := a.storeReports(r.Context(), c, files)
	if err != nil {
		return err
	}
	for _, f := range files {
		f.data = nil
	}
	release() // before the wait for a verdict
	a.answerReports(w, r, c.project, stored, files, wait)
	return nil
}

// readAll reads the files in their turn.
func (a *api) readAll(ctx context.Context, files []*file, about v1alpha1.CIResultSpec) error {
	if files[0].name != "" && len(about.Job) > maxFormJob {
		return invalid([]FieldError{{"job", fmt.Sprintf("must be at most %d bytes where files come in a form", maxFormJob)}})
	}
	ctx, cancel := context.WithTimeout(ctx, a.o.StoreTimeout)
	defer cancel()
	select {
	case a.readings <- struct{}{}:
		defer func() { <-a.readings }()
	case <-ctx.Done():
		return unavailable("too many reports at a time", 5*time.Second, nil)
	}
	for _, f := range files {
		if err := f.read(about); err != nil {
			return err
		}
	}
	nameJobs(files, about.Job)
	return nil
}

// reportParameters are the parameters of the query.
var reportParameters = []string{"commit", "type", "pipeline", "job", "run", "branch", "url", "wait"}

// decodeReportQuery reads what the query says of all files: a CIResult's spec without figures. The type may be empty, the
// commit short.
func decodeReportQuery(q url.Values) (v1alpha1.CIResultSpec, []FieldError) {
	c := &checker{}
	for name, values := range q {
		switch {
		case !slices.Contains(reportParameters, name):
			c.add(clip(name), "is not a known parameter")
		case len(values) > 1:
			c.add(name, "is given twice")
		}
	}
	slices.SortFunc(c.errs, func(a, b FieldError) int { return strings.Compare(a.Field, b.Field) })
	spec := v1alpha1.CIResultSpec{
		Commit:   c.commit("commit", q.Get("commit")),
		Branch:   c.branch(q.Get("branch")),
		Pipeline: c.idText("pipeline", q.Get("pipeline")),
		Job:      c.job(q.Get("job")),
		Run:      c.idText("run", q.Get("run")),
		URL:      c.url(q.Get("url")),
	}
	if q.Has("type") {
		spec.Type = c.resultType(q.Get("type"))
	}
	return spec, c.errs
}

// roomFor waits until there is memory for a body of that length, and returns what gives it back.
func (a *api) roomFor(ctx context.Context, length int64, packed bool) (release func(), err error) {
	if length < 0 || length > MaxReports || packed { // unknown, about to be refused, or what the form unpacks to is
		length = MaxReports
	}
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	if err := a.reportRoom.Acquire(ctx, length); err != nil {
		p := unavailable("too many reports at a time", 5*time.Second, nil)
		p.closing = true
		return nil, p
	}
	return sync.OnceFunc(func() { a.reportRoom.Release(length) }), nil
}

// readFiles reads the body: a form with files, or a file.
func (a *api) readFiles(w http.ResponseWriter, r *http.Request, wait time.Duration) ([]*file, error) {
	rc, start := http.NewResponseController(w), time.Now()
	_ = rc.SetReadDeadline(start.Add(a.o.ScanTimeout))
	_ = rc.SetWriteDeadline(start.Add(a.o.ScanTimeout + 2*(slotTimeout+a.o.StoreTimeout) + wait + stallTimeout))
	l := bodyLimit{size: MaxReports, time: a.o.ScanTimeout, what: "compress the files with gzip, or send them in several requests", send: "report", gzip: true}
	if err := l.check(r); err != nil {
		return nil, err
	}
	packed := isGzip(r.Header)
	body := &counted{r: http.MaxBytesReader(w, r.Body, MaxReports)}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var files []*file
	if err == nil && kind == "multipart/form-data" {
		var parts io.Reader = body
		if packed {
			parts = &unpacker{in: body, size: func() int64 { return body.n }, limit: MaxReports}
		}
		files, err = readForm(multipart.NewReader(parts, params["boundary"]))
	} else {
		f := &file{}
		f.data, err = io.ReadAll(body)
		if files = []*file{f}; err == nil && packed && !bytes.HasPrefix(f.data, gzipMagic) {
			return nil, f.refused("not-a-report", notAReport, fileField, "it is not compressed with gzip, though Content-Encoding says so")
		}
	}
	var p *Problem
	if errors.As(err, &p) {
		return nil, p
	}
	if err := l.problem(body.n, err); err != nil {
		return nil, err
	}
	_ = rc.SetReadDeadline(time.Time{}) // the wait for a verdict may last longer than the body might
	return files, nil
}

// readForm reads the files of a form; any other field is refused.
func readForm(form *multipart.Reader) (files []*file, err error) {
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if name := part.FormName(); name != fileField {
			return nil, invalid([]FieldError{{clip(name), "is not a known field: send files as " + fileField + ", and everything else in the query"}})
		}
		if len(files) == maxFiles {
			return nil, invalid([]FieldError{{fileField, fmt.Sprintf("at most %d files at a time", maxFiles)}})
		}
		f := &file{name: safeName(part.FileName())}
		if f.data, err = io.ReadAll(part); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, invalid([]FieldError{{fileField, "is required: there is no file in the form"}})
	}
	return files, nil
}

// safeName is a file's name as a CIResult's job may have it.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unsafeText(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	if len(name) > maxFileName {
		name = strings.ToValidUTF8(name[len(name)-maxFileName:], "")
	}
	if name == "" {
		return fileField
	}
	return name
}

// nameJobs tells the files of one request apart: each is the result of a job of its own, which counts beside the others. A
// file that is the body is the job's.
func nameJobs(files []*file, job string) {
	seen := map[string]int{}
	for _, f := range files {
		if f.name == "" {
			continue
		}
		name := f.name
		if job != "" {
			name = job + "/" + f.name
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s#%d", name, seen[name])
		}
		f.spec.Job = name
	}
}

const notAReport = "The file is not a report"

// read makes the spec of a CIResult of a file; about is what the query says.
func (f *file) read(about v1alpha1.CIResultSpec) error {
	if len(f.data) == 0 {
		return f.refused("not-a-report", notAReport, fileField, "the file is empty")
	}
	var in io.Reader = bytes.NewReader(f.data)
	if bytes.HasPrefix(f.data, gzipMagic) {
		in = &unpacker{in: in, size: func() int64 { return int64(len(f.data)) }, limit: maxUnpacked}
	}
	var err error
	f.rep, err = reports.Read(in, reports.Options{Type: about.Type})
	var refused *reports.Error
	var p *Problem
	switch {
	case errors.As(err, &refused):
		return f.refused("not-a-report", notAReport, fileField, refused.Error())
	case errors.As(err, &p):
		return fields(p.Status, "too-large", p.Title, []FieldError{{fileField, p.Detail}})
	case err != nil:
		return f.refused("not-a-report", notAReport, fileField, "it cannot be unpacked: it is cut off or not gzip")
	}
	if about.Type != "" && !mayBe(f.rep, about.Type) {
		return f.refused("other-type", "The report is of another type", "type", fmt.Sprintf("a %s report of type %s is not %s", f.rep.Format, f.rep.Type, about.Type))
	}
	f.spec = about
	if f.spec.Type == "" {
		f.spec.Type = f.rep.Type
	}
	f.spec.Status, f.spec.Format, f.spec.Producer = f.rep.Status, string(f.rep.Format), f.rep.Producer
	f.spec.Tests, f.spec.Vulnerabilities = f.rep.Tests, f.rep.Vulnerabilities
	f.spec.Coverage, f.spec.CoverageBase = f.rep.Coverage, f.rep.CoverageBase
	f.spec.Maven = f.rep.Maven
	return nil
}

// mayBe says whether a report may count under a type: under those that karma knows only if it has their figures.
func mayBe(rep reports.Report, resultType string) bool {
	switch resultType {
	case v1alpha1.TypeTests:
		return rep.Tests != nil
	case v1alpha1.TypeCoverage:
		return rep.Coverage != nil
	case v1alpha1.TypeScan, v1alpha1.TypeQuality:
		return rep.Vulnerabilities != nil
	case v1alpha1.TypeSBOM:
		return rep.Components > 0
	}
	return true // a name that a gate declares
}

// sameCommit compares two commits of which either may be abbreviated.
func sameCommit(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

const otherImage = "The report is about another image"

func notOf(digest string, release *v1alpha1.Release) string {
	return fmt.Sprintf("the report is about %s, which is no image of release %s", digest, release.Name)
}

// checkDigest refuses figures about an image that is not the release's: what they say would count for nothing, a failure too. While
// the release's digests are not known nothing is refused.
func checkDigest(digest string, release *v1alpha1.Release) error {
	if own := digestsOf(release); digest == "" || len(own) == 0 || slices.Contains(own, digest) {
		return nil
	}
	return fields(http.StatusUnprocessableEntity, "other-image", otherImage, []FieldError{{"digest",
		notOf(digest, release) + ": give that of the manifest in the registry, not the image's id on a machine"}})
}

// checkImage refuses a report about an image that is not the release's, and notes the image. While the release's digests are
// not known the first that the report names is noted: once they are, a result about another image does not count.
func (f *file) checkImage(release *v1alpha1.Release) error {
	if len(f.rep.Digests) == 0 {
		return nil
	}
	f.spec.Digest = f.rep.Digests[0]
	own := digestsOf(release)
	if len(own) == 0 {
		return nil
	}
	i := slices.IndexFunc(f.rep.Digests, func(d string) bool { return slices.Contains(own, d) })
	if i < 0 {
		return f.refused("other-image", otherImage, fileField, notOf(f.rep.Digests[0], release))
	}
	f.spec.Digest = f.rep.Digests[i]
	return nil
}

// digestsOf are the digests of a release's images: as they were frozen, or else as its author gave them.
func digestsOf(release *v1alpha1.Release) (digests []string) {
	if release == nil {
		return nil
	}
	if b := release.Status.Bundle; b != nil && len(b.Images) > 0 {
		for _, image := range b.Images {
			digests = append(digests, image.Digest)
		}
		return digests
	}
	for _, image := range release.Spec.Images {
		digests = append(digests, image.Digest)
	}
	return digests
}

// storeReports puts the files into the archive, then their CIResults into the store: nothing is acknowledged that is not in
// both. Everything is checked before anything is stored, and what speaks against the commit is stored first: no gate that is judged
// in between opens on the rest. A file that contradicts what its run reported before is refused after the
// others are stored: what they say, a failure perhaps, must not be lost with it.
func (a *api) storeReports(ctx context.Context, c caller, files []*file) (all []stored, err error) {
	var gates []string
	err = a.withStore(ctx, func(ctx context.Context) (err error) {
		if gates, err = a.automaticGates(ctx, c.project); err != nil {
			return err
		}
		for _, f := range files {
			if err := a.checkFile(ctx, c, f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := a.archiveFile(ctx, f); err != nil {
			return nil, err
		}
	}
	var contradicted error
	all = make([]stored, len(files))
	for _, i := range failuresFirst(files) {
		f := files[i]
		st := stored{gates: gates, spec: f.spec}
		err := a.withStore(ctx, func(ctx context.Context) (err error) {
			defer observeStore(time.Now())
			st.name, st.created, err = a.storeRun(ctx, c.project, f.spec)
			return err
		})
		var p *Problem
		switch {
		case errors.As(err, &p) && p.Status == http.StatusConflict && p.Field == "run":
			contradicted = cmp.Or(contradicted, err)
		case err != nil:
			return nil, err
		}
		all[i] = st
	}
	if spec := files[0].spec; isFull(spec.Commit) {
		err = a.withStore(ctx, func(ctx context.Context) error { return a.ensureRelease(ctx, c.project, spec.Commit, spec.Branch) })
	}
	return all, cmp.Or(contradicted, err)
}

// failuresFirst are the indexes of files, of those first that a gate may refuse the commit for.
func failuresFirst(files []*file) (order []int) {
	for _, grave := range []bool{true, false} {
		for i, f := range files {
			if f.rep.IsGrave() == grave {
				order = append(order, i)
			}
		}
	}
	return order
}

// checkFile completes a file's spec with what the project knows, and refuses what does not fit.
func (a *api) checkFile(ctx context.Context, c caller, f *file) (err error) {
	a.stamp(&f.spec, f.data, c)
	f.spec.Report = nil // the archive has it
	if err := a.checkType(ctx, c.project, f.spec.Type); err != nil {
		return err
	}
	if f.spec.Commit, err = a.resolveCommit(c.project, f.spec.Commit); err != nil {
		return err
	}
	if len(f.rep.Commits) > 0 && !slices.ContainsFunc(f.rep.Commits, func(c string) bool { return sameCommit(c, f.spec.Commit) }) {
		return f.refused("other-commit", "The report is about another commit", "commit", "the report names "+f.rep.Commits[0])
	}
	return f.checkImage(oldest(a.hub.releasesWith(c.project, f.spec.Commit), f.spec.Commit))
}

func (a *api) archiveFile(ctx context.Context, f *file) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.StoreTimeout)
	defer cancel()
	if hash, err := a.o.Archive.Put(ctx, f.data); err != nil || hash != f.spec.ReportHash {
		return unavailable("the archive did not take the report; nothing is acknowledged, send it again", 2*time.Second, err)
	}
	return nil
}

// answerReports is answerReport for several: it waits until all are judged.
func (a *api) answerReports(w http.ResponseWriter, r *http.Request, project string, all []stored, files []*file, wait time.Duration) {
	judgement, status := a.awaitJudgement(r, project, all, wait)
	answer := ReportsAnswer{Answer: judgement}
	for i, f := range files {
		s := f.spec
		answer.Reports = append(answer.Reports, ReportAnswer{
			File: f.name, Result: all[i].name, ReportHash: s.ReportHash, Format: s.Format, Producer: s.Producer, Type: s.Type, Status: s.Status,
			Tests: s.Tests, Coverage: s.Coverage, CoverageBase: s.CoverageBase, Vulnerabilities: s.Vulnerabilities, Digest: s.Digest,
		})
	}
	writeJSON(w, status, "application/json", answer)
}

// gzipMagic is how a file that is compressed with gzip begins.
var gzipMagic = []byte{0x1f, 0x8b}

func isGzip(h http.Header) bool {
	encoding := strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding")))
	return encoding == "gzip" || encoding == "x-gzip"
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// unpacker unpacks gzip within bounds. What goes beyond them is a *Problem.
type unpacker struct {
	in    io.Reader
	size  func() int64 // of what is packed, as far as it is known
	limit int64
	gz    *gzip.Reader
	n     int64
}

func (u *unpacker) Read(p []byte) (n int, err error) {
	if u.gz == nil {
		if u.gz, err = gzip.NewReader(u.in); err != nil {
			return 0, err
		}
	}
	n, err = u.gz.Read(p)
	switch u.n += int64(n); {
	case u.n > u.limit:
		return 0, tooLarge(fmt.Sprintf("it unpacks to more than %d bytes", u.limit))
	case u.n > ratioFrom && u.n > maxRatio*u.size():
		return 0, tooLarge(fmt.Sprintf("it unpacks to more than %d times its size", maxRatio))
	}
	return n, err
}

func tooLarge(detail string) *Problem {
	p := newProblem(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", detail)
	p.closing = true
	return p
}
