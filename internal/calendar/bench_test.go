// SPDX-License-Identifier: Apache-2.0

package calendar_test

import (
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
)

// usual is what a team writes.
var usual = v1alpha1.Window{
	Allow:     periods(period("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", "09:00", 8*hour, "")),
	Deny:      periods(period("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=20", "18:00", 360*hour, "freeze")),
	Countries: []string{"fr"},
}

// worst is what the schema lets somebody write who wants to keep a controller busy: as many periods as possible, each as
// often and as long as possible, that leave no instant open; and all countries.
func worst() v1alpha1.Window {
	w := v1alpha1.Window{Countries: []string{"at", "be", "ca", "ch", "de", "es", "fr", "gb"}}
	for range 16 {
		w.Allow = append(w.Allow, period("FREQ=HOURLY;BYMONTHDAY=-1,-2,-3,-4,-5,-6,-7,-8,-9,-10,-11,-12,-13,-14,-15,"+
			"-16,-17,-18,-19,-20,-21,-22,-23,-24,-25,-26,-27,-28,-29,-30,-31", "00:00", 8784*hour, ""))
		w.Deny = append(w.Deny, w.Allow[0])
	}
	return w
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compile(b, usual)
	}
}

// What never occurs is sought for a century before it is refused.
func BenchmarkCompileNeverOccurs(b *testing.B) {
	never := v1alpha1.Window{Deny: periods(period("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "09:00", hour, ""))}
	for b.Loop() {
		if _, err := calendar.Compile(never); err == nil {
			b.Fatal("compiled")
		}
	}
}

func BenchmarkAt(b *testing.B)            { benchAt(b, usual, "2026-03-04T10:00:00Z") }
func BenchmarkAtClosedLong(b *testing.B)  { benchAt(b, usual, "2026-12-21T10:00:00Z") }
func BenchmarkAtWorst(b *testing.B)       { benchAt(b, worst(), "2026-03-04T10:00:00Z") }
func BenchmarkNextOpen(b *testing.B)      { benchNextOpen(b, usual, "2026-03-07T10:00:00Z") }
func BenchmarkNextOpenWorst(b *testing.B) { benchNextOpen(b, worst(), "2026-03-04T10:00:00Z") }

func benchAt(b *testing.B, w v1alpha1.Window, at string) {
	c, t := compile(b, w), instant(b, at)
	for b.Loop() {
		c.At(t)
	}
}

func benchNextOpen(b *testing.B, w v1alpha1.Window, at string) {
	c, t := compile(b, w), instant(b, at)
	for b.Loop() {
		c.NextOpen(t)
	}
}

// A window of the worst kind is answered, at all: seconds would be too long, whatever the machine.
func TestWorstWindowIsAnswered(t *testing.T) {
	begin := time.Now()
	c := compile(t, worst())
	if next, ok := c.NextOpen(instant(t, "2026-03-04T10:00:00Z")); ok {
		t.Errorf("opens at %s", next)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}
