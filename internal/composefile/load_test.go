// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/template"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const good = `
name: ignored
x-common: &common
  restart: unless-stopped
services:
  backend:
    <<: *common
    image: registry.example/backend:${TAG}
    container_name: supergest-backend
    environment:
      DB_URL: jdbc:postgresql://db/${DB_NAME:-app}
      PASSWORD: ${PASSWORD}
      PASSED:
      EMPTY: ${NOTHING:-}
      PRICE: 5$$
    ports: ["127.0.0.1:8080:8080"]
    depends_on: {db: {condition: service_healthy}}
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: "3"}
    configs: [app]
    secrets: [password]
  db:
    image: postgres:16
    build: ./db
    volumes: ["data:/var/lib/postgresql/data"]
  debug:
    extends: {service: db}
    image: busybox
    profiles: [debug]
volumes: {data: {}}
configs: {app: {content: "level=${LEVEL-info}"}}
secrets: {password: {environment: PASSWORD}}
`

func TestLoad(t *testing.T) {
	t.Setenv("DB_NAME", "from-the-process")
	t.Setenv("COMPOSE_FILE", "/etc/passwd")
	values := map[string]string{"TAG": "v1", "PASSWORD": "s3cret", "PASSED": "through"}
	project, err := Load(t.Context(), good, "supergest-dev", values)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"backend": "registry.example/backend:v1", "db": "postgres:16"}, Images(project)); diff != "" {
		t.Error(diff)
	}
	if project.Name != "supergest-dev" {
		t.Errorf("name = %q", project.Name)
	}
	got := map[string]string{}
	for name, value := range project.Services["backend"].Environment {
		got[name] = *value
	}
	want := map[string]string{"DB_URL": "jdbc:postgresql://db/app", "PASSWORD": "s3cret", "PASSED": "through", "EMPTY": "", "PRICE": "5$"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if content := project.Configs["app"].Content; content != "level=info" {
		t.Errorf("config = %q", content)
	}
	if project.Services["db"].Build != nil {
		t.Error("the build section is still there")
	}
	if project.Services["backend"].Restart != "unless-stopped" || *project.Services["backend"].HealthCheck.Retries != 3 {
		t.Error("merge key or number conversion lost")
	}
	if len(values) != 3 {
		t.Errorf("values were changed: %v", values)
	}
}

// Files of the server are kept for its agent, and not opened.
func TestLoadOpensNoFile(t *testing.T) {
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("KEY=canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	project, err := Load(t.Context(), `
services:
  web:
    image: a
    env_file: [`+secret+`, {path: /nowhere/app.env, required: false, format: raw}]
    environment: [GIVEN, ABSENT]
    configs: [c]
    develop: {watch: [{path: /etc, action: rebuild}]}
configs: {c: {file: `+secret+`}}
`, "p", map[string]string{"GIVEN": "value"})
	if err != nil {
		t.Fatal(err)
	}
	web := project.Services["web"]
	if len(web.EnvFiles) != 2 || web.EnvFiles[0].Path != secret || !bool(web.EnvFiles[0].Required) || bool(web.EnvFiles[1].Required) {
		t.Errorf("env files: %+v", web.EnvFiles)
	}
	if len(web.Environment) != 2 || *web.Environment["GIVEN"] != "value" || web.Environment["ABSENT"] != nil {
		t.Errorf("environment: %v", web.Environment)
	}
	if project.Configs["c"].File != secret || project.Configs["c"].Content != "" || web.Develop != nil {
		t.Errorf("config: %+v, develop: %+v", project.Configs["c"], web.Develop)
	}
}

func TestLoadRefuses(t *testing.T) {
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("KEY=canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "it is empty"},
		"not YAML":           {"services: [", "compose file: "},
		"a list":             {"[1, 2]", "must be a mapping"},
		"two documents":      {"services: {a: {image: b}}\n---\nservices: {}", "more than one YAML document"},
		"no service":         {"volumes: {a: {}}", "services: none"},
		"unknown key":        {"services: {web: {image: a, imagee: b}}", "imagee"},
		"unknown top key":    {"service: {}", "service"},
		"duplicate key":      {"services: {web: {image: a, image: b}}", "already defined"},
		"numeric key":        {"services: {1: {image: a}}", "put it in quotes"},
		"null service":       {"services: {web: }", "web"},
		"no image":           {"services: {web: {command: a}}", "web"},
		"build only":         {"services: {web: {build: .}}", "services.web: has only a build section"},
		"missing variable":   {"services: {web: {image: \"a:${TAG}\"}}", "variable TAG has no value"},
		"missing short":      {"services: {web: {image: \"a:$TAG\"}}", "services.web.image: variable TAG"},
		"missing in default": {"services: {web: {image: \"a:${A:-${TAG}}\"}}", "variable TAG has no value"},
		"missing after":      {"services: {web: {image: \"a:${A:-x}${TAG}\"}}", "variable TAG has no value"},
		"required":           {"services: {web: {image: \"a:${TAG:?set the tag}\"}}", "variable TAG has no value: set the tag"},
		"lone dollar":        {"services: {web: {image: a, command: \"echo $\"}}", "write $$"},
		"secret's variable":  {"services: {web: {image: a, secrets: [s]}}\nsecrets: {s: {environment: NONE}}", "secrets.s: variable NONE"},
		"external secret":    {"services: {web: {image: a, secrets: [s]}}\nsecrets: {s: {external: true}}", "secrets.s: external"},
		"include":            {"include: [" + secret + "]\nservices: {web: {image: a}}", "include: not supported"},
		"include env":        {"include: [{path: [], env_file: " + secret + "}]\nservices: {web: {image: a}}", "include: not supported"},
		"include anchored":   {"x-a: &a {include: [" + secret + "]}\n<<: *a\nservices: {web: {image: a}}", "include: not supported"},
		"extends file":       {"services: {web: {image: a, extends: {file: " + secret + ", service: b}}}", "services.web.extends.file"},
		"env_file":           {"services: {web: {image: a, env_file: ./app.env}}", "services.web.env_file: \"./app.env\" is not an absolute path"},
		"env_file, home":     {"services: {web: {image: a, env_file: ~/app.env}}", "services.web.env_file: \"~/app.env\" is not an absolute path"},
		"env_file anchored":  {"x-a: &a {env_file: [b]}\nservices: {web: {image: a, <<: *a}}", "services.web.env_file"},
		"env_file format":    {"services: {web: {image: a, env_file: [{path: /a, format: sh}]}}", "services.web.env_file: unknown format"},
		"env_files":          {"services: {web: {image: a, env_file: [/a, /b, /c, /d, /e, /f, /g, /h, /i, /j, /k, /l, /m, /n, /o, /p, /q]}}", "services.web.env_file: 17 files"},
		"label_file":         {"services: {web: {image: a, label_file: " + secret + "}}", "services.web.label_file"},
		"provider":           {"services: {web: {provider: {type: sh}}}", "services.web.provider"},
		"replicas":           {"services: {web: {image: a, deploy: {replicas: 1000000}}}", "services.web: 1000000 replicas"},
		"scale":              {"services: {web: {image: a, scale: 101}}", "101 replicas"},
		"ports":              {"services: {web: {image: a, ports: [\"1-65000:1-65000\"]}}", "services.web.ports: more than"},
		"long ports":         {"services: {web: {image: a, ports: [{target: 1, published: \"1-65000\"}]}}", "services.web.ports: more than"},
		"job":                {"services: {web: {image: a}}\njobs: {j: {image: a}}", "jobs"},
		"cast":               {"services: {web: {image: a, scale: \"${PASSWORD}\"}}", "${PASSWORD}"},
		"too large":          {"services: {web: {image: a}}\n#" + strings.Repeat("x", MaxSize), "bytes, at most"},
		"alias of itself":    {"x-a: &a [*a]\nservices: {web: {image: a}}", "nested deeper"},
		"depends on nothing": {"services: {web: {image: a, depends_on: [b]}}", "b"},
		"undeclared volume":  {"services: {web: {image: a, volumes: [\"data:/a\"]}}", "data"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(t.Context(), c.text, "p", map[string]string{"PASSWORD": "canary-value"})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("error %q quotes a value", err)
			}
		})
	}
	for _, project := range []string{"", "Upper", "-dash", "a b", "é"} {
		if _, err := Load(t.Context(), good, project, nil); err == nil {
			t.Errorf("project name %q accepted", project)
		}
	}
}

// Bombs must be refused within a second, whatever they are made of.
func TestLoadBombs(t *testing.T) {
	bomb := "x-0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n"
	for i := 1; i < 10; i++ {
		bomb += fmt.Sprintf("x-%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	merge := "x-0: &m0 {a: 1}\n"
	for i := 1; i < 30; i++ {
		merge += fmt.Sprintf("x-%d: &m%d {k%d: *m%d, l%d: *m%d}\n", i, i, i, i-1, i, i-1)
	}
	web := "services: {web: {image: a}}\n"
	deep := ""
	for i := range 700 {
		deep += strings.Repeat(" ", i) + "a:\n"
	}
	services := "services:\n"
	for i := range 5000 {
		services += fmt.Sprintf("  s%d: {image: a, extends: {service: s%d}, environment: {V%d: x}}\n", i, max(0, i-1), i)
	}
	for name, text := range map[string]string{
		"aliases":         web + bomb,
		"merges":          web + merge,
		"long alias":      web + "x-a: &a " + strings.Repeat("x", 100_000) + "\nx-b: [" + strings.Repeat("*a,", 10_000) + "]\n",
		"flow sequences":  web + "x-a: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"flow mappings":   web + "x-a: " + strings.Repeat("{a: ", 10_000) + strings.Repeat("}", 10_000),
		"only brackets":   strings.Repeat("[", MaxSize),
		"block sequences": web + "x-a:\n  " + strings.Repeat("- ", 10_000) + "a",
		"complex keys":    web + "x-a:\n  " + strings.Repeat("? ", 10_000) + "a",
		"indentation":     deep,
		"variables":       web + "x-a: " + strings.Repeat("${A:-", 10_000) + strings.Repeat("}", 10_000),
		"open variables":  web + "x-a: " + strings.Repeat("${A:-", 40_000),
		"large value":     web + "x-a: " + strings.Repeat("$BIG", 50_000),
		"chained extends": services[:min(len(services), MaxSize)],
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Load(t.Context(), text, "p", map[string]string{"BIG": strings.Repeat("x", 1<<20)})
			if err == nil {
				t.Error("accepted")
			} else if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	start := time.Now()
	if _, err := Load(t.Context(), web+"x-a: "+strings.Repeat("${A:-y}", 30_000), "p", nil); err != nil || time.Since(start) > time.Second {
		t.Errorf("many variables: %v after %s", err, time.Since(start))
	}
}

// Where every variable has a value or a default, the result is what Compose itself would put in.
func TestInterpolateAgreesWithCompose(t *testing.T) {
	values := map[string]string{"A": "one", "B": "", "LONG_name1": "two"}
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"text", " ", "$$", "$A:", "${A}", "${B}", "$LONG_name1/", "$A.b", "${A:-x}", "${B:-x}", "${B-x}", "${C-x}", "${C:-}",
			"${A:+y}", "${B:+y}", "${B+y}", "${A?why}", "${C:-${A}}", "${C:-a${B:-b}c}", "${C:-$A}"}),
		rapid.StringMatching(`[a-z /.:]{0,6}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
		want, err := template.Substitute(text, func(name string) (string, bool) { v, ok := values[name]; return v, ok })
		if err != nil {
			t.Skip("not a valid template")
		}
		got, err := Interpolate(text, values)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got != want {
			t.Fatalf("%q: got %q, Compose puts in %q", text, got, want)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add(good)
	f.Add("services: {web: {image: a, ports: ['1-5:1-5'], build: {context: .}}}")
	f.Add("services: {web: {image: a, volumes: [{type: bind, source: ., target: /a}]}}\nnetworks: {default: {driver: host}}")
	f.Add("services: {a: {image: b, extends: a}}")
	f.Add("services: {a: &x {image: b, extends: {service: c}}, c: *x}")
	f.Add("services: {a: !reset null, b: {image: !override c}}")
	f.Add("services:\n  a: {image: b, depends_on: {a: {}}, healthcheck: {test: []}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		project, err := Load(t.Context(), text, "p", map[string]string{"TAG": "v1", "PASSWORD": "s3cret", "PASSED": ""})
		if time.Since(start) > 5*time.Second {
			t.Errorf("took %s", time.Since(start))
		}
		if err != nil {
			return
		}
		for service, image := range Images(project) {
			if image == "" {
				t.Errorf("service %s has no image", service)
			}
		}
	})
}
