// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// ask sets the annotation that asks for log lines; nil takes it away.
func (h *host) ask(rollout string, request *v1alpha1.LogsRequest) {
	h.Helper()
	var value any
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			h.Fatal(err)
		}
		value = "alice@dynors.com: " + string(text)
	}
	h.annotate(rollout, value)
}

func (h *host) annotate(rollout string, value any) {
	h.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationLogsRequest: value}}})
	if err == nil {
		_, err = h.objects().Patch(h.Context(), rollout, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		h.Fatal(err)
	}
}

// answered waits for the answer to a request.
func (h *host) answered(rollout, id string) *v1alpha1.RolloutLogs {
	h.Helper()
	var logs *v1alpha1.RolloutLogs
	enginetest.Wait(h, "the answer to "+id, func() error {
		if logs = h.status(rollout).Logs; logs == nil || logs.ID != id {
			return fmt.Errorf("%+v", logs)
		}
		return nil
	})
	return logs
}

// Log lines are shown to those who ask on the Rollout, without secrets, and only where the host's owner allows it.
func TestLogsThroughControlPlane(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	o := s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))
	o.secrets = []string{"secret"}
	o.compose = strings.Replace(web, "${SAY:-}", "the password is ${PASSWORD}", 1)
	_, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "secret"}, StringData: map[string]string{"PASSWORD": "canary-s3cret"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rollout := s.send(o)
	healthy := s.await(rollout, v1alpha1.RolloutHealthy)

	s.ask(rollout, &v1alpha1.LogsRequest{ID: "1", Service: "web"})
	if a := s.answered(rollout, "1"); !strings.Contains(a.Refused, "owner of this host does not allow") || len(a.Lines) > 0 || a.User != "alice@dynors.com" {
		t.Errorf("not allowed: %+v", a)
	}
	put(t, s.policyFile(), "logs: true\n")
	s.ask(rollout, &v1alpha1.LogsRequest{ID: "2", Service: "web", Tail: 10})
	a := s.answered(rollout, "2")
	if want := "web-1: version 1 starts|web-1: the password is [redacted]"; strings.Join(a.Lines, "|") != want || a.Truncated || a.Refused != "" || a.Until == nil {
		t.Errorf("lines %q of %+v", a.Lines, a)
	}
	s.ask(rollout, &v1alpha1.LogsRequest{ID: "3", Since: a.Until})
	if later := s.answered(rollout, "3"); len(later.Lines) > 0 || later.Refused != "" {
		t.Errorf("after the last line: %+v", later)
	}
	s.ask(rollout, &v1alpha1.LogsRequest{ID: "4", Tail: 1})
	if last := s.answered(rollout, "4"); len(last.Lines) != 1 || !strings.Contains(last.Lines[0], "password") {
		t.Errorf("the last line: %+v", last)
	}
	s.ask(rollout, &v1alpha1.LogsRequest{ID: "5", Service: "nothing"})
	if a := s.answered(rollout, "5"); !strings.Contains(a.Refused, `no container of the service "nothing"`) {
		t.Errorf("no such service: %+v", a)
	}
	for _, bad := range []string{"alice", "alice: {}", `alice: {"id":"x","shell":"rm"}`, "alice: {" + strings.Repeat("x", 5000), `: {"id":"x"}`} {
		s.annotate(rollout, bad)
		enginetest.Wait(t, "a refusal", func() error {
			if a := s.status(rollout).Logs; a == nil || a.ID == "5" || a.Refused == "" {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
		s.ask(rollout, &v1alpha1.LogsRequest{ID: "5"})
		s.answered(rollout, "5")
	}
	s.ask(rollout, nil)
	enginetest.Wait(t, "the lines to go", func() error {
		if status := s.status(rollout); status.Logs != nil {
			return errors.New("still there")
		} else if status.Phase != v1alpha1.RolloutHealthy || !status.HealthySince.Equal(healthy.HealthySince) {
			return fmt.Errorf("%+v", status)
		}
		return nil
	})
	if strings.Contains(s.log.String(), "canary-s3cret") {
		t.Error("the log has the secret")
	}
}
