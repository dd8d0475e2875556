// SPDX-License-Identifier: Apache-2.0

// Package docs checks that what the documents have people write is what the API takes: every object in them, and every patch.
package docs

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

func TestMain(m *testing.M) { cptest.Main(m, cptest.Install(os.DirFS("../../config/crd"))) }

// least is how many objects and patches a document has at least.
var least = map[string]int{
	"attestations.md": 1, "gitlab.md": 1, "harbor.md": 2, "maven.md": 3, "offline.md": 1, "pipelines.md": 1, "registries.md": 3, "signatures.md": 3, "webhooks.md": 1,
}

// kinds are the kinds that documents show, with what each needs besides and documents leave out.
var kinds = map[string]struct{ resource, spec string }{
	"Project":     {"projects", `{"images":[{"name":"backend","repository":"harbor.example.com/supergest/backend"}]}`},
	"Environment": {"environments", `{"hosts":{"matchLabels":{"site":"supergest"}},"compose":{"inline":"services: {}"}}`},
	"QualityGate": {"qualitygates", `{"number":0,"environment":"dev","mode":"Automatic","criteria":[{"name":"images","images":{}}]}`},
	"Release":     {"releases", `{"commit":"a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"}`},
	"Host":        {"hosts", `{"projects":["supergest"]}`},
}

// parts are the kinds that the fields of a spec are of which documents show alone.
var parts = map[string]string{"signatures": "Environment", "criteria": "QualityGate"}

// others are the first fields of what is no object of the API: pipelines, compose files, host policies.
var others = []string{"stages", "test", "services", "projects"}

// shown is one object of a document: what is to be merged into what its kind needs.
type shown struct {
	line       int
	kind, text string
}

var (
	fence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	patch = regexp.MustCompile(`kubectl (?:-n \S+ )?patch (\w+) [^\n']*--type merge -p '([^']*)'`)
)

// read finds the objects and patches of a document.
func read(document string) ([]shown, error) {
	var out []shown
	line := func(at int) int { return strings.Count(document[:at], "\n") + 1 }
	for _, m := range fence.FindAllStringSubmatchIndex(document, -1) {
		at := line(m[0])
		text, err := yaml.YAMLToJSONStrict([]byte(document[m[2]:m[3]]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(text, &fields) != nil {
			continue // a list: lines of a pipeline
		}
		kind, err := kindOf(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		if kind == "" {
			continue
		}
		if fields["spec"] == nil {
			text = fmt.Appendf(nil, `{"spec":%s}`, text)
		}
		out = append(out, shown{at, kind, string(text)})
	}
	for _, m := range patch.FindAllStringSubmatchIndex(document, -1) {
		kind, resource := "", document[m[2]:m[3]]
		for k := range kinds {
			if strings.EqualFold(k, resource) {
				kind = k
			}
		}
		if kind == "" {
			return nil, fmt.Errorf("line %d: a patch of %s", line(m[0]), resource)
		}
		out = append(out, shown{line(m[0]), kind, document[m[4]:m[5]]})
	}
	return out, nil
}

// kindOf is the kind of what is shown; "" for what is no object of the API.
func kindOf(fields map[string]json.RawMessage) (kind string, err error) {
	if raw := fields["kind"]; raw != nil {
		return kind, json.Unmarshal(raw, &kind)
	}
	for field := range fields {
		if kind = parts[field]; kind != "" {
			return kind, nil
		}
	}
	for _, field := range others {
		if fields[field] != nil {
			return "", nil
		}
	}
	return "", fmt.Errorf("of what is it? %v", slices.Sorted(maps.Keys(fields)))
}

// object is what the API is given: names and namespaces of documents do not matter.
func object(s shown, namespace string) (*unstructured.Unstructured, error) {
	kind, ok := kinds[s.kind]
	if !ok {
		return nil, fmt.Errorf("the kind %s", s.kind)
	}
	spec := kind.spec
	if strings.Contains(s.text, `"maven"`) {
		spec = `{}`
	}
	base := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"shown"},"spec":%s}`, v1alpha1.GroupVersion.String(), s.kind, spec)
	out, change := &unstructured.Unstructured{}, map[string]any{}
	if err := out.UnmarshalJSON([]byte(base)); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(s.text), &change); err != nil {
		return nil, err
	}
	merge(out.Object, change)
	out.SetNamespace("")
	if s.kind != "Project" && s.kind != "Host" {
		out.SetNamespace(namespace)
	}
	return out, nil
}

// merge merges as a JSON merge patch does (RFC 7396).
func merge(into, change map[string]any) {
	for key, value := range change {
		part, isMap := value.(map[string]any)
		have, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(have, part)
		default:
			into[key] = value
		}
	}
}

// checker gives objects to the API, which keeps none.
func checker(t *testing.T) func(shown) error {
	env := cptest.Start(t)
	c, err := dynamic.NewForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := env.Namespace(t)
	return func(s shown) error {
		o, err := object(s, namespace)
		if err != nil {
			return err
		}
		_, err = c.Resource(v1alpha1.GroupVersion.WithResource(kinds[s.kind].resource)).Namespace(o.GetNamespace()).
			Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
		return err
	}
}

func TestDocuments(t *testing.T) {
	check := checker(t)
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, path := range append(paths, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all, err := read(string(text))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, s := range all {
			if err := check(s); err != nil {
				t.Errorf("%s:%d: %s: %v", path, s.line, s.kind, err)
			}
		}
		seen[filepath.Base(path)] = len(all)
	}
	for name, n := range least {
		if seen[name] < n {
			t.Errorf("%s has %d objects and patches, of %d at least: are they found?", name, seen[name], n)
		}
	}
}

// What the API does not take is noticed: a field that it does not know, a value that it refuses.
func TestMistakesAreNoticed(t *testing.T) {
	check := checker(t)
	for _, document := range []string{
		"    kubectl patch project x --type merge -p '{\"spec\":{\"harbor\":{\"uri\":\"https://harbor.example.com\"}}}'\n",
		"    kubectl -n x patch environment y --type merge -p '{\"spec\":{\"registry\":\n      {\"prefix\":\"Nowhere !\"}}}'\n",
		"```yaml\nkind: QualityGate\nspec:\n  criteria:\n  - name: sbom\n    sbon: {}\n```\n",
		"```yaml\ncriteria:\n- name: modules\n  modules: {group: [com.dynors]}\n```\n",
	} {
		all, err := read(document)
		if err != nil || len(all) != 1 {
			t.Errorf("%q: %v, %v", document, all, err)
			continue
		}
		if err := check(all[0]); !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
			t.Errorf("%q: %v", document, err)
		}
	}
	for _, document := range []string{"```yaml\nspec: {}\nspec: {}\n```\n", "```yaml\nsomething: {}\n```\n", "kubectl patch secret x --type merge -p '{}'\n"} {
		if all, err := read(document); err == nil {
			t.Errorf("%q: %v", document, all)
		}
	}
}
