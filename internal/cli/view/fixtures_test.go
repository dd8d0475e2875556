// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// now is the time of every picture.
var now = time.Date(2026, 10, 12, 9, 30, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func agoPtr(d time.Duration) *metav1.Time { t := ago(d); return &t }

const day = 24 * time.Hour

func screen(width int) Screen {
	return Screen{Width: width, Lang: lang.English, Now: now}
}

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// bridge is a project in the middle of its work: one release in each state that a person may meet.
func bridge() Bridge {
	b := Bridge{
		Namespace: "supergest-001",
		Project: &v1alpha1.Project{
			ObjectMeta: metav1.ObjectMeta{Name: "supergest-001"},
			Spec:       v1alpha1.ProjectSpec{DisplayName: "SuperGest", Client: v1alpha1.Client{Name: "Client SARL"}},
			Status:     v1alpha1.ProjectStatus{Karma: 74, Level: "Pieux"},
		},
		Environments: []v1alpha1.Environment{
			environment("production", "rmoa-client", "9c8d7e6", "v1.2.0", 2, 2),
			environment("rmoa-client", "rmoa-dynors", "f00ba12", "v1.3.0", 1, 1),
			environment("rmoa-dynors", "dev", "c0ffee1", "v1.3.1", 0, 1),
			environment("dev", "", "b7e0d1f", "", 1, 1),
		},
		Gates: []v1alpha1.QualityGate{
			qualityGate("production", 3, "production", 1), qualityGate("ci", 0, "dev", 0),
			qualityGate("client", 2, "rmoa-client", 0), qualityGate("qa", 1, "rmoa-dynors", 2),
		},
	}
	b.Environments[3].Spec.Hosts = nil // a pipeline deploys to dev by itself
	b.Releases = []v1alpha1.Release{soaking(), deploying(), signing(), serving(), refused(), old(), fresh()}
	return b
}

// module is a project whose releases are published, with an Environment that somebody declared in vain.
func module() Bridge {
	b := Bridge{
		Namespace: "dynors-core",
		Project: &v1alpha1.Project{
			ObjectMeta: metav1.ObjectMeta{Name: "dynors-core"},
			Spec:       v1alpha1.ProjectSpec{Maven: []string{"com.dynors:core"}},
			Status:     v1alpha1.ProjectStatus{Karma: 88, Level: "Saint"},
		},
		Environments: []v1alpha1.Environment{{ObjectMeta: metav1.ObjectMeta{Name: "dev"}}},
		Gates:        []v1alpha1.QualityGate{qualityGate("published", 1, "", 1), qualityGate("ci", 0, "", 0)},
	}
	older, waits, fell := publishedModule(), publishedModule(), publishedModule()
	older.Name, older.Spec.Version, older.Status.Publication.At = "v2.0.0", "v2.0.0", metav1.NewMicroTime(now.Add(-30*day))
	waits.Name, waits.Spec.Version = "v2.2.0", "v2.2.0"
	fell.Name, fell.Spec.Version = "v2.1.1", "v2.1.1"
	for r, reason := range map[*v1alpha1.Release]string{&waits: v1alpha1.ReasonWaiting, &fell: v1alpha1.ReasonRefused} {
		r.Status.Publication, r.Status.Reached = nil, ""
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
	}
	waits.Status.Gates[1].Verdict, waits.Status.Next = v1alpha1.VerdictWaiting, "gate published: 1 approval(s)"
	fell.Status.Gates[0].Verdict, fell.Status.Next = v1alpha1.VerdictRefused, "gate ci: 1 of 12 tests failed"
	b.Releases = []v1alpha1.Release{older, publishedModule(), waits, fell}
	return b
}

func publishedModule() v1alpha1.Release {
	r := release("v2.1.0", "v2.1.0", "main", 3*day, 100, "Code Divin", v1alpha1.ReasonPublished, "published: com.dynors:core:2.1.0")
	r.Status.Conditions[0].Status, r.Status.Reached = metav1.ConditionTrue, "published"
	r.Status.Gates = []v1alpha1.GateVerdict{{Name: "ci", Verdict: v1alpha1.VerdictPassed}, {Name: "published", Number: 1, Verdict: v1alpha1.VerdictPassed}}
	r.Status.Artifacts = []v1alpha1.ReleaseArtifact{{Coordinates: "com.dynors:core:2.1.0", Packaging: "jar", Files: []v1alpha1.ArtifactFile{
		{Name: "core-2.1.0.pom", SHA256: digest("a")}, {Name: "core-2.1.0.jar", SHA256: digest("b")}}}}
	r.Status.Bundle = &v1alpha1.Bundle{Environments: []v1alpha1.EnvironmentBundle{{Hash: digest("c")}}}
	r.Status.Publication = &v1alpha1.Publication{BundleHash: digest("c"), At: metav1.NewMicroTime(now.Add(-2 * day))}
	return r
}

func environment(name, after, release, version string, ready, matched int32) v1alpha1.Environment {
	return v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.EnvironmentSpec{After: after, Hosts: &metav1.LabelSelector{}},
		Status: v1alpha1.EnvironmentStatus{
			Current:    &v1alpha1.EnvironmentRelease{Release: release, Version: version},
			HostsReady: ready, HostsMatched: matched,
		},
	}
}

func qualityGate(name string, number int32, environment string, waiting int32) v1alpha1.QualityGate {
	g := v1alpha1.QualityGate{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.QualityGateSpec{Number: number, Environment: environment, Mode: v1alpha1.ModeManual},
		Status:     v1alpha1.QualityGateStatus{Waiting: waiting},
	}
	if number > 0 {
		g.Spec.Criteria = []v1alpha1.Criterion{{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1}}}
	}
	return g
}

// release is one with verdicts for the gates in order.
func release(name, version, branch string, age time.Duration, karma int32, level, reason, next string, verdicts ...v1alpha1.Verdict,
) v1alpha1.Release {
	r := v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "supergest-001", UID: types.UID("uid-" + name), CreationTimestamp: ago(age),
			Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "dev@dynors.com"},
		},
		Spec: v1alpha1.ReleaseSpec{Commit: name + strings.Repeat("0", 33), Branch: branch, Version: version},
		Status: v1alpha1.ReleaseStatus{
			Karma: karma, Level: level, Works: min(karma, 50), Next: next,
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}},
		},
	}
	gates := []struct{ name, environment string }{
		{"ci", "dev"}, {"qa", "rmoa-dynors"}, {"client", "rmoa-client"}, {"production", "production"},
	}
	for i, g := range gates {
		v := v1alpha1.GateVerdict{Name: g.name, Number: int32(i), Environment: g.environment, Verdict: v1alpha1.VerdictWaiting}
		if i < len(verdicts) {
			v.Verdict = verdicts[i]
		}
		r.Status.Gates = append(r.Status.Gates, v)
	}
	return r
}

func in(r v1alpha1.Release, environment, phase string, healthyFor time.Duration) v1alpha1.Release {
	e := v1alpha1.ReleaseEnvironment{Name: environment, Phase: phase, BundleHash: digest("b"), AuthorizedAt: metav1.NewMicroTime(now.Add(-healthyFor - time.Hour)),
		Tags: []string{environment + "-" + r.Name}}
	if healthyFor > 0 {
		e.HealthySince = agoPtr(healthyFor)
	}
	if phase == v1alpha1.PhaseSuperseded {
		e.HealthyUntil = agoPtr(time.Hour)
	}
	r.Status.Environments = append(r.Status.Environments, e)
	return r
}

const passed, waiting, refusedVerdict = v1alpha1.VerdictPassed, v1alpha1.VerdictWaiting, v1alpha1.VerdictRefused

// soaking waits at qa: the release that the detailed views show.
func soaking() v1alpha1.Release {
	r := release("b7e0d1f", "", "develop", 30*time.Hour, 48, "Repenti", v1alpha1.ReasonWaiting,
		"gate qa: soak in dev until 2026-10-14 14:03 UTC; approval of somebody with the verb approve on gate qa (QA)", passed, waiting)
	r = in(r, "dev", v1alpha1.PhaseHealthy, 29*time.Hour)
	r.Status.Reached = "dev"
	until := metav1.NewTime(now.Add(52*time.Hour + 33*time.Minute))
	r.Status.Gates[0].Criteria = []v1alpha1.CriterionVerdict{
		{Name: "tests", Verdict: passed, Reason: "Passed", Message: "120 of 120 tests passed"},
		{Name: "coverage", Verdict: passed, Reason: "Reached", Message: "85 %, at least 80 %"},
		{Name: "scan", Verdict: passed, Reason: "Clean", Message: "no critical finding, 1 high"},
		{Name: "images", Verdict: passed, Reason: "Frozen", Message: "1 image pinned to a digest"},
	}
	r.Status.Gates[1].Message = "1 of 3 criteria hold"
	r.Status.Gates[1].Until = &until
	r.Status.Gates[1].WaitingFor = []string{"soak", "approval"}
	r.Status.Gates[1].Criteria = []v1alpha1.CriterionVerdict{
		{Name: "healthy", Verdict: passed, Reason: "Healthy", Message: "healthy in dev"},
		{Name: "soak", Verdict: waiting, Reason: "Soaking", Message: "healthy in dev for 1 d 5 h of 3 d 10 h",
			Needs: "nothing but time: over at 2026-10-14 14:03 UTC if it stays healthy"},
		{Name: "approval", Verdict: waiting, Reason: "ApprovalMissing", Message: "0 of 1 approvals",
			Needs: "somebody with the verb approve on gate qa, other than dev@dynors.com: kubectl sirrat approve b7e0d1f qa"},
	}
	r.Status.KarmaBreakdown = []v1alpha1.KarmaLine{
		{Name: "tests", Points: 20, Max: 20, Message: "120 of 120 passed"},
		{Name: "coverage", Points: 15, Max: 15, Message: "85 % of a target of 80 %"},
		{Name: "scan", Points: 12, Max: 15, Message: "1 high finding at −3"},
		{Name: "crossing", Points: 0, Max: 50, Message: "not in production yet"},
		{Name: "clamp", Points: 1, Max: 0, Message: "for this fixture to show a sum"},
	}
	r.Status.Bundle = &v1alpha1.Bundle{
		Images: []v1alpha1.FrozenImage{
			{Name: "backend", Repository: "registry.gitlab.com/dynors/supergest/backend", Digest: digest("2")},
			{Name: "frontend", Repository: "registry.gitlab.com/dynors/supergest/frontend", Digest: digest("3")},
			{Name: "worker", Repository: "registry.gitlab.com/dynors/supergest/worker", Digest: digest("4")},
		},
		Pins: []v1alpha1.PinnedReference{{Reference: "postgres:16", Digest: digest("9")}},
		Environments: []v1alpha1.EnvironmentBundle{
			{Environment: "dev", Hash: digest("a"), ComposeHash: digest("c"), ValuesHash: digest("d")},
			{Environment: "rmoa-dynors", Hash: digest("b"), ComposeHash: digest("c"), ValuesHash: digest("e")},
			{Environment: "production", Problem: "Secret supergest-prod does not exist: create it in namespace supergest-001"},
		},
	}
	r.Status.Approvals = []v1alpha1.ApprovalRecord{
		{Gate: "qa", User: "qa@dynors.com", Decision: v1alpha1.DecisionApproved, Time: ago(2 * time.Hour), BundleHash: digest("b"),
			Stale: "the bundle changed since: withdraw it and approve again"},
		{Gate: "client", User: "cto@dynors.com", Decision: v1alpha1.DecisionRejected, Time: ago(time.Hour), BundleHash: digest("b"),
			Reason: "invoices are rounded wrongly"},
	}
	return r
}

func deploying() v1alpha1.Release {
	r := release("c0ffee1", "v1.3.1", "release/1.3", 4*day, 50, "Repenti", v1alpha1.ReasonCrossing,
		"deploying in rmoa-dynors: 1 of 1 hosts pulls images", passed, passed)
	r = in(r, "dev", v1alpha1.PhaseSuperseded, 3*day)
	return in(r, "rmoa-dynors", v1alpha1.PhaseDeploying, 0)
}

func signing() v1alpha1.Release {
	r := release("f00ba12", "v1.3.0", "release/1.3", 15*day, 50, "Repenti", v1alpha1.ReasonWaiting,
		"gate production: PV f00ba12 signed by Client SARL; approval of the CTO", passed, passed, passed, waiting)
	r = in(r, "dev", v1alpha1.PhaseSuperseded, 14*day)
	r = in(r, "rmoa-dynors", v1alpha1.PhaseSuperseded, 10*day)
	return in(r, "rmoa-client", v1alpha1.PhaseHealthy, 7*day)
}

func serving() v1alpha1.Release {
	r := release("9c8d7e6", "v1.2.0", "release/1.2", 60*day, 100, "Code Divin", v1alpha1.ReasonCrossed, "healthy in production",
		passed, passed, passed, passed)
	r.Status.Conditions[0].Status = metav1.ConditionTrue
	for _, e := range []string{"dev", "rmoa-dynors", "rmoa-client"} {
		r = in(r, e, v1alpha1.PhaseSuperseded, 50*day)
	}
	r.Status.Bundle = &v1alpha1.Bundle{
		Images: []v1alpha1.FrozenImage{
			{Name: "backend", Repository: "registry.gitlab.com/dynors/supergest/backend", Digest: digest("1")},
			{Name: "frontend", Repository: "registry.gitlab.com/dynors/supergest/frontend", Digest: digest("3")},
			{Name: "legacy", Repository: "registry.gitlab.com/dynors/supergest/legacy", Digest: digest("5")},
		},
		Environments: []v1alpha1.EnvironmentBundle{
			{Environment: "rmoa-dynors", Hash: digest("8"), ComposeHash: digest("c"), ValuesHash: digest("7")},
		},
	}
	return in(r, "production", v1alpha1.PhaseHealthy, 41*day)
}

func refused() v1alpha1.Release {
	return release("0badc0d", "", "feature/\x1b[31mboom", 2*day, 15, "Damné", v1alpha1.ReasonRefused,
		"back to development: gate ci: 3 of 120 tests failed", refusedVerdict)
}

func old() v1alpha1.Release {
	r := release("5eed5ed", "v1.2.9", "release/1.2", 20*day, 40, "Repenti", v1alpha1.ReasonSuperseded, "v1.3.0 took its place", passed)
	return in(r, "dev", v1alpha1.PhaseSuperseded, 19*day)
}

// fresh is a release that no controller has seen.
func fresh() v1alpha1.Release {
	return v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: "11aa22b", Namespace: "supergest-001", CreationTimestamp: ago(20 * time.Second)},
		Spec:       v1alpha1.ReleaseSpec{Commit: "11aa22b" + strings.Repeat("0", 33), Branch: "develop"},
	}
}

// certificate is a PV; hostile text stands where a pipeline may put some.
func certificate(t testing.TB, status v1alpha1.PVStatus) *v1alpha1.PV {
	t.Helper()
	d := pv.Document{
		Title: "Procès-verbal de recette", Language: "fr", Project: "supergest-001", ProjectName: "SuperGest", Supplier: "DYNORS",
		Client: "Client SARL", Signatories: []string{"Claire Client"}, Release: "f00ba12", ReleaseUID: "uid-f00ba12", Version: "v1.3.0",
		Commit: "f00ba12" + strings.Repeat("0", 33), Branch: "release/1.3\u202e", BundleHash: digest("b"),
		Images:      []string{"backend: registry.gitlab.com/dynors/supergest/backend@" + digest("2")},
		Environment: "rmoa-client", URL: "https://recette.client.example",
		Changes: []pv.Change{{Release: "a1b2c3d", Version: "v1.3.0", Changelog: "Factures en PDF\nCorrige l'arrondi de TVA\n\x1b]0;owned\x07\x1b[2JTout va bien"}},
		Karma:   50, Gates: []pv.Gate{
			{Name: "ci", Criteria: []string{"tests: tests passed"}},
			{Name: "qa", Number: 1, Criteria: []string{"approval: approved by qa@dynors.com"}},
		},
		Authorises: []pv.Authorised{{
			Environment: "production", ComposeProject: "supergest-production", ComposeHash: digest("7"),
			Images:     []v1alpha1.ServiceImage{{Service: "backend", Image: "registry.gitlab.com/dynors/supergest/backend@" + digest("2")}},
			ValuesHash: digest("8"), ChecksHash: digest("9"), SecretNames: []string{"SMTP_PASSWORD", "DATABASE_URL\x1b[2J"},
		}},
		Opened: now.Add(-7 * day),
	}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Name: "f00ba12", Namespace: "supergest-001", UID: "uid-pv", CreationTimestamp: ago(7 * day)},
		Spec: v1alpha1.PVSpec{
			Release:     v1alpha1.PVRelease{Name: "f00ba12", UID: "uid-b7e0d1f", Version: "v1.3.0"},
			Environment: "rmoa-client", Client: "Client SARL", Document: string(raw), DocumentHash: envelope.Hash(raw),
		},
		Status: status,
	}
}

func withReservations() v1alpha1.PVStatus {
	return v1alpha1.PVStatus{
		Decision: v1alpha1.PVAcceptedWithReservations, SignedBy: "Claire Client", SignedAt: agoPtr(time.Hour), KeyID: digest("6"),
		Reservations: []v1alpha1.Reservation{
			{Text: "Le logo est flou sur les factures imprimées", Owner: "DYNORS", Deadline: "2026-12-31"},
			{Text: "Lenteur de l'export"},
		},
	}
}
