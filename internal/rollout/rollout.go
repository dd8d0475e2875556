// SPDX-License-Identifier: Apache-2.0

// Package rollout plans: it picks the release that an environment should run, assigns it to hosts in batches, and says
// what the hosts' reports mean for the release.
//
// It is pure: values in, values out. It may import api/v1alpha1 only.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
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

// Host is a server that serves the environment.
type Host struct {
	Name string
	UID  string
	// Enrolled: an agent holds a certificate for it.
	Enrolled bool
}

// Observed is one Rollout of the environment.
type Observed struct {
	Host         string
	Name         string
	Sequence     int64
	Phase        string
	Message      string
	HealthySince *metav1.Time
}

// Plan is what to do now.
type Plan struct {
	// Create lists the hosts that get a Rollout with the current sequence.
	Create []string
	// Delete lists Rollouts that nobody needs: older than both what is current and what last served.
	Delete []Observed
	// Waiting says why hosts are left out for the moment; "" when none is.
	Waiting string
}

// Steps plans one step towards sequence `current` on every host. At most maxUnavailable hosts are busy at a time, and a
// failure on one stops the others. lastGood is the sequence that was healthy everywhere last; 0 if none.
func Steps(current, lastGood int64, hosts []Host, observed []Observed, maxUnavailable int32) Plan {
	var plan Plan
	have := map[string]Observed{}
	busy, failed := int32(0), ""
	for _, o := range observed {
		if o.Sequence == current {
			have[o.Host] = o
			switch {
			case Failed(o.Phase):
				failed = o.Host
			case o.Phase != v1alpha1.RolloutHealthy:
				busy++
			}
		}
		if o.Sequence < current && o.Sequence < lastGood {
			plan.Delete = append(plan.Delete, o)
		}
	}
	if current == 0 {
		return plan
	}
	sorted := slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range sorted {
		if _, ok := have[h.Name]; ok {
			continue
		}
		switch {
		case failed != "":
			plan.Waiting = fmt.Sprintf("stopped: it failed on host %s", failed)
		case !h.Enrolled:
			plan.Waiting = fmt.Sprintf("host %s has no agent yet", h.Name)
		case busy >= max(maxUnavailable, 1):
			plan.Waiting = fmt.Sprintf("%d host(s) at a time", max(maxUnavailable, 1))
		default:
			plan.Create = append(plan.Create, h.Name)
			busy++
		}
	}
	return plan
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
}

// Summarise folds the Rollouts of one sequence on the environment's hosts into the release's phase there: one failure
// fails it, and it is healthy once it is healthy on every host, since the last of them became so.
func Summarise(hosts []Host, observed []Observed) State {
	byHost := map[string]Observed{}
	for _, o := range observed {
		byHost[o.Host] = o
	}
	s := State{Phase: v1alpha1.PhaseHealthy}
	var since time.Time
	var details []string
	note := func(phase, detail string) {
		if rank(phase) > rank(s.Phase) {
			s.Phase = phase
		}
		if detail != "" {
			details = append(details, detail)
		}
	}
	for _, h := range slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return strings.Compare(a.Name, b.Name) }) {
		o, ok := byHost[h.Name]
		switch {
		case !ok:
			note(v1alpha1.PhaseDeploying, h.Name+": not sent yet")
		case o.Phase == v1alpha1.RolloutHealthy && o.HealthySince != nil:
			s.Ready++
			if o.HealthySince.After(since) {
				since = o.HealthySince.Time
			}
		case o.Phase == v1alpha1.RolloutRolledBack:
			note(v1alpha1.PhaseRolledBack, h.Name+": "+o.Message)
		case Failed(o.Phase):
			note(v1alpha1.PhaseFailed, h.Name+": "+o.Message)
		case o.Phase == v1alpha1.RolloutUnhealthy:
			note(v1alpha1.PhaseUnhealthy, h.Name+": "+o.Message)
		default:
			note(v1alpha1.PhaseDeploying, strings.TrimSuffix(h.Name+": "+cmp.Or(o.Phase, v1alpha1.RolloutPending)+" "+o.Message, " "))
		}
	}
	if len(hosts) == 0 {
		s.Phase = v1alpha1.PhaseDeploying
		details = append(details, "no host matches")
	}
	if s.Phase == v1alpha1.PhaseHealthy {
		t := metav1.NewTime(since)
		s.HealthySince = &t
	}
	s.Message = strings.Join(details, "; ")
	return s
}

// rank orders phases: what one host says of the highest rank is what is said of the release.
func rank(phase string) int {
	switch phase {
	case v1alpha1.PhaseHealthy:
		return 0
	case v1alpha1.PhaseUnhealthy:
		return 1
	case v1alpha1.PhaseDeploying:
		return 2
	case v1alpha1.PhaseRolledBack:
		return 3
	}
	return 4
}
