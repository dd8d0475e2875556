// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// state is what the model knows: what was stored, by whom, and what servers said. It is copied at every step.
type state struct {
	releases map[string]release
	// editions of each environment's compose file and values: what a bundle is made of, beside the images.
	editions map[string]edition
	rollouts map[string]rollout
	pvs      map[string]paper
	// guarded says that admission protects approvals.
	guarded bool
}

type edition struct{ compose, value int }

type release struct {
	uid, commit, digest string
	results             map[string]result // newest pipeline of each type
	approvals           map[string]approval
	rejected            map[string]bool
	glass               map[string]approval
	settled             map[string]bool // debts that somebody else regularised
	retries             map[string]int
}

type result struct {
	pipeline int
	status   string
	coverage float64
	received time.Time
}

// approval is by a user, on the edition that the environment had when it was recorded.
type approval struct {
	user    string
	edition edition
	at      time.Time
}

type rollout struct {
	release, environment string
	authorized           time.Time
	sequence             int64
	phase                string
	since, until         time.Time
}

// paper is a PV that was decided.
type paper struct {
	release    string
	authorized time.Time
	decision   v1alpha1.PVDecision
	at         time.Time
}

func newState() state {
	s := state{releases: map[string]release{}, editions: map[string]edition{}, rollouts: map[string]rollout{}, pvs: map[string]paper{}, guarded: true}
	for _, e := range environments {
		s.editions[e] = edition{}
	}
	return s
}

func (s state) clone() state {
	c := s
	c.releases, c.editions, c.rollouts, c.pvs = map[string]release{}, maps.Clone(s.editions), maps.Clone(s.rollouts), maps.Clone(s.pvs)
	for name, r := range s.releases {
		r.results, r.approvals, r.rejected = maps.Clone(r.results), maps.Clone(r.approvals), maps.Clone(r.rejected)
		r.glass, r.settled, r.retries = maps.Clone(r.glass), maps.Clone(r.settled), maps.Clone(r.retries)
		c.releases[name] = r
	}
	return c
}

// observe lists the Rollouts; each that is new must have been allowed when its gate opened.
func (w *world) observe() {
	w.t.Helper()
	var list v1alpha1.RolloutList
	w.must(w.admin().List(w.t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(w.host.Name))))
	for i := range list.Items {
		ro := &list.Items[i]
		if w.seen[ro.Name] {
			continue
		}
		w.seen[ro.Name] = true
		w.sent[ro.Spec.Environment]++
		at, err := time.Parse(time.RFC3339Nano, ro.Annotations[v1alpha1.AnnotationAuthorizedAt])
		w.must(err)
		w.judge(ro, at)
		w.state.rollouts[ro.Name] = rollout{release: ro.Spec.Release.Name, environment: ro.Spec.Environment, authorized: at, sequence: ro.Spec.Sequence}
	}
}

// judge fails unless the Rollout was allowed by what was stored when its gate opened. The controllers look while a step is
// made: what held before or after it is what they may have seen.
func (w *world) judge(ro *v1alpha1.Rollout, at time.Time) {
	w.t.Helper()
	i := len(w.history) - 1
	for i > 0 && w.history[i].at.After(at) {
		i--
	}
	var problems []string
	for _, k := range []int{i, i - 1} {
		if k < 0 {
			continue
		}
		end := w.clock.now()
		if k+1 < len(w.history) {
			end = w.history[k+1].at
		}
		problem := forbidden(w.history[k].state, ro, at, end, w.repo)
		if problem == "" {
			return
		}
		problems = append(problems, fmt.Sprintf("by step %d (%s): %s", w.history[k].step, w.history[k].what, problem))
	}
	w.fail("Rollout %s of release %s, authorised at %s, was not allowed:\n%s\nwhat is known of the release:\n%s", ro.Name, ro.Spec.Release.Name,
		at.Format(time.RFC3339Nano), strings.Join(problems, "\n"), w.known(ro.Spec.Release.Name))
}

// known is what the model and the control plane say of where a release is.
func (w *world) known(name string) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(w.state.rollouts)) {
		if ro := w.state.rollouts[key]; ro.release == name {
			lines = append(lines, fmt.Sprintf("the model: %s in %s, authorised %s, %q since %s until %s", key, ro.environment,
				ro.authorized.Format(time.RFC3339Nano), ro.phase, ro.since.Format(time.RFC3339), ro.until.Format(time.RFC3339)))
		}
	}
	for _, e := range w.object(name).Status.Environments {
		lines = append(lines, fmt.Sprintf("the control plane: %+v", e))
	}
	return strings.Join(lines, "\n")
}

// forbidden is the oracle: it knows nothing of the packages that decide. It says which criterion did not hold; end is until
// when the state lasted.
func forbidden(s state, ro *v1alpha1.Rollout, at, end time.Time, repo string) string {
	name, env := ro.Spec.Release.Name, ro.Spec.Environment
	r, ok := s.releases[name]
	switch {
	case !ok || r.uid != ro.Spec.Release.UID:
		return "no such release"
	case !strings.Contains(ro.Spec.Compose, fmt.Sprintf("EDITION: \"%d\"", s.editions[env].compose)):
		return "another compose file than the environment's"
	case ro.Spec.Values["MARK"] != fmt.Sprint(s.editions[env].value):
		return "other values than the environment's"
	case len(ro.Spec.Images) != 1 || ro.Spec.Images[0].Image != repo+"@"+r.digest:
		return fmt.Sprintf("other images than the first pushed: %+v", ro.Spec.Images)
	case r.rejected[gateOf[env]]:
		return "it is rejected"
	}
	if previous := before[env]; previous != "" {
		if healthy, _ := s.healthy(name, previous, end); !healthy {
			return "not healthy in " + previous
		}
	}
	if g, broken := r.glass[gateOf[env]]; broken && s.counts(g, env) {
		return ""
	}
	if debt := s.debt(name, env); debt != "" {
		return "release " + debt + " owes for a break-glass"
	}
	switch env {
	case dev:
		return s.ci(r)
	case staging:
		return s.qa(name, r, at, end)
	}
	return s.cto(name, r, end)
}

func (s state) ci(r release) string {
	switch {
	case r.results["tests"].status != "passed":
		return "tests " + r.results["tests"].status
	case r.results["tests"].coverage < 80:
		return "coverage"
	case r.results["scan"].status != "passed":
		return "scan " + r.results["scan"].status
	}
	return ""
}

func (s state) qa(name string, r release, at, end time.Time) string {
	for _, res := range r.results {
		if at.Sub(res.received) >= maxAge {
			return "results are not fresh"
		}
	}
	return s.manual(name, r, staging, end)
}

func (s state) cto(name string, r release, end time.Time) string {
	if r.results["tests"].status != "passed" {
		return "the expression does not hold"
	}
	if !s.signed(name) {
		return "no PV accepted for what runs in staging"
	}
	return s.manual(name, r, production, end)
}

// manual is what both manual gates ask for: a soak in the environment before, and an approval for exactly this bundle.
func (s state) manual(name string, r release, env string, end time.Time) string {
	_, soaked := s.healthy(name, before[env], end)
	if required := soakMax - (soakMax-soakMin)*time.Duration(r.works())/50; soaked < required {
		return fmt.Sprintf("soaked %s of %s in %s", soaked, required, before[env])
	}
	a, given := r.approvals[gateOf[env]]
	switch {
	case !given:
		return "not approved"
	case a.user == developer || env == production && a.user == qa:
		return "approved by " + a.user + ", who may not"
	case !s.counts(a, env):
		return "the approval is for something else"
	}
	return ""
}

// counts says whether an approval covers what the environment would run, and is protected.
func (s state) counts(a approval, env string) bool { return s.guarded && a.edition == s.editions[env] }

// works are the points that the code earned, as DESIGN section 5 counts them.
func (r release) works() int {
	points := 0
	if r.results["tests"].status == "passed" {
		points += 20
	}
	points += int(15 * min(r.results["tests"].coverage, 80) / 80)
	if r.results["scan"].status == "passed" {
		points += 15
	}
	return points
}

// healthy says whether the newest Rollout of a release in an environment is healthy, or was until another took its place,
// and for how long.
func (s state) healthy(name, env string, end time.Time) (bool, time.Duration) {
	var newest rollout // one authorisation may be sent several times: back to it after a worse one
	for _, ro := range s.rollouts {
		if ro.release == name && ro.environment == env && ro.sequence > newest.sequence {
			newest = ro
		}
	}
	if newest.phase != v1alpha1.RolloutHealthy {
		return false, 0
	}
	if !newest.until.IsZero() && newest.until.Before(end) {
		end = newest.until
	}
	return true, end.Sub(newest.since)
}

// signed says whether the client accepted what was let into staging last, and nothing since.
func (s state) signed(name string) bool {
	var newest rollout
	for _, ro := range s.rollouts {
		if ro.release == name && ro.environment == staging && ro.authorized.After(newest.authorized) {
			newest = ro
		}
	}
	var last paper
	for _, p := range s.pvs {
		if p.release == name && !p.at.Before(last.at) {
			last = p
		}
	}
	return last.decision == v1alpha1.PVAccepted && last.authorized.Equal(newest.authorized)
}

// debt names another release that went through a gate of the environment by break-glass and was not regularised.
func (s state) debt(name, env string) string {
	for _, other := range slices.Sorted(maps.Keys(s.releases)) {
		o := s.releases[other]
		if _, broken := o.glass[gateOf[env]]; broken && other != name && !o.settled[gateOf[env]] {
			return other
		}
	}
	return ""
}
