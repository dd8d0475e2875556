// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// mirrored is where the images go in the client's registry.
const mirrored = "client/supergest/backend"

func copying(from, to *registrytest.Registry, digest string) []registry.Copying {
	return []registry.Copying{{Source: from.Host + "/" + repository, Destination: to.Host + "/" + mirrored, Digest: digest}}
}

// uploaded are the layers that were sent somewhere, and their bytes.
func uploaded(seen []registrytest.Seen) (layers int, bytes int64) {
	for _, s := range seen {
		if s.Blob() && s.Method == http.MethodPut {
			layers++
			bytes += s.Sent
		}
	}
	return layers, bytes
}

// TestCopyMovesWhatIsMissing copies images for two architectures from a registry with tokens into one with passwords and a
// private authority: all of the first, of the second what it does not share with the first, and nothing when it is repeated.
func TestCopyMovesWhatIsMissing(t *testing.T) {
	from := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
	to := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd, TLS: true})
	base, runtime := registrytest.Layer(t, 300_000), registrytest.Layer(t, 200_000)
	first := from.PushLayers(repository, "dev-1111111", 50_000, base, runtime)
	second := from.PushLayers(repository, "dev-2222222", 50_000, base, runtime)
	source, destination := newClient(t, from), newClient(t, to)
	for _, step := range []struct {
		name, digest string
		layers       int // two shared, two of its own, two configurations
		min, max     int64
		asks         bool // the source
	}{
		{"first release", first, 6, 600_000, 620_000, true},
		{"second release, of the same base", second, 4, 100_000, 120_000, true},
		{"the second once more", second, 0, 0, 0, false},
		{"the first once more", first, 0, 0, 0, false},
	} {
		var last registry.Progress
		p, err := registry.Copy(t.Context(), source, destination, copying(from, to, step.digest), func(p registry.Progress) { last = p })
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		seen, asked := to.Take(), from.Take()
		layers, bytes := uploaded(seen)
		all, read := cost(seen), cost(asked)
		t.Logf("%-33s %d layers sent, %7d bytes; %2d requests to the destination, %2d to the source", step.name, layers, bytes, all.manifests+all.blobs+all.logins, read.manifests+read.blobs+read.logins)
		if layers != step.layers || bytes < step.min || bytes > step.max || p.Moved != bytes || len(asked) > 0 != step.asks {
			t.Errorf("%s: %d layers and %d bytes were sent (%d by its own account), %d requests to the source", step.name, layers, bytes, p.Moved, len(asked))
		}
		if p != last || p.Layers != 6 || p.LayersDone != 6 || p.BytesDone != p.Bytes || p.Bytes < 600_000 {
			t.Errorf("%s: progress ends with %+v, told %+v", step.name, p, last)
		}
		to.Pull(mirrored, step.digest)
	}
}

// TestCopyWithinARegistryMounts: no byte of a layer moves, with either way of logging in.
func TestCopyWithinARegistryMounts(t *testing.T) {
	for _, auth := range []string{registrytest.Htpasswd, registrytest.Token} {
		r := registrytest.Start(t, registrytest.Options{Auth: auth})
		digest := r.Push(repository, "dev-1111111")
		c := newClient(t, r)
		p, err := registry.Copy(t.Context(), c, c, copying(r, r, digest), nil)
		if err != nil {
			t.Fatal(err)
		}
		layers, bytes := uploaded(r.Take())
		t.Logf("%s: %d layers sent, %d bytes", auth, layers, bytes)
		if layers != 0 || bytes != 0 || p.Moved != 0 || p.LayersDone != p.Layers || p.Layers == 0 {
			t.Errorf("%s: %d layers and %d bytes were sent: %+v", auth, layers, bytes, p)
		}
		r.Pull(mirrored, digest)
	}
}

// TestLayersOfSeveralImagesAreSentOnce: what one repository of the destination has is mounted into the others.
func TestLayersOfSeveralImagesAreSentOnce(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	base := registrytest.Layer(t, 100_000)
	var images []registry.Copying
	for _, name := range []string{"backend", "frontend", "worker"} {
		digest := from.PushLayers(name, "dev-1111111", 1000, base)
		images = append(images, registry.Copying{Source: from.Host + "/" + name, Destination: to.Host + "/mirror/" + name, Digest: digest})
	}
	if _, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), images, nil); err != nil {
		t.Fatal(err)
	}
	if layers, bytes := uploaded(to.Take()); bytes > 150_000 {
		t.Errorf("%d layers and %d bytes were sent", layers, bytes)
	}
	for _, i := range images {
		to.Pull(strings.TrimPrefix(i.Destination, to.Host+"/"), i.Digest)
	}
}

// TestCopyStreams: memory does not grow with the layers.
func TestCopyStreams(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	const size = 48 << 20
	digest := from.PushLayers(repository, "dev-1111111", 1000, registrytest.Layer(t, size))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), copying(from, to, digest), nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes moved, %d allocated, the test's proxies included", p.Moved, allocated)
	if p.Moved < size || allocated > size/4 {
		t.Errorf("%d bytes moved and %d were allocated", p.Moved, allocated)
	}
}

// through lets a request of a method for what a path contains pass, and changes the answer.
func through(r *registrytest.Registry, method, path string, change func(w http.ResponseWriter, whole *httptest.ResponseRecorder, q *http.Request)) registrytest.Fault {
	return func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != method || !strings.Contains(q.URL.Path, path) {
			return false
		}
		whole := httptest.NewRecorder()
		r.Forward(whole, q)
		for name, values := range whole.Header() {
			w.Header()[name] = values
		}
		change(w, whole, q)
		return true
	}
}

// altered is an answer of which one byte is another.
func altered(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
	body := whole.Body.Bytes()
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	w.WriteHeader(whole.Code)
	_, _ = w.Write(body) // the client may have gone
}

// cut ends the connection in the middle of an answer.
func cut(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	panic(http.ErrAbortHandler)
}

// stop sends half of an answer, and nothing more until the client goes.
func stop(w http.ResponseWriter, whole *httptest.ResponseRecorder, q *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	<-q.Context().Done()
}

// halfRead takes half of an upload and then does something else.
func halfRead(then func(w http.ResponseWriter, q *http.Request)) registrytest.Fault {
	return func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != put || !strings.Contains(q.URL.Path, uploads) {
			return false
		}
		_, _ = io.CopyN(io.Discard, q.Body, q.ContentLength/2)
		then(w, q)
		return true
	}
}

const post, uploads, blobs = http.MethodPost, "/blobs/uploads/", "/blobs/sha256:"

const quota = "adding 20.3 MiB of storage resource, which when updated to current usage of 99.0 MiB will exceed the configured upper limit of 100.0 MiB."

// quotaExceeded is Harbor's refusal.
func quotaExceeded(method, path string) registrytest.Fault {
	return func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != method || !strings.Contains(q.URL.Path, path) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, quota)
		return true
	}
}

// TestCopyFaults: whatever either registry does, the copy says what is wrong and of which one, when it is tried again, does
// not claim that the image is there, and goes on by itself.
func TestCopyFaults(t *testing.T) {
	const timeout = 3 * time.Second
	fixed := func(f registrytest.Fault) func(*registrytest.Registry) registrytest.Fault {
		return func(*registrytest.Registry) registrytest.Fault { return f }
	}
	passing := func(method, path string, change func(http.ResponseWriter, *httptest.ResponseRecorder, *http.Request)) func(*registrytest.Registry) registrytest.Fault {
		return func(r *registrytest.Registry) registrytest.Fault { return through(r, method, path, change) }
	}
	const source, destination = "source", "destination"
	for _, c := range []struct {
		name, at string
		fault    func(*registrytest.Registry) registrytest.Fault
		kind     registry.Kind
		says     []string
		wait     time.Duration
	}{
		{"429 of the source", source, fixed(refuse(get, blobs, 429, "TOOMANYREQUESTS", "Retry-After: 90")), registry.KindBusy, []string{"too many requests", "read layer"}, 90 * time.Second},
		{"503 of the source's manifest", source, fixed(refuse(get, manifests, 503, "UNAVAILABLE")), registry.KindBusy, []string{"unavailable"}, 5 * time.Second},
		{"500 of the source", source, fixed(refuse(get, blobs, 500, "UNKNOWN")), registry.KindFailed, []string{"500", "read layer"}, 5 * time.Second},
		{"401 of the source", source, fixed(refuse(get, blobs, 401, "UNAUTHORIZED")), registry.KindDenied, []string{"401", "spec.registrySecretRef of the Project"}, time.Minute},
		{"404 of a layer at the source", source, fixed(refuse(get, blobs, 404, "BLOB_UNKNOWN")), registry.KindNotFound, []string{"not in the registry", "read layer"}, time.Minute},
		{"404 of the image at the source", source, fixed(refuse(get, manifests, 404, "MANIFEST_UNKNOWN")), registry.KindNotFound, []string{"not in the registry"}, time.Minute},
		{"other bytes of a manifest at the source", source, passing(get, manifests, altered), registry.KindMismatch, []string{"other bytes"}, time.Minute},
		{"other bytes of a layer at the source", source, passing(get, blobs, altered), registry.KindMismatch, []string{"other bytes", "read layer"}, time.Minute},
		{"source ends in the middle", source, passing(get, blobs, cut), registry.KindFailed, []string{"read layer"}, 5 * time.Second},
		{"source stops in the middle", source, passing(get, blobs, stop), registry.KindFailed, []string{"nothing of it moved for 3s", "read layer"}, 5 * time.Second},
		{"429 of the destination", destination, fixed(refuse(post, uploads, 429, "TOOMANYREQUESTS", "Retry-After: 90")), registry.KindBusy, []string{"too many requests", "copy layer"}, 90 * time.Second},
		{"429 mid-way", destination, fixed(refuse(put, uploads, 429, "TOOMANYREQUESTS", "Retry-After: 90")), registry.KindBusy, []string{"too many requests"}, 90 * time.Second},
		{"503 of the destination", destination, fixed(refuse(head, blobs, 503, "UNAVAILABLE")), registry.KindBusy, []string{"unavailable"}, 5 * time.Second},
		{"500 mid-way", destination, fixed(refuse(put, uploads, 500, "UNKNOWN")), registry.KindFailed, []string{"500", "full disk"}, 5 * time.Second},
		{"upload fails half way", destination, fixed(halfRead(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })), registry.KindFailed, []string{"copy layer"}, 5 * time.Second},
		{"507 half way", destination, fixed(halfRead(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(507) })), registry.KindFull, []string{"out of room"}, 5 * time.Second},
		{"upload stops half way", destination, func(r *registrytest.Registry) registrytest.Fault {
			over := make(chan struct{})
			r.Cleanup(func() { close(over) })
			return halfRead(func(http.ResponseWriter, *http.Request) { <-over })
		}, registry.KindFailed, []string{"nothing of it moved", "copy layer"}, 5 * time.Second},
		{"disk is full", destination, fixed(refuse(put, uploads, 500, "UNKNOWN: no space left on device")), registry.KindFull, []string{"out of room"}, 5 * time.Second},
		{"quota for a layer", destination, fixed(quotaExceeded(put, uploads)), registry.KindFull, []string{"out of room", "exceed the configured upper limit of 100.0 MiB", "quota"}, 5 * time.Second},
		{"quota for the manifest", destination, fixed(quotaExceeded(put, manifests)), registry.KindFull, []string{"out of room", "quota"}, 5 * time.Second},
		{"401 mid-way, for ever", destination, fixed(refuse(put, uploads, 401, "UNAUTHORIZED")), registry.KindDenied, []string{"401", account}, time.Minute},
		{"403", destination, fixed(refuse(post, uploads, 403, "DENIED")), registry.KindDenied, []string{"403", account}, time.Minute},
		{"no such project", destination, fixed(refuse(post, uploads, 404, "NOT_FOUND")), registry.KindDenied, []string{"create the project", account}, time.Minute},
		{"layers that are too large", destination, fixed(refuse(put, uploads, 413, "UNKNOWN")), registry.KindFull, []string{"413", "raise its limit"}, 5 * time.Second},
		{"an upload that is forgotten", destination, fixed(refuse(put, uploads, 404, "BLOB_UPLOAD_UNKNOWN")), registry.KindFailed, []string{"upload any more"}, 5 * time.Second},
		{"other bytes of a manifest at the destination", destination, passing(get, manifests, altered), registry.KindMismatch, []string{"verify", "nothing is authorised"}, time.Minute},
		{"a layer that is gone at once", destination, passing(head, blobs, func(w http.ResponseWriter, _ *httptest.ResponseRecorder, _ *http.Request) { w.WriteHeader(404) }), registry.KindMismatch, []string{"verify"}, time.Minute},
		{"a layer of another size", destination, passed(head, blobs, "Content-Length", "1"), registry.KindMismatch, []string{"verify", "nothing is authorised"}, time.Minute},
		{"another digest of a manifest", destination, stored("sha256:" + strings.Repeat("0", 64)), registry.KindMismatch, []string{"stored sha256:000"}, time.Minute},
		{"another digest of a layer", destination, passing(put, uploads, func(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			w.WriteHeader(whole.Code)
		}), registry.KindMismatch, []string{"stored sha256:000"}, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
			to := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
			digest := from.PushLayers(repository, "dev-1111111", 200_000)
			begin := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
			now := &clock{now: begin}
			pool := registry.NewPool(egress.Guard{Private: true})
			source, destination := pool.Client(from.DockerConfig(), nil), pool.ClientOf(account, to.DockerConfig(), nil)
			source.SetClock(now.Now, timeout)
			destination.SetClock(now.Now, timeout)
			bad := map[string]*registrytest.Registry{"source": from, "destination": to}[c.at]
			bad.Misbehave(c.fault(bad))
			_, err := registry.Copy(t.Context(), source, destination, copying(from, to, digest), nil)
			p := problem(t, err, c.kind)
			for _, want := range append(c.says, bad.Host+"/") {
				if !strings.Contains(p.Error(), want) {
					t.Errorf("%q does not say %q", p, want)
				}
			}
			if got := p.Until.Sub(begin); got < c.wait || got > c.wait+time.Second {
				t.Errorf("tried again after %s, want %s", got, c.wait)
			}
			now.set(p.Until.Add(-time.Millisecond))
			if before, again := registry.Copy(t.Context(), source, destination, copying(from, to, digest), nil); again == nil || before.Moved > 0 {
				t.Errorf("before it was to be tried again: %+v, %v", before, again)
			}
			bad.Misbehave(nil)
			now.set(p.Until)
			var last registry.Progress
			if _, err := registry.Copy(t.Context(), source, destination, copying(from, to, digest), func(p registry.Progress) { last = p }); err != nil {
				t.Fatalf("does not heal: %v", err)
			}
			if last.BytesDone != last.Bytes || last.LayersDone != last.Layers {
				t.Errorf("progress ends with %+v", last)
			}
			to.Pull(mirrored, digest)
			t.Log(p)
		})
	}
}

// account is what messages call the client's registry Secret in these tests.
const account = "spec.registry.secretRef of Environment production"

// TestInterruptedCopyGoesOn: layers that arrived before the copy was interrupted are not sent again.
func TestInterruptedCopyGoesOn(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	digest := from.PushLayers(repository, "dev-1111111", 10_000, registrytest.Layer(t, 10_000), registrytest.Layer(t, 10_000))
	to.Misbehave(refuse(put, manifests, 507, "UNKNOWN")) // after all layers
	_, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), copying(from, to, digest), nil)
	problem(t, err, registry.KindFull)
	if layers, _ := uploaded(to.Take()); layers != 6 {
		t.Fatalf("%d layers were sent", layers)
	}
	to.Misbehave(nil)
	p, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), copying(from, to, digest), nil) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	if layers, bytes := uploaded(to.Take()); layers != 0 || bytes != 0 || p.Moved != 0 {
		t.Errorf("%d layers and %d bytes were sent again", layers, bytes)
	}
	to.Pull(mirrored, digest)
}

// TestTokenRunsOutInTheMiddleOfACopy: it is fetched anew, and the layer sent again from its beginning.
func TestTokenRunsOutInTheMiddleOfACopy(t *testing.T) {
	from := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
	to := registrytest.Start(t, registrytest.Options{Auth: registrytest.Token})
	digest := from.PushLayers(repository, "dev-1111111", 200_000)
	to.Misbehave(before(put, uploads, func() {
		to.ExpireTokens()
		from.ExpireTokens()
	}))
	var last registry.Progress
	if _, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), copying(from, to, digest), func(p registry.Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.BytesDone != last.Bytes {
		t.Errorf("progress ends with %+v", last)
	}
	to.Pull(mirrored, digest)
}

// TestCopyIsGuarded: neither registry may have the server connect to what its operator did not allow, not even by saying where
// an upload is to go or where a layer is.
func TestCopyIsGuarded(t *testing.T) {
	forbidden := elsewhere(t, "127.0.0.2:0")
	networks, err := egress.ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	digest := from.PushLayers(repository, "dev-1111111", 1000)
	layer := func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != get || !strings.Contains(q.URL.Path, blobs) {
			return false
		}
		http.Redirect(w, q, forbidden+q.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	place := func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != post {
			return false
		}
		w.Header().Set("Location", forbidden+q.URL.Path)
		w.WriteHeader(http.StatusAccepted)
		return true
	}
	for _, c := range []struct {
		name        string
		guard       egress.Guard
		destination string
		at          *registrytest.Registry
		fault       registrytest.Fault
	}{
		{"the destination", egress.Guard{Networks: networks}, strings.TrimPrefix(forbidden, "http://"), to, nil},
		{"metadata", egress.Guard{Private: true}, "169.254.169.254", to, nil},
		{"where a layer is", egress.Guard{Networks: networks}, to.Host, from, layer},
		{"where a layer goes", egress.Guard{Networks: networks}, to.Host, to, place},
	} {
		c.at.Misbehave(c.fault)
		pool := registry.NewPool(c.guard)
		image := registry.Copying{Source: from.Host + "/" + repository, Destination: c.destination + "/" + mirrored, Digest: digest}
		_, err := registry.Copy(t.Context(), pool.Client(nil, nil), pool.ClientOf(account, nil, nil), []registry.Copying{image}, nil)
		c.at.Misbehave(nil)
		if p := problem(t, err, registry.KindUnusable); !strings.Contains(p.Error(), "--allow-private-addresses") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestUploadsElsewhereGetNoCredentials: a registry may have layers put on another host, which learns no password and no token,
// not even when it asks for one.
func TestUploadsElsewhereGetNoCredentials(t *testing.T) {
	for _, auth := range []string{registrytest.Htpasswd, registrytest.Token} {
		from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{Auth: auth})
		digest := from.PushLayers(repository, "dev-1111111", 1000)
		var mu sync.Mutex
		var learnt []string
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			mu.Lock()
			learnt = append(learnt, q.Method+q.Header.Get("Authorization"))
			mu.Unlock()
			if q.Method == put {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+q.Host+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"token":"of-its-own"}`)
		}))
		t.Cleanup(other.Close)
		to.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != post || q.Header.Get("Authorization") == "" {
				return false
			}
			w.Header().Set("Location", other.URL+q.URL.Path)
			w.WriteHeader(http.StatusAccepted)
			return true
		})
		_, err := registry.Copy(t.Context(), newClient(t, from), newClient(t, to), copying(from, to, digest), nil)
		problem(t, err, registry.KindDenied)
		mu.Lock()
		for _, l := range learnt {
			if l != put && l != get && l != put+"Bearer of-its-own" {
				t.Errorf("%s: the other host was told %q", auth, l)
			}
		}
		if len(learnt) == 0 {
			t.Error("nothing was put there")
		}
		mu.Unlock()
	}
}

// TestCopiesOfTheSameAtOnce: one goes on, and the others say that they come after it.
func TestCopiesOfTheSameAtOnce(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	digest := from.PushLayers(repository, "dev-1111111", 100_000)
	source, destination := newClient(t, from), newClient(t, to)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			_, err := registry.Copy(t.Context(), source, destination, copying(from, to, digest), nil)
			var p *registry.Problem
			if errors.As(err, &p) && p.Kind == registry.KindBusy && strings.Contains(p.Error(), "for another release; it is tried again") {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if layers, _ := uploaded(to.Take()); layers != 4 {
		t.Errorf("%d layers were sent, want 4", layers)
	}
	if _, err := registry.Copy(t.Context(), source, destination, copying(from, to, digest), nil); err != nil {
		t.Fatal(err)
	}
	to.Pull(mirrored, digest)
}

// TestImagesThatNobodyCopies are told once a minute, and not asked for all the time.
func TestImagesThatNobodyCopies(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	digest := from.PushLayers(repository, "dev-1111111", 1000)
	c := newClient(t, to)
	from.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		_, _ = io.WriteString(w, `{"schemaVersion":1}`)
		return true
	})
	for range 2 {
		_, err := registry.Copy(t.Context(), newClient(t, from), c, copying(from, to, digest), nil)
		if p := problem(t, err, registry.KindUnfit); !strings.Contains(p.Error(), "build and push it anew") || !strings.Contains(p.Error(), "tried again by itself") {
			t.Errorf("says %v", p)
		}
	}
	if asked := cost(from.Take()); asked.manifests != 1 {
		t.Errorf("asked %d times", asked.manifests)
	}
}
