// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/page"
)

// Prefix of every path that a Page serves.
const Prefix = "/pv/"

const (
	// maxBody bounds a form: twenty long reservations fit.
	maxBody = 64 << 10
	// bodyTimeout bounds how long a form may take to arrive, on a bad phone line too.
	bodyTimeout = 20 * time.Second
	// requestTimeout bounds what a request may wait for: the API, a mail server, the controllers.
	requestTimeout = 45 * time.Second
	// maxRequests at a time: signatories are few, and each request costs calls of the API.
	maxRequests = 32
)

// Message is a mail in plain text.
type Message struct {
	To      string // one address
	Subject string // one line
	Text    string
}

// Mailer hands mails over to a mail server.
type Mailer interface {
	// Send returns nil once a server took the mail over. It returns when ctx ends.
	Send(ctx context.Context, m Message) error
}

// Options of New. Every field is needed, but Now and Log.
type Options struct {
	// Client writes invitations and signatures. What it reads may be cached: it is not read from.
	Client client.Client
	// APIReader reads the API server itself: a link that was just revoked or used must not work.
	APIReader client.Reader
	// Signer is the installation's key, whose public half the controllers accept for v1alpha1.MethodPage.
	Signer crypto.Signer
	// Mail sends links and codes.
	Mail Mailer
	// PDF renders a PV: with the decision once its status has one. The result must have the hash that the PV states, if it
	// states one.
	PDF func(*v1alpha1.PV) ([]byte, error)
	// BaseURL is where people reach the server, without a path. Example: https://sirrat.dynors.com.
	BaseURL string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Log gets what operators need to know. The zero value discards.
	Log logr.Logger
}

// Page serves the signing page and sends its links. Its methods may be called from several goroutines; Invite for one PV
// from one at a time, as a controller does.
type Page struct {
	o     Options
	base  string // of links, without the slash at the end
	https bool
	cross *http.CrossOriginProtection
	slots chan struct{}
	views *views
}

// New returns a page. It calls nothing yet.
func New(o Options) (*Page, error) {
	if o.Client == nil || o.APIReader == nil || o.Signer == nil || o.Mail == nil || o.PDF == nil {
		return nil, errors.New("signing page: a client, a reader, a key, a mailer and a PDF renderer are needed")
	}
	u, err := url.Parse(o.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("signing page: base URL %q is not like https://sirrat.example.com", o.BaseURL)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	p := &Page{o: o, base: u.Scheme + "://" + u.Host, https: u.Scheme == "https", cross: http.NewCrossOriginProtection(), slots: make(chan struct{}, maxRequests)}
	// Behind a proxy that rewrites Host, an old browser's Origin is compared with this.
	if err := p.cross.AddTrustedOrigin(p.base); err != nil {
		return nil, fmt.Errorf("signing page: %w", err)
	}
	if p.views, err = parseViews(); err != nil {
		return nil, err
	}
	return p, nil
}

// route is what one path takes.
type route struct {
	name      string // for logs, in place of a path that holds the link
	get, post func(*request) error
}

func (p *Page) routes() map[string]route {
	return map[string]route{
		"":              {name: "show", get: p.getDocument},
		"/code":         {name: "code", post: p.postCode},
		"/enter":        {name: "enter", get: p.getEnter, post: p.postEnter},
		"/decide":       {name: "decide", post: p.postDecide},
		"/sign":         {name: "sign", post: p.postSign},
		"/document.pdf": {name: "pdf", get: p.getPDF},
	}
}

// request is one request on its way.
type request struct {
	http.ResponseWriter
	*http.Request
	token    string
	chosen   string // language asked for by ?lang=; "" for none
	language string // language of the answer
	visit    *visit // nil before the link is known to be good
}

// ServeHTTP implements http.Handler. It is what every request goes through: headers, bounds, panics, problems, log.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.Secure(w.Header(), p.https)
	if r.URL.Path == Prefix+p.views.style.Name {
		p.views.style.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	req := &request{ResponseWriter: w, Request: r.WithContext(ctx)}
	req.chosen = page.Chosen(r)
	req.language = page.First(req.chosen, page.Accepted(r))

	token, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	if action != "" || strings.HasSuffix(r.URL.Path, "/") {
		action = "/" + action
	}
	req.token = token
	rt, ok := p.routes()[action]
	log := p.o.Log.WithValues("method", r.Method, "page", rt.name) // never the path
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		log.Error(fmt.Errorf("%v", v), "panic in the signing page", "stack", string(debug.Stack()))
		p.renderProblem(req, failed(nil))
	}()
	err := func() error {
		if !ok {
			return deadLink()
		}
		return p.handle(req, rt)
	}()
	if err == nil {
		return
	}
	var bad *problem
	if !errors.As(err, &bad) {
		bad = failed(err)
	}
	if bad.status >= http.StatusInternalServerError {
		log.Error(bad, "signing page failed", "status", bad.status)
	}
	p.renderProblem(req, bad)
}

func (p *Page) handle(r *request, rt route) error {
	handler := rt.get
	switch {
	case r.Method == http.MethodPost && rt.post != nil:
		handler = rt.post
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && rt.get != nil:
	default:
		return wrongMethod(rt)
	}
	if err := p.cross.Check(r.Request); err != nil {
		return &problem{status: http.StatusForbidden, title: "forbidden.title", detail: "forbidden.cross"}
	}
	if err := r.readForm(); err != nil {
		return err
	}
	// After the body: whoever trickles one keeps nobody else out.
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return unavailable(errors.New("too many requests at a time"))
	}
	v, err := p.load(r)
	if err != nil {
		return err
	}
	r.visit = v
	r.language = page.First(r.chosen, v.doc.Language, page.Accepted(r.Request))
	return handler(r)
}

// readForm reads the bounded body of a POST before the link is looked at, so that its outcome says nothing of the link.
func (r *request) readForm() error {
	if r.Method != http.MethodPost {
		return nil
	}
	// Writers without deadlines are tests.
	_ = http.NewResponseController(r.ResponseWriter).SetReadDeadline(time.Now().Add(bodyTimeout))
	r.Body = http.MaxBytesReader(r.ResponseWriter, r.Body, maxBody)
	err := r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &problem{status: http.StatusRequestEntityTooLarge, title: "large.title", detail: "large.detail"}
	case err != nil:
		return &problem{status: http.StatusBadRequest, title: "bad.title", detail: "bad.detail"}
	}
	_ = http.NewResponseController(r.ResponseWriter).SetReadDeadline(time.Time{})
	return nil
}

// problem is a page that says what is wrong and what to do. Its texts are keys of the table of texts.
type problem struct {
	status        int
	title, detail string
	args          []any // of detail
	allow         string
	retryAfter    time.Duration
	cause         error // for the log only
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.title + ": " + p.cause.Error()
	}
	return p.title
}

func (p *problem) Unwrap() error { return p.cause }

// deadLink is the one answer to every link that does not work, whatever the reason: who guesses learns nothing, and who
// holds an old link needs a new one in any case.
func deadLink() *problem {
	return &problem{status: http.StatusNotFound, title: "dead.title", detail: "dead.detail"}
}

func failed(cause error) *problem {
	return &problem{status: http.StatusInternalServerError, title: "failed.title", detail: "failed.detail", cause: cause}
}

// unavailable is the problem of what may be better in a moment; nothing was changed.
func unavailable(cause error) *problem {
	return &problem{status: http.StatusServiceUnavailable, title: "unavailable.title", detail: "unavailable.detail", retryAfter: 10 * time.Second, cause: cause}
}

func wrongMethod(rt route) *problem {
	bad := &problem{status: http.StatusMethodNotAllowed, title: "method.title", detail: "method.detail"}
	switch {
	case rt.get != nil && rt.post != nil:
		bad.allow = "GET, HEAD, POST"
	case rt.get != nil:
		bad.allow = "GET, HEAD"
	default:
		bad.allow = "POST"
	}
	return bad
}
