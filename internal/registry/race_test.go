// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// TestVersionsThatTwoWant: of two releases that want the same version's tag at the same moment one gets it, and the other is told
// that it is taken; also when they are of two projects, which have an account each.
func TestVersionsThatTwoWant(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd})
	clients := []*registry.Client{newClient(t, r), newClient(t, r)}
	digests := []string{r.Push(repository, "dev-a1b2c3d"), r.Push(repository, "dev-b1b2c3d")}
	for round := range 20 {
		tag := fmt.Sprintf("v1.%d.0", round)
		var wg sync.WaitGroup
		errs := make([]error, len(clients))
		for i, c := range clients {
			wg.Go(func() {
				errs[i] = c.Tag(t.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: digests[i], Tag: tag})
			})
		}
		wg.Wait()
		won := r.Digest(repository, tag)
		for i, err := range errs {
			var p *registry.Problem
			if taken := errors.As(err, &p) && p.Kind == registry.KindTaken; taken == (digests[i] == won) {
				t.Fatalf("round %d: %s was promised to %s, and names %s (%v)", round, tag, digests[i], won, errs)
			}
		}
	}
	puts := 0
	for _, s := range r.Take() {
		if s.Method == http.MethodPut && strings.Contains(s.Path, "/manifests/v1.") {
			puts++
		}
	}
	if puts != 20 {
		t.Errorf("%d tags were written %d times", 20, puts)
	}
}

// TestAnAnswerThatComesLate: what was asked before a registry failed, and is answered afterwards, does not end the pause of the failure.
func TestAnAnswerThatComesLate(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd})
	r.Push(repository, "slow")
	r.Push(repository, "bad")
	c := newClient(t, r)
	asked, failed := make(chan struct{}), make(chan struct{})
	late := through(r, http.MethodHead, "/manifests/slow", func(w http.ResponseWriter, whole *httptest.ResponseRecorder, _ *http.Request) {
		close(asked)
		<-failed
		w.WriteHeader(whole.Code)
	})
	bad := refuse(http.MethodHead, "/manifests/bad", 503, "UNAVAILABLE", "Retry-After: 60")
	r.Misbehave(func(w http.ResponseWriter, q *http.Request) bool { return late(w, q) || bad(w, q) })
	slow := make(chan error)
	go func() {
		_, err := c.Resolve(t.Context(), r.Host+"/"+repository+":slow")
		slow <- err
	}()
	<-asked
	_, err := c.Resolve(t.Context(), r.Host+"/"+repository+":bad")
	problem(t, err, registry.KindBusy)
	close(failed)
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	r.Misbehave(nil)
	r.Take()
	_, err = c.Resolve(t.Context(), r.Host+"/"+repository+":bad")
	problem(t, err, registry.KindBusy)
	if seen := r.Take(); len(seen) > 0 {
		t.Errorf("asked although it is to wait: %v", seen)
	}
}
