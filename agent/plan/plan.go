// SPDX-License-Identifier: Apache-2.0

// Package plan decides what an agent does next about one environment: state on disk × what is offered × what is observed →
// one action out of a closed list.
//
// It is pure: no client, context, logger, clock or disk. It may import agent/health.
package plan

import (
	"time"

	"gitlab.com/dynors/sirrat/agent/health"
)

// Action is what to do next.
type Action int

// The closed list of actions.
const (
	// Rest: nothing, until an event or Decision.At.
	Rest Action = iota
	// Deploy the offered Rollout, from the beginning.
	Deploy
	// Resume the attempt that a restart of the agent interrupted.
	Resume
	// GoBack: the attempt failed, make the last good one serve again.
	GoBack
	// Heal: bring back what must run.
	Heal
	// Prune: remove the images of sets that nobody goes back to any more.
	Prune
)

func (a Action) String() string {
	return [...]string{"rest", "deploy", "resume", "go back", "heal", "prune"}[a]
}

// Times of healing.
const (
	// Settle is how long something must be down before it is healed: `docker restart` comes back by itself.
	Settle = 500 * time.Millisecond
	// FirstBackoff after a healing that did not hold; it doubles up to MaxBackoff.
	FirstBackoff = 2 * time.Second
	MaxBackoff   = 5 * time.Minute
	// Calm is how long something must hold after a healing for the next one to come at once again.
	Calm = 10 * time.Minute
)

// Offer is how the best Rollout that the control plane offers relates to what is on disk.
type Offer int

// Relations of an offer.
const (
	// NoOffer: none, or none that is authorised. Never an order to remove anything.
	NoOffer Offer = iota
	// Older than what was carried out already.
	Older
	// Known: it is what runs, what is under way, or what failed before.
	Known
	// New: to be carried out.
	New
)

// Attempt is the deployment under way, if any.
type Attempt int

// States of an attempt.
const (
	NoAttempt Attempt = iota
	// UnderWay and not failed so far.
	UnderWay
	// Failed: the way back has begun.
	Failed
)

// Healing is the history of healing.
type Healing struct {
	// Count of healings since it last held for Calm.
	Count int
	// Last is when the last one ended.
	Last time.Time
	// DownSince is when it was first seen down; zero when it is not.
	DownSince time.Time
}

// Backoff is the wait after the last healing.
func (h Healing) Backoff() time.Duration {
	if h.Count == 0 {
		return 0
	}
	d := FirstBackoff
	for range h.Count - 1 {
		if d *= 2; d >= MaxBackoff {
			return MaxBackoff
		}
	}
	return d
}

// Input is all that the decision depends on.
type Input struct {
	Now time.Time
	// Damaged says that the state on disk cannot be trusted.
	Damaged bool
	// Unsaved says that the disk refused the last change of the state: nothing that builds on it may begin.
	Unsaved bool
	// Suspended says by whose word nothing is touched, "" when it may be; SuspendedUntil is when that ends by itself.
	Suspended      string
	SuspendedUntil time.Time
	Offer          Offer
	Attempt        Attempt
	// Serving says that something is committed and must run.
	Serving bool
	// Observed is the judgement of what must run; nil when the engine did not answer.
	Observed *health.Verdict
	Healing  Healing
	// PruneDue says that a commit has left images behind.
	PruneDue bool
}

// Decision is the next action and why.
type Decision struct {
	Action Action
	Reason string
	// At is when to decide again without an event; zero for never.
	At time.Time
}

// Next decides.
func Next(in Input) Decision {
	switch {
	case in.Damaged:
		return Decision{Rest, "the state on disk is damaged: nothing is touched", time.Time{}}
	case in.Suspended != "":
		return Decision{Rest, "suspended " + in.Suspended, in.SuspendedUntil}
	case in.Unsaved && (in.Offer == New || in.Attempt != NoAttempt):
		return Decision{Rest, "the state cannot be written: nothing goes on as if it had been", time.Time{}}
	case in.Offer == New:
		return Decision{Deploy, "a new rollout is authorised", time.Time{}}
	case in.Attempt == Failed:
		return Decision{GoBack, "the rollout failed", time.Time{}}
	case in.Attempt == UnderWay:
		return Decision{Resume, "the rollout was interrupted", time.Time{}}
	case !in.Serving:
		return Decision{Rest, "nothing must run", time.Time{}}
	case in.Observed == nil:
		return Decision{Rest, "the engine does not answer", time.Time{}}
	case in.Observed.Status == health.Healthy && in.PruneDue && !in.Unsaved:
		return Decision{Prune, "a commit has left images behind", time.Time{}}
	case in.Observed.Status != health.Down:
		return Decision{Rest, in.Observed.Status.String(), in.Observed.NextLook}
	}
	due := in.Healing.DownSince.Add(Settle)
	if after := in.Healing.Last.Add(in.Healing.Backoff()); after.After(due) {
		due = after
	}
	if in.Now.Before(due) {
		return Decision{Rest, "down: " + in.Observed.Message(), due}
	}
	return Decision{Heal, "down: " + in.Observed.Message(), time.Time{}}
}
