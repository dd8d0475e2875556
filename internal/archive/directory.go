// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Directory is a Store in a folder, for one process at a time:
//
//	objects/sha256/ab/abcdef…                  an object
//	journal/<log>/<first seq, 16 digits>.jsonl a segment of a log
//	tmp/                                       what is being written; emptied when the folder is opened
//	lock                                       held while the folder is open
//
// Folders have mode 0700, files 0600. Every path is opened below the folder by os.Root, so a link put into it leads
// nowhere.
type Directory struct {
	root   *os.Root
	lock   *os.File
	torn   func(Torn)
	rotate int64
	// looking: another process may be writing; nothing is changed, and no end of a log stays known.
	looking bool

	mu   sync.Mutex
	logs map[string]*dirLog
}

// Torn is what a crash left of an append that was never acknowledged, as found when the log was first used.
type Torn struct {
	Log     string
	Segment string
	// Seq is the sequence that the torn line would have had; the next line gets it.
	Seq   int64
	Bytes int
	// Kept is the file, below the folder, to which the bytes were moved.
	Kept string
}

func (t Torn) String() string {
	return fmt.Sprintf("log %s: %d bytes of an unfinished line %d were cut off %s and kept in %s", t.Log, t.Bytes, t.Seq, t.Segment, t.Kept)
}

// segmentSize is the size, in bytes, beyond which a log continues in a new segment.
const segmentSize = 8 << 20

// OpenDirectory opens the store in folder dir, which it makes if needed. torn is called for each torn end of a log that is
// cut off, from the call that first uses the log; it must not be nil. The folder is locked until Close.
func OpenDirectory(dir string, torn func(Torn)) (*Directory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	d := &Directory{root: root, torn: torn, rotate: segmentSize, logs: map[string]*dirLog{}}
	if err := d.prepare(); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("open archive %s: %w", dir, err)
	}
	return d, nil
}

// prepare locks the folder, makes the folders in it and throws away what was being written when the process died.
func (d *Directory) prepare() error {
	lock, err := d.root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	d.lock = lock
	if err := lockFile(lock); err != nil {
		return fmt.Errorf("another process has it open: %w", err)
	}
	if err := d.root.RemoveAll("tmp"); err != nil {
		return err
	}
	// All folders of objects are made once and for all: a folder made by a Put would have to be synced by every other Put
	// that finds it.
	for _, dir := range []string{"tmp", "journal", "objects/sha256"} {
		if err := d.root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for i := range 256 {
		if err := d.root.Mkdir(fmt.Sprintf("objects/sha256/%02x", i), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, dir := range []string{"objects/sha256", "objects", "."} {
		if err := d.sync(dir); err != nil {
			return err
		}
	}
	return nil
}

// Close unlocks the folder. Nothing may be called afterwards.
func (d *Directory) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Close()
	}
	return errors.Join(err, d.root.Close())
}

// Put implements Store.
func (d *Directory) Put(ctx context.Context, data []byte) (string, error) {
	if len(data) > MaxObject {
		return "", fmt.Errorf("store object: %w: %d bytes", ErrTooLarge, len(data))
	}
	hash := envelope.Hash(data)
	name, err := ObjectPath(hash)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("store object %s: %w", hash, err)
	}
	// What lies there already is compared, not believed: a damaged object heals when it is stored again.
	if old, err := d.readFile(name, MaxObject); err != nil || !bytes.Equal(old, data) {
		if err := d.replace(name, data); err != nil {
			return "", fmt.Errorf("store object %s: %w", hash, err)
		}
	}
	// Synced even if the object was there: whoever put it may not have come that far yet.
	if err := d.sync(path.Dir(name)); err != nil {
		return "", fmt.Errorf("store object %s: %w", hash, err)
	}
	return hash, nil
}

// Get implements Store.
func (d *Directory) Get(_ context.Context, hash string) ([]byte, error) {
	name, err := ObjectPath(hash)
	if err != nil {
		return nil, err
	}
	data, err := d.readFile(name, MaxObject)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read object %s: %w", hash, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", hash, err)
	}
	return data, checkObject(hash, data)
}

// Has implements Store.
func (d *Directory) Has(_ context.Context, hash string) (bool, error) {
	name, err := ObjectPath(hash)
	if err != nil {
		return false, err
	}
	_, err = d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Logs implements Store.
func (d *Directory) Logs(context.Context) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), "journal")
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckLog(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// replace writes a file whole or not at all. Its folder is not synced.
func (d *Directory) replace(name string, data []byte) error {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	temp := "tmp/" + hex.EncodeToString(random)
	f, err := d.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		_ = d.root.Remove(temp)
	}
	return err
}

// readFile reads a plain file of at most limit bytes.
func (d *Directory) readFile(name string, limit int64) ([]byte, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%w: %s is not a plain file of at most %d bytes", ErrCorrupt, name, limit)
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// sync makes the names in a folder durable.
func (d *Directory) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	err = syncFolder(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
