// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// defaultGrace is how long a host that is not heard of keeps its place among those that may be unavailable, where the
// strategy names no time for becoming healthy.
const defaultGrace = 5 * time.Minute

// Strategy is how a release reaches its hosts.
type Strategy struct {
	// MaxUnavailable bounds the hosts that are busy at a time; less than 1 means 1.
	MaxUnavailable int32
	// SuccessThreshold is the percentage of hosts that must become healthy; 0 means 100.
	SuccessThreshold int32
	// Pause comes between a healthy batch and the next.
	Pause time.Duration
	// Grace is how long a host that is not heard of counts as unavailable; after that the others go on without it.
	Grace time.Duration
}

// StrategyOf reads what an Environment declares.
func StrategyOf(s v1alpha1.RolloutStrategy) Strategy {
	out := Strategy{MaxUnavailable: max(s.MaxUnavailable, 1), Pause: s.Pause.Duration, Grace: cmp.Or(s.Timeout.Duration, defaultGrace), SuccessThreshold: 100}
	if s.SuccessThreshold != nil {
		out.SuccessThreshold = *s.SuccessThreshold
	}
	return out
}

// needed is how many of n hosts must become healthy: never none, so that a release that failed everywhere never counts.
func (s Strategy) needed(n int) int {
	percent := int(s.SuccessThreshold)
	if percent <= 0 || percent > 100 {
		percent = 100
	}
	return max(1, (n*percent+99)/100)
}

// Host is a server that serves the environment.
type Host struct {
	Name string
	UID  string
	// Enrolled: an agent holds a certificate for it.
	Enrolled bool
	// Lost is when the agent was noticed to be silent; zero while it is heard of, or never was.
	Lost time.Time
	// Closed says why nothing new may be sent there now, "" when it may; Opens is when that ends, zero for not by itself.
	Closed string
	Opens  time.Time
	// Suspended says by whose word nothing is touched there, "" when it may be.
	Suspended string
}

// keeps says why a host gets nothing new, "" when it may. Silence counts, since an order that lies in wait would be carried
// out at a moment of its own, outside of every batch.
func (h Host) keeps() string {
	switch {
	case !h.Enrolled:
		return "has no agent yet"
	case h.Suspended != "":
		return "is suspended: " + h.Suspended
	case h.Closed != "":
		return h.Closed
	case !h.Lost.IsZero():
		return "has not been heard of since " + h.Lost.UTC().Format(time.RFC3339)
	}
	return ""
}

// Input is all that a step depends on.
type Input struct {
	Now time.Time
	// Current is the sequence to bring everywhere, 0 for none; LastGood the one that was healthy last, 0 for none.
	Current, LastGood int64
	Hosts             []Host
	Observed          []Observed
	Strategy          Strategy
	// Batch is what Plan.Batch said the last time.
	Batch *v1alpha1.Batch
}

// Plan is what to do now.
type Plan struct {
	// Create lists the hosts that get a Rollout with the current sequence.
	Create []string
	// Delete lists Rollouts that nobody needs: older than both what is current and what last served, and not the newest of
	// their host, which says what runs there; and orders that a host has not begun while another one became current that is kept from it.
	Delete []Observed
	// Waiting says why hosts are left out for the moment; "" when none is.
	Waiting string
	// At is when the next step may be due without an event; zero for never.
	At time.Time
	// Batch is to be remembered for the next step: it makes the pause count from one moment.
	Batch *v1alpha1.Batch
}

// tally is what the hosts make of one sequence.
type tally struct {
	have map[string]Observed
	// busy hosts take the places of maxUnavailable; failed ones are spoken of.
	busy   int
	failed []string
	// gone are hosts that are no longer waited for.
	next time.Time
}

// count looks at the hosts of the environment and at nobody else: a host that was relabelled away neither fails nor holds up
// those that stay.
func count(in Input) tally {
	t := tally{have: map[string]Observed{}}
	for _, o := range in.Observed {
		if o.Sequence == in.Current {
			t.have[o.Host] = o
		}
	}
	for _, h := range sorted(in.Hosts) {
		o, sent := t.have[h.Name]
		silent := !h.Lost.IsZero()
		switch {
		case sent && Failed(o.Phase):
			t.failed = append(t.failed, h.Name)
		case silent:
			// Down as far as anybody knows, for a time: then it is its owner's affair, and nobody else's delay.
			if until := h.Lost.Add(in.Strategy.Grace); in.Now.Before(until) {
				t.busy++
				t.next = sooner(t.next, until)
			}
		case sent && o.Phase != v1alpha1.RolloutHealthy:
			t.busy++
		}
	}
	return t
}

// Steps plans one step towards the current sequence on every host, in the order of their names. At most MaxUnavailable hosts
// are busy at a time; as soon as so many failed that the threshold cannot be reached, no further host gets it.
func Steps(in Input) Plan {
	plan := Plan{Delete: outdated(in)}
	if in.Current == 0 {
		return plan
	}
	t := count(in)
	var left []Host
	for _, h := range sorted(in.Hosts) {
		if _, sent := t.have[h.Name]; !sent {
			left = append(left, h)
		}
	}
	if len(left) == 0 {
		return plan
	}
	if unreachable(in.Strategy, len(in.Hosts), len(t.failed)) {
		plan.Waiting = "stopped: it failed on host " + strings.Join(t.failed, ", ")
		return plan
	}
	var waits []string
	if in.Strategy.Pause > 0 && len(t.have) > 0 {
		var until time.Time
		plan.Batch, until = pause(in, t)
		switch {
		case plan.Batch == nil:
			waits = append(waits, fmt.Sprintf("the batch under way comes first, then a pause of %s", in.Strategy.Pause))
		case in.Now.Before(until):
			waits = append(waits, "pause until "+until.UTC().Format(time.RFC3339))
			plan.At = sooner(plan.At, until)
		}
	}
	paused := len(waits) > 0
	room, full := int(max(in.Strategy.MaxUnavailable, 1))-t.busy, false
	for _, h := range left {
		switch reason := h.keeps(); {
		case reason != "":
			waits = append(waits, "host "+h.Name+" "+reason)
			plan.At = sooner(plan.At, h.Opens)
		case paused:
		case room <= 0:
			full = true
		default:
			plan.Create = append(plan.Create, h.Name)
			room--
		}
	}
	if full {
		waits = append(waits, fmt.Sprintf("%d host(s) at a time", max(in.Strategy.MaxUnavailable, 1)))
		plan.At = sooner(plan.At, t.next)
	}
	if paused {
		plan.At = sooner(plan.At, t.next)
	}
	plan.Waiting = strings.Join(waits, "; ")
	return plan
}

// pause says until when the next batch waits: from the moment that the last one was healthy. That moment is noted once, and
// never lies in the future, whatever a host's clock says. No batch while one is under way.
func pause(in Input, t tally) (*v1alpha1.Batch, time.Time) {
	if t.busy > 0 {
		return nil, time.Time{}
	}
	batch := v1alpha1.Batch{Sequence: in.Current, Hosts: int32(len(t.have))}
	if in.Batch != nil && in.Batch.Sequence == batch.Sequence && in.Batch.Hosts == batch.Hosts {
		batch = *in.Batch
	} else {
		since := time.Time{}
		for _, o := range t.have {
			if o.HealthySince != nil && o.HealthySince.After(since) {
				since = o.HealthySince.Time
			}
		}
		if since.IsZero() || since.After(in.Now) {
			since = in.Now
		}
		batch.Since.Time = since.UTC()
	}
	return &batch, batch.Since.Add(in.Strategy.Pause)
}

// unreachable says that the threshold cannot be reached any more.
func unreachable(s Strategy, hosts, failed int) bool {
	return failed > 0 && hosts-failed < s.needed(hosts)
}

// outdated are the Rollouts that nobody needs any more.
func outdated(in Input) []Observed {
	newest := map[string]Observed{}
	for _, o := range in.Observed {
		if n, known := newest[o.Host]; !known || o.Sequence > n.Sequence {
			newest[o.Host] = o
		}
	}
	var out []Observed
	for _, o := range in.Observed {
		last := newest[o.Host]
		served := o.Sequence < in.Current && o.Sequence < in.LastGood
		removed := last.Phase == v1alpha1.RolloutRemoved
		if lies(in, o) || o.Sequence < last.Sequence && (served || removed) {
			out = append(out, o)
		}
	}
	return out
}

// lies says that an order lies with a host that has not begun it, although another one is current by now, which is not sent
// there for the moment: the host is silent, suspended or outside of its window. Back again, it would carry out what was
// replaced, and perhaps failed elsewhere, before it is sent what is wanted.
func lies(in Input, o Observed) bool {
	unseen := o.Phase == "" || o.Phase == v1alpha1.RolloutPending
	if in.Current == 0 || o.Sequence == in.Current || o.Removal || !unseen {
		return false
	}
	return slices.ContainsFunc(in.Hosts, func(h Host) bool { return h.Name == o.Host && h.keeps() != "" })
}

func sorted(hosts []Host) []Host {
	return slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
}

// sooner is the first of two moments; a zero one does not count.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
