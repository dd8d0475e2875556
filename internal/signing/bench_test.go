// SPDX-License-Identifier: Apache-2.0

package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/install"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
	"gitlab.com/dynors/sirrat/internal/signing"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) },
		func(_ context.Context, e *cptest.Env) error {
			_, err := controllertest.Start(ctx, e, controllertest.Options{})
			return err
		})
}

const (
	alice = "Alice Martin"
	bob   = "Bob Durand"
)

var benches atomic.Int32

// bench is a project with two signatories, and a signing page on a real server.
type bench struct {
	t       *testing.T
	c       client.WithWatch
	project string
	options signing.Options
	page    *signing.Page
	server  *httptest.Server
	mail    *mailbox
	clock   *clock
	log     *safeBuffer
}

// clock is the page's; the controllers go by the real one.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

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

// mailbox is a mail server that can be down.
type mailbox struct {
	mu   sync.Mutex
	down bool
	got  []signing.Message
}

func (m *mailbox) Send(_ context.Context, msg signing.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errors.New("450 <" + msg.To + ">: try later")
	}
	m.got = append(m.got, msg)
	return nil
}

func (m *mailbox) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *mailbox) all() []signing.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]signing.Message(nil), m.got...)
}

var (
	linkPattern = regexp.MustCompile(`http://\S+/pv/([A-Za-z0-9_-]{43})\b`)
	codePattern = regexp.MustCompile(`\b(\d{4}) (\d{4})\b`)
)

func newBench(t *testing.T) *bench {
	t.Helper()
	env := cptest.Start(t)
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, project: fmt.Sprintf("sign%d", benches.Add(1)), mail: &mailbox{}, clock: &clock{}, log: &safeBuffer{}}
	if b.c, err = client.NewWithWatch(env.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	b.server = httptest.NewUnstartedServer(nil)
	b.options = signing.Options{
		Client: b.c, APIReader: b.c, Signer: b.installationKey(), Mail: b.mail, PDF: pdf.Of, Now: b.clock.now,
		BaseURL: "http://" + b.server.Listener.Addr().String(), Log: funcr.New(b.log.line, funcr.Options{Verbosity: 9}),
	}
	if b.page, err = signing.New(b.options); err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = b.page
	b.server.Start()
	t.Cleanup(b.server.Close)
	t.Cleanup(b.checkNothingTold)
	b.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		DisplayName: "Supergest", Maven: []string{"com.dynors:core"}, Client: v1alpha1.Client{Name: "Client SARL", Signatories: []v1alpha1.Signatory{
			{Name: alice, Email: "alice.martin@client.example"}, {Name: bob, Email: "bob.durand@client.example"}, {Name: "Sans Adresse"},
		}},
	}})
	cptest.Wait(t, "the project", func(ctx context.Context) error {
		var p v1alpha1.Project
		if err := b.c.Get(ctx, client.ObjectKey{Name: b.project}, &p); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("conditions %+v", p.Status.Conditions)
		}
		return nil
	})
	return b
}

// installationKey is the key that the controllers made and trust.
func (b *bench) installationKey() crypto.Signer {
	b.t.Helper()
	var s corev1.Secret
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "authorization-key"}, &s); err != nil {
		b.t.Fatal(err)
	}
	key, err := envelope.ParsePrivateKey(s.Data["private.pem"])
	if err != nil {
		b.t.Fatal(err)
	}
	return key
}

// checkNothingTold holds the log and what is stored against every secret that a mail carried.
func (b *bench) checkNothingTold() {
	var secrets corev1.SecretList
	if err := b.c.List(context.Background(), &secrets, client.InNamespace(v1alpha1.SystemNamespace), client.HasLabels{signing.LabelInvitation}); err != nil {
		b.t.Error(err)
	}
	var stored strings.Builder
	for _, s := range secrets.Items {
		fmt.Fprintf(&stored, "%s %s %s\n", s.Name, s.Labels, s.Data["invitation"])
	}
	log := b.log.String()
	for _, m := range b.mail.all() {
		canaries := []string{}
		if link := linkPattern.FindStringSubmatch(m.Text); link != nil {
			canaries = append(canaries, link[1])
		} else if code := codePattern.FindStringSubmatch(m.Text); code != nil {
			canaries = append(canaries, code[1]+code[2], code[0])
		}
		for _, canary := range canaries {
			if strings.Contains(log, canary) || strings.Contains(stored.String(), `"`+canary) {
				b.t.Errorf("a link or code is in the log or stored")
			}
		}
		if strings.Contains(log, m.To) {
			b.t.Errorf("an address is in the log:\n%s", log)
		}
	}
}

func (b *bench) create(o client.Object) {
	b.t.Helper()
	if err := b.c.Create(b.t.Context(), o); err != nil {
		b.t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

// document is one with something in every part.
func (b *bench) document() pv.Document {
	coverage := 81.5
	day := time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)
	commit := "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
	return pv.Document{
		Title: "Procès-verbal de recette", Language: "fr", Project: b.project, ProjectName: "Supergest", Supplier: "DYNORS", Client: "Client SARL",
		Signatories: []string{alice, bob}, Release: "a1b2c3d", ReleaseUID: "5a4f0c1e-0000-4000-8000-000000000001", Version: "2.4.0", Commit: commit,
		Branch: "release/2.4", BundleHash: "sha256:" + strings.Repeat("b", 64),
		Images:      []string{"backend: registry.gitlab.com/dynors/supergest/backend@sha256:" + strings.Repeat("1", 64), "frontend: registry.gitlab.com/dynors/supergest/frontend@sha256:" + strings.Repeat("2", 64)},
		Artifacts:   []string{"com.dynors.supergest:core:2.4.0"},
		Environment: "rmoa-client", URL: "https://recette.supergest.client.example",
		Previous: &pv.Accepted{Release: "9f8e7d6", Version: "2.3.1", Commit: "9f8e7d6c5b4a39281706f5e4d3c2b1a009182736", PV: "9f8e7d6", SignedAt: day.AddDate(0, -2, 0)},
		Changes: []pv.Change{
			{Release: "77aa12b", Version: "2.4.0-rc1", Commit: "77aa12b4e5f60718293a4b5c6d7e8f9001122334", Changelog: "Export des factures au format Factur-X.\nCorrection du calcul de la TVA sur les avoirs."},
			{Release: "a1b2c3d", Version: "2.4.0", Commit: commit, Changelog: "- Tableau de bord plus rapide\n- Nouveau rôle « comptable »"},
		},
		Karma: 92, Works: 3, Level: "Confiance",
		Gates: []pv.Gate{{Name: "qa", Number: 1, Environment: "rmoa-dynors", Opened: day, Criteria: []string{"tests: 1 204 of 1 204 passed", "coverage: 81.5 % of at least 80 %"}, Approvals: []string{"qa@dynors.com, 2026-11-20T09:30:00Z"}}},
		Figures: pv.Figures{Tests: &v1alpha1.TestCounts{Total: 1210, Passed: 1204, Skipped: 6}, Coverage: &coverage,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Medium: 2, Low: 11}},
		KnownDefects:     []string{"L’impression en paysage coupe la dernière colonne."},
		OpenReservations: []pv.OpenReservation{{PV: "9f8e7d6", Number: 1, Text: "Aide en ligne à compléter.", Owner: "DYNORS", Deadline: "2026-12-31"}},
		Authorises: []pv.Authorised{{
			Environment: "production", ComposeProject: "supergest-production", ComposeHash: "sha256:" + strings.Repeat("3", 64),
			Images: []v1alpha1.ServiceImage{
				{Service: "api", Image: "registry.gitlab.com/dynors/supergest/backend@sha256:" + strings.Repeat("1", 64)},
				{Service: "web", Image: "registry.gitlab.com/dynors/supergest/frontend@sha256:" + strings.Repeat("2", 64)},
			},
			ValuesHash: "sha256:" + strings.Repeat("4", 64), ChecksHash: "sha256:" + strings.Repeat("5", 64), SecretNames: []string{"SMTP_PASSWORD"},
		}},
		Opened: day,
	}
}

func (b *bench) newPV(name string, change func(*pv.Document)) *v1alpha1.PV {
	b.t.Helper()
	doc := b.document()
	if change != nil {
		change(&doc)
	}
	text, hash, err := doc.Canonical()
	if err != nil {
		b.t.Fatal(err)
	}
	obj := &v1alpha1.PV{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.project, Labels: map[string]string{v1alpha1.LabelProject: b.project, v1alpha1.LabelRelease: "a1b2c3d"}},
		Spec: v1alpha1.PVSpec{
			Release:     v1alpha1.PVRelease{Name: "a1b2c3d", UID: "5a4f0c1e", Commit: "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334", Version: "2.4.0", BundleHash: "sha256:" + strings.Repeat("b", 64), AuthorizedAt: metav1.NowMicro()},
			Environment: "rmoa-client", Client: "Client SARL", Document: text, DocumentHash: hash,
		}}
	unsigned, err := pdf.Of(obj)
	if err != nil {
		b.t.Fatal(err)
	}
	obj.Spec.PDFHash = envelope.Hash(unsigned)
	b.create(obj)
	cptest.Wait(b.t, "PV "+name+" to be looked at", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil || obj.Status.Archived == "" {
			return fmt.Errorf("not archived: %w", err)
		}
		return nil
	})
	return obj
}

func (b *bench) read(p *v1alpha1.PV) *v1alpha1.PV {
	b.t.Helper()
	var obj v1alpha1.PV
	if err := b.c.Get(b.t.Context(), client.ObjectKeyFromObject(p), &obj); err != nil {
		b.t.Fatal(err)
	}
	return &obj
}

func (b *bench) annotate(o client.Object, key, value string) {
	b.t.Helper()
	if err := b.c.Patch(b.t.Context(), o, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value))); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) invite(p *v1alpha1.PV) signing.Invited {
	b.t.Helper()
	out, err := b.page.Invite(b.t.Context(), client.ObjectKeyFromObject(p))
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// link is the path of the newest link that was mailed to somebody.
func (b *bench) link(signatory string) string {
	b.t.Helper()
	all := b.mail.all()
	for i := len(all) - 1; i >= 0; i-- {
		if m := linkPattern.FindStringSubmatch(all[i].Text); m != nil && strings.Contains(all[i].Text, signatory) {
			return "/pv/" + m[1]
		}
	}
	b.t.Fatalf("no link was mailed to %s", signatory)
	return ""
}

// code is the newest that was mailed.
func (b *bench) code() string {
	b.t.Helper()
	all := b.mail.all()
	m := codePattern.FindStringSubmatch(all[len(all)-1].Text)
	if m == nil || linkPattern.MatchString(all[len(all)-1].Text) {
		b.t.Fatal("no code was mailed last")
	}
	return m[1] + m[2]
}

// ready makes a PV and mails its links.
func (b *bench) ready() *v1alpha1.PV {
	b.t.Helper()
	p := b.newPV("a1b2c3d", nil)
	if out := b.invite(p); out.Sent != 2 || len(out.Failed) > 0 {
		b.t.Fatalf("invited %+v", out)
	}
	return p
}

// browser is a person at a link.
type browser struct {
	*bench
	http.Client
	path string
	head http.Header // of each request
}

func (b *bench) open(path string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &browser{bench: b, path: path, head: http.Header{"Sec-Fetch-Site": {"same-origin"}},
		Client: http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	status int
	body   string
	header http.Header
}

func (w *browser) do(method, path string, form url.Values) answer {
	w.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = w.head.Clone()
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := w.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(text), resp.Header}
}

func (w *browser) get(action string) answer { w.t.Helper(); return w.do("GET", w.path+action, nil) }
func (w *browser) post(action string, form url.Values) answer {
	w.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	return w.do("POST", w.path+action, form)
}

// want fails unless an answer has a status and holds some texts.
func (a answer) want(t *testing.T, status int, parts ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d:\n%s", a.status, status, a.body)
	}
	for _, part := range parts {
		if !strings.Contains(a.body, part) {
			t.Errorf("%q is not in:\n%s", part, a.body)
		}
	}
	return a
}

// enter asks for a code and enters it.
func (w *browser) enter() *browser {
	w.t.Helper()
	w.post("/code", nil).want(w.t, 303)
	w.post("/enter", url.Values{"code": {w.code()}}).want(w.t, 303)
	return w
}

var formPattern = regexp.MustCompile(`name="form" value="([^"]+)"`)

// filled is a form as the page gave it, with a decision.
func (w *browser) filled(p *v1alpha1.PV, decision string, more ...string) url.Values {
	w.t.Helper()
	m := formPattern.FindStringSubmatch(w.get("").want(w.t, 200).body)
	if m == nil {
		w.t.Fatal("the page has no form")
	}
	form := url.Values{"form": {m[1]}, "rows": {"3"}, "decision": {decision}, "uid": {string(p.UID)}, "document": {p.Spec.DocumentHash}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}
