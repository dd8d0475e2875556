// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/cli"
)

// reportBridge has a gate that opens by itself, on tests alone.
const reportBridge = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: dev, namespace: PROJECT}
spec: {}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: ci, namespace: PROJECT}
spec:
  number: 0
  environment: dev
  mode: Automatic
  criteria:
  - name: tests
    result: {type: tests}
`

// pipeline runs a command as a job does: with the three variables and GitLab's own, and no kubeconfig.
type pipeline struct {
	t   *testing.T
	env map[string]string
	in  string
	// now is the clock, if not the real one, and live says that there is a terminal.
	now  func() time.Time
	live bool
}

func (p *pipeline) run(args ...string) outcome {
	p.t.Helper()
	var out, errOut bytes.Buffer
	code := cli.Main(p.t.Context(), cli.World{In: strings.NewReader(p.in), Out: &out, Err: &errOut, Zone: time.UTC, Now: p.now, IsTerminal: func(any) bool { return p.live }, Getenv: func(n string) string { return p.env[n] }}, args)
	return outcome{out.String(), errOut.String(), code}
}

// with is the same job with other variables.
func (p *pipeline) with(t *testing.T, pairs ...string) *pipeline {
	other := &pipeline{t: t, env: map[string]string{}, in: p.in}
	for k, v := range p.env {
		other.env[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		other.env[pairs[i]] = pairs[i+1]
	}
	return other
}

func sampleFile(name string) string { return filepath.Join("..", "..", "reports", "testdata", name) }

// flaky passes requests on to the API, but for the first few, which it answers itself.
func flaky(t *testing.T, target string, refuse func(n int64, w http.ResponseWriter) bool) *httptest.Server {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !refuse(n.Add(1), w) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestReport(t *testing.T) {
	k := newKit(t)
	k.serveHTTP(t)
	repository := images(t)
	k.bridgeOf(t, "", repository, reportBridge)
	plaintext, secret, err := apitoken.New(k.project, "test", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	k.create(t, secret)
	const good, bad = "b1b2c3d4e5f60718293a4b5c6d7e8f9001122334", "c1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
	for _, c := range []string{good, bad} {
		k.push(t, repository, c)
	}
	ci := &pipeline{t: t, env: map[string]string{
		"SIRRAT_API_URL": k.apiURL(t) + "/api", "SIRRAT_API_TOKEN": plaintext, "SIRRAT_PROJECT_ID": k.project,
		"CI_COMMIT_SHA": good, "CI_PIPELINE_ID": "7", "CI_JOB_NAME": "unit", "CI_JOB_ID": "71", "CI_COMMIT_REF_NAME": "main",
	}}
	jest, node := sampleFile("junit/jest-junit.xml"), sampleFile("junit/node-test.xml")

	t.Run("passes", func(t *testing.T) {
		o := ci.with(t).run("report", jest, node, sampleFile("jacoco/maven.xml"), "--wait", "60s", "--fail-on", "waiting")
		t.Log("\n" + o.out)
		o.expect(t, 0, "FILE", "jest-junit", "4 tests, 0 failed, 1 skipped", "95.00 % of 20 lines", "passed, karma")
		var list v1alpha1.CIResultList
		if err := k.client.List(t.Context(), &list, client.InNamespace(k.project)); err != nil {
			t.Fatal(err)
		}
		jobs := map[string]string{}
		for _, r := range list.Items {
			jobs[r.Spec.Job] = r.Spec.Type + " " + r.Spec.Pipeline + " " + r.Spec.Run + " " + r.Spec.Branch
		}
		if len(jobs) != 3 || jobs["unit/jest-junit.xml"] != "tests 7 71 main" {
			t.Errorf("results %v", jobs)
		}
	})
	t.Run("refused by the gate", func(t *testing.T) {
		job := ci.with(t, "CI_COMMIT_SHA", bad)
		job.run("report", sampleFile("junit/surefire.xml"), "--wait", "60s").expect(t, 3, "refused, karma", "2 failed", "error: the gate refuses this commit")
		job.run("report", sampleFile("junit/surefire.xml"), "--wait", "60s", "--fail-on", "never").expect(t, 0, "refused, karma")
		o := job.with(t, "LANG", "fr_FR.UTF-8").run("report", sampleFile("junit/surefire.xml"), "--wait", "60s", "--gate", "ci")
		o.expect(t, 3, "FICHIER", "2 échoués", "la porte refuse ce commit")
	})
	t.Run("for programs", func(t *testing.T) {
		o := ci.with(t).run("report", jest, node, "-o", "json")
		o.expect(t, 0)
		var got struct {
			Files []struct {
				File, Result string
				Report       struct{ Format string }
			}
			Answer struct{ Verdict string }
		}
		if err := json.Unmarshal([]byte(o.out), &got); err != nil {
			t.Fatalf("%v in %s", err, o.out)
		}
		if len(got.Files) != 2 || got.Files[0].Report.Format != "junit" || got.Files[0].Result == "" || got.Answer.Verdict != "Passed" {
			t.Errorf("%s", o.out)
		}
		ci.with(t).run("report", jest, "--dry-run", "-o", "yaml").expect(t, 0, "format: junit")
	})
	t.Run("what repeats itself", func(t *testing.T) { // shrinks to less than what the server unpacks, and is sent all the same
		job := ci.with(t, "CI_JOB_NAME", "repeated")
		log := filepath.Join(t.TempDir(), "log.xml")
		for _, size := range []int{2 << 20, 34 << 20} {
			text := `<testsuite><testcase name="a"><system-out>` + strings.Repeat("ok\n", size/3) + `</system-out></testcase></testsuite>`
			if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			job.run("report", log, "--fail-on", "never").expect(t, 0, "1 tests, 0 failed")
		}
	})
	t.Run("standard input", func(t *testing.T) {
		job := ci.with(t, "CI_JOB_NAME", "piped")
		job.in = `<testsuite><testcase name="a"/></testsuite>`
		job.run("report", "-", "--fail-on", "never").expect(t, 0, "stdin", "1 tests, 0 failed")
		job.in = ""
		job.run("report", "-", "--dry-run").expect(t, 1, "stdin", "empty")
	})
	t.Run("nothing is sent of what proves nothing", func(t *testing.T) {
		cut := filepath.Join(t.TempDir(), "cut.xml")
		if err := os.WriteFile(cut, []byte(`<testsuite><testcase/>`), 0o600); err != nil {
			t.Fatal(err)
		}
		job := ci.with(t, "SIRRAT_API_URL", "http://127.0.0.1:1/api")
		job.run("report", jest, cut).expect(t, 1, "ends before it is complete", "1 of 2 files prove nothing")
		for path, why := range map[string]string{filepath.Join(t.TempDir(), "none.xml"): "Name the files", t.TempDir(): "no report in the folder"} {
			o := job.run("report", path)
			o.expect(t, 1, why)
			if strings.Contains(o.err, "KUBECONFIG") {
				t.Errorf("a wrong way out: %s", o.err)
			}
		}
	})
	t.Run("a folder", func(t *testing.T) {
		root := t.TempDir()
		for name, text := range map[string]string{
			"core/TEST-a.xml": `<testsuite><testcase name="a"/></testsuite>`, "web/TEST-a.xml": `<testsuite><testcase name="b"/><testcase name="c"/></testsuite>`,
			"web/pom.xml": "<project/>",
		} {
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		job := ci.with(t, "CI_JOB_NAME", "folder")
		job.run("report", root, "--wait", "60s").expect(t, 0, "TEST-a.xml", "1 tests, 0 failed", "2 tests, 0 failed", "no reports: 1", "web/pom.xml: of none of the formats", "passed, karma")
		var list v1alpha1.CIResultList
		if err := k.client.List(t.Context(), &list, client.InNamespace(k.project)); err != nil {
			t.Fatal(err)
		}
		stored := 0
		for _, r := range list.Items {
			if strings.HasPrefix(r.Spec.Job, "folder/") {
				stored++
			}
		}
		if stored != 2 {
			t.Errorf("%d results are stored", stored)
		}
		cut := filepath.Join(root, "core", "TEST-b.xml")
		if err := os.WriteFile(cut, []byte("<testsuite>"), 0o600); err != nil {
			t.Fatal(err)
		}
		job.with(t, "SIRRAT_API_URL", "http://127.0.0.1:1/api").run("report", root).expect(t, 1, "1 of 3 files prove nothing")
	})
	t.Run("a long upload is told of", func(t *testing.T) {
		large := filepath.Join(t.TempDir(), "large.xml")
		var text strings.Builder // which shrinks little
		text.WriteString(`<testsuite><testcase name="a"><system-out>`)
		for i := range 200_000 {
			fmt.Fprintf(&text, "%x\n", sha256.Sum256(fmt.Append(nil, i)))
		}
		text.WriteString(`</system-out></testcase></testsuite>`)
		if err := os.WriteFile(large, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		var tick atomic.Int64 // a clock that passes a second each time it is looked at
		begin := time.Now()
		job := ci.with(t, "CI_JOB_NAME", "large")
		job.now = func() time.Time { return begin.Add(time.Duration(tick.Add(1)) * time.Second) }
		for _, job.live = range []bool{false, true} {
			o := job.run("report", large)
			o.expect(t, 0, "1 tests, 0 failed", "sending "+large, " MB of ", " MB/s")
			if strings.Contains(o.err, "\r") != job.live {
				t.Errorf("on a terminal %t: %q", job.live, o.err)
			}
			o = job.run("report", large, "-o", "json")
			if o.expect(t, 0); !json.Valid([]byte(o.out)) {
				t.Errorf("for programs: %s", o.out)
			}
		}
	})
	t.Run("what the server refuses is not tried again", func(t *testing.T) {
		o := ci.with(t).run("report", sampleFile("sarif/codeql.sarif"))
		o.expect(t, 1, "the report names 8f14e45f")
		if strings.Contains(o.err, "Trying again") {
			t.Errorf("tried again: %s", o.err)
		}
		ci.with(t, "SIRRAT_API_TOKEN", "sirrat_aaaaaaaa_"+strings.Repeat("0", 48)).run("report", jest).expect(t, 1, "does not open this project")
		ci.with(t, "SIRRAT_API_TOKEN", "").run("report", jest).expect(t, 1, "SIRRAT_API_TOKEN is not set")
	})
	t.Run("a busy server, a broken one, a cut line", func(t *testing.T) {
		server := flaky(t, k.apiURL(t), func(n int64, w http.ResponseWriter) bool {
			switch n {
			case 1:
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusTooManyRequests)
			case 2:
				w.WriteHeader(http.StatusBadGateway)
			case 3:
				panic(http.ErrAbortHandler)
			}
			return n <= 3
		})
		o := ci.with(t, "SIRRAT_API_URL", server.URL+"/api").run("report", jest, node, "--wait", "30s")
		o.expect(t, 0, "passed, karma")
		if n := strings.Count(o.err, "Trying again"); n != 3 {
			t.Errorf("tried again %d times: %s", n, o.err)
		}
	})
	t.Run("wrong invocations", func(t *testing.T) {
		ci.with(t, "CI_COMMIT_SHA", "").run("report", jest).expect(t, 2, "--commit is needed")
		ci.with(t).run("report", jest, "--fail-on", "monday").expect(t, 2, "refused, waiting or never")
		ci.with(t).run("report", jest, "--wait", "-1s").expect(t, 2, "--wait")
		ci.with(t).run("report").expect(t, 2, "too few")
	})
}
