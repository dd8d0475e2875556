// SPDX-License-Identifier: Apache-2.0

// Package hostpolicy is what the owner of a server lets releases do there: it reads the owner's file, and judges resolved
// compose models by it. The agent judges what it is about to run, with the server's own files before its eyes; the
// controllers judge the same by what the agents report, so that a release's author learns early. Only the agent's
// judgement counts.
//
// A model is judged, never a text: binds hide behind anchors, extends, symlinks and options of volume drivers. Every field
// of the model is classified (see the test): a field that a new version of compose-go brings must be judged before it is
// admitted. All findings are told at once, each with the lines of the policy that would allow it.
//
// Whoever cannot be allowed is refused: a file that others may write, that cannot be read or that says something unknown
// stops everything new. No file is the default, which allows plain containers, named volumes, bridge networks and ordinary
// ports.
//
// It may import compose-go's model, internal/calendar, internal/composefile and api/v1alpha1. Only Store and Server touch
// files.
package hostpolicy
