// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"flag"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// clock is the controllers': the real one, and ahead of it by as much as a story has moved it. It only moves forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// set moves the clock to a moment.
func (c *clock) set(to time.Time) { c.ahead.Store(int64(time.Until(to))) }

// theirs is the controllers' clock.
var theirs clock

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	if err := flag.Set("test.parallel", "8"); err != nil { // all stories at once, whatever the machine: they mostly wait
		panic(err)
	}
	ctx := context.Background() // as long as the process
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) },
		func(_ context.Context, e *cptest.Env) error {
			_, err := controllertest.Start(ctx, e, controllertest.Options{Now: theirs.now})
			return err
		})
}

// TestFleet plays the stories on the same three servers, each in projects of its own: those that need nothing of a server as
// a whole at the same time, which is the crowd that they are not to notice.
func TestFleet(t *testing.T) {
	testbed.Need(t)
	w := newWorld(t)
	t.Run("side by side", func(t *testing.T) {
		for _, story := range []struct {
			name string
			play func(*testing.T, *world)
		}{
			{"one at a time", testOneAtATime},
			{"stop on failure", testStopOnFailure},
			{"success threshold", testSuccessThreshold},
			{"pause", testPause},
			{"neighbours", testNeighbours},
		} {
			t.Run(story.name, func(t *testing.T) {
				t.Parallel()
				story.play(t, w)
			})
		}
	})
	t.Run("maintenance window", func(t *testing.T) { testWindow(t, w) })
	t.Run("off", func(t *testing.T) { testOff(t, w) })
}
