// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

func trivyWith(member string) string {
	return `{"SchemaVersion":2,"Results":[{"Target":"a","Vulnerabilities":[{"VulnerabilityID":"x","Severity":"LOW"}]}]` + member + `}`
}

// trivyLicences is a report about licences alone, with more results.
func trivyLicences(results string) string {
	return `{"SchemaVersion":2,"Results":[{"Target":"OS Packages","Class":"license","Licenses":[{"Severity":"HIGH","Name":"GPL-3.0"}]},{"Target":"Loose File License(s)","Class":"license-file"}` + results + `]}`
}

func gitlabWith(severity, status string) string {
	return `{"version":"15.0.0","vulnerabilities":[{"severity":"` + severity + `"}],"scan":{"type":"sast","status":"` + status + `"}}`
}

// sarifRules is a run with a rest of the driver, which may close it and go on, and a result.
func sarifRules(driver, result string) string {
	closing := "}}"
	if strings.Contains(driver, `},"extensions"`) {
		closing = "}"
	}
	return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x",` + driver + closing + `,"results":[` + result + `]}]}`
}

func sarifWith(result string) string {
	return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[` + result + `]}]}`
}

func bomWith(member string) string {
	return `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"group":"com.dynors","name":"core","version":"2.1.0-SNAPSHOT",` +
		`"pedigree":{"ancestors":[{"group":"com.dynors","name":"core","version":"2.1.0"}]}}],` + member + `}`
}

func suiteOf(attributes, content string) string {
	return `<testsuite name="s" ` + attributes + `>` + content + `</testsuite>`
}

const (
	passing = `<testcase name="a"/>`
	failing = `<testcase name="a"><failure/></testcase>`
)

// What is refused, and the words that say why.
var refusals = []struct{ name, body, want string }{
	{"nothing", "", "empty"},
	{"blanks", " \n\t", "empty"},
	{"endless blanks", strings.Repeat(" ", 10_000), "blanks"},
	{"text", "all green, promised", "format is not known"},
	{"HTML", "<html><body>502</body></html>", "<html>"},
	{"gzip in gzip", "\x1f\x8b\x08", "compressed"},
	{"unknown JSON", `{"ok":true}`, "not known"},

	{"lock file of nothing", gradleLockHead + "\nempty=\n", "no module"},
	{"lock file without its end", gradleLockHead + "\ncom.dynors:core:2.1.0=runtimeClasspath\n", "no last line"},
	{"lock file that goes on", gradleLockHead + "\nempty=\ncom.dynors:core:2.1.0=runtimeClasspath\n", "follows"},
	{"lock file with a path", gradleLockHead + "\ncom/dynors:core:2.1.0=runtimeClasspath\nempty=\n", "not group:artifact:version"},
	{"lock file without configuration", gradleLockHead + "\ncom.dynors:core:2.1.0=\nempty=\n", "no configuration"},
	{"lock file with text", gradleLockHead + "\nall released, promised\nempty=\n", "no line of a lock file"},

	{"no test", suiteOf(`tests="0"`, ""), "no test"},
	{"no test in suites", `<testsuites/>`, "no test"},
	{"missing tests", suiteOf(`tests="3"`, passing), "claims 3 tests"},
	{"more passed than claimed", suiteOf(`tests="1"`, passing+passing), "claims 1 tests"},
	{"failures left out", suiteOf(`tests="1" failures="1"`, passing), "claims 1 failures"},
	{"errors left out in the root", `<testsuites errors="1">` + suiteOf("", passing) + `</testsuites>`, "claims 1 failures"},
	{"skips left out", suiteOf(`tests="1" skipped="1"`, passing), "skipped"},
	{"negative count", suiteOf(`tests="-1"`, passing), "tests"},
	{"NaN count", suiteOf(`tests="NaN"`, passing), "tests"},
	{"count out of range", suiteOf(`tests="99999999999999999999"`, passing), "tests"},
	{"fraction", suiteOf(`tests="1.5"`, passing), "tests"},
	{"test in a test", suiteOf("", `<testcase><testcase/></testcase>`), "testcase"},
	{"suites in a suite", suiteOf("", `<testsuites/>`+passing), "testsuites"},

	{"entity bomb", `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><testsuite>&lol2;</testsuite>`, "internal subset"},
	{"external entity", `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite>&x;</testsuite>`, "internal subset"},
	{"parameter entity", `<!DOCTYPE r SYSTEM "http://x/" [%x;]><testsuite/>`, "internal subset"},
	{"undeclared entity", suiteOf("", `&nbsp;`+passing), "entity"},
	{"undeclared entity in a value", suiteOf(`package="&x;"`, passing), "entity"},
	{"character that is none", suiteOf("", `&#0;`+passing), "entity"},
	{"control character by reference", suiteOf("", `&#x1b;`+passing), "entity"},
	{"surrogate by reference", suiteOf("", `&#xd800;`+passing), "entity"},
	{"bare ampersand", suiteOf("", ` a & b `+passing), "reference"},
	{"second DOCTYPE", `<!DOCTYPE a><!DOCTYPE b>` + suiteOf("", passing), "markup"},
	{"DOCTYPE inside", suiteOf("", `<!DOCTYPE a>`+passing), "markup"},
	{"long DOCTYPE", `<!DOCTYPE a "` + strings.Repeat("x", 4096) + `">` + suiteOf("", passing), "DOCTYPE"},
	{"10,000 deep", strings.Repeat("<testsuite>", 10_000), "nested deeper"},
	{"10,000 deep, unknown", suiteOf("", strings.Repeat("<a>", 10_000)), "nested deeper"},
	{"NUL", suiteOf("", "\x00"+passing), "control character"},
	{"escape", suiteOf("", "\x1b[31m"+passing), "control character"},
	{"NUL in a value", suiteOf("package=\"\x00\"", passing), "control character"},
	{"broken UTF-8", suiteOf("", "\xff"+passing), "UTF-8"},
	{"overlong UTF-8", suiteOf("", "\xc0\xbc"+passing), "UTF-8"},
	{"cut character", suiteOf("", passing+"\xc3"), "UTF-8"},
	{"attribute twice", suiteOf(`tests="1" tests="1"`, passing), "twice"},
	{"long name", suiteOf("", "<"+strings.Repeat("x", maxName+1)+"/>"+passing), "longer"},
	{"many attributes", "<testsuite" + manyAttributes(1000) + ">", "too many"},
	{"long tag", `<testsuite name="` + strings.Repeat("x", maxTag+bufferSize) + `">`, "longer"},
	{"unquoted value", `<testsuite tests=1>`, "not quoted"},
	{"no value", `<testsuite tests>`, "name="},
	{"no blank between", `<testsuite a="1"b="2">`, "name="},
	{"wrong end", `<testsuite></testsuites>`, "ends nothing"},
	{"end alone", `</testsuite>`, "ends nothing"},
	{"text before", `<!-- -->x<testsuite/>`, "outside"},
	{"second root", suiteOf("", passing) + suiteOf("", passing), "one report a file"},
	{"second declaration", `<?xml version="1.0"?>` + suiteOf("", passing) + `<?xml version="1.0"?>` + suiteOf("", passing), "one report a file"},
	{"late declaration", `<!-- x --><?xml version="1.0"?>` + suiteOf("", passing), "declaration"},
	{"encoding that nobody has", `<?xml version="1.0" encoding="EBCDIC-CP-FR"?>` + suiteOf("", passing), "encoding"},
	{"UTF-16 declared in UTF-8", `<?xml version="1.0" encoding="UTF-16"?>` + suiteOf("", passing), "encoding"},
	{"latin-1 with a mark", "\xef\xbb\xbf" + `<?xml version="1.0" encoding="ISO-8859-1"?>` + suiteOf("", passing), "byte order mark"},
	{"UTF-16 without a mark", "<\x00t\x00e\x00s\x00t\x00", "encoding"},
	{"UTF-32", "\x00\x00\x00<", "encoding"},
	{"unfinished UTF-16", "\xff\xfe<", "format is not known"},

	{"JaCoCo without lines", `<report name="x"><counter type="INSTRUCTION" missed="1" covered="1"/></report>`, "no lines"},
	{"JaCoCo against its packages", `<report name="x"><package name="p"><counter type="LINE" missed="5" covered="1"/></package><counter type="LINE" missed="0" covered="6"/></report>`, "contradicts"},
	{"JaCoCo without packages", `<report name="x"><counter type="LINE" missed="0" covered="6"/></report>`, "contradicts"},
	{"JaCoCo negative", `<report name="x"><counter type="LINE" missed="-1" covered="6"/></report>`, "missed"},
	{"JaCoCo half a counter", `<report name="x"><counter type="LINE" covered="6"/></report>`, "missed"},
	{"Cobertura without lines", `<coverage line-rate="1"><packages/></coverage>`, "no lines"},
	{"Cobertura's NaN", `<coverage line-rate="NaN"/>`, "line-rate"},
	{"Cobertura above 1", `<coverage line-rate="80"/>`, "line-rate"},
	{"Cobertura against its lines", `<coverage line-rate="0.9"><class><lines><line hits="0"/><line hits="1"/></lines></class></coverage>`, "contradicts"},
	{"Cobertura against its sums", `<coverage lines-valid="2" lines-covered="2"><class><lines><line hits="0"/><line hits="1"/></lines></class></coverage>`, "contradicts"},
	{"Cobertura, more covered than valid", `<coverage lines-valid="2" lines-covered="3"/>`, "contradicts"},
	{"Cobertura, negative hits", `<coverage><class><lines><line hits="-1"/></lines></class></coverage>`, "hits"},
	{"Clover", `<coverage generated="1" clover="3.2.0"/>`, "Clover"},
	{"profile of nothing", "mode: set\n", "no statements"},
	{"profile of empty blocks", "mode: set\na.go:1.1,2.2 0 1\n", "no statements"},
	{"profile without an end", "mode: set\na.go:1.1,2.2 1 1", "cut off"},
	{"profile of another mode", "mode: hope\na.go:1.1,2.2 1 1\n", "mode"},
	{"two profiles", "mode: set\na.go:1.1,2.2 1 1\nmode: set\n", "second profile"},
	{"profile that contradicts itself", "mode: set\na.go:1.1,2.2 1 1\na.go:1.1,2.2 2 1\n", "contradicts"},
	{"profile without places", "mode: set\n0:0.,. 1 0\n", "is not of the form"},
	{"profile with places out of order", "mode: set\na.go:1,1.2.2 1 0\n", "is not of the form"},
	{"profile with half a place", "mode: set\na.go:1.1,2. 1 0\n", "is not of the form"},
	{"profile with a negative count", "mode: set\na.go:1.1,2.2 1 -1\n", "count"},
	{"profile with NUL", "mode: set\na\x00.go:1.1,2.2 1 1\n", "control"},
	{"profile out of range", "mode: count\na.go:1.1,2.2 1 99999999999999999999\n", "range"},
	{"endless line", "mode: set\n" + strings.Repeat("a", 2*maxLine), "longer"},
	{"tracefile without a section", "TN:x\n", "no lines"},
	{"tracefile cut off in its last line", "SF:a\nDA:1,1\nend_of_recor", "cut off"},
	{"tracefile cut off in a number", "SF:a\nDA:1,1", "cut off"},
	{"tracefile cut off", "SF:a\nDA:1,1\n", "end_of_record"},
	{"tracefile, section in a section", "SF:a\nSF:b\n", "begins before"},
	{"tracefile, data outside", "TN:\nDA:1,1\n", "outside"},
	{"tracefile that contradicts itself", "SF:a\nDA:1,0\nDA:2,0\nLF:2\nLH:2\nend_of_record\n", "contradicts"},
	{"tracefile, more covered than found", "SF:a\nLF:2\nLH:3\nend_of_record\n", "covered"},
	{"tracefile, negative count", "SF:a\nDA:1,-1\nend_of_record\n", "count"},

	{"JSON 10,000 deep", strings.Repeat(`{"a":`, 10_000), "nested deeper"},
	{"JSON lists 10,000 deep", strings.Repeat(`[`, 10_000), "not an object"},
	{"name twice", trivyWith(`,"Results":[]`), "twice"},
	{"name twice by escape", trivyWith(`,"R\u0065sults":[]`), "twice"},
	{"name twice below", trivyWith(`,"x":{"a":1,"a":2}`), "twice"},
	{"NaN", trivyWith(`,"x":NaN`), "not JSON"},
	{"broken UTF-8 in JSON", trivyWith(",\"x\":\"\xff\""), "not JSON"},
	{"lone surrogate", trivyWith(`,"x":"\ud800"`), "not JSON"},
	{"NUL in JSON", trivyWith(",\"x\":\"\x00\""), "not JSON"},
	{"long text", trivyWith(`,"x":"` + strings.Repeat("x", maxToken+1<<20) + `"`), "longer"},
	{"trailing garbage", trivyWith("") + "x", "one report"},
	{"two documents", trivyWith("") + trivyWith(""), "one report"},

	{"Trivy without results", `{"SchemaVersion":2,"ArtifactName":"x"}`, "nothing was scanned"},
	{"Trivy with nothing for a result", `{"SchemaVersion":2,"Results":[null]}`, "nothing was scanned"},
	{"Trivy of another schema", `{"SchemaVersion":1,"Results":[{}]}`, "SchemaVersion"},
	{"Trivy's schema out of range", `{"SchemaVersion":1e999,"Results":[{}]}`, "SchemaVersion"},
	{"Trivy's negative schema", `{"SchemaVersion":-2,"Results":[{}]}`, "SchemaVersion"},
	{"Trivy, a severity of its own", `{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"Severity":"MEH"}]}]}`, "severity"},
	{"Trivy, no severity", `{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{}]}]}`, "severity"},
	{"Trivy, summary against its findings", `{"SchemaVersion":2,"Results":[{"MisconfSummary":{"Failures":2},"Misconfigurations":[]}]}`, "contradicts"},
	{"GitLab, a severity of its own", gitlabWith("critical", "success"), "severity"},
	{"GitLab, no status", gitlabWith("High", ""), "scan.status"},
	{"GitLab, nobody knows what kind of scan", `{"version":"15.0.0","vulnerabilities":[],"scan":{"status":"success"}}`, "scan.type"},
	{"GitLab, old schema", `{"version":"2.3","vulnerabilities":[],"scan":{}}`, "schema"},
	{"GitLab, no vulnerabilities", `{"version":"15.0.0","scan":{"type":"sast","status":"success"}}`, "missing"},
	{"code quality without a fingerprint", `[{"description":"x","severity":"minor","location":{}}]`, "fingerprint"},
	{"code quality, a severity of its own", `[{"description":"x","severity":"HIGH","location":{},"fingerprint":"x"}]`, "severity"},
	{"SARIF without runs", `{"version":"2.1.0","runs":[]}`, "no run"},
	{"SARIF without results", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}}}]}`, "without results"},
	{"SARIF, results null", `{"version":"2.1.0","runs":[{"results":null}]}`, "without results"},
	{"SARIF 2.0", `{"version":"2.0.0","runs":[{"results":[]}]}`, "version"},
	{"Trivy, licences alone", trivyLicences(``), "licences"},
	{"Trivy, files of licences alone", `{"SchemaVersion":2,"Results":[{"Target":"x","Class":"license-file"}]}`, "licences"},
	{"code quality without a severity", `[{"description":"x","location":{},"fingerprint":"x"}]`, "severity"},
	{"code quality without a description", `[{"severity":"minor","location":{},"fingerprint":"x"}]`, "description"},
	{"code quality without a location", `[{"description":"x","severity":"minor","fingerprint":"x"}]`, "location"},
	{"code quality, two lists", `[{"description":"x","severity":"minor","location":{},"fingerprint":"x"}][]`, "one report"},
	{"code quality cut off", `[{"description":"x","severity":"minor","location":{},"fingerprint":"x"}`, "ends before"},
	{"SARIF, a level of its own", sarifWith(`{"level":"fatal"}`), "level"},
	{"SARIF, a kind of its own", sarifWith(`{"kind":"maybe"}`), "kind"},
	{"SARIF, a score out of range", sarifWith(`{"properties":{"security-severity":"11"}}`), "score"},
	{"SARIF, a score that is NaN", sarifWith(`{"properties":{"security-severity":"NaN"}}`), "score"},
	{"SARIF, ids without end", sarifWith(manyResults(3000)), "ids of rules"},
	{"CycloneDX of nothing", `{"bomFormat":"CycloneDX","specVersion":"1.6"}`, "no component"},
	{"CycloneDX of an empty list", `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[],"vulnerabilities":[]}`, "no component"},
	{"CycloneDX of the future", `{"bomFormat":"CycloneDX","specVersion":"9.9","components":[{}]}`, "version"},
	{"CycloneDX, a severity of its own", `{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[{"ratings":[{"severity":"awful"}]}]}`, "severity"},
	{"CycloneDX, a negative score", `{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[{"ratings":[{"score":-1}]}]}`, "score"},
	{"a bom of another namespace", `<bom xmlns="http://example.com/"><components><component/></components></bom>`, "namespace"},
	{"a bom of no namespace", `<bom><components><component/></components></bom>`, "namespace"},
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` a%d=""`, i)
	}
	return b.String()
}

// manyResults are results with ids of their own, each as long as it may be.
func manyResults(n int) string {
	results := make([]string, n)
	for i := range results {
		results[i] = fmt.Sprintf(`{"ruleId":"%0*d"}`, maxText, i)
	}
	return strings.Join(results, ",")
}

func TestRefusals(t *testing.T) {
	for _, tc := range refusals {
		t.Run(tc.name, func(t *testing.T) {
			rep, err := Read(strings.NewReader(tc.body), Options{})
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("%s, %v, want a refusal", describe(rep), err)
			}
			if !strings.Contains(refused.Why, tc.want) || len(refused.Why) > 300 {
				t.Errorf("refused: %s, want it to speak of %q", refused, tc.want)
			}
			for _, r := range refused.Error() {
				if r < ' ' {
					t.Errorf("a control character in %q", refused)
				}
			}
		})
	}
}

// What may be no report at all is told apart from a report that is not good: who sends files passes over the first alone.
func TestForeign(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		format     Format
		foreign    bool
	}{
		{"nothing", "", "", false},
		{"cut off before anything is said", "<", "", false},
		{"JSON cut off before anything is said", "{", "", false},
		{"a comment and no more", "<!-- x -->", "", false},
		{"a text", "hello\n", "", true},
		{"a page", "<html><body/></html>", "", true},
		{"an object of something", `{"name":"x"}`, "", true},
		{"a list of something", `[{"description":"x"}]`, CodeQuality, true},
		{"an issue, and something", `[{"description":"x","severity":"minor","location":{},"fingerprint":"x"},{"description":"x"}]`, CodeQuality, false},
		{"an issue without a place", `[{"description":"x","severity":"minor","fingerprint":"x"}]`, CodeQuality, false},
		{"tests cut off", `<testsuite><testcase name="a">`, JUnit, false},
		{"tests that contradict themselves", suiteOf(`tests="7"`, passing), JUnit, false},
		{"no tests", suiteOf("", ""), JUnit, false},
		{"nothing was scanned", `{"SchemaVersion":2,"ArtifactName":"x"}`, Trivy, false},
		{"no statements", "mode: set\n", GoCover, false},
	} {
		_, err := Read(strings.NewReader(tc.body), Options{})
		var refused *Error
		if !errors.As(err, &refused) || refused.Foreign != tc.foreign || refused.Format != tc.format {
			t.Errorf("%s: %+v", tc.name, err)
		}
	}
}

// What producers do differently and is accepted all the same.
func TestLeniency(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"pytest: an error after a pass is claimed as two tests", suiteOf(`tests="2" errors="1"`, `<testcase><error/></testcase>`), "1 tests: 0 passed, 1 failed"},
		{"all skipped", suiteOf(`tests="1" skipped="1"`, `<testcase><skipped/></testcase>`), "skipped; 1 tests: 0 passed, 0 failed, 1 skipped"},
		{"a suite that failed as a whole", suiteOf(``, `<error/>`+passing), "2 tests: 1 passed, 1 failed"},
		{"suites that failed as a whole", `<testsuites><error/>` + suiteOf(``, passing) + `</testsuites>`, "2 tests: 1 passed, 1 failed"},
		{"failure wins over skipped", suiteOf(``, `<testcase><skipped/><failure/></testcase>`), "1 tests: 0 passed, 1 failed"},
		{"markup in a log", suiteOf(``, `<testcase><system-out><![CDATA[<failure/>]]></system-out></testcase>`), "1 passed"},
		{"a failure inside of a log", suiteOf(``, `<testcase><system-out><failure/></system-out></testcase>`), "1 passed"},
		{"a prefix", `<x:testsuite xmlns:x="y"><x:testcase/></x:testsuite>`, "1 passed"},
		{"a log larger than any buffer", suiteOf(``, `<testcase><system-out>`+strings.Repeat("x&amp;é", 300_000)+`</system-out></testcase>`), "1 passed"},
		{"one line for a duplicate", "SF:a\nDA:1,0\nend_of_record\nSF:a\nDA:1,1\nend_of_record\n", "100.00 % of 1"},
		{"coverlet ends no last line", "SF:a\nDA:1,1\nend_of_record\nSF:b\nDA:1,1\nend_of_record", "100.00 % of 2"},
		{"Windows' line ends", "mode: set\r\na.go:1.1,2.2 1 1\r\n", "100.00 % of 1"},
		{"Trivy, licences beside packages", trivyLicences(`,{"Target":"a","Class":"os-pkgs"}`), "0 critical, 0 high"},
		{"Trivy, checks that passed, and what has an id whatever it says", `{"SchemaVersion":2,"Results":[{"Misconfigurations":[{"Status":"PASS","Severity":"CRITICAL"},{"Status":"EXCEPTION","Severity":"CRITICAL"},` +
			`{"Status":"FAIL","Severity":"LOW"}],"Vulnerabilities":[{"VulnerabilityID":"CVE-1","Status":"PASS","Severity":"HIGH"}],"Secrets":[{"RuleID":"r","Status":"EXCEPTION","Severity":"MEDIUM"}]}]}`, "0 critical, 1 high, 1 medium, 1 low"},
		{"Trivy, a check of a status of its own", `{"SchemaVersion":2,"Results":[{"Misconfigurations":[{"Status":"MAYBE","Severity":"CRITICAL"}]}]}`, "1 critical"},
		{"Trivy, files of licences beside packages", trivyLicences(`,{"Target":"b","Class":"license-file"},{"Target":"a","Class":"os-pkgs"}`), "0 critical, 0 high"},
		{"SARIF, a level by default", sarifWith(`{}`), "0 critical, 0 high, 1 medium"},
		{"SARIF, a score of 0 that rates nothing", sarifWith(`{"level":"error","properties":{"security-severity":"0.0"}}`), "0 critical, 1 high"},
		{"SARIF, a rule whose score of 0 rates nothing", sarifRules(`"rules":[{"id":"r","defaultConfiguration":{"level":"note"},"properties":{"security-severity":"0.0"}}]`, `{"ruleId":"r"}`), "0 medium, 1 low"},
		{"SARIF, a rule of an extension by index", sarifRules(`"rules":[{"id":"own","properties":{"security-severity":"2"}}]},"extensions":[{"name":"a"},{"name":"b","rules":[{"id":"r","properties":{"security-severity":"9.8"}}]}]`,
			`{"rule":{"index":0,"toolComponent":{"index":1}}}`), "1 critical, 0 high, 0 medium, 0 low"},
		{"SARIF, a rule of the driver by the index in rule", sarifRules(`"rules":[{"id":"r","properties":{"security-severity":"9.8"}}]`, `{"rule":{"index":0}}`), "1 critical"},
		{"SARIF, an id that no rule has, and an index", sarifRules(`"rules":[{"id":"r","properties":{"security-severity":"9.8"}}]`, `{"ruleId":"other","ruleIndex":0}`), "1 critical"},
		{"SARIF, an id of three parts", sarifRules(`"rules":[{"id":"r","properties":{"security-severity":"9.8"}}]`, `{"ruleId":"r/a/b"}`), "1 critical"},
		{"SARIF, a component that is not there", sarifRules(`"rules":[{"id":"r"}]`, `{"rule":{"index":0,"toolComponent":{"index":7}}}`), "1 medium"},
		{"SARIF, properties of a run that are not Trivy's", strings.Replace(sarifWith(``), `"results"`, `"properties":{"repoDigests":"many"},"results"`, 1), "0 critical"},
		{"SARIF, no findings", sarifWith(``), "0 critical, 0 high, 0 medium, 0 low"},
		{"SARIF, what passed", sarifWith(`{"kind":"pass"}`), "0 critical, 0 high, 0 medium, 0 low"},
		{"SARIF, a suppression under review", sarifWith(`{"suppressions":[{"status":"underReview"}]}`), "1 medium"},
		{"SARIF, one id for two rules", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x","rules":[{"id":"a","properties":{"security-severity":"9.8"}},{"id":"a","defaultConfiguration":{"level":"note"}}]}},"results":[{"ruleId":"a"}]}]}`, "1 critical"},
		{"CycloneDX, a score for an unknown severity", bomWith(`"vulnerabilities":[{"ratings":[{"severity":"unknown","score":9.8,"method":"CVSSv31"}]}]`), "1 critical, 0 high, 0 medium, 0 low; 1 comp"},
		{"CycloneDX, what a component was made from", bomWith(`"x":0`), "1 components; com.dynors:core:2.1.0-SNAPSHOT"},
		{"CycloneDX in XML, what a component was made from", `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components><component><group>com.dynors</group><name>core</name>` +
			`<version>2.1.0-SNAPSHOT</version><pedigree><ancestors><component><group>com.dynors</group><name>core</name><version>2.1.0</version>` +
			`<hashes><hash alg="SHA-256">` + strings.TrimPrefix(manifest, "sha256:") + `</hash></hashes></component></ancestors></pedigree></component></components></bom>`,
			"1 components; com.dynors:core:2.1.0-SNAPSHOT"},
		{"SARIF, a tool that failed", `{"version":"2.1.0","runs":[{"results":[],"invocations":[{"executionSuccessful":false}]}]}`, "scan; failed"},
		{"a status that says how it ended, and no element", suiteOf(``, `<testcase status="timedout"/><testcase status="panicked"/><testcase result="aborted"/><testcase status="run"/>`), "4 tests: 1 passed, 3 failed"},
		{"a status of what was not run yet", suiteOf(``, `<testcase status="pending"/>`+passing), "2 tests: 1 passed, 0 failed, 1 skipped"},
		{"GitLab, a scan that failed", gitlabWith("High", "failure"), "scan; failed"},
		{"a terminal's escapes in a producer", strings.Replace(sarifWith(``), `"x"`, `"\u001b[31mx\u202e"`, 1), "by [31mx;"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rep, err := Read(strings.NewReader(tc.body), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(rep); !strings.Contains(got, tc.want) {
				t.Errorf("%s, want %s in it", got, tc.want)
			}
		})
	}
}

func TestEncodings(t *testing.T) {
	const text = `<?xml version="1.0" encoding="%s"?><testsuite name="Prix à payer"><testcase name="é"/></testsuite>`
	for _, tc := range []struct {
		declared, mark string
		in             encoding.Encoding
	}{
		{"UTF-8", "", encoding.Nop}, {"utf-8", "\xef\xbb\xbf", encoding.Nop}, {"ISO-8859-1", "", charmap.ISO8859_1},
		{"ISO-8859-15", "", charmap.ISO8859_15}, {"windows-1252", "", charmap.Windows1252},
		{"UTF-16", "", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)}, {"utf-16", "", unicode.UTF16(unicode.BigEndian, unicode.UseBOM)},
	} {
		t.Run(tc.declared+tc.mark, func(t *testing.T) {
			data, err := tc.in.NewEncoder().String(fmt.Sprintf(text, tc.declared))
			if err != nil {
				t.Fatal(err)
			}
			rep, err := Read(iotest.OneByteReader(strings.NewReader(tc.mark+data)), Options{})
			if err != nil || rep.Tests == nil || rep.Tests.Passed != 1 {
				t.Errorf("%s, %v", describe(rep), err)
			}
		})
	}
	for name, body := range map[string]string{"JSON with a mark": "\xef\xbb\xbf" + trivyWith(""), "JSON in UTF-16": utf16(t, trivyWith("")), "LCOV in UTF-16": utf16(t, "SF:a\r\nDA:1,1\r\nend_of_record\r\n")} {
		if _, err := Read(strings.NewReader(body), Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func utf16(t *testing.T, text string) string {
	t.Helper()
	out, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// How the bytes arrive changes nothing.
func TestPieces(t *testing.T) {
	for _, tc := range samples {
		data := sample(t, tc.file)
		for name, r := range map[string]io.Reader{"one byte": iotest.OneByteReader(bytes.NewReader(data)), "with the end": iotest.DataErrReader(bytes.NewReader(data))} {
			rep, err := Read(r, Options{})
			if got := describe(rep); err != nil || got != tc.want {
				t.Errorf("%s, %s: %s, %v", tc.file, name, got, err)
			}
		}
	}
}

// An error of the reader below is none of the report's.
func TestReaderFails(t *testing.T) {
	broken := errors.New("the line is cut")
	for _, tc := range samples {
		data := sample(t, tc.file)
		_, err := Read(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)), Options{})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", tc.file, err)
		}
	}
}
