// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func judgeApproval(in Input, c v1alpha1.ApprovalCriterion) outcome {
	need := max(c.Minimum, 1)
	who := "somebody who may approve at gate " + in.Name
	if len(c.Roles) > 0 {
		who = strings.Join(c.Roles, " or ")
	}
	how := fmt.Sprintf("%d approval(s) by %s: kubectl sirrat approve %s %s", need, who, in.Release, in.Name)
	if !in.Guarded {
		return waiting("NotGuarded", "the operator restores the admission policy for approvals", "approvals are not protected: %s", in.GuardMessage)
	}
	var users, excluded, stale, strangers []string
	for _, a := range in.Approvals {
		switch {
		case a.Decision != v1alpha1.DecisionApproved:
		case a.Stale != "":
			stale = append(stale, a.User+" ("+a.Stale+")")
		case a.BundleHash == "" || a.BundleHash != in.BundleHash:
			stale = append(stale, a.User+" (for another bundle)")
		case len(c.Roles) > 0 && !slices.ContainsFunc(in.Roles[a.User], func(r string) bool { return slices.Contains(c.Roles, r) }):
			strangers = append(strangers, a.User)
		case !c.AllowCreator && (in.CreatedBy == "" || a.User == in.CreatedBy):
			excluded = append(excluded, a.User)
		case !slices.Contains(users, a.User):
			users = append(users, a.User)
		}
	}
	if int32(len(users)) >= need {
		return passed("Approved", "approved by %s", strings.Join(users, ", "))
	}
	switch {
	case len(stale) > 0:
		return waiting("ApprovalStale", how, "approval no longer counts: %s", strings.Join(stale, ", "))
	case len(excluded) > 0 && in.CreatedBy == "":
		return waiting("CreatorUnknown", how, "it is not known who created the release, so an approval by its creator cannot be excluded (annotation %s)", v1alpha1.AnnotationCreatedBy)
	case len(excluded) > 0:
		return waiting("CreatorExcluded", how, "%s created the release and may not approve it", strings.Join(excluded, ", "))
	case len(strangers) > 0:
		return waiting("RoleMissing", how, "%s may approve here, but %d approval(s) by %s are needed", strings.Join(strangers, ", "), need, strings.Join(c.Roles, " or "))
	case len(users) > 0:
		return waiting("QuorumMissing", how, "approved by %s, %d of %d", strings.Join(users, ", "), len(users), need)
	}
	return waiting("ApprovalMissing", how, "%d approval(s) needed", need)
}

func judgePV(in Input, c v1alpha1.PVCriterion) outcome {
	sign := "the client signs the PV: kubectl sirrat pv sign"
	if in.PV == nil {
		return waiting("NoPV", "the client's acceptance opens", "no PV yet: it is opened when the release is healthy in %s", in.After)
	}
	p := in.PV
	switch {
	case p.Decision == v1alpha1.PVRefused:
		return refused("PVRefused", "QA approves the client's acceptance again, or a new commit", "the client refused PV %s: %s", p.Name, p.Reason)
	case p.Decision != "" && p.BundleHash != p.TestedHash:
		return waiting("PVStale", "a new PV for the bundle that runs now", "PV %s is for another bundle", p.Name)
	case p.Decision == v1alpha1.PVAccepted:
		return passed("PVAccepted", "the client signed PV %s", p.Name)
	case p.Decision == v1alpha1.PVAcceptedWithReservations && c.AllowReservations:
		return passed("PVAcceptedWithReservations", "the client signed PV %s with %d reservation(s)", p.Name, p.Reservations)
	case p.Decision == v1alpha1.PVAcceptedWithReservations:
		return refused("PVReserved", "a new commit that lifts the reservations", "the client signed PV %s with %d reservation(s), and this gate allows none", p.Name, p.Reservations)
	case p.Problem != "":
		return waiting("PVSignatureInvalid", sign+" "+p.Name, "the signature of PV %s does not count: %s", p.Name, p.Problem)
	}
	return waiting("PVUnsigned", sign+" "+p.Name, "PV %s is not signed", p.Name)
}

func judgeRejection(in Input) outcome {
	for _, a := range in.Approvals {
		if a.Decision == v1alpha1.DecisionRejected {
			return refused("Rejected", "a new commit, or the rejection is lifted: kubectl sirrat reject --lift "+in.Release+" "+in.Name, "rejected by %s: %s", a.User, a.Reason)
		}
	}
	return passed("NotRejected", "")
}

func brokenGlass(in Input) *v1alpha1.ApprovalRecord {
	for i, a := range in.Approvals {
		if a.Decision == v1alpha1.DecisionBrokeGlass && a.Stale == "" && a.BundleHash != "" && a.BundleHash == in.BundleHash {
			return &in.Approvals[i]
		}
	}
	return nil
}
