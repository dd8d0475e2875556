// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// deferral is why an authorised Rollout does not begin yet, and when it may. Zero: when the policy changes.
type deferral struct {
	message string
	until   time.Time
}

// lookAgain bounds a wait for a time of the wall clock, which may jump.
const lookAgain = time.Hour

// putOff says whether the host's owner lets an authorised Rollout begin later only: his window is closed, or his policy
// cannot be followed. What is under way goes on, and so does healing.
func (w *worker) putOff(rollout *v1alpha1.Rollout, now time.Time) bool {
	d := deferral{}
	policy, err := w.agent.files.policy.Current()
	if err != nil {
		d.message = err.Error()
	} else if open, until, reason := policy.Open(now); !open {
		d.until = until
		d.message = "outside the host's window, which does not open any more: " + reason
		if !until.IsZero() {
			d.message = fmt.Sprintf("outside the host's window until %s: %s", until.Format("2006-01-02 15:04 MST"), reason)
		}
	}
	w.mu.Lock()
	before, known := w.deferred[rollout.UID]
	if d.message == "" {
		delete(w.deferred, rollout.UID)
	} else {
		w.deferred[rollout.UID] = d
	}
	w.mu.Unlock()
	if d.message != "" && (!known || before.until != d.until) {
		w.log.Info("rollout put off", "rollout", rollout.Name, "message", d.message)
	}
	return d.message != ""
}

// deferredUntil is when the first of the Rollouts that were put off may begin; zero for none.
func (w *worker) deferredUntil(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first time.Time
	for _, d := range w.deferred {
		first = earliest(first, d.until)
	}
	if !first.IsZero() && first.After(now.Add(lookAgain)) {
		return now.Add(lookAgain)
	}
	return first
}

// rejectionOf says why a deployment is not admitted.
func rejectionOf(err error, secrets state.Secrets) rejection {
	var findings hostpolicy.Refusal
	r := rejection{reason: v1alpha1.ReasonComposeInvalid, message: redact(err.Error(), secrets)}
	switch {
	case errors.As(err, &findings), errors.Is(err, hostpolicy.ErrUnusable):
		r = rejection{reason: v1alpha1.ReasonPolicyRefused, message: "refused by this host's policy: " + r.message, byHost: true}
	case errors.Is(err, errHostFile):
		r.byHost = true
	}
	return r
}

// lookAtPolicy reads the policy again if it changed, tells so, and has whatever it held back judged anew. It costs a look
// at the file's times.
func (a *Agent) lookAtPolicy(info *v1alpha1.AgentInfo) {
	policy, version, err := a.files.policy.Look()
	info.Policy, info.PolicyProblem = nil, ""
	if err != nil {
		info.PolicyProblem = shorten(err.Error())
	} else {
		info.Policy = &policy.HostPolicy
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if version != a.policyVersion {
		switch {
		case err != nil:
			a.log.Error(err, "host policy changed")
		case a.policyVersion == 0:
			a.log.Info("host policy read", "file", a.files.policy.File(), "window", policy.Window != nil, "secondSignature", policy.SecondSignature != nil)
		default:
			a.log.Info("host policy changed", "file", a.files.policy.File(), "window", policy.Window != nil, "secondSignature", policy.SecondSignature != nil)
		}
	}
	for _, w := range a.workers {
		w.judgeAgain(version != a.policyVersion && a.policyVersion != 0)
	}
	a.policyVersion = version
}

// judgeAgain wakes the worker when something was held back by this server, where it may have been mended.
func (w *worker) judgeAgain(changed bool) {
	w.mu.Lock()
	again := changed && len(w.deferred) > 0
	for _, uid := range slices.Collect(maps.Keys(w.rejected)) {
		if r := w.rejected[uid]; r.byHost {
			r.again, again = true, true
			w.rejected[uid] = r
		}
	}
	w.mu.Unlock()
	if again {
		poke(w.offered)
	}
}
