// SPDX-License-Identifier: Apache-2.0

// Package idtokentest is an issuer of id_tokens for tests: a real HTTPS server with discovery and keys of its own.
package idtokentest

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/idtoken"
)

// Issuer publishes keys and signs tokens. Its methods and fields may be used while it serves.
type Issuer struct {
	*httptest.Server
	// Down cuts every connection.
	Down atomic.Bool
	// Discoveries counts the requests for the discovery document.
	Discoveries atomic.Int64
	// Redirect, if not empty, is where requests for the discovery document are sent.
	Redirect atomic.Value
	// KeysAt, if not empty, is where the discovery document says that the keys are.
	KeysAt atomic.Value
	// Padding is added to the key set, in bytes.
	Padding atomic.Int64

	mu        sync.Mutex
	published jose.JSONWebKeySet
}

// RSA returns a new key of 2048 bits.
func RSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// EC returns a new key on P-256.
func EC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// New starts an issuer, on 127.0.0.1, that publishes no keys yet.
func New(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{}
	i.Redirect.Store("")
	i.KeysAt.Store("")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.Discoveries.Add(1)
		if to := i.Redirect.Load().(string); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		i.answer(t, w, map[string]any{"issuer": i.URL, "jwks_uri": cmp.Or(i.KeysAt.Load().(string), i.URL+"/oauth/discovery/keys")})
	})
	mux.HandleFunc("GET /oauth/discovery/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		set := i.published
		i.mu.Unlock()
		i.answer(t, w, map[string]any{"keys": set.Keys, "padding": strings.Repeat(" ", int(i.Padding.Load()))})
	})
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.Down.Load() {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *Issuer) answer(t testing.TB, w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	body, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	_, _ = w.Write(body) // a client may hang up on what is too long
}

// Publish makes these the issuer's only keys: kid → private key, of which the public half is published. A symmetric key, which
// has none, is published as it is.
func (i *Issuer) Publish(keys map[string]any) {
	var set jose.JSONWebKeySet
	for kid, key := range keys {
		private := jose.JSONWebKey{Key: key, KeyID: kid, Use: "sig"}
		if public := private.Public(); public.Key != nil {
			private = public
		}
		set.Keys = append(set.Keys, private)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published = set
}

// Sign returns a token with these claims.
func Sign(t testing.TB, algorithm jose.SignatureAlgorithm, kid string, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Claims are those of a job of the branch main, as GitLab writes them, valid for an hour; over replaces some, and removes those
// that it says are nil.
func (i *Issuer) Claims(audience, project, commit string, over map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": i.URL, "aud": audience, "iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(), "exp": now.Add(time.Hour).Unix(),
		"sub": "project_path:" + project + ":ref_type:branch:ref:main", "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
		"project_id": "20", "project_path": project, "namespace_id": "72", "user_id": "1", "user_login": "jean", "pipeline_id": "574", "pipeline_source": "push",
		"job_id": "302", "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
		"runner_id": 1, "runner_environment": "self-hosted", "sha": commit,
	}
	for name, value := range over {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// Transport reaches the issuer, whose certificate it trusts, and nothing else inside. Names are asked of resolver, nil for the
// system's.
func (i *Issuer) Transport(t testing.TB, resolver *net.Resolver) http.RoundTripper {
	t.Helper()
	networks, err := egress.ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	dialer := egress.Guard{Networks: networks}.Dialer()
	dialer.Resolver = resolver
	transport := egress.Transport(&dialer)
	transport.TLSClientConfig.RootCAs = i.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return transport
}

// Clock is a time that tests move. The zero value is the present.
type Clock struct{ ahead atomic.Int64 }

// Now is the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// Verifier returns a verifier that reaches the issuer.
func (i *Issuer) Verifier(t testing.TB, clock *Clock) *idtoken.Verifier {
	t.Helper()
	return idtoken.NewVerifier(idtoken.Options{Transport: i.Transport(t, nil), Now: clock.Now})
}
