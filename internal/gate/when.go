// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Crossing is a gate on a release's way, in the order of the bridge.
type Crossing struct {
	Input   Input
	Verdict *v1alpha1.GateVerdict
	// Open: the release went through.
	Open bool
}

// Forecast writes into the verdicts when each gate that is not open yet can open at the earliest, and returns the same for
// the last environment in words; "" when the release is through. It assumes that everybody acts at once and that
// deployments take no time: what is left are soaks and calendars.
//
// A moment is told as such only while it does not depend on when people act; otherwise as a time from then on. So a release
// that waits for somebody keeps its status. The time returned is the first at which that may change, beside the rechecks of
// the judgements; zero if it does not.
func Forecast(way []Crossing, now time.Time) (string, time.Time) {
	for i := range way {
		way[i].Verdict.Earliest, way[i].Verdict.EarliestAfter = nil, nil
	}
	first, last := -1, len(way)-1
	for i, c := range way {
		if !c.Open && first < 0 {
			first = i
		}
		if !c.Open && c.Verdict.Verdict == v1alpha1.VerdictRefused {
			return fmt.Sprintf("never, unless gate %s changes its mind: %s", c.Verdict.Name, c.Verdict.Message), time.Time{}
		}
	}
	if first < 0 {
		return "", time.Time{}
	}
	w := walk{now: now, at: moment{depends: true}, arrived: map[string]moment{}}
	for _, c := range way {
		if c.Open {
			continue
		}
		if !w.through(c.Input) {
			return "never: the calendar of a gate does not open again", w.look
		}
		if w.at.depends {
			c.Verdict.EarliestAfter = &metav1.Duration{Duration: w.at.after}
		} else {
			t := metav1.NewTime(w.at.time)
			c.Verdict.Earliest = &t
		}
	}
	for i, c := range way { // of two gates into one environment the first may have passed
		if i >= first && !c.Open && c.Verdict.Verdict != v1alpha1.VerdictPassed {
			first = i
			break
		}
	}
	waitsFor := way[first].Verdict
	environment := Place(way[last].Input.Spec.Environment)
	switch {
	case !w.at.depends:
		return fmt.Sprintf("%s on %s, if everybody acts at once", environment, w.at.time.UTC().Format(time.RFC3339)), w.look
	case w.at.after > 0:
		return fmt.Sprintf("%s %s after gate %s has what it waits for: %s", environment, w.at.after, waitsFor.Name, WaitingFor(*waitsFor)), w.look
	}
	return fmt.Sprintf("%s as soon as gate %s has what it waits for: %s", environment, waitsFor.Name, WaitingFor(*waitsFor)), w.look
}

// moment is a time, or a time that depends on when somebody acts: then it is so long after that.
type moment struct {
	depends bool
	time    time.Time
	after   time.Duration
	// vague: a calendar lies behind the act, so that it may be later than that, and no date holds for what follows.
	vague bool
}

// walk goes over the bridge in thought.
type walk struct {
	now time.Time
	// at is when the last gate opened.
	at moment
	// arrived are the environments entered on this walk.
	arrived map[string]moment
	// look is when the outcome may change by itself.
	look time.Time
}

// through opens one more gate as early as its soaks and calendars let it. False: a calendar never opens.
func (w *walk) through(in Input) bool {
	at := w.at
	var windows []*v1alpha1.Window
	if glass := brokenGlass(in); glass == nil || !in.Guarded { // which makes up for soaks and calendars
		for _, c := range in.Spec.Criteria {
			if c.Soak != nil {
				at = w.later(at, w.soaked(in, *c.Soak))
			}
			if c.Window != nil {
				windows = append(windows, c.Window)
			}
		}
		if in.Window != nil {
			windows = append(windows, in.Window)
		}
	}
	opens := at.time
	if at.depends {
		opens = w.now.Add(at.after)
	}
	settled, ok := w.settle(windows, opens, at)
	switch {
	case !at.depends:
		at.time = settled
	case at.after > 0 || at.vague:
		at.vague = at.vague || len(windows) > 0
	case settled.After(opens):
		at = moment{time: settled} // it is closed now: it does not matter who acts when before it opens
	}
	w.at, w.arrived[in.Spec.Environment] = at, at
	return ok
}

// later is the later of two moments. One that depends on people overtakes one that does not as time goes by.
func (w *walk) later(a, b moment) moment {
	switch {
	case a.depends && b.depends:
		return moment{depends: true, after: max(a.after, b.after), vague: a.vague || b.vague}
	case !a.depends && !b.depends:
		if a.time.Before(b.time) {
			return b
		}
		return a
	case b.depends:
		a, b = b, a
	}
	if a.vague {
		return a
	}
	if overtakes := b.time.Add(-a.after); overtakes.After(w.now) {
		w.look = sooner(w.look, overtakes)
		return b
	}
	return a
}

// soaked is when a soak ends if the release stays, or becomes as early as it can, healthy.
func (w *walk) soaked(in Input, c v1alpha1.SoakCriterion) moment {
	required := Required(c, in.Works)
	begins := moment{depends: true}
	if from, ok := w.arrived[c.Environment]; ok {
		begins = from
	} else if e, ok := in.Environments[c.Environment]; ok && e.HealthySince != nil {
		end := e.HealthySince.Add(required)
		if e.HealthyUntil == nil || !e.HealthyUntil.Time.Before(end) { // otherwise it begins anew
			return moment{time: end}
		}
	}
	begins.time, begins.after = begins.time.Add(required), begins.after+required
	return begins
}

// settle is the first moment from t on at which all calendars are open.
func (w *walk) settle(windows []*v1alpha1.Window, t time.Time, at moment) (time.Time, bool) {
	// Each calendar may move the moment out of another one: some rounds settle it, or nothing does.
	const rounds = 32
	for range rounds {
		before := t
		for _, window := range windows {
			c, err := compiledCalendar(*window)
			if err != nil {
				return t, false
			}
			answer := c.At(t)
			if at.depends && !answer.Until.IsZero() { // time goes by until somebody acts, and t with it
				w.look = sooner(w.look, answer.Until.Add(-at.after))
			}
			if answer.Open {
				continue
			}
			if answer.Until.IsZero() {
				return t, false
			}
			t = answer.Until
		}
		if t.Equal(before) {
			return t, true
		}
	}
	return t, false
}
