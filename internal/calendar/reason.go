// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"fmt"
	"time"
)

// reasonFormat is how reasons write an instant.
const reasonFormat = "Monday 2 January 2006 15:04 MST"

func (c *Calendar) whyOpen(t, until time.Time) string {
	why := "open"
	if p, in := c.inside(c.allow, t); in && p.reason != "" {
		why += ": " + p.reason
	}
	if until.IsZero() {
		return why
	}
	return why + "; closes " + until.Format(reasonFormat)
}

// whyClosed gives one reason: what people wrote down (deny, dates) before what the calendar says.
func (c *Calendar) whyClosed(t, until time.Time) string {
	opens := "; does not open within 2 years"
	if !until.IsZero() {
		opens = "; opens " + until.Format(reasonFormat)
	}
	return "closed: " + c.closure(t) + opens
}

func (c *Calendar) closure(t time.Time) string {
	if p, in := c.inside(c.deny, t); in {
		if p.reason == "" {
			return "denied period (" + p.field + ")"
		}
		return fmt.Sprintf("%s (%s)", p.reason, p.field)
	}
	today := localDay(t, c.zone)
	if c.holidays[today] {
		return fmt.Sprintf("holiday, %s", today)
	}
	if name, is := publicHolidays(c.countries, today, today)[today]; is {
		return fmt.Sprintf("public holiday, %s", name)
	}
	if today.weekday() >= saturday && c.nothingAllowed(today) {
		return "weekend, outside the allowed periods"
	}
	return "outside the allowed periods"
}

const saturday = 5

// nothingAllowed says whether no allow period touches a day. It tells a weekend from a Saturday on which 9 to 12 is
// allowed and noon is past.
func (c *Calendar) nothingAllowed(d day) bool {
	whole := c.span(d)
	return len(c.spansOf(c.allow, whole.start, whole.end)) == 0
}

// inside is the first period that holds at t.
func (c *Calendar) inside(periods []period, t time.Time) (period, bool) {
	for _, p := range periods {
		// The spans that touch the nanosecond from t are those that contain t.
		if len(p.appendSpans(nil, t, t.Add(time.Nanosecond), c.zone)) > 0 {
			return p, true
		}
	}
	return period{}, false
}
