// SPDX-License-Identifier: Apache-2.0

// Package model plays random stories against the real control plane and controllers: results, approvals, edits, rejections,
// break-glass, PV decisions, failing servers, jumps of the clock, restarts of the controllers, writes that fail, admission
// policies that vanish. An oracle that shares no code with the deciding packages checks the one thing that must hold:
//
//	a Rollout for an environment exists ⇒ every criterion of its gate held on stored evidence, for exactly that bundle,
//	when the gate opened.
package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
	"gitlab.com/dynors/sirrat/internal/pv"
)

func TestMain(m *testing.M) {
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) })
}

// defaultSteps is what every run of the tests plays; $MODEL_STEPS asks for more, $MODEL_SEED for another story.
const defaultSteps = 200

func TestNothingUnauthorisedIsEverDeployed(t *testing.T) {
	steps, seed := setting(t, "MODEL_STEPS", defaultSteps), setting(t, "MODEL_SEED", uint64(time.Now().UnixNano())%100000)
	t.Logf("seed %d", seed)
	w := newWorld(t, cptest.Start(t), seed)
	for i := range steps {
		w.step(int(i))
	}
	// Whatever state the story left behind, somebody who wants to gets a new release through.
	w.faults.Store(0)
	w.kind = true
	for i := steps; !w.deployedEverywhere() && i < 2*steps; i++ {
		w.step(int(i))
	}
	steps = uint64(w.steps)
	t.Logf("%d steps, Rollouts: %v, actions: %v", steps, w.sent, w.done)
	for _, e := range environments {
		if w.sent[e] == 0 {
			w.fail("nothing was ever deployed to %s: the story proves nothing\n%s", e, w.waiting())
		}
	}
}

// waiting is what each release waits for.
func (w *world) waiting() string {
	var text strings.Builder
	for _, name := range w.names() {
		for _, g := range w.object(name).Status.Gates {
			fmt.Fprintf(&text, "%s %s %s: %s", name, g.Name, g.Verdict, g.Message)
			for _, c := range g.Criteria {
				fmt.Fprintf(&text, "; %s %s %s", c.Name, c.Reason, c.Message)
			}
			text.WriteString("\n")
		}
	}
	return text.String()
}

func (w *world) deployedEverywhere() bool {
	return !slices.ContainsFunc(environments, func(e string) bool { return w.sent[e] == 0 })
}

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("$%s: %v", name, err)
	}
	return n
}

// step lets time pass, does one thing, and checks what came of it.
func (w *world) step(i int) {
	w.t.Helper()
	w.steps++
	w.clock.seconds.Add(1 + w.rng.Int64N(60))
	w.history = append(w.history, moment{at: w.clock.now(), step: i, what: "begins", state: w.state.clone()})
	what := w.act()
	name, _, _ := strings.Cut(what, " ")
	w.done[name]++
	m := &w.history[len(w.history)-1]
	m.what, m.state = what, w.state.clone()
	w.observe()
}

// act does something: mostly what somebody is waiting for, otherwise anything.
func (w *world) act() string {
	if len(w.state.releases) == 0 {
		return w.push1()
	}
	if w.kind && !w.state.guarded {
		return w.unguard()
	}
	if w.kind && w.favourite == "" {
		return w.adopt()
	}
	if w.kind || w.rng.IntN(100) < 50 {
		return w.helpful()
	}
	actions := []struct {
		weight int
		do     func() string
	}{
		{4, w.push1}, {10, w.report}, {8, w.approve}, {6, w.trespass}, {5, w.withdraw}, {5, w.edit}, {5, w.reject}, {10, w.serve},
		{10, w.jump}, {6, w.sign}, {2, w.restart}, {2, w.unguard}, {4, w.trouble}, {2, w.breakGlass}, {3, w.regularise}, {4, w.retry},
		{4, w.touch}, {3, w.moveTag}, {2, w.recreate},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.rng.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			return a.do()
		}
	}
	return w.touch()
}

// adopt makes the release that everybody helps from then on.
func (w *world) adopt() string {
	what := w.push1()
	if name, pushed := strings.CutPrefix(what, "push "); pushed {
		w.favourite = name
	}
	return what
}

// helpful looks at what a release waits for and provides it.
func (w *world) helpful() string {
	name := pick(w, w.names())
	if w.kind {
		name = w.favourite
	}
	r := w.object(name)
	for _, g := range r.Status.Gates {
		for _, c := range g.Criteria {
			switch c.Reason {
			case "NoResult", "NoCoverage", "ResultFailed", "CoverageTooLow", "Expired", "ExpressionFalse":
				return w.post(name, pick(w, []string{"tests", "scan"}), "passed", true)
			case "Rejected":
				return w.rejectAt(name, g.Environment)
			case "ApprovalStale":
				return w.withdraw()
			case "ApprovalMissing":
				return w.approveAs(name, g.Environment, map[string]string{staging: qa, production: cto}[g.Environment])
			case "PVUnsigned", "PVSignatureInvalid":
				return w.sign()
			case "Soaking":
				w.clock.seconds.Add(int64(20 * 3600))
				return w.jumped("20h")
			case "Held":
				return w.resume(g.Environment)
			case "Debt":
				return w.regularise()
			case "FailedThere":
				return w.retryIn(name, g.Environment)
			case "SoakBroken":
				return w.retryIn(name, before[g.Environment])
			case "NotHealthy", "NotDeployed":
				if ro := w.newestIn(before[g.Environment]); ro != nil && ro.Spec.Release.Name != name && w.kind {
					return w.retryIn(name, before[g.Environment])
				}
				return w.serveIn(before[g.Environment], v1alpha1.RolloutHealthy)
			}
		}
	}
	return w.serveWith(v1alpha1.RolloutHealthy)
}

func (w *world) push1() string {
	if len(w.state.releases) >= 6 {
		return w.remove(w.names()[0])
	}
	w.serial++
	name := fmt.Sprintf("%07x", 0xc0de000+w.serial)
	return w.create(name)
}

// create makes a release as a developer does.
func (w *world) create(name string) string {
	commit := name + strings.Repeat("0", 40-len(name))
	digest := w.push("dev-" + name)
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: developer}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Branch: "main"},
	}
	w.must(w.clients[developer].Create(w.t.Context(), r))
	w.settle(r)
	w.state.releases[name] = release{uid: string(r.UID), commit: commit, digest: digest, results: map[string]result{}, approvals: map[string]approval{},
		rejected: map[string]bool{}, glass: map[string]approval{}, settled: map[string]bool{}, retries: map[string]int{}}
	// Frozen before anybody moves the tag: what is pinned first is what counts.
	w.wait("the images of "+name+" to be pinned", func(context.Context) error {
		if b := w.object(name).Status.Bundle; b == nil || len(b.Images) == 0 {
			return errors.New("not pinned")
		}
		return nil
	})
	return "push " + name
}

func (w *world) remove(name string) string {
	r := w.object(name)
	w.must(w.admin().Delete(w.t.Context(), r))
	var results v1alpha1.CIResultList
	w.must(w.admin().List(w.t.Context(), &results, client.InNamespace(project), client.MatchingLabels{v1alpha1.LabelCommit: name}))
	for i := range results.Items {
		w.must(w.admin().Delete(w.t.Context(), &results.Items[i]))
	}
	w.wait("the cache to forget "+name, func(ctx context.Context) error {
		if err := w.run.Manager.GetCache().Get(ctx, client.ObjectKeyFromObject(r), &v1alpha1.Release{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("%w", errors.Join(err, errors.New("still there")))
		}
		var list v1alpha1.CIResultList
		if err := w.run.Manager.GetCache().List(ctx, &list, client.InNamespace(project), client.MatchingLabels{v1alpha1.LabelCommit: name}); err != nil || len(list.Items) > 0 {
			return fmt.Errorf("%d results left, %w", len(list.Items), err)
		}
		return nil
	})
	delete(w.state.releases, name)
	for k, ro := range w.state.rollouts {
		if ro.release == name {
			delete(w.state.rollouts, k)
		}
	}
	for k, p := range w.state.pvs {
		if p.release == name {
			delete(w.state.pvs, k)
		}
	}
	return "remove " + name
}

// recreate makes a release anew under its name: nothing that was given to the old one counts. A copy of the old approvals
// is refused at creation.
func (w *world) recreate() string {
	name := pick(w, w.names())
	old := w.object(name)
	w.remove(name)
	w.observe() // with the state before: what was on its way belongs to the old one
	copied := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: project, Annotations: map[string]string{v1alpha1.ApprovalPrefix + "qa": qa}}, Spec: old.Spec}
	err := w.createCopy(copied)
	if w.state.guarded && !refused(err) {
		w.fail("a release was created with an approval on it: %v", err)
	}
	if err == nil {
		w.must(w.admin().Delete(w.t.Context(), copied))
	}
	return "recreate " + w.create(name)
}

// createCopy creates a release without its creator's name, which the API server fills in. Soon after its start it refuses that:
// it does not know the kind yet.
func (w *world) createCopy(r *v1alpha1.Release) (err error) {
	w.wait("the API server to know the kind Release", func(ctx context.Context) error {
		if err = w.clients[developer].Create(ctx, r); apierrors.IsServiceUnavailable(err) {
			return err
		}
		return nil
	})
	return err
}

func refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

func (w *world) report() string {
	return w.post(pick(w, w.names()), pick(w, []string{"tests", "tests", "scan"}), pick(w, []string{"passed", "passed", "failed", "skipped"}), w.rng.IntN(4) > 0)
}

// post stores a result of a newer pipeline, or of an older one that arrives late.
func (w *world) post(name, typ, status string, newest bool) string {
	w.serial++
	r := w.state.releases[name]
	pipeline := w.serial
	if !newest {
		pipeline = 0
	}
	coverage := float64(pick(w, []int{79, 80, 85, 100}))
	spec := v1alpha1.CIResultSpec{Commit: r.commit, Type: typ, Status: status, Pipeline: fmt.Sprint(pipeline), Run: fmt.Sprint(w.serial),
		Received: metav1.NewTime(w.clock.now()), ReportHash: "sha256:" + strings.Repeat("0", 64)}
	if typ == "tests" {
		spec.Coverage = &coverage
	}
	o := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%s-%d", name, typ, w.serial), Namespace: project, Labels: map[string]string{v1alpha1.LabelCommit: name}}, Spec: spec}
	w.must(w.admin().Create(w.t.Context(), o))
	w.settle(o)
	if old, ok := r.results[typ]; !ok || pipeline >= old.pipeline {
		got := result{pipeline: pipeline, status: status, received: w.clock.now()}
		if typ == "tests" {
			got.coverage = coverage
		}
		r.results[typ] = got
	}
	return fmt.Sprintf("post %s %s %s coverage %.0f pipeline %d", name, typ, status, coverage, pipeline)
}

func (w *world) approve() string {
	env := pick(w, []string{staging, production})
	return w.approveAs(pick(w, w.names()), env, map[string]string{staging: qa, production: cto}[env])
}

// approveAs waits until the approval is recorded: from then on it covers the bundle of that moment.
func (w *world) approveAs(name, env, user string) string {
	gate := gateOf[env]
	if _, given := w.state.releases[name].approvals[gate]; given || !w.state.guarded {
		return w.touch()
	}
	// What was written while nothing protected approvals does not count: it is withdrawn first.
	if w.object(name).Annotations[v1alpha1.ApprovalPrefix+gate] != "" {
		w.must(w.annotate(cto, name, v1alpha1.ApprovalPrefix+gate, ""))
		w.recorded(name, gate, cto, v1alpha1.DecisionApproved, false)
	}
	if err := w.annotate(user, name, v1alpha1.ApprovalPrefix+gate, user); err != nil {
		w.fail("%s may not approve %s: %v", user, gate, err)
	}
	rec := w.recorded(name, gate, user, v1alpha1.DecisionApproved, true)
	if rec.Stale != "" { // the release had not been looked at since the policy came back
		w.must(w.annotate(user, name, v1alpha1.ApprovalPrefix+gate, ""))
		w.recorded(name, gate, user, v1alpha1.DecisionApproved, false)
		return "approve " + name + " " + gate + ": stale (" + rec.Stale + "), withdrawn"
	}
	w.state.releases[name].approvals[gate] = approval{user: user, edition: w.state.editions[env], at: w.clock.now()}
	return "approve " + name + " " + gate + " by " + user
}

// recorded waits until the controllers have seen that an annotation came or went.
func (w *world) recorded(name, gate, user, decision string, want bool) v1alpha1.ApprovalRecord {
	var found v1alpha1.ApprovalRecord
	w.wait(fmt.Sprintf("%s of %s by %s at %s to be recorded: %t", decision, name, user, gate, want), func(context.Context) error {
		records := w.object(name).Status.Approvals
		i := slices.IndexFunc(records, func(a v1alpha1.ApprovalRecord) bool {
			return a.Gate == gate && a.User == user && a.Decision == decision
		})
		if i >= 0 {
			found = records[i]
		}
		if i >= 0 != want {
			return fmt.Errorf("records %+v", records)
		}
		return nil
	})
	return found
}

// trespass is what somebody tries who may not: each must be refused, or without effect.
func (w *world) trespass() string {
	if !w.state.guarded {
		return w.touch()
	}
	name := pick(w, w.names())
	key := v1alpha1.ApprovalPrefix + "production"
	if w.object(name).Annotations[key] != "" { // to say the same again changes nothing
		return w.touch()
	}
	patch := func(user, kind, text string) error {
		r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name}}
		types := map[string]client.Patch{
			"merge": client.RawPatch("application/merge-patch+json", []byte(text)),
			"json":  client.RawPatch("application/json-patch+json", []byte(text)),
			"apply": client.RawPatch("application/apply-patch+yaml", []byte(text)),
		}
		opts := []client.PatchOption{}
		if kind == "apply" {
			opts = append(opts, client.ForceOwnership, client.FieldOwner("trespasser"))
		}
		return w.clients[user].Patch(w.t.Context(), r, types[kind], opts...)
	}
	tries := map[string]func() error{
		"developer": func() error { return w.annotate(developer, name, key, developer) },
		"qa":        func() error { return w.annotate(qa, name, key, qa) },
		"other":     func() error { return w.annotate(cto, name, key, second) },
		"forged":    func() error { return w.annotate(developer, name, key, cto) },
		"json": func() error {
			return patch(developer, "json", fmt.Sprintf(`[{"op":"add","path":"/metadata/annotations/%s","value":%q}]`, strings.ReplaceAll(key, "/", "~1"), cto))
		},
		"apply": func() error {
			return patch(developer, "apply", fmt.Sprintf(`{"apiVersion":"sirrat.dynors.com/v1alpha1","kind":"Release","metadata":{"name":%q,"annotations":{%q:%q}}}`, name, key, cto))
		},
		"replace": func() error {
			return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the controllers write at the same time
				r := w.object(name)
				r.Annotations[key] = second
				return w.clients[developer].Update(w.t.Context(), r)
			})
		},
		"status": func() error {
			r := w.object(name)
			r.Status.Approvals = append(r.Status.Approvals, v1alpha1.ApprovalRecord{Gate: "production", User: cto, Decision: v1alpha1.DecisionApproved, Time: metav1.Now()})
			return w.clients[cto].Status().Update(w.t.Context(), r)
		},
	}
	kinds := []string{"developer", "qa", "other", "forged", "json", "apply", "replace", "status"}
	kind := pick(w, kinds)
	if err := tries[kind](); !refused(err) {
		w.fail("trespass by %s on %s was not refused: %v", kind, name, err)
	}
	return "trespass " + name + " by " + kind
}

func (w *world) withdraw() string {
	for _, name := range w.names() {
		for gate, a := range w.state.releases[name].approvals {
			if !w.state.guarded {
				continue
			}
			w.must(w.annotate(a.user, name, v1alpha1.ApprovalPrefix+gate, ""))
			w.recorded(name, gate, a.user, v1alpha1.DecisionApproved, false)
			delete(w.state.releases[name].approvals, gate)
			return "withdraw " + name + " " + gate
		}
	}
	return w.touch()
}

// edit changes what an environment runs beside the images.
func (w *world) edit() string {
	env := pick(w, environments)
	ed := w.state.editions[env]
	if w.rng.IntN(2) == 0 {
		ed.compose++
	} else {
		ed.value++
	}
	e := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: env}}
	text := fmt.Sprintf(`{"spec":{"compose":{"inline":%q},"values":{"MARK":"%d"}}}`, w.compose(ed.compose), ed.value)
	w.must(w.clients[cto].Patch(w.t.Context(), e, client.RawPatch("application/merge-patch+json", []byte(text))))
	w.settle(e)
	w.state.editions[env] = ed
	return fmt.Sprintf("edit %s to %+v", env, ed)
}

func (w *world) reject() string {
	return w.rejectAt(pick(w, w.names()), pick(w, environments))
}

// rejectAt rejects, or lifts the rejection.
func (w *world) rejectAt(name, env string) string {
	if !w.state.guarded {
		return w.touch()
	}
	gate := gateOf[env]
	r := w.state.releases[name]
	key := v1alpha1.RejectionPrefix + gate
	if r.rejected[gate] {
		w.must(w.annotate(cto, name, key, ""))
		w.recorded(name, gate, cto, v1alpha1.DecisionRejected, false)
		delete(r.rejected, gate)
		return "lift " + name + " " + gate
	}
	w.must(w.annotate(cto, name, key, cto+": not this one"))
	w.recorded(name, gate, cto, v1alpha1.DecisionRejected, true)
	r.rejected[gate] = true
	// An approval from before the rejection is void: it has to be given again.
	if a, given := r.approvals[gate]; given {
		a.edition = edition{-1, -1}
		r.approvals[gate] = a
	}
	if g, given := r.glass[gate]; given {
		g.edition = edition{-1, -1}
		r.glass[gate] = g
	}
	return "reject " + name + " " + gate
}

func (w *world) serve() string {
	return w.serveWith(pick(w, []string{v1alpha1.RolloutHealthy, v1alpha1.RolloutHealthy, v1alpha1.RolloutUnhealthy, v1alpha1.RolloutRolledBack, v1alpha1.RolloutPulling}))
}

func (w *world) serveWith(phase string) string { return w.serveIn(pick(w, environments), phase) }

// serveIn lets the server report on the newest Rollout of an environment, with no more rights than its agent has.
func (w *world) serveIn(env, phase string) string {
	w.observe()
	newest := w.newestIn(env)
	if newest == nil || newest.Status.Phase == v1alpha1.RolloutRolledBack {
		return w.touch()
	}
	known, ok := w.state.rollouts[newest.Name]
	if !ok {
		return w.touch() // of a release that is gone
	}
	cfg := rest.CopyConfig(w.env.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: v1alpha1.AgentUser(w.host.Name, string(w.host.UID)), Groups: []string{v1alpha1.AgentGroup}}
	newest.Status.Phase, newest.Status.HealthySince = phase, nil
	if phase == v1alpha1.RolloutHealthy {
		since := metav1.NewTime(w.clock.now())
		if known.phase == phase {
			since = metav1.NewTime(known.since)
		}
		newest.Status.HealthySince = &since
		known.since = since.Time
	}
	if err := w.clientFor(cfg).Status().Update(w.t.Context(), newest); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return w.touch()
		}
		w.must(err)
	}
	w.settle(newest)
	known.phase = phase
	w.state.rollouts[newest.Name] = known
	w.noticed(newest, phase)
	if phase == v1alpha1.RolloutHealthy {
		for name, other := range w.state.rollouts {
			if other.environment == env && other.release != known.release && other.phase == v1alpha1.RolloutHealthy && other.until.IsZero() {
				other.until = w.clock.now()
				w.state.rollouts[name] = other
			}
		}
	}
	return fmt.Sprintf("serve %s %s %s (%s)", known.release, env, phase, newest.Name)
}

// newestIn is the newest Rollout of an environment, nil when there is none.
func (w *world) newestIn(env string) *v1alpha1.Rollout {
	var list v1alpha1.RolloutList
	w.must(w.admin().List(w.t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(w.host.Name))))
	var newest *v1alpha1.Rollout
	for i := range list.Items {
		ro := &list.Items[i]
		if ro.Spec.Environment == env && (newest == nil || ro.Spec.Sequence > newest.Spec.Sequence) {
			newest = ro
		}
	}
	return newest
}

// noticed waits until release and environment say what the server said, or have moved on.
func (w *world) noticed(ro *v1alpha1.Rollout, phase string) {
	w.wait("the report to be noticed", func(ctx context.Context) error {
		var r v1alpha1.Release
		if err := w.admin().Get(ctx, client.ObjectKey{Namespace: project, Name: ro.Spec.Release.Name}, &r); err != nil {
			return client.IgnoreNotFound(err)
		}
		for _, e := range r.Status.Environments {
			if e.Name != ro.Spec.Environment || e.AuthorizedAt.UTC().Format(metav1.RFC3339Micro) != ro.Annotations[v1alpha1.AnnotationAuthorizedAt] {
				continue
			}
			switch e.Phase {
			case v1alpha1.PhaseAuthorized, v1alpha1.PhaseDeploying:
				if phase != v1alpha1.RolloutPulling {
					return fmt.Errorf("phase %s", e.Phase)
				}
			case v1alpha1.PhaseHealthy, v1alpha1.PhaseUnhealthy:
				if e.Phase != phase {
					return fmt.Errorf("phase %s", e.Phase)
				}
			}
		}
		var env v1alpha1.Environment
		if err := w.admin().Get(ctx, client.ObjectKey{Namespace: project, Name: ro.Spec.Environment}, &env); err != nil {
			return err
		}
		current := env.Status.Current
		if phase == v1alpha1.RolloutHealthy && current != nil && current.Sequence == ro.Spec.Sequence && (env.Status.LastGood == nil || env.Status.LastGood.Sequence != ro.Spec.Sequence) {
			return fmt.Errorf("last good %+v", env.Status.LastGood)
		}
		return nil
	})
}

func (w *world) jump() string {
	hours := pick(w, []int64{1, 5, 20, 30, 200})
	w.clock.seconds.Add(hours * 3600)
	return w.jumped(fmt.Sprint(hours, "h"))
}

// jumped has the controllers look at the clock: their timers run on real time.
func (w *world) jumped(what string) string {
	// The jump is the beginning of another moment, in which nothing else has happened.
	m := w.history[len(w.history)-1]
	m.at, m.what, m.state = w.clock.now(), "jump "+what, w.state.clone()
	w.history = append(w.history, m)
	w.touch()
	return "jump " + what
}

// touch makes events that say nothing new.
func (w *world) touch() string {
	for _, name := range w.names() {
		w.must(w.annotate("", name, "model/touched", fmt.Sprint(w.clock.now().UnixNano(), w.rng.Int())))
	}
	return "touch"
}

// sign has the client decide on an open PV; or somebody who is not the client.
func (w *world) sign() string {
	var list v1alpha1.PVList
	w.must(w.admin().List(w.t.Context(), &list, client.InNamespace(project)))
	for i := range list.Items {
		p := &list.Items[i]
		r, ok := w.state.releases[p.Spec.Release.Name]
		if p.Status.Decision != "" || !ok || r.uid != p.Spec.Release.UID {
			continue
		}
		decision := pick(w, []v1alpha1.PVDecision{v1alpha1.PVAccepted, v1alpha1.PVAccepted, v1alpha1.PVAccepted, v1alpha1.PVRefused})
		if w.kind {
			decision = v1alpha1.PVAccepted
		}
		d := pv.NewDecision(p, decision, "Client", w.clock.now())
		if decision == v1alpha1.PVRefused {
			d.Reason = "no"
		}
		key, forged := w.key, !w.kind && w.rng.IntN(4) == 0
		if forged {
			key = w.forged
		}
		signature, err := pv.Sign(w.t.Context(), d, key)
		w.must(err)
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"signature":%q}}`, signature))
		w.must(w.clients[qa].Patch(w.t.Context(), p, patch))
		w.settle(p) // what the cache says of an earlier signature does not count
		want := v1alpha1.ReasonBadSignature
		w.wait("the signature to be verified", func(ctx context.Context) error {
			if err := w.run.Manager.GetCache().Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			for _, c := range p.Status.Conditions {
				if c.Type == v1alpha1.ConditionReady && c.ObservedGeneration == p.Generation && (p.Status.Decision != "" || c.Reason == want) {
					return nil
				}
			}
			return fmt.Errorf("%+v", p.Status)
		})
		if forged {
			if p.Status.Decision != "" {
				w.fail("a forged signature counts: %+v", p.Status)
			}
			return "forge " + p.Name
		}
		w.state.pvs[p.Name] = paper{release: p.Spec.Release.Name, authorized: p.Spec.Release.AuthorizedAt.Time, decision: decision, at: w.clock.now()}
		return "sign " + p.Name + " " + string(decision)
	}
	return w.touch()
}

// restart stops the controllers and starts others, which know nothing but what is stored.
func (w *world) restart() string {
	w.must(w.run.Stop())
	w.start()
	w.wait("the cache to be filled", func(ctx context.Context) error {
		if !w.run.Manager.GetCache().WaitForCacheSync(ctx) {
			return errors.New("not synced")
		}
		return nil
	})
	return "restart"
}

// unguard takes the admission policy's binding away, forges an approval, and puts it back.
func (w *world) unguard() string {
	ctx := w.t.Context()
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "sirrat-approvals"}}
	if w.state.guarded {
		w.must(w.admin().Delete(ctx, binding))
		w.wait("the controllers to notice that nothing protects approvals", func(ctx context.Context) error {
			if err := w.run.Manager.GetCache().Get(ctx, client.ObjectKeyFromObject(binding), binding); !apierrors.IsNotFound(err) {
				return errors.Join(errors.New("still there"), err)
			}
			return nil
		})
		w.state.guarded = false
		name := pick(w, w.names())
		if len(w.state.releases[name].approvals) == 0 {
			w.wait("a forged approval to be stored", func(context.Context) error {
				return w.annotate(developer, name, v1alpha1.ApprovalPrefix+pick(w, []string{"qa", "production"}), cto)
			})
		}
		return "unguard, forge " + name
	}
	w.must(install.Apply(ctx, w.env.Config))
	w.must(install.WaitEnforced(ctx, w.env.Config))
	w.state.guarded = true
	return "guard"
}

// trouble makes some writes of the controllers fail, or none.
func (w *world) trouble() string {
	n := pick(w, []int64{0, 0, 10, 30})
	w.faults.Store(n)
	return fmt.Sprint("trouble ", n, " %")
}

func (w *world) breakGlass() string {
	name, env := pick(w, w.names()), pick(w, environments)
	gate := gateOf[env]
	r := w.state.releases[name]
	if _, done := r.glass[gate]; done || !w.state.guarded {
		return w.touch()
	}
	if err := w.annotate(qa, name, v1alpha1.BreakGlassPrefix+gate, qa+": I want to"); !refused(err) {
		w.fail("QA broke the glass: %v", err)
	}
	w.must(w.annotate(cto, name, v1alpha1.BreakGlassPrefix+gate, cto+": the house is on fire"))
	rec := w.recorded(name, gate, cto, v1alpha1.DecisionBrokeGlass, true)
	if rec.Stale != "" {
		return "break-glass " + name + " " + gate + ": stale"
	}
	r.glass[gate] = approval{user: cto, edition: w.state.editions[env], at: w.clock.now()}
	return "break-glass " + name + " " + gate
}

func (w *world) regularise() string {
	for _, name := range w.names() {
		r := w.state.releases[name]
		for gate := range r.glass {
			if r.settled[gate] || !w.state.guarded {
				continue
			}
			w.must(w.annotate(second, name, v1alpha1.RegularisationPrefix+gate, second+": it is out"))
			w.recorded(name, gate, second, v1alpha1.DecisionRegularised, true)
			r.settled[gate] = true
			return "regularise " + name + " " + gate
		}
	}
	return w.touch()
}

func (w *world) retry() string {
	return w.retryIn(pick(w, w.names()), pick(w, environments))
}

func (w *world) retryIn(name, env string) string {
	w.serial++
	w.must(w.annotate(developer, name, v1alpha1.AnnotationRetry, fmt.Sprintf("%s@%d", env, w.serial)))
	return "retry " + name + " " + env
}

// moveTag pushes something else under the tag of a release: what was pinned first is what runs.
func (w *world) moveTag() string {
	name := pick(w, w.names())
	w.push("dev-" + name)
	return "move-tag " + name
}

// resume lifts the hold of an environment.
func (w *world) resume(env string) string {
	e := &v1alpha1.Environment{}
	w.must(w.admin().Get(w.t.Context(), client.ObjectKey{Namespace: project, Name: env}, e))
	if e.Status.Hold == nil {
		return w.touch()
	}
	text := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationResume, e.Status.Hold.ID)
	w.must(w.clients[cto].Patch(w.t.Context(), e, client.RawPatch("application/merge-patch+json", []byte(text))))
	w.settle(e)
	return "resume " + env
}
