// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// chain is what is known of one project's journal.
type chain struct {
	j   *Journal
	uid string
	// reading is held by who reads the chain from the store; a channel, so that waiting for it can be given up.
	reading chan struct{}

	mu sync.Mutex
	// loaded is false until the chain was read, and again after a write of unknown outcome.
	loaded bool
	// broken is why nothing may be appended any more.
	broken error
	seq    int64
	hash   string
	// last holds the hash of the last value of every subject: 32 bytes each.
	last map[digest]digest

	queue   []*pending
	writing bool

	// anchored is the sequence of the stored anchor; timer is nil when none is due.
	anchored int64
	timer    *time.Timer
}

// pending is a fact that waits to be written.
type pending struct {
	entry          Entry
	subject, value digest
	done           chan error
}

// Bounds of what is written at once.
const (
	maxBatch      = 512
	maxBatchBytes = 4 << 20
)

// load reads and verifies the chain unless that was done.
func (c *chain) load(ctx context.Context) error {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	loaded, broken := c.loaded, c.broken
	c.mu.Unlock()
	if loaded || broken != nil {
		return broken
	}
	read, err := c.read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, ErrBroken) || errors.Is(err, archive.ErrCorrupt) {
		// Remembered: a caller who tries again and again must not have a long chain read again and again.
		c.broken = err
	}
	if err != nil {
		return err
	}
	c.loaded, c.seq, c.hash, c.last, c.anchored = true, read.seq, read.hash, read.last, read.anchored
	return nil
}

// read reads the chain from the store and compares it with its anchor.
func (c *chain) read(ctx context.Context) (*chain, error) {
	var anchorSeq int64
	var anchorHash string
	if c.j.anchor != nil {
		var err error
		if anchorSeq, anchorHash, err = c.j.anchor.Load(ctx, c.uid); err != nil {
			return nil, fmt.Errorf("load the anchor of %s: %w", c.uid, err)
		}
	}
	r := &chain{hash: Genesis(c.uid), last: map[digest]digest{}, anchored: anchorSeq}
	for e, err := range c.j.Entries(ctx, c.uid, 1) {
		if err != nil {
			return nil, err
		}
		if e.Seq == anchorSeq && e.Hash != anchorHash {
			return nil, fmt.Errorf("read journal of %s: %w: %w: seq %d has the hash %s, its anchor %s",
				c.uid, ErrBroken, ErrTruncated, e.Seq, e.Hash, anchorHash)
		}
		r.seq, r.hash = e.Seq, e.Hash
		r.last[c.j.subjectDigest(e)] = c.j.valueDigest(e)
	}
	if r.seq < anchorSeq {
		return nil, fmt.Errorf("read journal of %s: %w: %w: it ends at seq %d, its anchor is at %d",
			c.uid, ErrBroken, ErrTruncated, r.seq, anchorSeq)
	}
	return r, nil
}

// says tells whether the last entry of the fact's subject says the same.
func (c *chain) says(ctx context.Context, p *pending) (bool, error) {
	if err := c.load(ctx); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, found := c.last[p.subject]
	return c.loaded && found && last == p.value, nil
}

// enqueue has the fact written; the answer comes by p.done. While a batch is being written, others gather for the next:
// all of them share one synchronisation of the disk.
func (c *chain) enqueue(p *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, p)
	if c.writing {
		return
	}
	c.writing = true
	c.j.running.Go(c.drain) // the caller is counted already, so Close cannot be past its Wait
}

// drain writes batches until nothing waits.
func (c *chain) drain() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.queue, c.writing = nil, false
			c.mu.Unlock()
			return
		}
		n, size := 0, 0
		for n < len(c.queue) && n < maxBatch && (n == 0 || size < maxBatchBytes) {
			size += len(c.queue[n].entry.Data)
			n++
		}
		batch := c.queue[:n]
		c.queue = c.queue[n:]
		c.mu.Unlock()

		err := c.commit(batch)
		for _, p := range batch {
			p.done <- err
		}
	}
}

// commit writes one batch, tells the subscribers and has the anchor stored. It is not bound to any caller's context, since
// the batch is of several.
func (c *chain) commit(batch []*pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := c.load(ctx); err != nil { // after a failed write
		return err
	}
	entries, lines, err := c.link(batch)
	if err != nil || len(entries) == 0 {
		return err
	}
	if err := c.j.store.Append(ctx, c.uid, entries[0].Seq, lines); err != nil {
		c.mu.Lock()
		c.loaded = false
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	end := entries[len(entries)-1]
	c.seq, c.hash = end.Seq, end.Hash
	for _, p := range batch {
		c.last[p.subject] = p.value
	}
	c.mu.Unlock()
	c.scheduleAnchor()
	c.j.mu.Lock()
	subscribers := c.j.subscribers
	c.j.mu.Unlock()
	for _, e := range entries {
		for _, f := range subscribers {
			f(e)
		}
	}
	return nil
}

// link puts the batch's facts into the chain, leaving out what was said already. Only drain writes, one at a time, so what
// it reads here stays true until the batch is written.
func (c *chain) link(batch []*pending) ([]Entry, [][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq, hash := c.seq, c.hash
	fresh := map[digest]digest{}
	var entries []Entry
	var lines [][]byte
	for _, p := range batch {
		last, found := fresh[p.subject]
		if !found {
			last, found = c.last[p.subject]
		}
		if found && last == p.value {
			continue
		}
		fresh[p.subject] = p.value
		e := p.entry
		e.Seq, e.Prev, e.Time = seq+1, hash, c.j.now().UTC().Truncate(time.Millisecond)
		line, err := e.canonical()
		if err != nil {
			return nil, nil, fmt.Errorf("seq %d: %w", e.Seq, err)
		}
		e.Hash = envelope.Hash(line)
		entries, lines = append(entries, e), append(lines, line)
		seq, hash = e.Seq, e.Hash
	}
	return entries, lines, nil
}

// scheduleAnchor has the anchor stored after AnchorEvery, unless that is due already.
func (c *chain) scheduleAnchor() {
	if c.j.anchor == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(AnchorEvery, c.anchorDue)
	}
}

func (c *chain) anchorDue() {
	if _, err := c.j.enter(c.uid); err != nil {
		return // closed: Close stores it
	}
	defer c.j.running.Done()
	c.mu.Lock()
	c.timer = nil
	c.mu.Unlock()
	if err := c.storeAnchor(); err != nil {
		c.scheduleAnchor()
	}
}

// storeAnchor stores the chain's head if the anchor is behind it. It is called by one at a time: by the timer, of which
// there is one, or after all of them.
func (c *chain) storeAnchor() error {
	c.mu.Lock()
	seq, hash, behind := c.seq, c.hash, c.seq > c.anchored
	c.mu.Unlock()
	if !behind {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := c.j.anchor.Store(ctx, c.uid, seq, hash); err != nil {
		return fmt.Errorf("store the anchor of %s: %w", c.uid, err)
	}
	c.mu.Lock()
	c.anchored = seq
	c.mu.Unlock()
	return nil
}

// closeAnchor stores what the timer did not come to.
func (c *chain) closeAnchor() error {
	if c.j.anchor == nil {
		return nil
	}
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.mu.Unlock()
	return c.storeAnchor()
}
