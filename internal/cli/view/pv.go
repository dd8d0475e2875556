// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// ReadDocument decodes a PV's document.
func ReadDocument(p *v1alpha1.PV) (pv.Document, error) {
	var d pv.Document
	if err := json.Unmarshal([]byte(p.Spec.Document), &d); err != nil {
		return d, fmt.Errorf("read the document of PV %s: %w", p.Name, err)
	}
	return d, nil
}

// PV draws the document that the client accepts, and the decision if there is one.
func PV(object *v1alpha1.PV, d pv.Document, s Screen) string {
	p := s.page()
	title := d.Title
	if title == "" {
		title = s.Lang.T("pv.title")
	}
	p.wrapped(p.line(1), bold, title)
	p.line(1).put(dim, object.Namespace+"/"+object.Name)
	p.blank()
	p.facts([]fact{
		{"pv.project", named(d.ProjectName, d.Project)},
		{"pv.supplier", d.Supplier},
		{"pv.client", d.Client},
		{"pv.release", named(d.Version, d.Release)},
		{"pv.commit", d.Commit},
		{"pv.branch", d.Branch},
		{"pv.environment", d.Environment},
		{"pv.url", d.URL},
		{"pv.karma", strings.TrimSpace(fmt.Sprintf("%d/100 %s", d.Karma, d.Level)) + " · " + s.Lang.T("release.works", d.Works)},
		{"pv.opened", p.at(d.Opened)},
		{"pv.bundle", d.BundleHash},
		{"pv.document-hash", object.Spec.DocumentHash},
	})
	p.list("pv.signatories", d.Signatories)
	p.list("pv.images", d.Images)
	p.list("pv.artifacts", d.Artifacts)
	p.pvChanges(d)
	p.pvGates(d.Gates)
	p.figures(d.Figures)
	p.list("pv.known-defects", d.KnownDefects)
	var open []OpenReservation
	for _, r := range d.OpenReservations {
		open = append(open, OpenReservation{
			PV: r.PV, Number: r.Number, Reservation: v1alpha1.Reservation{Text: r.Text, Owner: r.Owner, Deadline: r.Deadline},
		})
	}
	p.openReservations(s.Lang.T("pv.open-reservations"), open)
	p.authorises(d.Authorises)
	p.pvDecided(object)
	return p.String()
}

// fact is a value under its name.
type fact struct {
	id    lang.ID
	value string
}

// facts are put one a line, those without a value left out.
func (p *page) facts(list []fact) {
	for _, f := range list {
		if f.value == "" {
			continue
		}
		l := p.line(2).put(dim, p.Lang.T(f.id)).to(20)
		if l.w+width(f.value) > p.width() && !strings.Contains(f.value, " ") && width(f.value) <= p.width()-4 {
			l = p.line(4) // a hash stays whole
		}
		p.wrapped(l, plain, f.value)
	}
}

// pvChanges are the changes since the last release that the client accepted.
func (p *page) pvChanges(d pv.Document) {
	if d.Previous != nil {
		p.heading(p.Lang.T("pv.previous"))
		p.wrapped(p.line(2), plain, p.Lang.T("pv.previous-line", named(d.Previous.Version, d.Previous.Release), d.Previous.PV, p.at(d.Previous.SignedAt)))
		p.line(2).put(dim, p.Lang.T("pv.commit")).to(20).put(plain, d.Previous.Commit)
	}
	for _, c := range d.Changes {
		p.heading(p.Lang.T("pv.changelog"), named(c.Version, c.Release))
		p.paragraphs(2, c.Changelog)
	}
}

// pvGates are the gates that were passed, with what held and who approved.
func (p *page) pvGates(gates []pv.Gate) {
	if len(gates) == 0 {
		return
	}
	p.heading(p.Lang.T("pv.gates"))
	for _, g := range gates {
		l := p.line(2).put(green, "✓ ").put(bold, gateName(g.Number, g.Name))
		if g.Environment != "" {
			l.put(plain, " → "+g.Environment)
		}
		if !g.Opened.IsZero() {
			l.put(dim, "  "+p.at(g.Opened))
		}
		for _, c := range g.Criteria {
			p.wrapped(p.line(6).put(dim, "· "), plain, c)
		}
		for _, a := range g.Approvals {
			p.wrapped(p.line(6).put(green, "✓ "), plain, p.Lang.T("decision.Approved")+" "+a)
		}
	}
}

// figures are what CI reported; what it did not report is not shown.
func (p *page) figures(f pv.Figures) {
	if f.Tests == nil && f.Coverage == nil && f.Vulnerabilities == nil {
		return
	}
	p.heading(p.Lang.T("pv.figures"))
	if t := f.Tests; t != nil {
		p.wrapped(p.line(2).put(dim, p.Lang.T("pv.tests")).to(20), plain, p.Lang.T("pv.tests-line", t.Total, t.Passed, t.Failed, t.Skipped))
	}
	if f.Coverage != nil {
		p.line(2).put(dim, p.Lang.T("pv.coverage")).to(20).put(plain, strconv.FormatFloat(*f.Coverage, 'f', -1, 64)+" %")
	}
	if v := f.Vulnerabilities; v != nil {
		p.wrapped(p.line(2).put(dim, p.Lang.T("pv.findings")).to(20), plain, p.Lang.T("pv.findings-line", v.Critical, v.High, v.Medium, v.Low))
	}
}

// authorises is what the client's signature lets run, environment by environment.
func (p *page) authorises(list []pv.Authorised) {
	for _, a := range list {
		p.heading(p.Lang.T("pv.authorises"), named(a.Environment, a.ComposeProject))
		for _, i := range a.Images {
			p.wrapped(p.line(2).put(dim, "· "), plain, i.Service+": "+i.Image)
		}
		p.facts([]fact{
			{"pv.compose", a.ComposeHash}, {"pv.values", a.ValuesHash}, {"pv.checks", a.ChecksHash},
			{"pv.secrets", strings.Join(a.SecretNames, ", ")},
		})
	}
}

// pvDecided is the client's decision, how it was made and what proves it.
func (p *page) pvDecided(object *v1alpha1.PV) {
	st := object.Status
	p.heading(p.Lang.T("pv.decision"))
	p.wrapped(p.line(2), plain, p.pvState(object))
	if st.Reason != "" {
		p.wrapped(p.line(2), red, "« "+st.Reason+" »")
	}
	p.reservations(st.Reservations)
	method := st.Method
	if id := lang.ID("pv.method." + method); lang.Known(id) {
		method = p.Lang.T(id)
	}
	p.facts([]fact{
		{"pv.method", method},
		{"pv.email", MaskEmail(st.Email)},
		{"pv.key", st.KeyID},
		{"pv.signature-hash", st.SignatureHash},
		{"pv.pdf-hash", object.Spec.PDFHash},
		{"pv.signed-pdf-hash", st.PDFHash},
	})
}

// MaskEmail keeps of an address what its owner recognises it by.
func MaskEmail(address string) string {
	at := strings.LastIndex(address, "@")
	if at < 0 {
		if address == "" {
			return ""
		}
		return "…"
	}
	_, first := utf8.DecodeRuneInString(address[:at])
	return address[:first] + "…" + address[at:]
}

func named(name, id string) string {
	switch {
	case name == "" || name == id:
		return id
	case id == "":
		return name
	}
	return name + " (" + id + ")"
}

func (p *page) list(id lang.ID, items []string) {
	if len(items) == 0 {
		return
	}
	p.heading(p.Lang.T(id))
	for _, item := range items {
		p.wrapped(p.line(2).put(dim, "· "), plain, item)
	}
}

// Decision draws a decision as it is about to be signed, or as a signature states it.
func Decision(d pv.Decision, s Screen) string {
	p := s.page()
	p.heading(s.Lang.T("pv.decision"))
	p.line(2).put(bold, p.pvDecision(d.Decision))
	if d.Reason != "" {
		p.wrapped(p.line(2), plain, "« "+d.Reason+" »")
	}
	p.reservations(d.Reservations)
	p.line(2).put(dim, s.Lang.T("pv.signed-by")).to(20).put(plain, d.SignedBy)
	p.line(2).put(dim, s.Lang.T("pv.signed-at")).to(20).put(plain, p.at(d.SignedAt))
	return p.String()
}
