// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// listing answers what is attached with lists, page by page.
func listing(pages ...[]map[string]any) registrytest.Fault {
	return func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.Contains(q.URL.Path, "/referrers/") {
			return false
		}
		page := 0
		if q.URL.Query().Get("page") != "" {
			_, _ = fmt.Sscan(q.URL.Query().Get("page"), &page)
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		if page+1 < len(pages) {
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, q.URL.Path, page+1))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "manifests": pages[page]})
		return true
	}
}

// named are descriptors of artifacts that are not there.
func named(from, n int, typ string) []map[string]any {
	var out []map[string]any
	for i := range n {
		out = append(out, map[string]any{
			"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.FromString(fmt.Sprint(from + i)).String(), "size": 100, "artifactType": typ,
		})
	}
	return out
}

func wants(typ string) func(string) bool { return func(t string) bool { return t == typ } }

// Whatever a registry lists, a bounded part of it is read.
func TestEachAttachedIsBounded(t *testing.T) {
	r := registrytest.InProcess(t)
	image := r.Push("shop/backend", "dev")
	repository := r.Host + "/shop/backend"
	for what, c := range map[string]struct {
		fault    registrytest.Fault
		known    func(string) bool
		visited  int
		read     int
		complete bool
	}{
		"1000 of the type":     {listing(named(0, 1000, testType)), nil, 64, 64, false},
		"1000 that are known":  {listing(named(0, 1000, testType)), func(string) bool { return true }, 1000, 0, true},
		"1500":                 {listing(named(0, 1500, testType)), func(string) bool { return true }, 1000, 0, false},
		"1000 of another type": {listing(named(0, 1000, "text/plain")), nil, 0, 0, true},
		"two pages":            {listing(named(0, 3, testType), named(3, 4, testType)), nil, 7, 7, true},
		"the same twice":       {listing(named(0, 3, testType), named(0, 3, testType)), nil, 3, 3, true},
		"pages without end": {func(w http.ResponseWriter, q *http.Request) bool {
			q.URL.RawQuery = "page=0"
			return listing(named(0, 1, testType), nil)(w, q)
		}, nil, 1, 1, false},
	} {
		c2, requests := client(t)
		r.Misbehave(c.fault)
		visited := 0
		complete, err := c2.EachAttached(t.Context(), Query{Repository: repository, Digest: image, Wanted: wants(testType), Most: 64, Known: c.known}, func(a Artifact) bool {
			if visited++; c.known == nil && !errors.Is(a.Problem, ErrNotFound) {
				t.Errorf("%s: %+v", what, a)
			}
			return true
		})
		reads, lists := 0, 0
		for _, q := range requests.take() {
			if strings.Contains(q, "/manifests/") {
				reads++
			} else if strings.Contains(q, "/referrers/") {
				lists++
			}
		}
		if err != nil || visited != c.visited || reads != c.read || complete != c.complete || lists > maxPages {
			t.Errorf("%s: visited %d, %d reads, %d lists, complete %t, %v; want %+v", what, visited, reads, lists, complete, err, c)
		}
	}
}

// Visiting ends when it is told to, and one that serves too much or something else is told of without harm to the rest.
func TestEachAttachedEndsAndSurvives(t *testing.T) {
	r := registrytest.InProcess(t)
	image := r.Push("shop/backend", "dev")
	repository := r.Host + "/shop/backend"
	c, _ := client(t)
	for _, text := range []string{"one", "two", "three"} {
		if _, _, err := c.Attach(t.Context(), repository, image, note(text)); err != nil {
			t.Fatal(err)
		}
	}
	q := Query{Repository: repository, Digest: image, Wanted: wants(testType)}
	visited := 0
	if _, err := c.EachAttached(t.Context(), q, func(Artifact) bool { visited++; return visited < 2 }); err != nil || visited != 2 {
		t.Errorf("visited %d, %v", visited, err)
	}
	small := digest.FromString("one").String()
	for what, body := range map[string][]byte{"more than it said": bytes.Repeat([]byte("x"), maxArtifactLayer+10), "something else": []byte("1ne")} {
		r.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.HasSuffix(q.URL.Path, "/blobs/"+small) {
				return false
			}
			_, _ = w.Write(body)
			return true
		})
		good, bad := 0, 0
		if _, err := c.EachAttached(t.Context(), q, func(a Artifact) bool {
			if a.Problem != nil {
				t.Logf("%s: %v", what, a.Problem)
				bad++
			} else {
				good++
			}
			return true
		}); err != nil || good != 2 || bad != 1 {
			t.Errorf("%s: %d read, %d not, %v", what, good, bad, err)
		}
	}
	r.Misbehave(registrytest.Down)
	if _, err := c.EachAttached(t.Context(), q, func(Artifact) bool { return true }); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("of a registry that is down: %v", err)
	}
}

// under puts layers under a tag, as cosign does: each in a manifest of its own with those before it.
func under(t *testing.T, r *registrytest.Registry, tag string, layers ...ArtifactLayer) {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(l.Data, types.MediaType(l.MediaType)), Annotations: l.Annotations})
		if err != nil {
			t.Fatal(err)
		}
	}
	ref, err := name.NewTag(r.Host + "/shop/backend:" + tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

// numbered are layers of the same few bytes that differ in their annotations.
func numbered(n int) []ArtifactLayer {
	var out []ArtifactLayer
	for i := range n {
		out = append(out, ArtifactLayer{MediaType: testType, Annotations: map[string]string{"n": fmt.Sprint(i)}, Data: []byte("same")})
	}
	return out
}

// The layers under a tag are read with their annotations, the last first; nothing there is no error, what is known is not read
// again, and a bounded part is read of whatever lies there.
func TestEachTagged(t *testing.T) {
	r := registrytest.Debian(t)
	r.Push("shop/backend", "dev")
	under(t, r, "three.sig",
		ArtifactLayer{MediaType: testType, Annotations: map[string]string{"a": "b"}, Data: []byte("one")},
		ArtifactLayer{MediaType: "text/plain", Data: []byte("two")},
		ArtifactLayer{MediaType: testType, Data: bytes.Repeat([]byte("x"), maxArtifactLayer+1)})
	under(t, r, "forty.sig", numbered(40)...)
	under(t, r, "many.sig", numbered(maxTaggedLayers+5)...)
	all := func(string) bool { return true }
	for _, q := range []struct {
		tag, first        string
		known             func(string) bool
		most              int
		visited, problems int
		requests          int
		complete          bool
	}{
		{"nothing", "", nil, 64, 0, 0, 1, true},
		{"three.sig", "", nil, 64, 2, 1, 3, true}, // the one that is too large is not asked for
		{"three.sig", "", nil, 1, 1, 1, 2, false},
		{"three.sig", "", all, 64, 1, 0, 1, true}, // the manifest was known to be none
		{"forty.sig", "39", nil, 64, 40, 0, 3, true},
		{"forty.sig", "39", nil, 32, 32, 0, 3, false},
		{"many.sig", fmt.Sprint(maxTaggedLayers + 4), nil, 2000, maxTaggedLayers, 0, 3, false},
	} {
		c, requests := client(t)
		var visits []TaggedLayer
		problems := 0
		complete, err := c.EachTagged(t.Context(), TagQuery{
			Repository: r.Host + "/shop/backend", Tag: q.tag, Most: q.most, Known: q.known, Wanted: func(mediaType string, _ map[string]string) bool { return mediaType == testType },
		}, func(l TaggedLayer) bool {
			if visits = append(visits, l); l.Problem != nil {
				problems++
			}
			return true
		})
		seen := slices.DeleteFunc(requests.take(), func(asked string) bool { return asked == "GET /v2/" }) // who is there
		if err != nil || complete != q.complete || len(visits) != q.visited || problems != q.problems || len(seen) != q.requests {
			t.Errorf("%s: %d visits, %d problems, complete %t, %v, requests %q; want %+v", q.tag, len(visits), problems, complete, err, seen, q)
		}
		if q.first != "" && visits[0].Layer.Annotations["n"] != q.first {
			t.Errorf("%s: the first was %v", q.tag, visits[0].Layer.Annotations)
		}
		ids := map[string]bool{}
		for _, v := range visits {
			ids[v.ID] = true
		}
		if len(ids) != len(visits) {
			t.Errorf("%s: %d layers have %d ids", q.tag, len(visits), len(ids))
		}
	}
}

// Who reads on finds what was not read before, and one who has seen enough is not told more.
func TestEachTaggedGoesOn(t *testing.T) {
	r := registrytest.InProcess(t)
	r.Push("shop/backend", "dev")
	under(t, r, "x.sig", numbered(40)...)
	c, _ := client(t)
	seen, order := map[string]bool{}, []string{}
	q := TagQuery{Repository: r.Host + "/shop/backend", Tag: "x.sig", Most: 16, Known: func(id string) bool { return seen[id] }}
	for look := 1; ; look++ {
		complete, err := c.EachTagged(t.Context(), q, func(l TaggedLayer) bool {
			if !seen[l.ID] {
				seen[l.ID], order = true, append(order, l.Layer.Annotations["n"])
			}
			return true
		})
		if err != nil || complete != (look == 3) {
			t.Fatalf("look %d: complete %t, %v", look, complete, err)
		}
		if complete {
			break
		}
	}
	if len(order) != 40 || order[0] != "39" || order[39] != "0" {
		t.Errorf("read %q", order)
	}
	large := numbered(1)
	large[0].Annotations["certificate"] = strings.Repeat("x", maxTaggedManifest)
	under(t, r, "large.sig", large...)
	var told TaggedLayer
	complete, err := c.EachTagged(t.Context(), TagQuery{Repository: q.Repository, Tag: "large.sig", Most: 1}, func(l TaggedLayer) bool {
		told = l
		return true
	})
	if err != nil || !complete || told.Problem == nil || !strings.Contains(told.Problem.Error(), "cosign clean") || told.ID != told.Manifest {
		t.Errorf("of a manifest that is too large: %+v, %v", told, err)
	}
	visits := 0
	if _, err := c.EachTagged(t.Context(), q, func(TaggedLayer) bool { visits++; return visits < 3 }); err != nil || visits != 3 {
		t.Errorf("%d visits, %v", visits, err)
	}
	r.Misbehave(registrytest.Down)
	if _, err := c.EachTagged(t.Context(), q, func(TaggedLayer) bool { return true }); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("of a registry that is down: %v", err)
	}
}

// The same trouble has the same words each time: conditions, which are written when they change, would be written at every try.
func TestTroubleWithoutOurOwnPort(t *testing.T) {
	const there = "192.0.2.1:443"
	for want, failure := range map[string]func(port string) error{
		"read tcp 192.0.2.1:443: connection reset by peer": func(port string) error {
			return &net.OpError{Op: "read", Net: "tcp", Source: address("10.0.0.5:" + port), Addr: address(there), Err: errors.New("connection reset by peer")}
		},
		"read tcp [2001:db8::1]:443: i/o timeout": func(port string) error {
			return &net.OpError{Op: "read", Net: "tcp", Source: address("[::1]:" + port), Addr: address("[2001:db8::1]:443"), Err: errors.New("i/o timeout")}
		},
		"lookup registry.example on 10.96.0.10:53: read udp 10.96.0.10:53: i/o timeout": func(port string) error {
			return &net.DNSError{Name: "registry.example", Server: "10.96.0.10:53", Err: "read udp 10.0.0.5:" + port + "->10.96.0.10:53: i/o timeout"}
		},
	} {
		for _, port := range []string{"50001", "50002"} {
			p := unanswered(request{doing: "look"}, &url.Error{Op: "Get", URL: "https://" + there, Err: failure(port)}, callTimeout)
			if p.Text != want {
				t.Errorf("%q, want %q", p.Text, want)
			}
		}
	}
}

// address is one of a connection.
type address string

// Network implements net.Addr.
func (a address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }
