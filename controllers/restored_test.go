// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// A control plane that was restored from an older backup is told so by its hosts, and says so. What is let in next has a
// sequence above what they have carried out.
func TestRestoredFromOlderBackup(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{}, "a")
	f.release(commitA)
	f.expect("a:1")
	f.host = f.hosts["a"]
	f.refuseAsOlder(f.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), 7)
	now := metav1.NewMicroTime(time.Now())
	f.create(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: v1alpha1.AgentLease, Namespace: v1alpha1.HostNamespace(f.server("a")),
			Annotations: map[string]string{v1alpha1.AnnotationAgentInfo: `{"ahead": "sequence 7 of it was carried out here"}`},
		},
		Spec: coordinationv1.LeaseSpec{RenewTime: &now},
	})
	f.condition(f.hosts["a"], v1alpha1.ConditionInStep, metav1.ConditionFalse, "sequence 7 of it was carried out here; what runs there keeps running")
	if c := meta.FindStatusCondition(f.hosts["a"].Status.Conditions, v1alpha1.ConditionInStep); c == nil || c.Reason != v1alpha1.ReasonRestored {
		t.Errorf("%+v", c)
	}
	f.expect("a:1") // nothing is sent by itself
	f.condition(f.environment(), v1alpha1.ConditionHeld, metav1.ConditionTrue, "kubectl sirrat resume dev")
	f.edit(func(e *v1alpha1.Environment) {
		e.Annotations = map[string]string{v1alpha1.AnnotationResume: e.Status.Hold.ID}
	})
	f.push("dev-bbbbbbb")
	f.release(commitB)
	f.expect("a:1,8")
}

// refuseAsOlder reports what an agent does that has carried out a sequence already.
func (f *fleet) refuseAsOlder(ro *v1alpha1.Rollout, sequence int64) {
	f.t.Helper()
	f.report(ro, v1alpha1.RolloutRejected)
	cptest.Wait(f.t, "the refusal to be written", func(ctx context.Context) error {
		if err := f.c.Get(ctx, client.ObjectKeyFromObject(ro), ro); err != nil {
			return err
		}
		ro.Status.ServingSequence = sequence
		meta.SetStatusCondition(&ro.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonOlderSequence, Message: "was it restored?",
		})
		return f.c.Status().Update(ctx, ro)
	})
}
