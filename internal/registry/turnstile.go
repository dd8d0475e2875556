// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"sync"
)

// tagging lets one at a time write a tag, by its whole name.
var tagging = turnstile{busy: map[string]chan struct{}{}}

// turnstile lets one at a time through for each key.
type turnstile struct {
	mu sync.Mutex
	// busy keys, each with what is closed when whoever is in leaves.
	busy map[string]chan struct{}
}

// enter waits for its turn, or for the end of ctx. Whoever is let in has to leave.
func (t *turnstile) enter(ctx context.Context, key string) (leave func(), err error) {
	mine := make(chan struct{})
	for {
		t.mu.Lock()
		other, taken := t.busy[key]
		if !taken {
			t.busy[key] = mine
			t.mu.Unlock()
			return func() { t.leave(key, mine) }, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turnstile) leave(key string, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, key)
	close(mine)
}
