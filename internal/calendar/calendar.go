// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"errors"
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // Hosts may have no zone files.

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	// DefaultTimeZone is the zone of a window that names none, as in the schema of v1alpha1.Window.
	DefaultTimeZone = "Europe/Paris"
	// Horizon is how far ahead an answer is sought: 2 years.
	Horizon = 2 * 366 * 24 * time.Hour
	// MinDuration is the shortest period, as in the schema of v1alpha1.Period.
	MinDuration = time.Minute
	// MaxDuration is the longest, and so how far back the occurrence may have begun that holds now.
	MaxDuration = 366 * 24 * time.Hour
	// maxPeriods bounds allow and deny each, as in the schema.
	maxPeriods = 16
)

// looks are how far ahead the next change is sought, one after the other: most windows change within a week or so, and a
// search over two years costs a hundred times more.
var looks = [...]time.Duration{8 * 24 * time.Hour, 64 * 24 * time.Hour, Horizon}

// Calendar is a window that was read and checked. It is immutable and safe for concurrent use. Make it with Compile.
type Calendar struct {
	zone        *time.Location
	allow, deny []period
	holidays    dates
	countries   []string
}

// period is a v1alpha1.Period that was read.
type period struct {
	field  string // For people: allow[1].
	reason string
	lasts  time.Duration
	rule   *rule     // Nil: it happens once.
	once   time.Time // When, if rule is nil.
}

// Answer says whether a gate may open at an instant.
type Answer struct {
	// Whether it may.
	Open bool
	// The exact instant at which Open changes. Zero if it never does within Horizon.
	Until time.Time
	// Why, and what comes next, in plain English. It speaks of the instant's date but never of its time, so that it stays
	// the same while nothing happens.
	Reason string
	// Until when Reason stays the same at least: never after Until.
	Steady time.Time
}

// Compile reads a window and refuses what it cannot keep: errors name the field, like "allow[1].rrule: never occurs".
// It is not cheap (each rule is searched for its first occurrence): keep the Calendar as long as the window stays.
func Compile(w v1alpha1.Window) (*Calendar, error) {
	zone, err := loadZone(w.TimeZone)
	if err != nil {
		return nil, err
	}
	c := &Calendar{zone: zone, countries: slices.Clone(w.Countries)}
	if c.allow, err = compilePeriods("allow", w.Allow, zone); err != nil {
		return nil, err
	}
	if c.deny, err = compilePeriods("deny", w.Deny, zone); err != nil {
		return nil, err
	}
	if c.holidays, err = parseDates(w.Holidays); err != nil {
		return nil, err
	}
	if err := checkCountries(c.countries); err != nil {
		return nil, err
	}
	return c, nil
}

func loadZone(name string) (*time.Location, error) {
	if name == "" {
		name = DefaultTimeZone
	}
	if name == "Local" {
		return nil, errors.New("timeZone: Local depends on the host: give a zone like Europe/Paris")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("timeZone: %q is not a zone of the IANA database, like Europe/Paris", name)
	}
	return zone, nil
}

func compilePeriods(field string, list []v1alpha1.Period, zone *time.Location) ([]period, error) {
	if len(list) > maxPeriods {
		return nil, fmt.Errorf("%s: %d periods, more than %d", field, len(list), maxPeriods)
	}
	var compiled []period
	for i, p := range list {
		one, err := compilePeriod(fmt.Sprintf("%s[%d]", field, i), p, zone)
		if err != nil {
			return nil, err
		}
		compiled = append(compiled, one)
	}
	return compiled, nil
}

func compilePeriod(field string, p v1alpha1.Period, zone *time.Location) (period, error) {
	lasts := p.Duration.Duration
	if lasts < MinDuration || lasts > MaxDuration {
		return period{}, fmt.Errorf("%s.duration: %s is not from 1m to 8784h (366 days)", field, lasts)
	}
	s, err := parseStart(p.Start)
	if err != nil {
		return period{}, fmt.Errorf("%s.start: %w", field, err)
	}
	compiled := period{field: field, reason: p.Reason, lasts: lasts}
	if p.RRule == "" {
		if !s.dated {
			return period{}, fmt.Errorf("%s.start: %q has no date: without an rrule the period happens once, "+
				"give the day like 2026-12-20T18:00", field, p.Start)
		}
		compiled.once = s.day.at(s.minute).in(zone)
		return compiled, nil
	}
	if compiled.rule, err = parseRule(p.RRule, s, zone); err != nil {
		return period{}, fmt.Errorf("%s.rrule: %w", field, err)
	}
	return compiled, nil
}

// NextOpen is t if a gate may open then, otherwise the first instant at which it may; false if there is none within
// Horizon.
func (c *Calendar) NextOpen(t time.Time) (time.Time, bool) {
	open, until := c.change(t)
	if open {
		return t, true
	}
	return until, !until.IsZero()
}

// At says whether a gate may open at t.
func (c *Calendar) At(t time.Time) Answer {
	open, until := c.change(t)
	if open {
		return Answer{Open: true, Until: until, Reason: c.whyOpen(t, until), Steady: c.steady(t, until)}
	}
	return Answer{Until: until, Reason: c.whyClosed(t, until), Steady: c.steady(t, until)}
}

// steady is the first moment after t at which the reason may be another one: a new day, or an edge of any period.
func (c *Calendar) steady(t, until time.Time) time.Time {
	end := c.span(localDay(t, c.zone)).end
	if !until.IsZero() && until.Before(end) {
		end = until
	}
	for _, p := range slices.Concat(c.allow, c.deny) {
		for _, s := range p.appendSpans(nil, t, end, c.zone) {
			for _, edge := range []time.Time{s.start, s.end} {
				if edge.After(t) && edge.Before(end) {
					end = edge
				}
			}
		}
	}
	return end.In(c.zone)
}

// change says whether t is open and when that changes; zero if not within Horizon.
func (c *Calendar) change(t time.Time) (open bool, until time.Time) {
	for _, look := range looks {
		end := t.Add(look)
		closed := merge(append(c.spansOf(c.deny, t, end), c.holidaySpans(t, end)...))
		allowed := []span{{t, end}}
		if len(c.allow) > 0 {
			allowed = merge(c.spansOf(c.allow, t, end))
		}
		if open, until = firstChange(allowed, closed, t); until.Before(end) && !until.IsZero() {
			return open, until.In(c.zone)
		}
	}
	return open, time.Time{}
}

// firstChange walks merged spans forward from t. What it returns is exact as far as the spans were looked up.
func firstChange(allowed, closed []span, t time.Time) (open bool, until time.Time) {
	allowed, closed = since(allowed, t), since(closed, t)
	if open = covers(allowed, t) && !covers(closed, t); open {
		until = allowed[0].end
		if len(closed) > 0 && closed[0].start.Before(until) {
			until = closed[0].start
		}
		return true, until
	}
	for at := t; ; {
		allowed, closed = since(allowed, at), since(closed, at)
		switch {
		case len(allowed) == 0:
			return false, time.Time{}
		case covers(closed, at):
			at = closed[0].end
		case !covers(allowed, at):
			at = allowed[0].start
		default:
			return false, at
		}
	}
}

// span is the time from start, included, to end, excluded.
type span struct{ start, end time.Time }

func (s span) contains(t time.Time) bool { return !t.Before(s.start) && t.Before(s.end) }

// since drops the spans that are over at t.
func since(spans []span, t time.Time) []span {
	for len(spans) > 0 && !spans[0].end.After(t) {
		spans = spans[1:]
	}
	return spans
}

// covers says whether the first span contains t.
func covers(spans []span, t time.Time) bool { return len(spans) > 0 && spans[0].contains(t) }

// merge sorts spans, and makes one of those that overlap or touch.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.start.Compare(b.start) })
	var merged []span
	for _, s := range spans {
		merged = appendMerged(merged, s)
	}
	return merged
}

// appendMerged appends a span, or makes the last one longer if that is the same time.
func appendMerged(spans []span, s span) []span {
	if i := len(spans) - 1; i >= 0 && !s.start.Before(spans[i].start) && !s.start.After(spans[i].end) {
		if s.end.After(spans[i].end) {
			spans[i].end = s.end
		}
		return spans
	}
	return append(spans, s)
}

// spansOf are the occurrences of the periods that touch the time from begin to end, also those that began before.
func (c *Calendar) spansOf(periods []period, begin, end time.Time) []span {
	var spans []span
	for _, p := range periods {
		spans = p.appendSpans(spans, begin, end, c.zone)
	}
	return spans
}

func (p period) appendSpans(spans []span, begin, end time.Time, zone *time.Location) []span {
	touches := func(s span) bool { return s.end.After(begin) && s.start.Before(end) }
	if p.rule == nil {
		if s := (span{p.once, p.once.Add(p.lasts)}); touches(s) {
			spans = append(spans, s)
		}
		return spans
	}
	// A day more at both ends: a start that the clock skips falls after its wall time, possibly on the next day.
	first, last := localDay(begin.Add(-p.lasts), zone)-1, localDay(end, zone)+1
	for w := range p.rule.walls(first, last) {
		start := w.in(zone)
		if s := (span{start, start.Add(p.lasts)}); touches(s) && !p.rule.isOver(start) {
			spans = appendMerged(spans, s)
		}
	}
	return spans
}

// holidaySpans are the holidays that touch the time from begin to end, each from its midnight to the next.
func (c *Calendar) holidaySpans(begin, end time.Time) []span {
	var spans []span
	first, last := localDay(begin, c.zone), localDay(end, c.zone)
	add := func(d day) {
		if s := c.span(d); s.start.Before(s.end) { // A zone that crossed the date line skipped a date.
			spans = append(spans, s)
		}
	}
	for d := range c.holidays {
		if d >= first && d <= last {
			add(d)
		}
	}
	for d := range publicHolidays(c.countries, first, last) {
		add(d)
	}
	return spans
}

// span is a local day, 00:00 to 24:00.
func (c *Calendar) span(d day) span { return span{d.at(0).in(c.zone), (d + 1).at(0).in(c.zone)} }
