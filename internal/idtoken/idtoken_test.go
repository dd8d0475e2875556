// SPDX-License-Identifier: Apache-2.0

package idtoken_test

import (
	"crypto/rand"
	cryptorsa "crypto/rsa"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"gitlab.com/dynors/sirrat/internal/idtoken"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

const commit = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"

func expected(issuer *idtokentest.Issuer) idtoken.Expected {
	return idtoken.Expected{Issuer: issuer.URL, Audiences: []string{"https://sirrat.example"}, ProjectPath: "dynors/supergest", ProjectID: "20", ProtectedOnly: true}
}

func verify(t testing.TB, v *idtoken.Verifier, text string, want idtoken.Expected) (idtoken.Claims, error) {
	t.Helper()
	token, err := idtoken.Parse(text)
	if err != nil {
		return idtoken.Claims{}, err
	}
	return v.Verify(t.Context(), token, want)
}

// However many jobs come at a time, the issuer is asked once.
func TestOneFetchForMany(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	v := issuer.Verifier(t, &idtokentest.Clock{})
	token := idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := verify(t, v, token, expected(issuer)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := issuer.Discoveries.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// Every algorithm that is allowed verifies with the right key, and no short, private or symmetric key is taken from a key set.
func TestKeys(t *testing.T) {
	issuer := idtokentest.New(t)
	rsa, ec := idtokentest.RSA(t), idtokentest.EC(t)
	short, err := cryptorsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(map[string]any{"rsa": rsa, "ec": ec, "short": short, "symmetric": []byte(strings.Repeat("s", 64))})
	v := issuer.Verifier(t, &idtokentest.Clock{})
	claims := issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil)
	for _, tc := range []struct {
		algorithm jose.SignatureAlgorithm
		kid       string
		key       any
		ok        bool
	}{
		{jose.RS256, "rsa", rsa, true}, {jose.RS512, "rsa", rsa, true}, {jose.PS256, "rsa", rsa, true}, {jose.ES256, "ec", ec, true},
		{jose.RS256, "short", short, false},
		{jose.ES256, "rsa", ec, false}, {jose.RS256, "ec", rsa, false}, {jose.HS256, "symmetric", []byte(strings.Repeat("s", 64)), false},
	} {
		_, err := verify(t, v, idtokentest.Sign(t, tc.algorithm, tc.kid, tc.key, claims), expected(issuer))
		if (err == nil) != tc.ok {
			t.Errorf("%s with %s: %v", tc.algorithm, tc.kid, err)
		}
	}
}

// Whatever the text, reading it neither fails badly nor quotes it.
func FuzzParse(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJ4IiwicHJvamVjdF9pZCI6MX0.AA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := idtoken.Parse(text)
		if (token == nil) == (err == nil) {
			t.Errorf("%v and %v", token, err)
		}
		if err != nil && len(text) > 24 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the token: %v", err)
		}
	})
}

// BenchmarkVerify reads and verifies a token whose issuer's keys are known.
//
//	go test -run '^$' -bench Verify ./internal/idtoken
func BenchmarkVerify(b *testing.B) {
	issuer := idtokentest.New(b)
	rsa, ec := idtokentest.RSA(b), idtokentest.EC(b)
	issuer.Publish(map[string]any{"rsa": rsa, "ec": ec})
	v := issuer.Verifier(b, &idtokentest.Clock{})
	for _, tc := range []struct {
		algorithm jose.SignatureAlgorithm
		kid       string
		key       any
	}{{jose.RS256, "rsa", rsa}, {jose.ES256, "ec", ec}} {
		token := idtokentest.Sign(b, tc.algorithm, tc.kid, tc.key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil))
		b.Run(fmt.Sprint(tc.algorithm), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify(b, v, token, expected(issuer)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
