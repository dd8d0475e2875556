// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// Publication is what gates without an environment are called that guard it: the publication of a module's version.
const Publication = "publication"

// Place is what a gate guards, in words.
func Place(environment string) string {
	if environment == "" {
		return Publication
	}
	return environment
}

// Module is what this installation knows of one version of a module.
type Module struct {
	// Projects declare the module; none do if it is nobody's. Where several do, it is not known whose it is.
	Projects []string
	// Project and Release have this version; "" if no release has it.
	Project, Release string
	// Published says that the release went through all of its gates, and that its artifacts are still those that were judged.
	Published bool
	// Waits says what the release waits for, while it is not published.
	Waits string
	// Digests (sha256:…) are those of the files that were published.
	Digests []string
	// Disputed are releases that read other files under these coordinates than Release did; none if there is one truth.
	Disputed []string
}

// component is a Maven component as a list names it.
type component struct {
	maven.Coordinates
	digest string // "" if the list does not say
}

// components are those of the organisation among what was listed.
func components(c v1alpha1.ModulesCriterion, listed []string) []component {
	var out []component
	for _, text := range listed {
		name, digest, _ := strings.Cut(text, "@")
		parts := strings.SplitN(name, ":", 3)
		if len(parts) != 3 {
			continue // the schema lets none through
		}
		m := component{maven.Coordinates{Group: parts[0], Artifact: parts[1], Version: parts[2]}, digest}
		ours := slices.ContainsFunc(c.Groups, func(p string) bool { return maven.Matches(p, m.Group) })
		if ours && !slices.ContainsFunc(c.Except, func(p string) bool { return p == m.Module() || maven.Matches(p, m.Group) }) {
			out = append(out, m)
		}
	}
	return out
}

// Wanted are the coordinates (group:artifact:version) about which a gate must be told whether they are released.
func Wanted(spec v1alpha1.QualityGateSpec, listed *v1alpha1.MavenComponents) []string {
	var out []string
	for _, c := range spec.Criteria {
		if c.Modules == nil || listed == nil {
			continue
		}
		for _, m := range components(*c.Modules, listed.Components) {
			out = append(out, m.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// maxNamed is how many modules a message names; the rest are counted.
const maxNamed = 20

// judgeModules asks of every module of the organisation that is built in whether it is a released version. Nothing listed is
// no proof: the list must name Maven components, and be whole.
func judgeModules(in Input, c v1alpha1.ModulesCriterion) outcome {
	const send = "CI sends the bill of materials of its build (CycloneDX) or its gradle.lockfile"
	listed := in.Evidence.Maven()
	switch {
	case listed == nil:
		return waiting("NoSBOM", send, "no bill of materials and no lock file: it is not known which modules are built in")
	case listed.Incomplete:
		return refused("SBOMTooLong", "a bill of materials or lock file that lists fewer Maven components", "more Maven components are listed than can be kept: it is not known which modules are built in")
	case len(listed.Components) == 0:
		return waiting("NoMavenComponents", send, "what was sent lists no Maven component: it is not known which modules are built in")
	}
	ours := components(c, listed.Components)
	var bad, pending []string
	for _, m := range ours {
		problem, final := judgeModule(m, in.Modules[m.String()])
		switch {
		case problem == "":
		case final:
			bad = append(bad, problem)
		default:
			pending = append(pending, problem)
		}
	}
	switch {
	case len(bad) > 0:
		return refused("ModuleNotReleasable", "a new commit that is built with released versions", "%s", named(append(bad, pending...)))
	case len(pending) > 0:
		return waiting("ModuleNotReleased", "those modules are released, or a new commit is built with released versions", "%s", named(pending))
	case len(ours) == 0:
		return passed("NoModules", "no module of %s is built in", strings.Join(c.Groups, ", "))
	}
	return passed("ModulesReleased", "every module of %s is a released version: %s", strings.Join(c.Groups, ", "), named(texts(ours)))
}

// judgeModule is what is wrong with one module; "" if nothing is. What is final no release of the module can mend.
func judgeModule(m component, known Module) (problem string, final bool) {
	switch {
	case m.Version == maven.Unread:
		return m.Module() + " is listed without a version that can be read", true
	case maven.IsSnapshot(m.Version):
		return m.String() + " is a snapshot", true
	case len(known.Projects) == 0:
		return fmt.Sprintf("%s is a module of no project (spec.maven)", m), false
	case len(known.Projects) > 1:
		return fmt.Sprintf("%s is a module of %s: it is not known whose version counts until spec.maven of all but one of these projects leaves %s out",
			m, strings.Join(known.Projects, " and "), m.Module()), false
	case known.Release == "":
		return fmt.Sprintf("%s is no release of %s", m, known.Projects[0]), false
	case len(known.Disputed) > 0:
		return fmt.Sprintf("%s was read with other files for release %s of %s than for %s: release a new version, or delete the release that is wrong",
			m, strings.Join(known.Disputed, ", "), known.Project, known.Release), false
	case !known.Published:
		return fmt.Sprintf("%s is not published: release %s of %s waits for %s", m, known.Release, known.Project, known.Waits), false
	case m.digest != "" && !slices.Contains(known.Digests, m.digest):
		return fmt.Sprintf("%s is built in as %s, which is not what release %s of %s published", m, m.digest, known.Release, known.Project), true
	}
	return "", false
}

func texts(modules []component) []string {
	var out []string
	for _, m := range modules {
		out = append(out, m.String())
	}
	return slices.Compact(out)
}

// named is a list in one line of bounded length.
func named(lines []string) string {
	more := ""
	if n := len(lines); n > maxNamed {
		lines, more = lines[:maxNamed], fmt.Sprintf("; and %d more", n-maxNamed)
	}
	short := make([]string, 0, len(lines))
	for _, l := range lines {
		short = append(short, brief(l))
	}
	return strings.Join(short, "; ") + more
}

// judgeArtifacts asks that a module's artifacts are in the package registry, whole, under versions that can be released.
func judgeArtifacts(in Input) outcome {
	if in.Changed != "" {
		return refused("ArtifactChanged", "the artifact that was judged is put back, or a new version is released", "%s", in.Changed)
	}
	for _, text := range in.Artifacts {
		c, err := maven.Parse(text)
		if err != nil {
			return refused("ArtifactInvalid", "a release with coordinates that Maven takes", "%s", err)
		}
		if problem := c.Problem(); problem != "" {
			return refused("VersionInvalid", "a release with another version", "%s", problem)
		}
	}
	if !in.Frozen {
		return waiting("NotPublished", in.FrozenNeeds, "%s", in.FrozenMessage)
	}
	return passed("Verified", "in the package registry, POM and checksums verified: %s", named(in.Artifacts))
}

// judgePublication is of a gate that guards a publication: there is one of modules only.
func judgePublication(in Input) outcome {
	if !in.Module {
		return waiting("NoEnvironment", "somebody gives gate "+in.Name+" an environment (spec.environment)",
			"the gate guards no environment, and the project is not a module: nothing of it is published")
	}
	return passed("Exists", "")
}

// judgeEarlier: gates of a module stand one behind the other, as environments do.
func judgeEarlier(in Input) outcome {
	if len(in.Unpassed) > 0 {
		return waiting("NotThrough", "gate "+in.Unpassed[0]+" opens", "gate %s has not opened", in.Unpassed[0])
	}
	return passed("Through", "")
}
