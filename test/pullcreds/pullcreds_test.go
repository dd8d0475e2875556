// SPDX-License-Identifier: Apache-2.0

package pullcreds

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
)

// both runs a test with each provider.
func both(t *testing.T, f func(*testing.T, *world)) {
	t.Helper()
	for _, kind := range []string{v1alpha1.PullProviderHarbor, v1alpha1.PullProviderGitLab} {
		t.Run(kind, func(t *testing.T) { f(t, newWorld(t, kind)) })
	}
}

var four = []string{"a/dev", "a/production", "b/dev", "b/production"}

// Two hosts with two environments each have four credentials that may pull and nothing else. They are replaced before they
// end; the ones before them stay good for a while, and are then revoked.
func TestLife(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		first := w.served(four...)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued, "2 host(s)", w.provider.URL)
		for _, c := range w.provider.Live() {
			want := "read_registry"
			if w.kind == v1alpha1.PullProviderHarbor {
				want = "repository:pull shop"
			}
			if !slices.Equal(c.Scopes, []string{want}) {
				t.Errorf("%s may %v, not only %s", c.Name, c.Scopes, want)
			}
			if left := c.Expires.Sub(w.now()); left <= 0 || left > 48*time.Hour {
				t.Errorf("%s lasts %s", c.Name, left)
			}
		}

		w.neighbours(a, b)

		w.move(15 * time.Hour) // a third of 24 hours is not left yet
		w.poke()
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued)
		if n := len(w.provider.Made()); n != 4 {
			t.Errorf("%d were issued, want 4", n)
		}
		w.move(2 * time.Hour)
		w.kept(8)
		w.renewed(first)
		for name, old := range first {
			if !w.provider.Takes(old.Username, old.Password) {
				t.Errorf("%s: what pulls in flight use is revoked already", name)
			}
		}
		w.move(pullcreds.Grace + time.Minute)
		w.kept(4)
		for name, old := range first {
			if w.provider.Takes(old.Username, old.Password) {
				t.Errorf("%s: the credential before still works", name)
			}
		}
		w.served(four...)
		w.discreet()
	})
}

// neighbours checks that an agent reads what is its host's, and nothing else.
func (w *world) neighbours(a, b *v1alpha1.Host) {
	w.Helper()
	agent, key := w.agent(a), func(h *v1alpha1.Host) client.ObjectKey {
		return client.ObjectKey{Namespace: v1alpha1.HostNamespace(h.Name), Name: v1alpha1.PullSecret(w.project, "dev")}
	}
	cptest.Wait(w.T, "the agent to read its own", func(ctx context.Context) error { return agent.Get(ctx, key(a), &corev1.Secret{}) })
	for what, err := range map[string]error{
		"another host's":          agent.Get(w.Context(), key(b), &corev1.Secret{}),
		"the account that issues": agent.Get(w.Context(), client.ObjectKey{Namespace: w.project, Name: "issuer"}, &corev1.Secret{}),
		"the record":              agent.Get(w.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "pull-credentials." + w.project}, &corev1.ConfigMap{}),
		"all Secrets":             agent.List(w.Context(), &corev1.SecretList{}, client.HasLabels{v1alpha1.LabelPullCredential}),
		"its own, to write":       agent.Delete(w.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key(a).Namespace, Name: key(a).Name}}),
	} {
		if !apierrors.IsForbidden(err) {
			w.Errorf("the agent reaches %s: %v", what, err)
		}
	}
}

// A provider that is away does no harm before the last credential has expired; then it is told, and heals by itself.
func TestProviderAway(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		first := w.served("a/dev", "a/production")
		w.provider.Misbehave(pullcredstest.Away)
		w.move(17 * time.Hour)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonRenewalFails, "502")
		if got := w.served("a/dev", "a/production"); got["a/dev"] != first["a/dev"] {
			t.Error("the last credential is not kept")
		}
		w.move(48 * time.Hour)
		w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable, w.host("a"), "502", "spec.pullCredentials.fallback")
		w.provider.Misbehave(nil)
		w.poke()
		w.served("a/dev", "a/production")
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued)
		w.move(pullcreds.Grace + time.Minute)
		w.kept(2)
		w.discreet()
	})
}

// A provider that refuses the account: the condition says so, what is missing names its field, and nothing is left behind.
func TestProviderDenies(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.provider.Misbehave(pullcredstest.Refusing(http.MethodPost, http.StatusForbidden))
		w.join("a")
		w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderDenied, "403")
		if got := w.logins(); len(got) != 0 {
			t.Errorf("delivered: %v", got)
		}
		issuer := &corev1.Secret{}
		w.must(w.c.Get(t.Context(), client.ObjectKey{Namespace: w.project, Name: "issuer"}, issuer))
		w.must(w.c.Delete(t.Context(), issuer))
		w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonInvalid, "Secret", "there is no Secret issuer", "spec.pullCredentials.")
		w.provider.Misbehave(nil)
		issuer.ResourceVersion, issuer.UID = "", ""
		w.create(issuer)
		w.served("a/dev", "a/production")
		w.kept(2)
	})
}

// The project's own Secret stands in where that is declared, and goes once it is not needed.
func TestFallback(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		own := login{pullcredstest.Username, pullcredstest.Password}
		w.provider.Misbehave(pullcredstest.Away)
		w.join("a")
		w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable)
		if got := w.logins(); len(got) != 0 {
			t.Errorf("delivered without being declared: %v", len(got))
		}
		project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}
		w.patch(project, `{"spec":{"pullCredentials":{"fallback":"ProjectSecret"}}}`)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonFallback, w.host("a"), "spec.registrySecretRef", "502")
		if got := w.logins(); got["a/dev"] != own || got["a/production"] != own {
			t.Errorf("delivered: %d", len(got))
		}
		w.patch(project, `{"spec":{"pullCredentials":{"fallback":null}}}`)
		w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable)
		if got := w.logins(); len(got) != 0 {
			t.Errorf("still there: %d", len(got))
		}
		w.patch(project, `{"spec":{"pullCredentials":{"fallback":"ProjectSecret"}}}`)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonFallback)
		w.provider.Misbehave(nil)
		w.poke()
		w.renewed(map[string]login{"a/dev": own, "a/production": own})
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued)
		w.discreet()
	})
}

// killed ends the controllers at the first write of which when says so, and waits for that.
func (w *world) killed(when func(client.Object) bool) {
	w.Helper()
	dead := make(chan struct{}, 1)
	kill := func(o client.Object) bool {
		select {
		case <-dead: // nothing is written any more
			dead <- struct{}{}
			return true
		default:
		}
		if when(o) {
			dead <- struct{}{}
			return true
		}
		return false
	}
	w.kill.Store(&kill)
	w.Cleanup(func() { w.kill.Store(nil) })
	w.move(17 * time.Hour)
	cptest.Wait(w.T, "the controllers to be killed", func(context.Context) error {
		if len(dead) == 0 {
			return errors.New("they live")
		}
		return nil
	})
}

// Killed between the creation of a credential and its delivery: nobody has its password, so that it is found by its name and
// deleted.
func TestKilledBeforeDelivery(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		w.killed(func(o client.Object) bool { return o.GetLabels()[v1alpha1.LabelPullCredential] != "" })
		if n := len(w.provider.Kept()); n != 3 {
			t.Fatalf("%d credentials, want the two and one that is lost", n)
		}
		lost := w.provider.Kept()[2]
		w.restart()
		cptest.Wait(t, "the lost one to be deleted", func(context.Context) error {
			if w.provider.Takes(lost.Username, lost.Password) {
				return errors.New("it still works")
			}
			return nil
		})
		w.kept(4)
		w.served("a/dev", "a/production")
		w.move(pullcreds.Grace + time.Minute)
		w.kept(2)
	})
}

// Killed between the delivery of a credential and its record: the agent uses it already, so that it is adopted.
func TestKilledBeforeRecord(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		delivered := 0
		w.killed(func(o client.Object) bool {
			if o.GetLabels()[v1alpha1.LabelPullCredential] != "" {
				delivered++
			}
			return strings.HasPrefix(o.GetName(), "pull-credentials.") && delivered == 2
		})
		used := w.served("a/dev", "a/production")
		w.restart()
		w.move(pullcreds.Grace + time.Minute)
		w.kept(2)
		if got := w.served("a/dev", "a/production"); got["a/dev"] != used["a/dev"] || len(w.provider.Made()) != 4 {
			t.Errorf("not adopted: %d were issued", len(w.provider.Made()))
		}
	})
}

// A record that was lost altogether, as with an older backup: what is at the provider is known by its name.
func TestRecordLost(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		w.stop()
		record := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "pull-credentials." + w.project}}
		w.must(w.c.Delete(t.Context(), record))
		w.restart()
		cptest.Wait(t, "new ones", func(context.Context) error {
			if n := len(w.provider.Made()); n != 4 {
				return fmt.Errorf("%d were issued", n)
			}
			return nil
		})
		w.kept(2)
		w.served("a/dev", "a/production")
	})
}

// Somebody deletes a credential at its provider: it is noticed and replaced.
func TestDeletedAtProvider(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		w.provider.Remove(w.provider.Live()[0].ID)
		w.move(time.Hour + time.Minute)
		w.kept(2)
		w.served("a/dev", "a/production")
	})
}

// Whoever is not to pull any more has nothing to pull with: a host that is removed, one whose access was revoked, and an
// environment that is taken down.
func TestWithdrawal(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		w.served(four...)
		w.must(w.c.Delete(t.Context(), b))
		w.kept(2)
		w.served("a/dev", "a/production")

		w.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: w.project}}, `{"spec":{"decommission":{}}}`)
		w.kept(1)
		w.served("a/dev")

		w.patch(a, `{"spec":{"revocations":1}}`)
		w.kept(0)
		w.served()
	})
}

// A project that is deleted takes its credentials with it.
func TestProjectDeleted(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		w.must(w.c.Delete(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}))
		w.gone()
		if n := len(w.provider.Kept()); n != 0 {
			t.Errorf("%d credentials are left", n)
		}
	})
}

// gone waits until the project and its record are.
func (w *world) gone() {
	w.Helper()
	cptest.Wait(w.T, "the project to be gone", func(ctx context.Context) error {
		err := w.c.Get(ctx, client.ObjectKey{Name: w.project}, &v1alpha1.Project{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		err = w.c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "pull-credentials." + w.project}, &corev1.ConfigMap{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("its record is there: %w", err)
		}
		return nil
	})
}

// A provider that is away does not keep a project: what is left there is told, with when it ends.
func TestProjectDeletedWhileProviderAway(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		w.served("a/dev", "a/production")
		w.provider.Misbehave(pullcredstest.Away)
		w.must(w.c.Delete(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}))
		w.gone()
		if n := len(w.provider.Kept()); n != 2 {
			t.Errorf("%d credentials are left, want 2 until they expire", n)
		}
		cptest.Wait(t, "an event", func(ctx context.Context) error {
			var events corev1.EventList
			if err := w.c.List(ctx, &events); err != nil {
				return err
			}
			for _, e := range events.Items {
				if e.Reason == "PullCredentialsLeft" && e.InvolvedObject.Name == w.project && strings.Contains(e.Message, "2 pull credential(s)") &&
					strings.Contains(e.Message, w.provider.Made()[0].Name) {
					return nil
				}
			}
			return fmt.Errorf("%d events, none of them about it", len(events.Items))
		})
		w.discreet()
	})
}

// The project's own Secret again: old credentials go, and what Rollouts name has the new content.
func TestBackToProjectSecret(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	w.served("a/dev", "a/production")
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"spec":{"pullCredentials":{"provider":"ProjectSecret","harbor":null}}}`)
	w.kept(0)
	if got := w.logins(); got["a/dev"] != (login{pullcredstest.Username, pullcredstest.Password}) {
		t.Errorf("delivered: %d", len(got))
	}
}

// A further Harbor project: a robot account of the system for both replaces those of the one.
func TestSeveralHarborProjects(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	first := w.served("a/dev", "a/production")
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"spec":{"pullCredentials":{"harbor":{"projects":["cache"]}}}}`)
	w.kept(4)
	w.renewed(first)
	for _, c := range w.provider.Live()[2:] {
		if want := []string{"repository:pull cache", "repository:pull shop"}; !slices.Equal(c.Scopes, want) || c.Project != "" {
			t.Errorf("%s may %v", c.Username, c.Scopes)
		}
	}
	w.move(pullcreds.Grace + time.Minute)
	w.kept(2)
}

// A provider that is gone, with a credential of which nobody knows what became, does not keep another from issuing; once it is
// back, what it has is revoked.
func TestProviderReplaced(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	w.served("a/dev", "a/production")
	w.killed(func(o client.Object) bool { return o.GetLabels()[v1alpha1.LabelPullCredential] != "" })
	w.stop()
	gone := w.provider
	gone.Misbehave(pullcredstest.Away)
	w.provider = pullcredstest.NewHarbor(t, w.now, "shop")
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "another", Namespace: w.project}, Data: map[string][]byte{
		"username": []byte(pullcredstest.Username), "password": []byte(pullcredstest.Password), "ca.crt": w.provider.CA(),
	}})
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}},
		fmt.Sprintf(`{"spec":{"pullCredentials":{"harbor":{"url":%q,"secretRef":"another","projects":["shop"]}}}}`, w.provider.URL))
	w.restart()
	w.served("a/dev", "a/production")
	w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued, w.provider.URL)
	w.move(pullcreds.Grace + time.Minute)
	if n := len(gone.Kept()); n != 3 {
		t.Errorf("the one that is gone has %d credentials, want 3", n)
	}
	gone.Misbehave(nil)
	w.poke()
	cptest.Wait(t, "the one that is back to have none", func(context.Context) error {
		if n := len(gone.Kept()); n != 0 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	w.kept(2)
}
