// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/page"
)

const (
	// requestTimeout bounds how long the cache may take, which it does only while the server starts.
	requestTimeout = 10 * time.Second
	// maxRequests at a time are read and rendered: each is a page of some hundred kilobytes at the most.
	maxRequests = 32
	// retryAfter is when to ask again for a page that cannot be shown now.
	retryAfter = "10"
)

// Options of New. Reader and Links are needed.
type Options struct {
	// Reader reads Projects, Releases, QualityGates and Environments, from a cache.
	Reader client.Reader
	// Links are the addresses that open pages.
	Links *Links
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Log gets what operators need to know. The zero value discards.
	Log logr.Logger
}

// Portal serves the pages. It is safe for concurrent use.
type Portal struct {
	o     Options
	https bool
	slots chan struct{}
	looks *looks
}

// New returns a portal. It calls nothing yet.
func New(o Options) (*Portal, error) {
	if o.Reader == nil || o.Links == nil {
		return nil, errors.New("portal: a reader and links are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	looks, err := parseLooks()
	if err != nil {
		return nil, err
	}
	return &Portal{o: o, https: strings.HasPrefix(o.Links.base, "https:"), slots: make(chan struct{}, maxRequests), looks: looks}, nil
}

// errDead is the one answer to every link that does not work, whatever the reason: who guesses learns nothing.
var errDead = errors.New("no such page")

// errBusy is that of a server that shows many pages at a time.
var errBusy = errors.New("too many requests at a time")

// ServeHTTP implements http.Handler. It is what every request goes through: headers, bounds, panics, problems, log.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.Secure(w.Header(), p.https)
	if r.URL.Path == Prefix+p.looks.style.Name {
		p.looks.style.ServeHTTP(w, r)
		return
	}
	language := page.First(page.Chosen(r), page.Accepted(r))
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		p.o.Log.Error(fmt.Errorf("%v", v), "panic in the portal", "stack", string(debug.Stack())) // never the path
		p.renderProblem(w, r, language, http.StatusInternalServerError, "failed")
	}()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		p.renderProblem(w, r, language, http.StatusMethodNotAllowed, "method")
		return
	}
	body, err := p.release(r, language)
	switch {
	case err == nil:
		send(w, r, language, http.StatusOK, body)
	case errors.Is(err, errDead):
		p.renderProblem(w, r, language, http.StatusNotFound, "dead")
	default:
		if !errors.Is(err, errBusy) && r.Context().Err() == nil { // neither floods nor browsers that went away fill the log
			p.o.Log.Error(err, "a page of the portal cannot be shown")
		}
		w.Header().Set("Retry-After", retryAfter)
		p.renderProblem(w, r, language, http.StatusServiceUnavailable, "unavailable")
	}
}

// release is the page of a release, made in its turn. It is sent after that: whoever reads slowly keeps nobody else out.
func (p *Portal) release(r *http.Request, language string) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	f, err := p.facts(ctx, r.URL.Path)
	if err != nil {
		return nil, err
	}
	m := p.newModel(r, language)
	m.view, m.Reload = newView(f, language, p.o.Now()), true
	return p.render("release", m)
}

// nameOf is what names of projects and releases look like.
var nameOf = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)

// facts reads what the page of a link shows. Before the link is known to be good, nothing but its release is looked at.
func (p *Portal) facts(ctx context.Context, path string) (facts, error) {
	var f facts
	parts := strings.Split(strings.TrimPrefix(path, Prefix), "/")
	if len(parts) != 3 || !nameOf.MatchString(parts[0]) || !nameOf.MatchString(parts[1]) {
		return f, errDead
	}
	err := p.o.Reader.Get(ctx, client.ObjectKey{Namespace: parts[0], Name: parts[1]}, &f.release)
	if err != nil && !apierrors.IsNotFound(err) {
		return f, fmt.Errorf("read a release: %w", err)
	}
	// A release that is not there has no UID, and a capability is compared all the same.
	if !p.o.Links.opens(&f.release, parts[2]) || !f.release.DeletionTimestamp.IsZero() {
		return f, errDead
	}
	if err := p.o.Reader.Get(ctx, client.ObjectKey{Name: parts[0]}, &f.project); err != nil {
		if apierrors.IsNotFound(err) {
			return f, errDead
		}
		return f, fmt.Errorf("read project %s: %w", parts[0], err)
	}
	var gates v1alpha1.QualityGateList
	var environments v1alpha1.EnvironmentList
	if err := errors.Join(p.o.Reader.List(ctx, &gates, client.InNamespace(parts[0])), p.o.Reader.List(ctx, &environments, client.InNamespace(parts[0]))); err != nil {
		return f, fmt.Errorf("read the bridge of %s: %w", parts[0], err)
	}
	f.gates, f.environments = gates.Items, environments.Items
	return f, nil
}
