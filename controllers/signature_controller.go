// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/registry"
)

const (
	// attachedRetry is the time after which an image is looked at again whose signature or bill of materials is missing; it
	// doubles with every look up to attachedRetryMost, since registries send no events and a release may wait for days.
	attachedRetry, attachedRetryMost = registryRetry, 5 * time.Minute
	// lookTimeout bounds one look at one image.
	lookTimeout = 2 * time.Minute
	// attachedWorkers bound the memory that bills of materials take.
	attachedWorkers = 4
	// looksKept are the images that wait whose next look is remembered; judgedKept the artifacts whose verdict is.
	looksKept, judgedKept = 4096, 4096
)

// signatureReconciler looks into the registry for what a gate says is missing there: signatures and bills of materials. It
// writes down what it verified and decides nothing: gates do, from the record. Where no gate says so, nothing is asked.
type signatureReconciler struct {
	client.Client
	now        func() time.Time
	registries registries
	policies   *signaturePolicies
	// next are the next looks: lookAgain by what is looked for.
	next *lru.Cache
	// judged are the verdicts on artifacts, which never change: a finding by what was looked for and the artifact's digest.
	judged *lru.Cache
	// retry is the first pause between two looks.
	retry time.Duration
}

func newSignatureReconciler(c client.Client, images registries, policies *signaturePolicies, o Options) *signatureReconciler {
	return &signatureReconciler{
		Client: c, now: o.Now, registries: images, policies: policies, next: lru.New(looksKept), judged: lru.New(judgedKept), retry: o.retry(attachedRetry),
	}
}

// lookAgain is when to look again, and how long that was after the last look.
type lookAgain struct {
	at   time.Time
	wait time.Duration
}

func setupSignatures(mgr manager.Manager, r *signatureReconciler) error {
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(missingChanged())).Named("signatures").
		WithOptions(controller.Options{MaxConcurrentReconciles: attachedWorkers}).Complete(inTurns(1, patient{r}))
}

// missingChanged lets an update of a Release through when its verdicts or its images changed.
func missingChanged() predicate.Predicate {
	return whenReleaseChanges(func(r *v1alpha1.Release) any {
		if r.Status.Bundle == nil {
			return r.Status.Gates
		}
		return []any{r.Status.Gates, r.Status.Bundle.Images}
	})
}

// Reconcile looks for what is missing and writes down what it found.
func (r *signatureReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if release.Status.Bundle == nil || !release.DeletionTimestamp.IsZero() || len(missing(release.Status)) == 0 {
		return ctrl.Result{}, nil
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, &project); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	images, err := r.registries.of(ctx, &project)
	if err != nil {
		return ctrl.Result{}, err
	}
	base := release.DeepCopy()
	s := &search{r: r, images: images, release: &release, now: r.now()}
	for _, m := range missing(release.Status) {
		if err := s.look(ctx, m); err != nil {
			return ctrl.Result{}, err
		}
	}
	if !sameStatus(base.Status, release.Status) {
		if err := writeStatus(ctx, r.Client, &release, base, false); err != nil {
			return ctrl.Result{}, err
		}
	}
	for key, again := range s.looked {
		r.next.Add(key, again)
	}
	return ctrl.Result{RequeueAfter: nextLook(s.now, s.again)}, nil
}

// lack is what a gate that waits says is missing.
type lack struct {
	gate, environment, criterion string
	signature                    bool
}

// missing is what the verdicts say the registry may still bring. A gate that refused is not helped by it.
func missing(st v1alpha1.ReleaseStatus) []lack {
	var out []lack
	for _, g := range st.Gates {
		for _, c := range g.Criteria {
			signature := c.Name == gate.CriterionSignature && c.Reason == gate.ReasonNotSigned
			if g.Verdict == v1alpha1.VerdictWaiting && (signature || c.Reason == gate.ReasonNoSBOM) {
				out = append(out, lack{g.Name, g.Environment, c.Name, signature})
			}
		}
	}
	return out
}

// search is one round of looks for a release.
type search struct {
	r       *signatureReconciler
	images  *registry.Client
	release *v1alpha1.Release
	now     time.Time
	looked  map[string]lookAgain
	// again is the first moment at which something is to be looked at again.
	again time.Time
}

func (s *search) look(ctx context.Context, m lack) error {
	if m.signature {
		return s.signatures(ctx, m.environment)
	}
	var g v1alpha1.QualityGate
	if err := s.r.Get(ctx, client.ObjectKey{Namespace: s.release.Namespace, Name: m.gate}, &g); err != nil {
		return client.IgnoreNotFound(err)
	}
	for _, c := range g.Spec.Criteria {
		if c.Name == m.criterion && c.SBOM != nil && c.SBOM.Source != v1alpha1.SBOMReported {
			return s.bills(ctx, *c.SBOM)
		}
	}
	return nil
}

// signatures looks at every image that lacks a signature under the environment's policy.
func (s *search) signatures(ctx context.Context, environment string) error {
	var env v1alpha1.Environment
	if err := s.r.Get(ctx, client.ObjectKey{Namespace: s.release.Namespace, Name: environment}, &env); err != nil {
		return client.IgnoreNotFound(err)
	}
	seen, policy, err := s.r.policies.of(ctx, env)
	if err != nil || policy == nil {
		return err
	}
	demanded, _ := gate.Demanded(seen.Spec.Images, s.release.Status.Bundle.Images)
	for _, img := range demanded {
		record := v1alpha1.SignatureRecord{Image: img.Name, Digest: img.Digest, Policy: seen.Hash}
		if old := seen.Record(img, s.release.Status.Signatures); old != nil {
			record = *old.DeepCopy()
		}
		enough := func() bool { return len(seen.Signed(&record)) >= seen.Minimum() }
		key := strings.Join([]string{string(s.release.UID), img.Digest, img.Name, seen.Hash}, "/")
		if enough() || !s.due(key) {
			continue
		}
		problem := s.within(ctx, func(ctx context.Context) (string, error) {
			return s.r.collect(ctx, s.images, policy, img, func(by v1alpha1.ImageSigner) bool {
				if !slices.ContainsFunc(record.Signers, func(o v1alpha1.ImageSigner) bool { return o.Name == by.Name }) {
					by.VerifiedAt = metav1.NewTime(s.now.Truncate(time.Second))
					record.Signers = append(record.Signers, by)
				}
				return !enough()
			})
		}, key)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if record.Problem = problem; enough() {
			record.Problem = ""
		}
		s.keep(ctx, record)
	}
	return nil
}

// due says whether something is to be looked at now; otherwise it notes when.
func (s *search) due(key string) bool {
	if known, ok := s.r.next.Get(key); ok && known.(lookAgain).at.After(s.now) {
		s.again = earlier(s.again, known.(lookAgain).at)
		return false
	}
	return true
}

// within bounds a look and notes when the next one is, should it be needed. It returns what is in the way, in words that stay
// the same from one look to the next.
func (s *search) within(ctx context.Context, look func(context.Context) (string, error), key string) string {
	bound, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	problem, err := look(bound)
	again := lookAgain{wait: s.r.retry}
	if known, ok := s.r.next.Get(key); ok {
		again.wait = min(2*known.(lookAgain).wait, attachedRetryMost)
	}
	again.at = s.now.Add(again.wait)
	if err != nil {
		problem = told(err)
		if at := s.r.registries.again(err, s.now); at.After(again.at) {
			again.at = at
		}
	}
	if s.looked == nil {
		s.looked = map[string]lookAgain{}
	}
	s.looked[key] = again
	s.again = earlier(s.again, again.at)
	return problem
}

// told is an error without the moment of the next try, which would be another one each time.
func told(err error) string {
	var p *registry.Problem
	switch {
	case errors.As(err, &p):
		return strings.TrimPrefix(p.Doing+": "+p.Text, ": ")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("what is attached could not be read within %s", lookTimeout)
	}
	return err.Error()
}

// keep puts a record in, in place of the one that was there, and drops those under policies that no environment has any more.
func (s *search) keep(ctx context.Context, record v1alpha1.SignatureRecord) {
	st := &s.release.Status
	var envs v1alpha1.EnvironmentList
	current := map[string]bool{record.Policy: true}
	if err := s.r.List(ctx, &envs, client.InNamespace(s.release.Namespace)); err != nil {
		return // written at the next look
	}
	for _, env := range envs.Items {
		if seen, _, err := s.r.policies.of(ctx, env); err == nil && seen != nil {
			current[seen.Hash] = true
		}
	}
	kept := slices.DeleteFunc(slices.Clone(st.Signatures), func(o v1alpha1.SignatureRecord) bool {
		same := o.Image == record.Image && o.Digest == record.Digest && o.Policy == record.Policy
		return same || !current[o.Policy]
	})
	kept = append(kept, record)
	slices.SortFunc(kept, func(a, b v1alpha1.SignatureRecord) int {
		return strings.Compare(a.Image+"/"+a.Digest+"/"+a.Policy, b.Image+"/"+b.Digest+"/"+b.Policy)
	})
	st.Signatures = kept
}
