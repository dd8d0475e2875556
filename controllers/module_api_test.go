// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/maven"
	"gitlab.com/dynors/sirrat/internal/maven/repository/repositorytest"
)

// module is a bench with a module project whose artifacts are in a registry.
type module struct {
	*bench
	registry    *repositorytest.GitLab
	coordinates string // group:artifact
}

// newModule makes a module project of a name that no other test has, from the template.
func newModule(t *testing.T, o repositorytest.Options, artifact string) *module {
	t.Helper()
	m := &module{bench: newBench(t), registry: repositorytest.Start(t, o)}
	m.coordinates = "com.dynors." + strings.ToLower(t.Name()) + ":" + artifact
	m.project = fmt.Sprintf("m%d-%.20s-%s", benches.Add(1), strings.ToLower(t.Name()), artifact)
	spec := v1alpha1.ProjectSpec{Template: v1alpha1.TemplateDynors, Maven: []string{m.coordinates}, PackageRegistry: &v1alpha1.PackageRegistry{
		URL: m.registry.URL(), SecretRef: &v1alpha1.PackageRegistrySecret{Name: "packages", Header: o.Header}}}
	if o.Header == "" {
		spec.PackageRegistry.SecretRef.Header = v1alpha1.PackageHeaderNone
	}
	m.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: m.project}, Spec: spec})
	m.ready(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: m.project}})
	m.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "packages", Namespace: m.project}, Data: map[string][]byte{
		"token": []byte(repositorytest.Token), "ca.crt": m.registry.CA()}})
	gate := &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "published", Namespace: m.project}}
	m.ready(gate)
	gate.Spec.Criteria[1].Approval.AllowCreator = true // tests are one user
	if err := m.c.Update(t.Context(), gate); err != nil {
		t.Fatal(err)
	}
	return m
}

// released makes a release of a version with all results of CI that the template's gate asks for.
func (m *module) released(version, commit string) *v1alpha1.Release {
	m.t.Helper()
	rel := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: version, Namespace: m.project},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Version: version},
	}
	m.createSoon(rel)
	return rel
}

// createSoon creates a release once admission knows the kind: its policies are loaded in their own time.
func (b *bench) createSoon(rel *v1alpha1.Release) {
	b.t.Helper()
	cptest.Wait(b.t, "release "+rel.Name+" to be admitted", func(ctx context.Context) error {
		err := b.c.Create(ctx, rel)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

func (b *bench) result(commit, typ string, change func(*v1alpha1.CIResultSpec)) {
	b.t.Helper()
	r := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{GenerateName: typ + "-", Namespace: b.project}, Spec: v1alpha1.CIResultSpec{
		Commit: commit, Type: typ, Status: v1alpha1.StatusPassed, Received: metav1.Now(), ReportHash: "sha256:" + strings.Repeat("0", 64)}}
	if change != nil {
		change(&r.Spec)
	}
	b.create(r)
}

func (m *module) ci(commit string) {
	m.t.Helper()
	m.result(commit, v1alpha1.TypeTests, func(s *v1alpha1.CIResultSpec) {
		coverage := 90.0
		s.Coverage, s.Tests = &coverage, &v1alpha1.TestCounts{Total: 10, Passed: 10}
	})
	m.result(commit, v1alpha1.TypeScan, func(s *v1alpha1.CIResultSpec) { s.Vulnerabilities = &v1alpha1.VulnerabilityCounts{} })
}

// verdict waits for a gate's verdict, and that it says these texts.
func (b *bench) verdict(rel *v1alpha1.Release, gate string, want v1alpha1.Verdict, texts ...string) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("gate %s to be %s for %s", gate, want, texts), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		for _, v := range rel.Status.Gates {
			if v.Name != gate || v.Verdict != want {
				continue
			}
			missing := ""
			for _, text := range texts {
				if !strings.Contains(v.Message, text) {
					missing = text
				}
			}
			if missing == "" {
				return nil
			}
		}
		return fmt.Errorf("gates %+v, artifacts %+v", rel.Status.Gates, rel.Status.Artifacts)
	})
}

// isPublished waits until a release counts as published, or does not.
func (b *bench) isPublished(rel *v1alpha1.Release, want bool) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("%s to be published: %v", rel.Name, want), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		if (rel.Status.Publication != nil) != want {
			return fmt.Errorf("next %q, artifacts %+v, gates %+v", rel.Status.Next, rel.Status.Artifacts, rel.Status.Gates)
		}
		return nil
	})
}

func (m *module) publish(version, jar string) {
	m.t.Helper()
	m.registry.Publish(m.coordinates+":"+version, jar)
}

func (m *module) path(version, extension string) string {
	m.t.Helper()
	c, err := maven.Parse(m.coordinates + ":" + version)
	if err != nil {
		m.t.Fatal(err)
	}
	return c.Path(extension)
}

// approve approves as the server's own user, of whom admission allows it.
func (b *bench) approve(rel *v1alpha1.Release, gate string) {
	b.t.Helper()
	b.annotate(rel, v1alpha1.ApprovalPrefix+gate, "sirrat:server")
}

// application makes a project of an application whose one gate asks about the modules of a group.
func application(t *testing.T, group string) *bench {
	t.Helper()
	b := newBench(t)
	b.push("dev-aaaaaaa")
	b.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: b.repo}}}})
	b.ready(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}})
	b.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}})
	b.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: b.project}, Spec: v1alpha1.QualityGateSpec{
		Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{
			{Name: "modules", Modules: &v1alpha1.ModulesCriterion{Groups: []string{group + ".*"}}}}}})
	return b
}

// TestModuleIsPublished is the whole story: a module goes ci → published, and an application that is built with it is blocked
// before and let through after, by itself. Nothing is deployed for the module.
func TestModuleIsPublished(t *testing.T) {
	m := newModule(t, repositorytest.Options{Header: v1alpha1.PackageHeaderDeploy, Storage: true}, "core")
	group, _, _ := strings.Cut(m.coordinates, ":")
	app := application(t, group)
	appRelease := app.release(commitA)
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, "no bill of materials")
	jar := sha256.Sum256(repositorytest.Jar("classes"))
	app.result(commitA, v1alpha1.TypeSBOM, func(s *v1alpha1.CIResultSpec) {
		s.Maven = &v1alpha1.MavenComponents{Components: []string{m.coordinates + ":2.1.0@sha256:" + hex.EncodeToString(jar[:]), "org.slf4j:slf4j-api:2.0.16"}}
	})
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, m.coordinates+":2.1.0 is no release of "+m.project)

	commit := strings.Repeat("b", 40)
	rel := m.released("v2.1.0", commit)
	m.verdict(rel, "ci", v1alpha1.VerdictWaiting, "no result of type tests")
	m.verdict(rel, "published", v1alpha1.VerdictWaiting, "core-2.1.0.pom is not in the package registry", "gate ci has not opened")
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, m.coordinates+":2.1.0 is not published: release v2.1.0 of "+m.project+" waits for gate ci")

	m.publish("2.1.0", "classes")
	m.ci(commit)
	m.verdict(rel, "ci", v1alpha1.VerdictPassed)
	m.condition(rel, v1alpha1.ConditionFrozen, metav1.ConditionTrue, "every artifact is in the package registry")
	m.verdict(rel, "published", v1alpha1.VerdictWaiting, "1 approval(s) needed")
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, "waits for gate published")
	if rel.Status.Publication != nil || rel.Status.Karma != 50 {
		t.Errorf("before: %+v, karma %d", rel.Status.Publication, rel.Status.Karma)
	}

	m.approve(rel, "published")
	m.isPublished(rel, true)
	app.verdict(appRelease, "ci", v1alpha1.VerdictPassed)
	m.condition(rel, v1alpha1.ConditionReady, metav1.ConditionTrue, "published: "+m.coordinates+":2.1.0")
	cptest.Wait(t, "karma of the crossing", func(ctx context.Context) error {
		if err := m.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		if rel.Status.Karma != 100 || rel.Status.Reached != "published" {
			return fmt.Errorf("karma %d: %+v; reached %q", rel.Status.Karma, rel.Status.KarmaBreakdown, rel.Status.Reached)
		}
		return nil
	})
	a := rel.Status.Artifacts[0]
	if a.Coordinates != m.coordinates+":2.1.0" || a.Packaging != "jar" || len(a.Files) != 2 || a.Files[1].SHA256 != "sha256:"+hex.EncodeToString(jar[:]) {
		t.Errorf("artifacts %+v", rel.Status.Artifacts)
	}
	if len(rel.Status.Environments) != 0 {
		t.Errorf("deployed: %+v", rel.Status.Environments)
	}
	for _, name := range []string{"ci", "published"} {
		m.condition(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: m.project}}, v1alpha1.ConditionReady, metav1.ConditionTrue, "publication")
	}
	m.noSecrets(rel)

	// Somebody else's project that claims the module, whatever its own gates ask, opens nothing: it is nobody's until it is one's.
	rival := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: m.project + "-rival"}, Spec: v1alpha1.ProjectSpec{Maven: []string{m.coordinates}}}
	m.create(rival)
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, m.coordinates+":2.1.0 is a module of "+m.project+" and "+rival.Name)
	if err := m.patch(rival, `{"spec":{"maven":["com.dynors.rival:own"]}}`); err != nil {
		t.Fatal(err)
	}
	app.verdict(appRelease, "ci", v1alpha1.VerdictPassed)

	// A rejection takes it back.
	m.annotate(rel, v1alpha1.RejectionPrefix+"published", "sirrat:server: it loses money")
	m.isPublished(rel, false)
	commitB := strings.Repeat("e", 40)
	app.push("dev-eeeeeee")
	app.result(commitB, v1alpha1.TypeSBOM, func(s *v1alpha1.CIResultSpec) {
		s.Maven = &v1alpha1.MavenComponents{Components: []string{m.coordinates + ":2.1.0"}}
	})
	app.verdict(app.release(commitB), "ci", v1alpha1.VerdictWaiting, m.coordinates+":2.1.0 is not published")
}

// noSecrets looks for the token in all that is stored of a release.
func (m *module) noSecrets(rel *v1alpha1.Release) {
	m.t.Helper()
	if text := fmt.Sprintf("%+v", rel); strings.Contains(text, repositorytest.Token) || strings.Contains(text, "canary-signature") {
		m.t.Error("a secret is in the release's status")
	}
}

// TestReplacedArtifact: once read, the bytes are what the version means. Others in their place are no release, before and after
// it was published; the ones that were judged, put back, are.
func TestReplacedArtifact(t *testing.T) {
	m := newModule(t, repositorytest.Options{}, "core")
	m.publish("1.0.0", "classes")
	commit := strings.Repeat("c", 40)
	m.ci(commit)
	rel := m.released("v1.0.0", commit)
	m.condition(rel, v1alpha1.ConditionFrozen, metav1.ConditionTrue, "")
	m.registry.Put(m.path("1.0.0", "jar"), repositorytest.Jar("other classes"))
	m.approve(rel, "published")
	m.verdict(rel, "published", v1alpha1.VerdictRefused, "core-1.0.0.jar is another file than was judged")
	if rel.Status.Publication != nil {
		t.Error("it counted as published")
	}
	m.publish("1.0.0", "classes")
	m.result(commit, "licences", nil) // anything that arrives has it looked at again
	m.isPublished(rel, true)

	m.registry.Delete(m.path("1.0.0", "jar"))
	m.result(commit, "quality", nil)
	m.isPublished(rel, false)
	m.verdict(rel, "published", v1alpha1.VerdictWaiting, "core-1.0.0.jar is not in the package registry")
	m.publish("1.0.0", "classes")
	m.isPublished(rel, true)

	// What replaces it is not what was judged either once a second release names it.
	app := application(t, strings.TrimSuffix(m.coordinates, ":core"))
	appRelease := app.release(commitA)
	app.result(commitA, v1alpha1.TypeSBOM, func(s *v1alpha1.CIResultSpec) {
		s.Maven = &v1alpha1.MavenComponents{Components: []string{m.coordinates + ":1.0.0"}}
	})
	app.verdict(appRelease, "ci", v1alpha1.VerdictPassed)
	m.registry.Put(m.path("1.0.0", "jar"), repositorytest.Jar("other classes"))
	again := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "again", Namespace: m.project}, Spec: v1alpha1.ReleaseSpec{
		Commit: strings.Repeat("e", 40), Artifacts: []string{m.coordinates + ":1.0.0"}}}
	m.ci(again.Spec.Commit)
	m.createSoon(again)
	m.condition(again, v1alpha1.ConditionFrozen, metav1.ConditionTrue, "")
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, "was read with other files for release")
	m.approve(again, "published")
	m.isPublished(again, true)
	app.verdict(appRelease, "ci", v1alpha1.VerdictWaiting, "was read with other files for release")
}

// TestRegistryAwayAndBack: a release waits for a registry that does not answer, is told why, and goes on by itself.
func TestRegistryAwayAndBack(t *testing.T) {
	m := newModule(t, repositorytest.Options{Header: v1alpha1.PackageHeaderPrivate}, "core")
	m.publish("1.0.0", "classes")
	m.registry.Trouble(http.StatusBadGateway)
	commit := strings.Repeat("d", 40)
	m.ci(commit)
	rel := m.released("v1.0.0", commit)
	m.verdict(rel, "published", v1alpha1.VerdictWaiting, "the package registry answers 502")
	m.condition(rel, v1alpha1.ConditionFrozen, metav1.ConditionFalse, "502")
	m.registry.Trouble(0)
	m.condition(rel, v1alpha1.ConditionFrozen, metav1.ConditionTrue, "")
	m.registry.Trouble(http.StatusServiceUnavailable)
	m.approve(rel, "published")
	m.verdict(rel, "published", v1alpha1.VerdictWaiting, "come back later") // not looked at since the approval
	m.registry.Trouble(0)
	m.isPublished(rel, true)
	m.registry.Trouble(http.StatusInternalServerError)
	m.result(commit, "quality", nil)
	cptest.Wait(t, "the registry to be asked in vain", func(context.Context) error {
		if len(m.registry.Asked()) == 0 {
			return fmt.Errorf("it was not")
		}
		return nil
	})
	m.isPublished(rel, true) // nothing is known against it
	m.noSecrets(rel)
}

// TestWhatIsNotPublished: snapshots, foreign coordinates, checksums that do not match, no version, no registry, a wrong account.
func TestWhatIsNotPublished(t *testing.T) {
	m := newModule(t, repositorytest.Options{Header: v1alpha1.PackageHeaderJob}, "core")
	release := func(name, digit string, spec v1alpha1.ReleaseSpec) *v1alpha1.Release {
		spec.Commit = strings.Repeat(digit, 40)
		m.ci(spec.Commit)
		rel := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: m.project}, Spec: spec}
		m.createSoon(rel)
		return rel
	}
	m.verdict(release("snapshot", "1", v1alpha1.ReleaseSpec{Artifacts: []string{m.coordinates + ":1.0.0-SNAPSHOT"}}), "published", v1alpha1.VerdictRefused, "is a snapshot")
	m.verdict(release("version", "2", v1alpha1.ReleaseSpec{Version: "v1.0.0-SNAPSHOT"}), "published", v1alpha1.VerdictRefused, "is a snapshot")
	m.verdict(release("foreign", "3", v1alpha1.ReleaseSpec{Artifacts: []string{"com.other:core:1.0.0"}}), "published", v1alpha1.VerdictWaiting, "spec.maven of the Project does not list com.other:core")
	unversioned := release("unversioned", "4", v1alpha1.ReleaseSpec{})
	m.verdict(unversioned, "ci", v1alpha1.VerdictPassed)
	m.verdict(unversioned, "published", v1alpha1.VerdictWaiting, "neither spec.version nor spec.artifacts")

	m.publish("1.1.0", "classes")
	m.registry.Say(m.path("1.1.0", "jar.sha256"), strings.Repeat("0", 64))
	mismatch := release("mismatch", "5", v1alpha1.ReleaseSpec{Version: "v1.1.0"})
	m.verdict(mismatch, "published", v1alpha1.VerdictWaiting, "core-1.1.0.jar does not match its checksum")
	m.publish("1.2.0", "classes")
	m.registry.Delete(m.path("1.2.0", "jar"))
	m.verdict(release("nojar", "6", v1alpha1.ReleaseSpec{Version: "v1.2.0"}), "published", v1alpha1.VerdictWaiting, "core-1.2.0.jar is not in the package registry")
	m.publish("1.3.0", "classes")
	m.registry.Put(m.path("1.3.0", "pom"), []byte(`<!DOCTYPE project [<!ENTITY x SYSTEM "file:///etc/passwd">]><project>&x;</project>`))
	m.verdict(release("bomb", "7", v1alpha1.ReleaseSpec{Version: "v1.3.0"}), "published", v1alpha1.VerdictWaiting, "a document type is not allowed")

	if err := m.patch(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "packages", Namespace: m.project}}, `{"stringData":{"token":"glpat-wrong"}}`); err != nil {
		t.Fatal(err)
	}
	m.publish("1.4.0", "classes")
	denied := release("denied", "8", v1alpha1.ReleaseSpec{Version: "v1.4.0"})
	m.verdict(denied, "published", v1alpha1.VerdictWaiting, "refuses the account (401")
	if err := m.patch(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "packages", Namespace: m.project}}, `{"stringData":{"token":"`+repositorytest.Token+`"}}`); err != nil {
		t.Fatal(err)
	}
	m.verdict(denied, "published", v1alpha1.VerdictWaiting, "approval(s) needed")
	if err := m.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: m.project}}, `{"spec":{"packageRegistry":null}}`); err != nil {
		t.Fatal(err)
	}
	m.verdict(denied, "published", v1alpha1.VerdictWaiting, "spec.packageRegistry of the Project is not set")
	m.noSecrets(denied)
}

// TestModuleGatesSchema: what a gate without an environment can ask.
func TestModuleGatesSchema(t *testing.T) {
	m := newModule(t, repositorytest.Options{}, "core")
	for name, c := range map[string]v1alpha1.QualityGateSpec{
		"soak":            {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Soak: &v1alpha1.SoakCriterion{Environment: "dev", Max: metav1.Duration{Duration: time.Hour}}}}},
		"healthy":         {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Healthy: &v1alpha1.HealthyCriterion{Environment: "dev"}}}},
		"pv":              {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", PV: &v1alpha1.PVCriterion{}}}},
		"images":          {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Images: &v1alpha1.ImagesCriterion{}}}},
		"artifacts-there": {Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Artifacts: &v1alpha1.ArtifactsCriterion{}}}},
		"two": {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Artifacts: &v1alpha1.ArtifactsCriterion{},
			Modules: &v1alpha1.ModulesCriterion{Groups: []string{"com.dynors"}}}}},
		"pattern": {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Modules: &v1alpha1.ModulesCriterion{Groups: []string{"*"}}}}},
		"none":    {Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Modules: &v1alpha1.ModulesCriterion{}}}},
	} {
		c.Number = 5
		if err := m.c.Create(t.Context(), &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: m.project}, Spec: c}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	m.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "modules", Namespace: m.project}, Spec: v1alpha1.QualityGateSpec{
		Number: 5, Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "x", Modules: &v1alpha1.ModulesCriterion{Groups: []string{"com.dynors.*"}, Except: []string{"com.dynors:core"}}}}}})
	for _, url := range []string{"http://gitlab.example/maven", "https://u:p@gitlab.example/maven", "ftp://gitlab.example", "https://gitlab.example/maven?x=y"} {
		err := m.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: m.project}}, fmt.Sprintf(`{"spec":{"packageRegistry":{"url":%q}}}`, url))
		if err == nil {
			t.Errorf("%s was accepted", url)
		}
	}
}
