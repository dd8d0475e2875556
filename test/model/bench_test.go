// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// judged is a control plane with releases and their results, on which controllers are started and counted.
type judged struct {
	b      *testing.B
	env    *cptest.Env
	c      client.Client
	clock  atomic.Int64
	writes atomic.Int64
	states atomic.Int64 // writes of Releases' statuses
}

// perProject is how many releases a project keeps in the benchmark; twice the default retention.
const perProject = 100

var benchProjects atomic.Int64

// BenchmarkJudge measures how fast controllers that know nothing yet judge stored releases through the four gates of the
// template, what they write for each, and what they write when they start again ten minutes later: nothing.
func BenchmarkJudge(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n, "-releases"), func(b *testing.B) {
			for range b.N {
				judge(b, n)
			}
		})
	}
}

func judge(b *testing.B, releases int) {
	j := &judged{b: b, env: cptest.Start(b)}
	j.clock.Store(time.Now().Unix())
	scheme, err := controllers.NewScheme()
	j.must(err)
	j.c, err = client.New(j.env.Config, client.Options{Scheme: scheme})
	j.must(err)
	b.StopTimer()
	run := j.start()
	names := j.projects((releases + perProject - 1) / perProject)
	j.must(run.Stop())
	j.fill(names, releases)

	j.writes.Store(0)
	j.states.Store(0)
	b.StartTimer()
	begin := time.Now()
	run = j.start()
	j.await(names, releases)
	took := time.Since(begin)
	b.StopTimer()
	b.Logf("%d releases judged in %s; their results are still being archived", releases, took.Round(time.Millisecond))
	j.quiet()
	b.ReportMetric(float64(releases)/took.Seconds(), "releases/s")
	b.ReportMetric(float64(j.writes.Load())/float64(releases), "writes/release")
	b.ReportMetric(float64(j.states.Load())/float64(releases), "status-writes/release")
	b.ReportMetric(0, "ns/op")
	j.must(run.Stop())

	// Ten minutes later other controllers look at everything anew.
	j.clock.Add(600)
	j.writes.Store(0)
	run = j.start()
	if !run.Manager.GetCache().WaitForCacheSync(b.Context()) {
		b.Fatal("the cache was not filled")
	}
	j.quiet()
	b.ReportMetric(float64(j.writes.Load()), "writes-10min-later")
	j.must(run.Stop())
	for _, name := range names {
		j.must(j.c.Delete(b.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
}

func (j *judged) must(err error) {
	j.b.Helper()
	if err != nil {
		j.b.Fatal(err)
	}
}

func (j *judged) start() *controllertest.Running {
	count := func(o client.Object) {
		j.writes.Add(1)
		if _, ok := o.(*v1alpha1.Release); ok {
			j.states.Add(1)
		}
	}
	run, err := controllertest.Start(context.Background(), j.env, controllertest.Options{
		Now: func() time.Time { return time.Unix(j.clock.Load(), 0) },
		Faults: &interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				count(o)
				return c.Create(ctx, o, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				count(o)
				return c.Update(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				count(o)
				return c.Patch(ctx, o, p, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				count(o)
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
				count(o)
				return c.SubResource(sub).Update(ctx, o, opts...)
			},
		},
	})
	j.must(err)
	return run
}

// quiet waits until nothing was written for two seconds: the end of what the controllers had to do.
func (j *judged) quiet() {
	j.b.Helper()
	last, since := j.writes.Load(), time.Now()
	for limit := since.Add(20 * time.Minute); time.Since(since) < 2*time.Second; {
		if now := j.writes.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(limit) {
			j.b.Fatal("the controllers are still writing")
		}
		j.pause()
	}
}

func (j *judged) pause() {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-j.b.Context().Done():
	}
}

// projects makes module projects of the template: no registry is measured.
func (j *judged) projects(n int) []string {
	var names []string
	for range n {
		name := fmt.Sprintf("bench-%d", benchProjects.Add(1))
		names = append(names, name)
		j.must(j.c.Create(j.b.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ProjectSpec{
			Maven: []string{"com.dynors:core"}, Template: v1alpha1.TemplateDynors, Retention: v1alpha1.Retention{Releases: 1000},
		}}))
	}
	for _, name := range names {
		cptest.Wait(j.b, "project "+name, func(ctx context.Context) error {
			var p v1alpha1.Project
			if err := j.c.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
				return err
			}
			if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady) {
				return errors.New("not ready")
			}
			return nil
		})
		for _, env := range []string{"dev", "rmoa-dynors", "rmoa-client", "production"} {
			e := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: env, Namespace: name}}
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hosts":null,"supersede":"Never"}}`))
			j.must(j.c.Patch(j.b.Context(), e, patch))
		}
	}
	return names
}

// fill stores the releases, each with its tests and its scan, while nobody judges.
func (j *judged) fill(projects []string, releases int) {
	var wg sync.WaitGroup
	work := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range work {
				j.store(projects[i/perProject], i)
			}
		})
	}
	for i := range releases {
		work <- i
	}
	close(work)
	wg.Wait()
}

func (j *judged) store(project string, i int) {
	commit := fmt.Sprintf("%07x", 0xa000000+i) + strings.Repeat("0", 33)
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: commit[:7], Namespace: project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Branch: "main"},
	}
	if err := j.c.Create(j.b.Context(), r); err != nil {
		j.b.Error(err)
		return
	}
	coverage := 85.0
	for _, typ := range []string{v1alpha1.TypeTests, v1alpha1.TypeScan} {
		res := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: commit[:7] + "-" + typ + "-0123456789", Namespace: project}, Spec: v1alpha1.CIResultSpec{
			Commit: commit, Type: typ, Status: v1alpha1.StatusPassed, Received: metav1.NewTime(time.Unix(j.clock.Load(), 0)),
			ReportHash: "sha256:" + strings.Repeat("0", 64), Report: []byte(`{"type":"` + typ + `"}`),
		}}
		if typ == v1alpha1.TypeTests {
			res.Spec.Coverage = &coverage
		}
		if err := j.c.Create(j.b.Context(), res); err != nil {
			j.b.Error(err)
		}
	}
}

// await waits until every release is authorised for dev and every gate has judged it.
func (j *judged) await(projects []string, releases int) {
	limit := time.Now().Add(10 * time.Minute)
	for {
		done := 0
		for _, p := range projects {
			var list v1alpha1.ReleaseList
			j.must(j.c.List(j.b.Context(), &list, client.InNamespace(p)))
			for _, r := range list.Items {
				if len(r.Status.Gates) == 4 && len(r.Status.Evidence) == 2 && len(r.Status.Environments) == 1 {
					done++
				}
			}
			if done%perProject != 0 && done != releases {
				break
			}
		}
		if done == releases {
			return
		}
		if time.Now().After(limit) {
			j.b.Fatalf("%d of %d releases judged", done, releases)
		}
		j.pause()
	}
}

// BenchmarkSoakEnd measures how long after the exact end of a soak the gate opens. Nothing polls: the look at the end is
// asked for when the soak begins.
func BenchmarkSoakEnd(b *testing.B) {
	j := &judged{b: b, env: cptest.Start(b)}
	scheme, err := controllers.NewScheme()
	j.must(err)
	j.c, err = client.New(j.env.Config, client.Options{Scheme: scheme})
	j.must(err)
	run, err := controllertest.Start(context.Background(), j.env, controllertest.Options{})
	j.must(err)
	j.clock.Store(time.Now().Unix())
	name := j.projects(1)[0]
	const soak = 3 * time.Second
	gate := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"mode":"Automatic","criteria":[{"name":"soak","soak":{"environment":"dev","min":"3s","max":"3s"}}]}}`))
	j.must(j.c.Patch(b.Context(), &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "qa", Namespace: name}}, gate))
	var late []time.Duration
	for i := range b.N {
		j.clock.Store(time.Now().Unix())
		j.store(name, i)
		release := fmt.Sprintf("%07x", 0xa000000+i)
		deployed := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: release + "-deployment-0123456789", Namespace: name}, Spec: v1alpha1.CIResultSpec{
			Commit: release + strings.Repeat("0", 33), Type: v1alpha1.TypeDeployment, Status: v1alpha1.StatusDeployed, Environment: "dev",
			Received: metav1.NewTime(time.Now().Truncate(time.Second)), ReportHash: "sha256:" + strings.Repeat("0", 64),
		}}
		j.must(j.c.Create(b.Context(), deployed))
		cptest.Wait(b, "the gate to open", func(ctx context.Context) error {
			var r v1alpha1.Release
			if err := j.c.Get(ctx, client.ObjectKey{Namespace: name, Name: release}, &r); err != nil {
				return err
			}
			if len(r.Status.Environments) < 2 || r.Status.Environments[0].HealthySince == nil {
				return fmt.Errorf("%s", r.Status.Next)
			}
			late = append(late, r.Status.Environments[1].AuthorizedAt.Sub(r.Status.Environments[0].HealthySince.Add(soak)))
			return nil
		})
	}
	b.ReportMetric(float64(slices.Max(late).Microseconds())/1000, "ms-late-max")
	b.ReportMetric(float64(slices.Min(late).Microseconds())/1000, "ms-late-min")
	b.ReportMetric(0, "ns/op")
	j.must(run.Stop())
}
