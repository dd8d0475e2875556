// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

const (
	commitD = "ddddddd4e5f60718293a4b5c6d7e8f9001122334"
	commitE = "eeeeeee4e5f60718293a4b5c6d7e8f9001122334"
)

// mirrorBench is a bench whose images are in one registry, and whose production pulls them from another.
type mirrorBench struct {
	*bench
	ours, theirs *registrytest.Registry
}

func newMirrorBench(t *testing.T, ours, theirs registrytest.Options) *mirrorBench {
	t.Helper()
	b, r := newRegistryBench(t, ours)
	m := &mirrorBench{b, r, registrytest.Start(t, theirs)}
	b.registrySecret("harbor", m.theirs)
	patch := fmt.Sprintf(`{"spec":{"registry":{"prefix":%q,"secretRef":"harbor"}}}`, m.theirs.Host+"/supergest")
	if err := b.patch(b.environment("production"), patch); err != nil {
		t.Fatal(err)
	}
	return m
}

func (b *bench) environment(name string) *v1alpha1.Environment {
	return &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.project}}
}

// registrySecret puts a registry's account into a Secret of the project.
func (b *bench) registrySecret(name string, r *registrytest.Registry) {
	b.t.Helper()
	data := map[string][]byte{corev1.DockerConfigJsonKey: r.DockerConfig()}
	if ca := r.CA(); ca != nil {
		data["ca.crt"] = ca
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.project}, Type: corev1.SecretTypeDockerConfigJson, Data: data})
}

// versioned makes a release of a commit.
func (b *bench) versioned(commit, version string) *v1alpha1.Release {
	b.t.Helper()
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: commit[:7], Namespace: b.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Version: version},
	}
	b.create(r)
	return r
}

// has waits until the images of a release have tags in an environment; of its own registry, where it has one.
func (b *bench) has(rel *v1alpha1.Release, environment string, mirrored bool, tags ...string) {
	b.t.Helper()
	cptest.Wait(b.t, fmt.Sprintf("tags %v in %s", tags, environment), func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		var got []string
		for _, e := range rel.Status.Environments {
			if e.Name == environment && !mirrored {
				got = e.Tags
			}
		}
		for _, m := range rel.Status.Mirrors {
			if m.Environment == environment && mirrored {
				got = m.Tags
			}
		}
		if diff := cmp.Diff(tags, got); diff != "" {
			return fmt.Errorf("%s; conditions %+v", diff, rel.Status.Conditions)
		}
		return nil
	})
}

// rolloutOf waits for the order of a release in an environment.
func (b *bench) rolloutOf(rel *v1alpha1.Release, environment string) *v1alpha1.Rollout {
	b.t.Helper()
	return b.rollout(environment, func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Release.UID != string(rel.UID) {
			return fmt.Errorf("the newest is of %s", ro.Spec.Release.Name)
		}
		return nil
	})
}

// bridged adds RMOA DYNORS and RMOA CLIENT between dev and production.
func (m *mirrorBench) bridged() {
	m.t.Helper()
	hosts := &metav1.LabelSelector{MatchLabels: map[string]string{"bench": m.project}}
	for _, e := range []struct{ name, after string }{{"rmoa-dynors", "dev"}, {"rmoa-client", "rmoa-dynors"}} {
		m.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: e.name, Namespace: m.project}, Spec: v1alpha1.EnvironmentSpec{
			After: e.after, Hosts: hosts, Compose: v1alpha1.ComposeSource{Inline: m.compose()}, SecretRefs: []string{"app"},
		}})
		m.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: e.name, Namespace: m.project}, Spec: v1alpha1.QualityGateSpec{
			Number: 1, Environment: e.name, Mode: v1alpha1.ModeManual, Criteria: []v1alpha1.Criterion{
				{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: e.after}},
				{Name: "qa", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1, AllowCreator: true}}},
		}})
	}
	if err := m.patch(m.environment("production"), `{"spec":{"after":"rmoa-client"}}`); err != nil {
		m.t.Fatal(err)
	}
	gate := &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: m.project}}
	if err := m.patch(gate, `{"spec":{"number":3,"criteria":[{"name":"healthy","healthy":{"environment":"rmoa-client"}},{"name":"cto","approval":{"minimum":1,"allowCreator":true}}]}}`); err != nil {
		m.t.Fatal(err)
	}
}

// moved is what passed a registry.
type moved struct {
	manifests, puts, blobs, logins int
	bytes                          int64 // of layers that were sent there
}

func sum(seen []registrytest.Seen) moved {
	var out moved
	for _, s := range seen {
		switch {
		case s.Blob():
			out.blobs++
			if s.Method == http.MethodPut {
				out.bytes += s.Sent
			}
		case strings.Contains(s.Path, "/manifests/"):
			out.manifests++
			if s.Method == http.MethodPut {
				out.puts++
			}
		default:
			out.logins++
		}
	}
	return out
}

func (s moved) String() string {
	return fmt.Sprintf("%2d requests for manifests (%d written), %2d for layers, %2d to log in; %6d bytes of layers sent", s.manifests, s.puts, s.blobs, s.logins, s.bytes)
}

// TestLifeOfAPipelineOnRealRegistries takes releases through all environments by approvals, with an image for two architectures in Debian's
// docker-registry: every promotion writes its tag and moves no layer, and production's other registry receives what it does
// not have before its host gets anything.
func TestLifeOfAPipelineOnRealRegistries(t *testing.T) {
	for _, o := range []struct{ ours, theirs registrytest.Options }{
		{registrytest.Options{Auth: registrytest.Htpasswd}, registrytest.Options{Auth: registrytest.Token, TLS: true}},
		{registrytest.Options{Auth: registrytest.Token, TLS: true}, registrytest.Options{Auth: registrytest.Htpasswd}},
	} {
		t.Run(o.ours.Auth+" to "+o.theirs.Auth, func(t *testing.T) {
			t.Parallel()
			m := newMirrorBench(t, o.ours, o.theirs)
			m.bridged()
			base := registrytest.Layer(t, 400_000)
			for _, step := range []struct {
				commit, version string
				min, max        int64 // bytes of layers that the other registry receives
			}{{commitA, "v1.3.0", 500_000, 510_000}, {commitD, "v1.3.1", 100_000, 110_000}} {
				digest := m.ours.PushLayers("backend", "dev-"+step.commit[:7], 50_000, base)
				m.ours.Take()
				m.theirs.Take()
				if got := m.crossAll(step.commit, step.version, digest); got < step.min || got > step.max {
					t.Errorf("%s: %d bytes of layers were sent, want %d to %d", step.version, got, step.min, step.max)
				}
			}
			m.checkNoCanary()
		})
	}
}

// crossAll takes a release through the whole bridge and returns how many bytes of layers production's registry received.
func (m *mirrorBench) crossAll(commit, version, digest string) int64 {
	m.t.Helper()
	rel := m.versioned(commit, version)
	bundle := ""
	for i, step := range []struct {
		environment string
		tags        []string
	}{
		{"dev", []string{"dev-" + commit[:7]}},
		{"rmoa-dynors", []string{"rmoa-dynors-" + commit[:7]}},
		{"rmoa-client", []string{"rmoa-client-" + commit[:7]}},
		{"production", []string{version, "latest"}},
	} {
		if i > 0 {
			m.annotate(rel, v1alpha1.ApprovalPrefix+step.environment, "sirrat:server")
		}
		ro := m.rolloutOf(rel, step.environment)
		image := m.repo + "@" + digest
		if step.environment == "production" {
			image = m.theirs.Host + "/supergest/backend@" + digest
			m.theirs.Pull("supergest/backend", digest)
		}
		if got := ro.Spec.Images[0].Image; got != image {
			m.t.Errorf("%s runs %s, want %s", step.environment, got, image)
		}
		m.checkAuthorization(ro)
		m.has(rel, step.environment, false, step.tags...)
		for _, tag := range step.tags {
			if got := m.ours.Digest("backend", tag); got != digest {
				m.t.Errorf("%s names %s, want %s", tag, got, digest)
			}
		}
		bundle = ro.Spec.BundleHash
		if step.environment != "production" {
			m.report(ro, v1alpha1.RolloutHealthy)
		}
		got := sum(m.ours.Take())
		m.t.Logf("%s %-11s %s", version, step.environment, got)
		puts := []int{0, 1, 1, 2}[i]
		if got.puts != puts || got.bytes != 0 || step.environment != "production" && got.blobs != 0 {
			m.t.Errorf("%s: %+v, want %d manifests to be written and no layer to be touched", step.environment, got, puts)
		}
	}
	m.has(rel, "production", true, version, "latest")
	m.told(rel, v1alpha1.ConditionMirrored, v1alpha1.ReasonMirrored, m.theirs.Host+"/supergest")
	m.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagged)
	for _, tag := range []string{version, "latest"} {
		if got := m.theirs.Digest("supergest/backend", tag); got != digest {
			m.t.Errorf("%s of production's registry names %q, want %s", tag, got, digest)
		}
	}
	i := slices.IndexFunc(rel.Status.Bundle.Environments, func(e v1alpha1.EnvironmentBundle) bool { return e.Environment == "production" })
	if rel.Status.Bundle.Environments[i].Hash != bundle || rel.Status.Bundle.Images[0].Repository != m.repo {
		m.t.Errorf("the bundle is another one: %+v, the order names %s", rel.Status.Bundle, bundle)
	}
	got := sum(m.theirs.Take())
	m.t.Logf("%s %-11s %s", version, "the other", got)
	if recorded := rel.Status.Mirrors[0].Moved; recorded != got.bytes {
		m.t.Errorf("%d bytes were sent, and the release says %d", got.bytes, recorded)
	}
	ro := m.rolloutOf(rel, "production")
	var pull corev1.Secret
	if err := m.c.Get(m.t.Context(), client.ObjectKey{Namespace: ro.Namespace, Name: ro.Spec.RegistrySecretRef}, &pull); err != nil {
		m.t.Fatal(err)
	}
	if want := string(m.theirs.DockerConfig()); string(pull.Data[corev1.DockerConfigJsonKey]) != want || len(pull.Data) != 1 {
		m.t.Error("the host did not receive the account of the registry that it pulls from")
	}
	m.report(ro, v1alpha1.RolloutHealthy)
	return got.bytes
}

// nothingFor fails if a host has an order of an environment.
func (b *bench) nothingFor(environment string) {
	b.t.Helper()
	var list v1alpha1.RolloutList
	err := b.c.List(b.t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(b.host.Name)), client.MatchingLabels{v1alpha1.LabelEnvironment: environment})
	if err != nil || len(list.Items) > 0 {
		b.t.Errorf("a host has %d orders, %v", len(list.Items), err)
	}
}

// TestMirrorFaultsHoldTheHostsBack: whatever is wrong with either registry, the release and the environment say it, no host gets anything, and
// it goes on by itself.
func TestMirrorFaultsHoldTheHostsBack(t *testing.T) {
	const theirs, ours = "theirs", "ours"
	for name, c := range map[string]struct {
		at     string
		fault  registrytest.Fault
		reason string
		says   []string
		heals  bool // within the time that a test takes
	}{
		"429":                    {theirs, refusing(http.MethodPut, "/blobs/uploads/", 429, "Retry-After: 2"), v1alpha1.ReasonRegistryBusy, []string{"429"}, true},
		"507":                    {theirs, refusing(http.MethodPut, "/blobs/uploads/", 507), v1alpha1.ReasonRegistryFull, []string{"out of room"}, true},
		"500 of a manifest":      {theirs, refusing(http.MethodPut, "/manifests/", 500), v1alpha1.ReasonRegistryError, []string{"500"}, true},
		"it is away":             {theirs, registrytest.Down, v1alpha1.ReasonRegistryBusy, []string{"503"}, true},
		"403":                    {theirs, refusing(http.MethodPost, "/blobs/uploads/", 403), v1alpha1.ReasonRegistryDenied, []string{"403", "spec.registry.secretRef of Environment"}, false},
		"500 of the source":      {ours, refusing(http.MethodGet, "/blobs/", 500), v1alpha1.ReasonRegistryError, []string{"500", "read layer"}, true},
		"layer gone from source": {ours, refusing(http.MethodGet, "/blobs/", 404), v1alpha1.ReasonImageNotFound, []string{"not in the registry"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrorBench(t, registrytest.Options{Auth: registrytest.Htpasswd}, registrytest.Options{Auth: registrytest.Token})
			digest := m.ours.Push("backend", "dev-aaaaaaa")
			bad := map[string]*registrytest.Registry{theirs: m.theirs, ours: m.ours}[c.at]
			bad.Misbehave(c.fault)
			rel := m.version()
			m.report(m.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
			m.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
			m.told(rel, v1alpha1.ConditionMirrored, c.reason, append(c.says, "production: ", "tried again by itself at")...)
			cptest.Wait(t, "the environment to say what it waits for", func(ctx context.Context) error {
				env := m.environment("production")
				if err := m.c.Get(ctx, client.ObjectKeyFromObject(env), env); err != nil {
					return err
				}
				if !strings.Contains(env.Status.Waiting, "its images are copied to "+m.theirs.Host) || !strings.Contains(env.Status.Waiting, c.says[0]) {
					return fmt.Errorf("waits for %q", env.Status.Waiting)
				}
				return nil
			})
			m.nothingFor("production")
			bad.Misbehave(nil)
			if !c.heals {
				return
			}
			ro := m.rolloutOf(rel, "production")
			m.checkAuthorization(ro)
			m.theirs.Pull("supergest/backend", digest)
			m.told(rel, v1alpha1.ConditionMirrored, v1alpha1.ReasonMirrored)
		})
	}
}

// TestMirrorSaysWhatIsMissing: a Secret that does not exist, a repository that nobody named and an address that the operator
// does not allow hold the release up, and each is told; declaring it right lets it through at once.
func TestMirrorSaysWhatIsMissing(t *testing.T) {
	m := newMirrorBench(t, registrytest.Options{}, registrytest.Options{Auth: registrytest.Htpasswd})
	m.ours.Push("backend", "dev-aaaaaaa")
	production := m.environment("production")
	set := func(text string) {
		t.Helper()
		if err := m.patch(production, text); err != nil {
			t.Fatal(err)
		}
	}
	set(`{"spec":{"registry":{"secretRef":"absent"}}}`)
	rel := m.version()
	m.report(m.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	m.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	m.told(rel, v1alpha1.ConditionMirrored, v1alpha1.ReasonInvalid, "Secret absent (spec.registry.secretRef of Environment production) does not exist")
	set(`{"spec":{"registry":{"prefix":null,"repositories":[{"image":"frontend","repository":"harbor.example/f"}],"secretRef":"harbor"}}}`)
	m.told(rel, v1alpha1.ConditionMirrored, v1alpha1.ReasonInvalid, "names no repository for image backend")
	m.condition(m.environment("production"), v1alpha1.ConditionReady, metav1.ConditionFalse, "names no repository for image backend")
	set(`{"spec":{"registry":{"prefix":"169.254.169.254/latest"}}}`)
	m.told(rel, v1alpha1.ConditionMirrored, v1alpha1.ReasonRegistryError, "--allow-private-addresses")
	m.nothingFor("production")
	set(fmt.Sprintf(`{"spec":{"registry":{"repositories":[{"image":"backend","repository":%q}]}}}`, m.theirs.Host+"/erp/the-backend"))
	ro := m.rolloutOf(rel, "production")
	if image := ro.Spec.Images[0].Image; !strings.HasPrefix(image, m.theirs.Host+"/erp/the-backend@sha256:") {
		t.Errorf("production runs %s", image)
	}
	m.checkAuthorization(ro)
}

// TestProofsFollowTheImages: what is attached to the images is in production's registry as well, later too; the journal says
// what was copied, once.
func TestProofsFollowTheImages(t *testing.T) {
	m := newMirrorBench(t, registrytest.Options{Auth: registrytest.Token}, registrytest.Options{Auth: registrytest.Htpasswd})
	digest := m.ours.Push("backend", "dev-aaaaaaa")
	ours, err := registry.New(m.ours.DockerConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := registry.New(m.theirs.DockerConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const typ = "application/spdx+json"
	bill := registry.Artifact{Type: typ, Layers: []registry.ArtifactLayer{{MediaType: typ, Data: []byte(`{"spdxVersion":"SPDX-2.3"}`)}}}
	if _, _, err := ours.Attach(t.Context(), m.repo, digest, bill); err != nil {
		t.Fatal(err)
	}
	m.theirs.Misbehave(func(w http.ResponseWriter, q *http.Request) bool { // lists, which some account may not write
		return strings.Contains(q.URL.Path, "/manifests/sha256-") && refusing(http.MethodPut, "", 403)(w, q)
	})
	rel := m.version()
	m.cross(rel)
	attached := func(text string) {
		t.Helper()
		cptest.Wait(t, "the release to say "+text, func(ctx context.Context) error {
			if err := m.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
				return err
			}
			if len(rel.Status.Mirrors) != 1 || !strings.Contains(rel.Status.Mirrors[0].Attached, text) {
				return fmt.Errorf("says %+v", rel.Status.Mirrors)
			}
			return nil
		})
	}
	attached("refuses access (403): check spec.registry.secretRef of Environment")
	m.theirs.Misbehave(nil)
	var secret corev1.Secret
	if err := m.c.Get(t.Context(), client.ObjectKey{Namespace: m.project, Name: "harbor"}, &secret); err != nil {
		t.Fatal(err)
	}
	secret.Data["note"] = []byte("mended")
	if err := m.c.Update(t.Context(), &secret); err != nil {
		t.Fatal(err)
	}
	attached("proofs that are attached to the images there: 1")
	found, _, err := theirs.Attached(t.Context(), m.theirs.Host+"/supergest/backend", digest, typ)
	if err != nil || len(found) != 1 || string(found[0].Layers[0].Data) != `{"spdxVersion":"SPDX-2.3"}` {
		t.Errorf("attached there: %+v, %v", found, err)
	}
	var project v1alpha1.Project
	if err := m.c.Get(t.Context(), client.ObjectKey{Name: m.project}, &project); err != nil {
		t.Fatal(err)
	}
	var facts []string
	for e, err := range running.Journal.Entries(t.Context(), string(project.UID), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Subject == "mirror/"+string(rel.UID)+"/production" {
			facts = append(facts, string(e.Data))
		}
	}
	if len(facts) != 1 || !strings.Contains(facts[0], m.theirs.Host+"/supergest/backend") || !strings.Contains(facts[0], digest) {
		t.Errorf("the journal says %q", facts)
	}
}

// TestVersionOfTheOtherRegistryIsNeverOverwritten: its tag stays where it is, and the release says so; it runs all the same.
func TestVersionOfTheOtherRegistryIsNeverOverwritten(t *testing.T) {
	m := newMirrorBench(t, registrytest.Options{}, registrytest.Options{Auth: registrytest.Htpasswd})
	other := m.theirs.Push("supergest/backend", "v1.3.0")
	digest := m.ours.Push("backend", "dev-aaaaaaa")
	rel := m.version()
	m.cross(rel)
	m.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagTaken, m.theirs.Host+"/supergest/backend:v1.3.0", other, digest)
	if got := m.theirs.Digest("supergest/backend", "v1.3.0"); got != other {
		t.Errorf("v1.3.0 names %s, want %s", got, other)
	}
	if got := m.theirs.Digest("supergest/backend", "latest"); got != digest {
		t.Errorf("latest names %s, want %s", got, digest)
	}
}

// TestWayBackWhileTheRegistryIsAway: a release that ran there, and whose images the registry served, is gone back to when the registry
// cannot be asked: the hosts have it on disk. It is asked first.
func TestWayBackWhileTheRegistryIsAway(t *testing.T) {
	m := newMirrorBench(t, registrytest.Options{}, registrytest.Options{})
	m.ours.Push("backend", "dev-aaaaaaa")
	one := m.version()
	m.cross(one)
	m.report(m.rolloutOf(one, "production"), v1alpha1.RolloutHealthy)
	m.ours.Push("backend", "dev-ddddddd")
	two := m.versioned(commitD, "v1.3.1")
	m.report(m.rolloutOf(two, "dev"), v1alpha1.RolloutHealthy)
	m.annotate(two, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	bad := m.rolloutOf(two, "production")
	m.report(bad, v1alpha1.RolloutHealthy)
	cptest.Wait(t, "the first release to have given way", func(ctx context.Context) error {
		if err := m.c.Get(ctx, client.ObjectKeyFromObject(one), one); err != nil {
			return err
		}
		for _, e := range one.Status.Environments {
			if e.Name == "production" && e.Phase == v1alpha1.PhaseSuperseded {
				return nil
			}
		}
		return fmt.Errorf("environments %+v", one.Status.Environments)
	})
	m.theirs.Misbehave(registrytest.Down)
	env := m.environment("production")
	if err := m.c.Get(t.Context(), client.ObjectKeyFromObject(env), env); err != nil {
		t.Fatal(err)
	}
	order := fmt.Sprintf("%s@%s: sirrat:server: invoices are wrong", one.UID, env.Status.Current.AuthorizedAt.UTC().Format(metav1.RFC3339Micro))
	m.annotate(env, v1alpha1.AnnotationRollback, order)
	ro := m.rollout("production", func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Release.UID != string(one.UID) || ro.Spec.Sequence <= bad.Spec.Sequence {
			return fmt.Errorf("the newest is of %s", ro.Spec.Release.Name)
		}
		return nil
	})
	m.checkAuthorization(ro)
	m.told(one, v1alpha1.ConditionMirrored, v1alpha1.ReasonRegistryBusy, "production: ", "503")
	m.theirs.Misbehave(nil)
	m.told(one, v1alpha1.ConditionMirrored, v1alpha1.ReasonMirrored)
}

// TestSlowMirrorHoldsNobodyUp: while the layers of one release move by and by, its progress can be read and other releases are
// judged; a copy that is not wanted any more ends.
func TestSlowMirrorHoldsNobodyUp(t *testing.T) {
	m := newMirrorBench(t, registrytest.Options{}, registrytest.Options{})
	base := registrytest.Layer(t, 100_000)
	m.ours.PushLayers("backend", "dev-aaaaaaa", 30_000, base)
	over, reached := make(chan struct{}), make(chan struct{}, 1000)
	t.Cleanup(func() { close(over) })
	m.theirs.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != http.MethodPut || !strings.Contains(q.URL.Path, "/blobs/uploads/") || q.ContentLength < 90_000 {
			return false
		}
		reached <- struct{}{}
		<-over
		return true
	})
	slow := m.version()
	m.report(m.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	m.annotate(slow, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatal("nothing is copied")
	}
	m.ours.Push("backend", "dev-ddddddd")
	other := m.versioned(commitD, "v1.3.1")
	m.rolloutOf(other, "dev")
	m.told(slow, v1alpha1.ConditionMirrored, v1alpha1.ReasonMirroring, "production: ", " of 5 layers, ", " kB of 16")
	m.nothingFor("production")
	m.annotate(slow, v1alpha1.RejectionPrefix+"production", "sirrat:server: not this one")
	m.theirs.Misbehave(nil)
	m.ours.Push("backend", "dev-eeeeeee")
	third := m.versioned(commitE, "v1.3.2")
	m.report(m.rolloutOf(third, "dev"), v1alpha1.RolloutHealthy)
	m.annotate(third, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	m.rolloutOf(third, "production")
	if err := m.c.Get(t.Context(), client.ObjectKeyFromObject(slow), slow); err != nil {
		t.Fatal(err)
	}
	if len(slow.Status.Mirrors) > 0 {
		t.Errorf("a proof of what was never there: %+v", slow.Status.Mirrors)
	}
}

// TestClientSignsForItsOwnRegistry: what the client's signature covers is what its hosts pull, and from where.
func TestClientSignsForItsOwnRegistry(t *testing.T) {
	b := newBench(t)
	theirs := registrytest.Start(t, registrytest.Options{})
	key := b.withClient()
	if err := b.patch(b.environment("production"), fmt.Sprintf(`{"spec":{"registry":{"prefix":%q}}}`, theirs.Host+"/supergest")); err != nil {
		t.Fatal(err)
	}
	text, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	rel := b.inDev(commitA)
	p := b.openPV(rel.Name)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
	b.sign(p, decision(t, p, key, v1alpha1.PVAccepted), v1alpha1.ReasonAccepted)
	ro := b.rollout("production", func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Acceptance == nil {
			return errors.New("without the client's signature")
		}
		return nil
	})
	if image := ro.Spec.Images[0].Image; !strings.HasPrefix(image, theirs.Host+"/supergest/backend@sha256:") {
		t.Errorf("production runs %s", image)
	}
	keys := []envelope.PublicKey{public}
	if _, err := authorization.VerifyAcceptance(t.Context(), ro.Spec, keys); err != nil {
		t.Errorf("a host that demands the client's signature refuses it: %v", err)
	}
	altered := ro.DeepCopy().Spec
	altered.Images[0].Image = strings.Replace(altered.Images[0].Image, theirs.Host, "elsewhere.example", 1)
	if _, err := authorization.VerifyAcceptance(t.Context(), altered, keys); !errors.Is(err, authorization.ErrAcceptanceOther) {
		t.Errorf("the same digest of another registry: %v", err)
	}
}

// TestRegistryOfAnEnvironmentIsValidated: what cannot be a repository is refused when it is declared.
func TestRegistryOfAnEnvironmentIsValidated(t *testing.T) {
	b := newBench(t)
	b.setUp(b.compose())
	for registry, ok := range map[string]bool{
		`{"prefix":"harbor.client.example/supergest"}`:                                                  true,
		`{"prefix":"harbor.client.example"}`:                                                            true,
		`{"prefix":"harbor.client.example:8443/a/b-c"}`:                                                 true,
		`{"prefix":"localhost:5000/supergest"}`:                                                         true,
		`{"prefix":null,"repositories":[{"image":"backend","repository":"10.0.0.7:5000/erp/backend"}]}`: true,
		`{"prefix":"https://harbor.client.example/supergest"}`:                                          false,
		`{"prefix":"supergest"}`:                                                                        false,
		`{"prefix":"harbor.client.example/supergest/"}`:                                                 false,
		`{"prefix":"harbor.client.example/SuperGest"}`:                                                  false,
		`{"prefix":"harbor.client.example/supergest:v1"}`:                                               false,
		`{"prefix":"harbor.client.example/../x"}`:                                                       false,
		`{"prefix":null,"repositories":[{"image":"backend","repository":"harbor.client.example"}]}`:     false,
		`{"prefix":null,"repositories":null,"secretRef":"harbor"}`:                                      false,
	} {
		if err := b.patch(b.environment("production"), `{"spec":{"registry":`+registry+`}}`); (err == nil) != ok {
			t.Errorf("%s: %v", registry, err)
		}
	}
}
