// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// gitlab collects a security report of GitLab: SAST, dependency scanning, container scanning, secret detection and the others
// of https://gitlab.com/gitlab-org/security-products/security-report-schemas, versions 15.0.0 to 15.2.x. Every vulnerability
// counts. Only the image of container scanning says what was scanned: location.commit of secret detection is where a secret
// came in.
type gitlab struct {
	kind, status string
	analyzer     [2]string // name, version
	scanner      [2]string
}

const gitlabSchema = "15."

var gitlabSeverities = map[string]severity{
	"Critical": critical, "High": high, "Medium": medium, "Low": low, "Info": none, "Unknown": unknown,
}

func (g *gitlab) scan(j *jsonReader) func(string) error {
	return func(name string) (err error) {
		switch name {
		case "type":
			g.kind, err = j.text("scan.type")
		case "status":
			g.status, err = j.text("scan.status")
		case "analyzer":
			_, err = j.object("scan.analyzer", program(j, &g.analyzer))
		case "scanner":
			_, err = j.object("scan.scanner", program(j, &g.scanner))
		default:
			err = j.skip()
		}
		return err
	}
}

// program reads the name and version of a tool.
func program(j *jsonReader, into *[2]string) func(string) error {
	return func(name string) (err error) {
		switch name {
		case "name":
			into[0], err = j.anyText()
		case "version":
			into[1], err = j.anyText()
		default:
			err = j.skip()
		}
		return err
	}
}

func (d *document) finishGitLab() (Report, error) {
	g := &d.gitlab
	rep := Report{Format: GitLab, Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Digests: d.vulns.images.Digests}
	rep.Producer = produced(g.scanner[0], g.scanner[1])
	if rep.Producer == "" {
		rep.Producer = produced(g.analyzer[0], g.analyzer[1])
	}
	switch {
	case !strings.HasPrefix(d.version, gitlabSchema):
		return rep, refuse("version %q of the schema: send %sx", quoted(d.version), gitlabSchema)
	case g.kind == "":
		return rep, refuse("scan.type is missing")
	case !d.vulns.present:
		return rep, refuse("vulnerabilities are missing: %s", truncated)
	case d.vulns.notGitLab != nil:
		return rep, d.vulns.notGitLab
	}
	switch g.status {
	case "success":
	case "failure":
		rep.Status = v1alpha1.StatusFailed
	default:
		return rep, refuse("scan.status is %q, not success or failure", quoted(g.status))
	}
	err := d.vulns.gitlab.into(&rep)
	return rep, err
}
