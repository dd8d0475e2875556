// SPDX-License-Identifier: Apache-2.0

// Package harbor asks a Harbor registry for what the OCI distribution API does not know: what its scanner found in an image,
// how much room a project has left, and whether an image has reached another registry.
//
// It speaks Harbor's API v2.0 as a robot account, with basic authentication, and over https only, since every request carries
// the password. Read: goharbor/harbor api/v2.0/swagger.yaml at 00184b0 and, newer than 2.12, as mirrored by
// container-registry/harbor_upstream at 09b35b3; what is used of it is alike in both. Every answer is bounded in size and
// time, is read strictly, and is never trusted to be about what was asked: an answer about another digest is a Problem.
//
// The caller gives the transport, which decides what may be connected to and which authorities are trusted; the client adds
// no connection of its own, follows no redirect and keeps no cookie.
//
// It imports the standard library and internal/egress only.
package harbor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// apiBase is what every path is below.
	apiBase = "/api/v2.0"
	// callTimeout bounds one request with its answer.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer, in bytes, where a call does not set its own limit.
	maxAnswer = 1 << 20
	// maxRefusal bounds what is read of an answer that is an error.
	maxRefusal = 16 << 10
	// userAgent is what Harbor sees in its logs.
	userAgent = "sirrat"
)

// Account is who asks. Harbor shows a robot account's name in full, prefix included: robot$shop+scans.
type Account struct{ Username, Password string }

// Client asks one Harbor as one account. Safe for concurrent use.
type Client struct {
	base    string // scheme, host and path, without a slash at the end
	account Account
	http    *http.Client
	now     func() time.Time
	timeout time.Duration
}

// New makes a client of the Harbor at address ("https://harbor.example.com"; a path is where a proxy put it). transport
// connects: give it one that is guarded (egress.Transport) and that trusts the authority that Harbor's certificate is of.
func New(address string, account Account, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Host == "", u.Opaque != "":
		return nil, errors.New("the address of Harbor is no URL like https://harbor.example.com") // it may hold a password
	case u.Scheme != "https":
		return nil, errors.New("the address of Harbor must begin with https://: every request carries the account's password")
	case u.User != nil:
		return nil, errors.New("the address of Harbor must hold no user name and password: they belong into a Secret")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the address of Harbor must have neither query nor fragment")
	case account.Username == "" || account.Password == "":
		return nil, errors.New("an account (username and password) is needed to ask Harbor")
	case transport == nil:
		return nil, errors.New("a transport is needed to ask Harbor")
	}
	return &Client{
		base:    "https://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"),
		account: account,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the password is for this address and no other
		}},
		now:     time.Now,
		timeout: callTimeout,
	}, nil
}

// call is one request to the API.
type call struct {
	// doing is for people: "read the scan of registry.example/shop/api@sha256:…".
	doing string
	// method, and path below /api/v2.0, escaped: see segment.
	method, path string
	query        url.Values
	header       map[string]string
	// in is sent as JSON; nil sends no body.
	in any
	// out takes the answer's JSON; a *[]byte takes the answer as it is, once it was seen to be JSON; nil drops it.
	out any
	// limit of the answer in bytes; 0 is maxAnswer.
	limit int64
}

// do sends one request. Its error is a *Problem unless ctx ended. The header of the answer has what the body does not: the
// total of a list (X-Total-Count), the address of what was created (Location).
func (c *Client) do(ctx context.Context, r call) (http.Header, error) {
	bound, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(bound, r)
	if err != nil {
		return nil, &Problem{Kind: KindFailed, Doing: r.doing, Text: err.Error(), cause: err}
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, c.unanswered(ctx, r, err)
	}
	defer func() { _ = response.Body.Close() }() // it was read, or is not wanted
	if response.StatusCode < 200 || response.StatusCode > 299 {
		said, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal)) // what cannot be read is not repeated
		return nil, c.answered(r, response, said)
	}
	if err := r.read(response); err != nil {
		var p *Problem
		if errors.As(err, &p) {
			return nil, p
		}
		return nil, c.unanswered(ctx, r, err)
	}
	return response.Header, nil
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	if r.in != nil {
		text, err := json.Marshal(r.in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	address := c.base + apiBase + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, errors.New("the address is no URL") // the cause quotes it
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "application/json")
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for key, value := range r.header {
		req.Header.Set(key, value)
	}
	req.SetBasicAuth(c.account.Username, c.account.Password)
	return req, nil
}

// read takes a successful answer. An answer that is larger than it may be, is no JSON, or is of another shape is a *Problem;
// any other error is the connection's.
func (r call) read(response *http.Response) error {
	limit := r.limit
	if limit == 0 {
		limit = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return &Problem{Kind: KindUnreadable, Doing: r.doing, Text: "Harbor's answer is not used: " + fmt.Sprintf(format, args...)}
	}
	if int64(len(body)) > limit {
		return bad("it is larger than %d KiB", limit>>10)
	}
	if r.out == nil {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return bad("it is no JSON. Is this the address of Harbor itself, and not of a sign-in page before it?")
	}
	if raw, ok := r.out.(*[]byte); ok {
		if !json.Valid(body) {
			return bad("it is no valid JSON")
		}
		*raw = body
		return nil
	}
	if err := json.Unmarshal(body, r.out); err != nil {
		return bad("it has another form than Harbor's API v2.0 says")
	}
	return nil
}

// segment escapes one segment of a path.
func segment(s string) string { return url.PathEscape(s) }

// repositorySegment escapes a repository's name twice, as the API wants it: once would have a proxy, and Harbor itself, take
// the slashes in it for the path's.
func repositorySegment(name string) string { return url.PathEscape(url.PathEscape(name)) }

const (
	// pageSize is the most that the API gives at a time.
	pageSize = 100
	// maxPages bounds how far a list is read.
	maxPages = 20
)

// list reads a list page by page until enough says that it has what it looks for, or the list ends. That a list goes on beyond
// maxPages is a Problem: what was not read may matter.
func list[T any](ctx context.Context, c *Client, r call, enough func(page []T) bool) error {
	query := url.Values{}
	for key, values := range r.query {
		query[key] = values
	}
	for page := 1; page <= maxPages; page++ {
		var items []T
		query.Set("page", strconv.Itoa(page))
		query.Set("page_size", strconv.Itoa(pageSize))
		r.query, r.out = query, &items
		header, err := c.do(ctx, r)
		if err != nil {
			return err
		}
		if enough(items) || len(items) == 0 {
			return nil
		}
		total, err := strconv.Atoi(header.Get("X-Total-Count"))
		switch {
		case err != nil && len(items) < pageSize, err == nil && page*pageSize >= total:
			return nil
		}
	}
	return &Problem{Kind: KindUnreadable, Doing: r.doing, Text: fmt.Sprintf("Harbor's list is longer than the %d entries that are read", maxPages*pageSize)}
}
