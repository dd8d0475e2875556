// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

var everything = New(func(string) bool { return true })

func hostOf(s *httptest.Server) string {
	return s.URL[strings.Index(s.URL, "://")+3:]
}

// TestInsecureRegistryWithTLS: a registry that the engine need not trust may speak TLS all the same, and then it is asked that
// way: the password is not sent in the open first.
func TestInsecureRegistryWithTLS(t *testing.T) {
	manifest := `{"layers":[]}`
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, manifest)
	}))
	defer server.Close()
	if err := everything.Probe(t.Context(), hostOf(server)+"/app@"+digest(manifest), Auth{Username: "ci", Password: "s3cret"}); err != nil {
		t.Error(err)
	}
}

// TestPasswordsStayWithTheirServer: whoever is redirected to gets no password and no token, and nothing that was asked with TLS is
// asked without it.
func TestPasswordsStayWithTheirServer(t *testing.T) {
	manifest := `{"layers":[]}`
	var told atomic.Value
	storage := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told.Store(r.Header.Get("Authorization") + r.FormValue("refresh_token"))
		fmt.Fprint(w, manifest)
	})
	plain, secure := httptest.NewServer(storage), httptest.NewTLSServer(storage)
	defer plain.Close()
	defer secure.Close()
	for name, c := range map[string]struct {
		to, challenge string
		auth          Auth
		reached       bool
	}{
		"a blob store on another port":             {secure.URL, `Basic realm="r"`, Auth{Username: "ci", Password: "s3cret"}, true},
		"one without TLS":                          {plain.URL, `Basic realm="r"`, Auth{Username: "ci", Password: "s3cret"}, false},
		"another token server":                     {secure.URL, "", Auth{Username: "ci", Password: "s3cret"}, true},
		"another token server for a refresh token": {secure.URL, "", Auth{IdentityToken: "s3cret"}, false},
		"a token server without TLS":               {plain.URL, "", Auth{Username: "ci", Password: "s3cret"}, false},
		"one without TLS for a refresh token":      {plain.URL, "", Auth{IdentityToken: "s3cret"}, false},
	} {
		told.Store("nobody came")
		var registry *httptest.Server
		registry = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token", r.Header.Get("Authorization") != "":
				http.Redirect(w, r, c.to+r.URL.Path, http.StatusTemporaryRedirect)
			default:
				w.Header().Set("WWW-Authenticate", c.challenge)
				if c.challenge == "" {
					w.Header().Set("WWW-Authenticate", `Bearer realm="`+registry.URL+`/token"`)
				}
				w.WriteHeader(http.StatusUnauthorized)
			}
		}))
		err := everything.Probe(t.Context(), hostOf(registry)+"/app@"+digest(manifest), c.auth)
		registry.Close()
		switch got := told.Load(); {
		case c.reached && got != "", !c.reached && got != "nobody came":
			t.Errorf("%s: it was told %q (%v)", name, got, err)
		}
	}
}

// TestTokenServerIsTrustedForItself: that the registry's certificate need not be trusted says nothing about another host.
func TestTokenServerIsTrustedForItself(t *testing.T) {
	tokens := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("it was told %s", r.Header.Get("Authorization"))
	}))
	defer tokens.Close()
	at, err := url.Parse(tokens.URL)
	if err != nil {
		t.Fatal(err)
	}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://localhost:`+at.Port()+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer registry.Close()
	client := New(func(host string) bool { return host == hostOf(registry) })
	err = client.Probe(t.Context(), hostOf(registry)+"/app@"+digest("x"), Auth{Username: "ci", Password: "s3cret"})
	var status *StatusError
	if err == nil || errors.As(err, &status) {
		t.Errorf("got %v", err)
	}
}

// TestNoPasswordAfterTheConnectionEnds: what was to be proven with TLS is not proven without it when that breaks off.
func TestNoPasswordAfterTheConnectionEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Value
	told.Store("")
	both := &sniffer{Listener: listener, plain: make(chan net.Conn), secure: make(chan net.Conn)}
	open := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told.Store(r.Header.Get("Authorization"))
	}))
	closed := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	open.Listener.Close()
	closed.Listener.Close()
	open.Listener, closed.Listener = side{both, both.plain}, side{both, both.secure}
	open.Start()
	closed.StartTLS()
	go both.sort()
	defer open.CloseClientConnections()
	defer closed.CloseClientConnections()
	defer listener.Close()
	err = everything.Probe(t.Context(), listener.Addr().String()+"/app@"+digest("x"), Auth{Username: "ci", Password: "s3cret"})
	if got := told.Load(); err == nil || got != "" {
		t.Errorf("without TLS it was told %q (%v)", got, err)
	}
}

// sniffer tells TLS from plain HTTP by the first byte.
type sniffer struct {
	net.Listener
	plain, secure chan net.Conn
}

func (s *sniffer) sort() {
	for {
		conn, err := s.Accept()
		if err != nil {
			close(s.plain)
			close(s.secure)
			return
		}
		peeked := peeked{conn, bufio.NewReader(conn)}
		if first, err := peeked.reader.Peek(1); err == nil && first[0] == 0x16 {
			s.secure <- peeked
		} else {
			s.plain <- peeked
		}
	}
}

type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

// side is a listener for what a sniffer sorted.
type side struct {
	*sniffer
	from chan net.Conn
}

func (s side) Accept() (net.Conn, error) {
	conn, ok := <-s.from
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
