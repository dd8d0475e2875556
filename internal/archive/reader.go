// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
)

// ErrReadOnly says that the archive was opened to be read.
var ErrReadOnly = errors.New("the archive was opened to be read only")

// Reader is a Directory of which another process may have the lock, to be read only: Put and Append fail with ErrReadOnly.
// A log is read as far as its lines are whole; what is being written meanwhile is not seen.
type Reader struct{ readable }

// readable is what a Reader has of a Directory.
type readable interface {
	Get(ctx context.Context, hash string) ([]byte, error)
	Has(ctx context.Context, hash string) (bool, error)
	Read(ctx context.Context, log string, from int64) iter.Seq2[Line, error]
	Logs(ctx context.Context) ([]string, error)
	// Close gives the folder up. Nothing may be called afterwards.
	Close() error
}

// OpenReader opens the folder of a Directory without changing anything in it.
func OpenReader(dir string) (*Reader, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	for _, name := range []string{"journal", "objects/sha256"} {
		info, err := root.Lstat(name)
		if err == nil && !info.IsDir() {
			err = fs.ErrNotExist
		}
		if err != nil {
			_ = root.Close()
			return nil, fmt.Errorf("open archive %s: it is none, there is no folder %s in it: %w", dir, name, err)
		}
	}
	return &Reader{&Directory{root: root, looking: true, logs: map[string]*dirLog{}}}, nil
}

// Put implements Store: it fails.
func (r *Reader) Put(context.Context, []byte) (string, error) { return "", ErrReadOnly }

// Append implements Store: it fails.
func (r *Reader) Append(context.Context, string, int64, [][]byte) error { return ErrReadOnly }
