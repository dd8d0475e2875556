// SPDX-License-Identifier: Apache-2.0

package calendar

import "time"

const (
	minutesPerDay  = 24 * 60
	secondsPerDay  = 24 * 60 * 60
	daysPerWeek    = 7
	monthsPerYear  = 12
	epochDayOfWeek = 3 // 1970-01-01 was a Thursday; Monday is 0.
)

// day is a date without a zone: days since 1970-01-01.
type day int

// wall is what a clock on the wall shows, without a zone: minutes since 1970-01-01T00:00.
type wall int

func dayOf(year int, month time.Month, dayOfMonth int) day {
	return day(floorDiv(int(time.Date(year, month, dayOfMonth, 0, 0, 0, 0, time.UTC).Unix()), secondsPerDay))
}

func (d day) midnight() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// weekday counts from Monday, 0.
func (d day) weekday() int { return floorMod(int(d)+epochDayOfWeek, daysPerWeek) }

func (d day) String() string { return d.midnight().Format(time.DateOnly) }

func (d day) at(minute int) wall { return wall(int(d)*minutesPerDay + minute) }

// localDay is the date that the zone's clocks show at an instant.
func localDay(t time.Time, zone *time.Location) day { return dayOf(t.In(zone).Date()) }

// in is the instant at which the zone's clocks show w: the first if they show it twice, and if they skip it, the instant
// that the offset before the change gives (RFC 5545 section 3.3.5).
func (w wall) in(zone *time.Location) time.Time {
	const minute = 60
	asUTC := int64(w) * minute
	// No zone is a day away from UTC: these two instants are before and after w in every zone.
	before := asUTC - offset(asUTC-secondsPerDay, zone)
	after := asUTC - offset(asUTC+secondsPerDay, zone)
	if before != after && before+offset(before, zone) != asUTC && after+offset(after, zone) == asUTC {
		return time.Unix(after, 0).In(zone)
	}
	return time.Unix(before, 0).In(zone)
}

// offset is the zone's distance from UTC, in seconds, at an instant.
func offset(unix int64, zone *time.Location) int64 {
	_, seconds := time.Unix(unix, 0).In(zone).Zone()
	return int64(seconds)
}

func floorDiv(a, b int) int {
	if a%b != 0 && (a < 0) != (b < 0) {
		return a/b - 1
	}
	return a / b
}

func floorMod(a, b int) int { return a - b*floorDiv(a, b) }
