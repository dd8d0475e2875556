// SPDX-License-Identifier: Apache-2.0

// Package gitlab tells a GitLab how a project's commits fare, as commit statuses and deployments, by its REST API v4: doc/api/commits.md
// (at gitlabhq/gitlabhq 00359ec1) and doc/api/deployments.md (at 0351d9ed), and Ci::CreateCommitStatusService (at 0286e4c6) for
// what is answered to transitions that it does not know.
//
// # What holds
//
//   - The token goes to the address that the project names, in one header, and nowhere else: redirects are not followed, and no error
//     holds anything of an answer but the names of fields that were sent.
//   - Every connection goes through an egress.Guard, and one without TLS never to the public internet.
//   - Every answer is bounded in size and time.
//   - Saying the same again is no error: GitLab refuses a transition to the state that it is in, which is what was wanted.
//
// It imports egress and the standard library only: three requests need no client library, whose five modules (go-retryablehttp, oauth2
// and others) would bring retries and rate limits of their own beside the controllers'.
package gitlab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Bounds of a request.
const (
	timeout   = 20 * time.Second
	maxAnswer = 2 << 20 // bytes: a list of deployments with all that GitLab says of each
	// listed are the deployments of an environment that are looked through for one that was made before.
	listed = 30
	// MaxDescription bounds the description of a commit status, in characters.
	MaxDescription = 255
	// MaxTarget bounds the address that a commit status leads to, in characters (GenericCommitStatus, at 0c872e02).
	MaxTarget = 255
)

// States of commit statuses and deployments.
const (
	Pending  = "pending" // statuses only
	Running  = "running"
	Success  = "success"
	Failed   = "failed"
	Canceled = "canceled"
)

// Project is a project of a GitLab and the token that opens it.
type Project struct {
	URL     string // without /api
	Project string // path or id
	Token   string
}

// Status is a commit status.
type Status struct {
	Commit      string `json:"-"`
	State       string `json:"state"`
	Ref         string `json:"ref,omitempty"` // of the pipeline that it is shown in; "" for the newest of the commit
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// TargetURL is where the status leads. Deployments have no such field: what GitLab links there is the environment's.
	TargetURL string `json:"target_url,omitempty"`
}

// Deployment is a deployment to an environment.
type Deployment struct {
	Environment string `json:"environment"`
	Commit      string `json:"sha"`
	Ref         string `json:"ref"`
	Tag         bool   `json:"tag"`
	State       string `json:"status"`
}

// Client is safe for concurrent use.
type Client struct {
	secure, plain *http.Client // https and http
}

// New returns a Client that connects to what the guard allows.
func New(guard egress.Guard) *Client {
	return &Client{
		secure: newHTTP(guard.Control),
		plain: newHTTP(func(network, address string, c syscall.RawConn) error {
			if err := guard.Control(network, address, c); err != nil {
				return err
			}
			if to, err := netip.ParseAddrPort(address); err != nil || (egress.Guard{}).Allows(to.Addr()) {
				return errPlain
			}
			return nil
		}),
	}
}

func newHTTP(control func(string, string, syscall.RawConn) error) *http.Client {
	dialer := egress.Guard{}.Dialer()
	dialer.Control = control
	return &http.Client{
		Timeout: timeout, Transport: egress.Transport(&dialer),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SetStatus sets a commit status. Where GitLab does not take what it leads to, it is told without.
func (c *Client) SetStatus(ctx context.Context, p Project, s Status) error {
	err := c.do(ctx, p, http.MethodPost, "/statuses/"+url.PathEscape(s.Commit), s, nil)
	if refuses(err, "target_url") {
		s.TargetURL = ""
		err = c.do(ctx, p, http.MethodPost, "/statuses/"+url.PathEscape(s.Commit), s, nil)
	}
	if isTransition(err) {
		return nil
	}
	return err
}

// Deploy records a deployment and returns its id. One of the same commit with an id above after, which an earlier call may have
// made whose answer was lost, is taken over.
func (c *Client) Deploy(ctx context.Context, p Project, d Deployment, after int64) (int64, error) {
	id, state, err := c.find(ctx, p, d, after)
	switch {
	case err != nil:
		return 0, err
	case id > 0 && state == d.State:
		return id, nil
	case id > 0:
		return id, c.SetDeployment(ctx, p, id, d.State)
	}
	id, err = c.create(ctx, p, d)
	if refuses(err, "ref") && !refuses(err, "sha") && d.Ref != d.Commit { // the branch was merged and deleted: a commit is a ref too
		d.Ref, d.Tag = d.Commit, false
		return c.create(ctx, p, d)
	}
	return id, err
}

func (c *Client) create(ctx context.Context, p Project, d Deployment) (int64, error) {
	var made struct {
		ID int64 `json:"id"`
	}
	if err := c.do(ctx, p, http.MethodPost, "/deployments", d, &made); err != nil {
		return 0, err
	}
	if made.ID <= 0 {
		return 0, errNotGitLab
	}
	return made.ID, nil
}

// find returns the newest deployment of the commit above after that no job of GitLab's made; 0 if there is none.
func (c *Client) find(ctx context.Context, p Project, d Deployment, after int64) (id int64, state string, err error) {
	var list []struct {
		ID         int64           `json:"id"`
		SHA        string          `json:"sha"`
		Status     string          `json:"status"`
		Deployable json.RawMessage `json:"deployable"`
	}
	query := url.Values{"environment": {d.Environment}, "order_by": {"id"}, "sort": {"desc"}, "per_page": {strconv.Itoa(listed)}}
	err = c.do(ctx, p, http.MethodGet, "/deployments?"+query.Encode(), nil, &list)
	for _, l := range list {
		if l.ID > max(id, after) && l.SHA == d.Commit && (len(l.Deployable) == 0 || string(l.Deployable) == "null") {
			id, state = l.ID, l.Status
		}
	}
	return id, state, err
}

// SetDeployment changes a deployment's state. One that somebody deleted is nobody's concern any more.
func (c *Client) SetDeployment(ctx context.Context, p Project, id int64, state string) error {
	err := c.do(ctx, p, http.MethodPut, "/deployments/"+strconv.FormatInt(id, 10), map[string]string{"status": state}, nil)
	if isTransition(err) || KindOf(err) == NoCommit {
		return nil
	}
	return err
}

// do sends a request about the project, with body as JSON, and reads the answer into into; nil for neither.
func (c *Client) do(ctx context.Context, p Project, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request to GitLab: %w", err)
		}
		content = bytes.NewReader(text)
	}
	address := strings.TrimRight(p.URL, "/") + "/api/v4/projects/" + url.PathEscape(p.Project) + path
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return &Error{Kind: Refused, text: "its address is not a URL"}
	}
	req.Header.Set("PRIVATE-TOKEN", p.Token)
	req.Header.Set("User-Agent", "SIRRAT")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := c.secure
	if req.URL.Scheme != "https" {
		client = c.plain
	}
	resp, err := client.Do(req)
	if err != nil {
		return unreached(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return refused(resp, answer)
	case err != nil:
		return unreached(ctx, err)
	case into != nil && json.Unmarshal(answer, into) != nil:
		return errNotGitLab
	}
	return nil
}

// fields are those of requests: no other name of an answer is repeated.
var fields = []string{"description", "environment", "name", "ref", "sha", "state", "status", "tag", "target_url"}

// message is what GitLab has against a request: {"message": "text"}, {"message": {"field": ["text"]}} or {"error": "text"}.
type message struct {
	text   string
	fields []string
}

func readMessage(answer []byte) (m message) {
	var raw struct {
		Message json.RawMessage `json:"message"`
		Error   string          `json:"error"`
	}
	if json.Unmarshal(answer, &raw) != nil {
		return m
	}
	var byField map[string]any
	switch {
	case json.Unmarshal(raw.Message, &byField) == nil:
		for _, f := range fields {
			if _, ok := byField[f]; ok {
				m.fields = append(m.fields, f)
			}
		}
		m.text = string(raw.Message)
	case json.Unmarshal(raw.Message, &m.text) == nil:
	}
	m.text = cmp.Or(m.text, raw.Error)
	return m
}

// refuses tells whether GitLab refused that field.
func refuses(err error, field string) bool {
	e, ok := asError(err)
	return ok && slices.Contains(e.fields, field)
}
