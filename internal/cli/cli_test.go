// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

func testWorld() World {
	return World{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}
}

// Every command has texts in both languages, an example unless it only groups others, and its flags explain themselves.
func TestCommandTree(t *testing.T) {
	for _, language := range []string{"en", "fr"} {
		var check func(*cobra.Command)
		check = func(cmd *cobra.Command) {
			if strings.HasPrefix(cmd.CommandPath(), "kubectl sirrat completion") {
				return
			}
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".short") {
				t.Errorf("%s: %q has no short text", language, cmd.CommandPath())
			}
			if !cmd.HasSubCommands() && !cmd.Hidden && cmd.Example == "" {
				t.Errorf("%s: %q has no example", language, cmd.CommandPath())
			}
			for _, below := range cmd.Commands() {
				check(below)
			}
		}
		check(New(testWorld(), []string{"--lang", language}))
	}
}

func TestApprovers(t *testing.T) {
	for _, c := range []struct{ name, value, user, with, without string }{
		{"none yet", "", "qa", "qa", ""},
		{"somebody else", "cto", "qa", "cto,qa", "cto"},
		{"already there", "cto,qa", "qa", "cto,qa", "cto"},
		{"first of two", "qa,cto", "qa", "qa,cto", "cto"},
		{"part of another name", "qa2", "qa", "qa2,qa", "qa2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := withApprover(c.value, c.user); got != c.with {
				t.Errorf("with: %q, want %q", got, c.with)
			}
			if got := withoutApprover(c.value, c.user); got != c.without {
				t.Errorf("without: %q, want %q", got, c.without)
			}
		})
	}
}

func TestParseReservation(t *testing.T) {
	for _, c := range []struct {
		text string
		want v1alpha1.Reservation
		ok   bool
	}{
		{"logo is blurred; DYNORS ;2026-12-31", v1alpha1.Reservation{Text: "logo is blurred", Owner: "DYNORS", Deadline: "2026-12-31"}, true},
		{"slow export", v1alpha1.Reservation{}, false},
		{"slow export;DYNORS", v1alpha1.Reservation{}, false},
		{"slow export;;2026-12-31", v1alpha1.Reservation{Text: "slow export", Deadline: "2026-12-31"}, false},
		{"slow export;DYNORS;", v1alpha1.Reservation{Text: "slow export", Owner: "DYNORS"}, false},
		{"", v1alpha1.Reservation{}, false},
		{";DYNORS;2026-12-31", v1alpha1.Reservation{Owner: "DYNORS", Deadline: "2026-12-31"}, false},
		{"x;y;2026-02-30", v1alpha1.Reservation{Text: "x", Owner: "y", Deadline: "2026-02-30"}, false},
		{"x;y;2026-12-31;z", v1alpha1.Reservation{}, false},
	} {
		got, ok := parseReservation(c.text)
		if diff := cmp.Diff(c.want, got); diff != "" || ok != c.ok {
			t.Errorf("%q: ok %t, want %t; %s", c.text, ok, c.ok, diff)
		}
	}
}

func TestCAPins(t *testing.T) {
	certificate := func() ([]byte, string) {
		key, _, _, err := envelope.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(spki)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "sha256:" + hex.EncodeToString(sum[:])
	}
	one, pinOne := certificate()
	two, pinTwo := certificate()
	got, err := caPins(append(append([]byte("# comment\n"), one...), two...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{pinOne, pinTwo}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := caPins(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})); err == nil {
		t.Error("a broken certificate was read")
	}
	if got, err := caPins(nil); err != nil || len(got) > 0 {
		t.Errorf("nothing gives %v, %v", got, err)
	}
}

func TestLoopback(t *testing.T) {
	for server, want := range map[string]bool{
		"https://127.0.0.1:6443": true, "https://localhost:6443": true, "https://[::1]:6443": true,
		"https://sirrat.dynors.com:6443": false, "https://10.0.0.1": false,
	} {
		if got := loopback(server); got != want {
			t.Errorf("%s: %t, want %t", server, got, want)
		}
	}
}
