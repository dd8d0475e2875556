// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// The calls as the user wrote them, line by line; YAML folds the line breaks of an item into spaces.
const (
	seedResults = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/quality-gates/results
-H "Authorization: Bearer $SIRRAT_API_TOKEN"
-d '{"type":"tests","status":"passed","coverage":85,"commit":"'$CI_COMMIT_SHA'"}'`
	seedDeployments = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/deployments
-H "Authorization: Bearer $SIRRAT_API_TOKEN"
-d '{"environment":"dev","version":"'$CI_COMMIT_SHORT_SHA'","status":"deployed"}'`
)

func (b *bridge) curl(line string) (Answer, string) {
	b.t.Helper()
	const status = "\n%{http_code}"
	sh := exec.Command("sh", "-ec", strings.ReplaceAll(line, "\n", " ")+" -w '"+status+"'")
	sh.Env = append(sh.Environ(), "SIRRAT_API_URL="+b.url, "SIRRAT_PROJECT_ID="+b.project, "SIRRAT_API_TOKEN="+b.token,
		"CI_COMMIT_SHA="+someCommit, "CI_COMMIT_SHORT_SHA="+someCommit[:8], "no_proxy=*")
	out, err := sh.Output()
	if err != nil {
		b.t.Fatalf("curl: %v", err)
	}
	i := strings.LastIndex(string(out), "\n")
	var answer Answer
	if err := json.Unmarshal(out[:i], &answer); err != nil {
		b.t.Fatalf("curl answered %q: %v", out, err)
	}
	return answer, string(out[i+1:])
}

func TestSeedCalls(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("this test runs the user's own curl lines: install curl")
	}
	b := newBridge(t, true)
	answer, status := b.curl(seedResults)
	if status != "201" {
		t.Errorf("results: status %s, want 201", status)
	}
	want := Answer{
		Project: b.project, Commit: someCommit, Release: someCommit[:7], Karma: 35, Level: "Pécheur", Works: 35, Next: "waits for QA",
		Verdict: v1alpha1.VerdictPassed, Judged: true,
		Gates: []GateAnswer{
			{Name: "ci", Number: 0, Environment: "dev", Verdict: v1alpha1.VerdictPassed, Message: "judged", WaitingFor: []string{}},
			{Name: "qa", Number: 1, Environment: "rmoa-dynors", Verdict: v1alpha1.VerdictWaiting, WaitingFor: []string{"approval by QA"}},
		},
	}
	if diff := cmp.Diff(want, answer, cmpopts.IgnoreFields(Answer{}, "Result")); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	var stored v1alpha1.CIResult
	if err := b.direct.Get(t.Context(), client.ObjectKey{Namespace: b.project, Name: answer.Result}, &stored); err != nil {
		t.Fatal(err)
	}
	id, _ := apitoken.ID(b.token)
	coverage := 85.0
	body := `{"type":"tests","status":"passed","coverage":85,"commit":"` + someCommit + `"}`
	wantSpec := v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: someCommit, Coverage: &coverage, Source: id, ReportHash: reportHash([]byte(body)), Report: []byte(body)}
	if diff := cmp.Diff(wantSpec, stored.Spec, cmpopts.IgnoreFields(v1alpha1.CIResultSpec{}, "Received")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if age := time.Since(stored.Spec.Received.Time); age < 0 || age > cptest.Deadline {
		t.Errorf("received %s ago", age)
	}
	if got := stored.Labels[v1alpha1.LabelCommit]; got != someCommit[:7] {
		t.Errorf("label %q", got)
	}

	answer, status = b.curl(seedDeployments)
	if status != "201" || answer.Release != someCommit[:7] || !answer.Judged {
		t.Errorf("deployments: status %s, answer %+v", status, answer)
	}
	if _, status = b.curl(seedResults); status != "200" {
		t.Errorf("results again: status %s, want 200", status)
	}
	if _, status = b.curl(seedDeployments); status != "200" {
		t.Errorf("deployments again: status %s, want 200", status)
	}
	if n := len(b.ciResults()); n != 2 {
		t.Errorf("%d results stored, want 2", n)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBridge(t, false)
	b.create(&v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1alpha1.ReleaseSpec{Commit: commitOf("feedc0de")}})
	R, D, G := b.results(), b.deployments(), b.gates
	for _, tc := range []struct {
		name, method, url, body string
		status                  int
		field                   string
	}{
		{"broken JSON", "POST", R, `{"type":`, 400, ""},
		{"a form", "POST", R, `type=tests&status=passed`, 400, ""},
		{"unknown field", "POST", R, with(`"covrage":1`), 400, "covrage"},
		{"type with bad characters", "POST", R, with(`"type":"Tests!"`), 400, "type"},
		{"type that nothing declares", "POST", R, with(`"type":"tets"`), 400, "type"},
		{"negative coverage", "POST", R, with(`"coverage":-1`), 400, "coverage"},
		{"commit that is not a SHA", "POST", R, with(`"commit":"main"`), 400, "commit"},
		{"oversized", "POST", R, with(`"branch":"` + strings.Repeat("a", MaxBody) + `"`), 413, ""},
		{"bad wait", "POST", R + "?wait=soon", with(``), 400, "wait"},
		{"long wait", "POST", R + "?wait=61s", with(``), 400, "wait"},
		{"negative wait", "POST", R + "?wait=-1", with(``), 400, "wait"},
		{"no such environment", "POST", D, `{"environment":"nowhere","version":"feedc0de","status":"deployed"}`, 404, "environment"},
		{"no such version", "POST", D, `{"environment":"dev","version":"v9.9.9","status":"deployed"}`, 404, "version"},
		{"no release of this commit", "POST", D, `{"environment":"dev","version":"0000000","status":"deployed"}`, 404, "version"},
		{"no commit asked", "GET", G(""), "", 400, "commit"},
		{"not a commit asked", "GET", G("commit=../x"), "", 400, "commit"},
		{"no such release", "GET", G("commit=0000000"), "", 404, "commit"},
		{"no such gate", "GET", G("commit=feedc0de&gate=nosuch"), "", 404, "gate"},
		{"gate with a path", "GET", G("commit=feedc0de&gate=..%2Fci"), "", 404, "gate"},
		{"wrong method", "GET", R, "", 405, ""},
		{"wrong method on gates", "DELETE", G("commit=feedc0de"), "", 405, ""},
		{"no such path", "GET", b.url + "/projects/" + b.project, "", 404, ""},
		{"root", "GET", b.url, "", 404, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, header, raw := b.send(tc.method, tc.url, b.token, tc.body, nil)
			b.wantProblem(status, raw, tc.status, tc.field)
			if got := header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type %q", got)
			}
			if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Content-Security-Policy") == "" {
				t.Error("no security headers")
			}
			if tc.status == 405 && header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
	if n := len(b.ciResults()); n != 0 {
		t.Errorf("%d results stored", n)
	}
	if n := len(b.releases()); n != 1 {
		t.Errorf("%d releases, want 1", n)
	}
}

func TestTypeDeclaredByAGate(t *testing.T) {
	b := newBridge(t, true)
	b.mustPost(b.results(), `{"type":"lint","status":"passed","commit":"`+someCommit+`"}`, 201)
}

func TestResultsOfOneCommit(t *testing.T) {
	b := newBridge(t, true)
	first := b.mustPost(b.results(), result(someCommit, `"branch":"main"`), 201)
	if first.Verdict != v1alpha1.VerdictPassed {
		t.Errorf("verdict %s, want Passed", first.Verdict)
	}
	again := b.mustPost(b.results(), " "+result(strings.ToUpper(someCommit), `"branch":"main"`), 200)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same report, another answer (-first +again):\n%s", diff)
	}
	// The same run says that it failed: refused, but not forgotten.
	status, raw := b.do(http.MethodPost, b.results(), b.token, strings.Replace(result(someCommit, `"branch":"main"`), "passed", "failed", 1))
	b.wantProblem(status, raw, http.StatusConflict, "run")
	cptest.Wait(t, "the failure to count", func(context.Context) error {
		if again := b.mustPost(b.results(), result(someCommit, `"branch":"main"`), 200); again.Verdict != v1alpha1.VerdictRefused {
			return fmt.Errorf("verdict %s", again.Verdict)
		}
		return nil
	})
	if again = b.mustPost(b.results(), result(someCommit, `"branch":"main"`), 200); again.Verdict != v1alpha1.VerdictRefused {
		t.Errorf("the first report again hides the failure: %s", again.Verdict)
	}
	// What contradicts without being worse is not stored at all.
	status, raw = b.do(http.MethodPost, b.results(), b.token, result(someCommit, `"branch":"main","coverage":99`))
	b.wantProblem(status, raw, http.StatusConflict, "run")
	if !strings.Contains(string(raw), "not the same: coverage;") {
		t.Errorf("what contradicts is not named: %s", raw)
	}
	status, raw = b.do(http.MethodPost, b.results(), b.token, result(someCommit, `"branch":"other"`))
	if b.wantProblem(status, raw, http.StatusConflict, "run"); !strings.Contains(string(raw), "not the same: branch;") {
		t.Errorf("that it is the branch alone is not said: %s", raw)
	}
	if n := len(b.ciResults()); n != 2 {
		t.Errorf("%d results stored, want the first and the worse", n)
	}
	// A newer run of the job replaces both; another job stands beside it.
	if rerun := b.mustPost(b.results(), result(someCommit, `"branch":"main","pipeline":7,"job":"unit","run":11`), 201); rerun.Verdict != v1alpha1.VerdictPassed {
		t.Errorf("a newer pipeline: %s", rerun.Verdict)
	}
	other := strings.Replace(result(someCommit, `"branch":"main","pipeline":7,"job":"e2e","run":12`), "passed", "failed", 1)
	if other := b.mustPost(b.results(), other, 201); other.Verdict != v1alpha1.VerdictRefused {
		t.Errorf("another job that failed: %s", other.Verdict)
	}
	// The abbreviation means the commit that the project knows.
	if short := b.mustPost(b.results(), result(someCommit[:9], `"branch":"main"`), 200); short.Result != first.Result {
		t.Errorf("by abbreviation: %+v", short)
	}
	releases := b.releases()
	if len(releases) != 1 || releases[0].Name != someCommit[:7] || releases[0].Spec.Branch != "main" {
		t.Errorf("releases %+v", releases)
	}
}

func TestReleaseOfTheUser(t *testing.T) {
	b := newBridge(t, true)
	b.create(&v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "spring"}, Spec: v1alpha1.ReleaseSpec{Commit: someCommit, Version: "v1.3.0"}})
	cptest.Wait(t, "the cache to have the release", func(ctx context.Context) error {
		return b.client.Get(ctx, client.ObjectKey{Namespace: b.project, Name: "spring"}, &v1alpha1.Release{})
	})
	if answer := b.mustPost(b.results(), result(someCommit, ""), 201); answer.Release != "spring" {
		t.Errorf("release %q", answer.Release)
	}
	if answer := b.mustPost(b.deployments(), `{"environment":"dev","version":"1.3.0","status":"deployed"}`, 201); answer.Release != "spring" {
		t.Errorf("release %q", answer.Release)
	}
	if n := len(b.releases()); n != 1 {
		t.Errorf("%d releases, want the user's only", n)
	}
}

func TestShortCommitWithoutRelease(t *testing.T) {
	b := newBridge(t, true)
	answer := b.mustPost(b.results(), result("abcdef12", ""), 202)
	if answer.Judged || answer.Release != "" || answer.Commit != "abcdef12" || answer.Next != "awaits a release with this commit" {
		t.Errorf("answer %+v", answer)
	}
	if n := len(b.releases()); n != 0 {
		t.Errorf("%d releases made from an abbreviation", n)
	}
	if results := b.ciResults(); len(results) != 1 || results[0].Spec.Commit != "abcdef12" {
		t.Errorf("stored %+v", results)
	}
}

func TestTwoCommitsWithOneAbbreviation(t *testing.T) {
	b := newBridge(t, true)
	one, two := commitOf("a1b2c3d0"), commitOf("a1b2c3d1")
	first := b.mustPost(b.results(), result(one, ""), 201)
	second := b.mustPost(b.results(), result(two, ""), 201)
	if first.Release != "a1b2c3d" || second.Release != two[:12] {
		t.Errorf("releases %q and %q", first.Release, second.Release)
	}
	if first.Commit != one || second.Commit != two {
		t.Errorf("commits %q and %q", first.Commit, second.Commit)
	}
	status, _, raw := b.post(b.results(), result("a1b2c3d", ""))
	b.wantProblem(status, raw, http.StatusConflict, "commit")
	for _, version := range []string{"a1b2c3d", "dev-a1b2c3d"} {
		status, _, raw = b.post(b.deployments(), `{"environment":"dev","version":"`+version+`","status":"deployed"}`)
		b.wantProblem(status, raw, http.StatusConflict, "version")
	}
	status, raw = b.do(http.MethodGet, b.gates("commit=a1b2c3d"), b.token, "")
	b.wantProblem(status, raw, http.StatusConflict, "commit")
	if answer := b.mustPost(b.results(), result("a1b2c3d1", `"pipeline":7`), 201); answer.Release != two[:12] {
		t.Errorf("8 digits gave release %q", answer.Release)
	}
	third := commitOf("a1b2c3d10000f")
	if answer := b.mustPost(b.results(), result(third, ""), 201); answer.Release != third {
		t.Errorf("third release %q, want the whole commit", answer.Release)
	}
}

func TestConcurrentReports(t *testing.T) {
	b := newBridge(t, true)
	const n = 48
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b.post(b.results(), result(someCommit, fmt.Sprintf(`"pipeline":%d`, i)))
			status, _, _ := b.post(b.results(), result(someCommit, `"branch":"same"`))
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[int]int{201: 1, 200: n - 1}, statuses); diff != "" {
		t.Errorf("statuses of the same report (-want +got):\n%s", diff)
	}
	if got := len(b.ciResults()); got != n+1 {
		t.Errorf("%d results, want %d", got, n+1)
	}
	if got := len(b.releases()); got != 1 {
		t.Errorf("%d releases, want 1", got)
	}
}

func TestDeploymentsInTurn(t *testing.T) {
	b := newBridge(t, true)
	one, two := commitOf("1111111"), commitOf("2222222")
	b.mustPost(b.results(), result(one, ""), 201)
	b.mustPost(b.results(), result(two, ""), 201)
	deploy := func(commit, status string, want int) string {
		t.Helper()
		return b.mustPost(b.deployments(), `{"environment":"dev","version":"dev-`+commit[:7]+`","status":"`+status+`"}`, want).Result
	}
	names := []string{
		deploy(one, "deployed", 201),
		deploy(two, "failed", 201),
		deploy(two, "rolled-back", 201),
		deploy(one, "deployed", 201),
	}
	if last := deploy(one, "deployed", 200); last != names[3] {
		t.Errorf("the same report twice in a row: %s and %s", names[3], last)
	}
	received := map[string]time.Time{}
	for _, r := range b.ciResults() {
		if r.Spec.Type == v1alpha1.TypeDeployment {
			received[r.Name] = r.Spec.Received.Time
		}
	}
	if len(received) != len(names) {
		t.Errorf("%d deployments stored, want %d", len(received), len(names))
	}
	if !slices.IsSortedFunc(names, func(a, b string) int { return received[a].Compare(received[b]) }) {
		t.Error("times of receipt do not follow the order of the reports")
	}
}

func TestWaitForVerdict(t *testing.T) {
	b := newBridge(t, false)
	answers := make(chan Answer, 2)
	ask := func(query string) {
		_, raw := b.do(http.MethodGet, b.gates(query), b.token, "")
		var a Answer
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		answers <- a
	}
	go ask("commit=" + someCommit[:8] + "&wait=60s") // before there is anything to wait for
	if answer := b.mustPost(b.results()+"?wait=0", result(someCommit, ""), 202); answer.Judged || answer.Result == "" {
		t.Errorf("nobody judges, and yet: %+v", answer)
	}
	go ask("commit=" + someCommit + "&gate=ci&wait=60")
	select {
	case a := <-answers:
		t.Fatalf("answered before the verdict: %+v", a)
	default:
	}
	b.judged.Store(b.project, true)
	cptest.Wait(t, "the verdict to be written", func(context.Context) error {
		if err := b.judge(b.project, someCommit); err != nil {
			return err
		}
		if len(b.releases()[0].Status.Gates) == 0 {
			return fmt.Errorf("no verdict yet")
		}
		return nil
	})
	for range 2 {
		select {
		case a := <-answers:
			if a.Verdict != v1alpha1.VerdictPassed || !a.Judged || len(a.Gates) != 2 {
				t.Errorf("answer %+v", a)
			}
		case <-time.After(cptest.Deadline / 2):
			t.Fatal("the verdict is there and the request still waits")
		}
	}
	// qa waits for people, and so would the request.
	status, raw := b.do(http.MethodGet, b.gates("commit="+someCommit+"&gate=qa&wait=50ms"), b.token, "")
	if status != http.StatusOK || !strings.Contains(string(raw), `"verdict":"Waiting"`) {
		t.Errorf("gate qa: %d %s", status, raw)
	}
}

// TestVerdictFromBeforeIsNone: what was judged before the last report came in is not what a pipeline asks for.
func TestVerdictFromBeforeIsNone(t *testing.T) {
	b := newBridge(t, false)
	b.mustPost(b.results()+"?wait=0", result(someCommit, ""), 202)
	judge := func() {
		t.Helper()
		if err := b.judge(b.project, someCommit); err != nil {
			t.Fatal(err)
		}
	}
	judge()
	ask := func(query string) (a Answer) {
		t.Helper()
		status, raw := b.do(http.MethodGet, b.gates("commit="+someCommit+"&gate=ci&"+query), b.token, "")
		if err := json.Unmarshal(raw, &a); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s", status, raw)
		}
		return a
	}
	if a := ask("wait=60s"); a.Verdict != v1alpha1.VerdictPassed || !a.Judged {
		t.Fatalf("judged by all that there is: %+v", a)
	}
	failed := b.mustPost(b.results()+"?wait=0", strings.Replace(result(someCommit, `"pipeline":"9"`), "passed", "failed", 1), 202)
	cptest.Wait(t, "the report to be seen", func(context.Context) error {
		if a := ask("wait=0"); a.Judged || a.Verdict != v1alpha1.VerdictWaiting {
			return fmt.Errorf("with %s still to be judged: %+v", failed.Result, a)
		}
		return nil
	})
	if a := ask("wait=50ms"); a.Judged || a.Verdict != v1alpha1.VerdictWaiting {
		t.Errorf("with %s still to be judged: %+v", failed.Result, a)
	}
	judge()
	if a := ask("wait=60s"); a.Verdict != v1alpha1.VerdictRefused || !a.Judged {
		t.Errorf("judged by all that there is: %+v", a)
	}
}

func TestReplacedResultIsJudged(t *testing.T) {
	b := newBridge(t, false)
	answer := b.mustPost(b.results()+"?wait=0", result(someCommit, ""), 202)
	var r v1alpha1.CIResult
	if err := b.direct.Get(t.Context(), client.ObjectKey{Namespace: b.project, Name: answer.Result}, &r); err != nil {
		t.Fatal(err)
	}
	r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReplaced, LastTransitionTime: metav1.Now()}}
	if err := b.direct.Status().Update(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	b.mustPost(b.results()+"?wait=30s", result(someCommit, ""), 200)
}

func TestStoppingEndsWaits(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	b := newBridge(t, false, func(o *Options) { o.Stopping = stop })
	start := time.Now()
	b.mustPost(b.results()+"?wait=60s", result(someCommit, ""), 202)
	if d := time.Since(start); d > MaxWait/2 {
		t.Errorf("answered after %s", d)
	}
}

func TestReportOutlivesTheBodysDeadline(t *testing.T) {
	b := newBridge(t, false, func(o *Options) { o.BodyTimeout = 200 * time.Millisecond })
	start := time.Now()
	b.mustPost(b.results()+"?wait=600ms", result(someCommit, ""), 202)
	if d := time.Since(start); d < 600*time.Millisecond {
		t.Errorf("answered after %s: the deadline of the body cut the wait", d)
	}
}
