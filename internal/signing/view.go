// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/page"
	"gitlab.com/dynors/sirrat/internal/pv"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed templates/style.css
var style []byte

// views are the templates in each language, parsed once.
type views struct {
	byLanguage map[string]*template.Template
	style      page.Stylesheet
}

func parseViews() (*views, error) {
	v := &views{byLanguage: map[string]*template.Template{}, style: page.NewStylesheet(style)}
	for _, language := range page.Languages {
		set, err := template.New("").Funcs(template.FuncMap{
			"t":        texts.In(language),
			"date":     func(s string) string { return page.Date(language, s) },
			"stamp":    func(at time.Time) string { return page.Stamp(language, at) },
			"decimal":  func(f float64) string { return page.Decimal(language, f) },
			"decision": func(d any) string { return texts.In(language)("decision." + fmt.Sprint(d)) },
			"inc":      func(i int) int { return i + 1 },
		}).ParseFS(templateFiles, "templates/*.html")
		if err != nil {
			return nil, fmt.Errorf("signing page: %w", err)
		}
		v.byLanguage[language] = set
	}
	return v, nil
}

// model is what templates see. Every text in it that is not ours is inert; html/template makes it harmless as HTML.
type model struct {
	Lang, Other string // language of the page and the other one
	Path        string // of the link
	Query       string // that keeps a chosen language: "?lang=en" or ""
	Style       string // path of the stylesheet
	Name        string // of the template

	// Of pages without a link, nothing from here on but Problem is set.
	ProjectName, Release, Client, Masked, Signatory string
	Expires                                         time.Time
	Doc                                             pv.Document
	PV                                              *v1alpha1.PV
	UID                                             string
	Signed                                          bool // the PV has a verified decision
	Mine                                            bool // by this link
	Closed                                          bool // it cannot be signed, having a decision or a submitted one
	Form                                            string
	Draft                                           *draft
	Errors                                          []fieldError
	Carried                                         bool   // Draft goes through a new code
	Over                                            bool   // the session ended
	Focus                                           string // id of the element to begin at

	ProblemTitle, ProblemDetail string

	translate func(string, ...any) string
}

// ErrorOf is what is wrong with the element of an id; "" if nothing.
func (m *model) ErrorOf(id string) string {
	for _, e := range m.Errors {
		if e.ID == id {
			return m.translate(e.text, e.args...)
		}
	}
	return ""
}

// ErrorAt is the text of an error.
func (m *model) ErrorAt(i int) string { return m.translate(m.Errors[i].text, m.Errors[i].args...) }

// Reservations are those of the draft in which something is typed.
func (m *model) Reservations() []v1alpha1.Reservation { return m.Draft.reservations() }

// MoreRows says whether one more reservation may be typed.
func (m *model) MoreRows() bool { return len(m.Draft.Rows) < maxRows }

// Rows is how many reservations can be typed.
func (m *model) Rows() int { return len(m.Draft.Rows) }

// Field is the name and id of a field of a row.
func (m *model) Field(name string, i int) string { return name + "-" + strconv.Itoa(i+1) }

// HasReservations says whether something is typed as a reservation, or should be.
func (m *model) HasReservations() bool {
	return len(m.Draft.reservations()) > 0 || m.ErrorOf("text-1") != "" || m.Rows() > firstRows
}

// DateType is the type of the field of a date: a browser would drop what is none, and with it what was typed.
func (m *model) DateType(value string) string {
	if _, err := time.Parse(time.DateOnly, value); err != nil && value != "" {
		return "text"
	}
	return "date"
}

// DateHint is a date that a browser without date fields shows as an example.
func (m *model) DateHint() string { return "2026-12-31" }

func (p *Page) newModel(r *request, name string) *model {
	m := &model{Lang: r.language, Other: page.Other(r.language), Style: Prefix + p.views.style.Name, Name: name, translate: texts.In(r.language)}
	if r.chosen != "" {
		m.Query = "?lang=" + r.chosen
	}
	v := r.visit
	if v == nil {
		return m
	}
	m.Path = Prefix + r.token
	m.ProjectName, m.Release, m.Client = inert.Line(projectName(v.project)), inert.Line(release(v.pv)), inert.Line(v.pv.Spec.Client)
	m.Masked, m.Signatory, m.Expires = inert.Line(page.Mask(v.inv.Email)), v.inv.Signatory, v.inv.Expires
	m.Signed, m.Closed = v.pv.Status.Decision != "", !open(v.pv)
	m.Mine = signedBy(v.pv, v.inv)
	if v.session != "" { // only a session sees more than whom to ask for what
		m.Doc, m.PV, m.UID, m.Form = *v.doc, v.pv.DeepCopy(), string(v.pv.UID), formToken(v.session)
		page.EachText(&m.Doc, inert.Text)
		page.EachText(&m.PV.Status, inert.Text)
	}
	return m
}

func (p *Page) render(r *request, status int, name string, fill func(*model)) error {
	m := p.newModel(r, name)
	if m.Draft == nil {
		m.Draft = newDraft()
	}
	if fill != nil {
		fill(m)
	}
	var b bytes.Buffer
	if err := p.views.byLanguage[m.Lang].ExecuteTemplate(&b, name+".html", m); err != nil {
		return failed(fmt.Errorf("render %s: %w", name, err))
	}
	r.ResponseWriter.Header().Set("Content-Type", "text/html; charset=utf-8")
	r.ResponseWriter.Header().Set("Content-Language", m.Lang)
	r.ResponseWriter.Header().Add("Vary", "Accept-Language, Cookie")
	return write(r, status, b.Bytes())
}

// renderState shows a session what there is to do, or what was done.
func (p *Page) renderState(r *request, status int, d *draft, errs []fieldError) error {
	name := "document"
	switch {
	case r.visit.pv.Status.Decision != "":
		name = "decided"
	case !open(r.visit.pv):
		name = "pending"
	}
	return p.render(r, status, name, func(m *model) { m.Draft, m.Errors = d, errs })
}

func (p *Page) renderProblem(r *request, bad *problem) {
	r.visit = nil // a page that says what is wrong says nothing of the PV
	h := r.ResponseWriter.Header()
	if bad.allow != "" {
		h.Set("Allow", bad.allow)
	}
	if bad.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((bad.retryAfter+time.Second-1)/time.Second)))
	}
	if err := p.render(r, bad.status, "problem", func(m *model) {
		m.ProblemTitle, m.ProblemDetail = m.translate(bad.title), m.translate(bad.detail, bad.args...)
		if bad.status != http.StatusNotFound && wellFormed(r.token) {
			m.Path = Prefix + r.token
		}
	}); err != nil {
		p.o.Log.Error(err, "the page of a problem cannot be shown")
		http.Error(r.ResponseWriter, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// redirect makes a page that was posted one that can be loaded again without posting again.
func (p *Page) redirect(r *request, action string) error {
	target := Prefix + r.token + action
	if r.chosen != "" {
		target += "?lang=" + r.chosen
	}
	http.Redirect(r.ResponseWriter, r.Request, target, http.StatusSeeOther)
	return nil
}

func write(r *request, status int, body []byte) error {
	page.Write(r.ResponseWriter, r.Request, status, body)
	return nil
}
