// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"fmt"
	"slices"
	"time"

	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/at"
	"github.com/rickar/cal/v2/be"
	"github.com/rickar/cal/v2/ca"
	"github.com/rickar/cal/v2/ch"
	"github.com/rickar/cal/v2/de"
	"github.com/rickar/cal/v2/es"
	"github.com/rickar/cal/v2/fr"
	"github.com/rickar/cal/v2/gb"
	"github.com/rickar/cal/v2/ie"
	"github.com/rickar/cal/v2/it"
	"github.com/rickar/cal/v2/lu"
	"github.com/rickar/cal/v2/nl"
	"github.com/rickar/cal/v2/pt"
	"github.com/rickar/cal/v2/us"
)

// The library computes dates as midnights in the zone of the host, some of which skip a midnight in spring. A date must
// not depend on where it is computed.
func init() { cal.DefaultLoc = time.UTC }

// europeDay is a public holiday of Luxembourg by its law of 25 April 2019; the library does not have it.
var europeDay = &cal.Holiday{
	Name: "Europadag", StartYear: 2019, Month: time.May, Day: 9, Func: cal.CalcDayOfMonth,
}

// countries are those of v1alpha1.Window. The lists are those of the whole country (gb: England and Wales; fr:
// metropolitan, without the two of Alsace and Moselle), except that ch lists days of some cantons only.
var countries = map[string][]*cal.Holiday{
	"at": at.Holidays, "be": be.Holidays, "ca": ca.Holidays, "ch": ch.Holidays, "de": de.Holidays, "es": es.Holidays,
	"fr": fr.Holidays, "gb": gb.Holidays, "ie": ie.Holidays, "it": it.Holidays,
	"lu": append(slices.Clone(lu.Holidays), europeDay),
	"nl": nl.Holidays, "pt": pt.Holidays, "us": us.Holidays,
}

// dates are the holidays that a window gives as dates.
type dates map[day]bool

func parseDates(list []string) (dates, error) {
	parsed := dates{}
	for i, text := range list {
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return nil, fmt.Errorf("holidays[%d]: %q is not a date like 2026-12-24", i, text)
		}
		parsed[dayOf(t.Date())] = true
	}
	return parsed, nil
}

func checkCountries(list []string) error {
	for i, country := range list {
		if _, known := countries[country]; !known {
			return fmt.Errorf("countries[%d]: the public holidays of %q are not known", i, country)
		}
	}
	return nil
}

// publicHolidays are the public holidays of the countries from a day to another, and what each is called. A holiday that
// is moved (off a weekend, say) closes both its own day and the day it is moved to.
func publicHolidays(of []string, first, last day) map[day]string {
	named := map[day]string{}
	// New Year's Day may be observed in the year before, and a day of December in the year after.
	fromYear, toYear := first.midnight().Year()-1, last.midnight().Year()+1
	for _, country := range of {
		for _, holiday := range countries[country] {
			for year := fromYear; year <= toYear; year++ {
				actual, observed := holiday.Calc(year)
				if actual.IsZero() {
					continue
				}
				for _, d := range []day{dayOf(actual.Date()), dayOf(observed.Date())} {
					if _, already := named[d]; !already && d >= first && d <= last {
						named[d] = fmt.Sprintf("%s (%s)", holiday.Name, country)
					}
				}
			}
		}
	}
	return named
}
