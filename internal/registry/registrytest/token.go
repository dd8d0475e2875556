// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The token server, as distribution 2.8 describes it ("Token Authentication Specification" and "Implementation").
const (
	tokenPath = "/token"
	service   = "registry.test"
	issuer    = "tokens.test"
	tokenLife = 5 * time.Minute
)

// tokens is a token server. Its tokens are signed with a key whose certificate the registry is told of.
type tokens struct {
	key   *ecdsa.PrivateKey
	der   []byte
	given atomic.Int64

	mu    sync.Mutex
	spent map[string]bool // tokens that are made worthless
	out   []string
}

func newTokens(t testing.TB) *tokens {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: issuer}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tokens{key: key, der: der, spent: map[string]bool{}}
}

func (k *tokens) certificate() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.der}))
}

// expire makes what was given out worthless.
func (k *tokens) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, token := range k.out {
		k.spent[token] = true
	}
}

func (k *tokens) expired(r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spent[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

// serve gives who knows the password a token for what it asks for.
func (k *tokens) serve(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok || user != User || password != Password || r.URL.Query().Get("service") != service {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := k.sign(user, r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	k.given.Add(1)
	k.mu.Lock()
	k.out = append(k.out, token)
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(tokenLife.Seconds())}) // or the client went
}

func (k *tokens) sign(user string, scopes []string) (string, error) {
	access := []map[string]any{}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		repository, actions, ok := cutLast(rest, ":")
		if !ok {
			return "", fmt.Errorf("scope %q", scope)
		}
		access = append(access, map[string]any{"type": kind, "name": repository, "actions": strings.Split(actions, ",")})
	}
	now := time.Now()
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(k.der)}})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuer, "aud": service, "sub": user, "iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(tokenLife).Unix(),
		"jti": rand.Text(), "access": access,
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	a.FillBytes(signature[:32])
	b.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
