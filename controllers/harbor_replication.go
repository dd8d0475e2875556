// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/harbor"
)

const (
	// arrivalLook is the time after which it is asked again whether a release has arrived, arrivalRetry after trouble; then it is
	// twice as long each time, up to arrivalMost: somebody may have to start the policy, tomorrow.
	arrivalLook, arrivalRetry, arrivalMost = 5 * time.Second, 15 * time.Second, time.Minute
	// A policy is started again after startAgain at the earliest, then after twice as long each time, up to startMost.
	startAgain, startMost = 5 * time.Minute, time.Hour
	// arrivalTimeout bounds all that Harbor is asked in one look.
	arrivalTimeout = 10 * time.Second
	// arrivalsKept is how many looks are remembered.
	arrivalsKept = 1024
)

// arrivals are what the looks at Harbor found, and how who decides on environments and who looks tell each other. What is remembered
// of them is about manners alone: Harbor says itself what it copied.
type arrivals struct {
	// looked are the last looks, by arrivalKey.
	looked *lru.Cache
	// wanted are environments that wait for a look, found those for which there was one.
	wanted, found chan event.GenericEvent
}

func newArrivals() arrivals {
	return arrivals{looked: lru.New(arrivalsKept), wanted: make(chan event.GenericEvent), found: make(chan event.GenericEvent)}
}

// arrivalKey stands for what an environment waits for: a sequence, under the project as it is declared.
func arrivalKey(env *v1alpha1.Environment, p *v1alpha1.Project) string {
	return fmt.Sprintf("%s/%d/%d", env.UID, env.Status.Current.Sequence, p.Generation)
}

func (a arrivals) last(key string) (last arrival, ok bool) {
	known, ok := a.looked.Get(key)
	if ok {
		last = known.(arrival)
	}
	return last, ok
}

// tell wakes the other side, which takes what it is told at once: its queue has each environment once.
func tell(ctx context.Context, to chan<- event.GenericEvent, env *v1alpha1.Environment) error {
	select {
	case to <- event.GenericEvent{Object: &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: env.Name, Namespace: env.Namespace}}}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// arrival is what was found at the last look, and when the next is due.
type arrival struct {
	ok              bool
	reason, message string
	due             time.Time
	// pause is what lies between the look and due.
	pause time.Duration
}

// nextPause is the pause after a look that follows this one.
func (a arrival) nextPause(least time.Duration) time.Duration {
	return min(max(least, 2*a.pause), arrivalMost)
}

// replicationFor is the policy that feeds an environment; nil where it pulls from where it is pushed.
func replicationFor(p *v1alpha1.Project, environment string) *v1alpha1.HarborReplication {
	if p.Spec.Harbor == nil {
		return nil
	}
	for i, r := range p.Spec.Harbor.Replication {
		if r.Environment == environment {
			return &p.Spec.Harbor.Replication[i]
		}
	}
	return nil
}

// arrived says whether the release's images are where the environment pulls from, and in the condition Replicated why not. What was
// sent to some host before, or runs there again, has arrived before. It does not ask Harbor, which may take its time: one worker
// decides on the environments of all projects. Where nothing is known that still holds, it has somebody look, and waits.
func (r *environmentReconciler) arrived(ctx context.Context, s *environmentState, rel *v1alpha1.Release, e v1alpha1.ReleaseEnvironment) (bool, error) {
	st, policy := &s.env.Status, replicationFor(s.project, s.env.Name)
	if policy == nil {
		meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionReplicated)
		return true, nil
	}
	for _, ro := range s.rollouts {
		if ro.Spec.Sequence == st.Current.Sequence {
			return true, nil
		}
	}
	found, looked := r.arrivals.last(arrivalKey(s.env, s.project))
	switch {
	case e.Rollback != "":
		found = arrival{ok: true, reason: v1alpha1.ReasonReplicated, message: "release " + rel.Name + " ran here before"}
	case !looked || !s.now.Before(found.due):
		return false, r.haveLooked(ctx, s, rel, *policy, found)
	}
	setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReplicated, found.ok, found.reason, found.message)
	if !found.ok {
		st.Waiting = waitsForReplication + found.message
		s.lookAt(found.due)
	}
	return found.ok, nil
}

const waitsForReplication = "waits for the replication: "

// haveLooked has somebody ask Harbor, whose answer brings the environment back. Until then the condition stays what it was unless it
// says that another release has arrived: nothing is written for a look that finds nothing new.
func (r *environmentReconciler) haveLooked(ctx context.Context, s *environmentState, rel *v1alpha1.Release, policy v1alpha1.HarborReplication, last arrival) error {
	st := &s.env.Status
	asked := "Harbor is asked whether its policy " + policy.Policy + " has copied release " + rel.Name
	switch c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReplicated); {
	case last.ok: // it had arrived, and is still there as far as anybody knows
	case c == nil || c.Status == metav1.ConditionTrue:
		setCondition(&st.Conditions, s.env.Generation, v1alpha1.ConditionReplicated, false, v1alpha1.ReasonReplicating, asked)
	default:
		asked = c.Message
	}
	st.Waiting = waitsForReplication + asked
	s.lookAt(s.now.Add(arrivalMost)) // should the answer be lost
	return tell(ctx, r.arrivals.wanted, s.env)
}

// replicationReconciler asks the projects' Harbors what environments wait for. It has workers of its own, of which a project has one at
// a time: a Harbor that answers slowly holds up no other project's deployments, and two environments that one policy feeds do not both
// start it.
type replicationReconciler struct {
	client.Client
	// fresh reads past the cache, as the environment's reconciler does: it asks for what it wrote a moment ago.
	fresh    client.Reader
	harbors  harbors
	arrivals arrivals
	// starts are the environments for which a policy was started, so that it is not started again and again.
	starts *flowcontrol.Backoff
	now    func() time.Time
	// again and retry are the first pauses after a look and after trouble; timeout bounds a look.
	again, retry, timeout time.Duration
}

func newReplicationReconciler(c client.Client, fresh client.Reader, h harbors, a arrivals, o Options) *replicationReconciler {
	return &replicationReconciler{
		Client: c, fresh: fresh, harbors: h, arrivals: a, starts: flowcontrol.NewBackOff(startAgain, startMost), now: o.Now,
		again: o.retry(arrivalLook), retry: o.retry(arrivalRetry), timeout: cmp.Or(o.ReplicationTimeout, arrivalTimeout),
	}
}

// arrivalWorkers are how many Harbors are asked at the same time.
const arrivalWorkers = 32

func setupReplication(mgr manager.Manager, r *replicationReconciler) error {
	return ctrl.NewControllerManagedBy(mgr).Named("replication").
		WithOptions(controller.Options{MaxConcurrentReconciles: arrivalWorkers}).
		WatchesRawSource(source.Channel(r.arrivals.wanted, &handler.EnqueueRequestForObject{})).
		Complete(inTurns(1, r))
}

// awaited is a release that an environment waits for.
type awaited struct {
	env     v1alpha1.Environment
	project v1alpha1.Project
	policy  v1alpha1.HarborReplication
	release *v1alpha1.Release
	entry   *v1alpha1.ReleaseEnvironment
}

// Reconcile looks once, and has the environment judged anew.
func (r *replicationReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	w, err := r.gather(ctx, req)
	if w == nil || err != nil {
		return ctrl.Result{}, err
	}
	key := arrivalKey(&w.env, &w.project)
	last, looked := r.arrivals.last(key)
	if looked && r.now().Before(last.due) { // it was asked for while the last look went on
		return ctrl.Result{}, nil
	}
	found, err := r.look(ctx, w, last)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.arrivals.looked.Add(key, found)
	return ctrl.Result{}, tell(ctx, r.arrivals.found, &w.env)
}

// gather reads what is waited for; nil if nothing is any more.
func (r *replicationReconciler) gather(ctx context.Context, req ctrl.Request) (*awaited, error) {
	w := &awaited{}
	if err := r.fresh.Get(ctx, req.NamespacedName, &w.env); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	// From the cache, as the environment's reconciler has it: what is found counts for that generation.
	if err := r.Get(ctx, client.ObjectKey{Name: req.Namespace}, &w.project); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	policy := replicationFor(&w.project, w.env.Name)
	gone := !w.env.DeletionTimestamp.IsZero() || !w.project.DeletionTimestamp.IsZero()
	if policy == nil || gone || w.env.Status.Current == nil || w.env.Spec.Suspend || w.env.Spec.Decommission != nil {
		return nil, nil
	}
	w.policy = *policy
	var err error
	if w.release, w.entry, err = authorised(ctx, r.fresh, &w.env); w.release == nil {
		return nil, client.IgnoreNotFound(err)
	}
	return w, nil
}

// look asks Harbor, and starts the policy where that is wanted and nothing else did.
func (r *replicationReconciler) look(ctx context.Context, w *awaited, last arrival) (arrival, error) {
	bound, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	found, err := r.ask(bound, w)
	var user userError
	var theirs *harbor.Problem
	switch {
	case ctx.Err() != nil:
		return arrival{}, ctx.Err()
	case bound.Err() != nil:
		found = arrival{reason: v1alpha1.ReasonHarborError, message: fmt.Sprintf("Harbor did not answer within %s", r.timeout)}
	case errors.As(err, &user) || errors.As(err, &theirs):
		found = arrival{reason: harborReason(err), message: err.Error() + hint(err)}
		if harbor.IsKind(err, harbor.KindNotFound) {
			found.reason = v1alpha1.ReasonReplicationFailed
		}
	case err != nil:
		return arrival{}, err
	}
	if found.reason != last.reason || found.message != last.message {
		last.pause = 0 // something goes on
	}
	least := r.again
	if err != nil {
		least = r.retry
	}
	found.pause = last.nextPause(least)
	found.due = r.now().Add(found.pause)
	if until := harborUntil(err); until.After(found.due) {
		found.due = until
	}
	return found, nil
}

func (r *replicationReconciler) ask(ctx context.Context, w *awaited) (arrival, error) {
	c, place, err := r.harbors.of(ctx, &w.project)
	if err != nil {
		return arrival{}, err
	}
	var repositories []harbor.Repository
	for _, img := range heldImages(place, bundleImages(w.release.Status.Bundle)) {
		repositories = append(repositories, img.repository)
	}
	if len(repositories) == 0 {
		return arrival{}, userErrorf("no image of the project is on %s: mend spec.harbor of the Project", place.registry)
	}
	got, err := c.Replicated(ctx, w.policy.Policy, w.entry.AuthorizedAt.Time, repositories)
	if err != nil {
		return arrival{}, err
	}
	found := decideArrival(got, w.policy, w.release.Name, meta.IsStatusConditionTrue(w.release.Status.Conditions, v1alpha1.ConditionTagged))
	if !found.start {
		return found.arrival, nil
	}
	key := fmt.Sprintf("%s/%d", w.env.UID, w.env.Status.Current.Sequence)
	if r.starts.IsInBackOffSinceUpdate(key, r.now()) {
		found.message = "Harbor's policy " + w.policy.Policy + " was started, and no execution since the release was let in is known: if that lasts, Harbor's clock is behind"
		return found.arrival, nil
	}
	if err := c.Replicate(ctx, w.policy.Policy); err != nil {
		return arrival{}, err
	}
	r.starts.Next(key, r.now())
	return found.arrival, nil
}

// arrivalDecision is what to say, and whether to start the policy.
type arrivalDecision struct {
	arrival
	start bool
}

// decideArrival is pure.
func decideArrival(got harbor.Replication, policy v1alpha1.HarborReplication, release string, tagged bool) arrivalDecision {
	missing := strings.Join(got.Missing, ", ")
	switch got.State {
	case harbor.Copied:
		return arrivalDecision{arrival: arrival{ok: true, reason: v1alpha1.ReasonReplicated, message: "Harbor's policy " + policy.Policy + " has copied release " + release}}
	case harbor.UnderWay:
		return arrivalDecision{arrival: arrival{reason: v1alpha1.ReasonReplicating, message: "Harbor's policy " + policy.Policy + " is at it: " + missing}}
	case harbor.NotCopied:
		return arrivalDecision{arrival: arrival{reason: v1alpha1.ReasonReplicationFailed, message: fmt.Sprintf(
			"Harbor's policy %s did not copy %s: its log in Harbor says why. Start it again there once that is mended", policy.Policy, missing)}}
	}
	waits := arrival{reason: v1alpha1.ReasonReplicating, message: "Harbor's policy " + policy.Policy + " has not started since the release was let in"}
	switch {
	case !policy.Start:
		waits.message += ": start it in Harbor, or set spec.harbor.replication[].start of the Project"
	case !tagged:
		waits.message += ": it is started once the release has its tags"
	default:
		waits.message = "Harbor's policy " + policy.Policy + " is being started"
		return arrivalDecision{waits, true}
	}
	return arrivalDecision{arrival: waits}
}
