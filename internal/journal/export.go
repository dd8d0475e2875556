// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gowebpki/jcs"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// CheckpointType is the payload type of an export's checkpoint.
const CheckpointType = "application/vnd.sirrat.journal.checkpoint+json"

// The files of an export.
const (
	fileJournal    = "journal.jsonl"
	fileCheckpoint = "checkpoint.json"
	fileIndex      = "index.csv"
	fileReadme     = "README.md"
	dirKeys        = "keys"
	dirClientKeys  = "client-keys"
	dirObjects     = "objects"
)

// checkpoint is what the installation signs for: where the chain ends, so that nothing can be taken off its end, and every
// file that the chain does not name.
type checkpoint struct {
	Project    string            `json:"project"`
	ProjectUID string            `json:"projectUID"`
	Seq        int64             `json:"seq"`
	Hash       string            `json:"hash"`
	Time       time.Time         `json:"time"`
	Count      int64             `json:"count"`
	Files      map[string]string `json:"files"` // path → hash
}

// Export writes a project's journal, with all documents, to the new or empty folder dir, such that Verify needs nothing
// else. keys are all public keys by which the installation ever signed, by key id (PEM); the one that signs the export is
// added. clientKeys are those of the project's client. The folder appears under its name when it is complete, or not at
// all. Everything that is exported was verified before.
func (j *Journal) Export(ctx context.Context, projectUID, dir string, keys map[string]string, clientKeys []string) error {
	if _, _, err := j.Head(ctx, projectUID); err != nil { // against its anchor too
		return fmt.Errorf("export: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := checkEmpty(dir); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	x := exporter{j: j, uid: projectUID, dir: temp, files: map[string]string{}, objects: map[string]bool{}}
	err = x.write(ctx, keys, clientKeys)
	if err == nil {
		// os.Rename replaces no folder; Remove takes away only an empty one.
		if err = os.Remove(dir); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("export: %w", err), os.RemoveAll(temp))
	}
	return nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("folder %s is not empty", dir)
	}
	return err
}

type exporter struct {
	j       *Journal
	uid     string
	dir     string
	files   map[string]string // for the checkpoint
	objects map[string]bool   // written
}

func (x *exporter) write(ctx context.Context, keys map[string]string, clientKeys []string) error {
	last, err := x.writeEntries(ctx)
	if err != nil {
		return err
	}
	key := x.j.signer
	if changing, ok := key.(*envelope.Changing); ok { // the one that is named is the one that signs
		key = changing.Present()
	}
	signer, err := publicKey(key)
	if err != nil {
		return err
	}
	if err := x.writeKeys(signer, keys, clientKeys); err != nil {
		return err
	}
	if err := x.writeFile(fileReadme, []byte(readme(last, signer.ID))); err != nil {
		return err
	}
	raw, err := json.Marshal(checkpoint{
		Project: last.Project, ProjectUID: x.uid, Seq: last.Seq, Hash: last.Hash, Count: last.Seq, Files: x.files,
		Time: x.j.now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	payload, err := jcs.Transform(raw)
	if err != nil {
		return fmt.Errorf("canonicalise checkpoint: %w", err)
	}
	signed, err := envelope.Sign(ctx, CheckpointType, payload, key)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	return x.writeFile(fileCheckpoint, []byte(signed))
}

// writeEntries writes journal, objects and index and returns the last entry.
func (x *exporter) writeEntries(ctx context.Context) (last Entry, err error) {
	journal, err := x.create(fileJournal)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	lines := bufio.NewWriter(journal)
	var index strings.Builder
	index.WriteString("\ufeff") // or a spreadsheet takes it for something else than UTF-8
	table := csv.NewWriter(&index)
	if err := table.Write([]string{"seq", "time", "kind", "subject", "actor", "data", "documents", "hash"}); err != nil {
		return last, err
	}
	for e, err := range x.j.Entries(ctx, x.uid, 1) {
		if err != nil {
			return last, err
		}
		text, err := e.canonical()
		if err != nil {
			return last, err
		}
		if _, err := lines.Write(append(text, '\n')); err != nil {
			return last, err
		}
		if err := table.Write(indexRow(e)); err != nil {
			return last, err
		}
		if err := x.writeObjects(ctx, e); err != nil {
			return last, fmt.Errorf("seq %d: %w", e.Seq, err)
		}
		last = e
	}
	if last.Seq == 0 {
		return last, fmt.Errorf("project %s: %w", x.uid, ErrEmpty)
	}
	table.Flush()
	if err := errors.Join(table.Error(), lines.Flush()); err != nil {
		return last, err
	}
	return last, x.writeFile(fileIndex, []byte(index.String()))
}

func (x *exporter) writeObjects(ctx context.Context, e Entry) error {
	for _, b := range e.Blobs {
		if x.objects[b.Hash] {
			continue
		}
		data, err := x.j.store.Get(ctx, b.Hash)
		if err != nil {
			return err
		}
		name, err := archive.ObjectPath(b.Hash)
		if err != nil {
			return err
		}
		if err := x.writeFile(name, data); err != nil {
			return err
		}
		x.objects[b.Hash] = true
	}
	return nil
}

// writeKeys names each key's file by its id, so that no name comes from outside.
func (x *exporter) writeKeys(signer envelope.PublicKey, keys map[string]string, clientKeys []string) error {
	text, err := envelope.EncodePublicKey(signer.Key)
	if err != nil {
		return err
	}
	if err := x.writeFile(keyFile(dirKeys, signer.ID), text); err != nil {
		return err
	}
	for id, text := range keys {
		key, err := envelope.ParsePublicKey(text)
		if err != nil {
			return fmt.Errorf("key %.80q: %w", id, err)
		}
		if key.ID != id {
			return fmt.Errorf("key %.80q has the id %s", id, key.ID)
		}
		if err := x.writeFile(keyFile(dirKeys, id), []byte(text)); err != nil {
			return err
		}
	}
	for i, text := range clientKeys {
		key, err := envelope.ParsePublicKey(text)
		if err != nil {
			return fmt.Errorf("client key %d: %w", i+1, err)
		}
		if err := x.writeFile(keyFile(dirClientKeys, key.ID), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func keyFile(dir, id string) string { return path.Join(dir, strings.TrimPrefix(id, "sha256:")+".pem") }

func (x *exporter) create(name string) (*os.File, error) {
	full := filepath.Join(x.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(full, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

func (x *exporter) writeFile(name string, data []byte) error {
	f, err := x.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if !strings.HasPrefix(name, dirObjects+"/") {
		x.files[name] = envelope.Hash(data)
	}
	return errors.Join(err, f.Close())
}

// maxCell bounds a cell, in characters; spreadsheets take 32,767 at most. The journal has the whole text.
const maxCell = 2000

func indexRow(e Entry) []string {
	var documents []string
	for _, b := range e.Blobs {
		documents = append(documents, b.Name+" "+b.Hash)
	}
	return []string{
		strconv.FormatInt(e.Seq, 10), e.Time.Format(time.RFC3339Nano), cell(string(e.Kind)), cell(e.Subject), cell(e.Actor),
		cell(string(e.Data)), cell(strings.Join(documents, "; ")), e.Hash,
	}
}

// cell makes a text that anybody may have written harmless in a spreadsheet: no formula, no control characters, none of the
// marks that change the direction of writing or are invisible.
func cell(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) {
			return -1
		}
		return r
	}, text)
	if r := []rune(clean); len(r) > maxCell {
		clean = string(r[:maxCell]) + "…"
	}
	if first := strings.TrimLeft(clean, " \u00a0\u3000"); startsFormula(first) || startsFormula(text) {
		return "'" + clean
	}
	return clean
}

// startsFormula: the wide forms are formulas to spreadsheets set to an East Asian language.
func startsFormula(text string) bool {
	return strings.IndexAny(text, "=+-@\t\r\n＝＋－＠") == 0
}
