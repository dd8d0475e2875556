// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// Event says that a container of a project changed. An event without project says that events may have been missed, or
// that the engine is there again: look at everything.
type Event struct {
	Project string
	Service string
	// Action is the engine's word: start, die, stop, destroy, health_status: healthy …
	Action string
}

// Waits between two attempts to reach an engine that does not answer.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
)

// followed are the actions that can change a verdict. Every healthcheck run makes three more, which the engine keeps to
// itself this way.
var followed = []events.Action{
	events.ActionStart, events.ActionDie, events.ActionStop, events.ActionDestroy, events.ActionPause, events.ActionUnPause,
	events.ActionOOM, events.ActionHealthStatus, events.ActionRename,
}

// Events follows the containers that carry label until ctx ends, and calls handle for each event, one at a time. It
// reconnects by itself and calls failed when the engine goes away. An event without project comes at every connection.
func (e *Engine) Events(ctx context.Context, label string, handle func(Event), failed func(error)) {
	filters := client.Filters{}.Add("type", string(events.ContainerEventType)).Add("label", label)
	for _, action := range followed {
		filters.Add("event", string(action))
	}
	wait := firstRetry
	for ctx.Err() == nil {
		since := time.Now()
		err := e.follow(ctx, filters, handle)
		if ctx.Err() != nil {
			return
		}
		failed(e.explain("follow events", err))
		if time.Since(since) > lastRetry {
			wait = firstRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
}

func (e *Engine) follow(ctx context.Context, filters client.Filters, handle func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.ping(ctx); err != nil {
		return err
	}
	stream := e.client.Events(ctx, client.EventsListOptions{Filters: filters})
	handle(Event{}) // the stream is open: what happens from here on is not missed
	for {
		select {
		case err := <-stream.Err:
			return err
		case m := <-stream.Messages:
			handle(Event{
				Project: m.Actor.Attributes[api.ProjectLabel], Service: m.Actor.Attributes[api.ServiceLabel], Action: string(m.Action),
			})
		}
	}
}

func (e *Engine) ping(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := e.client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	return err
}

// lastLines splits a container's logs into lines and keeps the last ones.
func lastLines(stream io.Reader, tty bool, lines, size int) ([]string, error) {
	keep := &tailWriter{size: size}
	var err error
	if tty {
		_, err = io.Copy(keep, stream)
	} else {
		_, err = stdcopy.StdCopy(keep, keep, stream)
	}
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(strings.ToValidUTF8(keep.buf.String(), "\uFFFD"), "\r\n")
	if text == "" {
		return nil, nil
	}
	all := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	return all[max(0, len(all)-lines):], nil
}

// tailWriter keeps the last size bytes that were written to it.
type tailWriter struct {
	buf  bytes.Buffer
	size int
}

func (w *tailWriter) Write(p []byte) (int, error) {
	n := len(p)
	if n > w.size {
		p = p[n-w.size:]
	}
	if excess := w.buf.Len() + len(p) - w.size; excess > 0 {
		w.buf.Next(excess)
	}
	w.buf.Write(p)
	return n, nil
}
