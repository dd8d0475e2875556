// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// peopleMissing are the reasons of criteria that somebody's approval would satisfy, as internal/gate gives them.
// CreatorExcluded is one: somebody approved, and somebody else has to.
var peopleMissing = []string{"ApprovalMissing", "QuorumMissing", "ApprovalStale", "RoleMissing", "CreatorExcluded"}

// toldOtherwise are the reasons of refusals that need no event of their own: a newer release took the place, or the entry
// of the person or client who refused is an event of the same kind that says who and why.
var toldOtherwise = []string{"Superseded", "Rejected", "PVRefused"}

// Derive is the event that an entry of the journal is to those who wait; false if it is none. The event's texts are inert.
func Derive(entry journal.Entry) (Event, bool) {
	e := Event{Project: entry.Project, ProjectUID: entry.ProjectUID, Seq: entry.Seq, Time: entry.Time}
	ok := false
	switch entry.Kind {
	case journal.KindVerdict:
		ok = deriveVerdict(entry.Data, &e)
	case journal.KindApproval, journal.KindDebt:
		ok = deriveDecision(entry.Data, &e)
	case journal.KindPV:
		ok = derivePV(entry.Data, &e)
	case journal.KindDeployment:
		ok = deriveDeployment(entry.Data, &e)
	}
	if !ok {
		return Event{}, false
	}
	return e.inert(), true
}

func deriveVerdict(data json.RawMessage, e *Event) bool {
	var d struct {
		Release     string                      `json:"release"`
		Gate        string                      `json:"gate"`
		Environment string                      `json:"environment"`
		Verdict     v1alpha1.Verdict            `json:"verdict"`
		Criteria    []v1alpha1.CriterionVerdict `json:"criteria"`
	}
	if json.Unmarshal(data, &d) != nil {
		return false
	}
	e.Release, e.Gate, e.Environment = d.Release, d.Gate, d.Environment
	var messages []string
	switch d.Verdict {
	case v1alpha1.VerdictWaiting:
		if e.Kind = ApprovalWanted; d.Environment == "" {
			e.State = StatePublication
		}
		for _, c := range d.Criteria {
			if c.Verdict == v1alpha1.VerdictPassed {
				continue
			}
			if !slices.Contains(peopleMissing, c.Reason) {
				return false
			}
			messages = append(messages, c.Message)
		}
	case v1alpha1.VerdictRefused:
		e.Kind, e.State = Refused, RefusedByGate
		for _, c := range d.Criteria {
			if c.Verdict == v1alpha1.VerdictRefused && !slices.Contains(toldOtherwise, c.Reason) {
				messages = append(messages, c.Message)
			}
		}
	}
	e.Reason = strings.Join(messages, "; ")
	return len(messages) > 0
}

// deriveDecision reads what a person decided about a gate.
func deriveDecision(data json.RawMessage, e *Event) bool {
	var d struct {
		Release   string `json:"release"`
		Gate      string `json:"gate"`
		Decision  string `json:"decision"`
		User      string `json:"user"`
		Reason    string `json:"reason"`
		Stale     string `json:"stale"`
		Withdrawn bool   `json:"withdrawn"`
	}
	if json.Unmarshal(data, &d) != nil || d.Withdrawn {
		return false
	}
	e.Release, e.Gate, e.Actor, e.Reason = d.Release, d.Gate, d.User, d.Reason
	switch {
	case d.Decision == v1alpha1.DecisionRejected: // a rejection counts for every bundle
		e.Kind, e.State = Refused, RefusedByPerson
	case d.Decision == v1alpha1.DecisionBrokeGlass && d.Stale == "":
		e.Kind, e.State = Debt, StateBrokeGlass
	case d.Decision == v1alpha1.DecisionRegularised && d.Stale == "":
		e.Kind, e.State = Debt, StateRegularised
	default:
		return false
	}
	return true
}

func derivePV(data json.RawMessage, e *Event) bool {
	var d struct {
		PV          string              `json:"pv"`
		State       string              `json:"state"`
		Release     v1alpha1.PVRelease  `json:"release"`
		Environment string              `json:"environment"`
		Client      string              `json:"client"`
		Decision    v1alpha1.PVDecision `json:"decision"`
		Reason      string              `json:"reason"`
		SignedBy    string              `json:"signedBy"`
	}
	if json.Unmarshal(data, &d) != nil {
		return false
	}
	e.PV, e.Release, e.Version, e.Environment, e.Client = d.PV, d.Release.Name, d.Release.Version, d.Environment, d.Client
	switch {
	case d.State == v1alpha1.ArchivedOpened:
		e.Kind = PVToSign
	case d.State == v1alpha1.ArchivedDecided && d.Decision == v1alpha1.PVRefused:
		e.Kind, e.State, e.Actor, e.Reason = Refused, RefusedByClient, d.SignedBy, d.Reason
	default:
		return false
	}
	return true
}

func deriveDeployment(data json.RawMessage, e *Event) bool {
	var d struct {
		Release     string `json:"release"`
		Environment string `json:"environment"`
		Phase       string `json:"phase"`
		Message     string `json:"message"`
	}
	if json.Unmarshal(data, &d) != nil {
		return false
	}
	e.Release, e.Environment, e.Reason = d.Release, d.Environment, d.Message
	switch d.Phase {
	case v1alpha1.PhaseHealthy:
		e.Kind = Deployed
	case v1alpha1.PhaseRolledBack:
		e.Kind, e.State = RolledBack, StateRolledBack
	case v1alpha1.PhaseFailed:
		e.Kind, e.State = RolledBack, StateFailed
	case v1alpha1.PhaseReturned:
		e.Kind, e.State = RolledBack, StateReturned
	default:
		return false
	}
	return true
}

// passing says that an entry changes nothing about what was last told of its subject: a release that is unhealthy for a
// moment is not deployed again when it recovers.
func passing(entry journal.Entry) bool {
	var d struct {
		Phase string `json:"phase"`
	}
	return entry.Kind == journal.KindDeployment && json.Unmarshal(entry.Data, &d) == nil && d.Phase == v1alpha1.PhaseUnhealthy
}
