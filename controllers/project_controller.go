// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/karma"
)

// memberRoles are the roles of Project.spec.members, bound to ClusterRoles sirrat-<role>.
var memberRoles = []struct {
	role    string
	members func(v1alpha1.Members) []string
}{
	{"developer", func(m v1alpha1.Members) []string { return m.Developer }},
	{"qa", func(m v1alpha1.Members) []string { return m.QA }},
	{"cto", func(m v1alpha1.Members) []string { return m.CTO }},
	{"viewer", func(m v1alpha1.Members) []string { return m.Viewer }},
}

// projectReconciler gives each Project its namespace, its members' rights and its template, and sums up its karma.
type projectReconciler struct {
	client.Client
	events  events.EventRecorder
	journal journalWriter
}

// archiveFinalizer keeps a Project until its proof is archived.
const archiveFinalizer = v1alpha1.Group + "/archive"

// archiveRetry is the time after which a Project that waits for its archive is looked at again.
const archiveRetry = time.Second

// Reconcile makes what belongs to the project and sums up.
func (r *projectReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.Project
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !p.DeletionTimestamp.IsZero() {
		return r.letGo(ctx, &p) // then all that belongs to it is garbage-collected; containers keep running
	}
	if controllerutil.AddFinalizer(&p, archiveFinalizer) {
		if err := r.Update(ctx, &p); err != nil {
			return ctrl.Result{}, fmt.Errorf("add finalizer: %w", err)
		}
	}
	base := p.DeepCopy()
	if err := r.refresh(ctx, &p); err != nil {
		return ctrl.Result{}, err
	}
	if sameStatus(base.Status, p.Status) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, writeStatus(ctx, r.Client, &p, base, base.Status.ObservedGeneration == 0)
}

func (r *projectReconciler) letGo(ctx context.Context, p *v1alpha1.Project) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(p, archiveFinalizer) {
		return ctrl.Result{}, nil
	}
	done, err := r.keepArchived(ctx, p)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !done {
		r.events.Eventf(p, nil, corev1.EventTypeNormal, "AwaitingArchive", "Archive", "the project goes once its results and PVs are in the archive")
		return ctrl.Result{RequeueAfter: archiveRetry}, nil
	}
	controllerutil.RemoveFinalizer(p, archiveFinalizer)
	if err := r.Update(ctx, p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	return ctrl.Result{}, nil
}

func (r *projectReconciler) refresh(ctx context.Context, p *v1alpha1.Project) error {
	p.Status.ObservedGeneration = p.Generation
	taken, err := ensureNamespace(ctx, r.Client, p, p.Name, v1alpha1.LabelProject)
	if err != nil {
		return err
	}
	if taken != "" {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonNamespaceTaken, taken)
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionStalled, true, v1alpha1.ReasonNamespaceTaken, taken)
		return nil
	}
	if err := r.bindMembers(ctx, p); err != nil {
		return err
	}
	if p.Spec.Template == v1alpha1.TemplateDynors {
		if err := r.applyTemplate(ctx, p); err != nil {
			return err
		}
	}
	if err := r.sumUp(ctx, p); err != nil {
		return err
	}
	if err := r.checkHooks(ctx, p); err != nil {
		return err
	}
	problem, err := r.problem(ctx, p)
	if err != nil {
		return err
	}
	if problem != "" {
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, problem)
		setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionStalled, true, v1alpha1.ReasonInvalid, problem)
		return nil
	}
	setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionReady, true, v1alpha1.ReasonReady, "namespace, roles and template are in place")
	setCondition(&p.Status.Conditions, p.Generation, v1alpha1.ConditionStalled, false, v1alpha1.ReasonReady, "")
	return nil
}

// problem is what is wrong with the declaration and the schema cannot check.
func (r *projectReconciler) problem(ctx context.Context, p *v1alpha1.Project) (string, error) {
	for i, text := range p.Spec.Client.PublicKeys {
		if _, err := envelope.ParsePublicKey(text); err != nil {
			return fmt.Sprintf("spec.client.publicKeys[%d]: %s", i, err), nil
		}
	}
	if p.Spec.Harbor == nil || len(p.Spec.Harbor.Replication) == 0 {
		return "", nil
	}
	var envs v1alpha1.EnvironmentList
	if err := r.List(ctx, &envs, client.InNamespace(p.Name)); err != nil {
		return "", fmt.Errorf("list environments: %w", err)
	}
	return unknownReplication(p.Spec.Harbor.Replication, envs.Items), nil
}

// unknownReplication names the first replication into an environment that is not there: nothing would wait for it.
func unknownReplication(declared []v1alpha1.HarborReplication, envs []v1alpha1.Environment) string {
	for i, replication := range declared {
		if !slices.ContainsFunc(envs, func(e v1alpha1.Environment) bool { return e.Name == replication.Environment }) {
			return fmt.Sprintf("spec.harbor.replication[%d].environment: the project has no Environment %s", i, replication.Environment)
		}
	}
	return ""
}

func (r *projectReconciler) bindMembers(ctx context.Context, p *v1alpha1.Project) error {
	for _, m := range memberRoles {
		role := "sirrat-" + m.role
		b := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: role, Namespace: p.Name}}
		var subjects []rbacv1.Subject
		for _, name := range m.members(p.Spec.Members) {
			subject := rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
			if group, ok := strings.CutPrefix(name, "group:"); ok {
				subject.Kind, subject.Name = rbacv1.GroupKind, group
			}
			subjects = append(subjects, subject)
		}
		if err := ensureBinding(ctx, r.Client, p, b, role, subjects); err != nil {
			return err
		}
	}
	return nil
}

// applyTemplate creates what is missing. What exists is the users' and left as it is.
func (r *projectReconciler) applyTemplate(ctx context.Context, p *v1alpha1.Project) error {
	template := templateDynors
	if p.IsModule() {
		template = templateModule
	}
	for _, o := range template(p) {
		existing := o.DeepCopyObject().(client.Object)
		if err := r.Get(ctx, client.ObjectKeyFromObject(o), existing); err == nil {
			continue
		} else if !apierrors.IsNotFound(err) {
			return fmt.Errorf("read %s: %w", o.GetName(), err)
		}
		if err := ignoreExists(r.Create(ctx, o)); err != nil {
			return fmt.Errorf("create %s from template: %w", o.GetName(), err)
		}
	}
	return nil
}

func (r *projectReconciler) sumUp(ctx context.Context, p *v1alpha1.Project) error {
	var envs v1alpha1.EnvironmentList
	if err := r.List(ctx, &envs, client.InNamespace(p.Name)); err != nil {
		return fmt.Errorf("list environments: %w", err)
	}
	bridge, _ := orderBridge(envs.Items)
	p.Status.Current = nil
	for _, e := range bridge {
		if e.Status.Current != nil {
			p.Status.Current = append(p.Status.Current, v1alpha1.CurrentRelease{Environment: e.Name, Release: e.Status.Current.Release, Version: e.Status.Current.Version})
		}
	}
	var releases v1alpha1.ReleaseList
	if err := r.List(ctx, &releases, client.InNamespace(p.Name)); err != nil {
		return fmt.Errorf("list releases: %w", err)
	}
	slices.SortFunc(releases.Items, func(a, b v1alpha1.Release) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	var gates v1alpha1.QualityGateList
	if err := r.List(ctx, &gates, client.InNamespace(p.Name)); err != nil {
		return fmt.Errorf("list gates: %w", err)
	}
	p.Status.Debts = debts(releases.Items, gates.Items)
	if err := r.prune(ctx, p, expired(releases.Items, envs.Items, p.Status.Debts, int(p.Spec.Retention.Releases))); err != nil {
		return err
	}
	var karmas []int32
	for _, rel := range releases.Items {
		karmas = append(karmas, rel.Status.Karma)
	}
	p.Status.Karma = karma.Project(karmas)
	p.Status.Level = karma.Level(p.Status.Karma)
	return nil
}

// expired are the releases beyond the newest `keep` that run nowhere, hold nothing up and owe nothing. releases are sorted,
// newest first; keep 0 keeps all.
func expired(releases []v1alpha1.Release, envs []v1alpha1.Environment, owed []v1alpha1.Debt, keep int) []v1alpha1.Release {
	if keep == 0 || len(releases) <= keep {
		return nil
	}
	runs, needed := map[string]bool{}, map[string]bool{}
	for _, e := range envs {
		for _, current := range []*v1alpha1.EnvironmentRelease{e.Status.Current, e.Status.LastGood} {
			if current != nil {
				runs[current.UID] = true
			}
		}
		if e.Status.Hold != nil {
			needed[e.Status.Hold.Release] = true
		}
	}
	for _, d := range owed {
		needed[d.Release] = true
	}
	var out []v1alpha1.Release
	for _, rel := range releases[keep:] {
		if !runs[string(rel.UID)] && !needed[rel.Name] && rel.Status.Publication == nil { // applications may be built with what is published
			out = append(out, rel)
		}
	}
	return out
}

// prune deletes releases with the CI results of their commits, once those are archived: what is not is kept until another
// look. PVs stay.
func (r *projectReconciler) prune(ctx context.Context, p *v1alpha1.Project, releases []v1alpha1.Release) error {
	for i := range releases {
		rel := &releases[i]
		var results v1alpha1.CIResultList
		if err := r.List(ctx, &results, client.InNamespace(p.Name), client.MatchingFields{indexCommit: v1alpha1.ShortSHA(rel.Spec.Commit)}); err != nil {
			return fmt.Errorf("list results: %w", err)
		}
		own := slices.DeleteFunc(results.Items, func(res v1alpha1.CIResult) bool { return res.Spec.Commit != rel.Spec.Commit })
		if slices.ContainsFunc(own, func(res v1alpha1.CIResult) bool { return !res.Status.Archived }) {
			continue
		}
		if err := client.IgnoreNotFound(r.Delete(ctx, rel, client.Preconditions{UID: &rel.UID})); err != nil {
			return fmt.Errorf("delete release %s: %w", rel.Name, err)
		}
		for j := range own {
			if err := client.IgnoreNotFound(r.Delete(ctx, &own[j])); err != nil {
				return fmt.Errorf("delete result %s: %w", own[j].Name, err)
			}
		}
		r.events.Eventf(p, nil, corev1.EventTypeNormal, "ReleaseExpired", "Prune", "release %s is beyond spec.retention.releases", rel.Name)
	}
	return nil
}
