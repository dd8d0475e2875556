// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/maven/repository/repositorytest"
)

// moduleYAML takes project, address of the package registry and the three people.
const moduleYAML = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Project
metadata: {name: %s}
spec:
  template: dynors
  maven: [com.dynors.e2e:core]
  packageRegistry: {url: "%s", secretRef: {name: packages, header: Deploy-Token}}
  members: {developer: [%s], qa: [%s], cto: [%s]}
`

// modulesBridge is of an application that is built with released modules only.
const modulesBridge = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: dev, namespace: PROJECT}
spec: {}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: ci, namespace: PROJECT}
spec: {number: 0, environment: dev, mode: Automatic, criteria: [{name: modules, modules: {groups: [com.dynors.e2e.*]}}]}
`

// job is a pipeline of the project, which reports through the HTTP API.
func (k *kit) job(t *testing.T, commit string) *pipeline {
	t.Helper()
	plaintext, secret, err := apitoken.New(k.project, "test", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	k.create(t, secret)
	return &pipeline{t: t, env: map[string]string{"SIRRAT_API_URL": k.apiURL(t) + "/api", "SIRRAT_API_TOKEN": plaintext,
		"SIRRAT_PROJECT_ID": k.project, "CI_COMMIT_SHA": commit, "CI_PIPELINE_ID": "7", "CI_JOB_NAME": "build", "CI_JOB_ID": "71"}}
}

// bill is a bill of materials (CycloneDX) with one version of the module.
func (k *kit) bill(t *testing.T, version, sha256 string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bom.json")
	text := fmt.Sprintf(`{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [
		{"type": "library", "group": "org.slf4j", "name": "slf4j-api", "version": "2.0.16", "purl": "pkg:maven/org.slf4j/slf4j-api@2.0.16"},
		{"type": "library", "group": "com.dynors.e2e", "name": "core", "version": %q, "purl": "pkg:maven/com.dynors.e2e/core@%s?type=jar",
			"hashes": [{"alg": "SHA-256", "content": %q}]}]}`, version, version, sha256)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// moduleProject makes a module from its template and waits until its people can act.
func (k *kit) moduleProject(t *testing.T, registry *repositorytest.GitLab) {
	t.Helper()
	k.apply(t, fmt.Sprintf(moduleYAML, k.project, registry.URL(), dev, qa, cto))
	cptest.Wait(t, "the gates of the template", func(ctx context.Context) error {
		return k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: "published"}, &v1alpha1.QualityGate{})
	})
	k.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "packages", Namespace: k.project},
		Data: map[string][]byte{"token": []byte(repositorytest.Token), "ca.crt": registry.CA()}})
	cptest.Wait(t, "the roles", func(context.Context) error {
		if o := k.as(t, cto, nil, k.with("status")...); o.code != 0 {
			return errors.New(o.err)
		}
		return nil
	})
}

// TestModule is a module's whole way, by the commands of the people and pipelines that go it: nothing is deployed, the last gate
// ends with "published", and an application may be built with that version, those bytes, and no longer once it is rejected.
func TestModule(t *testing.T) {
	k := newKit(t)
	k.serveHTTP(t)
	registry := repositorytest.Start(t, repositorytest.Options{Header: v1alpha1.PackageHeaderDeploy, Storage: true})
	k.moduleProject(t, registry)
	french := func(args ...string) []string { return k.with(append([]string{"--lang", "fr"}, args...)...) }

	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "#0 ci", "#1 published", "publication", "Nobody is crossing")
	rel := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "core-2.1.0", Namespace: k.project},
		Spec: v1alpha1.ReleaseSpec{Commit: commitTwo, Artifacts: []string{"com.dynors.e2e:core:2.1.0"}}}
	cptest.Wait(t, "admission to know releases", func(ctx context.Context) error { return client.IgnoreAlreadyExists(k.client.Create(ctx, rel)) })
	k.wait(t, "the registry to be asked", rel.Name, func(r *v1alpha1.Release) bool { return len(r.Status.Artifacts) == 1 && len(r.Status.Gates) == 2 })
	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "core-2.1.0", "ON THE BRIDGE", "gate ci:")
	k.as(t, qa, nil, french("status")...).expect(t, 0, "SUR LE PONT", "publication")
	k.as(t, qa, nil, k.with("why", rel.Name)...).expect(t, 0, "#1 published → publication", "core-2.1.0.pom is not in the package registry")
	k.as(t, cto, nil, k.with("approve", rel.Name, "published", "--yes")...).expect(t, 1, "is not in the package registry")

	registry.Publish("com.dynors.e2e:core:2.1.0", "classes")
	k.job(t, commitTwo).run("report", sampleFile("junit/jest-junit.xml"), sampleFile("jacoco/maven.xml")).expect(t, 0, "95.00 %")
	k.report(t, commitTwo, v1alpha1.CIResultSpec{Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Vulnerabilities: &v1alpha1.VulnerabilityCounts{}})
	k.wait(t, "the gate to want an approval alone", rel.Name, func(r *v1alpha1.Release) bool {
		b := r.Status.Bundle
		return strings.Contains(r.Status.Next, "gate published: ") && b != nil && b.Environments[0].Hash != "" && b.Environments[0].Problem == ""
	})
	sum := sha256.Sum256(repositorytest.Jar("classes"))
	jar := hex.EncodeToString(sum[:])
	k.as(t, qa, nil, k.with("approve", rel.Name, "published", "--yes")...).expect(t, 1, "may not")
	k.as(t, cto, nil, k.with("approve", rel.Name, "published", "--yes")...).expect(t, 0, "publication", "core-2.1.0.jar", "sha256:"+jar)
	k.wait(t, "the publication", rel.Name, func(r *v1alpha1.Release) bool {
		return r.Status.Publication != nil && r.Status.Reached == "published" && r.Status.Karma == 100
	})

	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "✓ published", "Nobody is crossing", "karma 100 Code Divin")
	k.as(t, qa, nil, french("status")...).expect(t, 0, "✓ publiée", "Personne ne traverse")
	k.as(t, qa, nil, k.with("status", rel.Name)...).expect(t, 0, "published: com.dynors.e2e:core:2.1.0", "core-2.1.0.jar  sha256:"+jar, "→ publication")
	k.as(t, qa, nil, french("status", rel.Name)...).expect(t, 0, "publiée")
	k.as(t, qa, nil, k.with("when", rel.Name)...).expect(t, 0, "every gate is open")
	var environments v1alpha1.EnvironmentList
	var rollouts v1alpha1.RolloutList
	if err := errors.Join(k.client.List(t.Context(), &environments, client.InNamespace(k.project)), k.client.List(t.Context(), &rollouts)); err != nil {
		t.Fatal(err)
	}
	for _, r := range rollouts.Items {
		if r.Spec.Project == k.project {
			t.Errorf("rollout %s of a module", r.Name)
		}
	}
	if len(environments.Items) != 0 {
		t.Errorf("environments %v", environments.Items)
	}

	app := &kit{Env: k.Env, client: k.client, dir: k.dir, project: k.project + "-app"}
	repository := images(t)
	app.bridgeOf(t, "", repository, modulesBridge)
	built := func(commit, version, sha256 string, code int, says ...string) {
		t.Helper()
		app.push(t, repository, commit)
		app.job(t, commit).run("report", app.bill(t, version, sha256), "--wait", "60s", "--fail-on", "waiting").expect(t, code, says...)
	}
	built(commit, "2.1.0", strings.ToUpper(jar), 0, "passed, karma")
	built(commitTwo, "2.2.0-SNAPSHOT", jar, 3, "com.dynors.e2e:core:2.2.0-SNAPSHOT is a snapshot")
	built(commitThree, "2.1.0", strings.Repeat("A", 64), 3, "is built in as sha256:"+strings.Repeat("a", 64), "which is not what release core-2.1.0 of "+k.project+" published")

	k.as(t, cto, nil, k.with("reject", rel.Name, "published", "--reason", "it loses money")...).expect(t, 0)
	k.wait(t, "the publication to be withdrawn", rel.Name, func(r *v1alpha1.Release) bool { return r.Status.Publication == nil })
	o := k.as(t, qa, nil, k.with("status")...)
	o.expect(t, 0, "FALLEN", "it loses money")
	if strings.Contains(o.out, "✓ published") {
		t.Errorf("it is still shown as published:\n%s", o.out)
	}
	app.wait(t, "the application to wait", v1alpha1.ShortSHA(commit), func(r *v1alpha1.Release) bool {
		return len(r.Status.Gates) == 1 && strings.Contains(r.Status.Gates[0].Message, "com.dynors.e2e:core:2.1.0 is not published: release core-2.1.0 of "+k.project)
	})
}
