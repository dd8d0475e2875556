// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hooks"
)

var gitlabHook = hookSource{
	name: v1alpha1.SourceGitLab,
	credentials: func(h *v1alpha1.Hooks) []*v1alpha1.HookSecret {
		if h.GitLab == nil {
			return []*v1alpha1.HookSecret{nil, nil}
		}
		return []*v1alpha1.HookSecret{h.GitLab.SecretRef, h.GitLab.SigningRef}
	},
	offers: func(h http.Header, now time.Time) *Problem {
		signed := signedBy(h)
		switch {
		case signed.Signature == "" && one(h, "X-Gitlab-Token") == "":
			return hookProblem("no-secret", "The webhook proves nothing", "send the header X-Gitlab-Token, or webhook-id, webhook-timestamp and webhook-signature: give the webhook a secret token or a signing token in GitLab")
		case signed.Signature != "" && !signed.Fresh(now):
			return hookProblem("stale-delivery", "The webhook was not signed now", fmt.Sprintf("webhook-timestamp must be within %s of now: what was signed before cannot be sent again; compare the clocks", hooks.Tolerance))
		}
		return nil
	},
	proves: func(h http.Header, body []byte, values [][][]byte) bool {
		token := hooks.TokenMatches(one(h, "X-Gitlab-Token"), values[0]...)
		signature := signedBy(h).Matches(body, values[1]...)
		switch {
		case values[0] != nil && values[1] != nil:
			return token && signature
		case values[1] != nil:
			return signature
		}
		return token
	},
	take: func(ctx context.Context, a *api, d *delivery) (HookAnswer, error) { return a.takeGitLab(ctx, d) },
}

func signedBy(h http.Header) hooks.Signed {
	return hooks.Signed{ID: one(h, "webhook-id"), Timestamp: one(h, "webhook-timestamp"), Signature: one(h, "webhook-signature")}
}

// takeGitLab does what an event of GitLab's asks for.
func (a *api) takeGitLab(ctx context.Context, d *delivery) (HookAnswer, error) {
	e, err := hooks.ReadGitLab(d.body)
	if err != nil {
		return HookAnswer{}, invalidHook(err)
	}
	answer := d.answer(e.Kind)
	answer.Commit = e.Commit
	if why := otherGitLab(d.project.Spec, e); why != "" {
		return answer.ignored("%s", why)
	}
	take := map[string]func(context.Context, *delivery, hooks.GitLab, HookAnswer) (HookAnswer, error){
		hooks.KindPipeline: a.takePipeline, hooks.KindJob: a.takeJob, hooks.KindDeployment: a.takeDeployment, hooks.KindTag: a.takeTag,
	}[e.Kind]
	switch {
	case e.Kind == hooks.KindPush:
		return answer.ignored("a push proves nothing: what its pipeline finds does")
	case take == nil:
		return answer.ignored("nothing depends on events of this kind: pipeline, job, deployment and tag push events do something")
	case d.project.Spec.CI.RequireOIDC:
		return answer.ignored(onlyJobs)
	}
	return take(ctx, d, e, answer)
}

// otherGitLab says why an event is not about the project's repository; "" if it is. The webhook of a group brings events of
// all its projects.
func otherGitLab(spec v1alpha1.ProjectSpec, e hooks.GitLab) string {
	var path string
	var id int64
	if oidc := spec.CI.OIDC; oidc != nil {
		path, id = oidc.ProjectPath, oidc.ProjectID
	}
	if own := spec.Hooks.GitLab.ProjectPath; own != "" && own != path {
		path, id = own, 0
	}
	switch {
	case path != "" && !strings.EqualFold(path, e.ProjectPath):
		return "it is about another GitLab project than " + path
	case id != 0 && e.ProjectID != 0 && id != e.ProjectID:
		return "it is about another GitLab project than the one with the id that spec.ci.oidc.projectID names"
	}
	return ""
}

// takePipeline keeps how a pipeline ended, and takes the version that a tag's pipeline was run for.
func (a *api) takePipeline(ctx context.Context, d *delivery, e hooks.GitLab, answer HookAnswer) (HookAnswer, error) {
	switch {
	case e.Status == "":
		return answer.ignored("the pipeline has not ended: it is %s", e.Word)
	case !e.Judges():
		return answer.ignored("a pipeline of origin %s is a part of another, or leaves some out: it does not say how the commit is", e.Origin)
	}
	err := a.keep(ctx, d, &answer, v1alpha1.CIResultSpec{
		Type: v1alpha1.TypePipeline, Status: e.Status, Commit: e.Commit, Branch: branchOf(e.Branch),
		Pipeline: e.Pipeline, Job: v1alpha1.SourceGitLab, Run: e.Run, URL: e.URL,
	}, e)
	if err != nil || e.Version() == "" {
		return answer, err
	}
	return a.setVersion(ctx, d, e, answer) // a tag may be pushed before its commit has a release; its pipeline ends later
}

// ownTypes are the types of results that need figures or have another way in: no job's name makes one.
var ownTypes = []string{v1alpha1.TypeTests, v1alpha1.TypeCoverage, v1alpha1.TypeScan, v1alpha1.TypeQuality, v1alpha1.TypeSBOM,
	v1alpha1.TypeDeployment, v1alpha1.TypePipeline}

// takeJob keeps how a job ended where a gate asks for results of the type that is the job's name. How other jobs ended, the
// pipeline says: the success of one of many is not that of the pipeline.
func (a *api) takeJob(ctx context.Context, d *delivery, e hooks.GitLab, answer HookAnswer) (HookAnswer, error) {
	if slices.Contains(ownTypes, e.Job) {
		return answer.ignored("results of type %s have figures, which a webhook does not: the job reports them", e.Job)
	}
	if len(e.Job) > maxType || !typePattern.MatchString(e.Job) {
		return answer.ignored("no gate can ask for results of a type named like this job: the event of its pipeline says how all jobs ended")
	}
	if e.Status == "" { // most events: the gates are not asked for them
		return answer.ignored("the job has not ended: it is %s", e.Word)
	}
	declared, _, err := a.declares(ctx, d.project.Name, e.Job)
	switch {
	case err != nil:
		return answer, err
	case !declared:
		return answer.ignored("no gate asks for results of type %s: the event of its pipeline says how all jobs ended", e.Job)
	}
	err = a.keep(ctx, d, &answer, v1alpha1.CIResultSpec{
		Type: e.Job, Status: e.Status, Commit: e.Commit, Branch: branchOf(e.Branch), Pipeline: e.Pipeline, Job: e.Job, Run: e.Run, URL: e.URL,
	}, e)
	return answer, err
}

// takeDeployment keeps what a pipeline did to an environment, as POST …/deployments does. What SIRRAT itself has GitLab record
// comes back as an event: its own word, which is no evidence.
func (a *api) takeDeployment(ctx context.Context, d *delivery, e hooks.GitLab, answer HookAnswer) (HookAnswer, error) {
	own := d.project.Spec.GitLab != nil && d.project.Spec.GitLab.Deployments
	switch {
	case e.Status == "":
		return answer.ignored("the deployment has not ended: it is %s", e.Word)
	case own && !e.ByJob:
		return answer.ignored("no job of GitLab's made the deployment: where spec.gitlab.deployments is on, it is what SIRRAT told GitLab")
	}
	environment, err := a.environmentOf(ctx, d.project.Name, e)
	if err != nil {
		return answer, err
	}
	if environment == "" {
		return answer.ignored("the project has no environment %s", clip(e.Environment))
	}
	release, err := a.findRelease(ctx, d.project.Name, e.Commit)
	if err != nil {
		return answer, err
	}
	if release == nil {
		return answer.ignored("no release has the commit %s", e.Commit)
	}
	answer.Commit, answer.Releases = release.Spec.Commit, []string{release.Name}
	err = a.keep(ctx, d, &answer, v1alpha1.CIResultSpec{
		Type: v1alpha1.TypeDeployment, Status: e.Status, Environment: environment, Commit: release.Spec.Commit, Branch: release.Spec.Branch,
		Run: e.Run, URL: e.URL,
	}, e)
	return answer, err
}

// environmentOf is the project's environment of the name, or of the slug, that GitLab has for it; "" if there is none.
func (a *api) environmentOf(ctx context.Context, project string, e hooks.GitLab) (string, error) {
	for _, name := range []string{e.Environment, e.EnvironmentSlug} {
		if len(name) > maxEnvironment || !environmentPattern.MatchString(name) {
			continue
		}
		err := a.get(ctx, client.ObjectKey{Namespace: project, Name: name}, &v1alpha1.Environment{})
		if err == nil {
			return name, nil
		}
		if !apierrors.IsNotFound(err) {
			return "", storeProblem("read the environment", err)
		}
	}
	return "", nil
}

// takeTag sets the version of the release of the commit that was tagged.
func (a *api) takeTag(ctx context.Context, d *delivery, e hooks.GitLab, answer HookAnswer) (HookAnswer, error) {
	switch {
	case e.Deleted:
		return answer.ignored("the tag was deleted: a version that was set stays")
	case e.Version() == "":
		return answer.ignored("the tag is no semantic version")
	}
	return a.setVersion(ctx, d, e, answer)
}

// setVersion gives the release of a commit the version that its tag names, unless it has one, or another release has it. A
// version is set once: a tag that is moved changes nothing.
func (a *api) setVersion(ctx context.Context, d *delivery, e hooks.GitLab, answer HookAnswer) (HookAnswer, error) {
	a.versions.Lock()
	defer a.versions.Unlock()
	version := e.Version()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		releases, err := a.storedReleases(ctx, d.project.Name)
		if err != nil {
			return err
		}
		release := oldest(releases, e.Commit)
		if release == nil {
			answer.add(hookIgnored, "", "no release has this commit yet, so that version "+version+" is not set: the event of the tag's pipeline sets it, or send this one again")
			return nil
		}
		if !slices.Contains(answer.Releases, release.Name) {
			answer.Releases = append(answer.Releases, release.Name)
		}
		if why := versionTaken(releases, release, version); why != "" {
			outcome := hookIgnored
			if release.Spec.Version == version {
				outcome = hookRepeated
			}
			answer.add(outcome, "", why)
			return nil
		}
		base := release.DeepCopy()
		release.Spec.Version = version
		if err := a.o.Client.Patch(ctx, release, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
			return err
		}
		answer.add(hookStored, "", "release "+release.Name+" is version "+version)
		return nil
	})
	var p *Problem
	if err != nil && !errors.As(err, &p) {
		err = storeProblem("set the version", err)
	}
	return answer, err
}

// versionTaken says why a release cannot get a version; "" if it can.
func versionTaken(releases []*v1alpha1.Release, release *v1alpha1.Release, version string) string {
	switch release.Spec.Version {
	case "":
	case version:
		return "release " + release.Name + " is version " + version + " already"
	default:
		return fmt.Sprintf("release %s is version %s: a version is set once", release.Name, release.Spec.Version)
	}
	i := slices.IndexFunc(releases, func(r *v1alpha1.Release) bool { return r.Spec.Version == version })
	if i >= 0 {
		return fmt.Sprintf("release %s of commit %s has version %s", releases[i].Name, v1alpha1.ShortSHA(releases[i].Spec.Commit), version)
	}
	return ""
}
