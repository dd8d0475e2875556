// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

//go:embed bridge.yaml
var bridgeYAML string

const (
	project = "supergest-001"

	// Soaks: what perfect works and no works at all have to wait. Days, in earnest.
	qaSoak, qaSoakMax         = 3 * time.Second, 5 * time.Second
	clientSoak, clientSoakMax = 4 * time.Second, 8 * time.Second

	// startTimeout bounds what a program gets to be ready, deployTimeout what a release gets from authorised to healthy.
	startTimeout  = 60 * time.Second
	deployTimeout = 90 * time.Second
)

// People of the project, by user name.
const (
	developer = "dev@dynors.com"
	qa        = "qa@dynors.com"
	cto       = "cto@dynors.com"
	signatory = "recette@client.example"
	team      = "team@dynors.com"
)

// environment is one place of the bridge, as bridge.yaml wants it.
type environment struct {
	Name, After, Tags, Role, Stack string
	Port                           int
}

// url is a page of the app in an environment.
func (e environment) url(path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", e.Port, path)
}

// newBridge is the bridge before its ports and stacks are chosen.
func newBridge() []environment {
	return []environment{
		{Name: "dev", Tags: `["dev-{{ .SHA7 }}"]`, Role: "dynors"},
		{Name: "rmoa-dynors", After: "dev", Tags: `["rmoa-dynors-{{ .SHA7 }}"]`, Role: "dynors"},
		{Name: "rmoa-client", After: "rmoa-dynors", Tags: `["rmoa-client-{{ .SHA7 }}"]`, Role: "recette"},
		{Name: "production", After: "rmoa-client", Tags: `["{{ .Version }}", "latest"]`, Role: "production"},
	}
}

// hosts are the servers, by the role that environments select.
var hosts = []struct{ name, role string }{
	{"vps-dynors", "dynors"},          // dev and rmoa-dynors
	{"vps-client-recette", "recette"}, // rmoa-client
	{"vps-client-prod", "production"}, // production
}

func (d *demo) env(name string) environment {
	return d.bridge[slices.IndexFunc(d.bridge, func(e environment) bool { return e.Name == name })]
}

// findEngine makes sure that an engine answers.
func (d *demo) findEngine(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "hack/engine.sh", "ensure", strconv.Itoa(os.Getpid()))
	cmd.Stderr = os.Stderr // what it installs and starts is worth seeing as it happens
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("no Docker engine: %w", err)
	}
	d.dockerHost = strings.TrimSpace(string(out))
	e, version, arch, err := newEngine(ctx, d.dockerHost, d.id)
	if err != nil {
		return "", err
	}
	d.engine, d.arch = e, arch
	return fmt.Sprintf("Docker %s at %s", version, d.dockerHost), nil
}

// startRegistry starts Debian's docker-registry, or one in Go where that is not to be had.
func (d *demo) startRegistry(ctx context.Context) (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	d.repository = address + "/supergest/backend"
	d.registry = &process{name: "registry", log: d.path("registry.log")}
	program, err := output(ctx, nil, "hack/engine.sh", "registry")
	what := "docker-registry"
	if err == nil {
		config, err := registryConfig(d.dir, address)
		if err != nil {
			return "", err
		}
		d.registry.argv = []string{strings.TrimSpace(program), "serve", config}
	} else {
		d.note("%v: using a registry of the demo's own", err)
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		what, d.registry.argv = "go-containerregistry", []string{self, "-serve-registry", address}
	}
	if err := startProcess(d.registry); err != nil {
		return "", err
	}
	err = await(ctx, startTimeout, "the registry answers at "+address, func(ctx context.Context) (string, bool, error) {
		if !d.registry.running() {
			return "", false, &endedError{d.registry.name}
		}
		status, _, err := get(ctx, "http://"+address+"/v2/")
		return strconv.Itoa(status), status == http.StatusOK, err
	})
	return what + " at " + address, err
}

// buildApp compiles the app for the engine's architecture.
func (d *demo) buildApp(ctx context.Context) (string, error) {
	path := d.path("backend")
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + d.arch}
	if _, err := output(ctx, env, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./hack/demo/app"); err != nil {
		return "", err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the app: %w", err)
	}
	d.app = binary
	return fmt.Sprintf("%.1f MB, linux/%s, image from scratch", float64(len(binary))/1e6, d.arch), nil
}

// startServer starts sirrat server on ports of its own choice, or, when it ran before, on those it had.
func (d *demo) startServer(ctx context.Context) (string, error) {
	kube, web := "127.0.0.1:0", "127.0.0.1:0"
	if d.kubeURL != "" {
		kube, web = strings.TrimPrefix(d.kubeURL, "https://"), strings.TrimPrefix(d.httpURL, "http://")
	}
	if d.mail == nil {
		var err error
		if d.mail, err = startMailbox(); err != nil {
			return "", err
		}
	}
	ready := d.path("server", "server.json")
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		return "", err
	}
	d.server = &process{name: "server", log: d.path("server.log"), argv: []string{
		d.program("sirrat"), "server", "--data-dir", d.path("server"), "--allow-private-addresses", "127.0.0.1", "--kube-bind", kube, "--http-bind", web,
		"--smtp", "smtp://" + d.mail.addr, "--mail-from", "SIRRAT <sirrat@dynors.com>"}}
	start := time.Now()
	if err := startProcess(d.server); err != nil {
		return "", err
	}
	err := await(ctx, startTimeout, "server.json, and 200 from /readyz", func(ctx context.Context) (string, bool, error) {
		if !d.server.running() {
			return "", false, &endedError{d.server.name}
		}
		text, err := os.ReadFile(ready)
		if err != nil {
			return "", false, err
		}
		var at struct {
			KubeURL string `json:"kubeURL"`
			HTTPURL string `json:"httpURL"`
		}
		if err := json.Unmarshal(text, &at); err != nil {
			return "", false, err
		}
		d.kubeURL, d.httpURL = at.KubeURL, at.HTTPURL
		status, body, err := get(ctx, d.httpURL+"/readyz")
		return body, status == http.StatusOK, err
	})
	if err != nil {
		return "", err
	}
	took := time.Since(start)
	if d.ready == 0 {
		d.ready = took
	}
	d.cluster, err = connect(d.kubeconfig("admin"))
	return fmt.Sprintf("ready after %.2f s, Kubernetes API %s, HTTP API %s", took.Seconds(), d.kubeURL, d.httpURL), err
}

// kubeconfig is the file with which a person reaches the control plane.
func (d *demo) kubeconfig(who string) string {
	if who == "admin" {
		return d.path("server", "admin.kubeconfig")
	}
	return d.path(who + ".kubeconfig")
}

// chooseKubectl takes the stock kubectl where there is one.
func (d *demo) chooseKubectl() string {
	if stock, err := exec.LookPath("kubectl"); err == nil {
		d.kubectlProgram = []string{stock}
		return "stock kubectl"
	}
	d.kubectlProgram = []string{d.program("sirrat"), "kubectl"}
	return "sirrat kubectl"
}

// kubectl runs kubectl as a person.
func (d *demo) kubectl(ctx context.Context, who string, args ...string) (string, error) {
	argv := append(slices.Clone(d.kubectlProgram), args...)
	return output(ctx, []string{"KUBECONFIG=" + d.kubeconfig(who)}, append(argv, "--kubeconfig", d.kubeconfig(who))...)
}

// sirrat runs the plugin as a person.
func (d *demo) sirrat(ctx context.Context, who string, args ...string) (string, error) {
	return output(ctx, []string{"KUBECONFIG=" + d.kubeconfig(who), "LC_ALL=C.UTF-8"}, append([]string{d.program("kubectl-sirrat")}, args...)...)
}

// enrolPeople makes the kubeconfigs of the project's people.
func (d *demo) enrolPeople(ctx context.Context) (string, error) {
	for _, who := range []string{developer, qa, cto, signatory} {
		text, err := output(ctx, nil, d.program("sirrat"), "user", "kubeconfig", who, "--data-dir", d.path("server"))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(d.kubeconfig(who), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return strings.Join([]string{developer, qa, cto, signatory}, ", "), nil
}

// makeClientKey makes the key with which the client signs. Its private half stays with the client.
func (d *demo) makeClientKey(ctx context.Context) (string, error) {
	_, err := d.sirrat(ctx, signatory, "pv", "keygen", "--out", d.path("client"))
	return "its private half stays with the client", err
}

// declareProject applies the project, its environments and its gates.
func (d *demo) declareProject(ctx context.Context) (string, error) {
	public, err := os.ReadFile(d.path("client.pub"))
	if err != nil {
		return "", fmt.Errorf("read the client's public key: %w", err)
	}
	for i := range d.bridge {
		if d.bridge[i].Port, err = freePort(); err != nil {
			return "", err
		}
		d.bridge[i].Stack = d.id + "-" + d.bridge[i].Name
	}
	text, err := renderBridge(d.repository, string(public), d.bridge)
	if err != nil {
		return "", err
	}
	manifest := d.path("bridge.yaml")
	if err := os.WriteFile(manifest, text, 0o600); err != nil {
		return "", err
	}
	if _, err := d.kubectl(ctx, "admin", "apply", "-f", manifest); err != nil {
		return "", err
	}
	_, err = d.kubectl(ctx, "admin", "wait", "--for=condition=Ready", "--timeout=30s", "project/"+project)
	return "4 environments, 4 gates, 3 people", err
}

// renderBridge writes the project's objects.
func renderBridge(repository, clientKey string, environments []environment) ([]byte, error) {
	indent := func(n int, text string) string {
		pad := strings.Repeat(" ", n)
		return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad)
	}
	parsed, err := template.New("bridge").Delims("<<", ">>").Funcs(template.FuncMap{"indent": indent}).Parse(bridgeYAML)
	if err != nil {
		return nil, fmt.Errorf("bridge.yaml: %w", err)
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]any{
		"Project": project, "Repository": repository, "ClientKey": clientKey, "Environments": environments,
		"QASoak": qaSoak, "QASoakMax": qaSoakMax, "ClientSoak": clientSoak, "ClientSoakMax": clientSoakMax,
	})
	if err != nil {
		return nil, fmt.Errorf("bridge.yaml: %w", err)
	}
	return text.Bytes(), nil
}

// joinHosts lets every server join with the one line that an operator pastes there, and starts its agent.
func (d *demo) joinHosts(ctx context.Context) (string, error) {
	var names []string
	for _, h := range hosts {
		out, err := d.sirrat(ctx, "admin", "host", "add", h.name, "--project", project, "--label", "role="+h.role)
		if err != nil {
			return "", err
		}
		line, err := joinLine(out)
		if err != nil {
			return "", err
		}
		data := d.path("hosts", h.name)
		if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
			return "", err
		}
		paths := "PATH=" + d.bin + ":" + os.Getenv("PATH")
		if _, err := output(ctx, []string{paths}, "sh", "-c", line+" --data-dir "+data); err != nil {
			return "", err
		}
		agent := &process{name: "agent " + h.name, log: d.path(h.name + ".log"), argv: []string{
			d.program("sirrat-agent"), "run", "--data-dir", data, "--docker-host", d.dockerHost, "--heartbeat", "60s"}}
		if err := startProcess(agent); err != nil {
			return "", err
		}
		d.agents = append(d.agents, agent)
		names = append(names, h.name)
	}
	args := []string{"wait", "--for=condition=Ready", "--timeout=60s"}
	for _, name := range names {
		args = append(args, "host/"+name)
	}
	_, err := d.kubectl(ctx, "admin", args...)
	return strings.Join(names, ", ") + " answer", err
}

// joinLine finds the command to paste in what `host add` printed.
func joinLine(out string) (string, error) {
	for line := range strings.Lines(out) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "sudo ")
		if strings.HasPrefix(line, "sirrat-agent join ") {
			return line, nil
		}
	}
	return "", fmt.Errorf("host add printed no line to paste: %q", out)
}

// bridgeReady waits until every environment and gate is usable.
func (d *demo) bridgeReady(ctx context.Context) (string, error) {
	_, err := d.kubectl(ctx, "admin", "wait", "--for=condition=Ready", "--timeout=30s", "--all", "-n", project, "environments,qualitygates")
	if err != nil {
		return "", err
	}
	var gates v1alpha1.QualityGateList
	if err := d.cluster.List(ctx, &gates, client.InNamespace(project)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d gates", len(gates.Items)), nil
}

// createToken makes the pipeline's token, shown this once.
func (d *demo) createToken(ctx context.Context) (string, error) {
	out, err := d.sirrat(ctx, "admin", "token", "create", project)
	if err != nil {
		return "", err
	}
	d.token = strings.TrimSpace(out)
	if !strings.HasPrefix(d.token, "sirrat_") || strings.ContainsAny(d.token, " \n") {
		return "", fmt.Errorf("token create printed something else than a token on standard output: %d bytes", len(out))
	}
	return "sirrat_… for SIRRAT_API_TOKEN", nil
}

// readAll reads a small body.
func readAll(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	return string(text), err
}
