// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// errReleaseNames: every name that a Release of this commit could have is another's. It takes somebody who creates Releases
// named after commits that are not theirs.
var errReleaseNames = errors.New("all names for the release are taken by releases of other commits")

// errAborted is the outcome for those who waited for a request that panicked.
var errAborted = unavailable("the release could not be created; nothing is acknowledged, send it again", time.Second, nil)

// resultNameDigits are the lengths to which the content's hash is written in a CIResult's name: the second and third are for
// contents made to collide in the first.
var resultNameDigits = []int{10, 32, 64}

// releaseNameDigits are the digits of the commit in the name of a Release that the API creates. The longest fits SHA-1; a
// name has no room for all 64 of SHA-256.
var releaseNameDigits = []int{7, 12, 40}

// errResultNames: every name that a result could have is another's. It takes contents made to collide.
var errResultNames = errors.New("all names for the result are taken by others")

// storeResult creates the CIResult with this spec, unless it exists. identity, a hash, makes the name; same tells whether what
// exists under it is what the identity stands for. What exists is returned when it is not what is being stored.
func (a *api) storeResult(ctx context.Context, project string, spec v1alpha1.CIResultSpec, identity string, same func(v1alpha1.CIResultSpec) bool) (name string, existing *v1alpha1.CIResult, err error) {
	for _, digits := range resultNameDigits {
		name = fmt.Sprintf("%s-%s-%s", v1alpha1.ShortSHA(spec.Commit), spec.Type, identity[:digits])
		result := &v1alpha1.CIResult{
			ObjectMeta: metav1.ObjectMeta{
				Name:      name,
				Namespace: project,
				Labels: map[string]string{
					v1alpha1.LabelProject: project,
					v1alpha1.LabelCommit:  v1alpha1.ShortSHA(spec.Commit),
				},
			},
			Spec: spec,
		}
		err = a.o.Client.Create(ctx, result)
		if err == nil {
			return name, nil, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return "", nil, storeProblem("store the result", err)
		}
		existing = &v1alpha1.CIResult{}
		if err = a.get(ctx, client.ObjectKey{Namespace: project, Name: name}, existing); err != nil {
			return "", nil, storeProblem("read the result stored before", err)
		}
		if same(existing.Spec) {
			return name, existing, nil
		}
	}
	return "", nil, storeProblem("name the result", errResultNames)
}

// storeRun stores what one run of a job reported. The same report again is the same result; another one contradicts it and is
// refused. What the contradiction says worse is stored all the same, so that refusing it cannot hide a failure: the worst of
// both counts until a newer run.
func (a *api) storeRun(ctx context.Context, project string, spec v1alpha1.CIResultSpec) (name string, created bool, err error) {
	sameRun := func(o v1alpha1.CIResultSpec) bool { return runOf(o) == runOf(spec) }
	name, existing, err := a.storeResult(ctx, project, spec, hashOf(runOf(spec)), sameRun)
	if err != nil || existing == nil {
		return name, err == nil, err
	}
	if sameContent(existing.Spec, spec) {
		return name, false, nil
	}
	if !evidence.Worsens(existing.Spec, spec) {
		return "", false, contradiction("the first report counts", existing.Spec, spec)
	}
	_, _, err = a.storeResult(ctx, project, spec, contentHash(spec, "contradiction"), func(o v1alpha1.CIResultSpec) bool { return sameContent(o, spec) })
	if err != nil {
		return "", false, err
	}
	return "", false, contradiction("the worst of both counts", existing.Spec, spec)
}

// contradiction is the problem of a second, different report about one run.
func contradiction(counts string, first, second v1alpha1.CIResultSpec) *Problem {
	return fields(http.StatusConflict, "contradiction", "The run has reported something else before", []FieldError{{"run",
		"not the same: " + strings.Join(differing(first, second), ", ") + "; " + counts + "; a newer run replaces both: give pipeline ($CI_PIPELINE_ID), and job and run ($CI_JOB_NAME, $CI_JOB_ID) where a pipeline has several results of a type"}})
}

// run identifies what may have one result only.
type run struct{ Commit, Type, Pipeline, Job, Run string }

func runOf(spec v1alpha1.CIResultSpec) run {
	return run{spec.Commit, spec.Type, spec.Pipeline, spec.Job, spec.Run}
}

func sameContent(a, b v1alpha1.CIResultSpec) bool {
	return equality.Semantic.DeepEqual(content(a), content(b))
}

// content is what a report says, without when, who, with which token and in which bytes it said it.
func content(spec v1alpha1.CIResultSpec) v1alpha1.CIResultSpec {
	spec.Received, spec.Source, spec.Identity, spec.ReportHash, spec.Report = metav1.Time{}, "", nil, "", nil
	return spec
}

// differing are the fields, as they stand in JSON, in which two reports are not the same, sorted.
func differing(a, b v1alpha1.CIResultSpec) []string {
	one, other := reflect.ValueOf(content(a)), reflect.ValueOf(content(b))
	var out []string
	for i := range one.NumField() {
		if !equality.Semantic.DeepEqual(one.Field(i).Interface(), other.Field(i).Interface()) {
			name, _, _ := strings.Cut(one.Type().Field(i).Tag.Get("json"), ",")
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func contentHash(spec v1alpha1.CIResultSpec, after string) string {
	return hashOf(struct {
		Content v1alpha1.CIResultSpec `json:"content"`
		After   string                `json:"after,omitempty"`
	}{content(spec), after})
}

func hashOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // a struct of strings and finite numbers
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// reportHash is the hash of a body as received.
func reportHash(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ensureRelease sees to it that the project has a Release of a full commit. Of the reports that arrive together one looks and
// creates, the others wait for it.
func (a *api) ensureRelease(ctx context.Context, project, commit, branch string) error {
	if oldest(a.hub.releasesWith(project, commit), commit) != nil {
		return nil
	}
	key := releaseKey{project, commit}
	making, first := a.makings.begin(key, time.Now())
	if !first {
		select {
		case <-making.done:
			return making.err
		case <-ctx.Done():
			return storeProblem("wait for the release", ctx.Err())
		}
	}
	// The others must not fail because this client went away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.o.StoreTimeout)
	defer cancel()
	defer func() { a.makings.end(key, making) }()
	making.err = errAborted
	making.err = a.createRelease(ctx, project, commit, branch)
	return making.err
}

// createRelease creates a Release named after the commit, unless one of these names is that of a Release of the commit.
func (a *api) createRelease(ctx context.Context, project, commit, branch string) error {
	for _, digits := range releaseNameDigits {
		release := &v1alpha1.Release{
			ObjectMeta: metav1.ObjectMeta{
				Name:      commit[:digits],
				Namespace: project,
				Labels:    map[string]string{v1alpha1.LabelProject: project},
			},
			Spec: v1alpha1.ReleaseSpec{Commit: commit, Branch: branch},
		}
		if a.o.CreatedBy != "" {
			release.Annotations = map[string]string{v1alpha1.AnnotationCreatedBy: a.o.CreatedBy}
		}
		err := a.o.Client.Create(ctx, release)
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return storeProblem("create the release", err)
		}
		var existing v1alpha1.Release
		if err := a.o.APIReader.Get(ctx, client.ObjectKeyFromObject(release), &existing); err != nil {
			return storeProblem("read the release", err) // deleted meanwhile: the client tries again
		}
		if existing.Spec.Commit == commit {
			return nil
		}
	}
	return storeProblem("name the release", errReleaseNames)
}

// makings are the Releases that are being made, or were made so short a time ago that the index may not have them yet. Without
// them each of the reports that a pipeline sends at the same time would try to create the Release. The zero value is ready.
type makings struct {
	mu sync.Mutex
	of map[releaseKey]*making
}

type releaseKey struct{ project, commit string }

type making struct {
	done  chan struct{}
	err   error // set before done is closed
	start time.Time
}

// makingLife is how long a Release that was made is taken for there. The index has it much earlier; if somebody deletes it
// within this time, it comes back with the next report after.
const makingLife = 2 * time.Second

// begin returns the making that is to be waited for, or a new one for the caller to end.
func (m *makings) begin(key releaseKey, now time.Time) (_ *making, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.of[key]; old != nil && (!old.ended() || now.Sub(old.start) < makingLife) {
		return old, false
	}
	for k, old := range m.of { // few: those of the last seconds
		if old.ended() && now.Sub(old.start) >= makingLife {
			delete(m.of, k)
		}
	}
	if m.of == nil {
		m.of = map[releaseKey]*making{}
	}
	m.of[key] = &making{done: make(chan struct{}), start: now}
	return m.of[key], true
}

// end publishes the outcome; a failure is forgotten, so that the next report tries again.
func (m *makings) end(key releaseKey, mk *making) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(mk.done)
	if mk.err != nil {
		delete(m.of, key)
	}
}

func (m *making) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// storeProblem turns an error of the API server into a problem. What was not acknowledged may or may not be stored, and since
// reports are idempotent the client is told to try again, but for what no new try would mend.
func storeProblem(doing string, err error) error {
	if err == nil {
		return nil
	}
	cause := fmt.Errorf("%s: %w", doing, err)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		p := newProblem(http.StatusConflict, "project-deleted", "The project is being deleted", "nothing can be stored in it any more")
		p.cause = cause
		return p
	case apierrors.IsInvalid(err):
		return schemaProblem(err, cause)
	}
	retry := 2 * time.Second
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		retry = time.Duration(min(seconds, 60)) * time.Second
	}
	return unavailable("the store did not take the request; nothing is acknowledged, send it again", retry, cause)
}

// schemaProblem names the fields that the schema of the stored kind refuses. Requests are checked before, so this is a schema
// that is stricter than this version of the program expects.
func schemaProblem(err, cause error) error {
	var status apierrors.APIStatus
	var errs []FieldError
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, c := range status.Status().Details.Causes {
			errs = append(errs, FieldError{clip(c.Field), "is refused by the schema"})
		}
	}
	if len(errs) == 0 {
		errs = []FieldError{{Detail: "the schema refuses it"}}
	}
	p := fields(http.StatusUnprocessableEntity, "refused-by-schema", "The store refuses the content", errs[:min(len(errs), maxFieldErrors)])
	p.cause = cause
	return p
}
