// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
)

// tool is the program as it is shipped, on a server's data folder.
type tool struct {
	*server
	path string
}

func (s *server) tool() tool {
	s.Helper()
	path, _ := s.build()
	return tool{s, path}
}

// command of the program, not started yet. It knows nothing of the test's environment but where the engine is.
func (p tool) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.Context(), p.path, append(args, "--data-dir", p.dir, "--policy", p.policyFile(), "--docker-host", os.Getenv("DOCKER_HOST"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	return cmd
}

// apply runs the command, and returns what it printed for people, and for programs, with the exit code.
func (p tool) apply(bundle string, args ...string) (text string, outcome agent.Applied, code int) {
	p.Helper()
	report := filepath.Join(p.TempDir(), "report.json")
	cmd := p.command(append([]string{"apply", bundle, "--report", report}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.Fatal(err)
	}
	written, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(written, &outcome)
	}
	if err != nil {
		p.Fatalf("%v: %s", err, out)
	}
	return string(out), outcome, cmd.ProcessState.ExitCode()
}

// asksFor is a policy that asks for the client's signature for production.
func asksFor(client signer) string {
	return "secondSignature:\n  environments: [production]\n  keys:\n  - |\n    " + strings.ReplaceAll(strings.TrimSpace(client.pem), "\n", "\n    ") + "\n"
}

// Whatever the owner of a server says holds for a bundle too. The command says why and what to do, ends with 1, and what it
// refused neither begins later by itself nor is spoilt: applied again when the owner has changed his mind, it runs.
func TestApplyByTheOwnersWord(t *testing.T) {
	s := newOfflineServer(t)
	p, client, data := s.tool(), newSigner(t), t.TempDir()
	s.run()
	s.answering()
	image := s.registry.Image(t, "app", "VERSION=1")
	mounting := s.simple(1, "services: {web: {image: app, volumes: [\""+data+":/data\"]}}", image, "web")
	production := s.simple(1, "services: {web: {image: app}}", image, "web")
	production.environment, production.composeProject = "production", s.anotherProject()
	accepted := production
	resigned := func(spec *v1alpha1.RolloutSpec, at time.Time) {
		var err error
		if spec.Authorization, err = authorization.Sign(t.Context(), *spec, authorization.Host{Name: s.name, UID: s.uid}, at, nil, "", s.host.key); err != nil {
			t.Fatal(err)
		}
	}
	accepted.tamper = func(spec *v1alpha1.RolloutSpec) {
		spec.Acceptance = acceptanceOf(t, spec, client, nil)
		resigned(spec, time.Now())
	}
	expired := s.simple(2, "services: {web: {image: app}}", image, "web")
	expired.tamper = func(spec *v1alpha1.RolloutSpec) { resigned(spec, time.Now().Add(-9*24*time.Hour)) }
	mounts, unsigned, signed, late := s.export(mounting), s.export(production), s.export(accepted), s.export(expired)
	s.registry.Broken.Store(true)
	asked := s.registry.Requests.Load()
	tomorrow := time.Now().UTC().Add(24 * time.Hour)
	closed := fmt.Sprintf("window: {timeZone: UTC, allow: [{start: %q, duration: 1h}]}", tomorrow.Format("2006-01-02T15:04"))
	for _, c := range []struct {
		name, policy, bundle, reason string
		says                         []string
	}{
		{"the policy refuses", "", mounts, v1alpha1.ReasonPolicyRefused, []string{"Rejected", "refused by this host's policy", data, "What to do", "host policy"}},
		{"the window is closed", closed, mounts, "", []string{"Refused, nothing was touched", "outside the host's window until " + tomorrow.Format(time.DateOnly), "apply the bundle again"}},
		{"the policy cannot be read", "bindPath: []", mounts, "", []string{"Refused, nothing was touched", "the host policy cannot be used"}},
		{"the client's signature is missing", asksFor(client), unsigned, v1alpha1.ReasonAcceptanceMissing, []string{"Rejected", "the client's own signature", "pv sign", "bundle again"}},
		{"it came too late", "", late, v1alpha1.ReasonAuthorizationExpired, []string{"Rejected", "has expired", "kubectl delete rollout", "export the bundle again"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			put(t, s.policyFile(), c.policy)
			text, outcome, code := p.apply(c.bundle)
			if code != 1 || outcome.Well() || !outcome.Done || outcome.Reason != c.reason {
				t.Errorf("exit code %d, reason %s: %s", code, outcome.Reason, text)
			}
			for _, part := range c.says {
				if !strings.Contains(text, part) {
					t.Errorf("does not say %q: %s", part, text)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "state", "*")); len(left) > 0 || s.container("web").ID != "" {
				t.Errorf("something was touched: %v", left)
			}
		})
	}
	t.Run("suspended", func(t *testing.T) {
		if out, err := p.command("suspend", s.project+"/dev", "--reason", "painting the walls").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		put(t, s.policyFile(), "bindPaths: ["+data+"]")
		if text, _, code := p.apply(mounts); code != 1 || !strings.Contains(text, "painting the walls") || s.container("web").ID != "" {
			t.Errorf("exit code %d: %s", code, text)
		}
		if out, err := p.command("resume", s.project+"/dev").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	put(t, s.policyFile(), asksFor(client)+"bindPaths: ["+data+"]")
	for _, bundle := range []string{mounts, signed} {
		if text, outcome, code := p.apply(bundle, "-o", "json"); code != 0 || !outcome.Well() || outcome.Reason != "" || outcome.Advice != "" {
			t.Errorf("exit code %d: %s", code, text)
		}
	}
	if asked != s.registry.Requests.Load() {
		t.Error("the registry was asked")
	}
}

// On a server that has joined online too, what was refused of a bundle does not begin by itself without the bundle, when its
// owner has changed his policy: it would look for images in the registry, and have failed for good.
func TestRefusedBundleWaits(t *testing.T) {
	s := newServer(t)
	data := t.TempDir()
	s.run()
	s.answering()
	bundle := s.export(s.simple(1, "services: {web: {image: app, volumes: [\""+data+":/data\"]}}", s.registry.Image(t, "app", "VERSION=1"), "web"))
	s.registry.Broken.Store(true)
	asked := s.registry.Requests.Load()
	if refused := s.apply(bundle, ""); refused.Reason != v1alpha1.ReasonPolicyRefused {
		t.Fatalf("%+v", refused)
	}
	put(t, s.policyFile(), "bindPaths: ["+data+"]")
	enginetest.Wait(t, "the agent to have seen the policy", func() error {
		if !strings.Contains(s.log.String(), "host policy changed") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	again := s.apply(bundle, "")
	if !again.Well() || s.registry.Requests.Load() != asked {
		t.Errorf("the registry was asked %d times: %+v", s.registry.Requests.Load()-asked, again)
	}
}
