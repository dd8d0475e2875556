// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types. Every kind carries Ready; kinds that move also carry Reconciling (still on its way, nothing to do) and
// Stalled (somebody must act), in the sense of kstatus (sigs.k8s.io/cli-utils).
const (
	// ConditionReady is True when the object has reached what it is for:
	// a Project is usable; an Environment's declaration is usable; a QualityGate's criteria are valid; a CIResult is
	// counted; a Release is healthy in the last environment of the bridge; a PV is signed and accepted; a Host's agent
	// answers; a Rollout is healthy.
	ConditionReady = "Ready"
	// ConditionReconciling is True while progress is made without anybody's help.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing will move until somebody acts; the message says who and how.
	ConditionStalled = "Stalled"

	// ConditionFrozen is True on a Release whose images are all pinned to digests.
	ConditionFrozen = "Frozen"
	// ConditionTagged is True on a Release once the registry has its images under the tags of every environment that it was
	// let into; False with what keeps it from that. Absent before the first. Deployments do not wait for it.
	ConditionTagged = "Tagged"
	// ConditionApprovalsGuarded is False on a Release when the admission policy that protects approvals is missing:
	// then no approval is honoured.
	ConditionApprovalsGuarded = "ApprovalsGuarded"
	// ConditionDebt is True on a Release that went through a gate by break-glass until somebody else regularised it.
	ConditionDebt = "Debt"
	// ConditionAttested is True on a Release when every proof is attached to its images, False with a reason while one is not.
	// It holds nothing up. Absent where Project.spec.attestations asks for none.
	ConditionAttested = "Attested"
	// ConditionMirrored is True on a Release once the registry of every environment that it was let into, and that has one of
	// its own (Environment.spec.registry), serves its images as their digests say; False with how far it is, or what keeps it
	// from that. No host gets the release before. Absent where no environment has one.
	ConditionMirrored = "Mirrored"
	// ConditionHeld is True on an Environment where nothing opens by itself since a release failed there.
	ConditionHeld = "Held"
	// ConditionSuspended is True on an Environment, and on a Rollout, of which nothing is touched for the time being; the
	// message says by whose word.
	ConditionSuspended = "Suspended"
	// ConditionDecommissioned is True on an Environment that was taken down on every host, False with a reason while it is.
	// Absent where nobody asked for it.
	ConditionDecommissioned = "Decommissioned"
	// ConditionAdmitted is False on an Environment whose compose file the policy of one of its hosts refuses, or where a
	// host's policy cannot be used.
	ConditionAdmitted = "Admitted"
	// ConditionPullCredentials is False on an Environment of which a host has no valid credential to pull with, with who refuses
	// to issue one. Absent where Project.spec.pullCredentials asks for none.
	ConditionPullCredentials = "PullCredentials"
	// ConditionEnrolled is True on a Host whose agent holds a certificate.
	ConditionEnrolled = "Enrolled"
	// ConditionInStep is False on a Host whose agent knows of newer orders or keys than the control plane.
	ConditionInStep = "InStep"
	// ConditionDrifted is True on a Rollout that runs while the containers differ from it in a way that is only reported.
	ConditionDrifted = "Drifted"
)

// Reasons of conditions.
const (
	ReasonReady       = "Ready"
	ReasonProgressing = "Progressing"
	ReasonInvalid     = "Invalid"
	ReasonMissing     = "Missing"
	ReasonTerminating = "Terminating"
	// ReasonNamespaceTaken: a namespace of the wanted name exists and is not the object's to use.
	ReasonNamespaceTaken = "NamespaceTaken"

	// Releases
	ReasonCrossed         = "Crossed"         // healthy in the last environment
	ReasonCrossing        = "Crossing"        // on its way, nothing to do
	ReasonWaiting         = "Waiting"         // waits for somebody or something that a gate names
	ReasonRefused         = "Refused"         // a gate refused it: a new commit is needed
	ReasonRejected        = "Rejected"        // a person rejected it
	ReasonRolledBack      = "RolledBack"      // failed on a server, the previous version serves
	ReasonSuperseded      = "Superseded"      // a newer release took its place
	ReasonResolved        = "Resolved"        // all images have digests
	ReasonImageNotFound   = "ImageNotFound"   // a tag or digest is not in the registry
	ReasonRegistryError   = "RegistryError"   // the registry did not answer as it should
	ReasonTagged          = "Tagged"          // every tag is in the registry
	ReasonMirrored        = "Mirrored"        // the environment's registry serves every image
	ReasonMirroring       = "Mirroring"       // images are being copied there
	ReasonTagTaken        = "TagTaken"        // a version's tag names another digest: it is never overwritten
	ReasonTagImmutable    = "TagImmutable"    // the registry lets nobody move the tag
	ReasonRegistryDenied  = "RegistryDenied"  // the registry refuses the project's account, or the tag is protected
	ReasonRegistryBusy    = "RegistryBusy"    // the registry asks to come back later
	ReasonRegistryFull    = "RegistryFull"    // the registry has no room
	ReasonComposeInvalid  = "ComposeInvalid"  // a compose file cannot be used
	ReasonAttached        = "Attached"        // the proofs are at the images
	ReasonPublished       = "Published"       // a module's release went through all of its gates
	ReasonNoRegistry      = "NoRegistry"      // a module without spec.packageRegistry, or its Secret cannot be used
	ReasonNoVersion       = "NoVersion"       // a module's release has neither version nor artifacts
	ReasonArtifactMissing = "ArtifactMissing" // an artifact, its POM or its checksums are not in the package registry
	ReasonArtifactInvalid = "ArtifactInvalid" // an artifact is not what its coordinates or checksums say
	ReasonArtifactChanged = "ArtifactChanged" // an artifact is another one than was judged
	ReasonPolicyPresent   = "PolicyPresent"   // approvals are protected by admission
	ReasonPolicyMissing   = "PolicyMissing"   // admission policy or binding absent or altered
	ReasonGlassBroken     = "GlassBroken"     // a gate was opened in an emergency
	ReasonNoDebt          = "NoDebt"          // none, or regularised
	ReasonNotHeld         = "NotHeld"         // gates may open by themselves
	ReasonProjectNotReady = "ProjectNotReady" // the Project is missing or not usable

	// CIResults
	ReasonCounted  = "Counted"  // part of its Release's evidence
	ReasonReplaced = "Replaced" // a newer run of the same type counts instead
	ReasonAwaiting = "Awaiting" // no Release for its commit yet

	// PVs
	ReasonAwaitingSignature = "AwaitingSignature"
	ReasonAccepted          = "Accepted"
	ReasonAcceptedReserved  = "AcceptedWithReservations"
	ReasonPVRefused         = "RefusedByClient"
	ReasonBadSignature      = "BadSignature"
	ReasonAwaitingScan      = "AwaitingScan" // the paper is announced, its scan has not arrived
	ReasonBadPaper          = "BadPaper"     // the paper does not count

	// Hosts
	ReasonAwaitingAgent  = "AwaitingAgent"  // never joined
	ReasonHeartbeat      = "Heartbeat"      // heard of recently
	ReasonHeartbeatLost  = "HeartbeatLost"  // not heard of for three intervals
	ReasonEnrolled       = "Enrolled"       // certificate issued
	ReasonRevoked        = "Revoked"        // the agent's access was withdrawn
	ReasonInStep         = "InStep"         // the agent knows nothing newer than the control plane
	ReasonRestored       = "Restored"       // the agent knows newer orders or keys: was an older backup restored?
	ReasonNoMatchingHost = "NoMatchingHost" // Environment: no Host carries the labels and may run the project
	ReasonExternal       = "External"       // Environment: deployed by a pipeline, no agent
	ReasonAdmitted       = "Admitted"       // Environment: its hosts' policies allow its compose file

	// Environments
	ReasonSuspended      = "Suspended"      // nothing is touched until it is unsuspended
	ReasonNotSuspended   = "NotSuspended"   // it may be touched
	ReasonRemoving       = "Removing"       // orders to take it down are being carried out
	ReasonDecommissioned = "Decommissioned" // taken down everywhere

	// Pull credentials of Environments
	ReasonIssued              = "Issued"              // every host has one
	ReasonIssuing             = "Issuing"             // the first ones are on their way
	ReasonRenewalFails        = "RenewalFails"        // every host still has one, but the next cannot be issued
	ReasonFallback            = "Fallback"            // hosts pull with the project's own Secret, as spec.pullCredentials.fallback allows
	ReasonProviderUnreachable = "ProviderUnreachable" // who issues them does not answer as it should
	ReasonProviderDenied      = "ProviderDenied"      // who issues them refuses the account of the project

	// Rollouts, written by agents
	ReasonPolicyRefused        = "PolicyRefused" // the server's owner does not allow what the release asks for
	ReasonPending              = "Pending"
	ReasonDrifted              = "Drifted"    // somebody changed or added containers
	ReasonAsDeployed           = "AsDeployed" // nobody did
	ReasonHealthy              = "Healthy"
	ReasonUnhealthy            = "Unhealthy"
	ReasonAuthorizationInvalid = "AuthorizationInvalid"

	// Rollouts that an agent refuses, each for one kind of fault or attack.
	ReasonAuthorizationMalformed = "AuthorizationMalformed" // not an envelope or statement; members twice
	ReasonUnknownKey             = "UnknownKey"             // signed by a key that was never trusted here
	ReasonRetiredKey             = "RetiredKey"             // signed by a key that was rotated out
	ReasonRevokedKey             = "RevokedKey"             // signed by a key that was revoked
	ReasonOtherHost              = "OtherHost"              // authorised for another host
	ReasonOlderSequence          = "OlderSequence"          // a newer one was carried out, and the control plane does not know it
	ReasonAuthorizationExpired   = "AuthorizationExpired"   // not begun in time
	ReasonImagesAltered          = "ImagesAltered"          // other images than were authorised
	ReasonComposeAltered         = "ComposeAltered"         // the compose file does not have its hash
	ReasonRolloutAltered         = "RolloutAltered"         // anything else differs from what was authorised
	ReasonAcceptanceMissing      = "AcceptanceMissing"      // the host's owner demands the client's signature, and there is none
	ReasonAcceptanceUntrusted    = "AcceptanceUntrusted"    // signed by another key than the client's
	ReasonAcceptanceRefused      = "AcceptanceRefused"      // the client refused
	ReasonAcceptanceOther        = "AcceptanceOther"        // the client accepted something else

	ReasonPullFailed     = "PullFailed"
	ReasonStartFailed    = "StartFailed"
	ReasonRollbackFailed = "RollbackFailed"
	ReasonRemoved        = "Removed"
	ReasonHeld           = "Held" // failed past the point of no return: a person decides
	// Preflight: nothing was touched.
	ReasonDiskFull          = "DiskFull"          // too little room for the images, or for the agent's own state
	ReasonWrongArchitecture = "WrongArchitecture" // the image does not run on this server's processor or system
	ReasonPortTaken         = "PortTaken"         // somebody else on the server listens on a port that the release publishes
	// Pull: nothing was touched.
	ReasonPullUnauthorized = "PullUnauthorized" // 401: the registry wants other credentials
	ReasonPullForbidden    = "PullForbidden"    // 403: the credentials do not open this repository
	ReasonPullRateLimited  = "PullRateLimited"  // 429, in spite of waiting as long as the registry asked for
	ReasonDigestMismatch   = "DigestMismatch"   // the registry sent something else than the digest names
	ReasonPullTimeout      = "PullTimeout"      // the registry did not answer in time
	ReasonPullStalled      = "PullStalled"      // the transfer stood still
	// Pre-deploy jobs.
	ReasonJobFailed  = "JobFailed"  // a pre-deploy job ended with another exit code than 0
	ReasonJobTimeout = "JobTimeout" // a pre-deploy job took longer than it may
)
