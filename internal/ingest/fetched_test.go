// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// TestFetched stores what was fetched once, keeps the worse where one scan is told twice, and lets nobody with a token take its
// place.
func TestFetched(t *testing.T) {
	b, store := newArchived(t, true)
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	f := NewFetched(b.client, b.direct, store, func() time.Time { return at })
	spec := func(high int32) v1alpha1.CIResultSpec {
		return v1alpha1.CIResultSpec{
			Commit: "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Job: "backend", Run: "1795529045123",
			Digest: "sha256:" + strings.Repeat("1", 64), Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: high}, Source: v1alpha1.SourceHarbor, Format: v1alpha1.FormatHarbor,
		}
	}
	// The same commit, type, job and run, with a token, before.
	b.mustPost(b.results(), `{"type":"scan","status":"passed","commit":"a1b2c3d4e5f60718293a4b5c6d7e8f9001122334","job":"backend","run":"1795529045123","vulnerabilities":{"critical":0,"high":0,"medium":0,"low":0}}`, 201)
	first, err := f.Put(t.Context(), b.project, spec(2), []byte(`{"two":2}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		high int32
		same bool
	}{{2, true}, {1, true}, {3, false}, {3, false}} {
		at = at.Add(time.Minute)
		name, err := f.Put(t.Context(), b.project, spec(c.high), []byte(`{"again":true}`))
		if err != nil || (name == first) != c.same {
			t.Errorf("%d: %s, %v", c.high, name, err)
		}
	}
	worst, own := int32(0), 0
	for _, r := range b.ciResults() {
		if r.Spec.Source != v1alpha1.SourceHarbor {
			continue
		}
		own++
		worst = max(worst, r.Spec.Vulnerabilities.High)
		if r.Name == first {
			raw, err := store.Get(t.Context(), r.Spec.ReportHash)
			if err != nil || string(raw) != `{"two":2}` || len(r.Spec.Report) != 0 {
				t.Errorf("%s, %v, %s", raw, err, r.Spec.Report)
			}
		}
	}
	if own != 2 || worst != 3 {
		t.Errorf("%d results, the worst with %d high", own, worst)
	}
}

type fullArchive struct{}

func (fullArchive) Put(context.Context, []byte) (string, error) { return "", errors.New("disk full") }

// Without the report in the archive there are no figures.
func TestFetchedIsArchivedFirst(t *testing.T) {
	b, _ := newArchived(t, false)
	f := NewFetched(b.client, b.direct, fullArchive{}, time.Now)
	_, err := f.Put(t.Context(), b.project, v1alpha1.CIResultSpec{Commit: "a1b2c3d", Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Source: v1alpha1.SourceHarbor}, []byte(`{}`))
	if err == nil || !strings.Contains(err.Error(), "disk full") || len(b.ciResults()) != 0 {
		t.Errorf("%v, %+v", err, b.ciResults())
	}
}
