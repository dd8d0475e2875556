// SPDX-License-Identifier: Apache-2.0

// Package gate judges: it turns stored evidence into the verdict of one gate on one release.
//
// It is pure. It has no client, context, logger, clock or randomness: `now` is part of the input, and every text a user
// reads about a gate (conditions, API answers, the command line) is written here and nowhere else. It may import
// api/v1alpha1, internal/evidence, internal/karma, internal/calendar, internal/maven and the expression language.
package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// Input is all that a verdict depends on.
type Input struct {
	Name string
	Spec v1alpha1.QualityGateSpec

	Project   string
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
	// BundleHash is the hash of the guarded environment's bundle now; "" with BundleProblem saying why. A bundle that the
	// servers refuse has both.
	BundleHash    string
	BundleProblem string
	// After is the environment before the guarded one; "" if it is the first.
	After string
	// Pinned are the frozen images.
	Pinned []v1alpha1.FrozenImage
	// Signatures is the guarded environment's policy; nil when it has none.
	Signatures *Signatures
	// SignatureRecords and SBOMRecords are what the registry had at the images.
	SignatureRecords []v1alpha1.SignatureRecord
	SBOMRecords      []v1alpha1.SBOMRecord
	// Images are the names of the frozen images; Artifacts the release's Maven coordinates.
	Images    []string
	Artifacts []string
	// Facts are what expressions see of the release.
	Facts Facts
	// Window is when the guarded environment lets anybody in; nil for always.
	Window *v1alpha1.Window
	// Hold says why nothing opens by itself there; "" when it may.
	Hold string
	// Debts are of other releases, at gates that guard the same environment.
	Debts []v1alpha1.Debt
	// Reservations are the open ones of earlier PVs that have a deadline.
	Reservations []Reservation
	// Roles are the roles of people, by user name, as Project.spec.members lists them.
	Roles map[string][]string
	// Module says that the project is a module: its gates guard publications, and nothing of it is deployed.
	Module bool
	// Unpassed are the gates before this one, of those that guard a publication, which have not opened.
	Unpassed []string
	// Changed says which artifact is another one than was judged; "" if none is.
	Changed string
	// Modules are what is known of the modules that criteria ask about, by group:artifact:version.
	Modules map[string]Module
	// Bridge names the project's environments; nil while they are not known.
	Bridge []string
	// GuardedExists says that the guarded environment is declared.
	GuardedExists bool
	// Decommissioned says that the guarded environment is taken down: nobody is let in.
	Decommissioned bool
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

// Facts are what a release says of itself.
type Facts struct {
	Commit, Branch, Version, Changelog string
	Reversible                         bool
}

// Reservation is an open reservation of a PV of another release.
type Reservation struct {
	PV       string
	Number   int // from 1
	Text     string
	Owner    string
	Deadline string // a date
}

// Judgement is a verdict, and the first moment at which time alone may change it or its words; zero if it cannot.
type Judgement struct {
	v1alpha1.GateVerdict
	Recheck time.Time
}

// outcome is one criterion's judgement.
type outcome struct {
	verdict v1alpha1.Verdict
	reason  string
	message string
	needs   string
	until   time.Time // when it changes by itself: a wait ends, or what holds expires; zero if it does not
	look    time.Time // when something else may be said by itself, if that is before until; zero if it is not
}

// changing adds the moment at which an outcome changes by itself.
func (o outcome) changing(at time.Time) outcome { o.until = at; return o }

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
	// CriterionSignature is told where the guarded environment asks for signatures, whether it holds or not.
	CriterionSignature  = "(signature)"
	criterionOrder      = "(order)"
	criterionHold       = "(hold)"
	criterionDebt       = "(debt)"
	criterionReserved   = "(reservations)"
	criterionWindow     = "(window)"
	criterionOutcome    = "(outcome)"
	criterionRejection  = "(rejection)"
	criterionBreakGlass = "(break-glass)"
)

// Judge is the verdict: Refused if anything is refused, else Waiting if anything is missing, else Passed. Break-glass
// opens a gate whose criteria do not hold, but never one whose bundle, version or environment is missing, or whose images are
// not signed as the environment demands.
func Judge(in Input) Judgement {
	j := Judgement{GateVerdict: v1alpha1.GateVerdict{Name: in.Name, Number: in.Spec.Number, Environment: in.Spec.Environment}}
	var until time.Time
	add := func(name string, o outcome) {
		j.Criteria = append(j.Criteria, v1alpha1.CriterionVerdict{
			Name: name, Verdict: o.verdict, Reason: o.reason, Message: o.message, Needs: o.needs,
		})
		if o.verdict != v1alpha1.VerdictPassed && o.until.After(until) {
			until = o.until
		}
	}
	look := func(o outcome) outcome {
		for _, at := range []time.Time{o.until, o.look} {
			if at.After(in.Now) {
				j.Recheck = sooner(j.Recheck, at)
			}
		}
		return o
	}
	glass := brokenGlass(in)
	if glass != nil && in.Guarded {
		add(criterionBreakGlass, passed("BrokeGlass", "opened by %s: %s", glass.User, glass.Reason))
	} else {
		glass = nil
		for _, c := range in.Spec.Criteria {
			add(c.Name, look(judgeCriterion(in, c)))
		}
	}
	for _, s := range standing {
		if glass != nil && s.breakable {
			continue
		}
		if o := look(s.judge(in)); o.verdict != v1alpha1.VerdictPassed || s.told && o.message != "" {
			add(s.name, o)
		}
	}
	summarise(&j.GateVerdict, until)
	return j
}

// sooner is the first of two moments; a zero one does not count.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// standing are the conditions of every gate; they are listed only when they do not hold. Those that are breakable do not
// matter to a gate that was opened by break-glass; those that are told are listed when they hold, too.
var standing = []struct {
	name      string
	breakable bool
	told      bool
	judge     func(Input) outcome
}{
	{criterionEnvironment, false, false, judgeEnvironment},
	{criterionBundle, false, false, judgeBundle},
	{criterionBridge, false, false, judgeBridge},
	{criterionVersion, false, false, judgeVersion},
	{CriterionSignature, false, true, judgeSignatures},
	{criterionOrder, false, false, judgeOrder},
	{criterionOutcome, false, false, judgeOutcome},
	{criterionRejection, false, false, judgeRejection},
	{criterionHold, true, false, judgeHold},
	{criterionDebt, true, false, judgeDebt},
	{criterionReserved, true, false, judgeReservations},
	{criterionWindow, true, false, judgeWindow},
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
		if c.Needs != "" && !slices.Contains(v.WaitingFor, c.Needs) {
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
	case c.Artifact != nil:
		return judgeArtifact(in, *c.Artifact)
	case c.Freshness != nil:
		return judgeFreshness(in, *c.Freshness)
	case c.Window != nil:
		return judgeCalendar(in, *c.Window)
	case c.CEL != nil:
		return judgeCEL(in, *c.CEL)
	case c.SBOM != nil:
		return judgeSBOM(in, *c.SBOM)
	case c.Artifacts != nil:
		return judgeArtifacts(in)
	case c.Modules != nil:
		return judgeModules(in, *c.Modules)
	}
	return refused("UnknownCriterion", "the operator upgrades SIRRAT or removes the criterion", "criterion %s is of a kind that this version does not know", c.Name)
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
