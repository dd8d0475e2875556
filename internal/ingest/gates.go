// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// getGates answers with the verdicts on a commit. With ?wait= it answers as soon as the gate that ?gate= names, or every gate
// that opens by itself, has passed or refused the release as it was last reported on; a release that does not exist yet is waited
// for as well.
func (a *api) getGates(w http.ResponseWriter, r *http.Request, c caller) error {
	wait, err := waitParameter(r, 0)
	if err != nil {
		return err
	}
	commit, problem := checkCommit(r.URL.Query().Get("commit"))
	if problem != "" {
		return invalid([]FieldError{{"commit", problem}})
	}
	if commit, err = c.ownCommit("commit", commit); err != nil {
		return err
	}
	gates, err := a.gatesAsked(r.Context(), c.project, r.URL.Query().Get("gate"))
	if err != nil {
		return err
	}
	var release *v1alpha1.Release
	a.await(r.Context(), commitTopic(c.project, commit), wait, func() bool {
		release, err = pickRelease("commit", commit, a.hub.releasesWith(c.project, commit))
		return err != nil || release != nil && a.isJudged(release) && answerFor(c.project, commit, release).decided(gates)
	})
	if err == nil && release == nil {
		err = a.withStore(r.Context(), func(ctx context.Context) (err error) {
			release, err = a.findRelease(ctx, c.project, commit)
			return err
		})
	}
	if err != nil {
		return err
	}
	if release == nil {
		return notFoundField("commit", fmt.Sprintf("this project has no release with commit %s", commit))
	}
	answer := answerFor(c.project, commit, release)
	answer.Judged = a.isJudged(release)
	answer.Verdict = answer.together(gates)
	writeJSON(w, http.StatusOK, "application/json", answer)
	return nil
}

// isJudged says whether the controllers have looked at a Release, with all that was reported on it: a verdict from before the last
// report would pass for one that knows it.
func (a *api) isJudged(r *v1alpha1.Release) bool {
	if r.Status.ObservedGeneration == 0 && len(r.Status.Gates) == 0 {
		return false
	}
	var results []v1alpha1.CIResult
	for _, result := range a.hub.resultsWith(r.Namespace, r.Spec.Commit) {
		results = append(results, *result)
	}
	return !slices.ContainsFunc(evidence.On(r, results), func(name string) bool { return !slices.Contains(r.Status.Evidence, name) })
}

// gatesAsked are the names of the gates that a request asks about: the one it names, otherwise all that open by themselves.
func (a *api) gatesAsked(ctx context.Context, project, gate string) ([]string, error) {
	if gate == "" {
		return a.automaticGates(ctx, project)
	}
	err := error(nil)
	known := len(gate) <= maxEnvironment && environmentPattern.MatchString(gate) // gates are named as environments are
	if known {
		err = a.get(ctx, client.ObjectKey{Namespace: project, Name: gate}, &v1alpha1.QualityGate{})
		known = !apierrors.IsNotFound(err)
	}
	if !known {
		return nil, notFoundField("gate", fmt.Sprintf("this project has no gate %q%s", clip(gate), a.there(ctx, project, &v1alpha1.QualityGateList{})))
	}
	return []string{gate}, storeProblem("read the gate", err)
}

// maxThere is how many names are told to who mistyped one.
const maxThere = 12

// there names the project's objects of a kind, for who mistyped the name of one; "" when there are none, or they cannot be read now.
func (a *api) there(ctx context.Context, project string, list client.ObjectList) string {
	if err := a.o.Client.List(ctx, list, client.InNamespace(project)); err != nil {
		return ""
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return ""
	}
	var names []string
	for _, object := range objects {
		if o, ok := object.(client.Object); ok {
			names = append(names, o.GetName())
		}
	}
	slices.Sort(names)
	switch more := len(names) - maxThere; {
	case len(names) == 0:
		return ""
	case more > 0:
		return fmt.Sprintf(": there are %s and %d more", strings.Join(names[:maxThere], ", "), more)
	}
	return ": there is " + strings.Join(names, ", ")
}

// automaticGates are the names of the project's gates that open by themselves, sorted.
func (a *api) automaticGates(ctx context.Context, project string) ([]string, error) {
	var list v1alpha1.QualityGateList
	if err := a.o.Client.List(ctx, &list, client.InNamespace(project)); err != nil {
		return nil, storeProblem("list the project's gates", err)
	}
	var names []string
	for _, gate := range list.Items {
		if gate.Spec.Mode == v1alpha1.ModeAutomatic {
			names = append(names, gate.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
