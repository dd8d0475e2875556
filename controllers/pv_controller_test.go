// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// A reservation that was said to be settled while nothing protected that stays open when the policy is back.
func TestForgedLiftNeverCounts(t *testing.T) {
	p := &v1alpha1.PV{}
	p.Status.Reservations = []v1alpha1.Reservation{{Text: "a"}, {Text: "b"}}
	p.Annotations = map[string]string{v1alpha1.LiftedPrefix + "1": "qa@dynors.com: forged"}
	liftReservations(p, false)
	liftReservations(p, true)
	if p.Status.Reservations[0].Lifted != "" {
		t.Error("a forged settlement counts")
	}
	p.Annotations[v1alpha1.LiftedPrefix+"2"] = "qa@dynors.com: done"
	liftReservations(p, true)
	if p.Status.Reservations[1].Lifted == "" {
		t.Error("a true settlement does not count")
	}
}
