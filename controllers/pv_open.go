// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
)

// pvOpener opens a PV when the client's acceptance of a release begins: when it is healthy in the environment before a
// gate that asks for a PV.
type pvOpener struct {
	client.Client
	events  events.EventRecorder
	freezer *freezer
	now     func() time.Time
}

// Reconcile looks at one Release.
func (r *pvOpener) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var rel v1alpha1.Release
	if err := r.Get(ctx, req.NamespacedName, &rel); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var p v1alpha1.Project
	if err := r.Get(ctx, client.ObjectKey{Name: rel.Namespace}, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !p.DeletionTimestamp.IsZero() || !rel.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	var gates v1alpha1.QualityGateList
	if err := r.List(ctx, &gates, client.InNamespace(rel.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list gates: %w", err)
	}
	for _, g := range gates.Items {
		if !slices.ContainsFunc(g.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.PV != nil }) {
			continue
		}
		var guarded v1alpha1.Environment
		if err := r.Get(ctx, client.ObjectKey{Namespace: rel.Namespace, Name: g.Spec.Environment}, &guarded); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return ctrl.Result{}, fmt.Errorf("read environment: %w", err)
		}
		if err := r.open(ctx, &p, &rel, guarded.Spec.After); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

func (r *pvOpener) open(ctx context.Context, p *v1alpha1.Project, rel *v1alpha1.Release, environment string) error {
	entry := findEntry(rel.Status.Environments, environment)
	if entry == nil || entry.Phase != v1alpha1.PhaseHealthy {
		return nil
	}
	var pvs v1alpha1.PVList
	if err := r.List(ctx, &pvs, client.InNamespace(rel.Namespace), client.MatchingFields{indexRelease: string(rel.UID)}); err != nil {
		return fmt.Errorf("list pvs: %w", err)
	}
	for _, have := range pvs.Items {
		if have.Spec.Environment == environment && have.Spec.Release.AuthorizedAt.Equal(&entry.AuthorizedAt) {
			return nil
		}
	}
	m := pvMaterial{project: p, release: rel, entry: *entry, opened: r.now()}
	if err := r.gather(ctx, &m); err != nil {
		return err
	}
	obj, err := newPV(m)
	if err != nil {
		return err
	}
	if err := r.Create(ctx, obj); err != nil {
		return fmt.Errorf("open PV %s: %w", obj.Name, err) // a stale cache counts one too few: the next look counts right
	}
	r.events.Eventf(rel, obj, corev1.EventTypeNormal, "PVOpened", "OpenPV", "PV %s waits for the client's signature", obj.Name)
	return nil
}

// pvMaterial is all that the document of a PV is made of.
type pvMaterial struct {
	project     *v1alpha1.Project
	release     *v1alpha1.Release
	environment v1alpha1.Environment
	entry       v1alpha1.ReleaseEnvironment
	results     []v1alpha1.CIResult // of the release's commit
	releases    []v1alpha1.Release  // of the project
	pvs         []v1alpha1.PV       // of the project
	authorises  []pv.Authorised
	opened      time.Time
}

func (r *pvOpener) gather(ctx context.Context, m *pvMaterial) error {
	ns := m.release.Namespace
	if err := r.Get(ctx, client.ObjectKey{Namespace: ns, Name: m.entry.Name}, &m.environment); err != nil {
		return fmt.Errorf("read environment: %w", err)
	}
	var pvs v1alpha1.PVList
	var releases v1alpha1.ReleaseList
	var results v1alpha1.CIResultList
	for _, list := range []struct {
		into client.ObjectList
		opts []client.ListOption
	}{
		{&pvs, nil}, {&releases, nil},
		{&results, []client.ListOption{client.MatchingFields{indexCommit: v1alpha1.ShortSHA(m.release.Spec.Commit)}}},
	} {
		if err := r.List(ctx, list.into, append(list.opts, client.InNamespace(ns))...); err != nil {
			return fmt.Errorf("list %T: %w", list.into, err)
		}
	}
	m.pvs, m.releases = pvs.Items, releases.Items
	var err error
	if m.authorises, err = r.freezer.authorised(ctx, m.release, m.environment.Name); err != nil {
		return err
	}
	for _, res := range results.Items {
		if strings.HasPrefix(m.release.Spec.Commit, res.Spec.Commit) {
			m.results = append(m.results, res)
		}
	}
	return nil
}

// newPV is the PV that opens; it is pure.
func newPV(m pvMaterial) (*v1alpha1.PV, error) {
	doc := pvDocument(m)
	text, hash, err := doc.Canonical()
	if err != nil {
		return nil, err
	}
	page, err := pdf.Render(doc, hash)
	if err != nil {
		return nil, fmt.Errorf("render PV: %w", err)
	}
	rel := m.release
	name := rel.Name
	before := 0 // of an earlier release of the same name too: PVs outlive their releases
	for _, p := range m.pvs {
		if p.Labels[v1alpha1.LabelRelease] == rel.Name {
			before++
		}
	}
	if before > 0 {
		name += "-" + strconv.Itoa(before+1)
	}
	return &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: rel.Namespace, Labels: map[string]string{
			v1alpha1.LabelProject: m.project.Name, v1alpha1.LabelRelease: rel.Name, v1alpha1.LabelEnvironment: m.environment.Name,
		}},
		Spec: v1alpha1.PVSpec{
			Release: v1alpha1.PVRelease{
				Name: rel.Name, UID: string(rel.UID), Commit: rel.Spec.Commit, Version: rel.Spec.Version,
				BundleHash: m.entry.BundleHash, AuthorizedAt: m.entry.AuthorizedAt,
			},
			Environment: m.environment.Name, Client: m.project.Spec.Client.Name, Document: text, DocumentHash: hash, PDFHash: envelope.Hash(page),
		},
	}, nil
}

func pvDocument(m pvMaterial) pv.Document {
	p, rel := m.project, m.release
	set := evidenceOn(p, m.results, bundleImages(rel.Status.Bundle))
	coverage, _ := set.Coverage()
	doc := pv.Document{
		Title: "Procès-verbal de recette", Language: p.Spec.Client.Language,
		Project: p.Name, ProjectName: p.Spec.DisplayName, Supplier: cmp.Or(p.Spec.Supplier, "DYNORS"), Client: p.Spec.Client.Name,
		Release: rel.Name, ReleaseUID: string(rel.UID), Version: rel.Spec.Version, Commit: rel.Spec.Commit, Branch: rel.Spec.Branch,
		BundleHash: m.entry.BundleHash, Environment: m.environment.Name, URL: m.environment.Spec.URL,
		Karma: rel.Status.Karma, Works: rel.Status.Works, Level: rel.Status.Level, Opened: m.opened.UTC().Truncate(time.Second),
		Figures: pv.Figures{
			Tests: set.Results[v1alpha1.TypeTests].Tests, Coverage: coverage, Vulnerabilities: set.Results[v1alpha1.TypeScan].Vulnerabilities,
		},
		Signatories: []string{}, Images: []string{}, Artifacts: append([]string{}, rel.Spec.Artifacts...),
		KnownDefects: append([]string{}, rel.Spec.KnownDefects...), Gates: pvGates(rel), OpenReservations: []pv.OpenReservation{},
		Authorises: m.authorises,
	}
	if doc.Language == "en" {
		doc.Title = "Acceptance certificate"
	}
	for _, s := range p.Spec.Client.Signatories {
		doc.Signatories = append(doc.Signatories, s.Name)
	}
	if rel.Status.Bundle != nil {
		for _, img := range rel.Status.Bundle.Images {
			doc.Images = append(doc.Images, img.Name+": "+img.Repository+"@"+img.Digest)
		}
	}
	doc.Previous = lastAccepted(m)
	doc.Changes = changesSince(m, doc.Previous)
	for _, r := range openReservations(m.pvs) {
		doc.OpenReservations = append(doc.OpenReservations, pv.OpenReservation(r))
	}
	return doc
}

// pvGates are the gates that the release passed, with who approved.
func pvGates(rel *v1alpha1.Release) []pv.Gate {
	out := []pv.Gate{}
	for _, v := range rel.Status.Gates {
		e := findEntry(rel.Status.Environments, v.Environment)
		if v.Verdict != v1alpha1.VerdictPassed || e == nil {
			continue
		}
		g := pv.Gate{Name: v.Name, Number: v.Number, Environment: v.Environment, Opened: e.AuthorizedAt.UTC().Truncate(time.Second), Criteria: []string{}, Approvals: []string{}}
		for _, c := range v.Criteria {
			g.Criteria = append(g.Criteria, c.Name+": "+c.Message)
		}
		for _, a := range rel.Status.Approvals {
			if a.Gate == v.Name && a.Decision == v1alpha1.DecisionApproved && a.Stale == "" {
				g.Approvals = append(g.Approvals, a.User+", "+a.Time.UTC().Format(time.RFC3339))
			}
		}
		out = append(out, g)
	}
	return out
}

// lastAccepted is the newest release that the client accepted in the same environment.
func lastAccepted(m pvMaterial) *pv.Accepted {
	var last *v1alpha1.PV
	for i, p := range m.pvs {
		accepted := p.Status.Decision == v1alpha1.PVAccepted || p.Status.Decision == v1alpha1.PVAcceptedWithReservations
		if accepted && p.Status.SignedAt != nil && p.Spec.Environment == m.environment.Name && (last == nil || last.Status.SignedAt.Before(p.Status.SignedAt)) {
			last = &m.pvs[i]
		}
	}
	if last == nil {
		return nil
	}
	return &pv.Accepted{Release: last.Spec.Release.Name, Version: last.Spec.Release.Version, Commit: last.Spec.Release.Commit, PV: last.Name, SignedAt: last.Status.SignedAt.UTC()}
}

// changesSince are the changes of the releases of this branch, and of those that the client has seen, which came after the
// last that the client accepted; oldest first, this release last.
func changesSince(m pvMaterial, accepted *pv.Accepted) []pv.Change {
	var since time.Time
	if accepted != nil {
		since = accepted.SignedAt
		for _, r := range m.releases {
			if r.Spec.Commit == accepted.Commit {
				since = r.CreationTimestamp.Time
			}
		}
	}
	between := slices.DeleteFunc(slices.Clone(m.releases), func(r v1alpha1.Release) bool {
		related := r.Spec.Branch == m.release.Spec.Branch || findEntry(r.Status.Environments, m.environment.Name) != nil
		return r.UID == m.release.UID || !related || r.Spec.Changelog == "" || !newerRelease(m.release, &r) || !r.CreationTimestamp.After(since)
	})
	slices.SortFunc(between, func(a, b v1alpha1.Release) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	out := []pv.Change{}
	for _, r := range append(between, *m.release) {
		out = append(out, pv.Change{Release: r.Name, Version: r.Spec.Version, Commit: r.Spec.Commit, Changelog: r.Spec.Changelog})
	}
	return out
}
