// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Permissions of everything in the data directory.
const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// dataDir is the layout of a data directory; see the package comment.
type dataDir string

func (d dataDir) lockFile() string        { return filepath.Join(string(d), "lock") }
func (d dataDir) adminKubeconfig() string { return filepath.Join(string(d), "admin.kubeconfig") }
func (d dataDir) authentication() string  { return filepath.Join(string(d), "authentication.yaml") }
func (d dataDir) etcd() string            { return filepath.Join(string(d), "etcd") }
func (d dataDir) run() string             { return filepath.Join(string(d), "run") }
func (d dataDir) pki() string             { return filepath.Join(string(d), "pki") }
func (d dataDir) key(name string) string  { return filepath.Join(d.pki(), name) }

// prepare creates what is missing and takes away from group and others what
// they may read. It refuses a directory that belongs to somebody else, and one
// that is open to others but holds other things than a control plane: changing
// the permissions of, say, /var/lib would break the machine.
func (d dataDir) prepare() error {
	info, err := os.Stat(string(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("look at the data directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("data directory %s is not a directory", d)
	case info.Mode().Perm()&^dirMode != 0:
		if err := d.mayRestrict(); err != nil {
			return err
		}
	}
	for _, dir := range []string{string(d), d.pki(), d.etcd(), d.run()} {
		if err := ensureDir(dir); err != nil {
			return err
		}
	}
	return d.restrictFiles()
}

// mayRestrict says whether d is ours to chmod: it is empty or holds a pki folder.
func (d dataDir) mayRestrict() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("list the data directory: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	if _, err := os.Stat(d.pki()); err == nil {
		return nil
	}
	return fmt.Errorf("data directory %s is open to other users and holds other files: "+
		"choose an empty one, or run chmod 700 on it if it is meant for this", d)
}

func ensureDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := ownedByUs(dir, info); err != nil {
		return err
	}
	if info.Mode().Perm() != dirMode {
		if err := os.Chmod(dir, dirMode); err != nil {
			return fmt.Errorf("make %s private: %w", dir, err)
		}
	}
	return nil
}

// restrictFiles gives the keys and kubeconfigs that are already there the mode
// they were written with, in case a backup tool or a person opened them up.
func (d dataDir) restrictFiles() error {
	files, err := filepath.Glob(filepath.Join(d.pki(), "*"))
	if err != nil {
		return err
	}
	for _, file := range append(files, d.adminKubeconfig()) {
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", file)
		}
		if err := ownedByUs(file, info); err != nil {
			return err
		}
		if info.Mode().Perm() != fileMode {
			if err := os.Chmod(file, fileMode); err != nil {
				return fmt.Errorf("make %s private: %w", file, err)
			}
		}
	}
	return nil
}

func ownedByUs(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user id %d while this process runs as %d: "+
			"run as that user, or chown the data directory", path, stat.Uid, os.Geteuid())
	}
	return nil
}

// lock takes the directory for this process until the file is closed or the
// process ends, however it ends.
func (d dataDir) lock() (*os.File, error) {
	f, err := os.OpenFile(d.lockFile(), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		owner, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("data directory %s is in use by another process (pid %s): "+
			"stop that one, or choose another directory with --data-dir", d, strings.TrimSpace(string(owner)))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write the lock of the data directory: %w", err)
	}
	return f, nil
}

// writeFile replaces the file at path with data, in full or not at all, and is
// durable when it returns. The mode is 0600.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
