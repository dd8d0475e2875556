// SPDX-License-Identifier: Apache-2.0

// Package enginetest gives the agent's tests a real Docker engine, a registry of their own and images that misbehave on
// demand. It is imported by tests only.
package enginetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/client"
)

// Deadline of everything that a test waits for.
const Deadline = 5 * time.Minute

// Prefix of every compose project that tests make.
const Prefix = "sirrat-agenttest-"

// Engine returns a client of the engine. Without one the test fails, unless it runs with -short, and then is skipped.
func Engine(t testing.TB) *client.Client {
	t.Helper()
	options := []client.Opt{client.FromEnv}
	c, err := client.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		if testing.Short() {
			t.Skip("no Docker engine answers: ", err)
		}
		t.Fatal("these tests need a Docker engine ($DOCKER_HOST or the default socket), or -short: ", err)
	}
	return c
}

// Project returns a name for a compose project and removes all of it, volumes included, when the test is over.
func Project(t testing.TB, engine *client.Client) string {
	t.Helper()
	project := fmt.Sprintf("%s%08x", Prefix, rand.Uint32())
	t.Cleanup(func() { Remove(t, engine, project) })
	return project
}

// Remove removes the containers, networks and volumes of a compose project.
func Remove(t testing.TB, engine *client.Client, project string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	filters := client.Filters{}.Add("label", "com.docker.compose.project="+project)
	containers, err := engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		t.Error(err)
	}
	for _, c := range containers.Items {
		if _, err := engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Log("remove container: ", err)
		}
	}
	networks, err := engine.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		t.Error(err)
	}
	for _, n := range networks.Items {
		if _, err := engine.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil {
			t.Log("remove network: ", err)
		}
	}
	volumes, err := engine.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	if err != nil {
		t.Error(err)
	}
	for _, v := range volumes.Items {
		if _, err := engine.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true}); err != nil {
			t.Log("remove volume: ", err)
		}
	}
}

// Registry is a registry in this process.
type Registry struct {
	Host   string
	engine *client.Client
	// Requests counts what it was asked for.
	Requests atomic.Int64
	// Broken makes it answer 500.
	Broken atomic.Bool
	// Slow is a wait before each blob, in nanoseconds.
	Slow atomic.Int64
	// Answer comes before the registry when it is set: it says whether it has answered.
	Answer atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// pushed are the images that the engine may have pulled from here.
	pushed []string
}

// NewRegistry starts a registry on 127.0.0.1, from which engines pull without TLS. It is to be made before the projects
// that use its images, so that it is cleaned up after them.
func NewRegistry(t testing.TB, engine *client.Client) *Registry {
	t.Helper()
	r := &Registry{engine: engine}
	closing := make(chan struct{})
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodGet {
			r.Requests.Add(1)
			if answer := r.Answer.Load(); answer != nil && (*answer)(w, request) {
				return
			}
			if r.Broken.Load() {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			if strings.Contains(request.URL.Path, "/blobs/") {
				select {
				case <-time.After(time.Duration(r.Slow.Load())):
				case <-request.Context().Done():
				case <-closing:
				}
			}
		}
		handler.ServeHTTP(w, request)
	}))
	t.Cleanup(func() {
		close(closing)
		server.CloseClientConnections()
		server.Close()
		for _, image := range r.pushed { // last of all: containers that use an image would keep it as a nameless one
			_, _ = engine.ImageRemove(context.Background(), image, client.ImageRemoveOptions{Force: true})
		}
	})
	r.Host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// Answers sets what comes before the registry; nil for nothing.
func (r *Registry) Answers(f func(http.ResponseWriter, *http.Request) bool) {
	if f == nil {
		r.Answer.Store(nil)
		return
	}
	r.Answer.Store(&f)
}

// Remove removes an image from the engine with the registry.
func (r *Registry) Remove(image string) { r.pushed = append(r.pushed, image) }

// Image pushes an image of the test application with an environment, and returns it by digest. It is removed from the
// engine with the registry.
func (r *Registry) Image(t testing.TB, repository string, env ...string) string {
	t.Helper()
	return r.imageOf(t, repository, appLayer(t), []string{"/app"}, goarch(), 0, env)
}

// ImageFor pushes an image that claims to be for an architecture, with padding that does not compress.
func (r *Registry) ImageFor(t testing.TB, repository, architecture string, padding int64, env ...string) string {
	t.Helper()
	return r.imageOf(t, repository, appLayer(t), []string{"/app"}, architecture, padding, env)
}

// Index pushes an index of images of the test application, one for each architecture, whose VERSION is that of the index and the
// architecture ("1-amd64"), and returns it by digest.
func (r *Registry) Index(t testing.TB, repository, version string, architectures ...string) string {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range architectures {
		image := makeImage(t, appLayer(t), []string{"/app"}, architecture, 0, []string{"VERSION=" + version + "-" + architecture})
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	ref := r.reference(t, repository)
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return r.pinned(ref, digest)
}

// imageOf pushes an image and returns it by digest.
func (r *Registry) imageOf(t testing.TB, repository string, content []byte, entrypoint []string, architecture string, padding int64, env []string) string {
	t.Helper()
	image, ref := makeImage(t, content, entrypoint, architecture, padding, env), r.reference(t, repository)
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return r.pinned(ref, digest)
}

func (r *Registry) reference(t testing.TB, repository string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(r.Host+"/"+repository+":latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pinned notes what was pushed, and names it by its digest.
func (r *Registry) pinned(ref name.Reference, digest v1.Hash) string {
	pinned := ref.Context().Name() + "@" + digest.String()
	r.pushed = append(r.pushed, pinned)
	return pinned
}

// makeImage makes an image that claims to be for an architecture.
func makeImage(t testing.TB, content []byte, entrypoint []string, architecture string, padding int64, env []string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if padding > 0 {
		pad := padLayer(t, padding)
		if image, err = mutate.AppendLayers(image, pad); err != nil {
			t.Fatal(err)
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	file.Config = v1.Config{Entrypoint: entrypoint, Env: slices.Concat(env, []string{fmt.Sprintf("UNIQUE=%x", rand.Uint64())})}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	return image
}

// Altered pushes a manifest that is another one's with something changed, and returns it by digest. Its layers need not be
// there.
func (r *Registry) Altered(t testing.TB, image string, change func(manifest map[string]any)) string {
	t.Helper()
	ref, err := name.NewDigest(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	descriptor, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest := map[string]any{}
	if err := json.Unmarshal(descriptor.Manifest, &manifest); err != nil {
		t.Fatal(err)
	}
	change(manifest)
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	url := "http://" + r.Host + "/v2/" + ref.Context().RepositoryStr() + "/manifests/" + digest
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	mediaType, _ := manifest["mediaType"].(string)
	request.Header.Set("Content-Type", mediaType)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("push of a manifest: %s", answer.Status)
	}
	pinned := ref.Context().Name() + "@" + digest
	r.pushed = append(r.pushed, pinned)
	return pinned
}

// padLayer is a layer of random bytes, of about that size.
func padLayer(t testing.TB, size int64) v1.Layer {
	t.Helper()
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	var content bytes.Buffer
	packed, err := gzip.NewWriterLevel(&content, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(packed)
	if err = w.WriteHeader(&tar.Header{Name: "padding", Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err == nil {
		_, err = io.CopyN(w, rand.NewChaCha8(seed), size)
	}
	if err := errors.Join(err, w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// Ports that nothing is given by chance: below those of Linux's default ip_local_port_range, from which outgoing connections
// and listeners on port 0 take theirs.
const lowestPort, highestPort = 10_000, 32_000

var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(highestPort - lowestPort)) }

// FreePort returns a port of 127.0.0.1 that is free now and that no other caller was given.
func FreePort(t testing.TB) int {
	t.Helper()
	for range highestPort - lowestPort {
		port := lowestPort + int(nextPort.Add(1)%(highestPort-lowestPort))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // somebody has it
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no port is free")
	return 0
}

// Wait polls check until it returns nil, and fails the test with its last error when Deadline has passed.
func Wait(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Get returns what a server answers.
func Get(url string) (string, error) {
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

var app struct {
	once  sync.Once
	layer []byte
	err   error
}

// appLayer is a layer with the test application, built once per process.
func appLayer(t testing.TB) []byte {
	t.Helper()
	app.once.Do(func() { app.layer, app.err = buildLayer() })
	if app.err != nil {
		t.Fatal(app.err)
	}
	return app.layer
}

// Architecture of the engine's machine, as images name it.
func Architecture() string { return goarch() }

func goarch() string {
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		return "amd64"
	}
	return strings.TrimSpace(string(out))
}

func buildLayer() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sirrat-testapp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "gitlab.com/dynors/sirrat/agent/internal/testapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the test application: %w: %s", err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, header := range []*tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))},
	} {
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	for _, name := range []string{"sh", "pg_isready", "redis-cli", "mysqladmin", "rabbitmq-diagnostics", "curl", "wget"} {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "/app", Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}
