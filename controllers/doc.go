// SPDX-License-Identifier: Apache-2.0

// Package controllers moves releases over the bridge: one file per kind, each gathers objects, decides by pure functions
// (internal/gate, internal/karma, internal/rollout), sets conditions and patches what changed.
//
// Each object's status has one writer: the Release controller writes Releases, the Environment controller Environments
// and Rollouts, the PV controller PVs, and so on. They speak to each other through objects only. A steady system writes
// nothing: the next look is an event or the exact time that a decision named.
package controllers
