// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"fmt"

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
	for _, f := range []struct {
		id    lang.ID
		value string
	}{
		{"pv.project", named(d.ProjectName, d.Project)},
		{"pv.supplier", d.Supplier},
		{"pv.client", d.Client},
		{"pv.release", named(d.Version, d.Release)},
		{"pv.commit", d.Commit},
		{"pv.branch", d.Branch},
		{"pv.environment", d.Environment},
		{"pv.url", d.URL},
		{"pv.karma", fmt.Sprintf("%d/100", d.Karma)},
		{"pv.opened", p.at(d.Opened)},
		{"pv.bundle", d.BundleHash},
		{"pv.document-hash", object.Spec.DocumentHash},
	} {
		if f.value != "" {
			p.wrapped(p.line(2).put(dim, s.Lang.T(f.id)).to(20), plain, f.value)
		}
	}
	p.list("pv.signatories", d.Signatories)
	p.list("pv.images", d.Images)
	var gates []string
	for _, g := range d.Gates {
		for _, c := range g.Criteria {
			gates = append(gates, g.Name+"/"+c)
		}
	}
	p.list("pv.gates", gates)
	for _, c := range d.Changes {
		p.heading(s.Lang.T("pv.changelog"), named(c.Version, c.Release))
		p.paragraphs(2, c.Changelog)
	}
	p.heading(s.Lang.T("pv.decision"))
	p.wrapped(p.line(2), plain, p.pvState(object))
	if object.Status.Reason != "" {
		p.wrapped(p.line(2), red, "« "+object.Status.Reason+" »")
	}
	p.reservations(object.Status.Reservations)
	if object.Status.KeyID != "" {
		p.line(2).put(dim, s.Lang.T("pv.key")).to(20).put(plain, object.Status.KeyID)
	}
	return p.String()
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
