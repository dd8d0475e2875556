// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// outsideWorkers are the workers of a controller that waits for answers of what projects name: registries, Harbors, GitLabs.
	outsideWorkers = 8
	// outsideShare is how many of them one project may have at the same time, so that what it names cannot hold up the others
	// by answering slowly.
	outsideShare = 2
	// turnWait is how long a worker waits for a turn of a project: those before it mostly find nothing to do. turnPause is when
	// it is tried again.
	turnWait, turnPause = 50 * time.Millisecond, 5 * time.Second
)

// turns lets so many requests of one namespace be reconciled at the same time, and no more.
type turns struct {
	reconcile.Reconciler
	share    int64
	projects sync.Map // of *semaphore.Weighted, by namespace
}

func inTurns(share int64, r reconcile.Reconciler) *turns { return &turns{Reconciler: r, share: share} }

// Reconcile implements reconcile.Reconciler.
func (t *turns) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	found, _ := t.projects.LoadOrStore(req.Namespace, semaphore.NewWeighted(t.share))
	turn := found.(*semaphore.Weighted)
	soon, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if turn.Acquire(soon, 1) != nil {
		return ctrl.Result{RequeueAfter: turnPause}, ctx.Err()
	}
	defer turn.Release(1)
	return t.Reconciler.Reconcile(ctx, req)
}
