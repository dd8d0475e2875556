// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Kind of a Problem.
type Kind string

// Kinds of problems.
const (
	// KindNotFound: there is no such tag, digest or repository.
	KindNotFound Kind = "NotFound"
	// KindTaken: the tag names another digest and may not be moved.
	KindTaken Kind = "Taken"
	// KindImmutable: the registry itself lets nobody write the tag.
	KindImmutable Kind = "Immutable"
	// KindDenied: the registry refuses the account.
	KindDenied Kind = "Denied"
	// KindBusy: the registry asks to come back later.
	KindBusy Kind = "Busy"
	// KindFull: the registry has no room to write.
	KindFull Kind = "Full"
	// KindMismatch: the registry serves or stored other bytes than a digest names.
	KindMismatch Kind = "Mismatch"
	// KindUnfit: the image is made of what cannot be copied or pulled by its digest.
	KindUnfit Kind = "Unfit"
	// KindFailed: the registry does not answer, or not as it should.
	KindFailed Kind = "Failed"
	// KindUnusable: the project's registry Secret cannot be used.
	KindUnusable Kind = "Unusable"
)

// Pauses between two tries.
const (
	// mendPause comes after what people must mend.
	mendPause = time.Minute
	// firstPause comes after the first failure in a row; each further one doubles it, up to lastPause.
	firstPause, lastPause = 5 * time.Second, time.Minute
	// maxRetryAfter that is honoured: a registry that asks for more is asked again all the same.
	maxRetryAfter = 15 * time.Minute
)

// ErrNotFound says that the registry answered that there is no such tag, digest or repository.
var ErrNotFound = errors.New("not in the registry")

// Problem is why a registry could not be used, in words for people.
type Problem struct {
	Kind Kind
	// Doing is what was being done, with the image's name; Text what happened and what to do about it.
	Doing, Text string
	// Until is when it is worth trying again; nothing is sent before. Zero: whenever the caller likes.
	Until time.Time
	cause error
}

// Error implements error.
func (p *Problem) Error() string {
	text := p.Text
	if p.Doing != "" {
		text = p.Doing + ": " + text
	}
	if p.Until.IsZero() {
		return text
	}
	return text + "; it is tried again by itself at " + p.Until.UTC().Format("15:04:05") + " UTC"
}

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.cause }

// transient says that the registry as a whole is in trouble, so that no other call is worth its while either.
func (p *Problem) transient() bool {
	return p.Kind == KindBusy || p.Kind == KindFull || p.Kind == KindFailed
}

// answered is the problem that an answer without success is. retryAfter is what the registry asks for; 0 if it does not.
func answered(r request, t *transport.Error) *Problem {
	p := &Problem{Kind: KindFailed, Doing: r.doing, cause: t}
	who := "the registry"
	if t.Request != nil && t.Request.URL.Host != "" && t.Request.URL.Host != r.repo.RegistryStr() {
		who = "the token server " + t.Request.URL.Host
	}
	switch code := t.StatusCode; {
	case code == http.StatusNotFound && who == "the registry":
		p.Kind, p.Text, p.cause = KindNotFound, ErrNotFound.Error(), ErrNotFound
	case isFull(code, said(t)):
		p.Kind, p.Text = KindFull, fmt.Sprintf("%s is out of room (%d%s): make room on its disk or raise its quota", who, code, said(t))
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		p.Kind, p.Text = KindDenied, fmt.Sprintf("%s refuses access (%d%s): check %s", who, code, said(t), ProjectAccount)
	case code == http.StatusTooManyRequests:
		p.Kind, p.Text = KindBusy, fmt.Sprintf("%s has had too many requests (429%s)", who, said(t))
	case code == http.StatusInternalServerError && r.method == http.MethodPut:
		p.Text = fmt.Sprintf("%s answered %d%s and did not store it: a full disk answers so too, its log says more", who, code, said(t))
	case code == http.StatusServiceUnavailable:
		p.Kind, p.Text = KindBusy, fmt.Sprintf("%s is unavailable (503%s)", who, said(t))
	default:
		p.Text = fmt.Sprintf("%s answered %d%s", who, code, said(t))
	}
	return p
}

// isFull says that an answer means a full disk or a quota that is used up. Harbor answers 403 with "adding … of storage
// resource, which when updated to current usage of … will exceed the configured upper limit of …" (read: the event
// QUOTA_EXCEED in goharbor/website, and the tests of goharbor/harbor, 2.x).
func isFull(code int, said string) bool {
	said = strings.ToLower(said)
	return code == http.StatusInsufficientStorage || code >= 500 && strings.Contains(said, "no space left") ||
		code == http.StatusForbidden && (strings.Contains(said, "exceed the configured upper limit") || strings.Contains(said, "quota"))
}

// maxSaid bounds what is repeated of a registry's own words, in bytes.
const maxSaid = 200

// said is what a registry said about its answer, to be put behind its code; "" when it said nothing.
func said(t *transport.Error) string {
	for _, e := range t.Errors {
		if text := printable(string(e.Code)+" "+e.Message, maxSaid); text != "" {
			return ", " + text
		}
	}
	return ""
}

// maxCause bounds the text of an error that is not our own, in bytes.
const maxCause = 400

// inBrief is the first line of an error's text: behind it the library quotes what it was answered, a token server's secrets among it.
func inBrief(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(printable(first, maxCause), ":")
}

// printable is a text without what could not be shown, cut to so many bytes.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.TrimSpace(text)
}

// underCA begins what to do about the certificate of a private authority; the account's name follows.
const underCA = "For a private authority put its certificate under ca.crt into the Secret of "

// unanswered is the problem of a call that had no answer.
func unanswered(r request, err error, timeout time.Duration) *Problem {
	p := &Problem{Kind: KindFailed, Doing: r.doing, cause: err}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address, which is said already
	}
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		p.Text = fmt.Sprintf("the registry did not answer in full within %s", timeout)
	case errors.Is(err, errStalled):
		p.Text = fmt.Sprintf("nothing of it moved for %s", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		p.Text = "the registry ended the connection in the middle"
	case errors.Is(err, errInTheOpen):
		p.Kind, p.Text = KindUnusable, errInTheOpen.Error()
	case errors.Is(err, egress.ErrBlocked):
		p.Kind, p.Text = KindUnusable, egress.ErrBlocked.Error()+": whoever operates the server allows networks beyond the public internet with --allow-private-addresses"
	case errors.As(err, &untrusted):
		p.Text = fmt.Sprintf("the certificate is not trusted: %v. %s", untrusted.Err, underCA+ProjectAccount)
	default:
		p.Text = inBrief(ownEnd.ReplaceAllString(err.Error(), ""))
	}
	return p
}

// ownEnd is our own end of a connection in the text of an error: with its port, which is another one at each try, conditions would
// change each time as well.
var ownEnd = regexp.MustCompile(`[^ ]+:[0-9]+->`)

// retryAfter reads the header of that name: seconds or a date (RFC 9110, 10.2.3). 0 when there is none that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) { // then it is the greatest there is
		return bounded(time.Duration(seconds) * time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return bounded(at.Sub(now))
	}
	return 0
}

// bounded keeps a wait that a registry asks for within reason.
func bounded(d time.Duration) time.Duration {
	return min(max(d, time.Second), maxRetryAfter)
}
