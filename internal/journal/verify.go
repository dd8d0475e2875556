// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// Trust are the keys that a verifier got some other way. Where a list is empty, the export's own keys are believed, which
// proves that the export is whole, not who made it (Report.OwnKeys).
type Trust struct {
	// Keys of the installation: for the checkpoint, authorizations and PVs signed on its pages.
	Keys []envelope.PublicKey
	// ClientKeys are for PVs.
	ClientKeys []envelope.PublicKey
}

// Report is what Verify found.
type Report struct {
	Project, ProjectUID string
	// Entries read, and how many of each kind.
	Entries int64
	Kinds   map[Kind]int64
	// First and Last are the times of the first and last entry.
	First, Last time.Time
	// Head is the hash of the last entry; Exported when the checkpoint was signed, zero if its signature is not good.
	Head     string
	Exported time.Time
	// Documents and Signatures that were verified; the checkpoint's is one of the latter.
	Documents, Signatures int64
	// KeyIDs of the keys that made them, sorted.
	KeyIDs []string
	// OwnKeys: keys of the installation were taken from the export itself.
	OwnKeys bool
	// Problems in the order in which they were found; at most maxProblems and one that says so.
	Problems []Problem
}

// OK says that nothing is wrong.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Problem is one thing that is wrong.
type Problem struct {
	// File is the path in the export.
	File string
	// Seq is the entry, 0 if it is none.
	Seq     int64
	Message string
}

func (p Problem) String() string {
	if p.Seq > 0 {
		return fmt.Sprintf("%s: seq %d: %s", p.File, p.Seq, p.Message)
	}
	return p.File + ": " + p.Message
}

// maxProblems bounds a report on a folder that is not an export at all.
const maxProblems = 1000

// Verify checks an export with nothing but the folder. The error is for a folder that cannot be read; all that is wrong in
// it is in the report.
func Verify(dir string, trusted Trust) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	defer func() { _ = root.Close() }() // opened to be read
	v := verifier{
		root: root, files: map[string]int64{}, objects: map[string]int64{}, keyIDs: map[string]bool{},
		report: Report{Kinds: map[Kind]int64{}, OwnKeys: len(trusted.Keys) == 0},
	}
	if err := v.list(); err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", dir, err)
	}
	v.keys, v.clientKeys = v.readKeys(dirKeys), v.readKeys(dirClientKeys)
	if len(trusted.Keys) > 0 {
		v.keys = trusted.Keys
	}
	if len(trusted.ClientKeys) > 0 {
		v.clientKeys = trusted.ClientKeys
	}
	v.checkCheckpoint()
	v.checkJournal()
	v.checkEnd()
	v.checkObjects()
	v.checkFiles()
	v.report.KeyIDs = slices.Sorted(maps.Keys(v.keyIDs))
	return v.report, nil
}

type verifier struct {
	root             *os.Root
	files            map[string]int64 // every plain file and its size
	keys, clientKeys []envelope.PublicKey
	checkpoint       *checkpoint      // nil if it cannot be read; believed only as far as its signature is good
	objects          map[string]int64 // named by entries: path → the first entry
	keyIDs           map[string]bool
	report           Report
}

func (v *verifier) problem(file string, seq int64, format string, args ...any) {
	switch n := len(v.report.Problems); {
	case n < maxProblems:
		v.report.Problems = append(v.report.Problems, Problem{File: file, Seq: seq, Message: fmt.Sprintf(format, args...)})
	case n == maxProblems:
		v.report.Problems = append(v.report.Problems, Problem{File: ".", Message: "there are more problems than are listed"})
	}
}

// list finds every file. Links and devices are never opened.
func (v *verifier) list() error {
	return fs.WalkDir(v.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			if !knownFolder(name) {
				v.problem(name, 0, "this folder is not part of an export")
				return fs.SkipDir
			}
		case !e.Type().IsRegular():
			v.problem(name, 0, "not a plain file")
		default:
			info, err := e.Info()
			if err != nil {
				return err
			}
			v.files[name] = info.Size()
		}
		return nil
	})
}

func knownFolder(name string) bool {
	switch name {
	case ".", dirKeys, dirClientKeys, dirObjects, dirObjects + "/sha256":
		return true
	}
	prefix, err := hex.DecodeString(path.Base(name))
	return path.Dir(name) == dirObjects+"/sha256" && err == nil && len(prefix) == 1
}

// read reads a file of the list.
func (v *verifier) read(name string, limit int64) ([]byte, error) {
	size, found := v.files[name]
	if !found {
		return nil, errors.New("the file is missing")
	}
	if size > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return v.root.ReadFile(name)
}

// maxKeyFile bounds a public key's file, in bytes.
const maxKeyFile = 4096

func (v *verifier) readKeys(dir string) []envelope.PublicKey {
	var keys []envelope.PublicKey
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if path.Dir(name) != dir {
			continue
		}
		text, err := v.read(name, maxKeyFile)
		if err != nil {
			v.problem(name, 0, "%v", err)
			continue
		}
		key, err := envelope.ParsePublicKey(string(text))
		if err != nil {
			v.problem(name, 0, "%v", err)
			continue
		}
		if keyFile(dir, key.ID) != name {
			v.problem(name, 0, "the key in it has the id %s", key.ID)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// checkCheckpoint verifies the checkpoint's signature. What it says is compared even if the signature is bad: the more is
// named, the better.
func (v *verifier) checkCheckpoint() {
	text, err := v.read(fileCheckpoint, envelope.MaxSize)
	if err != nil {
		v.problem(fileCheckpoint, 0, "%v", err)
		return
	}
	payload, err := exactPayload(text)
	if err != nil {
		v.problem(fileCheckpoint, 0, "%v", err)
		return
	}
	var c checkpoint
	canonical, err := jcs.Transform(payload)
	if err == nil && !bytes.Equal(canonical, payload) {
		err = errors.New("not in canonical form (RFC 8785)")
	}
	if err == nil {
		err = envelope.DecodeStrict(payload, &c)
	}
	if err != nil {
		v.problem(fileCheckpoint, 0, "the payload cannot be read: %v", err)
		return
	}
	v.checkpoint = &c
	v.report.Project, v.report.ProjectUID = c.Project, c.ProjectUID
	if _, ok := v.signed(fileCheckpoint, 0, text, CheckpointType, v.keys); ok {
		v.report.Exported = c.Time
	}
}

// exactPayload reads an envelope that has exactly the text that Sign gives it: a signature does not cover the spelling of
// what is around the payload.
func exactPayload(text []byte) ([]byte, error) {
	var env dsse.Envelope
	if err := envelope.DecodeStrict(text, &env); err != nil {
		return nil, fmt.Errorf("not an envelope: %w", err)
	}
	payload, err := base64.StdEncoding.DecodeString(env.Payload)
	if err != nil {
		return nil, fmt.Errorf("not an envelope: payload: %w", err)
	}
	env.Payload = base64.StdEncoding.EncodeToString(payload)
	for i, s := range env.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("not an envelope: signature: %w", err)
		}
		env.Signatures[i].Sig = base64.StdEncoding.EncodeToString(sig)
	}
	again, err := json.Marshal(env)
	if err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("the envelope was rewritten")
	}
	return payload, nil
}

// signed verifies one signature and counts it.
func (v *verifier) signed(file string, seq int64, text []byte, payloadType string, keys []envelope.PublicKey) ([]byte, bool) {
	payload, key, err := envelope.Verify(context.Background(), string(text), payloadType, keys)
	if err != nil {
		v.problem(file, seq, "bad signature: %v", err)
		return nil, false
	}
	v.report.Signatures++
	v.keyIDs[key.ID] = true
	return payload, true
}

// checkJournal reads the chain. After a break it goes on from what it found, so that each break is named once.
func (v *verifier) checkJournal() {
	if _, found := v.files[fileJournal]; !found {
		v.problem(fileJournal, 0, "the file is missing")
		return
	}
	f, err := v.root.Open(fileJournal)
	if err != nil {
		v.problem(fileJournal, 0, "%v", err)
		return
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, archive.MaxLine+1)
	next, hash := int64(1), ""
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return
		}
		if err != nil {
			v.problem(fileJournal, next, "the line has no end or is too long (%v)", err)
			return
		}
		line = line[:len(line)-1]
		e, err := parseEntry(line)
		if err != nil {
			v.problem(fileJournal, next, "%v", err)
			next, hash = next+1, envelope.Hash(line)
			continue
		}
		v.checkPlace(e, next, hash)
		v.checkEntry(e)
		next, hash = e.Seq+1, e.Hash
	}
}

// checkPlace checks an entry's place in the chain; hash is that of the line before, "" at the beginning.
func (v *verifier) checkPlace(e Entry, next int64, hash string) {
	if v.report.ProjectUID == "" {
		v.report.Project, v.report.ProjectUID = e.Project, e.ProjectUID
	}
	if e.ProjectUID != v.report.ProjectUID {
		v.problem(fileJournal, e.Seq, "it belongs to the project with uid %s, not %s", e.ProjectUID, v.report.ProjectUID)
	}
	switch {
	case e.Seq == next+1:
		v.problem(fileJournal, next, "the entry is missing or elsewhere")
	case e.Seq > next:
		v.problem(fileJournal, next, "the entries up to %d are missing or elsewhere", e.Seq-1)
	case e.Seq < next:
		v.problem(fileJournal, e.Seq, "the entry stands after entry %d: it is there twice or out of order", next-1)
	}
	if hash == "" {
		hash = Genesis(v.report.ProjectUID)
	}
	if e.Prev != hash {
		v.problem(fileJournal, e.Seq, "the chain is broken: the line before has the hash %s, the entry names %s; "+
			"one of the two was altered, or a line was removed, added or moved", hash, e.Prev)
	}
}

// checkEntry counts an entry, notes its documents and verifies what is signed.
func (v *verifier) checkEntry(e Entry) {
	r := &v.report
	r.Entries++
	r.Kinds[e.Kind]++
	if r.Entries == 1 {
		r.First = e.Time
	}
	r.Last, r.Head = e.Time, e.Hash
	for _, b := range e.Blobs {
		name, err := archive.ObjectPath(b.Hash)
		if err != nil {
			continue // parseEntry looked
		}
		if _, known := v.objects[name]; !known {
			v.objects[name] = e.Seq
		}
		switch {
		case e.Kind == KindAuthorization && b.Name == BlobAuthorization:
			v.checkAuthorization(e, name)
		case e.Kind == KindPV && b.Name == BlobSignature:
			v.checkDecision(e, name)
		}
	}
}

func (v *verifier) checkAuthorization(e Entry, name string) {
	text, err := v.read(name, envelope.MaxSize)
	if err != nil {
		v.problem(name, e.Seq, "authorization: %v", err)
		return
	}
	payload, ok := v.signed(name, e.Seq, text, authorization.PayloadType, v.keys)
	if !ok {
		return
	}
	var st authorization.Statement
	if err := json.Unmarshal(payload, &st); err != nil || st.Predicate.ProjectUID != e.ProjectUID {
		v.problem(name, e.Seq, "the authorization is not one for this project")
	}
}

func (v *verifier) checkDecision(e Entry, name string) {
	text, err := v.read(name, envelope.MaxSize)
	if err != nil {
		v.problem(name, e.Seq, "signature of the PV: %v", err)
		return
	}
	payload, ok := v.signed(name, e.Seq, text, pv.PayloadType, slices.Concat(v.clientKeys, v.keys))
	if !ok {
		return
	}
	var d pv.Decision
	if err := json.Unmarshal(payload, &d); err != nil || d.Namespace != e.Project {
		v.problem(name, e.Seq, "the signature is not for a PV of this project")
	}
}

// checkEnd compares the end of the chain with the checkpoint.
func (v *verifier) checkEnd() {
	c := v.checkpoint
	if c == nil {
		return
	}
	r := v.report
	switch {
	case r.Entries < c.Count:
		v.problem(fileJournal, r.Entries+1, "the checkpoint was signed for %d entries, %d can be read", c.Count, r.Entries)
	case r.Entries > c.Count:
		v.problem(fileJournal, c.Count+1, "the checkpoint was signed for %d entries, there are %d", c.Count, r.Entries)
	}
	if r.Head != c.Hash || c.Seq != c.Count {
		v.problem(fileJournal, r.Entries, "the last entry has the hash %s, the checkpoint was signed for %s at seq %d", r.Head, c.Hash, c.Seq)
	}
}

// checkObjects compares the documents with what the entries name.
func (v *verifier) checkObjects() {
	for _, name := range slices.Sorted(maps.Keys(v.objects)) {
		seq := v.objects[name]
		size, found := v.files[name]
		if !found || size > archive.MaxObject {
			v.problem(name, seq, "the document is missing or too large")
			continue
		}
		digest, err := v.digest(name)
		if err != nil {
			v.problem(name, seq, "%v", err)
		} else if digest != path.Base(name) {
			v.problem(name, seq, "the document was altered: it has the hash %s", digest)
		} else {
			v.report.Documents++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if _, named := v.objects[name]; !named && strings.HasPrefix(name, dirObjects+"/") {
			v.problem(name, 0, "no entry names this document")
		}
	}
}

// checkFiles compares everything else with what the checkpoint names.
func (v *verifier) checkFiles() {
	var listed map[string]string
	if v.checkpoint != nil {
		listed = v.checkpoint.Files
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if _, found := v.files[name]; !found {
			v.problem(name, 0, "the file is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if name == fileJournal || name == fileCheckpoint || strings.HasPrefix(name, dirObjects+"/") {
			continue
		}
		hash, found := listed[name]
		if !found {
			v.problem(name, 0, "the checkpoint does not name this file")
			continue
		}
		digest, err := v.digest(name)
		if err != nil {
			v.problem(name, 0, "%v", err)
		} else if "sha256:"+digest != hash {
			v.problem(name, 0, "the file was altered: it has the hash sha256:%s", digest)
		}
	}
}

// digest is the hex SHA-256 of a file of the list.
func (v *verifier) digest(name string) (string, error) {
	f, err := v.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
