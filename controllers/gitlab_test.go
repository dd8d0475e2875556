// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/gitlab/gitlabtest"
)

// newGitLabBench is a bench whose project has a GitLab told, with its token in a Secret.
func newGitLabBench(t *testing.T) (*bench, *gitlabtest.Server) {
	t.Helper()
	b, s := newBench(t), gitlabtest.Start(t, commitA, commitB)
	b.push("dev-aaaaaaa")
	b.push("dev-bbbbbbb")
	b.setUp(b.compose())
	b.setToken(gitlabtest.Token)
	b.declare(fmt.Sprintf(`{"url":%q,"project":%q,"tokenSecretRef":{"name":"gitlab","key":"token"},"commitStatus":true,"deployments":true}`, s.URL, gitlabtest.Path))
	return b, s
}

// declare sets spec.gitlab.
func (b *bench) declare(gitlab string) {
	b.t.Helper()
	if err := b.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}, `{"spec":{"gitlab":`+gitlab+`}}`); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) setToken(token string) {
	b.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "gitlab", Namespace: b.project}, Data: map[string][]byte{"token": []byte(token)}}
	if err := b.c.Update(b.t.Context(), s); err != nil {
		b.create(s)
	}
}

func (b *bench) branchRelease(commit string) *v1alpha1.Release {
	b.t.Helper()
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: commit[:7], Namespace: b.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Branch: "main"},
	}
	b.create(r)
	return r
}

// statuses waits for the beginnings of the commit's statuses.
func statuses(t *testing.T, s *gitlabtest.Server, commit string, want map[string]string) {
	t.Helper()
	cptest.Wait(t, fmt.Sprint("statuses ", want), func(context.Context) error {
		got := s.Statuses(commit)
		for name, begin := range want {
			if !strings.HasPrefix(got[name], begin) || len(got) != len(want) {
				return fmt.Errorf("%v", got)
			}
		}
		return nil
	})
}

// deployments waits for GitLab's, as "environment state".
func deployments(t *testing.T, s *gitlabtest.Server, want ...string) {
	t.Helper()
	cptest.Wait(t, fmt.Sprint("deployments ", want), func(context.Context) error {
		var got []string
		for _, d := range s.Deployments() {
			got = append(got, d.Environment+" "+d.State)
			if d.Ref != "main" || d.Tag {
				return fmt.Errorf("%+v", d)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%s", diff)
		}
		return nil
	})
}

// tokenIsNowhere looks for tokens in everything that people and programs read.
func (b *bench) tokenIsNowhere(tokens ...string) {
	b.t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.ReleaseList{}, &v1alpha1.ProjectList{}, &v1alpha1.EnvironmentList{}, &v1alpha1.RolloutList{}, &eventsv1.EventList{}, &corev1.EventList{}} {
		if err := b.c.List(b.t.Context(), list); err != nil {
			b.t.Fatal(err)
		}
		for _, token := range tokens {
			if strings.Contains(fmt.Sprintf("%+v", list), token) {
				b.t.Errorf("the token is in %T", list)
			}
		}
	}
}

// TestGitLabIsTold takes a release into production; GitLab follows, and is left alone when nothing changes.
func TestGitLabIsTold(t *testing.T) {
	b, s := newGitLabBench(t)
	rel := b.branchRelease(commitA)
	dev := b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	statuses(t, s, commitA, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "})
	deployments(t, s, "dev running")
	b.report(dev, v1alpha1.RolloutHealthy)
	deployments(t, s, "dev success")
	statuses(t, s, commitA, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "})
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	b.report(b.rollout("production", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	statuses(t, s, commitA, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "success: "})
	deployments(t, s, "dev success", "production success")
	b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonTold)

	// Another release is told of; by then GitLab would have been asked about the first again, if it ever were.
	before := about(s, commitA)
	b.declare(`{"url":` + fmt.Sprintf("%q", s.URL+"/") + `}`) // the same address: every release is looked at
	b.branchRelease(commitB)
	statuses(t, s, commitB, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "})
	if after := about(s, commitA); after != before {
		t.Errorf("%d calls about the first release, then %d", before, after)
	}
	version := rel.ResourceVersion
	b.declare("null")
	cptest.Wait(t, "the condition to go", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(rel.Status.Conditions, v1alpha1.ConditionGitLabTold); c != nil {
			return fmt.Errorf("%+v since %s", c, version)
		}
		return nil
	})
	b.tokenIsNowhere(gitlabtest.Token)
}

// about counts the requests about a commit's statuses.
func about(s *gitlabtest.Server, commit string) (n int) {
	for _, r := range s.Requests() {
		if strings.HasSuffix(r, "/statuses/"+commit) {
			n++
		}
	}
	return n
}

// TestGitLabThatDoesNotAnswer: the release says what is wrong, is deployed all the same, and GitLab learns of it once it is well.
func TestGitLabThatDoesNotAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		upset  func(*bench, *gitlabtest.Server)
		reason string
		says   string
		mend   func(*bench, *gitlabtest.Server)
	}{
		"down": {
			func(_ *bench, s *gitlabtest.Server) {
				s.Misbehave(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
			},
			v1alpha1.ReasonGitLabNotResponding, "connection fails", func(_ *bench, s *gitlabtest.Server) { s.Misbehave(nil) }},
		"503": {
			func(_ *bench, s *gitlabtest.Server) { s.Misbehave(gitlabtest.Answer("", 503, "")) },
			v1alpha1.ReasonGitLabNotResponding, "503", func(_ *bench, s *gitlabtest.Server) { s.Misbehave(nil) }},
		"429": {
			func(_ *bench, s *gitlabtest.Server) {
				s.Misbehave(gitlabtest.Answer("", 429, "Retry later", "Retry-After: 3"))
			},
			v1alpha1.ReasonGitLabBusy, "too many requests", func(_ *bench, s *gitlabtest.Server) { s.Misbehave(nil) }},
		"token withdrawn": {
			func(_ *bench, s *gitlabtest.Server) { s.SetToken("glpat-canary-new") },
			v1alpha1.ReasonGitLabDenied, "Secret of spec.gitlab.tokenSecretRef", func(b *bench, _ *gitlabtest.Server) { b.setToken("glpat-canary-new") }},
		"no such key": {
			func(b *bench, _ *gitlabtest.Server) {
				b.declare(`{"tokenSecretRef":{"name":"gitlab","key":"other"}}`)
			},
			v1alpha1.ReasonTokenMissing, "no key other in a Secret gitlab", func(b *bench, _ *gitlabtest.Server) {
				b.declare(`{"tokenSecretRef":{"name":"gitlab","key":"token"}}`)
			}},
		"another project": {
			func(b *bench, _ *gitlabtest.Server) { b.declare(`{"project":"dynors/other"}`) },
			v1alpha1.ReasonGitLabNoProject, "spec.gitlab.project", func(b *bench, _ *gitlabtest.Server) { b.declare(`{"project":"` + gitlabtest.ID + `"}`) }},
		"deployments forbidden": {
			func(_ *bench, s *gitlabtest.Server) {
				s.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
					return strings.Contains(r.URL.Path, "/deployments") && gitlabtest.Answer("", 403, `{"message":"403 Forbidden"}`)(w, r)
				})
			},
			v1alpha1.ReasonGitLabDenied, "protected", func(_ *bench, s *gitlabtest.Server) { s.Misbehave(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := newGitLabBench(t)
			tc.upset(b, s)
			rel := b.branchRelease(commitA)
			b.told(rel, v1alpha1.ConditionGitLabTold, tc.reason, tc.says, "holds nothing up")
			b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
			b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
			b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
			tc.mend(b, s)
			statuses(t, s, commitA, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "success: "})
			deployments(t, s, "dev success", "production running")
			b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonTold)
			b.tokenIsNowhere(gitlabtest.Token, "glpat-canary-new")
		})
	}
}

// TestCommitThatGitLabDoesNotHave is tried again while it may still be pushed.
func TestCommitThatGitLabDoesNotHave(t *testing.T) {
	b, s := newGitLabBench(t)
	const late = "ccccccc4e5f60718293a4b5c6d7e8f9001122334"
	b.push("dev-ccccccc")
	rel := b.branchRelease(late)
	b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonGitLabNoCommit, "push it there")
	s.Push(late)
	statuses(t, s, late, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "})
	b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonTold)
}

// TestGateAndPipelineDoNotWaitForEachOther: GitLab's pipeline ends once every commit status has, so that a gate which asks for its end
// is told to nobody, and the release says so. Deployments are told all the same.
func TestGateAndPipelineDoNotWaitForEachOther(t *testing.T) {
	b, s := newGitLabBench(t)
	gate := &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}}
	asks := func(more string) {
		t.Helper()
		if err := b.patch(gate, `{"spec":{"criteria":[{"name":"healthy","healthy":{"environment":"dev"}},{"name":"cto","approval":{"minimum":1,"allowCreator":true}}`+more+`]}}`); err != nil {
			t.Fatal(err)
		}
	}
	asks(`,{"name":"pipeline","result":{"type":"pipeline"}}`)
	if err := b.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}, `{"spec":{"hooks":{"gitlab":{"secretRef":{"name":"hooks","key":"gitlab"}}}}}`); err != nil {
		t.Fatal(err)
	}
	rel := b.branchRelease(commitA)
	dev := b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonPipelineAwaited, "gate production", "turn commitStatus off", "holds nothing up")
	b.report(dev, v1alpha1.RolloutHealthy)
	deployments(t, s, "dev success")
	if n := about(s, commitA); n != 0 {
		t.Errorf("%d statuses were told", n)
	}
	asks("")
	statuses(t, s, commitA, map[string]string{"sirrat/ci": "success: ", "sirrat/production": "pending: "})
	b.told(rel, v1alpha1.ConditionGitLabTold, v1alpha1.ReasonTold)
}

func TestGitLabIsValidated(t *testing.T) {
	b := newBench(t)
	for spec, ok := range map[string]bool{
		`{}`:                                  true,
		`{"project":"a/b"}`:                   true,
		`{"project":"ab"}`:                    false,
		`{"project":"0"}`:                     false,
		`{"project":"a/b?x"}`:                 false,
		`{"commitStatus":true}`:               false,
		`{"deployments":true,"project":"17"}`: false,
		`{"deployments":true,"project":"17","tokenSecretRef":{"name":"gitlab","key":"token"}}`: true,
		`{"url":"https://user@gitlab.example"}`:                                                false,
		`{"url":"gitlab.example"}`:                                                             false,
		`{"url":"https://gitlab.example/git"}`:                                                 true,
		`{"url":"http://[::1]:8080"}`:                                                          true,
	} {
		p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{Maven: []string{"com.dynors:core"}}}
		err := b.c.Create(t.Context(), p)
		if err == nil || strings.Contains(err.Error(), "already exists") {
			err = b.patch(p, `{"spec":{"gitlab":null}}`)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := b.patch(p, `{"spec":{"gitlab":`+spec+`}}`); (err == nil) != ok {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
