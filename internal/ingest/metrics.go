// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Metrics carry no project, commit or token: /metrics is open to whoever reaches the port.
var (
	resultsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sirrat_ci_results_total",
		Help: "Reports stored, by type (other: declared by a gate), status and whether it was stored before (repeated).",
	}, []string{"type", "status", "repeated"})
	hooksTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sirrat_hook_deliveries_total",
		Help: "Webhooks received, by source (gitlab, harbor, sonarqube) and outcome (stored, repeated, noted, ignored, or refused for " +
			"whatever was answered with 4xx, and failed with 5xx).",
	}, []string{"source", "outcome"})
	requestSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "sirrat_api_request_duration_seconds",
		Help:    "Time from the end of the request's header to the end of the answer, waiting for a verdict included.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 3, 10, 60},
	}, []string{"route", "code"})
	storeSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "sirrat_ci_result_store_duration_seconds",
		Help:    "Time to store a report durably.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 15},
	})
	waitingRequests = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sirrat_api_waiting_requests",
		Help: "Requests that wait for the controllers' judgement.",
	})
)

func init() {
	metrics.Registry.MustRegister(resultsTotal, hooksTotal, requestSeconds, storeSeconds, waitingRequests)
}

func observe(route string, status int, d time.Duration) {
	requestSeconds.WithLabelValues(route, strconv.Itoa(status)).Observe(d.Seconds())
}
