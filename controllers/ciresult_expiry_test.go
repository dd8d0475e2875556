// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// What a webhook says of a commit waits for its release, for thirty days: then it counts, or goes, and goes after its release. Reports stay.
func TestHookResultsWaitForARelease(t *testing.T) {
	b := newBench(t)
	b.setUp(b.compose())
	commit := strings.Repeat("abcd", 10)
	add := func(name, source, commit string, age time.Duration) *v1alpha1.CIResult {
		res := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.project}, Spec: v1alpha1.CIResultSpec{
			Type: v1alpha1.TypePipeline, Status: v1alpha1.StatusPassed, Commit: commit, Pipeline: "31", Job: "gitlab", Run: "7", Source: source,
			Received: metav1.NewTime(time.Now().Add(-age).Truncate(time.Second)), ReportHash: "sha256:" + strings.Repeat("0", 64)}}
		b.create(res)
		return res
	}
	claimed := add("abcdabc-pipeline-0000000001", v1alpha1.SourceGitLab, commit, 0)
	old := add("aaaaaaa-pipeline-0000000002", v1alpha1.SourceGitLab, strings.Repeat("a", 40), 31*24*time.Hour)
	recent := add("aaaaaaa-pipeline-0000000003", v1alpha1.SourceSonarQube, strings.Repeat("a", 40), 29*24*time.Hour)
	reported := add("aaaaaaa-pipeline-0000000004", "abcd1234", strings.Repeat("a", 40), 31*24*time.Hour)

	cptest.Wait(t, "the old one to go", func(ctx context.Context) error {
		err := b.c.Get(ctx, client.ObjectKeyFromObject(old), old)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
	rel := b.release(strings.Repeat("dcba", 10))
	cptest.Wait(t, "the release to be known to the controllers", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		if len(rel.Status.Conditions) == 0 {
			return errors.New("no condition")
		}
		return nil
	})
	digits := add("dcbadcb-pipeline-0000000005", v1alpha1.SourceHarbor, "dcbadcb", 31*24*time.Hour)
	cptest.Wait(t, "what was said of the commit's digits to be the release's", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(digits), digits); err != nil {
			t.Fatal(err)
		}
		if digits.Status.Release == "" {
			return fmt.Errorf("%+v", digits.Status)
		}
		return nil
	})
	if err := b.c.Delete(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "it to go once the release has", func(ctx context.Context) error {
		err := b.c.Get(ctx, client.ObjectKeyFromObject(digits), digits)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
	b.release(commit)
	cptest.Wait(t, "the result to count for the release", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(claimed), claimed); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(claimed.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Reason != v1alpha1.ReasonCounted || claimed.Status.Release == "" {
			return fmt.Errorf("%+v", claimed.Status)
		}
		return nil
	})
	cptest.Wait(t, "the others to be archived, and to stay", func(ctx context.Context) error {
		for _, res := range []*v1alpha1.CIResult{recent, reported} {
			if err := b.c.Get(ctx, client.ObjectKeyFromObject(res), res); err != nil {
				t.Fatalf("%s: %v", res.Name, err)
			}
			if !res.Status.Archived {
				return errors.New(res.Name + " is not archived")
			}
		}
		return nil
	})
}
