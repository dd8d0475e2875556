// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"fmt"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Informers hands out shared informers; controller-runtime's cache.Cache does.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
}

// hub is an index over the Releases and CIResults of the informers, and the place where requests wait for them to change.
// Any number of requests share the two informers.
//
// Objects that it hands out belong to the informers: read only.
type hub struct {
	mu sync.RWMutex
	// By namespace and name.
	releases map[string]map[string]*v1alpha1.Release
	// By topic and name.
	releasesOf map[topic]map[string]*v1alpha1.Release
	resultsOf  map[topic]map[string]*v1alpha1.CIResult
	// Results of type deployment, by namespace and environment (a topic of the same shape) and name.
	deployments map[topic]map[string]*v1alpha1.CIResult
	waiters     map[topic]map[chan struct{}]struct{}

	synced []func() bool
}

// topic is what a request waits for: Releases and CIResults of a namespace whose commits share the first seven digits.
type topic struct{ namespace, of string }

func commitTopic(namespace, commit string) topic {
	return topic{namespace, v1alpha1.ShortSHA(commit)}
}

func newHub(informers Informers) (*hub, error) {
	h := &hub{
		releases:    map[string]map[string]*v1alpha1.Release{},
		releasesOf:  map[topic]map[string]*v1alpha1.Release{},
		resultsOf:   map[topic]map[string]*v1alpha1.CIResult{},
		deployments: map[topic]map[string]*v1alpha1.CIResult{},
		waiters:     map[topic]map[chan struct{}]struct{}{},
	}
	if err := follow(h, informers, &v1alpha1.Release{}, h.setRelease, h.dropRelease); err != nil {
		return nil, err
	}
	if err := follow(h, informers, &v1alpha1.CIResult{}, h.setResult, h.dropResult); err != nil {
		return nil, err
	}
	return h, nil
}

// follow calls set and drop, one at a time for each kind, with every object of the kind.
func follow[T client.Object](h *hub, informers Informers, kind T, set, drop func(T)) error {
	informer, err := informers.GetInformer(context.Background(), kind, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("informer for %T: %w", kind, err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				set(o)
			}
		},
		UpdateFunc: func(_, obj any) {
			if o, ok := obj.(T); ok {
				set(o)
			}
		},
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if o, ok := obj.(T); ok {
				drop(o)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("follow %T: %w", kind, err)
	}
	h.synced = append(h.synced, registration.HasSynced)
	return nil
}

// hasSynced tells whether the index holds everything that existed when the informers started.
func (h *hub) hasSynced() bool {
	for _, synced := range h.synced {
		if !synced() {
			return false
		}
	}
	return true
}

func (h *hub) setRelease(r *v1alpha1.Release) {
	h.mu.Lock()
	defer h.mu.Unlock()
	put(h.releases, r.Namespace, r.Name, r)
	put(h.releasesOf, commitTopic(r.Namespace, r.Spec.Commit), r.Name, r)
	h.notify(commitTopic(r.Namespace, r.Spec.Commit))
}

func (h *hub) dropRelease(r *v1alpha1.Release) {
	h.mu.Lock()
	defer h.mu.Unlock()
	remove(h.releases, r.Namespace, r.Name)
	remove(h.releasesOf, commitTopic(r.Namespace, r.Spec.Commit), r.Name)
	h.notify(commitTopic(r.Namespace, r.Spec.Commit))
}

func (h *hub) setResult(r *v1alpha1.CIResult) {
	h.mu.Lock()
	defer h.mu.Unlock()
	put(h.resultsOf, commitTopic(r.Namespace, r.Spec.Commit), r.Name, r)
	if r.Spec.Type == v1alpha1.TypeDeployment {
		put(h.deployments, topic{r.Namespace, r.Spec.Environment}, r.Name, r)
	}
	h.notify(commitTopic(r.Namespace, r.Spec.Commit))
}

func (h *hub) dropResult(r *v1alpha1.CIResult) {
	h.mu.Lock()
	defer h.mu.Unlock()
	remove(h.resultsOf, commitTopic(r.Namespace, r.Spec.Commit), r.Name)
	remove(h.deployments, topic{r.Namespace, r.Spec.Environment}, r.Name)
}

func put[K comparable, T any](index map[K]map[string]T, key K, name string, object T) {
	if index[key] == nil {
		index[key] = map[string]T{}
	}
	index[key][name] = object
}

func remove[K comparable, T any](index map[K]map[string]T, key K, name string) {
	delete(index[key], name)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// releasesWith calls yield with every Release of the commit's topic.
func (h *hub) releasesWith(namespace, commit string) []*v1alpha1.Release {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return values(h.releasesOf[commitTopic(namespace, commit)])
}

// resultsWith returns every CIResult of the commit's topic.
func (h *hub) resultsWith(namespace, commit string) []*v1alpha1.CIResult {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return values(h.resultsOf[commitTopic(namespace, commit)])
}

// allReleases returns every Release of a namespace.
func (h *hub) allReleases(namespace string) []*v1alpha1.Release {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return values(h.releases[namespace])
}

// lastDeployment returns the deployment that was received last in an environment, nil if there was none.
func (h *hub) lastDeployment(namespace, environment string) *v1alpha1.CIResult {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var last *v1alpha1.CIResult
	for _, d := range h.deployments[topic{namespace, environment}] {
		if last == nil || last.Spec.Received.Before(&d.Spec.Received) ||
			last.Spec.Received.Equal(&d.Spec.Received) && last.Name < d.Name {
			last = d
		}
	}
	return last
}

func values[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// notify wakes whoever waits for a topic. A waiter that has not looked yet since the last time needs no second call.
func (h *hub) notify(t topic) {
	for c := range h.waiters[t] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// wait returns when done reports true, which it asks at once and after each change of the topic, or when ctx ends or stop is
// closed. It returns the last answer of done.
func (h *hub) wait(ctx context.Context, stop <-chan struct{}, t topic, done func() bool) bool {
	changed := make(chan struct{}, 1)
	h.mu.Lock()
	if h.waiters[t] == nil {
		h.waiters[t] = map[chan struct{}]struct{}{}
	}
	h.waiters[t][changed] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiters[t], changed)
		if len(h.waiters[t]) == 0 {
			delete(h.waiters, t)
		}
	}()
	for {
		if done() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return done()
		case <-stop:
			return done()
		}
	}
}
