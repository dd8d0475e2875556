// SPDX-License-Identifier: Apache-2.0

// Package health judges whether the containers of a compose project do what their compose file asks. It is the agent's own
// judgement, because Compose calls a container healthy after one look at it, and looks at the first replica only.
//
// It is pure: observed containers and the time go in, a verdict comes out, with the moment at which the same containers
// would be judged differently. It imports the standard library only.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Streak is how long a container without healthcheck must have run before it counts as healthy. Each restart since the
// look began doubles it, up to MaxStreak, so that a crash loop is never called healthy between two crashes.
const (
	Streak    = 2 * time.Second
	MaxStreak = 32 * time.Second
	// MaxRestarts of one container since the look began, after which it is given up.
	MaxRestarts = 5
)

// States of a container, as the engine names them.
const (
	StateCreated    = "created"
	StateRunning    = "running"
	StatePaused     = "paused"
	StateRestarting = "restarting"
	StateRemoving   = "removing"
	StateExited     = "exited"
	StateDead       = "dead"
)

// States of a healthcheck, as the engine names them; none is the absence of a check.
const (
	CheckNone      = "none"
	CheckStarting  = "starting"
	CheckHealthy   = "healthy"
	CheckUnhealthy = "unhealthy"
)

// Service is what the compose file wants.
type Service struct {
	Name string
	// Image by digest.
	Image string
	// ImageID is what the engine calls that image. A container made from it under another name, such as a tag, is as good;
	// empty accepts none.
	ImageID string
	// Replicas is how many containers there should be.
	Replicas int
	// Restarts says that the engine starts a container again after it ended.
	Restarts bool
	// OneShot says that a container may end with exit code 0 and is then completed.
	OneShot bool
}

// Container is what the engine reports.
type Container struct {
	ID      string
	Name    string
	Service string
	// Image as the container was created with, by digest.
	Image string
	// ImageID is what the engine calls that image.
	ImageID string
	State   string
	// Check is the state of the healthcheck.
	Check     string
	ExitCode  int
	OOMKilled bool
	// Restarts by the engine since the container was created.
	Restarts int
	// StartedAt is the last start; zero if there was none.
	StartedAt time.Time
	// Error of the engine when it could not start the container.
	Error string
	// Probes are the latest runs of the healthcheck, oldest first, as many as the engine remembers.
	Probes []Probe
}

// Probe is one run of a healthcheck.
type Probe struct {
	// At is when it ended.
	At time.Time
	OK bool
}

// Status of a project or service.
type Status int

// From best to worst.
const (
	// Healthy: everything runs and is well.
	Healthy Status = iota
	// Waiting: not yet healthy, and time or the engine will tell.
	Waiting
	// Unhealthy: a healthcheck says so, or the engine keeps restarting.
	Unhealthy
	// Down: containers are missing, ended, paused or of another image. Nothing but the agent will bring them back.
	Down
)

func (s Status) String() string {
	return [...]string{"healthy", "waiting", "unhealthy", "down"}[s]
}

// ServiceVerdict is the judgement of one service.
type ServiceVerdict struct {
	Name    string
	Status  Status
	Running int
	Wanted  int
	// Check is the worst healthcheck among the containers.
	Check string
	Image string
	// Completed says that it was a one-shot service and ended well.
	Completed bool
	// Hopeless says that waiting will not make it better: a container ended and nothing restarts it, its healthcheck failed
	// as often as its author allows, or it keeps crashing.
	Hopeless bool
	// amiss says that containers are missing or run another image.
	amiss bool
	// Excused says that it is not well, was not before either, and is not to blame on what is judged.
	Excused bool
	// Message says in words what is wrong: exit code, out-of-memory kill, restarts. Empty when nothing is.
	Message string
}

// Verdict is the judgement of a project.
type Verdict struct {
	Status   Status
	Services []ServiceVerdict
	// NextLook is when the verdict changes by the mere passing of time; zero when only an event can change it.
	NextLook time.Time
	// LastStart is the latest start among the containers that run.
	LastStart time.Time
}

// Message names what is wrong, or waited for, service by service.
func (v Verdict) Message() string {
	var parts []string
	for _, s := range v.Services {
		if s.Message != "" {
			parts = append(parts, s.Name+": "+s.Message)
		}
	}
	return strings.Join(parts, "; ")
}

// Worst are the names of the services that have the verdict's status, for logs and repair.
func (v Verdict) Worst() []string {
	var names []string
	for _, s := range v.Services {
		if s.Status == v.Status {
			names = append(names, s.Name)
		}
	}
	return names
}

// Completed are the one-shot services that ended well.
func (v Verdict) Completed() []string {
	var names []string
	for _, s := range v.Services {
		if s.Completed {
			names = append(names, s.Name)
		}
	}
	return names
}

// Judge compares what is wanted with what the engine reports. done names one-shot services known to have completed, whose
// containers may since have been removed.
func Judge(want []Service, got []Container, base Baseline, done []string, now time.Time) Verdict {
	var v Verdict
	byService := map[string][]Container{}
	for _, c := range got {
		byService[c.Service] = append(byService[c.Service], c)
	}
	for _, service := range want {
		s := judgeService(&v, service, byService[service.Name], base, slices.Contains(done, service.Name), now)
		v.Services = append(v.Services, s)
		v.Status = max(v.Status, s.Status)
	}
	slices.SortFunc(v.Services, func(a, b ServiceVerdict) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func judgeService(v *Verdict, want Service, containers []Container, base Baseline, done bool, now time.Time) ServiceVerdict {
	s := ServiceVerdict{Name: want.Name, Wanted: want.Replicas, Check: CheckNone, Image: want.Image}
	for _, c := range containers {
		f := judgeContainer(v, want, c, base, now)
		if c.State == StateRunning {
			s.Running++
			if c.StartedAt.After(v.LastStart) {
				v.LastStart = c.StartedAt
			}
		}
		if f.status == Healthy && c.State != StateRunning {
			s.Completed = true
		}
		if !want.accepts(c) {
			s.Image, s.amiss = c.Image, true
		}
		s.Check = worseCheck(s.Check, c.Check)
		if f.status > s.Status || s.Message == "" {
			s.Message = f.message
		}
		s.Status = max(s.Status, f.status)
		s.Hopeless = s.Hopeless || f.hopeless
	}
	switch missing := want.Replicas - len(containers); {
	case missing <= 0:
	case done && want.OneShot:
		s.Completed = true
	default:
		s.Status, s.Hopeless, s.amiss = Down, true, true
		s.Message = fmt.Sprintf("%d of %d containers missing", missing, want.Replicas)
	}
	return s
}

// accepts says whether a container runs the image that is wanted.
func (want Service) accepts(c Container) bool {
	return c.Image == want.Image || want.ImageID != "" && c.ImageID == want.ImageID
}

// finding is the judgement of one container.
type finding struct {
	status   Status
	message  string
	hopeless bool
}

func judgeContainer(v *Verdict, want Service, c Container, base Baseline, now time.Time) finding {
	if !want.accepts(c) {
		return finding{Down, "runs another image: " + c.Image, true}
	}
	grown := c.Restarts - base[c.ID].Restarts
	switch c.State {
	case StateRunning:
	case StateExited, StateDead:
		if c.ExitCode == 0 && !c.OOMKilled && want.OneShot && c.State == StateExited {
			return finding{}
		}
		return finding{Down, ended(want, c), true}
	case StateRestarting:
		return finding{Unhealthy, fmt.Sprintf("%s, restarted %d times", ended(want, c), c.Restarts), grown > MaxRestarts}
	case StateCreated:
		if c.Error != "" {
			return finding{Down, "cannot start: " + c.Error, true}
		}
		return finding{Down, "not started", true}
	default:
		return finding{Down, c.State, true}
	}
	if c.Check == CheckUnhealthy {
		return finding{Unhealthy, "its healthcheck fails", true}
	}
	if steady := c.StartedAt.Add(MaxStreak); grown > MaxRestarts && now.Before(steady) {
		v.lookAt(steady)
		return finding{Unhealthy, fmt.Sprintf("restarted %d times", grown), true}
	}
	switch c.Check {
	case CheckStarting:
		return finding{Waiting, "waits for its healthcheck", false}
	case CheckHealthy:
		if grown <= 0 {
			return finding{}
		}
	}
	steady := c.StartedAt.Add(streak(grown))
	if !now.Before(steady) {
		return finding{}
	}
	v.lookAt(steady)
	if grown > 0 {
		return finding{Waiting, fmt.Sprintf("restarted %d times, must run steadily", grown), false}
	}
	return finding{Waiting, "must run steadily", false}
}

func (v *Verdict) lookAt(t time.Time) {
	if v.NextLook.IsZero() || t.Before(v.NextLook) {
		v.NextLook = t
	}
}

// Hopeless says that waiting will not make the verdict better.
func (v Verdict) Hopeless() bool {
	return slices.ContainsFunc(v.Services, func(s ServiceVerdict) bool { return s.Hopeless })
}

func streak(restarts int) time.Duration {
	d := Streak
	for range restarts {
		if d *= 2; d >= MaxStreak {
			return MaxStreak
		}
	}
	return d
}

func ended(want Service, c Container) string {
	if c.ExitCode == 0 && !c.OOMKilled && c.Error == "" && !want.OneShot && !want.Restarts {
		return `exited 0; a service that is meant to end needs restart: "no"`
	}
	return c.Ending()
}

// exitKilled is the exit code of a process that SIGKILL ended: 128 and the number of the signal.
const exitKilled = 137

// Ending is how a container ended, in words. The kernel ends a process for want of memory by SIGKILL; the engine says so only
// when the container's own limit was the reason, and not even then when the container was gone before it heard of it.
func (c Container) Ending() string {
	switch {
	case c.OOMKilled:
		return fmt.Sprintf("out of memory, exited %d", c.ExitCode)
	case c.Error != "":
		return fmt.Sprintf("exited %d: %s", c.ExitCode, c.Error)
	case c.ExitCode == exitKilled:
		return fmt.Sprintf("exited %d: killed, by somebody or because it or the server was out of memory", c.ExitCode)
	}
	return fmt.Sprintf("exited %d", c.ExitCode)
}

func worseCheck(a, b string) string {
	order := []string{CheckNone, CheckHealthy, CheckStarting, CheckUnhealthy}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
