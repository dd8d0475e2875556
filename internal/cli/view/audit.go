// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// shortHash is as much of a hash as tells entries apart at a glance, its algorithm included.
const shortHash = len("sha256:") + 12

// maxWhat bounds what is shown of one entry, in characters; -o json has the whole.
const maxWhat = 160

// Journal is the table of a journal's entries, the newest last; wide adds subjects and whole hashes.
func Journal(entries []journal.Entry, wide bool, s Screen) string {
	headings := []lang.ID{"table.seq", "table.time", "table.kind", "table.who", "table.what", "table.hash"}
	if wide {
		headings = append(headings, "table.subject")
	}
	var rows [][]string
	for _, e := range entries {
		row := []string{strconv.FormatInt(e.Seq, 10), s.at(e.Time), string(e.Kind), e.Actor, shorten(What(e)), e.Hash[:min(len(e.Hash), shortHash)]}
		if wide {
			row[4], row[5] = What(e), e.Hash
			row = append(row, e.Subject)
		}
		rows = append(rows, row)
	}
	return Table(headings, rows, s)
}

func shorten(text string) string {
	if r := []rune(text); len(r) > maxWhat {
		return string(r[:maxWhat]) + "…"
	}
	return text
}

// What is an entry in one line, in the words that were recorded. Fields that an entry does not have are left out, so that
// entries of an older or newer SIRRAT still read.
func What(e journal.Entry) string {
	var d map[string]any
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return e.Subject
	}
	get := func(path ...string) string { return field(d, path...) }
	release := get("release")
	if release == "" {
		release = get("release", "name")
	}
	var words []string
	switch e.Kind {
	case journal.KindResult:
		words = []string{get("spec", "type"), get("spec", "status"), v1alpha1.ShortSHA(get("spec", "commit")), get("spec", "environment")}
	case journal.KindRelease:
		if d["deleted"] == true {
			return "project " + get("project") + " deleted"
		}
		words = []string{release, get("spec", "version"), get("spec", "branch")}
	case journal.KindVerdict:
		words = []string{release, get("gate") + ":", get("verdict")}
	case journal.KindApproval, journal.KindDebt:
		words = []string{release, get("gate") + ":", get("decision"), marked(d, "withdrawn"), marked(d, "stale"), get("reason")}
	case journal.KindPV:
		words = []string{"PV", get("pv"), get("state"), get("decision"), get("signedBy"), get("method"), get("reason"),
			get("reservation", "text"), get("reservation", "lifted")}
	case journal.KindAuthorization:
		words = []string{release, "→", get("environment"), get("host"), "#" + get("sequence")}
	case journal.KindDeployment:
		words = []string{release, get("environment") + ":", get("phase"), get("host"), get("message")}
	case journal.KindGate:
		words = []string{"gate", get("gate")}
	default:
		return e.Subject
	}
	line := strings.Join(strings.Fields(strings.Join(words, " ")), " ")
	if line == "" {
		return e.Subject
	}
	return line
}

// marked is the name of a field that is set.
func marked(d map[string]any, name string) string {
	if v := d[name]; v != nil && v != false && v != "" {
		return "(" + name + ")"
	}
	return ""
}

// field is the text or number at a path; nothing for anything else.
func field(d map[string]any, path ...string) string {
	switch v := d[path[0]].(type) {
	case map[string]any:
		if len(path) > 1 {
			return field(v, path[1:]...)
		}
	case string:
		if len(path) == 1 {
			return v
		}
	case float64:
		if len(path) == 1 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return ""
}

// Verified is what a verification of an export found.
func Verified(r journal.Report, s Screen) string {
	p := s.page()
	line := func(id lang.ID, value string) { p.line(2).put(dim, s.Lang.T(id)).to(20).put(plain, value) }
	if r.OK() {
		p.line(0).put(green, s.Lang.T("audit.verified"))
	} else {
		p.line(0).put(red, s.Lang.T("audit.not-verified"))
	}
	line("pv.project", fmt.Sprintf("%s (%s)", r.Project, r.ProjectUID))
	line("audit.entries", strconv.FormatInt(r.Entries, 10))
	if !r.First.IsZero() {
		line("audit.period", s.at(r.First)+" – "+s.at(r.Last))
	}
	var kinds []string
	for _, k := range journal.Kinds {
		if n := r.Kinds[k]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
		}
	}
	line("audit.kinds", strings.Join(kinds, ", "))
	line("audit.documents", strconv.FormatInt(r.Documents, 10))
	line("audit.signatures", strconv.FormatInt(r.Signatures, 10))
	line("audit.head", r.Head)
	if !r.Exported.IsZero() {
		line("audit.signed", s.at(r.Exported))
	}
	for _, id := range r.KeyIDs {
		line("pv.key", id)
	}
	if !r.OK() {
		p.heading(s.Lang.T("audit.problems"))
	}
	for _, problem := range r.Problems {
		p.line(2).put(red, problem.String())
	}
	return p.String()
}

// Paper is what an upload records of a PV that was signed on paper.
func Paper(pv *v1alpha1.PV, paper *v1alpha1.PaperPV, scan string, s Screen) string {
	p := s.page()
	line := func(id lang.ID, value string) { p.line(2).put(dim, s.Lang.T(id)).to(20).put(plain, value) }
	p.line(0).put(bold, "PV "+pv.Name)
	line("pv.project", pv.Namespace)
	line("pv.release", strings.TrimSpace(pv.Spec.Release.Name+" "+pv.Spec.Release.Version))
	line("pv.client", pv.Spec.Client)
	line("pv.document-hash", pv.Spec.DocumentHash)
	p.heading(s.Lang.T("pv.decision"))
	p.line(2).put(bold, p.pvDecision(paper.Decision))
	if paper.Reason != "" {
		p.wrapped(p.line(2), plain, "« "+paper.Reason+" »")
	}
	p.reservations(paper.Reservations)
	line("pv.signed-by", paper.SignedBy)
	line("pv.signed-at", paper.SignedOn)
	line("pv.scan", scan)
	line("pv.scan-hash", paper.ScanHash)
	line("pv.uploaded-by", paper.UploadedBy)
	return p.String()
}
