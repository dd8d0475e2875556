// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hooks"
)

var harborHook = hookSource{
	name: v1alpha1.SourceHarbor,
	credentials: func(h *v1alpha1.Hooks) []*v1alpha1.HookSecret {
		if h.Harbor == nil {
			return []*v1alpha1.HookSecret{nil}
		}
		return []*v1alpha1.HookSecret{&h.Harbor.SecretRef}
	},
	offers: func(h http.Header, _ time.Time) *Problem {
		if one(h, "Authorization") == "" {
			return hookProblem("no-secret", "The webhook proves nothing", "send the header Authorization: give the webhook an auth header in Harbor")
		}
		return nil
	},
	proves: func(h http.Header, _ []byte, values [][][]byte) bool {
		return hooks.TokenMatches(one(h, "Authorization"), values[0]...)
	},
	take: func(ctx context.Context, a *api, d *delivery) (HookAnswer, error) { return a.takeHarbor(ctx, d) },
}

// takeHarbor does what an event of Harbor's asks for.
func (a *api) takeHarbor(ctx context.Context, d *delivery) (HookAnswer, error) {
	e, err := hooks.ReadHarbor(d.body)
	if err != nil {
		return HookAnswer{}, invalidHook(err)
	}
	answer := d.answer(e.Type)
	switch e.Type {
	case hooks.HarborScanned, hooks.HarborScanFailed, hooks.HarborScanStopped:
		if e.ScanType != "" {
			return answer.ignored("it is about a scan of the type %s, which says nothing about vulnerabilities", e.ScanType)
		}
		if err := a.checkTime("occur_at", e.At); err != nil {
			return answer, err
		}
		return a.takeScans(ctx, d, e, answer)
	case hooks.HarborPush, hooks.HarborReplication, hooks.HarborQuotaExceed, hooks.HarborQuotaWarn:
		return a.note(ctx, d, e, answer)
	}
	return answer.ignored("nothing depends on events of this kind: pushes, scans, replications and quotas do something")
}

// note answers an event that is no evidence, with the releases that it is about. What watches registries hooks in here: such an event is
// a reason to look at these releases now.
func (a *api) note(ctx context.Context, d *delivery, e hooks.Harbor, answer HookAnswer) (HookAnswer, error) {
	for _, artifact := range e.Artifacts {
		releases, err := a.releasesWithDigest(ctx, d.project.Name, artifact.Digest)
		if err != nil {
			return answer, err
		}
		for _, r := range releases {
			if !slices.Contains(answer.Releases, r.Name) {
				answer.Releases = append(answer.Releases, r.Name)
			}
		}
	}
	answer.Outcome, answer.Detail = hookNoted, "understood; it is no evidence, and nothing is stored"
	return answer, nil
}

// takeScans keeps what scans of images found, under the commits of the releases that the images are of.
func (a *api) takeScans(ctx context.Context, d *delivery, e hooks.Harbor, answer HookAnswer) (HookAnswer, error) {
	if d.project.Spec.CI.RequireOIDC {
		return answer.ignored(onlyJobs)
	}
	for _, artifact := range e.Artifacts {
		if artifact.Scan.Status == "" {
			answer.add(hookIgnored, "", artifact.Scan.Reason+": with spec.harbor.scan of the Project SIRRAT fetches it from Harbor")
			continue
		}
		commits, why, err := a.commitsOf(ctx, d.project, e, artifact)
		if err != nil {
			return answer, err
		}
		if len(commits) == 0 {
			answer.add(hookIgnored, "", why)
		}
		for _, commit := range commits {
			answer.Commit = commit
			if err := a.keep(ctx, d, &answer, scanResult(e, artifact, commit), harborFact(e, artifact)); err != nil {
				return answer, err
			}
		}
		if artifact.Scan.Reason != "" {
			answer.Detail += " (" + artifact.Scan.Reason + ")"
		}
	}
	if answer.Outcome == "" {
		return answer.ignored("it names no image")
	}
	return answer, nil
}

// harborFact is an event about one of its images.
func harborFact(e hooks.Harbor, artifact hooks.HarborArtifact) hooks.Harbor {
	e.Artifacts = []hooks.HarborArtifact{artifact}
	return e
}

// scanResult is a scan of one image as a result of a commit. Each image is a job of its own, and a scan replaces an older one of
// the same image, by Harbor's own clock, whether SIRRAT fetched it or Harbor sent it.
func scanResult(e hooks.Harbor, artifact hooks.HarborArtifact, commit string) v1alpha1.CIResultSpec {
	return v1alpha1.CIResultSpec{
		Type: v1alpha1.TypeScan, Status: artifact.Scan.Status, Commit: commit, Digest: artifact.Digest, Vulnerabilities: artifact.Scan.Findings,
		Producer: artifact.Scan.Scanner, Job: artifact.Digest, Run: strconv.FormatInt(e.At.UnixMilli(), 10),
	}
}

// commitsOf are the commits whose releases have an image. Before a release's digests are known, or before there is one, the tag
// names the commit (dev-a1b2c3d) if the repository is one of the project's; what is stored counts for exactly its digest all the
// same. why says why there are none.
func (a *api) commitsOf(ctx context.Context, project *v1alpha1.Project, e hooks.Harbor, artifact hooks.HarborArtifact) (commits []string, why string, err error) {
	releases, err := a.releasesWithDigest(ctx, project.Name, artifact.Digest)
	if err != nil {
		return nil, "", err
	}
	for _, r := range releases {
		commits = append(commits, r.Spec.Commit)
	}
	if len(commits) > 0 {
		slices.Sort(commits)
		return slices.Compact(commits), "", nil
	}
	m := tagCommit.FindStringSubmatch("-" + artifact.Tag) // a tag may be a commit and nothing else
	switch {
	case m == nil:
		return nil, fmt.Sprintf("no release has the image %s, and its tag names no commit: scan it again once a release has it", artifact.Digest), nil
	case !isOurs(project, e.Repository, artifact.Reference):
		return nil, fmt.Sprintf("no release has the image %s, and its repository is none of the project's images", artifact.Digest), nil
	}
	// Releases alone tell which commit the digits are of: results that other deliveries left would make it depend on their order.
	var p *Problem
	release, err := pickRelease("commit", m[1], a.hub.releasesWith(project.Name, m[1]))
	switch {
	case errors.As(err, &p):
		return nil, p.Detail, nil
	case err != nil:
		return nil, "", err
	case len(digestsOf(release)) > 0:
		return nil, fmt.Sprintf("the image %s is none of release %s's", artifact.Digest, release.Name), nil
	}
	return []string{m[1]}, "", nil // as the tag says: storeSaid finds it again once there is the release
}

// releasesWithDigest are the releases of a project that have an image, in the order of their names. It looks at the API server
// before it says that there are none.
func (a *api) releasesWithDigest(ctx context.Context, project, digest string) ([]*v1alpha1.Release, error) {
	if digest == "" {
		return nil, nil
	}
	has := func(releases []*v1alpha1.Release) (out []*v1alpha1.Release) {
		for _, r := range releases {
			if slices.Contains(digestsOf(r), digest) {
				out = append(out, r)
			}
		}
		slices.SortFunc(out, func(x, y *v1alpha1.Release) int { return strings.Compare(x.Name, y.Name) })
		return out
	}
	if found := has(a.hub.allReleases(project)); len(found) > 0 {
		return found, nil
	}
	stored, err := a.storedReleases(ctx, project)
	return has(stored), err
}

// isOurs tells whether a repository of Harbor's is one of the project's images. Harbor may call itself by another name than the one
// that images are pulled by.
func isOurs(project *v1alpha1.Project, repository, reference string) bool {
	return slices.ContainsFunc(project.Spec.Images, func(image v1alpha1.ProjectImage) bool {
		return image.Repository == reference || repository != "" && strings.HasSuffix(image.Repository, "/"+repository)
	})
}
