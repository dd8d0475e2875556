// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// jobLook is the time after which a job that says nothing is looked at again: the event of its end may have been missed.
const jobLook = 5 * time.Second

// jobs are the services of a release that run once before it starts.
type jobs struct {
	// project is the model with the jobs in it; the one that is brought up has none.
	project *types.Project
	byName  map[string]composefile.Job
	// order in which they run.
	order []string
}

// takeOutJobs moves the jobs out of the model that is brought up and kept running. What depends on them depends on nothing
// then: they have ended before it starts.
func (r *resolved) takeOutJobs() error {
	byName, order, err := composefile.Jobs(r.project)
	if err != nil || len(order) == 0 {
		return err
	}
	whole := *r.project
	r.jobs = jobs{project: &whole, byName: byName, order: order}
	steady := types.Services{}
	for name, service := range r.project.Services {
		if _, isJob := byName[name]; isJob {
			continue
		}
		service.DependsOn = maps.Clone(service.DependsOn)
		maps.DeleteFunc(service.DependsOn, func(on string, _ types.ServiceDependency) bool { _, isJob := byName[on]; return isJob })
		steady[name] = service
	}
	r.project.Services = steady
	r.services = slices.DeleteFunc(r.services, func(s health.Service) bool { _, isJob := byName[s.Name]; return isJob })
	return nil
}

// hasJobs says whether something must run before the release starts.
func (w *worker) hasJobs(target *resolved) bool { return len(target.jobs.order) > 0 }

// migrate runs the pre-deploy jobs that have not ended well yet, one after the other. What serves still serves.
func (w *worker) migrate(ctx context.Context, target *resolved) error {
	for i, name := range target.jobs.order {
		if slices.Contains(w.disk.Attempt.Jobs, name) {
			continue
		}
		if w.disk.Attempt.JobBegun != name && w.newer(ctx) {
			return errInterrupted
		}
		w.say(w.disk.Attempt.UID, fmt.Sprintf("job %s (%d of %d)", name, i+1, len(target.jobs.order)))
		if err := w.ensure(ctx, target, name); err != nil {
			return err
		}
		if err := w.runJob(ctx, target, name); err != nil {
			return err
		}
		w.disk.Attempt.Jobs, w.disk.Attempt.JobBegun = append(w.disk.Attempt.Jobs, name), ""
		if err := w.save(); err != nil {
			return err
		}
		w.log.Info("job has ended well", "job", name, "rollout", w.disk.Attempt.Name)
	}
	return nil
}

// passNoReturn notes, before it happens, that an irreversible release begins to change data: from there on, nothing goes back
// by itself, neither for this rollout nor for a later one, until one is healthy.
func (w *worker) passNoReturn() error {
	if spec := w.disk.Attempt.Spec; !spec.Irreversible || w.disk.NoWayBack == spec.Release.Name {
		return nil
	}
	w.disk.NoWayBack = w.disk.Attempt.Spec.Release.Name
	return w.save()
}

// ensure makes the services that a job needs run and be healthy. Those that run already are left alone, whatever their image.
func (w *worker) ensure(ctx context.Context, target *resolved, job string) error {
	needs := target.jobs.byName[job].Needs
	deadline := time.Now().Add(timeoutOf(w.disk.Attempt.Spec))
	for started := false; ; {
		containers, err := w.agent.engine.Containers(ctx, target.project.Name)
		if err != nil {
			return err
		}
		missing, waiting := standing(needs, containers)
		switch {
		case len(missing)+len(waiting) == 0:
			return nil
		case len(missing) > 0 && !started:
			started = true
			if err := w.up(ctx, target, w.disk.Attempt.Spec, missing); err != nil {
				return err
			}
			continue
		case time.Now().After(deadline):
			return &failed{v1alpha1.ReasonStartFailed, fmt.Errorf("job %s needs %s, which does not run well within %s",
				job, strings.Join(append(missing, waiting...), ", "), timeoutOf(w.disk.Attempt.Spec)), false}
		}
		w.say(w.disk.Attempt.UID, fmt.Sprintf("job %s waits for %s", job, strings.Join(append(missing, waiting...), ", ")))
		if err := w.pause(ctx, earliest(deadline.Add(time.Millisecond), time.Now().Add(jobLook)), nil); err != nil {
			return err
		}
	}
}

// standing sorts out the services of which no container runs, and those of which none is healthy.
func standing(needs []string, containers []health.Container) (missing, waiting []string) {
	for _, name := range needs {
		running, well := false, false
		for _, c := range containers {
			if c.Service == name && c.State == health.StateRunning {
				running = true
				well = well || c.Check == health.CheckNone || c.Check == health.CheckHealthy
			}
		}
		switch {
		case !running:
			missing = append(missing, name)
		case !well:
			waiting = append(waiting, name)
		}
	}
	return missing, waiting
}

// runJob runs a job to its end, or follows one that an agent before this one had started. It never starts a job of this
// rollout again that has run.
func (w *worker) runJob(ctx context.Context, target *resolved, name string) error {
	attempt := w.disk.Attempt
	engine := w.agent.engine
	job := compose.Job{Service: name, Rollout: attempt.UID, Name: fmt.Sprintf("%s-%s-r%d", target.project.Name, name, attempt.Spec.Sequence)}
	c, _, exists, err := engine.FindJob(ctx, target.project.Name, job)
	if err != nil {
		return err
	}
	if !exists {
		if attempt.JobBegun == name {
			return &failed{v1alpha1.ReasonJobFailed, fmt.Errorf("the container of job %s is gone, so that nobody knows how it ended; it is not run twice", name), false}
		}
		if err := w.agent.files.check(target); err != nil {
			return &failed{v1alpha1.ReasonJobFailed, fmt.Errorf("job %s: %w", name, err), false}
		}
		err := engine.CreateJob(ctx, target.jobs.project, target.labels, job)
		if w.vanished(ctx, target, err) {
			if err := w.pull(ctx, target); err != nil {
				return err
			}
			err = engine.CreateJob(ctx, target.jobs.project, target.labels, job)
		}
		if err != nil {
			return w.jobFault(ctx, name, err)
		}
		if c, _, exists, err = engine.FindJob(ctx, target.project.Name, job); err != nil {
			return err
		} else if !exists {
			return fmt.Errorf("the container of job %s was removed at once", name)
		}
	}
	if c.State == health.StateCreated {
		if err := w.passNoReturn(); err != nil {
			return err
		}
		attempt.JobBegun = name
		if err := w.save(); err != nil {
			return err
		}
		if err := engine.StartJob(ctx, target.jobs.project, job, c.ID); err != nil {
			return w.jobFault(ctx, name, err)
		}
	}
	return w.awaitJob(ctx, target, job)
}

// jobFault tells an error of the engine about a job from one that holds everything up.
func (w *worker) jobFault(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) {
		return err
	}
	return &failed{v1alpha1.ReasonJobFailed, fmt.Errorf("job %s: %w", name, err), false}
}

// awaitJob waits for the end of a job and judges it. A newer Rollout waits too: a migration is not cut off half-way.
func (w *worker) awaitJob(ctx context.Context, target *resolved, job compose.Job) error {
	timeout := target.jobs.byName[job.Service].Timeout
	for {
		c, ended, exists, err := w.agent.engine.FindJob(ctx, target.project.Name, job)
		if err != nil {
			return err
		}
		if !exists {
			return &failed{v1alpha1.ReasonJobFailed, fmt.Errorf("the container of job %s was removed before it ended", job.Service), false}
		}
		deadline := c.StartedAt.Add(timeout)
		switch {
		case c.State == health.StateExited || c.State == health.StateDead:
			if took := ended.Sub(c.StartedAt); took > timeout {
				return w.jobFailed(ctx, job.Service, c, v1alpha1.ReasonJobTimeout, fmt.Sprintf("took longer than %s", timeout))
			}
			return w.judgeJob(ctx, job.Service, c)
		case !time.Now().Before(deadline):
			if err := w.agent.engine.StopJob(ctx, c.ID); err != nil {
				return err
			}
			return w.jobFailed(ctx, job.Service, c, v1alpha1.ReasonJobTimeout, fmt.Sprintf("was stopped, because it took longer than %s", timeout))
		}
		timer := time.NewTimer(min(jobLook, max(time.Millisecond, time.Until(deadline))))
		select {
		case <-ctx.Done():
		case <-w.stirred:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (w *worker) judgeJob(ctx context.Context, name string, c health.Container) error {
	if c.OOMKilled || c.Error != "" || c.ExitCode != 0 {
		return w.jobFailed(ctx, name, c, v1alpha1.ReasonJobFailed, c.Ending())
	}
	return nil
}

// jobFailed keeps a job's last words for the report. Its container stays, so that people can read the rest.
func (w *worker) jobFailed(ctx context.Context, name string, c health.Container, reason, what string) error {
	words, err := w.agent.engine.Logs(ctx, c.ID, logLines, logBytes)
	if err != nil {
		w.log.Info("logs cannot be read", "container", c.Name, "error", err.Error())
	}
	w.live.words = nil
	for _, line := range words {
		w.live.words = append(w.live.words, printable(redact(name+": "+line, w.disk.Attempt.Secrets)))
	}
	return &failed{reason, fmt.Errorf("job %s %s (container %s)", name, what, c.Name), false}
}

// jobImages are the images of jobs, by service.
func (r *resolved) jobImages() map[string]string {
	images := map[string]string{}
	for _, name := range r.jobs.order {
		images[name] = r.jobs.project.Services[name].Image
	}
	return images
}
