// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// maxLogLine is where a line that does not end is cut.
const maxLogLine = 16 << 10

// LogRequest says which of a container's log lines are wanted.
type LogRequest struct {
	// Tail is how many of the last lines; 0 for none of the past, negative for all.
	Tail int
	// Since leaves out what is older; zero for nothing.
	Since time.Time
	// Follow goes on with what is written from now on, until the container ends.
	Follow bool
	// Times puts the engine's time (RFC 3339, nanoseconds) and a space before each line.
	Times bool
}

// Stream hands each log line of a container to handle, one at a time, those of standard output and standard error in the
// order of their arrival.
func (e *Engine) Stream(ctx context.Context, container string, r LogRequest, handle func(line string)) error {
	inspected, err := e.client.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if err != nil {
		return e.explain("inspect a container", err)
	}
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: r.Follow, Timestamps: r.Times, Tail: "all"}
	if r.Tail >= 0 {
		options.Tail = strconv.Itoa(r.Tail)
	}
	if !r.Since.IsZero() {
		options.Since = strconv.FormatInt(r.Since.Unix(), 10) + "." + leftPad(r.Since.Nanosecond())
	}
	stream, err := e.client.ContainerLogs(ctx, container, options)
	if err != nil {
		return e.explain("read the logs of a container", err)
	}
	defer stream.Close()
	out, errOut := &lineWriter{handle: handle}, &lineWriter{handle: handle}
	if inspected.Container.Config != nil && inspected.Container.Config.Tty {
		_, err = io.Copy(out, stream)
	} else {
		_, err = stdcopy.StdCopy(out, errOut, stream)
	}
	out.flush()
	errOut.flush()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, io.EOF):
		return e.explain("read the logs of a container", err)
	}
	return nil
}

// leftPad writes nanoseconds with all nine digits, as the engine reads fractions.
func leftPad(n int) string {
	text := strconv.Itoa(n)
	return strings.Repeat("0", 9-len(text)) + text
}

// lineWriter hands on whole lines, and cuts those that are too long.
type lineWriter struct {
	buf    bytes.Buffer
	handle func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		if room := maxLogLine - w.buf.Len(); len(line) > room {
			line, rest, found = p[:room], p[room:], true
		}
		w.buf.Write(line)
		if found {
			w.emit()
		}
		p = rest
	}
	return n, nil
}

func (w *lineWriter) emit() {
	w.handle(strings.ToValidUTF8(strings.TrimSuffix(w.buf.String(), "\r"), "\uFFFD"))
	w.buf.Reset()
}

func (w *lineWriter) flush() {
	if w.buf.Len() > 0 {
		w.emit()
	}
}
