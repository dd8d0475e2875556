// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func judgeEnvironment(in Input) outcome {
	if in.Spec.Environment == "" {
		return judgePublication(in)
	}
	if in.Module {
		return waiting("NotDeployed", "somebody takes spec.environment out of gate "+in.Name, "the project is a module, of which nothing is deployed: gate %s must guard no environment", in.Name)
	}
	if !in.GuardedExists {
		return waiting("NoEnvironment", "somebody declares the Environment "+in.Spec.Environment, "environment %s does not exist", in.Spec.Environment)
	}
	if in.Decommissioned {
		return waiting("Decommissioned", "somebody takes spec.decommission out of the Environment: kubectl sirrat decommission "+in.Spec.Environment+" --revoke",
			"environment %s is decommissioned", in.Spec.Environment)
	}
	return passed("Exists", "")
}

func judgeBundle(in Input) outcome {
	switch {
	case !in.GuardedExists, in.Spec.Environment == "": // a publication waits for its artifacts by itself
		return passed("Frozen", "")
	case in.BundleProblem != "":
		return waiting("BundleInvalid", "somebody mends the Environment "+in.Spec.Environment, "%s: %s", in.Spec.Environment, in.BundleProblem)
	case in.BundleHash != "":
		return passed("Frozen", "")
	}
	for _, c := range in.Spec.Criteria {
		if c.Images != nil && !in.Frozen {
			return passed("Declared", "") // a declared criterion says the same, with the cause
		}
	}
	return waiting("NotFrozen", "", "the images are not all pinned yet")
}

func judgeBridge(in Input) outcome {
	if in.Spec.Environment == "" {
		return judgeEarlier(in)
	}
	if in.After == "" {
		return passed("First", "")
	}
	for _, c := range in.Spec.Criteria {
		if c.Healthy != nil && c.Healthy.Environment == in.After && brokenGlass(in) == nil {
			return passed("Declared", "") // a declared criterion says the same
		}
	}
	return judgeHealthy(in, in.After)
}

func judgeVersion(in Input) outcome {
	if in.NeedsVersion {
		return waiting("NoVersion", fmt.Sprintf("a developer sets spec.version: kubectl patch release %s -n %s --type merge -p '{\"spec\":{\"version\":\"v1.2.3\"}}'", in.Release, in.Project),
			"the release has no version, which the tags of %s need", in.Spec.Environment)
	}
	return passed("Versioned", "")
}

func judgeOrder(in Input) outcome {
	if in.SupersededBy != "" {
		return refused("Superseded", "", "release %s is newer and already in %s", in.SupersededBy, in.Spec.Environment)
	}
	return passed("Newest", "")
}

func judgeHold(in Input) outcome {
	if in.Hold != "" && in.Spec.Mode == v1alpha1.ModeAutomatic {
		return waiting("Held", "somebody resumes: kubectl sirrat resume "+in.Spec.Environment, "%s is on hold: %s", in.Spec.Environment, in.Hold)
	}
	return passed("NotHeld", "")
}

func judgeDebt(in Input) outcome {
	for _, d := range in.Debts {
		return waiting("Debt", fmt.Sprintf("somebody other than %s regularises it: kubectl sirrat regularise %s %s", d.User, d.Release, d.Gate),
			"gate %s was opened in an emergency for release %s by %s (%s), which is not regularised", d.Gate, d.Release, d.User, d.Reason)
	}
	return passed("NoDebt", "")
}

// judgeReservations: what the client accepted for a time holds up the next release once that time is over. It is looked at
// where the client's PV is.
func judgeReservations(in Input) outcome {
	if !slices.ContainsFunc(in.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.PV != nil }) {
		return passed("NoPV", "")
	}
	// The first deadline is what is told, so that the same is said until something else happens.
	var first Reservation
	var end time.Time
	for _, r := range in.Reservations {
		day, err := time.Parse(time.DateOnly, r.Deadline)
		if err != nil {
			continue // none given: it is never overdue
		}
		over := day.AddDate(0, 0, 1)
		if end.IsZero() || cmp.Or(over.Compare(end), strings.Compare(r.PV, first.PV), cmp.Compare(r.Number, first.Number)) < 0 {
			first, end = r, over
		}
	}
	switch {
	case end.IsZero():
		return passed("NoDeadline", "")
	case in.Now.Before(end):
		return passed("InTime", "").changing(end)
	}
	return waiting("ReservationOverdue", fmt.Sprintf("it is settled and said so: kubectl sirrat pv lift %s %d", first.PV, first.Number),
		"reservation %d of PV %s is overdue since %s (%s): %s", first.Number, first.PV, first.Deadline, first.Owner, first.Text)
}

func judgeOutcome(in Input) outcome {
	if in.Failed != "" {
		return refused("FailedThere", fmt.Sprintf("a new commit, or a retry: kubectl annotate release %s %s=%s@1 --overwrite", in.Release, v1alpha1.AnnotationRetry, in.Spec.Environment),
			"%s", in.Failed)
	}
	return passed("NotFailed", "")
}
