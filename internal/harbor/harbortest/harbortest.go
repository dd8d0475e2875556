// SPDX-License-Identifier: Apache-2.0

// Package harbortest is a Harbor for tests: the calls of its API v2.0 that are used, as goharbor/harbor's
// api/v2.0/swagger.yaml has them, over https with a certificate that only CA vouches for. It is strict: a call that the API does
// not have, or that is not made as the API wants it, fails the test. Only tests import it.
package harbortest

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Form of the reports that it has, of the two that Harbor knows.
const Form = "application/vnd.security.vulnerability.report; version=1.1"

// The account that it knows.
const (
	Username = "robot$shop+sirrat"
	Password = "canary-9d41-harbor"
)

// Image is an artifact, or an index when it has children.
type Image struct {
	// Status of its scan as Harbor names it; "" is none.
	Status string
	// Started is when a scan that is under way did.
	Started time.Time
	// Ended is when the scan did.
	Ended time.Time
	// Severities of what was found.
	Severities []string
	// Platform of a child: linux/amd64.
	Platform string
	// Children are digests of an index.
	Children []string
}

// Execution of a replication policy.
type Execution struct {
	Status  string
	Started time.Time
	// Tasks are the statuses of its tasks, by repository (shop/team/api).
	Tasks map[string]string
}

// Harbor that runs.
type Harbor struct {
	testing.TB
	server *httptest.Server

	mu         sync.Mutex
	images     map[string]*Image // by repository@digest
	quotas     map[string][2]int64
	policies   map[string]int64
	executions map[int64][]Execution
	fault      func(w http.ResponseWriter, r *http.Request) bool
	calls      []string
}

// Start starts a Harbor without anything; it is gone when the test is over.
func Start(t testing.TB) *Harbor {
	t.Helper()
	h := &Harbor{TB: t, images: map[string]*Image{}, quotas: map[string][2]int64{}, policies: map[string]int64{}, executions: map[int64][]Execution{}}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	h.server.StartTLS()
	t.Cleanup(func() {
		h.server.CloseClientConnections()
		h.server.Close()
	})
	return h
}

// URL is its address.
func (h *Harbor) URL() string { return h.server.URL }

// CA is the certificate that vouches for it, PEM.
func (h *Harbor) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
}

// Transport trusts it.
func (h *Harbor) Transport() http.RoundTripper { return h.server.Client().Transport }

// Put stores an image, in place of what was there.
func (h *Harbor) Put(repository, digest string, img Image) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images[repository+"@"+digest] = &img
}

// Scan ends a scan with what it found.
func (h *Harbor) Scan(repository, digest string, at time.Time, severities ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	img := h.images[repository+"@"+digest]
	img.Status, img.Ended, img.Severities = "Success", at, severities
}

// Quota sets the storage of a project, in bytes; -1 is no limit.
func (h *Harbor) Quota(project string, hard, used int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quotas[project] = [2]int64{hard, used}
}

// Policy declares a replication policy.
func (h *Harbor) Policy(name string, id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policies[name] = id
}

// Executions sets those of a policy, oldest first.
func (h *Harbor) Executions(policy int64, all ...Execution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.executions[policy] = all
}

// Misbehave has a fault answer in its place; nil ends that.
func (h *Harbor) Misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// Take returns the calls since the last time: "POST /projects/shop/…", as they came.
func (h *Harbor) Take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// Refuse answers as Harbor answers errors.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"%s"}]}`, code, strings.ToLower(code))
}

func give(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v)
}

func (h *Harbor) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/v2.0")
	h.calls = append(h.calls, r.Method+" "+path)
	if h.fault != nil && h.fault(w, r) {
		return
	}
	user, password, _ := r.BasicAuth()
	switch {
	case !ok:
		h.Errorf("the API has no %s", r.URL.Path)
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
	case user != Username || password != Password:
		Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	case strings.HasPrefix(path, "/replication/"):
		h.replication(w, r, path)
	default:
		h.project(w, r, path)
	}
}

// project serves what is below /projects/{name}.
func (h *Harbor) project(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.Split(strings.TrimPrefix(path, "/projects/"), "/")
	switch {
	case len(parts) == 2 && parts[1] == "summary" && r.Method == http.MethodGet:
		q, ok := h.quotas[parts[0]]
		if !ok {
			Refuse(w, http.StatusForbidden, "FORBIDDEN")
			return
		}
		if r.Header.Get("X-Is-Resource-Name") != "true" {
			h.Errorf("a project's name could be taken for its id")
		}
		give(w, map[string]any{"repo_count": 1, "quota": map[string]any{"hard": map[string]int64{"storage": q[0]}, "used": map[string]int64{"storage": q[1]}}})
	case len(parts) >= 5 && parts[1] == "repositories" && parts[3] == "artifacts":
		h.artifact(w, r, parts[0]+"/"+h.repository(parts[2]), parts[4], strings.Join(parts[5:], "/"))
	default:
		h.Errorf("the API has no %s %s", r.Method, path)
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
	}
}

// repository undoes both escapes of a name.
func (h *Harbor) repository(escaped string) string {
	if strings.Contains(strings.ReplaceAll(escaped, "%252F", ""), "%2F") {
		h.Errorf("the repository %s is escaped once: Harbor would not find it", escaped)
	}
	return strings.ReplaceAll(escaped, "%252F", "/")
}

func (h *Harbor) artifact(w http.ResponseWriter, r *http.Request, repository, digest, rest string) {
	img := h.images[repository+"@"+digest]
	if img == nil {
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	switch {
	case rest == "" && r.Method == http.MethodGet:
		h.accepts(r)
		if r.URL.Query().Get("with_scan_overview") != "true" {
			h.Errorf("the overview of the scan is not asked for")
		}
		give(w, h.describe(repository, digest, img))
	case rest == "scan" && r.Method == http.MethodPost:
		if img.Status == "Pending" || img.Status == "Running" {
			Refuse(w, http.StatusConflict, "CONFLICT")
			return
		}
		img.Status = "Pending"
		for _, child := range img.Children {
			h.images[repository+"@"+child].Status = "Pending"
		}
		w.WriteHeader(http.StatusAccepted)
	case rest == "additions/vulnerabilities" && r.Method == http.MethodGet:
		h.accepts(r)
		vulnerabilities := []map[string]any{}
		for i, s := range img.Severities {
			vulnerabilities = append(vulnerabilities, map[string]any{
				"id": fmt.Sprintf("CVE-2026-%04d", i), "package": "libc", "version": "2.41", "severity": s, "artifact_digests": []string{digest},
			})
		}
		give(w, map[string]any{Form: map[string]any{"generated_at": img.Ended, "scanner": scanner, "vulnerabilities": vulnerabilities}})
	default:
		h.Errorf("the API has no %s …/%s", r.Method, rest)
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
	}
}

var scanner = map[string]string{"name": "Trivy", "vendor": "Aqua Security", "version": "v0.58.1"}

func (h *Harbor) accepts(r *http.Request) {
	if !strings.Contains(r.Header.Get("X-Accept-Vulnerabilities"), Form) {
		h.Errorf("%s does not say which reports it reads", r.URL.Path)
	}
}

func (h *Harbor) describe(repository, digest string, img *Image) map[string]any {
	out := map[string]any{"type": "IMAGE", "digest": digest, "size": 4096, "push_time": "2026-11-22T09:00:00.000Z", "tags": nil}
	if len(img.Children) > 0 {
		references := []map[string]any{}
		for _, child := range img.Children {
			os, architecture, _ := strings.Cut(h.images[repository+"@"+child].Platform, "/")
			references = append(references, map[string]any{"child_digest": child, "platform": map[string]string{"os": os, "architecture": architecture}})
		}
		out["references"] = references
	}
	if img.Status == "" || len(img.Children) > 0 {
		return out
	}
	summary := map[string]any{"report_id": "5f62c830-f996-11e9-957f-0242c0a89008", "scan_status": img.Status, "complete_percent": 100, "scanner": scanner}
	if !img.Started.IsZero() {
		summary["start_time"] = img.Started
	}
	if img.Status == "Success" {
		by := map[string]int{}
		for _, s := range img.Severities {
			by[s]++
		}
		summary["end_time"] = img.Ended
		summary["summary"] = map[string]any{"total": len(img.Severities), "fixable": 0, "summary": by}
	}
	out["scan_overview"] = map[string]any{Form: summary}
	return out
}

// replication serves policies, executions and tasks; an execution's id is its policy's times a thousand, plus its place.
func (h *Harbor) replication(w http.ResponseWriter, r *http.Request, path string) {
	query := r.URL.Query()
	switch {
	case path == "/replication/policies" && r.Method == http.MethodGet:
		var all []map[string]any
		for _, name := range slices.Sorted(maps.Keys(h.policies)) {
			if strings.Contains(name, strings.TrimPrefix(query.Get("q"), "name=")) {
				all = append(all, map[string]any{"id": h.policies[name], "name": name, "enabled": true})
			}
		}
		h.page(w, r, all)
	case path == "/replication/executions" && r.Method == http.MethodGet:
		policy, _ := strconv.ParseInt(query.Get("policy_id"), 10, 64)
		var all []map[string]any
		for i, e := range slices.Backward(h.executions[policy]) {
			all = append(all, map[string]any{"id": policy*1000 + int64(i), "policy_id": policy, "status": e.Status, "start_time": e.Started, "total": len(e.Tasks)})
		}
		h.page(w, r, all)
	case path == "/replication/executions" && r.Method == http.MethodPost:
		var in struct {
			PolicyID int64 `json:"policy_id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("Content-Type") != "application/json" {
			h.Errorf("the body is %v, %s", err, r.Header.Get("Content-Type"))
		}
		h.executions[in.PolicyID] = append(h.executions[in.PolicyID], Execution{Status: "InProgress", Started: time.Now()})
		w.Header().Set("Location", "/api/v2.0/replication/executions/1")
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(path, "/tasks") && r.Method == http.MethodGet:
		id, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(path, "/replication/executions/"), "/tasks"), 10, 64)
		if err != nil {
			h.Errorf("no id in %s", path)
		}
		var all []map[string]any
		e := h.executions[id/1000][id%1000]
		for _, repository := range slices.Sorted(maps.Keys(e.Tasks)) {
			all = append(all, map[string]any{"id": len(all) + 1, "execution_id": id, "status": e.Tasks[repository], "operation": "copy", "resource_type": "image",
				"src_resource": repository + " [1 item(s) in total]", "dst_resource": repository + " [1 item(s) in total]"})
		}
		h.page(w, r, all)
	default:
		h.Errorf("the API has no %s %s", r.Method, path)
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
	}
}

// page gives a page of a list, as every list of the API is given.
func (h *Harbor) page(w http.ResponseWriter, r *http.Request, all []map[string]any) {
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	size, err2 := strconv.Atoi(r.URL.Query().Get("page_size"))
	if err != nil || err2 != nil || page < 1 || size < 1 || size > 100 {
		h.Errorf("no page: %s", r.URL.RawQuery)
		page, size = 1, 10
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
	from := min((page-1)*size, len(all))
	give(w, append([]map[string]any{}, all[from:min(from+size, len(all))]...))
}
