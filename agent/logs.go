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
	f := &follower{engine: engine, project: projects[0], q: q, show: show, known: map[string]bool{}}
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

	mu    sync.Mutex // of show and known
	show  func(container, line string)
	known map[string]bool
	wg    sync.WaitGroup
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
		if err := f.stream(ctx, c, compose.LogRequest{Tail: f.q.Tail, Since: f.q.Since}); err != nil && first == nil {
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

// follow reads a container's present run in the background, once.
func (f *follower) follow(ctx context.Context, c health.Container, tail int) {
	run := c.ID + c.StartedAt.String()
	f.mu.Lock()
	known := f.known[run]
	again := f.known[c.ID]
	f.known[run], f.known[c.ID] = true, true
	f.mu.Unlock()
	if known || c.StartedAt.IsZero() {
		return
	}
	request := compose.LogRequest{Tail: tail, Since: f.q.Since, Follow: true}
	if again { // what it said before it was restarted was shown
		request.Since = c.StartedAt
	}
	f.wg.Go(func() { _ = f.stream(ctx, c, request) }) // it ended, or was removed
}

func (f *follower) stream(ctx context.Context, c health.Container, r compose.LogRequest) error {
	name := strings.TrimPrefix(c.Name, f.project+"-")
	return f.engine.Stream(ctx, c.ID, r, func(line string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.show(name, line)
	})
}

// Printable is a line of somebody else's log without what could do something in a terminal.
func Printable(line string) string { return printable(line) }
