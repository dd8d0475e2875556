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

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Bounds of a delivery to a webhook.
const (
	webhookTimeout = 30 * time.Second
	maxAnswerBody  = 4 << 10 // bytes read of an answer, for the connection's sake: nothing in it is used
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
// every project can then have the server post into its own network. networks it may connect to in any case.
func NewWebhooks(allowPrivate bool, networks ...netip.Prefix) *Webhooks {
	w := &Webhooks{allowPrivate: allowPrivate, dialer: egress.Guard{Private: allowPrivate, Networks: networks}.Dialer()}
	w.client = &http.Client{
		Timeout:       webhookTimeout,
		Transport:     egress.Transport(&w.dialer),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w
}

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
	case errors.Is(err, egress.ErrBlocked):
		return &webhookError{text: egress.ErrBlocked.Error()}
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
