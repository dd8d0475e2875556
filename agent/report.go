// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// say notes what is being done for a Rollout and reports it.
func (w *worker) say(uid, message string) {
	if w.live.uid != uid {
		w.live = live{uid: uid}
	}
	w.live.message = shorten(message)
	w.publish()
}

// publish hands the status of every offered Rollout to the reporter, which writes what changed.
func (w *worker) publish() {
	w.tellDoing()
	w.mu.Lock()
	rollouts := make([]*v1alpha1.Rollout, 0, len(w.rollouts))
	for _, rollout := range w.rollouts {
		rollouts = append(rollouts, rollout)
	}
	w.mu.Unlock()
	for _, rollout := range rollouts {
		status, known := w.statusOf(rollout)
		if known && w.unsaved != nil && status.Phase != v1alpha1.RolloutUnhealthy {
			w.agent.reporter.hold(rollout, shorten("held up: the agent cannot write its state on the server: "+w.unsaved.Error()))
			continue
		}
		if known {
			w.agent.reporter.report(rollout, status)
		}
	}
}

// statusOf derives a Rollout's status from the state on disk and what is known of the moment, so that an agent that was
// killed at any point reports the same as one that was not. known is false while there is nothing to say.
func (w *worker) statusOf(rollout *v1alpha1.Rollout) (status v1alpha1.RolloutStatus, known bool) {
	if w.forgotten(rollout) {
		return *rollout.Status.DeepCopy(), true
	}
	s, known := w.phaseOf(rollout)
	suspended, _ := w.suspension(time.Now())
	if suspended != "" && !known {
		s.Phase, known = v1alpha1.RolloutPending, true
		conditions(&s, v1alpha1.ReasonPending, moveOn)
	}
	if suspended != "" && s.Phase == v1alpha1.RolloutSuperseded {
		suspended = "" // of no concern any more
	}
	setSuspended(&s, suspended)
	return s, known
}

// forgotten says that a Rollout failed so long ago that only the control plane remembers how: what it has stays as it is.
func (w *worker) forgotten(rollout *v1alpha1.Rollout) bool {
	switch rollout.Status.Phase {
	case v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHeld:
	default:
		return false
	}
	if w.damaged != nil || w.failureOf(rollout) != nil {
		return false
	}
	return w.overtaken(rollout.Spec) && w.behind(rollout.Spec) == ""
}

// phaseOf is the status but for a suspension.
func (w *worker) phaseOf(rollout *v1alpha1.Rollout) (status v1alpha1.RolloutStatus, known bool) {
	uid := string(rollout.UID)
	s := v1alpha1.RolloutStatus{ObservedGeneration: rollout.Generation}
	s.Conditions = append(s.Conditions, rollout.Status.Conditions...) // times of transitions stay as they were
	w.mu.Lock()
	rejected, isRejected := w.rejected[rollout.UID]
	deferred, isDeferred := w.deferred[rollout.UID]
	w.mu.Unlock()
	d := w.disk
	switch {
	case w.damaged != nil:
		s.Phase, s.Message = v1alpha1.RolloutPending, "nothing is touched until a person has looked at the server: "+w.damaged.Error()
		conditions(&s, v1alpha1.ReasonInvalid, moveStalled)
	case d.Attempt != nil && d.Attempt.UID == uid:
		s.Phase, s.Timings = d.Attempt.Phase, d.Attempt.Timings
		s.Message = w.messageFor(uid)
		if w.live.uid == uid && w.live.verdict != nil {
			s.Services = serviceStates(*w.live.verdict)
		}
		conditions(&s, v1alpha1.ReasonProgressing, moveOn)
	case w.failureOf(rollout) != nil:
		f := w.failureOf(rollout)
		s.Phase, s.Message, s.Services, s.LastLogs = f.Phase, f.Message, f.Services, f.Logs
		s.ServingSequence, s.Timings = f.Serving, f.Timings
		reason := f.Reason
		if f.Phase == v1alpha1.RolloutRolledBack {
			reason = v1alpha1.ReasonRolledBack
		}
		conditions(&s, reason, moveStalled)
	case d.Current != nil && d.Current.UID == uid:
		w.servingStatus(&s)
	case d.Removed != nil && d.Removed.UID == uid:
		s.Phase, s.Timings = v1alpha1.RolloutRemoved, d.Removed.Timings
		s.Message = "containers and networks are gone; named volumes were kept"
		if d.Removed.Spec.Remove.Volumes {
			s.Message = "containers, networks and volumes are gone"
		}
		conditions(&s, v1alpha1.ReasonRemoved, moveReady)
	case isRejected:
		s.Phase, s.Message = v1alpha1.RolloutRejected, shorten(rejected.message)
		conditions(&s, rejected.reason, moveStalled)
	case w.overtaken(rollout.Spec) && w.behind(rollout.Spec) != "":
		s.Phase, s.ServingSequence = v1alpha1.RolloutRejected, d.Highest
		s.Message = shorten(w.behind(rollout.Spec) + ": was it restored from an older backup? What runs keeps running")
		conditions(&s, v1alpha1.ReasonOlderSequence, moveStalled)
	case w.overtaken(rollout.Spec):
		s.Phase, s.Message = v1alpha1.RolloutSuperseded, fmt.Sprintf("sequence %d took its place", d.Highest)
		s.Timings = rollout.Status.Timings
		conditions(&s, v1alpha1.ReasonSuperseded, moveDone)
	case isDeferred:
		s.Phase, s.Message = v1alpha1.RolloutPending, shorten(deferred.message)
		conditions(&s, v1alpha1.ReasonPending, moveOn)
	case w.live.uid == uid:
		s.Phase, s.Message = v1alpha1.RolloutVerifying, w.live.message
		if s.Message != "" {
			s.Phase = v1alpha1.RolloutPending
		}
		conditions(&s, v1alpha1.ReasonPending, moveOn)
	default:
		return s, false
	}
	return s, true
}

// servingStatus is the status of the Rollout that is committed.
func (w *worker) servingStatus(s *v1alpha1.RolloutStatus) {
	current := w.disk.Current
	s.Timings = current.Timings
	s.Phase = v1alpha1.RolloutHealthy
	if current.HealthySince.IsZero() {
		s.Phase = v1alpha1.RolloutUnhealthy
		s.Message = w.messageFor(current.UID)
		conditions(s, v1alpha1.ReasonUnhealthy, moveOn)
	} else {
		since := metav1.NewTime(current.HealthySince.UTC().Truncate(time.Second))
		s.HealthySince = &since
		s.Message = shorten(current.Manner)
		conditions(s, v1alpha1.ReasonHealthy, moveReady)
	}
	drifted(s, redact(w.drift, current.Secrets))
	if w.live.uid == current.UID && w.live.verdict != nil {
		s.Services = serviceStates(*w.live.verdict)
	}
}

func (w *worker) messageFor(uid string) string {
	if w.live.uid == uid {
		return w.live.message
	}
	return ""
}

// movement is how a Rollout moves, in the terms of kstatus.
type movement int

const (
	moveOn      movement = iota // by itself
	moveStalled                 // not before somebody acts
	moveReady                   // arrived
	moveDone                    // of no concern any more
)

// conditions sets all of a Rollout's conditions; the message is the status' own.
func conditions(s *v1alpha1.RolloutStatus, reason string, m movement) {
	message := s.Message
	if message == "" {
		message = map[movement]string{moveOn: "in progress", moveReady: "all services are healthy"}[m]
	}
	if m == moveOn && s.Phase != v1alpha1.RolloutUnhealthy {
		message = s.Phase // progress in words is the status' message: a condition need not follow every percent
	}
	set := func(kind string, on bool) {
		value := metav1.ConditionFalse
		if on {
			value = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: s.ObservedGeneration,
		})
	}
	set(v1alpha1.ConditionReady, m == moveReady)
	set(v1alpha1.ConditionReconciling, m == moveOn)
	set(v1alpha1.ConditionStalled, m == moveStalled)
}

// drifted says in a condition in what the containers of what serves differ from what was deployed.
func drifted(s *v1alpha1.RolloutStatus, drift string) {
	c := metav1.Condition{
		Type: v1alpha1.ConditionDrifted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAsDeployed,
		Message: "the containers are what was deployed", ObservedGeneration: s.ObservedGeneration,
	}
	if drift != "" {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonDrifted, shorten(drift)
	}
	meta.SetStatusCondition(&s.Conditions, c)
}

// serviceStates is a verdict as the API shows it.
func serviceStates(v health.Verdict) []v1alpha1.ServiceState {
	states := make([]v1alpha1.ServiceState, 0, len(v.Services))
	for _, s := range v.Services {
		state := v1alpha1.ServiceState{
			Name: s.Name, Running: fmt.Sprintf("%d/%d", s.Running, s.Wanted), Health: s.Check, Image: s.Image,
		}
		if s.Status >= health.Unhealthy || s.Excused {
			state.Message = shorten(s.Message)
		}
		if s.Completed {
			state.Message = "completed"
		}
		states = append(states, state)
	}
	return states
}
