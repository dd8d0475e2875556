// SPDX-License-Identifier: Apache-2.0

package gitlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Kind of what keeps GitLab from being told.
type Kind int

// Kinds.
const (
	None      Kind = iota
	Away           // not reached, or it fails
	Busy           // it asks to come back later
	Blocked        // the guard does not allow its address
	Denied         // the token is not known
	Forbidden      // the token may not do this one thing
	NoProject      // no such project, or the token does not see it
	NoCommit       // the commit is not there
	Refused        // it does not take what is said
)

// Error says what is wrong and what to do, in words that hold nothing of the answer, nor the address or the token.
type Error struct {
	Kind Kind
	// RetryAfter is how long GitLab asks to be left alone; 0 if it does not.
	RetryAfter time.Duration

	text       string
	fields     []string // that it refused
	transition bool
	cause      error // of the context, or nil
}

func (e *Error) Error() string { return "GitLab: " + e.text }
func (e *Error) Unwrap() error { return e.cause }

func asError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// KindOf is the kind of an error of this package's; None for nil, Away for any other.
func KindOf(err error) Kind {
	if err == nil {
		return None
	}
	if e, ok := asError(err); ok {
		return e.Kind
	}
	return Away
}

func isTransition(err error) bool {
	e, ok := asError(err)
	return ok && e.transition
}

// maxRetryAfter bounds how long GitLab is left alone because it says so.
const maxRetryAfter = time.Hour

var errNotGitLab = &Error{Kind: Away, text: "what answers is no GitLab: compare spec.gitlab.url"}

// errPlain keeps the token off the public internet without TLS.
var errPlain = errors.New("without TLS it would show the token to everybody on the way")

// refused says what an answer that is not 2xx means.
func refused(resp *http.Response, answer []byte) *Error {
	m, code := readMessage(answer), resp.StatusCode
	e := &Error{Kind: Refused, fields: m.fields}
	switch {
	case code == http.StatusUnauthorized:
		e.Kind, e.text = Denied, "it answers 401, the token is unknown, expired or revoked: put a new project access token with the scope api into the Secret of spec.gitlab.tokenSecretRef"
	case code == http.StatusForbidden:
		e.Kind, e.text = Forbidden, "it answers 403, the token may not do this: it needs the scope api and the role Developer; "+
			"where the branch or the environment is protected, Maintainer or to be allowed there"
	case code == http.StatusNotFound && strings.Contains(m.text, "Project"):
		e.Kind, e.text = NoProject, "it answers 404, there is no such project, or the token is another's: compare spec.gitlab.project and the project that the token was made in"
	case code == http.StatusNotFound, slices.Contains(m.fields, "sha"):
		e.Kind, e.text = NoCommit, "it does not have the commit: push it there, or compare spec.gitlab.project"
	case code == http.StatusTooManyRequests, code == http.StatusConflict:
		e.Kind, e.text = Busy, fmt.Sprintf("it answers %d: too many requests at a time", code)
	case code >= http.StatusInternalServerError, code == http.StatusRequestTimeout:
		e.Kind, e.text = Away, fmt.Sprintf("it answers %d", code)
	case code >= 300 && code < 400:
		e.Kind, e.text = Away, fmt.Sprintf("it answers %d, and redirects are not followed: give spec.gitlab.url the address that they lead to", code)
	case len(m.fields) > 0:
		e.text = fmt.Sprintf("it answers %d and refuses: %s", code, strings.Join(m.fields, ", "))
	default:
		e.text = fmt.Sprintf("it refuses the request with %d", code)
	}
	e.transition = code == http.StatusBadRequest && strings.Contains(strings.ToLower(m.text), "cannot transition")
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return e
}

// unreached keeps the kind of an error and drops its text: net/http's errors begin with the address, the resolver's name the host.
func unreached(ctx context.Context, err error) error {
	var (
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		number  syscall.Errno
		timeout interface{ Timeout() bool }
	)
	e := &Error{Kind: Away, text: "the connection fails"}
	switch {
	case ctx.Err() != nil:
		e.text, e.cause = "interrupted", ctx.Err()
	case errors.Is(err, egress.ErrBlocked):
		e.Kind, e.text = Blocked, egress.ErrBlocked.Error()+", unless its operator adds the network to --allow-private-addresses"
	case errors.Is(err, errPlain):
		e.Kind, e.text = Blocked, errPlain.Error()+": give spec.gitlab.url its https address"
	case errors.As(err, &timeout) && timeout.Timeout():
		e.text = "no answer in time"
	case errors.As(err, &name):
		e.text = "its host's name cannot be resolved"
	case errors.As(err, &cert):
		e.text = "its certificate cannot be verified: the server trusts what its system does (SSL_CERT_FILE for a CA of your own)"
	case errors.As(err, &record), errors.As(err, &alert):
		e.text = "no TLS connection can be made"
	case errors.As(err, &number):
		e.text = "the connection fails: " + number.Error()
	}
	return e
}

// RetryAfter is how long GitLab asks to be left alone; 0 if it does not.
func RetryAfter(err error) time.Duration {
	if e, ok := asError(err); ok {
		return e.RetryAfter
	}
	return 0
}
