// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// agentOf answers requests for log lines as an agent would: with refuse for the service "secret".
func (k *kit) agentOf(t *testing.T, host string) {
	t.Helper()
	var list v1alpha1.RolloutList
	watch, err := k.client.Watch(t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(host)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Stop)
	go func() {
		for event := range watch.ResultChan() {
			rollout, ok := event.Object.(*v1alpha1.Rollout)
			if !ok {
				continue
			}
			user, body, found := strings.Cut(rollout.Annotations[v1alpha1.AnnotationLogsRequest], ": ")
			var request v1alpha1.LogsRequest
			if !found || json.Unmarshal([]byte(body), &request) != nil || rollout.Status.Logs != nil && rollout.Status.Logs.ID == request.ID {
				continue
			}
			base := rollout.DeepCopy()
			now := metav1.NewMicroTime(time.Now())
			rollout.Status.Logs = &v1alpha1.RolloutLogs{ID: request.ID, User: user, Service: request.Service, Until: &now}
			switch {
			case request.Service == "secret":
				rollout.Status.Logs.Refused = "not here"
			case request.Since != nil:
				rollout.Status.Logs.Lines = []string{rollout.Spec.Environment + ": later"}
			default:
				rollout.Status.Logs.Lines = []string{fmt.Sprintf("%s: %s \x1b[31mred, tail %d", rollout.Spec.Environment, request.Service, request.Tail)}
			}
			_ = k.client.Status().Patch(context.Background(), rollout, client.MergeFrom(base)) // the command says when nothing comes
		}
	}()
}

func (k *kit) rollout(t *testing.T, host, environment string, sequence int64) {
	t.Helper()
	k.create(t, &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.HostNamespace(host), Name: v1alpha1.RolloutName(k.project, environment, sequence)},
		Spec: v1alpha1.RolloutSpec{
			Project: k.project, ProjectUID: "1", Environment: environment, Release: v1alpha1.RolloutRelease{Name: "r", UID: "2", Commit: "c"},
			Sequence: sequence, BundleHash: "h", ComposeProject: "p", Compose: "services: {}", ComposeHash: "h", Authorization: "{}",
			Images:   []v1alpha1.ServiceImage{},
			Strategy: v1alpha1.RolloutStrategy{Timeout: metav1.Duration{Duration: time.Minute}},
		},
	})
}

// Log lines of a server, by an operator and by somebody who may there; each request is an event of the Host.
func TestLogs(t *testing.T) {
	k := newKit(t)
	k.project = k.Namespace(t)
	host := "logs-" + k.project[max(0, len(k.project)-8):]
	k.bind(t, operator, "sirrat-operator", "")
	k.create(t, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: host}, Spec: v1alpha1.HostSpec{Projects: []string{k.project}}})
	ns := v1alpha1.HostNamespace(host)
	cptest.Wait(t, "the host's namespace", func(context.Context) error {
		return k.client.Get(t.Context(), client.ObjectKey{Name: ns}, &corev1.Namespace{})
	})
	k.as(t, operator, nil, "logs", host, "-n", k.project).expect(t, 1, "Nothing of "+k.project)
	k.rollout(t, host, "dev", 1)
	k.rollout(t, host, "dev", 2)
	k.agentOf(t, host)
	o := k.as(t, operator, nil, "logs", host, "web", "-n", k.project, "--tail", "7")
	o.expect(t, 0, "dev: web ")
	if strings.Contains(o.out, "\x1b") || !strings.Contains(o.out, "red, tail 7") {
		t.Errorf("printed %q", o.out)
	}
	k.as(t, operator, nil, "logs", host, "secret", "-n", k.project).expect(t, 1, "does not show its logs: not here", "host-policy.yaml")
	k.as(t, operator, nil, "logs", host, "web", "-n", k.project, "--environment", "production").expect(t, 1, "There: dev")
	k.rollout(t, host, "production", 1)
	k.as(t, operator, nil, "logs", host, "web", "-n", k.project).expect(t, 1, "Several environments", "dev, production")
	k.as(t, operator, nil, "logs", host, "web", "-n", k.project, "--environment", "production", "--lang", "fr").expect(t, 0, "production: web ")
	k.as(t, dev, nil, "logs", host, "web", "-n", k.project).expect(t, 1, "forbidden")
	k.bind(t, dev, "sirrat-logs", ns)
	cptest.Wait(t, "the role takes effect", func(context.Context) error {
		if o := k.as(t, dev, nil, "logs", host, "web", "-n", k.project, "--environment", "dev"); o.code != 0 {
			return fmt.Errorf("%s", o.err)
		}
		return nil
	})
	cptest.Wait(t, "events of the Host", func(context.Context) error {
		var list eventsv1.EventList
		if err := k.client.List(t.Context(), &list, client.InNamespace("default")); err != nil {
			return err
		}
		notes := ""
		for _, e := range list.Items {
			if e.Regarding.Kind == "Host" && e.Regarding.Name == host {
				notes += e.Reason + ": " + e.Note + "\n"
			}
		}
		for _, want := range []string{
			"LogsShown: " + operator + " was shown log lines of " + k.project + "/dev web\n", "LogsRefused: " + operator + " asked",
			"LogsShown: " + dev + " was shown log lines of " + k.project + "/dev web\n",
		} {
			if !strings.Contains(notes, want) {
				return fmt.Errorf("no %q in %s", want, notes)
			}
		}
		return nil
	})
}
