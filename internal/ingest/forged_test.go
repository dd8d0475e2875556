// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

// A key counts for the issuer that publishes it and for no other, though the server knows both issuers' keys.
func TestIDTokenKeyOfAnotherIssuer(t *testing.T) {
	f := newForge(t, nil, nil)
	other, theirs := idtokentest.New(t), idtokentest.RSA(t)
	other.Publish(map[string]any{"k1": theirs, "b1": theirs})
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: newBridge(t, false).project}, Spec: v1alpha1.ProjectSpec{
		Maven: []string{"com.dynors:core"}, CI: v1alpha1.CI{OIDC: &v1alpha1.OIDC{Issuer: other.URL, ProjectPath: ourPath}}}}
	if err := f.direct.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	report := func(project, token string) int {
		status, _, _ := f.send(http.MethodPost, f.url+"/projects/"+project+"/quality-gates/results?wait=0", token, result(someCommit, ""), nil)
		return status
	}
	own := idtokentest.Sign(t, jose.RS256, "b1", theirs, other.Claims(ourURL, ourPath, someCommit, nil))
	cptest.Wait(t, "the other project to take its issuer's tokens", func(context.Context) error {
		if status := report(project.Name, own); status != http.StatusAccepted {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	f.wantStatus(f.token(nil), http.StatusAccepted)
	stored := len(f.ciResults())
	for name, token := range map[string]string{
		"its token":                         own,
		"its token under our issuer's name": idtokentest.Sign(t, jose.RS256, "b1", theirs, f.claims(nil)),
		"its token under our issuer's name and key's name": idtokentest.Sign(t, jose.RS256, "k1", theirs, f.claims(nil)),
		"our key under its name":                           idtokentest.Sign(t, jose.RS256, "k1", f.key, f.claims(map[string]any{"iss": other.URL})),
	} {
		if status := report(f.project, token); status != http.StatusForbidden {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if n := len(f.ciResults()); n != stored {
		t.Errorf("%d results, %d before", n, stored)
	}
}

// A key that both sides know proves nothing, whoever publishes it.
func TestIDTokenSymmetricKey(t *testing.T) {
	f := newForge(t, nil, nil)
	shared := []byte(strings.Repeat("s", 64))
	f.issuer.Publish(map[string]any{"k1": f.key, "shared": shared})
	for _, algorithm := range []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512} {
		if _, p := f.wantStatus(idtokentest.Sign(t, algorithm, "shared", shared, f.claims(nil)), http.StatusUnauthorized); p.Type != problemPrefix+"malformed-token" {
			t.Errorf("%s: %+v", algorithm, p)
		}
	}
	f.wantStatus(idtokentest.Sign(t, jose.RS256, "shared", f.key, f.claims(nil)), http.StatusForbidden)
	if n := len(f.ciResults()); n != 0 {
		t.Errorf("%d results", n)
	}
	f.wantStatus(f.token(nil), http.StatusAccepted)
}

// newSigned is a bridge whose project expects GitLab's signature, by a key of its own.
func newSigned(t *testing.T, key string) hooked {
	t.Helper()
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab = &v1alpha1.GitLabHook{SigningRef: &v1alpha1.HookSecret{Name: "signing", Key: "key"}}
	})
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "signing"}, StringData: map[string]string{"key": "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))}})
	cptest.Wait(t, "the cache to have the secret", func(ctx context.Context) error {
		return b.client.Get(ctx, client.ObjectKey{Namespace: b.project, Name: "signing"}, &corev1.Secret{})
	})
	return b
}

// signedWith are the headers of a delivery that GitLab signed with a key.
func signedWith(key, id, body string, at time.Time) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(hmacOf(key, id+"."+stamp+"."+body))}}
}

// A signature is for one body, one id, one time and one project; without one, or with any other, nothing is taken.
func TestForgedHooks(t *testing.T) {
	const ours, theirs = "the key of this project, 32 byte", "the key of another one, 32 bytes"
	b, other := newSigned(t, ours), newSigned(t, theirs)
	body, now := pipelineEvent(31, 1, "success"), time.Now()
	changed := func(name, value string) http.Header {
		h := signedWith(ours, "one", body, now)
		h.Set(name, value)
		return h
	}
	without := func(name string) http.Header {
		h := signedWith(ours, "one", body, now)
		h.Del(name)
		return h
	}
	right := signedWith(ours, "one", body, now)
	sonar := sonarEvent("a", "OK", 1)
	for _, tc := range []struct {
		name, url, body string
		header          http.Header
	}{
		{"without a signature", b.hookURL("gitlab"), body, nil},
		{"by another project's key", b.hookURL("gitlab"), body, signedWith(theirs, "one", body, now)},
		{"another project's delivery", other.hookURL("gitlab"), body, right},
		{"the body altered", b.hookURL("gitlab"), pipelineEvent(32, 1, "success"), right},
		{"a byte more", b.hookURL("gitlab"), body + " ", right},
		{"replayed with another id", b.hookURL("gitlab"), body, changed("webhook-id", "two")},
		{"replayed with a newer time", b.hookURL("gitlab"), body, changed("webhook-timestamp", strconv.FormatInt(now.Unix()+1, 10))},
		{"replayed late", b.hookURL("gitlab"), body, signedWith(ours, "one", body, now.Add(-6*time.Minute))},
		{"of the future", b.hookURL("gitlab"), body, signedWith(ours, "one", body, now.Add(6*time.Minute))},
		{"no id", b.hookURL("gitlab"), body, without("webhook-id")},
		{"no time", b.hookURL("gitlab"), body, without("webhook-timestamp")},
		{"a time of words", b.hookURL("gitlab"), body, changed("webhook-timestamp", "now")},
		{"an empty signature", b.hookURL("gitlab"), body, changed("webhook-signature", "v1,")},
		{"a signature of another version", b.hookURL("gitlab"), body, changed("webhook-signature", strings.Replace(right.Get("webhook-signature"), "v1,", "v1a,", 1))},
		{"a signature cut off", b.hookURL("gitlab"), body, changed("webhook-signature", right.Get("webhook-signature")[:20])},
		{"the signature twice", b.hookURL("gitlab"), body, http.Header{"Webhook-Id": right["Webhook-Id"], "Webhook-Timestamp": right["Webhook-Timestamp"],
			"Webhook-Signature": {right.Get("webhook-signature"), right.Get("webhook-signature")}}},
		{"Harbor without a header", b.hookURL("harbor"), scanEvent("PUSH_ARTIFACT", 0, hookDigest, "x", ""), nil},
		{"Harbor with another", b.hookURL("harbor"), scanEvent("PUSH_ARTIFACT", 0, hookDigest, "x", ""), http.Header{"Authorization": {hookHarbor + "0"}}},
		{"SonarQube without a signature", b.hookURL("sonarqube"), sonar, nil},
		{"SonarQube, the body altered", b.hookURL("sonarqube"), strings.Replace(sonar, "OK", "ok", 1), credentials("sonarqube", sonar)},
		{"SonarQube by another key", b.hookURL("sonarqube"), sonar, http.Header{sonarHeader: {hex.EncodeToString(hmacOf("the secret of somebody", sonar))}}},
		{"SonarQube, the hash without a key", b.hookURL("sonarqube"), sonar, http.Header{sonarHeader: {strings.TrimPrefix(reportHash([]byte(sonar)), "sha256:")}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.t = t
			status, _, raw := b.send(http.MethodPost, tc.url, "", tc.body, tc.header)
			b.wantProblem(status, raw, http.StatusUnauthorized, "")
		})
	}
	b.t = t
	if n := len(b.ciResults()) + len(other.ciResults()); n != 0 {
		t.Errorf("%d results are stored", n)
	}
	// The same delivery in time is one, however often it comes.
	for i, want := range []int{http.StatusCreated, http.StatusOK, http.StatusOK} {
		if status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, right); status != want {
			t.Errorf("%d: %d %s", i, status, raw)
		}
	}
	if n := len(b.ciResults()); n != 1 {
		t.Errorf("%d results", n)
	}
}
