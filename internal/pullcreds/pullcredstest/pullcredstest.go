// SPDX-License-Identifier: Apache-2.0

// Package pullcredstest plays the providers of pull credentials at the edge of the machine, as their documentation describes
// them: Harbor's robot accounts (goharbor/harbor api/v2.0/swagger.yaml as of 2.12, and its handler robot.go for what is
// refused) and GitLab's deploy tokens (doc/api/deploy_tokens.md as of GitLab 18). They answer over TLS, know who asks, refuse
// what the originals refuse, and say which credentials are live. Only tests import it.
package pullcredstest

import (
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The one account that each provider knows.
const (
	Username = "sirrat-admin"
	Password = "canary-admin-5d0e"
)

// canary is in every password that is given out.
const canary = "canary-pull-"

// Credential is one that a provider gave out.
type Credential struct {
	ID int64
	// Name as it was asked for, Username as it logs in.
	Name, Username, Password string
	Expires                  time.Time
	// Scopes are what it may do: "pull <project>", or GitLab's names.
	Scopes []string
	// Project is what it belongs to; "" for Harbor's system.
	Project string
	deleted bool
}

// Fault answers in the provider's place, or returns false to let it answer.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Provider is a Harbor or a GitLab.
type Provider struct {
	testing.TB
	URL    string
	server *httptest.Server
	now    func() time.Time

	mu       sync.Mutex
	projects map[string]int64
	made     []*Credential
	fault    Fault
	calls    []string
	registry http.Handler
	pullers  []string
}

// NewHarbor starts a Harbor with these projects.
func NewHarbor(t testing.TB, now func() time.Time, projects ...string) *Provider {
	p := start(t, now, projects)
	p.serve((*Provider).harbor)
	return p
}

// NewGitLab starts a GitLab with these projects, by their paths.
func NewGitLab(t testing.TB, now func() time.Time, projects ...string) *Provider {
	p := start(t, now, projects)
	p.serve((*Provider).gitlab)
	return p
}

func start(t testing.TB, now func() time.Time, projects []string) *Provider {
	p := &Provider{TB: t, now: now, projects: map[string]int64{}}
	for i, name := range projects {
		p.projects[name] = int64(i + 1)
	}
	return p
}

func (p *Provider) serve(answer func(*Provider, http.ResponseWriter, *http.Request)) {
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		p.mu.Unlock()
		if fault != nil && fault(w, r) {
			return
		}
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			p.pull(w, r)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls = append(p.calls, r.Method)
		answer(p, w, r)
	}))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	p.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	p.URL = p.server.URL
}

// CA is the certificate (PEM) of who vouches for the provider's.
func (p *Provider) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Host is where it listens.
func (p *Provider) Host() string { return strings.TrimPrefix(p.URL, "https://") }

// Transport reaches and trusts it.
func (p *Provider) Transport() http.RoundTripper { return p.server.Client().Transport }

// Misbehave has it answer with fault; nil makes it good again.
func (p *Provider) Misbehave(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// Away is the Fault of a provider that is not well, and repeats what it was sent.
func Away(w http.ResponseWriter, r *http.Request) bool {
	_, password, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, `{"errors":[{"code":"BAD","message":%q}],"message":%q}`, "you said "+password, r.Header.Get("PRIVATE-TOKEN"))
	return true
}

// Refusing is the Fault of a provider that refuses a method with a status.
func Refusing(method string, status int) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, `{"errors":[{"code":"FORBIDDEN","message":"no"}],"message":"403 Forbidden"}`)
		return true
	}
}

// Serve has a registry answer at the provider's address, to the account and to whoever has a live credential.
func (p *Provider) Serve(registry http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.registry = registry
}

func (p *Provider) pull(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	registry := p.registry
	p.mu.Unlock()
	username, password, _ := r.BasicAuth()
	if registry == nil || (username != Username || password != Password) && !p.Takes(username, password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		answer(w, http.StatusUnauthorized, map[string]any{"errors": []map[string]string{{"code": "UNAUTHORIZED", "message": "who are you?"}}})
		return
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		p.mu.Lock()
		p.pullers = append(p.pullers, username)
		p.mu.Unlock()
	}
	r.Header.Del("Authorization")
	registry.ServeHTTP(w, r)
}

// Pullers are who fetched blobs since the last time, each once, in order.
func (p *Provider) Pullers() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.pullers)
	out := slices.Compact(p.pullers)
	p.pullers = nil
	return out
}

// Made are all credentials that were ever given out, oldest first.
func (p *Provider) Made() []Credential {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Credential
	for _, c := range p.made {
		out = append(out, *c)
	}
	return out
}

// Live are those that work now.
func (p *Provider) Live() []Credential {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Credential
	for _, c := range p.made {
		if p.live(c) {
			out = append(out, *c)
		}
	}
	return out
}

func (p *Provider) live(c *Credential) bool { return !c.deleted && p.now().Before(c.Expires) }

// Takes says whether somebody may log in.
func (p *Provider) Takes(username, password string) bool {
	return slices.ContainsFunc(p.Live(), func(c Credential) bool { return c.Username == username && c.Password == password })
}

// Kept are those that are not deleted, live or not.
func (p *Provider) Kept() []Credential {
	return slices.DeleteFunc(p.Made(), func(c Credential) bool { return c.deleted })
}

// Remove deletes a credential, as an administrator may.
func (p *Provider) Remove(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.made {
		if c.ID == id {
			c.deleted = true
		}
	}
}

// Calls counts the requests of a method that it answered.
func (p *Provider) Calls(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range p.calls {
		if m == method {
			n++
		}
	}
	return n
}

func (p *Provider) add(c Credential) *Credential {
	c.ID, c.Password = int64(len(p.made)+1), canary+rand.Text()
	p.made = append(p.made, &c)
	return p.made[len(p.made)-1]
}

func (p *Provider) find(text string) *Credential {
	id, err := strconv.ParseInt(text, 10, 64)
	for _, c := range p.made {
		if err == nil && c.ID == id && !c.deleted {
			return c
		}
	}
	return nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v) // or the client went
	}
}

// strict reads a body that has these members and no others.
func strict(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// robotName is what Harbor's validateName takes.
var robotName = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)

func (p *Provider) harbor(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code string) {
		answer(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": strings.ToLower(code)}}})
	}
	username, password, ok := r.BasicAuth()
	if !ok || username != Username || password != Password {
		refuse(http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/api/v2.0")
	switch {
	case r.Method == http.MethodGet && strings.HasPrefix(path, "/projects/"):
		name := strings.TrimPrefix(path, "/projects/")
		id, ok := p.projects[name]
		if !ok || r.Header.Get("X-Is-Resource-Name") != "true" {
			refuse(http.StatusNotFound, "NOT_FOUND")
			return
		}
		answer(w, http.StatusOK, map[string]any{"project_id": id, "name": name})
	case r.Method == http.MethodPost && path == "/robots":
		p.createRobot(w, r, refuse)
	case r.Method == http.MethodGet && path == "/robots":
		p.listRobots(w, r, refuse)
	case r.Method == http.MethodDelete && strings.HasPrefix(path, "/robots/"):
		c := p.find(strings.TrimPrefix(path, "/robots/"))
		if c == nil {
			refuse(http.StatusNotFound, "NOT_FOUND")
			return
		}
		c.deleted = true
		w.WriteHeader(http.StatusOK)
	default:
		p.Errorf("Harbor has no %s %s", r.Method, r.URL.Path)
		refuse(http.StatusNotFound, "NOT_FOUND")
	}
}

func (p *Provider) createRobot(w http.ResponseWriter, r *http.Request, refuse func(int, string)) {
	var in struct {
		Name, Description, Level string
		Disable                  bool
		Duration                 int64
		Permissions              []struct {
			Kind, Namespace string
			Access          []struct{ Resource, Action string }
		}
	}
	if err := strict(r, &in); err != nil || !robotName.MatchString(in.Name) || in.Duration < 1 || len(in.Permissions) == 0 ||
		in.Level != "project" && in.Level != "system" || in.Level == "project" && len(in.Permissions) > 1 {
		p.Errorf("a robot account that Harbor refuses, or that never ends: %+v, %v", in, err)
		refuse(http.StatusBadRequest, "BAD_REQUEST")
		return
	}
	c := Credential{Name: in.Name, Username: "robot$" + in.Name, Expires: p.now().UTC().AddDate(0, 0, int(in.Duration)).Truncate(time.Second)}
	if in.Level == "project" {
		c.Project = in.Permissions[0].Namespace
		c.Username = "robot$" + c.Project + "+" + in.Name
	}
	for _, permission := range in.Permissions {
		if _, ok := p.projects[permission.Namespace]; !ok || permission.Kind != "project" || len(permission.Access) == 0 {
			refuse(http.StatusNotFound, "NOT_FOUND")
			return
		}
		for _, access := range permission.Access {
			c.Scopes = append(c.Scopes, access.Resource+":"+access.Action+" "+permission.Namespace)
		}
	}
	if slices.ContainsFunc(p.made, func(o *Credential) bool { return o.Username == c.Username && !o.deleted }) {
		refuse(http.StatusConflict, "CONFLICT")
		return
	}
	made := p.add(c)
	w.Header().Set("Location", fmt.Sprintf("/api/v2.0/robots/%d", made.ID))
	answer(w, http.StatusCreated, map[string]any{
		"id": made.ID, "name": made.Username, "secret": made.Password, "creation_time": p.now().Format(time.RFC3339), "expires_at": made.Expires.Unix(),
	})
}

func (p *Provider) listRobots(w http.ResponseWriter, r *http.Request, refuse func(int, string)) {
	q := map[string]string{}
	for _, term := range strings.Split(r.URL.Query().Get("q"), ",") {
		key, value, _ := strings.Cut(term, "=")
		q[key] = value
	}
	project := ""
	if q["Level"] == "project" {
		for name, id := range p.projects {
			if strconv.FormatInt(id, 10) == q["ProjectID"] {
				project = name
			}
		}
		if project == "" {
			refuse(http.StatusBadRequest, "BAD_REQUEST")
			return
		}
	}
	list := []map[string]any{}
	for _, c := range p.made {
		if !c.deleted && c.Project == project && strings.Contains(c.Username, strings.TrimPrefix(q["name"], "~")) {
			list = append(list, map[string]any{"id": c.ID, "name": c.Username, "expires_at": c.Expires.Unix(), "disable": false, "editable": true})
		}
	}
	page, size := number(r, "page"), number(r, "page_size")
	w.Header().Set("X-Total-Count", strconv.Itoa(len(list)))
	answer(w, http.StatusOK, list[min((page-1)*size, len(list)):min(page*size, len(list))])
}

// number is a parameter of the query, 1 at least.
func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return max(n, 1)
}

func (p *Provider) gitlab(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int) {
		answer(w, status, map[string]string{"message": fmt.Sprintf("%d %s", status, http.StatusText(status))})
	}
	if r.Header.Get("PRIVATE-TOKEN") != Password {
		refuse(http.StatusUnauthorized)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v4/projects/")
	project, id, ok2 := strings.Cut(rest, "/deploy_tokens")
	if _, known := p.projects[project]; !ok || !ok2 || !known || !strings.Contains(r.URL.EscapedPath(), strings.ReplaceAll(project, "/", "%2F")) {
		refuse(http.StatusNotFound)
		return
	}
	switch {
	case r.Method == http.MethodPost && id == "":
		var in struct {
			Name      string   `json:"name"`
			ExpiresAt string   `json:"expires_at"`
			Username  string   `json:"username"`
			Scopes    []string `json:"scopes"`
		}
		err := strict(r, &in)
		expires, err2 := time.Parse(time.RFC3339, in.ExpiresAt)
		if err != nil || err2 != nil || in.Name == "" || len(in.Scopes) == 0 {
			p.Errorf("a deploy token that GitLab refuses, or that never ends: %+v, %v, %v", in, err, err2)
			refuse(http.StatusBadRequest)
			return
		}
		made := p.add(Credential{Name: in.Name, Project: project, Scopes: in.Scopes, Expires: expires.UTC()})
		made.Username = fmt.Sprintf("gitlab+deploy-token-%d", made.ID)
		shown := p.shown(made)
		shown["expires_at"], shown["token"] = in.ExpiresAt, made.Password
		answer(w, http.StatusCreated, shown)
	case r.Method == http.MethodGet && id == "":
		list := []map[string]any{}
		for _, c := range p.made {
			if c.Project == project && !c.deleted {
				list = append(list, p.shown(c))
			}
		}
		page, size := number(r, "page"), number(r, "per_page")
		if page*size < len(list) {
			w.Header().Set("X-Next-Page", strconv.Itoa(page+1))
		}
		answer(w, http.StatusOK, list[min((page-1)*size, len(list)):min(page*size, len(list))])
	case r.Method == http.MethodDelete:
		c := p.find(strings.TrimPrefix(id, "/"))
		if c == nil || c.Project != project {
			refuse(http.StatusNotFound)
			return
		}
		c.deleted = true
		w.WriteHeader(http.StatusNoContent)
	default:
		p.Errorf("GitLab has no %s %s", r.Method, r.URL.Path)
		refuse(http.StatusNotFound)
	}
}

func (p *Provider) shown(c *Credential) map[string]any {
	return map[string]any{
		"id": c.ID, "name": c.Name, "username": c.Username, "expires_at": c.Expires.Format(time.RFC3339), "revoked": false,
		"expired": !p.now().Before(c.Expires), "scopes": c.Scopes,
	}
}
