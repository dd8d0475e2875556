// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/teambition/rrule-go"
)

// Bounds of a rule. They bound the work that somebody who may write a gate can ask for.
const (
	// maxLength is how long its text may be, as in the schema of v1alpha1.Period.
	maxLength = 500
	// maxPerDay is how often a rule may occur in a day: as often as the clock strikes.
	maxPerDay = 24
	// maxInterval is the greatest INTERVAL. 10000 hours are more than a year.
	maxInterval = 10_000
	// maxCount is the greatest COUNT.
	maxCount = 10_000
	// scanDays is how far from its start a rule must occur for the first time, and how far COUNT is counted: a century.
	// 29 February on a given weekday comes back after at most 40 years.
	scanDays = 36_525
)

// undatedFrom is where the search for the first occurrence begins if the start has no date.
var undatedFrom = dayOf(2000, time.January, 1)

// rule is a recurrence in wall time. Immutable.
type rule struct {
	freq     rrule.Frequency
	interval int
	wkst     int // Monday is 0.

	dated   bool      // Whether from holds: without a date in its start, a rule has always been.
	from    wall      // The first wall time that may be an occurrence.
	counted bool      // Whether to holds.
	to      wall      // The last occurrence, of a rule with COUNT.
	until   time.Time // UNTIL, the last instant that may be an occurrence; zero: none.

	months, monthDays, yearDays, weekNumbers []int
	weekdays                                 []int // Every such weekday.
	nthWeekdays                              []nthWeekday

	positions []int // BYSETPOS
	minutes   []int // Minutes of the day at which it occurs; for HOURLY, those of the hours that BYHOUR leaves.
}

type nthWeekday struct{ n, weekday int }

// start is a parsed Period.Start.
type start struct {
	dated  bool
	day    day // Only if dated.
	minute int // Of the day.
}

func parseStart(s string) (start, error) {
	const dated, undated = "2006-01-02T15:04", "15:04"
	// time.Parse takes 9:00 for 15:04: the length makes it strict.
	if t, err := time.Parse(dated, s); err == nil && len(s) == len(dated) {
		return start{dated: true, day: dayOf(t.Date()), minute: t.Hour()*60 + t.Minute()}, nil
	}
	t, err := time.Parse(undated, s)
	if err != nil || len(s) != len(undated) {
		return start{}, fmt.Errorf("%q is neither a local date and time like 2026-12-20T18:00 nor a time like 09:00", s)
	}
	return start{minute: t.Hour()*60 + t.Minute()}, nil
}

// parseRule reads a recurrence rule and refuses what RFC 5545 forbids, what nobody means, and what costs too much.
func parseRule(text string, s start, zone *time.Location) (*rule, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("longer than %d characters", maxLength)
	}
	given, err := parts(text)
	if err != nil {
		return nil, err
	}
	o, err := rrule.StrToROptionInLocation(text, time.UTC)
	if err != nil {
		return nil, err
	}
	if _, err := rrule.NewRRule(rrule.ROption{
		Freq: o.Freq, Dtstart: s.day.midnight(), Interval: o.Interval, Byhour: o.Byhour, Byminute: o.Byminute,
		Bymonth: o.Bymonth, Bymonthday: o.Bymonthday, Byyearday: o.Byyearday, Byweekno: o.Byweekno,
		Byweekday: o.Byweekday, Bysetpos: o.Bysetpos,
	}); err != nil {
		return nil, err
	}
	for _, check := range []func(map[string]string, *rrule.ROption, start) error{
		checkParts, checkBounds, checkCombinations, checkDated,
	} {
		if err := check(given, o, s); err != nil {
			return nil, err
		}
	}
	r := newRule(o, s)
	if len(r.minutes) > maxPerDay {
		return nil, fmt.Errorf("occurs %d times a day, more than %d", len(r.minutes), maxPerDay)
	}
	if err := r.readUntil(given["UNTIL"], zone); err != nil {
		return nil, err
	}
	return r, r.count(o.Count, zone)
}

// parts splits a rule into its parts, to see what was given: rrule-go takes the last of two and does not say.
func parts(text string) (map[string]string, error) {
	given := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("%s is given twice", name)
		}
		given[name] = value
	}
	return given, nil
}

func checkParts(given map[string]string, _ *rrule.ROption, _ start) error {
	for name := range given {
		switch name {
		case "FREQ", "INTERVAL", "WKST", "COUNT", "UNTIL", "BYSETPOS", "BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO",
			"BYDAY", "BYHOUR", "BYMINUTE":
		case "DTSTART":
			return errors.New("DTSTART does not belong here: give it in start")
		case "BYSECOND":
			return errors.New("BYSECOND is refused: periods start on whole minutes")
		default:
			return fmt.Errorf("%q is not part of a rule", name)
		}
	}
	return nil
}

func checkBounds(given map[string]string, o *rrule.ROption, _ start) error {
	if o.Freq > rrule.HOURLY {
		return fmt.Errorf("FREQ=%s is refused: HOURLY is the most frequent", o.Freq)
	}
	if _, ok := given["INTERVAL"]; ok && (o.Interval < 1 || o.Interval > maxInterval) {
		return fmt.Errorf("INTERVAL must be from 1 to %d", maxInterval)
	}
	if _, ok := given["COUNT"]; ok && (o.Count < 1 || o.Count > maxCount) {
		return fmt.Errorf("COUNT must be from 1 to %d", maxCount)
	}
	if o.Wkst.N() != 0 {
		return errors.New("WKST must be a weekday, without a number")
	}
	return nil
}

// checkCombinations refuses what RFC 5545 section 3.3.10 says must not be given together.
func checkCombinations(given map[string]string, o *rrule.ROption, _ start) error {
	has := func(name string) bool { _, ok := given[name]; return ok }
	numbered := slices.ContainsFunc(o.Byweekday, func(w rrule.Weekday) bool { return w.N() != 0 })
	for _, c := range []struct {
		refused bool
		because string
	}{
		{has("COUNT") && has("UNTIL"), "give COUNT or UNTIL, not both"},
		{has("BYWEEKNO") && o.Freq != rrule.YEARLY, "BYWEEKNO needs FREQ=YEARLY"},
		{has("BYWEEKNO") && !has("BYDAY"), "BYWEEKNO needs BYDAY: all days of a week, or which?"},
		{has("BYWEEKNO") && has("WKST") && o.Wkst.Day() != 0, "BYWEEKNO needs weeks that start on Monday: leave out WKST"},
		{has("BYYEARDAY") && (o.Freq == rrule.MONTHLY || o.Freq == rrule.WEEKLY || o.Freq == rrule.DAILY),
			"BYYEARDAY does not go with FREQ=" + o.Freq.String()},
		{has("BYMONTHDAY") && o.Freq == rrule.WEEKLY, "BYMONTHDAY does not go with FREQ=WEEKLY"},
		{numbered && o.Freq > rrule.MONTHLY, "a number in BYDAY needs FREQ=MONTHLY or YEARLY"},
		{numbered && has("BYWEEKNO"), "a number in BYDAY does not go with BYWEEKNO"},
		{has("BYSETPOS") && o.Freq == rrule.HOURLY, "BYSETPOS does not go with FREQ=HOURLY"},
		{has("BYSETPOS") && !slices.ContainsFunc([]string{"BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY",
			"BYHOUR", "BYMINUTE"}, has), "BYSETPOS chooses among what another BY… part gives: give one"},
	} {
		if c.refused {
			return errors.New(c.because)
		}
	}
	return nil
}

// checkDated asks for a date in the start wherever the occurrences depend on it.
func checkDated(given map[string]string, o *rrule.ROption, s start) error {
	if s.dated {
		return nil
	}
	because := ""
	switch {
	case o.Count > 0:
		because = "COUNT counts"
	case o.Interval > 1:
		because = "INTERVAL counts"
	case namesNoDay(o) && o.Freq < rrule.DAILY:
		because = "a rule that names no day takes it"
	default:
		return nil
	}
	return fmt.Errorf("%s from the first occurrence: give start with its date, like 2026-01-05T09:00", because)
}

func namesNoDay(o *rrule.ROption) bool {
	return len(o.Byweekno) == 0 && len(o.Byyearday) == 0 && len(o.Bymonthday) == 0 && len(o.Byweekday) == 0
}

func newRule(o *rrule.ROption, s start) *rule {
	r := &rule{
		freq: o.Freq, interval: max(o.Interval, 1), wkst: o.Wkst.Day(),
		from: s.day.at(s.minute), dated: s.dated,
		months: o.Bymonth, monthDays: o.Bymonthday, yearDays: o.Byyearday, weekNumbers: o.Byweekno,
		positions: o.Bysetpos, minutes: minutesOf(o, s),
	}
	for _, w := range o.Byweekday {
		if w.N() == 0 {
			r.weekdays = append(r.weekdays, w.Day())
		} else {
			r.nthWeekdays = append(r.nthWeekdays, nthWeekday{n: w.N(), weekday: w.Day()})
		}
	}
	if namesNoDay(o) {
		r.dayFromStart(s.day)
	}
	return r
}

// dayFromStart takes from the start which day of its year, month or week the rule means, if the rule does not say.
func (r *rule) dayFromStart(d day) {
	_, month, dayOfMonth := d.midnight().Date()
	switch r.freq {
	case rrule.YEARLY:
		if len(r.months) == 0 {
			r.months = []int{int(month)}
		}
		r.monthDays = []int{dayOfMonth}
	case rrule.MONTHLY:
		r.monthDays = []int{dayOfMonth}
	case rrule.WEEKLY:
		r.weekdays = []int{d.weekday()}
	}
}

func minutesOf(o *rrule.ROption, s start) []int {
	hours, minutes := o.Byhour, o.Byminute
	if len(hours) == 0 {
		hours = []int{s.minute / 60}
		if o.Freq == rrule.HOURLY {
			hours = make([]int, 24)
			for h := range hours {
				hours[h] = h
			}
		}
	}
	if len(minutes) == 0 {
		minutes = []int{s.minute % 60}
	}
	var all []int
	for _, h := range hours {
		for _, m := range minutes {
			all = append(all, h*60+m)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// readUntil reads UNTIL, which includes its instant. A date alone is refused: people mean all of that day, the standard
// its first minute.
func (r *rule) readUntil(text string, zone *time.Location) error {
	if text == "" {
		return nil
	}
	if t, err := time.Parse(rrule.DateTimeFormat, text); err == nil {
		r.until = t
		return nil
	}
	t, err := time.Parse(rrule.LocalDateTimeFormat, text)
	if err != nil {
		return errors.New("UNTIL needs a date and a time, local like 20261231T235900 or of UTC like 20261231T225900Z")
	}
	r.until = dayOf(t.Date()).at(t.Hour()*60 + t.Minute()).in(zone).Add(time.Duration(t.Second()) * time.Second)
	return nil
}

// count finds the last of n occurrences (0: no end), and that there is one at all.
func (r *rule) count(n int, zone *time.Location) error {
	first := undatedFrom
	if r.dated {
		first = day(floorDiv(int(r.from), minutesPerDay))
	}
	found := 0
	for w := range r.walls(first, first+scanDays) {
		at := w.in(zone)
		if r.isOver(at.Add(-24 * time.Hour)) {
			break // Starts that the clock skips are out of order, but never by a day.
		}
		if r.isOver(at) {
			continue
		}
		if found++; found >= n {
			r.counted, r.to = n > 0, w
			return nil
		}
	}
	if found == 0 {
		return errors.New("never occurs")
	}
	return fmt.Errorf("COUNT=%d is not reached within %d years", n, scanDays/365)
}

// isOver says whether UNTIL ends the rule before an instant.
func (r *rule) isOver(t time.Time) bool { return !r.until.IsZero() && t.After(r.until) }

// walls gives the occurrences on the days from first to last, in order. UNTIL is the caller's: it is an instant. It looks at no more days than it is asked for, plus the rest of the years at both ends.
func (r *rule) walls(first, last day) iter.Seq[wall] {
	return func(yield func(wall) bool) {
		if r.dated {
			first = max(first, day(floorDiv(int(r.from), minutesPerDay)))
		}
		for i := r.align(r.index(first)); r.begin(i) <= last; i += r.step() {
			for _, w := range r.inPeriod(r.begin(i), r.begin(i+1)) {
				if w < first.at(0) || r.dated && w < r.from {
					continue
				}
				if w >= (last+1).at(0) || r.counted && w > r.to || !yield(w) {
					return
				}
			}
		}
	}
}

// step is the distance of two periods that count. Of HOURLY rules it is the hours that are counted, within days.
func (r *rule) step() int {
	if r.freq == rrule.HOURLY {
		return 1
	}
	return r.interval
}

// align moves the index of a period forward to one that INTERVAL does not skip.
func (r *rule) align(i int) int {
	if !r.dated || r.step() == 1 {
		return i
	}
	return i + floorMod(r.index(day(floorDiv(int(r.from), minutesPerDay)))-i, r.step())
}

// index numbers the years, months, weeks or days, as the frequency says.
func (r *rule) index(d day) int {
	switch r.freq {
	case rrule.YEARLY:
		return d.midnight().Year()
	case rrule.MONTHLY:
		year, month, _ := d.midnight().Date()
		return year*monthsPerYear + int(month) - 1
	case rrule.WEEKLY:
		return floorDiv(int(d)+epochDayOfWeek-r.wkst, daysPerWeek)
	default:
		return int(d)
	}
}

// begin is the first day of the period with that index.
func (r *rule) begin(i int) day {
	switch r.freq {
	case rrule.YEARLY:
		return dayOf(i, time.January, 1)
	case rrule.MONTHLY:
		return dayOf(floorDiv(i, monthsPerYear), time.Month(floorMod(i, monthsPerYear)+1), 1)
	case rrule.WEEKLY:
		return day(i*daysPerWeek - epochDayOfWeek + r.wkst)
	default:
		return day(i)
	}
}

// inPeriod gives the occurrences of one year, month, week or day.
func (r *rule) inPeriod(begin, end day) []wall {
	var all []wall
	for d := begin; d < end; d++ {
		if !r.matches(d) {
			continue
		}
		for _, m := range r.minutes {
			if r.freq != rrule.HOURLY || r.interval == 1 || r.hourCounts(d.at(m)) {
				all = append(all, d.at(m))
			}
		}
	}
	if len(r.positions) == 0 {
		return all
	}
	return choose(all, r.positions)
}

func (r *rule) hourCounts(w wall) bool {
	return floorMod(floorDiv(int(w), 60)-floorDiv(int(r.from), 60), r.interval) == 0
}

// choose keeps the occurrences at the positions of BYSETPOS: 1 is the first, -1 the last.
func choose(all []wall, positions []int) []wall {
	var chosen []wall
	for _, p := range positions {
		if p < 0 {
			p += len(all) + 1
		}
		if p >= 1 && p <= len(all) {
			chosen = append(chosen, all[p-1])
		}
	}
	slices.Sort(chosen)
	return slices.Compact(chosen)
}

// matches says whether the rule occurs on a day that INTERVAL does not skip. Every BY… part that was given must agree.
func (r *rule) matches(d day) bool {
	if len(r.weekdays)+len(r.nthWeekdays) > 0 && !slices.Contains(r.weekdays, d.weekday()) && !r.isNthWeekday(d) {
		return false
	}
	if len(r.months)+len(r.monthDays)+len(r.yearDays)+len(r.weekNumbers) == 0 {
		return true
	}
	t := d.midnight()
	year, month, dayOfMonth := t.Date()
	if len(r.months) > 0 && !slices.Contains(r.months, int(month)) {
		return false
	}
	if len(r.monthDays) > 0 && !hasNumber(r.monthDays, dayOfMonth, daysIn(year, month)) {
		return false
	}
	if len(r.yearDays) > 0 && !hasNumber(r.yearDays, t.YearDay(), daysInYear(year)) {
		return false
	}
	if len(r.weekNumbers) > 0 {
		isoYear, week := t.ISOWeek()
		// 28 December is in the last week of every year.
		_, weeks := time.Date(isoYear, time.December, 28, 0, 0, 0, 0, time.UTC).ISOWeek()
		return hasNumber(r.weekNumbers, week, weeks)
	}
	return true
}

// isNthWeekday says whether d is, for example, the second Tuesday or the last Friday: of its month, or of its year if the
// rule is yearly and names no months.
func (r *rule) isNthWeekday(d day) bool {
	if len(r.nthWeekdays) == 0 {
		return false
	}
	year, month, number := d.midnight().Date()
	of := daysIn(year, month)
	if r.freq == rrule.YEARLY && len(r.months) == 0 {
		number, of = d.midnight().YearDay(), daysInYear(year)
	}
	for _, w := range r.nthWeekdays {
		fromStart, fromEnd := (number-1)/daysPerWeek+1, -((of-number)/daysPerWeek + 1)
		if w.weekday == d.weekday() && (w.n == fromStart || w.n == fromEnd) {
			return true
		}
	}
	return false
}

// hasNumber says whether number, out of so many, is listed: as itself or counted from the end, -1 being the last.
func hasNumber(list []int, number, of int) bool {
	return slices.Contains(list, number) || slices.Contains(list, number-of-1)
}

func daysIn(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func daysInYear(year int) int {
	return time.Date(year, time.December, 31, 0, 0, 0, 0, time.UTC).YearDay()
}
