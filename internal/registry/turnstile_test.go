// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"testing"
)

// TestTurnstile: one at a time for each key, and who gives up waiting leaves nothing behind.
func TestTurnstile(t *testing.T) {
	ts := turnstile{busy: map[string]chan struct{}{}}
	leave, err := ts.enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ts.enter(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ts.enter(gone, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody else is in: %v", err)
	}
	in := make(chan func())
	go func() {
		next, err := ts.enter(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		in <- next
	}()
	select {
	case <-in:
		t.Fatal("two are in")
	default:
	}
	leave()
	(<-in)()
	other()
	if len(ts.busy) != 0 {
		t.Errorf("%d are left", len(ts.busy))
	}
}
