// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// suspender says by whose word an environment is suspended: the annotation that the command line sets beside spec.suspend.
func suspender(env v1alpha1.Environment) string {
	return cmp.Or(env.Annotations[v1alpha1.AnnotationSuspend], "by spec.suspend of environment "+env.Name)
}

// suspend tells the agents to touch nothing, or that they may again, by an annotation on the Rollouts that they have: the
// orders themselves never change. The annotation is not signed. It can only stop.
func (r *environmentReconciler) suspend(ctx context.Context, s *environmentState) error {
	want := ""
	if s.env.Spec.Suspend {
		want = suspender(*s.env)
	}
	for i := range s.rollouts {
		ro := &s.rollouts[i]
		if ro.Annotations[v1alpha1.AnnotationSuspend] == want || !ro.DeletionTimestamp.IsZero() {
			continue
		}
		base := ro.DeepCopy()
		if ro.Annotations == nil {
			ro.Annotations = map[string]string{}
		}
		if ro.Annotations[v1alpha1.AnnotationSuspend] = want; want == "" {
			delete(ro.Annotations, v1alpha1.AnnotationSuspend)
		}
		if err := client.IgnoreNotFound(r.Patch(ctx, ro, client.MergeFrom(base))); err != nil {
			return fmt.Errorf("suspend rollout %s/%s: %w", ro.Namespace, ro.Name, err)
		}
	}
	return nil
}

// summariseSuspension sets the condition; it is absent where nobody ever suspended anything.
func summariseSuspension(s *environmentState) {
	st := &s.env.Status
	switch {
	case s.env.Spec.Suspend:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionSuspended, true, v1alpha1.ReasonSuspended, suspender(*s.env))
	case meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionSuspended) != nil:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionSuspended, false, v1alpha1.ReasonNotSuspended, "")
	}
}
