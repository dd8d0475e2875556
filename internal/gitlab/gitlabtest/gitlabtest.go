// SPDX-License-Identifier: Apache-2.0

// Package gitlabtest is a GitLab for tests, as strict as GitLab is where commits are told of: what it takes, refuses and answers follows
// doc/api/commits.md (at gitlabhq/gitlabhq 00359ec1), doc/api/deployments.md (at 0351d9ed), Ci::CreateCommitStatusService (at 0286e4c6),
// lib/api/deployments.rb (at 0407f157) and the models Deployment (at 016af097) and GenericCommitStatus (at 0c872e02).
package gitlabtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// What every Server knows.
const (
	Path  = "dynors/clients/supergest"
	ID    = "46573356"
	Token = "glpat-canary-7d1e_2c9b" // of the project, with scope api
)

// Status is a commit status as GitLab keeps it.
type Status struct {
	ID                                    int64
	Commit, Ref, Name, State, Description string
	TargetURL                             string
}

// Deployment is one as GitLab keeps it.
type Deployment struct {
	ID                              int64
	Environment, Commit, Ref, State string
	Tag                             bool
}

// Server is a GitLab with one project.
type Server struct {
	*httptest.Server
	t testing.TB

	mu          sync.Mutex
	token       string
	commits     []string
	refs        []string
	idempotent  bool
	fault       func(w http.ResponseWriter, r *http.Request) bool
	requests    []string
	statuses    []Status
	deployments []Deployment
	lastID      int64
}

// Start starts a GitLab on 127.0.0.1, without TLS, that has these commits on its branch main.
func Start(t testing.TB, commits ...string) *Server {
	t.Helper()
	s := &Server{t: t, token: Token, commits: commits, refs: []string{"main"}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// Misbehave has fault look at every request first; it returns true when it has answered. Nil ends it.
func (s *Server) Misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Answer is a fault that answers every request of that method, "" for any, with a status and headers.
func Answer(method string, status int, body string, headers ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if method != "" && r.Method != method {
			return false
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// Push adds a commit.
func (s *Server) Push(commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits = append(s.commits, commit)
}

// SetToken makes another token the project's.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Idempotent has the server answer the same state again with success, as GitLab does with its merge request 198626.
func (s *Server) Idempotent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idempotent = true
}

// Statuses are the newest of each name of a commit: name → state and description.
func (s *Server) Statuses(commit string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for _, st := range s.statuses {
		if st.Commit == commit {
			out[st.Name] = st.State + ": " + st.Description
		}
	}
	return out
}

// Targets are what the newest statuses of a commit lead to: name → address, "" for nowhere.
func (s *Server) Targets(commit string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for _, st := range s.statuses {
		if st.Commit == commit {
			out[st.Name] = st.TargetURL
		}
	}
	return out
}

// Deployments are all, oldest first.
func (s *Server) Deployments() []Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deployments)
}

// Requests are "METHOD path" of every request so far.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

type answer struct {
	status int
	body   any
}

func message(status int, m any) answer { return answer{status, map[string]any{"message": m}} }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.EscapedPath())
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	s.mu.Lock()
	a := s.answer(r)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	if err := json.NewEncoder(w).Encode(a.body); err != nil {
		s.t.Error(err)
	}
}

func (s *Server) answer(r *http.Request) answer {
	switch r.Header.Get("PRIVATE-TOKEN") {
	case s.token:
	default:
		return message(401, "401 Unauthorized")
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/v4/projects/")
	project, rest, _ := strings.Cut(rest, "/")
	if path, err := url.PathUnescape(project); !ok || err != nil || path != Path && path != ID {
		return message(404, "404 Project Not Found")
	}
	if r.Method != http.MethodGet && r.Header.Get("Content-Type") != "application/json" {
		return answer{415, map[string]string{"error": "The provided content-type is not supported."}}
	}
	kind, id, _ := strings.Cut(rest, "/")
	switch {
	case kind == "statuses" && r.Method == http.MethodPost:
		return s.postStatus(r, id)
	case kind == "deployments" && r.Method == http.MethodGet && id == "":
		return s.listDeployments(r)
	case kind == "deployments" && r.Method == http.MethodPost && id == "":
		return s.postDeployment(r)
	case kind == "deployments" && r.Method == http.MethodPut:
		return s.putDeployment(r, id)
	}
	return answer{404, map[string]string{"error": "404 Not Found"}}
}

// read decodes a body strictly: a field that GitLab does not know would go unnoticed.
func (s *Server) read(r *http.Request, into any) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func (s *Server) postStatus(r *http.Request, commit string) answer {
	var in struct {
		State, Ref, Name, Description string
		TargetURL                     string `json:"target_url"`
	}
	s.read(r, &in)
	switch {
	case !slices.Contains([]string{"pending", "running", "success", "failed", "canceled", "skipped"}, in.State):
		return answer{400, map[string]string{"error": "state does not have a valid value"}}
	case !slices.Contains(s.commits, commit):
		return message(404, "404 Commit Not Found")
	case utf8.RuneCountInString(in.Description) > 255:
		return message(400, map[string][]string{"description": {"is too long (maximum is 255 characters)"}})
	case utf8.RuneCountInString(in.Name) > 255:
		return message(400, map[string][]string{"name": {"is too long (maximum is 255 characters)"}})
	case utf8.RuneCountInString(in.TargetURL) > 255:
		return message(400, map[string][]string{"target_url": {"is too long (maximum is 255 characters)"}})
	}
	// One that is not finished is changed; any other state is a new one, which takes the place of the last.
	i := slices.IndexFunc(s.statuses, func(o Status) bool {
		return o.Commit == commit && o.Name == in.Name && o.Ref == in.Ref && (o.State == "pending" || o.State == "running")
	})
	if i < 0 {
		s.lastID++
		i, s.statuses = len(s.statuses), append(s.statuses, Status{ID: s.lastID, Commit: commit, Name: in.Name, Ref: in.Ref, State: "created"})
	}
	o := &s.statuses[i]
	if event := map[string]string{"pending": "enqueue", "running": "run"}[in.State]; event != "" && o.State == in.State && !s.idempotent {
		return message(400, fmt.Sprintf("Cannot transition status via :%s from :%s (Reason(s): Status cannot transition via %q)", event, o.State, event))
	}
	o.State, o.Description, o.TargetURL = in.State, in.Description, in.TargetURL
	return answer{201, map[string]any{"id": o.ID, "sha": commit, "ref": o.Ref, "status": o.State, "name": o.Name, "description": o.Description,
		"target_url": o.TargetURL, "allow_failure": false, "coverage": nil, "pipeline_id": 1}}
}

func (d Deployment) entity() map[string]any {
	return map[string]any{"id": d.ID, "iid": d.ID, "ref": d.Ref, "sha": d.Commit, "status": d.State, "created_at": "2026-11-02T09:00:00.000Z",
		"environment": map[string]any{"id": 9, "name": d.Environment, "external_url": nil}, "deployable": nil,
		"user": map[string]any{"id": 1, "username": "project_46573356_bot"}}
}

func (s *Server) listDeployments(r *http.Request) answer {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("per_page"))
	if err != nil || limit > 100 || q.Get("order_by") != "id" || q.Get("sort") != "desc" || len(q) != 4 {
		return answer{400, map[string]string{"error": "order_by does not have a valid value"}}
	}
	out := []map[string]any{}
	for _, d := range slices.Backward(s.deployments) {
		if d.Environment == q.Get("environment") && len(out) < limit {
			out = append(out, d.entity())
		}
	}
	return answer{200, out}
}

var deploymentStates = []string{"running", "success", "failed", "canceled"}

func (s *Server) postDeployment(r *http.Request) answer {
	var in struct {
		Environment, SHA, Ref, Status string
		Tag                           *bool
	}
	s.read(r, &in)
	switch {
	case in.Environment == "" || in.SHA == "" || in.Ref == "" || in.Tag == nil:
		return answer{400, map[string]string{"error": "environment is missing, sha is missing, ref is missing, tag is missing"}}
	case !slices.Contains(deploymentStates, in.Status):
		return answer{400, map[string]string{"error": "status does not have a valid value"}}
	case !slices.Contains(s.refs, in.Ref) && !slices.Contains(s.commits, in.Ref):
		return message(400, map[string][]string{"ref": {"The branch or tag does not exist"}})
	case !slices.Contains(s.commits, in.SHA):
		return message(400, map[string][]string{"sha": {"The commit does not exist"}})
	}
	s.lastID++
	d := Deployment{ID: s.lastID, Environment: in.Environment, Commit: in.SHA, Ref: in.Ref, State: in.Status, Tag: *in.Tag}
	s.deployments = append(s.deployments, d)
	return answer{201, d.entity()}
}

func (s *Server) putDeployment(r *http.Request, id string) answer {
	var in struct{ Status string }
	s.read(r, &in)
	if !slices.Contains(deploymentStates, in.Status) {
		return answer{400, map[string]string{"error": "status does not have a valid value"}}
	}
	i := slices.IndexFunc(s.deployments, func(d Deployment) bool { return strconv.FormatInt(d.ID, 10) == id })
	if i < 0 {
		return message(404, "404 Not found")
	}
	// run is from created only; the others from any state but their own.
	event := map[string]string{"running": "run", "success": "succeed", "failed": "drop", "canceled": "cancel"}[in.Status]
	if s.deployments[i].State == in.Status || in.Status == "running" {
		return message(400, map[string][]string{"status": {fmt.Sprintf("cannot transition via %q", event)}})
	}
	s.deployments[i].State = in.Status
	return answer{200, s.deployments[i].entity()}
}
