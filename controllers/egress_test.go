// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// TestTransportsAreGuarded: what the controllers speak to Harbor and GitLab with connects to what the operator allows, whether or not the
// project brings an authority of its own.
func TestTransportsAreGuarded(t *testing.T) {
	var reached atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other := egress.Guard{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for name, transportOf := range map[string]func(egress.Guard, []byte) (http.RoundTripper, error){
		"Harbor's":          func(g egress.Guard, ca []byte) (http.RoundTripper, error) { return harbors{guard: g}.transport(ca) },
		"pull credentials'": func(g egress.Guard, ca []byte) (http.RoundTripper, error) { return guardedTransport(g, ca) },
	} {
		get := func(guard egress.Guard, ca []byte) error {
			t.Helper()
			transport, err := transportOf(guard, ca)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err == nil {
				err = answer.Body.Close()
			}
			return err
		}
		before := reached.Load()
		for _, guard := range []egress.Guard{{}, other} {
			for _, authority := range [][]byte{nil, ca} {
				if err := get(guard, authority); !errors.Is(err, egress.ErrBlocked) {
					t.Errorf("%s with %+v: %v", name, guard, err)
				}
			}
		}
		if n := reached.Load() - before; n != 0 {
			t.Errorf("%s: %d requests arrived", name, n)
		}
		if err := get(egress.Guard{Private: true}, nil); err == nil || errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s without the authority: %v", name, err)
		}
		if err := get(egress.Guard{Private: true}, ca); err != nil || reached.Load()-before != 1 {
			t.Errorf("%s where it is allowed: %v", name, err)
		}
	}
}
