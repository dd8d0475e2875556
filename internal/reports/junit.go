// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"io"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// JUnit XML has no standard; read here is what these write:
//
//	Maven Surefire  https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd (3.0.2)
//	pytest          junit_family xunit2, https://docs.pytest.org/en/stable/how-to/output.html#creating-junitxml-format-files
//	jest-junit      https://github.com/jest-community/jest-junit (16)
//	gotestsum       https://github.com/gotestyourself/gotestsum (1.12), Gradle, PHPUnit, GoogleTest and node:test alike
//
// A test is a testcase element. It failed with a failure or an error in it, was skipped with a skipped or disabled in it, either
// with a status that says so (in the words of GoogleTest, CTest and Ginkgo among others), and passed otherwise. Runs of a test that
// failed before one that passed (flakyFailure, flakyError of Surefire) are no failures; a failed run with an element of its own is
// one. A failure directly in a suite is a failed test.

// cases are the tests counted in a suite, and the elements that say why they did not pass.
type cases struct {
	total, failed, skipped, erroneous int64
	failures, errors                  int64
}

func (c *cases) passed() int64 { return c.total - c.failed - c.skipped }

func (c *cases) add(o cases) {
	c.total += o.total
	c.failed += o.failed
	c.skipped += o.skipped
	c.erroneous += o.erroneous
	c.failures += o.failures
	c.errors += o.errors
}

// suite is a testsuite, or the testsuites around all of them.
type suite struct {
	name        string
	own, all    cases // its own tests; with those of the suites in it
	root        bool
	claims      map[string]int64
	testcase    bool // a test is open
	failed, err bool // of the open test
	skipped     bool
}

// suiteClaims are the attributes that count, with the others' names for skipped.
var suiteClaims = []string{"tests", "failures", "errors", "skipped", "skips", "disabled"}

// junitReader counts tests while the elements pass.
type junitReader struct {
	s      *xmlScanner
	suites []suite
	rep    Report
}

func readJUnit(s *xmlScanner) (Report, error) {
	j := &junitReader{s: s, rep: Report{Format: JUnit, Type: v1alpha1.TypeTests}}
	all, err := j.read()
	if err != nil {
		return j.rep, err
	}
	switch {
	case all.total == 0:
		return j.rep, refuse("no test: a report without a testcase proves nothing")
	case all.total > maxCount:
		return j.rep, refuse(tooMany, maxCount)
	}
	j.rep.Tests = &v1alpha1.TestCounts{Total: int32(all.total), Passed: int32(all.passed()), Failed: int32(all.failed), Skipped: int32(all.skipped)}
	switch {
	case all.failed > 0:
		j.rep.Status = v1alpha1.StatusFailed
	case all.passed() == 0:
		j.rep.Status = v1alpha1.StatusSkipped
	default:
		j.rep.Status = v1alpha1.StatusPassed
	}
	return j.rep, nil
}

// read counts to the end of the document; the root element has begun.
func (j *junitReader) read() (all cases, err error) {
	ev := startElement
	for err == nil {
		if ev == startElement {
			err = j.start()
		} else {
			all, err = j.end(all)
		}
		if err == nil {
			ev, err = j.s.next()
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

func (j *junitReader) start() error {
	name := j.s.name()
	switch name {
	case "testsuites", "testsuite":
		return j.startSuite(name)
	case "testcase":
		return j.startCase()
	case "property":
		j.property()
	}
	if len(j.suites) == 0 {
		return nil
	}
	top := &j.suites[len(j.suites)-1]
	switch parent := j.s.parent(); {
	case parent == "testcase" && top.testcase:
		j.outcome(top, name)
	case (parent == "testsuite" || parent == "testsuites") && (name == "failure" || name == "error"):
		top.own.add(cases{total: 1, failed: 1, erroneous: 1})
		j.outcomeElement(top, name)
	}
	return nil
}

func (j *junitReader) startSuite(name string) error {
	if len(j.suites) > 0 && (name == "testsuites" || j.suites[len(j.suites)-1].testcase) {
		return refuse("a <%s> inside a <%s>", name, j.s.parent())
	}
	su := suite{root: name == "testsuites", claims: map[string]int64{}}
	name, _ = j.s.attr("name")
	su.name = strings.Clone(name[:min(len(name), maxQuoted+1)]) // as much as a refusal may quote, and tells that it is more
	for _, claim := range suiteClaims {
		n, ok, err := j.s.count(claim)
		if err != nil {
			return err
		}
		if ok {
			su.claims[claim] = n
		}
	}
	j.suites = append(j.suites, su)
	j.produced(su)
	return nil
}

// produced recognises the producers that leave a sign; the format has no place for one.
func (j *junitReader) produced(su suite) {
	schema, _ := j.s.attr("xsi:noNamespaceSchemaLocation")
	version, _ := j.s.attr("version")
	switch {
	case j.rep.Producer != "":
	case strings.Contains(schema, "surefire"):
		j.rep.Producer = produced("Surefire", version)
	case su.name == "pytest", su.name == "pytest tests":
		j.rep.Producer = "pytest"
	case su.root && su.name == "jest tests":
		j.rep.Producer = "jest-junit"
	}
}

func (j *junitReader) property() {
	name, _ := j.s.attr("name")
	if value, _ := j.s.attr("value"); name == "go.version" && j.rep.Producer == "" {
		if fields := strings.Fields(value); len(fields) > 0 {
			j.rep.Producer = produced("gotestsum", fields[0])
		}
	}
}

func (j *junitReader) startCase() error {
	if len(j.suites) == 0 || j.suites[len(j.suites)-1].testcase {
		return refuse("a <testcase> inside a <%s>", j.s.parent())
	}
	top := &j.suites[len(j.suites)-1]
	top.testcase, top.failed, top.err, top.skipped = true, false, false, false
	for _, name := range []string{"status", "result"} {
		switch value, _ := j.s.attr(name); strings.ToLower(value) {
		case "skipped", "disabled", "ignored", "notrun", "suppressed", "pending":
			top.skipped = true
		case "failed", "failure", "fail":
			top.failed = true
		case "error", "errored", "timedout", "timeout", "panicked", "interrupted", "aborted", "crashed", "broken":
			top.err = true
		}
	}
	return nil
}

func (j *junitReader) outcome(top *suite, element string) {
	switch element {
	case "failure":
		top.failed = true
		j.outcomeElement(top, element)
	case "error":
		top.err = true
		j.outcomeElement(top, element)
	case "skipped", "disabled", "ignored":
		top.skipped = true
	}
}

func (j *junitReader) outcomeElement(top *suite, element string) {
	if element == "failure" {
		top.own.failures++
	} else {
		top.own.errors++
	}
}

// end counts the test, or compares the suite, that ends; all is what the document has so far.
func (j *junitReader) end(all cases) (cases, error) {
	if len(j.suites) == 0 {
		return all, nil
	}
	top := &j.suites[len(j.suites)-1]
	switch j.s.name() {
	case "testcase":
		c := cases{total: 1}
		switch {
		case top.failed || top.err:
			c.failed = 1
		case top.skipped:
			c.skipped = 1
		}
		if top.err {
			c.erroneous = 1
		}
		top.own.add(c)
		top.testcase = false
	case "testsuite", "testsuites":
		top.all.add(top.own)
		if err := top.check(); err != nil {
			return all, err
		}
		ended := top.all
		j.suites = j.suites[:len(j.suites)-1]
		if len(j.suites) == 0 {
			return ended, nil
		}
		j.suites[len(j.suites)-1].all.add(ended)
	}
	return all, nil
}

// check compares what the attributes of a suite claim with what is in it. Producers count a little differently, which is
// allowed for where it cannot hide anything:
//
//   - pytest counts a test twice whose teardown failed after it passed: fewer tests than claimed are missing tests, but for
//     those with an error;
//   - gotestsum, pytest and jest-junit add a testcase for what failed outside of a test or was never run, without counting it
//     as a test: more tests than claimed are a contradiction if they passed;
//   - in nested suites some producers count what is directly in a suite, some everything.
func (su *suite) check() error {
	contradiction := func(what string, claimed, counted int64) error {
		return refuse("contradicts itself: the suite %q claims %d %s, it has %d", quoted(su.name), claimed, what, counted)
	}
	tests, ok := su.claims["tests"]
	least := su.own
	if su.root {
		least = su.all
	}
	switch {
	case ok && tests > su.all.total+su.all.erroneous:
		return contradiction("tests", tests, su.all.total)
	case ok && least.passed() > tests:
		return contradiction("tests", tests, least.total)
	}
	bad := su.all.failures + su.all.errors
	if claimed := su.claims["failures"] + su.claims["errors"]; claimed > bad && claimed > su.all.failed {
		return contradiction("failures and errors", claimed, bad)
	}
	if claimed := su.claims["skipped"] + su.claims["skips"]; claimed > su.all.skipped+su.all.failed {
		return contradiction("skipped tests", claimed, su.all.skipped)
	}
	return nil
}
