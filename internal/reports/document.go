// SPDX-License-Identifier: Apache-2.0

package reports

// document is a JSON object whose format is told by its members, which may come in any order, so that all of them are read
// before one knows: what is Trivy's, SARIF's, GitLab's and CycloneDX's is collected beside each other.
type document struct {
	j *jsonReader

	version   string // a text: of SARIF, or of GitLab's schema
	bomFormat string
	schema    int64 // Trivy's SchemaVersion
	hasSchema bool
	sarif     sarif
	trivy     trivy
	gitlab    gitlab
	bom       bom
	vulns     vulnerabilities
	hasRuns   bool
	hasScan   bool
}

func readJSONObject(j *jsonReader, o Options) (Report, error) {
	d := &document{j: j}
	if _, err := j.object("the report", d.member); err != nil {
		return Report{Format: d.likely()}, err
	}
	if err := j.end(); err != nil {
		return Report{Format: d.likely()}, err
	}
	switch d.likely() {
	case SARIF:
		return d.finishSARIF()
	case Trivy:
		return d.finishTrivy()
	case GitLab:
		return d.finishGitLab()
	case CycloneDX:
		return d.finishBOM(o)
	}
	return Report{}, refuse("the format of this JSON object is not known: send %s", listOfFormats)
}

// likely is the format as far as the members read so far tell it.
func (d *document) likely() Format {
	switch {
	case d.bomFormat != "":
		return CycloneDX
	case d.hasSchema:
		return Trivy
	case d.hasRuns:
		return SARIF
	case d.hasScan:
		return GitLab
	}
	return ""
}

// member reads a member of the document.
func (d *document) member(name string) (err error) {
	j := d.j
	switch name {
	case "version":
		d.version, err = j.anyText()
	case "bomFormat":
		d.bomFormat, err = j.text(name)
	case "specVersion":
		d.bom.spec, err = j.text(name)
	case "SchemaVersion":
		d.hasSchema = true
		d.schema, err = j.whole(name)
	case "Trivy":
		_, err = j.object(name, d.trivy.program(j))
	case "Metadata":
		_, err = j.object(name, d.trivy.metadata(j))
	case "Results":
		_, err = j.list(name, func() error { return d.trivy.result(j) })
	case "runs":
		d.hasRuns = true
		_, err = j.list(name, func() error { return d.sarif.run(j) })
	case "scan":
		d.hasScan = true
		_, err = j.object(name, d.gitlab.scan(j))
	case "metadata":
		_, err = j.object(name, d.bom.metadata(j))
	case "components":
		_, err = j.list(name, func() error { return d.bom.component(j, nil) })
	case "vulnerabilities":
		d.vulns.present, err = j.list(name, func() error { return d.vulns.read(j) })
	default:
		err = j.skip()
	}
	return err
}

// vulnerabilities are those of GitLab's reports and of CycloneDX's, which have one name: both severities are collected, and
// what the format does not allow is an error once the format is known.
type vulnerabilities struct {
	present bool
	gitlab  findings
	bom     findings
	// Why they would not be GitLab's, or CycloneDX's.
	notGitLab, notBOM error
	images            Report // digests in locations
}

// first keeps the first of several reasons.
func first(old, err error) error {
	if old != nil {
		return old
	}
	return err
}

func (v *vulnerabilities) read(j *jsonReader) error {
	var name string
	var hasSeverity bool
	var r rated
	_, err := j.object("a vulnerability", func(member string) (err error) {
		switch member {
		case "severity":
			hasSeverity = true
			name, err = j.text(member)
		case "location":
			_, err = j.object(member, func(member string) error {
				if member != "image" {
					return j.skip()
				}
				image, err := j.anyText()
				v.images.addDigest(image)
				return err
			})
		case "ratings":
			_, err = j.list(member, func() error { return r.rating(j) })
		case "analysis":
			_, err = j.object(member, func(member string) (err error) {
				if member != "state" {
					return j.skip()
				}
				r.state, err = j.text("analysis.state")
				return err
			})
		default:
			err = j.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !hasSeverity {
		v.notGitLab = first(v.notGitLab, refuse("a vulnerability without severity"))
	} else if s, err := named(gitlabSeverities, name); err != nil {
		v.notGitLab = first(v.notGitLab, err)
	} else {
		v.gitlab.add(s, 1)
	}
	v.notBOM = first(v.notBOM, r.count(&v.bom))
	return nil
}
