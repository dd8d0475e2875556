// SPDX-License-Identifier: Apache-2.0

// Package portal is the web pages that people read: at present the page of one release, to which GitLab's commit statuses lead.
// It reads and decides nothing. It is plain HTML; no script runs.
//
// # What holds
//
//   - Whoever has a link may read the page, and nobody else: a link carries an HMAC over project, name and UID of its release
//     (Links). What is forged, altered, another release's or of a release that is gone gives one and the same answer.
//   - A page shows what a reader of the GitLab project may know. E-mail addresses are masked; network addresses, URLs and the
//     names of servers that are addresses do not appear, in no message either (hide). Nothing is read of Secrets or Rollouts.
//   - What a page says is a pure function of the objects (newView), in French or English.
//   - Reads come from the controllers' cache: who guesses addresses costs the API server nothing.
//   - No log line holds a link.
//
// It may import the API types, internal/page, internal/cli/inert and controller-runtime's client interfaces.
package portal
