// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func (h *host) policyFile() string { return filepath.Join(h.dir, "host-policy.yaml") }

// put writes a file that no others may write.
func put(t testing.TB, name, text string) {
	t.Helper()
	temporary := name + ".new"
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, name); err != nil {
		t.Fatal(err)
	}
}

// awaitMessage waits until a Rollout is in a phase with a message.
func (s *server) awaitMessage(name, phase, message string) v1alpha1.RolloutStatus {
	s.Helper()
	var status v1alpha1.RolloutStatus
	enginetest.Wait(s, name+" to be "+phase, func() error {
		if status = s.status(name); status.Phase != phase || !strings.Contains(status.Message, message) {
			return fmt.Errorf("%s: %s", status.Phase, status.Message)
		}
		return nil
	})
	return status
}

// simple is an order of a compose file all of whose services have the same image.
func (s *server) simple(sequence int64, text, image string, services ...string) order {
	o := s.order(s.project)
	o.sequence, o.compose, o.images = sequence, text, map[string]string{}
	for _, service := range services {
		o.images[service] = image
	}
	return o
}

// What only the server has is read there: a service whose files hold something else is made anew, the others are left
// alone; and nothing of what env files and secrets hold gets out.
func TestFilesOfTheHost(t *testing.T) {
	s := newServer(t)
	files := t.TempDir()
	file := func(name string) string { return filepath.Join(files, name) }
	put(t, s.policyFile(), fmt.Sprintf("envFiles: [%s]\nfiles: [%s]\nbindPaths: [%s]", files, files, files))
	put(t, file("app.env"), "SAY=canary-one\nEMPTY=\nHOME_OF=${NAME}\n")
	put(t, file("secret"), "canary-two\n")
	put(t, file("app.conf"), "level=1")
	put(t, file("nginx.conf"), "a")
	if err := os.Symlink("nginx.conf", file("link.conf")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LEAK", "canary-of-the-agent")
	image := s.registry.Image(t, "app", "VERSION=1")
	text := strings.ReplaceAll(`
services:
  env: {image: app, env_file: [DIR/app.env, {path: DIR/absent.env, required: false}], environment: {EMPTY: given, LEAK: }}
  secret: {image: app, secrets: [s]}
  config: {image: app, configs: [c]}
  bind: {image: app, volumes: ["DIR/nginx.conf:/etc/nginx.conf:ro"]}
  link: {image: app, volumes: ["DIR/link.conf:/etc/nginx.conf:ro"]}
  plain: {image: app}
secrets: {s: {file: DIR/secret}}
configs: {c: {file: DIR/app.conf}}
`, "DIR", files)
	services := []string{"env", "secret", "config", "bind", "link", "plain"}
	sequence := int64(0)
	deploy := func() map[string]string {
		t.Helper()
		sequence++
		o := s.simple(sequence, text, image, services...)
		o.values = map[string]string{"NAME": "shop"}
		s.await(s.send(o), v1alpha1.RolloutHealthy)
		ids := map[string]string{}
		for _, name := range services {
			ids[name] = s.container(name).ID
		}
		return ids
	}
	s.run()
	before := deploy()
	inspected, err := s.raw.ContainerInspect(t.Context(), before["env"], client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SAY=canary-one", "EMPTY=given", "HOME_OF=shop"} {
		if !slices.Contains(inspected.Container.Config.Env, want) {
			t.Errorf("%s is not in the environment %v", want, inspected.Container.Config.Env)
		}
	}
	if strings.Contains(fmt.Sprint(inspected.Container.Config.Env), "canary-of-the-agent") {
		t.Error("the agent's environment is in the container")
	}
	for _, c := range []struct {
		name, text string
		changes    []string
	}{
		{"", "", nil},
		{"app.env", "SAY=canary-three", []string{"env"}},
		{"absent.env", "MORE=1", []string{"env"}},
		{"secret", "canary-four", []string{"secret"}},
		{"app.conf", "level=2", []string{"config"}},
		{"nginx.conf", "b", []string{"bind", "link"}},
	} {
		if c.name != "" {
			put(t, file(c.name), c.text)
		}
		after := deploy()
		for _, service := range services {
			if changed := before[service] != after[service]; changed != slices.Contains(c.changes, service) {
				t.Errorf("after a change of %q: %s was made anew: %v", c.name, service, changed)
			}
		}
		before = after
	}

	// One that falls over says nothing of what it was given.
	sequence++
	o := s.simple(sequence, strings.Replace(text, "LEAK: ", "EXIT: 3, SAY2: x", 1), image, services...)
	o.values = map[string]string{"NAME": "shop"}
	failed := s.send(o)
	status := s.await(failed, v1alpha1.RolloutRolledBack)
	if told := fmt.Sprint(status); !strings.Contains(told, "[redacted]") {
		t.Errorf("the last words are not there: %s", told)
	}
	if told := fmt.Sprint(status) + s.log.String(); strings.Contains(told, "canary") {
		t.Error("a secret of the server got out: ", told)
	}
	err = filepath.WalkDir(s.dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(content), "canary") {
			t.Errorf("%s holds a secret of the server", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	// A file that is not there is said, and its coming is noticed.
	if err := os.Remove(file("secret")); err != nil {
		t.Fatal(err)
	}
	sequence++
	o = s.simple(sequence, text, image, services...)
	o.values = map[string]string{"NAME": "shop"}
	missing := s.send(o)
	s.awaitMessage(missing, v1alpha1.RolloutRejected, "services.secret.secrets: "+file("secret")+": a file of this server")
	put(t, file("secret"), "canary-four")
	s.await(missing, v1alpha1.RolloutHealthy)
	if s.container("secret").ID != before["secret"] {
		t.Error("a service was made anew although its secret is what it was")
	}
}

// The owner's word counts as it is: what it refuses begins once it allows it, and while it cannot be read or its window is
// closed nothing begins, but what runs is kept running.
func TestPolicyOfTheHost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	data := t.TempDir()
	s.run()
	one, two := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2")
	text := "services: {web: {image: app, restart: always, volumes: [\"" + data + ":/data\"]}}"
	first := s.send(s.simple(1, text, one, "web"))
	status := s.awaitMessage(first, v1alpha1.RolloutRejected, "services.web.volumes: mounting a path of the server ("+data+")")
	if reason := status.Conditions[0].Reason; reason != v1alpha1.ReasonPolicyRefused {
		t.Errorf("reason %s", reason)
	}
	put(t, s.policyFile(), "bindPaths: ["+data+"]")
	s.await(first, v1alpha1.RolloutHealthy)

	for i, c := range []struct{ policy, message string }{
		{"bindPath: [" + data + "]", "the host policy cannot be used"},
		{"bindPaths: [" + data + "]\nwindow: {timeZone: UTC, allow: [{start: \"2099-01-01T00:00\", duration: 1h}]}", "outside the host's window"},
	} {
		put(t, s.policyFile(), c.policy)
		next := s.send(s.simple(int64(2+i), text, two, "web"))
		s.awaitMessage(next, v1alpha1.RolloutPending, c.message)
		running := s.container("web")
		removeContainer(t, s.raw, running.ID)
		enginetest.Wait(t, "the container to come back while "+c.message, func() error {
			if c := s.container("web"); c.ID == "" || c.ID == running.ID {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
		if err := s.objects().Delete(t.Context(), next, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	last := s.send(s.simple(4, text, two, "web"))
	s.awaitMessage(last, v1alpha1.RolloutPending, "")
	put(t, s.policyFile(), "bindPaths: ["+data+"]")
	s.await(last, v1alpha1.RolloutHealthy)
	if s.container("web").Image != two {
		t.Error("the new image does not run")
	}

	// Narrowed: what runs is kept, and something new is refused.
	put(t, s.policyFile(), "ports: []")
	refused := s.send(s.simple(5, text, one, "web"))
	s.awaitMessage(refused, v1alpha1.RolloutRejected, "bindPaths")
	running := s.container("web")
	removeContainer(t, s.raw, running.ID)
	enginetest.Wait(t, "the container to come back", func() error {
		if c := s.container("web"); c.ID == "" || c.ID == running.ID {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if !strings.Contains(s.log.String(), "host policy changed") {
		t.Error("the agent's log says nothing of the change")
	}
}
