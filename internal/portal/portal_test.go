// SPDX-License-Identifier: Apache-2.0

package portal_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/page"
	"gitlab.com/dynors/sirrat/internal/portal"
)

func TestPage(t *testing.T) {
	b := newBench(t)
	got := b.get(b.links.Of(b.release))
	if got.status != http.StatusOK {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	for _, want := range []string{
		`<html lang="en">`, "Supergest", "v2.4.0", "release/2.4", commitA, "Waiting at gate client", "Repenti", "Karma 46 out of 100, level Repenti",
		"automatic", "with approval", "soaked in dev for 3d4h", "approved by m•••@dynors.com, 1 of 2", "kubectl sirrat approve r-3f2a9c1 client",
		"Can open from 24 November 2026 at 19:04 UTC on", "2 of 3 server(s)", "deployed by the pipeline", "healthy since", "Not reached yet",
		"registry.dynors.com/supergest/backend", digestA, "postgres:16", "Tags are missing in the registry", "Read on 23 November 2026 at 17:04 UTC.",
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, secret := range []string{"marie.qa@", "10.4.0.7", "canary", "vps-2", "harbor.dynors.com", "<script", "services: {}", string(b.release.UID)} {
		if strings.Contains(got.body, secret) {
			t.Errorf("the page says %q", secret)
		}
	}
	head := b.ask(http.MethodHead, b.links.Of(b.release))
	if head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %d, %d bytes", head.status, len(head.body))
	}
}

// TestModule: a module has artifacts and no images; an application may have both.
func TestModule(t *testing.T) {
	b := newBench(t)
	b.change(func(st *v1alpha1.ReleaseStatus) {
		st.Artifacts = []v1alpha1.ReleaseArtifact{{Coordinates: "com.dynors:app:2.4.0"}}
	})
	if got := b.get(b.links.Of(b.release)); !strings.Contains(got.body, "com.dynors:app:2.4.0") || !strings.Contains(got.body, digestA) {
		t.Errorf("%d: %s", got.status, got.body)
	}
	b.change(func(st *v1alpha1.ReleaseStatus) {
		st.Artifacts, st.Bundle = []v1alpha1.ReleaseArtifact{{Coordinates: "com.dynors:core:2.4.0"}}, nil
	})
	if got := b.get(b.links.Of(b.release)); got.status != http.StatusOK || !strings.Contains(got.body, "com.dynors:core:2.4.0") || strings.Contains(got.body, "No image is frozen") {
		t.Errorf("%d: %s", got.status, got.body)
	}
}

func TestHeaders(t *testing.T) {
	b := newBench(t)
	for _, address := range []string{b.links.Of(b.release), "/releases/", "/releases/a/b/c"} {
		h := b.get(address).header
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", "Cache-Control": "no-store",
			"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex, nofollow", "X-Frame-Options": "DENY",
			"Content-Type": "text/html; charset=utf-8", "Content-Language": "en", "Vary": "Accept-Language", "Strict-Transport-Security": "",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s %q, want %q", address, name, h.Get(name), want)
			}
		}
	}
	body := b.get(b.links.Of(b.release)).body
	_, rest, _ := strings.Cut(body, `rel="stylesheet" href="`)
	href, _, _ := strings.Cut(rest, `"`)
	style := b.get("/releases/" + strings.TrimPrefix(href, "../../"))
	if !strings.HasPrefix(href, "../../style-") || style.status != http.StatusOK || style.header.Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(style.header.Get("Cache-Control"), "immutable") {
		t.Errorf("%q: %d %v", href, style.status, style.header)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "PROPFIND"} {
		if got := b.ask(method, b.links.Of(b.release)); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET, HEAD" || strings.Contains(got.body, "Supergest") {
			t.Errorf("%s: %d %v", method, got.status, got.header)
		}
	}
}

// TestDeadLinksAreAlike: whatever is wrong with a link, the answer is the same to the byte.
func TestDeadLinksAreAlike(t *testing.T) {
	b := newBench(t)
	other, alien := b.newRelease("other"), newBench(t)
	gone := b.newRelease("gone")
	link := b.links.Of(b.release)
	at := strings.LastIndex(link, "/") + 1
	capability := link[at:]
	if len(capability) != 43 {
		t.Fatalf("the capability %q has not 256 bits", capability)
	}
	goneLink := b.links.Of(gone)
	if got := b.get(goneLink); got.status != http.StatusOK {
		t.Fatalf("%d before it was deleted", got.status)
	}
	if err := b.c.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the release to be gone", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(gone), &v1alpha1.Release{}); client.IgnoreNotFound(err) != nil || err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	forged, err := portal.NewLinks([]byte(strings.Repeat("x", portal.KeyBytes)), b.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	nobody := b.release.DeepCopy()
	nobody.Name, nobody.UID = "nobody", ""
	flipped := []byte(capability)
	flipped[42] ^= 1
	want := b.get("/releases/nowhere/nobody/" + capability)
	if want.status != http.StatusNotFound {
		t.Fatal(want.status)
	}
	for name, address := range map[string]string{
		"none":                          link[:at-1],
		"empty":                         link[:at],
		"cut":                           link[:len(link)-1],
		"longer":                        link + "A",
		"last bits":                     link[:at] + string(flipped),
		"lower case":                    link[:at] + strings.ToLower(capability),
		"below":                         link + "/",
		"below more":                    link + "/x",
		"another key":                   forged.Of(b.release),
		"another release's":             b.links.Of(other)[:strings.LastIndex(b.links.Of(other), "/")+1] + capability,
		"another project's":             alien.links.Of(alien.release)[:strings.LastIndex(alien.links.Of(alien.release), "/")+1] + capability,
		"of one that never was":         b.links.Of(nobody),
		"deleted":                       goneLink,
		"project and release exchanged": "/releases/" + b.release.Name + "/" + b.project + "/" + capability,
		"upper case name":               "/releases/" + b.project + "/R-3F2A9C1/" + capability,
		"name with a slash":             "/releases/" + b.project + "/r%2f3f2a9c1/" + capability,
		"name with NUL":                 "/releases/" + b.project + "/r%00/" + capability,
		"long name":                     "/releases/" + strings.Repeat("a", 300) + "/r/" + capability,
		"prefix":                        "/releases/",
		"style of nothing":              "/releases/style-000000000000.css",
	} {
		got := b.get(address)
		if got.status != want.status {
			t.Errorf("%s: %d", name, got.status)
		}
		// The stylesheet's address is relative to the path that was asked for.
		if strip(got.body) != strip(want.body) {
			t.Errorf("%s: another page:\n%s", name, got.body)
		}
	}

	// The same name again is another release.
	again := b.newRelease("gone")
	if got := b.get(goneLink); got.status != http.StatusNotFound {
		t.Errorf("an old link opens a new release: %d", got.status)
	}
	if got := b.get(b.links.Of(again)); got.status != http.StatusOK {
		t.Errorf("its own does not: %d", got.status)
	}
}

func strip(body string) string { return strings.ReplaceAll(body, "../", "") }

// TestDeletionHides: a release that is being deleted is gone for readers.
func TestDeletionHides(t *testing.T) {
	b := newBench(t)
	b.release.Finalizers = []string{"sirrat.test/hold"}
	if err := b.c.Update(t.Context(), b.release); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Delete(t.Context(), b.release); err != nil {
		t.Fatal(err)
	}
	if got := b.get(b.links.Of(b.release)); got.status != http.StatusNotFound {
		t.Error(got.status)
	}
}

// TestHostileTexts: no text of any field is markup, or has an effect on what is around it.
func TestHostileTexts(t *testing.T) {
	b := newBench(t)
	const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'` + "\u202e\x1b[31m {{.Project}} "
	r := &v1alpha1.Release{}
	r.Name, r.Namespace = "hostile", b.project
	r.Spec = v1alpha1.ReleaseSpec{Commit: commitA, Branch: hostile}
	b.create(r)
	r.Status = *b.release.Status.DeepCopy()
	var changed int
	page.EachText(&r.Status, func(s string) string {
		if s == "" || isFixed(s) {
			return s
		}
		changed++
		return s + hostile
	})
	if changed < 30 {
		t.Fatalf("only %d texts were changed", changed)
	}
	b.status(r)
	for _, language := range page.Languages {
		got := b.get(b.links.Of(r) + "?lang=" + language)
		if got.status != http.StatusOK {
			t.Fatalf("%d: %s", got.status, got.body)
		}
		for _, live := range []string{"<script", "<img", "onerror=alert(2)>'", "\u202e", "\x1b"} {
			if strings.Contains(got.body, live) {
				t.Errorf("%s: %q is in the page", language, live)
			}
		}
		if n := strings.Count(got.body, "&lt;script&gt;"); n < 30 {
			t.Errorf("%s: only %d texts were shown:\n%s", language, n, got.body)
		}
	}
}

// isFixed are the values that the API takes no others for.
func isFixed(s string) bool {
	switch s {
	case string(v1alpha1.VerdictPassed), string(v1alpha1.VerdictWaiting), v1alpha1.DecisionApproved, "True", "False", digestA,
		v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionFrozen, v1alpha1.ConditionTagged, v1alpha1.ReasonResolved, v1alpha1.ReasonRegistryBusy:
		return true
	}
	return false
}

func TestLanguages(t *testing.T) {
	b := newBench(t)
	link := b.links.Of(b.release)
	for _, tc := range []struct{ query, accept, want string }{
		{"", "fr-FR,fr;q=0.9", "fr"}, {"", "en-GB", "en"}, {"", "de", "fr"}, {"", "", "fr"}, {"?lang=en", "fr", "en"}, {"?lang=fr", "en", "fr"}, {"?lang=xx", "en", "en"}, {"", strings.Repeat("x", 5000), "fr"},
	} {
		got := b.get(link+tc.query, "Accept-Language: "+tc.accept)
		if !strings.Contains(got.body, `<html lang="`+tc.want+`">`) || got.header.Get("Content-Language") != tc.want {
			t.Errorf("%+v: %s", tc, got.header.Get("Content-Language"))
		}
	}
	// What the controllers wrote is English, and says so to who hears the page.
	if got := b.get(link + "?lang=fr"); !strings.Contains(got.body, `<span lang="en">soaked in dev for 3d4h</span>`) || !strings.Contains(got.body, "Durée d’observation atteinte") {
		t.Error("the gates' words are not marked as English beside French ones")
	}
}

// TestServerInTrouble: what cannot be read is no page and no word of the link, and heals.
func TestServerInTrouble(t *testing.T) {
	b := newBench(t)
	env := cptest.Start(t)
	whole, err := client.NewWithWatch(env.Config, client.Options{Scheme: b.c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	broken := func(what string) client.Reader {
		return interceptor.NewClient(whole, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if reflect.TypeOf(o).Elem().Name() == what {
					return errors.New("canary-cause")
				}
				return c.Get(ctx, key, o, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
				if reflect.TypeOf(l).Elem().Name() == what {
					return errors.New("canary-cause")
				}
				return c.List(ctx, l, opts...)
			},
		})
	}
	for _, what := range []string{"Release", "Project", "QualityGateList", "EnvironmentList"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, b.links.Of(b.release), nil)
		b.portal(broken(what)).ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "canary") || strings.Contains(w.Body.String(), "Supergest") {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	if !strings.Contains(b.log.String(), "canary-cause") {
		t.Error("the log does not say why")
	}
}

// TestManyAtATime: beyond a bound, requests are told to come back, and none waits.
func TestManyAtATime(t *testing.T) {
	b := newBench(t)
	env := cptest.Start(t)
	whole, err := client.NewWithWatch(env.Config, client.Options{Scheme: b.c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	release, arrived := make(chan struct{}), make(chan struct{}, 100)
	p := b.portal(interceptor.NewClient(whole, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		arrived <- struct{}{}
		<-release
		return c.Get(ctx, key, o, opts...)
	}}))
	ask := func() int {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, b.links.Of(b.release), nil))
		return w.Code
	}
	const slots = 32
	var wg sync.WaitGroup
	for range slots {
		wg.Go(func() { ask() })
	}
	for range slots {
		<-arrived
	}
	if got := ask(); got != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", got)
	}
	close(release)
	wg.Wait()
	if got := b.get(b.links.Of(b.release)); got.status != http.StatusOK {
		t.Error(got.status)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, base := range []string{"", "sirrat.example", "ftp://sirrat.example", "https://u:p@sirrat.example", "https://sirrat.example?x=1", "https://sirrat.example#x", "https:///x"} {
		if _, err := portal.NewLinks(key, base); err == nil {
			t.Errorf("%q is taken", base)
		} else if strings.Contains(err.Error(), "p@") {
			t.Errorf("a password is told: %v", err)
		}
	}
	if _, err := portal.NewLinks(key[1:], "https://sirrat.example"); err == nil {
		t.Error("a short key is taken")
	}
	if _, err := portal.New(portal.Options{}); err == nil {
		t.Error("nothing is taken")
	}
	links, err := portal.NewLinks(key, "https://sirrat.example/below/")
	if err != nil {
		t.Fatal(err)
	}
	r := &v1alpha1.Release{}
	r.Namespace, r.Name, r.UID = strings.Repeat("p", 63), strings.Repeat("r", 63), "u"
	if got := links.Of(r); !strings.HasPrefix(got, "https://sirrat.example/below/releases/p") || len(got) > 255 {
		t.Errorf("%d characters: %s", len(got), got)
	}
}
