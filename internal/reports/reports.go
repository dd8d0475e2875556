// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Format is what a report is written in.
type Format string

// Formats that Read tells apart.
const (
	JUnit         Format = "junit"
	JaCoCo        Format = "jacoco"
	Cobertura     Format = "cobertura"
	GoCover       Format = "go-coverprofile"
	LCOV          Format = "lcov"
	SARIF         Format = "sarif"
	Trivy         Format = "trivy"
	GitLab        Format = "gitlab-security"
	CodeQuality   Format = "gitlab-codequality"
	CycloneDX     Format = "cyclonedx-json"
	CycloneDXXML  Format = "cyclonedx-xml"
	GradleLock    Format = "gradle-lockfile"
	listOfFormats        = "JUnit, JaCoCo, Cobertura, Go coverprofile, LCOV, SARIF 2.1.0, Trivy JSON, GitLab security reports (schema 15), GitLab code quality, CycloneDX or gradle.lockfile"
)

// Bounds of what is read.
const (
	// MaxSize is the largest report, in bytes, once it is unpacked.
	MaxSize = 1 << 30
	// maxDepth is the deepest nesting of elements, objects and lists. Suites and components nest, but not like this.
	maxDepth = 128
	// maxToken is the longest text of JSON, and maxTag the longest tag of XML with its attributes, in bytes.
	maxToken = 8 << 20
	maxTag   = 1 << 20
	// maxName is the longest name of an XML element, in bytes: those seen are kept.
	maxName = 256
	// maxAttributes is the most attributes of one tag.
	maxAttributes = 128
	// maxNames bounds the names of all members that one place of a JSON document is in, in bytes: they are kept to find
	// those given twice.
	maxNames = 8 << 20
	// maxElements is the most elements or JSON tokens of a report.
	maxElements = 100_000_000
	// maxLine is the longest line of a text format, in bytes.
	maxLine = 64 << 10
	// maxBlocks is the most blocks (Go) or lines (LCOV) of source that are told apart; each takes about 40 bytes.
	maxBlocks = 1 << 20
	// maxCount is the largest count, as the CIResult's schema has it.
	maxCount = 100_000_000
	// maxText is the longest text that is kept of a report, in bytes: a name, a version, a reference.
	maxText = 4 << 10
	// maxProducer is the longest description of a producer, in bytes.
	maxProducer = 128
	// maxReferences is the most commits, and the most digests, that are kept of a report.
	maxReferences = 64
	// maxQuoted is how much of a report's text a refusal may quote, in bytes.
	maxQuoted = 48
	// bufferSize is that of every reader here, in bytes.
	bufferSize = 64 << 10
	// maxRateGap is by how many percentage points the coverage that a report claims may be off the one that its lines have:
	// producers round, and count a line that several functions share differently.
	maxRateGap = 1.0
)

// Report is a summary of one report.
type Report struct {
	Format Format `json:"format"`
	// Producer names what wrote the report, with its version, as far as the report says. Example: Trivy 0.69.1.
	Producer string `json:"producer,omitempty"`
	// Type of result that it is, unless the sender says otherwise: tests, coverage, scan, quality or sbom.
	Type string `json:"type"`
	// passed: what was run, ran to its end, and no test failed; failed; skipped: not one test was run.
	Status string `json:"status"`

	Tests *v1alpha1.TestCounts `json:"tests,omitempty"`
	// Coverage in percent of lines, of statements for a Go coverprofile, rounded down to hundredths.
	Coverage *float64 `json:"coverage,omitempty"`
	// CoverageBase is the number of lines or statements.
	CoverageBase    *int32                        `json:"coverageBase,omitempty"`
	Vulnerabilities *v1alpha1.VulnerabilityCounts `json:"vulnerabilities,omitempty"`
	// Unrated findings have no severity that anybody knows. They are counted as medium.
	Unrated int32 `json:"unrated,omitempty"`
	// Suppressed findings were judged to be none, in the report itself; they are not counted.
	Suppressed int32 `json:"suppressed,omitempty"`
	// Components that a bill of materials or a lock file lists.
	Components int32 `json:"components,omitempty"`
	// Maven are those of them that are Maven's. Nil for a report that lists no components at all.
	Maven *v1alpha1.MavenComponents `json:"maven,omitempty"`

	// Commits that the report says it is about, lower case, full or abbreviated.
	Commits []string `json:"commits,omitempty"`
	// Digests (sha256:…) of the image that the report says it is about: those by which a registry may know it.
	Digests []string `json:"digests,omitempty"`
}

// IsGrave says whether it speaks against the commit, so that it is sent and stored before what does not: it did not pass, or found
// something critical or high.
func (r Report) IsGrave() bool {
	v := r.Vulnerabilities
	return r.Status != v1alpha1.StatusPassed || v != nil && v.Critical+v.High > 0
}

// Error is why a report is refused.
type Error struct {
	// Format as far as it is known.
	Format Format
	// Why, for the sender.
	Why string
	// Foreign says that the content is of none of the formats, so that it may be no report at all. What is empty, or is cut off
	// before its format can be told, is not foreign.
	Foreign bool
}

func (e *Error) Error() string {
	if e.Format == "" {
		return e.Why
	}
	return string(e.Format) + ": " + e.Why
}

// refuse is an Error; Read adds the format.
func refuse(format string, args ...any) error { return &Error{Why: fmt.Sprintf(format, args...)} }

// Texts of refusals that several readers have.
const (
	empty      = "the file is empty"
	truncated  = "the report ends before it is complete"
	twoInOne   = "something follows the end of the report: send one report a file"
	tooMany    = "more than %d elements"
	tooDeep    = "nested deeper than %d"
	badCount   = "%s is %q, not a whole number from 0 to %d"
	notUTF8    = "byte %d: not valid UTF-8"
	controlled = "byte %d: the control character %#02x is not allowed"
)

// Options say how to read.
type Options struct {
	// Type is what the sender calls the report, if it does: an empty list alone does not say what found nothing.
	Type string
}

// Read reads one report to its end. A refusal is an *Error; any other error is one of r.
func Read(r io.Reader, o Options) (Report, error) {
	src := &source{r: r}
	in, text, err := open(src)
	if err != nil {
		return Report{}, src.or(err)
	}
	rep, err := in.dispatch(text, o)
	if err != nil {
		err = src.or(err)
		var refused *Error
		if errors.As(err, &refused) && refused.Format == "" {
			refused.Format = rep.Format
			refused.Foreign = refused.Foreign || rep.Format == "" && refused.Why != truncated && refused.Why != empty
		}
		return Report{}, err
	}
	return rep, nil
}

// dispatch lets the reader of the format read, by how the content begins.
func (in *input) dispatch(head []byte, o Options) (Report, error) {
	switch {
	case len(head) == 0:
		return Report{}, refuse(empty)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Report{}, refuse("the file is compressed, and inside once more")
	case head[0] == '<':
		return readXML(newXMLScanner(in), o)
	case head[0] == '{':
		return readJSONObject(newJSONReader(in), o)
	case head[0] == '[':
		return readCodeQuality(newJSONReader(in), o)
	case bytes.HasPrefix(head, []byte("mode:")):
		return readGoCover(newLines(in))
	case bytes.HasPrefix(head, []byte("TN:")), bytes.HasPrefix(head, []byte("SF:")):
		return readLCOV(newLines(in))
	case bytes.HasPrefix(head, []byte(gradleLockHead)):
		return readGradleLock(newLines(in))
	}
	return Report{}, refuse("the format is not known: send %s", listOfFormats)
}

// readXML lets the reader of the format read, by the root element.
func readXML(s *xmlScanner, o Options) (Report, error) {
	ev, err := s.next()
	if err != nil {
		return Report{}, err
	}
	if ev != startElement { // comments and declarations are passed over, so that this is the end of the file
		return Report{}, refuse(truncated)
	}
	switch root := s.name(); root {
	case "testsuites", "testsuite":
		return readJUnit(s)
	case "report":
		return readJaCoCo(s)
	case "coverage":
		return readCobertura(s)
	case "bom":
		return readCycloneDXXML(s, o)
	default:
		return Report{}, refuse("the root element is <%s>: send %s", quoted(root), listOfFormats)
	}
}

// source counts what is read, bounds it, and remembers an error of the reader below, which the layers above may reword.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.n > MaxSize {
		err = refuse("larger than %d bytes", int64(MaxSize))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// or is the error of the reader below, if there was one, and err otherwise.
func (s *source) or(err error) error {
	if s.err != nil {
		return s.err
	}
	var refused *Error
	if errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Why: truncated}
	}
	return err
}

// quoted is the report's own text as a refusal may quote it: short, and without what a terminal obeys.
func quoted[T string | []byte](text T) string {
	s := string(text[:min(len(text), maxQuoted)])
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(text) > maxQuoted {
		s += "…"
	}
	return s
}

// parseCount reads a count of a report's.
func parseCount(what string, text []byte) (int64, error) {
	text = bytes.TrimSpace(text)
	n := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' || n > maxCount {
			n = -1
			break
		}
		n = n*10 + int64(c-'0')
	}
	if len(text) == 0 || n < 0 || n > maxCount {
		return 0, refuse(badCount, what, quoted(text), maxCount)
	}
	return n, nil
}

// covered sets the coverage of a report; there must be something to cover.
func (r *Report) covered(covered, total int64, unit string) error {
	switch {
	case total == 0:
		return refuse("no %s: coverage of nothing is not coverage", unit)
	case covered > total:
		return refuse("%d %s covered of %d", covered, unit, total)
	case total > maxCount:
		return refuse(tooMany, maxCount)
	}
	percent := math.Floor(float64(covered)/float64(total)*1e4) / 100
	base := int32(total)
	r.Type, r.Status, r.Coverage, r.CoverageBase = v1alpha1.TypeCoverage, v1alpha1.StatusPassed, &percent, &base
	return nil
}

// agree refuses a claim about coverage that is further than rounding from what the content says.
func agree(claimed string, claim, covered, total float64) error {
	if total == 0 {
		return nil
	}
	if actual := covered / total * 100; math.IsNaN(claim) || math.Abs(claim-actual) > maxRateGap {
		return refuse("contradicts itself: %s claims %.2f %%, its content is %.2f %%", claimed, claim, actual)
	}
	return nil
}

// produced describes a producer by its name and version.
func produced(name, version string) string {
	name, version = strings.TrimSpace(name), strings.TrimSpace(version)
	text := name
	if name != "" && version != "" && !strings.HasSuffix(name, " "+version) {
		text += " " + version
	}
	return clean(text)
}

// clean keeps printable text only, and not too much of it.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '�' || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return -1
		}
		return r
	}, text)
	for len(text) > maxProducer {
		text = strings.ToValidUTF8(text[:maxProducer], "")
	}
	return text
}

// lines reads a text format line by line.
type lines struct {
	foreign bool
	r       *bufio.Reader
	n       int
	// last is the line that may be the last one without an end of its own, since it cannot be the beginning of another; "" for none.
	last string
}

func newLines(in *input) *lines { return &lines{r: in.r, foreign: in.foreign} }

// next is the next line without its end, valid until the next call; io.EOF after the last. A last line without an end is
// reported as cut off, unless it is the format's own last line.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	l.n++
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine:
		return nil, refuse("line %d is longer than %d bytes", l.n, maxLine)
	case errors.Is(err, io.EOF) && len(line) > 0 && string(line) == l.last:
		return line, nil
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, refuse("line %d is cut off: %s", l.n, truncated)
	case err != nil:
		return nil, err
	case l.n > maxElements:
		return nil, refuse(tooMany, maxElements)
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
	return line, l.check(line)
}

func (l *lines) refuse(format string, args ...any) error {
	return refuse("line %d: %s", l.n, fmt.Sprintf(format, args...))
}
