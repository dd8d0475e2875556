// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// manifest is the digest that the samples name.
const manifest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// describe is everything a report says, in one line.
func describe(r Report) string {
	out := []string{string(r.Format), r.Type, r.Status}
	if r.Producer != "" {
		out = append(out, "by "+r.Producer)
	}
	if t := r.Tests; t != nil {
		out = append(out, fmt.Sprintf("%d tests: %d passed, %d failed, %d skipped", t.Total, t.Passed, t.Failed, t.Skipped))
	}
	if r.Coverage != nil {
		out = append(out, fmt.Sprintf("%.2f %% of %d", *r.Coverage, *r.CoverageBase))
	}
	if v := r.Vulnerabilities; v != nil {
		out = append(out, fmt.Sprintf("%d critical, %d high, %d medium, %d low", v.Critical, v.High, v.Medium, v.Low))
	}
	for what, n := range map[string]int32{"unrated": r.Unrated} {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	if r.Suppressed > 0 {
		out = append(out, fmt.Sprintf("%d suppressed", r.Suppressed))
	}
	if r.Components > 0 {
		out = append(out, fmt.Sprintf("%d components", r.Components))
	}
	if r.Maven != nil && len(r.Maven.Components) > 0 {
		out = append(out, strings.Join(r.Maven.Components, " "))
	}
	return strings.Join(append(out, append(r.Commits, r.Digests...)...), "; ")
}

// samples are what the documentation of the producers shows, and what is to be read of it.
var samples = []struct{ file, want string }{
	{"junit/surefire.xml", "junit; tests; failed; by Surefire 3.0.2; 5 tests: 2 passed, 2 failed, 1 skipped"},
	{"junit/pytest.xml", "junit; tests; failed; by pytest; 5 tests: 2 passed, 2 failed, 1 skipped"},
	{"junit/jest-junit.xml", "junit; tests; passed; by jest-junit; 4 tests: 3 passed, 0 failed, 1 skipped"},
	{"junit/gotestsum.xml", "junit; tests; failed; by gotestsum go1.26.8; 4 tests: 2 passed, 2 failed, 0 skipped"},
	{"junit/phpunit.xml", "junit; tests; passed; 3 tests: 3 passed, 0 failed, 0 skipped"},
	{"junit/googletest.xml", "junit; tests; passed; 3 tests: 1 passed, 0 failed, 2 skipped"},
	{"junit/node-test.xml", "junit; tests; passed; 3 tests: 2 passed, 0 failed, 1 skipped"},

	{"jacoco/maven.xml", "jacoco; coverage; passed; by JaCoCo; 95.00 % of 20"},
	{"jacoco/aggregate.xml", "jacoco; coverage; passed; by JaCoCo; 85.00 % of 20"},
	{"jacoco/kover.xml", "jacoco; coverage; passed; by JaCoCo; 0.00 % of 2"},
	{"cobertura/coverage-py.xml", "cobertura; coverage; passed; 75.00 % of 4"},
	{"cobertura/istanbul.xml", "cobertura; coverage; passed; 100.00 % of 3"},
	{"cobertura/gcovr.xml", "cobertura; coverage; passed; by gcovr 7.2; 66.66 % of 3"},
	{"gocover/set.out", "go-coverprofile; coverage; passed; by go test; 75.00 % of 4"},
	{"gocover/count.out", "go-coverprofile; coverage; passed; by go test; 75.00 % of 4"},
	{"gocover/covdata.out", "go-coverprofile; coverage; passed; by go test; 25.00 % of 4"},
	{"gocover/atomic-coverpkg.out", "go-coverprofile; coverage; passed; by go test; 100.00 % of 5"},
	{"lcov/lcov.info", "lcov; coverage; passed; 50.00 % of 2"},
	{"lcov/istanbul.info", "lcov; coverage; passed; 75.00 % of 4"},
	{"lcov/coverage-py.info", "lcov; coverage; passed; 100.00 % of 3"},
	{"lcov/summary-only.info", "lcov; coverage; passed; 90.00 % of 10"},

	{"sarif/codeql.sarif", "sarif; scan; passed; by CodeQL 2.19.3; 0 critical, 1 high, 0 medium, 1 low; 8f14e45fceea167a5a36dedd4bea2543c1a2b3d4"},
	{"sarif/semgrep.sarif", "sarif; scan; passed; by Semgrep OSS 1.99.0; 0 critical, 1 high, 1 medium, 0 low; 1 suppressed"},
	{"sarif/eslint.sarif", "sarif; scan; passed; by ESLint 9.12.0; 0 critical, 1 high, 1 medium, 0 low"},
	{"sarif/trivy.sarif", "sarif; scan; passed; by Trivy 0.57.1; 2 critical, 0 high, 0 medium, 0 low; " + manifest},
	{"trivy/image.json", "trivy; scan; passed; by Trivy 0.69.1; 2 critical, 1 high, 1 medium, 0 low; 1 unrated; " + manifest},
	{"trivy/repository.json", "trivy; scan; passed; by Trivy; 0 critical, 0 high, 1 medium, 0 low; 8f14e45fceea167a5a36dedd4bea2543c1a2b3d4"},
	{"trivy/config.json", "trivy; scan; passed; by Trivy; 0 critical, 1 high, 0 medium, 1 low"},
	{"gitlab/sast.json", "gitlab-security; scan; passed; by Semgrep 1.99.0; 1 critical, 0 high, 1 medium, 0 low; 1 unrated"},
	{"gitlab/dependency-scanning.json", "gitlab-security; scan; passed; by Gemnasium 6.1.5; 0 critical, 1 high, 0 medium, 0 low"},
	{"gitlab/container-scanning.json", "gitlab-security; scan; passed; by Trivy 0.57.1; 0 critical, 0 high, 1 medium, 1 low; " + manifest},
	{"gitlab/secret-detection.json", "gitlab-security; scan; passed; by Gitleaks 8.21.2; 1 critical, 0 high, 0 medium, 0 low"},
	{"codequality/codeclimate.json", "gitlab-codequality; quality; passed; 1 critical, 0 high, 0 medium, 1 low"},
	{"codequality/golangci-lint.json", "gitlab-codequality; quality; passed; 0 critical, 1 high, 0 medium, 0 low"},
	{"codequality/eslint-gitlab.json", "gitlab-codequality; quality; passed; 0 critical, 0 high, 1 medium, 1 low"},
	{"cyclonedx/trivy.json", "cyclonedx-json; scan; passed; by trivy 0.69.1; 1 critical, 0 high, 1 medium, 0 low; 1 unrated; 1 suppressed; 2 components; " + manifest},
	{"cyclonedx/trivy-sbom.json", "cyclonedx-json; sbom; passed; by trivy 0.69.1; 1 components"},
	{"cyclonedx/cdxgen.json", "cyclonedx-json; sbom; passed; by cdxgen 10.10.4; 2 components"},
	{"cyclonedx/syft-1.4.json", "cyclonedx-json; sbom; passed; by syft 1.16.0; 1 components; " + manifest},
	{"cyclonedx/cyclonedx-py.xml", "cyclonedx-xml; sbom; passed; by cyclonedx-py 7.1.0, cyclonedx-python-lib 11.0.0; 2 components"},
	{"cyclonedx/dotnet.xml", "cyclonedx-xml; sbom; passed; by CycloneDX module for .NET 5.3.0.0; 1 components"},
	{"cyclonedx/maven.xml", "cyclonedx-xml; sbom; passed; by cyclonedx-maven-plugin 2.9.1; 2 components"},
	{"cyclonedx/gradle-modules.json", "cyclonedx-json; sbom; passed; by cyclonedx-gradle-plugin 2.3.0; 6 components; com.dynors:core:2.1.0@" + manifest + " com.dynors:ext:1.4.0-SNAPSHOT com.dynors:pdf:? org.slf4j:slf4j-api:2.0.16"},
	{"cyclonedx/maven-modules.xml", "cyclonedx-xml; sbom; passed; by cyclonedx-maven-plugin 2.9.1; 4 components; com.dynors:core:2.1.0@" + manifest + " com.dynors:ext:1.4.0 com.dynors:inner:1.0.0"},
	{"gradlelock/gradle.lockfile", "gradle-lockfile; sbom; passed; by Gradle; 3 components; com.dynors:core:2.1.0 com.dynors:ext:1.4.0-SNAPSHOT org.springframework.boot:spring-boot:3.5.7"},
	{"gradlelock/buildscript-gradle.lockfile", "gradle-lockfile; sbom; passed; by Gradle; 1 components; com.dynors:core:2.1.0"},
	{"cyclonedx/vulnerabilities.xml", "cyclonedx-xml; scan; passed; by scanner & co 1.0; 0 critical, 1 high, 0 medium, 0 low; 1 suppressed; 1 components; " + manifest},
}

func sample(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSamples(t *testing.T) {
	seen := map[string]bool{}
	for _, tc := range samples {
		t.Run(tc.file, func(t *testing.T) {
			rep, err := Read(bytes.NewReader(sample(t, tc.file)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(rep); got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
		seen[filepath.Join("testdata", tc.file)] = true
	}
	files, err := filepath.Glob("testdata/*/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f] && !strings.HasPrefix(f, "testdata/fuzz/") {
			t.Errorf("%s is in no case", f)
		}
	}
}

// A report that was cut off anywhere is never read as a whole one: neither its end nor a figure may be missing.
func TestTruncatedSamples(t *testing.T) {
	for _, tc := range samples {
		t.Run(tc.file, func(t *testing.T) {
			data := bytes.TrimRight(sample(t, tc.file), "\n")
			for n := range len(data) {
				rep, err := Read(bytes.NewReader(data[:n]), Options{})
				if err != nil {
					// Nobody passes over it as no report, once its beginning says what it is.
					var refused *Error
					if errors.As(err, &refused) && refused.Foreign && n > len(gradleLockHead) {
						t.Fatalf("cut after %d of %d bytes it is taken for no report: %v", n, len(data), err)
					}
					continue
				}
				// Text formats have no end: what is cut at the end of a line is a shorter report. Only LCOV's sections end.
				if whole := data[n-1] == '\n' || bytes.HasSuffix(data[:n], []byte("\n"+endOfRecord)); !whole || rep.Format != GoCover && rep.Format != LCOV {
					t.Fatalf("cut after %d of %d bytes it is %s", n, len(data), describe(rep))
				}
			}
		})
	}
}

// Whatever follows a report makes it two.
func TestTwoInOne(t *testing.T) {
	for _, tc := range samples {
		for _, tail := range []string{"x", "{}", "\x00", "]"} {
			data := append(sample(t, tc.file), tail...)
			if rep, err := Read(bytes.NewReader(data), Options{}); err == nil {
				t.Errorf("%s followed by %q is %s", tc.file, tail, describe(rep))
			}
		}
		twice := append(sample(t, tc.file), sample(t, tc.file)...)
		if rep, err := Read(bytes.NewReader(twice), Options{}); err == nil && rep.Format != LCOV { // LCOV files are merged so
			t.Errorf("%s twice is %s", tc.file, describe(rep))
		}
	}
}

// A bill that lists no vulnerability is a scan for who says that it is one.
func TestScannedForNothing(t *testing.T) {
	rep, err := Read(bytes.NewReader(sample(t, "cyclonedx/trivy-sbom.json")), Options{Type: v1alpha1.TypeScan})
	if err != nil || rep.Type != v1alpha1.TypeScan || rep.Vulnerabilities == nil {
		t.Errorf("%s, %v", describe(rep), err)
	}
	rep, err = Read(bytes.NewReader(sample(t, "cyclonedx/cdxgen.json")), Options{Type: v1alpha1.TypeScan})
	if err != nil || rep.Type != v1alpha1.TypeSBOM || rep.Vulnerabilities != nil {
		t.Errorf("%s, %v", describe(rep), err)
	}
}

func TestEmptyCodeQuality(t *testing.T) {
	rep, err := Read(strings.NewReader("[]"), Options{Type: v1alpha1.TypeQuality})
	if err != nil || rep.Status != v1alpha1.StatusPassed || rep.Vulnerabilities == nil {
		t.Errorf("%s, %v", describe(rep), err)
	}
	if _, err := Read(strings.NewReader("[]"), Options{}); err == nil {
		t.Error("an empty list of nothing was accepted")
	}
}
