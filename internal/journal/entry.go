// SPDX-License-Identifier: Apache-2.0

// Package journal is the memory that outlives the objects: for each project a chain of entries, each naming the hash of
// the one before, so that nothing that was recorded can be changed, removed or slipped in later without being found. What
// an entry rests upon (reports, signed documents) is kept beside it, named by its hash. A project's journal can be handed
// over as a folder (Export) and checked by anyone without SIRRAT (Verify).
//
// It decides nothing and reads no clock of its own. It may import internal/archive, internal/envelope, and
// internal/authorization and internal/pv for the forms of what is signed; no client of the control plane.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Kind says what an entry records. The list is closed: a reader refuses others.
type Kind string

// The kinds of entries.
const (
	// KindResult is a result that CI posted, as it was stored.
	KindResult Kind = "Result"
	// KindRelease is a release: its commit and version, and its bundle once frozen.
	KindRelease Kind = "Release"
	// KindVerdict is a change of a gate's verdict on a release, with the criteria it rests upon.
	KindVerdict Kind = "Verdict"
	// KindApproval is an approval, a rejection, the withdrawal of one, or broken glass.
	KindApproval Kind = "Approval"
	// KindPV is a PV opened, signed, refused or settled. Blob "signature": the signed decision, where there is one.
	KindPV Kind = "PV"
	// KindAuthorization is a permission to deploy. Blob "authorization": the signed statement.
	KindAuthorization Kind = "Authorization"
	// KindDeployment is what became of a deployment on a host.
	KindDeployment Kind = "Deployment"
	// KindDebt is a debt that was made or regularised.
	KindDebt Kind = "Debt"
	// KindGate is a change of a gate's own declaration.
	KindGate Kind = "Gate"
	// KindKey is a key that began or ceased to count.
	KindKey Kind = "Key"
)

// Kinds are all kinds.
var Kinds = []Kind{
	KindResult, KindRelease, KindVerdict, KindApproval, KindPV, KindAuthorization, KindDeployment, KindDebt, KindGate, KindKey,
}

// Names of blobs whose signatures Verify checks.
const (
	// BlobAuthorization is a DSSE envelope of payload type authorization.PayloadType.
	BlobAuthorization = "authorization"
	// BlobSignature is a DSSE envelope of payload type pv.PayloadType.
	BlobSignature = "signature"
)

// Bounds of an entry. The whole of it is at most archive.MaxLine.
const (
	maxText  = 512 // bytes of each text beside data
	maxBlobs = 64
)

// Entry is one line of a project's journal. Its text is canonical JSON (RFC 8785).
type Entry struct {
	// Seq counts from 1 without gaps.
	Seq int64 `json:"seq"`
	// Prev is the hash of the entry before, Genesis for the first.
	Prev string `json:"prev"`
	// Time at which it was recorded, UTC, to the millisecond. Clocks are set back now and then: Seq is the order.
	Time time.Time `json:"time"`
	// Project is the project's name, ProjectUID what identifies it.
	Project    string `json:"project"`
	ProjectUID string `json:"projectUID"`
	Kind       Kind   `json:"kind"`
	// Subject is what it is about, e.g. "verdict/<release uid>/<gate>".
	Subject string `json:"subject"`
	// Actor is who did it: a user, a signatory, or a part of SIRRAT.
	Actor string `json:"actor"`
	// Data is a JSON object.
	Data  json.RawMessage `json:"data"`
	Blobs []BlobRef       `json:"blobs"`

	// Hash is that of the entry's text. It is not part of it.
	Hash string `json:"-"`
}

// BlobRef names a document that belongs to an entry.
type BlobRef struct {
	Name      string `json:"name"`
	MediaType string `json:"mediaType"`
	Hash      string `json:"hash"`
}

// ErrMalformed means that a line is not an entry as this package writes it.
var ErrMalformed = errors.New("not a journal entry")

// Genesis is what the first entry of a project names as the one before, so that no journal's beginning fits another's.
func Genesis(projectUID string) string { return envelope.Hash([]byte("sirrat journal " + projectUID)) }

// canonical is the entry's text.
func (e Entry) canonical() ([]byte, error) {
	if e.Blobs == nil {
		e.Blobs = []BlobRef{}
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	text, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonicalise entry: %w", err)
	}
	return text, nil
}

// parseEntry reads one line. There is exactly one text for an entry: other spellings of it, unknown and repeated members
// are refused by encoding it again.
func parseEntry(line []byte) (Entry, error) {
	if len(line) > archive.MaxLine {
		return Entry{}, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, archive.MaxLine)
	}
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := e.validate(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	text, err := e.canonical()
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(text, line) {
		return Entry{}, fmt.Errorf("%w: not in canonical form (RFC 8785)", ErrMalformed)
	}
	e.Hash = envelope.Hash(line)
	return e, nil
}

func (e Entry) validate() error {
	if e.Seq < 1 {
		return fmt.Errorf("seq %d is below 1", e.Seq)
	}
	if _, err := archive.ObjectPath(e.Prev); err != nil {
		return fmt.Errorf("prev: %w", err)
	}
	if e.Time.Location() != time.UTC || e.Time.Nanosecond()%int(time.Millisecond) != 0 {
		return errors.New("time is not UTC to the millisecond")
	}
	if err := archive.CheckLog(e.ProjectUID); err != nil {
		return fmt.Errorf("projectUID: %w", err)
	}
	if err := e.Kind.validate(); err != nil {
		return err
	}
	for _, field := range []struct {
		name, value string
		required    bool
	}{{"project", e.Project, true}, {"subject", e.Subject, true}, {"actor", e.Actor, false}} {
		if err := checkText(field.name, field.value, field.required); err != nil {
			return err
		}
	}
	if data := bytes.TrimSpace(e.Data); len(data) == 0 || data[0] != '{' {
		return errors.New("data is not an object")
	}
	return checkBlobs(e.Blobs)
}

func (k Kind) validate() error {
	for _, known := range Kinds {
		if k == known {
			return nil
		}
	}
	return fmt.Errorf("unknown kind %.40q", string(k))
}

func checkText(name, value string, required bool) error {
	if required && value == "" || len(value) > maxText || !utf8.ValidString(value) {
		return fmt.Errorf("%s is empty, longer than %d bytes or not UTF-8", name, maxText)
	}
	return nil
}

func checkBlobs(blobs []BlobRef) error {
	if len(blobs) > maxBlobs {
		return fmt.Errorf("%d blobs, at most %d", len(blobs), maxBlobs)
	}
	seen := map[string]bool{}
	for _, b := range blobs {
		if err := checkText("a blob's name", b.Name, true); err != nil {
			return err
		}
		if err := checkText("a blob's media type", b.MediaType, false); err != nil {
			return err
		}
		if seen[b.Name] {
			return fmt.Errorf("two blobs %q", b.Name)
		}
		seen[b.Name] = true
		if _, err := archive.ObjectPath(b.Hash); err != nil {
			return fmt.Errorf("blob %q: %w", b.Name, err)
		}
	}
	return nil
}

// exact says that a number is no whole number of which canonical JSON, which has doubles only, would change a digit.
func exact(number json.Number) bool {
	text := number.String()
	if strings.ContainsAny(text, ".eE") {
		return true // it came from a double, or cannot hope to be more
	}
	f, err := number.Float64()
	return err == nil && strconv.FormatFloat(f, 'f', -1, 64) == text
}

// canonicalData is the canonical text of a fact's data. It refuses what the canonical form would change in meaning.
func canonicalData(data any) (json.RawMessage, error) {
	if data == nil {
		return json.RawMessage("{}"), nil
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode data: %w", err)
	}
	if len(raw) > archive.MaxLine {
		return nil, fmt.Errorf("encode data: %w: %d bytes; put it into a blob", archive.ErrTooLarge, len(raw))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			break // the end: it was just encoded
		}
		number, ok := token.(json.Number)
		if !ok {
			continue
		}
		if !exact(number) {
			return nil, fmt.Errorf("encode data: the number %s is too large to be kept exactly; make it a string", number)
		}
	}
	text, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonicalise data: %w", err)
	}
	if text[0] != '{' {
		return nil, errors.New("encode data: not an object")
	}
	return text, nil
}

// checkNext says whether e follows the entry of that sequence and hash.
func checkNext(e Entry, projectUID string, seq int64, hash string) error {
	switch {
	case e.ProjectUID != projectUID:
		return fmt.Errorf("seq %d: it belongs to the project with uid %s", e.Seq, e.ProjectUID)
	case e.Seq != seq+1:
		return fmt.Errorf("seq %d: where %d was expected", e.Seq, seq+1)
	case e.Prev != hash:
		return fmt.Errorf("seq %d: it follows an entry with the hash %s, but entry %d has %s", e.Seq, e.Prev, seq, hash)
	}
	return nil
}

// digest is a short keyed hash for the index of last values.
type digest [16]byte

func shortDigest(seed []byte, parts ...string) digest {
	h := sha256.New()
	h.Write(seed)
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return digest(h.Sum(nil)[:len(digest{})])
}
