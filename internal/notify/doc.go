// SPDX-License-Identifier: Apache-2.0

// Package notify tells people what they wait for, by e-mail and webhook: an approval that is wanted, a PV to sign, a
// refusal, a deployment, a rollback, a debt. It reads what was decided from the journal, so it can neither hold a decision
// up nor take part in one.
//
// Derive turns an entry of the journal into an Event, Compose an event into a Message, Payload a message into what a
// webhook takes; all three are pure. SMTP and Webhooks send. A Dispatcher joins them.
//
// # What holds
//
//   - The journal's subscriber only puts entries into a bounded queue. What does not fit is read from the journal later.
//   - Each receiver of a project has its own queue, order and retries: a slow one delays no other.
//   - An event is delivered at least once, or given up a day after it was recorded, and that is said. After a crash the last
//     seconds may be told twice.
//   - Whatever people and pipelines wrote is text everywhere: no control characters, markup, mentions or further headers.
//   - A webhook's address is a secret. It is in no error, log line, event or metric, and it leads to no address inside.
//
// It may import api/v1alpha1, internal/journal, internal/cli/inert, the mail client and the clients of the standard
// library; no client of the control plane: what it needs of that it declares as Projects and Cursors.
package notify
