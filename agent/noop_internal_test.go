// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// counted passes calls on to the engine and counts them.
func counted(b *testing.B) (address string, calls *atomic.Int64) {
	b.Helper()
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = compose.DefaultHost
	}
	engine, found := strings.CutPrefix(host, "unix://")
	if !found {
		b.Skip("the engine has no socket on this machine")
	}
	calls = &atomic.Int64{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	socket := filepath.Join(b.TempDir(), "engine.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	return "unix://" + socket, calls
}

// BenchmarkNoop measures what it costs to find out that nothing is to be done, for a project of three containers: the time,
// the questions to the engine, the allocations. At rest it happens at events only.
func BenchmarkNoop(b *testing.B) {
	raw := enginetest.Engine(b)
	registry := enginetest.NewRegistry(b, raw)
	project := enginetest.Project(b, raw)
	address, calls := counted(b)
	engine, err := compose.Connect(address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { engine.Close() })
	store, err := state.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	a := &Agent{options: Options{DataDir: b.TempDir()}, log: logr.Discard(), engine: engine, store: store, workers: map[state.Key]*worker{}, calm: time.AfterFunc(time.Hour, func() {})}
	a.identity = enrol.Identity{Host: "bench"}
	a.reporter = newReporter("bench", nil, a.log)
	a.monitor = newMonitor("bench", 1, time.Now())
	image := registry.Image(b, "app")
	if err := engine.Pull(b.Context(), image, nil, 0, func(compose.Progress) {}); err != nil {
		b.Fatal(err)
	}
	const text = "services: {web: {image: a, scale: 2}, db: {image: a}}"
	spec := v1alpha1.RolloutSpec{
		Project: "bench", Environment: "dev", ComposeProject: project, Compose: text, ComposeHash: composefile.Hash(text),
		Images: []v1alpha1.ServiceImage{{Service: "web", Image: image}, {Service: "db", Image: image}},
	}
	w := newWorker(a, state.Key{Project: "bench", Environment: "dev"})
	w.load()
	w.disk.Current = &state.Deployment{Name: "bench", UID: "bench", Spec: spec}
	a.files = newHostFiles(b.TempDir(), filepath.Join(b.TempDir(), "policy.yaml"), engine.Host())
	target, err := a.files.resolve(b.Context(), w.disk.Current)
	if err != nil {
		b.Fatal(err)
	}
	if err := engine.Up(b.Context(), target.project, target.labels); err != nil {
		b.Fatal(err)
	}
	enginetest.Wait(b, "the containers to be healthy", func() error {
		verdict, err := w.observe(b.Context())
		if err == nil && verdict.Status != health.Healthy {
			err = context.DeadlineExceeded
		}
		return err
	})
	b.ReportAllocs()
	before := calls.Load()
	for b.Loop() {
		w.step(b.Context())
		w.publish()
	}
	b.ReportMetric(float64(calls.Load()-before)/float64(b.N), "engine-calls/op")
}
