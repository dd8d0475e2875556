// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/offline"
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

// Of an image for several platforms a bundle has the index, whose digest is authorised and runs, and the one platform; a bundle
// without that of the server is refused before anything is touched.
func TestApplyOnePlatformOfSeveral(t *testing.T) {
	s := newOfflineServer(t)
	mine, other := enginetest.Architecture(), "arm64"
	if mine == other {
		other = "amd64"
	}
	orderOf := func(sequence int64, image string) *v1alpha1.Rollout {
		r := &v1alpha1.Rollout{Spec: s.signed(s.webOrder(sequence, image))}
		r.Name, r.Namespace, r.UID = fmt.Sprint("r-", sequence), v1alpha1.HostNamespace(s.name), uuid.NewUUID()
		return r
	}
	both, foreign := s.registry.Index(t, "app", "1", other, mine), s.registry.Index(t, "app", "2", other, "s390x")
	single := s.registry.ImageFor(t, "app", other, 0, "VERSION=3")
	first := s.exportRollout(orderOf(1, both), platform())
	if err := s.write(io.Discard, orderOf(2, foreign), platform()); err == nil || !strings.Contains(err.Error(), "not made for "+platform()) {
		t.Errorf("exported for a platform that the image is not made for: %v", err)
	}
	wrong, lying := s.exportRollout(orderOf(2, both), "linux/"+other), s.exportRollout(orderOf(2, single), platform())
	relabelled := s.rewrite(wrong, func(name string, content []byte) []byte {
		if name != "bundle.json" {
			return content
		}
		return bytes.Replace(content, []byte("linux/"+other), []byte(platform()), 1)
	})
	s.registry.Broken.Store(true)
	if applied := s.apply(first, ""); !applied.Well() {
		t.Fatalf("%+v", applied)
	}
	s.serves("1-" + mine)
	before := s.container("web")
	if _, digest, _ := strings.Cut(both, "@"); !strings.HasSuffix(before.Image, "@"+digest) {
		t.Errorf("%s runs, not what was authorised: %s", before.Image, digest)
	}
	for name, c := range map[string]struct{ bundle, reason, says string }{
		"another platform's":             {wrong, v1alpha1.ReasonWrongArchitecture, "export it with --platform " + platform()},
		"another platform's, relabelled": {relabelled, "", "not a usable bundle"},
		"another platform's image":       {lying, v1alpha1.ReasonWrongArchitecture, "is made for linux/" + other},
	} {
		t.Run(name, func(t *testing.T) {
			applied := s.apply(c.bundle, "")
			if applied.Well() || applied.Reason != c.reason || !strings.Contains(applied.Refused+applied.Status.Message, c.says) {
				t.Errorf("%+v", applied)
			}
			s.unharmed(before)
		})
	}
	files := s.members(first)
	if len(files) != 4+2+2 { // an index and a manifest, a configuration and a layer
		t.Errorf("%d members: %v", len(files), slices.Sorted(maps.Keys(files)))
	}
}

// Values of Secrets that travel in a bundle reach the containers, and get out nowhere else: neither from what is well nor from
// what fails, nor from what cannot be read because of them.
func TestApplyWithSecrets(t *testing.T) {
	s := newOfflineServer(t)
	p := s.tool()
	s.run()
	s.answering()
	const canary = "canary-in-the-bundle"
	withSecrets := func(sequence int64, image string, values map[string]string) string {
		o := s.webOrder(sequence, image)
		o.secrets = []string{"db"}
		if values["PORT"] != "" {
			delete(o.values, "PORT")
			o.checks = nil
		}
		return s.export(o, offline.Secret{Name: "db", Keys: slices.Sorted(maps.Keys(values)), Values: values})
	}
	well := map[string]string{"PASSWORD": canary + "-1", "SAY": "it is " + canary + "-2"}
	first := withSecrets(1, s.registry.Image(t, "app", "VERSION=1"), well)
	sick := withSecrets(2, s.registry.Image(t, "app", "VERSION=2", "EXIT=3"), well)
	unreadable := withSecrets(3, s.registry.Image(t, "app", "VERSION=3"), map[string]string{"PORT": canary + "-3"})
	var told strings.Builder
	// No signature covers a value: the fingerprint does.
	content, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	whole := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	altered := s.file(bytes.Replace(content, []byte(canary+"-1"), []byte(canary+"-9"), 1))
	for _, bundle := range []string{altered, s.file(append(bytes.Clone(content), 0))} {
		text, outcome, code := p.apply(bundle, "--fingerprint", whole)
		if code != 1 || !strings.Contains(outcome.Refused, "it was altered on its way") || s.container("web").ID != "" {
			t.Errorf("exit code %d: %s", code, text)
		}
	}
	if text, _, code := p.apply(first, "--fingerprint", whole); code != 0 {
		t.Errorf("exit code %d: %s", code, text)
	}
	for _, c := range []struct {
		bundle, phase, says string
		code                int
	}{
		{first, v1alpha1.RolloutHealthy, "Healthy", 0},
		{sick, v1alpha1.RolloutRolledBack, "[redacted]", 1},
		{unreadable, v1alpha1.RolloutRejected, "invalid hostPort", 1},
	} {
		text, outcome, code := p.apply(c.bundle)
		if code != c.code || outcome.Status.Phase != c.phase || !strings.Contains(text, c.says) {
			t.Errorf("exit code %d, %s: %s", code, outcome.Status.Phase, text)
		}
		fmt.Fprintf(&told, "%s%+v", text, outcome)
	}
	s.serves("1")
	inspected, err := s.raw.ContainerInspect(t.Context(), s.container("web").ID, client.ContainerInspectOptions{})
	if err != nil || !slices.Contains(inspected.Container.Config.Env, "PASSWORD="+canary+"-1") {
		t.Errorf("the secret did not arrive: %v, %v", inspected.Container.Config.Env, err)
	}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}, {"history"}, {"diff"}} {
		out, err := p.command(args...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		told.Write(out)
	}
	if strings.Contains(told.String()+s.log.String(), canary) {
		t.Error("a secret got out: ", told.String(), s.log.String())
	}
	err = filepath.WalkDir(s.dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		info, statErr := entry.Info()
		if statErr != nil {
			return statErr
		}
		// What runs is started again without the bundle: the state keeps what it needs, for nobody else's eyes.
		if strings.Contains(string(content), canary) && (filepath.Dir(name) != filepath.Join(s.dir, "state") || info.Mode().Perm() != 0o600) {
			t.Errorf("%s (%s) holds a secret", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A bundle that was cut off or in which anything was changed touches nothing of what runs, and says why: the member, or what of
// the order is not as it was authorised.
func TestApplyDamaged(t *testing.T) {
	s := newOfflineServer(t)
	s.run()
	s.answering()
	one := s.registry.Image(t, "app", "VERSION=1")
	if applied := s.apply(s.export(s.webOrder(1, one)), ""); !applied.Well() {
		t.Fatalf("%+v", applied)
	}
	good := s.export(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2")))
	s.registry.Broken.Store(true)
	before, files := s.container("web"), s.members(good)
	saved, err := json.Marshal(s.stored())
	if err != nil {
		t.Fatal(err)
	}
	// replaced has one text of a member replaced by another.
	replaced := func(member, old, with string) string {
		return s.rewrite(good, func(name string, content []byte) []byte {
			if name != member {
				return content
			}
			changed := bytes.Replace(content, []byte(old), []byte(with), 1)
			if bytes.Equal(changed, content) {
				t.Fatalf("%s has no %q: %s", member, old, content)
			}
			return changed
		})
	}
	var rollout v1alpha1.Rollout
	if err := json.Unmarshal(files["rollout.json"], &rollout); err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(rollout.Spec.Images[0].Image, "@sha256:")
	signature := rollout.Spec.Authorization[len(rollout.Spec.Authorization)-20 : len(rollout.Spec.Authorization)-10]
	cases := map[string]struct{ bundle, says string }{
		"a byte of a layer":            {s.spoil(good), "was altered or damaged"},
		"a digit of the digest":        {replaced("rollout.json", digest, strings.Repeat("0", 64)), "is missing"},
		"a digit of the port":          {replaced("rollout.json", `"PORT":"`, `"PORT":"1`), "differs from what was authorised"},
		"a letter of the compose file": {replaced("rollout.json", "unless-stopped", "unless-Stopped"), "the compose file does not have its hash"},
		"a digit of the sequence":      {replaced("rollout.json", `"sequence":2`, `"sequence":3`), "sequence"},
		"a letter of the environment":  {replaced("rollout.json", `"environment":"dev"`, `"environment":"dex"`), "environment"},
		"a letter of the signature":    {replaced("rollout.json", signature, strings.Repeat("A", 10)), "the authorization"},
		"a member that is not known":   {replaced("rollout.json", `"spec":{`, `"spec":{"hidden":1,`), "hidden"},
		"another host's":               {replaced("bundle.json", s.name, "t"+s.name[1:len(s.name)-1]+"x"), "not of host"},
		"another platform's":           {replaced("bundle.json", platform(), "linux/s390x"), "export it with --platform"},
		"of a later format":            {replaced("bundle.json", `"version":1`, `"version":2`), "this program reads 1"},
	}
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, share := range []int{0, 1, 3, 5, 7, 9} {
		cases[fmt.Sprintf("cut off after %d tenths", share)] = struct{ bundle, says string }{s.file(text[:len(text)*share/10]), "not a usable bundle"}
	}
	for member, content := range files {
		if strings.HasPrefix(member, "blobs/") && len(content) < 100_000 { // the manifest, and the configuration
			changed := bytes.Clone(content)
			changed[len(changed)/2] ^= 1
			cases["a byte of "+member] = struct{ bundle, says string }{replaced(member, string(content), string(changed)), "was altered or damaged"}
		}
		cases["without "+member] = struct{ bundle, says string }{s.rewrite(good, func(name string, content []byte) []byte {
			if name == member {
				return nil
			}
			return content
		}), "not a usable bundle"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			applied := s.apply(c.bundle, "")
			if applied.Well() || !strings.Contains(applied.Refused, c.says) {
				t.Errorf("%+v", applied)
			}
			s.unharmed(before)
			if now, err := json.Marshal(s.stored()); err != nil || !bytes.Equal(now, saved) {
				t.Errorf("the state changed: %s, %v", now, err)
			}
		})
	}
	if applied := s.apply(good, ""); !applied.Well() { // none of it spoilt the good one
		t.Fatalf("%+v", applied)
	}
	s.serves("2")
}

// Of the text of an order no bit can be changed so that something else is carried out: what is still taken says the same.
func TestEveryBitOfAnOrder(t *testing.T) {
	s := &server{host: newHost(t), registry: enginetest.NewRegistry(t, enginetest.Engine(t)), project: "shop"}
	good := s.export(s.webOrder(1, s.registry.Image(t, "app")))
	text := s.members(good)["rollout.json"]
	read := func(text []byte) (v1alpha1.RolloutSpec, error) {
		var r v1alpha1.Rollout
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return r.Spec, err
		}
		self := authorization.Host{Name: s.name, UID: s.uid}
		_, err := authorization.Verify(t.Context(), r.Spec, self, time.Now(), 0, false, s.trusted())
		return r.Spec, err
	}
	want, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range text {
		for bit := range 8 {
			text[i] ^= 1 << bit
			if got, err := read(text); err == nil {
				taken++
				got.Authorization = want.Authorization // it was verified
				if !equality.Semantic.DeepEqual(got, want) {
					t.Errorf("with byte %d as %q: %s", i, text[i], text)
				}
			}
			text[i] ^= 1 << bit
		}
	}
	t.Logf("%d bits, of which %d change nothing", 8*len(text), taken)
}

// trusted are the keys that the host was joined with.
func (s *server) trusted() authorization.Trust {
	s.Helper()
	public, err := envelope.EncodePublicKey(s.key.Public())
	if err != nil {
		s.Fatal(err)
	}
	key, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		s.Fatal(err)
	}
	return authorization.Trust{Keys: []envelope.PublicKey{key}}
}

// withSide is a compose file with a service beside the one that changes.
const withSide = web + "  side: {image: side, restart: unless-stopped}\n"

// A server that was joined offline and had its releases carried there joins online later: what runs is left alone and reported,
// bundles from before are refused, and the next order comes by itself and replaces only what changed.
func TestJoinOnlineAfterBundles(t *testing.T) {
	s := newOfflineServer(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, StringData: map[string]string{"PASSWORD": "delivered"}}
	if _, err := s.env.Client.CoreV1().Secrets(v1alpha1.HostNamespace(s.name)).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	side := s.registry.Image(t, "side")
	orderOf := func(sequence int64) order {
		o := s.webOrder(sequence, s.registry.Image(t, "app", fmt.Sprint("VERSION=", sequence)))
		o.compose, o.images["side"], o.secrets = withSide, side, []string{"db"}
		return o
	}
	// What the control plane has, carried.
	exported := func(sequence int64) (name, bundle string) {
		name = s.send(orderOf(sequence))
		rollout := s.rollout(name)
		rollout.Status = v1alpha1.RolloutStatus{}
		order := &v1alpha1.Rollout{TypeMeta: rollout.TypeMeta, Spec: rollout.Spec}
		order.Name, order.Namespace, order.UID = rollout.Name, rollout.Namespace, rollout.UID
		return name, s.exportRollout(order, platform(), offline.Secret{Name: "db", Keys: []string{"PASSWORD"}, Values: secret.StringData})
	}
	one, first := exported(1)
	two, second := exported(2)
	s.registry.Broken.Store(true)
	stop := s.run()
	s.answering()
	for _, bundle := range []string{first, second} {
		if applied := s.apply(bundle, ""); !applied.Well() {
			t.Fatalf("%+v", applied)
		}
	}
	if phase := s.status(two).Phase; phase != "" {
		t.Errorf("the control plane heard of it: %s", phase)
	}
	stop()
	before, beside := s.container("web"), s.container("side")

	s.join()
	s.run()
	s.await(two, v1alpha1.RolloutHealthy)
	s.await(one, v1alpha1.RolloutSuperseded)
	s.untouched(before.ID, before.StartedAt)
	if older := s.apply(first, ""); older.Well() || older.Reason != v1alpha1.ReasonSuperseded || !strings.Contains(older.Status.Message, "sequence 2 took its place") {
		t.Errorf("an older bundle: %+v", older)
	}
	if again := s.apply(second, ""); !again.Well() {
		t.Errorf("the same bundle: %+v", again)
	}
	s.untouched(before.ID, before.StartedAt)

	s.registry.Broken.Store(false)
	s.await(s.send(orderOf(3)), v1alpha1.RolloutHealthy)
	s.serves("3")
	if now := s.container("side"); !same(now, beside) {
		t.Errorf("what did not change was replaced: %+v, before %+v", now, beside)
	}
	if older := s.apply(second, ""); older.Well() || older.Reason != v1alpha1.ReasonSuperseded {
		t.Errorf("a bundle from before: %+v", older)
	}
	s.serves("3")
}
