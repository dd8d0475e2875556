// SPDX-License-Identifier: Apache-2.0

// Package ingest is the HTTP API through which pipelines report what they found and read what was judged, auditors read the
// journal, and the scan of a PV that was signed on paper arrives.
//
// A request is authenticated (a project's API token, the id_token of one of its jobs, or the secret of a webhook), bounded (size, time, number in flight), decoded strictly, stored as a
// CIResult and, for the first result of a commit, as a Release; then it waits a little for the controllers' judgement and
// answers with what they wrote. The package never decides: every verdict, score and next step in an answer is copied from
// the status of a Release.
//
// # What holds
//
//   - A 2xx answer to a report means that the report is stored: the API server acknowledged every write before.
//   - A file of a tool's is in the archive, as it came, before its figures are stored; of a request with files all are taken or
//     none, and none that proves nothing or is about another commit or image.
//   - The same report again finds the CIResult of the first time, since its name is derived from its content.
//   - What the controllers fetch themselves (Fetched) goes the same way into archive and store, under an identity of its own that
//     no token can take.
//   - A token opens its own project, in its own scope. Any other project, existing or not, gives one and the same answer.
//   - An id_token speaks of the commit, pipeline and job that it was signed for, and of no other. What is wrong with one is
//     told only to who holds one that is signed for the project: to others every project is alike.
//   - A webhook is that of a project if it proves itself with the project's secret: to others every project is alike, whether it
//     takes webhooks or not. What it says counts by the source's own ids and times, once, and not where jobs must report. The order in
//     which webhooks arrive changes nothing of what is stored, but for which tag's version a release keeps, since it keeps the first.
//   - Who has proven nothing takes no turn at the store, and of the room that there is for such requests one project has a part: a flood
//     sent to one project keeps neither the reports nor the webhooks of others out.
//   - A scan needs no token: it is kept if a PV waits for a file of exactly its hash. What does not match learns nothing of
//     the PV, not even whether there is one.
//   - A journal is sent whole or cut off so that the client notices: an answer that ends as it should is complete.
//   - Every 4xx names the field that is wrong; no answer and no log line holds a token or a request's body.
//   - A waiting request costs a channel and no API call: informers wake it.
//
// It imports the API types, apitoken, idtoken, envelope, evidence, hooks, journal (for its entries' form) and reports, and
// controller-runtime's client and cache interfaces; no other package of this module.
package ingest
