// SPDX-License-Identifier: Apache-2.0

// Package controllertest runs the controllers in tests as `sirrat server` does: on the API server that cptest started,
// with a journal in the folder of its data. Only tests import it.
package controllertest

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// Running are the controllers and what belongs to them.
type Running struct {
	Manager ctrl.Manager
	Keys    *controllers.Keys
	Journal *journal.Journal
	Archive archive.Store
}

// Start starts the controllers; they run until ctx ends. now may be nil for the real clock.
func Start(ctx context.Context, e *cptest.Env, now func() time.Time) (*Running, error) {
	if now == nil {
		now = time.Now
	}
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	ctrl.SetLogger(logr.Discard())
	mgr, err := ctrl.NewManager(e.Config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: logr.Discard(),
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: controllers.CacheOptions()},
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
	r.Archive = store
	if r.Journal, err = journal.Open(store, r.Keys.Signer, now, controllers.Anchor{Client: direct}); err != nil {
		return nil, err
	}
	if err := controllers.Setup(ctx, mgr, controllers.Options{Keys: r.Keys, Journal: r.Journal, Archive: store, Now: now}); err != nil {
		return nil, err
	}
	go func() {
		if err := mgr.Start(ctx); err != nil {
			panic(err)
		}
	}()
	return r, nil
}
