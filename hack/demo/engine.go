// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// stackLabel is how Compose marks everything of one project.
const stackLabel = "com.docker.compose.project"

// engine is the Docker engine that the demo's agents share. The demo looks only at stacks of its own prefix.
type engine struct {
	client *client.Client
	prefix string
}

// newEngine connects to an engine and returns its version and architecture too.
func newEngine(ctx context.Context, host, prefix string) (e *engine, version, arch string, err error) {
	c, err := client.New(client.WithHost(host))
	if err != nil {
		return nil, "", "", fmt.Errorf("connect to the engine at %s: %w", host, err)
	}
	v, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, "", "", fmt.Errorf("ask the engine at %s for its version: %w", host, err)
	}
	return &engine{client: c, prefix: prefix}, v.Version, v.Arch, nil
}

// runs is one running container.
type runs struct {
	id, name string
	digests  []string // of its image, as repository@digest
}

// running lists the running containers of a stack, with the digests of the images that they were started from.
func (e *engine) running(ctx context.Context, stack string) ([]runs, error) {
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{
		Filters: client.Filters{}.Add("label", stackLabel+"="+stack).Add("status", "running"),
	})
	if err != nil {
		return nil, fmt.Errorf("list the containers of %s: %w", stack, err)
	}
	var all []runs
	for _, c := range list.Items {
		image, err := e.client.ImageInspect(ctx, c.ImageID)
		if err != nil {
			return nil, fmt.Errorf("inspect the image of %s: %w", c.Names[0], err)
		}
		all = append(all, runs{id: c.ID, name: strings.TrimPrefix(c.Names[0], "/"), digests: image.RepoDigests})
	}
	return all, nil
}

// logs returns the last lines of all the demo's containers.
func (e *engine) logs(ctx context.Context) string {
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, c := range list.Items {
		if !strings.HasPrefix(c.Labels[stackLabel], e.prefix) {
			continue
		}
		fmt.Fprintf(&all, "%s: %s\n", strings.TrimPrefix(c.Names[0], "/"), c.Status)
		stream, err := e.client.ContainerLogs(ctx, c.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "5"})
		if err != nil {
			fmt.Fprintln(&all, err)
			continue
		}
		var text bytes.Buffer
		if _, err := stdcopy.StdCopy(&text, &text, stream); err != nil {
			fmt.Fprintln(&text, err)
		}
		_ = stream.Close() // read to its end
		for line := range strings.Lines(text.String()) {
			fmt.Fprint(&all, "  ", line)
		}
	}
	return all.String()
}

// removeAll removes the demo's containers, networks, volumes and the images of its registry; nothing else.
func (e *engine) removeAll(ctx context.Context, repository string) error {
	return errors.Join(e.removeContainers(ctx), e.removeNetworks(ctx), e.removeVolumes(ctx), e.removeImages(ctx, repository))
}

func (e *engine) removeContainers(ctx context.Context) error {
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", stackLabel)})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list.Items {
		if strings.HasPrefix(c.Labels[stackLabel], e.prefix) {
			_, err := e.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *engine) removeNetworks(ctx context.Context) error {
	list, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("label", stackLabel)})
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	var errs []error
	for _, n := range list.Items {
		if strings.HasPrefix(n.Labels[stackLabel], e.prefix) {
			_, err := e.client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *engine) removeVolumes(ctx context.Context) error {
	list, err := e.client.VolumeList(ctx, client.VolumeListOptions{Filters: client.Filters{}.Add("label", stackLabel)})
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	var errs []error
	for _, v := range list.Items {
		if strings.HasPrefix(v.Labels[stackLabel], e.prefix) {
			_, err := e.client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *engine) removeImages(ctx context.Context, repository string) error {
	if repository == "" {
		return nil
	}
	list, err := e.client.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("reference", repository)})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	var errs []error
	for _, image := range list.Items {
		for _, ref := range append(image.RepoTags, image.RepoDigests...) {
			if strings.HasPrefix(ref, repository+":") || strings.HasPrefix(ref, repository+"@") {
				_, err := e.client.ImageRemove(ctx, ref, client.ImageRemoveOptions{})
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// left lists what of the demo is still on the engine.
func (e *engine) left(ctx context.Context, repository string) ([]string, error) {
	var left []string
	containers, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, c := range containers.Items {
		if strings.HasPrefix(c.Labels[stackLabel], e.prefix) {
			left = append(left, "container "+c.Names[0])
		}
	}
	networks, err := e.client.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range networks.Items {
		if strings.HasPrefix(n.Name, e.prefix) {
			left = append(left, "network "+n.Name)
		}
	}
	images, err := e.client.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("reference", repository)})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	for _, i := range images.Items {
		left = append(left, "image "+i.ID)
	}
	return left, nil
}
