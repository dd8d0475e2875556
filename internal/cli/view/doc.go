// SPDX-License-Identifier: Apache-2.0

// Package view draws what kubectl-sirrat shows: the bridge, the verdicts, a PV, tables. Every function is pure: objects
// and a Screen in, text out. All text passes through one place (line.put), which makes it inert.
//
// It may import api/v1alpha1, internal/pv, internal/journal and internal/attestation (for the forms of document, entry and
// proof) and the packages lang and inert beside it; no client.
package view
