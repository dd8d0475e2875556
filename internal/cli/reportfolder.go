// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/reports"
)

// Bounds of what is looked for in folders.
const (
	// maxFolderEntries are looked at in all folders of one invocation, and maxFolderReports taken.
	maxFolderEntries = 50_000
	maxFolderReports = 4096
	// maxToldLeftOut files are named that were left out; -o json names all.
	maxToldLeftOut = 20
)

// dependencies are folders of other people's sources, whose reports are not this commit's. So are hidden ones (.git).
var dependencies = []string{"node_modules"}

// reportEndings are those of files that a tool writes a report into. An empty one is a tool's that failed.
var reportEndings = []string{".xml", ".json", ".sarif"}

// leftOut is a file in a folder that is not sent, and why.
type leftOut struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// folders looks for reports in those of the arguments that are folders.
type folders struct {
	s       *session
	kind    string // of --type
	entries int
	found   []string
	left    []leftOut
}

// reportPaths are the arguments with what is found in folders in their place, each once, and what is left out of folders. A folder
// without a report is an error: who names one relies on it.
func (s *session) reportPaths(ctx context.Context, args []string, o reportOptions) (paths []string, left []leftOut, err error) {
	f := &folders{s: s, kind: o.kind}
	add := func(path string) {
		if path == stdinFile || !slices.Contains(paths, filepath.Clean(path)) {
			paths = append(paths, filepath.Clean(path))
		}
	}
	for _, arg := range args {
		if info, err := os.Stat(arg); err != nil || !info.IsDir() || arg == stdinFile {
			add(arg)
			continue
		}
		f.found = nil
		if err := f.walk(ctx, arg); err != nil {
			return nil, f.left, err
		}
		if len(f.found) == 0 {
			return nil, f.left, s.fail("error.report-none", arg).with(s.T("hint.report-none"))
		}
		for _, path := range f.found {
			add(path)
		}
		if len(paths) > maxFolderReports {
			return nil, f.left, s.fail("error.report-folder-reports", arg, maxFolderReports).with(s.T("hint.report-folder"))
		}
	}
	return paths, f.left, nil
}

// walk looks for reports below a folder. It may be a link; links below it are not followed, so that nothing is read that is
// outside it.
func (f *folders) walk(ctx context.Context, root string) error {
	return fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		full := filepath.Join(root, filepath.FromSlash(name))
		if err != nil {
			return f.s.fail("error.report-file", err).with(f.s.T("hint.report-unreadable"))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.entries++; f.entries > maxFolderEntries {
			return f.s.fail("error.report-folder-entries", root, maxFolderEntries).with(f.s.T("hint.report-folder"))
		}
		if d.IsDir() {
			if base := path.Base(name); name != "." && (strings.HasPrefix(base, ".") || slices.Contains(dependencies, base)) {
				f.leave(full, f.s.T("report.folder-passed"))
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			f.leave(full, f.s.T("report.no-file"))
			return nil
		}
		why, err := f.foreign(full)
		switch {
		case err != nil:
			return f.s.fail("error.report-file", err).with(f.s.T("hint.report-unreadable"))
		case why != "":
			f.leave(full, why)
		default:
			f.found = append(f.found, full)
		}
		return nil
	})
}

func (f *folders) leave(path, why string) { f.left = append(f.left, leftOut{path, why}) }

// foreign says why a file is taken for none of the pipeline's reports; "" if it may be one. One that is broken is: whether it is
// refused is to be told, and not passed over.
func (f *folders) foreign(path string) (why string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() == 0 {
		if slices.Contains(reportEndings, strings.ToLower(filepath.Ext(path))) {
			return "", nil
		}
		return f.s.T("report.empty"), nil
	}
	in, err := unpacked(file)
	if err != nil { // it only begins like one that is compressed
		return f.s.T("report.foreign"), nil
	}
	_, err = reports.Read(in, reports.Options{Type: f.kind})
	var refused *reports.Error
	if errors.As(err, &refused) && refused.Foreign {
		return f.s.T("report.foreign"), nil
	}
	return "", nil
}

// unpacked is the content of a file that may be compressed.
func unpacked(file io.ReadSeeker) (io.Reader, error) {
	head := make([]byte, 2)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if string(head[:n]) == gzipMagic {
		return gzip.NewReader(file)
	}
	return file, nil
}

// leftOutLines say what was left out of folders.
func (s *session) leftOutLines(left []leftOut) string {
	if len(left) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(s.T("report.left-out", len(left)) + "\n")
	for _, l := range left[:min(len(left), maxToldLeftOut)] {
		b.WriteString("  " + inert.Line(l.File+": "+l.Why) + "\n")
	}
	if more := len(left) - maxToldLeftOut; more > 0 {
		b.WriteString("  " + s.T("report.left-out-more", more) + "\n")
	}
	return b.String()
}
