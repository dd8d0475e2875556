// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/egress/egresstest"
	"gitlab.com/dynors/sirrat/internal/idtoken"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

const (
	ourURL   = "https://sirrat.example"
	ourPath  = "dynors/clients/supergest"
	otherSHA = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"
)

// forge is a bridge whose project trusts the id_tokens of an issuer.
type forge struct {
	*bridge
	issuer *idtokentest.Issuer
	clock  *idtokentest.Clock
	key    *rsa.PrivateKey // published as k1
}

// newForge starts both; change may alter what the project trusts, and transport how the issuer is reached.
func newForge(t *testing.T, change func(*v1alpha1.CI), transport func(*idtokentest.Issuer) http.RoundTripper) *forge {
	t.Helper()
	f := &forge{issuer: idtokentest.New(t), clock: &idtokentest.Clock{}, key: idtokentest.RSA(t)}
	f.issuer.Publish(map[string]any{"k1": f.key})
	if transport == nil {
		transport = func(i *idtokentest.Issuer) http.RoundTripper { return i.Transport(t, nil) }
	}
	f.bridge, _ = newArchived(t, false, func(o *Options) {
		o.PublicURL = ourURL
		o.IDTokens = idtoken.NewVerifier(idtoken.Options{Transport: transport(f.issuer), Now: f.clock.Now})
	})
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: f.project}, Spec: v1alpha1.ProjectSpec{
		Maven: []string{"com.dynors:core"}, CI: v1alpha1.CI{OIDC: &v1alpha1.OIDC{Issuer: f.issuer.URL, ProjectPath: ourPath}}}}
	if change != nil {
		change(&project.Spec.CI)
	}
	if err := f.direct.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the cache to have the project", func(ctx context.Context) error {
		return f.client.Get(ctx, client.ObjectKeyFromObject(project), &v1alpha1.Project{})
	})
	return f
}

func (f *forge) claims(over map[string]any) map[string]any {
	return f.issuer.Claims(ourURL, ourPath, someCommit, over)
}

// token is signed by k1.
func (f *forge) token(over map[string]any) string {
	f.t.Helper()
	return idtokentest.Sign(f.t, jose.RS256, "k1", f.key, f.claims(over))
}

func (f *forge) report(token string) (int, http.Header, []byte) {
	f.t.Helper()
	return f.send(http.MethodPost, f.results()+"?wait=0", token, result(someCommit, ""), nil)
}

// wantStatus reports with a token and checks the answer's status, and that neither answer nor log holds the token.
func (f *forge) wantStatus(token string, want int) (http.Header, Problem) {
	f.t.Helper()
	status, header, raw := f.report(token)
	if status != want {
		f.t.Errorf("status %d %s, want %d", status, raw, want)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 20 && (strings.Contains(string(raw), part) || strings.Contains(f.log.String(), part)) {
			f.t.Errorf("a part of the token is in the answer or in the log: %s", raw)
		}
	}
	var p Problem
	if err := json.Unmarshal(raw, &p); err != nil {
		f.t.Errorf("answer %q: %v", raw, err)
	}
	return header, p
}

func TestIDTokenOfTheJob(t *testing.T) {
	f := newForge(t, func(ci *v1alpha1.CI) { ci.OIDC.ProjectID = 20 }, nil)
	ec := idtokentest.EC(t)
	f.issuer.Publish(map[string]any{"k1": f.key, "e1": ec})
	f.bridge.token = f.token(nil)
	// A report that leaves out what the token says: the token's word is recorded.
	answer := f.mustPost(f.results()+"?wait=0", result(someCommit[:8], `"job":"unit"`), http.StatusAccepted)
	if answer.Commit != someCommit {
		t.Errorf("commit %s", answer.Commit)
	}
	// The same from an EC key, and with everything said: the same result.
	f.bridge.token = idtokentest.Sign(t, jose.ES256, "e1", ec, f.claims(nil))
	again := f.mustPost(f.results()+"?wait=0", result(someCommit, `"job":"unit","branch":"main","pipeline":574,"run":"302"`), http.StatusAccepted)
	if again.Result != answer.Result {
		t.Errorf("results %s and %s", answer.Result, again.Result)
	}
	results := f.ciResults()
	if len(results) != 1 {
		t.Fatalf("%d results", len(results))
	}
	want := v1alpha1.CIResultSpec{Commit: someCommit, Branch: "main", Pipeline: "574", Job: "unit", Run: "302", Identity: &v1alpha1.JobIdentity{
		Issuer: f.issuer.URL, ProjectPath: ourPath, ProjectID: "20", Pipeline: "574", Job: "302", Ref: "main", RefType: "branch", RefProtected: true, User: "jean"}}
	got := results[0].Spec
	if diff := cmp.Diff(want, v1alpha1.CIResultSpec{Commit: got.Commit, Branch: got.Branch, Pipeline: got.Pipeline, Job: got.Job, Run: got.Run, Source: got.Source, Identity: got.Identity}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.mustPost(f.deployments()+"?wait=0", `{"environment":"dev","version":"`+someCommit[:7]+`","status":"deployed"}`, http.StatusAccepted)
	if status, raw := f.do(http.MethodGet, f.gates("commit="+someCommit[:7]), f.bridge.token, ""); status != http.StatusOK {
		t.Errorf("verdicts: %d %s", status, raw)
	}
}

// What a request says must be what the token says.
func TestIDTokenContradicted(t *testing.T) {
	f := newForge(t, nil, nil)
	f.mustPost(f.results()+"?wait=0", result(otherSHA, ""), http.StatusAccepted) // by an API token, which may
	f.bridge.token = f.token(nil)
	for _, tc := range []struct{ url, body, field string }{
		{f.results(), result(otherSHA, ""), "commit"},
		{f.results(), result(otherSHA[:7], ""), "commit"},
		{f.results(), result(someCommit, `"pipeline":575`), "pipeline"},
		{f.results(), result(someCommit, `"job":"unit","run":303`), "run"},
		{f.results(), result(someCommit, `"branch":"release"`), "branch"},
		{f.deployments(), `{"environment":"dev","version":"` + otherSHA[:7] + `","status":"deployed"}`, "version"},
	} {
		status, _, raw := f.post(tc.url, tc.body)
		f.wantProblem(status, raw, http.StatusForbidden, tc.field)
	}
	status, raw := f.do(http.MethodGet, f.gates("commit="+otherSHA), f.bridge.token, "")
	f.wantProblem(status, raw, http.StatusForbidden, "commit")
	if n := len(f.ciResults()); n != 1 {
		t.Errorf("%d results", n)
	}
}

// Files are evidence like any other: a job sends those of its own commit, and what they are taken for says whose they are.
func TestReportsOfTheJob(t *testing.T) {
	f := newForge(t, nil, nil)
	f.bridge.token = f.token(nil)
	data := string(sample(t, "junit/jest-junit.xml"))
	for field, query := range map[string]string{
		"commit": "commit=" + otherSHA, "pipeline": "pipeline=575&commit=" + someCommit,
		"run": "job=unit&run=303&commit=" + someCommit, "branch": "branch=release&commit=" + someCommit,
	} {
		status, raw := f.do(http.MethodPost, f.reportsURL(query), f.bridge.token, data)
		f.wantProblem(status, raw, http.StatusForbidden, field)
	}
	for claim, over := range map[string]map[string]any{
		"": {"project_path": "mallory/supergest"}, "ref_protected": {"ref_protected": "false"}, "aud": {"aud": "https://vault.example"},
	} {
		status, raw := f.do(http.MethodPost, f.reportsURL("commit="+someCommit), f.token(over), data)
		f.wantProblem(status, raw, http.StatusForbidden, claim)
	}
	if results := f.ciResults(); len(results) != 0 {
		t.Fatalf("%d results are stored", len(results))
	}
	status, answer, raw := f.sendFiles("wait=0&job=unit&commit="+someCommit[:8], data, nil)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, raw)
	}
	results := f.ciResults()
	if len(results) != 1 || results[0].Name != answer.Result {
		t.Fatalf("%d results", len(results))
	}
	got := results[0].Spec
	want := v1alpha1.CIResultSpec{Commit: someCommit, Branch: "main", Pipeline: "574", Job: "unit", Run: "302", Identity: &v1alpha1.JobIdentity{
		Issuer: f.issuer.URL, ProjectPath: ourPath, ProjectID: "20", Pipeline: "574", Job: "302", Ref: "main", RefType: "branch", RefProtected: true, User: "jean"}}
	if diff := cmp.Diff(want, v1alpha1.CIResultSpec{Commit: got.Commit, Branch: got.Branch, Pipeline: got.Pipeline, Job: got.Job, Run: got.Run, Identity: got.Identity}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestForgedIDTokens(t *testing.T) {
	f := newForge(t, nil, nil)
	public, err := x509.MarshalPKIXPublicKey(&f.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	unsigned := func(header string) string {
		payload, err := json.Marshal(f.claims(nil))
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	valid := f.token(nil)
	stranger := idtokentest.RSA(t)
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const nothing, refused, malformed, expired = "token-opens-nothing-here", "id-token-refused", "malformed-token", "expired-token"
	for _, tc := range []struct {
		name, token string
		status      int
		kind, field string
	}{
		{"another project", f.token(map[string]any{"project_path": "dynors/other", "project_id": "21"}), 403, nothing, ""},
		{"a fork", f.token(map[string]any{"project_path": "mallory/supergest", "project_id": "99"}), 403, nothing, ""},
		{"a fork's merge request, run here", f.token(map[string]any{"project_path": "mallory/supergest", "job_project_path": ourPath}), 403, nothing, ""},
		{"our merge request, run elsewhere", f.token(map[string]any{"job_project_path": "upstream/supergest"}), 403, nothing, ""},
		{"another commit", f.token(map[string]any{"sha": otherSHA}), 403, "not-this-job", "commit"},
		{"no commit", f.token(map[string]any{"sha": nil}), 403, refused, "sha"},
		{"an unprotected ref", f.token(map[string]any{"ref": "wip", "ref_protected": "false"}), 403, refused, "ref_protected"},
		{"an unprotected ref, not said", f.token(map[string]any{"ref_protected": nil}), 403, refused, "ref_protected"},
		{"expired", f.token(map[string]any{"exp": at(-time.Minute)}), 401, expired, ""},
		{"without end", f.token(map[string]any{"exp": nil}), 401, expired, ""},
		{"not yet valid", f.token(map[string]any{"nbf": at(time.Minute)}), 403, refused, "nbf"},
		{"issued in the future", f.token(map[string]any{"iat": at(time.Minute)}), 403, refused, "iat"},
		{"wrong audience", f.token(map[string]any{"aud": "https://vault.example"}), 403, refused, "aud"},
		{"no audience", f.token(map[string]any{"aud": nil}), 403, refused, "aud"},
		{"wrong issuer", f.token(map[string]any{"iss": "https://gitlab.example"}), 403, nothing, ""},
		{"alg none", unsigned(`{"alg":"none","kid":"k1"}`), 401, malformed, ""},
		{"alg None", unsigned(`{"alg":"None","kid":"k1"}`), 401, malformed, ""},
		{"no alg", unsigned(`{"kid":"k1"}`), 401, malformed, ""},
		{"HS256 with the public key", idtokentest.Sign(t, jose.HS256, "k1", publicPEM, f.claims(nil)), 401, malformed, ""},
		{"HS256 with the public key's bytes", idtokentest.Sign(t, jose.HS256, "k1", public, f.claims(nil)), 401, malformed, ""},
		{"unknown kid", idtokentest.Sign(t, jose.RS256, "k9", stranger, f.claims(nil)), 403, nothing, ""},
		{"no kid", idtokentest.Sign(t, jose.RS256, "", f.key, f.claims(nil)), 403, nothing, ""},
		{"another's signature under a known kid", idtokentest.Sign(t, jose.RS256, "k1", stranger, f.claims(nil)), 403, nothing, ""},
		{"an EC signature under the RSA key's kid", idtokentest.Sign(t, jose.ES256, "k1", idtokentest.EC(t), f.claims(nil)), 403, nothing, ""},
		{"signature cut off", valid[:strings.LastIndexByte(valid, '.')+1], 403, nothing, ""},
		{"oversized", f.token(map[string]any{"user_login": strings.Repeat("x", idtoken.MaxToken)}), 401, malformed, ""},
		{"not a token", "a.b.c", 401, malformed, ""},
		{"a list of claims", idtokenOf(t, f.key, `["iss"]`), 401, malformed, ""},
		{"a claim twice", idtokenOf(t, f.key, `{"iss":"x","iss":"`+f.issuer.URL+`"}`), 401, malformed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.t = t
			header, p := f.wantStatus(tc.token, tc.status)
			if p.Type != problemPrefix+tc.kind || p.Field != tc.field || p.Detail == "" {
				t.Errorf("problem %+v, want %s %q", p, tc.kind, tc.field)
			}
			if got := header.Get("WWW-Authenticate"); (got != "") != (tc.status == 401) {
				t.Errorf("WWW-Authenticate %q", got)
			}
		})
	}
	f.t = t
	if results := f.ciResults(); len(results) != 0 {
		t.Errorf("%d results are stored", len(results))
	}
	f.wantStatus(valid, http.StatusAccepted)
	f.wantStatus(f.token(map[string]any{"exp": at(-idtoken.Leeway / 2), "aud": []string{"x", ourURL + "/"}}), http.StatusAccepted)
}

// idtokenOf signs any text.
func idtokenOf(t *testing.T, key any, payload string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Who has no token of the project learns nothing of which projects there are, and whom they trust.
func TestForeignIDTokensAreAlike(t *testing.T) {
	f := newForge(t, nil, nil)
	plain := newBridge(t, false)
	ask := func(project, token string) string {
		status, header, raw := f.send(http.MethodPost, f.url+"/projects/"+project+"/quality-gates/results", token, result(someCommit, ""), nil)
		header.Del("Date")
		return fmt.Sprint(status, header, string(raw))
	}
	for name, token := range map[string]string{
		"another issuer":  f.token(map[string]any{"iss": "https://gitlab.example"}),
		"another project": f.token(map[string]any{"project_path": "mallory/supergest"}),
		"a forgery":       idtokentest.Sign(t, jose.RS256, "k1", idtokentest.RSA(t), f.claims(nil)),
	} {
		want := ask("no-such-project", token)
		for _, project := range []string{f.project, plain.project, "kube-system", "No..Such%2FProject"} {
			if diff := cmp.Diff(want, ask(project, token)); diff != "" {
				t.Errorf("%s at %s differs from no project (-want +got):\n%s", name, project, diff)
			}
		}
	}
	// An id_token reads no journal.
	if status, raw := f.do(http.MethodGet, f.url+"/projects/"+f.project+"/audit/entries", f.token(nil), ""); status != http.StatusForbidden {
		t.Errorf("journal: %d %s", status, raw)
	}
}

func TestIDTokenKeyRotation(t *testing.T) {
	f := newForge(t, nil, nil)
	old := f.token(nil)
	f.wantStatus(old, http.StatusAccepted)
	next := idtokentest.EC(t)
	f.issuer.Publish(map[string]any{"k2": next})
	f.wantStatus(old, http.StatusAccepted) // from the cache
	if n := f.issuer.Discoveries.Load(); n != 1 {
		t.Errorf("%d fetches before the new key was seen", n)
	}
	f.wantStatus(idtokentest.Sign(t, jose.ES256, "k2", next, f.claims(nil)), http.StatusAccepted)
	f.wantStatus(old, http.StatusForbidden) // the issuer has withdrawn k1
	// Made-up kids have the keys fetched now and then, and no more.
	for i := range 20 {
		f.wantStatus(idtokentest.Sign(t, jose.ES256, fmt.Sprint("made-up-", i), next, f.claims(nil)), http.StatusForbidden)
	}
	if n := f.issuer.Discoveries.Load(); n < 2 || n > 5 {
		t.Errorf("%d fetches", n)
	}
	// A key that was withdrawn without a new one is forgotten in time.
	f.issuer.Publish(nil)
	f.clock.Advance(59 * time.Minute)
	long := f.claims(map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()})
	f.wantStatus(idtokentest.Sign(t, jose.ES256, "k2", next, long), http.StatusAccepted)
	f.clock.Advance(2 * time.Minute)
	f.wantStatus(idtokentest.Sign(t, jose.ES256, "k2", next, long), http.StatusForbidden)
}

func TestIDTokenIssuerDown(t *testing.T) {
	f := newForge(t, nil, nil)
	token := f.token(map[string]any{"exp": time.Now().Add(72 * time.Hour).Unix()})
	unknown := idtokentest.Sign(t, jose.RS256, "k2", f.key, f.claims(nil))
	fails := func(token string) {
		t.Helper()
		if header, p := f.wantStatus(token, http.StatusServiceUnavailable); header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "issuer") {
			t.Errorf("Retry-After %q, %+v", header.Get("Retry-After"), p)
		}
	}
	f.issuer.Down.Store(true)
	fails(token)
	f.issuer.Down.Store(false)
	fails(token) // not asked again at once
	f.clock.Advance(16 * time.Second)
	f.wantStatus(token, http.StatusAccepted)

	f.issuer.Down.Store(true)
	fails(unknown)
	f.clock.Advance(2 * time.Hour)
	f.wantStatus(token, http.StatusAccepted) // by the keys that are known
	f.clock.Advance(23 * time.Hour)
	fails(token)
	f.issuer.Down.Store(false)
	f.clock.Advance(16 * time.Second)
	f.wantStatus(token, http.StatusAccepted)
}

func TestIDTokenKeySetTooLarge(t *testing.T) {
	f := newForge(t, nil, nil)
	f.issuer.Padding.Store(1 << 20)
	f.wantStatus(f.token(nil), http.StatusServiceUnavailable)
	f.issuer.Padding.Store(0)
	f.clock.Advance(16 * time.Second)
	f.wantStatus(f.token(nil), http.StatusAccepted)
}

// An issuer's address, and wherever it leads, is on the public internet or in a network that the operator opened.
func TestIDTokenIssuerInside(t *testing.T) {
	inside, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	var reached atomic.Int64
	go func() {
		for {
			conn, err := inside.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			conn.Close()
		}
	}()
	_, port, err := net.SplitHostPort(inside.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, f *forge, over map[string]any) {
		t.Helper()
		if _, p := f.wantStatus(f.token(over), http.StatusServiceUnavailable); !strings.Contains(p.Detail, "--allow-private-addresses") {
			t.Errorf("%+v", p)
		}
	}
	for _, host := range []string{"127.0.0.2", "[::ffff:127.0.0.2]", "[::1]", "169.254.169.254", "10.0.0.1"} {
		t.Run("redirect to "+host, func(t *testing.T) {
			f := newForge(t, nil, nil)
			f.issuer.Redirect.Store("https://" + host + ":" + port + "/")
			refused(t, f, nil)
			if n := f.issuer.Discoveries.Load(); n != 1 {
				t.Errorf("the issuer was asked %d times", n)
			}
		})
	}
	for _, host := range []string{"127.0.0.2", "[::ffff:127.0.0.2]", "169.254.169.254", "2130706434", "[64:ff9b::7f00:2]"} {
		t.Run("keys at "+host, func(t *testing.T) {
			f := newForge(t, nil, nil)
			f.issuer.KeysAt.Store("https://" + host + ":" + port + "/")
			if _, p := f.wantStatus(f.token(nil), http.StatusServiceUnavailable); host[0] != '2' && !strings.Contains(p.Detail, "--allow-private-addresses") {
				t.Errorf("%+v", p) // a number alone is no name to some resolvers either
			}
		})
	}
	for _, address := range []string{"127.0.0.2", "169.254.169.254", "::1"} {
		t.Run("name of "+address, func(t *testing.T) {
			name := "https://gitlab.example:" + port
			f := newForge(t, func(ci *v1alpha1.CI) { ci.OIDC.Issuer = name },
				func(i *idtokentest.Issuer) http.RoundTripper { return i.Transport(t, egresstest.Resolver(t, address)) })
			refused(t, f, map[string]any{"iss": name})
		})
	}
	t.Run("redirect to http", func(t *testing.T) {
		f := newForge(t, nil, nil)
		f.issuer.Redirect.Store("http://127.0.0.1:" + port + "/")
		f.wantStatus(f.token(nil), http.StatusServiceUnavailable)
	})
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

func TestOIDCDemanded(t *testing.T) {
	f := newForge(t, func(ci *v1alpha1.CI) { ci.RequireOIDC = true }, nil)
	for url, body := range map[string]string{
		f.results():                          result(someCommit, ""),
		f.deployments():                      `{"environment":"dev","version":"` + someCommit[:7] + `","status":"deployed"}`,
		f.reportsURL("commit=" + someCommit): string(sample(t, "junit/jest-junit.xml")),
	} {
		status, _, raw := f.post(url, body)
		if p := f.wantProblem(status, raw, http.StatusForbidden, ""); p.Type != problemPrefix+"id-token-demanded" {
			t.Errorf("%+v", p)
		}
	}
	f.wantStatus(f.token(nil), http.StatusAccepted)
	if status, raw := f.do(http.MethodGet, f.gates("commit="+someCommit), f.bridge.token, ""); status != http.StatusOK {
		t.Errorf("reading verdicts with an API token: %d %s", status, raw)
	}
}

// What a project may say of its pipelines is checked when it is written.
func TestOIDCSchema(t *testing.T) {
	p := startPlane(t)
	for name, tc := range map[string]struct {
		ci map[string]any
		ok bool
	}{
		"least":                      {map[string]any{"oidc": map[string]any{"projectPath": ourPath}}, true},
		"whole":                      {map[string]any{"requireOIDC": true, "oidc": map[string]any{"projectPath": ourPath, "issuer": "https://git.example:8443/gitlab", "audience": "x", "projectID": 20, "protectedRefsOnly": false}}, true},
		"demand without oidc":        {map[string]any{"requireOIDC": true}, false},
		"plain http":                 {map[string]any{"oidc": map[string]any{"projectPath": ourPath, "issuer": "http://git.example"}}, false},
		"user in the issuer":         {map[string]any{"oidc": map[string]any{"projectPath": ourPath, "issuer": "https://a@git.example"}}, false},
		"query in the issuer":        {map[string]any{"oidc": map[string]any{"projectPath": ourPath, "issuer": "https://git.example/?a"}}, false},
		"no path":                    {map[string]any{"oidc": map[string]any{}}, false},
		"a group instead of project": {map[string]any{"oidc": map[string]any{"projectPath": "dynors"}}, false},
		"a wildcard":                 {map[string]any{"oidc": map[string]any{"projectPath": "dynors/*"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Project", "metadata": map[string]any{"name": "schema"},
				"spec": map[string]any{"maven": []any{"com.dynors:core"}, "ci": maps.Clone(tc.ci)}}}
			err := p.direct.Create(t.Context(), object, client.DryRunAll)
			if (err == nil) != tc.ok || err != nil && !apierrors.IsInvalid(err) {
				t.Fatal(err)
			}
			if name == "least" {
				want := map[string]any{"issuer": "https://gitlab.com", "projectPath": ourPath, "protectedRefsOnly": true}
				got, _, err := unstructured.NestedMap(object.Object, "spec", "ci", "oidc")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			}
		})
	}
}
