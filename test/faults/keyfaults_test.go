// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"crypto"
	"net/http"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// signingKey is one that authorizations are signed with.
type signingKey struct {
	crypto.Signer
	public map[string]string
}

func newSigningKey(t testing.TB) signingKey {
	t.Helper()
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{key, publicOf(t, string(public))}
}

// publicOf is a list with one public key, by its id.
func publicOf(t testing.TB, text string) map[string]string {
	t.Helper()
	parsed, err := envelope.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{parsed.ID: text}
}

// vouch adds a set of keys to those that the control plane offers.
func (w *world) vouch(by crypto.Signer, set keyset.Set) {
	w.Helper()
	text, err := keyset.Sign(w.Context(), set, by)
	if err != nil {
		w.Fatal(err)
	}
	maps := w.env.Client.CoreV1().ConfigMaps(v1alpha1.HostNamespace(w.name))
	number := strconv.FormatInt(set.Serial, 10)
	offered, err := maps.Get(w.Context(), v1alpha1.KeySets, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(w.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.KeySets}, Data: map[string]string{number: text},
		}, metav1.CreateOptions{})
	} else if err == nil {
		offered.Data[number] = text
		_, err = maps.Update(w.Context(), offered, metav1.UpdateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// testKeysWhileAway rotates and revokes the keys of orders while the agent is dead, between orders and in the middle of one.
func testKeysWhileAway(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	a, b, c := signingKey{w.key, map[string]string{}}, newSigningKey(t), newSigningKey(t)
	for _, text := range w.public {
		a.public = publicOf(t, text)
	}
	refused := func(name, reason string) {
		t.Helper()
		status := w.await(name, v1alpha1.RolloutRejected, v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack)
		if ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); status.Phase != v1alpha1.RolloutRejected || ready == nil || ready.Reason != reason {
			t.Errorf("%s %q, not for reason %s: %+v", status.Phase, status.Message, reason, ready)
		}
	}
	void := func(version string) order {
		o := w.web(w.hub.image("app", 0, "VERSION="+version), v1alpha1.RolloutRejected, v1alpha1.RolloutSuperseded)
		o.void = true
		return o
	}
	w.run()
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)

	// Rotated twice in its absence: what the newest key signed is taken, what the one rotated out signs is not.
	w.kill()
	w.vouch(a, keyset.Set{Serial: 2, Keys: join(a.public, b.public)})
	w.vouch(b, keyset.Set{Serial: 3, Keys: b.public, Retired: a.public})
	w.key = b
	rotated := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), good...))
	w.run()
	w.await(rotated, v1alpha1.RolloutHealthy)
	w.serves("2")
	before := w.only()
	w.key = a
	refused(w.send(void("retired")), v1alpha1.ReasonRetiredKey)

	// Revoked in its absence, when an order of the key waits already.
	w.kill()
	w.key = b
	waiting := w.send(void("revoked"))
	w.vouch(b, keyset.Set{Serial: 4, Keys: join(b.public, c.public), Retired: a.public})
	w.vouch(c, keyset.Set{Serial: 5, Keys: c.public, Retired: a.public, Revoked: b.public})
	w.run()
	refused(waiting, v1alpha1.ReasonRevokedKey)
	if after := w.only(); after.ID != before.ID || after.State != "running" {
		t.Errorf("the container was touched: %+v", after)
	}
	w.key = c
	third := w.send(w.web(w.hub.image("app", 0, "VERSION=3"), good...))
	w.await(third, v1alpha1.RolloutHealthy)
	w.serves("3")
	before = w.only()

	// Revoked in the middle of a rollout, while it is dead: what had begun ends there, before anything was touched.
	d := newSigningKey(t)
	w.hub.misbehave(hold(t.Context(), func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/slow/blobs/") }))
	under := w.send(w.web(w.hub.image("slow", 1<<20, "VERSION=4"), v1alpha1.RolloutFailed))
	w.await(under, v1alpha1.RolloutPulling)
	w.kill()
	w.vouch(c, keyset.Set{Serial: 6, Keys: join(c.public, d.public), Retired: a.public, Revoked: b.public})
	w.vouch(d, keyset.Set{Serial: 7, Keys: d.public, Retired: a.public, Revoked: join(b.public, c.public)})
	w.run()
	w.await(under, v1alpha1.RolloutFailed)
	w.hub.misbehave(nil)
	if after := w.only(); after.ID != before.ID || after.State != "running" {
		t.Errorf("the container was touched: %+v", after)
	}
	w.key = d
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=5"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("5")
	r := w.judge()
	note(t, "followed, and refused", "2 rotations, 2 revocations while it was dead; %s", counts(r))
}

func join(lists ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, list := range lists {
		for id, text := range list {
			all[id] = text
		}
	}
	return all
}
