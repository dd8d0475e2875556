// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// fate is where a release belongs in the picture.
type fate int

const (
	crossing fate = iota
	crossed
	superseded
	fallen
)

// fateOf reads it from the condition Ready. A release that nothing has judged yet is on its way.
func fateOf(r *v1alpha1.Release) fate {
	ready := condition(r.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return crossing
	}
	if ready.Status == metav1.ConditionTrue {
		return crossed
	}
	if r.Status.Returned != nil {
		return fallen
	}
	switch ready.Reason {
	case v1alpha1.ReasonCrossed:
		return crossed
	case v1alpha1.ReasonSuperseded:
		return superseded
	case v1alpha1.ReasonRefused, v1alpha1.ReasonRejected, v1alpha1.ReasonRolledBack:
		return fallen
	}
	return crossing
}

// crossing lists the releases on their way, each with its own line under the picture's gates and what it waits for.
func (p *page) crossing(b Bridge, spans []span) {
	var onTheWay []v1alpha1.Release
	for _, r := range Newest(b.Releases) {
		if fateOf(&r) == crossing {
			onTheWay = append(onTheWay, r)
		}
	}
	p.heading(p.Lang.T("status.crossing"))
	if len(onTheWay) == 0 {
		p.wrapped(p.line(2), dim, p.Lang.T("status.none-crossing"))
		return
	}
	for i, r := range onTheWay {
		if i == maxCrossing {
			p.line(2).put(dim, p.Lang.T("status.more", len(onTheWay)-i))
			break
		}
		if i > 0 {
			p.blank()
		}
		p.releaseTitle(p.line(2), &r)
		p.track(p.line(2), &r, spans)
		p.wrapped(p.line(4).put(yellow, "→ "), plain, p.next(&r))
	}
}

// fallen lists the newest of those that a gate refused, a person rejected, the client refused, or a server rolled back.
func (p *page) fallen(b Bridge, spans []span) {
	var down []v1alpha1.Release
	for _, r := range Newest(b.Releases) {
		if fateOf(&r) == fallen {
			down = append(down, r)
		}
	}
	if len(down) == 0 {
		return
	}
	p.heading(p.Lang.T("status.fallen"))
	for i, r := range down {
		if i == maxFallen {
			p.line(2).put(dim, p.Lang.T("status.more", len(down)-i))
			break
		}
		p.releaseTitle(p.line(2), &r)
		p.track(p.line(2), &r, spans)
		p.wrapped(p.line(4).put(red, "✗ "), plain, p.next(&r))
		p.returned(4, &r)
	}
}

// Label is how people call a release: its version when it has one, and its name.
func Label(r *v1alpha1.Release) string {
	if r.Spec.Version != "" && r.Spec.Version != r.Name {
		return r.Spec.Version + " · " + r.Name
	}
	return r.Name
}

func (p *page) releaseTitle(l *line, r *v1alpha1.Release) {
	st := r.Status
	l.fit(bold, Label(r), 40)
	if st.Level != "" {
		if p.width() >= 80 {
			l.to(26)
		}
		l.put(dim, "  "+p.Lang.T("status.karma")+" ").put(levelColour(st.Karma), padLeft(strconv.Itoa(int(st.Karma)), 3)+" ")
		l.karmaBar(st.Karma).put(levelColour(st.Karma), " "+st.Level)
	}
	for _, detail := range []string{r.Spec.Branch, p.createdAge(r)} {
		if room := p.width() - l.w - 3; detail != "" && room >= 6 {
			l.put(dim, " · ").fit(dim, detail, room)
		}
	}
}

func (p *page) createdAge(r *v1alpha1.Release) string {
	if r.CreationTimestamp.IsZero() {
		return ""
	}
	return p.age(r.CreationTimestamp.Time)
}

func padLeft(s string, columns int) string {
	for width(s) < columns {
		s = " " + s
	}
	return s
}

// next is what happens next, or what is missing.
func (p *page) next(r *v1alpha1.Release) string {
	if r.Status.Next != "" {
		return r.Status.Next
	}
	for _, g := range r.Status.Gates {
		if g.Verdict != v1alpha1.VerdictPassed && g.Message != "" {
			return gateName(g.Number, g.Name) + ": " + g.Message
		}
	}
	return p.Lang.T("status.not-judged")
}

// track draws how far a release came: a mark under every gate, a heavy line over what it crossed.
func (p *page) track(l *line, r *v1alpha1.Release, spans []span) {
	rail, c, stopped := "━", green, false
	here := hereIndex(r, spans)
	if here < 0 { // still, or again, with its developer
		l.put(bold, "●")
		rail, c = "─", dim
	}
	for i, sp := range spans {
		l.fill(c, rail, sp.column)
		verdict, judged := v1alpha1.VerdictPassed, false
		for _, g := range sp.gates {
			if v := verdictOf(r, g.Name); v != nil {
				judged = true
				verdict = worse(verdict, v.Verdict)
			}
		}
		authorized := environmentOf(r, sp.env.Name)
		switch {
		case authorized != nil && (!judged || verdict != v1alpha1.VerdictRefused):
			l.put(green, "✓")
			rail, c = phaseRail(authorized.Phase)
		case stopped || !judged:
			l.put(dim, "·")
			rail, c = "─", dim
		default:
			mark, markColour := verdictMark(verdict)
			l.put(markColour, mark)
			rail, c, stopped = "─", dim, true
			if verdict == v1alpha1.VerdictRefused {
				return
			}
			switch {
			case verdict == v1alpha1.VerdictPassed && sp.env.Name == "": // nothing follows but the next gate
				rail, c, stopped = "━", green, false
			case verdict == v1alpha1.VerdictPassed:
				rail, c, stopped = "╍", yellow, false
			}
		}
		if i == here {
			l.fill(c, rail, (sp.column+sp.end)/2).put(bold, "●")
		}
	}
	l.fill(c, rail, spans[len(spans)-1].end)
}

// hereIndex is the farthest stretch on which the release stands now, or -1: an environment, or what a module has published.
func hereIndex(r *v1alpha1.Release, spans []span) int {
	here := -1
	for i, sp := range spans {
		if standing(r, sp.env.Name) != nil || sp.env.Name == "" && sp.place != "" && r.Status.Publication != nil {
			here = i
		}
	}
	return here
}

func phaseRail(phase string) (string, colour) {
	switch phase {
	case v1alpha1.PhaseHealthy:
		return "━", green
	case v1alpha1.PhaseAuthorized, v1alpha1.PhaseDeploying:
		return "╍", yellow
	case v1alpha1.PhaseSuperseded:
		return "━", plain
	}
	return "╍", red
}

func worse(a, b v1alpha1.Verdict) v1alpha1.Verdict {
	for _, v := range []v1alpha1.Verdict{v1alpha1.VerdictRefused, v1alpha1.VerdictWaiting} {
		if a == v || b == v {
			return v
		}
	}
	if a != v1alpha1.VerdictPassed {
		return a
	}
	return b
}

func verdictMark(v v1alpha1.Verdict) (string, colour) {
	switch v {
	case v1alpha1.VerdictPassed:
		return "✓", green
	case v1alpha1.VerdictRefused:
		return "✗", red
	}
	return "…", yellow
}

func phaseMark(phase string) (string, colour) {
	switch phase {
	case v1alpha1.PhaseHealthy, v1alpha1.ReasonReady, v1alpha1.ReasonPublished:
		return "✓", green
	case v1alpha1.PhaseAuthorized, v1alpha1.PhaseDeploying, v1alpha1.ReasonProgressing, v1alpha1.ReasonWaiting,
		v1alpha1.ReasonAwaitingAgent, v1alpha1.ReasonAwaitingSignature:
		return "…", yellow
	case v1alpha1.PhaseSuperseded:
		return "·", dim
	}
	return "✗", red
}

// phase is a phase in words; one that the catalogue does not know stays as it is.
func (p *page) phase(phase string) string {
	if id := lang.ID("phase." + phase); lang.Known(id) {
		return p.Lang.T(id)
	}
	return phase
}

func gateName(number int32, name string) string {
	return "#" + strconv.Itoa(int(number)) + " " + name
}

func verdictOf(r *v1alpha1.Release, gate string) *v1alpha1.GateVerdict {
	for i := range r.Status.Gates {
		if r.Status.Gates[i].Name == gate {
			return &r.Status.Gates[i]
		}
	}
	return nil
}

// environmentOf is the release's record of an environment that it was authorised for; r may be nil.
func environmentOf(r *v1alpha1.Release, environment string) *v1alpha1.ReleaseEnvironment {
	if r == nil {
		return nil
	}
	for i := range r.Status.Environments {
		if r.Status.Environments[i].Name == environment {
			return &r.Status.Environments[i]
		}
	}
	return nil
}

// standing is the same when the release is there now.
func standing(r *v1alpha1.Release, environment string) *v1alpha1.ReleaseEnvironment {
	e := environmentOf(r, environment)
	if e == nil {
		return nil
	}
	switch e.Phase {
	case v1alpha1.PhaseHealthy, v1alpha1.PhaseUnhealthy, v1alpha1.PhaseDeploying, v1alpha1.PhaseAuthorized:
		return e
	}
	return nil
}

func condition(conditions []metav1.Condition, kind string) *metav1.Condition {
	return meta.FindStatusCondition(conditions, kind)
}
