// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"maps"
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

// Compose files as projects write them: the first release becomes healthy, the second one changes one service and touches no
// other, and everything goes away again.
func TestRealWorldStacks(t *testing.T) {
	files, err := filepath.Glob("testdata/stacks/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d stacks, %v", len(files), err)
	}
	s := newServer(t)
	var projects []string
	for range files { // made before the agent runs, so that they are removed after it has ended
		projects = append(projects, enginetest.Project(t, s.raw))
	}
	stop := s.run()
	// Every service has an image of its own, none of which does what its name says.
	image := func(t *testing.T, version string) string { return s.registry.Image(t, "app", "VERSION="+version) }
	one, two := image(t, "1"), image(t, "2")
	passed := 0
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told := map[string][]string{}
			for _, m := range directive.FindAllStringSubmatch(string(text), -1) {
				told[m[1]] = strings.Split(m[2], ", ")
			}
			project := projects[i]
			values := map[string]string{
				"PORT": fmt.Sprint(enginetest.FreePort(t)), "DB_PASSWORD": "s3cret-password", "API_TOKEN": "t0ken-of-api", "SUBNET": fmt.Sprint(100 + i + os.Getpid()%50),
			}
			model, err := composefile.Load(t.Context(), string(text), project, values)
			if err != nil {
				t.Fatal(err)
			}
			o := s.order(project)
			o.compose, o.values, o.images, o.timeout = string(text), values, map[string]string{}, 3*time.Minute
			for _, name := range slices.Sorted(maps.Keys(model.Services)) {
				o.images[name] = one
			}
			s.await(s.send(o), v1alpha1.RolloutHealthy)
			before := containersOf(s, t, project)
			o.sequence = 2
			for _, name := range told["changes"] {
				o.images[name] = two
			}
			status := s.await(s.send(o), v1alpha1.RolloutHealthy)
			after := containersOf(s, t, project)
			for name := range model.Services {
				mayChange := slices.Contains(told["changes"], name) || slices.Contains(told["follows"], name)
				untouched := slices.EqualFunc(before[name], after[name], same)
				if untouched == mayChange || len(after[name]) != len(before[name]) {
					t.Errorf("%s: untouched %v, %d containers before, %d after (%s)", name, untouched, len(before[name]), len(after[name]), status.Message)
				}
			}
			if !t.Failed() {
				passed++
			}
		})
	}
	stop()
	for _, project := range projects {
		if err := s.engine.Remove(t.Context(), project); err != nil {
			t.Error(err)
		}
		if left := containersOf(s, t, project); len(left) > 0 {
			t.Errorf("containers are left: %v", left)
		}
	}
	t.Logf("%d of %d real-world stacks passed", passed, len(files))
}

func containersOf(s *server, t testing.TB, project string) map[string][]health.Container {
	t.Helper()
	list, err := s.engine.Containers(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	byService := map[string][]health.Container{}
	for _, c := range list {
		byService[c.Service] = append(byService[c.Service], c)
	}
	return byService
}
