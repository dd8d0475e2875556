// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Jobs run in the order of what they depend on, also through services in between, and name what must run before them.
func TestJobs(t *testing.T) {
	const text = `
services:
  web: {image: a, depends_on: [migrate], x-sirrat: {sharedVolumes: true}}
  migrate: {image: a, depends_on: [db, seed], x-sirrat: {job: pre-deploy, timeout: "${TIMEOUT}"}}
  seed: {image: a, depends_on: [cache], x-sirrat: {job: pre-deploy}}
  db: {image: a, depends_on: [prepare]}
  cache: {image: a}
  prepare: {image: a, x-sirrat: {job: pre-deploy}}
`
	project, err := Load(t.Context(), text, "p", map[string]string{"TIMEOUT": "90s"})
	if err != nil {
		t.Fatal(err)
	}
	jobs, order, err := Jobs(project)
	if err != nil {
		t.Fatal(err)
	}
	before := func(a, b string) bool { return slices.Index(order, a) < slices.Index(order, b) }
	if len(order) != 3 || !before("prepare", "migrate") || !before("seed", "migrate") {
		t.Errorf("order %v", order)
	}
	if got := jobs["migrate"]; got.Timeout != 90*time.Second || !slices.Equal(got.Needs, []string{"db"}) {
		t.Errorf("migrate: %+v", got)
	}
	if got := jobs["seed"]; got.Timeout != DefaultJobTimeout || !slices.Equal(got.Needs, []string{"cache"}) {
		t.Errorf("seed: %+v", got)
	}
	if got := jobs["prepare"]; len(got.Needs) != 0 {
		t.Errorf("prepare: %+v", got)
	}
}

func TestJobsRefuse(t *testing.T) {
	for name, c := range map[string]struct{ service, want string }{
		"other job":     {"x-sirrat: {job: post-deploy}", "services.web.x-sirrat.job: must be pre-deploy"},
		"no job":        {"x-sirrat: {timeout: 1m}", "services.web.x-sirrat.job: is missing"},
		"no mapping":    {"x-sirrat: pre-deploy", "services.web.x-sirrat.job: must be in a mapping"},
		"unknown":       {"x-sirrat: {job: pre-deploy, retries: 3}", "services.web.x-sirrat.retries: is not known"},
		"not a job":     {"x-sirrat: {sharedVolumes: often}", "services.web.x-sirrat.sharedVolumes: must be true or false"},
		"timeout":       {"x-sirrat: {job: pre-deploy, timeout: soon}", "services.web.x-sirrat.timeout: must be a duration"},
		"timeout short": {"x-sirrat: {job: pre-deploy, timeout: 1ms}", "services.web.x-sirrat.timeout: must be a duration"},
		"replicas":      {"scale: 2, x-sirrat: {job: pre-deploy}", "services.web.x-sirrat.job: runs once"},
	} {
		t.Run(name, func(t *testing.T) {
			project, err := Load(t.Context(), "services: {web: {image: a, "+c.service+"}}", "p", nil)
			if err == nil {
				_, _, err = Jobs(project)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
