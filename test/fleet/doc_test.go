// SPDX-License-Identifier: Apache-2.0

// Package fleet lets the real controllers, on a real control plane, bring releases to three servers: each with a Docker engine,
// an identity and a folder of its own, and with sirrat-agent as a process. The stories look at what is promised of many hosts
// at a time: batches, the pause between them, the share of hosts that must succeed, the stop at a failure, maintenance windows,
// hosts that are off, and that projects and environments which share a host never disturb each other. What ran where and when
// is asked of the engines; what people are told, of the Environment and of `kubectl sirrat status`.
//
// The servers are those of package testbed. That takes root and dockerd.
package fleet
