// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/lru"
)

// stream tells one receiver of a project everything in order.
type stream struct {
	p     *project
	name  string
	log   logr.Logger
	inbox *mailbox[item]
	stop  context.CancelFunc
	// cursor is the last sequence that is done with. Of run alone, as said.
	cursor int64
	said   *said
}

func (s *stream) run(ctx context.Context) {
	for {
		items, lost, ok := s.inbox.take(ctx)
		if !ok {
			return
		}
		for _, it := range items {
			if !s.handle(ctx, it) {
				return
			}
		}
		if lost && !s.catchUp(ctx) {
			return
		}
	}
}

// catchUp tells what the journal holds beyond the cursor. What is recorded meanwhile waits in the inbox, or is lost there
// again.
func (s *stream) catchUp(ctx context.Context) bool {
	for more := true; more; {
		var items []item
		ok := s.p.d.persist(ctx, s.log, "read the journal", func() (err error) {
			items, more, err = s.p.d.read(ctx, s.p.uid, s.cursor+1)
			return err
		})
		if !ok {
			return false
		}
		for _, it := range items {
			if !s.handle(ctx, it) {
				return false
			}
		}
	}
	return true
}

// handle returns false when ctx ended before it was done.
func (s *stream) handle(ctx context.Context, it item) bool {
	if it.seq <= s.cursor {
		return true
	}
	told := false
	switch {
	case it.tells && !s.said.again(it):
		if !s.deliver(ctx, it.event) {
			return false
		}
		told = true
		s.said.tell(it)
	case !it.tells && !it.passing:
		s.said.forget(it)
	}
	s.cursor = it.seq
	s.p.advance(s, told)
	return true
}

// deliver tells an event, trying again until it is told, refused for good or too old. false: ctx ended.
func (s *stream) deliver(ctx context.Context, e Event) bool {
	var (
		d     = s.p.d
		pause = d.pauses()
		log   = s.log.WithValues("kind", e.Kind, "seq", e.Seq)
		// A clock that was set back does not make it longer.
		first = time.Now()
		until = first.Add(min(d.o.GiveUpAfter, d.o.GiveUpAfter-first.Sub(e.Time)))
		sent  = map[string]bool{}
	)
	for attempt := 1; ; attempt++ {
		told, err := s.attempt(ctx, e, sent)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			if told {
				notificationsTotal.WithLabelValues(string(e.Kind), outcomeDelivered).Inc()
				log.V(1).Info("told", "attempts", attempt)
			}
			return true
		}
		notificationsTotal.WithLabelValues(string(e.Kind), outcomeFailed).Inc()
		left := time.Until(until)
		if permanent(err) || left <= 0 {
			notificationsTotal.WithLabelValues(string(e.Kind), outcomeGaveUp).Inc()
			log.Error(err, "gave up telling a receiver", "attempts", attempt, "recorded", e.Time)
			if d.o.GaveUp != nil {
				d.o.GaveUp(ctx, s.p.uid, s.name, e, err)
			}
			return true
		}
		next := max(pause.NextBackOff(), askedPause(err))
		next = min(next, left) // one last time at the end
		log.Info("could not tell a receiver; trying again", "error", err.Error(), "attempts", attempt, "in", next.Round(time.Millisecond).String())
		if !wait(ctx, next) {
			return false
		}
	}
}

// attempt tells the receiver as it is declared now; told is false if it does not want to be. sent are the addresses that
// have their mail, or never will.
func (s *stream) attempt(ctx context.Context, e Event, sent map[string]bool) (told bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	d := s.p.d
	receivers, err := d.o.Projects.Receivers(ctx, s.p.uid)
	if err != nil {
		return false, fmt.Errorf("read the receivers: %w", err)
	}
	for _, r := range receivers {
		if r.Name != s.name || !r.wants(e.Kind) {
			continue
		}
		m := Compose(e, r.Language, d.o.BaseURL)
		if r.Webhook != nil {
			return true, d.post(ctx, *r.Webhook, m)
		}
		return true, d.mail(ctx, r.Email, m, sent)
	}
	return false, nil
}

func (d *Dispatcher) post(ctx context.Context, to Webhook, m Message) error {
	body, err := Payload(to.Format, m)
	if err != nil {
		return &webhookError{text: err.Error(), permanent: true}
	}
	if to.URL == nil {
		return &webhookError{text: "it has no address", permanent: true}
	}
	address, err := to.URL(ctx)
	if err != nil {
		return fmt.Errorf("read the webhook's address: %w", err)
	}
	return d.o.Webhooks.Post(ctx, address, body)
}

// mail sends to each address that is not in sent. An address that is refused for good holds up none of the others; it
// makes the whole a failure once they are through.
func (d *Dispatcher) mail(ctx context.Context, to []string, m Message, sent map[string]bool) error {
	if d.o.Mail == nil {
		return errNoMail
	}
	var retry, refused error
	for i, address := range to {
		if sent[address] {
			continue
		}
		err := d.o.Mail.Send(ctx, address, m.Subject, m.Text)
		switch {
		case err == nil:
			sent[address] = true
		case permanent(err):
			refused = fmt.Errorf("address %d of %d: %w", i+1, len(to), err)
		default:
			retry = fmt.Errorf("address %d of %d: %w", i+1, len(to), err)
		}
	}
	if retry != nil {
		// Not wrapped with what is permanent: the rest is tried again.
		return retry
	}
	return refused
}

// maxSaid is how many subjects are remembered for each receiver; for others, the same may be told twice.
const maxSaid = 128

// said remembers what was last told of a subject and still stands: a verdict is recorded again whenever one of its
// criteria changes, and people need not hear the same again.
type said struct{ bySubject *lru.Cache }

func newSaid() *said { return &said{bySubject: lru.New(maxSaid)} }

func (m *said) again(it item) bool {
	last, ok := m.bySubject.Get(it.subject)
	return ok && last == it.event.same()
}

func (m *said) tell(it item)   { m.bySubject.Add(it.subject, it.event.same()) }
func (m *said) forget(it item) { m.bySubject.Remove(it.subject) }
