// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// plugin is the name under which the test's own binary is kubectl-sirrat.
const plugin = "kubectl-sirrat"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == plugin {
		os.Exit(cli.Main(context.Background(), cli.Process(), os.Args[1:]))
	}
	ctrllog.SetLogger(logr.Discard())
	crds, err := fs.Sub(config.FS, "crd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cptest.Main(m, cptest.Install(crds))
}

// plane is what the tests of this process share: one cache and client on the control plane, and the stand-in controller.
type plane struct {
	env    *cptest.Env
	cache  cache.Cache
	client client.Client // reads from the cache, as in production
	direct client.Client
	judged sync.Map // namespaces in which the stand-in judges
	log    *logBuffer
}

var (
	planeOnce sync.Once
	thePlane  *plane
	planeErr  error
)

func startPlane(t testing.TB) *plane {
	t.Helper()
	env := cptest.Start(t)
	planeOnce.Do(func() { thePlane, planeErr = newPlane(env) })
	if planeErr != nil {
		t.Fatal(planeErr)
	}
	return thePlane
}

func newPlane(env *cptest.Env) (*plane, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	p := &plane{env: env, log: &logBuffer{}}
	var err error
	if p.cache, err = cache.New(env.Config, cache.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if p.client, err = client.New(env.Config, client.Options{Scheme: scheme, Cache: &client.CacheOptions{Reader: p.cache}}); err != nil {
		return nil, err
	}
	if p.direct, err = client.New(env.Config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	go func() { _ = p.cache.Start(context.Background()) }() // ends with the process
	return p, p.startJudge()
}

// startJudge runs a stand-in for the controllers: in the namespaces of p.judged, a Release's evidence is every CIResult of its
// commit, the gate ci passes when all passed, and qa waits. Deployments are recorded.
func (p *plane) startJudge() error {
	type job struct{ namespace, commit string }
	jobs := make(chan job, 100_000)
	enqueue := func(obj any) {
		switch o := obj.(type) {
		case *v1alpha1.Release:
			jobs <- job{o.Namespace, o.Spec.Commit}
		case *v1alpha1.CIResult:
			jobs <- job{o.Namespace, o.Spec.Commit}
		}
	}
	for _, kind := range []client.Object{&v1alpha1.Release{}, &v1alpha1.CIResult{}} {
		informer, err := p.cache.GetInformer(context.Background(), kind)
		if err != nil {
			return err
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: enqueue}); err != nil {
			return err
		}
	}
	go func() {
		for j := range jobs {
			if _, ok := p.judged.Load(j.namespace); ok {
				_ = retry.RetryOnConflict(retry.DefaultRetry, func() error { return p.judge(j.namespace, j.commit) })
			}
		}
	}()
	return nil
}

func (p *plane) judge(namespace, commit string) error {
	ctx := context.Background()
	var results v1alpha1.CIResultList
	if err := p.direct.List(ctx, &results, client.InNamespace(namespace)); err != nil {
		return err
	}
	var names []string
	var counted []v1alpha1.CIResult
	verdict := v1alpha1.VerdictPassed
	for i := range results.Items {
		r := &results.Items[i]
		if r.Spec.Commit != commit {
			continue
		}
		if r.Spec.Type == v1alpha1.TypeDeployment {
			r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCounted, LastTransitionTime: metav1.Now()}}
			if err := p.direct.Status().Update(ctx, r); err != nil {
				return err
			}
			continue
		}
		names, counted = append(names, r.Name), append(counted, *r)
	}
	for _, r := range evidence.Reduce(counted).Results {
		if r.Status != v1alpha1.StatusPassed {
			verdict = v1alpha1.VerdictRefused
		}
	}
	var releases v1alpha1.ReleaseList
	if err := p.direct.List(ctx, &releases, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range releases.Items {
		r := &releases.Items[i]
		if r.Spec.Commit != commit || len(names) == 0 {
			continue
		}
		r.Status.Evidence, r.Status.Karma, r.Status.Works, r.Status.Level, r.Status.Next = names, 35, 35, "Pécheur", "waits for QA"
		r.Status.Gates = []v1alpha1.GateVerdict{
			{Name: "qa", Number: 1, Environment: "rmoa-dynors", Verdict: v1alpha1.VerdictWaiting, WaitingFor: []string{"approval by QA"}},
			{Name: "ci", Number: 0, Environment: "dev", Verdict: verdict, Message: "judged"},
		}
		if err := p.direct.Status().Update(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// bridge is one project with its API server, in a namespace of its own.
type bridge struct {
	*plane
	t       testing.TB
	url     string
	project string
	token   string
	api     *api
}

// newBridge starts an API; options may change what it runs with. judged turns the stand-in controller on.
func newBridge(t testing.TB, judged bool, options ...func(*Options)) *bridge {
	t.Helper()
	p := startPlane(t)
	b := &bridge{plane: p, t: t, project: p.env.Namespace(t)}
	if judged {
		p.judged.Store(b.project, true)
	}
	b.token = b.newToken(b.project, time.Time{})
	for _, gate := range []v1alpha1.QualityGate{
		{ObjectMeta: metav1.ObjectMeta{Name: "ci"}, Spec: v1alpha1.QualityGateSpec{Number: 0, Environment: "dev", Mode: v1alpha1.ModeAutomatic,
			Criteria: []v1alpha1.Criterion{{Name: "tests", Result: &v1alpha1.ResultCriterion{Type: "tests"}}, {Name: "lint", Result: &v1alpha1.ResultCriterion{Type: "lint"}}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "qa"}, Spec: v1alpha1.QualityGateSpec{Number: 1, Environment: "rmoa-dynors", Mode: v1alpha1.ModeManual,
			Criteria: []v1alpha1.Criterion{{Name: "qa", Approval: &v1alpha1.ApprovalCriterion{}}}}},
	} {
		b.create(&gate)
	}
	b.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev"},
		Spec: v1alpha1.EnvironmentSpec{Rollout: v1alpha1.RolloutStrategy{Timeout: metav1.Duration{Duration: time.Minute}}}})
	cptest.Wait(t, "the cache to have the gates", func(ctx context.Context) error {
		return p.client.Get(ctx, client.ObjectKey{Namespace: b.project, Name: "qa"}, &v1alpha1.QualityGate{})
	})

	o := Options{Client: p.client, APIReader: p.direct, Cache: p.cache, Wait: MaxWait, Log: funcr.New(p.log.write, funcr.Options{Verbosity: 9})}
	for _, change := range options {
		change(&o)
	}
	handler, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config = NewServer(handler, "")
	server.Start()
	t.Cleanup(server.Close)
	b.url, b.api = server.URL+"/api", handler.(*api)
	cptest.Wait(t, "the API to be ready", func(ctx context.Context) error {
		if status, body := b.do(http.MethodGet, server.URL+"/readyz", "", ""); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	return b
}

func (b *bridge) create(obj client.Object) {
	b.t.Helper()
	obj.SetNamespace(b.project)
	if err := b.direct.Create(b.t.Context(), obj); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bridge) newToken(project string, expires time.Time) string {
	b.t.Helper()
	plaintext, secret, err := apitoken.New(project, "test", expires)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.direct.Create(b.t.Context(), secret); err != nil {
		b.t.Fatal(err)
	}
	return plaintext
}

func (b *bridge) do(method, url, token, body string) (int, []byte) {
	b.t.Helper()
	status, _, answer := b.send(method, url, token, body, nil)
	return status, answer
}

func (b *bridge) send(method, url, token, body string, header http.Header) (int, http.Header, []byte) {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, reader)
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := testClient.Do(req)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, url, err)
		return 0, nil, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, resp.Header, answer
}

var testClient = &http.Client{Timeout: 90 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func (b *bridge) results() string     { return b.url + "/projects/" + b.project + "/quality-gates/results" }
func (b *bridge) deployments() string { return b.url + "/projects/" + b.project + "/deployments" }
func (b *bridge) gates(query string) string {
	return b.url + "/projects/" + b.project + "/quality-gates?" + query
}

// post reports with the project's token and decodes the answer.
func (b *bridge) post(url, body string) (int, Answer, []byte) {
	b.t.Helper()
	status, raw := b.do(http.MethodPost, url, b.token, body)
	var answer Answer
	if err := json.Unmarshal(raw, &answer); err != nil {
		b.t.Errorf("answer %q: %v", raw, err)
	}
	return status, answer, raw
}

func (b *bridge) mustPost(url, body string, want int) Answer {
	b.t.Helper()
	status, answer, raw := b.post(url, body)
	if status != want {
		b.t.Fatalf("POST %s: %d %s, want %d", body, status, raw, want)
	}
	return answer
}

// wantProblem checks that an answer is a problem with this status that names this field.
func (b *bridge) wantProblem(status int, raw []byte, wantStatus int, field string) Problem {
	b.t.Helper()
	var p Problem
	if err := json.Unmarshal(raw, &p); err != nil {
		b.t.Fatalf("answer %d %q: %v", status, raw, err)
	}
	if status != wantStatus || p.Status != wantStatus || p.Field != field || p.Type == "" || p.Title == "" || p.Detail == "" {
		b.t.Errorf("answer %d %s, want a problem with status %d and field %q", status, raw, wantStatus, field)
	}
	return p
}

func (b *bridge) ciResults() []v1alpha1.CIResult {
	b.t.Helper()
	var list v1alpha1.CIResultList
	if err := b.direct.List(context.Background(), &list, client.InNamespace(b.project)); err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

func (b *bridge) releases() []v1alpha1.Release {
	b.t.Helper()
	var list v1alpha1.ReleaseList
	if err := b.direct.List(context.Background(), &list, client.InNamespace(b.project)); err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

// logBuffer keeps every log line of every API of this process.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) write(prefix, args string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.buf, prefix, args)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
