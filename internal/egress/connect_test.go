// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/egress/egresstest"
)

// inside are servers of this machine, on one port: at 127.0.0.1, which an operator may open, and at 127.0.0.2, which nobody has.
type inside struct {
	port            string
	open, forbidden atomic.Int64
	redirect        atomic.Value // where the open one sends whoever asks; "" for nowhere
}

func newInside(t *testing.T) *inside {
	t.Helper()
	s := &inside{}
	s.redirect.Store("")
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.open.Add(1)
		if to := s.redirect.Load().(string); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	t.Cleanup(open.Close)
	_, s.port, _ = net.SplitHostPort(open.Listener.Addr().String())
	listener, err := net.Listen("tcp", "127.0.0.2:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	forbidden := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.forbidden.Add(1) })}
	go func() { _ = forbidden.Serve(listener) }()
	t.Cleanup(func() { _ = forbidden.Close() })
	return s
}

// client connects as every guarded client does. The addresses are what every name means, in turn.
func client(t *testing.T, guard egress.Guard, addresses ...string) *http.Client {
	t.Helper()
	dialer := guard.Dialer()
	if len(addresses) > 0 {
		dialer.Resolver = egresstest.Resolver(t, addresses...)
	}
	transport := egress.Transport(&dialer)
	if transport.Proxy != nil {
		t.Fatal("a proxy would connect in the place of the dialer")
	}
	return &http.Client{Transport: transport}
}

func get(c *http.Client, address string) error {
	answer, err := c.Get(address)
	if err == nil {
		err = answer.Body.Close()
	}
	return err
}

// hosts are ways to write, to name, or to hide an address inside. Of some, which are numbers, a resolver may say that they are no names.
var hosts = []struct {
	host, means string
	number      bool
}{
	{"127.0.0.2", "", false}, {"127.8.8.8", "", false}, {"[::1]", "", false}, {"[::ffff:127.0.0.2]", "", false},
	{"[::ffff:7f00:2]", "", false}, {"[::127.0.0.2]", "", false}, {"0.0.0.0", "", false}, {"[::]", "", false}, {"169.254.169.254", "", false},
	{"[::ffff:169.254.169.254]", "", false}, {"[fe80::1]", "", false}, {"[fe80::1%25lo]", "", false}, {"10.0.0.1", "", false}, {"172.16.0.1", "", false},
	{"192.168.1.1", "", false}, {"[fd00::1]", "", false}, {"[fd00:ec2::254]", "", false}, {"168.63.129.16", "", false}, {"100.100.100.200", "", false},
	{"100.64.0.1", "", false}, {"[64:ff9b::7f00:2]", "", false}, {"[64:ff9b::a9fe:a9fe]", "", false}, {"[64:ff9b:1::a00:1]", "", false},
	{"[2002:7f00:2::]", "", false}, {"224.0.0.1", "", false}, {"255.255.255.255", "", false},
	{"2130706434", "127.0.0.2", true}, {"0x7f000002", "127.0.0.2", true}, {"017700000002", "127.0.0.2", true}, {"0177.0.0.2", "127.0.0.2", true},
	{"0x7f.0.0.2", "127.0.0.2", true}, {"127.2", "127.0.0.2", true},
	{"name.example", "127.0.0.2", false}, {"name.example", "::1", false}, {"name.example", "::ffff:127.0.0.2", false}, {"name.example", "0.0.0.0", false},
	{"name.example", "169.254.169.254", false}, {"name.example", "fe80::1", false}, {"name.example", "10.0.0.1", false}, {"name.example", "fd00::1", false},
	{"name.example", "64:ff9b::a9fe:a9fe", false},
}

// Whichever way an address inside is written, it is not connected to, asked for at once or after a redirect.
func TestNothingInsideIsReached(t *testing.T) {
	s := newInside(t)
	open := egress.Guard{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	redirects := 0
	for _, h := range hosts {
		means := []string{}
		if h.means != "" {
			means = append(means, h.means)
		}
		refused := func(how string, err error) {
			t.Helper()
			var unknown *net.DNSError
			if !errors.Is(err, egress.ErrBlocked) && (!h.number || !errors.As(err, &unknown)) {
				t.Errorf("%s %s %s: %v", how, h.host, h.means, err)
			}
		}
		s.redirect.Store("")
		refused("at once", get(client(t, egress.Guard{}, means...), "http://"+h.host+":"+s.port+"/"))
		refused("where 127.0.0.1 is open", get(client(t, open, means...), "http://"+h.host+":"+s.port+"/"))
		s.redirect.Store("http://" + h.host + ":" + s.port + "/")
		refused("by a redirect", get(client(t, open, means...), "http://127.0.0.1:"+s.port+"/"))
		redirects++
	}
	if err := get(client(t, egress.Guard{}), "http://localhost:"+s.port+"/"); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("localhost: %v", err)
	}
	if s.forbidden.Load() != 0 || s.open.Load() != int64(redirects) {
		t.Errorf("%d requests arrived where none may, and %d of %d where they may", s.forbidden.Load(), s.open.Load(), redirects)
	}
}

// Where the operator opens addresses, they are reached; what no flag opens is not.
func TestWhatIsOpenedIsReached(t *testing.T) {
	s := newInside(t)
	for _, address := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "127.0.0.2"} {
		if err := get(client(t, egress.Guard{Private: true}), "http://"+address+":"+s.port); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if s.open.Load() != 2 || s.forbidden.Load() != 1 {
		t.Errorf("%d and %d requests arrived", s.open.Load(), s.forbidden.Load())
	}
	for _, h := range []string{"169.254.169.254", "[fe80::1%25lo]", "168.63.129.16", "[fd00:ec2::254]", "0.0.0.0", "[64:ff9b::7f00:1]"} {
		if err := get(client(t, egress.Guard{Private: true}), "http://"+h+":"+s.port); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: %v", h, err)
		}
	}
}

// A name that means an allowed address when it is looked up first, and another one then, is judged by what is connected to.
func TestRebinding(t *testing.T) {
	s := newInside(t)
	c := client(t, egress.Guard{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, "127.0.0.1", "127.0.0.2")
	reached, refused := 0, 0
	for range 12 {
		switch err := get(c, "http://rebind.example:"+s.port); {
		case err == nil:
			reached++
		case errors.Is(err, egress.ErrBlocked):
			refused++
		default:
			t.Error(err)
		}
	}
	if reached == 0 || refused == 0 || s.forbidden.Load() != 0 || s.open.Load() != int64(reached) {
		t.Errorf("%d reached, %d refused; %d arrived at the one, %d at the other", reached, refused, s.open.Load(), s.forbidden.Load())
	}
}
