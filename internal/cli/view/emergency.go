// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// Emergency is a gate that somebody is about to open although its criteria do not hold.
type Emergency struct {
	User, Reason string
	Gate         *v1alpha1.QualityGate
	Release      *v1alpha1.Release
	Bundle       v1alpha1.EnvironmentBundle
	// Cost in karma, by the Project's policy; nil for somebody who may not read it.
	Cost *int32
}

// breakable are the standing conditions that break-glass passes over; the others stay in the way. The gates decide: this
// only tells the person beforehand.
var breakable = []string{"(hold)", "(debt)", "(reservations)", "(window)"}

// Bypasses says that break-glass passes over a criterion: over all that a gate declares, and over some that hold always.
func Bypasses(criterion string) bool {
	return !strings.HasPrefix(criterion, "(") || slices.Contains(breakable, criterion)
}

// BreakGlass shows what is passed over, what is in the way all the same, and what it costs.
func BreakGlass(e Emergency, s Screen) string {
	p := s.page()
	p.line(1).put(red, s.Lang.T("glass.title", gateName(e.Gate.Spec.Number, e.Gate.Name), Guarded(e.Gate.Spec.Environment)))
	p.field("approve.release").put(plain, Label(e.Release))
	p.field("approve.project").put(plain, e.Release.Namespace)
	p.digestField("approve.bundle", e.Bundle.Hash)
	p.field("approve.as").put(plain, e.User)
	p.wrapped(p.field("glass.reason"), plain, e.Reason)
	var over, stays []v1alpha1.CriterionVerdict
	verdict := verdictOf(e.Release, e.Gate.Name)
	if verdict != nil {
		for _, c := range verdict.Criteria {
			switch {
			case c.Verdict == v1alpha1.VerdictPassed:
			case Bypasses(c.Name):
				over = append(over, c)
			default:
				stays = append(stays, c)
			}
		}
	}
	p.heading(s.Lang.T("glass.bypassed"))
	p.criteria(over)
	if len(over) == 0 {
		p.line(2).put(dim, s.Lang.T("approve.nothing-lacking"))
	}
	if len(stays) > 0 {
		p.heading(s.Lang.T("glass.stays"))
		p.criteria(stays)
	}
	p.heading(s.Lang.T("glass.cost"))
	if e.Cost == nil {
		p.wrapped(p.line(2).put(red, "✗ "), red, s.Lang.T("glass.cost-unknown"))
	} else {
		p.wrapped(p.line(2).put(red, "✗ "), red, s.Lang.T("glass.cost-karma", *e.Cost, e.Release.Status.Karma, karmaAfter(e.Release, *e.Cost)))
	}
	p.wrapped(p.line(2).put(red, "✗ "), red, s.Lang.T("glass.cost-debt", Guarded(e.Gate.Spec.Environment), e.User, e.Release.Name, e.Gate.Name))
	return p.String()
}

// karmaAfter takes the cost from the sum of the figures, before it is brought into 0–100.
func karmaAfter(r *v1alpha1.Release, cost int32) int32 {
	sum := int32(0)
	for _, k := range r.Status.KarmaBreakdown {
		if k.Name != "clamp" {
			sum += k.Points
		}
	}
	return min(max(sum-cost, 0), 100)
}

// criteria lists what does not hold, each with what would mend it.
func (p *page) criteria(list []v1alpha1.CriterionVerdict) {
	for _, c := range list {
		mark, col := verdictMark(c.Verdict)
		p.wrapped(p.line(2).put(col, mark+" ").put(bold, c.Name).put(plain, "  "), plain, c.Message)
		if c.Needs != "" {
			p.wrapped(p.line(4).put(yellow, "→ "), plain, c.Needs)
		}
	}
}

// digestField is a labelled hash; where it does not fit beside its label, it stands below, whole.
func (p *page) digestField(id lang.ID, hash string) {
	l := p.field(id)
	if l.w+width(hash) > p.width() {
		l = p.line(6)
	}
	l.put(plain, hash)
}
