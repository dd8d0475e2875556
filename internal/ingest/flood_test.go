// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// flooded is a server that takes little at a time, with two projects: somebody who knows no secret floods one of them. Once that has
// begun, the store does not answer what it is asked for that before calm is closed.
type flooded struct {
	hooked
	other hooked
	begun atomic.Bool
	calm  chan struct{}
	end   func()       // closes calm
	asked atomic.Int64 // questions that the store has not answered
}

func newFlooded(t *testing.T, options ...func(*Options)) *flooded {
	f := &flooded{other: newHooked(t, nil), calm: make(chan struct{})}
	f.end = sync.OnceFunc(func() { close(f.calm) })
	slow := func(o *Options) {
		o.MaxInFlight, o.MaxRequests = 16, 64
		o.APIReader = intercept(t, o.APIReader.(client.Client), interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
				if _, ok := obj.(*corev1.Secret); ok && f.begun.Load() && key.Namespace == f.project {
					f.asked.Add(1)
					defer f.asked.Add(-1)
					<-f.calm
				}
				return c.Get(ctx, key, obj, opts...)
			}})
	}
	f.hooked = newHooked(t, nil, append([]func(*Options){slow}, options...)...)
	t.Cleanup(f.end)                                      // before the server is closed, which waits for all
	f.other.bridge.api, f.other.bridge.url = f.api, f.url // one server has both projects
	for _, b := range []hooked{f.hooked, f.other} {
		id, _ := apitoken.ID(b.token)
		cptest.Wait(t, "the cache to have the token", func(ctx context.Context) error {
			return b.client.Get(ctx, client.ObjectKey{Namespace: b.project, Name: apitoken.SecretName(id)}, &corev1.Secret{})
		})
	}
	return f
}

// goesOn checks that whoever can prove who they are is served: the reports and webhooks of the other project, and the reports of the one
// that is flooded.
func (f *flooded) goesOn() {
	f.t.Helper()
	for range 3 {
		f.other.mustPost(f.other.results()+"?wait=0", result(someCommit, ""), http.StatusAccepted)
		f.mustPost(f.results()+"?wait=0", result(someCommit, ""), http.StatusAccepted)
	}
	f.other.want("gitlab", pipelineEvent(31, 1, "success"), hookStored)
	f.other.want("harbor", scanEvent("SCANNING_COMPLETED", 1, hookDigest, "dev-"+someCommit[:7], ""), hookStored)
	f.other.want("sonarqube", sonarEvent("a", "OK", 1), hookStored)
}

// flood sends as many requests as the server handles at a time, and waits until each is answered or keeps the store busy.
func (f *flooded) flood(url string, header http.Header) (ebb func()) {
	f.t.Helper()
	f.begun.Store(true)
	var sent sync.WaitGroup
	var open, served atomic.Int64
	for range f.api.o.MaxRequests {
		open.Add(1)
		sent.Go(func() {
			defer open.Add(-1)
			if status, _, _ := f.send(http.MethodPost, url, "", pipelineEvent(31, 1, "success"), header); status < 400 {
				served.Add(1)
			}
		})
	}
	cptest.Wait(f.t, "the flood to be there", func(context.Context) error {
		if n := f.asked.Load(); n == 0 || n < open.Load() {
			return fmt.Errorf("%d of %d are at the store", n, open.Load())
		}
		return nil
	})
	return func() {
		f.end()
		sent.Wait()
		if n := served.Load(); n != 0 {
			f.t.Errorf("%d were served", n)
		}
	}
}

// Who knows no secret keeps nobody out who does: neither with webhooks nor with tokens of nobody's.
func TestFloodThatProvesNothing(t *testing.T) {
	for name, header := range map[string]http.Header{
		"gitlab": {"X-Gitlab-Token": {"nobody's"}}, "harbor": {"Authorization": {"nobody's"}}, "sonarqube": {sonarHeader: {strings.Repeat("0", 64)}},
		"token": {"Authorization": {"Bearer sirrat_aaaaaaaa_" + strings.Repeat("0", 48)}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFlooded(t)
			url := f.results()
			if name != "token" {
				url = f.hookURL(name)
			}
			ebb := f.flood(url, header)
			f.goesOn()
			f.want("gitlab", pipelineEvent(31, 1, "success"), hookStored) // its own as well: the cache knows its secret
			ebb()
		})
	}
}

// Nor with bodies that do not end.
func TestFloodOfSlowWebhooks(t *testing.T) {
	f := newFlooded(t, func(o *Options) { o.BodyTimeout = cptest.Deadline })
	var open []net.Conn
	for range f.api.o.MaxRequests {
		conn := f.dial()
		fmt.Fprintf(conn, "POST /api/hooks/gitlab/%s HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: nobody\r\nContent-Length: 100\r\n\r\n{", f.project)
		open = append(open, conn)
	}
	f.answered(open, f.api.o.MaxRequests/8)
	f.goesOn()
}

// Nor with large ones: one project's webhooks have a part of the memory.
func TestFloodOfLargeWebhooks(t *testing.T) {
	f := newFlooded(t, func(o *Options) { o.MaxRequests, o.BodyTimeout = defaultMaxRequests, cptest.Deadline })
	var open []net.Conn
	for range maxHookMemory/MaxHook + 1 {
		conn := f.dial()
		open = append(open, conn)
		go func() { // who is refused is not read to the end
			fmt.Fprintf(conn, "POST /api/hooks/gitlab/%s HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: nobody\r\nContent-Length: %d\r\n\r\n", f.project, MaxHook)
			_, _ = conn.Write(make([]byte, MaxHook-1))
		}()
	}
	f.answered(open, maxHookMemory/4/MaxHook)
	f.goesOn()
}

// answered waits until at most so many of the connections are left that are not refused.
func (f *flooded) answered(open []net.Conn, left int) {
	f.t.Helper()
	var refused atomic.Int64
	for _, conn := range open {
		go func() {
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				if resp.StatusCode == http.StatusServiceUnavailable {
					refused.Add(1)
				}
				resp.Body.Close()
			}
		}()
	}
	cptest.Wait(f.t, "what is too much to be refused", func(context.Context) error {
		n := int(refused.Load())
		if n >= len(open)-left {
			return nil
		}
		return fmt.Errorf("%d of %d", n, len(open))
	})
}

func TestShares(t *testing.T) {
	s := newShares(10, 4)
	for i, step := range []struct {
		project string
		n       int64
		want    bool
	}{{"a", 4, true}, {"a", 1, false}, {"b", 3, true}, {"b", 2, false}, {"c", 3, true}, {"d", 1, false}, {"b", 1, false}} {
		if got := s.take(step.project, step.n); got != step.want {
			t.Errorf("%d: %+v", i, step)
		}
	}
	for project, n := range map[string]int64{"a": 4, "b": 3, "c": 3} {
		s.release(project, n)
	}
	if len(s.of) != 0 || s.held != 0 || !s.take("d", 4) {
		t.Errorf("%+v", s)
	}
	if least := newShares(0, 0); !least.take("a", 1) || least.take("a", 1) {
		t.Error("less than one")
	}
}
