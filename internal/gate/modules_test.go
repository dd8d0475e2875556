// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// listing is evidence with a bill of materials that lists these components.
func listing(listed ...string) evidence.Set {
	return evidence.Set{Results: map[string]evidence.Result{"sbom": {Type: "sbom", Status: "passed", Maven: &v1alpha1.MavenComponents{Components: listed}}}}
}

// asking is a gate that asks about the modules of com.dynors.
func asking(set evidence.Set, known map[string]Module) Input {
	in := base(v1alpha1.Criterion{Name: "modules", Modules: &v1alpha1.ModulesCriterion{
		Groups: []string{"com.dynors.*"}, Except: []string{"com.dynors.supergest.*", "com.dynors:supergest"}}})
	in.Evidence, in.Modules = set, known
	return in
}

func TestModules(t *testing.T) {
	spring := "org.springframework.boot:spring-boot:3.5.7"
	released := Module{Projects: []string{"dynors-core"}, Project: "dynors-core", Release: "v2.1.0", Published: true, Digests: []string{digestA}}
	waits := released
	waits.Published, waits.Waits = false, "gate published: 1 approval(s)"
	contested, disputed := released, released
	contested.Projects, disputed.Disputed = []string{"dynors-core", "evil"}, []string{"again"}
	core := map[string]Module{"com.dynors:core:2.1.0": released}
	incomplete := listing(spring)
	incomplete.Results["sbom"].Maven.Incomplete = true
	many := []string{}
	for i := range 30 {
		many = append(many, fmt.Sprintf("com.dynors:m%02d:1.0.0", i))
	}
	for _, c := range []struct {
		name    string
		in      Input
		verdict v1alpha1.Verdict
		reason  string
		says    []string
	}{
		{"no list", asking(evidence.Set{}, core), isWaiting, "NoSBOM", []string{"no bill of materials"}},
		{"a result without a list", asking(evidence.Set{Results: map[string]evidence.Result{"sbom": {Type: "sbom", Status: "passed"}}}, core), isWaiting, "NoSBOM", nil},
		{"a list of other things", asking(listing(), core), isWaiting, "NoMavenComponents", []string{"lists no Maven component"}},
		{"a list cut short", asking(incomplete, core), isRefused, "SBOMTooLong", nil},
		{"nothing of ours", asking(listing(spring, "com.dynorsevil:core:1.0.0"), nil), isPassed, "NoModules", []string{"no module of com.dynors.*"}},
		{"released", asking(listing("com.dynors:core:2.1.0", spring), core), isPassed, "ModulesReleased", []string{"com.dynors:core:2.1.0"}},
		{"released, these bytes", asking(listing("com.dynors:core:2.1.0@"+digestA), core), isPassed, "ModulesReleased", nil},
		{"other bytes", asking(listing("com.dynors:core:2.1.0@"+digestB), core), isRefused, "ModuleNotReleasable", []string{digestB, "not what release v2.1.0 of dynors-core published"}},
		{"a snapshot", asking(listing("com.dynors:core:2.1.0-SNAPSHOT"), map[string]Module{"com.dynors:core:2.1.0-SNAPSHOT": released}), isRefused, "ModuleNotReleasable",
			[]string{"com.dynors:core:2.1.0-SNAPSHOT is a snapshot"}},
		{"a build of a snapshot", asking(listing("com.dynors:core:2.1.0-20260102.030405-7"), core), isRefused, "ModuleNotReleasable", []string{"is a snapshot"}},
		{"no version", asking(listing("com.dynors:core:?"), core), isRefused, "ModuleNotReleasable", []string{"com.dynors:core is listed without a version"}},
		{"nobody's", asking(listing("com.dynors.ghost:core:1.0.0"), nil), isWaiting, "ModuleNotReleased", []string{"com.dynors.ghost:core:1.0.0 is a module of no project"}},
		{"no release", asking(listing("com.dynors:core:2.2.0"), map[string]Module{"com.dynors:core:2.2.0": {Projects: []string{"dynors-core"}}}), isWaiting, "ModuleNotReleased",
			[]string{"com.dynors:core:2.2.0 is no release of dynors-core"}},
		{"not published", asking(listing("com.dynors:core:2.1.0"), map[string]Module{"com.dynors:core:2.1.0": waits}), isWaiting, "ModuleNotReleased",
			[]string{"release v2.1.0 of dynors-core waits for gate published: 1 approval(s)"}},
		{"two projects'", asking(listing("com.dynors:core:2.1.0"), map[string]Module{"com.dynors:core:2.1.0": contested}), isWaiting, "ModuleNotReleased",
			[]string{"is a module of dynors-core and evil", "spec.maven of all but one", "com.dynors:core out"}},
		{"two truths", asking(listing("com.dynors:core:2.1.0"), map[string]Module{"com.dynors:core:2.1.0": disputed}), isWaiting, "ModuleNotReleased",
			[]string{"other files for release again of dynors-core than for v2.1.0", "release a new version"}},
		{"both named", asking(listing("com.dynors:core:2.1.0", "com.dynors:ext:1.4.0", "com.dynors:pdf:1-SNAPSHOT"), core), isRefused, "ModuleNotReleasable",
			[]string{"com.dynors:pdf:1-SNAPSHOT is a snapshot; com.dynors:ext:1.4.0 is a module of no project"}},
		{"the application's own", asking(listing("com.dynors.supergest.domain:api:1-SNAPSHOT", "com.dynors:supergest:1-SNAPSHOT"), nil), isPassed, "NoModules", nil},
		{"thirty", asking(listing(many...), nil), isWaiting, "ModuleNotReleased", []string{"m19", "and 10 more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Judge(c.in)
			last := got.Criteria[len(got.Criteria)-1]
			if got.Verdict != c.verdict || last.Reason != c.reason {
				t.Errorf("%s %s: %s", got.Verdict, last.Reason, last.Message)
			}
			for _, text := range c.says {
				if !strings.Contains(last.Message, text) {
					t.Errorf("%q does not say %q", last.Message, text)
				}
			}
			if (last.Needs == "") != (c.verdict == isPassed) {
				t.Errorf("needs %q", last.Needs)
			}
		})
	}
}

// TestModulesProperty: a gate opens if and only if every component of ours is published under that very version, whatever else
// is listed and in whatever order; and each that is not is named.
func TestModulesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var listed, missing []string
		known := map[string]Module{}
		for i := range rapid.IntRange(0, 8).Draw(t, "components") {
			group := rapid.SampledFrom([]string{"com.dynors", "com.dynors.x", "com.dynorsx", "org.other"}).Draw(t, "group")
			version := rapid.SampledFrom([]string{"1.0.0", "1.0.0-SNAPSHOT", "?"}).Draw(t, "version")
			text := fmt.Sprintf("%s:m%d:%s", group, i, version)
			state := rapid.IntRange(0, 3).Draw(t, "state")
			m := Module{}
			if state > 0 {
				m.Projects = []string{"p"}
			}
			if state > 1 {
				m.Project, m.Release, m.Waits = "p", "r", "somebody"
			}
			m.Published, m.Digests = state == 3, []string{digestA}
			if rapid.Bool().Draw(t, "known") {
				known[text] = m
			}
			digest := rapid.SampledFrom([]string{"", digestA, digestB}).Draw(t, "digest")
			ours := group == "com.dynors" || group == "com.dynors.x"
			if ours && !(version == "1.0.0" && known[text].Published && digest != digestB) {
				missing = append(missing, fmt.Sprintf("%s:m%d", group, i))
			}
			if digest != "" {
				text += "@" + digest
			}
			listed = append(listed, text)
		}
		listed = rapid.Permutation(listed).Draw(t, "order")
		in := asking(listing(listed...), known)
		got := Judge(in)
		if passes := got.Verdict == isPassed; passes != (len(listed) > 0 && len(missing) == 0) {
			t.Fatalf("%s of %v, missing %v: %s", got.Verdict, listed, missing, got.Message)
		}
		for _, name := range missing {
			if !strings.Contains(got.Message, name) {
				t.Errorf("%q does not name %s", got.Message, name)
			}
		}
		for _, wanted := range Wanted(in.Spec, in.Evidence.Maven()) {
			if !strings.HasPrefix(wanted, "com.dynors") || strings.HasPrefix(wanted, "com.dynorsx") || strings.Contains(wanted, "@") {
				t.Errorf("asks about %s", wanted)
			}
		}
		if again := Judge(in); again.Message != got.Message {
			t.Errorf("%q, then %q", got.Message, again.Message)
		}
	})
}

// What a gate must be told: all modules of the organisation that are listed, whatever criterion asks, each once and in order.
func TestWanted(t *testing.T) {
	spec := v1alpha1.QualityGateSpec{Criteria: []v1alpha1.Criterion{
		{Name: "images", Images: &v1alpha1.ImagesCriterion{}},
		{Name: "a", Modules: &v1alpha1.ModulesCriterion{Groups: []string{"com.dynors.*"}}},
		{Name: "b", Modules: &v1alpha1.ModulesCriterion{Groups: []string{"com.dynors", "org.dynors"}}},
	}}
	listed := &v1alpha1.MavenComponents{Components: []string{"org.dynors:pdf:1.0.0", "com.dynors:core:2.1.0@" + digestA, "com.dynors:core:2.1.0@" + digestB, "org.other:x:1", "not a component"}}
	if got, want := Wanted(spec, listed), []string{"com.dynors:core:2.1.0", "org.dynors:pdf:1.0.0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Wanted(spec, nil); got != nil {
		t.Errorf("of no list: %q", got)
	}
}

// publication is a module's gate.
func publication(criteria ...v1alpha1.Criterion) Input {
	in := base(criteria...)
	in.Spec.Environment, in.GuardedExists, in.Module = "", false, true
	in.Artifacts = []string{"com.dynors:core:2.1.0"}
	return in
}

func TestPublicationGates(t *testing.T) {
	verified := v1alpha1.Criterion{Name: "artifacts", Artifacts: &v1alpha1.ArtifactsCriterion{}}
	tests := v1alpha1.Criterion{Name: "karma", Karma: &v1alpha1.KarmaCriterion{}}
	change := func(f func(*Input)) Input { in := publication(verified); f(&in); return in }
	never := time.Time{}
	run(t, []judged{
		{"verified", publication(verified), isPassed, "Verified", "", never},
		{"not in the registry", change(func(in *Input) {
			in.Frozen, in.FrozenMessage, in.FrozenNeeds = false, "core-2.1.0.pom is not in the package registry", "CI publishes"
		}), isWaiting, "NotPublished", "CI publishes", never},
		{"changed", change(func(in *Input) { in.Changed = "core-2.1.0.jar is another file" }), isRefused, "ArtifactChanged", "new version", never},
		{"snapshot", change(func(in *Input) { in.Artifacts = []string{"com.dynors:core:2.1.0-SNAPSHOT"} }), isRefused, "VersionInvalid", "another version", never},
		{"not semantic", change(func(in *Input) { in.Artifacts = []string{"com.dynors:core:2.1"} }), isRefused, "VersionInvalid", "another version", never},
		{"not Maven's", change(func(in *Input) { in.Artifacts = []string{"com.dynors:..:2.1.0"} }), isRefused, "ArtifactInvalid", "coordinates", never},
		{"approved for nothing, while there is nothing", func() Input {
			in := publication(v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{}})
			in.BundleHash = ""
			in.Approvals = []v1alpha1.ApprovalRecord{{Gate: "g", User: "qa", Decision: v1alpha1.DecisionApproved}}
			return in
		}(), isWaiting, "ApprovalStale", "1 approval(s)", never},
		{"opened in an emergency for nothing, while there is nothing", func() Input {
			in := publication(v1alpha1.Criterion{Name: "karma", Karma: &v1alpha1.KarmaCriterion{Minimum: 1}})
			in.BundleHash = ""
			in.Approvals = []v1alpha1.ApprovalRecord{{Gate: "g", User: "cto", Decision: v1alpha1.DecisionBrokeGlass}}
			return in
		}(), isWaiting, "KarmaTooLow", "better evidence", never},
		{"an earlier gate", change(func(in *Input) { in.Unpassed = []string{"ci"} }), isWaiting, "NotThrough", "gate ci opens", never},
		{"of an application", change(func(in *Input) { in.Module = false }), isWaiting, "NoEnvironment", "spec.environment", never},
		{"before there are artifacts", func() Input {
			in := publication(tests)
			in.Frozen, in.BundleHash = false, ""
			return in
		}(), isPassed, "KarmaReached", "", never},
		{"that guards an environment", func() Input {
			in := base(tests)
			in.Module = true
			return in
		}(), isWaiting, "NotDeployed", "spec.environment", never},
	})
	if got := Judge(publication(verified)); slices.ContainsFunc(got.Criteria, func(c v1alpha1.CriterionVerdict) bool { return strings.HasPrefix(c.Name, "(") }) {
		t.Errorf("%+v", got.Criteria)
	}
}
