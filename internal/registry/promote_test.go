// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// repository of the tests, in any registry.
const repository = "supergest/backend"

func newClient(t *testing.T, r *registrytest.Registry) *registry.Client {
	t.Helper()
	c, err := registry.New(r.DockerConfig(), r.CA())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// traffic is what a step cost.
type traffic struct {
	manifests, blobs, logins int
	sent, received           int64
}

func cost(seen []registrytest.Seen) traffic {
	var sum traffic
	for _, s := range seen {
		switch {
		case s.Blob():
			sum.blobs++
		case strings.Contains(s.Path, "/manifests/"):
			sum.manifests++
		default:
			sum.logins++
		}
		sum.sent += s.Sent
		sum.received += s.Received
	}
	return sum
}

// TestBridgeMovesNoBlob promotes an image for two architectures through all tags of the bridge: two requests for each tag, and
// one for a tag that is there already.
func TestBridgeMovesNoBlob(t *testing.T) {
	for _, c := range []struct {
		name string
		o    registrytest.Options
	}{
		{"anonymous", registrytest.Options{}},
		{"htpasswd", registrytest.Options{Auth: registrytest.Htpasswd}},
		{"token", registrytest.Options{Auth: registrytest.Token}},
		{"token and a private authority", registrytest.Options{Auth: registrytest.Token, TLS: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := registrytest.Start(t, c.o)
			index := r.Push(repository, "dev-a1b2c3d")
			client := newClient(t, r)
			pinned, err := client.Pin(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
			if err != nil || pinned != index {
				t.Fatalf("pinned %s, %v, want the index %s", pinned, err, index)
			}
			first := cost(r.Take())
			t.Logf("%-20s %d manifest requests, %d blob requests, %d to log in, %d bytes sent, %d received", "freezing", first.manifests, first.blobs, first.logins, first.sent, first.received)
			for i, step := range []struct {
				tag   string
				moves bool
				want  int
			}{{"dev-a1b2c3d", true, 1}, {"rmoa-dynors-a1b2c3d", true, 2}, {"rmoa-client-a1b2c3d", true, 2}, {"v1.3.0", false, 2}, {"latest", true, 2}, {"v1.3.0", false, 1}} {
				tagging := registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: step.tag, Moves: step.moves}
				if err := client.Tag(t.Context(), tagging); err != nil {
					t.Fatal(err)
				}
				got := cost(r.Take())
				t.Logf("%-20s %d manifest requests, %d blob requests, %d to log in, %d bytes sent, %d received", step.tag, got.manifests, got.blobs, got.logins, got.sent, got.received)
				if got.manifests != step.want || got.blobs != 0 || i > 0 && got.logins != 0 {
					t.Errorf("%s took %+v, want %d requests and no blob", step.tag, got, step.want)
				}
				if named := r.Digest(repository, step.tag); named != index {
					t.Errorf("%s names %s, want the index %s", step.tag, named, index)
				}
			}
		})
	}
}

// TestManifestIsReadOnceAfterARestart: nothing is remembered, so the first tag takes one request more.
func TestManifestIsReadOnceAfterARestart(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	index := r.Push(repository, "dev-a1b2c3d")
	client := newClient(t, r)
	for _, step := range []struct {
		tag  string
		want int
	}{{"rmoa-dynors-a1b2c3d", 3}, {"rmoa-client-a1b2c3d", 2}} {
		if err := client.Tag(t.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: step.tag}); err != nil {
			t.Fatal(err)
		}
		if got := cost(r.Take()); got.manifests != step.want || got.blobs != 0 {
			t.Errorf("%s took %+v, want %d requests", step.tag, got, step.want)
		}
	}
}

// TestTagsThatAreTaken: a version never moves, whoever asks; what moves goes to the pinned digest, whatever was pushed since.
func TestTagsThatAreTaken(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd})
	other := r.Push(repository, "v1.3.0")
	ours := r.Push(repository, "dev-a1b2c3d")
	moved := r.Push(repository, "dev-a1b2c3d") // after the release was frozen
	client := newClient(t, r)
	tag := registry.Tagging{Repository: r.Host + "/" + repository, Digest: ours, Tag: "v1.3.0"}
	p := problem(t, client.Tag(t.Context(), tag), registry.KindTaken)
	for _, want := range []string{"v1.3.0", other, ours, "give the release another version", "tried again by itself"} {
		if !strings.Contains(p.Error(), want) {
			t.Errorf("%q does not say %q", p, want)
		}
	}
	for _, s := range r.Take() {
		if s.Method == http.MethodPut {
			t.Errorf("it was tried to write: %+v", s)
		}
	}
	if got := r.Digest(repository, "v1.3.0"); got != other {
		t.Errorf("the version names %s, want %s", got, other)
	}
	tag.Tag, tag.Moves = "dev-a1b2c3d", true
	if err := client.Tag(t.Context(), tag); err != nil {
		t.Fatal(err)
	}
	if got := r.Digest(repository, "dev-a1b2c3d"); got != ours {
		t.Errorf("the tag names %s, want the frozen %s and not %s", got, ours, moved)
	}
}

// TestTagsThatAreNotTold: a registry need not say what it stored, nor what a tag names when it is asked with HEAD: then it is looked up,
// and what it is then counts.
func TestTagsThatAreNotTold(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	other := r.Push(repository, "other")
	ours := r.Push(repository, "dev-a1b2c3d")
	client := newClient(t, r)
	tag := registry.Tagging{Repository: r.Host + "/" + repository, Digest: ours, Tag: "v1.3.0"}
	r.Misbehave(passed(http.MethodHead, "/manifests/", "Docker-Content-Digest", "")(r))
	if got, err := client.Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d"); err != nil || got != ours {
		t.Errorf("%s, %v", got, err)
	}
	r.Misbehave(stored("")(r))
	if err := client.Tag(t.Context(), tag); err != nil || r.Digest(repository, "v1.3.0") != ours {
		t.Errorf("%s, %v", r.Digest(repository, "v1.3.0"), err)
	}
	// Somebody else's by the time that it is looked up.
	r.Misbehave(through(r, http.MethodPut, "/manifests/", func(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
		w.Header().Del("Docker-Content-Digest")
		w.WriteHeader(whole.Code)
		r.Misbehave(passed(http.MethodHead, "/manifests/v1.4.0", "Docker-Content-Digest", other)(r))
	}))
	tag.Tag = "v1.4.0"
	if p := problem(t, client.Tag(t.Context(), tag), registry.KindMismatch); !strings.Contains(p.Error(), other) {
		t.Error(p)
	}
	r.Misbehave(passed(http.MethodHead, "/manifests/", "Docker-Content-Digest", "sha256:abc")(r))
	_, err := client.Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
	if p := problem(t, err, registry.KindMismatch); !strings.Contains(p.Error(), `names no digest but "sha256:abc"`) {
		t.Error(p)
	}
	r.Misbehave(passed(http.MethodHead, "/manifests/", "Docker-Content-Digest", other)(r))
	if _, err := client.Resolve(t.Context(), r.Host+"/"+repository+"@"+ours); err == nil {
		t.Error("a digest that was asked for is answered with another one")
	}
}

// TestOvertaken: what a tag goes to is asked once more when it is its turn; what is there already needs no asking.
func TestOvertaken(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	old := r.Push(repository, "latest")
	ours := r.Push(repository, "dev-a1b2c3d")
	client := newClient(t, r)
	asked := 0
	tag := registry.Tagging{Repository: r.Host + "/" + repository, Digest: ours, Tag: "latest", Moves: true, Overtaken: func() bool { asked++; return true }}
	if err := client.Tag(t.Context(), tag); !errors.Is(err, registry.ErrOvertaken) || asked != 1 || r.Digest(repository, "latest") != old {
		t.Errorf("%v, asked %d times, names %s", err, asked, r.Digest(repository, "latest"))
	}
	tag.Overtaken = func() bool { asked++; return false }
	for range 2 {
		if err := client.Tag(t.Context(), tag); err != nil || asked != 2 || r.Digest(repository, "latest") != ours {
			t.Errorf("%v, asked %d times, names %s", err, asked, r.Digest(repository, "latest"))
		}
	}
}

func problem(t *testing.T, err error, want registry.Kind) *registry.Problem {
	t.Helper()
	var p *registry.Problem
	if !errors.As(err, &p) || p.Kind != want {
		t.Fatalf("got %v, want a problem of kind %s", err, want)
	}
	if strings.Contains(err.Error(), registrytest.Password) {
		t.Errorf("the password is in %q", err)
	}
	return p
}

// TestManifestsOfAnotherType: what a manifest says of itself is what it is put as, whatever a proxy calls it.
func TestManifestsOfAnotherType(t *testing.T) {
	for _, told := range []string{"application/json", "", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json; charset=utf-8"} {
		r := registrytest.Debian(t)
		index := r.Push(repository, "dev-a1b2c3d")
		r.Misbehave(through(r, http.MethodGet, "/manifests/", func(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
			w.Header()["Content-Type"] = []string{told}
			_, _ = w.Write(whole.Body.Bytes())
		}))
		client := newClient(t, r)
		if err := client.Tag(t.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: "v1.3.0"}); err != nil {
			t.Errorf("%q: %v", told, err)
		}
		if got := r.Digest(repository, "v1.3.0"); got != index {
			t.Errorf("%q: the tag names %s, want %s", told, got, index)
		}
	}
}
