// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/converge"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// convergence is one run of making the containers what a deployment says. All that must survive a crash is in the
// containers themselves, but for the one word that something was touched.
type convergence struct {
	*worker
	// calm is the context of what is not to be cut short by the end of the agent.
	calm   context.Context
	target *resolved
	spec   v1alpha1.RolloutSpec
	// only are the services that it is about; empty means all.
	only  []string
	view  compose.View
	model compose.Model
	plan  converge.Plan
}

// identify looks up what the engine calls the images, once they are on disk, so that containers made from the same image
// under another name are judged by it.
func (w *worker) identify(ctx context.Context, target *resolved) error {
	for i := range target.services {
		id, err := w.agent.engine.ImageID(ctx, target.services[i].Image)
		if err != nil {
			return err
		}
		target.services[i].ImageID = id
	}
	return nil
}

// converge makes the containers of the target's services what they should be; of all of them unless some are named. Waits
// end with ctx or when a newer Rollout is authorised; what changes containers ends with calm.
func (w *worker) converge(ctx, calm context.Context, target *resolved, spec v1alpha1.RolloutSpec, services []string) error {
	if err := w.agent.files.check(target); err != nil {
		return err
	}
	if err := w.identify(ctx, target); err != nil {
		return err
	}
	c := &convergence{worker: w, calm: calm, target: target, spec: spec, only: services}
	if err := w.agent.engine.Tidy(calm, target.project.Name); err != nil {
		return err
	}
	if err := c.look(); err != nil {
		return err
	}
	c.noteManner()
	if err := c.removeAll(func(r converge.Removal) bool { return !r.Late }); err != nil {
		return err
	}
	for _, batch := range converge.Batches(c.model.Services, c.plan.Steps) {
		w.log.Info("converging", "steps", stepNames(batch))
		var err error
		if batch[0].Action == converge.Replace {
			err = c.replace(ctx, batch)
		} else {
			err = c.inPlace(ctx, batch)
		}
		if err != nil {
			return err
		}
	}
	return c.removeAll(func(r converge.Removal) bool { return r.Late })
}

// look observes and plans anew.
func (c *convergence) look() error {
	var err error
	if c.view, err = c.agent.engine.Look(c.calm, c.target.project.Name); err != nil {
		return err
	}
	source := c.target.source(c.spec.Strategy)
	if c.model, err = c.agent.engine.Model(c.calm, source, c.view); err != nil {
		return err
	}
	c.plan = converge.Make(converge.Input{
		Services: c.model.Services, Containers: c.view.Containers, Only: c.only, Former: c.former(), Deploying: c.disk.Attempt != nil,
	})
	if c.spec.Strategy.Drift == v1alpha1.DriftHeal {
		c.plan.Remove, c.plan.Foreign = append(c.plan.Remove, c.plan.Foreign...), nil
	}
	return nil
}

// source is what a model is made from.
func (r *resolved) source(strategy v1alpha1.RolloutStrategy) compose.Source {
	return compose.Source{
		Project: r.project, Labels: r.labels, Written: r.written, StartFirst: strategy.Strategy == v1alpha1.StrategyStartFirst,
	}
}

// former are the services of what was committed before, whose containers are nobody else's.
func (w *worker) former() []string {
	var names []string
	if w.disk.Current != nil {
		for _, image := range w.disk.Current.Spec.Images {
			names = append(names, image.Service)
		}
	}
	return names
}

// touch notes, before it happens, that something of what served is changed.
func (c *convergence) touch() error {
	attempt := c.disk.Attempt
	if attempt == nil || attempt.Touched {
		return nil
	}
	attempt.Touched = true
	return c.save()
}

func (c *convergence) removeAll(which func(converge.Removal) bool) error {
	gone := map[string]string{}
	for _, r := range c.plan.Remove {
		if which(r) {
			gone[r.ID] = r.Name
			c.log.Info("removing a container", "container", r.Name, "why", r.Why)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := c.touch(); err != nil {
		return err
	}
	return c.agent.engine.Retire(c.calm, gone)
}

// inPlace carries out steps that start, restart and recreate.
func (c *convergence) inPlace(ctx context.Context, steps []converge.Step) error {
	if err := c.touch(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(c.calm, timeoutOf(c.spec))
	defer cancel()
	if err := c.dependencies(ctx, steps); err != nil {
		return err
	}
	if err := c.look(); err != nil {
		return err
	}
	var batch compose.Batch
	started := map[string]time.Time{}
	for _, step := range steps {
		switch {
		case step.Action == converge.Recreate && step.Force:
			batch.Force = append(batch.Force, step.Service)
		case step.Action == converge.Recreate:
			batch.Recreate = append(batch.Recreate, step.Service)
		default:
			batch.Start = append(batch.Start, step.Service)
		}
		if step.Action == converge.Restart {
			for _, container := range c.containers(step.Service) {
				started[container.ID] = container.StartedAt
			}
		}
	}
	err := c.agent.engine.Apply(limited, c.model, c.view, batch)
	if err != nil && limited.Err() != nil && c.calm.Err() == nil {
		return fmt.Errorf("not up within %s: a service that others depend on did not become healthy", timeoutOf(c.spec))
	}
	if err != nil || len(started) == 0 {
		return err
	}
	if err := c.look(); err != nil {
		return err
	}
	again := map[string]string{}
	for _, container := range c.view.Containers {
		if at, found := started[container.ID]; found && at.Equal(container.StartedAt) && container.State == health.StateRunning {
			again[container.ID] = container.Name
		}
	}
	return c.agent.engine.Restart(c.calm, again)
}

// containers of a service, without what somebody runs by hand.
func (c *convergence) containers(service string) []converge.Container {
	var list []converge.Container
	for _, container := range c.view.Containers {
		if container.Service == service && !container.OneOff {
			list = append(list, container)
		}
	}
	return list
}

// dependencies waits until the conditions hold that steps set for services outside of the batch.
func (c *convergence) dependencies(ctx context.Context, steps []converge.Step) error {
	deadline := time.Now().Add(timeoutOf(c.spec))
	for {
		if err := c.look(); err != nil {
			return err
		}
		waiting, err := c.unmet(steps)
		if err != nil || waiting == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not up within %s: %s", timeoutOf(c.spec), waiting)
		}
		if err := c.pause(ctx, deadline.Add(time.Millisecond), nil); err != nil {
			return err
		}
	}
}

// unmet names the first condition that does not hold yet, and fails when one never will.
func (c *convergence) unmet(steps []converge.Step) (string, error) {
	for _, step := range steps {
		service := c.model.Service(step.Service)
		for name, dependency := range service.DependsOn {
			if slices.ContainsFunc(steps, func(s converge.Step) bool { return s.Service == name }) {
				continue // Compose, or the rounds, see to it
			}
			for _, container := range c.containers(name) {
				waiting, err := condition(dependency.Condition, container)
				if err != nil {
					return "", fmt.Errorf("%s depends on %s: %w", step.Service, name, err)
				}
				if waiting != "" {
					return fmt.Sprintf("%s waits for %s, which %s", step.Service, name, waiting), nil
				}
			}
		}
	}
	return "", nil
}

// condition says what a container must still do to meet a condition of depends_on.
func condition(kind string, c converge.Container) (waiting string, err error) {
	switch kind {
	case "service_healthy":
		switch {
		case c.State == health.StateRunning && (c.Check == health.CheckHealthy || c.Check == health.CheckNone):
		case c.State == health.StateRunning && c.Check == health.CheckUnhealthy:
			return "", fmt.Errorf("%s is unhealthy", c.Name)
		case c.State == health.StateExited, c.State == health.StateDead:
			return "", fmt.Errorf("%s: %s", c.Name, c.Ending())
		default:
			return "is not healthy yet", nil
		}
	case "service_completed_successfully":
		switch {
		case c.State == health.StateExited && c.ExitCode == 0:
		case c.State == health.StateExited:
			return "", fmt.Errorf("%s: %s", c.Name, c.Ending())
		default:
			return "has not completed yet", nil
		}
	}
	return "", nil
}

// noteManner keeps in words how each service takes the place of the one before.
func (c *convergence) noteManner() {
	if c.disk.Attempt == nil || c.disk.Attempt.Failure != nil || len(c.only) > 0 {
		return
	}
	said := map[string][]string{}
	for _, step := range c.plan.Steps {
		key := mannerOf(c.model.Service(step.Service), step)
		text := step.Service
		if _, because, found := strings.Cut(step.Why, "; "); found && step.Action == converge.Recreate {
			text += " (" + because + ")"
		}
		said[key] = append(said[key], text)
	}
	var parts []string
	for _, key := range []string{"start first", "stop first", "recreated", "restarted", "started", "unchanged"} {
		if len(said[key]) > 0 {
			parts = append(parts, key+": "+strings.Join(said[key], ", "))
		}
	}
	for _, service := range c.model.Services {
		if ignored := service.Manner.Ignored; len(ignored) > 0 {
			parts = append(parts, "not honoured for "+service.Name+": "+strings.Join(ignored, ", "))
		}
	}
	for _, foreign := range c.plan.Foreign {
		parts = append(parts, "left alone: "+foreign.Name+" ("+foreign.Why+")")
	}
	manner := strings.Join(parts, "; ")
	// An agent that was killed half-way finds fewer steps to do the second time; what it found first is what happened.
	c.disk.Attempt.Manner = cmp.Or(c.disk.Attempt.Manner, manner)
}

func mannerOf(s converge.Service, step converge.Step) string {
	switch {
	case step.Action == converge.Replace && s.Manner.Order == converge.StopFirst:
		return "stop first"
	case step.Action == converge.Replace:
		return "start first"
	case step.Action == converge.Recreate:
		return "recreated"
	case step.Action == converge.Restart:
		return "restarted"
	case step.Action == converge.Start:
		return "started"
	}
	return "unchanged"
}

func stepNames(steps []converge.Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, fmt.Sprintf("%s %s: %s", s.Action, s.Service, s.Why))
	}
	return strings.Join(names, "; ")
}

// errNotHealthy is wrapped by the failure of new containers to become healthy.
var errNotHealthy = errors.New("the new containers did not become healthy")
