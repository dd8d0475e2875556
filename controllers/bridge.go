// SPDX-License-Identifier: Apache-2.0

package controllers

import (
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

func environmentTags(env v1alpha1.Environment) []string {
	if len(env.Spec.Tags) == 0 {
		return []string{defaultTag}
	}
	return env.Spec.Tags
}

// renderTags renders an environment's tag templates for a release.
func renderTags(env v1alpha1.Environment, r *v1alpha1.Release) ([]string, error) {
	values := tagValues{
		SHA7: v1alpha1.ShortSHA(r.Spec.Commit), Commit: r.Spec.Commit, Version: r.Spec.Version, Branch: r.Spec.Branch, Environment: env.Name,
	}
	var tags []string
	for _, text := range environmentTags(env) {
		t, err := parseTag(text)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		if err := t.Execute(&b, values); err != nil {
			return nil, err
		}
		tags = append(tags, b.String())
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
