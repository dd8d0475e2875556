// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/gitlab"
)

const (
	// A GitLab that cannot be told is tried again after gitlabRetry, then after twice as long each time, up to gitlabRetryMost.
	gitlabRetry     = 2 * time.Second
	gitlabRetryMost = 30 * time.Minute
	// gitlabPatience is the age of a release from which on what its commit is refused for is no longer tried again by itself: by
	// then the commit would have been pushed. What the token may not do is tried as long as releases are told of: nobody tells when it
	// may.
	gitlabPatience = time.Hour
)

// gitlabReconciler tells the GitLab of a project what becomes of its commits. It decides nothing and holds nothing up.
type gitlabReconciler struct {
	client.Client
	fresh   client.Client // past the cache
	events  events.EventRecorder
	gitlab  *gitlab.Client
	link    func(*v1alpha1.Release) string // of a release's page; nil for none
	backoff *flowcontrol.Backoff
	now     func() time.Time

	mu     sync.Mutex
	pauses map[string]gitlabPause // by project
}

func newGitLab(c, fresh client.Client, rec events.EventRecorder, guard egress.Guard, now func() time.Time) *gitlabReconciler {
	return &gitlabReconciler{
		Client: c, fresh: fresh, events: rec, gitlab: gitlab.New(guard), backoff: flowcontrol.NewBackOff(gitlabRetry, gitlabRetryMost),
		now: now, pauses: map[string]gitlabPause{},
	}
}

func (p parts) gitlab() *gitlabReconciler {
	r := newGitLab(p.c, p.direct, p.events, p.Egress, p.Now)
	r.link = p.Link
	return r
}

// gitlabPause leaves a project's GitLab alone that has a problem with whatever it is told.
type gitlabPause struct {
	with    gitlab.Project
	until   time.Time
	problem error
}

// Reconcile says what is still to be said.
func (r *gitlabReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var release v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &release); err != nil {
		if apierrors.IsNotFound(err) {
			r.backoff.Reset(req.String())
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: release.Namespace}, &project); err != nil {
		if apierrors.IsNotFound(err) {
			r.resume(release.Namespace)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !release.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	out, circle, err := r.sayings(ctx, &project, &release)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case len(out) == 0 && circle == nil:
		return ctrl.Result{}, r.settle(ctx, &project, &release)
	}
	if err := r.fresh.Get(ctx, req.NamespacedName, &release); err != nil { // the cache may not know yet what was said
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	told, problem, err := r.tell(ctx, &project, &release)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.write(ctx, &release, told, problem); err != nil {
		return ctrl.Result{}, err
	}
	if problem == nil {
		r.backoff.Reset(req.String())
		return ctrl.Result{}, nil
	}
	after := r.again(project.Name, req.String(), &release, problem)
	log.FromContext(ctx).Info("GitLab could not be told", "again", after.String(), "cause", problem.Error())
	return ctrl.Result{RequeueAfter: after}, nil
}

// tell says one thing after the other. What GitLab has against one of them does not keep it from the next; what it has against
// anything ends the round. problem is the first that it had; err is none of GitLab's.
func (r *gitlabReconciler) tell(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release) (told v1alpha1.GitLabTold, problem, err error) {
	told = toldGitLab(project, release)
	with, problem, err := r.connection(ctx, project)
	if err != nil || problem != nil {
		return told, problem, err
	}
	if problem := r.paused(project.Name, with); problem != nil {
		return told, problem, nil
	}
	out, circle, err := r.sayings(ctx, project, release)
	if err != nil {
		return told, nil, err
	}
	for _, s := range out {
		id, err := r.say(ctx, with, release, s)
		if ctx.Err() != nil { // stopping; to say it again does no harm
			return told, nil, ctx.Err()
		}
		if err == nil {
			s.said(&told, id)
			continue
		}
		if id > 0 { // there, and not as it should be
			s.deployment.State = gitlab.Running
			s.said(&told, id)
		}
		if concernsAll(err) {
			r.pause(project.Name, with, err)
			return told, err, nil
		}
		if problem == nil {
			problem = err
		}
	}
	r.resume(project.Name)
	if problem == nil {
		problem = circle
	}
	return told, problem, nil
}

// circleError says that GitLab and a gate would wait for each other.
type circleError struct{ gate string }

func (e *circleError) Error() string {
	return fmt.Sprintf("spec.gitlab.commitStatus: gate %s asks for the result %s, which GitLab's webhook brings, and GitLab counts commit statuses among the jobs of that pipeline: "+
		"each would wait for the other, so that no status is told. Have the gate ask for what jobs report, or turn commitStatus off", e.gate, v1alpha1.TypePipeline)
}

func isCircle(problem error) bool {
	var circle *circleError
	return errors.As(problem, &circle)
}

// sayings is what is to be said now. circle is why statuses are not, where there are some.
func (r *gitlabReconciler) sayings(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release) (out []saying, circle, err error) {
	all := sayToGitLab(project, release, r.now())
	if h := project.Spec.Hooks; h == nil || h.GitLab == nil || !slices.ContainsFunc(all, func(s saying) bool { return s.status != nil }) {
		return all, nil, nil
	}
	var gates v1alpha1.QualityGateList
	if err := r.List(ctx, &gates, client.InNamespace(project.Name)); err != nil {
		return nil, nil, fmt.Errorf("list gates: %w", err)
	}
	for _, g := range gates.Items {
		if slices.ContainsFunc(g.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.Result != nil && c.Result.Type == v1alpha1.TypePipeline }) {
			return slices.DeleteFunc(all, func(s saying) bool { return s.status != nil }), &circleError{g.Name}, nil
		}
	}
	return all, nil, nil
}

// leading adds the link of the release's page, which is a secret of sorts: it goes to GitLab and into no object. It is no part of what
// makes a status another one, so that a new address has nothing said again; what is said from then on leads there.
func (r *gitlabReconciler) leading(s gitlab.Status, release *v1alpha1.Release) gitlab.Status {
	if r.link == nil {
		return s
	}
	if link := r.link(release); len(link) <= gitlab.MaxTarget {
		s.TargetURL = link
	}
	return s
}

func (r *gitlabReconciler) say(ctx context.Context, with gitlab.Project, release *v1alpha1.Release, s saying) (int64, error) {
	switch {
	case s.status != nil:
		return 0, r.gitlab.SetStatus(ctx, with, r.leading(*s.status, release))
	case s.id > 0:
		if err := r.gitlab.SetDeployment(ctx, with, s.id, s.deployment.State); err != nil {
			return 0, err
		}
		return s.id, nil
	}
	return r.gitlab.Deploy(ctx, with, *s.deployment, s.after)
}

// noTokenError says what is wrong with spec.gitlab.tokenSecretRef.
type noTokenError struct{ text string }

func (e *noTokenError) Error() string { return e.text }

func lacksToken(problem error) bool {
	var missing *noTokenError
	return errors.As(problem, &missing)
}

// connection reads the token when it is needed; problem is what is wrong with it.
func (r *gitlabReconciler) connection(ctx context.Context, p *v1alpha1.Project) (with gitlab.Project, problem, err error) {
	g := p.Spec.GitLab
	var s corev1.Secret
	err = r.Get(ctx, client.ObjectKey{Namespace: p.Name, Name: g.TokenSecretRef.Name}, &s)
	if err != nil && !apierrors.IsNotFound(err) {
		return with, nil, fmt.Errorf("read secret %s: %w", g.TokenSecretRef.Name, err)
	}
	token := strings.TrimSpace(string(s.Data[g.TokenSecretRef.Key]))
	if token == "" {
		return with, &noTokenError{fmt.Sprintf("spec.gitlab.tokenSecretRef: there is no key %s in a Secret %s of namespace %s: put a project access token with the scope api there",
			g.TokenSecretRef.Key, g.TokenSecretRef.Name, p.Name)}, nil
	}
	return gitlab.Project{URL: g.URL, Project: g.Project, Token: token}, nil, nil
}

// concernsAll tells what GitLab has against anything that it is told from what it has against one thing.
func concernsAll(err error) bool {
	switch gitlab.KindOf(err) {
	case gitlab.None, gitlab.Forbidden, gitlab.NoCommit, gitlab.Refused:
		return false
	}
	return true
}

// paused returns the problem for which the GitLab is left alone.
func (r *gitlabReconciler) paused(project string, with gitlab.Project) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.pauses[project]; ok && p.with == with && r.now().Before(p.until) {
		return p.problem
	}
	return nil
}

// pause leaves the GitLab alone, for as long as it asks or longer and longer.
func (r *gitlabReconciler) pause(project string, with gitlab.Project, problem error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.pauses[project].with != with {
		r.backoff.Reset(project)
	}
	r.backoff.Next(project, now)
	r.pauses[project] = gitlabPause{with, now.Add(max(r.backoff.Get(project), gitlab.RetryAfter(problem))), problem}
}

func (r *gitlabReconciler) resume(project string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pauses, project)
	r.backoff.Reset(project)
}

// again is when to try again; 0 for not by itself.
func (r *gitlabReconciler) again(project, key string, release *v1alpha1.Release, problem error) time.Duration {
	if lacksToken(problem) || isCircle(problem) { // the Secret is watched, and so is what gates say
		return 0
	}
	if concernsAll(problem) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return max(r.pauses[project].until.Sub(r.now()), time.Second)
	}
	patience := gitlabPatience
	if gitlab.KindOf(problem) == gitlab.Forbidden {
		patience = gitlabHistory
	}
	if r.now().Sub(release.CreationTimestamp.Time) > patience {
		return 0
	}
	r.backoff.Next(key, r.now())
	return max(r.backoff.Get(key), gitlab.RetryAfter(problem))
}

// settle sets the condition where there is nothing to say.
func (r *gitlabReconciler) settle(ctx context.Context, project *v1alpha1.Project, release *v1alpha1.Release) error {
	c := findCondition(release.Status.Conditions, v1alpha1.ConditionGitLabTold)
	off := gitlabAddress(project) == ""
	if c == nil || !off && c.Reason == v1alpha1.ReasonTold {
		return nil
	}
	if off {
		return r.update(ctx, release, func(o *v1alpha1.Release) {
			meta.RemoveStatusCondition(&o.Status.Conditions, v1alpha1.ConditionGitLabTold)
		})
	}
	return r.write(ctx, release, toldGitLab(project, release), nil)
}

// write records what was told and what keeps GitLab from the rest.
func (r *gitlabReconciler) write(ctx context.Context, release *v1alpha1.Release, told v1alpha1.GitLabTold, problem error) error {
	ok, reason, message := problem == nil, gitlabReason(problem), "GitLab knows how the release stands"
	if !ok {
		message = problem.Error() + ". It holds nothing up"
	}
	before := findCondition(release.Status.Conditions, v1alpha1.ConditionGitLabTold)
	isNew := before == nil || before.Reason != reason || before.Message != message
	err := r.update(ctx, release, func(o *v1alpha1.Release) {
		o.Status.GitLab = nil
		if len(told.Statuses) > 0 || len(told.Deployments) > 0 {
			o.Status.GitLab = told.DeepCopy()
		}
		setCondition(&o.Status.Conditions, o.Generation, v1alpha1.ConditionGitLabTold, ok, reason, message)
	})
	if err == nil && !ok && isNew {
		r.events.Eventf(release, nil, corev1.EventTypeWarning, "GitLabNotTold", "Tell", "%s", message)
	}
	return err
}

// update changes the status as it is now: what was said must be recorded, whoever else writes at the same time.
func (r *gitlabReconciler) update(ctx context.Context, release *v1alpha1.Release, change func(*v1alpha1.Release)) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var o v1alpha1.Release
		if err := r.fresh.Get(ctx, client.ObjectKeyFromObject(release), &o); err != nil {
			return client.IgnoreNotFound(err)
		}
		base := o.DeepCopy()
		change(&o)
		if o.UID != release.UID || sameStatus(base.Status, o.Status) {
			return nil
		}
		return r.fresh.Status().Patch(ctx, &o, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	})
}

// gitlabReason is the condition's.
func gitlabReason(problem error) string {
	switch {
	case lacksToken(problem):
		return v1alpha1.ReasonTokenMissing
	case isCircle(problem):
		return v1alpha1.ReasonPipelineAwaited
	}
	switch gitlab.KindOf(problem) {
	case gitlab.None:
		return v1alpha1.ReasonTold
	case gitlab.Blocked:
		return v1alpha1.ReasonAddressBlocked
	case gitlab.Denied, gitlab.Forbidden:
		return v1alpha1.ReasonGitLabDenied
	case gitlab.NoProject:
		return v1alpha1.ReasonGitLabNoProject
	case gitlab.NoCommit:
		return v1alpha1.ReasonGitLabNoCommit
	case gitlab.Refused:
		return v1alpha1.ReasonGitLabRefused
	case gitlab.Busy:
		return v1alpha1.ReasonGitLabBusy
	}
	return v1alpha1.ReasonGitLabNotResponding
}

func setupGitLab(mgr manager.Manager, r *gitlabReconciler) error {
	c := mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Release{}, builder.WithPredicates(verdictsChanged())).Named("gitlab").
		WithOptions(controller.Options{MaxConcurrentReconciles: outsideWorkers}).
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return releasesIn(ctx, c, o.GetName())
		}), builder.WithPredicates(gitlabChanged())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var p v1alpha1.Project
			if err := c.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, &p); err != nil || gitlabAddress(&p) == "" || p.Spec.GitLab.TokenSecretRef.Name != o.GetName() {
				return nil
			}
			return releasesIn(ctx, c, o.GetNamespace())
		}), builder.WithPredicates(inProject())).
		Complete(inTurns(outsideShare, patient{r}))
}

// gitlabChanged lets a Project through when its GitLab, or whether it brings evidence, is declared or changed.
func gitlabChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, // releases come by themselves
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1alpha1.Project)
			after, ok2 := e.ObjectNew.(*v1alpha1.Project)
			return !ok || !ok2 || !sameStatus([]any{before.Spec.GitLab, before.Spec.Hooks}, []any{after.Spec.GitLab, after.Spec.Hooks})
		},
	}
}
