// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AnnotationLogsRequest on a Rollout asks its host's agent for log lines of the environment's containers:
// "<user>: <LogsRequest as JSON>". The answer is in status.logs for as long as the annotation stays, at most two minutes.
const AnnotationLogsRequest = Group + "/logs-request"

// Reasons of events of Hosts about their operation.
const (
	ReasonLogsShown   = "LogsShown"   // somebody read log lines
	ReasonLogsRefused = "LogsRefused" // somebody wanted to, and the host did not allow it
)

// LogsRequest asks for log lines; JSON in the annotation sirrat.dynors.com/logs-request.
//
// +kubebuilder:object:generate=false
type LogsRequest struct {
	// ID tells one request from another. What comes after a "." numbers the requests of one person who watches.
	ID string `json:"id"`
	// Service whose lines are wanted; empty for all.
	Service string `json:"service,omitempty"`
	// Tail is how many of the last lines of each container. Default and most 1000.
	Tail int `json:"tail,omitempty"`
	// Since leaves out what is not younger.
	Since *metav1.MicroTime `json:"since,omitempty"`
}
