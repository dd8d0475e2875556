// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// commit is what a developer pushes.
type commit struct {
	sha    string
	broken bool // never becomes healthy
}

// short is GitLab's CI_COMMIT_SHORT_SHA as SIRRAT tags with it, and the release's name.
func (c commit) short() string { return v1alpha1.ShortSHA(c.sha) }

var (
	good    = commit{sha: "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"}
	sinner  = commit{sha: "badc0de5f60718293a4b5c6d7e8f900112233445"}
	fallen  = commit{sha: "fa11e7d60718293a4b5c6d7e8f90011223344556", broken: true}
	version = "v1.3.0"
)

// The calls of a pipeline, as they are documented for .gitlab-ci.yml.
const (
	testsCall = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/quality-gates/results
     -H "Authorization: Bearer $SIRRAT_API_TOKEN"
     -d '{"type":"tests","status":"passed","coverage":85,"commit":"'$CI_COMMIT_SHA'"}'`
	failedCall = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/quality-gates/results
     -H "Authorization: Bearer $SIRRAT_API_TOKEN"
     -d '{"type":"tests","status":"failed","coverage":85,"commit":"'$CI_COMMIT_SHA'"}'`
	scanCall = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/quality-gates/results
     -H "Authorization: Bearer $SIRRAT_API_TOKEN"
     -d '{"type":"scan","status":"passed","commit":"'$CI_COMMIT_SHA'"}'`
	deployedCall = `curl -sX POST $SIRRAT_API_URL/projects/$SIRRAT_PROJECT_ID/deployments
     -H "Authorization: Bearer $SIRRAT_API_TOKEN"
     -d '{"environment":"dev","version":"'$CI_COMMIT_SHORT_SHA'","status":"deployed"}'`
)

// play tells the whole story. It returns at the first thing that did not happen.
func (d *demo) play(ctx context.Context) error {
	d.bridge = newBridge()
	for _, part := range []func(context.Context) error{
		d.prepare, d.judgeByCI, d.crossToDynors, d.crossToClient, d.crossToProduction, d.refuseFailingTests, d.rollBack, d.figures,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) prepare(ctx context.Context) error {
	return d.tell(ctx, "Preparing: engine, registry, SIRRAT, people, servers",
		step{"an engine", d.findEngine},
		step{"a registry", d.startRegistry},
		step{"sirrat server", d.startServer},
		step{"kubeconfigs of the people, " + d.chooseKubectl(), d.enrolPeople},
		step{"the client's key (kubectl sirrat pv keygen)", d.makeClientKey},
		step{"project " + project + " (kubectl apply)", d.declareProject},
		step{"servers join (kubectl sirrat host add, sirrat-agent join)", d.joinHosts},
		step{"the bridge is ready", d.bridgeReady},
		step{"a token for the pipeline (kubectl sirrat token create)", d.createToken},
	)
}

func (d *demo) judgeByCI(ctx context.Context) error {
	return d.tell(ctx, "Commit "+good.short()+": gate #0, judged by its tests",
		step{"CI builds and pushes backend:dev-" + good.short(), func(ctx context.Context) (string, error) {
			size, err := d.buildApp(ctx)
			if err != nil {
				return "", err
			}
			d.frozen, err = d.push(ctx, good, "dev-"+good.short())
			return size + ", " + shortDigest(d.frozen), err
		}},
		step{"CI posts its tests with the curl of .gitlab-ci.yml", d.call(testsCall, good, v1alpha1.VerdictWaiting)},
		step{"CI posts its scan", d.call(scanCall, good, v1alpha1.VerdictPassed)},
		d.kill(),
		step{"dev deploys by itself", d.healthyIn(good, "dev")},
		step{"CI reports its deployment", d.call(deployedCall, good, "")},
	)
}

func (d *demo) crossToDynors(ctx context.Context) error {
	return d.tell(ctx, "Gate #1: QA lets it into RMOA DYNORS",
		step{"somebody moves the tag dev-" + good.short() + " to another image", func(ctx context.Context) (string, error) {
			other, err := d.push(ctx, fallen, "dev-"+good.short())
			return shortDigest(other), err
		}},
		step{"a developer annotates an approval: refused by the API server", d.developerApproves},
		step{"a developer applies a release approved at creation: refused", d.developerCreatesApproved},
		step{"QA approves (kubectl sirrat approve)", func(ctx context.Context) (string, error) {
			_, err := d.sirrat(ctx, qa, "approve", good.short(), "qa", "--yes", "-n", project)
			return qa, err
		}},
		d.kill(),
		step{"RMOA DYNORS deploys once the soak is over", func(ctx context.Context) (string, error) {
			detail, err := d.healthyIn(good, "rmoa-dynors")(ctx)
			if err != nil {
				return "", err
			}
			soaked, err := d.soaked(ctx, good, "dev", "rmoa-dynors", qaSoak)
			return detail + ", " + soaked, err
		}},
		step{"the moved tag changed nothing", func(ctx context.Context) (string, error) {
			for _, environment := range []string{"dev", "rmoa-dynors"} {
				if _, err := d.serves(ctx, good, environment); err != nil {
					return "", err
				}
			}
			_, err := d.push(ctx, good, "dev-"+good.short())
			return shortDigest(d.frozen) + " runs; tag put back", err
		}},
	)
}

func (d *demo) crossToClient(ctx context.Context) error {
	return d.tell(ctx, "Gate #2: QA hands it to the client",
		step{"the release gets its version (kubectl patch)", func(ctx context.Context) (string, error) {
			_, err := d.kubectl(ctx, developer, "patch", "release", good.short(), "-n", project, "--type", "merge",
				"-p", `{"spec":{"version":"`+version+`"}}`)
			return version, err
		}},
		step{"QA approves (kubectl annotate)", func(ctx context.Context) (string, error) {
			_, err := d.kubectl(ctx, qa, "annotate", "release", good.short(), "-n", project, v1alpha1.ApprovalPrefix+"client="+qa)
			return qa, err
		}},
		d.kill(),
		step{"RMOA CLIENT deploys", d.healthyIn(good, "rmoa-client")},
		step{"the PV opens, and the client gets a link", d.getLink},
		step{"the client asks for a code on the page", d.getCode},
		step{"the client reads the PV and accepts it on the page", d.signPV},
		d.kill(),
	)
}

func (d *demo) crossToProduction(ctx context.Context) error {
	return d.tell(ctx, "Gate #3: the CTO opens production",
		step{"the CTO approves (kubectl annotate)", func(ctx context.Context) (string, error) {
			_, err := d.kubectl(ctx, cto, "annotate", "release", good.short(), "-n", project, v1alpha1.ApprovalPrefix+"production="+cto)
			return cto, err
		}},
		d.kill(),
		step{"production deploys", func(ctx context.Context) (string, error) {
			detail, err := d.healthyIn(good, "production")(ctx)
			if err != nil {
				return "", err
			}
			soaked, err := d.soaked(ctx, good, "rmoa-client", "production", clientSoak)
			return detail + ", " + soaked, err
		}},
		step{"every tag is the same digest, and every server runs it", d.oneDigest},
		step{"karma", d.karma},
	)
}

func (d *demo) refuseFailingTests(ctx context.Context) error {
	return d.tell(ctx, "Commit "+sinner.short()+": its tests fail",
		step{"CI pushes backend:dev-" + sinner.short(), func(ctx context.Context) (string, error) {
			digest, err := d.push(ctx, sinner, "dev-"+sinner.short())
			return shortDigest(digest), err
		}},
		step{"CI posts a clean scan, and tests that failed", func(ctx context.Context) (string, error) {
			if _, err := d.call(scanCall, sinner, "")(ctx); err != nil {
				return "", err
			}
			return d.call(failedCall, sinner, v1alpha1.VerdictRefused)(ctx)
		}},
		step{"gate #0 stops it; dev keeps " + good.short(), func(ctx context.Context) (string, error) {
			var message string
			err := d.awaitRelease(ctx, sinner.short(), "gate ci Refused, and no environment", startTimeout, func(r *v1alpha1.Release) bool {
				message = atGate(r, "ci").Message
				return atGate(r, "ci").Verdict == v1alpha1.VerdictRefused && len(r.Status.Environments) == 0
			})
			if err != nil {
				return "", err
			}
			_, err = d.serves(ctx, good, "dev")
			return message, err
		}},
	)
}

func (d *demo) rollBack(ctx context.Context) error {
	return d.tell(ctx, "Commit "+fallen.short()+": passes its tests, never becomes healthy",
		step{"CI pushes backend:dev-" + fallen.short() + " and posts good results", func(ctx context.Context) (string, error) {
			digest, err := d.push(ctx, fallen, "dev-"+fallen.short())
			if err != nil {
				return "", err
			}
			for _, body := range []string{testsCall, scanCall} {
				if _, err := d.call(body, fallen, "")(ctx); err != nil {
					return "", err
				}
			}
			return shortDigest(digest), nil
		}},
		d.kill(),
		step{"dev rolls it back", func(ctx context.Context) (string, error) {
			var message string
			err := d.awaitRelease(ctx, fallen.short(), "RolledBack in dev", deployTimeout, func(r *v1alpha1.Release) bool {
				e := inEnvironment(r, "dev")
				if e != nil {
					message = e.Message
				}
				return e != nil && e.Phase == v1alpha1.PhaseRolledBack
			})
			return message, err
		}},
		step{"the old version still serves, in dev and in production", func(ctx context.Context) (string, error) {
			if _, err := d.serves(ctx, good, "dev"); err != nil {
				return "", err
			}
			return d.serves(ctx, good, "production")
		}},
	)
}

// push builds a commit's image and uploads it under a tag.
func (d *demo) push(ctx context.Context, c commit, tag string) (string, error) {
	image, err := buildImage(d.app, d.arch, c.sha, c.broken)
	if err != nil {
		return "", err
	}
	return pushImage(ctx, image, d.repository+":"+tag)
}

// shortDigest is enough of a digest for people.
func shortDigest(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

// call makes a pipeline's call with curl and a shell, as it is written in .gitlab-ci.yml, and checks the verdict in the
// answer; "" takes any.
func (d *demo) call(text string, c commit, want v1alpha1.Verdict) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if _, err := output(ctx, nil, "hack/engine.sh", "need", "curl"); err != nil {
			return "", err
		}
		// The status is asked for in curl's own configuration, so that the call stays as it is written.
		if err := os.WriteFile(d.path(".curlrc"), []byte("write-out = \"\\n%{http_code}\"\n"), 0o600); err != nil {
			return "", err
		}
		out, err := output(ctx, []string{
			"CURL_HOME=" + d.dir, "SIRRAT_API_URL=" + d.httpURL + "/api", "SIRRAT_PROJECT_ID=" + project,
			"SIRRAT_API_TOKEN=" + d.token, "CI_COMMIT_SHA=" + c.sha, "CI_COMMIT_SHORT_SHA=" + c.short(),
		}, "sh", "-c", strings.ReplaceAll(text, "\n", " ")) // as YAML folds the lines of a script
		if err != nil {
			return "", err
		}
		end := strings.LastIndex(out, "\n")
		body, status := strings.TrimSpace(out[:max(end, 0)]), out[end+1:]
		if !strings.HasPrefix(status, "2") {
			return "", fmt.Errorf("expected a 2xx status, got %s: %s", status, body)
		}
		var answer struct {
			Verdict v1alpha1.Verdict `json:"verdict"`
			Karma   int              `json:"karma"`
			Next    string           `json:"next"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return "", fmt.Errorf("answer %q: %w", body, err)
		}
		if want != "" && answer.Verdict != want {
			return "", fmt.Errorf("expected the verdict %s, got %s", want, body)
		}
		return fmt.Sprintf("HTTP %s, %s, karma %d, %s", status, answer.Verdict, answer.Karma, answer.Next), nil
	}
}

// healthyIn waits until a commit is healthy in an environment and serves there.
func (d *demo) healthyIn(c commit, environment string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if err := d.awaitHealthy(ctx, c.short(), environment, deployTimeout); err != nil {
			return "", err
		}
		return d.serves(ctx, c, environment)
	}
}

// serves checks that the app of a commit answers in an environment, from a container of the frozen digest.
func (d *demo) serves(ctx context.Context, c commit, environment string) (string, error) {
	e := d.env(environment)
	status, body, err := get(ctx, e.url("/version"))
	if err != nil {
		return "", err
	}
	var running struct {
		Commit string `json:"commit"`
	}
	if err := json.Unmarshal([]byte(body), &running); err != nil || status != http.StatusOK || running.Commit != c.sha {
		return "", fmt.Errorf("expected commit %s at %s, got status %d: %s", c.sha, e.url("/version"), status, body)
	}
	containers, err := d.engine.running(ctx, e.Stack)
	if err != nil {
		return "", err
	}
	want := d.repository + "@" + d.frozen
	if len(containers) != 1 || !contains(containers[0].digests, want) {
		return "", fmt.Errorf("expected one container of %s in %s, got %+v", want, e.Stack, containers)
	}
	return fmt.Sprintf("%s serves at %s", c.short(), e.url("/")), nil
}

func contains(all []string, want string) bool {
	for _, one := range all {
		if one == want {
			return true
		}
	}
	return false
}

// soaked checks that a release was authorised in an environment only after its time in the one before.
func (d *demo) soaked(ctx context.Context, c commit, before, after string, required time.Duration) (string, error) {
	r, err := d.release(ctx, c.short())
	if err != nil {
		return "", err
	}
	from, to := inEnvironment(r, before), inEnvironment(r, after)
	if from == nil || to == nil || from.HealthySince == nil {
		return "", fmt.Errorf("expected times of health in %s and authorisation in %s: %s", before, after, describe(r))
	}
	waited := to.AuthorizedAt.Sub(from.HealthySince.Time)
	// Times in a status are whole seconds.
	if waited < required-time.Second {
		return "", fmt.Errorf("expected a soak of %s in %s, authorised in %s after %s", required, before, after, waited)
	}
	return fmt.Sprintf("authorised %s after becoming healthy in %s", waited, before), nil
}

// approvalsPolicy is the admission policy that must be the one to refuse.
const approvalsPolicy = "sirrat-approvals"

// developerApproves: RBAC lets a developer change releases, admission does not let them approve.
func (d *demo) developerApproves(ctx context.Context) (string, error) {
	_, err := d.kubectl(ctx, developer, "annotate", "release", good.short(), "-n", project, v1alpha1.ApprovalPrefix+"qa="+developer)
	var refused *commandError
	if !errors.As(err, &refused) || !strings.Contains(refused.stderr, approvalsPolicy) {
		return "", fmt.Errorf("expected the policy %s to forbid it, got: %w", approvalsPolicy, err)
	}
	r, err := d.release(ctx, good.short())
	if err != nil {
		return "", err
	}
	if value, given := r.Annotations[v1alpha1.ApprovalPrefix+"qa"]; given || inEnvironment(r, "rmoa-dynors") != nil {
		return "", fmt.Errorf("expected no approval and nothing in rmoa-dynors, got %q: %s", value, describe(r))
	}
	return lastLine(refused.stderr), nil
}

// developerCreatesApproved: the same at creation.
func (d *demo) developerCreatesApproved(ctx context.Context) (string, error) {
	manifest := d.path("approved.yaml")
	text := fmt.Sprintf(`apiVersion: sirrat.dynors.com/v1alpha1
kind: Release
metadata:
  name: smuggled
  namespace: %s
  annotations: {%sproduction: %s}
spec: {commit: "%s", version: v9.9.9}
`, project, v1alpha1.ApprovalPrefix, cto, strings.Repeat("9", 40))
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		return "", err
	}
	// For some seconds after its start an API server refuses to create what a mutating policy covers, whatever it is: that
	// refusal is not the one meant here.
	refused := func(ctx context.Context) (string, bool, error) {
		_, err := d.kubectl(ctx, developer, "apply", "-f", manifest)
		var c *commandError
		switch {
		case errors.As(err, &c) && strings.Contains(c.stderr, approvalsPolicy):
			return "", true, nil
		case errors.As(err, &c) && strings.Contains(c.stderr, "There can be a delay"):
			return lastLine(c.stderr), false, nil
		}
		return "", false, fmt.Errorf("expected the policy %s to forbid it, got: %w", approvalsPolicy, err)
	}
	if err := await(ctx, startTimeout, "the policy "+approvalsPolicy+" to forbid it", refused); err != nil {
		return "", err
	}
	if _, err := d.release(ctx, "smuggled"); client.IgnoreNotFound(err) != nil || err == nil {
		return "", fmt.Errorf("expected no release smuggled, got: %w", err)
	}
	return "", nil
}

// lastLine is the last line of a text, shortened to what fits a line.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const most = 160
	return shorten(lines[len(lines)-1], most)
}

// oneDigest checks tags in the registry and containers on the engine.
func (d *demo) oneDigest(ctx context.Context) (string, error) {
	tags := []string{"dev-" + good.short(), "rmoa-dynors-" + good.short(), "rmoa-client-" + good.short(), version, "latest"}
	for _, tag := range tags {
		digest, err := digestOf(ctx, d.repository+":"+tag)
		if err != nil {
			return "", err
		}
		if digest != d.frozen {
			return "", fmt.Errorf("expected %s at tag %s, got %s", d.frozen, tag, digest)
		}
	}
	for _, e := range d.bridge {
		if _, err := d.serves(ctx, good, e.Name); err != nil {
			return "", err
		}
	}
	return strings.Join(tags, " = ") + " = " + shortDigest(d.frozen), nil
}

// karma waits for 100.
func (d *demo) karma(ctx context.Context) (string, error) {
	const divine = 100
	var level string
	err := d.awaitRelease(ctx, good.short(), "karma 100, Code Divin, Ready", startTimeout, func(r *v1alpha1.Release) bool {
		level = r.Status.Level
		return r.Status.Karma == divine && level == "Code Divin" && meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionReady)
	})
	return fmt.Sprintf("%d, %s", divine, level), err
}

// kill ends server and agents with SIGKILL, as DEMO_KILL asks, and starts them again on their data.
func (d *demo) kill() step {
	if !d.killServer && !d.killAgents {
		return step{}
	}
	return step{"kill -9", func(ctx context.Context) (string, error) {
		var killed []string
		if d.killAgents {
			for _, a := range d.agents {
				a.kill()
				killed = append(killed, a.name)
			}
		}
		if d.killServer {
			d.server.kill()
			killed = append(killed, d.server.name)
			if _, err := d.startServer(ctx); err != nil {
				return "", err
			}
		}
		if d.killAgents {
			for _, a := range d.agents {
				if err := startProcess(a); err != nil {
					return "", err
				}
			}
		}
		return strings.Join(killed, ", ") + " and start again", nil
	}}
}

// figures prints what it cost, and the bridge as the people see it.
func (d *demo) figures(ctx context.Context) error {
	d.chapter("The bridge")
	status, err := d.sirrat(ctx, "admin", "status", "-n", project)
	if err != nil {
		return &stepError{"kubectl sirrat status", err}
	}
	d.block(status)
	gates, err := d.kubectl(ctx, "admin", "get", "gates,releases,pvs,hosts", "-A")
	if err != nil {
		return &stepError{"kubectl get gates,releases,pvs,hosts -A", err}
	}
	d.block(gates)
	d.chapter("Figures")
	memory, err := d.server.residentMB()
	if err != nil {
		return err
	}
	d.done("sirrat server: ready %.2f s after its start, %.0f MB resident", d.ready.Seconds(), memory)
	for _, a := range d.agents {
		memory, err := a.residentMB()
		if err != nil {
			return err
		}
		d.done("sirrat-agent on %s: %.0f MB resident", strings.TrimPrefix(a.name, "agent "), memory)
	}
	return nil
}
