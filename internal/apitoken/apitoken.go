// SPDX-License-Identifier: Apache-2.0

// Package apitoken makes and checks the API tokens with which a project's pipelines and auditors speak to the HTTP API.
//
// A token is `sirrat_<id>_<secret>`. The id is public: it names the Secret that stores the token's hash and stands in logs
// and results. The plaintext is shown once, by New, and stored nowhere; no error, log line or String of this package quotes
// it. A project may have several tokens; deleting a token's Secret revokes it. Each has one scope and opens nothing else: what
// a pipeline holds does not read the journal, and what an auditor holds reports nothing.
//
// The hash is a plain SHA-256: the secret part is 192 random bits, which no dictionary holds, so a slow hash would only
// slow down the requests.
//
// It imports the API types and core/v1, and holds no client: callers read and write the Secrets.
package apitoken

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	// SecretType is the type of the Secrets that hold tokens.
	SecretType corev1.SecretType = v1alpha1.Group + "/api-token"

	// DataHash is the Secret's key for the SHA-256 of the whole plaintext, in lower-case hex.
	DataHash = "hash"
	// DataName is the Secret's key for the token's description.
	DataName = "name"
	// DataExpires is the Secret's key for the time from which the token opens nothing, in RFC 3339. Absent: never.
	DataExpires = "expires"
	// DataScope is the Secret's key for the token's Scope. Absent: ScopePipeline.
	DataScope = "scope"

	// MaxDescription bounds a description, in bytes.
	MaxDescription = 200

	secretPrefix = "api-token-"
	idLength     = 8
	idAlphabet   = "abcdefghijklmnopqrstuvwxyz0123456789"
	secretBytes  = 24 // 192 bits, written as 48 hex digits
)

// Scope is what a token is for.
type Scope string

// The scopes.
const (
	// ScopePipeline: reporting results and deployments, and reading verdicts.
	ScopePipeline Scope = ""
	// ScopeAudit: reading the project's journal.
	ScopeAudit Scope = "audit"
)

// The ways in which a token can be refused.
var (
	// ErrMalformed: not a token at all.
	ErrMalformed = errors.New("not a token of the form sirrat_<id>_<secret>")
	// ErrUnknown: no such token, not with that secret, or of another scope; which of them is not told.
	ErrUnknown = errors.New("unknown token")
	// ErrExpired: the token was good. Only somebody who holds the whole plaintext gets this answer.
	ErrExpired = errors.New("expired token")
)

var (
	tokenPattern   = regexp.MustCompile(`^sirrat_([a-z0-9]{8})_[0-9A-Za-z]{27,128}$`)
	projectPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)
)

// dummyHash stands in for the hash of a token that does not exist, so that looking for one costs the same comparison.
var dummyHash = []byte(strings.Repeat("0", hex.EncodedLen(sha256.Size)))

// New makes a token for a project's pipelines. See NewScoped.
func New(project, description string, expires time.Time) (plaintext string, secret *corev1.Secret, err error) {
	return NewScoped(project, ScopePipeline, description, expires)
}

// NewScoped makes a token for a project. It returns the plaintext, to be shown once, and the Secret to create, in the namespace of
// the project. A zero expires means that the token does not expire; otherwise it is kept to the second.
func NewScoped(project string, scope Scope, description string, expires time.Time) (plaintext string, secret *corev1.Secret, err error) {
	if scope != ScopePipeline && scope != ScopeAudit {
		return "", nil, fmt.Errorf("scope %.40q: leave it out for pipelines, or %s", string(scope), ScopeAudit)
	}
	if !projectPattern.MatchString(project) {
		return "", nil, fmt.Errorf("project %q: at most 40 characters of a-z, 0-9 and '-'", project)
	}
	if err := checkDescription(description); err != nil {
		return "", nil, err
	}
	id, random := newID(), make([]byte, secretBytes)
	rand.Read(random) // never fails: see crypto/rand
	plaintext = "sirrat_" + id + "_" + hex.EncodeToString(random)

	immutable := true
	secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      SecretName(id),
			Namespace: project,
			Labels:    map[string]string{v1alpha1.LabelToken: "true", v1alpha1.LabelProject: project},
		},
		Type:      SecretType,
		Immutable: &immutable,
		Data: map[string][]byte{
			DataHash: hash(plaintext),
			DataName: []byte(description),
		},
	}
	if scope != ScopePipeline {
		secret.Data[DataScope] = []byte(scope)
	}
	if !expires.IsZero() {
		secret.Data[DataExpires] = []byte(expires.UTC().Format(time.RFC3339))
	}
	return plaintext, secret, nil
}

// ID returns the public part of a token, or ErrMalformed.
func ID(plaintext string) (string, error) {
	m := tokenPattern.FindStringSubmatch(plaintext)
	if m == nil {
		return "", ErrMalformed
	}
	return m[1], nil
}

// SecretName is the name of the Secret of the token with that id.
func SecretName(id string) string { return secretPrefix + id }

// Check tells whether the plaintext is the token that the Secret holds and opens, in this scope, the project of the Secret's
// namespace at the time now. A nil secret stands for a token that does not exist: the same hash and comparison are made, and the same
// ErrUnknown returned, as for a wrong secret or another scope. The error is nil, ErrMalformed, ErrUnknown or ErrExpired.
func Check(secret *corev1.Secret, plaintext string, scope Scope, now time.Time) error {
	stored, usable := dummyHash, false
	if secret != nil && len(secret.Data[DataHash]) == len(dummyHash) {
		stored, usable = secret.Data[DataHash], true
	}
	equal := subtle.ConstantTimeCompare(hash(plaintext), stored) == 1

	id, err := ID(plaintext)
	if err != nil {
		return err
	}
	if !equal || !usable || !isToken(secret, id) || Scope(secret.Data[DataScope]) != scope {
		return ErrUnknown
	}
	if expires, ok := secret.Data[DataExpires]; ok {
		t, err := time.Parse(time.RFC3339, string(expires))
		if err != nil || !now.Before(t) {
			return ErrExpired
		}
	}
	return nil
}

// isToken tells whether the Secret is what New makes: a Secret that somebody made for something else opens nothing.
func isToken(secret *corev1.Secret, id string) bool {
	return secret.Type == SecretType &&
		secret.Name == SecretName(id) &&
		secret.Labels[v1alpha1.LabelToken] == "true" &&
		secret.Labels[v1alpha1.LabelProject] == secret.Namespace &&
		secret.DeletionTimestamp == nil
}

func hash(plaintext string) []byte {
	sum := sha256.Sum256([]byte(plaintext))
	return []byte(hex.EncodeToString(sum[:]))
}

// newID draws each character evenly: bytes beyond the last whole multiple of the alphabet are thrown away.
func newID() string {
	const limit = 256 - 256%len(idAlphabet)
	id, draw := make([]byte, 0, idLength), make([]byte, 4*idLength)
	for len(id) < idLength {
		rand.Read(draw)
		for _, b := range draw {
			if int(b) < limit && len(id) < idLength {
				id = append(id, idAlphabet[int(b)%len(idAlphabet)])
			}
		}
	}
	return string(id)
}

func checkDescription(s string) error {
	switch {
	case len(s) > MaxDescription:
		return fmt.Errorf("description: at most %d bytes", MaxDescription)
	case !utf8.ValidString(s):
		return errors.New("description: not valid UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("description: one line of printable text")
	}
	return nil
}
