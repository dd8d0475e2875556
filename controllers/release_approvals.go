// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Why a record does not count.
const (
	staleUnprotected = "given while admission did not protect approvals: withdraw it and approve again"
	staleUnfrozen    = "given before the bundle was frozen: withdraw it and approve again"
	staleBundle      = "the bundle changed since: withdraw it and approve again"
	staleRefused     = "the client refused since: withdraw it and approve again"
	staleRejected    = "it was rejected since: withdraw it and approve again"
	staleWithdrawn   = "withdrawn, which undoes neither the loss of karma nor the debt"
	staleOwnDebt     = "who opened the gate cannot settle the debt: somebody else does"
)

// recordApprovals turns annotations into records. A record keeps the bundle hash under which it was first seen; once
// stale it stays so until it is withdrawn and given again. What appears while admission does not protect annotations, or
// while its policy was exchanged, proves nothing about who wrote it: it is recorded as stale. What was done by break-glass
// stays on record.
func recordApprovals(s snapshot, bundle *v1alpha1.Bundle) []v1alpha1.ApprovalRecord {
	trusted := s.guard.trusts(s.release.Status.Guard, s.release.CreationTimestamp)
	var out []v1alpha1.ApprovalRecord
	for _, g := range s.gates {
		hash := bundleHash(bundle, g.Spec.Environment)
		given := parseApprovals(s.release.Annotations, g.Name)
		for _, a := range given {
			rec := a
			if old := findApproval(s.release.Status.Approvals, a); old != nil {
				rec = *old
				if rec.Stale == staleWithdrawn {
					rec.Stale = ""
				}
			} else {
				rec.Time, rec.BundleHash = metav1.NewTime(s.now.Truncate(time.Second)), hash
				if !trusted && rec.Decision != v1alpha1.DecisionRejected {
					rec.Stale = staleUnprotected
				}
			}
			if rec.Stale == "" {
				rec.Stale = staleness(s, rec, g, hash, given)
			}
			out = append(out, rec)
		}
		out = append(out, lasting(s.release.Status.Approvals, given, g.Name)...)
	}
	return out
}

// lasting are the records that stay when their annotation is removed.
func lasting(records, given []v1alpha1.ApprovalRecord, gateName string) []v1alpha1.ApprovalRecord {
	var out []v1alpha1.ApprovalRecord
	for _, old := range records {
		kept := brokeGlass(old) || old.Decision == v1alpha1.DecisionRegularised && old.Stale == ""
		if !kept || old.Gate != gateName || findApproval(given, old) != nil {
			continue
		}
		if old.Decision == v1alpha1.DecisionBrokeGlass {
			old.Stale = staleWithdrawn
		}
		out = append(out, old)
	}
	return out
}

// staleness says why a record no longer counts; given are the annotations of its gate.
func staleness(s snapshot, rec v1alpha1.ApprovalRecord, g v1alpha1.QualityGate, hash string, given []v1alpha1.ApprovalRecord) string {
	switch {
	case rec.Decision == v1alpha1.DecisionRejected:
		return ""
	case rec.Decision == v1alpha1.DecisionRegularised:
		if reason, ok := strings.CutPrefix(s.release.Annotations[v1alpha1.BreakGlassPrefix+g.Name], rec.User+": "); ok && reason != "" {
			return staleOwnDebt
		}
		for _, a := range s.release.Status.Approvals {
			if a.Decision == v1alpha1.DecisionBrokeGlass && a.Gate == g.Name && a.User == rec.User {
				return staleOwnDebt
			}
		}
		return ""
	case rec.BundleHash == "":
		return staleUnfrozen
	case hash != "" && rec.BundleHash != hash:
		return staleBundle
	}
	for _, p := range s.pvs {
		if p.Spec.Environment == g.Spec.Environment && p.Status.Decision == v1alpha1.PVRefused && p.Status.SignedAt != nil && !p.Status.SignedAt.Before(&rec.Time) {
			return staleRefused
		}
	}
	for _, a := range s.release.Status.Approvals {
		if a.Decision == v1alpha1.DecisionRejected && a.Gate == g.Name && !a.Time.Before(&rec.Time) {
			return staleRejected
		}
	}
	for _, a := range given { // seen for the first time now
		if a.Decision == v1alpha1.DecisionRejected && findApproval(s.release.Status.Approvals, a) == nil {
			return staleRejected
		}
	}
	return ""
}

// parseApprovals reads the annotations of one gate. What admission would not have let through is ignored.
func parseApprovals(annotations map[string]string, gateName string) []v1alpha1.ApprovalRecord {
	var out []v1alpha1.ApprovalRecord
	for _, user := range strings.Split(annotations[v1alpha1.ApprovalPrefix+gateName], ",") {
		if user = strings.TrimSpace(user); user != "" {
			out = append(out, v1alpha1.ApprovalRecord{Gate: gateName, User: user, Decision: v1alpha1.DecisionApproved})
		}
	}
	for prefix, decision := range map[string]string{
		v1alpha1.RejectionPrefix: v1alpha1.DecisionRejected, v1alpha1.BreakGlassPrefix: v1alpha1.DecisionBrokeGlass,
		v1alpha1.RegularisationPrefix: v1alpha1.DecisionRegularised,
	} {
		if user, reason, ok := strings.Cut(annotations[prefix+gateName], ": "); ok && user != "" {
			out = append(out, v1alpha1.ApprovalRecord{Gate: gateName, User: user, Decision: decision, Reason: reason})
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.ApprovalRecord) int {
		return cmp.Or(strings.Compare(a.Decision, b.Decision), strings.Compare(a.User, b.User))
	})
	return slices.CompactFunc(out, func(a, b v1alpha1.ApprovalRecord) bool { return a.Decision == b.Decision && a.User == b.User })
}

func findApproval(records []v1alpha1.ApprovalRecord, like v1alpha1.ApprovalRecord) *v1alpha1.ApprovalRecord {
	for i, r := range records {
		if r.Gate == like.Gate && r.User == like.User && r.Decision == like.Decision && r.Reason == like.Reason {
			return &records[i]
		}
	}
	return nil
}
