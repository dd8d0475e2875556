// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// TestHooksReady: who sends webhooks learns nothing of why they are not taken; the Project tells its members, and follows its Secret.
func TestHooksReady(t *testing.T) {
	b := newBench(t)
	ref := func(key string) *v1alpha1.HookSecret { return &v1alpha1.HookSecret{Name: "webhooks", Key: key} }
	p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		Maven: []string{"com.dynors:core"},
		Hooks: &v1alpha1.Hooks{GitLab: &v1alpha1.GitLabHook{SigningRef: ref("signing")}, Harbor: &v1alpha1.HarborHook{SecretRef: *ref("harbor")}},
	}}
	b.create(p)
	says := func(reason string, texts ...string) {
		t.Helper()
		cptest.Wait(t, "the condition to be for the reason "+reason, func(ctx context.Context) error {
			if err := b.c.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionHooksReady)
			if c == nil || c.Reason != reason || (c.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonReady) {
				return fmt.Errorf("%+v", p.Status.Conditions)
			}
			for _, text := range texts {
				if !strings.Contains(c.Message, text) {
					return fmt.Errorf("%q does not say %q", c.Message, text)
				}
			}
			if strings.Contains(c.Message, "canary") {
				t.Errorf("a secret is in %q", c.Message)
			}
			return nil
		})
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "webhooks", Namespace: b.project}, Data: map[string][]byte{"other": []byte("x")}}
	put := func(key, value string) {
		t.Helper()
		secret.Data[key] = []byte(value)
		if err := b.c.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	says(v1alpha1.ReasonMissing, "spec.hooks.gitlab.signingRef", "Secret webhooks", "does not exist")
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
		t.Errorf("the project itself is not ready: %+v", p.Status.Conditions)
	}
	b.create(secret)
	says(v1alpha1.ReasonMissing, "no key signing")
	put("signing", "canary, and long enough")
	says(v1alpha1.ReasonInvalid, "spec.hooks.gitlab.signingRef", "whsec_")
	put("signing", "whsec_"+base64.StdEncoding.EncodeToString([]byte("canary key of thirty-two bytes.."))+"\n")
	says(v1alpha1.ReasonMissing, "spec.hooks.harbor.secretRef", "no key harbor")
	put("harbor", "canary")
	says(v1alpha1.ReasonInvalid, "less than 16 bytes")
	put("harbor", "Bearer canary 0123456789")
	says(v1alpha1.ReasonReady)

	cptest.Wait(t, "events to say it", func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := b.c.List(ctx, &list); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Name == p.Name && e.Reason == "HooksNotReady" {
				return nil
			}
		}
		return errors.New("none does")
	})
	if err := b.patch(p, `{"spec":{"hooks":null}}`); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the condition to go", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionHooksReady); c != nil {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}
