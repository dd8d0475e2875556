// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/uuid"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/layout"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/offline"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// newOfflineServer is a server that was joined offline and whose control plane is never asked.
func newOfflineServer(t testing.TB) *server {
	t.Helper()
	s := unjoinedServer(t)
	public, err := envelope.EncodePublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	key, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	trust := offline.Trust{Version: offline.Version, Host: s.name, UID: s.uid, Keys: map[string]string{key.ID: string(public)}}
	text, fingerprint, err := trust.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "host-trust.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	say := func(format string, args ...any) { s.log.add(fmt.Sprintf(format, args...)) }
	o := agent.JoinOptions{DataDir: s.dir}
	wrong := "sha256:" + strings.Repeat("0", 64)
	if err := agent.JoinOffline(t.Context(), o, file, wrong, say); err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Fatalf("another fingerprint: %v", err)
	}
	if err := agent.JoinOffline(t.Context(), o, file, fingerprint, say); err != nil {
		t.Fatal(err)
	}
	return s
}

// export writes a bundle of an order, as the command does.
func (s *server) export(o order, secrets ...offline.Secret) string {
	s.Helper()
	rollout := &v1alpha1.Rollout{Spec: s.signed(o)}
	rollout.Name, rollout.Namespace, rollout.UID = fmt.Sprint(o.project, "-", o.sequence), v1alpha1.HostNamespace(s.name), uuid.NewUUID()
	m := offline.Manifest{Version: offline.Version, Host: s.name, Platform: "linux/" + enginetest.Architecture(), Secrets: secrets}
	client, err := registry.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	var bundle bytes.Buffer
	if err := offline.Write(s.Context(), &bundle, m, rollout, client, func(int64, int64) {}); err != nil {
		s.Fatal(err)
	}
	for _, image := range rollout.Spec.Images {
		s.registry.Remove(layout.Default(image.Image))
	}
	return s.file(bundle.Bytes())
}

func (s *server) file(content []byte) string {
	s.Helper()
	name := filepath.Join(s.TempDir(), "bundle.tar")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		s.Fatal(err)
	}
	return name
}

func (s *server) apply(bundle, secrets string) agent.Applied {
	s.Helper()
	applied, err := agent.Apply(s.Context(), s.options(), bundle, secrets, func(agent.Applied) {})
	if err != nil {
		s.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "bundle-*")); len(left) > 0 {
		s.Errorf("%v was left behind", left)
	}
	return applied
}

// answering waits until the agent answers commands.
func (s *server) answering() {
	s.Helper()
	enginetest.Wait(s, "the agent to answer commands", func() error {
		vitals, err := agent.ReadVitals(s.Context(), s.dir)
		if err == nil && vitals == nil {
			err = errors.New("it does not")
		}
		return err
	})
}

// A release comes to a server that reaches neither its control plane nor a registry, runs, is healed, and when the next one is
// sick goes back to it, without a registry all along.
func TestApply(t *testing.T) {
	s := newOfflineServer(t)
	one, two := s.registry.Image(t, "team/app", "VERSION=1"), s.registry.Image(t, "team/app", "VERSION=2", "SICK=1")
	first, second, third := s.export(s.webOrder(1, one)), s.export(s.webOrder(2, two)), s.export(s.webOrder(1, one))
	s.registry.Broken.Store(true)
	asked := s.registry.Requests.Load()

	applied := s.apply(first, "") // by the command itself
	if !applied.Well() {
		t.Fatalf("%+v", applied)
	}
	s.serves("1")
	before := s.container("web")
	stop := s.run()
	s.answering()
	if again := s.apply(first, ""); !again.Well() { // by the agent that runs
		t.Fatalf("again: %+v", again)
	}
	if now := s.container("web"); now.ID != before.ID {
		t.Error("applying the same bundle again replaced the container")
	}
	removeContainer(t, s.raw, before.ID)
	enginetest.Wait(t, "the container to be healed", func() error {
		if c := s.container("web"); c.State != health.StateRunning || c.ID == before.ID {
			return errors.New("it is not there")
		}
		return nil
	})
	s.serves("1")

	applied = s.apply(second, "")
	if applied.Well() || applied.Status.Phase != v1alpha1.RolloutRolledBack || applied.Status.ServingSequence != 1 {
		t.Fatalf("%+v", applied)
	}
	s.serves("1")
	stop()
	if older := s.apply(third, ""); older.Well() || older.Status.Phase != v1alpha1.RolloutSuperseded {
		t.Fatalf("%+v", older)
	}
	if asked != s.registry.Requests.Load() {
		t.Error("the registry was asked")
	}
}
