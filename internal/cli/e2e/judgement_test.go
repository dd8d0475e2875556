// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

const (
	commitTwo   = "b2c3d4e5f60718293a4b5c6d7e8f900112233445"
	commitThree = "c3d4e5f60718293a4b5c6d7e8f90011223344556"
)

// get reads an object of the project.
func (k *kit) get(t *testing.T, name string, o client.Object) {
	t.Helper()
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: k.project, Name: name}, o); err != nil {
		t.Fatal(err)
	}
}

// change writes an object of the project until nobody else was faster.
func change[T client.Object](t *testing.T, k *kit, name string, o T, edit func(T)) {
	t.Helper()
	cptest.Wait(t, "the change of "+name, func(ctx context.Context) error {
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, o); err != nil {
			return err
		}
		edit(o)
		return k.client.Update(ctx, o)
	})
}

// wait polls a release.
func (k *kit) wait(t *testing.T, what, name string, done func(*v1alpha1.Release) bool) {
	t.Helper()
	cptest.Wait(t, what, func(ctx context.Context) error {
		var r v1alpha1.Release
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &r); err != nil {
			return err
		}
		if !done(&r) {
			return fmt.Errorf("next %q, gates %+v", r.Status.Next, r.Status.Gates)
		}
		return nil
	})
}

// report stores what a pipeline reports, as the HTTP API would.
func (k *kit) report(t *testing.T, commit string, spec v1alpha1.CIResultSpec) {
	t.Helper()
	spec.Commit, spec.Received, spec.ReportHash = commit, metav1.Now(), "sha256:"+strings.Repeat("0", 64)
	k.create(t, &v1alpha1.CIResult{
		ObjectMeta: metav1.ObjectMeta{GenerateName: spec.Type + "-", Namespace: k.project, Labels: map[string]string{v1alpha1.LabelCommit: v1alpha1.ShortSHA(commit)}},
		Spec:       spec,
	})
}

func (k *kit) failed(t *testing.T, commit, environment string) {
	t.Helper()
	k.report(t, commit, v1alpha1.CIResultSpec{Type: v1alpha1.TypeDeployment, Status: v1alpha1.StatusFailed, Environment: environment})
}

// with adds the project to a command line.
func (k *kit) with(args ...string) []string { return append(args, "-n", k.project) }

// A release failed: its environment is on hold until somebody resumes exactly that.
func TestResume(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	k.as(t, cto, nil, k.with("resume", "dev")...).expect(t, 0, "dev is not on hold")
	k.as(t, cto, nil, k.with("resume", "moon")...).expect(t, 1, `there is no environment "moon"`, "There is: dev, production, recette")
	k.as(t, cto, nil, k.with("resume", "dev", "--revoke")...).expect(t, 0, "nothing to take back")
	k.as(t, cto, nil, k.with("when")...).expect(t, 1, "no release yet")

	one := k.release(t, repository, commit)
	k.as(t, qa, nil, k.with("when", one, "--exit-code")...).expect(t, 0, "production as soon as gate qa has what it waits for", "as soon as somebody acts")
	two := k.push(t, repository, commitTwo)
	k.wait(t, "the second release to be let into dev", two, func(r *v1alpha1.Release) bool { return len(r.Status.Environments) > 0 })
	k.failed(t, commitTwo, "dev")
	cptest.Wait(t, "the hold", func(ctx context.Context) error {
		var e v1alpha1.Environment
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: "dev"}, &e); err != nil {
			return err
		}
		if e.Status.Hold == nil {
			return errors.New("none yet")
		}
		return nil
	})
	k.wait(t, "the way back", two, func(r *v1alpha1.Release) bool { return r.Status.Returned != nil })

	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "ON HOLD", two, "the pipeline reports: failed", "kubectl sirrat resume dev", "FALLEN", "back in development · from gate ci · by server")
	k.as(t, qa, nil, k.with("why", two)...).expect(t, 0, "ON HOLD", "kubectl sirrat resume dev", "back in development")
	o := k.as(t, qa, nil, k.with("why", two, "-o", "json")...)
	var why struct {
		Earliest string
		Returned *v1alpha1.Returned
		Holds    []struct{ Environment, ID, Release string }
	}
	if err := json.Unmarshal([]byte(o.out), &why); err != nil || len(why.Holds) != 1 || why.Holds[0].Environment != "dev" || why.Holds[0].ID == "" ||
		why.Returned == nil || !strings.HasPrefix(why.Earliest, "never") {
		t.Errorf("%v: %s", err, o.out)
	}
	k.as(t, qa, nil, k.with("when", two, "--exit-code")...).expect(t, 3, "never, unless gate ci changes its mind")
	k.as(t, qa, nil, k.with("when", two, "--exit-code", "-o", "json")...).expect(t, 3, `"never": true`)
	k.as(t, qa, nil, k.with("when", two, "--lang", "fr")...).expect(t, 0, "never, unless gate ci changes its mind", "refusé")

	three := k.push(t, repository, commitThree)
	k.wait(t, "the third release to be held", three, func(r *v1alpha1.Release) bool { return strings.Contains(r.Status.Next, "somebody resumes") })
	k.as(t, qa, nil, k.with("resume", "dev", "--yes")...).expect(t, 1, "cannot patch")
	k.as(t, cto, nil, k.with("resume", "dev")...).expect(t, 1, "the pipeline reports: failed", "no terminal")
	k.as(t, cto, []string{"n"}, k.with("resume", "dev")...).expect(t, 1, "not confirmed")
	k.as(t, cto, []string{"o"}, k.with("resume", "dev", "--lang", "fr")...).expect(t, 0, "Laisser à nouveau", "dev reprend")
	k.as(t, cto, nil, k.with("resume", "dev", "--yes")...).expect(t, 0, "not on hold")
	k.wait(t, "the third release to pass", three, func(r *v1alpha1.Release) bool { return len(r.Status.Environments) > 0 })
	k.as(t, cto, nil, "-n", k.project, "__complete", "resume", "").expect(t, 0, "dev\nproduction\nrecette\n")
}

// A resumption can be taken back while nothing else was let in.
func TestResumeRevoked(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	name := k.push(t, repository, commit)
	k.wait(t, "the release to be let into dev", name, func(r *v1alpha1.Release) bool { return len(r.Status.Environments) > 0 })
	k.failed(t, commit, "dev")
	cptest.Wait(t, "the hold", func(context.Context) error {
		if o := k.as(t, cto, nil, k.with("resume", "dev", "--yes", "-o", "json")...); o.code != 0 || !strings.Contains(o.out, v1alpha1.AnnotationResume) {
			return errors.New(o.out + o.err)
		}
		return nil
	})
	k.as(t, cto, nil, k.with("resume", "dev", "--revoke")...).expect(t, 0, "no longer resumed", "on hold again")
	k.as(t, cto, nil, k.with("resume", "dev", "--yes")...).expect(t, 0, "dev is resumed")
}

// The glass is broken by one, the debt settled by another.
func TestBreakGlass(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	change(t, k, k.project, &v1alpha1.Project{}, func(p *v1alpha1.Project) { p.Spec.Members.CTO = append(p.Spec.Members.CTO, "cto2@dynors.com") })
	one := k.release(t, repository, commit)
	reason := []string{"--reason", "customers cannot pay"}
	glass := func(more ...string) []string { return k.with(append([]string{"breakglass", one, "qa"}, more...)...) }

	k.as(t, cto, nil, k.with("regularise", one, "qa", "--reason", "x")...).expect(t, 0, "no debt at gate qa")
	k.as(t, cto, nil, glass("--revoke")...).expect(t, 0, "nothing to withdraw")
	k.as(t, cto, nil, glass(reason...)...).expect(t, 1, "WHAT IS PASSED OVER", "approval", "spec.karma.breakGlass", "no terminal")
	k.as(t, cto, []string{"yes"}, glass(reason...)...).expect(t, 1, `"yes" is not the name of the gate`)
	k.as(t, qa, nil, glass(append(reason, "--yes")...)...).expect(t, 1, "refused: ", "may not")
	k.as(t, admin, nil, glass(reason...)...).expect(t, 1, "karma −20: from 0 to 0")
	k.as(t, cto, nil, k.with("breakglass", one, "ci", "--reason", "x", "--yes")...).expect(t, 0, "is open already")
	k.as(t, cto, []string{"qa"}, glass(reason...)...).expect(t, 0, "Type the name of the gate (qa)", "Recorded: "+cto, "Gate qa is open: recette")
	k.as(t, cto, nil, glass(append(reason, "--yes")...)...).expect(t, 0, "already opened in an emergency")

	two := k.push(t, repository, commitTwo)
	k.deployed(t, commitTwo, "dev")
	k.wait(t, "the debt to block", two, func(r *v1alpha1.Release) bool {
		return slices.ContainsFunc(r.Status.Gates, func(g v1alpha1.GateVerdict) bool {
			return g.Name == "qa" && strings.Contains(g.Message, "opened in an emergency")
		})
	})
	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "DEBTS", "customers cannot pay", "kubectl sirrat regularise "+one)
	k.as(t, qa, nil, k.with("why", two, "-o", "yaml")...).expect(t, 0, "debts:", "environment: recette")
	k.as(t, qa, nil, k.with("approve", two, "qa")...).expect(t, 1, "DEBTS", "(debt)")

	k.as(t, cto, nil, k.with("regularise", one, "qa", "--reason", "tests caught up")...).expect(t, 1, "you opened gate qa in an emergency yourself")
	k.as(t, dev, nil, k.with("regularise", one, "qa", "--reason", "tests caught up")...).expect(t, 1, "refused: ")
	k.as(t, qa, nil, k.with("regularise", one, "qa", "--reason", "tests caught up")...).expect(t, 0, "is settled")
	k.as(t, qa, nil, k.with("regularise", one, "qa", "--reason", "again", "--lang", "fr")...).expect(t, 0, "déjà réglée par "+qa)
	k.wait(t, "the debt to be gone", two, func(r *v1alpha1.Release) bool { return !strings.Contains(r.Status.Next, "regularise") })
	if o := k.as(t, qa, nil, k.with("status")...); strings.Contains(o.out, "DEBTS") {
		t.Errorf("still in debt:\n%s", o.out)
	}
	k.as(t, qa, nil, k.with("status", one)...).expect(t, 0, "opened in an emergency by "+cto, "regularised by "+qa)

	// Withdrawn, it stays on record; given again, it counts again.
	k.as(t, cto, nil, k.with("breakglass", two, "qa", "--reason", "again", "--yes")...).expect(t, 0, "Gate qa is open")
	k.as(t, cto, nil, k.with("breakglass", two, "qa", "--revoke")...).expect(t, 0, "Karma and debt stay")
	k.as(t, cto, nil, k.with("breakglass", two, "qa", "--reason", "again", "--yes")...).expect(t, 0, "Gate qa is open")
	k.as(t, "cto2@dynors.com", nil, k.with("breakglass", two, "qa", "--reason", "me too", "--yes")...).expect(t, 1, "was already opened in an emergency by "+cto)
}

// What would change is shown before it is approved: the compose file line by line, of values only that they differ.
func TestApproveShowsTheDifference(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	k.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "compose", Namespace: k.project}, Data: map[string]string{
		"recette": "services:\n  web:\n    image: ${BACKEND_IMAGE}\n    read_only: true\n"}})
	change(t, k, "recette", &v1alpha1.Environment{}, func(e *v1alpha1.Environment) {
		e.Spec.Compose = v1alpha1.ComposeSource{ConfigMapKeyRef: &v1alpha1.ConfigMapKey{Name: "compose", Key: "recette"}}
		e.Spec.Values = map[string]string{"BACKEND_IMAGE": repository, "PASSWORD": "tr0ub4dor"}
	})
	one := k.release(t, repository, commit)
	k.wait(t, "the bundle", one, func(r *v1alpha1.Release) bool {
		return r.Status.Bundle != nil && slices.ContainsFunc(r.Status.Bundle.Environments, func(e v1alpha1.EnvironmentBundle) bool { return e.Environment == "recette" && e.Hash != "" })
	})
	k.as(t, qa, nil, k.with("approve", one, "qa", "--yes")...).expect(t, 0, "is open")
	k.deployed(t, commit, "recette")
	k.wait(t, "it to be healthy", one, func(r *v1alpha1.Release) bool { return r.Status.Reached == "recette" })

	two := k.push(t, repository, commitTwo, func(r *v1alpha1.Release) {
		r.Spec.Compose = map[string]v1alpha1.ComposeText{"recette": "services:\n  web:\n    image: ${BACKEND_IMAGE}\n    command: \"\\e[2J\"\n"}
	})
	k.deployed(t, commitTwo, "dev")
	k.await(t, two, "qa", v1alpha1.VerdictWaiting)
	o := k.as(t, qa, []string{"n"}, k.with("approve", two, "qa")...)
	t.Log("\n" + o.out)
	o.expect(t, 1, "COMPOSE FILE", "-    read_only: true", "+    command:", "compose file  changed", "values and secrets  as now", "KARMA against v1.3.0 · "+one, "earliest", "not confirmed")
	if strings.Contains(o.out+o.err, "tr0ub4dor") {
		t.Error("a value is shown")
	}
	change(t, k, "compose", &corev1.ConfigMap{}, func(cm *corev1.ConfigMap) { cm.Data["recette"] += "    init: true\n" })
	cptest.Wait(t, "the edit to show", func(context.Context) error {
		if o := k.as(t, qa, []string{"n"}, k.with("approve", two, "qa")...); !strings.Contains(o.out, "was edited since") || strings.Contains(o.out, "COMPOSE FILE") {
			return errors.New(o.out)
		}
		return nil
	})
}

// A PV from its opening to the last reservation, with its PDF.
func TestPVPDFAndLift(t *testing.T) {
	k := newKit(t)
	k.kubeconfig(t, qa)
	key := filepath.Join(k.dir, "client")
	made := k.as(t, admin, nil, "pv", "keygen", "--out", key)
	repository := images(t)
	k.bridge(t, made.out, repository)
	name := k.release(t, repository, commit)
	k.as(t, qa, nil, k.with("approve", name, "qa", "--yes")...).expect(t, 0)
	k.deployed(t, commit, "recette")
	cptest.Wait(t, "the PV", func(ctx context.Context) error {
		return k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &v1alpha1.PV{})
	})
	file := filepath.Join(k.dir, "pv.pdf")
	pdf := k.with("pv", "pdf", name, "--out", file)
	k.as(t, qa, nil, pdf...).expect(t, 0, "sha256:", "as PV "+name+" states")
	k.as(t, qa, nil, pdf...).expect(t, 1, file+" exists", "--force")
	k.as(t, qa, nil, k.with("pv", "send-link", name)...).expect(t, 0, "Claire Client")
	k.as(t, admin, nil, k.with("pv", "send-link", name)...).expect(t, 1, "no signatory of project")
	change(t, k, k.project, &v1alpha1.Project{}, func(p *v1alpha1.Project) { p.Spec.Client.Signatories[0].Email = "claire@client.example" })
	o := k.as(t, admin, nil, k.with("pv", "send-link", name)...)
	o.expect(t, 0, "Claire Client <c…@client.example>")
	var p v1alpha1.PV
	k.get(t, name, &p)
	if p.Annotations[v1alpha1.AnnotationSendLink] == "" || strings.Contains(o.out+o.err, "claire@") {
		t.Errorf("annotations %v; %s", p.Annotations, o.err)
	}
	k.as(t, admin, nil, k.with("pv", "lift", name, "1", "--reason", "x")...).expect(t, 1, "has no reservation 1: it has 0")
	k.as(t, qa, nil, k.with("pv", "sign", name, "--key", key+".key", "--yes", "--decision", "accept-with-reservations",
		"--reservation", "logo is blurred;DYNORS;2026-01-31", "--reservation", "slow export;DYNORS;2099-12-31")...).expect(t, 0, "verified with key")

	k.as(t, qa, nil, append(pdf, "--force", "-o", "json")...).expect(t, 0, `"stated": "sha256:`)
	k.as(t, qa, nil, k.with("pv", "send-link", name)...).expect(t, 1, "already decided")
	k.as(t, qa, nil, k.with("pv", "show", name, "--lang", "en")...).expect(t, 0, "the client's own key", "PDF, decided", "GATES", "approved by "+qa)
	k.as(t, qa, nil, k.with("status")...).expect(t, 0, "RESERVATIONS OVERDUE", "logo is blurred", "kubectl sirrat pv lift "+name+" 1")
	lift := k.with("pv", "lift", name, "1", "--reason", "new logo delivered")
	k.as(t, dev, nil, lift...).expect(t, 1, "cannot patch")
	k.as(t, admin, nil, k.with("pv", "lift", name, "3", "--reason", "x")...).expect(t, 1, "has no reservation 3: it has 2")
	k.as(t, admin, nil, lift...).expect(t, 0, "is settled: "+admin+": new logo delivered")
	k.as(t, admin, nil, lift...).expect(t, 0, "already settled")
	k.as(t, qa, nil, k.with("pv", "show", name, "--lang", "en")...).expect(t, 0, "settled: "+admin)
	if o := k.as(t, qa, nil, k.with("status")...); strings.Contains(o.out, "OVERDUE") {
		t.Errorf("still overdue:\n%s", o.out)
	}
	k.as(t, qa, nil, append(pdf, "--force")...).expect(t, 0, "as PV "+name+" states") // what is settled later is not printed
	if page, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(page), "%PDF-") {
		t.Errorf("%v", err)
	}
}
