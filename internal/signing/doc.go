// SPDX-License-Identifier: Apache-2.0

// Package signing is the page on which the client signs a PV (procès-verbal de recette) without an account and without a
// key: a link by e-mail, a code by e-mail, the document, a decision, a confirmation. It is plain HTML; no script runs.
//
// # What holds
//
//   - A link is 256 random bits, is sent to one signatory and stored nowhere: its Secret is named by its hash.
//   - Reading a link changes nothing and shows little, since mail scanners fetch links. What signs is the link, a code that
//     is sent to the same address, and a confirmation that repeats the decision.
//   - A PV gets one decision. Its resourceVersion is what two confirmations race for (see sign.go).
//   - A link that is unknown, expired, used or revoked gives one and the same answer.
//   - The package judges no signature: it signs with the installation's key, and waits until the controllers verified.
//   - No log line holds a link, a code or an address; addresses are masked.
//
// It may import the API types, internal/pv, internal/envelope, internal/cli/inert and controller-runtime's client
// interfaces.
package signing
