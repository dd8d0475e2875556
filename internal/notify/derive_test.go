// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/internal/journal"
)

const projectUID = "5b0f4b0a-0000-4000-8000-000000000001"

var recorded = time.Date(2026, 11, 22, 14, 3, 5, 0, time.UTC)

// entry is one as the journal yields it.
func entry(t testing.TB, kind journal.Kind, data any) journal.Entry {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return journal.Entry{Seq: 42, Time: recorded, Project: "supergest", ProjectUID: projectUID, Kind: kind, Subject: "s", Actor: "sirrat", Data: raw}
}

type object = map[string]any

func criterion(verdict, reason, message string) object {
	return object{"name": reason, "verdict": verdict, "reason": reason, "message": message}
}

func verdict(v string, criteria ...object) object {
	return object{"release": "a1b2c3d", "gate": "qa", "environment": "qa", "verdict": v, "criteria": criteria, "bundleHash": "sha256:00", "karma": 40}
}

func decision(d, reason string, more ...string) object {
	o := object{"release": "a1b2c3d", "gate": "qa", "decision": d, "user": "marie", "bundleHash": "", "reason": reason, "stale": ""}
	for _, m := range more {
		if m == "withdrawn" {
			o["withdrawn"] = true
		} else {
			o["stale"] = m
		}
	}
	return o
}

func pvData(state string, more object) object {
	o := object{
		"pv": "a1b2c3d", "uid": "u", "state": state, "environment": "client", "client": "Mairie de Lyon",
		"release": object{"name": "a1b2c3d", "uid": "u", "commit": "c", "version": "v1.3.0", "bundleHash": "h", "authorizedAt": "2026-11-22T14:00:00.000000Z"},
	}
	for k, v := range more {
		o[k] = v
	}
	return o
}

func deployment(phase string) object {
	return object{"release": "a1b2c3d", "environment": "qa", "phase": phase, "bundleHash": "h", "message": "host-1: backend exited with 1"}
}

func TestDerive(t *testing.T) {
	base := Event{Project: "supergest", ProjectUID: projectUID, Release: "a1b2c3d", Seq: 42, Time: recorded}
	with := func(change func(*Event)) *Event {
		e := base
		change(&e)
		return &e
	}
	missing, passed := criterion("Waiting", "ApprovalMissing", "1 approval(s) needed"), criterion("Passed", "Approved", "")
	wanted := func(reason string) *Event {
		return with(func(e *Event) { e.Kind, e.Gate, e.Environment, e.Reason = ApprovalWanted, "qa", "qa", reason })
	}
	byGate := func(reason string) *Event {
		return with(func(e *Event) {
			e.Kind, e.State, e.Gate, e.Environment, e.Reason = Refused, RefusedByGate, "qa", "qa", reason
		})
	}
	of := func(kind Kind, state State, actor, reason string) *Event {
		return with(func(e *Event) { e.Kind, e.State, e.Gate, e.Actor, e.Reason = kind, state, "qa", actor, reason })
	}
	pv := func(kind Kind, state State, actor, reason string) *Event {
		return with(func(e *Event) {
			e.Kind, e.State, e.PV, e.Client, e.Environment, e.Version = kind, state, "a1b2c3d", "Mairie de Lyon", "client", "v1.3.0"
			e.Actor, e.Reason = actor, reason
		})
	}
	in := func(kind Kind, state State) *Event {
		return with(func(e *Event) {
			e.Kind, e.State, e.Environment, e.Reason = kind, state, "qa", "host-1: backend exited with 1"
		})
	}
	for _, c := range []struct {
		name string
		kind journal.Kind
		data any
		want *Event
	}{
		{"a module waits for an approval", journal.KindVerdict, object{"release": "a1b2c3d", "gate": "published", "environment": "", "verdict": "Waiting", "criteria": []any{missing}},
			with(func(e *Event) {
				e.Kind, e.State, e.Gate, e.Reason = ApprovalWanted, StatePublication, "published", "1 approval(s) needed"
			})},
		{"an approval is missing", journal.KindVerdict, verdict("Waiting", passed, missing), wanted("1 approval(s) needed")},
		{"two more people", journal.KindVerdict, verdict("Waiting", missing, criterion("Waiting", "QuorumMissing", "1 of 2")), wanted("1 approval(s) needed; 1 of 2")},
		{"an approval is stale", journal.KindVerdict, verdict("Waiting", criterion("Waiting", "ApprovalStale", "m")), wanted("m")},
		{"another role", journal.KindVerdict, verdict("Waiting", criterion("Waiting", "RoleMissing", "m")), wanted("m")},
		{"somebody but the creator", journal.KindVerdict, verdict("Waiting", criterion("Waiting", "CreatorExcluded", "m")), wanted("m")},
		{"a soak is missing too", journal.KindVerdict, verdict("Waiting", missing, criterion("Waiting", "Soaking", "m")), nil},
		{"not protected", journal.KindVerdict, verdict("Waiting", criterion("Waiting", "NotGuarded", "m")), nil},
		{"the PV is not signed", journal.KindVerdict, verdict("Waiting", missing, criterion("Waiting", "PVUnsigned", "m")), nil},
		{"passed", journal.KindVerdict, verdict("Passed", passed), nil},
		{"waiting for nothing", journal.KindVerdict, verdict("Waiting"), nil},
		{"refused", journal.KindVerdict, verdict("Refused", missing, criterion("Refused", "ResultFailed", "2 tests failed")), byGate("2 tests failed")},
		{"superseded", journal.KindVerdict, verdict("Refused", criterion("Refused", "Superseded", "m")), nil},
		{"superseded and failed", journal.KindVerdict, verdict("Refused", criterion("Refused", "Superseded", "m"), criterion("Refused", "ResultFailed", "f")), byGate("f")},
		{"rejected: told by the rejection", journal.KindVerdict, verdict("Refused", criterion("Refused", "Rejected", "m")), nil},
		{"refused by the client: told by the PV", journal.KindVerdict, verdict("Refused", criterion("Refused", "PVRefused", "m")), nil},

		{"approved", journal.KindApproval, decision("Approved", ""), nil},
		{"rejection", journal.KindApproval, decision("Rejected", "rounding"), of(Refused, RefusedByPerson, "marie", "rounding")},
		{"rejection lifted", journal.KindApproval, decision("Rejected", "rounding", "withdrawn"), nil},
		{"glass broken", journal.KindDebt, decision("BrokeGlass", "site down"), of(Debt, StateBrokeGlass, "marie", "site down")},
		{"glass that no longer counts", journal.KindDebt, decision("BrokeGlass", "site down", "for another bundle"), nil},
		{"regularised", journal.KindDebt, decision("Regularised", "seen"), of(Debt, StateRegularised, "marie", "seen")},

		{"PV opened", journal.KindPV, pvData("Opened", nil), pv(PVToSign, "", "", "")},
		{"PV refused", journal.KindPV, pvData("Decided", object{"decision": "Refused", "signedBy": "Paul", "reason": "no print"}), pv(Refused, RefusedByClient, "Paul", "no print")},
		{"PV accepted", journal.KindPV, pvData("Decided", object{"decision": "Accepted", "signedBy": "Paul"}), nil},
		{"reservation settled", journal.KindPV, object{"pv": "a1b2c3d", "state": "Settled", "reservation": object{"text": "t"}}, nil},

		{"healthy", journal.KindDeployment, deployment("Healthy"), in(Deployed, "")},
		{"rolled back", journal.KindDeployment, deployment("RolledBack"), in(RolledBack, StateRolledBack)},
		{"failed", journal.KindDeployment, deployment("Failed"), in(RolledBack, StateFailed)},
		{"returned", journal.KindDeployment, deployment("Returned"), in(RolledBack, StateReturned)},
		{"deploying", journal.KindDeployment, deployment("Deploying"), nil},
		{"unhealthy", journal.KindDeployment, deployment("Unhealthy"), nil},

		{"a result", journal.KindResult, object{"result": "r"}, nil},
		{"a gate", journal.KindGate, object{"gate": "qa"}, nil},
		{"not what it should be", journal.KindVerdict, object{"release": 7, "criteria": "x"}, nil},
		{"not what it should be either", journal.KindPV, object{"release": "a1b2c3d", "state": "Opened"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Derive(entry(t, c.kind, c.data))
			if ok != (c.want != nil) {
				t.Fatalf("derived: %v %+v", ok, got)
			}
			if ok {
				if diff := cmp.Diff(*c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// What a Project may ask for is what there is.
func TestKindsAreThoseOfTheProject(t *testing.T) {
	raw, err := os.ReadFile("../../config/crd/sirrat.dynors.com_projects.yaml")
	if err != nil {
		t.Skip("no CRD beside the sources: ", err)
	}
	var doc any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(find(doc, "notifications"))
	for _, k := range Kinds {
		if !strings.Contains(string(text), `"`+string(k)+`"`) {
			t.Errorf("%s is not in the schema", k)
		}
	}
	for _, f := range []Format{Slack, Mattermost, Teams, Generic} {
		if !strings.Contains(string(text), `"`+string(f)+`"`) {
			t.Errorf("%s is not in the schema", f)
		}
	}
}

func find(doc any, name string) any {
	switch d := doc.(type) {
	case map[string]any:
		if found := d[name]; found != nil {
			return found
		}
		for _, v := range d {
			if found := find(v, name); found != nil {
				return found
			}
		}
	case []any:
		for _, v := range d {
			if found := find(v, name); found != nil {
				return found
			}
		}
	}
	return nil
}
