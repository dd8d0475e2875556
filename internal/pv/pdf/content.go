// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/internal/pv"
)

// document draws what the client decides on, in the order in which a reader asks: who, what, what is new, how it was
// checked, what is wrong with it, and how to recognise it.
func (s *sheet) document(d pv.Document, documentHash string) {
	s.parties(d)
	s.object(d)
	s.changes(d)
	s.gates(d.Gates)
	s.figures(d)
	s.defects(d.KnownDefects)
	s.openReservations(d.OpenReservations)
	s.authorises(d.Authorises)
	s.hashes(d, documentHash)
}

func versionOf(d pv.Document) string {
	if d.Version != "" {
		return d.Version
	}
	return d.Release
}

func (s *sheet) version(d pv.Document) safe { return or(s.line(versionOf(d)), s.w.noVersion) }

func (s *sheet) parties(d pv.Document) {
	s.heading(s.w.parties, 20)
	s.pairs([]pair{
		{label: s.w.supplier, value: s.line(d.Supplier)},
		{label: s.w.client, value: s.line(d.Client)},
		{label: s.w.signatories, value: s.lines(d.Signatories)},
	})
}

func (s *sheet) object(d pv.Document) {
	s.heading(s.w.object, 40)
	list := []pair{}
	if t := s.line(d.Title); t != "" && t != s.w.title {
		// A title of the project's own does not replace ours: the reader must know what this is.
		list = append(list, pair{label: s.w.subject, value: t})
	}
	s.pairs(append(list, []pair{
		{label: s.w.project, value: s.named(d.ProjectName, d.Project)},
		{label: s.w.release, value: s.line(d.Release)},
		{label: s.w.version, value: or(s.line(d.Version), s.w.noVersion)},
		{label: s.w.commit, value: s.line(d.Commit), code: true},
		{label: s.w.branch, value: s.line(d.Branch)},
		{label: s.w.environment, value: s.line(d.Environment)},
		{label: s.w.address, value: s.line(d.URL)},
		{label: s.w.opened, value: s.w.moment(d.Opened)},
	}...))
	s.images(d.Images)
	if len(d.Artifacts) > 0 {
		s.table([]column{{title: s.w.artifacts, width: width, face: codeFace}}, s.singles(d.Artifacts))
	}
}

// named is a name with the identifier behind it where they differ.
func (s *sheet) named(name, id string) safe {
	if name == "" || name == id {
		return s.line(id)
	}
	if id == "" {
		return s.line(name)
	}
	return s.line(name) + " (" + s.line(id) + ")"
}

func (s *sheet) singles(texts []string) [][]safe {
	var rows [][]safe
	for i, t := range texts {
		if i == maxRows {
			return append(rows, []safe{s.more(len(texts) - i)})
		}
		rows = append(rows, []safe{s.line(t)})
	}
	return rows
}

func (s *sheet) images(images []string) {
	if len(images) == 0 {
		return
	}
	var rows [][]safe
	for i, image := range images {
		if i == maxRows {
			rows = append(rows, []safe{"", s.more(len(images) - i)})
			break
		}
		name, reference, ok := strings.Cut(image, ": ")
		if !ok {
			name, reference = "", image
		}
		// The digest begins a line of its own: it is what identifies the image.
		repository, digest, ok := strings.Cut(reference, "@")
		shown := s.line(repository)
		if ok {
			shown += "\n@" + s.line(digest)
		}
		rows = append(rows, []safe{s.line(name), shown})
	}
	s.table([]column{
		{title: s.w.image, width: 46, face: cellFace}, {title: s.w.reference, width: width - 46, face: codeFace},
	}, rows)
}

func (s *sheet) changes(d pv.Document) {
	s.heading(s.w.changes, 25)
	if p := d.Previous; p != nil {
		s.pairs([]pair{
			{label: s.w.since, value: s.named(p.Version, p.Release)},
			{label: s.w.commit, value: s.line(p.Commit), code: true},
			{label: s.w.pvName, value: s.line(p.PV)},
			{label: s.w.signedOn, value: s.w.moment(p.SignedAt)},
		})
	} else {
		s.paragraph(s.w.firstRelease, bodyFace)
	}
	// What is new comes last; of too many releases, the oldest are left out.
	changes := d.Changes
	if n := len(changes) - maxRows; n > 0 {
		s.paragraph(s.more(n), bodyFace)
		changes = changes[n:]
	}
	for _, c := range changes {
		title := s.w.release + " " + s.named(c.Version, c.Release)
		if c.Commit != "" {
			title += " — " + s.w.commit + " " + s.line(c.Commit)
		}
		s.subheading(title)
		s.quote(or(s.text(c.Changelog, maxChangelog), s.w.noChangelog), bodyFace)
	}
}

func (s *sheet) gates(gates []pv.Gate) {
	s.heading(s.w.gates, 25)
	if len(gates) == 0 {
		s.paragraph(s.w.noGates, bodyFace)
		return
	}
	var rows [][]safe
	for i, g := range gates {
		if i == maxRows {
			rows = append(rows, []safe{"", "", "", "", s.more(len(gates) - i), ""})
			break
		}
		rows = append(rows, []safe{
			number(g.Number), s.line(g.Name), s.line(g.Environment), s.w.moment(g.Opened),
			or(s.lines(g.Criteria), s.w.none), or(s.lines(g.Approvals), s.w.none),
		})
	}
	s.table([]column{
		{title: "N°", width: 9, face: cellFace}, {title: s.w.gate, width: 24, face: cellFace},
		{title: s.w.environment, width: 27, face: cellFace}, {title: s.w.opened, width: 25, face: cellFace},
		{title: s.w.criteria, width: 48, face: cellFace}, {title: s.w.approvals, width: 37, face: cellFace},
	}, rows)
}

func (s *sheet) figures(d pv.Document) {
	s.heading(s.w.figures, 45)
	columns := func(titles ...safe) []column {
		list := []column{{width: width - 31*float64(len(titles)), face: labelFace, shade: true}}
		for _, t := range titles {
			list = append(list, column{title: t, width: 31, face: cellFace})
		}
		return list
	}
	row := []safe{s.w.tests, s.w.notReported, s.w.none, s.w.none, s.w.none}
	if t := d.Figures.Tests; t != nil {
		row = []safe{s.w.tests, number(t.Total), number(t.Passed), number(t.Failed), number(t.Skipped)}
	}
	s.table(columns(s.w.total, s.w.passed, s.w.failed, s.w.skipped), [][]safe{row})

	row = []safe{s.w.findings, s.w.notReported, s.w.none, s.w.none, s.w.none}
	if v := d.Figures.Vulnerabilities; v != nil {
		row = []safe{s.w.findings, number(v.Critical), number(v.High), number(v.Medium), number(v.Low)}
	}
	s.table(columns(s.w.critical, s.w.high, s.w.medium, s.w.low), [][]safe{row})

	coverage := s.w.notReported
	if d.Figures.Coverage != nil {
		coverage = s.w.percent(*d.Figures.Coverage)
	}
	karma := number(d.Karma) + "/100, " + s.w.works + " " + number(d.Works) + "/50"
	if l := s.line(d.Level); l != "" {
		karma += " — " + s.w.level + " " + l
	}
	s.pairs([]pair{{label: s.w.coverage, value: coverage}, {label: s.w.karma, value: karma}})
}

func (s *sheet) defects(defects []string) {
	s.heading(s.w.defects, 15)
	if len(defects) == 0 {
		s.paragraph(s.w.noDefects, bodyFace)
		return
	}
	var rows [][]safe
	for i, t := range defects {
		if i == maxRows {
			rows = append(rows, []safe{"", s.more(len(defects) - i)})
			break
		}
		rows = append(rows, []safe{number(i + 1), s.text(t, maxText)})
	}
	s.table([]column{{width: 12, face: labelFace, shade: true}, {width: width - 12, face: cellFace}}, rows)
}

func (s *sheet) openReservations(list []pv.OpenReservation) {
	s.heading(s.w.earlier, 20)
	if len(list) == 0 {
		s.paragraph(s.w.noReservations, bodyFace)
		return
	}
	var rows [][]safe
	for i, r := range list {
		if i == maxRows {
			rows = append(rows, []safe{"", "", s.more(len(list) - i), "", ""})
			break
		}
		rows = append(rows, []safe{
			s.line(r.PV), number(r.Number), s.text(r.Text, maxText), or(s.line(r.Owner), s.w.none), s.deadline(r.Deadline),
		})
	}
	s.table([]column{
		{title: s.w.pvName, width: 34, face: cellFace}, {title: "N°", width: 9, face: cellFace},
		{title: s.w.text, width: 67, face: cellFace}, {title: s.w.owner, width: 32, face: cellFace},
		{title: s.w.deadline, width: 28, face: cellFace},
	}, rows)
}

// deadline is a date as the fields hold it, in words; anything else is shown as it is.
func (s *sheet) deadline(text string) safe {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return s.w.day(t)
	}
	return or(s.line(text), s.w.none)
}

// authorises is what the signature lets run in each following environment. A document without it gets no such part: PVs
// from before must render to the bytes that their hash states.
func (s *sheet) authorises(list []pv.Authorised) {
	if len(list) == 0 {
		return
	}
	s.heading(s.w.authorises, 45)
	s.paragraph(s.w.authorisesIntro, bodyFace)
	for i, a := range list {
		if i == maxRows {
			s.paragraph(s.more(len(list)-i), bodyFace)
			return
		}
		s.subheading(s.w.environment + " " + s.line(a.Environment))
		images := make([]string, 0, len(a.Images))
		for _, image := range a.Images {
			images = append(images, image.Service+": "+image.Image)
		}
		s.images(images)
		s.pairs([]pair{
			{label: s.w.composeProject, value: s.line(a.ComposeProject)},
			{label: s.w.composeHash, value: s.line(a.ComposeHash), code: true},
			{label: s.w.valuesHash, value: s.line(a.ValuesHash), code: true},
			{label: s.w.checksHash, value: s.line(a.ChecksHash), code: true},
			{label: s.w.secretNames, value: or(s.lines(a.SecretNames), s.w.none)},
		})
	}
}

func (s *sheet) hashes(d pv.Document, documentHash string) {
	s.heading(s.w.hashes, 45)
	s.paragraph(s.w.hashesIntro, bodyFace)
	s.pairs([]pair{
		{label: s.w.documentHash, value: s.line(documentHash), code: true},
		{label: s.w.bundle, value: s.line(d.BundleHash), code: true},
		{label: s.w.uid, value: s.line(d.ReleaseUID), code: true},
	})
	if s.cut {
		s.paragraph(s.w.cutNotice, bodyFace)
	}
}
