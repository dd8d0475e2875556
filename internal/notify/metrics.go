// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Outcomes of an event for one receiver. Every event ends delivered or gaveup; it may fail many times before.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed"
	outcomeGaveUp    = "gaveup"
)

// Metrics carry no project and no receiver: /metrics is open to whoever reaches the port.
var notificationsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "sirrat_notifications_total",
	Help: "Events told to receivers, by kind and outcome: delivered, failed (one attempt), gaveup (not tried again).",
}, []string{"kind", "outcome"})

func init() {
	metrics.Registry.MustRegister(notificationsTotal)
}
