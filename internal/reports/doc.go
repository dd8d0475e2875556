// SPDX-License-Identifier: Apache-2.0

// Package reports reads what tools of a pipeline wrote about a commit: tests, coverage, findings, bills of materials. It
// tells the format from the content, never from a name or a media type, and makes a short summary of it in one pass.
//
// # What holds
//
//   - Memory is bounded by the constants of this package, whatever the size of the file: nothing keeps the document.
//   - What counts is counted: an attribute that claims a figure is compared with the content, and a report whose claims
//     contradict its content is refused. So is one that is empty, cut off, or about nothing (no test, no line, nothing scanned).
//   - Nothing outside the file is ever read: a DOCTYPE is passed over, entities other than XML's own five are refused.
//   - What a reader does not know of a format is passed over, but never a severity or an outcome: those are refused.
//   - Every refusal is an *Error whose text is fit for the sender.
//
// It decides nothing: a scan with critical findings is a scan that was made, and gates bound what it may have found.
//
// It may import api/v1alpha1, internal/maven for coordinates, golang.org/x/text for encodings and jsontext for JSON.
package reports
