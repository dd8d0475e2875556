// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// pollInterval is how often a condition is looked at.
const pollInterval = 100 * time.Millisecond

// unmet is a condition that did not come about in time.
type unmet struct {
	expected string
	within   time.Duration
	seen     string
}

func (e *unmet) Error() string {
	return fmt.Sprintf("expected within %s: %s; last seen: %s", e.within, e.expected, e.seen)
}

// endedError is a process that ended while somebody waited for it.
type endedError struct{ name string }

func (e *endedError) Error() string { return "the process ended: " + e.name }

// await looks until a condition holds. look says what it sees; an error of it counts as something seen, since a server
// that restarts answers nothing for a moment.
func await(ctx context.Context, within time.Duration, expected string, look func(context.Context) (seen string, holds bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := "nothing"
	for {
		seen, holds, err := look(ctx)
		var ended *endedError
		switch {
		case errors.As(err, &ended):
			return err // waiting longer is of no use
		case holds && err == nil:
			return nil
		case ctx.Err() != nil: // the error says only that the time is over
		case err != nil:
			last = err.Error()
		default:
			last = seen
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) {
				return cause
			}
			return &unmet{expected: expected, within: within, seen: last}
		case <-tick.C:
		}
	}
}

// connect makes a client of the control plane from a kubeconfig.
func connect(kubeconfig string) (client.Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	log.SetLogger(logr.Discard()) // what goes wrong comes back as an error
	config.QPS = -1               // one poll at a time needs no limit
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the control plane: %w", err)
	}
	return c, nil
}

// release reads a release of the demo's project.
func (d *demo) release(ctx context.Context, name string) (*v1alpha1.Release, error) {
	r := &v1alpha1.Release{}
	return r, d.cluster.Get(ctx, client.ObjectKey{Namespace: project, Name: name}, r)
}

// inEnvironment is what a release's status says of an environment; nil when it was never authorised there.
func inEnvironment(r *v1alpha1.Release, environment string) *v1alpha1.ReleaseEnvironment {
	i := slices.IndexFunc(r.Status.Environments, func(e v1alpha1.ReleaseEnvironment) bool { return e.Name == environment })
	if i < 0 {
		return nil
	}
	return &r.Status.Environments[i]
}

// atGate is what a release's status says of a gate.
func atGate(r *v1alpha1.Release, gate string) v1alpha1.GateVerdict {
	i := slices.IndexFunc(r.Status.Gates, func(g v1alpha1.GateVerdict) bool { return g.Name == gate })
	if i < 0 {
		return v1alpha1.GateVerdict{}
	}
	return r.Status.Gates[i]
}

// describe says where a release is, for a person who waits.
func describe(r *v1alpha1.Release) string {
	text := fmt.Sprintf("release %s: karma %d %s, next: %s", r.Name, r.Status.Karma, r.Status.Level, r.Status.Next)
	for _, g := range r.Status.Gates {
		text += fmt.Sprintf("; gate %s %s %s", g.Name, g.Verdict, g.Message)
	}
	for _, e := range r.Status.Environments {
		text += fmt.Sprintf("; %s %s %s", e.Name, e.Phase, e.Message)
	}
	for _, c := range r.Status.Conditions {
		text += fmt.Sprintf("; %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	return text
}

// awaitRelease waits until a release's status holds what is expected.
func (d *demo) awaitRelease(ctx context.Context, name, expected string, within time.Duration, holds func(*v1alpha1.Release) bool) error {
	return await(ctx, within, expected, func(ctx context.Context) (string, bool, error) {
		r, err := d.release(ctx, name)
		if err != nil {
			return "", false, err
		}
		return describe(r), holds(r), nil
	})
}

// awaitHealthy waits until a release is healthy in an environment.
func (d *demo) awaitHealthy(ctx context.Context, name, environment string, within time.Duration) error {
	return d.awaitRelease(ctx, name, fmt.Sprintf("release %s Healthy in %s", name, environment), within, func(r *v1alpha1.Release) bool {
		e := inEnvironment(r, environment)
		return e != nil && e.Phase == v1alpha1.PhaseHealthy
	})
}

// get fetches a page of the app that runs in an environment.
func get(ctx context.Context, url string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	request.Close = true // the next answer may come from another container
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := readAll(response.Body)
	return response.StatusCode, text, err
}
