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
)

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
		{"a job that was skipped spoils the jobs that passed", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed"), of("b", "e2e", "2", "skipped")}, Result{Status: "skipped"}, []string{"a", "b"}},
		{"a status that nobody knows is worse than a failure", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed"), of("b", "e2e", "2", "deployed")}, Result{Status: "deployed"}, []string{"a", "b"}},
		{"a newer run of a job replaces the older one, and no other job", []v1alpha1.CIResult{
			of("a", "unit", "9", "failed", tests(10, 1, 9, 0)), of("b", "unit", "10", "passed", tests(10, 10, 0, 0)), of("c", "e2e", "3", "failed", tests(1, 0, 1, 0))},
			Result{Status: "failed", Tests: counts(11, 10, 1, 0)}, []string{"b", "c"}},
		{"a run that arrives late is still the older one", []v1alpha1.CIResult{
			of("a", "unit", "10", "passed", received(1)), of("b", "unit", "9", "failed", received(2))}, Result{Status: "passed", Received: at(1)}, []string{"a"}},
		{"a newer run of an older pipeline replaces nothing", []v1alpha1.CIResult{
			of("a", "unit", "1", "failed", pipeline("8")), of("b", "unit", "99", "passed")}, Result{Status: "failed", Pipeline: "8"}, []string{"a"}},
		{"a new pipeline replaces every job of the old one", []v1alpha1.CIResult{
			of("a", "e2e", "1", "failed"), of("b", "unit", "2", "passed", pipeline("8"))}, Result{Status: "passed", Pipeline: "8"}, []string{"b"}},
		{"one run that says two things said the worse of each", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 10, 0, 0), covers(80, 1000), scores(90)),
			of("b", "unit", "1", "failed", tests(10, 6, 4, 0), covers(90, 500), scores(70))},
			Result{Status: "failed", Tests: counts(10, 6, 4, 0), Coverage: ptr(80.0), CoverageBase: ptr(int32(500)), Score: ptr(70.0)}, []string{"a", "b"}},
		{"of two equal shares the one over fewer tests is worse", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 10, 0, 0)), of("b", "unit", "1", "passed", tests(2, 2, 0, 0))},
			Result{Status: "passed", Tests: counts(2, 2, 0, 0)}, []string{"a", "b"}},
		{"no test that ran is the worst", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(10, 0, 10, 0)), of("b", "unit", "1", "passed", tests(5, 0, 0, 5))},
			Result{Status: "passed", Tests: counts(5, 0, 0, 5)}, []string{"a", "b"}},
		{"findings of one run: the most of each; of several jobs: the sum", []v1alpha1.CIResult{
			of("a", "api", "1", "passed", findings(0, 3, 1, 0)), of("b", "api", "1", "passed", findings(1, 0, 2, 5)), of("c", "web", "1", "passed", findings(1, 1, 1, 1))},
			Result{Status: "passed", Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 2, High: 4, Medium: 3, Low: 6}}, []string{"a", "b", "c"}},
		{"the lowest coverage and score of the jobs, over all their lines", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", covers(91, 300), scores(50)), of("b", "e2e", "1", "passed", covers(85.5, 200), scores(60)), of("c", "lint", "1", "passed")},
			Result{Status: "passed", Coverage: ptr(85.5), CoverageBase: ptr(int32(500)), Score: ptr(50.0)}, []string{"a", "b", "c"}},
		{"sums stop at the greatest number instead of turning over", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", tests(most, most, most, most), findings(most, most, most, most), covers(1, most)),
			of("b", "e2e", "1", "passed", tests(most, most, most, most), findings(most, most, most, most), covers(1, most))},
			Result{Status: "passed", Tests: counts(most, most, most, most), Coverage: ptr(1.0), CoverageBase: ptr(int32(most)),
				Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: most, High: most, Medium: most, Low: most}}, []string{"a", "b"}},
		{"the oldest report that counts says how old the evidence is", []v1alpha1.CIResult{
			of("a", "unit", "1", "passed", received(9)), of("b", "e2e", "1", "passed", received(3)), of("c", "e2e", "0", "passed", received(1))},
			Result{Status: "passed", Received: at(3)}, []string{"a", "b"}},
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
		{"lines without a figure are not measured lines", []v1alpha1.CIResult{typed("tests", covers(81, 10)),
			typed("quality", func(s *v1alpha1.CIResultSpec) { s.CoverageBase = ptr(int32(99)) })}, ptr(81.0), "tests", ptr(int32(10))},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := Reduce(c.in)
			coverage, from := set.Coverage()
			if diff := cmp.Diff(c.coverage, coverage); diff != "" || from != c.from {
				t.Errorf("from %q, want %q %s", from, c.from, diff)
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
		if diff := cmp.Diff(want, got); diff != "" {
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
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(base, got.Baseline("r")); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(deployed, Deployments(shuffled)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(want, Reduce(in)); diff != "" {
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
			r.Spec.Type, r.Spec.Pipeline, r.Spec.Run = "tests", "7", "1"
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
