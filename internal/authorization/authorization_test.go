// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

var (
	at   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	here = Host{Name: "vps-1", UID: "host-uid"}
)

func spec() v1alpha1.RolloutSpec {
	return v1alpha1.RolloutSpec{
		Project: "supergest-001", ProjectUID: "p", Environment: "production", Sequence: 7, BundleHash: "sha256:bb",
		Release: v1alpha1.RolloutRelease{Name: "a1b2c3d", UID: "r", Commit: strings.Repeat("a", 40)},
		Compose: "services: {}", ComposeHash: envelope.Hash([]byte("services: {}")), Values: map[string]string{"A": "1", "B": "2"},
		Images: []v1alpha1.ServiceImage{{Service: "web", Image: "reg.example/web@sha256:" + strings.Repeat("1", 64)}},
	}
}

func publicKey(t *testing.T, pem []byte) envelope.PublicKey {
	t.Helper()
	k, err := envelope.ParsePublicKey(string(pem))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	key, _, pub, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, _, otherPub, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	known := []envelope.PublicKey{publicKey(t, otherPub), publicKey(t, pub)}
	signed := spec()
	if signed.Authorization, err = Sign(ctx, signed, here, at, []string{"production/cto: approved"}, "", key); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		change  func(*v1alpha1.RolloutSpec)
		host    Host
		now     time.Time
		minimum int64
		started bool
		keys    []envelope.PublicKey
		trust   Trust
		want    error
	}{
		{name: "as signed"},
		{name: "the same sequence again", minimum: 7},
		{name: "no known key", keys: known[:1], want: ErrSignature},
		{name: "no key at all", keys: []envelope.PublicKey{}, want: ErrSignature},
		{name: "another host", host: Host{Name: "vps-2", UID: "host-uid"}, want: ErrOtherHost},
		{name: "a recreated host of the same name", host: Host{Name: "vps-1", UID: "new-uid"}, want: ErrOtherHost},
		{name: "older than what was carried out", minimum: 8, want: ErrOldSequence},
		{name: "expired", now: at.Add(Validity + ClockSkew + time.Minute), want: ErrExpired},
		{name: "expired, but already carried out here", now: at.Add(Validity + ClockSkew + time.Minute), started: true},
		{name: "expired, but not for a clock that is a day ahead", now: at.Add(Validity + 24*time.Hour)},
		{name: "a clock that is a day late", now: at.Add(-24 * time.Hour)},
		{name: "a clock that is years late", now: at.Add(-30000 * time.Hour)},
		{name: "a retired key", trust: Trust{Keys: known[:1], Retired: known[1:]}, want: ErrRetiredKey},
		{name: "a retired key, but already carried out here", trust: Trust{Keys: known[:1], Retired: known[1:]}, started: true},
		{name: "a revoked key", trust: Trust{Keys: known[:1], Revoked: known[1:]}, want: ErrRevokedKey},
		{name: "a revoked key, although already carried out here", trust: Trust{Keys: known[:1], Revoked: known[1:]}, started: true, want: ErrRevokedKey},
		{name: "the only key is revoked", trust: Trust{Revoked: known[1:]}, want: ErrRevokedKey},
		{name: "another digest", change: func(s *v1alpha1.RolloutSpec) { s.Images[0].Image = "reg.example/web@sha256:" + strings.Repeat("2", 64) }, want: ErrImages},
		{name: "another repository, same digest", change: func(s *v1alpha1.RolloutSpec) {
			s.Images[0].Image = "evil.example/web@sha256:" + strings.Repeat("1", 64)
		}, want: ErrMismatch},
		{name: "an image by tag", change: func(s *v1alpha1.RolloutSpec) { s.Images[0].Image = "reg.example/web:latest" }, want: ErrMismatch},
		{name: "another compose file", change: func(s *v1alpha1.RolloutSpec) { s.Compose = "services: {x: {}}" }, want: ErrCompose},
		{name: "another compose file with its hash", change: func(s *v1alpha1.RolloutSpec) {
			s.Compose = "services: {x: {}}"
			s.ComposeHash = envelope.Hash([]byte(s.Compose))
		}, want: ErrMismatch},
		{name: "another service's images", change: func(s *v1alpha1.RolloutSpec) { s.Images[0].Service = "db" }, want: ErrImages},
		{name: "another value", change: func(s *v1alpha1.RolloutSpec) { s.Values["A"] = "2" }, want: ErrMismatch},
		{name: "another environment", change: func(s *v1alpha1.RolloutSpec) { s.Environment = "dev" }, want: ErrMismatch},
		{name: "another release", change: func(s *v1alpha1.RolloutSpec) { s.Release.UID = "r2" }, want: ErrMismatch},
		{name: "a raised sequence", change: func(s *v1alpha1.RolloutSpec) { s.Sequence = 8 }, want: ErrMismatch},
		{name: "no authorization", change: func(s *v1alpha1.RolloutSpec) { s.Authorization = "" }, want: ErrMalformed},
		{name: "duplicate members", change: func(s *v1alpha1.RolloutSpec) {
			s.Authorization = strings.Replace(s.Authorization, `{"payloadType"`, `{"payloadType":"x","payloadType"`, 1)
		}, want: ErrMalformed},
		{name: "an altered payload", change: func(s *v1alpha1.RolloutSpec) { s.Authorization = alterPayload(t, s.Authorization) }, want: ErrSignature},
		{name: "an enormous envelope", change: func(s *v1alpha1.RolloutSpec) { s.Authorization = strings.Repeat("[", 1<<20) }, want: ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *signed.DeepCopy()
			if c.change != nil {
				c.change(&s)
			}
			host, now, keys := c.host, c.now, c.keys
			if host == (Host{}) {
				host = here
			}
			if now.IsZero() {
				now = at.Add(time.Hour)
			}
			if keys == nil {
				keys = known
			}
			trust := c.trust
			if trust.Keys == nil && trust.Revoked == nil {
				trust.Keys = keys
			}
			_, err := Verify(ctx, s, host, now, c.minimum, c.started, trust)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func alterPayload(t *testing.T, text string) string {
	t.Helper()
	var env map[string]any
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(env["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	env["payload"] = base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(payload), "vps-1", "vps-2", 1)))
	out, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestECDSA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := spec()
	if s.Authorization, err = Sign(context.Background(), s, here, at, nil, "", key); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), s, here, at, 0, false, Trust{Keys: []envelope.PublicKey{publicKey(t, pem)}}); err != nil {
		t.Fatal(err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(context.Background(), s, here, at, nil, "", big); err == nil {
		t.Error("a key on P-384 was accepted")
	}
}
