// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// orderBridge sorts environments so that each comes after the one it names; siblings by name. Environments whose chain
// does not begin at a first one (a cycle, or a missing predecessor) come last and are returned apart as well: nothing
// can cross them.
func orderBridge(envs []v1alpha1.Environment) (ordered []v1alpha1.Environment, broken []string) {
	next := map[string][]v1alpha1.Environment{}
	for _, e := range envs {
		next[e.Spec.After] = append(next[e.Spec.After], e)
	}
	level := next[""]
	for len(level) > 0 {
		slices.SortFunc(level, func(a, b v1alpha1.Environment) int { return strings.Compare(a.Name, b.Name) })
		ordered = append(ordered, level...)
		var following []v1alpha1.Environment
		for _, e := range level {
			following = append(following, next[e.Name]...)
		}
		level = following
	}
	for _, e := range envs {
		if !slices.ContainsFunc(ordered, func(o v1alpha1.Environment) bool { return o.Name == e.Name }) {
			broken = append(broken, e.Name)
		}
	}
	slices.Sort(broken)
	return ordered, broken
}

// tagValues are what tag templates see.
type tagValues struct{ SHA7, Commit, Version, Branch, Environment string }

// defaultTag is used where an Environment declares no tags.
const defaultTag = "{{ .Environment }}-{{ .SHA7 }}"

// environmentTags are the templates of an environment's tags. Where all of them would move on to the next release, the
// default is one more, so that no digest in use is without a tag: registries clean up what has none.
func environmentTags(env v1alpha1.Environment) []string {
	if !slices.ContainsFunc(env.Spec.Tags, namesRelease) {
		return append(slices.Clone(env.Spec.Tags), defaultTag)
	}
	return env.Spec.Tags
}

// namesRelease says that a tag template renders to another tag for each release.
func namesRelease(text string) bool {
	return slices.ContainsFunc([]string{".SHA7", ".Commit", ".Version"}, func(field string) bool { return strings.Contains(text, field) })
}

// semver is a tag that says which version an image is.
var semver = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)([-+].*)?$`)

// wantedTag is a tag that a release's images are to have. One that moves is taken from whatever has it; one that names a
// version never is. One of its own names this release alone, among releases of other commits.
type wantedTag struct {
	name       string
	moves, own bool
}

// environmentTaggings renders an environment's tag templates for a release.
func environmentTaggings(env v1alpha1.Environment, r *v1alpha1.Release) ([]wantedTag, error) {
	values := tagValues{
		SHA7: v1alpha1.ShortSHA(r.Spec.Commit), Commit: r.Spec.Commit, Version: r.Spec.Version, Branch: r.Spec.Branch, Environment: env.Name,
	}
	var tags []wantedTag
	for _, text := range environmentTags(env) {
		t, err := parseTag(text)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		if err := t.Execute(&b, values); err != nil {
			return nil, err
		}
		if b.Len() == 0 { // a version that is not known yet: the gate waits for it
			continue
		}
		tag := wantedTag{name: b.String(), moves: !strings.Contains(text, ".Version") && !semver.MatchString(b.String()), own: namesRelease(text)}
		if !slices.ContainsFunc(tags, func(o wantedTag) bool { return o.name == tag.name }) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// parseTag allows nothing in a tag template but text and fields: no functions, no loops.
func parseTag(text string) (*template.Template, error) {
	t, err := template.New("tag").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	for _, n := range t.Root.Nodes {
		if _, ok := n.(*parse.TextNode); ok {
			continue
		}
		if a, ok := n.(*parse.ActionNode); ok && len(a.Pipe.Cmds) == 1 && len(a.Pipe.Cmds[0].Args) == 1 && a.Pipe.Cmds[0].Args[0].Type() == parse.NodeField {
			continue
		}
		return nil, errTagTemplate
	}
	return t, nil
}

func tagsNeedVersion(env v1alpha1.Environment) bool {
	return slices.ContainsFunc(environmentTags(env), func(t string) bool { return strings.Contains(t, ".Version") })
}
