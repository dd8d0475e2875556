// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// The bridge of the model: dev opens by itself, staging and production take people.
const (
	project    = "model"
	dev        = "dev"
	staging    = "staging"
	production = "production"

	developer = "dev@dynors.com"
	qa        = "qa@dynors.com"
	cto       = "cto@dynors.com"
	second    = "cto2@dynors.com"

	soakMin, soakMax = 24 * time.Hour, 48 * time.Hour
	maxAge           = 400 * time.Hour
)

var (
	environments = []string{dev, staging, production}
	gateOf       = map[string]string{dev: "ci", staging: "qa", production: "production"}
	before       = map[string]string{staging: dev, production: staging}
)

// clock is the controllers' time: it moves between steps only.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0).UTC() }

// world is the real control plane, the people around it, and what the model believes of both.
type world struct {
	t       *testing.T
	env     *cptest.Env
	seed    uint64
	rng     *rand.Rand
	clock   clock
	run     *controllertest.Running
	faults  atomic.Int64 // of a hundred writes of the controllers, how many fail
	clients map[string]client.Client
	key     crypto.Signer // the client's
	forged  crypto.Signer // somebody's
	host    *v1alpha1.Host
	repo    string

	serial    int
	steps     int
	kind      bool // everybody helps the favourite release
	favourite string
	state     state
	history   []moment // states by time, oldest first
	seen      map[string]bool
	done      map[string]int // actions by name, for the report
	sent      map[string]int // Rollouts by environment
}

// moment is a state that began at a time.
type moment struct {
	at    time.Time
	step  int
	what  string
	state state
}

func newWorld(t *testing.T, env *cptest.Env, seed uint64) *world {
	w := &world{t: t, env: env, seed: seed, rng: rand.New(rand.NewPCG(seed, seed)), clients: map[string]client.Client{}, seen: map[string]bool{}, done: map[string]int{}, sent: map[string]int{}}
	// Whole seconds from the real time on: certificates and tokens are checked against the real clock.
	w.clock.seconds.Store(time.Now().Unix())
	w.state = newState()
	for _, user := range []string{developer, qa, cto, second} {
		w.clients[user] = w.clientFor(env.User(t, user))
	}
	w.clients[""] = w.clientFor(env.Config)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	w.must(err)
	w.repo = u.Host + "/backend"
	w.start()
	t.Cleanup(func() {
		if err := w.run.Stop(); err != nil {
			t.Errorf("stop the controllers: %v", err)
		}
	})
	w.declare()
	return w
}

func (w *world) clientFor(cfg *rest.Config) client.Client {
	scheme, err := controllers.NewScheme()
	w.must(err)
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	w.must(err)
	return c
}

func (w *world) admin() client.Client { return w.clients[""] }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fail("%v", err)
	}
}

// fail ends the story. What went wrong is said last, where cut logs still have it.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Logf("the end of the story:\n%s", w.trace())
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

// keptMoments is how much of the story is told when it fails.
const keptMoments = 250

// trace is the end of the story, to replay a failure by hand.
func (w *world) trace() string {
	var lines []string
	for _, m := range w.history[max(0, len(w.history)-keptMoments):] {
		lines = append(lines, fmt.Sprintf("%4d %s %s", m.step, m.at.Format(time.RFC3339), m.what))
	}
	return strings.Join(lines, "\n")
}

// start starts the controllers, with writes that fail now and then: in conflict, or done but not acknowledged.
func (w *world) start() {
	fail := func(write func() error) error {
		n := w.faults.Load()
		if n == 0 || rand.Int64N(100) >= n {
			return write()
		}
		if rand.IntN(2) == 0 {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("any").GroupResource(), "any", errors.New("fault"))
		}
		if err := write(); err != nil {
			return err
		}
		return apierrors.NewTimeoutError("the answer was lost", 0)
	}
	run, err := controllertest.Start(context.Background(), w.env, controllertest.Options{Now: w.clock.now, Faults: &interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return fail(func() error { return c.Create(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return fail(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return fail(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return fail(func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	}})
	w.must(err)
	w.run = run
}

// declare makes the project, its bridge and its host.
func (w *world) declare() {
	var public []byte
	var err error
	w.key, _, public, err = envelope.GenerateKey()
	w.must(err)
	w.forged, _, _, err = envelope.GenerateKey()
	w.must(err)
	w.must(w.admin().Create(w.t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: project}, Spec: v1alpha1.ProjectSpec{
		Images:  []v1alpha1.ProjectImage{{Name: "backend", Repository: w.repo}},
		Client:  v1alpha1.Client{Name: "Client", PublicKeys: []string{string(public)}},
		Members: v1alpha1.Members{Developer: []string{developer}, QA: []string{qa}, CTO: []string{cto, second}},
	}}))
	w.wait("the project to be ready", func(ctx context.Context) error {
		var p v1alpha1.Project
		if err := w.admin().Get(ctx, client.ObjectKey{Name: project}, &p); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("%+v", p.Status.Conditions)
		}
		return nil
	})
	labels := map[string]string{"model": "true"}
	w.host = &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "model-host", Labels: labels}, Spec: v1alpha1.HostSpec{Projects: []string{project}}}
	w.must(w.admin().Create(w.t.Context(), w.host))
	w.wait("the host to be enrolled", func(ctx context.Context) error {
		if err := w.admin().Get(ctx, client.ObjectKeyFromObject(w.host), w.host); err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(w.host.Status.Conditions, v1alpha1.ConditionEnrolled) {
			return nil
		}
		w.host.Status.EnrolledBy = "model"
		return errors.Join(errors.New("not yet"), w.admin().Status().Update(ctx, w.host))
	})
	for _, e := range environments {
		env := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: e, Namespace: project}, Spec: v1alpha1.EnvironmentSpec{
			After: before[e], Hosts: &metav1.LabelSelector{MatchLabels: labels},
			Compose: v1alpha1.ComposeSource{Inline: w.compose(0)}, Values: map[string]string{"MARK": "0"},
		}}
		w.must(w.admin().Create(w.t.Context(), env))
	}
	none := int32(0)
	approval := &v1alpha1.ApprovalCriterion{Minimum: 1}
	soak := func(e string) *v1alpha1.SoakCriterion {
		return &v1alpha1.SoakCriterion{Environment: e, Min: metav1.Duration{Duration: soakMin}, Max: metav1.Duration{Duration: soakMax}}
	}
	w.gate(0, dev, v1alpha1.ModeAutomatic,
		v1alpha1.Criterion{Name: "tests", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeTests}},
		v1alpha1.Criterion{Name: "coverage", Coverage: &v1alpha1.CoverageCriterion{Minimum: 80}},
		v1alpha1.Criterion{Name: "scan", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeScan, MaxCritical: &none}},
		v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}})
	w.gate(1, staging, v1alpha1.ModeManual,
		v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: dev}},
		v1alpha1.Criterion{Name: "soak", Soak: soak(dev)},
		v1alpha1.Criterion{Name: "fresh", Freshness: &v1alpha1.FreshnessCriterion{MaxAge: metav1.Duration{Duration: maxAge}}},
		v1alpha1.Criterion{Name: "approval", Approval: approval})
	w.gate(2, production, v1alpha1.ModeManual,
		v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: staging}},
		v1alpha1.Criterion{Name: "soak", Soak: soak(staging)},
		v1alpha1.Criterion{Name: "pv", PV: &v1alpha1.PVCriterion{}},
		v1alpha1.Criterion{Name: "branch", CEL: &v1alpha1.CELCriterion{Expression: "release.branch == 'main' && results.tests.status == 'passed'"}},
		v1alpha1.Criterion{Name: "cto", Approval: approval})
}

func (w *world) gate(number int32, environment, mode string, criteria ...v1alpha1.Criterion) {
	w.must(w.admin().Create(w.t.Context(), &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: gateOf[environment], Namespace: project},
		Spec: v1alpha1.QualityGateSpec{Number: number, Environment: environment, Mode: mode, Criteria: criteria}}))
}

// compose is a file that says which edition it is.
func (w *world) compose(edition int) string {
	return fmt.Sprintf("services:\n  web:\n    image: %s\n    environment: {MARK: \"${MARK}\", EDITION: \"%d\"}\n", w.repo, edition)
}

func (w *world) wait(what string, check func(context.Context) error) {
	w.t.Helper()
	var last error
	cptest.Wait(w.t, what, func(ctx context.Context) error {
		err := check(ctx)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if ctx.Err() != nil {
			w.t.Logf("last seen: %v\n%s", last, w.trace())
		}
		return err
	})
}

// settle waits until the controllers' cache has an object at least as new as it was written: what they judge from then on,
// they judge knowing it.
func (w *world) settle(o client.Object) {
	w.t.Helper()
	w.wait("the cache to have "+o.GetName(), func(ctx context.Context) error {
		got := o.DeepCopyObject().(client.Object)
		err := w.run.Manager.GetCache().Get(ctx, client.ObjectKeyFromObject(o), got)
		if err != nil {
			return err
		}
		if newer(o.GetResourceVersion(), got.GetResourceVersion()) {
			return fmt.Errorf("at %s, want %s", got.GetResourceVersion(), o.GetResourceVersion())
		}
		return nil
	})
}

func newer(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

func (w *world) push(tag string) string {
	img, err := random.Image(64, 1)
	w.must(err)
	ref, err := name.NewTag(w.repo + ":" + tag)
	w.must(err)
	w.must(remote.Write(ref, img))
	digest, err := img.Digest()
	w.must(err)
	return digest.String()
}

func (w *world) object(release string) *v1alpha1.Release {
	w.t.Helper()
	var r v1alpha1.Release
	w.must(w.admin().Get(w.t.Context(), client.ObjectKey{Namespace: project, Name: release}, &r))
	return &r
}

// annotate changes one annotation of a release as somebody; "" removes it.
func (w *world) annotate(user, release, key, value string) error {
	text := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		text = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: release}}
	if err := w.clients[user].Patch(w.t.Context(), r, client.RawPatch("application/merge-patch+json", []byte(text))); err != nil {
		return err
	}
	w.settle(r)
	return nil
}

// names of the releases that exist, in order.
func (w *world) names() []string { return slices.Sorted(maps.Keys(w.state.releases)) }

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }
