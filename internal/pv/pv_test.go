// SPDX-License-Identifier: Apache-2.0

package pv

import (
	"context"
	"crypto"
	"errors"
	"testing"
	"time"

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
	p := &v1alpha1.PV{Spec: v1alpha1.PVSpec{Document: text, DocumentHash: hash}}
	p.Namespace, p.Name, p.UID = "project", name, "uid-of-"+"pv"
	return p
}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	client, clientPub := newKey(t)
	stranger, _ := newKey(t)
	sign := func(p *v1alpha1.PV, key crypto.Signer) string {
		text, err := Sign(ctx, NewDecision(p, v1alpha1.PVAccepted, "Client signatory", time.Now()), key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		name string
		make func() *v1alpha1.PV
		want error
	}{
		{"by the client", func() *v1alpha1.PV { p := newPV(t, "a"); p.Spec.Signature = sign(p, client); return p }, nil},
		{"by somebody else", func() *v1alpha1.PV { p := newPV(t, "a"); p.Spec.Signature = sign(p, stranger); return p }, ErrSignature},
		{"for another release's PV", func() *v1alpha1.PV { p := newPV(t, "a"); p.Spec.Signature = sign(newPV(t, "b"), client); return p }, ErrOtherPV},
		{"for a deleted PV of the same name", func() *v1alpha1.PV {
			p := newPV(t, "a")
			p.Spec.Signature = sign(p, client)
			p.UID = "recreated"
			return p
		}, ErrOtherPV},
		{"the document was changed afterwards", func() *v1alpha1.PV {
			p := newPV(t, "a")
			p.Spec.Signature = sign(p, client)
			p.Spec.Document += " "
			return p
		}, ErrInvalid},
		{"not an envelope", func() *v1alpha1.PV { p := newPV(t, "a"); p.Spec.Signature = "yes"; return p }, ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _, err := Verify(ctx, c.make(), []envelope.PublicKey{clientPub})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && d.Decision != v1alpha1.PVAccepted {
				t.Errorf("decision %s", d.Decision)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	key, _ := newKey(t)
	p := newPV(t, "a")
	for name, d := range map[string]Decision{
		"a refusal without reason":         NewDecision(p, v1alpha1.PVRefused, "me", time.Now()),
		"reservations without reservation": NewDecision(p, v1alpha1.PVAcceptedWithReservations, "me", time.Now()),
		"an unknown decision":              NewDecision(p, "Perhaps", "me", time.Now()),
		"nobody":                           NewDecision(p, v1alpha1.PVAccepted, "", time.Now()),
	} {
		if _, err := Sign(context.Background(), d, key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
