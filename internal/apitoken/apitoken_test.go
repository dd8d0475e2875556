// SPDX-License-Identifier: Apache-2.0

package apitoken

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustNew(t *testing.T, project string, expires time.Time) (string, *corev1.Secret) {
	t.Helper()
	plaintext, secret, err := New(project, "GitLab CI", expires)
	if err != nil {
		t.Fatal(err)
	}
	return plaintext, secret
}

func TestNew(t *testing.T) {
	plaintext, secret := mustNew(t, "supergest-001", now.Add(time.Hour))
	id, err := ID(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	immutable := true
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      "api-token-" + id,
			Namespace: "supergest-001",
			Labels: map[string]string{
				"sirrat.dynors.com/api-token": "true",
				"sirrat.dynors.com/project":   "supergest-001",
			},
		},
		Type:      "sirrat.dynors.com/api-token",
		Immutable: &immutable,
		Data: map[string][]byte{
			"hash":    hash(plaintext),
			"name":    []byte("GitLab CI"),
			"expires": []byte("2026-03-01T13:00:00Z"),
		},
	}
	if diff := cmp.Diff(want, secret); diff != "" {
		t.Errorf("secret (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprintf("%v", secret), plaintext) {
		t.Error("the Secret holds the plaintext")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct{ name, project, description string }{
		{"no project", "", ""},
		{"path", "a/b", ""},
		{"upper case", "Supergest", ""},
		{"long", strings.Repeat("a", 41), ""},
		{"line break in description", "p", "a\nb"},
		{"escape in description", "p", "\x1b[31m"},
		{"invalid UTF-8", "p", "\xff"},
		{"long description", "p", strings.Repeat("a", MaxDescription+1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := New(tc.project, tc.description, time.Time{}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestLongestDescription(t *testing.T) {
	if _, _, err := New("p", strings.Repeat("a", MaxDescription), time.Time{}); err != nil {
		t.Error(err)
	}
}

func TestTokensDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		plaintext, _ := mustNew(t, "p", time.Time{})
		id, _ := ID(plaintext)
		secret := strings.TrimPrefix(plaintext, "sirrat_"+id+"_")
		if len(secret) != 2*secretBytes {
			t.Fatalf("a secret of %d characters", len(secret))
		}
		// Each part of it is drawn: an id is no secret, and neither is what two tokens have in common.
		for _, part := range []string{id, secret[:16], secret[16:32], secret[32:]} {
			if seen[part] {
				t.Fatal("a part of a token came twice")
			}
			seen[part] = true
		}
	}
}

func TestCheck(t *testing.T) {
	plaintext, secret := mustNew(t, "p", time.Time{})
	other, _ := mustNew(t, "p", time.Time{})
	change := func(f func(*corev1.Secret)) *corev1.Secret {
		s := secret.DeepCopy()
		f(s)
		return s
	}
	expiring := func(at string) *corev1.Secret {
		return change(func(s *corev1.Secret) { s.Data[DataExpires] = []byte(at) })
	}
	for _, tc := range []struct {
		name      string
		secret    *corev1.Secret
		plaintext string
		want      error
	}{
		{"right", secret, plaintext, nil},
		{"not yet expired", expiring("2026-03-01T12:00:01Z"), plaintext, nil},
		{"expires now", expiring("2026-03-01T12:00:00Z"), plaintext, ErrExpired},
		{"expired", expiring("2025-01-01T00:00:00Z"), plaintext, ErrExpired},
		{"unreadable expiry fails closed", expiring("next year"), plaintext, ErrExpired},
		{"no secret", nil, plaintext, ErrUnknown},
		{"wrong secret part", secret, plaintext[:len(plaintext)-1] + "x", ErrUnknown},
		{"wrong and expired is not told", expiring("2025-01-01T00:00:00Z"), other, ErrUnknown},
		{"another token", secret, other, ErrUnknown},
		{"malformed", secret, "hunter2", ErrMalformed},
		{"empty", secret, "", ErrMalformed},
		{"trailing line break", secret, plaintext + "\n", ErrMalformed},
		{"empty hash", change(func(s *corev1.Secret) { s.Data[DataHash] = nil }), plaintext, ErrUnknown},
		{"dummy hash", change(func(s *corev1.Secret) { s.Data[DataHash] = dummyHash }), plaintext, ErrUnknown},
		{"other type", change(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), plaintext, ErrUnknown},
		{"no label", change(func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelToken) }), plaintext, ErrUnknown},
		{"copied to another namespace", change(func(s *corev1.Secret) { s.Namespace = "q" }), plaintext, ErrUnknown},
		{"renamed", change(func(s *corev1.Secret) { s.Name = "api-token-aaaaaaaa" }), plaintext, ErrUnknown},
		{"of another scope", change(func(s *corev1.Secret) { s.Data[DataScope] = []byte("audit") }), plaintext, ErrUnknown},
		{"of another scope and expired is not told", change(func(s *corev1.Secret) {
			s.Data[DataScope], s.Data[DataExpires] = []byte("audit"), []byte("2025-01-01T00:00:00Z")
		}), plaintext, ErrUnknown},
		{"of no scope that we know", change(func(s *corev1.Secret) { s.Data[DataScope] = []byte("pipeline") }), plaintext, ErrUnknown},
		{"being deleted", change(func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }), plaintext, ErrUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Check(tc.secret, tc.plaintext, ScopePipeline, now)
			if !errors.Is(err, tc.want) {
				t.Errorf("Check: %v, want %v", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), plaintext[16:]) {
				t.Error("the error quotes the token")
			}
		})
	}
}

func TestScopes(t *testing.T) {
	plaintext, secret, err := NewScoped("p", ScopeAudit, "auditor", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(secret.Data["scope"]); got != "audit" {
		t.Errorf("scope %q", got)
	}
	if err := Check(secret, plaintext, ScopeAudit, now); err != nil {
		t.Errorf("audit: %v", err)
	}
	if err := Check(secret, plaintext, ScopePipeline, now); !errors.Is(err, ErrUnknown) {
		t.Errorf("as a pipeline's: %v", err)
	}
	plaintext, secret = mustNew(t, "p", time.Time{})
	if err := Check(secret, plaintext, ScopeAudit, now); !errors.Is(err, ErrUnknown) {
		t.Errorf("a pipeline's, for audit: %v", err)
	}
	if _, _, err := NewScoped("p", "everything", "", time.Time{}); err == nil {
		t.Error("an unknown scope was accepted")
	}
}

func FuzzID(f *testing.F) {
	for _, s := range []string{"", "sirrat_", "sirrat_abcdefgh_" + strings.Repeat("0", 48), "sirrat_../../x_" + strings.Repeat("0", 48)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ID(s)
		if err != nil {
			return
		}
		if len(id) != idLength || strings.Trim(id, idAlphabet) != "" {
			t.Errorf("id %q", id)
		}
	})
}
