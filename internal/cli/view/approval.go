// SPDX-License-Identifier: Apache-2.0

package view

import (
	"maps"
	"slices"
	"strconv"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// Approval is what somebody is about to approve.
type Approval struct {
	User    string
	Gate    *v1alpha1.QualityGate
	Release *v1alpha1.Release
	// Bundle is the release's bundle for the gate's environment.
	Bundle v1alpha1.EnvironmentBundle
	// Current is what the environment runs now; nil when nothing does or it is gone.
	Current *v1alpha1.Release
	// PVs of the release.
	PVs []v1alpha1.PV
}

// ApprovalSummary shows it: every digest beside the one that runs now, what else is missing, and what the client wrote.
func ApprovalSummary(a Approval, s Screen) string {
	p := s.page()
	g := a.Gate
	p.line(1).put(bold, s.Lang.T("approve.title", gateName(g.Spec.Number, g.Name), g.Spec.Environment))
	for _, f := range []struct {
		id    lang.ID
		value string
	}{
		{"approve.release", Label(a.Release)},
		{"release.commit", a.Release.Spec.Commit},
		{"approve.project", a.Release.Namespace},
		{"approve.bundle", a.Bundle.Hash},
		{"approve.as", a.User},
	} {
		p.field(f.id).put(plain, f.value)
	}
	st := a.Release.Status
	l := p.field("release.karma").put(levelColour(st.Karma), s.Lang.T("status.karma-level", st.Karma, st.Level))
	l.put(dim, " · "+s.Lang.T("release.works", st.Works))
	p.images(a)
	p.lacking(a)
	for i := range a.PVs {
		p.clientSaid(&a.PVs[i])
	}
	return p.String()
}

// images compares what will run with what runs.
func (p *page) images(a Approval) {
	if a.Current == nil {
		p.heading(p.Lang.T("approve.images"), p.Lang.T("approve.against-nothing", a.Gate.Spec.Environment))
	} else {
		p.heading(p.Lang.T("approve.images"), p.Lang.T("approve.against", Label(a.Current), a.Gate.Spec.Environment))
	}
	running := map[string]string{}
	if a.Current != nil && a.Current.Status.Bundle != nil {
		for _, i := range a.Current.Status.Bundle.Images {
			running[i.Name] = i.Digest
		}
	}
	for _, i := range a.Release.Status.Bundle.Images {
		now, runs := running[i.Name]
		delete(running, i.Name)
		p.line(2).put(bold, i.Name).put(dim, "  "+i.Repository)
		switch {
		case !runs:
			p.line(4).put(green, p.Lang.T("approve.new")).to(14).put(green, i.Digest)
		case now == i.Digest:
			p.line(4).put(dim, p.Lang.T("approve.same")).to(14).put(plain, i.Digest)
		default:
			p.line(4).put(dim, p.Lang.T("approve.now")).to(14).put(red, now)
			p.line(4).put(dim, p.Lang.T("approve.then")).to(14).put(green, i.Digest)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		p.line(2).put(bold, name)
		p.line(4).put(dim, p.Lang.T("approve.gone")).to(14).put(red, running[name])
	}
	p.otherChanges(a)
}

func (p *page) otherChanges(a Approval) {
	if a.Current == nil || a.Current.Status.Bundle == nil {
		return
	}
	for _, e := range a.Current.Status.Bundle.Environments {
		if e.Environment != a.Bundle.Environment {
			continue
		}
		for _, part := range []struct {
			id        lang.ID
			now, then string
		}{
			{"approve.compose", e.ComposeHash, a.Bundle.ComposeHash},
			{"approve.values", e.ValuesHash, a.Bundle.ValuesHash},
		} {
			what, c := p.Lang.T("approve.unchanged"), dim
			if part.now != part.then {
				what, c = p.Lang.T("approve.changed"), yellow
			}
			p.line(2).put(bold, p.Lang.T(part.id)).put(plain, "  ").put(c, what)
		}
	}
}

// lacking lists what the gate misses beside an approval.
func (p *page) lacking(a Approval) {
	approvals := map[string]bool{}
	for _, c := range a.Gate.Spec.Criteria {
		approvals[c.Name] = c.Approval != nil
	}
	verdict := verdictOf(a.Release, a.Gate.Name)
	p.heading(p.Lang.T("approve.lacking"))
	if verdict == nil {
		p.line(2).put(yellow, "… ").put(plain, p.Lang.T("status.not-judged"))
		return
	}
	found := false
	for _, c := range verdict.Criteria {
		if c.Verdict == v1alpha1.VerdictPassed || approvals[c.Name] {
			continue
		}
		found = true
		mark, col := verdictMark(c.Verdict)
		p.wrapped(p.line(2).put(col, mark+" ").put(bold, c.Name).put(plain, "  "), plain, c.Message)
		if c.Needs != "" {
			p.wrapped(p.line(4).put(yellow, "→ "), plain, c.Needs)
		}
	}
	if !found {
		p.line(2).put(green, "✓ ").put(plain, p.Lang.T("approve.nothing-lacking"))
	}
}

// clientSaid shows a PV's decision and its reservations.
func (p *page) clientSaid(pv *v1alpha1.PV) {
	p.heading(p.Lang.T("kind.pv"), pv.Name)
	p.line(2).put(plain, p.pvState(pv))
	if pv.Status.Reason != "" {
		p.wrapped(p.line(2), red, "« "+pv.Status.Reason+" »")
	}
	p.reservations(pv.Status.Reservations)
}

func (p *page) reservations(list []v1alpha1.Reservation) {
	for i, r := range list {
		l := p.line(2).put(yellow, strconv.Itoa(i+1)+". ")
		text := r.Text
		if r.Owner != "" {
			text += " — " + r.Owner
		}
		if r.Deadline != "" {
			text += " — " + p.Lang.T("pv.deadline", r.Deadline)
		}
		p.wrapped(l, plain, text)
	}
}

// pvState is a PV's state in one line.
func (p *page) pvState(pv *v1alpha1.PV) string {
	switch {
	case pv.Status.Decision != "" && pv.Status.SignedAt != nil:
		return p.Lang.T("pv.decided", p.pvDecision(pv.Status.Decision), pv.Status.SignedBy, p.at(pv.Status.SignedAt.Time))
	case pv.Status.Decision != "":
		return p.pvDecision(pv.Status.Decision)
	}
	if ready := condition(pv.Status.Conditions, v1alpha1.ConditionReady); ready != nil &&
		ready.Reason == v1alpha1.ReasonBadSignature {
		return p.Lang.T("pv.bad-signature", ready.Message)
	}
	if pv.Spec.Signature != "" {
		return p.Lang.T("pv.being-verified")
	}
	return p.Lang.T("pv.awaiting")
}

func (p *page) pvDecision(d v1alpha1.PVDecision) string {
	if id := lang.ID("pv.decision." + string(d)); lang.Known(id) {
		return p.Lang.T(id)
	}
	return string(d)
}
