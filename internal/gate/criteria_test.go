// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

const (
	isPassed  = v1alpha1.VerdictPassed
	isWaiting = v1alpha1.VerdictWaiting
	isRefused = v1alpha1.VerdictRefused
)

// judged is one case: a gate with one criterion, or with something that stands in its way.
type judged struct {
	name    string
	in      Input
	verdict v1alpha1.Verdict
	// reason and part of the needs of the last criterion that is told.
	reason, needs string
	// recheck is when time alone changes something; zero if never.
	recheck time.Time
}

func run(t *testing.T, cases []judged) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Judge(c.in)
			if got.Verdict != c.verdict {
				t.Errorf("verdict %s, want %s: %s", got.Verdict, c.verdict, got.Message)
			}
			last := got.Criteria[len(got.Criteria)-1]
			for _, v := range got.Criteria {
				if v.Verdict != isPassed && v.Verdict != isWaiting && v.Verdict != isRefused {
					t.Errorf("criterion %s has the verdict %q", v.Name, v.Verdict)
				}
			}
			if last.Reason != c.reason {
				t.Errorf("reason %s, want %s: %+v", last.Reason, c.reason, got.Criteria)
			}
			if !strings.Contains(last.Needs, c.needs) || (last.Needs == "") != (c.needs == "") {
				t.Errorf("needs %q, want %q", last.Needs, c.needs)
			}
			if last.Verdict != isPassed && last.Message == "" {
				t.Error("it does not say why")
			}
			if !got.Recheck.Equal(c.recheck) {
				t.Errorf("recheck at %s, want %s", got.Recheck, c.recheck)
			}
			if got.Until != nil && (got.Verdict != isWaiting || !got.Until.After(c.in.Now)) {
				t.Errorf("%s until %s, which is not after now", got.Verdict, got.Until)
			}
		})
	}
}

func one(c v1alpha1.Criterion, change ...func(*Input)) Input {
	c.Name = "c"
	in := base(c)
	for _, f := range change {
		f(&in)
	}
	return in
}

func reported(r evidence.Result) func(*Input) {
	return func(in *Input) {
		if r.Status == "" {
			r.Status = v1alpha1.StatusPassed
		}
		in.Evidence.Results[r.Type] = r
	}
}

func hours(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Hour} }

func TestResultWithinBounds(t *testing.T) {
	scan := func(c v1alpha1.ResultCriterion, v *v1alpha1.VulnerabilityCounts) Input {
		c.Type = "scan"
		return one(v1alpha1.Criterion{Result: &c}, reported(evidence.Result{Type: "scan", Vulnerabilities: v}))
	}
	tests := func(c v1alpha1.ResultCriterion, n *v1alpha1.TestCounts) Input {
		c.Type = "tests"
		return one(v1alpha1.Criterion{Result: &c}, reported(evidence.Result{Type: "tests", Tests: n}))
	}
	figures := func(c v1alpha1.ResultCriterion, coverage, score *float64) Input {
		c.Type = "quality"
		return one(v1alpha1.Criterion{Result: &c}, reported(evidence.Result{Type: "quality", Coverage: coverage, Score: score}))
	}
	three := &v1alpha1.VulnerabilityCounts{Critical: 3, High: 3, Medium: 3, Low: 3}
	counts := &v1alpha1.TestCounts{Total: 10, Passed: 7, Skipped: 3}
	run(t, []judged{
		{"critical above the bound", scan(v1alpha1.ResultCriterion{MaxCritical: bound(2)}, three), isRefused, "TooManyFindings", again, time.Time{}},
		{"high above the bound", scan(v1alpha1.ResultCriterion{MaxHigh: bound(2)}, three), isRefused, "TooManyFindings", again, time.Time{}},
		{"medium above the bound", scan(v1alpha1.ResultCriterion{MaxMedium: bound(2)}, three), isRefused, "TooManyFindings", again, time.Time{}},
		{"low above the bound", scan(v1alpha1.ResultCriterion{MaxLow: bound(2)}, three), isRefused, "TooManyFindings", again, time.Time{}},
		{"low above a bound of none", scan(v1alpha1.ResultCriterion{MaxLow: bound(0)}, &v1alpha1.VulnerabilityCounts{Low: 1}), isRefused, "TooManyFindings", again, time.Time{}},
		{"all at their bounds", scan(v1alpha1.ResultCriterion{MaxCritical: bound(3), MaxHigh: bound(3), MaxMedium: bound(3), MaxLow: bound(3)}, three), isPassed, "ResultPassed", "", time.Time{}},
		{"a clean scan needs no counts", scan(v1alpha1.ResultCriterion{MaxLow: bound(0)}, nil), isPassed, "ResultPassed", "", time.Time{}},
		{"too many skipped", tests(v1alpha1.ResultCriterion{MaxSkipped: bound(2)}, counts), isRefused, "TooManySkipped", again, time.Time{}},
		{"as many skipped as allowed", tests(v1alpha1.ResultCriterion{MaxSkipped: bound(3)}, counts), isPassed, "ResultPassed", "", time.Time{}},
		{"too few passed", tests(v1alpha1.ResultCriterion{MinPassed: bound(8)}, counts), isRefused, "TooFewTests", again, time.Time{}},
		{"as many passed as needed", tests(v1alpha1.ResultCriterion{MinPassed: bound(7)}, counts), isPassed, "ResultPassed", "", time.Time{}},
		{"skips are bounded but not counted", tests(v1alpha1.ResultCriterion{MaxSkipped: bound(100)}, nil), isWaiting, "NoCounts", "CI posts the counts", time.Time{}},
		{"passes are bounded but not counted", tests(v1alpha1.ResultCriterion{MinPassed: bound(0)}, nil), isWaiting, "NoCounts", "CI posts the counts", time.Time{}},
		{"coverage below", figures(v1alpha1.ResultCriterion{MinCoverage: bound(80)}, percent(79.99), nil), isRefused, "FigureTooLow", again, time.Time{}},
		{"coverage reached", figures(v1alpha1.ResultCriterion{MinCoverage: bound(80)}, percent(80), nil), isPassed, "ResultPassed", "", time.Time{}},
		{"coverage missing", figures(v1alpha1.ResultCriterion{MinCoverage: bound(0)}, nil, percent(100)), isWaiting, "NoFigure", "CI posts the coverage of quality", time.Time{}},
		{"score below", figures(v1alpha1.ResultCriterion{MinScore: bound(70)}, percent(100), percent(69.9)), isRefused, "FigureTooLow", again, time.Time{}},
		{"score reached", figures(v1alpha1.ResultCriterion{MinScore: bound(70)}, nil, percent(70)), isPassed, "ResultPassed", "", time.Time{}},
		{"score missing", figures(v1alpha1.ResultCriterion{MinScore: bound(70)}, percent(100), nil), isWaiting, "NoFigure", "CI posts the score of quality", time.Time{}},
		{"failed although every figure is fine", one(v1alpha1.Criterion{Result: &v1alpha1.ResultCriterion{Type: "tests", MinPassed: bound(1)}},
			reported(evidence.Result{Type: "tests", Status: "failed", Tests: counts})), isRefused, "ResultFailed", again, time.Time{}},
		{"a status that nobody knows", one(v1alpha1.Criterion{Result: &v1alpha1.ResultCriterion{Type: "tests"}},
			reported(evidence.Result{Type: "tests", Status: "perhaps"})), isRefused, "ResultFailed", again, time.Time{}},
	})
}

func TestArtifact(t *testing.T) {
	has := func(images, artifacts []string) func(*Input) {
		return func(in *Input) { in.Images, in.Artifacts = images, artifacts }
	}
	image := v1alpha1.Criterion{Artifact: &v1alpha1.ArtifactCriterion{Image: "backend"}}
	maven := v1alpha1.Criterion{Artifact: &v1alpha1.ArtifactCriterion{Maven: "com.dynors:supergest"}}
	run(t, []judged{
		{"image pinned", one(image, has([]string{"frontend", "backend"}, nil)), isPassed, "ImagePinned", "", time.Time{}},
		{"another image pinned", one(image, has([]string{"backend2"}, nil)), isWaiting, "ImageMissing", "CI pushes the image backend", time.Time{}},
		{"artifact declared", one(maven, has(nil, []string{"com.dynors:other:1", "com.dynors:supergest:1.3.0"})), isPassed, "ArtifactDeclared", "", time.Time{}},
		{"snapshot", one(maven, has(nil, []string{"com.dynors:supergest:1.3.0-SNAPSHOT"})), isRefused, "ArtifactSnapshot", "does not change", time.Time{}},
		{"a snapshot beside the real one", one(maven, has(nil, []string{"com.dynors:supergest:1-SNAPSHOT", "com.dynors:supergest:1"})), isRefused, "ArtifactSnapshot", "does not change", time.Time{}},
		{"one build of a snapshot", one(maven, has(nil, []string{"com.dynors:supergest:1.3.0-20260102.030405-6"})), isRefused, "ArtifactSnapshot", "does not change", time.Time{}},
		{"a word for the newest", one(maven, has(nil, []string{"com.dynors:supergest:LATEST"})), isRefused, "ArtifactSnapshot", "does not change", time.Time{}},
		{"a name that begins alike", one(maven, has(nil, []string{"com.dynors:supergest-web:1.3.0"})), isRefused, "ArtifactMissing", "spec.artifacts lists com.dynors:supergest", time.Time{}},
		{"nothing declared", one(maven), isRefused, "ArtifactMissing", "spec.artifacts", time.Time{}},
	})
}

func TestFreshness(t *testing.T) {
	old := func(typ string, age time.Duration) func(*Input) {
		return reported(evidence.Result{Type: typ, Received: now.Add(-age)})
	}
	fresh := func(types ...string) v1alpha1.Criterion {
		return v1alpha1.Criterion{Freshness: &v1alpha1.FreshnessCriterion{MaxAge: hours(24), Types: types}}
	}
	run(t, []judged{
		{"nothing reported", one(fresh()), isWaiting, "NoResult", "CI posts results", time.Time{}},
		{"of one type", one(fresh("scan"), old("scan", time.Hour), old("tests", 99*time.Hour)), isPassed, "Fresh", "", now.Add(23 * time.Hour)},
		{"of all types the first to expire", one(fresh(), old("scan", time.Hour), old("tests", 2*time.Hour)), isPassed, "Fresh", "", now.Add(22 * time.Hour)},
		{"whichever type it is of", one(fresh(), old("scan", 2*time.Hour), old("tests", time.Hour)), isPassed, "Fresh", "", now.Add(22 * time.Hour)},
		{"one of all expired, whichever it is", one(fresh(), old("scan", 25*time.Hour), old("tests", time.Hour)), isWaiting, "Expired", "of type scan", time.Time{}},
		{"a second before it expires", one(fresh("scan"), old("scan", 24*time.Hour-time.Second)), isPassed, "Fresh", "", now.Add(time.Second)},
		{"expired to the second", one(fresh("scan"), old("scan", 24*time.Hour)), isWaiting, "Expired", "CI posts a newer result of type scan", time.Time{}},
		{"one of all expired", one(fresh(), old("scan", time.Hour), old("tests", 25*time.Hour)), isWaiting, "Expired", "of type tests", time.Time{}},
		{"both expired: the older one is told", one(fresh(), old("scan", 25*time.Hour), old("tests", 26*time.Hour)), isWaiting, "Expired", "of type tests", time.Time{}},
		{"a missing type is told before an expired one", one(fresh("scan", "quality"), old("scan", 25*time.Hour)), isWaiting, "NoResult", "of type quality", time.Time{}},
		{"a clock that was set back", one(fresh("scan"), old("scan", -time.Hour)), isPassed, "Fresh", "", now.Add(25 * time.Hour)},
	})
}

// Sunday 22 November 2026, 14:03 UTC is 15:03 in Paris.
func TestWindow(t *testing.T) {
	weekly := func(days, start string, hours int) *v1alpha1.Window {
		return &v1alpha1.Window{TimeZone: "Europe/Paris", Allow: []v1alpha1.Period{{RRule: "FREQ=WEEKLY;BYDAY=" + days, Start: start,
			Duration: metav1.Duration{Duration: time.Duration(hours) * time.Hour}}}}
	}
	once := func(start string, h int) v1alpha1.Period { return v1alpha1.Period{Start: start, Duration: hours(h)} }
	workdays := weekly("MO,TU,WE,TH", "09:00", 8)
	monday := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	midnight := time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC) // in Paris
	at := func(t time.Time) func(*Input) { return func(in *Input) { in.Now = t } }
	criterion := func(w *v1alpha1.Window) v1alpha1.Criterion { return v1alpha1.Criterion{Window: w} }
	run(t, []judged{
		{"always", one(criterion(&v1alpha1.Window{})), isPassed, "WindowOpen", "", time.Time{}},
		{"closed on a Sunday, for another reason from midnight on", one(criterion(workdays)), isWaiting, "WindowClosed", "2026-11-23T08:00:00Z", midnight},
		{"closed on a Monday morning", one(criterion(workdays), at(monday.Add(-time.Second))), isWaiting, "WindowClosed", "2026-11-23T08:00:00Z", monday},
		{"open to the second", one(criterion(workdays), at(monday)), isPassed, "WindowOpen", "", monday.Add(8 * time.Hour)},
		{"closed to the second", one(criterion(workdays), at(monday.Add(8*time.Hour))), isWaiting, "WindowClosed", "2026-11-24T08:00:00Z", midnight.AddDate(0, 0, 1)},
		{"open until a denied period begins", one(criterion(&v1alpha1.Window{Deny: []v1alpha1.Period{once("2026-11-22T18:00", 1)}})), isPassed, "WindowOpen", "", now.Add(177 * time.Minute)},
		{"denied", one(criterion(&v1alpha1.Window{Deny: []v1alpha1.Period{once("2026-11-22T15:00", 1)}})), isWaiting, "WindowClosed", "2026-11-22T15:00:00Z", now.Add(57 * time.Minute)},
		{"a zone that does not exist", one(criterion(&v1alpha1.Window{TimeZone: "Europe/Nowhere"})), isRefused, "WindowInvalid", "mends the window of gate g", time.Time{}},
		{"a rule that cannot be read", one(criterion(&v1alpha1.Window{Allow: []v1alpha1.Period{{RRule: "FREQ=SOMETIMES", Start: "09:00", Duration: hours(1)}}})), isRefused, "WindowInvalid", "mends", time.Time{}},
		{"never again", one(criterion(&v1alpha1.Window{Allow: []v1alpha1.Period{once("2026-11-21T09:00", 1)}})), isRefused, "WindowNever", "mends", midnight},
		{"of the environment: closed", one(passing, func(in *Input) { in.Window = workdays }), isWaiting, "WindowClosed", "2026-11-23T08:00:00Z", midnight},
		{"of the environment: open is not told, but looked at again", one(passing, func(in *Input) { in.Window = workdays }, at(monday)), isPassed, "Frozen", "", monday.Add(8 * time.Hour)},
		{"of the environment: cannot be read", one(passing, func(in *Input) { in.Window = &v1alpha1.Window{TimeZone: "?"} }), isRefused, "WindowInvalid", "environment next", time.Time{}},
	})
}

// passing is a criterion that holds.
var passing = v1alpha1.Criterion{Images: &v1alpha1.ImagesCriterion{}}

// A closed calendar says nothing else before its recheck, whatever it is closed for.
func TestClosedForSeveralReasons(t *testing.T) {
	in := one(v1alpha1.Criterion{Window: &v1alpha1.Window{TimeZone: "Europe/Paris", Countries: []string{"fr"}, Holidays: []string{"2026-12-24", "2026-12-31"},
		Allow: []v1alpha1.Period{{RRule: "FREQ=DAILY", Start: "09:00", Duration: hours(8)}},
		Deny:  []v1alpha1.Period{{Start: "2026-12-26T12:00", Duration: hours(72), Reason: "freeze"}, {Start: "2026-12-27T06:30", Duration: hours(5), Reason: "inventory"}}}})
	end := time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC)
	looks := 0
	for in.Now = time.Date(2026, 12, 23, 12, 0, 0, 0, time.UTC); in.Now.Before(end); looks++ {
		got := Judge(in)
		if !got.Recheck.After(in.Now) {
			t.Fatalf("at %s: recheck at %s", in.Now, got.Recheck)
		}
		later := in
		for later.Now = in.Now; later.Now.Before(got.Recheck); later.Now = later.Now.Add(7 * time.Minute) {
			if again := Judge(later); again.Message != got.Message || again.Verdict != got.Verdict {
				t.Fatalf("at %s: %q; at %s: %q; recheck at %s", in.Now, got.Message, later.Now, again.Message, got.Recheck)
			}
		}
		in.Now = got.Recheck
	}
	if looks > 40 {
		t.Errorf("%d looks in eleven days", looks)
	}
}

func TestApprovalByRole(t *testing.T) {
	members := func(in *Input) {
		in.Roles = map[string][]string{"qa": {"qa"}, "cto": {"developer", "cto"}, "dev": {"developer", "cto"}}
	}
	by := func(users ...string) func(*Input) {
		return func(in *Input) {
			for _, u := range users {
				in.Approvals = append(in.Approvals, approval(u))
			}
		}
	}
	need := func(minimum int32, creator bool, roles ...string) v1alpha1.Criterion {
		return v1alpha1.Criterion{Approval: &v1alpha1.ApprovalCriterion{Minimum: minimum, AllowCreator: creator, Roles: roles}}
	}
	run(t, []judged{
		{"by the role", one(need(1, false, "cto"), members, by("cto")), isPassed, "Approved", "", time.Time{}},
		{"by another role", one(need(1, false, "cto"), members, by("qa")), isWaiting, "RoleMissing", "1 approval(s) by cto: kubectl sirrat approve r g", time.Time{}},
		{"by somebody without a role", one(need(1, false, "cto"), members, by("stranger")), isWaiting, "RoleMissing", "by cto", time.Time{}},
		{"by one of two roles", one(need(1, false, "cto", "qa"), members, by("qa")), isPassed, "Approved", "", time.Time{}},
		{"the second lacks the role", one(need(2, false, "cto"), members, by("cto", "qa")), isWaiting, "RoleMissing", "2 approval(s) by cto", time.Time{}},
		{"the role does not make up for being the creator", one(need(1, false, "cto"), members, by("dev")), isWaiting, "CreatorExcluded", "by cto", time.Time{}},
		{"the creator where that is allowed", one(need(1, true, "cto"), members, by("dev")), isPassed, "Approved", "", time.Time{}},
		{"the creator where that is allowed, but without the role", one(need(1, true, "qa"), members, by("dev")), isWaiting, "RoleMissing", "by qa", time.Time{}},
		{"without roles anybody with the verb", one(need(1, false), members, by("stranger")), isPassed, "Approved", "", time.Time{}},
		{"no approval: who can give it", one(need(1, false, "cto", "qa"), members), isWaiting, "ApprovalMissing", "by cto or qa", time.Time{}},
		{"what is no approval does not count as one", one(need(1, false), func(in *Input) {
			for _, decision := range []string{v1alpha1.DecisionRegularised, "", "Perhaps"} {
				in.Approvals = append(in.Approvals, v1alpha1.ApprovalRecord{Gate: "g", User: "qa", Decision: decision, BundleHash: hash})
			}
		}), isWaiting, "ApprovalMissing", "1 approval(s)", time.Time{}},
		{"a minimum of none is a minimum of one", one(need(0, false)), isWaiting, "ApprovalMissing", "1 approval(s)", time.Time{}},
	})
}

func TestWhatStandsInTheWay(t *testing.T) {
	automatic := func(in *Input) { in.Spec.Mode = v1alpha1.ModeAutomatic }
	held := func(in *Input) { in.Hold = "release r0 rolled back: port in use" }
	debt := func(in *Input) { in.Debts = []v1alpha1.Debt{{Release: "r0", Gate: "g0", User: "cto", Reason: "fire"}} }
	pv := v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{}}
	signed := func(in *Input) { in.PV = &PV{Name: "p", Decision: v1alpha1.PVAccepted} }
	due := func(dates ...string) func(*Input) {
		return func(in *Input) {
			for i, d := range dates {
				in.Reservations = append(in.Reservations, Reservation{PV: "p0", Number: i + 1, Text: "slow", Owner: "Dynors", Deadline: d})
			}
		}
	}
	at := func(t time.Time) func(*Input) { return func(in *Input) { in.Now = t } }
	midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	run(t, []judged{
		{"a hold keeps an Automatic gate shut", one(passing, automatic, held), isWaiting, "Held", "kubectl sirrat resume next", time.Time{}},
		{"a hold does not concern a Manual gate", one(passing, held), isPassed, "Frozen", "", time.Time{}},
		{"a debt of another release", one(passing, debt), isWaiting, "Debt", "somebody other than cto regularises it: kubectl sirrat regularise r0 g0", time.Time{}},
		{"a reservation until today", one(pv, signed, due("2026-11-22")), isPassed, "PVAccepted", "", midnight},
		{"a second before midnight", one(pv, signed, due("2026-11-22"), at(midnight.Add(-time.Second))), isPassed, "PVAccepted", "", midnight},
		{"overdue at midnight exactly", one(pv, signed, due("2026-11-22"), at(midnight)), isWaiting, "ReservationOverdue", "kubectl sirrat pv lift p0 1", time.Time{}},
		{"the first deadline of several", one(pv, signed, due("2026-12-01", "2026-11-23", "")), isPassed, "PVAccepted", "", midnight.AddDate(0, 0, 1)},
		{"two are overdue: the first is told", one(pv, signed, due("2026-11-20", "2026-11-19", "2026-11-30")), isWaiting, "ReservationOverdue", "pv lift p0 2", time.Time{}},
		{"a reservation for ever is never overdue", one(pv, signed, due("")), isPassed, "PVAccepted", "", time.Time{}},
		{"reservations matter where the client's PV is", one(passing, due("2026-11-01")), isPassed, "Frozen", "", time.Time{}},
		{"superseded", one(passing, func(in *Input) { in.SupersededBy = "r2" }), isRefused, "Superseded", "", time.Time{}},
		{"reservations that the gate allows", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{AllowReservations: true}}, func(in *Input) {
			in.PV = &PV{Name: "p", Decision: v1alpha1.PVAcceptedWithReservations, Reservations: 2}
		}), isPassed, "PVAcceptedWithReservations", "", time.Time{}},
		{"no signature, where the gate allows reservations", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{AllowReservations: true}}, func(in *Input) { in.PV = &PV{Name: "p"} }),
			isWaiting, "PVUnsigned", "kubectl sirrat pv sign p", time.Time{}},
		{"a signature that does not count", one(pv, func(in *Input) { in.PV = &PV{Name: "p", Problem: "another key"} }), isWaiting, "PVSignatureInvalid", "kubectl sirrat pv sign p", time.Time{}},
		{"a kind of criterion that is not known yet", one(v1alpha1.Criterion{}), isRefused, "UnknownCriterion", "the operator upgrades SIRRAT", time.Time{}},
		{"a soak that another release broke off", one(v1alpha1.Criterion{Soak: &v1alpha1.SoakCriterion{Environment: "dev", Min: hours(1), Max: hours(1)}}, func(in *Input) {
			e := healthy(2 * time.Hour)
			e.HealthyUntil = &metav1.Time{Time: now.Add(-61 * time.Minute)}
			in.Environments["dev"] = e
		}), isWaiting, "SoakBroken", "deployed to dev again", time.Time{}},
		{"a soak that was over before another release came", one(v1alpha1.Criterion{Soak: &v1alpha1.SoakCriterion{Environment: "dev", Min: hours(1), Max: hours(1)}}, func(in *Input) {
			e := healthy(2 * time.Hour)
			e.HealthyUntil = &metav1.Time{Time: now.Add(-time.Hour)}
			in.Environments["dev"] = e
		}), isPassed, "Soaked", "", time.Time{}},
	})
}

func glass(in *Input) {
	in.Approvals = append(in.Approvals, v1alpha1.ApprovalRecord{Gate: "g", User: "cto", Decision: v1alpha1.DecisionBrokeGlass, Reason: "fire", BundleHash: hash})
}

// Break-glass opens a gate over its criteria and over what only keeps releases apart in time, and over nothing else.
func TestBreakGlass(t *testing.T) {
	closed := &v1alpha1.Window{Deny: []v1alpha1.Period{{Start: "2026-11-22T00:00", Duration: hours(48)}}}
	in := one(v1alpha1.Criterion{Result: &v1alpha1.ResultCriterion{Type: "tests"}}, func(in *Input) {
		in.Spec.Mode, in.Hold, in.Window = v1alpha1.ModeAutomatic, "release r0 failed", closed
		in.Spec.Criteria = append(in.Spec.Criteria, v1alpha1.Criterion{Name: "pv", PV: &v1alpha1.PVCriterion{}}, v1alpha1.Criterion{Name: "new"})
		in.Debts = []v1alpha1.Debt{{Release: "r0", Gate: "g0", User: "cto"}}
		in.Reservations = []Reservation{{PV: "p", Number: 1, Deadline: "2026-01-01"}}
	})
	if got := Judge(in); got.Verdict != isRefused || len(got.Criteria) != 7 {
		t.Fatalf("without break-glass: %s: %+v", got.Verdict, got.Criteria)
	}
	glass(&in)
	got := Judge(in)
	if got.Verdict != isPassed || len(got.Criteria) != 1 || got.Criteria[0].Reason != "BrokeGlass" || !strings.Contains(got.Criteria[0].Message, "cto: fire") {
		t.Fatalf("with break-glass: %s: %+v", got.Verdict, got.Criteria)
	}
	run(t, []judged{
		{"unprotected, it opens no closed calendar", one(passing, glass, func(in *Input) { in.Guarded, in.Window = false, closed }), isWaiting, "WindowClosed", "opens on 2026-11-23T23:00:00Z", time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC)},
		{"unprotected, it makes up for no debt", one(passing, glass, func(in *Input) {
			in.Guarded, in.Debts = false, []v1alpha1.Debt{{Release: "r0", Gate: "g0", User: "cto"}}
		}), isWaiting, "Debt", "regularise r0 g0", time.Time{}},
		{"not where the environment is taken down", one(passing, glass, func(in *Input) { in.Decommissioned = true }), isWaiting, "Decommissioned", "--revoke", time.Time{}},
		{"not over a missing bundle", one(passing, glass, func(in *Input) { in.BundleHash = "" }), isWaiting, "NotFrozen", "", time.Time{}},
		{"not over another bundle", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{}}, glass, func(in *Input) { in.BundleHash = "sha256:bb" }), isWaiting, "NoPV", "opens", time.Time{}},
		{"not over a bundle that cannot be made", one(passing, glass, func(in *Input) { in.BundleHash, in.BundleProblem = "", "no image" }), isWaiting, "BundleInvalid", "mends the Environment", time.Time{}},
		{"not over a missing version", one(passing, glass, func(in *Input) { in.Project, in.NeedsVersion = "shop", true }), isWaiting, "NoVersion", "sets spec.version: kubectl patch release r -n shop ", time.Time{}},
		{"not over a missing environment", one(passing, glass, func(in *Input) { in.GuardedExists = false }), isWaiting, "NoEnvironment", "declares the Environment", time.Time{}},
		{"healthy in an environment that is not there", one(v1alpha1.Criterion{Healthy: &v1alpha1.HealthyCriterion{Environment: "devv"}}, func(in *Input) { in.Bridge = []string{"dev"} }), isWaiting, "NoEnvironment", "mends gate", time.Time{}},
		{"a soak in one", one(soaks("devv", 24), func(in *Input) { in.Bridge = []string{"dev"} }), isWaiting, "NoEnvironment", "declares the Environment devv", time.Time{}},
		{"not past the environment before", one(passing, glass, func(in *Input) { in.After = "dev" }), isWaiting, "NotDeployed", "gate of dev", time.Time{}},
		{"not past the environment before, which is a criterion too", one(v1alpha1.Criterion{Healthy: &v1alpha1.HealthyCriterion{Environment: "dev"}}, glass, func(in *Input) { in.After = "dev" }), isWaiting, "NotDeployed", "gate of dev", time.Time{}},
		{"not over a newer release", one(passing, glass, func(in *Input) { in.SupersededBy = "r2" }), isRefused, "Superseded", "", time.Time{}},
		{"not over a failure with the same bundle", one(passing, glass, func(in *Input) { in.Failed = "rolled back" }), isRefused, "FailedThere", "a retry", time.Time{}},
		{"not over a rejection", one(passing, glass, func(in *Input) {
			in.Approvals = append(in.Approvals, v1alpha1.ApprovalRecord{Gate: "g", User: "qa", Decision: v1alpha1.DecisionRejected, Reason: "bugs"})
		}), isRefused, "Rejected", "kubectl sirrat reject --lift r g", time.Time{}},
		{"not while nothing protects it", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{}}, glass, func(in *Input) { in.Guarded = false }), isWaiting, "NoPV", "opens", time.Time{}},
		{"not once it is stale", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{}}, glass, func(in *Input) { in.Approvals[0].Stale = "withdrawn" }), isWaiting, "NoPV", "opens", time.Time{}},
		{"a regularisation opens nothing", one(v1alpha1.Criterion{PV: &v1alpha1.PVCriterion{}}, glass, func(in *Input) { in.Approvals[0].Decision = v1alpha1.DecisionRegularised }), isWaiting, "NoPV", "opens", time.Time{}},
	})
}
