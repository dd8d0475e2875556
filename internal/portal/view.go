// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/page"
)

// facts are the objects that a page is made of.
type facts struct {
	project      v1alpha1.Project
	release      v1alpha1.Release
	gates        []v1alpha1.QualityGate
	environments []v1alpha1.Environment
}

// tone is how something fares at a glance. Each has a sign and a colour, and words stand beside both.
type tone string

const (
	good tone = "good" // done, well
	busy tone = "busy" // goes on by itself
	wait tone = "wait" // waits for somebody or something
	bad  tone = "bad"  // refused, failed
	idle tone = "idle" // not reached yet, or over
)

// mark is a tone with its words.
type mark struct {
	Tone tone
	Text string
}

// view is what a page says. Every text in it is fit to be shown.
type view struct {
	ProjectName, Project, Release  string
	Title, Version, Branch, Commit string
	State                          mark
	Next                           string // in the words of the controllers
	Judged                         bool   // there are gates' verdicts
	Karma, Works                   int32
	Level                          string
	Breakdown                      []figure
	Steps                          []step
	Troubles                       []trouble
	Images                         []image
	Pins                           []image
	Artifacts                      []string
	Read                           time.Time
}

type figure struct {
	Name        string
	Points, Max int32
	Message     string
}

// step of the bridge: a gate and what it guards, or an environment that no gate guards any more.
type step struct {
	Gate        *gateView
	Environment *environmentView
	Here        bool // the first that is not passed
}

type gateView struct {
	Name, Environment string
	Number            int32
	Mode              string
	Verdict           mark
	Message           string
	Awaited           []string
	Earliest          time.Time // zero: not known
	Criteria          []criterion
	Open              bool // its criteria are shown at once
}

type criterion struct {
	Name    string
	Verdict mark
	Label   string // why, in the page's language; "" for a reason without a text
	Message string // why, in the words of the gates
	Needs   string
}

type environmentView struct {
	Name           string
	Phase          mark
	SinceText      string // what began then
	Since          time.Time
	Counted        bool // the hosts are known
	Ready, Matched int32
	External       bool // deployed by a pipeline
}

// trouble is a condition that is not well.
type trouble struct{ Label, Message string }

type image struct{ Name, Reference, Digest string }

// newView is what the page of a release says in a language. It is pure.
func newView(f facts, language string, now time.Time) *view {
	t := texts.In(language)
	st, spec := f.release.Status, f.release.Spec
	v := &view{
		ProjectName: cmp.Or(f.project.Spec.DisplayName, f.project.Name), Project: f.project.Name, Release: f.release.Name,
		Version: spec.Version, Branch: spec.Branch, Commit: spec.Commit,
		Judged: len(st.Gates) > 0, Karma: st.Karma, Works: st.Works, Level: st.Level, Next: st.Next, Read: now,
		Artifacts: artifactsOf(f.release), Troubles: troublesOf(t, st.Conditions),
	}
	v.Title = cmp.Or(spec.Version, v1alpha1.ShortSHA(spec.Commit))
	for _, k := range st.KarmaBreakdown {
		v.Breakdown = append(v.Breakdown, figure{k.Name, k.Points, k.Max, k.Message})
	}
	if b := st.Bundle; b != nil {
		for _, i := range b.Images {
			v.Images = append(v.Images, image{i.Name, i.Repository, i.Digest})
		}
		for _, p := range b.Pins {
			v.Pins = append(v.Pins, image{"", p.Reference, p.Digest})
		}
	}
	v.Steps = stepsOf(t, f)
	v.State = stateOf(t, st)
	if v.State.Tone == good { // nothing comes next; the state says it
		v.Next = ""
	}
	page.EachText(v, hider(serversOf(f.environments)))
	return v
}

func artifactsOf(r v1alpha1.Release) (out []string) {
	for _, a := range r.Status.Artifacts {
		out = append(out, a.Coordinates)
	}
	if len(out) == 0 {
		return slices.Clone(r.Spec.Artifacts)
	}
	return out
}

// serversOf are the names of the servers that texts may name.
func serversOf(environments []v1alpha1.Environment) (out []string) {
	for _, e := range environments {
		for _, h := range e.Status.Hosts {
			out = append(out, h.Name)
		}
	}
	return out
}

// standing is the first gate that has not passed; nil when all have.
func standing(gates []v1alpha1.GateVerdict) *v1alpha1.GateVerdict {
	for i := range gates {
		if gates[i].Verdict != v1alpha1.VerdictPassed {
			return &gates[i]
		}
	}
	return nil
}

// states are the reasons of a Release's condition Ready, as they show at a glance.
var states = map[string]tone{
	v1alpha1.ReasonCrossed: good, v1alpha1.ReasonPublished: good, v1alpha1.ReasonCrossing: busy, v1alpha1.ReasonWaiting: wait,
	v1alpha1.ReasonRefused: bad, v1alpha1.ReasonRejected: bad, v1alpha1.ReasonRolledBack: bad, v1alpha1.ReasonPVRefused: bad,
	v1alpha1.ReasonSuperseded: idle,
}

// stateOf says where the release stands, as the controllers decided.
func stateOf(t translate, st v1alpha1.ReleaseStatus) mark {
	ready := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return mark{idle, t("state.none")}
	}
	tone, ok := states[ready.Reason]
	if !ok { // a reason of a later version
		return mark{wait, t("state.unknown")}
	}
	at, g := "", standing(st.Gates)
	switch {
	case ready.Reason == v1alpha1.ReasonCrossed && st.Reached != "":
		at = st.Reached
	case g != nil && (ready.Reason == v1alpha1.ReasonWaiting || ready.Reason == v1alpha1.ReasonRefused || ready.Reason == v1alpha1.ReasonRejected):
		at = g.Name
	}
	if at == "" {
		return mark{tone, t("state." + ready.Reason)}
	}
	return mark{tone, t("state."+ready.Reason+".at", at)}
}

type translate = func(key string, args ...any) string

// stepsOf are the gates in their order, each with the environment that it guards.
func stepsOf(t translate, f facts) (out []step) {
	verdicts := slices.Clone(f.release.Status.Gates)
	slices.SortStableFunc(verdicts, func(a, b v1alpha1.GateVerdict) int { return cmp.Compare(a.Number, b.Number) })
	here := standing(verdicts)
	shown := map[string]bool{}
	for i, g := range verdicts {
		s := step{Gate: gateOf(t, f, g, here), Here: here != nil && here.Name == g.Name}
		// Of several gates that guard one environment, the last lets in.
		last := !slices.ContainsFunc(verdicts[i+1:], func(o v1alpha1.GateVerdict) bool { return o.Environment == g.Environment })
		if g.Environment != "" && last {
			s.Environment, shown[g.Environment] = environmentOf(t, f, g.Environment), true
		}
		out = append(out, s)
	}
	for _, e := range f.release.Status.Environments {
		if !shown[e.Name] {
			out = append(out, step{Environment: environmentOf(t, f, e.Name)})
		}
	}
	return out
}

// reasonBrokeGlass is that of the criterion of a gate that was opened in an emergency: it is loud.
const reasonBrokeGlass = "BrokeGlass"

func gateOf(t translate, f facts, g v1alpha1.GateVerdict, here *v1alpha1.GateVerdict) *gateView {
	v := &gateView{Name: g.Name, Number: g.Number, Environment: g.Environment, Verdict: verdictOf(t, "gate.", g.Verdict)}
	for _, o := range f.gates {
		if o.Name == g.Name {
			v.Mode = t("mode." + cmp.Or(o.Spec.Mode, v1alpha1.ModeManual))
		}
	}
	current := here != nil && here.Name == g.Name
	v.Open = current || g.Verdict == v1alpha1.VerdictRefused || slices.ContainsFunc(g.Criteria, func(c v1alpha1.CriterionVerdict) bool { return c.Reason == reasonBrokeGlass })
	if g.Verdict != v1alpha1.VerdictPassed { // of one that is passed, the criteria say everything
		v.Message = g.Message
		v.Awaited = slices.Clone(g.WaitingFor)
		if g.Earliest != nil && g.Verdict == v1alpha1.VerdictWaiting {
			v.Earliest = g.Earliest.Time
		}
	}
	if !current && g.Verdict == v1alpha1.VerdictWaiting { // another one comes first
		v.Verdict = mark{idle, t("gate.later")}
	}
	for _, c := range g.Criteria {
		v.Criteria = append(v.Criteria, criterion{
			Name: strings.Trim(c.Name, "()"), Verdict: verdictOf(t, "criterion.", c.Verdict), Label: labelOf(t, c.Reason), Message: c.Message, Needs: c.Needs,
		})
	}
	return v
}

// verdictOf never shows what it does not know as passed.
func verdictOf(t translate, of string, v v1alpha1.Verdict) mark {
	switch v {
	case v1alpha1.VerdictPassed:
		return mark{good, t(of + "passed")}
	case v1alpha1.VerdictRefused:
		return mark{bad, t(of + "refused")}
	}
	return mark{wait, t(of + "waiting")}
}

// labelOf is a reason in the page's language; "" for one that has no text.
func labelOf(t translate, reason string) string {
	if _, ok := texts["reason."+reason]; !ok {
		return ""
	}
	return t("reason." + reason)
}

// phases of a release in an environment, at a glance.
var phases = map[string]tone{
	v1alpha1.PhaseAuthorized: busy, v1alpha1.PhaseDeploying: busy, v1alpha1.PhaseHealthy: good, v1alpha1.PhaseUnhealthy: bad,
	v1alpha1.PhaseFailed: bad, v1alpha1.PhaseRolledBack: bad, v1alpha1.PhaseSuperseded: idle, v1alpha1.PhaseReturned: bad,
}

func environmentOf(t translate, f facts, name string) *environmentView {
	v := &environmentView{Name: name, Phase: mark{idle, t("phase.none")}}
	var declared *v1alpha1.Environment
	for i := range f.environments {
		if f.environments[i].Name == name {
			declared = &f.environments[i]
		}
	}
	v.External = declared != nil && declared.Spec.Hosts == nil
	i := slices.IndexFunc(f.release.Status.Environments, func(e v1alpha1.ReleaseEnvironment) bool { return e.Name == name })
	if i < 0 {
		return v
	}
	e := f.release.Status.Environments[i]
	if tone, ok := phases[e.Phase]; ok {
		v.Phase = mark{tone, t("phase." + e.Phase)}
	} else {
		v.Phase = mark{wait, e.Phase}
	}
	v.SinceText, v.Since = sinceOf(t, e)
	// The counts of an environment are of the release that its hosts are told to run.
	if declared != nil && !v.External && declared.Status.Current != nil && declared.Status.Current.UID == string(f.release.UID) {
		v.Counted, v.Ready, v.Matched = true, declared.Status.HostsReady, declared.Status.HostsMatched
	}
	return v
}

func sinceOf(t translate, e v1alpha1.ReleaseEnvironment) (string, time.Time) {
	switch {
	case e.Phase == v1alpha1.PhaseHealthy && e.HealthySince != nil:
		return t("since.healthy"), e.HealthySince.Time
	case e.Phase == v1alpha1.PhaseSuperseded && e.HealthyUntil != nil:
		return t("since.replaced"), e.HealthyUntil.Time
	}
	return t("since.authorised"), e.AuthorizedAt.Time
}

// told elsewhere on the page: in the state of the release.
var elsewhere = []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}

// unwell are the conditions that are well when they are not True; all others are well when they are.
var unwell = []string{v1alpha1.ConditionDebt, v1alpha1.ConditionHeld, v1alpha1.ConditionSuspended, v1alpha1.ConditionDecommissioned, v1alpha1.ConditionDrifted}

func troublesOf(t translate, conditions []metav1.Condition) (out []trouble) {
	for _, c := range conditions {
		well := metav1.ConditionTrue
		if slices.Contains(unwell, c.Type) {
			well = metav1.ConditionFalse
		}
		if slices.Contains(elsewhere, c.Type) || c.Status == well {
			continue
		}
		label := c.Type
		if _, ok := texts["condition."+c.Type]; ok {
			label = t("condition." + c.Type)
		}
		out = append(out, trouble{label, cmp.Or(c.Message, c.Reason)})
	}
	return out
}
