// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Bridge is all that there is to see of a project.
type Bridge struct {
	// Namespace is the project's name.
	Namespace string
	// Project is nil for somebody who may not read it.
	Project      *v1alpha1.Project
	Environments []v1alpha1.Environment
	Gates        []v1alpha1.QualityGate
	Releases     []v1alpha1.Release
	// PVs are empty for somebody who may not read them.
	PVs []v1alpha1.PV
}

// Geometry of the picture, in columns.
const (
	deckStart    = 9  // where the first gate stands, after the word for the beginning of the deck
	minSpan      = 16 // narrower, and the picture stands upright instead
	maxSpan      = 30
	uprightStart = 6 // the same for an upright picture
	uprightSpan  = 6
)

// Limits of the lists under the picture.
const (
	maxCrossing = 12
	maxFallen   = 5
)

// Order sorts environments along the bridge: each after the one that its spec names, by name where two follow the same.
// Environments that are part of a circle or follow something unknown come last.
func Order(environments []v1alpha1.Environment) []v1alpha1.Environment {
	sorted := slices.SortedFunc(slices.Values(environments), func(a, b v1alpha1.Environment) int {
		return cmp.Compare(a.Name, b.Name)
	})
	var ordered []v1alpha1.Environment
	placed := map[string]bool{}
	var place func(after string)
	place = func(after string) {
		for _, e := range sorted {
			if e.Spec.After == after && !placed[e.Name] {
				placed[e.Name] = true
				ordered = append(ordered, e)
				place(e.Name)
			}
		}
	}
	place("")
	for _, e := range sorted {
		if !placed[e.Name] {
			placed[e.Name] = true
			ordered = append(ordered, e)
		}
	}
	return ordered
}

// Newest sorts releases, the newest first.
func Newest(releases []v1alpha1.Release) []v1alpha1.Release {
	return slices.SortedStableFunc(slices.Values(releases), func(a, b v1alpha1.Release) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// span is one environment of the picture with the gates in front of it; of a module, of which nothing is deployed, one gate,
// and behind the last what is published.
type span struct {
	env     v1alpha1.Environment   // of a module without a name, and current is what was published last
	place   string                 // what is written on its stretch
	gates   []v1alpha1.QualityGate // by number
	current *v1alpha1.Release      // what stands there, when it still exists
	column  int                    // of its gate
	end     int                    // of its stretch: where the next gate stands, or the deck ends
}

func (b Bridge) spans(s Screen) (spans []span, upright bool) {
	if spans = b.publication(); !b.isModule() || len(spans) == 0 {
		spans = b.deployment()
	}
	start, step := deckStart, 0
	if n := len(spans); n > 0 {
		step = min((s.width()-deckStart)/n, maxSpan)
	}
	if upright = step < minSpan; upright {
		start, step = uprightStart, uprightSpan
	}
	for i := range spans {
		spans[i].column, spans[i].end = start+i*step, start+(i+1)*step
	}
	return spans, upright
}

// deployment are the stretches of an application: its environments.
func (b Bridge) deployment() (spans []span) {
	for _, e := range Order(b.Environments) {
		sp := span{env: e, place: e.Name, gates: b.guards(e.Name)}
		if current := e.Status.Current; current != nil {
			sp.current = b.release(current.Release)
		}
		spans = append(spans, sp)
	}
	return spans
}

// isModule says whether nothing of the project is ever deployed. Somebody who may not read the Project sees it by its gates.
func (b Bridge) isModule() bool {
	if b.Project != nil {
		return b.Project.IsModule()
	}
	return len(b.Environments) == 0
}

// publication are the stretches of a module: its gates, one behind the other.
func (b Bridge) publication() (spans []span) {
	for _, g := range b.guards("") {
		spans = append(spans, span{gates: []v1alpha1.QualityGate{g}})
	}
	if len(spans) == 0 {
		return nil
	}
	last := &spans[len(spans)-1]
	last.place = Guarded("")
	for i := range b.Releases {
		r := &b.Releases[i]
		if p := r.Status.Publication; p != nil && (last.current == nil || last.current.Status.Publication.At.Before(&p.At)) {
			last.current, last.env.Status.Current = r, &v1alpha1.EnvironmentRelease{Release: r.Name, Version: r.Spec.Version}
		}
	}
	return spans
}

// guards are the gates in front of an environment, or of the publication of a module, by number.
func (b Bridge) guards(environment string) (gates []v1alpha1.QualityGate) {
	for _, g := range b.Gates {
		if g.Spec.Environment == environment {
			gates = append(gates, g)
		}
	}
	slices.SortFunc(gates, func(a, b v1alpha1.QualityGate) int {
		return cmp.Or(cmp.Compare(a.Spec.Number, b.Spec.Number), cmp.Compare(a.Name, b.Name))
	})
	return gates
}

func (b Bridge) release(name string) *v1alpha1.Release {
	for i := range b.Releases {
		if b.Releases[i].Name == name {
			return &b.Releases[i]
		}
	}
	return nil
}

// Status draws the bridge of one project: the deck with its gates and what stands on it, then every release on its way
// with what it waits for, then those that fell.
func Status(b Bridge, s Screen) string {
	p := s.page()
	p.title(b)
	spans, upright := b.spans(s)
	if len(spans) == 0 {
		p.wrapped(p.line(2), dim, s.Lang.T("status.no-environments"))
		return p.String()
	}
	p.blank()
	if upright {
		p.uprightPicture(spans)
	} else {
		p.picture(spans)
	}
	p.fleet(spans)
	p.held(b.Held())
	p.debts(Debts(b.Releases))
	p.openReservations(s.Lang.T("reservation.overdue-title"), overdue(OpenReservations(b.PVs, s.Now)))
	p.crossing(b, spans)
	p.fallen(b, spans)
	p.blank()
	p.legend()
	return p.String()
}

func (p *page) title(b Bridge) {
	l := p.line(1)
	if b.Project == nil {
		l.put(bold, b.Namespace)
		return
	}
	if name := b.Project.Spec.DisplayName; name != "" && name != b.Namespace {
		l.put(bold, name).put(dim, " · ").put(plain, b.Namespace)
	} else {
		l.put(bold, b.Namespace)
	}
	karma, level := b.Project.Status.Karma, b.Project.Status.Level
	right := p.Lang.T("status.project-karma", karma)
	start := p.width() - width(right) - width(level) - 13
	if client := b.Project.Spec.Client.Name; client != "" && start-l.w > 12 {
		l.put(dim, " · ").fit(plain, p.Lang.T("status.for-client", client), start-l.w-2)
	}
	if len(b.Releases) == 0 {
		return
	}
	l.to(start).put(plain, right+" ")
	l.karmaBar(karma).put(levelColour(karma), " "+level)
}

// karmaBar is ten columns wide.
func (l *line) karmaBar(karma int32) *line {
	full := l.w + int(min(max(karma, 0), 100))/10
	end := l.w + 10
	return l.fill(levelColour(karma), "█", full).fill(dim, "░", end)
}

func levelColour(karma int32) colour {
	switch {
	case karma >= 100:
		return divine
	case karma >= 60:
		return green
	case karma >= 40:
		return yellow
	}
	return red
}

// picture draws the deck from left to right, a gate before each environment.
func (p *page) picture(spans []span) {
	gates, towers, deck := p.line(0), p.line(0), p.line(1)
	deck.put(dim, p.Lang.T("status.push")+" ")
	for _, sp := range spans {
		step := sp.end - sp.column
		gates.to(sp.column)
		p.gateLabel(gates, sp, step-1)
		towers.to(sp.column).put(cyan, "║")
		deck.fill(cyan, "═", sp.column)
		if sp.place == "" {
			deck.put(cyan, "╬══")
			continue
		}
		deck.put(cyan, "╬══ ").fit(bold, sp.place, step-6).put(plain, " ")
	}
	deck.fill(cyan, "═", spans[len(spans)-1].end-1).put(cyan, "▶")
	for _, row := range []func(*line, span, int){p.standing, p.health, p.karma, p.hosts} {
		l := p.line(0)
		for _, sp := range spans {
			l.to(sp.column).put(cyan, "║").to(sp.column + 2)
			if sp.place != "" {
				row(l, sp, sp.end-sp.column-3)
			}
		}
	}
}

// uprightPicture draws the same from top to bottom, for narrow terminals and long bridges.
func (p *page) uprightPicture(spans []span) {
	p.line(1).put(dim, p.Lang.T("status.push"))
	for _, sp := range spans {
		p.line(3).put(cyan, "║")
		p.gateLabel(p.line(2).put(cyan, "═╬═ "), sp, p.width()-8)
		if sp.place == "" {
			continue
		}
		p.line(3).put(cyan, "║  ").fit(bold, sp.place, p.width()-8)
		for _, row := range []func(*line, span, int){p.standing, p.health, p.karma, p.hosts} {
			if row(p.line(3).put(cyan, "║").to(8), sp, p.width()-8); sp.env.Status.Current == nil {
				break
			}
		}
	}
	p.line(3).put(cyan, "▼")
}

// gateLabel names the gates in front of an environment and how many releases wait there.
func (p *page) gateLabel(l *line, sp span, room int) {
	if len(sp.gates) == 0 {
		l.fit(red, p.Lang.T("status.no-gate"), room)
		return
	}
	end := l.w + room
	for i, g := range sp.gates {
		if i > 0 {
			l.put(dim, " ")
		}
		l.fit(bold, gateName(g.Spec.Number, g.Name), end-l.w)
		if g.Status.Waiting > 0 {
			l.fit(yellow, p.Lang.T("status.gate-waiting", g.Status.Waiting), end-l.w)
		}
	}
}

// standing names the release in an environment.
func (p *page) standing(l *line, sp span, room int) {
	current := sp.env.Status.Current
	switch {
	case current == nil:
		l.put(dim, "—")
	case current.Version == "" || current.Version == current.Release:
		l.fit(bold, current.Release, room)
	case width(current.Version)+1+width(current.Release) <= room:
		l.put(bold, current.Version).put(dim, " "+current.Release)
	default:
		l.fit(bold, current.Version, room)
	}
}

// health says how the release in an environment fares.
func (p *page) health(l *line, sp span, room int) {
	if sp.env.Status.Current == nil {
		return
	}
	phase, since := v1alpha1.PhaseAuthorized, ""
	if sp.env.Name == "" {
		phase, since = v1alpha1.ReasonPublished, p.age(sp.current.Status.Publication.At.Time)
	} else if e := standing(sp.current, sp.env.Name); e != nil {
		phase = e.Phase
		if e.HealthySince != nil && phase == v1alpha1.PhaseHealthy {
			since = p.age(e.HealthySince.Time)
		}
	} else if ready := condition(sp.env.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		phase = ready.Reason
	}
	mark, c := phaseMark(phase)
	text := mark + " " + p.phase(phase)
	l.put(c, roomiest(room, text+" "+since, text+" "+firstUnit(since), text))
}

func (p *page) karma(l *line, sp span, room int) {
	if sp.current == nil {
		return
	}
	st := sp.current.Status
	text := p.Lang.T("status.karma-level", st.Karma, st.Level)
	if word := p.Lang.T("status.karma") + " "; width(word)+width(text) <= room {
		l.put(dim, word)
	}
	l.fit(levelColour(st.Karma), text, room)
}

// roomiest is the first form that fits, or the last one, cut.
func roomiest(room int, forms ...string) string {
	for _, form := range forms {
		if width(form) <= room {
			return form
		}
	}
	return cut(forms[len(forms)-1], room)
}

// firstUnit shortens a duration: "2 d 4 h" to "2 d".
func firstUnit(duration string) string {
	number, rest, _ := strings.Cut(duration, " ")
	unit, _, _ := strings.Cut(rest, " ")
	return number + " " + unit
}

func (p *page) hosts(l *line, sp span, room int) {
	status := sp.env.Status
	switch {
	case status.Current == nil, sp.env.Name == "":
	case sp.env.Spec.Hosts == nil:
		l.fit(dim, p.Lang.T("status.external"), room)
	case status.HostsMatched == 0:
		l.fit(yellow, p.Lang.T("status.no-hosts"), room)
	default:
		c := dim
		if status.HostsReady < status.HostsMatched {
			c = yellow
		}
		l.fit(c, p.Lang.T("status.hosts", status.HostsReady, status.HostsMatched), room)
	}
}

// fleet lists hosts one by one where there is something to say of them: they are not all as they should be, or wait.
func (p *page) fleet(spans []span) {
	titled := false
	for _, sp := range spans {
		st := sp.env.Status
		settled := func(h v1alpha1.EnvironmentHost) bool { return h.Phase == v1alpha1.RolloutHealthy && h.Message == "" }
		if st.Waiting == "" && !slices.ContainsFunc(st.Hosts, func(h v1alpha1.EnvironmentHost) bool { return !settled(h) }) {
			continue
		}
		if !titled {
			p.blank()
			p.line(1).put(bold, strings.ToUpper(p.Lang.T("hosts.title")))
			titled = true
		}
		p.line(2).put(bold, sp.env.Name)
		for _, h := range st.Hosts {
			text := strings.TrimSpace(h.Phase + " " + h.Release)
			if h.Message != "" {
				text = strings.TrimPrefix(text+": "+h.Message, ": ")
			}
			c := yellow
			if settled(h) {
				c = green
			}
			p.wrapped(p.line(4).put(c, h.Name+"  "), plain, text)
		}
		if st.Waiting != "" {
			p.wrapped(p.line(4), dim, p.Lang.T("hosts.waiting", st.Waiting))
		}
	}
}

func (p *page) legend() {
	p.line(1).
		put(green, "✓").put(dim, " "+p.Lang.T("legend.passed")+"   ").
		put(yellow, "…").put(dim, " "+p.Lang.T("legend.waiting")+"   ").
		put(red, "✗").put(dim, " "+p.Lang.T("legend.refused")+"   ").
		put(bold, "●").put(dim, " "+p.Lang.T("legend.here"))
}
