// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"slices"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Jobs: a job runs once in each order that becomes healthy, never twice in any, whatever is killed, and nothing else of the
// order is created before it has ended well.
func Jobs(r Record) (violations []string) {
	healthy := map[string]bool{}
	started, well := map[slot]map[string]int{}, map[slot]bool{}
	for i, e := range r.Entries {
		s := slot{e.Service, e.Image}
		switch {
		case e.Kind == Report && e.Phase == v1alpha1.RolloutHealthy:
			healthy[e.Rollout] = true
		case e.Kind == Container && e.Action == Start:
			if started[s] == nil {
				started[s] = map[string]int{}
			}
			started[s][e.ID]++
		case e.Kind == Container && e.Action == Die:
			well[s] = e.ExitCode == "0"
		case e.Kind == Container && e.Action == Create:
			for _, o := range r.orders(i) {
				if slices.Contains(o.Jobs, e.Service) || !o.names(e.Service, e.Image) {
					continue
				}
				for _, job := range o.Jobs {
					if !well[slot{job, o.Images[job]}] {
						violations = append(violations, fmt.Sprintf("J: a container of %s was created before job %s had ended well", e.Service, job))
					}
				}
			}
		}
	}
	for _, o := range r.orders(len(r.Entries)) {
		for _, job := range o.Jobs {
			times := 0
			for _, n := range started[slot{job, o.Images[job]}] {
				times += n
			}
			if times > 1 || times == 0 && healthy[o.Rollout] {
				violations = append(violations, fmt.Sprintf("J: job %s of %s ran %d times, not once", job, o.Rollout, times))
			}
		}
	}
	return violations
}
