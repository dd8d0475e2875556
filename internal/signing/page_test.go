// SPDX-License-Identifier: Apache-2.0

package signing_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/signing"
)

const dead = "Ce lien ne fonctionne pas"

func TestSigning(t *testing.T) {
	deadline := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	for _, c := range []struct {
		name, decision string
		more           []string
		reason         string
		reservations   []v1alpha1.Reservation
	}{
		{name: "accept", decision: "Accepted"},
		{name: "refuse", decision: "Refused", more: []string{"reason", "Les exports\r\nsont vides. \u202e"}, reason: "Les exports\nsont vides. \\u202e"},
		{name: "reserve", decision: "AcceptedWithReservations", more: []string{"text-2", "Aide\u00a0absente", "owner-2", "DYNORS", "deadline-2", deadline},
			reservations: []v1alpha1.Reservation{{Text: "Aide absente", Owner: "DYNORS", Deadline: deadline}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.ready()
			w := b.open(b.link(alice)).enter()
			w.get("").want(t, 200, "Supergest", "J’accepte avec réserves", p.Spec.DocumentHash)
			w.get("/document.pdf").want(t, 200, "%PDF-1.")
			form := w.filled(p, c.decision, c.more...)
			w.post("/decide", form).want(t, 200, "Confirmez votre décision", alice)
			if b.read(p).Spec.Signature != "" {
				t.Fatal("signed without a confirmation")
			}
			w.post("/sign", form).want(t, 303)
			w.get("").want(t, 200, "Votre décision est signée", alice)
			w.get("/document.pdf").want(t, 200, "%PDF-1.")
			got := b.read(p).Status
			if string(got.Decision) != c.decision || got.SignedBy != alice || got.Method != v1alpha1.MethodPage || got.Reason != c.reason || !reflect.DeepEqual(got.Reservations, c.reservations) {
				t.Errorf("status %+v", got)
			}

			// The link is used, but for the browser that signed; the other signatory is told.
			b.open(w.path).get("").want(t, 404, dead)
			b.open(w.path).post("/code", nil).want(t, 404, dead)
			w.post("/sign", form).want(t, 409, "Votre décision est signée")
			w.post("/decide", form).want(t, 409)
			other := b.open(b.link(bob))
			other.get("").want(t, 200, "déjà reçu une décision")
			other.enter().get("").want(t, 200, "déjà signé", alice)
			if out := b.invite(p); out.Sent != 0 {
				t.Error("a decided PV invites")
			}
			if b.read(p).Generation != 2 {
				t.Error("the PV was written more than once")
			}
		})
	}
}

func TestLinkShowsLittleAndChangesNothing(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	path := b.link(alice)
	before, invitations := b.read(p).ResourceVersion, b.invitations()
	w := b.open(path)
	page := w.get("").want(t, 200, "Supergest", "Client SARL", "a•••@client.example", "Recevoir mon code")
	for _, hidden := range []string{"alice.martin", alice, bob, "Factur-X", p.Spec.DocumentHash, string(p.UID)} {
		if strings.Contains(page.body, hidden) {
			t.Errorf("the page shows %q before a code", hidden)
		}
	}
	w.get("/enter").want(t, 200, "Saisissez votre code")
	w.get("/document.pdf").want(t, 403)
	if head := w.do("HEAD", path, nil).want(t, 200); head.body != "" || head.header.Get("Content-Length") != strconv.Itoa(len(page.body)) {
		t.Errorf("HEAD answers %d bytes, %v", len(head.body), head.header)
	}
	for action, allow := range map[string]string{"": "GET, HEAD", "/document.pdf": "GET, HEAD", "/code": "POST", "/decide": "POST", "/sign": "POST", "/enter": "GET, HEAD, POST"} {
		method := "DELETE"
		if allow == "POST" {
			method = "GET"
		}
		if got := w.do(method, path+action, nil).want(t, 405); got.header.Get("Allow") != allow {
			t.Errorf("%s allows %q", action, got.header.Get("Allow"))
		}
	}
	if len(b.mail.all()) != 2 || b.read(p).ResourceVersion != before || !reflect.DeepEqual(b.invitations(), invitations) {
		t.Error("looking changed something")
	}
	// The stylesheet is the one thing that is kept.
	style := regexp.MustCompile(`href="(/pv/style-[0-9a-f]+\.css)"`).FindStringSubmatch(page.body)
	if css := w.do("GET", style[1], nil).want(t, 200, "prefers-color-scheme"); !strings.Contains(css.header.Get("Cache-Control"), "immutable") {
		t.Error("the stylesheet is not kept")
	}
	w.do("POST", style[1], url.Values{}).want(t, 405)
}

// invitations are the Secrets of the bench's project, by name.
func (b *bench) invitations() map[string]string {
	b.t.Helper()
	var list corev1.SecretList
	if err := b.c.List(b.t.Context(), &list, client.InNamespace(v1alpha1.SystemNamespace), client.HasLabels{signing.LabelInvitation}, client.MatchingLabels{v1alpha1.LabelProject: b.project}); err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range list.Items {
		out[s.Name] = s.ResourceVersion
	}
	return out
}

func TestHeaders(t *testing.T) {
	b := newBench(t)
	b.ready()
	o := b.options
	o.BaseURL = "https://sirrat.example.com/"
	page, err := signing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	path := b.link(alice)
	b.open(path).post("/code", nil).want(t, 303)
	r := httptest.NewRequest("POST", path+"/enter", strings.NewReader("code="+b.code()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://sirrat.example.com") // an old browser behind a proxy that rewrites Host
	rec := httptest.NewRecorder()
	page.ServeHTTP(rec, r)
	cookie := rec.Header().Get("Set-Cookie")
	for _, part := range []string{"Path=" + path, "HttpOnly", "Secure", "SameSite=Strict", "Max-Age=3600"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie %q has no %s", cookie, part)
		}
	}
	for _, path := range []string{path, "/pv/unknown", "/pv/"} {
		rec := httptest.NewRecorder()
		page.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"Cache-Control":           "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Strict-Transport-Security": "max-age=31536000", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := rec.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if strings.Contains(rec.Body.String(), "<script") || strings.Contains(rec.Body.String(), "style=") || strings.Contains(rec.Body.String(), "onclick") {
			t.Error("the page has a script or a style of its own")
		}
	}
}

func TestDeadLinksAreAlike(t *testing.T) {
	want := newBench(t).open("/pv/"+strings.Repeat("A", 43)).get("").want(t, 404, dead).body
	for _, c := range []struct {
		name string
		kill func(*bench, *v1alpha1.PV)
	}{
		{"expired", func(b *bench, _ *v1alpha1.PV) { b.clock.advance(336*time.Hour + time.Second) }},
		{"revoked by an annotation", func(b *bench, p *v1alpha1.PV) { b.annotate(p.DeepCopy(), v1alpha1.AnnotationSendLink, "again") }},
		{"revoked by newer links", func(b *bench, p *v1alpha1.PV) {
			b.annotate(p.DeepCopy(), v1alpha1.AnnotationSendLink, "again")
			b.invite(p)
		}},
		{"no signatory any more", func(b *bench, _ *v1alpha1.PV) {
			var project v1alpha1.Project
			if err := b.c.Get(b.t.Context(), client.ObjectKey{Name: b.project}, &project); err != nil {
				b.t.Fatal(err)
			}
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"client":{"signatories":[{"name":"`+bob+`","email":"bob.durand@client.example"}]}}}`))
			if err := b.c.Patch(b.t.Context(), &project, patch); err != nil {
				b.t.Fatal(err)
			}
		}},
		{"deleted project", func(b *bench, _ *v1alpha1.PV) {
			if err := b.c.Delete(b.t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}); err != nil {
				b.t.Fatal(err)
			}
		}},
		{"another PV of the same name", func(b *bench, p *v1alpha1.PV) {
			if err := b.c.Delete(b.t.Context(), p.DeepCopy()); err != nil {
				b.t.Fatal(err)
			}
			b.newPV(p.Name, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.ready()
			w := b.open(b.link(alice)).enter()
			form := w.filled(p, "Accepted")
			c.kill(b, p)
			for _, a := range []answer{b.open(w.path).get(""), w.get(""), w.get("/document.pdf"), w.get("/enter"), w.post("/code", nil), w.post("/enter", url.Values{"code": {"12345678"}}), w.post("/decide", form), w.post("/sign", form)} {
				if a.want(t, 404); a.body != want {
					t.Errorf("it tells itself from a guessed link:\n%s", a.body)
				}
			}
		})
	}
	b := newBench(t)
	for _, path := range []string{"/pv/", "/pv/x", "/pv/" + strings.Repeat("A", 43) + "/", "/pv/" + strings.Repeat("A", 43) + "/nothing", "/pv/" + strings.Repeat("A", 42) + "B", "/pv/" + strings.Repeat("é", 43), "/pv/" + strings.Repeat("A", 43) + "/enter/"} {
		if got := b.open(path).get("").want(t, 404); got.body != want {
			t.Errorf("%s tells itself from a guessed link", path)
		}
	}
	b.open("/pv/"+strings.Repeat("A", 43)+"?lang=en").get("").want(t, 404, "This link does not work", `lang="en"`)
}

func TestCodes(t *testing.T) {
	b := newBench(t)
	b.ready()
	w := b.open(b.link(alice))
	try := func(code string) answer { return w.post("/enter", url.Values{"code": {code}}) }
	other := func(code string) string { return code[:7] + string('0'+(code[7]-'0'+1)%10) }

	try("12345678").want(t, 422, "plus valable") // none was asked for
	w.post("/code", nil).want(t, 303)
	code := b.code()
	try("1234").want(t, 422, "8 chiffres")
	for left := 4; left >= 1; left-- {
		try(other(code)).want(t, 422, fmt.Sprintf("Essais restants : %d", left), `aria-invalid="true"`)
	}
	try(other(code)).want(t, 422, "plus d’essai")
	try(code).want(t, 422, "plus valable") // right, but too late

	w.post("/code", nil).want(t, 303)
	code = b.code()
	b.clock.advance(15 * time.Minute)
	try(code).want(t, 422, "plus valable")

	// A code of another link, and two links' sessions.
	foreign := b.open(b.link(bob))
	foreign.post("/code", nil).want(t, 303)
	code = b.code()
	try(code).want(t, 422)
	w.post("/code", nil).want(t, 303)
	try(code).want(t, 422, "Essais restants : 4")
	code = b.code()
	try(code[:4]+" "+code[4:]).want(t, 303)
	try(code).want(t, 422, "plus valable") // a code opens one session
	w.get("").want(t, 200, "Votre décision")
	u, _ := url.Parse(b.server.URL + w.path)
	for _, c := range w.Jar.Cookies(u) {
		foreign.head.Set("Cookie", c.Name+"="+c.Value)
	}
	foreign.get("").want(t, 200, "Recevoir mon code")

	b.clock.advance(time.Hour)
	w.get("").want(t, 200, "Recevoir mon code") // the session is over
	for range 5 {
		w.post("/code", nil).want(t, 303)
	}
	if a := w.post("/code", nil).want(t, 429, "Au plus 5 codes"); a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	b.clock.advance(time.Hour)
	b.mail.setDown(true)
	for range 7 { // what was not mailed does not count
		w.post("/code", nil).want(t, 503, "n’est pas parti")
	}
	b.mail.setDown(false)
	w.enter()
}

func TestGuessesInParallelAreFive(t *testing.T) {
	b := newBench(t)
	b.ready()
	w := b.open(b.link(alice))
	w.post("/code", nil).want(t, 303)
	code := b.code()
	wrong := code[:7] + string('0'+(code[7]-'0'+1)%10)
	var mu sync.Mutex
	var group sync.WaitGroup
	judged := 0
	for range 16 {
		group.Go(func() {
			if a := w.post("/enter", url.Values{"code": {wrong}}); strings.Contains(a.body, "pas le bon code") {
				mu.Lock()
				defer mu.Unlock()
				judged++
			}
		})
	}
	group.Wait()
	if judged > 5 {
		t.Errorf("%d guesses were judged", judged)
	}
}

func TestFormsOfOthersAreRefused(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w, foreign := b.open(b.link(alice)).enter(), b.open(b.link(bob)).enter()
	form, foreignForm := w.filled(p, "Accepted"), foreign.filled(p, "Accepted")
	for name, change := range map[string]func(url.Values){
		"missing": func(f url.Values) { f.Del("form") },
		"foreign": func(f url.Values) { f.Set("form", foreignForm.Get("form")) },
		"made up": func(f url.Values) { f.Set("form", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			bad := url.Values{}
			for k, v := range form {
				bad[k] = v
			}
			change(bad)
			w.post("/decide", bad).want(t, 403, "plus valable")
			w.post("/sign", bad).want(t, 403, "plus valable")
		})
	}
	for _, head := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}}} {
		w.head = head
		for _, action := range []string{"/code", "/enter", "/decide", "/sign"} {
			w.post(action, form).want(t, 403, "autre site")
		}
	}
	w.head = http.Header{}
	for key, value := range map[string]string{"uid": "another", "document": "sha256:" + strings.Repeat("0", 64)} {
		bad := w.filled(p, "Accepted")
		bad.Set(key, value)
		w.post("/sign", bad).want(t, 409, "plus le même")
	}
	big := url.Values{"reason": {strings.Repeat("x", 65<<10)}}
	w.post("/decide", big).want(t, 413, "trop long")
	b.open("/pv/"+strings.Repeat("A", 43)).post("/decide", big).want(t, 413)
	if b.read(p).Spec.Signature != "" {
		t.Error("signed")
	}
}

func TestIncompleteDecisions(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := b.open(b.link(alice)).enter()
	soon := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	for _, c := range []struct {
		name, decision string
		more           []string
		want           string
	}{
		{"nothing chosen", "", nil, "Choisissez une décision"},
		{"a decision that there is not", "Perhaps", nil, "Choisissez une décision"},
		{"refused without a reason", "Refused", []string{"reason", " \r\n "}, "demande un motif"},
		{"accepted with a reason", "Accepted", []string{"reason", "mais"}, "qu’un refus"},
		{"a reason too long", "Refused", []string{"reason", strings.Repeat("é", 4001)}, "4000 caractères"},
		{"reserved without reservations", "AcceptedWithReservations", nil, "au moins une réserve"},
		{"accepted with reservations typed", "Accepted", []string{"text-1", "x"}, "avec réserves »"},
		{"refused with reservations typed", "Refused", []string{"reason", "y", "owner-3", "x"}, "avec réserves »"},
		{"no text", "AcceptedWithReservations", []string{"owner-1", "DYNORS", "deadline-1", soon}, "Réserve 1 : dites ce qui"},
		{"no owner", "AcceptedWithReservations", []string{"text-1", "typed-1", "deadline-1", soon}, "Réserve 1 : dites qui"},
		{"no deadline", "AcceptedWithReservations", []string{"text-2", "typed-2", "owner-2", "DYNORS"}, "Réserve 2 : donnez une date"},
		{"no date", "AcceptedWithReservations", []string{"text-1", "x", "owner-1", "DYNORS", "deadline-1", "2027-02-30"}, "valable (AAAA"},
		{"a date in words", "AcceptedWithReservations", []string{"text-1", "x", "owner-1", "DYNORS", "deadline-1", "demain"}, "valable (AAAA"},
		{"a past date", "AcceptedWithReservations", []string{"text-1", "x", "owner-1", "DYNORS", "deadline-1", "2020-01-01"}, "est passée"},
		{"a text too long", "AcceptedWithReservations", []string{"text-1", strings.Repeat("x", 2001), "owner-1", "DYNORS", "deadline-1", soon}, "2000 caractères"},
		{"an owner too long", "AcceptedWithReservations", []string{"text-1", "x", "owner-1", strings.Repeat("x", 201), "deadline-1", soon}, "200 caractères"},
	} {
		t.Run(c.name, func(t *testing.T) {
			form := w.filled(p, c.decision, c.more...)
			for _, action := range []string{"/decide", "/sign"} {
				a := w.post(action, form).want(t, 422, c.want, `role="alert"`)
				for i := 1; i < len(c.more); i += 2 {
					if !strings.Contains(a.body, strings.TrimSpace(c.more[i])) {
						t.Errorf("what was typed as %s is lost", c.more[i-1])
					}
				}
			}
		})
	}
	form := w.filled(p, "AcceptedWithReservations", "text-1", "gardé", "owner-3", "qui", "action", "add")
	w.post("/decide", form).want(t, 200, "gardé", `value="qui"`, `name="text-4"`)
	form.Set("rows", "19")
	w.post("/decide", form).want(t, 200, `name="text-20"`)
	form.Set("rows", "999999999")
	if a := w.post("/decide", form).want(t, 200, `name="text-20"`); strings.Contains(a.body, `name="text-21"`) || strings.Contains(a.body, "Ajouter une réserve") {
		t.Error("more than twenty reservations")
	}
	if b.read(p).Spec.Signature != "" {
		t.Error("signed")
	}
}

// TestTypedTextOutlivesTheSession plays a lunch break: the text comes back after a new code.
func TestTypedTextOutlivesTheSession(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := b.open(b.link(alice)).enter()
	form := w.filled(p, "Refused", "reason", "Un long <motif>")
	b.clock.advance(time.Hour)
	hidden := `name="reason" value="Un long &lt;motif&gt;"`
	w.post("/sign", form).want(t, 403, "session est terminée", hidden)
	w.post("/code", form).want(t, 200, "Saisissez votre code", hidden)
	form.Set("code", "00000000")
	w.post("/enter", form).want(t, 422, hidden)
	form.Set("code", b.code())
	w.post("/enter", form).want(t, 200, "Un long &lt;motif&gt;</textarea>", `value="Refused" checked`)
	if b.read(p).Spec.Signature != "" {
		t.Error("signed")
	}
}

func TestRacingConfirmationsSignOnce(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	one, two := b.open(b.link(alice)).enter(), b.open(b.link(bob)).enter()
	yes, no := one.filled(p, "Accepted"), two.filled(p, "Refused", "reason", "non")
	var group sync.WaitGroup
	statuses := make([]int, 12)
	for i := range statuses {
		group.Go(func() {
			if i%2 == 0 {
				statuses[i] = one.post("/sign", yes).status
			} else {
				statuses[i] = two.post("/sign", no).status
			}
		})
	}
	group.Wait()
	signed := 0
	for _, s := range statuses {
		switch s {
		case http.StatusSeeOther:
			signed++
		case http.StatusConflict:
		default:
			t.Errorf("status %d", s)
		}
	}
	got := b.read(p)
	if signed != 1 || got.Generation != 2 || got.Status.Decision == "" {
		t.Errorf("%d signatures in %v, generation %d, status %+v", signed, statuses, got.Generation, got.Status)
	}
	winner, loser := one, two
	if got.Status.SignedBy == bob {
		winner, loser = two, one
	}
	winner.get("").want(t, 200, "Votre décision est signée")
	loser.get("").want(t, 200, "déjà signé")
}

// TestFailedWrites breaks the write of the signature in each way; the link outlives all that did not sign.
func TestFailedWrites(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := b.open(b.link(alice)).enter()
	form := w.filled(p, "Accepted")
	with := func(patch func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error) {
		o := b.options
		o.Client = interceptor.NewClient(b.c, interceptor.Funcs{Patch: patch})
		page, err := signing.New(o)
		if err != nil {
			t.Fatal(err)
		}
		b.server.Config.Handler = page
	}
	with(func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
		return errors.New("etcd is full")
	})
	w.post("/sign", form).want(t, 503, "momentanément indisponible")
	w.get("").want(t, 200, "Votre décision")

	// Somebody else changes the PV in between: judged again, then signed.
	calls := 0
	with(func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
		if calls++; calls == 1 {
			b.annotate(p.DeepCopy(), "touched", "yes")
		}
		err := c.Patch(ctx, obj, patch, opts...)
		if err == nil {
			return errors.New("the answer got lost")
		}
		return err
	})
	w.post("/sign", form).want(t, 303)
	w.get("").want(t, 200, "Votre décision est signée")
	if calls != 2 || b.read(p).Generation != 2 {
		t.Errorf("%d writes, generation %d", calls, b.read(p).Generation)
	}
}

func TestRefusedSignatureKeepsTheLink(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := b.open(b.link(alice)).enter()
	form := w.filled(p, "Accepted")
	o := b.options
	var err error
	if o.Signer, _, _, err = envelope.GenerateKey(); err != nil { // not the installation's
		t.Fatal(err)
	}
	page, err := signing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = page
	w.post("/sign", form).want(t, 303)
	w.get("").want(t, 200, "Votre décision", "Relire et confirmer")
	b.server.Config.Handler = b.page
	w.post("/sign", form).want(t, 303)
	w.get("").want(t, 200, "Votre décision est signée")
}

func TestPaperMeanwhile(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := b.open(b.link(alice)).enter()
	form := w.filled(p, "Accepted")
	changed := b.read(p)
	changed.Spec.Paper = &v1alpha1.PaperPV{Decision: v1alpha1.PVAccepted, SignedBy: bob, SignedOn: "2026-11-22", ScanHash: "sha256:" + strings.Repeat("0", 64), UploadedBy: "sirrat:server"}
	if err := b.c.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	w.get("").want(t, 200, "Décision transmise")
	w.post("/sign", form).want(t, 409, "Décision transmise")
}

func TestWrongPDFIsNotServed(t *testing.T) {
	b := newBench(t)
	b.ready()
	o := b.options
	o.PDF = func(*v1alpha1.PV) ([]byte, error) { return []byte("%PDF of another"), nil }
	page, err := signing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := b.open(b.link(alice)).enter()
	if a := w.get("/document.pdf").want(t, 200); a.header.Get("Content-Disposition") != `attachment; filename="pv-`+b.project+`-a1b2c3d.pdf"` || a.header.Get("Content-Type") != "application/pdf" {
		t.Errorf("headers %v", a.header)
	}
	b.server.Config.Handler = page
	w.get("/document.pdf").want(t, 500)
}

func TestInvite(t *testing.T) {
	b := newBench(t)
	p := b.newPV("a1b2c3d", nil)
	b.mail.setDown(true)
	out := b.invite(p)
	if out.Sent != 0 || len(out.Failed) != 2 || out.RetryAfter != time.Minute || !strings.Contains(out.Failed[0], "a•••@client.example: 450 <a•••@client.example>: try later") {
		t.Fatalf("with the mail server down: %+v", out)
	}
	lost := b.invitations()
	if out := b.invite(p); out.RetryAfter <= 0 || out.RetryAfter > time.Minute || !reflect.DeepEqual(b.invitations(), lost) {
		t.Errorf("it does not wait: %+v", out)
	}
	b.clock.advance(time.Minute)
	if out := b.invite(p); out.RetryAfter != 2*time.Minute || len(b.invitations()) != 2 {
		t.Errorf("the second try: %+v", out)
	}
	b.mail.setDown(false)
	b.clock.advance(2 * time.Minute)
	if out := b.invite(p); out.Sent != 2 || out.RetryAfter != 0 || len(out.Failed) > 0 {
		t.Fatalf("with the mail server back: %+v", out)
	}
	for name := range b.invitations() {
		if _, old := lost[name]; old {
			t.Error("a link that was not handed over still works")
		}
	}
	mails := b.mail.all()
	if m := mails[0]; m.To != "alice.martin@client.example" || m.Subject != "[Supergest] Procès-verbal de recette à signer : 2.4.0" || !strings.Contains(m.Text, alice) {
		t.Errorf("mailed %+v", m)
	}
	first := b.link(alice)
	b.open(first).get("").want(t, 200)
	b.clock.advance(400 * time.Hour) // expired: known, and not sent again without being asked
	for range 3 {
		if out := b.invite(p); out.Sent != 0 {
			t.Fatalf("sent again: %+v", out)
		}
		if _, err := b.page.Forget(t.Context(), client.ObjectKeyFromObject(p)); err != nil {
			t.Fatal(err)
		}
	}
	b.annotate(p.DeepCopy(), v1alpha1.AnnotationSendLink, "2026-11-22")
	if out := b.invite(p); out.Sent != 2 || len(b.invitations()) != 2 {
		t.Fatalf("asked for new links: %+v, %d stored", out, len(b.invitations()))
	}
	if out := b.invite(p); out.Sent != 0 {
		t.Errorf("sent again: %+v", out)
	}
	b.open(first).get("").want(t, 404, dead)
	b.open(b.link(alice)).get("").want(t, 200)
	if out, err := b.page.Invite(t.Context(), client.ObjectKey{Namespace: b.project, Name: "none"}); err != nil || out.Sent != 0 {
		t.Errorf("a PV that does not exist: %+v, %v", out, err)
	}
}

func TestForget(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	key := client.ObjectKeyFromObject(p)
	forget := func(left int) time.Duration {
		t.Helper()
		next, err := b.page.Forget(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(b.invitations()); got != left {
			t.Fatalf("%d invitations are left, want %d", got, left)
		}
		return next
	}
	forget(2)
	w := b.open(b.link(alice)).enter()
	w.post("/sign", w.filled(p, "Accepted")).want(t, 303)
	if next := forget(2); next <= 0 || next > time.Hour {
		t.Errorf("next in %s: the page of who signed lasts an hour", next)
	}
	b.clock.advance(time.Hour)
	if next := forget(1); next < 300*time.Hour {
		t.Errorf("next in %s: the other link says for its time that the PV is signed", next)
	}
	b.clock.advance(336 * time.Hour)
	if next := forget(0); next != 0 {
		t.Errorf("next in %s", next)
	}

	gone := b.newPV("b2c3d4e", nil)
	b.invite(gone)
	if err := b.c.Delete(t.Context(), gone.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	key = client.ObjectKeyFromObject(gone)
	cptest.Wait(t, "the PV to be gone", func(ctx context.Context) error {
		if err := b.c.Get(ctx, key, &v1alpha1.PV{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	forget(0)
}

func TestLanguages(t *testing.T) {
	b := newBench(t)
	p := b.newPV("a1b2c3d", func(d *pv.Document) { d.Language = "en" })
	b.invite(p)
	w := b.open(b.link(alice))
	w.get("").want(t, 200, `<html lang="en">`, "Send me my code", "?lang=fr")
	w.get("?lang=fr").want(t, 200, `<html lang="fr">`, `/code?lang=fr"`)
	w.get("?lang=xx").want(t, 200, `<html lang="en">`)
	if a := w.post("/code?lang=fr", nil).want(t, 303); !strings.HasSuffix(a.header.Get("Location"), "/enter?lang=fr") {
		t.Errorf("the language is lost: %s", a.header.Get("Location"))
	}
	if all := b.mail.all(); !strings.Contains(all[len(all)-1].Text, "Votre code") {
		t.Error("the code is not in the page's language")
	}
	for accept, want := range map[string]string{"": "fr", "en-GB,fr;q=0.5": "en", "fr-CA": "fr", "de": "fr", "de, en;q=0.1": "en", strings.Repeat("en,", 999): "fr", "%%%": "fr"} {
		w := b.open("/pv/x")
		w.head.Set("Accept-Language", accept)
		w.get("").want(t, 404, `<html lang="`+want+`">`)
	}
}

func TestTexts(t *testing.T) {
	used := map[string]bool{}
	files, err := os.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile("templates/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`[{(]t "([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	for _, f := range []string{"page.go", "visit.go", "form.go", "sign.go", "invite.go"} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"((?:dead|failed|unavailable|method|forbidden|large|bad|other|codes|mail|code\.mail|enter|error)\.[a-z.]+)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	if len(used) < 60 {
		t.Fatalf("only %d texts found", len(used))
	}
	verb := regexp.MustCompile(`%[a-z]`)
	for key := range used {
		text, ok := signing.Texts[key]
		if !ok || text[0] == "" || text[1] == "" {
			t.Errorf("the text %q is missing", key)
		}
	}
	for key, text := range signing.Texts {
		if fr, en := verb.FindAllString(text[0], -1), verb.FindAllString(text[1], -1); !reflect.DeepEqual(fr, en) {
			t.Errorf("%s takes %v in French and %v in English", key, fr, en)
		}
		if !used[key] && !strings.HasPrefix(key, "decision.") && !strings.HasPrefix(key, "confirm.sign.") && !strings.HasPrefix(key, "decided.how.") {
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

// TestWholeDocumentIsShown puts a text of its own into every field of a document, of today's and of later ones, and looks
// for each: what is signed is what is read.
func TestWholeDocumentIsShown(t *testing.T) {
	var doc pv.Document
	var marks []string
	fill(reflect.ValueOf(&doc).Elem(), "", &marks)
	doc.Language = "fr"
	b := newBench(t)
	p := b.newPV("a1b2c3d", func(d *pv.Document) { *d = doc })
	b.invite(p)
	page := b.open(b.link(alice)).enter().get("").want(t, 200)
	for _, mark := range marks {
		if !strings.Contains(page.body, mark) && !strings.HasPrefix(mark, "Language") {
			t.Errorf("%s is not shown", mark)
		}
	}
}

func fill(v reflect.Value, name string, marks *[]string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, marks)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), name+strconv.Itoa(i), marks)
		}
	case reflect.Struct:
		if at, ok := v.Addr().Interface().(*time.Time); ok {
			*at = time.Date(2001+len(*marks), 5, 1, 8, 0, 0, 0, time.UTC)
			*marks = append(*marks, "1er mai "+strconv.Itoa(at.Year()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), name+v.Type().Field(i).Name, marks)
		}
	case reflect.String:
		v.SetString(name + "§")
		*marks = append(*marks, name+"§")
	case reflect.Int, reflect.Int32, reflect.Int64:
		n := 7000 + len(*marks)
		v.SetInt(int64(n))
		*marks = append(*marks, strconv.Itoa(n))
	case reflect.Float64:
		v.SetFloat(77.25)
		*marks = append(*marks, "77,25")
	default:
		panic("a kind of field that this test does not know: " + v.Kind().String())
	}
}

func TestHostileTextsAreInert(t *testing.T) {
	hostile := "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{.}}</textarea>\u202egnp.\u2066\x1b[31m\x00\ufeff javascript:alert(3)"
	var doc pv.Document
	var marks []string
	fill(reflect.ValueOf(&doc).Elem(), "", &marks)
	poison(reflect.ValueOf(&doc).Elem(), hostile)
	b := newBench(t)
	p := b.newPV("a1b2c3d", func(d *pv.Document) { *d = doc })
	b.invite(p)
	w := b.open(b.link(alice)).enter()
	typed := w.filled(p, "Refused", "reason", hostile)
	for _, page := range []answer{w.get(""), w.post("/decide", typed), w.post("/decide", w.filled(p, hostile, "text-1", hostile, "owner-1", hostile, "deadline-1", hostile))} {
		for _, bad := range []string{"<script", "<img", "\u202e", "\u2066", "\x1b", "\x00", "\ufeff", `href="javascript`} {
			if strings.Contains(page.body, bad) {
				t.Errorf("%q reached the page", bad)
			}
		}
		for _, good := range []string{"&lt;script&gt;", `\u202e`, `\x1b[31m`} {
			if !strings.Contains(page.body, good) {
				t.Errorf("%q is not shown", good)
			}
		}
	}
	w.post("/sign", typed).want(t, 303)
	if a := w.get("").want(t, 200, "&lt;script&gt;"); strings.Contains(a.body, "<script") || strings.ContainsAny(a.body, "\u202e\x1b") {
		t.Error("the decision is not inert")
	}
}

func poison(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		poison(v.Elem(), text)
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i), text)
			}
		}
	case reflect.String:
		v.SetString(text)
	}
}

func TestUnknownDocumentIsNotShown(t *testing.T) {
	b := newBench(t)
	text := `{"from":"a later version"}`
	p := &v1alpha1.PV{ObjectMeta: metav1.ObjectMeta{Name: "later", Namespace: b.project}, Spec: v1alpha1.PVSpec{
		Release: v1alpha1.PVRelease{Name: "a1b2c3d", UID: "x", Commit: "a1b2c3d", BundleHash: "x", AuthorizedAt: metav1.NowMicro()}, Environment: "rmoa-client",
		Document: text, DocumentHash: envelope.Hash([]byte(text)),
	}}
	b.create(p)
	b.invite(p)
	b.open(b.link(alice)).get("").want(t, 500, "de notre côté")
}

func TestNewRefuses(t *testing.T) {
	b := newBench(t)
	for _, base := range []string{"", "sirrat.example.com", "ftp://x", "https://x/path", "https://x?y", "https://user@x"} {
		o := b.options
		o.BaseURL = base
		if _, err := signing.New(o); err == nil {
			t.Errorf("base URL %q is taken", base)
		}
	}
	o := b.options
	o.PDF = nil
	if _, err := signing.New(o); err == nil {
		t.Error("no PDF renderer is taken")
	}
}
