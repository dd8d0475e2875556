// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// store is a registry that knows some manifests and blobs, and wants a token from a service of its own.
func store(t *testing.T, objects map[string]string, token bool) (host string) {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if user, password, _ := r.BasicAuth(); user != "ci" || password != "s3cret" || r.URL.Query().Get("scope") != "repository:app:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, `{"token":"opened"}`)
			return
		}
		if token && r.Header.Get("Authorization") != "Bearer opened" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="test",scope="repository:app:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		parts := strings.Split(r.URL.Path, "/")
		text, found := objects[parts[len(parts)-1]]
		if !found {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func digest(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

func TestImage(t *testing.T) {
	config := `{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["sha256:x","sha256:y"]}}`
	manifest := fmt.Sprintf(`{"config":{"digest":%q,"size":10},"layers":[{"digest":"sha256:1","size":100},{"digest":"sha256:2","size":200}]}`, digest(config))
	index := fmt.Sprintf(`{"manifests":[{"digest":"sha256:0","platform":{"os":"linux","architecture":"arm64"}},
		{"digest":%q,"platform":{"os":"linux","architecture":"amd64"}},{"digest":"sha256:3","platform":{"os":"unknown","architecture":"unknown"}}]}`, digest(manifest))
	forged := digest("forged")
	host := store(t, map[string]string{digest(config): config, digest(manifest): manifest, digest(index): index, forged: manifest}, true)
	ref := func(digest string) string { return host + "/app@" + digest }
	client := New(func(string) bool { return true })
	amd := Platform{OS: "linux", Architecture: "amd64"}
	auth, name, err := AuthFor(ref(digest(index)), fmt.Appendf(nil, `{"auths":{"https://%s/v2/":{"auth":%q}}}`, host,
		base64.StdEncoding.EncodeToString([]byte("ci:s3cret"))))
	if err != nil || name != host || auth.Username != "ci" {
		t.Fatalf("%+v %q %v", auth, name, err)
	}
	for _, d := range []string{digest(index), digest(manifest)} {
		image, err := client.Image(t.Context(), ref(d), amd, auth)
		if err != nil || len(image.Layers) != 3 || image.Layers[1].Size != 200 || !slices.Contains(image.Platforms, amd) || len(image.DiffIDs) != 2 {
			t.Errorf("%+v, %v", image, err)
		}
	}
	image, err := client.Image(t.Context(), ref(digest(index)), Platform{OS: "linux", Architecture: "s390x"}, auth)
	if err != nil || len(image.Layers) != 0 || len(image.Platforms) != 2 {
		t.Errorf("another platform: %+v, %v", image, err)
	}
	if _, err := client.Image(t.Context(), ref(forged), amd, auth); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("other bytes than the digest names: %v", err)
	}
	var status *StatusError
	if err := client.Probe(t.Context(), ref(digest("none")), auth); !errors.As(err, &status) || status.Code != 429 || status.RetryAfter != 7*time.Second {
		t.Errorf("too many requests: %v", err)
	}
	if err := client.Probe(t.Context(), ref(digest(manifest)), Auth{Username: "ci", Password: "wrong"}); !errors.As(err, &status) || status.Code != 401 {
		t.Errorf("wrong password: %v", err)
	}
	if err := New(func(string) bool { return false }).Probe(t.Context(), ref(digest(manifest)), auth); err == nil || errors.As(err, &status) {
		t.Errorf("a registry without TLS that is not configured so: %v", err)
	}
}

func TestParameters(t *testing.T) {
	got := parameters(`realm="https://auth.example/token?a=b,c",service=reg, scope="repository:a/b:pull,push"`)
	for key, want := range map[string]string{"realm": "https://auth.example/token?a=b,c", "service": "reg", "scope": "repository:a/b:pull,push"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}
