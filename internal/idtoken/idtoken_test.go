// SPDX-License-Identifier: Apache-2.0

package idtoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	cryptorsa "crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/idtoken"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

const commit = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"

func expected(issuer *idtokentest.Issuer) idtoken.Expected {
	return idtoken.Expected{Issuer: issuer.URL, Audiences: []string{"https://sirrat.example"}, ProjectPath: "dynors/supergest", ProjectID: "20", ProtectedOnly: true}
}

func verify(t testing.TB, v *idtoken.Verifier, text string, want idtoken.Expected) (idtoken.Claims, error) {
	t.Helper()
	token, err := idtoken.Parse(text)
	if err != nil {
		return idtoken.Claims{}, err
	}
	return v.Verify(t.Context(), token, want)
}

// However many jobs come at a time, the issuer is asked once.
func TestOneFetchForMany(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	v := issuer.Verifier(t, &idtokentest.Clock{})
	token := idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := verify(t, v, token, expected(issuer)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := issuer.Discoveries.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// Every algorithm that is allowed verifies with the right key, and no short, private or symmetric key is taken from a key set.
func TestKeys(t *testing.T) {
	issuer := idtokentest.New(t)
	rsa, ec := idtokentest.RSA(t), idtokentest.EC(t)
	short, err := cryptorsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(map[string]any{"rsa": rsa, "ec": ec, "p384": p384, "p521": p521, "ed": ed, "short": short, "symmetric": []byte(strings.Repeat("s", 64))})
	v := issuer.Verifier(t, &idtokentest.Clock{})
	claims := issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil)
	for _, tc := range []struct {
		algorithm jose.SignatureAlgorithm
		kid       string
		key       any
		ok        bool
	}{
		{jose.RS256, "rsa", rsa, true}, {jose.RS384, "rsa", rsa, true}, {jose.RS512, "rsa", rsa, true},
		{jose.PS256, "rsa", rsa, true}, {jose.PS384, "rsa", rsa, true}, {jose.PS512, "rsa", rsa, true},
		{jose.ES256, "ec", ec, true}, {jose.ES384, "p384", p384, true}, {jose.ES512, "p521", p521, true}, {jose.EdDSA, "ed", ed, true},
		{jose.RS256, "short", short, false},
		{jose.ES256, "rsa", ec, false}, {jose.RS256, "ec", rsa, false}, {jose.HS256, "symmetric", []byte(strings.Repeat("s", 64)), false},
	} {
		_, err := verify(t, v, idtokentest.Sign(t, tc.algorithm, tc.kid, tc.key, claims), expected(issuer))
		if (err == nil) != tc.ok {
			t.Errorf("%s with %s: %v", tc.algorithm, tc.kid, err)
		}
	}
}

// present is a time to the second, as tokens have them.
var present = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// Which claims open the project, which of them a job of the project is told, and which tell nobody anything.
func TestClaims(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	v := idtoken.NewVerifier(idtoken.Options{Transport: issuer.Transport(t, nil), Now: func() time.Time { return present }})
	at := func(d time.Duration) int64 { return present.Add(d).Unix() }
	const late = idtoken.Leeway + time.Second
	type claims = map[string]any
	type change = func(*idtoken.Expected)
	good := idtoken.Claims{Issuer: issuer.URL, ProjectPath: "dynors/supergest", ProjectID: "20", Pipeline: "574", Job: "302", Commit: commit, Ref: "main",
		RefType: "branch", RefProtected: true, User: "jean"}
	with := func(edit func(*idtoken.Claims)) *idtoken.Claims { c := good; edit(&c); return &c }
	const foreign = "foreign"
	for _, tc := range []struct {
		name   string
		over   claims
		expect change
		good   *idtoken.Claims
		claim  string // that is refused; foreign: the token is another's
	}{
		{"good", nil, nil, &good, ""},
		{"of any id", claims{"project_id": "21"}, func(e *idtoken.Expected) { e.ProjectID = "" }, with(func(c *idtoken.Claims) { c.ProjectID = "21" }), ""},
		{"ids are numbers", claims{"project_id": 20, "pipeline_id": 574, "job_id": 302, "ref_protected": true}, nil, &good, ""},
		{"run in the project", claims{"job_project_path": "dynors/supergest"}, nil, &good, ""},
		{"of a tag", claims{"ref": "v1", "ref_type": "tag"}, nil, with(func(c *idtoken.Claims) { c.Ref, c.RefType = "v1", "tag" }), ""},
		{"a SHA-256 commit", claims{"sha": strings.Repeat("a", 64)}, nil, with(func(c *idtoken.Claims) { c.Commit = strings.Repeat("a", 64) }), ""},
		{"an unprotected ref, which may", claims{"ref_protected": "false"}, func(e *idtoken.Expected) { e.ProtectedOnly = false },
			with(func(c *idtoken.Claims) { c.RefProtected = false }), ""},
		{"one of several audiences", claims{"aud": []string{"x", "https://sirrat.example/"}},
			func(e *idtoken.Expected) { e.Audiences = append(e.Audiences, "https://sirrat.example/") }, &good, ""},
		{"expired within the leeway", claims{"exp": at(-idtoken.Leeway)}, nil, &good, ""},
		{"valid within the leeway", claims{"nbf": at(idtoken.Leeway)}, nil, &good, ""},
		{"issued within the leeway", claims{"iat": at(idtoken.Leeway)}, nil, &good, ""},

		{"expired", claims{"exp": at(-late)}, nil, nil, "exp"},
		{"without end", claims{"exp": nil}, nil, nil, "exp"},
		{"not valid yet", claims{"nbf": at(late)}, nil, nil, "nbf"},
		{"issued in the future", claims{"iat": at(late)}, nil, nil, "iat"},
		{"another audience", claims{"aud": "https://sirrat.example/other"}, nil, nil, "aud"},
		{"no audience", claims{"aud": nil}, nil, nil, "aud"},
		{"no audience is expected", claims{"aud": nil}, func(e *idtoken.Expected) { e.Audiences = nil }, nil, "aud"},
		{"an abbreviated commit", claims{"sha": commit[:39]}, nil, nil, "sha"},
		{"a long commit", claims{"sha": commit + "0"}, nil, nil, "sha"},
		{"a commit in capitals", claims{"sha": strings.ToUpper(commit)}, nil, nil, "sha"},
		{"no commit", claims{"sha": nil}, nil, nil, "sha"},
		{"no pipeline", claims{"pipeline_id": nil}, nil, nil, "pipeline_id"},
		{"a pipeline of letters", claims{"pipeline_id": "57a"}, nil, nil, "pipeline_id"},
		{"no job", claims{"job_id": nil}, nil, nil, "job_id"},
		{"a job of letters", claims{"job_id": "true"}, nil, nil, "job_id"},
		{"no ref", claims{"ref": ""}, nil, nil, "ref_type"},
		{"no kind of ref", claims{"ref_type": nil}, nil, nil, "ref_type"},
		{"another kind of ref", claims{"ref_type": "merge_request"}, nil, nil, "ref_type"},
		{"an unprotected ref", claims{"ref_protected": "false"}, nil, nil, "ref_protected"},
		{"an unprotected ref, as a truth value", claims{"ref_protected": false}, nil, nil, "ref_protected"},
		{"a ref protected in other words", claims{"ref_protected": "True"}, nil, nil, "ref_protected"},
		{"protection is not spoken of", claims{"ref_protected": nil}, nil, nil, "ref_protected"},

		{"another project", claims{"project_path": "dynors/other"}, nil, nil, foreign},
		{"a project that begins so", claims{"project_path": "dynors/supergest/x"}, nil, nil, foreign},
		{"another project's id", claims{"project_id": "21"}, nil, nil, foreign},
		{"no id", claims{"project_id": nil}, nil, nil, foreign},
		{"a fork, run here", claims{"project_path": "mallory/supergest", "job_project_path": "dynors/supergest"}, nil, nil, foreign},
		{"ours, run elsewhere", claims{"job_project_path": "mallory/supergest"}, nil, nil, foreign},
		{"another project, and expired", claims{"project_path": "dynors/other", "exp": at(-late)}, nil, nil, foreign},
		{"no project, and none is expected", claims{"project_path": nil}, func(e *idtoken.Expected) { e.ProjectPath = "" }, nil, foreign},
		{"another issuer", claims{"iss": issuer.URL + "/"}, nil, nil, foreign},
		{"no issuer, and none is expected", claims{"iss": nil}, func(e *idtoken.Expected) { e.Issuer = "" }, nil, foreign},
	} {
		want := expected(issuer)
		if tc.expect != nil {
			tc.expect(&want)
		}
		over := claims{"iat": at(0), "nbf": at(-5 * time.Second), "exp": at(time.Hour)}
		for name, value := range tc.over {
			over[name] = value
		}
		text := idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, over))
		got, err := verify(t, v, text, want)
		var refusal *idtoken.Refusal
		var other *idtoken.Foreign
		switch {
		case tc.good != nil:
			if diff := cmp.Diff(*tc.good, got); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
			}
			continue
		case tc.claim == foreign:
			if !errors.As(err, &other) {
				t.Errorf("%s: %v", tc.name, err)
			}
		case !errors.As(err, &refusal) || refusal.Claim != tc.claim || refusal.Reason == "":
			t.Errorf("%s: %v, want %s", tc.name, err, tc.claim)
		}
		if got != (idtoken.Claims{}) {
			t.Errorf("%s: claims %+v", tc.name, got)
		}
	}
}

func TestParse(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	sign := func(over map[string]any) string {
		return idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("x", "dynors/supergest", commit, over))
	}
	token, err := idtoken.Parse(sign(nil))
	if err != nil || token.Issuer != issuer.URL || token.ProjectPath != "dynors/supergest" {
		t.Errorf("%+v, %v", token, err)
	}
	longest := sign(nil)
	longest += strings.Repeat("A", idtoken.MaxToken-len(longest))
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"as long as may be":     {longest, nil},
		"longer":                {longest + "AAAA", idtoken.ErrMalformed},
		"symmetric":             {idtokentest.Sign(t, jose.HS256, "k1", []byte(strings.Repeat("s", 64)), map[string]any{}), idtoken.ErrAlgorithm},
		"alg none":              {"eyJhbGciOiJub25lIn0.e30.", idtoken.ErrAlgorithm},
		"two parts":             {"eyJhbGciOiJFUzI1NiJ9.e30", idtoken.ErrMalformed},
		"claims are no object":  {"eyJhbGciOiJFUzI1NiJ9.W10.AA", idtoken.ErrMalformed},
		"a value with parts":    {sign(map[string]any{"project_id": map[string]any{"a": 1}}), idtoken.ErrMalformed},
		"a list of a value":     {sign(map[string]any{"ref_protected": []string{"true"}}), idtoken.ErrMalformed},
		"a number with a point": {sign(map[string]any{"pipeline_id": 1.5}), idtoken.ErrMalformed},
		"a text with a space":   {sign(map[string]any{"job_id": "3 2"}), idtoken.ErrMalformed},
	} {
		if _, err := idtoken.Parse(tc.text); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, want := range map[string]bool{"a.b.c": true, "a.b": false, "a.b.c.d": false, "sirrat_a_b": false} {
		if idtoken.Looks(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// serve is a server beside the issuer that has one answer.
func serve(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// jwk is a key as key sets have it, with some members set.
func jwk(t *testing.T, key crypto.Signer, kid string, members map[string]any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: kid})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		out[name] = value
	}
	if text, err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	return text
}

func keySet(t *testing.T, keys ...json.RawMessage) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Of what a key set holds, that counts which says that it is for this.
func TestKeySets(t *testing.T) {
	key, other := idtokentest.RSA(t), idtokentest.RSA(t)
	private, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	plain := jwk(t, key, "k1", nil)
	many := make([]json.RawMessage, 0, 64)
	for i := range 63 {
		many = append(many, json.RawMessage(fmt.Sprintf(`{"kty":"new","kid":"n%d"}`, i)))
	}
	for name, tc := range map[string]struct {
		set     string
		sign    jose.SignatureAlgorithm
		foreign bool // else: whether the keys cannot be had
		down    bool
	}{
		"plain":                                  {keySet(t, plain), jose.RS256, false, false},
		"for signatures":                         {keySet(t, jwk(t, key, "k1", map[string]any{"use": "sig"})), jose.RS256, false, false},
		"for encryption":                         {keySet(t, jwk(t, key, "k1", map[string]any{"use": "enc"})), jose.RS256, true, false},
		"for this algorithm":                     {keySet(t, jwk(t, key, "k1", map[string]any{"alg": "RS256"})), jose.RS256, false, false},
		"for another algorithm":                  {keySet(t, jwk(t, key, "k1", map[string]any{"alg": "RS256"})), jose.PS256, true, false},
		"private":                                {keySet(t, private), jose.RS256, true, false},
		"without a kid":                          {keySet(t, jwk(t, key, "", nil)), jose.RS256, true, false},
		"beside a kind that is not known":        {keySet(t, json.RawMessage(`{"kty":"new","kid":"k1"}`), plain), jose.RS256, false, false},
		"the first of two with one kid":          {keySet(t, plain, jwk(t, other, "k1", nil)), jose.RS256, false, false},
		"the second of two with one kid":         {keySet(t, jwk(t, other, "k1", nil), plain), jose.RS256, true, false},
		"the second, where the first is no good": {keySet(t, jwk(t, other, "k1", map[string]any{"use": "enc"}), plain), jose.RS256, false, false},
		"as many as may be":                      {keySet(t, append(many, plain)...), jose.RS256, false, false},
		"more than may be":                       {keySet(t, append(many, plain, plain)...), jose.RS256, false, true},
		"none":                                   {`{"keys":[]}`, jose.RS256, true, false},
		"no JSON":                                {`<html>`, jose.RS256, false, true},
		"as large as may be":                     {pad(keySet(t, plain), 256<<10), jose.RS256, false, false},
		"larger than may be":                     {pad(keySet(t, plain), 256<<10+1), jose.RS256, false, true},
	} {
		issuer := idtokentest.New(t)
		issuer.KeysAt.Store(serve(t, http.StatusOK, tc.set))
		_, err := verify(t, issuer.Verifier(t, &idtokentest.Clock{}), idtokentest.Sign(t, tc.sign, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil)), expected(issuer))
		wantKind(t, name, err, tc.foreign, tc.down)
	}
}

// pad is a text with spaces after it.
func pad(text string, size int) string { return text + strings.Repeat(" ", size-len(text)) }

// wantKind checks what kind of error it is; none, if neither is wanted.
func wantKind(t *testing.T, name string, err error, foreign, down bool) {
	t.Helper()
	var other *idtoken.Foreign
	var unavailable *idtoken.Unavailable
	if errors.As(err, &other) != foreign || errors.As(err, &unavailable) != down || (err == nil) != (!foreign && !down) {
		t.Errorf("%s: %v", name, err)
	}
}

// Keys come from where the issuer itself says, by TLS all the way, in an answer that says that it is one.
func TestDiscovery(t *testing.T) {
	key := idtokentest.RSA(t)
	set := keySet(t, jwk(t, key, "k1", nil))
	chain := func(hops int, last string) string { // redirects before the address
		for range hops {
			next := last
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, next, http.StatusFound) }))
			t.Cleanup(s.Close)
			last = s.URL
		}
		return last
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(set)) }))
	t.Cleanup(plain.Close)
	keys := serve(t, http.StatusOK, set)
	named := strings.Replace(keys, "https://", "https://user:secret@", 1)
	for name, tc := range map[string]struct {
		change func(*idtokentest.Issuer)
		down   bool
	}{
		"as it is":                      {func(i *idtokentest.Issuer) { i.KeysAt.Store(keys) }, false},
		"three redirects":               {func(i *idtokentest.Issuer) { i.KeysAt.Store(chain(3, keys)) }, false},
		"four redirects":                {func(i *idtokentest.Issuer) { i.KeysAt.Store(chain(4, keys)) }, true},
		"keys without TLS":              {func(i *idtokentest.Issuer) { i.KeysAt.Store(plain.URL) }, true},
		"redirected to where no TLS is": {func(i *idtokentest.Issuer) { i.KeysAt.Store(chain(1, plain.URL)) }, true},
		"keys with a password":          {func(i *idtokentest.Issuer) { i.KeysAt.Store(named) }, true},
		"redirected to a password":      {func(i *idtokentest.Issuer) { i.KeysAt.Store(chain(1, named)) }, true},
		"keys nowhere":                  {func(i *idtokentest.Issuer) { i.KeysAt.Store("https:///keys") }, true},
		"keys at what is no address":    {func(i *idtokentest.Issuer) { i.KeysAt.Store("https://%zz/") }, true},
		"keys in an error":              {func(i *idtokentest.Issuer) { i.KeysAt.Store(serve(t, http.StatusNotFound, set)) }, true},
		"keys in half an answer":        {func(i *idtokentest.Issuer) { i.KeysAt.Store(serve(t, http.StatusPartialContent, set)) }, true},
		"another issuer's document": {func(i *idtokentest.Issuer) {
			i.Redirect.Store(serve(t, http.StatusOK, `{"issuer":"https://gitlab.example","jwks_uri":"`+keys+`"}`))
		}, true},
		"a document of nobody":          {func(i *idtokentest.Issuer) { i.Redirect.Store(serve(t, http.StatusOK, `{"jwks_uri":"`+keys+`"}`)) }, true},
		"the document, of this issuer":  {func(i *idtokentest.Issuer) { i.Redirect.Store(serve(t, http.StatusOK, document(i, keys))) }, false},
		"the document in an error":      {func(i *idtokentest.Issuer) { i.Redirect.Store(serve(t, http.StatusTeapot, document(i, keys))) }, true},
		"a document as large as may be": {func(i *idtokentest.Issuer) { i.Redirect.Store(serve(t, http.StatusOK, pad(document(i, keys), 64<<10))) }, false},
		"a document larger than may be": {func(i *idtokentest.Issuer) {
			i.Redirect.Store(serve(t, http.StatusOK, pad(document(i, keys), 64<<10+1)))
		}, true},
	} {
		issuer := idtokentest.New(t)
		tc.change(issuer)
		_, err := verify(t, issuer.Verifier(t, &idtokentest.Clock{}), idtokentest.Sign(t, jose.RS256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil)), expected(issuer))
		wantKind(t, name, err, false, tc.down)
	}
}

func document(i *idtokentest.Issuer, keys string) string {
	return `{"issuer":"` + i.URL + `","jwks_uri":"` + keys + `"}`
}

// Who gives no transport reaches the public internet only.
func TestDefaultTransportIsGuarded(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	token := idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil))
	if _, err := verify(t, idtoken.NewVerifier(idtoken.Options{}), token, expected(issuer)); !errors.Is(err, egress.ErrBlocked) {
		t.Error(err)
	}
}

// counted counts what is asked of whom.
type counted struct {
	http.RoundTripper
	mu    sync.Mutex
	asked map[string]int // by host and path
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.asked[r.URL.Host+r.URL.Path]++
	c.mu.Unlock()
	return c.RoundTripper.RoundTrip(r)
}

// For how long keys are good, and how often an issuer is asked: to the moment.
func TestKeysInTime(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	now := present
	v := idtoken.NewVerifier(idtoken.Options{Transport: issuer.Transport(t, nil), Now: func() time.Time { return now }})
	ask := func(kid string) error {
		over := map[string]any{"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		_, err := verify(t, v, idtokentest.Sign(t, jose.ES256, kid, key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, over)), expected(issuer))
		return err
	}
	asked := int64(0)
	step := func(name string, after time.Duration, kid string, fetches int64, foreign, down bool) {
		t.Helper()
		now = now.Add(after)
		wantKind(t, name, ask(kid), foreign, down)
		if n := issuer.Discoveries.Load() - asked; n != fetches {
			t.Errorf("%s: the issuer was asked %d times, want %d", name, n, fetches)
		}
		asked = issuer.Discoveries.Load()
	}
	step("the first token", 0, "k1", 1, false, false)
	step("just before an hour", time.Hour-1, "k1", 0, false, false)
	step("after an hour", 1, "k1", 1, false, false)
	step("an unknown key", 0, "k2", 1, true, false)
	step("another", 0, "k3", 1, true, false)
	step("one too many", 0, "k4", 0, true, false)
	step("one too many, later", 10*time.Second-1, "k4", 0, true, false)
	step("one in ten seconds", 1, "k4", 1, true, false)
	step("no more", 0, "k2", 0, true, false)
	step("a known key all the while", 0, "k1", 0, false, false)

	issuer.Down.Store(true)
	step("the issuer is away", time.Hour, "k1", 0, false, false)
	step("a key that is not known while it is", 0, "k2", 0, false, true)
	var down *idtoken.Unavailable
	if err := ask("k2"); !errors.As(err, &down) || down.After != 15*time.Second || down.Err == nil {
		t.Errorf("%+v", down)
	}
	issuer.Down.Store(false)
	step("not asked again at once", 15*time.Second-1, "k2", 0, false, true)
	if err := ask("k2"); !errors.As(err, &down) || down.After != time.Second {
		t.Errorf("%+v", down)
	}
	step("asked again in time", 1, "k2", 1, true, false)

	issuer.Down.Store(true)
	step("away for almost a day", 24*time.Hour-1, "k1", 0, false, false)
	step("away for a day", 1, "k1", 0, false, true)
	issuer.Down.Store(false)
	issuer.Publish(nil)
	step("back, without its keys", 15*time.Second, "k1", 1, true, false)
}

// Anybody can have a project name issuers: the one that was not used for longest is forgotten, and no other.
func TestIssuersAreBounded(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	now := present
	transport := &counted{RoundTripper: issuer.Transport(t, nil), asked: map[string]int{}}
	v := idtoken.NewVerifier(idtoken.Options{Transport: transport, Now: func() time.Time { now = now.Add(time.Microsecond); return now }})
	ask := func(name string) error {
		over := map[string]any{"iss": name, "iat": present.Unix(), "nbf": present.Unix(), "exp": present.Add(time.Hour).Unix()}
		want := expected(issuer)
		want.Issuer = name
		_, err := verify(t, v, idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, over)), want)
		return err
	}
	other := func(i int) string { return fmt.Sprintf("https://127.0.0.2/%d", i) } // which is not reached
	times := func(i int) int {
		return transport.asked[fmt.Sprintf("127.0.0.2/%d/.well-known/openid-configuration", i)]
	}
	if err := ask(issuer.URL); err != nil {
		t.Fatal(err)
	}
	for i := range 255 {
		wantKind(t, other(i), ask(other(i)), false, true)
	}
	wantKind(t, "as many issuers as may be", ask(other(0)), false, true)
	if err := ask(issuer.URL); err != nil || times(0) != 1 || issuer.Discoveries.Load() != 1 {
		t.Errorf("with as many issuers as may be: %v; the first was asked %d times, ours %d", err, times(0), issuer.Discoveries.Load())
	}
	wantKind(t, "one more issuer", ask(other(255)), false, true)
	if err := ask(issuer.URL); err != nil || issuer.Discoveries.Load() != 1 {
		t.Errorf("ours was forgotten: %v, asked %d times", err, issuer.Discoveries.Load())
	}
	for i, want := range map[int]int{0: 1, 2: 1, 254: 1, 255: 1} {
		if wantKind(t, other(i), ask(other(i)), false, true); times(i) != want {
			t.Errorf("issuer %d was asked %d times", i, times(i))
		}
	}
	if wantKind(t, other(1), ask(other(1)), false, true); times(1) != 2 {
		t.Errorf("the one that was not used for longest was asked %d times: it is not forgotten", times(1))
	}
}

// Who goes away does not wait for an issuer that is slow, and the fetch goes on for the others.
func TestSlowIssuer(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	slow := &held{RoundTripper: issuer.Transport(t, nil), arrived: make(chan struct{}), let: make(chan struct{})}
	v := idtoken.NewVerifier(idtoken.Options{Transport: slow})
	token, err := idtoken.Parse(idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := v.Verify(ctx, token, expected(issuer))
		failed <- err
	}()
	<-slow.arrived
	cancel()
	var down *idtoken.Unavailable
	if err := <-failed; !errors.As(err, &down) || !errors.Is(err, context.Canceled) || down.After != time.Second {
		t.Error(err)
	}
	close(slow.let)
	if _, err := v.Verify(t.Context(), token, expected(issuer)); err != nil || issuer.Discoveries.Load() != 1 {
		t.Errorf("%v, asked %d times", err, issuer.Discoveries.Load())
	}
}

// held lets nothing through before it is told to.
type held struct {
	http.RoundTripper
	once    sync.Once
	arrived chan struct{} // closed when the first came
	let     chan struct{}
}

func (h *held) RoundTrip(r *http.Request) (*http.Response, error) {
	h.once.Do(func() { close(h.arrived) })
	<-h.let
	return h.RoundTripper.RoundTrip(r)
}

// Whatever the text, reading it neither fails badly nor quotes it.
func FuzzParse(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJ4IiwicHJvamVjdF9pZCI6MX0.AA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := idtoken.Parse(text)
		if (token == nil) == (err == nil) {
			t.Errorf("%v and %v", token, err)
		}
		if err != nil && len(text) > 24 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the token: %v", err)
		}
	})
}

// BenchmarkVerify reads and verifies a token whose issuer's keys are known.
//
//	go test -run '^$' -bench Verify ./internal/idtoken
func BenchmarkVerify(b *testing.B) {
	issuer := idtokentest.New(b)
	rsa, ec := idtokentest.RSA(b), idtokentest.EC(b)
	issuer.Publish(map[string]any{"rsa": rsa, "ec": ec})
	v := issuer.Verifier(b, &idtokentest.Clock{})
	for _, tc := range []struct {
		algorithm jose.SignatureAlgorithm
		kid       string
		key       any
	}{{jose.RS256, "rsa", rsa}, {jose.ES256, "ec", ec}} {
		token := idtokentest.Sign(b, tc.algorithm, tc.kid, tc.key, issuer.Claims("https://sirrat.example", "dynors/supergest", commit, nil))
		b.Run(fmt.Sprint(tc.algorithm), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify(b, v, token, expected(issuer)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
