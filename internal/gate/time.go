// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/utils/lru"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
	"gitlab.com/dynors/sirrat/internal/karma"
)

// Required is the soak that works earn: max − (max − min) × works/50.
func Required(c v1alpha1.SoakCriterion, works int32) time.Duration {
	works = min(max(works, 0), karma.WorksMax)
	span := c.Max.Duration - c.Min.Duration
	// Divided first, the remainder apart: spans of years must not overflow.
	earned := span/karma.WorksMax*time.Duration(works) + span%karma.WorksMax*time.Duration(works)/karma.WorksMax
	return c.Max.Duration - earned
}

func judgeSoak(in Input, c v1alpha1.SoakCriterion) outcome {
	required := Required(c, in.Works)
	env, ok := in.Environments[c.Environment]
	if !ok && in.lacks(c.Environment) {
		return mistyped(in, c.Environment)
	}
	if !ok || env.HealthySince == nil {
		return waiting("NotHealthy", "the release becomes healthy in "+c.Environment, "soak of %s in %s has not begun", required, c.Environment)
	}
	end := env.HealthySince.Add(required)
	if env.HealthyUntil != nil {
		if env.HealthyUntil.Time.Before(end) {
			return waiting("SoakBroken", "the release is deployed to "+c.Environment+" again",
				"soaked in %s for %s of %s, then another release took its place", c.Environment, env.HealthyUntil.Sub(env.HealthySince.Time), required)
		}
		return passed("Soaked", "soaked in %s for %s", c.Environment, required)
	}
	if in.Now.Before(end) {
		return waiting("Soaking", fmt.Sprintf("time: %s, if it stays healthy in %s", end.UTC().Format(time.RFC3339), c.Environment),
			"soaks in %s until %s (%s for works of %d/50)", c.Environment, end.UTC().Format(time.RFC3339), required, in.Works).changing(end)
	}
	return passed("Soaked", "soaked in %s for %s", c.Environment, required)
}

// lacks says that the project has no such environment, as far as that is known.
func (in Input) lacks(environment string) bool {
	return in.Bridge != nil && !slices.Contains(in.Bridge, environment)
}

// mistyped is what a criterion waits for that names an environment which is not there.
func mistyped(in Input, environment string) outcome {
	return waiting("NoEnvironment", "somebody mends gate "+in.Name+", or declares the Environment "+environment, "environment %s does not exist", environment)
}

func judgeHealthy(in Input, environment string) outcome {
	env, ok := in.Environments[environment]
	switch {
	case !ok && in.lacks(environment):
		return mistyped(in, environment)
	case !ok:
		return waiting("NotDeployed", "the gate of "+environment+" opens", "not deployed in %s", environment)
	case env.Phase == v1alpha1.PhaseHealthy && env.HealthySince != nil:
		return passed("Healthy", "healthy in %s", environment)
	case env.Phase == v1alpha1.PhaseSuperseded && env.HealthySince != nil:
		return passed("WasHealthy", "was healthy in %s until another release took its place", environment)
	case env.Phase == v1alpha1.PhaseRolledBack || env.Phase == v1alpha1.PhaseFailed:
		return refused("FailedThere", "a new commit, or a retry in "+environment, "%s in %s: %s", Words(env.Phase), environment, env.Message)
	default:
		return waiting("NotHealthy", "the release becomes healthy in "+environment, "%s in %s", Words(env.Phase), environment)
	}
}

// judgeWindow is the guarded environment's own calendar.
func judgeWindow(in Input) outcome {
	if in.Window == nil {
		return passed("Always", "")
	}
	return judgeCalendar(in, *in.Window)
}

func judgeCalendar(in Input, w v1alpha1.Window) outcome {
	c, err := compiledCalendar(w)
	if err != nil {
		return refused("WindowInvalid", "somebody mends the window of gate "+in.Name+" or environment "+in.Spec.Environment, "the window cannot be read: %s", err)
	}
	answer := c.At(in.Now)
	if answer.Open {
		return passed("WindowOpen", "the calendar allows it").changing(answer.Until)
	}
	var o outcome
	if answer.Until.IsZero() {
		o = refused("WindowNever", "somebody mends the window of gate "+in.Name+" or environment "+in.Spec.Environment, "%s", answer.Reason)
	} else {
		o = waiting("WindowClosed", "time: the calendar opens on "+answer.Until.UTC().Format(time.RFC3339), "%s", answer.Reason).changing(answer.Until)
	}
	o.look = answer.Steady // the next day it may be closed for another reason
	return o
}

// compiled remembers calendars and expressions by their text: every release is judged on the same few, and reading one
// takes longer than judging. What is remembered never changes, so that judging stays pure.
var compiled = lru.New(1024)

func compiledCalendar(w v1alpha1.Window) (*calendar.Calendar, error) {
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	type key string
	if c, ok := compiled.Get(key(text)); ok {
		return c.(*calendar.Calendar), nil
	}
	c, err := calendar.Compile(w)
	if err == nil {
		compiled.Add(key(text), c)
	}
	return c, err
}

// Problem is what is wrong with a gate's declaration beyond what its schema sees; "" if nothing is.
func Problem(spec v1alpha1.QualityGateSpec) string {
	for _, c := range spec.Criteria {
		var err error
		switch {
		case c.Window != nil:
			_, err = compiledCalendar(*c.Window)
		case c.CEL != nil:
			_, err = compiledExpression(c.CEL.Expression)
		}
		if err != nil {
			return fmt.Sprintf("spec.criteria[%s]: %s", c.Name, err)
		}
	}
	return ""
}
