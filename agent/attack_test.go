// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// signer is a key with its public half.
type signer struct {
	crypto.Signer
	id, pem string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key)
}

func signerOf(t *testing.T, key crypto.Signer) signer {
	t.Helper()
	text, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, public.ID, string(text)}
}

func keys(of ...signer) map[string]string {
	m := map[string]string{}
	for _, s := range of {
		m[s.id] = s.pem
	}
	return m
}

// publish replaces the key sets that the control plane offers.
func (h *host) publish(by signer, sets ...keyset.Set) {
	h.Helper()
	data := map[string]string{}
	for _, set := range sets {
		text, err := keyset.Sign(h.Context(), set, by)
		if err != nil {
			h.Fatal(err)
		}
		data[strconv.FormatInt(set.Serial, 10)] = text
	}
	maps := h.env.Client.CoreV1().ConfigMaps(v1alpha1.HostNamespace(h.name))
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.KeySets}, Data: data}
	_, err := maps.Create(h.Context(), m, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(h.Context(), m, metav1.UpdateOptions{})
	}
	if err != nil {
		h.Fatal(err)
	}
}

// ahead waits until the heartbeat says that the control plane is behind, in these words.
func (h *host) ahead(want string) {
	h.Helper()
	enginetest.Wait(h, "the heartbeat to say that the control plane is behind", func() error {
		lease, err := h.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(h.name)).Get(h.Context(), v1alpha1.AgentLease, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if text := lease.Annotations[v1alpha1.AnnotationAgentInfo]; !strings.Contains(text, want) {
			return fmt.Errorf("it says %s", text)
		}
		return nil
	})
}

// Every attack on an order is refused with its own reason, and touches no container.
func TestAttacksOnOrders(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first, second, stolen, client := signerOf(t, s.host.key), newSigner(t), newSigner(t), newSigner(t)
	policy := filepath.Join(s.dir, "policy.yaml")
	text := "secondSignature:\n  environments: [production]\n  keys:\n  - |\n    " + strings.ReplaceAll(strings.TrimSpace(client.pem), "\n", "\n    ") + "\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := s.options()
	o.Policy = policy
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	image, newer := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2")
	s.await(s.send(s.webOrder(5, image)), v1alpha1.RolloutHealthy)
	// A rotation reaches the agent while it runs: the next order is signed by a key that it never saw.
	both := keyset.Set{Serial: 2, Keys: keys(first, second, stolen)}
	s.publish(first, both)
	rotated := s.webOrder(6, newer)
	rotated.key = second
	current := s.send(rotated)
	s.await(current, v1alpha1.RolloutHealthy)
	s.serves("2")
	s.publish(first, both, keyset.Set{Serial: 3, Keys: keys(first), Retired: keys(second), Revoked: keys(stolen)})
	before := s.container("web")

	self := authorization.Host{Name: s.name, UID: s.uid}
	sign := func(spec *v1alpha1.RolloutSpec, at time.Time) {
		var err error
		if spec.Authorization, err = authorization.Sign(t.Context(), *spec, self, at, nil, "", s.host.key); err != nil {
			t.Fatal(err)
		}
	}
	tamper := func(f func(*v1alpha1.RolloutSpec)) func(*order) { return func(o *order) { o.tamper = f } }
	production := func(a func(*v1alpha1.RolloutSpec) *v1alpha1.Acceptance) func(*order) {
		return func(o *order) {
			o.environment, o.composeProject = "production", s.project+"-production"
			o.tamper = func(spec *v1alpha1.RolloutSpec) { // whoever stole the control plane has its key
				if a != nil {
					spec.Acceptance = a(spec)
				}
				sign(spec, time.Now())
			}
		}
	}
	accept := func(by crypto.Signer, change func(*pv.Document, *pv.Decision)) func(*v1alpha1.RolloutSpec) *v1alpha1.Acceptance {
		return func(spec *v1alpha1.RolloutSpec) *v1alpha1.Acceptance { return acceptanceOf(t, spec, by, change) }
	}
	for i, c := range []struct {
		name, reason string
		change       func(*order)
	}{
		{"unknown key", v1alpha1.ReasonUnknownKey, func(o *order) { o.key = newSigner(t) }},
		{"rotated-out key", v1alpha1.ReasonRetiredKey, func(o *order) { o.key = second }},
		{"revoked key", v1alpha1.ReasonRevokedKey, func(o *order) { o.key = stolen }},
		{"another host's", v1alpha1.ReasonOtherHost, func(o *order) { o.host = &authorization.Host{Name: s.name + "2", UID: s.uid} }},
		{"expired", v1alpha1.ReasonAuthorizationExpired, tamper(func(spec *v1alpha1.RolloutSpec) { sign(spec, time.Now().Add(-9*24*time.Hour)) })},
		{"altered digest", v1alpha1.ReasonImagesAltered, tamper(func(spec *v1alpha1.RolloutSpec) {
			spec.Images[0].Image = spec.Images[0].Image[:len(spec.Images[0].Image)-64] + strings.Repeat("1", 64)
		})},
		{"altered compose file", v1alpha1.ReasonComposeAltered, tamper(func(spec *v1alpha1.RolloutSpec) { spec.Compose += "#" })},
		{"altered compose file with its hash", v1alpha1.ReasonRolloutAltered, tamper(func(spec *v1alpha1.RolloutSpec) {
			spec.Compose += "#"
			spec.ComposeHash = composefile.Hash(spec.Compose)
		})},
		{"one's compose file with another's images", v1alpha1.ReasonImagesAltered, tamper(func(spec *v1alpha1.RolloutSpec) {
			spec.Images = []v1alpha1.ServiceImage{{Service: "web", Image: newer}}
		})},
		{"members twice", v1alpha1.ReasonAuthorizationMalformed, tamper(func(spec *v1alpha1.RolloutSpec) {
			spec.Authorization = strings.Replace(spec.Authorization, `{"payloadType"`, `{"payloadType":"x","payloadType"`, 1)
		})},
		{"no second signature", v1alpha1.ReasonAcceptanceMissing, production(nil)},
		{"a second signature of the control plane's", v1alpha1.ReasonAcceptanceUntrusted, production(accept(s.host.key, nil))},
		{"the client refused", v1alpha1.ReasonAcceptanceRefused, production(accept(client, func(_ *pv.Document, d *pv.Decision) {
			d.Decision, d.Reason = v1alpha1.PVRefused, "no"
		}))},
		{"the client accepted another release", v1alpha1.ReasonAcceptanceOther, production(accept(client, func(doc *pv.Document, _ *pv.Decision) { doc.ReleaseUID = "other" }))},
		{"the client accepted other images", v1alpha1.ReasonAcceptanceOther, production(accept(client, func(doc *pv.Document, _ *pv.Decision) {
			doc.Authorises[0].Images = []v1alpha1.ServiceImage{{Service: "web", Image: newer}}
		}))},
		{"Secrets that the client did not sign for", v1alpha1.ReasonAcceptanceOther, func(o *order) {
			production(accept(client, nil))(o)
			o.secrets = []string{"injected"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if i == 0 {
				_, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(t.Context(), &corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Name: "injected"}, StringData: map[string]string{"PORT": "1"},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
			}
			o := s.webOrder(int64(10+i), image)
			c.change(&o)
			status := s.await(s.send(o), v1alpha1.RolloutRejected)
			if stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); stalled == nil || stalled.Reason != c.reason {
				t.Errorf("reason %+v, want %s", stalled, c.reason)
			}
			s.untouched(before.ID, before.StartedAt)
		})
	}
	s.await(s.send(s.webOrder(4, image)), v1alpha1.RolloutSuperseded) // a newer one is offered too
	s.untouched(before.ID, before.StartedAt)

	t.Run("a backup is restored", func(t *testing.T) {
		s.publish(first, both) // without what was revoked
		o := s.webOrder(40, image)
		o.key = stolen
		status := s.await(s.send(o), v1alpha1.RolloutRejected)
		if stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); stalled.Reason != v1alpha1.ReasonRevokedKey {
			t.Errorf("after the keys went back: %+v", stalled)
		}
		s.ahead("the key set is older than the one in use")
		list, err := s.objects().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range list.Items {
			if err := s.objects().Delete(t.Context(), object.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		status = s.await(s.send(s.webOrder(3, image)), v1alpha1.RolloutRejected)
		if stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); stalled.Reason != v1alpha1.ReasonOlderSequence || status.ServingSequence != 6 {
			t.Errorf("an older sequence: %+v, serving %d", stalled, status.ServingSequence)
		}
		s.ahead("sequence 6 of " + s.project + "/dev was carried out here")
		s.untouched(before.ID, before.StartedAt)
		status = s.await(s.send(s.webOrder(6, image)), v1alpha1.RolloutRejected)
		if stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); stalled.Reason != v1alpha1.ReasonOlderSequence || status.ServingSequence != 6 {
			t.Errorf("the number of what serves, with another image: %+v, serving %d", stalled, status.ServingSequence)
		}
		s.ahead("carried out here with another bundle")
		s.untouched(before.ID, before.StartedAt)
	})

	t.Run("what the client signed is deployed", func(t *testing.T) {
		o := s.webOrder(50, image)
		production(accept(client, nil))(&o)
		o.composeProject = s.anotherProject()
		o.values["PORT"] = fmt.Sprint(enginetest.FreePort(t))
		s.await(s.send(o), v1alpha1.RolloutHealthy)
	})
}

func (s *server) untouched(id string, started time.Time) {
	s.Helper()
	if after := s.container("web"); after.ID != id || !after.StartedAt.Equal(started) {
		s.Errorf("the container was touched: %+v", after)
	}
	if list, err := s.engine.Containers(s.Context(), s.project+"-production"); err != nil || len(list) > 0 {
		s.Errorf("containers in production: %v, %v", list, err)
	}
}

// acceptanceOf is a client's acceptance of exactly what a rollout would run, unless it is changed.
func acceptanceOf(t *testing.T, spec *v1alpha1.RolloutSpec, by crypto.Signer, change func(*pv.Document, *pv.Decision)) *v1alpha1.Acceptance {
	t.Helper()
	allowed, err := pv.Authorise(spec.Environment, spec.ComposeProject, spec.Compose, spec.Images, spec.Values, spec.HealthChecks, nil)
	if err != nil {
		t.Fatal(err)
	}
	doc := pv.Document{Project: spec.Project, Release: spec.Release.Name, ReleaseUID: spec.Release.UID, Commit: spec.Release.Commit, Environment: "rmoa-client", Authorises: []pv.Authorised{allowed}}
	d := pv.Decision{Namespace: spec.Project, Name: "pv", UID: "uid", Decision: v1alpha1.PVAccepted, SignedBy: "Mme Client", SignedAt: time.Now().UTC().Truncate(time.Second)}
	if change != nil {
		change(&doc, &d)
	}
	text, hash, err := doc.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	d.DocumentHash = hash
	signature, err := pv.Sign(t.Context(), d, by)
	if err != nil {
		t.Fatal(err)
	}
	return &v1alpha1.Acceptance{Document: text, Signature: signature}
}
