// SPDX-License-Identifier: Apache-2.0

// Package gate judges: it turns stored evidence into the verdict of one gate on one release.
//
// It is pure. It has no client, context, logger, clock or randomness: `now` is part of the input, and every text a user
// reads about a gate (conditions, API answers, the command line) is written here and nowhere else. It may import
// api/v1alpha1 and internal/evidence.
package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
	"gitlab.com/dynors/sirrat/internal/karma"
)

// Input is all that a verdict depends on.
type Input struct {
	Name string
	Spec v1alpha1.QualityGateSpec

	Release   string
	CreatedBy string // user who created the release; "" when unknown
	Evidence  evidence.Set
	Karma     int32
	Works     int32

	// Frozen says that every image of the project is pinned; if not, FrozenMessage says what is missing and FrozenNeeds
	// what would mend it.
	Frozen        bool
	FrozenMessage string
	FrozenNeeds   string
	// BundleHash is the hash of the guarded environment's bundle now; "" with BundleProblem saying why.
	BundleHash    string
	BundleProblem string
	// After is the environment before the guarded one; "" if it is the first.
	After string
	// GuardedExists says that the guarded environment is declared.
	GuardedExists bool
	// NeedsVersion says that a tag of the guarded environment needs the release's version, which is not set.
	NeedsVersion bool
	// SupersededBy names a newer release that was already let into the guarded environment.
	SupersededBy string
	// Failed is set when the release failed in the guarded environment with this very bundle: what happened.
	Failed string
	// Environments is where the release is healthy or was; absent: never authorised there.
	Environments map[string]v1alpha1.ReleaseEnvironment

	// Approvals are this gate's records; Guarded is false, with GuardMessage, when admission does not protect them.
	Approvals    []v1alpha1.ApprovalRecord
	Guarded      bool
	GuardMessage string

	// PV is the newest PV of this release; nil if none was opened.
	PV *PV

	Now time.Time
}

// PV is what a gate needs to know of a PV.
type PV struct {
	Name     string
	Decision v1alpha1.PVDecision
	Reason   string
	// Problem says why a given signature does not count.
	Problem      string
	Reservations int
	// BundleHash is what the client tested; TestedHash what is authorised in the PV's environment now.
	BundleHash, TestedHash string
}

// outcome is one criterion's judgement.
type outcome struct {
	verdict v1alpha1.Verdict
	reason  string
	message string
	needs   string
	until   time.Time // when a wait ends by itself; zero if it does not
}

func passed(reason, format string, args ...any) outcome {
	return outcome{verdict: v1alpha1.VerdictPassed, reason: reason, message: fmt.Sprintf(format, args...)}
}

func waiting(reason, needs, format string, args ...any) outcome {
	return outcome{verdict: v1alpha1.VerdictWaiting, reason: reason, needs: needs, message: fmt.Sprintf(format, args...)}
}

func refused(reason, needs, format string, args ...any) outcome {
	return outcome{verdict: v1alpha1.VerdictRefused, reason: reason, needs: needs, message: fmt.Sprintf(format, args...)}
}

// Names of the conditions that hold at every gate, whatever its criteria. The parentheses keep them apart from declared
// criteria.
const (
	criterionEnvironment = "(environment)"
	criterionBundle      = "(bundle)"
	criterionBridge      = "(bridge)"
	criterionVersion     = "(version)"
	criterionOrder       = "(order)"
	criterionOutcome     = "(outcome)"
	criterionRejection   = "(rejection)"
	criterionBreakGlass  = "(break-glass)"
)

// Judge is the verdict: Refused if anything is refused, else Waiting if anything is missing, else Passed. Break-glass
// opens a gate whose declared criteria do not hold, but never one whose bundle, version or environment is missing.
func Judge(in Input) v1alpha1.GateVerdict {
	v := v1alpha1.GateVerdict{Name: in.Name, Number: in.Spec.Number, Environment: in.Spec.Environment}
	var until time.Time
	add := func(name string, o outcome) {
		v.Criteria = append(v.Criteria, v1alpha1.CriterionVerdict{
			Name: name, Verdict: o.verdict, Reason: o.reason, Message: o.message, Needs: o.needs,
		})
		if o.verdict != v1alpha1.VerdictPassed && o.until.After(until) {
			until = o.until
		}
	}
	for _, c := range in.Spec.Criteria {
		add(c.Name, judgeCriterion(in, c))
	}
	if glass := brokenGlass(in); glass != nil && in.Guarded {
		v.Criteria = nil
		until = time.Time{}
		add(criterionBreakGlass, passed("BrokeGlass", "opened by %s: %s", glass.User, glass.Reason))
	}
	for _, s := range standing {
		if o := s.judge(in); o.verdict != v1alpha1.VerdictPassed {
			add(s.name, o)
		}
	}
	summarise(&v, until)
	return v
}

// standing are the conditions of every gate; they are listed only when they do not hold.
var standing = []struct {
	name  string
	judge func(Input) outcome
}{
	{criterionEnvironment, judgeEnvironment},
	{criterionBundle, judgeBundle},
	{criterionBridge, judgeBridge},
	{criterionVersion, judgeVersion},
	{criterionOrder, judgeOrder},
	{criterionOutcome, judgeOutcome},
	{criterionRejection, judgeRejection},
}

func summarise(v *v1alpha1.GateVerdict, until time.Time) {
	v.Verdict = v1alpha1.VerdictPassed
	var refusals, waits []string
	for _, c := range v.Criteria {
		switch c.Verdict {
		case v1alpha1.VerdictPassed:
			continue
		case v1alpha1.VerdictRefused:
			refusals = append(refusals, c.Message)
		default:
			waits = append(waits, c.Message)
		}
		if c.Needs != "" {
			v.WaitingFor = append(v.WaitingFor, c.Needs)
		}
	}
	switch {
	case len(refusals) > 0:
		v.Verdict, v.Message = v1alpha1.VerdictRefused, strings.Join(refusals, "; ")
	case len(waits) > 0:
		v.Verdict, v.Message = v1alpha1.VerdictWaiting, strings.Join(waits, "; ")
		if !until.IsZero() {
			t := metav1.NewTime(until)
			v.Until = &t
		}
	default:
		v.Message = "every criterion holds"
	}
}

// WaitingFor is the one line that tables show: the first thing that is missing, in the order of the criteria.
func WaitingFor(v v1alpha1.GateVerdict) string {
	if v.Verdict == v1alpha1.VerdictPassed {
		return ""
	}
	switch n := len(v.WaitingFor); n {
	case 0:
		return v.Message
	case 1:
		return v.WaitingFor[0]
	default:
		return fmt.Sprintf("%s (and %d more)", v.WaitingFor[0], n-1)
	}
}

func judgeCriterion(in Input, c v1alpha1.Criterion) outcome {
	switch {
	case c.Result != nil:
		return judgeResult(in, *c.Result)
	case c.Coverage != nil:
		return judgeCoverage(in, *c.Coverage)
	case c.Images != nil:
		return judgeImages(in)
	case c.Soak != nil:
		return judgeSoak(in, *c.Soak)
	case c.Healthy != nil:
		return judgeHealthy(in, c.Healthy.Environment)
	case c.Approval != nil:
		return judgeApproval(in, *c.Approval)
	case c.PV != nil:
		return judgePV(in, *c.PV)
	case c.Karma != nil:
		return judgeKarma(in, *c.Karma)
	}
	return refused("UnknownCriterion", "the operator upgrades SIRRAT or removes the criterion", "criterion %s is of a kind that this version does not know", c.Name)
}

func judgeResult(in Input, c v1alpha1.ResultCriterion) outcome {
	r, ok := in.Evidence.Results[c.Type]
	if !ok {
		return waiting("NoResult", "CI posts a result of type "+c.Type, "no result of type %s", c.Type)
	}
	again := "a new commit, or a newer run that passes"
	if r.Status != v1alpha1.StatusPassed {
		if t := r.Tests; t != nil && t.Failed > 0 {
			return refused("ResultFailed", again, "%s %s: %d of %d failed", c.Type, r.Status, t.Failed, t.Total)
		}
		return refused("ResultFailed", again, "%s %s", c.Type, r.Status)
	}
	for _, b := range []struct {
		name  string
		bound *int32
		count func(*v1alpha1.VulnerabilityCounts) int32
	}{
		{"critical", c.MaxCritical, func(v *v1alpha1.VulnerabilityCounts) int32 { return v.Critical }},
		{"high", c.MaxHigh, func(v *v1alpha1.VulnerabilityCounts) int32 { return v.High }},
		{"medium", c.MaxMedium, func(v *v1alpha1.VulnerabilityCounts) int32 { return v.Medium }},
	} {
		if b.bound != nil && r.Vulnerabilities != nil && b.count(r.Vulnerabilities) > *b.bound {
			return refused("TooManyFindings", again, "%s: %d %s findings, at most %d allowed", c.Type, b.count(r.Vulnerabilities), b.name, *b.bound)
		}
	}
	if c.MinPassed != nil {
		if r.Tests == nil {
			return waiting("NoCounts", "CI posts the counts of tests", "%s passed without counts, %d passed tests are needed", c.Type, *c.MinPassed)
		}
		if r.Tests.Passed < *c.MinPassed {
			return refused("TooFewTests", again, "%s: %d passed, %d needed", c.Type, r.Tests.Passed, *c.MinPassed)
		}
	}
	return passed("ResultPassed", "%s passed", c.Type)
}

func judgeCoverage(in Input, c v1alpha1.CoverageCriterion) outcome {
	value, from := in.Evidence.Coverage()
	if value == nil {
		return waiting("NoCoverage", "CI posts a coverage figure", "no coverage reported")
	}
	if *value < float64(c.Minimum) {
		return refused("CoverageTooLow", "a new commit, or a newer run, with more coverage", "coverage %.4g %% is below %d %%", *value, c.Minimum)
	}
	return passed("CoverageReached", "coverage %.4g %% (%s) reaches %d %%", *value, from, c.Minimum)
}

func judgeImages(in Input) outcome {
	if !in.Frozen {
		return waiting("NotFrozen", in.FrozenNeeds, "%s", in.FrozenMessage)
	}
	return passed("Frozen", "every image is pinned to a digest")
}

// Required is the soak that works earn: max − (max − min) × works/50.
func Required(c v1alpha1.SoakCriterion, works int32) time.Duration {
	works = min(max(works, 0), karma.WorksMax)
	span := c.Max.Duration - c.Min.Duration
	// Divided first, the remainder apart: spans of years must not overflow.
	earned := span/karma.WorksMax*time.Duration(works) + span%karma.WorksMax*time.Duration(works)/karma.WorksMax
	return c.Max.Duration - earned
}

func judgeSoak(in Input, c v1alpha1.SoakCriterion) outcome {
	required := Required(c, in.Works)
	env, ok := in.Environments[c.Environment]
	if !ok || env.HealthySince == nil {
		return waiting("NotHealthy", "the release becomes healthy in "+c.Environment, "soak of %s in %s has not begun", required, c.Environment)
	}
	end := env.HealthySince.Add(required)
	if env.HealthyUntil != nil {
		if env.HealthyUntil.Time.Before(end) {
			return waiting("SoakBroken", "the release is deployed to "+c.Environment+" again",
				"soaked in %s for %s of %s, then another release took its place", c.Environment, env.HealthyUntil.Sub(env.HealthySince.Time), required)
		}
		return passed("Soaked", "soaked in %s for %s", c.Environment, required)
	}
	if in.Now.Before(end) {
		o := waiting("Soaking", fmt.Sprintf("time: %s, if it stays healthy in %s", end.UTC().Format(time.RFC3339), c.Environment),
			"soaks in %s until %s (%s for works of %d/50)", c.Environment, end.UTC().Format(time.RFC3339), required, in.Works)
		o.until = end
		return o
	}
	return passed("Soaked", "soaked in %s for %s", c.Environment, required)
}

func judgeHealthy(in Input, environment string) outcome {
	env, ok := in.Environments[environment]
	switch {
	case !ok:
		return waiting("NotDeployed", "the gate of "+environment+" opens", "not deployed in %s", environment)
	case env.Phase == v1alpha1.PhaseHealthy && env.HealthySince != nil:
		return passed("Healthy", "healthy in %s", environment)
	case env.Phase == v1alpha1.PhaseSuperseded && env.HealthySince != nil:
		return passed("WasHealthy", "was healthy in %s until another release took its place", environment)
	case env.Phase == v1alpha1.PhaseRolledBack || env.Phase == v1alpha1.PhaseFailed:
		return refused("FailedThere", "a new commit, or a retry in "+environment, "%s in %s: %s", Words(env.Phase), environment, env.Message)
	default:
		return waiting("NotHealthy", "the release becomes healthy in "+environment, "%s in %s", Words(env.Phase), environment)
	}
}

func judgeApproval(in Input, c v1alpha1.ApprovalCriterion) outcome {
	need := max(c.Minimum, 1)
	how := fmt.Sprintf("%d approval(s) by somebody who may approve at gate %s: kubectl sirrat approve %s %s", need, in.Name, in.Release, in.Name)
	if !in.Guarded {
		return waiting("NotGuarded", "the operator restores the admission policy for approvals", "approvals are not protected: %s", in.GuardMessage)
	}
	var users, excluded, stale []string
	for _, a := range in.Approvals {
		switch {
		case a.Decision != v1alpha1.DecisionApproved:
		case a.Stale != "":
			stale = append(stale, a.User+" ("+a.Stale+")")
		case a.BundleHash == "" || a.BundleHash != in.BundleHash:
			stale = append(stale, a.User+" (for another bundle)")
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

func judgeKarma(in Input, c v1alpha1.KarmaCriterion) outcome {
	if in.Karma < c.Minimum {
		return waiting("KarmaTooLow", "better evidence", "karma %d is below %d", in.Karma, c.Minimum)
	}
	return passed("KarmaReached", "karma %d reaches %d", in.Karma, c.Minimum)
}

func judgeEnvironment(in Input) outcome {
	if !in.GuardedExists {
		return waiting("NoEnvironment", "somebody declares the Environment "+in.Spec.Environment, "environment %s does not exist", in.Spec.Environment)
	}
	return passed("Exists", "")
}

func judgeBundle(in Input) outcome {
	switch {
	case !in.GuardedExists || in.BundleHash != "":
		return passed("Frozen", "")
	case in.BundleProblem != "":
		return waiting("BundleInvalid", "somebody mends the Environment "+in.Spec.Environment, "%s: %s", in.Spec.Environment, in.BundleProblem)
	}
	for _, c := range in.Spec.Criteria {
		if c.Images != nil {
			return passed("Declared", "") // a declared criterion says the same, with the cause
		}
	}
	return waiting("NotFrozen", "", "the images are not all pinned yet")
}

func judgeBridge(in Input) outcome {
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
		return waiting("NoVersion", fmt.Sprintf("a developer sets spec.version: kubectl patch release %s --type merge -p '{\"spec\":{\"version\":\"v1.2.3\"}}'", in.Release),
			"the release has no version, which the tags of %s need", in.Spec.Environment)
	}
	return passed("Versioned", "")
}

func judgeOrder(in Input) outcome {
	if in.Spec.Mode == v1alpha1.ModeAutomatic && in.SupersededBy != "" {
		return refused("Superseded", "", "release %s is newer and already in %s", in.SupersededBy, in.Spec.Environment)
	}
	return passed("Newest", "")
}

func judgeOutcome(in Input) outcome {
	if in.Failed != "" {
		return refused("FailedThere", fmt.Sprintf("a new commit, or a retry: kubectl annotate release %s %s=%s@1 --overwrite", in.Release, v1alpha1.AnnotationRetry, in.Spec.Environment),
			"%s", in.Failed)
	}
	return passed("NotFailed", "")
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

// Words is a release's phase in an environment as people say it.
func Words(phase string) string {
	switch phase {
	case v1alpha1.PhaseRolledBack:
		return "rolled back"
	case v1alpha1.PhaseReturned:
		return "taken back"
	case v1alpha1.PhaseAuthorized:
		return "authorised"
	}
	return strings.ToLower(phase)
}
