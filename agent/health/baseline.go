// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"time"
)

// MaxTurns of one healthcheck, from well to not well, after which it is given up while a rollout is judged.
const MaxTurns = 5

// probeLook is the time after which a healthcheck that failed last is looked at again: its next run makes no event.
const probeLook = 500 * time.Millisecond

// Baseline is what each container, by id, was like at the moment from which it is judged.
type Baseline map[string]Past

// Past of one container.
type Past struct {
	Service string `json:"service,omitempty"`
	// Restarts by the engine until then.
	Restarts int `json:"restarts,omitempty"`
	// Sick is how bad it was then.
	Sick Status `json:"sick,omitempty"`
	// OOM says that a process in it had run out of memory already.
	OOM bool `json:"oom,omitempty"`
	// Turns counts how often its healthcheck turned from well to not well since.
	Turns int `json:"turns,omitempty"`
	// Probe is the latest run of the healthcheck that Turns covers.
	Probe Probe `json:"probe,omitzero"`
}

// BaselineOf remembers what containers are like.
func BaselineOf(containers []Container) Baseline {
	b := make(Baseline, len(containers))
	for _, c := range containers {
		past := Past{Service: c.Service, Restarts: c.Restarts, Sick: sickness(c), OOM: c.OOMKilled}
		if n := len(c.Probes); n > 0 {
			past.Probe = c.Probes[n-1]
		}
		b[c.ID] = past
	}
	return b
}

// sickness is how bad a container looks without knowing what is wanted of it.
func sickness(c Container) Status {
	switch {
	case c.State == StateRestarting, c.State == StateRunning && c.Check == CheckUnhealthy:
		return Unhealthy
	case c.State != StateRunning:
		return Down
	case c.Check == CheckStarting:
		return Waiting
	}
	return Healthy
}

// Settled forgets the restarts of containers that have run for MaxStreak since, so that a crash now and then, over months,
// never adds up to a crash loop.
func (b Baseline) Settled(containers []Container, now time.Time) Baseline {
	next := make(Baseline, len(containers))
	for _, c := range containers {
		past := b[c.ID]
		if c.State == StateRunning && !now.Before(c.StartedAt.Add(MaxStreak)) {
			past.Restarts = c.Restarts
		}
		next[c.ID] = past
	}
	return next
}

// Next counts the turns of healthchecks since the last look.
func (b Baseline) Next(containers []Container) Baseline {
	next := make(Baseline, len(containers))
	for _, c := range containers {
		past := b[c.ID]
		for _, p := range c.Probes {
			if !p.At.After(past.Probe.At) || p.At.Before(c.StartedAt) {
				continue
			}
			if past.Probe.OK && !p.OK {
				past.Turns++
			}
			past.Probe = p
		}
		next[c.ID] = past
	}
	return next
}

// Untouched are the services all of whose containers were there already and were not well, with how bad they were: what is
// wrong with them is not to blame on what happened since.
func (b Baseline) Untouched(containers []Container) map[string]Status {
	found := map[string]Status{}
	for _, c := range containers {
		if past, known := b[c.ID]; known {
			found[c.Service] = max(found[c.Service], past.Sick)
		}
	}
	for _, c := range containers {
		if _, known := b[c.ID]; !known {
			delete(found, c.Service)
		}
	}
	for service, sick := range found {
		if sick == Healthy {
			delete(found, service)
		}
	}
	return found
}

// Sick are the services that were not well, with how bad they were.
func (b Baseline) Sick() map[string]Status {
	found := map[string]Status{}
	for _, past := range b {
		if past.Sick > Healthy {
			found[past.Service] = max(found[past.Service], past.Sick)
		}
	}
	return found
}

// Excuse leaves services out of the verdict that are no worse than they were, and says so. Containers that are missing or
// run another image have no excuse.
func (v Verdict) Excuse(sick map[string]Status) Verdict {
	v.Services = slices.Clone(v.Services)
	v.Status = Healthy
	for i := range v.Services {
		s := &v.Services[i]
		if before, was := sick[s.Name]; was && s.Status > Healthy && s.Status <= before && !s.amiss {
			s.Excused, s.Status, s.Hopeless = true, Healthy, false
			s.Message = "was not well before this release either: " + s.Message
		}
		v.Status = max(v.Status, s.Status)
	}
	return v
}

// Excused are the services that were left out of the verdict.
func (v Verdict) Excused() []string {
	var names []string
	for _, s := range v.Services {
		if s.Excused {
			names = append(names, s.Name)
		}
	}
	return names
}

// Strict judges by more than the present moment, for a rollout that is not committed: a healthcheck that turned from well to
// not well must stay well for a streak, which doubles with each turn, and a process that ran out of memory spoils its
// container even if its first process lives on.
func (v Verdict) Strict(containers []Container, base Baseline, now time.Time) Verdict {
	v.Services = slices.Clone(v.Services)
	for i := range v.Services {
		s := &v.Services[i]
		for _, c := range containers {
			if c.Service != s.Name || c.State != StateRunning {
				continue
			}
			if f := strictly(&v, c, base[c.ID], now); f.status > s.Status && !s.Excused {
				s.Status, s.Message, s.Hopeless = f.status, f.message, s.Hopeless || f.hopeless
			}
		}
		v.Status = max(v.Status, s.Status)
	}
	return v
}

func strictly(v *Verdict, c Container, past Past, now time.Time) finding {
	if c.OOMKilled && !past.OOM {
		return finding{Unhealthy, "a process in it ran out of memory", true}
	}
	n := len(c.Probes)
	if c.Check != CheckHealthy || n == 0 {
		return finding{}
	}
	if past.Turns > MaxTurns {
		return finding{Unhealthy, fmt.Sprintf("its healthcheck flaps: it turned %d times", past.Turns), true}
	}
	if !c.Probes[n-1].OK {
		v.lookAt(now.Add(probeLook))
		return finding{Waiting, "its healthcheck failed the last time", false}
	}
	if past.Turns == 0 {
		return finding{}
	}
	since := c.Probes[n-1].At
	for i := n - 1; i >= 0 && c.Probes[i].OK; i-- {
		since = c.Probes[i].At
	}
	if steady := since.Add(streak(past.Turns)); now.Before(steady) {
		v.lookAt(steady)
		return finding{Waiting, fmt.Sprintf("its healthcheck turned %d times, must stay well", past.Turns), false}
	}
	return finding{}
}
