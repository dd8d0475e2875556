// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"
)

// way is how connections leave the server.
type way struct {
	// proxy of a request; nil for none.
	proxy func(*http.Request) (*url.URL, error)
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	// shown is the proxy without its password; "" for none.
	shown string
}

// via says through what a connection went, for people.
func (w way) via() string {
	if w.shown == "" {
		return ""
	}
	return " through the proxy " + w.shown
}

// chosenProxy is what was given, or else what the environment says.
func chosenProxy(proxy, noProxy string) (string, string) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := os.Getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	if proxy == "" {
		proxy = first("HTTPS_PROXY", "https_proxy")
	}
	if noProxy == "" && proxy != "" {
		noProxy = first("NO_PROXY", "no_proxy")
	}
	return proxy, noProxy
}

// wayOut prepares connections through a proxy (http, https or socks5), or directly when it is empty. Errors never quote the
// proxy, which may hold a password.
func wayOut(proxy, noProxy string) (way, error) {
	direct := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	w := way{dial: direct.DialContext, proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
	if proxy == "" {
		return w, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" {
		return way{}, errors.New("--proxy: use http://[USER:PASSWORD@]HOST:PORT")
	}
	w.shown = u.Redacted()
	switch u.Scheme {
	case "http", "socks5", "socks5h":
	case "https": // the transport would check the proxy's certificate by the control plane's CA: it is shown a plain one
		port := u.Port()
		if port == "" {
			port = "443"
		}
		address := net.JoinHostPort(u.Hostname(), port)
		u.Scheme, u.Host = "http", address
		secure := &tls.Dialer{NetDialer: direct, Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}}
		w.dial = func(ctx context.Context, network, to string) (net.Conn, error) {
			if to == address {
				return secure.DialContext(ctx, network, to)
			}
			return direct.DialContext(ctx, network, to)
		}
	default:
		return way{}, fmt.Errorf("--proxy: the scheme %q is none of http, https and socks5", u.Scheme)
	}
	choose := (&httpproxy.Config{HTTPSProxy: u.String(), HTTPProxy: u.String(), NoProxy: noProxy}).ProxyFunc()
	w.proxy = func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
	return w, nil
}
