// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	sdk "github.com/docker/compose/v5/pkg/compose"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/converge"
	"gitlab.com/dynors/sirrat/agent/health"
)

// ProjectLabel is carried by every container of a compose project, whoever made it. Its value is the project's name.
const ProjectLabel = api.ProjectLabel

// OwnLabel is carried by every container that SIRRAT made, and by no other.
const OwnLabel = "sirrat.dynors.com/project"

// View is what an engine has of one compose project.
type View struct {
	// Containers of the project, in the order of services and numbers; those of hooks excepted.
	Containers []converge.Container
	// Networks of the engine: name → id.
	Networks map[string]string
}

// Health is what the health of services is judged by: their containers, without what somebody runs by hand.
func (v View) Health() []health.Container {
	var list []health.Container
	for _, c := range v.Containers {
		if !c.OneOff {
			list = append(list, c.Container)
		}
	}
	return list
}

// Look reports what the engine has of a compose project.
func (e *Engine) Look(ctx context.Context, project string) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	v := View{Networks: map[string]string{}}
	networks, err := e.client.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return v, e.explain("list networks", err)
	}
	for _, n := range networks.Items {
		v.Networks[n.Name] = n.ID
	}
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", api.ProjectLabel+"="+project),
	})
	if err != nil {
		return v, e.explain("list containers", err)
	}
	for _, summary := range list.Items {
		if summary.Labels[api.HookLabel] != "" {
			continue
		}
		inspected, err := e.client.ContainerInspect(ctx, summary.ID, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return v, e.explain("inspect a container", err)
		}
		v.Containers = append(v.Containers, viewed(inspected.Container))
	}
	slices.SortFunc(v.Containers, func(a, b converge.Container) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name))
	})
	return v, nil
}

func viewed(c container.InspectResponse) converge.Container {
	v := converge.Container{Container: observed(c), Networks: map[string]string{}}
	if c.Config != nil {
		labels := c.Config.Labels
		v.Hash, v.Ours, v.OneOff = labels[api.ConfigHashLabel], labels[OwnLabel] != "", labels[api.OneoffLabel] == "True"
		if number, err := strconv.Atoi(labels[api.ContainerNumberLabel]); err == nil { // somebody else's container has none
			v.Number = number
		}
	}
	if created, err := time.Parse(time.RFC3339Nano, c.Created); err == nil {
		v.Created = created
	}
	if c.NetworkSettings != nil {
		for name, endpoint := range c.NetworkSettings.Networks {
			v.Networks[name] = ""
			if endpoint != nil {
				v.Networks[name] = endpoint.NetworkID
			}
		}
	}
	if c.HostConfig != nil {
		v.Exclusive = len(c.HostConfig.PortBindings) > 0
	}
	for _, mount := range c.Mounts {
		if mount.Type == "volume" && anonymousName(mount.Name) {
			v.Anonymous = v.Anonymous || mount.RW
		} else {
			v.Exclusive = v.Exclusive || mount.RW
		}
	}
	return v
}

// anonymousName says whether the engine made up a volume's name: 64 hexadecimal digits.
func anonymousName(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// Model is a compose file's model, made ready to be applied, and what the planner must know of it.
type Model struct {
	project  *types.Project
	Services []converge.Service
}

// Service of that name.
func (m Model) Service(name string) converge.Service {
	for _, s := range m.Services {
		if s.Name == name {
			return s
		}
	}
	return converge.Service{Name: name}
}

// Source is what a Model is made from.
type Source struct {
	// Project with every image pinned. It is not changed.
	Project *types.Project
	// Labels that every container gets. They belong to the hash of a service, so they must not change between releases.
	Labels map[string]string
	// Written are the images as the compose file names them, by service.
	Written map[string]string
	// StartFirst is what the environment asks for where a service does not say otherwise.
	StartFirst bool
}

// Model compares a source with what is on the engine.
func (e *Engine) Model(ctx context.Context, source Source, view View) (Model, error) {
	project, err := source.Project.WithServicesTransform(func(_ string, s types.ServiceConfig) (types.ServiceConfig, error) { return s, nil })
	if err != nil {
		return Model{}, fmt.Errorf("copy the model: %w", err)
	}
	byHand, err := hashesByHand(project, source.Written)
	if err != nil {
		return Model{}, err
	}
	prepare(project, source.Labels)
	m := Model{project: project}
	images := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		service := project.Services[name]
		if _, known := images[service.Image]; !known {
			if images[service.Image], err = e.ImageID(ctx, service.Image); err != nil {
				return m, err
			}
		}
		s := converge.Service{
			Name: name, Replicas: service.GetScale(), ByHand: byHand[name], ImageID: images[service.Image], Opaque: opaque(service),
			Networks: map[string]string{}, DependsOn: map[string]converge.Dependency{}, Shares: converge.Shared(service),
			OneShot: OneShot(service), Manner: converge.MannerOf(project, service, source.StartFirst),
		}
		if s.Hash, err = sdk.ServiceHash(withReferences(service, view)); err != nil {
			return m, fmt.Errorf("services.%s: %w", name, err)
		}
		for network := range service.Networks {
			full := project.Networks[network].Name
			s.Networks[full] = view.Networks[full]
		}
		for dependency, how := range service.DependsOn {
			s.DependsOn[dependency] = converge.Dependency{Condition: how.Condition, Restart: how.Restart}
		}
		m.Services = append(m.Services, s)
	}
	return m, nil
}

// opaque says that Compose changes a service before it hashes it, in ways that cannot be foretold here.
func opaque(service types.ServiceConfig) bool {
	return service.UseAPISocket || slices.ContainsFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == types.VolumeTypeImage
	})
}

// OneShot says that a service may end with exit code 0.
func OneShot(service types.ServiceConfig) bool {
	policy, _, _ := strings.Cut(service.Restart, ":")
	return policy == types.RestartPolicyNo || policy == types.RestartPolicyOnFailure
}

// ImageID is what the engine calls an image that is on disk; empty when it is not.
func (e *Engine) ImageID(ctx context.Context, ref string) (string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	inspected, err := e.client.ImageInspect(ctx, ref)
	switch {
	case errdefs.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", e.explain("look for image "+ref, err)
	}
	return inspected.ID, nil
}

// hashesByHand are the hashes that Compose's own command would give the services of the file as it is written. Services
// with configs or secrets have none: what their containers were given cannot be told from a hash.
func hashesByHand(project *types.Project, written map[string]string) (map[string]string, error) {
	hashes := map[string]string{}
	for name, service := range project.Services {
		if len(service.Configs)+len(service.Secrets) > 0 || written[name] == "" {
			continue
		}
		service.Image = written[name]
		hash, err := sdk.ServiceHash(service)
		if err != nil {
			return nil, fmt.Errorf("services.%s: %w", name, err)
		}
		hashes[name] = hash
	}
	return hashes, nil
}

// withReferences puts in ids of containers where Compose does so before it hashes a service.
func withReferences(service types.ServiceConfig, view View) types.ServiceConfig {
	first := func(name string) string {
		var found []converge.Container
		for _, c := range view.Containers {
			if c.Service == name && !c.OneOff && c.Hash != "" {
				found = append(found, c)
			}
		}
		if len(found) == 0 {
			return ""
		}
		return slices.MinFunc(found, func(a, b converge.Container) int { return cmp.Compare(a.Name, b.Name) }).ID
	}
	service.VolumesFrom = slices.Clone(service.VolumesFrom)
	for i, from := range service.VolumesFrom {
		name, _, _ := strings.Cut(from, ":")
		id := first(name)
		if id == "" {
			return service
		}
		service.VolumesFrom[i] = id
	}
	for _, mode := range []*string{&service.NetworkMode, &service.Ipc, &service.Pid} {
		if name, found := strings.CutPrefix(*mode, types.ServicePrefix); found {
			id := first(name)
			if id == "" {
				return service
			}
			*mode = types.ContainerPrefix + id
		}
	}
	return service
}
