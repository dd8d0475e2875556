// SPDX-License-Identifier: Apache-2.0

package calendar_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
)

const (
	workdays = "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"
	daily    = "FREQ=DAILY"
)

func period(rrule, start string, lasts time.Duration, reason string) v1alpha1.Period {
	return v1alpha1.Period{RRule: rrule, Start: start, Duration: metav1.Duration{Duration: lasts}, Reason: reason}
}

func periods(list ...v1alpha1.Period) []v1alpha1.Period { return list }

func compile(t testing.TB, w v1alpha1.Window) *calendar.Calendar {
	t.Helper()
	c, err := calendar.Compile(w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

const hour = time.Hour

func TestAt(t *testing.T) {
	office := v1alpha1.Window{Allow: periods(period(workdays, "09:00", 8*hour, ""))}
	freeze := v1alpha1.Window{
		Allow: office.Allow,
		Deny:  periods(period("", "2026-12-20T18:00", 360*hour, "freeze of the year's end")),
	}
	for _, tc := range []struct {
		name   string
		window v1alpha1.Window
		at     string
		open   bool
		until  string // Empty: never within the horizon.
		reason string
	}{
		{"nothing said", v1alpha1.Window{}, "2026-03-04T10:00:00Z", true, "", "open"},
		{"office, inside", office, "2026-03-04T10:00:00+01:00", true, "2026-03-04T17:00:00+01:00",
			"open; closes Wednesday 4 March 2026 17:00 CET"},
		{"office, at its start", office, "2026-03-04T09:00:00+01:00", true, "2026-03-04T17:00:00+01:00", ""},
		{"office, at its end", office, "2026-03-04T17:00:00+01:00", false, "2026-03-05T09:00:00+01:00",
			"closed: outside the allowed periods; opens Thursday 5 March 2026 09:00 CET"},
		{"office, weekend", office, "2026-03-07T10:00:00+01:00", false, "2026-03-09T09:00:00+01:00",
			"closed: weekend, outside the allowed periods; opens Monday 9 March 2026 09:00 CET"},
		{"Saturday noon is past", v1alpha1.Window{Allow: periods(period("FREQ=WEEKLY;BYDAY=SA", "09:00", 3*hour, ""))},
			"2026-03-07T14:00:00+01:00", false, "2026-03-14T09:00:00+01:00",
			"closed: outside the allowed periods; opens Saturday 14 March 2026 09:00 CET"},
		{"freeze", freeze, "2026-12-22T10:00:00+01:00", false, "2027-01-05T09:00:00+01:00",
			"closed: freeze of the year's end (deny[0]); opens Tuesday 5 January 2027 09:00 CET"},
		{"the freeze begins in the night: the office closes first", freeze, "2026-12-18T10:00:00+01:00", true,
			"2026-12-18T17:00:00+01:00", ""},
		{"denied without a reason", v1alpha1.Window{Deny: periods(period(daily, "12:00", hour, ""))},
			"2026-03-04T12:30:00+01:00", false, "2026-03-04T13:00:00+01:00",
			"closed: denied period (deny[0]); opens Wednesday 4 March 2026 13:00 CET"},
		{"deny wins over allow", v1alpha1.Window{Allow: periods(period("", "2026-03-04T12:00", hour, "release day")),
			Deny: periods(period("", "2026-03-04T12:30", hour, ""))}, "2026-03-04T12:10:00+01:00", true,
			"2026-03-04T12:30:00+01:00", "open: release day; closes Wednesday 4 March 2026 12:30 CET"},
		{"never again", v1alpha1.Window{Allow: periods(period("", "2026-03-04T12:00", hour, ""))},
			"2026-03-04T13:00:00+01:00", false, "",
			"closed: outside the allowed periods; does not open within 2 years"},
		{"holiday", v1alpha1.Window{Holidays: []string{"2026-12-24"}}, "2026-12-24T23:59:59.9+01:00", false,
			"2026-12-25T00:00:00+01:00", "closed: holiday, 2026-12-24; opens Friday 25 December 2026 00:00 CET"},
		{"before a holiday", v1alpha1.Window{Holidays: []string{"2026-12-24"}}, "2026-12-23T23:00:00+01:00", true,
			"2026-12-24T00:00:00+01:00", ""},
		{"public holiday", v1alpha1.Window{Countries: []string{"fr"}}, "2026-07-14T10:00:00+02:00", false,
			"2026-07-15T00:00:00+02:00",
			"closed: public holiday, Fête Nationale (fr); opens Wednesday 15 July 2026 00:00 CEST"},
		{"26 December is a day like another in metropolitan France", v1alpha1.Window{Countries: []string{"fr"}},
			"2026-12-26T10:00:00+01:00", true, "2027-01-01T00:00:00+01:00", ""},
		{"Good Friday too", v1alpha1.Window{Countries: []string{"fr"}}, "2026-04-03T10:00:00+02:00", true,
			"2026-04-06T00:00:00+02:00", ""},
		{"two days in two countries touch", v1alpha1.Window{Countries: []string{"fr", "de"}},
			"2026-12-25T10:00:00+01:00", false, "2026-12-27T00:00:00+01:00", ""},
		{"a moved holiday closes both days", v1alpha1.Window{TimeZone: "Europe/London", Countries: []string{"gb"}},
			"2026-12-28T10:00:00Z", false, "2026-12-29T00:00:00Z", ""},
		{"Europe Day in Luxembourg", v1alpha1.Window{Countries: []string{"lu"}}, "2028-05-09T10:00:00+02:00", false,
			"2028-05-10T00:00:00+02:00", ""},

		{"adjacent periods are one", v1alpha1.Window{Allow: periods(period(daily, "09:00", 3*hour, ""),
			period(daily, "12:00", 3*hour, ""))}, "2026-03-04T10:00:00+01:00", true, "2026-03-04T15:00:00+01:00", ""},
		{"overlapping periods too", v1alpha1.Window{Allow: periods(period(daily, "09:00", 5*hour, ""),
			period(daily, "12:00", 4*hour, ""))}, "2026-03-04T10:00:00+01:00", true, "2026-03-04T16:00:00+01:00", ""},
		{"longer than its recurrence: always", v1alpha1.Window{Allow: periods(period(daily, "09:00", 36*hour, ""))},
			"2026-03-04T10:00:00+01:00", true, "", "open"},
		{"longer than its recurrence, until it ends", v1alpha1.Window{Allow: periods(
			period("FREQ=DAILY;COUNT=3", "2026-03-02T09:00", 36*hour, ""))}, "2026-03-02T10:00:00+01:00", true,
			"2026-03-05T21:00:00+01:00", ""},
		{"began almost a year ago", v1alpha1.Window{Deny: periods(
			period("FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=1", "00:00", 8700*hour, "sabbatical"))},
			"2026-12-20T00:00:00+01:00", false, "2026-12-29T12:00:00+01:00", ""},
		{"began yesterday evening", v1alpha1.Window{Deny: periods(period(daily, "22:00", 8*hour, ""))},
			"2026-03-04T05:59:59+01:00", false, "2026-03-04T06:00:00+01:00", ""},
		{"UNTIL includes its instant", v1alpha1.Window{Deny: periods(
			period("FREQ=DAILY;UNTIL=20260304T080000Z", "09:00", hour, ""))}, "2026-03-04T09:00:00+01:00", false,
			"2026-03-04T10:00:00+01:00", ""},
		{"and nothing after", v1alpha1.Window{Deny: periods(
			period("FREQ=DAILY;UNTIL=20260304T085959", "09:00", hour, ""))}, "2026-03-03T10:00:00+01:00", true, "", ""},
		{"every second week", v1alpha1.Window{Allow: periods(
			period("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", "2026-01-06T09:00", hour, ""))}, "2026-01-06T10:00:00+01:00", false,
			"2026-01-20T09:00:00+01:00", ""},
		{"the last Friday of the month", v1alpha1.Window{Deny: periods(
			period("FREQ=MONTHLY;BYDAY=-1FR", "00:00", 24*hour, "closing"))}, "2026-03-04T00:00:00+01:00", true,
			"2026-03-27T00:00:00+01:00", ""},
		{"a weekday and a numbered one", v1alpha1.Window{Deny: periods(
			period("FREQ=MONTHLY;BYDAY=2TU,FR", "00:00", 24*hour, ""))}, "2026-03-07T00:00:00+01:00", true,
			"2026-03-10T00:00:00+01:00", ""},
		{"the last working day of the month", v1alpha1.Window{Deny: periods(
			period("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "00:00", 24*hour, ""))}, "2026-05-01T00:00:00+02:00",
			true, "2026-05-29T00:00:00+02:00", ""},
		{"week 53", v1alpha1.Window{Deny: periods(period("FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO", "00:00", 168*hour, ""))},
			"2026-03-04T00:00:00+01:00", true, "2026-12-28T00:00:00+01:00", ""},
		{"29 February is more than two looks away", v1alpha1.Window{Deny: periods(
			period("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "00:00", 24*hour, ""))}, "2026-03-04T00:00:00+01:00", true,
			"2028-02-29T00:00:00+01:00", ""},
		{"beyond the horizon", v1alpha1.Window{Deny: periods(
			period("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "00:00", 24*hour, ""))}, "2025-03-04T00:00:00+01:00", true, "", ""},

		// Europe/Paris: 02:00 → 03:00 on 29 March 2026, 03:00 → 02:00 on 25 October 2026.
		{"spring: elapsed time", v1alpha1.Window{Deny: periods(period(daily, "22:00", 8*hour, ""))},
			"2026-03-29T06:30:00+02:00", false, "2026-03-29T07:00:00+02:00", ""},
		{"autumn: elapsed time", v1alpha1.Window{Deny: periods(period(daily, "22:00", 8*hour, ""))},
			"2026-10-25T04:59:00+01:00", false, "2026-10-25T05:00:00+01:00", ""},
		{"spring: wall clock", office, "2026-03-27T18:00:00+01:00", false, "2026-03-30T09:00:00+02:00", ""},
		{"autumn: wall clock", office, "2026-10-23T18:00:00+02:00", false, "2026-10-26T09:00:00+01:00", ""},
		{"spring: a start that is skipped", v1alpha1.Window{Deny: periods(period(daily, "02:30", hour, ""))},
			"2026-03-29T01:00:00+01:00", true, "2026-03-29T03:30:00+02:00", ""},
		{"autumn: a start that is shown twice is the first", v1alpha1.Window{Deny: periods(period(daily, "02:30", hour/2, ""))},
			"2026-10-25T01:00:00+02:00", true, "2026-10-25T02:30:00+02:00", ""},
		{"autumn: not the second", v1alpha1.Window{Deny: periods(period(daily, "02:30", hour/2, ""))},
			"2026-10-25T02:30:00+01:00", true, "2026-10-26T02:30:00+01:00", ""},
		{"a holiday of 23 hours", v1alpha1.Window{Holidays: []string{"2026-03-29"}}, "2026-03-29T00:00:00+01:00", false,
			"2026-03-30T00:00:00+02:00", ""},
		{"a holiday of 25 hours", v1alpha1.Window{Holidays: []string{"2026-10-25"}}, "2026-10-25T00:00:00+02:00", false,
			"2026-10-26T00:00:00+01:00", ""},
		{"Dakar has no summer time", v1alpha1.Window{TimeZone: "Africa/Dakar", Deny: periods(period(daily, "22:00", 8*hour, ""))},
			"2026-03-29T05:30:00Z", false, "2026-03-29T06:00:00Z", ""},
		{"Dakar, autumn", v1alpha1.Window{TimeZone: "Africa/Dakar", Allow: office.Allow}, "2026-10-23T18:00:00Z", false,
			"2026-10-26T09:00:00Z", ""},
		// Cairo skips 00:00–01:00 on 24 April 2026; Samoa skipped 30 December 2011.
		{"a holiday without midnight", v1alpha1.Window{TimeZone: "Africa/Cairo", Holidays: []string{"2026-04-24"}},
			"2026-04-23T20:00:00Z", true, "2026-04-23T22:00:00Z", ""},
		{"a holiday that the zone skipped", v1alpha1.Window{TimeZone: "Pacific/Apia", Holidays: []string{"2011-12-30"}},
			"2011-12-29T00:00:00Z", true, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, at := compile(t, tc.window), instant(t, tc.at)
			got := c.At(at)
			var until time.Time
			if tc.until != "" {
				until = instant(t, tc.until)
			}
			if got.Open != tc.open || !got.Until.Equal(until) {
				t.Errorf("At = open %t until %s; want %t, %s", got.Open, got.Until, tc.open, until)
			}
			if tc.reason != "" && got.Reason != tc.reason {
				t.Errorf("reason %q, want %q", got.Reason, tc.reason)
			}
			next, ok := c.NextOpen(at)
			switch {
			case tc.open && (!ok || !next.Equal(at)):
				t.Errorf("open, but NextOpen = %s, %t", next, ok)
			case !tc.open && (ok != (tc.until != "") || !next.Equal(until)):
				t.Errorf("NextOpen = %s, %t; want %s", next, ok, until)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	rule := func(rrule string) v1alpha1.Window {
		return v1alpha1.Window{Allow: periods(period(daily, "09:00", hour, ""), period(rrule, "09:00", hour, ""))}
	}
	dated := func(rrule string) v1alpha1.Window {
		return v1alpha1.Window{Deny: periods(period(rrule, "2026-01-05T09:00", hour, ""))}
	}
	for _, tc := range []struct {
		window v1alpha1.Window
		says   string
	}{
		{v1alpha1.Window{TimeZone: "Europe/Nowhere"}, `timeZone: "Europe/Nowhere"`},
		{v1alpha1.Window{TimeZone: "Local"}, "timeZone: Local"},
		{v1alpha1.Window{TimeZone: "../etc/passwd"}, "timeZone: "},
		{v1alpha1.Window{Holidays: []string{"2026-12-24", "2026-02-30"}}, `holidays[1]: "2026-02-30"`},
		{v1alpha1.Window{Countries: []string{"fr", "xx"}}, `countries[1]: `},
		{v1alpha1.Window{Deny: make([]v1alpha1.Period, 17)}, "deny: 17 periods"},
		{v1alpha1.Window{Deny: periods(period("", "09:00", hour, ""))}, "deny[0].start: "},
		{v1alpha1.Window{Deny: periods(period("", "2026-02-30T09:00", hour, ""))}, "deny[0].start: "},
		{v1alpha1.Window{Deny: periods(period(daily, "9:00", hour, ""))}, "deny[0].start: "},
		{v1alpha1.Window{Deny: periods(period(daily, "", hour, ""))}, "deny[0].start: "},
		{v1alpha1.Window{Deny: periods(period(daily, "09:00", 0, ""))}, "deny[0].duration: 0s"},
		{v1alpha1.Window{Deny: periods(period(daily, "09:00", -hour, ""))}, "deny[0].duration: "},
		{v1alpha1.Window{Deny: periods(period(daily, "09:00", 8785*hour, ""))}, "deny[0].duration: "},
		{rule("FREQ=DAILY;BYHOUR=9" + strings.Repeat(",9", 250)), "longer than 500 characters"},
		{rule("every day"), "allow[1].rrule: "},
		{rule("INTERVAL=1"), "allow[1].rrule: "},
		{rule("FREQ=FORTNIGHTLY"), "allow[1].rrule: "},
		{rule("FREQ=MINUTELY"), "allow[1].rrule: FREQ=MINUTELY is refused"},
		{rule("FREQ=SECONDLY"), "allow[1].rrule: FREQ=SECONDLY is refused"},
		{rule("FREQ=DAILY;FREQ=WEEKLY"), "FREQ is given twice"},
		{rule("FREQ=DAILY;DTSTART=20260101T090000"), "DTSTART does not belong here"},
		{rule("DTSTART:20260101T090000\nRRULE:FREQ=DAILY"), "allow[1].rrule: "},
		{rule("RRULE:FREQ=DAILY"), "allow[1].rrule: "},
		{rule("FREQ=DAILY;BYSECOND=30"), "BYSECOND"},
		{rule("FREQ=YEARLY;BYEASTER=0"), "BYEASTER"},
		{rule("FREQ=DAILY;BYMONTHDAY=32"), "bymonthday"},
		{rule("FREQ=DAILY;INTERVAL=0"), "INTERVAL"},
		{rule("FREQ=DAILY;INTERVAL=2"), "INTERVAL counts from the first occurrence"},
		{rule("FREQ=DAILY;COUNT=3"), "COUNT counts from the first occurrence"},
		{rule("FREQ=WEEKLY"), "names no day"},
		{rule("FREQ=YEARLY;BYMONTH=2"), "names no day"},
		{rule("FREQ=DAILY;UNTIL=20261231"), "UNTIL needs a date and a time"},
		{rule("FREQ=DAILY;UNTIL=19990101T000000Z"), "never occurs"},
		{rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "allow[1].rrule: never occurs"},
		{rule("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"), "never occurs"},
		{rule("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=-30"), "never occurs"},
		{rule("FREQ=WEEKLY;BYMONTHDAY=1"), "BYMONTHDAY does not go"},
		{rule("FREQ=WEEKLY;BYDAY=2MO"), "a number in BYDAY"},
		{rule("FREQ=MONTHLY;BYYEARDAY=3"), "BYYEARDAY does not go"},
		{rule("FREQ=MONTHLY;BYWEEKNO=3;BYDAY=MO"), "BYWEEKNO needs FREQ=YEARLY"},
		{rule("FREQ=YEARLY;BYWEEKNO=3"), "BYWEEKNO needs BYDAY"},
		{rule("FREQ=YEARLY;BYWEEKNO=3;BYDAY=MO;WKST=SU"), "weeks that start on Monday"},
		{rule("FREQ=DAILY;BYSETPOS=1"), "BYSETPOS chooses"},
		{rule("FREQ=HOURLY;BYMINUTE=0,30"), "occurs 48 times a day"},
		{rule("FREQ=DAILY;WKST=2MO"), "WKST"},
		{dated("FREQ=DAILY;COUNT=0"), "deny[0].rrule: COUNT"},
		{dated("FREQ=DAILY;COUNT=100000000"), "COUNT must be from 1 to 10000"},
		{dated("FREQ=YEARLY;COUNT=10000"), "COUNT=10000 is not reached"},
		{dated("FREQ=DAILY;COUNT=3;UNTIL=20270101T000000Z"), "not both"},
		{dated("FREQ=DAILY;INTERVAL=100000000000"), "INTERVAL"},
		{dated("FREQ=DAILY;UNTIL=20260101T000000Z"), "never occurs"},
		// The iterator of rrule-go never returns from this one: 9, 9, 9, … is never 10.
		{dated("FREQ=HOURLY;INTERVAL=24;BYHOUR=10"), "never occurs"},
		{dated("FREQ=DAILY;INTERVAL=7;BYDAY=TU"), "never occurs"},
	} {
		_, err := calendar.Compile(tc.window)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v; want %q", tc.window, err, tc.says)
		}
	}
}

// The lists of a country are what people rely on: France's eleven days, Easter's among them.
func TestFrenchHolidays(t *testing.T) {
	c := compile(t, v1alpha1.Window{Countries: []string{"fr"}})
	var closed []string
	for at := instant(t, "2027-01-01T12:00:00Z"); at.Year() == 2027; at = at.AddDate(0, 0, 1) {
		if !c.At(at).Open {
			closed = append(closed, at.Format("01-02"))
		}
	}
	want := "01-01 03-29 05-01 05-06 05-08 05-17 07-14 08-15 11-01 11-11 12-25"
	if got := strings.Join(closed, " "); got != want {
		t.Errorf("closed on %s, want %s", got, want)
	}
}

func TestEveryCountryOfTheSchema(t *testing.T) {
	for _, country := range strings.Split("at;be;ca;ch;de;es;fr;gb;ie;it;lu;nl;pt;us", ";") {
		c := compile(t, v1alpha1.Window{TimeZone: "UTC", Countries: []string{country}})
		if got := c.At(instant(t, "2026-12-25T12:00:00Z")); got.Open {
			t.Errorf("%s: open on Christmas Day", country)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := compile(t, v1alpha1.Window{Countries: []string{"fr"}, Allow: periods(period(workdays, "09:00", hour, ""))})
	at := instant(t, "2026-03-07T10:00:00Z")
	want := c.At(at)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := c.At(at); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
	all.Wait()
}
