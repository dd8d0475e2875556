// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"strings"
	"time"
	"unicode/utf8"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

// Kind is what a receiver can ask for, as in Project.spec.notifications[].events.
type Kind string

// The kinds of events.
const (
	// ApprovalWanted: a gate waits for people and for nothing else.
	ApprovalWanted Kind = "ApprovalWanted"
	// PVToSign: the client's acceptance opened.
	PVToSign Kind = "PVToSign"
	// Refused: a gate, a person or the client refused a release.
	Refused Kind = "Refused"
	// Deployed: a release is healthy on every host of an environment.
	Deployed Kind = "Deployed"
	// RolledBack: a release failed in an environment or was taken back from it.
	RolledBack Kind = "RolledBack"
	// Debt: a gate was opened in an emergency, or that was regularised.
	Debt Kind = "Debt"
)

// Kinds are all kinds.
var Kinds = []Kind{ApprovalWanted, PVToSign, Refused, Deployed, RolledBack, Debt}

// State tells apart what the events of one kind say. It is "" for PVToSign and Deployed, and for ApprovalWanted where the gate
// guards an environment.
type State string

// The states of ApprovalWanted, Refused, RolledBack and Debt.
const (
	StatePublication State = "Publication" // the gate guards the publication of a module

	RefusedByGate   State = "RefusedByGate"
	RefusedByPerson State = "RefusedByPerson"
	RefusedByClient State = "RefusedByClient"

	StateRolledBack State = "RolledBack" // the previous version serves
	StateFailed     State = "Failed"     // nothing was there to go back to
	StateReturned   State = "Returned"   // taken back because somebody refused it

	StateBrokeGlass  State = "BrokeGlass"
	StateRegularised State = "Regularised"
)

// Event is one thing to tell. What does not apply is empty.
type Event struct {
	Kind  Kind  `json:"kind"`
	State State `json:"state,omitempty"`
	// Project is the project's name, ProjectUID what identifies it. ProjectUID and Seq identify the event.
	Project     string `json:"project"`
	ProjectUID  string `json:"projectUID"`
	Release     string `json:"release,omitempty"`
	Version     string `json:"version,omitempty"`
	Gate        string `json:"gate,omitempty"`
	Environment string `json:"environment,omitempty"`
	PV          string `json:"pv,omitempty"`
	// Client is who is asked to sign the PV.
	Client string `json:"client,omitempty"`
	// Actor is who did it; empty when no person did.
	Actor string `json:"actor,omitempty"`
	// Reason is in the words of whoever or whatever decided.
	Reason string `json:"reason,omitempty"`
	// Seq and Time are those of the journal's entry.
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
}

// Bounds of an event's texts, in characters.
const (
	maxName   = 253
	maxReason = 600
)

// inert returns the event with texts that are one line each, bounded, and without what a terminal or a reader acts on. It
// is idempotent.
func (e Event) inert() Event {
	for _, s := range []*string{&e.Project, &e.ProjectUID, &e.Release, &e.Version, &e.Gate, &e.Environment, &e.PV, &e.Client, &e.Actor} {
		*s = line(*s, maxName)
	}
	e.Kind, e.State = Kind(line(string(e.Kind), maxName)), State(line(string(e.State), maxName))
	e.Reason = line(e.Reason, maxReason)
	return e
}

// line is s on one line without effect, of at most that many characters.
func line(s string, most int) string {
	// Cut before as well: no more is escaped than can be kept.
	return clip(strings.TrimSpace(inert.Line(clip(s, most))), most)
}

func clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	runes := 0
	for i := range s {
		if runes++; runes == most {
			return s[:i] + "…"
		}
	}
	return s
}

// same identifies what an event says, whenever it was recorded.
func (e Event) same() Event {
	e.Seq, e.Time = 0, time.Time{}
	return e
}
