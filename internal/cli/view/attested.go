// SPDX-License-Identifier: Apache-2.0

package view

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// findings words what may be wrong with something attached.
var findings = []struct {
	err error
	id  lang.ID
}{
	{attestation.ErrNothing, "verify.nothing"},
	{attestation.ErrAltered, "verify.altered"},
	{attestation.ErrUnknownKey, "verify.unknown-key"},
	{attestation.ErrRevokedKey, "verify.revoked-key"},
	{attestation.ErrSubject, "verify.other-image"},
	{attestation.ErrPVAltered, "verify.pv-altered"},
	{attestation.ErrPVOther, "verify.pv-other-image"},
	{attestation.ErrPVUnsigned, "verify.pv-unsigned"},
	{attestation.ErrPVMissing, "verify.pv-missing"},
	{attestation.ErrPVRefused, "verify.pv-refused"},
	{attestation.ErrNoClient, "verify.no-client"},
	{attestation.ErrProjects, "verify.projects"},
	{attestation.ErrGlass, "verify.emergency"},
	{attestation.ErrGate, "verify.no-verdict"},
	{attestation.ErrIncomplete, "verify.incomplete"},
	{attestation.ErrMalformed, "verify.malformed"},
}

// Attested is the table of what was proven of an image, and what was not.
// demanded are the gates that were asked for; none: any.
func Attested(r attestation.Report, image string, demanded []string, s Screen) string {
	p := s.page()
	ok := r.OK(demanded)
	passed, opened := gateNames(r)
	if len(demanded) > 0 {
		passed = demanded
	}
	if ok {
		p.wrapped(p.line(0), green, s.Lang.T("verify.proven", strings.Join(passed, ", ")))
	} else {
		p.line(0).put(red, s.Lang.T("verify.not-proven"))
	}
	p.line(2).put(plain, image)
	if len(opened) > 0 {
		p.wrapped(p.line(2), yellow, s.Lang.T("verify.opened", strings.Join(opened, ", ")))
	}
	if len(r.Gates) > 0 {
		p.blank()
	}
	text := p.String()
	if len(r.Gates) > 0 {
		var rows [][]string
		for _, g := range r.Gates {
			v := g.Verdict
			rows = append(rows, []string{
				fmt.Sprintf("#%d %s", v.Gate.Number, v.Gate.Name), verdictCell(g, s), v.Gate.Environment, s.at(v.TimeVerified),
				strings.TrimSpace(v.Gate.Project + "/" + v.Gate.Release + " " + v.Gate.Version), approvalsCell(g, s), pvCell(&r, g, s),
			})
		}
		text += Table([]lang.ID{"table.gate", "table.verdict", "table.environment", "table.time", "table.release", "table.approvals", "table.pv"}, rows, s)
	}
	q := s.page()
	q.otherPVs(&r)
	q.findings("verify.missing", r.Missing)
	title := lang.ID("verify.problems")
	if ok {
		title = "verify.beside"
	}
	q.findings(title, r.Problems)
	return text + q.String()
}

// gateNames are the gates that the image passed, and those that were opened for it in an emergency and that it did not pass
// besides.
func gateNames(r attestation.Report) (passed, opened []string) {
	for _, g := range r.Gates {
		if name := g.Verdict.Gate.Name; g.Passed() && !slices.Contains(passed, name) {
			passed = append(passed, name)
		}
	}
	for _, g := range r.Gates {
		if name := g.Verdict.Gate.Name; g.Verdict.Gate.BrokenGlass != nil && !slices.Contains(passed, name) && !slices.Contains(opened, name) {
			opened = append(opened, name)
		}
	}
	return passed, opened
}

func verdictCell(g attestation.GateProof, s Screen) string {
	switch {
	case g.Passed():
		return s.Lang.T("verdict.Passed")
	case g.Verdict.Gate.BrokenGlass != nil:
		return s.Lang.T("verify.emergency")
	}
	return s.Lang.T("verify.failed")
}

func approvalsCell(g attestation.GateProof, s Screen) string {
	if glass := g.Verdict.Gate.BrokenGlass; glass != nil {
		return s.Lang.T("decision.BrokeGlass") + " " + glass.User + " " + s.at(glass.Time) + ": " + glass.Reason
	}
	var out []string
	for _, a := range g.Verdict.Gate.Approvals {
		out = append(out, a.User+" "+s.at(a.Time))
	}
	return strings.Join(out, ", ")
}

func pvCell(r *attestation.Report, g attestation.GateProof, s Screen) string {
	ref := g.Verdict.Gate.PV
	if ref == nil {
		return ""
	}
	p := r.PV(*ref)
	if p == nil {
		return ref.Name + ": " + s.Lang.T("verify.pv-missing")
	}
	return decided(p, s)
}

// decided is what the client decided, in one line.
func decided(p *attestation.PVProof, s Screen) string {
	d := p.Decision
	signed := s.Lang.T(lang.ID("pv.method." + d.Method))
	if p.ClientKey != "" {
		signed = s.Lang.T("verify.client-key")
	}
	return fmt.Sprintf("%s: %s, %s %s (%s)", d.Name, s.Lang.T(lang.ID("pv.decision."+d.Decision)), d.SignedBy, s.at(d.SignedAt), signed)
}

// otherPVs are those on which no gate relied: a refusal is one, since no gate opens on it.
func (p *page) otherPVs(r *attestation.Report) {
	first := true
	for i := range r.PVs {
		proof := &r.PVs[i]
		if slices.ContainsFunc(r.Gates, func(g attestation.GateProof) bool {
			return g.Verdict.Gate.PV != nil && *g.Verdict.Gate.PV == proof.Decision.PVReference
		}) {
			continue
		}
		if first {
			p.heading(p.Lang.T("verify.pvs"))
			first = false
		}
		colour := red
		if proof.Accepted() {
			colour = plain
		}
		p.wrapped(p.line(2), colour, decided(proof, p.Screen))
	}
}

func (p *page) findings(title lang.ID, list []attestation.Problem) {
	if len(list) == 0 {
		return
	}
	p.heading(p.Lang.T(title))
	for _, problem := range list {
		l := p.line(2)
		if problem.Gate != "" {
			l.put(bold, p.Lang.T("verify.gate", problem.Gate)+" ")
		}
		p.wrapped(l, red, finding(problem, p.Screen))
	}
}

// finding is a problem in words, with what there is to tell beside.
func finding(problem attestation.Problem, s Screen) string {
	text := problem.Err.Error()
	for _, f := range findings {
		if errors.Is(problem.Err, f.err) {
			detail := strings.TrimPrefix(strings.TrimPrefix(text, f.err.Error()), ": ")
			if text = s.Lang.T(f.id); detail != "" {
				text += ": " + detail
			}
			break
		}
	}
	if problem.Artifact != "" {
		text += " [" + problem.Artifact[:min(len(problem.Artifact), shortHash)] + "]"
	}
	return text
}
