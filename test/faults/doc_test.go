// SPDX-License-Identifier: Apache-2.0

// Package faults runs the real agent as a process against a real control plane and a Docker engine of its own, breaks one
// part after the other, and judges by a record of all that happened (package oracle) whether anything was lost, done twice,
// done without authorisation, or done too early.
//
// Every engine lives in a network namespace of its own, with the agents and the registry that use it (package testbed), so
// that engines and tests do not meet, and packets can be dropped. That takes root and dockerd.
//
//	FAULT_KILLS  random kills of the agent (default 10), and half as many of one that starts first
//	FAULT_SEED   seed of all that is random; printed
//	FAULT_LONG   1 runs what takes minutes too
package faults
