// SPDX-License-Identifier: Apache-2.0

package converge

import (
	"gitlab.com/dynors/sirrat/agent/health"
)

// Round is the next thing to do for a service that is replaced in rounds. Exactly one field is set, or Done.
type Round struct {
	// Create so many new containers beside those that are there.
	Create int
	// Retire these: drain, stop and remove them.
	Retire []Container
	// Done: as many new containers as wanted, and no old one.
	Done bool
}

// NextRound decides from what is there: new containers, all of them healthy, and old ones, best first. It never takes away
// an old container that a new one has not replaced, and never has more than Parallelism of them on the way at a time.
func NextRound(s Service, fresh, old []Container) Round {
	missing := s.Replicas - len(fresh)
	step := missing
	if p := s.Manner.Parallelism; p > 0 {
		step = min(p, missing)
	}
	mayStay := max(0, missing)
	if s.Manner.Order == StopFirst {
		mayStay = max(0, missing-step)
	}
	switch {
	case len(old) > mayStay:
		return Round{Retire: old[mayStay:]}
	case missing > 0:
		return Round{Create: step}
	}
	return Round{Done: true}
}

// Leftovers are old containers that serve nobody and can go at once: those that do not run, and those that an attempt which
// was given up has left beyond the number wanted before they became healthy.
func Leftovers(s Service, old []Container) []Container {
	serving := 0
	var left, rest []Container
	for _, c := range old {
		switch {
		case c.State != health.StateRunning:
			left = append(left, c)
		case c.Check != health.CheckUnhealthy && c.Check != health.CheckStarting:
			serving++
		default:
			rest = append(rest, c)
		}
	}
	if stay := max(0, s.Replicas-serving); serving > 0 && len(rest) > stay {
		left = append(left, rest[stay:]...)
	}
	return left
}
