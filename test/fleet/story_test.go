// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// Environments of the stories: dev opens by itself, stage takes an approval.
const (
	dev   = "dev"
	stage = "stage"
)

// web is a compose file of one service that keeps data and is published on its server. %s is the image and what a story adds.
const web = `
services:
  web:
    image: %s
    restart: unless-stopped
    stop_grace_period: 2s
    volumes: ["data:/data"]
    ports: ["127.0.0.1:${PORT}:8080"]
%s
volumes: {data: {}}
`

// asked is how a server asks the service for its health: often, and of no cost to the engine, which many stories share.
var asked = v1alpha1.HealthCheck{
	HTTP:    &v1alpha1.HTTPCheck{URL: "http://127.0.0.1:${PORT}/health"},
	Timeout: metav1.Duration{Duration: 10 * time.Second}, Interval: metav1.Duration{Duration: 100 * time.Millisecond}, Successes: 2,
}

// story is a project, and a record of what its agents reported.
type story struct {
	testing.TB
	w       *world
	project string
	repo    string

	mu      sync.Mutex
	reports []report
}

// report is the state of a Rollout at some moment; gone once it is deleted.
type report struct {
	server, environment, release, phase string
	gone                                bool
}

// release is a release and the image that it is about, by digest.
type release struct{ name, image string }

// story makes a project with an environment dev on all servers. more goes into the compose file's service.
func (w *world) story(t testing.TB, project string, strategy v1alpha1.RolloutStrategy, more ...string) *story {
	t.Helper()
	s := &story{TB: t, w: w, project: project, repo: w.registry + "/" + project}
	w.create(t, &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: project}, Spec: v1alpha1.ProjectSpec{
		Images: []v1alpha1.ProjectImage{{Name: "web", Repository: s.repo}},
	}})
	testbed.Wait(t, "project "+project, func() error {
		var p v1alpha1.Project
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: project}, &p); err != nil {
			return err
		}
		return holds(p.Status.Conditions, v1alpha1.ConditionReady, "")
	})
	strategy.Timeout = metav1.Duration{Duration: time.Minute}
	s.environment(dev, "", strategy, strings.Join(more, "\n"))
	w.create(t, &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: project}, Spec: v1alpha1.QualityGateSpec{
		Environment: dev, Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "images", Images: &v1alpha1.ImagesCriterion{}}},
	}})
	s.watch()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the environments of %s:\n%s", project, w.sirrat(w, "status", "-n", project))
			t.Logf("reports: %+v", s.said())
		}
	})
	return s
}

func (s *story) environment(name, after string, strategy v1alpha1.RolloutStrategy, more string) {
	s.Helper()
	s.w.create(s, &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.project}, Spec: v1alpha1.EnvironmentSpec{
		After: after, Rollout: strategy, Hosts: &metav1.LabelSelector{MatchLabels: map[string]string{fleetLabel: "web"}},
		Compose: v1alpha1.ComposeSource{Inline: fmt.Sprintf(web, s.repo, more)},
		Values:  map[string]string{"PORT": strconv.Itoa(s.port(name))}, HealthChecks: []v1alpha1.HealthCheck{asked},
	}})
}

// port is what an environment publishes on each server.
func (s *story) port(environment string) int {
	return 8000 + 10*slices.Index(projects, s.project) + len(environment)
}

// staged adds an environment after dev, into which releases are let by hand.
func (s *story) staged() {
	s.Helper()
	s.environment(stage, dev, v1alpha1.RolloutStrategy{MaxUnavailable: 3, Timeout: metav1.Duration{Duration: time.Minute}}, "")
	s.w.create(s, &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: stage, Namespace: s.project}, Spec: v1alpha1.QualityGateSpec{
		Number: 1, Environment: stage, Mode: v1alpha1.ModeManual, Criteria: []v1alpha1.Criterion{
			{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: dev}},
			{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1, AllowCreator: true}},
		},
	}})
}

// approve lets a release into stage.
func (s *story) approve(r release) {
	s.Helper()
	object := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: r.name, Namespace: s.project}}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"sirrat:server"}}}`, v1alpha1.ApprovalPrefix+stage)
	if err := s.w.client.Patch(s.Context(), object, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		s.Fatal(err)
	}
}

// stack is the compose project of an environment, the same on each server.
func (s *story) stack(environment string) string { return s.project + "-" + environment }

// release pushes an image of the app with an environment of its own, and makes a release of it.
func (s *story) release(version string, env ...string) release {
	s.Helper()
	commit := fmt.Sprintf("%016x%016x%08x", rand.Uint64(), rand.Uint64(), rand.Uint32())
	layers := [][]byte{testbed.Layer(s, "app", 0o755, s.w.programs.App)}
	image := testbed.Image(s, layers, func(file *v1.ConfigFile) {
		file.Config.Env = append(file.Config.Env, append(env, "VERSION="+version)...)
	})
	tag, err := name.NewTag(s.repo + ":" + dev + "-" + v1alpha1.ShortSHA(commit))
	if err != nil {
		s.Fatal(err)
	}
	if err := remote.Write(tag, image, remote.WithContext(s.Context())); err != nil {
		s.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		s.Fatal(err)
	}
	s.w.create(s, &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{
			Name: v1alpha1.ShortSHA(commit), Namespace: s.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"},
		},
		Spec: v1alpha1.ReleaseSpec{Commit: commit},
	})
	return release{v1alpha1.ShortSHA(commit), s.repo + "@" + digest.String()}
}

// awaits waits until an environment is as wanted, and returns it.
func (s *story) awaits(environment, what string, check func(*v1alpha1.Environment) error) *v1alpha1.Environment {
	s.Helper()
	e := &v1alpha1.Environment{}
	testbed.Wait(s, fmt.Sprintf("%s/%s: %s", s.project, environment, what), func() error {
		if err := s.w.client.Get(s.Context(), client.ObjectKey{Namespace: s.project, Name: environment}, e); err != nil {
			return err
		}
		if err := check(e); err != nil {
			return fmt.Errorf("%w: hosts %+v, waiting %q, conditions %+v", err, e.Status.Hosts, e.Status.Waiting, e.Status.Conditions)
		}
		return nil
	})
	return e
}

// phase waits until a release is in a phase in an environment, with these words.
func (s *story) phase(r release, environment, phase string, contains ...string) {
	s.Helper()
	testbed.Wait(s, fmt.Sprintf("%s to be %s in %s/%s", r.name, phase, s.project, environment), func() error {
		var object v1alpha1.Release
		if err := s.w.client.Get(s.Context(), client.ObjectKey{Namespace: s.project, Name: r.name}, &object); err != nil {
			return err
		}
		for _, e := range object.Status.Environments {
			missing := slices.ContainsFunc(contains, func(part string) bool { return !strings.Contains(e.Message, part) })
			if e.Name == environment && e.Phase == phase && !missing {
				return nil
			}
		}
		return fmt.Errorf("%+v, gates %+v", object.Status.Environments, object.Status.Gates)
	})
}

// everywhere waits until a release is healthy on all servers, as people are told, and looks at what the engines run.
func (s *story) everywhere(r release, environment string) {
	s.Helper()
	s.phase(r, environment, v1alpha1.PhaseHealthy)
	s.awaits(environment, "all hosts to be ready", func(e *v1alpha1.Environment) error {
		all := len(s.w.servers)
		for _, h := range e.Status.Hosts {
			if h.Phase != v1alpha1.RolloutHealthy || h.Release != r.name {
				return fmt.Errorf("%s is %s with %s", h.Name, h.Phase, h.Release)
			}
		}
		st := e.Status
		if st.LastGood == nil || st.LastGood.Release != r.name || st.HostsSummary != fmt.Sprintf("%d/%d", all, all) || st.Waiting != "" || len(st.Hosts) != all {
			return fmt.Errorf("%s hosts, last good %+v", st.HostsSummary, st.LastGood)
		}
		return holds(st.Conditions, v1alpha1.ConditionReady, fmt.Sprintf("%d host(s) serve this environment", all))
	})
	for _, server := range s.w.servers {
		s.runsOn(server, environment, r)
	}
}

// runsOn fails unless a server runs a release, and nothing else of the environment.
func (s *story) runsOn(server *server, environment string, r release) {
	s.Helper()
	if c := server.only(s, s.stack(environment)); c.image != r.image {
		s.Errorf("%s runs %s in %s, not %s", server.name, c.image, s.stack(environment), r.image)
	}
}

// snapshot is what the servers run of an environment.
func (s *story) snapshot(environment string) map[string]runs {
	s.Helper()
	out := map[string]runs{}
	for _, server := range s.w.servers {
		out[server.name] = server.only(s, s.stack(environment))
	}
	return out
}

// untouched fails unless the containers of a server are those of before: the same ones, started at the same moment.
func (s *story) untouched(before map[string]runs, environment string, servers ...*server) {
	s.Helper()
	for _, server := range servers {
		if now := server.only(s, s.stack(environment)); now != before[server.name] {
			s.Errorf("%s of %s was %+v, is %+v", s.stack(environment), server.name, before[server.name], now)
		}
	}
}

// never fails if a container of a release was ever made on a server.
func (s *story) never(r release, servers ...*server) {
	s.Helper()
	for _, server := range servers {
		if made := server.moments(r.image, "create"); len(made) > 0 {
			s.Errorf("%s made a container of %s at %s", server.name, r.name, made[0].Format(time.StampMilli))
		}
	}
}

// at moves the controllers' clock to a moment, and returns once they have looked at the environment since.
func (s *story) at(moment time.Time, environment string) {
	s.Helper()
	theirs.set(moment)
	e := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: environment, Namespace: s.project}}
	patch := fmt.Appendf(nil, `{"spec":{"url":"https://%d.example"}}`, moment.UnixNano()) // a new generation; what is printed in the PV deploys nothing
	if err := s.w.client.Patch(s.Context(), e, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		s.Fatal(err)
	}
	generation := e.Generation
	s.awaits(environment, "the controllers to have looked", func(e *v1alpha1.Environment) error {
		if e.Status.ObservedGeneration < generation {
			return fmt.Errorf("generation %d", e.Status.ObservedGeneration)
		}
		return nil
	})
}

// told is what people see of the project, on one line.
func (s *story) told() string {
	s.Helper()
	return strings.Join(strings.Fields(s.w.sirrat(s, "status", "-n", s.project)), " ")
}

// tells fails unless people see these words.
func (s *story) tells(parts ...string) {
	s.Helper()
	text := s.told()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Errorf("kubectl sirrat status does not say %q:\n%s", part, text)
		}
	}
}

// watch records what agents report until the test is over.
func (s *story) watch() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := s.w.client.Watch(ctx, &v1alpha1.RolloutList{}, client.MatchingLabels{v1alpha1.LabelProject: s.project})
	if err != nil {
		cancel()
		s.Fatal(err)
	}
	var wg sync.WaitGroup
	s.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for e := range stream.ResultChan() {
			ro, ok := e.Object.(*v1alpha1.Rollout)
			if !ok && ctx.Err() != nil {
				return // the end of the test
			}
			if !ok {
				s.Errorf("the watch of Rollouts: %+v", e.Object)
				return
			}
			s.mu.Lock()
			s.reports = append(s.reports, report{
				strings.TrimPrefix(ro.Namespace, v1alpha1.HostNamespacePrefix), ro.Spec.Environment, ro.Spec.Release.Name, ro.Status.Phase, e.Type == watch.Deleted,
			})
			s.mu.Unlock()
		}
		if ctx.Err() == nil {
			s.Error("the watch of Rollouts ended")
		}
	})
}

func (s *story) said() []report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// course is in which order servers got a release in an environment, and how many were under way with it at the same time.
func (s *story) course(r release, environment string) (order []string, most int) {
	phases := map[string]string{}
	for _, said := range s.said() {
		if said.release != r.name || said.environment != environment {
			continue
		}
		if _, known := phases[said.server]; !known {
			order = append(order, said.server)
		}
		if phases[said.server] = said.phase; said.gone {
			delete(phases, said.server)
		}
		busy := 0
		for _, phase := range phases {
			if phase != v1alpha1.RolloutHealthy && !rollout.Failed(phase) {
				busy++
			}
		}
		most = max(most, busy)
	}
	return order, most
}

// holds is an error unless a condition is true and says so.
func holds(conditions []metav1.Condition, typ, contains string) error {
	c := meta.FindStatusCondition(conditions, typ)
	if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, contains) {
		return fmt.Errorf("not %s: %+v", typ, c)
	}
	return nil
}
