// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// How often and how long a request is sent again before the command gives up.
const (
	maxTries    = 8
	maxPatience = 5 * time.Minute
	// maxTry bounds one try, waiting for a verdict included.
	maxTry = 4 * time.Minute
)

// sending is the body of a request, and where the files in it lie whose upload is told of.
type sending struct {
	contentType string
	body        []byte
	marks       []uploadMark
}

// insist sends a request again while the server is not reached, is busy (429) or fails (5xx), after the time that it asks for
// (Retry-After) or else after longer and longer pauses. It is for requests that may be sent twice.
func (s *session) insist(ctx context.Context, a *api, method, path string, what sending, into any) error {
	try := func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, maxTry)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(what.body))
		if err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		if what.contentType != "" {
			req.Header.Set("Content-Type", what.contentType)
		}
		if len(what.marks) > 0 {
			u := s.uploading(what.marks)
			defer u.end()
			req.Body = io.NopCloser(io.TeeReader(req.Body, u))
		}
		resp, err := s.do(a, req)
		if err != nil {
			return struct{}{}, err
		}
		defer resp.Body.Close()
		return struct{}{}, s.decode(a, resp.Body, into)
	}
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		done, err := try()
		if last = err; err == nil {
			return done, nil
		}
		return done, again(err)
	}, backoff.WithMaxTries(maxTries), backoff.WithMaxElapsedTime(maxPatience),
		backoff.WithNotify(func(_ error, pause time.Duration) { s.say("report.again", last, s.lang.Duration(pause)) }))
	if err == nil || ctx.Err() != nil {
		return err
	}
	return last
}

// again words an error for backoff: whether and when to try again.
func again(err error) error {
	var status *statusError
	var urlErr *url.Error
	var cut *cutOffError
	switch {
	case errors.As(err, &status) && (status.status == http.StatusTooManyRequests || status.status >= http.StatusInternalServerError):
		if status.retryAfter >= 0 {
			return &backoff.RetryAfterError{Duration: status.retryAfter}
		}
		return err
	case errors.As(err, &status):
		return backoff.Permanent(err)
	case errors.As(err, &urlErr), errors.As(err, &cut): // not reached, or cut off
		return err
	}
	return backoff.Permanent(err)
}

// statusError is an answer that is no success, as a cause.
type statusError struct {
	status     int
	retryAfter time.Duration // -1 when the server does not say
}

func (e *statusError) Error() string { return http.StatusText(e.status) }

// retryAfter reads the header of that name (RFC 9110, 10.2.3), -1 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return -1
}
