// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// create creates what the YAML says, as kubectl does: unknown fields are errors. %ns stands for the namespace.
func create(t *testing.T, ns, text string) error {
	t.Helper()
	objects := decode(t, []byte(strings.ReplaceAll(text, "%ns", ns)))
	if len(objects) != 1 {
		t.Fatalf("%d objects in %s", len(objects), text)
	}
	objects[0].SetAPIVersion(v1alpha1.GroupVersion.String())
	return client.WithFieldValidation(controller(t), "Strict").Create(t.Context(), objects[0], client.DryRunAll)
}

// Templates of valid objects, in which the cases change one thing.
const (
	aProject = `
kind: Project
metadata: {name: schema-project}
spec:
  images: [{name: backend, repository: registry.example/backend}]
`
	anEnvironment = `
kind: Environment
metadata: {name: dev, namespace: %ns}
spec:
  after: before
  healthChecks: [{http: {url: "http://127.0.0.1/health"}, timeout: 2m, interval: 1s}]
`
	aGate = `
kind: QualityGate
metadata: {name: gate, namespace: %ns}
spec:
  number: 1
  environment: dev
  mode: Manual
  criteria:
  - {name: soak, soak: {environment: dev, min: 72h, max: 120h}}
  - {name: qa, approval: {minimum: 1}}
`
	aResult = `
kind: CIResult
metadata: {name: result, namespace: %ns}
spec:
  commit: a1b2c3d4e5f60718293a4b5c6d7e8f9001122334
  type: tests
  status: passed
  received: "2026-01-01T00:00:00Z"
  coverage: 81.5
  tests: {total: 3, passed: 2, failed: 1, skipped: 0}
  vulnerabilities: {critical: 0, high: 0, medium: 0, low: 0}
  reportHash: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
`
	aRelease = `
kind: Release
metadata: {name: a1b2c3d, namespace: %ns}
spec:
  commit: a1b2c3d4e5f60718293a4b5c6d7e8f9001122334
  version: v1.3.0
`
	aHost = `
kind: Host
metadata: {name: schema-host}
spec:
  projects: [supergest-001]
  heartbeatTimeout: 3m
`
)

func TestTemplatesAreValid(t *testing.T) {
	ns := newProject(t)
	for _, text := range []string{aProject, anEnvironment, aGate, aResult, aRelease, aHost} {
		wantAccepted(t, create(t, ns, text))
	}
}

// tooLong is longer than any name may be, and still a label.
var tooLong = strings.Repeat("n", 64)

// refusals change old to new in the text of a template.
var refusals = []struct{ name, text, old, new, want string }{
	{"project: capital", aProject, "schema-project", "Schema", "metadata.name"},
	{"project: dot", aProject, "schema-project", "a.b", "a project's name"},
	{"project: too long", aProject, "schema-project", tooLong, "a project's name"},
	{"project: a system's name", aProject, "schema-project", "kube-system", "belongs to the cluster"},
	{"project: a host's name", aProject, "schema-project", "host-a", "belongs to the cluster"},
	{"project: default", aProject, "schema-project", "default", "belongs to the cluster"},
	{"project: ours", aProject, "schema-project", "sirrat-system", "belongs to the cluster"},
	{"project: nothing to deliver", aProject, "images: [{name: backend, repository: registry.example/backend}]", "images: []", "at least one image"},
	{"project: tag in the repository", aProject, "registry.example/backend", "registry.example/backend:latest", "repository"},
	{"project: address for a repository", aProject, "registry.example/backend", "https://registry.example/backend", "repository"},
	{"project: unknown template", aProject, "spec:", "spec:\n  template: other", "template"},
	{"project: unknown field", aProject, "spec:", "spec:\n  imagez: []", `unknown field "spec.imagez"`},
	{"project: weight too high", aProject, "spec:", "spec:\n  karma: {tests: 51}", "karma.tests"},
	{"project: negative weight", aProject, "spec:", "spec:\n  karma: {scan: -1}", "karma.scan"},

	{"environment: capital", anEnvironment, "name: dev", "name: Dev", "metadata.name"},
	{"environment: dot", anEnvironment, "name: dev", "name: d.ev", "an environment's name"},
	{"environment: after itself", anEnvironment, "after: before", "after: dev", "after itself"},
	{"environment: no duration", anEnvironment, "2m", "abc", "timeout"},
	{"environment: negative duration", anEnvironment, "2m", "-2m", "from 1s to 24h"},
	{"environment: duration too long", anEnvironment, "2m", "25h", "from 1s to 24h"},
	{"environment: interval of nothing", anEnvironment, "interval: 1s", "interval: 0s", "from 100ms to 1h"},
	{"environment: two checks in one", anEnvironment, "{http:", `{tcp: {address: "127.0.0.1:1"}, http:`, "exactly one of http, tcp and exec"},
	{"environment: no check in one", anEnvironment, `http: {url: "http://127.0.0.1/health"}, `, "", "exactly one of http, tcp and exec"},
	{"environment: check of a file", anEnvironment, "http://127.0.0.1", "file:///etc", "url"},
	{"environment: two compose files", anEnvironment, "spec:", `spec:
  compose: {inline: "services: {}", configMapKeyRef: {name: a, key: b}}`, "not both"},
	{"environment: unknown field", anEnvironment, "spec:", "spec:\n  secrets: []", `unknown field "spec.secrets"`},

	{"gate: slash", aGate, "name: gate", "name: a_b", "metadata.name"},
	{"gate: dot", aGate, "name: gate", "name: a.b", "a gate's name"},
	{"gate: too long", aGate, "name: gate", "name: " + tooLong, "a gate's name"},
	{"gate: manual without approval", aGate, "  - {name: qa, approval: {minimum: 1}}\n", "", "needs an approval"},
	{"gate: automatic with approval", aGate, "Manual", "Automatic", "cannot ask for an approval"},
	{"gate: unknown mode", aGate, "Manual", "Semi", "mode"},
	{"gate: no criteria", aGate, aGate[strings.Index(aGate, "  criteria:"):], "  criteria: []\n", "criteria"},
	{"gate: negative number", aGate, "number: 1", "number: -1", "number"},
	{"gate: no duration", aGate, "72h", "abc", "min"},
	{"gate: days", aGate, "72h", "3d", "min"},
	{"gate: negative duration", aGate, "72h", "-72h", "not negative"},
	{"gate: min above max", aGate, "72h", "121h", "min must not exceed max"},
	{"gate: endless", aGate, "120h", "900000h", "at most ten years"},
	{"gate: two kinds in one", aGate, "approval: {minimum: 1}", "approval: {minimum: 1}, pv: {}", "exactly one of"},
	{"gate: no kind in one", aGate, "approval: {minimum: 1}}", "}\n  - {name: other, approval: {}}", "exactly one of"},
	{"gate: two of a name", aGate, "name: qa", "name: soak", "Duplicate value"},
	{"gate: nobody needed", aGate, "minimum: 1", "minimum: 0", "minimum"},
	{"gate: unknown criterion", aGate, "approval: {minimum: 1}", "approval: {minimum: 1}, weather: {}", `unknown field "spec.criteria[1].weather"`},
	{"gate: findings of tests", aGate, "approval: {minimum: 1}}", "approval: {minimum: 1}}\n  - {name: t, result: {type: tests, maxCritical: 0}}", "belong to a scan"},

	{"result: no commit", aResult, "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", "HEAD", "commit"},
	{"result: capital commit", aResult, "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", "A1B2C3D", "commit"},
	{"result: unknown status", aResult, "status: passed", "status: ok", "status"},
	{"result: negative coverage", aResult, "81.5", "-1", "coverage"},
	{"result: coverage above 100", aResult, "81.5", "100.1", "coverage"},
	{"result: parts above the total", aResult, "total: 3", "total: 2", "exceed total"},
	{"result: negative tests", aResult, "skipped: 0", "skipped: -1", "skipped"},
	{"result: negative findings", aResult, "high: 0", "high: -1", "high"},
	{"result: type with a blank", aResult, "type: tests", "type: unit tests", "type"},

	{"release: short commit", aRelease, "commit: a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", "commit: a1b2c3d", "commit"},
	{"release: no commit", aRelease, "commit: a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", "branch: main", "commit"},
	{"release: version without v", aRelease, "v1.3.0", "1.3.0", "version"},
	{"release: half a version", aRelease, "v1.3.0", "v1.3", "version"},
	{"release: version with a blank", aRelease, "v1.3.0", "v1.3.0 -x", "version"},
	{"release: underscore", aRelease, "name: a1b2c3d", "name: a_b", "metadata.name"},
	{"release: too long", aRelease, "name: a1b2c3d", "name: " + tooLong, "a release's name"},
	{"release: tag for a digest", aRelease, "spec:", "spec:\n  images: [{name: backend, digest: latest}]", "digest"},
	{"release: image twice", aRelease, "spec:", "spec:\n  images: [{name: b, digest: '" + digest('a') + "'}, {name: b, digest: '" + digest('b') + "'}]", "Duplicate value"},
	{"release: half a coordinate", aRelease, "spec:", "spec:\n  artifacts: ['com.dynors:core']", "artifacts"},
	{"release: unknown field", aRelease, "spec:", "spec:\n  tag: x", `unknown field "spec.tag"`},

	{"host: capital", aHost, "schema-host", "Host", "metadata.name"},
	{"host: too long", aHost, "schema-host", tooLong, "a host's name"},
	{"host: no projects", aHost, "projects: [supergest-001]", "projects: []", "projects"},
	{"host: a project twice", aHost, "projects: [supergest-001]", "projects: [a, a]", "Duplicate value"},
	{"host: no duration", aHost, "3m", "soon", "heartbeatTimeout"},
	{"host: negative duration", aHost, "3m", "-3m", "from 5s to 720h"},
}

func TestSchemasRefuse(t *testing.T) {
	ns := newProject(t)
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.text, c.old) {
				t.Fatalf("the template does not hold %q", c.old)
			}
			wantRefused(t, create(t, ns, strings.Replace(c.text, c.old, c.new, 1)), c.want)
		})
	}
}

func TestReleaseIsImmutable(t *testing.T) {
	ns := newProject(t)
	r := release(ns, "fixed", "", "")
	r.Spec.Branch = "main"
	mustCreate(t, r)
	for patch, want := range map[string]string{
		`{"spec":{"commit":"` + strings.Repeat("b", 40) + `"}}`:                   "commit is immutable",
		`{"spec":{"branch":"other"}}`:                                             "branch is immutable",
		`{"spec":{"branch":null}}`:                                                "branch is immutable",
		`{"spec":{"images":[{"name":"backend","digest":"` + digest('a') + `"}]}}`: "images is immutable",
		`{"spec":{"compose":{"dev":"services: {}"}}}`:                             "compose is immutable",
		`{"spec":{"artifacts":["com.dynors:core:1.0"]}}`:                          "artifacts is immutable",
		`{"spec":{"changelog":"other"}}`:                                          "changelog is immutable",
		`{"spec":{"reversible":false}}`:                                           "reversible is immutable",
	} {
		wantRefused(t, as(t, dev).Patch(t.Context(), r.DeepCopy(), merge("%s", patch)), want)
		wantRefused(t, controller(t).Patch(t.Context(), r.DeepCopy(), merge("%s", patch)), want)
	}
	wantAccepted(t, as(t, dev).Patch(t.Context(), r.DeepCopy(), merge(`{"spec":{"version":"v1.3.0"}}`)))
	wantRefused(t, as(t, dev).Patch(t.Context(), r.DeepCopy(), merge(`{"spec":{"version":"v1.3.1"}}`)), "version may be set once")
	wantRefused(t, as(t, dev).Patch(t.Context(), r.DeepCopy(), merge(`{"spec":{"version":null}}`)), "version may be set once")
}

func TestEvidenceAndOrdersAreImmutable(t *testing.T) {
	ns := newProject(t)
	result := decode(t, []byte(strings.ReplaceAll(aResult, "%ns", ns)))[0]
	result.SetAPIVersion(v1alpha1.GroupVersion.String())
	mustCreate(t, result)
	for _, patch := range []string{`{"spec":{"status":"failed"}}`, `{"spec":{"coverage":99}}`, `{"spec":{"tests":null}}`, `{"spec":{"url":"x"}}`} {
		wantRefused(t, controller(t).Patch(t.Context(), result.DeepCopy(), merge("%s", patch)), "a CI result cannot be changed")
	}
	rollout := mustCreate(t, newRollout(ns, "fixed"))
	for _, patch := range []string{`{"spec":{"sequence":2}}`, `{"spec":{"authorization":"{\"a\":1}"}}`, `{"spec":{"values":{"A":"b"}}}`} {
		wantRefused(t, controller(t).Patch(t.Context(), rollout.DeepCopy(), merge("%s", patch)), "a rollout cannot be changed")
	}
	wantAccepted(t, controller(t).Status().Patch(t.Context(), rollout.DeepCopy(), merge(`{"status":{"phase":"Healthy"}}`)))
}

// kubectl explain is the manual: every field that a user writes says what it means.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, object := range crds(t) {
		versions, _, err := unstructured.NestedSlice(object.Object, "spec", "versions")
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range versions {
			schema, _, err := unstructured.NestedMap(version.(map[string]any), "schema", "openAPIV3Schema")
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range undescribed(schema, object.GetName()) {
				t.Errorf("%s has no description", path)
			}
		}
	}
}

// undescribed returns the paths of fields without a description.
func undescribed(schema map[string]any, path string) []string {
	var paths []string
	if items, ok := schema["items"].(map[string]any); ok {
		paths = append(paths, undescribed(items, path+"[]")...)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range properties {
		if name == "metadata" {
			continue
		}
		field := property.(map[string]any)
		if text, _ := field["description"].(string); text == "" {
			paths = append(paths, path+"."+name)
		}
		paths = append(paths, undescribed(field, path+"."+name)...)
	}
	return paths
}

// A Go program that leaves a field at its zero value gets the default, like a YAML file that leaves it out.
func TestZeroValuesTakeDefaults(t *testing.T) {
	ns := newProject(t)
	host := &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Name: "zero-values"},
		Spec:       v1alpha1.HostSpec{Projects: []string{"supergest-001"}},
	}
	wantAccepted(t, controller(t).Create(t.Context(), host, client.DryRunAll))
	if got := host.Spec.HeartbeatTimeout.Duration; got != 3*time.Minute {
		t.Errorf("heartbeatTimeout is %s, want 3m", got)
	}
	environment := &v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "dev"},
		Spec: v1alpha1.EnvironmentSpec{
			HealthChecks: []v1alpha1.HealthCheck{{TCP: &v1alpha1.TCPCheck{Address: "127.0.0.1:5432"}}},
		},
	}
	wantAccepted(t, controller(t).Create(t.Context(), environment, client.DryRunAll))
	check, strategy := environment.Spec.HealthChecks[0], environment.Spec.Rollout
	if check.Timeout.Duration != 2*time.Minute || check.Interval.Duration != time.Second || check.Successes != 3 {
		t.Errorf("the check became %+v", check)
	}
	if strategy.Strategy != "Recreate" || strategy.MaxUnavailable != 1 || strategy.Timeout.Duration != 5*time.Minute || !*strategy.AutoRollback {
		t.Errorf("the strategy became %+v", strategy)
	}
}
