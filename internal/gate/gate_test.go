// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

var now = time.Date(2026, 11, 22, 14, 3, 0, 0, time.UTC)

const hash = "sha256:aa"

func base(criteria ...v1alpha1.Criterion) Input {
	return Input{
		Name: "g", Spec: v1alpha1.QualityGateSpec{Number: 1, Environment: "next", Mode: v1alpha1.ModeManual, Criteria: criteria},
		Release: "r", CreatedBy: "dev", Evidence: evidence.Set{Results: map[string]evidence.Result{}},
		Frozen: true, BundleHash: hash, GuardedExists: true, Guarded: true, Now: now,
		Environments: map[string]v1alpha1.ReleaseEnvironment{},
	}
}

func with(in Input, f func(*Input)) Input { f(&in); return in }

func healthy(since time.Duration) v1alpha1.ReleaseEnvironment {
	t := metav1.NewTime(now.Add(-since))
	return v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseHealthy, HealthySince: &t}
}

// inPhase is the environment in another phase.
func inPhase(e v1alpha1.ReleaseEnvironment, phase string) v1alpha1.ReleaseEnvironment {
	e.Phase = phase
	return e
}

func approval(user string) v1alpha1.ApprovalRecord {
	return v1alpha1.ApprovalRecord{Gate: "g", User: user, Decision: v1alpha1.DecisionApproved, BundleHash: hash}
}

func percent(f float64) *float64 { return &f }

func bound(n int32) *int32 { return &n }

func TestJudge(t *testing.T) {
	tests := v1alpha1.Criterion{Name: "tests", Result: &v1alpha1.ResultCriterion{Type: "tests"}}
	scan := v1alpha1.Criterion{Name: "scan", Result: &v1alpha1.ResultCriterion{Type: "scan", MaxCritical: bound(0)}}
	coverage := v1alpha1.Criterion{Name: "coverage", Coverage: &v1alpha1.CoverageCriterion{Minimum: 80}}
	images := v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}}
	soak := v1alpha1.Criterion{Name: "soak", Soak: &v1alpha1.SoakCriterion{Environment: "dev",
		Min: metav1.Duration{Duration: 72 * time.Hour}, Max: metav1.Duration{Duration: 120 * time.Hour}}}
	health := v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: "dev"}}
	approve := v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1}}
	two := v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 2}}
	pv := v1alpha1.Criterion{Name: "pv", PV: &v1alpha1.PVCriterion{}}
	karma := v1alpha1.Criterion{Name: "karma", Karma: &v1alpha1.KarmaCriterion{Minimum: 50}}
	results := func(r ...evidence.Result) func(*Input) {
		return func(in *Input) {
			for _, x := range r {
				in.Evidence.Results[x.Type] = x
			}
		}
	}
	env := func(e v1alpha1.ReleaseEnvironment) func(*Input) {
		return func(in *Input) { in.Environments["dev"] = e }
	}
	approvals := func(a ...v1alpha1.ApprovalRecord) func(*Input) { return func(in *Input) { in.Approvals = a } }
	thePV := func(p PV) func(*Input) { return func(in *Input) { in.PV = &p } }

	for _, c := range []struct {
		name   string
		in     Input
		want   v1alpha1.Verdict
		reason string
	}{
		{"no result", base(tests), v1alpha1.VerdictWaiting, "NoResult"},
		{"passed", with(base(tests), results(evidence.Result{Type: "tests", Status: "passed"})), v1alpha1.VerdictPassed, "ResultPassed"},
		{"failed", with(base(tests), results(evidence.Result{Type: "tests", Status: "failed"})), v1alpha1.VerdictRefused, "ResultFailed"},
		{"skipped", with(base(tests), results(evidence.Result{Type: "tests", Status: "skipped"})), v1alpha1.VerdictRefused, "ResultFailed"},
		{"critical finding", with(base(scan), results(evidence.Result{Type: "scan", Status: "passed", Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: 1}})), v1alpha1.VerdictRefused, "TooManyFindings"},
		{"no coverage", base(coverage), v1alpha1.VerdictWaiting, "NoCoverage"},
		{"coverage just below", with(base(coverage), results(evidence.Result{Type: "tests", Status: "passed", Coverage: percent(79.9)})), v1alpha1.VerdictRefused, "CoverageTooLow"},
		{"coverage reached", with(base(coverage), results(evidence.Result{Type: "tests", Status: "passed", Coverage: percent(80)})), v1alpha1.VerdictPassed, "CoverageReached"},
		{"not frozen", with(base(images), func(in *Input) { in.Frozen, in.BundleHash, in.FrozenMessage = false, "", "no tag" }), v1alpha1.VerdictWaiting, "NotFrozen"},
		{"soak not begun", base(soak), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"soaking", with(base(soak), env(healthy(time.Hour))), v1alpha1.VerdictWaiting, "Soaking"},
		{"soaked the whole time for works of 0", with(base(soak), env(healthy(120*time.Hour))), v1alpha1.VerdictPassed, "Soaked"},
		{"one second short", with(base(soak), env(healthy(120*time.Hour-time.Second))), v1alpha1.VerdictWaiting, "Soaking"},
		{"good works cross faster", with(with(base(soak), env(healthy(72*time.Hour))), func(in *Input) { in.Works = 50 }), v1alpha1.VerdictPassed, "Soaked"},
		{"unhealthy breaks the soak", with(base(soak), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseUnhealthy})), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"healthy", with(base(health), env(healthy(0))), v1alpha1.VerdictPassed, "Healthy"},
		{"deploying", with(base(health), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseDeploying})), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"rolled back before", with(base(health), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseRolledBack})), v1alpha1.VerdictRefused, "FailedThere"},
		{"approved", with(base(approve), approvals(approval("qa"))), v1alpha1.VerdictPassed, "Approved"},
		{"not approved", base(approve), v1alpha1.VerdictWaiting, "ApprovalMissing"},
		{"by the creator", with(base(approve), approvals(approval("dev"))), v1alpha1.VerdictWaiting, "CreatorExcluded"},
		{"creator unknown", with(with(base(approve), approvals(approval("qa"))), func(in *Input) { in.CreatedBy = "" }), v1alpha1.VerdictWaiting, "CreatorUnknown"},
		{"for another bundle", with(base(approve), approvals(v1alpha1.ApprovalRecord{User: "qa", Decision: v1alpha1.DecisionApproved, BundleHash: "sha256:bb"})), v1alpha1.VerdictWaiting, "ApprovalStale"},
		{"for no bundle", with(base(approve), approvals(v1alpha1.ApprovalRecord{User: "qa", Decision: v1alpha1.DecisionApproved})), v1alpha1.VerdictWaiting, "ApprovalStale"},
		{"one of two", with(base(two), approvals(approval("qa"))), v1alpha1.VerdictWaiting, "QuorumMissing"},
		{"the same person twice", with(base(two), approvals(approval("qa"), approval("qa"))), v1alpha1.VerdictWaiting, "QuorumMissing"},
		{"policy missing", with(with(base(approve), approvals(approval("qa"))), func(in *Input) { in.Guarded = false }), v1alpha1.VerdictWaiting, "NotGuarded"},
		{"no PV", base(pv), v1alpha1.VerdictWaiting, "NoPV"},
		{"unsigned PV", with(base(pv), thePV(PV{Name: "p"})), v1alpha1.VerdictWaiting, "PVUnsigned"},
		{"accepted PV", with(base(pv), thePV(PV{Name: "p", Decision: v1alpha1.PVAccepted})), v1alpha1.VerdictPassed, "PVAccepted"},
		{"PV for another bundle", with(base(pv), thePV(PV{Decision: v1alpha1.PVAccepted, BundleHash: "x", TestedHash: "y"})), v1alpha1.VerdictWaiting, "PVStale"},
		{"refused PV", with(base(pv), thePV(PV{Name: "p", Decision: v1alpha1.PVRefused})), v1alpha1.VerdictRefused, "PVRefused"},
		{"reserved PV", with(base(pv), thePV(PV{Name: "p", Decision: v1alpha1.PVAcceptedWithReservations})), v1alpha1.VerdictRefused, "PVReserved"},
		{"karma too low", base(karma), v1alpha1.VerdictWaiting, "KarmaTooLow"},
		{"undecided PV of another bundle", with(base(pv), thePV(PV{Name: "p", BundleHash: "x", TestedHash: "y"})), v1alpha1.VerdictWaiting, "PVUnsigned"},
		{"failed before", with(base(health), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseFailed})), v1alpha1.VerdictRefused, "FailedThere"},
		{"healthy by its phase alone", with(base(health), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseHealthy})), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"was healthy until another release came", with(base(health), env(inPhase(healthy(0), v1alpha1.PhaseSuperseded))), v1alpha1.VerdictPassed, "WasHealthy"},
		{"superseded before it was healthy", with(base(health), env(v1alpha1.ReleaseEnvironment{Phase: v1alpha1.PhaseSuperseded})), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"was healthy, and is not any more", with(base(health), env(inPhase(healthy(time.Hour), v1alpha1.PhaseUnhealthy))), v1alpha1.VerdictWaiting, "NotHealthy"},
		{"healthy in another environment than the one before", with(with(base(health), env(healthy(0))), func(in *Input) { in.After = "test" }), v1alpha1.VerdictWaiting, "NotDeployed"},
		{"unknown criterion", base(v1alpha1.Criterion{Name: "new"}), v1alpha1.VerdictRefused, "UnknownCriterion"},
		{"rejected although all holds", with(with(base(images), func(*Input) {}), approvals(v1alpha1.ApprovalRecord{User: "qa", Decision: v1alpha1.DecisionRejected, Reason: "bugs"})), v1alpha1.VerdictRefused, "Rejected"},
		{"no environment", with(base(images), func(in *Input) { in.GuardedExists = false }), v1alpha1.VerdictWaiting, "NoEnvironment"},
		{"environment taken down", with(base(images), func(in *Input) { in.Decommissioned = true }), v1alpha1.VerdictWaiting, "Decommissioned"},
		{"neither bundle nor criterion that asks for images", with(with(base(tests), results(evidence.Result{Type: "tests", Status: "passed"})),
			func(in *Input) { in.Frozen, in.BundleHash = false, "" }), v1alpha1.VerdictWaiting, "NotFrozen"},
		{"bad compose file", with(base(images), func(in *Input) { in.BundleHash, in.BundleProblem = "", "services.web: no image" }), v1alpha1.VerdictWaiting, "BundleInvalid"},
		{"not over the bridge", with(base(images), func(in *Input) { in.After = "dev" }), v1alpha1.VerdictWaiting, "NotDeployed"},
		{"version missing", with(base(images), func(in *Input) { in.NeedsVersion = true }), v1alpha1.VerdictWaiting, "NoVersion"},
		{"failed there", with(base(images), func(in *Input) { in.Failed = "rolled back" }), v1alpha1.VerdictRefused, "FailedThere"},
		{"superseded", with(base(images), func(in *Input) { in.Spec.Mode, in.SupersededBy = v1alpha1.ModeAutomatic, "r2" }), v1alpha1.VerdictRefused, "Superseded"},
		{"break-glass", with(base(tests), approvals(v1alpha1.ApprovalRecord{User: "cto", Decision: v1alpha1.DecisionBrokeGlass, Reason: "fire", BundleHash: hash})), v1alpha1.VerdictPassed, "BrokeGlass"},
		{"break-glass does not conjure a bundle", with(with(base(tests), approvals(v1alpha1.ApprovalRecord{User: "cto", Decision: v1alpha1.DecisionBrokeGlass, BundleHash: hash})),
			func(in *Input) { in.BundleHash = "" }), v1alpha1.VerdictWaiting, "NotFrozen"},
		{"nothing opens without a bundle", with(with(base(approve), approvals(approval("qa"))), func(in *Input) { in.BundleHash = "" }), v1alpha1.VerdictWaiting, "NotFrozen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Judge(c.in)
			if got.Verdict != c.want {
				t.Errorf("verdict %s, want %s: %s", got.Verdict, c.want, got.Message)
			}
			if got.Name != "g" || got.Number != 1 || got.Environment != "next" {
				t.Errorf("of gate %s, %d, before %s", got.Name, got.Number, got.Environment)
			}
			if last := got.Criteria[len(got.Criteria)-1]; last.Reason != c.reason {
				t.Errorf("reason %s, want %s: %+v", last.Reason, c.reason, got.Criteria)
			}
			if got.Verdict != v1alpha1.VerdictPassed && got.Message == "" {
				t.Error("no message")
			}
		})
	}
}

func TestSoakEndsExactly(t *testing.T) {
	in := base(v1alpha1.Criterion{Name: "soak", Soak: &v1alpha1.SoakCriterion{Environment: "dev",
		Min: metav1.Duration{Duration: time.Hour}, Max: metav1.Duration{Duration: 2 * time.Hour}}})
	in.Environments["dev"] = healthy(10 * time.Minute)
	in.Works = 25
	got := Judge(in)
	if want := now.Add(80 * time.Minute); got.Until == nil || !got.Until.Time.Equal(want) {
		t.Fatalf("until %v, want %v", got.Until, want)
	}
	in.Now = got.Until.Time
	if v := Judge(in); v.Verdict != v1alpha1.VerdictPassed {
		t.Fatalf("at its end: %s: %s", v.Verdict, v.Message)
	}
}

// A moment is told only when time alone opens the gate, and then that of the last wait: a criterion that holds until then has none.
func TestUntilIsTheLastWait(t *testing.T) {
	fresh := v1alpha1.Criterion{Name: "fresh", Freshness: &v1alpha1.FreshnessCriterion{MaxAge: hours(99)}}
	soak := func(env string, h int) v1alpha1.Criterion {
		return v1alpha1.Criterion{Name: env, Soak: &v1alpha1.SoakCriterion{Environment: env, Min: hours(h), Max: hours(h)}}
	}
	in := base(soak("test", 5), soak("dev", 3), fresh)
	in.Environments["dev"], in.Environments["test"] = healthy(time.Hour), healthy(time.Hour)
	in.Evidence.Results["tests"] = evidence.Result{Type: "tests", Status: "passed", Received: now}
	if got := Judge(in); got.Until == nil || !got.Until.Time.Equal(now.Add(4*time.Hour)) || !got.Recheck.Equal(now.Add(2*time.Hour)) {
		t.Errorf("until %s, recheck %s", got.Until, got.Recheck)
	}
	in.Spec.Criteria = []v1alpha1.Criterion{fresh, {Name: "approval", Approval: &v1alpha1.ApprovalCriterion{}}}
	if got := Judge(in); got.Until != nil || !got.Recheck.Equal(now.Add(99*time.Hour)) {
		t.Errorf("until %s, recheck %s", got.Until, got.Recheck)
	}
}

// One line for tables: what is missing first, and how much else; each once.
func TestWaitingFor(t *testing.T) {
	result := func(typ string) v1alpha1.Criterion {
		return v1alpha1.Criterion{Name: typ, Result: &v1alpha1.ResultCriterion{Type: typ}}
	}
	for _, c := range []struct {
		want string
		in   Input
	}{
		{"", base(v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}})},
		{"CI posts a result of type tests", base(result("tests"), result("tests"))},
		{"CI posts a result of type tests (and 2 more)", base(result("tests"), result("scan"), result("quality"))},
		{"release r2 is newer and already in next", with(base(), func(in *Input) { in.SupersededBy = "r2" })},
	} {
		if got := WaitingFor(Judge(c.in).GateVerdict); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// What only the code sees of a declaration is told where it is declared.
func TestProblem(t *testing.T) {
	for _, c := range []struct {
		want      string
		criterion v1alpha1.Criterion
	}{
		{"", v1alpha1.Criterion{Name: "w", Window: &v1alpha1.Window{}}},
		{"spec.criteria[w]: ", v1alpha1.Criterion{Name: "w", Window: &v1alpha1.Window{TimeZone: "Europe/Nowhere"}}},
		{"", v1alpha1.Criterion{Name: "c", CEL: &v1alpha1.CELCriterion{Expression: "release.karma > 3"}}},
		{"spec.criteria[c]: ", v1alpha1.Criterion{Name: "c", CEL: &v1alpha1.CELCriterion{Expression: "release.karma >"}}},
	} {
		got := Problem(v1alpha1.QualityGateSpec{Criteria: []v1alpha1.Criterion{passing, c.criterion}})
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Better works never lengthen a soak, and it stays within its bounds.
func TestRequiredIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := time.Duration(rapid.Int64Range(0, int64(87600*time.Hour)).Draw(t, "min"))
		high := time.Duration(rapid.Int64Range(int64(low), int64(87600*time.Hour)).Draw(t, "max"))
		c := v1alpha1.SoakCriterion{Min: metav1.Duration{Duration: low}, Max: metav1.Duration{Duration: high}}
		last := high
		for works := int32(0); works <= 50; works++ {
			d := Required(c, works)
			if d > last || d < low || d > high {
				t.Fatalf("works %d: %s after %s, bounds %s–%s", works, d, last, low, high)
			}
			last = d
		}
		if last != low {
			t.Fatalf("perfect works require %s, want %s", last, low)
		}
		if Required(c, 51) != low || Required(c, -1) != high {
			t.Fatalf("works beyond their scale require %s and %s", Required(c, 51), Required(c, -1))
		}
	})
}

// Whatever the rest says: without its approvals on exactly this bundle a gate that asks for one does not open.
func TestNoApprovalNoPassage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := base(v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: rapid.Int32Range(1, 3).Draw(t, "need")}})
		in.Guarded = rapid.Bool().Draw(t, "guarded")
		users := map[string]bool{}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			a := v1alpha1.ApprovalRecord{Gate: "g", Decision: v1alpha1.DecisionApproved,
				User:       rapid.SampledFrom([]string{"dev", "qa", "cto", "qa2"}).Draw(t, "user"),
				BundleHash: rapid.SampledFrom([]string{hash, "", "sha256:bb"}).Draw(t, "hash"),
				Stale:      rapid.SampledFrom([]string{"", "", "changed"}).Draw(t, "stale")}
			in.Approvals = append(in.Approvals, a)
			if a.BundleHash == hash && a.Stale == "" && a.User != "dev" {
				users[a.User] = true
			}
		}
		want := in.Guarded && int32(len(users)) >= in.Spec.Criteria[0].Approval.Minimum
		if got := Judge(in).Verdict == v1alpha1.VerdictPassed; got != want {
			t.Fatalf("passed %v, want %v: %+v", got, want, in.Approvals)
		}
	})
}
