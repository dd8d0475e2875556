// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/egress/egresstest"
)

// inside is a server on this machine that nothing may reach, at every spelling of its address.
func TestWebhooksDoNotReachInside(t *testing.T) {
	var reached atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	trusting := func(addresses ...string) *Webhooks {
		w := NewWebhooks(false)
		w.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		if len(addresses) > 0 {
			w.dialer.Resolver = egresstest.Resolver(t, addresses...)
		}
		return w
	}
	for _, c := range []struct {
		host      string
		addresses []string
	}{
		{"127.0.0.1", nil}, {"[::1]", nil}, {"[::ffff:127.0.0.1]", nil}, {"[::ffff:7f00:1]", nil}, {"0.0.0.0", nil}, {"[::]", nil}, {"localhost", nil},
		{"169.254.169.254", nil}, {"[fe80::1%25lo]", nil}, {"10.0.0.1", nil},
		{"2130706433", []string{"127.0.0.1"}}, {"0x7f000001", []string{"127.0.0.1"}}, {"0177.0.0.1", []string{"127.0.0.1"}}, {"127.1", []string{"127.0.0.1"}},
		{"hooks.example", []string{"127.0.0.1"}}, {"hooks.example", []string{"::1"}}, {"hooks.example", []string{"::ffff:127.0.0.1"}},
		{"hooks.example", []string{"169.254.169.254"}}, {"hooks.example", []string{"fd00:ec2::254"}},
	} {
		err := trusting(c.addresses...).Post(t.Context(), "https://"+c.host+":"+port+"/"+secret, []byte("{}"))
		// Some spellings of an address are no names to the resolver either.
		if err == nil || strings.Contains(err.Error(), secret) ||
			!strings.Contains(err.Error(), egress.ErrBlocked.Error()) && (strings.Trim(c.host, "0123456789.x") != "" || !strings.Contains(err.Error(), "cannot be resolved")) {
			t.Errorf("%s %v: %v", c.host, c.addresses, err)
		}
	}
	// A name that means another address each time it is asked for is judged each time, by what is connected to.
	rebinding := trusting("127.0.0.1", "127.0.0.2")
	for range 4 {
		if err := rebinding.Post(t.Context(), "https://hooks.example:"+port, nil); err == nil || !strings.Contains(err.Error(), egress.ErrBlocked.Error()) {
			t.Errorf("rebinding: %v", err)
		}
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests arrived", reached.Load())
	}
}

func TestWebhookArrives(t *testing.T) {
	var got atomic.Value
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body))
		w.WriteHeader(http.StatusAccepted)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	w := NewWebhooks(true)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	w.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
	for _, address := range []string{plain.URL + "/hooks/x?y=z", secure.URL + "/hooks/x?y=z\n"} {
		if err := w.Post(t.Context(), address, []byte(`{"text":"x"}`)); err != nil {
			t.Fatal(err)
		}
		if want := `POST /hooks/x?y=z application/json; charset=utf-8 {"text":"x"}`; got.Load() != want {
			t.Errorf("%v", got.Load())
		}
	}
	if err := NewWebhooks(false).Post(t.Context(), plain.URL, nil); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("plain http: %v", err)
	}
	if err := NewWebhooks(true).Post(t.Context(), secure.URL, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestWebhookRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inside" {
			reached.Add(1)
			return
		}
		http.Redirect(w, r, "/inside?"+secret, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	err := NewWebhooks(true).Post(t.Context(), server.URL, []byte("{}"))
	if err == nil || !strings.Contains(err.Error(), "307") || strings.Contains(err.Error(), secret) || reached.Load() != 0 {
		t.Errorf("%v, reached %d", err, reached.Load())
	}
}

func TestWebhookAnswers(t *testing.T) {
	code, header := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if header != "" {
			w.Header().Set("Retry-After", header)
		}
		w.WriteHeader(code)
		for range 1 << 10 { // an answer without end is not read to it
			if _, err := fmt.Fprint(w, strings.Repeat(secret, 100), r.URL); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	for _, c := range []struct {
		code      int
		header    string
		permanent bool
		pause     time.Duration
	}{
		{code: 400, permanent: true}, {code: 413, permanent: true}, {code: 422, permanent: true},
		{code: 401}, {code: 403}, {code: 404}, {code: 410}, {code: 500}, {code: 503},
		{code: 429, header: "30", pause: 30 * time.Second}, {code: 429, header: "99999999", pause: maxRetryAfter},
		{code: 429, header: "-1"}, {code: 429, header: "Fri, 31 Dec 1999 23:59:59 GMT"},
	} {
		code, header = c.code, c.header
		err := NewWebhooks(true).Post(t.Context(), server.URL+"/"+secret, nil)
		if err == nil || permanent(err) != c.permanent || askedPause(err) != c.pause || strings.Contains(err.Error(), secret) {
			t.Errorf("%d %s: %v, permanent %v, pause %v", c.code, c.header, err, permanent(err), askedPause(err))
		}
	}
}

// No error tells the address or a part of it, whatever goes wrong.
func TestWebhookErrorsTellNoAddress(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	noSuchName := NewWebhooks(true)
	noSuchName.dialer.Resolver = egresstest.Resolver(t)
	for _, address := range []string{
		closed.URL + "/" + secret, cut.URL + "/" + secret, "http://" + silent.Addr().String() + "/" + secret, "https://" + cut.Listener.Addr().String() + "/" + secret,
		"https://" + secret + ".example/", "https://user:" + secret + "@127.0.0.1:1/", "ftp://" + secret, secret, "", "https://" + secret + ":port/", "http://%zz" + secret,
		"http://" + secret + "\x7f/", "https:///" + secret, "http://127.0.0.1:0/" + secret,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := noSuchName.Post(ctx, address, nil)
		cancel()
		if err == nil {
			t.Errorf("%s: no error", address)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, secret) {
				t.Errorf("%s: %s", address, text)
			}
		}
		if e := new(url.Error); errors.As(err, &e) {
			t.Errorf("%s: wraps %T", address, e)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewWebhooks(true).Post(ctx, closed.URL, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
