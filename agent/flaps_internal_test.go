// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func newTestWorker(t *testing.T) *worker {
	t.Helper()
	dir := t.TempDir()
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{options: Options{DataDir: dir}, log: logr.Discard(), store: store, monitor: newMonitor("test", 1, time.Now())}
	w := newWorker(a, state.Key{Project: "shop", Environment: "dev"})
	w.disk = &state.Environment{Project: "shop", Environment: "dev", ProjectUID: "p"}
	return w
}

// A healthcheck that comes and goes is written down and reported a few times, and then not before it has been well for long.
func TestFlapping(t *testing.T) {
	w := newTestWorker(t)
	now := time.Now()
	w.disk.Current = &state.Deployment{UID: "u", HealthySince: now}
	see := func(status health.Status) {
		t.Helper()
		now, w.trouble = now.Add(time.Second), time.Time{}
		verdict := health.Verdict{Status: status, Services: []health.ServiceVerdict{{Name: "web", Status: status, Message: fmt.Sprint("at ", now)}}}
		w.live = live{uid: "u", verdict: &verdict, message: verdict.Message()}
		w.noteHealth(verdict, now)
	}
	for range plan.FlapFalls {
		see(health.Unhealthy)
		see(health.Healthy)
	}
	before, err := os.Stat(w.agent.store.Path(w.key))
	if err != nil {
		t.Fatal(err)
	}
	message := w.live.message
	for range 1000 {
		see(health.Unhealthy)
		see(health.Waiting)
		see(health.Healthy)
		if w.live.message != message || w.live.verdict != nil || !w.disk.Current.HealthySince.IsZero() {
			t.Fatalf("%+v, healthy since %s", w.live, w.disk.Current.HealthySince)
		}
	}
	if after, err := os.Stat(w.agent.store.Path(w.key)); err != nil || !os.SameFile(before, after) {
		t.Errorf("the state was written while it flapped: %v", err)
	}
	if at := w.trouble; !at.After(now) || at.After(now.Add(plan.FlapCalm)) {
		t.Errorf("looked at again at %s, now %s", at, now)
	}
	now = now.Add(plan.FlapCalm)
	if see(health.Healthy); w.disk.Current.HealthySince != now {
		t.Errorf("healthy since %s, now %s", w.disk.Current.HealthySince, now)
	}
}

// How a rollout failed is not told differently once the agent has forgotten it.
func TestForgottenFailure(t *testing.T) {
	w := newTestWorker(t)
	rollouts := map[string]*v1alpha1.Rollout{}
	for i := range int64(50) {
		r := &v1alpha1.Rollout{}
		r.UID, r.Spec.ProjectUID, r.Spec.Sequence = types.UID(fmt.Sprint(i)), "p", i+1
		r.Spec.BundleHash = fmt.Sprint("bundle ", i)
		w.rollouts[r.UID], rollouts[string(r.UID)] = r, r
		w.disk.Highest = r.Spec.Sequence
		w.disk.Fail(state.Failure{
			UID: string(r.UID), Sequence: r.Spec.Sequence, BundleHash: r.Spec.BundleHash, Phase: v1alpha1.RolloutRolledBack, Reason: v1alpha1.ReasonUnhealthy,
			Message: fmt.Sprint("failure ", i),
		})
		for _, r := range rollouts { // as the control plane keeps it
			var known bool
			if r.Status, known = w.statusOf(r); !known {
				t.Fatalf("%s: nothing is known", r.UID)
			}
		}
	}
	for uid, r := range rollouts {
		if r.Status.Phase != v1alpha1.RolloutRolledBack || r.Status.Message != "failure "+uid {
			t.Errorf("%s: %s %q", uid, r.Status.Phase, r.Status.Message)
		}
	}
	healthy := &v1alpha1.Rollout{}
	healthy.UID, healthy.Spec.ProjectUID, healthy.Spec.Sequence, healthy.Status.Phase = "old", "p", 1, v1alpha1.RolloutHealthy
	if s, _ := w.statusOf(healthy); s.Phase != v1alpha1.RolloutSuperseded {
		t.Errorf("%s", s.Phase)
	}
}
