// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// unharmed fails when a container is another one or was started anew.
func (s *server) unharmed(before health.Container) {
	s.Helper()
	if after := s.container(before.Service); after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) {
		s.Errorf("the container was touched: %+v", after)
	}
}

// refused fails unless a Rollout failed for a reason, untouched, with the first one serving.
func (s *server) refused(status v1alpha1.RolloutStatus, reason string, words ...string) {
	s.Helper()
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c == nil || c.Reason != reason {
		s.Errorf("conditions %+v, want the reason %s; %s", status.Conditions, reason, status.Message)
	}
	for _, word := range append(words, "nothing was touched") {
		if !strings.Contains(status.Message, word) {
			s.Errorf("message %q does not say %q", status.Message, word)
		}
	}
	if status.ServingSequence != 1 {
		s.Errorf("sequence %d serves", status.ServingSequence)
	}
}

// What the server cannot carry is found out before anything is fetched, and what serves keeps serving.
func TestPreflight(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.run()
	first := s.send(s.webOrder(1, s.registry.Image(t, "app", "VERSION=1")))
	s.await(first, v1alpha1.RolloutHealthy)
	before := s.container("web")

	t.Run("disk", func(t *testing.T) {
		huge := s.registry.Altered(t, s.registry.ImageFor(t, "app", enginetest.Architecture(), 1000), func(m map[string]any) {
			m["layers"].([]any)[1].(map[string]any)["size"] = int64(1) << 42
		})
		name := s.send(s.webOrder(2, huge))
		enginetest.Wait(t, "it to wait for room", func() error {
			if status := s.status(name); !strings.Contains(status.Message, "waits, because the images need about 153934") {
				return fmt.Errorf("%s: %s", status.Phase, status.Message)
			}
			return nil
		})
		s.refused(s.await(name, v1alpha1.RolloutFailed), v1alpha1.ReasonDiskFull, "make room")
	})
	t.Run("architecture", func(t *testing.T) {
		other := s.registry.ImageFor(t, "app", "s390x", 0)
		s.refused(s.await(s.send(s.webOrder(3, other)), v1alpha1.RolloutFailed), v1alpha1.ReasonWrongArchitecture,
			"the image of web is made for linux/s390x, and this server is linux/")
	})
	t.Run("index without the architecture", func(t *testing.T) {
		other := s.registry.ImageFor(t, "app", "s390x", 0)
		_, digest, _ := strings.Cut(other, "@")
		index := s.registry.Altered(t, other, func(m map[string]any) {
			clear(m)
			m["schemaVersion"], m["mediaType"] = 2, "application/vnd.oci.image.index.v1+json"
			m["manifests"] = []any{map[string]any{
				"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": 1,
				"platform": map[string]any{"os": "linux", "architecture": "s390x"},
			}}
		})
		s.refused(s.await(s.send(s.webOrder(4, index)), v1alpha1.RolloutFailed), v1alpha1.ReasonWrongArchitecture, "linux/s390x")
	})
	t.Run("port of a process", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		o := s.webOrder(5, before.Image)
		_, o.values["PORT"], _ = net.SplitHostPort(l.Addr().String())
		s.refused(s.await(s.send(o), v1alpha1.RolloutFailed), v1alpha1.ReasonPortTaken,
			"service web publishes port "+l.Addr().String()+"/tcp, which agent.test (process ")
	})
	t.Run("port of another project", func(t *testing.T) {
		other := s.anotherProject()
		o := s.order(other)
		o.compose, o.images = web, map[string]string{"web": before.Image}
		o.values = map[string]string{"PORT": fmt.Sprint(enginetest.FreePort(t))}
		s.await(s.send(o), v1alpha1.RolloutHealthy)
		mine := s.webOrder(6, before.Image)
		mine.values["PORT"] = o.values["PORT"]
		s.refused(s.await(s.send(mine), v1alpha1.RolloutFailed), v1alpha1.ReasonPortTaken, "which container "+other+"-web-1 of the compose project "+other+" has")
	})
	s.unharmed(before)
	t.Run("a port that becomes free", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o := s.webOrder(7, before.Image)
		_, o.values["PORT"], _ = net.SplitHostPort(l.Addr().String())
		name := s.send(o)
		enginetest.Wait(t, "it to wait for the port", func() error {
			if status := s.status(name); !strings.Contains(status.Message, "waits, because service web publishes port") {
				return fmt.Errorf("%s: %s", status.Phase, status.Message)
			}
			return nil
		})
		l.Close()
		s.await(name, v1alpha1.RolloutHealthy)
	})
}
