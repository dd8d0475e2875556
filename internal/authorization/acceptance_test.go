// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

func TestVerifyAcceptance(t *testing.T) {
	client, _, clientPEM, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	thief, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := []envelope.PublicKey{publicKey(t, clientPEM)}
	base := spec()
	base.ComposeProject = "supergest"
	allowed, err := pv.Authorise("production", "supergest", base.Compose, base.Images, base.Values, base.HealthChecks, []string{"DB", "API"})
	if err != nil {
		t.Fatal(err)
	}
	doc := pv.Document{Project: base.Project, Release: base.Release.Name, ReleaseUID: base.Release.UID, Commit: base.Release.Commit, Environment: "rmoa-client", Authorises: []pv.Authorised{allowed}}
	old := doc
	old.Authorises = nil
	// signed is the acceptance of a document, by a key.
	signed := func(doc pv.Document, change func(*pv.Decision)) *v1alpha1.Acceptance {
		text, hash, err := doc.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		d := pv.Decision{Namespace: base.Project, Name: "a1b2c3d", UID: "u", DocumentHash: hash, Decision: v1alpha1.PVAccepted, SignedBy: "Mme Client", SignedAt: at}
		if change != nil {
			change(&d)
		}
		by := client
		if d.SignedBy == "thief" {
			by = thief
		}
		payload, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := envelope.Sign(t.Context(), pv.PayloadType, payload, by)
		if err != nil {
			t.Fatal(err)
		}
		return &v1alpha1.Acceptance{Document: text, Signature: signature}
	}
	good := signed(doc, nil)
	for _, c := range []struct {
		name   string
		change func(*v1alpha1.RolloutSpec)
		want   error
	}{
		{"as accepted", nil, nil},
		{"with reservations", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = signed(doc, func(d *pv.Decision) { d.Decision = v1alpha1.PVAcceptedWithReservations })
		}, nil},
		{"another sequence and strategy", func(s *v1alpha1.RolloutSpec) { s.Sequence, s.Strategy.MaxUnavailable = 99, 3 }, nil},
		{"none", func(s *v1alpha1.RolloutSpec) { s.Acceptance = nil }, ErrAcceptanceMissing},
		{"a document alone", func(s *v1alpha1.RolloutSpec) { s.Acceptance.Signature = "" }, ErrAcceptanceMissing},
		{"a tombstone", func(s *v1alpha1.RolloutSpec) { s.Remove = &v1alpha1.Removal{Volumes: true} }, ErrAcceptanceMissing},
		{"another key", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = signed(doc, func(d *pv.Decision) { d.SignedBy = "thief" })
		}, ErrAcceptanceKey},
		{"by the signing page", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = signed(doc, func(d *pv.Decision) { d.Method, d.Email = v1alpha1.MethodPage, "a@b" })
		}, ErrAcceptanceKey},
		{"refused", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = signed(doc, func(d *pv.Decision) { d.Decision, d.Reason = v1alpha1.PVRefused, "no" })
		}, ErrAcceptanceRefused},
		{"no decision", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = signed(doc, func(d *pv.Decision) { d.Decision = "" })
		}, ErrAcceptanceRefused},
		{"another document", func(s *v1alpha1.RolloutSpec) {
			other := doc
			other.Title = "x"
			s.Acceptance.Document = signed(other, nil).Document
		}, ErrAcceptanceOther},
		{"a PV from before", func(s *v1alpha1.RolloutSpec) { s.Acceptance = signed(old, nil) }, ErrAcceptanceOther},
		{"another release", func(s *v1alpha1.RolloutSpec) { s.Release.UID = "r2" }, ErrAcceptanceOther},
		{"another project", func(s *v1alpha1.RolloutSpec) { s.Project = "other" }, ErrAcceptanceOther},
		{"an environment that is not named", func(s *v1alpha1.RolloutSpec) { s.Environment = "production-2" }, ErrAcceptanceOther},
		{"another compose file, its stated hash left", func(s *v1alpha1.RolloutSpec) { s.Compose += "#" }, ErrAcceptanceOther},
		{"another digest", func(s *v1alpha1.RolloutSpec) { s.Images[0].Image = "reg.example/web@sha256:" + strings.Repeat("2", 64) }, ErrAcceptanceOther},
		{"one image more", func(s *v1alpha1.RolloutSpec) {
			s.Images = append(s.Images, v1alpha1.ServiceImage{Service: "x", Image: "y"})
		}, ErrAcceptanceOther},
		{"another value", func(s *v1alpha1.RolloutSpec) { s.Values["A"] = "2" }, ErrAcceptanceOther},
		{"another compose project", func(s *v1alpha1.RolloutSpec) { s.ComposeProject = "other" }, ErrAcceptanceOther},
		{"a check that runs something", func(s *v1alpha1.RolloutSpec) {
			s.HealthChecks = []v1alpha1.HealthCheck{{HTTP: &v1alpha1.HTTPCheck{URL: "http://x"}}}
		}, ErrAcceptanceOther},
		{"members twice", func(s *v1alpha1.RolloutSpec) {
			s.Acceptance.Signature = strings.Replace(s.Acceptance.Signature, `{"payloadType"`, `{"payloadType":"x","payloadType"`, 1)
		}, ErrAcceptanceInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *base.DeepCopy()
			s.Acceptance = good.DeepCopy()
			if c.change != nil {
				c.change(&s)
			}
			accepted, err := VerifyAcceptance(t.Context(), s, keys)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (CheckSecrets(*accepted, []string{"API"}) != nil || !errors.Is(CheckSecrets(*accepted, []string{"API", "IMAGE"}), ErrAcceptanceOther)) {
				t.Error("a variable that the client did not sign for")
			}
		})
	}
	// A document that says one thing to one reader and another to the next.
	s := *base.DeepCopy()
	twice := strings.Replace(good.Document, `"releaseUID":"r"`, `"RELEASEUID":"q","releaseUID":"r"`, 1)
	d := pv.Decision{Namespace: base.Project, Name: "n", UID: "u", DocumentHash: envelope.Hash([]byte(twice)), Decision: v1alpha1.PVAccepted, SignedBy: "Mme Client", SignedAt: at}
	signature, err := pv.Sign(t.Context(), d, client)
	if err != nil {
		t.Fatal(err)
	}
	s.Acceptance = &v1alpha1.Acceptance{Document: twice, Signature: signature}
	if _, err := VerifyAcceptance(t.Context(), s, keys); !errors.Is(err, ErrAcceptanceInvalid) {
		t.Errorf("an ambiguous document: %v", err)
	}
}
