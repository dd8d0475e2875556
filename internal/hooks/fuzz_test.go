// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"errors"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// fuzz feeds variants of a source's samples, and of what is refused, to its reader, which must not panic, must not find
// anything impossible, and must say the same again.
func fuzz[T any](f *testing.F, source string, read func([]byte) (T, error), possible func(*testing.T, T)) {
	files, err := filepath.Glob("testdata/" + source + "-*.json")
	if err != nil || len(files) < 2 {
		f.Fatalf("%d samples: %v", len(files), err)
	}
	for _, file := range files {
		f.Add(sample(f, filepath.Base(file)))
	}
	for _, body := range hostile {
		if len(body) < 1000 {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := read(data)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || refused.Detail == "" || printable(refused.Field) != refused.Field {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		possible(t, got)
		again, err := read(data)
		if diff := cmp.Diff(got, again); diff != "" || err != nil {
			t.Fatalf("%v, then: %s", err, diff)
		}
	})
}

// inert checks that text is fit to be kept.
func inert(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !utf8.ValidString(s) || printable(s) != s || len(s) > maxURL {
			t.Fatalf("%q is kept", s)
		}
	}
}

func full(t *testing.T, commit string) {
	t.Helper()
	if commit != "" && !commitPattern.MatchString(commit) {
		t.Fatalf("%q is no commit", commit)
	}
}

func FuzzReadGitLab(f *testing.F) {
	fuzz(f, "gitlab", ReadGitLab, func(t *testing.T, e GitLab) {
		inert(t, e.Kind, e.ProjectPath, e.Branch, e.Tag, e.Word, e.Origin, e.Pipeline, e.Job, e.Run, e.Environment, e.EnvironmentSlug, e.URL)
		if e.Kind != KindDeployment {
			full(t, e.Commit)
		} else if !abbreviated.MatchString(e.Commit) {
			t.Fatalf("%q is no commit", e.Commit)
		}
		if e.Status == v1alpha1.StatusPassed && e.Word != "success" || e.Status != "" && e.Commit == "" || e.Kind == "" {
			t.Fatalf("impossible: %+v", e)
		}
	})
}

func FuzzReadHarbor(f *testing.F) {
	fuzz(f, "harbor", ReadHarbor, func(t *testing.T, e Harbor) {
		inert(t, e.Type, e.Repository)
		for _, a := range e.Artifacts {
			inert(t, a.Digest, a.Tag, a.Reference)
			s := a.Scan
			if s == nil {
				continue
			}
			inert(t, s.Reason, s.Scanner)
			if (s.Status == v1alpha1.StatusPassed) != (s.Findings != nil) || s.Status == v1alpha1.StatusPassed && e.Type != HarborScanned ||
				!digestPattern.MatchString(a.Digest) || s.Findings != nil && min(s.Findings.Critical, s.Findings.High, s.Findings.Medium, s.Findings.Low) < 0 {
				t.Fatalf("impossible: %+v", a)
			}
		}
	})
}

func FuzzReadSonarQube(f *testing.F) {
	fuzz(f, "sonarqube", ReadSonarQube, func(t *testing.T, e SonarQube) {
		inert(t, e.Task, e.Project, e.Branch, e.Gate, e.URL)
		full(t, e.Commit)
		if e.Status == "" || e.Status == v1alpha1.StatusPassed && e.Gate != "OK" || e.Coverage != nil && (*e.Coverage < 0 || *e.Coverage > 100) {
			t.Fatalf("impossible: %+v", e)
		}
	})
}
