// SPDX-License-Identifier: Apache-2.0

package agentupdate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

func TestVerify(t *testing.T) {
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := Statement{Version: "v1.2.3", Binaries: map[string]Binary{"linux/amd64": {strings.Repeat("a", 64), 10}}}
	with := func(change func(*Statement)) Statement {
		s := good
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		s    Statement
		at   time.Duration
		by   any
		want error
	}{
		"good":         {good, 0, nil, nil},
		"unknown key":  {good, 0, stranger, ErrSignature},
		"expired":      {good, Validity + time.Minute, nil, ErrExpired},
		"path":         {with(func(s *Statement) { s.Version = "../../etc" }), 0, nil, ErrMalformed},
		"no version":   {with(func(s *Statement) { s.Version = "" }), 0, nil, ErrMalformed},
		"bad hash":     {with(func(s *Statement) { s.Binaries = map[string]Binary{"linux/amd64": {"../x", 10}} }), 0, nil, ErrMalformed},
		"no size":      {with(func(s *Statement) { s.Binaries = map[string]Binary{"linux/amd64": {strings.Repeat("a", 64), 0}} }), 0, nil, ErrMalformed},
		"huge":         {with(func(s *Statement) { s.Binaries = map[string]Binary{"linux/amd64": {strings.Repeat("a", 64), 1 << 40}} }), 0, nil, ErrMalformed},
		"no binaries":  {with(func(s *Statement) { s.Binaries = nil }), 0, nil, nil},
		"not yet over": {good, Validity - time.Minute, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			signer := key
			if c.by != nil {
				signer = stranger
			}
			text, err := Sign(t.Context(), c.s, now, signer)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Verify(t.Context(), text, now.Add(c.at), []envelope.PublicKey{trusted})
			if !errors.Is(err, c.want) || c.want == nil && got.Version != c.s.Version {
				t.Errorf("%+v, %v, want %v", got, err, c.want)
			}
		})
	}
	// An authorization to deploy is no update, although the same key signs it.
	other, err := envelope.Sign(t.Context(), "application/vnd.in-toto+json", []byte(`{"version":"v9.9.9"}`), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), other, now, []envelope.PublicKey{trusted}); !errors.Is(err, ErrMalformed) {
		t.Errorf("another kind of envelope: %v", err)
	}
}

func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		version, minimum string
		downgrade        bool
		running          string
		want             error
	}{
		"newer":                   {"v1.3.0", "", false, "v1.2.9", nil},
		"same":                    {"v1.3.0", "", false, "v1.3.0", ErrSame},
		"older":                   {"v1.3.0", "", false, "v1.4.0", ErrOlder},
		"older, wanted":           {"v1.3.0", "", true, "v1.4.0", nil},
		"older than a prerelease": {"v1.3.0", "", false, "v1.4.0-rc.1", ErrOlder},
		"release of a prerelease": {"v1.4.0", "", false, "v1.4.0-rc.1", nil},
		"too large a step":        {"v3.0.0", "v2.0.0", false, "v1.4.0", ErrTooOld},
		"large enough a step":     {"v3.0.0", "v2.0.0", false, "v2.0.0", nil},
		"from a build by hand":    {"v1.0.0", "v0.9.0", false, "dev", nil},
		"to a build by hand":      {"abc1234", "", false, "v1.0.0", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Statement{Version: c.version, Minimum: c.minimum, Downgrade: c.downgrade, Binaries: map[string]Binary{"linux/amd64": {}}}
			if _, err := Choose(s, c.running, "linux/amd64"); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, err := Choose(s, "v0.0.1-x", "linux/s390x"); c.want == nil && !errors.Is(err, ErrPlatform) {
				t.Errorf("another platform: %v", err)
			}
		})
	}
}
