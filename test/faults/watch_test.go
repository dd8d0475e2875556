// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/dynors/sirrat/test/faults/oracle"
)

// Labels of Compose.
const (
	projectLabel = "com.docker.compose.project"
	serviceLabel = "com.docker.compose.service"
	oneOffLabel  = "com.docker.compose.oneoff"
)

// watcher records what the engine does and what the API server is told.
type watcher struct {
	w *world

	mu sync.Mutex
	// last event of the engine, and those of the same moment, so that none is lost or counted twice when the engine was away.
	last time.Time
	seen map[string]bool
	// phases that were recorded, and the version of the object that was looked at last, by Rollout: a list may be ahead of
	// the watch.
	phases   map[string]string
	versions map[string]uint64
}

func (w *world) watch() *watcher {
	w.Helper()
	r := &watcher{w: w, seen: map[string]bool{}, phases: map[string]string{}, versions: map[string]uint64{}, last: time.Now().Add(-time.Second)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	w.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for ctx.Err() == nil {
			r.followEngine(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	objects := w.objects()
	wg.Go(func() {
		for ctx.Err() == nil {
			stream, err := objects.Watch(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			for e := range stream.ResultChan() {
				if object, ok := e.Object.(*unstructured.Unstructured); ok && e.Type != "DELETED" {
					r.report(object)
				}
			}
		}
	})
	return r
}

// followEngine records events until the engine goes away.
func (r *watcher) followEngine(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := r.w.engine.Client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return
	}
	r.mu.Lock()
	since := fmt.Sprintf("%d.%09d", r.last.Unix(), r.last.Nanosecond())
	r.mu.Unlock()
	stream := r.w.engine.Client.Events(ctx, client.EventsListOptions{Since: since})
	for {
		select {
		case <-stream.Err:
			return
		case m := <-stream.Messages:
			r.event(m)
		}
	}
}

func (r *watcher) event(m events.Message) {
	at := time.Unix(0, m.TimeNano)
	r.mu.Lock()
	if at.After(r.last) {
		r.last = at
	}
	key := fmt.Sprint(m.TimeNano, m.Action, m.Actor.ID)
	known := r.seen[key]
	r.seen[key] = true
	r.mu.Unlock()
	if known {
		return
	}
	switch {
	case m.Type == events.ImageEventType && m.Action == events.ActionPull && strings.HasPrefix(m.Actor.ID, r.w.hub.host+"/") &&
		!strings.HasPrefix(m.Actor.ID, r.w.hub.host+"/foreign@"):
		r.w.log.Add(oracle.Entry{At: at, Kind: oracle.Pulled, Image: m.Actor.ID})
	case m.Type == events.ContainerEventType && m.Actor.Attributes[projectLabel] == r.w.project && !strings.HasPrefix(string(m.Action), "exec_"):
		r.w.log.Add(oracle.Entry{
			At: at, Kind: oracle.Container, Action: string(m.Action), ID: m.Actor.ID,
			Service: m.Actor.Attributes[serviceLabel], Image: m.Actor.Attributes["image"],
			ExitCode: m.Actor.Attributes["exitCode"],
		})
	}
}

// report records a status that the API server has, if its phase is new.
func (r *watcher) report(object *unstructured.Unstructured) {
	phase, _, _ := unstructured.NestedString(object.Object, "status", "phase")
	serving, _, _ := unstructured.NestedInt64(object.Object, "status", "servingSequence")
	name := object.GetName()
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		r.w.Errorf("resource version of %s: %s", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if version <= r.versions[name] {
		return
	}
	r.versions[name] = version
	if phase == "" || r.phases[name] == phase {
		return
	}
	r.phases[name] = phase
	r.w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Report, Rollout: name, Phase: phase, Serving: serving})
}

// settle looks at what the watch may not have brought yet.
func (r *watcher) settle() {
	r.w.Helper()
	list, err := r.w.objects().List(r.w.Context(), metav1.ListOptions{})
	if err != nil {
		r.w.Error(err)
		return
	}
	for i := range list.Items {
		r.report(&list.Items[i])
	}
}
