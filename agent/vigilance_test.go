// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// An image that goes away between the pull and the making of containers is fetched once more.
func TestVanishedImage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	job, web := s.registry.Image(t, "job", "VERSION=1"), s.registry.Image(t, "app", "VERSION=1")
	o := s.migratingOrder(1, job, job, "TAKES=3s")
	o.images["web"] = web
	name := s.send(o)
	enginetest.Wait(t, "the job to run", func() error {
		for _, c := range s.jobs() {
			inspected, err := s.raw.ContainerInspect(t.Context(), c, client.ContainerInspectOptions{})
			if err == nil && strings.Contains(c, "migrate") && inspected.Container.State.Running {
				return nil
			}
		}
		return fmt.Errorf("jobs %q", s.jobs())
	})
	if _, err := s.raw.ImageRemove(t.Context(), web, client.ImageRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.await(name, v1alpha1.RolloutHealthy)
	s.serves("1")
	if said := s.log.String(); !strings.Contains(said, "pulling them again") {
		t.Error("nothing had vanished")
	}
}

// A stream of events that dies without a word is no reason to leave what falls over lying there.
func TestDeafStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var deaf atomic.Bool
	o := s.options()
	o.DockerHost, o.Look = s.deafProxy(&deaf), 3*time.Second
	s.runWith(o)
	s.await(s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1"))), v1alpha1.RolloutHealthy)
	deaf.Store(true)
	removeContainer(t, s.raw, s.container("web").ID)
	s.serves("1")
	deaf.Store(false)
}

// deafProxy leads to the engine, and swallows its events while told to.
func (s *server) deafProxy(deaf *atomic.Bool) (address string) {
	s.Helper()
	target, isUnix := strings.CutPrefix(s.engine.Host(), "unix://")
	if !isUnix {
		s.Skip("the engine is not behind a unix socket")
	}
	path := filepath.Join(s.TempDir(), "p.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", target)
			if err != nil {
				near.Close()
				continue
			}
			var follows atomic.Bool
			go func() {
				defer far.Close()
				_, _ = io.Copy(passing(func(p []byte) (int, error) {
					if bytes.Contains(p, []byte("/events?")) {
						follows.Store(true)
					}
					return far.Write(p)
				}), near)
			}()
			go func() {
				defer near.Close()
				_, _ = io.Copy(passing(func(p []byte) (int, error) {
					if follows.Load() && deaf.Load() && !bytes.HasPrefix(p, []byte("HTTP/")) {
						return len(p), nil
					}
					return near.Write(p)
				}), far)
			}()
		}
	}()
	return "unix://" + path
}

type passing func([]byte) (int, error)

func (p passing) Write(b []byte) (int, error) { return p(b) }
