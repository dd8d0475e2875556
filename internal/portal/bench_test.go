// SPDX-License-Identifier: Apache-2.0

package portal_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
	"gitlab.com/dynors/sirrat/internal/portal"
)

// No controllers run: what they would write is written by the tests.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) })
}

var (
	benches atomic.Int32
	key     = bytes.Repeat([]byte{7}, portal.KeyBytes)
	now     = time.Date(2026, 11, 23, 17, 4, 0, 0, time.UTC)
)

const (
	commitA = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"
	digestA = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

// bench is a project with a release in the middle of the bridge, and a portal on a real server.
type bench struct {
	t       *testing.T
	c       client.Client
	project string
	release *v1alpha1.Release
	links   *portal.Links
	server  *httptest.Server
	log     *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) line(prefix, args string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.WriteString(prefix + " " + args + "\n")
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, project: fmt.Sprintf("supergest-%03d", benches.Add(1)), log: &safeBuffer{}}
	if b.c, err = client.New(cptest.Start(t).Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	b.server = httptest.NewUnstartedServer(nil)
	if b.links, err = portal.NewLinks(key, "http://"+b.server.Listener.Addr().String()+"/"); err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = b.portal(b.c)
	b.server.Start()
	t.Cleanup(b.server.Close)
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.project}})
	b.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{DisplayName: "Supergest",
		Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: "registry.dynors.com/supergest/backend"}}}})
	b.bridge()
	b.release = b.newRelease("r-3f2a9c1")
	t.Cleanup(func() {
		if link := b.links.Of(b.release); strings.Contains(b.log.String(), link[strings.LastIndex(link, "/")+1:]) {
			t.Errorf("a link is in the log:\n%s", b.log)
		}
	})
	return b
}

func (b *bench) portal(reader client.Reader) *portal.Portal {
	b.t.Helper()
	p, err := portal.New(portal.Options{Reader: reader, Links: b.links, Now: func() time.Time { return now }, Log: funcr.New(b.log.line, funcr.Options{Verbosity: 9})})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) create(o client.Object) {
	b.t.Helper()
	if err := b.c.Create(b.t.Context(), o); err != nil {
		b.t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

// status stores what the controllers would write.
func (b *bench) status(o client.Object) {
	b.t.Helper()
	if err := b.c.Status().Update(b.t.Context(), o); err != nil {
		b.t.Fatalf("status of %T %s: %v", o, o.GetName(), err)
	}
}

// bridge declares the gates and environments of the template dynors.
func (b *bench) bridge() {
	b.t.Helper()
	after := ""
	for i, g := range []struct{ gate, environment, mode string }{
		{"ci", "dev", v1alpha1.ModeAutomatic}, {"qa", "rmoa-dynors", v1alpha1.ModeManual},
		{"client", "rmoa-client", v1alpha1.ModeManual}, {"production", "production", v1alpha1.ModeManual},
	} {
		e := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: g.environment, Namespace: b.project}, Spec: v1alpha1.EnvironmentSpec{
			After: after, Compose: v1alpha1.ComposeSource{Inline: "services: {}"},
		}}
		if g.environment != "dev" { // which a pipeline deploys
			e.Spec.Hosts = &metav1.LabelSelector{MatchLabels: map[string]string{"env": g.environment}}
		}
		b.create(e)
		criterion := v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1}}
		if g.mode == v1alpha1.ModeAutomatic {
			criterion = v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}}
		}
		b.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: g.gate, Namespace: b.project}, Spec: v1alpha1.QualityGateSpec{
			Number: int32(i), Environment: g.environment, Mode: g.mode, Criteria: []v1alpha1.Criterion{criterion},
		}})
		after = g.environment
	}
}

// newRelease stores a release that waits at the gate client, after a test in rmoa-dynors.
func (b *bench) newRelease(name string) *v1alpha1.Release {
	b.t.Helper()
	r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.project}, Spec: v1alpha1.ReleaseSpec{Commit: commitA, Branch: "release/2.4", Version: "v2.4.0"}}
	// The admission policies know the kind a moment after it is served.
	cptest.Wait(b.t, "releases to be taken", func(ctx context.Context) error { return b.c.Create(ctx, r) })
	day := now.AddDate(0, 0, -6)
	passed := func(name, reason, message string) v1alpha1.CriterionVerdict {
		return v1alpha1.CriterionVerdict{Name: name, Verdict: v1alpha1.VerdictPassed, Reason: reason, Message: message}
	}
	earliest := metav1.NewTime(now.Add(26 * time.Hour))
	r.Status = v1alpha1.ReleaseStatus{
		Karma: 46, Works: 46, Level: "Repenti", Reached: "rmoa-dynors", Next: "gate client: the client's test lead approves",
		KarmaBreakdown: []v1alpha1.KarmaLine{
			{Name: "tests", Points: 20, Max: 20, Message: "1204 of 1204 passed"}, {Name: "coverage", Points: 15, Max: 15, Message: "coverage 81.5 %, target 80 %"},
			{Name: "scan", Points: 11, Max: 15, Message: "1 high, 1 medium"}, {Name: "crossing", Points: 0, Max: 50, Message: "not in production yet"},
		},
		Gates: []v1alpha1.GateVerdict{
			{Name: "ci", Environment: "dev", Verdict: v1alpha1.VerdictPassed, Message: "every criterion holds", Criteria: []v1alpha1.CriterionVerdict{
				passed("tests", "ResultPassed", "tests passed"), passed("coverage", "CoverageReached", "coverage 81.5 % (coverage) reaches 80 %"),
				passed("scan", "ResultPassed", "scan passed"), passed("images", "Frozen", "every image is pinned to a digest")}},
			{Name: "qa", Number: 1, Environment: "rmoa-dynors", Verdict: v1alpha1.VerdictPassed, Message: "every criterion holds", Criteria: []v1alpha1.CriterionVerdict{
				passed("soak", "Soaked", "soaked in dev for 3d4h"), passed("approval", "Approved", "approved by marie.qa@dynors.com")}},
			{Name: "client", Number: 2, Environment: "rmoa-client", Verdict: v1alpha1.VerdictWaiting, Message: "1 of 2 criteria hold", Earliest: &earliest,
				WaitingFor: []string{"somebody with the role qa approves: kubectl sirrat approve r-3f2a9c1 client"},
				Criteria: []v1alpha1.CriterionVerdict{passed("healthy", "Healthy", "healthy in rmoa-dynors"),
					{Name: "approval", Verdict: v1alpha1.VerdictWaiting, Reason: "QuorumMissing", Message: "approved by marie.qa@dynors.com, 1 of 2",
						Needs: "somebody with the role qa approves: kubectl sirrat approve r-3f2a9c1 client"}}},
			{Name: "production", Number: 3, Environment: "production", Verdict: v1alpha1.VerdictWaiting, Message: "gate client has not opened",
				WaitingFor: []string{"the client signs the PV", "the CTO approves"}, Criteria: []v1alpha1.CriterionVerdict{
					{Name: "soak", Verdict: v1alpha1.VerdictWaiting, Reason: "NotHealthy", Message: "soak of 7d in rmoa-client has not begun", Needs: "the release becomes healthy in rmoa-client"},
					{Name: "pv", Verdict: v1alpha1.VerdictWaiting, Reason: "NoPV", Message: "no PV yet: it is opened when the release is healthy in rmoa-client", Needs: "the client's acceptance opens"},
					{Name: "cto", Verdict: v1alpha1.VerdictWaiting, Reason: "ApprovalMissing", Message: "1 approval(s) needed", Needs: "the CTO approves"}}},
		},
		Environments: []v1alpha1.ReleaseEnvironment{
			{Name: "dev", Phase: v1alpha1.PhaseHealthy, BundleHash: digestA, AuthorizedAt: metav1.NewMicroTime(day), HealthySince: &metav1.Time{Time: day.Add(2 * time.Minute)}},
			{Name: "rmoa-dynors", Phase: v1alpha1.PhaseHealthy, BundleHash: digestA, AuthorizedAt: metav1.NewMicroTime(day.AddDate(0, 0, 4)), HealthySince: &metav1.Time{Time: day.AddDate(0, 0, 4).Add(time.Minute)},
				Message: "canary-message on vps-2.dynors.com"},
		},
		Bundle: &v1alpha1.Bundle{
			Images: []v1alpha1.FrozenImage{{Name: "backend", Repository: "registry.dynors.com/supergest/backend", Digest: digestA},
				{Name: "frontend", Repository: "registry.dynors.com/supergest/frontend", Digest: strings.ReplaceAll(digestA, "1", "2")}},
			Pins: []v1alpha1.PinnedReference{{Reference: "postgres:16", Digest: strings.ReplaceAll(digestA, "1", "3")}},
		},
		Approvals: []v1alpha1.ApprovalRecord{{Gate: "qa", User: "marie.qa@dynors.com", Decision: v1alpha1.DecisionApproved, Time: metav1.NewTime(day)}},
		Conditions: []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, "gate client"), condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWaiting, "canary-stalled"),
			condition(v1alpha1.ConditionFrozen, metav1.ConditionTrue, v1alpha1.ReasonResolved, "canary-frozen"),
			condition(v1alpha1.ConditionTagged, metav1.ConditionFalse, v1alpha1.ReasonRegistryBusy, "rmoa-dynors: registry 10.4.0.7:5000 asks to come back later (https://harbor.dynors.com/v2/?token=canary-token)"),
		},
	}
	b.status(r)
	var e v1alpha1.Environment
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: b.project, Name: "rmoa-dynors"}, &e); err != nil {
		b.t.Fatal(err)
	}
	e.Status = v1alpha1.EnvironmentStatus{HostsMatched: 3, HostsReady: 2, Current: &v1alpha1.EnvironmentRelease{Release: r.Name, UID: string(r.UID), AuthorizedAt: metav1.NewMicroTime(day)},
		Hosts: []v1alpha1.EnvironmentHost{{Name: "vps-2.dynors.com"}}}
	b.status(&e)
	return r
}

func condition(typ string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
}

// answer is what a browser got.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks for an address or a path, in English unless the headers say otherwise.
func (b *bench) get(address string, headers ...string) answer {
	return b.ask(http.MethodGet, address, headers...)
}

func (b *bench) ask(method, address string, headers ...string) answer {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.server.URL + address
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "en")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// change changes the release's status.
func (b *bench) change(f func(*v1alpha1.ReleaseStatus)) {
	b.t.Helper()
	if err := b.c.Get(b.t.Context(), client.ObjectKeyFromObject(b.release), b.release); err != nil {
		b.t.Fatal(err)
	}
	f(&b.release.Status)
	b.status(b.release)
}
