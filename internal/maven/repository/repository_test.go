// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/maven"
	"gitlab.com/dynors/sirrat/internal/maven/repository"
	"gitlab.com/dynors/sirrat/internal/maven/repository/repositorytest"
)

var core = maven.Coordinates{Group: "com.dynors", Artifact: "core", Version: "2.1.0"}

func clientOf(g *repositorytest.GitLab, header string) *repository.Client {
	c := repository.Config{URL: g.URL(), Header: header, Token: repositorytest.Token, CA: g.CA()}
	if header == "Basic" {
		c.Username = repositorytest.User
	}
	return repository.NewPool(egress.Guard{Private: true}).Client(c)
}

// isProblem checks kind and words of an error, and that it has no secret.
func isProblem(t *testing.T, err error, kind repository.Kind, texts ...string) {
	t.Helper()
	var p *repository.Problem
	if !errors.As(err, &p) || p.Kind != kind {
		t.Fatalf("%v, want a problem of kind %s", err, kind)
	}
	for _, text := range texts {
		if !strings.Contains(p.Text, text) {
			t.Errorf("%q does not say %q", p.Text, text)
		}
	}
	for _, secret := range []string{repositorytest.Token, "canary-signature", "127.0.0.1"} {
		if strings.Contains(p.Text, secret) {
			t.Errorf("%q has %q in it", p.Text, secret)
		}
	}
}

// TestVerify reads an artifact with every way to show an account, with and without an object storage.
func TestVerify(t *testing.T) {
	for _, header := range []string{"", "Private-Token", "Deploy-Token", "Job-Token", "Basic"} {
		for _, storage := range []bool{false, true} {
			g := repositorytest.Start(t, repositorytest.Options{Header: header, Storage: storage})
			g.Publish(core.String(), "classes")
			got, err := clientOf(g, header).Verify(t.Context(), core)
			if err != nil {
				t.Fatalf("%q, storage %v: %v", header, storage, err)
			}
			sum := sha256.Sum256(repositorytest.Jar("classes"))
			if got.Packaging != "jar" || len(got.Files) != 2 || got.Files[1].SHA256 != "sha256:"+hex.EncodeToString(sum[:]) ||
				got.Files[1].Name != "core-2.1.0.jar" || got.Files[1].Size != 11 || len(got.Files[1].Checksums) != 1 ||
				!strings.HasPrefix(got.Files[1].Checksums[0], "sha1:") {
				t.Errorf("%+v", got)
			}
			if slices.ContainsFunc(g.Asked(), func(path string) bool { return strings.HasSuffix(path, ".md5") }) {
				t.Error("MD5 was asked for")
			}
		}
	}
}

func TestDenied(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{Header: "Deploy-Token"})
	g.Publish(core.String(), "classes")
	for _, header := range []string{"", "Private-Token", "Basic"} {
		_, err := clientOf(g, header).Verify(t.Context(), core)
		isProblem(t, err, repository.KindDenied, "401", "secretRef")
	}
}

// TestChecksums: one of SHA-1 or stronger must be there, and all that are there must match.
func TestChecksums(t *testing.T) {
	jar := repositorytest.Jar("classes")
	sum256, sum512 := sha256.Sum256(jar), sha512.Sum512(jar)
	right256, right512 := hex.EncodeToString(sum256[:]), hex.EncodeToString(sum512[:])
	wrong := func(digits int) string { return strings.Repeat("0", digits) }
	for _, c := range []struct {
		name  string
		texts map[string]string // by kind
		kind  repository.Kind   // "" for none
		says  string
	}{
		{"stronger ones too", map[string]string{"sha256": right256, "sha512": strings.ToUpper(right512) + "  core-2.1.0.jar\n"}, "", ""},
		{"sha1 differs", map[string]string{"sha1": wrong(40)}, repository.KindInvalid, "sha1 is"},
		{"sha256 differs", map[string]string{"sha256": wrong(64)}, repository.KindInvalid, "sha256 is"},
		{"sha512 differs though sha256 does not", map[string]string{"sha256": right256, "sha512": wrong(128)}, repository.KindInvalid, "sha512 is"},
		{"cut off", map[string]string{"sha256": right256[:40]}, repository.KindInvalid, "not a checksum of 64 digits"},
		{"no digits", map[string]string{"sha1": "<html>login</html>"}, repository.KindInvalid, "not a checksum"},
		{"empty", map[string]string{"sha1": ""}, repository.KindInvalid, "not a checksum"},
		{"endless", map[string]string{"sha1": strings.Repeat("a", 4096)}, repository.KindInvalid, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := repositorytest.Start(t, repositorytest.Options{})
			g.Publish(core.String(), "classes")
			for kind, text := range c.texts {
				g.Say(core.Path("jar."+kind), text)
			}
			got, err := clientOf(g, "").Verify(t.Context(), core)
			if c.kind != "" {
				isProblem(t, err, c.kind, c.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"sha512:" + right512, "sha256:" + right256}, got.Files[1].Checksums[:2]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNoChecksum: a registry with MD5 alone proves nothing.
func TestNoChecksum(t *testing.T) {
	files := map[string][]byte{"/" + core.Path("pom"): []byte(repositorytest.POM(core)), "/" + core.Path("jar"): repositorytest.Jar("classes")}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if content, ok := files[r.URL.Path]; ok {
			_, _ = w.Write(content)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	_, err := repository.NewPool(egress.Guard{Private: true}).Client(repository.Config{URL: server.URL, CA: certificate(server)}).Verify(t.Context(), core)
	isProblem(t, err, repository.KindMissing, "no checksum beside core-2.1.0.pom")
}

func TestMissing(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{})
	c := clientOf(g, "")
	_, err := c.Verify(t.Context(), core)
	isProblem(t, err, repository.KindMissing, "core-2.1.0.pom is not in the package registry")
	g.Put(core.Path("pom"), []byte(repositorytest.POM(core)))
	_, err = c.Verify(t.Context(), core)
	isProblem(t, err, repository.KindMissing, "core-2.1.0.jar is not in the package registry")
}

// TestForwarded: what Maven Central has under the organisation's name is not the organisation's, and is never asked for.
func TestForwarded(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{Forward: true, Header: "Private-Token"})
	_, err := clientOf(g, "Private-Token").Verify(t.Context(), core)
	isProblem(t, err, repository.KindMissing, "sends its readers on to another repository")
	g.Publish(core.String(), "classes")
	if _, err := clientOf(g, "Private-Token").Verify(t.Context(), core); err != nil {
		t.Error(err) // its missing sha256 and sha512 are forwarded as well
	}
}

func TestContent(t *testing.T) {
	other := core
	other.Artifact = "extensions"
	for _, c := range []struct {
		name, pom, jar string
		says           string
	}{
		{"another module's POM", repositorytest.POM(other), "PK\x03\x04", "is the POM of com.dynors:extensions:2.1.0"},
		{"a page", "<!DOCTYPE html><html></html>", "PK\x03\x04", "a document type is not allowed"},
		{"a page as a jar", repositorytest.POM(core), "<html>sign in</html>", "no archive"},
		{"an empty jar", repositorytest.POM(core), "", "no archive"},
		{"a huge POM", strings.Repeat(" ", maven.MaxPOM+1), "PK\x03\x04", "larger than"},
	} {
		g := repositorytest.Start(t, repositorytest.Options{})
		g.Put(core.Path("pom"), []byte(c.pom))
		g.Put(core.Path("jar"), []byte(c.jar))
		_, err := clientOf(g, "").Verify(t.Context(), core)
		t.Log(c.name, err)
		isProblem(t, err, repository.KindInvalid, c.says)
	}
}

// TestPackagings: a list of versions has no artifact beside its POM, a web application a war.
func TestPackagings(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{})
	with := func(packaging string) { // in place of the end of a POM
		g.Put(core.Path("pom"), []byte(strings.Replace(repositorytest.POM(core), "</project>", "<packaging>"+packaging+"</packaging></project>", 1)))
	}
	c := clientOf(g, "")
	with("pom")
	list, err := c.Verify(t.Context(), core)
	if err != nil || len(list.Files) != 1 || list.Packaging != "pom" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, jar := range []string{"PK\x03\x04", ""} { // which nobody would judge
		g.Put(core.Path("jar"), []byte(jar))
		isProblem(t, c.Look(t.Context(), list), repository.KindInvalid, "core-2.1.0.jar lies beside it")
		_, err := c.Verify(t.Context(), core)
		isProblem(t, err, repository.KindInvalid, "core-2.1.0.jar lies beside it")
	}
	g.Delete(core.Path("jar"))
	if err := c.Look(t.Context(), list); err != nil {
		t.Error(err)
	}
	with("war")
	_, err = c.Verify(t.Context(), core)
	isProblem(t, err, repository.KindMissing, "core-2.1.0.war")
	with("hpi")
	_, err = c.Verify(t.Context(), core)
	isProblem(t, err, repository.KindInvalid, "packaging", "hpi")
}

// TestLook finds what changed after it was verified, and asks for no artifact as long as nothing did.
func TestLook(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{Storage: true})
	g.Publish(core.String(), "classes")
	c := clientOf(g, "")
	known, err := c.Verify(t.Context(), core)
	if err != nil {
		t.Fatal(err)
	}
	g.Asked()
	if err := c.Look(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(g.Asked(), core.Path("jar")) {
		t.Error("the artifact was read again although its checksums are the same")
	}
	g.Put(core.Path("jar"), repositorytest.Jar("other classes"))
	isProblem(t, c.Look(t.Context(), known), repository.KindChanged, "core-2.1.0.jar is another file than was judged")
	g.Delete(core.Path("jar"))
	isProblem(t, c.Look(t.Context(), known), repository.KindMissing, "core-2.1.0.jar is not in the package registry")
	g.Publish(core.String(), "classes")
	if err := c.Look(t.Context(), known); err != nil {
		t.Errorf("put back: %v", err)
	}
	g.Put(core.Path("pom"), []byte(repositorytest.POM(core)+"<!-- another -->"))
	isProblem(t, c.Look(t.Context(), known), repository.KindChanged, "core-2.1.0.pom")
	g.Publish(core.String(), "classes")
	sum := sha256.Sum256(repositorytest.Jar("classes"))
	g.Say(core.Path("jar.sha256"), hex.EncodeToString(sum[:])) // one more checksum is no other artifact
	if err := c.Look(t.Context(), known); err != nil {
		t.Error(err)
	}
}

func TestTrouble(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{})
	g.Publish(core.String(), "classes")
	c := clientOf(g, "")
	for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusInternalServerError} {
		g.Trouble(status)
		_, err := c.Verify(t.Context(), core)
		isProblem(t, err, repository.KindAway)
		var p *repository.Problem
		if errors.As(err, &p); (p.After > 0) != (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
			t.Errorf("%d: after %s", status, p.After)
		}
	}
	g.Trouble(0)
	if _, err := c.Verify(t.Context(), core); err != nil {
		t.Errorf("it does not heal: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verify(ctx, core); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestEgress: neither the repository nor a storage that it redirects to may be where the server alone can reach.
func TestEgress(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{})
	g.Publish(core.String(), "classes")
	shut := repository.NewPool(egress.Guard{}).Client(repository.Config{URL: g.URL(), CA: g.CA()})
	_, err := shut.Verify(t.Context(), core)
	isProblem(t, err, repository.KindUnusable, "--allow-private-addresses")
	if asked := g.Asked(); len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}

	for _, to := range []string{"https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/x", "http://169.254.169.254/"} {
		server := httptest.NewTLSServer(http.RedirectHandler(to, http.StatusFound))
		t.Cleanup(server.Close)
		guard := egress.Guard{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		_, err := repository.NewPool(guard).Client(repository.Config{URL: server.URL, CA: certificate(server)}).Verify(t.Context(), core)
		kind := repository.KindUnusable
		if strings.HasPrefix(to, "http:") {
			kind = repository.KindAway
		}
		isProblem(t, err, kind)
		if strings.Contains(err.Error(), "169.254") {
			t.Errorf("%s tells where it leads", err)
		}
	}
}

func TestUnusable(t *testing.T) {
	g := repositorytest.Start(t, repositorytest.Options{Header: "Private-Token"})
	pool := repository.NewPool(egress.Guard{Private: true})
	for _, c := range []repository.Config{
		{URL: "http://gitlab.example/maven"}, {URL: "https://user:password@gitlab.example/"}, {URL: "https:///maven"}, {URL: "%"},
		{URL: "https://gitlab.example/maven?x=y"}, {URL: g.URL(), Header: "Private-Token", Token: repositorytest.Token + "\n"},
		{URL: g.URL(), CA: []byte("no certificate")},
	} {
		_, err := pool.Client(c).Verify(t.Context(), core)
		isProblem(t, err, repository.KindUnusable)
	}
	_, err := pool.Client(repository.Config{URL: g.URL()}).Verify(t.Context(), core)
	isProblem(t, err, repository.KindAway, "not trusted", "ca.crt")
}

// TestRedirectLoop ends.
func TestRedirectLoop(t *testing.T) {
	var n int
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	_, err := repository.NewPool(egress.Guard{Private: true}).Client(repository.Config{URL: server.URL, CA: certificate(server)}).Verify(t.Context(), core)
	isProblem(t, err, repository.KindAway, "redirects too often")
	if n > 5 {
		t.Errorf("%d requests", n)
	}
}
