// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Errors that a Journal wraps.
var (
	// ErrBroken: the chain in the store is not what was written. Nothing is appended to it until the store is repaired and
	// the journal opened again.
	ErrBroken = errors.New("the journal is broken")
	// ErrTruncated: the chain is shorter than its anchor, or another one. It comes with ErrBroken.
	ErrTruncated = errors.New("the journal was truncated or replaced")
	// ErrEmpty: nothing is recorded of the project.
	ErrEmpty = errors.New("it has no journal")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the journal is closed")
)

// Anchor remembers, elsewhere than in the store, how far a chain had come, so that a shortened or replaced one is noticed.
// It is safe for concurrent use.
type Anchor interface {
	// Load returns the last stored sequence and hash of a project's chain, 0 and "" if there is none.
	Load(ctx context.Context, projectUID string) (seq int64, hash string, err error)
	// Store replaces them. When it fails it is called again after AnchorEvery; it does its own logging.
	Store(ctx context.Context, projectUID string, seq int64, hash string) error
}

// AnchorEvery is how often at most a project's anchor is stored. After a crash the chain may be longer than its anchor by
// what was appended in that time; it is never shorter.
const AnchorEvery = time.Second

// maxSeq is as far as sequences go: the largest whole number that canonical JSON keeps apart from its neighbours.
const maxSeq = 1 << 53

// storeTimeout bounds one write of a batch or of an anchor, so that a silent server does not block a project for ever.
const storeTimeout = time.Minute

// Fact is something to be recorded.
type Fact struct {
	Project    string
	ProjectUID string
	Kind       Kind
	// Subject is what the fact is about; the journal holds its history, e.g. "verdict/<release uid>/<gate>".
	Subject string
	Actor   string
	// Data must encode to a JSON object; nil is an empty one. Whole numbers that a double cannot hold (from 2^53) are refused.
	Data  any
	Blobs []Blob
}

// Blob is a document that belongs to a fact.
type Blob struct {
	// Name is unique in its fact.
	Name      string
	MediaType string
	Data      []byte
	// Kept, instead of Data, is the hash of a document that the store has already.
	Kept string
}

func (b Blob) hash() string {
	if b.Kept != "" {
		return b.Kept
	}
	return envelope.Hash(b.Data)
}

// Journal appends to the chains of all projects. It is safe for concurrent use; there is one for a store.
type Journal struct {
	store  archive.Store
	signer crypto.Signer
	now    func() time.Time
	anchor Anchor
	// seed makes the index's short hashes unpredictable: nobody can prepare two facts that look the same to it.
	seed []byte

	mu          sync.Mutex
	chains      map[string]*chain
	subscribers []func(Entry)
	closed      bool
	// running counts appends and anchors under way, for Close.
	running sync.WaitGroup
}

// Open returns the journal kept in store. signer signs exports (ed25519 or ECDSA P-256); anchor may be nil. Chains are
// read and verified when their project is first used.
func Open(store archive.Store, signer crypto.Signer, now func() time.Time, anchor Anchor) (*Journal, error) {
	if _, err := publicKey(signer); err != nil {
		return nil, fmt.Errorf("open journal: signing key: %w", err)
	}
	j := &Journal{store: store, signer: signer, now: now, anchor: anchor, seed: make([]byte, 32), chains: map[string]*chain{}}
	_, _ = rand.Read(j.seed) // never fails
	return j, nil
}

func publicKey(signer crypto.Signer) (envelope.PublicKey, error) {
	text, err := envelope.EncodePublicKey(signer.Public())
	if err != nil {
		return envelope.PublicKey{}, err
	}
	return envelope.ParsePublicKey(string(text))
}

// Subscribe has f called with every entry appended from now on, after it is durable and before its Append returns: in
// order for each project, for several projects at once. f holds up the project's other appends, so it must not block, nor
// call Append.
func (j *Journal) Subscribe(f func(Entry)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.subscribers = append(j.subscribers[:len(j.subscribers):len(j.subscribers)], f)
}

// Append records facts in their order, each unless the last entry of its kind and subject says the same (data and blobs).
// They are durable when Append returns nil. After an error each may have been recorded or not: appending them again is
// right in any case. Facts of one project that are appended together, or at the same time, are written together.
// Errors: ErrBroken, ErrClosed.
func (j *Journal) Append(ctx context.Context, facts ...Fact) error {
	var waiting []*pending
	var err error
	for _, f := range facts {
		var p *pending
		if p, err = j.enqueue(ctx, f); err != nil {
			err = fmt.Errorf("record %s %.80q of project %s: %w", f.Kind, f.Subject, f.Project, err)
			break
		}
		if p != nil {
			waiting = append(waiting, p)
			defer j.running.Done()
		}
	}
	// What was enqueued is waited for even when a later fact is wrong: the caller's context is what ends it.
	for _, p := range waiting {
		select {
		case failed := <-p.done:
			if failed != nil && err == nil {
				err = fmt.Errorf("record %s %q of project %s: %w", p.entry.Kind, p.entry.Subject, p.entry.Project, failed)
			}
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	return err
}

// enqueue puts a fact into its project's next batch; nil if it says nothing new. Who gets a pending has entered the journal
// and leaves it by running.Done.
func (j *Journal) enqueue(ctx context.Context, f Fact) (*pending, error) {
	p, err := j.prepare(f)
	if err != nil {
		return nil, err
	}
	c, err := j.enter(p.entry.ProjectUID)
	if err != nil {
		return nil, err
	}
	said, err := c.says(ctx, p)
	if err == nil && !said {
		err = j.putBlobs(ctx, p, f.Blobs)
	}
	if err != nil || said {
		j.running.Done()
		return nil, err
	}
	c.enqueue(p)
	return p, nil
}

// putBlobs comes before the entry that names them: an entry never lacks its documents.
func (j *Journal) putBlobs(ctx context.Context, p *pending, blobs []Blob) error {
	for i, b := range blobs {
		if b.Kept != "" {
			if has, err := j.store.Has(ctx, b.Kept); err != nil || !has {
				return fmt.Errorf("blob %q: the store does not have %s: %w", b.Name, b.Kept, cmp.Or(err, archive.ErrNotFound))
			}
			continue
		}
		hash, err := j.store.Put(ctx, b.Data)
		if err != nil {
			return fmt.Errorf("blob %q: %w", b.Name, err)
		}
		if hash != p.entry.Blobs[i].Hash {
			return fmt.Errorf("blob %q: the store calls it %s", b.Name, hash)
		}
	}
	return nil
}

// prepare makes all of an entry that does not depend on its place in the chain.
func (j *Journal) prepare(f Fact) (*pending, error) {
	e := Entry{Project: f.Project, ProjectUID: f.ProjectUID, Kind: f.Kind, Subject: f.Subject, Actor: f.Actor}
	var err error
	if e.Data, err = canonicalData(f.Data); err != nil {
		return nil, err
	}
	for _, b := range f.Blobs {
		e.Blobs = append(e.Blobs, BlobRef{Name: b.Name, MediaType: b.MediaType, Hash: b.hash()})
	}
	// Tried once with the longest place it can have: whatever is wrong with it is said here, to its own caller and not to
	// all whose facts share a batch, and what is written can be read again.
	trial := e
	trial.Seq, trial.Prev, trial.Time = maxSeq, Genesis(e.ProjectUID), time.UnixMilli(111).UTC()
	if err := trial.validate(); err != nil { // before encoding replaces what is not UTF-8
		return nil, err
	}
	text, err := trial.canonical()
	if err != nil {
		return nil, err
	}
	if _, err := parseEntry(text); err != nil {
		return nil, err
	}
	return &pending{entry: e, subject: j.subjectDigest(e), value: j.valueDigest(e), done: make(chan error, 1)}, nil
}

func (j *Journal) subjectDigest(e Entry) digest {
	return shortDigest(j.seed, "subject", string(e.Kind), e.Subject)
}

func (j *Journal) valueDigest(e Entry) digest {
	parts := []string{"value", string(e.Data)}
	for _, b := range e.Blobs {
		parts = append(parts, b.Name, b.MediaType, b.Hash)
	}
	return shortDigest(j.seed, parts...)
}

// enter returns a project's chain and holds up Close until j.running.Done.
func (j *Journal) enter(projectUID string) (*chain, error) {
	if err := archive.CheckLog(projectUID); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	j.running.Add(1)
	c := j.chains[projectUID]
	if c == nil {
		c = &chain{j: j, uid: projectUID, reading: make(chan struct{}, 1)}
		j.chains[projectUID] = c
	}
	return c, nil
}

// Head is the last entry's sequence and hash; 0 and Genesis for a project without entries.
func (j *Journal) Head(ctx context.Context, projectUID string) (seq int64, hash string, err error) {
	c, err := j.enter(projectUID)
	if err != nil {
		return 0, "", err
	}
	defer j.running.Done()
	if err := c.load(ctx); err != nil {
		return 0, "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq, c.hash, nil
}

// Entries yields a project's entries from sequence from on, as many as there are when reading begins, and verifies that
// each follows the one before. It ends at the first error.
func (j *Journal) Entries(ctx context.Context, projectUID string, from int64) iter.Seq2[Entry, error] {
	return Read(ctx, j.store, projectUID, from)
}

// Read is Entries for who has the store and no journal: somebody who only looks, while another process may be writing. It
// knows of no anchor, so that a chain which was cut short at its end reads like a whole one.
func Read(ctx context.Context, store archive.Store, projectUID string, from int64) iter.Seq2[Entry, error] {
	from = max(from, 1)
	return func(yield func(Entry, error) bool) {
		seq, hash := from-1, ""
		if from == 1 {
			hash = Genesis(projectUID)
		}
		for line, err := range store.Read(ctx, projectUID, from) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("read journal of %s: %w", projectUID, err))
				return
			}
			e, err := parseEntry(line.Data)
			if err != nil {
				yield(Entry{}, fmt.Errorf("read journal of %s: %w: seq %d: %w", projectUID, ErrBroken, line.Seq, err))
				return
			}
			if hash == "" {
				hash = e.Prev // the entry before was not read
			}
			if err := checkNext(e, projectUID, seq, hash); err != nil {
				yield(Entry{}, fmt.Errorf("read journal of %s: %w: %w", projectUID, ErrBroken, err))
				return
			}
			if !yield(e, nil) {
				return
			}
			seq, hash = e.Seq, e.Hash
		}
	}
}

// Projects are the uids of all projects with a journal, sorted.
func (j *Journal) Projects(ctx context.Context) ([]string, error) {
	return j.store.Logs(ctx)
}

// Close waits for what is under way, stores the anchors and refuses every later append. The store stays open.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	chains := j.chains
	j.mu.Unlock()
	j.running.Wait()
	var errs []error
	for _, c := range chains { // enter adds none any more
		errs = append(errs, c.closeAnchor())
	}
	return errors.Join(errs...)
}
