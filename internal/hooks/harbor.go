// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"math"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Types of Harbor's events that are read, as the default format names them; any other is named and no more.
const (
	HarborPush        = "PUSH_ARTIFACT"
	HarborScanned     = "SCANNING_COMPLETED"
	HarborScanFailed  = "SCANNING_FAILED"
	HarborScanStopped = "SCANNING_STOPPED"
	HarborReplication = "REPLICATION"
	HarborQuotaExceed = "QUOTA_EXCEED"
	HarborQuotaWarn   = "QUOTA_WARNING"
)

// cloudTypes are the types of the CloudEvents format by the default format's names.
var cloudTypes = map[string]string{
	"harbor.artifact.pushed": HarborPush, "harbor.scan.completed": HarborScanned, "harbor.scan.failed": HarborScanFailed,
	"harbor.scan.stopped": HarborScanStopped, "harbor.replication.status.changed": HarborReplication,
	"harbor.quota.exceeded": HarborQuotaExceed, "harbor.quota.warned": HarborQuotaWarn,
}

// Harbor is what an event of Harbor's says, in either format.
type Harbor struct {
	// Type, as the default format names it.
	Type string `json:"type"`
	// At is when it happened, to the second.
	At time.Time `json:"at,omitzero"`
	// Repository within Harbor: project and name. Example: supergest/backend.
	Repository string `json:"repository,omitempty"`
	// ScanType is what was scanned for, as Harbor 2.11 and newer name it: sbom for the making of a bill of materials. Empty for
	// vulnerabilities.
	ScanType string `json:"scanType,omitempty"`
	// Artifacts that it is about.
	Artifacts []HarborArtifact `json:"artifacts,omitempty"`
}

// HarborArtifact is one image, as far as an event speaks of it.
type HarborArtifact struct {
	Digest string `json:"digest,omitempty"`
	// Tag under which it was pushed or scanned, if it had one.
	Tag string `json:"tag,omitempty"`
	// Reference is its address without scheme, tag and digest. Example: hub.dynors.com/supergest/backend.
	Reference string `json:"reference,omitempty"`
	// Scan is nil for an event about something else.
	Scan *HarborScan `json:"scan,omitempty"`
}

// HarborScan is what a scan found.
type HarborScan struct {
	// Status is StatusPassed for a scan that was made to its end, whatever it found: gates bound that. Empty for a scan of which the
	// event does not say how it ended: that is no result.
	Status string `json:"status"`
	// Reason says in words why it was not.
	Reason string `json:"reason,omitempty"`
	// Findings are nil unless the scan was made.
	Findings *v1alpha1.VulnerabilityCounts `json:"findings,omitempty"`
	// Scanner with its version, as it calls itself.
	Scanner string `json:"scanner,omitempty"`
}

type harborBody struct {
	// Of CloudEvents.
	SpecVersion string     `json:"specversion"`
	Time        string     `json:"time"`
	Data        harborData `json:"data"`
	// Of the default format.
	OccurAt   int64      `json:"occur_at"`
	EventData harborData `json:"event_data"`
	// Of both.
	Type string `json:"type"`
}

type harborData struct {
	Resources []struct {
		Digest       string                    `json:"digest"`
		Tag          string                    `json:"tag"`
		ResourceURL  string                    `json:"resource_url"`
		ScanOverview map[string]harborOverview `json:"scan_overview"`
	} `json:"resources"`
	Repository struct {
		FullName string `json:"repo_full_name"`
	} `json:"repository"`
	Scan struct {
		Type string `json:"scan_type"`
	} `json:"scan"`
}

// scanForVulnerabilities is the type of scans that this is about, and of those of Harbor before 2.11, which made no others.
const scanForVulnerabilities = "vulnerability"

// harborOverview is the summary of one scanner's report, by the media type of the report.
type harborOverview struct {
	ScanStatus string `json:"scan_status"`
	Summary    *struct {
		Total   int64            `json:"total"`
		Summary map[string]int64 `json:"summary"`
	} `json:"summary"`
	Scanner struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"scanner"`
	CompletePercent *int64 `json:"complete_percent"` // less than 100 for an index of which a part was scanned
}

// ReadHarbor reads the body of an event. The error is an *Error.
func ReadHarbor(body []byte) (Harbor, error) {
	if err := check(body); err != nil {
		return Harbor{}, err
	}
	var head struct {
		SpecVersion string `json:"specversion"`
		Type        string `json:"type"`
	}
	if err := decode(body, &head); err != nil {
		return Harbor{}, err
	}
	known := head.Type
	if head.SpecVersion != "" {
		known = cloudTypes[head.Type]
	}
	switch known {
	case HarborPush, HarborScanned, HarborScanFailed, HarborScanStopped, HarborReplication, HarborQuotaExceed, HarborQuotaWarn:
		return readHarbor(body, known)
	}
	if head.Type == "" {
		return Harbor{}, refuse("type", "is required: this is no event of Harbor's")
	}
	return Harbor{Type: clip(printable(head.Type), 40)}, nil
}

func readHarbor(body []byte, typ string) (Harbor, error) {
	var in harborBody
	if err := decode(body, &in); err != nil {
		return Harbor{}, err
	}
	e, data := Harbor{Type: typ}, in.EventData
	if in.SpecVersion != "" {
		at, err := time.Parse(time.RFC3339, in.Time)
		if err != nil {
			return Harbor{}, refuse("time", "must be a time as RFC 3339 writes it")
		}
		e.At, data = at.UTC().Truncate(time.Second), in.Data
	} else {
		if err := positive("occur_at", in.OccurAt); err != nil {
			return Harbor{}, err
		}
		e.At = time.Unix(in.OccurAt, 0).UTC()
	}
	if len(data.Resources) > maxKept {
		return Harbor{}, refuse("resources", "are more than %d", maxKept)
	}
	e.Repository = shown(data.Repository.FullName)
	if kind := data.Scan.Type; kind != scanForVulnerabilities {
		e.ScanType = clip(printable(kind), 40)
	}
	for _, r := range data.Resources {
		a := HarborArtifact{Digest: r.Digest, Tag: shown(r.Tag), Reference: reference(r.ResourceURL)}
		if r.Digest != "" && !digestPattern.MatchString(r.Digest) {
			return Harbor{}, refuse("digest", "must be sha256: and 64 lower-case hex digits")
		}
		if strings.HasPrefix(a.Tag, "sha256:") { // what has no tag has its digest there
			a.Tag = ""
		}
		if e.scans() {
			if a.Digest == "" {
				return Harbor{}, refuse("digest", "is required: a scan is of one image")
			}
			scan, err := readScan(typ, r.ScanOverview)
			if err != nil {
				return Harbor{}, err
			}
			a.Scan = scan
		}
		e.Artifacts = append(e.Artifacts, a)
	}
	return e, nil
}

// scans tells whether the event is about a scan for vulnerabilities.
func (e Harbor) scans() bool {
	return e.ScanType == "" && (e.Type == HarborScanned || e.Type == HarborScanFailed || e.Type == HarborScanStopped)
}

// reference is a resource's address without scheme, tag and digest.
func reference(s string) string {
	s = shown(s)
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	s, _, _ = strings.Cut(s, "@")
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, '/') {
		s = s[:colon]
	}
	return s
}

const saysNothing = "the event says nothing of what was found"

// readScan makes one scan of what each scanner says. All must have come to their end, and of each severity the most that any
// of them found counts.
//
// Harbor sends events of scans that have ended without what was found, or with what was there before the report: of scheduled scans
// (goharbor/harbor#22212), and where the report is late (goharbor/harbor#14585). They say neither that the image is good nor that it is
// bad.
func readScan(typ string, overview map[string]harborOverview) (*HarborScan, error) {
	switch {
	case typ == HarborScanFailed:
		return &HarborScan{Status: v1alpha1.StatusFailed, Reason: "the scanner failed"}, nil
	case typ == HarborScanStopped:
		return &HarborScan{Status: v1alpha1.StatusSkipped, Reason: "the scan was stopped"}, nil
	case len(overview) == 0:
		return &HarborScan{Reason: saysNothing}, nil
	case len(overview) > maxKept:
		return nil, refuse("scan_overview", "has more than %d reports", maxKept)
	}
	scan, open := &HarborScan{Status: v1alpha1.StatusPassed, Findings: &v1alpha1.VulnerabilityCounts{}}, false
	for _, o := range overview {
		switch {
		case o.ScanStatus == "Pending", o.ScanStatus == "Scheduled", o.ScanStatus == "Running":
			open = true
			continue
		case o.ScanStatus != "Success":
			return &HarborScan{Status: v1alpha1.StatusFailed, Reason: "a report is not that of a successful scan"}, nil
		case o.Summary == nil:
			return &HarborScan{Status: v1alpha1.StatusFailed, Reason: "a report has no summary"}, nil
		case o.CompletePercent != nil && *o.CompletePercent < 100:
			return &HarborScan{Status: v1alpha1.StatusFailed, Reason: "only a part of the image was scanned"}, nil
		}
		counts, err := countFindings(o.Summary.Total, o.Summary.Summary)
		if err != nil {
			return nil, err
		}
		f := scan.Findings
		f.Critical, f.High, f.Medium, f.Low = max(f.Critical, counts.Critical), max(f.High, counts.High), max(f.Medium, counts.Medium), max(f.Low, counts.Low)
		// Of several the last by name, so that the order of a map does not matter.
		if name := strings.TrimSpace(o.Scanner.Name + " " + o.Scanner.Version); name > scan.Scanner {
			scan.Scanner = clip(printable(name), 128)
		}
	}
	if open {
		return &HarborScan{Reason: saysNothing}, nil
	}
	return scan, nil
}

// countFindings counts by severity. What has a severity of no name here, or none, counts as medium, as it does in the reports
// of scanners; what the scanner says is no finding (None) does not count.
func countFindings(total int64, by map[string]int64) (v1alpha1.VulnerabilityCounts, error) {
	var critical, high, medium, low, none int64
	for name, n := range by {
		if n < 0 || n > math.MaxInt32 {
			return v1alpha1.VulnerabilityCounts{}, refuse("scan_overview", "counts are from 0 to %d", math.MaxInt32)
		}
		switch strings.ToLower(name) {
		case "critical":
			critical += n
		case "high":
			high += n
		case "low", "negligible":
			low += n
		case "none":
			none += n
		default:
			medium += n
		}
	}
	if rest := total - critical - high - medium - low - none; rest > 0 {
		medium += rest
	}
	for _, n := range []int64{critical, high, medium, low} {
		if n > maxFindings {
			return v1alpha1.VulnerabilityCounts{}, refuse("scan_overview", "counts are from 0 to %d", maxFindings)
		}
	}
	return v1alpha1.VulnerabilityCounts{Critical: int32(critical), High: int32(high), Medium: int32(medium), Low: int32(low)}, nil
}

// maxFindings is the greatest count that a report may have, as everywhere in the product.
const maxFindings = 100_000_000
