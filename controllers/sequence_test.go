// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"math"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func TestNextSequence(t *testing.T) {
	refused := func(sequence, serving int64, reason string) v1alpha1.Rollout {
		ro := v1alpha1.Rollout{Spec: v1alpha1.RolloutSpec{Sequence: sequence}, Status: v1alpha1.RolloutStatus{Phase: v1alpha1.RolloutRejected, ServingSequence: serving}}
		setCondition(&ro.Status.Conditions, 1, v1alpha1.ConditionReady, false, reason, "no")
		return ro
	}
	for name, c := range map[string]struct {
		status   int64
		rollouts []v1alpha1.Rollout
		want     int64
	}{
		"the first":                      {0, nil, 1},
		"the next":                       {3, nil, 4},
		"more was sent":                  {3, []v1alpha1.Rollout{{Spec: v1alpha1.RolloutSpec{Sequence: 5}}}, 6},
		"more was carried out":           {3, []v1alpha1.Rollout{refused(2, 9, v1alpha1.ReasonOlderSequence)}, 10},
		"refused for another reason":     {3, []v1alpha1.Rollout{refused(2, 9, v1alpha1.ReasonUnknownKey)}, 4},
		"a host that lies":               {3, []v1alpha1.Rollout{refused(2, math.MaxInt64, v1alpha1.ReasonOlderSequence)}, 2 + maxAhead + 1},
		"a host that lies the other way": {3, []v1alpha1.Rollout{refused(2, math.MinInt64, v1alpha1.ReasonOlderSequence)}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			env := &v1alpha1.Environment{Status: v1alpha1.EnvironmentStatus{Sequence: c.status}}
			if got := nextSequence(&environmentState{env: env, rollouts: c.rollouts}); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
