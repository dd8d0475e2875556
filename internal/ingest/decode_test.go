// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const someCommit = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"

// commitOf makes a full commit from its first digits.
func commitOf(digits string) string { return digits + strings.Repeat("0", sha1Digits-len(digits)) }

func result(commit, members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"type":"tests","status":"passed","commit":"` + commit + `"` + members + `}`
}

func TestDecodeResult(t *testing.T) {
	coverage := func(f float64) *float64 { return &f }
	for _, tc := range []struct {
		name, body string
		want       v1alpha1.CIResultSpec
	}{
		{"the seed's", `{"type":"tests","status":"passed","coverage":85,"commit":"` + someCommit + `"}`,
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Coverage: coverage(85), Commit: someCommit}},
		{"short upper-case commit", `{"type":"lint","status":"skipped","commit":"3F2A9C1"}`,
			v1alpha1.CIResultSpec{Type: "lint", Status: "skipped", Commit: "3f2a9c1"}},
		{"everything", `{"type":"scan","status":"failed","commit":"` + someCommit + `","branch":"release/1.3-été","pipeline":"4711",
			"coverage":99.5,"tests":{"total":10,"passed":7,"failed":1,"skipped":1},
			"vulnerabilities":{"critical":1,"high":2,"medium":3,"low":4},
			"digest":"sha256:` + strings.Repeat("a", 64) + `","url":"https://ci.example/p/1?x=y#z"}`,
			v1alpha1.CIResultSpec{Type: "scan", Status: "failed", Commit: someCommit, Branch: "release/1.3-été", Pipeline: "4711",
				Coverage: coverage(99.5), Tests: &v1alpha1.TestCounts{Total: 10, Passed: 7, Failed: 1, Skipped: 1},
				Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 1, High: 2, Medium: 3, Low: 4},
				Digest:          "sha256:" + strings.Repeat("a", 64), URL: "https://ci.example/p/1?x=y#z"}},
		{"a branch as people name them", `{"type":"tests","status":"passed","commit":"abcdef1","branch":"feat/#12-R&D"}`,
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: "abcdef1", Branch: "feat/#12-R&D"}},
		{"pipeline as number", `{"type":"tests","status":"passed","commit":"abcdef1","pipeline":1234567890123}`,
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: "abcdef1", Pipeline: "1234567890123"}},
		{"null is absent", `{"type":"tests","status":"passed","commit":"abcdef1","pipeline":null,"coverage":null,"tests":null}`,
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: "abcdef1"}},
		{"total from the sum", `{"type":"tests","status":"passed","commit":"abcdef1","tests":{"passed":3,"skipped":1}}`,
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: "abcdef1", Tests: &v1alpha1.TestCounts{Total: 4, Passed: 3, Skipped: 1}}},
		{"white space around", " \n" + `{"type":"tests","status":"passed","commit":"abcdef1"}` + "\r\n",
			v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: "abcdef1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, errs := decodeResult([]byte(tc.body))
			if diff := cmp.Diff([]FieldError(nil), errs); diff != "" {
				t.Fatalf("errors:\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

// with is a valid result with some members replaced or added.
func with(members string) string {
	base := map[string]json.RawMessage{"type": []byte(`"tests"`), "status": []byte(`"passed"`), "commit": []byte(`"abcdef1"`)}
	var more map[string]json.RawMessage
	if err := json.Unmarshal([]byte("{"+members+"}"), &more); err != nil {
		panic(err)
	}
	for k, v := range more {
		base[k] = v
	}
	body, err := json.Marshal(base)
	if err != nil {
		panic(err)
	}
	return string(body)
}

func TestDecodeResultRefuses(t *testing.T) {
	for _, tc := range []struct{ name, body, field, detail string }{
		{"empty object", `{}`, "type", "is required"},
		{"no status", `{"type":"tests","commit":"abcdef1"}`, "status", "is required"},
		{"no commit", `{"type":"tests","status":"passed"}`, "commit", "is required"},
		{"not JSON", `type=tests`, "", "not JSON"},
		{"cut off", `{"type":"tests"`, "", "not JSON"},
		{"two values", with(``) + with(``), "", "not JSON"},
		{"array", `[]`, "", "JSON object"},
		{"string", `"tests"`, "", "JSON object"},
		{"null", `null`, "type", "is required"},
		{"not UTF-8", "{\"type\":\"\xff\"}", "", "UTF-8"},
		{"ten thousand levels", strings.Repeat("[", 10_001), "", "not JSON"},
		{"levels in a field", `{"tests":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9001), "tests.a", "known field"},
		{"unknown field", with(`"covrage":85`), "covrage", "known field"},
		{"unknown nested field", with(`"tests":{"ok":1}`), "tests.ok", "known field"},
		{"other case", with(`"Coverage":85`), "Coverage", "known field"},
		{"given twice", `{"type":"tests","status":"failed","status":"passed","commit":"abcdef1"}`, "status", "twice"},
		{"nested twice", with(``)[:len(with(``))-1] + `,"tests":{"failed":1,"failed":0}}`, "tests.failed", "twice"},
		{"type of wrong type", with(`"type":1`), "type", "must be a string"},
		{"coverage as string", with(`"coverage":"85"`), "coverage", "must be a number"},
		{"tests as number", with(`"tests":7`), "tests", "must be an object"},
		{"half a test", with(`"tests":{"passed":1.5}`), "tests.passed", "whole number"},
		{"huge number", with(`"coverage":1e400`), "coverage", "must be a number"},
		{"type with upper case", with(`"type":"Tests"`), "type", "a-z"},
		{"type with path", with(`"type":"../x"`), "type", "a-z"},
		{"type with shell", with(`"type":"a;rm"`), "type", "a-z"},
		{"type too long", with(`"type":"` + strings.Repeat("a", 41) + `"`), "type", "40"},
		{"type deployment", with(`"type":"deployment"`), "type", "reserved"},
		{"unknown status", with(`"status":"success"`), "status", "passed, failed or skipped"},
		{"deployment's status", with(`"status":"deployed"`), "status", "passed, failed or skipped"},
		{"six digits", with(`"commit":"abcdef"`), "commit", "7 to 64"},
		{"65 digits", with(`"commit":"` + strings.Repeat("a", 65) + `"`), "commit", "7 to 64"},
		{"a branch as commit", with(`"commit":"main-branch"`), "commit", "hex"},
		{"commit with line break", with(`"commit":"abcdef1\n"`), "commit", "hex"},
		{"negative coverage", with(`"coverage":-0.1`), "coverage", "0 to 100"},
		{"coverage over 100", with(`"coverage":100.01`), "coverage", "0 to 100"},
		{"negative count", with(`"tests":{"passed":-1}`), "tests.passed", "0 to"},
		{"count over 32 bits", with(`"tests":{"passed":4294967296}`), "tests.passed", "0 to"},
		{"count over 64 bits", with(`"tests":{"passed":99999999999999999999}`), "tests.passed", "whole number"},
		{"total below sum", with(`"tests":{"total":1,"passed":1,"failed":1}`), "tests.total", "less than"},
		{"negative finding", with(`"vulnerabilities":{"critical":-1}`), "vulnerabilities.critical", "0 to"},
		{"branch with quote", with(`"branch":"it's"`), "branch", "leave the branch out"},
		{"branch with dash", with(`"branch":"--upload-pack=x"`), "branch", "start with"},
		{"branch with line break", with(`"branch":"a\nb"`), "branch", "not allowed"},
		{"branch with NUL", with(`"branch":"a\u0000"`), "branch", "not allowed"},
		{"branch with escape", with(`"branch":"\u001b[31mred"`), "branch", "not allowed"},
		{"branch with C1 control", with(`"branch":"a\u009bb"`), "branch", "not allowed"},
		{"branch with RTL override", with(`"branch":"a\u202eb"`), "branch", "not allowed"},
		{"branch with lone surrogate", with(`"branch":"a\ud800b"`), "branch", "not allowed"},
		{"branch with shell", with(`"branch":"$(reboot)"`), "branch", "not allowed"},
		{"branch with markup", with(`"branch":"<img>"`), "branch", "not allowed"},
		{"branch too long", with(`"branch":"` + strings.Repeat("a", 256) + `"`), "branch", "255"},
		{"pipeline with space", with(`"pipeline":"a b"`), "pipeline", "letters"},
		{"pipeline with formula", with(`"pipeline":"=1+1"`), "pipeline", "letters"},
		{"pipeline too long", with(`"pipeline":"` + strings.Repeat("1", 65) + `"`), "pipeline", "64"},
		{"pipeline negative", with(`"pipeline":-1`), "pipeline", "whole number"},
		{"pipeline object", with(`"pipeline":{}`), "pipeline", "whole number"},
		{"pipeline bool", with(`"pipeline":true`), "pipeline", "whole number"},
		{"tag for a digest", with(`"digest":"latest"`), "digest", "sha256"},
		{"upper-case digest", with(`"digest":"sha256:` + strings.Repeat("A", 64) + `"`), "digest", "sha256"},
		{"javascript", with(`"url":"javascript:alert(1)"`), "url", "http"},
		{"relative URL", with(`"url":"/x"`), "url", "http"},
		{"password in URL", with(`"url":"https://u:p@ci.example/"`), "url", "password"},
		{"line break in URL", with(`"url":"https://ci.example/a\nb"`), "url", "not a URL"},
		{"URL too long", with(`"url":"https://ci.example/` + strings.Repeat("a", 2048) + `"`), "url", "2048"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs := decodeResult([]byte(tc.body))
			if len(errs) == 0 {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(errs[0].Field, tc.field) || tc.field == "" && errs[0].Field != "" || !strings.Contains(errs[0].Detail, tc.detail) {
				t.Errorf("got %+v, want field %q, detail with %q", errs[0], tc.field, tc.detail)
			}
			for _, e := range errs {
				if len(e.Field)+len(e.Detail) > 600 {
					t.Errorf("%d bytes of error for one field", len(e.Field)+len(e.Detail))
				}
			}
		})
	}
}

func TestEveryWrongFieldIsNamed(t *testing.T) {
	_, errs := decodeResult([]byte(`{"type":"T","status":"ok","commit":"x","coverage":-1,"tests":{"failed":-2},"url":"ftp://h"}`))
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	want := []string{"type", "status", "commit", "coverage", "tests.failed", "url"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestDecodeDeployment(t *testing.T) {
	spec, version, errs := decodeDeployment([]byte(`{"environment":"dev","version":"3f2a9c1d","status":"deployed"}`))
	if errs != nil {
		t.Fatal(errs)
	}
	want := v1alpha1.CIResultSpec{Type: "deployment", Status: "deployed", Environment: "dev"}
	if diff := cmp.Diff(want, spec); diff != "" || version != "3f2a9c1d" {
		t.Errorf("version %q, spec (-want +got):\n%s", version, diff)
	}
	for _, tc := range []struct{ name, body, field string }{
		{"no environment", `{"version":"v1.0.0","status":"deployed"}`, "environment"},
		{"path", `{"environment":"../dev","version":"v1.0.0","status":"deployed"}`, "environment"},
		{"long environment", `{"environment":"` + strings.Repeat("a", 41) + `","version":"v1.0.0","status":"deployed"}`, "environment"},
		{"no version", `{"environment":"dev","status":"deployed"}`, "version"},
		{"leading dash", `{"environment":"dev","version":"-rf","status":"deployed"}`, "version"},
		{"shell", `{"environment":"dev","version":"v1;reboot","status":"deployed"}`, "version"},
		{"line break", `{"environment":"dev","version":"v1.0.0\r\nX: y","status":"deployed"}`, "version"},
		{"result's status", `{"environment":"dev","version":"v1.0.0","status":"passed"}`, "status"},
		{"unknown field", `{"environment":"dev","version":"v1.0.0","status":"deployed","commit":"abcdef1"}`, "commit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, errs := decodeDeployment([]byte(tc.body)); len(errs) == 0 || errs[0].Field != tc.field {
				t.Errorf("errors %v, want one of %s", errs, tc.field)
			}
		})
	}
}

// The content decides on the name: what reads the same is the same, whatever the bytes.
func TestContentHash(t *testing.T) {
	hashOf := func(body string) string {
		spec, errs := decodeResult([]byte(body))
		if errs != nil {
			t.Fatal(errs)
		}
		spec.ReportHash = reportHash([]byte(body))
		return contentHash(spec, "")
	}
	base := hashOf(with(`"coverage":0`))
	for _, same := range []string{with(`"coverage":-0.0`), with(`"coverage":0.0,"branch":"","pipeline":null`), with(`"commit":"ABCDEF1","coverage":0`)} {
		if hashOf(same) != base {
			t.Errorf("another hash for %s", same)
		}
	}
	for _, other := range []string{with(``), with(`"coverage":1`), with(`"coverage":0,"pipeline":1`), with(`"coverage":0,"status":"failed"`),
		with(`"coverage":0,"commit":"abcdef12"`), with(`"coverage":0,"tests":{}`)} {
		if hashOf(other) == base {
			t.Errorf("the same hash for %s", other)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		with(``), with(`"tests":{"total":3,"passed":1}`), with(`"pipeline":12`), with(`"branch":"a\u202eb"`), `{"a":{"b":[1,{"c":null}]}}`,
		`{"environment":"dev","version":"dev-a1b2c3d","status":"rolled-back"}`, `[[[[`, "\xff", `{"type":"tests","type":"scan"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(spec v1alpha1.CIResultSpec, errs []FieldError) {
			if len(errs) > maxFieldErrors {
				t.Errorf("%d errors", len(errs))
			}
			if len(errs) > 0 {
				return
			}
			for _, s := range []string{spec.Type, spec.Status, spec.Commit, spec.Branch, spec.Pipeline, spec.Digest, spec.URL, spec.Environment} {
				if !utf8.ValidString(s) || strings.ContainsFunc(s, unsafeText) {
					t.Errorf("unsafe text %q", s)
				}
			}
			if n := spec.Tests; n != nil && (n.Passed < 0 || n.Failed < 0 || n.Skipped < 0 || n.Passed+n.Failed+n.Skipped > n.Total) {
				t.Errorf("counts %+v", n)
			}
			contentHash(spec, "")
		}
		spec, errs := decodeResult(body)
		check(spec, errs)
		if len(errs) == 0 && !commitPattern.MatchString(spec.Commit) {
			t.Errorf("commit %q", spec.Commit)
		}
		spec, version, errs := decodeDeployment(body)
		check(spec, errs)
		if len(errs) == 0 && !versionPattern.MatchString(version) {
			t.Errorf("version %q", version)
		}
	})
}
