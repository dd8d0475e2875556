// SPDX-License-Identifier: Apache-2.0

package calendar_test

import (
	"testing"
	"time"

	"github.com/teambition/rrule-go"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
)

// dayBefore is about as far back as the oracle looks for a start beyond the period's duration.
const dayBefore = 48 * hour

// drawPeriod draws from rules that rrule-go expands as the standard says.
func drawPeriod(t *rapid.T, label string) v1alpha1.Period {
	start := rapid.SampledFrom([]string{"00:00", "02:30", "09:00", "18:15", "23:59"}).Draw(t, label+" time")
	day := rapid.SampledFrom([]string{"2026-03-20T", "2026-03-28T", "2026-10-23T", "2025-12-31T", "2024-02-29T"}).Draw(t, label+" day")
	lasts := time.Duration(rapid.IntRange(1, 3*24*60).Draw(t, label+" minutes")) * time.Minute
	undated := rapid.SampledFrom([]string{
		"FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,WE,SU", "FREQ=HOURLY;BYHOUR=1,2,3,14", "FREQ=HOURLY;BYDAY=SA",
		"FREQ=MONTHLY;BYDAY=-1SU", "FREQ=MONTHLY;BYMONTHDAY=-3,1,28", "FREQ=YEARLY;BYYEARDAY=-67,88",
		"FREQ=YEARLY;BYWEEKNO=13,43;BYDAY=SU,MO", "FREQ=YEARLY;BYMONTH=3,10;BYDAY=4MO,-1SU", "FREQ=YEARLY;BYDAY=13SU,-10TU",
		"FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1,-3", "FREQ=DAILY;BYHOUR=3,4,20;BYSETPOS=2",
		"FREQ=DAILY;BYMONTH=3;BYMONTHDAY=29,30", "FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0,15,59",
		"FREQ=DAILY;UNTIL=20260329T003000Z",
	})
	dated := rapid.SampledFrom([]string{
		"", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO", "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,MO,SA",
		"FREQ=MONTHLY", "FREQ=YEARLY", "FREQ=WEEKLY", "FREQ=DAILY;COUNT=9", "FREQ=HOURLY;INTERVAL=7", "FREQ=HOURLY;INTERVAL=25",
		"FREQ=MONTHLY;INTERVAL=7;BYDAY=SU", "FREQ=HOURLY;INTERVAL=5;BYHOUR=2,3;COUNT=40", "FREQ=YEARLY;INTERVAL=2;BYMONTH=3,10",
	})
	if rapid.Bool().Draw(t, label+" has a date") {
		return period(rapid.OneOf(undated, dated).Draw(t, label+" rule"), day+start, lasts, "")
	}
	return period(undated.Draw(t, label+" rule"), start, lasts, "")
}

// drawWindow draws a window, and an instant near a switch of Europe/Paris.
func drawWindow(t *rapid.T) (v1alpha1.Window, time.Time) {
	w := v1alpha1.Window{TimeZone: rapid.SampledFrom([]string{"Europe/Paris", "Africa/Dakar", "Australia/Lord_Howe", "Africa/Cairo"}).Draw(t, "zone")}
	for range rapid.IntRange(0, 2).Draw(t, "allow") {
		w.Allow = append(w.Allow, drawPeriod(t, "allow"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "deny") {
		w.Deny = append(w.Deny, drawPeriod(t, "deny"))
	}
	w.Holidays = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"2026-03-29", "2026-03-31", "2026-10-25", "2026-10-26", "2026-04-24"}),
		0, 2, rapid.ID).Draw(t, "holidays")
	from := rapid.SampledFrom([]time.Time{
		time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 4, 23, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC),
	}).Draw(t, "near")
	return w, from.Add(time.Duration(rapid.IntRange(0, 2*24*60).Draw(t, "minute")) * time.Minute)
}

// oracle answers minute by minute, from rrule-go's expansion.
type oracle struct {
	zone     *time.Location
	holidays map[string]bool
	allow    []time.Time // Starts, with the durations below.
	deny     []time.Time
	allows   []time.Duration
	denies   []time.Duration
	always   bool
}

func newOracle(t *rapid.T, w v1alpha1.Window, begin, end time.Time) *oracle {
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{zone: zone, holidays: map[string]bool{}, always: len(w.Allow) == 0}
	for _, d := range w.Holidays {
		o.holidays[d] = true
	}
	for _, p := range w.Allow {
		for _, s := range starts(t, p, zone, begin, end) {
			o.allow, o.allows = append(o.allow, s), append(o.allows, p.Duration.Duration)
		}
	}
	for _, p := range w.Deny {
		for _, s := range starts(t, p, zone, begin, end) {
			o.deny, o.denies = append(o.deny, s), append(o.denies, p.Duration.Duration)
		}
	}
	return o
}

func starts(t *rapid.T, p v1alpha1.Period, zone *time.Location, begin, end time.Time) []time.Time {
	first, err := time.Parse("2006-01-02T15:04", p.Start)
	if err != nil {
		first, err = time.Parse("2006-01-02T15:04", "2024-01-01T"+p.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.RRule == "" {
		return []time.Time{instantOf(first, zone)}
	}
	o, err := rrule.StrToROption(p.RRule)
	if err != nil {
		t.Fatal(err)
	}
	until := o.Until
	o.Dtstart, o.Until = first, time.Time{}
	if o.Freq == rrule.HOURLY && len(p.Start) == len("09:00") {
		o.Dtstart = first.Truncate(24 * hour).Add(time.Duration(first.Minute()) * time.Minute)
	}
	r, err := rrule.NewRRule(*o)
	if err != nil {
		t.Fatal(err)
	}
	var all []time.Time
	for _, w := range r.Between(begin.Add(-p.Duration.Duration-dayBefore), end.Add(dayBefore), true) {
		if s := instantOf(w, zone); until.IsZero() || !s.After(until) {
			all = append(all, s)
		}
	}
	return all
}

// instantOf reads the clock on the wall minute by minute; w is given as if it were UTC.
func instantOf(w time.Time, zone *time.Location) time.Time {
	const format = "2006-01-02T15:04"
	for at := w.Add(-15 * hour); at.Before(w.Add(15 * hour)); at = at.Add(time.Minute) {
		if at.In(zone).Format(format) == w.Format(format) {
			return at
		}
	}
	// Skipped: go on from a time that was not.
	return instantOf(w.Add(-3*hour), zone).Add(3 * hour)
}

func (o *oracle) open(at time.Time) bool {
	inside := func(starts []time.Time, lasts []time.Duration) bool {
		for i, s := range starts {
			if !at.Before(s) && at.Before(s.Add(lasts[i])) {
				return true
			}
		}
		return false
	}
	return (o.always || inside(o.allow, o.allows)) && !inside(o.deny, o.denies) && !o.holidays[at.In(o.zone).Format(time.DateOnly)]
}

func TestAgreesWithMinuteByMinute(t *testing.T) {
	const days = 3
	rapid.Check(t, func(t *rapid.T) {
		w, begin := drawWindow(t)
		c, err := calendar.Compile(w)
		if err != nil {
			t.Skip(err) // A rule that does not fit its start.
		}
		end := begin.Add(days * 24 * hour)
		o := newOracle(t, w, begin, end)
		first := c.At(begin)
		flipped := time.Time{}
		for at := begin; at.Before(end); at = at.Add(time.Minute) {
			if o.open(at) != first.Open {
				flipped = at
				break
			}
		}
		switch {
		case flipped.IsZero():
			if !first.Until.IsZero() && first.Until.Before(end) {
				t.Fatalf("changes at %s, by the oracle not before %s", first.Until, end)
			}
		case !first.Until.Equal(flipped):
			t.Fatalf("At(%s) = %+v; by the oracle it changes at %s", begin, first, flipped)
		}
		for at := begin; at.Before(end); at = at.Add(17 * time.Minute) {
			if got := c.At(at); got.Open != o.open(at) {
				t.Fatalf("At(%s) = %+v", at, got)
			}
		}
	})
}

func TestUntilIsWhereTheAnswerFlips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, at := drawWindow(t)
		c, err := calendar.Compile(w)
		if err != nil {
			t.Skip(err)
		}
		got := c.At(at)
		next, ok := c.NextOpen(at)
		switch {
		case got.Open && (!ok || !next.Equal(at)):
			t.Fatalf("open at %s, but NextOpen = %s, %t", at, next, ok)
		case !got.Open && (ok == got.Until.IsZero() || !next.Equal(got.Until)):
			t.Fatalf("%+v, but NextOpen = %s, %t", got, next, ok)
		}
		if got.Until.IsZero() {
			return
		}
		if c.At(got.Until).Open == got.Open || c.At(got.Until.Add(-1)).Open != got.Open {
			t.Fatalf("%+v does not flip there", got)
		}
		between := got.Until.Sub(at)
		for range 50 {
			sample := at.Add(time.Duration(rapid.Int64Range(0, int64(between)-1).Draw(t, "sample")))
			if c.At(sample).Open != got.Open {
				t.Fatalf("%+v, but it flips before, at %s", got, sample)
			}
		}
	})
}

// FuzzCompile: whatever is written, it is refused or answered, and an answer holds together.
func FuzzCompile(f *testing.F) {
	for _, rule := range []string{
		"", "FREQ=DAILY", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=HOURLY;INTERVAL=24;BYHOUR=10", "FREQ=DAILY;COUNT=100000000",
		"FREQ=YEARLY;BYWEEKNO=-1,53;BYDAY=MO;INTERVAL=9999", "FREQ=MONTHLY;BYDAY=-5MO,+1TU;BYSETPOS=-366", "FREQ=WEEKLY;UNTIL=20260101T000000Z",
		"FREQ=DAILY;BYHOUR=0,1,2,3;BYMINUTE=1,2,3,4,5,6", "FREQ=YEARLY;BYYEARDAY=366;INTERVAL=4", "FREQ=YEARLY;BYEASTER=-300",
	} {
		f.Add("Europe/Paris", rule, "2025-02-28T09:00", int64(hour), "2026-01-01", "fr", int64(1772618400))
		f.Add("Africa/Dakar", rule, "23:59", int64(8784*hour), "0000-12-31", "us", int64(-62167219200))
	}
	f.Fuzz(func(t *testing.T, zone, rule, start string, lasts int64, holiday, country string, at int64) {
		const year10000 = 253402300800
		p := period(rule, start, time.Duration(lasts), "")
		c, err := calendar.Compile(v1alpha1.Window{
			TimeZone: zone, Allow: periods(p), Deny: periods(p), Holidays: []string{holiday}, Countries: []string{country},
		})
		if err != nil {
			return
		}
		got := c.At(time.Unix(at%year10000, 0))
		if got.Open || !got.Until.IsZero() {
			t.Fatalf("%+v, but what is allowed is denied", got)
		}
	})
}
