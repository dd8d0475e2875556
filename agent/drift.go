// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/agent/converge"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// drift adds to a verdict what health alone does not see: containers that somebody changed or added. What is to be healed
// counts as down, service by service; what is only to be reported is returned in words.
func (c *convergence) drift(verdict *health.Verdict) string {
	var report []string
	heals := c.spec.Strategy.Drift != v1alpha1.DriftReport
	note := func(service, message string) {
		if heals {
			markDown(verdict, service, message)
		} else {
			report = append(report, service+": "+message)
		}
	}
	for _, step := range c.plan.Steps {
		if step.Action == converge.Recreate || step.Action == converge.Replace {
			note(step.Service, step.Why)
		} else if step.Action == converge.Start && !heals {
			report = append(report, step.Service+": "+step.Why)
		}
	}
	for _, r := range c.plan.Remove {
		note(r.Service, fmt.Sprintf("%s is to be removed: %s", r.Name, r.Why))
	}
	for _, r := range c.plan.Foreign {
		report = append(report, fmt.Sprintf("%s: %s", r.Name, r.Why))
	}
	return strings.Join(report, "; ")
}

// markDown makes a service count as down, unless it does already; one that the compose file does not know is added.
func markDown(verdict *health.Verdict, service, message string) {
	verdict.Status = health.Down
	i := slices.IndexFunc(verdict.Services, func(s health.ServiceVerdict) bool { return s.Name == service })
	switch {
	case i < 0:
		verdict.Services = append(verdict.Services, health.ServiceVerdict{Name: service, Status: health.Down, Check: health.CheckNone, Message: message})
	case verdict.Services[i].Status != health.Down:
		verdict.Services[i].Status, verdict.Services[i].Message = health.Down, message
	}
}
