// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// trivy collects a JSON report of Trivy (https://trivy.dev/latest/docs/configuration/reporting/#json, SchemaVersion 2; its
// types are in aquasecurity/trivy: pkg/types/report.go). What counts is vulnerabilities, misconfigurations that failed, and
// secrets; licences are for a policy to judge, and results about them alone (Class license, license-file) are no scan. Metadata.RepoDigests are digests of manifests and name the image; ImageID is
// the digest of its configuration, by which no registry knows it.
type trivy struct {
	version  string
	about    Report
	findings findings
	targets  int64 // results but those about licences
	licences int64 // results about licences
}

const trivySchema = 2

var trivySeverities = map[string]severity{
	"UNKNOWN": unknown, "LOW": low, "MEDIUM": medium, "HIGH": high, "CRITICAL": critical,
}

// program reads the member Trivy, which newer versions write.
func (t *trivy) program(j *jsonReader) func(string) error {
	return func(name string) (err error) {
		if name != "Version" {
			return j.skip()
		}
		t.version, err = j.anyText()
		return err
	}
}

func (t *trivy) metadata(j *jsonReader) func(string) error {
	return func(name string) error {
		switch name {
		case "RepoDigests":
			digests, err := j.texts("Metadata.RepoDigests")
			for _, d := range digests {
				t.about.addDigest(d)
			}
			return err
		case "Commit": // of a repository that was scanned
			commit, err := j.anyText()
			t.about.addCommit(commit)
			return err
		}
		return j.skip()
	}
}

func (t *trivy) result(j *jsonReader) error {
	var failures, failed int64
	summary, class := false, ""
	present, err := j.object("a result", func(name string) (err error) {
		switch name {
		case "Class":
			class, err = j.anyText()
		case "Vulnerabilities", "Secrets":
			_, err = j.list(name, func() error {
				_, err := t.finding(j)
				return err
			})
		case "Misconfigurations":
			_, err = j.list(name, func() error {
				status, err := t.finding(j)
				if status == statusFail {
					failed++
				}
				return err
			})
		case "MisconfSummary":
			summary, err = j.object(name, func(name string) (err error) {
				if name != "Failures" {
					return j.skip()
				}
				failures, err = j.whole("MisconfSummary.Failures")
				return err
			})
		default:
			err = j.skip()
		}
		return err
	})
	switch {
	case !present:
	case class == "license", class == "license-file":
		t.licences++
	default:
		t.targets++
	}
	if err == nil && summary && failures != failed {
		err = refuse("contradicts itself: a summary claims %d misconfigurations, there are %d", failures, failed)
	}
	return err
}

// Statuses of a check for misconfigurations. Vulnerabilities have others: whether they are fixed.
const (
	statusFail      = "FAIL"
	statusPass      = "PASS"
	statusException = "EXCEPTION"
)

// finding counts one, unless it is a check that passed, and returns its status.
func (t *trivy) finding(j *jsonReader) (status string, err error) {
	var name, id string
	_, err = j.object("a finding", func(member string) (err error) {
		switch member {
		case "Severity":
			name, err = j.text(member)
		case "Status":
			status, err = j.text(member)
		case "VulnerabilityID", "RuleID":
			id, err = j.text(member)
		default:
			err = j.skip()
		}
		return err
	})
	if err != nil || id == "" && (status == statusPass || status == statusException) {
		return status, err
	}
	s, err := named(trivySeverities, name)
	if err == nil {
		t.findings.add(s, 1)
	}
	return status, err
}

func (d *document) finishTrivy() (Report, error) {
	t := &d.trivy
	rep := t.about
	rep.Format, rep.Type, rep.Status = Trivy, v1alpha1.TypeScan, v1alpha1.StatusPassed
	rep.Producer = produced("Trivy", t.version)
	switch {
	case d.schema != trivySchema:
		return rep, refuse("SchemaVersion is %d, not %d", d.schema, trivySchema)
	case t.targets == 0 && t.licences > 0:
		return rep, refuse("it is about licences alone: have Trivy look for vulnerabilities too (--scanners vuln,license)")
	case t.targets == 0:
		return rep, refuse("nothing was scanned: there are no Results")
	}
	err := t.findings.into(&rep)
	return rep, err
}
