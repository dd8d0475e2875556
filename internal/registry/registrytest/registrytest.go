// SPDX-License-Identifier: Apache-2.0

// Package registrytest runs registries in tests, behind a proxy that counts what passes and misbehaves on demand: Debian's
// docker-registry (distribution 2.8, which lists no referrers), and one of the process that does. Only tests import it.
package registrytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// How a registry knows who asks.
const (
	Anonymous = ""
	Htpasswd  = "htpasswd"
	Token     = "token"
)

// The one account of a registry that knows who asks.
const (
	User     = "ci"
	Password = "canary-77aa"
	// hash of the password, as htpasswd -B writes it.
	hash = "$2a$04$B1MQUudLwhCCPt2iF0WNnuPJvOd.emPmQdScOM48n3XqEDJOoQ9p2"
)

// startTimeout bounds the start of the registry.
const startTimeout = 5 * time.Minute

// Options of Start.
type Options struct {
	// Auth is Anonymous, Htpasswd or Token.
	Auth string
	// TLS makes it answer with a certificate that only CA vouches for.
	TLS bool
	// Referrers makes it one of the process with the referrers API of distribution-spec v1.1.0; it knows nobody, so that Auth
	// has to be Anonymous.
	Referrers bool
}

// Debian is Debian's docker-registry, open to everybody.
func Debian(t testing.TB) *Registry {
	t.Helper()
	return Start(t, Options{})
}

// InProcess is a registry that lists referrers, open to everybody.
func InProcess(t testing.TB) *Registry {
	t.Helper()
	return Start(t, Options{Referrers: true})
}

// Seen is a request that passed.
type Seen struct {
	Method, Path string
	Status       int
	// Sent and Received are the bytes of bodies, as the client sees them.
	Sent, Received int64
}

// Blob says that it was about a blob.
func (s Seen) Blob() bool { return strings.Contains(s.Path, "/blobs/") }

// Fault answers in the registry's place, or returns false to let the registry answer.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Down is the Fault of a registry that is away.
func Down(w http.ResponseWriter, _ *http.Request) bool {
	http.Error(w, "down", http.StatusServiceUnavailable)
	return true
}

// Registry is a registry that runs.
type Registry struct {
	testing.TB
	// Host is where clients reach it.
	Host   string
	server *httptest.Server
	// backend is the registry itself, behind what counts and misbehaves.
	backend http.Handler
	tokens  *tokens
	auth    string

	mu    sync.Mutex
	fault Fault
	seen  []Seen
}

// Start starts a registry; it is gone when the test is over.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	r := &Registry{TB: t, auth: o.Auth}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if o.TLS {
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	r.Host = r.server.Listener.Addr().String()
	if o.Referrers {
		r.backend = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	} else {
		r.backend = r.run(o)
	}
	return r
}

// run starts the program, waits until it answers, and returns the way to it. It listens at a socket in the file system: a port that
// is free now may be somebody else's by the time it is taken.
func (r *Registry) run(o Options) http.Handler {
	r.Helper()
	dir := r.TempDir()
	short, err := os.MkdirTemp("", "registry") // a socket's path has 107 bytes at most
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = os.RemoveAll(short) })
	socket := filepath.Join(short, "socket")
	config := map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": filepath.Join(dir, "data")}, "delete": map[string]any{"enabled": true}},
		"http":    map[string]any{"net": "unix", "addr": socket, "relativeurls": true},
	}
	switch r.auth {
	case Htpasswd:
		config["auth"] = map[string]any{Htpasswd: map[string]any{"realm": "test", "path": r.write(dir, "htpasswd", User+":"+hash+"\n")}}
	case Token:
		r.tokens = newTokens(r)
		config["auth"] = map[string]any{Token: map[string]any{
			"realm": r.server.URL + tokenPath, "service": service, "issuer": issuer, "rootcertbundle": r.write(dir, "tokens.pem", r.tokens.certificate()),
		}}
	}
	text, err := json.Marshal(config) // which is YAML
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.Command(program(r), "serve", r.write(dir, "config.yml", string(text)))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or it says why
		close(ended)
	}()
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	r.Cleanup(func() {
		way.CloseIdleConnections()
		_ = cmd.Process.Kill()
		<-ended
	})
	ctx, cancel := context.WithTimeout(r.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answers(ctx, way) {
		select {
		case <-ended:
			r.Fatalf("docker-registry ended: %s", said.String())
		case <-ctx.Done():
			r.Fatalf("docker-registry does not answer")
		case <-tick.C:
		}
	}
	return &httputil.ReverseProxy{Transport: way, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: r.Host})
		p.Out.Host = r.Host
		if o.TLS {
			p.Out.Header.Set("X-Forwarded-Proto", "https")
		}
	}}
}

func (r *Registry) write(dir, file, text string) string {
	r.Helper()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
	return path
}

func answers(ctx context.Context, way http.RoundTripper) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry/v2/", nil)
	if err != nil {
		return false
	}
	response, err := way.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK || response.StatusCode == http.StatusUnauthorized
}

// program is Debian's docker-registry.
func program(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	cmd := exec.Command(filepath.Join(dir, "hack", "engine.sh"), "registry")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker-registry: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// CA is the certificate (PEM) of who vouches for the registry's.
func (r *Registry) CA() []byte {
	if r.server.Certificate() == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// DockerConfig is the content of a project's registry Secret with the account.
func (r *Registry) DockerConfig() []byte { return DockerConfig(r.Host, User, Password) }

// DockerConfig is the content of a Secret of type kubernetes.io/dockerconfigjson.
func DockerConfig(host, user, password string) []byte {
	return fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)
}

// Misbehave makes it answer with fault; nil makes it good again.
func (r *Registry) Misbehave(fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Take returns what passed since the last time.
func (r *Registry) Take() []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	r.seen = nil
	return out
}

// Tokens is how many tokens were given out.
func (r *Registry) Tokens() int64 { return r.tokens.given.Load() }

// ExpireTokens makes every token that was given out worthless.
func (r *Registry) ExpireTokens() { r.tokens.expire() }

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	own := req.Header.Get(ours) != ""
	if own {
		fault = nil
	}
	out := &counter{ResponseWriter: w, status: http.StatusOK}
	in := &countingBody{ReadCloser: req.Body}
	req.Body = in
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if own {
			return
		}
		r.seen = append(r.seen, Seen{Method: req.Method, Path: req.URL.Path, Status: out.status, Sent: in.n, Received: out.n})
	}()
	switch {
	case fault != nil && fault(out, req):
	case r.tokens != nil && req.URL.Path == tokenPath:
		r.tokens.serve(out, req)
	default:
		r.Forward(out, req)
	}
}

// Forward has the registry answer.
func (r *Registry) Forward(w http.ResponseWriter, req *http.Request) {
	if r.tokens != nil && r.tokens.expired(req) { // as one whose time is over is treated
		req.Header.Set("Authorization", "Bearer expired")
	}
	r.backend.ServeHTTP(w, req)
}

type counter struct {
	http.ResponseWriter
	status int
	n      int64
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

type countingBody struct {
	io.ReadCloser
	n int64
}

func (c *countingBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// Push pushes an image for two architectures, of which no two are the same, and returns the digest of its index.
func (r *Registry) Push(repository, tag string) string {
	r.Helper()
	return r.pushIndex(repository, tag, func() (v1.Image, error) { return random.Image(4096, 2) })
}

// Layer is one of random bytes, which images of several releases may share.
func Layer(t testing.TB, size int64) v1.Layer {
	t.Helper()
	layer, err := random.Layer(size, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// PushLayers pushes an image for two architectures, each with the layers and one of size bytes of its own, and returns the
// digest of its index.
func (r *Registry) PushLayers(repository, tag string, size int64, layers ...v1.Layer) string {
	r.Helper()
	return r.pushIndex(repository, tag, func() (v1.Image, error) {
		return mutate.AppendLayers(empty.Image, append(slices.Clone(layers), Layer(r, size))...)
	})
}

// pushIndex pushes an image for two architectures, each of them a new one.
func (r *Registry) pushIndex(repository, tag string, image func() (v1.Image, error)) string {
	r.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range []string{"amd64", "arm64"} {
		platform, err := image()
		if err != nil {
			r.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: platform, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	if err := remote.WriteIndex(r.Ref(repository, tag), index, r.options()...); err != nil {
		r.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		r.Fatal(err)
	}
	return digest.String()
}

// Pull reads an image for every architecture with all of its layers, as hosts do, and fails if anything is missing or other
// than its digest says.
func (r *Registry) Pull(repository, digest string) {
	r.Helper()
	ref, err := name.NewDigest(r.Host + "/" + repository + "@" + digest)
	if err != nil {
		r.Fatal(err)
	}
	index, err := remote.Index(ref, r.options()...)
	if err != nil {
		r.Fatal(err)
	}
	names, err := index.IndexManifest()
	if err != nil {
		r.Fatal(err)
	}
	for _, named := range names.Manifests {
		image, err := index.Image(named.Digest)
		if err != nil {
			r.Fatal(err)
		}
		if _, err := image.RawConfigFile(); err != nil {
			r.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil {
			r.Fatal(err)
		}
		for _, layer := range layers {
			r.read(layer)
		}
	}
}

// read reads a layer to its end, where the library compares it with its digest.
func (r *Registry) read(layer v1.Layer) {
	r.Helper()
	content, err := layer.Compressed()
	if err != nil {
		r.Fatal(err)
	}
	defer content.Close()
	if _, err := io.Copy(io.Discard, content); err != nil {
		r.Fatal(err)
	}
}

// Has says whether a repository has a manifest of a digest.
func (r *Registry) Has(repository, digest string) bool {
	r.Helper()
	ref, err := name.NewDigest(r.Host + "/" + repository + "@" + digest)
	if err != nil {
		r.Fatal(err)
	}
	_, err = remote.Head(ref, r.options()...)
	return err == nil
}

// Digest is what a tag names; "" when it names nothing.
func (r *Registry) Digest(repository, tag string) string {
	r.Helper()
	described, err := remote.Head(r.Ref(repository, tag), r.options()...)
	if err != nil {
		return ""
	}
	return described.Digest.String()
}

// Delete deletes a tag as a clean-up does that was told to; what it named goes with it where nothing else names it.
func (r *Registry) Delete(repository, digest string) {
	r.Helper()
	ref, err := name.NewDigest(r.Host + "/" + repository + "@" + digest)
	if err != nil {
		r.Fatal(err)
	}
	if err := remote.Delete(ref, r.options()...); err != nil {
		r.Fatal(err)
	}
}

// Ref is a tag in the registry.
func (r *Registry) Ref(repository, tag string) name.Tag {
	r.Helper()
	ref, err := name.NewTag(r.Host + "/" + repository + ":" + tag)
	if err != nil {
		r.Fatal(err)
	}
	return ref
}

// ours marks the requests of the test itself, which no fault meets and nobody counts.
const ours = "Sirrat-Test"

type marking struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (m marking) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(ours, "1")
	return m.RoundTripper.RoundTrip(r)
}

// options of who pushes and looks.
func (r *Registry) options() []remote.Option {
	roots := x509.NewCertPool()
	if r.server.Certificate() != nil {
		roots.AddCert(r.server.Certificate())
	}
	options := []remote.Option{remote.WithTransport(marking{&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}})}
	if r.auth != Anonymous {
		options = append(options, remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
	}
	return options
}
