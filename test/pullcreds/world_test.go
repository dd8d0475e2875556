// SPDX-License-Identifier: Apache-2.0

// Package pullcreds plays the life of pull credentials on a real control plane: issuing, delivery, renewal, revocation, and
// what happens when a provider is away or the controllers are killed at the worst moment. Providers are played as their
// documentation describes them.
package pullcreds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
	"gitlab.com/dynors/sirrat/test/testbed"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) })
}

// errKilled is what a write gets that the controllers did not live to make.
var errKilled = errors.New("killed")

// world is a control plane with a clock that moves on demand and a project whose credentials a provider issues.
type world struct {
	*testing.T
	env      *cptest.Env
	c        client.Client
	ahead    atomic.Int64
	run      *controllertest.Running
	log      *testbed.Buffer
	provider *pullcredstest.Provider
	kind     string
	project  string
	// kill, if set, says before which writes the controllers end.
	kill atomic.Pointer[func(client.Object) bool]
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

var projects atomic.Int32

// newWorld starts controllers, a provider and a project; kind is the provider's.
func newWorld(t *testing.T, kind string) *world {
	t.Helper()
	w := &world{T: t, env: cptest.Start(t), kind: kind, log: &testbed.Buffer{}, project: fmt.Sprintf("shop-%d", projects.Add(1))}
	scheme, err := controllers.NewScheme()
	w.must(err)
	w.c, err = client.New(w.env.Config, client.Options{Scheme: scheme})
	w.must(err)
	if kind == v1alpha1.PullProviderHarbor {
		w.provider = pullcredstest.NewHarbor(t, w.now, "shop", "cache")
	} else {
		w.provider = pullcredstest.NewGitLab(t, w.now, "dynors/shop")
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	t.Cleanup(w.clear)
	w.declare()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) start() {
	w.Helper()
	check := func(o client.Object) error {
		if kill := w.kill.Load(); kill != nil && (*kill)(o) {
			return errKilled
		}
		return nil
	}
	run, err := controllertest.Start(context.Background(), w.env, controllertest.Options{
		Now: w.now,
		Log: funcr.New(func(prefix, args string) { fmt.Fprintln(w.log, prefix, args) }, funcr.Options{Verbosity: 5}),
		Faults: &interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if err := check(o); err != nil {
					return err
				}
				return c.Create(ctx, o, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				if err := check(o); err != nil {
					return err
				}
				return c.Update(ctx, o, opts...)
			},
		},
	})
	w.must(err)
	w.run = run
}

func (w *world) stop() {
	w.Helper()
	if w.run == nil {
		return
	}
	if err := w.run.Stop(); err != nil {
		w.Errorf("stop the controllers: %v", err)
	}
	w.run = nil
}

// restart ends the controllers, if they run, and starts them again without faults.
func (w *world) restart() {
	w.Helper()
	w.stop()
	w.kill.Store(nil)
	w.start()
}

// clear deletes the project and its hosts before the controllers stop: other tests' controllers would find them.
func (w *world) clear() {
	ctx := context.Background()
	w.kill.Store(nil)
	if w.run == nil {
		w.start()
	}
	w.provider.Misbehave(nil)
	objects := []client.Object{&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}}
	for _, name := range []string{"a", "b"} {
		objects = append(objects, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: w.host(name)}})
	}
	for _, o := range objects {
		if err := w.c.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			w.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*cptest.Deadline) // the test's own context is over
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, o := range objects {
		for {
			err := w.c.Get(ctx, client.ObjectKeyFromObject(o), o)
			if apierrors.IsNotFound(err) {
				break
			}
			select {
			case <-ctx.Done():
				w.Errorf("%T %s is still there: %v", o, o.GetName(), err)
				return
			case <-tick.C:
			}
		}
	}
}

func (w *world) host(name string) string { return w.project + "-" + name }

func (w *world) create(o client.Object) {
	w.Helper()
	if err := w.c.Create(w.Context(), o); err != nil {
		w.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

// repository is where the project's image is.
func (w *world) repository() string {
	if w.kind == v1alpha1.PullProviderHarbor {
		return w.provider.Host() + "/shop/api"
	}
	return w.provider.Host() + "/dynors/shop/api"
}

func (w *world) credentials() *v1alpha1.PullCredentials {
	p := &v1alpha1.PullCredentials{Provider: w.kind}
	if w.kind == v1alpha1.PullProviderHarbor {
		p.Harbor = &v1alpha1.HarborPullCredentials{URL: w.provider.URL, SecretRef: "issuer"}
	} else {
		p.GitLab = &v1alpha1.GitLabPullCredentials{URL: w.provider.URL, Project: "dynors/shop", TokenSecretRef: "issuer"}
	}
	p.Lifetime.Duration = 24 * time.Hour
	return p
}

// declare makes the project with two environments, without hosts.
func (w *world) declare() {
	w.Helper()
	p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}, Spec: v1alpha1.ProjectSpec{
		Images:            []v1alpha1.ProjectImage{{Name: "api", Repository: w.repository()}},
		RegistrySecretRef: "registry", PullCredentials: w.credentials(),
	}}
	w.create(p)
	cptest.Wait(w.T, "the project's namespace", func(ctx context.Context) error {
		return w.c.Get(ctx, client.ObjectKey{Name: w.project}, &corev1.Namespace{})
	})
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "issuer", Namespace: w.project}, Data: map[string][]byte{
		"username": []byte(pullcredstest.Username), "password": []byte(pullcredstest.Password), "token": []byte(pullcredstest.Password), "ca.crt": w.provider.CA(),
	}})
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: w.project}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: w.ownConfig(), "ca.crt": w.provider.CA(),
	}})
	for _, name := range []string{"dev", "production"} {
		w.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.project}, Spec: v1alpha1.EnvironmentSpec{
			Hosts:   &metav1.LabelSelector{MatchLabels: map[string]string{"of": w.project}},
			Compose: v1alpha1.ComposeSource{Inline: fmt.Sprintf("services: {web: {image: %s}}", w.repository())},
		}})
	}
	w.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: w.project}, Spec: v1alpha1.QualityGateSpec{
		Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "images", Images: &v1alpha1.ImagesCriterion{}}},
	}})
}

// ownConfig is the project's own account, which may write.
func (w *world) ownConfig() []byte {
	return fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, w.provider.Host(), pullcredstest.Username, pullcredstest.Password)
}

// join makes a host that is enrolled.
func (w *world) join(name string) *v1alpha1.Host {
	w.Helper()
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: w.host(name), Labels: map[string]string{"of": w.project}},
		Spec: v1alpha1.HostSpec{Projects: []string{w.project}}}
	w.create(h)
	cptest.Wait(w.T, "host to be enrolled", func(ctx context.Context) error {
		if err := w.c.Get(ctx, client.ObjectKeyFromObject(h), h); err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(h.Status.Conditions, v1alpha1.ConditionEnrolled) {
			return nil
		}
		h.Status.EnrolledBy = "test"
		if err := w.c.Status().Update(ctx, h); err != nil {
			return err
		}
		return fmt.Errorf("conditions %+v", h.Status.Conditions)
	})
	return h
}

// move moves the clock and has the controllers look.
func (w *world) move(by time.Duration) {
	w.Helper()
	w.ahead.Add(int64(by))
	w.poke()
}

func (w *world) poke() {
	w.Helper()
	w.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: w.project}}, `{"metadata":{"annotations":{"poke":"`+fmt.Sprint(time.Now().UnixNano())+`"}}}`)
}

func (w *world) patch(o client.Object, text string) {
	w.Helper()
	w.must(w.c.Patch(w.Context(), o, client.RawPatch("application/merge-patch+json", []byte(text))))
}

// login is what a Secret lets its reader log in as.
type login struct{ Username, Password string }

// logins are what was delivered, by "<host>/<environment>".
func (w *world) logins() map[string]login {
	w.Helper()
	var list corev1.SecretList
	w.must(w.c.List(w.Context(), &list, client.MatchingLabels{v1alpha1.LabelProject: w.project}, client.HasLabels{v1alpha1.LabelPullCredential}))
	out := map[string]login{}
	for _, s := range list.Items {
		var config struct{ Auths map[string]login }
		w.must(json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config))
		if s.Type != corev1.SecretTypeDockerConfigJson || len(config.Auths) > 1 {
			w.Errorf("Secret %s is of type %s with %d registries", s.Name, s.Type, len(config.Auths))
		}
		name := strings.TrimPrefix(s.Namespace, v1alpha1.HostNamespacePrefix+w.project+"-")
		out[name+"/"+s.Labels[v1alpha1.LabelEnvironment]] = config.Auths[w.provider.Host()]
	}
	return out
}

// served waits until each of these has a live credential that nobody else has.
func (w *world) served(targets ...string) map[string]login {
	w.Helper()
	var got map[string]login
	slices.Sort(targets)
	cptest.Wait(w.T, "credentials for "+strings.Join(targets, ", "), func(context.Context) error {
		got = w.logins()
		var names []string
		seen := map[login]bool{}
		for name, l := range got {
			names = append(names, name)
			if !w.provider.Takes(l.Username, l.Password) {
				return fmt.Errorf("%s has no live credential", name)
			}
			if seen[l] {
				return fmt.Errorf("%s shares its credential", name)
			}
			seen[l] = true
		}
		slices.Sort(names)
		if !slices.Equal(names, targets) {
			return fmt.Errorf("delivered to %v; %s", names, w.conditions())
		}
		return nil
	})
	return got
}

// renewed waits until everybody has another live credential than before: one that was made is delivered a moment later.
func (w *world) renewed(before map[string]login) {
	w.Helper()
	cptest.Wait(w.T, "other credentials", func(context.Context) error {
		got := w.logins()
		for name, old := range before {
			if l := got[name]; l == old || !w.provider.Takes(l.Username, l.Password) {
				return fmt.Errorf("%s has no other", name)
			}
		}
		return nil
	})
}

// kept waits until the provider has so many credentials that are not deleted.
func (w *world) kept(want int) {
	w.Helper()
	cptest.Wait(w.T, fmt.Sprintf("the provider to have %d credentials", want), func(context.Context) error {
		if got := w.provider.Kept(); len(got) != want {
			return fmt.Errorf("it has %d; %s", len(got), w.conditions())
		}
		return nil
	})
}

func (w *world) conditions() string {
	var list v1alpha1.EnvironmentList
	if err := w.c.List(context.Background(), &list, client.InNamespace(w.project)); err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range list.Items {
		out = append(out, fmt.Sprintf("%s: %+v", e.Name, meta.FindStatusCondition(e.Status.Conditions, v1alpha1.ConditionPullCredentials)))
	}
	return strings.Join(out, "; ")
}

// told waits for an environment's condition with a reason and texts.
func (w *world) told(environment string, status metav1.ConditionStatus, reason string, texts ...string) {
	w.Helper()
	cptest.Wait(w.T, fmt.Sprintf("%s to be %s for the reason %s", environment, status, reason), func(ctx context.Context) error {
		var e v1alpha1.Environment
		if err := w.c.Get(ctx, client.ObjectKey{Namespace: w.project, Name: environment}, &e); err != nil {
			return err
		}
		c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.ConditionPullCredentials)
		if c == nil || c.Status != status || c.Reason != reason {
			return fmt.Errorf("%+v", c)
		}
		for _, text := range texts {
			if !strings.Contains(c.Message, text) {
				return fmt.Errorf("%q does not say %q", c.Message, text)
			}
		}
		return nil
	})
}

// agent is a client with the rights of a host's agent.
func (w *world) agent(h *v1alpha1.Host) client.Client {
	w.Helper()
	cfg := rest.CopyConfig(w.env.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: v1alpha1.AgentUser(h.Name, string(h.UID)), Groups: []string{v1alpha1.AgentGroup}}
	c, err := client.New(cfg, client.Options{Scheme: w.c.Scheme()})
	w.must(err)
	return c
}

// discreet looks for passwords in everything that people and programs read, Secrets apart.
func (w *world) discreet() {
	w.Helper()
	passwords := []string{pullcredstest.Password}
	for _, c := range w.provider.Made() {
		passwords = append(passwords, c.Password)
	}
	if len(passwords) < 2 {
		w.Error("no credential was ever issued")
	}
	look := func(where, text string) {
		w.Helper()
		for _, p := range passwords {
			if strings.Contains(text, p) {
				w.Errorf("a password is in %s", where)
				return
			}
		}
	}
	for _, list := range []client.ObjectList{
		&v1alpha1.ProjectList{}, &v1alpha1.EnvironmentList{}, &v1alpha1.ReleaseList{}, &v1alpha1.RolloutList{}, &v1alpha1.HostList{},
		&corev1.EventList{}, &corev1.ConfigMapList{},
	} {
		w.must(w.c.List(w.Context(), list))
		text, err := json.Marshal(list)
		w.must(err)
		look(fmt.Sprintf("%T", list), string(text))
	}
	var secrets corev1.SecretList
	w.must(w.c.List(w.Context(), &secrets))
	for _, s := range secrets.Items {
		text, err := json.Marshal(s.ObjectMeta)
		w.must(err)
		look("the metadata of Secret "+s.Name, string(text))
	}
	if w.log.String() == "" {
		w.Error("the controllers said nothing at all")
	}
	look("the log", w.log.String())
	families, err := metrics.Registry.Gather()
	w.must(err)
	for _, f := range families {
		look("metric "+f.GetName(), f.String())
	}
	w.must(filepath.WalkDir(filepath.Join(w.env.DataDir, "archive"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		look("the journal and archive: "+d.Name(), string(text))
		return err
	}))
}
