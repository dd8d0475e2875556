// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/idtoken"
)

// authenticateJob returns what GitLab says of the job that holds the token, if it is one of the project's.
//
// A token that is not signed for the project gets one and the same answer, whether there is such a project, it trusts another
// issuer, or the signature is wrong; what the answer says of issuer and project_path is what the token says of itself. The
// project is read from the cache alone, so that the same work is done.
func (a *api) authenticateJob(ctx context.Context, text, project string, scope apitoken.Scope) (*idtoken.Claims, error) {
	token, err := idtoken.Parse(text)
	if err != nil {
		return nil, unauthorized("malformed-token", "the id_token is refused: "+err.Error())
	}
	foreign := opensNothing(fmt.Sprintf("no such project, or it does not trust this id_token, which names the issuer %q and the project_path %q: "+
		"compare SIRRAT_PROJECT_ID, and spec.ci.oidc of the project", clip(token.Issuer), clip(token.ProjectPath)))
	ci, err := a.pipelinesOf(ctx, project)
	if err != nil {
		return nil, err
	}
	if a.o.IDTokens == nil || ci.OIDC == nil || scope != apitoken.ScopePipeline {
		return nil, foreign
	}
	if !a.verifying.take(project, 1) { // an issuer that answers slowly keeps its own projects waiting
		return nil, unavailable("too many id_tokens of this project at a time", time.Second, nil)
	}
	defer a.verifying.release(project, 1)
	claims, err := a.o.IDTokens.Verify(ctx, token, a.expected(ci.OIDC))
	if err != nil {
		a.o.Log.V(1).Info("id_token refused", "project", project, "cause", err.Error())
		return nil, jobProblem(err, foreign)
	}
	return &claims, nil
}

// jobProblem words why an id_token was refused.
func jobProblem(err error, foreign *Problem) error {
	var refusal *idtoken.Refusal
	var down *idtoken.Unavailable
	switch {
	case errors.As(err, &refusal) && refusal.Claim == "exp":
		p := unauthorized("expired-token", refusal.Error())
		p.challenge = challenge + `, error="invalid_token", error_description="the token has expired"`
		return p
	case errors.As(err, &refusal):
		return fields(http.StatusForbidden, "id-token-refused", "The id_token is not good for this", []FieldError{{refusal.Claim, refusal.Reason}})
	case errors.As(err, &down) && errors.Is(err, egress.ErrBlocked):
		return unavailable("the keys of the issuer cannot be fetched: "+egress.ErrBlocked.Error()+", unless its operator adds the network to --allow-private-addresses", down.After, err)
	case errors.As(err, &down):
		return unavailable("the keys of the issuer cannot be fetched; nothing is acknowledged, send it again", down.After, err)
	}
	return foreign
}

// pipelinesOf is what a project says of its pipelines; nothing if there is no such project.
func (a *api) pipelinesOf(ctx context.Context, project string) (v1alpha1.CI, error) {
	if !projectPattern.MatchString(project) {
		return v1alpha1.CI{}, nil
	}
	var p v1alpha1.Project
	err := a.o.Client.Get(ctx, client.ObjectKey{Name: project}, &p)
	if err != nil && !apierrors.IsNotFound(err) {
		return v1alpha1.CI{}, storeProblem("read the project", err)
	}
	return p.Spec.CI, nil
}

func (a *api) expected(o *v1alpha1.OIDC) idtoken.Expected {
	want := idtoken.Expected{Issuer: o.Issuer, ProjectPath: o.ProjectPath, ProtectedOnly: ptr.Deref(o.ProtectedRefsOnly, true)}
	if o.ProjectID != 0 {
		want.ProjectID = strconv.FormatInt(o.ProjectID, 10)
	}
	switch bare := strings.TrimSuffix(a.o.PublicURL, "/"); {
	case o.Audience != "":
		want.Audiences = []string{o.Audience}
	case bare != "":
		want.Audiences = []string{bare, bare + "/"}
	}
	return want
}

// checkDemand refuses an API token where the project demands that its jobs themselves report.
func (a *api) checkDemand(ctx context.Context, c caller) error {
	if c.job != nil {
		return nil
	}
	return a.withStore(ctx, func(ctx context.Context) error {
		ci, err := a.pipelinesOf(ctx, c.project)
		if err != nil || !ci.RequireOIDC {
			return err
		}
		return newProblem(http.StatusForbidden, "id-token-demanded", "The project takes reports from its jobs only",
			"an API token reports nothing here (spec.ci.requireOIDC): let the job send an id_token, with id_tokens in .gitlab-ci.yml")
	})
}

// ownCommit returns the full commit of the job's token, if the digits are the beginning of it: a job speaks of no other.
func (c caller) ownCommit(field, digits string) (string, error) {
	if c.job == nil {
		return digits, nil
	}
	if !strings.HasPrefix(c.job.Commit, digits) {
		return "", contradicted(field, "the id_token was signed for a job of commit "+c.job.Commit+": a job speaks of its own commit only")
	}
	return c.job.Commit, nil
}

// vouch checks a report against what GitLab says of the job that sent it, and adds what the report does not say. commitField
// is what the report named the commit by.
//
// A run of no job is left out: the runs of a job replace each other, and without its name they would replace those of other jobs.
func (c caller) vouch(spec *v1alpha1.CIResultSpec, commitField string) (err error) {
	defer func() {
		if spec.Job == "" {
			spec.Run = ""
		}
	}()
	if c.job == nil {
		return nil
	}
	if spec.Commit, err = c.ownCommit(commitField, spec.Commit); err != nil {
		return err
	}
	for _, said := range []struct{ field, report, token, claim string }{
		{"branch", spec.Branch, c.job.Ref, "ref"},
		{"pipeline", spec.Pipeline, c.job.Pipeline, "pipeline_id"},
		{"run", spec.Run, c.job.Job, "job_id"},
	} {
		if said.report != "" && said.report != said.token {
			return contradicted(said.field, fmt.Sprintf("is not the %s of the id_token, %q: leave it out, or give what GitLab gives", said.claim, clip(said.token)))
		}
	}
	spec.Pipeline, spec.Run = c.job.Pipeline, c.job.Job
	if check := (&checker{}); c.job.RefType == "branch" && check.branch(c.job.Ref) != "" && len(check.errs) == 0 {
		spec.Branch = c.job.Ref
	}
	return nil
}

func contradicted(field, detail string) *Problem {
	return fields(http.StatusForbidden, "not-this-job", "The request is not about the job that sent it", []FieldError{{field, detail}})
}

// identity is the job as it is recorded; nil for an API token.
func (c caller) identity() *v1alpha1.JobIdentity {
	if c.job == nil {
		return nil
	}
	return &v1alpha1.JobIdentity{
		Issuer: c.job.Issuer, ProjectPath: c.job.ProjectPath, ProjectID: c.job.ProjectID, Pipeline: c.job.Pipeline, Job: c.job.Job,
		Ref: shown(c.job.Ref), RefType: c.job.RefType, RefProtected: c.job.RefProtected, User: shown(c.job.User),
	}
}

// shown is text of a token as it is safe to keep and print.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if unsafeText(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxBranch {
		return clip(s)
	}
	return s
}
