// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// OOM is the action of a container in which a process ran out of memory, whether the container ended with it or not.
const OOM = string(events.ActionOOM)

// Event says that a container of a project changed. An event without project says that events may have been missed, or
// that the engine is there again: look at everything.
type Event struct {
	Project string
	Service string
	// Container's id.
	Container string
	// Action is the engine's word: start, die, stop, destroy, health_status: healthy …
	Action string
}

// Waits between two attempts to reach an engine that does not answer.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
)

// RenewAfter is how long a stream of events is followed before it is opened anew, at most: one behind a proxy may have died
// without a word.
const RenewAfter = 5 * time.Minute

// Renewed is the action of an event without project that says no more than that the stream was opened anew.
const Renewed = "renewed"

// followed are the actions that can change a verdict. Every healthcheck run makes three more, which the engine keeps to
// itself this way.
var followed = []events.Action{
	events.ActionStart, events.ActionDie, events.ActionStop, events.ActionDestroy, events.ActionPause, events.ActionUnPause,
	events.ActionOOM, events.ActionHealthStatus, events.ActionRename,
}

// Events follows the containers that carry label until ctx ends, and calls handle for each event, one at a time. It
// reconnects by itself, calling failed, when the engine goes away, and without a word after at most renew, a fifth of it
// earlier at random; 0 means RenewAfter. An event without project comes at every connection.
func (e *Engine) Events(ctx context.Context, label string, renew time.Duration, handle func(Event), failed func(error)) {
	renew = cmp.Or(renew, RenewAfter)
	filters := client.Filters{}.Add("type", string(events.ContainerEventType)).Add("label", label)
	for _, action := range followed {
		filters.Add("event", string(action))
	}
	wait, action := firstRetry, ""
	for ctx.Err() == nil {
		since := time.Now()
		err := e.follow(ctx, filters, renew-rand.N(renew/5+1), action, handle)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait, action = firstRetry, Renewed
			continue
		}
		action = ""
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

// follow handles events for as long as told, and returns nil then. The first event has the action that is given.
func (e *Engine) follow(ctx context.Context, filters client.Filters, lasts time.Duration, action string, handle func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.ping(ctx); err != nil {
		return err
	}
	slow := time.AfterFunc(callTimeout, cancel) // Events returns when the engine has begun to answer
	stream := e.client.Events(ctx, client.EventsListOptions{Filters: filters})
	networks := e.client.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.
		Add("type", string(events.NetworkEventType)).Add("event", string(events.ActionDisconnect))})
	if !slow.Stop() {
		return fmt.Errorf("%w: no events within %s", ErrUnreachable, callTimeout)
	}
	handle(Event{Action: action}) // the stream is open: what happens from here on is not missed
	over := time.NewTimer(lasts)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case err := <-stream.Err:
			return err
		case m := <-stream.Messages:
			handle(Event{
				Project: m.Actor.Attributes[api.ProjectLabel], Service: m.Actor.Attributes[api.ServiceLabel], Container: m.Actor.ID, Action: string(m.Action),
			})
		case err := <-networks.Err:
			return err
		case m := <-networks.Messages:
			e.disconnected(ctx, m.Actor.Attributes["container"], handle)
		}
	}
}

// disconnected passes on that a container that runs was taken out of a network, which is no event of the container's own.
// One that ends leaves its networks too; that is known already.
func (e *Engine) disconnected(ctx context.Context, id string, handle func(Event)) {
	limited, cancel := bounded(ctx)
	defer cancel()
	inspected, err := e.client.ContainerInspect(limited, id, client.ContainerInspectOptions{})
	if err != nil || inspected.Container.Config == nil || inspected.Container.State == nil || !inspected.Container.State.Running {
		return
	}
	labels := inspected.Container.Config.Labels
	if labels[api.ProjectLabel] != "" {
		handle(Event{Project: labels[api.ProjectLabel], Service: labels[api.ServiceLabel], Action: string(events.ActionDisconnect)})
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
