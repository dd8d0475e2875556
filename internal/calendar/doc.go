// SPDX-License-Identifier: Apache-2.0

// Package calendar says when a gate may open: the judgement of v1alpha1.Window at an instant that the caller gives.
//
// It is pure: no clock, client, context, logger or randomness. It may import api/v1alpha1 and two libraries: rrule-go,
// which reads recurrence rules (RFC 5545 section 3.3.10), and rickar/cal, which knows the public holidays of countries.
// The one look outside is time.LoadLocation in Compile; time/tzdata is linked in for hosts that have no zone files.
//
// What it means to be open: inside at least one allow period (or there is none), outside every deny period, and not on a
// holiday. Periods start on the wall clock of the window's zone and last elapsed time: a period of 8h that starts at
// 22:00 ends at 07:00 in the night of spring and at 05:00 in that of autumn. A start that the clock skips in spring is
// read with the offset before the change, one that it shows twice in autumn is the first (RFC 5545 section 3.3.5).
// Every span contains its start and not its end.
//
// Rules are expanded here and not by rrule-go, whose iterator cannot be stopped: it looks for a day that never comes
// until the year 9999, and for an hour that never comes for ever. Here work is bounded by days: see the constants.
package calendar
