// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// refuse answers requests of a method for what a path contains with a status and an error of the distribution API.
func refuse(method, path string, status int, code string, headers ...string) registrytest.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, path) {
			return false
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the test wants it"}]}`, code)
		return true
	}
}

// otherBytes serves manifests of which one byte is another.
func otherBytes(r *registrytest.Registry) registrytest.Fault {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		whole := httptest.NewRecorder()
		r.Forward(whole, req)
		body := whole.Body.Bytes()
		body[len(body)/2] ^= 1
		for name, values := range whole.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(whole.Code)
		_, _ = w.Write(body) // the client may have gone
		return true
	}
}

// half sends the beginning of a manifest, and nothing more until the client goes.
func half(r *registrytest.Registry) registrytest.Fault {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		whole := httptest.NewRecorder()
		r.Forward(whole, req)
		w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
		_, _ = io.CopyN(w, whole.Body, int64(whole.Body.Len()/2)) // the client may have gone
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
		return true
	}
}

// before does something once, before the registry sees the first request of a kind; others may come at the same time.
func before(method, path string, do func()) registrytest.Fault {
	var first sync.Once
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == method && strings.Contains(r.URL.Path, path) {
			first.Do(do)
		}
		return false
	}
}

// passed changes a header of the answers to requests of a method for what a path contains; "" takes it out.
func passed(method, path, header, value string) func(*registrytest.Registry) registrytest.Fault {
	return func(r *registrytest.Registry) registrytest.Fault {
		return through(r, method, path, func(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
			w.Header().Del(header)
			if value != "" && whole.Code < http.StatusBadRequest {
				w.Header().Set(header, value)
			}
			w.WriteHeader(whole.Code)
			_, _ = w.Write(whole.Body.Bytes())
		})
	}
}

// stored says of a manifest that was put that it has another digest.
func stored(digest string) func(*registrytest.Registry) registrytest.Fault {
	return passed(put, manifests, "Docker-Content-Digest", digest)
}

const get, head, put, manifests = http.MethodGet, http.MethodHead, http.MethodPut, "/manifests/"

// TestFaults: each says what is wrong and when it is tried again, asks nothing before, and heals by itself. callTimeout is
// short.
func TestFaults(t *testing.T) {
	const timeout = 3 * time.Second
	fixed := func(f registrytest.Fault) func(*registrytest.Registry) registrytest.Fault {
		return func(*registrytest.Registry) registrytest.Fault { return f }
	}
	for _, c := range []struct {
		name  string
		fault func(*registrytest.Registry) registrytest.Fault
		kind  registry.Kind
		says  []string
		wait  time.Duration // until it is tried again; 0: the caller decides
	}{
		{"429 with Retry-After", fixed(refuse(head, manifests, 429, "TOOMANYREQUESTS", "Retry-After: 90")), registry.KindBusy, []string{"too many requests", "(429)"}, 90 * time.Second},
		{"429 with a Retry-After of a year", fixed(refuse(head, manifests, 429, "TOOMANYREQUESTS", "Retry-After: 31536000")), registry.KindBusy, nil, 15 * time.Minute},
		{"429 with a Retry-After beyond all numbers", fixed(refuse(head, manifests, 429, "TOOMANYREQUESTS", "Retry-After: 99999999999999999999")), registry.KindBusy, nil, 15 * time.Minute},
		{"429 with a date", fixed(refuse(put, manifests, 429, "TOOMANYREQUESTS", "Retry-After: Mon, 02 Nov 2026 09:02:00 GMT")), registry.KindBusy, nil, 2 * time.Minute},
		{"429 without Retry-After", fixed(refuse(head, manifests, 429, "TOOMANYREQUESTS")), registry.KindBusy, nil, 5 * time.Second},
		{"503 with Retry-After", fixed(refuse(head, manifests, 503, "UNAVAILABLE", "Retry-After: 30")), registry.KindBusy, []string{"unavailable"}, 30 * time.Second},
		{"503 of the token server", fixed(refuse(get, "/token", 503, "UNAVAILABLE", "Retry-After: 30")), registry.KindBusy, []string{"503"}, 30 * time.Second},
		{"502", fixed(refuse(head, manifests, 502, "UNKNOWN")), registry.KindFailed, []string{"502"}, 5 * time.Second},
		{"401 for ever", fixed(refuse(put, manifests, 401, "UNAUTHORIZED")), registry.KindDenied, []string{"401", "spec.registrySecretRef"}, time.Minute},
		{"403 when reading", fixed(refuse(head, manifests, 403, "DENIED")), registry.KindDenied, []string{"403", "spec.registrySecretRef"}, time.Minute},
		{"403 of a protected tag", fixed(refuse(put, manifests, 403, "DENIED")), registry.KindDenied, []string{"protected", "it names no image yet"}, time.Minute},
		{"412 of an immutable tag", fixed(refuse(put, manifests, 412, "PRECONDITION")), registry.KindImmutable, []string{"immutable", "spec.tags"}, time.Minute},
		{"409 of an immutable tag", fixed(refuse(put, manifests, 409, "CONFLICT")), registry.KindImmutable, []string{"immutable"}, time.Minute},
		{"404 of the digest", fixed(refuse(get, manifests, 404, "MANIFEST_UNKNOWN")), registry.KindNotFound, []string{"not in the registry"}, 0},
		{"other bytes", otherBytes, registry.KindMismatch, []string{"other bytes", "Push the image again"}, time.Minute},
		{"slow body", half, registry.KindFailed, []string{"did not answer in full within 3s"}, 5 * time.Second},
		{"stored as something else", stored("sha256:" + strings.Repeat("0", 64)), registry.KindMismatch, []string{"stored sha256:000", "do not use this tag"}, time.Minute},
		{"a manifest without end", fixed(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == get && strings.Contains(req.URL.Path, manifests) {
				_, _ = w.Write(make([]byte, 5<<20)) // the client may have gone
			}
			return req.Method == get && strings.Contains(req.URL.Path, manifests)
		}), registry.KindMismatch, []string{"larger than 4096 KiB"}, time.Minute},
		{"redirects without end", fixed(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == head && strings.Contains(req.URL.Path, manifests) {
				http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
			}
			return req.Method == head && strings.Contains(req.URL.Path, manifests)
		}), registry.KindFailed, []string{"redirects more than 5 times"}, 5 * time.Second},
		{"507", fixed(refuse(put, manifests, 507, "UNKNOWN")), registry.KindFull, []string{"out of room"}, 5 * time.Second},
		{"500 on a full disk", fixed(refuse(put, manifests, 500, "UNKNOWN: no space left on device")), registry.KindFull, []string{"out of room"}, 5 * time.Second},
		{"500 when writing", fixed(refuse(put, manifests, 500, "UNKNOWN")), registry.KindFailed, []string{"full disk"}, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
			index := r.Push(repository, "dev-a1b2c3d")
			begin := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
			now := &clock{now: begin}
			client := newClient(t, r)
			client.SetClock(now.Now, timeout)
			tag := registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: "v1.3.0"}
			r.Misbehave(c.fault(r))
			p := problem(t, client.Tag(t.Context(), tag), c.kind)
			for _, want := range append(c.says, r.Host+"/"+repository) {
				if !strings.Contains(p.Error(), want) {
					t.Errorf("%q does not say %q", p, want)
				}
			}
			if got := r.Digest(repository, "v1.3.0"); got != "" && c.name != "stored as something else" {
				t.Errorf("the tag names %s all the same", got)
			}
			if c.wait > 0 {
				r.Take()
				if got := p.Until.Sub(begin); got < c.wait || got > c.wait+time.Second {
					t.Errorf("tried again after %s, want %s", got, c.wait)
				}
				now.set(p.Until.Add(-time.Millisecond))
				if again := client.Tag(t.Context(), tag); again == nil || again.Error() != p.Error() || len(r.Take()) != 0 {
					t.Errorf("asked before the time, or said otherwise: %v", again)
				}
			}
			r.Misbehave(nil)
			now.set(p.Until)
			if err := client.Tag(t.Context(), tag); err != nil {
				t.Fatalf("does not heal: %v", err)
			}
			if got := r.Digest(repository, "v1.3.0"); got != index {
				t.Errorf("the tag names %q, want %s", got, index)
			}
			t.Log(p)
		})
	}
}

// TestPausesGrow: a registry that stays away is asked ever more seldom, once a minute at the least, and one answer ends that.
func TestPausesGrow(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	index := r.Push(repository, "dev-a1b2c3d")
	now := &clock{now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	client := newClient(t, r)
	client.SetClock(now.Now, time.Minute)
	r.Misbehave(refuse(head, manifests, 500, "UNKNOWN"))
	ask := func() time.Duration {
		t.Helper()
		before := now.Now()
		_, err := client.Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
		p := problem(t, err, registry.KindFailed)
		now.set(p.Until)
		return p.Until.Sub(before) - time.Second // the time is said in whole seconds, and never too early
	}
	var pauses []time.Duration
	for range 6 {
		pauses = append(pauses, ask())
	}
	if got, want := fmt.Sprint(pauses), "[5s 10s 20s 40s 1m0s 1m0s]"; got != want {
		t.Errorf("pauses %s, want %s", got, want)
	}
	r.Misbehave(nil)
	if got, err := client.Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d"); err != nil || got != index {
		t.Fatalf("%s, %v", got, err)
	}
	r.Misbehave(refuse(head, manifests, 500, "UNKNOWN"))
	if got := ask(); got != 5*time.Second {
		t.Errorf("after a good answer the pause is %s", got)
	}
}

// TestTokenIsFetchedAnewOnce: a token that has run out, between two promotions or in the middle of one, with the body of the
// PUT sent again.
func TestTokenIsFetchedAnewOnce(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
	index := r.Push(repository, "dev-a1b2c3d")
	client := newClient(t, r)
	if err := client.Tag(t.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: "first"}); err != nil {
		t.Fatal(err)
	}
	for name, expire := range map[string]func(){
		"between": r.ExpireTokens,
		"mid-way": func() {
			r.Misbehave(before(put, manifests, r.ExpireTokens))
		},
	} {
		given := r.Tokens()
		expire()
		if err := client.Tag(t.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: name}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := r.Tokens() - given; got != 1 {
			t.Errorf("%s: %d tokens were fetched, want 1", name, got)
		}
		if got := r.Digest(repository, name); got != index {
			t.Errorf("%s names %q, want %s", name, got, index)
		}
	}
}

// TestCredentials: wrong ones, none, and an authority that nobody vouches for are told as what they are, and no password is.
func TestCredentials(t *testing.T) {
	for _, auth := range []string{registrytest.Htpasswd, registrytest.Token} {
		r := registrytest.Start(t, registrytest.Options{Auth: auth, TLS: true})
		r.Push(repository, "dev-a1b2c3d")
		for name, c := range map[string]struct {
			config, ca []byte
			kind       registry.Kind
			says       string
		}{
			"good":          {r.DockerConfig(), r.CA(), "", ""},
			"wrong":         {registrytest.DockerConfig(r.Host, "ci", "canary-wrong"), r.CA(), registry.KindDenied, "401"},
			"none":          {nil, r.CA(), registry.KindDenied, "401"},
			"another's":     {registrytest.DockerConfig("elsewhere.example", "ci", registrytest.Password), r.CA(), registry.KindDenied, "401"},
			"no authority":  {r.DockerConfig(), nil, registry.KindFailed, "ca.crt"},
			"broken config": {[]byte("canary"), r.CA(), registry.KindUnusable, "config.json"},
			"broken ca.crt": {r.DockerConfig(), []byte("canary"), registry.KindUnusable, "ca.crt"},
		} {
			_, err := registry.NewPool(egress.Guard{Private: true}).Client(c.config, c.ca).Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
			if c.kind == "" {
				if err != nil {
					t.Errorf("%s, %s: %v", auth, name, err)
				}
				continue
			}
			if p := problem(t, err, c.kind); !strings.Contains(p.Error(), c.says) || strings.Contains(p.Error(), "canary") {
				t.Errorf("%s, %s: %q does not say %q", auth, name, p, c.says)
			}
		}
	}
}

// TestGuarded: a project cannot have the server connect to addresses that its operator did not allow: not by number or name,
// and neither by a registry's redirect nor by the token server that it names.
func TestGuarded(t *testing.T) {
	forbidden := elsewhere(t, "127.0.0.2:0")
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(repository, "dev-a1b2c3d")
	networks, err := egress.ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	port := forbidden[strings.LastIndex(forbidden, ":"):]
	for name, c := range map[string]struct {
		guard egress.Guard
		host  string
		fault registrytest.Fault
	}{
		"allowed":         {egress.Guard{Networks: networks}, r.Host, nil},
		"by number":       {egress.Guard{}, r.Host, nil},
		"by name":         {egress.Guard{}, "localhost" + r.Host[strings.LastIndex(r.Host, ":"):], nil},
		"other loopback":  {egress.Guard{Networks: networks}, "127.0.0.2" + port, nil},
		"link-local":      {egress.Guard{Private: true}, "169.254.169.254", nil},
		"redirect":        {egress.Guard{Networks: networks}, r.Host, redirecting(forbidden)},
		"of token server": {egress.Guard{Networks: networks}, r.Host, challenging(forbidden)}, // which the library refuses by itself
	} {
		r.Misbehave(c.fault)
		_, err := registry.NewPool(c.guard).Client(nil, nil).Resolve(t.Context(), c.host+"/"+repository+":dev-a1b2c3d")
		if name == "allowed" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		want := "--allow-private-addresses"
		if name == "of token server" {
			want = "private or link-local address"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// elsewhere is a server that nobody may reach.
func elsewhere(t *testing.T, address string) string {
	t.Helper()
	forbidden := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { t.Errorf("it was asked for %s", q.URL) }))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	forbidden.Listener.Close()
	forbidden.Listener = listener
	forbidden.Start()
	t.Cleanup(forbidden.Close)
	return forbidden.URL
}

// TestAttachIsGuarded: what goes through the library's own calls is guarded and refused like everything else.
func TestAttachIsGuarded(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Referrers: true})
	digest := r.Push(repository, "dev-a1b2c3d")
	a := registry.Artifact{Type: "application/vnd.sirrat.test.v1", Layers: []registry.ArtifactLayer{{MediaType: "text/plain", Data: []byte("x")}}}
	for name, c := range map[string]struct {
		guard      egress.Guard
		config, ca []byte
		says       string
	}{
		"an address that is not allowed":                     {egress.Guard{}, nil, nil, "--allow-private-addresses"},
		"a broken config":                                    {egress.Guard{Private: true}, []byte("canary"), nil, "config.json"},
		"a broken ca.crt":                                    {egress.Guard{Private: true}, nil, []byte("canary"), "ca.crt"},
		"a broken ca.crt and an address that is not allowed": {egress.Guard{}, nil, []byte("canary"), "ca.crt"},
	} {
		client := registry.NewPool(c.guard).Client(c.config, c.ca)
		r.Take()
		_, _, attach := client.Attach(t.Context(), r.Host+"/"+repository, digest, a)
		_, _, attached := client.Attached(t.Context(), r.Host+"/"+repository, digest, a.Type)
		for _, err := range []error{attach, attached} {
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if seen := r.Take(); len(seen) > 0 {
			t.Errorf("%s: %d requests arrived", name, len(seen))
		}
	}
}

// TestTokenServersAreNotQuoted: the library quotes the whole answer of a token server that has no token where it should be, which may
// be a secret under another name, and longer than a condition can be.
func TestTokenServersAreNotQuoted(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
	r.Push(repository, "dev-a1b2c3d")
	r.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path != "/token" {
			return false
		}
		fmt.Fprintf(w, `{"refresh_token":"canary","x":%q}`, strings.Repeat("x", 50<<10))
		return true
	})
	_, err := newClient(t, r).Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
	if p := problem(t, err, registry.KindFailed); strings.Contains(p.Error(), "canary") || len(p.Error()) > 500 || !strings.Contains(p.Error(), "no token") {
		t.Errorf("it says %.200q", p)
	}
}

// redirecting sends whoever asks for a manifest elsewhere.
func redirecting(to string) registrytest.Fault {
	return func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.Contains(q.URL.Path, "/manifests/") {
			return false
		}
		http.Redirect(w, q, to+q.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
}

// challenging asks for a token of a server elsewhere.
func challenging(realm string) registrytest.Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}
