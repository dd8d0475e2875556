// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// root is the folder of the sources.
const root = "../.."

// component is templates/sirrat.yml as GitLab reads it: doc/ci/components/_index.md (at gitlabhq/gitlabhq 017a6c12),
// doc/ci/inputs/_index.md (at 0e12d5f6) and lib/gitlab/ci/config/interpolation (template.rb at 2427d5c2, text_template.rb at bb0d9926).
type component struct {
	inputs map[string]componentInput
	body   string // before inputs are put in
}

type componentInput struct {
	Default     any      `yaml:"default"`
	Description string   `yaml:"description"`
	Type        string   `yaml:"type"`
	Options     []string `yaml:"options"`
	Regex       string   `yaml:"regex"`
}

func readComponent(t *testing.T) component {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "templates", "sirrat.yml"))
	if err != nil {
		t.Fatal(err)
	}
	header, body, ok := strings.Cut(string(text), "\n---\n")
	if !ok {
		t.Fatal("no header")
	}
	var spec struct {
		Spec struct {
			Inputs map[string]componentInput `yaml:"inputs"`
		} `yaml:"spec"`
	}
	if err := yaml.Load([]byte(header), &spec, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	return component{inputs: spec.Spec.Inputs, body: body}
}

var interpolation = regexp.MustCompile(`\$\[\[ inputs\.([a-z-]+) \]\]`)

// render puts inputs in, those that are not given by their defaults: into the text, which is read as YAML then, as GitLab does now.
// Until 16 it put them into what it had read; both must say the same.
func (c component) render(t *testing.T, given map[string]any) map[string]any {
	t.Helper()
	values := map[string]any{}
	for name, in := range c.inputs {
		values[name] = in.Default
		if v, ok := given[name]; ok {
			values[name] = v
		}
		c.check(t, name, values[name])
	}
	for name := range given {
		if _, ok := c.inputs[name]; !ok {
			t.Fatalf("no input %s", name)
		}
	}
	var before, rendered map[string]any
	text := interpolate(t, values, c.body).(string)
	if err := errors.Join(yaml.Unmarshal([]byte(c.body), &before), yaml.Unmarshal([]byte(text), &rendered)); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(interpolate(t, values, before), any(rendered)); diff != "" {
		t.Errorf("an input changes the document (-put in after reading +before): %s", diff)
	}
	return rendered
}

// check is what GitLab checks of an input's value when the pipeline is made.
func (c component) check(t *testing.T, name string, value any) {
	t.Helper()
	if value == nil {
		t.Fatalf("the input %s is mandatory", name)
	}
	if !c.inputs[name].takes(value) {
		t.Fatalf("the input %s cannot be %v", name, value)
	}
}

func (in componentInput) takes(value any) bool {
	var fits bool
	switch in.Type {
	case "", "string":
		_, fits = value.(string)
	case "boolean":
		_, fits = value.(bool)
	case "number":
		_, fits = value.(int)
	}
	text := fmt.Sprint(value)
	return fits && (len(in.Options) == 0 || slices.Contains(in.Options, text)) && (in.Regex == "" || regexp.MustCompile(in.Regex).MatchString(text))
}

// interpolate writes inputs as text into every text of a node.
func interpolate(t *testing.T, values map[string]any, node any) any {
	switch n := node.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range n {
			out[interpolate(t, values, k).(string)] = interpolate(t, values, v)
		}
		return out
	case []any:
		out := make([]any, len(n))
		for i := range n {
			out[i] = interpolate(t, values, n[i])
		}
		return out
	case string:
		return interpolation.ReplaceAllStringFunc(n, func(hit string) string {
			v, ok := values[interpolation.FindStringSubmatch(hit)[1]]
			if !ok {
				t.Fatalf("%s is not declared", hit)
			}
			return fmt.Sprint(v)
		})
	}
	return node
}

// job is one job of the pipeline, ready to run.
type job struct {
	when      string
	stage     string
	needs     []any
	image     string
	audience  string
	variables map[string]string
	script    string
}

// jobs are those that GitLab would add to a pipeline of that source.
func jobs(t *testing.T, rendered map[string]any, source string) map[string]job {
	t.Helper()
	out := map[string]job{}
	for name, node := range rendered {
		own := node.(map[string]any)
		if strings.HasPrefix(name, ".") {
			continue
		}
		base := rendered[own["extends"].(string)].(map[string]any)
		when, added := evaluate(t, own["rules"].([]any), source)
		if !added || when == "never" {
			continue
		}
		j := job{when: when, stage: own["stage"].(string), variables: map[string]string{}}
		j.needs, _ = own["needs"].([]any)
		j.image = base["image"].(map[string]any)["name"].(string)
		j.audience = base["id_tokens"].(map[string]any)["SIRRAT_ID_TOKEN"].(map[string]any)["aud"].(string)
		for _, variables := range []any{base["variables"], own["variables"]} {
			for k, v := range variables.(map[string]any) {
				text, ok := v.(string)
				if !ok {
					t.Fatalf("%s: variable %s is a %T: a string is asked for", name, k, v)
				}
				j.variables[k] = text
			}
		}
		for _, lines := range []any{base["before_script"], own["script"]} {
			for _, line := range lines.([]any) {
				j.script += line.(string) + "\n"
			}
		}
		out[name] = j
	}
	return out
}

var comparison = regexp.MustCompile(`^"([^"]*)" (==|!=) "([^"]*)"$`)

// evaluate says whether and when rules add a job.
func evaluate(t *testing.T, rules []any, source string) (when string, added bool) {
	t.Helper()
	for _, r := range rules {
		rule := r.(map[string]any)
		holds := true
		for part := range strings.SplitSeq(strings.ReplaceAll(rule["if"].(string), "$CI_PIPELINE_SOURCE", `"`+source+`"`), " && ") {
			m := comparison.FindStringSubmatch(part)
			if m == nil {
				t.Fatalf("rule %q", part)
			}
			holds = holds && (m[1] == m[3]) == (m[2] == "==")
		}
		if holds {
			when, _ = rule["when"].(string)
			return when, true
		}
	}
	return "", false
}

// runner runs scripts as a GitLab runner does.
type runner struct {
	t   *testing.T
	dir string            // the checkout, with the artifacts of other jobs
	env map[string]string // CI/CD variables
	bin string            // first on PATH
	// secrets may be in no output, on no command line and in no file that stays.
	secrets []string
}

func newRunner(t *testing.T, env map[string]string) *runner {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is needed, as in the image of a job: hack/engine.sh need curl")
	}
	r := &runner{t: t, dir: t.TempDir(), bin: t.TempDir(), env: env}
	// A curl that notes with what it was called, where any process on the machine could read it too.
	spy := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$*\" >>%s\nexec %s \"$@\"\n", filepath.Join(r.bin, "calls"), curl)
	if err := os.WriteFile(filepath.Join(r.bin, "curl"), []byte(spy), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// file puts a file into the checkout.
func (r *runner) file(name string, data []byte) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// calls are the command lines of curl since the last time.
func (r *runner) calls() []string {
	r.t.Helper()
	path := filepath.Join(r.bin, "calls")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	_ = os.Remove(path)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// run runs a script with a shell, which reads it from its standard input, and returns what it printed and its exit code.
func (r *runner) run(shell []string, variables map[string]string, script string) (string, int) {
	r.t.Helper()
	tmp := r.t.TempDir()
	cmd := exec.CommandContext(r.t.Context(), shell[0], shell[1:]...)
	cmd.Dir, cmd.Stdin = r.dir, strings.NewReader(script)
	cmd.Env = []string{"PATH=" + r.bin + ":" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=" + tmp}
	env := maps.Clone(r.env)
	for k, v := range variables { // a variable may be made of others
		env[k] = os.Expand(v, func(name string) string { return r.env[name] })
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended { //nolint:errorlint // returned as it is
		r.t.Fatalf("%v: %v", shell, err)
	}
	for _, secret := range r.secrets {
		if strings.Contains(string(out), secret) {
			r.t.Errorf("the token is printed:\n%s", out)
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v %v", left, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// expect fails unless the code is right and every text was printed.
func expect(t *testing.T, out string, code, want int, texts ...string) {
	t.Helper()
	if code != want {
		t.Errorf("exit code %d, want %d:\n%s", code, want, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("does not say %q:\n%s", text, out)
		}
	}
}
