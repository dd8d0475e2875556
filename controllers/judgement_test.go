// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// world is a project on the bridge of the seed, judged without any API: what controllers, agents and people would do to
// the objects is done by its methods.
type world struct {
	s      snapshot
	bundle *v1alpha1.Bundle
	seq    int64
	// recheck is when time alone may change the last judgement.
	recheck time.Time
}

func newWorld() *world {
	p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: "reg.example/backend"}}}}
	p.Name, p.UID = "supergest-001", "project-uid"
	p.Spec.Karma = v1alpha1.KarmaPolicy{Tests: 20, Coverage: 15, CoverageTarget: 80, Scan: 15, PerHigh: 3, PerMedium: 1, Crossing: 50, RolledBack: 10, PVRefused: 10, BreakGlass: 20}
	w := &world{s: snapshot{project: p, guard: guardState{ok: true, id: "policy/1"}, hosts: map[string][]rollout.Host{}, now: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)}}
	var envs []v1alpha1.Environment
	for _, o := range templateDynors(p) {
		switch o := o.(type) {
		case *v1alpha1.Environment:
			envs = append(envs, *o)
			w.s.hosts[o.Name] = []rollout.Host{{Name: "host-" + o.Name, Enrolled: true}}
		case *v1alpha1.QualityGate:
			w.s.gates = append(w.s.gates, *o)
		}
	}
	w.s.bridge, _ = orderBridge(envs)
	w.s.release = w.newRelease("a1b2c3d")
	w.freeze("v1")
	return w
}

func (w *world) newRelease(name string) *v1alpha1.Release {
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: name + strings.Repeat("0", 40-len(name)), Version: "v1.3.0"}}
	r.Name, r.Namespace, r.UID = name, "supergest-001", types.UID("uid-"+name)
	r.CreationTimestamp = metav1.NewTime(w.s.now)
	r.Annotations = map[string]string{v1alpha1.AnnotationCreatedBy: "dev@dynors.com"}
	return r
}

// freeze gives every environment a bundle whose hash depends on the text.
func (w *world) freeze(text string) {
	w.bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "backend", Repository: "reg.example/backend", Digest: "sha256:1"}}}
	for _, e := range w.s.bridge {
		w.bundle.Environments = append(w.bundle.Environments, v1alpha1.EnvironmentBundle{Environment: e.Name, Hash: "sha256:" + e.Name + text})
	}
}

func (w *world) result(typ, status string, coverage float64) {
	r := v1alpha1.CIResult{Spec: v1alpha1.CIResultSpec{Commit: w.s.release.Spec.Commit, Type: typ, Status: status, Received: metav1.NewTime(w.s.now)}}
	r.Name = fmt.Sprintf("a1b2c3d-%s-%d", typ, len(w.s.results))
	if coverage > 0 {
		r.Spec.Coverage = &coverage
	}
	w.s.results = append(w.s.results, r)
}

// judge stores a new status, as the Release controller does.
func (w *world) judge() v1alpha1.ReleaseStatus {
	w.s.release.Status, w.recheck = judgeRelease(w.s, w.bundle)
	return w.s.release.Status
}

// deploy makes the Rollout of an authorised environment, as the Environment controller does, in the given phase.
func (w *world) deploy(t rapid.TB, env, phase string) {
	t.Helper()
	e := findEntry(w.s.release.Status.Environments, env)
	if e == nil {
		t.Fatalf("%s is not authorised: %s", env, w.s.release.Status.Next)
	}
	ro := v1alpha1.Rollout{Spec: v1alpha1.RolloutSpec{Environment: env, BundleHash: e.BundleHash}}
	ro.Namespace = v1alpha1.HostNamespace("host-" + env)
	ro.Annotations = map[string]string{v1alpha1.AnnotationAuthorizedAt: formatMicro(e.AuthorizedAt)}
	ro.Status.Phase = phase
	if phase == v1alpha1.RolloutHealthy {
		now := metav1.NewTime(w.s.now)
		ro.Status.HealthySince = &now
	}
	w.s.rollouts = slices.DeleteFunc(w.s.rollouts, func(o v1alpha1.Rollout) bool {
		return o.Spec.Environment == env && o.Annotations[v1alpha1.AnnotationAuthorizedAt] == ro.Annotations[v1alpha1.AnnotationAuthorizedAt]
	})
	w.seq++
	ro.Spec.Sequence = w.seq
	w.s.rollouts = append(w.s.rollouts, ro)
	w.judge()
}

func (w *world) approve(gate, user string) {
	w.s.release.Annotations[v1alpha1.ApprovalPrefix+gate] = user
	w.judge()
}

// openPV makes the PV of the release as it stands in rmoa-client; decision "" leaves it unsigned.
func (w *world) openPV(decision v1alpha1.PVDecision) {
	e := findEntry(w.s.release.Status.Environments, "rmoa-client")
	p := v1alpha1.PV{Spec: v1alpha1.PVSpec{Environment: "rmoa-client", Release: v1alpha1.PVRelease{BundleHash: e.BundleHash, AuthorizedAt: e.AuthorizedAt}}}
	p.Name = fmt.Sprint("pv", len(w.s.pvs))
	p.CreationTimestamp = metav1.NewTime(w.s.now)
	p.Status.Decision = decision
	if decision != "" {
		now := metav1.NewTime(w.s.now)
		p.Status.SignedAt, p.Status.Reason = &now, "the invoice total is wrong"
	}
	w.s.pvs = append(w.s.pvs, p)
	w.judge()
}

func (w *world) pass(d time.Duration) { w.s.now = w.s.now.Add(d); w.judge() }

// toClient brings the release to the client's acceptance.
func (w *world) toClient(t rapid.TB) {
	t.Helper()
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	w.judge()
	w.deploy(t, "dev", v1alpha1.RolloutHealthy)
	w.pass(3 * day)
	w.approve("qa", "qa@dynors.com")
	w.deploy(t, "rmoa-dynors", v1alpha1.RolloutHealthy)
	w.approve("client", "qa@dynors.com")
	w.deploy(t, "rmoa-client", v1alpha1.RolloutHealthy)
}

func verdicts(st v1alpha1.ReleaseStatus) string {
	var out []string
	for _, g := range st.Gates {
		out = append(out, g.Name+" "+string(g.Verdict))
	}
	return strings.Join(out, ", ")
}

func ready(st v1alpha1.ReleaseStatus) string {
	return findCondition(st.Conditions, v1alpha1.ConditionReady).Reason
}

func TestCrossing(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVAccepted)
	w.pass(7 * day)
	w.approve("production", "cto@dynors.com")
	w.deploy(t, "production", v1alpha1.RolloutHealthy)
	st := w.s.release.Status
	if got, want := verdicts(st), "ci Passed, qa Passed, client Passed, production Passed"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if st.Karma != 100 || st.Level != "Code Divin" || st.Reached != "production" || ready(st) != v1alpha1.ReasonCrossed {
		t.Errorf("karma %d %s, reached %s, %s", st.Karma, st.Level, st.Reached, ready(st))
	}
}

func TestEveryStepIsNeeded(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(t *testing.T, w *world)
		env  string // must not be authorised
		next string // part of what is said
	}{
		{"failing tests", func(t *testing.T, w *world) {
			w.result(v1alpha1.TypeTests, v1alpha1.StatusFailed, 85)
			w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
			w.judge()
		}, "dev", "back to development: gate ci"},
		{"no scan", func(t *testing.T, w *world) { w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85); w.judge() }, "dev", "CI posts a result of type scan"},
		{"approved too early", func(t *testing.T, w *world) {
			w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
			w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
			w.judge()
			w.deploy(t, "dev", v1alpha1.RolloutHealthy)
			w.pass(3*day - time.Second)
			w.approve("qa", "qa@dynors.com")
		}, "rmoa-dynors", "time: 2026-11-04"},
		{"no PV", func(t *testing.T, w *world) {
			w.toClient(t)
			w.pass(14 * day)
			w.approve("production", "cto@dynors.com")
		}, "production", "gate production"},
		{"unsigned PV", func(t *testing.T, w *world) {
			w.toClient(t)
			w.openPV("")
			w.pass(14 * day)
			w.approve("production", "cto@dynors.com")
		}, "production", "the client signs the PV"},
		{"approved by the creator", func(t *testing.T, w *world) {
			w.toClient(t)
			w.openPV(v1alpha1.PVAccepted)
			w.pass(14 * day)
			w.approve("production", "dev@dynors.com")
		}, "production", "1 approval"},
		{"rejected", func(t *testing.T, w *world) {
			w.toClient(t)
			w.openPV(v1alpha1.PVAccepted)
			w.s.release.Annotations[v1alpha1.RejectionPrefix+"production"] = "cto@dynors.com: not before Monday"
			w.pass(14 * day)
			w.approve("production", "cto@dynors.com")
		}, "production", "not before Monday"},
		{"no policy", func(t *testing.T, w *world) {
			w.toClient(t)
			w.openPV(v1alpha1.PVAccepted)
			w.s.guard = guardState{message: "missing"}
			w.pass(14 * day)
			w.approve("production", "cto@dynors.com")
		}, "production", "restores the admission policy"},
		{"compose file of production changed after the approval", func(t *testing.T, w *world) {
			w.toClient(t)
			w.approve("production", "cto@dynors.com")
			findBundle(w.bundle, "production").Hash = "sha256:other"
			w.openPV(v1alpha1.PVAccepted)
			w.pass(14 * day)
		}, "production", "1 approval"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.play(t, w)
			st := w.judge()
			if findEntry(st.Environments, c.env) != nil {
				t.Errorf("%s was authorised: %s", c.env, verdicts(st))
			}
			if !strings.Contains(st.Next, c.next) {
				t.Errorf("next is %q, want %q", st.Next, c.next)
			}
		})
	}
}

func TestClientRefuses(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVRefused)
	st := w.judge()
	if st.Reached != "rmoa-dynors" || ready(st) != v1alpha1.ReasonPVRefused || !strings.Contains(st.Next, "the invoice total is wrong") {
		t.Fatalf("reached %s, %s: %s", st.Reached, ready(st), st.Next)
	}
	if st.Karma != 40 {
		t.Errorf("karma %d, want 50 − 10", st.Karma)
	}
	// The approval from before the refusal no longer counts; withdrawn and given again it does.
	if a := st.Approvals[0]; a.Gate != "client" && st.Approvals[1].Stale == "" {
		t.Errorf("approvals %+v", st.Approvals)
	}
	w.pass(time.Hour)
	delete(w.s.release.Annotations, v1alpha1.ApprovalPrefix+"client")
	w.judge()
	w.approve("client", "qa@dynors.com")
	w.deploy(t, "rmoa-client", v1alpha1.RolloutHealthy)
	if st := w.judge(); st.Reached != "rmoa-client" {
		t.Fatalf("after a second approval: reached %s: %s", st.Reached, st.Next)
	}
	w.openPV(v1alpha1.PVAccepted)
	w.pass(14 * day)
	w.approve("production", "cto@dynors.com")
	if st := w.judge(); findEntry(st.Environments, "production") == nil {
		t.Errorf("after a second PV: %s", st.Next)
	}
}

func TestRollbackAndRetry(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVAccepted)
	w.pass(14 * day)
	w.approve("production", "cto@dynors.com")
	w.deploy(t, "production", v1alpha1.RolloutRolledBack)
	st := w.judge()
	if st.Karma != 40 || ready(st) != v1alpha1.ReasonRolledBack || st.Reached != "rmoa-client" {
		t.Fatalf("karma %d, %s, reached %s: %s", st.Karma, ready(st), st.Reached, st.Next)
	}
	first := findEntry(st.Environments, "production").AuthorizedAt
	w.pass(time.Hour)
	if e := findEntry(w.s.release.Status.Environments, "production"); !e.AuthorizedAt.Equal(&first) {
		t.Fatal("tried again without being told")
	}
	w.s.release.Annotations[v1alpha1.AnnotationRetry] = "production@1"
	st = w.judge()
	e := findEntry(st.Environments, "production")
	if e.Phase != v1alpha1.PhaseAuthorized || e.AuthorizedAt.Equal(&first) {
		t.Fatalf("not tried again: %+v", e)
	}
	w.deploy(t, "production", v1alpha1.RolloutHealthy)
	if st := w.judge(); st.Karma != 100 {
		t.Errorf("karma %d after the second try", st.Karma)
	}
}

func TestUnhealthyBreaksTheSoak(t *testing.T) {
	w := newWorld()
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	w.judge()
	w.deploy(t, "dev", v1alpha1.RolloutHealthy)
	w.pass(2 * day)
	w.deploy(t, "dev", v1alpha1.RolloutUnhealthy)
	w.pass(time.Minute)
	w.deploy(t, "dev", v1alpha1.RolloutHealthy)
	w.pass(2 * day)
	w.approve("qa", "qa@dynors.com")
	if findEntry(w.s.release.Status.Environments, "rmoa-dynors") != nil {
		t.Error("two broken halves counted as a whole soak")
	}
}

// A server cannot make a soak shorter by what it says of its own past.
func TestHealthySinceIsBounded(t *testing.T) {
	at := func(minutes int) *metav1.Time {
		m := metav1.NewTime(time.Date(2026, 11, 1, 9, minutes, 0, 0, time.UTC))
		return &m
	}
	let := metav1.NewMicroTime(at(10).Time)
	now := at(40).Time
	for name, c := range map[string]struct {
		before         v1alpha1.ReleaseEnvironment
		reported, want *metav1.Time
	}{
		"as reported":                        {v1alpha1.ReleaseEnvironment{AuthorizedAt: let, Phase: v1alpha1.PhaseDeploying}, at(20), at(20)},
		"before it was let in":               {v1alpha1.ReleaseEnvironment{AuthorizedAt: let, Phase: v1alpha1.PhaseDeploying}, at(1), at(10)},
		"before a sickness that was seen":    {v1alpha1.ReleaseEnvironment{AuthorizedAt: let, Phase: v1alpha1.PhaseUnhealthy}, at(20), at(40)},
		"earlier than what it said before":   {v1alpha1.ReleaseEnvironment{AuthorizedAt: let, Phase: v1alpha1.PhaseHealthy, HealthySince: at(20)}, at(15), at(20)},
		"a new health after an unseen break": {v1alpha1.ReleaseEnvironment{AuthorizedAt: let, Phase: v1alpha1.PhaseHealthy, HealthySince: at(20)}, at(30), at(30)},
	} {
		if got := healthySince(c.before, c.reported, now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestExpired(t *testing.T) {
	var releases []v1alpha1.Release
	for _, uid := range []types.UID{"newest", "b", "c", "runs", "oldest"} {
		releases = append(releases, v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{UID: uid}})
	}
	envs := []v1alpha1.Environment{{Status: v1alpha1.EnvironmentStatus{LastGood: &v1alpha1.EnvironmentRelease{UID: "runs"}}}}
	var got []string
	for _, r := range expired(releases, envs, nil, 2) {
		got = append(got, string(r.UID))
	}
	if diff := cmp.Diff([]string{"c", "oldest"}, got); diff != "" {
		t.Error(diff)
	}
	if expired(releases, envs, nil, 5) != nil || expired(releases, envs, nil, 0) != nil {
		t.Error("something expired although nothing is too many")
	}
}

func TestNewerReleaseTakesDev(t *testing.T) {
	w := newWorld()
	newer := w.newRelease("bbbbbbb")
	newer.CreationTimestamp = metav1.NewTime(w.s.now.Add(time.Hour))
	newer.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "dev", Phase: v1alpha1.PhaseHealthy, AuthorizedAt: metav1.NewMicroTime(w.s.now.Add(2 * time.Hour))}}
	w.s.siblings = []v1alpha1.Release{*newer}
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	if st := w.judge(); findEntry(st.Environments, "dev") != nil || ready(st) != v1alpha1.ReasonSuperseded {
		t.Errorf("an older commit replaced a newer one: %s, %s", ready(st), st.Next)
	}
}

// Judging again without any change changes nothing, whatever happened before: a steady system writes nothing. And the
// invariant: an environment is never authorised without every criterion of its gate.
func TestJudgementIsIdempotentAndSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		phases := []string{v1alpha1.RolloutPulling, v1alpha1.RolloutHealthy, v1alpha1.RolloutUnhealthy, v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			before := w.s.release.Status.DeepCopy()
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0:
				w.result(rapid.SampledFrom([]string{"tests", "scan"}).Draw(rt, "type"), rapid.SampledFrom([]string{"passed", "passed", "failed"}).Draw(rt, "status"), 85)
			case 1:
				w.s.release.Annotations[v1alpha1.ApprovalPrefix+rapid.SampledFrom([]string{"qa", "client", "production"}).Draw(rt, "gate")] =
					rapid.SampledFrom([]string{"qa@dynors.com", "dev@dynors.com", ""}).Draw(rt, "user")
			case 2, 3:
				for _, e := range w.s.release.Status.Environments {
					if e.Phase == v1alpha1.PhaseAuthorized || e.Phase == v1alpha1.PhaseDeploying || e.Phase == v1alpha1.PhaseHealthy {
						w.deploy(rt, e.Name, rapid.SampledFrom(phases).Draw(rt, "phase"))
					}
				}
			case 4, 5:
				w.s.now = w.s.now.Add(time.Duration(rapid.Int64Range(0, int64(10*day)).Draw(rt, "time")))
			case 6:
				if e := findEntry(w.s.release.Status.Environments, "rmoa-client"); e != nil && e.Phase == v1alpha1.PhaseHealthy {
					w.openPV(rapid.SampledFrom([]v1alpha1.PVDecision{"", v1alpha1.PVAccepted, v1alpha1.PVRefused}).Draw(rt, "decision"))
				}
			case 7:
				w.freeze(rapid.SampledFrom([]string{"v1", "v2"}).Draw(rt, "bundle"))
			case 8:
				w.s.guard.ok = rapid.Bool().Draw(rt, "guarded")
			}
			st := w.judge()
			if again := w.judge(); !sameStatus(st, again) {
				rt.Fatalf("judging again changed the status:\n%s", cmp.Diff(st, again))
			}
			checkAuthorized(rt, w, before, st)
		}
	})
}

// checkAuthorized fails if an environment was newly authorised although its gate did not pass for exactly this bundle.
func checkAuthorized(t *rapid.T, w *world, before *v1alpha1.ReleaseStatus, st v1alpha1.ReleaseStatus) {
	for _, e := range st.Environments {
		if old := findEntry(before.Environments, e.Name); old != nil && old.AuthorizedAt.Equal(&e.AuthorizedAt) {
			continue
		}
		if e.BundleHash == "" || e.BundleHash != bundleHash(w.bundle, e.Name) {
			t.Fatalf("%s authorised with bundle %q", e.Name, e.BundleHash)
		}
		for _, g := range st.Gates {
			if g.Environment != e.Name {
				continue
			}
			for _, c := range g.Criteria {
				if c.Verdict != v1alpha1.VerdictPassed {
					t.Fatalf("%s authorised although %s/%s is %s: %s", e.Name, g.Name, c.Name, c.Verdict, c.Message)
				}
			}
		}
	}
}

// An approval that was written while nothing protected approvals does not become valid once something does.
func TestForgedWhileUnguarded(t *testing.T) {
	for name, forge := range map[string]func(w *world){
		"while the policy was missing": func(w *world) {
			w.s.guard = guardState{message: "missing"}
			w.approve("production", "cto@dynors.com")
			w.s.guard = guardState{ok: true, id: "policy/1"}
		},
		"while the policy was exchanged and nobody looked": func(w *world) {
			w.s.release.Annotations[v1alpha1.ApprovalPrefix+"production"] = "cto@dynors.com"
			w.s.guard = guardState{ok: true, id: "policy/2"}
		},
		"before the policy existed, on a release that nobody had judged": func(w *world) {
			w.s.release.Status.Guard = ""
			w.s.release.Annotations[v1alpha1.ApprovalPrefix+"production"] = "cto@dynors.com"
			w.s.guard.since = w.s.release.CreationTimestamp.Add(time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.toClient(t)
			w.openPV(v1alpha1.PVAccepted)
			w.pass(14 * day)
			forge(w)
			w.judge()
			if st := w.judge(); findEntry(st.Environments, "production") != nil {
				t.Fatal("a forged approval opened production")
			}
			delete(w.s.release.Annotations, v1alpha1.ApprovalPrefix+"production")
			w.judge()
			w.approve("production", "cto@dynors.com")
			if findEntry(w.s.release.Status.Environments, "production") == nil {
				t.Errorf("a true approval afterwards does not count: %s", w.s.release.Status.Next)
			}
		})
	}
}

func TestOrderBridge(t *testing.T) {
	env := func(name, after string) v1alpha1.Environment {
		e := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{After: after}}
		e.Name = name
		return e
	}
	ordered, broken := orderBridge([]v1alpha1.Environment{env("c", "b"), env("a", ""), env("x", "y"), env("y", "x"), env("b", "a"), env("z", "nowhere")})
	var names []string
	for _, e := range ordered {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x", "y", "z"}, broken); diff != "" {
		t.Error(diff)
	}
}

func TestTagTemplates(t *testing.T) {
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", Version: "v1.3.0"}}
	for text, want := range map[string]string{
		"dev-{{ .SHA7 }}": "dev-a1b2c3d", "{{ .Version }}": "v1.3.0", "latest": "latest",
		"{{ printf \"%s\" .SHA7 }}": "", "{{ range .SHA7 }}{{ end }}": "", "{{ .Nothing }}": "", "{{": "", "{{ .SHA7 | html }}": "",
	} {
		env := v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{Tags: []string{text}}}
		got, err := renderTags(env, r)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s: accepted as %v", text, got)
		case want != "" && (err != nil || got[0] != want):
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
