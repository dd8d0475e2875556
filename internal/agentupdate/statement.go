// SPDX-License-Identifier: Apache-2.0

// Package agentupdate makes and checks the signed statement that lets an agent replace its own program: a DSSE envelope
// over the version and, for each platform, the hash and size of the binary. It is signed with the keys that sign
// authorizations, which every agent has pinned, so that whoever serves the binary need not be trusted.
//
// It is pure but for signing. It may import internal/envelope and apimachinery.
package agentupdate

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// PayloadType of the envelope.
const PayloadType = "application/vnd.sirrat.agent-update.v1+json"

// Validity is how long a statement may be acted upon.
const Validity = 30 * 24 * time.Hour

// MaxBinary is the largest binary, in bytes.
const MaxBinary = 256 << 20

// Reasons of a refusal; each is wrapped in an error of Verify or Choose.
var (
	ErrSignature = errors.New("the update is not signed by a known key")
	ErrMalformed = errors.New("the update statement cannot be read")
	ErrExpired   = errors.New("the update statement has expired")
	ErrPlatform  = errors.New("the update has no binary for this platform")
	ErrOlder     = errors.New("the update is older than what runs")
	ErrTooOld    = errors.New("what runs is too old for this update")
	// ErrSame is no failure: the version runs already.
	ErrSame = errors.New("this version runs already")
)

// Statement is what is signed.
type Statement struct {
	// Version of the agent. Example: v1.4.0.
	Version string `json:"version"`
	// Binaries by platform. Example: linux/amd64.
	Binaries map[string]Binary `json:"binaries"`
	// Minimum version from which this one can be reached in one step; empty for any.
	Minimum string `json:"minimum,omitempty"`
	// Downgrade allows to go back to an older version.
	Downgrade bool      `json:"downgrade,omitempty"`
	NotAfter  time.Time `json:"notAfter"`
}

// Binary is one file.
type Binary struct {
	// SHA256 is its hash in hexadecimal digits.
	SHA256 string `json:"sha256"`
	// Size in bytes.
	Size int64 `json:"size"`
}

// validVersion keeps versions from becoming paths.
var validVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

var validHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// CheckVersion says whether text can be a version.
func CheckVersion(text string) error {
	if !validVersion.MatchString(text) {
		return fmt.Errorf("%q is not a version: letters, digits and . _ + -, at most 64", text)
	}
	return nil
}

// Sign signs a statement, valid until now + Validity.
func Sign(ctx context.Context, s Statement, now time.Time, key crypto.Signer) (string, error) {
	s.NotAfter = now.UTC().Truncate(time.Second).Add(Validity)
	payload, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode update statement: %w", err)
	}
	return envelope.Sign(ctx, PayloadType, payload, key)
}

// Verify returns the statement if one of keys signed it and it has not expired.
func Verify(ctx context.Context, text string, now time.Time, keys []envelope.PublicKey) (*Statement, error) {
	payload, _, err := envelope.Verify(ctx, text, PayloadType, keys)
	switch {
	case errors.Is(err, envelope.ErrUnknownKey):
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var s Statement
	if err := envelope.DecodeStrict(payload, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := CheckVersion(s.Version); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for platform, b := range s.Binaries {
		if !validHash.MatchString(b.SHA256) || b.Size <= 0 || b.Size > MaxBinary {
			return nil, fmt.Errorf("%w: the binary for %q", ErrMalformed, platform)
		}
	}
	if now.After(s.NotAfter) {
		return nil, fmt.Errorf("%w on %s", ErrExpired, s.NotAfter.Format(time.RFC3339))
	}
	return &s, nil
}

// Choose is the binary for an agent of a version on a platform, if it may become that of the statement.
func Choose(s *Statement, running, platform string) (Binary, error) {
	if s.Version == running {
		return Binary{}, ErrSame
	}
	b, found := s.Binaries[platform]
	if !found {
		return Binary{}, fmt.Errorf("%w: %s", ErrPlatform, platform)
	}
	if !s.Downgrade && Older(s.Version, running) {
		return Binary{}, fmt.Errorf("%w: %s, %s runs", ErrOlder, s.Version, running)
	}
	if s.Minimum != "" && Older(running, s.Minimum) {
		return Binary{}, fmt.Errorf("%w: %s runs, at least %s is needed", ErrTooOld, running, s.Minimum)
	}
	return b, nil
}

// Older compares two versions. What is no version, as that of a build by hand, is older than nothing, and nothing is older
// than it.
func Older(a, b string) bool {
	va, errA := version.ParseSemantic(a)
	vb, errB := version.ParseSemantic(b)
	return errA == nil && errB == nil && va.LessThan(vb)
}
