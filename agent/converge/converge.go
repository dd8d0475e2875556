// SPDX-License-Identifier: Apache-2.0

// Package converge decides how the containers of a compose project become what its model says: services wanted × containers
// observed → for each service one step, in the order of their dependencies, and what is to be removed or only reported. A
// service whose containers are what they should be gets the step Keep, and nothing of it is touched.
//
// All that it knows it derives from containers, by the hash of the configuration that each was made with, so that an agent
// that was killed half-way decides the same thing again and ends with one generation of every service.
//
// It is pure: no client, context, logger, clock or disk. It may import agent/health and compose-go's model.
package converge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/agent/health"
)

// Action is what is done about one service.
type Action int

// The closed list of actions.
const (
	// Keep: its containers are what they should be.
	Keep Action = iota
	// Start what is missing or does not run; nothing that runs is touched.
	Start
	// Restart its containers, because a service was replaced that it declares to be restarted with.
	Restart
	// Recreate its containers in place.
	Recreate
	// Replace its containers in rounds: beside the old ones, or some at a time.
	Replace
)

func (a Action) String() string {
	return [...]string{"keep", "start", "restart", "recreate", "replace"}[a]
}

// Dependency is one entry of depends_on.
type Dependency struct {
	// Condition as in the compose file: service_started, service_healthy or service_completed_successfully.
	Condition string
	// Restart says to restart with the other one.
	Restart bool
}

// Service is what is wanted.
type Service struct {
	Name     string
	Replicas int
	// Hash of its configuration, as containers made for this release carry it.
	Hash string
	// Opaque says that Compose alone can tell whether a container is made from this configuration.
	Opaque bool
	// ByHand is the hash that containers carry which somebody made from the same file without SIRRAT; empty to accept none.
	ByHand string
	// ImageID is the image that its digest stands for on this engine; empty means that it is not compared.
	ImageID string
	// Networks that it joins: name → id, empty where the engine has no such network.
	Networks map[string]string
	// DependsOn are the services that it is started after.
	DependsOn map[string]Dependency
	// Shares are services whose namespaces or volumes it uses: it must be recreated with them.
	Shares []string
	// OneShot says that it may end with exit code 0.
	OneShot bool
	// Manner in which it is replaced.
	Manner Manner
}

// Container is what the engine has.
type Container struct {
	health.Container
	// Number among the service's containers.
	Number int
	// Hash of the configuration that it was made with; empty for one that Compose did not make.
	Hash string
	// Networks that it joined: name → id, empty while unknown.
	Networks map[string]string
	// Ours says that SIRRAT made it.
	Ours bool
	// OneOff says that somebody runs a command in it (docker compose run); it is nobody else's business.
	OneOff bool
	// Anonymous says that it keeps data in a volume without name, which only recreation in place hands on.
	Anonymous bool
	// Exclusive says that it occupies a port of the server or writes to a named volume.
	Exclusive bool
	Created   time.Time
}

// Input is all that the plan depends on.
type Input struct {
	// Services of the compose file, all of them.
	Services []Service
	// Containers of the compose project, all of them.
	Containers []Container
	// Only limits the plan to some services; empty means all, orphans included.
	Only []string
	// Deploying says that Compose may be asked about opaque services.
	Deploying bool
	// Former are services of what ran before: their containers are orphans, whoever made them.
	Former []string
}

// Step is what is done about one service.
type Step struct {
	Service string
	Action  Action
	// Why in words; empty for Keep.
	Why string
	// Old are the containers to be replaced, by id.
	Old []string
	// Force says that Compose would not see the difference by itself.
	Force bool
}

// Removal is a container that has no place.
type Removal struct {
	ID, Name, Service string
	Why               string
	// Late says that it may serve until everything else is in place.
	Late bool
}

// Plan is what to do.
type Plan struct {
	// Steps in the order of dependencies, one for each service that is asked for.
	Steps []Step
	// Remove what is in the way or left over.
	Remove []Removal
	// Foreign containers carry the project's label, but are neither of the file nor SIRRAT's.
	Foreign []Removal
}

// Idle says that there is nothing to do.
func (p Plan) Idle() bool {
	return len(p.Remove) == 0 && !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Action != Keep })
}

// Step of a service; Keep for one that the plan does not know.
func (p Plan) Step(service string) Step {
	for _, s := range p.Steps {
		if s.Service == service {
			return s
		}
	}
	return Step{Service: service}
}

// Make the plan.
func Make(in Input) Plan {
	var p Plan
	byService := map[string][]Container{}
	known := map[string]bool{}
	for _, s := range in.Services {
		known[s.Name] = true
	}
	for _, c := range in.Containers {
		switch {
		case c.OneOff:
		case known[c.Service]:
			byService[c.Service] = append(byService[c.Service], c)
		case c.Ours, slices.Contains(in.Former, c.Service):
			p.Remove = append(p.Remove, Removal{c.ID, c.Name, c.Service, "its service is no longer in the compose file", !c.Exclusive})
		default:
			p.Foreign = append(p.Foreign, Removal{c.ID, c.Name, c.Service, "SIRRAT did not make it, and the compose file knows no such service", true})
		}
	}
	done := map[string]Action{}
	for _, s := range Sort(in.Services) {
		step, extra := judge(s, byService[s.Name])
		if s.Opaque && in.Deploying && step.Action == Keep && s.Replicas > 0 {
			step.Action, step.Why = Recreate, "Compose looks whether its configuration changed"
		}
		step = cascade(s, step, byService[s.Name], done)
		done[s.Name] = step.Action
		p.Steps, p.Remove = append(p.Steps, step), append(p.Remove, extra...)
	}
	if len(in.Only) > 0 {
		p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return !slices.Contains(in.Only, s.Service) })
		p.Remove = slices.DeleteFunc(p.Remove, func(r Removal) bool { return !slices.Contains(in.Only, r.Service) })
	}
	slices.SortStableFunc(p.Remove, func(a, b Removal) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.Foreign, func(a, b Removal) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

// Sort puts services behind those that they depend on or share something with, and otherwise by name.
func Sort(services []Service) []Service {
	byName := map[string]Service{}
	for _, s := range services {
		byName[s.Name] = s
	}
	var sorted []Service
	visited := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		s, found := byName[name]
		if visited[name] || !found {
			return
		}
		visited[name] = true // a cycle, which the loader refuses, ends here
		for _, dependency := range slices.Sorted(maps.Keys(s.DependsOn)) {
			visit(dependency)
		}
		for _, shared := range slices.Sorted(slices.Values(s.Shares)) {
			visit(shared)
		}
		sorted = append(sorted, s)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		visit(name)
	}
	return sorted
}

// Differs says in words why a container is not what the service wants; empty when it is.
func (s Service) Differs(c Container) string {
	switch {
	case !s.Opaque && c.Hash != s.Hash && (s.ByHand == "" || c.Hash != s.ByHand):
		return "its configuration changed"
	case s.ImageID != "" && c.ImageID != s.ImageID:
		return "it runs another image"
	case c.State == health.StateDead, c.State == health.StateRemoving:
		return "it is " + c.State
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		id, joined := c.Networks[name]
		switch {
		case !joined:
			return "it is not in the network " + name
		case s.Networks[name] == "", id != "" && id != s.Networks[name]:
			return "its network " + name + " was removed"
		}
	}
	return ""
}

// judge compares one service with its containers, and says which of them are too many.
func judge(s Service, containers []Container) (Step, []Removal) {
	step := Step{Service: s.Name}
	fresh, old, why := Split(s, containers)
	var extra []Removal
	for len(fresh) > s.Replicas {
		last := fresh[len(fresh)-1]
		fresh = fresh[:len(fresh)-1]
		extra = append(extra, Removal{last.ID, last.Name, s.Name, fmt.Sprintf("there are more than the %d wanted", s.Replicas), false})
	}
	running := slices.ContainsFunc(old, func(c Container) bool { return c.State == health.StateRunning })
	switch {
	case len(old) == 0:
		step.Action, step.Why = toStart(s, fresh)
	case s.Replicas == 0, len(fresh) == s.Replicas && (s.Manner.Order == InPlace || !running):
		for _, c := range old {
			extra = append(extra, Removal{c.ID, c.Name, s.Name, why + ", and another one has taken its place", false})
		}
		step.Action, step.Why = toStart(s, fresh)
	default:
		step.Old, step.Why, step.Action = ids(old), why, Recreate
		anonymous := slices.ContainsFunc(old, func(c Container) bool { return c.Anonymous })
		if s.Manner.Order != InPlace && running && !anonymous {
			step.Action = Replace
		}
		if anonymous && s.Manner.Order == StartFirst && running {
			step.Why += "; in place, because it keeps data in a volume without name"
		} else if s.Manner.InPlaceBecause != "" {
			step.Why += "; in place, because " + s.Manner.InPlaceBecause
		}
		sameHash := func(c Container) bool { return c.Hash == s.Hash }
		step.Force = slices.ContainsFunc(old, sameHash) || len(fresh) > 0 && !slices.ContainsFunc(fresh, sameHash)
	}
	return step, extra
}

// Split divides the containers of a service into those that are what it wants, best first, and the others, with what is
// wrong about the first of these.
func Split(s Service, containers []Container) (fresh, old []Container, why string) {
	for _, c := range containers {
		if reason := s.Differs(c); reason != "" {
			old = append(old, c)
			why = cmp.Or(why, reason)
		} else {
			fresh = append(fresh, c)
		}
	}
	slices.SortStableFunc(fresh, better)
	slices.SortStableFunc(old, better)
	return fresh, old, why
}

// better sorts what serves before what does not, then what was there first.
func better(a, b Container) int {
	rank := func(c Container) int {
		switch {
		case c.State == health.StateRunning && c.Check != health.CheckUnhealthy && c.Check != health.CheckStarting:
			return 0
		case c.State == health.StateRunning:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Number, b.Number), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

// toStart says whether something of a service is missing or does not run.
func toStart(s Service, containers []Container) (Action, string) {
	var why []string
	if missing := s.Replicas - len(containers); missing > 0 {
		why = append(why, fmt.Sprintf("%d of %d containers missing", missing, s.Replicas))
	}
	for _, c := range containers {
		completed := c.State == health.StateExited && c.ExitCode == 0 && s.OneShot
		if c.State != health.StateRunning && c.State != health.StateRestarting && !completed {
			why = append(why, c.Name+" is "+c.State)
		}
	}
	if len(why) == 0 {
		return Keep, ""
	}
	return Start, strings.Join(why, ", ")
}

// cascade makes a service follow those that it shares something with or is to be restarted with.
func cascade(s Service, step Step, containers []Container, done map[string]Action) Step {
	if len(containers) == 0 || s.Replicas == 0 {
		return step
	}
	for _, shared := range s.Shares {
		if a := done[shared]; a == Recreate || a == Replace {
			step.Action, step.Force = Recreate, true
			step.Why = cmp.Or(step.Why, "it shares something with "+shared+", which is replaced")
			step.Old = nil
			for _, c := range containers {
				step.Old = append(step.Old, c.ID)
			}
			return step
		}
	}
	if step.Action != Keep {
		return step
	}
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		if a := done[name]; s.DependsOn[name].Restart && (a == Recreate || a == Replace || a == Restart) {
			step.Action, step.Why = Restart, "it is to be restarted with "+name
		}
	}
	return step
}

// Batches puts the steps that do something together in as few groups as dependencies allow, each of steps in place or of
// replacements only, in the order in which they are to be carried out.
func Batches(services []Service, steps []Step) [][]Step {
	needs := map[string][]string{}
	for _, s := range services {
		needs[s.Name] = append(slices.Sorted(maps.Keys(s.DependsOn)), s.Shares...)
	}
	left := slices.Clone(steps)
	placed := func(name string) bool {
		return !slices.ContainsFunc(left, func(s Step) bool { return s.Service == name })
	}
	var batches [][]Step
	stuck := 0
	for replaces := false; len(left) > 0 && stuck < 2; replaces = !replaces {
		var batch []Step
		before := len(left)
		for again := true; again; {
			again = false
			for i, step := range left {
				ready := step.Action == Keep || (step.Action == Replace) == replaces
				if !ready || slices.ContainsFunc(needs[step.Service], func(n string) bool { return !placed(n) }) {
					continue
				}
				if step.Action != Keep {
					batch = append(batch, step)
				}
				left = slices.Delete(left, i, i+1)
				again = true
				break
			}
		}
		if len(batch) > 0 {
			batches = append(batches, batch)
		}
		if stuck++; len(left) < before {
			stuck = 0
		}
	}
	for _, step := range left { // in a circle, which Compose will refuse
		batches = append(batches, []Step{step})
	}
	return batches
}

func ids(containers []Container) []string {
	list := make([]string, 0, len(containers))
	for _, c := range containers {
		list = append(list, c.ID)
	}
	return list
}
