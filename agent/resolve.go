// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// resolved is a deployment's compose file with values put in, admitted, and every image pinned.
type resolved struct {
	uid     string
	project *types.Project
	// written are the images as the compose file names them, by service.
	written  map[string]string
	services []health.Service
	checks   []v1alpha1.HealthCheck
	// labels are put on every container. They stay the same from one release to the next.
	labels map[string]string
	// jobs run once, before anything is replaced; they are no part of project and services.
	jobs jobs
	// unready says which file of the server is not there or not to be read, so that no container can be made.
	unready error
}

// resolve reads the compose file of a deployment that was admitted before, and the server's files as they are now. Whether
// it would be admitted today does not matter: what runs is kept running.
func (h *hostFiles) resolve(ctx context.Context, d *state.Deployment) (*resolved, error) {
	r, err := load(ctx, *d)
	if err != nil {
		return nil, err
	}
	r.unready = h.read(r.project, d)
	r.localise(d.Local)
	return r, r.takeOutJobs()
}

// admit reads a deployment's compose file and judges it by the host's policy, before any file of the server is opened.
func (h *hostFiles) admit(ctx context.Context, d *state.Deployment) (*resolved, error) {
	r, err := load(ctx, *d)
	if err != nil {
		return nil, err
	}
	policy, err := h.policy.Current()
	if err != nil {
		return nil, err
	}
	subject := hostpolicy.Subject{Project: d.Spec.Project, Environment: d.Spec.Environment, Model: r.project, Checks: r.checks}
	if err := policy.Admit(subject, h.server); err != nil {
		return nil, err
	}
	if err := h.read(r.project, d); err != nil {
		return nil, err
	}
	r.localise(d.Local)
	return r, r.takeOutJobs()
}

// load reads a deployment's compose file, jobs included. Nothing of the server is looked at.
func load(ctx context.Context, d state.Deployment) (*resolved, error) {
	values := maps.Clone(d.Spec.Values)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, d.Secrets.Values())
	if hash := composefile.Hash(d.Spec.Compose); hash != d.Spec.ComposeHash {
		return nil, fmt.Errorf("the compose file has the hash %s, not %s", hash, d.Spec.ComposeHash)
	}
	project, err := composefile.Load(ctx, d.Spec.Compose, d.Spec.ComposeProject, values)
	if err != nil {
		return nil, err
	}
	pins := make(map[string]string, len(d.Spec.Images))
	for _, image := range d.Spec.Images {
		pins[image.Service] = image.Image
	}
	r := &resolved{uid: d.UID, project: project, written: composefile.Images(project), labels: map[string]string{
		v1alpha1.LabelProject: d.Spec.Project, v1alpha1.LabelEnvironment: d.Spec.Environment,
	}}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		service := project.Services[name]
		pin, found := pins[name]
		if !found {
			return nil, fmt.Errorf("services.%s: the authorization names no digest for it", name)
		}
		if err := compose.CheckPinned(pin); err != nil {
			return nil, fmt.Errorf("services.%s: %w", name, err)
		}
		service.Image = pin
		project.Services[name] = service
		r.services = append(r.services, wanted(service))
	}
	for i, check := range d.Spec.HealthChecks {
		if check, err = interpolated(check, values); err != nil {
			return nil, fmt.Errorf("healthChecks[%d]: %w", i, err)
		}
		r.checks = append(r.checks, check)
	}
	return r, nil
}

// wanted is what a service must look like.
func wanted(service types.ServiceConfig) health.Service {
	policy, _, _ := strings.Cut(service.Restart, ":")
	restarts := policy == types.RestartPolicyAlways || policy == types.RestartPolicyUnlessStopped || policy == types.RestartPolicyOnFailure
	if service.Restart == "" && service.Deploy != nil && service.Deploy.RestartPolicy != nil {
		restarts = service.Deploy.RestartPolicy.Condition != "none"
	}
	return health.Service{
		Name: service.Name, Image: service.Image, Replicas: service.GetScale(), Restarts: restarts,
		OneShot: policy == types.RestartPolicyNo || policy == types.RestartPolicyOnFailure,
	}
}

func interpolated(check v1alpha1.HealthCheck, values map[string]string) (v1alpha1.HealthCheck, error) {
	var err error
	if check.HTTP != nil {
		http := *check.HTTP
		if http.URL, err = composefile.Interpolate(http.URL, values); err != nil {
			return check, fmt.Errorf("http.url: %w", err)
		}
		check.HTTP = &http
	}
	if check.TCP != nil {
		tcp := *check.TCP
		if tcp.Address, err = composefile.Interpolate(tcp.Address, values); err != nil {
			return check, fmt.Errorf("tcp.address: %w", err)
		}
		check.TCP = &tcp
	}
	if check.Exec != nil {
		exec := *check.Exec
		exec.Command = slices.Clone(exec.Command)
		for i := range exec.Command {
			if exec.Command[i], err = composefile.Interpolate(exec.Command[i], values); err != nil {
				return check, fmt.Errorf("exec.command[%d]: %w", i, err)
			}
		}
		check.Exec = &exec
	}
	return check, nil
}

// images to pull, each once.
func (r *resolved) images() []string {
	var list []string
	for _, service := range r.services {
		list = append(list, service.Image)
	}
	for _, image := range r.jobImages() {
		list = append(list, image)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// servicesOf names the services that use an image, for messages.
func (r *resolved) servicesOf(image string) string {
	var names []string
	for _, service := range r.services {
		if service.Image == image {
			names = append(names, service.Name)
		}
	}
	for job, used := range r.jobImages() {
		if used == image {
			names = append(names, job)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// minSecret is the length from which a secret value is worth hiding; shorter ones would hide half of every log.
const minSecret = 4

// redact removes secret values from a text that leaves the host.
func redact(text string, secrets map[string]string) string {
	var values []string
	for _, value := range secrets {
		for _, line := range append(strings.Split(value, "\n"), value) { // a key in PEM is logged line by line
			if line = strings.TrimSpace(line); len(line) >= minSecret {
				values = append(values, line)
			}
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // one may contain another
	for _, value := range values {
		text = strings.ReplaceAll(text, value, "[redacted]")
	}
	return text
}
