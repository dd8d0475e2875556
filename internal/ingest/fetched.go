// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// Fetched stores what the installation itself fetched about a commit the way it stores what pipelines send: the report goes into
// the archive as it came before its figures are stored, and the same report again is the same result.
type Fetched struct{ a *api }

// NewFetched makes a store. direct reads from the API server what c, which may be cached, does not have.
func NewFetched(c client.Client, direct client.Reader, archive Archive, now func() time.Time) *Fetched {
	return &Fetched{&api{o: Options{Client: c, APIReader: direct, Archive: archive, Now: now}}}
}

// Put stores a result with its report; spec says everything but when it was received and the report's hash. Of two different
// reports on one run the worst counts, as with a pipeline's.
func (f *Fetched) Put(ctx context.Context, project string, spec v1alpha1.CIResultSpec, report []byte) (name string, err error) {
	spec.Received = metav1.NewTime(f.a.o.Now().UTC().Truncate(time.Second))
	spec.ReportHash = reportHash(report)
	hash, err := f.a.o.Archive.Put(ctx, report)
	if err == nil && hash != spec.ReportHash {
		err = errors.New("it was stored under another hash")
	}
	if err != nil {
		return "", fmt.Errorf("archive the report: %w", err)
	}
	// The source is part of the identity: nobody with a token can take the place of what was fetched.
	identity := hashOf([]any{spec.Source, spec.Digest, runOf(spec)})
	same := func(o v1alpha1.CIResultSpec) bool {
		return o.Source == spec.Source && o.Digest == spec.Digest && runOf(o) == runOf(spec)
	}
	name, existing, err := f.a.storeResult(ctx, project, spec, identity, same)
	if err != nil || existing == nil || sameContent(existing.Spec, spec) || !evidence.Worsens(existing.Spec, spec) {
		return name, err
	}
	name, _, err = f.a.storeResult(ctx, project, spec, contentHash(spec, spec.Source), func(o v1alpha1.CIResultSpec) bool {
		return o.Source == spec.Source && sameContent(o, spec)
	})
	return name, err
}
