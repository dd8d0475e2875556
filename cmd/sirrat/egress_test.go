// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/idtoken"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

// The issuer that a project names is asked for its keys only where the operator allows its address.
func TestIssuersAreGuarded(t *testing.T) {
	const audience, project, commit = "https://sirrat.example", "dynors/supergest", "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	token, err := idtoken.Parse(idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims(audience, project, commit, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		networks []string
		blocked  bool
	}{{nil, true}, {[]string{"10.0.0.0/8"}, true}, {[]string{"127.0.0.1"}, false}} {
		guard, err := egressFlags{networks: tc.networks}.guard()
		if err != nil {
			t.Fatal(err)
		}
		_, err = idTokens(guard).Verify(t.Context(), token, idtoken.Expected{Issuer: issuer.URL, Audiences: []string{audience}, ProjectPath: project})
		var down *idtoken.Unavailable // its certificate is nobody's
		if !errors.As(err, &down) || errors.Is(err, egress.ErrBlocked) != tc.blocked {
			t.Errorf("%v: %v", tc.networks, err)
		}
	}
	if n := issuer.Discoveries.Load(); n != 0 {
		t.Errorf("%d requests arrived over a connection that nobody can trust", n)
	}
}
