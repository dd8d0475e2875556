// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// writeTimeout lets the longest request end: body, authentication and store, wait, and some time to send the answer.
	writeTimeout = defaultBodyTimeout + 2*(slotTimeout+defaultStoreTimeout) + MaxWait + 30*time.Second
)

// NewServer returns a server for the handler with bounds against slow and oversized requests. There is no ReadTimeout: it
// would also end requests that wait for a verdict; the handlers of this package bound the time of each body themselves.
func NewServer(h http.Handler, addr string) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}

func (a *api) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range a.table() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { a.serve(rt, w, r) })
	}
	return mux
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// serve is what every request goes through: headers, bounds, panics, problems, metrics, log.
func (a *api) serve(rt route, w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	secure(w, r)
	rec := &recorder{ResponseWriter: w}
	log := a.o.Log.WithValues("method", r.Method, "path", r.URL.Path)
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			log.Error(panicError(v), "panic in a request", "stack", string(debug.Stack()))
			if rec.status == 0 {
				p := newProblem(http.StatusInternalServerError, "internal", "The server failed", "this is a fault of the server; nothing is acknowledged")
				p.closing = true
				p.write(rec)
			}
		}
		observe(rt.name, rec.status, time.Since(start))
		log.V(1).Info("request", "status", rec.status, "seconds", time.Since(start).Seconds())
	}()

	if a.requests.Add(1) > int64(a.o.MaxRequests) && rt.name != "healthz" {
		a.requests.Add(-1)
		unavailable("too many requests at a time", time.Second, nil).write(rec)
		return
	}
	defer a.requests.Add(-1)
	if r.Body != nil && r.Body != http.NoBody {
		// Also bounds how long the rest of a body is read that no handler wants. Writers without deadlines are tests.
		_ = http.NewResponseController(w).SetReadDeadline(start.Add(a.o.BodyTimeout))
	}
	err := a.dispatch(rt, rec, r)
	if err == nil {
		return
	}
	var p *Problem
	if !errors.As(err, &p) {
		p = newProblem(http.StatusInternalServerError, "internal", "The server failed", "this is a fault of the server; nothing is acknowledged")
		p.cause = err
	}
	if p.Status >= http.StatusInternalServerError {
		log.Error(p, "request failed", "status", p.Status)
	}
	p.write(rec)
}

func (a *api) dispatch(rt route, w http.ResponseWriter, r *http.Request) error {
	if rt.methods == nil {
		return newProblem(http.StatusNotFound, "no-such-path", "There is nothing at this path", "see /api/openapi.json")
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	h, ok := rt.methods[method]
	if !ok {
		p := newProblem(http.StatusMethodNotAllowed, "method", "The path does not take this method", "")
		for m := range rt.methods {
			p.allow, p.Detail = m, "use "+m
		}
		return p
	}
	if err := a.cross.Check(r); err != nil {
		return newProblem(http.StatusForbidden, "cross-site", "Pages of other sites may not send this", "send it from a pipeline, not from a browser")
	}
	return h(w, r)
}

// secure sets the headers that keep an answer inert in a browser.
func secure(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// panicError is what may be logged of a panic: a fault of the runtime in its words; of anything else only the type, since the
// value may hold what came with the request.
func panicError(v any) error {
	var fault runtime.Error
	if err, ok := v.(error); ok && errors.As(err, &fault) {
		return fault
	}
	return fmt.Errorf("panic with a value of type %T", v)
}

// recorder remembers the status for metrics and log.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// readBody returns the whole body, whatever its Content-Type: `curl -d` calls JSON a form.
func (a *api) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	l := bodyLimit{size: MaxBody, time: a.o.BodyTimeout, what: "a report is figures, not the full log", send: "JSON"}
	if err := l.check(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err := l.problem(int64(len(body)), err); err != nil {
		return nil, err
	}
	// The wait for a verdict may last longer than the body might.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// bodyLimit words what is wrong with a body that does not keep to it.
type bodyLimit struct {
	size       int64
	time       time.Duration
	what, send string
	gzip       bool // may be compressed
}

// check looks at what the headers say of the body.
func (l bodyLimit) check(r *http.Request) error {
	for _, encoding := range r.Header.Values("Content-Encoding") {
		switch {
		case strings.EqualFold(encoding, "identity"):
		case l.gzip && len(r.Header.Values("Content-Encoding")) == 1 && isGzip(r.Header):
		case l.gzip:
			p := newProblem(http.StatusUnsupportedMediaType, "content-encoding", "The body is not compressed as it may be", "send the "+l.send+" as it is, or with gzip")
			p.encodings, p.closing = []string{"gzip", "identity"}, true
			return p
		default:
			p := newProblem(http.StatusUnsupportedMediaType, "content-encoding", "Compressed bodies are not accepted", "send the "+l.send+" as it is")
			p.encodings, p.closing = []string{"identity"}, true
			return p
		}
	}
	if r.ContentLength > l.size {
		return l.tooLarge()
	}
	return nil
}

func (l bodyLimit) tooLarge() *Problem {
	p := newProblem(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", fmt.Sprintf("at most %d bytes; %s", l.size, l.what))
	p.closing = true
	return p
}

// problem is what is wrong once n bytes were read and then err came.
func (l bodyLimit) problem(n int64, err error) error {
	var large *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &large):
		return l.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		p := newProblem(http.StatusRequestTimeout, "too-slow", "The body took too long to arrive", "it must arrive within "+l.time.String())
		p.closing = true
		return p
	case err != nil:
		p := newProblem(http.StatusBadRequest, "truncated", "The body could not be read", "it ended early or is not valid HTTP")
		p.closing = true
		return p
	case n == 0:
		return invalid([]FieldError{{Detail: "the body is empty: send the " + l.send}})
	}
	return nil
}

//go:embed openapi.json
var openAPI []byte

func getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
	return nil
}

func getHealthz(w http.ResponseWriter, _ *http.Request) error { return ok(w) }

func (a *api) getReadyz(w http.ResponseWriter, _ *http.Request) error {
	if !a.hub.hasSynced() {
		return unavailable("the cache is not filled yet", time.Second, nil)
	}
	if err := a.o.Ready(); err != nil {
		return unavailable("the server is not ready", time.Second, err)
	}
	return ok(w)
}

func ok(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
	return nil
}

var metricsHandler = promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{})

func getMetrics(w http.ResponseWriter, r *http.Request) error {
	metricsHandler.ServeHTTP(w, r)
	return nil
}

// knownTypes are the values of the label type: names that users declare would make a series each.
var knownTypes = []string{"tests", "coverage", "scan", "quality", "deployment", "pipeline"}

func typeLabel(resultType string) string {
	if slices.Contains(knownTypes, resultType) {
		return resultType
	}
	return "other"
}
