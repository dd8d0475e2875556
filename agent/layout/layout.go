// SPDX-License-Identifier: Apache-2.0

// Package layout serves the images of an unpacked bundle to the engine of the same server, as a registry on the loopback
// interface that knows every blob by its digest and nothing else. The engine pulls from it by digest, and so checks for itself
// that it gets what was authorised; it talks to registries on loopback addresses without TLS.
//
// Nobody gets anything without a password that is made anew for each bundle. It may import the standard library and
// internal/offline.
package layout

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/internal/offline"
)

// Port that is taken when it is free, so that an image has the same local name with each bundle. Another one does as well.
const Port = 24787

// user of the registry; the password is what counts.
const user = "sirrat"

// Bounds of a request.
const (
	headerTimeout = 10 * time.Second
	maxHeader     = 16 << 10
)

// Registry that serves one bundle.
type Registry struct {
	host     string
	password string
	dir      string
	server   *http.Server
}

// Open serves the blobs of a folder, each in a file called by the digits of its digest, until Close.
func Open(ctx context.Context, dir string) (*Registry, error) {
	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(Port)))
	if err != nil {
		listener, err = listening.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("serve the bundle's images to the engine: %w", err)
	}
	r := &Registry{host: listener.Addr().String(), password: rand.Text(), dir: dir}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader}
	go func() { _ = r.server.Serve(listener) }() // ends with Close
	return r, nil
}

// Close ends the registry and the connections to it.
func (r *Registry) Close() error { return r.server.Close() }

// Host is its address.
func (r *Registry) Host() string { return r.host }

// Local is what a pinned image is called in a registry on this server: the path of its repository, and the same digest.
func Local(host, pinned string) string {
	repository, digest, _ := strings.Cut(pinned, "@")
	if domain, path, found := strings.Cut(repository, "/"); found && (strings.ContainsAny(domain, ".:") || domain == "localhost") {
		repository = path
	}
	return host + "/" + repository + "@" + digest
}

// Default is what a pinned image is called when the usual port was free.
func Default(pinned string) string { return Local("127.0.0.1:"+strconv.Itoa(Port), pinned) }

// Credentials for it, as a dockerconfigjson.
func (r *Registry) Credentials() ([]byte, error) {
	entry := map[string]string{"username": user, "password": r.password}
	return json.Marshal(map[string]any{"auths": map[string]any{r.host: entry}})
}

// object is the path of a manifest or blob.
var object = regexp.MustCompile(`^/v2/[a-z0-9._/-]+/(manifests|blobs)/sha256:([0-9a-f]{64})$`)

// ServeHTTP answers what an engine asks for when it pulls by digest.
func (r *Registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	name, password, _ := request.BasicAuth()
	if name != user || subtle.ConstantTimeCompare([]byte(password), []byte(r.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="sirrat"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"only the engine may pull here"}]}`, http.StatusUnauthorized)
		return
	}
	if request.Method != http.MethodGet && request.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if request.URL.Path == "/v2/" {
		_, _ = w.Write([]byte("{}"))
		return
	}
	match := object.FindStringSubmatch(request.URL.Path)
	if match == nil {
		http.NotFound(w, request)
		return
	}
	r.serve(w, request, match[1] == "manifests", match[2])
}

func (r *Registry) serve(w http.ResponseWriter, request *http.Request, manifest bool, digits string) {
	path := filepath.Join(r.dir, digits)
	file, err := os.Open(path)
	if err != nil {
		http.NotFound(w, request)
		return
	}
	defer file.Close()
	w.Header().Set("Docker-Content-Digest", "sha256:"+digits)
	w.Header().Set("Content-Type", "application/octet-stream")
	if manifest {
		text, err := os.ReadFile(path)
		if err != nil {
			http.NotFound(w, request)
			return
		}
		mediaType, err := offline.MediaTypeOf(text)
		if err != nil {
			http.NotFound(w, request)
			return
		}
		w.Header().Set("Content-Type", mediaType)
	}
	http.ServeContent(w, request, "", time.Time{}, file)
}
