// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// LogQuery says whose log lines are wanted, and which.
type LogQuery struct {
	Environment state.Key
	// Service; empty for all.
	Service string
	// Tail is how many of the last lines of each container; negative for all.
	Tail   int
	Since  time.Time
	Follow bool
}

// ReadLogs hands the log lines of an environment's containers to show, one at a time, with the container's short name. It
// needs the state in the data folder and the engine; the agent need not run. With Follow it goes on until ctx ends, with
// containers that are started in the meantime too.
func ReadLogs(ctx context.Context, dataDir, dockerHost string, q LogQuery, show func(container, line string)) error {
	store, _, err := chosen(dataDir, &q.Environment)
	if err != nil {
		return err
	}
	e, err := store.Load(q.Environment)
	if err != nil {
		return err
	}
	projects := composeProjects(e)
	if len(projects) == 0 {
		return fmt.Errorf("nothing of %s was started here", q.Environment)
	}
	engine, err := compose.Connect(dockerHost)
	if err != nil {
		return err
	}
	defer engine.Close()
	f := &follower{engine: engine, project: projects[0], q: q, show: show, tails: map[string]*tail{}}
	return f.run(ctx)
}

// composeProjects are the names under which containers of an environment may run, the newest first.
func composeProjects(e *state.Environment) []string {
	var names []string
	if e.Attempt != nil {
		names = append(names, e.Attempt.Spec.ComposeProject)
	}
	for _, d := range []*state.Deployment{e.Current, e.LastGood} {
		if d != nil {
			names = append(names, d.Spec.ComposeProject)
		}
	}
	return names
}

// follower reads the logs of the containers of one project.
type follower struct {
	engine  *compose.Engine
	project string
	q       LogQuery

	mu    sync.Mutex // of show and tails
	show  func(container, line string)
	tails map[string]*tail // by the container's ID
	wg    sync.WaitGroup
}

// tail is one run of a container that is followed.
type tail struct {
	started time.Time
	// shown is the engine's time of the last line that was shown, of this run and those before it.
	shown time.Time
	done  chan struct{}
}

func (f *follower) run(ctx context.Context) error {
	containers, err := f.containers(ctx)
	if err != nil {
		return err
	}
	if len(containers) == 0 && !f.q.Follow {
		if f.q.Service != "" {
			return fmt.Errorf("there is no container of the service %s", f.q.Service)
		}
		return errors.New("there are no containers")
	}
	var first error
	for _, c := range containers {
		if f.q.Follow {
			f.follow(ctx, c, f.q.Tail)
			continue
		}
		if err := f.stream(ctx, c, compose.LogRequest{Tail: f.q.Tail, Since: f.q.Since}, new(time.Time)); err != nil && first == nil {
			first = err
		}
	}
	if !f.q.Follow {
		return first
	}
	f.engine.Events(ctx, v1alpha1.LabelProject, 0, func(event compose.Event) {
		if event.Project != f.project && event.Project != "" {
			return
		}
		started, err := f.containers(ctx)
		if err != nil {
			return // the engine is away: its return is an event too
		}
		for _, c := range started {
			f.follow(ctx, c, -1)
		}
	}, func(error) {})
	f.wg.Wait()
	return nil
}

func (f *follower) containers(ctx context.Context) ([]health.Container, error) {
	list, err := f.engine.Containers(ctx, f.project)
	if err != nil {
		return nil, err
	}
	var wanted []health.Container
	for _, c := range list {
		if f.q.Service == "" || c.Service == f.q.Service {
			wanted = append(wanted, c)
		}
	}
	return wanted, nil
}

// follow reads a container's present run in the background, once. The run of a container that was restarted is read from
// after the last line that was shown: the engine notes the time of a start after the program has begun to write.
func (f *follower) follow(ctx context.Context, c health.Container, lines int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.tails[c.ID]
	if c.StartedAt.IsZero() || before != nil && before.started.Equal(c.StartedAt) {
		return
	}
	now := &tail{started: c.StartedAt, done: make(chan struct{})}
	f.tails[c.ID] = now
	f.wg.Go(func() {
		defer close(now.done)
		request := compose.LogRequest{Tail: lines, Since: f.q.Since, Follow: true}
		if before != nil {
			<-before.done
			now.shown, request.Tail = before.shown, -1
			if !now.shown.IsZero() {
				request.Since = now.shown.Add(time.Nanosecond)
			}
		} else if lines == 0 {
			now.shown = time.Now()
		}
		_ = f.stream(ctx, c, request, &now.shown) // it ended, or was removed
	})
}

// stream shows a container's lines, and keeps the time of the last in shown.
func (f *follower) stream(ctx context.Context, c health.Container, r compose.LogRequest, shown *time.Time) error {
	name := strings.TrimPrefix(c.Name, f.project+"-")
	r.Times = true
	return f.engine.Stream(ctx, c.ID, r, func(line string) {
		at, text := timed(line)
		f.mu.Lock()
		defer f.mu.Unlock()
		if !at.IsZero() {
			*shown = at
		}
		f.show(name, text)
	})
}

// timed divides a line into the engine's time and the text; the time is zero in what went on after a line was cut.
func timed(line string) (time.Time, string) {
	stamp, text, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return time.Time{}, line
	}
	return at, text
}

// Printable is a line of somebody else's log without what could do something in a terminal.
func Printable(line string) string { return printable(line) }
