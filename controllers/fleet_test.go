// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// fleet is a project with one environment on several hosts, whose agents are played by the test.
type fleet struct {
	*bench
	hosts map[string]*v1alpha1.Host
}

// newFleet makes hosts of the given names and lets a release into dev.
func newFleet(t *testing.T, strategy v1alpha1.RolloutStrategy, names ...string) *fleet {
	b := newBench(t)
	f := &fleet{bench: b, hosts: map[string]*v1alpha1.Host{}}
	b.push("dev-aaaaaaa")
	b.create(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
		Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: b.repo}},
	}})
	b.ready(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}})
	for _, name := range names {
		f.join(name, nil)
	}
	strategy.Timeout = metav1.Duration{Duration: time.Minute}
	b.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}, Spec: v1alpha1.EnvironmentSpec{
		Hosts: &metav1.LabelSelector{MatchLabels: map[string]string{"bench": b.project}}, Rollout: strategy,
		Compose: v1alpha1.ComposeSource{Inline: fmt.Sprintf("services: {web: {image: %s}}", b.repo)},
	}})
	b.create(&v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: b.project}, Spec: v1alpha1.QualityGateSpec{
		Environment: "dev", Mode: v1alpha1.ModeAutomatic, Criteria: []v1alpha1.Criterion{{Name: "images", Images: &v1alpha1.ImagesCriterion{}}},
	}})
	return f
}

func (f *fleet) server(name string) string { return f.project + "-" + name }

// join makes a host that is enrolled.
func (f *fleet) join(name string, window *v1alpha1.Window) {
	f.t.Helper()
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: f.server(name), Labels: map[string]string{"bench": f.project}},
		Spec: v1alpha1.HostSpec{Projects: []string{f.project}, Window: window}}
	f.create(h)
	f.hosts[name], f.host = h, h
	f.enrol()
}

func (f *fleet) environment() *v1alpha1.Environment {
	f.t.Helper()
	e := &v1alpha1.Environment{}
	if err := f.c.Get(f.t.Context(), client.ObjectKey{Namespace: f.project, Name: "dev"}, e); err != nil {
		f.t.Fatal(err)
	}
	return e
}

// edit changes the environment until nobody else was faster.
func (f *fleet) edit(change func(*v1alpha1.Environment)) {
	f.t.Helper()
	cptest.Wait(f.t, "the change of dev", func(ctx context.Context) error {
		e := f.environment()
		change(e)
		return f.c.Update(ctx, e)
	})
}

// orders are the sequences that each host has, by name; a removal is negative.
func (f *fleet) orders() map[string][]int64 {
	out := map[string][]int64{}
	for name := range f.hosts {
		var list v1alpha1.RolloutList
		if err := f.c.List(f.t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(f.server(name)))); err != nil {
			f.t.Fatal(err)
		}
		for _, ro := range list.Items {
			sequence := ro.Spec.Sequence
			if ro.Spec.Remove != nil {
				sequence = -sequence
			}
			out[name] = append(out[name], sequence)
		}
		slices.Sort(out[name])
	}
	return out
}

// expect waits until the hosts have exactly these orders, e.g. "a:1 b:1 c:".
func (f *fleet) expect(want string) {
	f.t.Helper()
	cptest.Wait(f.t, "orders "+want, func(context.Context) error {
		if got := f.told(); got != want {
			e := f.environment()
			return fmt.Errorf("%s; waiting %q, hosts %+v, conditions %+v", got, e.Status.Waiting, e.Status.Hosts, e.Status.Conditions)
		}
		return nil
	})
}

func (f *fleet) told() string {
	orders := f.orders()
	var parts []string
	for name := range f.hosts {
		var numbers []string
		for _, n := range orders[name] {
			numbers = append(numbers, fmt.Sprint(n))
		}
		parts = append(parts, name+":"+strings.Join(numbers, ","))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// becomes has a host's agent report a phase of its newest order.
func (f *fleet) becomes(name, phase string) {
	f.t.Helper()
	f.host = f.hosts[name]
	f.report(f.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), phase)
}

func (f *fleet) waits(contains string) {
	f.t.Helper()
	cptest.Wait(f.t, "the environment to wait for "+contains, func(context.Context) error {
		if e := f.environment(); !strings.Contains(e.Status.Waiting, contains) {
			return fmt.Errorf("waits for %q, hosts %+v", e.Status.Waiting, e.Status.Hosts)
		}
		return nil
	})
}

// phase waits for a release's phase in dev.
func (f *fleet) phase(release, phase, contains string) {
	f.t.Helper()
	cptest.Wait(f.t, release+" to be "+phase, func(ctx context.Context) error {
		var r v1alpha1.Release
		if err := f.c.Get(ctx, client.ObjectKey{Namespace: f.project, Name: release}, &r); err != nil {
			return err
		}
		for _, e := range r.Status.Environments {
			if e.Phase == phase && strings.Contains(e.Message, contains) {
				return nil
			}
		}
		return fmt.Errorf("%+v, gates %+v", r.Status.Environments, r.Status.Gates)
	})
}

const commitB = "bbbbbbb4e5f60718293a4b5c6d7e8f9001122334"

func percent(n int32) *int32 { return &n }

// A release reaches four hosts in batches of two; one failure of four is tolerated, and named.
func TestBatchesAndThreshold(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{MaxUnavailable: 2, SuccessThreshold: percent(75)}, "a", "b", "c", "d")
	f.release(commitA)
	f.expect("a:1 b:1 c: d:")
	f.waits("2 host(s) at a time")
	f.becomes("b", v1alpha1.RolloutHealthy)
	f.expect("a:1 b:1 c:1 d:")
	f.becomes("a", v1alpha1.RolloutRolledBack)
	f.expect("a:1 b:1 c:1 d:1")
	f.becomes("c", v1alpha1.RolloutHealthy)
	f.phase("aaaaaaa", v1alpha1.PhaseDeploying, "")
	f.becomes("d", v1alpha1.RolloutHealthy)
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "healthy on 3 of 4 hosts, 3 needed; tolerated: "+f.server("a"))
	cptest.Wait(t, "the environment to count", func(context.Context) error {
		if e := f.environment(); e.Status.HostsSummary != "3/4" || e.Status.LastGood == nil || len(e.Status.Hosts) != 4 || e.Status.Hosts[0].Phase != v1alpha1.RolloutRolledBack {
			return fmt.Errorf("%+v", e.Status)
		}
		return nil
	})
}

// The threshold cannot be reached any more: nobody else gets it, and those that run it go back by a new order.
func TestStopOnFailure(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{}, "a", "b", "c")
	f.release(commitA)
	for _, name := range []string{"a", "b", "c"} {
		cptest.Wait(t, name+" to have it", func(context.Context) error {
			if len(f.orders()[name]) == 0 {
				return errors.New(f.told())
			}
			return nil
		})
		f.becomes(name, v1alpha1.RolloutHealthy)
	}
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "")
	f.push("dev-bbbbbbb")
	f.release(commitB)
	f.expect("a:1,2 b:1 c:1")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.expect("a:1,2 b:1,2 c:1")
	f.becomes("b", v1alpha1.RolloutRolledBack)
	f.phase("bbbbbbb", v1alpha1.PhaseRolledBack, f.server("b"))
	f.expect("a:1,2,3 b:1,2 c:1") // c never had it; a goes back first
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.expect("a:1,2,3 b:1,2,3 c:1")
	f.becomes("b", v1alpha1.RolloutHealthy)
	f.becomes("c", v1alpha1.RolloutHealthy)
	cptest.Wait(t, "the first release to be what all run", func(context.Context) error {
		e := f.environment()
		if c := e.Status.Current; c == nil || c.Release != "aaaaaaa" || c.Sequence != 3 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// A pause is kept to the moment; a window is told and waited for; a host that falls silent holds nobody up for ever.
func TestPauseWindowAndSilence(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{Pause: metav1.Duration{Duration: time.Second}}, "a", "b")
	closed := time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04")
	f.join("c", &v1alpha1.Window{TimeZone: "UTC", Deny: []v1alpha1.Period{{Start: closed, Duration: metav1.Duration{Duration: 3 * time.Hour}, Reason: "inventory"}}})
	f.release(commitA)
	f.expect("a:1 b: c:")
	f.waits("host " + f.server("c") + " opens at ")
	f.becomes("a", v1alpha1.RolloutHealthy)
	healthy := time.Now()
	f.expect("a:1 b:1 c:")
	f.becomes("b", v1alpha1.RolloutHealthy)
	var list v1alpha1.RolloutList
	if err := f.c.List(t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(f.server("b")))); err != nil || len(list.Items) != 1 {
		t.Fatal(err, list.Items)
	}
	// Reports and objects carry whole seconds.
	if sent := list.Items[0].CreationTimestamp.Time; sent.Before(healthy.Add(-time.Second)) {
		t.Errorf("b got it at %s, a was healthy at %s", sent, healthy)
	}
	f.phase("aaaaaaa", v1alpha1.PhaseDeploying, "not sent yet: opens at ")
	host := &v1alpha1.Host{}
	cptest.Wait(t, "the window to open", func(ctx context.Context) error {
		if err := f.c.Get(ctx, client.ObjectKeyFromObject(f.hosts["c"]), host); err != nil {
			return err
		}
		host.Spec.Window = nil
		return f.c.Update(ctx, host)
	})
	f.expect("a:1 b:1 c:1")
	// c was heard of, and is no more.
	long := metav1.NewMicroTime(time.Now().Add(-time.Hour))
	f.create(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLease, Namespace: v1alpha1.HostNamespace(f.server("c"))},
		Spec: coordinationv1.LeaseSpec{RenewTime: &long}})
	f.phase("aaaaaaa", v1alpha1.PhaseDeploying, f.server("c")+": has not been heard of since")
}

// Suspended: nothing is sent, and agents are told. Afterwards what was let in meanwhile goes out.
func TestSuspendEnvironment(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{}, "a")
	f.release(commitA)
	f.expect("a:1")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.edit(func(e *v1alpha1.Environment) {
		e.Spec.Suspend = true
		e.Annotations = map[string]string{v1alpha1.AnnotationSuspend: "by cto@dynors.com: new disks"}
	})
	f.rollout("dev", func(ro *v1alpha1.Rollout) error {
		if got := ro.Annotations[v1alpha1.AnnotationSuspend]; got != "by cto@dynors.com: new disks" {
			return fmt.Errorf("annotated %q", got)
		}
		return nil
	})
	env := f.environment()
	f.condition(env, v1alpha1.ConditionSuspended, metav1.ConditionTrue, "new disks")
	f.push("dev-bbbbbbb")
	f.release(commitB)
	f.phase("bbbbbbb", v1alpha1.PhaseAuthorized, "")
	f.waits("suspended")
	f.expect("a:1")
	f.edit(func(e *v1alpha1.Environment) { e.Spec.Suspend = false })
	f.expect("a:1,2")
	f.rollout("dev", func(ro *v1alpha1.Rollout) error {
		if ro.Annotations[v1alpha1.AnnotationSuspend] != "" {
			return errors.New("still annotated")
		}
		return nil
	})
}

// An environment is taken down by signed orders, also on a host that matches no longer, and can be deployed again.
func TestDecommission(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{MaxUnavailable: 3}, "a", "b", "c")
	f.release(commitA)
	f.expect("a:1 b:1 c:1")
	for name := range f.hosts {
		f.becomes(name, v1alpha1.RolloutHealthy)
	}
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "")
	f.relabel("c", "elsewhere")
	cptest.Wait(t, "c to be told as left behind", func(context.Context) error {
		e := f.environment()
		if len(e.Status.Hosts) != 3 || !strings.Contains(e.Status.Hosts[2].Message, "kubectl sirrat remove dev "+f.server("c")) {
			return fmt.Errorf("%+v", e.Status.Hosts)
		}
		return nil
	})
	f.expect("a:1 b:1 c:1") // relabelling is no order to remove

	f.edit(func(e *v1alpha1.Environment) {
		e.Annotations = map[string]string{v1alpha1.RemovePrefix + f.server("b"): "containers"}
	})
	f.edit(func(e *v1alpha1.Environment) { e.Annotations[v1alpha1.RemovePrefix+f.server("c")] = "volumes" })
	f.expect("a:1 b:1 c:-2,1") // b matches: it stays
	f.host = f.hosts["c"]
	tombstone := f.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	if tombstone.Spec.Remove == nil || !tombstone.Spec.Remove.Volumes || tombstone.Spec.Compose != "" || len(tombstone.Spec.Images) > 0 {
		t.Errorf("%+v", tombstone.Spec)
	}
	f.checkSigned(tombstone)

	f.edit(func(e *v1alpha1.Environment) { e.Spec.Decommission = &v1alpha1.Removal{} })
	f.expect("a:-3,1 b:-3,1 c:-2,1")
	env := f.environment()
	f.condition(env, v1alpha1.ConditionDecommissioned, metav1.ConditionFalse, f.server("a"))
	f.push("dev-bbbbbbb")
	f.release(commitB)
	cptest.Wait(t, "the new release to wait", func(ctx context.Context) error {
		var r v1alpha1.Release
		if err := f.c.Get(ctx, client.ObjectKey{Namespace: f.project, Name: "bbbbbbb"}, &r); err != nil {
			return err
		}
		if !strings.Contains(r.Status.Next, "decommission") || len(r.Status.Environments) > 0 {
			return fmt.Errorf("%q %+v", r.Status.Next, r.Status.Environments)
		}
		return nil
	})
	f.phase("aaaaaaa", v1alpha1.PhaseSuperseded, "decommissioned")
	for name := range f.hosts {
		f.becomes(name, v1alpha1.RolloutRemoved)
	}
	f.condition(env, v1alpha1.ConditionDecommissioned, metav1.ConditionTrue, "3 host(s)")
	f.expect("a:-3 b:-3 c:-2") // what came before is of no use any more
	f.edit(func(e *v1alpha1.Environment) { e.Spec.Decommission = nil })
	f.expect("a:-3,4 b:-3,4 c:-2")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.becomes("b", v1alpha1.RolloutHealthy)
	f.phase("bbbbbbb", v1alpha1.PhaseHealthy, "")

	// Whoever matches again gets what the others have: its number is above that of the removal.
	f.relabel("c", f.project)
	f.expect("a:4 b:4 c:4")
}

func (f *fleet) relabel(name, value string) {
	f.t.Helper()
	cptest.Wait(f.t, name+" to be relabelled", func(ctx context.Context) error {
		h := &v1alpha1.Host{}
		if err := f.c.Get(ctx, client.ObjectKeyFromObject(f.hosts[name]), h); err != nil {
			return err
		}
		h.Labels["bench"] = value
		return f.c.Update(ctx, h)
	})
}

// The way back to an earlier release is ordered by people, good once, and refused when anything that was approved changed.
func TestRollbackByOrder(t *testing.T) {
	f := newFleet(t, v1alpha1.RolloutStrategy{}, "a")
	one := f.release(commitA)
	f.expect("a:1")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "")
	f.push("dev-bbbbbbb")
	two := f.release(commitB)
	f.expect("a:1,2")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.phase("aaaaaaa", v1alpha1.PhaseSuperseded, "")
	f.phase("bbbbbbb", v1alpha1.PhaseHealthy, "")

	order := func() string {
		return fmt.Sprintf("%s@%s: cto@dynors.com: invoices are wrong", one.UID, f.environment().Status.Current.AuthorizedAt.UTC().Format(metav1.RFC3339Micro))
	}
	compose := f.environment().Spec.Compose
	f.edit(func(e *v1alpha1.Environment) { e.Spec.Values = map[string]string{"NEW": "1"} })
	f.refrozen(one, two, false)
	f.edit(func(e *v1alpha1.Environment) { e.Annotations = map[string]string{v1alpha1.AnnotationRollback: order()} })
	f.refused("compose file, values or secrets")
	f.edit(func(e *v1alpha1.Environment) { e.Annotations = nil; e.Spec.Values, e.Spec.Compose = nil, compose })
	f.refrozen(one, two, true)
	stale := fmt.Sprintf("%s@%s: cto@dynors.com: again", one.UID, "2026-01-01T00:00:00.000000Z")
	f.edit(func(e *v1alpha1.Environment) { e.Annotations = map[string]string{v1alpha1.AnnotationRollback: stale} })
	f.refused("leaving another release")
	before := f.environment().Status.Current.Sequence
	f.edit(func(e *v1alpha1.Environment) { e.Annotations = map[string]string{v1alpha1.AnnotationRollback: order()} })
	ro := f.rollout("dev", func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Release.Name != "aaaaaaa" || ro.Spec.Sequence <= before {
			return fmt.Errorf("%s, sequence %d", ro.Spec.Release.Name, ro.Spec.Sequence)
		}
		return nil
	})
	f.checkSigned(ro)
	f.phase("bbbbbbb", v1alpha1.PhaseRolledBack, "taken back to aaaaaaa by cto@dynors.com: invoices are wrong")
	f.becomes("a", v1alpha1.RolloutHealthy)
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "")
	e := f.environment()
	if e.Status.Rollback == nil || !e.Status.Rollback.Accepted || e.Status.Hold != nil {
		t.Errorf("%+v, hold %+v", e.Status.Rollback, e.Status.Hold)
	}
	f.annotate(e, "sirrat.test/touched", "1") // the order stands there still, and is used up
	f.phase("aaaaaaa", v1alpha1.PhaseHealthy, "")
	if now := f.environment(); now.Status.Sequence != e.Status.Sequence || now.Status.Current.Release != "aaaaaaa" {
		t.Errorf("%+v, then %+v", e.Status, now.Status)
	}
	if c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
		t.Errorf("%+v", c)
	}
}

// refrozen waits until the bundle of an earlier release is, or is not, the one with which it was let in, and the present
// release is let in with its own new bundle: orders name the moment of that.
func (f *fleet) refrozen(earlier, present *v1alpha1.Release, approved bool) {
	f.t.Helper()
	cptest.Wait(f.t, "the environment to have the bundle after the change", func(ctx context.Context) error {
		for _, r := range []*v1alpha1.Release{earlier, present} {
			if err := f.c.Get(ctx, client.ObjectKeyFromObject(r), r); err != nil {
				return err
			}
		}
		first, second := earlier.Status, present.Status
		if same := first.Bundle.Environments[0].Hash == first.Environments[0].BundleHash; same != approved {
			return fmt.Errorf("the earlier bundle is the approved one: %v", same)
		}
		if second.Bundle.Environments[0].ValuesHash != first.Bundle.Environments[0].ValuesHash {
			return errors.New("the present release is not frozen anew")
		}
		if current := f.environment().Status.Current; current.UID != string(present.UID) || current.BundleHash != second.Bundle.Environments[0].Hash {
			return fmt.Errorf("the environment has %+v", current)
		}
		return nil
	})
}

func (f *fleet) refused(contains string) {
	f.t.Helper()
	cptest.Wait(f.t, "the rollback to be refused for "+contains, func(context.Context) error {
		e := f.environment()
		if r := e.Status.Rollback; r == nil || r.Accepted || !strings.Contains(r.Message, contains) {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}
