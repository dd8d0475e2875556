// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// What is asked of a provider, as a metric names it.
const (
	pullIssue  = "issue"
	pullList   = "list"
	pullRevoke = "revoke"
)

// Metrics carry no project, host or account: /metrics is open to whoever reaches the port.
var (
	pullIssuedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sirrat_pull_credentials_issued_total",
		Help: "Pull credentials issued and delivered, by provider (Harbor, GitLab).",
	}, []string{"provider"})
	pullRevokedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sirrat_pull_credentials_revoked_total",
		Help: "Pull credentials deleted at their provider, by provider.",
	}, []string{"provider"})
	pullFailuresTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sirrat_pull_credentials_failures_total",
		Help: "Times that a provider of pull credentials did not answer or refused, by provider and what was asked of it (issue, list, revoke).",
	}, []string{"provider", "action"})
	pullExpiry = &pullExpiries{
		first: map[string]time.Time{},
		desc: prometheus.NewDesc("sirrat_pull_credentials_expiry_time_seconds",
			"End of the pull credential in use that ends first, in seconds since 1970; absent while none is.", nil, nil),
	}
)

func init() {
	metrics.Registry.MustRegister(pullIssuedTotal, pullRevokedTotal, pullFailuresTotal, pullExpiry)
}

// pullExpiries is a prometheus.Collector of the first end of the credentials of each project.
type pullExpiries struct {
	mu    sync.Mutex
	first map[string]time.Time
	desc  *prometheus.Desc
}

// set notes the first end of a project's credentials; zero when it has none.
func (e *pullExpiries) set(project string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.IsZero() {
		delete(e.first, project)
		return
	}
	e.first[project] = at
}

// Describe implements prometheus.Collector.
func (e *pullExpiries) Describe(out chan<- *prometheus.Desc) { out <- e.desc }

// Collect implements prometheus.Collector.
func (e *pullExpiries) Collect(out chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var first time.Time
	for _, at := range e.first {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if !first.IsZero() {
		out <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(first.Unix()))
	}
}

// firstExpiry is the end of the credential in use that ends first; zero if none is in use.
func (s *pullState) firstExpiry() time.Time {
	var first time.Time
	for _, t := range s.wanted {
		if c := s.record.Current(t); c != nil && (first.IsZero() || c.Expires.Before(first)) {
			first = c.Expires
		}
	}
	return first
}
