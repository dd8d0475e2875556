// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var (
	semverPattern = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)
	tagCommit     = regexp.MustCompile(`-([0-9a-f]{7,64})$`)
)

// resolveCommit turns an abbreviated commit into the full one, when exactly one commit that the project knows starts with it.
// A commit that none starts with is returned as it is.
func (a *api) resolveCommit(project, commit string) (string, error) {
	if isFull(commit) {
		return commit, nil
	}
	var known []string
	for _, r := range a.hub.releasesWith(project, commit) {
		known = append(known, r.Spec.Commit)
	}
	for _, r := range a.hub.resultsWith(project, commit) {
		known = append(known, r.Spec.Commit)
	}
	return uniqueCommit("commit", commit, known)
}

// uniqueCommit picks the one full commit among known that starts with prefix; prefix itself if there is none.
func uniqueCommit(field, prefix string, known []string) (string, error) {
	full := slices.DeleteFunc(slices.Clone(known), func(c string) bool { return !isFull(c) || !strings.HasPrefix(c, prefix) })
	slices.Sort(full)
	switch full = slices.Compact(full); len(full) {
	case 0:
		return prefix, nil
	case 1:
		return full[0], nil
	default:
		return "", ambiguous(field, fmt.Sprintf("%s is the beginning of %d commits of this project, %s among them: give more digits",
			prefix, len(full), strings.Join(full[:2], " and ")))
	}
}

// findRelease returns the Release of a commit, full or abbreviated. It looks at the API server before it says that there is
// none (nil), since the index may lag behind a write.
func (a *api) findRelease(ctx context.Context, project, commit string) (*v1alpha1.Release, error) {
	found, err := pickRelease("commit", commit, a.hub.releasesWith(project, commit))
	if found != nil || err != nil {
		return found, err
	}
	stored, err := a.storedReleases(ctx, project)
	if err != nil {
		return nil, err
	}
	return pickRelease("commit", commit, stored)
}

// pickRelease chooses, among releases, that of the commit; the oldest if a user made several for one commit; nil for none.
func pickRelease(field, commit string, releases []*v1alpha1.Release) (*v1alpha1.Release, error) {
	var known []string
	for _, r := range releases {
		known = append(known, r.Spec.Commit)
	}
	full, err := uniqueCommit(field, commit, known)
	if err != nil {
		return nil, err
	}
	return oldest(releases, full), nil
}

func oldest(releases []*v1alpha1.Release, commit string) *v1alpha1.Release {
	var found *v1alpha1.Release
	for _, r := range releases {
		if r.Spec.Commit == commit && (found == nil || older(r, found)) {
			found = r
		}
	}
	return found
}

func older(a, b *v1alpha1.Release) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// storedReleases reads the Releases of a project from the API server.
func (a *api) storedReleases(ctx context.Context, project string) ([]*v1alpha1.Release, error) {
	var list v1alpha1.ReleaseList
	if err := a.o.APIReader.List(ctx, &list, client.InNamespace(project)); err != nil {
		return nil, storeProblem("list the project's releases", err)
	}
	out := make([]*v1alpha1.Release, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	return out, nil
}

// resolveVersion finds the Release that a deployment's version names: by semantic version, by commit, by its own name, by a
// tag that it received in the registry, or by a tag that ends in a commit (dev-a1b2c3d).
func (a *api) resolveVersion(ctx context.Context, project, version string) (*v1alpha1.Release, error) {
	found, err := pickVersion(version, a.hub.allReleases(project))
	if found != nil || err != nil {
		return found, err
	}
	stored, err := a.storedReleases(ctx, project)
	if err != nil {
		return nil, err
	}
	if found, err = pickVersion(version, stored); found != nil || err != nil {
		return found, err
	}
	return nil, notFoundField("version", fmt.Sprintf("no release of this project is %s: post the results of its commit first, "+
		"or create the release with kubectl apply", version))
}

func pickVersion(version string, releases []*v1alpha1.Release) (*v1alpha1.Release, error) {
	named := func(is func(*v1alpha1.Release) bool) (*v1alpha1.Release, error) {
		var commits []string
		for _, r := range releases {
			if is(r) {
				commits = append(commits, r.Spec.Commit)
			}
		}
		slices.Sort(commits)
		if commits = slices.Compact(commits); len(commits) > 1 {
			return nil, ambiguous("version", fmt.Sprintf("%d releases of this project are %s: give a commit", len(commits), version))
		} else if len(commits) == 0 {
			return nil, nil
		}
		return oldest(releases, commits[0]), nil
	}
	if semverPattern.MatchString(version) {
		v := "v" + strings.TrimPrefix(version, "v")
		return named(func(r *v1alpha1.Release) bool { return r.Spec.Version == v })
	}
	if commit, problem := checkCommit(version); problem == "" {
		if found, err := pickRelease("version", commit, releases); found != nil || err != nil {
			return found, err
		}
	}
	if found, err := named(func(r *v1alpha1.Release) bool { return r.Name == version || hasTag(r, version) }); found != nil || err != nil {
		return found, err
	}
	if m := tagCommit.FindStringSubmatch(version); m != nil {
		return pickRelease("version", m[1], releases)
	}
	return nil, nil
}

func hasTag(r *v1alpha1.Release, tag string) bool {
	return slices.ContainsFunc(r.Status.Environments, func(e v1alpha1.ReleaseEnvironment) bool { return slices.Contains(e.Tags, tag) })
}

// get reads an object, from the API server if the client, which may be cached, does not have it.
func (a *api) get(ctx context.Context, key client.ObjectKey, obj client.Object) error {
	err := a.o.Client.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) {
		err = a.o.APIReader.Get(ctx, key, obj)
	}
	return err
}

// checkEnvironment refuses a deployment into an environment that the project does not have.
func (a *api) checkEnvironment(ctx context.Context, project, environment string) error {
	err := a.get(ctx, client.ObjectKey{Namespace: project, Name: environment}, &v1alpha1.Environment{})
	if apierrors.IsNotFound(err) {
		return notFoundField("environment", fmt.Sprintf("this project has no environment %s%s", environment, a.there(ctx, project, &v1alpha1.EnvironmentList{})))
	}
	return storeProblem("read the environment", err)
}

// checkType refuses a type of result that nothing asks for, which is most often misspelt: neither karma nor a gate of the
// project knows it.
func (a *api) checkType(ctx context.Context, project, resultType string) error {
	switch resultType {
	case v1alpha1.TypeTests, v1alpha1.TypeCoverage, v1alpha1.TypeScan, v1alpha1.TypeQuality, v1alpha1.TypeSBOM:
		return nil
	}
	known, declared, err := a.declares(ctx, project, resultType)
	if known || err != nil {
		return err
	}
	detail := "is not known: use tests, coverage, scan, quality or sbom, or declare it in a result criterion of a gate"
	if len(declared) > 0 {
		detail += " (declared: " + strings.Join(declared, ", ") + ")"
	}
	return invalid([]FieldError{{"type", detail}})
}

// declares tells whether a gate of the project asks for results of a type, and which types gates ask for.
func (a *api) declares(ctx context.Context, project, resultType string) (known bool, declared []string, err error) {
	for _, reader := range []client.Reader{a.o.Client, a.o.APIReader} {
		var gates v1alpha1.QualityGateList
		if err := reader.List(ctx, &gates, client.InNamespace(project)); err != nil {
			return false, nil, storeProblem("list the project's gates", err)
		}
		if declared = declaredTypes(gates.Items); slices.Contains(declared, resultType) {
			return true, declared, nil
		}
	}
	return false, declared, nil
}

func declaredTypes(gates []v1alpha1.QualityGate) []string {
	var types []string
	for _, gate := range gates {
		for _, criterion := range gate.Spec.Criteria {
			if criterion.Result != nil {
				types = append(types, criterion.Result.Type)
			}
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}
