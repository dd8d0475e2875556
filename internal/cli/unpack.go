// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"gitlab.com/dynors/sirrat/internal/archive"
)

// folder is one that appears under its name when it is complete.
type folder struct{ dir, temp string }

// newFolder begins a folder beside the one that it becomes, which must be empty or not exist.
func (s *session) newFolder(dir string) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return nil, s.fail("error.not-empty", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, &failure{text: err.Error(), code: exitError, cause: err}
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-")
	if err != nil {
		return nil, &failure{text: err.Error(), code: exitError, cause: err}
	}
	return &folder{dir, temp}, nil
}

// keep gives the folder its name.
func (f *folder) keep() error {
	// os.Rename replaces no folder; Remove takes away only an empty one.
	if err := os.Remove(f.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(f.temp, f.dir)
}

// discard removes what was not kept.
func (f *folder) discard() { _ = os.RemoveAll(f.temp) }

// downloadExport fetches and unpacks an export; it returns the project that was asked for.
func (s *session) downloadExport(ctx context.Context, o exportOptions, dir string) (string, error) {
	project, err := s.namedProject(ctx)
	if err != nil {
		return "", err
	}
	a, done, err := s.auditAPI(ctx, project, o.apiURL)
	if err != nil {
		return "", err
	}
	defer done()
	body, err := s.send(ctx, a, http.MethodGet, "/projects/"+url.PathEscape(project)+"/audit/export", nil)
	if err != nil {
		return "", err
	}
	defer body.Close()
	if err := unpackExport(body, dir, exportBounds); err != nil {
		return "", s.fail("error.unpack", err)
	}
	return project, nil
}

// bounds of an export that is unpacked.
type bounds struct {
	files int
	bytes int64
}

var exportBounds = bounds{files: 2 << 20, bytes: 64 << 30}

// maxListed bounds the small files of an export: keys, README and checkpoint, in bytes.
const maxListed = 1 << 20

// exportName is every path that an export can have, in one spelling only. It has room for no "..", no absolute path, and no
// two names that differ in case.
var exportName = regexp.MustCompile(`^(journal\.jsonl|checkpoint\.json|index\.csv|README\.md|(client-)?keys/[0-9a-f]{64}\.pem|objects/sha256/[0-9a-f]{2}/[0-9a-f]{64})$`)

// limitOf is the largest size of a file of that name; false if an export has no such file.
func (b bounds) limitOf(name string) (int64, bool) {
	switch {
	case !exportName.MatchString(name):
		return 0, false
	case strings.HasPrefix(name, "objects/"):
		dir, digest := path.Split(name)
		return archive.MaxObject, path.Base(dir) == digest[:2]
	case name == "journal.jsonl", name == "index.csv":
		return b.bytes, true
	}
	return maxListed, true
}

// unpackExport writes an export's files below dir, which is empty and the caller's to remove on an error. Whatever is not a
// plain file of an export, once, within the bounds, ends it: nobody made that by accident.
func unpackExport(r io.Reader, dir string, b bounds) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	files, seen := tar.NewReader(r), map[string]bool{}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return ended(seen)
		}
		if err != nil {
			return err
		}
		limit, known := b.limitOf(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg || !known:
			return fmt.Errorf("%.200q is no file of an export", h.Name)
		case seen[h.Name]:
			return fmt.Errorf("%s is in it twice", h.Name)
		case h.Size > min(limit, b.bytes):
			return fmt.Errorf("%s is larger than %d bytes", h.Name, min(limit, b.bytes))
		case len(seen) == b.files:
			return fmt.Errorf("it has more than %d files", b.files)
		}
		seen[h.Name] = true
		b.bytes -= h.Size
		if err := unpackFile(root, h.Name, files); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func ended(seen map[string]bool) error {
	for _, name := range []string{"journal.jsonl", "checkpoint.json"} {
		if !seen[name] {
			return fmt.Errorf("it ends without %s", name)
		}
	}
	return nil
}

func unpackFile(root *os.Root, name string, from io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
