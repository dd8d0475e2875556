// SPDX-License-Identifier: Apache-2.0

package pullcreds

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
)

// A declaration that cannot be used takes nothing from those who pull, and keeps nothing with those who are not to.
func TestInvalidDeclarationStillWithdraws(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.join("a")
		b := w.join("b")
		before := w.served(four...)
		invalid := `{"spec":{"images":[{"name":"api","repository":"elsewhere.example/shop/api"}]}}`
		if w.kind == v1alpha1.PullProviderGitLab {
			invalid = `{"spec":{"images":[{"name":"api","repository":"elsewhere.example/shop/api"},{"name":"web","repository":"other.example/shop/web"}]}}`
		}
		w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, invalid)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonRenewalFails, "spec.pullCredentials.")
		w.must(w.c.Delete(t.Context(), b))
		w.kept(2)
		if got := w.served("a/dev", "a/production"); got["a/dev"] != before["a/dev"] || got["a/production"] != before["a/production"] {
			t.Error("what is wanted did not stay")
		}
		if n := len(w.provider.Made()); n != 4 {
			t.Errorf("%d were issued", n)
		}
	})
}

// A Secret in a project's own namespace is not one that was delivered, whatever its labels say.
func TestForgedDelivery(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	w.served("a/dev", "a/production")
	forged := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "forged", Namespace: w.project, Labels: map[string]string{
		v1alpha1.LabelProject: w.project, v1alpha1.LabelEnvironment: "nowhere", v1alpha1.LabelPullCredential: v1alpha1.PullProviderHarbor,
	}}}
	w.create(forged)
	w.move(17 * time.Hour)
	w.kept(4)
	w.move(pullcreds.Grace + time.Minute)
	w.kept(2)
	if err := w.c.Get(t.Context(), client.ObjectKeyFromObject(forged), forged); err != nil {
		t.Errorf("it was taken for a delivered one: %v", err)
	}
}

// A Secret that holds another provider's account by now is not sent to the one before, whose credentials then expire.
func TestAccountStaysWithItsAddress(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	w.served("a/dev", "a/production")
	before, asked := w.provider, atomic.Int32{}
	w.provider = pullcredstest.NewHarbor(t, w.now, "shop")
	w.provider.Misbehave(pullcredstest.Away)
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}},
		fmt.Sprintf(`{"spec":{"pullCredentials":{"harbor":{"url":%q,"projects":["shop"]}}}}`, w.provider.URL))
	w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonRenewalFails, "502")
	before.Misbehave(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	issuer := &corev1.Secret{}
	w.must(w.c.Get(t.Context(), client.ObjectKey{Namespace: w.project, Name: "issuer"}, issuer))
	issuer.Data["of"] = []byte("the account of another Harbor")
	w.must(w.c.Update(t.Context(), issuer))
	w.provider.Misbehave(nil)
	w.poke()
	w.served("a/dev", "a/production")
	w.move(pullcreds.Grace + time.Minute)
	w.event("PullCredentialNotRevoked", "Secret issuer is for "+w.provider.URL+" now", "not sent to "+before.URL, "delete there what begins with sirrat-")
	if n := asked.Load(); n != 0 {
		t.Errorf("the account of another address was sent to the one before %d times", n)
	}
	w.kept(2)
	w.discreet()
}

// An account that moved to another Secret, while what may be pulled changed as well, still revokes what was issued before.
func TestAccountMoved(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	first := w.served("a/dev", "a/production")
	issuer := &corev1.Secret{}
	w.must(w.c.Get(t.Context(), client.ObjectKey{Namespace: w.project, Name: "issuer"}, issuer))
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "moved", Namespace: w.project}, Data: issuer.Data})
	w.must(w.c.Delete(t.Context(), issuer))
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"spec":{"pullCredentials":{"harbor":{"secretRef":"moved","projects":["cache"]}}}}`)
	w.renewed(first)
	w.move(pullcreds.Grace + time.Minute)
	w.kept(2)
}

// event waits for one on the project with these texts.
func (w *world) event(reason string, texts ...string) {
	w.Helper()
	cptest.Wait(w.T, "event "+reason, func(ctx context.Context) error {
		var list corev1.EventList
		if err := w.c.List(ctx, &list); err != nil {
			return err
		}
		var said []string
		for _, e := range list.Items {
			if e.Reason != reason || e.InvolvedObject.Name != w.project {
				continue
			}
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(e.Message, text) }) {
				return nil
			}
			said = append(said, e.Message)
		}
		return fmt.Errorf("said: %q", said)
	})
}

// A provider that asks to be left alone is, whatever happens meanwhile.
func TestRetryAfter(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderGitLab)
	asked := atomic.Int32{}
	w.provider.Misbehave(func(rw http.ResponseWriter, _ *http.Request) bool {
		asked.Add(1)
		rw.Header().Set("Retry-After", "600")
		rw.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	w.join("a")
	w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable)
	w.poke()
	w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable, "not asked before")
	w.join("b")
	w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderUnreachable, w.host("b"), "not asked before")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.provider.Misbehave(nil)
	w.move(10*time.Minute + time.Second)
	w.served(four...)
}

// At rest a provider is asked once an hour what it has, in one request, or with Harbor's project in two, and nothing else.
func TestRest(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"spec":{"pullCredentials":{"lifetime":"720h"}}}`)
		w.join("a")
		w.served("a/dev", "a/production")
		const hours = 24
		each := 1
		if w.kind == v1alpha1.PullProviderHarbor {
			each = 2
		}
		reads := w.provider.Calls(http.MethodGet)
		changes := w.provider.Calls(http.MethodPost) + w.provider.Calls(http.MethodDelete)
		for i := range hours {
			for range 5 {
				w.poke() // nothing is due
			}
			w.move(time.Hour)
			cptest.Wait(t, "a look", func(context.Context) error {
				if n := w.provider.Calls(http.MethodGet); n < reads+(i+1)*each {
					return fmt.Errorf("%d reads", n)
				}
				return nil
			})
		}
		got := w.provider.Calls(http.MethodGet) - reads
		t.Logf("%d requests in %d hours for 2 credentials", got, hours)
		if got != hours*each || w.provider.Calls(http.MethodPost)+w.provider.Calls(http.MethodDelete) != changes {
			t.Errorf("%d reads, want %d, and no changes", got, hours*each)
		}
	})
}

// A record that cannot be read is told, and keeps neither what was delivered nor a project that is deleted.
func TestRecordDamaged(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	w.join("a")
	before := w.served("a/dev", "a/production")
	record := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "pull-credentials." + w.project}}
	w.patch(record, `{"data":{"record":"{"}}`)
	w.poke()
	w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonInvalid, "ConfigMap sirrat-system/pull-credentials."+w.project+" cannot be read: delete it")
	if got := w.served("a/dev", "a/production"); got["a/dev"] != before["a/dev"] {
		t.Error("what was delivered is gone")
	}
	w.must(w.c.Delete(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}))
	w.gone()
	w.event("PullCredentialsLeft", "cannot be read", "delete what begins with sirrat-")
}

// A provider that revokes nothing is told of, and is not given more and more.
func TestNothingIsRevoked(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		failed := w.metric("sirrat_pull_credentials_failures_total", w.kind, "revoke")
		made := w.metric("sirrat_pull_credentials_issued_total", w.kind)
		w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"spec":{"pullCredentials":{"lifetime":"24h","renewBefore":"23h"}}}`)
		w.provider.Misbehave(pullcredstest.Refusing(http.MethodDelete, http.StatusForbidden))
		w.join("a")
		w.served("a/dev", "a/production")
		for i := range 3 {
			w.move(time.Hour + time.Minute)
			w.kept(2 * (i + 2))
		}
		w.event("PullCredentialNotRevoked", "403")
		w.move(time.Hour + time.Minute)
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonRenewalFails, "403")
		w.move(time.Hour + time.Minute)
		w.poke()
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonRenewalFails, "403")
		w.kept(8)
		if got := w.metric("sirrat_pull_credentials_failures_total", w.kind, "revoke"); got <= failed {
			t.Errorf("%v failures are counted, %v before", got, failed)
		}
		if got := w.metric("sirrat_pull_credentials_issued_total", w.kind) - made; got != 8 {
			t.Errorf("%v issued are counted", got)
		}
		if end, now := w.metric("sirrat_pull_credentials_expiry_time_seconds"), float64(w.now().Unix()); end <= now || end > now+48*3600 {
			t.Errorf("the first ends at %v, and now is %v", end, now)
		}
		revoked := w.metric("sirrat_pull_credentials_revoked_total", w.kind)
		w.provider.Misbehave(nil)
		w.poke()
		cptest.Wait(t, "the old ones to be revoked", func(context.Context) error {
			if got := w.metric("sirrat_pull_credentials_revoked_total", w.kind) - revoked; got < 6 {
				return fmt.Errorf("%v revoked are counted; %d are kept", got, len(w.provider.Kept()))
			}
			return nil
		})
		w.told("dev", metav1.ConditionTrue, v1alpha1.ReasonIssued)
		w.served("a/dev", "a/production")
	})
}

// metric is the value of a counter or gauge with these values of its labels, in any order; 0 if it is not there.
func (w *world) metric(name string, labels ...string) float64 {
	w.Helper()
	families, err := metrics.Registry.Gather()
	w.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values := map[string]bool{}
			for _, l := range m.GetLabel() {
				values[l.GetValue()] = true
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(l string) bool { return !values[l] }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
