// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/client"
)

// ContentLabel carries the hash of the configs and secrets that a container was given: Compose does not look at their
// content when it decides whether a container is up to date.
const ContentLabel = "sirrat.dynors.com/content"

// ErrVolumeDiverged is wrapped when a volume exists with other options than the compose file asks for. To recreate it would
// lose its data, which nobody but its owner may decide.
var ErrVolumeDiverged = errors.New("a volume exists with other options than the compose file gives, and only recreating it, which loses its data, would change them")

// Up makes the containers of a project what the model says, from images that are on disk already. labels are put on every
// container; they belong to the service's hash, so they must not change from one release to the next. services limits the
// work to some services, without those that they depend on; none means all, and removes containers of services that are no
// longer in the file. project is changed.
func (e *Engine) Up(ctx context.Context, project *types.Project, labels map[string]string, services ...string) error {
	if err := e.adoptInterrupted(ctx, project.Name); err != nil {
		return err
	}
	prepare(project, labels)
	partial := len(services) > 0
	if partial {
		var err error
		if project, err = project.WithSelectedServices(services, types.IgnoreDependencies); err != nil {
			return fmt.Errorf("select services: %w", err)
		}
	}
	err := e.sdk.Up(ctx, project, api.UpOptions{
		Create: api.CreateOptions{
			RemoveOrphans: !partial, IgnoreOrphans: partial, Inherit: true, QuietPull: true, SkipProviders: true,
			Recreate: api.RecreateDiverged, RecreateDependencies: api.RecreateDiverged,
		},
		Start: api.StartOptions{Project: project},
	})
	if ctxErr := ctx.Err(); ctxErr != nil { // a cancelled up may well return nil
		return ctxErr
	}
	if err != nil {
		return e.explain("compose up", err)
	}
	return nil
}

// prepare gives every service what its containers carry beyond the compose file; all of it is in the service's hash.
func prepare(project *types.Project, labels map[string]string) {
	for name, service := range project.Services {
		service.PullPolicy = types.PullPolicyNever
		service.Build = nil
		service.CustomLabels = types.Labels{
			api.ProjectLabel: project.Name, api.ServiceLabel: name, api.VersionLabel: api.ComposeVersion,
			api.WorkingDirLabel: project.WorkingDir, api.ConfigFilesLabel: "", api.OneoffLabel: "False",
		}
		service.Labels = maps.Clone(service.Labels)
		if service.Labels == nil {
			service.Labels = types.Labels{}
		}
		maps.Copy(service.Labels, labels)
		if hash := contentHash(project, service); hash != "" {
			service.Labels[ContentLabel] = hash
		}
		project.Services[name] = service
	}
}

// decline answers the SDK's only question, whether to recreate a volume, with no, and stops before anything is touched.
func decline(message string, _ bool) (bool, error) {
	return false, fmt.Errorf("%w (%s)", ErrVolumeDiverged, message)
}

// contentKey is the extension of a service that carries the hash of files of the server. It is no part of Compose's hash.
const contentKey = "x-sirrat-content"

// SetContent notes the hash of what a service is given from files of the server: it counts in ContentLabel.
func SetContent(service *types.ServiceConfig, hash string) {
	service.Extensions = maps.Clone(service.Extensions)
	if service.Extensions == nil {
		service.Extensions = types.Extensions{}
	}
	service.Extensions[contentKey] = hash
}

// contentHash covers the configs, secrets and files of a service; empty when it has none.
func contentHash(project *types.Project, service types.ServiceConfig) string {
	files, _ := service.Extensions[contentKey].(string)
	if len(service.Configs)+len(service.Secrets) == 0 && files == "" {
		return ""
	}
	sum := sha256.New()
	if files != "" {
		fmt.Fprintf(sum, "files %q\n", files)
	}
	add := func(kind, source string, object types.FileObjectConfig) {
		content := object.Content
		if content == "" && object.Environment != "" {
			content = project.Environment[object.Environment]
		}
		fmt.Fprintf(sum, "%s %q %q\n", kind, source, content)
	}
	for _, c := range service.Configs {
		add("config", c.Source, types.FileObjectConfig(project.Configs[c.Source]))
	}
	for _, s := range service.Secrets {
		add("secret", s.Source, types.FileObjectConfig(project.Secrets[s.Source]))
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// interruptedName is what Compose calls a container that is to replace another one, until the other one is gone.
var interruptedName = regexp.MustCompile(`^/?([0-9a-f]{12})_(.+)$`)

// adoptInterrupted tidies up after a recreation that was cut short: the new container goes when the old one is still there,
// and gets its name otherwise, since it has inherited the old one's anonymous volumes. It keeps its own when that is taken.
func (e *Engine) adoptInterrupted(ctx context.Context, project string) error {
	list, err := e.list(ctx, project)
	if err != nil {
		return err
	}
	for _, c := range list {
		match := interruptedName.FindStringSubmatch(slices.Concat(c.Names, []string{""})[0])
		if match == nil || c.Labels[api.ContainerReplaceLabel] == "" {
			continue
		}
		replaced := false
		for _, other := range list {
			replaced = replaced || strings.HasPrefix(other.ID, match[1])
		}
		if replaced {
			if _, err := e.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
				return e.explain("remove the unfinished container "+match[0], err)
			}
			continue
		}
		_, err := e.client.ContainerRename(ctx, c.ID, client.ContainerRenameOptions{NewName: match[2]})
		if errdefs.IsConflict(err) { // a container of somebody else has the name: Compose finds ours by its labels
			continue
		}
		if err != nil {
			return e.explain("name the unfinished container "+match[0], err)
		}
	}
	return nil
}
