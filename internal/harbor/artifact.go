// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// acceptVulnerabilities are the forms of reports that are read, newest first: what Harbor's Trivy writes, and what scanners
// before Harbor 2.2 wrote.
var acceptVulnerabilities = []string{
	"application/vnd.security.vulnerability.report; version=1.1",
	"application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0",
}

const (
	// maxReport bounds the report on one image, in bytes. Images with thousands of findings have some megabytes.
	maxReport = 16 << 20
	// maxPlatforms bounds the images of an index.
	maxPlatforms = 32
	// maxCount bounds a count of findings: that of a CIResult.
	maxCount = math.MaxInt32
)

// Repository is where an image is in Harbor: "harbor.example/shop/team/api" is the repository team/api of the project shop.
type Repository struct{ Project, Name string }

// RepositoryOf splits a repository as images name it. ok is false for one that has no project in Harbor.
func RepositoryOf(ref string) (host string, r Repository, ok bool) {
	host, path, found := strings.Cut(ref, "/")
	project, name, two := strings.Cut(path, "/")
	if !found || !two || project == "" || name == "" {
		return "", Repository{}, false
	}
	return host, Repository{project, name}, true
}

func (r Repository) String() string { return r.Project + "/" + r.Name }

func (r Repository) artifact(digest string) string {
	return "/projects/" + segment(r.Project) + "/repositories/" + repositorySegment(r.Name) + "/artifacts/" + segment(digest)
}

// State of the scan of an image.
type State string

// States, from best to worst: that of an index is the worst of its images.
const (
	// Scanned: there is a complete report.
	Scanned State = "Scanned"
	// Scanning: the scan waits for its turn or runs.
	Scanning State = "Scanning"
	// Unscanned: nobody has asked for a scan.
	Unscanned State = "Unscanned"
	// Stopped: somebody stopped the scan.
	Stopped State = "Stopped"
	// Failed: the scan ended without a report.
	Failed State = "Failed"
)

var states = []State{Scanned, Scanning, Unscanned, Stopped, Failed}

// stateOf maps Harbor's scan_status (read: goharbor/harbor src/jobservice/job). What nobody knows is a failure.
func stateOf(status string) State {
	switch status {
	case "Success":
		return Scanned
	case "Pending", "Queued", "Scheduled", "Running":
		return Scanning
	case "":
		return Unscanned
	case "Stopped":
		return Stopped
	}
	return Failed
}

// Counts of findings by severity. Harbor's Negligible counts as low and its Unknown as medium, as reports of other tools do;
// None is no finding.
type Counts struct{ Critical, High, Medium, Low int64 }

// Worst is the greater of each.
func (c Counts) Worst(o Counts) Counts {
	return Counts{max(c.Critical, o.Critical), max(c.High, o.High), max(c.Medium, o.Medium), max(c.Low, o.Low)}
}

func (c *Counts) add(severity string, n int64) error {
	if n < 0 || n > maxCount {
		return fmt.Errorf("it counts %d findings", n)
	}
	switch severity {
	case "Critical":
		c.Critical += n
	case "High":
		c.High += n
	case "Medium", "Unknown":
		c.Medium += n
	case "Low", "Negligible":
		c.Low += n
	case "None":
	default:
		return fmt.Errorf("it has the severity %.20q, which Harbor does not know", severity)
	}
	for _, sum := range []int64{c.Critical, c.High, c.Medium, c.Low} {
		if sum > maxCount {
			return errors.New("it counts more findings than there can be")
		}
	}
	return nil
}

// Overview is what Harbor says of the scan of one image, or of all images of an index.
type Overview struct {
	Digest string
	State  State
	// Run orders the scans of an image: the milliseconds of the moment at which the last of them ended. Only when scanned.
	Run int64
	// Started is when the first of the scans that are under way began; zero when none has, or Harbor does not say.
	Started time.Time
	// Scanner that ended last, with its version. Example: Trivy v0.58.1.
	Scanner string
	// Partial names the state of each image of an index that is not scanned, by platform. Example: linux/arm64 is Failed.
	Partial []string
	// images are those that were scanned, one unless it is an index.
	images []imageOverview
	index  bool
}

type imageOverview struct {
	digest string
	report string // the form of its report
	counts Counts
}

// artifactAnswer is what is read of the schema Artifact.
type artifactAnswer struct {
	Digest     string
	References []struct {
		ChildDigest string `json:"child_digest"`
		Platform    struct{ Architecture, OS, Variant string }
	}
	ScanOverview map[string]summaryAnswer `json:"scan_overview"`
}

// summaryAnswer is what is read of the schema NativeReportSummary.
type summaryAnswer struct {
	ScanStatus string    `json:"scan_status"`
	StartTime  time.Time `json:"start_time"`
	EndTime    time.Time `json:"end_time"`
	Summary    *struct {
		Total   int64
		Summary map[string]int64
	}
	Scanner struct{ Name, Version string }
}

// Overview asks how far the scan of an image is. Of an index each image is asked for: Harbor scans those, and the index is
// scanned when all of them are. Its attestations, which BuildKit puts beside the images for the platform unknown/unknown and
// which no engine runs, are no images.
func (c *Client) Overview(ctx context.Context, r Repository, digest string) (Overview, error) {
	a, err := c.artifact(ctx, r, digest)
	if err != nil {
		return Overview{}, err
	}
	if len(a.References) == 0 {
		return imageOf(a, digest).problem(r)
	}
	if len(a.References) > maxPlatforms {
		return Overview{}, unreadable(r, digest, "the index has more than %d images", maxPlatforms)
	}
	index := Overview{Digest: digest, State: Scanned, index: true}
	for _, ref := range a.References {
		if ref.Platform.OS == "unknown" && ref.Platform.Architecture == "unknown" {
			continue
		}
		child, err := c.artifact(ctx, r, ref.ChildDigest)
		if err != nil {
			return Overview{}, err
		}
		if len(child.References) > 0 {
			return Overview{}, unreadable(r, digest, "the index holds another index")
		}
		o, err := imageOf(child, ref.ChildDigest).problem(r)
		if err != nil {
			return Overview{}, err
		}
		platform := strings.Trim(ref.Platform.OS+"/"+ref.Platform.Architecture+"/"+ref.Platform.Variant, "/")
		index.take(o, platform)
	}
	if len(index.images) == 0 && len(index.Partial) == 0 {
		return Overview{}, unreadable(r, digest, "the index holds no image")
	}
	return index, nil
}

// take adds the overview of one image of an index.
func (o *Overview) take(image Overview, platform string) {
	if slices.Index(states, image.State) > slices.Index(states, o.State) {
		o.State = image.State
	}
	if !image.Started.IsZero() && (o.Started.IsZero() || image.Started.Before(o.Started)) {
		o.Started = image.Started
	}
	if image.State != Scanned {
		o.Partial = append(o.Partial, platform+" is "+string(image.State))
		return
	}
	if image.Run > o.Run {
		o.Run, o.Scanner = image.Run, image.Scanner
	}
	o.images = append(o.images, image.images...)
}

func (c *Client) artifact(ctx context.Context, r Repository, digest string) (artifactAnswer, error) {
	var a artifactAnswer
	if !digestPattern.MatchString(digest) {
		return a, unreadable(r, digest, "it names no digest")
	}
	_, err := c.do(ctx, call{
		doing: "look up the scan of " + r.String() + "@" + digest, method: http.MethodGet, path: r.artifact(digest),
		query:  url.Values{"with_scan_overview": {"true"}, "with_tag": {"false"}},
		header: map[string]string{"X-Accept-Vulnerabilities": strings.Join(acceptVulnerabilities, ", ")}, out: &a,
	})
	if err != nil {
		return a, err
	}
	if a.Digest != digest {
		return a, unreadable(r, digest, "Harbor's answer is about another image, %.80q", a.Digest)
	}
	return a, nil
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// imageReading is an Overview of one image, or why there is none.
type imageReading struct {
	Overview
	err error
}

func (i imageReading) problem(r Repository) (Overview, error) {
	if i.err != nil {
		return Overview{}, unreadable(r, i.Digest, "%s", i.err)
	}
	return i.Overview, nil
}

func imageOf(a artifactAnswer, digest string) imageReading {
	out := imageReading{Overview: Overview{Digest: digest, State: Unscanned}}
	for _, form := range acceptVulnerabilities {
		s, ok := a.ScanOverview[form]
		if !ok {
			continue
		}
		out.State = stateOf(s.ScanStatus)
		if out.State == Scanning && s.StartTime.Unix() > 0 {
			out.Started = s.StartTime
		}
		if out.State != Scanned {
			return out
		}
		if s.Summary == nil || s.EndTime.IsZero() || s.EndTime.UnixMilli() <= 0 {
			out.err = errors.New("Harbor says that the scan succeeded, and neither when nor what it found")
			return out
		}
		image := imageOverview{digest: digest, report: form}
		for severity, n := range s.Summary.Summary {
			if err := image.counts.add(severity, n); err != nil {
				out.err = err
				return out
			}
		}
		out.Run, out.Scanner, out.images = s.EndTime.UnixMilli(), strings.TrimSpace(s.Scanner.Name+" "+s.Scanner.Version), []imageOverview{image}
		return out
	}
	return out
}

// Scan asks Harbor to scan an image, or all images of an index. That it is being scanned already is no error.
func (c *Client) Scan(ctx context.Context, r Repository, digest string) error {
	_, err := c.do(ctx, call{doing: "ask for a scan of " + r.String() + "@" + digest, method: http.MethodPost, path: r.artifact(digest) + "/scan"})
	if IsKind(err, KindConflict) {
		return nil
	}
	return err
}

// Report is what was found in an image.
type Report struct {
	// Counts are, of each severity, the greater of what the report lists and of what Harbor's overview counts; of an index, that
	// of its worst image: the same finding in the images of several platforms is one.
	Counts Counts
	// Raw is what Harbor answered, JSON: the report; of an index, an object with the report on each image under its digest.
	Raw []byte
}

// Hash names the raw report: "sha256:…".
func (r Report) Hash() string { return fmt.Sprintf("sha256:%x", sha256.Sum256(r.Raw)) }

// Report reads the report on an image that is scanned.
func (c *Client) Report(ctx context.Context, r Repository, o Overview) (Report, error) {
	if o.State != Scanned || len(o.images) == 0 {
		return Report{}, unreadable(r, o.Digest, "it is not scanned")
	}
	var out Report
	raws := map[string]json.RawMessage{}
	size := 0
	for _, image := range o.images {
		raw, counts, err := c.report(ctx, r, image)
		if err != nil {
			return Report{}, err
		}
		if size += len(raw); size > maxReport {
			return Report{}, unreadable(r, o.Digest, "the reports are larger than %d MiB together", maxReport>>20)
		}
		out.Raw, raws[image.digest] = raw, raw
		out.Counts = out.Counts.Worst(counts).Worst(image.counts)
	}
	if o.index {
		text, err := json.Marshal(raws)
		if err != nil {
			return Report{}, fmt.Errorf("put the reports together: %w", err)
		}
		out.Raw = text
	}
	return out, nil
}

// report reads the addition "vulnerabilities" of one image.
func (c *Client) report(ctx context.Context, r Repository, image imageOverview) ([]byte, Counts, error) {
	var raw []byte
	_, err := c.do(ctx, call{
		doing: "read the scan of " + r.String() + "@" + image.digest, method: http.MethodGet, path: r.artifact(image.digest) + "/additions/vulnerabilities",
		header: map[string]string{"X-Accept-Vulnerabilities": image.report}, out: &raw, limit: maxReport,
	})
	if err != nil {
		return nil, Counts{}, err
	}
	counts, err := countReport(raw, image.report, image.digest)
	if err != nil {
		return nil, Counts{}, unreadable(r, image.digest, "%s", err)
	}
	return raw, counts, nil
}

// countReport counts what a report lists, and checks that it is the report on the image.
func countReport(raw []byte, form, digest string) (Counts, error) {
	var reports map[string]*struct {
		Vulnerabilities []struct {
			Severity        string
			ArtifactDigests []string `json:"artifact_digests"`
		}
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&reports); err != nil {
		return Counts{}, errors.New("the report has another form than Harbor's")
	}
	report := reports[form]
	if report == nil {
		return Counts{}, errors.New("Harbor's answer has no report")
	}
	var counts Counts
	for _, v := range report.Vulnerabilities {
		if len(v.ArtifactDigests) > 0 && !slices.Contains(v.ArtifactDigests, digest) {
			return Counts{}, errors.New("the report is about another image")
		}
		if err := counts.add(cmp.Or(v.Severity, "Unknown"), 1); err != nil {
			return Counts{}, err
		}
	}
	return counts, nil
}

func unreadable(r Repository, digest, format string, args ...any) error {
	return &Problem{Kind: KindUnreadable, Doing: "read the scan of " + r.String() + "@" + digest, Text: fmt.Sprintf(format, args...)}
}
