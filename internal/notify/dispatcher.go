// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-logr/logr"

	"gitlab.com/dynors/sirrat/internal/journal"
)

// Journal is what is read of internal/journal.
type Journal interface {
	// Subscribe has f called with every entry appended from now on, once Entries yields it: in order for each project.
	Subscribe(f func(journal.Entry))
	Head(ctx context.Context, projectUID string) (seq int64, hash string, err error)
	Entries(ctx context.Context, projectUID string, from int64) iter.Seq2[journal.Entry, error]
	Projects(ctx context.Context) ([]string, error)
}

// Cursors remember how far each receiver of a project was told, by the receiver's name. They are safe for concurrent use.
type Cursors interface {
	// Load returns what was last stored for a project; nil if nothing was.
	Load(ctx context.Context, projectUID string) (map[string]int64, error)
	// Store replaces it. For a project that is gone it does nothing and returns nil.
	Store(ctx context.Context, projectUID string, cursors map[string]int64) error
}

// Projects know who wants to be told. They are asked before each event and each attempt, so they answer from a cache. They
// are safe for concurrent use.
type Projects interface {
	// Receivers are those that the project declares; none, and no error, for a project that is gone. Names are unique.
	Receivers(ctx context.Context, projectUID string) ([]Receiver, error)
}

// Mailer hands mails over to a mail server; SMTP is one.
type Mailer interface {
	Send(ctx context.Context, to, subject, text string) error
}

// Receiver is one of Project.spec.notifications.
type Receiver struct {
	Name string
	// On are the kinds it wants; empty for all.
	On []Kind
	// Language is "fr", the default, or "en".
	Language string
	// Email are addresses; each gets a mail of its own.
	Email []string
	// Webhook is nil for receivers by e-mail.
	Webhook *Webhook
}

// Webhook is where to post to.
type Webhook struct {
	Format Format
	// URL reads the address, which is a secret, when something is sent. Its errors are logged and must not tell it.
	URL func(ctx context.Context) (string, error)
}

// Options of New.
type Options struct {
	Journal  Journal
	Cursors  Cursors
	Projects Projects
	// Mail is nil where no mail server is configured: receivers by e-mail are then given up, and that is said.
	Mail Mailer
	// Webhooks is NewWebhooks(false) if nil.
	Webhooks *Webhooks
	// BaseURL is where SIRRAT can be looked at; "" if nowhere.
	BaseURL string
	Log     logr.Logger
	// GaveUp is told of each event that a receiver did not get, beside the log; nil if nobody needs to be. err holds no
	// secret. It may be called from several goroutines and holds up the receiver's other events.
	GaveUp func(ctx context.Context, projectUID, receiver string, e Event, err error)
	// GiveUpAfter is how long after it was recorded an event is tried. Default 24 h.
	GiveUpAfter time.Duration
	// FirstRetry and LongestRetry bound the pause between two attempts, which doubles, with jitter of half of it. Defaults
	// 5 s and 15 min.
	FirstRetry, LongestRetry time.Duration
}

const (
	defaultGiveUpAfter  = 24 * time.Hour
	defaultFirstRetry   = 5 * time.Second
	defaultLongestRetry = 15 * time.Minute
	retryJitter         = 0.5

	// queued is how many entries wait in memory for each project and each receiver; the others are read from the journal.
	queued = 256
	// readers is how many journals are read at the same time.
	readers = 4
	// cursorEvery is how often at most a project's cursors are stored: what was delivered since is told twice after a crash.
	cursorEvery = 5 * time.Second
	// cursorStride is how many entries that told nothing are read again after a crash rather than noted one by one.
	cursorStride = 256
	// lastStore bounds storing the cursors when everything ends.
	lastStore = 10 * time.Second
	// attemptTimeout bounds one attempt to tell one receiver, whatever the sender does.
	attemptTimeout = 2 * time.Minute
)

// Dispatcher tells the receivers of all projects what the journal records.
type Dispatcher struct {
	o       Options
	reading chan struct{} // a semaphore

	mu       sync.Mutex
	running  context.Context // nil before Start and after it
	projects map[string]*project
	tasks    sync.WaitGroup
}

// New returns a dispatcher that does nothing until Start.
func New(o Options) (*Dispatcher, error) {
	if o.Journal == nil || o.Cursors == nil || o.Projects == nil {
		return nil, errors.New("notifications need a journal, cursors and projects")
	}
	if o.Webhooks == nil {
		o.Webhooks = NewWebhooks(false)
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&o.GiveUpAfter, defaultGiveUpAfter}, {&o.FirstRetry, defaultFirstRetry}, {&o.LongestRetry, defaultLongestRetry}} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	return &Dispatcher{o: o, reading: make(chan struct{}, readers), projects: map[string]*project{}}, nil
}

// NeedLeaderElection says that only the leader tells: otherwise everything would be told twice.
func (d *Dispatcher) NeedLeaderElection() bool { return true }

// Start resumes from the cursors and tells until ctx ends; then it stores the cursors and returns nil, with nothing left
// running. It is called once.
func (d *Dispatcher) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	d.running = ctx
	d.mu.Unlock()
	// Before the projects are listed: what is recorded meanwhile is not missed.
	d.o.Journal.Subscribe(d.record)
	d.mu.Lock()
	d.tasks.Go(func() { d.resume(ctx) })
	d.mu.Unlock()

	tick := time.NewTicker(cursorEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			d.storeCursors(ctx, false)
		}
	}
	d.mu.Lock()
	d.running = nil // no new projects from here on
	d.mu.Unlock()
	d.tasks.Wait()
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), lastStore)
	defer cancelLast()
	d.storeCursors(last, true)
	return nil
}

// record is the journal's subscriber: it holds up whoever records, so it only queues.
func (d *Dispatcher) record(e journal.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		return // the cursors are behind, and the next start reads on from there
	}
	p := d.projects[e.ProjectUID]
	if p == nil {
		p = d.begin(e.ProjectUID, e.Seq-1)
	}
	p.inbox.put(e)
}

// begin runs a project. Receivers that are new start after entry from; at the journal's end if from is negative. d.mu is
// held.
func (d *Dispatcher) begin(uid string, from int64) *project {
	p := &project{
		d: d, uid: uid, log: d.o.Log.WithValues("projectUID", uid), inbox: newMailbox[journal.Entry](queued),
		last: from, cursors: map[string]int64{}, stored: map[string]int64{}, streams: map[string]*stream{},
	}
	d.projects[uid] = p
	ctx := d.running
	d.tasks.Go(func() { p.run(ctx) })
	return p
}

// resume begins all projects that have a journal.
func (d *Dispatcher) resume(ctx context.Context) {
	var uids []string
	ok := d.persist(ctx, d.o.Log, "list the journals", func() (err error) {
		uids, err = d.o.Journal.Projects(ctx)
		return err
	})
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, uid := range uids {
		if d.projects[uid] == nil && d.running != nil {
			d.begin(uid, -1)
		}
	}
}

// persist does something of SIRRAT's own until it succeeds. false: ctx ended.
func (d *Dispatcher) persist(ctx context.Context, log logr.Logger, what string, do func() error) bool {
	pause := d.pauses()
	for {
		err := do()
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		log.Error(err, "notifications wait", "cannot", what)
		if !wait(ctx, pause.NextBackOff()) {
			return false
		}
	}
}

func (d *Dispatcher) pauses() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{InitialInterval: d.o.FirstRetry, RandomizationFactor: retryJitter, Multiplier: 2, MaxInterval: d.o.LongestRetry}
	b.Reset()
	return b
}

// wait returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (d *Dispatcher) storeCursors(ctx context.Context, all bool) {
	d.mu.Lock()
	projects := make([]*project, 0, len(d.projects))
	for _, p := range d.projects {
		projects = append(projects, p)
	}
	d.mu.Unlock()
	// In another order each time: one that hangs does not always hold up the same.
	rand.Shuffle(len(projects), func(i, j int) { projects[i], projects[j] = projects[j], projects[i] })
	for _, p := range projects {
		p.storeCursors(ctx, all)
	}
}

// read returns the next entries from sequence from on, as far as they matter, and whether there are more.
func (d *Dispatcher) read(ctx context.Context, uid string, from int64) (items []item, more bool, err error) {
	select {
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case d.reading <- struct{}{}:
	}
	defer func() { <-d.reading }()
	for e, err := range d.o.Journal.Entries(ctx, uid, from) {
		if err != nil {
			return items, false, err
		}
		if len(items) == queued {
			return items, true, nil
		}
		items = append(items, itemOf(e))
	}
	return items, false, nil
}

// item is what is kept of an entry.
type item struct {
	seq     int64
	subject string // of the journal
	tells   bool
	passing bool
	event   Event
}

func itemOf(e journal.Entry) item {
	event, tells := Derive(e)
	return item{seq: e.Seq, subject: string(e.Kind) + " " + e.Subject, tells: tells, passing: !tells && passing(e), event: event}
}

func (r Receiver) wants(k Kind) bool { return len(r.On) == 0 || slices.Contains(r.On, k) }
