// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Problem is the body of every answer that is not 2xx: problem details in the sense of RFC 9457.
type Problem struct {
	// URN that identifies the kind of problem.
	Type string `json:"type"`
	// What the kind of problem is, always the same for a type.
	Title string `json:"title"`
	// HTTP status code.
	Status int `json:"status"`
	// What is wrong with this request, and what to do.
	Detail string `json:"detail"`
	// The first field of Errors; absent when no single field is wrong.
	Field string `json:"field,omitempty"`
	// Every field that is wrong.
	Errors []FieldError `json:"errors,omitempty"`

	retryAfter time.Duration
	challenge  string   // WWW-Authenticate
	allow      string   // Allow
	cause      error    // for the log only
	closing    bool     // the connection is of no further use
	encodings  []string // Accept-Encoding
}

// FieldError says what is wrong with one field of the body or one parameter of the query.
type FieldError struct {
	// Path of the field. Example: tests.failed.
	Field string `json:"field"`
	// What is wrong with it.
	Detail string `json:"detail"`
}

// Error is for logs: it holds nothing that came with the request but the names of its fields.
func (p *Problem) Error() string {
	if p.cause != nil {
		return p.Title + ": " + p.cause.Error()
	}
	return p.Title
}

func (p *Problem) Unwrap() error { return p.cause }

const problemPrefix = "urn:sirrat:problem:"

func newProblem(status int, kind, title, detail string) *Problem {
	return &Problem{Type: problemPrefix + kind, Title: title, Status: status, Detail: detail}
}

// invalid is the problem of a body or query with wrong fields; there must be at least one.
func invalid(errs []FieldError) *Problem {
	return fields(http.StatusBadRequest, "invalid-request", "The request is not valid", errs)
}

func fields(status int, kind, title string, errs []FieldError) *Problem {
	p := newProblem(status, kind, title, "")
	p.Errors = errs
	p.Field = errs[0].Field
	for i, e := range errs {
		if i > 0 {
			p.Detail += "; "
		}
		if e.Field != "" {
			p.Detail += e.Field + ": "
		}
		p.Detail += e.Detail
	}
	return p
}

func notFoundField(field, detail string) *Problem {
	return fields(http.StatusNotFound, "not-found", "Something that the request names does not exist", []FieldError{{field, detail}})
}

func ambiguous(field, detail string) *Problem {
	return fields(http.StatusConflict, "ambiguous", "The request could mean several things", []FieldError{{field, detail}})
}

// unavailable is the problem of everything that may be better in a moment; nothing was acknowledged.
func unavailable(detail string, retryAfter time.Duration, cause error) *Problem {
	p := newProblem(http.StatusServiceUnavailable, "unavailable", "The server cannot do this now", detail)
	p.retryAfter, p.cause = retryAfter, cause
	return p
}

func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	for _, e := range p.encodings {
		h.Add("Accept-Encoding", e)
	}
	if p.closing {
		h.Set("Connection", "close")
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

// writeJSON has no error to return: the status is sent, and a client that went away cannot be told.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only types of this package, all of which can be marshalled
		panic(err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
