// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"maps"
	"sync"

	"github.com/go-logr/logr"

	"gitlab.com/dynors/sirrat/internal/journal"
)

// project hands a project's entries to the streams of its receivers.
type project struct {
	d     *Dispatcher
	uid   string
	log   logr.Logger
	inbox *mailbox[journal.Entry]
	// last is the sequence up to which entries were handed on. Of run alone.
	last int64

	mu sync.Mutex
	// streams are those of the receivers declared now; a stream that is not in here any more moves no cursor.
	streams map[string]*stream
	// cursors are the last sequences that need not be told again; stored is what Cursors hold.
	cursors, stored map[string]int64
	// due says that the difference is worth a write.
	due bool
}

func (p *project) run(ctx context.Context) {
	if !p.resume(ctx) {
		return
	}
	for {
		entries, lost, ok := p.inbox.take(ctx)
		if !ok {
			return
		}
		for _, e := range entries {
			if !p.route(ctx, e) {
				return
			}
		}
		// The entries that did not fit are in the journal, from which each stream reads what it lacks.
		if lost && !p.catchUp(ctx) {
			return
		}
	}
}

// resume begins the streams where the cursors say.
func (p *project) resume(ctx context.Context) bool {
	ok := p.d.persist(ctx, p.log, "load the cursors", func() error {
		cursors, err := p.d.o.Cursors.Load(ctx, p.uid)
		if err == nil && cursors != nil {
			p.stored, p.cursors = maps.Clone(cursors), maps.Clone(cursors)
		}
		return err
	})
	if !ok {
		return false
	}
	if p.last < 0 {
		if ok, any := p.anybody(ctx); !ok || !any {
			// Without a receiver the journal need not be read: the first entry says where it is.
			return ok
		}
		if !p.head(ctx) {
			return false
		}
	}
	return p.refresh(ctx, p.last)
}

// anybody says whether the project declares a receiver.
func (p *project) anybody(ctx context.Context) (ok, any bool) {
	ok = p.d.persist(ctx, p.log, "read the receivers", func() error {
		receivers, err := p.d.o.Projects.Receivers(ctx, p.uid)
		any = len(receivers) > 0
		return err
	})
	return ok, any
}

// head moves last to the journal's end.
func (p *project) head(ctx context.Context) bool {
	return p.d.persist(ctx, p.log, "read the journal", func() error {
		seq, _, err := p.d.o.Journal.Head(ctx, p.uid)
		p.last = max(p.last, seq)
		return err
	})
}

// catchUp goes to the journal's end, which the inbox lost sight of.
func (p *project) catchUp(ctx context.Context) bool {
	from := p.last
	if !p.head(ctx) {
		return false
	}
	if from < 0 {
		from = p.last
	}
	if !p.refresh(ctx, from) {
		return false
	}
	p.behind()
	return true
}

// behind has every stream read the journal.
func (p *project) behind() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		s.inbox.lose()
	}
}

func (p *project) route(ctx context.Context, e journal.Entry) bool {
	if p.last < 0 {
		p.last = e.Seq - 1
	}
	if e.Seq <= p.last {
		return true
	}
	gap := e.Seq != p.last+1
	it := itemOf(e)
	if gap || it.tells {
		// A receiver that was declared since the last event was there before this one.
		if !p.refresh(ctx, p.last) {
			return false
		}
	}
	p.last = e.Seq
	if gap {
		p.behind()
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		s.inbox.put(it)
	}
	return true
}

// refresh begins streams of receivers that were declared, the new ones after entry from, and ends those of others.
func (p *project) refresh(ctx context.Context, from int64) bool {
	var receivers []Receiver
	ok := p.d.persist(ctx, p.log, "read the receivers", func() (err error) {
		receivers, err = p.d.o.Projects.Receivers(ctx, p.uid)
		return err
	})
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	declared := map[string]bool{}
	for _, r := range receivers {
		declared[r.Name] = true
		if p.streams[r.Name] != nil {
			continue
		}
		cursor, known := p.cursors[r.Name]
		switch {
		case !known:
			cursor, p.due = from, true
		case cursor > from:
			p.log.Info("the journal is shorter than what was told of it: was it restored?", "receiver", r.Name, "told", cursor, "journal", from)
			cursor, p.due = from, true
		}
		p.cursors[r.Name] = cursor
		p.begin(ctx, r.Name, cursor, cursor < from)
	}
	for name, s := range p.streams {
		if !declared[name] {
			s.stop()
			delete(p.streams, name)
		}
	}
	for name := range p.cursors {
		if !declared[name] {
			delete(p.cursors, name)
			p.due = true
		}
	}
	return true
}

// begin runs a stream. p.mu is held.
func (p *project) begin(ctx context.Context, name string, cursor int64, behind bool) {
	ctx, stop := context.WithCancel(ctx)
	s := &stream{p: p, name: name, log: p.log.WithValues("receiver", name), inbox: newMailbox[item](queued), cursor: cursor, stop: stop, said: newSaid()}
	if behind {
		s.inbox.lose()
	}
	p.streams[name] = s
	p.d.tasks.Go(func() {
		defer stop()
		s.run(ctx)
	})
}

// advance notes that nothing up to the stream's cursor need be told again.
func (p *project) advance(s *stream, told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams[s.name] != s {
		return
	}
	p.cursors[s.name] = s.cursor
	p.due = p.due || told || s.cursor-p.stored[s.name] >= cursorStride
}

// storeCursors writes what is worth a write; if all is set, every difference. It is called by one goroutine at a time.
func (p *project) storeCursors(ctx context.Context, all bool) {
	p.mu.Lock()
	cursors, due := maps.Clone(p.cursors), p.due || all
	if !due || maps.Equal(cursors, p.stored) {
		p.due = false
		p.mu.Unlock()
		return
	}
	p.due = false
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lastStore)
	defer cancel()
	err := p.d.o.Cursors.Store(ctx, p.uid, maps.Clone(cursors))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.due = true
		p.log.Error(err, "cannot store how far receivers were told; after a crash they may be told again")
		return
	}
	p.stored = cursors
}
