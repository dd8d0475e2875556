// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var (
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	en   = texts.In("en")
)

func ready(reason string) []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
}

func gatesOf(verdicts ...v1alpha1.Verdict) (out []v1alpha1.GateVerdict) {
	for i, v := range verdicts {
		names := []string{"ci", "qa", "production"}
		out = append(out, v1alpha1.GateVerdict{Name: names[i], Number: int32(i), Environment: []string{"dev", "recette", "production"}[i], Verdict: v})
	}
	return out
}

const passed, waiting, refused = v1alpha1.VerdictPassed, v1alpha1.VerdictWaiting, v1alpha1.VerdictRefused

func TestStateAtAGlance(t *testing.T) {
	for name, tc := range map[string]struct {
		status v1alpha1.ReleaseStatus
		want   mark
	}{
		"not judged":          {v1alpha1.ReleaseStatus{}, mark{idle, "Not judged yet"}},
		"waits":               {v1alpha1.ReleaseStatus{Gates: gatesOf(passed, waiting, waiting), Conditions: ready(v1alpha1.ReasonWaiting)}, mark{wait, "Waiting at gate qa"}},
		"waits for no gate":   {v1alpha1.ReleaseStatus{Conditions: ready(v1alpha1.ReasonWaiting)}, mark{wait, "Waiting"}},
		"on its way":          {v1alpha1.ReleaseStatus{Gates: gatesOf(passed, waiting), Conditions: ready(v1alpha1.ReasonCrossing)}, mark{busy, "On its way"}},
		"refused":             {v1alpha1.ReleaseStatus{Gates: gatesOf(refused, waiting), Conditions: ready(v1alpha1.ReasonRefused)}, mark{bad, "Refused at gate ci"}},
		"rejected":            {v1alpha1.ReleaseStatus{Gates: gatesOf(passed, refused), Conditions: ready(v1alpha1.ReasonRejected)}, mark{bad, "Rejected at gate qa"}},
		"rolled back":         {v1alpha1.ReleaseStatus{Gates: gatesOf(passed, refused), Conditions: ready(v1alpha1.ReasonRolledBack)}, mark{bad, "Failed on a server"}},
		"refused by client":   {v1alpha1.ReleaseStatus{Gates: gatesOf(passed, refused), Conditions: ready(v1alpha1.ReasonPVRefused)}, mark{bad, "Refused by the client"}},
		"superseded":          {v1alpha1.ReleaseStatus{Gates: gatesOf(refused), Conditions: ready(v1alpha1.ReasonSuperseded)}, mark{idle, "Replaced by another release"}},
		"crossed":             {v1alpha1.ReleaseStatus{Reached: "production", Gates: gatesOf(passed), Conditions: ready(v1alpha1.ReasonCrossed)}, mark{good, "Across the bridge: healthy in production"}},
		"published":           {v1alpha1.ReleaseStatus{Gates: gatesOf(passed), Conditions: ready(v1alpha1.ReasonPublished)}, mark{good, "Published"}},
		"of a later version":  {v1alpha1.ReleaseStatus{Gates: gatesOf(passed), Conditions: ready("Teleported")}, mark{wait, "A state that this page does not know"}},
		"verdict of nobody's": {v1alpha1.ReleaseStatus{Gates: gatesOf("Maybe"), Conditions: ready(v1alpha1.ReasonWaiting)}, mark{wait, "Waiting at gate ci"}},
	} {
		if diff := cmp.Diff(tc.want, stateOf(en, tc.status)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSteps: gates come in their order, each with what it guards; what no gate guards any more is not lost; what is not known never shows
// as passed or healthy.
func TestSteps(t *testing.T) {
	verdicts := gatesOf(passed, waiting, waiting)
	verdicts[0], verdicts[2] = verdicts[2], verdicts[0]
	verdicts[1].WaitingFor = []string{"QA approves"}
	verdicts = append(verdicts, v1alpha1.GateVerdict{Name: "second", Number: 9, Environment: "production", Verdict: "Maybe"})
	f := facts{
		release: v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Status: v1alpha1.ReleaseStatus{Gates: verdicts, Environments: []v1alpha1.ReleaseEnvironment{
			{Name: "dev", Phase: v1alpha1.PhaseHealthy, AuthorizedAt: metav1.NewMicroTime(noon), HealthySince: &metav1.Time{Time: noon.Add(time.Minute)}},
			{Name: "recette", Phase: v1alpha1.PhaseSuperseded, AuthorizedAt: metav1.NewMicroTime(noon), HealthyUntil: &metav1.Time{Time: noon.Add(time.Hour)}},
			{Name: "staging", Phase: "Floating", AuthorizedAt: metav1.NewMicroTime(noon)},
		}}},
		gates: []v1alpha1.QualityGate{{ObjectMeta: metav1.ObjectMeta{Name: "ci"}, Spec: v1alpha1.QualityGateSpec{Mode: v1alpha1.ModeAutomatic}}, {ObjectMeta: metav1.ObjectMeta{Name: "qa"}}},
		environments: []v1alpha1.Environment{
			{ObjectMeta: metav1.ObjectMeta{Name: "dev"}, Spec: v1alpha1.EnvironmentSpec{Hosts: &metav1.LabelSelector{}},
				Status: v1alpha1.EnvironmentStatus{HostsReady: 2, HostsMatched: 3, Current: &v1alpha1.EnvironmentRelease{UID: "u"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "recette"}, Spec: v1alpha1.EnvironmentSpec{Hosts: &metav1.LabelSelector{}},
				Status: v1alpha1.EnvironmentStatus{HostsReady: 1, HostsMatched: 1, Current: &v1alpha1.EnvironmentRelease{UID: "another"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "production"}},
		},
	}
	want := []step{
		{Gate: &gateView{Name: "ci", Environment: "dev", Mode: "automatic", Verdict: mark{good, "Passed"}},
			Environment: &environmentView{Name: "dev", Phase: mark{good, "Healthy"}, SinceText: "healthy since", Since: noon.Add(time.Minute), Counted: true, Ready: 2, Matched: 3}},
		{Here: true, Gate: &gateView{Name: "qa", Number: 1, Environment: "recette", Mode: "with approval", Verdict: mark{wait, "Waiting"}, Awaited: []string{"QA approves"}, Open: true},
			Environment: &environmentView{Name: "recette", Phase: mark{idle, "Replaced"}, SinceText: "replaced on", Since: noon.Add(time.Hour)}},
		{Gate: &gateView{Name: "production", Number: 2, Environment: "production", Verdict: mark{idle, "Further on"}}},
		{Gate: &gateView{Name: "second", Number: 9, Environment: "production", Verdict: mark{wait, "Waiting"}},
			Environment: &environmentView{Name: "production", Phase: mark{idle, "Not reached yet"}, External: true}},
		{Environment: &environmentView{Name: "staging", Phase: mark{wait, "Floating"}, SinceText: "authorised on", Since: noon}},
	}
	if diff := cmp.Diff(want, stepsOf(en, f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCriteria(t *testing.T) {
	g := v1alpha1.GateVerdict{Name: "production", Verdict: passed, Message: "unsaid", WaitingFor: []string{"unsaid"}, Earliest: &metav1.Time{Time: noon}, Criteria: []v1alpha1.CriterionVerdict{
		{Name: "(break-glass)", Verdict: passed, Reason: "BrokeGlass", Message: "opened by eve: fire"},
		{Name: "new", Verdict: "Maybe", Reason: "Unheard", Needs: "patience"}, {Name: "tests", Verdict: refused, Reason: "ResultFailed", Message: "tests failed"},
	}}
	want := &gateView{Name: "production", Verdict: mark{good, "Passed"}, Open: true, Criteria: []criterion{
		{"break-glass", mark{good, "met"}, "Opened in an emergency", "opened by eve: fire", ""},
		{"new", mark{wait, "not met yet"}, "", "", "patience"},
		{"tests", mark{bad, "not met"}, "The result failed", "tests failed", ""},
	}}
	if diff := cmp.Diff(want, gateOf(en, facts{}, g, nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := met(want.Criteria); n != 1 {
		t.Errorf("%d met", n)
	}
}

func TestTroubles(t *testing.T) {
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	got := troublesOf(en, []metav1.Condition{
		{Type: "Ready", Status: no}, {Type: "Stalled", Status: yes}, {Type: "Reconciling", Status: yes}, // told as the state
		{Type: "Frozen", Status: yes}, {Type: "Debt", Status: no, Message: "none"}, {Type: "Held", Status: no},
		{Type: "Tagged", Status: no, Message: "busy"}, {Type: "Debt", Status: yes, Message: "forced"}, {Type: "Scanned", Status: unknown, Reason: "Asking"}, {Type: "New", Status: no, Message: "x"},
	})
	want := []trouble{{"Tags are missing in the registry", "busy"}, {"A gate was forced: to be regularised", "forced"},
		{"The scan of the images is not available", "Asking"}, {"New", "x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsHidden(t *testing.T) {
	hide := hider([]string{"vps-2", "srv1.client.example", "srv1.client.example.org"})
	for text, want := range map[string]string{
		"approved by alice.martin+qa@dynors.com, bob@client.example": "approved by a•••@dynors.com, b•••@client.example",
		"élodie@dynors.com": "é•••@dynors.com",
		"GET https://user:pw@host.example:8443/x?token=t: 503":    "GET https://•••: 503",
		"(see http://a.example/b).":                               "(see http://•••).",
		"dial tcp 10.4.0.7:5000: refused":                         "dial tcp •••: refused",
		"at 10.4.0.7, then host=192.168.1.1:80":                   "at •••, then host=•••",
		"web10.0.0.3 is down":                                     "web••• is down",
		"[fe80::1%eth0]:443 and ::1, 2001:db8::5:":                "••• and •••, •••:",
		"::ffff:127.0.0.1":                                        "•••",
		"vps-2: failed, srv1.client.example.org too":              "vps-2: failed, ••• too",
		"srv1.client.example":                                     "•••",
		"backend@sha256:" + strings.Repeat("a", 64):               "backend@sha256:" + strings.Repeat("a", 64),
		"v1.2.3 of com.dynors:core:1.2.3 at 2026-11-20T09:30:00Z": "v1.2.3 of com.dynors:core:1.2.3 at 2026-11-20T09:30:00Z",
		"registry.dynors.com/supergest/backend":                   "registry.dynors.com/supergest/backend",
		"a\x1b[31mb\u202ec":                                       `a\x1b[31mb\u202ec`,
		"approve: kubectl sirrat approve r client":                "approve: kubectl sirrat approve r client",
		strings.Repeat("é", maxText+5):                            strings.Repeat("é", maxText) + "…",
	} {
		if got := hide(text); got != want {
			t.Errorf("%.80q becomes %.80q, want %.80q", text, got, want)
		}
	}
}

// TestViewIsHidden: every text of a view goes through hide, whatever field it is in.
func TestViewIsHidden(t *testing.T) {
	const poison = "eve@dynors.com"
	v1 := v1alpha1.GateVerdict{Name: poison, Environment: poison, Verdict: waiting, Message: poison, WaitingFor: []string{poison},
		Criteria: []v1alpha1.CriterionVerdict{{Name: poison, Message: poison, Needs: poison}}}
	f := facts{project: v1alpha1.Project{Spec: v1alpha1.ProjectSpec{DisplayName: poison}}, release: v1alpha1.Release{
		Spec: v1alpha1.ReleaseSpec{Branch: poison, Version: poison, Commit: strings.Repeat("a", 40), Artifacts: []string{poison}},
		Status: v1alpha1.ReleaseStatus{Level: poison, Next: poison, Reached: poison, Gates: []v1alpha1.GateVerdict{v1},
			Environments:   []v1alpha1.ReleaseEnvironment{{Name: poison, Phase: poison, Message: poison}},
			KarmaBreakdown: []v1alpha1.KarmaLine{{Name: poison, Message: poison}}, Conditions: []metav1.Condition{{Type: poison, Message: poison}},
			Bundle: &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: poison, Repository: poison, Digest: poison}}, Pins: []v1alpha1.PinnedReference{{Reference: poison, Digest: poison}}},
		}}}
	v := newView(f, "fr", noon)
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "e•••@dynors.com"); strings.Contains(string(text), "eve@") || n < 20 {
		t.Errorf("%d are hidden in %s", n, text)
	}
}

var (
	inTemplate = regexp.MustCompile(`\bt "([a-z.]+)"`)
	inCode     = regexp.MustCompile(`\bt\("([A-Za-z.]+)"`)
	byValue    = regexp.MustCompile(`^(state|phase|reason|condition|mode|gate|criterion)\.|\.(title|detail)$`)
)

// TestTexts: both languages say something, with the same values; no text is missing, and none is left over.
func TestTexts(t *testing.T) {
	used := map[string]bool{}
	for pattern, files := range map[*regexp.Regexp]string{inTemplate: "templates/*.html", inCode: "*.go"} {
		names, err := filepath.Glob(files)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
				used[m[1]] = true
			}
		}
	}
	if len(used) < 40 {
		t.Fatalf("only %d texts found", len(used))
	}
	for key := range used {
		if _, ok := texts[key]; !ok && !strings.HasSuffix(key, ".") {
			t.Errorf("%s has no text", key)
		}
	}
	for key := range texts {
		if !used[key] && !byValue.MatchString(key) {
			t.Errorf("nothing says %s", key)
		}
	}
	for key, text := range texts {
		if text[0] == "" || text[1] == "" || strings.Count(text[0], "%") != strings.Count(text[1], "%") {
			t.Errorf("%s: %q", key, text)
		}
	}
	for reason := range states {
		if _, ok := texts["state."+reason]; !ok {
			t.Errorf("the state %s has no text", reason)
		}
	}
	for phase := range phases {
		if _, ok := texts["phase."+phase]; !ok {
			t.Errorf("the phase %s has no text", phase)
		}
	}
}
