// SPDX-License-Identifier: Apache-2.0

// Package controllertest runs the controllers in tests as `sirrat server` does: on the API server that cptest started,
// with a journal in the folder of its data. Only tests import it.
package controllertest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// Running are the controllers and what belongs to them.
type Running struct {
	Manager ctrl.Manager
	Keys    *controllers.Keys
	Journal *journal.Journal
	Archive archive.Store
	Agents  *agentfiles.Files
	stop    func() error
}

// Options of Start.
type Options struct {
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Faults, if any, come between the controllers and the API server.
	Faults *interceptor.Funcs
	// Link is the address of a release's page, for GitLab. Nil: there is none.
	Link func(*v1alpha1.Release) string
	// Retry and ReplicationTimeout are as in controllers.Options.
	Retry, ReplicationTimeout time.Duration
	// Log takes what the controllers say. The zero value drops it.
	Log logr.Logger
}

// Stop ends the controllers and closes the journal, so that others can be started.
func (r *Running) Stop() error { return r.stop() }

// Start starts the controllers; they run until ctx ends or Stop.
func Start(ctx context.Context, e *cptest.Env, o Options) (*Running, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	now := o.Now
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	ctrl.SetLogger(logr.Discard())
	mgr, err := ctrl.NewManager(e.Config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: o.Log,
		Cache:      cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: controllers.CacheOptions()},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // they are started more than once in a process
		NewClient: func(cfg *rest.Config, opts client.Options) (client.Client, error) {
			c, err := client.NewWithWatch(cfg, opts)
			if err == nil && o.Faults != nil {
				return interceptor.NewClient(c, *o.Faults), nil
			}
			return c, err
		},
	})
	if err != nil {
		return nil, err
	}
	direct, err := client.New(e.Config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	r := &Running{Manager: mgr}
	if r.Keys, err = controllers.EnsureKeys(ctx, direct); err != nil {
		return nil, err
	}
	store, err := archive.OpenDirectory(filepath.Join(e.DataDir, "archive"), func(t archive.Torn) { panic(fmt.Sprint("torn journal in a test: ", t)) })
	if err != nil {
		return nil, err
	}
	r.Archive, r.Agents = store, agentfiles.Open(filepath.Join(e.DataDir, "agents"))
	if r.Journal, err = journal.Open(store, r.Keys.Signer, now, controllers.Anchor{Client: direct}); err != nil {
		return nil, err
	}
	setup := controllers.Options{Keys: r.Keys, Journal: r.Journal, Archive: store, Agents: r.Agents, URL: "https://sirrat.example", Now: now,
		Link: o.Link, Egress: egress.Guard{Private: true}, Retry: o.Retry, ReplicationTimeout: o.ReplicationTimeout}
	if err := controllers.Setup(ctx, mgr, setup); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	r.stop = func() error {
		cancel()
		return errors.Join(<-ended, r.Journal.Close(), store.Close())
	}
	return r, nil
}
