// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/test/testbed"
)

type answer = func(http.ResponseWriter, *http.Request) bool

func always(*http.Request) bool { return true }

// times applies a fault to the first n requests that are chosen, and counts them.
func times(n int64, which func(*http.Request) bool, fault func(func(*http.Request) bool) answer) answer {
	var done atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !which(r) || done.Add(1) > n {
			return false
		}
		return fault(always)(w, r)
	}
}

// truncated sends half of what was announced and hangs up.
func truncated(which func(*http.Request) bool) answer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !which(r) || r.Method != http.MethodGet {
			return false
		}
		connection := hijack(w)
		if connection == nil {
			return false
		}
		defer connection.Close()
		fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4000000\r\n\r\n%s", strings.Repeat("x", 1000))
		return true
	}
}

// wrongBytes answers with as many bytes as the true answer has, of which one is another.
func wrongBytes(h *hub, which func(*http.Request) bool) answer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !which(r) || r.Method != http.MethodGet {
			return false
		}
		whole := &recorder{header: http.Header{}, code: http.StatusOK}
		h.handler.ServeHTTP(whole, r)
		body := whole.body.Bytes()
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		for name, values := range whole.header {
			w.Header()[name] = values
		}
		w.WriteHeader(whole.code)
		_, _ = w.Write(body)
		return true
	}
}

// trickle sends blobs slowly.
func trickle(h *hub, pause time.Duration) answer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r) || r.Method != http.MethodGet {
			return false
		}
		whole := &recorder{header: http.Header{}, code: http.StatusOK}
		h.handler.ServeHTTP(whole, r)
		w.Header().Set("Content-Length", fmt.Sprint(whole.body.Len()))
		w.WriteHeader(whole.code)
		for step := whole.body.Len()/20 + 1; whole.body.Len() > 0; {
			if _, err := io.CopyN(w, &whole.body, int64(step)); err != nil {
				return true
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
				return true
			}
		}
		return true
	}
}

// testRegistry lets a registry misbehave while a second release is pulled. What cannot be pulled fails untouched; what heals
// is waited for.
func testRegistry(t *testing.T, e *testbed.Engine) {
	is := func(code int, headers ...string) func(func(*http.Request) bool) answer {
		return func(which func(*http.Request) bool) answer { return refuse(which, code, headers...) }
	}
	for _, c := range []struct {
		name  string
		fault func(*hub) answer
		// want is the phase that it ends in, and says part of what it says.
		want, says string
	}{
		{"401", func(*hub) answer { return is(401)(isManifest) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"403", func(*hub) answer { return is(403)(isManifest) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"404", func(*hub) answer { return is(404)(isManifest) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"429 twice, then good", func(*hub) answer { return times(2, isManifest, is(429, "Retry-After: 1")) }, v1alpha1.RolloutHealthy, ""},
		{"429 for ever", func(*hub) answer { return is(429, "Retry-After: 1")(isManifest) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"500 twice, then good", func(*hub) answer { return times(2, isManifest, is(500)) }, v1alpha1.RolloutHealthy, ""},
		{"500 for ever", func(*hub) answer { return is(500)(always) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"slow", func(h *hub) answer { return trickle(h, 100*time.Millisecond) }, v1alpha1.RolloutHealthy, ""},
		{"truncated once", func(*hub) answer { return times(1, isBlob, truncated) }, v1alpha1.RolloutHealthy, ""},
		{"truncated for ever", func(*hub) answer { return truncated(isBlob) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"wrong bytes for a layer", func(h *hub) answer { return wrongBytes(h, isBlob) }, v1alpha1.RolloutFailed, "keeps serving"},
		{"wrong bytes for a manifest", func(h *hub) answer { return wrongBytes(h, isManifest) }, v1alpha1.RolloutFailed, "keeps serving"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e)
			w.run()
			w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)
			before, asked := w.only(), w.hub.requests()
			image := w.hub.image("big", 1<<20, "VERSION=2")
			w.hub.misbehave(c.fault(w.hub))
			begin := time.Now()
			status := w.await(w.send(w.web(image, c.want, v1alpha1.RolloutSuperseded)), v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack)
			took := time.Since(begin)
			if status.Phase != c.want || !strings.Contains(status.Message, c.says) {
				t.Errorf("%s: %q, not %s: %q", status.Phase, status.Message, c.want, c.says)
			}
			if after := w.only(); c.want == v1alpha1.RolloutFailed && after.ID != before.ID {
				t.Errorf("the old container was touched: %+v", after)
			}
			asked = w.hub.requests() - asked
			// The same release is not tried again by itself; the next one is pulled once the registry is well.
			w.hub.misbehave(nil)
			w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=3"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
			w.serves("3")
			w.judge()
			note(t, status.Phase, "after %s and %d requests: %q", took.Round(100*time.Millisecond), asked, status.Message)
		})
	}
	t.Run("wrong architecture", func(t *testing.T) {
		t.Parallel()
		testWrongArchitecture(t, e)
	})
}

func testWrongArchitecture(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)
	before := w.only()
	image := w.hub.push("app", 0, func(file *v1.ConfigFile) { file.Architecture = "s390x" })
	status := w.await(w.send(w.web(image, v1alpha1.RolloutFailed)), v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHealthy)
	if !strings.Contains(status.Message, "s390x") {
		t.Errorf("%s: %q", status.Phase, status.Message)
	}
	if after := w.only(); after.ID != before.ID {
		t.Errorf("the old container was touched: %+v", after)
	}
	w.judge()
	note(t, status.Phase, "%q", status.Message)
}

// bigLayers of random bytes that are not compressed, so that all of them travel.
const bigLayers = 4

// testBigImage pulls an image of a gigabyte (of an eighth in the short run) and measures the agent meanwhile.
func testBigImage(t *testing.T, e *testbed.Engine) {
	size := 128 << 20
	if long {
		size = 1 << 30
	}
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)
	_, rest := w.agent.Memory()
	image := w.hub.pushPlain("big", size/bigLayers, bigLayers, "VERSION=2")
	begin := time.Now()
	w.await(w.send(w.web(image, v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	took := time.Since(begin)
	w.serves("2")
	peak, now := w.agent.Memory()
	if peak > 120 {
		t.Errorf("the agent held %.0f MiB", peak)
	}
	w.judge()
	note(t, v1alpha1.RolloutHealthy, "%d MiB in %s; agent's RSS %.1f MiB before, %.1f MiB peak, %.1f MiB after", size>>20,
		took.Round(100*time.Millisecond), rest, peak, now)
}

// layerType of a layer that is not compressed.
const layerType = types.DockerUncompressedLayer
