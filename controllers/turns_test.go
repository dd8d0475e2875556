// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// A project whose registry does not answer has its share of the workers, and the others have theirs.
func TestTurns(t *testing.T) {
	started, end := make(chan struct{}), make(chan struct{})
	r := inTurns(2, reconcile.Func(func(_ context.Context, req reconcile.Request) (reconcile.Result, error) {
		if req.Namespace == "slow" {
			started <- struct{}{}
			<-end
		}
		return reconcile.Result{}, nil
	}))
	ask := func(project string) reconcile.Result {
		got, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: project, Name: "a1b2c3d"}})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	done := make(chan reconcile.Result)
	for range 2 {
		go func() { done <- ask("slow") }()
		<-started
	}
	if got := ask("slow"); got.RequeueAfter != turnPause {
		t.Errorf("a third: %+v", got)
	}
	if got := ask("quick"); got.RequeueAfter != 0 {
		t.Errorf("another project's: %+v", got)
	}
	close(end)
	for range 2 {
		if got := <-done; got.RequeueAfter != 0 {
			t.Errorf("%+v", got)
		}
	}
	go func() { <-started }()
	if got := ask("slow"); got.RequeueAfter != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}
