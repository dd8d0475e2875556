// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/api/meta"

	"gitlab.com/dynors/sirrat/agent/suspend"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// followSuspensions has the workers look again whenever the command line suspended or resumed something.
func (a *Agent) followSuspensions(ctx context.Context) {
	err := suspend.Listen(ctx, a.options.DataDir, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, w := range a.workers {
			poke(w.offered)
		}
	})
	if err != nil {
		a.log.Error(err, "nobody can wake this agent: what is suspended here holds from the next decision on")
	}
}

// suspension says by whose word nothing of the environment is touched, "" when it may be; until is when that ends by itself,
// zero for not. What the host's own people say is asked anew each time.
func (w *worker) suspension(now time.Time) (why string, until time.Time) {
	if s := suspend.Get(w.agent.options.DataDir, w.key.Project, w.key.Environment, now); s != nil {
		return s.String(), s.Until
	}
	return w.ordered(), time.Time{}
}

// ordered is what the control plane says: the annotation on the newest Rollout that it offers, or, while it offers none, what
// it said last. An absent Rollout is no order.
func (w *worker) ordered() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var newest *v1alpha1.Rollout
	for _, rollout := range w.rollouts {
		if rollout.DeletionTimestamp == nil && (newest == nil || rollout.Spec.Sequence > newest.Spec.Sequence) {
			newest = rollout
		}
	}
	if newest == nil {
		return w.disk.Suspended
	}
	return shorten(newest.Annotations[v1alpha1.AnnotationSuspend])
}

// keepOrder keeps on disk what the control plane says, for a restart without it.
func (w *worker) keepOrder() {
	if w.damaged != nil {
		return
	}
	if ordered := w.ordered(); ordered != w.disk.Suspended {
		w.disk.Suspended = ordered
		_ = w.save() // save logs it; the next step tries again
		w.log.Info("suspended by the control plane", "why", ordered)
	}
}

// setSuspended says in a Rollout's status that nothing is touched, or no longer that it is not.
func setSuspended(s *v1alpha1.RolloutStatus, why string) {
	if why == "" {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionSuspended)
		return
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionSuspended, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended,
		Message: why, ObservedGeneration: s.ObservedGeneration,
	})
	s.Message = shorten("suspended " + why + map[bool]string{true: "; " + s.Message}[s.Message != ""])
}
