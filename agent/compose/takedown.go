// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// stopMargin is what a stop may take beyond the container's own grace period before it counts as hung; defaultStop is the
// engine's grace period where a container names none.
const (
	stopMargin  = 30 * time.Second
	defaultStop = 10 * time.Second
)

// Removal says what of a compose project goes.
type Removal struct {
	// Volumes: named volumes too. Anonymous ones always go with their containers.
	Volumes bool
	// Labels that a container must carry to be removed; empty for all of the project.
	Labels map[string]string
}

// TakeDown stops and removes the containers of a compose project, those that depend on others first and each with its grace
// period, then its networks, then, if told, its volumes. left names what is still there and why; it is the caller's to try
// again. What is gone already is no error. External networks and volumes carry no label of the project and stay.
func (e *Engine) TakeDown(ctx context.Context, project string, order Removal) (left []string, err error) {
	filters := client.Filters{}.Add("label", api.ProjectLabel+"="+project)
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, e.explain("list containers", err)
	}
	var ours []container.Summary
	for _, c := range list.Items {
		if carries(c.Labels, order.Labels) {
			ours = append(ours, c)
		} else {
			left = append(left, "container "+nameOf(c)+" is not SIRRAT's")
		}
	}
	for _, generation := range stopOrder(ours) {
		some, err := e.removeContainers(ctx, generation)
		if err != nil {
			return left, err
		}
		left = append(left, some...)
	}
	if len(left) > 0 { // networks and volumes are in use still
		return left, ctx.Err()
	}
	return e.removeRest(ctx, filters, order.Volumes)
}

func carries(have, want map[string]string) bool {
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}

func nameOf(c container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// stopOrder sorts containers into generations: none is stopped before those whose service depends on its own. A circle, which
// compose does not allow, goes at once.
func stopOrder(list []container.Summary) [][]container.Summary {
	byService := map[string][]container.Summary{}
	for _, c := range list {
		service := c.Labels[api.ServiceLabel]
		byService[service] = append(byService[service], c)
	}
	var out [][]container.Summary
	for len(byService) > 0 {
		needed := map[string]bool{}
		for service, some := range byService {
			for _, c := range some {
				for _, on := range strings.Split(c.Labels[api.DependenciesLabel], ",") {
					if name, _, _ := strings.Cut(on, ":"); name != "" && name != service {
						needed[name] = true
					}
				}
			}
		}
		var free []string
		for _, service := range slices.Sorted(maps.Keys(byService)) {
			if !needed[service] {
				free = append(free, service)
			}
		}
		if len(free) == 0 {
			free = slices.Sorted(maps.Keys(byService))
		}
		var generation []container.Summary
		for _, service := range free {
			generation = append(generation, byService[service]...)
			delete(byService, service)
		}
		out = append(out, generation)
	}
	return out
}

// removeContainers stops and removes containers, all at the same time.
func (e *Engine) removeContainers(ctx context.Context, list []container.Summary) (left []string, err error) {
	var wg sync.WaitGroup
	errs := make([]error, len(list))
	for i, c := range list {
		wg.Go(func() { errs[i] = e.stopAndRemove(ctx, c.ID) })
	}
	wg.Wait()
	for i, c := range list {
		switch {
		case errs[i] == nil:
		case ctx.Err() != nil:
			return left, ctx.Err()
		case errors.Is(errs[i], ErrUnreachable):
			return left, errs[i]
		default:
			left = append(left, fmt.Sprintf("container %s (%s)", nameOf(c), errs[i]))
		}
	}
	return left, nil
}

func (e *Engine) stopAndRemove(ctx context.Context, id string) error {
	if exists, err := e.stop(ctx, id); err != nil || !exists {
		return err
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	_, err := e.client.ContainerRemove(limited, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // a conflict: its removal is under way
		return e.explain("remove", err)
	}
	return nil
}

// grace is how long a container may take to stop.
func (e *Engine) grace(ctx context.Context, id string) (grace time.Duration, exists bool, err error) {
	limited, cancel := bounded(ctx)
	defer cancel()
	inspected, err := e.client.ContainerInspect(limited, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, e.explain("inspect a container", err)
	}
	if c := inspected.Container.Config; c != nil && c.StopTimeout != nil && *c.StopTimeout >= 0 {
		return time.Duration(*c.StopTimeout) * time.Second, true, nil
	}
	return defaultStop, true, nil
}

// stop ends a container with its own signal, within its own time. One that the engine cannot stop is an error soon after.
func (e *Engine) stop(ctx context.Context, id string) (exists bool, err error) {
	grace, exists, err := e.grace(ctx, id)
	if err != nil || !exists {
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, grace+stopMargin)
	defer cancel()
	_, err = e.client.ContainerStop(limited, id, client.ContainerStopOptions{})
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return true, e.explain("stop", err)
	}
	return true, nil
}

// removeRest removes networks and volumes that belong to the project.
func (e *Engine) removeRest(ctx context.Context, filters client.Filters, volumes bool) (left []string, err error) {
	networks, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return nil, e.explain("list networks", err)
	}
	for _, n := range networks.Items {
		if _, err := e.client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
			if client.IsErrConnectionFailed(err) || ctx.Err() != nil {
				return left, e.explain("remove network "+n.Name, err)
			}
			left = append(left, fmt.Sprintf("network %s (%s)", n.Name, err))
		}
	}
	if !volumes {
		return left, nil
	}
	found, err := e.client.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	if err != nil {
		return left, e.explain("list volumes", err)
	}
	for _, v := range found.Items {
		if _, err := e.client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
			if client.IsErrConnectionFailed(err) || ctx.Err() != nil {
				return left, e.explain("remove volume "+v.Name, err)
			}
			left = append(left, fmt.Sprintf("volume %s (%s)", v.Name, err))
		}
	}
	return left, nil
}
