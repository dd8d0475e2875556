// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/health"
)

// Labels of the container of a job.
const (
	JobLabel     = "sirrat.dynors.com/job"
	RolloutLabel = "sirrat.dynors.com/rollout"
)

// Job is a container that runs once and ends.
type Job struct {
	// Service of the model that describes it.
	Service string
	// Rollout's uid: there is at most one container for each job of a rollout.
	Rollout string
	// Name of the container.
	Name string
}

// FindJob looks for the container of a job, in whatever state it is.
func (e *Engine) FindJob(ctx context.Context, project string, job Job) (found health.Container, ended time.Time, exists bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	filters := client.Filters{}.Add("label", api.ProjectLabel+"="+project, JobLabel+"="+job.Service, RolloutLabel+"="+job.Rollout)
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return found, ended, false, e.explain("look for job "+job.Service, err)
	}
	if len(list.Items) == 0 {
		return found, ended, false, nil
	}
	inspected, err := e.client.ContainerInspect(ctx, list.Items[0].ID, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return found, ended, false, nil
	}
	if err != nil {
		return found, ended, false, e.explain("inspect job "+job.Service, err)
	}
	if s := inspected.Container.State; s != nil {
		if at, err := time.Parse(time.RFC3339Nano, s.FinishedAt); err == nil && at.Year() > 1 {
			ended = at
		}
	}
	return observed(inspected.Container), ended, true, nil
}

// CreateJob makes the container of a job, with the networks and volumes that it needs, and does not start it. Nothing else
// of the project is touched.
func (e *Engine) CreateJob(ctx context.Context, project *types.Project, labels map[string]string, job Job) error {
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout) // networks and volumes are made one after the other
	defer cancel()
	service, found := project.Services[job.Service]
	if !found {
		return fmt.Errorf("job %s: no such service", job.Service)
	}
	only := *project
	only.Services, only.DisabledServices = types.Services{job.Service: oneOff(project, service, labels, job)}, nil
	err := e.sdk.Create(ctx, &only, api.CreateOptions{
		Services: []string{job.Service}, IgnoreOrphans: true, QuietPull: true, SkipProviders: true, Recreate: api.RecreateNever, RecreateDependencies: api.RecreateNever,
	})
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return e.explain("create job "+job.Service, err)
	}
	return nil
}

// oneOff is a service as it runs as a job: once, under no port, and known to nobody as a replica.
func oneOff(project *types.Project, service types.ServiceConfig, labels map[string]string, job Job) types.ServiceConfig {
	service.PullPolicy, service.Build = types.PullPolicyNever, nil
	service.ContainerName, service.Restart = job.Name, types.RestartPolicyNo
	service.Ports, service.DependsOn = nil, nil
	service.HealthCheck = &types.HealthCheckConfig{Disable: true}
	service.Scale = new(int)
	*service.Scale = 1
	if service.Deploy != nil {
		deploy := *service.Deploy
		deploy.RestartPolicy, deploy.Replicas = nil, nil
		service.Deploy = &deploy
	}
	service.CustomLabels = types.Labels{
		api.ProjectLabel: project.Name, api.ServiceLabel: job.Service, api.VersionLabel: api.ComposeVersion,
		api.WorkingDirLabel: project.WorkingDir, api.ConfigFilesLabel: "", api.OneoffLabel: "True",
	}
	service.Labels = maps.Clone(service.Labels)
	if service.Labels == nil {
		service.Labels = types.Labels{}
	}
	maps.Copy(service.Labels, labels)
	service.Labels[JobLabel], service.Labels[RolloutLabel] = job.Service, job.Rollout
	return service
}

// StartJob starts a job's container that was created, with its configs and secrets in it.
func (e *Engine) StartJob(ctx context.Context, project *types.Project, job Job, container string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	service := project.Services[job.Service]
	archive, err := injected(project, service)
	if err != nil {
		return err
	}
	if archive != nil {
		_, err := e.client.CopyToContainer(ctx, container, client.CopyToContainerOptions{DestinationPath: "/", Content: archive, CopyUIDGID: true})
		if err != nil {
			return e.explain("give job "+job.Service+" its configs and secrets", err)
		}
	}
	if _, err := e.client.ContainerStart(ctx, container, client.ContainerStartOptions{}); err != nil {
		return e.explain("start job "+job.Service, err)
	}
	return nil
}

// StopJob kills a job that took too long.
func (e *Engine) StopJob(ctx context.Context, container string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	_, err := e.client.ContainerStop(ctx, container, client.ContainerStopOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return e.explain("stop a job", err)
	}
	return nil
}

// RemoveJobs removes the containers of a project's jobs that have ended, except those of one rollout.
func (e *Engine) RemoveJobs(ctx context.Context, project, except string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	filters := client.Filters{}.Add("label", api.ProjectLabel+"="+project, JobLabel)
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return e.explain("look for jobs", err)
	}
	for _, c := range list.Items {
		if c.Labels[RolloutLabel] == except || c.State == "running" {
			continue
		}
		if _, err := e.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{RemoveVolumes: true}); err != nil && !errdefs.IsNotFound(err) {
			return e.explain("remove the job "+strings.Join(c.Names, ""), err)
		}
	}
	return nil
}

// injected is an archive of the configs and secrets of a service that are not files of the server; nil when there are none.
func injected(project *types.Project, service types.ServiceConfig) (*bytes.Buffer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	some := false
	add := func(folder string, file types.FileReferenceConfig, source types.FileObjectConfig) error {
		content := source.Content
		if content == "" && source.Environment != "" {
			content = project.Environment[source.Environment]
		}
		if content == "" {
			return nil
		}
		some = true
		target := cmp.Or(file.Target, file.Source)
		if !strings.HasPrefix(target, "/") {
			target = folder + target
		}
		header := &tar.Header{Name: target, Size: int64(len(content)), Mode: 0o444, ModTime: time.Unix(0, 0)}
		if file.Mode != nil {
			header.Mode = int64(*file.Mode)
		}
		var err error
		if header.Uid, err = id(file.UID); err != nil {
			return fmt.Errorf("uid of %s: %w", file.Source, err)
		}
		if header.Gid, err = id(file.GID); err != nil {
			return fmt.Errorf("gid of %s: %w", file.Source, err)
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write([]byte(content))
		return err
	}
	for _, c := range service.Configs {
		if err := add("/", types.FileReferenceConfig(c), types.FileObjectConfig(project.Configs[c.Source])); err != nil {
			return nil, err
		}
	}
	for _, s := range service.Secrets {
		if err := add("/run/secrets/", types.FileReferenceConfig(s), types.FileObjectConfig(project.Secrets[s.Source])); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil || !some {
		return nil, err
	}
	return &archive, nil
}

func id(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.Atoi(text)
}
