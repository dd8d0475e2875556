// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// Extension is the key under which a service says what the Compose specification has no word for.
const Extension = "x-sirrat"

// PreDeploy is the job that runs once for each rollout, before anything is replaced.
const PreDeploy = "pre-deploy"

// Times of a job.
const (
	DefaultJobTimeout = 10 * time.Minute
	minJobTimeout     = time.Second
	maxJobTimeout     = 24 * time.Hour
)

// Job is a service that runs once for each rollout and ends, such as a migration:
//
//	services:
//	  migrate:
//	    image: registry.example/backend
//	    command: [migrate]
//	    depends_on: [db]
//	    x-sirrat: {job: pre-deploy, timeout: 10m}
type Job struct {
	// Timeout after which it is stopped and has failed. From 1s to 24h; 10m when the file gives none.
	Timeout time.Duration
	// Needs are the services that must run before it starts, themselves no jobs.
	Needs []string
}

// Jobs returns the jobs of a model by service, and their names in the order in which they run.
func Jobs(project *types.Project) (jobs map[string]Job, order []string, err error) {
	jobs = map[string]Job{}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		job, found, err := jobOf(project.Services[name])
		if err != nil {
			return nil, nil, fmt.Errorf("services.%s.%s.%w", name, Extension, err)
		}
		if found {
			jobs[name] = job
		}
	}
	seen := map[string]bool{}
	var visit func(name string, needs map[string]bool)
	visit = func(name string, needs map[string]bool) {
		if seen[name] && jobs[name].Timeout > 0 {
			return
		}
		_, isJob := jobs[name]
		if isJob {
			seen[name] = true
			needs = map[string]bool{}
		} else if needs[name] {
			return
		} else {
			needs[name] = true
		}
		for _, next := range slices.Sorted(maps.Keys(project.Services[name].DependsOn)) {
			if _, exists := project.Services[next]; exists {
				visit(next, needs)
			}
		}
		if isJob {
			job := jobs[name]
			job.Needs = slices.Sorted(maps.Keys(needs))
			jobs[name] = job
			order = append(order, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		visit(name, nil)
	}
	return jobs, order, nil
}

func jobOf(service types.ServiceConfig) (job Job, found bool, err error) {
	declared, found := service.Extensions[Extension]
	if !found {
		return Job{}, false, nil
	}
	members, ok := declared.(map[string]any)
	if !ok {
		return Job{}, false, fmt.Errorf("job: must be in a mapping such as {job: %s, timeout: 10m}", PreDeploy)
	}
	job.Timeout = DefaultJobTimeout
	for _, key := range slices.Sorted(maps.Keys(members)) {
		text, _ := members[key].(string)
		switch key {
		case "job":
			if text != PreDeploy {
				return Job{}, false, fmt.Errorf("job: must be %s", PreDeploy)
			}
		case "timeout":
			if job.Timeout, err = time.ParseDuration(text); err != nil || job.Timeout < minJobTimeout || job.Timeout > maxJobTimeout {
				return Job{}, false, fmt.Errorf("timeout: must be a duration from 1s to 24h, such as 10m")
			}
		case "sharedVolumes": // how its containers are replaced: agent/converge
			if _, ok := members[key].(bool); !ok {
				return Job{}, false, fmt.Errorf("sharedVolumes: must be true or false")
			}
		default:
			return Job{}, false, fmt.Errorf("%s: is not known; job, timeout and sharedVolumes are", strings.ToValidUTF8(key, ""))
		}
	}
	_, shared := members["sharedVolumes"]
	if _, given := members["job"]; !given && shared && len(members) == 1 {
		return Job{}, false, nil
	} else if !given {
		return Job{}, false, fmt.Errorf("job: is missing")
	}
	if service.GetScale() != 1 {
		return Job{}, false, fmt.Errorf("job: runs once, so it cannot have %d replicas", service.GetScale())
	}
	return job, true, nil
}
