// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// A registry that does not give an image: each way has a reason of its own, and nothing is touched.
func TestPullReasons(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.pullStall = 3 * time.Second
	s.run()
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	before := s.container("web")
	status := func(code int, headers ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	for i, c := range []struct {
		name, reason string
		answer       func(http.ResponseWriter, *http.Request) bool
	}{
		{"401", v1alpha1.ReasonPullUnauthorized, status(401, "WWW-Authenticate", `Basic realm="test"`)},
		{"403", v1alpha1.ReasonPullForbidden, status(403)},
		{"404", v1alpha1.ReasonImageNotFound, status(404)},
		{"429", v1alpha1.ReasonPullRateLimited, status(429, "Retry-After", "1")},
		{"429 for hours", v1alpha1.ReasonPullRateLimited, status(429, "Retry-After", "7200")},
		{"500", v1alpha1.ReasonRegistryError, status(500)},
		{"wrong bytes", v1alpha1.ReasonDigestMismatch, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			fmt.Fprint(w, "something else")
			return true
		}},
		{"standstill", v1alpha1.ReasonPullStalled, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := s.registry.ImageFor(t, "app", enginetest.Architecture(), 1<<20)
			s.registry.Answers(c.answer)
			defer s.registry.Answers(nil)
			s.refused(s.await(s.send(s.webOrder(int64(i+2), image)), v1alpha1.RolloutFailed), c.reason)
		})
	}
	s.unharmed(before)
}

// A registry that asks for patience is given it, and one that wants other credentials gets those that were put there since.
func TestPullRecovers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	const wait = 3 * time.Second
	var mu sync.Mutex
	var agentAsked int
	var told time.Time
	s.registry.Answers(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		if !told.IsZero() {
			if since := time.Since(told); since < wait {
				t.Errorf("asked again after %s, although the registry wanted %s", since, wait)
			}
			return false
		}
		if r.UserAgent() == "sirrat-agent" {
			if agentAsked++; agentAsked == 2 { // first about the size, then why the engine failed
				told = time.Now()
			}
		}
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)

	image := s.registry.Image(t, "app", "VERSION=2")
	secrets := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name))
	config := func(password string) map[string]string {
		return map[string]string{corev1.DockerConfigJsonKey: fmt.Sprintf(`{"auths":{%q:{"username":"ci","password":%q}}}`, s.registry.Host, password)}
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson, StringData: config("old")}
	if _, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	s.registry.Answers(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, given := r.BasicAuth()
		if user == "ci" && password == "new" {
			return false
		}
		if given { // the old password was rotated just now
			once.Do(func() {
				secret.StringData = config("new")
				if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	o := s.webOrder(2, image)
	o.registrySecret = "pull"
	s.await(s.send(o), v1alpha1.RolloutHealthy)
	s.serves("2")
	if said := s.log.String(); strings.Contains(said, `"old"`) || strings.Contains(said, `"new"`) {
		t.Error("the log has a password")
	}
}
