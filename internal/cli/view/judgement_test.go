// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// hostile is what a reason may hold that somebody else wrote.
const hostile = "\x1b[2Jhotfix\u202e \x07now"

// troubled is a bridge on which everything went wrong at once.
func troubled(t testing.TB) Bridge {
	b := bridge()
	b.Environments[2].Status.Hold = &v1alpha1.Hold{ID: "uid@1", Release: "c0ffee1", Message: "rolled back: web is unhealthy " + hostile}
	indebted := inDebt(serving())
	b.Releases[3] = indebted
	b.Releases = append(b.Releases, clientRefused())
	b.PVs = []v1alpha1.PV{*certificate(t, overdueReservations())}
	return b
}

func inDebt(r v1alpha1.Release) v1alpha1.Release {
	r.Status.Approvals = []v1alpha1.ApprovalRecord{
		{Gate: "production", User: "cto@dynors.com", Decision: v1alpha1.DecisionBrokeGlass, Time: ago(day), BundleHash: digest("b"), Reason: "customers cannot pay " + hostile},
		{Gate: "qa", User: "cto@dynors.com", Decision: v1alpha1.DecisionBrokeGlass, Time: ago(2 * day), BundleHash: digest("b"), Reason: "settled since"},
		{Gate: "qa", User: "qa@dynors.com", Decision: v1alpha1.DecisionRegularised, Time: ago(day), Reason: "tests caught up"},
	}
	r.Status.Conditions = append(r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionDebt, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonGlassBroken})
	return r
}

func clientRefused() v1alpha1.Release {
	r := release("d15ea5e", "v1.2.8", "release/1.2", 30*day, 40, "Repenti", v1alpha1.ReasonPVRefused,
		"back to rmoa-dynors: the client refused PV d15ea5e: invoices are rounded wrongly", passed, passed, passed, refusedVerdict)
	r.Status.Returned = &v1alpha1.Returned{To: "rmoa-dynors", Gate: "client", By: "Claire Client", Reason: "invoices are rounded wrongly"}
	return in(r, "rmoa-client", v1alpha1.PhaseReturned, 0)
}

func overdueReservations() v1alpha1.PVStatus {
	st := withReservations()
	st.Method, st.Email, st.SignatureHash, st.PDFHash = v1alpha1.MethodPage, "claire@client.example", digest("7"), digest("8")
	st.Reservations[0].Deadline = "2026-10-11"
	st.Reservations = append(st.Reservations, v1alpha1.Reservation{
		Text: "Export CSV", Owner: "DYNORS", Deadline: "2026-10-01", Lifted: "qa@dynors.com: delivered with v1.3.1",
	})
	return st
}

// forecast adds what the gates say of the time ahead.
func forecast(r v1alpha1.Release) v1alpha1.Release {
	at := metav1.NewTime(now.Add(52*time.Hour + 33*time.Minute))
	r.Status.Gates[1].Earliest = &at
	r.Status.Gates[2].EarliestAfter = &metav1.Duration{}
	r.Status.Gates[3].EarliestAfter = &metav1.Duration{Duration: 7 * day}
	r.Status.Gates[1].WaitingFor = []string{r.Status.Gates[1].Criteria[2].Needs}
	r.Status.Gates[3].WaitingFor = []string{"the client signs the PV: kubectl sirrat pv sign b7e0d1f"}
	r.Status.Earliest = "production 168h0m0s after gate qa has what it waits for: " + r.Status.Gates[1].WaitingFor[0]
	return r
}

func emergency() Emergency {
	r := soaking()
	r.Status.Gates[1].Criteria = append(r.Status.Gates[1].Criteria,
		v1alpha1.CriterionVerdict{Name: "(version)", Verdict: waiting, Message: "the release has no version", Needs: "a developer sets spec.version"},
		v1alpha1.CriterionVerdict{Name: "(hold)", Verdict: waiting, Message: "rmoa-dynors is on hold: " + hostile, Needs: "somebody resumes"})
	gate, cost := qualityGate("qa", 1, "rmoa-dynors", 1), int32(20)
	return Emergency{User: "cto@dynors.com", Reason: hostile, Gate: &gate, Release: &r, Bundle: r.Status.Bundle.Environments[1], Cost: &cost}
}

func composeOf(lines int, image string) string {
	var b strings.Builder
	b.WriteString("services:\n  web:\n    image: " + image + "\n    environment:\n")
	for i := range lines {
		b.WriteString("      KEY" + strconv.Itoa(i) + ": " + image + "\n")
	}
	return b.String() + "    ports: [\"8080:8080\"]\n"
}

func changedCompose(t testing.TB) Approval {
	r, current := forecast(soaking()), serving()
	gate := qualityGate("qa", 1, "rmoa-dynors", 2)
	bundle := r.Status.Bundle.Environments[1]
	bundle.ComposeHash = digest("f")
	before := "services:\n  web:\n    image: nginx:1.27\n    ports: [\"8080:8080\"]\n"
	after := before + "    command: [sh, -c, \"" + strings.Repeat("true && ", 12) + hostile + "\"]\n"
	current.Status.KarmaBreakdown = []v1alpha1.KarmaLine{
		{Name: "tests", Points: 18, Max: 20}, {Name: "crossing", Points: 50, Max: 50}, {Name: "rolled-back", Points: -10},
	}
	b := troubled(t)
	return Approval{
		User: "qa@dynors.com", Gate: &gate, Release: &r, Bundle: bundle, Current: &current, CurrentHash: digest("8"),
		Compose: ComposeTexts{Now: &before, Then: &after}, PVs: b.PVs, Reservations: OpenReservations(b.PVs, now), Debts: Debts(b.Releases),
	}
}

// whole is a PV with everything that one may say.
func whole(t testing.TB) *v1alpha1.PV {
	p := certificate(t, overdueReservations())
	d, err := ReadDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	coverage := 85.5
	d.Previous = &pv.Accepted{Release: "9c8d7e6", Version: "v1.2.0", Commit: "9c8d7e6" + strings.Repeat("0", 33), PV: "9c8d7e6", SignedAt: now.Add(-60 * day)}
	d.Works, d.Level, d.Artifacts = 40, "Repenti", []string{"com.dynors:supergest:1.3.0"}
	d.Gates[1] = pv.Gate{Name: "qa", Number: 1, Environment: "rmoa-dynors", Opened: now.Add(-10 * day),
		Criteria: []string{"approval: approved by qa@dynors.com"}, Approvals: []string{"qa@dynors.com, 2026-10-02T09:00:00Z"}}
	d.Figures = pv.Figures{
		Tests: &v1alpha1.TestCounts{Total: 120, Passed: 118, Skipped: 2}, Coverage: &coverage, Vulnerabilities: &v1alpha1.VulnerabilityCounts{High: 1},
	}
	d.KnownDefects = []string{"the clock is slow " + hostile}
	d.OpenReservations = []pv.OpenReservation{{PV: "9c8d7e6", Number: 2, Text: "Aide en ligne", Owner: "DYNORS", Deadline: "2026-11-30"}}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.Document, p.Spec.DocumentHash, p.Spec.PDFHash = string(raw), envelope.Hash(raw), digest("5")
	return p
}

func judgementPictures(t testing.TB) map[string]string {
	french := screen(80)
	french.Lang = lang.French
	soak, refused, through, gone := forecast(soaking()), refused(), serving(), clientRefused()
	refused.Status.Earliest = "never, unless gate ci changes its mind: 3 of 120 tests failed"
	refused.Status.Returned = &v1alpha1.Returned{To: "development", Gate: "ci", By: "CI", Reason: "3 of 120 tests failed"}
	refused.Status.Gates[0].Message = "3 of 120 tests failed"
	unknown := emergency()
	unknown.Cost = nil
	edited := changedCompose(t)
	edited.CurrentHash, edited.Compose = digest("0"), ComposeTexts{}
	long := changedCompose(t)
	now, then := composeOf(100, "nginx:1.27"), composeOf(100, "nginx:1.28")
	long.Compose = ComposeTexts{Now: &now, Then: &then}
	p := whole(t)
	d, err := ReadDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	hold := troubled(t).Held()[0]
	return map[string]string{
		"status-troubled":    Status(troubled(t), screen(80)),
		"status-troubled-fr": Status(troubled(t), french),
		"why-troubled":       Why(troubled(t), &soak, "", screen(80)),
		"why-returned":       Why(Bridge{Namespace: "supergest-001"}, &gone, "", screen(80)),
		"when":               When("supergest-001", &soak, screen(80)),
		"when-fr":            When("supergest-001", &soak, french),
		"when-never":         When("supergest-001", &refused, screen(80)),
		"when-through":       When("supergest-001", &through, screen(80)),
		"hold":               Hold(&hold, screen(80)),
		"breakglass":         BreakGlass(emergency(), screen(80)),
		"breakglass-fr":      BreakGlass(unknown, french),
		"approve-diff-80":    ApprovalSummary(changedCompose(t), screen(80)),
		"approve-diff-fr":    ApprovalSummary(changedCompose(t), french),
		"approve-edited":     ApprovalSummary(edited, screen(100)),
		"approve-long-diff":  ApprovalSummary(long, screen(80)),
		"pv-whole-80":        PV(p, d, screen(80)),
		"pv-whole-fr":        PV(p, d, french),
	}
}

func TestGoldenJudgement(t *testing.T) {
	for name, got := range judgementPictures(t) {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

// What others wrote neither moves the cursor nor turns the text, and nothing reaches over the edge of the screen.
func TestJudgementIsInertAndFits(t *testing.T) {
	for name, text := range judgementPictures(t) {
		columns := 80
		if name == "approve-edited" {
			columns = 100
		}
		for n, l := range strings.Split(text, "\n") {
			if w := width(l); w > columns {
				t.Errorf("%s: line %d is %d wide: %s", name, n+1, w, l)
			}
			for _, r := range l {
				if !unicode.IsPrint(r) {
					t.Errorf("%s: line %d has %U: %q", name, n+1, r, l)
				}
			}
		}
	}
}

func TestOpenReservations(t *testing.T) {
	pvs := []v1alpha1.PV{*certificate(t, overdueReservations())}
	open := OpenReservations(pvs, time.Date(2026, 10, 11, 23, 59, 59, 0, time.UTC))
	if len(open) != 2 || open[0].Number != 1 || open[0].Overdue || open[1].Number != 2 || open[1].Overdue {
		t.Errorf("on the last day: %+v", open)
	}
	if open := OpenReservations(pvs, time.Date(2026, 10, 12, 0, 0, 0, 0, time.UTC)); !open[0].Overdue || open[1].Overdue {
		t.Errorf("a day later: %+v", open)
	}
}

func TestDebts(t *testing.T) {
	r := inDebt(serving())
	debts := Debts([]v1alpha1.Release{soaking(), r})
	if len(debts) != 1 || debts[0].Gate != "production" || debts[0].Environment != "production" || debts[0].Release != r.Name {
		t.Errorf("%+v", debts)
	}
	r.Status.Conditions[1].Status = metav1.ConditionFalse
	if debts := Debts([]v1alpha1.Release{r}); len(debts) > 0 {
		t.Errorf("the condition says there is none: %+v", debts)
	}
}

func TestMaskEmail(t *testing.T) {
	for in, want := range map[string]string{
		"claire@client.example": "c…@client.example", "é@x": "é…@x", "": "", "nobody": "…", "@x": "…@x", "a@b@c": "a…@c",
	} {
		if got := MaskEmail(in); got != want {
			t.Errorf("MaskEmail(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBypasses(t *testing.T) {
	for name, want := range map[string]bool{"tests": true, "(hold)": true, "(debt)": true, "(window)": true, "(version)": false, "(rejection)": false} {
		if got := Bypasses(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
