// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/reports"
)

// Bounds of one request, as the HTTP API has them, and from when on a file is compressed.
const (
	maxReportBytes = 32 << 20
	maxReportFiles = 256
	packFrom       = 1 << 20
	// maxPacking is how many times its size a file that is compressed here may unpack to: the HTTP API refuses 200.
	maxPacking = 190
	// gzipMagic is how what gzip compressed begins.
	gzipMagic = "\x1f\x8b"
	// stdinFile is the argument that stands for standard input, and its name where a file's is shown.
	stdinFile, stdinName = "-", "stdin"
	// formRoom is what the form takes around a file, at most.
	formRoom = 1 << 10
)

// Values of --fail-on.
const (
	failOnRefused = "refused" // a gate refuses
	failOnWaiting = "waiting" // or has not passed
	failOnNever   = "never"
)

// reportOptions are the flags of `report`.
type reportOptions struct {
	commit, kind, pipeline, job, run, branch, gate string
	apiURL, failOn                                 string
	wait                                           time.Duration
	dryRun                                         bool
}

func (s *session) reportCommand() *cobra.Command {
	var o reportOptions
	cmd := s.command("report FILE|FOLDER… [--commit SHA] [--wait DURATION] [--fail-on refused|waiting|never]", "report")
	cmd.Args = s.args(1, maxReportFiles*maxReportFiles)
	cmd.ValidArgsFunction = nil // files and folders
	flags := cmd.Flags()
	flags.StringVar(&o.commit, "commit", s.Getenv("CI_COMMIT_SHA"), s.T("flag.report-commit"))
	flags.StringVar(&o.kind, "type", "", s.T("flag.report-type"))
	flags.StringVar(&o.pipeline, "pipeline", s.Getenv("CI_PIPELINE_ID"), s.T("flag.report-pipeline"))
	flags.StringVar(&o.job, "job", s.Getenv("CI_JOB_NAME"), s.T("flag.report-job"))
	flags.StringVar(&o.run, "run", s.Getenv("CI_JOB_ID"), s.T("flag.report-run"))
	flags.StringVar(&o.branch, "branch", s.Getenv("CI_COMMIT_REF_NAME"), s.T("flag.report-branch"))
	flags.StringVar(&o.gate, "gate", "", s.T("flag.report-gate"))
	flags.DurationVar(&o.wait, "wait", 0, s.T("flag.report-wait"))
	flags.StringVar(&o.failOn, "fail-on", failOnRefused, s.T("flag.report-fail-on"))
	flags.StringVar(&o.apiURL, "api-url", "", s.T("flag.api-url"))
	flags.BoolVar(&o.dryRun, "dry-run", false, s.T("flag.report-dry-run"))
	outcomes := []string{failOnRefused, failOnWaiting, failOnNever}
	must(cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(outcomes, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{v1alpha1.TypeTests, v1alpha1.TypeCoverage, v1alpha1.TypeScan,
		v1alpha1.TypeQuality, v1alpha1.TypeSBOM}, cobra.ShellCompDirectiveNoFileComp)))
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case o.commit == "" && !o.dryRun:
			return s.usage(cmd, s.T("error.report-commit"))
		case !slices.Contains(outcomes, o.failOn):
			return s.usage(cmd, s.T("error.report-fail-on", o.failOn))
		case o.wait < 0:
			return s.usage(cmd, s.T("error.negative-duration", "--wait"))
		}
		return s.report(cmd.Context(), args, o, *output)
	}
	return cmd
}

// reportOutput is `report` for programs.
type reportOutput struct {
	Files []*reportFile `json:"files"`
	// LeftOut are files in folders that are no reports.
	LeftOut []leftOut      `json:"leftOut,omitempty"`
	Answer  *verdictAnswer `json:"answer,omitempty"`
}

// reportFile is what was read of a file on this machine.
type reportFile struct {
	File    string          `json:"file"`
	Report  *reports.Report `json:"report,omitempty"`
	Refused string          `json:"refused,omitempty"`
	Result  string          `json:"result,omitempty"`

	name string // in the form
	data []byte // as it is sent
}

// verdictAnswer is what the HTTP API answers, as far as it is shown.
type verdictAnswer struct {
	Commit  string           `json:"commit"`
	Release string           `json:"release,omitempty"`
	Karma   int32            `json:"karma"`
	Level   string           `json:"level,omitempty"`
	Next    string           `json:"next,omitempty"`
	Verdict v1alpha1.Verdict `json:"verdict"`
	Judged  bool             `json:"judged"`
	Gates   []verdictGate    `json:"gates"`
}

type verdictGate struct {
	Name    string           `json:"name"`
	Verdict v1alpha1.Verdict `json:"verdict"`
	Message string           `json:"message,omitempty"`
}

// report reads the files here, shows what they say, sends them, and fails as --fail-on asks. Of files of which one is refused
// none is sent.
func (s *session) report(ctx context.Context, args []string, o reportOptions, f format) error {
	out := reportOutput{}
	paths, left, err := s.reportPaths(ctx, args, o)
	if err != nil {
		fmt.Fprint(s.Err, s.leftOutLines(left))
		return err
	}
	out.LeftOut = left
	refused := 0
	for _, path := range paths {
		file, err := s.readReport(path, o)
		if err != nil {
			return err
		}
		if file.Refused != "" {
			refused++
		}
		out.Files = append(out.Files, file)
	}
	nameFiles(out.Files)
	if !f.structured() {
		if err := s.print(s.reportTable(out.Files) + s.leftOutLines(left)); err != nil {
			return err
		}
	}
	var failed error
	if refused > 0 {
		failed = s.fail("error.report-refused", refused, len(paths)).with(s.T("hint.report-refused"))
	} else if !o.dryRun {
		out.Answer, failed = s.sendReports(ctx, out.Files, o)
	}
	if f.structured() {
		if err := s.emit(f, out); err != nil {
			return err
		}
	} else if out.Answer != nil {
		if err := s.print(s.verdictLines(out.Answer, o.gate)); err != nil {
			return err
		}
	}
	if failed != nil || out.Answer == nil {
		return failed
	}
	return s.failOn(o, out.Answer)
}

// failOn is the error for a verdict by which the caller's job shall fail.
func (s *session) failOn(o reportOptions, a *verdictAnswer) error {
	verdict := a.Verdict
	for _, g := range a.Gates {
		if g.Name == o.gate {
			verdict = g.Verdict
		}
	}
	if !a.Judged && verdict == v1alpha1.VerdictPassed { // before what was sent now
		verdict = v1alpha1.VerdictWaiting
	}
	switch {
	case o.failOn == failOnNever, verdict == v1alpha1.VerdictPassed, verdict != v1alpha1.VerdictRefused && o.failOn != failOnWaiting:
		return nil
	case verdict == v1alpha1.VerdictRefused:
		return &failure{text: s.T("error.gate-refused"), hint: a.Next, code: exitCheck}
	}
	return &failure{text: s.T("error.gate-waiting"), hint: a.Next, code: exitCheck}
}

// readReport reads a file as the server will.
func (s *session) readReport(path string, o reportOptions) (*reportFile, error) {
	raw, err := s.readInput(path)
	if err != nil {
		return nil, s.fail("error.report-file", err).with(s.T("hint.report-file"))
	}
	if path == stdinFile {
		path = stdinName
	}
	file := &reportFile{File: path, data: raw}
	var in io.Reader = bytes.NewReader(raw)
	if bytes.HasPrefix(raw, []byte(gzipMagic)) {
		if in, err = gzip.NewReader(in); err != nil {
			file.Refused = err.Error()
			return file, nil
		}
	} else if len(raw) >= packFrom {
		if file.data, err = pack(raw); err != nil {
			return nil, wrap("compress "+path, err)
		}
	}
	rep, err := reports.Read(in, reports.Options{Type: o.kind})
	var refused *reports.Error
	switch {
	case err != nil && errors.As(err, &refused):
		file.Refused = refused.Error()
	case err != nil:
		file.Refused = err.Error()
	case len(file.data)+formRoom > maxReportBytes:
		file.Refused = s.T("report.too-large", maxReportBytes>>20)
	default:
		file.Report = &rep
	}
	return file, nil
}

// readInput reads a file, or standard input, as far as a report may go.
func (s *session) readInput(path string) ([]byte, error) {
	in := s.In
	if path != stdinFile {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, reports.MaxSize+1))
}

// pack compresses a report. What repeats itself so much that the HTTP API would take it for a bomb is compressed less: without
// matches nothing shrinks to less than an eighth.
func pack(raw []byte) ([]byte, error) {
	packed, err := packAt(raw, gzip.DefaultCompression)
	if err != nil || len(packed)*maxPacking > len(raw) {
		return packed, err
	}
	return packAt(raw, gzip.HuffmanOnly)
}

func packAt(raw []byte, level int) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// nameFiles gives each file the name under which its result stands beside the others': its own, or its path where several
// modules have one of that name.
func nameFiles(files []*reportFile) {
	base := map[string]int{}
	for _, f := range files {
		base[filepath.Base(f.File)]++
	}
	for _, f := range files {
		if f.name = filepath.Base(f.File); base[f.name] > 1 {
			f.name = strings.ReplaceAll(strings.TrimLeft(filepath.ToSlash(filepath.Clean(f.File)), "./"), "/", ":")
		}
	}
}

// rank is 0 for a file that is sent before those of rank 1.
func (f *reportFile) rank() int {
	if f.Report == nil || f.Report.IsGrave() {
		return 0
	}
	return 1
}

// failuresFirst are files in the order in which they are sent: those first that a gate may refuse the commit for, so that none
// opens on the rest between two requests.
func failuresFirst(files []*reportFile) []*reportFile {
	out := slices.Clone(files)
	slices.SortStableFunc(out, func(a, b *reportFile) int { return cmp.Compare(a.rank(), b.rank()) })
	return out
}

// batches splits files into requests that the HTTP API takes.
func batches(files []*reportFile) (out [][]*reportFile) {
	size := 0
	for _, f := range files {
		need := len(f.data) + formRoom
		if len(out) == 0 || size+need > maxReportBytes || len(out[len(out)-1]) == maxReportFiles {
			out, size = append(out, nil), 0
		}
		size += need
		out[len(out)-1] = append(out[len(out)-1], f)
	}
	return out
}

// sendReports sends the files and waits for the gates as long as --wait says.
func (s *session) sendReports(ctx context.Context, files []*reportFile, o reportOptions) (*verdictAnswer, error) {
	a, project, err := s.pipelineAPI(ctx, o.apiURL)
	if err != nil {
		return nil, err
	}
	query := url.Values{"commit": {o.commit}}
	for name, value := range map[string]string{"type": o.kind, "pipeline": o.pipeline, "job": o.job, "run": o.run, "branch": o.branch} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if o.wait >= time.Second { // a verdict from before these files would pass for theirs
		query.Set("wait", min(o.wait, maxGateWait).Truncate(time.Second).String())
	}
	path := "/projects/" + url.PathEscape(project)
	var answer *verdictAnswer
	for _, batch := range batches(failuresFirst(files)) {
		form, err := reportForm(batch)
		if err != nil {
			return nil, err
		}
		var got struct {
			verdictAnswer
			Reports []struct {
				Result string `json:"result"`
			} `json:"reports"`
		}
		if err := s.insist(ctx, a, http.MethodPost, path+"/reports?"+query.Encode(), form, &got); err != nil {
			return nil, err
		}
		if err := s.ours(&got.verdictAnswer, a); err != nil {
			return nil, err
		}
		answer = &got.verdictAnswer
		for i, r := range got.Reports[:min(len(got.Reports), len(batch))] {
			batch[i].Result = r.Result
		}
	}
	if o.wait == 0 && o.gate == "" {
		return answer, nil
	}
	return s.awaitGates(ctx, a, path, o)
}

// maxGateWait is the longest that one request may wait.
const maxGateWait = time.Minute

// awaitGates asks until the gates have passed or refused the commit, for as long as --wait says.
func (s *session) awaitGates(ctx context.Context, a *api, path string, o reportOptions) (*verdictAnswer, error) {
	deadline := s.Now().Add(o.wait)
	for {
		left := max(0, deadline.Sub(s.Now())).Truncate(time.Second)
		query := url.Values{"commit": {o.commit}, "wait": {min(left, maxGateWait).String()}}
		if o.gate != "" {
			query.Set("gate", o.gate)
		}
		var answer verdictAnswer
		if err := s.insist(ctx, a, http.MethodGet, path+"/quality-gates?"+query.Encode(), sending{}, &answer); err != nil {
			return nil, err
		}
		if err := s.ours(&answer, a); err != nil {
			return nil, err
		}
		if answer.Verdict != v1alpha1.VerdictWaiting || left < time.Second {
			return &answer, nil
		}
	}
}

// ours refuses what is no answer of SIRRAT's: nothing in it would refuse the commit either.
func (s *session) ours(v *verdictAnswer, a *api) error {
	switch v.Verdict {
	case v1alpha1.VerdictPassed, v1alpha1.VerdictRefused, v1alpha1.VerdictWaiting:
		if v.Commit != "" {
			return nil
		}
	}
	return s.fail("error.not-sirrat", a.base).with(s.T("hint.no-api"))
}

// pipelineAPI is the HTTP API with a pipeline's token, and the project that it is for. Neither needs a cluster where the
// environment names them.
func (s *session) pipelineAPI(ctx context.Context, address string) (*api, string, error) {
	a, err := s.api(ctx, address)
	if err != nil {
		return nil, "", err
	}
	if a.token = s.Getenv("SIRRAT_API_TOKEN"); a.token == "" {
		return nil, "", s.fail("error.no-api-token").with(s.T("hint.no-api-token"))
	}
	var flag string
	if s.flags.Namespace != nil {
		flag = *s.flags.Namespace
	}
	project := cmp.Or(flag, s.Getenv("SIRRAT_PROJECT_ID"))
	if project == "" {
		project, err = s.project(ctx)
	}
	return a, project, err
}

// reportForm is a form with the files.
func reportForm(files []*reportFile) (sending, error) {
	var out bytes.Buffer
	var marks []uploadMark
	w := multipart.NewWriter(&out)
	for _, f := range files {
		part, err := w.CreateFormFile("file", f.name)
		begin := int64(out.Len())
		if err == nil {
			_, err = part.Write(f.data)
		}
		if err != nil {
			return sending{}, wrap("put "+f.File+" into the request", err)
		}
		marks = append(marks, uploadMark{f.File, begin, int64(out.Len())})
	}
	if err := w.Close(); err != nil {
		return sending{}, wrap("end the request", err)
	}
	return sending{w.FormDataContentType(), out.Bytes(), marks}, nil
}

// reportTable is what was read of each file.
func (s *session) reportTable(files []*reportFile) string {
	rows := make([][]string, len(files))
	for i, f := range files {
		rows[i] = []string{f.File, "", "", "", s.T("report.refused", f.Refused)}
		if r := f.Report; r != nil {
			rows[i] = []string{f.File, string(r.Format), r.Producer, r.Type, s.figures(r)}
		}
	}
	return view.Table([]lang.ID{"table.file", "table.format", "table.producer", "table.type", "table.read"}, rows, s.screen())
}

// figures are those of a report in words.
func (s *session) figures(r *reports.Report) string {
	var parts []string
	if t := r.Tests; t != nil {
		parts = append(parts, s.T("report.tests", t.Total, t.Failed, t.Skipped))
	}
	if r.Coverage != nil && r.CoverageBase != nil {
		parts = append(parts, s.T("report.coverage", fmt.Sprintf("%.2f %%", *r.Coverage), *r.CoverageBase))
	}
	if v := r.Vulnerabilities; v != nil {
		parts = append(parts, s.T("report.findings", v.Critical, v.High, v.Medium, v.Low))
	}
	if r.Unrated > 0 {
		parts = append(parts, s.T("report.unrated", r.Unrated))
	}
	if r.Suppressed > 0 {
		parts = append(parts, s.T("report.suppressed", r.Suppressed))
	}
	if r.Components > 0 {
		parts = append(parts, s.T("report.components", r.Components))
	}
	if r.Status != v1alpha1.StatusPassed {
		parts = append(parts, s.T(lang.ID("report.status."+r.Status)))
	}
	return strings.Join(parts, "; ")
}

// verdictLines is the answer for people; gate is the one that was asked for.
func (s *session) verdictLines(a *verdictAnswer, gate string) string {
	var b strings.Builder
	of := s.T("report.of-all")
	if gate != "" {
		of = s.T("report.of-gate", gate)
	}
	fmt.Fprintf(&b, "\n%s\n", inert.Line(s.T("report.verdict", cmp.Or(a.Release, a.Commit), s.T(lang.ID("verdict."+string(a.Verdict))), a.Karma, a.Level, of)))
	for _, g := range a.Gates {
		if g.Verdict == v1alpha1.VerdictRefused {
			fmt.Fprintf(&b, "  %s: %s\n", inert.Line(g.Name), inert.Line(g.Message))
		}
	}
	if a.Next != "" {
		fmt.Fprintf(&b, "%s\n", inert.Line(s.T("report.next", a.Next)))
	}
	if !a.Judged {
		fmt.Fprintf(&b, "%s\n", s.T("report.not-judged"))
	}
	return b.String()
}

// decode reads an answer of the HTTP API.
func (s *session) decode(a *api, body io.Reader, into any) error {
	raw, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		cut := s.fail("error.unreachable", a.base, err).with(s.T("hint.api-unreachable"))
		cut.cause = &cutOffError{err}
		return cut
	}
	if json.Unmarshal(raw, into) != nil {
		return s.fail("error.not-sirrat", a.base).with(s.T("hint.no-api"))
	}
	return nil
}

// cutOffError is that of an answer that began and did not end.
type cutOffError struct{ error }

func (e *cutOffError) Unwrap() error { return e.error }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20
