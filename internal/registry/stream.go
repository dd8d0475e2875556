// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
)

// storeTimes is how many times longer than a call a registry may take to store a layer of which it has every byte: some copy
// it to their storage only then.
const storeTimes = 10

// errStalled ends an upload of which nothing moves any more.
var errStalled = errors.New("nothing of it moved")

// bring has a layer in a repository: mounted from one of its registry if that works, or streamed from the source.
func (c *copier) bring(ctx context.Context, e *errand, repo name.Repository) error {
	doing := fmt.Sprintf("copy layer %s to %s", e.layer.Digest, repo.Name())
	for _, there := range e.there {
		location, err := c.to.beginUpload(ctx, repo, doing, e.layer, &there)
		var p *Problem
		switch {
		case errors.As(err, &p) && p.Kind == KindDenied:
			continue // the account may not read there: without mounting, then
		case err != nil:
			return err
		case location == "":
			c.count(Progress{BytesDone: e.layer.Size})
			return nil
		}
		return c.upload(ctx, e, repo, doing, location) // which it offers instead
	}
	location, err := c.to.beginUpload(ctx, repo, doing, e.layer, nil)
	if err != nil {
		return err
	}
	return c.upload(ctx, e, repo, doing, location)
}

// beginUpload returns where to put a layer; "" when it was mounted.
func (c *Client) beginUpload(ctx context.Context, repo name.Repository, doing string, layer v1.Descriptor, mount *name.Repository) (string, error) {
	r := request{repo: repo, push: true, doing: doing, method: http.MethodPost, path: "blobs/uploads/", mount: mount, refused: refusedWrite(repo, doing)}
	if mount != nil {
		r.path += "?" + url.Values{"mount": {layer.Digest.String()}, "from": {mount.RepositoryStr()}}.Encode()
	}
	answer, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	if mount != nil && answer.status == http.StatusCreated {
		return "", nil
	}
	base := &url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/blobs/uploads/"}
	to, err := base.Parse(answer.header.Get("Location"))
	if err != nil || answer.header.Get("Location") == "" {
		return "", &Problem{Kind: KindFailed, Doing: doing, Text: "the registry does not say where to put a layer"}
	}
	query := to.Query()
	query.Set("digest", layer.Digest.String())
	to.RawQuery = query.Encode()
	return to.String(), nil
}

// upload streams a layer from the source to where the registry wants it. It is bounded by the time in which nothing moves.
func (c *copier) upload(ctx context.Context, e *errand, repo name.Repository, doing, location string) error {
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &source{copier: c, ctx: ctx, bound: bound, repo: e.source, layer: e.layer}
	s.idle = time.AfterFunc(c.to.timeout, func() {
		s.stalled()
		cancel(errStalled)
	})
	defer s.idle.Stop()
	answer, err := c.to.attempt(ctx, bound, request{
		repo: repo, push: true, doing: doing, method: http.MethodPut, address: location, header: map[string]string{"Content-Type": "application/octet-stream"},
		stream: s.open, size: e.layer.Size, refused: refusedLayer(repo, doing), blamed: s.blamed,
	})
	s.settle(err == nil)
	if err != nil {
		return err
	}
	if stored := answer.header.Get(digestHeader); stored != "" && stored != e.layer.Digest.String() {
		return &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry stored %s", stored)}
	}
	return nil
}

func refusedLayer(repo name.Repository, doing string) func(said string, status int) *Problem {
	otherwise := refusedWrite(repo, doing)
	return func(said string, status int) *Problem {
		if status == http.StatusNotFound { // an upload that it has forgotten: the next try begins another
			return &Problem{Kind: KindFailed, Doing: doing, Text: fmt.Sprintf("the registry does not know the upload any more (404%s)", said)}
		}
		return otherwise(said, status)
	}
}

// source is where a layer comes from while it is uploaded. It may be read more than once: what a registry refused because a
// token ran out is sent again.
type source struct {
	copier *copier
	// ctx is the caller's; bound ends when nothing moves.
	ctx, bound context.Context
	repo       name.Repository
	layer      v1.Descriptor
	idle       *time.Timer

	mu      sync.Mutex
	current *stream
	problem error
}

// open begins anew: what an earlier reader got does not count any more.
func (s *source) open() io.ReadCloser {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.copier.count(Progress{BytesDone: -s.current.passed})
	}
	s.current = &stream{source: s, check: digest.SHA256.Digester()}
	return s.current
}

// settle counts the layer in full once it is there, and not at all otherwise.
func (s *source) settle(there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	passed := int64(0)
	if s.current != nil {
		passed = s.current.passed
	}
	s.current = nil
	if there {
		s.copier.count(Progress{BytesDone: s.layer.Size - passed})
		return
	}
	s.copier.count(Progress{BytesDone: -passed})
}

// stalled notes that nothing moves any more, and whose fault that is.
func (s *source) stalled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem == nil && s.current != nil && s.current.waiting {
		r, from := s.request(), s.copier.from
		s.problem = from.fail(r, r.way(), unanswered(r, errStalled, from.timeout), 0)
	}
}

// blamed is the source's problem when an upload failed because of it; nil when it did not.
func (s *source) blamed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

func (s *source) request() request {
	return request{
		repo: s.repo, doing: "read layer " + s.layer.Digest.String() + " of " + s.repo.Name(), method: http.MethodGet, path: "blobs/" + s.layer.Digest.String(),
	}
}

// stream is one reading of a layer. It ends with an error, before the last bytes, if they are not those of the digest.
type stream struct {
	source *source
	check  digest.Digester
	// All below are guarded by source.mu. waiting is for the source.
	body    io.ReadCloser
	passed  int64
	waiting bool
}

// Read implements io.Reader.
func (b *stream) Read(p []byte) (int, error) {
	s := b.source
	b.wait(true)
	defer b.wait(false)
	body, err := b.ask()
	if err != nil {
		return 0, b.fail(err)
	}
	n, err := body.Read(p)
	_, _ = b.check.Hash().Write(p[:n]) // a hash takes everything
	left := b.pass(n)
	switch {
	case left < 0, left == 0 && b.check.Digest().String() != s.layer.Digest.String():
		return 0, b.fail(&Problem{Kind: KindMismatch, Doing: s.request().doing, Text: "the registry serves other bytes than this digest names. Push the image again; nothing is made of what it serves"})
	case left > 0 && errors.Is(err, io.EOF):
		return n, b.fail(b.broken(io.ErrUnexpectedEOF))
	case err != nil && !errors.Is(err, io.EOF) && s.bound.Err() == nil:
		return n, b.fail(b.broken(err))
	}
	return n, err
}

// ask asks for the layer, the first time.
func (b *stream) ask() (io.Reader, error) {
	s := b.source
	s.mu.Lock()
	body := b.body
	s.mu.Unlock()
	if body != nil {
		return body, nil
	}
	body, err := s.copier.from.open(s.ctx, s.bound, s.request())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.body = body
	return body, nil
}

// broken is the problem of a source that ends in the middle.
func (b *stream) broken(err error) error {
	r := b.source.request()
	c := b.source.copier.from
	return c.fail(r, r.way(), unanswered(r, err, c.timeout), 0)
}

// fail notes that it is the source's problem that the upload fails.
func (b *stream) fail(err error) error {
	b.source.mu.Lock()
	defer b.source.mu.Unlock()
	if b.source.current == b && b.source.problem == nil {
		b.source.problem = err
	}
	return err
}

func (b *stream) wait(waiting bool) {
	b.source.mu.Lock()
	defer b.source.mu.Unlock()
	b.waiting = waiting
}

// pass counts bytes that arrived and returns how many are missing.
func (b *stream) pass(n int) int64 {
	s := b.source
	s.mu.Lock()
	defer s.mu.Unlock()
	b.passed += int64(n)
	left := s.layer.Size - b.passed
	if s.current == b && n > 0 {
		s.copier.count(Progress{BytesDone: int64(n), Moved: int64(n)})
		patience := s.copier.to.timeout
		if left <= 0 {
			patience *= storeTimes
		}
		s.idle.Reset(patience)
	}
	return left
}

// Close implements io.Closer.
func (b *stream) Close() error {
	b.source.mu.Lock()
	body := b.body
	b.source.mu.Unlock()
	if body == nil {
		return nil
	}
	return body.Close()
}
