// SPDX-License-Identifier: Apache-2.0

package converge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/agent/health"
)

func container(id, service, hash string, change ...func(*Container)) Container {
	c := Container{
		Container: health.Container{ID: id, Name: "p-" + id, Service: service, ImageID: "i", State: health.StateRunning, Check: health.CheckNone},
		Hash:      hash, Number: 1, Networks: map[string]string{"net": "n1"}, Ours: true,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func service(name string, change ...func(*Service)) Service {
	s := Service{Name: name, Replicas: 1, Hash: "h", ByHand: "hand", ImageID: "i", Networks: map[string]string{"net": "n1"}, DependsOn: map[string]Dependency{}}
	for _, f := range change {
		f(&s)
	}
	return s
}

func state(s string) func(*Container) { return func(c *Container) { c.State = s } }

// says is a plan in a line.
func says(p Plan) string {
	var parts []string
	for _, s := range p.Steps {
		text := s.Action.String() + " " + s.Service
		if s.Force {
			text += "!"
		}
		parts = append(parts, text)
	}
	for _, r := range p.Remove {
		text := "remove " + r.ID
		if r.Late {
			text += " late"
		}
		parts = append(parts, text)
	}
	for _, r := range p.Foreign {
		parts = append(parts, "foreign "+r.ID)
	}
	return strings.Join(parts, ", ")
}

func TestMake(t *testing.T) {
	web := service("web")
	startFirst := service("web", func(s *Service) { s.Manner.Order = StartFirst })
	two := service("web", func(s *Service) { s.Replicas = 2 })
	depends := func(restart bool) func(*Service) {
		return func(s *Service) { s.DependsOn["web"] = Dependency{Condition: "service_started", Restart: restart} }
	}
	theirs := func(c *Container) { c.Ours = false }
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"nothing there":             {Input{Services: []Service{web}}, "start web"},
		"as it should be":           {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h")}}, "keep web"},
		"made by hand":              {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "hand", theirs)}}, "keep web"},
		"made by hand, other image": {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "hand", theirs, func(c *Container) { c.ImageID = "j" })}}, "recreate web"},
		"stopped":                   {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", state(health.StateExited))}}, "start web"},
		"restarting":                {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", state(health.StateRestarting))}}, "keep web"},
		"paused":                    {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", state(health.StatePaused))}}, "start web"},
		"dead":                      {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", state(health.StateDead))}}, "recreate web!"},
		"job completed": {Input{Services: []Service{service("web", func(s *Service) { s.OneShot = true })},
			Containers: []Container{container("a", "web", "h", state(health.StateExited))}}, "keep web"},
		"changed":              {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "old")}}, "recreate web"},
		"other image":          {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", func(c *Container) { c.ImageID = "j" })}}, "recreate web!"},
		"out of its network":   {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", func(c *Container) { c.Networks = nil })}}, "recreate web!"},
		"network made anew":    {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", func(c *Container) { c.Networks = map[string]string{"net": "n0"} })}}, "recreate web!"},
		"network gone":         {Input{Services: []Service{service("web", func(s *Service) { s.Networks["net"] = "" })}, Containers: []Container{container("a", "web", "h")}}, "recreate web!"},
		"one of two missing":   {Input{Services: []Service{two}, Containers: []Container{container("a", "web", "h")}}, "start web"},
		"one too many":         {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "web", "h", func(c *Container) { c.Number = 2 })}}, "keep web, remove b"},
		"one too many, sick":   {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h", state(health.StateExited)), container("b", "web", "h")}}, "keep web, remove a"},
		"scaled to zero":       {Input{Services: []Service{service("web", func(s *Service) { s.Replicas = 0 })}, Containers: []Container{container("a", "web", "h")}}, "keep web, remove a"},
		"to zero, and changed": {Input{Services: []Service{service("web", func(s *Service) { s.Replicas = 0 })}, Containers: []Container{container("a", "web", "old")}}, "keep web, remove a"},
		"half recreated":       {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "old"), container("b", "web", "h")}}, "keep web, remove a"},
		"beside":               {Input{Services: []Service{startFirst}, Containers: []Container{container("a", "web", "old")}}, "replace web"},
		"beside, resumed":      {Input{Services: []Service{startFirst}, Containers: []Container{container("a", "web", "old"), container("b", "web", "h")}}, "replace web"},
		"beside what has ended": {Input{Services: []Service{startFirst}, Containers: []Container{container("a", "web", "old", state(health.StateExited))}},
			"recreate web"},
		"beside, with data in an anonymous volume": {Input{Services: []Service{startFirst},
			Containers: []Container{container("a", "web", "old", func(c *Container) { c.Anonymous = true })}}, "recreate web"},
		"opaque": {Input{Services: []Service{service("web", func(s *Service) { s.Opaque = true })}, Containers: []Container{container("a", "web", "x")}}, "keep web"},
		"opaque, deploying": {Input{Services: []Service{service("web", func(s *Service) { s.Opaque = true })}, Containers: []Container{container("a", "web", "x")},
			Deploying: true}, "recreate web"},
		"orphan of ours":                  {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "gone", "h")}}, "keep web, remove b late"},
		"orphan in the way":               {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "gone", "h", func(c *Container) { c.Exclusive = true })}}, "keep web, remove b"},
		"orphan made by hand":             {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "gone", "h", theirs)}, Former: []string{"gone"}}, "keep web, remove b late"},
		"foreign":                         {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "gone", "h", theirs)}}, "keep web, foreign b"},
		"one-off":                         {Input{Services: []Service{web}, Containers: []Container{container("a", "web", "h"), container("b", "web", "x", func(c *Container) { c.OneOff = true })}}, "keep web"},
		"shares with what is recreated":   {Input{Services: []Service{web, service("a", func(s *Service) { s.Shares = []string{"web"} })}, Containers: []Container{container("1", "web", "old"), container("2", "a", "h")}}, "recreate web, recreate a!"},
		"restarts with what is recreated": {Input{Services: []Service{web, service("a", depends(true))}, Containers: []Container{container("1", "web", "old"), container("2", "a", "h")}}, "recreate web, restart a"},
		"depends on what is recreated":    {Input{Services: []Service{web, service("a", depends(false))}, Containers: []Container{container("1", "web", "old"), container("2", "a", "h")}}, "recreate web, keep a"},
		"only one":                        {Input{Services: []Service{web, service("a")}, Containers: []Container{container("1", "x", "old")}, Only: []string{"a"}}, "start a"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Make(c.in)
			if got := says(p); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if p.Idle() != (strings.Count(c.want, "keep")+strings.Count(c.want, "foreign") == len(strings.Split(c.want, ", "))) {
				t.Errorf("idle: %v", p.Idle())
			}
			for _, s := range p.Steps {
				if (s.Why == "") != (s.Action == Keep) {
					t.Errorf("%s: why %q", s.Service, s.Why)
				}
			}
		})
	}
}

func TestBatches(t *testing.T) {
	after := func(names ...string) func(*Service) {
		return func(s *Service) {
			for _, n := range names {
				s.DependsOn[n] = Dependency{}
			}
		}
	}
	services := []Service{service("db"), service("api", after("db")), service("web", after("api", "cache")), service("cache"), service("job", after("api")), service("end", after("job"))}
	steps := []Step{}
	for name, action := range map[string]Action{"db": Recreate, "api": Replace, "web": Replace, "cache": Keep, "job": Start, "end": Replace} {
		steps = append(steps, Step{Service: name, Action: action})
	}
	slicesByName(services, steps)
	var got []string
	for _, batch := range Batches(services, steps) {
		var names []string
		for _, s := range batch {
			names = append(names, s.Service)
		}
		got = append(got, strings.Join(names, " "))
	}
	if diff := cmp.Diff([]string{"db", "api web", "job", "end"}, got); diff != "" {
		t.Error(diff)
	}
}

func slicesByName(services []Service, steps []Step) {
	order := map[string]int{}
	for i, s := range Sort(services) {
		order[s.Name] = i
	}
	for i := range steps {
		for j := range steps {
			if order[steps[i].Service] < order[steps[j].Service] {
				steps[i], steps[j] = steps[j], steps[i]
			}
		}
	}
}

// A circle, which the loader refuses, ends all the same.
func TestCircle(t *testing.T) {
	a, b := service("a"), service("b")
	a.DependsOn["b"], b.DependsOn["a"] = Dependency{}, Dependency{}
	p := Make(Input{Services: []Service{a, b}})
	if n := len(Batches([]Service{a, b}, p.Steps)); n != 2 || len(p.Steps) != 2 {
		t.Errorf("%d batches: %s", n, fmt.Sprint(p.Steps))
	}
}
