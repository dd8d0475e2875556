// SPDX-License-Identifier: Apache-2.0

package pv

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

func newKey(t *testing.T) (crypto.Signer, envelope.PublicKey) {
	t.Helper()
	key, _, pem, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := envelope.ParsePublicKey(string(pem))
	if err != nil {
		t.Fatal(err)
	}
	return key, pub
}

func newPV(t *testing.T, name string) *v1alpha1.PV {
	t.Helper()
	text, hash, err := Document{Title: "Procès-verbal de recette", Release: name, Karma: 50}.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.PV{Spec: v1alpha1.PVSpec{Document: text, DocumentHash: hash, PDFHash: "sha256:pdf"}}
	p.Namespace, p.Name, p.UID = "project", name, "uid-of-"+"pv"
	return p
}

func reservation(text, owner, deadline, lifted string) v1alpha1.Reservation {
	return v1alpha1.Reservation{Text: text, Owner: owner, Deadline: deadline, Lifted: lifted}
}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	client, clientPub := newKey(t)
	installation, installationPub := newKey(t)
	stranger, _ := newKey(t)
	keys := Keys{Client: []envelope.PublicKey{clientPub}, Installation: []envelope.PublicKey{installationPub}}
	// forge signs whatever it is given, as somebody would who holds a key and has written the program anew.
	forge := func(d Decision, key crypto.Signer) string {
		payload, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		text, err := envelope.Sign(ctx, PayloadType, payload, key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	accepted := func(p *v1alpha1.PV, change ...func(*Decision)) Decision {
		d := NewDecision(p, v1alpha1.PVAccepted, "Client signatory", time.Now())
		for _, f := range change {
			f(&d)
		}
		return d
	}
	onPage := func(d *Decision) { d.Method, d.Email = v1alpha1.MethodPage, "client@example.com" }
	reserved := func(r ...v1alpha1.Reservation) func(*Decision) {
		return func(d *Decision) { d.Decision, d.Reservations = v1alpha1.PVAcceptedWithReservations, r }
	}
	for _, c := range []struct {
		name string
		make func(p *v1alpha1.PV)
		want error
	}{
		{"by the client", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p), client) }, nil},
		{"by the client, who says how", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Method = v1alpha1.MethodKey }), client)
		}, nil},
		{"on the signing page, attested by the installation", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p, onPage), installation) }, nil},
		{"by somebody else", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p), stranger) }, ErrSignature},
		{"on the page, but by somebody else", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p, onPage), stranger) }, ErrSignature},
		{"on the page, signed by the client's key", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p, onPage), client) }, ErrInvalid},
		{"by key, signed by the installation", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(p), installation) }, ErrInvalid},
		{"by key, and says so, signed by the installation", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Method = v1alpha1.MethodKey }), installation)
		}, ErrInvalid},
		{"on paper, signed by the installation", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Method = v1alpha1.MethodPaper }), installation)
		}, ErrInvalid},
		{"on the page without the address of its code", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Method = v1alpha1.MethodPage }), installation)
		}, ErrInvalid},
		{"by key with an address, as if a page had seen it", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Email = "client@example.com" }), client)
		}, ErrInvalid},
		{"for another release's PV", func(p *v1alpha1.PV) { p.Spec.Signature = forge(accepted(newPV(t, "b")), client) }, ErrOtherPV},
		{"for a PV of another project", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Namespace = "other" }), client)
		}, ErrOtherPV},
		{"for a deleted PV of the same name", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p), client)
			p.UID = "recreated"
		}, ErrOtherPV},
		{"the document was changed afterwards", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p), client)
			p.Spec.Document += " "
		}, ErrInvalid},
		{"who signed read another PDF", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.PDFHash = "sha256:other" }), client)
		}, ErrInvalid},
		{"who signed does not say which PDF", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.PDFHash = "" }), client)
		}, ErrInvalid},
		{"with a reservation", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "Dynors", "2026-12-31", ""))), client)
		}, nil},
		{"with a reservation that is lifted already", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "Dynors", "2026-12-31", "by me"))), client)
		}, ErrInvalid},
		{"with a reservation that nobody owns", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "", "2026-12-31", ""))), client)
		}, ErrInvalid},
		{"with a reservation for ever", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "Dynors", "", ""))), client)
		}, ErrInvalid},
		{"with a reservation until a day that does not exist", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "Dynors", "2026-02-30", ""))), client)
		}, ErrInvalid},
		{"with a reservation, but accepted without", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, reserved(reservation("slow", "Dynors", "2026-12-31", "")), func(d *Decision) { d.Decision = v1alpha1.PVAccepted }), client)
		}, ErrInvalid},
		{"accepted for a reason", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Reason = "because" }), client)
		}, ErrInvalid},
		{"refused for no reason", func(p *v1alpha1.PV) {
			p.Spec.Signature = forge(accepted(p, func(d *Decision) { d.Decision = v1alpha1.PVRefused }), client)
		}, ErrInvalid},
		{"not an envelope", func(p *v1alpha1.PV) { p.Spec.Signature = "yes" }, ErrSignature},
		{"not signed", func(*v1alpha1.PV) {}, ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPV(t, "a")
			c.make(p)
			d, id, err := Verify(ctx, p, keys)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			want := map[string]string{v1alpha1.MethodKey: clientPub.ID, v1alpha1.MethodPage: installationPub.ID}[d.Method]
			if id != want || d.SignedBy != "Client signatory" {
				t.Errorf("signed by %q with key %s (%s), want %s", d.SignedBy, id, d.Method, want)
			}
		})
	}
}

// What Sign makes, Verify takes.
func TestSignThenVerify(t *testing.T) {
	ctx := context.Background()
	key, pub := newKey(t)
	p := newPV(t, "a")
	want := NewDecision(p, v1alpha1.PVRefused, "Client signatory", time.Date(2026, 11, 22, 14, 3, 0, 7, time.UTC))
	want.Reason = "the invoice total is wrong"
	text, err := Sign(ctx, want, key)
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.Signature = text
	got, id, err := Verify(ctx, p, Keys{Client: []envelope.PublicKey{pub}})
	if err != nil {
		t.Fatal(err)
	}
	want.Method = v1alpha1.MethodKey
	if diff := cmp.Diff(&want, got); diff != "" || id != pub.ID {
		t.Errorf("key %s: %s", id, diff)
	}
}

func TestSignRefuses(t *testing.T) {
	key, _ := newKey(t)
	p := newPV(t, "a")
	with := func(decision v1alpha1.PVDecision, change func(*Decision)) Decision {
		d := NewDecision(p, decision, "me", time.Now())
		change(&d)
		return d
	}
	for name, d := range map[string]Decision{
		"a refusal without reason":         NewDecision(p, v1alpha1.PVRefused, "me", time.Now()),
		"reservations without reservation": NewDecision(p, v1alpha1.PVAcceptedWithReservations, "me", time.Now()),
		"an unknown decision":              NewDecision(p, "Perhaps", "me", time.Now()),
		"nobody":                           NewDecision(p, v1alpha1.PVAccepted, "", time.Now()),
		"a reason for accepting":           with(v1alpha1.PVAccepted, func(d *Decision) { d.Reason = "fine" }),
		"a page without an address":        with(v1alpha1.PVAccepted, func(d *Decision) { d.Method = v1alpha1.MethodPage }),
		"an address without a page":        with(v1alpha1.PVAccepted, func(d *Decision) { d.Email = "me@example.com" }),
		"a reservation without text": with(v1alpha1.PVAcceptedWithReservations, func(d *Decision) {
			d.Reservations = []v1alpha1.Reservation{reservation("", "Dynors", "2026-12-31", "")}
		}),
	} {
		if _, err := Sign(context.Background(), d, key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
