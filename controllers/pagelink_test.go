// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/portal"
)

// pageLinks are those that the controllers of all tests give to GitLab.
var pageLinks *portal.Links

const pageURL = "https://sirrat.example"

func startLinks(ctx context.Context, e *cptest.Env) (*portal.Links, error) {
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(e.Config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	key, err := controllers.EnsurePageKey(ctx, c)
	if err != nil {
		return nil, err
	}
	return portal.NewLinks(key, pageURL)
}

// TestGitLabLeadsToThePage follows the links that GitLab was given: each opens its release's page, and no other.
func TestGitLabLeadsToThePage(t *testing.T) {
	b, s := newGitLabBench(t)
	first, second := b.branchRelease(commitA), b.branchRelease(commitB)
	both := map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "}
	statuses(t, s, commitA, both)
	statuses(t, s, commitB, both)

	pages, err := portal.New(portal.Options{Reader: running.Manager.GetClient(), Links: pageLinks})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(pages)
	defer server.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	paths := map[string]string{}
	for commit, release := range map[string]*v1alpha1.Release{commitA: first, commitB: second} {
		targets := s.Targets(commit)
		for _, gate := range []string{"sirrat/ci", "sirrat/production"} {
			u, err := url.Parse(targets[gate])
			if err != nil || u.Scheme+"://"+u.Host != pageURL || !strings.HasPrefix(u.Path, "/releases/"+b.project+"/"+release.Name+"/") || len(targets[gate]) > 255 {
				t.Fatalf("%s of %s leads to %q", gate, commit, targets[gate])
			}
			code, body := get(u.Path)
			if code != http.StatusOK || !strings.Contains(body, commit) || strings.Contains(body, "canary") {
				t.Errorf("%s: %d %s", gate, code, body)
			}
			paths[commit] = u.Path
		}
	}
	at := strings.LastIndex(paths[commitA], "/")
	if code, body := get(paths[commitB][:strings.LastIndex(paths[commitB], "/")] + paths[commitA][at:]); code != http.StatusNotFound || strings.Contains(body, commitB) {
		t.Errorf("the link of a release opens another: %d", code)
	}
	// The link is in no object: who may read releases here may not read them there.
	b.tokenIsNowhere(paths[commitA][at+1:], paths[commitB][strings.LastIndex(paths[commitB], "/")+1:])
	if err := b.c.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the page to be gone", func(context.Context) error {
		if code, _ := get(paths[commitA]); code != http.StatusNotFound {
			return fmt.Errorf("%d", code)
		}
		return nil
	})
}

// TestPageKey: it is made once, however many start at once, and a damaged one is refused.
func TestPageKey(t *testing.T) {
	env := cptest.Start(t)
	c := (&bench{t: t}).clientFor(env.Config)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "release-pages"}}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		t.Fatal(err)
	}
	before := s.Data["key"]
	if err := c.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = controllers.EnsurePageKey(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != portal.KeyBytes || !bytes.Equal(k, keys[0]) || bytes.Equal(k, before) {
			t.Fatalf("keys of %d bytes differ, or are the old one", len(k))
		}
	}
	set := func(key []byte) {
		t.Helper()
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			t.Fatal(err)
		}
		s.Data = map[string][]byte{"key": key}
		if err := c.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	set(before[:31])
	if _, err := controllers.EnsurePageKey(t.Context(), c); err == nil || !strings.Contains(err.Error(), "delete the Secret") || strings.Contains(err.Error(), string(before[:31])) {
		t.Errorf("a short key: %v", err)
	}
	set(before)
	if again, err := controllers.EnsurePageKey(t.Context(), c); err != nil || !bytes.Equal(again, before) {
		t.Errorf("a key that is put back is not taken: %v", err)
	}
}
