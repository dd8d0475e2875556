// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/registry"
)

// Who verifies an image from their own machine has no Project to mend and no server that tries again.
func TestWordsForUsers(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refusing.Close)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	for _, c := range []struct{ name, host, want string }{
		{"refused", strings.TrimPrefix(refusing.URL, "http://"), "check `docker login`"},
		{"nobody answers", nobody, "connection refused"},
		{"a private authority", strings.TrimPrefix(untrusted.URL, "https://"), "SSL_CERT_FILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := registry.ForUser().Resolve(t.Context(), c.host+"/shop/backend:v1")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, no := range []string{"spec.registrySecretRef", "by itself", "Secret"} {
				if strings.Contains(err.Error(), no) {
					t.Errorf("%q has %q", err, no)
				}
			}
		})
	}
}
