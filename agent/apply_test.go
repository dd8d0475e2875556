// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"k8s.io/apimachinery/pkg/util/uuid"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/layout"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
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
	return s.exportRollout(rollout, platform(), secrets...)
}

// platform of this server.
func platform() string { return "linux/" + enginetest.Architecture() }

func (s *server) exportRollout(rollout *v1alpha1.Rollout, platform string, secrets ...offline.Secret) string {
	s.Helper()
	var bundle bytes.Buffer
	if err := s.write(&bundle, rollout, platform, secrets...); err != nil {
		s.Fatal(err)
	}
	for _, image := range rollout.Spec.Images {
		s.registry.Remove(layout.Default(image.Image))
	}
	return s.file(bundle.Bytes())
}

func (s *server) write(to io.Writer, rollout *v1alpha1.Rollout, platform string, secrets ...offline.Secret) error {
	s.Helper()
	from, err := registry.New(nil, nil)
	if err != nil {
		s.Fatal(err)
	}
	m := offline.Manifest{Version: offline.Version, Host: s.name, Platform: platform, Secrets: secrets}
	return offline.Write(s.Context(), to, m, rollout, from, func(int64, int64) {})
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
	applied, err := agent.Apply(s.Context(), s.options(), agent.Load{File: bundle, Secrets: secrets}, func(agent.Applied) {})
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

// Whatever is not authorised for this server as it is, is refused with its reason, and nothing is touched.
func TestApplyRefuses(t *testing.T) {
	s := newOfflineServer(t)
	image, other := s.registry.Image(t, "app", "VERSION=1"), s.registry.Image(t, "app", "VERSION=2")
	good := s.export(s.webOrder(1, image))
	another := s.webOrder(1, image)
	another.host = &authorization.Host{Name: s.name, UID: "another"}
	stranger, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	forged := s.webOrder(1, image)
	forged.key = stranger
	altered := func(f func(*v1alpha1.RolloutSpec)) order {
		o := s.webOrder(1, image)
		o.tamper = f
		return o
	}
	secret := s.webOrder(1, image)
	secret.secrets = []string{"db"}
	elsewhere := s.export(s.webOrder(1, image))
	s.name += "x"
	named := s.export(s.webOrder(1, image))
	s.name = strings.TrimSuffix(s.name, "x")
	cases := map[string]struct{ bundle, reason, says string }{
		"another host's by name": {named, v1alpha1.ReasonOtherHost, "for host"},
		"another host's by uid":  {s.export(another), v1alpha1.ReasonOtherHost, "another"},
		"an unknown key's":       {s.export(forged), v1alpha1.ReasonUnknownKey, ""},
		"another image":          {s.export(altered(func(spec *v1alpha1.RolloutSpec) { spec.Images[0].Image = other })), v1alpha1.ReasonImagesAltered, ""},
		"another compose file": {s.export(altered(func(spec *v1alpha1.RolloutSpec) {
			spec.Compose += "  more: {image: app}\n"
		})), v1alpha1.ReasonComposeAltered, ""},
		"another value":       {s.export(altered(func(spec *v1alpha1.RolloutSpec) { spec.Values["PORT"] = "1" })), v1alpha1.ReasonRolloutAltered, ""},
		"another sequence":    {s.export(altered(func(spec *v1alpha1.RolloutSpec) { spec.Sequence = 9 })), v1alpha1.ReasonRolloutAltered, ""},
		"a layer altered":     {s.spoil(elsewhere), "", "altered or damaged"},
		"missing secrets":     {s.export(secret, offline.Secret{Name: "db", Keys: []string{"PASSWORD", "USER"}}), "", "PASSWORD, USER"},
		"a Secret not listed": {s.export(secret), "", "db"},
		"not a bundle":        {s.file([]byte("hello")), "", "not a usable bundle"},
		"a folder":            {t.TempDir(), "", "is not a file"},
		"nothing":             {filepath.Join(t.TempDir(), "none"), "", "no such file"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			applied := s.apply(c.bundle, "")
			if applied.Well() || applied.Refused == "" || !strings.Contains(applied.Refused, c.says) || c.reason != "" && applied.Reason != c.reason {
				t.Errorf("%+v", applied)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "state", "*")); len(left) > 0 || s.container("web").ID != "" {
				t.Errorf("something was touched: %v", left)
			}
		})
	}
	if applied := s.apply(good, ""); !applied.Well() {
		t.Fatalf("%+v", applied)
	}
	open := s.file([]byte("PASSWORD=p\nUSER=u\n"))
	secret.sequence = 2
	next := s.export(secret, offline.Secret{Name: "db", Keys: []string{"PASSWORD", "USER"}})
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if applied := s.apply(next, open); !strings.Contains(applied.Refused, "chmod 600") {
		t.Errorf("%+v", applied)
	}
	before := s.container("web").ID
	if err := os.Chmod(open, 0o600); err != nil {
		t.Fatal(err)
	}
	if applied := s.apply(next, open); !applied.Well() || s.container("web").ID == before {
		t.Errorf("%+v", applied)
	}
	inspected, err := s.raw.ContainerInspect(t.Context(), s.container("web").ID, client.ContainerInspectOptions{})
	if err != nil || !slices.Contains(inspected.Container.Config.Env, "PASSWORD=p") {
		t.Errorf("the secret did not arrive: %v", err)
	}
}

// spoil changes a byte of the largest member of a bundle, which is a layer.
func (s *server) spoil(bundle string) string {
	s.Helper()
	return s.rewrite(bundle, func(_ string, content []byte) []byte {
		if len(content) > 100_000 {
			content[len(content)/2] ^= 1
		}
		return content
	})
}

// rewrite writes a bundle with other contents of its members; nil leaves one out.
func (s *server) rewrite(bundle string, change func(name string, content []byte) []byte) string {
	s.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	s.each(bundle, func(header *tar.Header, content []byte) {
		if content = change(header.Name, content); content == nil {
			return
		}
		header.Size = int64(len(content))
		if err := writer.WriteHeader(header); err != nil {
			s.Fatal(err)
		}
		if _, err := writer.Write(content); err != nil {
			s.Fatal(err)
		}
	})
	if err := writer.Close(); err != nil {
		s.Fatal(err)
	}
	return s.file(out.Bytes())
}

// members of a bundle by name.
func (s *server) members(bundle string) map[string][]byte {
	s.Helper()
	all := map[string][]byte{}
	s.each(bundle, func(header *tar.Header, content []byte) { all[header.Name] = content })
	return all
}

func (s *server) each(bundle string, do func(*tar.Header, []byte)) {
	s.Helper()
	text, err := os.ReadFile(bundle)
	if err != nil {
		s.Fatal(err)
	}
	for reader := tar.NewReader(bytes.NewReader(text)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		content, readErr := io.ReadAll(reader)
		if err := errors.Join(err, readErr); err != nil {
			s.Fatal(err)
		}
		do(header, content)
	}
}
