// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
)

// Vitals is what a running agent knows of itself beyond its disk.
type Vitals struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	PID     int       `json:"pid"`
	Engine  Link      `json:"engine"`
	// EngineVersion is the engine's, while it answers.
	EngineVersion string `json:"engineVersion,omitempty"`
	ControlPlane  Link   `json:"controlPlane"`
	// Doing says for "project/environment" what is being done there at the moment. Example: pulling web: 40%.
	Doing map[string]string `json:"doing,omitempty"`
}

// Link is the state of a connection.
type Link struct {
	Up bool `json:"up"`
	// Since when it is so; zero before it was tried.
	Since time.Time `json:"since,omitzero"`
	// Last time that it was known to be up; zero for never.
	Last time.Time `json:"last,omitzero"`
	// Error why it is down.
	Error string `json:"error,omitempty"`
}

// note is what was found out about the connection.
func (l *Link) note(now time.Time, err error) {
	if up := err == nil; up != l.Up || l.Since.IsZero() {
		l.Up, l.Since = up, now
	}
	l.Error = ""
	if err != nil {
		l.Error = err.Error()
		return
	}
	l.Last = now
}

// counters count since the agent was started.
type counters struct {
	// rollouts that came into a phase, by phase.
	rollouts map[string]int64
	// pulls by outcome: ok or failed.
	pulls map[string]int64
	heals int64
}

// monitor keeps vitals and counters. Its methods may be called from several goroutines.
type monitor struct {
	mu       sync.Mutex
	vitals   Vitals
	counters counters
}

func newMonitor(version string, pid int, now time.Time) *monitor {
	return &monitor{
		vitals:   Vitals{Version: version, Started: now.UTC(), PID: pid, Doing: map[string]string{}},
		counters: counters{rollouts: map[string]int64{}, pulls: map[string]int64{}},
	}
}

// read is a copy of everything.
func (m *monitor) read() (Vitals, counters) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, c := m.vitals, m.counters
	v.Doing, c.rollouts, c.pulls = maps.Clone(v.Doing), maps.Clone(c.rollouts), maps.Clone(c.pulls)
	return v, c
}

func (m *monitor) engine(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vitals.Engine.note(time.Now().UTC(), err)
}

func (m *monitor) engineInfo(info compose.Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vitals.EngineVersion = info.Version
}

func (m *monitor) heartbeat(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vitals.ControlPlane.note(time.Now().UTC(), err)
}

// doing says what is being done for an environment; empty for nothing.
func (m *monitor) doing(environment, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if what == "" {
		delete(m.vitals.Doing, environment)
		return
	}
	m.vitals.Doing[environment] = what
}

func (m *monitor) phase(phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counters.rollouts[phase]++
}

func (m *monitor) pulled(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.counters.pulls["failed"]++
		return
	}
	m.counters.pulls["ok"]++
}

func (m *monitor) healed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counters.heals++
}
