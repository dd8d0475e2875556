// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/archive"
)

// shells are those that runners start jobs with.
var shells = map[string][]string{"sh": {"sh", "-e"}, "bash": {"bash", "-e", "-o", "pipefail"}}

// pipeline is a bridge with a pipeline of its project.
type pipeline struct {
	*bridge
	*runner
	c component
}

func newPipeline(t *testing.T, b *bridge) *pipeline {
	t.Helper()
	r := newRunner(t, map[string]string{
		"SIRRAT_API_URL": b.url, "SIRRAT_PROJECT_ID": b.project, "SIRRAT_API_TOKEN": b.token,
		"CI_COMMIT_SHA": someCommit, "CI_COMMIT_SHORT_SHA": someCommit[:8], "CI_COMMIT_REF_NAME": "feature/é#1+x", "CI_PIPELINE_ID": "574", "CI_JOB_ID": "302",
		"CI_JOB_NAME": `sirrat: [50%, "a&b"]`, "CI_JOB_URL": "https://gitlab.example/dynors/-/jobs/302",
	})
	r.secrets = []string{b.token}
	return &pipeline{bridge: b, runner: r, c: readComponent(t)}
}

// play runs the job whose name ends so, with these inputs.
func (p *pipeline) play(end string, inputs map[string]any) (string, int) {
	p.runner.t.Helper()
	return p.playWith(shells["sh"], end, inputs)
}

func (p *pipeline) playWith(shell []string, end string, inputs map[string]any) (string, int) {
	t := p.runner.t
	t.Helper()
	with := map[string]any{"reports": "junit.xml", "environment": "dev", "wait": "5s"}
	maps.Copy(with, inputs)
	j, ok := jobs(t, p.c.render(t, with), "push")["sirrat-"+end]
	if !ok {
		t.Fatalf("no job %s", end)
	}
	p.runner.calls()
	out, code := p.runner.run(shell, j.variables, j.script)
	for _, call := range p.runner.calls() {
		for _, secret := range p.runner.secrets {
			if strings.Contains(call, secret) {
				t.Errorf("the token is on a command line: %s", call)
			}
		}
	}
	return out, code
}

// blanks are n bytes that mean nothing at the end of a report and shrink to about an eighth.
func blanks(n int) []byte {
	random, out := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
	for i := range out {
		out[i] = " \n"[random.IntN(2)]
	}
	return out
}

const (
	greenReport = `<testsuite name="unit" tests="1"><testcase classname="a" name="b"/></testsuite>`
	redReport   = `<testsuite name="unit" tests="1" failures="1"><testcase classname="a" name="b"><failure message="no"/></testcase></testsuite>`
)

// TestComponentDeclares: every input is documented, used, and what the jobs are made of is as GitLab takes it.
func TestComponentDeclares(t *testing.T) {
	c := readComponent(t)
	text, err := os.ReadFile(filepath.Join(root, "templates", "sirrat.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range c.inputs {
		if in.Description == "" {
			t.Errorf("input %s is not described", name)
		}
		if !strings.Contains(string(text), "$[[ inputs."+name+" ]]") {
			t.Errorf("input %s is not used", name)
		}
	}
	if strings.Contains(string(text), "set -x") || strings.Contains(string(text), "--verbose") {
		t.Error("a trace would hold the token")
	}
	for _, tc := range []struct {
		source string
		inputs map[string]any
		want   []string
	}{
		{"push", map[string]any{"reports": "a.xml"}, []string{"sirrat-gate", "sirrat-report"}},
		{"push", map[string]any{"reports": "*/TEST-*.xml #1: {a} & !b %c"}, []string{"sirrat-gate", "sirrat-report"}},
		{"push", map[string]any{"reports": "a.xml", "wait-for-gate": false}, []string{"sirrat-report"}},
		{"push", map[string]any{"reports": "", "environment": "dev", "job-prefix": "rmoa"}, []string{"rmoa-deployment"}},
		{"merge_request_event", map[string]any{"reports": "a.xml", "environment": "dev"}, nil},
		{"merge_request_event", map[string]any{"reports": "a.xml", "merge-requests": true}, []string{"sirrat-gate", "sirrat-report"}},
	} {
		if diff := cmp.Diff(tc.want, slices.Sorted(maps.Keys(jobs(t, c.render(t, tc.inputs), tc.source)))); diff != "" {
			t.Errorf("%s, %v: %s", tc.source, tc.inputs, diff)
		}
	}
	// What would end the quotes that an input stands in is refused, where the values are not listed anyway.
	for name, in := range c.inputs {
		for _, bad := range []string{`a" b`, `a' b`, `a\ b`, "a\nb: c"} {
			if (in.Type == "" || in.Type == "string") && in.takes(bad) {
				t.Errorf("input %s takes %q", name, bad)
			}
		}
	}
	for _, wait := range []string{"08m", "5", "-1s", "1d"} {
		if c.inputs["wait"].takes(wait) {
			t.Errorf("the input wait takes %s", wait)
		}
	}
	all := jobs(t, c.render(t, map[string]any{"reports": "a.xml", "environment": "dev", "stage": "gate", "deployment-when": "on_failure", "audience": "https://sirrat.example"}), "push")
	report, gate, deployment := all["sirrat-report"], all["sirrat-gate"], all["sirrat-deployment"]
	if report.variables["GIT_STRATEGY"] != "empty" { // with others, files of another commit may lie where this one's are looked for
		t.Errorf("GIT_STRATEGY %q", report.variables["GIT_STRATEGY"])
	}
	if report.when != "always" || report.stage != "gate" || report.audience != "https://sirrat.example" || report.image == "" || len(report.needs) > 0 {
		t.Errorf("%+v", report)
	}
	if diff := cmp.Diff([]any{"sirrat-report"}, gate.needs); diff != "" || gate.stage != "gate" {
		t.Errorf("%s %s", diff, gate.stage)
	}
	if deployment.when != "on_failure" || deployment.stage != ".post" || deployment.variables["SIRRAT_VERSION"] != "$CI_COMMIT_SHA" {
		t.Errorf("%+v", deployment)
	}
}

// TestComponent reports, waits and announces with a token, in each shell.
func TestComponent(t *testing.T) {
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			b, store := newArchived(t, true)
			p := newPipeline(t, b)
			// Two modules with a file of one name, one that is compressed, one that will be, and names that a shell would like.
			large := append(sample(t, "trivy/image.json"), blanks(1<<20)...)
			p.file("empty-lines.xml", append([]byte(strings.Replace(greenReport, "unit", "blanks", 1)), bytes.Repeat([]byte("\n"), 1<<20)...))
			p.file("a/target/junit.xml", []byte(greenReport))
			p.file("b/target/junit.xml", []byte(strings.Replace(greenReport, "unit", "unit of b", 1)))
			p.file(`b/target/it's 1; $(x)\.xml`, []byte(strings.Replace(greenReport, "unit", "quoted", 1)))
			p.file("jacoco.xml.gz", zipped(t, sample(t, "jacoco/maven.xml")))
			p.file("trivy.json", large)
			out, code := p.playWith(shell, "report", map[string]any{"reports": "./*/target/*.xml jacoco.xml.gz trivy.json empty-lines.xml"})
			expect(t, out, code, 0, "6 report(s)", "waits for QA")
			got := map[string]string{}
			for _, r := range p.ciResults() {
				got[r.Spec.Job] = r.Spec.Type + " " + r.Spec.Format
				if r.Spec.Commit != someCommit || r.Spec.Pipeline != "574" || r.Spec.Run != "302" || r.Spec.Branch != "feature/é#1+x" {
					t.Errorf("%+v", r.Spec)
				}
				if raw, err := store.Get(t.Context(), r.Spec.ReportHash); r.Spec.Format == "trivy" && (err != nil || !bytes.HasPrefix(raw, gzipMagic)) {
					t.Errorf("the large file came as it is: %v", err)
				}
			}
			job := p.env["CI_JOB_NAME"] + "/"
			want := map[string]string{
				job + "a:target:junit.xml": "tests junit", job + "b:target:junit.xml": "tests junit", job + `it's 1; $(x)\.xml`: "tests junit",
				job + "jacoco.xml.gz": "coverage jacoco", job + "trivy.json": "scan trivy",
				job + "empty-lines.xml": "tests junit",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			out, code = p.playWith(shell, "deployment", nil)
			expect(t, out, code, 0, someCommit+" in dev: deployed")
			results := p.ciResults()
			i := slices.IndexFunc(results, func(r v1alpha1.CIResult) bool { return r.Spec.Type == v1alpha1.TypeDeployment })
			if i < 0 || results[i].Spec.Environment != "dev" || results[i].Spec.Status != "deployed" || results[i].Spec.URL != p.env["CI_JOB_URL"] {
				t.Errorf("results %+v", results)
			}
		})
	}
}

// TestComponentFailuresFirst: of more files than one request takes, those with failed tests are in the first.
func TestComponentFailuresFirst(t *testing.T) {
	var forms []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		forms = append(forms, string(body))
		_, _ = io.WriteString(w, `{"commit":"a1b2c3d","verdict":"Waiting","next":"x"}`)
	}))
	t.Cleanup(server.Close)
	r := newRunner(t, map[string]string{"SIRRAT_API_URL": server.URL + "/api", "SIRRAT_PROJECT_ID": "p", "SIRRAT_API_TOKEN": "t", "CI_COMMIT_SHA": someCommit})
	for i := range maxFiles + 2 {
		r.file(fmt.Sprintf("reports/TEST-%d.xml", i), []byte(greenReport))
	}
	r.file("reports/red file.xml.gz", zipped(t, []byte(redReport)))
	r.file("reports/zz.xml", []byte(strings.Replace(redReport, "unit", "last", 1)))
	j := jobs(t, readComponent(t).render(t, map[string]any{"reports": "reports"}), "push")["sirrat-report"]
	out, code := r.run(shells["sh"], j.variables, j.script)
	expect(t, out, code, 0, "256 report(s)", "4 report(s)")
	if len(forms) != 2 || strings.Count(forms[0], `filename="`) != maxFiles || !strings.Contains(forms[0], `filename="red file.xml.gz"`) || !strings.Contains(forms[0], `filename="zz.xml"`) {
		t.Errorf("%d requests; failures are not in the first", len(forms))
	}
}

func TestComponentGate(t *testing.T) {
	b, _ := newArchived(t, true)
	p := newPipeline(t, b)
	p.file("junit.xml", []byte(greenReport))
	out, code := p.play("report", nil)
	expect(t, out, code, 0)
	for _, tc := range []struct {
		inputs map[string]any
		code   int
		says   []string
	}{
		{nil, 0, []string{"the gates that open by themselves: Passed"}},
		{map[string]any{"fail-on": "waiting", "gate": "ci"}, 0, []string{"ci: Passed"}},
		{map[string]any{"gate": "qa", "wait": "1s"}, 0, []string{"qa: Waiting. waits for QA", "goes on"}},
		{map[string]any{"gate": "qa", "wait": "1s", "fail-on": "waiting"}, 1, []string{"qa: Waiting", "has not opened within 1s"}},
		{map[string]any{"gate": "none-such"}, 1, []string{"refused: 404", `has no gate "none-such": there is `}},
	} {
		out, code := p.play("gate", tc.inputs)
		expect(t, out, code, tc.code, tc.says...)
	}
	// A test fails in the next commit.
	p.env["CI_COMMIT_SHA"] = otherSHA
	p.file("junit.xml", []byte(redReport))
	out, code = p.play("report", nil)
	expect(t, out, code, 0)
	out, code = p.play("gate", nil)
	expect(t, out, code, 1, "Refused", "gate ci: judged", "the gate refused the commit")
	out, code = p.play("gate", map[string]any{"fail-on": "never"})
	expect(t, out, code, 0, "Refused", "goes on")
}

func TestComponentMissingReport(t *testing.T) {
	b, _ := newArchived(t, true)
	p := newPipeline(t, b)
	out, code := p.play("report", nil)
	expect(t, out, code, 1, "no report junit.xml", "allow-missing")
	out, code = p.play("report", map[string]any{"allow-missing": true})
	expect(t, out, code, 0, "no report junit.xml", "there is no report to send")
	p.file("junit.xml", []byte(greenReport))
	out, code = p.play("report", map[string]any{"reports": "junit.xml */none-*.xml"})
	expect(t, out, code, 1, "no report */none-*.xml")
	if n := len(p.ciResults()); n != 0 {
		t.Errorf("%d results, though a file is missing", n)
	}
	out, code = p.play("report", map[string]any{"reports": "junit.xml */none-*.xml", "allow-missing": true})
	expect(t, out, code, 0, "1 report(s)")
	p.file("junit.xml", []byte("no report at all"))
	out, code = p.play("report", nil)
	expect(t, out, code, 1, "refused: 422", "junit.xml")
}

// TestComponentFolder: of a folder what looks like a report is sent, whatever its name, in each shell; one without any fails the job.
func TestComponentFolder(t *testing.T) {
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			b, _ := newArchived(t, true)
			p := newPipeline(t, b)
			gitlab := `{"vulnerabilities":[` + strings.Repeat(" ", 100_000) + `],"scan":{}}` // begins like any JSON
			for name, data := range map[string][]byte{
				"out/a/junit.xml": []byte(greenReport), "out/b/junit.xml": []byte("\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- a > b -->\n" + redReport),
				"out/jacoco.xml.gz": zipped(t, sample(t, "jacoco/maven.xml")), "out/an odd name": []byte("mode: set\nx.go:1.1,2.2 1 1\n"),
				"out/trivy.json": sample(t, "trivy/image.json"), "out/empty.txt": nil, "out/pom.xml": []byte("<project/>"), "out/package.json": []byte(`{"name":"x"}`),
				"out/lib.so": []byte("\x7fELF"), "out/.git/junit.xml": []byte(greenReport), "out/node_modules/x/junit.xml": []byte(greenReport),
				"none/pom.xml": []byte("<project/>"), "broken/a.xml": []byte("<testsuite>"), "cut/a.json": []byte(`{"a":`), "empty/a.xml": nil, "late/gl.json": []byte(gitlab),
			} {
				p.file(name, data)
			}
			if err := os.Symlink("../none/pom.xml", filepath.Join(p.dir, "out", "link.xml")); err != nil {
				t.Fatal(err)
			}
			out, code := p.playWith(shell, "report", map[string]any{"reports": "./out/"})
			expect(t, out, code, 0, "5 report(s), 4 other file(s)", "pom.xml does not look like a report", "5 report(s) of "+someCommit+" sent")
			var got []string
			for _, r := range p.ciResults() {
				got = append(got, strings.TrimPrefix(r.Spec.Job, p.env["CI_JOB_NAME"]+"/")+" "+r.Spec.Format)
			}
			slices.Sort(got)
			want := []string{
				"an odd name go-coverprofile", "jacoco.xml.gz jacoco", "out:a:junit.xml junit", "out:b:junit.xml junit", "trivy.json trivy",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			out, code = p.playWith(shell, "report", map[string]any{"reports": "out/a none"})
			expect(t, out, code, 1, "no report in the folder none", "allow-missing")
			out, code = p.playWith(shell, "report", map[string]any{"reports": "none", "allow-missing": true})
			expect(t, out, code, 0, "there is no report to send")
			for _, refused := range []string{"broken", "cut", "empty", "late"} {
				out, code = p.playWith(shell, "report", map[string]any{"reports": refused})
				expect(t, out, code, 1, "refused: 422")
			}
		})
	}
}

func TestComponentSettings(t *testing.T) {
	b, _ := newArchived(t, true)
	for _, name := range []string{"SIRRAT_API_URL", "SIRRAT_PROJECT_ID", "SIRRAT_API_TOKEN", "CI_COMMIT_SHA"} {
		p := newPipeline(t, b)
		p.file("junit.xml", []byte(greenReport))
		p.env[name] = ""
		want := name
		out, code := p.play("report", nil)
		expect(t, out, code, 1, "sirrat: ", want)
	}
	p := newPipeline(t, b)
	p.file("junit.xml", []byte(greenReport))
	p.env["SIRRAT_API_TOKEN"] = newBridge(t, false).token
	p.secrets = append(p.secrets, p.env["SIRRAT_API_TOKEN"])
	out, code := p.play("report", nil)
	expect(t, out, code, 1, "refused: 403", "SIRRAT_PROJECT_ID")
	p.env["SIRRAT_API_URL"] = strings.TrimSuffix(b.url, "/api")
	out, code = p.play("gate", nil)
	expect(t, out, code, 1, "refused: 404")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Welcome</html>")) }))
	defer proxy.Close()
	p.env["SIRRAT_API_URL"] = proxy.URL
	for _, end := range []string{"report", "gate", "deployment"} { // a 200 of somebody else is none of SIRRAT's
		out, code = p.play(end, nil)
		expect(t, out, code, 1, "no answer of SIRRAT's", "with /api?")
	}
	p.env["SIRRAT_API_URL"] = "nonsense://x"
	out, code = p.play("gate", nil)
	expect(t, out, code, 1, "nonsense")
}

// TestComponentRetries: a server that is away or busy is asked again, and the job fails in words when it stays so.
func TestComponentRetries(t *testing.T) {
	b, _ := newArchived(t, true)
	p := newPipeline(t, b)
	p.file("junit.xml", []byte(greenReport))
	target, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	var failing, asked atomic.Int64
	var answer atomic.Pointer[func(http.ResponseWriter)]
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if failing.Add(-1) >= 0 {
			(*answer.Load())(w)
			return
		}
		through.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	p.env["SIRRAT_API_URL"] = proxy.URL + "/api"
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		says   string
	}{
		"429":  {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) }, "429"},
		"503":  {func(w http.ResponseWriter) { unavailable("too many reports at a time", 1, nil).write(w) }, "503 The server cannot do this now: too many reports at a time; again in 1 s"},
		"502":  {func(w http.ResponseWriter) { w.WriteHeader(502) }, "502"},
		"hung": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "curl: "},
	} {
		for _, end := range []string{"report", "gate", "deployment"} {
			answer.Store(&tc.answer)
			failing.Store(1)
			out, code := p.play(end, nil)
			expect(t, out, code, 0, tc.says, "again in 1 s")
			failing.Store(99)
			asked.Store(0)
			out, code = p.play(end, map[string]any{"tries": 2})
			expect(t, out, code, 1, tc.says, "gave up after 2 tries")
			if n := asked.Load(); n != 2 {
				t.Errorf("%s of %s: asked %d times", name, end, n)
			}
			failing.Store(0)
		}
	}
	proxy.Close()
	out, code := p.play("report", map[string]any{"tries": 2})
	expect(t, out, code, 1, "gave up after 2 tries", "curl: (7)")
}

// TestComponentWithIDTokens: the jobs report with their id_tokens where an API token opens nothing.
func TestComponentWithIDTokens(t *testing.T) {
	f := newArchivedForge(t, func(ci *v1alpha1.CI) { ci.RequireOIDC = true })
	p := newPipeline(t, f.bridge)
	p.file("junit.xml", []byte(greenReport))
	out, code := p.play("report", nil)
	expect(t, out, code, 1, "403", "id_token")
	p.env["SIRRAT_ID_TOKEN"] = f.token(nil)
	p.secrets = append(p.secrets, strings.Split(p.env["SIRRAT_ID_TOKEN"], ".")[2])
	p.env["CI_JOB_NAME"] = "sirrat-report"
	audience := map[string]any{"audience": ourURL}
	for _, end := range []string{"report", "gate", "deployment"} {
		out, code := p.play(end, audience)
		expect(t, out, code, 0)
	}
	for _, r := range p.ciResults() {
		if r.Spec.Identity == nil || r.Spec.Identity.Job != "302" || r.Spec.Pipeline != "574" {
			t.Errorf("%+v", r.Spec)
		}
	}
	if n := len(p.ciResults()); n != 2 {
		t.Errorf("%d results", n)
	}
	p.env["SIRRAT_ID_TOKEN"] = f.token(map[string]any{"aud": "https://elsewhere.example"})
	out, code = p.play("gate", audience)
	expect(t, out, code, 1, "403", "aud")
}

// TestComponentWithKubectl: where the image has kubectl-sirrat, that reports, to the same effect.
func TestComponentWithKubectl(t *testing.T) {
	b, _ := newArchived(t, true)
	p := newPipeline(t, b)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(p.bin, plugin)); err != nil {
		t.Fatal(err)
	}
	p.file("junit.xml", []byte(greenReport))
	p.env["CI_JOB_NAME"] = "unit"
	out, code := p.play("report", map[string]any{"type": "tests"})
	expect(t, out, code, 0, "junit")
	first := p.ciResults()
	if err := os.Remove(filepath.Join(p.bin, plugin)); err != nil {
		t.Fatal(err)
	}
	out, code = p.play("report", map[string]any{"type": "tests"})
	expect(t, out, code, 0, "1 report(s)")
	if again := p.ciResults(); len(first) != 1 || len(again) != 1 {
		t.Errorf("%d results of kubectl-sirrat, %d with those of curl", len(first), len(again))
	}
	out, code = p.play("gate", nil)
	expect(t, out, code, 0, "Passed")
}

var fence = regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$")

// TestPipelinesDocument runs every command of docs/pipelines.md as it stands there.
func TestPipelinesDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "pipelines.md"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := newArchived(t, true)
	p := newPipeline(t, b)
	p.env["CI_JOB_NAME"], p.env["CI_JOB_NAME_SLUG"] = "test", "test"
	p.file("target/surefire-reports/TEST-app.xml", []byte(greenReport))
	p.file("target/site/jacoco/jacoco.xml", sample(t, "jacoco/maven.xml"))
	p.file("Makefile", []byte("test:\n\t@true\n"))
	p.file("gl-sast-report.json", sample(t, "gitlab/sast.json"))
	ran := 0
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		var scripts []string
		switch {
		case block[1] == "sh":
			scripts = append(scripts, block[2])
		case strings.Contains(block[2], "curl"):
			var ci map[string]struct {
				Script []string `yaml:"script"`
			}
			if err := yaml.Unmarshal([]byte(block[2]), &ci); err != nil {
				t.Fatal(err)
			}
			for _, j := range ci {
				scripts = append(scripts, strings.Join(j.Script, "\n"))
			}
		case strings.Contains(block[2], "component:"):
			p.documentedInputs(block[2])
		}
		for _, script := range scripts {
			ran++
			out, code := p.run(shells["sh"], nil, script)
			expect(t, out, code, 0)
		}
	}
	if ran != 5 {
		t.Errorf("%d commands were run, want 5", ran)
	}
	var types []string
	for _, r := range p.ciResults() {
		types = append(types, r.Spec.Type)
		if ofFile := r.Spec.Format != ""; ofFile && (r.Spec.Branch != p.env["CI_COMMIT_REF_NAME"] || r.Spec.Pipeline != "574" || r.Spec.Run != "302") {
			t.Errorf("%s of branch %q, pipeline %q, run %q", r.Spec.Type, r.Spec.Branch, r.Spec.Pipeline, r.Spec.Run)
		}
	}
	slices.Sort(types)
	if diff := cmp.Diff([]string{"coverage", "deployment", "tests", "tests", "tests"}, types); diff != "" {
		t.Errorf("what is stored (-want +got):\n%s", diff)
	}
	// The same commands fail the job when the gate refuses.
	p.env["CI_COMMIT_SHA"] = otherSHA
	p.file("target/surefire-reports/TEST-app.xml", []byte(redReport))
	for i, want := range []int{0, 1} {
		script := fence.FindAllStringSubmatch(string(text)[strings.Index(string(text), "## The same with curl"):], -1)[2*i][2]
		out, code := p.run(shells["sh"], nil, script)
		expect(t, out, code, want)
	}
}

// TestReadmeCommands runs what both READMEs have for .gitlab-ci.yml, as a list of commands.
func TestReadmeCommands(t *testing.T) {
	for file, want := range map[string]int{"README.md": 5, "README.fr.md": 2} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := newArchived(t, true)
		p := newPipeline(t, b)
		p.env["CI_JOB_NAME"] = "test"
		for _, name := range []string{"jacoco.xml", "target/site/jacoco/jacoco.xml"} {
			p.file(name, sample(t, "jacoco/maven.xml"))
		}
		p.file("trivy.json", sample(t, "trivy/image.json"))
		ran := 0
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			var script []string
			if block[1] != "yaml" {
				continue
			}
			if err := yaml.Unmarshal([]byte(block[2]), &script); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, command := range script {
				if strings.HasPrefix(command, "curl ") {
					ran++
					out, code := p.run(shells["sh"], nil, command)
					expect(t, out, code, 0, `"verdict":`)
				}
			}
		}
		if ran != want {
			t.Errorf("%s: %d commands were run, want %d", file, ran, want)
		}
	}
}

// documentedInputs runs the component with the inputs of the document.
func (p *pipeline) documentedInputs(text string) {
	t := p.runner.t
	t.Helper()
	var ci struct {
		Include []struct {
			Inputs map[string]any `yaml:"inputs"`
		} `yaml:"include"`
	}
	if err := yaml.Unmarshal([]byte(text), &ci); err != nil {
		t.Fatal(err)
	}
	b, _ := newArchived(t, true)
	other := newPipeline(t, b)
	other.runner.dir = p.runner.dir
	for _, end := range []string{"report", "gate", "deployment"} {
		out, code := other.play(end, ci.Include[0].Inputs)
		expect(t, out, code, 0)
	}
	if n := len(other.ciResults()); n != 4 {
		t.Errorf("%d results", n)
	}
}

// newArchivedForge is newForge with an archive and the stand-in controller.
func newArchivedForge(t *testing.T, change func(*v1alpha1.CI)) *forge {
	t.Helper()
	f := newForge(t, change, nil)
	dir, err := archive.OpenDirectory(t.TempDir(), func(archive.Torn) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	f.api.o.Archive = dir // before the first request
	f.judged.Store(f.project, true)
	return f
}
