// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gitlab"
)

// gitlabHistory is how old a release may be of which GitLab was never told: who turns it on does not have years of history sent.
const gitlabHistory = 30 * 24 * time.Hour

// saying is one thing that GitLab is to be told: a status, or a deployment.
type saying struct {
	status     *gitlab.Status
	gate, hash string

	deployment *gitlab.Deployment
	entry      v1alpha1.ReleaseEnvironment
	// id is that of the deployment to change; 0 to record one. after is the last one before it.
	id, after int64
}

// gitlabAddress is whom the project has told; "" for nobody.
func gitlabAddress(p *v1alpha1.Project) string {
	g := p.Spec.GitLab
	if g == nil || !g.CommitStatus && !g.Deployments || g.Project == "" || g.TokenSecretRef == nil {
		return ""
	}
	return strings.TrimRight(g.URL, "/") + " " + g.Project
}

// toldGitLab is what the project's GitLab was told of the release; empty when it was told nothing, or another one was.
func toldGitLab(p *v1alpha1.Project, r *v1alpha1.Release) v1alpha1.GitLabTold {
	if told := r.Status.GitLab; told != nil && told.To == gitlabAddress(p) {
		return *told.DeepCopy()
	}
	return v1alpha1.GitLabTold{To: gitlabAddress(p)}
}

// sayToGitLab decides what GitLab is still to be told. It is pure: once that is recorded as told, there is nothing more to say.
func sayToGitLab(p *v1alpha1.Project, r *v1alpha1.Release, now time.Time) (out []saying) {
	told := toldGitLab(p, r)
	untold := len(told.Statuses) == 0 && len(told.Deployments) == 0
	if gitlabAddress(p) == "" || untold && now.Sub(r.CreationTimestamp.Time) > gitlabHistory {
		return nil
	}
	if p.Spec.GitLab.CommitStatus {
		out = append(out, sayStatuses(r, told)...)
	}
	if p.Spec.GitLab.Deployments {
		out = append(out, sayDeployments(r, told)...)
	}
	return out
}

func sayStatuses(r *v1alpha1.Release, told v1alpha1.GitLabTold) (out []saying) {
	say := func(gate, state, why string) saying {
		s := gitlab.Status{Commit: r.Spec.Commit, State: state, Ref: r.Spec.Branch, Name: "sirrat/" + gate, Description: shorten(why)}
		return saying{status: &s, gate: gate, hash: hashOfStatus(s)}
	}
	for _, t := range told.Statuses { // one that stays pending would keep GitLab's pipeline running
		judged := slices.ContainsFunc(r.Status.Gates, func(v v1alpha1.GateVerdict) bool { return v.Name == t.Gate })
		if t.State == gitlab.Pending && !judged {
			out = append(out, say(t.Gate, gitlab.Canceled, "the gate is no more"))
		}
	}
	for _, v := range r.Status.Gates {
		state, why := gateState(r, v)
		s := say(v.Name, state, why)
		i := slices.IndexFunc(told.Statuses, func(t v1alpha1.GitLabStatus) bool { return t.Gate == v.Name })
		switch {
		case i < 0 && state == gitlab.Canceled: // never begun
		case i < 0 || told.Statuses[i].Hash != s.hash:
			out = append(out, s)
		}
	}
	return out
}

// gateState is a gate's verdict in GitLab's terms. A gate that the release will not come to is canceled: one that stays pending would
// keep GitLab's pipeline running.
func gateState(r *v1alpha1.Release, v v1alpha1.GateVerdict) (state, why string) {
	switch v.Verdict {
	case v1alpha1.VerdictPassed:
		return gitlab.Success, v.Message
	case v1alpha1.VerdictRefused:
		return gitlab.Failed, v.Message
	}
	for _, before := range r.Status.Gates {
		if before.Number < v.Number && before.Verdict == v1alpha1.VerdictRefused {
			return gitlab.Canceled, "gate " + before.Name + " refused it before"
		}
	}
	if replaced(r) {
		return gitlab.Canceled, "another release took its place"
	}
	return gitlab.Pending, cmp.Or(strings.Join(v.WaitingFor, "; "), v.Message)
}

// replaced says that the release was somewhere and is nowhere any more.
func replaced(r *v1alpha1.Release) bool {
	for _, e := range r.Status.Environments {
		if e.Phase != v1alpha1.PhaseSuperseded {
			return false
		}
	}
	return len(r.Status.Environments) > 0
}

// shorten cuts text to what GitLab takes, in characters.
func shorten(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "")
	if runes := []rune(text); len(runes) > gitlab.MaxDescription {
		return string(runes[:gitlab.MaxDescription-3]) + "..."
	}
	return text
}

// hashOfStatus tells statuses apart.
func hashOfStatus(s gitlab.Status) string {
	text, err := json.Marshal(s)
	if err != nil { // a struct of strings
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func sayDeployments(r *v1alpha1.Release, told v1alpha1.GitLabTold) (out []saying) {
	for _, t := range told.Deployments {
		e := findEntry(r.Status.Environments, t.Environment)
		if t.State == gitlab.Running && (e == nil || !e.AuthorizedAt.Equal(&t.AuthorizedAt)) { // withdrawn, or let in again since
			gone := v1alpha1.ReleaseEnvironment{Name: t.Environment, AuthorizedAt: t.AuthorizedAt}
			out = append(out, saying{deployment: deploymentOf(r, t.Environment, gitlab.Canceled), entry: gone, id: t.ID})
		}
	}
	for _, e := range r.Status.Environments {
		s := saying{entry: e}
		before := ""
		if i := slices.IndexFunc(told.Deployments, func(t v1alpha1.GitLabDeployment) bool { return t.Environment == e.Name }); i >= 0 {
			if t := told.Deployments[i]; t.AuthorizedAt.Equal(&e.AuthorizedAt) {
				s.id, before = t.ID, t.State
			} else {
				s.after = t.ID
			}
		}
		if state := deploymentState(e.Phase, before); state != "" && state != before {
			s.deployment = deploymentOf(r, e.Name, state)
			out = append(out, s)
		}
	}
	return out
}

// deploymentState is a phase in GitLab's terms, where before is what it was told of this deployment; "" for nothing to say. What
// became healthy was a success, whatever came later.
func deploymentState(phase, before string) string {
	switch phase {
	case v1alpha1.PhaseDeploying:
		if before == "" {
			return gitlab.Running
		}
	case v1alpha1.PhaseHealthy:
		return gitlab.Success
	case v1alpha1.PhaseFailed, v1alpha1.PhaseRolledBack:
		return gitlab.Failed
	case v1alpha1.PhaseSuperseded, v1alpha1.PhaseReturned:
		if before == gitlab.Running {
			return gitlab.Canceled
		}
	}
	return ""
}

// deploymentOf names the branch, else the version's tag, else the commit as what was deployed.
func deploymentOf(r *v1alpha1.Release, environment, state string) *gitlab.Deployment {
	d := &gitlab.Deployment{Environment: environment, Commit: r.Spec.Commit, State: state}
	d.Ref = cmp.Or(r.Spec.Branch, r.Spec.Version, r.Spec.Commit)
	d.Tag = r.Spec.Version != "" && d.Ref == r.Spec.Version
	return d
}

// said records that GitLab was told.
func (s saying) said(told *v1alpha1.GitLabTold, id int64) {
	if s.status != nil {
		t := v1alpha1.GitLabStatus{Gate: s.gate, State: s.status.State, Hash: s.hash}
		if i := slices.IndexFunc(told.Statuses, func(o v1alpha1.GitLabStatus) bool { return o.Gate == s.gate }); i >= 0 {
			told.Statuses[i] = t
		} else {
			told.Statuses = append(told.Statuses, t)
		}
		return
	}
	t := v1alpha1.GitLabDeployment{Environment: s.entry.Name, AuthorizedAt: s.entry.AuthorizedAt, ID: id, State: s.deployment.State}
	if i := slices.IndexFunc(told.Deployments, func(o v1alpha1.GitLabDeployment) bool { return o.Environment == s.entry.Name }); i >= 0 {
		told.Deployments[i] = t
	} else {
		told.Deployments = append(told.Deployments, t)
	}
}
