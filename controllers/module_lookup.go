// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
)

// Names of field indexes over modules.
const (
	indexModule   = "module"   // Projects by the coordinates group:artifact that they declare
	indexArtifact = "artifact" // Releases by the coordinates group:artifact:version of their artifacts
	indexAsks     = "asks"     // QualityGates with a criterion modules by "modules"
)

func addModuleIndexes(ctx context.Context, mgr manager.Manager) error {
	for _, ix := range []struct {
		obj    client.Object
		field  string
		values client.IndexerFunc
	}{
		{&v1alpha1.Project{}, indexModule, func(o client.Object) []string { return o.(*v1alpha1.Project).Spec.Maven }},
		{&v1alpha1.Release{}, indexArtifact, func(o client.Object) (out []string) {
			for _, a := range o.(*v1alpha1.Release).Status.Artifacts {
				out = append(out, a.Coordinates)
			}
			return out
		}},
		{&v1alpha1.QualityGate{}, indexAsks, func(o client.Object) []string {
			if asksForModules(o.(*v1alpha1.QualityGate).Spec) {
				return []string{"modules"}
			}
			return nil
		}},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, ix.obj, ix.field, ix.values); err != nil {
			return fmt.Errorf("index %T by %s: %w", ix.obj, ix.field, err)
		}
	}
	return nil
}

func asksForModules(spec v1alpha1.QualityGateSpec) bool {
	return slices.ContainsFunc(spec.Criteria, func(c v1alpha1.Criterion) bool { return c.Modules != nil })
}

// gatherModules looks up, over all projects, the modules that the release's lists of components name and its gates ask about.
func (r *releaseReconciler) gatherModules(ctx context.Context, s *snapshot) error {
	for _, g := range s.gates {
		if !asksForModules(g.Spec) {
			continue
		}
		for _, res := range s.results {
			for _, coordinates := range gate.Wanted(g.Spec, res.Spec.Maven) {
				if _, known := s.modules[coordinates]; known {
					continue
				}
				m, err := lookUpModule(ctx, r.Client, coordinates)
				if err != nil {
					return err
				}
				if s.modules == nil {
					s.modules = map[string]gate.Module{}
				}
				s.modules[coordinates] = m
			}
		}
	}
	return nil
}

// lookUpModule is what this installation knows of a version: of the project that declares the module the release that is
// published, or else the newest; and which of its releases read other files under the same coordinates. Whoever replaces what
// was published cannot have a second release say that it was always so.
func lookUpModule(ctx context.Context, reader client.Reader, coordinates string) (gate.Module, error) {
	var m gate.Module
	var projects v1alpha1.ProjectList
	module := coordinates[:strings.LastIndexByte(coordinates, ':')]
	if err := reader.List(ctx, &projects, client.MatchingFields{indexModule: module}, client.UnsafeDisableDeepCopy); err != nil { // read only
		return m, fmt.Errorf("list projects: %w", err)
	}
	for _, p := range projects.Items {
		m.Projects = append(m.Projects, p.Name)
	}
	slices.Sort(m.Projects)
	var releases v1alpha1.ReleaseList
	if err := reader.List(ctx, &releases, client.MatchingFields{indexArtifact: coordinates}, client.UnsafeDisableDeepCopy); err != nil { // read only
		return m, fmt.Errorf("list releases: %w", err)
	}
	var best *v1alpha1.Release
	files := map[string][]v1alpha1.ArtifactFile{}
	for i := range releases.Items {
		rel := &releases.Items[i]
		if !slices.Contains(m.Projects, rel.Namespace) {
			continue
		}
		if a := findArtifact(rel.Status.Artifacts, coordinates); len(a.Files) > 0 {
			files[rel.Name] = a.Files
		}
		if best == nil || better(rel, best) {
			best = rel
		}
	}
	if best == nil {
		return m, nil
	}
	m.Project, m.Release, m.Published, m.Waits = best.Namespace, best.Name, best.Status.Publication != nil, waitsFor(best)
	for _, f := range files[best.Name] {
		m.Digests = append(m.Digests, f.SHA256)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if len(m.Digests) > 0 && !slices.EqualFunc(files[name], m.Digests, func(f v1alpha1.ArtifactFile, digest string) bool { return f.SHA256 == digest }) {
			m.Disputed = append(m.Disputed, name)
		}
	}
	return m, nil
}

// better prefers what is published, then what is newer.
func better(a, b *v1alpha1.Release) bool {
	if pa, pb := a.Status.Publication != nil, b.Status.Publication != nil; pa != pb {
		return pa
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return b.CreationTimestamp.Before(&a.CreationTimestamp)
	}
	return a.Namespace+"/"+a.Name > b.Namespace+"/"+b.Name
}

// waitsFor is what keeps a module's release from being published, in words that change only when that does.
func waitsFor(r *v1alpha1.Release) string {
	if r.Status.Publication != nil {
		return ""
	}
	for _, v := range r.Status.Gates {
		if v.Verdict != v1alpha1.VerdictPassed {
			return "gate " + v.Name
		}
	}
	return "its artifacts"
}

// askers are the releases of all projects that have a gate which asks about modules.
func askers(ctx context.Context, c client.Reader) []reconcile.Request {
	var gates v1alpha1.QualityGateList
	if err := c.List(ctx, &gates, client.MatchingFields{indexAsks: "modules"}, client.UnsafeDisableDeepCopy); err != nil { // read only
		return nil // as in releasesIn
	}
	var namespaces []string
	for _, g := range gates.Items {
		namespaces = append(namespaces, g.Namespace)
	}
	slices.Sort(namespaces)
	var out []reconcile.Request
	for _, ns := range slices.Compact(namespaces) {
		out = append(out, releasesIn(ctx, c, ns)...)
	}
	return out
}
