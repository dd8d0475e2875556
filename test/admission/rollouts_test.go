// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Of a Rollout, an operator or whoever may read logs changes one annotation, in their own name; its order is out of reach.
func TestPeopleAndRollouts(t *testing.T) {
	const reader, operator, stranger = "reader@dynors.com", "logs-operator@dynors.com", "stranger@dynors.com"
	ns, _ := newHost(t, "logs")
	bind(t, ns, "sirrat-logs", reader)
	bind(t, ns, "sirrat-operator", operator)
	patch := func(who, text string) error {
		return as(t, who).Patch(t.Context(), newRollout(ns, "first"), merge("%s", text))
	}
	ask := func(value string) string {
		return `{"metadata":{"annotations":{"` + v1alpha1.AnnotationLogsRequest + `":` + value + `}}}`
	}
	for _, who := range []string{reader, operator} {
		eventually(t, "the role takes effect", func() error {
			return as(t, who).List(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(ns))
		})
		eventually(t, "the policy takes effect", func() error {
			if err := patch(who, `{"metadata":{"annotations":{"x":"y"}}}`); err == nil || !strings.Contains(err.Error(), "sirrat-rollouts") {
				return fmt.Errorf("the answer is %v", err) //nolint:errorlint // which may be none
			}
			return nil
		})
		wantAccepted(t, patch(who, ask(`"`+who+`: {\"id\":\"1\"}"`)))
		wantAccepted(t, patch(who, ask(`"`+who+`: {\"id\":\"2\"}"`)))
		wantRefused(t, patch(who, ask(`"cto@dynors.com: {\"id\":\"3\"}"`)), "sirrat-rollouts", who)
		wantRefused(t, patch(who, ask(`"x"`)), "sirrat-rollouts")
		for what, text := range map[string]string{
			"a label":              `{"metadata":{"labels":{"sirrat.dynors.com/environment":"production"}}}`,
			"another annotation":   `{"metadata":{"annotations":{"` + v1alpha1.AnnotationAuthorizedAt + `":"2026-01-01T00:00:00Z"}}}`,
			"a finalizer":          `{"metadata":{"finalizers":["example.com/forever"]}}`,
			"an owner":             `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`,
			"both at once":         `{"metadata":{"labels":{"x":"y"},"annotations":{"` + v1alpha1.AnnotationLogsRequest + `":"` + who + `: {}"}}}`,
			"the release in specs": `{"metadata":{"labels":{"x":"y"}},"spec":{"sequence":9}}`,
		} {
			t.Run(who+" sets "+what, func(t *testing.T) { wantRefused(t, patch(who, text)) })
		}
		wantAccepted(t, patch(who, ask("null")))
		wantRefused(t, as(t, who).Status().Patch(t.Context(), newRollout(ns, "first"), merge(`{"status":{"phase":"Healthy"}}`)), "cannot")
		wantRefused(t, as(t, who).Delete(t.Context(), newRollout(ns, "first")), "cannot")
	}
	wantRefused(t, patch(stranger, ask(`"`+stranger+`: {}"`)), "cannot")
}
