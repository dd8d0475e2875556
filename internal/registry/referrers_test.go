// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// counter counts the requests of a client.
type counter struct {
	mu   sync.Mutex
	seen []string
}

func (c *counter) RoundTrip(q *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.seen = append(c.seen, q.Method+" "+q.URL.Path)
	c.mu.Unlock()
	return http.DefaultTransport.RoundTrip(q)
}

// take returns what was asked since the last time.
func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.seen
	c.seen = nil
	return out
}

func client(t *testing.T) (*Client, *counter) {
	t.Helper()
	c, err := New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &counter{}
	c.transport = n
	return c, n
}

const testType = "application/vnd.sirrat.test.v1"

func note(text string) Artifact {
	return Artifact{Type: testType, Layers: []ArtifactLayer{{MediaType: "text/plain", Data: []byte(text)}}}
}

// What is attached is found again, once, with and without the registry's help.
func TestAttach(t *testing.T) {
	for what, start := range map[string]func(testing.TB) *registrytest.Registry{"referrers": registrytest.InProcess, "fallback tag": registrytest.Debian} {
		t.Run(what, func(t *testing.T) {
			r := start(t)
			digest, other := r.Push("shop/backend", "dev"), r.Push("shop/backend", "other")
			repository := r.Host + "/shop/backend"
			c, requests := client(t)

			first, added, err := c.Attach(t.Context(), repository, digest, note("one"))
			if err != nil || !added {
				t.Fatal(added, err)
			}
			t.Logf("first attachment: %d requests", len(requests.take()))
			if _, added, err = c.Attach(t.Context(), repository, digest, note("two")); err != nil || !added {
				t.Fatal(added, err)
			}
			seen := requests.take()
			t.Logf("second attachment: %d requests", len(seen))
			tagged := slices.ContainsFunc(seen, func(s string) bool { return strings.HasSuffix(s, "/sha256-"+strings.TrimPrefix(digest, "sha256:")) })
			if tagged != (what == "fallback tag") {
				t.Errorf("requests %q", seen)
			}
			again, added, err := c.Attach(t.Context(), repository, digest, note("one"))
			if err != nil || added || again != first {
				t.Errorf("the same again: %s, added %t, %v; the first is %s", again, added, err, first)
			}
			seen = requests.take()
			t.Logf("the same attachment again: %d requests", len(seen))
			for _, q := range seen {
				if !strings.HasPrefix(q, "GET ") && !strings.HasPrefix(q, "HEAD ") {
					t.Errorf("the same attachment again wrote: %s", q)
				}
			}

			if _, _, err := c.Attach(t.Context(), repository, other, note("of the other")); err != nil {
				t.Fatal(err)
			}
			found, complete, err := c.Attached(t.Context(), repository, digest, testType)
			if err != nil || !complete || len(found) != 2 {
				t.Fatalf("%+v, complete %t, %v", found, complete, err)
			}
			var texts []string
			for _, a := range found {
				if a.Problem != nil || a.Type != testType || len(a.Layers) != 1 {
					t.Fatalf("%+v", a)
				}
				texts = append(texts, string(a.Layers[0].Data))
			}
			if slices.Sort(texts); !slices.Equal(texts, []string{"one", "two"}) {
				t.Errorf("attached are %q", texts)
			}
			if found, _, err := c.Attached(t.Context(), repository, digest, "application/vnd.something.else"); err != nil || len(found) > 0 {
				t.Errorf("of another type: %+v, %v", found, err)
			}
		})
	}
}

// A list that somebody else wrote over is noticed, and the next try mends it.
func TestAttachIsNotListed(t *testing.T) {
	r := registrytest.Debian(t)
	digest := r.Push("shop/backend", "dev")
	var lose atomic.Bool
	r.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != http.MethodPut || !strings.Contains(q.URL.Path, "/manifests/sha256-") || !lose.CompareAndSwap(true, false) {
			return false
		}
		w.WriteHeader(http.StatusCreated)
		return true
	})
	c, _ := client(t)
	lose.Store(true)
	if _, _, err := c.Attach(t.Context(), r.Host+"/shop/backend", digest, note("one")); !errors.Is(err, errNotListed) {
		t.Fatalf("error %v", err)
	}
	if _, added, err := c.Attach(t.Context(), r.Host+"/shop/backend", digest, note("one")); err != nil || !added {
		t.Fatal(added, err)
	}
	if found, _, err := c.Attached(t.Context(), r.Host+"/shop/backend", digest, testType); err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Nothing is attached to an image that is not there, and what cannot be read is told for what it is.
func TestAttachedThatCannotBeRead(t *testing.T) {
	r := registrytest.InProcess(t)
	digest := r.Push("shop/backend", "dev")
	repository := r.Host + "/shop/backend"
	c, _ := client(t)
	if _, _, err := c.Attach(t.Context(), repository, "sha256:"+strings.Repeat("0", 64), note("x")); err == nil || !strings.Contains(err.Error(), "not in the registry") {
		t.Errorf("attached to nothing: %v", err)
	}
	if found, complete, err := c.Attached(t.Context(), repository, digest, testType); err != nil || len(found) > 0 || !complete {
		t.Errorf("nothing is attached: %+v, %v", found, err)
	}
	subject, err := name.NewDigest(repository + "@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	for name, layer := range map[string]ArtifactLayer{
		"too large": {MediaType: "text/plain", Data: bytes.Repeat([]byte("x"), maxArtifactLayer+1)},
	} {
		if _, _, err := c.Attach(t.Context(), repository, digest, Artifact{Type: testType, Layers: []ArtifactLayer{layer}}); err != nil {
			t.Fatal(name, err)
		}
	}
	// A manifest that says another size of a layer than it has.
	blob := static.NewLayer([]byte("hello"), "text/plain")
	if err := remote.WriteLayer(subject.Context(), blob); err != nil {
		t.Fatal(err)
	}
	hash, err := blob.Digest()
	if err != nil {
		t.Fatal(err)
	}
	lie := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":%q,"config":{"mediaType":%q,"digest":%q,"size":5},`+
		`"layers":[{"mediaType":"text/plain","digest":%q,"size":7}],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":1}}`,
		testType, emptyConfigType, hash, hash, digest)
	tag, err := name.NewTag(repository + ":lie")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Put(tag, rawManifest(lie)); err != nil {
		t.Fatal(err)
	}
	found, _, err := c.Attached(t.Context(), repository, digest, testType)
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	var said []string
	for _, a := range found {
		if a.Problem == nil {
			t.Errorf("%s was read", a.Digest)
			continue
		}
		said = append(said, a.Problem.Error())
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"a layer is larger than", "has another size than 7 bytes"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody says %q:\n%s", want, all)
		}
	}
}
