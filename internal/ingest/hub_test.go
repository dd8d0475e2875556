// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// feed is where a test says what the informers see.
type feed struct {
	cache.Informer // not called
	handlers       []toolscache.ResourceEventHandler
}

func (f *feed) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return f, nil
}

func (f *feed) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	f.handlers = append(f.handlers, h)
	return registered{}, nil
}

type registered struct {
	toolscache.ResourceEventHandlerRegistration
}

func (registered) HasSynced() bool { return true }

func (f *feed) add(obj any) {
	for _, h := range f.handlers {
		h.OnAdd(obj, false)
	}
}

func (f *feed) update(obj any) {
	for _, h := range f.handlers {
		h.OnUpdate(nil, obj)
	}
}

func (f *feed) delete(obj any) {
	for _, h := range f.handlers {
		h.OnDelete(obj)
	}
}

func releaseIn(namespace, name, commit string, evidence ...string) *v1alpha1.Release {
	return &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit},
		Status:     v1alpha1.ReleaseStatus{Evidence: evidence},
	}
}

func deploymentIn(namespace, name, environment string, received int64) *v1alpha1.CIResult {
	return &v1alpha1.CIResult{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.CIResultSpec{Type: v1alpha1.TypeDeployment, Environment: environment, Commit: someCommit,
			Received: metav1.NewTime(time.Unix(received, 0))},
	}
}

func TestHubIndex(t *testing.T) {
	f := &feed{}
	h, err := newHub(f)
	if err != nil || !h.hasSynced() {
		t.Fatal(err)
	}
	one, two := commitOf("a1b2c3d0"), commitOf("a1b2c3d1")
	f.add(releaseIn("p", "one", one))
	f.add(releaseIn("p", "two", two))
	f.add(releaseIn("q", "one", one))
	f.add(deploymentIn("p", "d1", "dev", 1))
	f.add(deploymentIn("p", "d3", "dev", 3))
	f.add(deploymentIn("p", "d2", "dev", 2))
	f.add(deploymentIn("p", "e9", "prod", 9))
	if n := len(h.releasesWith("p", "a1b2c3d")); n != 2 {
		t.Errorf("%d releases, want 2", n)
	}
	if n := len(h.allReleases("q")); n != 1 {
		t.Errorf("%d releases in q, want 1", n)
	}
	if n := len(h.resultsWith("p", someCommit)); n != 4 {
		t.Errorf("%d results, want 4", n)
	}
	if d := h.lastDeployment("p", "dev"); d == nil || d.Name != "d3" {
		t.Errorf("last deployment %v, want d3", d)
	}
	if d := h.lastDeployment("q", "dev"); d != nil {
		t.Errorf("a deployment of another project: %s", d.Name)
	}
	f.delete(deploymentIn("p", "d3", "dev", 3))
	f.delete(toolscache.DeletedFinalStateUnknown{Key: "p/two", Obj: releaseIn("p", "two", two)})
	if d := h.lastDeployment("p", "dev"); d == nil || d.Name != "d2" {
		t.Errorf("last deployment %v, want d2", d)
	}
	if n := len(h.releasesWith("p", "a1b2c3d")); n != 1 {
		t.Errorf("%d releases, want 1", n)
	}
	f.delete(releaseIn("p", "one", one))
	f.delete(releaseIn("q", "one", one))
	if len(h.releases)+len(h.releasesOf) != 0 {
		t.Error("the index of releases grows forever")
	}
}

// Thousands wait at the same time; each is woken by its own release, and nothing is left behind.
func TestHubWaiters(t *testing.T) {
	f := &feed{}
	h, err := newHub(f)
	if err != nil {
		t.Fatal(err)
	}
	const waiters, commits = 5000, 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	commit := func(i int) string { return fmt.Sprintf("%07x%033x", i%commits, 0) }
	var asked atomic.Int64
	var wg sync.WaitGroup
	for i := range waiters {
		wg.Go(func() {
			first := true
			done := func() bool {
				if first {
					first = false
					asked.Add(1)
				}
				return judgedIn(h.releasesWith("p", commit(i)), nil, commit(i), "r") != nil
			}
			if !h.wait(ctx, nil, commitTopic("p", commit(i)), done) {
				t.Error("not woken")
			}
		})
	}
	for asked.Load() < waiters && ctx.Err() == nil { // every waiter has looked once, and found nothing
		f.update(releaseIn("q", "x", commit(0), "r"))
	}
	for i := range commits {
		f.add(releaseIn("p", commit(i)[:7], commit(i)))
		f.update(releaseIn("p", commit(i)[:7], commit(i), "r"))
	}
	wg.Wait()
	if n := len(h.waiters); n != 0 {
		t.Errorf("%d topics are left", n)
	}
}

func TestHubWaitEnds(t *testing.T) {
	h, err := newHub(&feed{})
	if err != nil {
		t.Fatal(err)
	}
	never := func() bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if h.wait(ctx, nil, topic{}, never) {
		t.Error("a cancelled wait succeeded")
	}
	stop := make(chan struct{})
	close(stop)
	if h.wait(t.Context(), stop, topic{}, never) {
		t.Error("a stopped wait succeeded")
	}
}

func TestMakings(t *testing.T) {
	var m makings
	key, now := releaseKey{"p", someCommit}, time.Unix(0, 0)
	leader, first := m.begin(key, now)
	if !first {
		t.Fatal("somebody else is making it")
	}
	if follower, first := m.begin(key, now.Add(time.Hour)); first || follower != leader {
		t.Error("two make the same release, since the first is slow")
	}
	if _, first := m.begin(releaseKey{"q", someCommit}, now); !first {
		t.Error("another project's release is taken for this one")
	}
	leader.err = errors.New("failed")
	m.end(key, leader)
	leader, first = m.begin(key, now)
	if !first {
		t.Fatal("a failure is remembered")
	}
	m.end(key, leader)
	if _, first := m.begin(key, now.Add(makingLife-1)); first {
		t.Error("a success is forgotten before the index can know")
	}
	if _, first := m.begin(key, now.Add(makingLife)); !first {
		t.Error("a success is remembered for ever")
	}
}
