// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/json"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	maxType        = 40
	maxEnvironment = 40
	maxBranch      = 255
	maxPipeline    = 64
	maxURL         = 2048
	maxVersion     = 128
	maxCount       = 100_000_000 // as the CIResult's schema
	maxFieldErrors = 16          // reported at a time
	maxQuoted      = 48          // characters of the sender's text in an answer
	sha1Digits     = 40
	sha256Digits   = 64
)

var (
	typePattern        = regexp.MustCompile(`^[a-z][-a-z0-9]*$`)
	commitPattern      = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
	environmentPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	pipelinePattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/#-]*$`)
	versionPattern     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
	digestPattern      = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// branchRefused are characters that git refuses in a branch (git-check-ref-format) or that a shell gives a meaning, but for the &
// of a branch like R&D: commands that people copy quote addresses, in which it stands encoded.
const branchRefused = " ~^:?*[]\\;|$<>(){}'\"`!"

// ResultRequest is the body of POST …/quality-gates/results.
type ResultRequest struct {
	Type            string                  `json:"type"`
	Status          string                  `json:"status"`
	Commit          string                  `json:"commit"`
	Branch          string                  `json:"branch,omitempty"`
	Pipeline        stdjson.RawMessage      `json:"pipeline,omitempty"` // a string or a whole number
	Job             string                  `json:"job,omitempty"`
	Run             stdjson.RawMessage      `json:"run,omitempty"` // as pipeline
	CoverageBase    *int64                  `json:"coverageBase,omitempty"`
	Score           *float64                `json:"score,omitempty"`
	Coverage        *float64                `json:"coverage,omitempty"`
	Tests           *TestsRequest           `json:"tests,omitempty"`
	Vulnerabilities *VulnerabilitiesRequest `json:"vulnerabilities,omitempty"`
	Digest          string                  `json:"digest,omitempty"`
	URL             string                  `json:"url,omitempty"`
}

// TestsRequest counts tests. An absent total is the sum of the others.
type TestsRequest struct {
	Total   *int64 `json:"total,omitempty"`
	Passed  int64  `json:"passed,omitempty"`
	Failed  int64  `json:"failed,omitempty"`
	Skipped int64  `json:"skipped,omitempty"`
}

// VulnerabilitiesRequest counts findings by severity.
type VulnerabilitiesRequest struct {
	Critical int64 `json:"critical,omitempty"`
	High     int64 `json:"high,omitempty"`
	Medium   int64 `json:"medium,omitempty"`
	Low      int64 `json:"low,omitempty"`
}

// DeploymentRequest is the body of POST …/deployments.
type DeploymentRequest struct {
	Environment string             `json:"environment"`
	Version     string             `json:"version"`
	Status      string             `json:"status"`
	Pipeline    stdjson.RawMessage `json:"pipeline,omitempty"`
	URL         string             `json:"url,omitempty"`
}

// checker collects what is wrong with a body.
type checker struct{ errs []FieldError }

func (c *checker) add(field, format string, args ...any) {
	if len(c.errs) < maxFieldErrors {
		c.errs = append(c.errs, FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
}

// decodeResult returns the CIResult's spec without what the server adds (received, source, reportHash), or what is wrong.
// The commit may be short.
func decodeResult(body []byte) (v1alpha1.CIResultSpec, []FieldError) {
	var in ResultRequest
	if errs := decodeStrict(body, &in); errs != nil {
		return v1alpha1.CIResultSpec{}, errs
	}
	c := &checker{}
	spec := v1alpha1.CIResultSpec{
		Type:     c.resultType(in.Type),
		Status:   c.oneOf("status", in.Status, v1alpha1.StatusPassed, v1alpha1.StatusFailed, v1alpha1.StatusSkipped),
		Commit:   c.commit("commit", in.Commit),
		Branch:   c.branch(in.Branch),
		Pipeline: c.id("pipeline", in.Pipeline),
		Job:      c.job(in.Job),
		Run:      c.id("run", in.Run),
		Coverage: c.percent("coverage", in.Coverage),
		Score:    c.percent("score", in.Score),
		Tests:    c.tests(in.Tests),
		Digest:   in.Digest,
		URL:      c.url(in.URL),
	}
	if in.CoverageBase != nil {
		base := c.count("coverageBase", *in.CoverageBase)
		spec.CoverageBase = &base
	}
	if v := in.Vulnerabilities; v != nil {
		spec.Vulnerabilities = &v1alpha1.VulnerabilityCounts{
			Critical: c.count("vulnerabilities.critical", v.Critical),
			High:     c.count("vulnerabilities.high", v.High),
			Medium:   c.count("vulnerabilities.medium", v.Medium),
			Low:      c.count("vulnerabilities.low", v.Low),
		}
	}
	if in.Digest != "" && !digestPattern.MatchString(in.Digest) {
		c.add("digest", "must be sha256: and 64 lower-case hex digits")
	}
	return spec, c.errs
}

// decodeDeployment returns the CIResult's spec without commit and what the server adds, and the version that was deployed.
func decodeDeployment(body []byte) (spec v1alpha1.CIResultSpec, version string, errs []FieldError) {
	var in DeploymentRequest
	if errs := decodeStrict(body, &in); errs != nil {
		return v1alpha1.CIResultSpec{}, "", errs
	}
	c := &checker{}
	spec = v1alpha1.CIResultSpec{
		Type:        v1alpha1.TypeDeployment,
		Status:      c.oneOf("status", in.Status, v1alpha1.StatusDeployed, v1alpha1.StatusFailed, v1alpha1.StatusRolledBack),
		Environment: in.Environment,
		Pipeline:    c.id("pipeline", in.Pipeline),
		URL:         c.url(in.URL),
	}
	switch {
	case in.Environment == "":
		c.add("environment", "is required")
	case len(in.Environment) > maxEnvironment || !environmentPattern.MatchString(in.Environment):
		c.add("environment", "must be at most %d characters of a-z, 0-9 and '-'", maxEnvironment)
	}
	switch {
	case in.Version == "":
		c.add("version", "is required: a short commit, an image tag or a semantic version")
	case len(in.Version) > maxVersion || !versionPattern.MatchString(in.Version):
		c.add("version", "must be at most %d letters, digits, '.', '_', '+' and '-', and not start with '-' or '.'", maxVersion)
	}
	return spec, in.Version, c.errs
}

// decodeStrict decodes exactly one JSON object whose members are all known, spelled exactly so, and given once.
func decodeStrict(body []byte, into any) []FieldError {
	if !utf8.Valid(body) {
		return []FieldError{{Detail: "the body is not valid UTF-8"}}
	}
	strict, err := json.UnmarshalStrict(body, into)
	if err == nil && len(strict) == 0 {
		return nil
	}
	var wrongType *stdjson.UnmarshalTypeError
	switch isSyntax, offset := json.SyntaxErrorOffset(err); {
	case isSyntax:
		return []FieldError{{Detail: fmt.Sprintf("the body is not JSON: %v at byte %d", err, offset)}}
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return []FieldError{{Detail: "the body must be a JSON object"}}
	case errors.As(err, &wrongType):
		return []FieldError{{wrongType.Field, "must be " + typeName(wrongType) + ", not " + clip(wrongType.Value)}}
	case err != nil:
		return []FieldError{{Detail: "the body cannot be decoded"}}
	}
	c := &checker{}
	for _, err := range strict {
		var at json.FieldError
		switch {
		case !errors.As(err, &at):
			c.add("", "the body cannot be decoded")
		case strings.HasPrefix(err.Error(), "duplicate"):
			c.add(clip(at.FieldPath()), "is given twice")
		default:
			c.add(clip(at.FieldPath()), "is not a known field")
		}
	}
	return c.errs
}

// typeName is the JSON type that a field should have had.
func typeName(err *stdjson.UnmarshalTypeError) string {
	switch err.Type.Kind().String() {
	case "string":
		return "a string"
	case "float64":
		return "a number"
	case "int64":
		return "a whole number"
	default:
		return "an object"
	}
}

func (c *checker) resultType(s string) string {
	switch {
	case s == "":
		c.add("type", "is required: tests, coverage, scan, quality, sbom or a name that a gate declares")
	case len(s) > maxType || !typePattern.MatchString(s):
		c.add("type", "must be at most %d characters of a-z, 0-9 and '-', and start with a letter", maxType)
	case s == v1alpha1.TypeDeployment:
		c.add("type", "deployment is reserved: report it to …/deployments")
	}
	return s
}

func (c *checker) oneOf(field, s string, allowed ...string) string {
	switch list := strings.Join(allowed[:len(allowed)-1], ", ") + " or " + allowed[len(allowed)-1]; {
	case s == "":
		c.add(field, "is required: %s", list)
	case !slices.Contains(allowed, s):
		c.add(field, "must be %s, not %q", list, clip(s))
	}
	return s
}

func (c *checker) commit(field, s string) string {
	s, problem := checkCommit(s)
	if problem != "" {
		c.add(field, "%s", problem)
	}
	return s
}

// checkCommit returns the commit in lower case, and what is wrong with it.
func checkCommit(s string) (commit, problem string) {
	commit = strings.ToLower(s)
	switch {
	case s == "":
		return "", "is required"
	case !commitPattern.MatchString(commit):
		return "", "must be 7 to 64 hex digits"
	}
	return commit, ""
}

// isFull tells a full commit (SHA-1 or SHA-256) from an abbreviation.
func isFull(commit string) bool { return len(commit) == sha1Digits || len(commit) == sha256Digits }

func (c *checker) branch(s string) string {
	switch at := strings.IndexFunc(s, func(r rune) bool { return unsafeText(r) || strings.ContainsRune(branchRefused, r) }); {
	case len(s) > maxBranch:
		c.add("branch", "must be at most %d bytes", maxBranch)
	case at >= 0:
		c.add("branch", "the character %q is not allowed: leave the branch out, or give it another name", []rune(s[at:])[0])
	case strings.HasPrefix(s, "-"):
		c.add("branch", "must not start with '-'")
	}
	return s
}

// unsafeText tells control and format characters (line breaks, terminal escapes, marks that turn the direction of text) and
// what stands for undecodable text.
func unsafeText(r rune) bool {
	return !unicode.IsGraphic(r) || r == utf8.RuneError
}

// id accepts a string or a whole number, since $CI_PIPELINE_ID is easily left unquoted.
func (c *checker) id(field string, raw stdjson.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var s string
	if raw[0] == '"' {
		if err := stdjson.Unmarshal(raw, &s); err != nil {
			c.add(field, "must be a string or a whole number")
			return ""
		}
	} else {
		if strings.Trim(string(raw), "0123456789") != "" {
			c.add(field, "must be a string or a whole number")
			return ""
		}
		s = string(raw)
	}
	return c.idText(field, s)
}

// idText accepts the id of a pipeline or a run.
func (c *checker) idText(field, s string) string {
	if s != "" && (len(s) > maxPipeline || !pipelinePattern.MatchString(s)) {
		c.add(field, "must be at most %d letters, digits, '.', '_', ':', '/', '#' and '-', and start with a letter or digit", maxPipeline)
		return ""
	}
	return s
}

func (c *checker) percent(field string, f *float64) *float64 {
	if f == nil {
		return nil
	}
	if math.IsNaN(*f) || *f < 0 || *f > 100 {
		c.add(field, "must be from 0 to 100")
		return nil
	}
	v := *f + 0 // −0 becomes 0: one value, one CIResult
	return &v
}

// job takes any text that people may call a job.
func (c *checker) job(s string) string {
	if len(s) > maxBranch || strings.ContainsFunc(s, unsafeText) {
		c.add("job", "must be at most %d bytes without control characters", maxBranch)
		return ""
	}
	return s
}

func (c *checker) count(field string, n int64) int32 {
	if n < 0 || n > maxCount {
		c.add(field, "must be from 0 to %d", maxCount)
		return 0
	}
	return int32(n)
}

func (c *checker) tests(in *TestsRequest) *v1alpha1.TestCounts {
	if in == nil {
		return nil
	}
	before := len(c.errs)
	out := &v1alpha1.TestCounts{
		Passed:  c.count("tests.passed", in.Passed),
		Failed:  c.count("tests.failed", in.Failed),
		Skipped: c.count("tests.skipped", in.Skipped),
	}
	sum := in.Passed + in.Failed + in.Skipped
	if len(c.errs) > before { // the sum means nothing
		return out
	}
	if in.Total == nil {
		in.Total = &sum
	}
	out.Total = c.count("tests.total", *in.Total)
	if sum > *in.Total {
		c.add("tests.total", "is less than passed + failed + skipped (%d)", sum)
	}
	return out
}

func (c *checker) url(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case len(s) > maxURL:
		c.add("url", "must be at most %d bytes", maxURL)
	case err != nil || strings.ContainsFunc(s, func(r rune) bool { return unsafeText(r) || unicode.IsSpace(r) }):
		c.add("url", "is not a URL")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		c.add("url", "must be an http or https URL with a host")
	case u.User != nil:
		c.add("url", "must not carry a user name or password: everybody who reads the result would see it")
	}
	return s
}

// clip shortens the sender's text for an answer.
func clip(s string) string {
	if runes := []rune(s); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return s
}
