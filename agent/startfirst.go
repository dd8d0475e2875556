// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/converge"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// defaultDrain is how long an old container serves beside new ones that are healthy, unless told.
const defaultDrain = 2 * time.Second

// replacement is the state of one service while its containers are replaced. Only times are kept here: a restart of the
// agent begins them anew.
type replacement struct {
	service    converge.Service
	want       health.Service
	fresh, old []converge.Container
	// settledAt is since when all new containers have been healthy; zero while they are not.
	settledAt time.Time
	// retiredAt is when the last round ended.
	retiredAt time.Time
	round     converge.Round
	// unstarted says that new containers were created and not started.
	unstarted bool
	verdict   health.Verdict
}

// ready says that the first new containers of a service are healthy and were watched for as long as it asks.
func (r *replacement) ready(now time.Time) bool {
	return len(r.fresh) > 0 && !r.settledAt.IsZero() && !now.Before(r.settledAt.Add(r.service.Manner.Monitor))
}

// replace exchanges the containers of services in rounds. As long as no old container has been retired, everything can be
// undone by removing the new ones, so that all services get their first new containers before the first old one goes.
func (c *convergence) replace(ctx context.Context, steps []converge.Step) error {
	if err := c.dependencies(ctx, steps); err != nil {
		return c.besides(ctx, nil, err)
	}
	all := make([]*replacement, 0, len(steps))
	for _, step := range steps {
		r := &replacement{service: converge.Service{Name: step.Service}}
		for _, want := range c.target.services {
			if want.Name == step.Service {
				r.want = want
			}
		}
		all = append(all, r)
	}
	if err := c.removeUnstarted(steps); err != nil {
		return err
	}
	deadline := time.Now().Add(timeoutOf(c.spec))
	for {
		if err := c.look(); err != nil {
			return err
		}
		now := time.Now()
		next, err := c.judgeAll(all, now)
		if err == nil && now.After(deadline) && next.waiting != "" {
			err = fmt.Errorf("%w within %s: %s", errNotHealthy, timeoutOf(c.spec), next.waiting)
		}
		if err == nil && len(next.create) > 0 {
			err = c.create(next.create)
			deadline = time.Now().Add(timeoutOf(c.spec))
		}
		switch {
		case err != nil:
			return c.besides(ctx, all, err)
		case len(next.create) > 0:
		case len(next.retire) > 0:
			if err := c.retire(next.retire); err != nil {
				return err
			}
			deadline = time.Now().Add(timeoutOf(c.spec))
		case next.done:
			return nil
		default:
			c.tell(next.waiting)
			if err := c.pause(ctx, earliest(next.at, deadline.Add(time.Millisecond)), nil); err != nil {
				return err
			}
		}
	}
}

// removeUnstarted removes new containers that were created and never started, because the agent was killed in between. They
// would be judged as ones that cannot start.
func (c *convergence) removeUnstarted(steps []converge.Step) error {
	gone := map[string]string{}
	for _, step := range steps {
		fresh, _, _ := converge.Split(c.model.Service(step.Service), c.containers(step.Service))
		for _, container := range fresh {
			if container.State == health.StateCreated && container.Created.After(c.begun()) {
				gone[container.ID] = container.Name
			}
		}
	}
	return c.agent.engine.Retire(c.calm, gone)
}

// next is what is to be done about all services that are being replaced.
type next struct {
	create  map[string]int
	retire  []*replacement
	waiting string
	at      time.Time
	done    bool
}

// judgeAll looks at every service, and finds what can be done now. It fails when a new container will not become healthy.
func (c *convergence) judgeAll(all []*replacement, now time.Time) (next, error) {
	n := next{create: map[string]int{}, done: true}
	begun := true
	for _, r := range all {
		if err := c.judge(r, now); err != nil {
			return n, err
		}
		begun = begun && (r.ready(now) || r.service.Manner.Order != converge.StartFirst)
		n.done = n.done && r.round.Done && r.ready(now)
	}
	for _, r := range all {
		if r.unstarted { // made before the agent was killed
			n.create[r.service.Name] = 0
			continue
		}
		switch monitored := r.settledAt.Add(r.service.Manner.Monitor); {
		case len(r.fresh) > 0 && r.settledAt.IsZero():
			n.waiting = cmp.Or(n.waiting, r.service.Name+": "+cmp.Or(r.verdict.Message(), "waits"))
			n.at = earliest(n.at, r.verdict.NextLook)
		case len(r.fresh) > 0 && now.Before(monitored):
			n.at = earliest(n.at, monitored)
		case r.round.Create > 0:
			if after := r.retiredAt.Add(r.service.Manner.Delay); !r.retiredAt.IsZero() && now.Before(after) {
				n.at = earliest(n.at, after)
			} else if c.allReady(r, all, now) {
				n.create[r.service.Name] = r.round.Create
			}
		case len(r.round.Retire) > 0 && begun:
			if drained := r.settledAt.Add(r.drain(c.spec.Strategy)); r.service.Manner.Order == converge.StartFirst && now.Before(drained) {
				n.at = earliest(n.at, drained)
			} else {
				n.retire = append(n.retire, r)
			}
		}
	}
	return n, nil
}

// drain is how long after its new containers became healthy the old ones of a service may be stopped.
func (r *replacement) drain(strategy v1alpha1.RolloutStrategy) time.Duration {
	return r.service.Manner.Monitor + cmp.Or(strategy.Drain.Duration, defaultDrain)
}

// allReady says that the services which r depends on, of those that are being replaced too, have healthy new containers.
func (c *convergence) allReady(r *replacement, all []*replacement, now time.Time) bool {
	for _, other := range all {
		if _, depends := r.service.DependsOn[other.service.Name]; depends && !other.ready(now) {
			return false
		}
	}
	return true
}

// judge brings the state of one service up to date with what was observed.
func (c *convergence) judge(r *replacement, now time.Time) error {
	r.service = c.model.Service(r.service.Name)
	r.fresh, r.old, _ = converge.Split(r.service, c.containers(r.service.Name))
	r.unstarted = slices.ContainsFunc(r.fresh, func(c converge.Container) bool { return c.State == health.StateCreated && c.Error == "" })
	r.round = converge.NextRound(r.service, r.fresh, r.old)
	if r.unstarted {
		r.settledAt = time.Time{}
		return nil
	}
	want := r.want
	want.Replicas = len(r.fresh)
	r.verdict = health.Judge([]health.Service{want}, healthOf(r.fresh), nil, nil, now)
	switch {
	case r.verdict.Status != health.Healthy && r.verdict.Hopeless():
		return fmt.Errorf("%w: %s", errNotHealthy, r.verdict.Message())
	case r.verdict.Status != health.Healthy:
		r.settledAt = time.Time{}
	case r.settledAt.IsZero():
		r.settledAt = now
	}
	return nil
}

func healthOf(containers []converge.Container) []health.Container {
	list := make([]health.Container, 0, len(containers))
	for _, c := range containers {
		list = append(list, c.Container)
	}
	return list
}

// create adds new containers beside those that are there, once what an earlier attempt left over is gone.
func (c *convergence) create(more map[string]int) error {
	gone := map[string]string{}
	for name := range more {
		_, old, _ := converge.Split(c.model.Service(name), c.containers(name))
		for _, left := range converge.Leftovers(c.model.Service(name), old) {
			gone[left.ID] = left.Name
		}
	}
	if len(gone) > 0 {
		if err := c.agent.engine.Retire(c.calm, gone); err != nil {
			return err
		}
		return nil // and look again
	}
	batch := compose.Batch{Scale: map[string]int{}}
	for name, n := range more {
		batch.Start = append(batch.Start, name)
		batch.Scale[name] = len(c.containers(name)) + n
	}
	limited, cancel := context.WithTimeout(c.calm, timeoutOf(c.spec))
	defer cancel()
	return c.agent.engine.Apply(limited, c.model, c.view, batch)
}

// retire stops and removes old containers that new ones have replaced.
func (c *convergence) retire(list []*replacement) error {
	if err := c.touch(); err != nil {
		return err
	}
	gone, byService := map[string]string{}, map[string][]string{}
	for _, r := range list {
		for _, old := range r.round.Retire {
			gone[old.ID] = old.Name
			byService[r.service.Name] = append(byService[r.service.Name], old.ID)
		}
	}
	if err := c.agent.engine.PreStop(c.calm, c.model, byService); err != nil && c.disk.Attempt != nil {
		c.log.Info("a container is stopped although not all was done before", "error", redact(err.Error(), c.disk.Attempt.Secrets))
	}
	err := c.agent.engine.Retire(c.calm, gone)
	for _, r := range list {
		r.retiredAt = time.Now()
	}
	return err
}

func (c *convergence) tell(message string) {
	if c.disk.Attempt != nil && c.disk.Attempt.Failure == nil && message != "" {
		c.say(c.disk.Attempt.UID, redact("beside what serves: "+message, c.disk.Attempt.Secrets))
	}
}

// besides ends a replacement that failed. While nothing of what serves was touched, removing the new containers undoes it.
func (c *convergence) besides(ctx context.Context, all []*replacement, err error) error {
	attempt := c.disk.Attempt
	if attempt == nil || attempt.Failure != nil || attempt.Touched || ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) || errors.Is(err, errInterrupted) {
		return err
	}
	if err := c.look(); err != nil {
		return err
	}
	reason := v1alpha1.ReasonUnhealthy
	if !errors.Is(err, errNotHealthy) {
		reason = v1alpha1.ReasonStartFailed
	}
	f := &besideError{error: err, removed: true}
	gone := map[string]string{}
	var fresh []health.Container
	for _, r := range all {
		f.services = append(f.services, serviceStates(r.verdict)...)
		made, _, _ := converge.Split(c.model.Service(r.service.Name), c.containers(r.service.Name))
		for _, container := range made {
			if container.Created.After(c.begun()) { // what was like this before serves already
				gone[container.ID] = container.Name
				fresh = append(fresh, container.Container)
			}
		}
	}
	f.logs = c.wordsOf(ctx, fresh)
	c.log.Info("removing the new containers; what serves was not touched", "containers", len(gone))
	if err := c.agent.engine.Retire(c.calm, gone); err != nil {
		return err
	}
	return &failed{reason, f, true}
}

// besideError says that new containers stood beside those that serve, did not become what they should, and were removed.
type besideError struct {
	error
	removed bool
	// services and logs of the new containers.
	services []v1alpha1.ServiceState
	logs     []string
}

func (e *besideError) Unwrap() error { return e.error }

// begun is when the attempt under way began, however often the agent was restarted since.
func (c *convergence) begun() time.Time {
	if attempt := c.disk.Attempt; attempt != nil && len(attempt.Timings) > 0 {
		return attempt.Timings[0].Started.Time
	}
	return time.Now()
}
