// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// publication is, in bundles, gates and verdicts, what a module's version is let into in place of an environment.
const publication = ""

// published is how far a module's release has come when it went through all of its gates.
const published = "published"

// coordinatesOf are the coordinates (group:artifact:version) of a module's release, and with the reason of a condition why
// they cannot be read in the package registry. What was read once stays what the release consists of.
func coordinatesOf(p *v1alpha1.Project, r *v1alpha1.Release) (texts []string, reason, problem string) {
	for _, a := range r.Status.Artifacts {
		texts = append(texts, a.Coordinates)
	}
	if slices.ContainsFunc(r.Status.Artifacts, func(a v1alpha1.ReleaseArtifact) bool { return len(a.Files) > 0 }) {
		return texts, "", ""
	}
	texts = slices.Clone(r.Spec.Artifacts)
	if len(texts) == 0 {
		if r.Spec.Version == "" {
			return nil, v1alpha1.ReasonNoVersion, "the release has neither spec.version nor spec.artifacts: it is not known what is published"
		}
		for _, module := range p.Spec.Maven {
			texts = append(texts, module+":"+strings.TrimPrefix(r.Spec.Version, "v"))
		}
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	for _, text := range texts {
		c, err := maven.Parse(text)
		switch {
		case err != nil:
			return texts, v1alpha1.ReasonArtifactInvalid, err.Error()
		case !slices.Contains(p.Spec.Maven, c.Module()):
			return texts, v1alpha1.ReasonArtifactInvalid, fmt.Sprintf("%s is no module of the project: spec.maven of the Project does not list %s", c, c.Module())
		case c.Problem() != "":
			return texts, v1alpha1.ReasonArtifactInvalid, c.Problem()
		}
	}
	return texts, "", ""
}

// freezeModule is freeze for a module: its artifacts are what is published. They are read elsewhere (artifactReconciler);
// here counts what was found.
func freezeModule(p *v1alpha1.Project, r *v1alpha1.Release) (freezeResult, error) {
	out := freezeResult{bundle: &v1alpha1.Bundle{}}
	eb := v1alpha1.EnvironmentBundle{Environment: publication}
	texts, reason, problem := coordinatesOf(p, r)
	if p.Spec.PackageRegistry == nil {
		reason, problem = v1alpha1.ReasonNoRegistry, "spec.packageRegistry of the Project is not set: it is not known where its artifacts are published"
	}
	whole := problem == ""
	for _, text := range texts {
		a := findArtifact(r.Status.Artifacts, text)
		whole = whole && a != nil && len(a.Files) > 0
		switch {
		case problem != "":
		case a == nil:
			reason, problem = v1alpha1.ReasonProgressing, text+" is being read in the package registry"
		case a.Problem != "":
			reason, problem = a.Reason, text+": "+a.Problem
		}
	}
	if whole {
		hash, err := hashArtifacts(p, r)
		if err != nil {
			return freezeResult{}, err
		}
		eb.Hash = hash
	}
	eb.Problem, out.reason, out.message = problem, reason, problem
	out.bundle.Environments = []v1alpha1.EnvironmentBundle{eb}
	return out, nil
}

// hashArtifacts is what an approval of a publication covers: every byte of every artifact, and whose release it is.
func hashArtifacts(p *v1alpha1.Project, r *v1alpha1.Release) (string, error) {
	files := map[string]map[string]string{}
	for _, a := range r.Status.Artifacts {
		files[a.Coordinates] = map[string]string{}
		for _, f := range a.Files {
			files[a.Coordinates][f.Name] = f.SHA256
		}
	}
	text, err := json.Marshal(map[string]any{"project": string(p.UID), "release": string(r.UID), "commit": r.Spec.Commit, "artifacts": files})
	if err != nil {
		return "", fmt.Errorf("encode artifacts: %w", err)
	}
	return envelope.Hash(text), nil
}

func findArtifact(artifacts []v1alpha1.ReleaseArtifact, coordinates string) *v1alpha1.ReleaseArtifact {
	for i := range artifacts {
		if artifacts[i].Coordinates == coordinates {
			return &artifacts[i]
		}
	}
	return nil
}

// changedArtifact is what is said of the first artifact that is another one than was judged.
func changedArtifact(r *v1alpha1.Release) string {
	for _, a := range r.Status.Artifacts {
		if a.Reason == v1alpha1.ReasonArtifactChanged {
			return a.Problem
		}
	}
	return ""
}

// decisions tell one set of people's decisions on a release from another: artifacts are looked at once more after each.
func decisions(r *v1alpha1.Release) string {
	var all []string
	for key, value := range r.Annotations {
		for _, prefix := range []string{v1alpha1.ApprovalPrefix, v1alpha1.RejectionPrefix, v1alpha1.BreakGlassPrefix} {
			if strings.HasPrefix(key, prefix) {
				all = append(all, fmt.Sprintf("%q=%q", key, value))
			}
		}
	}
	slices.Sort(all)
	return envelope.Hash([]byte(strings.Join(all, "\n")))
}

// lookedSince says that the artifacts were found to be those that were judged after the last decision of anybody.
func lookedSince(r *v1alpha1.Release) bool { return r.Status.ArtifactsChecked == decisions(r) }

// standing is the publication that stands: what was published stays so, whatever is reported later, until somebody rejects it
// or its artifacts are not there any more as they were judged.
func standing(s snapshot, bundle *v1alpha1.Bundle, approvals []v1alpha1.ApprovalRecord) *v1alpha1.Publication {
	old := s.release.Status.Publication
	b := findBundle(bundle, publication)
	if old == nil || !s.project.IsModule() || b == nil || b.Problem != "" || b.Hash != old.BundleHash || rejection(s.gates, approvals, publication) != nil {
		return nil
	}
	return old
}

// publish makes a release count as published whose gates have all passed. Every gate guards it, and there must be one.
func publish(s snapshot, st *v1alpha1.ReleaseStatus) {
	b := findBundle(st.Bundle, publication)
	if st.Publication != nil || !s.project.IsModule() || len(st.Gates) == 0 || b == nil || b.Hash == "" || b.Problem != "" || !lookedSince(s.release) {
		return
	}
	if slices.ContainsFunc(st.Gates, func(v v1alpha1.GateVerdict) bool { return v.Verdict != v1alpha1.VerdictPassed }) {
		return
	}
	st.Publication = &v1alpha1.Publication{BundleHash: b.Hash, At: metav1.NewMicroTime(s.now.Truncate(time.Microsecond))}
}

// moduleInput is what a gate is told of a module's release.
func moduleInput(s snapshot, st v1alpha1.ReleaseStatus, g v1alpha1.QualityGate, in *gate.Input) {
	in.Modules = s.modules
	if in.Module = s.project.IsModule(); !in.Module {
		return
	}
	in.Artifacts, _, _ = coordinatesOf(s.project, s.release)
	in.Changed = changedArtifact(s.release)
	for _, v := range st.Gates { // those that were judged before this one
		if v.Environment == publication && v.Name != g.Name && v.Verdict != v1alpha1.VerdictPassed {
			in.Unpassed = append(in.Unpassed, v.Name)
		}
	}
}

// summariseModule says in one line where a module's release stands once no gate is left to wait for.
func summariseModule(s snapshot, st v1alpha1.ReleaseStatus) releaseState {
	if st.Publication != nil {
		texts, _, _ := coordinatesOf(s.project, s.release)
		return releaseState{reason: v1alpha1.ReasonPublished, next: "published: " + strings.Join(texts, ", ")}
	}
	if s.frozenMessage != "" {
		return releaseState{reason: v1alpha1.ReasonWaiting, next: s.frozenMessage, stalled: true}
	}
	return releaseState{reason: v1alpha1.ReasonCrossing, next: "every gate passed; the artifacts are looked at once more", reconciling: true}
}
