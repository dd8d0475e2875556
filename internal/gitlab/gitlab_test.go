// SPDX-License-Identifier: Apache-2.0

package gitlab_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/gitlab"
	"gitlab.com/dynors/sirrat/internal/gitlab/gitlabtest"
)

const commit = "3f2a9c1d0b7e6f5a4c3b2a190817263544536271"

func project(s *gitlabtest.Server) gitlab.Project {
	return gitlab.Project{URL: s.URL, Project: gitlabtest.Path, Token: gitlabtest.Token}
}

var private = egress.Guard{Private: true}

func TestStatuses(t *testing.T) {
	for name, idempotent := range map[string]bool{"refuses the same state": false, "takes it": true} {
		t.Run(name, func(t *testing.T) {
			s := gitlabtest.Start(t, commit)
			if idempotent {
				s.Idempotent()
			}
			c, p := gitlab.New(private), project(s)
			p.URL += "/"
			for _, state := range []string{gitlab.Pending, gitlab.Pending, gitlab.Success, gitlab.Success, gitlab.Pending, gitlab.Failed, gitlab.Pending, gitlab.Canceled} {
				if err := c.SetStatus(t.Context(), p, gitlab.Status{Commit: commit, State: state, Ref: "main", Name: "sirrat/ci", Description: "why"}); err != nil {
					t.Fatalf("%s: %v", state, err)
				}
				if diff := cmp.Diff(map[string]string{"sirrat/ci": state + ": why"}, s.Statuses(commit)); diff != "" {
					t.Error(diff)
				}
			}
			p.Project = gitlabtest.ID
			if err := c.SetStatus(t.Context(), p, gitlab.Status{Commit: commit, State: gitlab.Success, Name: "sirrat/qa"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDeployments(t *testing.T) {
	s := gitlabtest.Start(t, commit)
	c, p := gitlab.New(private), project(s)
	d := gitlab.Deployment{Environment: "dev", Commit: commit, Ref: "main", State: gitlab.Running}
	first, err := c.Deploy(t.Context(), p, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The answer was lost, and it is healthy by now: the same record.
	d.State = gitlab.Success
	if again, err := c.Deploy(t.Context(), p, d, 0); err != nil || again != first {
		t.Errorf("%d, %v", again, err)
	}
	for range 2 {
		if err := c.SetDeployment(t.Context(), p, first, gitlab.Success); err != nil {
			t.Error(err)
		}
	}
	// Let in again: another record. Its branch was deleted in between.
	d.State, d.Ref = gitlab.Running, "feature/gone"
	second, err := c.Deploy(t.Context(), p, d, first)
	if err != nil || second == first {
		t.Fatalf("%d, %v", second, err)
	}
	want := []gitlabtest.Deployment{
		{ID: first, Environment: "dev", Commit: commit, Ref: "main", State: "success"},
		{ID: second, Environment: "dev", Commit: commit, Ref: commit, State: "running"},
	}
	if diff := cmp.Diff(want, s.Deployments()); diff != "" {
		t.Error(diff)
	}
	if err := c.SetDeployment(t.Context(), p, 999, gitlab.Success); err != nil {
		t.Errorf("deleted by somebody: %v", err)
	}
}

func TestProblems(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) bool { // a GitLab that shows the token to whoever reads errors
		return gitlabtest.Answer("", 400, `{"message":{"`+r.Header.Get("PRIVATE-TOKEN")+`":["`+r.Header.Get("PRIVATE-TOKEN")+`"]}}`)(w, r)
	}
	for name, tc := range map[string]struct {
		fault  func(http.ResponseWriter, *http.Request) bool
		change func(*gitlab.Project)
		commit string
		kind   gitlab.Kind
		says   string
		after  time.Duration
	}{
		"401":          {change: func(p *gitlab.Project) { p.Token = "glpat-other" }, kind: gitlab.Denied, says: "scope api"},
		"403":          {fault: gitlabtest.Answer("", 403, `{"error":"insufficient_scope"}`), kind: gitlab.Forbidden, says: "Maintainer"},
		"project":      {change: func(p *gitlab.Project) { p.Project = "dynors/none" }, kind: gitlab.NoProject, says: "spec.gitlab.project"},
		"commit":       {commit: strings.Repeat("0", 40), kind: gitlab.NoCommit, says: "push it there"},
		"429":          {fault: gitlabtest.Answer("", 429, "Retry later", "Retry-After: 7"), kind: gitlab.Busy, says: "429", after: 7 * time.Second},
		"503":          {fault: gitlabtest.Answer("", 503, "<html>", "Retry-After: 99999999"), kind: gitlab.Away, says: "503", after: time.Hour},
		"redirect":     {fault: gitlabtest.Answer("", 302, "", "Location: http://127.0.0.1:1/"), kind: gitlab.Away, says: "redirects are not followed"},
		"cut":          {fault: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, kind: gitlab.Away, says: "connection"},
		"other server": {fault: gitlabtest.Answer("", 200, "<html>welcome</html>"), kind: gitlab.Away, says: "no GitLab"},
		"endless":      {fault: gitlabtest.Answer("", 200, "["+strings.Repeat(`{"id":1},`, 1<<18)), kind: gitlab.Away, says: "no GitLab"},
		"echo":         {fault: echo, kind: gitlab.Refused, says: "400"},
		"fields":       {fault: gitlabtest.Answer("", 400, `{"message":{"environment":["bad"],"x<y":["z"]}}`), kind: gitlab.Refused, says: "refuses: environment"},
		"down":         {change: func(p *gitlab.Project) { p.URL = "http://127.0.0.1:1" }, kind: gitlab.Away, says: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := gitlabtest.Start(t, commit)
			s.Misbehave(tc.fault)
			c, p := gitlab.New(private), project(s)
			if tc.change != nil {
				tc.change(&p)
			}
			d := gitlab.Deployment{Environment: "dev", Commit: commit, Ref: "main", State: gitlab.Running}
			if tc.commit != "" {
				d.Commit = tc.commit
				err := c.SetStatus(t.Context(), p, gitlab.Status{Commit: tc.commit, State: gitlab.Success, Name: "x"})
				if gitlab.KindOf(err) != tc.kind {
					t.Errorf("status: %v", err)
				}
			}
			_, err := c.Deploy(t.Context(), p, d, 0)
			if gitlab.KindOf(err) != tc.kind || gitlab.RetryAfter(err) != tc.after || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("kind %d, after %s: %v", gitlab.KindOf(err), gitlab.RetryAfter(err), err)
			}
			for _, secret := range []string{p.Token, "127.0.0.1"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is told: %v", secret, err)
				}
			}
		})
	}
}

// TestAddresses: nothing is connected to that the operator does not allow, and the token is not shown to the internet.
func TestAddresses(t *testing.T) {
	s := gitlabtest.Start(t, commit)
	secure := httptest.NewTLSServer(s)
	defer secure.Close()
	status := gitlab.Status{Commit: commit, State: gitlab.Success, Name: "sirrat/ci"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loopback := egress.Guard{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, tc := range []struct {
		guard egress.Guard
		url   string
		kind  gitlab.Kind
	}{
		{egress.Guard{}, s.URL, gitlab.Blocked},
		{egress.Guard{}, secure.URL, gitlab.Blocked},
		{egress.Guard{}, strings.Replace(s.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), gitlab.Blocked},
		{egress.Guard{}, "https://169.254.169.254", gitlab.Blocked},
		{private, "https://169.254.169.254", gitlab.Blocked},
		{private, "http://1.1.1.1", gitlab.Blocked},
		{private, s.URL, gitlab.None},
		{loopback, s.URL, gitlab.None},
		{loopback, secure.URL, gitlab.Away}, // a certificate of nobody's
	} {
		p := project(s)
		p.URL = tc.url
		if err := gitlab.New(tc.guard).SetStatus(ctx, p, status); gitlab.KindOf(err) != tc.kind {
			t.Errorf("%s: %v", tc.url, err)
		}
	}
	if n := len(s.Requests()); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
	canceled, stop := context.WithCancel(ctx)
	stop()
	if err := gitlab.New(private).SetStatus(canceled, project(s), status); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestStatusesLead: a status leads where it is told to; one that GitLab does not take the address of is told all the same.
func TestStatusesLead(t *testing.T) {
	s := gitlabtest.Start(t, commit)
	c, p := gitlab.New(private), project(s)
	const page = "https://sirrat.example/releases/p/r/c"
	for name, target := range map[string]string{"sirrat/ci": page, "sirrat/qa": page + strings.Repeat("c", 255), "sirrat/client": ""} {
		if err := c.SetStatus(t.Context(), p, gitlab.Status{Commit: commit, State: gitlab.Success, Name: name, TargetURL: target}); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"sirrat/ci": page, "sirrat/qa": "", "sirrat/client": ""}, s.Targets(commit)); diff != "" {
		t.Error(diff)
	}
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}
