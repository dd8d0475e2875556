// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// After a commit, images that nobody goes back to are removed: those alone that the agent fetched itself and that no other
// environment needs. Going back never pulls.
func TestPrune(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	images := map[int]string{}
	for i := range 7 {
		images[i] = s.registry.Image(t, "app", fmt.Sprint("VERSION=", i))
	}
	present := func(i int) bool {
		t.Helper()
		there, err := s.engine.Present(t.Context(), images[i])
		if err != nil {
			t.Fatal(err)
		}
		return there
	}
	gone := func(i int) {
		t.Helper()
		enginetest.Wait(t, fmt.Sprint("image ", i, " to be removed"), func() error {
			if present(i) {
				return fmt.Errorf("it is there")
			}
			return nil
		})
	}
	if err := s.engine.Pull(t.Context(), images[0], nil, 0, func(compose.Progress) {}); err != nil { // somebody else's
		t.Fatal(err)
	}
	s.await(s.send(s.webOrder(1, images[0])), v1alpha1.RolloutHealthy)
	s.await(s.send(s.webOrder(2, images[1])), v1alpha1.RolloutHealthy)
	other := s.order(s.anotherProject())
	other.compose, other.images = "services: {app: {image: a}}", map[string]string{"app": images[1]}
	s.await(s.send(other), v1alpha1.RolloutHealthy)
	for i := 2; i <= 4; i++ {
		s.await(s.send(s.webOrder(int64(i+1), images[i])), v1alpha1.RolloutHealthy)
	}
	gone(2)
	for _, i := range []int{0, 1, 3, 4} { // of somebody else, of another environment, kept, current
		if !present(i) {
			t.Errorf("image %d was removed", i)
		}
	}
	if err := s.engine.Pull(t.Context(), images[5], nil, 0, func(compose.Progress) {}); err != nil {
		t.Fatal(err)
	}
	asked := s.registry.Requests.Load()
	sick := s.webOrder(6, images[5])
	sick.checks[0].HTTP.URL = "http://127.0.0.1:${PORT}/nothing"
	sick.checks[0].Timeout.Duration = time.Second
	s.await(s.send(sick), v1alpha1.RolloutRolledBack)
	s.serves("4")
	if n := s.registry.Requests.Load() - asked; n != 0 {
		t.Errorf("going back asked the registry %d times", n)
	}
	last := s.webOrder(7, images[6])
	last.keep = ptr.To[int32](0)
	s.await(s.send(last), v1alpha1.RolloutHealthy)
	gone(3)
	gone(4)
	if !present(6) || !present(0) || !present(1) {
		t.Error("an image that is needed was removed")
	}
}
