// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"k8s.io/utils/lru"
)

// Bounds of what is read and remembered.
const (
	// maxManifest is the size that registries must take at least (OCI distribution 1.1.1, "Pushing Manifests").
	maxManifest = 4 << 20
	// remembered manifests of a client, each of rememberedSize at most.
	remembered, rememberedSize = 256, 64 << 10
	maxRedirects               = 5
)

// ProjectAccount is where credentials are declared unless somebody says otherwise.
const ProjectAccount = "spec.registrySecretRef of the Project"

// errTooLarge: an answer goes on where nobody reads on.
var errTooLarge = errors.New("too large")

// userAgent is what registries see in their logs.
const userAgent = "sirrat"

// Client talks to registries with the credentials of one project. It keeps who it is to a registry (a challenge answered, a
// token) from one call to the next. Safe for concurrent use.
type Client struct {
	keychain  authn.Keychain
	transport http.RoundTripper
	now       func() time.Time
	timeout   time.Duration
	// first is the pause after the first failure in a row.
	first time.Duration
	// account says in messages where the credentials are declared.
	account string
	// unusable is why no registry can be asked at all.
	unusable *Problem
	// known are manifests by repository and digest, which never change.
	known *lru.Cache
	// once: whoever uses it asks once and goes. Nothing is waited for then.
	once bool

	mu       sync.Mutex
	sessions map[string]*http.Client
	pauses   map[string]*waiting
	// copying are the images that are being copied, by repository and digest.
	copying map[string]bool
}

// waiting is for the time that a problem names. failures counts those in a row.
type waiting struct {
	problem  *Problem
	failures int
}

func newClient(keys authn.Keychain, base http.RoundTripper) *Client {
	return &Client{
		keychain: keys, transport: base, now: time.Now, timeout: callTimeout, first: firstPause, account: ProjectAccount, known: lru.New(remembered),
		sessions: map[string]*http.Client{}, pauses: map[string]*waiting{}, copying: map[string]bool{},
	}
}

// transportFor trusts what the system trusts, and ca besides. It connects with dialer, and then through no proxy; nil is any.
func transportFor(ca []byte, dialer *net.Dialer) (http.RoundTripper, error) {
	if len(ca) == 0 && dialer == nil {
		return remote.DefaultTransport, nil
	}
	standard, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("the library's transport is a %T", remote.DefaultTransport)
	}
	own := standard.Clone()
	if dialer != nil {
		own.DialContext, own.Proxy = dialer.DialContext, nil
	}
	if len(ca) == 0 {
		return own, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the key ca.crt of the registry secret holds no certificate (PEM)")
	}
	own.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return own, nil
}

// request to a repository.
type request struct {
	repo   name.Repository
	push   bool // with the right to write
	doing  string
	method string
	path   string // below the repository
	header map[string]string
	body   []byte
	// address is asked instead of the path, where the registry named one.
	address string
	// stream is the body of an upload, size bytes of it, opened anew each time that it is sent.
	stream func() io.ReadCloser
	size   int64
	// blamed is what else was the cause when the request had no answer; nil, or a nil error, when nothing is known.
	blamed func() error
	// mount is another repository that is read besides.
	mount *name.Repository
	// most is the largest answer, in bytes; 0 is maxManifest.
	most int64
	// refused explains an answer of its own; nil, or a nil answer, leaves it to answered.
	refused func(said string, status int) *Problem
}

// way is what a request waits with when a registry is in trouble.
func (r request) way() string {
	if r.method == http.MethodPut || r.method == http.MethodPost {
		return writing(r.repo)
	}
	return reading(r.repo)
}

// answer of a registry, read in full.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// reading and writing name what waits together when a registry is in trouble: one whose disk is full can still be read.
func reading(repo name.Repository) string { return "read " + repo.RegistryStr() }
func writing(repo name.Repository) string { return "write " + repo.RegistryStr() }

// do sends one request, unless it is known that it would be in vain.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	if c.unusable != nil {
		return answer{}, c.useless()
	}
	if p := c.paused(r.way()); p != nil {
		return answer{}, p
	}
	bound, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.attempt(ctx, bound, r)
}

// useless is why no registry can be asked: a problem of the caller's own, who may note in it when to try again.
func (c *Client) useless() *Problem {
	p := *c.unusable
	return &p
}

// attempt sends one request within bound, which may end before ctx does, and notes what comes of it.
func (c *Client) attempt(ctx, bound context.Context, r request) (answer, error) {
	wire := &wireNotes{}
	a, err := c.send(context.WithValue(bound, wireKey{}, wire), r)
	if err != nil {
		if cause := context.Cause(bound); cause != nil {
			err = cause
		}
		return answer{}, c.problem(ctx, r, err, wire)
	}
	c.resume(r.way())
	return a, nil
}

// open sends a request and returns its answer's body, whose reading is not bounded in time but by bound.
func (c *Client) open(ctx, bound context.Context, r request) (io.ReadCloser, error) {
	if c.unusable != nil {
		return nil, c.useless()
	}
	if p := c.paused(r.way()); p != nil {
		return nil, p
	}
	wire := &wireNotes{}
	response, err := c.begin(context.WithValue(bound, wireKey{}, wire), r)
	if err != nil {
		return nil, c.problem(ctx, r, err, wire)
	}
	c.resume(r.way())
	return response.Body, nil
}

// problem is what a request ended with, noted for others to wait.
func (c *Client) problem(ctx context.Context, r request, err error, wire *wireNotes) error {
	if ctx.Err() != nil { // whoever asked does not want to know any more
		return fmt.Errorf("%s: %w", r.doing, ctx.Err())
	}
	if r.blamed != nil {
		if cause := r.blamed(); cause != nil {
			return cause
		}
	}
	if errors.Is(err, errTooLarge) { // which says nothing against the registry
		return &Problem{Kind: KindMismatch, Doing: r.doing, Text: fmt.Sprintf("it is larger than %d KiB", cmp.Or(r.most, maxManifest)>>10), cause: err}
	}
	var own *Problem
	if errors.As(err, &own) { // nothing was sent
		return own
	}
	var t *transport.Error
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || !errors.As(err, &t) { // on this machine's own addresses plain HTTP is tried as well
		return c.fail(r, r.way(), unanswered(r, err, c.timeout), 0)
	}
	p := answered(r, t)
	if r.refused != nil {
		if own := r.refused(said(t), t.StatusCode); own != nil {
			p = own
		}
	}
	if t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden {
		c.forget(r)
	}
	return c.fail(r, r.way(), p, retryAfter(wire.header, c.now()))
}

// fail notes a problem of the registry as a whole, for all calls of its kind to wait.
func (c *Client) fail(r request, way string, p *Problem, asked time.Duration) error {
	if c.once {
		p.Text = strings.ReplaceAll(p.Text, underCA+ProjectAccount, "For a private authority name its certificate in SSL_CERT_FILE")
	}
	p.Text = strings.ReplaceAll(p.Text, ProjectAccount, c.account)
	if c.once {
		return p
	}
	if !p.transient() {
		c.resume(way)
		return p
	}
	ways := []string{way}
	if p.Kind == KindBusy {
		ways = []string{reading(r.repo), writing(r.repo)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	failures := 1
	if old := c.pauses[way]; old != nil {
		if asked == 0 && c.now().Before(old.problem.Until) { // others failed at the same time: that is one failure
			p.Until = old.problem.Until
			return p
		}
		failures = old.failures + 1
	}
	wait := min(c.first<<min(failures-1, 8), lastPause)
	if asked > 0 {
		wait = asked
	}
	p.Until = c.now().Add(wait).Truncate(time.Second).Add(time.Second) // as it is written, and not before
	for _, way := range ways {
		c.pauses[way] = &waiting{problem: p, failures: failures}
	}
	return p
}

func (c *Client) pause(key string, p *Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.pauses, func(_ string, w *waiting) bool { return w.failures == 0 && !c.now().Before(w.problem.Until) })
	c.pauses[key] = &waiting{problem: p}
}

// paused is the problem because of which nothing is sent yet; nil when something may be.
func (c *Client) paused(key string) *Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.pauses[key]
	switch {
	case w == nil:
		return nil
	case c.now().Before(w.problem.Until):
		return w.problem
	case w.failures == 0: // nothing to be remembered of it
		delete(c.pauses, key)
	}
	return nil
}

// resume forgets failures, since the registry answered. An answer that comes during a pause is one to a request that was sent
// before, as nothing is sent then: it says nothing against what failed since.
func (c *Client) resume(way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.pauses[way]; w != nil && !c.now().Before(w.problem.Until) {
		delete(c.pauses, way)
	}
}

// send sends one request and reads its answer.
func (c *Client) send(ctx context.Context, r request) (answer, error) {
	response, err := c.begin(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }() // it was read, or is not wanted
	most := cmp.Or(r.most, maxManifest)
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return answer{}, err
	}
	if int64(len(body)) > most {
		return answer{}, errTooLarge
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// begin sends one request and returns the answer when it is one of success; its body is the caller's to read and close.
func (c *Client) begin(ctx context.Context, r request) (*http.Response, error) {
	session, err := c.session(ctx, r)
	if err != nil {
		return nil, err
	}
	address := r.address
	if address == "" {
		address = fmt.Sprintf("%s://%s/v2/%s/%s", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr(), r.path)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.stream != nil && r.size > 0 {
		req.Body, req.ContentLength = r.stream(), r.size
		req.GetBody = func() (io.ReadCloser, error) { return r.stream(), nil }
	}
	for key, value := range r.header {
		req.Header.Set(key, value)
	}
	response, err := session.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(response, http.StatusOK, http.StatusCreated, http.StatusAccepted); err != nil {
		_ = response.Body.Close() // it was read
		return nil, err
	}
	return response, nil
}

// session is who the client is to a repository: it asks how to log in once, and a bearer token that has run out is fetched
// anew once.
func (c *Client) session(ctx context.Context, r request) (*http.Client, error) {
	scopes := scopesOf(r)
	key := strings.Join(scopes, " ")
	c.mu.Lock()
	known := c.sessions[key]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	auth, err := authn.Resolve(ctx, c.keychain, r.repo)
	if err != nil {
		return nil, &Problem{Kind: KindUnusable, Doing: r.doing, Text: err.Error() + ": mend the Secret of " + c.account, cause: err}
	}
	wire := transport.NewUserAgent(wire{c.transport, auth != authn.Anonymous}, userAgent)
	trip, err := transport.NewWithContext(ctx, r.repo.Registry, auth, wire, scopes)
	if err != nil {
		return nil, err
	}
	made := &http.Client{Transport: trip, CheckRedirect: checkRedirect}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[key] = made
	return made, nil
}

func (c *Client) forget(r request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, strings.Join(scopesOf(r), " "))
}

// scopesOf are the scopes that a token is asked for: who only reads asks for no more.
func scopesOf(r request) []string {
	switch {
	case r.mount != nil:
		return []string{r.repo.Scope(transport.PushScope), r.mount.Scope(transport.PullScope)}
	case r.push:
		return []string{r.repo.Scope(transport.PushScope)}
	}
	return []string{r.repo.Scope(transport.PullScope)}
}

// checkRedirect lets a registry send us elsewhere a few times; where to is for the dialer to allow.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("the registry redirects more than %d times", maxRedirects)
	}
	return nil
}

// wireNotes are what an answer without success said besides its body.
type wireNotes struct{ header http.Header }

type wireKey struct{}

// wire is what lies below logging in: a request that is sent again, with a new token, has its body again, and none that proves who
// asks leaves this machine in the open.
type wire struct {
	base http.RoundTripper
	// secret says that there is something to be kept.
	secret bool
}

// errInTheOpen: a password, or what was had for it, would be sent without TLS. The library does that for private addresses.
var errInTheOpen = errors.New("it does not answer with TLS, and no password is sent without beyond this machine: give the registry a certificate " +
	"(that of a private authority goes under ca.crt into the Secret), or let it be read by everybody")

// RoundTrip implements http.RoundTripper.
func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	// A POST to a token server has the password, or what stands for it, in its body.
	tells := req.Header.Get("Authorization") != "" || req.Header.Get("Content-Type") == "application/x-www-form-urlencoded"
	if w.secret && tells && req.URL.Scheme != "https" && !onThisMachine(req.URL.Hostname()) {
		return nil, errInTheOpen
	}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = body
	}
	response, err := w.base.RoundTrip(req)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		if notes, ok := req.Context().Value(wireKey{}).(*wireNotes); ok {
			notes.header = response.Header.Clone()
		}
	}
	return response, err
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
