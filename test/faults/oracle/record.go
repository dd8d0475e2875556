// SPDX-License-Identifier: Apache-2.0

// Package oracle judges what an agent did by a record of what was authorised, what its engine did, what it reported and what
// was done to it. The record only grows; the checks over it are pure functions, so that each can be shown to fail on a bad
// record.
//
// It imports the standard library and api/v1alpha1, for the names of the phases.
package oracle

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Kind of an entry.
type Kind string

// The closed list of kinds.
const (
	// Authorised: a Rollout is about to be created. Order is set.
	Authorised Kind = "authorised"
	// Container: the engine did something with a container. Action, ID, Service and Image are set.
	Container Kind = "container"
	// OnDisk: the engine has an image, because it was pulled or seen there. Image is set.
	OnDisk Kind = "image"
	// Pulled: the engine pulled an image. Image is set.
	Pulled Kind = "pull"
	// Report: the API server has a new status of a Rollout. Rollout, Phase and Serving are set.
	Report Kind = "report"
	// Disturbance: the test did something that excuses what follows. What is set, and ID when it was done to a container.
	Disturbance Kind = "disturbance"
	// Forgot: the agent's state was damaged or taken away, so that it may have to tell, and do, everything anew.
	Forgot Kind = "forgot"
	// Withdrawn: the control plane has forgotten a Rollout, or what was reported on it. Rollout is set.
	Withdrawn Kind = "withdrawn"
)

// Actions of a container, as the engine names them.
const (
	Create  = "create"
	Start   = "start"
	Kill    = "kill"
	Stop    = "stop"
	Die     = "die"
	Destroy = "destroy"
	// What a container's healthcheck says.
	Healthy   = "health_status: healthy"
	Unhealthy = "health_status: unhealthy"
)

// Entry is one thing that happened.
type Entry struct {
	At   time.Time
	Kind Kind
	// Order that was given.
	Order *Order
	// Action, ID, Service and Image of a container; Image is by digest.
	Action, ID, Service, Image string
	// ExitCode that a container died with.
	ExitCode string
	// Rollout's name, Phase and Serving (the sequence that serves instead) of a report.
	Rollout, Phase string
	Serving        int64
	// What was done to the agent, the engine or a container.
	What string
}

// Order is a Rollout as it was sent.
type Order struct {
	// Rollout's name.
	Rollout  string
	Sequence int64
	// Images by service, by digest.
	Images map[string]string
	// Replicas by service; 1 where there is none.
	Replicas map[string]int
	// StartFirst promises that the old containers serve until the new ones are healthy. Its services have healthchecks.
	StartFirst bool
	// Jobs are those of its services that run once, to their end, before any other starts. Their image is no other order's.
	Jobs []string
	// Remove orders everything to be taken down. It has no images.
	Remove bool
	// Void orders are not authorised: they must never have an effect.
	Void bool
	// Ends are the phases that it may end in.
	Ends []string
}

func (o *Order) replicas(service string) int { return cmp.Or(o.Replicas[service], 1) }

// Running is a container at the end.
type Running struct {
	ID, Service, Image string
	// State as the engine names it.
	State string
	// Job says that it was to run once.
	Job bool
}

// Record is all that happened in one environment, and what ran at the end.
type Record struct {
	Entries []Entry
	Final   []Running
}

// Log is a record that grows. Its methods may be called from several goroutines.
type Log struct {
	mu      sync.Mutex
	entries []Entry
}

// Add appends an entry.
func (l *Log) Add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
}

// Entries in the order of their times; those of the same time in the order in which they were added.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.entries)
	slices.SortStableFunc(list, func(a, b Entry) int { return a.At.Compare(b.At) })
	return list
}

// Count the entries for which is holds.
func (r Record) Count(is func(Entry) bool) int {
	n := 0
	for _, e := range r.Entries {
		if is(e) {
			n++
		}
	}
	return n
}

// orders that were given before position i of the record.
func (r Record) orders(i int) []*Order {
	var list []*Order
	for _, e := range r.Entries[:i] {
		if e.Kind == Authorised {
			list = append(list, e.Order)
		}
	}
	return list
}
