// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// open is a network on which somebody keeps TLS from working and answers in the registry's place.
type open struct{ told []string }

// RoundTrip implements http.RoundTripper.
func (o *open) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Scheme == "https" {
		return nil, errors.New("connection reset by peer")
	}
	if q.Header.Get("Authorization") != "" {
		o.told = append(o.told, q.Header.Get("Authorization"))
	}
	if q.Body != nil {
		text, err := io.ReadAll(q.Body)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), "canary") {
			o.told = append(o.told, string(text))
		}
	}
	header := http.Header{"Www-Authenticate": {`Basic realm="registry"`}}
	if strings.HasSuffix(q.URL.Host, ":5001") {
		header.Set("Www-Authenticate", `Bearer realm="http://`+q.URL.Host+`/token"`)
	}
	return &http.Response{StatusCode: http.StatusUnauthorized, Header: header, Body: http.NoBody, Request: q}, nil
}

// TestNoPasswordInTheOpen: the library tries plain HTTP for private addresses when TLS fails, which whoever is on the network can
// see to. No password goes that way, but on this machine itself.
func TestNoPasswordInTheOpen(t *testing.T) {
	password, refresh := authn.AuthConfig{Username: "ci", Password: "canary"}, authn.AuthConfig{Username: "<token>", IdentityToken: "canary"}
	for name, c := range map[string]struct {
		host  string
		auth  authn.AuthConfig
		sends bool
	}{
		"private address":                   {"10.1.2.3:5000", password, false},
		"token server":                      {"10.1.2.3:5001", password, false},
		"token server that wants a refresh": {"10.1.2.3:5001", refresh, false},
		"this machine":                      {"127.0.0.1:5000", password, true},
	} {
		network := &open{}
		client := newClient(keychainFunc(func(string) (authn.Authenticator, error) { return authn.FromConfig(c.auth), nil }), network)
		_, err := client.Resolve(t.Context(), c.host+"/shop/api:v1")
		_, _, attach := client.Attach(t.Context(), c.host+"/shop/api", "sha256:"+strings.Repeat("0", 64), Artifact{Type: "x/y"}) // by the library's own calls
		for _, err := range []error{err, attach} {
			var p *Problem
			if !errors.As(err, &p) || len(network.told) > 0 != c.sends {
				t.Errorf("%s: it was told %q (%v)", name, network.told, err)
			} else if !c.sends && !strings.Contains(p.Error(), "give the registry a certificate") {
				t.Errorf("%s: no way out: %v", name, err)
			}
		}
	}
}
