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
// that waits for somebody keeps its status.
func Forecast(way []Crossing, now time.Time) string {
	for i := range way {
		way[i].Verdict.Earliest, way[i].Verdict.EarliestAfter = nil, nil
	}
	first, last := -1, len(way)-1
	for i, c := range way {
		if !c.Open && first < 0 {
			first = i
		}
		if !c.Open && c.Verdict.Verdict == v1alpha1.VerdictRefused {
			return fmt.Sprintf("never, unless gate %s changes its mind: %s", c.Verdict.Name, c.Verdict.Message)
		}
	}
	if first < 0 {
		return ""
	}
	at, ok := simulate(way, now)
	// What moves with the time of the question depends on people.
	later, okLater := simulate(way, now.Add(time.Second))
	if !ok || !okLater {
		return "never: the calendar of a gate does not open again"
	}
	waitsFor := way[first].Verdict
	for i := first; i <= last; i++ {
		if at[i].Equal(later[i]) {
			t := metav1.NewTime(at[i])
			way[i].Verdict.Earliest = &t
		} else {
			d := metav1.Duration{Duration: remaining(way[:i+1])}
			way[i].Verdict.EarliestAfter = &d
		}
	}
	environment := way[last].Input.Spec.Environment
	if t := way[last].Verdict.Earliest; t != nil {
		return fmt.Sprintf("%s on %s, if everybody acts at once", environment, t.UTC().Format(time.RFC3339))
	}
	after := "as soon as"
	if d := way[last].Verdict.EarliestAfter.Duration; d > 0 {
		after = d.String() + " after"
	}
	return fmt.Sprintf("%s %s gate %s has what it waits for: %s", environment, after, waitsFor.Name, WaitingFor(*waitsFor))
}

// simulate walks the bridge from now on: when each gate opens. False: a calendar never opens.
func simulate(way []Crossing, now time.Time) (opens []time.Time, ok bool) {
	arrived := map[string]time.Time{} // environments entered in the simulation
	at := now
	for _, c := range way {
		if !c.Open {
			if at, ok = openAt(c.Input, at, arrived); !ok {
				return nil, false
			}
			arrived[c.Input.Spec.Environment] = at
		}
		opens = append(opens, at)
	}
	return opens, true
}

// openAt is the first moment from t on at which the gate's soaks are over and its calendars are open.
func openAt(in Input, t time.Time, arrived map[string]time.Time) (time.Time, bool) {
	windows := []*v1alpha1.Window{in.Window}
	for _, c := range in.Spec.Criteria {
		if c.Window != nil {
			windows = append(windows, c.Window)
		}
		if c.Soak == nil {
			continue
		}
		if end, ok := soaked(in, *c.Soak, t, arrived); ok && end.After(t) {
			t = end
		}
	}
	// Each calendar may move the moment out of another one: some rounds settle it, or nothing does.
	const rounds = 32
	for range rounds {
		before := t
		for _, w := range windows {
			if w == nil {
				continue
			}
			c, err := compiledCalendar(*w)
			if err != nil {
				return t, false
			}
			next, ok := c.NextOpen(t)
			if !ok {
				return t, false
			}
			t = next
		}
		if t.Equal(before) {
			return t, true
		}
	}
	return t, false
}

// soaked is when a soak ends if the release stays, or becomes at t, healthy; false when it was soaked long ago.
func soaked(in Input, c v1alpha1.SoakCriterion, t time.Time, arrived map[string]time.Time) (time.Time, bool) {
	required := Required(c, in.Works)
	if from, ok := arrived[c.Environment]; ok {
		return from.Add(required), true
	}
	e, ok := in.Environments[c.Environment]
	switch {
	case !ok || e.HealthySince == nil:
		return t.Add(required), true
	case e.HealthyUntil != nil && e.HealthyUntil.Sub(e.HealthySince.Time) >= required:
		return time.Time{}, false
	case e.HealthyUntil != nil: // broken: it begins anew
		return t.Add(required), true
	}
	return e.HealthySince.Add(required), true
}

// remaining is the sum of the soaks that have not begun: what lies between somebody's act and the last of these gates,
// whenever that act is.
func remaining(way []Crossing) time.Duration {
	var sum time.Duration
	for _, c := range way {
		if c.Open {
			continue
		}
		var longest time.Duration
		for _, criterion := range c.Input.Spec.Criteria {
			if criterion.Soak == nil {
				continue
			}
			if e, ok := c.Input.Environments[criterion.Soak.Environment]; !ok || e.HealthySince == nil {
				longest = max(longest, Required(*criterion.Soak, c.Input.Works))
			}
		}
		sum += longest
	}
	return sum
}
