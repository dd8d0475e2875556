// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/gitlab"
	"gitlab.com/dynors/sirrat/internal/gitlab/gitlabtest"
)

const sayCommit = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"

var sayNow = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// sayable is a project that has its GitLab told everything, and a release of it.
func sayable() (*v1alpha1.Project, *v1alpha1.Release) {
	p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{GitLab: &v1alpha1.GitLab{URL: "https://gitlab.example", Project: "a/b",
		TokenSecretRef: &v1alpha1.SecretKey{Name: "gitlab", Key: "token"}, CommitStatus: true, Deployments: true}}}
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: sayCommit, Branch: "main"}}
	r.CreationTimestamp = metav1.NewTime(sayNow)
	return p, r
}

// listen says everything that is to be said, records it, and returns it in words. The ids are 1, 2, …
func listen(t *testing.T, p *v1alpha1.Project, r *v1alpha1.Release, now time.Time) (out []string) {
	t.Helper()
	told := toldGitLab(p, r)
	for _, s := range sayToGitLab(p, r, now) {
		if s.status != nil {
			out = append(out, fmt.Sprintf("%s %s: %s", s.status.Name, s.status.State, s.status.Description))
			s.said(&told, 0)
			continue
		}
		id := s.id
		if id == 0 {
			id = int64(len(told.Deployments)) + s.after + 1
		}
		out = append(out, fmt.Sprintf("%s %s #%d", s.deployment.Environment, s.deployment.State, id))
		s.said(&told, id)
	}
	r.Status.GitLab = &told
	if again := sayToGitLab(p, r, now); len(again) > 0 {
		t.Errorf("it is never done: %+v", again)
	}
	return out
}

func TestWhatGitLabIsTold(t *testing.T) {
	p, r := sayable()
	gates := func(verdicts ...v1alpha1.Verdict) {
		r.Status.Gates = nil
		for i, v := range verdicts {
			r.Status.Gates = append(r.Status.Gates, v1alpha1.GateVerdict{Name: []string{"ci", "qa", "production"}[i], Number: int32(i), Verdict: v,
				Message: "message", WaitingFor: map[bool][]string{true: {"QA approves", "soak until Friday"}}[v == v1alpha1.VerdictWaiting]})
		}
	}
	environments := func(phases ...string) {
		r.Status.Environments = nil
		for i, phase := range phases {
			r.Status.Environments = append(r.Status.Environments, v1alpha1.ReleaseEnvironment{Name: []string{"dev", "recette"}[i], Phase: phase, AuthorizedAt: metav1.NewMicroTime(sayNow)})
		}
	}
	const passed, waiting, refused = v1alpha1.VerdictPassed, v1alpha1.VerdictWaiting, v1alpha1.VerdictRefused
	const needs = "QA approves; soak until Friday"
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"not judged", func() {}, nil},
		{"waits", func() { gates(waiting, waiting) }, []string{"sirrat/ci pending: " + needs, "sirrat/qa pending: " + needs}},
		{"again", func() {}, nil},
		{"let in", func() { gates(passed, waiting); environments(v1alpha1.PhaseAuthorized) }, []string{"sirrat/ci success: message"}},
		{"sent", func() { environments(v1alpha1.PhaseDeploying) }, []string{"dev running #1"}},
		{"healthy", func() { environments(v1alpha1.PhaseHealthy) }, []string{"dev success #1"}},
		{"sick", func() { environments(v1alpha1.PhaseUnhealthy) }, nil},
		{"well again", func() { environments(v1alpha1.PhaseHealthy) }, nil},
		{"on", func() { gates(passed, passed); environments(v1alpha1.PhaseHealthy, v1alpha1.PhaseDeploying) }, []string{"sirrat/qa success: message", "recette running #2"}},
		{"rolled back", func() { environments(v1alpha1.PhaseHealthy, v1alpha1.PhaseRolledBack) }, []string{"recette failed #2"}},
		{"let in again", func() {
			environments(v1alpha1.PhaseHealthy, v1alpha1.PhaseDeploying)
			r.Status.Environments[1].AuthorizedAt = metav1.NewMicroTime(sayNow.Add(time.Hour))
		}, []string{"recette running #5"}},
		{"and again", func() {
			r.Status.Environments[1].AuthorizedAt = metav1.NewMicroTime(sayNow.Add(2 * time.Hour))
		}, []string{"recette canceled #5", "recette running #8"}},
		{"withdrawn", func() { gates(passed, waiting); environments(v1alpha1.PhaseHealthy) }, []string{"sirrat/qa pending: " + needs, "recette canceled #8"}},
		{"replaced", func() { environments(v1alpha1.PhaseSuperseded) }, []string{"sirrat/qa canceled: another release took its place"}},
		{"a gate more", func() { gates(passed, passed, waiting); environments(v1alpha1.PhaseHealthy) }, []string{"sirrat/qa success: message", "sirrat/production pending: " + needs}},
		{"that gate is deleted", func() { gates(passed, passed) }, []string{"sirrat/production canceled: the gate is no more"}},
		{"and is back", func() { gates(passed, passed, waiting) }, []string{"sirrat/production pending: " + needs}},
		{"a gate that is done is deleted, too", func() { gates(passed); environments(v1alpha1.PhaseSuperseded) }, []string{"sirrat/production canceled: the gate is no more"}},
		{"refused", func() { gates(refused, waiting) }, []string{"sirrat/ci failed: message", "sirrat/qa canceled: gate ci refused it before"}},
		{"another GitLab", func() { p.Spec.GitLab.Project = "c/d"; gates(passed, refused) }, []string{"sirrat/ci success: message", "sirrat/qa failed: message"}},
		{"statuses only", func() { p.Spec.GitLab.Deployments = false; environments(v1alpha1.PhaseHealthy) }, nil},
		{"deployments only", func() { p.Spec.GitLab.Deployments, p.Spec.GitLab.CommitStatus = true, false; gates(refused) }, []string{"dev success #1"}},
		{"off", func() { p.Spec.GitLab.Deployments = false; environments(v1alpha1.PhaseFailed) }, nil},
		{"not declared", func() { p.Spec.GitLab = nil }, nil},
	} {
		step.change()
		told := r.Status.GitLab.DeepCopy()
		if diff := cmp.Diff(step.want, listen(t, p, r, sayNow)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if gitlabAddress(p) == "" {
			r.Status.GitLab = told
		}
	}
}

// TestNoHistoryIsTold: what ended or is old when GitLab is declared is not sent there, and what was begun is brought to an end.
func TestNoHistoryIsTold(t *testing.T) {
	p, r := sayable()
	r.Status.Gates = []v1alpha1.GateVerdict{{Name: "ci", Verdict: v1alpha1.VerdictPassed}, {Name: "qa", Number: 1, Verdict: v1alpha1.VerdictWaiting}}
	r.Status.Environments = []v1alpha1.ReleaseEnvironment{{Name: "dev", Phase: v1alpha1.PhaseSuperseded}}
	if got := listen(t, p, r, sayNow.Add(gitlabHistory+time.Second)); got != nil {
		t.Errorf("an old release: %v", got)
	}
	if diff := cmp.Diff([]string{"sirrat/ci success: "}, listen(t, p, r, sayNow.Add(gitlabHistory))); diff != "" {
		t.Error(diff)
	}
	r.Status.Gates[0].Verdict = v1alpha1.VerdictRefused
	if diff := cmp.Diff([]string{"sirrat/ci failed: "}, listen(t, p, r, sayNow.Add(2*gitlabHistory))); diff != "" {
		t.Error(diff)
	}
}

func TestDescriptionsFit(t *testing.T) {
	for in, want := range map[string]int{strings.Repeat("é", 255): 255, strings.Repeat("é", 256): 255, "a\n b\xff": 3, "": 0} {
		if got := shorten(in); utf8.RuneCountInString(got) != want || !utf8.ValidString(got) {
			t.Errorf("%q: %d characters", got, utf8.RuneCountInString(got))
		}
	}
}

// TestGitLabOnLoopback: the server speaks to a GitLab on loopback only where its operator allows it; nothing that is logged or told
// holds the token.
func TestGitLabOnLoopback(t *testing.T) {
	e := cptest.Start(t)
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(e.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		guard  egress.Guard
		reason string
		says   string
		calls  int
	}{
		"closed": {egress.Guard{}, v1alpha1.ReasonAddressBlocked, "--allow-private-addresses", 0},
		"opened": {egress.Guard{Private: true}, v1alpha1.ReasonTold, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := gitlabtest.Start(t, sayCommit)
			var logged bytes.Buffer
			ctx := log.IntoContext(t.Context(), funcr.New(func(prefix, args string) { fmt.Fprintln(&logged, prefix, args) }, funcr.Options{Verbosity: 9}))
			recorder := events.NewFakeRecorder(10)
			r := newGitLab(c, c, recorder, tc.guard, time.Now)
			// Not declared yet, so that the controllers of the other tests leave it alone: this one reads what it is given.
			project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "loopback-" + name}, Spec: v1alpha1.ProjectSpec{Maven: []string{"com.dynors:core"}}}
			release := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: project.Name}, Spec: v1alpha1.ReleaseSpec{Commit: sayCommit}}
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "gitlab", Namespace: project.Name}, Data: map[string][]byte{"token": []byte(gitlabtest.Token + "\n")}}
			if err := c.Create(ctx, project); err != nil {
				t.Fatal(err)
			}
			cptest.Wait(t, "the namespace", func(ctx context.Context) error { return client.IgnoreAlreadyExists(c.Create(ctx, secret)) })
			cptest.Wait(t, "releases to be served", func(ctx context.Context) error { return c.Create(ctx, release) })
			project.Spec.GitLab = &v1alpha1.GitLab{URL: s.URL, Project: gitlabtest.Path, TokenSecretRef: &v1alpha1.SecretKey{Name: "gitlab", Key: "token"}, CommitStatus: true}
			release.Status.Gates = []v1alpha1.GateVerdict{{Name: "ci", Verdict: v1alpha1.VerdictPassed}, {Name: "qa", Number: 1, Verdict: v1alpha1.VerdictRefused}}
			told, problem, err := r.tell(ctx, project, release)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.write(ctx, release, told, problem); err != nil {
				t.Fatal(err)
			}
			var after v1alpha1.Release
			if err := c.Get(ctx, client.ObjectKeyFromObject(release), &after); err != nil {
				t.Fatal(err)
			}
			condition := findCondition(after.Status.Conditions, v1alpha1.ConditionGitLabTold)
			if condition == nil || condition.Reason != tc.reason || !strings.Contains(condition.Message, tc.says) {
				t.Errorf("%+v", condition)
			}
			if n := len(s.Requests()); n != tc.calls {
				t.Errorf("%d calls, want %d", n, tc.calls)
			}
			if problem != nil {
				if after := r.again(project.Name, "x", release, problem); after <= 0 || after > gitlabRetryMost {
					t.Errorf("again after %s", after)
				}
				fmt.Fprint(&logged, <-recorder.Events)
			}
			if text := logged.String() + fmt.Sprintf("%+v", after); strings.Contains(text, gitlabtest.Token) {
				t.Errorf("the token is in %s", text)
			}
		})
	}
}

// TestWhenGitLabIsTriedAgain: what heals by itself is, with longer and longer pauses or those that GitLab asks for; a commit that an old
// release was refused for, and a missing token, are not.
func TestWhenGitLabIsTriedAgain(t *testing.T) {
	_, release := sayable()
	r := newGitLab(nil, nil, nil, egress.Guard{}, func() time.Time { return sayNow })
	with := gitlab.Project{URL: "https://gitlab.example", Project: "a/b", Token: "one"}
	kind := func(k gitlab.Kind, after time.Duration) error { return &gitlab.Error{Kind: k, RetryAfter: after} }
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second} {
		r.pause("p", with, kind(gitlab.Away, 0))
		if got := r.again("p", "p/r", release, kind(gitlab.Away, 0)); got != want {
			t.Errorf("away: again after %s, want %s", got, want)
		}
	}
	if r.paused("p", with) == nil || r.paused("q", with) != nil {
		t.Error("the project, and it alone, is to be left alone")
	}
	other := with
	other.Token = "two"
	if r.paused("p", other) != nil {
		t.Error("a new token is to be tried at once")
	}
	r.pause("p", other, kind(gitlab.Busy, time.Minute))
	if got := r.again("p", "p/r", release, kind(gitlab.Busy, time.Minute)); got != time.Minute {
		t.Errorf("busy: again after %s", got)
	}
	for _, k := range []gitlab.Kind{gitlab.Forbidden, gitlab.NoCommit, gitlab.Refused} {
		if got := r.again("p", fmt.Sprint("young", k), release, kind(k, 0)); got != gitlabRetry {
			t.Errorf("kind %d: again after %s", k, got)
		}
	}
	release.CreationTimestamp = metav1.NewTime(sayNow.Add(-gitlabPatience - time.Second))
	for k, want := range map[gitlab.Kind]time.Duration{gitlab.Forbidden: gitlabRetry, gitlab.NoCommit: 0, gitlab.Refused: 0} {
		if got := r.again("p", fmt.Sprint("old", k), release, kind(k, 0)); got != want {
			t.Errorf("kind %d of an old release: again after %s, want %s", k, got, want)
		}
	}
	for _, problem := range []error{&noTokenError{}, &circleError{"ci"}} {
		if got := r.again("p", "p/r", release, problem); got != 0 {
			t.Errorf("%v: again after %s", problem, got)
		}
	}
	release.CreationTimestamp = metav1.NewTime(sayNow.Add(-gitlabHistory - time.Second))
	if got := r.again("p", "ancient", release, kind(gitlab.Forbidden, 0)); got != 0 {
		t.Errorf("an ancient release: again after %s", got)
	}
}
