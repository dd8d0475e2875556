// SPDX-License-Identifier: Apache-2.0

// Package evidence reduces the stored CI results of a commit to what counts: of each type the newest pipeline, in it the
// newest run of each job, and of these the worst. A later pass never hides an earlier failure unless it comes from a newer
// run of the same job or from a newer pipeline. What Harbor and SonarQube say themselves, which know of no pipeline, stands
// beside what pipelines say, and neither hides the other.
//
// It is pure: values in, values out. It may import api/v1alpha1 only.
package evidence

import (
	"cmp"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Result is what counts of one type.
type Result struct {
	Type   string
	Status string
	// Coverage in percent: the lowest that any job reported, nil if none did.
	Coverage *float64
	// CoverageBase is the sum of the lines over which the jobs measured coverage, nil if none reported them.
	CoverageBase *int32
	// Score of a quality tool: the lowest, nil if none was reported.
	Score *float64
	// Tests is the sum over the jobs, nil if none reported counts.
	Tests *v1alpha1.TestCounts
	// Vulnerabilities is the sum over the jobs, nil if none reported counts.
	Vulnerabilities *v1alpha1.VulnerabilityCounts
	// Maven are the Maven components that any job listed, nil if none listed any components.
	Maven    *v1alpha1.MavenComponents
	Pipeline string
	// Files are the digests of the images that the reports are about that were sent as files, "" for one that names none. A lock
	// file is not among them: it lists what a build resolved, and is no bill of materials of anything.
	Files []string
	// Received is when the oldest report that counts was stored.
	Received time.Time
}

// Set is the evidence on one commit.
type Set struct {
	// Results by type.
	Results map[string]Result
	// Counted names the CIResults that the results were made of, sorted.
	Counted []string
	// Awaits says, of a type that cannot pass yet, what is awaited. Example: scan → Harbor scans the image backend.
	Awaits map[string]string
	// awaited are the components that results listed which are none until what is awaited came.
	awaited *v1alpha1.MavenComponents
}

// Await notes that a type cannot pass yet, and for want of what: what passed of it is no result until then; what failed stays,
// and so do the components that it lists.
func (s *Set) Await(typ, needs string) {
	if r, ok := s.Results[typ]; ok && r.Status == v1alpha1.StatusPassed {
		s.awaited = union(s.awaited, r.Maven)
		delete(s.Results, typ)
	}
	if s.Awaits == nil {
		s.Awaits = map[string]string{}
	}
	s.Awaits[typ] = needs
}

// ForImages leaves out results about images that are not the release's: a clean scan of something else proves nothing.
// digests are those of the frozen images; while they are not known (nil), nothing is left out.
func ForImages(results []v1alpha1.CIResult, digests []string) []v1alpha1.CIResult {
	if digests == nil {
		return results
	}
	var out []v1alpha1.CIResult
	for _, r := range results {
		if r.Spec.Digest == "" || slices.Contains(digests, r.Spec.Digest) {
			out = append(out, r)
		}
	}
	return out
}

// On are the names of the results that count for a release, among those of its commit. Once it was judged by all of them, its
// status names the same.
func On(release *v1alpha1.Release, results []v1alpha1.CIResult) []string {
	var own []v1alpha1.CIResult
	for _, r := range results {
		if strings.HasPrefix(release.Spec.Commit, r.Spec.Commit) {
			own = append(own, r)
		}
	}
	return Reduce(ForImages(own, release.FrozenDigests())).Counted
}

// Reduce makes a Set of the CIResults of one commit. Deployments reported by pipelines are not evidence of quality and
// are left out; see Deployments.
func Reduce(results []v1alpha1.CIResult) Set {
	byType := map[string][]v1alpha1.CIResult{}
	for _, r := range results {
		if r.Spec.Type != v1alpha1.TypeDeployment {
			byType[r.Spec.Type] = append(byType[r.Spec.Type], r)
		}
	}
	set := Set{Results: map[string]Result{}}
	for typ, all := range byType {
		var found []Result
		for _, reports := range byObserver(all) {
			result, counted := reduce(typ, reports)
			found, set.Counted = append(found, result), append(set.Counted, counted...)
		}
		set.Results[typ] = beside(found)
	}
	slices.Sort(set.Counted)
	return set
}

// reduce makes one result of what one observer reported, and names what it is made of.
func reduce(typ string, all []v1alpha1.CIResult) (result Result, counted []string) {
	var jobs []Result
	for _, reports := range byJob(newestPipeline(all)) {
		run := newestRun(reports)
		jobs = append(jobs, worst(typ, run))
		for _, r := range run {
			counted = append(counted, r.Name)
		}
	}
	return together(jobs), counted
}

// Coverage is the figure that counts, in percent, and the type that reported it: that of a result of type coverage, or
// else the lowest that any other type reported; nil if none did.
func (s Set) Coverage() (*float64, string) {
	if r, ok := s.Results[v1alpha1.TypeCoverage]; ok && r.Coverage != nil {
		return r.Coverage, r.Type
	}
	var lowest *float64
	var from string
	for typ, r := range s.Results {
		if r.Coverage != nil && (lowest == nil || *r.Coverage < *lowest || *r.Coverage == *lowest && typ < from) {
			lowest, from = r.Coverage, typ
		}
	}
	return lowest, from
}

// CoverageBase is the number of lines over which coverage was measured, nil if it was not reported: those of the result of
// type coverage, or else of all types that reported coverage together, so that it does not depend on which of them happens
// to have the lowest figure.
func (s Set) CoverageBase() *int32 {
	if r, ok := s.Results[v1alpha1.TypeCoverage]; ok && r.Coverage != nil {
		return r.CoverageBase
	}
	var base *int32
	for _, r := range s.Results {
		if r.Coverage != nil {
			base = add(base, r.CoverageBase)
		}
	}
	return base
}

// Baseline is what a later release on the branch is compared with; nil if there is nothing to compare.
func (s Set) Baseline(release string) *v1alpha1.Baseline {
	b := &v1alpha1.Baseline{Release: release, CoverageBase: s.CoverageBase()}
	if t := s.Results[v1alpha1.TypeTests].Tests; t != nil {
		b.Tests, b.Skipped = &t.Total, &t.Skipped
	}
	if b.Tests == nil && b.CoverageBase == nil {
		return nil
	}
	return b
}

// Deployments is the newest deployment that a pipeline reported for each environment. Of those that GitLab reported itself the
// one with the highest id is the newest, in whatever order they arrived.
func Deployments(results []v1alpha1.CIResult) map[string]v1alpha1.CIResult {
	newest, numbered := map[string]v1alpha1.CIResult{}, map[string]v1alpha1.CIResult{}
	for _, r := range results {
		if r.Spec.Type == v1alpha1.TypeDeployment && isNumbered(r) {
			if old, ok := numbered[r.Spec.Environment]; !ok || follows(r, old) {
				numbered[r.Spec.Environment] = r
			}
		}
	}
	for _, r := range results {
		if r.Spec.Type != v1alpha1.TypeDeployment || isNumbered(r) && numbered[r.Spec.Environment].Name != r.Name {
			continue
		}
		if old, ok := newest[r.Spec.Environment]; !ok || later(r, old) {
			newest[r.Spec.Environment] = r
		}
	}
	return newest
}

// isNumbered tells a deployment with an id of GitLab's.
func isNumbered(r v1alpha1.CIResult) bool {
	return r.Spec.Source == v1alpha1.SourceGitLab && r.Spec.Run != ""
}

// follows tells whether deployment a has a higher id than b; of two ends of one deployment the failure counts.
func follows(a, b v1alpha1.CIResult) bool {
	return cmp.Or(compareIDs(a.Spec.Run, b.Spec.Run), compareFailed(a, b), strings.Compare(a.Name, b.Name)) > 0
}

func compareFailed(a, b v1alpha1.CIResult) int {
	x, y := a.Spec.Status != v1alpha1.StatusDeployed, b.Spec.Status != v1alpha1.StatusDeployed
	switch {
	case x && !y:
		return 1
	case y && !x:
		return -1
	}
	return 0
}

// byObserver groups results by who found them out: the pipelines, whoever brought it, and each of the tools that look by
// themselves and know of no pipeline. The pipelines come first.
func byObserver(results []v1alpha1.CIResult) [][]v1alpha1.CIResult {
	observers := map[string][]v1alpha1.CIResult{}
	for _, r := range results {
		observer := ""
		if s := r.Spec.Source; s == v1alpha1.SourceHarbor || s == v1alpha1.SourceSonarQube {
			observer = s
		}
		observers[observer] = append(observers[observer], r)
	}
	var out [][]v1alpha1.CIResult
	for _, name := range slices.Sorted(maps.Keys(observers)) {
		out = append(out, observers[name])
	}
	return out
}

// newestPipeline keeps the results of the newest pipeline.
func newestPipeline(results []v1alpha1.CIResult) []v1alpha1.CIResult {
	return newest(results, func(r v1alpha1.CIResult) string { return r.Spec.Pipeline })
}

// newestRun keeps the results of the newest run, by name. There is more than one only where a pipeline contradicted itself.
func newestRun(results []v1alpha1.CIResult) []v1alpha1.CIResult {
	run := newest(results, func(r v1alpha1.CIResult) string { return r.Spec.Run })
	slices.SortFunc(run, func(a, b v1alpha1.CIResult) int { return strings.Compare(a.Name, b.Name) })
	return run
}

// byJob groups results by job, in the order of the jobs' names.
func byJob(results []v1alpha1.CIResult) [][]v1alpha1.CIResult {
	jobs := map[string][]v1alpha1.CIResult{}
	for _, r := range results {
		jobs[r.Spec.Job] = append(jobs[r.Spec.Job], r)
	}
	var out [][]v1alpha1.CIResult
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		out = append(out, jobs[name])
	}
	return out
}

func newest(results []v1alpha1.CIResult, id func(v1alpha1.CIResult) string) []v1alpha1.CIResult {
	top := id(slices.MaxFunc(results, func(a, b v1alpha1.CIResult) int { return compareIDs(id(a), id(b)) }))
	var out []v1alpha1.CIResult
	for _, r := range results {
		if id(r) == top {
			out = append(out, r)
		}
	}
	return out
}

// compareIDs is a total order of the ids of pipelines and runs that does not depend on arrival. Numeric ids, as every CI
// server gives them, are compared as numbers and are newer than any other id; others have no order of their own, so that
// they are compared as text, longer first. No id is older than any.
func compareIDs(a, b string) int {
	x, xok := new(big.Int).SetString(a, 10)
	y, yok := new(big.Int).SetString(b, 10)
	switch {
	case xok && !yok:
		return 1
	case yok && !xok:
		return -1
	case xok:
		if c := x.Cmp(y); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func later(a, b v1alpha1.CIResult) bool {
	if !a.Spec.Received.Equal(&b.Spec.Received) {
		return b.Spec.Received.Before(&a.Spec.Received)
	}
	return a.Name > b.Name
}

// badness orders statuses; an unknown status is the worst.
func badness(status string) int {
	switch status {
	case v1alpha1.StatusPassed:
		return 0
	case v1alpha1.StatusSkipped:
		return 1
	case v1alpha1.StatusFailed:
		return 2
	}
	return 3
}

// lockFile is the format of a gradle.lockfile, as a CIResult has it.
const lockFile = "gradle-lockfile"

// worst folds contradicting reports of one run into the worst of each figure.
func worst(typ string, run []v1alpha1.CIResult) Result {
	first := run[0].Spec
	w := Result{Type: typ, Status: statusOf(first), Pipeline: first.Pipeline, Received: first.Received.Time}
	for _, r := range run {
		if status := statusOf(r.Spec); Worse(status, w.Status) {
			w.Status = status
		}
		w.Coverage, w.Score = lowest(w.Coverage, r.Spec.Coverage), lowest(w.Score, r.Spec.Score)
		w.CoverageBase = lowest(w.CoverageBase, r.Spec.CoverageBase)
		if t := r.Spec.Tests; t != nil && (w.Tests == nil || worseTests(*t, *w.Tests)) {
			w.Tests = t
		}
		if v := r.Spec.Vulnerabilities; v != nil {
			w.Vulnerabilities = maxCounts(w.Vulnerabilities, v)
		}
		if r.Spec.Format != "" && r.Spec.Format != lockFile && !slices.Contains(w.Files, r.Spec.Digest) {
			w.Files = append(w.Files, r.Spec.Digest)
		}
		w.Maven = union(w.Maven, r.Spec.Maven)
		if r.Spec.Received.Time.Before(w.Received) {
			w.Received = r.Spec.Received.Time
		}
	}
	return w
}

// together puts the jobs of one pipeline side by side: counts add up, everything else is the worst.
func together(jobs []Result) Result {
	all := jobs[0]
	for _, j := range jobs[1:] {
		if Worse(j.Status, all.Status) {
			all.Status = j.Status
		}
		all.Coverage, all.Score = lowest(all.Coverage, j.Coverage), lowest(all.Score, j.Score)
		all.CoverageBase = add(all.CoverageBase, j.CoverageBase)
		all.Tests, all.Vulnerabilities = addTests(all.Tests, j.Tests), addCounts(all.Vulnerabilities, j.Vulnerabilities)
		all.Files = append(slices.Clone(all.Files), j.Files...)
		all.Maven = union(all.Maven, j.Maven)
		if j.Received.Before(all.Received) {
			all.Received = j.Received
		}
	}
	return all
}

// beside puts what several observers found out about the same things side by side: everything is the worst. Findings do not
// add up, since they are the same findings.
func beside(found []Result) Result {
	all := found[0]
	for _, r := range found[1:] {
		findings := cmp.Or(all.Vulnerabilities, r.Vulnerabilities)
		if all.Vulnerabilities != nil && r.Vulnerabilities != nil {
			findings = maxCounts(all.Vulnerabilities, r.Vulnerabilities)
		}
		base := cmp.Or(all.CoverageBase, r.CoverageBase)
		tests := cmp.Or(all.Tests, r.Tests)
		all = together([]Result{all, r})
		all.Vulnerabilities, all.CoverageBase, all.Tests = findings, base, tests
	}
	return all
}

// statusOf is the status of a result by all that it says: one that calls itself passed did not where its own counts have a test that
// failed, or none that ran.
func statusOf(spec v1alpha1.CIResultSpec) string {
	t := spec.Tests
	switch {
	case t == nil || spec.Status != v1alpha1.StatusPassed:
	case t.Failed > 0:
		return v1alpha1.StatusFailed
	case TestsRun(*t) == 0:
		return v1alpha1.StatusSkipped
	}
	return spec.Status
}

// Worse says whether status a is worse than b.
func Worse(a, b string) bool { return badness(a) > badness(b) }

// Worsens says whether b, of the same run as a, says anything worse than a. What a did not say at all is no worse, but for tests that
// did not pass, that not one was run, and findings: a status alone stands for tests that all passed and for nothing found.
func Worsens(a, b v1alpha1.CIResultSpec) bool {
	switch {
	case Worse(statusOf(b), statusOf(a)),
		a.Coverage != nil && b.Coverage != nil && *b.Coverage < *a.Coverage,
		a.Score != nil && b.Score != nil && *b.Score < *a.Score,
		a.CoverageBase != nil && b.CoverageBase != nil && *b.CoverageBase < *a.CoverageBase,
		a.Tests != nil && b.Tests != nil && worseTests(*b.Tests, *a.Tests),
		a.Tests == nil && b.Tests != nil && (b.Tests.Passed < TestsRun(*b.Tests) || TestsRun(*b.Tests) == 0),
		a.Maven != nil && b.Maven != nil && !sameComponents(*union(a.Maven, b.Maven), *a.Maven):
		return true
	case b.Vulnerabilities == nil:
		return false
	case a.Vulnerabilities == nil:
		return *b.Vulnerabilities != v1alpha1.VulnerabilityCounts{}
	}
	return *maxCounts(a.Vulnerabilities, b.Vulnerabilities) != *a.Vulnerabilities
}

// Maven are the Maven components that any result of the set lists, whatever its type; nil if none lists components.
func (s Set) Maven() *v1alpha1.MavenComponents {
	all := s.awaited
	for _, typ := range slices.Sorted(maps.Keys(s.Results)) {
		all = union(all, s.Results[typ].Maven)
	}
	return all
}

// union has what either lists: who lists a component cannot have it forgotten by somebody else's list.
func union(a, b *v1alpha1.MavenComponents) *v1alpha1.MavenComponents {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	both := append(slices.Clone(a.Components), b.Components...)
	slices.Sort(both)
	return &v1alpha1.MavenComponents{Components: slices.Compact(both), Incomplete: a.Incomplete || b.Incomplete}
}

func sameComponents(a, b v1alpha1.MavenComponents) bool {
	return a.Incomplete == b.Incomplete && slices.Equal(a.Components, b.Components)
}

func lowest[T cmp.Ordered](a, b *T) *T {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

func add(a, b *int32) *int32 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	sum := plus(*a, *b)
	return &sum
}

// plus does not overflow: counts come from outside.
func plus(a, b int32) int32 { return int32(min(int64(a)+int64(b), math.MaxInt32)) }

func addTests(a, b *v1alpha1.TestCounts) *v1alpha1.TestCounts {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return &v1alpha1.TestCounts{
		Total: plus(a.Total, b.Total), Passed: plus(a.Passed, b.Passed), Failed: plus(a.Failed, b.Failed), Skipped: plus(a.Skipped, b.Skipped),
	}
}

func addCounts(a, b *v1alpha1.VulnerabilityCounts) *v1alpha1.VulnerabilityCounts {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return &v1alpha1.VulnerabilityCounts{
		Critical: plus(a.Critical, b.Critical), High: plus(a.High, b.High), Medium: plus(a.Medium, b.Medium), Low: plus(a.Low, b.Low),
	}
}

// worseTests compares the shares of passed among run; on a tie fewer tests run are worse, then more that were skipped.
func worseTests(a, b v1alpha1.TestCounts) bool {
	x := int64(a.Passed) * int64(TestsRun(b))
	y := int64(b.Passed) * int64(TestsRun(a))
	if x != y {
		return x < y
	}
	return cmp.Or(cmp.Compare(TestsRun(b), TestsRun(a)), cmp.Compare(a.Skipped, b.Skipped), cmp.Compare(a.Total, b.Total)) > 0
}

// TestsRun is the number of tests that were not skipped.
func TestsRun(t v1alpha1.TestCounts) int32 { return max(0, t.Total-t.Skipped) }

func maxCounts(a, b *v1alpha1.VulnerabilityCounts) *v1alpha1.VulnerabilityCounts {
	if a == nil {
		c := *b
		return &c
	}
	return &v1alpha1.VulnerabilityCounts{
		Critical: max(a.Critical, b.Critical), High: max(a.High, b.High), Medium: max(a.Medium, b.Medium), Low: max(a.Low, b.Low),
	}
}
