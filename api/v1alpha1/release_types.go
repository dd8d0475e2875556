// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Verdict of a gate on a release.
type Verdict string

// Verdicts.
const (
	// VerdictPassed: every criterion held; the environment was authorised.
	VerdictPassed Verdict = "Passed"
	// VerdictWaiting: something is missing that may still come.
	VerdictWaiting Verdict = "Waiting"
	// VerdictRefused: something failed, or somebody refused; waiting does not help.
	VerdictRefused Verdict = "Refused"
)

// Phases of a release in an environment.
const (
	PhaseAuthorized = "Authorized" // the gate opened; nothing sent yet
	PhaseDeploying  = "Deploying"  // Rollouts exist
	PhaseHealthy    = "Healthy"    // healthy on every host
	PhaseUnhealthy  = "Unhealthy"  // was healthy, is not at the moment
	PhaseFailed     = "Failed"     // did not become healthy, and nothing was there to go back to
	PhaseRolledBack = "RolledBack" // did not become healthy; the previous version serves
	PhaseSuperseded = "Superseded" // another release took its place
	PhaseReturned   = "Returned"   // taken back: the client refused the PV
)

// Release is one commit on its way over the bridge. Its spec is immutable, but for version, which may be set once.
// Approve it with `kubectl annotate release <name> approval.sirrat.dynors.com/<gate>=<your user name>`.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=releases,scope=Namespaced,shortName=rel,categories=sirrat
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Branch",type=string,JSONPath=`.spec.branch`,priority=1
// +kubebuilder:printcolumn:name="Karma",type=integer,JSONPath=`.status.karma`
// +kubebuilder:printcolumn:name="Level",type=string,JSONPath=`.status.level`
// +kubebuilder:printcolumn:name="Reached",type=string,JSONPath=`.status.reached`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.next`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$') && size(self.metadata.name) <= 63",message="a release's name is at most 63 characters of a-z, 0-9, '-' and '.'"
type Release struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is released.
	Spec ReleaseSpec `json:"spec"`
	// How far it came. Written by the controllers alone.
	Status ReleaseStatus `json:"status,omitempty"`
}

// ReleaseSpec identifies what is released.
//
// +kubebuilder:validation:XValidation:rule="self.commit == oldSelf.commit",message="commit is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.branch) ? self.branch : \"\") == (has(oldSelf.branch) ? oldSelf.branch : \"\") || !has(oldSelf.branch) || size(oldSelf.branch) == 0",message="branch is immutable once set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.version) || size(oldSelf.version) == 0 || (has(self.version) && self.version == oldSelf.version)",message="version may be set once: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.images) ? self.images : []) == (has(oldSelf.images) ? oldSelf.images : [])",message="images is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.compose) ? self.compose : {}) == (has(oldSelf.compose) ? oldSelf.compose : {})",message="compose is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.artifacts) ? self.artifacts : []) == (has(oldSelf.artifacts) ? oldSelf.artifacts : [])",message="artifacts is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.changelog) ? self.changelog : \"\") == (has(oldSelf.changelog) ? oldSelf.changelog : \"\")",message="changelog is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.knownDefects) ? self.knownDefects : []) == (has(oldSelf.knownDefects) ? oldSelf.knownDefects : [])",message="knownDefects is immutable: create another release"
// +kubebuilder:validation:XValidation:rule="(has(self.reversible) ? self.reversible : true) == (has(oldSelf.reversible) ? oldSelf.reversible : true)",message="reversible is immutable: create another release"
type ReleaseSpec struct {
	// Full commit: 40 or 64 hex digits, lower case.
	// +kubebuilder:validation:Pattern=`^([0-9a-f]{40}|[0-9a-f]{64})$`
	Commit string `json:"commit"`
	// Branch it was built from. Example: release/1.3.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Branch string `json:"branch,omitempty"`
	// Semantic version with a leading v (semver.org). May be set later, once; needed where a tag template names it.
	// Example: v1.3.0.
	// +optional
	// +kubebuilder:validation:Pattern=`^(v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?$`
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// Digests of the project's images. Default: each is resolved from the tag dev-<sha7> when the bundle is frozen.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	Images []ReleaseImage `json:"images,omitempty"`
	// Compose files by environment name, instead of the Environment's own.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Compose map[string]ComposeText `json:"compose,omitempty"`
	// Maven coordinates group:artifact:version that belong to the release. Default for a module: those of Project.spec.maven
	// with the release's version, without its leading v.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=300
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9_.\-]+:[A-Za-z0-9_.\-]+:[A-Za-z0-9_.+\-]+$`
	Artifacts []string `json:"artifacts,omitempty"`
	// What changed, for the client to read. Plain text.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	Changelog string `json:"changelog,omitempty"`
	// Defects that are known and delivered, as printed in the PV. Plain text.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1000
	KnownDefects []string `json:"knownDefects,omitempty"`
	// Whether it can be rolled back automatically after its migrations ran. Default true.
	// +optional
	// +kubebuilder:default=true
	Reversible *bool `json:"reversible,omitempty"`
}

// ComposeText is a compose file, at most 256 KiB.
//
// +kubebuilder:validation:MaxLength=262144
type ComposeText string

// ReleaseImage pins an image of the project.
type ReleaseImage struct {
	// Name, as in Project.spec.images.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Digest of the manifest or index. Example: sha256:… (64 hex digits).
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	Digest string `json:"digest"`
}

// ReleaseStatus is the release's place on the bridge.
type ReleaseStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Karma, 0–100.
	// +optional
	Karma int32 `json:"karma"`
	// Level of the karma.
	// +optional
	Level string `json:"level,omitempty"`
	// The part of karma that the code earned by itself, 0–50; it shortens soaks.
	// +optional
	Works int32 `json:"works"`
	// Every figure that karma is the sum of.
	// +optional
	// +listType=atomic
	KarmaBreakdown []KarmaLine `json:"karmaBreakdown,omitempty"`
	// Farthest environment in which it is or was healthy; "published" for a module's release that is.
	// +optional
	Reached string `json:"reached,omitempty"`
	// What happens next, or what it waits for, in one line.
	// +optional
	Next string `json:"next,omitempty"`
	// The frozen bundle: what is approved and deployed.
	// +optional
	Bundle *Bundle `json:"bundle,omitempty"`
	// Artifacts of a module's release in the package registry.
	// +optional
	// +listType=map
	// +listMapKey=coordinates
	Artifacts []ReleaseArtifact `json:"artifacts,omitempty"`
	// Hash of what people had decided when the artifacts were last found to be those that were read. A release counts as
	// published only when they were looked at after the last decision.
	// +optional
	ArtifactsChecked string `json:"artifactsChecked,omitempty"`
	// Since when a module's release counts as published; absent while it does not.
	// +optional
	Publication *Publication `json:"publication,omitempty"`
	// Names of the CIResults that count, sorted. A newly stored result has been judged once its name, or that of the
	// result that outweighs it, is here.
	// +optional
	// +listType=set
	Evidence []string `json:"evidence,omitempty"`
	// What tests and coverage are compared with: the last release on the same branch.
	// +optional
	Baseline *Baseline `json:"baseline,omitempty"`
	// Where it was sent back to, by whom and why; absent when it was not.
	// +optional
	Returned *Returned `json:"returned,omitempty"`
	// When it can be in the last environment at the earliest, in words.
	// +optional
	Earliest string `json:"earliest,omitempty"`
	// The gates' verdicts, by number.
	// +optional
	// +listType=map
	// +listMapKey=name
	Gates []GateVerdict `json:"gates,omitempty"`
	// The environments it was authorised for, in the order of the bridge.
	// +optional
	// +listType=map
	// +listMapKey=name
	Environments []ReleaseEnvironment `json:"environments,omitempty"`
	// How far its images are in the registries of environments that have one of their own.
	// +optional
	// +listType=map
	// +listMapKey=environment
	Mirrors []ReleaseMirror `json:"mirrors,omitempty"`
	// Approvals and rejections, as the controllers recorded them when they saw the annotation.
	// +optional
	// +listType=atomic
	Approvals []ApprovalRecord `json:"approvals,omitempty"`
	// Signatures of the images that the registry had, where an Environment's spec.signatures asks for them.
	// +optional
	// +listType=map
	// +listMapKey=digest
	// +listMapKey=image
	// +listMapKey=policy
	Signatures []SignatureRecord `json:"signatures,omitempty"`
	// Bills of materials of the images that the registry had, where a gate's criterion sbom asks for them.
	// +optional
	// +listType=map
	// +listMapKey=digest
	// +listMapKey=image
	SBOMs []SBOMRecord `json:"sboms,omitempty"`
	// Proofs that are attached to the images in the registry, or wait for it. None unless Project.spec.attestations asks.
	// +optional
	// +listType=atomic
	Attestations []AttestationRecord `json:"attestations,omitempty"`
	// What GitLab was told. Absent unless Project.spec.gitlab asks, or did.
	// +optional
	GitLab *GitLabTold `json:"gitlab,omitempty"`
	// The admission policy and binding, by uid and generation, under which approvals were last read. Approvals that appear
	// while it changes are not believed.
	// +optional
	Guard string `json:"guard,omitempty"`
	// Ready, Reconciling, Stalled, Frozen, Tagged, ApprovalsGuarded; Attested where proofs are attached to the images; Mirrored
	// where an environment has a registry of its own; GitLabTold where GitLab is told; Scanned where Harbor's scans count.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AttestationRecord is one statement that is attached to every image of the release.
type AttestationRecord struct {
	// Gate whose verdict it states; "" for a PV.
	// +optional
	Gate string `json:"gate,omitempty"`
	// PV whose decision it states; "" for a gate.
	// +optional
	PV string `json:"pv,omitempty"`
	// Environment that the gate guards, or in which the client tested.
	Environment string `json:"environment"`
	// When the release was let into it.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
	// sha256 of the statement.
	Hash string `json:"hash"`
	// The statement as it was when the gate opened or the client decided; absent once it is attached to every image.
	// +optional
	Statement string `json:"statement,omitempty"`
}

// Baseline is what the last release on the same branch reported.
type Baseline struct {
	// Release.
	Release string `json:"release"`
	// Tests known; absent if it reported no counts.
	// +optional
	Tests *int32 `json:"tests,omitempty"`
	// Tests skipped; absent if it reported no counts.
	// +optional
	Skipped *int32 `json:"skipped,omitempty"`
	// Lines over which coverage was measured; absent if it did not report them.
	// +optional
	CoverageBase *int32 `json:"coverageBase,omitempty"`
}

// Returned says how a release came back.
type Returned struct {
	// Environment that it is back in; "development" when a new commit is needed.
	To string `json:"to"`
	// Gate at which it was stopped.
	// +optional
	Gate string `json:"gate,omitempty"`
	// Who stopped it: a user, the client's signatory, CI or a server.
	By string `json:"by"`
	// Why.
	Reason string `json:"reason"`
}

// KarmaLine is one figure of the sum.
type KarmaLine struct {
	// What it is for: tests, tests-fewer, tests-skipped, coverage, coverage-base, scan, crossing, rolled-back, pv-refused,
	// break-glass, or clamp (what brings the sum into 0–100).
	Name string `json:"name"`
	// Points; negative for losses.
	Points int32 `json:"points"`
	// Most points it can give; 0 for losses.
	Max int32 `json:"max"`
	// Why, in words.
	Message string `json:"message"`
}

// Bundle is exactly what a release consists of.
type Bundle struct {
	// Images of the project, pinned when the release was first complete; never resolved again.
	// +optional
	// +listType=map
	// +listMapKey=name
	Images []FrozenImage `json:"images,omitempty"`
	// Other images that compose files name (postgres, redis …), resolved once.
	// +optional
	// +listType=map
	// +listMapKey=reference
	Pins []PinnedReference `json:"pins,omitempty"`
	// One bundle per environment, since compose file and values differ.
	// +optional
	// +listType=map
	// +listMapKey=environment
	Environments []EnvironmentBundle `json:"environments,omitempty"`
}

// FrozenImage is an image of the project.
type FrozenImage struct {
	// Name, as in Project.spec.images.
	Name string `json:"name"`
	// Repository at the time.
	Repository string `json:"repository"`
	// Digest.
	Digest string `json:"digest"`
}

// PinnedReference is another image.
type PinnedReference struct {
	// As written in the compose file, after interpolation. Example: postgres:16.
	Reference string `json:"reference"`
	// Digest it had when the bundle was frozen.
	Digest string `json:"digest"`
}

// EnvironmentBundle is what an approval for an environment covers.
type EnvironmentBundle struct {
	// Environment; "" for the publication of a module.
	Environment string `json:"environment"`
	// Hash over all the rest, the images' digests included: what is approved, authorised and deployed.
	// +optional
	Hash string `json:"hash,omitempty"`
	// Hash of the compose file's text.
	// +optional
	ComposeHash string `json:"composeHash,omitempty"`
	// Hash of the values and of the contents of the secrets.
	// +optional
	ValuesHash string `json:"valuesHash,omitempty"`
	// What is wrong with compose file, values or secrets, so that there is no hash; or what a host's policy refuses. And how
	// to mend it.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// GateVerdict is what a gate says of this release.
type GateVerdict struct {
	// Gate.
	Name string `json:"name"`
	// Its place on the bridge.
	Number int32 `json:"number"`
	// Environment it guards; "" for the publication of a module.
	Environment string `json:"environment"`
	// Passed, Waiting or Refused.
	Verdict Verdict `json:"verdict"`
	// Why, in one line.
	// +optional
	Message string `json:"message,omitempty"`
	// What is missing and who can give it, one line for each criterion that does not hold.
	// +optional
	// +listType=atomic
	WaitingFor []string `json:"waitingFor,omitempty"`
	// Exact time at which a wait is over by itself.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// When it can open at the earliest, if everybody acts at once; absent when that depends on when somebody acts, or when
	// it opened already.
	// +optional
	Earliest *metav1.Time `json:"earliest,omitempty"`
	// How long after that somebody's act it can open at the earliest. Example: 168h.
	// +optional
	EarliestAfter *metav1.Duration `json:"earliestAfter,omitempty"`
	// Criterion by criterion.
	// +optional
	// +listType=map
	// +listMapKey=name
	Criteria []CriterionVerdict `json:"criteria,omitempty"`
}

// CriterionVerdict is what one criterion says.
type CriterionVerdict struct {
	// Criterion.
	Name string `json:"name"`
	// Passed, Waiting or Refused.
	Verdict Verdict `json:"verdict"`
	// One word, for programs.
	Reason string `json:"reason"`
	// Why, in words.
	Message string `json:"message"`
	// What would satisfy it, and who can do that; empty when it holds.
	// +optional
	Needs string `json:"needs,omitempty"`
}

// ReleaseEnvironment is the release in one environment.
type ReleaseEnvironment struct {
	// Environment.
	Name string `json:"name"`
	// Authorized, Deploying, Healthy, Unhealthy, Failed, RolledBack, Superseded or Returned.
	Phase string `json:"phase"`
	// Hash of the bundle that was authorised.
	BundleHash string `json:"bundleHash"`
	// When the gate opened.
	AuthorizedAt metav1.MicroTime `json:"authorizedAt"`
	// Since when it has been healthy without a break; kept when it is superseded.
	// +optional
	HealthySince *metav1.Time `json:"healthySince,omitempty"`
	// When another release took its place.
	// +optional
	HealthyUntil *metav1.Time `json:"healthyUntil,omitempty"`
	// Tags that the images received in the registry.
	// +optional
	// +listType=atomic
	Tags []string `json:"tags,omitempty"`
	// Details, in words: what fails, on which host.
	// +optional
	Message string `json:"message,omitempty"`
	// Value of the retry annotation that this try answers.
	// +optional
	Retry string `json:"retry,omitempty"`
	// Value of the Environment's rollback annotation by which the release was let in again: its gates had passed before.
	// +optional
	Rollback string `json:"rollback,omitempty"`
}

// ApprovalRecord is one approval or rejection.
type ApprovalRecord struct {
	// Gate.
	Gate string `json:"gate"`
	// User, as admission verified it.
	User string `json:"user"`
	// Approved, Rejected, BrokeGlass or Regularised.
	// +kubebuilder:validation:Enum=Approved;Rejected;BrokeGlass;Regularised
	Decision string `json:"decision"`
	// When the controllers first saw it.
	Time metav1.Time `json:"time"`
	// Hash of the bundle that it covers.
	// +optional
	BundleHash string `json:"bundleHash,omitempty"`
	// Reason, for a rejection, break-glass or regularisation.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Set when it no longer counts: why, and what to do.
	// +optional
	Stale string `json:"stale,omitempty"`
}

// Decisions of people.
const (
	DecisionApproved   = "Approved"
	DecisionRejected   = "Rejected"
	DecisionBrokeGlass = "BrokeGlass"
	// DecisionRegularised settles the debt of a break-glass.
	DecisionRegularised = "Regularised"
)

// ReleaseList is a list of Releases.
//
// +kubebuilder:object:root=true
type ReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Release `json:"items"`
}

// FrozenDigests are the digests of the release's images; nil while they are not all pinned, or there are none.
func (r *Release) FrozenDigests() []string {
	frozen := func(c metav1.Condition) bool { return c.Type == ConditionFrozen && c.Status == metav1.ConditionTrue }
	if r.Status.Bundle == nil || !slices.ContainsFunc(r.Status.Conditions, frozen) {
		return nil
	}
	var digests []string
	for _, img := range r.Status.Bundle.Images {
		digests = append(digests, img.Digest)
	}
	return digests
}
