// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Held are the environments in which nothing opens by itself, in the order of the bridge.
func (b Bridge) Held() []v1alpha1.Environment {
	return slices.DeleteFunc(Order(b.Environments), func(e v1alpha1.Environment) bool { return e.Status.Hold == nil })
}

// Debts are the gates that were opened in an emergency and not regularised since. The condition Debt decides whether there
// is one: the Project says the same, but most members may not read it.
func Debts(releases []v1alpha1.Release) []v1alpha1.Debt {
	var debts []v1alpha1.Debt
	for i := range releases {
		r := &releases[i]
		if c := condition(r.Status.Conditions, v1alpha1.ConditionDebt); c == nil || c.Status != "True" {
			continue
		}
		for _, a := range r.Status.Approvals {
			if a.Decision != v1alpha1.DecisionBrokeGlass || Regularised(r, a.Gate) {
				continue
			}
			d := v1alpha1.Debt{Release: r.Name, Gate: a.Gate, User: a.User, Reason: a.Reason}
			if v := verdictOf(r, a.Gate); v != nil {
				d.Environment = v.Environment
			}
			debts = append(debts, d)
		}
	}
	return debts
}

// Regularised says that the debt of a break-glass at the gate, if there ever was one, is settled.
func Regularised(r *v1alpha1.Release, gate string) bool {
	return slices.ContainsFunc(r.Status.Approvals, func(a v1alpha1.ApprovalRecord) bool {
		return a.Gate == gate && a.Decision == v1alpha1.DecisionRegularised && a.Stale == ""
	})
}

// OpenReservation is one that nobody has settled.
type OpenReservation struct {
	v1alpha1.Reservation
	PV     string
	Number int // from 1
	// Overdue: its day is over.
	Overdue bool
}

// OpenReservations of PVs, as they come. A day ends at midnight UTC, as it does for the gates.
func OpenReservations(pvs []v1alpha1.PV, now time.Time) []OpenReservation {
	var open []OpenReservation
	for _, p := range pvs {
		for i, r := range p.Status.Reservations {
			if r.Lifted != "" {
				continue
			}
			o := OpenReservation{Reservation: r, PV: p.Name, Number: i + 1}
			if day, err := time.Parse(time.DateOnly, r.Deadline); err == nil {
				o.Overdue = !now.Before(day.AddDate(0, 0, 1))
			}
			open = append(open, o)
		}
	}
	return open
}

func overdue(list []OpenReservation) []OpenReservation {
	return slices.DeleteFunc(list, func(r OpenReservation) bool { return !r.Overdue })
}

// Never says that the controllers see no way for a release to the end of the bridge. That is the first word of
// status.earliest then.
func Never(r *v1alpha1.Release) bool { return strings.HasPrefix(r.Status.Earliest, "never") }

// held lists environments on hold, each with the way out.
func (p *page) held(environments []v1alpha1.Environment) {
	if len(environments) == 0 {
		return
	}
	p.heading(p.Lang.T("held.title"))
	for _, e := range environments {
		p.wrapped(p.line(2).put(red, "! ").put(bold, e.Name).put(plain, "  "), plain, e.Status.Hold.Release+" "+e.Status.Hold.Message)
		p.wrapped(p.line(4).put(yellow, "→ "), plain, "kubectl sirrat resume "+e.Name)
	}
}

// debts lists gates that were opened in an emergency, each with the way out.
func (p *page) debts(debts []v1alpha1.Debt) {
	if len(debts) == 0 {
		return
	}
	p.heading(p.Lang.T("debt.title"))
	for _, d := range debts {
		text := p.Lang.T("debt.line", d.Gate, Guarded(d.Environment), d.User, d.Reason)
		p.wrapped(p.line(2).put(red, "! ").put(bold, d.Release).put(plain, "  "), plain, text)
		p.wrapped(p.line(4).put(yellow, "→ "), plain, p.Lang.T("debt.needs", d.User, d.Release, d.Gate))
	}
}

// openReservations lists reservations of PVs, each with the way out once it is overdue.
func (p *page) openReservations(title string, list []OpenReservation) {
	if len(list) == 0 {
		return
	}
	p.heading(title)
	for _, r := range list {
		l := p.line(2).put(bold, r.PV+" #"+strconv.Itoa(r.Number)).put(plain, "  ")
		if r.Overdue {
			l.put(red, p.Lang.T("reservation.overdue", r.Deadline)+"  ")
			p.wrapped(l, plain, p.reservation(v1alpha1.Reservation{Text: r.Text, Owner: r.Owner}))
			p.wrapped(p.line(4).put(yellow, "→ "), plain, "kubectl sirrat pv lift "+r.PV+" "+strconv.Itoa(r.Number))
			continue
		}
		p.wrapped(l, plain, p.reservation(r.Reservation))
	}
}

// returned says where a release is back, who sent it there and why.
func (p *page) returned(column int, r *v1alpha1.Release) {
	back := r.Status.Returned
	if back == nil {
		return
	}
	text := p.Lang.T("returned.to", back.To)
	if back.Gate != "" {
		text += " · " + p.Lang.T("returned.gate", back.Gate)
	}
	text += " · " + p.Lang.T("returned.by", back.By)
	if !strings.Contains(r.Status.Next, back.Reason) { // it stands right above otherwise
		text += ": " + back.Reason
	}
	p.wrapped(p.line(column).put(red, "← "), plain, text)
}

// opens is when a gate can open, in the words of its figures; "" when nothing is known of it.
func (p *page) opens(g v1alpha1.GateVerdict) string {
	switch {
	case g.Earliest != nil:
		return p.until(g.Earliest.Time)
	case g.EarliestAfter != nil && g.EarliestAfter.Duration > 0:
		return p.Lang.T("when.after", p.Lang.Duration(g.EarliestAfter.Duration))
	case g.EarliestAfter != nil:
		return p.Lang.T("when.at-once")
	}
	return ""
}

// When draws when a release can be in the last environment at the earliest, and gate by gate what is in its way.
func When(project string, r *v1alpha1.Release, s Screen) string {
	p := s.page()
	p.line(1).put(bold, Label(r)).put(dim, " · ").put(plain, project)
	switch {
	case len(r.Status.Gates) == 0:
		p.wrapped(p.line(1), dim, s.Lang.T("status.not-judged"))
		return p.String()
	case r.Status.Earliest == "":
		p.wrapped(p.line(1).put(green, "✓ "), bold, s.Lang.T("when.through"))
	case Never(r):
		p.wrapped(p.line(1).put(red, "✗ "), bold, r.Status.Earliest)
	default:
		p.wrapped(p.line(1).put(yellow, "→ "), bold, r.Status.Earliest)
	}
	p.returned(1, r)
	p.blank()
	column := 0
	for _, g := range r.Status.Gates {
		column = max(column, width(gateName(g.Number, g.Name)+" → "+Guarded(g.Environment)))
	}
	column = min(column, p.width()/2)
	for _, g := range r.Status.Gates {
		mark, c := verdictMark(g.Verdict)
		l := p.line(2).put(c, mark+" ").fit(bold, gateName(g.Number, g.Name)+" → "+Guarded(g.Environment), column).to(column + 6)
		switch opens := p.opens(g); {
		case g.Verdict == v1alpha1.VerdictPassed:
			l.put(dim, p.verdict(g.Verdict))
		case opens != "":
			p.wrapped(l, plain, opens)
		default:
			l.put(c, p.verdict(g.Verdict))
		}
		for _, needs := range g.WaitingFor {
			p.wrapped(p.line(6).put(yellow, "→ "), plain, needs)
		}
		if len(g.WaitingFor) == 0 && g.Verdict != v1alpha1.VerdictPassed && g.Message != "" {
			p.wrapped(p.line(6), plain, g.Message)
		}
	}
	return p.String()
}

// Hold draws why nothing opens by itself in an environment.
func Hold(e *v1alpha1.Environment, s Screen) string {
	p := s.page()
	p.line(1).put(bold, e.Namespace).put(dim, " · ").put(bold, e.Name)
	p.wrapped(p.line(1).put(red, "! "), plain, e.Status.Hold.Release+" "+e.Status.Hold.Message)
	return p.String()
}
