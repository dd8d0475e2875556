// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"gitlab.com/dynors/sirrat/internal/page"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed templates/style.css
var style []byte

// looks are the templates in each language, parsed once.
type looks struct {
	byLanguage map[string]*template.Template
	style      page.Stylesheet
}

func parseLooks() (*looks, error) {
	l := &looks{byLanguage: map[string]*template.Template{}, style: page.NewStylesheet(style)}
	for _, language := range page.Languages {
		set, err := template.New("").Funcs(template.FuncMap{
			"t":     texts.In(language),
			"stamp": func(at time.Time) string { return page.Stamp(language, at) },
			"iso":   func(at time.Time) string { return at.UTC().Format(time.RFC3339) },
			// what the controllers wrote is English
			"foreign": func() bool { return language != "en" },
			"met":     met,
		}).ParseFS(templateFiles, "templates/*.html")
		if err != nil {
			return nil, fmt.Errorf("portal: %w", err)
		}
		l.byLanguage[language] = set
	}
	return l, nil
}

// met counts the criteria that are.
func met(all []criterion) (n int) {
	for _, c := range all {
		if c.Verdict.Tone == good {
			n++
		}
	}
	return n
}

// model is what templates see. Addresses in it are relative, so that the server may be below a path.
type model struct {
	Lang, Other, Query string
	Style              string
	Reload             bool
	*view              // nil on the page of a problem
	ProblemTitle       string
	ProblemDetail      string
}

func (p *Portal) newModel(r *http.Request, language string) *model {
	m := &model{Lang: language, Other: page.Other(language), Style: page.Up(r.URL.Path, Prefix) + p.looks.style.Name}
	if chosen := page.Chosen(r); chosen != "" {
		m.Query = "?lang=" + chosen
	}
	return m
}

// renderProblem says nothing of any release.
func (p *Portal) renderProblem(w http.ResponseWriter, r *http.Request, language string, status int, key string) {
	m, t := p.newModel(r, language), texts.In(language)
	m.ProblemTitle, m.ProblemDetail = t(key+".title"), t(key+".detail")
	m.Reload = status == http.StatusServiceUnavailable
	body, err := p.render("problem", m)
	if err != nil {
		p.o.Log.Error(err, "the page of a problem cannot be shown")
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	send(w, r, language, status, body)
}

func (p *Portal) render(name string, m *model) ([]byte, error) {
	var b bytes.Buffer
	if err := p.looks.byLanguage[m.Lang].ExecuteTemplate(&b, name+".html", m); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func send(w http.ResponseWriter, r *http.Request, language string, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", language)
	h.Add("Vary", "Accept-Language")
	page.Write(w, r, status, body)
}
