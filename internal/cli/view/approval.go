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
	// CurrentHash is the bundle that was let into the environment; the environment may have been edited since.
	CurrentHash string
	// Compose are the compose files as far as the caller may read them.
	Compose ComposeTexts
	// PVs of the release.
	PVs []v1alpha1.PV
	// Reservations are the open ones of the whole project, Debts all that are not regularised.
	Reservations []OpenReservation
	Debts        []v1alpha1.Debt
}

// ComposeTexts are the compose file that runs and the one that will; nil where it cannot be read or is not the one that was
// hashed.
type ComposeTexts struct{ Now, Then *string }

// ApprovalSummary shows it: every digest and the compose file beside those that run now, karma figure by figure, what else
// is missing, what the client wrote and what is open in the project.
func ApprovalSummary(a Approval, s Screen) string {
	p := s.page()
	g := a.Gate
	p.line(1).put(bold, s.Lang.T("approve.title", gateName(g.Spec.Number, g.Name), Guarded(g.Spec.Environment)))
	for _, f := range []struct {
		id    lang.ID
		value string
	}{
		{"approve.release", Label(a.Release)},
		{"release.commit", a.Release.Spec.Commit},
		{"approve.project", a.Release.Namespace},
		{"approve.as", a.User},
	} {
		p.field(f.id).put(plain, f.value)
	}
	p.digestField("approve.bundle", a.Bundle.Hash)
	st := a.Release.Status
	l := p.field("release.karma").put(levelColour(st.Karma), s.Lang.T("status.karma-level", st.Karma, st.Level))
	l.put(dim, " · "+s.Lang.T("release.works", st.Works))
	if st.Earliest != "" {
		p.wrapped(p.field("release.earliest"), plain, st.Earliest)
	}
	p.images(a)
	p.composeDiff(a.Compose)
	p.karmaBreakdown(a.Release, a.Current)
	p.lacking(a)
	for i := range a.PVs {
		p.clientSaid(&a.PVs[i])
	}
	p.openReservations(s.Lang.T("reservation.open-title"), a.Reservations)
	p.debts(a.Debts)
	return p.String()
}

// images compares what will run with what runs.
func (p *page) images(a Approval) {
	if a.Gate.Spec.Environment == "" {
		p.heading(p.Lang.T("approve.artifacts"))
		p.artifacts(a.Release)
		return
	}
	if a.Current == nil {
		p.heading(p.Lang.T("approve.images"), p.Lang.T("approve.against-nothing", a.Gate.Spec.Environment))
	} else {
		p.heading(p.Lang.T("approve.images"), p.Lang.T("approve.against", Label(a.Current), a.Gate.Spec.Environment))
	}
	running := map[string]string{}
	if a.Current != nil {
		for _, i := range pinned(a.Current.Status.Bundle) {
			running[i.Name] = i.Digest
		}
	}
	for _, i := range pinned(a.Release.Status.Bundle) {
		now, runs := running[i.Name]
		delete(running, i.Name)
		p.line(2).put(bold, i.Name).put(dim, "  "+i.Repository)
		switch {
		case !runs:
			p.digest("approve.new", green, i.Digest)
		case now == i.Digest:
			p.digest("approve.same", plain, i.Digest)
		default:
			p.digest("approve.now", red, now)
			p.digest("approve.then", green, i.Digest)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		p.line(2).put(bold, name)
		p.digest("approve.gone", red, running[name])
	}
	p.otherChanges(a)
}

// pinned are the project's images and then the others, by the reference that compose files name.
func pinned(b *v1alpha1.Bundle) []v1alpha1.FrozenImage {
	if b == nil {
		return nil
	}
	all := slices.Clone(b.Images)
	for _, pin := range b.Pins {
		all = append(all, v1alpha1.FrozenImage{Name: pin.Reference, Digest: pin.Digest})
	}
	return all
}

// digest is a labelled digest of an image; where it does not fit beside its label, it stands below, whole.
func (p *page) digest(id lang.ID, c colour, digest string) {
	l := p.line(4).put(dim, p.Lang.T(id)).to(14)
	if l.w+width(digest) > p.width() {
		l = p.line(6)
	}
	l.put(c, digest)
}

// otherChanges compares by hash. An environment that was edited since has no hashes any more of what runs.
func (p *page) otherChanges(a Approval) {
	if a.Current == nil || a.Current.Status.Bundle == nil {
		return
	}
	for _, e := range a.Current.Status.Bundle.Environments {
		if e.Environment != a.Bundle.Environment {
			continue
		}
		if a.CurrentHash != "" && e.Hash != a.CurrentHash {
			p.wrapped(p.line(2), yellow, p.Lang.T("approve.edited", e.Environment, Label(a.Current)))
			return
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
			l := p.line(2).put(bold, p.Lang.T(part.id)).put(plain, "  ").put(c, what)
			if part.id == "approve.compose" && part.now != part.then && (a.Compose.Now == nil || a.Compose.Then == nil) {
				l.put(dim, " · "+p.Lang.T("approve.unreadable"))
			}
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
	missing := slices.DeleteFunc(slices.Clone(verdict.Criteria), func(c v1alpha1.CriterionVerdict) bool {
		return c.Verdict == v1alpha1.VerdictPassed || approvals[c.Name]
	})
	p.criteria(missing)
	if len(missing) == 0 {
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
		p.wrapped(p.line(2).put(yellow, strconv.Itoa(i+1)+". "), plain, p.reservation(r))
		if r.Lifted != "" {
			p.wrapped(p.line(5).put(green, "✓ "), dim, p.Lang.T("reservation.lifted", r.Lifted))
		}
	}
}

func (p *page) reservation(r v1alpha1.Reservation) string {
	text := r.Text
	if r.Owner != "" {
		text += " — " + r.Owner
	}
	if r.Deadline != "" {
		text += " — " + p.Lang.T("pv.deadline", r.Deadline)
	}
	return text
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
