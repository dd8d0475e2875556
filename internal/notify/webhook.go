// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of a delivery to a webhook.
const (
	webhookTimeout = 30 * time.Second
	maxAnswerBody  = 4 << 10  // bytes read of an answer, for the connection's sake: nothing in it is used
	maxHeaders     = 16 << 10 // bytes
	maxRetryAfter  = time.Hour
)

// Webhooks posts to addresses that members of projects chose. It is safe for concurrent use.
type Webhooks struct {
	allowPrivate bool
	dialer       net.Dialer
	client       *http.Client
}

// NewWebhooks returns a client that follows no redirect, knows no proxy, and connects to public addresses only, by https.
// allowPrivate also lets it use http, and connect to loopback and private addresses, for a chat on premises: members of
// every project can then have the server post into its own network.
func NewWebhooks(allowPrivate bool) *Webhooks {
	w := &Webhooks{allowPrivate: allowPrivate}
	w.dialer = net.Dialer{Timeout: 10 * time.Second, Control: w.control}
	w.client = &http.Client{
		Timeout: webhookTimeout,
		Transport: &http.Transport{
			// No proxy: it would connect in the place of the dialer, to whatever it likes.
			Proxy: nil,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return w.dialer.DialContext(ctx, network, addr)
			},
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: maxHeaders,
			DisableKeepAlives:      true, // there is a message now and then
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w
}

// control is called with the very address that is connected to, after names were resolved: what a name means cannot change
// between the check and the connection.
func (w *Webhooks) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !allowed(to.Addr(), w.allowPrivate) {
		return errBlocked
	}
	return nil
}

// metadata are addresses of cloud providers' own services outside the ranges below.
var metadata = prefixes("168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::/64")

// special are the blocks that are not the public internet's, beyond those that netip knows (IANA's IPv4 and IPv6
// special-purpose registries), or that hold an IPv4 address in which a private one could be hidden.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// allowed says whether a webhook may lead to an address. Link-local, multicast and metadata addresses it never may.
func allowed(ip netip.Addr, private bool) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || within(ip, metadata) {
		return false
	}
	if ip.IsLoopback() || ip.IsPrivate() {
		return private
	}
	return !within(ip, special) && ip.IsGlobalUnicast()
}

func within(ip netip.Addr, blocks []netip.Prefix) bool {
	for _, b := range blocks {
		if b.Contains(ip) {
			return true
		}
	}
	return false
}

// errBlocked does not say which address it was: it would tell what names mean inside.
var errBlocked = errors.New("it leads to an address that webhooks may not reach")

// webhookError is a failure to post. Its text never holds the address, which is a secret.
type webhookError struct {
	text       string
	permanent  bool
	retryAfter time.Duration
	cause      error // of the context, or nil
}

func (e *webhookError) Error() string { return "webhook: " + e.text }
func (e *webhookError) Unwrap() error { return e.cause }

// Permanent says that the receiver will never take this body.
func (e *webhookError) Permanent() bool { return e.permanent }

// RetryAfter is how long the receiver asks to be left alone; 0 if it does not.
func (e *webhookError) RetryAfter() time.Duration { return e.retryAfter }

// Post returns nil once the receiver answered with 2xx. address is a secret: no error tells it, nor any part of it.
func (w *Webhooks) Post(ctx context.Context, address string, body []byte) error {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return &webhookError{text: "its address is not a URL"}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !w.allowPrivate) {
		return &webhookError{text: "its address does not begin with https://"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return &webhookError{text: "its address is not a URL"}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "SIRRAT")
	resp, err := w.client.Do(req)
	if err != nil {
		return scrub(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswerBody)
	return statusError(resp)
}

func statusError(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return &webhookError{text: fmt.Sprintf("it answers %d, and redirects are not followed", code)}
	default:
		// Other codes may heal: the address is put right, the receiver is up again.
		permanent := code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnprocessableEntity
		return &webhookError{text: fmt.Sprintf("it answers %d", code), permanent: permanent, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	}
}

func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(header, 10, 31)
	if err != nil { // a date, or nothing: the usual pause will do
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// scrub keeps the kind of an error and drops its text: net/http's errors begin with the URL, the resolver's name the host.
func scrub(err error) error {
	var (
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		number  syscall.Errno
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, context.Canceled):
		return &webhookError{text: "cancelled", cause: context.Canceled}
	case errors.Is(err, errBlocked):
		return &webhookError{text: errBlocked.Error()}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &webhookError{text: "no answer in time"}
	case errors.As(err, &name):
		return &webhookError{text: "its host's name cannot be resolved"}
	case errors.As(err, &cert):
		return &webhookError{text: "its certificate cannot be verified"}
	case errors.As(err, &record), errors.As(err, &alert):
		return &webhookError{text: "no TLS connection can be made"}
	case errors.As(err, &number):
		return &webhookError{text: "the connection fails: " + number.Error()}
	}
	return &webhookError{text: "the connection fails"}
}
