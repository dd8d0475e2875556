// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// described is a release of which everything was reported.
func described(expression string) Input {
	return one(v1alpha1.Criterion{CEL: &v1alpha1.CELCriterion{Expression: expression}},
		reported(evidence.Result{Type: "quality", Score: percent(71.5), Received: now.Add(-time.Hour)}),
		reported(evidence.Result{Type: "tests", Coverage: percent(85), Tests: &v1alpha1.TestCounts{Total: 10, Passed: 9, Skipped: 1}, Pipeline: "7"}),
		reported(evidence.Result{Type: "scan", Vulnerabilities: &v1alpha1.VulnerabilityCounts{Low: 3}}),
		func(in *Input) {
			in.Facts = Facts{Commit: "a1b2c3d", Branch: "release/1.3", Version: "v1.3.0", Changelog: "mends the invoice", Reversible: true}
			in.Artifacts, in.Karma, in.Works = []string{"com.dynors:supergest:1.3.0"}, 85, 45
			in.Environments["dev"] = healthy(time.Hour)
		})
}

func TestExpression(t *testing.T) {
	const mends = "mends the expression in gate g"
	var cases []judged
	add := func(verdict v1alpha1.Verdict, reason, needs string, expressions ...string) {
		for _, e := range expressions {
			cases = append(cases, judged{e, described(e), verdict, reason, needs, time.Time{}})
		}
	}
	add(isPassed, "ExpressionTrue", "", "true",
		"release.branch.startsWith('release/') && results.quality.score >= 70.0",
		"results.tests.tests.skipped <= 1 && results.tests.coverage > 80.0 && results.tests.pipeline == '7'",
		"results.scan.vulnerabilities.critical == 0", "release.karma - release.works == 40", "release.reversible",
		"release.artifacts.exists(a, a.startsWith('com.dynors:')) && release.createdBy == 'dev' && release.name == 'r'",
		"release.version.matches('^v[0-9]+[.][0-9]+[.][0-9]+$')", "!has(results.licences)", "!has(results.quality.tests)",
		"environments.dev.phase == 'Healthy' && environments.dev.healthySince < timestamp('2026-11-22T14:00:00Z')",
		strings.Repeat("!", 4000)+"true",
		"results.quality.received + duration('2h') > environments.dev.healthySince", "results.all(t, results[t].status == 'passed')")
	add(isWaiting, "ExpressionFalse", "that: ", "false", "results.quality.score >= 72.0", "has(results.licences)", "release.branch == 'main'",
		"release.karma", "release.artifacts", "results.quality.score", "release.name", "release.name == '' ? true : release.name")
	add(isWaiting, "ExpressionFailed", "that: ", "results.licences.status == 'passed'", "results.quality.tests.failed == 0", "environments.production.phase == 'Healthy'",
		"release.artifacts[7] == ''", "1 / (release.karma - 85) == 1", "release.branch > 3")
	add(isRefused, "ExpressionInvalid", mends, "", "release.", "1", "'true'", "[true]", "{}", "null", "nothing.score > 1", "release.branch.startsWith(3)", "duration('1h')", "release",
		"release.branch.replace('a', release.changelog) == ''", "['a'].join(release.changelog) == ''",
		"release.branch.matches(release.changelog)", "release.branch.matches('(')", "matches(release.branch, release.name)",
		"release.branch.matches('(.?){1000}b')", "release.artifacts.all(a, release.artifacts.all(b, release.artifacts.all(c, true)))",
		strings.Repeat("(", 300)+"true"+strings.Repeat(")", 300))
	run(t, cases)
}

// Whatever an expression asks for, judging it takes a moment: it fails instead of running on.
func TestExpressionBombs(t *testing.T) {
	wide := func(n int) string { return "[" + strings.Repeat("a,", n) + "a]" }
	for name, expression := range map[string]string{
		"lists that double":            "[[1]]" + strings.Repeat(".map(a, a+a)", 300) + "[0].size() > 0",
		"lists that double, compared":  "[[1]]" + strings.Repeat(".map(a, [a,a])", 100) + " == [[1]]" + strings.Repeat(".map(a, [a,a])", 100),
		"texts that double":            "[release.changelog]" + strings.Repeat(".map(a, a+a)", 300) + "[0].size() > 0",
		"texts that are multiplied":    "release.changelog.replace('a', release.changelog).size() > 0",
		"texts that are joined":        "release.changelog.split('').join(release.changelog).size() > 0",
		"texts that add up":            "[release.changelog].map(a, " + strings.Repeat("a+", 200) + "a)[0].size() > 0",
		"lists that add up":            "[release.changelog.split('')].map(a, " + strings.Repeat("a+", 200) + "a)[0].size() > 0",
		"lists of lists":               "[[1]].map(a, " + wide(600) + ").map(a, " + wide(600) + ") == [[1]].map(a, " + wide(300) + ").map(a, " + wide(300) + ")",
		"comprehensions in each other": "release.artifacts.all(a, release.artifacts.all(b, release.artifacts.all(c, release.artifacts.all(d, true))))",
		"two comprehensions":           "release.changelog.split('').all(a, release.changelog.split('').all(b, true))",
		"a large pattern":              "release.changelog.matches('" + strings.Repeat("(a?){1000}", 300) + "')",
		"a pattern from outside":       "release.changelog.matches(release.changelog)",
		"a pattern many times":         "release.changelog.split('').all(a, release.changelog.matches('(.?){60}b'))",
		"a long text many times":       "release.changelog.split('').all(a, release.changelog.size() > 0)",
		"a long text compared":         "release.changelog.split('').all(a, release.changelog == release.changelog)",
		"many mistakes":                "[" + strings.Repeat("abc,", 900) + "abc].size() > 0",
	} {
		t.Run(name, func(t *testing.T) {
			in := one(v1alpha1.Criterion{CEL: &v1alpha1.CELCriterion{Expression: expression}})
			in.Facts.Changelog = strings.Repeat("a", 65536)
			in.Artifacts = strings.Split(strings.Repeat("a:b:1 ", 64), " ")
			began := time.Now()
			got := Judge(in)
			if took := time.Since(began); took > 10*time.Second { // a few tenths of a second on a busy machine
				t.Errorf("took %s", took)
			}
			if len(got.Message) > 4*maxText || strings.ContainsAny(got.Message, "\n\r") {
				t.Errorf("a message of %d bytes", len(got.Message))
			}
		})
	}
}

// What people and CI wrote is quoted as it is, on one line and not at any length: it is no format, and it cannot pass for
// another line of the verdict.
func TestHostileTexts(t *testing.T) {
	for _, text := range []string{"%s %d %!", "first\nsecond: every criterion holds", strings.Repeat("é", 5000), "\x1b[2J\u202e", "<script>", strings.Repeat("\xff", 600)} {
		in := described("false")
		in.Spec.Criteria[0].CEL.Message = text
		got := Judge(in)
		if strings.Contains(got.Message, "%!") && !strings.Contains(text, "%!") || strings.Contains(got.Message, "\n") || utf8.RuneCountInString(got.Message) > maxText+50 {
			t.Errorf("%.40q: %.200q", text, got.Message)
		}
		if strings.HasPrefix(text, "%s") && got.Criteria[0].Message != "%s %d %! does not hold" {
			t.Errorf("%q", got.Criteria[0].Message)
		}
	}
}

// Any text is judged without a panic and without end, and passes only if it can be used.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"true", "release.branch.startsWith('release/') && results.quality.score >= 70.0", "release.artifacts.map(a, a+a).size() > 1",
		"results.all(t, results[t].status.matches('^p.*d$'))", "'%s'.format([release])", "has(results.x) ? true : null", "[1,2].exists_one(x, x in [[1]])", "b'\\xff' == b''",
		"timestamp('2026-11-22T14:00:00Z').getDayOfWeek('Europe/Paris') == 0", "(", "matches('a')", "x.y.z()", "{1:{}}[1].a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		if len(expression) > 4096 {
			return // the schema does not let it in
		}
		got := Judge(described(expression))
		_, err := compiledExpression(expression)
		if (err != nil) != (got.Verdict == isRefused) {
			t.Errorf("%q: %s, although %v", expression, got.Verdict, err)
		}
		if got.Verdict != isPassed && (got.Message == "" || strings.Contains(got.Message, "\n")) {
			t.Errorf("%q: message %q", expression, got.Message)
		}
		if again := Judge(described(expression)); again.Verdict != got.Verdict || again.Message != got.Message {
			t.Errorf("%q: %s, then %s", expression, got.Message, again.Message)
		}
	})
}
