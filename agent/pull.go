// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/registry"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Bounds of pulling.
const (
	// pullsAtOnce: the engine itself fetches three layers of an image at a time.
	pullsAtOnce = 3
	// pullTries of one image, with a wait of pullRetry, doubled each time, in between.
	pullTries = 5
	pullRetry = time.Second
	// pullPatience is how long a registry may make us wait in all with Retry-After.
	pullPatience = 15 * time.Minute
	// probeTimeout of asking the registry ourselves why it said no.
	probeTimeout = 15 * time.Second
)

// pull fetches every image that is not on disk, several at a time. A newer Rollout interrupts it: nothing was touched.
func (w *worker) pull(ctx context.Context, target *resolved) error {
	missing, err := w.missing(ctx, target)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := w.bundleNeeded(missing); err != nil {
		return err
	}
	if err := w.notePulls(missing); err != nil {
		return err
	}
	uid, spec := w.disk.Attempt.UID, w.disk.Attempt.Spec
	first, err := w.credentials(ctx, uid, spec)
	if err != nil {
		return err
	}
	insecure := func(string) bool { return false }
	if info, err := w.agent.engineInfo(ctx); err == nil {
		insecure = info.Insecure
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	progress := &pullProgress{target: target, images: missing, now: map[string]compose.Progress{}, changed: make(chan struct{}, 1)}
	slots, ended := make(chan struct{}, pullsAtOnce), make(chan error, len(missing))
	for _, image := range missing {
		p := &puller{
			worker: w, image: image, credentials: first, progress: progress, registry: registry.New(insecure),
			fresh: func(ctx context.Context) ([]byte, error) { return w.credentials(ctx, uid, spec) },
		}
		go func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				ended <- p.run(ctx)
			case <-ctx.Done():
				ended <- ctx.Err()
			}
		}()
	}
	return w.awaitPulls(ctx, cancel, progress, ended, len(missing))
}

// awaitPulls reports progress until every pull has ended; the first failure ends the others.
func (w *worker) awaitPulls(ctx context.Context, cancel context.CancelCauseFunc, progress *pullProgress, ended <-chan error, count int) error {
	var first error
	if w.newer(ctx) {
		cancel(errInterrupted)
	}
	for count > 0 {
		select {
		case err := <-ended:
			count--
			if err != nil && first == nil {
				first = err
				cancel(err)
			}
		case <-progress.changed:
			w.say(w.disk.Attempt.UID, progress.String())
		case <-w.offered:
			if w.newer(ctx) {
				cancel(errInterrupted)
			}
		}
	}
	var f *failed
	switch {
	case errors.Is(context.Cause(ctx), errInterrupted):
		return errInterrupted
	case errors.As(first, &f):
		f.untouched = untouched(w.disk.Attempt.Phase)
	}
	return first
}

// missing are the images that are not on disk. What it finds there is not removed any more while the attempt, which is on disk
// already, names it.
func (w *worker) missing(ctx context.Context, target *resolved) ([]string, error) {
	w.agent.images.Lock()
	defer w.agent.images.Unlock()
	var missing []string
	for _, image := range target.images() {
		present, err := w.agent.engine.Present(ctx, image)
		if err != nil {
			return nil, err
		}
		if !present {
			missing = append(missing, image)
		}
	}
	return missing, nil
}

// notePulls records what is about to be fetched: only that is ever removed again.
func (w *worker) notePulls(images []string) error {
	known := len(w.disk.Pulled)
	for _, image := range images {
		if !slices.Contains(w.disk.Pulled, image) {
			w.disk.Pulled = append(w.disk.Pulled, image)
		}
	}
	if len(w.disk.Pulled) == known {
		return nil
	}
	return w.save()
}

// puller fetches one image. It runs beside the worker and touches nothing of it.
type puller struct {
	worker      *worker
	image       string
	credentials []byte
	fresh       func(context.Context) ([]byte, error)
	registry    *registry.Client
	progress    *pullProgress
}

// run tries until it has the image or trying again makes no sense.
func (p *puller) run(ctx context.Context) error {
	wait, patience := pullRetry, pullPatience
	for try := 1; ; try++ {
		err := p.worker.agent.engine.Pull(ctx, p.image, p.credentials, p.worker.agent.options.PullStall, func(now compose.Progress) { p.progress.set(p.image, now) })
		p.worker.agent.monitor.pulled(err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) {
			return err
		}
		r := refusalOf(err, p.probe(ctx, err))
		p.worker.log.Info("pull failed", "image", p.image, "try", try, "reason", r.reason, "error", err.Error())
		give := &failed{r.reason, r.err, true}
		switch {
		case r.denied:
			credentials, err := p.fresh(ctx)
			if err != nil {
				return err
			}
			if bytes.Equal(credentials, p.credentials) || try >= pullTries {
				return give
			}
			p.credentials = credentials
			continue
		case r.final, try >= pullTries, r.wait > patience:
			return give
		}
		pause := max(wait, r.wait)
		wait, patience = 2*wait, patience-r.wait
		p.progress.note(p.image, fmt.Sprintf("try %d failed (%s), the next one in %s", try, r.reason, pause.Round(time.Second)))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		p.progress.note(p.image, "")
	}
}

// probe asks the registry itself, which says more than the engine passes on; nil when it would give the image, or when it
// cannot be asked from here.
func (p *puller) probe(ctx context.Context, cause error) *registry.StatusError {
	if errors.Is(cause, compose.ErrStalled) || errors.Is(cause, compose.ErrNoSpace) || errors.Is(cause, compose.ErrDigestMismatch) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	auth, _, err := registry.AuthFor(p.image, p.credentials)
	if err != nil {
		return nil
	}
	var status *registry.StatusError
	if errors.As(p.registry.Probe(ctx, p.image, auth), &status) {
		return status
	}
	return nil
}

// refusal is why an image was not to be had, and what helps.
type refusal struct {
	reason string
	err    error
	// final: trying again helps nobody. denied: other credentials may.
	final, denied bool
	// wait at least that long.
	wait time.Duration
}

// refusalOf sorts the engine's error, with what the registry itself answered, if anything.
func refusalOf(err error, status *registry.StatusError) refusal {
	r := refusal{reason: v1alpha1.ReasonPullFailed, err: err}
	if status != nil {
		r.wait = status.RetryAfter
		switch code := status.Code; {
		case code == http.StatusUnauthorized:
			r.reason, r.denied, r.err = v1alpha1.ReasonPullUnauthorized, true, fmt.Errorf("%w (%w): check the registry secret", err, status)
			return r
		case code == http.StatusForbidden:
			r.reason, r.denied, r.err = v1alpha1.ReasonPullForbidden, true, fmt.Errorf("%w (%w): the account may not read this repository", err, status)
			return r
		case code == http.StatusNotFound:
			r.reason, r.final, r.err = v1alpha1.ReasonImageNotFound, true, fmt.Errorf("%w (%w)", err, status)
			return r
		case code == http.StatusTooManyRequests:
			r.reason, r.err = v1alpha1.ReasonPullRateLimited, fmt.Errorf("%w (%w)", err, status)
			return r
		case code >= http.StatusInternalServerError:
			r.reason, r.err = v1alpha1.ReasonRegistryError, fmt.Errorf("%w (%w)", err, status)
			return r
		}
	}
	for _, known := range []struct {
		kind   error
		reason string
		final  bool
		denied bool
	}{
		{compose.ErrNoSpace, v1alpha1.ReasonDiskFull, true, false},
		{compose.ErrStalled, v1alpha1.ReasonPullStalled, false, false},
		{compose.ErrRateLimited, v1alpha1.ReasonPullRateLimited, false, false},
		{compose.ErrDigestMismatch, v1alpha1.ReasonDigestMismatch, false, false},
		{compose.ErrDenied, v1alpha1.ReasonPullUnauthorized, false, true},
		{compose.ErrNotFound, v1alpha1.ReasonImageNotFound, true, false},
		{compose.ErrTimeout, v1alpha1.ReasonPullTimeout, false, false},
		{compose.ErrRegistry, v1alpha1.ReasonRegistryError, false, false},
	} {
		if errors.Is(err, known.kind) {
			r.reason, r.final, r.denied = known.reason, known.final, known.denied
			return r
		}
	}
	return r
}

// pullProgress is how far the pulls of a rollout are.
type pullProgress struct {
	target *resolved
	images []string
	// changed receives when there is something new to say.
	changed chan struct{}

	mu    sync.Mutex
	now   map[string]compose.Progress
	notes map[string]string
}

func (p *pullProgress) set(image string, now compose.Progress) {
	p.mu.Lock()
	p.now[image] = now
	p.mu.Unlock()
	poke(p.changed)
}

// note says something else about an image than how far it is.
func (p *pullProgress) note(image, text string) {
	p.mu.Lock()
	if p.notes == nil {
		p.notes = map[string]string{}
	}
	p.notes[image] = text
	p.mu.Unlock()
	poke(p.changed)
}

// String names each service with the bytes that it has of those that it needs.
func (p *pullProgress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var parts []string
	for _, image := range p.images {
		text, now := p.target.servicesOf(image), p.now[image]
		if now.Total > 0 {
			text += fmt.Sprintf(" %s of %s", megabytes(now.Done), megabytes(now.Total))
		}
		if note := p.notes[image]; note != "" {
			text += " (" + note + ")"
		}
		parts = append(parts, text)
	}
	return "pulling " + strings.Join(parts, ", ")
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
