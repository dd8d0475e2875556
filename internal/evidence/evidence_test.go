// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/reports"
)

// whole compares what is not exported as well.
var whole = cmp.AllowUnexported(Set{})

func result(name, typ, pipeline, status string) v1alpha1.CIResult {
	r := v1alpha1.CIResult{Spec: v1alpha1.CIResultSpec{Type: typ, Pipeline: pipeline, Status: status}}
	r.Name = name
	return r
}

func TestReduce(t *testing.T) {
	for _, c := range []struct {
		name    string
		in      []v1alpha1.CIResult
		status  string
		counted []string
	}{
		{"a later pass of the same run hides nothing", []v1alpha1.CIResult{
			result("a", "tests", "7", "failed"), result("b", "tests", "7", "passed")}, "failed", []string{"a", "b"}},
		{"a newer run replaces", []v1alpha1.CIResult{
			result("a", "tests", "7", "failed"), result("b", "tests", "8", "passed")}, "passed", []string{"b"}},
		{"newer is by number, not by text", []v1alpha1.CIResult{
			result("a", "tests", "9", "failed"), result("b", "tests", "10", "passed")}, "passed", []string{"b"}},
		{"an older run that arrives late changes nothing", []v1alpha1.CIResult{
			result("a", "tests", "8", "passed"), result("b", "tests", "7", "failed")}, "passed", []string{"a"}},
		{"without a pipeline all is one run", []v1alpha1.CIResult{
			result("a", "tests", "", "failed"), result("b", "tests", "", "passed")}, "failed", []string{"a", "b"}},
		{"a pipeline outweighs none", []v1alpha1.CIResult{
			result("a", "tests", "", "failed"), result("b", "tests", "1", "passed")}, "passed", []string{"b"}},
		{"deployments are no evidence", []v1alpha1.CIResult{
			result("a", "tests", "1", "passed"), result("d", "deployment", "1", "failed")}, "passed", []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Reduce(c.in)
			if got.Results["tests"].Status != c.status {
				t.Errorf("status %s, want %s", got.Results["tests"].Status, c.status)
			}
			if diff := cmp.Diff(c.counted, got.Counted); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func of(name, job, run, status string, change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResult {
	r := result(name, "tests", "7", status)
	r.Spec.Job, r.Spec.Run = job, run
	for _, f := range change {
		f(&r.Spec)
	}
	return r
}

func tests(total, passed, failed, skipped int32) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) {
		s.Tests = &v1alpha1.TestCounts{Total: total, Passed: passed, Failed: failed, Skipped: skipped}
	}
}

func findings(critical, high, medium, low int32) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) {
		s.Vulnerabilities = &v1alpha1.VulnerabilityCounts{Critical: critical, High: high, Medium: medium, Low: low}
	}
}

func covers(percent float64, lines ...int32) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) {
		s.Coverage = &percent
		for _, n := range lines {
			s.CoverageBase = &n
		}
	}
}

func scores(f float64) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) { s.Score = &f }
}

func pipeline(id string) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) { s.Pipeline = id }
}

func received(minute int) func(*v1alpha1.CIResultSpec) {
	return func(s *v1alpha1.CIResultSpec) { s.Received = metav1.NewTime(at(minute)) }
}

func at(minute int) time.Time { return time.Date(2026, 11, 22, 14, minute, 0, 0, time.UTC) }

func ptr[T any](v T) *T { return &v }

func TestJobsAndRuns(t *testing.T) {
	counts := func(total, passed, failed, skipped int32) *v1alpha1.TestCounts {
		return &v1alpha1.TestCounts{Total: total, Passed: passed, Failed: failed, Skipped: skipped}
	}
	const most = math.MaxInt32
	for _, c := range []struct {
		name    string
		in      []v1alpha1.CIResult
		want    Result
		counted []string
	}{
		{"jobs stand beside each other: counts add up, the worst status counts", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 9, 0, 1)), of("b", "e2e", "2", "failed", tests(5, 3, 2, 0))},
			Result{Status: "failed", Tests: counts(15, 12, 2, 1)}, []string{"a", "b"}},
		{"a job that counts nothing hides no other's counts", []v1alpha1.CIResult{
			of("a", "api", "1", "passed"), of("b", "e2e", "2", "failed", tests(5, 3, 2, 0), findings(0, 1, 0, 0)), of("c", "web", "3", "passed")},
			Result{Status: "failed", Tests: counts(5, 3, 2, 0), Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 1}}, []string{"a", "b", "c"}},
		{"a job that was skipped spoils the jobs that passed", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed"), of("b", "e2e", "2", "skipped")}, Result{Status: "skipped"}, []string{"a", "b"}},
		{"a status that nobody knows is worse than a failure", []v1alpha1.CIResult{
			of("a", "e2e", "1", "failed"), of("b", "unit", "2", "deployed")}, Result{Status: "deployed"}, []string{"a", "b"}},
		{"a newer run of a job replaces the older one, and no other job", []v1alpha1.CIResult{
			of("a", "unit", "9", "failed", tests(10, 1, 9, 0)), of("b", "unit", "10", "passed", tests(10, 10, 0, 0)), of("c", "e2e", "3", "failed", tests(1, 0, 1, 0))},
			Result{Status: "failed", Tests: counts(11, 10, 1, 0)}, []string{"b", "c"}},
		{"a run that arrives late is still the older one", []v1alpha1.CIResult{
			of("a", "unit", "10", "passed", received(1)), of("b", "unit", "9", "failed", received(2))}, Result{Status: "passed", Received: at(1)}, []string{"a"}},
		{"a newer run of an older pipeline replaces nothing", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed", pipeline("8")), of("b", "unit", "99", "passed")}, Result{Status: "failed", Pipeline: "8"}, []string{"a"}},
		{"zeros in front make no pipeline newer", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed", pipeline("9")), of("b", "unit", "1", "passed", pipeline("0008"))}, Result{Status: "failed", Pipeline: "9"}, []string{"a"}},
		{"a new pipeline replaces every job of the old one", []v1alpha1.CIResult{
			of("a", "e2e", "1", "failed"), of("b", "unit", "2", "passed", pipeline("8"))}, Result{Status: "passed", Pipeline: "8"}, []string{"b"}},
		{"one run that says two things said the worse of each", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 10, 0, 0), covers(80, 1000), scores(90)),
			of("b", "unit", "1", "failed", tests(10, 6, 4, 0), covers(90, 500), scores(70))},
			Result{Status: "failed", Tests: counts(10, 6, 4, 0), Coverage: ptr(80.0), CoverageBase: ptr(int32(500)), Score: ptr(70.0)}, []string{"a", "b"}},
		{"a better share said later in one run hides nothing", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed", tests(10, 6, 4, 0)), of("b", "unit", "1", "passed", tests(10, 10, 0, 0))},
			Result{Status: "failed", Tests: counts(10, 6, 4, 0)}, []string{"a", "b"}},
		{"of two equal shares the one over fewer tests is worse", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 10, 0, 0)), of("b", "unit", "1", "passed", tests(2, 2, 0, 0))},
			Result{Status: "passed", Tests: counts(2, 2, 0, 0)}, []string{"a", "b"}},
		{"and stays so when it was said first", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(2, 2, 0, 0)), of("b", "unit", "1", "passed", tests(10, 10, 0, 0))},
			Result{Status: "passed", Tests: counts(2, 2, 0, 0)}, []string{"a", "b"}},
		{"no test that ran is the worst", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 0, 10, 0)), of("b", "unit", "1", "passed", tests(5, 0, 0, 5))},
			Result{Status: "failed", Tests: counts(5, 0, 0, 5)}, []string{"a", "b"}},
		{"what calls itself passed and counts a test that failed has failed", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 7, 1, 2)), of("b", "e2e", "1", "passed", tests(5, 5, 0, 0))},
			Result{Status: "failed", Tests: counts(15, 12, 1, 2)}, []string{"a", "b"}},
		{"what calls itself passed and counts no test was skipped", []v1alpha1.CIResult{of("a", "unit", "1", "passed", tests(0, 0, 0, 0))},
			Result{Status: "skipped", Tests: counts(0, 0, 0, 0)}, []string{"a"}},
		{"what calls itself passed and skipped all its tests was skipped", []v1alpha1.CIResult{of("a", "unit", "1", "passed", tests(3, 0, 0, 3))},
			Result{Status: "skipped", Tests: counts(3, 0, 0, 3)}, []string{"a"}},
		{"what failed although all its tests passed has failed", []v1alpha1.CIResult{of("a", "unit", "1", "failed", tests(3, 3, 0, 0))},
			Result{Status: "failed", Tests: counts(3, 3, 0, 0)}, []string{"a"}},
		{"what failed and ran no test has failed", []v1alpha1.CIResult{of("a", "unit", "1", "failed", tests(0, 0, 0, 0))},
			Result{Status: "failed", Tests: counts(0, 0, 0, 0)}, []string{"a"}},
		{"findings of one run: the most of each; of several jobs: the sum", []v1alpha1.CIResult{
			of("a", "api", "1", "passed", findings(0, 3, 1, 0)), of("b", "api", "1", "passed", findings(1, 0, 2, 5)), of("c", "web", "1", "passed", findings(1, 1, 1, 1))},
			Result{Status: "passed", Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 2, High: 4, Medium: 3, Low: 6}}, []string{"a", "b", "c"}},
		{"the lowest coverage and score of the jobs, over all their lines", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", covers(91, 300), scores(50)), of("b", "e2e", "1", "passed", covers(85.5, 200), scores(60)), of("c", "lint", "1", "passed")},
			Result{Status: "passed", Coverage: ptr(85.5), CoverageBase: ptr(int32(500)), Score: ptr(50.0)}, []string{"a", "b", "c"}},
		{"sums stop at the greatest number instead of turning over", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed", tests(most, most, most, most), findings(most, most, most, most), covers(1, most)),
			of("b", "e2e", "1", "failed", tests(most, most, most, most), findings(most, most, most, most), covers(1, most))},
			Result{Status: "failed", Tests: counts(most, most, most, most), Coverage: ptr(1.0), CoverageBase: ptr(int32(most)),
				Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: most, High: most, Medium: most, Low: most}}, []string{"a", "b"}},
		{"the oldest report that counts says how old the evidence is", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", received(9)), of("b", "e2e", "1", "passed", received(3)), of("c", "e2e", "0", "passed", received(1))},
			Result{Status: "passed", Received: at(3)}, []string{"a", "b"}},
		{"whichever job it is of", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", received(3)), of("b", "e2e", "1", "passed", received(9))},
			Result{Status: "passed", Received: at(3)}, []string{"a", "b"}},
		{"and whichever of what one run said", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", received(9)), of("b", "unit", "1", "passed", received(3)), of("c", "unit", "1", "passed", received(5))},
			Result{Status: "passed", Received: at(3)}, []string{"a", "b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Reduce(c.in)
			c.want.Type = "tests"
			if c.want.Pipeline == "" {
				c.want.Pipeline = "7"
			}
			if diff := cmp.Diff(map[string]Result{"tests": c.want}, got.Results); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.counted, got.Counted); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What Harbor and SonarQube found out by themselves stands beside what the pipelines say.
func TestObserversStandBesideEachOther(t *testing.T) {
	by := func(source string, r v1alpha1.CIResult, change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResult {
		r.Spec.Source = source
		for _, f := range change {
			f(&r.Spec)
		}
		return r
	}
	noPipeline := func(s *v1alpha1.CIResultSpec) { s.Pipeline = "" }
	for _, c := range []struct {
		name    string
		in      []v1alpha1.CIResult
		want    Result
		counted []string
	}{
		{"a pass of the pipeline hides no failure of Harbor's", []v1alpha1.CIResult{
			of("a", "x", "9", "passed"), by("harbor", of("h", "image", "5", "failed"), noPipeline)}, Result{Status: "failed", Pipeline: "7"}, []string{"a", "h"}},
		{"a pass of Harbor's hides no failure of the pipeline", []v1alpha1.CIResult{
			of("a", "x", "9", "failed"), by("harbor", of("h", "image", "5", "passed"), noPipeline)}, Result{Status: "failed", Pipeline: "7"}, []string{"a", "h"}},
		{"the same findings are not added up, those of several images are", []v1alpha1.CIResult{
			of("a", "x", "9", "passed", findings(0, 3, 0, 1)), by("harbor", of("h", "one", "5", "passed", findings(1, 1, 0, 0)), noPipeline),
			by("harbor", of("i", "two", "5", "passed", findings(0, 1, 1, 0)), noPipeline)},
			Result{Status: "passed", Pipeline: "7", Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 1, High: 3, Medium: 1, Low: 1}}, []string{"a", "h", "i"}},
		{"a newer scan of Harbor's replaces its older one alone", []v1alpha1.CIResult{
			by("harbor", of("g", "image", "5", "failed"), noPipeline), by("harbor", of("h", "image", "6", "passed"), noPipeline), of("a", "x", "9", "passed")},
			Result{Status: "passed", Pipeline: "7"}, []string{"a", "h"}},
		{"the lowest coverage, over the lines of who counted them", []v1alpha1.CIResult{
			of("a", "x", "9", "passed", covers(90, 100)), by("sonarqube", of("s", "key", "5", "passed"), noPipeline, func(s *v1alpha1.CIResultSpec) { s.Coverage = ptr(81.5) })},
			Result{Status: "passed", Pipeline: "7", Coverage: ptr(81.5), CoverageBase: ptr(int32(100))}, []string{"a", "s"}},
		{"GitLab's own word is one of its pipelines'", []v1alpha1.CIResult{
			of("a", "x", "9", "failed"), by("gitlab", of("g", "gitlab", "5", "passed"), func(s *v1alpha1.CIResultSpec) { s.Pipeline = "8" })}, Result{Status: "passed", Pipeline: "8"}, []string{"g"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Type = "tests"
			for range 2 {
				got := Reduce(c.in)
				if diff := cmp.Diff(c.want, got.Results["tests"]); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(c.counted, got.Counted); diff != "" {
					t.Error(diff)
				}
				slices.Reverse(c.in)
			}
		})
	}
}

// Of the deployments that GitLab numbers the highest number counts, before times do.
func TestDeploymentsThatGitLabNumbers(t *testing.T) {
	on := func(name, source, id, status string, minute int) v1alpha1.CIResult {
		r := of(name, "", id, status, received(minute))
		r.Spec.Type, r.Spec.Environment, r.Spec.Source = v1alpha1.TypeDeployment, "dev", source
		return r
	}
	for want, in := range map[string][]v1alpha1.CIResult{
		"new":      {on("new", "gitlab", "10", "deployed", 1), on("old", "gitlab", "9", "failed", 2)},
		"failed":   {on("said", "gitlab", "10", "deployed", 2), on("failed", "gitlab", "10", "failed", 1)},
		"reported": {on("new", "gitlab", "10", "deployed", 1), on("old", "gitlab", "9", "failed", 3), on("reported", "abcdefgh", "", "rolled-back", 2)},
		// Ids that are not GitLab's, and ends without one, have no order but that of their arrival.
		"arrived": {on("arrived", "abcdefgh", "1", "deployed", 3), on("z", "abcdefgh", "2", "failed", 1)},
		"came":    {on("came", "gitlab", "", "deployed", 3), on("z", "gitlab", "", "failed", 1)},
		// Two words on one end: the name decides, not the order in which they came.
		"y": {on("x", "gitlab", "10", "failed", 2), on("y", "gitlab", "10", "rolled-back", 1)},
		"w": {on("v", "gitlab", "10", "deployed", 2), on("w", "gitlab", "10", "deployed", 1)},
	} {
		for range 2 {
			if got := Deployments(in)["dev"].Name; got != want {
				t.Errorf("%s counts, want %s", got, want)
			}
			slices.Reverse(in)
		}
	}
}

// A lock file is evidence of what is built in, and no bill of materials.
func TestLockFileIsNoBill(t *testing.T) {
	lock, bill := result("a", v1alpha1.TypeSBOM, "7", "passed"), result("b", v1alpha1.TypeSBOM, "7", "passed")
	lock.Spec.Job, lock.Spec.Format, lock.Spec.Maven = "lock", string(reports.GradleLock), &v1alpha1.MavenComponents{Components: []string{"a:b:1"}}
	bill.Spec.Job, bill.Spec.Format = "bill", string(reports.CycloneDX)
	web := result("c", v1alpha1.TypeSBOM, "7", "passed")
	web.Spec.Job, web.Spec.Format, web.Spec.Digest = "web", string(reports.CycloneDX), "sha256:2"
	for _, c := range []struct {
		in   []v1alpha1.CIResult
		want []string
	}{{[]v1alpha1.CIResult{lock}, nil}, {[]v1alpha1.CIResult{lock, bill}, []string{""}}, {[]v1alpha1.CIResult{lock, bill, web}, []string{"", "sha256:2"}}} {
		set := Reduce(c.in)
		if diff := cmp.Diff(c.want, set.Results[v1alpha1.TypeSBOM].Files); diff != "" || len(set.Maven().Components) != 1 {
			t.Errorf("%d results: %s", len(c.in), diff)
		}
	}
}

func TestForImages(t *testing.T) {
	on := func(name, digest string) v1alpha1.CIResult {
		return of(name, "", "", "passed", func(s *v1alpha1.CIResultSpec) { s.Digest = digest })
	}
	in := []v1alpha1.CIResult{on("ours", "sha256:1"), on("another", "sha256:2"), on("none", "")}
	for _, c := range []struct {
		name    string
		digests []string
		want    []string
	}{
		{"not frozen yet", nil, []string{"ours", "another", "none"}},
		{"what examined another image is left out, what names none stays", []string{"sha256:1"}, []string{"ours", "none"}},
		{"any of several images", []string{"sha256:3", "sha256:2", "sha256:1"}, []string{"ours", "another", "none"}},
		{"a release without images", []string{}, []string{"none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range ForImages(in, c.digests) {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOn(t *testing.T) {
	const commit = "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678"
	on := func(name, commit, digest, pipeline string) v1alpha1.CIResult {
		r := result(name, "tests", pipeline, "passed")
		r.Spec.Commit, r.Spec.Digest = commit, digest
		return r
	}
	all := []v1alpha1.CIResult{
		on("older", commit, "", "7"), on("newer", commit[:12], "", "8"), on("other", "a1b2c3d"+commit[:33], "", "9"),
	}
	release := v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: commit}}
	if diff := cmp.Diff([]string{"newer"}, On(&release, all)); diff != "" {
		t.Error(diff)
	}
	all = append(all, on("image", commit, "sha256:ours", "9"), on("foreign", commit, "sha256:theirs", "10"))
	if diff := cmp.Diff([]string{"foreign"}, On(&release, all)); diff != "" {
		t.Errorf("while its images are not known: %s", diff)
	}
	release.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Digest: "sha256:ours"}}}
	release.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFrozen, Status: metav1.ConditionFalse}}
	if diff := cmp.Diff([]string{"foreign"}, On(&release, all)); diff != "" {
		t.Errorf("while its images are not all pinned: %s", diff)
	}
	release.Status.Conditions[0].Status = metav1.ConditionTrue
	if diff := cmp.Diff([]string{"image"}, On(&release, all)); diff != "" {
		t.Errorf("once its images are pinned: %s", diff)
	}
}

func TestCoverageAndItsBase(t *testing.T) {
	typed := func(typ string, change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResult {
		r := of(typ, "", "", "passed", change...)
		r.Spec.Type = typ
		return r
	}
	for _, c := range []struct {
		name     string
		in       []v1alpha1.CIResult
		coverage *float64
		from     string
		base     *int32
	}{
		{"nothing", nil, nil, "", nil},
		{"no figure", []v1alpha1.CIResult{typed("tests")}, nil, "", nil},
		{"of the tests", []v1alpha1.CIResult{typed("tests", covers(81, 10)), typed("scan")}, ptr(81.0), "tests", ptr(int32(10))},
		{"of the tests, over no one knows how much", []v1alpha1.CIResult{typed("tests", covers(81))}, ptr(81.0), "tests", nil},
		{"a result of type coverage goes before lower ones", []v1alpha1.CIResult{typed("tests", covers(50, 10)), typed("coverage", covers(90, 7))}, ptr(90.0), "coverage", ptr(int32(7))},
		{"the lowest of the others, over the lines of all of them", []v1alpha1.CIResult{typed("tests", covers(81, 10)), typed("quality", covers(79, 20))}, ptr(79.0), "quality", ptr(int32(30))},
		{"a result of type coverage without a figure hides nobody's", []v1alpha1.CIResult{typed("tests", covers(81, 10)), typed("coverage")}, ptr(81.0), "tests", ptr(int32(10))},
		{"of two equal figures the first by type", []v1alpha1.CIResult{typed("tests", covers(81, 10)), typed("quality", covers(81, 20))}, ptr(81.0), "quality", ptr(int32(30))},
		{"lines without a figure are not measured lines", []v1alpha1.CIResult{typed("tests", covers(81, 10)),
			typed("quality", func(s *v1alpha1.CIResultSpec) { s.CoverageBase = ptr(int32(99)) })}, ptr(81.0), "tests", ptr(int32(10))},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := Reduce(c.in)
			for range 20 { // in whatever order a map gives its types
				coverage, from := set.Coverage()
				if diff := cmp.Diff(c.coverage, coverage); diff != "" || from != c.from {
					t.Fatalf("from %q, want %q %s", from, c.from, diff)
				}
			}
			if diff := cmp.Diff(c.base, set.CoverageBase()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBaseline(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []v1alpha1.CIResult
		want *v1alpha1.Baseline
	}{
		{"nothing was reported", nil, nil},
		{"nothing to compare", []v1alpha1.CIResult{of("a", "", "", "passed", covers(80))}, nil},
		{"tests", []v1alpha1.CIResult{of("a", "", "", "failed", tests(10, 7, 1, 2))}, &v1alpha1.Baseline{Release: "r", Tests: ptr(int32(10)), Skipped: ptr(int32(2))}},
		{"no tests at all are a figure too", []v1alpha1.CIResult{of("a", "", "", "passed", tests(0, 0, 0, 0))}, &v1alpha1.Baseline{Release: "r", Tests: ptr(int32(0)), Skipped: ptr(int32(0))}},
		{"lines", []v1alpha1.CIResult{of("a", "", "", "passed", covers(80, 1000))}, &v1alpha1.Baseline{Release: "r", CoverageBase: ptr(int32(1000))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Reduce(c.in).Baseline("r")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeploymentsKeepTheNewestReport(t *testing.T) {
	on := func(name, env, status string, minute int) v1alpha1.CIResult {
		r := of(name, "", "", status, received(minute))
		r.Spec.Type, r.Spec.Environment = v1alpha1.TypeDeployment, env
		return r
	}
	in := []v1alpha1.CIResult{on("b", "dev", "failed", 2), on("a", "dev", "deployed", 1), on("c", "prod", "deployed", 1),
		on("d", "prod", "rolled-back", 1), of("e", "", "", "passed", received(9))}
	want := map[string]string{"dev": "b", "prod": "d"} // of the same second: by name
	for range 2 {
		got := map[string]string{}
		for env, r := range Deployments(in) {
			got[env] = r.Name
		}
		if diff := cmp.Diff(want, got, whole); diff != "" {
			t.Error(diff)
		}
		slices.Reverse(in)
	}
}

func drawResult(t *rapid.T, i int) v1alpha1.CIResult {
	r := result(fmt.Sprint("r", i), rapid.SampledFrom([]string{"tests", "scan", "coverage", "deployment"}).Draw(t, "type"),
		rapid.SampledFrom([]string{"", "1", "2", "10", "x", "01", "-1"}).Draw(t, "pipeline"),
		rapid.SampledFrom([]string{"passed", "failed", "skipped", "deployed"}).Draw(t, "status"))
	r.Spec.Job = rapid.SampledFrom([]string{"", "unit", "e2e"}).Draw(t, "job")
	r.Spec.Source = rapid.SampledFrom([]string{"", "gitlab", "harbor", "sonarqube"}).Draw(t, "source")
	r.Spec.Run = rapid.SampledFrom([]string{"", "1", "01", "9", "10", "x"}).Draw(t, "run")
	r.Spec.Received = metav1.NewTime(at(rapid.IntRange(0, 3).Draw(t, "received")))
	n := rapid.Int32Range(0, math.MaxInt32)
	if rapid.Bool().Draw(t, "has coverage") {
		r.Spec.Coverage, r.Spec.CoverageBase = ptr(float64(rapid.IntRange(0, 100).Draw(t, "coverage"))), ptr(n.Draw(t, "lines"))
	}
	if rapid.Bool().Draw(t, "has score") {
		r.Spec.Score = ptr(rapid.Float64Range(0, 100).Draw(t, "score"))
	}
	if rapid.Bool().Draw(t, "has tests") {
		few := rapid.Int32Range(0, 5)
		c := v1alpha1.TestCounts{Passed: few.Draw(t, "passed"), Failed: few.Draw(t, "failed"), Skipped: few.Draw(t, "skipped")}
		c.Total = c.Passed + c.Failed + c.Skipped + few.Draw(t, "unknown")
		r.Spec.Tests = &c
	}
	if rapid.Bool().Draw(t, "has findings") {
		r.Spec.Vulnerabilities = &v1alpha1.VulnerabilityCounts{Critical: n.Draw(t, "critical"), High: n.Draw(t, "high"), Medium: n.Draw(t, "medium"), Low: n.Draw(t, "low")}
	}
	return r
}

// The order in which results arrive does not matter, and reducing changes none of them.
func TestReduceIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []v1alpha1.CIResult
		for i := range rapid.IntRange(1, 8).Draw(t, "n") {
			in = append(in, drawResult(t, i))
		}
		want, deployed := Reduce(in), Deployments(in)
		base := want.Baseline("r")
		shuffled := rapid.Permutation(in).Draw(t, "order")
		for i := range shuffled {
			shuffled[i] = *shuffled[i].DeepCopy()
		}
		got := Reduce(shuffled)
		if diff := cmp.Diff(want, got, whole); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(base, got.Baseline("r")); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(deployed, Deployments(shuffled)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(want, Reduce(in), whole); diff != "" {
			t.Fatalf("reducing changed its input: %s", diff)
		}
	})
}

// One more report of a run that counts never improves anything: a pass does not hide what was said before.
func TestMoreReportsOfARunNeverImproveIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []v1alpha1.CIResult
		for i := range rapid.IntRange(1, 5).Draw(t, "n") {
			r := drawResult(t, i)
			r.Spec.Type, r.Spec.Pipeline, r.Spec.Run, r.Spec.Source = "tests", "7", "1", ""
			in = append(in, r)
		}
		before := Reduce(in[:len(in)-1]).Results["tests"]
		after := Reduce(in).Results["tests"]
		if len(in) > 1 && Worse(before.Status, after.Status) {
			t.Fatalf("%s became %s", before.Status, after.Status)
		}
		if before.Coverage != nil && *after.Coverage > *before.Coverage || before.Score != nil && *after.Score > *before.Score {
			t.Fatalf("a figure rose: %+v, %+v", before, after)
		}
		if v, w := before.Vulnerabilities, after.Vulnerabilities; v != nil && (w.Critical < v.Critical || w.High < v.High || w.Medium < v.Medium || w.Low < v.Low) {
			t.Fatalf("findings vanished: %+v, %+v", v, w)
		}
	})
}

// Of what one run says in turn, the first is kept and what Worsens it. In whatever order it comes, as often as it comes, the same
// counts in the end.
func TestWhatIsKeptOfARunIgnoresOrder(t *testing.T) {
	keep := func(said []v1alpha1.CIResult) (kept []v1alpha1.CIResult) {
		for _, r := range said {
			if len(kept) == 0 || Worsens(kept[0].Spec, r.Spec) {
				kept = append(kept, r)
			}
		}
		return kept
	}
	rapid.Check(t, func(t *rapid.T) {
		figures := [4]bool{rapid.Bool().Draw(t, "coverage"), rapid.Bool().Draw(t, "score"), true, true}
		var said []v1alpha1.CIResult
		for i := range rapid.IntRange(1, 5).Draw(t, "n") {
			r := drawResult(t, i)
			r.Spec.Type, r.Spec.Pipeline, r.Spec.Job, r.Spec.Run, r.Spec.Source, r.Spec.Received = "tests", "7", "", "1", "", metav1.Time{}
			// Whether there is a figure does not change within a run; whether there are counts may.
			r.Spec.Coverage, r.Spec.CoverageBase, r.Spec.Score = ptr(float64(i%3)), ptr(int32(i%2)), ptr(float64(i%4))
			if !figures[0] {
				r.Spec.Coverage, r.Spec.CoverageBase = nil, nil
			}
			if !figures[1] {
				r.Spec.Score = nil
			}
			if c := r.Spec.Tests; c != nil {
				c.Total = c.Passed + c.Failed + c.Skipped
			}
			said = append(said, r)
		}
		counts := func(said []v1alpha1.CIResult) Result {
			r := Reduce(keep(said)).Results["tests"]
			if c := r.Tests; c != nil && c.Passed == TestsRun(*c) && c.Passed > 0 {
				r.Tests = nil // as good as the status alone
			}
			if v := r.Vulnerabilities; v != nil && *v == (v1alpha1.VulnerabilityCounts{}) {
				r.Vulnerabilities = nil
			}
			return r
		}
		twice := rapid.Permutation(append(slices.Clone(said), said...)).Draw(t, "order")
		if diff := cmp.Diff(counts(said), counts(twice)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A status alone stands for all passed and nothing found: what was refused later and says otherwise counts all the same.
func TestCountsWorsenAStatusAlone(t *testing.T) {
	alone := v1alpha1.CIResultSpec{Type: "tests", Status: "passed"}
	for name, c := range map[string]struct {
		later v1alpha1.CIResultSpec
		want  bool
	}{
		"some failed":    {v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Tests: &v1alpha1.TestCounts{Total: 10, Passed: 1, Failed: 9}}, true},
		"none was run":   {v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Tests: &v1alpha1.TestCounts{Total: 3, Skipped: 3}}, true},
		"all passed":     {v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Tests: &v1alpha1.TestCounts{Total: 10, Passed: 9, Skipped: 1}}, false},
		"a finding":      {v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 1}}, true},
		"a coverage":     {v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Coverage: ptr(99.0)}, false},
		"another status": {v1alpha1.CIResultSpec{Type: "tests", Status: "skipped"}, true},
	} {
		if got := Worsens(alone, c.later); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whatever is said later of the same run and is worse in any one figure is kept; what is as good or better, or new and no
// finding, is not.
func TestWorsens(t *testing.T) {
	spec := func(change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResultSpec {
		return of("", "", "", "passed", change...).Spec
	}
	lists := func(incomplete bool, components ...string) func(*v1alpha1.CIResultSpec) {
		return func(s *v1alpha1.CIResultSpec) {
			s.Maven = &v1alpha1.MavenComponents{Components: components, Incomplete: incomplete}
		}
	}
	base := func(lines int32) func(*v1alpha1.CIResultSpec) {
		return func(s *v1alpha1.CIResultSpec) { s.CoverageBase = &lines }
	}
	for _, c := range []struct {
		name   string
		before v1alpha1.CIResultSpec
		later  v1alpha1.CIResultSpec
		want   bool
	}{
		{"the same", spec(covers(80, 10), scores(5), tests(4, 3, 1, 0), findings(1, 1, 1, 1), lists(true, "a")), spec(covers(80, 10), scores(5), tests(4, 3, 1, 0), findings(1, 1, 1, 1), lists(true, "a")), false},
		{"less covered", spec(covers(80)), spec(covers(79.9)), true},
		{"more covered", spec(covers(80)), spec(covers(81)), false},
		{"covered, and nobody said how much before", spec(), spec(covers(1, 1)), false},
		{"it does not say how much is covered", spec(covers(80, 10)), spec(), false},
		{"a lower score", spec(scores(5)), spec(scores(4)), true},
		{"a higher score", spec(scores(5)), spec(scores(6)), false},
		{"a score where there was none", spec(), spec(scores(0)), false},
		{"no score where there was one", spec(scores(5)), spec(), false},
		{"over fewer lines", spec(base(10)), spec(base(9)), true},
		{"over more lines", spec(base(10)), spec(base(11)), false},
		{"over lines, and nobody said how many before", spec(), spec(base(1)), false},
		{"over nobody knows how many lines", spec(base(10)), spec(), false},
		{"more tests failed", spec(tests(10, 6, 4, 0)), spec(tests(10, 5, 5, 0)), true},
		{"fewer tests failed", spec(tests(10, 5, 5, 0)), spec(tests(10, 6, 4, 0)), false},
		{"a finding more", spec(findings(0, 1, 0, 0)), spec(findings(0, 0, 0, 1)), true},
		{"a finding less", spec(findings(0, 2, 0, 0)), spec(findings(0, 1, 0, 0)), false},
		{"no findings where there were some", spec(findings(0, 2, 0, 0)), spec(), false},
		{"nothing found, and nobody said so before", spec(), spec(findings(0, 0, 0, 0)), false},
		{"a component more", spec(lists(false, "a", "c")), spec(lists(false, "b")), true},
		{"a component less", spec(lists(false, "a", "c")), spec(lists(false, "c")), false},
		{"the list is incomplete", spec(lists(false, "a")), spec(lists(true, "a")), true},
		{"a list where there was none", spec(), spec(lists(false, "a")), false},
		{"no list where there was one", spec(lists(false, "a")), spec(), false},
	} {
		if got := Worsens(c.before, c.later); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// What one list has another cannot take away, in one job or in several, of one type or of several, awaited or not.
func TestComponentsOfSeveral(t *testing.T) {
	lists := func(name, typ, job string, incomplete bool, components ...string) v1alpha1.CIResult {
		r := result(name, typ, "7", "passed")
		r.Spec.Job, r.Spec.Maven = job, &v1alpha1.MavenComponents{Components: components, Incomplete: incomplete}
		return r
	}
	for _, c := range []struct {
		name string
		in   []v1alpha1.CIResult
		want v1alpha1.MavenComponents
	}{
		{"of one run", []v1alpha1.CIResult{lists("a", "sbom", "x", false, "c", "a"), lists("b", "sbom", "x", false, "b", "a")}, v1alpha1.MavenComponents{Components: []string{"a", "b", "c"}}},
		{"of two jobs, the first incomplete", []v1alpha1.CIResult{lists("a", "sbom", "x", true, "a"), lists("b", "sbom", "y", false, "b")}, v1alpha1.MavenComponents{Components: []string{"a", "b"}, Incomplete: true}},
		{"of two jobs, the second incomplete", []v1alpha1.CIResult{lists("a", "sbom", "x", false, "a"), lists("b", "sbom", "y", true, "b")}, v1alpha1.MavenComponents{Components: []string{"a", "b"}, Incomplete: true}},
		{"of two types", []v1alpha1.CIResult{lists("a", "sbom", "x", false, "a"), lists("b", "scan", "y", false, "b")}, v1alpha1.MavenComponents{Components: []string{"a", "b"}}},
		{"of a job that lists none", []v1alpha1.CIResult{lists("a", "sbom", "x", false, "a"), result("b", "sbom", "7", "passed")}, v1alpha1.MavenComponents{Components: []string{"a"}}},
	} {
		for _, awaited := range [][]string{nil, {"sbom"}, {"sbom", "scan"}} {
			set := Reduce(c.in)
			for _, typ := range awaited {
				set.Await(typ, "Harbor scans "+typ)
			}
			if diff := cmp.Diff(&c.want, set.Maven()); diff != "" {
				t.Errorf("%s, awaited %q: %s", c.name, awaited, diff)
			}
			if len(set.Awaits) != len(awaited) {
				t.Errorf("%s: %d are awaited, want %q", c.name, len(set.Awaits), awaited)
			}
		}
	}
}

func fetched(name, job, run string, change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResult {
	r := result(name, "scan", "", "passed")
	r.Spec.Source, r.Spec.Job, r.Spec.Run = v1alpha1.SourceHarbor, job, run
	for _, f := range change {
		f(&r.Spec)
	}
	return r
}

// What was fetched from Harbor and what pipelines sent stand beside each other: neither replaces the other, and the worse counts.
func TestSourcesStandBesideEachOther(t *testing.T) {
	sent := func(status string, change ...func(*v1alpha1.CIResultSpec)) v1alpha1.CIResult {
		r := result("ci", "scan", "999999999999999999", status)
		for _, f := range change {
			f(&r.Spec)
		}
		return r
	}
	for _, c := range []struct {
		name    string
		in      []v1alpha1.CIResult
		status  string
		want    v1alpha1.VulnerabilityCounts
		counted []string
	}{
		{"a pipeline's pass hides no finding of Harbor's", []v1alpha1.CIResult{sent("passed", findings(0, 0, 0, 0)), fetched("h", "api", "1", findings(1, 0, 0, 0))},
			"passed", v1alpha1.VulnerabilityCounts{Critical: 1}, []string{"ci", "h"}},
		{"Harbor's pass hides no failure of a pipeline's", []v1alpha1.CIResult{sent("failed"), fetched("h", "api", "9", findings(0, 0, 0, 0))},
			"failed", v1alpha1.VulnerabilityCounts{}, []string{"ci", "h"}},
		{"the same findings are not counted twice", []v1alpha1.CIResult{sent("passed", findings(0, 2, 5, 1)), fetched("h", "api", "1", findings(0, 3, 4, 0))},
			"passed", v1alpha1.VulnerabilityCounts{High: 3, Medium: 5, Low: 1}, []string{"ci", "h"}},
		{"the images of one source are", []v1alpha1.CIResult{fetched("a", "api", "1", findings(0, 1, 0, 0)), fetched("w", "web", "1", findings(0, 2, 0, 0))},
			"passed", v1alpha1.VulnerabilityCounts{High: 3}, []string{"a", "w"}},
		{"a newer scan of an image replaces its older one", []v1alpha1.CIResult{fetched("a", "api", "1795442645123", findings(0, 1, 0, 0)),
			fetched("b", "api", "1795529045123", findings(2, 0, 0, 0)), fetched("w", "web", "1795442645123", findings(0, 0, 7, 0))},
			"passed", v1alpha1.VulnerabilityCounts{Critical: 2, Medium: 7}, []string{"b", "w"}},
	} {
		got := Reduce(c.in)
		r := got.Results["scan"]
		if r.Vulnerabilities == nil || *r.Vulnerabilities != c.want || r.Status != c.status {
			t.Errorf("%s: %s %+v", c.name, r.Status, r.Vulnerabilities)
		}
		if diff := cmp.Diff(c.counted, got.Counted); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// What is awaited cannot pass; what failed stays failed. What a file listed stays listed either way.
func TestAwait(t *testing.T) {
	for status, stays := range map[string]bool{"passed": false, "failed": true, "skipped": true, "": false} {
		var set Set
		if status != "" {
			listing := result("a", "scan", "1", status)
			listing.Spec.Maven = &v1alpha1.MavenComponents{Components: []string{"com.dynors:core:1.0.0"}}
			set = Reduce([]v1alpha1.CIResult{listing})
		}
		set.Await("scan", "Harbor scans the image api")
		if _, ok := set.Results["scan"]; ok != stays || set.Awaits["scan"] != "Harbor scans the image api" {
			t.Errorf("%q: %+v", status, set)
		}
		if listed := set.Maven(); (listed != nil) != (status != "") {
			t.Errorf("%q: lists %+v", status, listed)
		}
	}
}
