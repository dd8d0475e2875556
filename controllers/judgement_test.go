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
	"k8s.io/utils/ptr"
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

// Judging again without any change changes nothing, whatever happened before: a steady system writes nothing, and time
// alone changes nothing before the next look. And the invariant: an environment is never authorised without every
// criterion of its gate.
func TestJudgementIsIdempotentAndSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		w.complicate(rt)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			before := w.s.release.Status.DeepCopy()
			w.step(rt)
			st := w.judge()
			if again := w.judge(); !sameStatus(st, again) {
				rt.Fatalf("judging again changed the status:\n%s", cmp.Diff(st, again))
			}
			checkAuthorized(rt, w, before, st)
			w.checkSteady(rt)
		}
	})
}

// checkSteady judges once more, some time before the next look.
func (w *world) checkSteady(t *rapid.T) {
	if !w.recheck.IsZero() && !w.recheck.After(w.s.now) {
		t.Fatalf("the next look is at %s, now is %s", w.recheck, w.s.now)
	}
	span := 100 * day
	if !w.recheck.IsZero() {
		span = w.recheck.Sub(w.s.now) - 1
	}
	later := w.s
	later.now = w.s.now.Add(time.Duration(rapid.Int64Range(0, int64(span)).Draw(t, "before the next look")))
	if st, _ := judgeRelease(later, w.bundle); !sameStatus(w.s.release.Status, st) {
		t.Fatalf("at %s, %s after the last look and before the next at %s:\n%s", later.now, later.now.Sub(w.s.now), w.recheck, cmp.Diff(w.s.release.Status, st))
	}
}

// complicate adds to the bridge what the seed's does not have.
func (w *world) complicate(t *rapid.T) {
	add := func(gate int, c v1alpha1.Criterion) {
		if rapid.Bool().Draw(t, c.Name) {
			w.s.gates[gate].Spec.Criteria = append(slices.Clone(w.s.gates[gate].Spec.Criteria), c)
		}
	}
	office := &v1alpha1.Window{TimeZone: "Europe/Paris", Countries: []string{"fr"},
		Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", Start: "09:00", Duration: metav1.Duration{Duration: 8 * time.Hour}}}}
	add(0, v1alpha1.Criterion{Name: "fresh", Freshness: &v1alpha1.FreshnessCriterion{MaxAge: metav1.Duration{Duration: 2 * day}}})
	add(0, v1alpha1.Criterion{Name: "counted", Result: &v1alpha1.ResultCriterion{Type: "tests", MaxSkipped: ptr.To(int32(3))}})
	add(1, v1alpha1.Criterion{Name: "window", Window: office})
	add(2, v1alpha1.Criterion{Name: "expression", CEL: &v1alpha1.CELCriterion{Expression: "release.works >= 30"}})
	add(3, v1alpha1.Criterion{Name: "fresh", Freshness: &v1alpha1.FreshnessCriterion{MaxAge: metav1.Duration{Duration: 20 * day}, Types: []string{"scan"}}})
	add(3, v1alpha1.Criterion{Name: "long", Soak: soak("rmoa-dynors", day, 9*day)})
	w.s.project.Spec.Attestations = &v1alpha1.Attestations{Enabled: rapid.Bool().Draw(t, "attestations")}
	for i := range w.s.bridge {
		w.s.bridge[i].Spec.Supersede = rapid.SampledFrom([]string{"", v1alpha1.SupersedeAlways, v1alpha1.SupersedeNever}).Draw(t, "supersede")
		if rapid.IntRange(0, 3).Draw(t, "windowed") == 0 {
			w.s.bridge[i].Spec.Window = office
		}
	}
}

// step lets one thing happen.
func (w *world) step(t *rapid.T) {
	phases := []string{v1alpha1.RolloutPulling, v1alpha1.RolloutHealthy, v1alpha1.RolloutHealthy, v1alpha1.RolloutUnhealthy, v1alpha1.RolloutRolledBack, v1alpha1.RolloutFailed}
	gates := rapid.SampledFrom([]string{"ci", "qa", "client", "production"})
	users := rapid.SampledFrom([]string{"qa@dynors.com", "dev@dynors.com"})
	annotations := w.s.release.Annotations
	switch rapid.IntRange(0, 15).Draw(t, "step") {
	case 0, 1:
		w.result(rapid.SampledFrom([]string{"tests", "scan"}).Draw(t, "type"), rapid.SampledFrom([]string{"passed", "passed", "passed", "failed"}).Draw(t, "status"), 85)
		spec := &w.s.results[len(w.s.results)-1].Spec
		spec.Pipeline, spec.Job = fmt.Sprint(len(w.s.results)/3), rapid.SampledFrom([]string{"", "e2e"}).Draw(t, "job")
		spec.Digest = rapid.SampledFrom([]string{"", "sha256:1", "sha256:2"}).Draw(t, "digest")
		if spec.Type == "tests" && rapid.Bool().Draw(t, "counts") {
			spec.Tests = &v1alpha1.TestCounts{Total: 20, Passed: 15, Skipped: rapid.Int32Range(0, 5).Draw(t, "skipped")}
		}
	case 2:
		annotations[v1alpha1.ApprovalPrefix+gates.Draw(t, "gate")] = rapid.SampledFrom([]string{"qa@dynors.com", "qa@dynors.com", "dev@dynors.com", ""}).Draw(t, "user")
	case 3, 4:
		for _, e := range w.s.release.Status.Environments {
			if e.Phase == v1alpha1.PhaseAuthorized || e.Phase == v1alpha1.PhaseDeploying || e.Phase == v1alpha1.PhaseHealthy {
				if findEntry(w.s.release.Status.Environments, e.Name) != nil { // what happened before it may have withdrawn it
					w.deploy(t, e.Name, rapid.SampledFrom(phases).Draw(t, "phase"))
				}
			}
		}
	case 5, 6:
		w.s.now = w.s.now.Add(time.Duration(rapid.Int64Range(0, int64(10*day)).Draw(t, "time")))
	case 7:
		if w.recheck.After(w.s.now) {
			w.s.now = w.recheck
		}
	case 8:
		if e := findEntry(w.s.release.Status.Environments, "rmoa-client"); e != nil && e.Phase == v1alpha1.PhaseHealthy {
			w.openPV(rapid.SampledFrom([]v1alpha1.PVDecision{"", v1alpha1.PVAccepted, v1alpha1.PVRefused}).Draw(t, "decision"))
		}
	case 9:
		w.freeze(rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "bundle"))
	case 10:
		w.s.guard.ok = rapid.Bool().Draw(t, "guarded")
	case 11:
		prefix := rapid.SampledFrom([]string{v1alpha1.RejectionPrefix, v1alpha1.BreakGlassPrefix, v1alpha1.RegularisationPrefix}).Draw(t, "what")
		annotations[prefix+gates.Draw(t, "gate")] = users.Draw(t, "user") + ": " + rapid.SampledFrom([]string{"bugs", "fire"}).Draw(t, "reason")
	case 12:
		prefix := rapid.SampledFrom([]string{v1alpha1.RejectionPrefix, v1alpha1.BreakGlassPrefix, v1alpha1.RegularisationPrefix, v1alpha1.ApprovalPrefix}).Draw(t, "what")
		delete(annotations, prefix+gates.Draw(t, "gate"))
	case 13:
		w.sibling(rapid.SampledFrom([]string{"dev", "rmoa-client", "production"}).Draw(t, "environment"),
			rapid.SampledFrom([]string{v1alpha1.PhaseHealthy, v1alpha1.PhaseRolledBack}).Draw(t, "phase"), rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "newer"))
	case 14:
		p := v1alpha1.PV{}
		p.Name = fmt.Sprint("other", len(w.s.otherPVs))
		p.Status.Reservations = []v1alpha1.Reservation{{Text: "slow", Owner: "Dynors", Deadline: w.s.now.Add(time.Duration(rapid.IntRange(-2, 20).Draw(t, "days")) * day).Format(time.DateOnly)}}
		w.s.otherPVs = append(w.s.otherPVs, p)
	case 15:
		annotations[v1alpha1.AnnotationRetry] = fmt.Sprintf("%s@%d", rapid.SampledFrom([]string{"dev", "production"}).Draw(t, "environment"), w.s.now.Unix())
	}
}

// sibling is another release of the project, created so long after this one, which was let into an environment just now.
func (w *world) sibling(env, phase string, newer time.Duration) *v1alpha1.Release {
	o := w.newRelease(fmt.Sprintf("bbbbbb%d", len(w.s.siblings)))
	o.CreationTimestamp = metav1.NewTime(w.s.release.CreationTimestamp.Add(newer))
	o.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: env, Phase: phase, Message: "port in use", AuthorizedAt: metav1.NewMicroTime(w.s.now.Truncate(time.Microsecond))}}
	w.s.siblings = append(w.s.siblings, *o)
	return &w.s.siblings[len(w.s.siblings)-1]
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
		got, err := environmentTaggings(env, r)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s: accepted as %v", text, got)
		case want != "" && (err != nil || got[0].name != want):
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// pushed brings a release up to the gate of dev.
func (w *world) pushed() *world {
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	return w
}

func (w *world) entry(env string) *v1alpha1.ReleaseEnvironment {
	return findEntry(w.s.release.Status.Environments, env)
}

func (w *world) annotate(prefix, gate, value string) v1alpha1.ReleaseStatus {
	w.s.release.Annotations[prefix+gate] = value
	return w.judge()
}

func TestWorseResultsWithdrawWhatIsNotDeployedYet(t *testing.T) {
	w := newWorld().pushed()
	if w.judge(); w.entry("dev") == nil {
		t.Fatal(w.s.release.Status.Next)
	}
	w.result(v1alpha1.TypeTests, v1alpha1.StatusFailed, 85)
	st := w.judge()
	want := &v1alpha1.Returned{To: "development", Gate: "ci", By: "CI", Reason: "tests failed"}
	if diff := cmp.Diff(want, st.Returned); diff != "" || w.entry("dev") != nil {
		t.Errorf("dev %+v %s", w.entry("dev"), diff)
	}
}

// A release that is let in anew, after it had been taken back, has nothing to do with what was sent before: not even if the
// clock stood still in between.
func TestALaterAuthorisationIsNotTheEarlierOne(t *testing.T) {
	w := newWorld().pushed()
	w.judge()
	w.deploy(t, "dev", v1alpha1.RolloutRolledBack)
	w.freeze("v2")
	if w.judge(); w.entry("dev").Phase != v1alpha1.PhaseAuthorized {
		t.Fatal(w.s.release.Status.Next)
	}
	passed := w.s.results
	w.result(v1alpha1.TypeTests, v1alpha1.StatusFailed, 85)
	if w.judge(); w.entry("dev") != nil {
		t.Fatal(w.s.release.Status.Next)
	}
	w.s.results = passed
	w.judge()
	if w.judge(); w.entry("dev") == nil || w.entry("dev").Phase != v1alpha1.PhaseAuthorized {
		t.Errorf("the Rollout before counted once more: %s", w.s.release.Status.Next)
	}
}

func TestResultsOnOtherImagesDoNotCount(t *testing.T) {
	w := newWorld()
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 85)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	w.s.results[1].Spec.Digest = "sha256:2"
	if st := w.judge(); w.entry("dev") != nil || slices.Contains(st.Evidence, w.s.results[1].Name) {
		t.Errorf("a scan of another image opened dev: %v", st.Evidence)
	}
	w.s.results[1].Spec.Digest = "sha256:1"
	if w.judge(); w.entry("dev") == nil {
		t.Error(w.s.release.Status.Next)
	}
}

func TestRejectionAfterTheDeploymentTakesBack(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.pass(time.Hour)
	st := w.annotate(v1alpha1.RejectionPrefix, "client", "cto@dynors.com: the demo data is real")
	want := &v1alpha1.Returned{To: "development", Gate: "client", By: "cto@dynors.com", Reason: "the demo data is real"}
	if diff := cmp.Diff(want, st.Returned); diff != "" || w.entry("rmoa-client").Phase != v1alpha1.PhaseReturned || ready(st) != v1alpha1.ReasonRejected || st.Reached != "rmoa-dynors" {
		t.Fatalf("%s, reached %s, %+v %s", ready(st), st.Reached, w.entry("rmoa-client"), diff)
	}
	w.pass(time.Hour)
	delete(w.s.release.Annotations, v1alpha1.RejectionPrefix+"client")
	st = w.judge()
	if w.entry("rmoa-client").Phase != v1alpha1.PhaseReturned || st.Returned != nil || ready(st) != v1alpha1.ReasonWaiting || !strings.Contains(st.Next, "approve") {
		t.Fatalf("lifted: %s in rmoa-client, %s: %s, returned %+v", w.entry("rmoa-client").Phase, ready(st), st.Next, st.Returned)
	}
	delete(w.s.release.Annotations, v1alpha1.ApprovalPrefix+"client")
	w.pass(time.Hour)
	w.approve("client", "qa@dynors.com")
	if e := w.entry("rmoa-client"); e.Phase != v1alpha1.PhaseAuthorized {
		t.Errorf("approved again: %+v: %s", e, w.s.release.Status.Next)
	}
}

func TestReturnedByTheClient(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVRefused)
	w.s.pvs[0].Status.SignedBy = "Mme Martin"
	want := &v1alpha1.Returned{To: "rmoa-dynors", Gate: "client", By: "Mme Martin", Reason: "the invoice total is wrong"}
	if diff := cmp.Diff(want, w.judge().Returned); diff != "" {
		t.Error(diff)
	}
}

func TestHoldAfterRollback(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(w *world)
		opens bool
	}{
		{"another release failed", func(w *world) { w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour) }, false},
		{"in another environment", func(w *world) { w.sibling("production", v1alpha1.PhaseRolledBack, -time.Hour) }, true},
		{"another one came after it", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			w.s.now = w.s.now.Add(time.Minute)
			w.sibling("dev", v1alpha1.PhaseHealthy, -time.Hour)
		}, true},
		{"holds are off", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseFailed, -time.Hour)
			w.s.bridge[0].Spec.HoldAfterRollback = ptr.To(false)
		}, true},
		{"resumed", func(w *world) {
			o := w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			w.s.bridge[0].Annotations = map[string]string{v1alpha1.AnnotationResume: holdOn(w.s.bridge[0], w.s.siblings, nil).ID}
			o.Status.Environments[0].Message = "said otherwise since"
		}, true},
		{"resumed after an earlier failure", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			w.s.bridge[0].Annotations = map[string]string{v1alpha1.AnnotationResume: holdOn(w.s.bridge[0], w.s.siblings, nil).ID}
			w.s.now = w.s.now.Add(time.Minute)
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
		}, false},
		{"resumed with an id that is none", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			w.s.bridge[0].Annotations = map[string]string{v1alpha1.AnnotationResume: "nobody@2099-01-01T00:00:00.000000Z"}
		}, false},
		{"at a Manual gate", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			w.s.gates[0].Spec.Mode = v1alpha1.ModeManual
		}, true},
		{"a release that failed later was resumed, and is tried again itself", func(w *world) {
			w.sibling("dev", v1alpha1.PhaseRolledBack, -time.Hour)
			let := metav1.NewMicroTime(w.s.now.Add(time.Minute))
			w.s.release.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "dev", Phase: v1alpha1.PhaseRolledBack, BundleHash: "sha256:devv1", AuthorizedAt: let}}
			w.s.bridge[0].Annotations = map[string]string{v1alpha1.AnnotationResume: string(w.s.release.UID) + "@" + formatMicro(let)}
			w.s.release.Annotations[v1alpha1.AnnotationRetry] = "dev@1"
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld().pushed()
			c.play(w)
			st := w.judge()
			if e := w.entry("dev"); (e != nil && e.Phase == v1alpha1.PhaseAuthorized) != c.opens {
				t.Errorf("dev %+v: %s", e, st.Next)
			}
			if !c.opens && !strings.Contains(st.Next, "kubectl sirrat resume dev") {
				t.Errorf("it does not say how to go on: %s", st.Next)
			}
		})
	}
}

func TestBreakGlassIsLoudAndOwed(t *testing.T) {
	const cto, qa = "cto@dynors.com", "qa@dynors.com"
	w := newWorld()
	w.toClient(t)
	before := w.s.release.Status.Karma
	st := w.annotate(v1alpha1.BreakGlassPrefix, "production", cto+": the site is down")
	if w.entry("production") == nil || st.Karma != before-20 || findCondition(st.Conditions, v1alpha1.ConditionDebt).Status != metav1.ConditionTrue {
		t.Fatalf("karma %d of %d, production %+v: %s", st.Karma, before, w.entry("production"), st.Next)
	}
	// owes says whether the next release is stopped, at the gates of that environment and at no other.
	owes := func() bool {
		t.Helper()
		next := newWorld().pushed()
		next.s.siblings = []v1alpha1.Release{*w.s.release.DeepCopy()}
		next.s.siblings[0].Name, next.s.siblings[0].UID = "aaaaaaa", "uid-aaaaaaa"
		next.s.siblings[0].CreationTimestamp = metav1.NewTime(next.s.now.Add(-day))
		owed := false
		for _, g := range next.judge().Gates {
			stopped := strings.Contains(g.Message, "opened in an emergency for release aaaaaaa by "+cto)
			if stopped && g.Name != "production" {
				t.Errorf("gate %s is stopped by a debt at production", g.Name)
			}
			owed = owed || stopped
		}
		return owed
	}
	step := func(what string, want bool) {
		t.Helper()
		w.pass(time.Minute)
		if got := owes(); got != want || w.s.release.Status.Karma != before-20 {
			t.Errorf("%s: owes %v, karma %d", what, got, w.s.release.Status.Karma)
		}
	}
	step("at once", true)
	w.annotate(v1alpha1.RegularisationPrefix, "production", cto+": I looked again")
	step("regularised by who did it", true)
	delete(w.s.release.Annotations, v1alpha1.BreakGlassPrefix+"production")
	step("withdrawn", true)
	w.annotate(v1alpha1.RegularisationPrefix, "production", qa+": tested afterwards")
	step("regularised by another", false)
	delete(w.s.release.Annotations, v1alpha1.RegularisationPrefix+"production")
	step("both annotations removed", false)
	w.pass(time.Minute)
	w.annotate(v1alpha1.BreakGlassPrefix, "production", cto+": down again")
	w.pass(time.Minute)
	if !owes() {
		t.Error("what was regularised before settles the next break-glass too")
	}
}

func TestBreakGlassForgedWhileUnguarded(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	before := w.s.release.Status.Karma
	w.s.guard = guardState{message: "missing"}
	w.annotate(v1alpha1.BreakGlassPrefix, "production", "cto@dynors.com: fire")
	w.s.guard = guardState{ok: true, id: "policy/1"}
	w.judge()
	st := w.judge()
	if w.entry("production") != nil || st.Karma != before || findCondition(st.Conditions, v1alpha1.ConditionDebt).Status != metav1.ConditionFalse {
		t.Errorf("it counts: karma %d of %d, %s", st.Karma, before, st.Next)
	}
}

func TestSupersede(t *testing.T) {
	for _, c := range []struct {
		mode, supersede string
		gives           bool
	}{
		{v1alpha1.ModeAutomatic, "", true}, {v1alpha1.ModeAutomatic, v1alpha1.SupersedeAutomatic, true}, {v1alpha1.ModeAutomatic, v1alpha1.SupersedeNever, false},
		{v1alpha1.ModeManual, "", false}, {v1alpha1.ModeManual, v1alpha1.SupersedeAutomatic, false}, {v1alpha1.ModeManual, v1alpha1.SupersedeAlways, true},
	} {
		w := newWorld().pushed()
		w.s.gates[0].Spec.Mode, w.s.bridge[0].Spec.Supersede = c.mode, c.supersede
		w.sibling("dev", v1alpha1.PhaseHealthy, time.Hour)
		w.sibling("dev", v1alpha1.PhaseHealthy, 2*time.Hour)
		st := w.judge()
		if (w.entry("dev") == nil) != c.gives || c.gives && !strings.Contains(st.Next, "bbbbbb1 is newer") {
			t.Errorf("%s %q: %s", c.mode, c.supersede, st.Next)
		}
		slices.Reverse(w.s.siblings)
		if again := w.judge(); !sameStatus(st, again) {
			t.Errorf("%s %q depends on the order of the cache: %s, %s", c.mode, c.supersede, st.Next, again.Next)
		}
	}
}

func TestOverdueReservationHoldsUpTheNextRelease(t *testing.T) {
	w := newWorld()
	w.toClient(t)
	w.openPV(v1alpha1.PVAccepted)
	w.pass(7 * day)
	p := v1alpha1.PV{}
	p.Name = "pv-of-v1.2.0"
	p.Status.Reservations = []v1alpha1.Reservation{{Text: "slow", Owner: "Dynors", Deadline: w.s.now.Format(time.DateOnly)}}
	w.s.otherPVs = []v1alpha1.PV{p}
	w.approve("production", "cto@dynors.com")
	midnight := w.s.now.Truncate(day).Add(day)
	if w.entry("production") == nil || !w.recheck.Equal(midnight) {
		t.Fatalf("on its last day: next look at %s: %s", w.recheck, w.s.release.Status.Next)
	}
	w.s.now = midnight
	if st := w.judge(); w.entry("production") != nil || !strings.Contains(st.Next, "kubectl sirrat pv lift pv-of-v1.2.0 1") {
		t.Fatalf("overdue: %s", st.Next)
	}
	w.s.otherPVs[0].Status.Reservations[0].Lifted = "qa: measured"
	if w.judge(); w.entry("production") == nil {
		t.Errorf("lifted: %s", w.s.release.Status.Next)
	}
}

func TestTimeRunsOutBetweenAuthorisationAndDeployment(t *testing.T) {
	closing := &v1alpha1.Window{TimeZone: "UTC", Deny: []v1alpha1.Period{{Start: "2026-11-01T10:00", Duration: metav1.Duration{Duration: time.Hour}}}}
	for name, change := range map[string]func(w *world){
		"freshness": func(w *world) {
			w.s.gates[0].Spec.Criteria = append(w.s.gates[0].Spec.Criteria, v1alpha1.Criterion{Name: "fresh", Freshness: &v1alpha1.FreshnessCriterion{MaxAge: metav1.Duration{Duration: time.Hour}}})
		},
		"window of the gate": func(w *world) {
			w.s.gates[0].Spec.Criteria = append(w.s.gates[0].Spec.Criteria, v1alpha1.Criterion{Name: "window", Window: closing})
		},
		"window of the environment": func(w *world) { w.s.bridge[0].Spec.Window = closing },
	} {
		for _, deployed := range []bool{false, true} {
			w := newWorld().pushed()
			change(w)
			w.judge()
			if want := w.s.now.Add(time.Hour); w.entry("dev") == nil || !w.recheck.Equal(want) || nextLook(w.s.now, w.recheck) != time.Hour {
				t.Fatalf("%s: next look at %s, want %s: %s", name, w.recheck, want, w.s.release.Status.Next)
			}
			if deployed {
				w.deploy(t, "dev", v1alpha1.RolloutPulling)
			}
			w.pass(time.Hour - time.Second)
			if w.entry("dev") == nil {
				t.Errorf("%s: withdrawn too early", name)
			}
			w.pass(time.Second)
			if (w.entry("dev") != nil) != deployed {
				t.Errorf("%s, deployed %v: %+v", name, deployed, w.entry("dev"))
			}
		}
	}
}

func TestBaselineOutlivesTheReleaseItCameFrom(t *testing.T) {
	w := newWorld().pushed()
	w.s.previous = "aaaaaaa"
	before := v1alpha1.CIResult{Spec: v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Tests: &v1alpha1.TestCounts{Total: 40, Passed: 39, Skipped: 1}}}
	w.s.before = []v1alpha1.CIResult{before}
	want := &v1alpha1.Baseline{Release: "aaaaaaa", Tests: ptr.To(int32(40)), Skipped: ptr.To(int32(1))}
	if diff := cmp.Diff(want, w.judge().Baseline); diff != "" {
		t.Fatal(diff)
	}
	w.s.previous, w.s.before = "", nil
	if diff := cmp.Diff(want, w.judge().Baseline); diff != "" {
		t.Error(diff)
	}
}

func TestNextLookIsExact(t *testing.T) {
	w := newWorld().pushed()
	w.judge()
	w.pass(3 * time.Minute)
	w.deploy(t, "dev", v1alpha1.RolloutHealthy)
	w.pass(17*time.Minute + 500*time.Millisecond)
	end := time.Date(2026, 11, 4, 9, 3, 0, 0, time.UTC) // three days of soak for perfect works
	if st := w.s.release.Status; !w.recheck.Equal(end) || !st.Gates[1].Earliest.Time.Equal(end) || nextLook(w.s.now, w.recheck) != end.Sub(w.s.now) {
		t.Errorf("next look at %s, earliest %s, want %s", w.recheck, st.Gates[1].Earliest, end)
	}
	if st, want := w.s.release.Status, "production on 2026-11-11T09:03:00Z, if everybody acts at once"; st.Earliest != want {
		t.Errorf("earliest is %q, want %q", st.Earliest, want)
	}
	w.s.now = end
	if st := w.judge(); st.Earliest != "production 168h0m0s after gate qa has what it waits for: 1 approval(s) by somebody who may approve at gate qa: kubectl sirrat approve a1b2c3d qa" || !w.recheck.IsZero() {
		t.Errorf("earliest is %q, next look at %s", st.Earliest, w.recheck)
	}
	retry := end.Add(registryRetry)
	for _, c := range []struct {
		recheck, retry time.Time
		want           time.Duration
	}{{time.Time{}, time.Time{}, 0}, {time.Time{}, retry, registryRetry}, {end.Add(time.Hour), retry, registryRetry}, {end.Add(time.Second), retry, time.Second}, {end.Add(-time.Hour), time.Time{}, time.Millisecond}} {
		if got := nextLook(end, c.recheck, c.retry); got != c.want {
			t.Errorf("next look in %s, want %s", got, c.want)
		}
	}
}

// Two gates may guard one environment: both must pass, whichever does so first.
func TestEveryGateOfAnEnvironmentMustPass(t *testing.T) {
	for _, number := range []int32{2, 9} {
		w := newWorld()
		extra := v1alpha1.QualityGate{Spec: v1alpha1.QualityGateSpec{Number: number, Environment: "production", Mode: v1alpha1.ModeAutomatic,
			Criteria: []v1alpha1.Criterion{{Name: "karma", Karma: &v1alpha1.KarmaCriterion{Minimum: 60}}}}}
		extra.Name = "extra"
		w.s.gates = append(w.s.gates, extra)
		slices.SortStableFunc(w.s.gates, func(a, b v1alpha1.QualityGate) int { return int(a.Spec.Number - b.Spec.Number) })
		w.toClient(t)
		w.openPV(v1alpha1.PVAccepted)
		w.pass(14 * day)
		w.approve("production", "cto@dynors.com")
		if st := w.judge(); findEntry(st.Environments, "production") != nil {
			t.Errorf("number %d: one gate was enough: %s", number, verdicts(st))
		}
		for i := range w.s.gates {
			if w.s.gates[i].Name == "extra" {
				w.s.gates[i].Spec.Criteria[0].Karma.Minimum = 50
			}
		}
		if st := w.judge(); findEntry(st.Environments, "production") == nil {
			t.Errorf("number %d: both pass, and it stays shut: %s", number, verdicts(st))
		}
	}
}

// Where a pipeline deploys, its newest report counts; a failure that made somebody let the release in again fails it no more.
func TestObserveReport(t *testing.T) {
	let := time.Date(2026, 11, 23, 10, 0, 0, 500_000_000, time.UTC)
	for _, c := range []struct {
		status string
		after  time.Duration // received, after the release was let in
		phase  string
	}{
		{"", 0, v1alpha1.PhaseAuthorized},
		{v1alpha1.StatusDeployed, -time.Hour, v1alpha1.PhaseHealthy},
		{v1alpha1.StatusDeployed, time.Hour, v1alpha1.PhaseHealthy},
		{v1alpha1.StatusFailed, -time.Hour, v1alpha1.PhaseAuthorized},
		{v1alpha1.StatusFailed, 0, v1alpha1.PhaseFailed},
		{v1alpha1.StatusFailed, time.Hour, v1alpha1.PhaseFailed},
		{v1alpha1.StatusRolledBack, -time.Hour, v1alpha1.PhaseAuthorized},
		{v1alpha1.StatusRolledBack, time.Hour, v1alpha1.PhaseRolledBack},
	} {
		report := v1alpha1.CIResult{Spec: v1alpha1.CIResultSpec{Status: c.status, Received: metav1.NewTime(let.Add(c.after).Truncate(time.Second))}}
		got := observeReport(v1alpha1.ReleaseEnvironment{AuthorizedAt: metav1.NewMicroTime(let)}, report)
		if got.Phase != c.phase {
			t.Errorf("%s %s after: %s, want %s", c.status, c.after, got.Phase, c.phase)
		}
		if since := got.HealthySince; since != nil && since.Time.Before(let.Truncate(time.Second)) {
			t.Errorf("%s %s after: healthy since %s", c.status, c.after, since)
		}
	}
}
