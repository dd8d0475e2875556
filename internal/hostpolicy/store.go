// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ErrUnusable is wrapped by errors that say that there is a policy, but that it cannot be followed.
var ErrUnusable = errors.New("the host policy cannot be used, nothing new is deployed until it is mended")

// Read reads the policy in a file; Default, and false, when there is none. It refuses a file that others than root and the
// user who runs this could write, by itself or by one of its folders, as SSH does with its own. Errors wrap ErrUnusable.
func Read(file string) (p Policy, found bool, err error) {
	text, err := readTrusted(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Default(), false, nil
	case err == nil:
		p, err = Parse(text)
	}
	if err != nil {
		return Policy{}, true, fmt.Errorf("%w: %s: %w", ErrUnusable, file, err)
	}
	return p, true, nil
}

func readTrusted(file string) ([]byte, error) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		if _, linkErr := os.Lstat(file); linkErr == nil { // a symlink to nothing is no absence
			return nil, fmt.Errorf("it leads nowhere: %w", errors.New(err.Error()))
		}
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	f, err := os.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if err := checkOwner(real, info); err != nil {
		return nil, err
	}
	for folder := filepath.Dir(real); ; folder = filepath.Dir(folder) {
		info, err := os.Lstat(folder)
		if err != nil {
			return nil, err
		}
		if err := checkOwner(folder, info); err != nil {
			return nil, err
		}
		if folder == filepath.Dir(folder) {
			break
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	return text, nil
}

// writableByOthers are the permissions that let others than the owner write.
const writableByOthers fs.FileMode = 0o022

// checkOwner refuses what others could write. A folder like /tmp, where nobody may replace what is another's, will do.
func checkOwner(name string, info fs.FileInfo) error {
	if owner, ok := ownerOf(info); ok && owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: chown root %s", name, owner, name)
	}
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.Mode().Perm()&writableByOthers != 0 && !sticky {
		return fmt.Errorf("%s can be written by others: chmod go-w %s", name, name)
	}
	return nil
}

// Store is the policy of a file, read again when the file changed. It may be used by several goroutines.
type Store struct {
	file string

	mu     sync.Mutex
	last   stamp
	read   bool
	policy Policy
	found  bool
	err    error
	count  int
}

// stamp tells one version of a file from another.
type stamp struct {
	there         bool
	modified      time.Time
	size          int64
	inode, change uint64
}

// NewStore is the policy in a file, which need not be there.
func NewStore(file string) *Store { return &Store{file: file} }

// File is where the policy is.
func (s *Store) File() string { return s.file }

// Current is the policy as the file says now. Errors wrap ErrUnusable.
func (s *Store) Current() (Policy, error) {
	p, _, err := s.Look()
	return p, err
}

// Look is Current, with a number that grows with every version of the file.
func (s *Store) Look() (p Policy, version int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := stampOf(s.file)
	if s.read && s.err == nil && now == s.last { // whatever was wrong may be mended elsewhere: look again
		return s.policy, s.count, nil
	}
	policy, found, err := Read(s.file)
	if !s.read || now != s.last || text(err) != text(s.err) {
		s.count++
	}
	s.last, s.read, s.policy, s.found, s.err = now, true, policy, found, err
	return s.policy, s.count, s.err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		_, err := os.Lstat(file)
		return stamp{there: err == nil}
	}
	inode, change := identityOf(info)
	return stamp{there: true, modified: info.ModTime(), size: info.Size(), inode: inode, change: change}
}
