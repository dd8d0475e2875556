// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

func TestTokens(t *testing.T) {
	b, other := newBridge(t, false), newBridge(t, false)
	expired := b.newToken(b.project, time.Now().Add(-time.Minute))
	for _, tc := range []struct {
		name, authorization string
		status              int
	}{
		{"none", "", 401},
		{"no scheme", b.token, 401},
		{"basic", "Basic c2lycmF0Og==", 401},
		{"empty bearer", "Bearer ", 401},
		{"not a token", "Bearer hunter2", 401},
		{"a path in the id", "Bearer sirrat_../../xx_" + strings.Repeat("0", 48), 401},
		{"expired", "Bearer " + expired, 401},
		{"wrong secret", "Bearer " + b.token[:len(b.token)-1] + "z", 403},
		{"another project's", "Bearer " + other.token, 403},
		{"right", "Bearer " + b.token, 404},
		{"right, lower-case scheme", "bearer " + b.token, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := http.Header{}
			if tc.authorization != "" {
				header.Set("Authorization", tc.authorization)
			}
			status, answered, raw := b.send(http.MethodGet, b.gates("commit=abcdef1"), "", "", header)
			if status != tc.status {
				t.Errorf("status %d %s, want %d", status, raw, tc.status)
			}
			if got := answered.Get("WWW-Authenticate"); (got != "") != (status == 401) {
				t.Errorf("WWW-Authenticate %q with status %d", got, status)
			}
		})
	}
	header := http.Header{"Authorization": {"Bearer " + b.token, "Bearer " + b.token}}
	if status, _, _ := b.send(http.MethodGet, b.gates("commit=abcdef1"), "", "", header); status != 401 {
		t.Errorf("two tokens: status %d", status)
	}
}

// Nobody learns from answers or from the work done which projects and tokens exist.
func TestRefusalsAreAlike(t *testing.T) {
	var reads atomic.Int64
	count := func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		reads.Add(1)
		return c.Get(ctx, key, obj, opts...)
	}
	other := newBridge(t, false)
	b := newBridge(t, false, func(o *Options) {
		o.Client = intercept(t, o.Client, interceptor.Funcs{Get: count})
		o.APIReader = intercept(t, o.APIReader.(client.Client), interceptor.Funcs{Get: count})
	})
	type answer struct {
		Status int
		Header http.Header
		Body   string
		Reads  int64
	}
	ask := func(project, token string) answer {
		before := reads.Load()
		status, header, raw := b.send(http.MethodPost, b.url+"/projects/"+project+"/quality-gates/results", token, result(someCommit, ""), nil)
		header.Del("Date")
		return answer{status, header, string(raw), reads.Load() - before}
	}
	want := ask(b.project, b.token[:len(b.token)-1]+"z")
	if want.Status != http.StatusForbidden || want.Reads != 2 {
		t.Errorf("wrong secret: %+v", want)
	}
	for name, got := range map[string]answer{
		"another project's token": ask(b.project, other.token),
		"token on another":        ask(other.project, b.token),
		"unknown project":         ask("no-such-project", b.token),
		"unknown id":              ask(b.project, "sirrat_aaaaaaaa_"+strings.Repeat("0", 48)),
		"system namespace":        ask("kube-system", b.token),
	} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from a wrong secret (-want +got):\n%s", name, diff)
		}
	}
	got := ask("No..Such%2FProject", b.token)
	got.Reads = want.Reads // such a name reaches no API server
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("impossible project differs (-want +got):\n%s", diff)
	}
}

func TestRevocation(t *testing.T) {
	b := newBridge(t, false)
	b.mustPost(b.results()+"?wait=0", result(someCommit, ""), 202)
	id, _ := apitoken.ID(b.token)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.project, Name: apitoken.SecretName(id)}}
	if err := b.direct.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the token to open nothing", func(context.Context) error {
		if status, _ := b.do(http.MethodGet, b.gates("commit="+someCommit), b.token, ""); status != http.StatusForbidden {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
}

// A body without end is not read to its end.
func TestEndlessBody(t *testing.T) {
	b := newBridge(t, false)
	body := &endless{}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, b.results(), body)
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := testClient.Do(req)
	if err == nil { // the server may also have closed the connection while the client was writing
		raw, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		b.wantProblem(resp.StatusCode, raw, http.StatusRequestEntityTooLarge, "")
	}
	if n := body.read.Load(); n > 32<<20 {
		t.Errorf("%d bytes were taken", n)
	}
	// One gigabyte announced: refused before it is sent.
	conn := b.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n",
		strings.TrimPrefix(b.results(), "http://"+conn.RemoteAddr().String()), b.token)
	b.wantRaw(conn, http.StatusRequestEntityTooLarge)
}

type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read.Add(int64(len(p)))
	return len(p), nil
}

func TestTrickledBody(t *testing.T) {
	b := newBridge(t, false, func(o *Options) { o.BodyTimeout = 300 * time.Millisecond })
	for name, head := range map[string]string{
		"with a length": "Content-Length: 100\r\n\r\n{",
		"in chunks":     "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		conn := b.dial()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s",
			strings.TrimPrefix(b.results(), "http://"+conn.RemoteAddr().String()), b.token, head)
		start := time.Now()
		b.wantRaw(conn, http.StatusRequestTimeout)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: after %s", name, d)
		}
	}
}

func (b *bridge) dial() net.Conn {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.Split(b.url, "/")[2])
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(cptest.Deadline))
	return conn
}

func (b *bridge) wantRaw(conn net.Conn, status int) {
	b.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	b.wantProblem(resp.StatusCode, raw, status, "")
	if !resp.Close {
		b.t.Error("the connection stays open")
	}
}

func TestCompressedBody(t *testing.T) {
	b := newBridge(t, false)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.CopyN(z, &endless{}, 10<<20)
	_ = z.Close()
	status, header, raw := b.send(http.MethodPost, b.results(), b.token, bomb.String(), http.Header{"Content-Encoding": {"gzip"}})
	b.wantProblem(status, raw, http.StatusUnsupportedMediaType, "")
	if got := header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("Accept-Encoding %q", got)
	}
}

func TestContentTypeIsNotLookedAt(t *testing.T) {
	b := newBridge(t, false)
	for _, contentType := range []string{"", "application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"} {
		header := http.Header{}
		if contentType != "" {
			header.Set("Content-Type", contentType)
		}
		if status, _, raw := b.send(http.MethodPost, b.results()+"?wait=0", b.token, result(someCommit, ""), header); status != http.StatusAccepted {
			t.Errorf("Content-Type %q: %d %s", contentType, status, raw)
		}
	}
}

func TestCrossSite(t *testing.T) {
	b := newBridge(t, false)
	status, _, raw := b.send(http.MethodPost, b.results(), b.token, result(someCommit, ""), http.Header{"Sec-Fetch-Site": {"cross-site"}})
	b.wantProblem(status, raw, http.StatusForbidden, "")
}

func intercept(t testing.TB, c client.Client, funcs interceptor.Funcs) client.Client {
	t.Helper()
	return interceptor.NewClient(withWatch{c}, funcs)
}

// withWatch lends a client to the interceptor, which wants more of it than this package uses.
type withWatch struct{ client.Client }

func (withWatch) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, errors.New("not watched")
}

// A write that fails is never acknowledged, and the client learns when to come back.
func TestStoreFails(t *testing.T) {
	resource := schema.GroupResource{Group: v1alpha1.Group, Resource: "ciresults"}
	for name, tc := range map[string]struct {
		err        error
		retryAfter string
	}{
		"timeout":            {apierrors.NewTimeoutError("request did not complete", 3), "3"},
		"server timeout":     {apierrors.NewServerTimeout(resource, "create", 4), "4"},
		"too many requests":  {apierrors.NewTooManyRequests("slow down", 7), "7"},
		"database full":      {apierrors.NewInternalError(errors.New("etcdserver: mvcc: database space exceeded")), "2"},
		"deadline":           {context.DeadlineExceeded, "2"},
		"connection refused": {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "2"},
		"forbidden":          {apierrors.NewForbidden(resource, "x", errors.New("no")), "2"},
	} {
		for _, fails := range []string{"*v1alpha1.CIResult", "*v1alpha1.Release"} {
			t.Run(name+" "+fails, func(t *testing.T) {
				b := newBridge(t, false, func(o *Options) {
					o.Client = intercept(t, o.Client, interceptor.Funcs{
						Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
							if fmt.Sprintf("%T", obj) == fails {
								return tc.err
							}
							return c.Create(ctx, obj, opts...)
						}})
				})
				status, header, raw := b.send(http.MethodPost, b.results()+"?wait=0", b.token, result(someCommit, ""), nil)
				b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
				if got := header.Get("Retry-After"); got != tc.retryAfter {
					t.Errorf("Retry-After %q, want %s", got, tc.retryAfter)
				}
			})
		}
	}
}

// The acknowledgement of a write is lost: the next try finds it done, and finishes what is missing.
func TestLostAcknowledgement(t *testing.T) {
	var lose atomic.Bool
	lose.Store(true)
	b := newBridge(t, true, func(o *Options) {
		o.Client = intercept(t, o.Client, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				err := c.Create(ctx, obj, opts...)
				if lose.Swap(false) {
					return apierrors.NewTimeoutError("lost", 1)
				}
				return err
			}})
	})
	status, raw := b.do(http.MethodPost, b.results(), b.token, result(someCommit, ""))
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	b.mustPost(b.results(), result(someCommit, ""), 200)
	if results, releases := b.ciResults(), b.releases(); len(results) != 1 || len(releases) != 1 {
		t.Errorf("%d results and %d releases", len(results), len(releases))
	}
}

// Two runs whose names collide are two results: a pass cannot be made to swallow a failure.
func TestCollidingNames(t *testing.T) {
	b := newBridge(t, false)
	spec := v1alpha1.CIResultSpec{Type: "tests", Status: "passed", Commit: someCommit, ReportHash: reportHash(nil), Received: metav1.Now()}
	failed := spec
	failed.Status = "failed"
	name := func(digits int) string { return someCommit[:7] + "-tests-" + hashOf(runOf(failed))[:digits] }
	spec.Pipeline = "another"
	b.create(&v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: name(10)}, Spec: spec})
	answer := b.mustPost(b.results()+"?wait=0", strings.Replace(result(someCommit, ""), "passed", "failed", 1), 202)
	if answer.Result != name(32) {
		t.Errorf("stored as %s, want %s", answer.Result, name(32))
	}
}

func TestOverload(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 8)
	b := newBridge(t, false, func(o *Options) {
		o.MaxInFlight, o.MaxRequests = 1, 2
		o.APIReader = intercept(t, o.APIReader.(client.Client), interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				held <- struct{}{}
				<-hold
				return c.List(ctx, list, opts...)
			}})
	})
	done := make(chan int, 2)
	get := func() {
		status, _ := b.do(http.MethodGet, b.gates("commit=abcdef1"), b.token, "")
		done <- status
	}
	go get()
	<-held // has the only slot
	go get()
	if status := <-done; status != http.StatusServiceUnavailable { // its turn did not come
		t.Errorf("queued: %d", status)
	}
	go get()
	cptest.Wait(t, "too many requests", func(context.Context) error {
		status, header, _ := b.send(http.MethodGet, b.gates("commit=abcdef1"), b.token, "", nil)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	if status, _ := b.do(http.MethodGet, strings.TrimSuffix(b.url, "/api")+"/healthz", "", ""); status != http.StatusOK {
		t.Errorf("healthz under load: %d", status)
	}
	<-done
	close(hold)
	if status := <-done; status != http.StatusNotFound {
		t.Errorf("the first request: %d", status)
	}
}

func TestPanic(t *testing.T) {
	const canary = "canary-9f8e7d"
	b := newBridge(t, false, func(o *Options) {
		o.Client = intercept(t, o.Client, interceptor.Funcs{
			Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { panic(canary) }})
	})
	status, raw := b.do(http.MethodPost, b.results(), b.token, result(someCommit, ""))
	b.wantProblem(status, raw, http.StatusInternalServerError, "")
	log := b.log.String()
	if !strings.Contains(log, "panic in a request") || !strings.Contains(log, "ensureRelease") && !strings.Contains(log, "storeResult") {
		t.Error("the panic is not in the log with its stack")
	}
	if strings.Contains(log, canary) || strings.Contains(string(raw), canary) {
		t.Error("the panic's value is in the log or the answer")
	}
	if status, _ = b.do(http.MethodGet, b.gates("commit=abcdef1"), b.token, ""); status != http.StatusNotFound {
		t.Errorf("after a panic: %d", status)
	}
}

// What was sent as a secret is in no log line, answer, metric or object.
func TestNoSecretsAnywhere(t *testing.T) {
	b := newBridge(t, true)
	secret := b.token[len("sirrat_aaaaaaaa_"):]
	wrong := b.token[:len(b.token)-1] + "z"
	var seen strings.Builder
	for _, token := range []string{b.token, wrong, b.token + "!"} {
		for _, url := range []string{b.results(), b.deployments(), b.gates("commit=" + someCommit), b.url + "/nowhere"} {
			_, header, raw := b.send(http.MethodPost, url, token, result(someCommit, `"branch":"`+secret+`!"`), nil)
			fmt.Fprint(&seen, header, string(raw))
		}
	}
	b.mustPost(b.results(), result(someCommit, ""), 201)
	_, metrics := b.do(http.MethodGet, strings.TrimSuffix(b.url, "/api")+"/metrics", "", "")
	if !bytes.Contains(metrics, []byte(`sirrat_ci_results_total{repeated="false",status="passed",type="tests"}`)) {
		t.Error("no metric of the results")
	}
	fmt.Fprint(&seen, string(metrics), b.log.String(), b.ciResults(), b.releases())
	if i := strings.Index(seen.String(), secret[:20]); i >= 0 {
		t.Errorf("the token's secret is shown: …%.80s…", seen.String()[max(0, i-60):i])
	}
	if strings.Contains(string(metrics), b.project) {
		t.Error("the metrics name a project")
	}
}
