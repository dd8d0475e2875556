// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// An operator names a version; the agent finds a statement over it, signed with a key that it has pinned, and on its Lease
// the name of the order, which changes when the operator asks again and at no other time.
func TestHostUpdate(t *testing.T) {
	k := newKit(t)
	host := fmt.Sprintf("update-%x", time.Now().UnixNano())
	k.bind(t, operator, "sirrat-operator", "")
	k.create(t, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: host}, Spec: v1alpha1.HostSpec{Projects: []string{"p"}}})
	ns := v1alpha1.HostNamespace(host)
	cptest.Wait(t, "the host's namespace", func(ctx context.Context) error {
		return k.client.Get(ctx, client.ObjectKey{Namespace: ns, Name: v1alpha1.AuthorizationKeys}, &corev1.ConfigMap{})
	})
	now := metav1.NewMicroTime(time.Now())
	k.create(t, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: v1alpha1.AgentLease}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}})
	version := fmt.Sprintf("v1.0.%d", time.Now().UnixNano())

	k.as(t, operator, nil, "host", "update", host).expect(t, 2, "--version")
	k.as(t, operator, nil, "host", "update", host, "--all", "--version", version).expect(t, 2, "--all")
	k.as(t, operator, nil, "host", "update", host, "--version", "../x").expect(t, 1, "agentVersion")
	k.as(t, operator, nil, "host", "update", "nowhere", "--version", version).expect(t, 1, "nowhere")
	k.as(t, dev, nil, "host", "update", host, "--version", version).expect(t, 1, "forbidden")
	k.as(t, operator, nil, "host", "update", host, "--version", version).expect(t, 0, host, version)
	cptest.Wait(t, "an event about what is not published", func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := k.client.List(ctx, &list, client.InNamespace("default")); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Name == host && e.Reason == v1alpha1.ReasonAgentNotPublished && strings.Contains(e.Note, "sirrat agent publish --version "+version) {
				return nil
			}
		}
		return errors.New("none")
	})

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	platform, err := running.Agents.Publish(version, self)
	if err != nil {
		t.Fatal(err)
	}
	ordered := func(before string) (order string) {
		cptest.Wait(t, "the order", func(ctx context.Context) error {
			var lease coordinationv1.Lease
			if err := k.client.Get(ctx, client.ObjectKey{Namespace: ns, Name: v1alpha1.AgentLease}, &lease); err != nil {
				return err
			}
			if order = lease.Annotations[v1alpha1.AnnotationAgentUpdate]; order == "" || order == before {
				return errors.New("not there")
			}
			return nil
		})
		return order
	}
	k.as(t, operator, nil, "host", "update", host, "--version", version).expect(t, 0)
	first := ordered("")
	var m, keys corev1.ConfigMap
	if err := errors.Join(k.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: v1alpha1.AgentUpdateConfigMap}, &m),
		k.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: v1alpha1.AuthorizationKeys}, &keys)); err != nil {
		t.Fatal(err)
	}
	var trusted []envelope.PublicKey
	for _, text := range keys.Data {
		key, err := envelope.ParsePublicKey(text)
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, key)
	}
	statement, err := agentupdate.Verify(t.Context(), m.Data[v1alpha1.AgentUpdateStatement], time.Now(), trusted)
	if err != nil || statement.Version != version || statement.Binaries[platform].SHA256 == "" || m.Data[v1alpha1.AgentUpdateURL] != "https://sirrat.example" {
		t.Errorf("%+v, %v, %s", statement, err, m.Data[v1alpha1.AgentUpdateURL])
	}
	k.as(t, operator, nil, "host", "update", host, "--version", version).expect(t, 0)
	ordered(first)
	var again corev1.ConfigMap
	if err := k.client.Get(t.Context(), client.ObjectKeyFromObject(&m), &again); err != nil || again.ResourceVersion != m.ResourceVersion {
		t.Errorf("the statement was signed anew although nothing changed: %v", err)

		// What came of it is in the Host's status, in the agent's words.
		var lease coordinationv1.Lease
		if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: v1alpha1.AgentLease}, &lease); err != nil {
			t.Fatal(err)
		}
		base := lease.DeepCopy()
		want := v1alpha1.AgentUpdate{Wanted: version, State: "Failed", Message: "it did not report healthy within 2m0s"}
		text, err := json.Marshal(v1alpha1.AgentInfo{AgentVersion: "v1.0.0", Update: &want})
		if err != nil {
			t.Fatal(err)
		}
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, v1alpha1.AnnotationAgentInfo, string(text))
		if err := k.client.Patch(t.Context(), &lease, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
		cptest.Wait(t, "the Host's status", func(ctx context.Context) error {
			var h v1alpha1.Host
			if err := k.client.Get(ctx, client.ObjectKey{Name: host}, &h); err != nil {
				return err
			}
			if a := h.Status.Agent; a == nil || a.AgentVersion != "v1.0.0" || a.Update == nil || *a.Update != want {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
	}
}
