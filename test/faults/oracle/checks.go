// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Check applies all checks and returns what was violated, one sentence each.
func Check(r Record) []string {
	return slices.Concat(Lost(r), Doubled(r), Unauthorised(r), Touched(r), NotServed(r), WentBack(r), Jobs(r))
}

// inFlight is how long the engine may go on with a call after whoever made it was killed.
const inFlight = 5 * time.Second

// disturbed says whether something was done to the agent, the engine or this container between the positions from and to, or
// so shortly before that from is what was in flight.
func (r Record) disturbed(id string, from, to int) bool {
	for earliest := r.Entries[from].At.Add(-inFlight); from > 0 && r.Entries[from-1].At.After(earliest); {
		from--
	}
	return slices.ContainsFunc(r.Entries[from:to], func(e Entry) bool {
		return (e.Kind == Disturbance || e.Kind == Forgot) && (e.ID == "" || e.ID == id)
	})
}

// Unauthorised: no container is created or started, and no image pulled, that no order named before, for that service.
func Unauthorised(r Record) (violations []string) {
	for i, e := range r.Entries {
		container := e.Kind == Container && (e.Action == Create || e.Action == Start)
		if !container && e.Kind != Pulled {
			continue
		}
		if !slices.ContainsFunc(r.orders(i), func(o *Order) bool { return !o.Void && o.names(e.Service, e.Image) }) {
			violations = append(violations, fmt.Sprintf("U: %s %s of %q with image %s, which nobody authorised", e.Kind, e.Action, e.Service, e.Image))
		}
	}
	return violations
}

// names says whether an order has the image, for the service if one is given.
func (o *Order) names(service, image string) bool {
	if service != "" {
		return o.Images[service] == image
	}
	for _, named := range o.Images {
		if named == image {
			return true
		}
	}
	return false
}

// slot is what an order makes containers of. Where every release has an image of its own it is one order's.
type slot struct{ service, image string }

// Doubled: at most one effective up per authorisation. Of each service and image there are never more containers than
// replicas; and one is created again only when an earlier one is gone for a reason: it, the agent or the engine was killed
// since it was created, it ended by itself (healing), or another order concerning the service was given (replacing, going
// back).
func Doubled(r Record) (violations []string) {
	live, allowed, created := map[slot]map[string]int{}, map[slot]int{}, map[slot]int{}
	ended := map[string]bool{} // containers that ended without having been told to
	told := map[string]bool{}
	for i, e := range r.Entries {
		switch {
		case e.Kind == Authorised && !e.Order.Void:
			for service, image := range e.Order.Images {
				allowed[slot{service, image}] += e.Order.replicas(service)
			}
		case e.Kind != Container:
		case e.Action == Kill:
			told[e.ID] = true
		case e.Action == Start:
			told[e.ID] = false
		case e.Action == Die:
			ended[e.ID] = ended[e.ID] || !told[e.ID]
		case e.Action == Create:
			s := slot{e.Service, e.Image}
			if live[s] == nil {
				live[s] = map[string]int{}
			}
			live[s][e.ID] = i
			created[s]++
			if limit := r.limit(i, s); len(live[s]) > limit {
				violations = append(violations, fmt.Sprintf("D: %d containers of %s with image %s, %d wanted", len(live[s]), s.service, s.image, limit))
			}
			if created[s] > allowed[s] {
				violations = append(violations, fmt.Sprintf("D: container %d of %s with image %s without a cause", created[s], s.service, s.image))
			}
		case e.Action == Destroy:
			s := slot{e.Service, e.Image}
			since, known := live[s][e.ID]
			delete(live[s], e.ID)
			replaced := slices.ContainsFunc(r.Entries[since:i], func(e Entry) bool { return e.Kind == Authorised && !e.Order.Void })
			if known && (ended[e.ID] || replaced || r.disturbed(e.ID, since, i)) {
				allowed[s]++
			}
		}
	}
	return violations
}

// limit is how many containers of a slot there may be at once at position i: the most replicas that an order wants, and
// twice as many where several orders name the same image, since one may replace the other.
func (r Record) limit(i int, s slot) int {
	most, orders := 0, 0
	for _, o := range r.orders(i) {
		if o.Images[s.service] == s.image && !o.Void {
			most = max(most, o.replicas(s.service))
			orders++
		}
	}
	return most * min(orders, 2)
}

// Touched: no container is created before every image of its order is on disk, and nothing that runs is told to end without
// an order that has all of its images on disk and wants something else, or something that was done to it.
func Touched(r Record) (violations []string) {
	onDisk := map[string]bool{}
	complete := func(o *Order) bool {
		for _, image := range o.Images {
			if !onDisk[image] {
				return false
			}
		}
		return true
	}
	running, born := map[string]bool{}, map[string]int{}
	for i, e := range r.Entries {
		if e.Kind == OnDisk || e.Kind == Pulled {
			onDisk[e.Image] = true
		}
		if e.Kind != Container {
			continue
		}
		switch e.Action {
		case Create:
			born[e.ID] = i
			if !slices.ContainsFunc(r.orders(i), func(o *Order) bool { return o.names(e.Service, e.Image) && complete(o) }) {
				violations = append(violations, fmt.Sprintf("S: a container of %s was created before every image was on disk", e.Service))
			}
		case Start:
			running[e.ID] = true
		case Die:
			running[e.ID] = false
		case Kill, Stop, Destroy:
			was := running[e.ID]
			if e.Action == Destroy {
				running[e.ID] = false
			}
			replaces := func(o *Order) bool { return !o.Void && o.Images[e.Service] != e.Image && complete(o) }
			if was && !slices.ContainsFunc(r.orders(i), replaces) && !r.disturbed(e.ID, born[e.ID], i) {
				violations = append(violations, fmt.Sprintf("S: %s of a running container of %s (%s) that nothing was ready to replace", e.Action, e.Service, e.Image))
			}
		}
	}
	return violations
}

// NotServed: where the newest order promises to start first, no healthy container of a service is told to end unless as many
// others as are wanted are healthy, be they of the new order, or on the way back of an earlier one. Killing the agent is no
// excuse.
func NotServed(r Record) (violations []string) {
	well := map[string]string{} // id of a healthy container that was not told to end → service
	excused := map[string]bool{}
	for i, e := range r.Entries {
		if e.Kind == Disturbance && e.ID != "" {
			excused[e.ID] = true
		}
		if e.Kind != Container {
			continue
		}
		switch e.Action {
		case Healthy:
			well[e.ID] = e.Service
		case Unhealthy, Die, Destroy:
			delete(well, e.ID)
		case Kill, Stop:
			_, was := well[e.ID]
			delete(well, e.ID)
			newest := newestOrder(r.orders(i))
			if !was || excused[e.ID] || newest == nil || !newest.StartFirst || newest.Images[e.Service] == "" {
				continue
			}
			others := 0
			for _, service := range well {
				if service == e.Service {
					others++
				}
			}
			if want := newest.replicas(e.Service); others < want {
				violations = append(violations, fmt.Sprintf("S: %s of a healthy %s (%s) while %d others are healthy, %d wanted", e.Action, e.Service, e.Image, others, want))
			}
		}
	}
	return violations
}

func newestOrder(orders []*Order) *Order {
	var newest *Order
	for _, o := range orders {
		if !o.Void && (newest == nil || o.Sequence > newest.Sequence) {
			newest = o
		}
	}
	return newest
}

// rank of a phase on the way of a Rollout; those that end it have the highest.
var rank = map[string]int{
	"": 0, v1alpha1.RolloutPending: 1, v1alpha1.RolloutVerifying: 1, v1alpha1.RolloutPreflight: 2, v1alpha1.RolloutPulling: 3,
	v1alpha1.RolloutMigrating: 4, v1alpha1.RolloutStarting: 5, v1alpha1.RolloutChecking: 6, v1alpha1.RolloutRemoving: 6,
	v1alpha1.RolloutHealthy: 9, v1alpha1.RolloutUnhealthy: 9, v1alpha1.RolloutRejected: 9, v1alpha1.RolloutFailed: 9,
	v1alpha1.RolloutRolledBack: 9, v1alpha1.RolloutHeld: 9, v1alpha1.RolloutRemoved: 9, v1alpha1.RolloutSuperseded: 9,
}

// final is the rank of the phases that end a Rollout.
const final = 9

// follows are the final phases that may follow a final one: what runs falls ill, gets well and is replaced; a way back that
// failed at first is healed; a refusal is kept in memory only, and after a restart the sequence speaks.
var follows = map[string][]string{
	v1alpha1.RolloutHealthy:   {v1alpha1.RolloutUnhealthy, v1alpha1.RolloutSuperseded, v1alpha1.RolloutRemoved},
	v1alpha1.RolloutUnhealthy: {v1alpha1.RolloutHealthy, v1alpha1.RolloutSuperseded, v1alpha1.RolloutRemoved},
	v1alpha1.RolloutFailed:    {v1alpha1.RolloutRolledBack},
	v1alpha1.RolloutRejected:  {v1alpha1.RolloutSuperseded},
	v1alpha1.RolloutHeld:      {v1alpha1.RolloutSuperseded},
}

// WentBack: the sequence never goes down once a Rollout was reported healthy or removed, and neither do the phases of a Rollout, unless
// the agent or engine was killed in between; what ended has ended.
func WentBack(r Record) (violations []string) {
	reached := int64(0)
	type seen struct {
		phase string
		at    int
	}
	last := map[string]seen{}
	for i, e := range r.Entries {
		switch {
		case e.Kind == Forgot:
			clear(last) // but not what was reached: what runs is older or not, whatever the agent remembers
		case e.Kind == Withdrawn:
			delete(last, e.Rollout)
		case e.Kind == Report:
			before := last[e.Rollout]
			last[e.Rollout] = seen{e.Phase, i}
			violations = append(violations, badStep(r, e, before.phase, before.at, i)...)
			for _, o := range r.orders(i) {
				if o.Rollout == e.Rollout && (e.Phase == v1alpha1.RolloutHealthy || e.Phase == v1alpha1.RolloutRemoved) {
					reached = max(reached, o.Sequence)
				}
			}
		case e.Kind == Container && (e.Action == Create || e.Action == Start):
			highest := int64(0)
			for _, o := range r.orders(i) {
				if o.names(e.Service, e.Image) {
					highest = max(highest, o.Sequence)
				}
			}
			if highest < reached {
				violations = append(violations, fmt.Sprintf("sequence went back: %s of %s of sequence %d after %d was carried out", e.Action, e.Service, highest, reached))
			}
		}
	}
	return violations
}

func badStep(r Record, e Entry, before string, from, to int) []string {
	if before == e.Phase || rank[before] < final && rank[before] <= rank[e.Phase] {
		return nil
	}
	if rank[before] < final && r.disturbed("", from, to) || rank[before] == final && slices.Contains(follows[before], e.Phase) {
		return nil
	}
	return []string{fmt.Sprintf("%s went from %s to %s", e.Rollout, before, e.Phase)}
}

// Lost: every order was reported on and ended in one of its phases, at most one is healthy, and what runs at the end is what
// the healthy one names, no more and no less; after a removal, nothing.
func Lost(r Record) (violations []string) {
	last, withdrawn := map[string]Entry{}, map[string]bool{}
	for _, e := range r.Entries {
		if e.Kind == Report {
			last[e.Rollout] = e
		}
		if e.Kind == Withdrawn {
			withdrawn[e.Rollout] = true
		}
	}
	var healthy []*Order
	for _, o := range r.orders(len(r.Entries)) {
		report := last[o.Rollout]
		switch {
		case withdrawn[o.Rollout]:
			continue
		case report.Phase == "":
			violations = append(violations, fmt.Sprintf("L: nothing was ever reported on %s", o.Rollout))
		case rank[report.Phase] < final:
			violations = append(violations, fmt.Sprintf("L: %s is left in phase %s", o.Rollout, report.Phase))
		case len(o.Ends) > 0 && !slices.Contains(o.Ends, report.Phase):
			violations = append(violations, fmt.Sprintf("L: %s ended %s, not %v", o.Rollout, report.Phase, o.Ends))
		}
		if report.Phase == v1alpha1.RolloutHealthy {
			healthy = append(healthy, o)
		}
	}
	if len(healthy) > 1 {
		violations = append(violations, fmt.Sprintf("L: %d rollouts are healthy at once", len(healthy)))
	}
	if len(healthy) == 1 {
		violations = append(violations, runsOnly(healthy[0], r.Final)...)
	}
	if o := newestOrder(r.orders(len(r.Entries))); o != nil && o.Remove && len(r.Final) > 0 {
		violations = append(violations, fmt.Sprintf("L: %s has left %d containers behind", o.Rollout, len(r.Final)))
	}
	for _, e := range last {
		if e.Phase == v1alpha1.RolloutRolledBack && e.Serving == 0 {
			violations = append(violations, fmt.Sprintf("L: %s was rolled back to nothing", e.Rollout))
		}
	}
	return violations
}

// runsOnly compares what runs with what an order names.
func runsOnly(o *Order, running []Running) (violations []string) {
	count := map[slot]int{}
	for _, c := range running {
		if c.Job && c.State != "running" {
			continue // what it said can be read until the next release
		}
		if o.Images[c.Service] != c.Image || c.Job {
			violations = append(violations, fmt.Sprintf("L: beside %s there is a container of %s (%s) with image %s", o.Rollout, c.Service, c.State, c.Image))
			continue
		}
		if c.State == "running" {
			count[slot{c.Service, c.Image}]++
		}
	}
	for service, image := range o.Images {
		if slices.Contains(o.Jobs, service) {
			continue
		}
		if n := count[slot{service, image}]; n != o.replicas(service) {
			violations = append(violations, fmt.Sprintf("L: %s is healthy, but %d of %d containers of %s run", o.Rollout, n, o.replicas(service), service))
		}
	}
	return violations
}
