// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strconv"

// Labels and annotations that users and programs may rely on.
const (
	// LabelProject names the Project an object belongs to; on its namespace, on objects delivered to hosts.
	LabelProject = Group + "/project"
	// LabelEnvironment names the Environment; on Rollouts and delivered Secrets, and by convention on Hosts.
	LabelEnvironment = Group + "/environment"
	// LabelRelease names the Release; on Rollouts and PVs.
	LabelRelease = Group + "/release"
	// LabelHost names the Host; on its namespace and its enrolment token.
	LabelHost = Group + "/host"
	// LabelCommit is the first seven digits of the commit (ShortSHA); on CIResults.
	LabelCommit = Group + "/commit"
	// LabelSequence is the sequence number of the Rollout that a Rollout or delivered Secret belongs to.
	LabelSequence = Group + "/sequence"
	// LabelTemplate names the Project template that an Environment or QualityGate was made from.
	LabelTemplate = Group + "/template"
	// LabelToken marks the Secrets that hold the hash of a project's API token.
	LabelToken = Group + "/api-token"

	// ApprovalPrefix + gate = "<user>[,<user>]" approves a Release at a gate.
	ApprovalPrefix = "approval." + Group + "/"
	// RejectionPrefix + gate = "<user>: <reason>" rejects a Release at a gate.
	RejectionPrefix = "rejection." + Group + "/"
	// BreakGlassPrefix + gate = "<user>: <reason>" opens a gate in an emergency, against karma.
	BreakGlassPrefix = "breakglass." + Group + "/"

	// RegularisationPrefix + gate = "<user>: <what was done>" settles the debt of a break-glass.
	RegularisationPrefix = "regularisation." + Group + "/"
	// LiftedPrefix + number (from 1) on a PV = "<user>: <how>" says that a reservation is settled.
	LiftedPrefix = "lifted." + Group + "/"

	// AnnotationResume on an Environment lifts its hold: "<id of the hold>".
	AnnotationResume = Group + "/resume"
	// AnnotationRollback on an Environment goes back to an earlier release that was healthy there: "<uid of that release>@<time
	// at which the release that is left was let in>: <who>: <why>". It is good for leaving that one release, once.
	AnnotationRollback = Group + "/rollback"
	// AnnotationSuspend on a Rollout tells the agent to touch nothing of the environment. Not signed: it can only stop.
	AnnotationSuspend = Group + "/suspend"
	// RemovePrefix + host on an Environment takes it down on a host that it does not match any more: "containers", or "volumes"
	// for named volumes too.
	RemovePrefix = "remove." + Group + "/"
	// AnnotationSendLink on a PV sends the signatories new links; the old ones stop working. Any new value.
	AnnotationSendLink = Group + "/send-link"

	// AnnotationCreatedBy is the user that created a Release, as the admission policy verified it.
	AnnotationCreatedBy = Group + "/created-by"
	// AnnotationRetry on a Release asks for one more try in an environment where it failed: "<environment>@<anything new>".
	AnnotationRetry = Group + "/retry"
	// AnnotationAuthorizedAt on a Rollout is when the gate opened for it (RFC 3339, microseconds).
	AnnotationAuthorizedAt = Group + "/authorized-at"
	// AnnotationAgentInfo is what an agent says of itself, as JSON (AgentInfo), on its Lease.
	AnnotationAgentInfo = Group + "/agent-info"

	// SystemNamespace holds what belongs to the installation: keys, leader election.
	SystemNamespace = "sirrat-system"
	// InfoConfigMap, in SystemNamespace, tells everybody who has an account about the installation.
	InfoConfigMap = "sirrat-info"
	// InfoURL is its key for the address of the HTTP API, without /api. Example: https://sirrat.dynors.com.
	InfoURL = "url"
	// HostNamespacePrefix + host name is the namespace of a Host.
	HostNamespacePrefix = "host-"
	// AgentLease is the name of the Lease that an agent renews in its namespace.
	AgentLease = "agent"
	// AuthorizationKeys is the ConfigMap, in each host's namespace, of public keys that may sign authorizations:
	// key id → PEM (PKIX).
	AuthorizationKeys = "authorization-keys"

	// AgentUserPrefix + host + ":" + host uid is an agent's user name; AgentGroup its only organisation.
	AgentUserPrefix = "sirrat:host:"
	// AgentGroup is the group of every agent.
	AgentGroup = "sirrat:hosts"
	// EnrolGroupPrefix + host + ":" + host uid is the group of a bootstrap token that may enrol that one host.
	EnrolGroupPrefix = "system:bootstrappers:sirrat:"
)

// HostNamespace is the namespace owned by the Host of that name.
func HostNamespace(host string) string { return HostNamespacePrefix + host }

// AgentUser is the user name of the agent of one Host object: bound to the uid, so that a recreated Host of the same
// name does not inherit the old agent's rights.
func AgentUser(host, uid string) string { return AgentUserPrefix + host + ":" + uid }

// RolloutName is the name of a Rollout in a host's namespace: one for each authorisation.
func RolloutName(project, environment string, sequence int64) string {
	return project + "." + environment + "." + strconv.FormatInt(sequence, 10)
}

// DeliveredSecret is the name, in a host's namespace, of the copy of a Secret that was made for one Rollout.
func DeliveredSecret(rollout, secret string) string { return rollout + "." + secret }

// ShortSHA is the first seven digits of a commit, as GitLab's CI_COMMIT_SHORT_SHA abbreviates and image tags use.
func ShortSHA(commit string) string {
	if len(commit) <= 7 {
		return commit
	}
	return commit[:7]
}
