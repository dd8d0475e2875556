// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/compose/v5/pkg/api"
	sdk "github.com/docker/compose/v5/pkg/compose"
)

// Hashes are the configuration hashes that the containers of each service would carry if they were made now, by service. A
// service whose hash depends on the containers of another one has none. project is changed.
func Hashes(project *types.Project, labels map[string]string) (map[string]string, error) {
	prepare(project, labels)
	hashes := make(map[string]string, len(project.Services))
	for name, service := range project.Services {
		if dependsOnContainers(service) {
			continue
		}
		hash, err := sdk.ServiceHash(service)
		if err != nil {
			return nil, fmt.Errorf("services.%s: %w", name, err)
		}
		hashes[name] = hash
	}
	return hashes, nil
}

// dependsOnContainers says that Compose puts ids of containers into the service before it hashes it.
func dependsOnContainers(service types.ServiceConfig) bool {
	if len(service.VolumesFrom) > 0 {
		return true
	}
	for _, mode := range []string{service.NetworkMode, service.Ipc, service.Pid} {
		if strings.HasPrefix(mode, types.ServicePrefix) || strings.HasPrefix(mode, types.ContainerPrefix) {
			return true
		}
	}
	return false
}

// ContainerHashes are the configuration hashes that the containers of a project were made with, by container id.
func (e *Engine) ContainerHashes(ctx context.Context, project string) (map[string]string, error) {
	list, err := e.list(ctx, project)
	if err != nil {
		return nil, err
	}
	hashes := make(map[string]string, len(list))
	for _, c := range list {
		hashes[c.ID] = c.Labels[api.ConfigHashLabel]
	}
	return hashes, nil
}
