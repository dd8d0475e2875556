// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/converge"
	"gitlab.com/dynors/sirrat/agent/health"
)

// Batch is work on several services of a project that is done together.
type Batch struct {
	// Start what is missing or does not run.
	Start []string
	// Recreate the containers whose configuration differs, in place.
	Recreate []string
	// Force recreates all containers, in place.
	Force []string
	// Scale is how many containers a service of Start is to have, where that is not what the file says.
	Scale map[string]int
}

// services that the batch is about.
func (b Batch) services() []string {
	return slices.Concat(b.Start, b.Recreate, b.Force)
}

// part is work on services that Compose can be asked for in one call.
type part struct {
	services []string
	policy   string
}

// parts divides the batch in the order of dependencies, so that a service which uses another one's namespaces or volumes is
// made after that one.
func (b Batch) parts(model Model) []part {
	policies := map[string]string{}
	for policy, services := range map[string][]string{api.RecreateNever: b.Start, api.RecreateDiverged: b.Recreate, api.RecreateForce: b.Force} {
		for _, name := range services {
			policies[name] = policy
		}
	}
	var parts []part
	for _, s := range converge.Sort(model.Services) {
		policy, concerned := policies[s.Name]
		switch n := len(parts); {
		case !concerned:
		case n > 0 && parts[n-1].policy == policy:
			parts[n-1].services = append(parts[n-1].services, s.Name)
		default:
			parts = append(parts, part{[]string{s.Name}, policy})
		}
	}
	return parts
}

// Apply carries out a batch, from images that are on disk. Everything else of the project, running or not, stays as view has
// it; so does a container of the batch that is neither missing nor stopped nor to be recreated.
func (e *Engine) Apply(ctx context.Context, model Model, view View, batch Batch) error {
	if len(batch.services()) == 0 {
		return nil
	}
	if err := e.makeReady(ctx, view, batch); err != nil {
		return err
	}
	for _, part := range batch.parts(model) {
		scaled, err := scaledTo(model.project, view, part.services, batch.Scale)
		if err != nil {
			return err
		}
		err = e.sdk.Create(ctx, scaled, api.CreateOptions{
			Services: part.services, Recreate: part.policy, RecreateDependencies: api.RecreateNever,
			IgnoreOrphans: true, Inherit: true, QuietPull: true, SkipProviders: true,
		})
		if err := e.ended(ctx, "compose create", err); err != nil {
			return err
		}
	}
	selected, err := model.project.WithSelectedServices(batch.services(), types.IgnoreDependencies)
	if err != nil {
		return fmt.Errorf("select services: %w", err)
	}
	return e.ended(ctx, "compose start", e.sdk.Start(ctx, selected.Name, api.StartOptions{Project: selected}))
}

// ended looks at both a call's error and its context, since a call that was cancelled may well return nil.
func (e *Engine) ended(ctx context.Context, what string, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if err != nil {
		return e.explain(what, conflict(err))
	}
	return nil
}

// scaledTo is the model with every service but some as it is found.
func scaledTo(project *types.Project, view View, services []string, scales map[string]int) (*types.Project, error) {
	scaled, err := project.WithServicesTransform(func(name string, service types.ServiceConfig) (types.ServiceConfig, error) {
		scale, given := scales[name]
		concerned := slices.Contains(services, name)
		if concerned && !given {
			return service, nil
		}
		if !concerned {
			scale = view.count(name)
		}
		service.SetScale(scale)
		return service, nil
	})
	if err != nil {
		return nil, fmt.Errorf("scale services: %w", err)
	}
	return scaled, nil
}

// count is how many containers Compose sees of a service.
func (v View) count(service string) int {
	n := 0
	for _, c := range v.Containers {
		if c.Service == service && !c.OneOff && c.Hash != "" {
			n++
		}
	}
	return n
}

// makeReady lets paused containers go on and removes dead ones, neither of which Compose can start.
func (e *Engine) makeReady(ctx context.Context, view View, batch Batch) error {
	for _, c := range view.Containers {
		if c.OneOff || !slices.Contains(batch.services(), c.Service) {
			continue
		}
		switch c.State {
		case health.StatePaused:
			if _, err := e.client.ContainerUnpause(ctx, c.ID, client.ContainerUnpauseOptions{}); err != nil && !errdefs.IsNotFound(err) {
				return e.explain("unpause "+c.Name, err)
			}
		case health.StateDead, health.StateRemoving:
			if err := e.remove(ctx, c.ID, c.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tidy ends a recreation that was cut short.
func (e *Engine) Tidy(ctx context.Context, project string) error {
	return e.adoptInterrupted(ctx, project)
}

// Retire stops containers, each with the signal and within the time that its service declares, and removes them. Volumes stay.
func (e *Engine) Retire(ctx context.Context, containers map[string]string) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(containers))
	for id, name := range containers {
		wg.Go(func() {
			if _, err := e.stop(ctx, id); err != nil {
				errs <- fmt.Errorf("%s: %w", name, err)
				return
			}
			errs <- e.remove(ctx, id, name)
		})
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Restart restarts containers, with the time to stop that their service declares.
func (e *Engine) Restart(ctx context.Context, containers map[string]string) error {
	for id, name := range containers {
		grace, _, err := e.grace(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		limited, cancel := context.WithTimeout(ctx, grace+stopMargin)
		_, err = e.client.ContainerRestart(limited, id, client.ContainerRestartOptions{})
		cancel()
		if err != nil {
			return e.explain("restart "+name, err)
		}
	}
	return nil
}

func (e *Engine) remove(ctx context.Context, id, name string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := e.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // a removal that is under way already conflicts
		return e.explain("remove "+name, err)
	}
	return nil
}
