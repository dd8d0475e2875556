// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// MetricsType is the media type of the Prometheus text format (prometheus.io/docs/instrumenting/exposition_formats).
const MetricsType = "text/plain; version=0.0.4; charset=utf-8"

// exposition writes the Prometheus text format. Gauges and counters with few labels are all that there is, so that the
// client library, with its registry and encoders, would be the larger part.
type exposition struct{ bytes.Buffer }

// family begins a metric.
func (x *exposition) family(name, kind, help string) {
	fmt.Fprintf(x, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// sample is one value; labels are names and values in turn.
func (x *exposition) sample(name string, value float64, labels ...string) {
	x.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		x.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + labelEscapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		x.WriteByte('}')
	}
	x.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// one is a metric of one value.
func (x *exposition) one(name, kind, help string, value float64) {
	x.family(name, kind, help)
	x.sample(name, value)
}

func (x *exposition) counts(name, label, help string, counts map[string]int64) {
	x.family(name, "counter", help)
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		x.sample(name, float64(counts[key]), label, key)
	}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Metrics are what is known of an agent in the Prometheus text format.
func (a *Agent) metrics(now time.Time) ([]byte, error) {
	status, err := ReadStatus(a.options.DataDir, a.options.Policy)
	if err != nil {
		return nil, err
	}
	vitals, counters := a.monitor.read()
	x := &exposition{}
	x.family("sirrat_agent_info", "gauge", "Version of the agent and of its engine; always 1.")
	x.sample("sirrat_agent_info", 1, "version", vitals.Version, "go", runtime.Version(), "engine", vitals.EngineVersion, "host", status.Host)
	x.one("sirrat_agent_start_time_seconds", "gauge", "When the agent was started, in seconds since 1970.", float64(vitals.Started.Unix()))
	x.one("sirrat_agent_engine_up", "gauge", "1 while the Docker engine answers.", yes(vitals.Engine.Up))
	x.one("sirrat_agent_control_plane_up", "gauge", "1 when the last heartbeat was taken.", yes(vitals.ControlPlane.Up))
	if last := vitals.ControlPlane.Last; !last.IsZero() {
		x.one("sirrat_agent_heartbeat_age_seconds", "gauge", "Seconds since the last heartbeat that was taken.", now.Sub(last).Seconds())
	}
	if until := status.CertificateUntil; until != nil {
		x.one("sirrat_agent_certificate_expiry_time_seconds", "gauge", "End of the agent's certificate, in seconds since 1970.", float64(until.Unix()))
	}
	x.family("sirrat_agent_environment_healthy", "gauge", "1 while what must run of an environment is healthy.")
	for _, e := range status.Environments {
		x.sample("sirrat_agent_environment_healthy", yes(e.Healthy), "project", e.Project, "environment", e.Environment)
	}
	x.family("sirrat_agent_environment_phase", "gauge", "The phase that the newest rollout of an environment is in; always 1.")
	for _, e := range status.Environments {
		x.sample("sirrat_agent_environment_phase", 1, "project", e.Project, "environment", e.Environment, "phase", e.Phase)
	}
	counters.rollouts[v1alpha1.RolloutRolledBack] += 0 // there from the start, so that its first rise is seen
	counters.rollouts[v1alpha1.RolloutHealthy] += 0
	counters.rollouts[v1alpha1.RolloutFailed] += 0
	x.counts("sirrat_agent_rollout_phases_total", "phase", "Phases that rollouts came into; RolledBack are the rollbacks.", counters.rollouts)
	counters.pulls["ok"] += 0
	counters.pulls["failed"] += 0
	x.counts("sirrat_agent_pulls_total", "outcome", "Tries to pull an image.", counters.pulls)
	x.one("sirrat_agent_heals_total", "counter", "Times that something that was down was brought back.", float64(counters.heals))
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	x.one("sirrat_agent_go_heap_bytes", "gauge", "Heap in use.", float64(memory.HeapInuse))
	x.one("sirrat_agent_go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine()))
	return x.Bytes(), nil
}

// serveMetrics answers GET /metrics on a TCP address until ctx ends.
func (a *Agent) serveMetrics(ctx context.Context, listener net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		text, err := a.metrics(time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", MetricsType)
		_, _ = w.Write(text) // whoever asked is gone
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		a.log.Error(err, "metrics are no longer served")
	}
}
