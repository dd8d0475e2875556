// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Kind of a Problem.
type Kind string

// Kinds of problems.
const (
	// KindNotFound: Harbor has no such project, repository, artifact or policy, or the account may not see it.
	KindNotFound Kind = "NotFound"
	// KindDenied: Harbor refuses the account.
	KindDenied Kind = "Denied"
	// KindBusy: Harbor asks to come back later.
	KindBusy Kind = "Busy"
	// KindConflict: what was asked for is there or under way already.
	KindConflict Kind = "Conflict"
	// KindRefused: Harbor understood and will not do it.
	KindRefused Kind = "Refused"
	// KindUnreadable: the answer is too large, of another form, or about something else.
	KindUnreadable Kind = "Unreadable"
	// KindBlocked: the address is one that the server may not connect to.
	KindBlocked Kind = "Blocked"
	// KindFailed: Harbor does not answer, or with an error of its own.
	KindFailed Kind = "Failed"
)

// maxRetryAfter that is honoured: a Harbor that asks for more is asked again all the same.
const maxRetryAfter = 15 * time.Minute

// Problem is why Harbor could not be used, in words for people. It never holds a password.
type Problem struct {
	Kind Kind
	// Doing is what was being done; Text what happened and what to do about it.
	Doing, Text string
	// Status is that of Harbor's answer; 0 if there was none.
	Status int
	// Until is before when Harbor asked not to be asked again; zero if it did not say.
	Until time.Time
	cause error
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Doing == "" {
		return p.Text
	}
	return p.Doing + ": " + p.Text
}

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.cause }

// IsKind says whether err is a Problem of that kind.
func IsKind(err error, kind Kind) bool {
	var p *Problem
	return errors.As(err, &p) && p.Kind == kind
}

// answered is the problem that an answer without success is.
func (c *Client) answered(r call, response *http.Response, body []byte) *Problem {
	p := &Problem{Kind: KindFailed, Doing: r.doing, Status: response.StatusCode}
	say := func(kind Kind, format string, args ...any) {
		p.Kind, p.Text = kind, fmt.Sprintf(format, args...)
	}
	heard := fmt.Sprintf("(%d%s)", response.StatusCode, c.said(body))
	switch code := response.StatusCode; {
	case code >= 300 && code < 400:
		say(KindFailed, "Harbor sends elsewhere (%d), where its account must not follow: give the address that it redirects to", code)
	case code == http.StatusUnauthorized:
		say(KindDenied, "Harbor does not know the account, or its password is wrong or expired %s", heard)
	case code == http.StatusForbidden:
		say(KindDenied, "the account may not do this in Harbor %s: give the robot account the permission", heard)
	case code == http.StatusNotFound:
		say(KindNotFound, "Harbor has no such thing, or the account may not see it %s", heard)
	case code == http.StatusConflict:
		say(KindConflict, "Harbor says that it is there or under way already %s", heard)
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		say(KindBusy, "Harbor asks to come back later %s", heard)
		p.Until = c.retryAfter(response.Header)
	case code < 500:
		say(KindRefused, "Harbor refuses %s", heard)
	default:
		say(KindFailed, "Harbor answers with an error %s", heard)
		p.Until = c.retryAfter(response.Header)
	}
	return p
}

// hush takes the password out of a text, as it was sent and as it stands in a header: whatever answers may repeat it.
func (a Account) hush(text string) string {
	basic := base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	return strings.NewReplacer(basic, "…", a.Password, "…").Replace(text)
}

// unanswered is the error of a request that had no answer: ctx's own when whoever asked does not want to know any more.
func (c *Client) unanswered(ctx context.Context, r call, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", r.doing, ctx.Err())
	}
	p := &Problem{Kind: KindFailed, Doing: r.doing, cause: err}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address
	}
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		p.Text = fmt.Sprintf("Harbor did not answer in full within %s", c.timeout)
	case errors.Is(err, egress.ErrBlocked):
		p.Kind, p.Text = KindBlocked, egress.ErrBlocked.Error()+": whoever operates the server allows networks beyond the public internet with --allow-private-addresses"
	case errors.As(err, &untrusted):
		p.Text = fmt.Sprintf("Harbor's certificate is not trusted: %v. For a private authority put its certificate under ca.crt into the Secret of spec.registrySecretRef of the Project", untrusted.Err)
	default:
		p.Text = "Harbor does not answer: " + err.Error()
	}
	p.Text = c.account.hush(p.Text)
	return p
}

// maxSaid bounds what is repeated of Harbor's own words, in bytes.
const maxSaid = 200

// said is what Harbor said about an error ({"errors": [{"code", "message"}]}), to be put behind its code; "" when it said
// nothing that can be repeated.
func (c *Client) said(body []byte) string {
	var answer struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, c.account.hush(strings.TrimSpace(answer.Errors[0].Code+" "+answer.Errors[0].Message))) // before it is cut: half a password is one too
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	if text == "" {
		return ""
	}
	return ", " + text
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, 10.2.3). Zero when there is none that can be read.
func (c *Client) retryAfter(h http.Header) time.Time {
	now, value := c.now(), h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) { // then it is the greatest there is
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	} else {
		return time.Time{}
	}
	return now.Add(min(max(wait, time.Second), maxRetryAfter))
}
