// SPDX-License-Identifier: Apache-2.0

// Package update replaces the agent's program by another one that was signed: it fetches the binary and believes none of it
// before size and hash are right, puts it where the installed one is, in one step, with the old one kept beside it, and
// remembers what came of it.
//
// It decides nothing and runs nothing. It may import agent/disk and internal/agentupdate.
package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/internal/agentupdate"
)

// Previous is the ending of the name under which the replaced program is kept beside the installed one.
const Previous = ".previous"

// Names within the update folder.
const (
	recordFile   = "record.json"
	partSuffix   = ".part"
	binarySuffix = ".bin"
)

// temporary files beside an installed program.
const temporary = ".sirrat-agent-*"

// fetchTimeout of one try; the next one goes on where it ended.
const fetchTimeout = 30 * time.Minute

// Reasons why there is no binary.
var (
	// ErrWrongBytes says that what was served is not what was signed.
	ErrWrongBytes = errors.New("the binary that is served is not the one that was signed")
	// ErrNoRoom says that the disk has no room for it, which may pass.
	ErrNoRoom = errors.New("no room on the disk for the update")
)

// States of an update, in order.
const (
	Refused     = "Refused"     // not signed, not for this agent, or not allowed by the host's owner
	Downloading = "Downloading" // being fetched
	Waiting     = "Waiting"     // fetched; a rollout under way goes first
	Trying      = "Trying"      // runs as a trial
	Failed      = "Failed"      // did not report healthy: the old program goes on
	Done        = "Done"        // installed and running
)

// Record is what came of the last order.
type Record struct {
	// Order that it is about, as the control plane names it.
	Order   string `json:"order"`
	Version string `json:"version"`
	State   string `json:"state"`
	Message string `json:"message,omitempty"`
	// Trials that were begun.
	Trials int `json:"trials,omitempty"`
	// Installed is the program in the data folder that takes the place of an installed one which cannot be replaced.
	Installed Program `json:"installed,omitzero"`
}

// Program is one that was installed.
type Program struct {
	Path    string             `json:"path"`
	Version string             `json:"version"`
	Binary  agentupdate.Binary `json:"binary"`
}

// Intact says whether the program is still what was signed.
func (p Program) Intact() bool { return p.Path != "" && check(p.Path, p.Binary) == nil }

// PutBack makes the program intact again if it was replaced by another one that nobody came to record: a kill in between
// leaves the recorded one beside it.
func (p Program) PutBack() bool {
	kept := p.Path + Previous
	return check(kept, p.Binary) == nil && os.Rename(kept, p.Path) == nil && disk.SyncDir(filepath.Dir(p.Path)) == nil
}

// Load reads the record in the update folder; an empty one when there is none, or when it cannot be read: then the order is
// carried out anew.
func Load(dir string) Record {
	var r Record
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Record{}
	}
	return r
}

// Save writes the record. When it returns nil it survives a power cut.
func (r Record) Save(dir string) error {
	if err := disk.MkdirPrivate(dir); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode update record: %w", err)
	}
	return disk.WriteFile(filepath.Join(dir, recordFile), text)
}

// Fetch brings a binary into the update folder and returns its path. A fetch that was cut short goes on where it ended. The
// file can be run only once its size and hash are right.
func Fetch(ctx context.Context, client *http.Client, url, dir string, want agentupdate.Binary) (string, error) {
	path := filepath.Join(dir, want.SHA256+binarySuffix)
	if check(path, want) == nil {
		return path, nil
	}
	if err := disk.MkdirPrivate(dir); err != nil {
		return "", err
	}
	tidy(dir, want.SHA256)
	part := filepath.Join(dir, want.SHA256+partSuffix)
	if err := room(part, want.Size); err != nil {
		return "", err
	}
	err := fetchRest(ctx, client, url, part, want.Size)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // the state of what runs needs the room more
		return "", errors.Join(fmt.Errorf("%w: %w", ErrNoRoom, err), os.Remove(part))
	}
	if err != nil {
		return "", fmt.Errorf("fetch the update: %w", err)
	}
	if err := check(part, want); err != nil {
		return "", errors.Join(err, os.Remove(part))
	}
	if err := os.Chmod(part, 0o700); err != nil { //nolint:gosec // a program, of its owner alone
		return "", fmt.Errorf("fetch the update: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("fetch the update: %w", err)
	}
	return path, disk.SyncDir(dir)
}

// room says whether the disk takes what a file lacks. What cannot be found out is found out by writing.
func room(part string, size int64) error {
	info, err := os.Stat(part)
	if err == nil {
		size -= info.Size()
	}
	free, err := disk.Free(filepath.Dir(part))
	if err != nil || free.Bytes >= size {
		return nil
	}
	return fmt.Errorf("%w: %d bytes are needed, %d are free", ErrNoRoom, size, free.Bytes)
}

// tidy removes binaries of other updates.
func tidy(dir, keep string) {
	for _, pattern := range []string{"*" + partSuffix, "*" + binarySuffix} {
		names, err := fs.Glob(os.DirFS(dir), pattern)
		if err != nil {
			continue
		}
		for _, name := range names {
			if name != keep+partSuffix {
				_ = os.Remove(filepath.Join(dir, name)) // in the way of nothing but space
			}
		}
	}
}

// fetchRest appends to a file what it lacks, never more than size.
func fetchRest(ctx context.Context, client *http.Client, url, part string, size int64) (err error) {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil || have == size {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if have > 0 && have < size {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		have = 0
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	n, err := io.Copy(f, io.LimitReader(answer.Body, size-have+1))
	if err != nil {
		return err
	}
	switch got := have + n; {
	case got < size:
		return errors.Join(fmt.Errorf("%w: it ends after %d of %d bytes", ErrWrongBytes, got, size), f.Truncate(0))
	case got > size:
		return errors.Join(fmt.Errorf("%w: it has more than %d bytes", ErrWrongBytes, size), f.Truncate(0))
	}
	return f.Sync()
}

// check says whether a file is what was signed.
func check(path string, want agentupdate.Binary) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the update: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, want.Size+1))
	if err != nil {
		return fmt.Errorf("read the update: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != want.Size || got != want.SHA256 {
		return fmt.Errorf("%w: sha256 %s", ErrWrongBytes, got)
	}
	return nil
}

// RemoveLeftovers deletes what a kill in the middle of Writable or Replace left beside installed programs.
func RemoveLeftovers(installed ...string) {
	for _, path := range installed {
		dir := filepath.Dir(path)
		names, err := fs.Glob(os.DirFS(dir), temporary)
		if err != nil {
			continue
		}
		for _, name := range names {
			_ = os.Remove(filepath.Join(dir, name)) // in the way of nothing but space
		}
	}
}

// Writable says whether the installed program can be replaced.
func Writable(installed string) error {
	f, err := os.CreateTemp(filepath.Dir(installed), temporary)
	if err != nil {
		return fmt.Errorf("the installed program cannot be replaced: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Replace puts a program in the place of the installed one, in one step, and keeps the old one beside it. Whatever happens,
// there is a whole program under the installed one's name.
func Replace(installed, by string, want agentupdate.Binary) (err error) {
	dir := filepath.Dir(installed)
	next, err := os.CreateTemp(dir, temporary)
	if err != nil {
		return fmt.Errorf("install the update: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next.Name())
			err = fmt.Errorf("install the update: %w", err)
		}
	}()
	if err := errors.Join(copyTo(next, by), next.Chmod(0o755), next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := check(next.Name(), want); err != nil {
		return err
	}
	kept := installed + Previous
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(installed, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next.Name(), installed); err != nil {
		return err
	}
	return disk.SyncDir(dir)
}

func copyTo(to *os.File, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}
