// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"gitlab.com/dynors/sirrat/test/testbed"
)

// hub is a registry in this process that engines of one namespace reach, and that misbehaves on demand.
type hub struct {
	testing.TB
	host    string
	handler http.Handler

	mu sync.Mutex
	// fault answers reads in the handler's place; it returns false to let the handler answer.
	fault func(w http.ResponseWriter, r *http.Request) bool
	asked map[string]int
}

func newHub(t testing.TB, n *testbed.Namespace) *hub {
	t.Helper()
	listener := n.Listen(t)
	h := &hub{TB: t, host: listener.Addr().String(), handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), asked: map[string]int{}}
	server := &http.Server{Handler: http.HandlerFunc(h.serve), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return h
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	fault := h.fault
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		h.asked[r.URL.Path]++
	}
	h.mu.Unlock()
	if fault == nil || !fault(w, r) {
		h.handler.ServeHTTP(w, r)
	}
}

// misbehave makes the registry answer reads of engines with fault, nil to be good again.
func (h *hub) misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// requests that came so far.
func (h *hub) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, count := range h.asked {
		n += count
	}
	return n
}

// image pushes an image of the test application with an environment, and size random bytes beside it, and returns it by
// digest. platform is linux and this machine's architecture unless change says otherwise.
func (h *hub) image(repository string, size int, env ...string) string {
	h.Helper()
	return h.push(repository, size, func(file *v1.ConfigFile) { file.Config.Env = append(file.Config.Env, env...) })
}

func (h *hub) push(repository string, size int, change func(*v1.ConfigFile)) string {
	h.Helper()
	layers := [][]byte{testbed.Layer(h, "app", 0o755, built.App)}
	if size > 0 {
		content := make([]byte, size)
		fill(content)
		layers = append(layers, testbed.Layer(h, "ballast", 0o644, content))
	}
	return h.publish(repository, testbed.Image(h, layers, change))
}

// publish pushes an image.
func (h *hub) publish(repository string, image v1.Image) string {
	h.Helper()
	ref, err := name.ParseReference(h.host+"/"+repository+":latest", name.Insecure)
	if err != nil {
		h.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithTransport(direct{h})); err != nil {
		h.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		h.Fatal(err)
	}
	return ref.Context().Name() + "@" + digest.String()
}

// fill writes bytes that do not compress.
func fill(content []byte) {
	source := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	_, _ = source.Read(content) // never fails
}

// direct pushes to a hub without the network, past its faults.
type direct struct{ hub *hub }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &recorder{header: http.Header{}, code: http.StatusOK}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	d.hub.handler.ServeHTTP(answer, r)
	return &http.Response{
		StatusCode: answer.code, Status: http.StatusText(answer.code), Header: answer.header, Request: r,
		Body: io.NopCloser(bytes.NewReader(answer.body.Bytes())), ContentLength: int64(answer.body.Len()), ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// recorder is a response that is kept.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// isBlob and isManifest say what a request is for.
func isBlob(r *http.Request) bool     { return strings.Contains(r.URL.Path, "/blobs/") }
func isManifest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }

// isLayer says that an engine pulls: the agent only looks at manifests and configurations.
func isLayer(r *http.Request) bool { return isBlob(r) && r.Header.Get("User-Agent") != agentsName }

// agentsName is what the agent calls itself to registries.
const agentsName = "sirrat-agent"

// connection of the client of a response, taken over.
func hijack(w http.ResponseWriter) net.Conn {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	return connection
}

// errorCodes of the registry's API.
var errorCodes = map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS", 500: "UNKNOWN"}

// refuse answers what is chosen with a status and headers ("Name: value").
func refuse(which func(*http.Request) bool, code int, headers ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !which(r) {
			return false
		}
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"the registry says no"}]}`, errorCodes[code])
		return true
	}
}

// hold keeps what is chosen waiting until ctx ends or the client goes.
func hold(ctx context.Context, which func(*http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if !which(r) {
			return false
		}
		select {
		case <-ctx.Done():
		case <-r.Context().Done():
		}
		return false
	}
}

// pushPlain is image with layers of size bytes each that are pushed as they are, one after the other.
func (h *hub) pushPlain(repository string, size, layers int, env ...string) string {
	h.Helper()
	contents := [][]byte{testbed.Layer(h, "app", 0o755, built.App)}
	for i := range layers {
		content := make([]byte, size)
		fill(content)
		contents = append(contents, testbed.Layer(h, fmt.Sprint("ballast", i), 0o644, content))
	}
	image := empty.Image
	for _, content := range contents {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(content, layerType)); err != nil {
			h.Fatal(err)
		}
	}
	return h.publish(repository, testbed.Configured(h, image, func(file *v1.ConfigFile) { file.Config.Env = append(file.Config.Env, env...) }))
}
