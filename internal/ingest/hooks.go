// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hooks"
)

const (
	// MaxHook bounds the body of a webhook, in bytes: that of a pipeline has about a thousand for each of its jobs.
	MaxHook = 4 << 20
	// maxHookMemory bounds the bodies of webhooks that are in memory at a time, in bytes. They are read before it is known
	// who sent them, since signatures cover them.
	maxHookMemory = 64 << 20
	// maxAhead is how far the time that a source gives may be in the future: what is newest counts, so that a clock that is wrong
	// would make its word the last one.
	maxAhead = 5 * time.Minute
)

// Outcomes of a webhook, as its answer and the metrics name them.
const (
	hookStored   = "stored"   // something new is stored
	hookRepeated = "repeated" // it was stored before
	hookNoted    = "noted"    // understood; nothing is to be stored
	hookIgnored  = "ignored"  // authentic, and it counts for nothing: detail says why
	hookRefused  = "refused"  // 4xx
	hookFailed   = "failed"   // 5xx
)

// HookAnswer is the body of a 2xx answer to a webhook: 201 when something new is stored, else 200.
type HookAnswer struct {
	// Project, as in the path.
	Project string `json:"project"`
	// Source: gitlab, harbor or sonarqube.
	Source string `json:"source"`
	// Event, as the source names it.
	Event string `json:"event"`
	// Outcome: stored, repeated, noted or ignored.
	Outcome string `json:"outcome"`
	// What was done, or why nothing was.
	Detail string `json:"detail"`
	// Id that the source gave the delivery; absent if it gave none.
	Delivery string `json:"delivery,omitempty"`
	// Commit that the event is about.
	Commit string `json:"commit,omitempty"`
	// Names of the CIResults that hold what it says.
	Results []string `json:"results,omitempty"`
	// Names of the Releases that it is about.
	Releases []string `json:"releases,omitempty"`
}

// hookSource is one product whose webhooks are taken.
type hookSource struct {
	name string
	// credentials are what the project expects it to prove itself with, nil for what it does not; always as many.
	credentials func(*v1alpha1.Hooks) []*v1alpha1.HookSecret
	// offers refuses, for what its headers say alone, a request that cannot prove itself to any project.
	offers func(h http.Header, now time.Time) *Problem
	// proves tells whether the request is from who knows all that is expected: of each credential, one of the values. values is as
	// long as the credentials, with nil for those that the project does not expect.
	proves func(h http.Header, body []byte, values [][][]byte) bool
	// take does what an authentic delivery asks for, in its turn at the store.
	take func(ctx context.Context, a *api, d *delivery) (HookAnswer, error)
}

// delivery is an authentic webhook.
type delivery struct {
	source  string
	id      string
	project *v1alpha1.Project
	body    []byte
}

// answer begins the answer to a delivery.
func (d *delivery) answer(event string) HookAnswer {
	return HookAnswer{Project: d.project.Name, Source: d.source, Event: event, Delivery: d.id}
}

// ignored is the answer to a delivery that counts for nothing.
func (h HookAnswer) ignored(format string, args ...any) (HookAnswer, error) {
	h.Outcome, h.Detail = hookIgnored, fmt.Sprintf(format, args...)
	return h, nil
}

// fromHook handles the webhooks of one source.
func (a *api) fromHook(source hookSource) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		answer, err := a.hook(source, w, r)
		if err != nil {
			outcome := hookFailed
			if p := (*Problem)(nil); errors.As(err, &p) && p.Status < http.StatusInternalServerError {
				outcome = hookRefused
			}
			hooksTotal.WithLabelValues(source.name, outcome).Inc()
			return err
		}
		hooksTotal.WithLabelValues(source.name, answer.Outcome).Inc()
		a.o.Log.V(1).Info("webhook", "source", answer.Source, "project", answer.Project, "event", answer.Event, "outcome", answer.Outcome, "delivery", answer.Delivery)
		status := http.StatusOK
		if answer.Outcome == hookStored {
			status = http.StatusCreated
		}
		writeJSON(w, status, "application/json", answer)
		return nil
	}
}

// hook authenticates a webhook and does what it asks for.
func (a *api) hook(source hookSource, w http.ResponseWriter, r *http.Request) (HookAnswer, error) {
	if !a.hub.hasSynced() {
		return HookAnswer{}, unavailable("the server is starting", time.Second, nil)
	}
	if p := source.offers(r.Header, a.o.Now()); p != nil {
		p.closing = true // the body is not read
		return HookAnswer{}, p
	}
	d := &delivery{source: source.name, id: deliveryID(r.Header)}
	release, err := a.receive(source, w, r, d)
	if err != nil {
		return HookAnswer{}, err
	}
	defer release()
	if wait := a.hookRates.take(d.project.UID, a.o.Now()); wait > 0 {
		return HookAnswer{}, unavailable(fmt.Sprintf("more than %d webhooks of this project a second", hookRate), wait, nil)
	}
	var answer HookAnswer
	err = a.withStore(r.Context(), func(ctx context.Context) (err error) {
		defer observeStore(time.Now())
		answer, err = source.take(ctx, a, d)
		return err
	})
	return answer, err
}

// receive reads a delivery and finds out whose it is. However many arrive that prove nothing, they take no room from other projects, nor
// from reports. release gives back the memory of the body.
func (a *api) receive(source hookSource, w http.ResponseWriter, r *http.Request, d *delivery) (release func(), err error) {
	name := r.PathValue("id")
	if !a.arriving.take(name, 1) {
		return nil, tooManyHooks()
	}
	defer a.arriving.release(name, 1)
	d.body, release, err = a.readHook(w, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.o.StoreTimeout)
	defer cancel()
	if d.project, err = a.authenticateHook(ctx, source, r, d.body); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func tooManyHooks() *Problem {
	p := unavailable("too many webhooks at a time", time.Second, nil)
	p.closing = true // the body is not read
	return p
}

// readHook reads the body, for as much of it as there is memory; release gives the memory back. What counts is what has arrived:
// who announces much and sends little takes no room from others.
func (a *api) readHook(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	l := bodyLimit{size: MaxHook, time: a.o.BodyTimeout, what: "it is larger than any event that is read", send: "event as JSON"}
	if err := l.check(r); err != nil {
		return nil, nil, err
	}
	metered := &meteredBody{r: http.MaxBytesReader(w, r.Body, MaxHook), room: a.hookRoom, project: r.PathValue("id")}
	body, err = io.ReadAll(metered)
	if errors.Is(err, errNoRoom) {
		metered.release()
		return nil, nil, tooManyHooks()
	}
	if err := l.problem(int64(len(body)), err); err != nil {
		metered.release()
		return nil, nil, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, metered.release, nil
}

// errNoRoom: there is no memory for more of the project's bodies now.
var errNoRoom = errors.New("no room")

// meteredBody takes room as the body arrives.
type meteredBody struct {
	r       io.Reader
	room    *shares
	project string
	held    int64
}

func (m *meteredBody) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 && !m.room.take(m.project, int64(n)) {
		return 0, errNoRoom
	}
	m.held += int64(n)
	return n, err
}

// release gives back what was taken; once is enough, and more does no harm.
func (m *meteredBody) release() {
	m.room.release(m.project, m.held)
	m.held = 0
}

// noSecret is looked for where a project expects no credential, so that the same work is done. No Secret can have this name.
const noSecret = "none.webhook.invalid"

// authenticateHook returns the project whose webhook it is.
//
// A delivery that proves nothing gets one and the same answer, whether there is such a project, it takes no webhooks of the
// source, or the secret is not right; and the same work is done: of each credential the Secret is read from the cache, then from
// the API server, and the values are compared after each.
func (a *api) authenticateHook(ctx context.Context, source hookSource, r *http.Request, body []byte) (*v1alpha1.Project, error) {
	name := r.PathValue("id")
	if !projectPattern.MatchString(name) {
		return nil, noHook()
	}
	project := &v1alpha1.Project{}
	if err := a.o.Client.Get(ctx, client.ObjectKey{Name: name}, project); err != nil && !apierrors.IsNotFound(err) {
		return nil, storeProblem("read the project", err)
	}
	proven, err := isProven(ctx, a.o.Client, source, r, body, project, name)
	if !proven && err == nil {
		err = a.inDoubt(ctx, name, func(ctx context.Context) (err error) {
			proven, err = isProven(ctx, a.o.APIReader, source, r, body, project, name)
			return err
		})
	}
	switch {
	case err != nil:
		return nil, err
	case !proven:
		return nil, noHook()
	}
	return project, nil
}

// isProven tells whether a delivery is from who knows the secrets of a project, as the reader has them.
func isProven(ctx context.Context, reader client.Reader, source hookSource, r *http.Request, body []byte, project *v1alpha1.Project, name string) (bool, error) {
	refs := source.credentials(expectedOf(project))
	values := make([][][]byte, len(refs))
	for i, ref := range refs {
		read, err := readHookSecret(ctx, reader, name, ref)
		if err != nil {
			return false, err
		}
		values[i] = read
	}
	return source.proves(r.Header, body, values), nil
}

// expectedOf is what a project says of webhooks; nothing for one that says nothing, or is none.
func expectedOf(project *v1alpha1.Project) *v1alpha1.Hooks {
	if project.Spec.Hooks == nil {
		return &v1alpha1.Hooks{}
	}
	return project.Spec.Hooks
}

// readHookSecret returns the values that a webhook may prove itself with: nil if nothing is expected, and values that nothing
// matches if there is no such Secret or key, or they are too short.
func readHookSecret(ctx context.Context, reader client.Reader, project string, ref *v1alpha1.HookSecret) ([][]byte, error) {
	key := client.ObjectKey{Namespace: project, Name: noSecret}
	if ref != nil {
		key.Name = ref.Name
	}
	var secret corev1.Secret
	if err := reader.Get(ctx, key, &secret); err != nil && !apierrors.IsNotFound(err) {
		return nil, storeProblem("read the secret of the webhook", err)
	}
	if ref == nil {
		return nil, nil
	}
	values := [][]byte{hooks.Secret(secret.Data[ref.Key])}
	if ref.PreviousKey != "" {
		values = append(values, hooks.Secret(secret.Data[ref.PreviousKey]))
	}
	return values, nil
}

const hookChallenge = `Webhook realm="sirrat"`

func noHook() *Problem {
	return hookProblem("webhook-not-taken", "The webhook is not taken",
		"no such project, or it takes no webhooks of this source, or the secret is not right: compare the address, spec.hooks of the project and the Secret that it names")
}

func hookProblem(kind, title, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, kind, title, detail)
	p.challenge = hookChallenge
	return p
}

// one is a header that may be given once.
func one(h http.Header, name string) string {
	if values := h.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

var deliveryPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// deliveryID is the id by which people find a delivery again in the source's log and in ours. Nothing depends on it: what a
// delivery says makes the names of what is stored, so that one that comes again, even by another webhook, is stored once.
func deliveryID(h http.Header) string {
	for _, name := range []string{"Idempotency-Key", "webhook-id", "X-Gitlab-Event-UUID", "X-Gitlab-Webhook-UUID"} {
		if id := one(h, name); deliveryPattern.MatchString(id) {
			return id
		}
	}
	return ""
}

// invalidHook is the problem of a body that is not what the source documents.
func invalidHook(err error) error {
	var e *hooks.Error
	if !errors.As(err, &e) {
		return err
	}
	return invalid([]FieldError{{clip(e.Field), e.Detail}})
}

// onlyJobs is why nothing counts that a webhook says where the project demands that its jobs report: whoever knows the secret
// could say anything of any commit. Versions are no exception, since gates may ask for them.
const onlyJobs = "the project takes evidence from its own jobs only (spec.ci.requireOIDC)"

// checkTime refuses a time that has not come.
func (a *api) checkTime(field string, at time.Time) error {
	if at.After(a.o.Now().Add(maxAhead)) {
		return invalid([]FieldError{{field, "is more than " + maxAhead.String() + " in the future: compare the clocks"}})
	}
	return nil
}

// keep stores what a delivery says of a commit, as it was read, and tells in the answer what became of it. It creates no
// Release: the sources send webhooks of every branch and merge request, and which commits are to be released is for pipelines
// and people to say. What is stored counts once there is one.
func (a *api) keep(ctx context.Context, d *delivery, answer *HookAnswer, spec v1alpha1.CIResultSpec, read any) error {
	if err := a.stampHook(&spec, d, read); err != nil {
		return err
	}
	name, existing, err := a.storeSaid(ctx, d.project.Name, spec)
	if err != nil {
		return err
	}
	created := existing == nil
	resultsTotal.WithLabelValues(typeLabel(spec.Type), spec.Status, strconv.FormatBool(!created)).Inc()
	said := fmt.Sprintf("%s %s", spec.Type, spec.Status)
	if created {
		answer.add(hookStored, name, said)
	} else {
		answer.add(hookRepeated, name, said+" was stored before")
	}
	return nil
}

// storeSaid stores what a source said of a commit. All different things that it says are kept, those about the same run too, whichever
// arrived first: the results are a set, which the order of deliveries cannot change, and which of them counts is for who judges. Of
// one run that is the worst of each (package evidence): SonarQube's times have seconds, so that neither of two verdicts of one second
// is known to be the newer, and a failure must not depend on it.
//
// The source is part of the identity: nobody with a token can take the place of what it says, nor it that of a job's report. So is all
// that was read. The digits of the commit are not: of an image whose release is not known yet its tag has fewer.
func (a *api) storeSaid(ctx context.Context, project string, spec v1alpha1.CIResultSpec) (name string, existing *v1alpha1.CIResult, err error) {
	said := func(s v1alpha1.CIResultSpec) v1alpha1.CIResultSpec {
		s.Commit = v1alpha1.ShortSHA(s.Commit)
		return content(s)
	}
	same := func(o v1alpha1.CIResultSpec) bool {
		return o.Source == spec.Source && o.ReportHash == spec.ReportHash && equality.Semantic.DeepEqual(said(o), said(spec)) &&
			(strings.HasPrefix(o.Commit, spec.Commit) || strings.HasPrefix(spec.Commit, o.Commit))
	}
	return a.storeResult(ctx, project, spec, hashOf([]any{spec.Source, spec.ReportHash, said(spec)}), same)
}

// add puts one thing that was done into the answer. Of several outcomes stored comes first, then repeated.
func (h *HookAnswer) add(outcome, result, detail string) {
	if h.Outcome == "" || outcome == hookStored || outcome == hookRepeated && h.Outcome == hookIgnored {
		h.Outcome = outcome
	}
	if h.Detail != "" {
		h.Detail += "; "
	}
	h.Detail += detail
	if result != "" {
		h.Results = append(h.Results, result)
	}
}

// stampHook is stamp for webhooks: what was read is kept instead of the body, which may hold variables of a pipeline and
// addresses of people.
func (a *api) stampHook(spec *v1alpha1.CIResultSpec, d *delivery, read any) error {
	text, err := json.Marshal(read)
	if err != nil {
		return fmt.Errorf("write what was read: %w", err)
	}
	spec.Received = metav1.NewTime(a.o.Now().UTC().Truncate(time.Second))
	spec.Source, spec.Report, spec.ReportHash = d.source, text, reportHash(text)
	if len(text) > MaxBody { // the bound of what a CIResult holds; the figures are in the spec
		spec.Report = nil
	}
	return nil
}

// branchOf is a branch as reports may name it; "" for one that they may not.
func branchOf(name string) string {
	c := &checker{}
	if name = c.branch(name); len(c.errs) > 0 {
		return ""
	}
	return name
}
