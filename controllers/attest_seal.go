// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// reasonBrokeGlass is that of the criterion that a gate has instead of those that break-glass leaves out.
const reasonBrokeGlass = "BrokeGlass"

func attests(p *v1alpha1.Project) bool {
	return p.Spec.Attestations != nil && p.Spec.Attestations.Enabled
}

// sealAttestations writes down what is to be attached to the images, at the very moment of the decision: by the time that the
// registry takes it, gates, results and approvals may be others. Once attached, only the hash stays.
func sealAttestations(s snapshot, st *v1alpha1.ReleaseStatus) {
	old := s.release.Status
	if !attests(s.project) {
		meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionAttested)
		st.Attestations = slices.DeleteFunc(slices.Clone(old.Attestations), func(r v1alpha1.AttestationRecord) bool { return r.Statement != "" })
		return
	}
	st.Attestations = slices.DeleteFunc(slices.Clone(old.Attestations), func(r v1alpha1.AttestationRecord) bool {
		withdrawn := r.Gate != "" && findEntry(st.Environments, r.Environment) == nil
		return r.Statement != "" && withdrawn
	})
	if st.Bundle == nil || len(st.Bundle.Images) == 0 {
		return // modules: nothing to attach to
	}
	for _, e := range st.Environments {
		before := findEntry(old.Environments, e.Name)
		if e.Phase != v1alpha1.PhaseAuthorized || e.Rollback != "" || before != nil && before.AuthorizedAt.Equal(&e.AuthorizedAt) {
			continue
		}
		for _, g := range s.gates {
			if g.Spec.Environment == e.Name {
				sealed(s, st, v1alpha1.AttestationRecord{Gate: g.Name, Environment: e.Name, AuthorizedAt: e.AuthorizedAt}, func() (string, error) {
					return verdictStatement(s, *st, g, e)
				})
			}
		}
	}
	for _, p := range s.pvs {
		known := slices.ContainsFunc(st.Attestations, func(r v1alpha1.AttestationRecord) bool { return r.PV == p.Name })
		if p.Status.Decision == "" || p.Status.SignedAt == nil || known {
			continue
		}
		record := v1alpha1.AttestationRecord{PV: p.Name, Environment: p.Spec.Environment, AuthorizedAt: p.Spec.Release.AuthorizedAt}
		sealed(s, st, record, func() (string, error) { return decisionStatement(s, *st, p) })
	}
}

// sealed puts a record in, in place of an earlier one of the same gate. What cannot be stated is told, and holds nothing up.
func sealed(s snapshot, st *v1alpha1.ReleaseStatus, r v1alpha1.AttestationRecord, state func() (string, error)) {
	text, err := state()
	if err != nil {
		setCondition(&st.Conditions, s.release.Generation, v1alpha1.ConditionAttested, false, v1alpha1.ReasonInvalid,
			fmt.Sprintf("%s cannot be attested: %s", attested(r), err))
		return
	}
	r.Statement, r.Hash = text, envelope.Hash([]byte(text))
	st.Attestations = slices.DeleteFunc(st.Attestations, func(o v1alpha1.AttestationRecord) bool {
		return o.Gate == r.Gate && o.PV == r.PV && o.Environment == r.Environment
	})
	st.Attestations = append(st.Attestations, r)
}

// attested names what a record is about.
func attested(r v1alpha1.AttestationRecord) string {
	if r.PV != "" {
		return "PV " + r.PV
	}
	return "gate " + r.Gate
}

func verdictStatement(s snapshot, st v1alpha1.ReleaseStatus, g v1alpha1.QualityGate, e v1alpha1.ReleaseEnvironment) (string, error) {
	rel := s.release
	policy, err := attestation.Policy(string(s.project.UID), g)
	if err != nil {
		return "", err
	}
	v := attestation.Verdict{
		Verifier: attestation.Verifier{ID: s.verifier}, TimeVerified: e.AuthorizedAt.Time, Policy: policy,
		Gate: attestation.Gate{
			Project: s.project.Name, ProjectUID: string(s.project.UID), Release: rel.Name, ReleaseUID: string(rel.UID), Version: rel.Spec.Version,
			Commit: rel.Spec.Commit, Name: g.Name, Number: g.Spec.Number, Environment: e.Name, BundleHash: e.BundleHash, Karma: st.Karma,
		},
	}
	glass := false
	if i := slices.IndexFunc(st.Gates, func(v v1alpha1.GateVerdict) bool { return v.Name == g.Name }); i >= 0 {
		for _, c := range st.Gates[i].Criteria {
			v.Gate.Criteria = append(v.Gate.Criteria, attestation.Criterion{Name: c.Name, Verdict: string(c.Verdict), Reason: c.Reason})
			glass = glass || c.Reason == reasonBrokeGlass
		}
	}
	for _, a := range st.Approvals {
		said := attestation.Approval{User: a.User, Time: a.Time.UTC(), Reason: a.Reason}
		switch {
		case a.Gate != g.Name || a.Stale != "":
		case a.Decision == v1alpha1.DecisionApproved:
			v.Gate.Approvals = append(v.Gate.Approvals, said)
		case a.Decision == v1alpha1.DecisionBrokeGlass && glass:
			v.Gate.BrokenGlass = &said
		}
	}
	for _, res := range s.results {
		if !slices.Contains(st.Evidence, res.Name) {
			continue
		}
		input, err := attestation.Result(res)
		if err != nil {
			return "", err
		}
		v.InputAttestations = append(v.InputAttestations, input)
	}
	if newest := newestPV(s, st, g); newest != nil && newest.Decision != "" {
		ref := pvReference(s.pvs[len(s.pvs)-1])
		v.Gate.PV = &ref
		v.InputAttestations = append(v.InputAttestations, ref.Input())
	}
	return attestation.VerdictStatement(st.Bundle.Images, v)
}

func pvReference(p v1alpha1.PV) attestation.PVReference {
	return attestation.PVReference{Name: p.Name, UID: string(p.UID), DocumentHash: p.Spec.DocumentHash, SignatureHash: p.Status.SignatureHash}
}

func decisionStatement(s snapshot, st v1alpha1.ReleaseStatus, p v1alpha1.PV) (string, error) {
	return attestation.DecisionStatement(st.Bundle.Images, attestation.Decision{
		PVReference: pvReference(p), Verifier: attestation.Verifier{ID: s.verifier}, Project: p.Namespace,
		Release: p.Spec.Release.Name, ReleaseUID: p.Spec.Release.UID, Commit: p.Spec.Release.Commit, Environment: p.Spec.Environment,
		BundleHash: p.Spec.Release.BundleHash, PDFHash: p.Spec.PDFHash, Decision: string(p.Status.Decision),
		Reservations: len(p.Status.Reservations), Method: p.Status.Method, SignedBy: p.Status.SignedBy, SignedAt: p.Status.SignedAt.Time,
		KeyID: p.Status.KeyID,
	})
}
