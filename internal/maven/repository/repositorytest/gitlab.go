// SPDX-License-Identifier: Apache-2.0

// Package repositorytest answers as GitLab's Package Registry does where a build or SIRRAT reads a project's Maven packages
// (read: GitLab 18, doc/user/packages/maven_repository, doc/api/packages/maven.md): 401 without an account, 404 for what is
// not there, SHA-1 and MD5 of every file, a redirect to the object storage, or on to Maven Central. Only tests import it.
package repositorytest

import (
	"crypto/md5"  // GitLab serves it
	"crypto/sha1" // GitLab serves it
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gitlab.com/dynors/sirrat/internal/maven"
)

// Token that the registry wants, and the user it is of.
const (
	Token = "glpat-canary-7d21"
	User  = "deployer"
)

const prefix = "/api/v4/projects/75907047/packages/maven/"

// Options of Start.
type Options struct {
	// Header in which the token is wanted; "" for a public project.
	Header string
	// Storage serves files from a server of its own.
	Storage bool
	// Forward sends readers of what is missing on to another repository, which has everything.
	Forward bool
}

// GitLab is a running registry.
type GitLab struct {
	t       testing.TB
	o       Options
	server  *httptest.Server
	storage *httptest.Server
	central *httptest.Server

	mu     sync.Mutex
	files  map[string][]byte // by path in the repository
	sent   map[string]string // answers instead of files, checksums among them
	asked  []string
	leaked []string
	status int // of every answer, while the registry is in trouble
}

// Start starts a registry, which ends with the test.
func Start(t testing.TB, o Options) *GitLab {
	t.Helper()
	g := &GitLab{t: t, o: o, files: map[string][]byte{}, sent: map[string]string{}}
	for _, s := range []struct {
		into    **httptest.Server
		handler http.HandlerFunc
	}{{&g.server, g.answer}, {&g.storage, g.store}, {&g.central, g.elsewhere}} {
		*s.into = httptest.NewTLSServer(s.handler)
		t.Cleanup((*s.into).Close)
	}
	t.Cleanup(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.leaked) > 0 {
			t.Errorf("credentials went to %v", g.leaked)
		}
	})
	return g
}

// URL is the address of the repository.
func (g *GitLab) URL() string { return g.server.URL + strings.TrimSuffix(prefix, "/") }

// CA is the certificate (PEM) of the authority of all its servers.
func (g *GitLab) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw})
}

// POM of a module.
func POM(c maven.Coordinates) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>%s</groupId>
  <artifactId>%s</artifactId>
  <version>%s</version>
</project>
`, c.Group, c.Artifact, c.Version)
}

// Jar is an archive with that text in it.
func Jar(text string) []byte { return []byte("PK\x03\x04" + text) }

// Publish puts a module with its POM into the registry, as a build does. What was there is replaced, as GitLab does unless it
// is told not to allow duplicates.
func (g *GitLab) Publish(coordinates, jar string) {
	g.t.Helper()
	c := g.parse(coordinates)
	g.Put(c.Path("pom"), []byte(POM(c)))
	g.Put(c.Path("jar"), Jar(jar))
}

func (g *GitLab) parse(coordinates string) maven.Coordinates {
	c, err := maven.Parse(coordinates)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// Put puts a file.
func (g *GitLab) Put(path string, content []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.files[path] = content
}

// Delete takes a file away.
func (g *GitLab) Delete(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.files, path)
}

// Say has the registry answer that for a path, whatever it has.
func (g *GitLab) Say(path, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent[path] = text
}

// Trouble has the registry answer with this status until it is 0.
func (g *GitLab) Trouble(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// Asked are the paths that were asked for since the last call.
func (g *GitLab) Asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := g.asked
	g.asked = nil
	return asked
}

func (g *GitLab) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	g.asked = append(g.asked, path)
	switch {
	case g.status != 0:
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"message":"`+Token+`"}`, g.status)
	case r.Method != http.MethodGet:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case !g.knows(r):
		w.Header().Set("Www-Authenticate", `Basic realm="GitLab Packages Registry"`)
		http.Error(w, `{"message":"401 Unauthorized"}`, http.StatusUnauthorized)
	case !ok:
		http.Error(w, `{"error":"404 Not Found"}`, http.StatusNotFound)
	default:
		g.serve(w, r, path)
	}
}

func (g *GitLab) serve(w http.ResponseWriter, r *http.Request, path string) {
	if text, ok := g.sent[path]; ok {
		fmt.Fprint(w, text)
		return
	}
	if content, ok := g.files[strings.TrimSuffix(path, ".sha1")]; ok && strings.HasSuffix(path, ".sha1") {
		sum := sha1.Sum(content)
		fmt.Fprint(w, hex.EncodeToString(sum[:]))
		return
	}
	if content, ok := g.files[strings.TrimSuffix(path, ".md5")]; ok && strings.HasSuffix(path, ".md5") {
		sum := md5.Sum(content)
		fmt.Fprint(w, hex.EncodeToString(sum[:]))
		return
	}
	content, ok := g.files[path]
	switch {
	case !ok && g.o.Forward:
		http.Redirect(w, r, g.central.URL+"/maven2/"+path, http.StatusFound)
	case !ok:
		http.Error(w, `{"message":"404 Package Not Found"}`, http.StatusNotFound)
	case g.o.Storage:
		name := hex.EncodeToString([]byte(path))
		http.Redirect(w, r, g.storage.URL+"/gitlab-packages/"+name+"?X-Goog-Signature=canary-signature", http.StatusFound)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(content)
	}
}

// knows says whether a request shows the token as the options want it.
func (g *GitLab) knows(r *http.Request) bool {
	switch g.o.Header {
	case "":
		return true
	case "Basic":
		user, password, ok := r.BasicAuth()
		return ok && user == User && password == Token
	}
	return r.Header.Get(g.o.Header) == Token
}

// foreign notes credentials that came to a server they are not for.
func (g *GitLab) foreign(r *http.Request) {
	for name, values := range r.Header {
		if strings.HasSuffix(name, "-Token") || name == "Authorization" || strings.Contains(strings.Join(values, " "), Token) {
			g.leaked = append(g.leaked, r.URL.Path+" ("+name+")")
		}
	}
}

func (g *GitLab) store(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.foreign(r)
	name, err := hex.DecodeString(strings.TrimPrefix(r.URL.Path, "/gitlab-packages/"))
	content, ok := g.files[string(name)]
	if err != nil || !ok || r.URL.Query().Get("X-Goog-Signature") != "canary-signature" {
		http.Error(w, "AccessDenied", http.StatusForbidden)
		return
	}
	_, _ = w.Write(content)
}

// elsewhere is another repository of the same layout, where somebody published the same coordinates.
func (g *GitLab) elsewhere(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.foreign(r)
	g.leaked = append(g.leaked, "the other repository was asked for "+r.URL.Path)
	_, _ = w.Write(Jar("somebody else's"))
}
