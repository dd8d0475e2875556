// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/karma"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// snapshot is all that a release's status depends on, gathered at one moment. Everything from here to the new status is
// pure.
type snapshot struct {
	project  *v1alpha1.Project
	release  *v1alpha1.Release
	bridge   []v1alpha1.Environment // in the order of the bridge
	gates    []v1alpha1.QualityGate // by number
	siblings []v1alpha1.Release     // the project's other releases
	results  []v1alpha1.CIResult    // of this commit
	pvs      []v1alpha1.PV          // of this release, oldest first
	otherPVs []v1alpha1.PV          // of the project's other releases, those that are gone included
	// before are the results of the last release on the same branch, named previous; "" if there is none.
	previous string
	before   []v1alpha1.CIResult
	rollouts []v1alpha1.Rollout // of this release
	// modules are what is known, over all projects, of those that gates ask about, by group:artifact:version.
	modules map[string]gate.Module
	hosts   map[string][]rollout.Host
	guard   guardState
	// signatures are the policies of environments that have one.
	signatures map[string]*gate.Signatures
	verifier   string // names the installation in attestations
	// frozenMessage says what is missing when status.bundle is incomplete; with its reason.
	frozenReason, frozenMessage string
	now                         time.Time
}

// unguarded is the value of status.guard while admission does not protect approvals.
const unguarded = "none"

// judgeRelease computes the whole status of a release from a snapshot, and the first moment at which time alone may change
// it; bundle is what was frozen so far. It is pure and idempotent: the same snapshot gives the same status.
func judgeRelease(s snapshot, bundle *v1alpha1.Bundle) (v1alpha1.ReleaseStatus, time.Time) {
	old := s.release.Status
	st := v1alpha1.ReleaseStatus{ObservedGeneration: s.release.Generation, Bundle: bundle, Artifacts: old.Artifacts, ArtifactsChecked: old.ArtifactsChecked}
	st.Conditions, st.GitLab = slices.Clone(old.Conditions), old.GitLab // which the GitLab controller writes
	st.Signatures, st.SBOMs = old.Signatures, old.SBOMs                 // written by who looks into the registry
	set := evidenceOn(s.project, s.results, frozenImages(s, bundle))
	st.Evidence = set.Counted
	st.Baseline = baseline(s)
	st.Approvals = recordApprovals(s, bundle)
	var look time.Time
	st.Environments, look = observeEnvironments(s, old.Environments, st.Approvals)
	honourRollbacks(s, &st)
	st.Mirrors = slices.DeleteFunc(slices.Clone(old.Mirrors), func(m v1alpha1.ReleaseMirror) bool { return findEntry(st.Environments, m.Environment) == nil })
	st.Publication = standing(s, bundle, st.Approvals)
	st.Guard = s.guard.recorded()

	// Karma depends on where the release is, gates on karma: two steps, no circle, since authorising changes neither works
	// nor what has been reached.
	score := scoreRelease(s, set, st)
	st.Karma, st.Works, st.Level, st.KarmaBreakdown = score.Karma, score.Works, score.Level, score.Breakdown

	recheck := earlier(judgeGates(s, &st, set), look)
	if st.Reached = reached(s.bridge, st.Environments); st.Publication != nil {
		st.Reached = published
	}
	setReleaseConditions(s, &st)
	sealAttestations(s, &st)
	return st, recheck
}

// earlier is the first of two moments; a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// judgeGates judges every gate in the order of the bridge and forecasts.
func judgeGates(s snapshot, st *v1alpha1.ReleaseStatus, set evidence.Set) time.Time {
	var recheck time.Time
	var way []gate.Crossing
	for i, g := range s.gates {
		in := gateInput(s, *st, set, g)
		v, again := judgeGate(s, st, in, g)
		st.Gates = append(st.Gates, v)
		if g.Spec.Environment == publication {
			way = append(way, gate.Crossing{Input: in})
			recheck = earlier(recheck, again)
			continue
		}
		if last := !slices.ContainsFunc(s.gates[i+1:], func(o v1alpha1.QualityGate) bool { return o.Spec.Environment == g.Spec.Environment }); last {
			open(s, st, g.Spec.Environment)
		}
		if !again.IsZero() && (recheck.IsZero() || again.Before(recheck)) {
			recheck = again
		}
		way = append(way, gate.Crossing{Input: in})
	}
	publish(s, st)
	for i := range way {
		v := &st.Gates[i]
		through := v.Environment == publication || findEntry(st.Environments, v.Environment) != nil
		way[i].Verdict, way[i].Open = v, v.Verdict == v1alpha1.VerdictPassed && through
		for _, e := range st.Environments {
			way[i].Input.Environments[e.Name] = e
		}
	}
	var look time.Time
	st.Earliest, look = gate.Forecast(way, s.now)
	if !look.IsZero() && (recheck.IsZero() || look.Before(recheck)) {
		recheck = look
	}
	return recheck
}

// frozenImages are the project's; nil while they are not all known.
func frozenImages(s snapshot, bundle *v1alpha1.Bundle) []v1alpha1.FrozenImage {
	if s.frozenMessage != "" {
		return nil
	}
	return bundleImages(bundle)
}

// baseline is what the last release on the branch reported; what it was is kept when that release is gone.
func baseline(s snapshot) *v1alpha1.Baseline {
	if s.previous == "" {
		return s.release.Status.Baseline
	}
	return evidence.Reduce(s.before).Baseline(s.previous)
}

// observeEnvironments brings every entry's phase up to date from Rollouts, pipeline reports, PVs and what else runs there. look
// is when time alone may change one; zero for never.
func observeEnvironments(s snapshot, entries []v1alpha1.ReleaseEnvironment, approvals []v1alpha1.ApprovalRecord) (out []v1alpha1.ReleaseEnvironment, look time.Time) {
	reports := evidence.Deployments(s.results)
	for _, env := range s.bridge {
		entry := findEntry(entries, env.Name)
		if entry == nil {
			continue
		}
		e := *entry
		switch e.Phase {
		case v1alpha1.PhaseSuperseded, v1alpha1.PhaseReturned, v1alpha1.PhaseFailed, v1alpha1.PhaseRolledBack:
			out = append(out, e) // ends; only a new authorisation changes them
			continue
		}
		state := observe(s, env, e, reports)
		look = earlier(look, state.At)
		e.Phase, e.Message = state.Phase, state.Message
		switch state.Phase {
		case v1alpha1.PhaseHealthy:
			e.HealthySince = healthySince(*entry, state.HealthySince, s.now)
		case v1alpha1.PhaseSuperseded:
			t := metav1.NewTime(s.now.Truncate(time.Second))
			e.HealthyUntil = &t
		default:
			e.HealthySince = nil
		}
		if refusal := refusal(s.pvs, e); refusal != nil {
			e.Phase, e.Message = v1alpha1.PhaseReturned, "the client refused PV "+refusal.Name+": "+refusal.Status.Reason
			e.HealthySince = nil
		}
		if r := rejection(s.gates, approvals, env.Name); r != nil && e.Phase != v1alpha1.PhaseAuthorized && e.Phase != v1alpha1.PhaseSuperseded {
			e.Phase, e.Message = v1alpha1.PhaseReturned, fmt.Sprintf("rejected at gate %s by %s: %s", r.Gate, r.User, r.Reason)
			e.HealthySince = nil
		}
		out = append(out, e)
	}
	return out, look
}

// rejection is a rejection at a gate that guards the environment: where it comes after the deployment, it takes the release
// back all the same. What runs keeps running until another release takes its place.
func rejection(gates []v1alpha1.QualityGate, approvals []v1alpha1.ApprovalRecord, environment string) *v1alpha1.ApprovalRecord {
	for _, g := range gates {
		if g.Spec.Environment != environment {
			continue
		}
		for i, a := range approvals {
			if a.Gate == g.Name && a.Decision == v1alpha1.DecisionRejected {
				return &approvals[i]
			}
		}
	}
	return nil
}

// healthySince bounds what a server says of its own past, since soaks count from it: never before the release was let in,
// never before a sickness that was seen here, and it moves forward only.
func healthySince(before v1alpha1.ReleaseEnvironment, reported *metav1.Time, now time.Time) *metav1.Time {
	floor := metav1.NewTime(before.AuthorizedAt.Truncate(time.Second))
	switch {
	case before.HealthySince != nil:
		floor = *before.HealthySince
	case before.Phase == v1alpha1.PhaseUnhealthy:
		floor = metav1.NewTime(now.Truncate(time.Second))
	}
	if reported == nil || reported.Before(&floor) {
		return &floor
	}
	return reported
}

// observe is the phase of one entry that has not ended.
func observe(s snapshot, env v1alpha1.Environment, e v1alpha1.ReleaseEnvironment, reports map[string]v1alpha1.CIResult) rollout.State {
	if left := leftFor(s.siblings, e); left != "" {
		return rollout.State{Phase: v1alpha1.PhaseRolledBack, Message: left}
	}
	if good := env.Status.LastGood; good != nil && good.UID != string(s.release.UID) && good.AuthorizedAt.After(e.AuthorizedAt.Time) {
		return rollout.State{Phase: v1alpha1.PhaseSuperseded, Message: "replaced by " + good.Release}
	}
	if env.Spec.Hosts == nil {
		return observeReport(e, reports[env.Name])
	}
	var observed []rollout.Observed
	for _, r := range s.rollouts {
		if r.Spec.Environment == env.Name && r.Annotations[v1alpha1.AnnotationAuthorizedAt] == formatMicro(e.AuthorizedAt) {
			observed = append(observed, observedRollout(r))
		}
	}
	switch {
	case len(observed) == 0 && e.Phase == v1alpha1.PhaseAuthorized && env.Spec.Registry != nil && e.Rollback == "":
		return rollout.State{Phase: v1alpha1.PhaseAuthorized, Message: unmirrored(s.release, env)}
	case len(observed) == 0 && e.Phase == v1alpha1.PhaseAuthorized:
		return rollout.State{Phase: v1alpha1.PhaseAuthorized, Message: e.Message}
	case beforeDecommission(env, e.AuthorizedAt):
		return rollout.State{Phase: v1alpha1.PhaseSuperseded, Message: "the environment was decommissioned"}
	case len(observed) == 0:
		return rollout.State{Phase: v1alpha1.PhaseAuthorized, Message: e.Message}
	}
	return rollout.Summarise(s.hosts[env.Name], observed, rollout.StrategyOf(env.Spec.Rollout), s.now)
}

// waitsForPipeline is what there is to say where no agent deploys.
const waitsForPipeline = "waits for the pipeline to deploy and report"

func isExternal(bridge []v1alpha1.Environment, name string) bool {
	return slices.ContainsFunc(bridge, func(e v1alpha1.Environment) bool { return e.Name == name && e.Spec.Hosts == nil })
}

// observeReport goes by the newest report of a pipeline. What had failed before the release was let in is why it is let in once
// more, and not what became of that.
func observeReport(e v1alpha1.ReleaseEnvironment, report v1alpha1.CIResult) rollout.State {
	since, authorized := report.Spec.Received, metav1.NewTime(e.AuthorizedAt.Time.Truncate(time.Second)) // reports have no fraction
	before := since.Before(&authorized)
	switch status := report.Spec.Status; {
	case status == v1alpha1.StatusDeployed && before: // deployed first, authorised later: it counts from then on
		return rollout.State{Phase: v1alpha1.PhaseHealthy, HealthySince: &authorized}
	case status == v1alpha1.StatusDeployed:
		return rollout.State{Phase: v1alpha1.PhaseHealthy, HealthySince: &since}
	case status == v1alpha1.StatusFailed && !before:
		return rollout.State{Phase: v1alpha1.PhaseFailed, Message: "the pipeline reports: failed"}
	case status == v1alpha1.StatusRolledBack && !before:
		return rollout.State{Phase: v1alpha1.PhaseRolledBack, Message: "the pipeline reports: rolled back"}
	}
	return rollout.State{Phase: v1alpha1.PhaseAuthorized, Message: waitsForPipeline}
}

func observedRollout(r v1alpha1.Rollout) rollout.Observed {
	return rollout.Observed{
		Host: strings.TrimPrefix(r.Namespace, v1alpha1.HostNamespacePrefix), Name: r.Name, Sequence: r.Spec.Sequence,
		Phase: r.Status.Phase, Message: r.Status.Message, HealthySince: r.Status.HealthySince, Removal: r.Spec.Remove != nil,
	}
}

// refusal is the PV by which the client refused the release as it was let into the entry's environment.
func refusal(pvs []v1alpha1.PV, e v1alpha1.ReleaseEnvironment) *v1alpha1.PV {
	for i, p := range pvs {
		if p.Spec.Environment == e.Name && p.Status.Decision == v1alpha1.PVRefused && p.Spec.Release.AuthorizedAt.Equal(&e.AuthorizedAt) {
			return &pvs[i]
		}
	}
	return nil
}

func scoreRelease(s snapshot, set evidence.Set, st v1alpha1.ReleaseStatus) karma.Score {
	in := karma.Input{Policy: s.project.Spec.Karma, Evidence: set, Baseline: st.Baseline, Module: s.project.IsModule()}
	in.Crossed = in.Module && st.Publication != nil
	if len(s.bridge) > 0 {
		last := s.bridge[len(s.bridge)-1].Name
		if e := findEntry(st.Environments, last); e != nil {
			in.Crossed = e.HealthySince != nil || e.Phase == v1alpha1.PhaseUnhealthy
			in.RolledBack = e.Phase == v1alpha1.PhaseRolledBack
		}
	}
	for _, p := range s.pvs {
		if p.Status.Decision == v1alpha1.PVRefused {
			in.PVsRefused++
		}
	}
	for _, a := range st.Approvals {
		if brokeGlass(a) {
			in.GlassBroken++
		}
	}
	return karma.Compute(in)
}

// judgeGate judges one gate; what was sent out stands as it was judged.
func judgeGate(s snapshot, st *v1alpha1.ReleaseStatus, in gate.Input, g v1alpha1.QualityGate) (v1alpha1.GateVerdict, time.Time) {
	envName := g.Spec.Environment
	if p := st.Publication; envName == publication && p != nil {
		return keepVerdict(s.release.Status.Gates, g, v1alpha1.ReleaseEnvironment{AuthorizedAt: p.At}), time.Time{}
	}
	entry := findEntry(st.Environments, envName)
	hash := bundleHash(st.Bundle, envName)
	retry := retryFor(s.release, envName)
	if entry != nil && (settled(*entry, hash) || returning(*entry, hash)) {
		return keepVerdict(s.release.Status.Gates, g, *entry), time.Time{}
	}
	if entry != nil && rolledBackWith(*entry, hash, retry) {
		in.Failed = fmt.Sprintf("%s in %s: %s", gate.Words(entry.Phase), envName, entry.Message)
	}
	j := gate.Judge(in)
	return j.GateVerdict, j.Recheck
}

// open lets the release into an environment whose gates have all passed, and takes back what was let in but not sent when
// one of them does not pass any more.
func open(s snapshot, st *v1alpha1.ReleaseStatus, environment string) {
	entry, hash := findEntry(st.Environments, environment), bundleHash(st.Bundle, environment)
	if entry != nil && (settled(*entry, hash) || returning(*entry, hash)) {
		return
	}
	shut := slices.ContainsFunc(st.Gates, func(v v1alpha1.GateVerdict) bool {
		return v.Environment == environment && v.Verdict != v1alpha1.VerdictPassed
	})
	switch {
	case !shut && (entry == nil || entry.Phase != v1alpha1.PhaseAuthorized || entry.BundleHash != hash):
		fresh := v1alpha1.ReleaseEnvironment{
			Name: environment, Phase: v1alpha1.PhaseAuthorized, BundleHash: hash, Retry: retryFor(s.release, environment),
			AuthorizedAt: authorizedAt(s, environment, entry),
		}
		if isExternal(s.bridge, environment) { // said at once, so that the next look has nothing to add
			fresh.Message = waitsForPipeline
		}
		st.Environments = putEntry(s.bridge, st.Environments, fresh)
	case shut && entry != nil && entry.Phase == v1alpha1.PhaseAuthorized:
		st.Environments = slices.DeleteFunc(st.Environments, func(e v1alpha1.ReleaseEnvironment) bool { return e.Name == environment })
	}
}

// authorizedAt is now, but always after everything that was ever authorised for the environment, even if the clock was set
// back: the time is the order in which releases replace each other there, and by it Rollouts and PVs are known to belong to an
// authorisation. What was sent or signed under one that has been withdrawn since is never taken for the next one's.
func authorizedAt(s snapshot, environment string, old *v1alpha1.ReleaseEnvironment) metav1.MicroTime {
	at := s.now.Truncate(time.Microsecond)
	after := func(t metav1.MicroTime) {
		if !at.After(t.Time) {
			at = t.Add(time.Microsecond)
		}
	}
	if old != nil {
		after(old.AuthorizedAt)
	}
	for _, other := range s.siblings {
		if e := findEntry(other.Status.Environments, environment); e != nil {
			after(e.AuthorizedAt)
		}
	}
	for _, env := range s.bridge {
		if env.Name == environment && env.Status.Current != nil {
			after(env.Status.Current.AuthorizedAt)
		}
	}
	for _, r := range s.rollouts {
		if sent, err := time.Parse(metav1.RFC3339Micro, r.Annotations[v1alpha1.AnnotationAuthorizedAt]); err == nil && r.Spec.Environment == environment {
			after(metav1.NewMicroTime(sent))
		}
	}
	for _, p := range s.pvs {
		if p.Spec.Environment == environment {
			after(p.Spec.Release.AuthorizedAt)
		}
	}
	return metav1.NewMicroTime(at)
}

// settled says that the entry stands as it was authorised, so that its gate is not judged again: it was sent out with
// this very bundle, or another release has taken its place since.
func settled(e v1alpha1.ReleaseEnvironment, hash string) bool {
	switch e.Phase {
	case v1alpha1.PhaseSuperseded:
		return true
	case v1alpha1.PhaseDeploying, v1alpha1.PhaseHealthy, v1alpha1.PhaseUnhealthy:
		return e.BundleHash == hash
	}
	return false
}

func rolledBackWith(e v1alpha1.ReleaseEnvironment, hash, retry string) bool {
	ended := e.Phase == v1alpha1.PhaseFailed || e.Phase == v1alpha1.PhaseRolledBack
	return ended && e.BundleHash == hash && e.Retry == retry
}

// keepVerdict repeats the verdict under which the entry was authorised, from the status as it was stored.
func keepVerdict(stored []v1alpha1.GateVerdict, g v1alpha1.QualityGate, e v1alpha1.ReleaseEnvironment) v1alpha1.GateVerdict {
	for _, v := range stored {
		if v.Name == g.Name && v.Verdict == v1alpha1.VerdictPassed {
			v.Number, v.Environment = g.Spec.Number, g.Spec.Environment
			return v
		}
	}
	return v1alpha1.GateVerdict{Name: g.Name, Number: g.Spec.Number, Environment: g.Spec.Environment, Verdict: v1alpha1.VerdictPassed,
		Message: "authorised on " + e.AuthorizedAt.UTC().Format(time.RFC3339)}
}

func gateInput(s snapshot, st v1alpha1.ReleaseStatus, set evidence.Set, g v1alpha1.QualityGate) gate.Input {
	spec := s.release.Spec
	in := gate.Input{
		Name: g.Name, Spec: g.Spec, Project: s.project.Name, Release: s.release.Name, CreatedBy: s.release.Annotations[v1alpha1.AnnotationCreatedBy],
		Evidence: set, Karma: st.Karma, Works: st.Works, Artifacts: spec.Artifacts,
		Facts: gate.Facts{Commit: spec.Commit, Branch: spec.Branch, Version: spec.Version, Changelog: spec.Changelog,
			Reversible: spec.Reversible == nil || *spec.Reversible},
		Frozen: s.frozenMessage == "", FrozenMessage: s.frozenMessage, FrozenNeeds: frozenNeeds(s.frozenReason),
		Environments: map[string]v1alpha1.ReleaseEnvironment{},
		Debts:        debtsAt(s, g.Spec.Environment), Reservations: openReservations(s.otherPVs), Roles: rolesOf(s.project),
		SignatureRecords: st.Signatures, SBOMRecords: st.SBOMs,
		Guarded: s.guard.ok, GuardMessage: s.guard.message, Now: s.now,
	}
	for _, e := range st.Environments {
		in.Environments[e.Name] = e
	}
	for _, env := range s.bridge {
		if env.Name == g.Spec.Environment {
			guardedEnvironment(s, &in, env)
		}
	}
	if st.Bundle != nil {
		for _, img := range st.Bundle.Images {
			in.Images = append(in.Images, img.Name)
		}
		in.Pinned = st.Bundle.Images
	}
	if b := findBundle(st.Bundle, g.Spec.Environment); b != nil {
		in.BundleHash, in.BundleProblem = b.Hash, b.Problem
	}
	for _, a := range st.Approvals {
		if a.Gate == g.Name {
			in.Approvals = append(in.Approvals, a)
		}
	}
	for _, e := range s.bridge {
		in.Bridge = append(in.Bridge, e.Name)
	}
	in.PV = newestPV(s, st, g)
	moduleInput(s, st, g, &in)
	return in
}

// guardedEnvironment is what the environment behind a gate adds.
func guardedEnvironment(s snapshot, in *gate.Input, env v1alpha1.Environment) {
	in.GuardedExists, in.After, in.Window = true, env.Spec.After, env.Spec.Window
	in.Decommissioned = env.Spec.Decommission != nil
	in.Signatures = s.signatures[env.Name]
	in.NeedsVersion = s.release.Spec.Version == "" && tagsNeedVersion(env)
	switch env.Spec.Supersede {
	case v1alpha1.SupersedeNever:
	case v1alpha1.SupersedeAlways:
		in.SupersededBy = newerIn(s.release, s.siblings, env.Name)
	default:
		if in.Spec.Mode == v1alpha1.ModeAutomatic {
			in.SupersededBy = newerIn(s.release, s.siblings, env.Name)
		}
	}
	if hold := holdOn(env, s.siblings, s.release); hold != nil {
		in.Hold = "release " + hold.Release + " " + hold.Message
	}
}

// openReservations are those of PVs that nobody has lifted.
func openReservations(pvs []v1alpha1.PV) []gate.Reservation {
	var out []gate.Reservation
	for _, p := range pvs {
		for i, r := range p.Status.Reservations {
			if r.Lifted == "" {
				out = append(out, gate.Reservation{PV: p.Name, Number: i + 1, Text: r.Text, Owner: r.Owner, Deadline: r.Deadline})
			}
		}
	}
	return out
}

// rolesOf are the roles of the people whom Project.spec.members lists by name.
func rolesOf(p *v1alpha1.Project) map[string][]string {
	out := map[string][]string{}
	for _, m := range memberRoles {
		for _, user := range m.members(p.Spec.Members) {
			out[user] = append(out[user], m.role)
		}
	}
	return out
}

func frozenNeeds(reason string) string {
	switch reason {
	case v1alpha1.ReasonImageNotFound:
		return "CI pushes the image"
	case v1alpha1.ReasonArtifactMissing:
		return "CI publishes the artifact, with checksums"
	case v1alpha1.ReasonArtifactInvalid:
		return "CI publishes the artifact anew, or a release with another version"
	case v1alpha1.ReasonNoVersion:
		return "a developer sets spec.version of the release"
	case v1alpha1.ReasonNoRegistry:
		return "somebody mends spec.packageRegistry of the Project"
	case v1alpha1.ReasonInvalid:
		return "somebody mends spec.images of the Project"
	case v1alpha1.ReasonRegistryDenied:
		return "somebody mends the account of the Project, or its rights in the registry"
	case v1alpha1.ReasonDigestMismatch:
		return "CI pushes the image again"
	case v1alpha1.ReasonRegistryBusy:
		return "the registry answers"
	}
	return "the registry can be read" // which may take its owner, the operator of this server, or a mended Secret: the message says
}

// newestPV is the PV that counts at a gate: the newest, unless the release was let into the PV's environment anew since.
func newestPV(s snapshot, st v1alpha1.ReleaseStatus, g v1alpha1.QualityGate) *gate.PV {
	if len(s.pvs) == 0 || !slices.ContainsFunc(g.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.PV != nil }) {
		return nil
	}
	p := s.pvs[len(s.pvs)-1]
	out := &gate.PV{Name: p.Name, Decision: p.Status.Decision, Reason: p.Status.Reason, Reservations: len(p.Status.Reservations), BundleHash: p.Spec.Release.BundleHash}
	if e := findEntry(st.Environments, p.Spec.Environment); e != nil {
		if p.Status.Decision == v1alpha1.PVRefused && !p.Spec.Release.AuthorizedAt.Equal(&e.AuthorizedAt) {
			return nil // approved again since the refusal: a new PV will be opened
		}
		out.TestedHash = e.BundleHash
	}
	if c := findCondition(p.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Reason == v1alpha1.ReasonBadSignature {
		out.Problem = c.Message
	}
	return out
}

// newerIn names the newest of the siblings that are newer and were let into the environment without failing there.
func newerIn(r *v1alpha1.Release, siblings []v1alpha1.Release, environment string) string {
	var newest *v1alpha1.Release
	for i := range siblings {
		o := &siblings[i]
		if !o.CreationTimestamp.After(r.CreationTimestamp.Time) || newest != nil && !newerRelease(o, newest) {
			continue
		}
		if e := findEntry(o.Status.Environments, environment); e != nil {
			switch e.Phase {
			case v1alpha1.PhaseAuthorized, v1alpha1.PhaseDeploying, v1alpha1.PhaseHealthy, v1alpha1.PhaseUnhealthy, v1alpha1.PhaseSuperseded:
				newest = o
			}
		}
	}
	if newest == nil {
		return ""
	}
	return newest.Name
}

// retryFor is the value of the retry annotation, if it is for this environment ("<environment>@<anything>").
func retryFor(r *v1alpha1.Release, environment string) string {
	value := r.Annotations[v1alpha1.AnnotationRetry]
	if env, _, ok := strings.Cut(value, "@"); ok && env == environment {
		return value
	}
	if e := findEntry(r.Status.Environments, environment); e != nil {
		return e.Retry // asked for another environment since: this one's stands
	}
	return ""
}

func findEntry(entries []v1alpha1.ReleaseEnvironment, name string) *v1alpha1.ReleaseEnvironment {
	for i := range entries {
		if entries[i].Name == name {
			return &entries[i]
		}
	}
	return nil
}

// putEntry adds or replaces an entry, keeping the order of the bridge.
func putEntry(bridge []v1alpha1.Environment, entries []v1alpha1.ReleaseEnvironment, e v1alpha1.ReleaseEnvironment) []v1alpha1.ReleaseEnvironment {
	var out []v1alpha1.ReleaseEnvironment
	for _, env := range bridge {
		if env.Name == e.Name {
			out = append(out, e)
		} else if old := findEntry(entries, env.Name); old != nil {
			out = append(out, *old)
		}
	}
	return out
}

func findBundle(b *v1alpha1.Bundle, environment string) *v1alpha1.EnvironmentBundle {
	if b == nil {
		return nil
	}
	for i := range b.Environments {
		if b.Environments[i].Environment == environment {
			return &b.Environments[i]
		}
	}
	return nil
}

func bundleHash(b *v1alpha1.Bundle, environment string) string {
	if e := findBundle(b, environment); e != nil {
		return e.Hash
	}
	return ""
}

func lastName(bridge []v1alpha1.Environment) string {
	if len(bridge) == 0 {
		return ""
	}
	return bridge[len(bridge)-1].Name
}

func formatMicro(t metav1.MicroTime) string { return t.UTC().Format(metav1.RFC3339Micro) }

// sameStatus compares what is stored with what was computed; equal statuses are not written.
func sameStatus(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }
