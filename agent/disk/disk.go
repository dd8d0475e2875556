// SPDX-License-Identifier: Apache-2.0

// Package disk writes an agent's files so that a crash or power cut at any moment leaves either the old or the new content,
// readable by its owner alone.
//
// It imports the standard library only.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// MkdirPrivate creates a folder, and those above it, with mode 0700.
func MkdirPrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	return nil
}

// WriteFile replaces a file, mode 0600. When it returns nil the content is on the disk, and so is its name.
func WriteFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, ".new-*") // CreateTemp gives mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = temporary.Write(data); err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err = os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrLocked says that another process has the lock.
var ErrLocked = errors.New("another agent uses this folder")

// Lock takes the lock of a folder until the returned file is closed or the process ends.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// RemoveLeftovers deletes the temporary files of writes that a crash cut short.
func RemoveLeftovers(dir string) error {
	names, err := fs.Glob(os.DirFS(dir), ".new-*")
	if err != nil {
		return fmt.Errorf("clean %s: %w", dir, err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("clean %s: %w", dir, err)
		}
	}
	return nil
}

// Space is what is left on a file system.
type Space struct {
	// Bytes that this process may still write.
	Bytes int64
	// Files that may still be created; -1 where the file system does not count them.
	Files int64
}

// Free looks how much is left on the file system of a folder.
func Free(dir string) (Space, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return Space{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	space := Space{Bytes: int64(min(s.Bavail, 1<<62/max(1, uint64(s.Bsize)))) * s.Bsize, Files: -1}
	if s.Files > 0 {
		space.Files = int64(min(s.Ffree, 1<<62))
	}
	return space, nil
}
