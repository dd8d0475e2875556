// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
)

// journalWriter records facts before they take effect: what cannot be proven later does not happen.
type journalWriter interface {
	Append(ctx context.Context, facts ...journal.Fact) error
}

// Actors of facts that no person is behind.
const (
	actorController = "sirrat"
	actorClient     = "client"
)

func factOf(p *v1alpha1.Project, kind journal.Kind, subject, actor string, data any, blobs ...journal.Blob) journal.Fact {
	return journal.Fact{Project: p.Name, ProjectUID: string(p.UID), Kind: kind, Subject: subject, Actor: actor, Data: data, Blobs: blobs}
}

// releaseFacts are the differences between two statuses of a release that somebody may have to prove.
func releaseFacts(p *v1alpha1.Project, r *v1alpha1.Release, old, now v1alpha1.ReleaseStatus) []journal.Fact {
	var out []journal.Fact
	uid := string(r.UID)
	if old.ObservedGeneration != now.ObservedGeneration || !sameStatus(bundleImages(old.Bundle), bundleImages(now.Bundle)) {
		actor := r.Annotations[v1alpha1.AnnotationCreatedBy]
		if actor == "" {
			actor = actorController
		}
		out = append(out, factOf(p, journal.KindRelease, "release/"+uid, actor, map[string]any{
			"release": r.Name, "uid": uid, "spec": r.Spec, "images": bundleImages(now.Bundle),
		}))
	}
	out = append(out, approvalFacts(p, r, old, now)...)
	for _, g := range now.Gates {
		i := slices.IndexFunc(old.Gates, func(o v1alpha1.GateVerdict) bool { return o.Name == g.Name })
		if i >= 0 && old.Gates[i].Verdict == g.Verdict && sameStatus(old.Gates[i].Criteria, g.Criteria) {
			continue
		}
		out = append(out, factOf(p, journal.KindVerdict, "verdict/"+uid+"/"+g.Name, actorController, map[string]any{
			"release": r.Name, "gate": g.Name, "environment": g.Environment, "verdict": g.Verdict, "criteria": g.Criteria,
			"bundleHash": bundleHash(now.Bundle, g.Environment), "karma": now.Karma, "works": now.Works, "evidence": now.Evidence,
		}))
	}
	out = append(out, publicationFacts(p, r, old, now)...)
	return append(out, environmentFacts(p, r, old, now)...)
}

// publicationFacts say that a module's release counts as published, with what exactly, or does not any more.
func publicationFacts(p *v1alpha1.Project, r *v1alpha1.Release, old, now v1alpha1.ReleaseStatus) []journal.Fact {
	if sameStatus(old.Publication, now.Publication) {
		return nil
	}
	data := map[string]any{"release": r.Name, "uid": string(r.UID), "published": now.Publication != nil, "artifacts": now.Artifacts}
	if now.Publication != nil {
		data["bundleHash"], data["at"] = now.Publication.BundleHash, formatMicro(now.Publication.At)
	}
	return []journal.Fact{factOf(p, journal.KindRelease, "publication/"+string(r.UID), actorController, data)}
}

func approvalFacts(p *v1alpha1.Project, r *v1alpha1.Release, old, now v1alpha1.ReleaseStatus) []journal.Fact {
	var out []journal.Fact
	add := func(a v1alpha1.ApprovalRecord, withdrawn bool) {
		kind := journal.KindApproval
		if a.Decision == v1alpha1.DecisionBrokeGlass || a.Decision == v1alpha1.DecisionRegularised {
			kind = journal.KindDebt
		}
		// A name may hold anything: the subject tells it apart by hash.
		subject := fmt.Sprintf("approval/%s/%s/%s/%.16s", r.UID, a.Gate, a.Decision, envelope.Hash([]byte(a.User))[len("sha256:"):])
		data := map[string]any{"release": r.Name, "gate": a.Gate, "decision": a.Decision, "user": a.User, "bundleHash": a.BundleHash, "reason": a.Reason, "stale": a.Stale}
		if withdrawn {
			data["withdrawn"] = true
		}
		out = append(out, factOf(p, kind, subject, a.User, data))
	}
	for _, a := range now.Approvals {
		if o := findApproval(old.Approvals, a); o == nil || !sameStatus(*o, a) {
			add(a, false)
		}
	}
	for _, a := range old.Approvals {
		if findApproval(now.Approvals, a) == nil {
			add(a, true)
		}
	}
	return out
}

func environmentFacts(p *v1alpha1.Project, r *v1alpha1.Release, old, now v1alpha1.ReleaseStatus) []journal.Fact {
	var out []journal.Fact
	add := func(e v1alpha1.ReleaseEnvironment, phase string) {
		data := map[string]any{
			"release": r.Name, "environment": e.Name, "phase": phase, "bundleHash": e.BundleHash, "authorizedAt": formatMicro(e.AuthorizedAt), "message": e.Message,
		}
		if e.Rollback != "" {
			data["rollback"] = e.Rollback
		}
		out = append(out, factOf(p, journal.KindDeployment, "environment/"+string(r.UID)+"/"+e.Name, actorController, data))
	}
	for _, e := range now.Environments {
		if o := findEntry(old.Environments, e.Name); o == nil || o.Phase != e.Phase || !o.AuthorizedAt.Equal(&e.AuthorizedAt) {
			add(e, e.Phase)
		}
	}
	for _, e := range old.Environments {
		if findEntry(now.Environments, e.Name) == nil {
			add(e, "Withdrawn")
		}
	}
	return out
}

// mirrorFact says that an environment's own registry was seen to serve every image of a release as its digest says, after what
// it lacked was copied there.
func mirrorFact(p *v1alpha1.Project, r *v1alpha1.Release, m v1alpha1.ReleaseMirror) journal.Fact {
	return factOf(p, journal.KindDeployment, "mirror/"+string(r.UID)+"/"+m.Environment, actorController, map[string]any{
		"release": r.Name, "environment": m.Environment, "phase": v1alpha1.ConditionMirrored, "authorizedAt": formatMicro(m.AuthorizedAt),
		"images": m.Images, "moved": m.Moved, "message": m.Progress,
	})
}

func bundleImages(b *v1alpha1.Bundle) []v1alpha1.FrozenImage {
	if b == nil {
		return nil
	}
	return b.Images
}

// resultFact carries the report as it was received.
func resultFact(p *v1alpha1.Project, r *v1alpha1.CIResult) journal.Fact {
	spec := r.Spec
	report := spec.Report
	spec.Report = nil
	var blobs []journal.Blob
	switch {
	case spec.Format != "": // a file, which was put into the archive before it was acknowledged
		blobs = append(blobs, journal.Blob{Name: "report", MediaType: "application/octet-stream", Kept: spec.ReportHash})
	case len(report) > 0:
		blobs = append(blobs, journal.Blob{Name: "report", MediaType: "application/json", Data: report})
	}
	actor := "token:" + spec.Source
	switch spec.Source {
	case v1alpha1.SourceGitLab, v1alpha1.SourceHarbor, v1alpha1.SourceSonarQube:
		actor = "webhook:" + spec.Source
	}
	if job := spec.Identity; job != nil {
		actor = "job:" + job.ProjectPath + "#" + job.Job
	}
	if spec.Format == v1alpha1.FormatHarbor { // asked for, not sent
		actor = v1alpha1.SourceHarbor
	}
	return factOf(p, journal.KindResult, "result/"+string(r.UID), actor, map[string]any{"result": r.Name, "spec": spec}, blobs...)
}

func gateFact(p *v1alpha1.Project, g *v1alpha1.QualityGate) journal.Fact {
	return factOf(p, journal.KindGate, "gate/"+g.Name, actorController, map[string]any{"gate": g.Name, "spec": g.Spec})
}

// authorizationFact is recorded before anything is sent.
func authorizationFact(p *v1alpha1.Project, spec v1alpha1.RolloutSpec, host authorization.Host, subject string) journal.Fact {
	data := map[string]any{
		"release": spec.Release, "environment": spec.Environment, "host": host.Name, "hostUID": host.UID, "sequence": spec.Sequence,
		"bundleHash": spec.BundleHash, "composeHash": spec.ComposeHash, "images": spec.Images,
	}
	if spec.Remove != nil { // an order to take it down
		data["remove"] = spec.Remove
	}
	return factOf(p, journal.KindAuthorization, subject, actorController, data, journal.Blob{Name: journal.BlobAuthorization, MediaType: "application/vnd.dsse.envelope.v1+json", Data: []byte(spec.Authorization)})
}

// record puts a PV into the archive, once as it was opened and once as it was decided, with its document, its PDF and its
// signature; and each time a reservation is settled.
func (r *pvReconciler) record(ctx context.Context, project *v1alpha1.Project, p *v1alpha1.PV) error {
	state, actor := v1alpha1.ArchivedOpened, actorController
	if p.Status.Decision != "" {
		state, actor = v1alpha1.ArchivedDecided, actorClient+":"+p.Status.SignedBy
		if p.Status.Method == v1alpha1.MethodPaper {
			actor = p.Spec.Paper.UploadedBy
		}
	}
	subject := "pv/" + string(p.UID)
	if p.Status.Archived != state {
		page, err := pdf.Of(p)
		if err != nil {
			return fmt.Errorf("render PV %s: %w", p.Name, err)
		}
		blobs := []journal.Blob{
			{Name: "document", MediaType: "application/json", Data: []byte(p.Spec.Document)},
			{Name: "pdf", MediaType: "application/pdf", Data: page},
		}
		if p.Spec.Signature != "" && p.Status.Decision != "" {
			blobs = append(blobs, journal.Blob{Name: journal.BlobSignature, MediaType: "application/vnd.dsse.envelope.v1+json", Data: []byte(p.Spec.Signature)})
		}
		data := map[string]any{
			"pv": p.Name, "uid": string(p.UID), "state": state, "release": p.Spec.Release, "environment": p.Spec.Environment, "client": p.Spec.Client,
			"documentHash": p.Spec.DocumentHash, "pdfHash": p.Spec.PDFHash,
		}
		if p.Status.Decision != "" {
			data["decision"], data["reason"], data["signedBy"], data["method"] = p.Status.Decision, p.Status.Reason, p.Status.SignedBy, p.Status.Method
			data["reservations"], data["keyID"], data["signatureHash"], data["signedPDFHash"] = p.Status.Reservations, p.Status.KeyID, p.Status.SignatureHash, p.Status.PDFHash
			if p.Status.Method == v1alpha1.MethodPaper {
				data["paper"] = p.Spec.Paper
			}
		}
		if err := r.journal.Append(ctx, factOf(project, journal.KindPV, subject, actor, data, blobs...)); err != nil {
			return err
		}
		p.Status.Archived = state
	}
	for i, res := range p.Status.Reservations {
		if res.Lifted == "" {
			continue
		}
		f := factOf(project, journal.KindPV, fmt.Sprintf("%s/reservation/%d", subject, i+1), actorController, map[string]any{"pv": p.Name, "state": "Settled", "reservation": res})
		if err := r.journal.Append(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// keepArchived keeps a Project that is being deleted until everything that was signed for it is in the archive: the
// objects go with it, the proof stays.
func (r *projectReconciler) keepArchived(ctx context.Context, p *v1alpha1.Project) (done bool, err error) {
	var pvs v1alpha1.PVList
	if err := r.List(ctx, &pvs, client.InNamespace(p.Name)); err != nil {
		return false, fmt.Errorf("list pvs: %w", err)
	}
	for _, pv := range pvs.Items {
		if pv.Status.Archived == "" || pv.Status.Decision != "" && pv.Status.Archived != v1alpha1.ArchivedDecided {
			return false, nil
		}
	}
	var results v1alpha1.CIResultList
	if err := r.List(ctx, &results, client.InNamespace(p.Name)); err != nil {
		return false, fmt.Errorf("list results: %w", err)
	}
	for _, res := range results.Items {
		if !res.Status.Archived {
			return false, nil
		}
	}
	return true, r.journal.Append(ctx, factOf(p, journal.KindRelease, "project", actorController, map[string]any{"project": p.Name, "deleted": true}))
}
