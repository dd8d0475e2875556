// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hooks"
)

// sonarSignature is the header with which SonarQube signs.
const sonarSignature = "X-Sonar-Webhook-HMAC-SHA256"

var sonarHook = hookSource{
	name: v1alpha1.SourceSonarQube,
	credentials: func(h *v1alpha1.Hooks) []*v1alpha1.HookSecret {
		if h.SonarQube == nil {
			return []*v1alpha1.HookSecret{nil}
		}
		return []*v1alpha1.HookSecret{&h.SonarQube.SecretRef}
	},
	offers: func(h http.Header, _ time.Time) *Problem {
		if one(h, sonarSignature) == "" {
			return hookProblem("no-secret", "The webhook proves nothing", "send the header "+sonarSignature+": give the webhook a secret in SonarQube")
		}
		return nil
	},
	proves: func(h http.Header, body []byte, values [][][]byte) bool {
		return hooks.BodySigned(one(h, sonarSignature), body, values[0]...)
	},
	take: func(ctx context.Context, a *api, d *delivery) (HookAnswer, error) { return a.takeSonarQube(ctx, d) },
}

// takeSonarQube keeps the verdict of a quality gate. A verdict replaces an older one on the same commit and SonarQube project, by
// SonarQube's own clock; verdicts of several projects stand beside each other.
func (a *api) takeSonarQube(ctx context.Context, d *delivery) (HookAnswer, error) {
	e, err := hooks.ReadSonarQube(d.body)
	if err != nil {
		return HookAnswer{}, invalidHook(err)
	}
	answer := d.answer("quality gate")
	answer.Commit = e.Commit
	if deliveryPattern.MatchString(e.Task) {
		answer.Delivery = e.Task
	}
	only := d.project.Spec.Hooks.SonarQube.Projects
	switch {
	case len(only) > 0 && !slices.Contains(only, e.Project):
		return answer.ignored("it is about a SonarQube project that spec.hooks.sonarqube.projects does not name")
	case d.project.Spec.CI.RequireOIDC:
		return answer.ignored(onlyJobs)
	case e.PullRequest:
		return answer.ignored("the analysis of a pull request judges what it changes only: that of the branch counts")
	case e.Commit == "":
		return answer.ignored("it names no commit (revision): the scanner did not find the repository, or the analysis failed before it was known")
	case e.At.IsZero():
		return answer, invalid([]FieldError{{"analysedAt", "is required"}})
	}
	if err := a.checkTime("analysedAt", e.At); err != nil {
		return answer, err
	}
	err = a.keep(ctx, d, &answer, v1alpha1.CIResultSpec{
		Type: v1alpha1.TypeQuality, Status: e.Status, Commit: e.Commit, Branch: branchOf(e.Branch), Coverage: e.Coverage,
		Job: sonarJob(e.Project), Run: strconv.FormatInt(e.At.Unix(), 10), URL: e.URL,
	}, e)
	if len(e.Failed) > 0 {
		answer.Detail += ": " + strings.Join(e.Failed[:min(len(e.Failed), maxFieldErrors)], ", ")
	}
	return answer, err
}

// sonarJob is the key of a SonarQube project as the name of a job, which is shorter.
func sonarJob(key string) string {
	if len(key) > maxBranch {
		return hashOf(key)
	}
	return key
}
