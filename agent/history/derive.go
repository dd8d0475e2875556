// SPDX-License-Identifier: Apache-2.0

package history

import (
	"time"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Recorder turns states into entries: it remembers which phase of which rollout is recorded, so that the same state twice
// is one entry, also after a restart.
type Recorder struct {
	journal *Journal
	key     state.Key
	// last is the phase recorded last of each rollout, by uid.
	last map[string]string
}

// Recorder continues the history of an environment. What cannot be read of it counts as not there.
func (j *Journal) Recorder(k state.Key) (*Recorder, error) {
	r := &Recorder{journal: j, key: k, last: map[string]string{}}
	entries, err := j.Read(k)
	for _, e := range entries {
		r.last[e.UID] = e.Phase
	}
	return r, err
}

// Note records what is new in a state, and returns it.
func (r *Recorder) Note(e *state.Environment, now time.Time) ([]Entry, error) {
	var news []Entry
	for _, entry := range phases(e, now) {
		if r.last[entry.UID] != entry.Phase {
			r.last[entry.UID] = entry.Phase
			news = append(news, entry)
		}
	}
	return news, r.journal.Append(r.key, news...)
}

// phases are those that the rollouts of a state are in, in the order in which they came about. A rollout that something else
// took the place of has none.
func phases(e *state.Environment, now time.Time) []Entry {
	var list []Entry
	add := func(d *state.Deployment, phase string, at time.Time) {
		list = append(list, Entry{
			At: at, Rollout: d.Name, UID: d.UID, Release: d.Spec.Release.Name, Version: d.Spec.Release.Version,
			Sequence: d.Spec.Sequence, Phase: phase, Took: took(d.Timings, phase, at),
		})
	}
	for _, f := range e.Failed {
		list = append(list, Entry{
			At: f.At, Rollout: f.Name, UID: f.UID, Release: f.Release, Sequence: f.Sequence, Phase: f.Phase,
			Reason: f.Reason, Message: f.Message, Took: took(f.Timings, f.Phase, f.At),
		})
	}
	if d := e.Current; d != nil {
		if d.HealthySince.IsZero() {
			add(d, v1alpha1.RolloutUnhealthy, now)
		} else {
			add(d, v1alpha1.RolloutHealthy, d.HealthySince)
		}
	}
	if a := e.Attempt; a != nil && a.Failure == nil {
		at := now
		if n := len(a.Timings); n > 0 && a.Timings[n-1].Phase == a.Phase {
			at = a.Timings[n-1].Started.Time
		}
		add(&a.Deployment, a.Phase, at)
	}
	return list
}

// took is the time from a rollout's beginning to its end, in milliseconds; 0 while it goes on, and for what happened to it
// afterwards.
func took(timings []v1alpha1.PhaseTiming, phase string, at time.Time) int64 {
	switch phase {
	case v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHeld, v1alpha1.RolloutRemoved:
	default:
		return 0
	}
	if len(timings) == 0 {
		return 0
	}
	end := at
	if last := timings[len(timings)-1]; last.Phase == phase {
		end = last.Started.Time
	}
	return max(0, end.Sub(timings[0].Started.Time).Milliseconds())
}
