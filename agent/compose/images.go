// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// ErrInUse is wrapped when an image is not removed because a container, running or not, is made from it.
var ErrInUse = errors.New("a container uses the image")

// RemoveImage removes an image, given by digest, and what only it was made of. Another name of the same image stays, and
// an image that a container uses is left alone with ErrInUse.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	image, present, err := e.Image(ctx, ref)
	if err != nil || !present {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout) // deleting layers takes its time on a busy disk
	defer cancel()
	using, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("ancestor", image.ID)})
	if err != nil {
		return e.explain("look for containers of image "+ref, err)
	}
	if len(using.Items) > 0 {
		return fmt.Errorf("%w: %s by %s", ErrInUse, ref, strings.Join(using.Items[0].Names, ""))
	}
	_, err = e.client.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return nil
	case errdefs.IsConflict(err):
		return fmt.Errorf("%w: %s: %w", ErrInUse, ref, err)
	}
	return e.explain("remove image "+ref, err)
}

// Published is a port of the server that a container has.
type Published struct {
	// Address that it listens on; empty or unspecified for all.
	Address  string
	Port     uint16
	Protocol string
	// Container that has it, and the compose project that it belongs to, if any.
	Container, Project string
}

// Published lists the ports that running containers have, of any project.
func (e *Engine) Published(ctx context.Context) ([]Published, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, e.explain("list containers", err)
	}
	var ports []Published
	for _, c := range list.Items {
		for _, p := range c.Ports {
			if p.PublicPort == 0 {
				continue
			}
			address := ""
			if p.IP.IsValid() && !p.IP.IsUnspecified() {
				address = p.IP.String()
			}
			ports = append(ports, Published{
				Address: address, Port: p.PublicPort, Protocol: p.Type,
				Container: strings.TrimPrefix(strings.Join(c.Names, ","), "/"), Project: c.Labels[api.ProjectLabel],
			})
		}
	}
	return ports, nil
}

// Layers are the unpacked layers that the engine has on disk, of any image.
func (e *Engine) Layers(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	list, err := e.client.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, e.explain("list images", err)
	}
	layers := map[string]bool{}
	for _, summary := range list.Items {
		image, err := e.client.ImageInspect(ctx, summary.ID)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, e.explain("inspect an image", err)
		}
		for _, layer := range image.RootFS.Layers {
			layers[layer] = true
		}
	}
	return layers, nil
}

// Exec runs a command in a running container, without a shell, and returns its exit code and the end of what it said.
func (e *Engine) Exec(ctx context.Context, container string, command []string, size int) (code int, said string, err error) {
	return e.exec(ctx, container, client.ExecCreateOptions{Cmd: command}, size)
}

func (e *Engine) exec(ctx context.Context, container string, o client.ExecCreateOptions, size int) (code int, said string, err error) {
	o.AttachStdout, o.AttachStderr = true, true
	created, err := e.client.ExecCreate(ctx, container, o)
	if err != nil {
		return 0, "", e.explain("run a command in a container", err)
	}
	stream, err := e.client.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, "", e.explain("run a command in a container", err)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	keep := &tailWriter{size: size}
	if _, err := stdcopy.StdCopy(keep, keep, stream.Reader); err != nil && !errors.Is(err, io.EOF) {
		if ctx.Err() != nil {
			return 0, "", fmt.Errorf("does not end: %w", ctx.Err())
		}
		return 0, "", e.explain("run a command in a container", err)
	}
	result, err := e.client.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
	if err != nil {
		return 0, "", e.explain("run a command in a container", err)
	}
	return result.ExitCode, strings.TrimSpace(strings.ToValidUTF8(keep.buf.String(), "\uFFFD")), nil
}
