// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AnnotationLogsRequest on a Rollout asks its host's agent for log lines of the environment's containers:
// "<user>: <LogsRequest as JSON>". The answer is in status.logs for as long as the annotation stays, at most two minutes.
const AnnotationLogsRequest = Group + "/logs-request"

// AnnotationAgentUpdate on an agent's Lease names the order to update, so that the agent learns of it from the answer to its
// heartbeat. A new value is a new order. On a Host, any new value asks again for an update that failed.
const AnnotationAgentUpdate = Group + "/agent-update"

// AgentUpdateConfigMap, in a host's namespace, carries the order.
const (
	AgentUpdateConfigMap = "agent-update"
	// AgentUpdateStatement is its key for the signed statement.
	AgentUpdateStatement = "statement"
	// AgentUpdateURL is its key for the address of the HTTP API that serves the binary.
	AgentUpdateURL = "url"
)

// Reasons of events of Hosts about their operation.
const (
	ReasonLogsShown   = "LogsShown"   // somebody read log lines
	ReasonLogsRefused = "LogsRefused" // somebody wanted to, and the host did not allow it

	ReasonAgentUpdateOrdered = "AgentUpdateOrdered" // the agent is told to become another version
	ReasonAgentNotPublished  = "AgentNotPublished"  // the version that a Host names is not published
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
