// SPDX-License-Identifier: Apache-2.0

// Package deploytoken makes and deletes deploy tokens of a GitLab project by GitLab's REST API v4, as its documentation describes
// it (doc/api/deploy_tokens.md and doc/api/rest/_index.md as of GitLab 18). Answers are bounded, redirects are not followed, and
// no error quotes an answer: it could repeat what was sent.
//
// It imports the standard library and internal/egress only.
package deploytoken

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
)

const (
	callTimeout = 20 * time.Second
	maxAnswer   = 2 << 20 // bytes
	perPage     = 100     // the most that GitLab gives at once
	maxPages    = 50
)

// Kinds of failure. What is neither may be answered differently later.
var (
	// ErrDenied: the access token is not valid, or its owner may not do this.
	ErrDenied = errors.New("access denied")
	// ErrNotFound: there is no such project, or the owner of the token may not see it; or no such deploy token.
	ErrNotFound = errors.New("not found")
	// ErrRejected: what was asked for is not possible.
	ErrRejected = errors.New("rejected")
)

// Busy is an answer that asks to come back later.
type Busy struct {
	// After is how long GitLab asked to be left alone: Retry-After in seconds, as it sends it, or until a moment, as proxies do; 0 if
	// it did not say.
	After time.Duration
	text  string
}

// Error implements error.
func (b *Busy) Error() string { return b.text }

// maxAfter that is honoured: a GitLab that asks for more is asked again all the same.
const maxAfter = 15 * time.Minute

// API is that of one project, with an account that may use it.
type API struct {
	// URL of GitLab.
	URL string
	// Project is its path or its number.
	Project string
	// Token is an access token with scope api, whose owner is at least Maintainer.
	Token string
	// Transport reaches GitLab. Required.
	Transport http.RoundTripper
}

// Token is one, as the API shows it. Token is there in the answer to its creation alone.
type Token struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Username  string    `json:"username"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Revoked   bool      `json:"revoked"`
	Expired   bool      `json:"expired"`
	Scopes    []string  `json:"scopes"`
	Token     string    `json:"token,omitempty"`
}

// String shows no token.
func (t Token) String() string { return fmt.Sprintf("deploy token %s (%d)", t.Name, t.ID) }

// GoString shows no token.
func (t Token) GoString() string { return t.String() }

// ScopeReadRegistry lets a deploy token pull images and nothing else.
const ScopeReadRegistry = "read_registry"

// Create makes a deploy token that may pull images until expires, unless it is deleted earlier. GitLab takes the moment, in
// seconds, and goes by it whenever somebody logs in (lib/gitlab/auth.rb, scope active of app/models/deploy_token.rb); what it
// shows as expired goes by the day.
func (d API) Create(ctx context.Context, name string, expires time.Time) (Token, error) {
	var t Token
	in := map[string]any{"name": name, "expires_at": expires.UTC().Format(time.RFC3339), "scopes": []string{ScopeReadRegistry}}
	if _, err := d.call(ctx, http.MethodPost, "", in, &t, http.StatusCreated); err != nil {
		return Token{}, fmt.Errorf("create a deploy token of %s: %w", d.Project, err)
	}
	if t.ID == 0 || t.Username == "" || t.Token == "" {
		return Token{}, fmt.Errorf("create a deploy token of %s: the answer has no id, username or token", d.Project)
	}
	return t, nil
}

// List returns the deploy tokens whose names begin with prefix, and whether those are all of them.
func (d API) List(ctx context.Context, prefix string) (tokens []Token, complete bool, err error) {
	for page := 1; page <= maxPages; page++ {
		var list []Token
		header, err := d.call(ctx, http.MethodGet, "?per_page="+strconv.Itoa(perPage)+"&page="+strconv.Itoa(page), nil, &list, http.StatusOK)
		if err != nil {
			return nil, false, fmt.Errorf("list the deploy tokens of %s: %w", d.Project, err)
		}
		for _, t := range list {
			if strings.HasPrefix(t.Name, prefix) && !t.Revoked {
				tokens = append(tokens, t)
			}
		}
		if next, told := header["X-Next-Page"]; len(list) == 0 || told && next[0] == "" || !told && len(list) < perPage {
			return tokens, true, nil
		}
	}
	return tokens, false, nil
}

// Delete makes a deploy token worthless. One that is gone is no error.
func (d API) Delete(ctx context.Context, id int64) error {
	_, err := d.call(ctx, http.MethodDelete, "/"+strconv.FormatInt(id, 10), nil, nil, http.StatusNoContent)
	if errors.Is(err, ErrNotFound) {
		// A project that is not there answers the same: then nothing is proven.
		if _, err := d.call(ctx, http.MethodGet, "?per_page=1", nil, nil, http.StatusOK); err == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete deploy token %d of %s: %w", id, d.Project, err)
	}
	return nil
}

// call makes one request below …/deploy_tokens. in and out may be nil.
func (d API) call(ctx context.Context, method, rest string, in, out any, want int) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	at := strings.TrimRight(d.URL, "/") + "/api/v4/projects/" + url.PathEscape(d.Project) + "/deploy_tokens" + rest
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, errors.New("the address of GitLab cannot be used")
	}
	req.Header.Set("PRIVATE-TOKEN", d.Token)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: d.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return nil, unanswered(err)
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		return nil, answered(res)
	}
	if out == nil {
		return res.Header, nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if json.Unmarshal(text, out) != nil { // whose error would quote it
		return nil, errors.New("the answer is not what GitLab's documentation describes")
	}
	return res.Header, nil
}

// unanswered is the error of a request that had no answer, with what helps.
func unanswered(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address
	}
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return fmt.Errorf("GitLab cannot be asked: %w: whoever operates the server allows networks beyond the public internet with --allow-private-addresses", egress.ErrBlocked)
	case errors.As(err, &untrusted):
		return fmt.Errorf("GitLab's certificate is not trusted: %w. For a private authority put its certificate under ca.crt into the Secret with the token", untrusted.Err)
	}
	return fmt.Errorf("GitLab does not answer: %w", err)
}

// answered is the error for a status that was not hoped for.
func answered(res *http.Response) error {
	status := res.StatusCode
	text := fmt.Sprintf("GitLab answers %d %s", status, http.StatusText(status))
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%s: %w", text, ErrDenied)
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", text, ErrNotFound)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return &Busy{after(res.Header.Get("Retry-After")), text}
	case status >= 300 && status < 500:
		return fmt.Errorf("%s: %w", text, ErrRejected)
	}
	return errors.New(text)
}

// after reads a header Retry-After: seconds or a date (RFC 9110, 10.2.3). 0 when it is neither.
func after(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) { // then it is the greatest there is
		return min(time.Duration(seconds)*time.Second, maxAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), maxAfter)
	}
	return 0
}
