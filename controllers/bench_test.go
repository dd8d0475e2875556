// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// BenchmarkApprovalToAgent measures from an approval, as written by a person, to the moment at which the agent's watch
// delivers the signed Rollout: judging, authorising, taking a sequence number and signing are in between.
func BenchmarkApprovalToAgent(b *testing.B) {
	k := newBench(b)
	k.push("dev-aaaaaaa")
	k.setUp(k.compose())
	var took []time.Duration
	for i := range b.N {
		commit := fmt.Sprintf("%07x%033x", 0xb000000+i, i)
		k.push("dev-" + commit[:7])
		rel := k.release(commit)
		k.report(k.rollout("dev", func(ro *v1alpha1.Rollout) error { return isOf(ro, rel) }), v1alpha1.RolloutHealthy)
		k.awaitHealthy(rel, "dev")
		w := k.watchRollouts()
		begin := time.Now()
		k.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
		for e := range w.ResultChan() {
			ro, ok := e.Object.(*v1alpha1.Rollout)
			if ok && e.Type == watch.Added && ro.Spec.Environment == "production" && isOf(ro, rel) == nil {
				took = append(took, time.Since(begin))
				k.report(ro, v1alpha1.RolloutHealthy)
				break
			}
		}
		w.Stop()
		k.awaitHealthy(rel, "production")
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
	b.ReportMetric(0, "ns/op")
}

func isOf(ro *v1alpha1.Rollout, rel *v1alpha1.Release) error {
	if ro.Spec.Release.Name != rel.Name {
		return fmt.Errorf("of release %s", ro.Spec.Release.Name)
	}
	return nil
}

func (b *bench) awaitHealthy(rel *v1alpha1.Release, environment string) {
	b.t.Helper()
	w, err := b.watcher().Watch(b.t.Context(), &v1alpha1.ReleaseList{}, client.InNamespace(b.project))
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		r, ok := e.Object.(*v1alpha1.Release)
		if !ok || r.Name != rel.Name {
			continue
		}
		for _, env := range r.Status.Environments {
			if env.Name == environment && env.Phase == v1alpha1.PhaseHealthy {
				return
			}
		}
	}
	b.t.Fatalf("%s never became healthy in %s", rel.Name, environment)
}

func (b *bench) watchRollouts() watch.Interface {
	b.t.Helper()
	w, err := b.watcher().Watch(b.t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(v1alpha1.HostNamespace(b.host.Name)))
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

func (b *bench) watcher() client.WithWatch {
	b.t.Helper()
	c, err := client.NewWithWatch(b.env.Config, client.Options{Scheme: b.c.Scheme()})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}
