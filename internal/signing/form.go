// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

// Bounds of what may be typed; the CRD has the same.
const (
	maxReason  = 4000
	maxText    = 2000
	maxOwner   = 200
	firstRows  = 3
	maxRows    = 20
	farthest   = 2100 // year of a deadline
	maxCarried = 2000 // of what is no choice of a form
)

// draft is a decision as it is typed. Its texts are inert already: what is shown, repeated and signed is the same.
type draft struct {
	Decision string
	Reason   string
	Rows     []row
}

// row is a reservation as it is typed.
type row struct{ Text, Owner, Deadline string }

// Empty says whether nothing is typed in it.
func (r row) Empty() bool { return r == row{} }

func newDraft() *draft { return &draft{Rows: make([]row, firstRows)} }

// fieldError is what is wrong with one field.
type fieldError struct {
	ID   string // of the element
	text string // key
	args []any
}

// typed makes a text inert, with the newlines that forms send as CRLF.
func typed(s string) string { return strings.TrimSpace(inert.Text(s)) }

func typedLine(s string) string {
	return strings.TrimSpace(inert.Text(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", " "), "\n", " ")))
}

func parseDraft(form url.Values) *draft {
	rows, err := strconv.Atoi(form.Get("rows"))
	if err != nil {
		rows = firstRows
	}
	d := &draft{Decision: inert.Line(clip(form.Get("decision"))), Reason: typed(form.Get("reason")), Rows: make([]row, min(max(rows, firstRows), maxRows))}
	for i := range d.Rows {
		n := strconv.Itoa(i + 1)
		d.Rows[i] = row{Text: typed(form.Get("text-" + n)), Owner: typedLine(form.Get("owner-" + n)), Deadline: inert.Line(clip(strings.TrimSpace(form.Get("deadline-" + n))))}
	}
	return d
}

// clip bounds what a person does not type, but a program may send.
func clip(s string) string {
	if len(s) > maxCarried {
		return s[:maxCarried]
	}
	return s
}

// carriedDraft is what was typed in a session that ended, on its way through a new code; nil if there is nothing.
func carriedDraft(form url.Values) *draft {
	if form.Get("rows") == "" {
		return nil
	}
	return parseDraft(form)
}

// reservations are the rows in which something is typed.
func (d *draft) reservations() []v1alpha1.Reservation {
	var out []v1alpha1.Reservation
	for _, r := range d.Rows {
		if !r.Empty() {
			out = append(out, v1alpha1.Reservation{Text: r.Text, Owner: r.Owner, Deadline: r.Deadline})
		}
	}
	return out
}

// check says everything that is wrong, in the order of the form. What does not belong to the decision is an error and not
// dropped: whoever typed it meant something by it.
func (d *draft) check(now time.Time) []fieldError {
	var errs []fieldError
	add := func(id, text string, args ...any) { errs = append(errs, fieldError{ID: id, text: text, args: args}) }
	decision := v1alpha1.PVDecision(d.Decision)
	switch decision {
	case v1alpha1.PVAccepted, v1alpha1.PVAcceptedWithReservations, v1alpha1.PVRefused:
	default:
		add("accepted", "error.decision")
	}
	switch {
	case decision == v1alpha1.PVRefused && d.Reason == "":
		add("reason", "error.reason")
	case decision != v1alpha1.PVRefused && decision != "" && d.Reason != "":
		add("reason", "error.reason.extra")
	case utf8.RuneCountInString(d.Reason) > maxReason:
		add("reason", "error.long", maxReason)
	}
	some := len(d.reservations()) > 0
	switch {
	case decision == v1alpha1.PVAcceptedWithReservations && !some:
		add("text-1", "error.reservations")
	case decision != v1alpha1.PVAcceptedWithReservations && decision != "" && some:
		add("text-1", "error.reservations.extra")
	case decision == v1alpha1.PVAcceptedWithReservations:
		for i, r := range d.Rows {
			if !r.Empty() {
				r.check(i+1, now, add)
			}
		}
	}
	return errs
}

func (r row) check(n int, now time.Time, add func(id, text string, args ...any)) {
	id := "-" + strconv.Itoa(n)
	switch {
	case r.Text == "":
		add("text"+id, "error.text", n)
	case utf8.RuneCountInString(r.Text) > maxText:
		add("text"+id, "error.long", maxText)
	}
	switch {
	case r.Owner == "":
		add("owner"+id, "error.owner", n)
	case utf8.RuneCountInString(r.Owner) > maxOwner:
		add("owner"+id, "error.long", maxOwner)
	}
	deadline, err := time.Parse(time.DateOnly, r.Deadline)
	switch {
	case r.Deadline == "":
		add("deadline"+id, "error.deadline", n)
	case err != nil || deadline.Year() > farthest:
		add("deadline"+id, "error.date", n)
	// Yesterday here is today somewhere.
	case deadline.Before(now.UTC().AddDate(0, 0, -1).Truncate(24 * time.Hour)):
		add("deadline"+id, "error.past", n)
	}
}
