// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// Journal is what audits need of the journal; *journal.Journal is one.
type Journal interface {
	// Entries yields a project's entries from sequence from on, verified; it ends at the first error.
	Entries(ctx context.Context, projectUID string, from int64) iter.Seq2[journal.Entry, error]
	// Export writes a project's journal with all documents to the new folder dir. journal.ErrEmpty if it has none.
	Export(ctx context.Context, projectUID, dir string, keys map[string]string, clientKeys []string) error
}

const (
	// maxExports bounds the exports that are made at a time: each takes the project's whole journal again on the disk.
	maxExports = 1
	// exportTimeout bounds one export, from the request to the last byte.
	exportTimeout = 30 * time.Minute
	// stallTimeout is how long a client may take for the next piece of a long answer.
	stallTimeout = time.Minute
	// pieceSize is what is sent at a time, in bytes.
	pieceSize = 64 << 10
	// maxSeq is as far as sequences of a journal go.
	maxSeq = 1 << 53
)

// getEntries streams the project's journal, one entry a line, as it is stored.
func (a *api) getEntries(w http.ResponseWriter, r *http.Request, c caller) error {
	from, err := wholeParameter(r, "from", 1)
	if err != nil {
		return err
	}
	limit, err := wholeParameter(r, "limit", maxSeq)
	if err != nil {
		return err
	}
	project, err := a.audited(r.Context(), c.project)
	if err != nil {
		return err
	}
	ctx, cancel := a.untilStopped(r.Context(), exportTimeout)
	defer cancel()
	s := newStream(w, "application/x-ndjson")
	for e, err := range a.o.Journal.Entries(ctx, string(project.UID), from) {
		var line []byte
		if err == nil {
			line, err = e.Line()
		}
		if err == nil {
			_, err = s.Write(append(line, '\n'))
		}
		if err != nil {
			return a.cutOff(s, "read the journal", err)
		}
		if limit--; limit == 0 || r.Method == http.MethodHead {
			break
		}
	}
	return a.cutOff(s, "send the journal", s.end())
}

// getExport makes an export of the project's journal and sends it as a tar archive of plain files.
func (a *api) getExport(w http.ResponseWriter, r *http.Request, c caller) error {
	project, err := a.audited(r.Context(), c.project)
	if err != nil {
		return err
	}
	select {
	case a.exports <- struct{}{}:
		defer func() { <-a.exports }()
	default:
		return unavailable("another export is being made", 5*time.Second, nil)
	}
	// Making it takes longer than an ordinary answer may.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(exportTimeout))
	ctx, cancel := a.untilStopped(r.Context(), exportTimeout)
	defer cancel()
	s := newStream(w, "application/x-tar")
	s.disposition = fmt.Sprintf(`attachment; filename="sirrat-%s.tar"`, c.project)
	if r.Method == http.MethodHead {
		return a.cutOff(s, "answer", s.end())
	}
	temp, err := os.MkdirTemp(a.o.ExportDir, "export-")
	if err != nil {
		return fmt.Errorf("make a folder for the export: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(temp); err != nil {
			a.o.Log.Error(err, "an export was not removed after it had been sent", "folder", temp)
		}
	}()
	dir := filepath.Join(temp, "export")
	err = a.o.Journal.Export(ctx, string(project.UID), dir, a.o.Keys(), clientKeys(project))
	if errors.Is(err, journal.ErrEmpty) {
		return newProblem(http.StatusNotFound, "nothing-recorded", "Nothing is recorded of this project yet", "the journal begins with the first release or result")
	}
	if err == nil {
		err = writeTar(ctx, s, dir)
	}
	if err == nil {
		err = s.end()
	}
	return a.cutOff(s, "export the journal", err)
}

// audited is the project whose journal is asked for.
func (a *api) audited(ctx context.Context, name string) (*v1alpha1.Project, error) {
	if a.o.Journal == nil {
		return nil, unavailable("this server has no journal", time.Minute, nil)
	}
	var project v1alpha1.Project
	err := a.withStore(ctx, func(ctx context.Context) error {
		err := a.get(ctx, client.ObjectKey{Name: name}, &project)
		if apierrors.IsNotFound(err) {
			return newProblem(http.StatusNotFound, "no-such-project", "There is no such project", "it was deleted; its journal is in the server's archive")
		}
		return storeProblem("read the project", err)
	})
	return &project, err
}

// clientKeys are those that can be read: the controllers verify nothing with the others.
func clientKeys(p *v1alpha1.Project) []string {
	var out []string
	for _, text := range p.Spec.Client.PublicKeys {
		if _, err := envelope.ParsePublicKey(text); err == nil {
			out = append(out, text)
		}
	}
	return out
}

// untilStopped is a context that also ends when the process is about to stop.
func (a *api) untilStopped(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	if a.o.Stopping != nil {
		go func() {
			select {
			case <-a.o.Stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// wholeParameter is a whole number of the query, from 1 on.
func wholeParameter(r *http.Request, name string, absent int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > maxSeq {
		return 0, invalid([]FieldError{{name, "must be a whole number from 1 on"}})
	}
	return n, nil
}

// writeTar writes every file of a folder: plain files and no folders, in the order of their names.
func writeTar(ctx context.Context, w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // opened to be read
	out := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: info.ModTime().Truncate(time.Second)}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// stream is a long answer. Its header is sent with its first piece, so that an error before that is still a proper answer.
type stream struct {
	w                 http.ResponseWriter
	buffer            *bufio.Writer
	kind, disposition string
	begun             bool
}

func newStream(w http.ResponseWriter, kind string) *stream {
	s := &stream{w: w, kind: kind}
	s.buffer = bufio.NewWriterSize(pieces{s}, pieceSize)
	return s
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) { return s.buffer.Write(p) }

// pieces sends what the buffer gathered, each piece within stallTimeout.
type pieces struct{ s *stream }

func (p pieces) Write(b []byte) (int, error) {
	p.s.begin()
	_ = http.NewResponseController(p.s.w).SetWriteDeadline(time.Now().Add(stallTimeout))
	return p.s.w.Write(b)
}

func (s *stream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	s.w.Header().Set("Content-Type", s.kind)
	if s.disposition != "" {
		s.w.Header().Set("Content-Disposition", s.disposition)
	}
	s.w.WriteHeader(http.StatusOK)
}

// end sends the rest.
func (s *stream) end() error {
	s.begin()
	return s.buffer.Flush()
}

// cutOff ends an answer that cannot be finished: with a problem if nothing was sent yet, otherwise by closing the connection
// without the end that a whole answer has.
func (a *api) cutOff(s *stream, doing string, err error) error {
	if err == nil {
		return nil
	}
	if !s.begun {
		p := newProblem(http.StatusInternalServerError, "journal", "The journal could not be read", "the operator has to look at the server's log")
		p.cause = fmt.Errorf("%s: %w", doing, err)
		return p
	}
	a.o.Log.Info("an answer was cut off", "doing", doing, "cause", err.Error())
	panic(http.ErrAbortHandler)
}
