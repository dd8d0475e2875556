// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"sync"
)

// mailbox is a bounded queue whose put never waits. Once something did not fit, nothing more is taken in until its reader
// has been told, so that what it holds is without gaps.
type mailbox[T any] struct {
	most int
	wake chan struct{} // holds one

	mu    sync.Mutex
	items []T
	lost  bool
}

func newMailbox[T any](most int) *mailbox[T] {
	return &mailbox[T]{most: most, wake: make(chan struct{}, 1)}
}

// put adds v, or remembers that something was lost.
func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	if m.lost || len(m.items) >= m.most {
		m.lost = true
	} else {
		m.items = append(m.items, v)
	}
	m.mu.Unlock()
	m.signal()
}

// lose says that something is missing after what is in the queue.
func (m *mailbox[T]) lose() {
	m.mu.Lock()
	m.lost = true
	m.mu.Unlock()
	m.signal()
}

func (m *mailbox[T]) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take waits for something and returns all there is, and whether something was lost after it. false: ctx ended.
func (m *mailbox[T]) take(ctx context.Context) (items []T, lost, ok bool) {
	for {
		m.mu.Lock()
		items, lost = m.items, m.lost
		m.items, m.lost = nil, false
		m.mu.Unlock()
		if ctx.Err() != nil {
			return nil, false, false
		}
		if len(items) > 0 || lost {
			return items, lost, true
		}
		select {
		case <-ctx.Done():
			return nil, false, false
		case <-m.wake:
		}
	}
}
