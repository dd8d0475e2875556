// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func TestCoordinatesOf(t *testing.T) {
	p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Maven: []string{"com.dynors:core", "com.dynors:db"}}}
	frozen := []v1alpha1.ReleaseArtifact{{Coordinates: "com.dynors:core:1.0.0", Files: []v1alpha1.ArtifactFile{{Name: "core-1.0.0.pom"}}}}
	for name, c := range map[string]struct {
		spec   v1alpha1.ReleaseSpec
		stored []v1alpha1.ReleaseArtifact
		want   []string
		says   string
	}{
		"by version":      {v1alpha1.ReleaseSpec{Version: "v2.1.0"}, nil, []string{"com.dynors:core:2.1.0", "com.dynors:db:2.1.0"}, ""},
		"given":           {v1alpha1.ReleaseSpec{Version: "v2.1.0", Artifacts: []string{"com.dynors:db:7.0.0"}}, nil, []string{"com.dynors:db:7.0.0"}, ""},
		"given twice":     {v1alpha1.ReleaseSpec{Artifacts: []string{"com.dynors:db:7.0.0", "com.dynors:db:7.0.0"}}, nil, []string{"com.dynors:db:7.0.0"}, ""},
		"nothing":         {v1alpha1.ReleaseSpec{}, nil, nil, "neither spec.version nor spec.artifacts"},
		"somebody else's": {v1alpha1.ReleaseSpec{Artifacts: []string{"com.evil:core:1.0.0"}}, nil, []string{"com.evil:core:1.0.0"}, "is no module of the project"},
		"a path":          {v1alpha1.ReleaseSpec{Artifacts: []string{"com.dynors:..:1.0.0"}}, nil, []string{"com.dynors:..:1.0.0"}, "not the name of an artifact"},
		"a snapshot":      {v1alpha1.ReleaseSpec{Version: "v2.1.0-SNAPSHOT"}, nil, []string{"com.dynors:core:2.1.0-SNAPSHOT", "com.dynors:db:2.1.0-SNAPSHOT"}, "is a snapshot"},
		"not semantic":    {v1alpha1.ReleaseSpec{Artifacts: []string{"com.dynors:core:1"}}, nil, []string{"com.dynors:core:1"}, "not a semantic version"},
		"read before":     {v1alpha1.ReleaseSpec{Version: "v1.0.0"}, frozen, []string{"com.dynors:core:1.0.0"}, ""},
	} {
		got, reason, problem := coordinatesOf(p, &v1alpha1.Release{Spec: c.spec, Status: v1alpha1.ReleaseStatus{Artifacts: c.stored}})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if !strings.Contains(problem, c.says) || (problem == "") != (c.says == "") || (reason == "") != (c.says == "") {
			t.Errorf("%s: %s %q", name, reason, problem)
		}
	}
}

// moduleWorld is a module whose artifacts were read, judged without any API.
func moduleWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	p := w.s.project
	p.Spec.Images, p.Spec.Maven = nil, []string{"com.dynors:core"}
	p.Spec.PackageRegistry = &v1alpha1.PackageRegistry{URL: "https://gitlab.example/maven"}
	w.s.bridge, w.s.gates = nil, nil
	for _, o := range templateModule(p) {
		w.s.gates = append(w.s.gates, *o.(*v1alpha1.QualityGate))
	}
	w.s.release.Status.Artifacts = []v1alpha1.ReleaseArtifact{{Coordinates: "com.dynors:core:1.3.0", Files: []v1alpha1.ArtifactFile{
		{Name: "core-1.3.0.pom", SHA256: "sha256:1"}, {Name: "core-1.3.0.jar", SHA256: "sha256:2"}}}}
	w.refreeze(t)
	return w
}

// refreeze does what Reconcile does before it judges, and what the look at the artifacts after every decision does.
func (w *world) refreeze(t *testing.T) {
	t.Helper()
	w.s.release.Status.ArtifactsChecked = decisions(w.s.release)
	frozen, err := freezeModule(w.s.project, w.s.release)
	if err != nil {
		t.Fatal(err)
	}
	w.bundle, w.s.frozenReason, w.s.frozenMessage = frozen.bundle, frozen.reason, frozen.message
}

func TestPublicationStands(t *testing.T) {
	w := moduleWorld(t)
	w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 90)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
	if st := w.judge(); st.Publication != nil || st.Karma != 50 {
		t.Fatalf("before the approval: %+v, karma %d", st.Publication, st.Karma)
	}
	checked := w.s.release.Status.ArtifactsChecked
	w.s.release.Annotations[v1alpha1.ApprovalPrefix+"published"] = "cto@dynors.com"
	if w.refreeze(t); w.s.release.Status.ArtifactsChecked == checked {
		t.Fatal("a decision does not ask for another look")
	}
	looked := w.s.release.Status.ArtifactsChecked
	w.s.release.Status.ArtifactsChecked = checked // not looked at since the approval
	if st := w.judge(); st.Publication != nil || !strings.Contains(st.Next, "looked at once more") {
		t.Fatalf("not looked at since: %+v, %q", st.Publication, st.Next)
	}
	w.s.release.Status.ArtifactsChecked = looked
	st := w.judge()
	if st.Publication == nil || st.Publication.BundleHash != w.bundle.Environments[0].Hash || !st.Publication.At.Time.Equal(w.s.now) {
		t.Fatalf("publication %+v: %s", st.Publication, st.Next)
	}
	if st = w.judge(); st.Karma != 100 || st.Reached != published || len(st.Environments) != 0 {
		t.Errorf("karma %d, reached %q, environments %v", st.Karma, st.Reached, st.Environments)
	}
	// Time and later results change nothing.
	w.s.now = w.s.now.Add(time.Hour)
	w.result(v1alpha1.TypeScan, v1alpha1.StatusFailed, 0)
	again := w.judge()
	if again.Publication == nil || *again.Publication != *st.Publication || again.Gates[0].Verdict != v1alpha1.VerdictPassed {
		t.Errorf("after a later failure: %+v, %+v", again.Publication, again.Gates)
	}
	if got := expired([]v1alpha1.Release{{}, *w.s.release}, nil, nil, 1); got != nil {
		t.Error("what is published expires")
	}
}

func TestPublicationIsTakenBack(t *testing.T) {
	for name, change := range map[string]func(*world){
		"rejected": func(w *world) {
			w.s.release.Annotations[v1alpha1.RejectionPrefix+"published"] = "qa@dynors.com: it loses money"
		},
		"changed": func(w *world) {
			a := &w.s.release.Status.Artifacts[0]
			a.Reason, a.Problem = v1alpha1.ReasonArtifactChanged, "core-1.3.0.jar is another file"
		},
		"gone": func(w *world) {
			a := &w.s.release.Status.Artifacts[0]
			a.Reason, a.Problem = v1alpha1.ReasonArtifactMissing, "core-1.3.0.jar is not in the package registry"
		},
		"other bytes":   func(w *world) { w.s.release.Status.Artifacts[0].Files[1].SHA256 = "sha256:3" },
		"not a module":  func(w *world) { w.s.project.Spec.Images = []v1alpha1.ProjectImage{{Name: "backend"}} },
		"no registry":   func(w *world) { w.s.project.Spec.PackageRegistry = nil },
		"unread at all": func(w *world) { w.s.release.Status.Artifacts = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := moduleWorld(t)
			w.result(v1alpha1.TypeTests, v1alpha1.StatusPassed, 90)
			w.result(v1alpha1.TypeScan, v1alpha1.StatusPassed, 0)
			w.judge()
			w.s.release.Annotations[v1alpha1.ApprovalPrefix+"published"] = "cto@dynors.com"
			w.refreeze(t)
			if st := w.judge(); st.Publication == nil {
				t.Fatalf("not published: %s", st.Next)
			}
			change(w)
			w.refreeze(t)
			st := w.judge()
			if st.Publication != nil {
				t.Errorf("it stands: %s", st.Next)
			}
			w.judge()
			if c := findCondition(w.s.release.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionFalse || c.Message == "" {
				t.Errorf("condition %+v", c)
			}
		})
	}
}

// TestModuleIsNeverDeployed: an Environment in a module's project, and a gate that guards it, lead nowhere.
func TestModuleIsNeverDeployed(t *testing.T) {
	w := moduleWorld(t)
	w.s.gates = append(w.s.gates, v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "dev"}, Spec: v1alpha1.QualityGateSpec{
		Number: 2, Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "karma", Karma: &v1alpha1.KarmaCriterion{}}}}})
	st := w.judge()
	if v := st.Gates[2]; v.Verdict != v1alpha1.VerdictWaiting || !strings.Contains(v.Message, "nothing is deployed") || len(st.Environments) != 0 {
		t.Errorf("%+v, %v", v, st.Environments)
	}
}
