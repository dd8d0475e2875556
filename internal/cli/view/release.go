// SPDX-License-Identifier: Apache-2.0

package view

import (
	"maps"
	"slices"
	"strconv"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// Release draws everything that is known of one release of a bridge.
func Release(b Bridge, r *v1alpha1.Release, s Screen) string {
	p := s.page()
	p.releaseHead(b, r)
	spans, _ := b.spans(s)
	if len(spans) > 0 {
		p.blank()
		p.trackWithGates(r, spans)
	}
	p.heading(s.Lang.T("release.gates"))
	for _, g := range r.Status.Gates {
		p.gate(g)
	}
	if len(r.Status.Gates) == 0 {
		p.line(2).put(dim, s.Lang.T("status.not-judged"))
	}
	p.environments(r)
	p.approvals(r)
	p.karmaBreakdown(r, nil)
	p.bundle(r)
	p.stalled(r)
	return p.String()
}

func (p *page) releaseHead(b Bridge, r *v1alpha1.Release) {
	name := b.Namespace
	if b.Project != nil && b.Project.Spec.DisplayName != "" {
		name = b.Project.Spec.DisplayName + " (" + b.Namespace + ")"
	}
	p.line(1).put(bold, Label(r)).put(dim, " · ").put(plain, name)
	fields := []struct {
		id    lang.ID
		value string
	}{
		{"release.commit", r.Spec.Commit},
		{"release.branch", r.Spec.Branch},
		{"release.created", p.created(r)},
		{"release.reached", r.Status.Reached},
		{"release.published", p.publishedAt(r)},
	}
	for _, f := range fields {
		if f.value != "" {
			p.wrapped(p.field(f.id), plain, f.value)
		}
	}
	l := p.field("release.karma").put(levelColour(r.Status.Karma), strconv.Itoa(int(r.Status.Karma))).put(dim, "/100 ")
	l.karmaBar(r.Status.Karma).put(levelColour(r.Status.Karma), " "+r.Status.Level)
	l.put(dim, " · "+p.Lang.T("release.works", r.Status.Works))
	p.wrapped(p.field("release.next"), bold, p.next(r))
	if r.Status.Earliest != "" {
		p.wrapped(p.field("release.earliest"), plain, r.Status.Earliest)
	}
	p.returned(3, r)
}

// field starts a line with a label.
func (p *page) field(id lang.ID) *line {
	return p.line(3).put(dim, p.Lang.T(id)).to(14)
}

func (p *page) publishedAt(r *v1alpha1.Release) string {
	if r.Status.Publication == nil {
		return ""
	}
	at := r.Status.Publication.At.Time
	return p.Lang.T("release.healthy-since", p.at(at), p.age(at))
}

func (p *page) created(r *v1alpha1.Release) string {
	if r.CreationTimestamp.IsZero() {
		return ""
	}
	text := p.at(r.CreationTimestamp.Time) + " (" + p.age(r.CreationTimestamp.Time) + ")"
	if by := r.Annotations[v1alpha1.AnnotationCreatedBy]; by != "" {
		text = p.Lang.T("release.created-by", text, by)
	}
	return text
}

func (p *page) trackWithGates(r *v1alpha1.Release, spans []span) {
	labels := p.line(0)
	for i, sp := range spans {
		room := p.width() - sp.column
		if i+1 < len(spans) {
			room = spans[i+1].column - sp.column - 1
		}
		if room < minSpan-2 { // no room for names
			labels.to(sp.column)
			for _, g := range sp.gates[:min(1, len(sp.gates))] {
				labels.put(bold, "#"+strconv.Itoa(int(g.Spec.Number)))
			}
			continue
		}
		labels.to(sp.column)
		for _, g := range sp.gates[:min(1, len(sp.gates))] {
			labels.fit(bold, gateName(g.Spec.Number, g.Name)+" → "+Guarded(sp.env.Name), room)
		}
	}
	p.track(p.line(2), r, spans)
}

// Guarded is what a gate guards: an environment, or the publication of a module. The word is the same in both languages.
func Guarded(environment string) string {
	if environment == "" {
		return "publication"
	}
	return environment
}

// artifacts are a module's, file by file.
func (p *page) artifacts(r *v1alpha1.Release) {
	for _, a := range r.Status.Artifacts {
		p.line(2).put(bold, a.Coordinates)
		for _, f := range a.Files {
			p.line(6).put(plain, f.Name).put(dim, "  "+f.SHA256)
		}
		if a.Problem != "" {
			p.wrapped(p.line(6).put(red, "✗ "), plain, a.Problem)
		}
	}
}

// gate draws a verdict, criterion by criterion.
func (p *page) gate(g v1alpha1.GateVerdict) {
	mark, c := verdictMark(g.Verdict)
	l := p.line(2).put(c, mark+" ").put(bold, gateName(g.Number, g.Name)).put(plain, " → "+Guarded(g.Environment))
	l.put(dim, "  "+p.verdict(g.Verdict))
	if g.Message != "" && g.Verdict != v1alpha1.VerdictPassed {
		p.wrapped(l.put(dim, " — "), plain, g.Message)
	}
	if g.Until != nil {
		p.line(6).put(yellow, p.Lang.T("why.until", p.until(g.Until.Time)))
	}
	if opens := p.opens(g); opens != "" && g.Verdict != v1alpha1.VerdictPassed && (g.Until == nil || !g.Until.Equal(g.Earliest)) {
		p.wrapped(p.line(6), dim, p.Lang.T("why.earliest", opens))
	}
	column := 0
	for _, v := range g.Criteria {
		column = max(column, min(width(v.Name), 24))
	}
	for _, v := range g.Criteria {
		mark, c := verdictMark(v.Verdict)
		l := p.line(6).put(c, mark+" ").fit(plain, v.Name, 24).to(10 + column)
		p.wrapped(l, dimIf(v.Verdict == v1alpha1.VerdictPassed), v.Message)
		if v.Needs != "" && v.Verdict != v1alpha1.VerdictPassed {
			p.wrapped(p.line(10+column).put(yellow, "→ "), plain, v.Needs)
		}
	}
}

func dimIf(b bool) colour {
	if b {
		return dim
	}
	return plain
}

func (p *page) verdict(v v1alpha1.Verdict) string {
	if id := lang.ID("verdict." + string(v)); lang.Known(id) {
		return p.Lang.T(id)
	}
	return string(v)
}

func (p *page) environments(r *v1alpha1.Release) {
	if len(r.Status.Environments) == 0 {
		return
	}
	p.heading(p.Lang.T("release.environments"))
	for _, e := range r.Status.Environments {
		mark, c := phaseMark(e.Phase)
		l := p.line(2).put(c, mark+" ").fit(bold, e.Name, 24).to(20).put(c, p.phase(e.Phase))
		switch {
		case e.HealthySince != nil && e.HealthyUntil != nil:
			l.put(plain, "  "+p.Lang.T("release.healthy-from-to", p.at(e.HealthySince.Time), p.at(e.HealthyUntil.Time)))
		case e.HealthySince != nil:
			l.put(plain, "  "+p.Lang.T("release.healthy-since", p.at(e.HealthySince.Time), p.age(e.HealthySince.Time)))
		default:
			l.put(plain, "  "+p.Lang.T("release.authorized-at", p.at(e.AuthorizedAt.Time)))
		}
		for _, tag := range e.Tags {
			p.line(6).put(dim, p.Lang.T("release.tag")+" ").put(plain, tag)
		}
		p.line(6).put(dim, p.Lang.T("release.bundle-hash")+" ").put(plain, e.BundleHash)
		if e.Message != "" {
			p.wrapped(p.line(6), c, e.Message)
		}
	}
}

func (p *page) approvals(r *v1alpha1.Release) {
	if len(r.Status.Approvals) == 0 {
		return
	}
	p.heading(p.Lang.T("release.approvals"))
	for _, a := range r.Status.Approvals {
		mark, c := "✓", green
		if a.Decision != v1alpha1.DecisionApproved && a.Decision != v1alpha1.DecisionRegularised {
			mark, c = "✗", red
		}
		if a.Stale != "" {
			mark, c = "…", yellow
		}
		l := p.line(2).put(c, mark+" ").fit(bold, a.Gate, 16).to(20).put(plain, p.decision(a.Decision)+" ")
		l.put(bold, a.User).put(dim, "  "+p.at(a.Time.Time))
		if a.Reason != "" {
			p.wrapped(p.line(6), plain, "« "+a.Reason+" »")
		}
		if a.BundleHash != "" {
			p.line(6).put(dim, p.Lang.T("release.bundle-hash")+" ").put(plain, a.BundleHash)
		}
		if a.Stale != "" {
			p.wrapped(p.line(6), yellow, p.Lang.T("release.stale", a.Stale))
		}
	}
}

func (p *page) decision(d string) string {
	if id := lang.ID("decision." + d); lang.Known(id) {
		return p.Lang.T(id)
	}
	return d
}

// karmaBreakdown lists every figure with their sum, and says so when they do not add up; beside another release, with the
// difference to it.
func (p *page) karmaBreakdown(r, against *v1alpha1.Release) {
	if len(r.Status.KarmaBreakdown) == 0 {
		return
	}
	other, messages := map[string]int32{}, 31
	if against != nil && against.UID != r.UID {
		p.heading(p.Lang.T("release.karma"), p.Lang.T("approve.karma-against", Label(against), against.Status.Karma))
		messages = 38
		for _, k := range against.Status.KarmaBreakdown {
			other[k.Name] = k.Points
		}
	} else {
		p.heading(p.Lang.T("release.karma"))
		against = nil
	}
	sum := int32(0)
	for _, k := range r.Status.KarmaBreakdown {
		sum += k.Points
		c := plain
		switch {
		case k.Points < 0:
			c = red
		case k.Max > 0 && k.Points == k.Max:
			c = green
		}
		l := p.line(2).fit(bold, k.Name, 16).to(18).put(c, padLeft(strconv.Itoa(int(k.Points)), 5))
		of := ""
		if k.Max > 0 {
			of = " / " + strconv.Itoa(int(k.Max))
		}
		l.put(dim, of)
		if against != nil {
			p.difference(l.to(31), k.Points-other[k.Name])
			delete(other, k.Name)
		}
		p.wrapped(l.to(messages), dim, k.Message)
	}
	for _, name := range slices.Sorted(maps.Keys(other)) { // figures that only the other one has
		p.difference(p.line(2).fit(bold, name, 16).to(18).put(dim, padLeft("—", 5)).to(31), -other[name])
	}
	p.line(18).put(dim, "─────")
	l := p.line(2).put(bold, p.Lang.T("release.karma-sum")).to(18).
		put(levelColour(sum), padLeft(strconv.Itoa(int(sum)), 5)).put(dim, " / 100")
	if against != nil {
		p.difference(l.to(31), r.Status.Karma-against.Status.Karma)
		l.to(messages - 2)
	}
	l.put(levelColour(sum), "  "+r.Status.Level)
	if sum != r.Status.Karma {
		p.wrapped(p.line(2), red, p.Lang.T("release.karma-mismatch", sum, r.Status.Karma))
	}
}

// difference is signed; nothing for none.
func (p *page) difference(l *line, points int32) {
	switch {
	case points > 0:
		l.put(green, "(+"+strconv.Itoa(int(points))+")")
	case points < 0:
		l.put(red, "("+strconv.Itoa(int(points))+")")
	}
}

func (p *page) bundle(r *v1alpha1.Release) {
	b := r.Status.Bundle
	if b == nil {
		return
	}
	p.heading(p.Lang.T("release.bundle"))
	p.artifacts(r)
	for _, i := range b.Images {
		p.line(2).put(bold, i.Name).put(dim, "  "+i.Repository)
		p.line(6).put(plain, i.Digest)
	}
	for _, i := range b.Pins {
		p.line(2).put(plain, i.Reference)
		p.line(6).put(plain, i.Digest)
	}
	for _, e := range b.Environments {
		p.line(2).put(bold, Guarded(e.Environment))
		if e.Problem != "" {
			p.wrapped(p.line(6).put(red, "✗ "), plain, e.Problem)
			continue
		}
		p.line(6).put(dim, p.Lang.T("release.bundle-hash")).to(16).put(plain, e.Hash)
		if e.Environment == "" { // a module has no compose file
			continue
		}
		p.line(6).put(dim, p.Lang.T("release.compose-hash")).to(16).put(plain, e.ComposeHash)
		p.line(6).put(dim, p.Lang.T("release.values-hash")).to(16).put(plain, e.ValuesHash)
	}
}

// stalled closes with what somebody must mend.
func (p *page) stalled(r *v1alpha1.Release) {
	for _, kind := range []string{v1alpha1.ConditionFrozen, v1alpha1.ConditionTagged, v1alpha1.ConditionApprovalsGuarded, v1alpha1.ConditionStalled} {
		c := condition(r.Status.Conditions, kind)
		if c == nil || (c.Status == "True") != (kind == v1alpha1.ConditionStalled) || c.Message == "" {
			continue
		}
		p.blank()
		p.wrapped(p.line(1).put(red, "! "), plain, c.Message)
	}
}

// Why draws what each gate of a release says, and what keeps the project's gates shut; with a gate's name, only that gate.
func Why(b Bridge, r *v1alpha1.Release, gate string, s Screen) string {
	p := s.page()
	l := p.line(1).put(bold, Label(r)).put(dim, " · ").put(plain, b.Namespace).put(dim, " · "+s.Lang.T("status.karma")+" ")
	l.put(levelColour(r.Status.Karma), s.Lang.T("status.karma-level", r.Status.Karma, r.Status.Level))
	if gate == "" {
		p.wrapped(p.line(1).put(yellow, "→ "), bold, p.next(r))
		if r.Status.Earliest != "" {
			p.wrapped(p.line(1).put(dim, p.Lang.T("release.earliest")+" "), plain, r.Status.Earliest)
		}
		p.returned(1, r)
	}
	p.blank()
	for _, g := range Verdicts(r, gate) {
		p.gate(g)
	}
	if len(r.Status.Gates) == 0 {
		p.line(2).put(dim, s.Lang.T("status.not-judged"))
	}
	p.held(b.Held())
	p.debts(Debts(b.Releases))
	p.stalled(r)
	return p.String()
}

// Verdicts are the verdicts of all gates, or of the named one.
func Verdicts(r *v1alpha1.Release, gate string) []v1alpha1.GateVerdict {
	if gate == "" {
		return r.Status.Gates
	}
	i := slices.IndexFunc(r.Status.Gates, func(g v1alpha1.GateVerdict) bool { return g.Name == gate })
	if i < 0 {
		return nil
	}
	return r.Status.Gates[i : i+1]
}
