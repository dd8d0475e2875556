// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// directive is a comment at the head of a stack: which service the second release changes, and which ones follow it.
var directive = regexp.MustCompile(`(?m)^# (changes|follows): (.+)$`)

// stack is a compose file as a project writes it.
type stack struct {
	name     string
	order    order
	services []string
	// named are the networks that have names of their own.
	named []string
	// told are the directives.
	told          map[string][]string
	before, after map[string][]health.Container
	status        v1alpha1.RolloutStatus
	err           error
}

// together is how many stacks are deployed at the same time.
const together = 6

// Compose files as projects write them: the first release becomes healthy, the second one changes one service and touches no
// other, and in the end everything goes away.
func TestRealWorldStacks(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/stacks/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d stacks, %v", len(files), err)
	}
	s := newServer(t)
	// Every service runs an image that does not do what its name says, but answers as its compose file expects.
	one, two := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2")
	var stacks []*stack
	policy := ""
	for i, file := range files { // their projects are made before the agent runs, so that they are removed after it has ended
		stacks = append(stacks, s.readStack(file, i, one))
		for _, network := range stacks[i].named {
			policy += "- " + network + "\n"
		}
	}
	put(t, s.policyFile(), "externalNetworks:\n"+policy) // a network with a name of its own is for the server's owner to allow
	stop := s.run()
	passed := 0
	for chunk := range slices.Chunk(stacks, together) {
		s.deployAll(chunk)
		for _, st := range chunk {
			st.before = s.containersOf(st.order.project)
			st.order.sequence = 2
			for _, name := range st.told["changes"] {
				st.order.images[name] = two
			}
		}
		s.deployAll(chunk)
		for _, st := range chunk {
			st.after = s.containersOf(st.order.project)
			if t.Run(st.name, st.check) {
				passed++
			}
		}
	}
	stop()
	for _, st := range stacks {
		if err := s.engine.Remove(t.Context(), st.order.project); err != nil {
			t.Error(err)
		}
		if left := s.containersOf(st.order.project); len(left) > 0 {
			t.Errorf("%s: containers are left: %v", st.name, left)
		}
	}
	t.Logf("%d of %d real-world stacks passed", passed, len(files))
}

func (s *server) readStack(file string, i int, image string) *stack {
	s.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.Fatal(err)
	}
	st := &stack{name: strings.TrimSuffix(filepath.Base(file), ".yaml"), told: map[string][]string{}}
	for _, m := range directive.FindAllStringSubmatch(string(text), -1) {
		st.told[m[1]] = strings.Split(m[2], ", ")
	}
	st.order = s.order(s.anotherProject())
	st.order.compose, st.order.timeout, st.order.images = string(text), 3*time.Minute, map[string]string{}
	st.order.values = map[string]string{
		"PORT": fmt.Sprint(enginetest.FreePort(s)), "DB_PASSWORD": "s3cret-password", "API_TOKEN": "t0ken-of-api",
		"SUBNET": fmt.Sprint(100 + (i+os.Getpid())%100),
	}
	model, err := composefile.Load(s.Context(), st.order.compose, st.order.project, st.order.values)
	if err != nil {
		s.Fatalf("%s: %v", st.name, err)
	}
	for name := range model.Services {
		st.services, st.order.images[name] = append(st.services, name), image
	}
	for _, network := range model.Networks {
		if !strings.HasPrefix(network.Name, st.order.project+"_") {
			st.named = append(st.named, network.Name)
		}
	}
	slices.Sort(st.services)
	return st
}

// deployAll orders the stacks at the same time and waits for all of them.
func (s *server) deployAll(stacks []*stack) {
	s.Helper()
	names := map[*stack]string{}
	for _, st := range stacks {
		names[st] = s.send(st.order)
	}
	for _, st := range stacks {
		enginetest.Wait(s, st.name+" to end", func() error {
			st.status = s.status(names[st])
			switch st.status.Phase {
			case v1alpha1.RolloutHealthy:
				return nil
			case v1alpha1.RolloutFailed, v1alpha1.RolloutRejected, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHeld:
				st.err = cmp.Or(st.err, fmt.Errorf("release %d is %s: %s %q", st.order.sequence, st.status.Phase, st.status.Message, st.status.LastLogs))
				return nil
			}
			return fmt.Errorf("%s: %s", st.status.Phase, st.status.Message)
		})
	}
}

func (st *stack) check(t *testing.T) {
	if st.err != nil {
		t.Fatal(st.err)
	}
	for _, name := range st.services {
		mayChange := slices.Contains(st.told["changes"], name) || slices.Contains(st.told["follows"], name)
		untouched := slices.EqualFunc(st.before[name], st.after[name], same)
		if untouched == mayChange || len(st.after[name]) != len(st.before[name]) {
			t.Errorf("%s: untouched %v, %d containers before, %d after (%s)", name, untouched, len(st.before[name]), len(st.after[name]), st.status.Message)
		}
	}
}

func (s *server) containersOf(project string) map[string][]health.Container {
	s.Helper()
	list, err := s.engine.Containers(s.Context(), project)
	if err != nil {
		s.Fatal(err)
	}
	byService := map[string][]health.Container{}
	for _, c := range list {
		byService[c.Service] = append(byService[c.Service], c)
	}
	return byService
}
