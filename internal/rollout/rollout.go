// SPDX-License-Identifier: Apache-2.0

// Package rollout plans: it picks the release that an environment should run, assigns it to hosts in batches, and says
// what the hosts' reports mean for the release.
//
// It is pure: values in, values out. It may import api/v1alpha1 only.
package rollout

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Candidate is one release that a gate let into the environment.
type Candidate struct {
	Release v1alpha1.EnvironmentRelease
	// Phase of the release in this environment.
	Phase string
}

// Target is the release that an environment should run: the one authorised last, of those that did not fail and were not
// taken back. Nil when there is none. The order of candidates does not matter.
func Target(candidates []Candidate) *v1alpha1.EnvironmentRelease {
	var best *v1alpha1.EnvironmentRelease
	for _, c := range candidates {
		switch c.Phase {
		case v1alpha1.PhaseFailed, v1alpha1.PhaseRolledBack, v1alpha1.PhaseReturned, v1alpha1.PhaseSuperseded:
			continue
		}
		if best == nil || newer(c.Release, *best) {
			r := c.Release
			best = &r
		}
	}
	return best
}

func newer(a, b v1alpha1.EnvironmentRelease) bool {
	if !a.AuthorizedAt.Equal(&b.AuthorizedAt) {
		return b.AuthorizedAt.Before(&a.AuthorizedAt)
	}
	return cmp.Or(cmp.Compare(a.Release, b.Release), cmp.Compare(a.UID, b.UID)) > 0
}

// Same says whether two entries are one order: the same bundle of the same release, let in by the same judgement.
func Same(a, b *v1alpha1.EnvironmentRelease) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && a.BundleHash == b.BundleHash && a.AuthorizedAt.Equal(&b.AuthorizedAt)
}

// Observed is one Rollout of the environment.
type Observed struct {
	Host         string
	Name         string
	Sequence     int64
	Phase        string
	Message      string
	HealthySince *metav1.Time
	// Removal: it is an order to take the environment down.
	Removal bool
}

// Failed says whether a Rollout's phase is an end without success.
func Failed(phase string) bool {
	switch phase {
	case v1alpha1.RolloutRejected, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHeld:
		return true
	}
	return false
}

// State is what the hosts' reports mean for the release.
type State struct {
	Phase        string
	HealthySince *metav1.Time
	Message      string
	Ready        int32
	// At is when time alone may change it; zero for never.
	At time.Time
}

// Summarise folds the Rollouts of one authorisation on the environment's hosts into the release's phase there. It is healthy
// once as many hosts as the strategy asks for are, and nothing is to be expected of the others: they failed, or have not been
// heard of for longer than the grace. It fails when that cannot be reached any more. Hosts that are left out are named.
func Summarise(hosts []Host, observed []Observed, strategy Strategy, now time.Time) State {
	f := fold{byHost: map[string]Observed{}, strategy: strategy, now: now}
	for _, o := range observed {
		if have, known := f.byHost[o.Host]; !known || o.Sequence > have.Sequence {
			f.byHost[o.Host] = o
		}
	}
	for _, h := range sorted(hosts) {
		f.add(h)
	}
	s := State{Ready: int32(f.healthy), Message: strings.Join(f.details, "; "), At: f.at}
	switch needed := strategy.needed(len(hosts)); {
	case len(hosts) == 0:
		s.Phase, s.Message = v1alpha1.PhaseDeploying, "no host matches"
	case unreachable(strategy, len(hosts), f.failed):
		s.Phase = f.failure
	case f.sick > 0 && f.pending == 0 && f.healthy < needed:
		s.Phase = v1alpha1.PhaseUnhealthy
	case f.pending > 0 || f.healthy < needed:
		s.Phase = v1alpha1.PhaseDeploying
	default:
		s.Phase = v1alpha1.PhaseHealthy
		t := metav1.NewTime(f.since)
		s.HealthySince = &t
		if f.failed+f.lost+f.sick > 0 {
			s.Message = fmt.Sprintf("healthy on %d of %d hosts, %d needed; tolerated: %s", f.healthy, len(hosts), needed, s.Message)
		}
	}
	return s
}

// fold counts hosts by what they say.
type fold struct {
	byHost   map[string]Observed
	strategy Strategy
	now      time.Time

	healthy, sick, failed, lost, pending int
	since                                time.Time // when the last one became healthy
	at                                   time.Time // when a silent one is given up
	failure                              string    // the worst way in which it failed
	details                              []string
}

func (f *fold) add(h Host) {
	o, sent := f.byHost[h.Name]
	tell := func(text string) { f.details = append(f.details, strings.TrimRight(h.Name+": "+text, ": ")) }
	gone := !h.Lost.IsZero() && !f.now.Before(h.Lost.Add(f.strategy.Grace))
	switch {
	case sent && o.Phase == v1alpha1.RolloutHealthy && o.HealthySince != nil:
		f.healthy++
		if o.HealthySince.After(f.since) {
			f.since = o.HealthySince.Time
		}
	case sent && Failed(o.Phase):
		f.failed++
		phase := v1alpha1.PhaseFailed
		if o.Phase == v1alpha1.RolloutRolledBack {
			phase = v1alpha1.PhaseRolledBack
		}
		if rank(phase) > rank(f.failure) {
			f.failure = phase
		}
		tell(o.Message)
	case gone:
		f.lost++
		tell("has not been heard of since " + h.Lost.UTC().Format(time.RFC3339))
	case !h.Lost.IsZero():
		f.pending++
		f.at = sooner(f.at, h.Lost.Add(f.strategy.Grace))
		tell("has not been heard of since " + h.Lost.UTC().Format(time.RFC3339))
	case sent && o.Phase == v1alpha1.RolloutUnhealthy:
		f.sick++
		tell(o.Message)
	case sent:
		f.pending++
		tell(strings.TrimSpace(cmp.Or(o.Phase, v1alpha1.RolloutPending) + " " + o.Message))
	case h.keeps() != "":
		f.pending++
		tell("not sent yet: " + h.keeps())
	default:
		f.pending++
		tell("not sent yet")
	}
}

// rank orders the ways in which it fails: what one host says of the highest rank is what is said of the release.
func rank(phase string) int {
	switch phase {
	case v1alpha1.PhaseRolledBack:
		return 1
	case v1alpha1.PhaseFailed:
		return 2
	}
	return 0
}
